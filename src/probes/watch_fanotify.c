/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declared paths by fanotify, not recursive: each event carries the process that did it.
 *
 * A mark sits on an inode, a declaration names a path. To look is to compare the identity of what
 * the path leads to with the one that was marked, and to ask whether the mark is still there (a
 * file system that was unmounted and mounted again has the same identities and no marks). What is
 * marked for a path that is no directory: the inode itself, whatever other names it has; and the
 * directory that its name stands in, for events about that name, which also tell at once that the
 * path leads elsewhere now. A missing path's directory is marked, too.
 *
 * An inode that no path leads to can keep its mark, and cannot be named any more to take it away.
 * So now and then the whole group is replaced by a new one (renew): the marks that are wanted are
 * made in the new one before those of the old one are given up.
 *
 * The name of a process is read at once, while it lasts; nobody waits for us. A process that had
 * ended before is told without a name.
 *
 * Threads: see watch.h. Invariant: at any time one group holds a mark for each path held.
 * Refuses to: guess a name; take a file system that cannot name its inodes (overlay, proc, sys,
 * ramfs), whatever the kernel would let us mark there; run without the right to be told the pid.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/fanotify.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "probe_util.h"
#include "watch.h"

/* The entries of a directory, and what is in a file. */
#define ENTRIES (FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO)
#define CONTENT (FAN_MODIFY | FAN_ATTRIB)
/* Hints that a path may lead elsewhere now. */
#define HINTS (FAN_DELETE_SELF | FAN_MOVE_SELF)

#define FILE_MASK (CONTENT | HINTS)
#define PARENT_MASK (ENTRIES | HINTS | FAN_ONDIR)
#define DIRECTORY_MASK (ENTRIES | CONTENT | HINTS | FAN_ONDIR | FAN_EVENT_ON_CHILD)
/* Never asked for: to take it away changes nothing, and fails where there is no mark. */
#define NO_MASK FAN_CLOSE_NOWRITE

/* Rounds of WATCH_MAX_READS that empty any queue of the default length, whatever the names. */
#define RENEW_ROUNDS 8

/* One event in the kernel's queue: two handles, the longest name, their slab. */
#define KERNEL_RECORD_BYTES 512u

/* Not libc's: musl's header lacks the flags, and the kernel's own clashes with it. */
static int fanotify_mark(int fd, unsigned flags, uint64_t mask, const char *path)
{
	return syscall(SYS_fanotify_mark, fd, flags, mask, AT_FDCWD, path) < 0 ? -errno : 0;
}

/* FAN_UNLIMITED_MARKS needs CAP_SYS_ADMIN, without which pids would be withheld; with it, nobody
   who uses up root's marks can blind us. How many there are is ours to bound. */
static int open_group(void)
{
	long fd = syscall(SYS_fanotify_init,
			  FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_REPORT_DFID_NAME | FAN_CLOEXEC |
				  FAN_NONBLOCK | FAN_UNLIMITED_MARKS,
			  O_RDONLY);

	return fd < 0 ? -errno : (int)fd;
}

/* ---- paths ---------------------------------------------------------------------------------- */

static bool is_id(const struct watch_id *known, const struct fanotify_id *seen)
{
	return known->len > 0 && known->len == seen->len &&
	       memcmp(known->bytes, seen->bytes, seen->len) == 0;
}

static bool is_same(const struct watch_id *one, const struct watch_id *other)
{
	return one->len == other->len && memcmp(one->bytes, other->bytes, one->len) == 0;
}

/* The bytes that the kernel will name this inode by. */
static int identify(const char *path, struct watch_id *id)
{
	union {
		struct file_handle handle;
		uint8_t bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} room;
	struct statfs fs;
	int mount;

	id->len = 0;
	room.handle.handle_bytes = MAX_HANDLE_SZ;
	if (statfs(path, &fs) < 0 ||
	    name_to_handle_at(AT_FDCWD, path, &room.handle, &mount, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	_Static_assert(sizeof(fs.f_fsid) + sizeof(struct file_handle) == FANOTIFY_ID_HEAD_BYTES,
		       "the layout of a record's identity");
	memcpy(id->bytes, &fs.f_fsid, sizeof(fs.f_fsid));
	memcpy(id->bytes + sizeof(fs.f_fsid), room.bytes,
	       sizeof(struct file_handle) + room.handle.handle_bytes);
	id->len = FANOTIFY_ID_HEAD_BYTES + room.handle.handle_bytes;
	return 0;
}

static bool still_holds(const struct watch_state *state, const struct watched *watched)
{
	struct watch_id now;

	return watched->by == WATCH_BY_FANOTIFY && identify(watched->path, &now) == 0 &&
	       is_same(&now, &watched->id) &&
	       fanotify_mark(state->fanotify, FAN_MARK_REMOVE, NO_MASK, watched->path) == 0;
}

/* Before the path itself, so that what arrives in between is not missed. */
static void mark_parent(struct watch_state *state, struct watched *watched, bool wanted)
{
	const char *parent = wanted ? watch_parent(state, watched) : NULL;
	struct watch_id old = watched->parent;

	watched->parent.len = 0;
	if (parent != NULL &&
	    fanotify_mark(state->fanotify, FAN_MARK_ADD, PARENT_MASK, parent) == 0 &&
	    identify(parent, &watched->parent) < 0)
		(void)fanotify_mark(state->fanotify, FAN_MARK_REMOVE, PARENT_MASK, parent);
	state->strays |= old.len > 0 && !is_same(&old, &watched->parent);
}

/* Between two calls the path may have come to lead elsewhere; what was marked and what was
   identified must be the same. */
static int mark_path(struct watch_state *state, struct watched *watched, const struct stat *before)
{
	bool is_dir = S_ISDIR(before->st_mode);
	struct stat after;
	int result = fanotify_mark(state->fanotify, FAN_MARK_ADD,
				   is_dir ? DIRECTORY_MASK : FILE_MASK, watched->path);

	if (result < 0)
		return result;
	result = identify(watched->path, &watched->id);
	if (result == 0 && stat(watched->path, &after) == 0 && after.st_ino == before->st_ino &&
	    after.st_dev == before->st_dev) {
		watched->is_dir = is_dir;
		return 0;
	}
	/* What was marked may be elsewhere already; what has come is told by the directory. */
	state->strays |= result != -EOPNOTSUPP;
	(void)fanotify_mark(state->fanotify, FAN_MARK_REMOVE, DIRECTORY_MASK, watched->path);
	watched->id.len = 0;
	return result < 0 ? result : -ENOENT;
}

int watch_fanotify_look(struct watch_state *state, struct watched *watched)
{
	bool is_dir, holds = still_holds(state, watched);
	struct stat status;
	int result;

	if (holds) {
		mark_parent(state, watched, !watched->is_dir);
		return 0;
	}
	state->strays |= watched->id.len > 0;
	watched->by = WATCH_BY_NONE;
	watched->id.len = 0;
	is_dir = stat(watched->path, &status) == 0 && S_ISDIR(status.st_mode);
	mark_parent(state, watched, !is_dir);
	/* Again: it may have come before its directory was marked. */
	result = stat(watched->path, &status) < 0 ? -errno : mark_path(state, watched, &status);
	if (result < 0)
		return result;
	watched->by = WATCH_BY_FANOTIFY;
	return 1;
}

int watch_fanotify_open(struct watch_state *state)
{
	int fd = open_group();

	state->fanotify = fd < 0 ? -1 : fd;
	state->strays = false;
	return fd < 0 ? fd : 0;
}

void watch_fanotify_close(struct watch_state *state)
{
	close(state->fanotify);
	state->fanotify = -1;
	for (size_t at = 0; at < state->count; at++) {
		struct watched *watched = &state->paths[at];

		watched->id.len = watched->parent.len = 0;
		if (watched->by == WATCH_BY_FANOTIFY)
			watched->by = WATCH_BY_NONE;
	}
}

/* ---- records -------------------------------------------------------------------------------- */

/* The name of a thread group; the last one that was read, if it has ended since. */
static void read_name(struct watch_actor *actor)
{
	char path[32], text[32];
	ssize_t got;
	int fd;

	actor->fresh = true;
	snprintf(path, sizeof(path), "/proc/%u/comm", actor->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	got = read(fd, text, sizeof(text));
	close(fd);
	if (got > 0 && text[got - 1] == '\n')
		got--;
	if (got > CELLOS_RAW_COMM_MAX_BYTES)
		got = CELLOS_RAW_COMM_MAX_BYTES;
	if (got >= 0) {
		memcpy(actor->comm, text, (size_t)got);
		actor->comm_len = (uint8_t)got;
	}
}

/* A process may change its name at any time: with each round of records it is read again. */
static const struct watch_actor *who(struct watch_state *state, uint32_t pid)
{
	struct watch_actor *actor = NULL;

	if (pid == 0)
		return &state->agent;
	for (size_t at = 0; at < WATCH_ACTORS && at < state->actor_count && actor == NULL; at++)
		if (state->actors[at].pid == pid)
			actor = &state->actors[at];
	if (actor == NULL) {
		actor = &state->actors[state->actor_count++ % WATCH_ACTORS];
		*actor = (struct watch_actor){.pid = pid};
	}
	if (!actor->fresh)
		read_name(actor);
	return actor;
}

/* What a record means to one path, as kinds of change. */
static uint64_t kinds_for(struct watched *watched, const struct fanotify_record *record)
{
	uint64_t entries = record->mask & ENTRIES;

	if (watched->by == WATCH_BY_FANOTIFY && watched->is_dir)
		return is_id(&watched->id, &record->dir) ? record->mask & (ENTRIES | CONTENT) : 0;
	if (entries != 0 && is_id(&watched->parent, &record->dir) &&
	    watch_is_name(watched, record->name, record->name_len)) {
		watched->told = true;
		return entries;
	}
	return is_id(&watched->id, &record->self) ? record->mask & CONTENT : 0;
}

/* A directory in a watched one tells of itself by its own identity, without the parent's. We hear
   of it only because we watch the parent. */
static bool is_of_a_child(const struct watch_state *state, const struct fanotify_record *record)
{
	if ((record->mask & FAN_ONDIR) == 0 || (record->mask & ENTRIES) != 0)
		return false;
	for (size_t at = 0; at < state->count; at++)
		if (state->paths[at].by == WATCH_BY_FANOTIFY && state->paths[at].is_dir)
			return true;
	return false;
}

static void take_record(struct watch_state *state, struct cellos_probe_env *env,
			const struct fanotify_record *record, uint64_t now)
{
	/* A record that merged several kinds is told in this order, whatever the real one was. */
	static const uint64_t order[] = {FAN_CREATE, FAN_MODIFY,     FAN_ATTRIB,
					 FAN_DELETE, FAN_MOVED_FROM, FAN_MOVED_TO};
	uint64_t kinds = 0;

	if ((record->mask & FAN_Q_OVERFLOW) != 0) {
		watch_overflow(state, env);
		return;
	}
	for (size_t at = 0; at < state->count; at++) {
		kinds |= kinds_for(&state->paths[at], record);
		state->look_now |= state->paths[at].told;
	}
	if (kinds == 0 && is_of_a_child(state, record))
		kinds = record->mask & CONTENT;
	for (size_t at = 0; at < sizeof(order) / sizeof(order[0]); at++)
		if ((kinds & order[at]) != 0)
			watch_fire(env, who(state, record->pid), now);
	if ((record->mask & HINTS) != 0)
		state->look_now = true;
}

/* False: the rest of what was read means nothing. */
static bool take_buffer(struct watch_state *state, struct cellos_probe_env *env, size_t len)
{
	uint64_t now = cellos_probe_now();

	for (size_t at = 0; at < len;) {
		struct fanotify_record record;
		int taken = fanotify_record_parse(state->records + at, len - at, &record);

		if (taken < 0)
			return false;
		take_record(state, env, &record, now);
		at += (size_t)taken;
	}
	return true;
}

/* False: there may be more. */
static bool take_some(struct watch_state *state, struct cellos_probe_env *env)
{
	for (size_t at = 0; at < WATCH_ACTORS; at++)
		state->actors[at].fresh = false;
	for (unsigned reads = 0; reads < WATCH_MAX_READS; reads++) {
		ssize_t got = read(state->fanotify, state->records, sizeof(state->records));

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 && errno != EAGAIN) {
			/* Never seen; a group that cannot be read is worth nothing. */
			watch_fanotify_close(state);
			return true;
		}
		if (got > 0 && !take_buffer(state, env, (size_t)got)) {
			cellos_lane_count(env->lane, CELLOS_DROP_OVERFLOW, 1);
			cellos_probe_stat_add(env, STAT_MALFORMED, 1);
			state->look_now = true;
		}
		/* A read stops short of the end of the buffer only when the queue is empty. */
		if (got < (ssize_t)sizeof(state->records) / 2)
			return true;
	}
	return false;
}

void watch_fanotify_take(struct watch_state *state, struct cellos_probe_env *env)
{
	(void)take_some(state, env);
}

/* ---- a new group ---------------------------------------------------------------------------- */

static void remark(struct watch_state *state, struct watched *watched)
{
	const char *parent = watch_parent(state, watched);

	if (watched->by == WATCH_BY_FANOTIFY)
		(void)fanotify_mark(state->fanotify, FAN_MARK_ADD,
				    watched->is_dir ? DIRECTORY_MASK : FILE_MASK, watched->path);
	if (watched->parent.len > 0 && parent != NULL)
		(void)fanotify_mark(state->fanotify, FAN_MARK_ADD, PARENT_MASK, parent);
}

void watch_fanotify_renew(struct watch_state *state, struct cellos_probe_env *env)
{
	int old = state->fanotify, fresh = open_group();

	if (fresh < 0)
		return; /* the strays stay, and are tried again */
	state->fanotify = fresh;
	for (size_t at = 0; at < state->count; at++)
		remark(state, &state->paths[at]);
	/* A change in between is told twice, rather than not at all. */
	(void)fanotify_mark(old, FAN_MARK_FLUSH, 0, "/");
	state->fanotify = old;
	for (unsigned rounds = 0; rounds < RENEW_ROUNDS && !take_some(state, env);)
		rounds++;
	if (state->fanotify >= 0)
		close(old);
	state->fanotify = fresh;
	state->strays = false;
}

uint64_t watch_fanotify_kernel_bytes(void)
{
	return watch_queue_limit("/proc/sys/fs/fanotify/max_queued_events") * KERNEL_RECORD_BYTES;
}
