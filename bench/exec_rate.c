/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What it costs to see every process, and whether every one is seen.
 *
 *   exec_rate --agent PATH [--rates LIST] [--count N] [--pairs N] [--settle N] [--block N]
 *             [--process HOW] [--probes LIST] [--watch PATH] [--quick]
 *
 * Rates (processes per second; 0 is as fast as it goes): N times vfork and exec of /bin/true, the
 * agent beside it, this program its host. Every event is compared with the list of what was
 * spawned, by pid and time. A row tells coverage, order errors, wrong and empty names, what was
 * dropped, and the agent's processor time, all its threads, per process of the machine: other
 * programs' children are its work as well.
 * Pairs: blocks of fork, exec and wait with and without the agent, in turn; the null ratio (without
 * / without) beside the ratio. Of each block the mean, which has all that the machine did meanwhile
 * in it, and the median, which has what one usually takes. --probes (process) and --watch are the
 * agent's: what the other probes add to a process that gives them nothing to tell.
 *
 * One JSON line per row. Exits 1 when an event is missing that no counter accounts for, comes twice
 * or out of order; never for a time or a name. 77: no process connector here.
 *
 * Threads: main spawns; one reads what the agent sends.
 */
#include <errno.h>
#include <getopt.h>
#include <pthread.h>
#include <spawn.h>
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
#include "skip.h"

#define PROGRAM "/bin/true"
#define NAME "true"
#define MAX_RATES 16u
/* The kernel lets go of a process before it says so, and may be kept from it for a while. */
#define LATE_NS UINT64_C(5000000000)
/* And to say so of others meanwhile, but hardly of more. */
#define LATE_COUNT 100u

static const char *agent_path, *surface = "auto", *probes = "process";
static const char *watch_how, *watched; /* an option and its value, or neither */
static bool sound = true;

/* ---- the agent and its host ----------------------------------------------------------------- */

struct seen {
	uint64_t ns;
	uint32_t pid;
	bool exited, named, empty;
};

struct host {
	struct bench_agent agent;
	pthread_mutex_t lock; /* for the rest, until the reader has ended */
	struct seen *seen;    /* owned */
	size_t count, room;
};

static void note_event(void *context, const struct cellos_probe_event *event)
{
	struct host *host = context;

	if (event->probe_source != CELLOS_SOURCE_PROCESS_SPAWNED &&
	    event->probe_source != CELLOS_SOURCE_PROCESS_EXITED)
		return;
	pthread_mutex_lock(&host->lock);
	if (host->count == host->room) {
		host->room = host->room == 0 ? 65536 : 2 * host->room;
		host->seen = realloc(host->seen, host->room * sizeof(*host->seen));
		if (host->seen == NULL)
			bench_cannot("take memory");
	}
	host->seen[host->count++] = (struct seen){
		.ns = event->guest_monotonic_ns,
		.pid = event->guest_pid,
		.exited = event->probe_source == CELLOS_SOURCE_PROCESS_EXITED,
		.named = strcmp(event->guest_comm, NAME) == 0,
		.empty = event->guest_comm_len == 0,
	};
	pthread_mutex_unlock(&host->lock);
}

static void agent_start(struct host *host, bool seldom)
{
	const char *const options[] = {
		"--probes", probes,          "--process", surface,   "--on-probe-failure",
		"fail",     "--queue-depth", "65536",     watch_how, watched,
		NULL};

	*host = (struct host){.lock = PTHREAD_MUTEX_INITIALIZER,
			      .agent = {.lane = CELLOS_LANE_PROC,
					.seldom = seldom,
					.take = note_event,
					.context = host}};
	bench_agent_start(&host->agent, agent_path, options);
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
	struct life life = {.before = bench_now_ns()};
	pid_t pid;
	int status;

	errno = posix_spawn(&pid, PROGRAM, NULL, NULL, argv, environment);
	if (errno != 0 || waitpid(pid, &status, 0) != pid || status != 0)
		bench_cannot("run " PROGRAM);
	life.pid = (uint32_t)pid;
	life.after = bench_now_ns();
	return life;
}

static bool has_exited(struct host *host, const struct life *life)
{
	bool found = false;

	pthread_mutex_lock(&host->lock);
	for (size_t at = host->count; at-- > 0 && !found;)
		found = host->seen[at].exited && host->seen[at].pid == life->pid &&
			host->seen[at].ns >= life->before;
	pthread_mutex_unlock(&host->lock);
	return found;
}

/* An agent that is stopped before the kernel has said all has lost nothing. Unless they are lost,
   the exits of the last are told, whichever is said first; walks may not have met them. */
static void await_exits(struct host *host, const struct life *lives, size_t count)
{
	uint64_t deadline = bench_now_ns() + LATE_NS;

	for (size_t at = count > LATE_COUNT ? count - LATE_COUNT : 0; at < count; at++)
		while (strcmp(surface, "walker") != 0 && !has_exited(host, &lives[at]) &&
		       bench_now_ns() < deadline)
			bench_sleep_until(bench_now_ns() + 1000000);
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
	return host->agent.dropped[CELLOS_DROP_QUEUE_FULL] +
	       host->agent.dropped[CELLOS_DROP_KERNEL] + host->agent.dropped[CELLOS_DROP_STOPPED];
}

/* Walks see what they can; only messages promise every one. */
static bool is_sound(const struct host *host, const struct tally *tally)
{
	bool good = tally->doubled == 0 && tally->disordered == 0 && host->agent.bad == 0 &&
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

	printf("{\"bench\":\"exec_rate\",\"probes\":\"%s\",\"process\":\"%s\",\"asked_per_s\":%llu,"
	       "\"per_s\":%.0f,"
	       "\"processes\":%zu,\"spawned\":%llu,\"exited\":%llu,\"coverage\":%.6f,"
	       "\"order_errors\":%llu,\"doubled\":%llu,\"wrong_names\":%llu,\"empty_names\":%llu,"
	       "\"pq\":%llu,\"pk\":%llu,\"px\":%llu,\"events_of_others\":%llu,"
	       "\"agent_ns_per_process\":%.0f,\"core_percent_at_1000_per_s\":%.3f,\"sound\":%s}\n",
	       probes, surface, (unsigned long long)rate, per_s, count,
	       (unsigned long long)tally->spawned, (unsigned long long)tally->exited,
	       1.0 - (double)tally->missing / (2.0 * (double)count),
	       (unsigned long long)tally->disordered, (unsigned long long)tally->doubled,
	       (unsigned long long)tally->misnamed, (unsigned long long)tally->empty,
	       (unsigned long long)host->agent.dropped[CELLOS_DROP_QUEUE_FULL],
	       (unsigned long long)host->agent.dropped[CELLOS_DROP_KERNEL],
	       (unsigned long long)host->agent.dropped[CELLOS_DROP_STOPPED],
	       (unsigned long long)(host->count - tally->spawned - tally->exited), each,
	       each * 1000 / 1e9 * 100, is_sound(host, tally) ? "true" : "false");
	fflush(stdout);
}

static void bench_rate(uint64_t rate, size_t count)
{
	struct life *lives = bench_memory(count, sizeof(*lives));
	struct tally tally;
	struct host host;
	uint64_t begin, busy;
	double elapsed;

	agent_start(&host, false);
	busy = bench_busy_ns(host.agent.pid);
	begin = bench_now_ns();
	for (size_t at = 0; at < count; at++) {
		if (rate > 0)
			bench_sleep_until(begin + at * 1000000000u / rate);
		lives[at] = live_once();
	}
	elapsed = (double)(bench_now_ns() - begin) / 1e9;
	/* What the agent still has to do for these, and no stop yet. */
	bench_sleep_until(bench_now_ns() + 100000000);
	busy = bench_busy_ns(host.agent.pid) - busy;
	await_exits(&host, lives, count);
	bench_agent_stop(&host.agent);
	tally = compare(&host, lives, count);
	print_rate(rate, (double)count / elapsed, count, busy, &host, &tally);
	free(host.seen);
	free(lives);
}

struct block {
	double mean, median; /* nanoseconds for fork, exec and wait */
};

/* The first `settle` are not timed: in them the machine gets over an agent's start, or its end. */
static struct block run_block(size_t settle, size_t count, bool with_agent)
{
	struct life *lives = bench_memory(settle + count, sizeof(*lives));
	double *times = bench_memory(count, sizeof(*times)), sum = 0;
	struct tally tally;
	struct block block;
	struct host host;

	if (with_agent)
		agent_start(&host, true);
	for (size_t at = 0; at < settle; at++)
		lives[at] = live_once();
	for (size_t at = 0; at < count; at++) {
		struct life life = lives[settle + at] = live_once();

		sum += times[at] = (double)(life.after - life.before);
	}
	if (with_agent) {
		await_exits(&host, lives, settle + count);
		bench_agent_stop(&host.agent);
		tally = compare(&host, lives, settle + count);
		(void)is_sound(&host, &tally);
		free(host.seen);
	}
	block = (struct block){sum / (double)count, bench_quantile(times, count, 0.5)};
	free(times);
	free(lives);
	return block;
}

/* Three blocks a pair: one with, in each place in turn, and two without. The null divides the
   earlier by the later and the later by the earlier in turn, so that a machine that drifts looks
   neither like a cost nor like a gain. */
static void note_pair(struct bench_ratios *ratios, size_t at, const double three[3])
{
	size_t place = at % 3;
	double first = three[place == 0 ? 1 : 0], second = three[place == 2 ? 1 : 2];

	bench_ratios_note(ratios, at, three[place], (first + second) / 2,
			  at / 3 % 2 == 0 ? first / second : second / first);
}

static void print_ratios(const char *of, size_t settle, size_t block, struct bench_ratios *ratios)
{
	printf("{\"bench\":\"exec_rate_pairs\",\"probes\":\"%s\",\"process\":\"%s\",\"settle\":%"
	       "zu,",
	       probes, surface, settle);
	bench_ratios_end(ratios, of, block, "exec");
}

static void bench_pairs(size_t pairs, size_t settle, size_t block)
{
	struct bench_ratios means = bench_ratios_new(pairs), medians = bench_ratios_new(pairs);

	(void)run_block(settle, block, false); /* warm */
	for (size_t at = 0; at < pairs; at++) {
		double mean[3], median[3];

		for (size_t place = 0; place < 3; place++) {
			struct block one = run_block(settle, block, at % 3 == place);

			mean[place] = one.mean;
			median[place] = one.median;
		}
		note_pair(&means, at, mean);
		note_pair(&medians, at, median);
	}
	print_ratios("mean", settle, block, &means);
	print_ratios("median", settle, block, &medians);
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Not to be had is said by a report, before anything is measured. */
static void check_surface(void)
{
	const char *argv[] = {agent_path,  "--probe-report", "--probes", "process",
			      "--process", surface,          NULL};
	char report[4096];

	(void)bench_output_of(argv, report, sizeof(report));
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
	size_t rate_count, processes, pairs, settle, block;
};

static bool parse(int argc, char *argv[], struct plan *plan)
{
	static const struct option list[] = {{"agent", required_argument, NULL, 'a'},
					     {"rates", required_argument, NULL, 'r'},
					     {"count", required_argument, NULL, 'n'},
					     {"pairs", required_argument, NULL, 'p'},
					     {"block", required_argument, NULL, 'b'},
					     {"process", required_argument, NULL, 's'},
					     {"probes", required_argument, NULL, 'l'},
					     {"watch", required_argument, NULL, 'w'},
					     {"settle", required_argument, NULL, 'e'},
					     {"quick", no_argument, NULL, 'q'},
					     {NULL, 0, NULL, 0}};
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
		else if (answer == 'e')
			plan->settle = strtoul(optarg, NULL, 10);
		else if (answer == 's')
			surface = optarg;
		else if (answer == 'l')
			probes = optarg;
		else if (answer == 'w')
			watch_how = "--watch", watched = optarg;
		else if (answer == 'q')
			*plan = (struct plan){{0}, 1, 1000, 2, 20, 100};
		else
			return false;
	}
	return agent_path != NULL && optind == argc && plan->processes > 0 && plan->block > 0;
}

int main(int argc, char *argv[])
{
	struct plan plan = {{1000, 2000, 0}, 3, 10000, 41, 200, 800};

	if (!parse(argc, argv, &plan)) {
		fprintf(stderr, "usage: exec_rate --agent PATH [--rates LIST] [--count N] "
				"[--pairs N] [--settle N] [--block N] [--process HOW] "
				"[--probes LIST] [--watch PATH] [--quick]\n");
		return 2;
	}
	check_surface();
	for (size_t at = 0; at < plan.rate_count; at++)
		bench_rate(plan.rates[at], plan.processes);
	if (plan.pairs > 0)
		bench_pairs(plan.pairs, plan.settle, plan.block);
	if (!sound)
		fprintf(stderr, "exec_rate: a process is missing, doubled or out of order, and no "
				"counter says so\n");
	return sound ? 0 : 1;
}
