/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The workload whose agent is measured: gives every probe something to tell.
 *
 *     work FOLDER WATCHED COUNT
 *
 * COUNT short processes, one after the other: each is refused two connections and two names, makes
 * a file in WATCHED and removes it. Then it asks (FIFOs FOLDER/ask and FOLDER/answer), and ends
 * in 7.
 *
 * One thread. Refuses to: go on when something that must work does not (exit 1).
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "../matrix/line.h"

#define WHOLE_COURSE 7

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "work: cannot %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void be_refused(void)
{
	const struct sockaddr_in nobody = {.sin_family = AF_INET,
					   .sin_port = htons(9),
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&nobody, sizeof(nobody)) == 0 ||
	    errno != ECONNREFUSED)
		fail("be refused a connection");
	close(fd);
	if (sethostname("x", 1) == 0 || errno != EPERM)
		fail("be refused a name");
}

static _Noreturn void be_short(const char *watched)
{
	char path[128];

	be_refused();
	snprintf(path, sizeof(path), "%s/%d", watched, getpid());
	if (mknod(path, S_IFREG | 0600, 0) < 0 || unlink(path) < 0)
		fail("make a watched file");
	_exit(0);
}

static int open_end(const char *folder, const char *name, int how)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	fd = open(path, how | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	return fd;
}

int main(int argc, char **argv)
{
	unsigned count = argc != 4 ? 0 : (unsigned)strtoul(argv[3], NULL, 10);
	char line[LINE_BYTES];
	int status, ask;

	if (count == 0) {
		fprintf(stderr, "usage: work FOLDER WATCHED COUNT\n");
		return 2;
	}
	while (count-- > 0) {
		pid_t pid = fork();

		if (pid == 0)
			be_short(argv[2]);
		if (waitpid(pid, &status, 0) != pid || status != 0)
			fail("have a child that ends as it should");
	}
	ask = open_end(argv[1], "ask", O_WRONLY);
	if (write_line(ask, "done") < 0 ||
	    read_line(open_end(argv[1], "answer", O_RDONLY), line) != 1)
		fail("ask");
	return WHOLE_COURSE;
}
