/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The stream reader: whatever the cut, the same frames come out. Pieces lie flush against memory
 * that nobody may touch, so that a read beyond a piece shows.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

/* Frames of many lengths: empty bodies, short ones, the longest; what they hold does not matter. */
static const uint32_t bodies[] = {0, 1, 0, 98, 3, 4096, 4, 5, 0, 200, 4095, 7};
#define FRAMES (sizeof(bodies) / sizeof(bodies[0]))

static uint8_t *make_stream(size_t *length)
{
	uint8_t *stream, *at;

	*length = 0;
	for (size_t i = 0; i < FRAMES; i++)
		*length += 4 + bodies[i];
	at = stream = malloc(*length);
	for (size_t i = 0; i < FRAMES; i++) {
		for (int b = 0; b < 4; b++)
			*at++ = (uint8_t)(bodies[i] >> (8 * b));
		for (uint32_t b = 0; b < bodies[i]; b++)
			*at++ = (uint8_t)(b * 7 + i);
	}
	return stream;
}

struct reading {
	struct cellos_stream stream;
	const uint8_t *all; /* what was fed so far is its beginning */
	size_t at;          /* where the next frame must begin */
	size_t frames;
	bool in_place; /* the last frame came out of the piece itself */
};

/* Feeds one piece and checks each frame that comes out of it. */
static void feed(struct reading *reading, const uint8_t *piece, size_t length)
{
	enum cellos_stream_status status;
	const uint8_t *frame = NULL;
	size_t frame_length = 0;

	cellos_stream_feed(&reading->stream, piece, length);
	while ((status = cellos_stream_next(&reading->stream, &frame, &frame_length)) ==
	       CELLOS_STREAM_FRAME) {
		cr_assert_lt(reading->frames, FRAMES);
		cr_assert_eq(frame_length, 4 + bodies[reading->frames]);
		cr_assert_eq(memcmp(frame, reading->all + reading->at, frame_length), 0);
		reading->at += frame_length;
		reading->frames++;
		reading->in_place = frame >= piece && frame < piece + length;
	}
	cr_assert_eq(status, CELLOS_STREAM_MORE);
}

Test(stream, whole)
{
	size_t length;
	uint8_t *bytes = make_stream(&length);
	struct reading reading = {.all = bytes};

	feed(&reading, bytes, length);
	cr_assert_eq(reading.frames, FRAMES);
	cr_assert_eq(cellos_stream_pending(&reading.stream), 0);
	cr_assert(reading.in_place, "a whole frame was copied");
	free(bytes);
}

/* Every place for one cut, and what is pending then. */
Test(stream, every_cut)
{
	size_t length;
	uint8_t *bytes = make_stream(&length);
	struct fenced first = fenced_new(), second = fenced_new();

	for (size_t cut = 0; cut <= length; cut++) {
		struct reading reading = {.all = bytes};
		size_t head = cut < FENCED_BYTES ? cut : FENCED_BYTES;
		size_t tail = length - cut < FENCED_BYTES ? length - cut : FENCED_BYTES;

		if (cut > head)
			feed(&reading, bytes, cut - head);
		feed(&reading, fenced_at_end(&first, bytes + cut - head, head), head);
		cr_assert_eq(cellos_stream_pending(&reading.stream), cut - reading.at);
		feed(&reading, fenced_at_end(&second, bytes + cut, tail), tail);
		if (length - cut > tail)
			feed(&reading, bytes + cut + tail, length - cut - tail);
		cr_assert_eq(reading.frames, FRAMES, "cut at %zu", cut);
		cr_assert_eq(cellos_stream_pending(&reading.stream), 0);
	}
	free(bytes);
}

Test(stream, pieces_of_every_size)
{
	struct fenced fenced = fenced_new();
	size_t length;
	uint8_t *bytes = make_stream(&length);

	for (size_t size = 1; size <= 4200; size += size < 300 ? 1 : 97) {
		struct reading reading = {.all = bytes};

		for (size_t at = 0; at < length; at += size) {
			size_t piece = length - at < size ? length - at : size;

			feed(&reading, fenced_at_end(&fenced, bytes + at, piece), piece);
			feed(&reading, NULL, 0); /* an empty piece changes nothing */
		}
		cr_assert_eq(reading.frames, FRAMES, "pieces of %zu", size);
	}
	free(bytes);
}

/* A prefix over the limit, itself cut in every way: lost, and lost it stays. */
Test(stream, lost)
{
	static const uint8_t bytes[] = {1,    0,    0, 0, 0xaa, /* a frame before it */
					0x01, 0x10, 0, 0, 1,    0, 0, 0, 0xbb};

	for (size_t cut = 0; cut <= sizeof(bytes); cut++) {
		struct cellos_stream stream;
		const uint8_t *frame;
		size_t length, frames = 0;
		enum cellos_stream_status status;

		memset(&stream, 0x5a, sizeof(stream));
		cellos_stream_init(&stream);
		cellos_stream_feed(&stream, bytes, cut);
		while ((status = cellos_stream_next(&stream, &frame, &length)) ==
		       CELLOS_STREAM_FRAME)
			frames++;
		cr_assert_eq(status, cut >= 9 ? CELLOS_STREAM_LOST : CELLOS_STREAM_MORE);
		cellos_stream_feed(&stream, bytes + cut, sizeof(bytes) - cut);
		while ((status = cellos_stream_next(&stream, &frame, &length)) ==
		       CELLOS_STREAM_FRAME)
			frames++;
		cr_assert_eq(status, CELLOS_STREAM_LOST);
		cr_assert_eq(frames, 1);
		cr_assert_eq(stream.lost_length, 4097);
		cr_assert_eq(cellos_stream_pending(&stream), 0);
		cellos_stream_feed(&stream, bytes, 5);
		cr_assert_eq(cellos_stream_next(&stream, &frame, &length), CELLOS_STREAM_LOST);
	}
}

/* Vectors end to end through the reader, one byte at a time, decoded as they come out. */
Test(stream, bad_frames_do_not_end_it)
{
	struct cellos_stream stream = {0};
	size_t seen = 0, wanted = 0;

	for (size_t i = 0; i < vector_count; i++) {
		const struct vector *vector = &vectors[i];
		const uint8_t *frame;
		size_t length;

		if (vector->frame_length < 4 || strcmp(vector->error, "FrameTruncated") == 0 ||
		    strcmp(vector->error, "FrameTooLarge") == 0 ||
		    strcmp(vector->name, "trailing_after_frame") == 0)
			continue;
		wanted++;
		for (size_t at = 0; at < vector->frame_length; at++) {
			struct cellos_probe_event event;
			enum cellos_wire_status status;

			cellos_stream_feed(&stream, (const uint8_t *)vector->frame + at, 1);
			if (cellos_stream_next(&stream, &frame, &length) != CELLOS_STREAM_FRAME)
				continue;
			seen++;
			cr_assert_eq(at + 1, vector->frame_length);
			status = cellos_decode_frame(frame, length, &event, NULL);
			cr_assert_str_eq(cellos_wire_status_name(status), vector->error);
			cr_assert_eq(cellos_stream_next(&stream, &frame, &length),
				     CELLOS_STREAM_MORE);
		}
	}
	cr_assert_eq(seen, wanted);
	cr_assert_geq(wanted, 250);
}
