/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The workload of the matrix: what runs behind the guard, and knows exactly what it did.
 *
 *     load FOLDER WATCHED PORTION SECONDS hidden|shared [restore]    the whole course, PORTION per
 *                                                                    cent of it
 *     load nothing                                         ends at once
 *
 * Each short process has a name of its own, p and five digits. Of ten, the first also connects to a
 * port where nobody listens, the second asks for what it must not, the third writes into the
 * watched folder. Between the parts it asks the aide, a line through FOLDER/ask and one through
 * FOLDER/answer: what the host shall do meanwhile, and what it is to remember ("note ...").
 *
 * One thread. Refuses to: go on when something that must work does not (exit 1). The end of a whole
 * course is exit 7.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define WHOLE_COURSE 7
#define SLICE_NS INT64_C(500000000)
#define MAX_FORKS 20000
#define BURST 16000
#define LONG_LIVED 20
/* Every number that this namespace has given so far is far below. */
#define NUMBERS 2048

static FILE *ask_file, *answer_file;
static const char *watched;

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "load: cannot %s: %s\n", what, strerror(errno));
	_exit(1);
}

__attribute__((format(printf, 1, 2))) static void ask(const char *format, ...)
{
	char answer[128];
	va_list arguments;

	va_start(arguments, format);
	vfprintf(ask_file, format, arguments);
	va_end(arguments);
	if (fflush(ask_file) != 0 || fgets(answer, sizeof(answer), answer_file) == NULL)
		fail("ask");
	if (strcmp(answer, "ok\n") != 0) {
		fprintf(stderr, "load: asked '%s', was told: %s", format, answer);
		_exit(1);
	}
}

/* ---- short processes ------------------------------------------------------------------------ */

static void attempt(void)
{
	const struct sockaddr_in nobody = {.sin_family = AF_INET,
					   .sin_port = htons(9),
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || connect(fd, (const struct sockaddr *)&nobody, sizeof(nobody)) == 0 ||
	    errno != ECONNREFUSED)
		fail("be refused a connection");
	close(fd);
}

static void touch(const char *name)
{
	char path[256];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", watched, name);
	fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) < 0)
		fail("write a watched file");
}

static void be_short(unsigned number)
{
	char name[16];

	snprintf(name, sizeof(name), "p%05u", number);
	prctl(PR_SET_NAME, name);
	switch (number % 10) {
	case 0:
		attempt();
		break;
	case 1:
		if (sethostname("x", 1) == 0 || errno != EPERM)
			fail("be refused a name");
		break;
	case 2:
		touch(name);
		break;
	default:
		break;
	}
	_exit((int)(number % 100));
}

static void reap(pid_t pid, int wanted)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status) ||
	    WEXITSTATUS(status) != wanted)
		fail("have a child that ends as it should");
}

/* Those that wrote into the watched folder are told by number, a line for each hundred. */
static void storm(unsigned first, unsigned count)
{
	char list[2048];
	size_t length = 0;

	for (unsigned number = first; number < first + count; number++) {
		pid_t pid = fork();

		if (pid == 0)
			be_short(number);
		reap(pid, (int)(number % 100));
		if (number % 10 == 2)
			length += (size_t)snprintf(list + length, sizeof(list) - length, " %u=%d",
						   number, pid);
		if (length > sizeof(list) - 64 || (number + 1 == first + count && length > 0)) {
			ask("note touched%s\n", list);
			length = 0;
		}
	}
	ask("note storm %u %u\n", first, count);
}

/* They end when the last of them has lived through a few looks at /proc. */
static void live_long(void)
{
	pid_t pids[LONG_LIVED];
	int gate[2];

	if (pipe2(gate, O_CLOEXEC) < 0)
		fail("make a pipe");
	for (unsigned at = 0; at < LONG_LIVED; at++) {
		pids[at] = fork();
		if (pids[at] == 0) {
			char name[16];

			snprintf(name, sizeof(name), "l%05u", at);
			prctl(PR_SET_NAME, name);
			close(gate[1]);
			_exit(read(gate[0], name, 1) == 0 ? 0 : 1);
		}
	}
	/* At least three intervals, even if the first beat was on its way already: fifteen looks.
	 */
	ask("beats 4\n");
	close(gate[0]);
	close(gate[1]);
	for (unsigned at = 0; at < LONG_LIVED; at++)
		reap(pids[at], 0);
	ask("note long %d\n", LONG_LIVED);
	ask("beats 3\n");
}

/* ---- speed ---------------------------------------------------------------------------------- */

static int by_size(const void *one, const void *other)
{
	const int64_t difference = *(const int64_t *)one - *(const int64_t *)other;

	return (difference > 0) - (difference < 0);
}

static int64_t fork_and_exec(void)
{
	const int64_t begin = now_ns();
	pid_t pid = fork();

	if (pid == 0) {
		execl("/load", "load", "nothing", (char *)NULL);
		_exit(1);
	}
	reap(pid, 0);
	return now_ns() - begin;
}

/* The median of each half second, told under the name of this stretch. */
static void measure(const char *stretch, unsigned seconds)
{
	static int64_t took[MAX_FORKS];
	const unsigned slices = 2 * seconds;

	for (unsigned slice = 0; slice < slices; slice++) {
		const int64_t end = now_ns() + SLICE_NS;
		size_t count = 0;

		while (count == 0 || (now_ns() < end && count < MAX_FORKS))
			took[count++] = fork_and_exec();
		qsort(took, count, sizeof(took[0]), by_size);
		ask("note slice %s %lld %zu\n", stretch, (long long)took[count / 2], count);
	}
}

/* More than the channel and a lane hold together. */
static void burst(unsigned count)
{
	char name[16] = "";

	prctl(PR_GET_NAME, name);
	prctl(PR_SET_NAME, "burst");
	for (unsigned at = 0; at < count; at++)
		attempt();
	prctl(PR_SET_NAME, name);
	ask("note burst %u\n", count);
}

static void stall(unsigned seconds)
{
	measure("before", (seconds + 1) / 2);
	ask("stop\n");
	burst(BURST);
	measure("stalled", seconds);
	ask("cont\n");
	ask("beats 3\n");
	measure("after", (seconds + 1) / 2);
	ask("beats 2\n");
}

/* ---- what can be named ---------------------------------------------------------------------- */

static unsigned named_agents(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	unsigned found = 0;

	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		char path[300], name[32] = "";
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		file = fopen(path, "re");
		if (file != NULL && fgets(name, sizeof(name), file) != NULL &&
		    strncmp(name, "cellos-telemet", 14) == 0)
			found++;
		if (file != NULL)
			fclose(file);
	}
	if (proc == NULL)
		fail("read /proc");
	closedir(proc);
	return found;
}

/* How many numbers somebody else has, above the two that calls refuse whoever has them. */
static unsigned answering_numbers(void)
{
	unsigned found = 0;

	for (pid_t number = 3; number < NUMBERS; number++)
		found += number != getpid() && (kill(number, 0) == 0 || errno != ESRCH);
	return found;
}

/* ---- the course ----------------------------------------------------------------------------- */

static FILE *open_end(const char *folder, const char *name, const char *mode)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	file = fopen(path, mode);
	if (file == NULL)
		fail(path);
	return file;
}

static void course(unsigned percent, unsigned seconds, bool shared, bool restored, int64_t begin)
{
	ask("note begin %lld %d %u %u\n", (long long)begin, getpid(), named_agents(),
	    answering_numbers());
	storm(0, 2 * percent);
	ask("late 10000\n");
	storm(10000, 50 * percent);
	ask("beats 2\n");
	live_long();
	ask("kill %u\n", percent / 2); /* lines, which is in the midst of what comes */
	storm(20000, 10 * percent);
	ask("beats 2\n");
	stall(seconds);
	ask("cut\n");
	storm(30000, 5 * percent);
	ask("beats 2\n");
	if (restored) {
		ask("restore\n");
		storm(50000, 5 * percent);
		ask("beats 2\n");
	}
	if (!shared) { /* there is no netlink to the agent */
		ask("forge 50\n");
		ask("deafen 5\n"); /* answered when it hears again; what it still puts right */
		ask("beats 2\n");  /* is not this storm's affair */
	}
	storm(40000, 5 * percent);
	ask("beats 2\n");
}

int main(int argc, char **argv)
{
	const int64_t begin = now_ns();

	if (argc == 2 && strcmp(argv[1], "nothing") == 0)
		return 0;
	if (argc != 6 && argc != 7) {
		fprintf(stderr,
			"usage: load FOLDER WATCHED PERCENT SECONDS hidden|shared [restore]\n");
		return 2;
	}
	ask_file = open_end(argv[1], "ask", "we");
	answer_file = open_end(argv[1], "answer", "re");
	watched = argv[2];
	course((unsigned)strtoul(argv[3], NULL, 10), (unsigned)strtoul(argv[4], NULL, 10),
	       strcmp(argv[5], "shared") == 0, argc == 7, begin);
	return WHOLE_COURSE;
}
