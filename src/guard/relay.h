/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The workload's standard descriptors: pipes, or a pty when ours is a terminal, and the copying
 * between the two sides until the workload has closed its own.
 */
#ifndef CELLOS_GUARD_RELAY_H
#define CELLOS_GUARD_RELAY_H

#include <sys/types.h>

#include "cellos/export.h"

struct guard_stdio {
	int child[3];  /* for cellos_guard_spawn; owned until guard_stdio_started */
	int to_child;  /* what we read on 0 goes here; -1: closed */
	int output[2]; /* what comes from here goes to 1 and 2; -1: at its end */
	int is_tty;
};

/* Ours themselves: nothing to copy. */
#define GUARD_STDIO_SHARED                                                                         \
	{                                                                                          \
		.child = {0, 1, 2}, .to_child = -1, .output = { -1, -1 }                           \
	}

CELLOS_MUST_CHECK int guard_stdio_open(struct guard_stdio *stdio);
/* The child has its side: close ours of it. */
void guard_stdio_started(struct guard_stdio *stdio);
/*
 * Copies until `pid` ends, hands on SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 to it, and
 * empties what it left. Its wait status. The signals must be blocked, SIGCHLD too.
 */
int guard_stdio_relay(struct guard_stdio *stdio, pid_t pid);

#endif
