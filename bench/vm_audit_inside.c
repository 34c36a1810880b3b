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
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent.h"
#include "cellos/wire.h"
#include "common.h"

#define LOG "/var/log/audit/audit.log"
#define RULES "/etc/audit/bench.rules"
#define MAX_RATES 8u
#define MAX_PIDS 4194304u
#define SECOND UINT64_C(1000000000)
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
	bench_cannot("find kauditd");
}

/* ---- the agent, and its host ------------------------------------------------------------------
 */

static void tell_event(void *context, const struct cellos_probe_event *event)
{
	(void)context;
	if (event->probe_source == CELLOS_SOURCE_PROCESS_SPAWNED)
		tell(event->guest_pid, BEGAN);
	else if (event->probe_source == CELLOS_SOURCE_PROCESS_EXITED)
		tell(event->guest_pid, ENDED);
}

static void agent_start(struct bench_agent *agent)
{
	static const char *const options[] = {
		"--probes",           "process", "--process", "connector",
		"--on-probe-failure", "fail",    NULL};

	*agent = (struct bench_agent){.lane = CELLOS_LANE_PROC, .seldom = true, .take = tell_event};
	bench_agent_start(agent, agent_path, options);
}

/* What it counted as lost. */
static uint64_t agent_stop(struct bench_agent *agent)
{
	bench_agent_stop(agent);
	if (agent->bad > 0)
		bench_die("%llu frames are none", (unsigned long long)agent->bad);
	return agent->dropped[CELLOS_DROP_QUEUE_FULL] + agent->dropped[CELLOS_DROP_KERNEL] +
	       agent->dropped[CELLOS_DROP_STOPPED];
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
	pid_t pid = bench_spawn(argv);

	if (waitpid(pid, &status, 0) != pid || status != 0)
		bench_cannot("run auditctl");
}

/* A number of the kernel's own account. */
static uint64_t audit_status(const char *key)
{
	const char *const argv[] = {"/sbin/auditctl", "-s", NULL};
	char text[4096];

	(void)bench_output_of(argv, text, sizeof(text));
	return number_after(text, key);
}

/* Records that the kernel had no room for, since the last time. */
static uint64_t records_lost(void)
{
	static uint64_t before;
	uint64_t all = audit_status("\nlost "), lost = all - before;

	if (all == UINT64_MAX)
		bench_cannot("read auditctl's status");
	before = all;
	return lost;
}

static void await_audit(const char *what, bool (*there)(void))
{
	uint64_t deadline = bench_now_ns() + START_NS;
	bool done;

	while (!(done = there()) && bench_now_ns() < deadline)
		bench_sleep_until(bench_now_ns() + SECOND / 100);
	errno = ETIMEDOUT;
	if (!done)
		bench_cannot(what);
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
	audit.daemon = bench_spawn(daemon);
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
		bench_cannot("stop auditd");
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
	uint64_t begin = bench_now_ns();
	int status;

	*pid = bench_spawn(argv);
	if (waitpid(*pid, &status, 0) != *pid || status != 0)
		bench_cannot("run the short program");
	return bench_now_ns() - begin;
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* At the rate, for as long as told; at most `room` processes. */
static void live(struct block *block, pid_t *pids, uint64_t *times, size_t room, uint64_t length)
{
	uint64_t begin = bench_now_ns(), sum = 0;

	while (block->count < room && bench_now_ns() < begin + length) {
		if (block->rate > 0)
			bench_sleep_until(begin + block->count * SECOND / block->rate);
		times[block->count] = live_once(&pids[block->count]);
		sum += times[block->count++];
	}
	block->per_s = (double)block->count * (double)SECOND / (double)(bench_now_ns() - begin);
	block->mean = (double)sum / (double)block->count;
	qsort(times, block->count, sizeof(*times), by_value);
	block->median = (double)times[block->count / 2];
}

static void await_last(const struct block *block, pid_t last)
{
	uint64_t deadline = bench_now_ns() + PATIENCE_NS;

	if (block->subject == NOBODY)
		return;
	do {
		if (block->subject == AUDITD)
			read_log();
		bench_sleep_until(bench_now_ns() + BENCH_SELDOM_NS);
	} while (told_of(last) != BOTH && bench_now_ns() < deadline);
}

static uint64_t subject_busy(enum subject subject, const struct bench_agent *agent)
{
	switch (subject) {
	case AGENT:
		return bench_busy_ns(agent->pid);
	case AUDITD:
		return bench_busy_ns(audit.daemon) + bench_busy_ns(kauditd);
	default:
		return 0;
	}
}

static void run_block(struct block *block, uint64_t length)
{
	static pid_t pids[65536];
	static uint64_t times[65536];
	const size_t room = sizeof(pids) / sizeof(*pids);
	struct bench_agent agent;

	memset(told, 0, sizeof(told));
	if (block->subject == AGENT)
		agent_start(&agent);
	else if (block->subject == AUDITD)
		audit_start();
	block->busy = subject_busy(block->subject, &agent);
	live(block, pids, times, room, length);
	await_last(block, pids[block->count - 1]);
	block->busy = subject_busy(block->subject, &agent) - block->busy;
	if (block->subject != NOBODY)
		block->resident = resident_kib(block->subject == AGENT ? agent.pid : audit.daemon);
	if (block->subject == AGENT) {
		block->lost = agent_stop(&agent);
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
