/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel says of processes, from bytes to numbers: the connector's messages of forks,
 * execs and exits, and the exit listener's (taskstats) records of every task that exits.
 *
 * Threads: any; pure functions. Refuses to: read outside the message, or make anything of one that
 * is cut or lies.
 */
#include "process.h"

#include <errno.h>
#include <linux/connector.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <string.h>

#include "cellos/event.h"

_Static_assert(sizeof(struct nlmsghdr) + sizeof(struct cn_msg) == CONNECTOR_EVENT_AT,
	       "where the socket's filter looks");

int connector_parse(const void *message, size_t len, struct proc_event *out, uint32_t *ack)
{
	struct cn_msg packet;

	if (len < CONNECTOR_EVENT_AT + sizeof(*out))
		return -EINVAL;
	memcpy(&packet, (const uint8_t *)message + sizeof(struct nlmsghdr), sizeof(packet));
	if (packet.id.idx != CN_IDX_PROC || packet.id.val != CN_VAL_PROC ||
	    packet.len != sizeof(*out))
		return -EINVAL;
	memcpy(out, (const uint8_t *)message + CONNECTOR_EVENT_AT, sizeof(*out));
	*ack = packet.ack - 1; /* the kernel adds one */
	return 0;
}

/* ---- exit listener -------------------------------------------------------------------------- */

/* ac_flag of linux/acct.h; whoever is the last of a group is told from a version on. */
#define NEVER_EXECED 0x01u
#define LAST_OF_GROUP 0x20u
#define VERSION_WITH_GROUP 12u

struct piece {
	const uint8_t *bytes;
	size_t len;
};

/* 0 past the end. */
static uint32_t number_at(struct piece in, size_t at)
{
	uint32_t number = 0;

	if (at + sizeof(number) <= in.len)
		memcpy(&number, in.bytes + at, sizeof(number));
	return number;
}

/* The first attribute of a type; empty when there is none, or it is cut. */
static struct piece find(struct piece in, uint16_t type)
{
	struct nlattr head;

	for (size_t at = 0; at + sizeof(head) <= in.len; at += NLA_ALIGN(head.nla_len)) {
		memcpy(&head, in.bytes + at, sizeof(head));
		if (head.nla_len < sizeof(head) || head.nla_len > in.len - at)
			break;
		if ((head.nla_type & NLA_TYPE_MASK) == type)
			return (struct piece){in.bytes + at + sizeof(head),
					      head.nla_len - sizeof(head)};
	}
	return (struct piece){NULL, 0};
}

/* The attributes of a message of that type, as far as it was received. */
static struct piece open_message(const void *message, size_t len, uint16_t type)
{
	const size_t headers = NLMSG_HDRLEN + GENL_HDRLEN;
	uint32_t found =
		number_at((struct piece){message, len}, offsetof(struct nlmsghdr, nlmsg_type));

	if (len < headers || (uint16_t)found != type)
		return (struct piece){NULL, 0};
	return (struct piece){(const uint8_t *)message + headers, len - headers};
}

int exit_record_parse(const void *message, size_t len, uint16_t family, struct exit_record *out)
{
	struct piece task = find(open_message(message, len, family), TASKSTATS_TYPE_AGGR_PID);
	struct piece stats = find(task, TASKSTATS_TYPE_STATS);
	struct exit_record found = {.pid = number_at(find(task, TASKSTATS_TYPE_PID), 0)};
	size_t shift = 0;
	const char *comm;
	uint8_t flags;

	/* Some kernels have one or two more numbers in each of the three groups of delays that
	   stand before the name. The pid, which is told beside the struct as well, shows which. */
	while (found.pid == 0 ||
	       number_at(stats, offsetof(struct taskstats, ac_pid) + shift) != found.pid)
		if ((shift += 3 * sizeof(uint64_t)) > 6 * sizeof(uint64_t))
			return -EINVAL;
	/* All of this stands before the pid. */
	flags = stats.bytes[offsetof(struct taskstats, ac_flag)];
	comm = (const char *)stats.bytes + offsetof(struct taskstats, ac_comm) + shift;
	found.comm_len = (uint8_t)strnlen(comm, CELLOS_RAW_COMM_MAX_BYTES);
	memcpy(found.comm, comm, found.comm_len);
	found.parent = number_at(stats, offsetof(struct taskstats, ac_ppid) + shift);
	found.never_execed = (flags & NEVER_EXECED) != 0;
	found.last =
		(uint16_t)number_at(stats, 0) >= VERSION_WITH_GROUP && (flags & LAST_OF_GROUP) != 0;
	*out = found;
	return 0;
}

int exit_family_parse(const void *message, size_t len, uint16_t *family)
{
	struct piece id = find(open_message(message, len, GENL_ID_CTRL), CTRL_ATTR_FAMILY_ID);

	if (id.len < sizeof(*family))
		return -EINVAL;
	memcpy(family, id.bytes, sizeof(*family));
	return 0;
}
