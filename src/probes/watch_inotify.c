/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declared paths by inotify, not recursive: one event per record and kind of change.
 *
 * inotify does not know who did it, so pid and name are the agent's own.
 *
 * A watch sits on an inode, a declaration names a path. To look is to add the path again: the
 * kernel answers with the same number if and only if the path still leads to the watched inode,
 * however it was replaced (rename-over, delete and create, symlink, mount). For a path that is no
 * directory, the one it stands in is watched, too, for hints: what it tells is no event, and only
 * the path's own name matters.
 *
 * Threads: see watch.h. Invariant: paths that share an inode share a watch, a hint may share it,
 * too, and it is given up only with the last of them.
 * Refuses to: report what a watch needs for itself.
 */
#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe_util.h"
#include "watch.h"

#define REPORTED (IN_MODIFY | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_MOVED_FROM | IN_MOVED_TO)
/* Hints that the path may lead elsewhere now. The last two come unasked. */
#define HINTS (IN_DELETE_SELF | IN_MOVE_SELF | IN_UNMOUNT | IN_IGNORED)
/* What a directory is watched for, for the sake of one name in it. */
#define ARRIVALS (IN_CREATE | IN_MOVED_TO)

/* One record of the kernel's queue: 32 bytes and the longest name. */
#define KERNEL_RECORD_BYTES (32u + 256u)

static bool is_declared(const struct watch_state *state, int wd)
{
	for (size_t at = 0; at < state->count; at++)
		if (state->paths[at].wd == wd)
			return true;
	return false;
}

static bool is_hint(const struct watch_state *state, int wd)
{
	for (size_t at = 0; at < state->count; at++)
		if (state->paths[at].parent_wd == wd)
			return true;
	return false;
}

/* One of a path's two numbers changes; the watch that nobody needs any more goes. */
static void replace(struct watch_state *state, int *place, int wd)
{
	int old = *place;

	*place = wd < 0 ? -1 : wd;
	if (old >= 0 && old != wd && !is_declared(state, old) && !is_hint(state, old))
		(void)inotify_rm_watch(state->inotify, old); /* fails if the kernel did it */
}

/* Before the path itself is looked at, so that what arrives in between is not missed. */
static void look_at_parent(struct watch_state *state, struct watched *watched)
{
	struct stat status;
	const char *parent = watch_parent(state, watched);
	int wd = -1;

	if (parent != NULL && !(stat(watched->path, &status) == 0 && S_ISDIR(status.st_mode)))
		wd = inotify_add_watch(state->inotify, parent, ARRIVALS | IN_MASK_ADD | IN_ONLYDIR);
	replace(state, &watched->parent_wd, wd);
}

int watch_inotify_look(struct watch_state *state, struct watched *watched)
{
	int old = watched->wd, wd, result;

	look_at_parent(state, watched);
	wd = inotify_add_watch(state->inotify, watched->path,
			       REPORTED | IN_DELETE_SELF | IN_MOVE_SELF);
	result = wd < 0 ? -errno : wd != old;
	replace(state, &watched->wd, wd);
	watched->by = wd < 0 ? WATCH_BY_NONE : WATCH_BY_INOTIFY;
	return result;
}

void watch_inotify_forget(struct watch_state *state, struct watched *watched)
{
	replace(state, &watched->wd, -1);
	replace(state, &watched->parent_wd, -1);
}

int watch_inotify_open(struct watch_state *state)
{
	state->inotify = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	return state->inotify < 0 ? -errno : 0;
}

void watch_inotify_close(struct watch_state *state)
{
	close(state->inotify);
	state->inotify = -1;
	for (size_t at = 0; at < state->count; at++) {
		struct watched *watched = &state->paths[at];

		watched->wd = watched->parent_wd = -1;
		if (watched->by == WATCH_BY_INOTIFY)
			watched->by = WATCH_BY_NONE;
	}
}

/* The kernel has given a watch up by itself. */
static void is_gone(struct watch_state *state, int wd)
{
	for (size_t at = 0; at < state->count; at++) {
		struct watched *watched = &state->paths[at];

		if (watched->wd == wd) {
			watched->wd = -1;
			watched->by = WATCH_BY_NONE;
		}
		if (watched->parent_wd == wd)
			watched->parent_wd = -1;
	}
}

static bool names_a_path(const struct watch_state *state, const struct inotify_event *record,
			 const char *name)
{
	for (size_t at = 0; at < state->count; at++)
		if (state->paths[at].parent_wd == record->wd &&
		    watch_is_name(&state->paths[at], name, strnlen(name, record->len)))
			return true;
	return false;
}

static void take_record(struct watch_state *state, struct cellos_probe_env *env,
			const struct inotify_event *record, const char *name, uint64_t now)
{
	bool declared = is_declared(state, record->wd), hint = is_hint(state, record->wd);

	if ((record->mask & IN_Q_OVERFLOW) != 0) {
		watch_overflow(state, env);
		return;
	}
	/* A watch just given up may have something left to say; one that is a hint says none. */
	for (uint32_t kinds = record->mask & REPORTED; kinds != 0 && (declared || !hint);
	     kinds &= kinds - 1)
		watch_fire(env, &state->agent, now);
	if ((record->mask & HINTS) != 0 && (declared || hint))
		state->look_now = true;
	if ((record->mask & ARRIVALS) != 0 && hint && names_a_path(state, record, name))
		state->look_now = true;
	if ((record->mask & IN_IGNORED) != 0)
		is_gone(state, record->wd);
}

void watch_inotify_take(struct watch_state *state, struct cellos_probe_env *env)
{
	for (unsigned reads = 0; reads < WATCH_MAX_READS; reads++) {
		ssize_t got = read(state->inotify, state->records, sizeof(state->records));
		uint64_t now = cellos_probe_now();

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno != EAGAIN) {
			/* Never seen; an instance that cannot be read is worth nothing. */
			watch_inotify_close(state);
			return;
		}
		for (ssize_t at = 0; at < got;) {
			struct inotify_event record;

			memcpy(&record, state->records + at, sizeof(record));
			at += (ssize_t)sizeof(record);
			take_record(state, env, &record, (const char *)state->records + at, now);
			at += (ssize_t)record.len;
		}
		/* A read stops short of the end of the buffer only when the queue is empty. */
		if (got < (ssize_t)sizeof(state->records) / 2)
			return;
	}
}

uint64_t watch_inotify_kernel_bytes(void)
{
	return watch_queue_limit("/proc/sys/fs/inotify/max_queued_events") * KERNEL_RECORD_BYTES;
}
