/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel says of processes, from bytes to numbers: the connector's messages of forks,
 * execs and exits, and the exit listener's (taskstats) records of every task that exits. Pure
 * functions.
 *
 * Threads: any. Invariant: *out is written only on success. Refuses to: read outside the message,
 * or make anything of one that is cut or lies.
 */
#ifndef CELLOS_PROCESS_MESSAGE_H
#define CELLOS_PROCESS_MESSAGE_H

#include <linux/cn_proc.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

/* nlmsghdr, cn_msg, and then the proc_event: `what` first. */
#define CONNECTOR_EVENT_AT 36u

/* What the exit listener says of one task. */
struct exit_record {
	uint32_t pid;
	uint32_t parent;
	bool knows_group; /* `last` is told */
	bool last;        /* of its thread group */
	bool never_execed;
	uint8_t comm_len;
	char comm[16];
};

/* `ack` is the number given with the question that this answers. 0, or -EINVAL. */
CELLOS_MUST_CHECK int connector_parse(const void *message, size_t len, struct proc_event *out,
				      uint32_t *ack);
/* The record of one task, in a message of the type `family`. 0, or -EINVAL. */
CELLOS_MUST_CHECK int exit_record_parse(const void *message, size_t len, uint16_t family,
					struct exit_record *out);
/* The number that the kernel has given to the family. 0, or -EINVAL. */
CELLOS_MUST_CHECK int exit_family_parse(const void *message, size_t len, uint16_t *family);

#endif
