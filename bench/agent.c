/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See agent.h. Owns the agent's folder and socket between start and stop. */
#include "agent.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "common.h"

#define MAX_OPTIONS 16u

extern char **environ;

/* ---- programs -------------------------------------------------------------------------------- */

static pid_t spawn(const char *const argv[], const posix_spawn_file_actions_t *actions)
{
	pid_t pid;

	errno = posix_spawn(&pid, argv[0], actions, NULL, (char *const *)(uintptr_t)argv, environ);
	if (errno != 0)
		bench_die("cannot start %s: %s", argv[0], strerror(errno));
	return pid;
}

pid_t bench_spawn(const char *const argv[])
{
	return spawn(argv, NULL);
}

int bench_output_of(const char *const argv[], char *text, size_t size)
{
	posix_spawn_file_actions_t actions;
	size_t held = 0;
	int ends[2], status;
	ssize_t got;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0 || posix_spawn_file_actions_init(&actions) != 0 ||
	    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) != 0)
		bench_cannot("make a pipe");
	pid = spawn(argv, &actions);
	close(ends[1]);
	while ((got = read(ends[0], text + held, size - 1 - held)) > 0)
		held += (size_t)got;
	text[held] = '\0';
	close(ends[0]);
	posix_spawn_file_actions_destroy(&actions);
	if (waitpid(pid, &status, 0) != pid)
		bench_cannot("wait for a program");
	return status;
}

uint64_t bench_busy_ns(pid_t pid)
{
	struct timespec spent;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &spent) < 0)
		bench_cannot("read a process's clock");
	return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

/* ---- its host -------------------------------------------------------------------------------- */

static void take_frame(struct bench_agent *agent, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	struct cellos_self_report report;

	if (cellos_decode_frame(frame, length, &event, NULL) != CELLOS_WIRE_OK)
		agent->bad++;
	else if (event.probe_source != CELLOS_SOURCE_TELEMETRY_DROPPED)
		agent->take(agent->context, &event);
	else if (cellos_self_report_parse(&event, &report) == 0 && report.lane == agent->lane)
		agent->dropped[report.reason] = report.count;
}

static void *read_all(void *opaque)
{
	static uint8_t bytes[65536];
	struct bench_agent *agent = opaque;
	struct cellos_stream stream;
	ssize_t got;

	cellos_stream_init(&stream);
	while ((got = read(agent->connection, bytes, sizeof(bytes))) > 0) {
		const uint8_t *frame;
		size_t length;

		if (agent->seldom && got < (ssize_t)sizeof(bytes) / 4)
			bench_sleep_until(bench_now_ns() + BENCH_SELDOM_NS);
		cellos_stream_feed(&stream, bytes, (size_t)got);
		while (cellos_stream_next(&stream, &frame, &length) == CELLOS_STREAM_FRAME)
			take_frame(agent, frame, length);
	}
	return NULL;
}

static void listen_here(struct bench_agent *agent)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	strcpy(agent->folder, "/tmp/cellos-bench-XXXXXX");
	if (mkdtemp(agent->folder) == NULL)
		bench_cannot("make a folder");
	snprintf(agent->socket, sizeof(agent->socket), "%s/host.sock", agent->folder);
	memcpy(address.sun_path, agent->socket, sizeof(agent->socket));
	agent->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (agent->listener < 0 ||
	    bind(agent->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(agent->listener, 16) < 0)
		bench_cannot("listen");
}

static pid_t run_agent(const struct bench_agent *agent, const char *program,
		       const char *const options[], int ready_fd)
{
	char channel[96], ready[16];
	const char *argv[5 + MAX_OPTIONS + 1] = {program, "--channel", channel, "--ready-fd",
						 ready};

	snprintf(channel, sizeof(channel), "unix:%s", agent->socket);
	snprintf(ready, sizeof(ready), "%d", ready_fd);
	for (size_t at = 0; at < MAX_OPTIONS && options[at] != NULL; at++)
		argv[5 + at] = options[at];
	return bench_spawn(argv);
}

void bench_agent_start(struct bench_agent *agent, const char *program, const char *const options[])
{
	int ready[2];
	char byte;

	listen_here(agent);
	/* The writing end alone is the agent's. */
	if (pipe(ready) < 0 || fcntl(ready[0], F_SETFD, FD_CLOEXEC) < 0)
		bench_cannot("make a pipe");
	agent->pid = run_agent(agent, program, options, ready[1]);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		bench_cannot("see the agent ready");
	close(ready[0]);
	agent->connection = accept4(agent->listener, NULL, NULL, SOCK_CLOEXEC);
	if (agent->connection < 0 || pthread_create(&agent->reader, NULL, read_all, agent) != 0)
		bench_cannot("be the agent's host");
}

void bench_agent_stop(struct bench_agent *agent)
{
	int status;

	(void)kill(agent->pid, SIGTERM);
	pthread_join(agent->reader, NULL);
	close(agent->connection);
	close(agent->listener);
	(void)unlink(agent->socket);
	(void)rmdir(agent->folder);
	if (waitpid(agent->pid, &status, 0) != agent->pid || status != 0)
		bench_cannot("stop the agent in order");
}
