/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declared paths by inotify, not recursive: one event per record and kind of change.
 *
 * inotify does not know who did it, so pid and name are the agent's own. The kernel merges records,
 * so there is at least one event per change since the last read, and no more is promised.
 *
 * A watch sits on an inode, a declaration names a path. Whenever a record hints that the two have
 * parted, and once a second anyway, each path is added again: the kernel answers with the same
 * number if and only if the path still leads to the watched inode, however it was replaced
 * (rename-over, delete and create, symlink, mount). Another number means that the path was
 * unwatched for a while: one event, and one occasion under `o`.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it.
 * Invariants: a path is watched, or looked for once a second; paths that share an inode share a
 * watch, which is given up only with the last of them; without paths the thread never wakes.
 * Refuses to: open or read a declared file; report what a watch needs for itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "probe_tables.h"
#include "probe_util.h"
#include "proc_parse.h"

#define REPORTED (IN_MODIFY | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO)
/* Hints that the path may lead elsewhere now. The last two come unasked. */
#define HINTS (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)

/* One record of the kernel's queue: 32 bytes and the longest name. */
#define KERNEL_RECORD_BYTES (32u + 256u)
#define DEFAULT_QUEUED_EVENTS 16384u
/* Reads in a row before stop and the look are due again: more than the default queue holds. */
#define MAX_READS 32

enum watch_stat { STAT_WATCHED, STAT_REARMED, STAT_OVERFLOWS };

struct watched {
	const char *path; /* borrowed from the options */
	int wd;           /* -1: not watched */
	bool gap_counted; /* it is there, cannot be watched, and `o` says so already */
};

struct watch_state {
	int fd; /* owned; -1 while it cannot be had, and without paths */
	bool look_now;
	uint8_t comm_len;
	char comm[16];
	size_t count;
	struct watched paths[CELLOS_PROBE_MAX_PATHS];
	alignas(struct inotify_event) char records[65536];
};

static size_t watch_state_bytes(const struct cellos_probe_options *options)
{
	(void)options;
	return sizeof(struct watch_state);
}

static void fire(const struct watch_state *state, struct cellos_probe_env *env, uint64_t now)
{
	cellos_probe_emit(env, CELLOS_SOURCE_FS_INOTIFY_FIRED, env->agent_pid, state->comm,
			  state->comm_len, now);
}

/* ---- paths ---------------------------------------------------------------------------------- */

static bool wd_in_use(const struct watch_state *state, int wd)
{
	for (size_t at = 0; at < state->count; at++)
		if (state->paths[at].wd == wd)
			return true;
	return false;
}

/* Makes one path's watch true again. 1: another inode is watched now; 0: no news; -errno: it cannot
   be watched now. */
static int look_at(struct watch_state *state, struct watched *watched)
{
	int old = watched->wd;
	int wd = inotify_add_watch(state->fd, watched->path,
				   REPORTED | IN_DELETE_SELF | IN_MOVE_SELF);
	int result = wd < 0 ? -errno : wd != old;

	watched->wd = wd < 0 ? -1 : wd;
	if (old >= 0 && old != wd && !wd_in_use(state, old))
		(void)inotify_rm_watch(state->fd, old); /* fails when the kernel did it already */
	return result;
}

static void count_watched(const struct watch_state *state, struct cellos_probe_env *env)
{
	uint64_t watched = 0;

	for (size_t at = 0; at < state->count; at++)
		watched += state->paths[at].wd >= 0;
	cellos_probe_stat_set(env, STAT_WATCHED, watched);
}

static bool is_missing(int result)
{
	return result == -ENOENT || result == -ENOTDIR;
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
			fire(state, env, cellos_probe_now());
			count_gap(watched, env);
			watched->gap_counted = false;
			cellos_probe_stat_add(env, STAT_REARMED, 1);
		} else if (result < 0 && !is_missing(result)) {
			count_gap(watched, env);
		}
	}
	count_watched(state, env);
}

static void lose_instance(struct watch_state *state)
{
	close(state->fd);
	state->fd = -1;
	for (size_t at = 0; at < state->count; at++)
		state->paths[at].wd = -1;
}

/* ---- records -------------------------------------------------------------------------------- */

static void take_record(struct watch_state *state, struct cellos_probe_env *env,
			const struct inotify_event *record, uint64_t now)
{
	if ((record->mask & IN_Q_OVERFLOW) != 0) {
		cellos_lane_count(env->lane, CELLOS_DROP_OVERFLOW, 1);
		cellos_probe_stat_add(env, STAT_OVERFLOWS, 1);
		return; /* of a hint among the lost the look of the second takes care */
	}
	for (uint32_t kinds = record->mask & REPORTED; kinds != 0; kinds &= kinds - 1)
		fire(state, env, now);
	if ((record->mask & HINTS) != 0)
		state->look_now = true;
}

static void take_records(struct watch_state *state, struct cellos_probe_env *env)
{
	for (unsigned reads = 0; reads < MAX_READS; reads++) {
		ssize_t got = read(state->fd, state->records, sizeof(state->records));
		uint64_t now = cellos_probe_now();

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno != EAGAIN) {
			/* Never seen; an instance that cannot be read is worth nothing. */
			lose_instance(state);
			return;
		}
		for (ssize_t at = 0; at < got;) {
			struct inotify_event record;

			memcpy(&record, state->records + at, sizeof(record));
			take_record(state, env, &record, now);
			at += (ssize_t)(sizeof(record) + record.len);
		}
		/* A read stops short of the end of the buffer only when the queue is empty. */
		if (got < (ssize_t)sizeof(state->records) / 2)
			return;
	}
}

/* ---- life ----------------------------------------------------------------------------------- */

static uint64_t max_queued_events(void)
{
	char text[32];
	uint64_t number = DEFAULT_QUEUED_EVENTS;
	int fd = open("/proc/sys/fs/inotify/max_queued_events", O_RDONLY | O_CLOEXEC);

	if (fd >= 0) {
		ssize_t got = read(fd, text, sizeof(text));

		if (got < 0 || cellos_proc_parse_number(text, (size_t)got, &number) != 0)
			number = DEFAULT_QUEUED_EVENTS;
		close(fd);
	}
	return number;
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
		if (known == state->count && known < CELLOS_PROBE_MAX_PATHS)
			state->paths[state->count++] =
				(struct watched){.path = options->watch_paths[at], .wd = -1};
	}
}

static void open_instance(struct watch_state *state)
{
	state->fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
}

/* First watches: what is not there yet is waited for, anything else is a failure, and both are
   looked for again later. The first of the worse kind is what `why` tells. */
static void arm_paths(struct watch_state *state, struct cellos_probe_env *env,
		      struct cellos_probe_status *status)
{
	for (size_t at = 0; at < state->count; at++) {
		struct watched *watched = &state->paths[at];
		int result = look_at(state, watched);

		if (result < 0 && !is_missing(result)) {
			count_gap(watched, env);
			if (!status->failed)
				cellos_probe_why(status, "cannot watch %s: %s", watched->path,
						 strerror(-result));
			status->failed = true;
		} else if (result < 0 && status->why[0] == '\0') {
			cellos_probe_why(status, "waiting for %s", watched->path);
		}
	}
}

static void watch_arm(void *opaque, struct cellos_probe_env *env,
		      struct cellos_probe_status *status)
{
	struct watch_state *state = opaque;

	*status = (struct cellos_probe_status){.surface = "none"};
	state->fd = -1;
	take_paths(state, env->options);
	if (state->count == 0) {
		cellos_probe_why(status, "no --watch path");
		return;
	}
	/* arm runs on the main thread, whose name is the agent's. */
	if (prctl(PR_GET_NAME, state->comm) == 0)
		state->comm_len = (uint8_t)strnlen(state->comm, CELLOS_RAW_COMM_MAX_BYTES);
	open_instance(state);
	if (state->fd < 0) {
		status->failed = true;
		cellos_probe_why(status, "cannot create an inotify instance: %s", strerror(errno));
		for (size_t at = 0; at < state->count; at++)
			count_gap(&state->paths[at], env);
		return;
	}
	status->armed = true;
	status->surface = "inotify";
	status->kernel_bytes = max_queued_events() * KERNEL_RECORD_BYTES;
	arm_paths(state, env, status);
	count_watched(state, env);
}

/* Lets records gather, so that a burst costs one wake-up and one read. False: stop. */
static bool gather(const struct cellos_probe_env *env)
{
	uint64_t linger = env->options->coalesce_ms * CELLOS_NS_PER_MS;

	return linger == 0 ||
	       cellos_probe_wait(env->stop_fd, -1, cellos_probe_now() + linger) != CELLOS_WAIT_STOP;
}

static void watch_run(void *opaque, struct cellos_probe_env *env)
{
	struct watch_state *state = opaque;
	uint64_t next_look =
		state->count == 0 ? UINT64_MAX : cellos_probe_now() + CELLOS_PROBE_RETRY_NS;
	enum cellos_wait_result result;

	while ((result = cellos_probe_wait(env->stop_fd, state->fd, next_look)) !=
	       CELLOS_WAIT_STOP) {
		if (result == CELLOS_WAIT_READABLE) {
			if (!gather(env))
				break;
			take_records(state, env);
		}
		if (!state->look_now && cellos_probe_now() < next_look)
			continue;
		if (state->fd < 0)
			open_instance(state);
		if (state->fd >= 0)
			look_at_all(state, env);
		next_look = cellos_probe_now() + CELLOS_PROBE_RETRY_NS;
	}
	/* What the kernel has queued until now is still ours to tell. */
	if (state->fd >= 0)
		take_records(state, env);
}

static void watch_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct watch_state *state = opaque;

	(void)env;
	if (state->fd >= 0)
		lose_instance(state);
}

const struct cellos_probe cellos_probe_watch = {
	.name = "watch",
	.help = "changes of the paths given by --watch, by inotify",
	.lane = CELLOS_LANE_FS,
	.stat_names = {"watched", "rearmed", "overflows"},
	.state_bytes = watch_state_bytes,
	.arm = watch_arm,
	.run = watch_run,
	.disarm = watch_disarm,
};
