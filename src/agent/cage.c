/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See cage.h. The filter is made at build time by cage_filter.py, which says what it allows. */
#include "cage.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "cage_filter.h"

#ifndef MCL_ONFAULT /* musl's headers know only the older two */
#define MCL_ONFAULT 4
#endif

static int own_mounts(void)
{
	if (unshare(CLONE_NEWNS) < 0)
		return -1;
	/* A slave: what the init mounts later is seen here, too. */
	if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return -1;
	return mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL);
}

static int live_long(void)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC), result = -1;

	if (fd >= 0) {
		result = write(fd, "-1000", 5) == 5 ? 0 : -1;
		close(fd);
	}
	return result;
}

void cage_seclude(cage_say *say)
{
	const struct rlimit none = {0, 0};

	(void)setsid(); /* fails only for who leads a group, and has a session or gets a hangup */
	if (prctl(PR_SET_DUMPABLE, 0) < 0 || setrlimit(RLIMIT_CORE, &none) < 0)
		say("be closed to debuggers", errno);
	/* What is never touched takes no memory: on fault, not at once. */
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		say("lock memory", errno);
	if (own_mounts() < 0)
		say("make a mount namespace", errno);
	if (live_long() < 0)
		say("be the last to be killed", errno);
}

int cage_lay_down(uint64_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct sets[2];

	kept |= UINT64_C(1) << CAP_NET_ADMIN;
	if (syscall(SYS_capget, &header, sets) < 0)
		return -errno;
	for (unsigned half = 0; half < 2; half++) {
		sets[half].permitted &= (uint32_t)(kept >> 32 * half);
		sets[half].effective &= sets[half].permitted;
		sets[half].inheritable = 0;
	}
	return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

static struct sock_filter filter[] = {CAGE_FILTER};

bool cage_has_filter(void)
{
	return sizeof(filter) > sizeof(filter[0]);
}

int cage_close(bool log_only)
{
	const struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};
	long result;

	if (!cage_has_filter())
		return -ENOTSUP;
	for (size_t i = 0; log_only && i < program.len; i++)
		if (filter[i].code == (BPF_RET | BPF_K) && filter[i].k == SECCOMP_RET_KILL_PROCESS)
			filter[i].k = SECCOMP_RET_LOG;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return -errno;
	/* All threads at once, or none: a thread without it would be the way out. That one's number
	   is the answer then, and no errno. */
	result = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program);
	return result < 0 ? -errno : result > 0 ? -ESRCH : 0;
}
