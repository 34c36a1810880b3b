/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What is a process, when it is over, and when to tell it under which name: messages and walks in,
 * events out. Both ways to see feed the same: the kernel's messages with a walk after a loss, or
 * walks alone.
 *
 *   process   a thread group; never a kernel thread. What the kernel itself forks counts from its
 *             exec on (a usermode helper), and not at all without one
 *   over      its leader has exited and the last of its threads has said that it is the last; or
 *             all threads counted since its fork have exited; or it is gone from /proc, or a zombie
 *             there without other threads. An exit of the leader alone means nothing
 *   the same  pid and start time, as far as the latter is known; a fork of a known pid is another
 *   name      the one after the first exec. A spawn is held until that is known, the process is
 *             over, PROCESS_HOLD_NS have passed or the table is full, and while that of an older
 *             process is held, so all are told in the order of their forks. It says the best name
 *             known then, the parent's only without an exec
 *   no room   of what finds the table full a bit is kept alone: its spawn is told at once, its exit
 *             when it is gone, and no name is promised
 *
 * The table is a fixed array, whose entries never move: found by chains, free ones in a row.
 *
 * Threads: one. Invariants: per process one spawned before one exited, a parent spawned before its
 * child; what the first walk finds is not told as spawned; nothing is concluded from a walk that
 * did not come to its end. Refuses to: guess a name; allocate.
 */
#include <errno.h>
#include <string.h>

#include "probe_util.h"
#include "process.h"

#define KTHREADD 2 /* in the initial PID namespace, where alone the connector speaks */
/* A walk may see a child before the message of its fork has its time stamp. */
#define SAME_FORK_NS (100 * CELLOS_NS_PER_MS)

static void release(struct process_state *state);

/* ---- the table ------------------------------------------------------------------------------ */

static uint32_t chains_for(uint32_t max)
{
	uint32_t chains = 16;

	while (chains < max)
		chains *= 2;
	return chains;
}

size_t process_track_bytes(uint32_t max)
{
	return (max + 1) * sizeof(struct process) + chains_for(max) * sizeof(uint32_t) +
	       CELLOS_PID_LIMIT / 8;
}

void process_track_init(struct process_state *state)
{
	uint32_t max = state->env->options->max_processes;
	struct process_track *track = &state->track;

	track->chains = (uint32_t *)&state->entries[max + 1];
	track->roomless = track->chains + chains_for(max);
	track->mask = chains_for(max) - 1;
	track->held_end = &track->held;
}

/* The link to the pid, or the end of its chain. Pids come in runs: their low bits spread well. */
static uint32_t *link_of(struct process_state *state, uint32_t pid)
{
	uint32_t *link = &state->track.chains[pid & state->track.mask];

	while (*link != 0 && state->entries[*link].pid != pid)
		link = &state->entries[*link].next;
	return link;
}

/* NULL: not known. One without room is [0] until the next is looked for. */
static struct process *find(struct process_state *state, uint32_t pid)
{
	struct process *process = &state->entries[*link_of(state, pid)];

	if (process != state->entries)
		return process;
	if (pid >= CELLOS_PID_LIMIT || (state->track.roomless[pid / 32] & 1u << pid % 32) == 0)
		return NULL;
	*process = (struct process){.pid = pid, .leader_gone = true};
	return process;
}

static bool has_room(const struct process_state *state, const struct process *process)
{
	return process != state->entries;
}

/* `fresh` is not known yet. */
static struct process *add(struct process_state *state, const struct process *fresh)
{
	struct process_track *track = &state->track;
	uint32_t max = state->env->options->max_processes, at;

	while (track->unused == 0 && track->used == max && track->held != NULL)
		release(state); /* which makes room if it is over */
	at = track->unused;
	if (at != 0)
		track->unused = state->entries[at].next;
	else if (track->used < max)
		at = ++track->used;
	if (at != 0) {
		*link_of(state, fresh->pid) = at;
	} else {
		track->roomless[fresh->pid / 32] |= 1u << fresh->pid % 32;
		cellos_probe_stat_add(state->env, STAT_TABLE_FULL, 1);
	}
	state->entries[at] = *fresh;
	return &state->entries[at];
}

static void forget(struct process_state *state, struct process *process)
{
	struct process_track *track = &state->track;

	if (has_room(state, process)) {
		*link_of(state, process->pid) = process->next;
		*process = (struct process){.next = track->unused};
		track->unused = (uint32_t)(process - state->entries);
	} else {
		track->roomless[process->pid / 32] &= ~(1u << process->pid % 32);
	}
}

/* ---- one process ---------------------------------------------------------------------------- */

static void tell(struct process_state *state, enum cellos_probe_source source,
		 const struct process *process, uint64_t ns)
{
	cellos_probe_emit(state->env, source, process->pid, process->comm, process->comm_len, ns);
}

static void set_name(struct process *process, enum process_name name, const char *comm, size_t len)
{
	process->name = name;
	process->comm_len = (uint8_t)len;
	memcpy(process->comm, comm, len);
}

/* What was read of it, now. */
static void remember(struct process *process, const struct cellos_proc_stat *stat)
{
	bool execed = (stat->flags & CELLOS_PF_FORKNOEXEC) == 0;

	process->starttime = stat->starttime;
	process->leader_gone = stat->state == 'Z';
	set_name(process, execed ? NAME_KNOWN : NAME_INHERITED, stat->comm, stat->comm_len);
}

static void look(struct process_state *state, struct process *process)
{
	struct cellos_proc_stat stat;

	if (process_look(state, process->pid, &stat) == 0 &&
	    (process->starttime == 0 || process->starttime == stat.starttime))
		remember(process, &stat);
}

/* Gone but for its exit status. A zombie with threads left is a leader that went first. */
static bool is_over(const struct cellos_proc_stat *stat)
{
	return stat->state == 'X' || stat->state == 'x' ||
	       (stat->state == 'Z' && stat->num_threads <= 1);
}

static bool is_gone(const struct process_state *state, const struct process *process)
{
	struct cellos_proc_stat stat;
	int result = process_look(state, process->pid, &stat);

	if (result != 0)
		return result == -ENOENT || result == -ESRCH;
	return is_over(&stat) || (process->starttime != 0 && process->starttime != stat.starttime);
}

/* Its spawn is told when its name is known, or at once if nothing can be kept of it. */
static void hold(struct process_state *state, struct process *process)
{
	if (!has_room(state, process)) {
		look(state, process);
		tell(state, CELLOS_SOURCE_PROCESS_SPAWNED, process, process->born_ns);
		return;
	}
	process->held = true;
	process->next_held = NULL;
	*state->track.held_end = process;
	state->track.held_end = &process->next_held;
}

/* It is over. While its spawn is held, so is this. */
static void finish(struct process_state *state, struct process *process, uint64_t ns)
{
	struct exit_record record;

	if (process->over_ns == 0)
		process->over_ns = ns;
	if (process->held)
		return;
	/* A walk found out before the message came; the record is older than either. */
	if (process->name == NAME_UNKNOWN && process_exit_record(state, process->pid, &record))
		set_name(process, NAME_KNOWN, record.comm, record.comm_len);
	if (!process->kernel && !process->told)
		tell(state, CELLOS_SOURCE_PROCESS_EXITED, process, process->over_ns);
	process->told = true;
	if (process->gone)
		forget(state, process);
}

/* Tells the spawn that is held longest. */
static void release(struct process_state *state)
{
	struct process *process = state->track.held;

	state->track.held = process->next_held;
	if (state->track.held == NULL)
		state->track.held_end = &state->track.held;
	process->held = false;
	tell(state, CELLOS_SOURCE_PROCESS_SPAWNED, process, process->born_ns);
	if (process->over_ns != 0)
		finish(state, process, process->over_ns);
}

/* It is over, and its number is free, or another's now. */
static void bury(struct process_state *state, struct process *process, uint64_t ns)
{
	process->gone = true;
	finish(state, process, ns);
}

/* The number is another's from now on. */
static void replace(struct process_state *state, struct process *process, uint64_t ns)
{
	bury(state, process, ns);
	while (process->held)
		release(state);
}

static bool is_ready(struct process_state *state, struct process *process, uint64_t now)
{
	bool due = now >= process->born_ns + PROCESS_HOLD_NS;

	if (process->over_ns == 0 &&
	    (process->name == NAME_UNKNOWN || (process->name == NAME_INHERITED && due)))
		look(state, process);
	return due || process->over_ns != 0 || process->name == NAME_KNOWN;
}

uint64_t process_settle(struct process_state *state, uint64_t now)
{
	while (state->track.held != NULL && is_ready(state, state->track.held, now))
		release(state);
	return state->track.held != NULL ? state->track.held->born_ns + PROCESS_HOLD_NS
					 : UINT64_MAX;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* Threads of the kernel are not in the table, unless they were forked before our eyes. */
static bool is_kernels(struct process_state *state, const struct process *parent, uint32_t pid)
{
	struct cellos_proc_stat stat;

	if (pid == KTHREADD || parent != NULL)
		return pid == KTHREADD || parent->kernel;
	return process_look(state, pid, &stat) == 0 && (stat.flags & CELLOS_PF_KTHREAD) != 0;
}

void process_forked(struct process_state *state, uint32_t parent, uint32_t pid, uint32_t tgid,
		    uint64_t ns)
{
	struct process *process = find(state, tgid), *from;
	struct process child = {.pid = pid, .born_ns = ns, .threads = 1, .walk = state->track.walk};

	if (pid != tgid) {
		if (process != NULL && process->threads > 0)
			process->threads++;
		return;
	}
	if (pid == 0 || pid >= CELLOS_PID_LIMIT)
		return; /* a CPU's idle task */
	if (process != NULL && process->walked && process->over_ns == 0 &&
	    ns < process->born_ns + SAME_FORK_NS) { /* a walk saw it first */
		process->walked = false;
		process->walk = state->track.walk;
		process->born_ns = ns;
		return;
	}
	if (process != NULL)
		replace(state, process, ns);
	from = find(state, parent);
	if (from != NULL)
		set_name(&child, NAME_INHERITED, from->comm, from->comm_len);
	child.kernel = is_kernels(state, from, parent);
	process = add(state, &child);
	if (!child.kernel)
		hold(state, process);
	else if (!has_room(state, process))
		forget(state, process);
}

void process_execed(struct process_state *state, uint32_t tgid, uint64_t ns)
{
	struct process *process = find(state, tgid);
	struct cellos_proc_stat stat;

	if (process == NULL) {
		/* Its fork was lost, or it is the kernel's and found no room. */
		if (process_look(state, tgid, &stat) == 0)
			process_seen(state, tgid, &stat, ns);
		return;
	}
	/* What it was called before is nobody's name now. An exec by another thread ends the leader
	   that was and takes its number. */
	set_name(process, NAME_UNKNOWN, "", 0);
	process->leader_gone = !has_room(state, process);
	if (process->kernel) {
		process->kernel = false;
		hold(state, process);
	} else if (state->exits.socket.fd < 0 && !process->held) {
		look(state, process); /* otherwise its exit tells the last name */
	}
}

/* Of one whose fork was lost and whom no walk has met. */
static bool exit_of_stranger(struct process_state *state, struct process *process,
			     const struct exit_record *record)
{
	bool thread_of_kernel = record->never_execed && record->parent == KTHREADD;

	if (!state->track.recovering || thread_of_kernel ||
	    !(record->knows_group ? record->last : is_gone(state, process)))
		return false;
	tell(state, CELLOS_SOURCE_PROCESS_SPAWNED, process, process->born_ns);
	tell(state, CELLOS_SOURCE_PROCESS_EXITED, process, process->born_ns);
	return true;
}

/* With the record where the kernel tells it, else by counting, else by what /proc says. A record
   may also come before the leader's exit, then the leader's has the name. */
static bool is_last_exit(const struct process_state *state, struct process *process, bool said)
{
	if (process->leader_gone && said)
		return true;
	if (process->threads > 0)
		return --process->threads == 0;
	return process->leader_gone && is_gone(state, process);
}

void process_exited(struct process_state *state, uint32_t pid, uint32_t tgid, uint64_t ns)
{
	struct process *process = find(state, tgid);
	struct process stranger = {.pid = tgid, .born_ns = ns};
	struct exit_record record = {0};
	bool recorded = process_exit_record(state, pid, &record);

	if (process == NULL)
		process = &stranger;
	else if (process->walked && ns < process->born_ns)
		return; /* of whoever had the number before */
	if (pid == tgid) {
		process->leader_gone = true;
		if (recorded)
			set_name(process, NAME_KNOWN, record.comm, record.comm_len);
	}
	if (process == &stranger)
		(void)(recorded && exit_of_stranger(state, process, &record));
	else if (is_last_exit(state, process, record.last)) {
		process->over_ns = ns;
		bury(state, process, ns);
	}
}

void process_lost(struct process_state *state)
{
	state->track.recovering = true;
	for (uint32_t at = 1; at <= state->track.used; at++)
		state->entries[at].threads = 0;
}

/* ---- walks ---------------------------------------------------------------------------------- */

void process_walk_begin(struct process_state *state)
{
	state->track.walk++;
}

static struct process *meet(struct process_state *state, const struct cellos_proc_stat *stat,
			    uint64_t now)
{
	struct process fresh = {.pid = stat->pid, .born_ns = now, .walked = true}, *process;

	if (is_over(stat) && state->by_messages)
		return NULL; /* a message has told its exit, if any does */
	fresh.told = is_over(stat) && !state->track.snapshot;
	process = add(state, &fresh);
	if (state->track.snapshot)
		hold(state, process);
	return process;
}

void process_seen(struct process_state *state, uint32_t pid, const struct cellos_proc_stat *stat,
		  uint64_t now)
{
	struct process *process = find(state, pid);
	bool of_kernel = stat != NULL && (stat->flags & CELLOS_PF_KTHREAD) != 0;

	if (process != NULL && stat != NULL &&
	    (process->gone || (of_kernel && !process->kernel) ||
	     (process->starttime != 0 && process->starttime != stat->starttime))) {
		replace(state, process, now);
		process = NULL;
	}
	if (process == NULL && stat != NULL && !of_kernel)
		process = meet(state, stat, now);
	if (process == NULL)
		return;
	process->walk = state->track.walk;
	if (stat == NULL || of_kernel)
		return;
	remember(process, stat);
	if (process->kernel &&
	    (process->name == NAME_KNOWN || now >= process->born_ns + PROCESS_HOLD_NS)) {
		/* A helper whose exec was lost, or no helper: those exec at once. */
		process->kernel = false;
		hold(state, process);
	}
	if (is_over(stat) && process->over_ns == 0)
		process->over_ns = now;
}

/* Those without an entry are looked for one by one. */
static void find_roomless_exits(struct process_state *state, uint64_t now)
{
	struct cellos_proc_stat stat;

	for (uint32_t word = 0; word < CELLOS_PID_LIMIT / 32; word++) {
		for (uint32_t left = state->track.roomless[word]; left != 0; left &= left - 1) {
			uint32_t pid = word * 32 + (uint32_t)__builtin_ctz(left);
			int result = process_look(state, pid, &stat);

			if (result == -ENOENT || result == -ESRCH)
				bury(state, find(state, pid), now);
		}
	}
}

void process_walk_end(struct process_state *state, bool complete, bool sound, uint64_t now)
{
	struct process_track *track = &state->track;

	if (!complete)
		return;
	for (uint32_t at = 1; at <= track->used; at++) {
		struct process *process = &state->entries[at];

		bool missing = process->walk != track->walk;

		/* A zombie stays known where walks alone tell that its number is free. */
		if (process->pid != 0 && (missing || process->over_ns != 0)) {
			process->gone = missing || state->by_messages;
			finish(state, process, now);
		}
	}
	if (track->used == state->env->options->max_processes)
		find_roomless_exits(state, now);
	track->snapshot |= sound;
	track->recovering = false;
}
