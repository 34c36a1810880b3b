/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What one agent costs: size of the binary, time from exec to the first frame on a listening Unix
 * socket, resident memory with everything armed, voluntary switches while idle, and whether its
 * memory stays what it was under load.
 *
 *   footprint --agent PATH [--starts N] [--seconds S]
 *
 * One JSON line per row. Exits 1 when memory grew after the start (a broken identity), never for a
 * time. Threads: one. The agents are its own children, on a socket in a folder of its own.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"

extern char **environ;

static char folder[] = "/tmp/cellos-footprint-XXXXXX";
static char socket_path[64], watched[64];

static double now_ms(void)
{
	return (double)bench_now_ns() / 1e6;
}

static int listen_here(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 16) < 0)
		bench_cannot("listen");
	return fd;
}

#define READY "3"

/* *ready, which is the caller's, gets a line when everything is armed. */
static pid_t start(const char *agent, const char *const extra[], int *ready)
{
	const char *argv[32] = {agent, "--ready-fd", READY, "--channel", NULL};
	posix_spawn_file_actions_t actions;
	char channel[160];
	size_t used = 5;
	int ends[2];
	pid_t pid;

	snprintf(channel, sizeof(channel), "unix:%s", socket_path);
	argv[4] = channel;
	for (; *extra != NULL; extra++)
		argv[used++] = *extra;
	argv[used] = NULL;
	if (pipe2(ends, O_CLOEXEC) < 0 || posix_spawn_file_actions_init(&actions) != 0 ||
	    posix_spawn_file_actions_adddup2(&actions, ends[1], READY[0] - '0') != 0)
		bench_cannot("make a pipe");
	errno = posix_spawn(&pid, agent, &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	if (errno != 0)
		bench_cannot("start the agent");
	(void)posix_spawn_file_actions_destroy(&actions);
	close(ends[1]);
	*ready = ends[0];
	return pid;
}

static int first_frame(int listener)
{
	struct pollfd waiting = {.fd = listener, .events = POLLIN};
	uint8_t prefix[4];
	int fd;

	if (poll(&waiting, 1, 60000) != 1)
		bench_cannot("see a connection");
	fd = accept(listener, NULL, NULL);
	if (fd < 0 || recv(fd, prefix, sizeof(prefix), MSG_WAITALL) != (ssize_t)sizeof(prefix))
		bench_cannot("read the first frame");
	return fd;
}

/* Until everything is armed and every thread is there. The end of the pipe is closed. */
static void await_ready(int ready)
{
	char line;

	if (read(ready, &line, 1) != 1)
		bench_cannot("see the agent ready");
	close(ready);
}

/* Reads on so that the goodbye finds a reader. */
static void stop(pid_t pid, int fd)
{
	char away[65536];
	int status;

	kill(pid, SIGTERM);
	while (read(fd, away, sizeof(away)) > 0)
		;
	close(fd);
	if (waitpid(pid, &status, 0) != pid || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		bench_cannot("stop the agent in order");
}

static void bench_start(const char *agent, int listener, size_t starts)
{
	static const char *const extra[] = {"--watch", watched, NULL};
	double *times = bench_memory(starts, sizeof(*times)), median;

	for (size_t i = 0; i < starts; i++) {
		double before = now_ms();
		int ready;
		pid_t pid = start(agent, extra, &ready);
		int fd = first_frame(listener);

		times[i] = now_ms() - before;
		stop(pid, fd);
		close(ready);
	}
	median = bench_quantile(times, starts, 0.5); /* sorts them */
	printf("{\"bench\":\"start\",\"starts\":%zu,\"exec_to_first_frame_ms\":%.3f,\"min_ms\":%."
	       "3f,"
	       "\"max_ms\":%.3f}\n",
	       starts, median, times[0], times[starts - 1]);
	free(times);
}

static long kib(pid_t pid, const char *name, const char *key)
{
	char path[64], line[256];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/%s", (int)pid, name);
	file = fopen(path, "re");
	if (file == NULL)
		bench_cannot("read the agent's status");
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtol(line + strlen(key) + 1, NULL, 10);
	fclose(file);
	return value;
}

static unsigned long switches(pid_t pid)
{
	char path[320], line[256];
	unsigned long sum = 0;
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	tasks = opendir(path);
	if (tasks == NULL)
		bench_cannot("read the agent's threads");
	while ((entry = readdir(tasks)) != NULL) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		while (file != NULL && fgets(line, sizeof(line), file) != NULL)
			if (strncmp(line, "voluntary_ctxt_switches:", 24) == 0)
				sum += strtoul(line + 24, NULL, 10);
		if (file != NULL)
			fclose(file);
	}
	closedir(tasks);
	return sum;
}

static void swallow(int fd, double until_ms)
{
	struct pollfd waiting = {.fd = fd, .events = POLLIN};
	char away[65536];

	while (now_ms() < until_ms) {
		double left = until_ms - now_ms();

		if (poll(&waiting, 1, left > 1 ? (int)left : 1) == 1 &&
		    read(fd, away, sizeof(away)) <= 0)
			bench_cannot("read from the agent");
	}
}

static void make_files(unsigned from, unsigned count)
{
	char path[160];

	for (unsigned i = from; i < from + count; i++) {
		snprintf(path, sizeof(path), "%s/f%u", watched, i);
		if (mknod(path, S_IFREG | 0600, 0) < 0 || unlink(path) < 0)
			bench_cannot("make a file");
	}
}

/* Everything armed, default depth; 20 000 events between the two looks at its memory. */
static bool bench_footprint(const char *agent, int listener)
{
	static const char *const extra[] = {"--watch", watched, NULL};
	int ready;
	pid_t pid = start(agent, extra, &ready);
	int fd = first_frame(listener);
	long data, data_after, resident, mapped;
	struct stat status;

	await_ready(ready);
	data = kib(pid, "status", "VmData:");
	for (unsigned i = 0; i < 20; i++) {
		make_files(i * 500, 500);
		swallow(fd, now_ms() + 20);
	}
	data_after = kib(pid, "status", "VmData:");
	/* The kernel's own peak lags behind by some pages a thread; the page tables do not. */
	resident = kib(pid, "status", "VmHWM:");
	mapped = kib(pid, "smaps_rollup", "Rss:");
	if (mapped > resident)
		resident = mapped;
	stop(pid, fd);
	if (stat(agent, &status) < 0)
		bench_cannot("look at the agent's file");
	printf("{\"bench\":\"footprint\",\"binary_bytes\":%lld,\"peak_resident_kib\":%ld,"
	       "\"data_kib_before\":%ld,\"data_kib_after\":%ld}\n",
	       (long long)status.st_size, resident, data, data_after);
	return data == data_after;
}

static void bench_idle(const char *agent, int listener, double seconds, const char *probes)
{
	const char *const extra[] = {"--watch", watched, "--probes", probes, NULL};
	int ready;
	pid_t pid = start(agent, extra, &ready);
	int fd = first_frame(listener);
	unsigned long before;

	await_ready(ready);
	swallow(fd, now_ms() + 500); /* what the start itself left to do */
	before = switches(pid);
	swallow(fd, now_ms() + seconds * 1e3);
	printf("{\"bench\":\"idle\",\"probes\":\"%s\",\"seconds\":%.0f,"
	       "\"voluntary_switches_per_s\":%.2f}\n",
	       probes, seconds, (double)(switches(pid) - before) / seconds);
	stop(pid, fd);
}

int main(int argc, char *argv[])
{
	static const struct option list[] = {{"agent", required_argument, NULL, 'a'},
					     {"starts", required_argument, NULL, 'n'},
					     {"seconds", required_argument, NULL, 's'},
					     {NULL, 0, NULL, 0}};
	const char *agent = NULL;
	size_t starts = 41;
	double seconds = 10;
	bool steady;
	int answer, listener;

	while ((answer = getopt_long(argc, argv, "", list, NULL)) != -1) {
		if (answer == 'a')
			agent = optarg;
		else if (answer == 'n')
			starts = strtoul(optarg, NULL, 10);
		else if (answer == 's')
			seconds = strtod(optarg, NULL);
		else
			return 2;
	}
	if (agent == NULL || starts == 0 || seconds <= 0) {
		fprintf(stderr, "usage: footprint --agent PATH [--starts N] [--seconds S]\n");
		return 2;
	}
	if (mkdtemp(folder) == NULL)
		bench_cannot("make a folder");
	snprintf(socket_path, sizeof(socket_path), "%s/host.sock", folder);
	snprintf(watched, sizeof(watched), "%s/watched", folder);
	if (mkdir(watched, 0700) < 0)
		bench_cannot("make a folder");
	listener = listen_here();
	bench_start(agent, listener, starts);
	steady = bench_footprint(agent, listener);
	bench_idle(agent, listener, seconds, "watch,capability,connect");
	bench_idle(agent, listener, seconds, "process,watch,capability,connect");
	close(listener);
	unlink(socket_path);
	rmdir(watched);
	rmdir(folder);
	if (!steady)
		fprintf(stderr, "footprint: the agent's memory grew after its start\n");
	return steady ? 0 : 1;
}
