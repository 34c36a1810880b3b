/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Bytes in any cut to frames. One thread at a time per stream; no allocation: what is carried from
 * one piece to the next is less than one frame and lies in the stream itself.
 *
 * Invariant between calls: `carried` bytes of a frame that has not ended lie in carry, and the
 * piece follows them in the byte stream. It only cuts: what a frame holds is the decoder's matter.
 */
#include "cellos/wire.h"

#include <stddef.h>
#include <string.h>

static uint32_t load_le32(const uint8_t *bytes)
{
	return (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 |
	       (uint32_t)bytes[3] << 24;
}

void cellos_stream_init(struct cellos_stream *stream)
{
	/* What stands in carry counts only as far as `carried` says. */
	memset(stream, 0, offsetof(struct cellos_stream, carry));
}

void cellos_stream_feed(struct cellos_stream *stream, const uint8_t *bytes, size_t length)
{
	stream->piece = bytes;
	stream->piece_left = length;
}

size_t cellos_stream_pending(const struct cellos_stream *stream)
{
	return stream->carried;
}

/* Moves bytes from the piece to the carry until `want` lie there. False: the piece ended first. */
static bool carry_up_to(struct cellos_stream *stream, size_t want)
{
	while (stream->carried < want && stream->piece_left > 0) {
		size_t missing = want - stream->carried;
		size_t taken = missing < stream->piece_left ? missing : stream->piece_left;

		memcpy(stream->carry + stream->carried, stream->piece, taken);
		stream->carried += taken;
		stream->piece += taken;
		stream->piece_left -= taken;
	}
	return stream->carried >= want;
}

enum cellos_stream_status cellos_stream_next(struct cellos_stream *stream, const uint8_t **frame,
					     size_t *length)
{
	uint32_t body;

	if (stream->lost)
		return CELLOS_STREAM_LOST;
	if (stream->carried == 0 && stream->piece_left >= CELLOS_FRAME_PREFIX_BYTES) {
		body = load_le32(stream->piece);
		if (body <= CELLOS_MAX_FRAME_BODY_BYTES &&
		    body <= stream->piece_left - CELLOS_FRAME_PREFIX_BYTES) {
			*frame = stream->piece;
			*length = CELLOS_FRAME_PREFIX_BYTES + (size_t)body;
			stream->piece += *length;
			stream->piece_left -= *length;
			return CELLOS_STREAM_FRAME;
		}
	}
	/* An earlier piece began the frame, or this one cuts it, or the framing ends here. */
	if (!carry_up_to(stream, CELLOS_FRAME_PREFIX_BYTES))
		return CELLOS_STREAM_MORE;
	body = load_le32(stream->carry);
	if (body > CELLOS_MAX_FRAME_BODY_BYTES) {
		/* No byte behind it can be told to begin a frame. */
		stream->lost = true;
		stream->lost_length = body;
		stream->carried = 0;
		stream->piece_left = 0;
		return CELLOS_STREAM_LOST;
	}
	if (!carry_up_to(stream, CELLOS_FRAME_PREFIX_BYTES + (size_t)body))
		return CELLOS_STREAM_MORE;
	*frame = stream->carry;
	*length = stream->carried;
	stream->carried = 0; /* the bytes stay until the next call */
	return CELLOS_STREAM_FRAME;
}
