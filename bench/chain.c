/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See chain.h. One chain at a time. */
#include "chain.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cellos/queue.h"
#include "cellos/wire.h"
#include "sender.h"

/* A paced producer submits what has fallen due this often. */
#define TICK_NS 100000
#define FULL_PAUSE_NS 20000
/* No run leaves anything behind unless a reader is broken: this long a stop may take. */
#define DRAIN_MS 10000
#define CHECK_STOP_EVERY 64u

struct producer {
	pthread_t thread;
	const struct chain_options *options;
	struct cellos_lane *lane;
	unsigned number;
	uint64_t offered, accepted, refused;
	struct histogram submit_ns;
};

static struct cellos_raw_event events[BENCH_EVENTS];
static struct producer producers[BENCH_MAX_PRODUCERS];
static _Atomic unsigned ready;
static _Atomic bool go, stop;

static bool stopped(void)
{
	return atomic_load_explicit(&stop, memory_order_relaxed);
}

/* ---- producers ------------------------------------------------------------------------------- */

static inline bool submit(struct producer *p)
{
	const struct cellos_raw_event *event = &events[p->accepted % BENCH_EVENTS];
	const unsigned every = p->options->time_every;
	enum cellos_submit_status status;

	if (every != 0 && p->offered % every == 0) {
		const uint64_t start = bench_now_ns();

		status = cellos_lane_submit(p->lane, event);
		histogram_add(&p->submit_ns, bench_now_ns() - start);
	} else {
		status = cellos_lane_submit(p->lane, event);
	}
	p->offered++;
	if (status == CELLOS_SUBMIT_ACCEPTED) {
		p->accepted++;
		return true;
	}
	p->refused++;
	return false;
}

/* A full lane has work for hundreds of microseconds: sleep, and leave the CPU to the others. */
static void produce_unpaced(struct producer *p)
{
	const struct timespec pause = {.tv_nsec = FULL_PAUSE_NS};

	while (!stopped())
		for (unsigned i = 0; i < CHECK_STOP_EVERY; i++)
			if (!submit(p) && p->options->retry)
				nanosleep(&pause, NULL);
}

/* What falls due is submitted in one go, as probes do that read records in bulk. */
static void produce_paced(struct producer *p)
{
	const double per_ns = (double)p->options->rate / p->options->producers / 1e9;
	const uint64_t start = bench_now_ns();

	while (!stopped()) {
		const uint64_t due = (uint64_t)(per_ns * (double)(bench_now_ns() - start));
		const struct timespec tick = {.tv_nsec = TICK_NS};

		while (p->offered < due && !stopped())
			(void)submit(p);
		nanosleep(&tick, NULL);
	}
}

static void *produce(void *argument)
{
	struct producer *p = argument;

	bench_place(p->options->pin, p->number, false);
	atomic_fetch_add(&ready, 1);
	while (!atomic_load_explicit(&go, memory_order_acquire))
		sched_yield();
	if (p->options->rate == 0)
		produce_unpaced(p);
	else
		produce_paced(p);
	return NULL;
}

static void start_producers(const struct chain_options *options, struct cellos_queue *queue)
{
	atomic_store(&ready, 0);
	atomic_store(&go, false);
	atomic_store(&stop, false);
	memset(producers, 0, sizeof(producers));
	for (unsigned i = 0; i < options->producers; i++) {
		producers[i].options = options;
		producers[i].number = i;
		producers[i].lane = cellos_queue_lane(queue, i);
		if (pthread_create(&producers[i].thread, NULL, produce, &producers[i]) != 0)
			bench_die("no thread");
	}
	while (atomic_load(&ready) != options->producers)
		sched_yield();
}

/* ---- identities ------------------------------------------------------------------------------ */

static void check_lane(const struct producer *p, unsigned lane, const struct sender_counters *sent,
		       struct cellos_queue *queue, struct chain_result *result)
{
	struct cellos_lane_counters c;

	cellos_lane_read(cellos_queue_lane(queue, lane), &c);
	if (p->offered != p->accepted + p->refused || c.produced != p->offered ||
	    c.dropped[CELLOS_DROP_QUEUE_FULL] != p->refused || c.in_queue != 0 ||
	    c.taken != p->accepted)
		bench_die("lane %u: queue and producer do not agree", lane);
	if (c.taken != sent->sent[lane] + sent->left[lane] || sent->in_batch[lane] != 0)
		bench_die("lane %u: queue and sender do not agree", lane);
	if (result->reader.rows[lane][CELLOS_DROP_QUEUE_FULL] !=
		    p->refused % CELLOS_DROPPED_MODULUS ||
	    result->reader.rows[lane][CELLOS_DROP_STOPPED] != sent->left[lane])
		bench_die("lane %u: the rows that the host was told do not agree", lane);
	if (c.high_water > result->high_water)
		result->high_water = c.high_water;
}

static void add_up(const struct chain_options *options, const struct sender_counters *sent,
		   struct cellos_queue *queue, struct chain_result *result)
{
	uint64_t total = 0;

	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++) {
		const struct producer *p = &producers[i];

		check_lane(p, i, sent, queue, result);
		result->offered += p->offered;
		result->accepted += p->accepted;
		result->refused += p->refused;
		result->left += sent->left[i];
		total += sent->sent[i];
		histogram_merge(&result->submit_ns, &p->submit_ns);
	}
	if (total != result->reader.events ||
	    total % CELLOS_SENT_MODULUS != result->reader.sent_told)
		bench_die("%lu sent, %lu read, %lu told", total, result->reader.events,
			  result->reader.sent_told);
	if (!result->reader.goodbye || result->reader.wrong != 0)
		bench_die("the reader saw %lu faults and %s goodbye", result->reader.wrong,
			  result->reader.goodbye ? "a" : "no");
	if (options->retry && result->accepted + result->refused != result->offered)
		bench_die("an event was neither taken nor refused");
	if (result->offered != result->reader.events + result->refused + result->left)
		bench_die("offered is not delivered and dropped");
}

/* ---- a run ----------------------------------------------------------------------------------- */

void chain_run(const struct chain_options *options, struct chain_result *result)
{
	struct sender_config config = {.heartbeat_ms = 100,
				       .drain_ms = DRAIN_MS,
				       .agent_pid = (uint32_t)getpid(),
				       .notify_fd = -1};
	struct sender_counters sent;
	struct sender *sender;
	struct reader reader;
	uint64_t start;

	memset(result, 0, sizeof(*result));
	bench_events(events);
	reader_start(&reader, options->reader);
	if (cellos_queue_create(&config.queue, CELLOS_LANE_COUNT, options->depth) != 0)
		bench_die("no memory for the queue");
	config.channel = reader.address;
	if (sender_create(&sender, &config) != 0)
		bench_die("the sender does not start");
	start_producers(options, config.queue);
	start = bench_now_ns();
	atomic_store_explicit(&go, true, memory_order_release);
	bench_sleep_until(start + options->length_ns);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < options->producers; i++)
		pthread_join(producers[i].thread, NULL);
	result->submitting_ns = bench_now_ns() - start;
	if (options->reader != READER_FAST)
		reader_release(&reader);
	if (sender_stop(sender) != 0)
		bench_die("the channel did not live to the end");
	sender_read(sender, &sent);
	reader_finish(&reader, &result->reader);
	result->took_ns = result->reader.last_ns - start;
	add_up(options, &sent, config.queue, result);
	sender = sender_destroy(sender);
	config.queue = cellos_queue_destroy(config.queue);
}
