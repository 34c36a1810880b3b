/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The output against real pipes, sockets and files: nothing blocks, nothing is lost or doubled, and
 * an error stays.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "output.h"

static void setup(void)
{
	signal(SIGPIPE, SIG_IGN);
	alarm(60); /* a write that blocks ends the test */
}

TestSuite(output, .init = setup);

/* Standard output becomes `fd` for a while; Criterion has its own. */
static int swap_stdout(int fd)
{
	int kept = dup(STDOUT_FILENO);

	fflush(stdout);
	cr_assert_eq(dup2(fd, STDOUT_FILENO), STDOUT_FILENO);
	return kept;
}

static void add_line(struct host_output *o, uint64_t number)
{
	cellos_json_begin(&o->line);
	cellos_json_add_u64(&o->line, "number", number);
	cr_assert_eq(cellos_json_end(&o->line), 0);
}

/* Fills until nothing more goes; then reads all there is. Returns the lines made. */
static void check_lines(struct host_output *o, int reader)
{
	static char in[4 * HOST_OUTPUT_BYTES];
	char expected[64];
	uint64_t made = 0, seen = 0;
	size_t length = 0;
	bool was_full = false;

	while (!was_full) {
		cr_assert(host_output_has_room(o) || was_full);
		for (int i = 0; i < 500; i++)
			add_line(o, made++);
		int status = host_output_flush(o);

		cr_assert(status == 0 || status == -EAGAIN);
		was_full = !host_output_has_room(o);
	}
	while (o->line.length > 0) {
		ssize_t n = read(reader, in + length, 5000);

		cr_assert_gt(n, 0);
		length += (size_t)n;
		(void)!host_output_flush(o);
	}
	cr_assert_eq(fcntl(reader, F_SETFL, O_NONBLOCK), 0);
	for (ssize_t n; (n = read(reader, in + length, sizeof(in) - length)) > 0;)
		length += (size_t)n;
	for (size_t at = 0; at < length; seen++) {
		int n = snprintf(expected, sizeof(expected), "{\"number\":%llu}\n",
				 (unsigned long long)seen);

		cr_assert_eq(memcmp(in + at, expected, (size_t)n), 0, "line %llu",
			     (unsigned long long)seen);
		at += (size_t)n;
	}
	cr_assert_eq(seen, made);
}

static void through_stdout(int writer, int reader)
{
	int kept = swap_stdout(writer), before = fcntl(writer, F_GETFL);
	struct host_output o;

	cr_assert_eq(host_output_init(&o, NULL), 0);
	check_lines(&o, reader);
	cr_assert_geq(host_output_watch(&o), 0);
	cr_assert_eq(fcntl(writer, F_GETFL), before, "flags that others share were changed");
	host_output_destroy(&o);
	cr_assert_neq(fcntl(STDOUT_FILENO, F_GETFD), -1, "standard output was closed");
	dup2(kept, STDOUT_FILENO);
}

Test(output, standard_output_as_a_pipe)
{
	int p[2];

	cr_assert_eq(pipe(p), 0);
	through_stdout(p[1], p[0]);
}

Test(output, standard_output_as_a_socket)
{
	int s[2];

	cr_assert_eq(socketpair(AF_UNIX, SOCK_STREAM, 0, s), 0);
	through_stdout(s[1], s[0]);
}

Test(output, watch_says_when_there_is_room_again)
{
	static char away[1 << 20];
	struct host_output o;
	struct pollfd look;
	int p[2], kept;

	cr_assert_eq(pipe(p), 0);
	kept = swap_stdout(p[1]);
	cr_assert_eq(host_output_init(&o, NULL), 0);
	look = (struct pollfd){.fd = host_output_watch(&o), .events = POLLIN};
	cr_assert_eq(poll(&look, 1, 0), 1);
	for (int i = 0; i < 20000; i++)
		add_line(&o, (uint64_t)i);
	cr_assert_eq(host_output_flush(&o), -EAGAIN);
	cr_assert_eq(poll(&look, 1, 0), 0);
	cr_assert_gt(read(p[0], away, sizeof(away)), 0);
	cr_assert_eq(poll(&look, 1, 0), 1);
	cr_assert_eq(host_output_finish(&o, 20), -ETIMEDOUT);
	host_output_destroy(&o);
	dup2(kept, STDOUT_FILENO);
}

Test(output, file_is_appended_to)
{
	char path[] = "/tmp/cellos-output-XXXXXX", back[64] = {0};
	int fd = mkstemp(path);
	struct host_output o;

	for (uint64_t i = 0; i < 2; i++) {
		cr_assert_eq(host_output_init(&o, path), 0);
		add_line(&o, i);
		cr_assert_eq(host_output_finish(&o, 0), 0);
		host_output_destroy(&o);
	}
	cr_assert_gt(read(fd, back, sizeof(back)), 0);
	cr_assert_str_eq(back, "{\"number\":0}\n{\"number\":1}\n");
	close(fd);
	unlink(path);
}

Test(output, files_that_cannot_be_had)
{
	static const struct {
		const char *path;
		int error;
	} table[] = {{"/nowhere/x", ENOENT}, {"/", EISDIR}};
	struct host_output o;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		cr_assert_eq(host_output_init(&o, table[i].path), -table[i].error);
		cr_assert_str_eq(o.name, table[i].path);
		host_output_destroy(&o);
		host_output_destroy(&o);
	}
}

Test(output, full_disk_is_not_final)
{
	struct host_output o;
	int full, kept;

	cr_assert_eq(host_output_init(&o, "/dev/full"), 0);
	cr_assert_eq(host_output_flush(&o), 0);
	add_line(&o, 1);
	cr_assert_eq(host_output_flush(&o), -ENOSPC);
	cr_assert_eq(o.error, 0);
	cr_assert_eq(host_output_finish(&o, 1000), -ENOSPC);
	cr_assert_gt(o.line.length, 0, "what was not written is kept");
	/* Room again: the same descriptor leads somewhere else. */
	full = open("/dev/null", O_WRONLY);
	kept = o.fd;
	cr_assert_eq(dup2(full, kept), kept);
	cr_assert_eq(host_output_flush(&o), 0);
	cr_assert_eq(o.line.length, 0);
	close(full);
	host_output_destroy(&o);
}

/* What a receiver that was killed in the middle of a write leaves. */
Test(output, cut_line_is_ended_and_a_whole_one_left_alone)
{
	static const struct {
		const char *before, *after;
	} table[] = {{"", "{\"number\":7}\n"},
		     {"{\"a\":1}\n", "{\"a\":1}\n{\"number\":7}\n"},
		     {"{\"a\":1}\n{\"b", "{\"a\":1}\n{\"b\n{\"number\":7}\n"}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		char path[] = "/tmp/cellos-output-XXXXXX", back[128] = {0};
		int fd = mkstemp(path);
		struct host_output o;

		cr_assert_eq(write(fd, table[i].before, strlen(table[i].before)),
			     (ssize_t)strlen(table[i].before));
		cr_assert_eq(host_output_init(&o, path), 0);
		add_line(&o, 7);
		cr_assert_eq(host_output_finish(&o, 0), 0);
		host_output_destroy(&o);
		cr_assert_gt(pread(fd, back, sizeof(back) - 1, 0), 0);
		cr_assert_str_eq(back, table[i].after);
		close(fd);
		unlink(path);
	}
}

Test(output, reader_that_leaves_is_final)
{
	struct host_output o;
	int p[2], kept;

	cr_assert_eq(pipe(p), 0);
	kept = swap_stdout(p[1]);
	cr_assert_eq(host_output_init(&o, NULL), 0);
	close(p[0]);
	add_line(&o, 1);
	cr_assert_eq(host_output_flush(&o), -EPIPE);
	host_output_destroy(&o);
	dup2(kept, STDOUT_FILENO);
}

Test(output, standard_output_that_is_closed_or_for_reading)
{
	struct host_output o;
	int kept = swap_stdout(open("/dev/null", O_RDONLY));

	cr_assert_eq(host_output_init(&o, NULL), -EBADF);
	host_output_destroy(&o);
	close(STDOUT_FILENO);
	cr_assert_eq(host_output_init(&o, NULL), -EBADF);
	host_output_destroy(&o);
	dup2(kept, STDOUT_FILENO);
}
