/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The guest's side of a channel against real sockets, pipes, terminals and files. Time is handed
 * in, so that backing off takes none; only cellos_channel_finish looks at the clock itself.
 */
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <pty.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cellos/transport.h"

#define MS UINT64_C(1000000)

static char folder[64];

static void setup(void)
{
	snprintf(folder, sizeof(folder), "/tmp/cellos-channel-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(chdir(folder), 0);
	signal(SIGPIPE, SIG_IGN); /* the owner's part of the contract, for pipes */
}

static void teardown(void)
{
	(void)unlink("s");
	(void)unlink("f");
	cr_assert_eq(chdir("/"), 0);
	cr_assert_eq(rmdir(folder), 0, "something was left in %s", folder);
}

TestSuite(channel, .init = setup, .fini = teardown);

/* ---- helpers -------------------------------------------------------------------------------- */

static void start(struct cellos_channel *c, const char *text)
{
	struct cellos_address address;
	const char *why;

	cr_assert_eq(cellos_address_parse(text, &address, &why), 0, "%s: %s", text, why);
	cellos_channel_init(c, &address, 7);
	cr_assert_eq(c->state, CELLOS_CHANNEL_WAITING);
	cr_assert_eq(c->fd, -1);
}

static void start_fd(struct cellos_channel *c, int fd)
{
	char text[32];

	snprintf(text, sizeof(text), "fd:%d", fd);
	start(c, text);
}

static struct cellos_listener listen_here(void)
{
	struct cellos_address address;
	struct cellos_listener l;
	const char *why;

	cr_assert_eq(cellos_listen_address_parse("unix:s", &address, &why), 0);
	cr_assert_eq(cellos_listener_open(&l, &address, NULL), 0);
	return l;
}

static ssize_t put(struct cellos_channel *c, const void *bytes, size_t length, uint64_t now)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, length};

	return cellos_channel_writev(c, &iov, 1, now);
}

static uint64_t clock_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * UINT64_C(1000000000) + (uint64_t)t.tv_nsec;
}

/* ---- connecting ----------------------------------------------------------------------------- */

/* Fails `n` times in a row, each time at its deadline; checks the delays. Returns the time. */
static uint64_t refuse(struct cellos_channel *c, unsigned n, uint64_t now, uint64_t first_ms)
{
	uint64_t backoff = first_ms;

	for (unsigned i = 0; i < n; i++) {
		uint64_t delay;

		cr_assert_eq(cellos_channel_advance(c, now), CELLOS_CHANNEL_WAITING);
		cr_assert_eq(c->fd, -1);
		delay = cellos_channel_deadline(c) - now;
		cr_assert(delay >= backoff * MS / 2 && delay <= backoff * MS,
			  "attempt %u waits %llu ns, not half to all of %llu ms", i,
			  (unsigned long long)delay, (unsigned long long)backoff);
		/* Nothing is tried before the time has come. */
		cr_assert_eq(cellos_channel_advance(c, now + delay - 1), CELLOS_CHANNEL_WAITING);
		cr_assert_eq(cellos_channel_deadline(c), now + delay);
		now += delay;
		backoff = backoff * 2 > 1000 ? 1000 : backoff * 2;
	}
	return now;
}

Test(channel, missing_host_is_waited_for_with_growing_backoff)
{
	struct cellos_channel c;

	start(&c, "unix:s");
	refuse(&c, 10, 1000 * MS, 50);
	cr_assert_eq(c.error, ENOENT);
	cr_assert_eq(c.connections, 0);
	cellos_channel_close(&c);
	cr_assert_eq(c.state, CELLOS_CHANNEL_CLOSED);
	cr_assert_eq(cellos_channel_deadline(&c), UINT64_MAX);
	cr_assert_eq(cellos_channel_advance(&c, UINT64_MAX), CELLOS_CHANNEL_CLOSED);
}

Test(channel, jitter_follows_the_seed)
{
	uint64_t delays[3];

	for (unsigned i = 0; i < 3; i++) {
		struct cellos_address address = {.kind = CELLOS_ADDRESS_UNIX, .path = "s"};
		struct cellos_channel c;
		uint64_t now = 0;

		cellos_channel_init(&c, &address, i == 2 ? 1 : 99); /* 99, 99, 1 */
		for (unsigned n = 0; n < 8; n++) {
			(void)cellos_channel_advance(&c, now);
			now = cellos_channel_deadline(&c);
		}
		delays[i] = now;
	}
	cr_assert_eq(delays[0], delays[1]);
	cr_assert_neq(delays[0], delays[2]);
}

Test(channel, seed_0_is_as_good_as_any)
{
	struct cellos_address address = {.kind = CELLOS_ADDRESS_UNIX, .path = "s"};
	struct cellos_channel c;
	unsigned odd = 0;
	uint64_t now = 0;

	cellos_channel_init(&c, &address, 0);
	for (unsigned n = 0; n < 20; n++) {
		uint64_t before = now;

		(void)cellos_channel_advance(&c, now);
		now = cellos_channel_deadline(&c);
		odd += (now - before) % (25 * MS) != 0; /* no jitter: 25, 50, 100 .. 500 */
	}
	cr_assert_gt(odd, 0);
}

Test(channel, refused_by_a_socket_nobody_listens_on)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "s"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct cellos_channel c;

	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	start(&c, "unix:s");
	refuse(&c, 3, 0, 50);
	cr_assert_eq(c.error, ECONNREFUSED);
	close(fd);
}

Test(channel, full_backlog_counts_as_refused)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "s"};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0), peer;
	struct cellos_channel first, second;
	uint64_t now;

	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	cr_assert_eq(listen(fd, 0), 0);
	start(&first, "unix:s");
	cr_assert_eq(cellos_channel_advance(&first, 0), CELLOS_CHANNEL_OPEN);
	start(&second, "unix:s");
	now = refuse(&second, 5, 0, 50);
	cr_assert_eq(second.error, ECONNREFUSED);
	peer = accept(fd, NULL, NULL); /* one place in the backlog is free again */
	cr_assert_geq(peer, 0);
	cr_assert_eq(cellos_channel_advance(&second, now), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(second.connections, 1);
	cellos_channel_close(&first);
	cellos_channel_close(&second);
	close(peer);
	close(fd);
}

Test(channel, late_listener_is_found)
{
	struct cellos_listener l;
	struct cellos_channel c;
	uint64_t now;
	char back[8];
	int peer;

	start(&c, "unix:s");
	now = refuse(&c, 4, 0, 50);
	l = listen_here();
	cr_assert_eq(cellos_channel_advance(&c, now), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(c.connections, 1);
	cr_assert_eq(cellos_channel_deadline(&c), UINT64_MAX);
	cr_assert_eq(fcntl(c.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	cr_assert_eq(put(&c, "hello", 5, now), 5);
	peer = cellos_listener_accept(&l);
	cr_assert_eq(read(peer, back, sizeof(back)), 5);
	cr_assert_eq(memcmp(back, "hello", 5), 0);
	cellos_channel_close(&c);
	cr_assert_eq(read(peer, back, sizeof(back)), 0);
	close(peer);
	cellos_listener_close(&l);
}

/* AF_UNIX connects at once or not at all; TCP over loopback shows the way vsock goes. */
static int tcp(struct sockaddr_in *to, bool listening)
{
	socklen_t length = sizeof(*to);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	memset(to, 0, sizeof(*to));
	to->sin_family = AF_INET;
	to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	cr_assert_eq(bind(fd, (struct sockaddr *)to, sizeof(*to)), 0);
	cr_assert_eq(getsockname(fd, (struct sockaddr *)to, &length), 0);
	if (listening)
		cr_assert_eq(listen(fd, 1), 0);
	return fd;
}

static void connecting(struct cellos_channel *c, const struct sockaddr_in *to, uint64_t deadline)
{
	start(c, "unix:s");
	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	c->is_socket = true;
	c->state = CELLOS_CHANNEL_CONNECTING;
	c->deadline_ns = deadline;
	(void)connect(c->fd, (const struct sockaddr *)to, sizeof(*to));
}

static void await_settled(const struct cellos_channel *c)
{
	struct pollfd look = {.fd = c->fd, .events = POLLOUT};

	cr_assert_eq(poll(&look, 1, 20000), 1);
}

/* Connections that wait to be accepted. */
static unsigned waiting(int listener)
{
	struct tcp_info info;
	socklen_t length = sizeof(info);

	cr_assert_eq(getsockopt(listener, IPPROTO_TCP, TCP_INFO, &info, &length), 0);
	return info.tcpi_unacked;
}

Test(channel, connect_under_way_settles_either_way)
{
	struct sockaddr_in to;
	struct cellos_channel c;
	int fd = tcp(&to, true);

	connecting(&c, &to, 1000 * MS);
	await_settled(&c);
	cr_assert_eq(cellos_channel_advance(&c, 5), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(c.connections, 1);
	cellos_channel_close(&c);
	close(fd);

	fd = tcp(&to, false); /* bound, so that nobody else gets the port, and refusing */
	connecting(&c, &to, 1000 * MS);
	await_settled(&c);
	cr_assert_eq(cellos_channel_advance(&c, 5), CELLOS_CHANNEL_WAITING);
	cr_assert_eq(c.error, ECONNREFUSED);
	cr_assert_eq(c.connections, 0);
	close(fd);
}

Test(channel, connect_that_nobody_answers_ends_at_its_deadline)
{
	struct sockaddr_in to;
	int fd = tcp(&to, true), fill[2], n;
	struct cellos_channel c;

	/* A TCP backlog that is full, which is one more than asked for, drops the SYN: nobody
	   answers. */
	for (n = 0; n < 2; n++) {
		fill[n] = socket(AF_INET, SOCK_STREAM, 0);
		cr_assert_eq(connect(fill[n], (struct sockaddr *)&to, sizeof(to)), 0);
	}
	while (waiting(fd) < 2)
		sched_yield();
	connecting(&c, &to, 1000 * MS);
	cr_assert_eq(cellos_channel_deadline(&c), 1000 * MS);
	cr_assert_eq(cellos_channel_advance(&c, 999 * MS), CELLOS_CHANNEL_CONNECTING);
	cr_assert_eq(cellos_channel_advance(&c, 1000 * MS), CELLOS_CHANNEL_WAITING);
	cr_assert_eq(c.error, ETIMEDOUT);
	cr_assert_eq(c.fd, -1);
	while (n > 0)
		close(fill[--n]);
	close(fd);
}

Test(channel, backoff_is_forgiven_only_after_5_seconds)
{
	struct cellos_listener l = listen_here();
	struct cellos_channel c;
	uint64_t now = 0, delay;
	char byte = 0;

	start(&c, "unix:s");
	/* A host that accepts and falls over: as bad as one that refuses. */
	for (uint64_t backoff = 50; backoff <= 800; backoff *= 2) {
		cr_assert_eq(cellos_channel_advance(&c, now), CELLOS_CHANNEL_OPEN);
		close(cellos_listener_accept(&l));
		now += 4999 * MS;
		cr_assert_eq(put(&c, &byte, 1, now), -EPIPE);
		cr_assert_eq(c.state, CELLOS_CHANNEL_WAITING);
		cr_assert_eq(c.error, EPIPE);
		delay = cellos_channel_deadline(&c) - now;
		cr_assert(delay >= backoff * MS / 2 && delay <= backoff * MS);
		now += delay;
	}
	cr_assert_eq(cellos_channel_advance(&c, now), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(c.connections, 6);
	close(cellos_listener_accept(&l));
	now += 5000 * MS;
	cr_assert_eq(put(&c, &byte, 1, now), -EPIPE);
	delay = cellos_channel_deadline(&c) - now;
	cr_assert_leq(delay, 50 * MS);
	cellos_listener_close(&l);
}

/* ---- writing to a socket -------------------------------------------------------------------- */

/* A byte that says where in the stream it stands, so that a lost or doubled one shows. */
static unsigned char mark(uint64_t position)
{
	return (unsigned char)(position * 2654435761u >> 13);
}

static void check_marks(const unsigned char *bytes, size_t length, uint64_t position)
{
	for (size_t i = 0; i < length; i++)
		cr_assert_eq(bytes[i], mark(position + i), "byte %llu",
			     (unsigned long long)(position + i));
}

/*
 * Writes `total` marked bytes, in pieces of 1000 in several iovecs, against a reader that takes
 * `sip` bytes each time the channel is full. Ends when all is written and read.
 */
static void pump(struct cellos_channel *c, int reader, size_t total, size_t sip)
{
	unsigned char out[1000], in[65536];
	uint64_t written = 0, seen = 0;
	bool was_full = false;

	cr_assert_leq(sip, sizeof(in));
	while (written < total) {
		size_t want = total - written < sizeof(out) ? total - written : sizeof(out);
		struct iovec iov[3] = {{out, want / 3}, {out + want / 3, 0}, {out + want / 3, 0}};
		ssize_t n;

		iov[2].iov_len = want - want / 3;
		for (size_t i = 0; i < want; i++)
			out[i] = mark(written + i);
		n = cellos_channel_writev(c, iov, 3, 0);
		if (n == -EAGAIN) {
			cr_assert_eq(cellos_channel_deadline(c), UINT64_MAX);
			was_full = true;
			n = read(reader, in, sip);
			cr_assert_gt(n, 0);
			check_marks(in, (size_t)n, seen);
			seen += (uint64_t)n;
			continue;
		}
		cr_assert_gt(n, 0);
		written += (uint64_t)n;
	}
	cr_assert(was_full, "the reader was never slow");
	while (seen < total) {
		ssize_t n = read(reader, in, sizeof(in));

		cr_assert_gt(n, 0);
		check_marks(in, (size_t)n, seen);
		seen += (uint64_t)n;
	}
}

Test(channel, partial_writes_go_on_behind_a_slow_reader)
{
	struct cellos_listener l = listen_here();
	struct cellos_channel c;
	int peer;

	start(&c, "unix:s");
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	peer = cellos_listener_accept(&l);
	pump(&c, peer, 8 << 20, 777);
	close(peer);
	cellos_channel_close(&c);
	cellos_listener_close(&l);
}

Test(channel, one_large_write_is_taken_in_part)
{
	static char big[16 << 20];
	struct cellos_listener l = listen_here();
	struct cellos_channel c;
	ssize_t n;

	start(&c, "unix:s");
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	n = put(&c, big, sizeof(big), 0);
	cr_assert(n > 0 && (size_t)n < sizeof(big), "%zd", n);
	/* What the kernel holds for us is what the header says; the last piece may stand over. */
	cr_assert_leq((size_t)n, 2 * (size_t)CELLOS_CHANNEL_SEND_BUFFER_BYTES + 65536, "%zd", n);
	cr_assert_eq(put(&c, big, 1, 0), -EAGAIN);
	cr_assert_eq(c.state, CELLOS_CHANNEL_OPEN);
	cellos_channel_close(&c);
	cellos_listener_close(&l);
}

Test(channel, peer_that_closes_in_the_middle_is_come_back_to)
{
	static char big[1 << 20];
	struct cellos_listener l = listen_here();
	struct cellos_channel c;
	uint64_t now = 0;
	ssize_t n;
	int peer;

	signal(SIGPIPE, SIG_DFL); /* a socket must not raise it */
	start(&c, "unix:s");
	cr_assert_eq(cellos_channel_advance(&c, now), CELLOS_CHANNEL_OPEN);
	peer = cellos_listener_accept(&l);
	while ((n = put(&c, big, sizeof(big), now)) > 0)
		;
	cr_assert_eq(n, -EAGAIN);
	close(peer); /* with everything unread: EPIPE, or ECONNRESET first */
	n = put(&c, big, sizeof(big), now);
	cr_assert(n == -EPIPE || n == -ECONNRESET, "%zd", n);
	cr_assert_eq(c.state, CELLOS_CHANNEL_WAITING);
	cr_assert_eq(c.fd, -1);
	cr_assert_eq(put(&c, big, 1, now), -ENOTCONN);
	now = cellos_channel_deadline(&c);
	cr_assert_eq(cellos_channel_advance(&c, now), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(c.connections, 2);
	cr_assert_eq(put(&c, big, 1, now), 1);
	cellos_channel_close(&c);
	cellos_listener_close(&l);
}

/* ---- ending --------------------------------------------------------------------------------- */

static void *read_to_end(void *argument)
{
	int fd = *(int *)argument;
	char away[4096];
	size_t sum = 0;
	ssize_t n;

	while ((n = read(fd, away, sizeof(away))) > 0)
		sum += (size_t)n;
	/* Also says something before it goes: the agent reads it and forgets it. */
	(void)!write(fd, away, 100);
	close(fd);
	return (void *)(uintptr_t)sum;
}

static int open_pair(struct cellos_channel *c, struct cellos_listener *l)
{
	int peer;

	*l = listen_here();
	start(c, "unix:s");
	cr_assert_eq(cellos_channel_advance(c, 0), CELLOS_CHANNEL_OPEN);
	peer = cellos_listener_accept(l);
	cr_assert_geq(peer, 0);
	cr_assert_eq(fcntl(peer, F_SETFL, 0), 0); /* blocking, for the thread */
	return peer;
}

Test(channel, finish_waits_for_the_peers_end_of_file)
{
	struct cellos_listener l;
	struct cellos_channel c;
	int peer = open_pair(&c, &l);
	pthread_t reader;
	void *sum;

	cr_assert_eq(put(&c, "0123456789", 10, 0), 10);
	cr_assert_eq(pthread_create(&reader, NULL, read_to_end, &peer), 0);
	cr_assert_eq(cellos_channel_finish(&c, clock_ns() + 10000 * MS), 0);
	cr_assert_eq(c.state, CELLOS_CHANNEL_CLOSED);
	cr_assert_eq(c.fd, -1);
	cr_assert_eq(pthread_join(reader, &sum), 0);
	cr_assert_eq((uintptr_t)sum, 10);
	cr_assert_eq(cellos_channel_finish(&c, UINT64_MAX), -ENOTCONN);
	cellos_listener_close(&l);
}

Test(channel, finish_ends_at_its_deadline)
{
	struct cellos_listener l;
	struct cellos_channel c;
	int peer = open_pair(&c, &l);
	uint64_t before = clock_ns();

	cr_assert_eq(cellos_channel_finish(&c, before + 50 * MS), -ETIMEDOUT);
	cr_assert_geq(clock_ns() - before, 50 * MS);
	cr_assert_lt(clock_ns() - before, 5000 * MS);
	cr_assert_eq(c.state, CELLOS_CHANNEL_CLOSED);
	close(peer);
	cellos_listener_close(&l);
}

static atomic_int talking = 1;

static void *talk(void *argument)
{
	static const char nonsense[4096];

	while (talking && send(*(int *)argument, nonsense, sizeof(nonsense), MSG_NOSIGNAL) > 0)
		;
	return NULL;
}

Test(channel, finish_ends_at_its_deadline_with_a_peer_that_never_stops_talking)
{
	struct cellos_listener l;
	struct cellos_channel c;
	int peer = open_pair(&c, &l);
	pthread_t talker;

	cr_assert_eq(pthread_create(&talker, NULL, talk, &peer), 0);
	cr_assert_eq(cellos_channel_finish(&c, clock_ns() + 50 * MS), -ETIMEDOUT);
	talking = 0;
	cr_assert_eq(pthread_join(talker, NULL), 0);
	close(peer);
	cellos_listener_close(&l);
}

Test(channel, finish_tells_a_reset_from_an_end)
{
	struct cellos_listener l;
	struct cellos_channel c;
	int peer = open_pair(&c, &l);

	cr_assert_eq(put(&c, "unread", 6, 0), 6);
	close(peer);
	cr_assert_eq(cellos_channel_finish(&c, clock_ns() + 10000 * MS), -ECONNRESET);
	cellos_listener_close(&l);
}

/* ---- fd:N ----------------------------------------------------------------------------------- */

Test(channel, pipe_is_opened_anew_and_its_flags_left_alone)
{
	struct cellos_channel c;
	int p[2], flags;

	cr_assert_eq(pipe(p), 0);
	flags = fcntl(p[1], F_GETFL);
	cr_assert_eq(flags & O_NONBLOCK, 0);
	start_fd(&c, p[1]);
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	cr_assert_neq(c.fd, p[1]);
	cr_assert_eq(fcntl(c.fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	cr_assert_eq(fcntl(c.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	close(p[1]);
	pump(&c, p[0], 1 << 20, 4096);
	cr_assert_eq(cellos_channel_finish(&c, 0), 0);
	cr_assert_eq(read(p[0], &flags, 1), 0, "the reader sees the end");
	close(p[0]);
}

Test(channel, flags_stay_for_every_kind)
{
	int p[2], s[2], master, slave, file = open("f", O_RDWR | O_CREAT, 0600);

	cr_assert_eq(pipe(p), 0);
	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	cr_assert_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	int fds[] = {p[1], s[1], slave, master, file};

	for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
		int before = fcntl(fds[i], F_GETFL);
		struct cellos_channel c;

		start_fd(&c, fds[i]);
		cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN, "kind %zu", i);
		cr_assert_eq(put(&c, "x", 1, 0), 1, "kind %zu", i);
		cr_assert_eq(fcntl(c.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC, "kind %zu", i);
		cr_assert_gt(c.fd, 2, "kind %zu", i);
		cr_assert_eq(fcntl(fds[i], F_GETFL), before, "kind %zu", i);
		cellos_channel_close(&c);
		cr_assert_eq(fcntl(fds[i], F_GETFL), before, "kind %zu: the caller's was closed",
			     i);
	}
}

Test(channel, reader_that_leaves_a_pipe_ends_it_for_good)
{
	struct cellos_channel c;
	int p[2];

	cr_assert_eq(pipe(p), 0);
	start_fd(&c, p[1]);
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	close(p[0]);
	cr_assert_eq(put(&c, "x", 1, 0), -EPIPE);
	cr_assert_eq(c.state, CELLOS_CHANNEL_GONE);
	cr_assert_eq(c.error, EPIPE);
	cr_assert_eq(cellos_channel_deadline(&c), UINT64_MAX);
	cr_assert_eq(cellos_channel_advance(&c, UINT64_MAX), CELLOS_CHANNEL_GONE);
	close(p[1]);
}

Test(channel, pipe_without_a_reader_from_the_start)
{
	struct cellos_channel c;
	int p[2];

	cr_assert_eq(pipe(p), 0);
	close(p[0]);
	start_fd(&c, p[1]);
	/* Opening it anew fails, so it is polled before each write; the write then tells. */
	if (cellos_channel_advance(&c, 0) == CELLOS_CHANNEL_OPEN)
		cr_assert_eq(put(&c, "x", 1, 0), -EPIPE);
	cr_assert_eq(c.state, CELLOS_CHANNEL_GONE);
	close(p[1]);
}

/* What stays when /proc cannot be had: a blocking description, written only as far as surely fits.
 */
Test(channel, pipe_that_cannot_be_opened_anew_never_blocks)
{
	struct cellos_channel c;
	int p[2];

	cr_assert_eq(pipe(p), 0);
	start_fd(&c, p[1]);
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	close(c.fd);
	c.fd = fcntl(p[1], F_DUPFD_CLOEXEC, 3);
	c.piece_limit = 4096;
	alarm(60); /* a write that blocks ends the test */
	pump(&c, p[0], 1 << 20, 999);
	alarm(0);
	cellos_channel_close(&c);
	close(p[0]);
	close(p[1]);
}

Test(channel, terminal_without_a_reader_is_waited_for)
{
	static char line[4096];
	struct cellos_channel c;
	int master, slave, way;
	struct termios raw;
	ssize_t n = 0;

	/* Both ways: opened anew, and, for the master, polled before each write. */
	for (way = 0; way < 2; way++) {
		cr_assert_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
		cr_assert_eq(tcgetattr(slave, &raw), 0);
		cfmakeraw(&raw);
		cr_assert_eq(tcsetattr(slave, TCSANOW, &raw), 0);
		start_fd(&c, way == 0 ? slave : master);
		alarm(60);
		cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
		for (int i = 0; i < 1000 && (n = put(&c, line, sizeof(line), 0)) > 0; i++)
			;
		alarm(0);
		cr_assert_eq(n, -EAGAIN);
		cellos_channel_close(&c);
		close(master);
		close(slave);
	}
}

Test(channel, terminals_master_is_not_opened_anew)
{
	struct pollfd look = {.events = POLLIN};
	struct cellos_channel c;
	int master, slave;
	char byte = 0;

	cr_assert_eq(openpty(&master, &slave, NULL, NULL, NULL), 0);
	look.fd = slave;
	start_fd(&c, master); /* /dev/ptmx anew would be another terminal */
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(put(&c, "\n", 1, 0), 1);
	/* A worker of the kernel's takes it over, when it gets to it. */
	cr_assert_eq(poll(&look, 1, 20000), 1);
	cr_assert_eq(read(slave, &byte, 1), 1);
	cr_assert_eq(byte, '\n');
	cellos_channel_close(&c);
	close(master);
	close(slave);
}

Test(channel, socketpair_is_written_without_blocking)
{
	struct cellos_channel c;
	int s[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	signal(SIGPIPE, SIG_DFL);
	start_fd(&c, s[1]);
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	alarm(60);
	pump(&c, s[0], 1 << 20, 1000);
	alarm(0);
	close(s[0]);
	cr_assert_eq(put(&c, "x", 1, 0), -EPIPE);
	cr_assert_eq(c.state, CELLOS_CHANNEL_GONE);
	close(s[1]);
}

Test(channel, regular_file_takes_everything_where_it_stands)
{
	int fd = open("f", O_RDWR | O_CREAT, 0600);
	struct cellos_channel c;
	char back[16] = {0};

	cr_assert_eq(write(fd, "before ", 7), 7);
	start_fd(&c, fd);
	cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(put(&c, "after", 5, 0), 5);
	cr_assert_eq(cellos_channel_finish(&c, 0), 0);
	cr_assert_eq(pread(fd, back, sizeof(back), 0), 12);
	cr_assert_str_eq(back, "before after");
	close(fd);
}

Test(channel, full_disk_is_waited_for_by_the_clock)
{
	int fd = open("/dev/full", O_WRONLY);
	struct cellos_channel c;
	uint64_t retry;

	cr_assert_geq(fd, 0);
	start_fd(&c, fd);
	cr_assert_eq(cellos_channel_advance(&c, 1000), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(cellos_channel_deadline(&c), UINT64_MAX);
	cr_assert_eq(put(&c, "x", 1, 1000), -EAGAIN);
	cr_assert_eq(c.state, CELLOS_CHANNEL_OPEN);
	retry = cellos_channel_deadline(&c);
	cr_assert(retry > 1000 && retry <= 1000 + 1000 * MS);
	cr_assert_eq(cellos_channel_advance(&c, retry - 1), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(cellos_channel_deadline(&c), retry);
	cr_assert_eq(cellos_channel_advance(&c, retry), CELLOS_CHANNEL_OPEN);
	cr_assert_eq(cellos_channel_deadline(&c), UINT64_MAX, "the time to try again has come");
	/* There is room again. */
	cr_assert_eq(put(&c, "x", 1, retry), -EAGAIN);
	int null = open("/dev/null", O_WRONLY);
	cr_assert_eq(dup2(null, c.fd), c.fd);
	cr_assert_eq(put(&c, "x", 1, retry), 1);
	cr_assert_eq(cellos_channel_deadline(&c), UINT64_MAX);
	cellos_channel_close(&c);
	close(null);
	close(fd);
}

Test(channel, descriptors_that_cannot_be_channels)
{
	int p[2], dgram = socket(AF_UNIX, SOCK_DGRAM, 0), dir = open(".", O_RDONLY | O_DIRECTORY);

	cr_assert_eq(pipe(p), 0);
	const struct {
		int fd, error;
	} table[] = {{999, EBADF},
		     {p[0], EBADF},
		     {open("/dev/full", O_RDONLY), EBADF},
		     {open("/dev/null", O_PATH), EBADF},
		     {dir, EBADF},
		     {dgram, EPROTOTYPE}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct cellos_channel c;

		start_fd(&c, table[i].fd);
		cr_assert_eq(cellos_channel_advance(&c, 0), CELLOS_CHANNEL_GONE, "row %zu", i);
		cr_assert_eq(c.error, table[i].error, "row %zu: %d", i, c.error);
		cr_assert_eq(c.connections, 0);
		cellos_channel_close(&c);
	}
}

Test(channel, close_is_harmless_on_a_zeroed_struct)
{
	struct cellos_channel c;

	memset(&c, 0, sizeof(c));
	cellos_channel_close(&c);
	cr_assert_neq(fcntl(0, F_GETFD), -1, "descriptor 0 was closed");
}
