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

enum option_id {
	OPT_CHANNEL,
	OPT_WATCH,
	OPT_PROBES,
	OPT_PROCESS,
	OPT_CAPABILITY,
	OPT_CONNECT,
	OPT_WATCH_SURFACE,
	OPT_PROCESS_INTERVAL,
	OPT_MAX_PROCESSES,
	OPT_QUEUE_DEPTH,
	OPT_HEARTBEAT_INTERVAL,
	OPT_COALESCE_MS,
	OPT_DRAIN_TIMEOUT,
	OPT_READY_FD,
	OPT_STATS_FD,
	OPT_FORK,
	OPT_PROBE_REPORT,
	OPT_ON_PROBE_FAILURE,
	OPT_VERBOSE,
	OPT_VERSION,
	OPT_HELP,
	OPT_COUNT
};

struct option_row {
	const char *name;
	const char *arg; /* NULL: takes none */
	uint32_t low;    /* a number's range, when high > 0 */
	uint32_t high;
	uint32_t value; /* and its default */
	const char *help;
};

static const struct option_row rows[OPT_COUNT] = {
	[OPT_CHANNEL] = {"channel", "ADDR", 0, 0, 0,
			 "where the host listens: vsock:CID:PORT, unix:PATH or fd:N "
			 "(default vsock:2:9001)"},
	[OPT_WATCH] = {"watch", "PATH", 0, 0, 0,
		       "report changes of this file or directory; may be given up to 64 times"},
	[OPT_PROBES] = {"probes", "LIST", 0, 0, 0,
			"only these probes, by name, with commas between"},
	[OPT_PROCESS] = {"process", "HOW", 0, 0, 0, "auto (default), connector or walker"},
	[OPT_CAPABILITY] = {"capability", "HOW", 0, 0, 0,
			    "auto (default: trace or none), trace, audit or none"},
	[OPT_CONNECT] = {"connect", "HOW", 0, 0, 0, "auto (default), bpf or none"},
	[OPT_WATCH_SURFACE] = {"watch-surface", "HOW", 0, 0, 0,
			       "auto (default), fanotify or inotify"},
	[OPT_PROCESS_INTERVAL] = {"process-interval", "MS", 1, 60000, 100,
				  "time between two walks of /proc"},
	[OPT_MAX_PROCESSES] = {"max-processes", "N", 16, 4194304, 8192,
			       "processes that the walker can follow at once"},
	[OPT_QUEUE_DEPTH] = {"queue-depth", "N", CELLOS_QUEUE_MIN_DEPTH, CELLOS_QUEUE_MAX_DEPTH,
			     4096, "events a lane holds, rounded up to a power of two"},
	[OPT_HEARTBEAT_INTERVAL] = {"heartbeat-interval", "MS", 100, 3000, 1000,
				    "time between two heartbeats"},
	[OPT_COALESCE_MS] = {"coalesce-ms", "N", 0, 1000, 5,
			     "how long a probe lets records gather before it reads them; 0 = not"},
	[OPT_DRAIN_TIMEOUT] = {"drain-timeout", "MS", 0, 600000, 2000,
			       "how long a stop waits for the host to read what is left"},
	[OPT_READY_FD] = {"ready-fd", "FD", 0, 1048576, 0,
			  "write a newline there when every probe is armed, then close it"},
	[OPT_STATS_FD] = {"stats-fd", "FD", 0, 1048576, 0,
			  "write one JSON line there at exit and on SIGUSR1"},
	[OPT_FORK] = {"fork", NULL, 0, 0, 0, "go on in a child; return when every probe is armed"},
	[OPT_PROBE_REPORT] = {"probe-report", NULL, 0, 0, 0,
			      "print one JSON object per probe and exit; opens no channel"},
	[OPT_ON_PROBE_FAILURE] = {"on-probe-failure", "WHAT", 0, 0, 0,
				  "degrade: run without it (default); fail: exit 1"},
	[OPT_VERBOSE] = {"verbose", NULL, 0, 0, 0, "say on standard error what happens"},
	[OPT_VERSION] = {"version", NULL, 0, 0, 0, "print the version and exit"},
	[OPT_HELP] = {"help", NULL, 0, 0, 0, "print this and exit"},
};

static int refuse(char *message, const char *verb, const char *option, const char *value,
		  const char *why)
{
	snprintf(message, AGENT_MESSAGE_BYTES, "cannot %s --%s '%.200s': %s", verb, option, value,
		 why);
	return -EINVAL;
}

/* Digits only: no sign, no blank, no base prefix; strtoul alone would take all three. */
static int parse_number(enum option_id id, const char *text, uint32_t *out, char *message)
{
	const struct option_row *row = &rows[id];
	size_t digits = strspn(text, "0123456789");
	char why[96];
	unsigned long long value = 0;

	if (digits > 0 && digits <= 18 && text[digits] == '\0')
		value = strtoull(text, NULL, 10);
	else
		digits = 0;
	if (digits == 0 || value < row->low || value > row->high) {
		snprintf(why, sizeof(why), "not a whole number from %" PRIu32 " to %" PRIu32,
			 row->low, row->high);
		return refuse(message, "use", row->name, text, why);
	}
	*out = (uint32_t)value;
	return 0;
}

static int parse_fd(enum option_id id, const char *text, int *out, char *message)
{
	uint32_t number;
	int result = parse_number(id, text, &number, message);

	if (result < 0)
		return result;
	if (fcntl((int)number, F_GETFD) < 0)
		return refuse(message, "use", rows[id].name, text, strerror(errno));
	*out = (int)number;
	return 0;
}

static int parse_probes(const char *text, uint32_t *mask, char *message)
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
			return refuse(message, "use", "probes", text,
				      "it names a probe that does not exist (see --help)");
		*mask |= UINT32_C(1) << i;
		if (at[length] == '\0')
			return 0;
		at += length + 1;
	}
}

static int add_watch(struct agent_options *options, const char *path, char *message)
{
	if (path[0] == '\0')
		return refuse(message, "watch", "watch", path, "the path is empty");
	if (strlen(path) >= 4096)
		return refuse(message, "watch", "watch", path, strerror(ENAMETOOLONG));
	if (options->probe.watch_path_count == CELLOS_PROBE_MAX_PATHS)
		return refuse(message, "watch", "watch", path, "more than 64 paths");
	options->watch_paths[options->probe.watch_path_count++] = path;
	return 0;
}

static int parse_channel(struct agent_options *options, const char *text, char *message)
{
	const char *why = NULL;

	if (cellos_address_parse(text, &options->channel, &why) < 0)
		return refuse(message, "use", "channel", text, why);
	return 0;
}

static int parse_policy(struct agent_options *options, const char *text, char *message)
{
	options->fail_on_probe = strcmp(text, "fail") == 0;
	if (!options->fail_on_probe && strcmp(text, "degrade") != 0)
		return refuse(message, "use", "on-probe-failure", text,
			      "it is neither degrade nor fail");
	return 0;
}

/* The number of `text` among `words` (NULL-terminated, in the order of the enum), or a refusal. */
static int parse_choice(enum option_id id, const char *text, const char *const words[],
			unsigned *out, char *message)
{
	for (unsigned i = 0; words[i] != NULL; i++) {
		if (strcmp(words[i], text) == 0) {
			*out = i;
			return 0;
		}
	}
	return refuse(message, "use", rows[id].name, text, "no such way to see (see --help)");
}

static int take_choice(struct agent_options *o, enum option_id id, const char *text, char *message)
{
	static const char *const process[] = {"auto", "connector", "walker", NULL};
	static const char *const capability[] = {"auto", "trace", "audit", "none", NULL};
	static const char *const connect[] = {"auto", "bpf", "none", NULL};
	static const char *const watch[] = {"auto", "fanotify", "inotify", NULL};
	const char *const *words = id == OPT_PROCESS      ? process
				   : id == OPT_CAPABILITY ? capability
				   : id == OPT_CONNECT    ? connect
							  : watch;
	unsigned chosen = 0;
	int result = parse_choice(id, text, words, &chosen, message);

	if (result < 0)
		return result;
	if (id == OPT_PROCESS)
		o->probe.process = (enum cellos_process_choice)chosen;
	else if (id == OPT_CAPABILITY)
		o->probe.capability = (enum cellos_capability_choice)chosen;
	else if (id == OPT_CONNECT)
		o->probe.connect = (enum cellos_connect_choice)chosen;
	else
		o->probe.watch = (enum cellos_watch_choice)chosen;
	return 0;
}

static int take(struct agent_options *o, enum option_id id, const char *text, char *message)
{
	switch (id) {
	case OPT_CHANNEL:
		return parse_channel(o, text, message);
	case OPT_WATCH:
		return add_watch(o, text, message);
	case OPT_PROBES:
		return parse_probes(text, &o->probe_mask, message);
	case OPT_PROCESS_INTERVAL:
		return parse_number(id, text, &o->probe.process_interval_ms, message);
	case OPT_MAX_PROCESSES:
		return parse_number(id, text, &o->probe.max_processes, message);
	case OPT_QUEUE_DEPTH:
		return parse_number(id, text, &o->queue_depth, message);
	case OPT_HEARTBEAT_INTERVAL:
		return parse_number(id, text, &o->heartbeat_ms, message);
	case OPT_COALESCE_MS:
		return parse_number(id, text, &o->probe.coalesce_ms, message);
	case OPT_DRAIN_TIMEOUT:
		return parse_number(id, text, &o->drain_ms, message);
	case OPT_READY_FD:
		return parse_fd(id, text, &o->ready_fd, message);
	case OPT_STATS_FD:
		return parse_fd(id, text, &o->stats_fd, message);
	case OPT_ON_PROBE_FAILURE:
		return parse_policy(o, text, message);
	case OPT_PROCESS:
	case OPT_CAPABILITY:
	case OPT_CONNECT:
	case OPT_WATCH_SURFACE:
		return take_choice(o, id, text, message);
	case OPT_FORK:
		o->fork = true;
		return 0;
	case OPT_PROBE_REPORT:
		o->probe_report = true;
		return 0;
	case OPT_VERBOSE:
		o->verbose = true;
		return 0;
	case OPT_VERSION:
		o->version = true;
		return 0;
	case OPT_HELP:
		o->help = true;
		return 0;
	case OPT_COUNT:
		break;
	}
	return -EINVAL;
}

static void set_defaults(struct agent_options *options)
{
	memset(options, 0, sizeof(*options));
	options->channel.kind = CELLOS_ADDRESS_VSOCK;
	options->channel.cid = 2;
	options->channel.port = 9001;
	options->channel.fd = -1;
	options->probe.watch_paths = options->watch_paths;
	options->probe.process_interval_ms = rows[OPT_PROCESS_INTERVAL].value;
	options->probe.max_processes = rows[OPT_MAX_PROCESSES].value;
	options->probe.coalesce_ms = rows[OPT_COALESCE_MS].value;
	options->probe_mask = (UINT32_C(1) << cellos_probe_count) - 1;
	options->queue_depth = rows[OPT_QUEUE_DEPTH].value;
	options->heartbeat_ms = rows[OPT_HEARTBEAT_INTERVAL].value;
	options->drain_ms = rows[OPT_DRAIN_TIMEOUT].value;
	options->ready_fd = -1;
	options->stats_fd = -1;
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

	snprintf(message, AGENT_MESSAGE_BYTES, "cannot use option '%.200s': %s", word,
		 answer == ':' ? "it needs a value" : "no such option, or it takes no value");
	return -EINVAL;
}

int agent_options_parse(int argc, char *const argv[], struct agent_options *options,
			char message[AGENT_MESSAGE_BYTES])
{
	struct option list[OPT_COUNT + 1];
	int answer;

	set_defaults(options);
	message[0] = '\0';
	memset(list, 0, sizeof(list));
	for (int i = 0; i < OPT_COUNT; i++) {
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
		result = take(options, (enum option_id)(answer - 256), optarg, message);
		if (result < 0)
			return result;
		if (options->help || options->version)
			return 0;
	}
	if (optind < argc) {
		snprintf(message, AGENT_MESSAGE_BYTES, "cannot use '%.200s': it is not an option",
			 argv[optind]);
		return -EINVAL;
	}
	return check_together(options, message);
}

static size_t append(char *out, size_t size, size_t used, const char *text)
{
	size_t length = strlen(text);

	if (used + length < size)
		memcpy(out + used, text, length + 1);
	return used + length;
}

size_t agent_options_help(char *out, size_t size)
{
	size_t used = 0;
	char line[256];

	if (size > 0)
		out[0] = '\0';
	used = append(out, size, used,
		      "usage: cellos-telemetry [options]\n"
		      "Reports what happens in this guest to its host, frame by frame.\n\n");
	for (int i = 0; i < OPT_COUNT; i++) {
		char left[48];

		snprintf(left, sizeof(left), "--%s%s%s", rows[i].name, rows[i].arg ? " " : "",
			 rows[i].arg ? rows[i].arg : "");
		snprintf(line, sizeof(line), "  %-25s %s\n", left, rows[i].help);
		used = append(out, size, used, line);
		if (rows[i].value == 0)
			continue;
		snprintf(line, sizeof(line),
			 "  %-25s (%" PRIu32 "..%" PRIu32 ", default %" PRIu32 ")\n", "",
			 rows[i].low, rows[i].high, rows[i].value);
		used = append(out, size, used, line);
	}
	used = append(out, size, used, "\nprobes:\n");
	for (size_t i = 0; i < cellos_probe_count; i++) {
		snprintf(line, sizeof(line), "  %-12s %s\n", cellos_probes[i]->name,
			 cellos_probes[i]->help);
		used = append(out, size, used, line);
	}
	return append(
		out, size, used,
		"\nSIGTERM, SIGINT: orderly stop. Exit: 0 done, 1 runtime failure, 2 usage.\n");
}
