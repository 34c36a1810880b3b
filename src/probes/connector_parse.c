/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The messages of connector.h, from bytes to numbers: pure functions. */
#include "connector.h"

#include <errno.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <string.h>

_Static_assert(sizeof(struct nlmsghdr) + sizeof(struct cn_msg) == CONNECTOR_EVENT_AT,
	       "where the filter looks");

/* The number at `offset` of a proc_event, or 0 past the end of the message. */
static uint32_t number_at(const uint8_t *message, size_t len, size_t offset)
{
	uint32_t number = 0;

	if (CONNECTOR_EVENT_AT + offset + sizeof(number) <= len)
		memcpy(&number, message + CONNECTOR_EVENT_AT + offset, sizeof(number));
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
	if (len < CONNECTOR_EVENT_AT + offsetof(struct proc_event, event_data.fork.child_tgid) + 4)
		return -EINVAL;
	memcpy(&header, message, sizeof(header));
	memcpy(&packet, (const uint8_t *)message + sizeof(header), sizeof(packet));
	if (header.nlmsg_len > len || packet.id.idx != CN_IDX_PROC ||
	    packet.id.val != CN_VAL_PROC || CONNECTOR_EVENT_AT + packet.len > len ||
	    packet.len < offsetof(struct proc_event, event_data.fork.child_tgid) + 4)
		return -EINVAL;
	if (take_data(message, len, &event) < 0)
		return -EINVAL;
	memcpy(&event.ns,
	       (const uint8_t *)message + CONNECTOR_EVENT_AT +
		       offsetof(struct proc_event, timestamp_ns),
	       sizeof(event.ns));
	event.ack = packet.ack - 1; /* the kernel adds one */
	*out = event;
	return 0;
}
