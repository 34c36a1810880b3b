/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The other end of the control socket; ctl.h has the protocol. One thread; it waits for the
 * receiver as long as that takes.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "ctl.h"

static int connect_to(const char *path)
{
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	memcpy(name.sun_path, path, strlen(path) + 1);
	if (connect(fd, (const struct sockaddr *)&name, sizeof(name)) == 0)
		return fd;
	int status = -errno;

	(void)close(fd);
	return status;
}

static int send_all(int fd, const char *text, size_t length)
{
	while (length > 0) {
		ssize_t n = send(fd, text, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		text += n;
		length -= (size_t)n;
	}
	return 0;
}

static int send_command(int fd, const struct host_options *options)
{
	char *request;
	int length, status;

	if (options->command_count == 1)
		length = asprintf(&request, "%s\n", options->command[0]);
	else
		length = asprintf(&request, "%s %s\n", options->command[0], options->command[1]);
	if (length < 0)
		return -ENOMEM;
	/* A document may be written over several lines; the request is one. */
	for (int i = 0; i + 1 < length; i++)
		if (request[i] == '\n')
			request[i] = ' ';
	status = send_all(fd, request, (size_t)length);
	free(request);
	return status;
}

/*
 * 0, 1 when the answer says "error", or -errno of the connection; *written is false when standard
 * output did not take it. A receiver that hangs up has said nothing, or half of it.
 */
static int copy_answer(int fd, bool may_be_empty, bool *written)
{
	static const char refusal[] = "{\"error\":";
	char buffer[16384], last = '\n';
	size_t total = 0;
	int result = 0;
	ssize_t n;

	while ((n = recv(fd, buffer, sizeof(buffer), 0)) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		/* A list has no such line, and a refusal is shorter than one buffer. */
		if (total == 0 && (size_t)n >= sizeof(refusal) - 1 &&
		    memcmp(buffer, refusal, sizeof(refusal) - 1) == 0)
			result = 1;
		total += (size_t)n;
		last = buffer[n - 1];
		if (fwrite(buffer, 1, (size_t)n, stdout) != (size_t)n)
			*written = false;
	}
	*written = *written && fflush(stdout) == 0;
	return last == '\n' && (total > 0 || may_be_empty) ? result : -ECONNABORTED;
}

int host_ctl_command(const struct host_options *options, const char **what)
{
	bool written = true;
	int fd = connect_to(options->ctl.path), status;

	*what = "connect to";
	if (fd < 0)
		return fd;
	status = send_command(fd, options);
	if (status == 0)
		status = copy_answer(fd, options->command_count == 1, &written);
	(void)close(fd);
	*what = written ? "talk to" : "write";
	return written ? status : -EIO;
}
