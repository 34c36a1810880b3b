/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Denied capability checks: each one exactly where the kernel traces them (capability_trace.h);
 * else, and only when asked for, what its audit says of refused system calls (audit.h).
 *
 * Threads: as cellos/probe.h says. Invariant: at most one surface is open. Refuses to: claim more
 * than the surface can tell; change the kernel unasked.
 */
#include <errno.h>

#include "audit.h"
#include "capability_trace.h"
#include "probe_tables.h"
#include "probe_util.h"

struct capability_state {
	enum cellos_capability_choice open; /* the surface that is, or NONE */
	union {
		struct capability_trace trace;
		struct capability_audit audit;
	};
};

static size_t capability_state_bytes(const struct cellos_probe_options *options)
{
	return options->capability == CELLOS_CAPABILITY_NONE ? 0 : sizeof(struct capability_state);
}

/* The kernel has no such thing, or this build: nothing that could have been had. */
static bool is_absent(int error)
{
	return error == -ENOSYS || error == -EINVAL || error == -ENOENT || error == -ENOEXEC ||
	       error == -ENOTSUP;
}

static void capability_arm(void *opaque, struct cellos_probe_env *env,
			   struct cellos_probe_status *status)
{
	struct capability_state *state = opaque;
	const bool told = env->options->capability != CELLOS_CAPABILITY_AUTO;
	int result;

	*status = (struct cellos_probe_status){.surface = "none", .exactness = "none"};
	if (env->options->capability == CELLOS_CAPABILITY_NONE) {
		cellos_probe_why(status, "--capability none");
		return;
	}
	state->open = CELLOS_CAPABILITY_NONE;
	if (env->options->capability == CELLOS_CAPABILITY_AUDIT)
		result = cellos_capability_audit_open(&state->audit, env, status);
	else
		result = cellos_capability_trace_open(&state->trace, env, status);
	if (result == 0)
		state->open = told ? env->options->capability : CELLOS_CAPABILITY_TRACE;
	status->failed = result < 0 && (told || !is_absent(result));
}

static void capability_run(void *opaque, struct cellos_probe_env *env)
{
	struct capability_state *state = opaque;

	if (state != NULL && state->open == CELLOS_CAPABILITY_TRACE)
		cellos_capability_trace_run(&state->trace, env);
	if (state != NULL && state->open == CELLOS_CAPABILITY_AUDIT)
		cellos_capability_audit_run(&state->audit, env);
	while (cellos_probe_wait(env->stop_fd, -1, UINT64_MAX) != CELLOS_WAIT_STOP)
		;
}

static void capability_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct capability_state *state = opaque;

	(void)env;
	if (state != NULL && state->open == CELLOS_CAPABILITY_TRACE)
		cellos_capability_trace_close(&state->trace);
	if (state != NULL && state->open == CELLOS_CAPABILITY_AUDIT)
		cellos_capability_audit_close(&state->audit);
}

const struct cellos_probe cellos_probe_capability = {
	.name = "capability",
	.help = "denied capabilities, by the kernel's tracepoint or its audit",
	.lane = CELLOS_LANE_CAP,
	/* The first two by trace, the last by audit, in milliseconds of everybody. */
	.stat_names = {"asides", "foreign", "malformed", "waited"},
	.state_bytes = capability_state_bytes,
	.arm = capability_arm,
	.run = capability_run,
	.disarm = capability_disarm,
};
