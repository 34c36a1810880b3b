/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The output's buffer and its writing; output.h says what holds.
 *
 * Standard output's open file description belongs to others too, so its O_NONBLOCK is left alone: a
 * pipe or terminal is opened anew, a socket is written with MSG_DONTWAIT. Where opening anew is
 * not allowed the write blocks, and with it the receiver, until the reader reads: nothing is lost.
 */
#include "output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"

_Static_assert(HOST_OUTPUT_ROOM_BYTES < HOST_OUTPUT_BYTES, "an empty buffer has room");

static int adopt_stdout(struct host_output *output)
{
	int flags = fcntl(STDOUT_FILENO, F_GETFL), fd;
	struct stat st;

	output->fd = STDOUT_FILENO;
	if (flags < 0 || fstat(STDOUT_FILENO, &st) < 0)
		return -errno;
	if ((flags & O_ACCMODE) == O_RDONLY)
		return -EBADF;
	output->is_socket = S_ISSOCK(st.st_mode);
	if (!S_ISFIFO(st.st_mode) && !isatty(STDOUT_FILENO))
		return 0;
	fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
	if (fd >= 0) {
		output->fd = fd;
		output->own_fd = true;
	}
	return 0;
}

int host_output_init_buffer(struct host_output *output)
{
	memset(output, 0, sizeof(*output));
	output->fd = -1;
	output->watch_fd = -1;
	output->name = "the buffer";
	output->memory = malloc(HOST_OUTPUT_BYTES);
	if (output->memory == NULL)
		return -ENOMEM;
	cellos_json_init(&output->line, output->memory, HOST_OUTPUT_BYTES);
	return 0;
}

/*
 * A receiver that was killed in the middle of a write may have left half a line. It is ended here,
 * so that the next one stands on its own; nothing that was written is taken away.
 */
static int end_cut_line(const struct host_output *output, const char *path)
{
	char last = '\n';
	struct stat st;
	int fd;

	if (fstat(output->fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size == 0)
		return 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == EACCES ? 0 : -errno; /* ours to append to, and not to read */
	(void)!pread(fd, &last, 1, st.st_size - 1);
	(void)close(fd);
	return last == '\n' || write(output->fd, "\n", 1) == 1 ? 0 : -errno;
}

int host_output_init(struct host_output *output, const char *path)
{
	int status = host_output_init_buffer(output);

	output->name = path != NULL ? path : "standard output";
	if (status < 0)
		return status;
	if (path == NULL)
		return adopt_stdout(output);
	/* Appended: a receiver that is started again goes on where the last one stopped. */
	output->fd =
		open(path, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK | O_CLOEXEC | O_NOCTTY, 0640);
	if (output->fd < 0)
		return -errno;
	output->own_fd = true;
	return end_cut_line(output, path);
}

void host_output_destroy(struct host_output *output)
{
	if (output->own_fd)
		(void)close(output->fd);
	if (output->watch_fd >= 0)
		(void)close(output->watch_fd);
	output->own_fd = false;
	output->fd = -1;
	output->watch_fd = -1;
	free(output->memory);
	output->memory = NULL;
}

bool host_output_has_room(const struct host_output *output)
{
	return HOST_OUTPUT_BYTES - output->line.length >= HOST_OUTPUT_ROOM_BYTES;
}

static ssize_t write_once(const struct host_output *output, const char *data, size_t length)
{
	ssize_t n;

	do {
		if (output->is_socket)
			n = send(output->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
		else
			n = write(output->fd, data, length);
	} while (n < 0 && errno == EINTR);
	return n >= 0 ? n : -errno;
}

int host_output_watch(struct host_output *output)
{
	struct epoll_event event = {.events = EPOLLOUT};
	int status;

	if (output->watch_fd >= 0)
		return output->watch_fd;
	output->watch_fd = epoll_create1(EPOLL_CLOEXEC);
	if (output->watch_fd < 0)
		return -errno;
	if (epoll_ctl(output->watch_fd, EPOLL_CTL_ADD, output->fd, &event) == 0)
		return output->watch_fd;
	status = -errno;
	(void)close(output->watch_fd);
	output->watch_fd = -1;
	return status;
}

void host_output_drop(struct host_output *output)
{
	output->line.length = 0;
	output->written = 0;
}

/*
 * What is left moves to the front, but only when that is the smaller part: a pipe that takes a page
 * at a time would otherwise have the whole buffer moved for each.
 */
static void compact(struct host_output *output)
{
	size_t left = host_output_pending(output);

	if (left > output->written)
		return;
	memmove(output->line.data, output->line.data + output->written, left);
	output->line.length = left;
	output->written = 0;
}

int host_output_flush(struct host_output *output)
{
	struct cellos_json_line *line = &output->line;
	ssize_t n = 0;

	if (output->error != 0)
		return -output->error;
	while (output->written < line->length) {
		n = write_once(output, line->data + output->written, host_output_pending(output));
		if (n < 0)
			break;
		output->written += (size_t)n;
	}
	/* On an error what is out stays where it is: the caller may want to see which lines those
	 * were. */
	if (n >= 0 || n == -EAGAIN)
		compact(output);
	if (n < 0 && n != -EAGAIN && n != -ENOSPC && n != -EDQUOT)
		output->error = (int)-n;
	return n < 0 ? (int)n : 0;
}

static int wait_until(struct host_output *output, uint64_t deadline)
{
	struct pollfd look = {.fd = output->fd, .events = POLLOUT};
	uint64_t now = host_now_ms();

	if (now >= deadline)
		return -ETIMEDOUT;
	(void)poll(&look, 1, (int)(deadline - now));
	return 0;
}

int host_output_finish(struct host_output *output, unsigned limit_ms)
{
	const uint64_t deadline = host_now_ms() + limit_ms;
	int status;

	while ((status = host_output_flush(output)) == -EAGAIN)
		if ((status = wait_until(output, deadline)) < 0)
			break;
	return status;
}
