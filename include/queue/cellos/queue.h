/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Lanes over one wait-free queue: how probes hand events to the sender without ever waiting.
 *
 * Who may call what at the same time ("yes": no exclusion needed; "never": two threads must not):
 *
 *                    submit, same lane  submit, other lane  drain   wait   wake   read counters
 *   submit           never              yes                 yes     yes    yes    yes
 *   count            never              yes                 yes     yes    yes    yes
 *   drain            yes                yes                 never   never  yes    yes
 *   wait             yes                yes                 never   never  yes    yes
 *   wake             yes                yes                 yes     yes    yes    yes
 *   read counters    yes                yes                 yes     yes    yes    yes
 *   create, destroy  never              never               never   never  never  never
 *
 *   submit, count    the one thread that owns the lane (its probe)
 *   drain, wait      the one sender thread
 *   wake, counters   anyone
 *
 * submit is wait-free: no lock, no allocation, no system call, unless the queue was empty and the
 * sender has announced that it sleeps; then one futex wake, which does not block either. A full
 * lane refuses the newest event and counts it. drain never blocks. wait is the only call that does.
 *
 * All memory is taken by create and given back by destroy; nothing is allocated in between.
 */
#ifndef CELLOS_QUEUE_H
#define CELLOS_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"
#include "cellos/export.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CELLOS_QUEUE_MIN_DEPTH 2u
#define CELLOS_QUEUE_MAX_DEPTH 1048576u
#define CELLOS_QUEUE_MAX_LANES 8u

struct cellos_queue; /* opaque, owned by whoever created it */
struct cellos_lane;  /* opaque, owned by its queue, dies with it */

/*
 * `lanes` (1..CELLOS_QUEUE_MAX_LANES) lanes of `depth` events each, rounded up to a power of two;
 * depth 2..1048576, 1 allowed for tests. 0 or -EINVAL, -ENOMEM. The memory is page-backed and
 * touched here, so that a full lane costs no page fault later.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK int cellos_queue_create(struct cellos_queue **queue, unsigned lanes,
							size_t depth);
/* Takes NULL; returns NULL, so that `q = cellos_queue_destroy(q)` makes a second call harmless. */
CELLOS_EXPORT struct cellos_queue *cellos_queue_destroy(struct cellos_queue *queue);
/* NULL when out of range. */
CELLOS_EXPORT struct cellos_lane *cellos_queue_lane(struct cellos_queue *queue, unsigned lane);
/* The depth after rounding, and all bytes that create took. */
CELLOS_EXPORT size_t cellos_queue_depth(const struct cellos_queue *queue);
CELLOS_EXPORT size_t cellos_queue_bytes(const struct cellos_queue *queue);

/* ---- probe's side --------------------------------------------------------------------------- */

enum cellos_submit_status {
	CELLOS_SUBMIT_ACCEPTED = 0,
	CELLOS_SUBMIT_FULL /* refused and counted under `q`; the event is gone */
};

/* Copies *event. The caller may ignore the answer: the count is kept either way. */
CELLOS_EXPORT enum cellos_submit_status cellos_lane_submit(struct cellos_lane *lane,
							   const struct cellos_raw_event *event);
/*
 * Account for what never became a submit: CELLOS_DROP_KERNEL, _OVERFLOW or _SUPPRESSED; any other
 * reason counts nothing. Wakes the sender as submit would, so that a row that leaves 0 travels at
 * once.
 */
CELLOS_EXPORT void cellos_lane_count(struct cellos_lane *lane, enum cellos_drop_reason reason,
				     uint64_t more);

/* ---- sender's side -------------------------------------------------------------------------- */

enum cellos_drain_status {
	CELLOS_DRAIN_EMPTY = 0, /* all that stood there when the call began is handed out; what
				   came since, wait finds by itself: sleep on this */
	CELLOS_DRAIN_MORE,      /* `max` reached: there may be more */
	CELLOS_DRAIN_RETRY      /* a producer stands between its two stores and will not wake us:
				   yield and call again, never sleep on this */
};

struct cellos_drained {
	struct cellos_raw_event event;
	uint32_t lane; /* enum cellos_lane_id, or the lane's number */
	uint32_t reserved;
};

/*
 * Moves up to `max` (>= 1; 256 is a good batch) events into the caller's array, in each lane's
 * order, and frees their slots before it returns; *count gets how many. The events are the caller's
 * from then on.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK enum cellos_drain_status
cellos_queue_drain(struct cellos_queue *queue, struct cellos_drained *out, size_t max,
		   size_t *count);

/*
 * Sleeps until a submit or count finds the sender asleep, a wake, a signal, or `deadline_ns`
 * (absolute CLOCK_MONOTONIC; UINT64_MAX waits for ever). Returns at once when something is there
 * already. May return early: look again, always.
 */
CELLOS_EXPORT void cellos_queue_wait(struct cellos_queue *queue, uint64_t deadline_ns);
/* Ends a wait that is under way, or makes the next one return at once. Async-signal-safe. */
CELLOS_EXPORT void cellos_queue_wake(struct cellos_queue *queue);

/* ---- anyone --------------------------------------------------------------------------------- */

/*
 * 64-bit, monotonic, relaxed: each is exact for the thread that writes it, and a moment old for any
 * other. At rest: produced = taken + dropped[CELLOS_DROP_QUEUE_FULL] + in_queue.
 */
struct cellos_lane_counters {
	uint64_t produced;   /* submits, refused ones too */
	uint64_t taken;      /* drained */
	uint64_t in_queue;   /* accepted and not drained yet */
	uint64_t high_water; /* the most events that ever stood in the lane at once */
	uint64_t dropped[CELLOS_DROP_COUNT]; /* q by submit; k, o, s by count; x stays 0 here */
};

CELLOS_EXPORT void cellos_lane_read(const struct cellos_lane *lane,
				    struct cellos_lane_counters *out);

#ifdef __cplusplus
}
#endif

#endif
