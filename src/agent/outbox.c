/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Frames on their way into the channel; outbox.h has the picture.
 *
 * Threads: the sender's alone.
 * Invariants: head <= written <= boundary <= length; written == boundary or head < written <
 * boundary; never both an own tail and a cut event frame, for a byte stream is cut in one place.
 * Refuses: to split a frame from its rest by anything else, and to send a self-report twice.
 */
#include "outbox.h"

#include <string.h>

void outbox_init(struct outbox *box)
{
	memset(box, 0, sizeof(*box));
}

bool outbox_is_empty(const struct outbox *box)
{
	return box->written == box->length;
}

bool outbox_is_idle(const struct outbox *box)
{
	return outbox_is_empty(box) && box->own_tail_length == 0;
}

size_t outbox_room(const struct outbox *box)
{
	size_t length = outbox_is_empty(box) ? 0 : box->length;
	size_t frames = outbox_is_empty(box) ? 0 : box->frames;
	size_t by_bytes = (OUTBOX_BYTES - length) / CELLOS_ENCODED_FRAME_MAX_BYTES;
	size_t by_count = OUTBOX_MAX_FRAMES - frames;

	return by_bytes < by_count ? by_bytes : by_count;
}

size_t outbox_in_batch(const struct outbox *box)
{
	size_t total = 0;

	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++)
		total += box->pending[i];
	return total;
}

bool outbox_event_is_cut(const struct outbox *box)
{
	return box->written != box->boundary;
}

/* A batch that is all written starts at the front again: the cheap case, and the only refill. */
static void start_over(struct outbox *box)
{
	box->length = box->written = box->head = box->boundary = 0;
	box->frame = box->frames = 0;
}

bool outbox_add(struct outbox *box, const struct cellos_raw_event *event, uint32_t lane)
{
	struct cellos_probe_event wire;
	size_t length;

	if (box->length != 0 && box->written == box->length)
		start_over(box);
	cellos_probe_event_from_raw(&wire, event);
	if (cellos_encode_frame(&wire, box->bytes + box->length, OUTBOX_BYTES - box->length,
				&length, NULL) != CELLOS_WIRE_OK)
		return false;
	box->length += length;
	box->lane[box->frames++] = (uint8_t)lane;
	box->pending[lane]++;
	return true;
}

void outbox_add_own(struct outbox *box, const struct cellos_probe_event *event)
{
	size_t length;

	/* Cannot fail: the text is ours, and `own` holds every row at its longest. */
	if (box->own_count == OUTBOX_MAX_OWN ||
	    cellos_encode_frame(event, box->own + box->own_length,
				sizeof(box->own) - box->own_length, &length,
				NULL) != CELLOS_WIRE_OK)
		return;
	box->own_length += length;
	box->own_end[box->own_count++] = (uint32_t)box->own_length;
}

void outbox_clear_own(struct outbox *box)
{
	box->own_length = 0;
	box->own_count = 0;
}

static int put(struct iovec *iov, int count, const uint8_t *bytes, size_t length)
{
	if (length == 0)
		return count;
	/* writev(2) takes a pointer to non-const and does not write through it. */
	iov[count].iov_base = (void *)(uintptr_t)bytes;
	iov[count].iov_len = length;
	return count + 1;
}

int outbox_gather(const struct outbox *box, struct iovec iov[OUTBOX_IOVECS])
{
	int count = 0;

	count = put(iov, count, box->own_tail, box->own_tail_length);
	count = put(iov, count, box->bytes + box->written, box->boundary - box->written);
	count = put(iov, count, box->own, box->own_length);
	return put(iov, count, box->bytes + box->boundary, box->length - box->boundary);
}

static size_t frame_length(const struct outbox *box, size_t at)
{
	const uint8_t *prefix = box->bytes + at;

	return CELLOS_FRAME_PREFIX_BYTES + ((size_t)prefix[0] | (size_t)prefix[1] << 8);
}

/* `written` has moved: count the frames that are whole now, and find the cut, if any. */
static void settle(struct outbox *box, struct outbox_taken *taken)
{
	if (box->written == box->length) {
		for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++) {
			taken->sent[i] += box->pending[i];
			box->pending[i] = 0;
		}
		start_over(box);
		return;
	}
	while (box->head < box->written) {
		size_t end = box->head + frame_length(box, box->head);
		uint8_t lane = box->lane[box->frame];

		if (end > box->written) {
			box->boundary = end;
			return;
		}
		box->head = end;
		box->frame++;
		box->pending[lane]--;
		taken->sent[lane]++;
	}
	box->boundary = box->written;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Takes `bytes` off the self-reports; the rest of a cut one becomes the tail. */
static void consume_own(struct outbox *box, size_t bytes, struct outbox_taken *taken)
{
	size_t begun = 0;

	while (begun < box->own_count && (begun == 0 ? 0 : box->own_end[begun - 1]) < bytes)
		begun++;
	if (begun > 0) {
		box->own_tail_length = box->own_end[begun - 1] - bytes;
		memcpy(box->own_tail, box->own + bytes, box->own_tail_length);
	}
	taken->own = begun;
	outbox_clear_own(box);
}

void outbox_consume(struct outbox *box, size_t bytes, struct outbox_taken *taken)
{
	size_t part = smaller(bytes, box->own_tail_length);

	memset(taken, 0, sizeof(*taken));
	box->own_tail_length -= part;
	memmove(box->own_tail, box->own_tail + part, box->own_tail_length);
	bytes -= part;

	part = smaller(bytes, box->boundary - box->written);
	box->written += part;
	bytes -= part;

	part = smaller(bytes, box->own_length);
	consume_own(box, part, taken);
	bytes -= part;

	box->written += bytes;
	settle(box, taken);
}

void outbox_rewind(struct outbox *box)
{
	box->own_tail_length = 0;
	outbox_clear_own(box);
	box->written = box->head;
	box->boundary = box->head;
}

void outbox_give_up(struct outbox *box, uint64_t lost[CELLOS_LANE_COUNT])
{
	bool cut = outbox_event_is_cut(box);
	uint8_t cut_lane = box->lane[box->frame];

	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++) {
		uint32_t kept = cut && cut_lane == i ? 1 : 0;

		lost[i] += box->pending[i] - kept;
		box->pending[i] = kept;
	}
	box->length = box->boundary;
	box->frames = box->frame + (cut ? 1 : 0);
	if (box->written == box->length)
		start_over(box);
}
