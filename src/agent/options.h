/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The agent's command line, checked once and for all: behind agent_options_parse every value is in
 * its range. One const table (options.c) makes getopt's list, --help and the ranges in messages.
 * Main thread only; the environment is never read.
 */
#ifndef CELLOS_AGENT_OPTIONS_H
#define CELLOS_AGENT_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"
#include "cellos/probe.h"
#include "cellos/transport.h"

#define AGENT_MESSAGE_BYTES 512

struct agent_options {
	struct cellos_address channel;
	const char *watch_paths[CELLOS_PROBE_MAX_PATHS]; /* borrowed from argv */
	struct cellos_probe_options probe;               /* points at watch_paths: do not copy */
	uint32_t probe_mask;                             /* bit n: cellos_probes[n] runs */
	uint32_t queue_depth;                            /* as asked for; the queue rounds up */
	uint32_t heartbeat_ms;
	uint32_t drain_ms;
	uint32_t fail_on_probe; /* 0 or 1 */
	int ready_fd;           /* -1: none */
	int stats_fd;           /* -1: none */
	bool fork;
	bool probe_report;
	bool no_sandbox;
	bool log_sandbox;
	bool verbose;
	bool help;
	bool version;
};

/*
 * 0, or -EINVAL with one line in `message` (no newline), the words after "cellos-telemetry: ".
 * --help and --version win over everything behind them. May be called again (tests, fuzzing).
 */
CELLOS_MUST_CHECK int agent_options_parse(int argc, char *const argv[],
					  struct agent_options *options,
					  char message[AGENT_MESSAGE_BYTES]);
/* The text of --help; 8 KiB hold it. Returns its length; what does not fit whole is left out. */
size_t agent_options_help(char *out, size_t size);

#endif
