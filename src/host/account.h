/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The host's account of one cell: what its agent says it sent, set against what arrived.
 *
 * Pure: fed with what was decoded, it answers with reports through a callback. No descriptor, no
 * clock, no allocation; one thread at a time. Everything it is fed comes from a guest that may lie:
 * any order of calls, any number, leads to some report and never to undefined behaviour. What a
 * lying guest can reach is a wrong number in its own account.
 *
 * Identities that hold after every call:
 *
 *   totals.frames = totals.events + the sum of totals.bad but FrameTooLarge   (no whole frame)
 *   position      = baseline + frames taken + frames lost in flight, of this incarnation
 *   incarnation and sequence together only ever rise, over the host's own restarts too
 *
 * whenever a heartbeat or goodbye was taken, position = the agent's `sent`; and when nothing is
 * between take and handed_on or lost:
 *
 *   totals.events = totals.emitted + totals.refused + totals.lost_in_host
 *
 * One frame leads to at most four reports, and to one more behind a silence. What a guest can make
 * by the million in a few bytes each is counted, and told by host_account_tell alone.
 */
#ifndef CELLOS_HOST_ACCOUNT_H
#define CELLOS_HOST_ACCOUNT_H

#include <stdbool.h>
#include <stdint.h>

#include "cellos/event.h"
#include "cellos/wire.h"

/* More frames in flight than this, and it is another agent that speaks (docs/ledger.md). */
#define HOST_MAX_IN_FLIGHT UINT64_C(1000000)
/* An agent beats at least every 3 s; so long without a frame, and it is called silent. */
#define HOST_SILENCE_MS UINT64_C(10000)

enum host_report_kind {
	HOST_REPORT_HEARTBEAT,      /* epoch, count = sent */
	HOST_REPORT_DROPPED,        /* lane, reason, since = newly, count = total, baseline */
	HOST_REPORT_LOST_IN_FLIGHT, /* epoch, since = newly lost, count = total */
	HOST_REPORT_LOST_IN_HOST,   /* since = newly lost, count = total */
	HOST_REPORT_BAD_FRAME,      /* error, since, count = total of that error */
	HOST_REPORT_BAD_REPORT,     /* event = the latest one, since, count = total */
	HOST_REPORT_GOODBYE,        /* count = sent */
	HOST_REPORT_ENDED_WITHOUT_GOODBYE, /* count = complete up to */
	HOST_REPORT_AGENT_RESTARTED,       /* count = incarnation that begins */
	HOST_REPORT_CONTESTED,             /* since, count = total */
	HOST_REPORT_JOINED,                /* count = sent */
	HOST_REPORT_SILENCED,              /* count = ms without a frame; once per silence */
	HOST_REPORT_RECOVERED,             /* count = ms of the silence that ended */
	HOST_REPORT_REFUSED, /* text = the rule and entry that admission found violated */
	HOST_REPORT_LEDGER,  /* the row of a cell's end: epoch, count = complete up to, totals, and
				unsettled = what is missing */
	HOST_REPORT_KIND_COUNT
};

struct host_totals;

struct host_report {
	enum host_report_kind kind;
	uint32_t epoch;
	uint64_t count;
	uint64_t since; /* of `count`, what came since the last report of its kind */
	/*
	 * Where it belongs: events first + 1 .. last of this incarnation were numbered while it
	 * happened; first = last when it lies between two. 0 and 0 also where no place is meant.
	 * A row does not queue behind events: what it counts was dropped behind `first`, but up to
	 * a lane's depth behind `last`.
	 */
	uint64_t first, last;
	uint8_t lane;
	uint8_t reason;
	bool baseline; /* a row that was there already when the host joined */
	enum cellos_wire_status error;
	const struct cellos_probe_event *event; /* borrowed for the call */
	const char *text;                       /* borrowed for the call; NUL-terminated UTF-8 */
	const struct host_totals *totals;       /* borrowed for the call */
	int64_t unsettled; /* received - emitted - refused - lost_in_host; 0: it adds up */
};

typedef void (*host_report_fn)(void *context, const struct host_report *report);

/* Over everything since init, all incarnations together: what the summary says. */
struct host_totals {
	uint64_t frames; /* whole frames that are no self-report, refused ones too: `received` */
	uint64_t events; /* of these, sound */
	uint64_t epochs; /* connections that announced themselves by a heartbeat */
	uint64_t lost_in_flight;
	uint64_t
		lost_in_host; /* read and then not handed on: a killed host, a full spool or disk */
	uint64_t refused;     /* sound events of a cell that admission refused: not handed on */
	uint64_t emitted;     /* handed on: written, or spooled */
	uint64_t bytes;       /* read from connections; the caller adds to it */
	uint64_t silences;
	uint64_t bad_reports;
	uint64_t contested;
	uint64_t bad[CELLOS_WIRE_STATUS_COUNT];
	uint64_t dropped[CELLOS_LANE_COUNT][CELLOS_DROP_COUNT];
};

struct host_account {
	host_report_fn report;
	void *context;

	/* The agent at the other end; all of it goes when another one speaks. */
	struct host_incarnation {
		bool named;     /* pid is set */
		bool announced; /* its first heartbeat was taken */
		uint32_t pid;
		uint32_t epoch;    /* of its latest heartbeat; 0 before any */
		uint64_t position; /* frames it sent as far as we can tell, unwrapped */
		uint64_t rows[CELLOS_LANE_COUNT][CELLOS_DROP_COUNT]; /* unwrapped */
		/* `sequence` when the row was told last */
		uint64_t rows_at[CELLOS_LANE_COUNT][CELLOS_DROP_COUNT];
	} agent;
	bool knew_any; /* some agent was announced before: no later one is joined half-way */

	/* What every id is made of. Numbers are given once: lost events keep theirs. */
	uint32_t incarnation; /* agents of this run, from 1 */
	uint64_t sequence;    /* of the event taken last, from 1 per incarnation */
	uint64_t reports;     /* of the report told last, from 1 per run */

	struct host_connection_state {
		bool spoke;     /* at least one whole frame */
		bool goodbye;   /* the goodbye was the last frame */
		bool joining;   /* between the heartbeat we joined at and the first other frame */
		uint32_t epoch; /* of its heartbeats; 0 before the first */
		uint64_t settled_at; /* `sequence` at its latest heartbeat, or its beginning */
	} connection;

	struct host_totals totals;

	/* What was told already; the rest waits for host_account_tell. */
	struct host_told {
		uint64_t bad[CELLOS_WIRE_STATUS_COUNT];
		uint64_t bad_reports;
		uint64_t contested;
		uint64_t lost_in_host;
		uint64_t at;      /* `sequence` at the latest telling */
		uint64_t lost_at; /* `sequence` before the first that is lost and not told */
		struct cellos_probe_event bad_report; /* the latest */
	} told;
	bool untold;

	struct host_silence {
		uint64_t window_ms; /* 0: never called silent */
		uint64_t now_ms;    /* the caller's clock, as it was told last */
		uint64_t heard_ms;  /* when the latest whole frame came, or the window was begun */
		bool running;       /* the clock was told at least once */
		bool silent;        /* said so */
	} silence;

	bool refusing; /* admission found a violation: no event is handed on */
};

struct host_kept; /* state.h: what of all this outlives the process */

/* Window: HOST_SILENCE_MS, until host_account_set_silence says otherwise. */
void host_account_init(struct host_account *account, host_report_fn report, void *context);

/*
 * A cell whose account was kept: it goes on where it stood, before its first connection. What had
 * been taken and was neither handed on nor lost went with the process: lost_in_host. What came
 * after it was kept shows as lost_in_flight at the next heartbeat; nobody is "joined" again.
 */
void host_account_restore(struct host_account *account, const struct host_kept *kept);
void host_account_keep(const struct host_account *account, struct host_kept *kept);

/*
 * The caller's clock, any origin, never backwards. To be told before the bytes of a read are fed
 * and, for a silence to be noticed, some time at or after host_account_silent_at.
 */
void host_account_clock(struct host_account *account, uint64_t now_ms);
void host_account_set_silence(struct host_account *account, uint64_t window_ms);
/* When the account will call its agent silent; UINT64_MAX: not before another frame. */
uint64_t host_account_silent_at(const struct host_account *account);
/* The host itself did not read until now, its output being full: the window begins anew. */
void host_account_excuse(struct host_account *account, uint64_t now_ms);

void host_account_connected(struct host_account *account);
/* At the connection's end of file, or when we closed it. */
void host_account_disconnected(struct host_account *account);

/*
 * A sound frame. True when it is an event for the output: its number is `sequence`, and one of
 * handed_on and lost must follow. False when it was a self-report, or the cell is refused.
 */
bool host_account_take(struct host_account *account, const struct cellos_probe_event *event);
/* A whole frame that the decoder refused. */
void host_account_refuse(struct host_account *account, enum cellos_wire_status status);
/* FrameTooLarge: the framing of this connection is gone; its end follows. */
void host_account_framing_lost(struct host_account *account);
/* A second connection was turned away. */
void host_account_contested(struct host_account *account);

/* `count` events that were taken are written, or spooled. */
void host_account_handed_on(struct host_account *account, uint64_t count);
/* The `count` events taken last cannot be handed on: no room, a broken output. */
void host_account_lost(struct host_account *account, uint64_t count);

/* Admission found `violation` (one call for each): from now on events are counted as refused. */
void host_account_refuse_cell(struct host_account *account, const char *violation);
void host_account_admit_cell(struct host_account *account);

/*
 * Report what is counted but not told. A guest can make bad frames by the million, so they are told
 * as totals: here, whenever the caller's clock says so, and at the end of a connection.
 */
void host_account_tell(struct host_account *account);
/* At the cell's end, when everything is handed on or lost: the rest is told, then the ledger. */
void host_account_conclude(struct host_account *account);
/* received - emitted - refused by error or policy - lost_in_host */
int64_t host_totals_unsettled(const struct host_totals *totals);

#endif
