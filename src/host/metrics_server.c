/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The HTTP side of the metrics; metrics_server.h has the contract. One thread, the loop's.
 *
 * A client reads like this: its request is taken until an empty line, the answer is made and sent
 * piece by piece, then the sending side is shut and what the client may still send is thrown away
 * until its end of file: a close with unread bytes would reset the connection, and cut the answer.
 *
 * With all places taken, somebody who takes long to ask, or to leave, makes way for a newcomer;
 * until there is one, newcomers wait in the listener's queue. Each state has a deadline, so a place
 * becomes free.
 */
#include "metrics_server.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#define MAX_CLIENTS 8u
#define MAX_REQUEST_BYTES 8192u
#define BUFFER_BYTES (64u * 1024u)
/* What is thrown away behind an answer before the connection is simply closed. */
#define MAX_TAIL_BYTES (1024u * 1024u)
#define REQUEST_MS 5000
#define ANSWER_MS 30000
#define TAIL_MS 1000
#define TICK_MS 250
/* Who asks at once needs less, and is not sent away by others who come at the same time (nor by a
 * loop that comes late to both: has_news). */
#define GRACE_MS 250
/* "00abcd\r\n" before a piece, "\r\n" behind it. */
#define CHUNK_HEAD_BYTES 8u
#define CHUNK_TAIL_BYTES 2u

enum phase { PHASE_REQUEST = 0, PHASE_ANSWER, PHASE_TAIL };

struct client {
	uv_poll_t poll;
	struct host_metrics_server *server;
	int fd; /* owned */
	enum phase phase;
	uint64_t since; /* of uv_now: when the phase began */
	bool body;      /* there is more of the text behind the buffer */
	bool chunked;
	struct host_metrics metrics; /* owns its cells */
	struct host_metrics_cursor cursor;
	size_t tail;
	size_t done, length; /* of the buffer: the request, then pieces of the answer */
	char buffer[BUFFER_BYTES];
};

struct host_metrics_server {
	uv_poll_t knocks;
	uv_timer_t tick;
	uv_loop_t *loop;
	unsigned open_handles;           /* of the two above */
	bool deaf;                       /* knocks are not looked at until the next tick */
	int fd;                          /* that listens */
	struct cellos_listener listener; /* owns it when it is a Unix socket */
	bool own_fd;                     /* else we do */
	host_metrics_gather_fn gather;
	void *context;
	size_t count;
	struct client *clients[MAX_CLIENTS]; /* owned; the oldest first */
};

static void on_client(uv_poll_t *handle, int status, int events);
static void on_knock(uv_poll_t *handle, int status, int events);
static void on_tick(uv_timer_t *timer);

/* ---- coming and going ----------------------------------------------------------------------- */

static void free_client(uv_handle_t *handle)
{
	struct client *client = handle->data;

	free(client->metrics.cells);
	free(client);
}

static void drop_client(struct client *client)
{
	struct host_metrics_server *server = client->server;
	size_t at = 0;

	while (server->clients[at] != client)
		at++;
	server->count--;
	memmove(&server->clients[at], &server->clients[at + 1],
		(server->count - at) * sizeof(struct client *));
	uv_close((uv_handle_t *)&client->poll, free_client);
	(void)close(client->fd); /* after uv_close: libuv has let go of it */
}

static void enter(struct client *client, enum phase phase)
{
	client->phase = phase;
	client->since = uv_now(client->server->loop);
	uv_poll_start(&client->poll, phase == PHASE_ANSWER ? UV_WRITABLE : UV_READABLE, on_client);
}

/* Not before the next tick: a place may be free then, or a descriptor. */
static void close_ears(struct host_metrics_server *server)
{
	server->deaf = true;
	uv_poll_stop(&server->knocks);
}

static uint64_t age_of(const struct client *client)
{
	return uv_now(client->server->loop) - client->since;
}

/*
 * Has the client sent what nobody has read? Its time is over by our fault then: the loop comes
 * late, and serves it in this very turn. Nobody stays for ever by it: what is read has a limit.
 */
static bool has_news(const struct client *client)
{
	struct pollfd look = {.fd = client->fd, .events = POLLIN};

	return poll(&look, 1, 0) > 0;
}

static bool make_place(struct host_metrics_server *server)
{
	size_t at = 0;

	if (server->count < MAX_CLIENTS)
		return true;
	while (at < server->count &&
	       (server->clients[at]->phase == PHASE_ANSWER ||
		age_of(server->clients[at]) < GRACE_MS || has_news(server->clients[at])))
		at++;
	if (at == server->count)
		return false;
	drop_client(server->clients[at]);
	return true;
}

static void on_knock(uv_poll_t *handle, int status, int events)
{
	struct host_metrics_server *server = handle->data;
	struct client *client = NULL;
	int fd;

	(void)status; /* an error shows at the call */
	(void)events;
	if (!uv_is_active((uv_handle_t *)&server->tick))
		uv_timer_start(&server->tick, on_tick, TICK_MS, TICK_MS);
	if (!make_place(server)) {
		close_ears(server);
		return;
	}
	fd = accept4(server->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd >= 0)
		client = calloc(1, sizeof(*client));
	if (client != NULL && uv_poll_init(server->loop, &client->poll, fd) == 0) {
		client->poll.data = client;
		client->server = server;
		client->fd = fd;
		server->clients[server->count++] = client;
		enter(client, PHASE_REQUEST);
		return;
	}
	free(client);
	if (fd >= 0)
		(void)close(fd);
	else if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
		close_ears(server); /* no descriptor: the knock stays, and would turn the loop */
}

static void on_tick(uv_timer_t *timer)
{
	static const uint64_t limits[] = {
		[PHASE_REQUEST] = REQUEST_MS, [PHASE_ANSWER] = ANSWER_MS, [PHASE_TAIL] = TAIL_MS};
	struct host_metrics_server *server = timer->data;

	for (size_t at = server->count; at > 0; at--) {
		struct client *client = server->clients[at - 1];

		if (age_of(client) >= limits[client->phase] &&
		    (client->phase == PHASE_ANSWER || !has_news(client)))
			drop_client(client);
	}
	if (server->deaf)
		uv_poll_start(&server->knocks, UV_READABLE, on_knock);
	server->deaf = false;
	if (server->count == 0)
		uv_timer_stop(timer);
}

/* ---- requests ------------------------------------------------------------------------------- */

struct request {
	const char *method, *target, *version; /* within the buffer, each with a NUL */
	const char *headers;
	bool is_head;
};

static bool has_host(const char *headers)
{
	for (; headers != NULL; headers = strchr(headers, '\n')) {
		headers += *headers == '\n';
		if (strncasecmp(headers, "host:", 5) == 0)
			return true;
	}
	return false;
}

/* Cuts "GET /metrics HTTP/1.1" apart. False: it is no such line. */
static bool cut_request(char *text, struct request *request)
{
	char *line = text + strspn(text, "\r\n"), *rest = strchr(line, '\n');
	char *target, *version;

	if (rest == NULL)
		return false;
	*rest = '\0';
	request->headers = rest + 1;
	line[strcspn(line, "\r")] = '\0';
	target = strchr(line, ' ');
	version = target == NULL ? NULL : strchr(target + 1, ' ');
	if (version == NULL || target == line || version == target + 1)
		return false;
	*target = *version = '\0';
	request->method = line;
	request->target = target + 1;
	request->version = version + 1;
	return strncmp(request->version, "HTTP/", 5) == 0;
}

static bool is_ours(const char *target)
{
	static const char path[] = "/metrics", scheme[] = "http://";
	const size_t length = sizeof(path) - 1;

	if (strncasecmp(target, scheme, sizeof(scheme) - 1) == 0) {
		target = strchr(target + sizeof(scheme) - 1, '/');
		if (target == NULL)
			return false;
	}
	return strncmp(target, path, length) == 0 &&
	       (target[length] == '\0' || target[length] == '?');
}

/* The answer's first line; 200 is all that is not refused. */
static const char *judge(char *text, size_t length, struct request *request)
{
	bool is_1_1;

	*request = (struct request){.method = ""};
	/* A NUL in the midst is nothing that anybody asks for. */
	if (strlen(text) != length || !cut_request(text, request))
		return "400 Bad Request";
	request->is_head = strcmp(request->method, "HEAD") == 0;
	is_1_1 = strcmp(request->version, "HTTP/1.1") == 0;
	if (!is_1_1 && strcmp(request->version, "HTTP/1.0") != 0)
		return "505 HTTP Version Not Supported";
	if (is_1_1 && !has_host(request->headers))
		return "400 Bad Request";
	if (!is_ours(request->target))
		return "404 Not Found";
	if (!request->is_head && strcmp(request->method, "GET") != 0)
		return "405 Method Not Allowed";
	return "200 OK";
}

/* ---- answers -------------------------------------------------------------------------------- */

static void answer_refused(struct client *client, const char *status, bool is_head)
{
	int length = snprintf(client->buffer, sizeof(client->buffer),
			      "HTTP/1.1 %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\n"
			      "%sConnection: close\r\n\r\n%s%s",
			      status, strlen(status) + 1,
			      strncmp(status, "405", 3) == 0 ? "Allow: GET, HEAD\r\n" : "",
			      is_head ? "" : status, is_head ? "" : "\n");

	client->length = (size_t)length;
	enter(client, PHASE_ANSWER);
}

static void answer_metrics(struct client *client, bool is_head, bool chunked)
{
	struct host_metrics_server *server = client->server;
	int length;

	/* A HEAD's answer is the same head; nobody needs the picture for it. */
	if (!is_head && server->gather(server->context, &client->metrics) < 0) {
		answer_refused(client, "503 Service Unavailable", false);
		return;
	}
	client->body = !is_head;
	client->chunked = chunked;
	length = snprintf(client->buffer, sizeof(client->buffer),
			  "HTTP/1.1 200 OK\r\nContent-Type: " HOST_METRICS_CONTENT_TYPE "\r\n"
			  "%sConnection: close\r\n\r\n",
			  chunked ? "Transfer-Encoding: chunked\r\n" : "");
	client->length = (size_t)length;
	enter(client, PHASE_ANSWER);
}

static void answer(struct client *client)
{
	struct request request;
	const char *status;

	client->buffer[client->length] = '\0';
	status = judge(client->buffer, client->length, &request);
	client->done = 0;
	if (strncmp(status, "200", 3) != 0)
		answer_refused(client, status, request.is_head);
	else /* a client of HTTP/1.0 sees the end by the connection's */
		answer_metrics(client, request.is_head, request.version[7] == '1');
}

/* The next piece of the text. False: that was all. */
static bool refill(struct client *client)
{
	const size_t room = sizeof(client->buffer) - CHUNK_HEAD_BYTES - CHUNK_TAIL_BYTES;
	char *text = client->buffer + CHUNK_HEAD_BYTES, head[CHUNK_HEAD_BYTES + 1];
	size_t length;

	if (!client->body)
		return false;
	length = host_metrics_render(&client->metrics, &client->cursor, text, room);
	client->body = length > 0;
	client->done = CHUNK_HEAD_BYTES;
	client->length = CHUNK_HEAD_BYTES + length;
	if (!client->chunked)
		return client->body;
	/* Of fixed width: a size may begin with zeros. The last one, of an empty piece, ends it. */
	client->done = 0;
	snprintf(head, sizeof(head), "%06zx\r\n", length);
	memcpy(client->buffer, head, CHUNK_HEAD_BYTES);
	memcpy(client->buffer + client->length, "\r\n", CHUNK_TAIL_BYTES);
	client->length += CHUNK_TAIL_BYTES;
	return true;
}

/* ---- a client's turn ------------------------------------------------------------------------ */

static bool is_fatal(ssize_t n)
{
	return n < 0 && errno != EAGAIN && errno != EINTR;
}

/* Is the empty line there? Line ends before the request are none of it. `text` ends in NUL. */
static bool is_whole(const char *text, size_t length)
{
	size_t at = strspn(text, "\r\n");

	return memmem(text + at, length - at, "\r\n\r\n", 4) != NULL ||
	       memmem(text + at, length - at, "\n\n", 2) != NULL;
}

/* False: the client is to be dropped. The same for the next two. */
static bool take_request(struct client *client)
{
	size_t room = MAX_REQUEST_BYTES - client->length;
	ssize_t n = recv(client->fd, client->buffer + client->length, room, MSG_DONTWAIT);

	if (n <= 0)
		return n != 0 && !is_fatal(n);
	client->length += (size_t)n;
	client->buffer[client->length] = '\0';
	if (is_whole(client->buffer, client->length))
		answer(client);
	else if (client->length == MAX_REQUEST_BYTES)
		answer_refused(client, "431 Request Header Fields Too Large", false);
	return true;
}

static bool send_piece(struct client *client)
{
	ssize_t n;

	if (client->done == client->length && !refill(client)) {
		(void)shutdown(client->fd, SHUT_WR);
		enter(client, PHASE_TAIL);
		return true;
	}
	n = send(client->fd, client->buffer + client->done, client->length - client->done,
		 MSG_DONTWAIT | MSG_NOSIGNAL);
	if (n > 0)
		client->done += (size_t)n;
	return !is_fatal(n);
}

static bool take_tail(struct client *client)
{
	ssize_t n = recv(client->fd, client->buffer, sizeof(client->buffer), MSG_DONTWAIT);

	if (n > 0)
		client->tail += (size_t)n;
	return n != 0 && !is_fatal(n) && client->tail < MAX_TAIL_BYTES;
}

static void on_client(uv_poll_t *handle, int status, int events)
{
	struct client *client = handle->data;
	bool stays;

	(void)status; /* an error shows at the call */
	(void)events;
	if (client->phase == PHASE_REQUEST)
		stays = take_request(client);
	else if (client->phase == PHASE_ANSWER)
		stays = send_piece(client);
	else
		stays = take_tail(client);
	if (!stays)
		drop_client(client);
}

/* ---- life ----------------------------------------------------------------------------------- */

static int listen_on_loopback(uint16_t port)
{
	const struct sockaddr_in name = {.sin_family = AF_INET,
					 .sin_port = htons(port),
					 .sin_addr = {.s_addr = htonl(INADDR_LOOPBACK)}};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1, status;

	if (fd < 0)
		return -errno;
	/* The answers of a receiver that has just ended hold the port still. */
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes)) == 0 &&
	    bind(fd, (const struct sockaddr *)&name, sizeof(name)) == 0 &&
	    listen(fd, CELLOS_LISTEN_BACKLOG) == 0)
		return fd;
	status = -errno;
	(void)close(fd);
	return status;
}

static void close_socket(struct host_metrics_server *server)
{
	cellos_listener_close(&server->listener);
	if (server->own_fd)
		(void)close(server->fd);
	server->own_fd = false;
}

static int open_socket(struct host_metrics_server *server,
		       const struct host_metrics_address *address)
{
	int status;

	server->listener.fd = -1;
	if (address->kind == HOST_METRICS_UNIX) {
		status = cellos_listener_open(&server->listener, &address->path, NULL);
		server->fd = server->listener.fd;
		return status;
	}
	server->fd = listen_on_loopback(address->port);
	server->own_fd = server->fd >= 0;
	return server->own_fd ? 0 : server->fd;
}

static void free_server(uv_handle_t *handle)
{
	struct host_metrics_server *server = handle->data;

	if (--server->open_handles == 0)
		free(server);
}

int host_metrics_start(struct host_metrics_server **out, uv_loop_t *loop,
		       const struct host_metrics_address *address, host_metrics_gather_fn gather,
		       void *context)
{
	struct host_metrics_server *server = calloc(1, sizeof(*server));
	int status;

	*out = NULL;
	if (server == NULL)
		return -ENOMEM;
	server->loop = loop;
	server->gather = gather;
	server->context = context;
	server->knocks.data = server->tick.data = server;
	status = open_socket(server, address);
	if (status == 0)
		status = uv_poll_init(loop, &server->knocks, server->fd);
	if (status < 0) {
		close_socket(server);
		free(server);
		return status;
	}
	(void)uv_timer_init(loop, &server->tick); /* cannot fail */
	server->open_handles = 2;
	*out = server;
	return uv_poll_start(&server->knocks, UV_READABLE, on_knock);
}

struct host_metrics_server *host_metrics_stop(struct host_metrics_server *server)
{
	if (server == NULL)
		return NULL;
	while (server->count > 0)
		drop_client(server->clients[0]);
	uv_close((uv_handle_t *)&server->tick, free_server);
	uv_close((uv_handle_t *)&server->knocks, free_server);
	close_socket(server);
	return NULL;
}
