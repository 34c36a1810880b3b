/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Sleeping and waking, one edge at a time; and that nobody but a waker of a sleeper enters the
 * kernel. stress_wakeup.c has the races.
 *
 * Times: a wait that must end at once has FAR as its deadline, so a lost wake-up is seen as a wait
 * that lasted; no test asks for more speed than "well before FAR".
 */
#include <criterion/criterion.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cellos/queue.h"

#define MS UINT64_C(1000000)
#define FAR (20000 * MS)
#define SOON (10000 * MS)

static const struct cellos_raw_event some_event = {.pid = 7};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct cellos_queue *make(void)
{
	struct cellos_queue *queue = NULL;

	cr_assert_eq(cellos_queue_create(&queue, 2, 16), 0);
	return queue;
}

/* How long a wait with a deadline so far ahead takes. */
static uint64_t wait_for(struct cellos_queue *queue, uint64_t ns)
{
	const uint64_t start = now_ns();

	cellos_queue_wait(queue, start + ns);
	return now_ns() - start;
}

Test(wait, lasts_until_its_deadline_and_no_longer)
{
	struct cellos_queue *queue = make();
	uint64_t took = wait_for(queue, 30 * MS);

	cr_assert_geq(took, 30 * MS);
	cr_assert_lt(took, SOON);
	cellos_queue_destroy(queue);
}

Test(wait, a_deadline_in_the_past_returns_at_once)
{
	struct cellos_queue *queue = make();
	const uint64_t start = now_ns();

	cellos_queue_wait(queue, 0);
	cellos_queue_wait(queue, start - 1);
	cr_assert_lt(now_ns() - start, SOON);
	cellos_queue_destroy(queue);
}

Test(wait, does_not_sleep_on_an_event)
{
	struct cellos_queue *queue = make();

	cellos_lane_submit(cellos_queue_lane(queue, 1), &some_event);
	cr_assert_lt(wait_for(queue, FAR), SOON);
	cellos_queue_destroy(queue);
}

/* Spliced already, so the shared queue is empty: the private list counts too. */
Test(wait, does_not_sleep_on_what_drain_left_over)
{
	struct cellos_queue *queue = make();
	struct cellos_drained out[1];
	size_t count;

	for (unsigned i = 0; i < 2; i++)
		cellos_lane_submit(cellos_queue_lane(queue, 0), &some_event);
	cr_assert_eq(cellos_queue_drain(queue, out, 1, &count), CELLOS_DRAIN_MORE);
	cr_assert_lt(wait_for(queue, FAR), SOON);
	cellos_queue_destroy(queue);
}

Test(wait, a_wake_before_it_counts_once)
{
	struct cellos_queue *queue = make();

	cellos_queue_wake(queue);
	cellos_queue_wake(queue);
	cr_assert_lt(wait_for(queue, FAR), SOON);
	cr_assert_geq(wait_for(queue, 30 * MS), 30 * MS);
	cellos_queue_destroy(queue);
}

Test(wait, a_count_before_it_counts_once_and_a_null_count_not_at_all)
{
	struct cellos_queue *queue = make();

	cellos_lane_count(cellos_queue_lane(queue, 0), CELLOS_DROP_OVERFLOW, 1);
	cr_assert_lt(wait_for(queue, FAR), SOON);
	cellos_lane_count(cellos_queue_lane(queue, 0), CELLOS_DROP_OVERFLOW, 0);
	cr_assert_geq(wait_for(queue, 30 * MS), 30 * MS);
	cellos_queue_destroy(queue);
}

/* ---- a sleeper and somebody else ------------------------------------------------------------- */

struct sleeper {
	struct cellos_queue *queue;
	uint64_t deadline_ns;
	pthread_t thread;
	_Atomic int tid;
	_Atomic bool returned;
};

static void *sleep_once(void *argument)
{
	struct sleeper *s = argument;

	atomic_store(&s->tid, (int)syscall(SYS_gettid));
	cellos_queue_wait(s->queue, s->deadline_ns);
	atomic_store(&s->returned, true);
	return NULL;
}

/* Starts a sleeper and returns once the kernel shows it asleep. */
static void start_asleep(struct sleeper *s, struct cellos_queue *queue, uint64_t deadline_ns)
{
	char path[64], state = 0;
	FILE *file;

	*s = (struct sleeper){.queue = queue, .deadline_ns = deadline_ns};
	cr_assert_eq(pthread_create(&s->thread, NULL, sleep_once, s), 0);
	while (atomic_load(&s->tid) == 0)
		sched_yield();
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", atomic_load(&s->tid));
	while (state != 'S') {
		file = fopen(path, "r");
		cr_assert_not_null(file);
		cr_assert_eq(fscanf(file, "%*d %*s %c", &state), 1);
		fclose(file);
	}
	cr_assert_not(atomic_load(&s->returned));
}

static void join_soon(struct sleeper *s)
{
	struct timespec limit;

	clock_gettime(CLOCK_MONOTONIC, &limit); /* the day's clock may be set meanwhile */
	limit.tv_sec += 10;
	cr_assert_eq(pthread_clockjoin_np(s->thread, NULL, CLOCK_MONOTONIC, &limit), 0,
		     "it sleeps on");
}

Test(wait, is_ended_by_a_wake_even_without_a_deadline)
{
	struct cellos_queue *queue = make();
	struct sleeper s;

	start_asleep(&s, queue, UINT64_MAX);
	cellos_queue_wake(queue);
	join_soon(&s);
	cellos_queue_destroy(queue);
}

Test(wait, is_ended_by_a_submit)
{
	struct cellos_queue *queue = make();
	struct sleeper s;

	start_asleep(&s, queue, UINT64_MAX);
	cellos_lane_submit(cellos_queue_lane(queue, 1), &some_event);
	join_soon(&s);
	cellos_queue_destroy(queue);
}

Test(wait, is_ended_by_a_count)
{
	struct cellos_queue *queue = make();
	struct sleeper s;

	start_asleep(&s, queue, now_ns() + FAR);
	cellos_lane_count(cellos_queue_lane(queue, 1), CELLOS_DROP_KERNEL, 1);
	join_soon(&s);
	cellos_queue_destroy(queue);
}

static void nothing(int signal)
{
	(void)signal;
}

Test(wait, is_ended_by_a_signal)
{
	struct cellos_queue *queue = make();
	const struct sigaction action = {.sa_handler = nothing};
	struct sleeper s;

	cr_assert_eq(sigaction(SIGUSR1, &action, NULL), 0);
	start_asleep(&s, queue, now_ns() + FAR);
	cr_assert_eq(pthread_kill(s.thread, SIGUSR1), 0);
	join_soon(&s);
	cellos_queue_destroy(queue);
}

/* ---- system calls ---------------------------------------------------------------------------- */

/*
 * Runs `work` in a child that may only read, write and exit: anything else is a SIGKILL from the
 * kernel. So also: no allocation that would need memory, no page fault handler of ours, no futex.
 */
static int in_strict_child(void (*work)(struct cellos_queue *), struct cellos_queue *queue)
{
	int status = 0;
	const pid_t pid = fork();

	cr_assert_neq(pid, -1);
	if (pid == 0) {
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) != 0)
			_exit(2);
		work(queue);
		syscall(SYS_exit, 0);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	return status;
}

static void everything_but_sleep(struct cellos_queue *queue)
{
	struct cellos_drained out[8];
	struct cellos_lane_counters c;
	size_t count;

	for (unsigned i = 0; i < 10000; i++) {
		for (unsigned k = 0; k < i % 40; k++)
			cellos_lane_submit(cellos_queue_lane(queue, k & 1), &some_event);
		cellos_lane_count(cellos_queue_lane(queue, 0), CELLOS_DROP_SUPPRESSED, 1);
		if (cellos_queue_drain(queue, out, 8, &count) == CELLOS_DRAIN_RETRY)
			return;
		cellos_lane_read(cellos_queue_lane(queue, 0), &c);
		cellos_queue_wake(queue);
	}
}

static void sleeping(struct cellos_queue *queue)
{
	cellos_queue_wait(queue, 0);
}

Test(wait, nobody_enters_the_kernel_while_the_sender_is_awake)
{
	struct cellos_queue *queue = make();
	int status = in_strict_child(everything_but_sleep, queue);

	cr_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
	/* The cage holds: a sleep in it is deadly. */
	status = in_strict_child(sleeping, queue);
	cr_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL, "status %#x", status);
	cellos_queue_destroy(queue);
}
