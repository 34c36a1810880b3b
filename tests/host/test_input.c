/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From bytes to lines: the same stream in every cut gives the same lines; what a guest can make of
 * one frame fits the room that is kept for it, and the rest waits.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "input.h"
#include "output.h"

static const struct host_stamp stamp = {.cell_id = "c", .run_id = "r"};

struct bench {
	struct host_account account;
	struct host_input input;
	struct host_formatter *formatter;
	struct cellos_json_line line;
	char *memory;
};

static void write_report(void *context, const struct host_report *report)
{
	struct bench *b = context;
	const struct host_place place = {.incarnation = b->account.incarnation,
					 .epoch = b->account.connection.epoch,
					 .sequence = b->account.reports};

	cr_assert_eq(host_format_report(b->formatter, &b->line, report, &place), 0);
}

/* Room for a frame is asked for as the receiver does. */
#define ROOM 32768

static void set_up(struct bench *b, size_t capacity)
{
	memset(b, 0, sizeof(*b));
	b->memory = malloc(capacity);
	b->formatter = host_formatter_new(HOST_FORMAT_RAW, &stamp, false);
	cr_assert(b->memory != NULL && b->formatter != NULL);
	cellos_json_init(&b->line, b->memory, capacity);
	host_account_init(&b->account, write_report, b);
	host_account_connected(&b->account);
	host_input_init(&b->input, &b->account, b->formatter, &b->line, ROOM);
}

static void tear_down(struct bench *b)
{
	host_formatter_free(b->formatter);
	free(b->memory);
}

struct stream {
	uint8_t bytes[2048];
	size_t length;
};

static void add(struct stream *s, const void *bytes, size_t length)
{
	cr_assert_leq(s->length + length, sizeof(s->bytes));
	memcpy(s->bytes + s->length, bytes, length);
	s->length += length;
}

static void add_frame(struct stream *s, unsigned source, uint32_t pid, const char *comm)
{
	struct cellos_probe_event event = {.guest_pid = pid, .probe_source = (uint8_t)source};
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length;

	event.guest_comm_len = (uint8_t)strlen(comm);
	strcpy(event.guest_comm, comm);
	cr_assert_eq(cellos_encode_frame(&event, frame, sizeof(frame), &length, NULL),
		     CELLOS_WIRE_OK);
	add(s, frame, length);
}

#define BEAT CELLOS_SOURCE_TELEMETRY_HEARTBEAT
#define ROW CELLOS_SOURCE_TELEMETRY_DROPPED

static struct stream sample(void)
{
	struct stream s = {.length = 0};

	add_frame(&s, BEAT, 9, "1:0");
	add_frame(&s, CELLOS_SOURCE_PROCESS_SPAWNED, 77, "sh");
	add(&s, "\3\0\0\0abc", 7); /* a whole frame, and no CBOR */
	add(&s, "\0\0\0\0", 4);    /* a body of no bytes */
	add_frame(&s, CELLOS_SOURCE_FS_INOTIFY_FIRED, 9, "\xc3\xa4\"\\\n");
	add_frame(&s, ROW, 9, "fq:3");
	add_frame(&s, BEAT, 9, "0:4");
	return s;
}

#define STAMPS(epoch) ",\"cell_id\":\"c\",\"run_id\":\"r\",\"incarnation\":1,\"epoch\":" epoch
#define AT ",\"host_received_at\":\"1970-01-01T00:00:00.000000000Z\"}\n"
#define EVENT(source, pid, comm, seq)                                                              \
	"{\"content_version\":256,\"probe_source\":\"" source "\",\"guest_pid\":" pid              \
	",\"guest_comm\":\"" comm "\",\"guest_monotonic_ns\":0" STAMPS("1") ",\"seq\":" seq AT
#define REPORT(name, type, members, seq)                                                           \
	"{\"report\":\"" name "\",\"type\":\"cell.observability.guest." type                       \
	"\"" members STAMPS("1") ",\"report_seq\":" seq AT

static const char sample_lines[] = REPORT("heartbeat", "telemetry.heartbeat", ",\"sent\":0",
					  "1") EVENT("process.spawned", "77", "sh", "1")
	EVENT("fs.inotify_fired", "9", "\xc3\xa4\\\"\\\\\\n", "2") REPORT(
		"dropped", "telemetry.dropped",
		",\"lane\":\"fs\",\"reason\":\"q\",\"since_last\":3,\"count\":3,\"first_seq\":0,"
		"\"last_seq\":2",
		"2");

/* The goodbye and what is told at the end follow; account's own tests have their numbers. */
static void expect(struct bench *b, const char *lines, const struct host_totals *totals,
		   const char *what, size_t at)
{
	size_t length = strlen(lines);

	host_account_disconnected(&b->account);
	cr_assert(b->line.length >= length && memcmp(b->memory, lines, length) == 0,
		  "%s %zu:\n%.*s\nnot\n%s", what, at, (int)b->line.length, b->memory, lines);
	cr_assert_eq(memcmp(&b->account.totals, totals, sizeof(*totals)), 0, "%s %zu", what, at);
	tear_down(b);
}

static const struct host_totals sample_totals = {
	.frames = 4,
	.events = 2,
	.epochs = 1,
	.bad = {[CELLOS_WIRE_NOT_MAP5] = 1, [CELLOS_WIRE_UNEXPECTED_EOF] = 1},
	.dropped = {[CELLOS_LANE_FS] = {[CELLOS_DROP_QUEUE_FULL] = 3}}};

Test(input, every_cut_in_two_gives_the_same_lines)
{
	struct stream s = sample();

	for (size_t cut = 0; cut <= s.length; cut++) {
		struct bench b;

		set_up(&b, 1 << 16);
		cr_assert_eq(host_input_feed(&b.input, s.bytes, cut), 0);
		cr_assert_eq(host_input_feed(&b.input, s.bytes + cut, s.length - cut), 0);
		cr_assert_eq(b.input.events, 2);
		expect(&b, sample_lines, &sample_totals, "cut at", cut);
	}
}

Test(input, pieces_of_every_size_give_the_same_lines)
{
	struct stream s = sample();

	for (size_t size = 1; size <= 64; size++) {
		struct bench b;

		set_up(&b, 1 << 16);
		for (size_t at = 0; at < s.length; at += size) {
			size_t left = s.length - at;

			cr_assert_eq(
				host_input_feed(&b.input, s.bytes + at, left < size ? left : size),
				0);
		}
		expect(&b, sample_lines, &sample_totals, "pieces of", size);
	}
}

Test(input, cut_frame_at_the_end_is_neither_event_nor_error)
{
	static const struct host_totals none;
	struct stream s = {.length = 0};
	struct bench b;

	add_frame(&s, CELLOS_SOURCE_PROCESS_SPAWNED, 1, "x");
	for (size_t length = 0; length < s.length; length++) {
		set_up(&b, 1 << 16);
		cr_assert_eq(host_input_feed(&b.input, s.bytes, length), 0);
		expect(&b, "", &none, "length", length);
	}
}

Test(input, lost_framing_is_counted_once_and_nothing_after_it_is_read)
{
	static const uint8_t huge[] = {0x01, 0x10, 0, 0}; /* 4097 */
	struct stream s = sample();
	struct bench b;

	set_up(&b, 1 << 16);
	cr_assert_eq(host_input_feed(&b.input, huge, 3), 0);
	cr_assert_eq(host_input_feed(&b.input, huge + 3, 1), -EPROTO);
	cr_assert_eq(host_input_feed(&b.input, s.bytes, s.length), -EPROTO);
	cr_assert_eq(b.account.totals.bad[CELLOS_WIRE_FRAME_TOO_LARGE], 1);
	cr_assert_eq(b.account.totals.frames, 0);
	tear_down(&b);
}

/* Frames are taken one by one as room is made, and nothing is taken twice or left out. */
Test(input, without_room_the_rest_waits)
{
	struct stream s = sample();
	struct bench b, whole;
	size_t fed = 0;
	int status;

	set_up(&whole, 2 * ROOM);
	cr_assert_eq(host_input_feed(&whole.input, s.bytes, s.length), 0);
	/* Room for one frame's lines at a time: the line is emptied between. */
	set_up(&b, ROOM);
	for (status = host_input_feed(&b.input, s.bytes, s.length); status == -ENOBUFS;
	     status = host_input_resume(&b.input)) {
		cr_assert_gt(b.line.length, 0, "no room although the line is empty");
		cr_assert_eq(memcmp(b.memory, whole.memory + fed, b.line.length), 0);
		fed += b.line.length;
		b.line.length = 0;
	}
	cr_assert_eq(status, 0);
	cr_assert_eq(fed + b.line.length, whole.line.length);
	cr_assert_eq(memcmp(&b.account.totals, &whole.account.totals, sizeof(struct host_totals)),
		     0);
	tear_down(&b);
	tear_down(&whole);
}

/* The fattest that a guest can make of a frame fits the room, whatever stands before it. */
static void fill(unsigned source, const char *const comms[2], const uint32_t pids[2])
{
	struct stream one = {.length = 0};
	struct bench b;

	set_up(&b, ROOM + 1);
	for (unsigned i = 0; i < 2000; i++) {
		one.length = 0;
		add_frame(&one, source, pids[i % 2], comms[i % 2]);
		b.line.length = i % 2; /* write_report asserts that each report fits */
		cr_assert_eq(host_input_feed(&b.input, one.bytes, one.length), 0);
	}
	cr_assert_eq(b.account.totals.lost_in_host, 0, "an event did not fit");
	tear_down(&b);
}

Test(input, one_frame_always_fits_the_room)
{
	const char *const fat[] = {"\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1",
				   "\1\2\3\4\5\6\7\1\2\3\4\5\6\7\1\2"};
	const char *const beats[] = {"1:0", "2:9999999"};
	const char *const rows[] = {"pq:1", "pq:9999999999999"};
	const char *const bad[] = {"", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"};
	const uint32_t same[] = {1, 1}, two[] = {1, 2};

	fill(CELLOS_SOURCE_PROCESS_EXITED, fat, same);
	fill(BEAT, beats, two);
	fill(BEAT, beats, same);
	fill(ROW, rows, two);
	fill(ROW, bad, two);
}

Test(input, without_an_output_events_are_lost_and_counted)
{
	struct stream s = sample();
	struct bench b;

	set_up(&b, 2 * ROOM);
	b.input.discard = true;
	cr_assert_eq(host_input_feed(&b.input, s.bytes, s.length), 0);
	cr_assert_eq(b.account.totals.frames, 4);
	cr_assert_eq(b.account.totals.lost_in_host, 2);
	cr_assert_eq(b.input.events, 0);
	tear_down(&b);
}

Test(input, a_refused_cell_is_counted_and_not_passed_on)
{
	struct stream s = sample();
	struct bench b;

	set_up(&b, 2 * ROOM);
	host_account_refuse_cell(&b.account, "egress_rules[0]");
	cr_assert_eq(host_input_feed(&b.input, s.bytes, s.length), 0);
	cr_assert_eq(b.account.totals.frames, 4);
	cr_assert_eq(b.account.totals.refused, 2);
	cr_assert_eq(b.input.events, 0);
	cr_assert_null(memmem(b.memory, b.line.length, "process.spawned", 15));
	tear_down(&b);
}
