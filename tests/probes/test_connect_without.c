/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The connect probe as a build without clang has it: the same source over the header that the build
 * makes when there is nothing to embed. It says so, and costs nothing.
 *
 * Threads: the test's and the probe's. Refuses to: need a privilege.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "probe_tables.h"
#include "rig.h"

static void check(enum cellos_connect_choice choice, bool failed, const char *why)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;

	options.connect = choice;
	rig_init(&rig, &cellos_probe_connect, &options, 16);
	rig_arm(&rig);
	cr_assert(!rig.status.armed && rig.status.failed == failed);
	cr_assert(rig.status.kernel_bytes == 0);
	cr_assert_str_eq(rig.status.surface, "none");
	cr_assert_str_eq(rig.status.exactness, "none");
	cr_assert_str_eq(rig.status.why, why);
	rig_start(&rig);
	while (atomic_load(&rig.tid) == 0 || rig_voluntary_switches(&rig) == 0)
		rig_pump(&rig, rig_now() + 1000000);
	cr_assert(rig_stops_promptly(&rig) && rig.count == 0);
	rig_free(&rig);
}

Test(connect, without_programs_inside)
{
	check(CELLOS_CONNECT_AUTO, false, "built without clang: no BPF programs inside");
	check(CELLOS_CONNECT_BPF, true, "built without clang: no BPF programs inside");
	check(CELLOS_CONNECT_NONE, false, "--connect none");
}
