/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The loop of `top`; top.h says what holds. One thread.
 *
 * One question is under way at a time, on a connection of its own, and never waited for: keys work
 * while a receiver hangs. Signals are collected by a descriptor, so the terminal is always left as
 * it was found; SIGWINCH stays ncurses' own, and ends a poll.
 */
#include "top.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "top_screen.h"
#include "top_table.h"

#define PERIOD_MS 1000
#define ANSWER_MS 5000
/* More than HOST_MAX_CELLS lines of the longest kind. */
#define MAX_ANSWER_BYTES (32u * 1024u * 1024u)

struct question {
	int fd;            /* owned; -1: none is under way */
	uint64_t deadline; /* CLOCK_MONOTONIC, ms */
	char *text;        /* owned; kept from one question to the next */
	size_t length, room;
};

struct top {
	struct question question;
	struct host_top_table table;
	struct host_top_view view;
	char trouble[256];
	int signals; /* owned */
	uint64_t next_ms;
};

/* ---- a question ----------------------------------------------------------------------------- */

static void close_question(struct question *question)
{
	if (question->fd >= 0)
		(void)close(question->fd);
	question->fd = -1;
}

static int begin_question(struct question *question, const char *path)
{
	static const char request[] = "list\n";
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int status = 0;

	question->length = 0;
	question->deadline = host_now_ms() + ANSWER_MS;
	question->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (question->fd < 0)
		return -errno;
	memcpy(name.sun_path, path, strlen(path) + 1);
	/* A Unix socket connects at once or not at all, and has room for so few bytes. */
	if (connect(question->fd, (const struct sockaddr *)&name, sizeof(name)) < 0 ||
	    send(question->fd, request, sizeof(request) - 1, MSG_NOSIGNAL) < 0)
		status = -errno;
	if (status < 0)
		close_question(question);
	return status;
}

static int make_room(struct question *question)
{
	size_t room = question->room == 0 ? 65536 : 2 * question->room;
	char *text;

	if (question->length < question->room)
		return 0;
	if (room > MAX_ANSWER_BYTES)
		return -EMSGSIZE;
	text = realloc(question->text, room);
	if (text == NULL)
		return -ENOMEM;
	question->text = text;
	question->room = room;
	return 0;
}

/* 1: the answer is whole; 0: not yet; -errno. In the first and the last case it is over. */
static int go_on(struct question *question)
{
	int status;
	ssize_t n;

	do {
		status = make_room(question);
		if (status < 0)
			break;
		n = recv(question->fd, question->text + question->length,
			 question->room - question->length, 0);
		if (n > 0)
			question->length += (size_t)n;
	} while (n > 0 || (n < 0 && errno == EINTR));
	if (status == 0)
		status = n == 0 ? 1 : errno == EAGAIN ? 0 : -errno;
	if (status == 0 && host_now_ms() >= question->deadline)
		status = -ETIMEDOUT;
	if (status != 0)
		close_question(question);
	return status;
}

/* ---- once ----------------------------------------------------------------------------------- */

static int wait_for_answer(struct question *question)
{
	int status;

	while ((status = go_on(question)) == 0) {
		struct pollfd look = {.fd = question->fd, .events = POLLIN};
		uint64_t now = host_now_ms();

		(void)poll(&look, 1,
			   now < question->deadline ? (int)(question->deadline - now) : 0);
	}
	return status < 0 ? status : 0;
}

static unsigned width_of(const struct host_top_table *table, enum host_top_column column)
{
	size_t width = strlen(host_top_heading(column)), length;
	char text[HOST_TOP_TEXT_BYTES];

	for (size_t i = 0; i < table->count; i++) {
		length = strlen(host_top_text(&table->rows[i], column, true, text));
		width = length > width ? length : width;
	}
	return (unsigned)width;
}

static void print_field(enum host_top_column column, unsigned width, const char *text)
{
	if (column == HOST_TOP_LATEST)
		printf("%s\n", text); /* last: nothing to be filled up behind it */
	else
		printf(host_top_is_number(column) ? "%*s  " : "%-*s  ", (int)width, text);
}

static int print_table(const struct host_top_table *table)
{
	unsigned widths[HOST_TOP_COLUMNS];
	char text[HOST_TOP_TEXT_BYTES];

	for (unsigned i = 0; i < HOST_TOP_COLUMNS; i++) {
		widths[i] = width_of(table, (enum host_top_column)i);
		print_field((enum host_top_column)i, widths[i],
			    host_top_heading((enum host_top_column)i));
	}
	for (size_t row = 0; row < table->count; row++)
		for (unsigned i = 0; i < HOST_TOP_COLUMNS; i++)
			print_field((enum host_top_column)i, widths[i],
				    host_top_text(&table->rows[row], (enum host_top_column)i, true,
						  text));
	return fflush(stdout) == 0 && ferror(stdout) == 0 ? 0 : -errno;
}

static int show_once(struct top *top, const struct host_options *options, const char **what)
{
	int status = begin_question(&top->question, options->ctl.path);

	*what = "connect to";
	if (status < 0)
		return status;
	*what = "talk to";
	status = wait_for_answer(&top->question);
	if (status == 0)
		status = host_top_take(&top->table, top->question.text, top->question.length,
				       host_now_ms());
	if (status < 0)
		return status;
	*what = "write";
	host_top_sort(&top->table, options->top.sort, false);
	return print_table(&top->table);
}

/* ---- live ----------------------------------------------------------------------------------- */

/* What is shown is from before: it stays, and says so. */
static void note_trouble(struct top *top, int status)
{
	snprintf(top->trouble, sizeof(top->trouble),
		 "no answer from the receiver: %s; what you see is from before, trying again",
		 strerror(-status));
	top->view.trouble = top->trouble;
	host_top_forget_rates(&top->table);
}

static void take_answer(struct top *top)
{
	int status =
		host_top_take(&top->table, top->question.text, top->question.length, host_now_ms());

	if (status < 0) {
		note_trouble(top, status);
		return;
	}
	top->view.trouble = NULL;
	host_top_sort(&top->table, top->view.column, top->view.turned);
}

/* Asks when it is time to, or takes what has come of the answer. */
static void ask(struct top *top, const char *path)
{
	int status;

	if (top->question.fd < 0) {
		if (host_now_ms() < top->next_ms)
			return;
		top->next_ms = host_now_ms() + PERIOD_MS;
		status = begin_question(&top->question, path);
	} else {
		status = go_on(&top->question);
	}
	if (status < 0)
		note_trouble(top, status);
	else if (status > 0)
		take_answer(top);
}

/* False: the user wants to leave, or the terminal has gone. */
static bool wait_for_something(struct top *top)
{
	struct pollfd looks[] = {{.fd = STDIN_FILENO, .events = POLLIN},
				 {.fd = top->signals, .events = POLLIN},
				 {.fd = top->question.fd, .events = POLLIN}};
	uint64_t now = host_now_ms(),
		 until = top->question.fd >= 0 ? top->question.deadline : top->next_ms;

	/* A poll that SIGWINCH ends leaves revents as they are: nothing is ready. */
	(void)poll(looks, 3, until > now ? (int)(until - now) : 0);
	return looks[1].revents == 0 && (looks[0].revents & (POLLHUP | POLLERR | POLLNVAL)) == 0;
}

static int collect_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGHUP);
	if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
		return -errno;
	int fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);

	return fd < 0 ? -errno : fd;
}

static int show_live(struct top *top, const struct host_options *options, const char **what)
{
	int status;

	*what = "show";
	top->signals = collect_signals();
	if (top->signals < 0)
		return top->signals;
	status = host_top_screen_start();
	if (status < 0)
		return status;
	do {
		ask(top, options->ctl.path);
		/* After a key, or a change of size, too: what has not changed costs nothing. */
		host_top_screen_draw(&top->view);
	} while (wait_for_something(top) && host_top_screen_keys(&top->view));
	host_top_screen_stop();
	return 0;
}

int host_top(const struct host_options *options, const char **what)
{
	struct top top = {.question = {.fd = -1}, .signals = -1};
	int status;

	top.view.where = options->ctl.path;
	top.view.table = &top.table;
	top.view.column = options->top.sort;
	if (options->top.once)
		status = show_once(&top, options, what);
	else
		status = show_live(&top, options, what);
	close_question(&top.question);
	free(top.question.text);
	host_top_free(&top.table);
	if (top.signals >= 0)
		(void)close(top.signals);
	return status;
}
