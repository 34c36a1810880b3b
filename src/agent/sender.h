/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The one sender thread: queue -> batch -> frames -> channel, and the ledger between the frames.
 *
 *   main thread     create, stop, destroy, in this order
 *   sender thread   everything else; the only one that drains the queue or touches the channel
 *   any thread      sender_read
 *
 * All memory is taken by create. The thread never lingers to gather events, never sleeps while an
 * event could be written, and never waits on the channel without watching for a stop.
 */
#ifndef CELLOS_AGENT_SENDER_H
#define CELLOS_AGENT_SENDER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"
#include "cellos/export.h"
#include "cellos/queue.h"
#include "cellos/transport.h"

struct sender;

struct sender_config {
	struct cellos_queue *queue; /* borrowed until destroy; CELLOS_LANE_COUNT lanes */
	struct cellos_address channel;
	uint32_t heartbeat_ms;
	uint32_t drain_ms;
	uint32_t agent_pid; /* guest_pid of the self-reports: the incarnation */
	int notify_fd;      /* eventfd, borrowed: written when the channel is gone; or -1 */
	/* One line for a person, no newline. From any of our threads; must not block. May be NULL.
	 */
	void (*begin)(void); /* called first by the sender's thread; NULL: nothing */
	void (*say)(void *context, bool only_verbose, const char *line);
	void *context;
};

/* 64-bit, relaxed, each written by the sender thread alone; exact once it has been joined. */
struct sender_counters {
	uint64_t sent[CELLOS_LANE_COUNT];     /* event frames whose last byte the channel took */
	uint64_t in_batch[CELLOS_LANE_COUNT]; /* drained, not sent yet */
	uint64_t left[CELLOS_LANE_COUNT];     /* given up at the stop: the rows' x */
	uint64_t epoch;                       /* of the current or last connection; 0 before any */
};

/* Tries a first connect in the caller, then starts the thread. 0, or -errno and *sender NULL. */
CELLOS_MUST_CHECK int sender_create(struct sender **sender, const struct sender_config *config);
/*
 * The orderly end; the probes must have been joined. What is queued goes out until the drain
 * timeout, the rest is counted, rows and goodbye follow. Returns when all that is done: 0 when the
 * channel lived to the end, or the -errno for which an fd: channel was given up.
 */
int sender_stop(struct sender *sender);
/* Takes NULL; returns NULL. */
struct sender *sender_destroy(struct sender *sender);
void sender_read(const struct sender *sender, struct sender_counters *out);
/* All bytes that create took, the thread's stack not counted. */
size_t sender_bytes(void);

#endif
