/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * JSON lines (cellos_json_line.h has the contract). Pure functions over the caller's memory.
 *
 * Events are what a receiver writes by the million, so cellos_json_event looks at the room once and
 * then writes without asking again; everything else goes through put(), which asks each time and
 * remembers the first failure. It refuses to write half a line.
 */
#include "cellos_json_line.h"

#include <errno.h>
#include <string.h>

#define DECIMAL_MAX 20 /* 2^64 - 1 */

static const char digit_pairs[] = "00010203040506070809101112131415161718192021222324"
				  "25262728293031323334353637383940414243444546474849"
				  "50515253545556575859606162636465666768697071727374"
				  "75767778798081828384858687888990919293949596979899";

size_t cellos_json_decimal(char *out, uint64_t value)
{
	char digits[DECIMAL_MAX];
	size_t at = DECIMAL_MAX;

	while (value >= 100) {
		at -= 2;
		memcpy(digits + at, digit_pairs + 2 * (value % 100), 2);
		value /= 100;
	}
	if (value >= 10) {
		at -= 2;
		memcpy(digits + at, digit_pairs + 2 * value, 2);
	} else {
		digits[--at] = (char)('0' + value);
	}
	memcpy(out, digits + at, DECIMAL_MAX - at);
	return DECIMAL_MAX - at;
}

/* RFC 8259, section 7: quote, backslash and U+0000..U+001F must be escaped, nothing else is. */
static bool must_escape(unsigned char byte)
{
	return byte < 0x20 || byte == '"' || byte == '\\';
}

static size_t escape(char *out, unsigned char byte)
{
	static const char hex[] = "0123456789abcdef";
	static const char short_form[0x20] = {
		['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'};

	out[0] = '\\';
	if (byte >= 0x20) {
		out[1] = (char)byte;
		return 2;
	}
	if (short_form[byte] != 0) {
		out[1] = short_form[byte];
		return 2;
	}
	memcpy(out + 1, "u00", 3);
	out[4] = hex[byte >> 4];
	out[5] = hex[byte & 15];
	return CELLOS_JSON_ESCAPED_MAX;
}

/* ---- events: room is known ------------------------------------------------------------------ */

#define LITERAL(at, text) (memcpy(at, text, sizeof(text) - 1), (at) + sizeof(text) - 1)

char *cellos_json_escape(char *out, const char *text, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char byte = (unsigned char)text[i];

		if (must_escape(byte))
			out += escape(out, byte);
		else
			*out++ = (char)byte;
	}
	return out;
}

int cellos_json_event(struct cellos_json_line *line, const struct cellos_probe_event *event)
{
	const char *source = cellos_probe_source_name(event->probe_source);
	char *at = line->data + line->length;
	size_t source_length;

	if (source == NULL || event->guest_comm_len > CELLOS_GUEST_COMM_MAX_BYTES)
		return -EINVAL;
	if (line->capacity - line->length < CELLOS_JSON_EVENT_MAX_BYTES)
		return -ENOSPC;
	at = LITERAL(at, "{\"content_version\":");
	at += cellos_json_decimal(at, event->content_version);
	at = LITERAL(at, ",\"probe_source\":\"");
	source_length = strlen(source);
	memcpy(at, source, source_length);
	at += source_length;
	at = LITERAL(at, "\",\"guest_pid\":");
	at += cellos_json_decimal(at, event->guest_pid);
	at = LITERAL(at, ",\"guest_comm\":\"");
	at = cellos_json_escape(at, event->guest_comm, event->guest_comm_len);
	at = LITERAL(at, "\",\"guest_monotonic_ns\":");
	at += cellos_json_decimal(at, event->guest_monotonic_ns);
	at = LITERAL(at, "}\n");
	line->length = (size_t)(at - line->data);
	return 0;
}

/* ---- everything else: room is asked for ----------------------------------------------------- */

void cellos_json_init(struct cellos_json_line *line, char *data, size_t capacity)
{
	*line = (struct cellos_json_line){.data = data, .capacity = capacity};
}

static void put(struct cellos_json_line *line, const char *bytes, size_t length)
{
	if (line->overflow || line->capacity - line->length < length) {
		line->overflow = true;
		return;
	}
	memcpy(line->data + line->length, bytes, length);
	line->length += length;
}

static void put_quoted(struct cellos_json_line *line, const char *text, size_t length)
{
	char escaped[CELLOS_JSON_ESCAPED_MAX];
	size_t from = 0;

	put(line, "\"", 1);
	for (size_t i = 0; i < length; i++) {
		if (!must_escape((unsigned char)text[i]))
			continue;
		put(line, text + from, i - from);
		put(line, escaped, escape(escaped, (unsigned char)text[i]));
		from = i + 1;
	}
	if (length > from)
		put(line, text + from, length - from);
	put(line, "\"", 1);
}

/* The comma, if a member stands before; then the key. */
static void put_key(struct cellos_json_line *line, const char *key)
{
	if (!line->overflow && line->data[line->length - 1] != '{')
		put(line, ",", 1);
	put(line, "\"", 1);
	put(line, key, strlen(key));
	put(line, "\":", 2);
}

void cellos_json_mark(struct cellos_json_line *line)
{
	line->start = line->length;
	line->overflow = false;
}

void cellos_json_begin(struct cellos_json_line *line)
{
	cellos_json_mark(line);
	put(line, "{", 1);
}

void cellos_json_put(struct cellos_json_line *line, const char *bytes, size_t length)
{
	put(line, bytes, length);
}

void cellos_json_add_u64(struct cellos_json_line *line, const char *key, uint64_t value)
{
	char digits[DECIMAL_MAX];

	put_key(line, key);
	put(line, digits, cellos_json_decimal(digits, value));
}

void cellos_json_add_i64(struct cellos_json_line *line, const char *key, int64_t value)
{
	char digits[1 + DECIMAL_MAX];
	size_t sign = value < 0;

	digits[0] = '-';
	/* Negated as unsigned: -2^63 has no positive twin. */
	put_key(line, key);
	put(line, digits,
	    sign + cellos_json_decimal(digits + sign,
				       value < 0 ? -(uint64_t)value : (uint64_t)value));
}

void cellos_json_add_text(struct cellos_json_line *line, const char *key, const char *text,
			  size_t length)
{
	put_key(line, key);
	put_quoted(line, text, length);
}

void cellos_json_add_string(struct cellos_json_line *line, const char *key, const char *string)
{
	cellos_json_add_text(line, key, string, strlen(string));
}

void cellos_json_add_bool(struct cellos_json_line *line, const char *key, bool value)
{
	put_key(line, key);
	put(line, value ? "true" : "false", value ? 4 : 5);
}

void cellos_json_open(struct cellos_json_line *line, const char *key)
{
	put_key(line, key);
	put(line, "{", 1);
}

void cellos_json_close(struct cellos_json_line *line)
{
	put(line, "}", 1);
}

int cellos_json_end(struct cellos_json_line *line)
{
	put(line, "}", 1);
	return cellos_json_finish(line);
}

int cellos_json_finish(struct cellos_json_line *line)
{
	put(line, "\n", 1);
	if (line->overflow) {
		line->length = line->start;
		line->overflow = false;
		return -ENOSPC;
	}
	return 0;
}

int cellos_json_error(struct cellos_json_line *line, const struct cellos_wire_error *error)
{
	cellos_json_begin(line);
	cellos_json_add_string(line, "error", cellos_wire_status_name(error->status));
	switch (error->status) {
	case CELLOS_WIRE_SHORT_HEADER:
		cellos_json_add_u64(line, "got", error->got);
		break;
	case CELLOS_WIRE_FRAME_TOO_LARGE:
		cellos_json_add_u64(line, "len", error->len);
		break;
	case CELLOS_WIRE_FRAME_TRUNCATED:
		cellos_json_add_u64(line, "declared", error->declared);
		cellos_json_add_u64(line, "actual", error->actual);
		break;
	case CELLOS_WIRE_UNSUPPORTED_MAJOR:
		cellos_json_add_u64(line, "major", error->major);
		break;
	case CELLOS_WIRE_UNSUPPORTED_ADDITIONAL:
		cellos_json_add_u64(line, "additional", error->additional);
		break;
	case CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION:
		cellos_json_add_u64(line, "version", error->version);
		break;
	case CELLOS_WIRE_BUFFER_TOO_SMALL:
		cellos_json_add_u64(line, "needed", error->needed);
		break;
	case CELLOS_WIRE_FIELD_TYPE:
		cellos_json_add_string(line, "field", cellos_wire_field_name(error->field));
		cellos_json_add_u64(line, "major", error->major);
		break;
	case CELLOS_WIRE_MISSING_FIELD:
	case CELLOS_WIRE_INTEGER_OVERFLOW:
	case CELLOS_WIRE_INVALID_UTF8:
		cellos_json_add_string(line, "field", cellos_wire_field_name(error->field));
		break;
	case CELLOS_WIRE_UNKNOWN_PROBE_SOURCE:
		cellos_json_add_text(line, "text", error->text, error->text_length);
		break;
	default: /* the others have no detail */
		break;
	}
	return cellos_json_end(line);
}
