/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * lines FORMAT [bare]: every kind of line that the host can write, to standard output: each event
 * with each name that is awkward somewhere, each report with each lane, reason and error, all of
 * them with small numbers and with the largest. `bare`: without hash and output.
 *
 * FORMAT: raw, cloudevents or ocsf.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "format.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))
#define NAME(text)                                                                                 \
	{                                                                                          \
		text, sizeof(text) - 1                                                             \
	}

/* All are valid UTF-8 of at most 16 characters, as the decoder hands them out. */
static const struct {
	const char *text;
	size_t length;
} names[] = {
	NAME("sh"),
	NAME(""),
	NAME("a\0b"),
	NAME("\"},\"cell_id\":\"x"),
	NAME("back\\slash\\"),
	NAME("</script><b>"),
	NAME("tab\tline\nfeed\r"),
	NAME("\x01\x02\x1f\x7f"),
	NAME("\xc2\x80\xe2\x80\xa8\xe2\x80\xa9"), /* U+0080 U+2028 U+2029 */
	NAME("\xef\xbf\xbd\xef\xbf\xbe\xef\xbf\xbf"),
	NAME("\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80"
	     "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80"
	     "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80"
	     "\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80"),
};

struct writer {
	struct host_formatter *formatter;
	struct cellos_json_line line;
	struct host_place place;
};

static void write_out(struct writer *writer, int status)
{
	if (status < 0 ||
	    fwrite(writer->line.data, 1, writer->line.length, stdout) != writer->line.length) {
		fprintf(stderr, "lines: cannot write a line: %s\n", strerror(-status));
		exit(1);
	}
	writer->line.length = 0;
	writer->place.sequence += writer->place.sequence < UINT64_MAX;
}

static void write_event(struct writer *writer, const struct cellos_probe_event *event)
{
	write_out(writer,
		  host_format_event(writer->formatter, &writer->line, event, &writer->place));
}

static void write_report(struct writer *writer, const struct host_report *report)
{
	write_out(writer,
		  host_format_report(writer->formatter, &writer->line, report, &writer->place));
}

static void write_events(struct writer *writer, uint64_t number)
{
	for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++)
		for (size_t i = 0; i < COUNT(names); i++) {
			struct cellos_probe_event event = {
				.probe_source = (uint8_t)source,
				.content_version = number == 0 ? 256 : 511,
				.guest_pid = (uint32_t)number,
				.guest_monotonic_ns = number,
				.guest_comm_len = (uint8_t)names[i].length};

			memcpy(event.guest_comm, names[i].text, names[i].length);
			write_event(writer, &event);
		}
}

static void write_reports_of(struct writer *writer, struct host_report *report)
{
	unsigned variants = report->kind == HOST_REPORT_BAD_FRAME ? CELLOS_WIRE_STATUS_COUNT - 1
			    : report->kind == HOST_REPORT_DROPPED
				    ? CELLOS_LANE_COUNT * CELLOS_DROP_COUNT
				    : 1;

	for (unsigned i = 0; i < variants; i++) {
		report->error = (enum cellos_wire_status)(1 + i % (CELLOS_WIRE_STATUS_COUNT - 1));
		report->lane = (uint8_t)(i % CELLOS_LANE_COUNT);
		report->reason = (uint8_t)(i / CELLOS_LANE_COUNT % CELLOS_DROP_COUNT);
		report->baseline = i % 2 != 0;
		write_report(writer, report);
	}
}

static void write_reports(struct writer *writer, uint64_t number)
{
	struct cellos_probe_event said = {.probe_source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
					  .guest_comm = "00001:\"",
					  .guest_comm_len = 7};
	struct host_totals totals;
	struct host_report report = {
		.epoch = writer->place.epoch,
		.count = number,
		.since = number,
		.first = number == 0 ? 0 : 1,
		.last = number,
		.event = &said,
		.text = "egress rule 2 (\"a.example\", 443, \"tcp\"): not authorized",
		.totals = &totals,
		.unsettled = number == 0 ? 0 : INT64_MIN,
	};

	memset(&totals, number == 0 ? 0 : 0xff, sizeof(totals));
	totals.bad[CELLOS_WIRE_OK] = 0; /* no error, so never counted */
	for (unsigned kind = 0; kind < HOST_REPORT_KIND_COUNT; kind++) {
		report.kind = (enum host_report_kind)kind;
		write_reports_of(writer, &report);
	}
}

static int format_of(const char *name)
{
	static const char *const formats[] = {[HOST_FORMAT_RAW] = "raw",
					      [HOST_FORMAT_CLOUDEVENTS] = "cloudevents",
					      [HOST_FORMAT_OCSF] = "ocsf"};

	for (size_t i = 0; i < COUNT(formats); i++)
		if (strcmp(formats[i], name) == 0)
			return (int)i;
	return -1;
}

int main(int argc, char **argv)
{
	static const struct host_stamp full = {
		"cell-1", "Run_2",
		"sha256:0a/+=", "{\"bundle\":\"x\",\"n\":[1,2.5,null],\"o\":{\"t\":\"\\u00e4\"}}"};
	static const struct host_stamp bare = {"c", "r", NULL, NULL};
	int format = argc < 2 ? -1 : format_of(argv[1]);
	struct writer writer = {.formatter = NULL};
	size_t size;

	if (format < 0) {
		fprintf(stderr, "usage: lines raw|cloudevents|ocsf [bare]\n");
		return 2;
	}
	writer.formatter =
		host_formatter_new((enum host_format)format, argc > 2 ? &bare : &full, false);
	if (writer.formatter == NULL)
		return 1;
	size = host_formatter_max_bytes(writer.formatter);
	cellos_json_init(&writer.line, malloc(size), size);
	writer.place =
		(struct host_place){.incarnation = 1, .epoch = 0, .sequence = 1, .received_ns = 1};
	write_events(&writer, 0);
	write_reports(&writer, 0);
	writer.place = (struct host_place){.incarnation = UINT32_MAX,
					   .epoch = 99999,
					   .sequence = UINT64_MAX,
					   .received_ns = UINT64_MAX};
	write_events(&writer, UINT64_MAX);
	write_reports(&writer, UINT64_MAX);
	free(writer.line.data);
	host_formatter_free(writer.formatter);
	return fflush(stdout) == 0 ? 0 : 1;
}
