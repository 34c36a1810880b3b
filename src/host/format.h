/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What leaves the host: an event or a report of one cell, stamped, as one JSON line.
 *
 * Pure, over the caller's memory; one thread at a time per line. Whatever is the same for every
 * line of a cell is rendered once, when the cell is made. Nothing that the guest sent can change a
 * stamp: the stamps come from struct host_stamp alone, and a frame has no room for them.
 *
 * Refuses to: invent what the wire does not carry. Where a format demands it, it gets that format's
 * "unknown".
 */
#ifndef CELLOS_HOST_FORMAT_H
#define CELLOS_HOST_FORMAT_H

#include <stddef.h>
#include <stdint.h>

#include "account.h"
#include "cellos_json_line.h"

#define HOST_ID_MAX_BYTES 64 /* cell and run: [A-Za-z0-9_-]{1,64} */
#define HOST_HASH_MAX_BYTES                                                                        \
	128                      /* spec_signature_hash: printable ASCII without quote, backslash  \
				  */
#define HOST_TEXT_MAX_BYTES 512  /* of a report's text; what is longer is cut at a character */
#define HOST_ADG_MAX_BYTES 16384 /* the JSON object of --adg, as it stands in the file, compact */

enum host_format { HOST_FORMAT_RAW = 0, HOST_FORMAT_CLOUDEVENTS, HOST_FORMAT_OCSF };

/* What the host alone says of a cell. Borrowed while host_formatter_init runs. */
struct host_stamp {
	const char *cell_id;
	const char *run_id;
	const char *spec_signature_hash; /* NULL: none given, the member is left out */
	const char *output;              /* a JSON object on one line; NULL: left out */
};

/* Where a line stands: what the id is made of, and when the host received it. */
struct host_place {
	uint32_t incarnation; /* of the run, from 1 */
	uint32_t epoch;       /* of the connection; 0 before its first heartbeat */
	uint64_t sequence; /* events: from 1 per incarnation. Reports: their own, from 1 per run */
	uint64_t received_ns; /* CLOCK_REALTIME */
};

struct host_formatter; /* owned by its cell */

/*
 * `routed`: each line is preceded by "<id> <subject> ", for a sink that needs both apart from the
 * JSON (see spool.h). NULL when memory is short.
 */
struct host_formatter *host_formatter_new(enum host_format format, const struct host_stamp *stamp,
					  bool routed);
void host_formatter_free(struct host_formatter *formatter);
/* No line of this cell is longer, newline included. */
size_t host_formatter_max_bytes(const struct host_formatter *formatter);

/*
 * One whole line each. 0, or -ENOSPC and nothing was added. -EINVAL for an event that is none of
 * the five or whose name is too long, which no decoded event is. A formatter and its lines belong
 * to one thread at a time.
 */
CELLOS_MUST_CHECK int host_format_event(const struct host_formatter *formatter,
					struct cellos_json_line *line,
					const struct cellos_probe_event *event,
					const struct host_place *place);
CELLOS_MUST_CHECK int host_format_report(const struct host_formatter *formatter,
					 struct cellos_json_line *line,
					 const struct host_report *report,
					 const struct host_place *place);
/* Is this whole line an event's? Only for what the two above made. */
bool host_line_is_event(const char *line);
/* Into an open object, every total of a cell; `frames_key`: what that object calls the first. */
void host_add_totals(struct cellos_json_line *line, const struct host_totals *totals,
		     const char *frames_key);

#endif
