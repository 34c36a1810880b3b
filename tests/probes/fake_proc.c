/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See fake_proc.h. */
#include "fake_proc.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define PATH_BYTES 128

static int line_of(char *line, size_t size, const struct fake_process *p)
{
	return snprintf(line, size, "%u (%s) %c 1 1 1 0 -1 %u 0 0 0 0 0 0 0 0 20 0 %u 0 %llu 0 0\n",
			p->pid, p->name, p->state == 0 ? 'S' : p->state, p->flags,
			p->threads == 0 ? 1 : p->threads,
			(unsigned long long)(p->starttime == 0 ? 1000 : p->starttime));
}

static void write_line(int fd, const struct fake_process *process)
{
	char line[256];
	int len = line_of(line, sizeof(line), process);

	RIG_CHECK(fd >= 0);
	RIG_CHECK(write(fd, line, (size_t)len) == len);
	close(fd);
}

void fake_proc_put(const char *root, struct fake_process process)
{
	char made[PATH_BYTES], entry[PATH_BYTES], fresh[PATH_BYTES], stat[PATH_BYTES];

	snprintf(made, sizeof(made), "%s/.new", root);
	snprintf(entry, sizeof(entry), "%s/%u", root, process.pid);
	snprintf(fresh, sizeof(fresh), "%s/.new/stat", root);
	snprintf(stat, sizeof(stat), "%s/%u/stat", root, process.pid);
	RIG_CHECK(mkdir(made, 0755) == 0);
	write_line(open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644), &process);
	if (access(entry, F_OK) == 0) {
		RIG_CHECK(rename(fresh, stat) == 0 && rmdir(made) == 0);
		return;
	}
	RIG_CHECK(rename(made, entry) == 0);
}

void fake_proc_drop(const char *root, uint32_t pid)
{
	char entry[PATH_BYTES], gone[PATH_BYTES];

	snprintf(entry, sizeof(entry), "%s/%u", root, pid);
	snprintf(gone, sizeof(gone), "%s/.gone", root);
	RIG_CHECK(rename(entry, gone) == 0);
	rig_remove_tree(gone);
}

void fake_proc_put_fifo(const char *root, uint32_t pid)
{
	char made[PATH_BYTES], entry[PATH_BYTES], fifo[PATH_BYTES];

	snprintf(made, sizeof(made), "%s/.new", root);
	snprintf(entry, sizeof(entry), "%s/%u", root, pid);
	snprintf(fifo, sizeof(fifo), "%s/.new/stat", root);
	RIG_CHECK(mkdir(made, 0755) == 0 && mkfifo(fifo, 0644) == 0);
	RIG_CHECK(rename(made, entry) == 0);
}

void fake_proc_answer(const char *root, struct fake_process now, struct fake_process after)
{
	char path[PATH_BYTES];
	int fifo;

	snprintf(path, sizeof(path), "%s/%u/stat", root, now.pid);
	fifo = open(path, O_WRONLY | O_CLOEXEC); /* waits for the walker's open */
	if (after.pid == 0)
		fake_proc_drop(root, now.pid);
	else
		fake_proc_put(root, after);
	write_line(fifo, &now);
}

void fake_proc_make(const char *root)
{
	char link[PATH_BYTES], own[16];

	RIG_CHECK(mkdir(root, 0755) == 0 || errno == EEXIST);
	snprintf(link, sizeof(link), "%s/self", root);
	snprintf(own, sizeof(own), "%d", getpid());
	RIG_CHECK(symlink(own, link) == 0);
	fake_proc_put(root, (struct fake_process){.pid = 1, .name = "init", .starttime = 1});
	if (getpid() != 1)
		fake_proc_put(root, (struct fake_process){.pid = (uint32_t)getpid(),
							  .name = "agent",
							  .starttime = 2});
}
