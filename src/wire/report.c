/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The agent's reports on itself, written into and read out of a name of at most 16 characters:
 * "<epoch>:<sent>" and "<lane><reason>:<count>". Pure, any thread. There is one spelling of each
 * number: no sign, no leading zero, no more digits than its modulus leaves. So a name is read
 * leniently, and accepted when what was read is spelled just like it.
 */
#include "cellos/wire.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void cellos_self_report_set(struct cellos_probe_event *event,
			    const struct cellos_self_report *report)
{
	uint64_t epoch = report->epoch;
	int length;

	/* 99999 is followed by 1: an epoch that became 0 would say goodbye. */
	if (epoch != 0)
		epoch = (epoch - 1) % (CELLOS_EPOCH_MODULUS - 1) + 1;
	event->probe_source = report->source;
	if (report->source == CELLOS_SOURCE_TELEMETRY_HEARTBEAT)
		length = snprintf(event->guest_comm, sizeof(event->guest_comm),
				  "%" PRIu64 ":%" PRIu64, epoch,
				  report->count % CELLOS_SENT_MODULUS);
	else
		length = snprintf(event->guest_comm, sizeof(event->guest_comm), "%c%c:%" PRIu64,
				  cellos_lane_letter(report->lane),
				  cellos_drop_reason_letter(report->reason),
				  report->count % CELLOS_DROPPED_MODULUS);
	event->guest_comm_len = (uint8_t)length;
}

/* The index of `letter`, or `count`. */
static uint8_t letter_index(char letter, char (*letter_of)(unsigned), uint8_t count)
{
	uint8_t i = 0;

	while (i < count && letter_of(i) != letter)
		i++;
	return i;
}

int cellos_self_report_parse(const struct cellos_probe_event *event,
			     struct cellos_self_report *report)
{
	struct cellos_self_report said = {.source = event->probe_source};
	char name[CELLOS_GUEST_COMM_MAX_CHARS + 1] = {0};
	size_t length = event->guest_comm_len;
	struct cellos_probe_event again;
	const char *colon;

	*report = said;
	if ((said.source != CELLOS_SOURCE_TELEMETRY_HEARTBEAT &&
	     said.source != CELLOS_SOURCE_TELEMETRY_DROPPED) ||
	    length >= sizeof(name)) /* no row is longer, and what is read is ASCII */
		return -EINVAL;
	memcpy(name, event->guest_comm, length);
	colon = strchr(name, ':');
	if (colon == NULL)
		return -EINVAL;
	said.count = strtoull(colon + 1, NULL, 10);
	if (said.source == CELLOS_SOURCE_TELEMETRY_HEARTBEAT) {
		said.epoch = (uint32_t)strtoul(name, NULL, 10);
	} else {
		said.lane = letter_index(name[0], cellos_lane_letter, CELLOS_LANE_COUNT);
		said.reason = letter_index(name[1], cellos_drop_reason_letter, CELLOS_DROP_COUNT);
		if (said.lane == CELLOS_LANE_COUNT || said.reason == CELLOS_DROP_COUNT)
			return -EINVAL;
	}
	cellos_self_report_set(&again, &said);
	if (again.guest_comm_len != length || memcmp(again.guest_comm, name, length) != 0)
		return -EINVAL;
	*report = said;
	return 0;
}
