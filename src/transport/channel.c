/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The guest's side of a channel: connect, write, reconnect, end.
 *
 * One thread at a time. No call here blocks but cellos_channel_finish, which ends at its deadline.
 *
 *   WAITING --time--> CONNECTING --POLLOUT--> OPEN --break--> WAITING      vsock, unix
 *   WAITING ---------------------------------> OPEN --break--> GONE         fd
 *
 * Invariants: `fd` is ours exactly in CONNECTING and OPEN, close-on-exec, and never shares
 * O_NONBLOCK with another holder: a socket is written with MSG_DONTWAIT, and what has no such flag
 * is opened anew, or polled before each write. backoff_ms stays within its two bounds.
 *
 * It refuses: to give up on a host that may come back, to report a missing host as an error, to
 * spin. Writing to a pipe whose reader left raises SIGPIPE, and no flag prevents that: the owner
 * blocks or ignores the signal. Sockets never raise it.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <time.h>
#include <unistd.h>

#include "address.h"
#include "cellos/transport.h"

#define NS_PER_MS UINT64_C(1000000)

#define BACKOFF_MIN_MS 50u
#define BACKOFF_MAX_MS 1000u
/* A host that accepts and falls over at once is no better than one that refuses. */
#define BACKOFF_RESET_NS (UINT64_C(5000) * NS_PER_MS)
/* The kernel's own limit for a vsock connect is 2 s; this is for one that forgets to answer. */
#define CONNECT_LIMIT_NS (UINT64_C(10000) * NS_PER_MS)
/* A full disk tells nobody when it has room again, so it is asked. */
#define RETRY_NS (UINT64_C(250) * NS_PER_MS)
/* POLLOUT on a tty promises this much (WAKEUP_CHARS in the kernel's n_tty.c), on a pipe PIPE_BUF.
 */
#define TTY_PIECE 256u

static uint32_t next_random(struct cellos_channel *channel)
{
	uint32_t x = channel->random; /* xorshift32: never 0 once it is not 0 */

	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	channel->random = x;
	return x;
}

static void close_fd(struct cellos_channel *channel)
{
	/* Once, whatever it says: after EINTR Linux has released the number already. */
	if (channel->state == CELLOS_CHANNEL_CONNECTING || channel->state == CELLOS_CHANNEL_OPEN)
		(void)close(channel->fd);
	channel->fd = -1;
}

/* The attempt or the connection failed: wait 0.5 to 1 times the backoff, then double it. */
static void fail(struct cellos_channel *channel, int error, uint64_t now_ns)
{
	uint32_t half;

	if (channel->state == CELLOS_CHANNEL_OPEN &&
	    now_ns - channel->opened_ns >= BACKOFF_RESET_NS)
		channel->backoff_ms = BACKOFF_MIN_MS;
	close_fd(channel);
	channel->error = error;
	if (channel->address.kind == CELLOS_ADDRESS_FD) {
		channel->state = CELLOS_CHANNEL_GONE;
		channel->deadline_ns = UINT64_MAX;
		return;
	}
	half = channel->backoff_ms / 2;
	channel->deadline_ns =
		now_ns + (half + next_random(channel) % (half + 1)) * (uint64_t)NS_PER_MS;
	channel->backoff_ms *= 2;
	if (channel->backoff_ms > BACKOFF_MAX_MS)
		channel->backoff_ms = BACKOFF_MAX_MS;
	channel->state = CELLOS_CHANNEL_WAITING;
}

static void opened(struct cellos_channel *channel, uint64_t now_ns)
{
	channel->state = CELLOS_CHANNEL_OPEN;
	channel->opened_ns = now_ns;
	channel->deadline_ns = UINT64_MAX;
	channel->connections++;
}

void cellos_channel_init(struct cellos_channel *channel, const struct cellos_address *address,
			 uint32_t seed)
{
	memset(channel, 0, sizeof(*channel));
	channel->address = *address;
	channel->fd = -1;
	channel->backoff_ms = BACKOFF_MIN_MS;
	channel->random = seed != 0 ? seed : 1;
	channel->state = CELLOS_CHANNEL_WAITING; /* since 0: the first advance connects */
}

/* ---- opening -------------------------------------------------------------------------------- */

static void start_connect(struct cellos_channel *channel, uint64_t now_ns)
{
	const int size = CELLOS_CHANNEL_SEND_BUFFER_BYTES;
	union cellos_any_sockaddr to;
	socklen_t length = cellos_address_to_sockaddr(&channel->address, &to);
	int fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0) {
		fail(channel, errno, now_ns);
		return;
	}
	channel->fd = fd;
	channel->is_socket = true;
	channel->state = CELLOS_CHANNEL_CONNECTING;
	/* Best effort: without it the channel is slower, not wrong. */
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	if (connect(fd, &to.any, length) == 0)
		opened(channel, now_ns);
	else if (errno == EINPROGRESS)
		channel->deadline_ns = now_ns + CONNECT_LIMIT_NS;
	else /* AF_UNIX says EAGAIN for a full backlog, and poll cannot wait for that: refused */
		fail(channel, errno == EAGAIN ? ECONNREFUSED : errno, now_ns);
}

static void settle_connect(struct cellos_channel *channel, uint64_t now_ns)
{
	struct pollfd look = {.fd = channel->fd, .events = POLLOUT};
	socklen_t length = sizeof(int);
	int error = 0;

	if (poll(&look, 1, 0) <= 0) {
		if (now_ns >= channel->deadline_ns)
			fail(channel, ETIMEDOUT, now_ns);
		return;
	}
	if (getsockopt(channel->fd, SOL_SOCKET, SO_ERROR, &error, &length) < 0)
		error = errno;
	if (error != 0)
		fail(channel, error, now_ns);
	else
		opened(channel, now_ns);
}

/* A description of our own, with O_NONBLOCK that nobody else can clear; -errno when there is none.
 */
static int reopen(int fd, const struct stat *st)
{
	char path[sizeof("/proc/self/fd/") + 10];
	int copy;

	/* Opening /dev/ptmx (5:2) anew makes another terminal. */
	if (S_ISCHR(st->st_mode) && major(st->st_rdev) == 5 && minor(st->st_rdev) == 2)
		return -ENXIO;
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	copy = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	return copy >= 0 ? copy : -errno;
}

/* The kind of descriptor decides how it is written. Returns our copy of it, or -errno. */
static int adopt(struct cellos_channel *channel)
{
	int given = channel->address.fd, flags = fcntl(given, F_GETFL), copy, type = 0;
	socklen_t length = sizeof(type);
	struct stat st;

	if (flags < 0 || fstat(given, &st) < 0)
		return -errno;
	/* Opening anew could turn a descriptor for reading (or O_PATH, which reads as one) into one
	 * for writing: not asked for. */
	if ((flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	channel->is_socket = S_ISSOCK(st.st_mode);
	if (channel->is_socket &&
	    (getsockopt(given, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_STREAM))
		return -EPROTOTYPE;
	if (S_ISFIFO(st.st_mode) || S_ISCHR(st.st_mode)) {
		copy = reopen(given, &st);
		if (copy >= 0)
			return copy;
		channel->piece_limit = S_ISFIFO(st.st_mode) ? PIPE_BUF : TTY_PIECE;
	} else if (!channel->is_socket && !S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)) {
		return -EINVAL;
	}
	copy = fcntl(given, F_DUPFD_CLOEXEC, 3);
	return copy >= 0 ? copy : -errno;
}

enum cellos_channel_state cellos_channel_advance(struct cellos_channel *channel, uint64_t now_ns)
{
	bool due = now_ns >= channel->deadline_ns;

	if (channel->state == CELLOS_CHANNEL_CONNECTING) {
		settle_connect(channel, now_ns);
	} else if (channel->state == CELLOS_CHANNEL_OPEN && due) {
		channel->deadline_ns = UINT64_MAX; /* time to try the full disk again */
	} else if (channel->state == CELLOS_CHANNEL_WAITING && due) {
		if (channel->address.kind != CELLOS_ADDRESS_FD)
			start_connect(channel, now_ns);
		else if ((channel->fd = adopt(channel)) < 0)
			fail(channel, -channel->fd, now_ns);
		else
			opened(channel, now_ns);
	}
	return channel->state;
}

uint64_t cellos_channel_deadline(const struct cellos_channel *channel)
{
	return channel->state == CELLOS_CHANNEL_CLOSED ? UINT64_MAX : channel->deadline_ns;
}

/* ---- writing -------------------------------------------------------------------------------- */

/* One system call that does not block; bytes or -errno. */
static ssize_t write_once(struct cellos_channel *channel, const struct iovec *iov, int count)
{
	struct pollfd look = {.fd = channel->fd, .events = POLLOUT};
	struct iovec piece;
	ssize_t n;

	if (channel->is_socket) {
		struct msghdr message = {0};

		message.msg_iov = (struct iovec *)(uintptr_t)iov; /* sendmsg only reads it */
		message.msg_iovlen = (unsigned)count;
		n = sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
	} else if (channel->piece_limit == 0) {
		n = writev(channel->fd, iov, count);
	} else {
		/* A blocking description that could not be opened anew: only what surely fits. */
		while (count > 1 && iov->iov_len == 0) {
			iov++;
			count--;
		}
		piece = *iov;
		if (piece.iov_len > channel->piece_limit)
			piece.iov_len = channel->piece_limit;
		if (poll(&look, 1, 0) <= 0)
			return -EAGAIN;
		n = write(channel->fd, piece.iov_base, piece.iov_len);
	}
	return n >= 0 ? n : -errno;
}

ssize_t cellos_channel_writev(struct cellos_channel *channel, const struct iovec *iov, int count,
			      uint64_t now_ns)
{
	ssize_t n;

	if (channel->state != CELLOS_CHANNEL_OPEN)
		return -ENOTCONN;
	do
		n = write_once(channel, iov, count);
	while (n == -EINTR);
	if (n >= 0) {
		channel->deadline_ns = UINT64_MAX;
	} else if (n == -ENOSPC || n == -EDQUOT || n == -ENOMEM || n == -ENOBUFS) {
		/* poll would call it writable at once: come back later, by the clock. */
		channel->deadline_ns = now_ns + RETRY_NS;
		n = -EAGAIN;
	} else if (n != -EAGAIN) {
		fail(channel, (int)-n, now_ns);
	}
	return n;
}

/* ---- ending --------------------------------------------------------------------------------- */

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

/* Reads and forgets until the peer's end of file. A peer that talks for ever meets the deadline. */
static int await_peer(int fd, uint64_t deadline_ns)
{
	struct pollfd look = {.fd = fd, .events = POLLIN};
	char away[1024];
	uint64_t now;
	ssize_t n;

	while ((now = clock_ns()) < deadline_ns) {
		uint64_t left_ms = (deadline_ns - now + NS_PER_MS - 1) / NS_PER_MS;

		if (poll(&look, 1, left_ms < INT_MAX ? (int)left_ms : INT_MAX) <= 0)
			continue; /* time is up, or a signal: the clock decides */
		n = recv(fd, away, sizeof(away), MSG_DONTWAIT);
		if (n == 0)
			return 0;
		if (n < 0 && errno != EAGAIN && errno != EINTR)
			return -errno;
	}
	return -ETIMEDOUT;
}

int cellos_channel_finish(struct cellos_channel *channel, uint64_t deadline_ns)
{
	int status = 0;

	if (channel->state != CELLOS_CHANNEL_OPEN)
		status = -ENOTCONN;
	else if (channel->is_socket && shutdown(channel->fd, SHUT_WR) < 0)
		status = -errno;
	else if (channel->is_socket)
		status = await_peer(channel->fd, deadline_ns);
	cellos_channel_close(channel);
	return status;
}

void cellos_channel_close(struct cellos_channel *channel)
{
	close_fd(channel);
	channel->state = CELLOS_CHANNEL_CLOSED;
	channel->deadline_ns = UINT64_MAX;
}
