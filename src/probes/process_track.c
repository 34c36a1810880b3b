/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See process_track.h. */
#include "process_track.h"

#include <errno.h>
#include <string.h>

/* A walk may see a child before the message of its fork has its time stamp. */
#define SAME_FORK_NS UINT64_C(100000000)

#define PF_EXITING 0x4u

size_t process_track_bytes(uint32_t max)
{
	return proc_table_bytes(max) + max * sizeof(uint32_t);
}

void process_track_init(struct process_track *track, const struct process_track_config *config,
			void *memory)
{
	*track = (struct process_track){.config = *config};
	/* The table's bytes end with one for each pid, a multiple of four. */
	proc_table_init(&track->table, memory, config->max);
	track->held = (uint32_t *)(void *)((char *)memory + proc_table_bytes(config->max));
}

bool process_is_over(const struct cellos_proc_stat *stat)
{
	return stat->state == 'X' || stat->state == 'x' ||
	       (stat->state == 'Z' && stat->num_threads <= 1);
}

/* ---- one process ---------------------------------------------------------------------------- */

static void set_name(struct proc_entry *entry, const char *comm, uint8_t len)
{
	memset(entry->comm, 0, sizeof(entry->comm));
	memcpy(entry->comm, comm, len);
	entry->comm_len = len;
}

static void tell(struct process_track *track, enum cellos_probe_source source,
		 const struct proc_entry *entry, uint64_t ns)
{
	track->config.emit(track->config.context, source, entry, ns);
}

/* What was read of it, now. */
static void remember(struct proc_entry *entry, const struct cellos_proc_stat *stat)
{
	entry->starttime = stat->starttime;
	set_name(entry, stat->comm, stat->comm_len);
	entry->flags &= (uint16_t) ~(PROC_UNNAMED | PROC_LEADER_GONE);
	entry->flags |= (stat->flags & CELLOS_PF_FORKNOEXEC) != 0 ? PROC_UNNAMED : 0;
	entry->flags |= stat->state == 'Z' ? PROC_LEADER_GONE : 0;
}

static void look(struct process_track *track, struct proc_entry *entry)
{
	struct cellos_proc_stat stat;

	if (track->config.look(track->config.context, entry->pid, &stat) == 0 &&
	    (entry->starttime == 0 || entry->starttime == stat.starttime))
		remember(entry, &stat);
}

/* `starttime` 0: whoever has the number. */
static bool is_gone(struct process_track *track, uint32_t pid, uint64_t starttime)
{
	struct cellos_proc_stat stat;
	int result = track->config.look(track->config.context, pid, &stat);

	if (result != 0)
		return result == -ENOENT || result == -ESRCH;
	return process_is_over(&stat) || (starttime != 0 && starttime != stat.starttime);
}

static void hold(struct process_track *track, struct proc_entry *entry)
{
	entry->flags |= PROC_PENDING;
	track->held[track->held_count++] = entry->pid;
}

/* It is over, and when `gone` its number is free. While its spawn is held, so is this. */
static void finish(struct process_track *track, struct proc_entry *entry, uint64_t ns, bool gone)
{
	if ((entry->flags & PROC_OVER) == 0)
		entry->over_ns = ns;
	entry->flags |= PROC_OVER | (gone ? PROC_GONE : 0);
	if ((entry->flags & PROC_PENDING) != 0)
		return;
	if ((entry->flags & (PROC_TOLD | PROC_KERNEL)) == 0)
		tell(track, CELLOS_SOURCE_PROCESS_EXITED, entry, entry->over_ns);
	entry->flags |= PROC_TOLD;
	if ((entry->flags & PROC_GONE) != 0)
		proc_table_remove(&track->table, entry);
}

/* ---- what is held --------------------------------------------------------------------------- */

static bool is_ready(struct process_track *track, struct proc_entry *entry, uint64_t now)
{
	uint64_t due = entry->born_ns + track->config.hold_ns;
	const struct proc_entry *parent = proc_table_find(&track->table, entry->parent);

	/* A parent is due no later than its child. Twice the time, lest two that took each other's
	   numbers wait for each other. */
	if (parent != NULL && parent != entry && (parent->flags & PROC_PENDING) != 0 &&
	    now < due + track->config.hold_ns)
		return false;
	if ((entry->flags & (PROC_UNNAMED | PROC_OVER)) == PROC_UNNAMED &&
	    ((entry->flags & PROC_EXECED) != 0 || now >= due))
		look(track, entry);
	return (entry->flags & (PROC_UNNAMED | PROC_OVER)) != PROC_UNNAMED || now >= due;
}

static void release(struct process_track *track, struct proc_entry *entry)
{
	entry->flags &= (uint16_t)~PROC_PENDING;
	tell(track, CELLOS_SOURCE_PROCESS_SPAWNED, entry, entry->born_ns);
	if ((entry->flags & PROC_OVER) != 0)
		finish(track, entry, entry->over_ns, false);
}

/* One pass; true when it reported any. Those up to the pid `through` go whatever their state, and
   are not looked at: in the midst of messages /proc is ahead of them. */
static bool release_ready(struct process_track *track, uint64_t now, uint32_t through)
{
	uint32_t count = track->held_count, kept = 0;
	bool force = through != 0;

	for (uint32_t at = 0; at < count; at++) {
		uint32_t pid = track->held[at];
		/* There: an entry with PROC_PENDING is never removed. */
		struct proc_entry *entry = proc_table_find(&track->table, pid);

		if (force || is_ready(track, entry, now))
			release(track, entry);
		else
			track->held[kept++] = pid;
		force = force && pid != through;
	}
	track->held_count = kept;
	return kept < count;
}

uint64_t process_track_settle(struct process_track *track, uint64_t now)
{
	uint64_t next = UINT64_MAX;

	while (track->held_count > 0 && release_ready(track, now, 0))
		;
	for (uint32_t at = 0; at < track->held_count; at++) {
		uint64_t due = proc_table_find(&track->table, track->held[at])->born_ns +
			       track->config.hold_ns;

		due += due <= now ? track->config.hold_ns : 0;
		next = due < next ? due : next;
	}
	return next;
}

void process_track_flush(struct process_track *track, uint64_t now)
{
	(void)release_ready(track, now, PROCESS_NOBODY);
}

/* Its number is another's now, so it is over and goes at once. */
static void bury(struct process_track *track, struct proc_entry *entry, uint64_t ns)
{
	uint32_t pid = entry->pid;
	bool pending = (entry->flags & PROC_PENDING) != 0;

	finish(track, entry, ns, true);
	if (pending)
		(void)release_ready(track, ns, pid);
}

/* NULL when all entries are taken, also after those that are held have gone out. */
static struct proc_entry *add(struct process_track *track, uint32_t pid, uint64_t now)
{
	struct proc_entry *entry = proc_table_add(&track->table, pid);

	if (entry == NULL && track->held_count > 0) {
		process_track_flush(track, now);
		entry = proc_table_add(&track->table, pid);
	}
	track->table_full += entry == NULL;
	return entry;
}

/* ---- messages ------------------------------------------------------------------------------- */

/* No room: report it now, and keep a byte so that its end can be told, too. */
static void fork_untracked(struct process_track *track, const struct proc_entry *parent,
			   uint32_t pid, bool kernel, uint64_t ns)
{
	struct proc_entry entry = {.pid = pid};

	if (!kernel) {
		if (parent != NULL)
			set_name(&entry, parent->comm, parent->comm_len);
		look(track, &entry);
		tell(track, CELLOS_SOURCE_PROCESS_SPAWNED, &entry, ns);
	}
	proc_table_set_untracked(&track->table, pid,
				 PROC_KNOWN | (kernel ? PROC_KERNEL : 0) |
					 (track->walking ? PROC_SEEN : 0));
}

/* The pid is known already. True when that is the same process, which a walk saw first. */
static bool fork_of_known(struct process_track *track, uint32_t parent, uint32_t pid, uint64_t ns)
{
	struct proc_entry *entry = proc_table_find(&track->table, pid);
	struct proc_entry nameless = {.pid = pid,
				      .flags = proc_table_untracked(&track->table, pid)};

	if (entry != NULL && (entry->flags & (PROC_WALKED | PROC_OVER)) == PROC_WALKED &&
	    (ns <= entry->born_ns ||
	     (ns < entry->born_ns + SAME_FORK_NS && entry->parent == parent))) {
		entry->flags &= (uint16_t)~PROC_WALKED;
		entry->flags |= track->walking ? PROC_SEEN : 0;
		entry->born_ns = ns;
		entry->parent = parent;
		return true;
	}
	if (entry != NULL) {
		bury(track, entry, ns);
	} else if (nameless.flags != 0) {
		proc_table_set_untracked(&track->table, pid, 0);
		if ((nameless.flags & (PROC_TOLD | PROC_KERNEL)) == 0)
			tell(track, CELLOS_SOURCE_PROCESS_EXITED, &nameless, ns);
	}
	return false;
}

/* Threads of the kernel are not in the table, unless they were forked before our eyes. */
static bool is_kernels(struct process_track *track, const struct proc_entry *parent, uint32_t pid)
{
	struct cellos_proc_stat stat;

	if (pid == track->config.kthreadd)
		return true;
	if (parent != NULL)
		return (parent->flags & PROC_KERNEL) != 0;
	return track->config.look(track->config.context, pid, &stat) == 0 &&
	       (stat.flags & CELLOS_PF_KTHREAD) != 0;
}

void process_track_fork(struct process_track *track, uint32_t parent, uint32_t pid, uint32_t tgid,
			uint64_t ns)
{
	struct proc_entry *entry, *from;
	bool kernel;

	if (pid == 0 || pid >= CELLOS_PID_LIMIT)
		return; /* a CPU's idle task */
	if (pid != tgid) {
		entry = proc_table_find(&track->table, tgid);
		if (entry != NULL)
			entry->live++;
		return;
	}
	if (fork_of_known(track, parent, pid, ns))
		return;
	kernel = is_kernels(track, proc_table_find(&track->table, parent), parent);
	entry = add(track, pid, ns);
	from = proc_table_find(&track->table, parent);
	if (entry == NULL) {
		fork_untracked(track, from, pid, kernel, ns);
		return;
	}
	entry->born_ns = ns;
	entry->parent = parent;
	entry->live = 1;
	entry->flags = PROC_COUNTED | PROC_UNNAMED | (track->walking ? PROC_SEEN : 0);
	if (from != NULL)
		set_name(entry, from->comm, from->comm_len);
	if (kernel)
		entry->flags |= PROC_KERNEL;
	else
		hold(track, entry);
}

/* Of one that no entry stands for: its fork was lost, and a walk has not met it yet, or has taken
   it for a thread of the kernel, which it was. */
static void exec_of_stranger(struct process_track *track, uint32_t tgid, uint64_t ns)
{
	uint8_t untracked = proc_table_untracked(&track->table, tgid);
	struct cellos_proc_stat stat;

	if ((untracked & PROC_KERNEL) != 0)
		fork_untracked(track, NULL, tgid, false, ns);
	else if (untracked == 0 && track->config.look(track->config.context, tgid, &stat) == 0)
		process_track_seen(track, &stat, ns);
}

void process_track_exec(struct process_track *track, uint32_t tgid, uint64_t ns)
{
	struct proc_entry *entry = proc_table_find(&track->table, tgid);

	if (entry == NULL) {
		exec_of_stranger(track, tgid, ns);
		return;
	}
	/* What it was called before is nobody's name now. An exec by another thread ends the leader
	   that was and takes its number. */
	set_name(entry, "", 0);
	entry->flags |= PROC_EXECED | PROC_UNNAMED;
	entry->flags &= (uint16_t)~PROC_LEADER_GONE;
	if ((entry->flags & PROC_KERNEL) != 0) {
		entry->flags &= (uint16_t)~PROC_KERNEL;
		hold(track, entry);
	}
	/* Otherwise its exit tells the last name. */
	if (!track->config.told_exits && (entry->flags & PROC_PENDING) == 0)
		look(track, entry);
}

/* An exit where no entry is: of one that found no room, or whose fork was lost and whom no walk has
   met. */
static void exit_of_stranger(struct process_track *track, uint32_t tgid, uint64_t ns,
			     const struct process_exit *exit)
{
	bool last = exit != NULL && exit->group_dead;
	struct proc_entry entry = {.pid = tgid, .flags = proc_table_untracked(&track->table, tgid)};
	bool lost = entry.flags == 0 && track->recovering && last &&
		    !(exit->never_execed && exit->parent == track->config.kthreadd);

	if (entry.flags == 0 && !lost)
		return;
	if (!last && ((exit != NULL && exit->knows_group) || !is_gone(track, tgid, 0)))
		return;
	if (exit != NULL && exit->pid == tgid)
		set_name(&entry, exit->comm, exit->comm_len);
	if (lost)
		tell(track, CELLOS_SOURCE_PROCESS_SPAWNED, &entry, ns);
	if ((entry.flags & (PROC_TOLD | PROC_KERNEL)) == 0)
		tell(track, CELLOS_SOURCE_PROCESS_EXITED, &entry, ns);
	if (!lost)
		proc_table_set_untracked(&track->table, tgid, 0);
}

static bool is_last_exit(struct process_track *track, const struct proc_entry *entry,
			 const struct process_exit *exit)
{
	uint32_t both = PROC_LEADER_GONE | PROC_GROUP_DEAD;

	if ((entry->flags & both) == both)
		return true;
	if ((entry->flags & PROC_COUNTED) != 0)
		return entry->live == 0;
	/* The listener tells of the last one. Where it did not, and for a leader, whose record may
	   be that of one that an exec ended, /proc does. */
	return (exit == NULL || !exit->knows_group || exit->pid == entry->pid) &&
	       (entry->flags & PROC_LEADER_GONE) != 0 &&
	       is_gone(track, entry->pid, entry->starttime);
}

void process_track_exit(struct process_track *track, uint32_t pid, uint32_t tgid, uint64_t ns,
			const struct process_exit *exit)
{
	struct proc_entry *entry = proc_table_find(&track->table, tgid);

	if (entry == NULL) {
		exit_of_stranger(track, tgid, ns, exit);
		return;
	}
	if ((entry->flags & PROC_WALKED) != 0 && ns < entry->born_ns)
		return; /* of whoever had the number before */
	entry->live -= entry->live > 0;
	entry->over_ns = ns;
	entry->flags |= pid == tgid ? PROC_LEADER_GONE : 0;
	if (exit != NULL) {
		entry->flags |= exit->group_dead ? PROC_GROUP_DEAD : 0;
		if (pid == tgid) {
			set_name(entry, exit->comm, exit->comm_len);
			entry->flags &= (uint16_t)~PROC_UNNAMED;
		}
	}
	if (is_last_exit(track, entry, exit))
		finish(track, entry, ns, true);
}

void process_track_lost(struct process_track *track)
{
	track->recovering = true;
	for (uint32_t at = 0; at < track->table.count; at++)
		track->table.entries[at].flags &= (uint16_t)~PROC_COUNTED;
}

/* ---- walks ---------------------------------------------------------------------------------- */

void process_track_walk_begin(struct process_track *track)
{
	track->walking = true;
}

/* All entries are taken: no name is kept, and nothing waits. */
static void seen_untracked(struct process_track *track, const struct cellos_proc_stat *stat,
			   uint64_t now)
{
	uint8_t flags = proc_table_untracked(&track->table, stat->pid);
	struct proc_entry entry = {.pid = stat->pid};

	remember(&entry, stat);
	if (flags == 0 && track->have_snapshot)
		tell(track, CELLOS_SOURCE_PROCESS_SPAWNED, &entry, now);
	else if (flags == 0 && process_is_over(stat))
		flags |= PROC_TOLD;
	flags |= PROC_KNOWN | PROC_SEEN;
	if (process_is_over(stat) && (flags & PROC_TOLD) == 0) {
		tell(track, CELLOS_SOURCE_PROCESS_EXITED, &entry, now);
		flags |= PROC_TOLD;
	}
	proc_table_set_untracked(&track->table, stat->pid, flags);
}

/* One not known before, or known by a byte alone. NULL: there is no entry for it. */
static struct proc_entry *meet(struct process_track *track, const struct cellos_proc_stat *stat,
			       uint64_t now)
{
	uint8_t untracked = proc_table_untracked(&track->table, stat->pid);
	bool over = process_is_over(stat);
	struct proc_entry *entry;

	/* Its exit was told by a message, which also comes before the zombie is one. */
	if (!track->config.by_walks && untracked == 0 &&
	    (over ||
	     (track->have_snapshot && (stat->flags & PF_EXITING) != 0 && stat->state != 'Z')))
		return NULL;
	entry = untracked == 0 ? add(track, stat->pid, now)
			       : proc_table_add(&track->table, stat->pid);
	if (entry == NULL) {
		seen_untracked(track, stat, now);
		return NULL;
	}
	entry->born_ns = now;
	entry->parent = stat->ppid;
	entry->flags = PROC_WALKED | (untracked & (PROC_TOLD | PROC_KERNEL));
	if (untracked != 0)
		/* There is room now for one that had none. */
		proc_table_set_untracked(&track->table, stat->pid, 0);
	else if (!track->have_snapshot)
		entry->flags |= over ? PROC_TOLD : 0;
	else if (stat->ppid == track->config.kthreadd && (stat->flags & CELLOS_PF_FORKNOEXEC) != 0)
		entry->flags |= PROC_KERNEL;
	else
		hold(track, entry);
	return entry;
}

/* Under the same number. Who has not run a program yet is the kernel's helper, or another. */
static bool is_another(const struct proc_entry *entry, const struct cellos_proc_stat *stat)
{
	if ((entry->flags & PROC_GONE) != 0)
		return true;
	if (entry->starttime != 0)
		return entry->starttime != stat->starttime;
	return (entry->flags & PROC_KERNEL) != 0 && entry->parent != stat->ppid;
}

void process_track_seen(struct process_track *track, const struct cellos_proc_stat *stat,
			uint64_t now)
{
	struct proc_entry *entry = proc_table_find(&track->table, stat->pid);

	if ((stat->flags & CELLOS_PF_KTHREAD) != 0) {
		if (entry != NULL && (entry->flags & PROC_KERNEL) == 0)
			bury(track, entry, now);
		else if (entry != NULL ||
			 (proc_table_untracked(&track->table, stat->pid) & PROC_KERNEL) != 0)
			process_track_unreadable(track, stat->pid);
		return;
	}
	if (entry != NULL && is_another(entry, stat)) {
		bury(track, entry, now);
		entry = NULL;
	}
	if (entry == NULL)
		entry = meet(track, stat, now);
	if (entry == NULL)
		return;
	remember(entry, stat);
	entry->flags |= track->walking ? PROC_SEEN : 0;
	if ((entry->flags & PROC_KERNEL) != 0 &&
	    ((entry->flags & PROC_UNNAMED) == 0 || now >= entry->born_ns + track->config.hold_ns)) {
		/* A helper whose exec was lost, or no helper: those exec at once. */
		entry->flags &= (uint16_t)~PROC_KERNEL;
		hold(track, entry);
	}
	if (process_is_over(stat) && (entry->flags & PROC_OVER) == 0) {
		entry->flags |= PROC_OVER;
		entry->over_ns = now;
	}
}

void process_track_unreadable(struct process_track *track, uint32_t pid)
{
	struct proc_entry *entry = proc_table_find(&track->table, pid);
	uint8_t untracked = proc_table_untracked(&track->table, pid);

	if (entry != NULL)
		entry->flags |= PROC_SEEN;
	else if (untracked != 0)
		proc_table_set_untracked(&track->table, pid, untracked | PROC_SEEN);
}

static void find_untracked_exits(struct process_track *track, bool complete, uint64_t now)
{
	struct proc_table *table = &track->table;
	uint32_t low = table->low, high = table->high;

	table->low = CELLOS_PID_LIMIT; /* grows again with what stays */
	table->high = 0;
	for (uint32_t pid = low; pid <= high; pid++) {
		struct proc_entry nameless = {.pid = pid, .flags = table->untracked[pid]};

		if (nameless.flags == 0)
			continue;
		if (complete && (nameless.flags & PROC_SEEN) == 0) {
			if ((nameless.flags & (PROC_TOLD | PROC_KERNEL)) == 0)
				tell(track, CELLOS_SOURCE_PROCESS_EXITED, &nameless, now);
			nameless.flags = 0;
		}
		proc_table_set_untracked(table, pid, (uint8_t)(nameless.flags & ~PROC_SEEN));
	}
}

void process_track_walk_end(struct process_track *track, bool complete, bool sound, uint64_t now)
{
	/* Downwards, because remove fills the hole with the last entry. */
	for (uint32_t at = track->table.count; at-- > 0;) {
		struct proc_entry *entry = &track->table.entries[at];
		bool gone = complete && (entry->flags & PROC_SEEN) == 0;

		entry->flags &= (uint16_t)~PROC_SEEN;
		/* A zombie stays known where only walks tell that it has been reported. */
		if (gone || (entry->flags & PROC_OVER) != 0)
			finish(track, entry, now, gone || !track->config.by_walks);
	}
	find_untracked_exits(track, complete, now);
	track->walking = false;
	if (complete && sound)
		track->have_snapshot = true;
	if (complete)
		track->recovering = false;
}
