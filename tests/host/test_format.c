/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Stamped lines: what stands in them to the byte, how long they can get, and that a guest reaches
 * no stamp. That they are valid by their schemas is tests/formats' business.
 */
#include <criterion/criterion.h>
#include <criterion/parameterized.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "format.h"

#define CELL "cell-1"
#define RUN "run_1"
#define STAMPS                                                                                     \
	",\"cell_id\":\"cell-1\",\"run_id\":\"run_1\",\"spec_signature_hash\":\"sha256:ab\","      \
	"\"output\":{\"a\":[1,2]},\"incarnation\":2"
#define RECEIVED "2026-01-02T03:04:05.000000001Z"

static const struct host_stamp full_stamp = {CELL, RUN, "sha256:ab", "{\"a\":[1,2]}"};
static const struct host_stamp bare_stamp = {CELL, RUN, NULL, NULL};
static const struct host_place place = {
	.incarnation = 2, .epoch = 3, .sequence = 4, .received_ns = UINT64_C(1767323045000000001)};

static struct cellos_probe_event event_of(unsigned source, const char *name, size_t length)
{
	struct cellos_probe_event event = {.probe_source = (uint8_t)source,
					   .content_version = 256,
					   .guest_pid = 7,
					   .guest_monotonic_ns = 1000,
					   .guest_comm_len = (uint8_t)length};

	memcpy(event.guest_comm, name, length);
	return event;
}

/* A line into memory that ends where it ends: what is written beyond it, a sanitizer sees. */
struct memory {
	struct cellos_json_line line;
	char *data;
};

static struct memory memory_of(size_t size)
{
	struct memory memory = {.data = malloc(size)};

	cr_assert_not_null(memory.data);
	cellos_json_init(&memory.line, memory.data, size);
	return memory;
}

/* The line as a string, to be freed. */
static char *event_line(enum host_format format, const struct host_stamp *stamp, bool routed,
			const struct cellos_probe_event *event, const struct host_place *where)
{
	struct host_formatter *formatter = host_formatter_new(format, stamp, routed);
	struct memory memory = memory_of(host_formatter_max_bytes(formatter));
	char *text;

	cr_assert_eq(host_format_event(formatter, &memory.line, event, where), 0);
	text = strndup(memory.data, memory.line.length);
	free(memory.data);
	host_formatter_free(formatter);
	return text;
}

static char *report_line(enum host_format format, const struct host_stamp *stamp, bool routed,
			 const struct host_report *report, const struct host_place *where)
{
	struct host_formatter *formatter = host_formatter_new(format, stamp, routed);
	struct memory memory = memory_of(host_formatter_max_bytes(formatter));
	char *text;

	cr_assert_eq(host_format_report(formatter, &memory.line, report, where), 0);
	text = strndup(memory.data, memory.line.length);
	free(memory.data);
	host_formatter_free(formatter);
	return text;
}

static void check_text(char *text, const char *expected)
{
	cr_assert_str_eq(text, expected, "\n  is %s  not %s", text, expected);
	free(text);
}

#define DECLARATION                                                                                \
	"{\"content_version\":256,\"probe_source\":\"process.spawned\",\"guest_pid\":7,"           \
	"\"guest_comm\":\"sh\",\"guest_monotonic_ns\":1000"

Test(format, raw_event)
{
	struct cellos_probe_event event = event_of(CELLOS_SOURCE_PROCESS_SPAWNED, "sh", 2);

	check_text(event_line(HOST_FORMAT_RAW, &full_stamp, false, &event, &place),
		   DECLARATION STAMPS ",\"epoch\":3,\"seq\":4,\"host_received_at\":\"" RECEIVED
				      "\"}\n");
	check_text(event_line(HOST_FORMAT_RAW, &bare_stamp, true, &event, &place),
		   "cell-1/run_1/2/4 cellos.cell-1.process.spawned " DECLARATION
		   ",\"cell_id\":\"cell-1\",\"run_id\":\"run_1\",\"incarnation\":2,\"epoch\":3,"
		   "\"seq\":4,\"host_received_at\":\"" RECEIVED "\"}\n");
}

Test(format, cloudevent)
{
	struct cellos_probe_event event = event_of(CELLOS_SOURCE_PROCESS_SPAWNED, "sh", 2);

	check_text(event_line(HOST_FORMAT_CLOUDEVENTS, &full_stamp, false, &event, &place),
		   "{\"specversion\":\"1.0\",\"id\":\"cell-1/run_1/2/4\",\"source\":\"/cellos/"
		   "cell-1/run_1\",\"datacontenttype\":\"application/json\",\"dataschema\":\""
		   "urn:cellos:schema:raw-event\",\"type\":\"cell.observability.guest.process."
		   "spawned\",\"subject\":\"pid/7\",\"time\":\"" RECEIVED
		   "\",\"data\":" DECLARATION STAMPS
		   ",\"epoch\":3,\"seq\":4,\"host_received_at\":\"" RECEIVED "\"}}\n");
}

/* OCSF: class, activity and type agree; who is unknown is said to be. */
Test(format, ocsf)
{
	static const struct {
		const char *has[4];
	} wanted[CELLOS_SOURCE_EVENT_COUNT] = {
		[CELLOS_SOURCE_PROCESS_SPAWNED] =
			{{"\"class_uid\":1007,", "\"activity_id\":1,", "\"type_uid\":100701,",
			  "\"actor\":{\"process\":{\"name\":\"Unknown\"}},\"process\":{\"pid\":7,"
			  "\"name\":\"sh\"},\"unmapped\":{"}},
		[CELLOS_SOURCE_PROCESS_EXITED] =
			{{"\"class_uid\":1007,", "\"activity_id\":2,", "\"type_uid\":100702,",
			  "\"actor\":{\"process\":{\"name\":\"Unknown\"}},\"process\":{\"pid\":7,"
			  "\"name\":\"sh\"},\"unmapped\":{"}},
		[CELLOS_SOURCE_CAPABILITY_DENIED] =
			{{"\"class_uid\":1007,", "\"activity_id\":99,", "\"type_uid\":100799,",
			  "\"action_id\":2,\"action\":\"Denied\",\"disposition_id\":26,"}},
		[CELLOS_SOURCE_FS_INOTIFY_FIRED] =
			{{"\"class_uid\":1001,", "\"activity_id\":0,", "\"type_uid\":100100,",
			  "\"actor\":{\"process\":{\"name\":\"Unknown\"}},\"file\":{\"name\":"
			  "\"Unknown\",\"type_id\":0,\"type\":\"Unknown\"},\"unmapped\":{"}},
		[CELLOS_SOURCE_NET_CONNECT_ATTEMPTED] =
			{{"\"class_uid\":4001,", "\"activity_id\":99,", "\"type_uid\":400199,",
			  "\"dst_endpoint\":{\"name\":\"Unknown\",\"type_id\":0,\"type\":"
			  "\"Unknown\"}"}},
	};

	for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++) {
		struct cellos_probe_event event = event_of(source, "sh", 2);
		char *text = event_line(HOST_FORMAT_OCSF, &full_stamp, false, &event, &place);

		for (unsigned i = 0; i < 4; i++)
			cr_assert_not_null(strstr(text, wanted[source].has[i]), "%s lacks %s", text,
					   wanted[source].has[i]);
		cr_assert_not_null(strstr(text, "\"time\":1767323045000,"));
		cr_assert_not_null(strstr(text, "\"uid\":\"cell-1/run_1/2/4\",\"sequence\":4}"));
		free(text);
	}
}

Test(format, a_name_is_text_and_nothing_else)
{
	static const char name[] = "\",\"cell_id\":\"x";
	struct cellos_probe_event event =
		event_of(CELLOS_SOURCE_PROCESS_EXITED, name, sizeof(name) - 1);
	char *text = event_line(HOST_FORMAT_OCSF, &bare_stamp, false, &event, &place);

	cr_assert_null(strstr(text, name));
	cr_assert_not_null(strstr(text, "\\\",\\\"cell_id\\\":\\\"x"));
	free(text);
}

/* ---- reports -------------------------------------------------------------------------------- */

#define TAIL(epoch)                                                                                \
	",\"cell_id\":\"cell-1\",\"run_id\":\"run_1\",\"incarnation\":2,\"epoch\":" epoch          \
	",\"report_seq\":4,\"host_received_at\":\"" RECEIVED "\"}\n"
#define REPORT(name, type) "{\"report\":\"" name "\",\"type\":\"cell.observability.guest." type "\""

static const struct cellos_probe_event bad_report_event = {
	.probe_source = CELLOS_SOURCE_TELEMETRY_DROPPED, .guest_comm = "pq:", .guest_comm_len = 3};
static const struct host_totals totals = {
	.frames = 9,
	.events = 8,
	.epochs = 1,
	.lost_in_flight = 2,
	.lost_in_host = 3,
	.refused = 1,
	.emitted = 4,
	.bytes = 900,
	.silences = 5,
	.bad_reports = 6,
	.contested = 7,
	.bad = {[CELLOS_WIRE_NOT_MAP5] = 1},
	.dropped = {[CELLOS_LANE_PROC] = {[CELLOS_DROP_QUEUE_FULL] = 11},
		    [CELLOS_LANE_NET] = {[CELLOS_DROP_STOPPED] = 12}},
};

Test(format, raw_reports)
{
	static const struct {
		struct host_report report;
		const char *line;
	} rows[] = {
		{{.kind = HOST_REPORT_HEARTBEAT, .epoch = 5, .count = 6},
		 REPORT("heartbeat", "telemetry.heartbeat") ",\"sent\":6" TAIL("5")},
		{{.kind = HOST_REPORT_DROPPED,
		  .lane = CELLOS_LANE_FS,
		  .reason = CELLOS_DROP_KERNEL,
		  .since = 1,
		  .count = 6,
		  .first = 2,
		  .last = 3},
		 REPORT("dropped", "telemetry.dropped") ",\"lane\":\"fs\",\"reason\":\"k\",\"since_"
							"last\":1,\"count\":6,\"first_seq\":2,"
							"\"last_seq\":3" TAIL("3")},
		{{.kind = HOST_REPORT_DROPPED, .since = 6, .count = 6, .baseline = true},
		 REPORT("dropped", "telemetry.dropped") ",\"lane\":\"proc\",\"reason\":\"q\","
							"\"since_last\":6,\"count\":6,\"baseline\":"
							"true" TAIL("3")},
		{{.kind = HOST_REPORT_LOST_IN_FLIGHT, .epoch = 5, .since = 1, .count = 6},
		 REPORT("lost_in_flight",
			"telemetry.lost_in_flight") ",\"since_last\":1,\"count\":6" TAIL("5")},
		{{.kind = HOST_REPORT_LOST_IN_HOST, .since = 1, .count = 6},
		 REPORT("lost_in_host",
			"telemetry.lost_in_host") ",\"since_last\":1,\"count\":6" TAIL("3")},
		{{.kind = HOST_REPORT_BAD_FRAME,
		  .error = CELLOS_WIRE_NOT_MAP5,
		  .since = 1,
		  .count = 6},
		 REPORT("bad_frame", "telemetry.bad_frame") ",\"error\":\"NotMap5\",\"since_last\":"
							    "1,\"count\":6" TAIL("3")},
		{{.kind = HOST_REPORT_BAD_REPORT,
		  .event = &bad_report_event,
		  .since = 1,
		  .count = 6},
		 REPORT("bad_report",
			"telemetry.bad_report") ",\"probe_source\":\"cell.observability.guest."
						"telemetry.dropped\",\"guest_comm\":"
						"\"pq:\",\"since_last\":1,\"count\":6" TAIL("3")},
		{{.kind = HOST_REPORT_GOODBYE, .count = 6},
		 REPORT("goodbye", "telemetry.goodbye") ",\"sent\":6" TAIL("3")},
		{{.kind = HOST_REPORT_ENDED_WITHOUT_GOODBYE, .count = 6},
		 REPORT("ended_without_goodbye",
			"telemetry.ended_without_goodbye") ",\"complete_up_to\":6" TAIL("3")},
		{{.kind = HOST_REPORT_AGENT_RESTARTED},
		 REPORT("agent_restarted", "agent_restarted") TAIL("3")},
		{{.kind = HOST_REPORT_CONTESTED, .since = 1, .count = 6},
		 REPORT("contested",
			"channel_contested") ",\"since_last\":1,\"count\":6" TAIL("3")},
		{{.kind = HOST_REPORT_JOINED, .count = 6},
		 REPORT("joined", "agent_joined") ",\"sent\":6" TAIL("3")},
		{{.kind = HOST_REPORT_SILENCED, .count = 6},
		 REPORT("agent_silenced", "agent_silenced") ",\"silent_ms\":6" TAIL("3")},
		{{.kind = HOST_REPORT_RECOVERED, .count = 6},
		 REPORT("agent_recovered", "agent_recovered") ",\"silent_ms\":6" TAIL("3")},
		{{.kind = HOST_REPORT_REFUSED, .text = "egress: \"x\""},
		 REPORT("declaration_refused",
			"declaration_refused") ",\"violation\":\"egress: \\\"x\\\"\"" TAIL("3")},
		{{.kind = HOST_REPORT_LEDGER, .totals = &totals, .unsettled = -2},
		 REPORT("ledger", "telemetry.ledger") ",\"frames\":9,\"events\":8,\"emitted\":4,"
						      "\"refused\":1,\"lost_in_host\":3,"
						      "\"lost_in_flight\":2,\"epochs\":1,\"bytes\":"
						      "900,\"silences\":5,\"bad_reports\":"
						      "6,\"contested\":7,\"bad\":{\"NotMap5\":1},"
						      "\"dropped\":{\"pq\":11,\"nx\":12},"
						      "\"unsettled\":-2" TAIL("3")},
	};
	unsigned seen = 0;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		check_text(
			report_line(HOST_FORMAT_RAW, &bare_stamp, false, &rows[i].report, &place),
			rows[i].line);
		seen |= 1u << rows[i].report.kind;
	}
	cr_assert_eq(seen, (1u << HOST_REPORT_KIND_COUNT) - 1, "a kind of report is not tried");
}

Test(format, reports_in_their_envelope)
{
	static const struct host_report report = {.kind = HOST_REPORT_JOINED, .count = 6};

	check_text(report_line(HOST_FORMAT_CLOUDEVENTS, &bare_stamp, true, &report, &place),
		   "cell-1/run_1/2/r4 cellos.cell-1.cell.observability.guest.agent_joined "
		   "{\"specversion\":\"1.0\",\"id\":\"cell-1/run_1/2/r4\",\"source\":\"/cellos/"
		   "cell-1/run_1\",\"datacontenttype\":\"application/json\",\"dataschema\":\""
		   "urn:cellos:schema:raw-report\",\"type\":\"cell.observability.guest."
		   "agent_joined\",\"subject\":\"agent/2\",\"time\":\"" RECEIVED
		   "\",\"data\":{\"report\":\"joined\",\"type\":\"cell.observability.guest."
		   "agent_joined\",\"sent\":6,\"cell_id\":\"cell-1\",\"run_id\":\"run_1\","
		   "\"incarnation\":2,\"epoch\":3,\"report_seq\":4,\"host_received_at\":\"" RECEIVED
		   "\"}}\n");
}

/* A text of two-byte characters that the limit would cut in halves. */
Test(format, a_long_text_is_cut_between_characters)
{
	char text[HOST_TEXT_MAX_BYTES + 8], *line, *end;
	struct host_report report = {.kind = HOST_REPORT_REFUSED, .text = text};

	text[0] = 'x';
	for (size_t i = 1; i + 1 < sizeof(text); i += 2)
		memcpy(text + i, "\xc3\xa4", 2);
	text[sizeof(text) - 1] = '\0';
	line = report_line(HOST_FORMAT_RAW, &bare_stamp, false, &report, &place);
	end = strstr(line, "\",\"cell_id\"");
	cr_assert_not_null(end);
	cr_assert_eq(end - strstr(line, "\"x"), 1 + HOST_TEXT_MAX_BYTES - 1);
	cr_assert_eq(memcmp(end - 2, "\xc3\xa4", 2), 0);
	free(line);
}

/* ---- room ----------------------------------------------------------------------------------- */

static const struct host_place last_place = {.incarnation = UINT32_MAX,
					     .epoch = UINT32_MAX,
					     .sequence = UINT64_MAX,
					     .received_ns = UINT64_MAX};

/* Fits exactly into what it takes; with a byte less nothing is added. Its length. */
static size_t fit_event(const struct host_formatter *formatter,
			const struct cellos_probe_event *event)
{
	size_t max = host_formatter_max_bytes(formatter), length;
	struct memory memory = memory_of(max);

	memory.line.length = 0;
	cr_assert_eq(host_format_event(formatter, &memory.line, event, &last_place), 0);
	length = memory.line.length;
	cr_assert_leq(length, max);
	cr_assert_eq(memory.data[length - 1], '\n');
	free(memory.data);
	memory = memory_of(length - 1);
	cr_assert_eq(host_format_event(formatter, &memory.line, event, &last_place), -ENOSPC);
	cr_assert_eq(memory.line.length, 0);
	free(memory.data);
	return length;
}

static size_t fit_report(const struct host_formatter *formatter, const struct host_report *report)
{
	size_t max = host_formatter_max_bytes(formatter), length;
	struct memory memory = memory_of(max);

	cr_assert_eq(host_format_report(formatter, &memory.line, report, &last_place), 0);
	length = memory.line.length;
	free(memory.data);
	memory = memory_of(length);
	cr_assert_eq(host_format_report(formatter, &memory.line, report, &last_place), 0);
	free(memory.data);
	memory = memory_of(length - 1);
	cr_assert_eq(host_format_report(formatter, &memory.line, report, &last_place), -ENOSPC);
	cr_assert_eq(memory.line.length, 0);
	free(memory.data);
	return length;
}

static void check_longest(enum host_format format, const struct host_stamp *stamp, bool routed)
{
	struct host_formatter *formatter = host_formatter_new(format, stamp, routed);
	struct cellos_probe_event event = event_of(0, "", 0);
	char text[4 * HOST_TEXT_MAX_BYTES];
	struct host_totals most;
	struct host_report report = {.epoch = UINT32_MAX,
				     .count = UINT64_MAX,
				     .since = UINT64_MAX,
				     .first = UINT64_MAX,
				     .last = UINT64_MAX,
				     .reason = CELLOS_DROP_STOPPED,
				     .baseline = true,
				     .event = &event,
				     .text = text,
				     .totals = &most,
				     .unsettled = INT64_MIN};
	size_t longest = 0, length;

	memset(&most, 0xff, sizeof(most));
	memset(text, '\x1f', sizeof(text));
	text[sizeof(text) - 1] = '\0';
	event.content_version = UINT16_MAX;
	event.guest_pid = UINT32_MAX;
	event.guest_monotonic_ns = UINT64_MAX;
	event.guest_comm_len = CELLOS_GUEST_COMM_MAX_BYTES;
	memset(event.guest_comm, '\x1f', CELLOS_GUEST_COMM_MAX_BYTES);
	for (unsigned source = 0; source < CELLOS_SOURCE_COUNT; source++) {
		event.probe_source = (uint8_t)source;
		if (source < CELLOS_SOURCE_EVENT_COUNT)
			length = fit_event(formatter, &event);
		report.kind = HOST_REPORT_BAD_REPORT;
		if (source >= CELLOS_SOURCE_EVENT_COUNT)
			length = fit_report(formatter, &report);
		longest = length > longest ? length : longest;
	}
	for (unsigned i = 0; i < HOST_REPORT_KIND_COUNT * CELLOS_WIRE_STATUS_COUNT; i++) {
		report.kind = (enum host_report_kind)(i / CELLOS_WIRE_STATUS_COUNT);
		report.error = (enum cellos_wire_status)(i % CELLOS_WIRE_STATUS_COUNT);
		report.lane = (uint8_t)(i % CELLOS_LANE_COUNT);
		length = fit_report(formatter, &report);
		longest = length > longest ? length : longest;
	}
	cr_assert_eq(longest, host_formatter_max_bytes(formatter), "%zu is promised, %zu is needed",
		     host_formatter_max_bytes(formatter), longest);
	host_formatter_free(formatter);
}

Test(format, the_longest_line_is_as_long_as_promised)
{
	char id[HOST_ID_MAX_BYTES + 1], hash[HOST_HASH_MAX_BYTES + 1];
	char *output = malloc(HOST_ADG_MAX_BYTES + 1);
	struct host_stamp longest = {id, id, hash, output};

	memset(id, 'c', HOST_ID_MAX_BYTES);
	id[HOST_ID_MAX_BYTES] = '\0';
	memset(hash, 'f', HOST_HASH_MAX_BYTES);
	hash[HOST_HASH_MAX_BYTES] = '\0';
	snprintf(output, HOST_ADG_MAX_BYTES + 1, "{\"a\":\"%0*d\"}", HOST_ADG_MAX_BYTES - 8, 0);
	for (unsigned format = HOST_FORMAT_RAW; format <= HOST_FORMAT_OCSF; format++)
		for (unsigned routed = 0; routed < 2; routed++) {
			check_longest((enum host_format)format, &bare_stamp, routed != 0);
			check_longest((enum host_format)format, &longest, routed != 0);
		}
	free(output);
}

Test(format, what_is_no_event_is_refused)
{
	struct cellos_probe_event event = event_of(CELLOS_SOURCE_TELEMETRY_HEARTBEAT, "1:0", 3);
	struct host_formatter *formatter = host_formatter_new(HOST_FORMAT_RAW, &bare_stamp, false);
	struct memory memory = memory_of(host_formatter_max_bytes(formatter));

	cr_assert_eq(host_format_event(formatter, &memory.line, &event, &place), -EINVAL);
	event = event_of(CELLOS_SOURCE_PROCESS_EXITED, "", 0);
	event.guest_comm_len = CELLOS_GUEST_COMM_MAX_BYTES + 1;
	cr_assert_eq(host_format_event(formatter, &memory.line, &event, &place), -EINVAL);
	cr_assert_eq(memory.line.length, 0);
	free(memory.data);
	host_formatter_free(formatter);
}

Test(format, events_and_reports_are_told_apart)
{
	struct cellos_probe_event event = event_of(CELLOS_SOURCE_PROCESS_SPAWNED, "sh", 2);
	char *line;

	for (enum host_format format = HOST_FORMAT_RAW; format <= HOST_FORMAT_OCSF; format++) {
		for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++) {
			event.probe_source = (uint8_t)source;
			for (int routed = 0; routed < 2; routed++) {
				line = event_line(format, &full_stamp, routed, &event, &place);
				cr_assert(host_line_is_event(line), "%s", line);
				free(line);
			}
		}
		for (unsigned kind = 0; kind < HOST_REPORT_KIND_COUNT; kind++) {
			const struct host_report report = {.kind = (enum host_report_kind)kind,
							   .event = &event,
							   .text = "x",
							   .totals = &totals};

			for (int routed = 0; routed < 2; routed++) {
				line = report_line(format, &full_stamp, routed, &report, &place);
				cr_assert_not(host_line_is_event(line), "%s", line);
				free(line);
			}
		}
	}
}

/* ---- time ----------------------------------------------------------------------------------- */

static void check_time(uint64_t ns)
{
	static const struct host_report report = {.kind = HOST_REPORT_AGENT_RESTARTED};
	time_t second = (time_t)(ns / 1000000000);
	struct host_place when = {.received_ns = ns};
	char day[64], expected[128], *line;
	struct tm parts;

	cr_assert_not_null(gmtime_r(&second, &parts));
	strftime(day, sizeof(day), "%Y-%m-%dT%H:%M:%S", &parts);
	snprintf(expected, sizeof(expected), "\"host_received_at\":\"%s.%09uZ\"}\n", day,
		 (unsigned)(ns % 1000000000));
	line = report_line(HOST_FORMAT_RAW, &bare_stamp, false, &report, &when);
	cr_assert_str_eq(strstr(line, "\"host_received_at\""), expected);
	free(line);
}

/* The C library's calendar is the other opinion. */
Test(format, time)
{
	static const uint64_t seconds[] = {0,           951782399, /* 2000-02-28 23:59:59 */
					   951782400,              /* 2000-02-29 */
					   951868800,              /* 2000-03-01 */
					   1709164800,             /* 2024-02-29 */
					   1735689599,             /* 2024-12-31 23:59:59 */
					   4107542400,             /* 2100-03-01: no leap year */
					   13574563200,            /* 2400-02-29 */
					   18446744073};

	for (size_t i = 0; i < sizeof(seconds) / sizeof(seconds[0]); i++)
		check_time(seconds[i] * 1000000000 + i);
	check_time(UINT64_MAX);
	for (uint64_t day = 0; day < 213503; day += 61)
		check_time((day * 86400 + day % 86400) * 1000000000 + 999999999);
}

/* One formatter across seconds, back and forth: the second that it keeps is the line's own. */
Test(format, time_goes_back)
{
	static const struct host_report report = {.kind = HOST_REPORT_AGENT_RESTARTED};
	struct host_formatter *formatter = host_formatter_new(HOST_FORMAT_RAW, &bare_stamp, false);
	struct memory memory = memory_of(4096);
	static const uint64_t seconds[] = {10, 11, 10, 10, 0};
	static const char *const texts[] = {"00:00:10.0", "00:00:11.0", "00:00:10.0", "00:00:10.0",
					    "00:00:00.0"};

	for (size_t i = 0; i < 5; i++) {
		struct host_place when = {.received_ns = seconds[i] * 1000000000};

		memory.line.length = 0;
		cr_assert_eq(host_format_report(formatter, &memory.line, &report, &when), 0);
		memory.data[memory.line.length - 1] = '\0';
		cr_assert_not_null(strstr(memory.data, texts[i]));
	}
	free(memory.data);
	host_formatter_free(formatter);
}
