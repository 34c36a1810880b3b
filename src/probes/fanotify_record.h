/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One record of fanotify, as a group opened with FAN_REPORT_FID | FAN_REPORT_DFID_NAME writes it:
 * a pure function from a buffer to a struct.
 *
 * An inode is named by a string of bytes: the file system's id and the file handle, just as the
 * kernel lays them out. Equal strings, equal inodes.
 *
 * Threads: any, no state. Invariants: nothing outside [buffer, buffer + len) is read; pointers in
 * the result point into it; *out is written only on success.
 * Refuses to: guess. A record that is cut, or not of the kernel's making, is -EINVAL.
 */
#ifndef CELLOS_FANOTIFY_RECORD_H
#define CELLOS_FANOTIFY_RECORD_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

/* fsid, the handle's head (two words), the handle. */
#define FANOTIFY_ID_HEAD_BYTES 16u
#define FANOTIFY_ID_MAX_BYTES (FANOTIFY_ID_HEAD_BYTES + 128u)

struct fanotify_id {
	const uint8_t *bytes;
	size_t len; /* 0: not told */
};

struct fanotify_record {
	uint64_t mask;
	uint32_t pid;            /* a thread group; 0: the kernel does not tell */
	struct fanotify_id dir;  /* where the name stands, or a directory itself */
	struct fanotify_id self; /* what has changed, unless a directory */
	const char *name;        /* in dir; "." for itself; terminated */
	size_t name_len;
};

/* The bytes that this record takes (> 0), or -EINVAL: where the next one begins is not known. */
CELLOS_MUST_CHECK int fanotify_record_parse(const uint8_t *buffer, size_t len,
					    struct fanotify_record *out);

#endif
