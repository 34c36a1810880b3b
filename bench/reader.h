/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The host's side of a bench: a process of its own that listens on a Unix socket, walks every
 * length prefix, reads every self-report, and tells at the end what it saw.
 *
 * Started before any thread is. The parent owns the struct, the child process and the socket's
 * folder, from reader_start to reader_finish.
 */
#ifndef CELLOS_BENCH_READER_H
#define CELLOS_BENCH_READER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "cellos/event.h"
#include "cellos/transport.h"

enum reader_kind {
	READER_FAST,   /* reads as fast as it can */
	READER_SLOW,   /* a pause of a millisecond behind every 64 KiB, until it is released */
	READER_STALLED /* accepts, and reads nothing until it is released */
};

struct reader_report {
	uint64_t bytes, reads, frames, events;
	uint64_t heartbeats;
	uint64_t sent_told; /* by the last heartbeat or the goodbye */
	uint64_t wrong;     /* reports that do not fit what was read, frames that do not decode */
	uint64_t rows[CELLOS_LANE_COUNT][CELLOS_DROP_COUNT]; /* as told last */
	uint64_t last_ns; /* CLOCK_MONOTONIC, when the last byte was read */
	bool goodbye;
};

struct reader {
	pid_t pid;
	int control; /* to the child */
	int report;  /* from the child */
	char folder[64];
	struct cellos_address address; /* for the sender */
};

void reader_start(struct reader *reader, enum reader_kind kind);
/* From now on it reads as fast as it can. */
void reader_release(struct reader *reader);
/* Waits for its end of file and fetches the report. */
void reader_finish(struct reader *reader, struct reader_report *report);
const char *reader_kind_name(enum reader_kind kind);

#endif
