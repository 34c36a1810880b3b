/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The metrics' text: the same in whatever pieces it is made, nothing written outside the buffer,
 * and labels that cannot break out of their quotes. What a parser makes of it is test_scrape.py's.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "metrics.h"

#define MANY (1u << 20)

static struct host_metrics_cell cells[3];

static struct host_metrics picture(void)
{
	struct host_metrics metrics = {
		.version = "1", .format = "raw", .count = 3, .cells = cells, .cpu_ms = 61007};
	uint64_t *numbers = (uint64_t *)&cells[2].totals;

	memset(cells, 0, sizeof(cells));
	strcpy(cells[0].id, "a");
	strcpy(cells[0].run, "r");
	strcpy(cells[1].id, "\"},\\\n");
	memset(cells[2].id, '"', HOST_ID_MAX_BYTES);
	memset(cells[2].run, '\\', HOST_ID_MAX_BYTES);
	/* The longest line that there can be: every number at its end. */
	for (size_t i = 0; i < sizeof(cells[2].totals) / sizeof(*numbers); i++)
		numbers[i] = UINT64_MAX;
	return metrics;
}

/* In pieces of `size`; NUL-terminated, owned by the caller. */
static char *whole(const struct host_metrics *metrics, size_t size, size_t *pieces)
{
	char *text = malloc(MANY + 1), *piece = malloc(size + 1);
	struct host_metrics_cursor cursor = {0};
	size_t length = 0, n;

	for (*pieces = 0;; ++*pieces) {
		piece[size] = 0x55;
		n = host_metrics_render(metrics, &cursor, piece, size);
		cr_assert_eq(piece[size], 0x55);
		if (n == 0)
			break;
		cr_assert_leq(n, size);
		cr_assert_eq(piece[n - 1], '\n', "a piece ends within a line");
		cr_assert_leq(length + n, MANY);
		memcpy(text + length, piece, n);
		length += n;
	}
	cr_assert_eq(host_metrics_render(metrics, &cursor, piece, size), 0, "the end is final");
	text[length] = '\0';
	free(piece);
	return text;
}

Test(metrics, same_text_whatever_the_piece)
{
	struct host_metrics metrics = picture();
	size_t pieces, more;
	char *text = whole(&metrics, MANY, &pieces);

	cr_assert_eq(pieces, 1);
	for (size_t size = HOST_METRICS_STEP_BYTES; size < HOST_METRICS_STEP_BYTES + 200; size++) {
		char *same = whole(&metrics, size, &more);

		cr_assert_str_eq(same, text, "%zu", size);
		cr_assert_gt(more, 10);
		free(same);
	}
	free(text);
}

Test(metrics, a_step_has_room_for_the_longest_line)
{
	struct host_metrics metrics = picture();
	size_t pieces, most = 0;
	char *text = whole(&metrics, MANY, &pieces);

	for (char *line = text, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
		size_t length = (size_t)(end - line) + 1;

		/* A head is two lines. */
		if (line[0] == '#')
			length *= 2;
		most = length > most ? length : most;
	}
	cr_assert_leq(most, HOST_METRICS_STEP_BYTES);
	cr_assert_gt(most, HOST_METRICS_STEP_BYTES / 2, "%zu: the room is for nothing", most);
	free(text);
}

Test(metrics, labels_are_escaped)
{
	struct host_metrics metrics = picture();
	size_t pieces;
	char *text = whole(&metrics, MANY, &pieces);

	cr_assert_not_null(strstr(
		text, "\ncellos_host_frames_total{cell_id=\"a\",run_id=\"r\"} 0\n"
		      "cellos_host_frames_total{cell_id=\"\\\"},\\\\\\n\",run_id=\"\"} 0\n"));
	cr_assert_not_null(strstr(text, "\nprocess_cpu_seconds_total 61.007\n"));
	free(text);
}

Test(metrics, what_is_left_out)
{
	struct host_metrics metrics = picture();
	size_t pieces;
	char *text;

	cells[0].totals.bad[CELLOS_WIRE_NOT_MAP5] = 3;
	text = whole(&metrics, MANY, &pieces);
	cr_assert_not_null(strstr(text, "{cell_id=\"a\",run_id=\"r\",error=\"NotMap5\"} 3\n"));
	cr_assert_not_null(
		strstr(text, "{cell_id=\"a\",run_id=\"r\",error=\"FrameTooLarge\"} 0\n"));
	cr_assert_null(strstr(text, "{cell_id=\"a\",run_id=\"r\",error=\"FieldTooLong\"}"));
	cr_assert_null(strstr(text, "error=\"Ok\""));
	cr_assert_not_null(
		strstr(text, "{cell_id=\"a\",run_id=\"r\",lane=\"net\",reason=\"x\"} 0\n"));
	cr_assert_null(strstr(text, "cellos_host_sink"));
	free(text);

	metrics.spooled = true;
	metrics.sink.lag_bytes = 5;
	text = whole(&metrics, MANY, &pieces);
	cr_assert_not_null(strstr(text, "\ncellos_host_sink_lag_bytes 5\n"));
	free(text);

	metrics.count = 0;
	text = whole(&metrics, MANY, &pieces);
	cr_assert_null(strstr(text, "cellos_host_frames_total"), "a head without a sample");
	cr_assert_not_null(strstr(text, "\ncellos_host_cells 0\n"));
	free(text);
}
