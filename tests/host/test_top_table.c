/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The rows of `top`: what is read, what is reckoned from two looks, how it is sorted and written.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "top_table.h"

#define CELL(id, events, rest)                                                                     \
	"{\"cell_id\":\"" id "\",\"run_id\":\"r\",\"connected\":true,\"silent\":false,"            \
	"\"admitted\":true,\"closing\":false,\"events\":" #events rest "}\n"

static struct host_top_table taken(const char *text)
{
	struct host_top_table table = {.rows = NULL};

	cr_assert_eq(host_top_take(&table, text, strlen(text), 1000), 0);
	return table;
}

static void expect(const struct host_top_row *row, enum host_top_column column, const char *text)
{
	char out[HOST_TOP_TEXT_BYTES];

	cr_assert_str_eq(host_top_text(row, column, true, out), text);
}

Test(top_table, a_row)
{
	struct host_top_table table = taken(CELL(
		"a", 12,
		",\"refused\":1,\"lost_in_flight\":18446744073709551610,\"lost_in_host\":5,"
		"\"quiet_ms\":61007,\"bad\":{\"NotMap5\":2,\"FieldTooLong\":3},\"dropped\":{\"pq\":"
		"1,"
		"\"pk\":20,\"px\":300,\"ps\":4000,\"fo\":7,\"ns\":9},\"latest\":{\"probe_source\":"
		"\"process.spawned\",\"guest_pid\":77,\"guest_comm\":\"sh\",\"age_ms\":5}"));
	const struct host_top_row *row = &table.rows[0];

	cr_assert_eq(table.count, 1);
	expect(row, HOST_TOP_CELL, "a");
	expect(row, HOST_TOP_RUN, "r");
	expect(row, HOST_TOP_STATE, "connected");
	expect(row, HOST_TOP_RATE, "-");
	expect(row, HOST_TOP_EVENTS, "12");
	expect(row, HOST_TOP_PROC, "321"); /* not what was folded on purpose */
	expect(row, HOST_TOP_FS, "0+");
	expect(row, HOST_TOP_CAP, "0");
	expect(row, HOST_TOP_NET, "0");
	expect(row, HOST_TOP_LOST, "18446744073709551615");
	expect(row, HOST_TOP_BAD, "5");
	expect(row, HOST_TOP_QUIET, "61.007");
	expect(row, HOST_TOP_LATEST, "spawned sh 77");
	host_top_free(&table);
}

Test(top_table, states)
{
	static const struct {
		const char *members, *state;
	} cases[] = {
		{"\"connected\":true", "connected"},
		{"\"connected\":false", "away"},
		{"\"connected\":true,\"closing\":true", "closing"},
		{"\"connected\":true,\"silent\":true", "silent"},
		{"\"connected\":true,\"silent\":true,\"admitted\":false", "refused"},
		{"\"admitted\":true", "away"},
	};
	char text[256];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		snprintf(text, sizeof(text), "{\"cell_id\":\"a\",%s}\n", cases[i].members);
		struct host_top_table table = taken(text);

		expect(&table.rows[0], HOST_TOP_STATE, cases[i].state);
		host_top_free(&table);
	}
}

Test(top_table, nothing_that_a_guest_calls_itself_moves_the_cursor)
{
	struct host_top_table table = taken(CELL(
		"a", 1,
		",\"latest\":{\"probe_source\":\"x.y\",\"guest_pid\":1,"
		"\"guest_comm\":\"\\u001b[2J\\n\\u0000\\u009b\\u00e9\\ud83d\\ude00~\\u007f\"}"));

	/* The text ends at its NUL, as C sees it; each character is one column. */
	expect(&table.rows[0], HOST_TOP_LATEST, "y ?[2J? 1");
	host_top_free(&table);
	table = taken(CELL("a", 1,
			   ",\"latest\":{\"probe_source\":\"x.y\",\"guest_pid\":1,"
			   "\"guest_comm\":\"\\u009b\\u00e9\\ud83d\\ude00~\\u007f\"}"));
	expect(&table.rows[0], HOST_TOP_LATEST, "y ???~? 1");
	host_top_free(&table);
}

Test(top_table, what_is_no_answer_changes_nothing)
{
	static const char *const texts[] = {
		"{\"error\":\"no\"}\n",
		"[]\n",
		"\n",
		"{\"cell_id\":\"a\"}",
		/* cut short */ "{\"cell_id\":\"a\"}\n{\"cell_id\":",
		"{\"cell_id\":7}\n",
		"{\"cell_id\":\"\"}\n",
		"{\"cell_id\":\"a\"\n",
	};
	struct host_top_table table = taken(CELL("a", 7, ""));

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		cr_assert_eq(host_top_take(&table, texts[i], strlen(texts[i]), 2000), -EPROTO, "%s",
			     texts[i]);
		cr_assert_eq(table.count, 1);
		expect(&table.rows[0], HOST_TOP_EVENTS, "7");
	}
	cr_assert_eq(host_top_take(&table, "", 0, 2000), 0, "no cells is an answer");
	cr_assert_eq(table.count, 0);
	host_top_free(&table);
}

Test(top_table, rates_come_from_two_looks)
{
	struct host_top_table table = taken(CELL("a", 100, "") CELL("b", 5, ",\"bad\":{\"x\":1}"));
	const char *next = CELL("b", 5, ",\"bad\":{\"x\":2}") CELL("a", 1100, "") CELL("c", 1, "");

	cr_assert_lt(host_top_sum(&table).rate, 0);
	cr_assert_eq(host_top_take(&table, next, strlen(next), 3000), 0);
	host_top_sort(&table, HOST_TOP_CELL, false);
	expect(&table.rows[0], HOST_TOP_RATE, "500");
	expect(&table.rows[1], HOST_TOP_RATE, "0");
	expect(&table.rows[2], HOST_TOP_RATE, "-");
	cr_assert_not(table.rows[0].worse);
	cr_assert(table.rows[1].worse);
	cr_assert_float_eq(host_top_sum(&table).rate, 500, 0.001);
	/* Another receiver, which knows less of a. */
	next = CELL("a", 3, "") CELL("b", 9, "");
	cr_assert_eq(host_top_take(&table, next, strlen(next), 4000), 0);
	expect(&table.rows[0], HOST_TOP_RATE, "-");
	expect(&table.rows[1], HOST_TOP_RATE, "4.0");
	host_top_forget_rates(&table);
	expect(&table.rows[1], HOST_TOP_RATE, "-");
	cr_assert_eq(host_top_take(&table, next, strlen(next), 5000), 0);
	expect(&table.rows[1], HOST_TOP_RATE, "-");
	host_top_free(&table);
}

static void expect_order(enum host_top_column column, bool turned, const char *order)
{
	struct host_top_table table = taken(
		CELL("w2", 5, ",\"quiet_ms\":1,\"dropped\":{\"fq\":3}")
			CELL("w10", 5, ",\"quiet_ms\":3,\"silent\":true,\"dropped\":{\"nk\":1}")
				CELL("a", 90, ",\"quiet_ms\":2,\"bad\":{\"x\":1}"));
	char got[64] = "";

	host_top_sort(&table, column, turned);
	for (size_t i = 0; i < table.count; i++) {
		strcat(got, table.rows[i].id);
		strcat(got, " ");
	}
	cr_assert_str_eq(got, order, "by %s: %s", host_top_heading(column), got);
	host_top_free(&table);
}

Test(top_table, sorting)
{
	expect_order(HOST_TOP_CELL, false, "a w2 w10 ");
	expect_order(HOST_TOP_CELL, true, "w10 w2 a ");
	expect_order(HOST_TOP_EVENTS, false, "a w2 w10 ");
	expect_order(HOST_TOP_EVENTS, true, "w10 w2 a ");
	expect_order(HOST_TOP_STATE, false, "w10 a w2 ");
	expect_order(HOST_TOP_FS, false, "w2 a w10 ");
	expect_order(HOST_TOP_NET, false, "w10 a w2 ");
	expect_order(HOST_TOP_BAD, false, "a w2 w10 ");
	expect_order(HOST_TOP_QUIET, false, "w10 a w2 ");
}

Test(top_table, numbers_fit_their_columns)
{
	static const struct {
		uint64_t number;
		const char *text;
	} cases[] = {{0, "0"},
		     {99999, "99999"},
		     {100000, "100k"},
		     {999999, "999k"},
		     {1000000, "1.00M"},
		     {12345678, "12.3M"},
		     {999999999, "999M"},
		     {1000000000, "1.00G"},
		     {UINT64_MAX, "18.4E"}};
	char out[HOST_TOP_TEXT_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_str_eq(host_top_number(cases[i].number, 5, out), cases[i].text);
		cr_assert_lt(strlen(out), host_top_width(HOST_TOP_LOST));
	}
	cr_assert_str_eq(host_top_number(12345678, 8, out), "12345678");
	cr_assert_str_eq(host_top_number(UINT64_MAX, 20, out), "18446744073709551615");
}

Test(top_table, durations)
{
	static const struct {
		uint64_t ms;
		const char *text;
	} cases[] = {{0, "0.0s"},      {9999, "9.9s"},     {10000, "10s"},   {999999, "999s"},
		     {1000000, "16m"}, {59999999, "999m"}, {60000000, "16h"}};
	struct host_top_row row = {.id = "a"};
	char out[HOST_TOP_TEXT_BYTES];

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		row.quiet_ms = cases[i].ms;
		cr_assert_str_eq(host_top_text(&row, HOST_TOP_QUIET, false, out), cases[i].text);
	}
}

Test(top_table, columns_have_names)
{
	static const char *const names[HOST_TOP_COLUMNS] = {
		"cell", "run", "state", "rate", "events", "proc",  "fs",
		"cap",  "net", "lost",  "bad",  "quiet",  "latest"};

	for (int i = 0; i < HOST_TOP_COLUMNS; i++)
		cr_assert_eq(host_top_column_parse(names[i]), i, "%s", names[i]);
	cr_assert_eq(host_top_column_parse(""), -1);
	cr_assert_eq(host_top_column_parse("rat"), -1);
	cr_assert_eq(host_top_column_parse("rate/s"), -1);
	cr_assert_eq(host_top_column_parse("cells"), -1);
}
