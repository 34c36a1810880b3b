/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The messages of taskstats.h, from bytes to numbers: pure functions. */
#include "taskstats.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <string.h>

#define HEADERS (NLMSG_HDRLEN + GENL_HDRLEN)

/* ac_flag of linux/acct.h */
#define NEVER_EXECED 0x01u
#define LAST_OF_GROUP 0x20u
#define VERSION_WITH_GROUP 12u

/* Of struct taskstats. Before the name stand three groups of delays, before the tgid six. */
enum { AT_FLAG = 8, AT_COMM = 80, AT_PID = 128, AT_PPID = 132, AT_TGID = 368 };
enum { GROUPS_TO_COMM = 3, GROUPS_TO_TGID = 6 };
_Static_assert(offsetof(struct taskstats, ac_flag) == AT_FLAG &&
		       offsetof(struct taskstats, ac_comm) == AT_COMM &&
		       offsetof(struct taskstats, ac_pid) == AT_PID &&
		       offsetof(struct taskstats, ac_ppid) == AT_PPID,
	       "the layout that all versions but one have");

struct piece {
	const uint8_t *bytes;
	size_t len;
};

/* The first attribute of a type; bytes NULL when there is none, or it is cut. */
static struct piece find(struct piece in, uint16_t type)
{
	while (in.len >= NLA_HDRLEN) {
		struct nlattr head;
		size_t step;

		memcpy(&head, in.bytes, sizeof(head));
		if (head.nla_len < NLA_HDRLEN || head.nla_len > in.len)
			break;
		if ((head.nla_type & NLA_TYPE_MASK) == type)
			return (struct piece){in.bytes + NLA_HDRLEN, head.nla_len - NLA_HDRLEN};
		step = NLA_ALIGN(head.nla_len);
		if (step > in.len)
			break;
		in.bytes += step;
		in.len -= step;
	}
	return (struct piece){NULL, 0};
}

/* The attributes of a message of that type, as far as it was received. */
static struct piece open_message(const void *message, size_t len, uint16_t type)
{
	struct nlmsghdr head;

	if (len < HEADERS)
		return (struct piece){NULL, 0};
	memcpy(&head, message, sizeof(head));
	if (head.nlmsg_type != type || head.nlmsg_len < HEADERS)
		return (struct piece){NULL, 0};
	if (head.nlmsg_len < len)
		len = head.nlmsg_len;
	return (struct piece){(const uint8_t *)message + HEADERS, len - HEADERS};
}

static uint32_t number(struct piece in, size_t at)
{
	uint32_t value;

	memcpy(&value, in.bytes + at, sizeof(value));
	return value;
}

int exit_record_parse(const void *message, size_t len, struct exit_layout layout,
		      struct process_exit *out)
{
	struct piece stats =
		find(find(open_message(message, len, layout.family), TASKSTATS_TYPE_AGGR_PID),
		     TASKSTATS_TYPE_STATS);
	size_t early = (size_t)GROUPS_TO_COMM * layout.shift;
	size_t tgid = AT_TGID + (size_t)GROUPS_TO_TGID * layout.shift;
	struct process_exit found = {0};
	const char *comm;
	uint16_t version;

	if (stats.len < AT_PPID + early + sizeof(uint32_t))
		return -EINVAL;
	memcpy(&version, stats.bytes, sizeof(version));
	comm = (const char *)stats.bytes + AT_COMM + early;
	found.comm_len = (uint8_t)strnlen(comm, CELLOS_RAW_COMM_MAX_BYTES);
	memcpy(found.comm, comm, found.comm_len);
	found.pid = number(stats, AT_PID + early);
	found.parent = number(stats, AT_PPID + early);
	found.never_execed = (stats.bytes[AT_FLAG] & NEVER_EXECED) != 0;
	if (version >= VERSION_WITH_GROUP && stats.len >= tgid + sizeof(uint32_t)) {
		found.knows_group = true;
		found.tgid = number(stats, tgid);
		found.group_dead = (stats.bytes[AT_FLAG] & LAST_OF_GROUP) != 0;
	}
	if (found.pid == 0)
		return -EINVAL;
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
