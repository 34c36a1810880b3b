/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What is a process, when it is over and under which name it is reported: messages in, events out,
 * with a /proc and a clock of the test's own. The random lives against a model of the kernel are in
 * test_process_lives.c.
 *
 * Threads: none. Times are milliseconds in the calls here.
 * Refuses to: touch a kernel.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "track_rig.h"

#define SPAWNED CELLOS_SOURCE_PROCESS_SPAWNED
#define EXITED CELLOS_SOURCE_PROCESS_EXITED
#define MS UINT64_C(1000000)
#define HOLD 20
#define ALIVE 1000 /* the first walk finds it: the parent of most */

struct seen {
	enum cellos_probe_source source;
	uint32_t pid;
	uint64_t ns;
	char comm[17];
};

static struct seen events[64];
static unsigned count, looks;
static struct cellos_proc_stat proc[5000]; /* by pid; pid 0: not there */

static void emit(enum cellos_probe_source source, uint32_t pid, const char *comm, uint64_t ns)
{
	cr_assert(count < 64);
	events[count] = (struct seen){.source = source, .pid = pid, .ns = ns};
	strcpy(events[count++].comm, comm);
}

static int look(uint32_t pid, struct cellos_proc_stat *out)
{
	looks++;
	if (pid >= 5000 || proc[pid].pid == 0)
		return -ENOENT;
	*out = proc[pid];
	return 0;
}

static void put(uint32_t pid, const char *name, char state, uint32_t flags, uint64_t starttime)
{
	proc[pid] = (struct cellos_proc_stat){.pid = pid,
					      .state = state,
					      .flags = flags,
					      .num_threads = 1,
					      .starttime = starttime};
	proc[pid].comm_len = (uint8_t)strlen(name);
	memcpy(proc[pid].comm, name, strlen(name));
}

static void drop(uint32_t pid)
{
	proc[pid].pid = 0;
}

static void see(uint64_t ms, uint32_t pid)
{
	process_seen(track_rig.state, &proc[pid], ms * MS);
}

static void walk_begin(uint64_t ms)
{
	track_rig.state->walk++;
	for (uint32_t pid = 1; pid < 5000; pid++)
		if (proc[pid].pid != 0)
			see(ms, pid);
}

static void walk_end(uint64_t ms)
{
	process_walk_end(track_rig.state, ms * MS);
}

static void walk(uint64_t ms)
{
	walk_begin(ms);
	walk_end(ms);
}

static void lose(void)
{
	track_rig.state->recovering = true;
}

static void begin_with(uint32_t max, bool listens)
{
	track_rig.emit = emit;
	track_rig.look = look;
	track_rig_init(max, true, listens);
	put(1, "init", 'S', 0, 1);
	put(2, "kthreadd", 'S', CELLOS_PF_KTHREAD, 1);
	put(ALIVE, "shell", 'S', 0, 50);
	walk(0);
	drop(ALIVE); /* what is known of it must do */
	cr_assert(count == 0, "the first walk's are no news");
	cr_assert(process_settle(track_rig.state, 0) == UINT64_MAX);
}

static void begin(void)
{
	begin_with(64, true);
}

static void fork_at(uint64_t ms, uint32_t parent, uint32_t pid)
{
	process_forked(track_rig.state, parent, pid, pid, ms * MS);
}

static void thread_at(uint64_t ms, uint32_t tgid, uint32_t tid)
{
	process_forked(track_rig.state, 1, tid, tgid, ms * MS);
}

static void exec_at(uint64_t ms, uint32_t pid)
{
	process_execed(track_rig.state, pid, ms * MS);
}

static struct exit_record record_of(uint32_t pid, const char *name, bool last)
{
	struct exit_record record = {.pid = pid, .parent = ALIVE, .last = last};

	record.comm_len = (uint8_t)strlen(name);
	memcpy(record.comm, name, strlen(name));
	return record;
}

static void exit_at(uint64_t ms, uint32_t pid, uint32_t tgid, const char *name, bool last)
{
	struct exit_record record = record_of(pid, name, last);

	track_rig_exit(pid, tgid, ms * MS, &record);
}

static void exit_unrecorded(uint64_t ms, uint32_t pid, uint32_t tgid)
{
	track_rig_exit(pid, tgid, ms * MS, NULL);
}

static uint64_t settle(uint64_t ms)
{
	uint64_t next = process_settle(track_rig.state, ms * MS);

	return next == UINT64_MAX ? next : next / MS;
}

static bool knows(uint32_t pid)
{
	for (uint32_t at = 1; at <= track_rig.state->used; at++)
		if (track_rig.state->entries[at].pid == pid)
			return true;
	return false;
}

/* The next event that was not looked at yet. */
static unsigned looked_at;

static void expect(enum cellos_probe_source source, uint32_t pid, const char *name, uint64_t ms)
{
	const struct seen *event = &events[looked_at++];

	cr_assert(looked_at <= count, "no more events, but %u should have come", pid);
	cr_assert(event->source == source && event->pid == pid, "pid %u, source %d", event->pid,
		  event->source);
	cr_assert_str_eq(event->comm, name);
	cr_assert(event->ns == ms * MS, "pid %u at %llu ns", pid, (unsigned long long)event->ns);
}

static void expect_no_more(void)
{
	cr_assert(looked_at == count, "%u of source %d", events[looked_at].pid,
		  events[looked_at].source);
}

TestSuite(track, .fini = track_rig_free);

/* ---- one process ---------------------------------------------------------------------------- */

Test(track, short_life)
{
	begin();
	fork_at(5, ALIVE, 100);
	exec_at(6, 100);
	exit_at(7, 100, 100, "true", true);
	expect_no_more();
	cr_assert(settle(8) == UINT64_MAX);
	expect(SPAWNED, 100, "true", 5);
	expect(EXITED, 100, "true", 7);
	expect_no_more();
	cr_assert(looks == 0, "the exit has settled the name");
	cr_assert(!knows(100));
}

Test(track, named_while_it_lives)
{
	begin();
	fork_at(5, ALIVE, 100);
	cr_assert(settle(6) == 5 + HOLD);
	exec_at(7, 100);
	put(100, "sleep", 'S', 0, 70);
	cr_assert(settle(8) == UINT64_MAX);
	expect(SPAWNED, 100, "sleep", 5);
	exit_at(500, 100, 100, "renamed", true);
	expect(EXITED, 100, "renamed", 500);
	expect_no_more();
}

/* The kernel takes the mark of a fork without exec away first, then closes what is to be closed,
   and gives the new name last. */
Test(track, in_the_midst_of_an_exec)
{
	begin();
	fork_at(5, ALIVE, 100);
	put(100, "shell", 'S', 0, 70);
	cr_assert(settle(6) == 5 + HOLD);
	expect_no_more();
	put(100, "sleep", 'S', 0, 70);
	exec_at(7, 100);
	cr_assert(settle(8) == UINT64_MAX);
	expect(SPAWNED, 100, "sleep", 5);
	expect_no_more();
}

/* The exec is known, the name is not: it has gone, and its exit says the rest. */
Test(track, exec_that_proc_does_not_show)
{
	begin();
	fork_at(5, ALIVE, 100);
	exec_at(6, 100);
	cr_assert(settle(7) == 5 + HOLD);
	cr_assert(looks == 1);
	expect_no_more();
	exit_at(8, 100, 100, "ls", true);
	settle(8);
	expect(SPAWNED, 100, "ls", 5);
	expect(EXITED, 100, "ls", 8);
}

Test(track, no_exec_to_come)
{
	begin();
	fork_at(5, ALIVE, 100); /* will be seen */
	fork_at(6, ALIVE, 101); /* will not */
	put(100, "worker", 'S', CELLOS_PF_FORKNOEXEC, 70);
	settle(4 + HOLD);
	expect_no_more();
	cr_assert(settle(5 + HOLD) == 6 + HOLD);
	expect(SPAWNED, 100, "worker", 5);
	settle(6 + HOLD);
	expect(SPAWNED, 101, "shell", 6);
	exit_at(90, 101, 101, "forked", true);
	expect(EXITED, 101, "forked", 90);
	expect_no_more();
}

/* After an exec the parent's name is nobody's: unknown is what is said. */
Test(track, no_name_to_be_had)
{
	begin();
	fork_at(5, ALIVE, 100);
	exec_at(6, 100);
	settle(6);
	settle(5 + HOLD);
	expect(SPAWNED, 100, "", 5);
	exit_unrecorded(60, 100, 100);
	expect(EXITED, 100, "", 60);
	expect_no_more();
}

/* What /proc shows under the number may be another by now. */
Test(track, another_under_the_number)
{
	begin();
	put(100, "own", 'S', CELLOS_PF_FORKNOEXEC, 70);
	fork_at(5, ALIVE, 100);
	settle(5 + HOLD);
	expect(SPAWNED, 100, "own", 5);
	fork_at(26, 100, 101);
	put(101, "child", 'S', CELLOS_PF_FORKNOEXEC, 80);
	see(27, 101);
	put(101, "stranger", 'S', 0, 81);
	exec_at(28, 101);
	settle(26 + HOLD);
	expect(SPAWNED, 101, "", 26);
}

Test(track, later_execs_make_no_event)
{
	begin();
	fork_at(5, ALIVE, 100);
	exec_at(6, 100);
	put(100, "first", 'S', 0, 70);
	settle(6);
	expect(SPAWNED, 100, "first", 5);
	exec_at(300, 100);
	settle(301);
	expect_no_more();
	cr_assert(looks == 1, "its exit will say the name");
	exit_at(400, 100, 100, "second", true);
	expect(EXITED, 100, "second", 400);
	expect_no_more();
}

/* Without a listener the name has to be read as long as it can be. */
Test(track, later_execs_without_a_listener)
{
	begin_with(64, false);
	fork_at(5, ALIVE, 100);
	exec_at(6, 100);
	put(100, "first", 'S', 0, 70);
	settle(6);
	put(100, "second", 'S', 0, 70);
	exec_at(300, 100);
	drop(100);
	exit_unrecorded(400, 100, 100);
	expect(SPAWNED, 100, "first", 5);
	expect(EXITED, 100, "second", 400);
}

Test(track, exec_without_fork)
{
	begin();
	put(ALIVE, "other", 'S', 0, 50);
	exec_at(5, ALIVE);
	settle(100);
	expect_no_more();
	exit_at(200, ALIVE, ALIVE, "other", true);
	expect(EXITED, ALIVE, "other", 200);
	expect_no_more();
}

Test(track, idle_tasks_are_none)
{
	begin();
	fork_at(5, ALIVE, 0);
	exit_unrecorded(6, 0, 0);
	fork_at(7, 1, CELLOS_PID_LIMIT);
	settle(100);
	expect_no_more();
}

/* ---- threads -------------------------------------------------------------------------------- */

Test(track, threads_make_no_events)
{
	begin();
	fork_at(5, ALIVE, 100);
	exec_at(6, 100);
	put(100, "many", 'S', 0, 70);
	for (uint32_t tid = 101; tid < 150; tid++)
		thread_at(7, 100, tid);
	settle(8);
	expect(SPAWNED, 100, "many", 5);
	for (uint32_t tid = 101; tid < 150; tid++)
		exit_at(9, tid, 100, "thread", false);
	settle(100);
	expect_no_more();
	exit_at(101, 100, 100, "many", true);
	expect(EXITED, 100, "many", 101);
	expect_no_more();
}

/* With records, and by counting alone. */
Test(track, a_leader_that_leaves_early)
{
	begin();
	fork_at(5, ALIVE, 100);
	fork_at(5, ALIVE, 200);
	thread_at(6, 100, 101);
	thread_at(6, 200, 201);
	settle(5 + HOLD);
	looked_at = count;
	exit_at(30, 100, 100, "leader", false);
	exit_unrecorded(30, 200, 200);
	settle(100);
	expect_no_more();
	exit_at(110, 101, 100, "thread", true);
	expect(EXITED, 100, "leader", 110);
	exit_unrecorded(120, 201, 200);
	expect(EXITED, 200, "shell", 120);
	expect_no_more();
}

/* All die at once, and the last to say so is not the leader: the name is the leader's all the
   same, so that is waited for. */
Test(track, the_last_is_not_the_leader)
{
	begin();
	thread_at(1, ALIVE, 1001);
	exit_at(10, 1001, ALIVE, "thread", true);
	expect_no_more();
	exit_at(11, ALIVE, ALIVE, "shell2", false);
	expect(EXITED, ALIVE, "shell2", 11);
	expect_no_more();
}

/* The old leader's exit, its number and name, and then the process goes on. */
Test(track, exec_by_another_thread)
{
	begin();
	fork_at(5, ALIVE, 100);
	thread_at(6, 100, 101);
	exit_at(7, 100, 100, "old", false);
	settle(7);
	expect_no_more();
	exec_at(8, 100);
	settle(9);
	expect_no_more();
	put(100, "new", 'S', 0, 70);
	settle(10);
	expect(SPAWNED, 100, "new", 5);
	thread_at(11, 100, 102);
	exit_at(12, 102, 100, "thread", false);
	expect_no_more();
	exit_at(50, 100, 100, "new", true);
	expect(EXITED, 100, "new", 50);
	expect_no_more();
}

/* The same of a process without a count, with the old leader's record left over: it is taken for
   the new one's, and does not say "last". */
Test(track, a_record_of_the_leader_that_was)
{
	begin();
	exec_at(8, ALIVE);
	put(ALIVE, "new", 'S', 0, 50);
	exit_at(50, ALIVE, ALIVE, "old", false);
	expect_no_more();
	put(ALIVE, "new", 'Z', 0, 50);
	exit_at(51, ALIVE, ALIVE, "old", false);
	expect(EXITED, ALIVE, "old", 51);
}

/* Before version 12 the listener says names alone. */
Test(track, records_without_a_group)
{
	struct exit_record record = record_of(ALIVE, "last", false);

	begin();
	put(ALIVE, "shell", 'Z', 0, 50);
	proc[ALIVE].num_threads = 2;
	track_rig_exit(ALIVE, ALIVE, 10 * MS, &record);
	expect_no_more();
	record.pid = 1001;
	proc[ALIVE].num_threads = 1;
	track_rig_exit(1001, ALIVE, 20 * MS, &record);
	expect(EXITED, ALIVE, "last", 20);
	fork_at(30, 1, 100);
	record = record_of(100, "short", false);
	track_rig_exit(100, 100, 31 * MS, &record);
	settle(31);
	expect(SPAWNED, 100, "short", 30);
	expect(EXITED, 100, "short", 31);
}

/* ---- the kernel's own ----------------------------------------------------------------------- */

Test(track, kernel_threads)
{
	begin();
	fork_at(5, 2, 100);
	settle(100);
	exit_at(200, 100, 100, "kworker/0:1", true);
	settle(300);
	expect_no_more();
	cr_assert(!knows(100));
}

Test(track, usermode_helpers)
{
	begin();
	put(4321, "kworker/u4:0", 'S', CELLOS_PF_KTHREAD, 3);
	fork_at(5, 2, 100);
	fork_at(5, 4321, 200);
	fork_at(6, 4321, 300);
	exec_at(7, 100);
	exec_at(7, 200);
	exit_at(8, 100, 100, "modprobe", true);
	exit_at(8, 200, 200, "core", true);
	exit_at(9, 300, 300, "kworker/u4:0", true); /* no such program */
	settle(9);
	expect(SPAWNED, 100, "modprobe", 5);
	expect(EXITED, 100, "modprobe", 8);
	expect(SPAWNED, 200, "core", 5);
	expect(EXITED, 200, "core", 8);
	expect_no_more();
}

/* ---- order ---------------------------------------------------------------------------------- */

Test(track, a_parent_before_its_child)
{
	begin();
	fork_at(5, ALIVE, 100);
	fork_at(6, 100, 101);
	exec_at(7, 101);
	exit_at(8, 101, 101, "child", true);
	fork_at(9, ALIVE, 200); /* of another parent, and in its turn all the same */
	exit_at(10, 200, 200, "alone", true);
	cr_assert(settle(11) == 5 + HOLD);
	expect_no_more();
	settle(5 + HOLD);
	expect(SPAWNED, 100, "shell", 5);
	expect(SPAWNED, 101, "child", 6);
	expect(EXITED, 101, "child", 8);
	expect(SPAWNED, 200, "alone", 9);
	expect(EXITED, 200, "alone", 10);
	expect_no_more();
}

Test(track, a_chain_goes_with_its_first)
{
	begin();
	for (uint32_t pid = 100; pid < 110; pid++)
		fork_at(5, pid == 100 ? ALIVE : pid - 1, pid);
	for (uint32_t pid = 109; pid >= 100; pid--)
		exit_at(6, pid, pid, "link", true);
	settle(7);
	for (uint32_t pid = 100; pid < 110; pid++) {
		expect(SPAWNED, pid, "link", 5);
		expect(EXITED, pid, "link", 6);
	}
	expect_no_more();
}

/* ---- numbers given out again ---------------------------------------------------------------- */

Test(track, a_fork_of_a_known_number)
{
	begin();
	fork_at(5, ALIVE, 100);
	exec_at(6, 100);
	put(100, "first", 'S', 0, 70);
	settle(6);
	drop(100);
	fork_at(50, ALIVE, 100);
	expect(SPAWNED, 100, "first", 5);
	expect(EXITED, 100, "first", 50);
	exit_at(51, 100, 100, "second", true);
	settle(51);
	expect(SPAWNED, 100, "second", 50);
	expect(EXITED, 100, "second", 51);
	expect_no_more();
}

Test(track, a_fork_of_a_held_number)
{
	begin();
	fork_at(5, ALIVE, 99);
	fork_at(6, 99, 100);
	fork_at(7, 100, 101);
	fork_at(8, ALIVE, 100);
	expect(SPAWNED, 99, "shell", 5);
	expect(SPAWNED, 100, "shell", 6);
	expect(EXITED, 100, "shell", 8);
	expect_no_more();
	settle(8 + HOLD);
	expect(SPAWNED, 101, "shell", 7);
	expect(SPAWNED, 100, "shell", 8);
	expect_no_more();
}

/* ---- no room -------------------------------------------------------------------------------- */

Test(track, a_full_table)
{
	begin_with(16, true); /* two are known already */
	for (uint32_t pid = 100; pid < 114; pid++)
		fork_at(5, ALIVE, pid);
	expect_no_more();
	put(114, "late", 'S', 0, 70);
	fork_at(6, ALIVE, 114);
	for (uint32_t pid = 100; pid < 114; pid++)
		expect(SPAWNED, pid, "shell", 5);
	expect(SPAWNED, 114, "late", 6);
	fork_at(6, ALIVE, 115);
	expect(SPAWNED, 115, "shell", 6);
	cr_assert(track_rig_full() == 2);
	thread_at(7, 114, 116);
	exit_at(8, 116, 114, "thread", false);
	expect_no_more();
	exit_at(9, 114, 114, "later", true);
	expect(EXITED, 114, "later", 9);
	put(115, "x", 'S', 0, 71);
	exit_unrecorded(10, 117, 115);
	expect_no_more();
	drop(115);
	exit_unrecorded(11, 115, 115);
	expect(EXITED, 115, "", 11);
	exit_unrecorded(12, 115, 115);
	expect_no_more();
}

/* What is held and over makes room. */
Test(track, room_made_by_the_dead)
{
	begin_with(16, true);
	for (uint32_t pid = 100; pid < 114; pid++)
		fork_at(5, ALIVE, pid);
	exit_at(6, 100, 100, "dead", true);
	fork_at(7, ALIVE, 114);
	cr_assert(track_rig_full() == 0);
	expect(SPAWNED, 100, "dead", 5);
	expect(EXITED, 100, "dead", 6);
	expect_no_more();
}

Test(track, the_kernels_own_without_room)
{
	begin_with(16, true);
	for (uint32_t pid = 100; pid < 114; pid++)
		fork_at(5, ALIVE, pid);
	fork_at(6, 2, 200);
	fork_at(6, 2, 201);
	looked_at = count;
	put(200, "helper", 'S', 0, 70);
	exec_at(7, 200);
	expect(SPAWNED, 200, "helper", 7);
	exit_at(8, 200, 200, "helper", true);
	expect(EXITED, 200, "helper", 8);
	exit_at(9, 201, 201, "kworker/1:1", true);
	expect_no_more();
}

Test(track, a_number_without_room_given_out_again)
{
	begin_with(16, true);
	for (uint32_t pid = 100; pid < 115; pid++)
		fork_at(5, ALIVE, pid);
	looked_at = count;
	exit_at(6, 100, 100, "gone", true);
	expect(EXITED, 100, "gone", 6);
	fork_at(7, ALIVE, 114);
	expect(EXITED, 114, "", 7);
	settle(7 + HOLD);
	expect(SPAWNED, 114, "shell", 7);
	expect_no_more();
}

/* ---- losses --------------------------------------------------------------------------------- */

Test(track, a_walk_puts_it_right)
{
	begin();
	fork_at(5, ALIVE, 100);
	fork_at(5, ALIVE, 101);
	settle(5 + HOLD);
	looked_at = count;
	put(ALIVE, "shell", 'S', 0, 50);
	put(101, "stays", 'S', 0, 70);
	put(102, "new", 'S', 0, 71);
	put(103, "forked", 'S', CELLOS_PF_FORKNOEXEC, 72);
	put(104, "zombie", 'Z', 0, 73);
	put(106, "kworker", 'S', CELLOS_PF_KTHREAD, 75);
	lose();
	walk(100);
	expect(EXITED, 100, "shell", 100);
	cr_assert(settle(100) == 100 + HOLD);
	expect(SPAWNED, 102, "new", 100);
	settle(100 + HOLD);
	expect(SPAWNED, 103, "forked", 100);
	walk(200);
	settle(300);
	expect_no_more();
	exit_at(310, 101, 101, "stays", true);
	expect(EXITED, 101, "stays", 310);
}

/* Messages that wait while the walk goes on are of processes that it has seen, or not. */
Test(track, messages_behind_a_walk)
{
	begin();
	fork_at(5, ALIVE, 100);
	fork_at(5, ALIVE, 101);
	settle(5 + HOLD);
	looked_at = count;
	lose();
	put(ALIVE, "shell", 'S', 0, 50);
	put(101, "zombie", 'Z', 0, 51);
	put(200, "seen", 'S', 0, 70);
	walk_begin(100);
	fork_at(101, ALIVE, 200); /* its time stamp came after the look */
	fork_at(102, ALIVE, 300); /* not seen, and alive */
	exit_at(103, 100, 100, "gone", true);
	exit_at(104, 101, 101, "ended", true);
	exit_at(105, 400, 400, "unknown", true); /* its fork was lost */
	walk_end(110);
	expect(EXITED, 100, "gone", 103);
	expect(EXITED, 101, "ended", 104);
	settle(110);
	expect(SPAWNED, 200, "seen", 101);
	expect_no_more();
	exit_at(120, 500, 500, "unknown", true);
	expect_no_more();
	settle(102 + HOLD);
	expect(SPAWNED, 300, "shell", 102);
	expect(SPAWNED, 400, "unknown", 105);
	expect(EXITED, 400, "unknown", 105);
}

/* Its parent was held up between the child's being there and the time stamp. */
Test(track, a_fork_long_after_a_walk_has_seen_it)
{
	begin();
	put(ALIVE, "shell", 'S', 0, 50);
	put(200, "seen", 'S', 0, 70);
	put(201, "seen", 'S', 0, 71);
	put(202, "seen", 'S', 0, 72);
	walk(100);
	settle(100);
	expect(SPAWNED, 200, "seen", 100);
	expect(SPAWNED, 201, "seen", 100);
	expect(SPAWNED, 202, "seen", 100);
	fork_at(500, ALIVE, 200);
	expect_no_more();
	drop(201); /* and it has ended since; that will be told */
	fork_at(501, ALIVE, 201);
	expect_no_more();
	exit_at(502, 201, 201, "short", true);
	expect(EXITED, 201, "short", 502);
	put(202, "other", 'S', 0, 503); /* the exit of the one that was seen got lost */
	lose();
	fork_at(503, ALIVE, 202);
	expect(EXITED, 202, "seen", 503);
}

/* Its exit has the time stamp just before a walk sees it still there. */
Test(track, one_that_ends_when_it_is_seen)
{
	begin();
	put(ALIVE, "shell", 'S', 0, 50);
	put(200, "ends", 'S', 0, 5); /* began at 50 ms */
	put(201, "new", 'S', 0, 9);  /* at 90 ms, under the number of one that ended before */
	walk(100);
	settle(100);
	expect(SPAWNED, 200, "ends", 100);
	expect(SPAWNED, 201, "new", 100);
	exit_at(99, 200, 200, "ends", true);
	expect(EXITED, 200, "ends", 99);
	exit_at(99, 201, 201, "old", true);
	expect_no_more();
}

Test(track, strangers_of_the_kernel)
{
	struct exit_record record = record_of(600, "kworker/3:0", true);

	begin();
	lose();
	record.never_execed = true;
	record.parent = 2;
	track_rig_exit(600, 600, 5 * MS, &record);
	expect_no_more();
	record.parent = 3;
	track_rig_exit(600, 600, 5 * MS, &record);
	settle(5);
	expect(SPAWNED, 600, "kworker/3:0", 5);
	expect(EXITED, 600, "kworker/3:0", 5);
}

/* A parent that nobody knows and that is gone was no thread of the kernel. */
Test(track, children_of_strangers)
{
	begin();
	fork_at(5, 4321, 100);
	settle(5 + HOLD);
	expect(SPAWNED, 100, "", 5);
	expect_no_more();
}

Test(track, counts_are_void_after_a_loss)
{
	begin();
	fork_at(5, ALIVE, 100);
	settle(5 + HOLD);
	looked_at = count;
	lose(); /* the fork of a thread, say */
	put(100, "x", 'Z', 0, 70);
	proc[100].num_threads = 2;
	exit_unrecorded(30, 100, 100);
	expect_no_more();
	proc[100].num_threads = 1;
	exit_unrecorded(31, 101, 100);
	expect(EXITED, 100, "shell", 31);
}

/* A walk finds the number with another, and the messages of both come behind it. */
Test(track, another_found_by_a_walk)
{
	begin();
	put(100, "first", 'S', 0, 70);
	fork_at(5, ALIVE, 100);
	exec_at(5, 100);
	settle(6);
	expect(SPAWNED, 100, "first", 5);
	lose();
	put(ALIVE, "shell", 'S', 0, 50);
	put(100, "second", 'S', 0, 80);
	walk_begin(100);
	expect(EXITED, 100, "first", 100);
	exit_at(90, 100, 100, "first", true);
	fork_at(91, ALIVE, 100);
	walk_end(101);
	settle(101);
	expect(SPAWNED, 100, "second", 91);
	expect_no_more();
	exit_at(110, 100, 100, "second", true);
	expect(EXITED, 100, "second", 110);
}

/* Nothing is concluded from half a walk. */
Test(track, half_a_walk)
{
	begin();
	fork_at(5, ALIVE, 100);
	settle(5 + HOLD);
	looked_at = count;
	lose();
	track_rig.state->walk++;
	expect_no_more();
	cr_assert(track_rig.state->recovering);
	walk(100);
	expect(EXITED, ALIVE, "shell", 100);
	expect(EXITED, 100, "shell", 100);
	cr_assert(!track_rig.state->recovering);
}

Test(track, the_last_word)
{
	begin();
	fork_at(5, ALIVE, 100);
	fork_at(6, 100, 101);
	exit_at(7, 101, 101, "child", true);
	process_settle(track_rig.state, UINT64_MAX);
	expect(SPAWNED, 100, "shell", 5);
	expect(SPAWNED, 101, "child", 6);
	expect(EXITED, 101, "child", 7);
	expect_no_more();
}
