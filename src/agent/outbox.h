/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The sender's batch of encoded frames, and how far the channel has taken it.
 *
 *   bytes   [ written ........ ][ tail of a cut frame ][ frames not begun ........ ]
 *           0              head ^      written ^      boundary ^               length ^
 *
 * Event frames wait in `bytes`. Self-reports are never queued behind them: they stand in `own`,
 * made fresh for each write, and go out at the first frame boundary. A cut frame is finished before
 * anything else on the same connection; after a break a cut event frame starts over, a cut
 * self-report is forgotten.
 *
 * Sender thread only. No system call, no clock: what the channel took comes in as a number, so
 * every cut can be tried in a test.
 */
#ifndef CELLOS_AGENT_OUTBOX_H
#define CELLOS_AGENT_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "cellos/event.h"
#include "cellos/wire.h"

/* One write: large enough that the system call is lost in the noise, small enough for a cache. */
#define OUTBOX_BYTES (64u * 1024u)
/* The shortest event frame: prefix 4, map 1, keys 69, version 3, source 1 + 14, pid 1, name 1,
 * time 1. */
#define OUTBOX_SHORTEST_FRAME 95u
#define OUTBOX_MAX_FRAMES (OUTBOX_BYTES / OUTBOX_SHORTEST_FRAME + 1)
/* A heartbeat, every row, a goodbye. */
#define OUTBOX_MAX_OWN (2 + CELLOS_LANE_COUNT * CELLOS_DROP_COUNT)
#define OUTBOX_OWN_BYTES (OUTBOX_MAX_OWN * CELLOS_ENCODED_FRAME_MAX_BYTES)
#define OUTBOX_IOVECS 4

struct outbox {
	size_t length;
	size_t written;
	size_t head;     /* where the frame begins that `written` stands in or at */
	size_t boundary; /* first byte of a frame not begun; = written when no event frame is cut */
	size_t frame;    /* number of the frame at `head` */
	size_t frames;
	uint32_t pending[CELLOS_LANE_COUNT]; /* frames not wholly written, per lane */
	/* Self-reports of the next write; what a write left of a cut one is moved to own_tail. */
	size_t own_length;
	size_t own_count;
	size_t own_tail_length;
	uint32_t own_end[OUTBOX_MAX_OWN];
	uint8_t own_tail[CELLOS_ENCODED_FRAME_MAX_BYTES];
	uint8_t own[OUTBOX_OWN_BYTES];
	uint8_t lane[OUTBOX_MAX_FRAMES];
	uint8_t bytes[OUTBOX_BYTES];
};

void outbox_init(struct outbox *box);

/* No event frame waits, whole or cut. */
bool outbox_is_empty(const struct outbox *box);
/* Nothing at all waits, a cut self-report neither. */
bool outbox_is_idle(const struct outbox *box);
/* How many more event frames fit for sure, whatever their size. */
size_t outbox_room(const struct outbox *box);
/* Events that are encoded and not wholly written. */
size_t outbox_in_batch(const struct outbox *box);
/* An event frame is cut: its rest stands before the next self-report. */
bool outbox_event_is_cut(const struct outbox *box);

/* Encodes one event behind the others; needs room. False: the encoder refused it. */
bool outbox_add(struct outbox *box, const struct cellos_raw_event *event, uint32_t lane);
/* Encodes a self-report for the next write, behind those added since outbox_clear_own. */
void outbox_add_own(struct outbox *box, const struct cellos_probe_event *event);
void outbox_clear_own(struct outbox *box);

/* What to write next, in order. Returns how many of `iov` are filled, 0 when there is nothing. */
int outbox_gather(const struct outbox *box, struct iovec iov[OUTBOX_IOVECS]);

struct outbox_taken {
	uint32_t sent[CELLOS_LANE_COUNT]; /* event frames whose last byte went out */
	size_t own;                       /* self-reports that went out or are cut and will */
};

/* The channel took the first `bytes` of what gather named. Self-reports not begun are dropped. */
void outbox_consume(struct outbox *box, size_t bytes, struct outbox_taken *taken);
/* The connection broke: a cut event frame starts over, a cut self-report is forgotten. */
void outbox_rewind(struct outbox *box);
/*
 * Gives up all event frames but the rest of a cut one, without which nothing can follow; adds those
 * given up to `lost`.
 */
void outbox_give_up(struct outbox *box, uint64_t lost[CELLOS_LANE_COUNT]);

#endif
