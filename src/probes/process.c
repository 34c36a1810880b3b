/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Processes that start and end: which way to see them, and the life of the thread that does.
 *
 *   connector   the kernel's messages: every process, with its own times
 *   procfs      walks of /proc at an interval: what is there and was not at the last walk has
 *               spawned, what was and is not has exited. One that lives between two is not seen
 *
 * Either way process_track.c says what that means, and a walk tells it what is there at first. A
 * walked process's exit is told when it is a zombie: only its exit status is left then, which is
 * its parent's business.
 *
 * The connector's reader is woken seldom: by the first message after a silence, and from then on by
 * a timer, until a look finds nothing. A reader that is woken by every message slows down everybody
 * who forks. What it wakes for has gathered in the sockets meanwhile.
 *
 * A lost message is counted (`k`), both queues are read empty, for until then the kernel drops
 * everything, and a walk of /proc puts right what is known.
 *
 * Before 6.6 one count decides whether the kernel sends at all, and any process with the right to
 * may lower it. So on those it is asked every second: by a LISTEN that it must answer, and by an
 * IGNORE, which takes the LISTEN back and is answered only while somebody else's still counts: ours
 * of before. No answer means that we have been silenced for a while: one occasion under `o`.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it.
 * Invariants: a time when neither way could see is one occasion under `o`; idle, with the connector
 * of 6.6 or later, the thread never wakes.
 * Refuses to: choose in silence. Falling back says why.
 */
#include "process.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "probe_tables.h"
#include "probe_util.h"

#define INITIAL_PID_NAMESPACE 4026531836u
#define DRAIN_MESSAGES 4096u       /* then held reports have their turn */
#define WHOLE_QUEUE (1024u * 1024) /* more than any socket holds, and an end to a flood */
#define MAX_LISTENS 1024u
#define ASK_NS CELLOS_NS_PER_S
/* Losses can come faster than /proc can be walked. */
#define RESYNC_GAP_NS (200 * CELLOS_NS_PER_MS)

/* One occasion per stretch of trouble, however long it is. */
static void open_gap(struct process_state *state)
{
	if (!state->in_gap)
		cellos_lane_count(state->env->lane, CELLOS_DROP_OVERFLOW, 1);
	state->in_gap = true;
}

/* ---- messages ------------------------------------------------------------------------------- */

static void take(struct process_state *state, size_t len)
{
	struct proc_event event;
	uint32_t ack;

	if (connector_parse(state->buffer, len, &event, &ack) < 0)
		cellos_probe_stat_add(state->env, STAT_MALFORMED, 1);
	else if (event.what == PROC_EVENT_FORK)
		process_forked(state, (uint32_t)event.event_data.fork.parent_tgid,
			       (uint32_t)event.event_data.fork.child_pid,
			       (uint32_t)event.event_data.fork.child_tgid, event.timestamp_ns);
	else if (event.what == PROC_EVENT_EXEC)
		process_execed(state, (uint32_t)event.event_data.exec.process_tgid,
			       event.timestamp_ns);
	else if (event.what == PROC_EVENT_EXIT)
		process_exited(state, (uint32_t)event.event_data.exit.process_pid,
			       (uint32_t)event.event_data.exit.process_tgid, event.timestamp_ns);
	else if (event.what == PROC_EVENT_NONE)
		state->answered = ack;
}

/* How many messages there were, `limit` at most. */
static unsigned drain(struct process_state *state, unsigned limit)
{
	unsigned count;

	for (count = 0; count < limit; count++) {
		int got = process_receive(state, &state->connector);

		if (got < 0)
			break;
		take(state, (size_t)got);
	}
	return count;
}

static void want_resync(struct process_state *state)
{
	process_lost(state);
	if (state->walk_ns == UINT64_MAX)
		state->walk_ns = state->walked_ns + RESYNC_GAP_NS;
}

static void count_lost(struct process_state *state)
{
	uint64_t lost = netlink_lost(&state->connector) + netlink_lost(&state->exits.socket);

	if (lost == 0)
		return;
	cellos_lane_count(state->env->lane, CELLOS_DROP_KERNEL, lost);
	process_exits_drain(state);
	want_resync(state);
}

/* Whether others can silence us, see above. When in doubt, yes. */
static bool is_old_kernel(void)
{
	unsigned major = 0, minor = 0;
	struct utsname name;

	return uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2 ||
	       major < 6 || (major == 6 && minor < 6);
}

/* True when the kernel has answered. What else is there is taken as well. */
static bool ask(struct process_state *state, uint32_t operation)
{
	if (process_connector_ask(state, operation) < 0)
		return false;
	(void)drain(state, WHOLE_QUEUE);
	return state->answered == state->asked;
}

static void ask_whether_heard(struct process_state *state)
{
	unsigned listens = 1;

	state->ask_ns = cellos_probe_now() + ASK_NS;
	if (ask(state, PROC_CN_MCAST_LISTEN) && ask(state, PROC_CN_MCAST_IGNORE))
		return;
	while (!ask(state, PROC_CN_MCAST_LISTEN) && listens < MAX_LISTENS)
		listens++;
	open_gap(state); /* which the walk that follows closes */
	want_resync(state);
}

/* ---- walks ---------------------------------------------------------------------------------- */

/* With the connector: put right what is known. A failure is for now: it is tried again. */
static void walk(struct process_state *state)
{
	uint64_t interval = state->env->options->process_interval_ms * CELLOS_NS_PER_MS;
	bool complete = false, sound = true;

	(void)drain(state, WHOLE_QUEUE);
	if (state->proc_fd >= 0 || process_proc_open(state) == NULL) {
		process_walk_begin(state);
		complete = process_list(state, &sound);
		(void)drain(state, WHOLE_QUEUE);
		process_walk_end(state, complete, sound, cellos_probe_now());
		cellos_probe_stat_add(state->env, STAT_WALKS, 1);
		if (!complete && !sound) /* the directory is dead; another may stand there */
			process_proc_close(state);
	}
	if (!sound || state->proc_fd < 0)
		open_gap(state);
	else if (complete)
		state->in_gap = false;
	state->walked_ns = cellos_probe_now();
	if (state->proc_fd < 0 || (state->by_messages && !(complete && sound)))
		state->walk_ns = state->walked_ns + CELLOS_PROBE_RETRY_NS;
	else if (state->by_messages)
		state->walk_ns = UINT64_MAX;
	else /* the next on the grid of due moments: no drift, and no burst after a stall */
		state->walk_ns = state->walked_ns + interval -
				 (state->walked_ns - state->walk_ns) % interval;
}

/* ---- life ----------------------------------------------------------------------------------- */

static size_t process_state_bytes(const struct cellos_probe_options *options)
{
	return sizeof(struct process_state) + process_track_bytes(options->max_processes);
}

/* False with the reason, after which walks are what is left. */
static bool arm_connector(struct process_state *state, struct cellos_probe_status *status)
{
	struct stat space;
	int result;

	if (fstatat(state->proc_fd, "self/ns/pid", &space, 0) == 0 &&
	    space.st_ino != INITIAL_PID_NAMESPACE) {
		cellos_probe_why(status, "not in the initial PID namespace, where alone the "
					 "kernel's process connector speaks");
		return false;
	}
	result = process_connector_open(state);
	if (result < 0) {
		cellos_probe_why(status, "the process connector does not answer: %s",
				 strerror(-result));
		return false;
	}
	/* Worth having, not needed: without it the shortest processes have no name. */
	result = process_exits_open(state);
	if (result < 0)
		cellos_probe_why(status, "no exit listener (%s): short processes may lack a name",
				 strerror(-result));
	state->ask_ns = is_old_kernel() ? cellos_probe_now() + ASK_NS : UINT64_MAX;
	status->kernel_bytes = state->connector.buffer + state->exits.socket.buffer;
	return true;
}

static void process_arm(void *opaque, struct cellos_probe_env *env,
			struct cellos_probe_status *status)
{
	struct process_state *state = opaque;
	enum cellos_process_choice choice = env->options->process;
	const char *no_proc;
	size_t len;

	*status = (struct cellos_probe_status){.surface = "none", .exactness = "none"};
	state->env = env;
	state->connector.fd = state->exits.socket.fd = -1;
	state->ask_ns = UINT64_MAX;
	process_track_init(state);
	no_proc = process_proc_open(state);
	if (no_proc == NULL && choice != CELLOS_PROCESS_WALKER)
		state->by_messages = arm_connector(state, status);
	len = strlen(status->why);
	if (!state->by_messages && choice == CELLOS_PROCESS_CONNECTOR) {
		state->walk_ns = UINT64_MAX;
	} else {
		state->walk_ns = cellos_probe_now();
		walk(state);
		status->armed = state->proc_fd >= 0;
		if (!status->armed && no_proc == NULL)
			no_proc = "cannot list /proc";
	}
	if (no_proc != NULL)
		cellos_probe_why(status, "%s", no_proc);
	else if (status->armed && !state->by_messages && len > 0)
		(void)snprintf(status->why + len, sizeof(status->why) - len,
			       "; /proc is walked instead");
	status->failed = !status->armed;
	if (status->armed) {
		status->surface = state->by_messages ? "connector" : "procfs";
		status->exactness = state->by_messages ? "exact" : "sampled";
	}
}

/* Until there is reason to look; false: stop. */
static bool gather(struct process_state *state, bool flowing, uint64_t deadline)
{
	uint64_t coalesce = state->env->options->coalesce_ms * CELLOS_NS_PER_MS;
	enum cellos_wait_result result = CELLOS_WAIT_READABLE;

	if (!flowing)
		result = cellos_probe_wait(state->env->stop_fd, state->connector.fd, deadline);
	if (result == CELLOS_WAIT_READABLE)
		result = cellos_probe_wait(state->env->stop_fd, -1,
					   coalesce == 0 ? 0 : cellos_probe_now() + coalesce);
	return result != CELLOS_WAIT_STOP;
}

static uint64_t soonest_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void process_run(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *state = opaque;
	uint64_t held = UINT64_MAX;
	bool flowing = state->by_messages; /* since arm */

	(void)env;
	while (gather(state, flowing,
		      soonest_of(held, soonest_of(state->ask_ns, state->walk_ns)))) {
		flowing = drain(state, DRAIN_MESSAGES) > 0;
		if (cellos_probe_now() >= state->ask_ns)
			ask_whether_heard(state);
		count_lost(state);
		if (cellos_probe_now() >= state->walk_ns)
			walk(state);
		held = process_settle(state, cellos_probe_now());
	}
	(void)drain(state, WHOLE_QUEUE);
	count_lost(state);
	if (!state->by_messages && state->walk_ns != UINT64_MAX)
		walk(state); /* what happened since the last */
	(void)process_settle(state, UINT64_MAX);
}

static void process_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *state = opaque;

	(void)env;
	/* Newer kernels see by the closing that nobody listens. */
	if (state->ask_ns != UINT64_MAX)
		(void)!process_connector_ask(state, PROC_CN_MCAST_IGNORE);
	netlink_close(&state->connector);
	netlink_close(&state->exits.socket);
	process_proc_close(state);
}

const struct cellos_probe cellos_probe_process = {
	.name = "process",
	.help = "processes that start and end, as the kernel tells it, or by walking /proc",
	.lane = CELLOS_LANE_PROC,
	.stat_names = {"table_full", "walks", "forged", "malformed"},
	.state_bytes = process_state_bytes,
	.arm = process_arm,
	.run = process_run,
	.disarm = process_disarm,
};
