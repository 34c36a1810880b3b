/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The connect probe over real sockets: each way to attempt a connection, what the kernel answered
 * to it, how many events it made and how many datagrams were folded. A marker behind each shows
 * that nothing more was to come.
 *
 * Threads: the test's and the probe's; each Criterion test is a process of its own, in a corner of
 * its own (corner.h).
 * Refuses to: wait for time to pass; leave the loopback.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connect_rig.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

__attribute__((constructor)) static void need(void)
{
	connect_need();
}

TestSuite(connect, .init = connect_init, .fini = connect_fini);

/* ---- ways ----------------------------------------------------------------------------------- */

/* One attempt on a socket of its own; what the kernel says to it. */
static void once(int type, int protocol, union address to, int expected)
{
	int fd = socket_of(to.any.sa_family, type, protocol);
	int result = try_connect(fd, to);

	cr_assert(result == expected, "%s, not %s", strerror(-result), strerror(-expected));
	close(fd);
}

static void tcp_succeeds(void)
{
	once(SOCK_STREAM, 0, address4("127.0.0.1", port_open), 0);
}

static void tcp_refused(void)
{
	once(SOCK_STREAM, 0, address4("127.0.0.1", port_closed), -ECONNREFUSED);
}

/* The corner's network has a loopback and no other way. */
static void tcp_unreachable(void)
{
	once(SOCK_STREAM, 0, address4("192.0.2.1", 80), -ENETUNREACH);
}

static void tcp6_succeeds(void)
{
	once(SOCK_STREAM, 0, address6("::1", port_open), 0);
}

static void tcp6_refused(void)
{
	once(SOCK_STREAM, 0, address6("::1", port_closed), -ECONNREFUSED);
}

static void tcp6_unreachable(void)
{
	once(SOCK_STREAM, 0, address6("2001:db8::1", 80), -ENETUNREACH);
}

static void tcp_mapped(void)
{
	once(SOCK_STREAM, 0, address6("::ffff:127.0.0.1", port_open), 0);
}

static void mptcp(void)
{
	once(SOCK_STREAM, IPPROTO_MPTCP, address4("127.0.0.1", port_open), 0);
}

/* The second call asks how the first goes, the third says that there is one: no new attempts. */
static void non_blocking(void)
{
	int fd = socket_of(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	struct pollfd done = {.fd = fd, .events = POLLOUT};
	int result = try_connect(fd, address4("127.0.0.1", port_open));

	cr_assert(result == -EINPROGRESS || result == 0);
	cr_assert(poll(&done, 1, RIG_PATIENCE_MS) == 1);
	result = try_connect(fd, address4("127.0.0.1", port_open));
	cr_assert(result == 0 || result == -EISCONN);
	cr_assert(try_connect(fd, address4("127.0.0.1", port_open)) == -EISCONN);
	close(fd);
}

/* A refused socket may try again, and that is one more. */
static void again_after_refusal(void)
{
	int fd = socket_of(AF_INET, SOCK_STREAM, 0);

	for (unsigned times = 0; times < 3; times++)
		cr_assert(try_connect(fd, address4("127.0.0.1", port_closed)) == -ECONNREFUSED);
	close(fd);
}

static void fast_open_send(void)
{
	union address to = address4("127.0.0.1", port_open);
	int fd = socket_of(AF_INET, SOCK_STREAM, 0);

	cr_assert(sendto(fd, "x", 1, MSG_FASTOPEN, &to.any, address_bytes(&to)) == 1, "%s",
		  strerror(errno));
	cr_assert(send(fd, "x", 1, 0) == 1);
	close(fd);
}

static void fast_open_connect(void)
{
	int fd = socket_of(AF_INET, SOCK_STREAM, 0), one = 1;

	cr_assert(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)) == 0);
	cr_assert(try_connect(fd, address4("127.0.0.1", port_open)) == 0);
	cr_assert(send(fd, "x", 1, 0) == 1);
	close(fd);
}

static void udp_connect(void)
{
	int fd = socket_of(AF_INET, SOCK_DGRAM, 0);

	cr_assert(try_connect(fd, address4("127.0.0.1", port_sink)) == 0);
	for (unsigned times = 0; times < 3; times++)
		cr_assert(send(fd, "x", 1, 0) == 1);
	close(fd);
}

static void udp6_connect(void)
{
	once(SOCK_DGRAM, 0, address6("::1", port_sink), 0);
}

/* IPv4 spelt as such on a socket of IPv6. */
static void udp6_connect_of_v4(void)
{
	int fd = socket_of(AF_INET6, SOCK_DGRAM, 0);

	cr_assert(try_connect(fd, address4("127.0.0.1", port_sink)) == 0);
	close(fd);
}

/* Each connect of one socket is an attempt; AF_UNSPEC takes the address away and is none. */
static void udp_connect_again(void)
{
	int fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	cr_assert(try_connect(fd, address4("127.0.0.1", port_sink)) == 0);
	cr_assert(connect(fd, &nowhere, sizeof(nowhere)) == 0);
	cr_assert(try_connect(fd, address4("127.0.0.1", port_sink)) == 0);
	close(fd);
}

/* Not connected any more: its first datagram is one, the next a repeat. */
static void udp_connected_no_more(void)
{
	int fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	cr_assert(try_connect(fd, address4("127.0.0.1", port_sink)) == 0);
	cr_assert(connect(fd, &nowhere, sizeof(nowhere)) == 0);
	cr_assert(try_send(fd, address4("127.0.0.1", port_sink)) == 0);
	cr_assert(try_send(fd, address4("127.0.0.1", port_sink)) == 0);
	close(fd);
}

static void tcp_disconnect(void)
{
	int fd = socket_of(AF_INET, SOCK_STREAM, 0);
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};

	cr_assert(connect(fd, &nowhere, sizeof(nowhere)) == 0);
	close(fd);
}

static void send_some(int family, union address to, unsigned times)
{
	int fd = socket_of(family, SOCK_DGRAM, 0);

	for (unsigned time = 0; time < times; time++)
		cr_assert(try_send(fd, to) == 0, "%s", strerror(errno));
	close(fd);
}

static void udp_send(void)
{
	send_some(AF_INET, address4("127.0.0.1", port_sink), 5);
}

static void udp6_send(void)
{
	send_some(AF_INET6, address6("::1", port_sink), 4);
}

static void udp6_send_mapped(void)
{
	send_some(AF_INET6, address6("::ffff:127.0.0.1", port_sink), 3);
}

/* Each socket is one of its own. */
static void udp_send_by_many(void)
{
	for (unsigned times = 0; times < 3; times++)
		send_some(AF_INET, address4("127.0.0.1", port_sink), 2);
}

static void udp_unreachable(void)
{
	int fd = socket_of(AF_INET, SOCK_DGRAM, 0);

	cr_assert(try_send(fd, address4("192.0.2.1", 53)) == -ENETUNREACH);
	cr_assert(try_send(fd, address4("192.0.2.1", 53)) == -ENETUNREACH);
	close(fd);
}

/* Both families by one socket: still one. */
static void udp_dual_stack(void)
{
	int fd = socket_of(AF_INET6, SOCK_DGRAM, 0);

	cr_assert(try_send(fd, address6("::1", port_sink)) == 0);
	cr_assert(try_send(fd, address6("::ffff:127.0.0.1", port_sink)) == 0);
	cr_assert(try_send(fd, address4("127.0.0.1", port_sink)) == 0);
	close(fd);
}

static void udp_send_many(void)
{
	union address to = address4("127.0.0.1", port_sink);
	struct iovec bytes = {(char[]){'x'}, 1};
	int fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	struct mmsghdr messages[8] = {0};

	for (unsigned at = 0; at < 8; at++)
		messages[at].msg_hdr = (struct msghdr){.msg_name = &to.any,
						       .msg_namelen = address_bytes(&to),
						       .msg_iov = &bytes,
						       .msg_iovlen = 1};
	cr_assert(sendmmsg(fd, messages, 8, 0) == 8);
	close(fd);
}

/* The kernel asks for such datagrams again, although the socket is connected. */
static void udp_connected_with_address(void)
{
	int fd = socket_of(AF_INET, SOCK_DGRAM, 0);

	cr_assert(try_connect(fd, address4("127.0.0.1", port_sink)) == 0);
	for (unsigned times = 0; times < 3; times++)
		cr_assert(try_send(fd, address4("127.0.0.1", port_sink)) == 0);
	close(fd);
}

static void udp_connected_with_control(void)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct iovec bytes = {(char[]){'x'}, 1};
	struct msghdr message = {.msg_iov = &bytes,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	int hops = 3, fd = socket_of(AF_INET6, SOCK_DGRAM, 0);

	control.header = (struct cmsghdr){.cmsg_level = IPPROTO_IPV6,
					  .cmsg_type = IPV6_HOPLIMIT,
					  .cmsg_len = CMSG_LEN(sizeof(hops))};
	memcpy(CMSG_DATA(&control.header), &hops, sizeof(hops));
	cr_assert(try_connect(fd, address6("::1", port_sink)) == 0);
	cr_assert(sendmsg(fd, &message, 0) == 1, "%s", strerror(errno));
	close(fd);
}

static void unix_stream(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "/nobody-here"};
	int fd = socket_of(AF_UNIX, SOCK_STREAM, 0);

	cr_assert(connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0 && errno == ENOENT);
	close(fd);
}

static void unix_datagram(void)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "/nobody-here"};
	int fd = socket_of(AF_UNIX, SOCK_DGRAM, 0);

	cr_assert(sendto(fd, "x", 1, 0, (struct sockaddr *)&to, sizeof(to)) < 0);
	close(fd);
}

/* An address cut short gets as far as the socket's own check, not to the hook. */
static void short_address(void)
{
	union address to = address4("127.0.0.1", port_open);
	int fd = socket_of(AF_INET, SOCK_STREAM, 0);

	cr_assert(connect(fd, &to.any, sizeof(to.v4) - 1) < 0 && errno == EINVAL);
	close(fd);
}

static void listen_and_accept(void)
{
	int fd = socket_of(AF_INET, SOCK_STREAM, 0);

	cr_assert(listen(fd, 1) == 0);
	close(fd);
}

static const struct way {
	const char *name; /* also the name of the thread that does it */
	void (*go)(void);
	unsigned events, folds;
} ways[] = {
	{"tcp-succeeds", tcp_succeeds, 1, 0},
	{"tcp-refused", tcp_refused, 1, 0},
	{"tcp-unreachable", tcp_unreachable, 1, 0},
	{"tcp6-succeeds", tcp6_succeeds, 1, 0},
	{"tcp6-refused", tcp6_refused, 1, 0},
	{"tcp6-unreach", tcp6_unreachable, 1, 0},
	{"tcp-mapped", tcp_mapped, 1, 0},
	{"non-blocking", non_blocking, 1, 0},
	{"again", again_after_refusal, 3, 0},
	{"fast-open-send", fast_open_send, 1, 0},
	{"fast-open-conn", fast_open_connect, 1, 0},
	{"udp-connect", udp_connect, 1, 0},
	{"udp6-connect", udp6_connect, 1, 0},
	{"udp6-conn-of-v4", udp6_connect_of_v4, 1, 0},
	{"udp-conn-again", udp_connect_again, 2, 0},
	{"udp-no-more", udp_connected_no_more, 2, 1},
	{"tcp-disconnect", tcp_disconnect, 0, 0},
	{"udp-send", udp_send, 1, 4},
	{"udp6-send", udp6_send, 1, 3},
	{"udp6-send-map", udp6_send_mapped, 1, 2},
	{"udp-by-many", udp_send_by_many, 3, 3},
	{"udp-unreach", udp_unreachable, 1, 1},
	{"udp-dual-stack", udp_dual_stack, 1, 2},
	{"udp-send-many", udp_send_many, 1, 7},
	{"udp-conn-addr", udp_connected_with_address, 1, 3},
	{"udp-conn-cmsg", udp_connected_with_control, 1, 1},
	{"unix-stream", unix_stream, 0, 0},
	{"unix-datagram", unix_datagram, 0, 0},
	{"short-address", short_address, 0, 0},
	{"listen", listen_and_accept, 0, 0},
};

/* Does it under its name, and checks what came; *folds is the sum so far. */
static void try_way(struct rig *rig, const struct way *way, uint64_t *folds)
{
	static unsigned markers;
	size_t before = rig->count;
	uint64_t begin = rig_now(), end;

	cr_assert(prctl(PR_SET_NAME, way->name) == 0);
	way->go();
	end = rig_now();
	cr_assert(prctl(PR_SET_NAME, "marker") == 0);
	once(SOCK_DGRAM, 0, address4("127.0.0.1", port_sink), 0);
	cr_assert(until_named(rig, "marker", ++markers), "%s: no marker", way->name);
	*folds += way->folds;
	cr_assert(rig_until_dropped(rig, CELLOS_DROP_SUPPRESSED, *folds), "%s: %u folds", way->name,
		  way->folds);
	cr_assert(rig_dropped(rig, CELLOS_DROP_SUPPRESSED) == *folds, "%s", way->name);
	cr_assert(rig->count - before == way->events + 1, "%s: %zu events", way->name,
		  rig->count - before - 1);
	for (size_t at = before; at < rig->count - 1; at++) {
		const struct cellos_raw_event *event = &rig->events[at];

		cr_assert(event->source == ATTEMPTED && event->pid == (uint32_t)getpid());
		cr_assert(event->comm_len == strlen(way->name) &&
				  strcmp(event->comm, way->name) == 0,
			  "%s called itself %.16s", way->name, event->comm);
		cr_assert(event->monotonic_ns >= begin && event->monotonic_ns <= end);
	}
}

static void try_ways(const struct way *list, size_t count, uint32_t coalesce_ms)
{
	struct rig rig;
	uint64_t folds = 0;

	connect_begin(&rig, coalesce_ms, 1024);
	for (size_t at = 0; at < count; at++)
		try_way(&rig, &list[at], &folds);
	rig_stop(&rig);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_KERNEL) == 0);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_SUPPRESSED) == folds);
	rig_free(&rig);
}

Test(connect, every_way)
{
	try_ways(ways, sizeof(ways) / sizeof(ways[0]), 1);
}

Test(connect, every_way_at_once)
{
	try_ways(ways, sizeof(ways) / sizeof(ways[0]), 0);
}

Test(connect, multipath)
{
	static const struct way way = {"mptcp", mptcp, 1, 0};
	int fd = socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP);

	if (fd < 0)
		SKIP_TEST("this kernel has no MPTCP: %s", strerror(errno));
	close(fd);
	try_ways(&way, 1, 1);
}

/* ---- io_uring ------------------------------------------------------------------------------- */

struct uring {
	int fd;
	char *rings; /* both, in one mapping */
	struct io_uring_sqe *sqes;
	struct io_uring_params params;
};

static bool uring_open(struct uring *uring)
{
	memset(uring, 0, sizeof(*uring));
	uring->fd = (int)syscall(SYS_io_uring_setup, 1, &uring->params);
	if (uring->fd < 0)
		return false;
	cr_assert(uring->params.features & IORING_FEAT_SINGLE_MMAP);
	uring->rings = mmap(NULL, uring->params.cq_off.cqes + 4 * sizeof(struct io_uring_cqe),
			    PROT_READ | PROT_WRITE, MAP_SHARED, uring->fd, IORING_OFF_SQ_RING);
	uring->sqes = mmap(NULL, sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE, MAP_SHARED,
			   uring->fd, IORING_OFF_SQES);
	cr_assert(uring->rings != MAP_FAILED && uring->sqes != MAP_FAILED);
	return true;
}

static uint32_t *uring_word(struct uring *uring, uint32_t offset)
{
	return (uint32_t *)(void *)(uring->rings + offset);
}

/* One connect, waited for; what the kernel says to it. */
static int uring_connect(struct uring *uring, int fd, union address *to, uint8_t flags)
{
	uint32_t *tail = uring_word(uring, uring->params.sq_off.tail);
	uint32_t *head = uring_word(uring, uring->params.cq_off.head);
	uint32_t mask = *uring_word(uring, uring->params.cq_off.ring_mask);
	const struct io_uring_cqe *cqes = (const void *)(uring->rings + uring->params.cq_off.cqes);
	int result;

	uring->sqes[0] = (struct io_uring_sqe){.opcode = IORING_OP_CONNECT,
					       .flags = flags,
					       .fd = fd,
					       .addr = (uintptr_t)to,
					       .off = address_bytes(to)};
	*uring_word(uring, uring->params.sq_off.array) = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	cr_assert(syscall(SYS_io_uring_enter, uring->fd, 1, 1, IORING_ENTER_GETEVENTS, NULL, 0) ==
		  1);
	result = cqes[*head & mask].res;
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return result;
}

/* In the caller's own context, and by a worker of the kernel's, which is a thread of ours with a
   name of its own. */
Test(connect, by_io_uring)
{
	static const uint8_t flags[] = {0, IOSQE_ASYNC};
	struct uring uring;
	struct rig rig;

	if (!uring_open(&uring))
		SKIP_TEST("this kernel has no io_uring for us: %s", strerror(errno));
	connect_begin(&rig, 1, 64);
	for (unsigned at = 0; at < 2; at++) {
		union address good = address4("127.0.0.1", port_open);
		union address bad = address6("::1", port_closed);
		int first = socket_of(AF_INET, SOCK_STREAM, 0);
		int second = socket_of(AF_INET6, SOCK_STREAM, 0);

		cr_assert(uring_connect(&uring, first, &good, flags[at]) == 0);
		cr_assert(uring_connect(&uring, second, &bad, flags[at]) == -ECONNREFUSED);
		close(first);
		close(second);
	}
	cr_assert(rig_until(&rig, ATTEMPTED, (uint32_t)getpid(), 4));
	rig_stop(&rig);
	cr_assert(rig.count == 4);
	rig_free(&rig);
}

/* ---- who ------------------------------------------------------------------------------------ */

static void *connect_as_thread(void *name)
{
	cr_assert(prctl(PR_SET_NAME, name) == 0);
	tcp_refused();
	return NULL;
}

/* The process's number, the thread's name, whatever bytes it is made of. */
Test(connect, threads_and_their_names)
{
	static char names[][16] = {"", "\xff\xfe broken", "quote\"\\\n\t", "exactly15bytes!"};
	struct rig rig;

	connect_begin(&rig, 1, 64);
	for (unsigned at = 0; at < 4; at++) {
		pthread_t thread;

		cr_assert(pthread_create(&thread, NULL, connect_as_thread, names[at]) == 0);
		cr_assert(pthread_join(thread, NULL) == 0);
		cr_assert(rig_until(&rig, ATTEMPTED, (uint32_t)getpid(), at + 1));
		cr_assert(events_named(&rig, names[at]) == 1, "%u", at);
	}
	rig_free(&rig);
}

/* A socket that two processes use has been reported for neither by the other. */
Test(connect, a_socket_that_is_shared)
{
	union address to;
	struct rig rig;
	int fd, status;
	pid_t child;

	connect_begin(&rig, 1, 64);
	to = address4("127.0.0.1", port_sink);
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	cr_assert(try_send(fd, to) == 0 && try_send(fd, to) == 0);
	child = fork();
	cr_assert(child >= 0);
	if (child == 0)
		_exit(try_send(fd, to) == 0 && try_send(fd, to) == 0 ? 0 : 1);
	cr_assert(waitpid(child, &status, 0) == child && status == 0);
	cr_assert(rig_until(&rig, ATTEMPTED, (uint32_t)getpid(), 1));
	cr_assert(rig_until(&rig, ATTEMPTED, (uint32_t)child, 1));
	rig_stop(&rig);
	cr_assert(rig.count == 2 && rig_dropped(&rig, CELLOS_DROP_SUPPRESSED) == 2);
	rig_free(&rig);
}
