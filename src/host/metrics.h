/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's numbers as Prometheus text, exposition format 0.0.4; docs/metrics.md says what
 * each one means.
 *
 * Pure: one picture of everything, taken at one moment, is rendered piece by piece into the
 * caller's buffer, so that any number of cells costs a bounded buffer and a bounded time per call.
 * All numbers of one text belong to one moment, whatever happens between two pieces.
 *
 * Order is the format's: a family's lines stand together, so the walk is family by family, and
 * within each cell by cell.
 */
#ifndef CELLOS_HOST_METRICS_H
#define CELLOS_HOST_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"
#include "format.h"
#include "sink.h"

/* More than the longest step: a family's HELP and TYPE, or one sample with all labels escaped. */
#define HOST_METRICS_STEP_BYTES 640u

#define HOST_METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

struct host_metrics_cell {
	char id[HOST_ID_MAX_BYTES + 1], run[HOST_ID_MAX_BYTES + 1];
	uint64_t connected, silent, admitted; /* 0 or 1 */
	uint64_t pending;                     /* taken, and neither handed on nor lost yet */
	uint64_t incarnation;
	struct host_totals totals;
};

struct host_metrics {
	const char *version, *format; /* borrowed */
	uint64_t count;               /* of cells */
	struct host_metrics_cell *cells;

	/* Over cells that are gone. */
	uint64_t gone_cells, gone_frames, gone_emitted, gone_refused, gone_lost_in_host;

	uint64_t output_buffered;
	uint64_t output_blocked; /* 0 or 1: guests are not read */
	uint64_t keeps_state;    /* 0 or 1 */

	bool spooled; /* the next ones mean something */
	uint64_t spool_bytes, spool_written, spool_acknowledged;
	uint64_t sink_connected;
	struct host_sink_numbers sink;

	uint64_t cpu_ms, start_ms; /* used so far; the process's start, since 1970 */
	uint64_t resident_bytes, max_descriptors;
};

/* Where in the text; all zero is its beginning. */
struct host_metrics_cursor {
	unsigned family, row;
	size_t cell;
	bool headed;
};

/*
 * Writes whole lines, as many as fit; how many bytes. 0: the text is at its end. `size` must be at
 * least HOST_METRICS_STEP_BYTES. No NUL is written.
 */
size_t host_metrics_render(const struct host_metrics *metrics, struct host_metrics_cursor *cursor,
			   char *out, size_t size);

#endif
