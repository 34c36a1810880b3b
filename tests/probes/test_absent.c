/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of probes, and the two that have no surface in this version.
 *
 * Threads: the test's and the probe's. Refuses to: look at what the others see.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "rig.h"

Test(probes, the_table)
{
	static const char *const names[] = {"process", "watch", "capability", "connect"};

	cr_assert(cellos_probe_count == 4);
	for (size_t at = 0; at < cellos_probe_count; at++) {
		const struct cellos_probe *probe = cellos_probes[at];

		cr_assert_str_eq(probe->name, names[at]);
		cr_assert((size_t)probe->lane == at);
		cr_assert(probe->help != NULL && strlen(probe->help) < 70);
		cr_assert(probe->state_bytes && probe->arm && probe->run && probe->disarm);
	}
}

Test(probes, absent_ones)
{
	for (size_t at = 2; at < 4; at++) {
		struct cellos_probe_options options = rig_options();
		struct rig rig;

		rig_init(&rig, cellos_probes[at], &options, 16);
		rig_arm(&rig);
		cr_assert(!rig.status.armed && !rig.status.failed && rig.status.kernel_bytes == 0);
		cr_assert_str_eq(rig.status.surface, "none");
		cr_assert_str_eq(rig.status.why, "not built in this version");
		rig_start(&rig);
		while (atomic_load(&rig.tid) == 0 || rig_voluntary_switches(&rig) == 0)
			rig_pump(&rig, rig_now() + 1000000);
		cr_assert(rig_stops_promptly(&rig));
		cr_assert(rig.count == 0);
		rig_free(&rig);
	}
}
