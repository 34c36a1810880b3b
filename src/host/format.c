/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Stamped lines (format.h has the contract).
 *
 * A line is put together from pieces made with the cell and a few numbers. How long the longest one
 * can get is not computed but tried, with every number at its largest and a name of nothing but
 * escapes: so it is exact, and stays so when a member is added. Events ask for that much room once
 * and then write without asking.
 *
 * One thread at a time for each formatter: the text of the current second is kept in it.
 */
#include "format.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "format_private.h"

/* ---- time ----------------------------------------------------------------------------------- */

#define NS_PER_SECOND UINT64_C(1000000000)

static char *put_digits(char *at, unsigned value, unsigned width)
{
	for (unsigned i = width; i-- > 0; value /= 10)
		at[i] = (char)('0' + value % 10);
	return at + width;
}

/*
 * The civil date of a day since 1970-01-01, by counting from 1 March: leap days then stand at the
 * end of a year, and the months' lengths repeat every five. 2^64 ns end in the year 2554.
 */
static char *put_date(char *at, uint64_t day)
{
	uint64_t shifted = day + 719468; /* since 0000-03-01 */
	uint64_t era = shifted / 146097; /* of 400 years */
	unsigned day_of_era = (unsigned)(shifted % 146097);
	unsigned year_of_era =
		(day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
	unsigned day_of_year =
		day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
	unsigned from_march = (5 * day_of_year + 2) / 153;
	unsigned month = from_march < 10 ? from_march + 3 : from_march - 9;
	unsigned year = (unsigned)(era * 400) + year_of_era + (month <= 2);

	at = put_digits(at, year, 4);
	*at++ = '-';
	at = put_digits(at, month, 2);
	*at++ = '-';
	return put_digits(at, day_of_year - (153 * from_march + 2) / 5 + 1, 2);
}

static void set_clock(struct host_clock_text *clock, uint64_t second)
{
	unsigned of_day = (unsigned)(second % 86400);
	char *at = put_date(clock->text, second / 86400);

	*at++ = 'T';
	at = put_digits(at, of_day / 3600, 2);
	*at++ = ':';
	at = put_digits(at, of_day / 60 % 60, 2);
	*at++ = ':';
	at = put_digits(at, of_day % 60, 2);
	*at = '.';
	clock->second = second;
}

char *host_put_time(struct host_clock_text *clock, char *at, uint64_t ns)
{
	uint64_t second = ns / NS_PER_SECOND;

	if (second != clock->second)
		set_clock(clock, second);
	at = put_bytes(at, clock->text, sizeof(clock->text));
	at = put_digits(at, (unsigned)(ns % NS_PER_SECOND), 9);
	*at++ = 'Z';
	return at;
}

/* ---- events --------------------------------------------------------------------------------- */

char *host_put_raw_event(const struct host_formatter *formatter, char *at,
			 const struct cellos_probe_event *event, const struct host_place *place)
{
	at = PUT(at, "{\"content_version\":");
	at = put_number(at, event->content_version);
	at = put_piece(at, &formatter->event_source[event->probe_source]);
	at = put_number(at, event->guest_pid);
	at = PUT(at, ",\"guest_comm\":\"");
	at = cellos_json_escape(at, event->guest_comm, event->guest_comm_len);
	at = PUT(at, "\",\"guest_monotonic_ns\":");
	at = put_number(at, event->guest_monotonic_ns);
	at = put_piece(at, &formatter->stamps);
	at = put_number(at, place->incarnation);
	at = PUT(at, ",\"epoch\":");
	at = put_number(at, place->epoch);
	at = PUT(at, ",\"seq\":");
	at = put_number(at, place->sequence);
	at = PUT(at, ",\"host_received_at\":\"");
	at = host_put_time(formatter->clock, at, place->received_ns);
	return PUT(at, "\"}");
}

char *host_put_event_id(const struct host_formatter *formatter, char *at,
			const struct host_place *place)
{
	at = put_piece(at, &formatter->id);
	at = put_number(at, place->incarnation);
	*at++ = '/';
	return put_number(at, place->sequence);
}

static char *put_cloudevent(const struct host_formatter *formatter, char *at,
			    const struct cellos_probe_event *event, const struct host_place *place)
{
	at = PUT(at, "{\"specversion\":\"1.0\",\"id\":\"");
	at = host_put_event_id(formatter, at, place);
	at = put_piece(at, &formatter->event_envelope[event->probe_source]);
	at = put_number(at, event->guest_pid);
	at = PUT(at, "\",\"time\":\"");
	at = host_put_time(formatter->clock, at, place->received_ns);
	at = PUT(at, "\",\"data\":");
	if (formatter->format == HOST_FORMAT_OCSF)
		at = host_put_ocsf_event(formatter, at, event, place);
	else
		at = host_put_raw_event(formatter, at, event, place);
	*at++ = '}';
	return at;
}

int host_format_event(const struct host_formatter *formatter, struct cellos_json_line *line,
		      const struct cellos_probe_event *event, const struct host_place *place)
{
	char *at = line->data + line->length;

	if (event->probe_source >= CELLOS_SOURCE_EVENT_COUNT ||
	    event->guest_comm_len > CELLOS_GUEST_COMM_MAX_BYTES)
		return -EINVAL;
	if (line->capacity - line->length < formatter->max_event_bytes)
		return -ENOSPC;
	if (formatter->routed) {
		at = host_put_event_id(formatter, at, place);
		at = put_piece(at, &formatter->event_subject[event->probe_source]);
	}
	if (formatter->format == HOST_FORMAT_RAW)
		at = host_put_raw_event(formatter, at, event, place);
	else
		at = put_cloudevent(formatter, at, event, place);
	*at++ = '\n';
	line->length = (size_t)(at - line->data);
	return 0;
}

bool host_line_is_event(const char *line)
{
	static const char raw[] = "{\"content_version\"", envelope[] = "{\"specversion\"";

	if (*line == '{' && strncmp(line, envelope, sizeof(envelope) - 1) != 0)
		return strncmp(line, raw, sizeof(raw) - 1) == 0;
	/* The id comes first, also where a line has a route: <cell>/<run>/<incarnation>/, then a
	   number, or an r and a number. */
	for (unsigned slashes = 0; slashes < 3; line++)
		slashes += *line == '/';
	return *line != 'r';
}

/* ---- reports -------------------------------------------------------------------------------- */

/* Reports have numbers of their own, and never an event's id. */
void host_add_report_id(const struct host_formatter *formatter, struct cellos_json_line *line,
			const struct host_place *place)
{
	add_piece(line, &formatter->id);
	add_number(line, place->incarnation);
	add_literal(line, "/r");
	add_number(line, place->sequence);
}

static void add_report_envelope(const struct host_formatter *formatter,
				struct cellos_json_line *line, const struct host_report *report,
				const struct host_place *place)
{
	char time[HOST_TIME_BYTES];

	add_literal(line, "{\"specversion\":\"1.0\",\"id\":\"");
	host_add_report_id(formatter, line, place);
	add_piece(line, &formatter->envelope);
	add_literal(line, ",\"dataschema\":\"" HOST_SCHEMA_PREFIX);
	add_literal(line, formatter->format == HOST_FORMAT_OCSF ? "ocsf-report" : "raw-report");
	add_literal(line, "\",\"type\":\"" HOST_TYPE_PREFIX);
	add_literal(line, host_report_type(report->kind));
	add_literal(line, "\",\"subject\":\"agent/");
	add_number(line, place->incarnation);
	add_literal(line, "\"");
	host_put_time(formatter->clock, time, place->received_ns);
	cellos_json_add_text(line, "time", time, sizeof(time));
	add_literal(line, ",\"data\":");
}

int host_format_report(const struct host_formatter *formatter, struct cellos_json_line *line,
		       const struct host_report *report, const struct host_place *place)
{
	cellos_json_mark(line);
	if (formatter->routed) {
		host_add_report_id(formatter, line, place);
		add_piece(line, &formatter->subject);
		add_literal(line, HOST_TYPE_PREFIX);
		add_literal(line, host_report_type(report->kind));
		add_literal(line, " ");
	}
	if (formatter->format == HOST_FORMAT_RAW) {
		host_add_raw_report(formatter, line, report, place);
	} else {
		add_report_envelope(formatter, line, report, place);
		if (formatter->format == HOST_FORMAT_OCSF)
			host_add_ocsf_report(formatter, line, report, place);
		else
			host_add_raw_report(formatter, line, report, place);
		cellos_json_close(line);
	}
	return cellos_json_finish(line);
}

/* ---- the cell's pieces ---------------------------------------------------------------------- */

bool host_make_piece(struct piece *piece, const char *format, ...)
{
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vasprintf(&piece->text, format, arguments);
	va_end(arguments);
	if (length < 0) {
		piece->text = NULL; /* vasprintf leaves it undefined */
		return false;
	}
	piece->length = (size_t)length;
	return true;
}

static bool make_stamps(struct host_formatter *formatter, const struct host_stamp *stamp)
{
	const char *hash = stamp->spec_signature_hash, *output = stamp->output;

	return host_make_piece(
		&formatter->stamps,
		",\"cell_id\":\"%s\",\"run_id\":\"%s\"%s%s%s%s%s,\"incarnation\":", stamp->cell_id,
		stamp->run_id, hash ? ",\"spec_signature_hash\":\"" : "", hash ? hash : "",
		hash ? "\"" : "", output ? ",\"output\":" : "", output ? output : "");
}

static bool make_event_pieces(struct host_formatter *formatter, const struct host_stamp *stamp,
			      unsigned source)
{
	const char *name = cellos_probe_source_name(source);

	return host_make_piece(&formatter->event_source[source],
			       ",\"probe_source\":\"%s\",\"guest_pid\":", name) &&
	       host_make_piece(&formatter->event_subject[source], " cellos.%s.%s ", stamp->cell_id,
			       name) &&
	       host_make_piece(&formatter->event_envelope[source],
			       "%s,\"dataschema\":\"" HOST_SCHEMA_PREFIX
			       "%s\",\"type\":\"" HOST_TYPE_PREFIX "%s\",\"subject\":\"pid/",
			       formatter->envelope.text,
			       formatter->format == HOST_FORMAT_OCSF ? host_ocsf_schema(source)
								     : "raw-event",
			       name);
}

static bool make_pieces(struct host_formatter *formatter, const struct host_stamp *stamp)
{
	bool made =
		host_make_piece(&formatter->id, "%s/%s/", stamp->cell_id, stamp->run_id) &&
		host_make_piece(&formatter->subject, " cellos.%s.", stamp->cell_id) &&
		host_make_piece(
			&formatter->envelope,
			"\",\"source\":\"/cellos/%s/%s\",\"datacontenttype\":\"application/json\"",
			stamp->cell_id, stamp->run_id) &&
		make_stamps(formatter, stamp);

	for (unsigned source = 0; made && source < CELLOS_SOURCE_EVENT_COUNT; source++)
		made = make_event_pieces(formatter, stamp, source);
	if (made && formatter->format == HOST_FORMAT_OCSF)
		made = host_make_ocsf(formatter, stamp);
	return made;
}

/* ---- how long a line can get ---------------------------------------------------------------- */

/* Every number at its largest, every byte of text an escape of six. */
static struct cellos_probe_event worst_event(unsigned source)
{
	struct cellos_probe_event event = {.probe_source = (uint8_t)source,
					   .content_version = UINT16_MAX,
					   .guest_pid = UINT32_MAX,
					   .guest_monotonic_ns = UINT64_MAX,
					   .guest_comm_len = CELLOS_GUEST_COMM_MAX_BYTES};

	memset(event.guest_comm, 1, CELLOS_GUEST_COMM_MAX_BYTES);
	return event;
}

static const struct host_place worst_place = {.incarnation = UINT32_MAX,
					      .epoch = UINT32_MAX,
					      .sequence = UINT64_MAX,
					      .received_ns = UINT64_MAX};

static size_t worst_event_bytes(const struct host_formatter *formatter,
				struct cellos_json_line *line)
{
	size_t worst = 0;

	for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++) {
		struct cellos_probe_event event = worst_event(source);

		line->length = 0;
		if (host_format_event(formatter, line, &event, &worst_place) < 0)
			return SIZE_MAX;
		if (line->length > worst)
			worst = line->length;
	}
	return worst;
}

/* One kind of report, with each name that it can carry: they differ in length. */
static size_t worst_report_bytes(const struct host_formatter *formatter,
				 struct cellos_json_line *line, struct host_report *report)
{
	unsigned names = report->kind == HOST_REPORT_DROPPED     ? CELLOS_LANE_COUNT
			 : report->kind == HOST_REPORT_BAD_FRAME ? CELLOS_WIRE_STATUS_COUNT
								 : 1;
	size_t worst = 0;

	for (unsigned i = 0; i < names; i++) {
		report->lane = (uint8_t)(i % CELLOS_LANE_COUNT);
		report->error = (enum cellos_wire_status)i;
		line->length = 0;
		if (host_format_report(formatter, line, report, &worst_place) < 0)
			return SIZE_MAX;
		if (line->length > worst)
			worst = line->length;
	}
	return worst;
}

static size_t worst_reports_bytes(const struct host_formatter *formatter,
				  struct cellos_json_line *line)
{
	/* The longer one of the two self-reports. */
	struct cellos_probe_event event = worst_event(CELLOS_SOURCE_TELEMETRY_HEARTBEAT);
	char text[HOST_TEXT_MAX_BYTES + 1];
	struct host_totals totals;
	struct host_report report = {.epoch = UINT32_MAX,
				     .count = UINT64_MAX,
				     .since = UINT64_MAX,
				     .first = UINT64_MAX,
				     .last = UINT64_MAX,
				     .baseline = true,
				     .event = &event,
				     .text = text,
				     .totals = &totals,
				     .unsettled = INT64_MIN};
	size_t worst = 0;

	memset(text, 1, HOST_TEXT_MAX_BYTES);
	text[HOST_TEXT_MAX_BYTES] = '\0';
	memset(&totals, 0xff, sizeof(totals)); /* nothing but counts */
	for (unsigned kind = 0; kind < HOST_REPORT_KIND_COUNT; kind++) {
		size_t bytes;

		report.kind = (enum host_report_kind)kind;
		bytes = worst_report_bytes(formatter, line, &report);
		if (bytes > worst)
			worst = bytes;
	}
	return worst;
}

/* The parts that are no piece of this cell take less: a ledger under 3 KiB, a text 3 KiB. */
#define SCRATCH_BYTES 16384

static bool measure(struct host_formatter *formatter)
{
	size_t size = SCRATCH_BYTES + 2 * formatter->stamps.length;
	struct cellos_json_line line;
	char *scratch = malloc(size);

	if (scratch == NULL)
		return false;
	cellos_json_init(&line, scratch, size);
	formatter->max_event_bytes = worst_event_bytes(formatter, &line);
	formatter->max_bytes = worst_reports_bytes(formatter, &line);
	if (formatter->max_bytes < formatter->max_event_bytes)
		formatter->max_bytes = formatter->max_event_bytes;
	free(scratch);
	return formatter->max_bytes != SIZE_MAX;
}

/* ---- life ----------------------------------------------------------------------------------- */

struct host_formatter *host_formatter_new(enum host_format format, const struct host_stamp *stamp,
					  bool routed)
{
	struct host_formatter *formatter = calloc(1, sizeof(*formatter));

	if (formatter == NULL)
		return NULL;
	formatter->format = format;
	formatter->routed = routed;
	formatter->clock = malloc(sizeof(*formatter->clock));
	if (formatter->clock != NULL) {
		set_clock(formatter->clock, 0);
		if (make_pieces(formatter, stamp) && measure(formatter))
			return formatter;
	}
	host_formatter_free(formatter);
	return NULL;
}

void host_formatter_free(struct host_formatter *formatter)
{
	if (formatter == NULL)
		return;
	free(formatter->id.text);
	free(formatter->subject.text);
	free(formatter->stamps.text);
	free(formatter->envelope.text);
	free(formatter->ocsf.text);
	for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++) {
		free(formatter->event_ocsf[source].text);
		free(formatter->event_subject[source].text);
		free(formatter->event_envelope[source].text);
		free(formatter->event_source[source].text);
	}
	free(formatter->clock);
	free(formatter);
}

size_t host_formatter_max_bytes(const struct host_formatter *formatter)
{
	return formatter->max_bytes;
}
