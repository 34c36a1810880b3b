/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The sender's batch of encoded frames, and how far the channel has taken it.
 *
 *   tail    [ rest of a cut frame ]
 *   own     [ self-reports of this write ]
 *   bytes   [ begun ............. ][ frames not begun ........ ]
 *           0                 next ^                    length ^
 *
 * Each write takes the three in this order. Event frames wait in `bytes`. Self-reports are never
 * queued behind them: they stand in `own`, made fresh for each write, and go out at the first frame
 * boundary. A cut frame is finished before anything else on the same connection; after a break a
 * cut event frame starts over, a cut self-report is forgotten.
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
#include "ledger.h"
#include "sender.h"

/* One write: large enough that the system call is lost in the noise, small enough for a cache. */
#define OUTBOX_BYTES (64u * 1024u)
/* The shortest event frame: prefix 4, map 1, keys 69, version 3, source 1 + 14, pid 1, name 1,
 * time 1. So as many frames as outbox_room allows never outnumber `lane`. */
#define OUTBOX_SHORTEST_FRAME 95u
#define OUTBOX_MAX_FRAMES (OUTBOX_BYTES / OUTBOX_SHORTEST_FRAME + 1)
#define OUTBOX_OWN_BYTES (LEDGER_MAX_DUE * CELLOS_ENCODED_FRAME_MAX_BYTES)
#define OUTBOX_IOVECS 3

/* All zero is an empty one. */
struct outbox {
	struct sender_counters counters; /* kept here, but for the epoch */
	size_t length;
	size_t next;   /* first byte of the frames not begun */
	size_t frame;  /* the number of that frame */
	size_t frames; /* all in `bytes` */
	size_t cut;    /* length of the event frame whose rest is the tail; 0 when there is none */
	size_t own_length;
	size_t tail_length;
	uint8_t tail[CELLOS_ENCODED_FRAME_MAX_BYTES];
	uint8_t own[OUTBOX_OWN_BYTES];
	uint8_t lane[OUTBOX_MAX_FRAMES];
	uint8_t bytes[OUTBOX_BYTES];
};

/* No event frame waits, whole or cut. */
bool outbox_is_empty(const struct outbox *box);
/* Nothing at all waits, a cut self-report neither. */
bool outbox_is_idle(const struct outbox *box);
/* How many more event frames fit for sure, whatever their size. */
size_t outbox_room(const struct outbox *box);

/* Encodes one event behind the others; needs room. What the encoder refuses counts as left. */
void outbox_add(struct outbox *box, const struct cellos_raw_event *event, uint32_t lane);
/* Encodes a self-report for the next write, behind those added since outbox_clear_own. */
void outbox_add_own(struct outbox *box, const struct cellos_probe_event *event);
void outbox_clear_own(struct outbox *box);

/* What to write next, in order. Returns how many of `iov` are filled, 0 when there is nothing. */
int outbox_gather(const struct outbox *box, struct iovec iov[OUTBOX_IOVECS]);
/*
 * The channel took the first `bytes` of what gather named. Event frames whose last byte went out
 * count as sent. Self-reports not begun are dropped; returns how many went out, or are cut and
 * will.
 */
size_t outbox_consume(struct outbox *box, size_t bytes);
/* The connection broke: a cut event frame starts over, a cut self-report is forgotten. */
void outbox_rewind(struct outbox *box);
/* Counts all event frames as left but a cut one, without whose rest nothing can follow. */
void outbox_give_up(struct outbox *box);

#endif
