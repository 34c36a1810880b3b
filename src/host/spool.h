/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The spool: a ring of bytes in a file of fixed size, allocated when it is opened and mapped, so
 * that a full disk is found at the start and never in the midst of a run.
 *
 * It holds routed lines, "<id> <subject> <json>\n", in the order in which they were made. Positions
 * are counts of bytes since the spool was made; the state file keeps two of them, its end (moved
 * by a commit) and what is acknowledged. Bytes behind the committed end were never published and
 * are overwritten after a crash.
 *
 * One thread appends, another reads between the acknowledged and the committed position. A file
 * belongs to one process at a time (flock): two would write over each other's lines.
 */
#ifndef CELLOS_HOST_SPOOL_H
#define CELLOS_HOST_SPOOL_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

struct host_spool {
	int fd;       /* owned */
	char *memory; /* mapped, `bytes` */
	uint64_t bytes;
};

/*
 * `bytes`: rounded up to whole pages. An existing file keeps its size unless it is empty. 1 when
 * the file was made or empty, so that whatever the state says of it is gone; 0 when it was there;
 * -EWOULDBLOCK: another process has it; -EPROTO: it is no spool (not whole pages, not a file); else
 * -errno. Nothing is left open then.
 */
CELLOS_MUST_CHECK int host_spool_open(struct host_spool *spool, const char *path, uint64_t bytes);
void host_spool_close(struct host_spool *spool);
/* Copies behind `end`; the caller commits end + length. -ENOSPC when it would overwrite `acked`. */
CELLOS_MUST_CHECK int host_spool_append(struct host_spool *spool, uint64_t acked, uint64_t end,
					const char *bytes, size_t length);
/* Copies at most `size` bytes from `position` on, never beyond `end`; how many. */
size_t host_spool_read(const struct host_spool *spool, uint64_t position, uint64_t end, char *out,
		       size_t size);

#endif
