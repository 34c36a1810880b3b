/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The process connector: the kernel's messages of forks, execs and exits, with its own time stamps.
 *
 * Threads: one at a time; connector_parse any. Invariants: a filter in the socket lets in what is
 * asked for alone (a storm of name changes costs nothing and drops nothing).
 * Refuses to: read outside the message, or make anything of one that is cut or unknown.
 */
#ifndef CELLOS_CONNECTOR_H
#define CELLOS_CONNECTOR_H

#include <stddef.h>
#include <stdint.h>

#include "netlink.h"

/* nlmsghdr, cn_msg, and then the proc_event: `what` first. */
#define CONNECTOR_EVENT_AT 36u

enum connector_what { CONNECTOR_ACK = 0, CONNECTOR_FORK, CONNECTOR_EXEC, CONNECTOR_EXIT };

struct connector_event {
	enum connector_what what;
	uint32_t pid; /* of the thread: the child of a fork, whoever execs or exits */
	uint32_t tgid;
	uint32_t parent; /* FORK: the parent's tgid */
	uint32_t ack;    /* ACK: the number given to connector_listen */
	uint32_t error;  /* ACK: errno, or 0 */
	uint64_t ns;     /* CLOCK_MONOTONIC */
};

/* One message. 0, or -EINVAL, and *out untouched. */
CELLOS_MUST_CHECK int connector_parse(const void *message, size_t len, struct connector_event *out);

/* 0, or -errno. Nothing comes before connector_listen. */
CELLOS_MUST_CHECK int connector_open(struct netlink_socket *socket, uint32_t buffer);
/* Asks the kernel to send, or not; it answers with an ACK, unless nobody listens any more. */
CELLOS_MUST_CHECK int connector_listen(const struct netlink_socket *socket, uint32_t ack);
CELLOS_MUST_CHECK int connector_ignore(const struct netlink_socket *socket, uint32_t ack);

#endif
