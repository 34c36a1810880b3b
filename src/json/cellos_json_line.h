/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * JSON lines into the caller's memory: an event, a decoding error, or a report put together member
 * by member. Shared by the receiver and cellos-wire, so that both spell an event the same way.
 *
 * A line is whole or absent: when the memory does not hold all of it, `length` stands where it
 * stood before and the call that ends the line says -ENOSPC. The caller then writes out what it has
 * (length = 0) and makes the line again.
 *
 * No stdio, no allocation, no state beyond the struct; one thread at a time per struct. Text must
 * be valid UTF-8 (what the decoder hands out is): it is escaped, never repaired. Integers are
 * exact up to 2^64 - 1; a reader that keeps numbers as doubles loses digits above 2^53.
 */
#ifndef CELLOS_JSON_LINE_H
#define CELLOS_JSON_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/wire.h"

/*
 * Memory that always holds one line of its kind. Event: 83 bytes of keys and punctuation with the
 * newline, the longest source 44, numbers 5 + 10 + 20, and 64 bytes of name that may each take 6.
 * Error: under 200 bytes, and the text of UnknownProbeSource, no longer than a body.
 */
#define CELLOS_JSON_EVENT_MAX_BYTES 640
#define CELLOS_JSON_ERROR_MAX_BYTES (256 + 6 * CELLOS_MAX_FRAME_BODY_BYTES)

struct cellos_json_line {
	char *data; /* the caller's, capacity bytes */
	size_t capacity;
	size_t length; /* bytes of data in use: whole lines, and the one being made */
	size_t start;  /* where the line being made began */
	bool overflow; /* the line being made did not fit */
};

void cellos_json_init(struct cellos_json_line *line, char *data, size_t capacity);

/*
 * One whole line, newline included: {"content_version":256,"probe_source":"...","guest_pid":1,
 * "guest_comm":"...","guest_monotonic_ns":1}. -ENOSPC, and nothing added, when fewer than
 * CELLOS_JSON_EVENT_MAX_BYTES are free. -EINVAL when the source or the name's length is out of
 * range, which no decoded event has.
 */
CELLOS_MUST_CHECK int cellos_json_event(struct cellos_json_line *line,
					const struct cellos_probe_event *event);
/* One whole line: {"error":"FieldType","field":"guest_pid","major":3}. 0 or -ENOSPC. */
CELLOS_MUST_CHECK int cellos_json_error(struct cellos_json_line *line,
					const struct cellos_wire_error *error);

/*
 * A line by hand:
 *
 *	cellos_json_begin(&line);
 *	cellos_json_add_string(&line, "report", "dropped");
 *	cellos_json_add_u64(&line, "count", 12);
 *	cellos_json_open(&line, "bad");
 *	cellos_json_close(&line);
 *	if (cellos_json_end(&line) == -ENOSPC) ...
 *
 * Keys are our own constants and are not escaped.
 */
void cellos_json_begin(struct cellos_json_line *line);
/*
 * The same without the brace, for a line that does not begin with one, and bytes as they are: what
 * they make of the line is the caller's business.
 */
void cellos_json_mark(struct cellos_json_line *line);
void cellos_json_put(struct cellos_json_line *line, const char *bytes, size_t length);
void cellos_json_add_u64(struct cellos_json_line *line, const char *key, uint64_t value);
void cellos_json_add_i64(struct cellos_json_line *line, const char *key, int64_t value);
void cellos_json_add_text(struct cellos_json_line *line, const char *key, const char *text,
			  size_t length);
/* The same for a string that ends in NUL. */
void cellos_json_add_string(struct cellos_json_line *line, const char *key, const char *string);
void cellos_json_add_bool(struct cellos_json_line *line, const char *key, bool value);
/* A nested object: open it, add its members, close it. */
void cellos_json_open(struct cellos_json_line *line, const char *key);
void cellos_json_close(struct cellos_json_line *line);
/* Closes the object and adds the newline. 0, or -ENOSPC and the line is gone. */
CELLOS_MUST_CHECK int cellos_json_end(struct cellos_json_line *line);
/* The newline alone, for a line whose braces are closed already. 0, or -ENOSPC as above. */
CELLOS_MUST_CHECK int cellos_json_finish(struct cellos_json_line *line);

/* Bytes of `value` in decimal, written at `out` (20 at most), no NUL. */
size_t cellos_json_decimal(char *out, uint64_t value);

/* The most that one byte of text takes. */
#define CELLOS_JSON_ESCAPED_MAX 6
/* The inside of a string, escaped, at `out` (CELLOS_JSON_ESCAPED_MAX * length at most); its end. */
char *cellos_json_escape(char *out, const char *text, size_t length);

#endif
