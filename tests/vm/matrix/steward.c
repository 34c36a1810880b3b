/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The steward on the host's side: it runs the receiver, and does to it what the workload asks for.
 *
 *     steward DISK COMMAND...
 *
 * It listens at vsock ports 5001 (the aide) and 9000 (the exit code), leaves a daemon and runs
 * COMMAND. Lines from the aide, each answered with "ok" or what went wrong:
 *
 *     note ...    is written into the book, as every line is
 *     late MS     the receiver is started, so much later, and has heard the agent
 *     beats N     so many more heartbeats have been written
 *     kill N      (answered at once) after N more lines the receiver is killed and started again
 *     stop, cont  the receiver no longer runs, or runs again
 *     cut         the receiver's connection is shut down under it
 *     mark, seen TEXT   has TEXT been written since the mark? "ok" or "no"
 *     restore     (not answered) QEMU ends with the guest in /tmp/state, to be started from there
 *
 * With the exit code comes the end: the receiver's last word is awaited, the book and its output go
 * to DISK, behind a line that says how long both are. Only then does the guest get its end of file.
 * What the receiver says to a person comes then, too: so that it is not in the midst of a line of
 * the guest's, whose console this may be.
 *
 * One thread. Refuses to: wait for ever; what did not come in three minutes is "late". (An emulated
 * processor may stand still for one.)
 */
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "line.h"

#define CHANNEL "vsock:5000"
#define EXIT_PORT 9000
#define OUTPUT "/output"
#define STATE "/state"
#define SAID "/said"
#define RECEIVER "/cellos-telemetry-host"
#define MONITOR "/tmp/monitor"
#define SNAPSHOT "migrate \"exec:cat >/tmp/state\"\nquit\n"
#define PATIENCE_NS INT64_C(180000000000)
#define LOOK_MS 20
#define HEARTBEAT "{\"report\":\"heartbeat\""
#define GOODBYE "{\"report\":\"goodbye\""

/* How far the output was read, and what stood there. */
struct reading {
	off_t at;
	unsigned long lines, beats, goodbyes;
};

struct steward {
	const char *disk;
	int lines, codes, aide; /* two listeners, and the aide's connection or -1 */
	pid_t receiver;
	FILE *book;
	struct reading mark;
};

static void enter(struct steward *steward, const char *text)
{
	fprintf(steward->book, "%lld %s\n", (long long)now_ns(), text);
	fflush(steward->book);
}

/* ---- output --------------------------------------------------------------------------------- */

static void read_on(struct reading *reading)
{
	FILE *file = fopen(OUTPUT, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t length;

	if (file == NULL)
		return;
	(void)fseeko(file, reading->at, SEEK_SET);
	/* A line that is not whole yet is read the next time. */
	while ((length = getline(&line, &size, file)) > 0 && line[length - 1] == '\n') {
		reading->at += length;
		reading->lines++;
		reading->beats += strncmp(line, HEARTBEAT, strlen(HEARTBEAT)) == 0;
		reading->goodbyes += strncmp(line, GOODBYE, strlen(GOODBYE)) == 0;
	}
	free(line);
	fclose(file);
}

static struct reading here(void)
{
	struct reading reading = {0};
	struct stat about;

	if (stat(OUTPUT, &about) == 0)
		reading.at = about.st_size;
	return reading;
}

/* From `reading` on; false: not in time. */
static bool await(struct reading *reading, unsigned long lines, unsigned long beats,
		  unsigned long goodbyes)
{
	const int64_t end = now_ns() + PATIENCE_NS;

	while (now_ns() < end) {
		read_on(reading);
		if (reading->lines >= lines && reading->beats >= beats &&
		    reading->goodbyes >= goodbyes)
			return true;
		rest_ms(LOOK_MS);
	}
	return false;
}

/* From the mark on, whose place moves: what was looked at is not looked at again. */
static bool has_seen(struct reading *mark, const char *text)
{
	FILE *file = fopen(OUTPUT, "re");
	char *line = NULL;
	size_t size = 0;
	ssize_t length;
	bool found = false;

	if (file == NULL)
		return false;
	(void)fseeko(file, mark->at, SEEK_SET);
	while (!found && (length = getline(&line, &size, file)) > 0 && line[length - 1] == '\n') {
		found = strstr(line, text) != NULL;
		mark->at += length;
	}
	free(line);
	fclose(file);
	return found;
}

/* ---- the receiver --------------------------------------------------------------------------- */

static void start_receiver(struct steward *steward)
{
	int said;

	steward->receiver = fork();
	if (steward->receiver != 0)
		return;
	said = open(SAID, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	if (said >= 0)
		(void)dup2(said, 2);
	execl(RECEIVER, RECEIVER, "--listen", CHANNEL, "--cell-id", "matrix", "--run-id", "1",
	      "--output", OUTPUT, "--state", STATE, "--silence-window", "600", "--verbose",
	      (char *)NULL);
	perror(RECEIVER);
	_exit(127);
}

static void end_receiver(struct steward *steward, int signal_number)
{
	int status = 0;

	if (steward->receiver <= 0)
		return;
	kill(steward->receiver, signal_number);
	kill(steward->receiver, SIGCONT);
	waitpid(steward->receiver, &status, 0);
	steward->receiver = 0;
	fprintf(steward->book, "%lld ended %d\n", (long long)now_ns(), status);
}

static const char *late(struct steward *steward, long ms)
{
	struct reading reading = here();

	rest_ms(ms);
	enter(steward, "started");
	start_receiver(steward);
	return await(&reading, 0, 1, 0) ? "ok" : "late";
}

static void kill_later(struct steward *steward, unsigned long lines)
{
	struct reading reading = here();
	bool reached = await(&reading, lines, 0, 0);

	enter(steward, reached ? "killing" : "killing late");
	end_receiver(steward, SIGKILL);
	start_receiver(steward);
}

static const char *stop(struct steward *steward)
{
	int status;

	kill(steward->receiver, SIGSTOP);
	if (waitpid(steward->receiver, &status, WUNTRACED) != steward->receiver ||
	    !WIFSTOPPED(status))
		return "the receiver has ended";
	return "ok";
}

/* The receiver's own descriptors, one after the other: which is a connection over vsock? It does
   not run meanwhile: while a second descriptor is open what it closes is not closed. */
static const char *cut(struct steward *steward)
{
	const char *stopped = stop(steward);
	int process = (int)syscall(SYS_pidfd_open, steward->receiver, 0), count = 0;

	for (int number = 3; process >= 0 && number < 64; number++) {
		struct sockaddr_vm peer = {0};
		socklen_t size = sizeof(peer);
		int fd = (int)syscall(SYS_pidfd_getfd, process, number, 0);

		if (fd < 0)
			continue;
		if (getpeername(fd, (struct sockaddr *)&peer, &size) == 0 &&
		    peer.svm_family == AF_VSOCK)
			count += shutdown(fd, SHUT_RDWR) == 0;
		close(fd);
	}
	if (process >= 0)
		close(process);
	kill(steward->receiver, SIGCONT);
	if (strcmp(stopped, "ok") != 0)
		return stopped;
	return count == 1 ? "ok" : "no connection to cut";
}

/* ---- the machine ---------------------------------------------------------------------------- */

/* Until QEMU has ended. It reads the second command when the first is done. */
static const char *restore(void)
{
	const struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = MONITOR};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const char *result = "ok";
	char away[256];

	if (fd < 0 || connect(fd, (const struct sockaddr *)&address, sizeof(address)) < 0)
		result = "no machine to restore";
	else if (write_line(fd, SNAPSHOT) < 0)
		result = "the monitor has ended";
	else
		while (read(fd, away, sizeof(away)) > 0)
			;
	if (fd >= 0)
		close(fd);
	return result;
}

/* ---- the aide ------------------------------------------------------------------------------- */

static const char *obey(struct steward *steward, const char *line)
{
	unsigned long number;
	struct reading reading;

	if (sscanf(line, "late %lu", &number) == 1)
		return late(steward, (long)number);
	if (sscanf(line, "beats %lu", &number) == 1) {
		reading = here();
		return await(&reading, 0, number, 0) ? "ok" : "late";
	}
	if (strncmp(line, "seen ", 5) == 0)
		return has_seen(&steward->mark, line + 5) ? "ok" : "no";
	if (strcmp(line, "mark") == 0) {
		steward->mark = here();
		return "ok";
	}
	if (strcmp(line, "stop") == 0)
		return stop(steward);
	if (strcmp(line, "cont") == 0)
		return kill(steward->receiver, SIGCONT) == 0 ? "ok" : "no receiver";
	if (strcmp(line, "cut") == 0)
		return cut(steward);
	if (strcmp(line, "restore") == 0)
		return restore();
	return strncmp(line, "note ", 5) == 0 || strncmp(line, "kill ", 5) == 0 ? "ok" : "what?";
}

static void serve_aide(struct steward *steward)
{
	static char line[LINE_BYTES];
	unsigned long number;
	const char *answer;

	if (read_line(steward->aide, line) <= 0) {
		close(steward->aide);
		steward->aide = -1;
		return;
	}
	enter(steward, line);
	answer = obey(steward, line);
	if (strcmp(answer, "ok") != 0)
		enter(steward, answer);
	if (strcmp(line, "restore") == 0 && strcmp(answer, "ok") == 0) {
		enter(steward, "restored");
		close(steward->aide);
		steward->aide = -1;
		return;
	}
	(void)write_line(steward->aide, answer);
	if (sscanf(line, "kill %lu", &number) == 1)
		kill_later(steward, number);
}

/* ---- the end -------------------------------------------------------------------------------- */

static int pour(const char *path, int to)
{
	static char buffer[65536];
	int from = open(path, O_RDONLY | O_CLOEXEC), status = 0;
	ssize_t got = 0;

	while (status == 0 && from >= 0 && (got = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)got) != got)
			status = errno != 0 ? -errno : -EIO;
	if (from >= 0)
		close(from);
	return from < 0 || got < 0 ? -errno : status;
}

static long long length_of(const char *path)
{
	struct stat about;

	return stat(path, &about) == 0 ? (long long)about.st_size : 0;
}

static void keep_all(struct steward *steward)
{
	int disk = open(steward->disk, O_WRONLY | O_CLOEXEC);
	int status = disk < 0 ? -errno : 0;
	char head[96];

	fflush(steward->book);
	snprintf(head, sizeof(head), "MATRIX %lld %lld", length_of("/book"), length_of(OUTPUT));
	if (status == 0)
		status = write_line(disk, head);
	if (status == 0)
		status = pour("/book", disk);
	if (status == 0 && length_of(OUTPUT) > 0)
		status = pour(OUTPUT, disk);
	if (disk >= 0 && status == 0 && fsync(disk) < 0)
		status = -errno;
	if (disk >= 0)
		close(disk);
	fprintf(stderr, "steward: %s is kept: %s\n", head, strerror(-status));
}

static void take_code(struct steward *steward)
{
	int fd = accept4(steward->codes, NULL, NULL, SOCK_CLOEXEC);
	struct reading reading = {0};
	uint8_t bytes[4] = {0};
	char text[64];

	if (fd < 0)
		return;
	snprintf(text, sizeof(text), "exit %zd bytes", read(fd, bytes, sizeof(bytes)));
	enter(steward, text);
	snprintf(text, sizeof(text), "exit %u",
		 bytes[0] | (unsigned)bytes[1] << 8 | (unsigned)bytes[2] << 16 |
			 (unsigned)bytes[3] << 24);
	enter(steward, text);
	enter(steward,
	      steward->receiver > 0 && await(&reading, 0, 0, 1) ? "goodbye" : "no goodbye");
	end_receiver(steward, SIGTERM);
	(void)pour(SAID, 2);
	keep_all(steward);
	close(fd);
	exit(0);
}

static void serve(struct steward *steward)
{
	for (;;) {
		struct pollfd polls[] = {
			{.fd = steward->lines, .events = POLLIN},
			{.fd = steward->codes, .events = POLLIN},
			{.fd = steward->aide, .events = POLLIN},
		};

		if (poll(polls, 3, -1) < 0)
			continue;
		if (polls[0].revents != 0 && steward->aide < 0)
			steward->aide = accept4(steward->lines, NULL, NULL, SOCK_CLOEXEC);
		if (polls[1].revents != 0)
			take_code(steward);
		if (polls[2].revents != 0)
			serve_aide(steward);
	}
}

static int listen_at(unsigned port)
{
	const struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 &&
	    listen(fd, 4) == 0)
		return fd;
	perror("steward: cannot listen");
	exit(1);
}

int main(int argc, char **argv)
{
	static struct steward steward = {.aide = -1};

	if (argc < 3) {
		fprintf(stderr, "usage: steward DISK COMMAND...\n");
		return 2;
	}
	steward.disk = argv[1];
	steward.lines = listen_at(STEWARD_PORT);
	steward.codes = listen_at(EXIT_PORT);
	steward.book = fopen("/book", "we");
	if (steward.book == NULL) {
		perror("steward: cannot write /book");
		return 1;
	}
	if (fork() != 0) {
		execv(argv[2], argv + 2);
		perror(argv[2]);
		return 1;
	}
	setsid();
	signal(SIGPIPE, SIG_IGN);
	fprintf(stderr, "steward: listens\n"); /* the sign that the machine has come this far */
	serve(&steward);
}
