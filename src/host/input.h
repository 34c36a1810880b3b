/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One connection's bytes: cut into frames, decoded, put to the cell's account and, when they are
 * events, as lines to the output.
 *
 * One thread. Memory is the struct alone, whatever the guest sends. A frame is taken only while the
 * line has room for all that one frame can lead to, so a piece may be taken in part: then it stays
 * borrowed, and host_input_resume goes on with it once there is room.
 */
#ifndef CELLOS_HOST_INPUT_H
#define CELLOS_HOST_INPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "account.h"
#include "cellos_json_line.h"
#include "format.h"

struct host_input {
	struct cellos_stream stream;
	struct host_account *account;           /* borrowed, as the next two */
	const struct host_formatter *formatter; /* of the cell */
	struct cellos_json_line *line;
	size_t room;          /* a frame is taken while this much of the line is free */
	uint64_t received_ns; /* CLOCK_REALTIME of the bytes; the caller's to set before a feed */
	uint64_t events;      /* lines of events made so far; the caller may set it back */
	bool discard;         /* nothing can be written any more: events are counted as lost */

	/* A frame is decoded into the spare one; so the other keeps the latest event, for nothing.
	 */
	struct cellos_probe_event decoded[2];
	unsigned spare;
	uint64_t latest_ns; /* `received_ns` of the latest event; 0: there was none */
};

void host_input_init(struct host_input *input, struct host_account *account,
		     const struct host_formatter *formatter, struct cellos_json_line *line,
		     size_t room);
/*
 * 0: all bytes are taken. -ENOBUFS: there is no room; the bytes stay borrowed, resume when there
 * is. -EPROTO: the framing is lost (counted; close the connection).
 */
CELLOS_MUST_CHECK int host_input_feed(struct host_input *input, const uint8_t *bytes,
				      size_t length);
/* Goes on with what the last feed left; the same answers. */
CELLOS_MUST_CHECK int host_input_resume(struct host_input *input);
/* The event taken last, borrowed until the next feed; NULL: none was. */
const struct cellos_probe_event *host_input_latest(const struct host_input *input);

#endif
