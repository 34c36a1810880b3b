/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The command line: defaults, every range at both of its ends, and what is refused with which
 * words. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

static struct agent_options options;
static char message[AGENT_MESSAGE_BYTES];

#define PARSE(...) parse((const char *[]){"cellos-telemetry", __VA_ARGS__, NULL})

static int parse(const char *const *words)
{
	int count = 0;
	char *argv[160];

	for (; words[count] != NULL; count++)
		argv[count] = (char *)(uintptr_t)words[count];
	argv[count] = NULL;
	return agent_options_parse(count, argv, &options, message);
}

Test(options, defaults)
{
	cr_assert_eq(parse((const char *[]){"cellos-telemetry", NULL}), 0);
	cr_assert_eq(options.channel.kind, CELLOS_ADDRESS_VSOCK);
	cr_assert_eq(options.channel.cid, 2);
	cr_assert_eq(options.channel.port, 9001);
	cr_assert_eq(options.queue_depth, 4096);
	cr_assert_eq(options.heartbeat_ms, 1000);
	cr_assert_eq(options.drain_ms, 2000);
	cr_assert_eq(options.probe.process_interval_ms, 100);
	cr_assert_eq(options.probe.max_processes, 8192);
	cr_assert_eq(options.probe.coalesce_ms, 5);
	cr_assert_eq(options.probe_mask, 0xf);
	cr_assert_eq(options.ready_fd, -1);
	cr_assert_not(options.fail_on_probe);
}

struct range {
	const char *name;
	uint32_t low, high;
};

Test(options, every_number_is_taken_at_both_ends_and_refused_beyond)
{
	static const struct range ranges[] = {
		{"--process-interval", 1, 60000}, {"--max-processes", 16, 4194304},
		{"--queue-depth", 2, 1048576},    {"--heartbeat-interval", 100, 3000},
		{"--coalesce-ms", 0, 1000},       {"--drain-timeout", 0, 600000},
	};
	static const char *const rubbish[] = {"",          " 5",   "+5",
					      "-5",        "0x10", "5 ",
					      "5.0",       "abc",  "99999999999999999999999",
					      "4294967396"};

	for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
		char text[32];

		snprintf(text, sizeof(text), "%u", ranges[i].low);
		cr_assert_eq(PARSE(ranges[i].name, text), 0, "%s %s", ranges[i].name, text);
		snprintf(text, sizeof(text), "%u", ranges[i].high);
		cr_assert_eq(PARSE(ranges[i].name, text), 0, "%s %s", ranges[i].name, text);
		snprintf(text, sizeof(text), "%u", ranges[i].high + 1);
		cr_assert_lt(PARSE(ranges[i].name, text), 0, "%s %s", ranges[i].name, text);
		if (ranges[i].low > 0) {
			snprintf(text, sizeof(text), "%u", ranges[i].low - 1);
			cr_assert_lt(PARSE(ranges[i].name, text), 0, "%s %s", ranges[i].name, text);
		}
		for (size_t j = 0; j < sizeof(rubbish) / sizeof(rubbish[0]); j++)
			cr_assert_lt(PARSE(ranges[i].name, rubbish[j]), 0, "%s '%s'",
				     ranges[i].name, rubbish[j]);
	}
}

Test(options, a_message_names_verb_object_and_reason)
{
	cr_assert_lt(PARSE("--queue-depth", "1"), 0);
	cr_assert_str_eq(message,
			 "cannot use --queue-depth '1': not a whole number from 2 to 1048576");
	cr_assert_lt(PARSE("--probes", "process,nope"), 0);
	cr_assert_str_eq(message,
			 "cannot use --probes 'process,nope': it names a probe that does not "
			 "exist (see --help)");
	cr_assert_lt(PARSE("--channel", "tcp:1"), 0);
	cr_assert(strncmp(message, "cannot use --channel 'tcp:1': ", 30) == 0, "%s", message);
	cr_assert_lt(PARSE("--wat"), 0);
	cr_assert(strncmp(message, "cannot use option '--wat': ", 27) == 0, "%s", message);
	cr_assert_lt(PARSE("--watch"), 0);
	cr_assert_str_eq(message, "cannot use option '--watch': it needs a value");
	cr_assert_lt(PARSE("stray"), 0);
	cr_assert_str_eq(message, "cannot use 'stray': it is not an option");
	cr_assert_lt(PARSE("--fork=yes"), 0);
	cr_assert_lt(PARSE("-v"), 0);
	cr_assert_lt(PARSE("--on-probe-failure", "maybe"), 0);
	cr_assert_lt(PARSE("--ready-fd", "900000"), 0, "not open");
	cr_assert_lt(PARSE("--ready-fd", "1", "--stats-fd", "1"), 0, "the same");
	cr_assert_lt(PARSE("--channel", "fd:1", "--stats-fd", "1"), 0, "the same");
	cr_assert_lt(PARSE("--channel", "fd:900000"), 0, "not open");
}

Test(options, a_very_long_value_cannot_overrun_the_message)
{
	char *longest = malloc(100000);

	cr_assert_not_null(longest);
	memset(longest, 'x', 99999);
	longest[99999] = '\0';
	cr_assert_lt(PARSE("--queue-depth", longest), 0);
	cr_assert_lt(strlen(message), AGENT_MESSAGE_BYTES);
	cr_assert_lt(PARSE("--watch", longest), 0);
	cr_assert_lt(PARSE(longest), 0);
	cr_assert_lt(strlen(message), AGENT_MESSAGE_BYTES);
	free(longest);
}

Test(options, watch_paths_are_kept_in_order_up_to_the_limit)
{
	const char *words[2 + 2 * (CELLOS_PROBE_MAX_PATHS + 1)] = {"cellos-telemetry"};
	size_t used = 1;

	for (int i = 0; i < CELLOS_PROBE_MAX_PATHS; i++) {
		words[used++] = "--watch";
		words[used++] = "/somewhere";
	}
	words[used] = NULL;
	cr_assert_eq(parse(words), 0);
	cr_assert_eq(options.probe.watch_path_count, CELLOS_PROBE_MAX_PATHS);
	words[used++] = "--watch";
	words[used++] = "/else";
	words[used] = NULL;
	cr_assert_lt(parse(words), 0);
	cr_assert_lt(PARSE("--watch", ""), 0);
}

Test(options, help_and_version_win_over_what_follows)
{
	cr_assert_eq(PARSE("--help", "--wat"), 0);
	cr_assert(options.help);
	cr_assert_eq(PARSE("--version", "stray"), 0);
	cr_assert(options.version);
}

Test(options, help_names_every_option_and_probe)
{
	char text[8192];
	size_t length = agent_options_help(text, sizeof(text));

	cr_assert_lt(length, sizeof(text));
	cr_assert_eq(strlen(text), length);
	cr_assert_not_null(strstr(text, "--drain-timeout MS"));
	cr_assert_not_null(strstr(text, "100..3000, default 1000"));
	for (size_t i = 0; i < cellos_probe_count; i++)
		cr_assert_not_null(strstr(text, cellos_probes[i]->name));
}

Test(options, probe_lists)
{
	cr_assert_eq(PARSE("--probes", "watch"), 0);
	cr_assert_eq(options.probe_mask, 0x2);
	cr_assert_eq(PARSE("--probes", "connect,process"), 0);
	cr_assert_eq(options.probe_mask, 0x9);
	cr_assert_lt(PARSE("--probes", ""), 0);
	cr_assert_lt(PARSE("--probes", "process,"), 0);
	cr_assert_lt(PARSE("--probes", "proc"), 0);
}
