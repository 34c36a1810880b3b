/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See probe_util.h. */
#include "probe_util.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

uint64_t cellos_probe_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * CELLOS_NS_PER_S + (uint64_t)now.tv_nsec;
}

enum cellos_wait_result cellos_probe_wait(int stop_fd, int fd, uint64_t deadline_ns)
{
	return cellos_probe_wait_either(stop_fd, fd, -1, deadline_ns);
}

enum cellos_wait_result cellos_probe_wait_either(int stop_fd, int fd, int other_fd,
						 uint64_t deadline_ns)
{
	struct pollfd fds[3] = {
		{.fd = stop_fd, .events = POLLIN},
		{.fd = fd, .events = POLLIN},
		{.fd = other_fd, .events = POLLIN},
	};

	int ready;

	do {
		const uint64_t now = cellos_probe_now();
		const uint64_t left =
			deadline_ns > now ? deadline_ns - now : 0; /* never: centuries */
		const struct timespec wait = {.tv_sec = (time_t)(left / CELLOS_NS_PER_S),
					      .tv_nsec = (long)(left % CELLOS_NS_PER_S)};

		ready = ppoll(fds, 3, &wait, NULL);
	} while (ready < 0 && errno == EINTR);
	/* A poll that cannot be had would fail again at once: end rather than spin. */
	if (ready < 0 || fds[0].revents != 0)
		return CELLOS_WAIT_STOP;
	return ready == 0 ? CELLOS_WAIT_DEADLINE : CELLOS_WAIT_READABLE;
}

void cellos_probe_emit(struct cellos_probe_env *env, enum cellos_probe_source source, uint32_t pid,
		       const char *comm, size_t comm_len, uint64_t now_ns)
{
	struct cellos_raw_event event = {
		.monotonic_ns = now_ns, .pid = pid, .source = (uint8_t)source};

	if (comm_len > CELLOS_RAW_COMM_MAX_BYTES)
		comm_len = CELLOS_RAW_COMM_MAX_BYTES;
	memcpy(event.comm, comm, comm_len);
	event.comm_len = (uint8_t)comm_len;
	/* A full lane has counted the event already; there is nothing else to do about it. */
	(void)cellos_lane_submit(env->lane, &event);
}

void cellos_probe_stat_set(struct cellos_probe_env *env, unsigned stat, uint64_t value)
{
	/* Relaxed: a number for people, nothing is ordered by it. */
	atomic_store_explicit(&env->stats[stat], value, memory_order_relaxed);
}

void cellos_probe_stat_add(struct cellos_probe_env *env, unsigned stat, uint64_t more)
{
	uint64_t now = atomic_load_explicit(&env->stats[stat], memory_order_relaxed);

	cellos_probe_stat_set(env, stat, now + more);
}

void cellos_probe_why(struct cellos_probe_status *status, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	/* NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): one line above */
	(void)vsnprintf(status->why, sizeof(status->why), format, arguments);
	va_end(arguments);
}
