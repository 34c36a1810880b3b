/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The exit listener: what the kernel's task accounting (taskstats) says of every task that exits,
 * just before the connector says that it has. It settles names, and which exit is a process's last.
 *
 * Records wait in a fixed ring until the connector's message asks for them.
 *
 * Where a record's fields stand is tried on ourselves first: of the known layouts (one kernel moved
 * them) the one that shows our own pid and name is used, and without one there is no listener.
 *
 * Threads: one at a time; the two parsers any. Refuses to: read outside the message.
 */
#ifndef CELLOS_TASKSTATS_H
#define CELLOS_TASKSTATS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "netlink.h"
#include "process_track.h"

#define EXIT_RING 512u /* a power of two */
#define EXIT_MESSAGE_BYTES 2048

struct exit_layout {
	uint16_t family; /* of the messages */
	uint16_t shift;  /* by which each group of delays has grown */
};

struct exit_listener {
	struct netlink_socket socket; /* fd -1: no listener */
	struct exit_layout layout;
	uint32_t first; /* of the ring, modulo its size */
	uint32_t past_last;
	uint64_t forged;
	uint64_t malformed;
	struct process_exit ring[EXIT_RING]; /* pid 0: taken */
	uint64_t buffer[EXIT_MESSAGE_BYTES / sizeof(uint64_t)];
};

/* The record of one task. 0, or -EINVAL, and *out untouched. */
CELLOS_MUST_CHECK int exit_record_parse(const void *message, size_t len, struct exit_layout layout,
					struct process_exit *out);

/* The number that the kernel has given to the family. 0, or -EINVAL. */
CELLOS_MUST_CHECK int exit_family_parse(const void *message, size_t len, uint16_t *family);

/* 0, or -errno and `why` in a few static words; then there is no listener. */
CELLOS_MUST_CHECK int exit_listener_open(struct exit_listener *listener, uint32_t buffer,
					 const char **why);
void exit_listener_close(struct exit_listener *listener);
/* The record of this task's exit, which the kernel queued before the message of that; false: it was
   lost. */
bool exit_listener_take(struct exit_listener *listener, uint32_t pid, struct process_exit *out);
/* Drops records whose message never came. */
void exit_listener_forget(struct exit_listener *listener);

#endif
