/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * /proc text to numbers: pure functions from a buffer to a struct.
 *
 * Threads: any, no state. Invariant: nothing past the text's end is read; *out is written only on
 * success.
 * Refuses to: guess. A line that is cut, or not of the kernel's making, is -EINVAL.
 */
#ifndef CELLOS_PROC_PARSE_H
#define CELLOS_PROC_PARSE_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

/* PID_MAX_LIMIT on 64-bit kernels: every number is below it. */
#define CELLOS_PID_LIMIT 4194304u

/* Of the kernel's PF_ flags, the two that matter here; field 9 of stat shows them. */
#define CELLOS_PF_FORKNOEXEC 0x00000040u
#define CELLOS_PF_KTHREAD 0x00200000u

struct cellos_proc_stat {
	uint64_t starttime; /* ticks since boot: with the pid, it names one process */
	uint32_t pid;
	uint32_t flags;
	uint32_t num_threads;
	char state;
	uint8_t comm_len; /* 0..15 */
	char comm[16];    /* as the kernel has it: any byte but NUL; then zeros */
};

/* A line of /proc/PID/stat as far as field 22, with a NUL at its end. The name may hold anything,
   also ") R 1 (". */
CELLOS_MUST_CHECK int cellos_proc_parse_stat(const char *line, struct cellos_proc_stat *out);

/* The pid that a directory of /proc is named by; 0 when the name is not one. */
uint32_t cellos_proc_parse_pid(const char *name);

#endif
