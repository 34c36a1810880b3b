/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the watch probe's three files share: the declared paths and who watches each.
 *
 * watch.c chooses, looks and counts; watch_fanotify.c and watch_inotify.c each know one kernel
 * surface and nothing of the other. Both answer a look alike: 1 when another inode is watched now
 * than before, 0 when nothing has changed, -errno when the path cannot be watched.
 *
 * Threads: the probe's own; the main thread in arm and disarm. Invariant: a path is held by one
 * surface at most. Refuses to: open or read a declared file.
 */
#ifndef CELLOS_PROBE_WATCH_H
#define CELLOS_PROBE_WATCH_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/inotify.h>

#include "cellos/probe.h"
#include "fanotify_record.h"

/* Reads in a row before stop and the look are due again: more than the default queue holds. */
#define WATCH_MAX_READS 32
#define WATCH_DEFAULT_QUEUED_EVENTS 16384u

enum watch_stat { STAT_WATCHED, STAT_REARMED, STAT_OVERFLOWS, STAT_MALFORMED };

enum watch_by { WATCH_BY_NONE, WATCH_BY_FANOTIFY, WATCH_BY_INOTIFY };

struct watch_actor {
	uint32_t pid;
	uint8_t comm_len; /* 0: not known */
	bool fresh;       /* read since the last records were */
	char comm[16];
};

struct watch_id {
	size_t len; /* 0: none */
	uint8_t bytes[FANOTIFY_ID_MAX_BYTES];
};

struct watched {
	const char *path; /* borrowed from the options */
	const char *name; /* its last part, in path; NULL: it has none */
	size_t name_len;
	enum watch_by by;
	int refusal;      /* errno of the surface that would have been better; 0 */
	bool gap_counted; /* it is there, cannot be watched, and `o` says so already */
	bool told;        /* its directory told of another inode, and that went out as an event */
	bool is_dir;      /* fanotify's, as of the last look */
	int wd;           /* inotify's; -1: none */
	int parent_wd;
	struct watch_id id; /* fanotify's; none unless held by it */
	struct watch_id parent;
};

/* Processes whose names were read since a record was last waited for. */
#define WATCH_ACTORS 8

struct watch_state {
	int fanotify; /* owned; -1 while it cannot be had, is not wanted, and without paths */
	int inotify;  /* the same */
	bool look_now;
	bool strays; /* fanotify marks may be left on inodes that no path leads to any more */
	struct watch_actor agent; /* who did it, when nobody knows */
	struct watch_actor actors[WATCH_ACTORS];
	size_t actor_count;
	size_t count;
	struct watched paths[CELLOS_PROBE_MAX_PATHS];
	char parent[4096]; /* a path is shorter */
	alignas(struct inotify_event) uint8_t records[65536];
};

/* ---- watch.c -------------------------------------------------------------------------------- */

void watch_fire(struct cellos_probe_env *env, const struct watch_actor *actor, uint64_t now);
void watch_overflow(struct watch_state *state, struct cellos_probe_env *env);
/* The directory that the path's last part stands in, in state->parent; NULL: it has none. */
const char *watch_parent(struct watch_state *state, const struct watched *watched);
bool watch_is_name(const struct watched *watched, const char *name, size_t len);
/* A limit from /proc/sys, or the kernel's default. */
uint64_t watch_queue_limit(const char *file);

/* ---- one surface each ------------------------------------------------------------------------ */

int watch_inotify_open(struct watch_state *state);
void watch_inotify_close(struct watch_state *state);
int watch_inotify_look(struct watch_state *state, struct watched *watched);
void watch_inotify_forget(struct watch_state *state, struct watched *watched);
void watch_inotify_take(struct watch_state *state, struct cellos_probe_env *env);
uint64_t watch_inotify_kernel_bytes(void);

int watch_fanotify_open(struct watch_state *state);
void watch_fanotify_close(struct watch_state *state);
int watch_fanotify_look(struct watch_state *state, struct watched *watched);
void watch_fanotify_take(struct watch_state *state, struct cellos_probe_env *env);
/* Gets rid of marks that are left behind, without a moment of blindness for the paths. */
void watch_fanotify_renew(struct watch_state *state, struct cellos_probe_env *env);
uint64_t watch_fanotify_kernel_bytes(void);

#endif
