/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See rig.h. */
#include "rig.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

struct cellos_probe_options rig_options(void)
{
	return (struct cellos_probe_options){
		.process_interval_ms = 5, .max_processes = 4096, .coalesce_ms = 1};
}

uint64_t rig_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static uint64_t patience(void)
{
	return rig_now() + RIG_PATIENCE_MS * 1000000ull;
}

void rig_init(struct rig *rig, const struct cellos_probe *probe,
	      const struct cellos_probe_options *options, size_t queue_depth)
{
	memset(rig, 0, sizeof(*rig));
	rig->probe = probe;
	rig->options = *options;
	RIG_CHECK(cellos_queue_create(&rig->queue, CELLOS_LANE_COUNT, queue_depth) == 0);
	rig->env.options = &rig->options;
	rig->env.lane = cellos_queue_lane(rig->queue, probe->lane);
	rig->env.agent_pid = (uint32_t)getpid();
	rig->env.stop_fd = eventfd(0, EFD_CLOEXEC);
	RIG_CHECK(rig->env.stop_fd >= 0);
	rig->state_bytes = probe->state_bytes(&rig->options);
	if (rig->state_bytes > 0) {
		rig->state = mmap(NULL, rig->state_bytes, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		RIG_CHECK(rig->state != MAP_FAILED);
	}
}

void rig_arm(struct rig *rig)
{
	rig->probe->arm(rig->state, &rig->env, &rig->status);
	RIG_CHECK(rig->status.surface != NULL);
}

static void *probe_main(void *opaque)
{
	struct rig *rig = opaque;

	atomic_store(&rig->tid, gettid());
	rig->probe->run(rig->state, &rig->env);
	return NULL;
}

void rig_start(struct rig *rig)
{
	pthread_attr_t attributes;
	sigset_t all, before;
	size_t stack = CELLOS_PROBE_STACK_BYTES;

#ifdef CELLOS_SANITIZED
	stack *= 16; /* instrumented frames are larger, and the sanitizer keeps its own things there
		      */
#endif
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	RIG_CHECK(pthread_attr_init(&attributes) == 0);
	RIG_CHECK(pthread_attr_setstacksize(&attributes, stack) == 0);
	RIG_CHECK(pthread_create(&rig->thread, &attributes, probe_main, rig) == 0);
	pthread_attr_destroy(&attributes);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	rig->running = true;
}

uint64_t rig_stop(struct rig *rig)
{
	uint64_t one = 1, begin = rig_now(), end;

	if (!rig->running)
		return 0;
	RIG_CHECK(write(rig->env.stop_fd, &one, sizeof(one)) == sizeof(one));
	RIG_CHECK(pthread_join(rig->thread, NULL) == 0);
	end = rig_now();
	rig->running = false;
	rig_pump(rig, 0);
	return end - begin;
}

bool rig_stops_promptly(struct rig *rig)
{
	for (unsigned tries = 0; tries < 20; tries++) {
		eventfd_t ignored;

		if (rig_stop(rig) < 50000000)
			return true;
		RIG_CHECK(eventfd_read(rig->env.stop_fd, &ignored) == 0);
		rig_start(rig);
	}
	return false;
}

void rig_free(struct rig *rig)
{
	(void)rig_stop(rig);
	rig->probe->disarm(rig->state, &rig->env);
	if (rig->state != NULL)
		munmap(rig->state, rig->state_bytes);
	rig->queue = cellos_queue_destroy(rig->queue);
	close(rig->env.stop_fd);
	free(rig->events);
	rig->events = NULL;
}

static void keep(struct rig *rig, const struct cellos_raw_event *event)
{
	if (rig->count == rig->room) {
		rig->room = rig->room == 0 ? 1024 : rig->room * 2;
		rig->events = realloc(rig->events, rig->room * sizeof(*rig->events));
		RIG_CHECK(rig->events != NULL);
	}
	rig->events[rig->count++] = *event;
}

/* All that is there now; false: nothing was. */
static bool take_all(struct rig *rig)
{
	struct cellos_drained batch[64];
	enum cellos_drain_status status;
	size_t before = rig->count;

	do {
		size_t count = 0;

		status = cellos_queue_drain(rig->queue, batch, 64, &count);
		for (size_t at = 0; at < count; at++) {
			RIG_CHECK(batch[at].lane == (uint32_t)rig->probe->lane);
			keep(rig, &batch[at].event);
		}
	} while (status != CELLOS_DRAIN_EMPTY);
	return rig->count > before;
}

void rig_pump(struct rig *rig, uint64_t deadline_ns)
{
	if (take_all(rig) || deadline_ns == 0)
		return;
	cellos_queue_wait(rig->queue, deadline_ns);
	(void)take_all(rig);
}

size_t rig_count(const struct rig *rig, enum cellos_probe_source source, uint32_t pid)
{
	size_t count = 0;

	for (size_t at = 0; at < rig->count; at++)
		count += rig->events[at].source == source && rig->events[at].pid == pid;
	return count;
}

const struct cellos_raw_event *rig_last(const struct rig *rig, enum cellos_probe_source source,
					uint32_t pid)
{
	for (size_t at = rig->count; at-- > 0;)
		if (rig->events[at].source == source && rig->events[at].pid == pid)
			return &rig->events[at];
	return NULL;
}

bool rig_until(struct rig *rig, enum cellos_probe_source source, uint32_t pid, size_t count)
{
	uint64_t deadline = patience();

	while (rig_count(rig, source, pid) < count && rig_now() < deadline)
		rig_pump(rig, deadline);
	return rig_count(rig, source, pid) >= count;
}

uint64_t rig_dropped(const struct rig *rig, enum cellos_drop_reason reason)
{
	struct cellos_lane_counters counters;

	cellos_lane_read(rig->env.lane, &counters);
	return counters.dropped[reason];
}

bool rig_until_dropped(struct rig *rig, enum cellos_drop_reason reason, uint64_t count)
{
	uint64_t deadline = patience();

	/* A count wakes the queue's reader, too. */
	while (rig_dropped(rig, reason) < count && rig_now() < deadline)
		rig_pump(rig, deadline);
	(void)take_all(rig); /* what was told before the count */
	return rig_dropped(rig, reason) >= count;
}

uint64_t rig_stat(const struct rig *rig, const char *name)
{
	for (size_t at = 0; at < CELLOS_PROBE_MAX_STATS && rig->probe->stat_names[at]; at++)
		if (strcmp(rig->probe->stat_names[at], name) == 0)
			return atomic_load_explicit(&rig->env.stats[at], memory_order_relaxed);
	RIG_CHECK(!"a statistic of that name");
	return 0;
}

bool rig_until_stat(struct rig *rig, const char *name, uint64_t least)
{
	uint64_t deadline = patience();

	/* Nothing tells that a statistic has changed: look every millisecond. */
	while (rig_stat(rig, name) < least && rig_now() < deadline)
		rig_pump(rig, rig_now() + 1000000);
	/* What was told before the statistic changed may have come since the last look. */
	(void)take_all(rig);
	return rig_stat(rig, name) >= least;
}

uint64_t rig_voluntary_switches(const struct rig *rig)
{
	static const char key[] = "\nvoluntary_ctxt_switches:";
	char path[64], text[4096];
	const char *found;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", atomic_load(&rig->tid));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	RIG_CHECK(fd >= 0);
	got = read(fd, text, sizeof(text) - 1);
	close(fd);
	RIG_CHECK(got > 0);
	text[got] = '\0';
	found = strstr(text, key);
	RIG_CHECK(found != NULL);
	return strtoull(found + sizeof(key) - 1, NULL, 10);
}

void rig_temp_dir(char path[static 64])
{
	const char *base = getenv("TMPDIR");

	snprintf(path, 64, "%s/cellos-probes-XXXXXX",
		 base != NULL && strlen(base) < 40 ? base : "/tmp");
	RIG_CHECK(mkdtemp(path) != NULL);
}

static int remove_one(const char *path, const struct stat *status, int type, struct FTW *where)
{
	(void)status;
	(void)type;
	(void)where;
	return remove(path);
}

void rig_remove_tree(const char *path)
{
	RIG_CHECK(nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) == 0);
}

unsigned rig_fdinfo_lines(const char *begin, int *fd)
{
	DIR *folder = opendir("/proc/self/fdinfo");
	struct dirent *entry;
	unsigned lines = 0;

	RIG_CHECK(folder != NULL);
	while ((entry = readdir(folder)) != NULL) {
		char path[300], line[512];
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%s", entry->d_name);
		file = fopen(path, "re");
		while (file != NULL && fgets(line, sizeof(line), file) != NULL)
			if (strncmp(line, begin, strlen(begin)) == 0) {
				lines++;
				if (fd != NULL)
					*fd = atoi(entry->d_name);
			}
		if (file != NULL)
			fclose(file);
	}
	closedir(folder);
	return lines;
}

void rig_die_with_parent(void)
{
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static _Alignas(16) char stacks[RIG_THREADS][16384];
/* Set by the kernel before the thread runs, and 0 again when nobody stands on its stack any more.
 */
static _Atomic int tids[RIG_THREADS];

void rig_thread(unsigned slot, int (*body)(void *))
{
	const int flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
			  CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;

	RIG_CHECK(clone(body, stacks[slot] + sizeof(stacks[slot]), flags, NULL, &tids[slot], NULL,
			&tids[slot]) > 0);
}

void rig_thread_join(unsigned slot)
{
	int tid;

	while ((tid = atomic_load(&tids[slot])) != 0)
		syscall(SYS_futex, &tids[slot], FUTEX_WAIT, tid, NULL, NULL, 0);
}

void rig_thread_leave(void)
{
	for (;;)
		syscall(SYS_exit, 0);
}

pid_t rig_spawn(const char *program, const char *argument)
{
	int done[2];
	char byte;
	pid_t pid;

	RIG_CHECK(pipe2(done, O_CLOEXEC) == 0);
	pid = fork();
	RIG_CHECK(pid >= 0);
	if (pid == 0) {
		rig_die_with_parent();
		execl(program, program, argument, (char *)NULL);
		(void)!write(done[1], "x", 1);
		_exit(127);
	}
	close(done[1]);
	/* The end of file comes with the exec; a byte says that there was none. */
	RIG_CHECK(read(done[0], &byte, 1) == 0);
	close(done[0]);
	return pid;
}

void rig_kill(pid_t pid)
{
	siginfo_t info;

	RIG_CHECK(kill(pid, SIGKILL) == 0);
	RIG_CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT) == 0);
}

void rig_reap(pid_t pid)
{
	RIG_CHECK(waitpid(pid, NULL, 0) == pid);
}
