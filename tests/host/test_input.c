/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From bytes to lines: the same stream in every cut gives the same lines; what a guest can make of
 * one read fits the room that is kept for it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "input.h"
#include "output.h"
#include "report.h"

static void write_report(void *context, const struct host_report *report)
{
	cr_assert_eq(host_report_write(context, report), 0);
}

struct bench {
	struct host_account account;
	struct host_input input;
	struct cellos_json_line line;
	char *memory;
};

static void set_up(struct bench *b, size_t capacity)
{
	b->memory = malloc(capacity);
	cr_assert_not_null(b->memory);
	cellos_json_init(&b->line, b->memory, capacity);
	host_account_init(&b->account, write_report, &b->line);
	host_account_connected(&b->account);
	host_input_init(&b->input, &b->account, &b->line);
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

static const char sample_lines[] =
	"{\"report\":\"heartbeat\",\"epoch\":1,\"sent\":0}\n"
	"{\"content_version\":256,\"probe_source\":\"process.spawned\",\"guest_pid\":77,"
	"\"guest_comm\":\"sh\",\"guest_monotonic_ns\":0}\n"
	"{\"content_version\":256,\"probe_source\":\"fs.inotify_fired\",\"guest_pid\":9,"
	"\"guest_comm\":\"\xc3\xa4\\\"\\\\\\n\",\"guest_monotonic_ns\":0}\n"
	"{\"report\":\"dropped\",\"lane\":\"fs\",\"reason\":\"q\",\"count\":3}\n"
	"{\"report\":\"goodbye\",\"sent\":4}\n"
	"{\"report\":\"bad_frame\",\"error\":\"UnexpectedEof\",\"count\":1}\n"
	"{\"report\":\"bad_frame\",\"error\":\"NotMap5\",\"count\":1}\n"
	"{\"report\":\"summary\",\"frames\":4,\"events\":2,\"epochs\":1,\"lost_in_flight\":0,"
	"\"bad\":{\"UnexpectedEof\":1,\"NotMap5\":1},\"bad_reports\":0,\"contested\":0,"
	"\"dropped\":{\"fq\":3}}\n";

static void expect(struct bench *b, const char *lines, const char *what, size_t at)
{
	host_account_disconnected(&b->account);
	cr_assert_eq(host_summary_write(&b->line, &b->account.totals), 0);
	cr_assert(b->line.length == strlen(lines) && memcmp(b->memory, lines, b->line.length) == 0,
		  "%s %zu:\n%.*s\nnot\n%s", what, at, (int)b->line.length, b->memory, lines);
	free(b->memory);
}

Test(input, every_cut_in_two_gives_the_same_lines)
{
	struct stream s = sample();

	for (size_t cut = 0; cut <= s.length; cut++) {
		struct bench b;

		set_up(&b, 1 << 16);
		cr_assert_eq(host_input_feed(&b.input, s.bytes, cut), 0);
		cr_assert_eq(host_input_feed(&b.input, s.bytes + cut, s.length - cut), 0);
		expect(&b, sample_lines, "cut at", cut);
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
		expect(&b, sample_lines, "pieces of", size);
	}
}

Test(input, cut_frame_at_the_end_is_neither_event_nor_error)
{
	struct stream s = {.length = 0};
	struct bench b;

	add_frame(&s, CELLOS_SOURCE_PROCESS_SPAWNED, 1, "x");
	for (size_t length = 0; length < s.length; length++) {
		set_up(&b, 1 << 16);
		cr_assert_eq(host_input_feed(&b.input, s.bytes, length), 0);
		expect(&b,
		       "{\"report\":\"summary\",\"frames\":0,\"events\":0,\"epochs\":0,"
		       "\"lost_in_flight\":0,\"bad\":{},\"bad_reports\":0,\"contested\":0,"
		       "\"dropped\":{}}\n",
		       "length", length);
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
	free(b.memory);
}

/* The fattest that a guest can make of one read must fit the room that is kept for it. */
static void fill_a_read(unsigned source, const char *const comms[2], const uint32_t pids[2])
{
	static uint8_t bytes[HOST_READ_BYTES + CELLOS_ENCODED_FRAME_MAX_BYTES];
	struct stream one = {.length = 0};
	size_t length = 0;
	struct bench b;

	set_up(&b, HOST_OUTPUT_ROOM_BYTES);
	for (unsigned i = 0; length < HOST_READ_BYTES; i++) {
		one.length = 0;
		add_frame(&one, source, pids[i % 2], comms[i % 2]);
		if (length + one.length > sizeof(bytes))
			break;
		memcpy(bytes + length, one.bytes, one.length);
		length += one.length;
	}
	/* write_report asserts that each report fits; a short event would say -ENOSPC */
	cr_assert_eq(host_input_feed(&b.input, bytes, length), 0);
	host_account_disconnected(&b.account);
	cr_assert_eq(host_summary_write(&b.line, &b.account.totals), 0);
	free(b.memory);
}

Test(input, one_read_always_fits_the_output)
{
	const char *const fat[] = {"\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1",
				   "\1\2\3\4\5\6\7\1\2\3\4\5\6\7\1\2"};
	const char *const beats[] = {"1:0", "2:9999999"};
	const char *const rows[] = {"pq:1", "pq:9999999999999"};
	const char *const bad[] = {"", "\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1\1"};
	const uint32_t same[] = {1, 1}, two[] = {1, 2};

	fill_a_read(CELLOS_SOURCE_PROCESS_EXITED, fat, same);
	fill_a_read(BEAT, beats, two);
	fill_a_read(BEAT, beats, same);
	fill_a_read(ROW, rows, two);
	fill_a_read(ROW, bad, two);
}

Test(input, line_without_room_is_said_and_the_account_goes_on)
{
	struct stream s = sample();
	struct bench b;

	set_up(&b, 600); /* reports, and no event */
	cr_assert_eq(host_input_feed(&b.input, s.bytes, s.length), -ENOSPC);
	cr_assert_eq(b.account.totals.frames, 4);
	free(b.memory);
}

Test(input, reads_from_a_descriptor)
{
	struct stream s = sample();
	uint8_t buffer[100];
	size_t sum = 0;
	struct bench b;
	ssize_t n;
	int p[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, p), 0);
	set_up(&b, 1 << 16);
	cr_assert_eq(host_input_read(&b.input, p[0], buffer, sizeof(buffer)), -EAGAIN);
	cr_assert_eq(write(p[1], s.bytes, s.length), (ssize_t)s.length);
	while ((n = host_input_read(&b.input, p[0], buffer, sizeof(buffer))) > 0)
		sum += (size_t)n;
	cr_assert_eq(n, -EAGAIN);
	cr_assert_eq(sum, s.length);
	cr_assert_eq(write(p[1], "\xff\xff\xff\xff", 4), 4);
	cr_assert_eq(host_input_read(&b.input, p[0], buffer, sizeof(buffer)), -EPROTO);
	close(p[1]);
	cr_assert_eq(host_input_read(&b.input, p[0], buffer, sizeof(buffer)), 0);
	close(p[0]);
	free(b.memory);
}

/* ---- reports -------------------------------------------------------------------------------- */

Test(report, every_kind)
{
	static const struct cellos_probe_event bad = {
		.probe_source = ROW, .guest_comm_len = 3, .guest_comm = "p\"q"};
	static const struct {
		struct host_report report;
		const char *line;
	} table[] = {
		{{.kind = HOST_REPORT_HEARTBEAT, .epoch = 1, .count = 12},
		 "{\"report\":\"heartbeat\",\"epoch\":1,\"sent\":12}\n"},
		{{.kind = HOST_REPORT_DROPPED, .count = 12},
		 "{\"report\":\"dropped\",\"lane\":\"proc\",\"reason\":\"q\",\"count\":12}\n"},
		{{.kind = HOST_REPORT_DROPPED,
		  .lane = 3,
		  .reason = 4,
		  .count = 1,
		  .baseline = true},
		 "{\"report\":\"dropped\",\"lane\":\"net\",\"reason\":\"x\",\"count\":1,"
		 "\"baseline\":true}\n"},
		{{.kind = HOST_REPORT_LOST_IN_FLIGHT, .epoch = 2, .since = 7, .count = 9},
		 "{\"report\":\"lost_in_flight\",\"epoch\":2,\"count\":7}\n"},
		{{.kind = HOST_REPORT_BAD_FRAME, .error = CELLOS_WIRE_NOT_MAP5, .count = 3},
		 "{\"report\":\"bad_frame\",\"error\":\"NotMap5\",\"count\":3}\n"},
		{{.kind = HOST_REPORT_BAD_REPORT, .count = 2, .event = &bad},
		 "{\"report\":\"bad_report\",\"probe_source\":"
		 "\"cell.observability.guest.telemetry.dropped\",\"guest_comm\":\"p\\\"q\","
		 "\"count\":2}\n"},
		{{.kind = HOST_REPORT_GOODBYE, .count = UINT64_MAX},
		 "{\"report\":\"goodbye\",\"sent\":18446744073709551615}\n"},
		{{.kind = HOST_REPORT_ENDED_WITHOUT_GOODBYE, .count = 12},
		 "{\"report\":\"ended_without_goodbye\",\"complete_up_to\":12}\n"},
		{{.kind = HOST_REPORT_AGENT_RESTARTED}, "{\"report\":\"agent_restarted\"}\n"},
		{{.kind = HOST_REPORT_CONTESTED, .count = 1},
		 "{\"report\":\"contested\",\"count\":1}\n"},
		{{.kind = HOST_REPORT_JOINED, .count = 5}, "{\"report\":\"joined\",\"sent\":5}\n"},
		{{.kind = HOST_REPORT_LOST_IN_HOST, .count = 5},
		 "{\"report\":\"lost_in_host\",\"count\":5}\n"},
		{{.kind = HOST_REPORT_SILENCED, .count = 5},
		 "{\"report\":\"silenced\",\"count\":5}\n"},
		{{.kind = HOST_REPORT_RECOVERED, .count = 5},
		 "{\"report\":\"recovered\",\"count\":5}\n"},
		{{.kind = HOST_REPORT_REFUSED}, "{\"report\":\"refused\"}\n"},
		{{.kind = HOST_REPORT_LEDGER}, "{\"report\":\"ledger\"}\n"},
	};
	bool seen[HOST_REPORT_KIND_COUNT] = {false};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char memory[HOST_REPORT_MAX_BYTES];
		struct cellos_json_line line;

		cellos_json_init(&line, memory, sizeof(memory));
		cr_assert_eq(host_report_write(&line, &table[i].report), 0);
		cr_assert_eq(line.length, strlen(table[i].line));
		cr_assert_eq(memcmp(memory, table[i].line, line.length), 0, "%.*s not %s",
			     (int)line.length, memory, table[i].line);
		seen[table[i].report.kind] = true;
	}
	for (unsigned kind = 0; kind < HOST_REPORT_KIND_COUNT; kind++)
		cr_assert(seen[kind], "kind %u is not in the table", kind);
}

Test(report, the_longest_fit_what_the_header_says)
{
	char memory[HOST_SUMMARY_MAX_BYTES];
	struct cellos_json_line line;
	struct host_totals totals;
	struct cellos_probe_event event = {.probe_source = ROW, .guest_comm_len = 64};
	struct host_report report = {
		.kind = HOST_REPORT_BAD_REPORT, .count = UINT64_MAX, .event = &event};

	memset(&totals, 0xff, sizeof(totals));
	cellos_json_init(&line, memory, HOST_SUMMARY_MAX_BYTES);
	cr_assert_eq(host_summary_write(&line, &totals), 0);
	memset(event.guest_comm, 1, 64);
	cellos_json_init(&line, memory, HOST_REPORT_MAX_BYTES);
	cr_assert_eq(host_report_write(&line, &report), 0);
	cellos_json_init(&line, memory, 10);
	cr_assert_eq(host_report_write(&line, &report), -ENOSPC);
	cr_assert_eq(line.length, 0);
}
