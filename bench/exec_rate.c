/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What it costs to see every process, and whether every one is seen.
 *
 *   exec_rate --agent PATH [--rates LIST] [--count N] [--pairs N] [--block N] [--process HOW]
 *             [--quick]
 *
 * Rates (processes per second; 0 is as fast as it goes): N times vfork and exec of /bin/true, the
 * agent beside it, this program its host. Every event is compared with the list of what was
 * spawned, by pid and time. A row tells coverage, order errors, wrong and empty names, what was
 * dropped, and the agent's processor time, all its threads, per process of the machine: other
 * programs' children are its work as well.
 * Pairs: blocks of fork, exec and wait with and without the agent, in turn; the null ratio (without
 * / without) beside the ratio. Of each block the mean, which has all that the machine did meanwhile
 * in it, and the median, which has what one usually takes.
 *
 * One JSON line per row. Exits 1 when an event is missing that no counter accounts for, comes twice
 * or out of order; never for a time or a name. 77: no process connector here.
 *
 * Threads: main spawns; one reads what the agent sends.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
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
#include "skip.h"

#define PROGRAM "/bin/true"
#define NAME "true"
#define MAX_RATES 16u
/* Between two reads of a host that is not to be in the way. */
#define SELDOM_NS UINT64_C(20000000)
/* The kernel lets go of a process before it says so. */
#define LATE_NS UINT64_C(1000000000)

extern char **environ;

static char folder[] = "/tmp/cellos-exec-rate-XXXXXX";
static char socket_path[64];
static const char *agent_path, *surface = "auto";
static bool sound = true;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "exec_rate: cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static void *take_memory(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		die("take memory");
	return memory;
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void sleep_until(uint64_t when)
{
	struct timespec at = {.tv_sec = (time_t)(when / 1000000000u),
			      .tv_nsec = (long)(when % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* ---- the agent and its host ----------------------------------------------------------------- */

struct seen {
	uint64_t ns;
	uint32_t pid;
	bool exited, named, empty;
};

struct host {
	pid_t agent;
	int listener, connection;
	pthread_t reader;
	bool seldom;
	/* The reader's, until it has ended. */
	struct seen *seen; /* owned */
	size_t count, room;
	uint64_t bad;
	uint64_t rows[CELLOS_DROP_COUNT]; /* of the lane of processes */
};

static void note_event(struct host *host, const struct cellos_probe_event *event)
{
	if (host->count == host->room) {
		host->room = host->room == 0 ? 65536 : 2 * host->room;
		host->seen = realloc(host->seen, host->room * sizeof(*host->seen));
		if (host->seen == NULL)
			die("take memory");
	}
	host->seen[host->count++] = (struct seen){
		.ns = event->guest_monotonic_ns,
		.pid = event->guest_pid,
		.exited = event->probe_source == CELLOS_SOURCE_PROCESS_EXITED,
		.named = strcmp(event->guest_comm, NAME) == 0,
		.empty = event->guest_comm_len == 0,
	};
}

static void take_frame(struct host *host, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	struct cellos_self_report report;

	if (cellos_decode_frame(frame, length, &event, NULL) != CELLOS_WIRE_OK)
		host->bad++;
	else if (event.probe_source == CELLOS_SOURCE_PROCESS_SPAWNED ||
		 event.probe_source == CELLOS_SOURCE_PROCESS_EXITED)
		note_event(host, &event);
	else if (event.probe_source == CELLOS_SOURCE_TELEMETRY_DROPPED &&
		 cellos_self_report_parse(&event, &report) == 0 && report.lane == CELLOS_LANE_PROC)
		host->rows[report.reason] = report.count;
}

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

		/* A guest's host has processors of its own. This one has not, and so works seldom:
		   what gathers meanwhile fits into the socket. */
		if (host->seldom && got < (ssize_t)sizeof(bytes) / 4)
			sleep_until(now_ns() + SELDOM_NS);

		cellos_stream_feed(&stream, bytes, (size_t)got);
		while (cellos_stream_next(&stream, &frame, &length) == CELLOS_STREAM_FRAME)
			take_frame(host, frame, length);
	}
	return NULL;
}

static int listen_here(void)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", socket_path);
	(void)unlink(socket_path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0 ||
	    listen(fd, 16) < 0)
		die("listen");
	return fd;
}

static pid_t run_agent(int ready_fd)
{
	char channel[96], ready[16];
	const char *argv[] = {agent_path, "--channel",
			      channel,    "--probes",
			      "process",  "--process",
			      surface,    "--on-probe-failure",
			      "fail",     "--queue-depth",
			      "65536",    "--ready-fd",
			      ready,      NULL};
	pid_t pid;

	snprintf(channel, sizeof(channel), "unix:%s", socket_path);
	snprintf(ready, sizeof(ready), "%d", ready_fd);
	errno = posix_spawn(&pid, agent_path, NULL, NULL, (char *const *)(uintptr_t)argv, environ);
	if (errno != 0)
		die("start the agent");
	return pid;
}

/* Returns with the agent armed. */
static void agent_start(struct host *host, bool seldom)
{
	int ready[2];
	char byte;

	memset(host, 0, sizeof(*host));
	host->seldom = seldom;
	host->listener = listen_here();
	/* The writing end alone is the agent's. */
	if (pipe(ready) < 0 || fcntl(ready[0], F_SETFD, FD_CLOEXEC) < 0)
		die("make a pipe");
	host->agent = run_agent(ready[1]);
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		die("see the agent ready");
	close(ready[0]);
	host->connection = accept4(host->listener, NULL, NULL, SOCK_CLOEXEC);
	if (host->connection < 0 || pthread_create(&host->reader, NULL, read_all, host) != 0)
		die("be the agent's host");
}

/* All that it had to say is read when this returns. */
static void agent_stop(struct host *host)
{
	int status;

	kill(host->agent, SIGTERM);
	pthread_join(host->reader, NULL);
	close(host->connection);
	close(host->listener);
	if (waitpid(host->agent, &status, 0) != host->agent || status != 0)
		die("stop the agent in order");
}

/* Nanoseconds of processor time, all its threads. */
static uint64_t agent_time(const struct host *host)
{
	struct timespec spent;
	clockid_t clock;

	if (clock_getcpuclockid(host->agent, &clock) != 0 || clock_gettime(clock, &spent) < 0)
		die("read the agent's clock");
	return (uint64_t)spent.tv_sec * 1000000000u + (uint64_t)spent.tv_nsec;
}

/* ---- processes ------------------------------------------------------------------------------ */

struct life {
	uint64_t before, after;
	uint32_t pid;
	uint8_t spawned, exited;
};

static struct life live_once(void)
{
	char *argv[] = {(char[]){NAME}, NULL};
	char *environment[] = {NULL};
	struct life life = {.before = now_ns()};
	pid_t pid;
	int status;

	errno = posix_spawn(&pid, PROGRAM, NULL, NULL, argv, environment);
	if (errno != 0 || waitpid(pid, &status, 0) != pid || status != 0)
		die("run " PROGRAM);
	life.pid = (uint32_t)pid;
	life.after = now_ns();
	return life;
}

static int by_pid(const void *a, const void *b)
{
	const struct life *x = a, *y = b;

	return x->pid != y->pid ? (x->pid > y->pid) - (x->pid < y->pid)
				: (x->before > y->before) - (x->before < y->before);
}

/* The one of the sorted lives that the event is of; NULL: of somebody else's child. */
static struct life *life_of(struct life *lives, size_t count, const struct seen *event)
{
	const struct life key = {.pid = event->pid, .before = event->ns};
	size_t low = 0, high = count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (by_pid(&lives[middle], &key) <= 0)
			low = middle + 1;
		else
			high = middle;
	}
	return low > 0 && lives[low - 1].pid == event->pid &&
			       event->ns <= lives[low - 1].after + LATE_NS
		       ? &lives[low - 1]
		       : NULL;
}

struct tally {
	uint64_t spawned, exited, doubled, disordered, misnamed, empty, missing;
};

static struct tally compare(const struct host *host, struct life *lives, size_t count)
{
	struct tally tally = {0};

	qsort(lives, count, sizeof(*lives), by_pid);
	for (size_t at = 0; at < host->count; at++) {
		const struct seen *event = &host->seen[at];
		struct life *life = life_of(lives, count, event);

		if (life == NULL)
			continue;
		tally.spawned += !event->exited;
		tally.exited += event->exited;
		tally.doubled += event->exited ? life->exited++ > 0 : life->spawned++ > 0;
		tally.disordered += !event->exited && life->exited > 0;
		tally.empty += event->empty;
		tally.misnamed += !event->named && !event->empty;
	}
	for (size_t at = 0; at < count; at++)
		tally.missing += (lives[at].spawned == 0) + (lives[at].exited == 0);
	return tally;
}

static uint64_t dropped(const struct host *host)
{
	return host->rows[CELLOS_DROP_QUEUE_FULL] + host->rows[CELLOS_DROP_KERNEL] +
	       host->rows[CELLOS_DROP_STOPPED];
}

/* Walks see what they can; only messages promise every one. */
static bool is_sound(const struct host *host, const struct tally *tally)
{
	bool good = tally->doubled == 0 && tally->disordered == 0 && host->bad == 0 &&
		    (tally->missing <= dropped(host) || strcmp(surface, "walker") == 0);

	sound &= good;
	return good;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void print_rate(uint64_t rate, double per_s, size_t count, uint64_t busy,
		       const struct host *host, const struct tally *tally)
{
	/* Per process that it has told of, whoever's child. */
	double each = 2.0 * (double)busy / (double)(host->count > 0 ? host->count : 1);

	printf("{\"bench\":\"exec_rate\",\"process\":\"%s\",\"asked_per_s\":%llu,\"per_s\":%.0f,"
	       "\"processes\":%zu,\"spawned\":%llu,\"exited\":%llu,\"coverage\":%.6f,"
	       "\"order_errors\":%llu,\"doubled\":%llu,\"wrong_names\":%llu,\"empty_names\":%llu,"
	       "\"pq\":%llu,\"pk\":%llu,\"px\":%llu,\"events_of_others\":%llu,"
	       "\"agent_ns_per_process\":%.0f,\"core_percent_at_1000_per_s\":%.3f,\"sound\":%s}\n",
	       surface, (unsigned long long)rate, per_s, count, (unsigned long long)tally->spawned,
	       (unsigned long long)tally->exited,
	       1.0 - (double)tally->missing / (2.0 * (double)count),
	       (unsigned long long)tally->disordered, (unsigned long long)tally->doubled,
	       (unsigned long long)tally->misnamed, (unsigned long long)tally->empty,
	       (unsigned long long)host->rows[CELLOS_DROP_QUEUE_FULL],
	       (unsigned long long)host->rows[CELLOS_DROP_KERNEL],
	       (unsigned long long)host->rows[CELLOS_DROP_STOPPED],
	       (unsigned long long)(host->count - tally->spawned - tally->exited), each,
	       each * 1000 / 1e9 * 100, is_sound(host, tally) ? "true" : "false");
	fflush(stdout);
}

static void bench_rate(uint64_t rate, size_t count)
{
	struct life *lives = take_memory(count, sizeof(*lives));
	struct tally tally;
	struct host host;
	uint64_t begin, busy;
	double elapsed;

	agent_start(&host, false);
	busy = agent_time(&host);
	begin = now_ns();
	for (size_t at = 0; at < count; at++) {
		if (rate > 0)
			sleep_until(begin + at * 1000000000u / rate);
		lives[at] = live_once();
	}
	elapsed = (double)(now_ns() - begin) / 1e9;
	/* What the agent still has to do for these, and no stop yet. */
	sleep_until(now_ns() + 100000000);
	busy = agent_time(&host) - busy;
	agent_stop(&host);
	tally = compare(&host, lives, count);
	print_rate(rate, (double)count / elapsed, count, busy, &host, &tally);
	free(host.seen);
	free(lives);
}

struct block {
	double mean, median; /* nanoseconds for fork, exec and wait */
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *values, size_t count, double share)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[(size_t)(share * (double)(count - 1) + 0.5)];
}

static struct block run_block(size_t count, bool with_agent)
{
	struct life *lives = take_memory(count, sizeof(*lives));
	double *times = take_memory(count, sizeof(*times)), sum = 0;
	struct tally tally;
	struct block block;
	struct host host;

	if (with_agent)
		agent_start(&host, true);
	for (size_t at = 0; at < count; at++) {
		lives[at] = live_once();
		sum += times[at] = (double)(lives[at].after - lives[at].before);
	}
	if (with_agent) {
		agent_stop(&host);
		tally = compare(&host, lives, count);
		(void)is_sound(&host, &tally);
		free(host.seen);
	}
	block = (struct block){sum / (double)count, quantile(times, count, 0.5)};
	free(times);
	free(lives);
	return block;
}

/* Of one measure: what each pair came to. */
struct ratios {
	double *with, *without, *ratio, *null;
};

static struct ratios make_ratios(size_t count)
{
	return (struct ratios){
		take_memory(count, sizeof(double)), take_memory(count, sizeof(double)),
		take_memory(count, sizeof(double)), take_memory(count, sizeof(double))};
}

/* Three blocks a pair: one with, in each place in turn, and two without. The null divides the
   earlier by the later and the later by the earlier in turn, so that a machine that drifts looks
   neither like a cost nor like a gain. */
static void note_pair(struct ratios *ratios, size_t at, const double three[3])
{
	size_t place = at % 3;
	double first = three[place == 0 ? 1 : 0], second = three[place == 2 ? 1 : 2];

	ratios->with[at] = three[place];
	ratios->without[at] = (first + second) / 2;
	ratios->ratio[at] = three[place] / ratios->without[at];
	ratios->null[at] = at / 3 % 2 == 0 ? first / second : second / first;
}

static void print_ratios(const char *of, size_t pairs, size_t block, struct ratios *ratios)
{
	printf("{\"bench\":\"exec_rate_pairs\",\"process\":\"%s\",\"of\":\"%s\",\"pairs\":%zu,"
	       "\"block\":%zu,\"exec_ns_without\":%.0f,\"exec_ns_with\":%.0f,\"ratio\":%.4f,"
	       "\"ratio_q1\":%.4f,\"ratio_q3\":%.4f,\"null_ratio\":%.4f,\"null_q1\":%.4f,"
	       "\"null_q3\":%.4f}\n",
	       surface, of, pairs, block, quantile(ratios->without, pairs, 0.5),
	       quantile(ratios->with, pairs, 0.5), quantile(ratios->ratio, pairs, 0.5),
	       quantile(ratios->ratio, pairs, 0.25), quantile(ratios->ratio, pairs, 0.75),
	       quantile(ratios->null, pairs, 0.5), quantile(ratios->null, pairs, 0.25),
	       quantile(ratios->null, pairs, 0.75));
	fflush(stdout);
	free(ratios->with);
	free(ratios->without);
	free(ratios->ratio);
	free(ratios->null);
}

static void bench_pairs(size_t pairs, size_t block)
{
	struct ratios means = make_ratios(pairs), medians = make_ratios(pairs);

	(void)run_block(block, false); /* warm */
	for (size_t at = 0; at < pairs; at++) {
		double mean[3], median[3];

		for (size_t place = 0; place < 3; place++) {
			struct block one = run_block(block, at % 3 == place);

			mean[place] = one.mean;
			median[place] = one.median;
		}
		note_pair(&means, at, mean);
		note_pair(&medians, at, median);
	}
	print_ratios("mean", pairs, block, &means);
	print_ratios("median", pairs, block, &medians);
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Not to be had is said by a report, before anything is measured. */
static void check_surface(void)
{
	const char *argv[] = {agent_path,  "--probe-report", "--probes", "process",
			      "--process", surface,          NULL};
	posix_spawn_file_actions_t actions;
	char report[4096] = "";
	int ends[2], status;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) < 0 || posix_spawn_file_actions_init(&actions) != 0 ||
	    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) != 0)
		die("make a pipe");
	errno = posix_spawn(&pid, agent_path, &actions, NULL, (char *const *)(uintptr_t)argv,
			    environ);
	if (errno != 0)
		die("start the agent");
	close(ends[1]);
	(void)!read(ends[0], report, sizeof(report) - 1);
	close(ends[0]);
	posix_spawn_file_actions_destroy(&actions);
	if (waitpid(pid, &status, 0) != pid)
		die("wait for the agent");
	if (strstr(report, "\"surface\":\"connector\"") == NULL && strcmp(surface, "walker") != 0)
		cellos_test_skip("the process connector is not to be had here");
}

static size_t parse_rates(char *text, uint64_t rates[MAX_RATES])
{
	size_t count = 0;

	for (char *word = strtok(text, ","); word != NULL && count < MAX_RATES;
	     word = strtok(NULL, ","))
		rates[count++] = strtoull(word, NULL, 10);
	return count;
}

struct plan {
	uint64_t rates[MAX_RATES];
	size_t rate_count, processes, pairs, block;
};

static bool parse(int argc, char *argv[], struct plan *plan)
{
	static const struct option list[] = {
		{"agent", required_argument, NULL, 'a'}, {"rates", required_argument, NULL, 'r'},
		{"count", required_argument, NULL, 'n'}, {"pairs", required_argument, NULL, 'p'},
		{"block", required_argument, NULL, 'b'}, {"process", required_argument, NULL, 's'},
		{"quick", no_argument, NULL, 'q'},       {NULL, 0, NULL, 0}};
	int answer;

	while ((answer = getopt_long(argc, argv, "", list, NULL)) != -1) {
		if (answer == 'a')
			agent_path = optarg;
		else if (answer == 'r')
			plan->rate_count = parse_rates(optarg, plan->rates);
		else if (answer == 'n')
			plan->processes = strtoul(optarg, NULL, 10);
		else if (answer == 'p')
			plan->pairs = strtoul(optarg, NULL, 10);
		else if (answer == 'b')
			plan->block = strtoul(optarg, NULL, 10);
		else if (answer == 's')
			surface = optarg;
		else if (answer == 'q')
			*plan = (struct plan){{0}, 1, 1000, 2, 100};
		else
			return false;
	}
	return agent_path != NULL && optind == argc && plan->processes > 0 && plan->block > 0;
}

int main(int argc, char *argv[])
{
	struct plan plan = {{1000, 2000, 0}, 3, 10000, 41, 500};

	if (!parse(argc, argv, &plan)) {
		fprintf(stderr, "usage: exec_rate --agent PATH [--rates LIST] [--count N] "
				"[--pairs N] [--block N] [--process HOW] [--quick]\n");
		return 2;
	}
	check_surface();
	if (mkdtemp(folder) == NULL)
		die("make a folder");
	snprintf(socket_path, sizeof(socket_path), "%s/host.sock", folder);
	for (size_t at = 0; at < plan.rate_count; at++)
		bench_rate(plan.rates[at], plan.processes);
	if (plan.pairs > 0)
		bench_pairs(plan.pairs, plan.block);
	(void)unlink(socket_path);
	(void)rmdir(folder);
	if (!sound)
		fprintf(stderr, "exec_rate: a process is missing, doubled or out of order, and no "
				"counter says so\n");
	return sound ? 0 : 1;
}
