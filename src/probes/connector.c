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

/* nlmsghdr, cn_msg, proc_event: `what` and what follows it. */
#define EVENT_AT (sizeof(struct nlmsghdr) + sizeof(struct cn_msg))
_Static_assert(EVENT_AT == 36, "the filter's offset");

/* The number at `offset` of a proc_event, or 0 past the end of the message. */
static uint32_t number_at(const uint8_t *message, size_t len, size_t offset)
{
	uint32_t number = 0;

	if (EVENT_AT + offset + sizeof(number) <= len)
		memcpy(&number, message + EVENT_AT + offset, sizeof(number));
	return number;
}

#define NUMBER(member) number_at(message, len, offsetof(struct proc_event, event_data.member))

/* Pids of a message that says `what`; -EINVAL for none that we know. */
static int take_data(const uint8_t *message, size_t len, struct connector_event *event)
{
	switch (number_at(message, len, 0)) {
	case PROC_EVENT_NONE:
		event->what = CONNECTOR_ACK;
		event->error = NUMBER(ack.err);
		return 0;
	case PROC_EVENT_FORK:
		event->what = CONNECTOR_FORK;
		event->parent = NUMBER(fork.parent_tgid);
		event->pid = NUMBER(fork.child_pid);
		event->tgid = NUMBER(fork.child_tgid);
		return 0;
	case PROC_EVENT_EXEC:
		event->what = CONNECTOR_EXEC;
		event->pid = NUMBER(exec.process_pid);
		event->tgid = NUMBER(exec.process_tgid);
		return 0;
	case PROC_EVENT_EXIT:
		event->what = CONNECTOR_EXIT;
		event->pid = NUMBER(exit.process_pid);
		event->tgid = NUMBER(exit.process_tgid);
		return 0;
	default:
		return -EINVAL;
	}
}

int connector_parse(const void *message, size_t len, struct connector_event *out)
{
	struct connector_event event = {0};
	struct nlmsghdr header;
	struct cn_msg packet;

	/* The kernel always sends a whole proc_event, whose tail older ones leave unused. */
	if (len < EVENT_AT + offsetof(struct proc_event, event_data.fork.child_tgid) + 4)
		return -EINVAL;
	memcpy(&header, message, sizeof(header));
	memcpy(&packet, (const uint8_t *)message + sizeof(header), sizeof(packet));
	if (header.nlmsg_len > len || packet.id.idx != CN_IDX_PROC ||
	    packet.id.val != CN_VAL_PROC || EVENT_AT + packet.len > len ||
	    packet.len < offsetof(struct proc_event, event_data.fork.child_tgid) + 4)
		return -EINVAL;
	if (take_data(message, len, &event) < 0)
		return -EINVAL;
	memcpy(&event.ns,
	       (const uint8_t *)message + EVENT_AT + offsetof(struct proc_event, timestamp_ns),
	       sizeof(event.ns));
	event.ack = packet.ack - 1; /* the kernel adds one */
	*out = event;
	return 0;
}

/* Only what connector_parse knows; the load is big-endian whatever the machine. */
static int set_filter(const struct netlink_socket *s)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, EVENT_AT),
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
	struct nlmsghdr header = {.nlmsg_len = EVENT_AT + sizeof(operation),
				  .nlmsg_type = NLMSG_DONE};
	struct cn_msg packet = {.id = {.idx = CN_IDX_PROC, .val = CN_VAL_PROC},
				.ack = ack,
				.len = sizeof(operation)};
	uint8_t message[EVENT_AT + sizeof(operation)];

	memcpy(message, &header, sizeof(header));
	memcpy(message + sizeof(header), &packet, sizeof(packet));
	memcpy(message + EVENT_AT, &operation, sizeof(operation));
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
