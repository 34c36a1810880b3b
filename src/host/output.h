/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The output: whole JSON lines in a buffer of fixed size, written without ever blocking where the
 * kernel allows it.
 *
 * One thread. Whoever adds lines asks first whether there is room (host_output_has_room). An error
 * is final: `error` keeps it, and nothing is written any more; but for a full disk, which may have
 * room again.
 */
#ifndef CELLOS_HOST_OUTPUT_H
#define CELLOS_HOST_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos_json_line.h"

#define HOST_READ_BYTES (64u * 1024u)
/*
 * What one frame, or one cell's tick or end, can lead to, in lines: an event or five reports; all
 * kinds of bad frames, what else is told as totals, the end of a connection, the ledger.
 */
#define HOST_OUTPUT_LINES 40u
/* Frames are taken only while this much is free. A cell whose lines are longer is not taken on. */
#define HOST_OUTPUT_ROOM_BYTES (1024u * 1024u)
/* Once this much is there it is worth a system call. */
#define HOST_OUTPUT_FLUSH_BYTES (64u * 1024u)
/* What is left for lines that wait: little, because whoever comes next waits behind them. */
#define HOST_OUTPUT_BYTES (HOST_OUTPUT_ROOM_BYTES + 256u * 1024u)

struct host_output {
	int fd; /* owned, or 1 */
	bool own_fd;
	bool is_socket;
	int error;        /* errno of the write that failed; 0: none */
	const char *name; /* borrowed: for messages */
	int watch_fd;     /* owned; -1 until asked for */
	struct cellos_json_line line;
	size_t written; /* so many bytes of the line are out already */
	char *memory;   /* owned, HOST_OUTPUT_BYTES */
};

/* `path` NULL: standard output. 0 or -errno; the struct needs destroy either way. */
CELLOS_MUST_CHECK int host_output_init(struct host_output *output, const char *path);
/* The buffer alone: somebody else empties it. */
CELLOS_MUST_CHECK int host_output_init_buffer(struct host_output *output);
void host_output_destroy(struct host_output *output);

bool host_output_has_room(const struct host_output *output);
/* Bytes that wait to be written. */
static inline size_t host_output_pending(const struct host_output *output)
{
	return output->line.length - output->written;
}
/* Forgets them: somebody else has them, or nobody ever will. */
void host_output_drop(struct host_output *output);
/*
 * A descriptor, owned by the output, that polls readable while the output can be written; -errno.
 * An event loop may set O_NONBLOCK on it, which it must not on a description shared with others.
 */
CELLOS_MUST_CHECK int host_output_watch(struct host_output *output);
/*
 * Writes as much as goes. 0: all is out; -EAGAIN: wait until it can be written; -ENOSPC, -EDQUOT:
 * the disk is full, try again later; else final.
 */
CELLOS_MUST_CHECK int host_output_flush(struct host_output *output);
/* The same, and waits up to `limit_ms` for a slow reader: -ETIMEDOUT then. */
CELLOS_MUST_CHECK int host_output_finish(struct host_output *output, unsigned limit_ms);

#endif
