/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * /proc, read: one process by its number, or all that there are.
 *
 * Threads: one at a time. Invariants: nothing is allocated; a /proc of another PID namespace, or
 * one that hides processes, is not taken for ours.
 * Refuses to: read more of a process than its stat, which touches no memory or file of it.
 */
#ifndef CELLOS_PROCESS_SCAN_H
#define CELLOS_PROCESS_SCAN_H

#include <stdalign.h>
#include <stdbool.h>
#include <stdint.h>

#include "cellos/probe.h"
#include "proc_parse.h"

struct process_scan {
	const char *root; /* borrowed; NULL is "/proc" */
	int fd;           /* owned; -1 while it cannot be had */
	alignas(8) char listing[16384];
};

struct process_walk {
	bool complete; /* the listing came to its end */
	bool trouble;  /* something could not be read that should have been */
};

/* `result` 0: *stat was read after `before_ns`; else -errno: it is there and cannot be read. False
   ends the walk. */
typedef bool process_visit(void *context, uint32_t pid, int result,
			   const struct cellos_proc_stat *stat, uint64_t before_ns);

/* 0, or -errno with the reason in status->why. */
CELLOS_MUST_CHECK int process_scan_open(struct process_scan *scan, uint32_t agent_pid,
					struct cellos_probe_status *status);
void process_scan_close(struct process_scan *scan);
/* 0, or -errno: -ENOENT and -ESRCH when it has just gone. */
CELLOS_MUST_CHECK int process_scan_look(const struct process_scan *scan, uint32_t pid,
					struct cellos_proc_stat *out);
struct process_walk process_scan_walk(struct process_scan *scan, process_visit *visit,
				      void *context);

#endif
