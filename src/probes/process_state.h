/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the two ways of the process probe share: its state, a walk, and what is counted.
 *
 * Threads: as cellos/probe.h says; one at a time. Refuses to: be seen outside the probe's files.
 */
#ifndef CELLOS_PROCESS_STATE_H
#define CELLOS_PROCESS_STATE_H

#include <stdalign.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/probe.h"
#include "netlink.h"
#include "process.h"
#include "process_scan.h"
#include "process_track.h"
#include "taskstats.h"

/* What the kernel may hold for each socket: some 2500 messages, or 1600 records of exits. */
#define PROCESS_SOCKET_BYTES (2u * 1024 * 1024)

enum process_stat { STAT_TABLE_FULL, STAT_WALKS, STAT_GAPS, STAT_FORGED, STAT_MALFORMED };

struct process_connector {
	struct netlink_socket socket;
	bool ask;             /* the kernel lets others silence us */
	uint32_t asked;       /* number of the last question */
	uint32_t answered;    /* and of the last answer to it */
	uint64_t resync_ns;   /* when to walk, UINT64_MAX: no need */
	uint64_t resynced_ns; /* the last time */
	uint64_t forged;
	uint64_t malformed;
	uint64_t buffer[64]; /* a message has 76 bytes */
};

struct process_state {
	struct cellos_process_seam seam;
	struct cellos_probe_env *env; /* borrowed, from arm on */
	bool by_connector;
	bool in_gap;         /* the trouble under way is counted already */
	uint64_t give_up_ns; /* set when stopping: the last walk ends then */
	uint32_t visits;
	struct process_scan scan;
	struct process_track track;
	struct process_connector connector;
	struct exit_listener exits;
	alignas(max_align_t) char memory[]; /* the track's */
};

/* One walk, and with the connector all messages that came meanwhile. False: it has to be done
   again. */
bool process_walk_once(struct process_state *state);
/* One occasion under `o` per stretch of trouble, however long it is. */
void process_open_gap(struct process_state *state);

/* 0, or -errno and the reason in status->why. After it, messages of everything that happens wait in
   the sockets. */
CELLOS_MUST_CHECK int process_connector_open(struct process_state *state,
					     struct cellos_probe_status *status);
void process_connector_close(struct process_state *state);
/* All that is there. */
void process_connector_drain(struct process_state *state);
void process_connector_run(struct process_state *state);

#endif
