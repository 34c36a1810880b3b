/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the agent owes its host besides events: the heartbeat and the rows of what was dropped
 * (docs/ledger.md). It decides what is due when; the outbox carries it.
 *
 * Sender thread only. Pure: the time and the counters come in by argument.
 */
#ifndef CELLOS_AGENT_LEDGER_H
#define CELLOS_AGENT_LEDGER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"
#include "cellos/wire.h"

/* A heartbeat, every row, a goodbye. */
#define LEDGER_MAX_DUE (2 + CELLOS_LANE_COUNT * CELLOS_DROP_COUNT)

struct ledger_row {
	uint64_t told;    /* the count this connection was told last; 0: none yet */
	uint64_t told_ns; /* and when */
};

/* All zero but for the interval: no connection yet. */
struct ledger {
	uint64_t interval_ns;
	uint64_t heartbeat_ns; /* when the next one is due */
	uint32_t epoch;        /* of the current or last connection; 0 before the first */
	bool heartbeat_owed;
	struct ledger_row rows[CELLOS_LANE_COUNT][CELLOS_DROP_COUNT];
};

/* Totals as they stand now. */
typedef uint64_t ledger_counts[CELLOS_LANE_COUNT][CELLOS_DROP_COUNT];

/* A connection opened: a new epoch, a heartbeat at once, every row that is not 0 behind it. */
void ledger_connected(struct ledger *ledger, uint64_t now_ns);
/*
 * What is due at `now_ns`, in the order in which it must travel: heartbeat, then rows; at the
 * goodbye all rows that are not 0, then the goodbye. Returns how many.
 */
size_t ledger_due(const struct ledger *ledger, uint64_t now_ns, const ledger_counts counts,
		  uint64_t sent, bool goodbye, struct cellos_self_report out[LEDGER_MAX_DUE]);
/* This report went out (or is cut, and its rest will). `count` as ledger_due gave it. */
void ledger_told(struct ledger *ledger, uint64_t now_ns, const struct cellos_self_report *report);
/* The next moment at which something falls due if nothing changes. */
uint64_t ledger_deadline(const struct ledger *ledger, const ledger_counts counts);

#endif
