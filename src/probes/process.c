/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Processes that start and end: which way to see them, and the floor of the ways.
 *
 *   connector   the kernel's messages (process_connector.c): every process, with its own times
 *   procfs      walks of /proc at an interval: what is there and was not at the last walk has
 *               spawned, what was and is not has exited. One that lives between two is not seen
 *
 * Either way process_track.c says what that means, and a walk tells it what is there at first. A
 * walked process's exit is told when it is a zombie: only its exit status is left then, which is
 * its parent's business.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it.
 * Invariants: a time when neither way could see is one occasion under `o`.
 * Refuses to: choose in silence. Falling back says why.
 */
#include <string.h>

#include "probe_tables.h"
#include "probe_util.h"
#include "process_state.h"

/* How long a report waits for the name after exec. A walk can find a process long before that. */
#define WALKER_HOLD_NS (50 * CELLOS_NS_PER_MS)
#define CONNECTOR_HOLD_NS (20 * CELLOS_NS_PER_MS)
#define LAST_WALK_NS (25 * CELLOS_NS_PER_MS)
#define KTHREADD 2 /* in the initial PID namespace, where alone the connector speaks */

static size_t process_state_bytes(const struct cellos_probe_options *options)
{
	return sizeof(struct process_state) + process_track_bytes(options->max_processes);
}

/* ---- walks ---------------------------------------------------------------------------------- */

static void emit(void *context, enum cellos_probe_source source, const struct proc_entry *entry,
		 uint64_t ns)
{
	struct process_state *state = context;

	cellos_probe_emit(state->env, source, entry->pid, entry->comm, entry->comm_len, ns);
}

static int look(void *context, uint32_t pid, struct cellos_proc_stat *out)
{
	const struct process_state *state = context;

	return process_scan_look(&state->scan, pid, out);
}

static bool must_leave(struct process_state *state)
{
	if (++state->visits % 64 != 0)
		return false;
	if (state->give_up_ns != 0)
		return cellos_probe_now() >= state->give_up_ns;
	return cellos_probe_wait(state->env->stop_fd, -1, 0) == CELLOS_WAIT_STOP;
}

static bool visit(void *context, uint32_t pid, int result, const struct cellos_proc_stat *stat,
		  uint64_t before_ns)
{
	struct process_state *state = context;

	if (result == 0)
		process_track_seen(&state->track, stat, before_ns);
	else
		process_track_unreadable(&state->track, pid);
	return !must_leave(state);
}

void process_open_gap(struct process_state *state)
{
	if (state->in_gap)
		return;
	state->in_gap = true;
	cellos_lane_count(state->env->lane, CELLOS_DROP_OVERFLOW, 1);
	cellos_probe_stat_add(state->env, STAT_GAPS, 1);
}

bool process_walk_once(struct process_state *state)
{
	struct process_walk walk;

	process_track_walk_begin(&state->track);
	walk = process_scan_walk(&state->scan, visit, state);
	if (state->by_connector)
		process_connector_drain(state);
	process_track_walk_end(&state->track, walk.complete, !walk.trouble, cellos_probe_now());
	cellos_probe_stat_add(state->env, STAT_WALKS, 1);
	cellos_probe_stat_set(state->env, STAT_TABLE_FULL, state->track.table_full);
	if (walk.trouble)
		process_open_gap(state);
	else if (walk.complete)
		state->in_gap = false;
	/* An unreadable stat is tried again with the next walk, a dead listing from anew. */
	if (walk.trouble && !walk.complete)
		process_scan_close(&state->scan);
	return walk.complete && !walk.trouble;
}

/* ---- the floor ------------------------------------------------------------------------------ */

/* The first due moment after `now`, on the grid that `due` stands on: no drift, and after a stall
   no burst. */
static uint64_t next_due(uint64_t due, uint64_t period, uint64_t now)
{
	due += period;
	if (due <= now)
		due += ((now - due) / period + 1) * period;
	return due;
}

static void walk_until_stop(struct process_state *state)
{
	struct cellos_probe_env *env = state->env;
	uint64_t interval = env->options->process_interval_ms * CELLOS_NS_PER_MS;
	uint64_t due = cellos_probe_now() + interval, held = UINT64_MAX;
	struct cellos_probe_status unused;

	while (cellos_probe_wait(env->stop_fd, -1, due < held ? due : held) != CELLOS_WAIT_STOP) {
		if (cellos_probe_now() >= due) {
			if (state->scan.fd >= 0 ||
			    process_scan_open(&state->scan, env->agent_pid, &unused) == 0)
				(void)process_walk_once(state);
			due = next_due(due, state->scan.fd >= 0 ? interval : CELLOS_PROBE_RETRY_NS,
				       cellos_probe_now());
		}
		held = process_track_settle(&state->track, cellos_probe_now());
	}
	/* What ended since the last walk, as far as a short moment goes. */
	state->give_up_ns = cellos_probe_now() + LAST_WALK_NS;
	if (state->scan.fd >= 0)
		(void)process_walk_once(state);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void begin_track(struct process_state *state)
{
	const struct process_track_config config = {
		.max = state->env->options->max_processes,
		.kthreadd = state->by_connector ? KTHREADD : PROCESS_NOBODY,
		.hold_ns = state->by_connector ? CONNECTOR_HOLD_NS : WALKER_HOLD_NS,
		.by_walks = !state->by_connector,
		.told_exits = state->by_connector && state->exits.socket.fd >= 0,
		.emit = emit,
		.look = look,
		.context = state,
	};

	process_track_init(&state->track, &config, state->memory);
}

static bool arm_connector(struct process_state *state, struct cellos_probe_status *status)
{
	if (process_scan_open(&state->scan, state->env->agent_pid, status) != 0)
		return false;
	if (process_connector_open(state, status) != 0) {
		process_scan_close(&state->scan);
		return false;
	}
	state->by_connector = true;
	begin_track(state);
	if (!process_walk_once(state))
		state->connector.resync_ns = cellos_probe_now() + CELLOS_PROBE_RETRY_NS;
	status->armed = true;
	status->surface = "connector";
	status->exactness = "exact";
	status->kernel_bytes = state->connector.socket.buffer + state->exits.socket.buffer;
	return true;
}

/* A failure is for now: run goes on trying. */
static void arm_walker(struct process_state *state, struct cellos_probe_status *status)
{
	begin_track(state);
	if (process_scan_open(&state->scan, state->env->agent_pid, status) != 0)
		process_open_gap(state);
	else if (!process_walk_once(state) && state->scan.fd < 0)
		cellos_probe_why(status, "cannot list /proc");
	status->armed = state->scan.fd >= 0;
	status->failed = !status->armed;
	status->surface = status->armed ? "procfs" : "none";
	status->exactness = status->armed ? "sampled" : "none";
}

static void process_arm(void *opaque, struct cellos_probe_env *env,
			struct cellos_probe_status *status)
{
	struct process_state *state = opaque;
	enum cellos_process_choice choice = env->options->process;
	char why[CELLOS_PROBE_WHY_BYTES] = "";

	*status = (struct cellos_probe_status){.surface = "none", .exactness = "none"};
	state->env = env;
	state->scan.fd = state->connector.socket.fd = state->exits.socket.fd = -1;
	state->scan.root = state->seam.root;
	if (state->seam.root == NULL && choice != CELLOS_PROCESS_WALKER) {
		if (arm_connector(state, status))
			return;
		if (choice == CELLOS_PROCESS_CONNECTOR) {
			status->failed = true;
			return;
		}
		memcpy(why, status->why, sizeof(why));
		status->why[0] = '\0';
	}
	arm_walker(state, status);
	if (status->armed && why[0] != '\0')
		cellos_probe_why(status, "%.110s; /proc is walked instead", why);
}

static void process_run(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *state = opaque;

	if (state->by_connector)
		process_connector_run(state);
	else if (env->options->process != CELLOS_PROCESS_CONNECTOR)
		walk_until_stop(state);
	else
		(void)cellos_probe_wait(env->stop_fd, -1, UINT64_MAX);
	(void)process_track_settle(&state->track, cellos_probe_now());
	process_track_flush(&state->track, cellos_probe_now());
}

static void process_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *state = opaque;

	(void)env;
	process_connector_close(state);
	process_scan_close(&state->scan);
}

const struct cellos_probe cellos_probe_process = {
	.name = "process",
	.help = "processes that start and end, as the kernel tells it, or by walking /proc",
	.lane = CELLOS_LANE_PROC,
	.stat_names = {"table_full", "walks", "gaps", "forged", "malformed"},
	.state_bytes = process_state_bytes,
	.arm = process_arm,
	.run = process_run,
	.disarm = process_disarm,
};
