/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See absent.h. */
#include "absent.h"

#include <string.h>

#include "probe_util.h"

size_t cellos_absent_state_bytes(const struct cellos_probe_options *options)
{
	(void)options;
	return 0;
}

void cellos_absent_arm(void *state, struct cellos_probe_env *env,
		       struct cellos_probe_status *status)
{
	static const char why[] = "not built in this version";

	(void)state;
	(void)env;
	*status = (struct cellos_probe_status){.surface = "none"};
	memcpy(status->why, why, sizeof(why));
}

void cellos_absent_run(void *state, struct cellos_probe_env *env)
{
	(void)state;
	while (cellos_probe_wait(env->stop_fd, -1, UINT64_MAX) != CELLOS_WAIT_STOP)
		;
}

void cellos_absent_disarm(void *state, struct cellos_probe_env *env)
{
	(void)state;
	(void)env;
}
