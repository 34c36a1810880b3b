/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * All probes started and stopped over and over, each over a queue of its own, while files change,
 * processes come and go, and somebody reads statistics and counters. Meant for ThreadSanitizer; the
 * oracle without it is the account of each lane and the time that a stop takes.
 *
 * Threads: main drains and stops; one makes changes; one per probe.
 * Refuses to: judge how much was seen, which is the other tests' business.
 */
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rig.h"

static char base[64], file[80];
static atomic_bool enough;
static unsigned slow_stops[CELLOS_LANE_COUNT]; /* of more than half a second, by probe */

static void *make_changes(void *unused)
{
	char *arguments[] = {(char[]){"true"}, NULL};
	char *environment[] = {NULL};

	while (!atomic_load(&enough)) {
		pid_t pid;
		int fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

		RIG_CHECK(fd >= 0);
		close(fd);
		RIG_CHECK(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments, environment) == 0);
		RIG_CHECK(unlink(file) == 0);
		RIG_CHECK(waitpid(pid, NULL, 0) == pid);
	}
	return unused;
}

static void check_account(const struct rig *rig)
{
	struct cellos_lane_counters counters;

	cellos_lane_read(rig->env.lane, &counters);
	RIG_CHECK(counters.taken == rig->count);
	RIG_CHECK(counters.produced ==
		  counters.taken + counters.in_queue + counters.dropped[CELLOS_DROP_QUEUE_FULL]);
	RIG_CHECK(counters.in_queue == 0);
}

/* Some rounds begin late and some end at once, so that stop meets a probe everywhere. */
static void one_round(struct rig *rigs, unsigned round)
{
	const char *path = base;
	struct cellos_probe_options options = rig_options();
	uint64_t until;

	options.process_interval_ms = 1;
	options.coalesce_ms = round % 3;
	options.max_processes = round % 2 == 0 ? 16 : 4096;
	options.watch_paths = &path;
	options.watch_path_count = 1;
	for (size_t at = 0; at < cellos_probe_count; at++) {
		rig_init(&rigs[at], cellos_probes[at], &options, 64);
		rig_arm(&rigs[at]);
		rig_start(&rigs[at]);
	}
	for (until = rig_now() + round % 8 * 4000000; rig_now() < until;) {
		for (size_t at = 0; at < cellos_probe_count; at++) {
			struct cellos_probe_env *env = &rigs[at].env;

			rig_pump(&rigs[at], 0);
			for (unsigned stat = 0; stat < CELLOS_PROBE_MAX_STATS; stat++)
				(void)atomic_load_explicit(&env->stats[stat], memory_order_relaxed);
			(void)rig_dropped(&rigs[at], CELLOS_DROP_OVERFLOW);
		}
	}
	for (size_t at = 0; at < cellos_probe_count; at++) {
		uint64_t took = rig_stop(&rigs[at]);

		slow_stops[at] += took > 500000000;
		check_account(&rigs[at]);
		rig_free(&rigs[at]);
	}
}

int main(int argc, char **argv)
{
	unsigned rounds = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 40;
	struct rig rigs[CELLOS_LANE_COUNT];
	pthread_t maker;

	RIG_CHECK(cellos_probe_count == CELLOS_LANE_COUNT);
	rig_temp_dir(base);
	snprintf(file, sizeof(file), "%s/f", base);
	RIG_CHECK(pthread_create(&maker, NULL, make_changes, NULL) == 0);
	for (unsigned round = 0; round < rounds; round++)
		one_round(rigs, round);
	/* A busy machine may be late now and then; what a probe waits for would be late each time.
	 */
	for (size_t at = 0; at < cellos_probe_count; at++)
		RIG_CHECK(slow_stops[at] <= rounds * 3 / 4);
	atomic_store(&enough, true);
	RIG_CHECK(pthread_join(maker, NULL) == 0);
	rig_remove_tree(base);
	return 0;
}
