/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the process probe's tests may set before arm; the agent hands over zeroed memory.
 *
 * Threads: written before arm, by whoever calls arm. Refuses to: be of use to the agent.
 */
#ifndef CELLOS_PROBE_PROCESS_H
#define CELLOS_PROBE_PROCESS_H

#include <stdbool.h>
#include <stdint.h>

/* The first member of the probe's state. */
struct cellos_process_seam {
	const char *root; /* borrowed; NULL is "/proc". A made tree is always walked */
	uint32_t buffer;  /* of each socket; 0 is PROCESS_SOCKET_BYTES */
	bool no_exits;    /* as on a kernel without taskstats */
	bool old_kernel;  /* as on one before 6.6: whether it still listens is asked every second */
};

#endif
