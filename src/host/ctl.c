/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The control socket's server; ctl.h has the protocol. One thread, the loop's.
 */
#include "ctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "clock.h"

#define MAX_CLIENTS 16
/* A request is one cell's configuration at most. */
#define MAX_REQUEST_BYTES 32768u
/* A cell's line: 20 errors of 50 bytes, 20 rows of 27, 20 members of 50, names, an address, and a
 * guest's name of 64 bytes, of which each may be written as six. */
#define CELL_LINE_BYTES 5120u
/* Without a descriptor a knock stays, and would turn the loop: not looked at for so long. */
#define DEAF_MS 250

struct client {
	uv_poll_t poll;
	struct host_ctl *ctl;
	int fd; /* owned; -1: the slot is free */
	size_t request_length;
	char *answer; /* owned; NULL: the request is not whole yet */
	size_t answer_length, answer_done;
	char request[MAX_REQUEST_BYTES];
};

struct host_ctl {
	uv_poll_t knocks;
	uv_timer_t deaf;
	unsigned open_handles; /* of the two above */
	uv_loop_t *loop;
	struct cellos_listener listener;
	struct host_fleet *fleet;
	void (*changed)(void *context);
	void *context;
	struct client *clients[MAX_CLIENTS]; /* owned; the oldest first; NULL behind the last */
};

/* ---- answers -------------------------------------------------------------------------------- */

struct answer {
	struct cellos_json_line line;
	bool failed; /* no memory */
};

static bool answer_room(struct answer *answer, size_t bytes)
{
	struct cellos_json_line *line = &answer->line;
	size_t capacity = line->capacity;
	char *data;

	if (answer->failed || capacity - line->length >= bytes)
		return !answer->failed;
	while (capacity - line->length < bytes)
		capacity = capacity == 0 ? 4 * CELL_LINE_BYTES : 2 * capacity;
	data = realloc(line->data, capacity);
	answer->failed = data == NULL;
	if (data != NULL) {
		line->data = data;
		line->capacity = capacity;
	}
	return data != NULL;
}

static void add_text_line(struct answer *answer, const char *key, const char *text)
{
	if (!answer_room(answer, 64 + 6 * strlen(text)))
		return;
	cellos_json_begin(&answer->line);
	cellos_json_add_string(&answer->line, key, text);
	if (cellos_json_end(&answer->line) < 0)
		answer->failed = true;
}

static void say_mistake(void *context, const char *text)
{
	add_text_line(context, "error", text);
}

static void say_done(struct answer *answer)
{
	if (!answer_room(answer, 64))
		return;
	cellos_json_begin(&answer->line);
	cellos_json_add_bool(&answer->line, "ok", true);
	if (cellos_json_end(&answer->line) < 0)
		answer->failed = true;
}

/* Both clocks may have been looked at before the line's; never below 0. */
static uint64_t ms_since(uint64_t now, uint64_t then, uint64_t per_ms)
{
	return now > then ? (now - then) / per_ms : 0;
}

static void add_latest(struct cellos_json_line *line, const struct host_cell *cell)
{
	const struct host_latest latest = host_cell_latest(cell);
	const struct cellos_probe_event *event = &latest.event;

	cellos_json_add_u64(line, "quiet_ms",
			    ms_since(host_now_ms(), cell->origin.account.silence.heard_ms, 1));
	if (latest.received_ns == 0)
		return;
	cellos_json_open(line, "latest");
	cellos_json_add_string(line, "probe_source", cellos_probe_source_name(event->probe_source));
	cellos_json_add_u64(line, "guest_pid", event->guest_pid);
	cellos_json_add_text(line, "guest_comm", event->guest_comm, event->guest_comm_len);
	cellos_json_add_u64(line, "age_ms",
			    ms_since(host_clock_ns(CLOCK_REALTIME), latest.received_ns, 1000000));
	cellos_json_close(line);
}

static void list_cell(void *context, const struct host_cell *cell)
{
	const struct host_account *account = &cell->origin.account;
	char address[CELLOS_ADDRESS_TEXT_BYTES];
	struct answer *answer = context;
	struct cellos_json_line *line = &answer->line;

	if (!answer_room(answer, CELL_LINE_BYTES))
		return;
	cellos_json_begin(line);
	cellos_json_add_string(line, "cell_id", cell->config->id);
	cellos_json_add_string(line, "run_id", cell->config->run);
	cellos_json_add_string(line, "listen",
			       cellos_address_format(&cell->config->listen, address));
	cellos_json_add_bool(line, "connected", cell->connection != NULL);
	cellos_json_add_bool(line, "silent", account->silence.silent);
	cellos_json_add_bool(line, "admitted", !account->refusing);
	cellos_json_add_bool(line, "closing", cell->closing);
	cellos_json_add_u64(line, "incarnation", account->incarnation);
	cellos_json_add_u64(line, "epoch", account->agent.epoch);
	cellos_json_add_u64(line, "seq", account->sequence);
	cellos_json_add_u64(line, "pending", cell->origin.pending);
	host_add_totals(line, &account->totals, "received");
	add_latest(line, cell);
	if (cellos_json_end(line) < 0)
		answer->failed = true;
}

/* ---- requests ------------------------------------------------------------------------------- */

static void add_cell(struct host_ctl *ctl, struct answer *answer, const char *json)
{
	struct host_mistakes mistakes = {.say = say_mistake, .context = answer};
	struct host_cell_config *config = host_cell_config_parse(json, strlen(json), &mistakes);
	int status;

	if (config == NULL)
		return;
	status = host_fleet_open(ctl->fleet, config, false);
	if (status == -EEXIST)
		add_text_line(answer, "error", "cell: there is one of this id or address");
	else if (status == -E2BIG)
		add_text_line(answer, "error", "cell: its lines would be too long");
	else if (status < 0)
		add_text_line(answer, "error", strerror(-status));
	else
		say_done(answer);
}

static void remove_cell(struct host_ctl *ctl, struct answer *answer, const char *id)
{
	struct host_cell *cell = host_fleet_find(ctl->fleet, id);

	if (cell == NULL) {
		add_text_line(answer, "error", "there is no such cell");
		return;
	}
	host_fleet_close(ctl->fleet, cell, NULL);
	say_done(answer);
}

static void serve(struct client *client)
{
	struct host_ctl *ctl = client->ctl;
	struct answer answer = {.failed = false};
	char *request = client->request;

	request[client->request_length] = '\0';
	request[strcspn(request, "\r\n")] = '\0';
	if (!answer_room(&answer, CELL_LINE_BYTES))
		return;
	if (strcmp(request, "list") == 0)
		host_fleet_walk(ctl->fleet, list_cell, &answer);
	else if (strncmp(request, "add ", 4) == 0)
		add_cell(ctl, &answer, request + 4);
	else if (strncmp(request, "remove ", 7) == 0)
		remove_cell(ctl, &answer, request + 7);
	else
		add_text_line(&answer, "error", "a request is list, add JSON or remove ID");
	if (answer.failed) {
		free(answer.line.data);
		return;
	}
	client->answer = answer.line.data;
	client->answer_length = answer.line.length;
	ctl->changed(ctl->context);
}

/* ---- clients -------------------------------------------------------------------------------- */

static void free_client(uv_handle_t *handle)
{
	struct client *client = handle->data;

	free(client->answer);
	free(client);
}

static void drop_client(struct client *client)
{
	struct host_ctl *ctl = client->ctl;
	size_t at = 0;

	while (ctl->clients[at] != client)
		at++;
	for (; at + 1 < MAX_CLIENTS; at++)
		ctl->clients[at] = ctl->clients[at + 1];
	ctl->clients[MAX_CLIENTS - 1] = NULL;
	uv_close((uv_handle_t *)&client->poll, free_client);
	(void)close(client->fd); /* after uv_close: libuv has let go of it */
}

/* True when the request is whole. */
static bool read_request(struct client *client, bool *over)
{
	size_t room = sizeof(client->request) - 1 - client->request_length;
	ssize_t n = recv(client->fd, client->request + client->request_length, room, MSG_DONTWAIT);

	*over = n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
	if (n <= 0)
		return false;
	client->request_length += (size_t)n;
	if (memchr(client->request, '\n', client->request_length) != NULL)
		return true;
	*over = client->request_length == sizeof(client->request) - 1;
	return false;
}

static void on_client(uv_poll_t *handle, int status, int events)
{
	struct client *client = handle->data;
	bool over = false;
	ssize_t n;

	(void)status; /* an error shows at the call */
	(void)events;
	if (client->answer == NULL && read_request(client, &over)) {
		serve(client);
		over = client->answer == NULL;
		if (!over)
			uv_poll_start(&client->poll, UV_WRITABLE, on_client);
	}
	if (client->answer != NULL) {
		n = send(client->fd, client->answer + client->answer_done,
			 client->answer_length - client->answer_done, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n > 0)
			client->answer_done += (size_t)n;
		over = client->answer_done == client->answer_length ||
		       (n < 0 && errno != EAGAIN && errno != EINTR);
	}
	if (over)
		drop_client(client);
}

static void on_knock(uv_poll_t *handle, int status, int events);

static void hear_again(uv_timer_t *timer)
{
	struct host_ctl *ctl = timer->data;

	uv_poll_start(&ctl->knocks, UV_READABLE, on_knock);
}

static void on_knock(uv_poll_t *handle, int status, int events)
{
	struct host_ctl *ctl = handle->data;
	int fd = cellos_listener_accept(&ctl->listener);
	struct client *client = fd >= 0 ? malloc(sizeof(*client)) : NULL;
	size_t at = 0;

	(void)status;
	(void)events;
	if (client == NULL || uv_poll_init(ctl->loop, &client->poll, fd) < 0) {
		free(client);
		if (fd >= 0)
			(void)close(fd);
		if (fd < 0 && fd != -EAGAIN) {
			uv_poll_stop(&ctl->knocks);
			uv_timer_start(&ctl->deaf, hear_again, DEAF_MS, 0);
		}
		return;
	}
	if (ctl->clients[MAX_CLIENTS - 1] != NULL)
		drop_client(ctl->clients[0]); /* the oldest, which does not read or write */
	while (ctl->clients[at] != NULL)
		at++;
	ctl->clients[at] = client;
	client->poll.data = client;
	client->ctl = ctl;
	client->fd = fd;
	client->request_length = client->answer_length = client->answer_done = 0;
	client->answer = NULL;
	uv_poll_start(&client->poll, UV_READABLE, on_client);
}

/* ---- life ----------------------------------------------------------------------------------- */

int host_ctl_start(struct host_ctl **out, uv_loop_t *loop, const struct cellos_address *address,
		   struct host_fleet *fleet, void (*changed)(void *context), void *context)
{
	struct host_ctl *ctl = calloc(1, sizeof(*ctl));
	int status;

	*out = NULL;
	if (ctl == NULL)
		return -ENOMEM;
	ctl->loop = loop;
	ctl->fleet = fleet;
	ctl->changed = changed;
	ctl->context = context;
	status = cellos_listener_open(&ctl->listener, address, NULL);
	if (status == 0)
		status = uv_poll_init(loop, &ctl->knocks, ctl->listener.fd);
	if (status < 0) {
		cellos_listener_close(&ctl->listener);
		free(ctl);
		return status;
	}
	(void)uv_timer_init(loop, &ctl->deaf); /* cannot fail */
	ctl->open_handles = 2;
	ctl->knocks.data = ctl->deaf.data = ctl;
	*out = ctl;
	return uv_poll_start(&ctl->knocks, UV_READABLE, on_knock);
}

static void free_ctl(uv_handle_t *handle)
{
	struct host_ctl *ctl = handle->data;

	if (--ctl->open_handles == 0)
		free(ctl);
}

struct host_ctl *host_ctl_stop(struct host_ctl *ctl)
{
	if (ctl == NULL)
		return NULL;
	while (ctl->clients[0] != NULL)
		drop_client(ctl->clients[0]);
	uv_close((uv_handle_t *)&ctl->deaf, free_ctl);
	uv_close((uv_handle_t *)&ctl->knocks, free_ctl);
	cellos_listener_close(&ctl->listener);
	return NULL;
}
