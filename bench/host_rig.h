/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the host's bench is built on: the real receiver as a process with a number of cells, a
 * process that reads its output and counts per cell and sequence number, and frames to send.
 *
 * Started before any thread is. One rig at a time; the parent owns it from start to finish.
 */
#ifndef CELLOS_BENCH_HOST_RIG_H
#define CELLOS_BENCH_HOST_RIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "common.h"

#define RIG_MAX_CELLS 4000u

enum rig_reader {
	RIG_NULL,  /* --output /dev/null: nobody reads */
	RIG_LINES, /* a pipe, read as fast as it goes, event lines counted */
	RIG_CHECK /* a pipe, each line's cell and number looked at, and how long it was under way */
};

struct rig_counted {
	uint64_t lines, events, bytes;
	uint64_t wrong;         /* an event whose number is not the next one of its cell */
	struct histogram delay; /* from guest_monotonic_ns to here; RIG_CHECK */
};

/* The receiver's own last words, and what it cost. */
struct rig_end {
	uint64_t received, emitted, refused, lost;
	double cpu_seconds;
	struct rig_counted counted;
};

struct rig {
	char folder[32];
	unsigned cells;
	pid_t receiver, counter;
	int result; /* the counter's */
};

/* Cells c0, c1, ... with their sockets in the rig's folder. `cpu` -1: anywhere. */
void rig_start(struct rig *rig, const char *receiver, unsigned cells, const char *format,
	       enum rig_reader reader, int cpu);
/* A connection to a cell, blocking. */
int rig_connect(const struct rig *rig, unsigned cell);
/* Until the receiver has taken that many guests' connections: one that still knocks at its end is
 * no guest of it, and what it sent is not read. */
void rig_await_accepted(const struct rig *rig, unsigned guests);
/* Resident memory of the receiver, in KiB. */
uint64_t rig_resident_kib(const struct rig *rig);
/* Stops the receiver, which reads what has arrived, and the counter. */
void rig_finish(struct rig *rig, struct rig_end *end);

/* ---- frames ---------------------------------------------------------------------------------- */

/* Each appends one frame at `out`; bytes written. */
size_t rig_event(uint8_t *out, const struct cellos_probe_event *event);
size_t rig_beat(uint8_t *out, uint32_t epoch, uint64_t sent);
/* Ends the program when the receiver has gone. */
void rig_send(int fd, const uint8_t *bytes, size_t length);

#endif
