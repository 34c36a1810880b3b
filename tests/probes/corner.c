/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See corner.h. */
#include "corner.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bpf_load.h"
#include "rig.h"

#define PREFIX "cellos-test-"

static int top = -1; /* of the hierarchy, from outside */
static char name[64];

static void join(const char *cgroup)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/cgroup.procs", cgroup);
	fd = openat(top, path, O_WRONLY | O_CLOEXEC);
	RIG_CHECK(fd >= 0);
	RIG_CHECK(write(fd, "0", 1) == 1); /* the writer itself */
	close(fd);
}

static bool is_left_over(const char *cgroup)
{
	pid_t pid;

	if (strncmp(cgroup, PREFIX, strlen(PREFIX)) != 0)
		return false;
	pid = (pid_t)strtol(cgroup + strlen(PREFIX), NULL, 10);
	return pid > 0 && kill(pid, 0) < 0 && errno == ESRCH;
}

/* What a crash left behind; one that still holds somebody refuses. */
static void sweep(void)
{
	int fd = openat(top, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *folder = fdopendir(fd);
	struct dirent *entry;

	RIG_CHECK(folder != NULL);
	while ((entry = readdir(folder)) != NULL)
		if (is_left_over(entry->d_name))
			(void)unlinkat(top, entry->d_name, AT_REMOVEDIR);
	closedir(folder);
}

static void loopback_up(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	RIG_CHECK(fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &request) == 0);
	close(fd);
}

void corner_enter(void)
{

	top = cellos_bpf_mount("cgroup2");
	RIG_CHECK(top >= 0);
	sweep();
	snprintf(name, sizeof(name), PREFIX "%d", (int)getpid());
	RIG_CHECK(mkdirat(top, name, 0755) == 0);
	join(name);
	RIG_CHECK(unshare(CLONE_NEWCGROUP | CLONE_NEWNET) == 0);
	loopback_up();
}

void corner_leave(void)
{
	join(".");
	/* A child that was reaped a moment ago may still be on its way out. */
	for (uint64_t until = rig_now() + RIG_PATIENCE_MS * 1000000ull;
	     unlinkat(top, name, AT_REMOVEDIR) < 0 && rig_now() < until;)
		sched_yield();
	close(top);
	top = -1;
}
