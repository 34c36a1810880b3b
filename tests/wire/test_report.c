/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Self-reports: each row written and read back, each kind of bad spelling refused. */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "support.h"

static int parse(uint8_t source, const char *name, struct cellos_self_report *report)
{
	struct cellos_probe_event event = {.probe_source = source,
					   .guest_comm_len = (uint8_t)strlen(name)};

	memcpy(event.guest_comm, name, strlen(name));
	return cellos_self_report_parse(&event, report);
}

static void there_and_back(const struct cellos_self_report *report, const char *name)
{
	struct cellos_probe_event event;
	struct cellos_self_report back;

	memset(&event, 0x5a, sizeof(event));
	cellos_self_report_set(&event, report);
	cr_assert_str_eq(event.guest_comm, name);
	cr_assert_eq(event.guest_comm_len, strlen(name));
	cr_assert_leq(event.guest_comm_len, CELLOS_GUEST_COMM_MAX_CHARS);
	cr_assert_eq(event.probe_source, report->source);
	cr_assert_eq(event.guest_pid, 0x5a5a5a5a);
	cr_assert_eq(cellos_self_report_parse(&event, &back), 0, "%s", name);
	cr_assert_eq(back.source, report->source);
	cr_assert_eq(back.lane, report->lane);
	cr_assert_eq(back.reason, report->reason);
	cr_assert_eq(back.epoch, report->epoch);
	cr_assert_eq(back.count, report->count);
}

Test(report, every_row)
{
	static const uint64_t counts[] = {0, 1, 9, 10, 99, 12345, 1000000000000, 9999999999999};
	char name[32];

	for (int lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		for (int reason = 0; reason < CELLOS_DROP_COUNT; reason++) {
			for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
				struct cellos_self_report report = {
					.source = CELLOS_SOURCE_TELEMETRY_DROPPED,
					.lane = (uint8_t)lane,
					.reason = (uint8_t)reason,
					.count = counts[i]};

				snprintf(name, sizeof(name), "%c%c:%ju", "pfcn"[lane],
					 "qkosx"[reason], (uintmax_t)counts[i]);
				there_and_back(&report, name);
			}
		}
	}
}

Test(report, heartbeats)
{
	static const uint32_t epochs[] = {0, 1, 9, 10, 99998, 99999};
	static const uint64_t counts[] = {0, 1, 10, 9999999998, 9999999999};
	char name[32];

	for (size_t e = 0; e < sizeof(epochs) / sizeof(epochs[0]); e++) {
		for (size_t c = 0; c < sizeof(counts) / sizeof(counts[0]); c++) {
			struct cellos_self_report report = {
				.source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
				.epoch = epochs[e],
				.count = counts[c]};

			snprintf(name, sizeof(name), "%u:%ju", epochs[e], (uintmax_t)counts[c]);
			there_and_back(&report, name);
		}
	}
}

Test(report, counts_wrap)
{
	struct cellos_self_report report = {.source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
					    .epoch = 100000,
					    .count = CELLOS_SENT_MODULUS + 7};
	struct cellos_probe_event event = {0};

	/* Never 0, which would say goodbye. */
	cellos_self_report_set(&event, &report);
	cr_assert_str_eq(event.guest_comm, "1:7");
	report.epoch = 100001;
	cellos_self_report_set(&event, &report);
	cr_assert_str_eq(event.guest_comm, "2:7");
	report.epoch = UINT32_MAX;
	report.count = UINT64_MAX;
	cellos_self_report_set(&event, &report);
	cr_assert_str_eq(event.guest_comm, "10245:3709551615");

	report.source = CELLOS_SOURCE_TELEMETRY_DROPPED;
	report.count = CELLOS_DROPPED_MODULUS + 12;
	cellos_self_report_set(&event, &report);
	cr_assert_str_eq(event.guest_comm, "pq:12");
}

Test(report, bad_spellings)
{
	static const char *const dropped[] = {
		"",
		"p",
		"pq",
		"pq:",
		":1",
		"p:1",
		"q:1",
		"zz:1",
		"pz:1",
		"zq:1",
		"pq1",
		"pq 1",
		"pq:-1",
		"pq:+1",
		"pq:a",
		"pq:1 ",
		" pq:1",
		"pq:00",
		"pq:01",
		"pq:1a",
		"PQ:1",
		"qp:1",
		"pqq:1",
		"pq::1",
		"pq:1:1",
		"1:1",
		"0:1",
		"pq:10000000000000",
		"pq:\xc2\xb2",
	};
	static const char *const heartbeat[] = {
		"",       ":",        "1",     "1:",   ":1",       "00001:1",
		"01:1",   "00:1",     "1:01",  "1:00", "100000:1", "1:10000000000",
		"a:1",    "1:a",      "1:1:1", " 1:1", "1 :1",     "1: 1",
		"-1:1",   "1:-1",     "+1:1",  "1;1",  "pq:1",     "1:1\n",
		"99999:", "123456:1", "1:1a",
	};
	struct cellos_self_report report;

	for (size_t i = 0; i < sizeof(dropped) / sizeof(dropped[0]); i++)
		cr_assert_eq(parse(CELLOS_SOURCE_TELEMETRY_DROPPED, dropped[i], &report), -EINVAL,
			     "'%s'", dropped[i]);
	for (size_t i = 0; i < sizeof(heartbeat) / sizeof(heartbeat[0]); i++)
		cr_assert_eq(parse(CELLOS_SOURCE_TELEMETRY_HEARTBEAT, heartbeat[i], &report),
			     -EINVAL, "'%s'", heartbeat[i]);
}

/* Each byte of two good rows replaced by each other byte: good only where a digit or letter is. */
Test(report, every_byte_changed)
{
	static const char rows[2][8] = {"nx:907", "50:31"};
	struct cellos_self_report report;

	for (int row = 0; row < 2; row++) {
		uint8_t source = row == 0 ? CELLOS_SOURCE_TELEMETRY_DROPPED
					  : CELLOS_SOURCE_TELEMETRY_HEARTBEAT;

		for (size_t i = 0; i < strlen(rows[row]); i++) {
			for (int byte = 1; byte < 256; byte++) {
				char name[8];
				const char *good = row == 0 && i == 0    ? "pfcn"
						   : row == 0 && i == 1  ? "qkosx"
						   : rows[row][i] == ':' ? ":"
						   : row == 0 && i == 3  ? "123456789"
						   : row == 1 && i == 0  ? "123456789"
						   : row == 1 && i == 3  ? "123456789"
									 : "0123456789";

				memcpy(name, rows[row], sizeof(name));
				name[i] = (char)byte;
				cr_assert_eq(parse(source, name, &report) == 0,
					     strchr(good, byte) != NULL, "'%s'", name);
			}
		}
	}
}

Test(report, no_report_at_all)
{
	struct cellos_self_report report;
	struct cellos_probe_event event = {.probe_source = CELLOS_SOURCE_TELEMETRY_DROPPED,
					   .guest_comm = "pq:1"};

	for (int source = 0; source < 256; source++) {
		bool self = source == CELLOS_SOURCE_TELEMETRY_DROPPED;

		cr_assert_eq(parse((uint8_t)source, "pq:1", &report), self ? 0 : -EINVAL);
	}
	/* A NUL is no end, and a length beyond the name's memory is not read. */
	event.guest_comm_len = 5;
	cr_assert_eq(cellos_self_report_parse(&event, &report), -EINVAL);
	event.guest_comm_len = 255;
	cr_assert_eq(cellos_self_report_parse(&event, &report), -EINVAL);
}
