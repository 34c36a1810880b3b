/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * When the heartbeat and which rows are due.
 *
 * Threads: the sender's alone.
 * Invariants: a heartbeat is the first frame of a connection; a row is told at once when it leaves
 * 0, at most once an interval while it grows, and again in full to each new connection. Refuses: to
 * remember what a broken connection may have swallowed; the next one is told everything.
 */
#include "ledger.h"

#include <string.h>

void ledger_init(struct ledger *ledger, uint64_t interval_ns)
{
	memset(ledger, 0, sizeof(*ledger));
	ledger->interval_ns = interval_ns;
}

void ledger_connected(struct ledger *ledger, uint64_t now_ns)
{
	/* 1..99999, then 1 again: 0 is the goodbye's. */
	ledger->epoch = ledger->epoch % (uint32_t)(CELLOS_EPOCH_MODULUS - 1) + 1;
	ledger->heartbeat_owed = true;
	ledger->heartbeat_ns = now_ns;
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++)
			ledger->rows[lane][reason].owed = true;
}

static bool row_is_due(const struct ledger *ledger, const struct ledger_row *row, uint64_t count,
		       uint64_t now_ns)
{
	if (count == 0)
		return false;
	if (row->owed || row->told == 0)
		return true;
	return count != row->told && now_ns - row->told_ns >= ledger->interval_ns;
}

static void heartbeat(struct cellos_self_report *report, uint32_t epoch, uint64_t sent)
{
	memset(report, 0, sizeof(*report));
	report->source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT;
	report->epoch = epoch;
	report->count = sent;
}

size_t ledger_due(const struct ledger *ledger, uint64_t now_ns, const ledger_counts counts,
		  uint64_t sent, bool goodbye, struct cellos_self_report *out, size_t max)
{
	size_t used = 0;

	/* Also in front of a goodbye: a connection begins with a heartbeat, however short it is. */
	if (max > 0 && (ledger->heartbeat_owed || (!goodbye && now_ns >= ledger->heartbeat_ns)))
		heartbeat(&out[used++], ledger->epoch, sent);
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++) {
			uint64_t count = counts[lane][reason];

			if (used == max)
				return used;
			if (!(goodbye && count != 0) &&
			    !row_is_due(ledger, &ledger->rows[lane][reason], count, now_ns))
				continue;
			memset(&out[used], 0, sizeof(out[used]));
			out[used].source = CELLOS_SOURCE_TELEMETRY_DROPPED;
			out[used].lane = (uint8_t)lane;
			out[used].reason = (uint8_t)reason;
			out[used].count = count;
			used++;
		}
	}
	if (goodbye && used < max)
		heartbeat(&out[used++], 0, sent);
	return used;
}

void ledger_told(struct ledger *ledger, uint64_t now_ns, const struct cellos_self_report *report)
{
	struct ledger_row *row = &ledger->rows[report->lane][report->reason];

	if (report->source == CELLOS_SOURCE_TELEMETRY_DROPPED) {
		row->told = report->count;
		row->told_ns = now_ns;
		row->owed = false;
		return;
	}
	ledger->heartbeat_owed = false;
	ledger->heartbeat_ns += ledger->interval_ns;
	if (ledger->heartbeat_ns <= now_ns) /* held up: no burst to catch up */
		ledger->heartbeat_ns = now_ns + ledger->interval_ns;
}

uint64_t ledger_deadline(const struct ledger *ledger, const ledger_counts counts)
{
	uint64_t deadline = ledger->heartbeat_ns;

	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++) {
			const struct ledger_row *row = &ledger->rows[lane][reason];
			uint64_t count = counts[lane][reason];
			uint64_t at = row->told_ns + ledger->interval_ns;

			if (count == 0 || count == row->told)
				continue;
			if (row->told == 0)
				return 0;
			if (at < deadline)
				deadline = at;
		}
	}
	return deadline;
}
