/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Frames to events. Pure functions over the caller's memory, any thread. The input comes from a
 * guest that may be hostile: every byte is looked at once, from left to right, and nothing beyond
 * the given length is read.
 *
 * The first error in byte order wins. Within one item the order is: initial byte there, major,
 * additional, argument bytes there, kind of key or value, text bytes there, UTF-8, characters,
 * value. Nothing is passed over in silence: an unknown, doubled or trailing part is an error.
 */
#include "cellos/wire.h"

#include <string.h>

#include "utf8.h"

#define RARE(condition) __builtin_expect(condition, 0)

enum { MAJOR_UINT = 0, MAJOR_TEXT = 3, MAJOR_MAP = 5 };
enum { PAIRS = 5, FIRST_ARGUMENT = 24, FIRST_RESERVED = 28 };

struct reader {
	const uint8_t *at;
	const uint8_t *end;
	struct cellos_wire_error *error;
};

struct text {
	const char *bytes; /* borrowed from the input */
	size_t length;
};

static bool fail(struct reader *reader, enum cellos_wire_status status)
{
	reader->error->status = status;
	return false;
}

static bool fail_field(struct reader *reader, enum cellos_wire_status status,
		       enum cellos_wire_field field)
{
	reader->error->field = field;
	return fail(reader, status);
}

static inline size_t left(const struct reader *reader)
{
	return (size_t)(reader->end - reader->at);
}

static inline uint64_t load_be(const uint8_t *bytes, size_t count)
{
	uint64_t value = 0;

	for (size_t i = 0; i < count; i++)
		value = value << 8 | bytes[i];
	return value;
}

/*
 * An item's head, of any size class. `argument`: the value, the text's bytes or the map's pairs;
 * the text or the pairs behind it are the caller's.
 */
static inline bool read_head(struct reader *reader, unsigned *major, uint64_t *argument)
{
	unsigned additional;
	size_t bytes;

	if (RARE(reader->at == reader->end))
		return fail(reader, CELLOS_WIRE_UNEXPECTED_EOF);
	*major = *reader->at >> 5;
	additional = *reader->at & 31;
	if (RARE(*major != MAJOR_UINT && *major != MAJOR_TEXT && *major != MAJOR_MAP)) {
		reader->error->major = (uint8_t)*major;
		return fail(reader, CELLOS_WIRE_UNSUPPORTED_MAJOR);
	}
	reader->at++;
	if (additional < FIRST_ARGUMENT) {
		*argument = additional;
		return true;
	}
	if (RARE(additional >= FIRST_RESERVED)) {
		reader->error->additional = (uint8_t)additional;
		return fail(reader, CELLOS_WIRE_UNSUPPORTED_ADDITIONAL);
	}
	bytes = (size_t)1 << (additional - FIRST_ARGUMENT);
	if (RARE(left(reader) < bytes))
		return fail(reader, CELLOS_WIRE_UNEXPECTED_EOF);
	*argument = load_be(reader->at, bytes);
	reader->at += bytes;
	return true;
}

/* A head of the major that `field` must have; another one that we do support is FieldType. */
static inline bool read_kind(struct reader *reader, unsigned wanted, enum cellos_wire_field field,
			     uint64_t *argument)
{
	unsigned major;

	if (!read_head(reader, &major, argument))
		return false;
	if (RARE(major != wanted)) {
		reader->error->major = (uint8_t)major;
		return fail_field(reader, CELLOS_WIRE_FIELD_TYPE, field);
	}
	return true;
}

static bool read_uint(struct reader *reader, enum cellos_wire_field field, uint64_t max,
		      uint64_t *value)
{
	if (!read_kind(reader, MAJOR_UINT, field, value))
		return false;
	if (RARE(*value > max))
		return fail_field(reader, CELLOS_WIRE_INTEGER_OVERFLOW, field);
	return true;
}

/* The bytes of a text, not yet known to be UTF-8. */
static inline bool read_text(struct reader *reader, enum cellos_wire_field field, struct text *text)
{
	uint64_t length;

	if (!read_kind(reader, MAJOR_TEXT, field, &length))
		return false;
	if (RARE(length > left(reader)))
		return fail(reader, CELLOS_WIRE_UNEXPECTED_EOF);
	text->bytes = (const char *)reader->at;
	text->length = (size_t)length;
	reader->at += text->length;
	return true;
}

/* The characters of a text, or -1: it is not UTF-8. */
static long characters(struct reader *reader, enum cellos_wire_field field, const struct text *text)
{
	long count = cellos_utf8_count((const uint8_t *)text->bytes, text->length);

	if (RARE(count < 0))
		(void)fail_field(reader, CELLOS_WIRE_INVALID_UTF8, field);
	return count;
}

/* No two keys have the same length, so the length picks the one candidate to compare with. */
#define CANDIDATE(key, field)                                                                      \
	case sizeof(key) - 1:                                                                      \
		return memcmp(text->bytes, key, sizeof(key) - 1) == 0 ? (int)(field) : -1

static inline int field_of(const struct text *text)
{
	switch (text->length) {
		CANDIDATE("content_version", CELLOS_FIELD_CONTENT_VERSION);
		CANDIDATE("probe_source", CELLOS_FIELD_PROBE_SOURCE);
		CANDIDATE("guest_pid", CELLOS_FIELD_GUEST_PID);
		CANDIDATE("guest_comm", CELLOS_FIELD_GUEST_COMM);
		CANDIDATE("guest_monotonic_ns", CELLOS_FIELD_GUEST_MONOTONIC_NS);
	default:
		return -1;
	}
}

/* `seen` has a bit for each field that stands further left. */
static inline bool read_key(struct reader *reader, unsigned *seen, enum cellos_wire_field *field)
{
	struct text key;
	int found;

	if (!read_text(reader, CELLOS_FIELD_KEY, &key))
		return false;
	found = field_of(&key); /* equal to a key of ours, so it is ASCII */
	if (RARE(found < 0) && characters(reader, CELLOS_FIELD_KEY, &key) < 0)
		return false;
	if (RARE(*seen == 0 && found != CELLOS_FIELD_CONTENT_VERSION))
		return fail(reader, CELLOS_WIRE_CONTENT_VERSION_MUST_BE_FIRST);
	if (RARE(found < 0))
		return fail(reader, CELLOS_WIRE_UNKNOWN_FIELD);
	if (RARE((*seen >> found & 1) != 0))
		return fail(reader, CELLOS_WIRE_DUPLICATE_FIELD);
	*seen |= 1U << found;
	*field = (enum cellos_wire_field)found;
	return true;
}

static bool read_version(struct reader *reader, struct cellos_probe_event *event)
{
	uint64_t version;

	if (!read_uint(reader, CELLOS_FIELD_CONTENT_VERSION, UINT16_MAX, &version))
		return false;
	if (RARE(version >> 8 != CELLOS_WIRE_CONTENT_VERSION_MAJOR)) {
		reader->error->version = (uint16_t)version;
		return fail(reader, CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION);
	}
	event->content_version = (uint16_t)version;
	return true;
}

static bool read_source(struct reader *reader, struct cellos_probe_event *event)
{
	struct text name;
	int source;

	if (!read_text(reader, CELLOS_FIELD_PROBE_SOURCE, &name))
		return false;
	source = cellos_probe_source_from_name(name.bytes, name.length);
	if (RARE(source < 0)) {
		if (characters(reader, CELLOS_FIELD_PROBE_SOURCE, &name) < 0)
			return false;
		reader->error->text = name.bytes;
		reader->error->text_length = name.length;
		return fail(reader, CELLOS_WIRE_UNKNOWN_PROBE_SOURCE);
	}
	event->probe_source = (uint8_t)source;
	return true;
}

static bool read_comm(struct reader *reader, struct cellos_probe_event *event)
{
	struct text name;
	long count;

	if (!read_text(reader, CELLOS_FIELD_GUEST_COMM, &name))
		return false;
	count = characters(reader, CELLOS_FIELD_GUEST_COMM, &name);
	if (RARE(count < 0))
		return false;
	if (RARE(count > CELLOS_GUEST_COMM_MAX_CHARS))
		return fail(reader, CELLOS_WIRE_FIELD_TOO_LONG);
	memcpy(event->guest_comm, name.bytes, name.length);
	event->guest_comm_len = (uint8_t)name.length; /* 16 characters are at most 64 bytes */
	return true;
}

static inline bool read_pair(struct reader *reader, unsigned *seen,
			     struct cellos_probe_event *event)
{
	enum cellos_wire_field field;
	uint64_t pid;

	if (!read_key(reader, seen, &field))
		return false;
	switch (field) {
	case CELLOS_FIELD_CONTENT_VERSION:
		return read_version(reader, event);
	case CELLOS_FIELD_PROBE_SOURCE:
		return read_source(reader, event);
	case CELLOS_FIELD_GUEST_PID:
		if (!read_uint(reader, field, UINT32_MAX, &pid))
			return false;
		event->guest_pid = (uint32_t)pid;
		return true;
	case CELLOS_FIELD_GUEST_COMM:
		return read_comm(reader, event);
	default: /* guest_monotonic_ns: read_key gives no sixth field */
		return read_uint(reader, field, UINT64_MAX, &event->guest_monotonic_ns);
	}
}

/* `length`: of the body, as far as it is known. */
static bool check_length(struct reader *reader, size_t length)
{
	if (length <= CELLOS_MAX_FRAME_BODY_BYTES)
		return true;
	reader->error->len = length > UINT32_MAX ? UINT32_MAX : (uint32_t)length;
	return fail(reader, CELLOS_WIRE_FRAME_TOO_LARGE);
}

/* Leaves the reader on the body that the prefix announces. */
static bool read_prefix(struct reader *reader)
{
	const uint8_t *prefix = reader->at;
	uint32_t declared;

	if (RARE(left(reader) < CELLOS_FRAME_PREFIX_BYTES)) {
		reader->error->got = (uint32_t)left(reader);
		return fail(reader, CELLOS_WIRE_SHORT_HEADER);
	}
	declared = (uint32_t)prefix[0] | (uint32_t)prefix[1] << 8 | (uint32_t)prefix[2] << 16 |
		   (uint32_t)prefix[3] << 24;
	reader->at += CELLOS_FRAME_PREFIX_BYTES;
	if (RARE(!check_length(reader, declared)))
		return false;
	if (RARE(left(reader) < declared)) {
		reader->error->declared = declared;
		reader->error->actual = (uint32_t)left(reader);
		return fail(reader, CELLOS_WIRE_FRAME_TRUNCATED);
	}
	reader->end = reader->at + declared;
	return true;
}

/* The body must end where the input ends, which may be beyond what its prefix announced. */
static bool read_body(struct reader *reader, const uint8_t *input_end,
		      struct cellos_probe_event *event)
{
	unsigned major, seen = 0;
	uint64_t pairs;

	if (!read_head(reader, &major, &pairs))
		return false;
	if (RARE(major != MAJOR_MAP || pairs != PAIRS))
		return fail(reader, CELLOS_WIRE_NOT_MAP5);
	for (int i = 0; i < PAIRS; i++) {
		if (!read_pair(reader, &seen, event))
			return false;
	}
	if (RARE(reader->at != input_end))
		return fail(reader, CELLOS_WIRE_TRAILING_BYTES);
	return true;
}

/* All of the event is set, so that two decoded events compare by memcmp; all zero on failure. */
static inline __attribute__((always_inline)) enum cellos_wire_status
decode(const uint8_t *bytes, size_t length, bool framed, struct cellos_probe_event *event,
       struct cellos_wire_error *error)
{
	struct cellos_wire_error found = {.status = CELLOS_WIRE_OK};
	const uint8_t *end = length > 0 ? bytes + length : bytes; /* an empty one may be NULL */
	struct reader reader = {.at = bytes, .end = end, .error = &found};

	memset(event, 0, sizeof(*event));
	if (RARE(!(framed ? read_prefix(&reader) : check_length(&reader, length)) ||
		 !read_body(&reader, end, event))) {
		memset(event, 0, sizeof(*event));
		if (error != NULL)
			*error = found;
	}
	return found.status;
}

enum cellos_wire_status cellos_decode_event_body(const uint8_t *body, size_t length,
						 struct cellos_probe_event *event,
						 struct cellos_wire_error *error)
{
	return decode(body, length, false, event, error);
}

enum cellos_wire_status cellos_decode_frame(const uint8_t *frame, size_t length,
					    struct cellos_probe_event *event,
					    struct cellos_wire_error *error)
{
	return decode(frame, length, true, event, error);
}
