/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See taskstats.h. */
#include "taskstats.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#define HEADERS (NLMSG_HDRLEN + GENL_HDRLEN)
#define MAX_TRIES 4096u /* messages in a row that are not the answer */
#define HIGHEST_CPU 8191u

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

/* ---- one message ---------------------------------------------------------------------------- */

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

/* ---- requests ------------------------------------------------------------------------------- */

static int request(struct exit_listener *l, uint16_t type, uint8_t command, uint16_t attribute,
		   const void *value, size_t len)
{
	uint8_t message[HEADERS + NLA_HDRLEN + 256] = {0};
	struct nlmsghdr head = {.nlmsg_len = (uint32_t)(HEADERS + NLA_HDRLEN + NLA_ALIGN(len)),
				.nlmsg_type = type,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK};
	struct genlmsghdr generic = {.cmd = command, .version = 1};
	struct nlattr attr = {.nla_len = (uint16_t)(NLA_HDRLEN + len), .nla_type = attribute};

	if (len > 256)
		return -EMSGSIZE;
	memcpy(message, &head, sizeof(head));
	memcpy(message + NLMSG_HDRLEN, &generic, sizeof(generic));
	memcpy(message + HEADERS, &attr, sizeof(attr));
	memcpy(message + HEADERS + NLA_HDRLEN, value, len);
	return netlink_send(&l->socket, message, head.nlmsg_len);
}

/* Until the kernel has acknowledged a request: 0, or its -errno. What of type `type` comes before
   is copied to `answer`. */
static int await_ack(struct exit_listener *l, uint16_t type, void *answer, size_t *answer_len)
{
	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		int got = netlink_await(&l->socket, l->buffer, sizeof(l->buffer));
		struct nlmsghdr head = {0};
		int32_t error;

		if (got == -EPERM || got == -ENOBUFS)
			continue; /* not the kernel's, or an exit of no interest yet */
		if (got < 0)
			return got;
		if ((size_t)got >= sizeof(head) + sizeof(error))
			memcpy(&head, l->buffer, sizeof(head));
		if (head.nlmsg_type == NLMSG_ERROR) {
			memcpy(&error, (const uint8_t *)l->buffer + sizeof(head), sizeof(error));
			return error;
		}
		if (answer != NULL && head.nlmsg_type == type) {
			memcpy(answer, l->buffer, (size_t)got);
			*answer_len = (size_t)got;
		}
	}
	return -ETIMEDOUT;
}

static int find_family(struct exit_listener *l)
{
	uint64_t answer[EXIT_MESSAGE_BYTES / sizeof(uint64_t)];
	size_t len = 0;
	struct piece id;
	int result = request(l, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME,
			     TASKSTATS_GENL_NAME, sizeof(TASKSTATS_GENL_NAME));

	if (result == 0)
		result = await_ack(l, GENL_ID_CTRL, answer, &len);
	if (result < 0)
		return result;
	id = find(open_message(answer, len, GENL_ID_CTRL), CTRL_ATTR_FAMILY_ID);
	if (id.len < sizeof(l->layout.family))
		return -EPROTO;
	memcpy(&l->layout.family, id.bytes, sizeof(l->layout.family));
	return 0;
}

/* Asks for our own record, and looks which layout shows us. */
static int find_layout(struct exit_listener *l)
{
	static const uint16_t shifts[] = {0, 8, 16};
	uint64_t answer[EXIT_MESSAGE_BYTES / sizeof(uint64_t)];
	uint32_t self = (uint32_t)getpid();
	struct process_exit record;
	char name[16] = "";
	size_t len = 0;
	int result = request(l, l->layout.family, TASKSTATS_CMD_GET, TASKSTATS_CMD_ATTR_PID, &self,
			     sizeof(self));

	if (result == 0)
		result = await_ack(l, l->layout.family, answer, &len);
	if (result < 0)
		return result;
	(void)prctl(PR_GET_NAME, name);
	for (size_t at = 0; at < sizeof(shifts) / sizeof(shifts[0]); at++) {
		l->layout.shift = shifts[at];
		if (exit_record_parse(answer, len, l->layout, &record) == 0 && record.pid == self &&
		    (!record.knows_group || record.tgid == self) &&
		    memcmp(record.comm, name, sizeof(name)) == 0)
			return 0;
	}
	return -EPROTO;
}

static int register_cpus(struct exit_listener *l, const char *list)
{
	int result = request(l, l->layout.family, TASKSTATS_CMD_GET,
			     TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, list, strlen(list) + 1);

	return result == 0 ? await_ack(l, 0, NULL, NULL) : result;
}

/* Every CPU that there may be. The kernel takes no other, so without sysfs the highest is searched
   for; what is registered on the way there stays. */
static int register_all(struct exit_listener *l)
{
	uint32_t low = 0, high = HIGHEST_CPU;
	int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC);
	char list[128];
	ssize_t len = fd >= 0 ? read(fd, list, sizeof(list) - 1) : -1;
	int result;

	if (fd >= 0)
		close(fd);
	if (len > 0) {
		list[len] = '\0';
		list[strcspn(list, "\n")] = '\0';
		result = register_cpus(l, list);
		if (result != -EINVAL)
			return result;
	}
	result = register_cpus(l, "0");
	while (result == 0 && low < high) {
		uint32_t middle = (low + high + 1) / 2;

		(void)snprintf(list, sizeof(list), "0-%u", middle);
		if (register_cpus(l, list) == 0)
			low = middle;
		else
			high = middle - 1;
	}
	return result;
}

int exit_listener_open(struct exit_listener *l, uint32_t buffer, const char **why)
{
	int result;

	l->first = l->past_last = 0;
	*why = "no generic netlink";
	result = netlink_open(&l->socket, NETLINK_GENERIC, 0, buffer);
	if (result < 0)
		return result;
	*why = "no taskstats";
	result = find_family(l);
	if (result == 0) {
		*why = "taskstats does not answer";
		result = find_layout(l);
	}
	if (result == 0) {
		*why = "taskstats takes no listener";
		result = register_all(l);
	}
	if (result < 0)
		exit_listener_close(l);
	return result;
}

void exit_listener_close(struct exit_listener *l)
{
	netlink_close(&l->socket);
}

/* ---- the ring ------------------------------------------------------------------------------- */

/* One more record, over the oldest when the ring is full; false when the kernel has none. */
static bool pull(struct exit_listener *l)
{
	struct process_exit record;
	int got;

	do {
		got = netlink_receive(&l->socket, l->buffer, sizeof(l->buffer));
		l->forged += got == -EPERM;
	} while (got == -EPERM || got == -ENOBUFS);
	if (got < 0)
		return false;
	if (exit_record_parse(l->buffer, (size_t)got, l->layout, &record) < 0) {
		l->malformed++;
		return true;
	}
	if (l->past_last - l->first == EXIT_RING)
		l->first++;
	l->ring[l->past_last++ % EXIT_RING] = record;
	return true;
}

bool exit_listener_take(struct exit_listener *l, uint32_t pid, struct process_exit *out)
{
	uint32_t at = l->first;

	if (l->socket.fd < 0)
		return false;
	for (;;) {
		for (; at != l->past_last; at++) {
			struct process_exit *record = &l->ring[at % EXIT_RING];

			if (record->pid != pid)
				continue;
			*out = *record;
			record->pid = 0;
			while (l->first != l->past_last && l->ring[l->first % EXIT_RING].pid == 0)
				l->first++;
			return true;
		}
		if (!pull(l))
			return false;
	}
}

void exit_listener_forget(struct exit_listener *l)
{
	l->first = l->past_last;
}
