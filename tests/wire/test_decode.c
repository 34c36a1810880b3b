/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The decoder's details: what each error carries, and which of two faults wins. Bodies are put
 * together from pieces of hex, so that a test shows the bytes it is about.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

/* The pieces of a sound body. */
#define MAP "a5"
#define K_VERSION "6f636f6e74656e745f76657273696f6e"
#define VERSION K_VERSION "190100"
#define K_SOURCE "6c70726f62655f736f75726365"
#define SOURCE K_SOURCE "6f70726f636573732e737061776e6564"
#define K_PID "6967756573745f706964"
#define PID K_PID "1904d2"
#define K_COMM "6a67756573745f636f6d6d"
#define COMM K_COMM "627368"
#define K_TIME "7267756573745f6d6f6e6f746f6e69635f6e73"
#define TIME K_TIME "1a000f4240"

static size_t unhex(const char *hex, uint8_t *out)
{
	size_t length = strlen(hex) / 2;

	for (size_t i = 0; i < length; i++) {
		unsigned byte;

		cr_assert_eq(sscanf(hex + 2 * i, "%2x", &byte), 1);
		out[i] = (uint8_t)byte;
	}
	return length;
}

/* Decodes `hex` flush against a fence; the error as the decoder told it. */
static struct cellos_wire_error decode(const char *hex, struct cellos_probe_event *event)
{
	static struct fenced fenced;
	struct cellos_wire_error error;
	uint8_t bytes[FENCED_BYTES];
	size_t length = unhex(hex, bytes);
	enum cellos_wire_status status;

	if (fenced.first == NULL)
		fenced = fenced_new();
	memset(&error, 0, sizeof(error));
	status = cellos_decode_event_body(fenced_at_end(&fenced, bytes, length), length, event,
					  &error);
	cr_assert_eq(error.status, status);
	return error;
}

static void refuse(const char *hex, const struct cellos_wire_error *wanted)
{
	static const struct cellos_probe_event zero_event;
	struct cellos_probe_event event;
	struct cellos_wire_error error;

	memset(&event, 0x5a, sizeof(event));
	error = decode(hex, &event);
	cr_assert_eq(error.status, wanted->status, "%s: got %s, not %s", hex,
		     cellos_wire_status_name(error.status),
		     cellos_wire_status_name(wanted->status));
	cr_assert_eq(error.field, wanted->field, "%s: field %s", hex,
		     cellos_wire_field_name(error.field));
	cr_assert_eq(error.major, wanted->major);
	cr_assert_eq(error.additional, wanted->additional);
	cr_assert_eq(error.version, wanted->version);
	cr_assert_eq(error.got, 0);
	cr_assert_eq(error.len, 0);
	cr_assert_eq(error.needed, 0);
	cr_assert_eq(error.text_length, wanted->text_length);
	if (wanted->text_length > 0)
		cr_assert_eq(memcmp(error.text, wanted->text, wanted->text_length), 0);
	cr_assert_eq(memcmp(&event, &zero_event, sizeof(event)), 0);
}

#define REFUSE(hex, ...) refuse(hex, &(struct cellos_wire_error){.status = __VA_ARGS__})

Test(decode, a_sound_body)
{
	struct cellos_probe_event event;

	cr_assert_eq(decode(MAP VERSION SOURCE PID COMM TIME, &event).status, CELLOS_WIRE_OK);
	cr_assert_eq(event.content_version, 256);
	cr_assert_eq(event.guest_pid, 1234);
	cr_assert_eq(event.guest_monotonic_ns, 1000000);
	cr_assert_str_eq(event.guest_comm, "sh");
}

/* Fields two to five in each of their 24 orders. */
Test(decode, any_order)
{
	static const char *const fields[] = {SOURCE, PID, COMM, TIME};
	struct cellos_probe_event wanted, event;
	char hex[512];

	decode(MAP VERSION SOURCE PID COMM TIME, &wanted);
	for (int order = 0; order < 256; order++) {
		int picked[4], used = 0;

		snprintf(hex, sizeof(hex), "%s", MAP VERSION);
		for (int i = 0; i < 4; i++) {
			picked[i] = order >> (2 * i) & 3;
			used |= 1 << picked[i];
			strcat(hex, fields[picked[i]]);
		}
		if (used == 15) {
			cr_assert_eq(decode(hex, &event).status, CELLOS_WIRE_OK);
			cr_assert(same_event(&event, &wanted));
		} else {
			REFUSE(hex, CELLOS_WIRE_DUPLICATE_FIELD);
		}
	}
}

Test(decode, every_form_of_an_integer)
{
	static const char *const forms[] = {"17", "1817", "190017", "1a00000017",
					    "1b0000000000000017"};
	struct cellos_probe_event event;
	char hex[512];

	for (size_t i = 0; i < 5; i++) {
		snprintf(hex, sizeof(hex), MAP VERSION SOURCE K_PID "%s" COMM K_TIME "%s", forms[i],
			 forms[i]);
		cr_assert_eq(decode(hex, &event).status, CELLOS_WIRE_OK);
		cr_assert_eq(event.guest_pid, 23);
		cr_assert_eq(event.guest_monotonic_ns, 23);
	}
	cr_assert_eq(decode(MAP K_VERSION "1b00000000000001ff" SOURCE K_PID "1affffffff" COMM K_TIME
					  "1bffffffffffffffff",
			    &event)
			     .status,
		     CELLOS_WIRE_OK);
	cr_assert_eq(event.content_version, 0x1ff);
	cr_assert_eq(event.guest_pid, UINT32_MAX);
	cr_assert_eq(event.guest_monotonic_ns, UINT64_MAX);
}

Test(decode, every_form_of_a_length)
{
	static const char *const heads[] = {"62", "7802", "790002", "7a00000002",
					    "7b0000000000000002"};
	struct cellos_probe_event event;
	char hex[512];

	for (size_t i = 0; i < 5; i++) {
		snprintf(hex, sizeof(hex), MAP VERSION SOURCE PID K_COMM "%s7368" TIME, heads[i]);
		cr_assert_eq(decode(hex, &event).status, CELLOS_WIRE_OK);
		cr_assert_str_eq(event.guest_comm, "sh");
	}
	cr_assert_eq(decode("bb0000000000000005" VERSION SOURCE PID COMM TIME, &event).status, 0);
	cr_assert_eq(decode(MAP "780f"
				"636f6e74656e745f76657273696f6e"
				"190100" SOURCE PID COMM TIME,
			    &event)
			     .status,
		     0);
}

/* Each initial byte at the top, as a key and as a value. */
Test(decode, every_initial_byte)
{
	char top[8], key[64], value[512];

	for (unsigned byte = 0; byte <= 255; byte++) {
		unsigned major = byte >> 5, additional = byte & 31;
		struct cellos_wire_error wanted = {0};

		snprintf(top, sizeof(top), "%02x", byte);
		snprintf(key, sizeof(key), MAP "%02x", byte);
		snprintf(value, sizeof(value), MAP VERSION SOURCE K_PID "%02x", byte);
		if (major != 0 && major != 3 && major != 5) {
			wanted.status = CELLOS_WIRE_UNSUPPORTED_MAJOR;
			wanted.major = (uint8_t)major;
		} else if (additional >= 28) {
			wanted.status = CELLOS_WIRE_UNSUPPORTED_ADDITIONAL;
			wanted.additional = (uint8_t)additional;
		} else if (additional >= 24) {
			wanted.status = CELLOS_WIRE_UNEXPECTED_EOF;
		} else {
			continue;
		}
		refuse(top, &wanted);
		refuse(key, &wanted);
		refuse(value, &wanted);
	}
}

Test(decode, top_item)
{
	REFUSE("", CELLOS_WIRE_UNEXPECTED_EOF);
	REFUSE("05", CELLOS_WIRE_NOT_MAP5);
	REFUSE("65", CELLOS_WIRE_NOT_MAP5);
	REFUSE("a4", CELLOS_WIRE_NOT_MAP5);
	REFUSE("a6", CELLOS_WIRE_NOT_MAP5);
	REFUSE("b900ff", CELLOS_WIRE_NOT_MAP5);
	REFUSE("bb0000000100000005", CELLOS_WIRE_NOT_MAP5);
	REFUSE("b9", CELLOS_WIRE_UNEXPECTED_EOF);
	REFUSE("a5", CELLOS_WIRE_UNEXPECTED_EOF);
}

/* A text as key: kind before bytes before UTF-8 before value. */
Test(decode, keys)
{
	REFUSE(MAP "00", CELLOS_WIRE_FIELD_TYPE, .field = CELLOS_FIELD_KEY, .major = 0);
	REFUSE(MAP "a0", CELLOS_WIRE_FIELD_TYPE, .field = CELLOS_FIELD_KEY, .major = 5);
	REFUSE(MAP "63ffff", CELLOS_WIRE_UNEXPECTED_EOF);
	REFUSE(MAP "62ff61", CELLOS_WIRE_INVALID_UTF8, .field = CELLOS_FIELD_KEY);
	REFUSE(MAP "60", CELLOS_WIRE_CONTENT_VERSION_MUST_BE_FIRST);
	REFUSE(MAP PID, CELLOS_WIRE_CONTENT_VERSION_MUST_BE_FIRST);
	REFUSE(MAP VERSION "62ff61", CELLOS_WIRE_INVALID_UTF8, .field = CELLOS_FIELD_KEY);
	REFUSE(MAP VERSION "6161", CELLOS_WIRE_UNKNOWN_FIELD);
	REFUSE(MAP VERSION "60", CELLOS_WIRE_UNKNOWN_FIELD);
	REFUSE(MAP VERSION "6967756573745f70696563", CELLOS_WIRE_UNKNOWN_FIELD);
	REFUSE(MAP VERSION "6763656c6c5f6964", CELLOS_WIRE_UNKNOWN_FIELD);
	REFUSE(MAP VERSION K_VERSION, CELLOS_WIRE_DUPLICATE_FIELD);
	REFUSE(MAP VERSION PID K_PID, CELLOS_WIRE_DUPLICATE_FIELD);
	REFUSE(MAP VERSION "7bffffffffffffffff61", CELLOS_WIRE_UNEXPECTED_EOF);
}

Test(decode, kinds_of_values)
{
	static const char *const integers[] = {K_VERSION, VERSION K_PID, VERSION K_TIME};
	static const char *const texts[] = {VERSION K_SOURCE, VERSION K_COMM};
	static const enum cellos_wire_field integer_fields[] = {CELLOS_FIELD_CONTENT_VERSION,
								CELLOS_FIELD_GUEST_PID,
								CELLOS_FIELD_GUEST_MONOTONIC_NS};
	static const enum cellos_wire_field text_fields[] = {CELLOS_FIELD_PROBE_SOURCE,
							     CELLOS_FIELD_GUEST_COMM};
	char hex[512];

	for (int i = 0; i < 3; i++) {
		/* Kind before the text's bytes: that it ends early does not matter. */
		snprintf(hex, sizeof(hex),
			 MAP "%s"
			     "78ff",
			 integers[i]);
		REFUSE(hex, CELLOS_WIRE_FIELD_TYPE, .field = integer_fields[i], .major = 3);
		snprintf(hex, sizeof(hex),
			 MAP "%s"
			     "a0",
			 integers[i]);
		REFUSE(hex, CELLOS_WIRE_FIELD_TYPE, .field = integer_fields[i], .major = 5);
	}
	for (int i = 0; i < 2; i++) {
		snprintf(hex, sizeof(hex),
			 MAP "%s"
			     "00",
			 texts[i]);
		REFUSE(hex, CELLOS_WIRE_FIELD_TYPE, .field = text_fields[i], .major = 0);
		snprintf(hex, sizeof(hex),
			 MAP "%s"
			     "a0",
			 texts[i]);
		REFUSE(hex, CELLOS_WIRE_FIELD_TYPE, .field = text_fields[i], .major = 5);
		snprintf(hex, sizeof(hex),
			 MAP "%s"
			     "62c0af",
			 texts[i]);
		REFUSE(hex, CELLOS_WIRE_INVALID_UTF8, .field = text_fields[i]);
		snprintf(hex, sizeof(hex),
			 MAP "%s"
			     "63c0af",
			 texts[i]);
		REFUSE(hex, CELLOS_WIRE_UNEXPECTED_EOF);
	}
}

Test(decode, values)
{
	REFUSE(MAP K_VERSION "1a00010000", CELLOS_WIRE_INTEGER_OVERFLOW,
	       .field = CELLOS_FIELD_CONTENT_VERSION);
	REFUSE(MAP K_VERSION "19ffff", CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION, .version = 0xffff);
	REFUSE(MAP K_VERSION "1900ff", CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION, .version = 0xff);
	REFUSE(MAP K_VERSION "190200", CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION, .version = 0x200);
	REFUSE(MAP K_VERSION "01", CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION, .version = 1);
	REFUSE(MAP VERSION K_PID "1b0000000100000000", CELLOS_WIRE_INTEGER_OVERFLOW,
	       .field = CELLOS_FIELD_GUEST_PID);
	REFUSE(MAP VERSION K_SOURCE "6178", CELLOS_WIRE_UNKNOWN_PROBE_SOURCE, .text = "x",
	       .text_length = 1);
	REFUSE(MAP VERSION K_SOURCE "60", CELLOS_WIRE_UNKNOWN_PROBE_SOURCE);
	REFUSE(MAP VERSION K_SOURCE "7070726f636573732e737061776e656400",
	       CELLOS_WIRE_UNKNOWN_PROBE_SOURCE, .text = "process.spawned", .text_length = 16);
	/* 17 characters, then the same with one that is not UTF-8 at their end. */
	REFUSE(MAP VERSION K_COMM "716161616161616161616161616161616161",
	       CELLOS_WIRE_FIELD_TOO_LONG);
	REFUSE(MAP VERSION K_COMM "7261616161616161616161616161616161"
				  "61ff",
	       CELLOS_WIRE_INVALID_UTF8, .field = CELLOS_FIELD_GUEST_COMM);
	REFUSE(MAP VERSION SOURCE PID COMM TIME "00", CELLOS_WIRE_TRAILING_BYTES);
	/* Map(5) is counted, so a sixth pair is trailing bytes, whatever it holds. */
	REFUSE(MAP VERSION SOURCE PID COMM TIME PID, CELLOS_WIRE_TRAILING_BYTES);
}

Test(decode, frames)
{
	uint8_t frame[8] = {1, 0, 0, 0, 5, 0xff};
	struct cellos_probe_event event;
	struct cellos_wire_error error;

	/* What stands in the frame comes before what follows it. */
	cr_assert_eq(cellos_decode_frame(frame, 6, &event, &error), CELLOS_WIRE_NOT_MAP5);
	cr_assert_eq(cellos_decode_frame(NULL, 0, &event, &error), CELLOS_WIRE_SHORT_HEADER);
	cr_assert_eq(error.got, 0);
	cr_assert_eq(cellos_decode_event_body(NULL, 0, &event, &error), CELLOS_WIRE_UNEXPECTED_EOF);
	memcpy(frame, "\x00\x10\x00\x00", 4);
	cr_assert_eq(cellos_decode_frame(frame, 8, &event, &error), CELLOS_WIRE_FRAME_TRUNCATED);
	cr_assert_eq(error.declared, 4096);
	cr_assert_eq(error.actual, 4);
	memcpy(frame, "\x01\x10\x00\x00", 4);
	cr_assert_eq(cellos_decode_frame(frame, 8, &event, &error), CELLOS_WIRE_FRAME_TOO_LARGE);
	cr_assert_eq(error.len, 4097);
}

Test(decode, bodies_over_the_limit)
{
	static uint8_t body[CELLOS_MAX_FRAME_BODY_BYTES + 1];
	struct cellos_probe_event event;
	struct cellos_wire_error error;

	cr_assert_eq(cellos_decode_event_body(body, sizeof(body), &event, &error),
		     CELLOS_WIRE_FRAME_TOO_LARGE);
	cr_assert_eq(error.len, 4097);
	cr_assert_eq(cellos_decode_event_body(body, sizeof(body) - 1, &event, &error),
		     CELLOS_WIRE_NOT_MAP5);
}

/* The last byte of a decoded name may be the 64th; a NUL follows it all the same. */
Test(decode, longest_name)
{
	struct cellos_probe_event event;
	char hex[512] = MAP VERSION SOURCE PID K_COMM "7840";

	for (int i = 0; i < 16; i++)
		strcat(hex, "f09f9880");
	strcat(hex, TIME);
	cr_assert_eq(decode(hex, &event).status, CELLOS_WIRE_OK);
	cr_assert_eq(event.guest_comm_len, 64);
	cr_assert_eq(strlen(event.guest_comm), 64);
}
