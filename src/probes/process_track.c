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
 *             when its number is free, and no name is promised
 *
 * The table is a fixed array whose entries never move; they are found by chains.
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
/* proc(5): start times are in clock ticks, of which user space has 100 a second. */
#define TICK_NS (10 * CELLOS_NS_PER_MS)

/* ---- the table ------------------------------------------------------------------------------ */

size_t process_state_bytes(const struct cellos_probe_options *options)
{
	return sizeof(struct process_state) + CELLOS_PID_LIMIT / 8 +
	       (options->max_processes + 1) * (sizeof(struct process) + sizeof(uint32_t));
}

void process_track_init(struct process_state *s)
{
	s->max = s->env->options->max_processes;
	s->chains = (uint32_t *)&s->entries[s->max + 1];
	s->roomless = s->chains + s->max;
	s->held_end = &s->held;
}

/* The link to the pid, or the end of its chain. Pids come in runs, which spread well. */
static uint32_t *link_to(struct process_state *s, uint32_t pid)
{
	/* NOLINTNEXTLINE(clang-analyzer-core.DivideZero): the options allow no fewer than 16 */
	uint32_t *link = &s->chains[pid % s->max];

	while (*link != 0 && s->entries[*link].pid != pid)
		link = &s->entries[*link].next;
	return link;
}

/* NULL: not known. One without room is entry 0, until the next is looked for. */
static struct process *find(struct process_state *s, uint32_t pid)
{
	const uint32_t at = *link_to(s, pid);

	if (at != 0)
		return &s->entries[at];
	if (pid >= CELLOS_PID_LIMIT || (s->roomless[pid / 32] & 1u << pid % 32) == 0)
		return NULL;
	s->entries[0] = (struct process){.pid = pid, .leader_gone = true};
	return s->entries;
}

static void forget(struct process_state *s, struct process *p)
{
	if (p == s->entries) {
		s->roomless[p->pid / 32] &= ~(1u << p->pid % 32);
		return;
	}
	*link_to(s, p->pid) = p->next;
	*p = (struct process){.next = s->unused};
	s->unused = (uint32_t)(p - s->entries);
}

/* ---- one process ---------------------------------------------------------------------------- */

static void tell(struct process_state *s, enum cellos_probe_source source, const struct process *p,
		 uint64_t ns)
{
	cellos_probe_emit(s->env, source, p->pid, p->comm, p->comm_len, ns);
}

static void set_name(struct process *p, bool own, const char *comm, uint8_t len)
{
	p->named = own;
	p->comm_len = len;
	memcpy(p->comm, comm, len);
}

static bool is_another(const struct process *p, const struct cellos_proc_stat *stat)
{
	return p->starttime != 0 && p->starttime != stat->starttime;
}

/* What was read of it, now. */
static void remember(struct process *p, const struct cellos_proc_stat *stat)
{
	p->starttime = stat->starttime;
	p->leader_gone = stat->state == 'Z';
	set_name(p, (stat->flags & CELLOS_PF_FORKNOEXEC) == 0, stat->comm, stat->comm_len);
}

static void look(struct process_state *s, struct process *p)
{
	struct cellos_proc_stat stat;

	if (process_look(s, p->pid, &stat) == 0 && !is_another(p, &stat))
		remember(p, &stat);
}

/* Gone but for its exit status. A zombie with threads left is a leader that went first. */
static bool is_over(const struct cellos_proc_stat *stat)
{
	return stat->state == 'X' || (stat->state == 'Z' && stat->num_threads <= 1);
}

/* When its leader has exited; a failure to look does not keep it alive. */
static bool is_gone(const struct process_state *s, const struct process *p)
{
	struct cellos_proc_stat stat;

	return process_look(s, p->pid, &stat) != 0 || is_over(&stat) || is_another(p, &stat);
}

/* Its spawn is told when its name is known, or at once if nothing can be kept of it. */
static void hold(struct process_state *s, struct process *p)
{
	if (p == s->entries) {
		look(s, p);
		tell(s, CELLOS_SOURCE_PROCESS_SPAWNED, p, p->born_ns);
		return;
	}
	p->held = true;
	*s->held_end = p;
	s->held_end = &p->next_held;
}

/* It is over, and with `gone` its number is free. While its spawn is held, so is this. */
static void finish(struct process_state *s, struct process *p, uint64_t ns, bool gone)
{
	struct exit_record record;

	p->gone |= gone;
	if (p->over_ns == 0)
		p->over_ns = ns;
	if (p->held)
		return;
	/* A walk knew before the message came; the record is older than either. */
	if (!p->named && process_exit_record(s, p->pid, &record))
		set_name(p, true, record.comm, record.comm_len);
	if (!p->kernel && !p->told)
		tell(s, CELLOS_SOURCE_PROCESS_EXITED, p, p->over_ns);
	p->told = true;
	if (p->gone)
		forget(s, p);
}

/* Tells the spawn that is held longest. */
static void release(struct process_state *s)
{
	struct process *p = s->held;

	s->held = p->next_held;
	if (s->held == NULL)
		s->held_end = &s->held;
	p->held = false;
	tell(s, CELLOS_SOURCE_PROCESS_SPAWNED, p, p->born_ns);
	if (p->over_ns != 0)
		finish(s, p, p->over_ns, false);
}

/* Of a pid that is not known. */
static struct process *add(struct process_state *s, struct process fresh)
{
	uint32_t at;

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): find's NULL is not s */
	while (s->unused == 0 && s->used == s->max && s->held != NULL)
		release(s); /* which makes room if it is over */
	at = s->unused != 0 ? s->unused : s->used < s->max ? ++s->used : 0;
	s->unused = s->entries[at].next; /* 0 unless it was the first of those */
	if (at != 0) {
		*link_to(s, fresh.pid) = at;
	} else {
		s->roomless[fresh.pid / 32] |= 1u << fresh.pid % 32;
		cellos_probe_stat_add(s->env, STAT_TABLE_FULL, 1);
	}
	s->entries[at] = fresh;
	return &s->entries[at];
}

/* Its number is another's from now on. */
static void replace(struct process_state *s, struct process *p, uint64_t ns)
{
	finish(s, p, ns, true);
	while (p->held)
		release(s);
}

uint64_t process_settle(struct process_state *s, uint64_t now)
{
	while (s->held != NULL) {
		struct process *p = s->held;
		bool known = p->named || p->over_ns != 0;
		bool late = now >= p->born_ns + PROCESS_HOLD_NS;

		/* In the midst of an exec /proc shows the old name as if it were the new one's: the
		   message comes when it is done. */
		if (!known && (p->execed || late || !s->by_messages))
			look(s, p);
		if (!known && !p->named && !late)
			return p->born_ns + PROCESS_HOLD_NS;
		release(s);
	}
	return UINT64_MAX;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* A walk saw it first. A parent that lost its processor can have its time stamp any time later. */
static bool is_same_fork(const struct process_state *s, const struct process *p, uint64_t ns)
{
	struct cellos_proc_stat stat;

	if (!p->walked || p->over_ns != 0)
		return false;
	if (ns < p->born_ns + SAME_FORK_NS)
		return true;
	/* Without a loss the end of who was seen would have been told before. */
	return process_look(s, p->pid, &stat) == 0 ? !is_another(p, &stat) : !s->recovering;
}

/* The exit is of whoever had the number before the walk saw this one; who ends just when it is seen
   has the time stamp before that as well, but not before its own start. */
static bool is_predecessors(const struct process *p, uint64_t ns)
{
	return p->walked && ns < p->born_ns && ns < (p->starttime + 1) * TICK_NS;
}

void process_forked(struct process_state *s, uint32_t parent, uint32_t pid, uint32_t tgid,
		    uint64_t ns)
{
	struct process child = {.pid = pid, .born_ns = ns, .threads = 1, .walk = s->walk};
	struct process *p = find(s, tgid);
	struct cellos_proc_stat stat;

	if (p != NULL && p->threads > 0 && pid != tgid)
		p->threads++;
	if (pid != tgid || pid == 0 || pid >= CELLOS_PID_LIMIT)
		return; /* a thread, or a CPU's idle task */
	if (p != NULL && is_same_fork(s, p, ns)) {
		p->walked = false;
		p->walk = s->walk;
		p->born_ns = ns;
		return;
	}
	if (p != NULL)
		replace(s, p, ns);
	p = find(s, parent);
	if (p != NULL)
		set_name(&child, false, p->comm, p->comm_len);
	/* The kernel's threads are not in the table, unless they were forked before our eyes. */
	child.kernel = p != NULL ? p->kernel
				 : process_look(s, parent, &stat) == 0 &&
					   (stat.flags & CELLOS_PF_KTHREAD) != 0;
	p = add(s, child);
	if (!p->kernel)
		hold(s, p);
	else if (p == s->entries)
		forget(s, p);
}

void process_execed(struct process_state *s, uint32_t tgid, uint64_t ns)
{
	struct process *p = find(s, tgid);

	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): find's NULL is not s */
	if (tgid >= CELLOS_PID_LIMIT || (p == NULL && !s->snapshot))
		return;
	if (p == NULL) /* its fork was lost, or it is the kernel's and found no room */
		p = add(s, (struct process){
				   .pid = tgid, .born_ns = ns, .walk = s->walk, .kernel = true});
	/* What it was called before is nobody's name now. An exec by another thread ends the leader
	   that was and takes its number. */
	set_name(p, false, "", 0);
	p->execed = true;
	p->leader_gone = false;
	if (p->kernel) {
		p->kernel = false;
		hold(s, p);
	} else if (s->exits.fd < 0 && !p->held) {
		look(s, p); /* otherwise its exit tells the last name */
	}
}

/* By the record where the kernel tells it, by counting, or by what /proc says. A record may say it
   before the leader's exit has come, which is waited for since it has the name. */
static bool is_last_exit(const struct process_state *s, struct process *p, bool said)
{
	bool counted = p->threads > 0 && !s->recovering;

	p->threads -= p->threads > 0;
	if (p->leader_gone && said)
		return true;
	return counted ? p->threads == 0 : p->leader_gone && is_gone(s, p);
}

void process_exited(struct process_state *s, uint32_t pid, uint32_t tgid, uint64_t ns)
{
	struct exit_record record = {0};
	bool recorded = process_exit_record(s, pid, &record), over;
	struct process *p = find(s, tgid);

	/* One whose fork was lost and whom no walk has met; no thread of the kernel. */
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): find's NULL is not s */
	if (p == NULL && s->recovering && recorded && record.last &&
	    !(record.never_execed && record.parent == KTHREADD)) {
		p = add(s, (struct process){.pid = tgid, .born_ns = ns, .leader_gone = true});
		hold(s, p);
	}
	if (p == NULL || is_predecessors(p, ns))
		return;
	p->leader_gone |= pid == tgid;
	over = is_last_exit(s, p, record.last);
	/* A leader may go because another thread execs: the name after that is not known yet. */
	if (pid == tgid && recorded)
		set_name(p, over || p->execed || !p->held, record.comm, record.comm_len);
	if (over) {
		p->over_ns = ns;
		finish(s, p, ns, true);
	}
}

/* ---- walks ---------------------------------------------------------------------------------- */

void process_seen(struct process_state *s, const struct cellos_proc_stat *stat, uint64_t now)
{
	bool kernel = (stat->flags & CELLOS_PF_KTHREAD) != 0;
	struct process *p = find(s, stat->pid);

	if (p != NULL && (p->gone || kernel != p->kernel || is_another(p, stat))) {
		replace(s, p, now);
		p = NULL;
	}
	/* The exit of a zombie is told by a message, if by any. */
	/* NOLINTNEXTLINE(clang-analyzer-core.NullDereference): find's NULL is not s */
	if (p == NULL && !kernel && !(is_over(stat) && s->by_messages)) {
		p = add(s, (struct process){.pid = stat->pid,
					    .born_ns = now,
					    .walked = true,
					    .told = is_over(stat) && !s->snapshot});
		if (s->snapshot)
			hold(s, p);
	}
	if (p == NULL)
		return;
	p->walk = s->walk;
	remember(p, stat);
	if (is_over(stat) && p->over_ns == 0)
		p->over_ns = now;
}

void process_walk_end(struct process_state *s, uint64_t now)
{
	struct cellos_proc_stat stat;

	for (uint32_t at = 1; at <= s->used; at++) {
		struct process *p = &s->entries[at];
		bool missing = p->walk != s->walk;

		p->threads = s->recovering ? 0 : p->threads; /* its count is void */
		/* A zombie stays known where walks alone tell that its number is free. */
		if (p->pid != 0 && (missing || p->over_ns != 0))
			finish(s, p, now, missing || s->by_messages);
	}
	/* Those without an entry are looked for one by one. */
	for (uint32_t pid = 0; s->used == s->max && pid < CELLOS_PID_LIMIT; pid++) {
		if (s->roomless[pid / 32] == 0)
			pid |= 31;
		else if (find(s, pid) == s->entries && process_look(s, pid, &stat) == -ENOENT)
			finish(s, s->entries, now, true);
	}
	s->snapshot = true;
	s->recovering = false;
}
