/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* Descriptors, lines and one output buffer; io.h has the contract. */
#include "io.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

/* True when the call is to be made again: interrupted, or waited for a non-blocking descriptor. */
static bool again(int fd, short events)
{
	struct pollfd wait = {.fd = fd, .events = events};

	if (errno == EINTR)
		return true;
	if (errno != EAGAIN && errno != EWOULDBLOCK)
		return false;
	return poll(&wait, 1, -1) >= 0 || errno == EINTR;
}

long input_read(int fd, void *bytes, size_t length)
{
	ssize_t got;

	do {
		got = read(fd, bytes, length);
	} while (got < 0 && again(fd, POLLIN));
	return got < 0 ? -errno : got;
}

int output_flush(struct output *output)
{
	size_t at = 0;
	int status = 0;

	while (status == 0 && at < output->length) {
		ssize_t put = write(output->fd, output->data + at, output->length - at);

		if (put >= 0)
			at += (size_t)put;
		else if (!again(output->fd, POLLOUT))
			status = -errno;
	}
	output->length = 0; /* also after a failure: it is told once, and not tried again */
	return status;
}

int output_room(struct output *output, size_t length)
{
	if (OUTPUT_BYTES - output->length >= length)
		return 0;
	return output_flush(output);
}

/* Moves the rest to the front and reads behind it. 1, 0 at the end, or an error. */
static int refill(struct line_reader *reader)
{
	long got;

	memmove(reader->data, reader->data + reader->from, reader->to - reader->from);
	reader->to -= reader->from;
	reader->from = 0;
	got = input_read(reader->fd, reader->data + reader->to, LINE_MAX_BYTES + 1 - reader->to);
	if (got < 0)
		return (int)got;
	reader->ended = got == 0;
	reader->to += (size_t)got;
	return got > 0;
}

/* A line too long for the buffer: drop what is there until its newline has been dropped too. */
static int skip_line(struct line_reader *reader)
{
	char *newline = NULL;
	int status = 1;

	while (newline == NULL && status > 0) {
		reader->from = reader->to;
		status = refill(reader);
		newline = memchr(reader->data, '\n', reader->to);
	}
	if (newline != NULL)
		reader->from = (size_t)(newline - reader->data) + 1;
	return status < 0 ? status : -EMSGSIZE;
}

bool line_reader_ready(const struct line_reader *reader)
{
	return memchr(reader->data + reader->from, '\n', reader->to - reader->from) != NULL;
}

int line_reader_next(struct line_reader *reader, char **line, size_t *length)
{
	char *newline, *start;
	int status;

	for (;;) {
		start = reader->data + reader->from;
		newline = memchr(start, '\n', reader->to - reader->from);
		if (newline != NULL || reader->ended)
			break;
		if (reader->to - reader->from > LINE_MAX_BYTES) {
			reader->number++;
			return skip_line(reader);
		}
		status = refill(reader);
		if (status < 0)
			return status;
	}
	if (newline == NULL && reader->from == reader->to)
		return 0;
	if (newline == NULL)
		newline = reader->data + reader->to; /* the last line, without one */
	*newline = 0;
	*line = start;
	*length = (size_t)(newline - start);
	reader->from += *length + (reader->from + *length < reader->to);
	reader->number++;
	return 1;
}
