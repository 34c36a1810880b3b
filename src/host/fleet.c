/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Cells and their connections; fleet.h has the contract. One thread.
 *
 * A connection that knocks while another one lives is accepted, closed and counted. "Lives" means
 * that its peer has not closed: when it has, what it left behind is finite, is read to the end, and
 * the newcomer takes its place.
 *
 * The read buffer is one for all. Only when lines of a read do not fit does a cell hold it, until
 * there is room; nobody is read meanwhile.
 */
#include "fleet.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "cellos/admission.h"
#include "clock.h"

#define TURN_GUESTS 64
#define TURN_KNOCKS 64
#define TURN_ACCEPTS 16
#define TICK_MS 100
/* At the end a slow reader of the output gets this long. */
#define FINISH_MS 2000
/* More than a socket's buffer holds unless an administrator wants it so. */
#define LAST_BYTES (UINT64_C(16) << 20)

struct host_connection {
	int fd; /* owned */
	struct host_input input;
};

/*
 * Guests can make these by the thousand; when nobody reads standard error they are left out rather
 * than waited with. A pipe that polls writable takes 4096 bytes at once.
 */
static void chat(const struct host_fleet *fleet, const char *text)
{
	struct pollfd look = {.fd = STDERR_FILENO, .events = POLLOUT};

	if (fleet->verbose && poll(&look, 1, 0) != 0)
		fprintf(stderr, HOST_PROGRAM ": %s\n", text);
}

static void look_at_clock(struct host_fleet *fleet)
{
	fleet->now_ns = host_clock_ns(CLOCK_REALTIME);
	fleet->now_ms = host_now_ms();
}

static bool has_room(const struct host_fleet *fleet)
{
	return host_handover_has_room(fleet->handover);
}

static void flush(struct host_fleet *fleet)
{
	fleet->flush_status = host_handover_flush(fleet->handover);
}

static bool make_room(struct host_fleet *fleet)
{
	if (!has_room(fleet))
		flush(fleet);
	return has_room(fleet);
}

static void write_report(void *context, const struct host_report *report)
{
	struct host_cell *cell = context;
	const struct host_account *account = &cell->origin.account;
	const struct host_place place = {
		.incarnation = account->incarnation,
		.epoch = account->connection.epoch,
		.sequence = account->reports,
		.received_ns = cell->fleet->now_ns,
	};

	/* Room was looked at before; without an output there is none, and the totals remain. */
	(void)!host_format_report(cell->formatter, &cell->fleet->handover->output.line, report,
				  &place);
}

/* ---- connections ---------------------------------------------------------------------------- */

struct host_latest host_cell_latest(const struct host_cell *cell)
{
	const struct host_input *input = cell->connection == NULL ? NULL : &cell->connection->input;
	const struct cellos_probe_event *event = input == NULL ? NULL : host_input_latest(input);

	if (event == NULL)
		return cell->latest;
	return (struct host_latest){.event = *event, .received_ns = input->latest_ns};
}

static void end_connection(struct host_cell *cell)
{
	struct host_connection *connection = cell->connection;

	cell->latest = host_cell_latest(cell);
	cell->connection = NULL;
	host_account_disconnected(&cell->origin.account);
	host_handover_touch(cell->fleet->handover, &cell->origin);
	/* By hand: closing alone leaves it in the set while another process has a copy. */
	(void)epoll_ctl(cell->fleet->guests, EPOLL_CTL_DEL, connection->fd, NULL);
	(void)close(connection->fd);
	free(connection);
	cell->fleet->ended = true;
	chat(cell->fleet, "connection ended");
}

/*
 * What became of a feed: lines are accounted for; what did not fit is tried again while room can be
 * made. True when the connection goes on and may be read.
 */
static bool after_feed(struct host_cell *cell, int status)
{
	struct host_fleet *fleet = cell->fleet;
	struct host_input *input = &cell->connection->input;

	for (;;) {
		host_handover_add(fleet->handover, &cell->origin, input->events);
		input->events = 0;
		fleet->holder = status == -ENOBUFS ? cell : NULL;
		if (status != -ENOBUFS)
			break;
		if (!input->discard && !make_room(fleet))
			return false;
		status = host_input_resume(input);
	}
	if (status == 0)
		return true;
	chat(fleet, "framing lost: closing the connection");
	end_connection(cell);
	return false;
}

/* One read. True when there may be more; false when the socket is empty for now, the connection has
 * ended, or there is no room. */
static bool read_once(struct host_cell *cell)
{
	struct host_fleet *fleet = cell->fleet;
	struct host_connection *connection = cell->connection;
	ssize_t n;

	if (connection == NULL) /* ended since the kernel said that it has something */
		return false;
	/* An output that would wait is asked again when it says so, and not for each guest. */
	if (fleet->handover->output.line.length >= HOST_OUTPUT_FLUSH_BYTES &&
	    fleet->flush_status != -EAGAIN)
		flush(fleet);
	if (host_fleet_is_blocked(fleet))
		return false;
	do
		n = read(connection->fd, fleet->buffer, sizeof(fleet->buffer));
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return false;
	look_at_clock(fleet);
	if (n <= 0) {
		/* End of file or a reset: all the same from here. */
		end_connection(cell);
		return false;
	}
	cell->origin.account.totals.bytes += (uint64_t)n;
	host_account_clock(&cell->origin.account, fleet->now_ms);
	connection->input.received_ns = fleet->now_ns;
	return after_feed(cell, host_input_feed(&connection->input, fleet->buffer, (size_t)n));
}

static int watch(int set, int how, int fd, uint32_t events, struct host_cell *cell)
{
	struct epoll_event event = {.events = events, .data = {.ptr = cell}};

	return epoll_ctl(set, how, fd, &event) < 0 ? -errno : 0;
}

static int begin_connection(struct host_cell *cell, int fd)
{
	struct host_fleet *fleet = cell->fleet;
	struct host_connection *connection = malloc(sizeof(*connection));
	int status = connection == NULL ? -ENOMEM : 0;

	if (status == 0)
		status = watch(fleet->guests, EPOLL_CTL_ADD, fd, EPOLLIN, cell);
	if (status < 0) {
		free(connection);
		(void)close(fd);
		return status;
	}
	connection->fd = fd;
	host_input_init(&connection->input, &cell->origin.account, cell->formatter,
			&fleet->handover->output.line, HOST_OUTPUT_ROOM_BYTES);
	host_account_connected(&cell->origin.account);
	cell->connection = connection;
	chat(fleet, "connection accepted");
	return 0;
}

void host_fleet_serve_guests(struct host_fleet *fleet)
{
	struct epoll_event events[TURN_GUESTS];
	int count = epoll_wait(fleet->guests, events, TURN_GUESTS, 0);

	/* Who is left out for want of room is ready still, and first at the next turn. */
	for (int i = 0; i < count && !host_fleet_is_blocked(fleet); i++)
		(void)read_once(events[i].data.ptr);
}

bool host_fleet_is_blocked(const struct host_fleet *fleet)
{
	return fleet->holder != NULL || !has_room(fleet);
}

/* ---- knocks --------------------------------------------------------------------------------- */

static void set_deaf(struct host_cell *cell, bool deaf)
{
	if (cell->deaf == deaf || cell->listener.fd < 0)
		return;
	cell->deaf = deaf;
	cell->fleet->deaf += deaf ? 1 : (size_t)-1;
	(void)watch(cell->fleet->knocks, EPOLL_CTL_MOD, cell->listener.fd, deaf ? 0 : EPOLLIN,
		    cell);
}

static bool peer_has_closed(int fd)
{
	struct pollfd look = {.fd = fd, .events = POLLRDHUP};

	return poll(&look, 1, 0) > 0 && (look.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
}

/* Is the cell free for a newcomer? Reads a connection whose peer has closed to its end. */
static bool make_way(struct host_cell *cell)
{
	if (cell->connection != NULL && peer_has_closed(cell->connection->fd))
		while (read_once(cell))
			;
	return cell->connection == NULL;
}

/* One knock. False when there is no more to do now. */
static bool answer(struct host_cell *cell)
{
	struct host_fleet *fleet = cell->fleet;
	bool is_free = make_way(cell);
	int fd;

	if (!is_free && host_fleet_is_blocked(fleet) && peer_has_closed(cell->connection->fd)) {
		set_deaf(cell, true); /* its rest must be read first, and there is no room */
		fleet->waits_for_room = true;
		return false;
	}
	fd = cellos_listener_accept(&cell->listener);
	if (fd == -EAGAIN)
		return false;
	if (fd >= 0 && !is_free) {
		(void)close(fd);
		host_account_contested(&cell->origin.account);
		host_handover_touch(fleet->handover, &cell->origin);
		chat(fleet, "a second connection was turned away");
		return true;
	}
	if (fd >= 0)
		fd = begin_connection(cell, fd);
	if (fd >= 0) {
		/* One at a turn: making way for the next may be as much work as several reads. */
		fleet->complained = false;
		return false;
	}
	/* No descriptor, no memory: the knock stays, so do not look until the next tick. */
	if (!fleet->complained)
		fprintf(stderr, HOST_PROGRAM ": cannot accept a connection: %s\n", strerror(-fd));
	fleet->complained = true;
	set_deaf(cell, true);
	return false;
}

void host_fleet_serve_knocks(struct host_fleet *fleet)
{
	struct epoll_event events[TURN_KNOCKS];
	int count = epoll_wait(fleet->knocks, events, TURN_KNOCKS, 0);

	look_at_clock(fleet);
	for (int i = 0; i < count; i++)
		for (unsigned k = 0; k < TURN_ACCEPTS && answer(events[i].data.ptr); k++)
			;
}

static void hear_again(struct host_fleet *fleet)
{
	fleet->waits_for_room = false;
	for (struct host_cell *cell = fleet->first; cell != NULL && fleet->deaf > 0;
	     cell = cell->next)
		set_deaf(cell, false);
}

/* ---- admission ------------------------------------------------------------------------------ */

static void note_violation(void *context, const struct cellos_violation *violation)
{
	struct host_cell *cell = context;
	char text[CELLOS_VIOLATION_TEXT_BYTES];

	/* The array is as long as everything that is declared. */
	cell->violations[cell->violations_count] =
		strdup(cellos_violation_describe(violation, text, sizeof(text)));
	if (cell->violations[cell->violations_count] != NULL)
		cell->violations_count++;
}

static int admit(struct host_cell *cell)
{
	const struct host_cell_config *config = cell->config;
	const struct cellos_declared_surface *surface;
	size_t count;

	if (config->declared == NULL)
		return 0;
	surface = &config->declared->value.declared_surface;
	cell->violations = calloc(1 + surface->egress_rule_count + surface->secret_ref_count +
					  surface->dns_query_count,
				  sizeof(*cell->violations));
	if (cell->violations == NULL)
		return -ENOMEM;
	count = cellos_declaration_validate(&config->declared->value, &config->authorized->value,
					    note_violation, cell);
	if (count != cell->violations_count)
		return -ENOMEM;
	/* Before the first frame; each violation is told when there is room for it. */
	cell->origin.account.refusing = count > 0 && config->enforce;
	return 0;
}

static void tell_violations(struct host_cell *cell)
{
	struct host_account *account = &cell->origin.account;

	while (cell->violations_told < cell->violations_count && make_room(cell->fleet)) {
		host_account_refuse_cell(account, cell->violations[cell->violations_told++]);
		host_handover_touch(cell->fleet->handover, &cell->origin);
	}
	if (!cell->config->enforce)
		host_account_admit_cell(account);
}

/* ---- opening -------------------------------------------------------------------------------- */

static void free_cell(struct host_cell *cell)
{
	cellos_listener_close(&cell->listener);
	host_formatter_free(cell->formatter);
	for (size_t i = 0; i < cell->violations_count; i++)
		free(cell->violations[i]);
	free(cell->violations);
	host_cell_config_free(cell->config);
	host_cell_config_free(cell->successor);
	free(cell);
}

/* The same id or address; a closing cell has no address any more. */
static bool is_twin(const struct host_cell *cell, const struct host_cell_config *config)
{
	return strcmp(cell->config->id, config->id) == 0 ||
	       (!cell->closing && cell->config->listen.kind == config->listen.kind &&
		cell->config->listen.port == config->listen.port &&
		strcmp(cell->config->listen.path, config->listen.path) == 0);
}

static bool has_twin(const struct host_fleet *fleet, const struct host_cell_config *config)
{
	const struct host_cell *cell = fleet->first;

	while (cell != NULL && !is_twin(cell, config))
		cell = cell->next;
	return cell != NULL;
}

static int prepare(struct host_cell *cell)
{
	const struct host_cell_config *config = cell->config;
	struct host_fleet *fleet = cell->fleet;
	const struct host_stamp stamp = {.cell_id = config->id,
					 .run_id = config->run,
					 .spec_signature_hash = config->hash,
					 .output = config->output};
	int status;

	host_account_init(&cell->origin.account, write_report, cell);
	host_account_set_silence(&cell->origin.account, config->silence_s * 1000);
	cell->formatter = host_formatter_new(fleet->format, &stamp, fleet->routed);
	if (cell->formatter == NULL)
		return -ENOMEM;
	if (host_formatter_max_bytes(cell->formatter) > HOST_OUTPUT_ROOM_BYTES / HOST_OUTPUT_LINES)
		return -E2BIG;
	status = admit(cell);
	if (status == 0)
		status = cellos_listener_open(&cell->listener, &config->listen, &config->owner);
	if (status == 0)
		status = watch(fleet->knocks, EPOLL_CTL_ADD, cell->listener.fd, EPOLLIN, cell);
	if (status == 0) /* last: a cell that is not opened leaves no trace in the state */
		status = host_handover_adopt(fleet->handover, &cell->origin, config->id,
					     config->run);
	return status;
}

int host_fleet_open(struct host_fleet *fleet, struct host_cell_config *config, bool from_file)
{
	struct host_cell *cell;
	int status;

	cell = has_twin(fleet, config) ? NULL : calloc(1, sizeof(*cell));
	if (cell == NULL) {
		status = has_twin(fleet, config) ? -EEXIST : -ENOMEM;
		host_cell_config_free(config);
		return status;
	}
	cell->fleet = fleet;
	cell->config = config;
	cell->from_file = from_file;
	cell->listener.fd = -1;
	status = prepare(cell);
	if (status < 0) {
		free_cell(cell);
		return status;
	}
	cell->next = fleet->first;
	if (cell->next != NULL)
		cell->next->previous = cell;
	fleet->first = cell;
	fleet->count++;
	look_at_clock(fleet);
	host_account_clock(&cell->origin.account, fleet->now_ms);
	tell_violations(cell);
	return 0;
}

struct host_cell *host_fleet_find(struct host_fleet *fleet, const char *id)
{
	struct host_cell *cell = fleet->first;

	while (cell != NULL && (cell->closing || strcmp(cell->config->id, id) != 0))
		cell = cell->next;
	return cell;
}

/* ---- closing -------------------------------------------------------------------------------- */

static void add_sums(struct host_sums *sums, const struct host_totals *totals)
{
	sums->cells++;
	sums->received += totals->frames;
	sums->emitted += totals->emitted;
	sums->lost_in_host += totals->lost_in_host;
	/* Whatever is neither sound nor of a cell that was admitted. */
	sums->refused += totals->frames - totals->events + totals->refused;
}

static void unlink_cell(struct host_cell *cell)
{
	struct host_fleet *fleet = cell->fleet;

	if (cell->next != NULL)
		cell->next->previous = cell->previous;
	if (cell->previous != NULL)
		cell->previous->next = cell->next;
	else
		fleet->first = cell->next;
	fleet->count--;
	fleet->closing -= cell->closing;
}

/* Bytes that wait in the socket. Where the kernel does not tell: as much as it could be. */
static uint64_t bytes_waiting(int fd)
{
	int count;

	return ioctl(fd, FIONREAD, &count) == 0 && count >= 0 ? (uint64_t)count : LAST_BYTES;
}

/*
 * What had arrived when the cell was closed is the cell's still; what its guest goes on writing is
 * not. False: there may be more, and no room.
 */
static bool read_last(struct host_cell *cell)
{
	const struct host_totals *totals = &cell->origin.account.totals;

	while (cell->connection != NULL && totals->bytes < cell->last_byte)
		if (!read_once(cell)) {
			if (host_fleet_is_blocked(cell->fleet))
				return false;
			break;
		}
	return true;
}

/* Does the successor's account begin with all that this one has? Then nothing of it is gone. */
static bool goes_on(const struct host_cell *cell)
{
	return cell->successor != NULL && cell->fleet->handover->state != NULL &&
	       strcmp(cell->successor->run, cell->config->run) == 0;
}

/* Frees the cell; what comes after it, if anything does, is listened for. */
static void replace(struct host_cell *cell)
{
	struct host_fleet *fleet = cell->fleet;
	struct host_cell_config *successor = cell->successor;
	struct host_totals totals = cell->origin.account.totals;
	char id[HOST_ID_MAX_BYTES + 1];
	bool from_file = cell->from_file, all_gone = !goes_on(cell);
	int status = 0;

	memcpy(id, cell->config->id, sizeof(id));
	cell->successor = NULL;
	unlink_cell(cell);
	free_cell(cell);
	if (successor != NULL)
		status = host_fleet_open(fleet, successor, from_file);
	if (all_gone || status < 0)
		add_sums(&fleet->gone, &totals);
	if (status < 0)
		fprintf(stderr, HOST_PROGRAM ": cannot open the changed cell '%s' again: %s\n", id,
			strerror(-status));
}

/* The last of a closing cell. False when it must wait for the output. */
static bool let_go(struct host_cell *cell)
{
	struct host_fleet *fleet = cell->fleet;

	if (!make_room(fleet) || !read_last(cell) || fleet->holder == cell || !make_room(fleet))
		return false;
	if (cell->connection != NULL)
		end_connection(cell);
	tell_violations(cell);
	if (cell->origin.pending > 0)
		flush(fleet);
	if (cell->origin.pending > 0 || cell->violations_told < cell->violations_count ||
	    !make_room(fleet))
		return false;
	host_account_conclude(&cell->origin.account);
	host_handover_release(fleet->handover, &cell->origin);
	replace(cell);
	return true;
}

static void let_closing_go(struct host_fleet *fleet)
{
	struct host_cell *cell, *next;

	for (cell = fleet->first; cell != NULL && fleet->closing > 0; cell = next) {
		next = cell->next;
		if (cell->closing)
			(void)let_go(cell);
	}
}

/* To its guest it is gone; let_go must follow. */
static void begin_close(struct host_fleet *fleet, struct host_cell *cell,
			struct host_cell_config *successor)
{
	look_at_clock(fleet);
	set_deaf(cell, false);
	cellos_listener_close(&cell->listener);
	cell->closing = true;
	if (cell->connection != NULL)
		cell->last_byte =
			cell->origin.account.totals.bytes + bytes_waiting(cell->connection->fd);
	fleet->closing++;
	cell->successor = successor;
}

void host_fleet_close(struct host_fleet *fleet, struct host_cell *cell,
		      struct host_cell_config *successor)
{
	begin_close(fleet, cell, successor);
	(void)let_go(cell);
}

/* ---- adapting ------------------------------------------------------------------------------- */

static bool conflicts(const struct host_fleet *fleet, const struct host_cell_list *list,
		      struct host_mistakes *mistakes)
{
	char place[64];
	unsigned before = mistakes->count;

	for (size_t i = 0; i < list->count; i++) {
		snprintf(place, sizeof(place), "cells[%zu]", i);
		for (const struct host_cell *cell = fleet->first; cell != NULL; cell = cell->next)
			if (!cell->from_file && is_twin(cell, list->cells[i]))
				host_mistake(
					mistakes, place,
					"cell '%s', which was added by hand, has its id or address",
					cell->config->id);
	}
	return mistakes->count != before;
}

/* The list's entry that is this configuration. */
static struct host_cell_config **find_same(struct host_cell_list *list, const char *fingerprint)
{
	for (size_t i = 0; i < list->count; i++)
		if (list->cells[i] != NULL && strcmp(list->cells[i]->fingerprint, fingerprint) == 0)
			return &list->cells[i];
	return NULL;
}

/* The list's entry of this id, taken out of it; or NULL. */
static struct host_cell_config *take_successor(struct host_cell_list *list, const char *id)
{
	struct host_cell_config *config = NULL;

	for (size_t i = 0; i < list->count && config == NULL; i++)
		if (list->cells[i] != NULL && strcmp(list->cells[i]->id, id) == 0) {
			config = list->cells[i];
			list->cells[i] = NULL;
		}
	return config;
}

/* Does the cell stay as it is? Then its entry leaves the list. */
static bool stays(struct host_cell *cell, struct host_cell_list *list)
{
	struct host_cell_config **found;

	if (!cell->from_file)
		return true;
	if (cell->closing) {
		/* On its way out since an earlier reading: what comes after it is this one's. */
		host_cell_config_free(cell->successor);
		cell->successor = take_successor(list, cell->config->id);
		return true;
	}
	found = find_same(list, cell->config->fingerprint);
	if (found == NULL)
		return false;
	*found = host_cell_config_free(*found);
	return true;
}

/*
 * Those that stay leave the list; those that go take their successor out of it. All have left their
 * addresses before the first successor comes: it may have the one of another.
 */
static void sort_out(struct host_fleet *fleet, struct host_cell_list *list)
{
	struct host_cell *cell;

	for (cell = fleet->first; cell != NULL; cell = cell->next)
		cell->stays = stays(cell, list);
	for (cell = fleet->first; cell != NULL; cell = cell->next)
		if (!cell->stays)
			begin_close(fleet, cell, take_successor(list, cell->config->id));
	let_closing_go(fleet);
}

void host_fleet_adapt(struct host_fleet *fleet, struct host_cell_list *list,
		      struct host_mistakes *mistakes)
{
	char address[CELLOS_ADDRESS_TEXT_BYTES];
	int status;

	if (!conflicts(fleet, list, mistakes)) {
		sort_out(fleet, list);
		for (size_t i = 0; i < list->count; i++) {
			struct host_cell_config *config = list->cells[i];

			if (config == NULL)
				continue;
			cellos_address_format(&config->listen, address);
			list->cells[i] = NULL;
			status = host_fleet_open(fleet, config, true);
			if (status < 0)
				host_mistake(mistakes, address, "%s", strerror(-status));
		}
	}
	host_cell_list_free(list);
}

/* ---- the clock and the output --------------------------------------------------------------- */

static void resume_holder(struct host_fleet *fleet)
{
	struct host_cell *holder = fleet->holder;

	if (holder == NULL || !has_room(fleet))
		return;
	look_at_clock(fleet);
	(void)after_feed(holder, host_input_resume(&holder->connection->input));
}

void host_fleet_settle(struct host_fleet *fleet)
{
	flush(fleet);
	if (fleet->holder != NULL) {
		resume_holder(fleet);
		flush(fleet);
	}
	let_closing_go(fleet);
	if (fleet->waits_for_room && !host_fleet_is_blocked(fleet))
		hear_again(fleet);
}

void host_fleet_excuse(struct host_fleet *fleet)
{
	look_at_clock(fleet);
	for (struct host_cell *cell = fleet->first; cell != NULL; cell = cell->next)
		host_account_excuse(&cell->origin.account, fleet->now_ms);
}

static void tick_cell(struct host_cell *cell)
{
	struct host_account *account = &cell->origin.account;
	uint64_t reports = account->reports;

	host_account_clock(account, cell->fleet->now_ms);
	host_account_tell(account);
	tell_violations(cell);
	if (account->reports != reports)
		host_handover_touch(cell->fleet->handover, &cell->origin);
}

uint64_t host_fleet_tick(struct host_fleet *fleet)
{
	uint64_t next = UINT64_MAX, silent_at;
	bool done = true;

	look_at_clock(fleet);
	hear_again(fleet);
	for (struct host_cell *cell = fleet->first; cell != NULL; cell = cell->next) {
		if (!make_room(fleet)) {
			done = false;
			break;
		}
		tick_cell(cell);
		silent_at = host_account_silent_at(&cell->origin.account);
		if (silent_at < next)
			next = silent_at;
	}
	host_fleet_settle(fleet);
	if (!done || fleet->deaf > 0 || fleet->closing > 0)
		return TICK_MS;
	if (next == UINT64_MAX)
		return UINT64_MAX;
	return next > fleet->now_ms ? next - fleet->now_ms : 1;
}

/* ---- the end -------------------------------------------------------------------------------- */

static int finish(struct host_fleet *fleet)
{
	fleet->flush_status = host_handover_finish(fleet->handover, FINISH_MS);
	return fleet->flush_status;
}

int host_fleet_conclude(struct host_fleet *fleet)
{
	int status = finish(fleet);

	/* Each turn begins with an empty buffer, so each one comes closer to the end. */
	while (status == 0 && fleet->first != NULL) {
		struct host_cell *cell = fleet->first;

		resume_holder(fleet);
		cell->successor = host_cell_config_free(cell->successor);
		if (cell->closing)
			(void)let_go(cell);
		else
			host_fleet_close(fleet, cell, NULL);
		status = host_handover_has_room(fleet->handover) && fleet->first != cell
				 ? 0
				 : finish(fleet);
	}
	return status == 0 ? finish(fleet) : status;
}

void host_fleet_give_up(struct host_fleet *fleet)
{
	struct host_cell *holder = fleet->holder, *cell, *next;

	if (holder != NULL) {
		holder->connection->input.discard = true;
		(void)after_feed(holder, host_input_resume(&holder->connection->input));
	}
	host_handover_give_up(fleet->handover);
	for (cell = fleet->first; cell != NULL; cell = next) {
		next = cell->next;
		add_sums(&fleet->gone, &cell->origin.account.totals);
		if (cell->connection != NULL) {
			(void)close(cell->connection->fd);
			free(cell->connection);
		}
		host_handover_release(fleet->handover, &cell->origin);
		unlink_cell(cell);
		free_cell(cell);
	}
}

struct host_sums host_fleet_sums(const struct host_fleet *fleet)
{
	struct host_sums sums = fleet->gone;

	for (const struct host_cell *cell = fleet->first; cell != NULL; cell = cell->next)
		add_sums(&sums, &cell->origin.account.totals);
	return sums;
}

void host_fleet_walk(const struct host_fleet *fleet, host_cell_fn look, void *context)
{
	for (const struct host_cell *cell = fleet->first; cell != NULL; cell = cell->next)
		look(context, cell);
}

/* ---- life ----------------------------------------------------------------------------------- */

int host_fleet_init(struct host_fleet *fleet, struct host_handover *handover,
		    const struct host_options *options)
{
	memset(fleet, 0, sizeof(*fleet));
	fleet->handover = handover;
	fleet->format = options->format;
	fleet->routed = handover->spooled;
	fleet->verbose = options->verbose;
	fleet->guests = -1;
	fleet->knocks = epoll_create1(EPOLL_CLOEXEC);
	if (fleet->knocks < 0)
		return -errno;
	fleet->guests = epoll_create1(EPOLL_CLOEXEC);
	return fleet->guests < 0 ? -errno : 0;
}

void host_fleet_destroy(struct host_fleet *fleet)
{
	host_fleet_give_up(fleet); /* after a conclude there is nothing left to give up */
	if (fleet->knocks >= 0)
		(void)close(fleet->knocks);
	if (fleet->guests >= 0)
		(void)close(fleet->guests);
	fleet->knocks = fleet->guests = -1;
}
