/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The process probe by walks, whole, in its own thread: over this machine's /proc with real
 * children, and over a made tree for what real ones do not do on demand.
 *
 * Threads: the test's and the probe's; each Criterion test is a process of its own.
 * Refuses to: wait for time to pass where something can be waited for.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "fake_proc.h"
#include "probe_tables.h"
#include "process.h"
#include "rig.h"

#define SPAWNED CELLOS_SOURCE_PROCESS_SPAWNED
#define EXITED CELLOS_SOURCE_PROCESS_EXITED
#define SLEEP "/bin/sleep"

static void begin(struct rig *rig, const struct cellos_probe_options *options, const char *root)
{
	rig_init(rig, &cellos_probe_process, options, 65536);
	rig->options.process = CELLOS_PROCESS_WALKER;
	if (root != NULL)
		((struct process_state *)rig->state)->root = root;
	rig_arm(rig);
}

static void begin_real(struct rig *rig)
{
	struct cellos_probe_options options = rig_options();

	begin(rig, &options, NULL);
	cr_assert(rig->status.armed && !rig->status.failed, "%s", rig->status.why);
	cr_assert_str_eq(rig->status.surface, "procfs");
	rig_start(rig);
}

static bool named(const struct cellos_raw_event *event, const char *name)
{
	return event->comm_len == strlen(name) && memcmp(event->comm, name, strlen(name)) == 0;
}

/* Exactly one event of each kind, the spawned one first, with this name. The first may still have
   its parent's: between fork and exec a busy machine can keep a child longer than it is waited for.
   That the wait is for the name after exec is tried where time plays no part, over a made tree. */
static void check_life(const struct rig *rig, pid_t pid, const char *name)
{
	const struct cellos_raw_event *first = rig_last(rig, SPAWNED, (uint32_t)pid);
	const struct cellos_raw_event *last = rig_last(rig, EXITED, (uint32_t)pid);

	cr_assert(rig_count(rig, SPAWNED, (uint32_t)pid) == 1, "pid %d", pid);
	cr_assert(rig_count(rig, EXITED, (uint32_t)pid) == 1, "pid %d", pid);
	cr_assert(first < last && first->monotonic_ns <= last->monotonic_ns);
	cr_assert(named(first, name) || named(first, "test_process"), "born as %.16s", first->comm);
	cr_assert(named(last, name), "died as %.16s, not %s", last->comm, name);
}

/* Two whole walks from here: whatever was going to be reported is. */
static void let_it_walk(struct rig *rig)
{
	cr_assert(rig_until_stat(rig, "walks", rig_stat(rig, "walks") + 3));
	rig_pump(rig, 0);
}

/* ---- real processes ------------------------------------------------------------------------- */

Test(process, real_children)
{
	enum { CHILDREN = 32 };
	struct rig rig;
	pid_t children[CHILDREN];
	uint64_t before, after;

	begin_real(&rig);
	before = rig_now();
	for (unsigned at = 0; at < CHILDREN; at++)
		children[at] = rig_spawn(SLEEP, "1000");
	for (unsigned at = 0; at < CHILDREN; at++)
		cr_assert(rig_until(&rig, SPAWNED, (uint32_t)children[at], 1));
	let_it_walk(&rig); /* on a busy machine an exec takes longer than a name is waited for */
	for (unsigned at = 0; at < CHILDREN; at++) {
		rig_kill(children[at]);
		rig_reap(children[at]);
	}
	for (unsigned at = 0; at < CHILDREN; at++)
		cr_assert(rig_until(&rig, EXITED, (uint32_t)children[at], 1));
	after = rig_now();
	let_it_walk(&rig);
	for (unsigned at = 0; at < CHILDREN; at++) {
		const struct cellos_raw_event *event =
			rig_last(&rig, SPAWNED, (uint32_t)children[at]);

		check_life(&rig, children[at], "sleep");
		cr_assert(event->monotonic_ns >= before && event->monotonic_ns <= after);
		cr_assert(event->reserved[0] == 0 && event->reserved[1] == 0);
	}
	cr_assert(rig_count(&rig, SPAWNED, (uint32_t)getpid()) == 0);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_OVERFLOW) == 0);
	rig_free(&rig);
}

Test(process, those_of_the_first_walk)
{
	struct rig rig;
	pid_t child = rig_spawn(SLEEP, "1000");
	pid_t dead = rig_spawn(SLEEP, "1000");

	rig_kill(dead); /* a zombie when the probe starts */
	begin_real(&rig);
	let_it_walk(&rig);
	rig_kill(child);
	cr_assert(rig_until(&rig, EXITED, (uint32_t)child, 1));
	rig_reap(child);
	rig_reap(dead);
	let_it_walk(&rig);
	cr_assert(rig_count(&rig, SPAWNED, (uint32_t)child) == 0);
	cr_assert(rig_count(&rig, EXITED, (uint32_t)child) == 1);
	cr_assert(named(rig_last(&rig, EXITED, (uint32_t)child), "sleep"));
	cr_assert(rig_count(&rig, SPAWNED, (uint32_t)dead) == 0);
	cr_assert(rig_count(&rig, EXITED, (uint32_t)dead) == 0, "over before our time");
	rig_free(&rig);
}

Test(process, a_zombie_is_over_once)
{
	struct rig rig;
	pid_t child;

	begin_real(&rig);
	child = rig_spawn(SLEEP, "1000");
	cr_assert(rig_until(&rig, SPAWNED, (uint32_t)child, 1));
	rig_kill(child);
	cr_assert(rig_until(&rig, EXITED, (uint32_t)child, 1), "not reaped, and over");
	let_it_walk(&rig);
	rig_reap(child);
	let_it_walk(&rig);
	check_life(&rig, child, "sleep");
	rig_free(&rig);
}

/* Born and dead between two walks, but not reaped: that much can be seen, and is told whole. */
Test(process, first_seen_as_a_zombie)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;
	pid_t dead;

	begin(&rig, &options, NULL);
	dead = rig_spawn(SLEEP, "1000");
	rig_kill(dead);
	rig_start(&rig);
	cr_assert(rig_until(&rig, EXITED, (uint32_t)dead, 1));
	let_it_walk(&rig);
	rig_reap(dead);
	let_it_walk(&rig);
	check_life(&rig, dead, "sleep");
	rig_free(&rig);
}

static int wait_for_ever(void *unused)
{
	(void)unused;
	while (syscall(SYS_pause) < 0)
		;
	return 0;
}

static pid_t spawn_threads(unsigned count, bool leader_leaves)
{
	int ready[2];
	char byte;
	pid_t pid;

	cr_assert(pipe(ready) == 0);
	pid = fork();
	if (pid == 0) {
		rig_die_with_parent();
		for (unsigned at = 0; at < count; at++)
			rig_thread(at, wait_for_ever);
		(void)!write(ready[1], "x", 1);
		if (leader_leaves)
			rig_thread_leave();
		wait_for_ever(NULL);
	}
	close(ready[1]);
	cr_assert(read(ready[0], &byte, 1) == 1, "no threads");
	close(ready[0]);
	return pid;
}

Test(process, threads_are_no_processes)
{
	struct rig rig;
	pid_t child;
	size_t own = 0;

	begin_real(&rig);
	child = spawn_threads(50, false);
	cr_assert(rig_until(&rig, SPAWNED, (uint32_t)child, 1));
	let_it_walk(&rig);
	/* Thread ids follow the leader's closely: none of the next numbers may be one of them. */
	for (uint32_t tid = (uint32_t)child; tid <= (uint32_t)child + 60; tid++) {
		char path[64];

		snprintf(path, sizeof(path), "/proc/%d/task/%u", child, tid);
		if (access(path, F_OK) == 0)
			own += rig_count(&rig, SPAWNED, tid);
	}
	cr_assert(own == 1, "%zu events for one process", own);
	rig_kill(child);
	rig_reap(child);
	cr_assert(rig_until(&rig, EXITED, (uint32_t)child, 1));
	rig_free(&rig);
}

Test(process, a_leader_that_left_first)
{
	struct rig rig;
	pid_t child;
	char path[64], state = 0;

	begin_real(&rig);
	child = spawn_threads(1, true);
	snprintf(path, sizeof(path), "/proc/%d/stat", child);
	while (state != 'Z') { /* the leader is on its way out */
		char text[512] = "";
		FILE *file = fopen(path, "re");
		struct cellos_proc_stat stat;
		size_t got;

		cr_assert(file != NULL);
		got = fread(text, 1, sizeof(text) - 1, file);
		fclose(file);
		cr_assert(got > 0 && cellos_proc_parse_stat(text, &stat) == 0);
		state = stat.state;
	}
	cr_assert(rig_until(&rig, SPAWNED, (uint32_t)child, 1));
	let_it_walk(&rig);
	cr_assert(rig_count(&rig, EXITED, (uint32_t)child) == 0, "a thread of it lives");
	rig_kill(child);
	cr_assert(rig_until(&rig, EXITED, (uint32_t)child, 1));
	rig_reap(child);
	rig_free(&rig);
}

/* A child that execs at once, of a parent that never does and so waits for its name. */
Test(process, parents_before_children)
{
	struct rig rig;

	begin_real(&rig);
	for (unsigned round = 0; round < 20; round++) {
		const struct cellos_raw_event *first, *second;
		int ready[2];
		pid_t parent, child;

		cr_assert(pipe2(ready, O_CLOEXEC) == 0);
		parent = fork();
		if (parent == 0) {
			rig_die_with_parent();
			child = rig_spawn(SLEEP, "1000");
			(void)!write(ready[1], &child, sizeof(child));
			pause();
		}
		cr_assert(read(ready[0], &child, sizeof(child)) == sizeof(child));
		close(ready[0]);
		close(ready[1]);
		cr_assert(rig_until(&rig, SPAWNED, (uint32_t)parent, 1));
		cr_assert(rig_until(&rig, SPAWNED, (uint32_t)child, 1));
		first = rig_last(&rig, SPAWNED, (uint32_t)parent);
		second = rig_last(&rig, SPAWNED, (uint32_t)child);
		cr_assert(first < second && first->monotonic_ns <= second->monotonic_ns);
		rig_kill(parent);
		rig_reap(parent);
		cr_assert(rig_until(&rig, EXITED, (uint32_t)child, 1), "it dies with its parent");
	}
	rig_free(&rig);
}

Test(process, the_last_name)
{
	struct rig rig;
	int go[2];
	pid_t child;

	cr_assert(pipe(go) == 0);
	begin_real(&rig);
	child = fork();
	if (child == 0) {
		char byte;

		rig_die_with_parent();
		prctl(PR_SET_NAME, "young");
		close(go[1]);
		while (read(go[0], &byte, 1) == 1)
			prctl(PR_SET_NAME, ") R 1 (old\n");
		_exit(0);
	}
	close(go[0]);
	cr_assert(rig_until(&rig, SPAWNED, (uint32_t)child, 1));
	let_it_walk(&rig);
	cr_assert(write(go[1], "x", 1) == 1);
	let_it_walk(&rig);
	close(go[1]);
	cr_assert(rig_until(&rig, EXITED, (uint32_t)child, 1));
	rig_reap(child);
	cr_assert(named(rig_last(&rig, EXITED, (uint32_t)child), ") R 1 (old\n"));
	rig_free(&rig);
}

/* Sixteen entries, and the machine alone has more: no name is promised then, every event is,
   that of an end once its number is free. */
Test(process, more_than_the_table_holds)
{
	enum { CHILDREN = 100 };
	struct cellos_probe_options options = rig_options();
	struct rig rig;
	pid_t children[CHILDREN], old[20];

	for (unsigned at = 0; at < 20; at++)
		old[at] = rig_spawn(SLEEP, "1000");
	options.max_processes = 16;
	begin(&rig, &options, NULL);
	rig_start(&rig);
	for (unsigned at = 0; at < CHILDREN; at++)
		children[at] = rig_spawn(SLEEP, "1000");
	for (unsigned at = 0; at < CHILDREN; at++)
		cr_assert(rig_until(&rig, SPAWNED, (uint32_t)children[at], 1));
	cr_assert(rig_stat(&rig, "table_full") >= CHILDREN + 4);
	for (unsigned at = 0; at < CHILDREN; at++) {
		rig_kill(children[at]);
		if (at % 2 == 0)
			rig_reap(children[at]);
	}
	for (unsigned at = 0; at < 20; at++) {
		rig_kill(old[at]);
		rig_reap(old[at]);
	}
	for (unsigned at = 0; at < 20; at++)
		cr_assert(rig_until(&rig, EXITED, (uint32_t)old[at], 1));
	let_it_walk(&rig);
	for (unsigned at = 1; at < CHILDREN; at += 2)
		rig_reap(children[at]); /* of one without room no zombie is told */
	for (unsigned at = 0; at < CHILDREN; at++)
		cr_assert(rig_until(&rig, EXITED, (uint32_t)children[at], 1));
	let_it_walk(&rig);
	for (unsigned at = 0; at < CHILDREN; at++) {
		cr_assert(rig_count(&rig, SPAWNED, (uint32_t)children[at]) == 1);
		cr_assert(rig_count(&rig, EXITED, (uint32_t)children[at]) == 1);
	}
	for (unsigned at = 0; at < 20; at++) {
		cr_assert(rig_count(&rig, SPAWNED, (uint32_t)old[at]) == 0);
		cr_assert(rig_count(&rig, EXITED, (uint32_t)old[at]) == 1);
	}
	rig_free(&rig);
}

Test(process, stop_is_prompt)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;
	uint64_t took;
	pid_t child;

	options.process_interval_ms = 60000;
	begin(&rig, &options, NULL);
	rig_start(&rig);
	child = rig_spawn(SLEEP, "1000");
	took = rig_stop(&rig);
	cr_assert(took < RIG_STOP_NS, "%llu ns", (unsigned long long)took);
	cr_assert(rig_count(&rig, SPAWNED, (uint32_t)child) == 1, "the last walk sees it");
	rig_kill(child);
	rig_reap(child);
	rig_free(&rig);
}

/* No descriptor to be had: nobody has exited because of that, it is said once, and it passes. */
Test(process, no_descriptors_for_a_while)
{
	struct cellos_probe_options options = rig_options();
	struct rlimit limit, none;
	struct rig rig;
	pid_t child = rig_spawn(SLEEP, "1000"), later;
	int free_one;

	begin(&rig, &options, NULL);
	/* The lowest that is free while the walker has none, and so all that follow. */
	free_one = dup(rig.env.stop_fd);
	cr_assert(free_one >= 0 && close(free_one) == 0);
	cr_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	none = limit;
	none.rlim_cur = (rlim_t)free_one;
	rig_start(&rig);
	let_it_walk(&rig);
	cr_assert(setrlimit(RLIMIT_NOFILE, &none) == 0);
	cr_assert(rig_until_dropped(&rig, CELLOS_DROP_OVERFLOW, 1));
	let_it_walk(&rig);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_OVERFLOW) == 1, "one occasion, not one a walk");
	cr_assert(rig_count(&rig, EXITED, (uint32_t)child) == 0);
	cr_assert(rig_count(&rig, EXITED, (uint32_t)getpid()) == 0);
	rig_kill(child);
	rig_reap(child);
	cr_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	cr_assert(rig_until(&rig, EXITED, (uint32_t)child, 1));
	later = rig_spawn(SLEEP, "1000");
	cr_assert(rig_until(&rig, SPAWNED, (uint32_t)later, 1));
	cr_assert(rig_dropped(&rig, CELLOS_DROP_OVERFLOW) == 1);
	cr_assert(rig_count(&rig, EXITED, (uint32_t)getpid()) == 0);
	rig_kill(later);
	rig_reap(later);
	rig_free(&rig);
}

/* ---- a made tree ---------------------------------------------------------------------------- */

static char root[80];
static char base[64];

static void make_root(void)
{
	rig_temp_dir(base);
	snprintf(root, sizeof(root), "%s/proc", base);
}

static void remove_root(void)
{
	rig_remove_tree(base);
}

static void begin_made(struct rig *rig, uint32_t max, uint32_t interval)
{
	struct cellos_probe_options options = rig_options();

	options.max_processes = max;
	options.process_interval_ms = interval;
	begin(rig, &options, root);
	rig_start(rig);
}

TestSuite(made, .init = make_root, .fini = remove_root);

Test(made, a_number_given_out_again)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 16, 5);
	fake_proc_put(root, (struct fake_process){.pid = 70, .name = "first", .starttime = 500});
	cr_assert(rig_until(&rig, SPAWNED, 70, 1));
	fake_proc_put(root, (struct fake_process){.pid = 70, .name = "late", .starttime = 500});
	let_it_walk(&rig);
	fake_proc_put(root, (struct fake_process){.pid = 70, .name = "second", .starttime = 501});
	cr_assert(rig_until(&rig, SPAWNED, 70, 2));
	cr_assert(rig_count(&rig, EXITED, 70) == 1);
	cr_assert(rig_last(&rig, EXITED, 70) < rig_last(&rig, SPAWNED, 70));
	cr_assert(named(rig_last(&rig, EXITED, 70), "late"));
	cr_assert(named(rig_last(&rig, SPAWNED, 70), "second"));
	fake_proc_drop(root, 70);
	cr_assert(rig_until(&rig, EXITED, 70, 2));
	cr_assert(named(rig_last(&rig, EXITED, 70), "second"));
	rig_free(&rig);
}

/* A zombie's number given out again: its exit was told already. */
Test(made, a_zombies_number_given_out_again)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 16, 5);
	fake_proc_put(root, (struct fake_process){.pid = 70, .name = "one", .starttime = 500});
	cr_assert(rig_until(&rig, SPAWNED, 70, 1));
	fake_proc_put(root, (struct fake_process){
				    .pid = 70, .name = "one", .state = 'Z', .starttime = 500});
	cr_assert(rig_until(&rig, EXITED, 70, 1));
	fake_proc_put(root, (struct fake_process){.pid = 70, .name = "two", .starttime = 501});
	cr_assert(rig_until(&rig, SPAWNED, 70, 2));
	let_it_walk(&rig);
	cr_assert(rig_count(&rig, EXITED, 70) == 1);
	rig_free(&rig);
}

Test(made, kernel_threads_are_no_processes)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 16, 5);
	fake_proc_put(root,
		      (struct fake_process){.pid = 50, .name = "kworker/0:1", .flags = 0x4208060});
	fake_proc_put(root, (struct fake_process){.pid = 51, .name = "user"});
	cr_assert(rig_until(&rig, SPAWNED, 51, 1));
	let_it_walk(&rig);
	fake_proc_drop(root, 50);
	let_it_walk(&rig);
	cr_assert(rig.count == 1, "%zu events", rig.count);
	rig_free(&rig);
}

static const struct fake_process forked = {.pid = 300, .name = "sh", .flags = CELLOS_PF_FORKNOEXEC};

/* Caught between fork and exec: told under the name that the exec gave. */
Test(made, the_name_after_exec)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 16, 5);
	fake_proc_put_fifo(root, 300);
	fake_proc_answer(root, forked, (struct fake_process){.pid = 300, .name = "ls"});
	cr_assert(rig_until(&rig, SPAWNED, 300, 1));
	cr_assert(named(rig_last(&rig, SPAWNED, 300), "ls"));
	fake_proc_drop(root, 300);
	cr_assert(rig_until(&rig, EXITED, 300, 1));
	let_it_walk(&rig);
	cr_assert(rig.count == 2);
	rig_free(&rig);
}

/* Caught there, and gone when it is looked at again. */
Test(made, gone_before_exec)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 16, 5);
	fake_proc_put_fifo(root, 300);
	fake_proc_answer(root, forked, (struct fake_process){0});
	cr_assert(rig_until(&rig, EXITED, 300, 1));
	cr_assert(rig.count == 2 && rig.events[0].source == SPAWNED);
	cr_assert(named(&rig.events[0], "sh") && named(&rig.events[1], "sh"));
	rig_free(&rig);
}

/* Caught there, and another has its number when it is looked at again. */
Test(made, another_before_exec)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 16, 5);
	fake_proc_put_fifo(root, 300);
	fake_proc_answer(root, forked,
			 (struct fake_process){.pid = 300, .name = "ls", .starttime = 1001});
	cr_assert(rig_until(&rig, SPAWNED, 300, 2));
	let_it_walk(&rig);
	cr_assert(rig.count == 3);
	cr_assert(rig.events[0].source == SPAWNED && named(&rig.events[0], "sh"));
	cr_assert(rig.events[1].source == EXITED && named(&rig.events[1], "sh"));
	cr_assert(rig.events[2].source == SPAWNED && named(&rig.events[2], "ls"));
	rig_free(&rig);
}

/* Far more of them than may wait: each is told once, none is lost, and so are their ends. */
Test(made, many_before_exec)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 4096, 20);
	for (uint32_t pid = 1000000; pid < 1000600; pid++)
		fake_proc_put(root, (struct fake_process){.pid = pid,
							  .name = "daemon",
							  .flags = CELLOS_PF_FORKNOEXEC});
	for (uint32_t pid = 1000000; pid < 1000600; pid++)
		cr_assert(rig_until(&rig, SPAWNED, pid, 1));
	for (uint32_t pid = 1000000; pid < 1000600; pid++)
		fake_proc_drop(root, pid);
	for (uint32_t pid = 1000000; pid < 1000600; pid++)
		cr_assert(rig_until(&rig, EXITED, pid, 1));
	let_it_walk(&rig);
	cr_assert(rig.count == 1200, "%zu events", rig.count);
	rig_free(&rig);
}

/* One that never execs goes out with the name it has, one that ends meanwhile as well. */
Test(made, no_exec_to_come)
{
	struct rig rig;

	fake_proc_make(root);
	begin_made(&rig, 16, 5);
	fake_proc_put(root, (struct fake_process){
				    .pid = 300, .name = "daemon", .flags = CELLOS_PF_FORKNOEXEC});
	cr_assert(rig_until(&rig, SPAWNED, 300, 1));
	cr_assert(named(rig_last(&rig, SPAWNED, 300), "daemon"));
	let_it_walk(&rig);
	fake_proc_drop(root, 300);
	cr_assert(rig_until(&rig, EXITED, 300, 1));
	let_it_walk(&rig);
	cr_assert(rig_count(&rig, SPAWNED, 300) == 1 && rig_count(&rig, EXITED, 300) == 1);
	rig_free(&rig);
}

/* A walk that stood still for many intervals is followed by one at the next due moment, not by all
   that were missed. */
Test(made, no_burst_after_a_stall)
{
	struct rig rig;
	uint64_t stalled, walks, elapsed;

	fake_proc_make(root);
	begin_made(&rig, 16, 20);
	cr_assert(rig_until_stat(&rig, "walks", 3));
	fake_proc_put_fifo(root, 300);
	stalled = rig_now();
	while (rig_now() < stalled + 400000000) /* twenty intervals */
		rig_pump(&rig, stalled + 400000000);
	walks = rig_stat(&rig, "walks");
	stalled = rig_now();
	fake_proc_answer(root, (struct fake_process){.pid = 300, .name = "x"},
			 (struct fake_process){.pid = 300, .name = "x"});
	cr_assert(rig_until_stat(&rig, "walks", walks + 6));
	walks = rig_stat(&rig, "walks") - walks;
	elapsed = rig_now() - stalled; /* behind the count, which grows meanwhile */
	cr_assert(walks <= elapsed / 20000000 + 2, "%llu walks in %llu ns",
		  (unsigned long long)walks, (unsigned long long)elapsed);
	rig_free(&rig);
}

Test(made, not_there_at_first)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;
	char aside[80];

	begin(&rig, &options, root);
	cr_assert(!rig.status.armed && rig.status.failed);
	cr_assert_str_eq(rig.status.surface, "none");
	cr_assert(strstr(rig.status.why, "cannot open /proc") != NULL, "%s", rig.status.why);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_OVERFLOW) == 1);
	rig_start(&rig);
	/* Whole at once: what came late would be new. */
	snprintf(aside, sizeof(aside), "%s/aside", base);
	fake_proc_make(aside);
	cr_assert(rename(aside, root) == 0);
	cr_assert(rig_until_stat(&rig, "walks", 2));
	fake_proc_put(root, (struct fake_process){.pid = 60, .name = "late"});
	cr_assert(rig_until(&rig, SPAWNED, 60, 1));
	cr_assert(rig.count == 1, "the first walk reports nothing");
	cr_assert(rig_dropped(&rig, CELLOS_DROP_OVERFLOW) == 1);
	rig_free(&rig);
}

Test(made, a_directory_without_proc)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;

	cr_assert(mkdir(root, 0755) == 0);
	begin(&rig, &options, root);
	cr_assert(!rig.status.armed && rig.status.failed);
	cr_assert_str_eq(rig.status.why, "/proc is not mounted");
	rig_free(&rig);
}

Test(made, another_namespaces_proc)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;
	char link[128];

	fake_proc_make(root);
	snprintf(link, sizeof(link), "%s/self", root);
	cr_assert(unlink(link) == 0 && symlink("4000000", link) == 0);
	begin(&rig, &options, root);
	cr_assert(!rig.status.armed && rig.status.failed);
	cr_assert_str_eq(rig.status.why, "/proc shows another PID namespace");
	rig_free(&rig);
}

Test(made, hidden_processes)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;

	fake_proc_make(root);
	fake_proc_drop(root, 1);
	begin(&rig, &options, root);
	cr_assert(!rig.status.armed && rig.status.failed);
	cr_assert(strstr(rig.status.why, "hidepid") != NULL, "%s", rig.status.why);
	rig_free(&rig);
}
