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
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "cellos_json_line.h"
#include "fuzz.h"
#include "input.h"
#include "output.h"
#include "report.h"
#include "state.h"

struct story {
	struct host_account account;
	struct host_input input;
	struct cellos_json_line line;
	uint64_t lost, bad_told[CELLOS_WIRE_STATUS_COUNT];
	uint64_t now_ms, reports, sequence;
	uint32_t incarnation;
};

static void on_report(void *context, const struct host_report *report)
{
	struct story *story = context;
	size_t before = story->line.length;

	story->reports++;
	FUZZ_CHECK(report->first <= report->last);
	FUZZ_CHECK(report->last <= story->account.sequence);
	FUZZ_CHECK(host_report_write(&story->line, report) == 0);
	FUZZ_CHECK(story->line.length - before <= HOST_REPORT_MAX_BYTES);
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
	uint64_t bad = 0;

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
	host_input_init(&story->input, &story->account, &story->line);
}

static void reconnect(struct story *story)
{
	host_account_disconnected(&story->account);
	FUZZ_CHECK(memcmp(story->bad_told, story->account.totals.bad, sizeof(story->bad_told)) ==
		   0);
	host_account_connected(&story->account);
	host_input_init(&story->input, &story->account, &story->line);
}

static void feed(struct story *story, const uint8_t *bytes, size_t length)
{
	int status = host_input_feed(&story->input, bytes, length);

	/* The room that is kept for one read is enough for any. */
	FUZZ_CHECK(status == 0 || status == -EPROTO);
	FUZZ_CHECK(story->line.length <= 8 * (length + 4100));
	FUZZ_CHECK((status == -EPROTO) == story->input.stream.lost);
	story->line.length = 0;
	if (status == -EPROTO)
		reconnect(story);
	story->line.length = 0;
}

/* The way of a real connection: through a descriptor, which is empty afterwards. */
static void feed_through_pipe(struct story *story, const uint8_t *bytes, size_t length)
{
	uint8_t buffer[100]; /* smaller than a step can be: several reads */
	ssize_t n;
	int p[2];

	FUZZ_CHECK(pipe2(p, O_NONBLOCK | O_CLOEXEC) == 0);
	FUZZ_CHECK(length == 0 || write(p[1], bytes, length) == (ssize_t)length);
	do
		n = host_input_read(&story->input, p[0], buffer, sizeof(buffer));
	while (n > 0);
	FUZZ_CHECK(n == -EAGAIN || n == -EPROTO);
	FUZZ_CHECK((n == -EPROTO) == story->input.stream.lost);
	if (n == -EPROTO)
		reconnect(story);
	close(p[0]);
	close(p[1]);
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
		host_account_refuse_cell(&story->account, "a rule");
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
		feed_through_pipe(story, bytes, length);
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

/* An event that finds no room is said, and counted all the same. */
static void feed_without_room(struct story *story)
{
	struct cellos_probe_event event = {.probe_source = CELLOS_SOURCE_PROCESS_EXITED};
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length;

	reconnect(story); /* no rest of a frame before it */
	cellos_json_init(&story->line, story->line.data, CELLOS_JSON_EVENT_MAX_BYTES - 1);
	FUZZ_CHECK(cellos_encode_frame(&event, frame, sizeof(frame), &length, NULL) ==
		   CELLOS_WIRE_OK);
	FUZZ_CHECK(host_input_feed(&story->input, frame, length) == -ENOSPC);
	check(story);
	cellos_json_init(&story->line, story->line.data, HOST_OUTPUT_ROOM_BYTES);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char memory[HOST_OUTPUT_ROOM_BYTES];
	static struct story story;
	size_t at = 0;

	memset(&story, 0, sizeof(story));
	cellos_json_init(&story.line, memory, sizeof(memory));
	host_account_init(&story.account, on_report, &story);
	host_account_connected(&story.account);
	host_input_init(&story.input, &story.account, &story.line);
	while (size - at >= 2) {
		size_t length = data[at + 1];

		if (length > size - at - 2)
			length = size - at - 2;
		take_step(&story, data[at], data + at + 2, length);
		at += 2 + length;
	}
	feed_without_room(&story);
	reconnect(&story);
	story.line.length = 0;
	FUZZ_CHECK(host_summary_write(&story.line, &story.account.totals) == 0);
	FUZZ_CHECK(story.line.length <= HOST_SUMMARY_MAX_BYTES);
	check(&story);
	return 0;
}
