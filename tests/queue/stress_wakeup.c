/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * stress_wakeup events|pairs|counts|wakes|signals SECONDS
 *
 * A partner does one thing, waits until the sender has answered it, pauses for a random moment, and
 * does the next: so each falls somewhere around the sender's way to sleep. The sender's deadline is
 * so far away that a lost wake-up stands still and fails.
 *
 *   events    one producer submits
 *   pairs     two producers submit, each at its own pace, while a third only counts
 *   counts    one producer calls cellos_lane_count and submits nothing
 *   wakes     cellos_queue_wake after a word of one's own
 *   signals   as events, and the sender is interrupted by signals whose handler calls wake
 *
 * Prints how long the answers took.
 */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "cellos/queue.h"
#include "stress.h"

#define PARTNERS 3
#define SENDER_DEADLINE_NS UINT64_C(30000000000)
#define LOST_NS UINT64_C(10000000000)
#define KEPT 1000000

enum action { SUBMIT, COUNT, WAKE };

struct partner {
	pthread_t thread;
	enum action action;
	struct cellos_lane *lane;
	unsigned number;
	_Atomic uint64_t asked;    /* written by the partner before it wakes */
	_Atomic uint64_t answered; /* written by the sender */
	uint64_t longest_ns, kept;
	uint32_t *took_ns; /* KEPT of them */
};

static struct cellos_queue *queue;
static _Atomic bool stop;        /* for the partners */
static _Atomic bool sender_stop; /* later: every question gets its answer */
static _Atomic uint64_t interruptions;

static void ask(struct partner *p, uint64_t number)
{
	const struct cellos_raw_event event = {.monotonic_ns = number};

	switch (p->action) {
	case SUBMIT:
		CHECK(cellos_lane_submit(p->lane, &event) == CELLOS_SUBMIT_ACCEPTED, "full");
		break;
	case COUNT:
		cellos_lane_count(p->lane, CELLOS_DROP_SUPPRESSED, 1);
		break;
	case WAKE:
		/* Relaxed: that wake makes it visible is what is tested. */
		atomic_store_explicit(&p->asked, number, memory_order_relaxed);
		cellos_queue_wake(queue);
		break;
	}
}

static void wait_for_answer(struct partner *p, uint64_t number)
{
	const uint64_t start = now_ns();
	uint64_t took;

	while (atomic_load_explicit(&p->answered, memory_order_acquire) != number) {
		CHECK(now_ns() - start < LOST_NS, "partner %u: wake-up %lu was lost", p->number,
		      number);
		sched_yield();
	}
	took = now_ns() - start;
	if (took > p->longest_ns)
		p->longest_ns = took;
	if (p->kept < KEPT)
		p->took_ns[p->kept++] = (uint32_t)took;
}

static void *be_partner(void *argument)
{
	struct partner *p = argument;
	uint64_t seed = 1234567 + p->number, number = 0;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		const uint64_t dice = next_random(&seed);
		const struct timespec pause = {.tv_nsec = (long)(dice >> 8) % 200000};

		ask(p, ++number);
		wait_for_answer(p, number);
		/* Mostly the few hundred nanoseconds that the way to sleep takes; at times long
		 * enough for the sender to be fast asleep. */
		if (dice % 64 == 0)
			nanosleep(&pause, NULL);
		else
			for (volatile uint64_t i = dice >> 32 & 0x3ff; i > 0; i--)
				;
	}
	return NULL;
}

static void on_signal(int signal)
{
	(void)signal;
	atomic_fetch_add_explicit(&interruptions, 1, memory_order_relaxed);
	cellos_queue_wake(queue);
}

static void *interrupt(void *argument)
{
	pthread_t sender = *(pthread_t *)argument;
	uint64_t seed = 77;

	while (!atomic_load_explicit(&stop, memory_order_relaxed)) {
		const struct timespec pause = {.tv_nsec = (long)(next_random(&seed) % 300000)};

		nanosleep(&pause, NULL);
		pthread_kill(sender, SIGUSR1);
	}
	return NULL;
}

/* Answers all that there is to answer, as a sender would write events and rows. */
static void answer(struct partner *partners, unsigned count)
{
	struct cellos_drained out[16];
	struct cellos_lane_counters c;
	enum cellos_drain_status status;
	size_t n;

	do {
		status = cellos_queue_drain(queue, out, 16, &n);
		for (size_t i = 0; i < n; i++)
			atomic_store_explicit(&partners[out[i].lane].answered,
					      out[i].event.monotonic_ns, memory_order_release);
		if (status == CELLOS_DRAIN_RETRY)
			sched_yield();
	} while (status != CELLOS_DRAIN_EMPTY);
	for (unsigned i = 0; i < count; i++) {
		uint64_t seen = atomic_load_explicit(&partners[i].asked, memory_order_relaxed);

		cellos_lane_read(partners[i].lane, &c);
		if (partners[i].action == COUNT)
			seen = c.dropped[CELLOS_DROP_SUPPRESSED];
		if (partners[i].action != SUBMIT)
			atomic_store_explicit(&partners[i].answered, seen, memory_order_release);
	}
}

struct sender {
	struct partner *partners;
	unsigned count;
	uint64_t waits;
};

static void *be_sender(void *argument)
{
	struct sender *s = argument;

	while (!atomic_load_explicit(&sender_stop, memory_order_relaxed)) {
		answer(s->partners, s->count);
		cellos_queue_wait(queue, now_ns() + SENDER_DEADLINE_NS);
		s->waits++;
	}
	return NULL;
}

static int compare(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static void report(const char *mode, struct partner *p, uint64_t waits)
{
	qsort(p->took_ns, p->kept, sizeof(*p->took_ns), compare);
	printf("%s %u: %lu wake-ups, median %u ns, 99 %% %u ns, longest %lu ns, %lu waits\n", mode,
	       p->number, p->kept, p->took_ns[p->kept / 2], p->took_ns[p->kept * 99 / 100],
	       p->longest_ns, waits);
	CHECK(p->kept > 10, "partner %u hardly ran", p->number);
}

static unsigned cast(struct partner *partners, const char *mode)
{
	static const enum action in_pairs[PARTNERS] = {SUBMIT, SUBMIT, COUNT};
	const unsigned count = strcmp(mode, "pairs") == 0 ? PARTNERS : 1;
	const enum action only = strcmp(mode, "counts") == 0  ? COUNT
				 : strcmp(mode, "wakes") == 0 ? WAKE
							      : SUBMIT;

	CHECK(cellos_queue_create(&queue, count, 2) == 0, "no queue");
	for (unsigned i = 0; i < count; i++) {
		partners[i].action = count == 1 ? only : in_pairs[i];
		partners[i].lane = cellos_queue_lane(queue, i);
		partners[i].number = i;
		partners[i].took_ns = malloc(KEPT * sizeof(uint32_t));
		CHECK(partners[i].took_ns != NULL, "no memory");
	}
	return count;
}

static void start(pthread_t *thread, void *(*run)(void *), void *argument)
{
	CHECK(pthread_create(thread, NULL, run, argument) == 0, "no thread");
}

int main(int argc, char **argv)
{
	static struct partner partners[PARTNERS];
	const struct sigaction action = {.sa_handler = on_signal};
	struct sender sender = {.partners = partners};
	struct timespec rest = {0};
	pthread_t sender_thread, interrupter;
	bool signals;

	CHECK(argc == 3, "events|pairs|counts|wakes|signals SECONDS");
	signals = strcmp(argv[1], "signals") == 0;
	rest.tv_sec = atol(argv[2]);
	CHECK(sigaction(SIGUSR1, &action, NULL) == 0, "no handler");
	sender.count = cast(partners, argv[1]);
	start(&sender_thread, be_sender, &sender);
	for (unsigned i = 0; i < sender.count; i++)
		start(&partners[i].thread, be_partner, &partners[i]);
	if (signals)
		start(&interrupter, interrupt, &sender_thread);
	nanosleep(&rest, NULL);
	atomic_store(&stop, true);
	if (signals)
		pthread_join(interrupter, NULL);
	for (unsigned i = 0; i < sender.count; i++)
		pthread_join(partners[i].thread, NULL);
	atomic_store(&sender_stop, true);
	cellos_queue_wake(queue);
	pthread_join(sender_thread, NULL);
	for (unsigned i = 0; i < sender.count; i++) {
		report(argv[1], &partners[i], sender.waits);
		free(partners[i].took_ns);
	}
	CHECK(!signals || atomic_load(&interruptions) > 10, "hardly interrupted");
	cellos_queue_destroy(queue);
	return 0;
}
