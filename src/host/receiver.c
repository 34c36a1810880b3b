/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's loop; receiver.h says what it is. One thread.
 *
 * The fleet's descriptors are epoll sets, polled by libuv as any other. While the output has no
 * room, the set of guests is not polled: so nobody is read, whatever the number of cells, for the
 * price of one call.
 *
 * Idle costs nothing: the timer runs only while something waits for the clock.
 */
#include "receiver.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <uv.h>

#include "ctl.h"
#include "metrics_gather.h"
#include "metrics_server.h"

#define TICK_MS 100
#define FULL_DISK_MS 1000
/* A shorter time without reading is nothing that a guest could be called silent for. */
#define EXCUSE_MS 1000
/* Descriptors beside those of cells: the standard ones, libuv's, files, control connections. */
#define OTHER_DESCRIPTORS 64u

struct host_receiver {
	uv_loop_t loop;
	uv_timer_t tick;
	uv_timer_t retry; /* of a full disk */
	uv_signal_t sigterm, sigint, sighup;
	uv_poll_t knocks, guests, output_poll;
	bool output_poll_made;
	bool blocked; /* guests are not polled */
	uint64_t blocked_at;
	bool disk_full;   /* said once until there is room again */
	uint64_t tick_at; /* uv_now when the timer goes off; UINT64_MAX: it does not run */
	int error;        /* -errno that ended the loop */
	enum host_failure failed;
	const struct host_options *options;
	struct host_handover *handover;
	struct host_ctl *ctl;                /* owned; NULL: none */
	struct host_metrics_server *metrics; /* the same */
	struct host_metrics prepared;
	struct host_fleet fleet;
};

static void on_tick(uv_timer_t *timer);
static void on_retry(uv_timer_t *timer);
static void on_output(uv_poll_t *handle, int status, int events);
static void on_guests(uv_poll_t *handle, int status, int events);

static void stop(struct host_receiver *receiver, int error, enum host_failure failed)
{
	if (receiver->error == 0 && error < 0) {
		receiver->error = error;
		receiver->failed = failed;
	}
	uv_stop(&receiver->loop);
}

/* The clock ticks in at most this many milliseconds. */
static void want_tick(struct host_receiver *receiver, uint64_t in_ms)
{
	uint64_t at = uv_now(&receiver->loop) + in_ms;

	if (in_ms == UINT64_MAX || receiver->tick_at <= at)
		return;
	receiver->tick_at = at;
	uv_timer_start(&receiver->tick, on_tick, in_ms, 0);
}

/* ---- the output ----------------------------------------------------------------------------- */

static void set_blocked(struct host_receiver *receiver, bool blocked)
{
	if (receiver->blocked == blocked)
		return;
	receiver->blocked = blocked;
	if (blocked) {
		receiver->blocked_at = uv_now(&receiver->loop);
		uv_poll_stop(&receiver->guests);
		return;
	}
	if (uv_now(&receiver->loop) - receiver->blocked_at >= EXCUSE_MS)
		host_fleet_excuse(&receiver->fleet);
	uv_poll_start(&receiver->guests, UV_READABLE, on_guests);
}

static void await_output(struct host_receiver *receiver)
{
	int status = 0;

	if (!receiver->output_poll_made) {
		status = host_output_watch(&receiver->handover->output);
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
}

static void await_disk(struct host_receiver *receiver, int status)
{
	if (!receiver->disk_full)
		fprintf(stderr,
			HOST_PROGRAM ": cannot write %s: %s; waiting for room, nothing is lost\n",
			receiver->handover->output.name, strerror(-status));
	receiver->disk_full = true;
	uv_timer_start(&receiver->retry, on_retry, FULL_DISK_MS, 0);
}

/* After anything that made lines: they go out, and what the output said is acted on. */
static void settle(struct host_receiver *receiver)
{
	int status;

	host_fleet_settle(&receiver->fleet);
	status = receiver->fleet.flush_status;
	if (status == -EAGAIN)
		await_output(receiver);
	else if (receiver->output_poll_made)
		uv_poll_stop(&receiver->output_poll);
	if (status == -ENOSPC || status == -EDQUOT)
		await_disk(receiver, status);
	else if (status == 0)
		receiver->disk_full = false;
	else if (status != -EAGAIN)
		stop(receiver, status, HOST_FAILED_WRITE);
	set_blocked(receiver, host_fleet_is_blocked(&receiver->fleet));
	if (receiver->fleet.ended && receiver->options->exit_on_close)
		stop(receiver, 0, HOST_FAILED_LOOP);
	want_tick(receiver, TICK_MS);
}

static void on_output(uv_poll_t *handle, int status, int events)
{
	(void)status; /* an error shows at the write */
	(void)events;
	settle(handle->data);
}

static void on_retry(uv_timer_t *timer)
{
	settle(timer->data);
}

/* ---- the fleet ------------------------------------------------------------------------------ */

/* The clock should have ticked long ago: somebody stopped us, or a disk held us up. */
static void look_whether_late(struct host_receiver *receiver)
{
	uint64_t now = uv_now(&receiver->loop);

	if (receiver->tick_at < now && now - receiver->tick_at >= EXCUSE_MS)
		host_fleet_excuse(&receiver->fleet);
}

static void on_tick(uv_timer_t *timer)
{
	struct host_receiver *receiver = timer->data;
	uint64_t next;

	look_whether_late(receiver);
	receiver->tick_at = UINT64_MAX;
	next = host_fleet_tick(&receiver->fleet);
	/* What settle would ask for is for traffic; the fleet knows how long it can wait. */
	receiver->tick_at = 0;
	settle(receiver);
	receiver->tick_at = UINT64_MAX;
	want_tick(receiver, next);
}

static void on_guests(uv_poll_t *handle, int status, int events)
{
	struct host_receiver *receiver = handle->data;

	(void)status;
	(void)events;
	look_whether_late(receiver);
	host_fleet_serve_guests(&receiver->fleet);
	settle(receiver);
}

static void on_knocks(uv_poll_t *handle, int status, int events)
{
	struct host_receiver *receiver = handle->data;

	(void)status;
	(void)events;
	look_whether_late(receiver);
	host_fleet_serve_knocks(&receiver->fleet);
	settle(receiver);
}

/* ---- configuration -------------------------------------------------------------------------- */

static void say(void *context, const char *text)
{
	(void)context;
	fprintf(stderr, HOST_PROGRAM ": cannot use %s\n", text);
}

/* Two descriptors a cell: its socket, and its guest. */
static void check_descriptors(const struct host_receiver *receiver)
{
	struct rlimit limit;
	size_t need = 2 * receiver->fleet.count + OTHER_DESCRIPTORS;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= need)
		return;
	fprintf(stderr,
		HOST_PROGRAM ": cannot serve %zu cells at once: %zu descriptors are allowed, "
			     "%zu may be needed\n",
		receiver->fleet.count, (size_t)limit.rlim_cur, need);
}

static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0 || limit.rlim_cur >= limit.rlim_max)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

/* Mistakes, in the file or in opening what it names, are said; their number comes back. */
static unsigned read_cells(struct host_receiver *receiver)
{
	struct host_mistakes mistakes = {.say = say};
	struct host_cell_list list;

	if (host_cell_list_read(&list, receiver->options->cells, &mistakes))
		host_fleet_adapt(&receiver->fleet, &list, &mistakes);
	check_descriptors(receiver);
	return mistakes.count;
}

static int open_cells(struct host_receiver *receiver)
{
	struct host_mistakes mistakes = {.say = say};
	struct host_cell_config *config;

	receiver->failed = HOST_FAILED_CELLS;
	if (receiver->options->cells != NULL)
		return read_cells(receiver) == 0 ? 0 : -EINVAL;
	config = host_cell_config_make(&receiver->options->cell, "options", &mistakes);
	if (config == NULL)
		return -EINVAL;
	receiver->failed = HOST_FAILED_LISTEN;
	return host_fleet_open(&receiver->fleet, config, false);
}

static void on_signal(uv_signal_t *handle, int signum)
{
	struct host_receiver *receiver = handle->data;

	if (signum != SIGHUP) {
		stop(receiver, 0, HOST_FAILED_LOOP);
		return;
	}
	if (receiver->options->cells == NULL)
		return;
	(void)read_cells(receiver);
	if (receiver->options->verbose)
		fprintf(stderr, HOST_PROGRAM ": cells read again\n");
	settle(receiver);
}

/* ---- life ----------------------------------------------------------------------------------- */

static int start_handles(struct host_receiver *receiver)
{
	const struct {
		uv_signal_t *handle;
		int signum;
	} signals[] = {{&receiver->sigterm, SIGTERM},
		       {&receiver->sigint, SIGINT},
		       {&receiver->sighup, SIGHUP}};
	int status = uv_timer_init(&receiver->loop, &receiver->tick);

	if (status == 0)
		status = uv_timer_init(&receiver->loop, &receiver->retry);
	receiver->tick.data = receiver;
	receiver->retry.data = receiver;
	/* Before the socket exists: who sees it may send the signal. */
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]) && status == 0; i++) {
		status = uv_signal_init(&receiver->loop, signals[i].handle);
		signals[i].handle->data = receiver;
		if (status == 0)
			status = uv_signal_start(signals[i].handle, on_signal, signals[i].signum);
	}
	if (status == 0)
		status = uv_poll_init(&receiver->loop, &receiver->knocks, receiver->fleet.knocks);
	if (status == 0)
		status = uv_poll_init(&receiver->loop, &receiver->guests, receiver->fleet.guests);
	receiver->knocks.data = receiver;
	receiver->guests.data = receiver;
	if (status == 0)
		status = uv_poll_start(&receiver->knocks, UV_READABLE, on_knocks);
	return status == 0 ? uv_poll_start(&receiver->guests, UV_READABLE, on_guests) : status;
}

static void on_change(void *context)
{
	settle(context);
}

static int gather(void *context, struct host_metrics *metrics)
{
	struct host_receiver *receiver = context;

	*metrics = receiver->prepared;
	return host_metrics_gather(&receiver->fleet, metrics);
}

static int start_metrics(struct host_receiver *receiver)
{
	const struct host_options *options = receiver->options;

	if (options->metrics.kind == HOST_METRICS_NONE)
		return 0;
	receiver->failed = HOST_FAILED_METRICS;
	host_metrics_prepare(&receiver->prepared, host_format_name(options->format));
	return host_metrics_start(&receiver->metrics, &receiver->loop, &options->metrics, gather,
				  receiver);
}

static int start(struct host_receiver *receiver)
{
	int status = start_handles(receiver);

	if (status < 0)
		return status;
	raise_descriptors();
	status = open_cells(receiver);
	if (status == 0 && receiver->options->ctl.kind != 0) {
		receiver->failed = HOST_FAILED_CTL;
		status = host_ctl_start(&receiver->ctl, &receiver->loop, &receiver->options->ctl,
					&receiver->fleet, on_change, receiver);
	}
	return status == 0 ? start_metrics(receiver) : status;
}

static void run(struct host_receiver *receiver)
{
	int status;

	if (receiver->options->verbose)
		fprintf(stderr, HOST_PROGRAM ": listening\n");
	settle(receiver);
	if (receiver->error == 0)
		(void)uv_run(&receiver->loop, UV_RUN_DEFAULT);
	status = receiver->error == 0 ? host_fleet_conclude(&receiver->fleet) : 0;
	if (status < 0) {
		receiver->error = status;
		receiver->failed = HOST_FAILED_WRITE;
	}
}

static void close_handle(uv_handle_t *handle, void *context)
{
	(void)context;
	if (!uv_is_closing(handle))
		uv_close(handle, NULL);
}

int host_receive(const struct host_options *options, struct host_handover *handover,
		 struct host_sums *sums, enum host_failure *failed)
{
	struct host_receiver *receiver = calloc(1, sizeof(*receiver));
	int status;

	*failed = HOST_FAILED_LOOP;
	*sums = (struct host_sums){0};
	if (receiver == NULL)
		return -ENOMEM;
	receiver->options = options;
	receiver->handover = handover;
	receiver->tick_at = UINT64_MAX;
	status = host_fleet_init(&receiver->fleet, handover, options);
	if (status < 0)
		goto out;
	status = uv_loop_init(&receiver->loop);
	if (status < 0)
		goto out;
	status = start(receiver);
	if (status == 0) {
		run(receiver);
		status = receiver->error;
	}
	*failed = receiver->failed;
	receiver->ctl = host_ctl_stop(receiver->ctl);
	receiver->metrics = host_metrics_stop(receiver->metrics);
	uv_walk(&receiver->loop, close_handle, NULL);
	/* The close callbacks; a uv_stop from above may make the first run return at once. */
	while (uv_loop_close(&receiver->loop) == UV_EBUSY)
		(void)uv_run(&receiver->loop, UV_RUN_DEFAULT);
out:
	host_fleet_destroy(&receiver->fleet);
	*sums = host_fleet_sums(&receiver->fleet);
	free(receiver);
	return status;
}
