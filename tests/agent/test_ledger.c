/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* When heartbeats and rows fall due, with the clock in the test's hand. */
#include <criterion/criterion.h>
#include <string.h>

#include "ledger.h"

#define INTERVAL UINT64_C(1000)

static struct ledger ledger;
static ledger_counts counts;
static struct cellos_self_report due[LEDGER_MAX_DUE];

static void start(void)
{
	memset(counts, 0, sizeof(counts));
	ledger = (struct ledger){.interval_ns = INTERVAL};
}

/* Plans and tells all, as a sender whose write went out whole. */
static size_t turn(uint64_t now, uint64_t sent, bool goodbye)
{
	size_t count = ledger_due(&ledger, now, counts, sent, goodbye, due);

	for (size_t i = 0; i < count; i++)
		ledger_told(&ledger, now, &due[i]);
	return count;
}

Test(ledger, first_frame_of_a_connection_is_the_heartbeat_then_rows, .init = start)
{
	counts[CELLOS_LANE_FS][CELLOS_DROP_OVERFLOW] = 3;
	counts[CELLOS_LANE_PROC][CELLOS_DROP_QUEUE_FULL] = 12;
	ledger_connected(&ledger, 50);
	cr_assert_eq(turn(50, 9, false), 3);
	cr_assert_eq(due[0].source, CELLOS_SOURCE_TELEMETRY_HEARTBEAT);
	cr_assert_eq(due[0].epoch, 1);
	cr_assert_eq(due[0].count, 9);
	cr_assert_eq(due[1].lane, CELLOS_LANE_PROC);
	cr_assert_eq(due[1].count, 12);
	cr_assert_eq(due[2].lane, CELLOS_LANE_FS);
	cr_assert_eq(turn(60, 9, false), 0, "told once");
}

Test(ledger, heartbeats_come_every_interval_without_a_burst, .init = start)
{
	ledger_connected(&ledger, 0);
	cr_assert_eq(turn(0, 0, false), 1);
	cr_assert_eq(turn(INTERVAL - 1, 0, false), 0);
	cr_assert_eq(turn(INTERVAL, 0, false), 1);
	cr_assert_eq(ledger_deadline(&ledger, counts), 2 * INTERVAL);
	cr_assert_eq(turn(10 * INTERVAL, 0, false), 1, "held up: one, not eight");
	cr_assert_eq(turn(10 * INTERVAL + 1, 0, false), 0);
	cr_assert_eq(ledger_deadline(&ledger, counts), 11 * INTERVAL);
}

Test(ledger, a_row_is_told_at_once_when_it_leaves_zero_then_once_an_interval, .init = start)
{
	ledger_connected(&ledger, 0);
	turn(0, 0, false);
	counts[CELLOS_LANE_NET][CELLOS_DROP_KERNEL] = 1;
	cr_assert_eq(ledger_deadline(&ledger, counts), 0, "at once");
	cr_assert_eq(turn(100, 0, false), 1);
	counts[CELLOS_LANE_NET][CELLOS_DROP_KERNEL] = 2;
	cr_assert_eq(turn(200, 0, false), 0, "not twice in an interval");
	cr_assert_eq(ledger_deadline(&ledger, counts), INTERVAL);
	cr_assert_eq(turn(INTERVAL, 0, false), 1, "the heartbeat");
	cr_assert_eq(ledger_deadline(&ledger, counts), 100 + INTERVAL, "the row's own time");
	cr_assert_eq(turn(100 + INTERVAL, 0, false), 1);
	cr_assert_eq(due[0].count, 2);
	cr_assert_eq(turn(200 + INTERVAL, 0, false), 0, "unchanged");
}

Test(ledger, a_new_connection_is_told_everything_again, .init = start)
{
	counts[CELLOS_LANE_CAP][CELLOS_DROP_SUPPRESSED] = 5;
	ledger_connected(&ledger, 0);
	cr_assert_eq(turn(0, 0, false), 2);
	ledger_connected(&ledger, 10);
	cr_assert_eq(turn(10, 4, false), 2);
	cr_assert_eq(due[0].epoch, 2);
	cr_assert_eq(due[1].count, 5);
}

Test(ledger, goodbye_is_last_and_behind_every_row, .init = start)
{
	counts[CELLOS_LANE_PROC][CELLOS_DROP_STOPPED] = 7;
	ledger_connected(&ledger, 0);
	turn(0, 0, false);
	cr_assert_eq(turn(1, 77, true), 2);
	cr_assert_eq(due[0].source, CELLOS_SOURCE_TELEMETRY_DROPPED);
	cr_assert_eq(due[1].source, CELLOS_SOURCE_TELEMETRY_HEARTBEAT);
	cr_assert_eq(due[1].epoch, 0);
	cr_assert_eq(due[1].count, 77);
}

Test(ledger, a_connection_that_opens_for_the_goodbye_still_begins_with_a_heartbeat, .init = start)
{
	ledger_connected(&ledger, 0);
	cr_assert_eq(turn(0, 3, true), 2);
	cr_assert_eq(due[0].epoch, 1);
	cr_assert_eq(due[1].epoch, 0);
}

Test(ledger, epoch_wraps_past_zero, .init = start)
{
	for (unsigned i = 0; i < 99999; i++)
		ledger_connected(&ledger, i);
	cr_assert_eq(ledger.epoch, 99999);
	ledger_connected(&ledger, 0);
	cr_assert_eq(ledger.epoch, 1, "0 is the goodbye's");
}

Test(ledger, everything_at_once_is_as_much_as_there_is_room_for, .init = start)
{
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++)
			counts[lane][reason] = UINT64_MAX;
	ledger_connected(&ledger, 0);
	cr_assert_eq(turn(0, 0, true), LEDGER_MAX_DUE);
}
