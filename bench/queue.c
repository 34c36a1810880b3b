/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What an event costs from submit to drain, beside Concurrency Kit's ck_ring (many producers, one
 * consumer).
 *
 * Both carry the whole 32-byte event by value, have room for the same number of events in all, and
 * have a consumer that reads every byte. What else happens is the same code for both:
 *
 *   full    the producer yields the CPU and offers the same event again, so none is lost; refusals
 *           are counted as "dropped" offers
 *   empty   the consumer, which takes at most BATCH events at a time, stays away for --away-us:
 * what a sender does that writes its batch. With 0 it comes back at once and chases the producers,
 * which measures how fast a cache line changes hands and not a queue
 *
 * Producers and consumer are pinned and released together; a run ends when its time is over, all
 * producers are gone and the queue is empty. Then the counts and the sum of all words must agree.
 * The runs of the two are interleaved; a row is the median of them.
 */
#include <ck_ring.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "cellos/queue.h"
#include "throughput.h"

#define BATCH 256u /* as the agent's sender */
#define DEFAULT_DEPTH 4096u
#define DEFAULT_AWAY_US 10u

CK_RING_PROTOTYPE(event, cellos_raw_event)

enum impl { OURS, CK_RING, IMPLS };

static const char *const names[IMPLS] = {"ours", "ck_ring"};

/* One run's world. Each producer writes only its own element. */
struct run {
	enum impl impl;
	unsigned producers;
	enum bench_pin pin;
	uint64_t depth, capacity, away_ns, length_ns;
	struct cellos_queue *queue;
	ck_ring_t *ring;
	struct cellos_raw_event *ring_events;
	_Alignas(64) _Atomic unsigned ready; /* threads that stand at the start */
	_Alignas(64) _Atomic bool go;
	_Alignas(64) _Atomic bool stop;
	_Alignas(64) _Atomic unsigned running;
	struct producer {
		pthread_t thread;
		struct run *run;
		unsigned number;
		_Alignas(64) uint64_t accepted;
		uint64_t refused;
	} producer[BENCH_MAX_PRODUCERS];
};

struct result {
	double ns_per_event, batch;
	uint64_t offered, accepted, refused, delivered, high_water;
};

static struct cellos_raw_event events[BENCH_EVENTS];

/* ---- producers ------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void produce_all(struct producer *p, enum impl impl)
{
	struct run *run = p->run;
	struct cellos_lane *lane = impl == OURS ? cellos_queue_lane(run->queue, p->number) : NULL;
	uint64_t accepted = 0, refused = 0;

	while (!atomic_load_explicit(&run->stop, memory_order_relaxed)) {
		struct cellos_raw_event *event = &events[accepted % BENCH_EVENTS];
		const bool taken =
			impl == OURS
				? cellos_lane_submit(lane, event) == CELLOS_SUBMIT_ACCEPTED
				: CK_RING_ENQUEUE_MPSC(event, run->ring, run->ring_events, event);

		if (taken) {
			accepted++;
		} else {
			refused++;
			sched_yield();
		}
	}
	p->accepted = accepted;
	p->refused = refused;
}

static void *produce(void *argument)
{
	struct producer *p = argument;
	struct run *run = p->run;

	bench_place(run->pin, p->number, false);
	atomic_fetch_add(&run->ready, 1);
	while (!atomic_load_explicit(&run->go, memory_order_acquire))
		sched_yield();
	if (run->impl == OURS)
		produce_all(p, OURS);
	else
		produce_all(p, CK_RING);
	atomic_fetch_sub_explicit(&run->running, 1, memory_order_release);
	return NULL;
}

/* ---- consumers: one batch each; false when the queue was found empty --------------------------
 */

static bool take_ours(struct run *run, uint64_t *count, uint64_t *sum)
{
	static struct cellos_drained out[BATCH];
	enum cellos_drain_status status;
	size_t n;

	status = cellos_queue_drain(run->queue, out, BATCH, &n);
	for (size_t i = 0; i < n; i++)
		*sum += bench_sum(&out[i].event);
	*count = n;
	if (status == CELLOS_DRAIN_RETRY)
		sched_yield();
	return status != CELLOS_DRAIN_EMPTY;
}

static bool take_ck_ring(struct run *run, uint64_t *count, uint64_t *sum)
{
	struct cellos_raw_event event;
	uint64_t n = 0;

	while (n < BATCH && CK_RING_DEQUEUE_MPSC(event, run->ring, run->ring_events, &event)) {
		*sum += bench_sum(&event);
		n++;
	}
	*count = n;
	return n == BATCH;
}

static void stay_away(uint64_t ns)
{
	const uint64_t until = bench_now_ns() + ns;

	while (bench_now_ns() < until)
		;
}

/* Until every producer is gone and nothing is left; returns what came. */
static uint64_t consume(struct run *run, uint64_t start, uint64_t *sum, uint64_t *batches)
{
	uint64_t total = 0;

	for (uint64_t turn = 1;; turn++) {
		const bool last = atomic_load_explicit(&run->running, memory_order_acquire) == 0;
		uint64_t count = 0;
		const bool more = run->impl == OURS ? take_ours(run, &count, sum)
						    : take_ck_ring(run, &count, sum);

		total += count;
		*batches += count > 0;
		if (!more && last && count == 0)
			return total;
		if (!more && !last && run->away_ns > 0)
			stay_away(run->away_ns);
		if ((!more || turn % 16 == 0) && bench_now_ns() - start > run->length_ns)
			atomic_store_explicit(&run->stop, true, memory_order_relaxed);
	}
}

/* ---- a run ----------------------------------------------------------------------------------- */

static void *pages(size_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		bench_die("no memory for %zu bytes", bytes);
	return memory;
}

static void set_up(struct run *run)
{
	run->capacity = 1;
	while (run->capacity < run->producers * run->depth)
		run->capacity *= 2;
	if (run->impl == OURS) {
		if (cellos_queue_create(&run->queue, run->producers, run->depth) != 0)
			bench_die("no memory for the queue");
		run->capacity = run->producers * cellos_queue_depth(run->queue);
		return;
	}
	/* A ring of n holds n - 1. */
	run->ring = pages(sizeof(*run->ring));
	run->ring_events = pages(run->capacity * sizeof(*run->ring_events));
	ck_ring_init(run->ring, (unsigned)run->capacity);
}

static void tear_down(struct run *run)
{
	if (run->impl == OURS) {
		run->queue = cellos_queue_destroy(run->queue);
		return;
	}
	munmap(run->ring_events, run->capacity * sizeof(*run->ring_events));
	munmap(run->ring, sizeof(*run->ring));
}

/* offered = accepted + refused, accepted = delivered, byte for byte; ours counts the same itself.
 */
static void check(struct run *run, struct result *result, uint64_t sum)
{
	uint64_t expected = 0;

	for (unsigned i = 0; i < run->producers; i++) {
		const struct producer *p = &run->producer[i];
		struct cellos_lane_counters c;

		result->accepted += p->accepted;
		result->refused += p->refused;
		expected += bench_sum_of_round(events, p->accepted);
		if (run->impl != OURS)
			continue;
		cellos_lane_read(cellos_queue_lane(run->queue, i), &c);
		if (c.produced != p->accepted + p->refused || c.taken != p->accepted ||
		    c.dropped[CELLOS_DROP_QUEUE_FULL] != p->refused || c.in_queue != 0)
			bench_die("queue: the counters of lane %u do not agree", i);
		if (c.high_water > result->high_water)
			result->high_water = c.high_water;
	}
	result->offered = result->accepted + result->refused;
	if (result->delivered != result->accepted || sum != expected)
		bench_die("queue: %s lost or changed events", names[run->impl]);
}

static void run_once(struct run *run, struct result *result)
{
	uint64_t start, end, sum = 0, batches = 0;

	memset(result, 0, sizeof(*result));
	set_up(run);
	atomic_store(&run->running, run->producers);
	for (unsigned i = 0; i < run->producers; i++) {
		run->producer[i].run = run;
		run->producer[i].number = i;
		if (pthread_create(&run->producer[i].thread, NULL, produce, &run->producer[i]) != 0)
			bench_die("no thread");
	}
	bench_place(run->pin, 0, true);
	while (atomic_load(&run->ready) != run->producers)
		sched_yield();
	start = bench_now_ns();
	atomic_store_explicit(&run->go, true, memory_order_release);
	result->delivered = consume(run, start, &sum, &batches);
	end = bench_now_ns();
	for (unsigned i = 0; i < run->producers; i++)
		pthread_join(run->producer[i].thread, NULL);
	check(run, result, sum);
	tear_down(run);
	result->ns_per_event =
		(double)(end - start) / (double)(result->delivered + !result->delivered);
	result->batch = (double)result->delivered / (double)(batches + !batches);
}

/* ---- rows ------------------------------------------------------------------------------------ */

static double print_row(const struct run *run, const struct result *results, unsigned repeats)
{
	double ns[BENCH_MAX_REPEATS], batch[BENCH_MAX_REPEATS];
	struct result total = {0};
	double median;

	for (unsigned i = 0; i < repeats; i++) {
		ns[i] = results[i].ns_per_event;
		batch[i] = results[i].batch;
		total.offered += results[i].offered;
		total.delivered += results[i].delivered;
		total.refused += results[i].refused;
		if (results[i].high_water > total.high_water)
			total.high_water = results[i].high_water;
	}
	median = bench_median(ns, repeats);
	row_begin("queue", names[run->impl]);
	row_count("producers", run->producers);
	row_count("depth", run->depth);
	row_count("capacity", run->capacity);
	row_count("batch_max", BATCH);
	row_number("batch", bench_median(batch, repeats));
	row_count("away_us", run->away_ns / 1000);
	row_text("pin", bench_pin_name(run->pin));
	row_text("full", "yield and retry");
	row_number("seconds", (double)run->length_ns / 1e9);
	row_count("repeats", repeats);
	row_count("offered", total.offered);
	row_count("delivered", total.delivered);
	row_count("dropped", total.refused);
	if (run->impl == OURS)
		row_count("high_water", total.high_water);
	row_number("ns_per_event", median);
	row_number("ns_least", ns[0]);
	row_number("ns_most", ns[repeats - 1]);
	row_number("events_per_s", 1e9 / median);
	row_end();
	return median;
}

static struct run make_run(const struct bench_options *options, enum impl impl, unsigned producers)
{
	const double seconds = options->seconds > 0 ? options->seconds
			       : options->quick     ? 0.02
						    : 0.3;

	return (struct run){
		.impl = impl,
		.producers = producers,
		.pin = bench_pin_or(options->pin, BENCH_PIN_SPREAD),
		.depth = options->depth ? options->depth : DEFAULT_DEPTH,
		.away_ns = options->away_us * 1000,
		.length_ns = (uint64_t)(seconds * 1e9),
	};
}

static void compare(const struct bench_options *options, unsigned producers)
{
	static struct result results[IMPLS][BENCH_MAX_REPEATS];
	static struct run runs[IMPLS];
	const unsigned repeats = options->repeats ? options->repeats : options->quick ? 3 : 21;
	double ratios[BENCH_MAX_REPEATS], medians[IMPLS];

	for (unsigned i = 0; i < repeats; i++) {
		for (enum impl impl = OURS; impl < IMPLS; impl++) {
			runs[impl] = make_run(options, impl, producers);
			run_once(&runs[impl], &results[impl][i]);
		}
		ratios[i] = results[OURS][i].ns_per_event / results[CK_RING][i].ns_per_event;
	}
	for (enum impl impl = OURS; impl < IMPLS; impl++)
		medians[impl] = print_row(&runs[impl], results[impl], repeats);
	row_begin("queue", NULL);
	row_count("producers", producers);
	row_count("away_us", options->away_us);
	row_text("pin", bench_pin_name(runs[OURS].pin));
	row_count("repeats", repeats);
	row_number("ours_over_ck_ring", medians[OURS] / medians[CK_RING]);
	row_number("ours_over_ck_ring_paired", bench_median(ratios, repeats));
	row_end();
}

void bench_queue(const struct bench_options *options)
{
	static const uint64_t usual[] = {1, 2, 4};
	const uint64_t *producers = options->producers_count ? options->producers : usual;
	const unsigned count = options->producers_count ? options->producers_count : 3;

	bench_events(events);
	for (unsigned i = 0; i < count; i++)
		compare(options, (unsigned)producers[i]);
	bench_unpin();
}
