/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the formats share: the prepared pieces of a cell, and how a line is put together from them.
 *
 * Events are written where the room is known already (char *at in, the end out); reports are rare
 * and go through cellos_json_line, which asks for room each time. Private to format*.c.
 */
#ifndef CELLOS_HOST_FORMAT_PRIVATE_H
#define CELLOS_HOST_FORMAT_PRIVATE_H

#include <stdbool.h>
#include <string.h>

#include "format.h"

#define HOST_TIME_BYTES 30 /* 2026-01-02T03:04:05.000000001Z */
#define HOST_TYPE_PREFIX "cell.observability.guest."

/* What dataschema says; docs/schemas has the schemas of these names. */
#define HOST_SCHEMA_PREFIX "urn:cellos:schema:"
#define HOST_OCSF_VERSION "1.5.0"

/* Bytes that are the same for every line of a cell; owned, NULL until they are made. */
struct piece {
	char *text;
	size_t length;
};

/* The second last written, so that lines of one second share its calendar. */
struct host_clock_text {
	uint64_t second;
	char text[20]; /* 2026-01-02T03:04:05. */
};

struct host_formatter {
	enum host_format format;
	bool routed;
	size_t max_event_bytes; /* the longest event, newline included */
	size_t max_bytes;       /* the longest line */

	struct piece id;       /* cell/run/ */
	struct piece subject;  /* " cellos.cell." */
	struct piece stamps;   /* ,"cell_id":...,"incarnation": */
	struct piece envelope; /* ","source":"...","datacontenttype":"application/json" */

	/* Of an event, by its source. */
	struct piece event_subject[CELLOS_SOURCE_EVENT_COUNT]; /* " cellos.cell.source " */
	struct piece event_envelope[CELLOS_SOURCE_EVENT_COUNT];
	struct piece event_source[CELLOS_SOURCE_EVENT_COUNT]; /* ,"probe_source":...,"guest_pid": */

	/* Of OCSF alone. */
	struct piece ocsf; /* ,"device":...,"metadata":{...,"profiles":[ */
	struct piece event_ocsf[CELLOS_SOURCE_EVENT_COUNT]; /* {..."uid":" */

	struct host_clock_text *clock; /* owned: the only thing that a line changes */
};

static inline char *put_bytes(char *at, const char *bytes, size_t length)
{
	memcpy(at, bytes, length);
	return at + length;
}

static inline char *put_piece(char *at, const struct piece *piece)
{
	return put_bytes(at, piece->text, piece->length);
}

#define PUT(at, literal) put_bytes(at, literal, sizeof(literal) - 1)

static inline char *put_number(char *at, uint64_t value)
{
	return at + cellos_json_decimal(at, value);
}

static inline void add_piece(struct cellos_json_line *line, const struct piece *piece)
{
	cellos_json_put(line, piece->text, piece->length);
}

static inline void add_literal(struct cellos_json_line *line, const char *text)
{
	cellos_json_put(line, text, strlen(text));
}

static inline void add_number(struct cellos_json_line *line, uint64_t value)
{
	char digits[20];

	cellos_json_put(line, digits, cellos_json_decimal(digits, value));
}

/* ---- format.c ------------------------------------------------------------------------------- */

/* False when memory is short; the piece is then as it was. */
__attribute__((format(printf, 2, 3))) bool host_make_piece(struct piece *piece, const char *format,
							   ...);
/* HOST_TIME_BYTES of them. */
char *host_put_time(struct host_clock_text *clock, char *at, uint64_t ns);
/* cell/run/incarnation/seq, and for a report .../r1. */
char *host_put_event_id(const struct host_formatter *formatter, char *at,
			const struct host_place *place);
void host_add_report_id(const struct host_formatter *formatter, struct cellos_json_line *line,
			const struct host_place *place);
/* The stamped declaration, an object without newline. */
char *host_put_raw_event(const struct host_formatter *formatter, char *at,
			 const struct cellos_probe_event *event, const struct host_place *place);

/* ---- format_report.c ------------------------------------------------------------------------ */

void host_add_raw_report(const struct host_formatter *formatter, struct cellos_json_line *line,
			 const struct host_report *report, const struct host_place *place);
/* "heartbeat" and so on. */
const char *host_report_name(enum host_report_kind kind);
/* "telemetry.heartbeat" and so on: what follows HOST_TYPE_PREFIX. */
const char *host_report_type(enum host_report_kind kind);

/* ---- format_ocsf.c -------------------------------------------------------------------------- */

/* The name of the schema of such an event. */
const char *host_ocsf_schema(unsigned source);
/* The pieces of OCSF; false when memory is short. */
bool host_make_ocsf(struct host_formatter *formatter, const struct host_stamp *stamp);
char *host_put_ocsf_event(const struct host_formatter *formatter, char *at,
			  const struct cellos_probe_event *event, const struct host_place *place);
void host_add_ocsf_report(const struct host_formatter *formatter, struct cellos_json_line *line,
			  const struct host_report *report, const struct host_place *place);

#endif
