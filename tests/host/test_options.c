/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's command line: good ones, and every kind of bad one with the words it gets.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "options.h"

#define MAX_ARGS 40

#define X16 "xxxxxxxxxxxxxxxx"
#define X64 X16 X16 X16 X16

/* Splits at '|', so that an argument may be empty. */
static int parse(struct host_options *options, const char *text)
{
	static char copy[2048];
	char *argv[MAX_ARGS + 2] = {(char[]){HOST_PROGRAM}}, *rest = copy, *argument;
	int argc = 1;

	cr_assert_lt(strlen(text), sizeof(copy));
	strcpy(copy, text);
	while (*text != '\0' && (argument = strsep(&rest, "|")) != NULL) {
		cr_assert_leq(argc, MAX_ARGS);
		argv[argc++] = argument;
	}
	return host_options_parse(options, argc, argv);
}

Test(options, all_of_them)
{
	struct host_options o;

	cr_assert_eq(parse(&o, "--listen|firecracker:/run/vm|--output|/tmp/o|--socket-owner|1000:"
			       "2000|--exit-on-close|--verbose"),
		     0);
	cr_assert_eq(o.action, HOST_RUN);
	cr_assert_str_eq(o.listen.path, "/run/vm_9001");
	cr_assert_str_eq(o.output, "/tmp/o");
	cr_assert_str_eq(o.cell.owner, "1000:2000");
	cr_assert(o.exit_on_close);
	cr_assert(o.verbose);
}

Test(options, defaults)
{
	struct host_options o;

	cr_assert_eq(parse(&o, "--listen=unix:/x"), 0);
	cr_assert_null(o.output);
	cr_assert_null(o.cell.owner);
	cr_assert_not(o.exit_on_close);
	cr_assert_not(o.verbose);
}

Test(options, of_cells_and_outputs)
{
	struct host_options o;

	cr_assert_eq(parse(&o, "--listen|unix:/x|--cell-id|" X64 "|--run-id|A-z_0|--spec-signature-"
			       "hash|sha256:00|--adg|a|--declared|d|--authorized|e|--policy|report|"
			       "--silence-window|86400|--format|ocsf|--state|s|--ctl|unix:/c|"
			       "--metrics|127.0.0.1:9|--sink|nats://h:4222|--stream|S|--spool|p|"
			       "--spool-bytes|4194304|--duplicate-window|60"),
		     0, "%s", o.message);
	cr_assert_str_eq(o.cell.id, X64);
	cr_assert_str_eq(o.cell.run, "A-z_0");
	cr_assert_str_eq(o.cell.hash, "sha256:00");
	cr_assert_str_eq(o.cell.policy, "report");
	cr_assert_eq(o.cell.silence_s, 86400);
	cr_assert_eq(o.format, HOST_FORMAT_OCSF);
	cr_assert_str_eq(o.ctl.path, "/c");
	cr_assert_eq(o.metrics.kind, HOST_METRICS_LOOPBACK);
	cr_assert_eq(o.metrics.port, 9);
	cr_assert_str_eq(o.sink.url, "nats://h:4222");
	cr_assert_eq(o.sink.spool_bytes, 4194304);
	cr_assert_eq(o.sink.duplicate_window_s, 60);
	cr_assert_eq(parse(&o, "--cells|cells.json"), 0);
	cr_assert_str_eq(o.cells, "cells.json");
}

Test(options, commands)
{
	struct host_options o;

	cr_assert_eq(parse(&o, "ctl|--ctl|unix:/c|remove|x"), 0);
	cr_assert_eq(o.action, HOST_CTL);
	cr_assert_eq(o.command_count, 2);
	cr_assert_str_eq(o.command[0], "remove");
	cr_assert_str_eq(o.command[1], "x");
	cr_assert_eq(parse(&o, "ctl|list|--ctl|unix:/c"), 0);
	cr_assert_str_eq(o.command[0], "list");
	cr_assert_eq(parse(&o, "top|--ctl|unix:/c"), 0);
	cr_assert_eq(o.action, HOST_TOP);
	cr_assert_eq(o.top.sort, HOST_TOP_CELL);
	cr_assert_not(o.top.once);
	cr_assert_eq(parse(&o, "top|--once|--sort|lost|--ctl|unix:/c"), 0);
	cr_assert_eq(o.top.sort, HOST_TOP_LOST);
	cr_assert(o.top.once);
	cr_assert_eq(parse(&o, "ctl|--help"), 0);
	cr_assert_eq(o.action, HOST_SHOW_HELP);
}

Test(options, help_and_version_come_before_what_is_missing)
{
	struct host_options o;

	cr_assert_eq(parse(&o, "--help"), 0);
	cr_assert_eq(o.action, HOST_SHOW_HELP);
	cr_assert_eq(parse(&o, "--version|stray"), 0);
	cr_assert_eq(o.action, HOST_SHOW_VERSION);
	cr_assert_eq(parse(&o, "--listen|unix:/x|--help|--nonsense"), 0);
	cr_assert_eq(o.action, HOST_SHOW_HELP);
}

Test(options, help_names_every_option)
{
	static const char *const names[] = {"--listen",
					    "--output",
					    "--socket-owner",
					    "--exit-on-close",
					    "--verbose",
					    "--help",
					    "--version",
					    "unix:",
					    "firecracker:",
					    "vsock:",
					    "--cell-id",
					    "--run-id",
					    "--spec-signature-hash",
					    "--adg",
					    "--declared",
					    "--authorized",
					    "--policy",
					    "--silence-window",
					    "--cells",
					    "--ctl",
					    "--format",
					    "--state",
					    "--sink",
					    "--stream",
					    "--spool",
					    "--spool-bytes",
					    "--duplicate-window",
					    "--metrics",
					    "--once",
					    "--sort"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		cr_assert_not_null(strstr(host_options_help, names[i]), "%s", names[i]);
}

Test(options, bad_ones)
{
	static const struct {
		const char *text, *message;
	} table[] = {
		{"", "cannot start: --listen is missing (see --help)"},
		{"--verbose", "cannot start: --listen is missing (see --help)"},
		{"--listen", "cannot read option '--listen': it needs a value"},
		{"--listen|", "cannot read --listen '': an address is unix:PATH, firecracker:BASE "
			      "or vsock:PORT"},
		{"--listen|unix:", "cannot read --listen 'unix:': path is empty"},
		{"--listen|vsock:x",
		 "cannot read --listen 'vsock:x': port is not a number from 0 to 4294967294"},
		{"--listen|unix:/a|--listen|unix:/b",
		 "cannot read --listen 'unix:/b': one address is enough"},
		{"--listen|unix:/a|stray",
		 "cannot read argument 'stray': only options are expected"},
		{"--listen|unix:/a|--output|", "cannot read --output '': the name is empty"},
		{"--nonsense", "cannot read option '--nonsense': no such option, or more than one"},
		{"--ver", "cannot read option '--ver': no such option, or more than one"},
		{"-x", "cannot read option '-x': no such option"},
		{"-xyz", "cannot read option '-x': no such option"},
		{"--verbose=1", "cannot read option '--verbose=1': it takes no value"},
		{"--listen|vsock:9001|--socket-owner|1:1",
		 "cannot read --socket-owner 'UID:GID': a vsock has no file to own"},
		{"top", "cannot start: top needs --ctl unix:PATH"},
		{"top|--ctl|unix:/c|x", "cannot read argument 'x': only options are expected"},
		{"top|--sort|x", "cannot read --sort 'x': no such column (see --help)"},
		{"--listen|unix:/a|--once", "cannot start: --once is for top"},
		{"--metrics|", "cannot read --metrics '': it is unix:PATH or 127.0.0.1:PORT; other "
			       "machines are not let in"},
		{"--metrics|0.0.0.0:9100", "cannot read --metrics '0.0.0.0:9100': it is unix:PATH "
					   "or 127.0.0.1:PORT; other machines are not let in"},
		{"--metrics|127.0.0.1:0",
		 "cannot read --metrics '127.0.0.1:0': the port is not a number from 1 to 65535"},
		{"--metrics|127.0.0.1:65536",
		 "cannot read --metrics '127.0.0.1:65536': the port is "
		 "not a number from 1 to 65535"},
		{"--metrics|127.0.0.1:9x",
		 "cannot read --metrics '127.0.0.1:9x': the port is not a number from 1 to 65535"},
		{"--metrics|unix:", "cannot read --metrics 'unix:': path is empty"},
		{"--cell-id|", "cannot read --cell-id '': it is empty"},
		{"--cell-id|a b",
		 "cannot read --cell-id 'a b': only A-Z, a-z, 0-9, '_' and '-' may stand in it"},
		{"--run-id|a/b",
		 "cannot read --run-id 'a/b': only A-Z, a-z, 0-9, '_' and '-' may stand in it"},
		{"--run-id|" X64 "x",
		 "cannot read --run-id '" X64 "x': it is longer than 64 characters"},
		{"--spec-signature-hash|a\"b",
		 "cannot read --spec-signature-hash 'a\"b': only printable ASCII but '\"' and '\\' "
		 "may stand in it"},
		{"--spec-signature-hash|\xc3\xa4",
		 "cannot read --spec-signature-hash '\xc3\xa4': only printable ASCII but '\"' and "
		 "'\\' may stand in it"},
		{"--format|json", "cannot read --format 'json': neither raw, cloudevents nor ocsf"},
		{"--silence-window|0",
		 "cannot read --silence-window '0': not a number from 1 to 86400"},
		{"--silence-window|1s",
		 "cannot read --silence-window '1s': not a number from 1 to 86400"},
		{"--silence-window|99999999999999999999999",
		 "cannot read --silence-window '99999999999999999999999': not a number from 1 to "
		 "86400"},
		{"--policy|maybe", "cannot read --policy 'maybe': neither enforce nor report"},
		{"--ctl|/x", "cannot read --ctl '/x': an address is unix:PATH"},
		{"--sink|localhost:4222",
		 "cannot read --sink 'localhost:4222': an address is nats://HOST:PORT"},
		{"--stream|a.b", "cannot read --stream 'a.b': only A-Z, a-z, 0-9, '_' and '-' may "
				 "stand in it"},
		{"--listen|unix:/a|--declared|x",
		 "cannot start: --declared and --authorized go together"},
		{"--cells|x|--cell-id|y",
		 "cannot start: --cells has all cells: no option of one cell goes with it"},
		{"--cells|x|--listen|unix:/a",
		 "cannot start: --cells has all cells: no option of one cell goes with it"},
		{"--listen|unix:/a|--spool|x", "cannot start: --stream and --spool are for --sink"},
		{"--listen|unix:/a|--sink|nats://h:1|--stream|s|--spool|x",
		 "cannot start: --sink needs --stream, --spool and --state"},
		{"--listen|unix:/a|--sink|nats://h:1|--output|o",
		 "cannot start: --output and --sink: events go to one of them"},
		{"ctl|list", "cannot start: ctl needs --ctl unix:PATH"},
		{"ctl|--ctl|unix:/c", "cannot read command '': it is list, add JSON or remove ID"},
		{"ctl|--ctl|unix:/c|add", "cannot read command 'add': it is list, add JSON or "
					  "remove ID"},
		{"ctl|--ctl|unix:/c|list|x",
		 "cannot read command 'list': it is list, add JSON or remove ID"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct host_options o;

		cr_assert_eq(parse(&o, table[i].text), -EINVAL, "%s", table[i].text);
		cr_assert_str_eq(o.message, table[i].message, "%s", table[i].text);
	}
}

Test(options, owners)
{
	static const char *const bad[] = {"",
					  ":",
					  "1",
					  "1:",
					  ":1",
					  "1:2:3",
					  "-1:1",
					  "1:-1",
					  " 1:1",
					  "1:1 ",
					  "+1:1",
					  "root:root",
					  "0x1:1",
					  "4294967295:1",
					  "1:4294967295",
					  "99999999999:1",
					  "1:99999999999999999999999"};

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct host_options o;
		char text[128];

		snprintf(text, sizeof(text), "--listen|unix:/x|--socket-owner|%s", bad[i]);
		cr_assert_eq(parse(&o, text), -EINVAL, "%s", bad[i]);
		cr_assert_not_null(strstr(o.message, "UID:GID, two numbers"), "%s", o.message);
	}
	struct host_options o;

	cr_assert_eq(parse(&o, "--listen|unix:/x|--socket-owner|0:4294967294"), 0);
	struct cellos_socket_owner owner;

	cr_assert(host_owner_parse(o.cell.owner, &owner));
	cr_assert_eq(owner.uid, 0);
	cr_assert_eq(owner.gid, 4294967294u);
}

Test(options, long_nonsense_is_cut_and_the_reason_kept)
{
	struct host_options o;
	char text[1500] = "--listen|vsock:";

	memset(text + strlen(text), '9', 1000);
	cr_assert_eq(parse(&o, text), -EINVAL);
	cr_assert_lt(strlen(o.message), sizeof(o.message));
	cr_assert_not_null(strstr(o.message, "port is not a number"));
}
