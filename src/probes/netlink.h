/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A netlink socket that takes messages from the kernel alone and knows how many it has lost.
 *
 * Threads: one at a time. Invariants: the descriptor is owned, close-on-exec, and -1 when there is
 * none; nothing ever waits in it. Refuses to: hand out what another process has sent.
 */
#ifndef CELLOS_NETLINK_H
#define CELLOS_NETLINK_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

struct netlink_socket {
	int fd;
	uint32_t drops;  /* the kernel's counter when we last looked */
	uint64_t buffer; /* bytes that the kernel may hold for us */
};

/* `buffer` is what the kernel shall hold, half of it when it will not give more than its limit. 0,
   or -errno and fd -1. */
CELLOS_MUST_CHECK int netlink_open(struct netlink_socket *socket, int protocol, uint32_t groups,
				   uint32_t buffer);
void netlink_close(struct netlink_socket *socket);
CELLOS_MUST_CHECK int netlink_send(const struct netlink_socket *socket, const void *message,
				   size_t len);
/* One message, whole or its beginning: its length in the buffer; -EAGAIN: there is none; -EPERM:
   one was there and not the kernel's; -ENOBUFS: some were lost. */
CELLOS_MUST_CHECK int netlink_receive(const struct netlink_socket *socket, void *buffer,
				      size_t size);
/* Waits for one, 5 s at most, for a guest may be slow: -ETIMEDOUT then. For the life before the
   probe's thread. */
CELLOS_MUST_CHECK int netlink_await(const struct netlink_socket *socket, void *buffer, size_t size);
/* How many messages the kernel has dropped since the last call. */
uint64_t netlink_lost(struct netlink_socket *socket);

#endif
