/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Bytes in and out of cellos-wire, over plain descriptors: lines and pieces on the way in, one
 * buffer on the way out. One thread. What was made is written out before a read may wait, so a
 * pipe through cellos-wire shows a line as soon as its frame has come.
 *
 * Descriptors may be non-blocking (somebody may have shared them so): a full or empty one is
 * waited for. Errors are 0 or -errno; nothing is printed here.
 */
#ifndef CELLOS_CLI_IO_H
#define CELLOS_CLI_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

#define OUTPUT_BYTES (128 * 1024) /* holds the longest error line several times */
#define INPUT_BYTES (64 * 1024)
/* A line of hex holds two digits a byte; one longer than this is no line of ours. */
#define LINE_MAX_BYTES (1024 * 1024)

struct output {
	int fd;
	size_t length;
	char data[OUTPUT_BYTES];
};

/* Writes out all that is held; after a failure nothing is held either, so it is told once. */
CELLOS_MUST_CHECK int output_flush(struct output *output);
/* Room for `length` bytes, at most OUTPUT_BYTES; flushes if need be. */
CELLOS_MUST_CHECK int output_room(struct output *output, size_t length);

/* One read: bytes there, 0 at the end, -errno. */
CELLOS_MUST_CHECK long input_read(int fd, void *bytes, size_t length);

struct line_reader {
	int fd;
	bool ended;
	size_t from, to;               /* bytes in data not handed out yet */
	unsigned long number;          /* of the line handed out last, from 1 */
	char data[LINE_MAX_BYTES + 2]; /* the newline and a NUL with it */
};

/* True when the next call needs no read: a whole line is there. */
bool line_reader_ready(const struct line_reader *reader);
/*
 * The next line without its newline, NUL behind it; the caller's to change, until the next call.
 * 1, 0 at the end, -EMSGSIZE for a line of more than LINE_MAX_BYTES (it is skipped, and the next
 * call gives the next line), or the -errno of a read.
 */
CELLOS_MUST_CHECK int line_reader_next(struct line_reader *reader, char **line, size_t *length);

#endif
