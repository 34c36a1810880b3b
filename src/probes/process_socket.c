/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The two sockets that the kernel tells of processes by: the connector says who forks, execs and
 * exits, with its own time stamps; the exit listener (taskstats) says of every task that exits,
 * just before the connector does, under which name and whether it was the last of its group.
 *
 * Threads: one at a time. Invariants: a filter in the connector's socket lets in what is asked for
 * alone (a storm of name changes costs nothing and drops nothing); records wait in a fixed ring.
 * Refuses to: take a message that is not the kernel's; those are counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "probe_util.h"
#include "process.h"

/* What the kernel may hold for each socket: some 2500 messages, or 1600 records of exits. */
#define SOCKET_BYTES (2u * 1024 * 1024)
#define MAX_TRIES 4096u /* messages in a row that are not the answer */
#define HIGHEST_CPU 8191
#define CPU_LIST_BYTES 128

/* ---- connector ------------------------------------------------------------------------------ */

int process_connector_ask(struct process_state *state, uint32_t operation)
{
	struct {
		struct nlmsghdr header;
		struct cn_msg packet;
	} head = {.header = {.nlmsg_len = CONNECTOR_EVENT_AT + sizeof(operation),
			     .nlmsg_type = NLMSG_DONE},
		  .packet = {.id = {.idx = CN_IDX_PROC, .val = CN_VAL_PROC},
			     .ack = ++state->asked,
			     .len = sizeof(operation)}};
	uint8_t message[CONNECTOR_EVENT_AT + sizeof(operation)];

	memcpy(message, &head, CONNECTOR_EVENT_AT);
	memcpy(message + CONNECTOR_EVENT_AT, &operation, sizeof(operation));
	return netlink_send(&state->connector, message, sizeof(message));
}

static int await_answer(struct process_state *state)
{
	struct proc_event event;
	uint32_t ack;

	for (unsigned tries = 0; tries < MAX_TRIES; tries++) {
		int got = netlink_await(&state->connector, state->buffer, sizeof(state->buffer));

		if (got < 0 && got != -EPERM && got != -ENOBUFS)
			return got;
		if (got > 0 && connector_parse(state->buffer, (size_t)got, &event, &ack) == 0 &&
		    event.what == PROC_EVENT_NONE && ack == state->asked)
			return -(int)event.event_data.ack.err;
	}
	return -ETIMEDOUT;
}

int process_connector_open(struct process_state *state)
{
	/* Only what is asked for below; the load is big-endian whatever the machine. */
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
	int result = netlink_open(&state->connector, NETLINK_CONNECTOR, CN_IDX_PROC, SOCKET_BYTES);

	state->asked = state->env->agent_pid << 8; /* unlike another listener's */
	if (result == 0 && setsockopt(state->connector.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
				      sizeof(program)) < 0)
		result = -errno;
	if (result == 0)
		result = process_connector_ask(state, PROC_CN_MCAST_LISTEN);
	if (result == 0)
		result = await_answer(state);
	if (result < 0)
		netlink_close(&state->connector);
	return result;
}

int process_receive(struct process_state *state, const struct netlink_socket *socket)
{
	for (;;) {
		int got = netlink_receive(socket, state->buffer, sizeof(state->buffer));

		if (got == -EPERM)
			cellos_probe_stat_add(state->env, STAT_FORGED, 1);
		else if (got != -ENOBUFS) /* which netlink_lost will tell of */
			return got;
	}
}

/* ---- exit listener -------------------------------------------------------------------------- */

/* A request with one text, and what the kernel says to it: 0 or -errno. */
static int request(struct process_state *state, uint16_t type, uint8_t command, uint16_t attribute,
		   const char *text)
{
	size_t len = NLA_HDRLEN + strlen(text) + 1;
	struct {
		struct nlmsghdr head;
		struct genlmsghdr generic;
		struct nlattr attribute;
		char text[CPU_LIST_BYTES];
	} message = {.head = {.nlmsg_len = (uint32_t)(NLMSG_HDRLEN + GENL_HDRLEN + NLA_ALIGN(len)),
			      .nlmsg_type = type,
			      .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		     .generic = {.cmd = command, .version = 1},
		     .attribute = {.nla_len = (uint16_t)len, .nla_type = attribute}};
	struct process_exits *exits = &state->exits;
	const struct nlmsghdr *head = (const void *)state->buffer;
	int got;

	memcpy(message.text, text, len - NLA_HDRLEN);
	got = netlink_send(&exits->socket, &message, message.head.nlmsg_len);
	for (unsigned tries = 0; got >= 0 && tries < MAX_TRIES; tries++) {
		got = netlink_await(&exits->socket, state->buffer, sizeof(state->buffer));
		if (got >= (int)sizeof(*head) + 4 && head->nlmsg_type == NLMSG_ERROR)
			return ((const struct nlmsgerr *)NLMSG_DATA(head))->error;
		if (got > 0)
			(void)!exit_family_parse(head, (size_t)got, &exits->family);
		else if (got == -EPERM || got == -ENOBUFS)
			got = 0; /* not the kernel's, or exits of no interest yet */
	}
	return got < 0 ? got : -ETIMEDOUT;
}

/* Every CPU that there may be. The kernel takes no other, so without sysfs it is tried downwards.
 */
static int register_cpus(struct process_state *state)
{
	int fd = open("/sys/devices/system/cpu/possible", O_RDONLY | O_CLOEXEC), result = -EINVAL;
	char list[CPU_LIST_BYTES] = "";

	if (fd >= 0) {
		(void)!read(fd, list, sizeof(list) - 1);
		close(fd);
	}
	for (int cpu = HIGHEST_CPU; result == -EINVAL && cpu >= 0; cpu--) {
		if (list[0] == '\0' || cpu < HIGHEST_CPU)
			(void)snprintf(list, sizeof(list), "0-%d", cpu);
		result = request(state, state->exits.family, TASKSTATS_CMD_GET,
				 TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, list);
	}
	return result;
}

int process_exits_open(struct process_state *state)
{
	struct netlink_socket *socket = &state->exits.socket;
	int result = netlink_open(socket, NETLINK_GENERIC, 0, SOCKET_BYTES);

	if (result == 0)
		result = request(state, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME,
				 TASKSTATS_GENL_NAME);
	if (result == 0)
		result = register_cpus(state);
	if (result < 0)
		netlink_close(socket);
	return result;
}

/* One more record, over the oldest when the ring is full; false when the kernel has none. */
static bool pull(struct process_state *state)
{
	struct process_exits *exits = &state->exits;
	struct exit_record *record = &exits->ring[exits->end % PROCESS_EXIT_RING];
	int got = process_receive(state, &exits->socket);

	if (got < 0)
		return false;
	if (exit_record_parse(state->buffer, (size_t)got, exits->family, record) < 0) {
		record->pid = 0;
		cellos_probe_stat_add(state->env, STAT_MALFORMED, 1);
	}
	exits->first += ++exits->end - exits->first > PROCESS_EXIT_RING;
	return true;
}

void process_exits_drain(struct process_state *state)
{
	while (pull(state))
		;
}

bool process_exit_record(struct process_state *state, uint32_t pid, struct exit_record *out)
{
	struct process_exits *exits = &state->exits;

	for (uint32_t at = exits->first; at != exits->end || pull(state); at++) {
		struct exit_record *record = &exits->ring[at % PROCESS_EXIT_RING];

		if (record->pid != pid)
			continue;
		*out = *record;
		record->pid = 0;
		while (exits->first != exits->end &&
		       exits->ring[exits->first % PROCESS_EXIT_RING].pid == 0)
			exits->first++;
		return true;
	}
	return false;
}
