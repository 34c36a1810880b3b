/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the matrix's programs outside of the guard share: lines over a descriptor, the clock.
 *
 * No state. Refuses to: read a line that does not fit (-EMSGSIZE).
 */
#ifndef CELLOS_MATRIX_LINE_H
#define CELLOS_MATRIX_LINE_H

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define STEWARD_PORT 5001
#define LINE_BYTES 4096

static inline int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static inline void rest_ms(long ms)
{
	const struct timespec time = {ms / 1000, ms % 1000 * 1000000};

	(void)nanosleep(&time, NULL);
}

/* A line without its end, which comes byte by byte: whoever asks waits for the answer. 0: the end.
 */
static inline int read_line(int fd, char line[LINE_BYTES])
{
	size_t length = 0;
	ssize_t got;

	while ((got = read(fd, line + length, 1)) == 1 && line[length] != '\n')
		if (++length == LINE_BYTES)
			return -EMSGSIZE;
	line[length] = '\0';
	return got == 1 ? 1 : got == 0 ? 0 : -errno;
}

static inline int write_line(int fd, const char *line)
{
	const size_t length = strlen(line);

	return write(fd, line, length) == (ssize_t)length && write(fd, "\n", 1) == 1 ? 0 : -errno;
}

#endif
