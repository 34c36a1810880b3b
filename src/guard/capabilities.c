/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The second wall: what the workload keeps of root's power, and that it never gets more.
 *
 * A list of what stays, so that a capability that a later kernel adds is gone as well. Kept is what
 * ordinary programs of a root shell need for their own files and users (apt, su, servers).
 *
 * Threads: the child's one, before it execs.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inside.h"

#define BIT(capability) (UINT64_C(1) << (capability))

/* In the order of the kernel's numbers. */
static const char *const names[] = {
	"CAP_CHOWN",
	"CAP_DAC_OVERRIDE",
	"CAP_DAC_READ_SEARCH",
	"CAP_FOWNER",
	"CAP_FSETID",
	"CAP_KILL",
	"CAP_SETGID",
	"CAP_SETUID",
	"CAP_SETPCAP",
	"CAP_LINUX_IMMUTABLE",
	"CAP_NET_BIND_SERVICE",
	"CAP_NET_BROADCAST",
	"CAP_NET_ADMIN",
	"CAP_NET_RAW",
	"CAP_IPC_LOCK",
	"CAP_IPC_OWNER",
	"CAP_SYS_MODULE",
	"CAP_SYS_RAWIO",
	"CAP_SYS_CHROOT",
	"CAP_SYS_PTRACE",
	"CAP_SYS_PACCT",
	"CAP_SYS_ADMIN",
	"CAP_SYS_BOOT",
	"CAP_SYS_NICE",
	"CAP_SYS_RESOURCE",
	"CAP_SYS_TIME",
	"CAP_SYS_TTY_CONFIG",
	"CAP_MKNOD",
	"CAP_LEASE",
	"CAP_AUDIT_WRITE",
	"CAP_AUDIT_CONTROL",
	"CAP_SETFCAP",
	"CAP_MAC_OVERRIDE",
	"CAP_MAC_ADMIN",
	"CAP_SYSLOG",
	"CAP_WAKE_ALARM",
	"CAP_BLOCK_SUSPEND",
	"CAP_AUDIT_READ",
	"CAP_PERFMON",
	"CAP_BPF",
	"CAP_CHECKPOINT_RESTORE",
};

const char *guard_capability_name(unsigned number)
{
	return number < sizeof(names) / sizeof(names[0]) ? names[number] : NULL;
}

uint64_t guard_kept_capabilities(void)
{
	return BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |
	       BIT(CAP_KILL) | BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_NET_BIND_SERVICE) |
	       BIT(CAP_IPC_OWNER) | BIT(CAP_SYS_CHROOT);
}

/* The bounding set first: it needs CAP_SETPCAP, which goes with the rest. */
static int shrink_bounding_set(uint64_t kept)
{
	for (unsigned capability = 0; capability < 64; capability++) {
		if ((kept & BIT(capability)) != 0)
			continue;
		if (prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) < 0)
			return errno == EINVAL ? 0 : -errno; /* beyond the kernel's last one */
	}
	return 0;
}

static int set_own(uint64_t kept)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct sets[2] = {
		{.effective = (uint32_t)kept, .permitted = (uint32_t)kept},
		{.effective = (uint32_t)(kept >> 32), .permitted = (uint32_t)(kept >> 32)},
	};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) < 0)
		return -errno;
	return syscall(SYS_capset, &header, sets) < 0 ? -errno : 0;
}

/* Ahead of others on the CPU: not by these means. */
static int limit_scheduling(void)
{
	const struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_RTPRIO, &none) < 0 || setrlimit(RLIMIT_NICE, &none) < 0)
		return -errno;
	return 0;
}

/* Whoever the kernel ends last for want of memory. 0 or -errno. */
static int give_up_long_life(void)
{
	const char *const path = "/proc/self/oom_score_adj";
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	char sign = '0';

	if (fd < 0)
		return -errno;
	(void)!read(fd, &sign, 1);
	close(fd);
	/* With our capabilities still, so that it is also the least that it may have later. */
	return sign == '-' ? guard_write_file(path, "0") : 0;
}

/* What an init takes for itself, against being starved by the workload, is not the workload's. */
static int give_up_favours(void)
{
	const struct sched_param none = {0};
	const int policy = sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;

	if (policy != SCHED_BATCH && policy != SCHED_IDLE &&
	    sched_setscheduler(0, SCHED_OTHER, &none) < 0)
		return -errno;
	if (getpriority(PRIO_PROCESS, 0) < 0 && setpriority(PRIO_PROCESS, 0, 0) < 0)
		return -errno;
	return give_up_long_life();
}

int guard_drop_capabilities(const struct cellos_guard_options *options)
{
	const uint64_t kept = guard_kept_capabilities();
	int status = give_up_favours();

	if (status < 0)
		status = guard_missing(options, status, "cannot give up what favours us: %s",
				       strerror(-status));
	if (status < 0)
		return status;
	status = limit_scheduling();
	if (status == 0)
		status = shrink_bounding_set(kept);
	if (status == 0)
		status = set_own(kept);
	/* Nothing on any file system gives it back. */
	if (status == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		status = -errno;
	if (status < 0)
		return guard_missing(options, status, "cannot drop capabilities: %s",
				     strerror(-status));
	return 0;
}
