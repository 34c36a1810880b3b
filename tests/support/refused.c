/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The workload of the capability tests: an unprivileged user who is refused things, and says so.
 *
 *   refused each          every kind of refusal once, each by a process of its own
 *   refused storm N [T]   one process of T threads, the same refusal N times in each, without rest
 *   refused race P        P processes, the same refusal in two threads at the same moment
 *   refused midst N       one process, N refusals in the midst of mappings
 *   refused steady N      one process, a refusal a second, N of them, with `calm` in between
 *   refused spread P      P processes, each refused four different things once
 *   refused calm          what an ordinary program does all day, without a refusal
 *
 * Prints one JSON line: who was refused how often, and how long the longest refusal took; of a
 * race, how many of its processes took so long that a repeat may be none any more.
 *
 * Threads: one, but for storm and race. Refuses to: go on when a refusal is none (exit 1), or as
 * root.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define NOBODY 65534

static int refused_chown(void)
{
	return chown("/", NOBODY, NOBODY);
}

static int refused_mount(void)
{
	return mount("none", "/", "tmpfs", 0, NULL);
}

static int refused_kill(void)
{
	return kill(1, 0); /* the same question as with a signal */
}

static int refused_bind(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(80)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int result = bind(fd, (struct sockaddr *)&address, sizeof(address)), error = errno;

	close(fd);
	errno = error;
	return result;
}

static int refused_setuid(void)
{
	return setuid(0);
}

static int refused_chroot(void)
{
	return chroot("/");
}

static int refused_sethostname(void)
{
	return sethostname("refused", 7);
}

static int refused_nice(void)
{
	const int now = getpriority(PRIO_PROCESS, 0);

	/* One up, which is free, and back, whatever it was started with. */
	(void)setpriority(PRIO_PROCESS, 0, now + 1);
	return setpriority(PRIO_PROCESS, 0, now < 19 ? now : 18);
}

/* Asked without audit, and yet a refusal. */
static int refused_seccomp(void)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {.len = 1, .filter = &allow};

	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

static const struct {
	const char *name;
	int (*call)(void);
} refusals[] = {
	{"r-mount", refused_mount},   {"r-kill", refused_kill},
	{"r-bind", refused_bind},     {"r-setuid", refused_setuid},
	{"r-chroot", refused_chroot}, {"r \"host\"", refused_sethostname},
	{"r-nice", refused_nice},     {"r-seccomp", refused_seccomp},
	{"r-chown", refused_chown},
};

#define REFUSALS (sizeof(refusals) / sizeof(refusals[0]))

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static _Thread_local uint64_t longest_us;

static void be_refused(int (*call)(void))
{
	uint64_t begin = now_us(), took;

	if (call() == 0 || (errno != EPERM && errno != EACCES)) {
		fprintf(stderr, "not refused: %s\n", strerror(errno));
		exit(1);
	}
	took = now_us() - begin;
	if (took > longest_us)
		longest_us = took;
}

static void reap(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0) {
		fprintf(stderr, "a child failed\n");
		exit(1);
	}
}

/* With $REFUSED_TAG behind it, so that two tests at once can tell theirs. */
static void name(const char *what)
{
	const char *tag = getenv("REFUSED_TAG");
	char text[64];

	snprintf(text, sizeof(text), "%s%.8s", what, tag != NULL ? tag : "");
	prctl(PR_SET_NAME, text);
}

static void each(void)
{
	printf("{\"each\":[");
	for (size_t at = 0; at < REFUSALS; at++) {
		pid_t pid;

		fflush(stdout);
		pid = fork();
		if (pid == 0) {
			prctl(PR_SET_NAME, refusals[at].name);
			be_refused(refusals[at].call);
			_exit(0);
		}
		reap(pid);
		printf("%s%d", at == 0 ? "" : ",", pid);
	}
	printf("]}\n");
}

static void *storm_thread(void *count)
{
	for (unsigned long at = 0; at < *(unsigned long *)count; at++)
		be_refused(refused_sethostname);
	return NULL;
}

static void storm(unsigned long count, unsigned long threads)
{
	uint64_t begin = now_us();
	pthread_t others[64];

	name("storm");
	if (threads == 0 || threads > 64)
		threads = 1;
	for (unsigned long at = 1; at < threads; at++)
		if (pthread_create(&others[at], NULL, storm_thread, &count) != 0)
			exit(1);
	storm_thread(&count);
	for (unsigned long at = 1; at < threads; at++)
		pthread_join(others[at], NULL);
	printf("{\"storm\":%lu,\"pid\":%d,\"longest_us\":%llu,\"took_us\":%llu}\n", count * threads,
	       getpid(), (unsigned long long)longest_us, (unsigned long long)(now_us() - begin));
}

static atomic_uint ready;

/* Both spin until the other is there, so that they go on within a few instructions. */
static void *race_thread(void *nothing)
{
	atomic_fetch_add(&ready, 1);
	for (unsigned spins = 0; atomic_load(&ready) < 2; spins++)
		if (spins > 100000)
			sched_yield();
	be_refused(refused_sethostname);
	return nothing;
}

static void race(unsigned long processes)
{
	unsigned long slow = 0;

	name("race");
	for (unsigned long at = 0; at < processes; at++) {
		uint64_t begin = now_us();
		pid_t pid = fork();

		if (pid == 0) {
			pthread_t other;

			if (pthread_create(&other, NULL, race_thread, NULL) != 0)
				_exit(1);
			race_thread(NULL);
			pthread_join(other, NULL);
			_exit(0);
		}
		reap(pid);
		slow += now_us() - begin >= 1000000;
	}
	printf("{\"race\":%lu,\"slow\":%lu}\n", processes * 2, slow);
}

static void spread(unsigned long processes)
{
	name("spread");
	for (unsigned long at = 0; at < processes; at++) {
		pid_t pid = fork();

		if (pid == 0) {
			be_refused(refused_sethostname);
			be_refused(refused_chroot);
			be_refused(refused_setuid);
			be_refused(refused_bind);
			_exit(0);
		}
		reap(pid);
	}
	printf("{\"spread\":%lu}\n", processes * 4);
}

static void map_and_unmap(void)
{
	void *memory =
		mmap(NULL, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED || mprotect(memory, 4096, PROT_READ) < 0 ||
	    munmap(memory, 1 << 20) < 0)
		exit(1);
}

/* Mappings, files that are there, missing and one's own, what may be known of other processes. */
static void be_calm(unsigned rounds)
{
	for (unsigned at = 0; at < rounds; at++) {
		int fd = memfd_create("calm", MFD_CLOEXEC);

		map_and_unmap();
		if (access("/", R_OK) < 0 || access("/nowhere", R_OK) == 0 || fd < 0 ||
		    flistxattr(fd, NULL, 0) < 0 || close(fd) < 0)
			exit(1);
		fd = open("/proc/1/stat", O_RDONLY | O_CLOEXEC);
		if (fd >= 0) {
			char text[512];

			if (read(fd, text, sizeof(text)) < 0 || close(fd) < 0)
				exit(1);
		}
		if (at % 100 == 0) {
			pid_t pid = fork();

			if (pid == 0)
				_exit(0);
			reap(pid);
		}
	}
}

static void calm(void)
{
	name("calm");
	be_calm(2000);
	printf("{\"calm\":2000,\"pid\":%d}\n", getpid());
}

static void midst(unsigned long count)
{
	name("midst");
	for (unsigned long at = 0; at < count; at++) {
		for (unsigned maps = 0; maps < 100; maps++)
			map_and_unmap();
		be_refused(refused_sethostname);
	}
	printf("{\"midst\":%lu,\"pid\":%d}\n", count, getpid());
}

/* A little more than a second after the one before, whenever that was: none is its repeat. */
static void steady(unsigned long count)
{
	name("steady");
	for (unsigned long at = 0; at < count; at++) {
		uint64_t next;

		be_refused(refused_sethostname);
		next = now_us() + 1050000;
		be_calm(100);
		while (now_us() < next)
			usleep(10000);
	}
	printf("{\"steady\":%lu,\"pid\":%d}\n", count, getpid());
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";
	unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 0;

	if (getuid() == 0 && (setgroups(0, NULL) < 0 || setgid(NOBODY) < 0 || setuid(NOBODY) < 0)) {
		perror("cannot become nobody");
		return 1;
	}
	if (strcmp(what, "each") == 0)
		each();
	else if (strcmp(what, "storm") == 0)
		storm(count, argc > 3 ? strtoul(argv[3], NULL, 10) : 1);
	else if (strcmp(what, "race") == 0)
		race(count);
	else if (strcmp(what, "midst") == 0)
		midst(count);
	else if (strcmp(what, "steady") == 0)
		steady(count);
	else if (strcmp(what, "spread") == 0)
		spread(count);
	else if (strcmp(what, "calm") == 0)
		calm();
	else
		return 2;
	return fflush(stdout) == 0 ? 0 : 1;
}
