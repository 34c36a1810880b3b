/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's loop; receiver.h says what it is.
 *
 * Descriptors are ours and non-blocking; libuv only says when they are ready. Each turn reads a
 * bounded amount of a connection, so that none starves the others. Nothing is read while the output
 * has no room: the agent then waits, its lanes fill, and what they drop has a number.
 *
 * A connection that knocks while another one lives is accepted, closed and counted. "Lives" means
 * that its peer has not closed: when it has, what it left behind is finite, is read to the end, and
 * the newcomer takes its place.
 *
 * Idle costs nothing: the timer runs only while something waits to be written or told.
 */
#include "receiver.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "account.h"
#include "input.h"
#include "report.h"

#define TURN_READS 4 /* of HOST_READ_BYTES each: 256 KiB a turn */
#define TURN_ACCEPTS 64
#define TICK_MS 100
/* At the end a slow reader of the output gets this long. */
#define FINISH_MS 2000
/* At the end the socket buffers are emptied, but not for ever: a guest may keep filling them. */
#define LAST_READS 256

struct host_receiver;
struct host_cell;

/* Freed by libuv's close callback, which comes a turn after we are done with it. */
struct host_connection {
	uv_poll_t poll;
	int fd;
	struct host_cell *cell;
	struct host_input input;
};

struct host_cell {
	struct host_receiver *receiver;
	struct cellos_listener listener;
	uv_poll_t listen_poll;
	struct host_connection *connection; /* owned; NULL: none lives */
	struct host_account account;
};

struct host_receiver {
	uv_loop_t loop;
	uv_timer_t tick;
	uv_signal_t sigterm, sigint;
	uv_poll_t output_poll;
	bool output_poll_made;
	bool blocked;    /* the output is full: no connection is read */
	bool paused;     /* no descriptor or memory for accept: tried again at the next tick */
	bool complained; /* about accept; said once until it works again */
	bool stopping;
	int error; /* -errno that ended the loop */
	enum host_failure failed;
	const struct host_options *options;
	struct host_output *output;
	struct host_cell cell;
	uint8_t buffer[HOST_READ_BYTES];
};

static void on_connection(uv_poll_t *poll_handle, int status, int events);
static void on_knock(uv_poll_t *poll_handle, int status, int events);
static void on_tick(uv_timer_t *timer);
static void on_output(uv_poll_t *poll_handle, int status, int events);

static void chat(const struct host_receiver *receiver, const char *text)
{
	if (receiver->options->verbose)
		fprintf(stderr, HOST_PROGRAM ": %s\n", text);
}

static void stop(struct host_receiver *receiver, int error, enum host_failure failed)
{
	if (receiver->error == 0 && error < 0) {
		receiver->error = error;
		receiver->failed = failed;
	}
	receiver->stopping = true;
	uv_stop(&receiver->loop);
}

/* Something waits for the clock: make sure that it ticks. */
static void want_tick(struct host_receiver *receiver)
{
	if (!uv_is_active((uv_handle_t *)&receiver->tick))
		uv_timer_start(&receiver->tick, on_tick, TICK_MS, 0);
}

/* ---- output --------------------------------------------------------------------------------- */

static void write_report(void *context, const struct host_report *report)
{
	struct host_receiver *receiver = context;

	if (host_report_write(&receiver->output->line, report) < 0)
		stop(receiver, -ENOSPC, HOST_FAILED_WRITE); /* excluded by HOST_OUTPUT_ROOM_BYTES */
}

static void set_blocked(struct host_receiver *receiver, bool blocked)
{
	struct host_cell *cell = &receiver->cell;

	if (receiver->blocked == blocked)
		return;
	receiver->blocked = blocked;
	if (cell->connection != NULL && blocked)
		uv_poll_stop(&cell->connection->poll);
	else if (cell->connection != NULL)
		uv_poll_start(&cell->connection->poll, UV_READABLE, on_connection);
	if (!blocked && !receiver->paused)
		uv_poll_start(&cell->listen_poll, UV_READABLE, on_knock);
}

/* The output said EAGAIN: hear when it goes on, and stop reading once there is no room. */
static void await_output(struct host_receiver *receiver)
{
	int status = 0;

	if (!receiver->output_poll_made) {
		status = host_output_watch(receiver->output);
		if (status >= 0)
			status = uv_poll_init(&receiver->loop, &receiver->output_poll, status);
	}
	if (status == 0) {
		receiver->output_poll_made = true;
		receiver->output_poll.data = receiver;
		/* readable: the watch is */
		status = uv_poll_start(&receiver->output_poll, UV_READABLE, on_output);
	}
	if (status < 0)
		stop(receiver, status, HOST_FAILED_WRITE);
	set_blocked(receiver, !host_output_has_room(receiver->output));
}

static void flush(struct host_receiver *receiver)
{
	int status = host_output_flush(receiver->output);

	if (status == -EAGAIN) {
		await_output(receiver);
		return;
	}
	if (status < 0)
		stop(receiver, status, HOST_FAILED_WRITE);
	if (receiver->output_poll_made)
		uv_poll_stop(&receiver->output_poll);
	set_blocked(receiver, false);
}

static void on_output(uv_poll_t *poll_handle, int status, int events)
{
	(void)status; /* an error shows at the write */
	(void)events;
	flush(poll_handle->data);
}

static void on_tick(uv_timer_t *timer)
{
	struct host_receiver *receiver = timer->data;

	if (receiver->paused) {
		receiver->paused = false;
		uv_poll_start(&receiver->cell.listen_poll, UV_READABLE, on_knock);
	}
	if (host_output_has_room(receiver->output))
		host_account_tell(&receiver->cell.account);
	else
		want_tick(receiver);
	flush(receiver);
}

/* ---- connections ---------------------------------------------------------------------------- */

static void free_connection(uv_handle_t *handle)
{
	free(handle->data);
}

static void end_connection(struct host_cell *cell)
{
	struct host_connection *connection = cell->connection;

	cell->connection = NULL;
	host_account_disconnected(&cell->account);
	uv_close((uv_handle_t *)&connection->poll, free_connection);
	(void)close(connection->fd); /* after uv_close: libuv has let go of it */
	chat(cell->receiver, "connection ended");
	if (cell->receiver->options->exit_on_close)
		stop(cell->receiver, 0, HOST_FAILED_LOOP);
}

/*
 * Up to `reads` reads. True when there may be more; false when the socket is empty for now, or the
 * connection has ended (cell->connection is NULL then), or the output has no room.
 */
static bool read_some(struct host_cell *cell, unsigned reads)
{
	struct host_receiver *receiver = cell->receiver;
	ssize_t n;

	for (unsigned i = 0; i < reads; i++) {
		if (receiver->output->line.length >= HOST_OUTPUT_FLUSH_BYTES)
			flush(receiver);
		if (receiver->error != 0 || !host_output_has_room(receiver->output))
			return false;
		n = host_input_read(&cell->connection->input, cell->connection->fd,
				    receiver->buffer, sizeof(receiver->buffer));
		if (n == -EAGAIN)
			return false;
		if (n == -EPROTO)
			chat(receiver, "framing lost: closing the connection");
		if (n <= 0) {
			/* End of file, a reset, or lost framing: all the same from here. */
			end_connection(cell);
			return false;
		}
	}
	return true;
}

static void on_connection(uv_poll_t *poll_handle, int status, int events)
{
	struct host_connection *connection = poll_handle->data;
	struct host_cell *cell = connection->cell;

	(void)status; /* an error shows at the read */
	(void)events;
	if (!read_some(cell, TURN_READS))
		flush(cell->receiver); /* idle: what is there goes out now */
	want_tick(cell->receiver);
}

static bool peer_has_closed(int fd)
{
	struct pollfd look = {.fd = fd, .events = POLLRDHUP};

	return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

static int begin_connection(struct host_cell *cell, int fd)
{
	struct host_connection *connection = malloc(sizeof(*connection));
	int status = connection == NULL ? -ENOMEM : 0;

	if (status == 0)
		status = uv_poll_init(&cell->receiver->loop, &connection->poll, fd);
	if (status < 0) {
		free(connection);
		(void)close(fd);
		return status;
	}
	connection->poll.data = connection;
	connection->fd = fd;
	connection->cell = cell;
	host_input_init(&connection->input, &cell->account, &cell->receiver->output->line);
	host_account_connected(&cell->account);
	cell->connection = connection;
	chat(cell->receiver, "connection accepted");
	if (!cell->receiver->blocked)
		uv_poll_start(&connection->poll, UV_READABLE, on_connection);
	return 0;
}

/* Is the cell free for a newcomer? Reads a connection whose peer has closed to its end. */
static bool make_way(struct host_cell *cell)
{
	if (cell->connection != NULL && peer_has_closed(cell->connection->fd))
		while (read_some(cell, TURN_READS))
			;
	return cell->connection == NULL;
}

/* One knock. False when there is no more to do now. */
static bool answer(struct host_cell *cell)
{
	struct host_receiver *receiver = cell->receiver;
	bool is_free = make_way(cell);
	int fd;

	if (receiver->stopping)
		return false;
	if (!is_free && receiver->blocked && peer_has_closed(cell->connection->fd)) {
		/* Its rest must be read first, and there is no room: set_blocked comes back. */
		uv_poll_stop(&cell->listen_poll);
		return false;
	}
	fd = cellos_listener_accept(&cell->listener);
	if (fd == -EAGAIN)
		return false;
	if (fd >= 0 && !is_free) {
		(void)close(fd);
		host_account_contested(&cell->account);
		chat(receiver, "a second connection was turned away");
		return true;
	}
	if (fd >= 0)
		fd = begin_connection(cell, fd);
	if (fd >= 0) {
		receiver->complained = false;
		return true;
	}
	/* No descriptor, no memory: the knock stays, so do not listen until the next tick. */
	if (!receiver->complained)
		fprintf(stderr, HOST_PROGRAM ": cannot accept a connection: %s\n", strerror(-fd));
	receiver->complained = true;
	uv_poll_stop(&cell->listen_poll);
	receiver->paused = true;
	return false;
}

static void on_knock(uv_poll_t *poll_handle, int status, int events)
{
	struct host_cell *cell = poll_handle->data;

	(void)status;
	(void)events;
	for (unsigned i = 0; i < TURN_ACCEPTS && answer(cell); i++)
		;
	want_tick(cell->receiver);
}

/* ---- life ----------------------------------------------------------------------------------- */

static void on_signal(uv_signal_t *handle, int signum)
{
	(void)signum;
	stop(handle->data, 0, HOST_FAILED_LOOP);
}

static int start(struct host_receiver *receiver)
{
	struct host_cell *cell = &receiver->cell;
	int status;

	cell->receiver = receiver;
	host_account_init(&cell->account, write_report, receiver);
	if ((status = uv_timer_init(&receiver->loop, &receiver->tick)) < 0 ||
	    (status = uv_signal_init(&receiver->loop, &receiver->sigterm)) < 0 ||
	    (status = uv_signal_init(&receiver->loop, &receiver->sigint)) < 0)
		return status;
	receiver->tick.data = receiver;
	receiver->sigterm.data = receiver;
	receiver->sigint.data = receiver;
	/* Before the socket exists: who sees it may send the signal. */
	if ((status = uv_signal_start(&receiver->sigterm, on_signal, SIGTERM)) < 0 ||
	    (status = uv_signal_start(&receiver->sigint, on_signal, SIGINT)) < 0)
		return status;
	receiver->failed = HOST_FAILED_LISTEN;
	status = cellos_listener_open(&cell->listener, &receiver->options->listen,
				      &receiver->options->owner);
	if (status < 0)
		return status;
	status = uv_poll_init(&receiver->loop, &cell->listen_poll, cell->listener.fd);
	if (status < 0)
		return status;
	cell->listen_poll.data = cell;
	return uv_poll_start(&cell->listen_poll, UV_READABLE, on_knock);
}

/* Last things: what the sockets still hold, what is counted and not told, the summary. */
static void conclude(struct host_receiver *receiver)
{
	struct host_cell *cell = &receiver->cell;
	int status;

	for (unsigned i = 0; i < LAST_READS && cell->connection != NULL; i++) {
		if (!host_output_has_room(receiver->output) &&
		    host_output_finish(receiver->output, FINISH_MS) < 0)
			break;
		if (!read_some(cell, 1))
			break;
	}
	status = host_output_finish(receiver->output, FINISH_MS);
	if (status == 0) {
		host_account_tell(&cell->account);
		status = host_summary_write(&receiver->output->line, &cell->account.totals);
	}
	if (status == 0)
		status = host_output_finish(receiver->output, FINISH_MS);
	if (status < 0 && receiver->error == 0) {
		receiver->error = status;
		receiver->failed = HOST_FAILED_WRITE;
	}
}

static void close_handle(uv_handle_t *handle, void *context)
{
	struct host_receiver *receiver = context;

	if (uv_is_closing(handle))
		return;
	if (receiver->cell.connection != NULL &&
	    handle == (uv_handle_t *)&receiver->cell.connection->poll) {
		uv_close(handle, free_connection);
		(void)close(receiver->cell.connection->fd);
		return;
	}
	uv_close(handle, NULL);
}

int host_receive(const struct host_options *options, struct host_output *output,
		 enum host_failure *failed)
{
	struct host_receiver *receiver = calloc(1, sizeof(*receiver));
	int status;

	*failed = HOST_FAILED_LOOP;
	if (receiver == NULL)
		return -ENOMEM;
	receiver->options = options;
	receiver->output = output;
	receiver->cell.listener.fd = -1;
	status = uv_loop_init(&receiver->loop);
	if (status < 0)
		goto out;
	status = start(receiver);
	if (status == 0) {
		chat(receiver, "listening");
		(void)uv_run(&receiver->loop, UV_RUN_DEFAULT);
		if (receiver->error == 0)
			conclude(receiver);
		status = receiver->error;
	}
	*failed = receiver->failed;
	uv_walk(&receiver->loop, close_handle, receiver);
	cellos_listener_close(&receiver->cell.listener);
	/* The close callbacks; a uv_stop from above may make the first run return at once. */
	while (uv_loop_close(&receiver->loop) == UV_EBUSY)
		(void)uv_run(&receiver->loop, UV_RUN_DEFAULT);
out:
	free(receiver);
	return status;
}
