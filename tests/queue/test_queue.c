/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Lanes and drain, one thread: what goes in comes out, in order, or is counted. The stress programs
 * beside this file have the threads.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cellos/queue.h"

static struct cellos_queue *make(unsigned lanes, size_t depth)
{
	struct cellos_queue *queue = NULL;

	cr_assert_eq(cellos_queue_create(&queue, lanes, depth), 0);
	return queue;
}

/* Every byte follows from the number, so that a torn or mixed-up copy shows. */
static struct cellos_raw_event event_number(uint64_t number)
{
	struct cellos_raw_event event = {
		.monotonic_ns = number,
		.pid = (uint32_t)(number * 2654435761u),
		.source = (uint8_t)(number % CELLOS_SOURCE_EVENT_COUNT),
		.comm_len = (uint8_t)(number % 16),
	};

	for (unsigned i = 0; i < event.comm_len; i++)
		event.comm[i] = (char)(number + i);
	return event;
}

static enum cellos_submit_status submit(struct cellos_queue *queue, unsigned lane, uint64_t number)
{
	const struct cellos_raw_event event = event_number(number);

	return cellos_lane_submit(cellos_queue_lane(queue, lane), &event);
}

static void expect(const struct cellos_drained *got, unsigned lane, uint64_t number)
{
	const struct cellos_raw_event event = event_number(number);

	cr_assert_eq(got->lane, lane);
	cr_assert_eq(got->reserved, 0);
	cr_assert_eq(got->event.monotonic_ns, number);
	cr_assert_eq(memcmp(&got->event, &event, sizeof(event)), 0);
}

static struct cellos_lane_counters counters(struct cellos_queue *queue, unsigned lane)
{
	struct cellos_lane_counters c;

	cellos_lane_read(cellos_queue_lane(queue, lane), &c);
	cr_assert_eq(c.produced, c.taken + c.dropped[CELLOS_DROP_QUEUE_FULL] + c.in_queue);
	cr_assert_eq(c.dropped[CELLOS_DROP_STOPPED], 0);
	return c;
}

Test(queue, bad_arguments_are_refused)
{
	struct cellos_queue *queue = (struct cellos_queue *)&queue;

	cr_assert_eq(cellos_queue_create(NULL, 1, 16), -EINVAL);
	cr_assert_eq(cellos_queue_create(&queue, 0, 16), -EINVAL);
	cr_assert_null(queue);
	cr_assert_eq(cellos_queue_create(&queue, CELLOS_QUEUE_MAX_LANES + 1, 16), -EINVAL);
	cr_assert_eq(cellos_queue_create(&queue, 1, 0), -EINVAL);
	cr_assert_eq(cellos_queue_create(&queue, 1, CELLOS_QUEUE_MAX_DEPTH + 1), -EINVAL);
	cr_assert_eq(cellos_queue_create(&queue, 1, SIZE_MAX), -EINVAL);
	cr_assert_null(queue);
	cr_assert_null(cellos_queue_destroy(NULL));
}

Test(queue, depth_is_rounded_up_to_a_power_of_two)
{
	static const size_t pairs[][2] = {
		{1, 1},
		{2, 2},
		{3, 4},
		{4, 4},
		{5, 8},
		{1000, 1024},
		{4096, 4096},
		{4097, 8192},
		{524289, 1048576},
		{1048576, 1048576},
	};

	for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
		struct cellos_queue *queue = make(1, pairs[i][0]);

		cr_assert_eq(cellos_queue_depth(queue), pairs[i][1]);
		queue = cellos_queue_destroy(queue);
		cr_assert_null(queue);
	}
}

Test(queue, default_size_stays_small)
{
	struct cellos_queue *queue = make(CELLOS_LANE_COUNT, 4096);

	cr_assert_leq(cellos_queue_bytes(queue), 3u * 1024 * 1024 / 4);
	cr_assert_geq(cellos_queue_bytes(queue), 4u * 4096 * sizeof(struct cellos_raw_event));
	cellos_queue_destroy(queue);
}

Test(queue, lanes_are_found_by_number)
{
	struct cellos_queue *queue = make(3, 4);

	for (unsigned i = 0; i < 3; i++)
		cr_assert_not_null(cellos_queue_lane(queue, i));
	cr_assert_neq(cellos_queue_lane(queue, 0), cellos_queue_lane(queue, 1));
	cr_assert_null(cellos_queue_lane(queue, 3));
	cr_assert_null(cellos_queue_lane(queue, UINT32_MAX));
	cellos_queue_destroy(queue);
}

Test(queue, empty_drains_nothing)
{
	struct cellos_queue *queue = make(2, 4);
	struct cellos_drained out[4];
	size_t count = 99;

	cr_assert_eq(cellos_queue_drain(queue, out, 4, &count), CELLOS_DRAIN_EMPTY);
	cr_assert_eq(count, 0);
	cr_assert_eq(counters(queue, 0).produced, 0);
	cr_assert_eq(counters(queue, 0).high_water, 0);
	cellos_queue_destroy(queue);
}

/* Depths 1 to 64, many times round: the oldest `depth` come out, the newest are refused. */
Test(queue, full_lane_refuses_the_newest_and_counts)
{
	for (size_t depth = 1; depth <= 64; depth *= 2) {
		struct cellos_queue *queue = make(1, depth);
		struct cellos_drained out[70];
		uint64_t number = 0;

		for (unsigned round = 1; round <= 20; round++) {
			const uint64_t first = number;
			size_t count = 0;

			for (size_t i = 0; i < depth; i++)
				cr_assert_eq(submit(queue, 0, number++), CELLOS_SUBMIT_ACCEPTED);
			for (size_t i = 0; i < 3; i++)
				cr_assert_eq(submit(queue, 0, number++), CELLOS_SUBMIT_FULL);
			cr_assert_eq(cellos_queue_drain(queue, out, 70, &count),
				     CELLOS_DRAIN_EMPTY);
			cr_assert_eq(count, depth);
			for (size_t i = 0; i < depth; i++)
				expect(&out[i], 0, first + i);
			cr_assert_eq(counters(queue, 0).dropped[CELLOS_DROP_QUEUE_FULL],
				     3u * round);
			cr_assert_eq(counters(queue, 0).high_water, depth);
		}
		cellos_queue_destroy(queue);
	}
}

Test(queue, one_full_lane_does_not_touch_another)
{
	struct cellos_queue *queue = make(2, 4);
	struct cellos_drained out[16];
	size_t count;

	for (uint64_t i = 0; i < 1000; i++)
		submit(queue, 0, i);
	for (uint64_t i = 0; i < 4; i++)
		cr_assert_eq(submit(queue, 1, i), CELLOS_SUBMIT_ACCEPTED);
	cr_assert_eq(counters(queue, 0).dropped[CELLOS_DROP_QUEUE_FULL], 996);
	cr_assert_eq(counters(queue, 1).dropped[CELLOS_DROP_QUEUE_FULL], 0);
	cr_assert_eq(cellos_queue_drain(queue, out, 16, &count), CELLOS_DRAIN_EMPTY);
	cr_assert_eq(count, 8);
	cellos_queue_destroy(queue);
}

Test(queue, a_drained_slot_is_free_when_drain_returns)
{
	struct cellos_queue *queue = make(1, 2);
	struct cellos_drained out[1];
	size_t count;

	submit(queue, 0, 0);
	submit(queue, 0, 1);
	for (uint64_t i = 0; i < 100; i++) {
		cr_assert_eq(submit(queue, 0, 1000), CELLOS_SUBMIT_FULL);
		cr_assert_eq(cellos_queue_drain(queue, out, 1, &count), CELLOS_DRAIN_MORE);
		cr_assert_eq(count, 1);
		expect(&out[0], 0, i);
		cr_assert_eq(submit(queue, 0, i + 2), CELLOS_SUBMIT_ACCEPTED);
	}
	cellos_queue_destroy(queue);
}

/* EMPTY promises that nothing from before the call is left, old leftovers or not. */
Test(queue, empty_means_all_that_stood_there)
{
	struct cellos_queue *queue = make(1, 16);
	struct cellos_drained out[16];
	size_t count;

	for (uint64_t i = 0; i < 5; i++)
		submit(queue, 0, i);
	cr_assert_eq(cellos_queue_drain(queue, out, 2, &count), CELLOS_DRAIN_MORE);
	cr_assert_eq(count, 2);
	for (uint64_t i = 5; i < 10; i++)
		submit(queue, 0, i);
	cr_assert_eq(cellos_queue_drain(queue, out, 16, &count), CELLOS_DRAIN_EMPTY);
	cr_assert_eq(count, 8);
	for (size_t i = 0; i < count; i++)
		expect(&out[i], 0, i + 2);
	cellos_queue_destroy(queue);
}

Test(queue, counts_go_to_their_reason)
{
	struct cellos_queue *queue = make(2, 4);
	struct cellos_lane *lane = cellos_queue_lane(queue, 1);
	struct cellos_lane_counters c;

	cellos_lane_count(lane, CELLOS_DROP_KERNEL, 3);
	cellos_lane_count(lane, CELLOS_DROP_KERNEL, UINT64_C(1) << 40);
	cellos_lane_count(lane, CELLOS_DROP_OVERFLOW, 1);
	cellos_lane_count(lane, CELLOS_DROP_SUPPRESSED, 7);
	/* Not a probe's to count. */
	cellos_lane_count(lane, CELLOS_DROP_QUEUE_FULL, 5);
	cellos_lane_count(lane, CELLOS_DROP_STOPPED, 5);
	cellos_lane_count(lane, CELLOS_DROP_COUNT, 5);
	c = counters(queue, 1);
	cr_assert_eq(c.dropped[CELLOS_DROP_QUEUE_FULL], 0);
	cr_assert_eq(c.dropped[CELLOS_DROP_KERNEL], (UINT64_C(1) << 40) + 3);
	cr_assert_eq(c.dropped[CELLOS_DROP_OVERFLOW], 1);
	cr_assert_eq(c.dropped[CELLOS_DROP_SUPPRESSED], 7);
	cr_assert_eq(c.produced, 0);
	cr_assert_eq(counters(queue, 0).dropped[CELLOS_DROP_KERNEL], 0);
	cellos_queue_destroy(queue);
}

/* ---- against a model: plain arrays and plain counts ------------------------------------------ */

#define MODEL_LANES 3
#define MODEL_DEPTH 8

struct model {
	uint64_t next[MODEL_LANES];                  /* number of the next submit */
	uint64_t accepted[MODEL_LANES][MODEL_DEPTH]; /* a circle */
	uint64_t in[MODEL_LANES], out[MODEL_LANES];
	uint64_t refused[MODEL_LANES], high_water[MODEL_LANES];
};

static void model_submit(struct model *m, struct cellos_queue *queue, unsigned lane)
{
	const bool full = m->in[lane] - m->out[lane] == MODEL_DEPTH;
	const uint64_t number = m->next[lane]++;

	cr_assert_eq(submit(queue, lane, number),
		     full ? CELLOS_SUBMIT_FULL : CELLOS_SUBMIT_ACCEPTED);
	if (full) {
		m->refused[lane]++;
		return;
	}
	m->accepted[lane][m->in[lane]++ % MODEL_DEPTH] = number;
	if (m->in[lane] - m->out[lane] > m->high_water[lane])
		m->high_water[lane] = m->in[lane] - m->out[lane];
}

static void model_drain(struct model *m, struct cellos_queue *queue, size_t max)
{
	struct cellos_drained out[32];
	size_t count, there = 0;

	for (unsigned lane = 0; lane < MODEL_LANES; lane++)
		there += m->in[lane] - m->out[lane];
	cr_assert_eq(cellos_queue_drain(queue, out, max, &count),
		     max > there ? CELLOS_DRAIN_EMPTY : CELLOS_DRAIN_MORE);
	cr_assert_eq(count, max > there ? there : max);
	for (size_t i = 0; i < count; i++) {
		const unsigned lane = out[i].lane;

		cr_assert_lt(lane, MODEL_LANES);
		expect(&out[i], lane, m->accepted[lane][m->out[lane]++ % MODEL_DEPTH]);
	}
}

Test(queue, agrees_with_a_model_on_random_steps)
{
	struct cellos_queue *queue = make(MODEL_LANES, MODEL_DEPTH);
	struct model m = {0};

	srandom(42);
	for (unsigned step = 0; step < 200000; step++) {
		const long choice = random();

		if (choice % 8 == 0)
			model_drain(&m, queue, 1 + (size_t)(choice >> 8) % 30);
		else
			model_submit(&m, queue, (unsigned)(choice >> 8) % MODEL_LANES);
		for (unsigned lane = 0; lane < MODEL_LANES; lane++) {
			const struct cellos_lane_counters c = counters(queue, lane);

			cr_assert_eq(c.produced, m.next[lane]);
			cr_assert_eq(c.taken, m.out[lane]);
			cr_assert_eq(c.in_queue, m.in[lane] - m.out[lane]);
			cr_assert_eq(c.high_water, m.high_water[lane]);
			cr_assert_eq(c.dropped[CELLOS_DROP_QUEUE_FULL], m.refused[lane]);
		}
	}
	cr_assert_gt(m.refused[0], 1000);
	cellos_queue_destroy(queue);
}
