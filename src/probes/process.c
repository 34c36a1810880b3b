/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Processes by walking /proc: what is there now and was not at the last walk has spawned, what was
 * and is not has exited. It is the floor: a process that lives between two walks is not seen.
 *
 * What the words mean here:
 *   process   a thread group (a numeric directory of /proc); kernel threads are none
 *   over      gone from /proc, or a zombie: only its exit status is left, which is its parent's
 *             business, so the exit is reported then and not again when it is reaped. A leader that
 *             left before its other threads shows the same letter; its process is not over
 *   the same  pid and start time; the same pid with another start time is two processes
 *   name      newest one that a walk saw. A process caught between fork and exec still has its
 *             parent's: its report, and all later ones of that walk, wait until 20 ms or the next
 *             walk is due, and are made then with the name it has
 *
 * What is there at the first walk is not reported as spawned; its exit is.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it.
 * Invariants: per process spawned before exited, each once; nothing is concluded from a listing
 * that did not come to its end; a time when the walker could not see is one occasion under `o`.
 * Refuses to: read more of a process than its stat, which touches no memory or file of it.
 */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <stdalign.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe_tables.h"
#include "probe_util.h"
#include "proc_parse.h"
#include "proc_table.h"

#define NAME_WAIT_NS (50 * CELLOS_NS_PER_MS)
#define MAX_WAITING 256u /* a power of two; one more, and the first goes out as it is */
#define LAST_WALK_NS (25 * CELLOS_NS_PER_MS)
#define MAX_KERNEL 1024u /* kernel threads remembered; more are read each time, no harm */
#define KERNEL_LOOK_NS CELLOS_NS_PER_S
#define STAT_BYTES 1024 /* a line is at most some 600 */

enum process_stat { STAT_TABLE_FULL, STAT_WALKS, STAT_GAPS };

/* An entry with PROC_PENDING, and when it was seen first. */
struct waiting {
	uint32_t pid;
	uint64_t since_ns;
};

struct process_state {
	struct cellos_process_seam seam;
	int fd;              /* owned; of /proc, -1 while it cannot be had */
	bool have_snapshot;  /* a first walk came to its end */
	bool in_gap;         /* the trouble under way is counted already */
	uint64_t give_up_ns; /* set when stopping: the last walk ends then */
	uint32_t first;      /* of those waiting for a name, modulo MAX_WAITING */
	uint32_t past_last;
	struct waiting waiting[MAX_WAITING];
	bool look_at_kernel; /* this walk reads the settled kernel threads, too */
	uint64_t look_ns;    /* when the next such walk is due */
	struct proc_table table;
	struct proc_table kernel;        /* starttime holds the directory's inode number */
	struct proc_untracked untracked; /* not in `table`, for want of room */
	alignas(8) char listing[16384];
	alignas(max_align_t) char memory[]; /* of those three, in this order */
};

/* The kernel's struct linux_dirent64, which no header gives to user space. */
struct listed {
	uint64_t ino;
	int64_t next;
	uint16_t bytes;
	uint8_t type;
	char name[];
};

static size_t process_state_bytes(const struct cellos_probe_options *options)
{
	return sizeof(struct process_state) + proc_table_bytes(options->max_processes) +
	       proc_table_bytes(MAX_KERNEL) + CELLOS_PID_LIMIT;
}

/* Each part is a multiple of 32 bytes, so the next one is aligned, too. */
static void lay_out(struct process_state *state, uint32_t max_processes)
{
	char *at = state->memory;

	proc_table_init(&state->table, at, max_processes);
	at += proc_table_bytes(max_processes);
	proc_table_init(&state->kernel, at, MAX_KERNEL);
	at += proc_table_bytes(MAX_KERNEL);
	proc_untracked_init(&state->untracked, at);
}

/* ---- reading -------------------------------------------------------------------------------- */

/* 0, or -errno: -ENOENT and -ESRCH when it has just gone. */
static int read_stat(int proc_fd, const char *pid_name, struct cellos_proc_stat *out)
{
	char path[16], text[STAT_BYTES];
	size_t len = strnlen(pid_name, sizeof(path) - sizeof("/stat"));
	ssize_t got;
	int fd, result;

	memset(out, 0, sizeof(*out)); /* whole, whatever the answer is */
	memcpy(path, pid_name, len);
	memcpy(path + len, "/stat", sizeof("/stat"));
	fd = openat(proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, text, sizeof(text));
	result = got < 0 ? -errno : cellos_proc_parse_stat(text, (size_t)got, out);
	close(fd);
	return result;
}

static void name_of(uint32_t pid, char name[static 12])
{
	char digits[12];
	size_t count = 0;

	for (; pid > 0; pid /= 10)
		digits[count++] = (char)('0' + pid % 10);
	for (size_t at = 0; at < count; at++)
		name[at] = digits[count - 1 - at];
	name[count] = '\0';
}

/* A zombie with threads left is a leader that went first. */
static bool is_over(const struct cellos_proc_stat *stat)
{
	return stat->state == 'X' || stat->state == 'x' ||
	       (stat->state == 'Z' && stat->num_threads <= 1);
}

/* ---- telling -------------------------------------------------------------------------------- */

static void tell(struct cellos_probe_env *env, enum cellos_probe_source source,
		 const struct proc_entry *entry, uint64_t now)
{
	cellos_probe_emit(env, source, entry->pid, entry->comm, entry->comm_len, now);
}

/* One occasion per stretch of trouble, however long it is. */
static void open_gap(struct process_state *state, struct cellos_probe_env *env)
{
	if (state->in_gap)
		return;
	state->in_gap = true;
	cellos_lane_count(env->lane, CELLOS_DROP_OVERFLOW, 1);
	cellos_probe_stat_add(env, STAT_GAPS, 1);
}

static void remember(struct proc_entry *entry, const struct cellos_proc_stat *stat)
{
	entry->starttime = stat->starttime;
	entry->comm_len = stat->comm_len;
	memcpy(entry->comm, stat->comm, sizeof(entry->comm));
	entry->flags &= (uint8_t)~PROC_UNNAMED;
	entry->flags |= (is_over(stat) ? PROC_OVER : 0) |
			((stat->flags & CELLOS_PF_FORKNOEXEC) != 0 ? PROC_UNNAMED : 0);
}

/* The first of those waiting is told with the name that it has. */
static void tell_first(struct process_state *state, struct cellos_probe_env *env)
{
	const struct waiting *first = &state->waiting[state->first++ % MAX_WAITING];
	struct proc_entry *entry = proc_table_find(&state->table, first->pid);

	/* Whoever ends an entry tells it before. */
	entry->flags &= (uint8_t)~PROC_PENDING;
	tell(env, CELLOS_SOURCE_PROCESS_SPAWNED, entry, first->since_ns);
}

/* Before an entry ends its own spawn is told, and those that came before it. */
static void tell_through(struct process_state *state, struct cellos_probe_env *env,
			 const struct proc_entry *entry)
{
	while ((entry->flags & PROC_PENDING) != 0)
		tell_first(state, env);
}

static void tell_exit(struct process_state *state, struct cellos_probe_env *env,
		      struct proc_entry *entry)
{
	if ((entry->flags & PROC_TOLD) != 0)
		return;
	tell_through(state, env, entry);
	tell(env, CELLOS_SOURCE_PROCESS_EXITED, entry, cellos_probe_now());
	entry->flags |= PROC_TOLD;
}

/* Tells those who have a name by now, or have waited long enough. */
static void tell_named(struct process_state *state, struct cellos_probe_env *env)
{
	uint64_t now = cellos_probe_now();

	while (state->first != state->past_last) {
		const struct waiting *first = &state->waiting[state->first % MAX_WAITING];
		struct proc_entry *entry = proc_table_find(&state->table, first->pid);
		struct cellos_proc_stat stat;
		char name[12];

		name_of(first->pid, name);
		if ((entry->flags & PROC_UNNAMED) != 0 && read_stat(state->fd, name, &stat) == 0 &&
		    stat.starttime == entry->starttime)
			remember(entry, &stat);
		if ((entry->flags & PROC_UNNAMED) != 0 && now - first->since_ns < NAME_WAIT_NS)
			break;
		tell_first(state, env);
	}
}

/* A process not known before. Once one has to wait for its name those after it wait behind it, so
   that a parent is told before its child. */
static void newcomer(struct process_state *state, struct cellos_probe_env *env,
		     struct proc_entry *entry)
{
	uint64_t now = cellos_probe_now();

	if (!state->have_snapshot) {
		entry->flags |= (entry->flags & PROC_OVER) != 0 ? PROC_TOLD : 0;
	} else if (state->first == state->past_last && (entry->flags & PROC_UNNAMED) == 0) {
		tell(env, CELLOS_SOURCE_PROCESS_SPAWNED, entry, now);
	} else {
		if (state->past_last - state->first == MAX_WAITING)
			tell_first(state, env);
		entry->flags |= PROC_PENDING;
		state->waiting[state->past_last++ % MAX_WAITING] =
			(struct waiting){.pid = entry->pid, .since_ns = now};
	}
}

/* All entries are taken: no name is kept, and nothing waits. */
static void seen_untracked(struct process_state *state, struct cellos_probe_env *env,
			   const struct cellos_proc_stat *stat)
{
	uint8_t flags = proc_untracked_get(&state->untracked, stat->pid);
	struct proc_entry entry = {.pid = stat->pid};

	remember(&entry, stat);
	if (flags == 0) {
		cellos_probe_stat_add(env, STAT_TABLE_FULL, 1);
		if (state->have_snapshot)
			tell(env, CELLOS_SOURCE_PROCESS_SPAWNED, &entry, cellos_probe_now());
		else if ((entry.flags & PROC_OVER) != 0)
			flags |= PROC_TOLD;
	}
	entry.flags |= flags | PROC_KNOWN | PROC_SEEN;
	if ((entry.flags & PROC_OVER) != 0)
		tell_exit(state, env, &entry);
	proc_untracked_set(&state->untracked, stat->pid, entry.flags);
}

static void seen(struct process_state *state, struct cellos_probe_env *env,
		 const struct cellos_proc_stat *stat)
{
	struct proc_entry *entry = proc_table_find(&state->table, stat->pid);
	uint8_t untracked = 0;
	bool is_new = entry == NULL;

	if (is_new) {
		untracked = proc_untracked_get(&state->untracked, stat->pid);
		entry = proc_table_add(&state->table, stat->pid);
		if (entry == NULL) {
			seen_untracked(state, env, stat);
			return;
		}
		if (untracked != 0) {
			/* There is room now for one that had none. */
			proc_untracked_set(&state->untracked, stat->pid, 0);
			entry->flags = untracked & PROC_TOLD;
			is_new = false;
		}
	} else if (entry->starttime != stat->starttime) {
		/* The number is another's now. */
		tell_exit(state, env, entry);
		entry->flags = 0;
		is_new = true;
	}
	remember(entry, stat);
	entry->flags |= PROC_SEEN;
	if (is_new)
		newcomer(state, env, entry);
}

/* Listed, but its stat could not be read: it lives, more is not known. */
static void seen_unreadable(struct process_state *state, uint32_t pid)
{
	struct proc_entry *entry = proc_table_find(&state->table, pid);
	uint8_t untracked = proc_untracked_get(&state->untracked, pid);

	if (entry != NULL)
		entry->flags |= PROC_SEEN;
	else if (untracked != 0)
		proc_untracked_set(&state->untracked, pid, untracked | PROC_SEEN);
}

/* ---- one walk ------------------------------------------------------------------------------- */

struct walk {
	bool complete; /* the listing came to its end */
	bool trouble;  /* something could not be read that should have been */
};

/* Most processes of a guest are kernel threads, and they stay what they are. The directory's inode
   number is made anew for each process, so as long as it is the same a look once a second is
   enough. The first looks are not: a helper that the kernel starts is a kernel thread until it
   execs. */
static bool is_settled(const struct process_state *state, uint32_t pid, uint64_t ino)
{
	struct proc_entry *entry = proc_table_find(&state->kernel, pid);

	if (entry == NULL || (entry->flags & PROC_SETTLED) == 0 || entry->starttime != ino ||
	    state->look_at_kernel)
		return false;
	entry->flags |= PROC_SEEN;
	return true;
}

static void seen_kernel(struct process_state *state, uint32_t pid, uint64_t ino)
{
	struct proc_entry *entry = proc_table_find(&state->kernel, pid);

	if (entry == NULL)
		entry = proc_table_add(&state->kernel, pid);
	if (entry == NULL)
		return;
	entry->starttime = ino;
	entry->flags = PROC_SEEN | (state->look_at_kernel ? PROC_SETTLED : 0);
}

static void visit(struct process_state *state, struct cellos_probe_env *env,
		  const struct listed *listed, struct walk *walk)
{
	uint32_t pid = cellos_proc_parse_pid(listed->name);
	struct cellos_proc_stat stat;
	int result;

	if (pid == 0 || is_settled(state, pid, listed->ino))
		return;
	result = read_stat(state->fd, listed->name, &stat);
	if (result == -ENOENT || result == -ESRCH)
		return;
	if (result != 0) {
		walk->trouble = true;
		seen_unreadable(state, pid);
	} else if ((stat.flags & CELLOS_PF_KTHREAD) != 0) {
		seen_kernel(state, pid, listed->ino);
	} else if (stat.pid == pid) {
		seen(state, env, &stat);
	}
}

static bool must_leave(const struct process_state *state, const struct cellos_probe_env *env)
{
	if (state->give_up_ns != 0)
		return cellos_probe_now() >= state->give_up_ns;
	return cellos_probe_wait(env->stop_fd, -1, 0) == CELLOS_WAIT_STOP;
}

/* Raw getdents64, since opendir takes heap memory. */
static struct walk list_all(struct process_state *state, struct cellos_probe_env *env)
{
	struct walk walk = {0};
	uint64_t now = cellos_probe_now();

	state->look_at_kernel = now >= state->look_ns;
	if (state->look_at_kernel)
		state->look_ns = now + KERNEL_LOOK_NS;
	if (lseek(state->fd, 0, SEEK_SET) < 0) {
		walk.trouble = true;
		return walk;
	}
	while (!must_leave(state, env)) {
		long got =
			syscall(SYS_getdents64, state->fd, state->listing, sizeof(state->listing));

		if (got <= 0) {
			walk.complete = got == 0;
			walk.trouble |= got < 0;
			break;
		}
		for (long at = 0; at < got;) {
			const struct listed *entry = (const void *)(state->listing + at);

			visit(state, env, entry, &walk);
			at += entry->bytes;
		}
	}
	return walk;
}

static void find_exits(struct process_state *state, struct cellos_probe_env *env, bool complete)
{
	struct proc_table *table = &state->table;

	/* Downwards, because remove fills the hole with the last entry. */
	for (uint32_t at = table->count; at-- > 0;) {
		struct proc_entry *entry = &table->entries[at];
		bool gone = complete && (entry->flags & PROC_SEEN) == 0;

		if (gone || (entry->flags & PROC_OVER) != 0)
			tell_exit(state, env, entry);
		if (gone)
			proc_table_remove(table, entry);
		else
			entry->flags &= (uint8_t)~PROC_SEEN;
	}
}

static void find_untracked_exits(struct process_state *state, struct cellos_probe_env *env,
				 bool complete)
{
	struct proc_untracked *untracked = &state->untracked;
	uint32_t low = untracked->low, high = untracked->high;

	untracked->low = CELLOS_PID_LIMIT; /* grows again with what stays */
	untracked->high = 0;
	for (uint32_t pid = low; pid <= high; pid++) {
		struct proc_entry nameless = {.pid = pid, .flags = untracked->flags[pid]};

		if (nameless.flags == 0)
			continue;
		if (complete && (nameless.flags & PROC_SEEN) == 0) {
			tell_exit(state, env, &nameless);
			nameless.flags = 0;
		}
		proc_untracked_set(untracked, pid, nameless.flags & (uint8_t)~PROC_SEEN);
	}
}

static void forget_kernel(struct process_state *state, bool complete)
{
	for (uint32_t at = state->kernel.count; at-- > 0;) {
		struct proc_entry *entry = &state->kernel.entries[at];

		if (complete && (entry->flags & PROC_SEEN) == 0)
			proc_table_remove(&state->kernel, entry);
		else
			entry->flags &= (uint8_t)~PROC_SEEN;
	}
}

static void lose_proc(struct process_state *state)
{
	close(state->fd);
	state->fd = -1;
}

static void walk_once(struct process_state *state, struct cellos_probe_env *env)
{
	struct walk walk = list_all(state, env);

	find_exits(state, env, walk.complete);
	find_untracked_exits(state, env, walk.complete);
	forget_kernel(state, walk.complete);
	cellos_probe_stat_add(env, STAT_WALKS, 1);
	if (walk.trouble)
		open_gap(state, env);
	else if (walk.complete)
		state->in_gap = false;
	/* An unreadable stat is tried again with the next walk, a dead listing from anew. */
	if (walk.trouble && !walk.complete)
		lose_proc(state);
	if (walk.complete && !walk.trouble)
		state->have_snapshot = true;
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Is this directory /proc, of our own PID namespace, and does it show everybody? */
static int check_proc(int fd, uint32_t agent_pid, struct cellos_probe_status *status)
{
	struct cellos_proc_stat stat;
	char link[16];
	ssize_t len = readlinkat(fd, "self", link, sizeof(link) - 1);
	int result;

	if (len < 0) {
		cellos_probe_why(status, "/proc is not mounted");
		return -ENODEV;
	}
	link[len] = '\0';
	if (cellos_proc_parse_pid(link) != agent_pid) {
		cellos_probe_why(status, "/proc shows another PID namespace");
		return -EXDEV;
	}
	result = read_stat(fd, "1", &stat);
	if (result == -ENOENT || result == -EPERM || result == -EACCES)
		cellos_probe_why(status, "hidepid on /proc hides the processes of other users");
	else if (result != 0)
		cellos_probe_why(status, "cannot read /proc/1/stat: %s", strerror(-result));
	return result;
}

static int open_proc(struct process_state *state, const struct cellos_probe_env *env,
		     struct cellos_probe_status *status)
{
	const char *root = state->seam.root != NULL ? state->seam.root : "/proc";
	int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int result;

	if (fd < 0) {
		result = -errno;
		cellos_probe_why(status, "cannot open /proc: %s", strerror(-result));
		return result;
	}
	result = check_proc(fd, env->agent_pid, status);
	if (result == 0)
		state->fd = fd;
	else
		close(fd);
	return result;
}

static void process_arm(void *opaque, struct cellos_probe_env *env,
			struct cellos_probe_status *status)
{
	struct process_state *state = opaque;

	*status = (struct cellos_probe_status){.surface = "none"};
	state->fd = -1;
	lay_out(state, env->options->max_processes);
	if (open_proc(state, env, status) != 0) {
		open_gap(state, env);
	} else {
		walk_once(state, env);
		if (state->fd < 0)
			cellos_probe_why(status, "cannot list /proc");
	}
	/* A failure is for now: run goes on trying. */
	status->failed = state->fd < 0;
	status->armed = !status->failed;
	status->surface = status->armed ? "procfs" : "none";
}

/* The first due moment after `now`, on the grid that `due` stands on: no drift, and after a stall
   no burst. */
static uint64_t next_due(uint64_t due, uint64_t period, uint64_t now)
{
	due += period;
	if (due <= now)
		due += ((now - due) / period + 1) * period;
	return due;
}

/* When the first of those waiting for a name has waited long enough. */
static uint64_t name_deadline(const struct process_state *state)
{
	return state->first == state->past_last
		       ? UINT64_MAX
		       : state->waiting[state->first % MAX_WAITING].since_ns + NAME_WAIT_NS;
}

/* What ended since the last walk, as far as a short moment goes, and all that waits. */
static void finish(struct process_state *state, struct cellos_probe_env *env)
{
	if (state->fd >= 0) {
		state->give_up_ns = cellos_probe_now() + LAST_WALK_NS;
		walk_once(state, env);
	}
	while (state->first != state->past_last)
		tell_first(state, env);
}

static void process_run(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *state = opaque;
	uint64_t interval = env->options->process_interval_ms * CELLOS_NS_PER_MS;
	uint64_t due = cellos_probe_now() + interval;
	struct cellos_probe_status unused;

	for (;;) {
		uint64_t named = name_deadline(state);

		if (cellos_probe_wait(env->stop_fd, -1, due < named ? due : named) ==
		    CELLOS_WAIT_STOP)
			break;
		if (cellos_probe_now() >= due) {
			if (state->fd >= 0 || open_proc(state, env, &unused) == 0)
				walk_once(state, env);
			due = next_due(due, state->fd >= 0 ? interval : CELLOS_PROBE_RETRY_NS,
				       cellos_probe_now());
		}
		tell_named(state, env);
	}
	finish(state, env);
}

static void process_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *state = opaque;

	(void)env;
	if (state->fd >= 0)
		lose_proc(state);
}

const struct cellos_probe cellos_probe_process = {
	.name = "process",
	.help = "processes that start and end, by walking /proc",
	.lane = CELLOS_LANE_PROC,
	.stat_names = {"table_full", "walks", "gaps"},
	.state_bytes = process_state_bytes,
	.arm = process_arm,
	.run = process_run,
	.disarm = process_disarm,
};
