/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Rows of `top`; top_table.h has the contract. Pure, one thread.
 */
#include "top_table.h"

#include <errno.h>
#include <inttypes.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define DIGITS 5
#define DIGITS_OF_EVENTS 8
#define ALL_DIGITS 20

/* ---- reading -------------------------------------------------------------------------------- */

/* "" when there is none. What would not print as one column becomes '?'. */
static void take_text(struct json_object *object, const char *key, char *out, size_t size)
{
	struct json_object *value = json_object_object_get(object, key);
	const char *text =
		json_object_is_type(value, json_type_string) ? json_object_get_string(value) : "";
	size_t length = 0;

	for (; *text != '\0' && length + 1 < size; text++) {
		/* One for each character: bytes that go on with one are passed over. */
		if (((unsigned char)*text & 0xc0) == 0x80)
			continue;
		out[length++] = *text >= ' ' && *text <= '~' ? *text : '?';
	}
	out[length] = '\0';
}

static uint64_t take_u64(struct json_object *object, const char *key)
{
	struct json_object *value = json_object_object_get(object, key);

	return json_object_is_type(value, json_type_int) ? json_object_get_uint64(value) : 0;
}

static bool take_bool(struct json_object *object, const char *key)
{
	return json_object_get_boolean(json_object_object_get(object, key));
}

static uint64_t sum_members(struct json_object *object)
{
	uint64_t sum = 0;

	if (json_object_is_type(object, json_type_object)) {
		json_object_object_foreach(object, key, value)
		{
			(void)key;
			sum += json_object_get_uint64(value);
		}
	}
	return sum;
}

/* Loss, and not what a probe folds on purpose: docs/ledger.md says which reason is which. */
static void take_dropped(struct json_object *dropped, struct host_top_row *row)
{
	static const char lanes[CELLOS_LANE_COUNT] = {'p', 'f', 'c', 'n'};
	static const char reasons[] = {'q', 'k', 'x'};

	for (size_t lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		char key[3] = {lanes[lane], 'o', '\0'};

		row->blind[lane] = take_u64(dropped, key) > 0;
		for (size_t i = 0; i < sizeof(reasons); i++) {
			key[1] = reasons[i];
			row->dropped[lane] += take_u64(dropped, key);
		}
	}
}

/* "process.spawned" of a "sh" is shown as "spawned sh 77": what comes last, first. */
static void take_latest(struct json_object *latest, struct host_top_row *row)
{
	char source[48], comm[48];
	const char *last;

	if (!json_object_is_type(latest, json_type_object))
		return;
	take_text(latest, "probe_source", source, sizeof(source));
	take_text(latest, "guest_comm", comm, sizeof(comm));
	last = strrchr(source, '.');
	snprintf(row->latest, sizeof(row->latest), "%s %s %" PRIu64,
		 last == NULL ? source : last + 1, comm, take_u64(latest, "guest_pid"));
}

static enum host_top_state take_state(struct json_object *object)
{
	struct json_object *admitted = json_object_object_get(object, "admitted");

	if (admitted != NULL && !json_object_get_boolean(admitted))
		return HOST_TOP_REFUSED;
	if (take_bool(object, "silent"))
		return HOST_TOP_SILENT;
	if (take_bool(object, "closing"))
		return HOST_TOP_CLOSING;
	return take_bool(object, "connected") ? HOST_TOP_CONNECTED : HOST_TOP_AWAY;
}

static int take_row(struct json_object *object, struct host_top_row *row)
{
	*row = (struct host_top_row){.rate = HOST_TOP_NO_RATE};
	take_text(object, "cell_id", row->id, sizeof(row->id));
	take_text(object, "run_id", row->run, sizeof(row->run));
	if (row->id[0] == '\0')
		return -EPROTO;
	row->state = take_state(object);
	row->events = take_u64(object, "events");
	row->refused = take_u64(object, "refused");
	row->lost = take_u64(object, "lost_in_flight") + take_u64(object, "lost_in_host");
	row->bad = sum_members(json_object_object_get(object, "bad"));
	row->quiet_ms = take_u64(object, "quiet_ms");
	take_dropped(json_object_object_get(object, "dropped"), row);
	take_latest(json_object_object_get(object, "latest"), row);
	return 0;
}

static int take_line(struct json_tokener *tokener, const char *line, size_t length,
		     struct host_top_row *row)
{
	struct json_object *object;
	int status;

	json_tokener_reset(tokener);
	object = json_tokener_parse_ex(tokener, line, (int)length);
	status = json_object_is_type(object, json_type_object) ? take_row(object, row) : -EPROTO;
	json_object_put(object);
	return status;
}

static int add_row(struct host_top_table *table, const struct host_top_row *row)
{
	size_t room = table->room == 0 ? 64 : 2 * table->room;
	struct host_top_row *rows = table->rows;

	if (table->count == table->room) {
		rows = reallocarray(rows, room, sizeof(*rows));
		if (rows == NULL)
			return -ENOMEM;
		table->rows = rows;
		table->room = room;
	}
	rows[table->count++] = *row;
	return 0;
}

static int read_rows(struct host_top_table *table, const char *text, size_t length)
{
	struct json_tokener *tokener = json_tokener_new();
	const char *end = text + length;
	struct host_top_row row;
	int status = tokener == NULL ? -ENOMEM : 0;

	while (status == 0 && text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));

		if (newline == NULL) {
			status = -EPROTO; /* cut short */
			break;
		}
		status = take_line(tokener, text, (size_t)(newline - text), &row);
		if (status == 0)
			status = add_row(table, &row);
		text = newline + 1;
	}
	if (tokener != NULL)
		json_tokener_free(tokener);
	return status;
}

/* ---- rates ---------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
	const struct host_top_row *x = a, *y = b;
	int order = strverscmp(x->id, y->id);

	return order != 0 ? order : strverscmp(x->run, y->run);
}

static uint64_t dropped_of(const struct host_top_row *row)
{
	uint64_t sum = 0;

	for (size_t lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		sum += row->dropped[lane];
	return sum;
}

static void rate_row(struct host_top_row *row, const struct host_top_row *before, uint64_t ms)
{
	/* Another receiver may answer now, one that knows less. */
	if (before == NULL || before->events > row->events || ms == 0)
		return;
	row->rate = (double)(row->events - before->events) * 1000 / (double)ms;
	row->worse = dropped_of(row) > dropped_of(before) || row->lost > before->lost ||
		     row->bad > before->bad || row->refused > before->refused;
}

static void rate_rows(struct host_top_table *table, struct host_top_table *before)
{
	if (before->taken_ms == 0 || before->count == 0)
		return;
	qsort(before->rows, before->count, sizeof(*before->rows), by_name);
	for (size_t i = 0; i < table->count; i++)
		rate_row(&table->rows[i],
			 bsearch(&table->rows[i], before->rows, before->count,
				 sizeof(*before->rows), by_name),
			 table->taken_ms - before->taken_ms);
}

int host_top_take(struct host_top_table *table, const char *text, size_t length, uint64_t taken_ms)
{
	struct host_top_table next = {.taken_ms = taken_ms};
	int status = read_rows(&next, text, length);

	if (status < 0) {
		host_top_free(&next);
		return status;
	}
	rate_rows(&next, table);
	host_top_free(table);
	*table = next;
	return 0;
}

void host_top_forget_rates(struct host_top_table *table)
{
	table->taken_ms = 0;
	for (size_t i = 0; i < table->count; i++) {
		table->rows[i].rate = HOST_TOP_NO_RATE;
		table->rows[i].worse = false;
	}
}

void host_top_free(struct host_top_table *table)
{
	free(table->rows);
	*table = (struct host_top_table){.rows = NULL};
}

struct host_top_sums host_top_sum(const struct host_top_table *table)
{
	struct host_top_sums sums = {.rate = HOST_TOP_NO_RATE};

	for (size_t i = 0; i < table->count; i++) {
		const struct host_top_row *row = &table->rows[i];

		sums.connected += row->state == HOST_TOP_CONNECTED;
		sums.silent += row->state == HOST_TOP_SILENT;
		sums.refused_cells += row->state == HOST_TOP_REFUSED;
		sums.events += row->events;
		sums.refused += row->refused;
		sums.dropped += dropped_of(row);
		sums.lost += row->lost;
		sums.bad += row->bad;
		if (row->rate >= 0)
			sums.rate = (sums.rate < 0 ? 0 : sums.rate) + row->rate;
	}
	return sums;
}

/* ---- sorting -------------------------------------------------------------------------------- */

struct order {
	enum host_top_column column;
	bool turned;
};

static int compare_numbers(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* The column's number; what has none is 0. */
static uint64_t number_of(const struct host_top_row *row, enum host_top_column column)
{
	switch (column) {
	case HOST_TOP_RATE:
		return row->rate < 0 ? 0 : (uint64_t)(row->rate * 1000) + 1;
	case HOST_TOP_EVENTS:
		return row->events;
	case HOST_TOP_PROC:
	case HOST_TOP_FS:
	case HOST_TOP_CAP:
	case HOST_TOP_NET:
		return row->dropped[column - HOST_TOP_PROC];
	case HOST_TOP_LOST:
		return row->lost;
	case HOST_TOP_BAD:
		return row->bad;
	case HOST_TOP_QUIET:
		return row->quiet_ms;
	default:
		return 0;
	}
}

static int compare_rows(const void *a, const void *b, void *context)
{
	const struct host_top_row *x = a, *y = b;
	const struct order *order = context;
	int result;

	if (order->column == HOST_TOP_RUN)
		result = strverscmp(x->run, y->run);
	else if (order->column == HOST_TOP_STATE)
		result = compare_numbers(x->state, y->state);
	else if (order->column == HOST_TOP_LATEST)
		result = strcmp(x->latest, y->latest);
	else
		result = compare_numbers(number_of(y, order->column), number_of(x, order->column));
	if (result == 0)
		result = by_name(x, y);
	return order->turned ? -result : result;
}

void host_top_sort(struct host_top_table *table, enum host_top_column column, bool turned)
{
	struct order order = {.column = column, .turned = turned};

	if (table->count > 1)
		qsort_r(table->rows, table->count, sizeof(*table->rows), compare_rows, &order);
}

/* ---- text ----------------------------------------------------------------------------------- */

static const char *const headings[HOST_TOP_COLUMNS] = {
	[HOST_TOP_CELL] = "CELL",     [HOST_TOP_RUN] = "RUN",       [HOST_TOP_STATE] = "STATE",
	[HOST_TOP_RATE] = "RATE/S",   [HOST_TOP_EVENTS] = "EVENTS", [HOST_TOP_PROC] = "D.PROC",
	[HOST_TOP_FS] = "D.FS",       [HOST_TOP_CAP] = "D.CAP",     [HOST_TOP_NET] = "D.NET",
	[HOST_TOP_LOST] = "LOST",     [HOST_TOP_BAD] = "BAD",       [HOST_TOP_QUIET] = "QUIET",
	[HOST_TOP_LATEST] = "LATEST",
};

const char *host_top_heading(enum host_top_column column)
{
	return headings[column];
}

/* As the headings, in small letters; "rate" for "RATE/S", "proc" for "D.PROC". */
int host_top_column_parse(const char *name)
{
	for (int i = 0; i < HOST_TOP_COLUMNS; i++) {
		const char *heading = headings[i] + 2 * (headings[i][1] == '.');
		size_t length = strcspn(heading, "/");

		if (strlen(name) == length && strncasecmp(name, heading, length) == 0)
			return i;
	}
	return -1;
}

bool host_top_is_number(enum host_top_column column)
{
	return column >= HOST_TOP_RATE && column <= HOST_TOP_QUIET;
}

unsigned host_top_width(enum host_top_column column)
{
	return column == HOST_TOP_EVENTS ? DIGITS_OF_EVENTS + 1 : DIGITS + 1;
}

const char *host_top_number(uint64_t number, unsigned digits, char out[HOST_TOP_TEXT_BYTES])
{
	static const char units[] = "kMGTPE";
	int length = snprintf(out, HOST_TOP_TEXT_BYTES, "%" PRIu64, number);
	/* Digits before the point, and behind: three in all. Cut, never rounded up. */
	int whole = (length - 1) % 3 + 1;
	char all[24];

	if ((unsigned)length <= digits)
		return out;
	memcpy(all, out, (size_t)length + 1);
	snprintf(out, HOST_TOP_TEXT_BYTES, "%.*s%s%.*s%c", whole, all, whole < 3 ? "." : "",
		 3 - whole, all + whole, units[(length - 1) / 3 - 1]);
	return out;
}

static const char *duration_text(uint64_t ms, bool exact, char out[HOST_TOP_TEXT_BYTES])
{
	uint64_t s = ms / 1000;

	if (exact)
		snprintf(out, HOST_TOP_TEXT_BYTES, "%" PRIu64 ".%03" PRIu64, s, ms % 1000);
	else if (s < 10)
		snprintf(out, HOST_TOP_TEXT_BYTES, "%" PRIu64 ".%" PRIu64 "s", s, ms % 1000 / 100);
	else if (s < 1000)
		snprintf(out, HOST_TOP_TEXT_BYTES, "%" PRIu64 "s", s);
	else if (s < 60000)
		snprintf(out, HOST_TOP_TEXT_BYTES, "%" PRIu64 "m", s / 60);
	else
		snprintf(out, HOST_TOP_TEXT_BYTES, "%" PRIu64 "h", s / 3600);
	return out;
}

static const char *rate_text(double rate, char out[HOST_TOP_TEXT_BYTES])
{
	if (rate < 0)
		snprintf(out, HOST_TOP_TEXT_BYTES, "-");
	else if (rate > 0 && rate < 10)
		snprintf(out, HOST_TOP_TEXT_BYTES, "%.1f", rate);
	else
		(void)host_top_number((uint64_t)(rate + 0.5), DIGITS, out);
	return out;
}

static const char *copy_text(const char *text, char out[HOST_TOP_TEXT_BYTES])
{
	snprintf(out, HOST_TOP_TEXT_BYTES, "%s", text[0] == '\0' ? "-" : text);
	return out;
}

const char *host_top_text(const struct host_top_row *row, enum host_top_column column, bool exact,
			  char out[HOST_TOP_TEXT_BYTES])
{
	static const char *const states[] = {[HOST_TOP_REFUSED] = "refused",
					     [HOST_TOP_SILENT] = "silent",
					     [HOST_TOP_CLOSING] = "closing",
					     [HOST_TOP_AWAY] = "away",
					     [HOST_TOP_CONNECTED] = "connected"};
	char number[HOST_TOP_TEXT_BYTES];
	bool is_blind;

	switch (column) {
	case HOST_TOP_CELL:
		return copy_text(row->id, out);
	case HOST_TOP_RUN:
		return copy_text(row->run, out);
	case HOST_TOP_STATE:
		return copy_text(states[row->state], out);
	case HOST_TOP_LATEST:
		return copy_text(row->latest, out);
	case HOST_TOP_RATE:
		return rate_text(row->rate, out);
	case HOST_TOP_QUIET:
		return duration_text(row->quiet_ms, exact, out);
	default:
		break;
	}
	(void)host_top_number(number_of(row, column),
			      exact ? ALL_DIGITS : host_top_width(column) - 1, number);
	is_blind = column >= HOST_TOP_PROC && column <= HOST_TOP_NET &&
		   row->blind[column - HOST_TOP_PROC];
	snprintf(out, HOST_TOP_TEXT_BYTES, "%.32s%s", number, is_blind ? "+" : "");
	return out;
}
