/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Random lives of processes in a model of the kernel, with few numbers that are soon given out
 * again: forks, execs, threads, leaders that leave early, execs by other threads, zombies, kernel
 * threads and helpers. Its messages go through a queue that may overflow as a socket does, and what
 * process_track makes of them is compared with what really happened.
 *
 *   nothing lost   every process is reported once as spawned and once as exited, with the times of
 *                  its fork and end and the right names, a parent before its child
 *   losses         per number spawned and exited alternate; happened <= produced + lost; after a
 *                  walk what is known is what is there
 *
 *   test_process_lives [SEED [ROUNDS]]     each round has a seed of its own, the next
 *
 * Threads: one. Refuses to: touch a kernel.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "track_rig.h"

#define MS UINT64_C(1000000)
#define PIDS 220u
#define FIRST_PID 3u
#define MAX_THREADS 6u
#define MAX_MESSAGES 65536u
#define MAX_TASKS 100000u
#define KTHREADD 2u

#define CHECK(condition)                                                                           \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s (seed %lu, at %llu ns)\n", __FILE__, __LINE__,  \
				#condition, seed, (unsigned long long)now);                        \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct task {
	uint32_t pid, parent;
	uint32_t tids[MAX_THREADS]; /* the leader's is its pid */
	unsigned threads;           /* of tids, the leader among them while it lives */
	bool leader_gone, alive, zombie, kernel, execed, before;
	unsigned spawned, exited; /* reports */
	uint64_t starttime, born_ns, exec_ns, over_ns;
	char parents_name[16], first_name[16], name[16];
};

enum kind { FORK, EXEC, EXIT };

struct message {
	enum kind what;
	uint32_t pid, tgid, parent;
	uint64_t ns;
	bool recorded;
	struct exit_record record;
};

static unsigned long seed;
static uint64_t now, next_start, names;
static struct task *tasks; /* all that ever were */
static unsigned task_count;
static struct task *bearer[PIDS]; /* of a thread group's number, zombies too */
static bool used[PIDS];           /* by anybody */
static uint64_t freed_ns[PIDS], read_ns;
static uint32_t last_pid;
static struct message *queue;
static unsigned queued, queue_limit;
static bool congested;
static uint64_t lost, produced, happened;
static bool told_alive[PIDS];
static bool lossy, listens, groups;
static bool still; /* nothing goes on by itself */

static bool is_known(uint32_t pid)
{
	for (uint32_t at = 1; at <= track_rig.state->used; at++)
		if (track_rig.state->entries[at].pid == pid)
			return true;
	return false;
}

static unsigned random_below(unsigned limit)
{
	return (unsigned)random() % limit;
}

/* ---- the kernel ----------------------------------------------------------------------------- */

static void send(struct message message)
{
	now += 1 + random_below(50000);
	message.ns = now;
	if (congested || queued == queue_limit) {
		congested = true;
		lost++;
		return;
	}
	queue[queued++] = message;
}

static void free_number(uint32_t pid)
{
	used[pid] = false;
	freed_ns[pid] = now;
}

/* Who has a number while a report under it is still held makes that go out early; so without
   losses, where every name is compared, it is not given out so soon. */
static uint32_t new_number(void)
{
	for (unsigned tries = 0; tries < PIDS; tries++) {
		last_pid = last_pid + 1 < PIDS ? last_pid + 1 : FIRST_PID;
		bool at_once = freed_ns[last_pid] > read_ns || is_known(last_pid);

		if (!used[last_pid] && (lossy || !at_once)) {
			used[last_pid] = true;
			return last_pid;
		}
	}
	return 0;
}

static struct task *pick(bool (*wanted)(const struct task *task))
{
	unsigned first = random_below(PIDS);

	for (unsigned at = 0; at < PIDS; at++) {
		struct task *task = bearer[(first + at) % PIDS];

		if (task != NULL && wanted(task))
			return task;
	}
	return NULL;
}

static bool is_user(const struct task *task)
{
	return task->alive && !task->kernel;
}

static bool is_mortal(const struct task *task)
{
	return task->alive && task->pid >= FIRST_PID;
}

static bool is_zombie(const struct task *task)
{
	return task->zombie;
}

static void do_fork(struct task *parent)
{
	uint32_t pid = task_count < MAX_TASKS ? new_number() : 0;
	struct task *task = &tasks[task_count];

	if (pid == 0)
		return;
	task_count++;
	*task = (struct task){.pid = pid,
			      .parent = parent->pid,
			      .tids = {pid},
			      .threads = 1,
			      .alive = true,
			      .kernel = parent->kernel,
			      .starttime = ++next_start};
	memcpy(task->parents_name, parent->name, sizeof(task->name));
	memcpy(task->name, parent->name, sizeof(task->name));
	bearer[pid] = task;
	send((struct message){.what = FORK, .pid = pid, .tgid = pid, .parent = parent->pid});
	task->born_ns = now;
	happened += !task->kernel;
}

static void end_thread(struct task *task, unsigned at, bool last)
{
	uint32_t tid = task->tids[at];
	struct message message = {.what = EXIT, .pid = tid, .tgid = task->pid};

	message.recorded = listens && (!lossy || random_below(10) > 0);
	if (listens && !message.recorded)
		lost++;
	message.record = (struct exit_record){.pid = tid,
					      .parent = task->parent,
					      .last = groups && last,
					      .never_execed = !task->execed};
	snprintf(message.record.comm, 16, "%s", tid == task->pid ? task->name : "thread");
	message.record.comm_len = (uint8_t)strlen(message.record.comm);
	if (tid == task->pid)
		task->leader_gone = true;
	else
		free_number(tid);
	task->tids[at] = task->tids[--task->threads];
	if (last) {
		task->alive = false;
		task->zombie = true;
	}
	send(message);
}

static void do_exec(struct task *task)
{
	/* All other threads end first. Not the leader: then that ends as well, and its number goes
	   over. */
	unsigned self = random_below(task->threads);
	uint32_t tid = task->tids[self];

	while (task->threads > 1) {
		unsigned at = task->tids[0] == tid ? 1 : 0;

		end_thread(task, at, false);
	}
	if (tid != task->pid) {
		free_number(tid);
		task->tids[0] = task->pid;
		task->leader_gone = false;
	}
	if (task->kernel)
		happened++;
	task->kernel = false;
	snprintf(task->name, sizeof(task->name), "e%llu", (unsigned long long)++names);
	task->execed = true;
	send((struct message){.what = EXEC, .pid = task->pid, .tgid = task->pid});
	if (task->exec_ns == 0) {
		task->exec_ns = now;
		memcpy(task->first_name, task->name, sizeof(task->name));
	}
}

static void do_thread(struct task *task)
{
	uint32_t tid = task->threads < MAX_THREADS ? new_number() : 0;

	if (tid == 0)
		return;
	task->tids[task->threads++] = tid;
	send((struct message){.what = FORK, .pid = tid, .tgid = task->pid, .parent = task->parent});
}

static void do_thread_exit(struct task *task)
{
	if (task->threads > 1)
		end_thread(task, random_below(task->threads), false);
}

static void reap(struct task *task)
{
	bearer[task->pid] = NULL;
	free_number(task->pid);
}

static void do_end(struct task *task)
{
	while (task->threads > 1)
		end_thread(task, random_below(task->threads), false);
	end_thread(task, 0, true);
	task->over_ns = now;
	happened += !task->kernel;
	for (uint32_t pid = FIRST_PID; pid < PIDS; pid++)
		if (bearer[pid] != NULL && bearer[pid]->parent == task->pid)
			bearer[pid]->parent = 1;
	if (task->kernel)
		reap(task); /* nobody waits for those */
}

static void live(void)
{
	unsigned dice = random_below(100);
	struct task *user = pick(is_user), *mortal = pick(is_mortal), *zombie = pick(is_zombie);

	if (still)
		return;
	now += random_below(3) == 0 ? random_below(4000000) : 0;
	if (dice < 25)
		do_fork(user);
	else if (dice < 28)
		do_fork(bearer[KTHREADD]);
	else if (dice < 45 && mortal != NULL)
		do_exec(mortal);
	else if (dice < 52)
		do_thread(user);
	else if (dice < 57)
		do_thread_exit(user);
	else if (dice < 78 && mortal != NULL)
		do_end(mortal);
	else if (dice < 99 && zombie != NULL)
		reap(zombie);
	else if (dice == 99)
		now += 30 * MS;
}

/* ---- /proc ---------------------------------------------------------------------------------- */

static int look(uint32_t pid, struct cellos_proc_stat *out)
{
	const struct task *task = pid < PIDS ? bearer[pid] : NULL;

	if (task == NULL)
		return -ENOENT;
	*out = (struct cellos_proc_stat){.pid = pid,
					 .starttime = task->starttime,
					 .flags = task->execed ? 0 : CELLOS_PF_FORKNOEXEC,
					 .num_threads = task->threads + task->leader_gone,
					 .state = task->leader_gone ? 'Z' : 'S'};
	if (task->kernel)
		out->flags |= CELLOS_PF_KTHREAD;
	out->comm_len = (uint8_t)strlen(task->name);
	memcpy(out->comm, task->name, out->comm_len);
	return 0;
}

/* ---- what is reported ----------------------------------------------------------------------- */

static struct task *task_of(uint32_t pid, enum cellos_probe_source source, uint64_t ns)
{
	for (unsigned at = task_count; at-- > 0;) {
		struct task *task = &tasks[at];

		if (task->pid == pid &&
		    (source == CELLOS_SOURCE_PROCESS_SPAWNED ? task->born_ns : task->over_ns) == ns)
			return task;
	}
	return NULL;
}

static struct task *parent_of(const struct task *task)
{
	for (const struct task *at = task; at-- > tasks;)
		if (at->pid == task->parent && at->born_ns < task->born_ns)
			return (struct task *)(uintptr_t)at;
	return NULL;
}

/* Of one without losses. Never the name before an exec that was in time; without a listener none,
   when it was gone too soon. */
static void check_spawn(struct task *task, const char *comm)
{
	struct task *parent = parent_of(task);

	CHECK(task->spawned++ == 0 && task->exited == 0 && !task->kernel);
	CHECK(parent == NULL || parent->kernel || parent->before || parent->spawned == 1 ||
	      task->parent == 1);
	if (task->exec_ns != 0 && task->exec_ns < task->born_ns + 20 * MS)
		CHECK((comm[0] == 'e' && strcmp(comm, task->parents_name) != 0) ||
		      (comm[0] == '\0' && !listens));
	else if (task->exec_ns == 0 && listens)
		CHECK(strcmp(comm, task->parents_name) == 0);
}

static void emit(enum cellos_probe_source source, uint32_t pid, const char *comm, uint64_t ns)
{
	bool spawned = source == CELLOS_SOURCE_PROCESS_SPAWNED;
	struct task *task;

	CHECK(pid < PIDS && told_alive[pid] != spawned);
	told_alive[pid] = spawned;
	produced++;
	if (lossy)
		return;
	task = task_of(pid, source, ns);
	CHECK(task != NULL);
	if (spawned) {
		check_spawn(task, comm);
		return;
	}
	CHECK(task->exited++ == 0 && task->spawned == !task->before);
	if (listens)
		CHECK(strcmp(comm, task->name) == 0);
}

/* ---- the reader ----------------------------------------------------------------------------- */

static void deliver(void)
{
	for (unsigned at = 0; at < queued; at++) {
		const struct message *m = &queue[at];

		if (m->what == FORK)
			process_forked(track_rig.state, m->parent, m->pid, m->tgid, m->ns);
		else if (m->what == EXEC)
			process_execed(track_rig.state, m->tgid, m->ns);
		else
			track_rig_exit(m->pid, m->tgid, m->ns, m->recorded ? &m->record : NULL);
	}
	queued = 0;
	congested = false;
}

/* The kernel goes on between two looks at it. */
static void walk(void)
{
	track_rig.state->walk++;
	for (uint32_t pid = 1; pid < PIDS; pid++) {
		struct cellos_proc_stat stat;
		uint64_t before = ++now;

		if (look(pid, &stat) == 0)
			process_seen(track_rig.state, &stat, before);
		if (random_below(8) == 0)
			live();
	}
	deliver();
	process_walk_end(track_rig.state, ++now);
}

static uint64_t counted;

static bool count_lost(void)
{
	if (lost == counted)
		return false;
	counted = lost;
	track_rig.state->recovering = true;
	return true;
}

static void read_all(void)
{
	deliver();
	if (count_lost())
		do
			walk();
		while (count_lost());
	(void)process_settle(track_rig.state, now);
	read_ns = now;
}

/* After everything is reported. */
static void compare(void)
{
	for (uint32_t pid = FIRST_PID; pid < PIDS; pid++) {
		const struct task *task = bearer[pid];

		CHECK(told_alive[pid] == (task != NULL && task->alive && !task->kernel));
	}
	CHECK(happened <= produced + lost);
	if (!lossy)
		CHECK(happened == produced);
}

static void begin(void)
{
	track_rig_free();
	track_rig.emit = emit;
	track_rig.look = look;
	track_rig_init(256, true, listens);
	memset(bearer, 0, sizeof(bearer));
	memset(used, 0, sizeof(used));
	memset(freed_ns, 0, sizeof(freed_ns));
	read_ns = 0;
	memset(told_alive, 0, sizeof(told_alive));
	task_count = queued = 0;
	lost = counted = produced = happened = next_start = 0;
	congested = false;
	last_pid = FIRST_PID;
	now = 1000 * MS;
	for (uint32_t pid = 1; pid <= KTHREADD; pid++) {
		tasks[task_count] = (struct task){.pid = pid,
						  .tids = {pid},
						  .threads = 1,
						  .alive = true,
						  .before = true,
						  .kernel = pid == KTHREADD,
						  .execed = pid == 1,
						  .starttime = ++next_start,
						  .name = "init"};
		bearer[pid] = &tasks[task_count++];
		used[pid] = true;
	}
	track_rig.state->walk++;
	for (uint32_t pid = 1; pid < PIDS; pid++) {
		struct cellos_proc_stat stat;

		if (look(pid, &stat) == 0)
			process_seen(track_rig.state, &stat, now);
	}
	process_walk_end(track_rig.state, now);
}

static void one_round(void)
{
	lossy = random_below(2) == 0;
	listens = random_below(3) > 0;
	groups = random_below(3) > 0;
	queue_limit = lossy ? 5 + random_below(60) : MAX_MESSAGES;
	begin();
	still = false;
	for (unsigned step = 0; step < 3000; step++) {
		live();
		if (random_below(lossy ? 30 : 12) == 0)
			read_all();
	}
	still = true;
	read_all();
	now += 100 * MS;
	(void)process_settle(track_rig.state, now);
	CHECK(track_rig.state->held == NULL);
	compare();
	for (uint32_t pid = FIRST_PID; pid < PIDS; pid++)
		if (bearer[pid] != NULL && bearer[pid]->alive)
			do_end(bearer[pid]);
	read_all();
	(void)process_settle(track_rig.state, UINT64_MAX);
	compare();
	for (uint32_t pid = FIRST_PID; pid < PIDS; pid++)
		CHECK(!is_known(pid));
	CHECK(lost > 0 || !lossy);
}

int main(int argc, char *argv[])
{
	unsigned long first = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
	unsigned long rounds = argc > 2 ? strtoul(argv[2], NULL, 10) : 60;

	tasks = calloc(MAX_TASKS, sizeof(*tasks));
	queue = calloc(MAX_MESSAGES, sizeof(*queue));
	CHECK(tasks != NULL && queue != NULL);
	for (seed = first; seed < first + rounds; seed++) {
		srandom((unsigned)seed);
		one_round();
	}
	printf("%lu lives of machines, from seed %lu on\n", rounds, first);
	track_rig_free();
	free(tasks);
	free(queue);
	return 0;
}
