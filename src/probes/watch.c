/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declared paths, not recursive: what each leads to is watched by the best kernel surface that
 * takes it: fanotify, which tells who did it and takes only file systems that can name their
 * inodes, or inotify. So is, unless the path is a directory, the directory that its name stands in,
 * for changes of that name.
 *
 * A record is one event for each kind of change that it tells. (Events of one record do not differ,
 * so they have no order.) The kernel merges records, so there is at least one event per kind since
 * the last read, and no more is promised.
 *
 * A watch sits on an inode, a declaration names a path. When a record hints that the two have
 * parted, and once a second anyway, each path is looked at: its watch is asked for again, which
 * tells whether that is another inode than before. Then the path was unwatched for a while: one
 * occasion under `o`, and one event, unless the directory has told of it already.
 *
 * An inode that no path leads to can keep fanotify's mark, and cannot be named any more to take it
 * away. So once a second, if need be, the whole group is replaced by a new one.
 *
 * The name of a process is read as soon as a record comes; nobody waits for us. One that had ended
 * before is told without a name. Whom the kernel does not tell, the agent stands for.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it.
 * Invariants: a path is watched, or looked for once a second; without paths the thread never wakes.
 * Refuses to: open or read a declared file; guess a name; take by fanotify what has no file handle
 * (overlay, proc, sys, ramfs), whatever the kernel would let us mark there.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fanotify.h>
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "probe_tables.h"
#include "probe_util.h"
#include "watch_record.h"

/* The entries of a directory; what is in a file; hints that a path may lead elsewhere now. Both
   surfaces use the same bits. */
#define ENTRIES (IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO)
#define CONTENT (IN_MODIFY | IN_ATTRIB)
#define HINTS (IN_DELETE_SELF | IN_MOVE_SELF)
/* Hints that come unasked: records, and hints with them, were lost; a mount is gone. */
#define UNASKED (IN_Q_OVERFLOW | IN_UNMOUNT)

/* Reads in a row before stop and the look are due again: more than the default queue holds, with
   the longest names. */
#define MAX_READS 128
/* Processes whose names are known for the time of one wake-up. */
#define ACTORS 16
/* How often a path is asked for again that leads elsewhere meanwhile. */
#define MAX_TRIES 4
/* Not watched before, as 1 says; another inode than that may have a mark of ours now. */
#define STRAYED 2
/* Instead of a descriptor or -errno. */
#define NOT_WANTED (-4096)

enum watch_stat { STAT_WATCHED, STAT_REARMED, STAT_OVERFLOWS };

struct watched {
	const char *path; /* borrowed from the options */
	const char *name; /* its last part, in path */
	uint64_t self;    /* the inode that it leads to, if watched; else 0 */
	uint64_t parent;  /* the directory that the name stands in, the same */
	/* Both before this look: what they told until then is still to be read. Else 0. */
	uint64_t old_self, old_parent;
	int found;        /* by this look: see look_at */
	bool gap_counted; /* it is there, cannot be watched, and `o` says so already */
	/* Its directory told of another inode, and that went out as an event: since this look has
	   asked where the path leads, and before that. */
	bool told, told_before;
};

/* The best first. */
enum { FANOTIFY, INOTIFY, SURFACES };

struct watch_state {
	int fds[SURFACES]; /* owned; -errno: not to be had; NOT_WANTED */
	int refusal;       /* of the surface that would have been better than the last one, or 0 */
	bool look_now;
	bool strays; /* fanotify's marks may be left on inodes that no path leads to any more */
	struct cellos_raw_event agent;          /* an event but for its time: who did it */
	struct cellos_raw_event actors[ACTORS]; /* by pid; one chases out the other */
	size_t count;
	struct watched paths[CELLOS_PROBE_MAX_PATHS];
	uint8_t records[65536];
};

static size_t watch_state_bytes(const struct cellos_probe_options *options)
{
	(void)options;
	return sizeof(struct watch_state);
}

static ssize_t read_file(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, room);

	if (fd >= 0)
		close(fd);
	return got;
}

/* ---- the surfaces --------------------------------------------------------------------------- */

/* FAN_UNLIMITED_MARKS needs CAP_SYS_ADMIN, without which pids would be withheld; with it, nobody
   who uses up root's marks can blind us. How many there are is ours to bound.
   Not libc's calls: musl's header lacks the flags, and the kernel's own clashes with it. */
static int open_fanotify(void)
{
	long fd = syscall(SYS_fanotify_init,
			  FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_REPORT_DFID_NAME | FAN_CLOEXEC |
				  FAN_NONBLOCK | FAN_UNLIMITED_MARKS,
			  O_RDONLY);

	return fd < 0 ? -errno : (int)fd;
}

static int open_inotify(void)
{
	int fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	return fd < 0 ? -errno : fd;
}

/* All that the choice allows. False: nothing. */
static bool open_surfaces(struct watch_state *state, enum cellos_watch_choice choice)
{
	int *fds = state->fds;

	fds[FANOTIFY] = choice == CELLOS_WATCH_INOTIFY ? NOT_WANTED : open_fanotify();
	fds[INOTIFY] = choice == CELLOS_WATCH_FANOTIFY ? NOT_WANTED : open_inotify();
	return fds[FANOTIFY] >= 0 || fds[INOTIFY] >= 0;
}

static bool mark(int fd, unsigned flags, uint64_t mask, const char *path)
{
	return syscall(SYS_fanotify_mark, fd, flags, mask, AT_FDCWD, path) == 0;
}

static int identify(const char *path, uint64_t *inode)
{
	alignas(struct file_handle) uint8_t id[WATCH_ID_HEAD_BYTES + MAX_HANDLE_SZ];
	struct file_handle *handle = (struct file_handle *)(id + sizeof(fsid_t));
	struct statfs status;
	int mount;

	handle->handle_bytes = MAX_HANDLE_SZ;
	if (statfs(path, &status) < 0 ||
	    name_to_handle_at(AT_FDCWD, path, handle, &mount, AT_SYMLINK_FOLLOW) < 0)
		return -errno;
	memcpy(id, &status.f_fsid, sizeof(fsid_t));
	*inode = watch_record_inode(id, WATCH_ID_HEAD_BYTES + handle->handle_bytes);
	return 0;
}

/* Should the path lead elsewhere between two of these calls, then the number may not be that of the
   marked inode, and the next look would take one change for two: so both are asked for again. One
   that leads elsewhere again and again is left to the next look. */
static int add_to_fanotify(int fd, const char *path, uint32_t mask, uint64_t *inode)
{
	uint64_t later = 0;
	int result = identify(path, &later), fresh = 0;

	for (unsigned tries = 0; result == 0 && later != *inode && tries < MAX_TRIES; tries++) {
		*inode = later;
		/* Never asked for: to take it away changes nothing, and fails where there is no
		   mark. (A file system that was away and came back has the same inodes and no
		   marks.) */
		fresh |= !mark(fd, FAN_MARK_REMOVE, FAN_CLOSE_NOWRITE, path);
		if (!mark(fd, FAN_MARK_ADD, mask | FAN_ONDIR | FAN_EVENT_ON_CHILD, path)) {
			*inode = 0;
			return -errno;
		}
		if (tries > 0)
			fresh = STRAYED;
		/* Where it is gone by now, the next look says so. */
		(void)identify(path, &later);
	}
	return result < 0 ? result : fresh;
}

/* The kernel answers with the same number if and only if the path leads to the watched inode. */
static int add_to_inotify(int fd, const char *path, uint32_t mask, uint64_t *inode)
{
	int wd = inotify_add_watch(fd, path, mask | IN_MASK_ADD);

	*inode = wd < 0 ? 0 : (uint64_t)wd;
	return wd < 0 ? -errno : 0;
}

static const struct surface {
	/* Asks for more about what a path leads to, and tells its number, which is 0 before. 1: it
	   was not watched before (inotify says so by the number); STRAYED; 0; -errno. */
	int (*add)(int fd, const char *path, uint32_t mask, uint64_t *inode);
	ssize_t (*parse)(const uint8_t *buffer, size_t len, struct watch_record *out);
	const char *queue_limit; /* how many records the kernel keeps */
	uint32_t record_bytes;   /* what one takes at most, with handles, name and slab */
} surfaces[SURFACES] = {
	{add_to_fanotify, watch_record_fanotify, "/proc/sys/fs/fanotify/max_queued_events", 512},
	{add_to_inotify, watch_record_inotify, "/proc/sys/fs/inotify/max_queued_events", 32 + 256},
};

/* ---- records -------------------------------------------------------------------------------- */

static const struct cellos_raw_event *who(struct watch_state *state, uint32_t pid)
{
	struct cellos_raw_event *actor = &state->actors[pid % ACTORS];
	char path[32];
	ssize_t got;

	if (pid == 0)
		return &state->agent;
	if (actor->pid != pid) {
		snprintf(path, sizeof(path), "/proc/%u/comm", pid);
		got = read_file(path, actor->comm, sizeof(actor->comm));
		actor->pid = pid;
		actor->comm_len = got > 0 ? (uint8_t)(got - 1) : 0; /* less the line's end */
	}
	return actor;
}

static void fire(struct cellos_probe_env *env, const struct cellos_raw_event *actor)
{
	cellos_probe_emit(env, CELLOS_SOURCE_FS_INOTIFY_FIRED, actor->pid, actor->comm,
			  actor->comm_len, cellos_probe_now());
}

static bool is_about(uint64_t inode, const struct watch_record *record)
{
	return inode != 0 && (inode == record->dir || inode == record->self);
}

/* What a record means to one path, as kinds of change. */
static uint32_t kinds_for(struct watch_state *state, struct watched *watched,
			  const struct watch_record *record)
{
	uint32_t kinds = 0, entries = record->mask & ENTRIES;

	if (is_about(watched->self, record) || is_about(watched->old_self, record)) {
		kinds = record->mask & (ENTRIES | CONTENT);
		/* A file that loses a name tells of it so. By a symbolic link its directory is
		   another than the one that is watched, and whoever has it open keeps it alive. */
		state->look_now |= (kinds & IN_ATTRIB) != 0 && watched->parent != 0;
	}
	if (entries != 0 && record->dir != 0 &&
	    (record->dir == watched->parent || record->dir == watched->old_parent) &&
	    strcmp(watched->name, record->name) == 0) {
		watched->told = state->look_now = true;
		kinds |= entries;
	}
	return kinds;
}

static void take_record(struct watch_state *state, struct cellos_probe_env *env,
			const struct watch_record *record)
{
	uint32_t kinds = 0;

	if ((record->mask & IN_Q_OVERFLOW) != 0) {
		cellos_lane_count(env->lane, CELLOS_DROP_OVERFLOW, 1);
		cellos_probe_stat_add(env, STAT_OVERFLOWS, 1);
	}
	state->look_now |= (record->mask & (HINTS | UNASKED)) != 0;
	for (size_t at = 0; at < state->count; at++)
		kinds |= kinds_for(state, &state->paths[at], record);
	/* To fanotify a directory in a watched one tells of itself by its own number, without the
	   parent's. We hear of it only because we watch the parent. */
	if (kinds == 0 && (record->mask & IN_ISDIR) != 0 && watch_record_is_digest(record->dir))
		kinds = record->mask & CONTENT;
	for (; kinds != 0; kinds &= kinds - 1)
		fire(env, who(state, record->pid));
}

/* One read. It fails when there is nothing, or no such surface; nothing else has been seen. */
static bool take_some(struct watch_state *state, struct cellos_probe_env *env, unsigned by, int fd)
{
	ssize_t got = read(fd, state->records, sizeof(state->records)), taken;

	for (ssize_t at = 0; at < got; at += taken) {
		/* What a record that means nothing comes to, for the rest is lost with it. */
		struct watch_record record = {.name = "", .mask = IN_Q_OVERFLOW};

		taken = surfaces[by].parse(state->records + at, (size_t)(got - at), &record);
		if (taken < 0)
			taken = got - at;
		take_record(state, env, &record);
	}
	return got > 0;
}

static void take(struct watch_state *state, struct cellos_probe_env *env)
{
	for (unsigned by = 0; by < SURFACES; by++)
		for (unsigned reads = 0; reads < MAX_READS; reads++)
			if (!take_some(state, env, by, state->fds[by]))
				break;
}

/* ---- paths ---------------------------------------------------------------------------------- */

static bool is_missing(int result)
{
	return result == -ENOENT || result == -ENOTDIR;
}

/* Has what a path leads to watched by the best surface that takes it. */
static int hold(struct watch_state *state, const char *path, uint32_t mask, uint64_t *inode)
{
	int result = 0;

	*inode = 0;
	for (unsigned by = 0; by < SURFACES; by++) {
		if (state->fds[by] == NOT_WANTED)
			continue;
		state->refusal = result;
		result = state->fds[by] < 0 ? state->fds[by]
					    : surfaces[by].add(state->fds[by], path, mask, inode);
		if (result >= 0 || is_missing(result))
			break;
	}
	state->strays |= result == STRAYED;
	return result == STRAYED ? 1 : result;
}

/* Gives up what was watched, unless a path still needs it. */
static void drop(struct watch_state *state, uint64_t inode)
{
	for (size_t at = 0; at < state->count; at++)
		if (state->paths[at].self == inode || state->paths[at].parent == inode)
			return;
	if (watch_record_is_digest(inode))
		state->strays = true;
	else if (inode != 0) /* fails when the kernel has done it */
		(void)inotify_rm_watch(state->fds[INOTIFY], (int)inode);
}

/* Makes one path's watch true again. 1: another inode is watched now; 0: no news; -errno: it cannot
   be watched now. */
static int look_at(struct watch_state *state, struct watched *watched)
{
	const struct watched old = *watched;
	int result, len = (int)(watched->name - watched->path);
	struct stat status;
	char folder[4096]; /* a path is shorter */

	watched->told_before = watched->told;
	watched->told = false;
	/* The directory first, so that what arrives in between is not missed. */
	watched->old_self = old.self;
	watched->old_parent = old.parent;
	watched->parent = 0;
	if (stat(watched->path, &status) < 0 || !S_ISDIR(status.st_mode)) {
		(void)snprintf(folder, sizeof(folder), "%.*s%s", len, watched->path,
			       len > 0 ? "" : ".");
		(void)hold(state, folder, ENTRIES | HINTS, &watched->parent);
	}
	result = hold(state, watched->path, ENTRIES | CONTENT | HINTS, &watched->self);
	drop(state, old.self);
	drop(state, old.parent);
	return result == 0 && watched->self != old.self ? 1 : result;
}

/* In arm: a failure is what `why` tells, else the first path of which there is something to say. */
static void explain(const struct watch_state *state, const struct watched *watched, int result,
		    struct cellos_probe_status *status)
{
	bool failed = result < 0 && !is_missing(result), first = status->why[0] == '\0';

	if (failed && !status->failed)
		cellos_probe_why(status, "cannot watch %s: %s", watched->path, strerror(-result));
	else if (first && state->refusal != 0)
		cellos_probe_why(status, "without the actor, by inotify: %s (fanotify: %s)",
				 watched->path, strerror(-state->refusal));
	else if (first && result < 0)
		cellos_probe_why(status, "waiting for %s", watched->path);
	status->fell_back |= state->refusal != 0;
	status->failed |= failed;
}

/* In arm a watch is no news. One occasion per gap: a missing path has nothing to
   see until it is back, and the gap is counted then; one that is there and cannot be watched may
   never be, so that is counted at once. */
static void judge(struct watch_state *state, struct cellos_probe_env *env, struct watched *watched,
		  bool arming)
{
	bool news = watched->found == 1 && !arming, missing = is_missing(watched->found);
	bool blind = watched->found < 0 && !missing;

	/* What was told since the look has asked may be of a change that it did not meet. The next
	   look, which follows at once, is to know of it, too. */
	if (news && !watched->told && !watched->told_before)
		fire(env, &state->agent);
	if ((news || blind) && !watched->gap_counted)
		cellos_lane_count(env->lane, CELLOS_DROP_OVERFLOW, 1);
	watched->gap_counted = blind || (missing && watched->gap_counted);
	cellos_probe_stat_add(env, STAT_REARMED, news);
	watched->old_self = watched->old_parent = 0;
}

/* The first half of a look: where each path leads. */
static void ask_all(struct watch_state *state, struct cellos_probe_status *status)
{
	state->look_now = false;
	for (size_t at = 0; at < state->count; at++) {
		struct watched *watched = &state->paths[at];

		watched->found = look_at(state, watched);
		if (status != NULL)
			explain(state, watched, watched->found, status);
	}
}

/* The second: what has become of it meanwhile. */
static void judge_all(struct watch_state *state, struct cellos_probe_env *env, bool arming)
{
	uint64_t count = 0;

	/* What was left behind has told of changes until now: they are this path's, and perhaps
	   they tell of the other inode as well, and who put it there. */
	take(state, env);
	for (size_t at = 0; at < state->count; at++) {
		judge(state, env, &state->paths[at], arming);
		count += state->paths[at].self != 0;
	}
	cellos_probe_stat_set(env, STAT_WATCHED, count);
}

static void look_at_all(struct watch_state *state, struct cellos_probe_env *env,
			struct cellos_probe_status *status)
{
	ask_all(state, status);
	judge_all(state, env, status != NULL);
}

/* A new group, without the strays. Its marks are made before those of the old one are given up: a
   change in between is told twice, rather than not at all. */
static void renew(struct watch_state *state, struct cellos_probe_env *env)
{
	int old = state->fds[FANOTIFY], fresh = open_fanotify();

	if (fresh < 0)
		return; /* the strays stay, and are tried again */
	state->fds[FANOTIFY] = fresh;
	state->strays = false;
	for (size_t at = 0; at < state->count; at++) {
		struct watched copy = state->paths[at]; /* the look that follows has the news */

		(void)look_at(state, &copy);
	}
	(void)mark(old, FAN_MARK_FLUSH, 0, "/");
	while (take_some(state, env, FANOTIFY, old))
		;
	close(old);
}

/* ---- life ----------------------------------------------------------------------------------- */

/* The same text twice is one declaration. */
static void take_paths(struct watch_state *state, const struct cellos_probe_options *options)
{
	for (size_t at = 0; at < options->watch_path_count; at++) {
		const char *path = options->watch_paths[at], *slash = strrchr(path, '/');
		size_t known = 0;

		while (known < state->count && strcmp(state->paths[known].path, path) != 0)
			known++;
		if (known == state->count && known < CELLOS_PROBE_MAX_PATHS)
			state->paths[state->count++] = (struct watched){
				.path = path, .name = slash != NULL ? slash + 1 : path};
	}
}

/* By what the paths are watched, or would be while all are waited for; and what the kernel's queues
   may take. */
static void describe(const struct watch_state *state, struct cellos_probe_status *status)
{
	static const char *const names[] = {"fanotify", "inotify", "fanotify+inotify"};
	unsigned used = 0;

	for (size_t at = 0; at < state->count; at++)
		if (state->paths[at].self != 0)
			used |= watch_record_is_digest(state->paths[at].self) ? 1 : 2;
	if (used == 0)
		used = state->fds[FANOTIFY] >= 0 ? 1 : 2;
	status->surface = names[used - 1];
	status->exactness = "merged";
	for (unsigned by = 0; by < SURFACES; by++) {
		char text[32] = "16384"; /* the kernel's default, where /proc does not tell */

		(void)read_file(surfaces[by].queue_limit, text, sizeof(text) - 1);
		if (state->fds[by] >= 0)
			status->kernel_bytes +=
				strtoull(text, NULL, 10) * surfaces[by].record_bytes;
	}
}

static void watch_arm(void *opaque, struct cellos_probe_env *env,
		      struct cellos_probe_status *status)
{
	struct watch_state *state = opaque;

	*status = (struct cellos_probe_status){.surface = "none", .exactness = "none"};
	take_paths(state, env->options);
	if (state->count == 0) {
		state->fds[FANOTIFY] = state->fds[INOTIFY] = NOT_WANTED;
		cellos_probe_why(status, "no --watch path");
		return;
	}
	/* arm runs on the main thread, whose name is the agent's. */
	state->agent.pid = env->agent_pid;
	(void)prctl(PR_GET_NAME, state->agent.comm); /* leaves none, should it fail */
	state->agent.comm_len = (uint8_t)strlen(state->agent.comm);
	/* Paths that others may not read, and marks that tell of the actor: also when no surface is
	   to be had yet. */
	status->needs = UINT64_C(1) << CAP_DAC_READ_SEARCH | UINT64_C(1) << CAP_SYS_ADMIN;
	status->armed = open_surfaces(state, env->options->watch);
	look_at_all(state, env, status);
	if (status->armed)
		describe(state, status);
}

static void watch_run(void *opaque, struct cellos_probe_env *env)
{
	struct watch_state *state = opaque;
	const int *fds = state->fds;
	uint64_t next_look = state->count == 0 ? UINT64_MAX : 0;
	uint64_t linger = env->options->coalesce_ms * CELLOS_NS_PER_MS;
	enum cellos_wait_result result;

	while ((result = cellos_probe_wait_either(env->stop_fd, fds[0], fds[1],
						  state->look_now ? 0 : next_look)) !=
	       CELLOS_WAIT_STOP) {
		bool due;

		/* Numbers are used again, and names change. */
		memset(state->actors, 0, sizeof(state->actors));
		if (result == CELLOS_WAIT_READABLE) {
			/* At once, for who did it may live no longer than that, and leaves no name;
			   and then what gathers, so that a burst costs one wake-up. */
			take(state, env);
			if (cellos_probe_wait(env->stop_fd, -1, cellos_probe_now() + linger) ==
			    CELLOS_WAIT_STOP)
				break;
			take(state, env);
		}
		/* Not put off by looks in between: what only the clock can tell is due then. */
		due = cellos_probe_now() >= next_look;
		if (due && fds[FANOTIFY] < 0 && fds[INOTIFY] < 0)
			(void)open_surfaces(state, env->options->watch);
		if (due && state->strays)
			renew(state, env);
		if (due || state->look_now)
			look_at_all(state, env, NULL);
		if (due)
			next_look = cellos_probe_now() + CELLOS_PROBE_RETRY_NS;
	}
	/* What the kernel has queued until now is still ours to tell, and so is that a path has led
	   elsewhere since the last look: nobody looks again. */
	take(state, env);
	look_at_all(state, env, NULL);
}

static void watch_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct watch_state *state = opaque;

	(void)env;
	for (unsigned by = 0; by < SURFACES; by++)
		if (state->fds[by] >= 0)
			close(state->fds[by]);
}

const struct cellos_probe cellos_probe_watch = {
	.name = "watch",
	.help = "changes of the paths given by --watch, with the actor where fanotify tells",
	.lane = CELLOS_LANE_FS,
	.stat_names = {"watched", "rearmed", "overflows"},
	.state_bytes = watch_state_bytes,
	.arm = watch_arm,
	.run = watch_run,
	.disarm = watch_disarm,
};
