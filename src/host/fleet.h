/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The cells that are listened for, each with its address, its account and at most one live
 * connection.
 *
 * One thread, and no event loop: two epoll descriptors say when there is something to do. `knocks`
 * holds the listening sockets, `guests` the connections. Guests are served in turn, one bounded
 * read each, so that none gets more than its share; and none is served while the output has no room
 * (host_fleet_is_blocked): the agents then wait, their lanes fill, and what they drop has a number.
 *
 * Memory: one read buffer and one buffer of lines for all, and a fixed amount for each cell and
 * connection, whatever the guests send.
 *
 * A cell that goes is first closed to its guest, then kept until what it brought is handed on: its
 * last line is its ledger.
 */
#ifndef CELLOS_HOST_FLEET_H
#define CELLOS_HOST_FLEET_H

#include <stdbool.h>
#include <stdint.h>

#include "cells.h"
#include "handover.h"
#include "input.h"

struct host_connection;

struct host_cell {
	struct host_origin origin; /* the account */
	struct host_fleet *fleet;
	struct host_cell *next, *previous;
	struct host_cell_config *config;    /* owned */
	struct host_formatter *formatter;   /* owned */
	struct cellos_listener listener;    /* closed once `closing` */
	struct host_connection *connection; /* owned; NULL: none lives */
	char **violations;                  /* owned, each too: what admission found */
	size_t violations_count, violations_told;
	bool from_file; /* of --cells: goes when the file does not have it any more */
	bool deaf;      /* its knocks are not looked at until the next tick */
	bool closing;
	uint64_t last_byte; /* of a closing cell: what had arrived ends there, in totals.bytes */
	bool stays;         /* while a file is read again: it is in there unchanged */
	struct host_latest {
		struct cellos_probe_event event;
		uint64_t received_ns;       /* 0: there is none */
	} latest;                           /* of the connections that have ended */
	struct host_cell_config *successor; /* owned: takes the place of a closing cell, or NULL */
};

/* Over cells that are gone, too. */
struct host_sums {
	uint64_t cells;
	uint64_t received, emitted, refused, lost_in_host;
};

struct host_fleet {
	struct host_handover *handover;
	enum host_format format;
	bool routed, verbose;
	int knocks, guests; /* owned epoll descriptors */
	struct host_cell *first;
	size_t count, closing, deaf;
	struct host_cell *holder; /* whose bytes still lie in `buffer`, for want of room; or NULL */
	int flush_status;         /* of the latest flush: 0, or why something is left */
	bool waits_for_room;      /* a deaf cell does, and not only for the clock */
	bool ended;               /* a connection has ended */
	bool complained;          /* about accept; said once until it works again */
	struct host_sums gone;
	uint64_t now_ns, now_ms; /* CLOCK_REALTIME, CLOCK_MONOTONIC at the latest look */
	uint8_t buffer[HOST_READ_BYTES];
};

/* 0 or -errno; destroy either way. The handover is borrowed. */
CELLOS_MUST_CHECK int host_fleet_init(struct host_fleet *fleet, struct host_handover *handover,
				      const struct host_options *options);
void host_fleet_destroy(struct host_fleet *fleet);

/*
 * Takes the configuration over, also when it fails. 0; -EEXIST: a cell of that id or address is
 * there; -E2BIG: its lines would be too long; else -errno of the socket or the state.
 */
CELLOS_MUST_CHECK int host_fleet_open(struct host_fleet *fleet, struct host_cell_config *config,
				      bool from_file);
/* Not found: NULL. A cell that is closing is not found. */
struct host_cell *host_fleet_find(struct host_fleet *fleet, const char *id);
/* `successor` is taken over, may be NULL. The cell is gone at once or by a later settle. */
void host_fleet_close(struct host_fleet *fleet, struct host_cell *cell,
		      struct host_cell_config *successor);
/*
 * The cells of a file that was read again: those that are there unchanged stay as they are, the
 * others of a file go, new ones come. The list is emptied. Mistakes: what could not be listened on;
 * or a cell that was added by hand has the same id or address, and then nothing is changed.
 */
void host_fleet_adapt(struct host_fleet *fleet, struct host_cell_list *list,
		      struct host_mistakes *mistakes);

/* What is ready now, a bounded amount of it. */
void host_fleet_serve_knocks(struct host_fleet *fleet);
void host_fleet_serve_guests(struct host_fleet *fleet);
/* Do not serve guests, and do not wait for them. */
bool host_fleet_is_blocked(const struct host_fleet *fleet);
/* Hands on what is there, goes on with what waited for room, lets closing cells go. */
void host_fleet_settle(struct host_fleet *fleet);
/* Guests were not looked at for a long time, for whatever reason: no cell was silent meanwhile. */
void host_fleet_excuse(struct host_fleet *fleet);
/*
 * What the clock does: silence, totals, cells that were deaf. Milliseconds until there is something
 * to do again without any event; UINT64_MAX: nothing.
 */
uint64_t host_fleet_tick(struct host_fleet *fleet);

/* The end: reads what has arrived, ends all cells. 0 or -errno of the output. */
CELLOS_MUST_CHECK int host_fleet_conclude(struct host_fleet *fleet);
/* The output is broken: what is not handed on is lost, and counted so. */
void host_fleet_give_up(struct host_fleet *fleet);
struct host_sums host_fleet_sums(const struct host_fleet *fleet);

/* Each cell with its totals, closing ones too: for the control socket, and for metrics. */
typedef void (*host_cell_fn)(void *context, const struct host_cell *cell);
/* The event taken last, also of an earlier connection; received_ns 0: none since this start. */
struct host_latest host_cell_latest(const struct host_cell *cell);
void host_fleet_walk(const struct host_fleet *fleet, host_cell_fn look, void *context);

#endif
