/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What it costs to see every attempted connection, and whether every one is seen.
 *
 *   connect_rate --agent PATH [--rates LIST] [--seconds S] [--pairs N] [--block N] [--quick]
 *
 * Rates (connects per second; 0 is as fast as it goes): TCP connects to a listening loopback
 * socket, the agent beside them, this program its host. A row tells coverage, order errors, wrong
 * names, the agent's processor time per connect and what that is of one core at 1000 connects/s.
 * Pairs: blocks of connects with and without the agent, in turn, the time inside connect(2) alone;
 * the null ratio (without / without) beside the ratio. Of each block the mean, which has all that
 * the machine did meanwhile in it, and the median, which has what a connect usually takes. UDP's
 * connect does little but call the hook, so it shows what that takes.
 *
 * One JSON line per row. Exits 1 when attempts = events + rows does not hold, or when an event is
 * out of order or wrongly named; never for a time. 77: not root, or no such surface here.
 *
 * Threads: main attempts; one reads what the agent sends. Everything happens in a cgroup and a
 * network of its own (tests/probes/corner.h), so nobody else's attempts are in the sums.
 */
#include <arpa/inet.h>
#include <getopt.h>
#include <netinet/in.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent.h"
#include "cellos/wire.h"
#include "common.h"
#include "corner.h"
#include "skip.h"

#define NAME "connect_rate"
#define MAX_RATES 16u

static const char *agent_path;
static struct sockaddr_in target;
static int listener = -1; /* TCP, where the attempts go */
static bool sound = true;

/* ---- the agent and its host ----------------------------------------------------------------- */

struct host {
	struct bench_agent agent;
	/* The reader's, until it has ended. */
	uint64_t events, disorders, misnamed, last_ns;
};

static void note_event(void *context, const struct cellos_probe_event *event)
{
	struct host *host = context;

	if (event->probe_source != CELLOS_SOURCE_NET_CONNECT_ATTEMPTED)
		return;
	host->events++;
	host->disorders += event->guest_monotonic_ns < host->last_ns;
	host->last_ns = event->guest_monotonic_ns;
	host->misnamed +=
		event->guest_pid != (uint32_t)getpid() || strcmp(event->guest_comm, NAME) != 0;
}

static void agent_start(struct host *host)
{
	static const char *const options[] = {
		"--probes", "connect",       "--connect", "bpf", "--on-probe-failure",
		"fail",     "--queue-depth", "65536",     NULL};

	*host = (struct host){
		.agent = {.lane = CELLOS_LANE_NET, .take = note_event, .context = host}};
	bench_agent_start(&host->agent, agent_path, options);
}

static uint64_t accounted(const struct host *host)
{
	return host->events + host->agent.dropped[CELLOS_DROP_QUEUE_FULL] +
	       host->agent.dropped[CELLOS_DROP_KERNEL] +
	       host->agent.dropped[CELLOS_DROP_SUPPRESSED] +
	       host->agent.dropped[CELLOS_DROP_STOPPED];
}

static bool is_sound(const struct host *host, uint64_t attempts)
{
	bool good = accounted(host) == attempts && host->disorders == 0 && host->misnamed == 0 &&
		    host->agent.bad == 0;

	if (!good)
		fprintf(stderr, NAME ": %llu attempts, %llu accounted for\n",
			(unsigned long long)attempts, (unsigned long long)accounted(host));
	sound &= good;
	return good;
}

/* ---- connects ------------------------------------------------------------------------------- */

static void make_target(void)
{
	socklen_t bytes = sizeof(target);

	target = (struct sockaddr_in){.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (listener < 0 || bind(listener, (struct sockaddr *)&target, bytes) < 0 ||
	    listen(listener, 64) < 0 ||
	    getsockname(listener, (struct sockaddr *)&target, &bytes) < 0)
		bench_cannot("listen on the loopback");
}

/* One attempt; the time inside connect(2). The reset leaves no port waiting behind. */
static uint64_t connect_once(int type)
{
	static const struct linger reset = {1, 0};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	uint64_t begin = bench_now_ns(), took;
	int result = connect(fd, (struct sockaddr *)&target, sizeof(target));

	took = bench_now_ns() - begin;
	if (result < 0)
		bench_cannot("connect to the loopback");
	if (type == SOCK_STREAM) {
		int other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (other < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
			bench_cannot("accept on the loopback");
		close(fd);
		close(other);
		return took;
	}
	close(fd);
	return took;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void bench_rate(uint64_t rate, double seconds)
{
	struct host host;
	uint64_t attempts = 0, begin, end, busy;
	double elapsed, each;

	agent_start(&host);
	busy = bench_busy_ns(host.agent.pid);
	begin = bench_now_ns();
	end = begin + (uint64_t)(seconds * 1e9);
	while (bench_now_ns() < end) {
		if (rate > 0)
			bench_sleep_until(begin + attempts * 1000000000u / rate);
		(void)connect_once(SOCK_STREAM);
		attempts++;
	}
	elapsed = (double)(bench_now_ns() - begin) / 1e9;
	/* What the agent still has to do for these, and no stop yet. */
	bench_sleep_until(bench_now_ns() + 50000000);
	busy = bench_busy_ns(host.agent.pid) - busy;
	bench_agent_stop(&host.agent);
	each = (double)busy / (double)attempts;
	printf("{\"bench\":\"" NAME "\",\"asked_per_s\":%llu,\"per_s\":%.0f,\"attempts\":%llu,"
	       "\"events\":%llu,\"nq\":%llu,\"nk\":%llu,\"ns\":%llu,\"coverage\":%.6f,"
	       "\"order_errors\":%llu,\"wrong_names\":%llu,\"agent_ns_per_connect\":%.0f,"
	       "\"core_percent_at_1000_per_s\":%.3f,\"sound\":%s}\n",
	       (unsigned long long)rate, (double)attempts / elapsed, (unsigned long long)attempts,
	       (unsigned long long)host.events,
	       (unsigned long long)host.agent.dropped[CELLOS_DROP_QUEUE_FULL],
	       (unsigned long long)host.agent.dropped[CELLOS_DROP_KERNEL],
	       (unsigned long long)host.agent.dropped[CELLOS_DROP_SUPPRESSED],
	       (double)host.events / (double)attempts, (unsigned long long)host.disorders,
	       (unsigned long long)host.misnamed, each, each * 1000 / 1e9 * 100,
	       is_sound(&host, attempts) ? "true" : "false");
	fflush(stdout);
}

struct block {
	double mean, median; /* nanoseconds inside connect(2) */
};

static struct block run_block(int type, unsigned count, bool with_agent)
{
	double *times = bench_memory(count, sizeof(*times)), sum = 0;
	struct block block;
	struct host host;

	if (with_agent)
		agent_start(&host);
	for (unsigned at = 0; at < count; at++)
		sum += times[at] = (double)connect_once(type);
	if (with_agent) {
		bench_agent_stop(&host.agent);
		(void)is_sound(&host, count);
	}
	block = (struct block){sum / count, bench_quantile(times, count, 0.5)};
	free(times);
	return block;
}

/* Three blocks a pair: with and without in either order, and one more without behind them, which is
   the null's other half. */
static void note(struct bench_ratios *pairs, unsigned at, bool with_first, const double three[3])
{
	double with = with_first ? three[0] : three[1];
	double without = with_first ? three[1] : three[0];

	/* A machine that drifts must not look like a cost of ours, nor like a gain. */
	bench_ratios_note(pairs, at, with, without,
			  with_first ? three[2] / without : without / three[2]);
}

static void print_pairs(int type, const char *of, unsigned block, struct bench_ratios *pairs)
{
	printf("{\"bench\":\"" NAME "_pairs\",\"type\":\"%s\",",
	       type == SOCK_STREAM ? "tcp" : "udp");
	bench_ratios_end(pairs, of, block, "connect");
}

static void bench_pairs(int type, unsigned count, unsigned block)
{
	struct bench_ratios means = bench_ratios_new(count), medians = bench_ratios_new(count);

	(void)run_block(type, block, false); /* warm */
	for (unsigned at = 0; at < count; at++) {
		const bool with_first = at % 2 == 0;
		double mean[3], median[3];

		for (unsigned which = 0; which < 3; which++) {
			bool with = which < 2 && (which == 0) == with_first;
			struct block done = run_block(type, block, with);

			mean[which] = done.mean;
			median[which] = done.median;
		}
		note(&means, at, with_first, mean);
		note(&medians, at, with_first, median);
	}
	print_pairs(type, "means", block, &means);
	print_pairs(type, "medians", block, &medians);
}

/* ---- options -------------------------------------------------------------------------------- */

struct options {
	uint64_t rates[MAX_RATES];
	unsigned rate_count, pairs, block;
	double seconds;
};

static _Noreturn void usage(void)
{
	fprintf(stderr, "usage: " NAME " --agent PATH [--rates R,R...] [--seconds S] [--pairs N]"
			" [--block N] [--quick]\n");
	exit(2);
}

static void take_rates(struct options *options, char *list)
{
	char *rest = NULL;

	options->rate_count = 0;
	for (char *one = strtok_r(list, ",", &rest); one; one = strtok_r(NULL, ",", &rest)) {
		if (options->rate_count == MAX_RATES)
			usage();
		options->rates[options->rate_count++] = strtoull(one, NULL, 10);
	}
}

static void take_options(int argc, char **argv, struct options *options)
{
	static const struct option list[] = {{"agent", required_argument, NULL, 'a'},
					     {"rates", required_argument, NULL, 'r'},
					     {"seconds", required_argument, NULL, 's'},
					     {"pairs", required_argument, NULL, 'p'},
					     {"block", required_argument, NULL, 'b'},
					     {"quick", no_argument, NULL, 'q'},
					     {NULL, 0, NULL, 0}};
	int answer;

	*options = (struct options){{1000, 10000, 0}, 3, 41, 2000, 5};
	while ((answer = getopt_long(argc, argv, "", list, NULL)) != -1) {
		if (answer == 'a')
			agent_path = optarg;
		else if (answer == 'r')
			take_rates(options, optarg);
		else if (answer == 's')
			options->seconds = strtod(optarg, NULL);
		else if (answer == 'p')
			options->pairs = (unsigned)strtoul(optarg, NULL, 10);
		else if (answer == 'b')
			options->block = (unsigned)strtoul(optarg, NULL, 10);
		else if (answer == 'q')
			*options = (struct options){{1000, 0}, 2, 2, 200, 0.3};
		else
			usage();
	}
	if (agent_path == NULL || options->rate_count == 0 || options->block == 0 ||
	    options->seconds <= 0)
		usage();
}

static void need_surface(void)
{
	const char *const argv[] = {agent_path,  "--probe-report", "--probes", "connect",
				    "--channel", "unix:none",      NULL};
	char report[1024];

	if (geteuid() != 0)
		cellos_test_skip("attaching to a cgroup needs root");
	(void)bench_output_of(argv, report, sizeof(report));
	if (report[0] == '\0')
		bench_cannot("ask the agent for its report");
	if (strstr(report, "\"armed\":true") == NULL)
		cellos_test_skip(report);
}

int main(int argc, char **argv)
{
	struct options options;

	take_options(argc, argv, &options);
	need_surface();
	if (prctl(PR_SET_NAME, NAME) < 0)
		bench_cannot("take a name");
	corner_enter();
	make_target();
	for (unsigned at = 0; at < options.rate_count; at++)
		bench_rate(options.rates[at], options.seconds);
	if (options.pairs > 0) {
		bench_pairs(SOCK_STREAM, options.pairs, options.block);
		bench_pairs(SOCK_DGRAM, options.pairs, options.block);
	}
	corner_leave();
	return sound ? 0 : 1;
}
