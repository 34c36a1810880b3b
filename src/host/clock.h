/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The clocks as numbers. Any thread; refuses nothing: no clock that is asked for here can be
 * missing.
 */
#ifndef CELLOS_HOST_CLOCK_H
#define CELLOS_HOST_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t host_clock_ns(clockid_t id)
{
	struct timespec now;

	clock_gettime(id, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* CLOCK_MONOTONIC: for deadlines and silences. */
static inline uint64_t host_now_ms(void)
{
	return host_clock_ns(CLOCK_MONOTONIC) / 1000000;
}

#endif
