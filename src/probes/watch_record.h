/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One record of fanotify (of a group opened with FAN_REPORT_FID | FAN_REPORT_DFID_NAME) or of
 * inotify: pure functions from a buffer to the same struct.
 *
 * An inode is a number here: inotify's own for its watch, or a digest of what fanotify names it by,
 * which is the file system's id and the file handle, just as the kernel lays them out; one bit
 * keeps the two apart. Two inodes with one digest are not to be expected, and cost no more than an
 * event that nobody asked for.
 *
 * Threads: any, no state. Invariants: nothing outside [buffer, buffer + len) is read; the name lies
 * within; *out is written only on success.
 * Refuses to: guess. A record that is cut, or not of the kernel's making, is -EINVAL.
 */
#ifndef CELLOS_WATCH_RECORD_H
#define CELLOS_WATCH_RECORD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cellos/export.h"

struct watch_record {
	uint64_t dir;     /* where the name stands, or a directory itself; inotify's only one */
	uint64_t self;    /* what has changed, unless a directory; 0: not told, here and above */
	const char *name; /* in dir; terminated, never NULL */
	uint32_t mask;    /* of IN_ bits; fanotify's are the same */
	uint32_t pid;     /* a thread group; 0: the kernel does not tell */
};

/* The bytes that the record takes (> 0), or -EINVAL: where the next one begins is not known. */
CELLOS_MUST_CHECK ssize_t watch_record_fanotify(const uint8_t *buffer, size_t len,
						struct watch_record *out);
CELLOS_MUST_CHECK ssize_t watch_record_inotify(const uint8_t *buffer, size_t len,
					       struct watch_record *out);

/* What fanotify names an inode by, as one number: file system, handle's head, handle. */
#define WATCH_ID_HEAD_BYTES 16u
uint64_t watch_record_inode(const void *id, size_t len);

/* Whether an inode is fanotify's; else inotify's, or none. */
#define WATCH_DIGEST (1ull << 63)
#define watch_record_is_digest(inode) (((inode)&WATCH_DIGEST) != 0)

#endif
