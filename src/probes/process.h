/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The one thing of the process probe that its tests may set: where the tree stands.
 *
 * Threads: written before arm, by whoever calls arm. Refuses to: be of use to the agent, which
 * hands over zeroed memory.
 */
#ifndef CELLOS_PROBE_PROCESS_H
#define CELLOS_PROBE_PROCESS_H

/* The first member of the probe's state. */
struct cellos_process_seam {
	const char *root; /* borrowed; NULL is "/proc" */
};

#endif
