/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Names made valid UTF-8, beside what Python's errors="replace" makes of the same bytes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

static size_t unhex(const char *hex, uint8_t *out)
{
	size_t length = 0;

	for (; strcmp(hex, "-") != 0 && hex[2 * length] != 0; length++) {
		unsigned byte;

		cr_assert_eq(sscanf(hex + 2 * length, "%2x", &byte), 1);
		out[length] = (uint8_t)byte;
	}
	return length;
}

static void check_set(const struct fenced *fenced, const uint8_t *raw, size_t raw_length,
		      const uint8_t *clean, size_t clean_length)
{
	struct cellos_probe_event event;

	memset(&event, 0x5a, sizeof(event));
	cellos_guest_comm_set(&event, (const char *)fenced_at_end(fenced, raw, raw_length),
			      raw_length);
	cr_assert_eq(event.guest_comm_len, clean_length);
	cr_assert_eq(memcmp(event.guest_comm, clean, clean_length), 0);
	cr_assert_eq(event.guest_comm[clean_length], 0);
	/* Nothing else is touched. */
	cr_assert_eq(event.guest_pid, 0x5a5a5a5a);
	cr_assert_eq(event.content_version, 0x5a5a);
	cr_assert_eq(event.probe_source, 0x5a);
	cr_assert_eq(event.guest_monotonic_ns, UINT64_C(0x5a5a5a5a5a5a5a5a));
}

static void check_raw(const uint8_t *raw, size_t raw_length, const uint8_t *clean,
		      size_t clean_length)
{
	struct cellos_raw_event from = {.monotonic_ns = 1234567,
					.pid = 42,
					.source = CELLOS_SOURCE_CAPABILITY_DENIED,
					.comm_len = (uint8_t)raw_length};
	struct cellos_probe_event event;
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length;

	memcpy(from.comm, raw, raw_length);
	memset(&event, 0x5a, sizeof(event));
	cellos_probe_event_from_raw(&event, &from);
	cr_assert_eq(event.guest_comm_len, clean_length);
	cr_assert_eq(memcmp(event.guest_comm, clean, clean_length), 0);
	cr_assert_eq(event.guest_pid, 42);
	cr_assert_eq(event.content_version, CELLOS_WIRE_CONTENT_VERSION);
	cr_assert_eq(event.probe_source, CELLOS_SOURCE_CAPABILITY_DENIED);
	cr_assert_eq(event.guest_monotonic_ns, 1234567);
	/* What comes out is always fit for the wire. */
	cr_assert_eq(cellos_encode_frame(&event, frame, sizeof(frame), &length, NULL),
		     CELLOS_WIRE_OK);
}

Test(comm, like_python)
{
	struct fenced fenced = fenced_new();
	char raw_hex[512], clean_hex[512];
	uint8_t raw[256], clean[256];
	FILE *table = fopen(LOSSY, "r");
	int rows = 0;

	cr_assert_not_null(table);
	while (fscanf(table, "%511s %511s", raw_hex, clean_hex) == 2) {
		size_t raw_length = unhex(raw_hex, raw), clean_length = unhex(clean_hex, clean);

		check_set(&fenced, raw, raw_length, clean, clean_length);
		if (raw_length <= CELLOS_RAW_COMM_MAX_BYTES)
			check_raw(raw, raw_length, clean, clean_length);
		rows++;
	}
	fclose(table);
	cr_assert_gt(rows, 20000);
}

Test(comm, every_length_of_ascii)
{
	struct fenced fenced = fenced_new();
	uint8_t raw[100];

	for (size_t length = 0; length <= sizeof(raw); length++) {
		memset(raw, 'x', sizeof(raw));
		check_set(&fenced, raw, length, raw, length < 16 ? length : 16);
		if (length <= CELLOS_RAW_COMM_MAX_BYTES)
			check_raw(raw, length, raw, length);
	}
}

/* A name without its NUL, which no kernel hands out: cut, not read beyond. */
Test(comm, raw_event_with_a_length_out_of_range)
{
	for (unsigned length = 16; length <= UINT8_MAX; length++) {
		struct cellos_raw_event from = {.comm_len = (uint8_t)length};
		struct cellos_probe_event event = {0};

		memcpy(from.comm, "0123456789abcdef", 16);
		cellos_probe_event_from_raw(&event, &from);
		cr_assert_eq(event.guest_comm_len, 15);
		cr_assert_str_eq(event.guest_comm, "0123456789abcde");
		from.comm[14] = (char)0xff;
		cellos_probe_event_from_raw(&event, &from);
		cr_assert_str_eq(event.guest_comm, "0123456789abcd\xef\xbf\xbd");
	}
}
