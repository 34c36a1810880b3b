/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The part of bench/vm_audit that runs in the guest: the same processes under auditd, under the
 * agent and under nobody, in turn.
 *
 *   vm_audit_inside [--agent PATH] [--rates LIST] [--rounds N] [--first N] [--seconds S]
 *                   [--subjects LIST] [--program PATH]
 *
 * A round has four blocks for each rate (processes a second; 0: as fast as it goes): nobody, the
 * agent, nobody, auditd, and each round begins one further on. A block starts its subject, spawns
 * a program at that rate for S seconds, waits until the last of them was told of (2 s at most), and
 * prints one JSON line:
 * - coverage: processes whose start and end were both told, of all that were spawned;
 * - the subject's processor time, all threads, the kernel's audit thread with auditd's, from the
 *   moment the subject was ready;
 * - its resident memory at the end; what it says it lost; what one fork+exec+wait took.
 * --first is the number of the first round. The program itself, by the name /bin/short, is what is
 * spawned: it ends at once.
 *
 * Auditing makes every later process of the boot carry a context, and so all subjects run once
 * before the first round: no block is from before.
 *
 * Threads: main spawns; one reads what the agent sends. As root. Refuses to: enable audit where its
 * parent is not PID 1, for it stays until the next boot; go on when a subject does not start or
 * stop (exit 1).
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cellos/wire.h"

#define SOCKET "/tmp/host.sock"
#define LOG "/var/log/audit/audit.log"
#define RULES "/etc/audit/bench.rules"
#define MAX_RATES 8u
#define MAX_PIDS 4194304u
#define SECOND UINT64_C(1000000000)
/* Between two reads of a host that is not to be in the way. */
#define SELDOM_NS (SECOND / 50)
#define PATIENCE_NS (2 * SECOND)
#define START_NS (20 * SECOND)
/* of x86_64, as the log has them */
enum { CALL_EXECVE = 59, CALL_EXIT = 60, CALL_EXIT_GROUP = 231, CALL_EXECVEAT = 322 };

enum subject { NOBODY, AGENT, AUDITD };
static const char *const names[] = {"nobody", "agent", "auditd"};
static const enum subject order[] = {NOBODY, AGENT, NOBODY, AUDITD};

/* What was told of a pid. No number comes twice in a block: far fewer than there are. */
enum { BEGAN = 1, ENDED = 2, BOTH = 3 };
static _Atomic uint8_t told[MAX_PIDS];

static const char *agent_path = "/bin/cellos-telemetry", *program = "/bin/short";
static bool wanted[3] = {true, true, true};
static pid_t kauditd;

extern char **environ;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "vm_audit_inside: cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * SECOND + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t when)
{
	struct timespec at = {.tv_sec = (time_t)(when / SECOND), .tv_nsec = (long)(when % SECOND)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

static void tell(uint64_t pid, uint8_t what)
{
	if (pid < MAX_PIDS)
		atomic_fetch_or_explicit(&told[pid], what, memory_order_relaxed);
}

static uint8_t told_of(pid_t pid)
{
	return atomic_load_explicit(&told[pid], memory_order_relaxed);
}

/* ---- what the kernel knows of a process -------------------------------------------------------
 */

static uint64_t busy_ns(pid_t pid)
{
	struct timespec spent;
	clockid_t clock;

	if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &spent) < 0)
		die("read a process's clock");
	return (uint64_t)spent.tv_sec * SECOND + (uint64_t)spent.tv_nsec;
}

/* By its page tables: the kernel's running count lags behind by up to 64 pages a thread. */
static long resident_kib(pid_t pid)
{
	char path[64], line[256];
	long kib = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", pid);
	file = fopen(path, "re");
	while (file != NULL && fgets(line, sizeof(line), file) != NULL)
		if (strncmp(line, "Rss:", 4) == 0)
			kib = strtol(line + 4, NULL, 10);
	if (file != NULL)
		fclose(file);
	return kib;
}

/* A kernel thread has it from boot on; among the first numbers. */
static pid_t find_kauditd(void)
{
	for (pid_t pid = 2; pid < 1000; pid++) {
		char path[64], name[32] = "";
		int fd;

		snprintf(path, sizeof(path), "/proc/%d/comm", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)!read(fd, name, sizeof(name) - 1);
		close(fd);
		if (strcmp(name, "kauditd\n") == 0)
			return pid;
	}
	errno = ESRCH;
	die("find kauditd");
}

/* ---- the agent, and its host ------------------------------------------------------------------
 */

struct host {
	pid_t agent;
	int listener, connection;
	pthread_t reader;
	/* The reader's, until it has ended. */
	uint64_t bad, lost[CELLOS_DROP_COUNT];
};

static void take_frame(struct host *host, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	struct cellos_self_report report;

	if (cellos_decode_frame(frame, length, &event, NULL) != CELLOS_WIRE_OK)
		host->bad++;
	else if (event.probe_source == CELLOS_SOURCE_PROCESS_SPAWNED)
		tell(event.guest_pid, BEGAN);
	else if (event.probe_source == CELLOS_SOURCE_PROCESS_EXITED)
		tell(event.guest_pid, ENDED);
	else if (event.probe_source == CELLOS_SOURCE_TELEMETRY_DROPPED &&
		 cellos_self_report_parse(&event, &report) == 0 && report.lane == CELLOS_LANE_PROC)
		host->lost[report.reason] = report.count;
}

/* A guest's host has processors of its own. This one has not, and so it works seldom: what gathers
   meanwhile fits into the socket. */
static void *read_all(void *opaque)
{
	static uint8_t bytes[65536];
	struct host *host = opaque;
	struct cellos_stream stream;
	ssize_t got;

	cellos_stream_init(&stream);
	while ((got = read(host->connection, bytes, sizeof(bytes))) > 0) {
		const uint8_t *frame;
		size_t length;

		if (got < (ssize_t)sizeof(bytes) / 4)
			sleep_until(now_ns() + SELDOM_NS);
		cellos_stream_feed(&stream, bytes, (size_t)got);
		while (cellos_stream_next(&stream, &frame, &length) == CELLOS_STREAM_FRAME)
			take_frame(host, frame, length);
	}
	return NULL;
}

static pid_t spawn(const char *const argv[])
{
	pid_t pid;

	errno = posix_spawn(&pid, argv[0], NULL, NULL, (char *const *)(uintptr_t)argv, environ);
	if (errno != 0)
		die(argv[0]);
	return pid;
}

static void listen_here(struct host *host)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = SOCKET};

	host->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)unlink(SOCKET);
	if (host->listener < 0 ||
	    bind(host->listener, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(host->listener, 16) < 0)
		die("listen");
}

/* Returns with the agent armed and connected. */
static void agent_start(struct host *host)
{
	char number[16], newline;
	const char *const argv[] = {agent_path, "--channel",          "unix:" SOCKET, "--probes",
				    "process",  "--process",          "connector",    "--ready-fd",
				    number,     "--on-probe-failure", "fail",         NULL};
	int ready[2];

	memset(host, 0, sizeof(*host));
	listen_here(host);
	/* The writing end alone is the agent's. */
	if (pipe(ready) < 0 || fcntl(ready[0], F_SETFD, FD_CLOEXEC) < 0)
		die("make a pipe");
	snprintf(number, sizeof(number), "%d", ready[1]);
	host->agent = spawn(argv);
	close(ready[1]);
	if (read(ready[0], &newline, 1) != 1)
		die("see the agent ready");
	close(ready[0]);
	host->connection = accept4(host->listener, NULL, NULL, SOCK_CLOEXEC);
	if (host->connection < 0 || pthread_create(&host->reader, NULL, read_all, host) != 0)
		die("be the agent's host");
}

/* All that it had to say is read when this returns; what it counted as lost. */
static uint64_t agent_stop(struct host *host)
{
	int status;

	(void)kill(host->agent, SIGTERM);
	pthread_join(host->reader, NULL);
	close(host->connection);
	close(host->listener);
	if (waitpid(host->agent, &status, 0) != host->agent || status != 0 || host->bad > 0)
		die("stop the agent in order");
	return host->lost[CELLOS_DROP_QUEUE_FULL] + host->lost[CELLOS_DROP_KERNEL] +
	       host->lost[CELLOS_DROP_STOPPED];
}

/* ---- auditd -----------------------------------------------------------------------------------
 */

struct audit {
	pid_t daemon;
	int log;
	size_t held; /* bytes of a line that is not whole yet */
	bool ruled;  /* it wrote that the last rule was added */
	char buffer[1 << 18];
};

static struct audit audit;

static uint64_t number_after(const char *line, const char *key)
{
	const char *found = strstr(line, key);

	return found == NULL ? UINT64_MAX : strtoull(found + strlen(key), NULL, 10);
}

static void take_record(const char *line)
{
	if (strncmp(line, "type=CONFIG_CHANGE ", 19) == 0 && strstr(line, "op=add_rule") != NULL &&
	    strstr(line, "key=\"exit\"") != NULL)
		audit.ruled = true;
	if (strncmp(line, "type=SYSCALL ", 13) != 0)
		return;
	switch (number_after(line, " syscall=")) {
	case CALL_EXECVE:
	case CALL_EXECVEAT:
		tell(number_after(line, " pid="), BEGAN);
		break;
	case CALL_EXIT:
	case CALL_EXIT_GROUP:
		tell(number_after(line, " pid="), ENDED);
		break;
	default:
		break;
	}
}

/* Whatever the log has that was not looked at. */
static void read_log(void)
{
	ssize_t got;

	if (audit.log < 0)
		audit.log = open(LOG, O_RDONLY | O_CLOEXEC);
	while (audit.log >= 0 && (got = read(audit.log, audit.buffer + audit.held,
					     sizeof(audit.buffer) - 1 - audit.held)) > 0) {
		char *line = audit.buffer, *end = audit.buffer + audit.held + got, *newline;

		*end = '\0';
		while ((newline = memchr(line, '\n', (size_t)(end - line))) != NULL) {
			*newline = '\0';
			take_record(line);
			line = newline + 1;
		}
		audit.held = (size_t)(end - line);
		memmove(audit.buffer, line, audit.held);
	}
}

static void control(const char *const argv[])
{
	int status;
	pid_t pid = spawn(argv);

	if (waitpid(pid, &status, 0) != pid || status != 0)
		die("run auditctl");
}

/* A number of the kernel's own account. */
static uint64_t audit_status(const char *key)
{
	const char *const argv[] = {"/sbin/auditctl", "-s", NULL};
	posix_spawn_file_actions_t actions;
	char text[4096] = "";
	size_t held = 0;
	int ends[2];
	ssize_t got;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0 || posix_spawn_file_actions_init(&actions) != 0 ||
	    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) != 0)
		die("make a pipe");
	errno = posix_spawn(&pid, argv[0], &actions, NULL, (char *const *)(uintptr_t)argv, environ);
	if (errno != 0)
		die(argv[0]);
	close(ends[1]);
	while ((got = read(ends[0], text + held, sizeof(text) - 1 - held)) > 0)
		held += (size_t)got;
	close(ends[0]);
	posix_spawn_file_actions_destroy(&actions);
	(void)waitpid(pid, NULL, 0);
	return number_after(text, key);
}

/* Records that the kernel had no room for, since the last time. */
static uint64_t records_lost(void)
{
	static uint64_t before;
	uint64_t all = audit_status("\nlost "), lost = all - before;

	if (all == UINT64_MAX)
		die("read auditctl's status");
	before = all;
	return lost;
}

static void await_audit(const char *what, bool (*there)(void))
{
	uint64_t deadline = now_ns() + START_NS;
	bool done;

	while (!(done = there()) && now_ns() < deadline)
		sleep_until(now_ns() + SECOND / 100);
	errno = ETIMEDOUT;
	if (!done)
		die(what);
}

static bool is_enabled(void)
{
	return audit_status("\npid ") == (uint64_t)audit.daemon && audit_status("enabled ") == 1;
}

static bool is_ruled(void)
{
	read_log();
	return audit.ruled;
}

/* Returns with both rules at work and auditd writing. */
static void audit_start(void)
{
	const char *const daemon[] = {"/sbin/auditd", "-n", NULL};
	const char *const rules[] = {"/sbin/auditctl", "-R", RULES, NULL};

	(void)unlink(LOG);
	audit.log = -1;
	audit.held = 0;
	audit.ruled = false;
	audit.daemon = spawn(daemon);
	await_audit("see auditd receive", is_enabled);
	control(rules);
	await_audit("see auditd write", is_ruled);
}

static void audit_stop(void)
{
	const char *const off[] = {"/sbin/auditctl", "-e", "0", NULL};
	const char *const none[] = {"/sbin/auditctl", "-D", NULL};
	int status;

	control(none);
	control(off);
	read_log();
	(void)kill(audit.daemon, SIGTERM);
	/* All that it had to write is in the log; how it ends is its own affair, and told. */
	if (waitpid(audit.daemon, &status, 0) != audit.daemon)
		die("stop auditd");
	if (status != 0)
		fprintf(stderr, "vm_audit_inside: auditd ended with wait status %#x\n", status);
	close(audit.log);
}

/* ---- blocks -----------------------------------------------------------------------------------
 */

struct block {
	enum subject subject;
	uint64_t rate, lost, busy;
	size_t count, covered;
	double per_s, mean, median;
	long resident;
};

static uint64_t live_once(pid_t *pid)
{
	const char *const argv[] = {program, NULL};
	uint64_t begin = now_ns();
	int status;

	*pid = spawn(argv);
	if (waitpid(*pid, &status, 0) != *pid || status != 0)
		die("run the short program");
	return now_ns() - begin;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* At the rate, for as long as told; at most `room` processes. */
static void live(struct block *block, pid_t *pids, uint64_t *times, size_t room, uint64_t length)
{
	uint64_t begin = now_ns(), sum = 0;

	while (block->count < room && now_ns() < begin + length) {
		if (block->rate > 0)
			sleep_until(begin + block->count * SECOND / block->rate);
		times[block->count] = live_once(&pids[block->count]);
		sum += times[block->count++];
	}
	block->per_s = (double)block->count * (double)SECOND / (double)(now_ns() - begin);
	block->mean = (double)sum / (double)block->count;
	qsort(times, block->count, sizeof(*times), by_value);
	block->median = (double)times[block->count / 2];
}

static void await_last(const struct block *block, pid_t last)
{
	uint64_t deadline = now_ns() + PATIENCE_NS;

	if (block->subject == NOBODY)
		return;
	do {
		if (block->subject == AUDITD)
			read_log();
		sleep_until(now_ns() + SELDOM_NS);
	} while (told_of(last) != BOTH && now_ns() < deadline);
}

static uint64_t subject_busy(enum subject subject, const struct host *host)
{
	switch (subject) {
	case AGENT:
		return busy_ns(host->agent);
	case AUDITD:
		return busy_ns(audit.daemon) + busy_ns(kauditd);
	default:
		return 0;
	}
}

static void run_block(struct block *block, uint64_t length)
{
	static pid_t pids[65536];
	static uint64_t times[65536];
	const size_t room = sizeof(pids) / sizeof(*pids);
	struct host host;

	memset(told, 0, sizeof(told));
	if (block->subject == AGENT)
		agent_start(&host);
	else if (block->subject == AUDITD)
		audit_start();
	block->busy = subject_busy(block->subject, &host);
	live(block, pids, times, room, length);
	await_last(block, pids[block->count - 1]);
	block->busy = subject_busy(block->subject, &host) - block->busy;
	if (block->subject != NOBODY)
		block->resident = resident_kib(block->subject == AGENT ? host.agent : audit.daemon);
	if (block->subject == AGENT) {
		block->lost = agent_stop(&host);
	} else if (block->subject == AUDITD) {
		block->lost = records_lost();
		audit_stop();
	}
	for (size_t at = 0; at < block->count; at++)
		block->covered += told_of(pids[at]) == BOTH;
}

static void print_block(size_t round, size_t place, const struct block *block)
{
	printf("{\"bench\":\"vm_audit\",\"round\":%zu,\"place\":%zu,\"subject\":\"%s\","
	       "\"asked_per_s\":%llu,\"per_s\":%.1f,\"processes\":%zu,\"exec_ns_mean\":%.0f,"
	       "\"exec_ns_median\":%.0f",
	       round, place, names[block->subject], (unsigned long long)block->rate, block->per_s,
	       block->count, block->mean, block->median);
	if (block->subject != NOBODY)
		printf(",\"covered\":%zu,\"lost\":%llu,\"cpu_ms_per_1000\":%.3f,"
		       "\"resident_kib\":%ld",
		       block->covered, (unsigned long long)block->lost,
		       (double)block->busy / 1e6 * 1000 / (double)block->count, block->resident);
	printf("}\n");
	fflush(stdout);
}

/* ---- life -------------------------------------------------------------------------------------
 */

struct plan {
	uint64_t rates[MAX_RATES];
	size_t rate_count, first, rounds;
	double seconds;
};

static void take_rates(char *text, struct plan *plan)
{
	plan->rate_count = 0;
	for (char *word = strtok(text, ","); word != NULL && plan->rate_count < MAX_RATES;
	     word = strtok(NULL, ","))
		plan->rates[plan->rate_count++] = strtoull(word, NULL, 10);
}

static void take_subjects(const char *text)
{
	for (size_t subject = AGENT; subject <= AUDITD; subject++)
		wanted[subject] = strstr(text, names[subject]) != NULL;
}

static bool parse(int argc, char *argv[], struct plan *plan)
{
	static const struct option list[] = {{"agent", required_argument, NULL, 'a'},
					     {"rates", required_argument, NULL, 'r'},
					     {"rounds", required_argument, NULL, 'n'},
					     {"seconds", required_argument, NULL, 's'},
					     {"first", required_argument, NULL, 'f'},
					     {"subjects", required_argument, NULL, 'w'},
					     {"program", required_argument, NULL, 'p'},
					     {NULL, 0, NULL, 0}};
	int answer;

	while ((answer = getopt_long(argc, argv, "", list, NULL)) != -1) {
		if (answer == 'a')
			agent_path = optarg;
		else if (answer == 'r')
			take_rates(optarg, plan);
		else if (answer == 'n')
			plan->rounds = strtoul(optarg, NULL, 10);
		else if (answer == 's')
			plan->seconds = strtod(optarg, NULL);
		else if (answer == 'f')
			plan->first = strtoul(optarg, NULL, 10);
		else if (answer == 'p')
			program = optarg;
		else if (answer == 'w')
			take_subjects(optarg);
		else
			return false;
	}
	return optind == argc && plan->rate_count > 0 && plan->seconds > 0;
}

static void run_round(const struct plan *plan, size_t round)
{
	const size_t places = sizeof(order) / sizeof(*order);

	for (size_t rate = 0; rate < plan->rate_count; rate++)
		for (size_t place = 0; place < places; place++) {
			struct block block = {.subject = order[(place + round) % places],
					      .rate = plan->rates[rate]};

			if (!wanted[block.subject])
				continue;
			run_block(&block, (uint64_t)(plan->seconds * (double)SECOND));
			print_block(round, place, &block);
		}
}

static void warm_up(void)
{
	for (size_t at = 0; at < sizeof(order) / sizeof(*order); at++) {
		struct block block = {.subject = order[at], .rate = 100};

		if (wanted[block.subject])
			run_block(&block, SECOND / 4);
	}
}

int main(int argc, char *argv[])
{
	struct plan plan = {{200, 400, 0}, 3, 0, 15, 1.2};

	if (argc == 1 && strcmp(argv[0], program) == 0)
		return 0;
	if (!parse(argc, argv, &plan)) {
		fprintf(stderr, "usage: vm_audit_inside [--agent PATH] [--rates LIST] [--rounds N] "
				"[--first N] [--seconds S] [--subjects LIST] [--program PATH]\n");
		return 2;
	}
	if (wanted[AUDITD] && getppid() != 1) {
		fprintf(stderr, "vm_audit_inside: cannot start: audit is enabled only in a "
				"machine whose init is the caller\n");
		return 1;
	}
	if (wanted[AUDITD])
		kauditd = find_kauditd();
	warm_up();
	for (size_t round = plan.first; round < plan.first + plan.rounds; round++)
		run_round(&plan, round);
	return 0;
}
