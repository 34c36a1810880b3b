/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What every probe needs: the clock, a wait that stop ends, an event on its way, a statistic.
 *
 * Threads: the probe's own (or the main thread during arm, when that one does not exist yet).
 * Invariant: nothing here allocates; a wait that goes wrong ends as "stop", never as a spin.
 * Refuses to: know any probe.
 */
#ifndef CELLOS_PROBE_UTIL_H
#define CELLOS_PROBE_UTIL_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/probe.h"

#define CELLOS_NS_PER_MS 1000000ull
#define CELLOS_NS_PER_S 1000000000ull

/* How often a probe that lost its surface looks for it again. */
#define CELLOS_PROBE_RETRY_NS CELLOS_NS_PER_S

enum cellos_wait_result {
	CELLOS_WAIT_DEADLINE = 0,
	CELLOS_WAIT_READABLE,
	CELLOS_WAIT_STOP /* wins over readable */
};

/* CLOCK_MONOTONIC. */
uint64_t cellos_probe_now(void);

/* Sleeps until stop_fd or `fd` (-1: none) is readable or `deadline_ns` (UINT64_MAX: never) is
   past. A deadline of 0 only looks. */
enum cellos_wait_result cellos_probe_wait(int stop_fd, int fd, uint64_t deadline_ns);
/* The same, for two descriptors; either may be -1. */
enum cellos_wait_result cellos_probe_wait_either(int stop_fd, int fd, int other_fd,
						 uint64_t deadline_ns);

void cellos_probe_emit(struct cellos_probe_env *env, enum cellos_probe_source source, uint32_t pid,
		       const char *comm, size_t comm_len, uint64_t now_ns);

/* Only the probe's thread writes, so load and store need no read-modify-write. */
void cellos_probe_stat_set(struct cellos_probe_env *env, unsigned stat, uint64_t value);
void cellos_probe_stat_add(struct cellos_probe_env *env, unsigned stat, uint64_t more);

/* Formats into status->why, cutting what does not fit. */
__attribute__((format(printf, 2, 3))) void cellos_probe_why(struct cellos_probe_status *status,
							    const char *format, ...);

#endif
