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
	int result = request(l, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME,
			     TASKSTATS_GENL_NAME, sizeof(TASKSTATS_GENL_NAME));

	if (result == 0)
		result = await_ack(l, GENL_ID_CTRL, answer, &len);
	return result == 0 ? exit_family_parse(answer, len, &l->layout.family) : result;
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
