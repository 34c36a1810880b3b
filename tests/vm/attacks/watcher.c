/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver inside of a guest under attack, outside of every wall: started by the init before
 * the agent, it reads the agent's frames and tells after each attack whether the agent still sends.
 *
 *     watcher unix:PATH|vsock:PORT FOLDER
 *
 * It leaves a daemon that listens, makes the FIFOs FOLDER/ask and FOLDER/answer, and for each line
 * that is asked waits for a heartbeat that comes later than the question; for three where the line
 * ends in "!", for fifty where it ends in "!!": an agent that was told to end still sends until it
 * has got its processor, and its probes have stopped. Then it prints
 *
 *     WATCH after=NAME agent=alive|silent|dead pid=N start=TICKS epoch=N second=N state=...
 *
 * where `state` is what the kernel holds for the agent that somebody else could have changed, and
 * answers with the agent's numbers as the asker's PID namespace may know them: "PID THREAD".
 *
 * One thread, one poll. Refuses to: believe anything that the asker says.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "attack.h"
#include "cellos/wire.h"

/* An emulated processor may stand still for a minute; an agent that does not send is silent longer.
 */
#define PATIENCE_MS 90000
#define AGENT_PATH "/cellos-telemetry"

struct watcher {
	int listener, channel, ask, answer;
	struct cellos_stream stream;
	unsigned long epoch, second, frames;
	pid_t agent;
	char start[32]; /* of the agent, as stat has it */
	char name[64];  /* asked about; "": nothing is */
	int beats;      /* heartbeats that are still to come */
	int64_t deadline;
};

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* ---- the agent as the kernel sees it -------------------------------------------------------- */

/* A file of /proc as one string; "" when it is not there. */
__attribute__((format(printf, 3, 4))) static const char *slurp(char *text, size_t size,
							       const char *format, ...)
{
	char path[96];
	va_list arguments;
	ssize_t got = 0;
	int fd;

	va_start(arguments, format);
	vsnprintf(path, sizeof(path), format, arguments);
	va_end(arguments);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		got = read(fd, text, size - 1);
		close(fd);
	}
	text[got > 0 ? got : 0] = '\0';
	return text;
}

/* The field of stat(5) with this number, counted from 1. */
static void stat_field(const char *text, int number, char *field, size_t size)
{
	const char *at = strrchr(text, ')');

	field[0] = '\0';
	for (int i = 2; at != NULL && i < number; i++)
		at = strchr(at + 1, ' ');
	if (at != NULL)
		snprintf(field, size, "%.*s", (int)strcspn(at + 1, " \n"), at + 1);
}

static pid_t find_agent(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	pid_t found = 0;

	while (proc != NULL && found == 0 && (entry = readdir(proc)) != NULL) {
		char path[300], target[64];
		ssize_t length;

		snprintf(path, sizeof(path), "/proc/%s/exe", entry->d_name);
		length = readlink(path, target, sizeof(target) - 1);
		if (length == (ssize_t)strlen(AGENT_PATH) &&
		    memcmp(target, AGENT_PATH, (size_t)length) == 0)
			found = (pid_t)atoi(entry->d_name);
	}
	if (proc != NULL)
		closedir(proc);
	return found;
}

/* Sums up a text in which any change matters and nothing is read. */
static unsigned digest(const char *text)
{
	unsigned sum = 2166136261u;

	while (*text != '\0')
		sum = (sum ^ (unsigned char)*text++) * 16777619u;
	return sum & 0xffffff;
}

static void print_thread(char *out, size_t size, pid_t of, const char *thread)
{
	char text[1024], nice[16], policy[16], priority[16], state[16], allowed[32] = "";
	const char *at;

	slurp(text, sizeof(text), "/proc/%d/task/%s/stat", of, thread);
	stat_field(text, 3, state, sizeof(state));
	stat_field(text, 18, priority, sizeof(priority));
	stat_field(text, 19, nice, sizeof(nice));
	stat_field(text, 41, policy, sizeof(policy));
	/* The rest of stat and status changes by itself. */
	{
		static char status[8192];

		slurp(status, sizeof(status), "/proc/%d/task/%s/status", of, thread);
		at = strstr(status, "Cpus_allowed:\t");
		if (at != NULL)
			snprintf(allowed, sizeof(allowed), "%.*s", (int)strcspn(at + 14, "\n"),
				 at + 14);
	}
	snprintf(out, size, "/%s,%s,%s,%s,%s,%ld", strchr("TtZX", state[0]) != NULL ? state : "-",
		 priority, nice, policy, allowed,
		 syscall(SYS_ioprio_get, 1 /* process */, atoi(thread)));
}

static void print_state(char *out, size_t size, pid_t of)
{
	static char text[8192];
	size_t length;
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	slurp(text, sizeof(text), "/proc/%d/%s", of, "oom_score_adj");
	text[strcspn(text, "\n")] = '\0';
	length = (size_t)snprintf(out, size, "oom=%s", text);
	slurp(text, sizeof(text), "/proc/%d/%s", of, "limits");
	length += (size_t)snprintf(out + length, size - length, ",limits=%x", digest(text));
	slurp(text, sizeof(text), "/proc/%d/%s", of, "cgroup");
	length += (size_t)snprintf(out + length, size - length, ",cgroup=%x", digest(text));
	slurp(text, sizeof(text), "/proc/%d/%s", of, "autogroup");
	length += (size_t)snprintf(out + length, size - length, ",group=%x", digest(text));
	slurp(text, sizeof(text), "/proc/%d/%s", of, "coredump_filter");
	length += (size_t)snprintf(out + length, size - length, ",dump=%x", digest(text));
	snprintf(path, sizeof(path), "/proc/%d/task", of);
	tasks = opendir(path);
	while (tasks != NULL && (entry = readdir(tasks)) != NULL && length < size - 96)
		if (entry->d_name[0] != '.') {
			print_thread(out + length, size - length, of, entry->d_name);
			length += strlen(out + length);
		}
	if (tasks != NULL)
		closedir(tasks);
}

/* What the innermost PID namespace calls a thread of the agent's. */
static long inner_number(pid_t of, const char *thread)
{
	static char status[8192];
	const char *at;
	char *end;
	long number = 0;

	slurp(status, sizeof(status), "/proc/%d/task/%s/status", of, thread);
	at = strstr(status, "NSpid:");
	if (at == NULL)
		return atol(thread);
	for (at += 6; *at == '\t'; at = end)
		number = strtol(at + 1, &end, 10);
	return number;
}

static void print_numbers(char *out, size_t size, pid_t of)
{
	char path[64], self[16];
	long highest = 0, pid;
	struct dirent *entry;
	DIR *tasks;

	snprintf(self, sizeof(self), "%d", of);
	pid = inner_number(of, self);
	snprintf(path, sizeof(path), "/proc/%d/task", of);
	tasks = opendir(path);
	while (tasks != NULL && (entry = readdir(tasks)) != NULL)
		if (entry->d_name[0] != '.') {
			long number = inner_number(of, entry->d_name);

			highest = number > highest ? number : highest;
		}
	if (tasks != NULL)
		closedir(tasks);
	snprintf(out, size, "%ld %ld\n", pid, highest);
}

/* The same process as at the first question? */
static bool is_there(struct watcher *watcher)
{
	char text[1024], start[32];

	if (watcher->agent == 0)
		watcher->agent = find_agent();
	if (watcher->agent == 0)
		return false;
	slurp(text, sizeof(text), "/proc/%d/%s", watcher->agent, "stat");
	stat_field(text, 22, start, sizeof(start));
	if (watcher->start[0] == '\0')
		snprintf(watcher->start, sizeof(watcher->start), "%s", start);
	return start[0] != '\0' && strcmp(start, watcher->start) == 0;
}

/* ---- questions ------------------------------------------------------------------------------ */

/* One connection at a time; another one is told of, as the host does. False: there was none. */
static bool take_connection(struct watcher *watcher)
{
	int fd = accept4(watcher->listener, NULL, NULL, SOCK_CLOEXEC);

	if (fd >= 0 && watcher->channel < 0) {
		watcher->channel = fd;
		cellos_stream_init(&watcher->stream);
	} else if (fd >= 0) {
		watcher->second++;
		close(fd);
	}
	return fd >= 0;
}

/* Whoever asks has connected before; poll may have looked at the listener before that. */
static void take_connections(struct watcher *watcher)
{
	struct pollfd look = {.fd = watcher->listener, .events = POLLIN};

	while (poll(&look, 1, 0) > 0 && take_connection(watcher))
		;
}

static void answer(struct watcher *watcher, bool beating)
{
	const bool there = is_there(watcher);
	static char line[4096], state[3072];

	take_connections(watcher);
	state[0] = '\0';
	if (there)
		print_state(state, sizeof(state), watcher->agent);
	snprintf(line, sizeof(line),
		 "WATCH after=%s agent=%s pid=%d start=%s epoch=%lu second=%lu state=%s\n",
		 watcher->name,
		 !there    ? "dead"
		 : beating ? "alive"
			   : "silent",
		 watcher->agent, watcher->start, watcher->epoch, watcher->second, state);
	(void)!write(2, line, strlen(line));
	print_numbers(line, sizeof(line), watcher->agent);
	(void)!write(watcher->answer, line, strlen(line));
	watcher->name[0] = '\0';
}

static void take_question(struct watcher *watcher)
{
	ssize_t got = read(watcher->ask, watcher->name, sizeof(watcher->name) - 1);

	watcher->name[got > 0 ? got : 0] = '\0';
	watcher->beats = strstr(watcher->name, "!!") != NULL  ? 50
			 : strchr(watcher->name, '!') != NULL ? 3
							      : 1;
	watcher->name[strcspn(watcher->name, "!\n")] = '\0';
	watcher->deadline = now_ms() + PATIENCE_MS;
}

/* ---- frames --------------------------------------------------------------------------------- */

static void take_frame(struct watcher *watcher, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	struct cellos_self_report report;

	if (cellos_decode_frame(frame, length, &event, NULL) != CELLOS_WIRE_OK)
		return;
	watcher->frames++;
	if (cellos_self_report_parse(&event, &report) != 0 ||
	    report.source != CELLOS_SOURCE_TELEMETRY_HEARTBEAT)
		return;
	watcher->epoch = report.epoch;
	/* Epoch 0 is the goodbye. */
	if (watcher->name[0] != '\0' && report.epoch != 0 && --watcher->beats == 0)
		answer(watcher, true);
}

static void close_channel(struct watcher *watcher)
{
	close(watcher->channel);
	watcher->channel = -1;
}

static void read_channel(struct watcher *watcher)
{
	static uint8_t buffer[65536];
	ssize_t got = read(watcher->channel, buffer, sizeof(buffer));
	const uint8_t *frame;
	size_t length;

	if (got <= 0) {
		close_channel(watcher);
		return;
	}
	cellos_stream_feed(&watcher->stream, buffer, (size_t)got);
	while (cellos_stream_next(&watcher->stream, &frame, &length) == CELLOS_STREAM_FRAME)
		take_frame(watcher, frame, length);
}

static int listen_at(const char *address)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	struct sockaddr_vm port = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
	const bool is_unix = strncmp(address, "unix:", 5) == 0;
	int fd = socket(is_unix ? AF_UNIX : AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (is_unix)
		snprintf(path.sun_path, sizeof(path.sun_path), "%s", address + 5);
	else
		port.svm_port = (unsigned)strtoul(address + strlen("vsock:"), NULL, 10);
	if (fd < 0 ||
	    bind(fd, is_unix ? (struct sockaddr *)&path : (struct sockaddr *)&port,
		 is_unix ? sizeof(path) : sizeof(port)) < 0 ||
	    listen(fd, 8) < 0) {
		fprintf(stderr, "watcher: cannot listen at %s: %s\n", address, strerror(errno));
		exit(1);
	}
	return fd;
}

static int open_fifo(const char *folder, const char *name)
{
	char path[128];
	int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	/* Both ways: neither end must wait for the other. */
	if (mkfifo(path, 0600) == 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		fprintf(stderr, "watcher: cannot make %s: %s\n", path, strerror(errno));
		exit(1);
	}
	return fd;
}

static void watch(struct watcher *watcher)
{
	for (;;) {
		struct pollfd polls[] = {
			{.fd = watcher->listener, .events = POLLIN},
			{.fd = watcher->channel, .events = POLLIN},
			{.fd = watcher->name[0] == '\0' ? watcher->ask : -1, .events = POLLIN},
		};
		int64_t left = watcher->name[0] == '\0' ? -1 : watcher->deadline - now_ms();

		(void)poll(polls, 3, watcher->name[0] == '\0' ? -1 : left > 0 ? (int)left : 0);
		/* Before the question is taken: what came until then is older than it. */
		if (polls[1].revents != 0)
			read_channel(watcher);
		if (polls[0].revents != 0)
			take_connections(watcher); /* unless an answer did */
		if (watcher->name[0] != '\0' && now_ms() >= watcher->deadline)
			answer(watcher, false);
		if (polls[2].revents != 0)
			take_question(watcher);
	}
}

int main(int argc, char **argv)
{
	static struct watcher watcher = {.channel = -1};

	if (argc != 3) {
		fprintf(stderr, "usage: watcher unix:PATH|vsock:PORT FOLDER\n");
		return 2;
	}
	watcher.listener = listen_at(argv[1]);
	watcher.ask = open_fifo(argv[2], "ask");
	watcher.answer = open_fifo(argv[2], "answer");
	/* Stands for whatever an init shares with its daemons. */
	if (shmget(ATTACK_SHM_KEY, 4096, IPC_CREAT | 0600) < 0)
		perror("watcher: cannot share memory");
	if (fork() != 0)
		return 0;
	setsid();
	signal(SIGPIPE, SIG_IGN);
	signal(SIGTERM, SIG_IGN); /* one attack sends it to everybody */
	watch(&watcher);
}
