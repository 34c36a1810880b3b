/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Processes by the kernel's own messages: the connector says who forks, execs and exits, with its
 * own time stamps; the exit listener (taskstats) says of every task that exits, just before the
 * connector does, under which name and whether it was the last of its group.
 *
 * A lost message is counted (`k`), both queues are read empty, for until then the kernel drops
 * everything, and a walk of /proc puts right what is known.
 *
 * Before 6.6 one count decides whether the kernel sends at all, and any process with the right to
 * may lower it. So on those it is asked every second: by a LISTEN that it must answer, and by an
 * IGNORE, which takes the LISTEN back and is answered only while somebody else's still counts: ours
 * of before. No answer means that we have been silenced for a while: one occasion under `o`.
 *
 * Threads: one at a time. Invariants: a filter in the connector's socket lets in what is asked for
 * alone (a storm of name changes costs nothing and drops nothing); records wait in a fixed ring.
 * Refuses to: take a message that is not the kernel's, or work outside the initial PID namespace,
 * where the kernel is silent.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/connector.h>
#include <linux/filter.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <linux/taskstats.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/utsname.h>

#include "bpf_load.h"
#include "probe_util.h"
#include "process.h"

/* What the kernel may hold for each socket: some 2500 messages, or 1600 records of exits. */
#define SOCKET_BYTES (2u * 1024 * 1024)
/* Losses can come faster than /proc can be walked. */
#define RESYNC_GAP_NS (200 * CELLOS_NS_PER_MS)

/* One message of the kernel's: its length, or -errno. */
static int receive(struct process_state *s, const struct netlink_socket *from)
{
	for (;;) {
		int got = netlink_receive(from, s->message, sizeof(s->message));

		if (got == -EPERM)
			cellos_probe_stat_add(s->env, STAT_FORGED, 1);
		else if (got != -ENOBUFS)
			return got;
		/* netlink_lost will tell how many; but behind this stand messages that came after
		   the loss. */
		s->recovering |= got == -ENOBUFS && from == &s->connector;
	}
}

/* ---- exit listener -------------------------------------------------------------------------- */

/* A request with one text, and what the kernel, which answers at once, says to it: 0 or -errno. */
static int request(struct process_state *s, uint16_t type, uint8_t command, uint16_t attribute,
		   const char *text)
{
	struct {
		struct nlmsghdr head;
		struct genlmsghdr generic;
		struct nlattr attribute;
		char text[16];
	} message = {{sizeof(message), type, NLM_F_REQUEST | NLM_F_ACK, 0, 0},
		     {.cmd = command, .version = 1},
		     {NLA_HDRLEN + sizeof(message.text) - 1, attribute},
		     ""};
	struct nlmsghdr *head = (void *)s->message;
	int got;

	memcpy(message.text, text, strlen(text));
	got = netlink_send(&s->exits, &message, sizeof(message));
	while (got >= 0) { /* exits are of no interest yet */
		got = receive(s, &s->exits);
		if (got >= (int)NLMSG_LENGTH(sizeof(int)) && head->nlmsg_type == NLMSG_ERROR)
			return *(int *)NLMSG_DATA(head);
		if (got > 0)
			(void)!exit_family_parse(head, (size_t)got, &s->family);
	}
	return got;
}

/* For each CPU that there may be, which have no gap in their numbers: the kernel takes no other. */
static int open_exits(struct process_state *s)
{
	int result = netlink_open(&s->exits, NETLINK_GENERIC, 0, SOCKET_BYTES);
	char cpu[12] = "";

	if (result == 0)
		result = request(s, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME,
				 TASKSTATS_GENL_NAME);
	for (unsigned number = 0; result == 0; number++) {
		(void)snprintf(cpu, sizeof(cpu), "%u", number);
		result = request(s, s->family, TASKSTATS_CMD_GET,
				 TASKSTATS_CMD_ATTR_REGISTER_CPUMASK, cpu);
	}
	if ((result == -EINVAL || result == -ERANGE) && cpu[0] > '0')
		return 0; /* the one behind the last */
	netlink_close(&s->exits);
	return result;
}

/* One more record from the socket, over the oldest when the ring is full; false: there is none. */
static bool pull(struct process_state *s)
{
	struct exit_record *record = &s->ring[s->records % PROCESS_EXIT_RING];
	int got = receive(s, &s->exits);

	if (got < 0)
		return false;
	record->pid = 0;
	s->records++;
	if (exit_record_parse(s->message, (size_t)got, s->family, record) < 0)
		cellos_probe_stat_add(s->env, STAT_MALFORMED, 1);
	return true;
}

bool process_exit_record(struct process_state *s, uint32_t pid, struct exit_record *out)
{
	if (s->records > s->first + PROCESS_EXIT_RING)
		s->first = s->records - PROCESS_EXIT_RING;
	for (uint64_t at = s->first; at < s->records || pull(s); at++) {
		struct exit_record *record = &s->ring[at % PROCESS_EXIT_RING];

		s->first += at == s->first && record->pid == 0; /* most are taken in their order */
		if (record->pid != pid)
			continue;
		*out = *record;
		record->pid = 0;
		return true;
	}
	return false;
}

/* ---- connector ------------------------------------------------------------------------------ */

static void take(struct process_state *s, const struct proc_event *event, uint32_t ack)
{
	const __typeof__(event->event_data) *of = &event->event_data;
	uint64_t ns = event->timestamp_ns;

	if (event->what == PROC_EVENT_FORK)
		process_forked(s, of->fork.parent_tgid, of->fork.child_pid, of->fork.child_tgid,
			       ns);
	else if (event->what == PROC_EVENT_EXEC)
		process_execed(s, of->exec.process_tgid, ns);
	else if (event->what == PROC_EVENT_EXIT)
		process_exited(s, of->exit.process_pid, of->exit.process_tgid, ns);
	else if (event->what == PROC_EVENT_NONE && of->ack.err == 0)
		s->answered = ack;
}

unsigned process_drain(struct process_state *s, unsigned limit)
{
	struct proc_event event;
	unsigned count;
	uint32_t ack;
	int got;

	for (count = 0; count < limit && (got = receive(s, &s->connector)) >= 0; count++) {
		if (connector_parse(s->message, (size_t)got, &event, &ack) == 0)
			take(s, &event, ack);
		else
			cellos_probe_stat_add(s->env, STAT_MALFORMED, 1);
	}
	return count;
}

/* True when the kernel has answered, which it does at once. What else is there is taken as well. */
static bool ask(struct process_state *s, uint32_t operation)
{
	const uint32_t message[] = {/* nlmsghdr: length, type, number, sender */
				    40, NLMSG_DONE, 0, 0,
				    /* cn_msg: whose, number, ack, length */
				    CN_IDX_PROC, CN_VAL_PROC, 0, ++s->asked, sizeof(operation),
				    operation};

	if (netlink_send(&s->connector, message, sizeof(message)) < 0)
		return false;
	(void)process_drain(s, PROCESS_WHOLE_QUEUE);
	return s->answered == s->asked;
}

void process_connector_check(struct process_state *s)
{
	uint64_t lost = netlink_lost(&s->connector) + netlink_lost(&s->exits);
	bool silenced = false;

	if (cellos_probe_now() >= s->ask_ns) {
		s->ask_ns = cellos_probe_now() + CELLOS_NS_PER_S;
		silenced = !ask(s, PROC_CN_MCAST_LISTEN) || !ask(s, PROC_CN_MCAST_IGNORE);
		for (unsigned n = 0; silenced && n < 1024 && !ask(s, PROC_CN_MCAST_LISTEN);)
			n++;
	}
	if (lost == 0 && !silenced)
		return;
	cellos_lane_count(s->env->lane, CELLOS_DROP_OVERFLOW, silenced);
	cellos_lane_count(s->env->lane, CELLOS_DROP_KERNEL, lost);
	while (pull(s))
		; /* the connector's is empty already, or will be before the walk */
	s->recovering = true;
	if (s->walk_ns == UINT64_MAX)
		s->walk_ns = s->walked_ns + RESYNC_GAP_NS;
}

const char *process_connector_arm(struct process_state *s)
{
	const uint32_t others = ~(uint32_t)(PROC_EVENT_FORK | PROC_EVENT_EXEC | PROC_EVENT_EXIT);
	/* The load is big-endian whatever the machine. */
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, CONNECTOR_EVENT_AT),
		BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, htonl(others), 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
	struct cellos_pid_view view;
	unsigned major = 0, minor = 0;
	struct utsname name;

	cellos_pid_view_look(&view);
	if (view.inode != 0)
		return "not in the initial PID namespace, where alone the kernel's process "
		       "connector speaks";
	s->asked = s->env->agent_pid << 8; /* unlike another listener's */
	if (netlink_open(&s->connector, NETLINK_CONNECTOR, CN_IDX_PROC, SOCKET_BYTES) < 0 ||
	    setsockopt(s->connector.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) <
		    0 ||
	    !ask(s, PROC_CN_MCAST_LISTEN)) {
		netlink_close(&s->connector);
		return "the process connector does not answer";
	}
	s->by_messages = true;
	/* Whether others can silence us, see above; when in doubt, yes.
	   NOLINTNEXTLINE(cert-err34-c): the kernel's own two small numbers */
	if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2 ||
	    1000 * major + minor < 6006)
		s->ask_ns = cellos_probe_now() + CELLOS_NS_PER_S;
	/* Worth having, not needed. */
	return open_exits(s) == 0 ? NULL : "no exit listener: short processes may lack a name";
}

void process_connector_close(struct process_state *s)
{
	/* Newer kernels see by the closing that nobody listens. */
	if (s->ask_ns != UINT64_MAX)
		(void)ask(s, PROC_CN_MCAST_IGNORE);
	netlink_close(&s->connector);
	netlink_close(&s->exits);
}
