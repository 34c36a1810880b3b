/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The listening side against real socket files. Each test has a folder of its own to stand in.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cellos/transport.h"

static char folder[64];

static void setup(void)
{
	snprintf(folder, sizeof(folder), "/tmp/cellos-listener-XXXXXX");
	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(chdir(folder), 0);
}

static void teardown(void)
{
	(void)unlink("s");
	cr_assert_eq(chdir("/"), 0);
	cr_assert_eq(rmdir(folder), 0, "something was left in %s", folder);
}

TestSuite(listener, .init = setup, .fini = teardown);

static struct cellos_address at(const char *text)
{
	struct cellos_address address;
	const char *why;

	cr_assert_eq(cellos_listen_address_parse(text, &address, &why), 0, "%s: %s", text, why);
	return address;
}

static int dial(int type)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX, .sun_path = "s"};
	int fd = socket(AF_UNIX, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	cr_assert_geq(fd, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) == 0)
		return fd;
	int error = errno;
	close(fd);
	return -error;
}

/* A socket file whose socket is gone, as a killed receiver leaves it. */
static void leave_stale(int type)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "s"};
	int fd = socket(AF_UNIX, type, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	close(fd);
	cr_assert_eq(access("s", F_OK), 0);
}

Test(listener, listens_accepts_and_removes_its_file)
{
	struct cellos_address address = at("unix:s");
	struct cellos_listener l;
	int fd, peer;

	cr_assert_eq(cellos_listener_open(&l, &address, NULL), 0);
	cr_assert_eq(fcntl(l.fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	cr_assert_eq(cellos_listener_accept(&l), -EAGAIN, "accept does not wait");
	peer = dial(SOCK_STREAM);
	cr_assert_geq(peer, 0);
	fd = cellos_listener_accept(&l);
	cr_assert_geq(fd, 0);
	cr_assert_eq(fcntl(fd, F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	cr_assert_eq(fcntl(fd, F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
	cellos_listener_close(&l);
	cellos_listener_close(&l);
	cr_assert_eq(access("s", F_OK), -1);
	close(fd);
	close(peer);
}

Test(listener, takes_a_full_backlog_before_anybody_accepts)
{
	struct cellos_address address = at("unix:s");
	struct cellos_listener l;
	int n = 0, fds[4 * CELLOS_LISTEN_BACKLOG];

	cr_assert_eq(cellos_listener_open(&l, &address, NULL), 0);
	while (n < 4 * CELLOS_LISTEN_BACKLOG && (fds[n] = dial(SOCK_STREAM)) >= 0)
		n++;
	cr_assert_geq(n, CELLOS_LISTEN_BACKLOG);
	cr_assert_lt(n, 2 * CELLOS_LISTEN_BACKLOG);
	cellos_listener_close(&l);
	while (n > 0)
		close(fds[--n]);
}

Test(listener, mode_is_0600_whatever_the_umask)
{
	static const mode_t masks[] = {0, 022, 0777};
	struct cellos_address address = at("unix:s");

	for (size_t i = 0; i < sizeof(masks) / sizeof(masks[0]); i++) {
		struct cellos_listener l;
		struct stat st;

		umask(masks[i]);
		cr_assert_eq(cellos_listener_open(&l, &address, NULL), 0);
		cr_assert_eq(lstat("s", &st), 0);
		/* A mask takes away, as everywhere; nothing but the owner's bits is ever given. */
		cr_assert_eq(st.st_mode & 07777, 0600 & ~masks[i], "umask %o: %o", masks[i],
			     st.st_mode);
		cellos_listener_close(&l);
	}
}

Test(listener, file_is_given_away)
{
	struct cellos_address address = at("unix:s");
	struct cellos_socket_owner owner = {.set = true, .uid = 12345, .gid = 54321};
	struct cellos_listener l;
	struct stat st;

	if (geteuid() != 0) {
		owner.uid = geteuid();
		owner.gid = getegid();
	}
	cr_assert_eq(cellos_listener_open(&l, &address, &owner), 0);
	cr_assert_eq(lstat("s", &st), 0);
	cr_assert_eq(st.st_uid, owner.uid);
	cr_assert_eq(st.st_gid, owner.gid);
	cr_assert_eq(st.st_mode & 07777, 0600);
	cellos_listener_close(&l);
}

Test(listener, owner_that_cannot_be_set_leaves_nothing_behind)
{
	struct cellos_address address = at("unix:s");
	struct cellos_socket_owner owner = {.set = true, .uid = 0, .gid = 0};
	struct cellos_listener l;
	int status = -1;
	pid_t child;

	cr_assert_eq(chmod(".", 0777), 0);
	child = fork(); /* a plain user must not give files to root */
	if (child == 0) {
		if (geteuid() == 0 && setuid(65534) != 0)
			_exit(2);
		_exit(cellos_listener_open(&l, &address, &owner) == -EPERM && l.fd == -1 ? 0 : 1);
	}
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(status, 0);
	cr_assert_eq(access("s", F_OK), -1);
}

Test(listener, stale_socket_is_replaced)
{
	static const int types[] = {SOCK_STREAM, SOCK_DGRAM, SOCK_SEQPACKET};
	struct cellos_address address = at("unix:s");

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct cellos_listener l;
		int peer;

		leave_stale(types[i]);
		cr_assert_eq(cellos_listener_open(&l, &address, NULL), 0);
		peer = dial(SOCK_STREAM);
		cr_assert_geq(peer, 0);
		close(peer);
		cellos_listener_close(&l);
		cr_assert_eq(access("s", F_OK), -1);
	}
}

Test(listener, live_socket_is_an_error_and_notices_nothing)
{
	struct cellos_address address = at("unix:s");
	struct cellos_listener first, second;

	cr_assert_eq(cellos_listener_open(&first, &address, NULL), 0);
	cr_assert_eq(cellos_listener_open(&second, &address, NULL), -EADDRINUSE);
	cr_assert_eq(second.fd, -1);
	cr_assert_eq(cellos_listener_accept(&first), -EAGAIN, "the question reached its owner");
	cr_assert_geq(dial(SOCK_STREAM), 0, "the live socket lost its name");
	cellos_listener_close(&first);
}

Test(listener, live_socket_with_a_full_backlog_or_of_another_type_is_live)
{
	static const int types[] = {SOCK_STREAM, SOCK_SEQPACKET, SOCK_DGRAM};
	struct cellos_address address = at("unix:s");

	for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
		struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "s"};
		int fd = socket(AF_UNIX, types[i], 0), fds[8], n = 0;
		struct cellos_listener l;

		cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
		if (types[i] != SOCK_DGRAM) {
			cr_assert_eq(listen(fd, 0), 0);
			while (n < 8 && (fds[n] = dial(types[i])) >= 0)
				n++;
			cr_assert_lt(n, 8);
		}
		cr_assert_eq(cellos_listener_open(&l, &address, NULL), -EADDRINUSE);
		cr_assert_eq(access("s", F_OK), 0);
		while (n > 0)
			close(fds[--n]);
		close(fd);
		unlink("s");
	}
}

Test(listener, bound_but_not_listening_yet_is_live)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX, .sun_path = "s"};
	struct cellos_address address = at("unix:s");
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct cellos_listener l;

	cr_assert_eq(bind(fd, (struct sockaddr *)&name, sizeof(name)), 0);
	cr_assert_eq(cellos_listener_open(&l, &address, NULL), -EADDRINUSE);
	close(fd);
}

Test(listener, file_that_is_no_socket_is_left_alone)
{
	struct cellos_address address = at("unix:s");
	struct cellos_listener l;
	struct stat before, after;
	int fd = open("s", O_WRONLY | O_CREAT, 0644);

	cr_assert_eq(write(fd, "precious", 8), 8);
	cr_assert_eq(fstat(fd, &before), 0);
	close(fd);
	cr_assert_eq(cellos_listener_open(&l, &address, NULL), -EEXIST);
	cr_assert_eq(lstat("s", &after), 0);
	cr_assert_eq(after.st_ino, before.st_ino);
	cr_assert_eq(after.st_size, 8);
	cr_assert_eq(after.st_mode, before.st_mode);
	unlink("s");

	cr_assert_eq(symlink("/dev/null", "s"), 0);
	cr_assert_eq(cellos_listener_open(&l, &address, NULL), -EEXIST);
	cr_assert_eq(lstat("s", &after), 0);
	cr_assert(S_ISLNK(after.st_mode));
	unlink("s");

	cr_assert_eq(mkdir("s", 0755), 0);
	cr_assert_eq(cellos_listener_open(&l, &address, NULL), -EEXIST);
	cr_assert_eq(rmdir("s"), 0);
}

Test(listener, a_file_that_is_not_ours_any_more_stays)
{
	struct cellos_address address = at("unix:s");
	struct cellos_listener first, second;

	cr_assert_eq(cellos_listener_open(&first, &address, NULL), 0);
	cr_assert_eq(unlink("s"), 0);
	cr_assert_eq(cellos_listener_open(&second, &address, NULL), 0);
	cellos_listener_close(&first);
	cr_assert_eq(access("s", F_OK), 0, "the newcomer's file was removed");
	cellos_listener_close(&second);
	cr_assert_eq(access("s", F_OK), -1);
}

Test(listener, a_locked_folder_is_not_waited_for_for_ever)
{
	struct cellos_address address = at("unix:s");
	int fd = open(".", O_RDONLY | O_DIRECTORY);
	struct cellos_listener l;

	cr_assert_eq(flock(fd, LOCK_EX), 0);
	leave_stale(SOCK_STREAM);
	cr_assert_eq(cellos_listener_open(&l, &address, NULL), -EBUSY);
	cr_assert_eq(access("s", F_OK), 0);
	close(fd);
	cr_assert_eq(cellos_listener_open(&l, &address, NULL), 0);
	cellos_listener_close(&l);
}

static void race(const struct cellos_address *address, int go, int done)
{
	struct cellos_listener l;
	char byte;

	if (read(go, &byte, 1) != 0) /* all begin at the end of file */
		_exit(1);
	byte = cellos_listener_open(&l, address, NULL) == 0 ? 'y' : 'n';
	if (write(done, &byte, 1) != 1)
		_exit(1);
	for (;;)
		pause(); /* the winner keeps its socket until all have tried */
}

/* Of many that start at once over one stale file exactly one wins, and it is the one that lives. */
Test(listener, one_winner_over_a_stale_file)
{
	enum { RACERS = 8, ROUNDS = 40 };
	struct cellos_address address = at("unix:s");

	for (int round = 0; round < ROUNDS; round++) {
		int go[2], done[2], winners = 0;
		pid_t racers[RACERS];
		char answer;

		leave_stale(SOCK_STREAM);
		cr_assert_eq(pipe(go), 0);
		cr_assert_eq(pipe(done), 0);
		for (int i = 0; i < RACERS; i++) {
			racers[i] = fork();
			if (racers[i] == 0) {
				close(go[1]);
				race(&address, go[0], done[1]);
			}
		}
		close(go[0]);
		close(go[1]);
		for (int i = 0; i < RACERS; i++) {
			cr_assert_eq(read(done[0], &answer, 1), 1);
			winners += answer == 'y';
		}
		cr_assert_eq(winners, 1, "round %d: %d winners", round, winners);
		cr_assert_geq(dial(SOCK_STREAM), 0, "the winner cannot be reached");
		for (int i = 0; i < RACERS; i++) {
			kill(racers[i], SIGKILL);
			waitpid(racers[i], NULL, 0);
		}
		close(done[0]);
		close(done[1]);
		unlink("s");
	}
}

Test(listener, folder_that_is_not_there)
{
	struct cellos_address address = at("unix:nowhere/s");
	struct cellos_listener l;

	cr_assert_eq(cellos_listener_open(&l, &address, NULL), -ENOENT);
	cr_assert_eq(l.fd, -1);
	cellos_listener_close(&l);
}

Test(listener, an_fd_address_cannot_be_listened_on)
{
	struct cellos_address address = {.kind = CELLOS_ADDRESS_FD, .fd = 1};
	struct cellos_listener l;

	cr_assert_eq(cellos_listener_open(&l, &address, NULL), -EINVAL);
}
