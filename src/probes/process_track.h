/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What is a process, when it is over, and when to report it under which name: messages and walks
 * in, events out. Both ways to see feed the same: the kernel's messages with a walk after a loss,
 * or walks alone.
 *
 *   process   a thread group; never a kernel thread. What the kernel itself forks counts from its
 *             exec on (a usermode helper), and not at all without one
 *   over      its leader has exited and the last of its threads has said that it is the last; or
 *             all threads counted since its fork have exited; or it is gone from /proc, or a zombie
 *             there without other threads. An exit of the leader alone means nothing
 *   the same  pid and start time, as far as the latter is known; a fork of a known pid is another
 *   name      the one after the first exec. The report of a spawn is held until that is known, the
 *             process is over, `hold_ns` has passed or the table is full, and while its parent's is
 *             held; it says the best name known then, the parent's only without an exec
 *
 * Pure but for the two calls that it is given; time comes with each call. Memory is the caller's.
 *
 * Threads: one. Invariants: per process one spawned before one exited, a parent spawned before its
 * child; what the first walk finds is not reported as spawned; nothing is concluded from a walk
 * that did not come to its end. Refuses to: guess a name.
 */
#ifndef CELLOS_PROCESS_TRACK_H
#define CELLOS_PROCESS_TRACK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"
#include "proc_parse.h"
#include "proc_table.h"

#define PROCESS_NOBODY UINT32_MAX

/* What the exit listener says of one task. */
struct process_exit {
	uint32_t pid;
	uint32_t tgid; /* 0 unless knows_group */
	uint32_t parent;
	bool knows_group; /* tgid and group_dead are told */
	bool group_dead;  /* it was the last of its group */
	bool never_execed;
	uint8_t comm_len;
	char comm[16];
};

struct process_track_config {
	uint32_t max;
	uint32_t kthreadd; /* its pid; PROCESS_NOBODY where it has none */
	uint64_t hold_ns;
	bool by_walks;   /* no messages: what ends is known by walks alone */
	bool told_exits; /* an exit listener gives the last names */
	void (*emit)(void *context, enum cellos_probe_source source, const struct proc_entry *entry,
		     uint64_t ns);
	/* What /proc says of it now: 0, or -errno; -ENOENT or -ESRCH when it is not there. */
	int (*look)(void *context, uint32_t pid, struct cellos_proc_stat *out);
	void *context;
};

struct process_track {
	struct process_track_config config;
	struct proc_table table;
	uint32_t *held; /* pids with PROC_PENDING, in order of arrival */
	uint32_t held_count;
	bool have_snapshot; /* a first walk came to its end */
	bool walking;
	bool recovering;     /* from a loss until the walk that follows it has ended */
	uint64_t table_full; /* processes that found no entry */
};

size_t process_track_bytes(uint32_t max);
/* `memory` is zeroed, aligned for any type, of process_track_bytes(config->max). */
void process_track_init(struct process_track *track, const struct process_track_config *config,
			void *memory);

/* The kernel's messages, in its order. `exit` is NULL when the listener said nothing. */
void process_track_fork(struct process_track *track, uint32_t parent, uint32_t pid, uint32_t tgid,
			uint64_t ns);
void process_track_exec(struct process_track *track, uint32_t tgid, uint64_t ns);
void process_track_exit(struct process_track *track, uint32_t pid, uint32_t tgid, uint64_t ns,
			const struct process_exit *exit);
/* Messages were lost: counts are void until a walk has put it right. */
void process_track_lost(struct process_track *track);

/* A walk: begin, each directory of /proc, then all messages that came meanwhile, end. `now` of
   `seen` is from before the look. `unreadable`: it is there, more is not known. */
void process_track_walk_begin(struct process_track *track);
void process_track_seen(struct process_track *track, const struct cellos_proc_stat *stat,
			uint64_t now);
void process_track_unreadable(struct process_track *track, uint32_t pid);
/* `complete`: the listing came to its end; `sound`: and nothing in it was unreadable. */
void process_track_walk_end(struct process_track *track, bool complete, bool sound, uint64_t now);

/* Reports what need not be held any more, or everything; when to call again, UINT64_MAX: when
   something has happened. */
uint64_t process_track_settle(struct process_track *track, uint64_t now);
void process_track_flush(struct process_track *track, uint64_t now);

/* Gone but for its exit status. A zombie with threads left is a leader that went first. */
bool process_is_over(const struct cellos_proc_stat *stat);

#endif
