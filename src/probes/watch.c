/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declared paths: which kernel surface watches each, and what came of it. fanotify where the file
 * system lets it, for it knows who did it; inotify as the floor.
 *
 * The kernel merges records, so there is at least one event per kind of change since the last read,
 * and no more is promised.
 *
 * A watch sits on an inode, a declaration names a path. Whenever a record hints that the two have
 * parted, and once a second anyway, each path is looked at. Another inode than before means that
 * the path was unwatched for a while: one occasion under `o`, and one event, unless a record of
 * its directory has been told already.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it.
 * Invariants: a path is watched, or looked for once a second; without paths the thread never wakes.
 * Refuses to: open or read a declared file.
 */
#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "probe_tables.h"
#include "probe_util.h"

static size_t watch_state_bytes(const struct cellos_probe_options *options)
{
	(void)options;
	return sizeof(struct watch_state);
}

/* ---- for the surfaces ----------------------------------------------------------------------- */

void watch_fire(struct cellos_probe_env *env, const struct watch_actor *actor, uint64_t now)
{
	cellos_probe_emit(env, CELLOS_SOURCE_FS_INOTIFY_FIRED, actor->pid, actor->comm,
			  actor->comm_len, now);
}

void watch_overflow(struct watch_state *state, struct cellos_probe_env *env)
{
	cellos_lane_count(env->lane, CELLOS_DROP_OVERFLOW, 1);
	cellos_probe_stat_add(env, STAT_OVERFLOWS, 1);
	state->look_now = true; /* a hint may have been among the lost */
}

const char *watch_parent(struct watch_state *state, const struct watched *watched)
{
	size_t len;

	if (watched->name == NULL)
		return NULL;
	len = (size_t)(watched->name - watched->path);
	if (len == 0)
		return ".";
	if (len >= sizeof(state->parent))
		return NULL;
	memcpy(state->parent, watched->path, len);
	state->parent[len] = '\0';
	return state->parent;
}

bool watch_is_name(const struct watched *watched, const char *name, size_t len)
{
	return watched->name != NULL && watched->name_len == len &&
	       memcmp(watched->name, name, len) == 0;
}

uint64_t watch_queue_limit(const char *file)
{
	char text[32] = "";
	uint64_t number;
	int fd = open(file, O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		(void)!read(fd, text, sizeof(text) - 1);
		close(fd);
	}
	number = strtoull(text, NULL, 10);
	return number > 0 ? number : WATCH_DEFAULT_QUEUED_EVENTS;
}

/* ---- paths ---------------------------------------------------------------------------------- */

static bool is_missing(int result)
{
	return result == -ENOENT || result == -ENOTDIR;
}

/* Makes one path's watch true again, by the best surface that takes it. 1: another inode is watched
   now; 0: no news; -errno: it cannot be watched now. */
static int look_at(struct watch_state *state, struct watched *watched)
{
	int result = -ENOSYS;

	watched->refusal = 0;
	if (watched->by == WATCH_BY_INOTIFY) {
		result = watch_inotify_look(state, watched);
		if (result != 1 || state->fanotify < 0 || watch_fanotify_look(state, watched) != 1)
			return result;
		watch_inotify_forget(state, watched);
		return 1;
	}
	if (state->fanotify >= 0) {
		result = watch_fanotify_look(state, watched);
		watched->refusal = result < 0 && !is_missing(result) ? -result : 0;
	}
	if (result >= 0 || (is_missing(result) && watched->parent.len > 0))
		watch_inotify_forget(state, watched);
	else if (state->inotify >= 0)
		result = watch_inotify_look(state, watched);
	return result;
}

static void count_watched(const struct watch_state *state, struct cellos_probe_env *env)
{
	uint64_t watched = 0;

	for (size_t at = 0; at < state->count; at++)
		watched += state->paths[at].by != WATCH_BY_NONE;
	cellos_probe_stat_set(env, STAT_WATCHED, watched);
}

/* One occasion per gap. A missing path has nothing to see until it is back: the gap is counted
   then. One that is there and cannot be watched may never be, so that is counted at once. */
static void count_gap(struct watched *watched, struct cellos_probe_env *env)
{
	if (!watched->gap_counted)
		cellos_lane_count(env->lane, CELLOS_DROP_OVERFLOW, 1);
	watched->gap_counted = true;
}

static void look_at_all(struct watch_state *state, struct cellos_probe_env *env)
{
	state->look_now = false;
	for (size_t at = 0; at < state->count; at++) {
		struct watched *watched = &state->paths[at];
		int result = look_at(state, watched);

		if (result == 1) {
			if (!watched->told)
				watch_fire(env, &state->agent, cellos_probe_now());
			count_gap(watched, env);
			watched->gap_counted = false;
			cellos_probe_stat_add(env, STAT_REARMED, 1);
		} else if (result < 0 && !is_missing(result)) {
			count_gap(watched, env);
		}
		watched->told = false;
	}
	count_watched(state, env);
}

/* ---- arm ------------------------------------------------------------------------------------ */

/* The last part of a path, and nothing for one that ends in "/", "." or "..": these are
   directories, which tell of themselves. */
static void find_name(struct watched *watched)
{
	const char *slash = strrchr(watched->path, '/');
	const char *name = slash != NULL ? slash + 1 : watched->path;

	watched->name_len = strlen(name);
	if (watched->name_len > 0 && strcmp(name, ".") != 0 && strcmp(name, "..") != 0)
		watched->name = name;
}

/* The same text twice is one declaration. */
static void take_paths(struct watch_state *state, const struct cellos_probe_options *options)
{
	state->count = 0;
	for (size_t at = 0; at < options->watch_path_count; at++) {
		size_t known = 0;

		while (known < state->count &&
		       strcmp(state->paths[known].path, options->watch_paths[at]) != 0)
			known++;
		if (known == state->count && known < CELLOS_PROBE_MAX_PATHS) {
			state->paths[known] = (struct watched){
				.path = options->watch_paths[at], .wd = -1, .parent_wd = -1};
			find_name(&state->paths[known]);
			state->count++;
		}
	}
}

/* What the choice allows and is not there yet; the error of the last that failed. */
static int open_surfaces(struct watch_state *state, enum cellos_watch_choice choice)
{
	int result = 0;

	if (state->inotify < 0 && choice != CELLOS_WATCH_FANOTIFY)
		result = watch_inotify_open(state);
	if (state->fanotify < 0 && choice != CELLOS_WATCH_INOTIFY) {
		int other = watch_fanotify_open(state);

		result = other < 0 ? other : result;
	}
	return result;
}

/* First watches: what is not there yet is waited for, anything else is a failure, and both are
   looked for again later. The first of the worse kind is what `why` tells: a failure, then a path
   that inotify must do for, then one that is waited for. */
static void arm_paths(struct watch_state *state, struct cellos_probe_env *env,
		      struct cellos_probe_status *status)
{
	bool fallen = status->why[0] != '\0';

	for (size_t at = 0; at < state->count; at++) {
		struct watched *watched = &state->paths[at];
		int result = look_at(state, watched);

		if (result < 0 && !is_missing(result)) {
			count_gap(watched, env);
			if (!status->failed)
				cellos_probe_why(status, "cannot watch %s: %s", watched->path,
						 strerror(-result));
			status->failed = true;
		} else if (status->failed || fallen) {
			continue;
		} else if (watched->by == WATCH_BY_INOTIFY && watched->refusal != 0) {
			fallen = true;
			cellos_probe_why(status, "without the actor, by inotify: %s (fanotify: %s)",
					 watched->path, strerror(watched->refusal));
		} else if (result < 0 && status->why[0] == '\0') {
			cellos_probe_why(status, "waiting for %s", watched->path);
		}
	}
}

/* By what the paths are watched; by what they would be, while all are waited for. */
static const char *surface_name(const struct watch_state *state)
{
	bool fanotify = false, inotify = false;

	for (size_t at = 0; at < state->count; at++) {
		fanotify |= state->paths[at].by == WATCH_BY_FANOTIFY;
		inotify |= state->paths[at].by == WATCH_BY_INOTIFY;
	}
	if (fanotify && inotify)
		return "fanotify+inotify";
	return fanotify || (!inotify && state->fanotify >= 0) ? "fanotify" : "inotify";
}

/* Neither surface is to be had. */
static void be_blind(struct watch_state *state, struct cellos_probe_env *env,
		     struct cellos_probe_status *status, int error)
{
	bool fanotify = env->options->watch == CELLOS_WATCH_FANOTIFY;

	status->failed = true;
	cellos_probe_why(status, "cannot create %s: %s",
			 fanotify ? "a fanotify group" : "an inotify instance", strerror(-error));
	for (size_t at = 0; at < state->count; at++)
		count_gap(&state->paths[at], env);
}

static void watch_arm(void *opaque, struct cellos_probe_env *env,
		      struct cellos_probe_status *status)
{
	struct watch_state *state = opaque;
	int result;

	*status = (struct cellos_probe_status){.surface = "none", .exactness = "none"};
	state->fanotify = state->inotify = -1;
	take_paths(state, env->options);
	if (state->count == 0) {
		cellos_probe_why(status, "no --watch path");
		return;
	}
	/* arm runs on the main thread, whose name is the agent's. */
	state->agent.pid = env->agent_pid;
	if (prctl(PR_GET_NAME, state->agent.comm) == 0)
		state->agent.comm_len =
			(uint8_t)strnlen(state->agent.comm, CELLOS_RAW_COMM_MAX_BYTES);
	result = open_surfaces(state, env->options->watch);
	if (state->inotify < 0 && state->fanotify < 0) {
		be_blind(state, env, status, result);
		return;
	}
	if (state->fanotify < 0 && result < 0)
		cellos_probe_why(status, "without the actor, by inotify: no fanotify group: %s",
				 strerror(-result));
	arm_paths(state, env, status);
	count_watched(state, env);
	status->armed = true;
	status->surface = surface_name(state);
	status->exactness = "merged";
	status->kernel_bytes = (state->inotify >= 0 ? watch_inotify_kernel_bytes() : 0) +
			       (state->fanotify >= 0 ? watch_fanotify_kernel_bytes() : 0);
}

/* ---- run ------------------------------------------------------------------------------------ */

static void take(struct watch_state *state, struct cellos_probe_env *env)
{
	if (state->fanotify >= 0)
		watch_fanotify_take(state, env);
	if (state->inotify >= 0)
		watch_inotify_take(state, env);
}

/* Lets records gather, so that a burst costs one wake-up and few reads. False: stop. */
static bool gather(const struct cellos_probe_env *env)
{
	uint64_t linger = env->options->coalesce_ms * CELLOS_NS_PER_MS;

	return linger == 0 ||
	       cellos_probe_wait(env->stop_fd, -1, cellos_probe_now() + linger) != CELLOS_WAIT_STOP;
}

/* False: stop. fanotify's are also taken at once: who did it may live no longer than that, and
   leaves no name. */
static bool take_what_comes(struct watch_state *state, struct cellos_probe_env *env)
{
	state->actor_count = 0; /* numbers are used again; what was known of one is too old */
	if (state->fanotify >= 0)
		watch_fanotify_take(state, env);
	if (!gather(env))
		return false;
	take(state, env);
	return true;
}

static void look(struct watch_state *state, struct cellos_probe_env *env, bool due)
{
	if (due)
		(void)open_surfaces(state, env->options->watch);
	if (due && state->strays && state->fanotify >= 0)
		watch_fanotify_renew(state, env);
	if (state->fanotify >= 0 || state->inotify >= 0)
		look_at_all(state, env);
}

static void watch_run(void *opaque, struct cellos_probe_env *env)
{
	struct watch_state *state = opaque;
	uint64_t next_look =
		state->count == 0 ? UINT64_MAX : cellos_probe_now() + CELLOS_PROBE_RETRY_NS;
	enum cellos_wait_result result;

	while ((result = cellos_probe_wait_either(env->stop_fd, state->fanotify, state->inotify,
						  next_look)) != CELLOS_WAIT_STOP) {
		bool due;

		if (result == CELLOS_WAIT_READABLE && !take_what_comes(state, env))
			break;
		due = cellos_probe_now() >= next_look;
		if (!state->look_now && !due)
			continue;
		look(state, env, due);
		/* Not put off by looks in between: what only the clock can tell is due then. */
		if (due)
			next_look = cellos_probe_now() + CELLOS_PROBE_RETRY_NS;
	}
	/* What the kernel has queued until now is still ours to tell. */
	take(state, env);
}

static void watch_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct watch_state *state = opaque;

	(void)env;
	if (state->fanotify >= 0)
		watch_fanotify_close(state);
	if (state->inotify >= 0)
		watch_inotify_close(state);
}

const struct cellos_probe cellos_probe_watch = {
	.name = "watch",
	.help = "changes of the paths given by --watch, with the actor where fanotify tells",
	.lane = CELLOS_LANE_FS,
	.stat_names = {"watched", "rearmed", "overflows", "malformed"},
	.state_bytes = watch_state_bytes,
	.arm = watch_arm,
	.run = watch_run,
	.disarm = watch_disarm,
};
