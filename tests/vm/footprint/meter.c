/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Measures the agent in a guest, outside of every wall: the init starts it before the agent.
 *
 *     meter unix:PATH|vsock:PORT FOLDER STARTS OPTION...
 *
 * It starts the agent STARTS times with these options, one after the other, and tells how long each
 * took from exec to its first frame. Then it leaves a daemon that reads what the init's own agent
 * sends; when the workload asks (FIFOs FOLDER/ask and FOLDER/answer) it tells how much of that
 * agent was resident at its peak.
 *
 * One thread. Refuses to: measure an agent that does not send, or does not end in order.
 */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "../matrix/line.h"
#include "cellos/wire.h"

#define AGENT "/cellos-telemetry"
#define PATIENCE_MS 90000 /* an emulated processor may stand still for a minute */

struct channel {
	int fd;
	struct cellos_stream stream;
};

static _Noreturn void fail(const char *what)
{
	fprintf(stderr, "meter: cannot %s: %s\n", what, strerror(errno));
	_exit(1);
}

/* ---- frames --------------------------------------------------------------------------------- */

static int listen_at(const char *address)
{
	struct sockaddr_un path = {.sun_family = AF_UNIX};
	struct sockaddr_vm port = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY};
	const bool is_unix = strncmp(address, "unix:", 5) == 0;
	const struct sockaddr *where = is_unix ? (void *)&path : (void *)&port;
	int fd = socket(where->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (is_unix)
		snprintf(path.sun_path, sizeof(path.sun_path), "%s", address + 5);
	else
		port.svm_port = (unsigned)strtoul(address + strlen("vsock:"), NULL, 10);
	if (fd < 0 || bind(fd, where, is_unix ? sizeof(path) : sizeof(port)) < 0 ||
	    listen(fd, 8) < 0)
		fail("listen");
	return fd;
}

static void await(int fd, const char *what)
{
	struct pollfd waiting = {.fd = fd, .events = POLLIN};

	errno = ETIMEDOUT;
	if (poll(&waiting, 1, PATIENCE_MS) != 1)
		fail(what);
}

static void take_connection(int listener, struct channel *channel)
{
	await(listener, "see a connection");
	channel->fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (channel->fd < 0)
		fail("accept");
	cellos_stream_init(&channel->stream);
}

/* False: the end of the channel. */
static bool next_frame(struct channel *channel, struct cellos_probe_event *event)
{
	static uint8_t buffer[65536];
	const uint8_t *frame;
	size_t length;
	ssize_t got;

	while (cellos_stream_next(&channel->stream, &frame, &length) != CELLOS_STREAM_FRAME) {
		errno = EPROTO;
		if (channel->stream.lost)
			fail("tell frames apart");
		await(channel->fd, "read a frame");
		got = read(channel->fd, buffer, sizeof(buffer));
		if (got < 0)
			fail("read from the agent");
		if (got == 0)
			return false;
		cellos_stream_feed(&channel->stream, buffer, (size_t)got);
	}
	errno = EPROTO;
	if (cellos_decode_frame(frame, length, event, NULL) != CELLOS_WIRE_OK)
		fail("decode a frame");
	return true;
}

/* ---- exec to first frame -------------------------------------------------------------------- */

/*
 * *begin, in memory that both share, is the last moment before exec: the fork is not the agent's.
 * Whoever has read from the agent has it, too: it was written before.
 */
static pid_t start_agent(char *const argv[], volatile int64_t *begin)
{
	pid_t pid = fork();

	if (pid == 0) {
		*begin = now_ns();
		execv(AGENT, argv);
		fail("start the agent");
	}
	return pid;
}

static void measure_start(int listener, char *const argv[], volatile int64_t *begin)
{
	struct cellos_probe_event event;
	static struct channel channel;
	pid_t pid = start_agent(argv, begin);
	int64_t took;
	int status;

	take_connection(listener, &channel);
	if (!next_frame(&channel, &event))
		fail("read the first frame");
	took = now_ns() - *begin;
	kill(pid, SIGTERM);
	while (next_frame(&channel, &event)) /* its goodbye has to find a reader */
		;
	close(channel.fd);
	if (waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "meter: an agent ended in %#x\n", (unsigned)status);
		_exit(1);
	}
	fprintf(stderr, "meter: first frame %lld us\n", (long long)(took / 1000));
}

/* ---- resident memory ------------------------------------------------------------------------ */

/* The number behind a key in /proc/PID/NAME; -1: there is none. */
static long number_in(pid_t pid, const char *name, const char *key)
{
	char path[64], line[256];
	long value = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, name);
	file = fopen(path, "re");
	if (file == NULL)
		fail(path);
	while (fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, key, strlen(key)) == 0)
			value = strtol(line + strlen(key), NULL, 10);
	fclose(file);
	return value;
}

/*
 * The kernel's own mark of the peak lags behind by up to 64 pages a thread, its page tables don't;
 * the mark is looked at for what was given back since.
 */
static void tell_memory(pid_t agent)
{
	const long now = number_in(agent, "smaps_rollup", "Rss:"),
		   mark = number_in(agent, "status", "VmHWM:");

	fprintf(stderr, "meter: resident %ld KiB, seccomp %ld\n", now > mark ? now : mark,
		number_in(agent, "status", "Seccomp:"));
}

/*
 * Heartbeats name the agent's own number, and are the clock: one looks for the question, the next
 * one finds everything sent that happened before it.
 */
static void serve(int listener, int ask, int answer)
{
	static struct channel channel;
	struct cellos_probe_event event;
	struct cellos_self_report report;
	bool asked = false;
	char line[16];

	take_connection(listener, &channel);
	while (next_frame(&channel, &event)) {
		/* Epoch 0 is the goodbye: what it names may be gone. */
		if (cellos_self_report_parse(&event, &report) != 0 ||
		    report.source != CELLOS_SOURCE_TELEMETRY_HEARTBEAT || report.epoch == 0)
			continue;
		if (asked) {
			tell_memory((pid_t)event.guest_pid);
			if (write_line(answer, "ok") < 0)
				fail("answer");
		}
		asked = read(ask, line, sizeof(line)) > 0;
	}
}

static int open_fifo(const char *folder, const char *name)
{
	char path[128];
	int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	/* Both ways: it must not wait for the other end. */
	if (mkfifo(path, 0600) == 0)
		fd = open(path, O_RDWR | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		fail(path);
	return fd;
}

int main(int argc, char **argv)
{
	volatile int64_t *begin = mmap(NULL, sizeof(*begin), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	unsigned starts = argc < 4 ? 0 : (unsigned)strtoul(argv[3], NULL, 10);
	int listener, ask, answer;

	if (starts == 0) {
		fprintf(stderr, "usage: meter unix:PATH|vsock:PORT FOLDER STARTS OPTION...\n");
		return 2;
	}
	if (begin == MAP_FAILED)
		fail("share memory");
	listener = listen_at(argv[1]);
	ask = open_fifo(argv[2], "ask");
	answer = open_fifo(argv[2], "answer");
	argv[3] = (char[]){AGENT};
	while (starts-- > 0)
		measure_start(listener, argv + 3, begin);
	if (fork() == 0) {
		setsid();
		serve(listener, ask, answer);
	}
	return 0;
}
