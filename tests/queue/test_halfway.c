/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A producer that the scheduler stopped between the two stores of its enqueue: the exchange of the
 * tail is done, the link is not. No schedule that a test could ask for stands still there, so the
 * two stores are made by hand, on the real queue; this is the one test that looks inside it.
 *
 *   it found the queue empty       drain says EMPTY, wait sleeps, and the link's owner wakes
 *   it stands behind another one   drain says RETRY, wait refuses to sleep
 */
#include "queue.c"

#include <criterion/criterion.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>

#define MS UINT64_C(1000000)
#define FAR (20000 * MS)
#define SOON (10000 * MS)

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static struct cellos_queue *make(void)
{
	struct cellos_queue *queue = NULL;

	cr_assert_eq(cellos_queue_create(&queue, 2, 4), 0);
	return queue;
}

/* A submit up to and with the exchange; returns where the link has still to be stored. */
static struct cds_wfcq_node *submit_first_half(struct cellos_queue *queue, unsigned number,
					       uint64_t time, struct slot **slot)
{
	struct cellos_lane *lane = &queue->lane[number];

	*slot = &lane->slots[own(&lane->head) & lane->mask];
	(*slot)->event = (struct cellos_raw_event){.monotonic_ns = time};
	(*slot)->event.reserved[0] = (uint8_t)number;
	add(&lane->head, 1);
	return uatomic_xchg(&queue->tail.p, &(*slot)->node);
}

Test(halfway, a_first_node_without_its_link_is_slept_on_and_wakes)
{
	struct cellos_queue *queue = make();
	struct cellos_drained out[4];
	struct cds_wfcq_node *before;
	struct slot *slot;
	uint64_t start;
	size_t count;

	before = submit_first_half(queue, 0, 7, &slot);
	cr_assert_eq(before, &queue->head.node);
	cr_assert_eq(cellos_queue_drain(queue, out, 4, &count), CELLOS_DRAIN_EMPTY);
	cr_assert_eq(count, 0);
	start = now_ns();
	cellos_queue_wait(queue, start + 30 * MS);
	cr_assert_geq(now_ns() - start, 30 * MS, "it span");
	/* Now the second half. */
	CMM_STORE_SHARED(before->next, &slot->node);
	wake_sleeper(queue);
	cr_assert_eq(cellos_queue_drain(queue, out, 4, &count), CELLOS_DRAIN_EMPTY);
	cr_assert_eq(count, 1);
	cr_assert_eq(out[0].event.monotonic_ns, 7);
	cellos_queue_destroy(queue);
}

static void *second_half(void *argument)
{
	struct slot *slot = argument;
	struct cellos_queue *queue = *(struct cellos_queue **)(void *)&slot->event.comm;

	while (atomic_load(&queue->asleep) == 0)
		sched_yield();
	CMM_STORE_SHARED(queue->head.node.next, &slot->node);
	wake_sleeper(queue);
	return NULL;
}

Test(halfway, the_late_link_ends_the_sleep)
{
	struct cellos_queue *queue = make();
	pthread_t producer;
	struct slot *slot;
	uint64_t start;

	submit_first_half(queue, 1, 7, &slot);
	memcpy(slot->event.comm, &queue, sizeof(queue));
	cr_assert_eq(pthread_create(&producer, NULL, second_half, slot), 0);
	start = now_ns();
	cellos_queue_wait(queue, start + FAR);
	cr_assert_lt(now_ns() - start, SOON);
	pthread_join(producer, NULL);
	cellos_queue_destroy(queue);
}

Test(halfway, a_node_without_its_link_in_the_middle_is_retried_and_never_slept_on)
{
	const struct cellos_raw_event first = {.monotonic_ns = 1};
	struct cellos_queue *queue = make();
	struct cellos_lane_counters c;
	struct cellos_drained out[4];
	struct cds_wfcq_node *before;
	struct slot *slot;
	uint64_t start;
	size_t count;

	cellos_lane_submit(&queue->lane[0], &first);
	before = submit_first_half(queue, 1, 2, &slot);
	cr_assert_neq(before, &queue->head.node);
	for (unsigned i = 0; i < 3; i++) {
		cr_assert_eq(cellos_queue_drain(queue, out, 4, &count), CELLOS_DRAIN_RETRY);
		cr_assert_eq(count, 0);
	}
	cellos_lane_read(&queue->lane[0], &c);
	cr_assert_eq(c.taken, 0, "a slot was given back before its link was read");
	start = now_ns();
	cellos_queue_wait(queue, start + FAR);
	cr_assert_lt(now_ns() - start, SOON);
	CMM_STORE_SHARED(before->next, &slot->node);
	cr_assert_eq(cellos_queue_drain(queue, out, 4, &count), CELLOS_DRAIN_EMPTY);
	cr_assert_eq(count, 2);
	cr_assert_eq(out[0].event.monotonic_ns, 1);
	cr_assert_eq(out[1].event.monotonic_ns, 2);
	cellos_queue_destroy(queue);
}
