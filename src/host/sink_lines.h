/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Routed lines, read out of the spool one after the other: "<id> <subject> <json>\n".
 *
 * One thread. Memory is one buffer. What is no such line is passed over and named as that, so that
 * a spool that somebody else wrote to cannot stop what comes behind.
 */
#ifndef CELLOS_HOST_SINK_LINES_H
#define CELLOS_HOST_SINK_LINES_H

#include <stddef.h>
#include <stdint.h>

#include "spool.h"

/* More than any line; a page of many. */
#define HOST_SINK_BUFFER_BYTES (256u * 1024u)

struct host_sink_line {
	uint64_t begin, end; /* positions in the spool, newline included */
	/* Texts within the reader's buffer, good until its next call. */
	const char *id;
	const char *subject;
	const char *cell; /* second token of the subject; cell_length bytes */
	size_t cell_length;
	const char *json;
	size_t json_length; /* without the newline */
};

struct host_sink_lines {
	const struct host_spool *spool;
	char *memory; /* owned; holds `length` bytes from position `at` on */
	uint64_t at;
	size_t length;
};

CELLOS_MUST_CHECK int host_sink_lines_init(struct host_sink_lines *lines,
					   const struct host_spool *spool);
void host_sink_lines_destroy(struct host_sink_lines *lines);
/* A position may be read twice only with this in between: texts are cut apart where they lie. */
void host_sink_lines_rewind(struct host_sink_lines *lines);
/*
 * The line at `position`, which is before `end`. 0; -EPROTO when what stands from line->begin to
 * line->end is none.
 */
CELLOS_MUST_CHECK int host_sink_lines_next(struct host_sink_lines *lines, uint64_t position,
					   uint64_t end, struct host_sink_line *line);

#endif
