/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of families and the walk over it; metrics.h has the contract. Pure, any thread.
 *
 * Names follow the conventions: counters end in _total, units are base units and stand in the name.
 * A counter of a cell begins where the kept account does, so with --state it goes on over the
 * host's own restarts.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cellos/wire.h"

enum shape {
	SHAPE_BUILD = 0, /* 1, and what was built as labels */
	SHAPE_HOST,      /* one number */
	SHAPE_MS,        /* one number of milliseconds, shown as seconds */
	SHAPE_SPOOL,     /* one number, there only with a sink */
	SHAPE_CELL,      /* one number for each cell */
	SHAPE_BAD,       /* a number for each cell and error */
	SHAPE_DROPPED,   /* a number for each cell, lane and reason */
};

struct family {
	const char *name;
	const char *type;
	const char *help; /* no backslash, no newline */
	enum shape shape;
	size_t at; /* in struct host_metrics, or in struct host_metrics_cell */
};

#define OF_HOST(member) offsetof(struct host_metrics, member)
#define OF_CELL(member) offsetof(struct host_metrics_cell, member)

static const struct family families[] = {
	{"cellos_host_build_info", "gauge", "What runs: version, and the format of its lines.",
	 SHAPE_BUILD, 0},
	{"cellos_host_cells", "gauge", "Cells that are listened for, or about to go.", SHAPE_HOST,
	 OF_HOST(count)},
	{"cellos_host_gone_cells_total", "counter",
	 "Cells that are gone; the next four are theirs.", SHAPE_HOST, OF_HOST(gone_cells)},
	{"cellos_host_gone_frames_total", "counter", "Frames received of cells that are gone.",
	 SHAPE_HOST, OF_HOST(gone_frames)},
	{"cellos_host_gone_emitted_total", "counter", "Events handed on of cells that are gone.",
	 SHAPE_HOST, OF_HOST(gone_emitted)},
	{"cellos_host_gone_refused_total", "counter",
	 "Frames refused, by error or policy, of cells that are gone.", SHAPE_HOST,
	 OF_HOST(gone_refused)},
	{"cellos_host_gone_lost_in_host_total", "counter",
	 "Events of cells that are gone that were received and not handed on.", SHAPE_HOST,
	 OF_HOST(gone_lost_in_host)},
	{"cellos_host_output_buffered_bytes", "gauge", "Lines that are made and not handed on yet.",
	 SHAPE_HOST, OF_HOST(output_buffered)},
	{"cellos_host_output_blocked", "gauge",
	 "1 while the output has no room, so that no guest is read.", SHAPE_HOST,
	 OF_HOST(output_blocked)},
	{"cellos_host_state_kept", "gauge", "1 when accounts outlive this process (--state).",
	 SHAPE_HOST, OF_HOST(keeps_state)},

	{"cellos_host_spool_size_bytes", "gauge", "How much the spool can hold.", SHAPE_SPOOL,
	 OF_HOST(spool_bytes)},
	{"cellos_host_spool_written_bytes_total", "counter", "Bytes ever put into the spool.",
	 SHAPE_SPOOL, OF_HOST(spool_written)},
	{"cellos_host_spool_acknowledged_bytes_total", "counter",
	 "Of these, bytes that need never be sent again.", SHAPE_SPOOL,
	 OF_HOST(spool_acknowledged)},
	{"cellos_host_sink_connected", "gauge", "1 while there is a connection to the engine.",
	 SHAPE_SPOOL, OF_HOST(sink_connected)},
	{"cellos_host_sink_lag_bytes", "gauge", "Bytes spooled and not acknowledged.", SHAPE_SPOOL,
	 OF_HOST(sink.lag_bytes)},
	{"cellos_host_sink_published_total", "counter",
	 "Messages given to the client library, repeats too.", SHAPE_SPOOL,
	 OF_HOST(sink.published)},
	{"cellos_host_sink_acknowledged_total", "counter", "Messages that the engine has.",
	 SHAPE_SPOOL, OF_HOST(sink.acknowledged)},
	{"cellos_host_sink_duplicates_total", "counter", "Of these, messages that it had already.",
	 SHAPE_SPOOL, OF_HOST(sink.duplicates)},
	{"cellos_host_sink_errors_total", "counter", "Publications that failed and are repeated.",
	 SHAPE_SPOOL, OF_HOST(sink.errors)},

	{"cellos_host_cell_connected", "gauge", "1 while a guest is connected.", SHAPE_CELL,
	 OF_CELL(connected)},
	{"cellos_host_cell_silent", "gauge", "1 while the agent is called silent.", SHAPE_CELL,
	 OF_CELL(silent)},
	{"cellos_host_cell_admitted", "gauge", "0 when admission refused the cell.", SHAPE_CELL,
	 OF_CELL(admitted)},
	{"cellos_host_received_bytes_total", "counter", "Bytes read from the guest.", SHAPE_CELL,
	 OF_CELL(totals.bytes)},
	{"cellos_host_frames_total", "counter",
	 "Whole frames that are no self-report, refused ones too.", SHAPE_CELL,
	 OF_CELL(totals.frames)},
	{"cellos_host_events_total", "counter",
	 "Sound events: emitted + refused + lost in host + pending.", SHAPE_CELL,
	 OF_CELL(totals.events)},
	{"cellos_host_emitted_total", "counter", "Events handed on: written, or spooled.",
	 SHAPE_CELL, OF_CELL(totals.emitted)},
	{"cellos_host_refused_total", "counter", "Sound events of a cell that admission refused.",
	 SHAPE_CELL, OF_CELL(totals.refused)},
	{"cellos_host_lost_in_host_total", "counter", "Events received and not handed on.",
	 SHAPE_CELL, OF_CELL(totals.lost_in_host)},
	{"cellos_host_pending_events", "gauge", "Events received and not handed on yet.",
	 SHAPE_CELL, OF_CELL(pending)},
	{"cellos_host_lost_in_flight_total", "counter",
	 "Events that the agent sent and that did not arrive.", SHAPE_CELL,
	 OF_CELL(totals.lost_in_flight)},
	{"cellos_host_epochs_total", "counter", "Connections that announced themselves.",
	 SHAPE_CELL, OF_CELL(totals.epochs)},
	{"cellos_host_incarnations_total", "counter", "Agents of this run.", SHAPE_CELL,
	 OF_CELL(incarnation)},
	{"cellos_host_silences_total", "counter", "Times the agent was called silent.", SHAPE_CELL,
	 OF_CELL(totals.silences)},
	{"cellos_host_contested_total", "counter",
	 "Second connections that were turned away while the first one lived.", SHAPE_CELL,
	 OF_CELL(totals.contested)},
	{"cellos_host_bad_reports_total", "counter", "Self-reports that cannot be read.",
	 SHAPE_CELL, OF_CELL(totals.bad_reports)},
	{"cellos_host_bad_frames_total", "counter",
	 "Frames that were refused, by error; errors that never came are left out.", SHAPE_BAD,
	 OF_CELL(totals.bad)},
	{"cellos_host_guest_dropped_total", "counter",
	 "What never left the guest, by lane and reason (q, k, o, s, x), as its agent says.",
	 SHAPE_DROPPED, OF_CELL(totals.dropped)},

	{"process_cpu_seconds_total", "counter", "User and system time spent.", SHAPE_MS,
	 OF_HOST(cpu_ms)},
	{"process_start_time_seconds", "gauge", "When the process started, since 1970.", SHAPE_MS,
	 OF_HOST(start_ms)},
	{"process_resident_memory_bytes", "gauge", "Resident memory.", SHAPE_HOST,
	 OF_HOST(resident_bytes)},
	{"process_max_fds", "gauge", "Descriptors that it may have.", SHAPE_HOST,
	 OF_HOST(max_descriptors)},
};

#define FAMILIES (sizeof(families) / sizeof(families[0]))
#define DROPPED_ROWS (CELLOS_LANE_COUNT * CELLOS_DROP_COUNT)

static uint64_t number_at(const void *base, size_t at)
{
	uint64_t number;

	memcpy(&number, (const char *)base + at, sizeof(number));
	return number;
}

/* ---- lines ---------------------------------------------------------------------------------- */

struct text {
	char *out;
	size_t length, size;
};

__attribute__((format(printf, 2, 3))) static void add(struct text *text, const char *format, ...)
{
	size_t room = text->size - text->length;
	va_list arguments;
	int length;

	va_start(arguments, format);
	length = vsnprintf(text->out + text->length, room, format, arguments);
	va_end(arguments);
	/* A step's bytes are free at its beginning, and none is longer. */
	if (length > 0 && (size_t)length < room)
		text->length += (size_t)length;
}

static void put(struct text *text, const char *bytes, size_t length)
{
	if (length >= text->size - text->length)
		return; /* the same */
	memcpy(text->out + text->length, bytes, length);
	text->length += length;
}

/* name="value", escaped as the format asks. */
static void add_label(struct text *text, const char *before, const char *name, const char *value)
{
	put(text, before, strlen(before));
	put(text, name, strlen(name));
	put(text, "=\"", 2);
	while (*value != '\0') {
		size_t plain = strcspn(value, "\\\"\n");

		put(text, value, plain);
		value += plain;
		if (*value == '\0')
			break;
		put(text, "\\", 1);
		put(text, *value == '\n' ? "n" : value, 1);
		value++;
	}
	put(text, "\"", 1);
}

static void add_cell(struct text *text, const struct family *family,
		     const struct host_metrics_cell *cell)
{
	put(text, family->name, strlen(family->name));
	add_label(text, "{", "cell_id", cell->id);
	add_label(text, ",", "run_id", cell->run);
}

static void add_bad(struct text *text, const struct family *family,
		    const struct host_metrics_cell *cell, unsigned row)
{
	uint64_t number = cell->totals.bad[row];

	/* One is always there: it is no whole frame, so no difference of other numbers tells. */
	if (row == CELLOS_WIRE_OK || (number == 0 && row != CELLOS_WIRE_FRAME_TOO_LARGE))
		return;
	add_cell(text, family, cell);
	add_label(text, ",", "error", cellos_wire_status_name((enum cellos_wire_status)row));
	add(text, "} %" PRIu64 "\n", number);
}

static void add_dropped(struct text *text, const struct family *family,
			const struct host_metrics_cell *cell, unsigned row)
{
	unsigned lane = row / CELLOS_DROP_COUNT, reason = row % CELLOS_DROP_COUNT;
	const char letter[] = {cellos_drop_reason_letter(reason), '\0'};

	add_cell(text, family, cell);
	add_label(text, ",", "lane", cellos_lane_name(lane));
	add_label(text, ",", "reason", letter);
	add(text, "} %" PRIu64 "\n", cell->totals.dropped[lane][reason]);
}

static void add_sample(struct text *text, const struct host_metrics *metrics,
		       const struct family *family, const struct host_metrics_cursor *cursor)
{
	const struct host_metrics_cell *cell = metrics->cells + cursor->cell;
	uint64_t ms;

	switch (family->shape) {
	case SHAPE_BUILD:
		add(text, "%s", family->name);
		add_label(text, "{", "version", metrics->version);
		add_label(text, ",", "format", metrics->format);
		add(text, "} 1\n");
		break;
	case SHAPE_MS:
		ms = number_at(metrics, family->at);
		add(text, "%s %" PRIu64 ".%03" PRIu64 "\n", family->name, ms / 1000, ms % 1000);
		break;
	case SHAPE_HOST:
	case SHAPE_SPOOL:
		add(text, "%s %" PRIu64 "\n", family->name, number_at(metrics, family->at));
		break;
	case SHAPE_CELL:
		add_cell(text, family, cell);
		add(text, "} %" PRIu64 "\n", number_at(cell, family->at));
		break;
	case SHAPE_BAD:
		add_bad(text, family, cell, cursor->row);
		break;
	case SHAPE_DROPPED:
		add_dropped(text, family, cell, cursor->row);
		break;
	}
}

/* ---- the walk ------------------------------------------------------------------------------- */

static unsigned rows_of(const struct family *family)
{
	if (family->shape == SHAPE_BAD)
		return CELLOS_WIRE_STATUS_COUNT;
	return family->shape == SHAPE_DROPPED ? DROPPED_ROWS : 1;
}

static size_t cells_of(const struct host_metrics *metrics, const struct family *family)
{
	if (family->shape == SHAPE_SPOOL)
		return metrics->spooled ? 1 : 0;
	return family->shape >= SHAPE_CELL ? metrics->count : 1;
}

/* One sample, or a family's head, and on to the next. A family without samples has no head. */
static void step(const struct host_metrics *metrics, struct host_metrics_cursor *cursor,
		 struct text *text)
{
	const struct family *family = &families[cursor->family];

	if (cursor->cell == cells_of(metrics, family)) {
		*cursor = (struct host_metrics_cursor){.family = cursor->family + 1};
		return;
	}
	if (!cursor->headed) {
		add(text, "# HELP %s %s\n# TYPE %s %s\n", family->name, family->help, family->name,
		    family->type);
		cursor->headed = true;
		return;
	}
	add_sample(text, metrics, family, cursor);
	if (++cursor->row == rows_of(family)) {
		cursor->row = 0;
		cursor->cell++;
	}
}

size_t host_metrics_render(const struct host_metrics *metrics, struct host_metrics_cursor *cursor,
			   char *out, size_t size)
{
	struct text text = {.out = out, .size = size};

	while (cursor->family < FAMILIES && size - text.length >= HOST_METRICS_STEP_BYTES)
		step(metrics, cursor, &text);
	return text.length;
}
