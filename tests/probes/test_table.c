/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of probes.
 *
 * Threads: the test's. Refuses to: run any of them.
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
		cr_assert(probe->help != NULL && strlen(probe->help) < 80);
		cr_assert(probe->state_bytes && probe->arm && probe->run && probe->disarm);
	}
}
