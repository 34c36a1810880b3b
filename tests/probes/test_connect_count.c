/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The connect probe's account: attempts = events + lost + folded, to the last one, whoever is slow.
 * And its sleep: an idle machine has it look once a second.
 *
 * Threads: the test's, the probe's, and children or threads that attempt; each Criterion test is a
 * process of its own, in a corner of its own (corner.h).
 * Refuses to: take the probe's word for the number of attempts; the children's is what counts.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "connect_rig.h"

__attribute__((constructor)) static void need(void)
{
	connect_need();
}

TestSuite(connect, .init = connect_init, .fini = connect_fini);

/* ---- floods --------------------------------------------------------------------------------- */

/* In a full ring. */
#define RING_RECORDS (262144u / 40u)
/* What fits into it beside what is in there already, however late the reader is. */
#define PORTION 2000u

#define CHILDREN 2
#define ATTEMPTS 20500u

static void attempt(unsigned number, int connected, int unconnected)
{
	union address sink = address4("127.0.0.1", port_sink);
	int fd = -1, result = 0;

	switch (number % 5) {
	case 0:
		fd = socket_of(AF_INET, SOCK_STREAM, 0);
		result = try_connect(fd, address4("127.0.0.1", port_closed)) + ECONNREFUSED;
		break;
	case 1:
		fd = socket_of(AF_INET6, SOCK_STREAM, 0);
		result = try_connect(fd, address6("::1", port_closed)) + ECONNREFUSED;
		break;
	case 2:
		result = try_connect(connected, sink);
		break;
	case 3:
		fd = socket_of(AF_INET, SOCK_DGRAM, 0);
		result = try_send(fd, sink);
		break;
	case 4:
		result = try_send(unconnected, sink);
		break;
	}
	RIG_CHECK(result == 0);
	if (fd >= 0)
		close(fd);
}

static _Noreturn void be_a_child(unsigned attempts)
{
	int connected = socket_of(AF_INET, SOCK_DGRAM, 0);
	int unconnected = socket_of(AF_INET, SOCK_DGRAM, 0);

	rig_die_with_parent();
	for (unsigned number = 0; number < attempts; number++)
		attempt(number, connected, unconnected);
	_exit(0);
}

/* So many attempts by children, while the queue is drained or not. */
static void flood(struct rig *rig, unsigned attempts, bool drained)
{
	pid_t children[CHILDREN];
	unsigned left = CHILDREN;

	for (unsigned at = 0; at < CHILDREN; at++) {
		children[at] = fork();
		cr_assert(children[at] >= 0);
		if (children[at] == 0)
			be_a_child(attempts / CHILDREN);
	}
	while (left > 0) {
		int status;
		pid_t ended = waitpid(-1, &status, drained ? WNOHANG : 0);

		cr_assert(ended >= 0 && (ended == 0 || status == 0), "a child failed: %d", status);
		left -= ended > 0;
		if (drained)
			rig_pump(rig, rig_now() + 1000000);
	}
	for (size_t at = 0; at < rig->count; at++)
		cr_assert(rig->events[at].pid == (uint32_t)children[0] ||
			  rig->events[at].pid == (uint32_t)children[1]);
}

/* A fifth of the attempts are datagrams by two sockets, of which all but the first are folded. */
static const uint64_t folds = ATTEMPTS / 5 - CHILDREN;

static void check_flood(struct rig *rig)
{
	rig_stop(rig);
	cr_assert(accounted(rig) == ATTEMPTS, "%llu of %u", (unsigned long long)accounted(rig),
		  ATTEMPTS);
}

Test(connect, all_of_them_three_times)
{
	for (unsigned run = 0; run < 3; run++) {
		struct rig rig;

		connect_begin(&rig, 5, 32768);
		flood(&rig, ATTEMPTS, true);
		check_flood(&rig);
		/* A busy machine may keep the reader waiting; the sum holds all the same. */
		cr_assert(rig_dropped(&rig, CELLOS_DROP_SUPPRESSED) <= folds);
		cr_assert(rig.count > 6000);
		rig_free(&rig);
	}
}

/* It lets records gather for longer than the attempts take: the ring is full long before. */
Test(connect, a_reader_too_slow)
{
	struct rig rig;

	connect_begin(&rig, 600000, 32768);
	flood(&rig, ATTEMPTS, true);
	check_flood(&rig);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_KERNEL) > 0);
	cr_assert(rig.count > 6000);
	rig_free(&rig);
}

/* Its thread runs only when all is over: what the ring holds, and the number of the rest. */
Test(connect, a_reader_that_comes_late)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;

	rig_init(&rig, &cellos_probe_connect, &options, 32768);
	rig_arm(&rig);
	cr_assert(rig.status.armed);
	flood(&rig, ATTEMPTS, true);
	cr_assert(rig.count == 0);
	rig_start(&rig);
	check_flood(&rig);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_KERNEL) > 0);
	cr_assert(rig.count == RING_RECORDS);
	rig_free(&rig);
}

/* The lane is full as well: three reasons, one sum. */
Test(connect, a_queue_nobody_drains)
{
	struct rig rig;

	connect_begin(&rig, 1, 64);
	flood(&rig, ATTEMPTS, false);
	check_flood(&rig);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_QUEUE_FULL) > 0);
	cr_assert(rig.count == 64);
	rig_free(&rig);
}

/* Counts in shared memory what it is about to do, and what it has done. */
struct tally {
	_Atomic uint64_t begun, ended;
};

static _Noreturn void be_a_storm(struct tally *tally, int fd)
{
	union address sink = address4("127.0.0.1", port_sink);

	rig_die_with_parent();
	for (;;) {
		atomic_fetch_add(&tally->begun, 1);
		RIG_CHECK(try_connect(fd, sink) == 0);
		atomic_fetch_add(&tally->ended, 1);
	}
}

/* A storm does not keep it from stopping, whether it lets records gather or not; and after the stop
   nothing is left that the ring or the page still has to tell. The storm is older than the links:
   its copies of them would keep them. */
Test(connect, stopped_in_a_storm)
{
	for (uint32_t coalesce_ms = 0; coalesce_ms <= 5; coalesce_ms += 5) {
		struct tally *tally = mmap(NULL, sizeof(*tally), PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
		int fd = socket_of(AF_INET, SOCK_DGRAM, 0);
		uint64_t unseen, least;
		struct rig rig;
		pid_t child;

		cr_assert(tally != MAP_FAILED);
		child = fork();
		cr_assert(child >= 0);
		if (child == 0)
			be_a_storm(tally, fd);
		unseen = atomic_load(&tally->ended);
		connect_begin(&rig, coalesce_ms, 1048576);
		least = atomic_load(&tally->begun);
		while (rig.count < 20000)
			rig_pump(&rig, rig_now() + 1000000);
		least = atomic_load(&tally->ended) - least;
		cr_assert(rig_stop(&rig) < RIG_STOP_NS);
		cr_assert(accounted(&rig) >= least);
		cr_assert(accounted(&rig) <= atomic_load(&tally->begun) - unseen);
		rig_kill(child);
		rig_reap(child);
		rig_free(&rig);
		munmap(tally, sizeof(*tally));
		close(fd);
	}
}

/* ---- folding -------------------------------------------------------------------------------- */

#define SENDERS 2
#define SOCKETS 3000
#define EACH 3

struct race {
	atomic_uint arrived;
	int *sockets;
	union address sink;
};

/* They leave each other no time: a barrier that sleeps would let one go long before the other. */
static void *race_to_be_first(void *opaque)
{
	struct race *race = opaque;

	for (unsigned at = 0; at < SOCKETS; at++) {
		atomic_fetch_add(&race->arrived, 1);
		for (unsigned spins = 1; atomic_load(&race->arrived) < SENDERS * (at + 1); spins++)
			if (spins % 4096 == 0)
				sched_yield();
		for (unsigned time = 0; time < EACH; time++)
			RIG_CHECK(try_send(race->sockets[at], race->sink) == 0);
	}
	return NULL;
}

static int *many_sockets(unsigned count)
{
	struct rlimit limit = {16384, 16384};
	int *fds = calloc(count, sizeof(*fds));

	cr_assert(fds != NULL && setrlimit(RLIMIT_NOFILE, &limit) == 0);
	for (unsigned at = 0; at < count; at++)
		fds[at] = socket_of(AF_INET, SOCK_DGRAM, 0);
	return fds;
}

/* However many threads send first by the same socket, one of them makes the event. */
Test(connect, one_event_a_socket_whoever_is_first)
{
	pthread_t threads[SENDERS];
	struct race race = {.sockets = many_sockets(SOCKETS)};
	struct rig rig;

	connect_begin(&rig, 1, 32768);
	race.sink = address4("127.0.0.1", port_sink);
	for (unsigned at = 0; at < SENDERS; at++)
		cr_assert(pthread_create(&threads[at], NULL, race_to_be_first, &race) == 0);
	for (unsigned at = 0; at < SENDERS; at++)
		cr_assert(pthread_join(threads[at], NULL) == 0);
	rig_stop(&rig);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_KERNEL) == 0);
	cr_assert(rig.count == SOCKETS, "%zu events of %u sockets", rig.count, SOCKETS);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_SUPPRESSED) == SOCKETS * (SENDERS * EACH - 1));
	free(race.sockets);
	rig_free(&rig);
}

/* More sockets than the table knows: some are told again, none is kept silent, the sum holds. */
Test(connect, more_sockets_than_the_table_knows)
{
	const unsigned sockets = 6000;
	int *fds = many_sockets(sockets);
	union address sink;
	struct rig rig;

	connect_begin(&rig, 1, 32768);
	sink = address4("127.0.0.1", port_sink);
	for (unsigned round = 0; round < 2; round++)
		for (unsigned at = 0; at < sockets; at++) {
			cr_assert(try_send(fds[at], sink) == 0);
			if ((at + 1) % PORTION == 0)
				cr_assert(until_accounted(&rig, round * sockets + at + 1));
		}
	rig_stop(&rig);
	cr_assert(accounted(&rig) == 2ull * sockets);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_KERNEL) == 0);
	cr_assert(rig.count > sockets, "nothing was forgotten: %zu", rig.count);
	free(fds);
	rig_free(&rig);
}

/* The table forgets what was not used for longest: a socket in steady use stays known. */
Test(connect, a_busy_socket_stays_known)
{
	union address sink;
	struct rig rig;
	int busy;

	connect_begin(&rig, 1, 32768);
	sink = address4("127.0.0.1", port_sink);
	busy = socket_of(AF_INET, SOCK_DGRAM, 0);
	cr_assert(try_send(busy, sink) == 0);
	for (unsigned at = 0; at < 10000; at++) {
		int other = socket_of(AF_INET, SOCK_DGRAM, 0);

		cr_assert(try_send(other, sink) == 0 && try_send(busy, sink) == 0);
		close(other);
		if ((at + 1) % PORTION == 0)
			cr_assert(until_accounted(&rig, 1 + 2 * (at + 1)));
	}
	rig_stop(&rig);
	cr_assert(rig_dropped(&rig, CELLOS_DROP_KERNEL) == 0);
	cr_assert(rig.count == 10001 && rig_dropped(&rig, CELLOS_DROP_SUPPRESSED) == 10000,
		  "%zu events", rig.count);
	rig_free(&rig);
}

/* A first datagram that found the ring full is lost, and its socket not yet known: the next one is
   told. */
Test(connect, a_lost_first_is_told_later)
{
	struct cellos_probe_options options = rig_options();
	const size_t held = RING_RECORDS;
	union address sink;
	struct rig rig;
	int fd;

	rig_init(&rig, &cellos_probe_connect, &options, 32768);
	rig_arm(&rig);
	cr_assert(rig.status.armed);
	sink = address4("127.0.0.1", port_sink);
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	for (unsigned at = 0; at < 7000; at++)
		cr_assert(try_connect(fd, sink) == 0);
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	cr_assert(try_send(fd, sink) == 0 && try_send(fd, sink) == 0);
	rig_start(&rig);
	cr_assert(rig_until(&rig, ATTEMPTED, (uint32_t)getpid(), held));
	cr_assert(rig_until_dropped(&rig, CELLOS_DROP_KERNEL, 7002 - held));
	cr_assert(rig.count == held && rig_dropped(&rig, CELLOS_DROP_KERNEL) == 7002 - held);
	cr_assert(try_send(fd, sink) == 0 && try_send(fd, sink) == 0);
	cr_assert(rig_until_dropped(&rig, CELLOS_DROP_SUPPRESSED, 1));
	rig_stop(&rig);
	cr_assert(rig.count == held + 1 && accounted(&rig) == 7004);
	rig_free(&rig);
}

/* ---- sleep ---------------------------------------------------------------------------------- */

/* Until its thread does no more than look once a second. */
static uint64_t until_asleep(struct rig *rig)
{
	uint64_t switches, deadline = rig_now() + RIG_PATIENCE_MS * 1000000ull;

	while (atomic_load(&rig->tid) == 0)
		rig_pump(rig, rig_now() + 1000000);
	do {
		cr_assert(rig_now() < deadline, "it does not go to sleep");
		switches = rig_voluntary_switches(rig);
		rig_pump(rig, rig_now() + 1300000000);
	} while (rig_voluntary_switches(rig) - switches > 2);
	return rig_voluntary_switches(rig);
}

Test(connect, idle_and_told_of_a_fold)
{
	union address sink;
	struct rig rig;
	int fd;

	connect_begin(&rig, 5, 64);
	sink = address4("127.0.0.1", port_sink);
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	cr_assert(try_send(fd, sink) == 0);
	cr_assert(rig_until(&rig, ATTEMPTED, (uint32_t)getpid(), 1));
	/* It looks once a second, and is not woken for it. */
	for (unsigned round = 1; round <= 2; round++) {
		(void)until_asleep(&rig);
		cr_assert(try_send(fd, sink) == 0);
		cr_assert(rig_until_dropped(&rig, CELLOS_DROP_SUPPRESSED, round));
	}
	cr_assert(rig.count == 1);
	rig_free(&rig);
}

/* Ten thousand folds are no ten thousand wake-ups. */
Test(connect, folds_wake_seldom)
{
	uint64_t begin, before, switches, seconds;
	union address sink;
	struct rig rig;
	int fd;

	connect_begin(&rig, 5, 64);
	sink = address4("127.0.0.1", port_sink);
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	cr_assert(try_send(fd, sink) == 0);
	(void)until_asleep(&rig);
	before = rig_voluntary_switches(&rig);
	begin = rig_now();
	for (unsigned at = 0; at < 10000; at++)
		cr_assert(try_send(fd, sink) == 0);
	cr_assert(rig_until_dropped(&rig, CELLOS_DROP_SUPPRESSED, 10000));
	switches = rig_voluntary_switches(&rig) - before;
	seconds =
		(rig_now() - begin) / 1000000000 + 1; /* behind the count, which grows meanwhile */
	/* One look a second. */
	cr_assert(switches <= 3 + seconds, "%llu switches", (unsigned long long)switches);
	rig_free(&rig);
}

/* Interrupts by which a program asks for a wake-up, on all processors; 0 where they are not told.
 */
static uint64_t work_interrupts(void)
{
	FILE *file = fopen("/proc/interrupts", "re");
	uint64_t sum = 0;
	char line[4096];

	while (file != NULL && fgets(line, sizeof(line), file) != NULL) {
		char *at = strstr(line, "IWI:"), *end = at != NULL ? at + 4 : NULL;

		/* A number for each processor, then words. */
		while (at != end) {
			at = end;
			sum += strtoull(at, &end, 10);
		}
	}
	if (file != NULL)
		fclose(file);
	return sum;
}

/* Connects back to back are read in rounds: the first wakes the reader, and no other asks for it.
 */
Test(connect, connects_wake_seldom)
{
	uint64_t begin, before, switches, rounds, interrupts;
	union address sink;
	struct rig rig;
	int fd;

	connect_begin(&rig, 20, 65536);
	sink = address4("127.0.0.1", port_sink);
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	(void)until_asleep(&rig);
	before = rig_voluntary_switches(&rig);
	interrupts = work_interrupts();
	begin = rig_now();
	for (unsigned at = 0; at < 20000; at++)
		cr_assert(try_connect(fd, sink) == 0);
	switches = rig_voluntary_switches(&rig) - before;
	rounds = (rig_now() - begin) / 20000000 + 1; /* behind the count, which grows meanwhile */
	interrupts = work_interrupts() - interrupts;
	/* Where this test is kept from connecting it lies down at the end of a round. */
	cr_assert(switches <= 2 * rounds + 3, "%llu in %llu rounds", (unsigned long long)switches,
		  (unsigned long long)rounds);
	/* The rest of the machine has some, too. */
	cr_assert(interrupts < 10000, "%llu interrupts", (unsigned long long)interrupts);
	rig_stop(&rig);
	cr_assert(accounted(&rig) == 20000);
	rig_free(&rig);
}

/* The same at a pace that leaves the reader time to lie down after each: it must not. */
Test(connect, a_steady_trickle_wakes_nobody)
{
	const struct timespec pace = {.tv_nsec = 1000000};
	uint64_t begin, before, switches, rounds;
	union address sink;
	struct rig rig;
	int fd;

	connect_begin(&rig, 20, 65536);
	sink = address4("127.0.0.1", port_sink);
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	(void)until_asleep(&rig);
	before = rig_voluntary_switches(&rig);
	begin = rig_now();
	for (unsigned at = 0; at < 500; at++) {
		cr_assert(try_connect(fd, sink) == 0);
		nanosleep(&pace, NULL);
	}
	switches = rig_voluntary_switches(&rig) - before;
	rounds = (rig_now() - begin) / 20000000 + 1; /* behind the count, which grows meanwhile */
	/* Where this test is kept from connecting it lies down at the end of a round. */
	cr_assert(switches <= 2 * rounds + 3, "%llu in %llu rounds", (unsigned long long)switches,
		  (unsigned long long)rounds);
	rig_stop(&rig);
	cr_assert(accounted(&rig) == 500);
	rig_free(&rig);
}
