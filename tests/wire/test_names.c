/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The words: every name there and back, every near miss refused. */
#include <criterion/criterion.h>
#include <string.h>

#include "cellos/declaration.h"
#include "support.h"

static const char *const contract[CELLOS_SOURCE_COUNT] = {
	"process.spawned",
	"process.exited",
	"capability.denied",
	"fs.inotify_fired",
	"net.connect_attempted",
	"cell.observability.guest.telemetry.dropped",
	"cell.observability.guest.telemetry.heartbeat",
};

Test(names, sources_there_and_back)
{
	for (int source = 0; source < CELLOS_SOURCE_COUNT; source++) {
		const char *name = cellos_probe_source_name((unsigned)source);

		cr_assert_str_eq(name, contract[source]);
		cr_assert_eq(cellos_probe_source_from_name(name, strlen(name)), source);
		cr_assert(cellos_probe_source_is_known(name, strlen(name)));
		cr_assert_eq(cellos_probe_source_is_self_report(name, strlen(name)),
			     source >= CELLOS_SOURCE_EVENT_COUNT);
	}
	cr_assert_null(cellos_probe_source_name(CELLOS_SOURCE_COUNT));
	cr_assert_null(cellos_probe_source_name(UINT32_MAX));
}

Test(names, all_holds_the_five_events)
{
	cr_assert_eq(sizeof(cellos_probe_source_all) / sizeof(cellos_probe_source_all[0]), 5);
	for (int i = 0; i < 5; i++)
		cr_assert_str_eq(cellos_probe_source_all[i], contract[i]);
}

/* Each byte changed, each shorter length, one byte more. */
Test(names, near_misses_are_unknown)
{
	for (int source = 0; source < CELLOS_SOURCE_COUNT; source++) {
		size_t length = strlen(contract[source]);
		char name[64] = {0};

		memcpy(name, contract[source], length);
		for (size_t i = 0; i <= length + 1; i++)
			cr_assert_eq(cellos_probe_source_is_known(name, i), i == length);
		for (size_t i = 0; i < length; i++) {
			name[i] ^= 0x20;
			cr_assert_not(cellos_probe_source_is_known(name, length));
			cr_assert_not(cellos_probe_source_is_self_report(name, length));
			cr_assert_eq(cellos_probe_source_from_name(name, length), -1);
			name[i] ^= 0x20;
		}
	}
}

Test(names, lanes_and_reasons)
{
	static const char *const lanes[] = {"proc", "fs", "cap", "net"};

	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++) {
		cr_assert_str_eq(cellos_lane_name(i), lanes[i]);
		cr_assert_eq(cellos_lane_letter(i), "pfcn"[i]);
	}
	for (unsigned i = 0; i < CELLOS_DROP_COUNT; i++)
		cr_assert_eq(cellos_drop_reason_letter(i), "qkosx"[i]);
	cr_assert_null(cellos_lane_name(CELLOS_LANE_COUNT));
	cr_assert_eq(cellos_lane_letter(CELLOS_LANE_COUNT), 0);
	cr_assert_eq(cellos_drop_reason_letter(CELLOS_DROP_COUNT), 0);
}

Test(names, statuses_and_fields)
{
	static const char *const statuses[CELLOS_WIRE_STATUS_COUNT] = {
		"Ok",
		"ShortHeader",
		"FrameTooLarge",
		"FrameTruncated",
		"UnexpectedEof",
		"UnsupportedMajor",
		"UnsupportedAdditional",
		"NotMap5",
		"ContentVersionMustBeFirst",
		"UnsupportedContentVersion",
		"MissingField",
		"BufferTooSmall",
		"FieldType",
		"IntegerOverflow",
		"UnknownProbeSource",
		"InvalidUtf8",
		"DuplicateField",
		"UnknownField",
		"TrailingBytes",
		"FieldTooLong",
	};
	static const char *const fields[CELLOS_FIELD_COUNT] = {
		"content_version", "probe_source",       "guest_pid",
		"guest_comm",      "guest_monotonic_ns", "key",
	};

	for (int i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++)
		cr_assert_str_eq(cellos_wire_status_name((enum cellos_wire_status)i), statuses[i]);
	for (int i = 0; i < CELLOS_FIELD_COUNT; i++)
		cr_assert_str_eq(cellos_wire_field_name((enum cellos_wire_field)i), fields[i]);
	cr_assert_str_eq(cellos_wire_status_name(CELLOS_WIRE_STATUS_COUNT), "?");
	cr_assert_str_eq(cellos_wire_field_name(CELLOS_FIELD_COUNT), "?");
}

Test(names, numbers_of_the_contract)
{
	cr_assert_eq(CELLOS_MAX_FRAME_BODY_BYTES, 4096);
	cr_assert_eq(CELLOS_VMADDR_CID_HOST, 2);
	cr_assert_eq(CELLOS_VSOCK_TELEMETRY_PORT, 9001);
	cr_assert_eq(CELLOS_WIRE_CONTENT_VERSION_MAJOR, 1);
	cr_assert_eq(CELLOS_WIRE_CONTENT_VERSION, 256);
}
