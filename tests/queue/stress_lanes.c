/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * stress_lanes PRODUCERS DEPTH SECONDS drop|retry
 *
 * Producers number their events; the sender checks that each lane's numbers rise, that every byte
 * belongs to its number, and at the end that it got exactly the set that was accepted. A third kind
 * of thread reads the counters all the while.
 *
 *   drop    a refused event is gone; the run must have refused some, or it tested nothing
 *   retry   a refused event is offered again until it is taken, so the numbers have no gap
 */
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#include "cellos/queue.h"
#include "stress.h"

#define LARGEST_BATCH 256
/* For a machine that is busy with something else. */
#define PATIENCE_NS UINT64_C(30000000000)

struct producer {
	pthread_t thread;
	struct cellos_lane *lane;
	unsigned number;
	bool retry;
	uint64_t offered, accepted, refused;
	uint64_t accepted_sum; /* of mix(number of the event) */
};

struct received {
	uint64_t count, next, sum;
};

static _Atomic bool stop;
static _Atomic unsigned running;

static struct cellos_raw_event event_number(unsigned lane, uint64_t number)
{
	const uint64_t spread = mix(number + lane);
	struct cellos_raw_event event = {
		.monotonic_ns = number, .pid = (uint32_t)spread, .source = (uint8_t)(number % 5)};

	memcpy(event.comm, &spread, sizeof(spread));
	memcpy(event.comm + 8, &number, sizeof(number));
	event.comm_len = 15;
	return event;
}

static bool offer(struct producer *p, const struct cellos_raw_event *event)
{
	p->offered++;
	if (cellos_lane_submit(p->lane, event) == CELLOS_SUBMIT_ACCEPTED) {
		p->accepted++;
		return true;
	}
	p->refused++;
	return false;
}

static void *produce(void *argument)
{
	struct producer *p = argument;

	for (uint64_t number = 0; !atomic_load_explicit(&stop, memory_order_relaxed); number++) {
		const struct cellos_raw_event event = event_number(p->number, number);
		bool taken = offer(p, &event);

		while (!taken && p->retry) {
			sched_yield();
			taken = offer(p, &event);
		}
		if (taken)
			p->accepted_sum += mix(number);
	}
	atomic_fetch_sub(&running, 1);
	return NULL;
}

static void receive(struct received *lanes, const struct cellos_drained *got, unsigned lane_count,
		    bool gapless)
{
	const uint64_t number = got->event.monotonic_ns;
	const struct cellos_raw_event expected = event_number(got->lane, number);
	struct received *r = &lanes[got->lane];

	CHECK(got->lane < lane_count, "lane %u", got->lane);
	CHECK(number >= r->next, "lane %u: %lu after %lu", got->lane, number, r->next);
	CHECK(!gapless || number == r->next, "lane %u: %lu is missing", got->lane, r->next);
	CHECK(memcmp(&expected, &got->event, sizeof(expected)) == 0, "lane %u: torn %lu", got->lane,
	      number);
	r->next = number + 1;
	r->sum += mix(number);
	r->count++;
}

/* A producer that is kept from running for all the time has shown nothing yet. */
static bool has_been_tried(struct cellos_queue *queue, unsigned lane_count, bool retry)
{
	uint64_t taken = 0, refused = 0;

	for (unsigned i = 0; i < lane_count; i++) {
		struct cellos_lane_counters c;

		cellos_lane_read(cellos_queue_lane(queue, i), &c);
		taken += c.taken;
		refused += c.dropped[CELLOS_DROP_QUEUE_FULL];
	}
	return taken > 0 && (retry || refused > 0);
}

/* Drains in batches of all sizes until every producer is gone and nothing is left. */
static void send_all(struct cellos_queue *queue, struct received *lanes, unsigned lane_count,
		     uint64_t until_ns, bool retry)
{
	static struct cellos_drained out[LARGEST_BATCH];
	uint64_t seed = 88172645463325252u;
	bool last = false;

	for (;;) {
		const size_t max = 1 + next_random(&seed) % LARGEST_BATCH;
		enum cellos_drain_status status;
		size_t count;

		last = atomic_load(&running) == 0;
		status = cellos_queue_drain(queue, out, max, &count);
		for (size_t i = 0; i < count; i++)
			receive(lanes, &out[i], lane_count, retry);
		if (status == CELLOS_DRAIN_RETRY)
			sched_yield();
		else if (status == CELLOS_DRAIN_EMPTY && last)
			return;
		else if (status == CELLOS_DRAIN_EMPTY)
			cellos_queue_wait(queue, now_ns() + 1000000);
		if (now_ns() > until_ns &&
		    (has_been_tried(queue, lane_count, retry) || now_ns() > until_ns + PATIENCE_NS))
			atomic_store(&stop, true);
	}
}

struct observer {
	pthread_t thread;
	struct cellos_queue *queue;
	unsigned lanes;
	uint64_t reads;
};

/* What must hold at any moment, however old the values are. */
static void look(struct cellos_queue *queue, unsigned lane, struct cellos_lane_counters *before)
{
	struct cellos_lane_counters now;

	cellos_lane_read(cellos_queue_lane(queue, lane), &now);
	CHECK(now.in_queue <= cellos_queue_depth(queue), "%lu in queue", now.in_queue);
	CHECK(now.high_water <= cellos_queue_depth(queue), "high water %lu", now.high_water);
	CHECK(now.taken >= before->taken, "taken fell");
	CHECK(now.produced >= before->produced, "produced fell");
	CHECK(now.high_water >= before->high_water, "high water fell");
	*before = now;
}

static void *observe(void *argument)
{
	struct observer *o = argument;
	struct cellos_lane_counters before[CELLOS_QUEUE_MAX_LANES] = {0};

	/* Many looks in a row, so that some are interrupted half-way. */
	while (atomic_load(&running) != 0) {
		for (unsigned i = 0; i < 100000; i++)
			look(o->queue, i % o->lanes, &before[i % o->lanes]);
		o->reads += 100000;
		sched_yield();
	}
	return NULL;
}

static void check_identity(struct cellos_queue *queue, const struct producer *p,
			   const struct received *r)
{
	struct cellos_lane_counters c;

	cellos_lane_read(p->lane, &c);
	CHECK(p->offered == p->accepted + p->refused, "lane %u", p->number);
	CHECK(c.produced == p->offered, "lane %u: %lu, %lu", p->number, c.produced, p->offered);
	CHECK(c.taken == p->accepted, "lane %u: %lu, %lu", p->number, c.taken, p->accepted);
	CHECK(c.dropped[CELLOS_DROP_QUEUE_FULL] == p->refused, "lane %u", p->number);
	CHECK(c.in_queue == 0, "lane %u: %lu left", p->number, c.in_queue);
	CHECK(r->count == p->accepted, "lane %u: %lu, %lu", p->number, r->count, p->accepted);
	CHECK(r->sum == p->accepted_sum, "lane %u: another set of events", p->number);
	if (p->refused != 0)
		CHECK(c.high_water == cellos_queue_depth(queue), "high water %lu", c.high_water);
}

int main(int argc, char **argv)
{
	struct producer producers[CELLOS_QUEUE_MAX_LANES] = {0};
	struct received received[CELLOS_QUEUE_MAX_LANES] = {0};
	struct cellos_queue *queue;
	struct observer observer = {0};
	uint64_t accepted = 0, refused = 0;
	unsigned count;
	bool retry;

	CHECK(argc == 5, "PRODUCERS DEPTH SECONDS drop|retry");
	count = (unsigned)atoi(argv[1]);
	retry = strcmp(argv[4], "retry") == 0;
	CHECK(cellos_queue_create(&queue, count, (size_t)atol(argv[2])) == 0, "no queue");
	atomic_store(&running, count);
	for (unsigned i = 0; i < count; i++) {
		producers[i] = (struct producer){
			.lane = cellos_queue_lane(queue, i), .number = i, .retry = retry};
		CHECK(pthread_create(&producers[i].thread, NULL, produce, &producers[i]) == 0,
		      "no thread");
	}
	observer = (struct observer){.queue = queue, .lanes = count};
	CHECK(pthread_create(&observer.thread, NULL, observe, &observer) == 0, "no thread");
	send_all(queue, received, count, now_ns() + (uint64_t)atol(argv[3]) * 1000000000u, retry);
	pthread_join(observer.thread, NULL);
	for (unsigned i = 0; i < count; i++) {
		pthread_join(producers[i].thread, NULL);
		check_identity(queue, &producers[i], &received[i]);
		accepted += producers[i].accepted;
		refused += producers[i].refused;
	}
	printf("%u lanes of %zu: %lu events, %lu refused, %lu looks at the counters\n", count,
	       cellos_queue_depth(queue), accepted, refused, observer.reads);
	CHECK(accepted > 0, "nothing went through");
	CHECK(retry || refused > 0, "meant to overload, and refused nothing");
	cellos_queue_destroy(queue);
	return 0;
}
