/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See connector.h. */
#include "connector.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>

/* Only what connector_parse knows; the load is big-endian whatever the machine. */
static int set_filter(const struct netlink_socket *s)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, CONNECTOR_EVENT_AT),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(PROC_EVENT_FORK), 4, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(PROC_EVENT_EXEC), 3, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(PROC_EVENT_EXIT), 2, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, htonl(PROC_EVENT_NONE), 1, 0),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};

	return setsockopt(s->fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) < 0
		       ? -errno
		       : 0;
}

int connector_open(struct netlink_socket *s, uint32_t buffer)
{
	int result = netlink_open(s, NETLINK_CONNECTOR, CN_IDX_PROC, buffer);

	if (result == 0) {
		result = set_filter(s);
		if (result < 0)
			netlink_close(s);
	}
	return result;
}

static int control(const struct netlink_socket *s, uint32_t operation, uint32_t ack)
{
	struct nlmsghdr header = {.nlmsg_len = CONNECTOR_EVENT_AT + sizeof(operation),
				  .nlmsg_type = NLMSG_DONE};
	struct cn_msg packet = {.id = {.idx = CN_IDX_PROC, .val = CN_VAL_PROC},
				.ack = ack,
				.len = sizeof(operation)};
	uint8_t message[CONNECTOR_EVENT_AT + sizeof(operation)];

	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), &packet, sizeof(packet));
	memcpy(message + CONNECTOR_EVENT_AT, &operation, sizeof(operation));
	return netlink_send(s, message, sizeof(message));
}

int connector_listen(const struct netlink_socket *s, uint32_t ack)
{
	return control(s, PROC_CN_MCAST_LISTEN, ack);
}

int connector_ignore(const struct netlink_socket *s, uint32_t ack)
{
	return control(s, PROC_CN_MCAST_IGNORE, ack);
}
