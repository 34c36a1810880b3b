/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Starving the agent, and flooding it. The guard is expected to allow 200 processes, 128 MiB and
 * 100 % of a CPU. Threads as said at each.
 */
#include "attack.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MANY_PROCESSES 400
#define MUCH_MEMORY (200u << 20)

static int do_fork_bomb(void)
{
	static pid_t children[MANY_PROCESSES];
	int count = 0, result = WORKED;

	while (count < MANY_PROCESSES && result == WORKED) {
		children[count] = fork();
		if (children[count] == 0) {
			pause();
			_exit(0);
		}
		if (children[count] < 0)
			result = errno;
		else
			count++;
	}
	for (int i = 0; i < count; i++)
		kill(children[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	return result;
}

static int hog(void)
{
	char *memory =
		mmap(NULL, MUCH_MEMORY, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return errno;
	for (size_t at = 0; at < MUCH_MEMORY; at += 4096)
		memory[at] = 1;
	return WORKED;
}

static int do_memory(void)
{
	int code = attack_child(hog);

	return code > 128 ? ENOMEM : code; /* killed by its cgroup */
}

static int fill(void)
{
	static char block[1 << 20];
	int fd = open("/tmp/big", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	/* Whoever is ended for it, its end gives no file back: let it be us, with some room. */
	(void)attack_write("/proc/self/oom_score_adj", "1000");
	memset(block, 1, sizeof(block));
	for (size_t done = 0; done < MUCH_MEMORY; done += sizeof(block))
		if (write(fd, block, sizeof(block)) != (ssize_t)sizeof(block))
			return errno != 0 ? errno : ENOSPC;
	return WORKED;
}

/* Files in memory are memory. */
static int do_fill(void)
{
	int code = attack_child(fill);

	(void)unlink("/tmp/big");
	return code > 128 ? ENOMEM : code;
}

static int spin(unsigned long processor)
{
	struct timespec from, now;

	(void)syscall(SYS_sched_setaffinity, 0, sizeof(processor), &processor);
	clock_gettime(CLOCK_MONOTONIC, &from);
	do
		clock_gettime(CLOCK_MONOTONIC, &now);
	while (now.tv_sec - from.tv_sec < 3);
	return 0;
}

static int64_t spent_by_children(void)
{
	struct rusage used;

	getrusage(RUSAGE_CHILDREN, &used);
	return (used.ru_utime.tv_sec + used.ru_stime.tv_sec) * 1000 +
	       (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1000;
}

static int64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/*
 * More than its share: two processes that spin for three seconds, four times. One CPU is its share,
 * two has the machine. All times together: where the emulator stands still both seem to run, which
 * the limit takes back later, but from those who have ended.
 */
static int do_cpu(void)
{
	const int64_t spent = spent_by_children(), begin = now_ms();

	for (int i = 0; i < 4; i++) {
		if (fork() == 0)
			_exit(spin(1));
		if (fork() == 0)
			_exit(spin(2));
		while (wait(NULL) > 0)
			;
	}
	return 4 * (spent_by_children() - spent) > 5 * (now_ms() - begin) ? WORKED : EAGAIN;
}

static int do_nice(void)
{
	return outcome(setpriority(PRIO_PROCESS, 0, -20));
}

static int do_fifo(void)
{
	const struct sched_param one = {.sched_priority = 1};

	return outcome(sched_setscheduler(0, SCHED_FIFO, &one));
}

static int do_raise_limit(void)
{
	const struct rlimit wanted = {50, 50};

	return outcome(setrlimit(RLIMIT_RTPRIO, &wanted));
}

static int do_memory_lock(void)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	return outcome(setrlimit(RLIMIT_MEMLOCK, &all));
}

/* ---- what the agent must bear ------------------------------------------------------------------
 */

static int do_inotify(void)
{
	while (inotify_init1(IN_CLOEXEC) >= 0)
		;
	return SENT;
}

static int do_signals(void)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	for (int i = 0; i < 100000; i++)
		if (sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}) < 0)
			break;
	return SENT;
}

static int do_pipes(void)
{
	int ends[2];

	while (pipe2(ends, O_CLOEXEC | O_NONBLOCK) == 0)
		(void)fcntl(ends[1], F_SETPIPE_SZ, 1 << 20);
	return SENT;
}

/* All open files of the machine, until their holders are ended. */
static int do_files(void)
{
	static pid_t holders[100];
	int ready[2], count = 0;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return errno;
	for (; count < 100; count++) {
		holders[count] = fork();
		if (holders[count] == 0) {
			while (open("/dev/null", O_RDONLY) >= 0)
				;
			(void)!write(ready[1], "", 1);
			pause();
		}
		if (holders[count] < 0)
			break;
		(void)!read(ready[0], &(char){0}, 1);
	}
	while (count-- > 0) {
		kill(holders[count], SIGKILL);
		(void)waitpid(holders[count], NULL, 0);
	}
	return SENT;
}

static int do_names(void)
{
	static const char *const names[] = {"\"},{\"x\":\"",
					    "a\nb\rc\x1b[2J",
					    "\xff\xfe\xc0\x80",
					    ") S 1 (",
					    "\xe2\x82",
					    "%s%n%n",
					    ""};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		pid_t pid = fork();

		if (pid == 0) {
			prctl(PR_SET_NAME, names[i]);
			(void)attack_open("/tmp/no-such", O_RDONLY);
			if (fork() == 0)
				_exit(0);
			wait(NULL);
			_exit(0);
		}
		(void)waitpid(pid, NULL, 0);
	}
	return SENT;
}

static int do_process_storm(void)
{
	for (int i = 0; i < 500; i++) {
		pid_t pid = fork();

		if (pid == 0)
			_exit(0);
		(void)waitpid(pid, NULL, 0);
	}
	return SENT;
}

static int do_file_storm(void)
{
	for (int i = 0; i < 5000; i++) {
		int fd = open("/tmp/storm", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

		close(fd);
		(void)unlink("/tmp/storm");
	}
	return SENT;
}

const struct attack attacks_load[] = {
	{"fork-bomb", "G", "G", do_fork_bomb, "a fork bomb"},
	{"memory", "G", "G", do_memory, "a memory hog"},
	{"memory-files", "G", "G", do_fill, "files in memory"},
	{"cpu", "G", "G", do_cpu, "all CPUs"},
	{"nice", "C", "C", do_nice, "nice -20"},
	{"fifo", "C", "C", do_fifo, "SCHED_FIFO"},
	{"rtprio", "C", "C", do_raise_limit, "RLIMIT_RTPRIO"},
	{"memlock", "C", "C", do_memory_lock, "RLIMIT_MEMLOCK"},
	{"inotify", "agent", "agent", do_inotify, "all inotify instances of the user"},
	{"signals", "agent", "agent", do_signals, "all pending signals of the user"},
	{"pipes", "agent", "agent", do_pipes, "all pipe pages of the user"},
	{"files", "agent", "agent", do_files, "all open files of the machine"},
	{"names", "agent", "agent", do_names, "names that break a decoder"},
	{"process-storm", "agent", "agent", do_process_storm, "a storm of processes"},
	{"file-storm", "agent", "agent", do_file_storm, "a storm of files"},
	{0},
};
