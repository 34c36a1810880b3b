/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See process_scan.h. */
#include "process_scan.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "probe_util.h"

#define STAT_BYTES 1024 /* a line is at most some 600 */

/* The kernel's struct linux_dirent64, which no header gives to user space. */
struct listed {
	uint64_t ino;
	int64_t next;
	uint16_t bytes;
	uint8_t type;
	char name[];
};

/* "123/stat". Digits by hand: this is done for every process of every walk. */
static void path_of(uint32_t pid, char path[static 20])
{
	char digits[12];
	size_t count = 0;

	do
		digits[count++] = (char)('0' + pid % 10);
	while ((pid /= 10) > 0);
	for (size_t at = 0; at < count; at++)
		path[at] = digits[count - 1 - at];
	memcpy(path + count, "/stat", sizeof("/stat"));
}

int process_scan_look(const struct process_scan *scan, uint32_t pid, struct cellos_proc_stat *out)
{
	char path[20], text[STAT_BYTES];
	ssize_t got;
	int fd, result;

	path_of(pid, path);
	fd = openat(scan->fd, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	got = read(fd, text, sizeof(text));
	result = got < 0 ? -errno : cellos_proc_parse_stat(text, (size_t)got, out);
	close(fd);
	return result == 0 && out->pid != pid ? -EINVAL : result;
}

static bool visit_one(struct process_scan *scan, const char *name, process_visit *visit,
		      void *context, struct process_walk *walk)
{
	uint32_t pid = cellos_proc_parse_pid(name);
	uint64_t before = cellos_probe_now();
	struct cellos_proc_stat stat;
	int result;

	if (pid == 0)
		return true;
	result = process_scan_look(scan, pid, &stat);
	if (result == -ENOENT || result == -ESRCH)
		return true;
	walk->trouble |= result != 0;
	return visit(context, pid, result, &stat, before);
}

/* Raw getdents64, since opendir takes heap memory. */
struct process_walk process_scan_walk(struct process_scan *scan, process_visit *visit,
				      void *context)
{
	struct process_walk walk = {0};

	if (lseek(scan->fd, 0, SEEK_SET) < 0) {
		walk.trouble = true;
		return walk;
	}
	for (;;) {
		long got = syscall(SYS_getdents64, scan->fd, scan->listing, sizeof(scan->listing));

		if (got <= 0) {
			walk.complete = got == 0;
			walk.trouble |= got < 0;
			return walk;
		}
		for (long at = 0; at < got;) {
			const struct listed *entry = (const void *)(scan->listing + at);

			if (!visit_one(scan, entry->name, visit, context, &walk))
				return walk;
			at += entry->bytes;
		}
	}
}

/* Is this directory /proc, of our own PID namespace, and does it show everybody? */
static int check(const struct process_scan *scan, uint32_t agent_pid,
		 struct cellos_probe_status *status)
{
	struct cellos_proc_stat stat;
	char link[16];
	ssize_t len = readlinkat(scan->fd, "self", link, sizeof(link) - 1);
	int result;

	if (len < 0) {
		cellos_probe_why(status, "/proc is not mounted");
		return -ENODEV;
	}
	link[len] = '\0';
	if (cellos_proc_parse_pid(link) != agent_pid) {
		cellos_probe_why(status, "/proc shows another PID namespace");
		return -EXDEV;
	}
	result = process_scan_look(scan, 1, &stat);
	if (result == -ENOENT || result == -EPERM || result == -EACCES)
		cellos_probe_why(status, "hidepid on /proc hides the processes of other users");
	else if (result != 0)
		cellos_probe_why(status, "cannot read /proc/1/stat: %s", strerror(-result));
	return result;
}

int process_scan_open(struct process_scan *scan, uint32_t agent_pid,
		      struct cellos_probe_status *status)
{
	int result;

	scan->fd =
		open(scan->root != NULL ? scan->root : "/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (scan->fd < 0) {
		result = -errno;
		cellos_probe_why(status, "cannot open /proc: %s", strerror(-result));
		return result;
	}
	result = check(scan, agent_pid, status);
	if (result != 0)
		process_scan_close(scan);
	return result;
}

void process_scan_close(struct process_scan *scan)
{
	if (scan->fd >= 0)
		close(scan->fd);
	scan->fd = -1;
}
