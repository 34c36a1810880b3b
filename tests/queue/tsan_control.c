/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The queue with one fault put in on purpose: a producer writes to its slot once more after the
 * enqueue handed it over. ThreadSanitizer must report that, annotations or not; the test passes
 * when it does. Built in the tsan preset alone.
 */
#include <urcu/wfcqueue.h>

static bool enqueue_then_write(struct __cds_wfcq_head *head, struct cds_wfcq_tail *tail,
			       struct cds_wfcq_node *node)
{
	const bool was_not_empty = cds_wfcq_enqueue(head, tail, node);

	((char *)(node + 1))[31] ^= 1;
	return was_not_empty;
}

#define cds_wfcq_enqueue enqueue_then_write
#include "queue.c"

#include <pthread.h>
#include <sched.h>

static void *produce(void *argument)
{
	const struct cellos_raw_event event = {.pid = 1};

	for (unsigned i = 0; i < 20000; i++)
		cellos_lane_submit(argument, &event);
	return NULL;
}

int main(void)
{
	struct cellos_queue *queue;
	struct cellos_lane_counters c = {0};
	struct cellos_drained out[64];
	pthread_t producer;
	size_t count;

	if (cellos_queue_create(&queue, 1, 16) != 0 ||
	    pthread_create(&producer, NULL, produce, cellos_queue_lane(queue, 0)) != 0)
		return 1;
	while (c.produced < 20000) {
		if (cellos_queue_drain(queue, out, 64, &count) != CELLOS_DRAIN_MORE)
			sched_yield();
		cellos_lane_read(cellos_queue_lane(queue, 0), &c);
	}
	pthread_join(producer, NULL);
	cellos_queue_destroy(queue);
	return 0;
}
