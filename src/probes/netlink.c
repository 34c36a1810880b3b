/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See netlink.h. */
#include "netlink.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

int netlink_open(struct netlink_socket *s, int protocol, uint32_t groups, uint32_t buffer)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = groups};
	int size = (int)(buffer / 2), result; /* the kernel doubles it, socket(7) */
	socklen_t len = sizeof(size);

	*s = (struct netlink_socket){
		.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol)};
	if (s->fd < 0)
		return -errno;
	if (setsockopt(s->fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, len) < 0)
		(void)setsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &size, len);
	if (getsockopt(s->fd, SOL_SOCKET, SO_RCVBUF, &size, &len) == 0)
		s->buffer = (uint64_t)size;
	if (bind(s->fd, (struct sockaddr *)&address, sizeof(address)) == 0)
		return 0;
	result = -errno;
	netlink_close(s);
	return result;
}

void netlink_close(struct netlink_socket *s)
{
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct netlink_socket){.fd = -1};
}

int netlink_send(const struct netlink_socket *s, const void *message, size_t len)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};

	return sendto(s->fd, message, len, 0, (struct sockaddr *)&kernel, sizeof(kernel)) < 0
		       ? -errno
		       : 0;
}

int netlink_receive(const struct netlink_socket *s, void *buffer, size_t size)
{
	struct sockaddr_nl from = {0};
	socklen_t len = sizeof(from);
	ssize_t got;

	/* Never EINTR, for it never waits. */
	got = recvfrom(s->fd, buffer, size, MSG_DONTWAIT, (struct sockaddr *)&from, &len);
	if (got < 0)
		return -errno;
	return len == sizeof(from) && from.nl_pid == 0 ? (int)got : -EPERM;
}

int netlink_await(const struct netlink_socket *s, void *buffer, size_t size)
{
	struct pollfd waiting = {.fd = s->fd, .events = POLLIN};
	int ready;

	do
		ready = poll(&waiting, 1, 5000);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return ready == 0 ? -ETIMEDOUT : -errno;
	return netlink_receive(s, buffer, size);
}

uint64_t netlink_lost(struct netlink_socket *s)
{
	uint32_t info[SK_MEMINFO_VARS] = {0}, before = s->drops;
	socklen_t len = sizeof(info);

	if (s->fd < 0 || getsockopt(s->fd, SOL_SOCKET, SO_MEMINFO, info, &len) < 0 ||
	    len < (SK_MEMINFO_DROPS + 1) * sizeof(info[0]))
		return 0;
	s->drops = info[SK_MEMINFO_DROPS];
	return (uint32_t)(s->drops - before); /* a wrap does not matter */
}
