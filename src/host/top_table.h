/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What `top` shows: the list of cells as the control socket has it, made into rows, rates and
 * columns of text.
 *
 * Pure; one thread. Rows are read from text that comes from a receiver and holds names that come
 * from guests: whatever does not print as one column of ASCII is shown as '?', so that nothing a
 * guest calls itself can move the cursor.
 */
#ifndef CELLOS_HOST_TOP_TABLE_H
#define CELLOS_HOST_TOP_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"
#include "format.h"

enum host_top_column {
	HOST_TOP_CELL = 0,
	HOST_TOP_RUN,
	HOST_TOP_STATE,
	HOST_TOP_RATE,
	HOST_TOP_EVENTS,
	HOST_TOP_PROC, /* dropped in the guest, of each lane; in the order of enum cellos_lane */
	HOST_TOP_FS,
	HOST_TOP_CAP,
	HOST_TOP_NET,
	HOST_TOP_LOST, /* in flight and in the host */
	HOST_TOP_BAD,
	HOST_TOP_QUIET,
	HOST_TOP_LATEST,
	HOST_TOP_COLUMNS
};

/* The one that matters most to who looks; the least is what sorting by state puts last. */
enum host_top_state {
	HOST_TOP_REFUSED = 0,
	HOST_TOP_SILENT,
	HOST_TOP_CLOSING,
	HOST_TOP_AWAY,
	HOST_TOP_CONNECTED
};

#define HOST_TOP_LATEST_BYTES 128u
#define HOST_TOP_TEXT_BYTES 160u
#define HOST_TOP_NO_RATE (-1.0)

struct host_top_row {
	char id[HOST_ID_MAX_BYTES + 1], run[HOST_ID_MAX_BYTES + 1];
	char latest[HOST_TOP_LATEST_BYTES]; /* "spawned sh 77", or "" */
	enum host_top_state state;
	uint64_t events, refused, lost, bad, quiet_ms;
	uint64_t dropped[CELLOS_LANE_COUNT]; /* events or records: q, k and x */
	bool blind[CELLOS_LANE_COUNT];       /* o: and an unknown number beside them */
	double rate; /* events a second; HOST_TOP_NO_RATE before a second look */
	bool worse;  /* dropped, lost or bad has grown since the last look */
};

struct host_top_table {
	struct host_top_row *rows; /* owned */
	size_t count, room;
	uint64_t taken_ms; /* the caller's clock, when the list was whole; 0: never */
};

struct host_top_sums {
	size_t connected, silent, refused_cells;
	uint64_t events, refused, dropped, lost, bad;
	double rate; /* HOST_TOP_NO_RATE when no row has one */
};

/* All zero is an empty table. */
void host_top_free(struct host_top_table *table);
/*
 * The answer to `list`, whole, in place of what is there; `taken_ms` is the caller's clock. Rates
 * come from what the table held before. 0; -EPROTO: it is no such answer, and the table is as it
 * was; -ENOMEM, the same.
 */
CELLOS_MUST_CHECK int host_top_take(struct host_top_table *table, const char *text, size_t length,
				    uint64_t taken_ms);
/* What was seen is old: no rates until there are two looks again. */
void host_top_forget_rates(struct host_top_table *table);
/* Numbers fall, names and states rise, unless `turned`; equals by cell and run. */
void host_top_sort(struct host_top_table *table, enum host_top_column column, bool turned);
struct host_top_sums host_top_sum(const struct host_top_table *table);

/* The column's heading, and -1 for a name that is none of them. */
const char *host_top_heading(enum host_top_column column);
int host_top_column_parse(const char *name);
bool host_top_is_number(enum host_top_column column);
/* Of a number's column; of the others it is what the names take. */
unsigned host_top_width(enum host_top_column column);
/* `exact`: all digits, else at most host_top_width of a number. Returns `out`. */
const char *host_top_text(const struct host_top_row *row, enum host_top_column column, bool exact,
			  char out[HOST_TOP_TEXT_BYTES]);
/* All digits when there are at most so many, else three with a unit, as in "1.23M". */
const char *host_top_number(uint64_t number, unsigned digits, char out[HOST_TOP_TEXT_BYTES]);

#endif
