/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Denied capability checks: each one exactly where the kernel traces them; else, and only when
 * asked for, what its audit says of refused system calls. capability.h says what each can tell.
 *
 * Threads: as cellos/probe.h says. Invariant: at most one surface is open. Refuses to: claim more
 * than the surface can tell; change the kernel unasked.
 */
#include "capability.h"

#include <errno.h>
#include <string.h>

#include "probe_tables.h"
#include "probe_util.h"

struct capability_state {
	const struct capability_surface *surface;
	int fd; /* borrowed from it; negative: it is not open */
	union {
		struct capability_trace trace;
		struct capability_audit audit;
	} of;
};

/* After the stop: three seconds at most. */
#define LAST_LOOKS 300u
#define LAST_LOOK_NS (10 * CELLOS_NS_PER_MS)

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
	const enum cellos_capability_choice choice = env->options->capability;
	const struct capability_surface *surface = choice == CELLOS_CAPABILITY_AUDIT
							   ? &cellos_capability_audit
							   : &cellos_capability_trace;
	struct capability_state *state = opaque;
	const char *what = "";

	*status = (struct cellos_probe_status){.surface = "none", .exactness = "none"};
	if (choice == CELLOS_CAPABILITY_NONE) {
		cellos_probe_why(status, "--capability none");
		return;
	}
	state->surface = surface;
	state->fd = surface->open(&state->of, env, status, &what);
	status->armed = state->fd >= 0;
	if (status->armed)
		return;
	surface->close(&state->of);
	status->failed = choice != CELLOS_CAPABILITY_AUTO || !is_absent(state->fd);
	status->fell_back = choice == CELLOS_CAPABILITY_AUTO;
	cellos_probe_why(status, "cannot %s: %s", what, strerror(-state->fd));
}

/*
 * We are woken for a record only when we had read everything before. Losses and repeats wake
 * nobody: the first come while records do, the second within a second of one, so it is enough to
 * look again a little later than that, until there is nothing new. The short wait after a wake-up
 * lets a storm come in few of them, and a writer finish that was interrupted.
 */
static void capability_run(void *opaque, struct cellos_probe_env *env)
{
	struct capability_state *state = opaque;
	const uint32_t linger_ms = env->options->coalesce_ms > 0 ? env->options->coalesce_ms : 1;
	uint64_t look = 0; /* arm may have left something */
	enum cellos_wait_result result;

	if (state == NULL || state->fd < 0) {
		(void)cellos_probe_wait(env->stop_fd, -1, UINT64_MAX);
		return;
	}
	while ((result = cellos_probe_wait(env->stop_fd, state->fd, look)) != CELLOS_WAIT_STOP) {
		if (cellos_probe_wait(env->stop_fd, -1,
				      cellos_probe_now() + linger_ms * CELLOS_NS_PER_MS) ==
		    CELLOS_WAIT_STOP)
			break;
		look = state->surface->see(&state->of, env) || result == CELLOS_WAIT_READABLE
			       ? cellos_probe_now() + CELLOS_NS_PER_S + 100 * CELLOS_NS_PER_MS
			       : UINT64_MAX;
	}
	/* What was seen is still ours to tell, also by a program that runs just now. Audit's own
	   thread hands its records on when it has got a processor, and may hold one that nobody
	   counts: it is waited for, and a look that finds nothing is taken twice. Bounded, for
	   others go on; what it still has then is lost, and a number. */
	cellos_bpf_settle();
	for (unsigned rounds = 0, quiet = 0; rounds < LAST_LOOKS && quiet < 2; rounds++) {
		quiet = state->surface->see(&state->of, env) ? 0 : quiet + 1;
		if (quiet < 2)
			(void)cellos_probe_wait(-1, state->fd, cellos_probe_now() + LAST_LOOK_NS);
	}
	if (state->surface == &cellos_capability_audit)
		cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, state->of.audit.backlog);
}

static void capability_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct capability_state *state = opaque;

	(void)env;
	if (state != NULL && state->fd >= 0)
		state->surface->close(&state->of);
}

const struct cellos_probe cellos_probe_capability = {
	.name = "capability",
	.help = "denied capabilities, by the kernel's tracepoint or its audit",
	.lane = CELLOS_LANE_CAP,
	.stat_names = {"asides", "foreign", "malformed", "waited"}, /* as STAT_... */
	.state_bytes = capability_state_bytes,
	.arm = capability_arm,
	.run = capability_run,
	.disarm = capability_disarm,
};
