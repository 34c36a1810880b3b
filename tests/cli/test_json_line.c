/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* JSON lines: exact text, whole or absent in any memory, and within the promised bounds. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cellos_json_line.h"

static char data[CELLOS_JSON_ERROR_MAX_BYTES + 1];

static struct cellos_json_line fresh(size_t capacity)
{
	struct cellos_json_line line;

	memset(data, 'Z', sizeof(data));
	cellos_json_init(&line, data, capacity);
	return line;
}

static void is(const struct cellos_json_line *line, const char *wanted)
{
	cr_assert_eq(line->length, strlen(wanted), "%.*s", (int)line->length, line->data);
	cr_assert_eq(memcmp(line->data, wanted, line->length), 0, "%.*s", (int)line->length,
		     line->data);
}

Test(json, decimal)
{
	uint64_t power = 1;
	char out[32], wanted[32];

	for (int digits = 1; digits <= 20; digits++, power *= 10) {
		const uint64_t values[] = {power - 1, power, power + 1, power * 7 / 3};

		for (int i = 0; i < 4; i++) {
			snprintf(wanted, sizeof(wanted), "%ju", (uintmax_t)values[i]);
			memset(out, 'Z', sizeof(out));
			cr_assert_eq(cellos_json_decimal(out, values[i]), strlen(wanted));
			cr_assert_eq(memcmp(out, wanted, strlen(wanted)), 0);
			cr_assert_eq(out[strlen(wanted)], 'Z');
		}
	}
	cr_assert_eq(cellos_json_decimal(out, UINT64_MAX), 20);
	cr_assert_eq(memcmp(out, "18446744073709551615", 20), 0);
}

Test(json, event)
{
	struct cellos_json_line line = fresh(sizeof(data));
	struct cellos_probe_event event = {.content_version = 256,
					   .probe_source = CELLOS_SOURCE_CAPABILITY_DENIED,
					   .guest_pid = UINT32_MAX,
					   .guest_monotonic_ns = UINT64_MAX,
					   .guest_comm = "na\xc3\xafve \"x\\",
					   .guest_comm_len = 10};

	cr_assert_eq(cellos_json_event(&line, &event), 0);
	is(&line, "{\"content_version\":256,\"probe_source\":\"capability.denied\","
		  "\"guest_pid\":4294967295,\"guest_comm\":\"na\xc3\xafve \\\"x\\\\\","
		  "\"guest_monotonic_ns\":18446744073709551615}\n");
}

/* Every byte below 0x80 as a name of its own. */
Test(json, every_ascii_byte)
{
	for (int byte = 0; byte < 0x80; byte++) {
		struct cellos_json_line line = fresh(sizeof(data)), text;
		struct cellos_probe_event event = {.guest_comm_len = 1};
		char escaped[8], wanted[256], text_data[64];

		if (byte == '\b' || byte == '\t' || byte == '\n' || byte == '\f' || byte == '\r')
			snprintf(escaped, sizeof(escaped), "\\%c", "btn?fr"[byte - '\b']);
		else if (byte < 0x20)
			snprintf(escaped, sizeof(escaped), "\\u%04x", byte);
		else
			snprintf(escaped, sizeof(escaped), "%s%c",
				 byte == '"' || byte == '\\' ? "\\" : "", byte);
		event.guest_comm[0] = (char)byte;
		cr_assert_eq(cellos_json_event(&line, &event), 0);
		snprintf(
			wanted, sizeof(wanted),
			"{\"content_version\":0,\"probe_source\":\"process.spawned\",\"guest_pid\":"
			"0,\"guest_comm\":\"%s\",\"guest_monotonic_ns\":0}\n",
			escaped);
		is(&line, wanted);

		cellos_json_init(&text, text_data, sizeof(text_data));
		cellos_json_begin(&text);
		cellos_json_add_text(&text, "t", event.guest_comm, 1);
		cr_assert_eq(cellos_json_end(&text), 0);
		snprintf(wanted, sizeof(wanted), "{\"t\":\"%s\"}\n", escaped);
		is(&text, wanted);
	}
}

Test(json, event_within_its_bound)
{
	struct cellos_json_line line = fresh(CELLOS_JSON_EVENT_MAX_BYTES);
	struct cellos_probe_event event = {.content_version = UINT16_MAX,
					   .probe_source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
					   .guest_pid = UINT32_MAX,
					   .guest_monotonic_ns = UINT64_MAX,
					   .guest_comm_len = 64};

	/* 64 NULs are no decoded name, but the worst that fits the struct. */
	cr_assert_eq(cellos_json_event(&line, &event), 0);
	cr_assert_leq(line.length, CELLOS_JSON_EVENT_MAX_BYTES);
	cr_assert_eq(data[CELLOS_JSON_EVENT_MAX_BYTES], 'Z');
	cr_assert_eq(cellos_json_event(&line, &event), -ENOSPC);
	line = fresh(CELLOS_JSON_EVENT_MAX_BYTES - 1);
	cr_assert_eq(cellos_json_event(&line, &event), -ENOSPC);
	cr_assert_eq(line.length, 0);
	cr_assert_eq(data[0], 'Z');
	line = fresh(sizeof(data));
	event.guest_comm_len = 65;
	cr_assert_eq(cellos_json_event(&line, &event), -EINVAL);
	event.guest_comm_len = 0;
	event.probe_source = CELLOS_SOURCE_COUNT;
	cr_assert_eq(cellos_json_event(&line, &event), -EINVAL);
}

Test(json, every_error)
{
	static const char *const wanted[CELLOS_WIRE_STATUS_COUNT] = {
		[CELLOS_WIRE_SHORT_HEADER] = ",\"got\":2",
		[CELLOS_WIRE_FRAME_TOO_LARGE] = ",\"len\":4294967295",
		[CELLOS_WIRE_FRAME_TRUNCATED] = ",\"declared\":7,\"actual\":6",
		[CELLOS_WIRE_UNSUPPORTED_MAJOR] = ",\"major\":7",
		[CELLOS_WIRE_UNSUPPORTED_ADDITIONAL] = ",\"additional\":31",
		[CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION] = ",\"version\":512",
		[CELLOS_WIRE_MISSING_FIELD] = ",\"field\":\"key\"",
		[CELLOS_WIRE_BUFFER_TOO_SMALL] = ",\"needed\":203",
		[CELLOS_WIRE_FIELD_TYPE] = ",\"field\":\"key\",\"major\":7",
		[CELLOS_WIRE_INTEGER_OVERFLOW] = ",\"field\":\"key\"",
		[CELLOS_WIRE_UNKNOWN_PROBE_SOURCE] = ",\"text\":\"a\\u0000\\\"\"",
		[CELLOS_WIRE_INVALID_UTF8] = ",\"field\":\"key\"",
	};

	for (int status = 1; status < CELLOS_WIRE_STATUS_COUNT; status++) {
		struct cellos_json_line line = fresh(sizeof(data));
		struct cellos_wire_error error = {.status = (enum cellos_wire_status)status,
						  .field = CELLOS_FIELD_KEY,
						  .major = 7,
						  .additional = 31,
						  .version = 512,
						  .got = 2,
						  .len = UINT32_MAX,
						  .declared = 7,
						  .actual = 6,
						  .needed = 203,
						  .text = "a\0\"",
						  .text_length = 3};
		char all[256];

		cr_assert_eq(cellos_json_error(&line, &error), 0);
		snprintf(all, sizeof(all), "{\"error\":\"%s\"%s}\n",
			 cellos_wire_status_name(error.status),
			 wanted[status] == NULL ? "" : wanted[status]);
		is(&line, all);
	}
}

Test(json, error_within_its_bound)
{
	static char text[CELLOS_MAX_FRAME_BODY_BYTES]; /* NULs: each takes six bytes */
	struct cellos_json_line line = fresh(CELLOS_JSON_ERROR_MAX_BYTES);
	struct cellos_wire_error error = {.status = CELLOS_WIRE_UNKNOWN_PROBE_SOURCE,
					  .text = text,
					  .text_length = sizeof(text)};

	cr_assert_eq(cellos_json_error(&line, &error), 0);
	cr_assert_gt(line.length, 6 * sizeof(text));
}

static int make_report(struct cellos_json_line *line)
{
	cellos_json_begin(line);
	cellos_json_add_string(line, "report", "summary");
	cellos_json_add_u64(line, "frames", 12);
	cellos_json_open(line, "bad");
	cellos_json_add_u64(line, "NotMap5", 1);
	cellos_json_add_u64(line, "ShortHeader", 2);
	cellos_json_close(line);
	cellos_json_open(line, "dropped");
	cellos_json_close(line);
	cellos_json_add_bool(line, "yes", true);
	cellos_json_add_bool(line, "no", false);
	return cellos_json_end(line);
}

/* In every memory that is too small nothing stays, and what stood before stays as it was. */
Test(json, whole_or_absent)
{
	static const char wanted[] =
		"{\"report\":\"summary\",\"frames\":12,\"bad\":{\"NotMap5\":1,\"ShortHeader\":2},"
		"\"dropped\":{},\"yes\":true,\"no\":false}\n";
	size_t length = sizeof(wanted) - 1;

	for (size_t capacity = 0; capacity < 2 * length + 2; capacity++) {
		struct cellos_json_line line = fresh(capacity);
		int first = make_report(&line), second;
		size_t after_first = line.length;

		cr_assert_eq(first, capacity < length ? -ENOSPC : 0);
		cr_assert_eq(after_first, capacity < length ? 0 : length);
		second = make_report(&line);
		cr_assert_eq(second, capacity < after_first + length ? -ENOSPC : 0);
		cr_assert_eq(line.length, after_first + (second == 0 ? length : 0));
		for (size_t at = 0; at < line.length; at += length)
			cr_assert_eq(memcmp(data + at, wanted, length), 0);
		cr_assert_eq(data[capacity], 'Z', "wrote beyond the memory");
	}
}
