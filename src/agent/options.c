/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Command line -> struct agent_options.
 *
 * Threads: main only (getopt_long keeps its place in globals).
 * Invariant: what stands in the table is what --help prints and what a message quotes as the range.
 * Refuses: to guess. A value out of range, a word too many, an unknown probe: each an error with
 * its reason; nothing is clamped in silence.
 */
#include "options.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "text.h"

enum option_kind { NUMBER, DESCRIPTOR, CHOICE, FLAG, CHANNEL, WATCH, PROBES };

struct option_row {
	const char *name;
	const char *arg; /* NULL: takes none */
	enum option_kind kind;
	uint32_t at; /* of the value in struct agent_options: 32 bits, of a FLAG a bool */
	const char *help;
	uint32_t low; /* a number's range */
	uint32_t high;
	uint32_t value;       /* and its default */
	const char *words[5]; /* a choice's, then NULL; in the order of its enum */
	const char *refusal;  /* of any other word */
};

#define AT(member) ((uint32_t)offsetof(struct agent_options, member))
#define RANGE(from, to, normal) .low = (from), .high = (to), .value = (normal)
#define WAYS(...) .words = {"auto", __VA_ARGS__}, .refusal = "no such way to see (see --help)"

static const struct option_row rows[] = {
	{"channel", "ADDR", CHANNEL, AT(channel),
	 .help = "where the host listens: vsock:CID:PORT, unix:PATH or fd:N (default "
		 "vsock:2:9001)"},
	{"watch", "PATH", WATCH, AT(watch_paths),
	 .help = "report changes of this file or directory; may be given up to 64 times"},
	{"probes", "LIST", PROBES, AT(probe_mask),
	 .help = "only these probes, by name, with commas between"},
	{"process", "HOW", CHOICE, AT(probe.process), .help = "auto (default), connector or walker",
	 WAYS("connector", "walker")},
	{"capability", "HOW", CHOICE, AT(probe.capability),
	 .help = "auto (default: trace or none), trace, audit or none",
	 WAYS("trace", "audit", "none")},
	{"connect", "HOW", CHOICE, AT(probe.connect), .help = "auto (default), bpf or none",
	 WAYS("bpf", "none")},
	{"watch-surface", "HOW", CHOICE, AT(probe.watch),
	 .help = "auto (default), fanotify or inotify", WAYS("fanotify", "inotify")},
	{"process-interval", "MS", NUMBER, AT(probe.process_interval_ms),
	 .help = "time between two walks of /proc", RANGE(1, 60000, 100)},
	{"max-processes", "N", NUMBER, AT(probe.max_processes),
	 .help = "processes that can be followed at once", RANGE(16, 4194304, 8192)},
	{"queue-depth", "N", NUMBER, AT(queue_depth),
	 .help = "events a lane holds, rounded up to a power of two",
	 RANGE(CELLOS_QUEUE_MIN_DEPTH, CELLOS_QUEUE_MAX_DEPTH, 4096)},
	{"heartbeat-interval", "MS", NUMBER, AT(heartbeat_ms),
	 .help = "time between two heartbeats", RANGE(100, 3000, 1000)},
	{"coalesce-ms", "N", NUMBER, AT(probe.coalesce_ms),
	 .help = "how long a probe lets records gather before it reads them; 0 = not",
	 RANGE(0, 1000, 5)},
	{"drain-timeout", "MS", NUMBER, AT(drain_ms),
	 .help = "how long a stop waits for the host to read what is left", RANGE(0, 600000, 2000)},
	{"ready-fd", "FD", DESCRIPTOR, AT(ready_fd),
	 .help = "write a newline there when every probe is armed, then close it",
	 RANGE(0, 1048576, 0)},
	{"stats-fd", "FD", DESCRIPTOR, AT(stats_fd),
	 .help = "write one JSON line there at exit and on SIGUSR1", RANGE(0, 1048576, 0)},
	{"fork", NULL, FLAG, AT(fork),
	 .help = "go on in a child; return when every probe is armed"},
	{"probe-report", NULL, FLAG, AT(probe_report),
	 .help = "print one JSON object per probe and exit; opens no channel"},
	{"on-probe-failure", "WHAT", CHOICE, AT(fail_on_probe),
	 .help = "degrade: run without it (default); fail: exit 1", .words = {"degrade", "fail"},
	 .refusal = "it is neither degrade nor fail"},
	{"no-sandbox", NULL, FLAG, AT(no_sandbox),
	 .help = "for debugging: keep every privilege, filter no system call"},
	{"log-sandbox", NULL, FLAG, AT(log_sandbox),
	 .help = "for development: what the filter would end is logged by the kernel"},
	{"verbose", NULL, FLAG, AT(verbose), .help = "say on standard error what happens"},
	{"version", NULL, FLAG, AT(version), .help = "print the version and exit"},
	{"help", NULL, FLAG, AT(help), .help = "print this and exit"},
};

enum { OPTIONS = sizeof(rows) / sizeof(rows[0]) };

_Static_assert(sizeof(enum cellos_process_choice) == 4 && sizeof(int) == 4,
	       "whatever is no flag is stored as 32 bits");

static int refuse(char *message, const char *verb, const char *option, const char *value,
		  const char *why)
{
	snprintf(message, AGENT_MESSAGE_BYTES, "cannot %s%s '%.200s': %s", verb, option, value,
		 why);
	return -EINVAL;
}

static int refuse_value(char *message, const struct option_row *row, const char *value,
			const char *why)
{
	return refuse(message, row->kind == WATCH ? "watch --" : "use --", row->name, value, why);
}

/* Digits only: no sign, no blank, no base prefix; strtoull alone would take all three. */
static int parse_number(const struct option_row *row, const char *text, uint32_t *out,
			char *message)
{
	size_t digits = strspn(text, "0123456789");
	unsigned long long value = strtoull(text, NULL, 10); /* too many: ULLONG_MAX */
	char why[96];

	if (digits == 0 || text[digits] != '\0' || value < row->low || value > row->high) {
		snprintf(why, sizeof(why), "not a whole number from %" PRIu32 " to %" PRIu32,
			 row->low, row->high);
		return refuse_value(message, row, text, why);
	}
	if (row->kind == DESCRIPTOR && fcntl((int)value, F_GETFD) < 0)
		return refuse_value(message, row, text, strerror(errno));
	*out = (uint32_t)value;
	return 0;
}

static int parse_choice(const struct option_row *row, const char *text, uint32_t *out,
			char *message)
{
	for (uint32_t i = 0; row->words[i] != NULL; i++) {
		if (strcmp(row->words[i], text) == 0) {
			*out = i;
			return 0;
		}
	}
	return refuse_value(message, row, text, row->refusal);
}

static int parse_probes(const struct option_row *row, const char *text, uint32_t *mask,
			char *message)
{
	const char *at = text;

	*mask = 0;
	for (;;) {
		size_t length = strcspn(at, ",");
		size_t i;

		for (i = 0; i < cellos_probe_count; i++) {
			const char *name = cellos_probes[i]->name;

			if (strlen(name) == length && memcmp(name, at, length) == 0)
				break;
		}
		if (i == cellos_probe_count)
			return refuse_value(message, row, text,
					    "it names a probe that does not exist (see --help)");
		*mask |= UINT32_C(1) << i;
		if (at[length] == '\0')
			return 0;
		at += length + 1;
	}
}

static int take(struct agent_options *o, const struct option_row *row, const char *text,
		char *message)
{
	void *value = (char *)o + row->at;
	const char *why = NULL;

	switch (row->kind) {
	case NUMBER:
	case DESCRIPTOR:
		return parse_number(row, text, value, message);
	case CHOICE:
		return parse_choice(row, text, value, message);
	case FLAG:
		*(bool *)value = true;
		break;
	case CHANNEL:
		(void)!cellos_address_parse(text, value, &why);
		break;
	case WATCH:
		if (text[0] == '\0')
			why = "the path is empty";
		else if (strlen(text) >= 4096)
			why = strerror(ENAMETOOLONG);
		else if (o->probe.watch_path_count == CELLOS_PROBE_MAX_PATHS)
			why = "more than 64 paths";
		else
			o->watch_paths[o->probe.watch_path_count++] = text;
		break;
	case PROBES:
		return parse_probes(row, text, value, message);
	}
	return why == NULL ? 0 : refuse_value(message, row, text, why);
}

static void set_defaults(struct agent_options *options)
{
	memset(options, 0, sizeof(*options));
	options->channel.kind = CELLOS_ADDRESS_VSOCK;
	options->channel.cid = 2;
	options->channel.port = 9001;
	options->channel.fd = -1;
	options->probe.watch_paths = options->watch_paths;
	options->probe_mask = (UINT32_C(1) << cellos_probe_count) - 1;
	options->ready_fd = -1;
	options->stats_fd = -1;
	for (int i = 0; i < OPTIONS; i++)
		if (rows[i].kind == NUMBER)
			memcpy((char *)options + rows[i].at, &rows[i].value, sizeof(uint32_t));
}

static int check_together(const struct agent_options *o, char *message)
{
	const char *clash = NULL;

	if (o->ready_fd >= 0 && o->ready_fd == o->stats_fd)
		clash = "--ready-fd and --stats-fd are the same descriptor";
	else if (o->channel.kind == CELLOS_ADDRESS_FD &&
		 (o->channel.fd == o->ready_fd || o->channel.fd == o->stats_fd))
		clash = "--channel fd: is also --ready-fd or --stats-fd";
	else if (o->channel.kind == CELLOS_ADDRESS_FD && fcntl(o->channel.fd, F_GETFD) < 0)
		clash = "--channel names a descriptor that is not open";
	if (clash == NULL)
		return 0;
	snprintf(message, AGENT_MESSAGE_BYTES, "cannot use options: %s", clash);
	return -EINVAL;
}

/* getopt is silent (opterr 0); what it met is told from what it left behind. */
static int refuse_word(int argc, char *const argv[], int answer, char *message)
{
	int at = optind > 0 && optind <= argc ? optind - 1 : 0;
	const char *word = argc > 0 && argv[at] != NULL ? argv[at] : "";

	return refuse(message, "use option", "", word,
		      answer == ':' ? "it needs a value" : "no such option, or it takes no value");
}

int agent_options_parse(int argc, char *const argv[], struct agent_options *options,
			char message[AGENT_MESSAGE_BYTES])
{
	struct option list[OPTIONS + 1];
	int answer;

	set_defaults(options);
	message[0] = '\0';
	memset(list, 0, sizeof(list));
	for (int i = 0; i < OPTIONS; i++) {
		list[i].name = rows[i].name;
		list[i].has_arg = rows[i].arg != NULL ? required_argument : no_argument;
		/* Above every character, so that no short option can be mistaken for it. */
		list[i].val = 256 + i;
	}
	opterr = 0;
	optind = 0; /* both glibc and musl start over at 0, also after a parse that ended early */
	/* "+": stop at the first word that is no option; ":": tell a missing value apart. */
	while ((answer = getopt_long(argc, argv, "+:", list, NULL)) != -1) {
		int result;

		if (answer < 256)
			return refuse_word(argc, argv, answer, message);
		result = take(options, &rows[answer - 256], optarg, message);
		if (result < 0)
			return result;
		if (options->help || options->version)
			return 0;
	}
	if (optind < argc)
		return refuse(message, "use", "", argv[optind], "it is not an option");
	return check_together(options, message);
}

size_t agent_options_help(char *out, size_t size)
{
	struct text text = {.out = out, .size = size};

	text_put(&text, "usage: cellos-telemetry [options]\n"
			"Reports what happens in this guest to its host, frame by frame.\n\n");
	for (int i = 0; i < OPTIONS; i++) {
		const struct option_row *row = &rows[i];
		const char *arg = row->arg != NULL ? row->arg : "";

		text_put(&text, "  --%s %-*s %s\n", row->name, 22 - (int)strlen(row->name), arg,
			 row->help);
		if (row->kind == NUMBER)
			text_put(&text, "  %-25s (%" PRIu32 "..%" PRIu32 ", default %" PRIu32 ")\n",
				 "", row->low, row->high, row->value);
	}
	text_put(&text, "\nprobes:\n");
	for (size_t i = 0; i < cellos_probe_count; i++)
		text_put(&text, "  %-12s %s\n", cellos_probes[i]->name, cellos_probes[i]->help);
	text_put(&text,
		 "\nSIGTERM, SIGINT: orderly stop. Exit: 0 done, 1 runtime failure, 2 usage.\n");
	return text.wanted;
}
