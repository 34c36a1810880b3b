/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the host makes of a guest's bytes: input, account and reports. The input is a story of
 * steps, each one byte that says what, one that says how long, and as many bytes:
 *
 *	raw bytes as they are, a heartbeat or row or event that carries them as its name (so that
 *	sound frames with odd contents are common), a new connection, a second one, the clock; from
 *	0xf8 on: time goes by, admission, events that are lost here, a kill -9 of the host
 *
 * A heartbeat's, row's or event's first byte is its pid. Frames are cut in two where the pid says.
 */
#include <errno.h>
#include <string.h>

#include "cellos_json_line.h"
#include "fuzz.h"
#include "input.h"
#include "output.h"
#include "state.h"

struct story {
	struct host_account account;
	struct host_input input;
	struct cellos_json_line line;
	uint64_t lost, bad_told[CELLOS_WIRE_STATUS_COUNT];
	uint64_t now_ms, reports, sequence;
	uint32_t incarnation;
};

static const struct host_stamp stamp = {.cell_id = "c", .run_id = "r"};
static struct host_formatter *formatter; /* made once, for the life of the process */

static void begin_input(struct story *story)
{
	host_input_init(&story->input, &story->account, formatter, &story->line,
			HOST_OUTPUT_ROOM_BYTES);
}

static void on_report(void *context, const struct host_report *report)
{
	struct story *story = context;
	size_t before = story->line.length;
	const struct host_place place = {.incarnation = story->account.incarnation,
					 .epoch = story->account.connection.epoch,
					 .sequence = story->account.reports};

	story->reports++;
	FUZZ_CHECK(report->first <= report->last);
	FUZZ_CHECK(report->last <= story->account.sequence);
	FUZZ_CHECK(host_format_report(formatter, &story->line, report, &place) == 0);
	FUZZ_CHECK(story->line.length - before <= host_formatter_max_bytes(formatter));
	FUZZ_CHECK(story->line.data[before] == '{');
	FUZZ_CHECK(memcmp(story->line.data + story->line.length - 2, "}\n", 2) == 0);
	if (report->kind == HOST_REPORT_LOST_IN_FLIGHT)
		story->lost += report->since;
	if (report->kind == HOST_REPORT_BAD_FRAME)
		story->bad_told[report->error] = report->count;
}

static void check(struct story *story)
{
	const struct host_account *account = &story->account;
	const struct host_totals *totals = &account->totals;
	const struct cellos_probe_event *latest = host_input_latest(&story->input);
	uint64_t bad = 0;

	FUZZ_CHECK(latest == NULL || latest->probe_source < CELLOS_SOURCE_EVENT_COUNT);
	for (unsigned i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++)
		bad += i == CELLOS_WIRE_FRAME_TOO_LARGE ? 0 : totals->bad[i];
	FUZZ_CHECK(totals->frames == totals->events + bad);
	FUZZ_CHECK(totals->lost_in_flight == story->lost);
	FUZZ_CHECK(account->reports == story->reports);
	/* An id never comes back. */
	FUZZ_CHECK(account->incarnation > story->incarnation ||
		   (account->incarnation == story->incarnation &&
		    account->sequence >= story->sequence));
	story->incarnation = account->incarnation;
	story->sequence = account->sequence;
}

/* Whatever was taken is handed on, but for `lost`, when so much is there. */
static void settle(struct story *story, uint64_t lost)
{
	const struct host_totals *totals = &story->account.totals;
	uint64_t open = totals->events - totals->emitted - totals->refused - totals->lost_in_host;

	lost = lost < open ? lost : open;
	host_account_handed_on(&story->account, open - lost);
	host_account_lost(&story->account, lost);
	FUZZ_CHECK(host_totals_unsettled(totals) == 0);
}

/* The next process: what is kept goes over, and what was open is lost in the host. */
static void start_again(struct story *story)
{
	const struct host_totals before = story->account.totals;
	struct host_kept kept;

	host_account_keep(&story->account, &kept);
	host_account_init(&story->account, on_report, story);
	host_account_restore(&story->account, &kept);
	FUZZ_CHECK(host_totals_unsettled(&story->account.totals) == 0);
	FUZZ_CHECK(story->account.totals.lost_in_host >= before.lost_in_host);
	story->now_ms = 0;
	host_account_connected(&story->account);
	begin_input(story);
}

static void reconnect(struct story *story)
{
	host_account_disconnected(&story->account);
	FUZZ_CHECK(memcmp(story->bad_told, story->account.totals.bad, sizeof(story->bad_told)) ==
		   0);
	host_account_connected(&story->account);
	begin_input(story);
}

static void feed(struct story *story, const uint8_t *bytes, size_t length)
{
	int status = host_input_feed(&story->input, bytes, length);

	/* A step is far smaller than the room; every event has its line. */
	FUZZ_CHECK(status == 0 || status == -EPROTO);
	FUZZ_CHECK(story->line.length <= HOST_OUTPUT_ROOM_BYTES);
	FUZZ_CHECK((status == -EPROTO) == story->input.stream.lost);
	story->line.length = 0;
	if (status == -EPROTO)
		reconnect(story);
	story->line.length = 0;
}

/* In pieces smaller than a frame, and each time that there is no room until it is made. */
static void feed_in_need(struct story *story, const uint8_t *bytes, size_t length)
{
	size_t capacity = story->line.capacity;
	int status = 0;

	for (size_t at = 0; at < length && status == 0; at += 100) {
		story->line.capacity = HOST_OUTPUT_ROOM_BYTES - 1;
		status = host_input_feed(&story->input, bytes + at,
					 length - at < 100 ? length - at : 100);
		FUZZ_CHECK(status == -ENOBUFS);
		story->line.capacity = capacity;
		status = host_input_resume(&story->input);
		FUZZ_CHECK(status == 0 || status == -EPROTO);
		story->line.length = 0;
	}
	FUZZ_CHECK((status == -EPROTO) == story->input.stream.lost);
	if (status == -EPROTO)
		reconnect(story);
}

static void feed_frame(struct story *story, unsigned source, const uint8_t *bytes, size_t length)
{
	struct cellos_probe_event event = {.probe_source = (uint8_t)source};
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t frame_length, cut;

	if (length > 0) {
		event.guest_pid = bytes[0];
		cellos_guest_comm_set(&event, (const char *)bytes + 1, length - 1);
	}
	FUZZ_CHECK(cellos_encode_frame(&event, frame, sizeof(frame), &frame_length, NULL) ==
		   CELLOS_WIRE_OK);
	cut = event.guest_pid % frame_length;
	feed(story, frame, cut);
	feed(story, frame + cut, frame_length - cut);
}

/* What admission says may hold names from a file: of any length, in any script. */
static void refuse(struct story *story, size_t length)
{
	char text[8 * 256];

	for (size_t i = 0; i < length; i++)
		memcpy(text + 4 * i, "\xf0\x9f\xa6\x8a", 4);
	memcpy(text + 4 * length, "!", 2);
	host_account_refuse_cell(&story->account, text);
}

static void take_host_step(struct story *story, uint8_t what, size_t length)
{
	switch (what) {
	case 0xf8:
		story->now_ms += length * 100;
		host_account_clock(&story->account, story->now_ms);
		FUZZ_CHECK(host_account_silent_at(&story->account) > story->now_ms);
		break;
	case 0xf9:
		story->now_ms += length * 100;
		host_account_excuse(&story->account, story->now_ms);
		break;
	case 0xfa:
		refuse(story, length);
		break;
	case 0xfb:
		host_account_admit_cell(&story->account);
		break;
	case 0xfc:
		settle(story, length);
		break;
	case 0xfd:
		host_account_set_silence(&story->account, length * 50);
		break;
	case 0xfe:
		settle(story, 0);
		host_account_conclude(&story->account);
		break;
	default:
		start_again(story);
		break;
	}
}

static void take_step(struct story *story, uint8_t what, const uint8_t *bytes, size_t length)
{
	if (what >= 0xf8) {
		take_host_step(story, what, length);
		check(story);
		story->line.length = 0;
		return;
	}
	switch (what % 7) {
	case 0:
		feed_in_need(story, bytes, length);
		break;
	case 1:
		feed_frame(story, CELLOS_SOURCE_TELEMETRY_HEARTBEAT, bytes, length);
		break;
	case 2:
		feed_frame(story, CELLOS_SOURCE_TELEMETRY_DROPPED, bytes, length);
		break;
	case 3:
		feed_frame(story, CELLOS_SOURCE_FS_INOTIFY_FIRED, bytes, length);
		break;
	case 4:
		reconnect(story);
		break;
	case 5:
		host_account_contested(&story->account);
		break;
	default:
		host_account_tell(&story->account);
		break;
	}
	check(story);
	story->line.length = 0;
}

/* An event that can go nowhere is lost, and counted so. */
static void feed_without_output(struct story *story)
{
	struct cellos_probe_event event = {.probe_source = CELLOS_SOURCE_PROCESS_EXITED};
	const uint64_t lost = story->account.totals.lost_in_host;
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length;

	reconnect(story); /* no rest of a frame before it */
	host_account_admit_cell(&story->account);
	story->line.length = 0;
	story->input.discard = true;
	FUZZ_CHECK(cellos_encode_frame(&event, frame, sizeof(frame), &length, NULL) ==
		   CELLOS_WIRE_OK);
	FUZZ_CHECK(host_input_feed(&story->input, frame, length) == 0);
	FUZZ_CHECK(story->account.totals.lost_in_host == lost + 1);
	check(story);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char memory[HOST_OUTPUT_BYTES];
	static struct story story;
	size_t at = 0;

	if (formatter == NULL)
		formatter = host_formatter_new(HOST_FORMAT_RAW, &stamp, false);
	FUZZ_CHECK(formatter != NULL);
	memset(&story, 0, sizeof(story));
	cellos_json_init(&story.line, memory, sizeof(memory));
	host_account_init(&story.account, on_report, &story);
	host_account_connected(&story.account);
	begin_input(&story);
	while (size - at >= 2) {
		size_t length = data[at + 1];

		if (length > size - at - 2)
			length = size - at - 2;
		take_step(&story, data[at], data + at + 2, length);
		at += 2 + length;
	}
	feed_without_output(&story);
	reconnect(&story);
	story.line.length = 0;
	check(&story);
	return 0;
}
