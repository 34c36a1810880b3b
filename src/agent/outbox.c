/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Frames on their way into the channel; outbox.h has the picture.
 *
 * Threads: the sender's alone.
 * Invariants: next <= length; the cut event frame, if any, ends at next and is number frame - 1;
 * there is one tail, an event's or a self-report's, for a byte stream is cut in one place.
 * Refuses: to split a frame from its rest by anything else, and to send a self-report twice.
 */
#include "outbox.h"

#include <string.h>

bool outbox_is_empty(const struct outbox *box)
{
	return box->next == box->length && box->cut == 0;
}

bool outbox_is_idle(const struct outbox *box)
{
	return box->next == box->length && box->tail_length == 0;
}

size_t outbox_room(const struct outbox *box)
{
	size_t length = outbox_is_empty(box) ? 0 : box->length;

	return (OUTBOX_BYTES - length) / CELLOS_ENCODED_FRAME_MAX_BYTES;
}

void outbox_add(struct outbox *box, const struct cellos_raw_event *event, uint32_t lane)
{
	struct cellos_probe_event wire;
	size_t length;

	/* A batch that is all written starts at the front again: the cheap case, the only refill.
	 */
	if (outbox_is_empty(box))
		box->length = box->next = box->frame = box->frames = 0;
	cellos_probe_event_from_raw(&wire, event);
	if (cellos_encode_frame(&wire, box->bytes + box->length, OUTBOX_BYTES - box->length,
				&length, NULL) != CELLOS_WIRE_OK) {
		box->counters.left[lane]++;
		return;
	}
	box->length += length;
	box->lane[box->frames++] = (uint8_t)lane;
	box->counters.in_batch[lane]++;
}

void outbox_add_own(struct outbox *box, const struct cellos_probe_event *event)
{
	size_t length;

	/* Cannot fail: the text is ours, and `own` holds every row at its longest. */
	if (cellos_encode_frame(event, box->own + box->own_length,
				sizeof(box->own) - box->own_length, &length,
				NULL) == CELLOS_WIRE_OK)
		box->own_length += length;
}

void outbox_clear_own(struct outbox *box)
{
	box->own_length = 0;
}

int outbox_gather(const struct outbox *box, struct iovec iov[OUTBOX_IOVECS])
{
	const uint8_t *const from[] = {box->tail, box->own, box->bytes + box->next};
	const size_t length[] = {box->tail_length, box->own_length, box->length - box->next};
	int count = 0;

	for (int i = 0; i < OUTBOX_IOVECS; i++) {
		if (length[i] == 0)
			continue;
		/* writev(2) takes a pointer to non-const and does not write through it. */
		iov[count].iov_base = (void *)(uintptr_t)from[i];
		iov[count++].iov_len = length[i];
	}
	return count;
}

static size_t smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

static size_t frame_length(const uint8_t *frame)
{
	return CELLOS_FRAME_PREFIX_BYTES + ((size_t)frame[0] | (size_t)frame[1] << 8);
}

static void sent(struct outbox *box, size_t frame)
{
	uint8_t lane = box->lane[frame];

	box->counters.in_batch[lane]--;
	box->counters.sent[lane]++;
}

/* `bytes` of a frame went out; what is left of it becomes the tail. */
static void cut(struct outbox *box, const uint8_t *frame, size_t bytes)
{
	box->tail_length = frame_length(frame) - bytes;
	memcpy(box->tail, frame + bytes, box->tail_length);
}

static void consume_tail(struct outbox *box, size_t bytes)
{
	box->tail_length -= bytes;
	memmove(box->tail, box->tail + bytes, box->tail_length);
	if (box->tail_length == 0 && box->cut > 0) {
		sent(box, box->frame - 1);
		box->cut = 0;
	}
}

static size_t consume_own(struct outbox *box, size_t bytes)
{
	size_t begun = 0;

	for (size_t at = 0, part; at < bytes; at += part, begun++) {
		part = smaller(bytes - at, frame_length(box->own + at));
		cut(box, box->own + at, part);
	}
	outbox_clear_own(box);
	return begun;
}

static void consume_events(struct outbox *box, size_t bytes)
{
	if (bytes > 0 && bytes == box->length - box->next) { /* all, as nearly always: no walk */
		for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++) {
			box->counters.sent[i] += box->counters.in_batch[i];
			box->counters.in_batch[i] = 0;
		}
		box->next = box->length;
		box->frame = box->frames;
		return;
	}
	while (bytes > 0) {
		const uint8_t *frame = box->bytes + box->next;
		size_t length = frame_length(frame), part = smaller(bytes, length);

		box->next += length;
		box->frame++;
		bytes -= part;
		if (part == length) {
			sent(box, box->frame - 1);
		} else {
			cut(box, frame, part);
			box->cut = length;
		}
	}
}

size_t outbox_consume(struct outbox *box, size_t bytes)
{
	size_t tail = smaller(bytes, box->tail_length);
	size_t own = smaller(bytes - tail, box->own_length);
	size_t begun;

	consume_tail(box, tail);
	begun = consume_own(box, own);
	consume_events(box, bytes - tail - own);
	return begun;
}

void outbox_rewind(struct outbox *box)
{
	if (box->cut > 0)
		box->frame--;
	box->next -= box->cut;
	box->cut = box->tail_length = 0;
}

void outbox_give_up(struct outbox *box)
{
	for (size_t i = box->frame; i < box->frames; i++) {
		box->counters.in_batch[box->lane[i]]--;
		box->counters.left[box->lane[i]]++;
	}
	box->length = box->next;
	box->frames = box->frame;
}
