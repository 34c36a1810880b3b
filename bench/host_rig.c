/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver, its reader and their guests; host_rig.h says what for. One thread in each process.
 */
#include "host_rig.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cellos/wire.h"

#define LIMIT_NS (30 * UINT64_C(1000000000))
#define PIPE_BYTES (1 << 20)

/* ---- the process that reads ------------------------------------------------------------------ */

/* Behind `key` a decimal number, or UINT64_MAX. The line ends in a newline, so this ends. */
static uint64_t number_behind(const char *line, size_t length, const char *key)
{
	const char *at = memmem(line, length, key, strlen(key));

	return at == NULL ? UINT64_MAX : strtoull(at + strlen(key), NULL, 10);
}

static void check_line(struct rig_counted *counted, uint64_t *last, const char *line, size_t length)
{
	uint64_t cell, sequence, ns, now = bench_now_ns();

	ns = number_behind(line, length, "\"guest_monotonic_ns\":");
	if (ns == UINT64_MAX)
		return;
	counted->events++;
	cell = number_behind(line, length, "\"cell_id\":\"c");
	sequence = number_behind(line, length, "\"seq\":");
	if (cell >= RIG_MAX_CELLS || sequence != last[cell] + 1)
		counted->wrong++;
	if (cell < RIG_MAX_CELLS)
		last[cell] = sequence;
	/* A flooding cell has no clock: it says 0. */
	if (ns != 0)
		histogram_add(&counted->delay, now > ns ? now - ns : 0);
}

static size_t take_lines(struct rig_counted *counted, uint64_t *last, enum rig_reader kind,
			 const char *buffer, size_t length)
{
	const char *at = buffer, *end;

	while ((end = memchr(at, '\n', length - (size_t)(at - buffer))) != NULL) {
		counted->lines++;
		if (kind == RIG_CHECK)
			check_line(counted, last, at, (size_t)(end - at));
		/* A report begins with its name; an event is told by that alone, for speed. */
		else if (memmem(at, (size_t)(end - at) < 200 ? (size_t)(end - at) : 200, "report",
				6) == NULL)
			counted->events++;
		at = end + 1;
	}
	return (size_t)(at - buffer);
}

static _Noreturn void be_counter(int from, int result, enum rig_reader kind)
{
	static uint64_t last[RIG_MAX_CELLS];
	static struct rig_counted counted;
	static char buffer[2 * PIPE_BYTES];
	size_t held = 0, used;
	ssize_t n;

	while ((n = read(from, buffer + held, sizeof(buffer) - held)) > 0) {
		counted.bytes += (uint64_t)n;
		held += (size_t)n;
		used = take_lines(&counted, last, kind, buffer, held);
		memmove(buffer, buffer + used, held - used);
		held -= used;
	}
	counted.wrong += held;
	_exit(write(result, &counted, sizeof(counted)) == sizeof(counted) ? 0 : 1);
}

/* ---- the receiver ---------------------------------------------------------------------------- */

static void write_cells(const struct rig *rig)
{
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "%s/cells.json", rig->folder);
	file = fopen(path, "w");
	if (file == NULL)
		bench_die("write %s: %s", path, strerror(errno));
	fprintf(file, "{\"cells\":[");
	for (unsigned i = 0; i < rig->cells; i++)
		fprintf(file,
			"%s{\"id\":\"c%u\",\"listen\":\"unix:%s/c%u\",\"silence_window\":3600}",
			i > 0 ? "," : "", i, rig->folder, i);
	fprintf(file, "]}\n");
	if (fclose(file) != 0)
		bench_die("write %s: %s", path, strerror(errno));
}

static _Noreturn void be_receiver(const struct rig *rig, const char *program, const char *format,
				  enum rig_reader reader, int output, int cpu)
{
	char cells[64], words[64];
	int fd;

	snprintf(cells, sizeof(cells), "%s/cells.json", rig->folder);
	snprintf(words, sizeof(words), "%s/words", rig->folder);
	if (cpu >= 0)
		bench_pin((unsigned)cpu);
	fd = open(words, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	if (fd < 0 || dup2(fd, STDERR_FILENO) < 0 ||
	    (reader != RIG_NULL && dup2(output, STDOUT_FILENO) < 0))
		_exit(127);
	if (reader == RIG_NULL)
		execl(program, program, "--cells", cells, "--verbose", "--format", format,
		      "--output", "/dev/null", (char *)NULL);
	else
		execl(program, program, "--cells", cells, "--verbose", "--format", format,
		      (char *)NULL);
	_exit(127);
}

/* Every cell needs a descriptor here as well. */
static void raise_descriptors(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &limit);
	}
}

static pid_t fork_or_die(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		bench_die("fork: %s", strerror(errno));
	return pid;
}

void rig_start(struct rig *rig, const char *receiver, unsigned cells, const char *format,
	       enum rig_reader reader, int cpu)
{
	int output[2] = {-1, -1}, result[2] = {-1, -1};

	raise_descriptors();
	signal(SIGPIPE, SIG_IGN);
	*rig = (struct rig){.folder = "/tmp/cellos-bench-XXXXXX", .cells = cells, .counter = -1};
	if (mkdtemp(rig->folder) == NULL)
		bench_die("make %s: %s", rig->folder, strerror(errno));
	write_cells(rig);
	if (pipe2(output, O_CLOEXEC) != 0 || pipe2(result, O_CLOEXEC) != 0)
		bench_die("make a pipe: %s", strerror(errno));
	(void)fcntl(output[1], F_SETPIPE_SZ, PIPE_BYTES);
	if (reader != RIG_NULL && (rig->counter = fork_or_die()) == 0) {
		close(output[1]);
		be_counter(output[0], result[1], reader);
	}
	rig->receiver = fork_or_die();
	if (rig->receiver == 0)
		be_receiver(rig, receiver, format, reader, output[1], cpu);
	close(output[0]);
	close(output[1]);
	close(result[1]);
	rig->result = result[0];
	close(rig_connect(rig, cells - 1)); /* it is there; the cells are opened in order */
}

int rig_connect(const struct rig *rig, unsigned cell)
{
	const uint64_t deadline = bench_now_ns() + LIMIT_NS;
	struct sockaddr_un name = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		bench_die("make a socket: %s", strerror(errno));
	snprintf(name.sun_path, sizeof(name.sun_path), "%s/c%u", rig->folder, cell);
	/* It starts in its own time; nothing signals that from outside. */
	while (connect(fd, (struct sockaddr *)&name, sizeof(name)) < 0) {
		if (bench_now_ns() > deadline || waitpid(rig->receiver, NULL, WNOHANG) != 0)
			bench_die("connect to %s: %s", name.sun_path, strerror(errno));
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
	return fd;
}

/* One connection more than the guests': rig_start has knocked. */
void rig_await_accepted(const struct rig *rig, unsigned guests)
{
	const uint64_t deadline = bench_now_ns() + LIMIT_NS;
	char path[64], line[512];
	unsigned accepted;
	FILE *file;

	snprintf(path, sizeof(path), "%s/words", rig->folder);
	for (;;) {
		file = fopen(path, "r");
		accepted = 0;
		while (file != NULL && fgets(line, sizeof(line), file) != NULL)
			accepted += strstr(line, ": connection accepted\n") != NULL;
		if (file != NULL)
			fclose(file);
		if (accepted >= guests + 1)
			return;
		if (bench_now_ns() > deadline)
			bench_die("wait for %u connections: %u were accepted", guests + 1,
				  accepted);
		nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
	}
}

uint64_t rig_resident_kib(const struct rig *rig)
{
	char path[64], line[256];
	uint64_t kib = 0;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", (int)rig->receiver);
	file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (sscanf(line, "VmRSS: %" SCNu64, &kib) == 1)
			break;
	if (file == NULL || kib == 0)
		bench_die("read %s", path);
	fclose(file);
	return kib;
}

/* ---- the end --------------------------------------------------------------------------------- */

static void read_words(const struct rig *rig, struct rig_end *end)
{
	char path[64], line[512];
	bool found = false;
	FILE *file;

	snprintf(path, sizeof(path), "%s/words", rig->folder);
	file = fopen(path, "r");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		found = sscanf(line,
			       "cellos-telemetry-host: received %" SCNu64 ", emitted %" SCNu64
			       ", refused %" SCNu64 ", lost in host %" SCNu64,
			       &end->received, &end->emitted, &end->refused, &end->lost) == 4 ||
			found;
		if (strstr(line, ": cannot ") != NULL)
			bench_die("the receiver: %s", line);
	}
	if (!found)
		bench_die("the receiver did not sum up");
	fclose(file);
	unlink(path);
}

void rig_finish(struct rig *rig, struct rig_end *end)
{
	struct rusage usage;
	char path[64];
	int status;

	memset(end, 0, sizeof(*end));
	kill(rig->receiver, SIGTERM);
	if (wait4(rig->receiver, &status, 0, &usage) < 0 || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != 0)
		bench_die("the receiver ended with status %x", (unsigned)status);
	end->cpu_seconds = (double)usage.ru_utime.tv_sec + (double)usage.ru_stime.tv_sec +
			   ((double)usage.ru_utime.tv_usec + (double)usage.ru_stime.tv_usec) / 1e6;
	if (rig->counter > 0) {
		if (read(rig->result, &end->counted, sizeof(end->counted)) !=
			    sizeof(end->counted) ||
		    waitpid(rig->counter, &status, 0) < 0 || status != 0)
			bench_die("the counter ended with status %x", (unsigned)status);
	}
	close(rig->result);
	read_words(rig, end);
	snprintf(path, sizeof(path), "%s/cells.json", rig->folder);
	unlink(path);
	if (rmdir(rig->folder) != 0)
		bench_die("remove %s: %s", rig->folder, strerror(errno));
}

/* ---- frames ---------------------------------------------------------------------------------- */

size_t rig_event(uint8_t *out, const struct cellos_probe_event *event)
{
	size_t length;

	if (cellos_encode_frame(event, out, CELLOS_ENCODED_FRAME_MAX_BYTES, &length, NULL) !=
	    CELLOS_WIRE_OK)
		bench_die("encode an event");
	return length;
}

size_t rig_beat(uint8_t *out, uint32_t epoch, uint64_t sent)
{
	struct cellos_probe_event event = {.guest_pid = 100};

	cellos_self_report_set(
		&event, &(struct cellos_self_report){.source = CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
						     .epoch = epoch,
						     .count = sent});
	return rig_event(out, &event);
}

void rig_send(int fd, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		ssize_t n = send(fd, bytes, length, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			bench_die("send: %s", strerror(errno));
		bytes += n;
		length -= (size_t)n;
	}
}
