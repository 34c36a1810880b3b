/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * All probes there are. A new probe is one file, one line here and one in probe_tables.h.
 *
 * Threads: const data, anyone may read it.
 * Invariant: lane order, so that the place in this table, the lane and the ledger's letter agree.
 * Refuses to: decide anything; what is wanted is the agent's business.
 */
#include "cellos/probe.h"

#include "probe_tables.h"

const struct cellos_probe *const cellos_probes[] = {
	&cellos_probe_process,
	&cellos_probe_watch,
	&cellos_probe_capability,
	&cellos_probe_connect,
};

const size_t cellos_probe_count = sizeof(cellos_probes) / sizeof(cellos_probes[0]);

_Static_assert(sizeof(cellos_probes) / sizeof(cellos_probes[0]) == CELLOS_LANE_COUNT,
	       "one probe per lane");
