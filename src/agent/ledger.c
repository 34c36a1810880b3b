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

void ledger_connected(struct ledger *ledger, uint64_t now_ns)
{
	/* 1..99999, then 1 again: 0 is the goodbye's. */
	ledger->epoch = ledger->epoch % (uint32_t)(CELLOS_EPOCH_MODULUS - 1) + 1;
	ledger->heartbeat_owed = true;
	ledger->heartbeat_ns = now_ns;
	memset(ledger->rows, 0, sizeof(ledger->rows));
}

/* When a row is due: 0 at once, UINT64_MAX not until it changes. */
static uint64_t row_deadline(const struct ledger *ledger, const struct ledger_row *row,
			     uint64_t count)
{
	if (count == row->told) /* both 0 as well */
		return UINT64_MAX;
	return row->told == 0 ? 0 : row->told_ns + ledger->interval_ns;
}

static struct cellos_self_report heartbeat(uint32_t epoch, uint64_t sent)
{
	return (struct cellos_self_report){
		.source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT, .epoch = epoch, .count = sent};
}

size_t ledger_due(const struct ledger *ledger, uint64_t now_ns, const ledger_counts counts,
		  uint64_t sent, bool goodbye, struct cellos_self_report out[LEDGER_MAX_DUE])
{
	size_t used = 0;

	/* Also in front of a goodbye: a connection begins with a heartbeat, however short it is. */
	if (ledger->heartbeat_owed || (!goodbye && now_ns >= ledger->heartbeat_ns))
		out[used++] = heartbeat(ledger->epoch, sent);
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++) {
			uint64_t count = counts[lane][reason];

			if ((goodbye && count != 0) ||
			    row_deadline(ledger, &ledger->rows[lane][reason], count) <= now_ns)
				out[used++] = (struct cellos_self_report){
					.source = CELLOS_SOURCE_TELEMETRY_DROPPED,
					.lane = (uint8_t)lane,
					.reason = (uint8_t)reason,
					.count = count,
				};
		}
	}
	if (goodbye)
		out[used++] = heartbeat(0, sent);
	return used;
}

void ledger_told(struct ledger *ledger, uint64_t now_ns, const struct cellos_self_report *report)
{
	if (report->source == CELLOS_SOURCE_TELEMETRY_DROPPED) {
		ledger->rows[report->lane][report->reason] =
			(struct ledger_row){.told = report->count, .told_ns = now_ns};
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
			uint64_t at = row_deadline(ledger, &ledger->rows[lane][reason],
						   counts[lane][reason]);

			if (at < deadline)
				deadline = at;
		}
	}
	return deadline;
}
