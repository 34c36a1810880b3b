/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The screen of `top` with ncurses; top_screen.h has the contract. One thread.
 *
 * Only what is visible is drawn, whatever the number of cells. Columns that do not fit are left
 * out, the least needed first.
 */
#include "top_screen.h"

#include <curses.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define HEAD_LINES 5
#define FOOT_LINES 1
#define LINE_BYTES 512
#define LEAST_LATEST 8

enum { PAIR_BAD = 1, PAIR_WARN, PAIR_GOOD };

static SCREEN *screen;
static bool has_colour;

/* ---- life ----------------------------------------------------------------------------------- */

int host_top_screen_start(void)
{
	if (!isatty(STDIN_FILENO) || !isatty(STDOUT_FILENO))
		return -ENOTTY;
	/* initscr would end the process at a terminal it does not know. */
	screen = newterm(NULL, stdout, stdin);
	if (screen == NULL)
		return -ENOTTY;
	(void)cbreak();
	(void)noecho();
	(void)nonl();
	(void)curs_set(0);
	(void)keypad(stdscr, TRUE);
	(void)nodelay(stdscr, TRUE);
	(void)set_escdelay(25);
	has_colour = has_colors() && start_color() == OK && use_default_colors() == OK &&
		     init_pair(PAIR_BAD, COLOR_RED, -1) == OK &&
		     init_pair(PAIR_WARN, COLOR_YELLOW, -1) == OK &&
		     init_pair(PAIR_GOOD, COLOR_GREEN, -1) == OK;
	return 0;
}

void host_top_screen_stop(void)
{
	if (screen == NULL)
		return;
	(void)endwin();
	delscreen(screen);
	screen = NULL;
}

/* ---- columns -------------------------------------------------------------------------------- */

struct layout {
	unsigned width[HOST_TOP_COLUMNS]; /* 0: left out */
};

static unsigned clamp(size_t value, unsigned least, unsigned most)
{
	return value < least ? least : value > most ? most : (unsigned)value;
}

static unsigned total_of(const struct layout *layout)
{
	unsigned total = 0;

	for (size_t i = 0; i < HOST_TOP_COLUMNS; i++)
		total += layout->width[i] == 0 ? 0 : layout->width[i] + 1;
	return total;
}

static struct layout lay_out(const struct host_top_table *table, unsigned columns)
{
	static const enum host_top_column least_needed[] = {
		HOST_TOP_RUN, HOST_TOP_QUIET, HOST_TOP_BAD,  HOST_TOP_CAP,   HOST_TOP_NET,
		HOST_TOP_FS,  HOST_TOP_PROC,  HOST_TOP_LOST, HOST_TOP_STATE, HOST_TOP_RATE,
	};
	struct layout layout;
	size_t id = 0, run = 0;

	for (size_t i = 0; i < table->count; i++) {
		size_t length = strlen(table->rows[i].id), of_run = strlen(table->rows[i].run);

		id = length > id ? length : id;
		run = of_run > run ? of_run : run;
	}
	for (unsigned i = 0; i < HOST_TOP_COLUMNS; i++)
		layout.width[i] = host_top_width((enum host_top_column)i);
	layout.width[HOST_TOP_CELL] = clamp(id, 6, 24);
	layout.width[HOST_TOP_RUN] = clamp(run, 3, 12);
	layout.width[HOST_TOP_STATE] = 9;
	layout.width[HOST_TOP_LATEST] = 0;
	for (size_t i = 0;
	     i < sizeof(least_needed) / sizeof(least_needed[0]) && total_of(&layout) > columns + 1;
	     i++)
		layout.width[least_needed[i]] = 0;
	if (columns > total_of(&layout) + LEAST_LATEST)
		layout.width[HOST_TOP_LATEST] = columns - total_of(&layout);
	return layout;
}

/* ---- drawing -------------------------------------------------------------------------------- */

static attr_t colour(int pair)
{
	return has_colour ? (attr_t)COLOR_PAIR(pair) : 0;
}

static void put_line(int y, attr_t look, const char *text)
{
	if (y >= LINES)
		return;
	(void)attrset((int)look);
	(void)mvaddnstr(y, 0, text, COLS);
	(void)attrset(A_NORMAL);
}

static void draw_field(int y, int x, unsigned width, bool to_the_right, attr_t look,
		       const char *text)
{
	char field[LINE_BYTES];
	int room = (int)clamp(width, 0, (unsigned)(COLS > x ? COLS - x : 0));

	if (room == 0)
		return;
	snprintf(field, sizeof(field), to_the_right ? "%*.*s" : "%-*.*s", room, room, text);
	(void)attrset((int)look);
	(void)mvaddnstr(y, x, field, room);
	(void)attrset(A_NORMAL);
}

static attr_t look_of(const struct host_top_row *row, enum host_top_column column, bool old)
{
	static const attr_t none = A_NORMAL;

	if (old)
		return A_DIM;
	if (column == HOST_TOP_STATE) {
		const attr_t looks[] = {[HOST_TOP_REFUSED] = colour(PAIR_BAD) | A_BOLD,
					[HOST_TOP_SILENT] = colour(PAIR_WARN) | A_BOLD,
					[HOST_TOP_CLOSING] = A_DIM,
					[HOST_TOP_AWAY] = A_DIM,
					[HOST_TOP_CONNECTED] = colour(PAIR_GOOD)};

		return looks[row->state];
	}
	if (column < HOST_TOP_PROC || column > HOST_TOP_BAD)
		return none;
	/* What is missing stands out; what is going missing now, more so. */
	if ((column == HOST_TOP_LOST && row->lost == 0) ||
	    (column == HOST_TOP_BAD && row->bad == 0))
		return none;
	if (column <= HOST_TOP_NET && row->dropped[column - HOST_TOP_PROC] == 0 &&
	    !row->blind[column - HOST_TOP_PROC])
		return none;
	return row->worse ? colour(PAIR_BAD) | A_BOLD : colour(PAIR_WARN);
}

static void draw_row(int y, const struct host_top_row *row, const struct layout *layout, bool old)
{
	char text[HOST_TOP_TEXT_BYTES];
	int x = 0;

	for (unsigned i = 0; i < HOST_TOP_COLUMNS; i++) {
		enum host_top_column column = (enum host_top_column)i;

		if (layout->width[i] == 0)
			continue;
		draw_field(y, x, layout->width[i], host_top_is_number(column),
			   look_of(row, column, old), host_top_text(row, column, false, text));
		x += (int)layout->width[i] + 1;
	}
}

static void draw_headings(int y, const struct host_top_view *view, const struct layout *layout)
{
	int x = 0;

	for (unsigned i = 0; i < HOST_TOP_COLUMNS; i++) {
		enum host_top_column column = (enum host_top_column)i;
		attr_t look = A_BOLD | (column == view->column ? A_REVERSE : A_UNDERLINE);

		if (layout->width[i] == 0)
			continue;
		draw_field(y, x, layout->width[i], host_top_is_number(column), look,
			   host_top_heading(column));
		x += (int)layout->width[i] + 1;
	}
}

static void draw_head(const struct host_top_view *view)
{
	const struct host_top_sums sums = host_top_sum(view->table);
	char line[LINE_BYTES], numbers[6][HOST_TOP_TEXT_BYTES], clock[16] = "";
	time_t now = time(NULL);
	struct tm local;

	if (localtime_r(&now, &local) != NULL)
		(void)strftime(clock, sizeof(clock), "%H:%M:%S", &local);
	snprintf(line, sizeof(line), "cellos-telemetry-host top  %.*s  %s", 108, view->where,
		 clock);
	put_line(0, A_BOLD, line);
	snprintf(line, sizeof(line),
		 "%zu cells: %zu connected, %zu silent, %zu refused, %zu away or closing",
		 view->table->count, sums.connected, sums.silent, sums.refused_cells,
		 view->table->count - sums.connected - sums.silent - sums.refused_cells);
	put_line(1, A_NORMAL, line);
	snprintf(line, sizeof(line),
		 "%s events/s, %s events, %s dropped, %s lost, %s bad, %s refused",
		 sums.rate < 0 ? "-" : host_top_number((uint64_t)sums.rate, 5, numbers[0]),
		 host_top_number(sums.events, 8, numbers[1]),
		 host_top_number(sums.dropped, 5, numbers[2]),
		 host_top_number(sums.lost, 5, numbers[3]),
		 host_top_number(sums.bad, 5, numbers[4]),
		 host_top_number(sums.refused, 5, numbers[5]));
	put_line(2, A_NORMAL, line);
	if (view->trouble != NULL)
		put_line(3, colour(PAIR_BAD) | A_REVERSE, view->trouble);
}

static size_t page_of(void)
{
	return LINES > HEAD_LINES + FOOT_LINES ? (size_t)(LINES - HEAD_LINES - FOOT_LINES) : 0;
}

static void draw_foot(const struct host_top_view *view, size_t shown)
{
	char line[LINE_BYTES];

	if (LINES <= HEAD_LINES)
		return;
	snprintf(line, sizeof(line),
		 "%zu-%zu of %zu   q quit   left right r: sort by %s%s   up down PgUp PgDn "
		 "Home End",
		 shown == 0 ? 0 : view->first + 1, view->first + shown, view->table->count,
		 host_top_heading(view->column), view->turned ? ", turned" : "");
	put_line(LINES - 1, A_DIM, line);
}

static void clamp_first(struct host_top_view *view)
{
	size_t last = view->table->count > page_of() ? view->table->count - page_of() : 0;

	if (view->first > last)
		view->first = last;
}

void host_top_screen_draw(struct host_top_view *view)
{
	struct layout layout = lay_out(view->table, (unsigned)COLS);
	size_t shown;

	clamp_first(view);
	shown = view->table->count - view->first;
	shown = shown < page_of() ? shown : page_of();
	(void)erase();
	draw_head(view);
	if (LINES > HEAD_LINES)
		draw_headings(HEAD_LINES - 1, view, &layout);
	for (size_t i = 0; i < shown; i++)
		draw_row(HEAD_LINES + (int)i, &view->table->rows[view->first + i], &layout,
			 view->trouble != NULL);
	draw_foot(view, shown);
	(void)refresh();
}

/* ---- keys ----------------------------------------------------------------------------------- */

static void sort_by(struct host_top_view *view, int column, bool turned)
{
	view->column = (enum host_top_column)((column + HOST_TOP_COLUMNS) % HOST_TOP_COLUMNS);
	view->turned = turned;
	host_top_sort(view->table, view->column, turned);
}

static void scroll_by(struct host_top_view *view, ptrdiff_t rows)
{
	if (rows < 0 && view->first < (size_t)-rows)
		view->first = 0;
	else
		view->first += (size_t)rows;
	clamp_first(view);
}

static void take_key(struct host_top_view *view, int key)
{
	ptrdiff_t page = (ptrdiff_t)page_of();

	switch (key) {
	case KEY_LEFT:
	case KEY_RIGHT:
		sort_by(view, (int)view->column + (key == KEY_LEFT ? -1 : 1), false);
		break;
	case 'r':
		sort_by(view, (int)view->column, !view->turned);
		break;
	case KEY_UP:
	case KEY_DOWN:
		scroll_by(view, key == KEY_UP ? -1 : 1);
		break;
	case KEY_PPAGE:
	case KEY_NPAGE:
	case ' ':
		scroll_by(view, key == KEY_PPAGE ? -page : page);
		break;
	case KEY_HOME:
		view->first = 0;
		break;
	case KEY_END:
		view->first = view->table->count;
		clamp_first(view);
		break;
	default: /* KEY_RESIZE among them: it is drawn anew anyway */
		break;
	}
}

bool host_top_screen_keys(struct host_top_view *view)
{
	int key;

	while ((key = getch()) != ERR) {
		if (key == 'q' || key == 'Q')
			return false;
		take_key(view, key);
	}
	return true;
}
