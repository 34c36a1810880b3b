/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The encoder against a plain one that shares no code with it: every edge of every integer form
 * with every length of name and every source; then its refusals with their details.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "support.h"

static const uint64_t edges[] = {
	0,
	1,
	22,
	23,
	24,
	25,
	31,
	32,
	127,
	128,
	254,
	255,
	256,
	257,
	32767,
	65534,
	65535,
	65536,
	65537,
	0x7fffffff,
	0x80000000,
	0xfffffffe,
	0xffffffff,
	UINT64_C(0x100000000),
	UINT64_C(0x100000001),
	UINT64_C(0x7fffffffffffffff),
	UINT64_C(0x8000000000000000),
	UINT64_C(0x0123456789abcdef),
	UINT64_MAX - 1,
	UINT64_MAX,
};
#define EDGES (sizeof(edges) / sizeof(edges[0]))

static void check_event(const struct cellos_probe_event *event)
{
	uint8_t wanted[512], out[CELLOS_ENCODED_FRAME_MAX_BYTES + 16];
	size_t wanted_length = plain_frame(event, wanted), length;
	struct cellos_probe_event back;

	memset(out, 0xa5, sizeof(out));
	cr_assert_eq(cellos_encode_frame(event, out, CELLOS_ENCODED_FRAME_MAX_BYTES, &length, NULL),
		     CELLOS_WIRE_OK);
	cr_assert_eq(length, wanted_length);
	cr_assert_eq(memcmp(out, wanted, length), 0, "source %u pid %u time %ju name of %u bytes",
		     event->probe_source, event->guest_pid, (uintmax_t)event->guest_monotonic_ns,
		     event->guest_comm_len);
	for (size_t i = CELLOS_ENCODED_FRAME_MAX_BYTES; i < sizeof(out); i++)
		cr_assert_eq(out[i], 0xa5);
	cr_assert_eq(cellos_decode_frame(out, length, &back, NULL), CELLOS_WIRE_OK);
	if (event->content_version == 0)
		back.content_version = 0;
	cr_assert(same_event(event, &back));

	cr_assert_eq(
		cellos_encode_event_body(event, out, CELLOS_ENCODED_FRAME_MAX_BYTES, &length, NULL),
		CELLOS_WIRE_OK);
	cr_assert_eq(length, wanted_length - 4);
	cr_assert_eq(memcmp(out, wanted + 4, length), 0);
}

/* ASCII of `length` characters, then garbage: what follows the name must not matter. */
static void set_name(struct cellos_probe_event *event, size_t length, int garbage)
{
	memset(event->guest_comm, garbage, sizeof(event->guest_comm));
	for (size_t i = 0; i < length; i++)
		event->guest_comm[i] = (char)('a' + i);
	event->guest_comm_len = (uint8_t)length;
}

Test(encode, every_pid_edge_with_every_time_edge)
{
	struct cellos_probe_event event = {.content_version = 256};

	for (unsigned source = 0; source < CELLOS_SOURCE_COUNT; source++) {
		for (size_t pid = 0; pid < EDGES && edges[pid] <= UINT32_MAX; pid++) {
			for (size_t time = 0; time < EDGES; time++) {
				event.probe_source = (uint8_t)source;
				event.guest_pid = (uint32_t)edges[pid];
				event.guest_monotonic_ns = edges[time];
				set_name(&event, (pid + time) % 17, 0);
				check_event(&event);
			}
		}
	}
}

Test(encode, every_length_of_name)
{
	static const int garbage[] = {0, 'x', 0xff};
	struct cellos_probe_event event = {0};

	for (unsigned source = 0; source < CELLOS_SOURCE_COUNT; source++) {
		for (size_t length = 0; length <= 16; length++) {
			for (size_t time = 0; time < EDGES; time++) {
				event.probe_source = (uint8_t)source;
				event.guest_pid = (uint32_t)edges[time % 20];
				event.guest_monotonic_ns = edges[time];
				set_name(&event, length, garbage[time % 3]);
				check_event(&event);
			}
		}
	}
}

/* One to sixteen characters of one to four bytes: lengths on both sides of the 1-byte head. */
Test(encode, wide_names)
{
	static const char *const characters[] = {"a", "\xc3\xa9", "\xe2\x82\xac",
						 "\xf0\x9f\x98\x80"};

	for (size_t wide = 0; wide < 4; wide++) {
		struct cellos_probe_event event = {.probe_source = 3, .guest_pid = 70000};

		for (size_t count = 1; count <= 16; count++) {
			memcpy(event.guest_comm + event.guest_comm_len, characters[wide], wide + 1);
			event.guest_comm_len = (uint8_t)(event.guest_comm_len + wide + 1);
			check_event(&event);
		}
		event.guest_comm[event.guest_comm_len++] = 'a';
		cr_assert_eq(event.guest_comm_len, 16 * (wide + 1) + 1);
		uint8_t out[256];
		size_t length;
		struct cellos_wire_error error = {0};
		cr_assert_eq(cellos_encode_frame(&event, out, sizeof(out), &length, &error),
			     CELLOS_WIRE_FIELD_TOO_LONG);
		cr_assert_eq(error.status, CELLOS_WIRE_FIELD_TOO_LONG);
		cr_assert_eq(length, 0);
	}
}

Test(encode, longest_frame_is_the_constant)
{
	struct cellos_probe_event event = {.probe_source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
					   .guest_pid = UINT32_MAX,
					   .guest_monotonic_ns = UINT64_MAX,
					   .guest_comm_len = 64};
	uint8_t out[256];
	size_t length;

	for (int i = 0; i < 16; i++)
		memcpy(event.guest_comm + 4 * i, "\xf0\x9f\x98\x80", 4);
	cr_assert_eq(cellos_encode_frame(&event, out, sizeof(out), &length, NULL), CELLOS_WIRE_OK);
	cr_assert_eq(length, CELLOS_ENCODED_FRAME_MAX_BYTES);
}

Test(encode, every_content_version)
{
	for (unsigned version = 0; version <= UINT16_MAX; version++) {
		struct cellos_probe_event event = {.content_version = (uint16_t)version};
		struct cellos_wire_error error = {0};
		uint8_t out[256];
		size_t length = 4711;
		enum cellos_wire_status status =
			cellos_encode_frame(&event, out, sizeof(out), &length, &error);

		if (version == 0 || version >> 8 == 1) {
			cr_assert_eq(status, CELLOS_WIRE_OK);
			check_event(&event);
			continue;
		}
		cr_assert_eq(status, CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION);
		cr_assert_eq(error.status, status);
		cr_assert_eq(error.version, version);
		cr_assert_eq(length, 0);
	}
}

static void refuse(const struct cellos_probe_event *event, const struct cellos_wire_error *wanted)
{
	uint8_t out[256];
	size_t length = 4711;
	struct cellos_wire_error error;

	memset(&error, 0xff, sizeof(error));
	memset(out, 0xa5, sizeof(out));
	cr_assert_eq(cellos_encode_frame(event, out, sizeof(out), &length, &error), wanted->status);
	cr_assert_eq(length, 0);
	cr_assert_eq(out[0], 0xa5);
	cr_assert_eq(error.status, wanted->status);
	cr_assert_eq(error.field, wanted->field);
	cr_assert_eq(error.needed, wanted->needed);
	cr_assert_eq(error.version, wanted->version);
	cr_assert_null(error.text);
	cr_assert_eq(error.text_length, 0);
	cr_assert_eq(cellos_encode_event_body(event, out, sizeof(out), &length, NULL),
		     wanted->status);
}

Test(encode, unknown_sources)
{
	for (unsigned source = CELLOS_SOURCE_COUNT; source <= UINT8_MAX; source++) {
		struct cellos_probe_event event = {.probe_source = (uint8_t)source};

		refuse(&event,
		       &(struct cellos_wire_error){.status = CELLOS_WIRE_UNKNOWN_PROBE_SOURCE});
	}
}

Test(encode, names_that_are_not_utf8)
{
	static const char *const names[] = {
		"\xff",         "ab\x80",           "\xc0\xaf",
		"\xed\xa0\x80", "\xf4\x90\x80\x80", "0123456789abcde\xe2"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		struct cellos_probe_event event = {.guest_comm_len = (uint8_t)strlen(names[i])};

		memcpy(event.guest_comm, names[i], event.guest_comm_len);
		refuse(&event, &(struct cellos_wire_error){.status = CELLOS_WIRE_INVALID_UTF8,
							   .field = CELLOS_FIELD_GUEST_COMM});
	}
}

Test(encode, names_beyond_their_memory)
{
	for (unsigned length = 65; length <= UINT8_MAX; length++) {
		struct cellos_probe_event event = {.guest_comm_len = (uint8_t)length};

		refuse(&event, &(struct cellos_wire_error){.status = CELLOS_WIRE_FIELD_TOO_LONG});
	}
}

/* Of several faults the one that stands first on the wire counts, and content before space. */
Test(encode, order_of_checks)
{
	struct cellos_probe_event event = {.content_version = 512,
					   .probe_source = 200,
					   .guest_comm_len = 1,
					   .guest_comm = "\xff"};
	size_t length;

	cr_assert_eq(cellos_encode_frame(&event, NULL, 0, &length, NULL),
		     CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION);
	event.content_version = 0;
	cr_assert_eq(cellos_encode_frame(&event, NULL, 0, &length, NULL),
		     CELLOS_WIRE_UNKNOWN_PROBE_SOURCE);
	event.probe_source = 0;
	cr_assert_eq(cellos_encode_frame(&event, NULL, 0, &length, NULL), CELLOS_WIRE_INVALID_UTF8);
	event.guest_comm_len = 0;
	cr_assert_eq(cellos_encode_frame(&event, NULL, 0, &length, NULL),
		     CELLOS_WIRE_BUFFER_TOO_SMALL);
}
