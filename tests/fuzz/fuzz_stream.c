/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The stream reader, with the cuts chosen by the input: its first byte says how many of the next
 * ones (at most 15) are sizes of pieces, used over and over; the rest is the stream. Whatever the
 * cuts, the frames must be those that a walk over the whole stream finds, and so must the end.
 */
#include <string.h>

#include "cellos/wire.h"
#include "fuzz.h"

struct walk {
	const uint8_t *bytes;
	size_t size;
	size_t at;
	bool lost;
};

/* The length of the whole frame at walk->at; 0 when there is none. */
static size_t frame_at(struct walk *walk)
{
	const uint8_t *at = walk->bytes + walk->at;
	size_t left = walk->size - walk->at;
	uint32_t body;

	if (left < CELLOS_FRAME_PREFIX_BYTES)
		return 0;
	body = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 |
	       (uint32_t)at[3] << 24;
	walk->lost = body > CELLOS_MAX_FRAME_BODY_BYTES;
	if (walk->lost || left - CELLOS_FRAME_PREFIX_BYTES < body)
		return 0;
	return CELLOS_FRAME_PREFIX_BYTES + body;
}

/* Frames of one piece, each compared with the walk. */
static enum cellos_stream_status take_frames(struct cellos_stream *stream, struct walk *walk)
{
	enum cellos_stream_status status;
	const uint8_t *frame;
	size_t length;

	while ((status = cellos_stream_next(stream, &frame, &length)) == CELLOS_STREAM_FRAME) {
		FUZZ_CHECK(length == frame_at(walk));
		FUZZ_CHECK(memcmp(frame, walk->bytes + walk->at, length) == 0);
		walk->at += length;
	}
	return status;
}

static void check_end(const struct cellos_stream *stream, struct walk *walk,
		      enum cellos_stream_status status)
{
	FUZZ_CHECK(frame_at(walk) == 0);
	FUZZ_CHECK((status == CELLOS_STREAM_LOST) == walk->lost);
	if (walk->lost) {
		FUZZ_CHECK(stream->lost_length > CELLOS_MAX_FRAME_BODY_BYTES);
		FUZZ_CHECK(cellos_stream_pending(stream) == 0);
	} else {
		FUZZ_CHECK(cellos_stream_pending(stream) == walk->size - walk->at);
	}
}

static void read_in_pieces(const uint8_t *bytes, size_t size, const uint8_t *cuts, size_t count)
{
	static struct cellos_stream stream; /* 4 KiB: not on a small stack */
	struct walk walk = {.bytes = bytes, .size = size};
	enum cellos_stream_status status = CELLOS_STREAM_MORE;
	size_t at = 0;

	cellos_stream_init(&stream);
	for (size_t turn = 0; at < size && status == CELLOS_STREAM_MORE; turn++) {
		size_t length = count == 0 ? size : (size_t)cuts[turn % count] + 1;
		uint8_t *piece;

		if (length > size - at)
			length = size - at;
		piece = malloc(length); /* of its exact size, and gone afterwards */
		FUZZ_CHECK(piece != NULL);
		memcpy(piece, bytes + at, length);
		cellos_stream_feed(&stream, piece, length);
		status = take_frames(&stream, &walk);
		FUZZ_CHECK(status != CELLOS_STREAM_FRAME);
		free(piece);
		at += length;
	}
	check_end(&stream, &walk, status);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	size_t count = size == 0 ? 0 : data[0] & 15;

	if (size == 0 || count + 1 > size)
		return 0;
	read_in_pieces(data + 1 + count, size - 1 - count, data + 1, count);
	read_in_pieces(data + 1 + count, size - 1 - count, NULL, 0);
	return 0;
}
