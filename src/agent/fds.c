/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Descriptors of our own; fds.h says why.
 *
 * Invariant: nothing here blocks longer than the deadline it is given.
 * Refuses: to change a flag of a description that somebody else may hold.
 */
#include "fds.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

int fd_keep(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 3);

	return copy < 0 ? -errno : copy;
}

int fd_own(int fd)
{
	char path[32];
	struct stat status;
	int copy;

	if (fstat(fd, &status) < 0)
		return -errno;
	if (S_ISSOCK(status.st_mode))
		return fd_keep(fd);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	/* O_APPEND: a file keeps what stands in it, wherever the other description's offset is. */
	copy = open(path, O_WRONLY | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	/* Above 2, for those are never closed. No /proc, or no right to open it: share it, and poll
	 * before each write. */
	return copy >= 0 ? copy : fd_keep(fd);
}

uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

int fd_offer(int fd, const char *text, size_t length, uint64_t deadline_ns)
{
	struct pollfd waiting = {.fd = fd, .events = POLLOUT};

	while (length > 0) {
		uint64_t now = clock_ns();
		uint64_t left = deadline_ns > now ? (deadline_ns - now + 999999) / 1000000 : 0;
		ssize_t written = -1;

		errno = EAGAIN;
		/* A shared description may be a blocking one: poll says whether a write would
		 * block, roughly. */
		if (poll(&waiting, 1, left > 60000 ? 60000 : (int)left) != 0)
			written = send(fd, text, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (written < 0 && errno == ENOTSOCK)
			written = write(fd, text, length);
		if (written >= 0) {
			text += written;
			length -= (size_t)written;
		} else if (errno != EINTR && (errno != EAGAIN || clock_ns() >= deadline_ns)) {
			return -errno;
		}
	}
	return 0;
}

int fd_fill_standard(void)
{
	int fd;

	do {
		fd = open("/dev/null", O_RDWR);
		if (fd < 0)
			return -errno;
	} while (fd <= 2);
	close(fd);
	return 0;
}

int fd_silence_standard(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int result = 0;

	if (null < 0)
		return -errno;
	for (int fd = 0; fd <= 2; fd++)
		if (dup2(null, fd) < 0)
			result = -errno;
	close(null);
	return result;
}
