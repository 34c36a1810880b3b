/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The outbox against a byte stream cut at every place: whatever pieces the channel takes, and
 * wherever a connection breaks, the host's side must read whole frames, each event once, in order,
 * and every heartbeat must name the number of events that stand before it.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "cellos/wire.h"
#include "outbox.h"

/* What a host has read: frames in order, over all connections. */
struct reader {
	struct cellos_stream stream;
	uint8_t bytes[256 * 1024];
	size_t fed;
	uint64_t events;
	uint64_t reports;
	uint32_t next_pid; /* events carry rising pids */
};

static void read_all(struct reader *r, const uint8_t *bytes, size_t length)
{
	struct cellos_probe_event event;
	const uint8_t *frame;
	size_t size;

	/* The stream borrows its piece: keep every byte where it is. */
	memcpy(r->bytes + r->fed, bytes, length);
	cellos_stream_feed(&r->stream, r->bytes + r->fed, length);
	r->fed += length;
	while (cellos_stream_next(&r->stream, &frame, &size) == CELLOS_STREAM_FRAME) {
		struct cellos_self_report report;

		cr_assert_eq(cellos_decode_frame(frame, size, &event, NULL), CELLOS_WIRE_OK);
		if (cellos_self_report_parse(&event, &report) == 0) {
			cr_assert_eq(report.count, r->events,
				     "heartbeat says %lu before it, read %lu",
				     (unsigned long)report.count, (unsigned long)r->events);
			r->reports++;
			continue;
		}
		cr_assert_eq(event.guest_pid, r->next_pid, "order broke at %u", event.guest_pid);
		r->next_pid++;
		r->events++;
	}
}

static void add_events(struct outbox *box, uint32_t first, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		struct cellos_raw_event raw = {.monotonic_ns = i * 1000003u, .pid = first + i};

		raw.source = (uint8_t)(i % CELLOS_SOURCE_EVENT_COUNT);
		raw.comm_len = (uint8_t)(i % 16);
		memset(raw.comm, 'a' + (int)(i % 26), raw.comm_len);
		outbox_add(box, &raw, i % CELLOS_LANE_COUNT);
	}
}

static void add_heartbeat(struct outbox *box, uint64_t sent)
{
	struct cellos_self_report report = {.source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
					    .epoch = 1};
	struct cellos_probe_event event = {.guest_pid = 7};

	report.count = sent + (box->cut > 0 ? 1 : 0);
	cellos_self_report_set(&event, &report);
	outbox_add_own(box, &event);
}

static size_t flatten(const struct outbox *box, uint8_t *out, size_t size)
{
	struct iovec iov[OUTBOX_IOVECS];
	int pieces = outbox_gather(box, iov);
	size_t used = 0;

	for (int i = 0; i < pieces; i++) {
		cr_assert_leq(used + iov[i].iov_len, size);
		memcpy(out + used, iov[i].iov_base, iov[i].iov_len);
		used += iov[i].iov_len;
	}
	return used;
}

static uint64_t total(const uint64_t lanes[CELLOS_LANE_COUNT])
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++)
		sum += lanes[i];
	return sum;
}

/* Writes everything in pieces of `step` bytes, two heartbeats in front of each write. */
static void pump(size_t step)
{
	static struct outbox box;
	static struct reader reader;
	static uint8_t flat[OUTBOX_BYTES + OUTBOX_OWN_BYTES];

	memset(&reader, 0, sizeof(reader));
	memset(&box, 0, sizeof(box));
	add_events(&box, 0, 40);
	while (!outbox_is_idle(&box)) {
		size_t length, piece;

		outbox_clear_own(&box);
		if (reader.reports < 200) {
			add_heartbeat(&box, total(box.counters.sent));
			add_heartbeat(&box, total(box.counters.sent));
		}
		length = flatten(&box, flat, sizeof(flat));
		piece = step < length ? step : length;
		read_all(&reader, flat, piece);
		outbox_consume(&box, piece);
		cr_assert_eq(total(box.counters.sent) + total(box.counters.in_batch), 40);
	}
	cr_assert_eq(total(box.counters.sent), 40);
	cr_assert_eq(reader.events, 40);
	cr_assert_eq(cellos_stream_pending(&reader.stream), 0);
}

Test(outbox, every_piece_size_keeps_frames_whole)
{
	for (size_t step = 1; step < 700; step++)
		pump(step);
}

/* The connection breaks after `cut` bytes: the next one gets the cut event again, whole. */
static void break_at(size_t cut)
{
	static struct outbox box;
	static struct reader first, second;
	static uint8_t flat[OUTBOX_BYTES + OUTBOX_OWN_BYTES];
	uint64_t sent;
	size_t length;

	memset(&first, 0, sizeof(first));
	memset(&second, 0, sizeof(second));
	memset(&box, 0, sizeof(box));
	add_events(&box, 0, 5);
	add_heartbeat(&box, 0);
	length = flatten(&box, flat, sizeof(flat));
	if (cut > length)
		return;
	read_all(&first, flat, cut);
	outbox_consume(&box, cut);
	sent = total(box.counters.sent);
	cr_assert_eq(sent, first.events, "a frame counts as sent exactly when its last byte went");
	outbox_rewind(&box);
	second.next_pid = (uint32_t)sent;
	second.events = sent; /* nothing was lost in flight: everything written was read */
	add_heartbeat(&box, sent);
	length = flatten(&box, flat, sizeof(flat));
	read_all(&second, flat, length);
	cr_assert_eq(outbox_consume(&box, length), 1);
	cr_assert_eq(total(box.counters.sent), 5);
	cr_assert_eq(second.events, 5);
	cr_assert_eq(second.reports, 1);
	cr_assert(outbox_is_idle(&box));
}

Test(outbox, a_break_anywhere_sends_the_cut_event_again_and_no_report_twice)
{
	for (size_t cut = 0; cut < 800; cut++)
		break_at(cut);
}

Test(outbox, giving_up_keeps_only_the_rest_of_a_cut_frame)
{
	static struct outbox box;
	struct iovec iov[OUTBOX_IOVECS];

	add_events(&box, 0, 10);
	outbox_consume(&box, 150); /* the second frame is cut */
	cr_assert_eq(total(box.counters.sent), 1);
	outbox_give_up(&box);
	cr_assert_eq(total(box.counters.left), 8);
	cr_assert_eq(total(box.counters.in_batch), 1);
	cr_assert_eq(outbox_gather(&box, iov), 1);
	outbox_consume(&box, iov[0].iov_len);
	cr_assert_eq(total(box.counters.sent), 2);
	cr_assert(outbox_is_idle(&box));
}

Test(outbox, giving_up_after_a_break_leaves_the_cut_frame_too)
{
	static struct outbox box;

	add_events(&box, 0, 3);
	outbox_consume(&box, 10);
	outbox_give_up(&box);
	cr_assert_eq(total(box.counters.left), 2);
	outbox_rewind(&box);
	outbox_give_up(&box);
	cr_assert_eq(total(box.counters.left), 3);
	cr_assert_eq(total(box.counters.in_batch), 0);
	cr_assert(outbox_is_idle(&box));
}

Test(outbox, a_full_batch_has_no_room_and_all_of_it_goes_out)
{
	static struct outbox box;
	unsigned added = 0;

	while (outbox_room(&box) > 0) {
		add_events(&box, added, 1);
		added++;
	}
	cr_assert_gt(added, 600);
	cr_assert_eq(total(box.counters.in_batch), added);
	outbox_consume(&box, box.length);
	cr_assert_eq(total(box.counters.sent), added);
	outbox_give_up(&box);
	cr_assert_eq(total(box.counters.left), 0, "what was written is not given up");
	cr_assert_gt(outbox_room(&box), 300, "an empty batch starts over at the front");
}

Test(outbox, no_batch_has_more_frames_than_lanes_are_kept_for)
{
	static struct outbox box;
	struct cellos_raw_event shortest = {.source = CELLOS_SOURCE_PROCESS_EXITED};

	while (outbox_room(&box) > 0)
		outbox_add(&box, &shortest, CELLOS_LANE_PROC);
	cr_assert_eq(box.length / box.frames, OUTBOX_SHORTEST_FRAME);
	cr_assert_lt(box.frames, OUTBOX_MAX_FRAMES);
}

Test(outbox, an_event_that_the_encoder_refuses_is_counted_as_left)
{
	static struct outbox box;
	struct cellos_raw_event raw = {.source = CELLOS_SOURCE_COUNT};

	outbox_add(&box, &raw, CELLOS_LANE_CAP);
	cr_assert_eq(box.counters.left[CELLOS_LANE_CAP], 1);
	cr_assert(outbox_is_idle(&box));
}
