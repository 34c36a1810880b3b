/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The agent's reports on itself, written into and read out of a name of at most 16 characters:
 * "<epoch>:<sent>" and "<lane><reason>:<count>". Pure, any thread. There is one spelling of each
 * number: no sign, no leading zero, no more digits than its modulus leaves.
 */
#include "cellos/wire.h"

#include <errno.h>
#include <string.h>

enum {
	EPOCH_DIGITS = 5,
	SENT_DIGITS = 10,
	DROPPED_DIGITS = 13,
	UINT64_DIGITS = 20,
};

_Static_assert(EPOCH_DIGITS + 1 + SENT_DIGITS <= CELLOS_GUEST_COMM_MAX_CHARS, "fits a name");
_Static_assert(3 + DROPPED_DIGITS <= CELLOS_GUEST_COMM_MAX_CHARS, "fits a name");

static char *put_decimal(char *at, uint64_t value)
{
	char digits[UINT64_DIGITS];
	size_t first = sizeof(digits);

	do {
		digits[--first] = (char)('0' + value % 10);
		value /= 10;
	} while (value != 0);
	memcpy(at, digits + first, sizeof(digits) - first);
	return at + (sizeof(digits) - first);
}

/* 99999 is followed by 1: an epoch that became 0 would say goodbye. */
static uint32_t wire_epoch(uint32_t epoch)
{
	return epoch == 0 ? 0 : (uint32_t)((epoch - 1) % (CELLOS_EPOCH_MODULUS - 1) + 1);
}

void cellos_self_report_set(struct cellos_probe_event *event,
			    const struct cellos_self_report *report)
{
	char *at = event->guest_comm;

	event->probe_source = report->source;
	if (report->source == CELLOS_SOURCE_TELEMETRY_HEARTBEAT) {
		at = put_decimal(at, wire_epoch(report->epoch));
		*at++ = ':';
		at = put_decimal(at, report->count % CELLOS_SENT_MODULUS);
	} else {
		*at++ = cellos_lane_letter(report->lane);
		*at++ = cellos_drop_reason_letter(report->reason);
		*at++ = ':';
		at = put_decimal(at, report->count % CELLOS_DROPPED_MODULUS);
	}
	*at = 0;
	event->guest_comm_len = (uint8_t)(at - event->guest_comm);
}

/* Digits up to `end` or the first other byte; NULL when there are none, too many, or 0 leads. */
static const char *get_decimal(const char *at, const char *end, int max_digits, uint64_t *value)
{
	const char *first = at;

	*value = 0;
	while (at < end && *at >= '0' && *at <= '9') {
		if (at - first == max_digits)
			return NULL;
		*value = *value * 10 + (uint64_t)(*at - '0');
		at++;
	}
	if (at == first || (*first == '0' && at - first > 1))
		return NULL;
	return at;
}

static int parse_heartbeat(const char *at, const char *end, struct cellos_self_report *report)
{
	uint64_t epoch, sent;

	at = get_decimal(at, end, EPOCH_DIGITS, &epoch);
	if (at == NULL || at == end || *at != ':')
		return -EINVAL;
	at = get_decimal(at + 1, end, SENT_DIGITS, &sent);
	if (at != end)
		return -EINVAL;
	report->epoch = (uint32_t)epoch;
	report->count = sent;
	return 0;
}

static int letter_index(char letter, char (*letter_of)(unsigned), unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (letter_of(i) == letter)
			return (int)i;
	}
	return -1;
}

static int parse_dropped(const char *at, const char *end, struct cellos_self_report *report)
{
	uint64_t count;
	int lane, reason;

	if (end - at < 4 || at[2] != ':')
		return -EINVAL;
	lane = letter_index(at[0], cellos_lane_letter, CELLOS_LANE_COUNT);
	reason = letter_index(at[1], cellos_drop_reason_letter, CELLOS_DROP_COUNT);
	if (lane < 0 || reason < 0 || get_decimal(at + 3, end, DROPPED_DIGITS, &count) != end)
		return -EINVAL;
	report->lane = (uint8_t)lane;
	report->reason = (uint8_t)reason;
	report->count = count;
	return 0;
}

int cellos_self_report_parse(const struct cellos_probe_event *event,
			     struct cellos_self_report *report)
{
	const char *name = event->guest_comm;
	const char *end;

	*report = (struct cellos_self_report){.source = event->probe_source};
	if (event->guest_comm_len > CELLOS_GUEST_COMM_MAX_CHARS)
		return -EINVAL; /* no row is longer, and what is read is ASCII */
	end = name + event->guest_comm_len;
	switch (event->probe_source) {
	case CELLOS_SOURCE_TELEMETRY_HEARTBEAT:
		return parse_heartbeat(name, end, report);
	case CELLOS_SOURCE_TELEMETRY_DROPPED:
		return parse_dropped(name, end, report);
	default:
		return -EINVAL;
	}
}
