/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * /proc, read: one process by its number, or all that there are.
 *
 * Threads: one at a time. Invariants: nothing is allocated; a /proc of another PID namespace, or
 * one that hides processes, is not taken for ours.
 * Refuses to: read more of a process than its stat, which touches no memory or file of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe_util.h"
#include "process.h"

#define STAT_BYTES 1024 /* a line is at most some 600 */

/* getdents64 is used raw, since opendir takes heap memory; this is what it fills in. */
_Static_assert(offsetof(struct dirent, d_name) == 19, "the kernel's struct linux_dirent64");

int process_look(const struct process_state *state, uint32_t pid, struct cellos_proc_stat *out)
{
	char path[24], line[STAT_BYTES];
	ssize_t got;
	int fd;

	(void)snprintf(path, sizeof(path), "%u/stat", pid);
	fd = openat(state->proc_fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, line, sizeof(line) - 1);
	got = got < 0 ? -errno : got;
	close(fd);
	if (got < 0)
		return (int)got;
	line[got] = '\0';
	return cellos_proc_parse_stat(line, out);
}

const char *process_proc_open(struct process_state *state)
{
	const char *why = NULL;
	struct cellos_proc_stat stat;
	char link[16] = "";

	state->proc_fd = open(state->root != NULL ? state->root : "/proc",
			      O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (state->proc_fd < 0)
		return "cannot open /proc";
	if (readlinkat(state->proc_fd, "self", link, sizeof(link) - 1) < 0)
		why = "/proc is not mounted";
	else if (cellos_proc_parse_pid(link) != state->env->agent_pid)
		why = "/proc shows another PID namespace";
	else if (process_look(state, 1, &stat) != 0)
		why = "/proc hides the processes of others (hidepid?)";
	if (why != NULL)
		process_proc_close(state);
	return why;
}

void process_proc_close(struct process_state *state)
{
	if (state->proc_fd >= 0)
		close(state->proc_fd);
	state->proc_fd = -1;
}

static void visit(struct process_state *state, uint32_t pid, bool *sound)
{
	uint64_t before = cellos_probe_now();
	struct cellos_proc_stat stat;
	int result = process_look(state, pid, &stat);

	if (result == -ENOENT || result == -ESRCH)
		return;
	*sound &= result == 0;
	process_seen(state, pid, result == 0 ? &stat : NULL, before);
}

bool process_list(struct process_state *state, bool *sound)
{
	long got = lseek(state->proc_fd, 0, SEEK_SET);

	for (bool first = true; got >= 0; first = false) {
		got = syscall(SYS_getdents64, state->proc_fd, state->listing,
			      sizeof(state->listing));
		if (got == 0)
			return true;
		/* Some hundred of processes are always looked at, also by a last walk. */
		if (!first && cellos_probe_wait(state->env->stop_fd, -1, 0) == CELLOS_WAIT_STOP)
			return false;
		for (long at = 0; at < got;) {
			const struct dirent *entry = (const void *)(state->listing + at);
			uint32_t pid = cellos_proc_parse_pid(entry->d_name);

			if (pid != 0)
				visit(state, pid, sound);
			at += entry->d_reclen;
		}
	}
	*sound = false;
	return false;
}
