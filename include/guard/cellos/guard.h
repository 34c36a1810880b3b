/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The guard: start a workload that may be root and hostile so that it cannot reach the agent.
 *
 * Four walls, in this order: namespaces (pid, mount, cgroup, IPC) in which the agent has no number;
 * capabilities that are gone for good; a mount tree and devices of its own; a seccomp filter for
 * what has no better wall. Then a cgroup with limits. It fails closed: what cannot be had stops the
 * start, unless best_effort says otherwise, and then each missing piece is told.
 *
 * For the init of a guest, as root with all capabilities, from a process with one thread. No call
 * here prints. Text handed to `say` ends in NUL, has no newline and is borrowed for the call.
 *
 * A kernel exploit gets through all of this.
 */
#ifndef CELLOS_GUARD_H
#define CELLOS_GUARD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cellos/export.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cellos_guard_layout {
	CELLOS_GUARD_HIDDEN = 0, /* a PID namespace of its own, in which the agent has no number */
	CELLOS_GUARD_SHARED      /* the caller's PID namespace; see protect_up_to */
};

enum cellos_guard_profile {
	CELLOS_GUARD_STRICT = 0, /* system calls that this build does not know are refused, too */
	CELLOS_GUARD_COMPAT
};

/* For `without`: what a test leaves out, to show that it is needed. */
enum cellos_guard_wall {
	CELLOS_GUARD_NAMESPACES = 1,
	CELLOS_GUARD_CAPABILITIES = 2,
	CELLOS_GUARD_MOUNTS = 4,
	CELLOS_GUARD_SECCOMP = 8,
	CELLOS_GUARD_CGROUP = 16,
	CELLOS_GUARD_HELPERS = 32,    /* what cellos_guard_prepare closes */
	CELLOS_GUARD_DESCRIPTORS = 64 /* the workload gets the caller's */
};

struct cellos_guard_options {
	enum cellos_guard_layout layout;
	enum cellos_guard_profile profile;
	unsigned without; /* walls left out; 0 outside of tests */
	bool best_effort; /* go on without what cannot be had, and say it */
	/* Shared layout: no system call that takes a pid reaches a number from 1 to this one: the
	   agent's highest thread id. 0: 2, as the reference has it. */
	uint32_t protect_up_to;
	const char *root;     /* becomes the workload's "/"; NULL: the caller's, and that is told */
	const char *cgroup;   /* below the cgroup2 hierarchy's root; NULL: "workload" */
	uint32_t cpu_percent; /* of one CPU, 1 and up; 0: no limit */
	uint64_t memory_bytes; /* 0: no limit */
	uint32_t pids;         /* 0: no limit */
	/* What is missing, a line each, with best_effort; why, once, when the start fails. Also
	   called in the child, whose memory ends there: write it somewhere. NULL: nobody wants to
	   know. */
	void (*say)(void *context, const char *line);
	void *context;
};

/*
 * For the init, once, before anything of the workload exists: close what the kernel starts as full
 * root from paths that a workload could plant (usermode helpers), sysrq, unprivileged BPF and user
 * namespaces, until the next boot. 0, or -errno after saying what could not be closed.
 */
CELLOS_MUST_CHECK CELLOS_EXPORT int
cellos_guard_prepare(const struct cellos_guard_options *options);
/* Is all of that still so? 0, or -EPERM after saying what is open. Changes nothing. */
CELLOS_MUST_CHECK CELLOS_EXPORT int cellos_guard_check(const struct cellos_guard_options *options);

/*
 * Start argv[0] (looked for in PATH) behind the walls. stdio[0..2] become its standard descriptors:
 * pipes or a pty of its own, for a description shared with init could be used against init. All
 * others are closed.
 *
 * The pid returned through *pid is the one to wait for, in the caller's namespace: the exit status
 * is the command's (hidden layout: 128 + n when signal n ended it). 0, or -errno after saying why;
 * then nothing of the workload has run. The rule on devices holds until the caller ends, which
 * takes a descriptor for each start.
 */
CELLOS_MUST_CHECK CELLOS_EXPORT int cellos_guard_spawn(const struct cellos_guard_options *options,
						       char *const argv[], const int stdio[3],
						       pid_t *pid);

#ifdef __cplusplus
}
#endif

#endif
