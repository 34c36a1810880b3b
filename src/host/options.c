/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's command line; the text of --help stands beside the table, so that they agree.
 * One thread: getopt_long keeps its place in globals.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OPT_LISTEN = 256, OPT_OUTPUT, OPT_OWNER, OPT_EXIT, OPT_VERBOSE, OPT_HELP, OPT_VERSION };

static const struct option table[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"socket-owner", required_argument, NULL, OPT_OWNER},
	{"exit-on-close", no_argument, NULL, OPT_EXIT},
	{"verbose", no_argument, NULL, OPT_VERBOSE},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

const char host_options_help[] =
	"usage: " HOST_PROGRAM " --listen ADDRESS [options]\n"
	"\n"
	"Receives the telemetry of one guest and writes one JSON object per line.\n"
	"\n"
	"  --listen unix:PATH         listen on a Unix socket\n"
	"  --listen firecracker:BASE  the same on BASE_9001, where Firecracker hands connections "
	"over\n"
	"  --listen vsock:PORT        listen on AF_VSOCK, for any guest\n"
	"  --output FILE              append to FILE instead of writing to standard output\n"
	"  --socket-owner UID:GID     give the socket file away, to a jailed VMM\n"
	"  --exit-on-close            end when the first connection has ended\n"
	"  --verbose                  say on standard error who comes and goes\n"
	"  --help, --version\n";

static int fail(struct host_options *options, const char *option, const char *value,
		const char *why)
{
	/* What the user typed may be longer than the message: cut it, keep the reason. */
	snprintf(options->message, sizeof(options->message), "cannot read %s '%.*s': %s", option,
		 200, value, why);
	return -EINVAL;
}

/* "UID:GID" in decimal. 2^32 - 1 is "leave as it is" to chown(2), hence no owner. */
static bool parse_owner(const char *text, struct cellos_socket_owner *owner)
{
	const char *digits = "0123456789";
	size_t left = strspn(text, digits), right;
	unsigned long long uid, gid;

	if (left == 0 || left > 10 || text[left] != ':')
		return false;
	right = strspn(text + left + 1, digits);
	if (right == 0 || right > 10 || text[left + 1 + right] != '\0')
		return false;
	uid = strtoull(text, NULL, 10);
	gid = strtoull(text + left + 1, NULL, 10);
	if (uid >= UINT32_MAX || gid >= UINT32_MAX)
		return false;
	owner->set = true;
	owner->uid = (uid_t)uid;
	owner->gid = (gid_t)gid;
	return true;
}

static int take(struct host_options *options, int option)
{
	const char *why;

	switch (option) {
	case OPT_LISTEN:
		if (options->listen.kind != 0)
			return fail(options, "--listen", optarg, "one address is enough");
		if (cellos_listen_address_parse(optarg, &options->listen, &why) < 0)
			return fail(options, "--listen", optarg, why);
		return 0;
	case OPT_OUTPUT:
		if (optarg[0] == '\0')
			return fail(options, "--output", optarg, "the name is empty");
		options->output = optarg;
		return 0;
	case OPT_OWNER:
		if (!parse_owner(optarg, &options->owner))
			return fail(options, "--socket-owner", optarg,
				    "not UID:GID, two numbers from 0 to 4294967294");
		return 0;
	case OPT_EXIT:
		options->exit_on_close = true;
		return 0;
	case OPT_VERBOSE:
		options->verbose = true;
		return 0;
	case OPT_HELP:
		options->action = HOST_SHOW_HELP;
		return 0;
	default:
		options->action = HOST_SHOW_VERSION;
		return 0;
	}
}

int host_options_parse(struct host_options *options, int argc, char **argv)
{
	int option, status = 0;

	memset(options, 0, sizeof(*options));
	optind = 0; /* glibc and musl: begin afresh, for a second call in one process */
	while (status == 0 && options->action == HOST_RUN &&
	       (option = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		const char letter[] = {'-', (char)optopt, '\0'};
		/* optopt: the letter of a short option, 0 for an unknown long one, else its value
		 */
		bool is_short = optopt > 0 && optopt < OPT_LISTEN;

		if (option == ':')
			status = fail(options, "option", argv[optind - 1], "it needs a value");
		else if (option == '?' && is_short)
			status = fail(options, "option", letter, "no such option");
		else if (option == '?')
			status = fail(options, "option", argv[optind - 1],
				      optopt != 0 ? "it takes no value"
						  : "no such option, or more than one");
		else
			status = take(options, option);
	}
	if (status < 0 || options->action != HOST_RUN)
		return status;
	if (optind < argc)
		return fail(options, "argument", argv[optind], "only options are expected");
	if (options->listen.kind == 0) {
		snprintf(options->message, sizeof(options->message),
			 "cannot start: --listen is missing (see --help)");
		return -EINVAL;
	}
	if (options->owner.set && options->listen.kind != CELLOS_ADDRESS_UNIX)
		return fail(options, "--socket-owner", "UID:GID", "a vsock has no file to own");
	return 0;
}
