/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Attempted connections will be seen here; this version has no surface for them and says so.
 *
 * Threads: as absent.h says. Refuses to: emit anything, or call that a failure.
 */
#include "absent.h"
#include "probe_tables.h"

const struct cellos_probe cellos_probe_connect = {
	.name = "connect",
	.help = "attempted network connections",
	.lane = CELLOS_LANE_NET,
	.state_bytes = cellos_absent_state_bytes,
	.arm = cellos_absent_arm,
	.run = cellos_absent_run,
	.disarm = cellos_absent_disarm,
};
