/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Processes that start and end: which way to see them, the walks of /proc, and the life of the
 * thread that does.
 *
 *   connector   the kernel's messages: every process, with its own times
 *   procfs      walks of /proc at an interval: what is there and was not at the last walk has
 *               spawned, what was and is not has exited. One that lives between two is not seen
 *
 * Either way process_track.c says what that means, and a walk tells it what is there at first. A
 * walked process's exit is told when it is a zombie: only its exit status is left then, which is
 * its parent's business.
 *
 * The connector's reader is woken seldom: by the first message after a silence, and from then on by
 * a timer, until a look finds nothing. A reader that is woken by every message slows down everybody
 * who forks. What it wakes for has gathered in the sockets meanwhile.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it.
 * Invariants: a time when neither way could see is one occasion under `o`; idle, with the connector
 * of 6.6 or later, the thread never wakes; nothing is allocated; a /proc of another PID namespace,
 * or one that hides processes, is not taken for ours.
 * Refuses to: choose in silence (falling back says why); read more of a process than its stat,
 * which touches no memory or file of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe_tables.h"
#include "probe_util.h"
#include "process.h"

#define DRAIN_MESSAGES 4096u /* then held reports have their turn */

/* getdents64 is used raw, since opendir takes heap memory; this is what it fills in. */
_Static_assert(offsetof(struct dirent, d_name) == 19, "the kernel's struct linux_dirent64");

/* ---- /proc ---------------------------------------------------------------------------------- */

int process_look(const struct process_state *s, uint32_t pid, struct cellos_proc_stat *out)
{
	char path[24], line[1024]; /* a line is at most some 600 */
	ssize_t got;
	int fd;

	(void)snprintf(path, sizeof(path), "%u/stat", pid);
	fd = openat(s->proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, line, sizeof(line) - 1);
	got = got < 0 ? -errno : got;
	close(fd);
	line[got < 0 ? 0 : got] = '\0';
	return got < 0 ? (int)got : cellos_proc_parse_stat(line, out);
}

/* NULL, or why it cannot be used. */
static const char *open_proc(struct process_state *s)
{
	struct cellos_proc_stat stat;
	const char *why;
	char link[16] = "";

	s->proc_fd = open(s->root != NULL ? s->root : "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (s->proc_fd < 0)
		return "cannot open /proc";
	if (readlinkat(s->proc_fd, "self", link, sizeof(link) - 1) < 0)
		why = "/proc is not mounted";
	else if (cellos_proc_parse_pid(link) != s->env->agent_pid)
		why = "/proc shows another PID namespace";
	else if (process_look(s, 1, &stat) != 0)
		why = "hidepid on /proc hides the processes of other users";
	else
		return NULL;
	close(s->proc_fd);
	s->proc_fd = -1;
	return why;
}

/* Hands every process over; true when the listing came to its end, and all could be read. */
static bool list(struct process_state *s)
{
	long got = lseek(s->proc_fd, 0, SEEK_SET);
	bool sound = true;

	while (got >= 0) {
		got = syscall(SYS_getdents64, s->proc_fd, s->listing, sizeof(s->listing));
		if (got == 0)
			return sound;
		for (long at = 0; at < got;) {
			const struct dirent *entry = (const void *)(s->listing + at);
			uint32_t pid = cellos_proc_parse_pid(entry->d_name);
			uint64_t before = cellos_probe_now();
			struct cellos_proc_stat stat;
			int result = pid != 0 ? process_look(s, pid, &stat) : -ENOENT;

			at += entry->d_reclen;
			if (result == 0)
				process_seen(s, &stat, before);
			else
				sound &= result == -ENOENT || result == -ESRCH;
		}
	}
	return false;
}

/* With the connector: puts right what is known. A failure is for now: it is tried again, and the
   time until then is one occasion. */
static void walk(struct process_state *s)
{
	uint64_t interval = s->env->options->process_interval_ms * CELLOS_NS_PER_MS;
	bool sound = false;

	if (s->proc_fd >= 0 || open_proc(s) == NULL) {
		s->walk++;
		sound = list(s);
		(void)process_drain(s, PROCESS_WHOLE_QUEUE);
		if (sound)
			process_walk_end(s, cellos_probe_now());
		cellos_probe_stat_add(s->env, STAT_WALKS, 1);
	}
	if (!sound && !s->in_gap)
		cellos_lane_count(s->env->lane, CELLOS_DROP_OVERFLOW, 1);
	s->in_gap = !sound;
	s->walked_ns = cellos_probe_now();
	if (!s->by_messages) /* on a grid of due moments: no drift, and no burst after a stall */
		s->walk_ns = s->walked_ns + interval - (s->walked_ns - s->walk_ns) % interval;
	else
		s->walk_ns = sound ? UINT64_MAX : s->walked_ns + CELLOS_PROBE_RETRY_NS;
}

/* ---- life ----------------------------------------------------------------------------------- */

static void process_arm(void *opaque, struct cellos_probe_env *env,
			struct cellos_probe_status *status)
{
	struct process_state *s = opaque;
	bool armed = false;
	const char *why;

	s->env = env;
	s->connector.fd = s->exits.fd = -1;
	s->ask_ns = s->walk_ns = UINT64_MAX;
	process_track_init(s);
	why = open_proc(s);
	if (why == NULL && env->options->process != CELLOS_PROCESS_WALKER)
		why = process_connector_arm(s);
	if (s->by_messages || env->options->process != CELLOS_PROCESS_CONNECTOR) {
		s->walk_ns = cellos_probe_now();
		walk(s);
		armed = s->proc_fd >= 0;
	}
	*status = (struct cellos_probe_status){.armed = armed,
					       .failed = !armed,
					       .surface = armed ? "procfs" : "none",
					       .exactness = armed ? "sampled" : "none"};
	if (s->by_messages) {
		status->surface = "connector";
		status->exactness = "exact";
		status->kernel_bytes = s->connector.buffer + s->exits.buffer;
	}
	status->fell_back = armed && why != NULL;
	if (why != NULL)
		cellos_probe_why(status, "%s%s", why,
				 armed && !s->by_messages ? "; /proc is walked instead" : "");
}

/* Until there is reason to look; false: stop. */
static bool gather(struct process_state *s, bool flowing, uint64_t deadline)
{
	uint64_t coalesce = s->env->options->coalesce_ms * CELLOS_NS_PER_MS;
	enum cellos_wait_result result = CELLOS_WAIT_READABLE;

	deadline = deadline < s->walk_ns ? deadline : s->walk_ns;
	deadline = deadline < s->ask_ns ? deadline : s->ask_ns;
	if (!flowing)
		result = cellos_probe_wait(s->env->stop_fd, s->connector.fd, deadline);
	if (result == CELLOS_WAIT_READABLE) /* with 0 it is only looked whether to stop */
		result = cellos_probe_wait(s->env->stop_fd, -1, cellos_probe_now() + coalesce);
	return result != CELLOS_WAIT_STOP;
}

static void process_run(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *s = opaque;
	uint64_t held = UINT64_MAX;
	bool flowing = s->by_messages; /* since arm */

	(void)env;
	while (gather(s, flowing, held)) {
		flowing = process_drain(s, DRAIN_MESSAGES) > 0;
		process_connector_check(s);
		if (cellos_probe_now() >= s->walk_ns) {
			walk(s);
			process_connector_check(s); /* it has not put right what was lost since */
		}
		held = process_settle(s, cellos_probe_now());
	}
	(void)process_drain(s, PROCESS_WHOLE_QUEUE);
	process_connector_check(s);
	if (!s->by_messages && s->walk_ns != UINT64_MAX)
		walk(s); /* what happened since the last */
	(void)process_settle(s, UINT64_MAX);
}

static void process_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct process_state *s = opaque;

	(void)env;
	process_connector_close(s);
	if (s->proc_fd >= 0)
		close(s->proc_fd);
	s->proc_fd = -1;
}

const struct cellos_probe cellos_probe_process = {
	.name = "process",
	.help = "processes that start and end, as the kernel tells it, or by walking /proc",
	.lane = CELLOS_LANE_PROC,
	.stat_names = {"table_full", "walks", "forged", "malformed"},
	.state_bytes = process_state_bytes,
	.arm = process_arm,
	.run = process_run,
	.disarm = process_disarm,
};
