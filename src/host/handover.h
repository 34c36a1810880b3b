/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Handing on: from the buffer of lines to the output, or to the spool and its sink, with every
 * event counted as handed on or lost, and the state file told in the right order.
 *
 *   output   what was received is committed, the lines are written, then that they were emitted.
 *            Killed in between, the next process counts the difference as lost_in_host, though some
 *            of it may be out: at most what one write takes.
 *   sink     the lines go to the spool; one commit makes them and the accounts valid together.
 *
 * One thread. The buffer is shared by all cells; a segment says whose events end where, so that a
 * write that ends half-way still counts each cell's own. Never waits but in host_handover_finish.
 */
#ifndef CELLOS_HOST_HANDOVER_H
#define CELLOS_HOST_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"
#include "options.h"
#include "output.h"
#include "sink.h"
#include "spool.h"
#include "state.h"

/* A cell as its events' owner. In place for as long as `pending` is not 0 or `dirty` is set. */
struct host_origin {
	struct host_account account;
	unsigned slot;                  /* in the state */
	uint64_t pending;               /* events in the buffer */
	bool dirty;                     /* the state has not seen the account's last change */
	struct host_origin *next_dirty; /* only while dirty */
};

/* Lines up to `end` (bytes since the start) hold `events` events of `origin`. */
struct host_segment {
	struct host_origin *origin;
	uint64_t end;
	uint64_t events;
};

#define HOST_SEGMENTS 8192u /* a power of two */

enum host_handover_part { HOST_PART_OUTPUT = 0, HOST_PART_STATE, HOST_PART_SPOOL, HOST_PART_SINK };

struct host_handover {
	struct host_output output;
	struct host_state *state; /* owned; NULL: nothing outlives us */
	struct host_spool spool;  /* used when `spooled` */
	bool spooled;
	struct host_sink *sink; /* owned; NULL unless spooled */
	uint64_t out;           /* bytes that left the buffer since the start */
	uint64_t settled;       /* events in the bytes before this are counted */
	uint64_t spool_end;
	bool full_said; /* the spool is full: said once until it takes lines again */
	struct host_origin *dirty;
	size_t first, count;           /* of the segments in use */
	struct host_segment *segments; /* owned, HOST_SEGMENTS: a ring */
};

/* 0 or -errno, and then *failed says of what; destroy either way. */
CELLOS_MUST_CHECK int host_handover_init(struct host_handover *handover,
					 const struct host_options *options,
					 enum host_handover_part *failed);
void host_handover_destroy(struct host_handover *handover);

/* Finds the cell's place in the state and what was kept of it. 0 or -errno. */
CELLOS_MUST_CHECK int host_handover_adopt(struct host_handover *handover,
					  struct host_origin *origin, const char *cell_id,
					  const char *run_id);
/* The cell is going; nothing of it may be pending. Its last account is kept with the next commit.
 */
void host_handover_release(struct host_handover *handover, struct host_origin *origin);

/* Room for all that one frame, or one cell's tick or end, can lead to. */
bool host_handover_has_room(const struct host_handover *handover);
/* `events` lines of this cell's events now end the buffer. */
void host_handover_add(struct host_handover *handover, struct host_origin *origin, uint64_t events);
/* The account changed. */
void host_handover_touch(struct host_handover *handover, struct host_origin *origin);

/*
 * Hands on as much as goes. 0: all of it. -EAGAIN: wait until the output can be written. -ENOSPC,
 * -EDQUOT: the disk is full, try again later; nothing is lost. Else final.
 */
CELLOS_MUST_CHECK int host_handover_flush(struct host_handover *handover);
/* The same, and waits up to `limit_ms`. */
CELLOS_MUST_CHECK int host_handover_finish(struct host_handover *handover, unsigned limit_ms);
/* What is still in the buffer is lost, and counted so. */
void host_handover_give_up(struct host_handover *handover);

#endif
