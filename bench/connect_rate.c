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
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cellos/wire.h"
#include "corner.h"
#include "skip.h"

#define NAME "connect_rate"
#define MAX_RATES 16u

extern char **environ;

static char folder[] = "/tmp/cellos-connect-rate-XXXXXX";
static char socket_path[64];
static const char *agent_path;
static struct sockaddr_in target;
static int listener = -1; /* TCP, where the attempts go */
static bool sound = true;

static _Noreturn void die(const char *what)
{
	fprintf(stderr, NAME ": cannot %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- the agent and its host ----------------------------------------------------------------- */

struct host {
	pid_t agent;
	int listener, connection;
	pthread_t reader;
	/* The reader's, until it has ended. */
	uint64_t events, disorders, misnamed, bad, last_ns;
	uint64_t rows[CELLOS_DROP_COUNT]; /* of the lane of connects */
};

static void take_frame(struct host *host, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	struct cellos_self_report report;

	if (cellos_decode_frame(frame, length, &event, NULL) != CELLOS_WIRE_OK) {
		host->bad++;
	} else if (event.probe_source == CELLOS_SOURCE_NET_CONNECT_ATTEMPTED) {
		host->events++;
		host->disorders += event.guest_monotonic_ns < host->last_ns;
		host->last_ns = event.guest_monotonic_ns;
		host->misnamed += event.guest_pid != (uint32_t)getpid() ||
				  strcmp(event.guest_comm, NAME) != 0;
	} else if (event.probe_source == CELLOS_SOURCE_TELEMETRY_DROPPED &&
		   cellos_self_report_parse(&event, &report) == 0 &&
		   report.lane == CELLOS_LANE_NET) {
		host->rows[report.reason] = report.count;
	}
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

/* Returns with the agent armed. */
static void agent_start(struct host *host)
{
	char channel[96], ready_text[16], byte;
	char *argv[] = {(char *)(uintptr_t)agent_path,
			(char[]){"--channel"},
			channel,
			(char[]){"--probes"},
			(char[]){"connect"},
			(char[]){"--connect"},
			(char[]){"bpf"},
			(char[]){"--on-probe-failure"},
			(char[]){"fail"},
			(char[]){"--queue-depth"},
			(char[]){"65536"},
			(char[]){"--ready-fd"},
			ready_text,
			NULL};
	int ready[2];

	memset(host, 0, sizeof(*host));
	host->listener = listen_here();
	/* The writing end alone is the agent's. */
	if (pipe(ready) < 0 || fcntl(ready[0], F_SETFD, FD_CLOEXEC) < 0)
		die("make a pipe");
	snprintf(channel, sizeof(channel), "unix:%s", socket_path);
	snprintf(ready_text, sizeof(ready_text), "%d", ready[1]);
	errno = posix_spawn(&host->agent, agent_path, NULL, NULL, argv, environ);
	if (errno != 0)
		die("start the agent");
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

static uint64_t accounted(const struct host *host)
{
	return host->events + host->rows[CELLOS_DROP_QUEUE_FULL] + host->rows[CELLOS_DROP_KERNEL] +
	       host->rows[CELLOS_DROP_SUPPRESSED] + host->rows[CELLOS_DROP_STOPPED];
}

static bool is_sound(const struct host *host, uint64_t attempts)
{
	bool good = accounted(host) == attempts && host->disorders == 0 && host->misnamed == 0 &&
		    host->bad == 0;

	if (!good)
		fprintf(stderr, NAME ": %llu attempts, %llu accounted for\n",
			(unsigned long long)attempts, (unsigned long long)accounted(host));
	sound &= good;
	return good;
}

/* Nanoseconds that all its threads have run. */
static uint64_t agent_time(const struct host *host)
{
	char path[320];
	struct dirent *entry;
	uint64_t sum = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)host->agent);
	tasks = opendir(path);
	if (tasks == NULL)
		die("read the agent's threads");
	while ((entry = readdir(tasks)) != NULL) {
		unsigned long long ran = 0;
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%s/schedstat", (int)host->agent,
			 entry->d_name);
		file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		if (file != NULL && fscanf(file, "%llu", &ran) == 1)
			sum += ran;
		if (file != NULL)
			fclose(file);
	}
	closedir(tasks);
	return sum;
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
		die("listen on the loopback");
}

/* One attempt; the time inside connect(2). The reset leaves no port waiting behind. */
static uint64_t connect_once(int type)
{
	static const struct linger reset = {1, 0};
	int fd = socket(AF_INET, type | SOCK_CLOEXEC, 0);
	uint64_t begin = now_ns(), took;
	int result = connect(fd, (struct sockaddr *)&target, sizeof(target));

	took = now_ns() - begin;
	if (result < 0)
		die("connect to the loopback");
	if (type == SOCK_STREAM) {
		int other = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (other < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)) < 0)
			die("accept on the loopback");
		close(fd);
		close(other);
		return took;
	}
	close(fd);
	return took;
}

static void sleep_until(uint64_t when)
{
	struct timespec at = {.tv_sec = (time_t)(when / 1000000000u),
			      .tv_nsec = (long)(when % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

/* ---- rows ----------------------------------------------------------------------------------- */

static void bench_rate(uint64_t rate, double seconds)
{
	struct host host;
	uint64_t attempts = 0, begin, end, busy;
	double elapsed, each;

	agent_start(&host);
	busy = agent_time(&host);
	begin = now_ns();
	end = begin + (uint64_t)(seconds * 1e9);
	while (now_ns() < end) {
		if (rate > 0)
			sleep_until(begin + attempts * 1000000000u / rate);
		(void)connect_once(SOCK_STREAM);
		attempts++;
	}
	elapsed = (double)(now_ns() - begin) / 1e9;
	/* What the agent still has to do for these, and no stop yet. */
	sleep_until(now_ns() + 50000000);
	busy = agent_time(&host) - busy;
	agent_stop(&host);
	each = (double)busy / (double)attempts;
	printf("{\"bench\":\"" NAME "\",\"asked_per_s\":%llu,\"per_s\":%.0f,\"attempts\":%llu,"
	       "\"events\":%llu,\"nq\":%llu,\"nk\":%llu,\"ns\":%llu,\"coverage\":%.6f,"
	       "\"order_errors\":%llu,\"wrong_names\":%llu,\"agent_ns_per_connect\":%.0f,"
	       "\"core_percent_at_1000_per_s\":%.3f,\"sound\":%s}\n",
	       (unsigned long long)rate, (double)attempts / elapsed, (unsigned long long)attempts,
	       (unsigned long long)host.events,
	       (unsigned long long)host.rows[CELLOS_DROP_QUEUE_FULL],
	       (unsigned long long)host.rows[CELLOS_DROP_KERNEL],
	       (unsigned long long)host.rows[CELLOS_DROP_SUPPRESSED],
	       (double)host.events / (double)attempts, (unsigned long long)host.disorders,
	       (unsigned long long)host.misnamed, each, each * 1000 / 1e9 * 100,
	       is_sound(&host, attempts) ? "true" : "false");
	fflush(stdout);
}

struct block {
	double mean, median; /* nanoseconds inside connect(2) */
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double quantile(double *values, unsigned count, double share)
{
	qsort(values, count, sizeof(*values), by_value);
	return values[(unsigned)(share * (count - 1) + 0.5)];
}

static double *numbers(unsigned count)
{
	double *values = calloc(count, sizeof(*values));

	if (values == NULL)
		die("take memory");
	return values;
}

static struct block run_block(int type, unsigned count, bool with_agent)
{
	double *times = numbers(count), sum = 0;
	struct block block;
	struct host host;

	if (with_agent)
		agent_start(&host);
	for (unsigned at = 0; at < count; at++)
		sum += times[at] = (double)connect_once(type);
	if (with_agent) {
		agent_stop(&host);
		(void)is_sound(&host, count);
	}
	block = (struct block){sum / count, quantile(times, count, 0.5)};
	free(times);
	return block;
}

/* Three blocks a pair: with and without in either order, and one more without behind them, which is
   the null's other half. */
struct pairs {
	unsigned count;
	double *with, *without, *ratio, *null;
};

static void note(struct pairs *pairs, unsigned at, bool with_first, const double three[3])
{
	double with = with_first ? three[0] : three[1];
	double without = with_first ? three[1] : three[0];

	pairs->with[at] = with;
	pairs->without[at] = without;
	pairs->ratio[at] = with / without;
	/* A machine that drifts must not look like a cost of ours, nor like a gain. */
	pairs->null[at] = with_first ? three[2] / without : without / three[2];
}

static void print_pairs(int type, const char *of, unsigned block, struct pairs *pairs)
{
	const unsigned n = pairs->count;

	printf("{\"bench\":\"" NAME "_pairs\",\"type\":\"%s\",\"of\":\"%s\",\"pairs\":%u,"
	       "\"block\":%u,\"connect_ns_without\":%.0f,\"connect_ns_with\":%.0f,"
	       "\"ratio\":%.4f,\"ratio_q1\":%.4f,\"ratio_q3\":%.4f,\"null_ratio\":%.4f,"
	       "\"null_q1\":%.4f,\"null_q3\":%.4f}\n",
	       type == SOCK_STREAM ? "tcp" : "udp", of, n, block, quantile(pairs->without, n, 0.5),
	       quantile(pairs->with, n, 0.5), quantile(pairs->ratio, n, 0.5),
	       quantile(pairs->ratio, n, 0.25), quantile(pairs->ratio, n, 0.75),
	       quantile(pairs->null, n, 0.5), quantile(pairs->null, n, 0.25),
	       quantile(pairs->null, n, 0.75));
	fflush(stdout);
	free(pairs->with);
	free(pairs->without);
	free(pairs->ratio);
	free(pairs->null);
}

static struct pairs make_pairs(unsigned count)
{
	return (struct pairs){count, numbers(count), numbers(count), numbers(count),
			      numbers(count)};
}

static void bench_pairs(int type, unsigned count, unsigned block)
{
	struct pairs means = make_pairs(count), medians = make_pairs(count);

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
	char command[512], line[1024] = "";
	FILE *report;

	if (geteuid() != 0)
		cellos_test_skip("attaching to a cgroup needs root");
	snprintf(command, sizeof(command),
		 "'%s' --probe-report --probes connect --channel unix:none", agent_path);
	report = popen(command, "re");
	if (report == NULL || fgets(line, sizeof(line), report) == NULL)
		die("ask the agent for its report");
	pclose(report);
	if (strstr(line, "\"armed\":true") == NULL)
		cellos_test_skip(line);
}

int main(int argc, char **argv)
{
	struct options options;

	take_options(argc, argv, &options);
	need_surface();
	if (mkdtemp(folder) == NULL)
		die("make a folder");
	snprintf(socket_path, sizeof(socket_path), "%s/host.sock", folder);
	if (prctl(PR_SET_NAME, NAME) < 0)
		die("take a name");
	corner_enter();
	make_target();
	for (unsigned at = 0; at < options.rate_count; at++)
		bench_rate(options.rates[at], options.seconds);
	if (options.pairs > 0) {
		bench_pairs(SOCK_STREAM, options.pairs, options.block);
		bench_pairs(SOCK_DGRAM, options.pairs, options.block);
	}
	corner_leave();
	unlink(socket_path);
	rmdir(folder);
	return sound ? 0 : 1;
}
