/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The process probe by the kernel's own messages, whole, in its own thread, with real processes:
 * what is reported of each is compared with what its parent knows.
 *
 *   test_process_connector [CASE]
 *
 * Threads: the test's and the probe's. Other processes come and go on the machine; events are told
 * apart by pid and by the time between a fork and the wait for its end.
 * Refuses to: run where the connector is not to be had (skipped, and why).
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_tables.h"
#include "process.h"
#include "rig.h"
#include "skip.h"

#define SPAWNED CELLOS_SOURCE_PROCESS_SPAWNED
#define EXITED CELLOS_SOURCE_PROCESS_EXITED
#define SELF "test_process_co" /* as the kernel cuts it */
#define MS UINT64_C(1000000)
/* The kernel lets go of a process before it says so, and may be kept from it for a while. */
#define LATE_NS (5000 * MS)
/* Well within the time that a spawn is held back for its name. */
#define QUICK_NS (10 * MS)
/* What the sockets hold of so many processes, and as much of others'. */
#define PORTION 400u
/* The same where nobody may have larger sockets than the machine's default. */
#define SMALL_PORTION 20u

static struct rig rig;

static void prepare(void)
{
	struct cellos_probe_options options = rig_options();

	options.coalesce_ms = 5;
	options.process = CELLOS_PROCESS_CONNECTOR;
	rig_init(&rig, &cellos_probe_process, &options, 262144);
}

static void begin(void)
{
	rig_arm(&rig);
	if (!rig.status.armed)
		fprintf(stderr, "why: %s\n", rig.status.why);
	RIG_CHECK(rig.status.armed && !rig.status.failed);
	RIG_CHECK(strcmp(rig.status.surface, "connector") == 0);
	RIG_CHECK(strcmp(rig.status.exactness, "exact") == 0);
	rig_start(&rig);
}

static void end(void)
{
	RIG_CHECK(rig_stat(&rig, "malformed") == 0);
	rig_free(&rig);
}

/* ---- what became of a process --------------------------------------------------------------- */

struct life {
	uint32_t pid;
	uint64_t before, after; /* its fork, and some time past the wait for its end */
	bool quick;
};

static struct life reap(pid_t pid, uint64_t before)
{
	struct life life = {.pid = (uint32_t)pid, .before = before};

	rig_reap(pid);
	life.after = rig_now() + LATE_NS;
	life.quick = life.after - LATE_NS - before < QUICK_NS;
	return life;
}

static bool is_of(const struct life *life, const struct cellos_raw_event *event)
{
	return event->pid == life->pid && event->monotonic_ns >= life->before &&
	       event->monotonic_ns <= life->after;
}

static unsigned count_of(const struct life *life, enum cellos_probe_source source)
{
	unsigned count = 0;

	for (size_t at = 0; at < rig.count; at++)
		count += rig.events[at].source == source && is_of(life, &rig.events[at]);
	return count;
}

static const struct cellos_raw_event *event_of(const struct life *life,
					       enum cellos_probe_source source)
{
	for (size_t at = 0; at < rig.count; at++)
		if (rig.events[at].source == source && is_of(life, &rig.events[at]))
			return &rig.events[at];
	return NULL;
}

static void await_end(const struct life *life)
{
	uint64_t deadline = rig_now() + RIG_PATIENCE_MS * MS;

	while (count_of(life, EXITED) == 0 && rig_now() < deadline)
		rig_pump(&rig, deadline);
}

static bool is_named(const struct cellos_raw_event *event, const char *name)
{
	if (event->comm_len == strlen(name) && memcmp(event->comm, name, strlen(name)) == 0)
		return true;
	fprintf(stderr, "pid %u is called '%.16s', not '%s'\n", event->pid, event->comm, name);
	return false;
}

/* One of each, in order, under these names; NULL: whatever it is. */
static void check(const struct life *life, const char *born, const char *died)
{
	const struct cellos_raw_event *first, *last;

	await_end(life);
	first = event_of(life, SPAWNED);
	last = event_of(life, EXITED);
	RIG_CHECK(count_of(life, SPAWNED) == 1 && count_of(life, EXITED) == 1);
	RIG_CHECK(first < last && first->monotonic_ns <= last->monotonic_ns);
	RIG_CHECK(born == NULL || is_named(first, born));
	RIG_CHECK(died == NULL || is_named(last, died));
}

/* What the kernel sent before this has been read, and what was held is out. By whom. */
static uint32_t settle(void)
{
	uint64_t before = rig_now();
	pid_t pid = rig_spawn("/bin/true", "settle");
	struct life life = reap(pid, before);

	check(&life, NULL, "true");
	return life.pid;
}

static pid_t spawn(const char *program)
{
	char *arguments[] = {(char *)(uintptr_t)program, NULL};
	char *environment[] = {NULL};
	pid_t pid;

	RIG_CHECK(posix_spawn(&pid, program, NULL, NULL, arguments, environment) == 0);
	return pid;
}

/* ---- short ones ----------------------------------------------------------------------------- */

static int by_pid(const void *a, const void *b)
{
	const struct life *x = a, *y = b;

	return x->pid != y->pid ? (x->pid > y->pid) - (x->pid < y->pid)
				: (x->before > y->before) - (x->before < y->before);
}

struct tally {
	unsigned spawned, exited, disordered, misborn, misnamed;
	unsigned quick, quick_misborn; /* of those that were told as spawned */
};

static bool bears(const struct cellos_raw_event *event, const char *name)
{
	return event->comm_len == strlen(name) && memcmp(event->comm, name, event->comm_len) == 0;
}

/* A child that a busy machine keeps from its exec for longer than its name is waited for goes out
   with its parent's, or with none behind the exec: no wrong name, and told apart from one that is.
 */
static void check_names(struct tally *tally, const struct life *life,
			const struct cellos_raw_event *event, const char *name)
{
	bool right = bears(event, name), early = bears(event, SELF) || bears(event, "");

	if (event->source == EXITED) {
		tally->misnamed += !right;
		return;
	}
	tally->misnamed += !right && !early;
	tally->misborn += early;
	tally->quick += life->quick;
	tally->quick_misborn += life->quick && early;
}

/* Every event against the sorted list of lives. */
static struct tally compare(struct life *lives, unsigned count, const char *name)
{
	uint8_t *seen = calloc(count, 1);
	struct tally tally = {0};

	RIG_CHECK(seen != NULL);
	qsort(lives, count, sizeof(*lives), by_pid);
	for (size_t at = 0; at < rig.count; at++) {
		const struct cellos_raw_event *event = &rig.events[at];
		const struct life key = {.pid = event->pid, .before = event->monotonic_ns};
		unsigned low = 0, high = count;

		while (low < high) { /* the last that is not after the key */
			unsigned middle = (low + high) / 2;

			if (by_pid(&lives[middle], &key) <= 0)
				low = middle + 1;
			else
				high = middle;
		}
		if (low == 0 || !is_of(&lives[low - 1], event))
			continue;
		tally.spawned += event->source == SPAWNED;
		tally.exited += event->source == EXITED;
		tally.disordered += seen[low - 1]++ != (event->source == EXITED);
		check_names(&tally, &lives[low - 1], event, name);
	}
	free(seen);
	return tally;
}

/* At top speed, in portions that are waited for: no reader that is late can lose any. */
static void run_short_ones(struct life *lives, unsigned count, unsigned portion)
{
	for (unsigned at = 0; at < count; at++) {
		uint64_t before = rig_now();
		pid_t pid = spawn("/bin/true");

		lives[at] = reap(pid, before);
		rig_pump(&rig, 0);
		if ((at + 1) % portion == 0)
			await_end(&lives[at]);
	}
	await_end(&lives[count - 1]);
}

static void ten_thousand(void)
{
	enum { COUNT = 10000 };
	struct life *lives = calloc(COUNT, sizeof(*lives));
	struct tally tally;

	RIG_CHECK(lives != NULL);
	prepare();
	begin();
	run_short_ones(lives, COUNT, PORTION);
	tally = compare(lives, COUNT, "true");
	printf("%u spawned, %u exited, %u out of order, %u told before their name was known "
	       "(%u of %u quick ones), %u under another\n",
	       tally.spawned, tally.exited, tally.disordered, tally.misborn, tally.quick_misborn,
	       tally.quick, tally.misnamed);
	fflush(stdout);
	RIG_CHECK(tally.spawned == COUNT && tally.exited == COUNT && tally.disordered == 0);
	RIG_CHECK(tally.misnamed == 0);
	/* Whoever was kept from reading may cost a few, but not most. */
	RIG_CHECK(tally.quick_misborn <= tally.quick / 2);
	RIG_CHECK(rig_dropped(&rig, CELLOS_DROP_KERNEL) == 0);
	RIG_CHECK(rig_dropped(&rig, CELLOS_DROP_QUEUE_FULL) == 0);
	RIG_CHECK(rig_stat(&rig, "walks") == 1 && rig_stat(&rig, "table_full") == 0);
	free(lives);
	end();
}

/* Sixteen entries on a machine with more processes: names may be lost, no event is. */
static void a_full_table(void)
{
	enum { COUNT = 200 };
	struct life *lives = calloc(COUNT, sizeof(*lives));
	struct tally tally;

	RIG_CHECK(lives != NULL);
	pid_t idle[20];

	/* More than find room, however few live here. */
	for (unsigned at = 0; at < 20; at++)
		idle[at] = rig_spawn("/bin/sleep", "1000");
	prepare();
	rig.options.max_processes = 16;
	begin();
	for (unsigned at = 0; at < COUNT; at++) {
		uint64_t before = rig_now();
		pid_t pid = spawn("/bin/true");

		lives[at] = reap(pid, before);
	}
	RIG_CHECK(rig_until(&rig, EXITED, lives[COUNT - 1].pid, 1));
	tally = compare(lives, COUNT, "true");
	RIG_CHECK(tally.spawned == COUNT && tally.exited == COUNT && tally.disordered == 0);
	RIG_CHECK(rig_stat(&rig, "table_full") > 0);
	free(lives);
	for (unsigned at = 0; at < 20; at++) {
		rig_kill(idle[at]);
		rig_reap(idle[at]);
	}
	end();
}

/* ---- forks and execs ------------------------------------------------------------------------ */

static void fork_without_exec(void)
{
	bool renamed = false;
	uint64_t before;
	struct life life;
	pid_t pid;

	prepare();
	begin();
	before = rig_now();
	pid = fork();
	if (pid == 0)
		_exit(0);
	life = reap(pid, before);
	check(&life, SELF, SELF);
	/* Its name of its own is read at last when a wait for an exec is over, if it got to it
	   then: a busy machine may be late by itself. */
	for (unsigned round = 0; round < 50 && !renamed; round++) {
		int called[2];
		char byte;

		RIG_CHECK(pipe2(called, O_CLOEXEC) == 0);
		before = rig_now();
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_NAME, "a worker");
			(void)!write(called[1], "x", 1);
			pause();
			_exit(0);
		}
		close(called[1]);
		RIG_CHECK(read(called[0], &byte, 1) == 1);
		close(called[0]);
		RIG_CHECK(rig_until(&rig, SPAWNED, (uint32_t)pid, 1));
		rig_kill(pid);
		life = reap(pid, before);
		check(&life, NULL, "a worker");
		renamed = is_named(event_of(&life, SPAWNED), "a worker");
	}
	RIG_CHECK(renamed);
	end();
}

static void exec_without_fork(void)
{
	uint64_t before;
	struct life life;
	int go[2];
	pid_t pid;

	prepare();
	begin();
	RIG_CHECK(pipe(go) == 0);
	before = rig_now();
	pid = fork();
	if (pid == 0) {
		char byte;

		(void)!read(go[0], &byte, 1);
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	RIG_CHECK(rig_until(&rig, SPAWNED, (uint32_t)pid, 1));
	RIG_CHECK(write(go[1], "x", 1) == 1);
	life = reap(pid, before);
	check(&life, SELF, "true");
	close(go[0]);
	close(go[1]);
	end();
}

static void vforked(void)
{
	uint64_t before;
	struct life life;
	pid_t pid;

	prepare();
	begin();
	before = rig_now();
	pid = vfork();
	if (pid == 0) {
		execl("/bin/true", "true", (char *)NULL);
		_exit(1);
	}
	life = reap(pid, before);
	check(&life, NULL, "true");
	end();
}

/* A child that execs at once, of a parent that never does and so is waited for. */
static void parents_before_children(void)
{
	prepare();
	begin();
	for (unsigned round = 0; round < 20; round++) {
		const struct cellos_raw_event *first, *second;
		struct life parent, child = {0};
		uint64_t before = rig_now();
		int told[2];
		pid_t pid, grandchild;

		RIG_CHECK(pipe2(told, O_CLOEXEC) == 0);
		pid = fork();
		if (pid == 0) {
			grandchild = spawn("/bin/true");
			(void)!write(told[1], &grandchild, sizeof(grandchild));
			_exit(waitpid(grandchild, NULL, 0) != grandchild);
		}
		RIG_CHECK(read(told[0], &grandchild, sizeof(grandchild)) == sizeof(grandchild));
		parent = reap(pid, before);
		child = parent;
		child.pid = (uint32_t)grandchild;
		check(&parent, SELF, SELF);
		check(&child, NULL, "true");
		first = event_of(&parent, SPAWNED);
		second = event_of(&child, SPAWNED);
		RIG_CHECK(first < second && first->monotonic_ns < second->monotonic_ns);
		close(told[0]);
		close(told[1]);
	}
	end();
}

static void those_of_before(void)
{
	pid_t pid = rig_spawn("/bin/sleep", "1000");
	pid_t dead = rig_spawn("/bin/true", "x");
	siginfo_t info;
	struct life life, never;
	uint64_t before;

	RIG_CHECK(waitid(P_PID, (id_t)dead, &info, WEXITED | WNOWAIT) == 0);
	prepare();
	before = rig_now();
	begin();
	settle();
	never = reap(dead, before);
	rig_kill(pid);
	life = reap(pid, before);
	await_end(&life);
	settle();
	RIG_CHECK(count_of(&life, SPAWNED) == 0 && count_of(&life, EXITED) == 1);
	RIG_CHECK(is_named(event_of(&life, EXITED), "sleep"));
	RIG_CHECK(count_of(&never, SPAWNED) == 0 && count_of(&never, EXITED) == 0);
	end();
}

/* ---- threads -------------------------------------------------------------------------------- */

static int leave_at_once(void *unused)
{
	(void)unused;
	return 0;
}

static void thread_storm(void)
{
	uint64_t before;
	uint32_t settled;
	struct life life;
	pid_t pid;

	prepare();
	begin();
	before = rig_now();
	pid = fork();
	if (pid == 0) {
		for (unsigned at = 0; at < 5000; at++) {
			rig_thread(0, leave_at_once);
			rig_thread_join(0);
		}
		_exit(0);
	}
	life = reap(pid, before);
	check(&life, SELF, SELF);
	settled = settle();
	/* None but whole processes: this one's children and whoever else forks meanwhile. */
	for (size_t at = 0; at < rig.count; at++)
		RIG_CHECK(!bears(&rig.events[at], SELF) || rig.events[at].pid == life.pid ||
			  rig.events[at].pid == settled);
	end();
}

static int gate[2], ready[2];

static int wait_at_gate(void *unused)
{
	char byte;

	(void)unused;
	syscall(SYS_write, ready[1], "x", 1);
	syscall(SYS_read, gate[0], &byte, 1);
	return 0;
}

static pid_t fork_with_thread(int (*body)(void *))
{
	pid_t pid;
	char byte;

	RIG_CHECK(pipe2(gate, O_CLOEXEC) == 0 && pipe2(ready, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		rig_thread(0, body);
		rig_thread_leave();
	}
	RIG_CHECK(read(ready[0], &byte, 1) == 1);
	return pid;
}

static void close_gate(void)
{
	close(gate[0]);
	close(gate[1]);
	close(ready[0]);
	close(ready[1]);
}

static void a_leader_that_leaves(void)
{
	uint64_t before;
	struct life life;
	pid_t pid;

	prepare();
	begin();
	before = rig_now();
	pid = fork_with_thread(wait_at_gate);
	settle();
	life = (struct life){.pid = (uint32_t)pid, .before = before, .after = UINT64_MAX};
	RIG_CHECK(count_of(&life, EXITED) == 0);
	RIG_CHECK(write(gate[1], "x", 1) == 1);
	life = reap(pid, before);
	check(&life, SELF, SELF);
	close_gate();
	end();
}

static int exec_at_gate(void *unused)
{
	static const char *const argv[] = {"true", NULL};

	(void)wait_at_gate(unused);
	syscall(SYS_execve, "/bin/true", argv, NULL);
	return 1;
}

static void exec_by_another_thread(void)
{
	uint64_t before;
	struct life life;
	pid_t pid;

	prepare();
	begin();
	before = rig_now();
	pid = fork_with_thread(exec_at_gate);
	RIG_CHECK(write(gate[1], "x", 1) == 1);
	life = reap(pid, before);
	check(&life, NULL, "true");
	close_gate();
	end();
}

/* ---- names ---------------------------------------------------------------------------------- */

static void hostile_names(void)
{
	static const char *const names[] = {
		"a\nb", "\"quoted\"",  "\xff\xfe\x80", ") R 1 (old\n", "\\", "fifteen bytes..",
		"",     "\xf0\x9f\x98"};

	prepare();
	begin();
	for (unsigned at = 0; at < sizeof(names) / sizeof(names[0]); at++) {
		uint64_t before = rig_now();
		struct life life;
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_NAME, names[at]);
			_exit(0);
		}
		life = reap(pid, before);
		check(&life, NULL, names[at]);
	}
	end();
}

/* ---- losses --------------------------------------------------------------------------------- */

/* What the kernel says it has dropped for the sockets of ours. */
static uint64_t kernel_drops(void)
{
	const struct process_state *state = rig.state;
	const int fds[2] = {state->connector.fd, state->exits.fd};
	FILE *file = fopen("/proc/net/netlink", "re");
	char line[512];
	uint64_t sum = 0;
	struct stat status;

	RIG_CHECK(file != NULL);
	while (fgets(line, sizeof(line), file) != NULL) {
		unsigned long drops, inode;

		if (sscanf(line, "%*s %*s %*s %*s %*s %*s %*s %*s %lu %lu", &drops, &inode) != 2)
			continue;
		for (unsigned at = 0; at < 2; at++)
			if (fstat(fds[at], &status) == 0 && status.st_ino == inode)
				sum += drops;
	}
	fclose(file);
	return sum;
}

/* Names that change never reach the socket, so they cannot crowd anything out of it, though nobody
   reads meanwhile. */
static void name_storm(void)
{
	enum { CHANGES = 100000 };
	uint64_t before;
	struct life life;
	pid_t pid;

	prepare();
	rig_arm(&rig);
	RIG_CHECK(rig.status.armed);
	before = rig_now();
	pid = fork();
	if (pid == 0) {
		for (unsigned at = 0; at < CHANGES; at++)
			prctl(PR_SET_NAME, at % 2 == 0 ? "tick" : "tock");
		_exit(0);
	}
	life = reap(pid, before);
	/* None, unless others on this machine filled it. */
	RIG_CHECK(kernel_drops() < CHANGES / 2);
	rig_start(&rig);
	check(&life, NULL, "tock");
	end();
}

/* Much happens while nobody reads: what is lost is counted, and then put right. */
static void a_stalled_reader(void)
{
	enum { COUNT = 3500, STAYING = 10 }; /* the sockets hold some 2500 messages */
	struct life *lives = calloc(COUNT, sizeof(*lives));
	pid_t old[STAYING], fresh[STAYING];
	uint64_t before, dropped;
	struct tally tally;
	struct life life;

	RIG_CHECK(lives != NULL);
	for (unsigned at = 0; at < STAYING; at++)
		old[at] = rig_spawn("/bin/sleep", "1000");
	prepare();
	before = rig_now();
	rig_arm(&rig);
	RIG_CHECK(rig.status.armed);
	for (unsigned at = 0; at < COUNT; at++) {
		uint64_t begun = rig_now();

		lives[at] = reap(spawn("/bin/true"), begun);
	}
	for (unsigned at = 0; at < STAYING; at++) {
		rig_kill(old[at]);
		rig_reap(old[at]);
		fresh[at] = rig_spawn("/bin/sleep", "1000");
	}
	dropped = kernel_drops();
	RIG_CHECK(dropped > COUNT);
	rig_start(&rig);
	for (unsigned at = 0; at < STAYING; at++) {
		RIG_CHECK(rig_until(&rig, EXITED, (uint32_t)old[at], 1));
		RIG_CHECK(rig_until(&rig, SPAWNED, (uint32_t)fresh[at], 1));
	}
	settle(); /* what was lost until the sockets were empty is counted with the next look */
	for (unsigned at = 0; at < STAYING; at++) {
		life = (struct life){
			.pid = (uint32_t)old[at], .before = before, .after = UINT64_MAX};
		RIG_CHECK(count_of(&life, SPAWNED) == 0 && count_of(&life, EXITED) == 1);
		life.pid = (uint32_t)fresh[at];
		RIG_CHECK(count_of(&life, SPAWNED) == 1 && count_of(&life, EXITED) == 0);
		RIG_CHECK(is_named(event_of(&life, SPAWNED), "sleep"));
		rig_kill(fresh[at]);
		life = reap(fresh[at], before);
		check(&life, "sleep", "sleep");
	}
	tally = compare(lives, COUNT, "true");
	RIG_CHECK(tally.disordered == 0 && tally.spawned <= COUNT && tally.exited <= COUNT);
	RIG_CHECK(tally.spawned + tally.exited + rig_dropped(&rig, CELLOS_DROP_KERNEL) >=
		  2 * COUNT);
	RIG_CHECK(rig_dropped(&rig, CELLOS_DROP_KERNEL) == kernel_drops());
	RIG_CHECK(rig_dropped(&rig, CELLOS_DROP_OVERFLOW) == 0);
	free(lives);
	end();
}

/* A process that makes a thread when told to, which leaves when told to. */
static pid_t fork_that_makes_a_thread(int orders[2])
{
	pid_t pid;
	char byte;

	RIG_CHECK(pipe2(gate, O_CLOEXEC) == 0 && pipe2(ready, O_CLOEXEC) == 0);
	RIG_CHECK(pipe2(orders, O_CLOEXEC) == 0);
	pid = fork();
	if (pid == 0) {
		rig_die_with_parent();
		(void)!read(orders[0], &byte, 1);
		rig_thread(0, wait_at_gate);
		for (;;)
			pause();
	}
	return pid;
}

static void until_alone(pid_t pid)
{
	char path[64];
	struct stat status;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	do
		RIG_CHECK(stat(path, &status) == 0);
	while (status.st_nlink > 3); /* itself, its parent, and one thread */
}

/* The birth of a thread is lost, and its end comes before the loss is counted: the process has
   another thread, and goes on. */
static void what_comes_behind_a_loss(void)
{
	struct process_state *state;
	uint64_t before;
	struct life life;
	int orders[2];
	pid_t pid;
	char byte;

	prepare();
	rig_arm(&rig);
	RIG_CHECK(rig.status.armed);
	state = rig.state;
	before = rig_now();
	pid = fork_that_makes_a_thread(orders);
	while (kernel_drops() == 0)
		(void)reap(spawn("/bin/true"), rig_now());
	RIG_CHECK(write(orders[1], "x", 1) == 1 && read(ready[0], &byte, 1) == 1);
	RIG_CHECK(process_drain(state, UINT32_MAX) > 0);
	RIG_CHECK(write(gate[1], "x", 1) == 1);
	until_alone(pid);
	(void)reap(spawn("/bin/true"), rig_now());
	RIG_CHECK(process_drain(state, UINT32_MAX) > 0);
	rig_start(&rig);
	settle();
	life = (struct life){.pid = (uint32_t)pid, .before = before, .after = UINT64_MAX};
	RIG_CHECK(count_of(&life, SPAWNED) == 1 && count_of(&life, EXITED) == 0);
	rig_kill(pid);
	life = reap(pid, before);
	check(&life, SELF, SELF);
	close(orders[0]);
	close(orders[1]);
	close_gate();
	end();
}

/* ---- others --------------------------------------------------------------------------------- */

/* The exit of a process that lives, sent to the group by somebody else than the kernel. */
static void send_forged(int fd, uint32_t what, uint32_t pid)
{
	uint8_t message[76] = {0};
	struct nlmsghdr header = {.nlmsg_len = sizeof(message), .nlmsg_type = NLMSG_DONE};
	struct cn_msg packet = {.id = {.idx = CN_IDX_PROC, .val = CN_VAL_PROC}, .len = 40};
	struct sockaddr_nl group = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};

	memcpy(message, &header, sizeof(header));
	memcpy(message + 16, &packet, sizeof(packet));
	memcpy(message + 36, &what, sizeof(what));
	for (size_t at = 52; at < 68; at += 4)
		memcpy(message + at, &pid, sizeof(pid));
	RIG_CHECK(sendto(fd, message, sizeof(message), 0, (struct sockaddr *)&group,
			 sizeof(group)) == (ssize_t)sizeof(message));
}

static uint32_t pid_max(void)
{
	FILE *file = fopen("/proc/sys/kernel/pid_max", "re");
	uint32_t max;

	RIG_CHECK(file != NULL && fscanf(file, "%u", &max) == 1);
	fclose(file);
	return max;
}

static void forgeries(void)
{
	enum { COUNT = 20 };
	/* Half of all numbers away from those that are given out now. */
	const uint32_t made_up = ((uint32_t)getpid() + pid_max() / 2) % pid_max();
	pid_t pid = rig_spawn("/bin/sleep", "1000");
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);
	struct life life = {.pid = (uint32_t)pid, .after = UINT64_MAX};

	RIG_CHECK(fd >= 0);
	prepare();
	begin();
	for (unsigned at = 0; at < COUNT; at++) {
		send_forged(fd, PROC_EVENT_EXIT, (uint32_t)pid);
		send_forged(fd, PROC_EVENT_FORK, made_up + at);
	}
	RIG_CHECK(rig_until_stat(&rig, "forged", 2 * COUNT));
	settle();
	RIG_CHECK(rig_stat(&rig, "forged") == 2 * COUNT);
	RIG_CHECK(count_of(&life, EXITED) == 0);
	for (size_t at = 0; at < rig.count; at++)
		RIG_CHECK(rig.events[at].pid - made_up >= COUNT); /* unsigned */
	close(fd);
	rig_kill(pid);
	rig_reap(pid);
	RIG_CHECK(rig_until(&rig, EXITED, (uint32_t)pid, 1));
	end();
}

/* As on a kernel where others can silence us. This one lets each listener decide for itself, so the
   question itself does it every time: noticed, undone, counted, put right. */
static void silenced(void)
{
	uint64_t before;
	struct life life;
	pid_t pid;

	prepare();
	rig_arm(&rig);
	RIG_CHECK(rig.status.armed);
	((struct process_state *)rig.state)->ask_ns = rig_now();
	rig_start(&rig);
	RIG_CHECK(rig_until_dropped(&rig, CELLOS_DROP_OVERFLOW, 2));
	RIG_CHECK(rig_until_stat(&rig, "walks", 3));
	/* Between one question and the next it is silenced for a moment: what happens then a walk
	   tells, of one that lasts. */
	before = rig_now();
	pid = rig_spawn("/bin/sleep", "1000");
	RIG_CHECK(rig_until(&rig, SPAWNED, (uint32_t)pid, 1));
	rig_kill(pid);
	life = reap(pid, before);
	check(&life, NULL, "sleep");
	end();
}

/* Stopped while messages gather: what has come is told. False: the machine was late by itself, with
   the stop, or with what the kernel says of an end behind it. */
static bool stops_promptly(void)
{
	uint64_t before, took;
	struct life life;
	bool whole;

	prepare();
	rig.options.coalesce_ms = 1000;
	begin();
	before = rig_now();
	life = reap(spawn("/bin/true"), before);
	took = rig_stop(&rig);
	RIG_CHECK(count_of(&life, SPAWNED) == 1);
	whole = count_of(&life, EXITED) == 1;
	if (whole)
		check(&life, "true", "true");
	end();
	return whole && took < 200 * MS;
}

static void stop_is_prompt(void)
{
	bool promptly = false;

	for (unsigned round = 0; round < 20 && !promptly; round++)
		promptly = stops_promptly();
	RIG_CHECK(promptly);
}

/* ---- where it is not to be had -------------------------------------------------------------- */

static void in_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	RIG_CHECK(pid >= 0);
	if (pid == 0) {
		body();
		/* No leak check: it could start no helper where the namespace's first is gone. */
		_exit(0);
	}
	RIG_CHECK(waitpid(pid, &status, 0) == pid);
	RIG_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void expect_floor(const char *why)
{
	prepare();
	rig_arm(&rig);
	RIG_CHECK(!rig.status.armed && rig.status.failed);
	RIG_CHECK(strcmp(rig.status.surface, "none") == 0);
	RIG_CHECK(strstr(rig.status.why, why) != NULL);
	rig_start(&rig); /* waits for its end, and no more */
	rig_free(&rig);
	prepare();
	rig.options.process = CELLOS_PROCESS_AUTO;
	rig_arm(&rig);
	RIG_CHECK(rig.status.armed && !rig.status.failed);
	RIG_CHECK(strcmp(rig.status.surface, "procfs") == 0);
	RIG_CHECK(strcmp(rig.status.exactness, "sampled") == 0);
	RIG_CHECK(strstr(rig.status.why, why) != NULL);
	RIG_CHECK(strstr(rig.status.why, "/proc is walked instead") != NULL);
	rig_free(&rig);
}

static void first_of_a_namespace(void)
{
	RIG_CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	RIG_CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
	expect_floor("not in the initial PID namespace");
}

static void another_pid_namespace(void)
{
	RIG_CHECK(unshare(CLONE_NEWNS | CLONE_NEWPID) == 0);
	in_child(first_of_a_namespace);
}

static void another_network(void)
{
	RIG_CHECK(unshare(CLONE_NEWNET) == 0);
	expect_floor("the process connector does not answer");
}

/* Newer kernels let anybody listen, but not to the exits: every process is seen all the same, and
   names are lost. */
static void nobody_in_particular(void)
{
	enum { COUNT = 500 };
	struct life *lives = calloc(COUNT, sizeof(*lives));
	struct tally tally;

	RIG_CHECK(lives != NULL && setgid(65534) == 0 && setuid(65534) == 0);
	prepare();
	rig.options.process = CELLOS_PROCESS_AUTO;
	rig_arm(&rig);
	RIG_CHECK(rig.status.armed && !rig.status.failed);
	if (strcmp(rig.status.surface, "connector") != 0) {
		RIG_CHECK(strstr(rig.status.why, "the process connector does not answer; /proc is "
						 "walked instead") != NULL);
	} else {
		RIG_CHECK(strstr(rig.status.why, "no exit listener") != NULL);
		rig_start(&rig);
		run_short_ones(lives, COUNT, SMALL_PORTION);
		tally = compare(lives, COUNT, "true");
		RIG_CHECK(tally.spawned == COUNT && tally.exited == COUNT);
		RIG_CHECK(tally.disordered == 0);
	}
	free(lives);
	rig_free(&rig);
}

static void not_to_be_had(void)
{
	in_child(another_pid_namespace);
	in_child(another_network);
	in_child(nobody_in_particular);
}

/* ---- all of them ---------------------------------------------------------------------------- */

static const struct {
	const char *name;
	void (*body)(void);
} cases[] = {
	{"ten_thousand", ten_thousand},
	{"a_full_table", a_full_table},
	{"fork_without_exec", fork_without_exec},
	{"exec_without_fork", exec_without_fork},
	{"vforked", vforked},
	{"parents_before_children", parents_before_children},
	{"those_of_before", those_of_before},
	{"thread_storm", thread_storm},
	{"a_leader_that_leaves", a_leader_that_leaves},
	{"exec_by_another_thread", exec_by_another_thread},
	{"hostile_names", hostile_names},
	{"name_storm", name_storm},
	{"a_stalled_reader", a_stalled_reader},
	{"what_comes_behind_a_loss", what_comes_behind_a_loss},
	{"forgeries", forgeries},
	{"silenced", silenced},
	{"stop_is_prompt", stop_is_prompt},
	{"not_to_be_had", not_to_be_had},
};

int main(int argc, char *argv[])
{
	if (geteuid() != 0)
		cellos_test_skip("the process connector needs root");
	prepare();
	rig_arm(&rig);
	if (!rig.status.armed)
		cellos_test_skip(rig.status.why);
	rig_free(&rig);
	/* Names are compared with our own. */
	RIG_CHECK(prctl(PR_SET_NAME, SELF) == 0);
	for (size_t at = 0; at < sizeof(cases) / sizeof(cases[0]); at++) {
		if (argc > 1 && strcmp(argv[1], cases[at].name) != 0)
			continue;
		printf("%s\n", cases[at].name);
		fflush(stdout);
		cases[at].body();
	}
	return 0;
}
