/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The words of the wire: source names, lanes and their letters, error and field names. Constant
 * tables and pure look-ups; any thread. Nothing here decides what a name means.
 */
#include "cellos/wire.h"

#include <string.h>

#include "sources.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

#define NAME(source, head, bytes) [CELLOS_SOURCE_##source] = CELLOS_PROBE_SOURCE_##source,

const char *const cellos_probe_source_all[CELLOS_SOURCE_EVENT_COUNT] = {CELLOS_EACH_EVENT(NAME)};

const char *cellos_probe_source_name(unsigned source)
{
	static const char *const names[CELLOS_SOURCE_COUNT] = {CELLOS_EACH_SOURCE(NAME)};

	return source < COUNT(names) ? names[source] : NULL;
}

/* No two names have the same length, so the length picks the one candidate to compare with. */
#define CANDIDATE(source, head, bytes)                                                             \
	case bytes:                                                                                \
		return memcmp(name, CELLOS_PROBE_SOURCE_##source, bytes) == 0                      \
			       ? (int)CELLOS_SOURCE_##source                                       \
			       : -1;

int cellos_probe_source_from_name(const char *name, size_t length)
{
	switch (length) {
		CELLOS_EACH_SOURCE(CANDIDATE)
	default:
		return -1;
	}
}

bool cellos_probe_source_is_known(const char *name, size_t length)
{
	return cellos_probe_source_from_name(name, length) >= 0;
}

bool cellos_probe_source_is_self_report(const char *name, size_t length)
{
	return cellos_probe_source_from_name(name, length) >= CELLOS_SOURCE_EVENT_COUNT;
}

char cellos_lane_letter(unsigned lane)
{
	static const char letters[] = "pfcn"; /* in the order of enum cellos_lane_id */

	_Static_assert(sizeof(letters) == CELLOS_LANE_COUNT + 1, "a letter for each lane");
	return lane < CELLOS_LANE_COUNT ? letters[lane] : 0;
}

char cellos_drop_reason_letter(unsigned reason)
{
	static const char letters[] = "qkosx"; /* in the order of enum cellos_drop_reason */

	_Static_assert(sizeof(letters) == CELLOS_DROP_COUNT + 1, "a letter for each reason");
	return reason < CELLOS_DROP_COUNT ? letters[reason] : 0;
}

const char *cellos_lane_name(unsigned lane)
{
	static const char *const names[] = {"proc", "fs", "cap", "net"};

	_Static_assert(COUNT(names) == CELLOS_LANE_COUNT, "a name for each lane");
	return lane < COUNT(names) ? names[lane] : NULL;
}

const char *cellos_wire_status_name(enum cellos_wire_status status)
{
	static const char *const names[CELLOS_WIRE_STATUS_COUNT] = {
		[CELLOS_WIRE_OK] = "Ok",
		[CELLOS_WIRE_SHORT_HEADER] = "ShortHeader",
		[CELLOS_WIRE_FRAME_TOO_LARGE] = "FrameTooLarge",
		[CELLOS_WIRE_FRAME_TRUNCATED] = "FrameTruncated",
		[CELLOS_WIRE_UNEXPECTED_EOF] = "UnexpectedEof",
		[CELLOS_WIRE_UNSUPPORTED_MAJOR] = "UnsupportedMajor",
		[CELLOS_WIRE_UNSUPPORTED_ADDITIONAL] = "UnsupportedAdditional",
		[CELLOS_WIRE_NOT_MAP5] = "NotMap5",
		[CELLOS_WIRE_CONTENT_VERSION_MUST_BE_FIRST] = "ContentVersionMustBeFirst",
		[CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION] = "UnsupportedContentVersion",
		[CELLOS_WIRE_MISSING_FIELD] = "MissingField",
		[CELLOS_WIRE_BUFFER_TOO_SMALL] = "BufferTooSmall",
		[CELLOS_WIRE_FIELD_TYPE] = "FieldType",
		[CELLOS_WIRE_INTEGER_OVERFLOW] = "IntegerOverflow",
		[CELLOS_WIRE_UNKNOWN_PROBE_SOURCE] = "UnknownProbeSource",
		[CELLOS_WIRE_INVALID_UTF8] = "InvalidUtf8",
		[CELLOS_WIRE_DUPLICATE_FIELD] = "DuplicateField",
		[CELLOS_WIRE_UNKNOWN_FIELD] = "UnknownField",
		[CELLOS_WIRE_TRAILING_BYTES] = "TrailingBytes",
		[CELLOS_WIRE_FIELD_TOO_LONG] = "FieldTooLong",
	};

	return (size_t)status < COUNT(names) ? names[status] : "?";
}

const char *cellos_wire_field_name(enum cellos_wire_field field)
{
	static const char *const names[CELLOS_FIELD_COUNT] = {
		[CELLOS_FIELD_CONTENT_VERSION] = "content_version",
		[CELLOS_FIELD_PROBE_SOURCE] = "probe_source",
		[CELLOS_FIELD_GUEST_PID] = "guest_pid",
		[CELLOS_FIELD_GUEST_COMM] = "guest_comm",
		[CELLOS_FIELD_GUEST_MONOTONIC_NS] = "guest_monotonic_ns",
		[CELLOS_FIELD_KEY] = "key",
	};

	return (size_t)field < COUNT(names) ? names[field] : "?";
}
