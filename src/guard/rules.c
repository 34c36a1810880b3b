/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The profile; see rules.h. Pure. */
#include "rules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#define REFUSED(name)                                                                              \
	{                                                                                          \
		.call = (name), .error = EPERM                                                     \
	}
/* So that programs which know an older way take it. */
#define ABSENT(name)                                                                               \
	{                                                                                          \
		.call = (name), .error = ENOSYS                                                    \
	}
#define PID(name, at)                                                                              \
	{                                                                                          \
		.call = (name), .error = EPERM, .match = GUARD_PROTECTED, .argument = (at)         \
	}

#define NEW_NAMESPACES                                                                             \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER |             \
	 CLONE_NEWPID | CLONE_NEWNET)

static const struct guard_rule always[] = {
	/* Frames in the agent's name: the channel itself, and the ways around a look at it. */
	{"socket", EPERM, GUARD_EQUAL, 0, AF_VSOCK},
	{"socketpair", EPERM, GUARD_EQUAL, 0, AF_VSOCK},
	ABSENT("io_uring_setup"),
	ABSENT("io_uring_enter"),
	ABSENT("io_uring_register"),
	/* Usermode helpers, by the keys' way. */
	REFUSED("keyctl"),
	REFUSED("add_key"),
	REFUSED("request_key"),
	/* Parts of the kernel that see or change everything. */
	REFUSED("bpf"),
	REFUSED("perf_event_open"),
	REFUSED("userfaultfd"),
	REFUSED("kexec_load"),
	REFUSED("kexec_file_load"),
	REFUSED("init_module"),
	REFUSED("finit_module"),
	REFUSED("delete_module"),
	REFUSED("reboot"),
	REFUSED("acct"),
	REFUSED("swapon"),
	REFUSED("swapoff"),
	REFUSED("quotactl"),
	REFUSED("quotactl_fd"),
	REFUSED("fanotify_init"),
	REFUSED("iopl"),
	REFUSED("ioperm"),
	REFUSED("settimeofday"),
	REFUSED("clock_settime"),
	REFUSED("syslog"),
	REFUSED("vhangup"),
	/* Namespaces and mounts, by every door. clone3 hides its flags behind a pointer. */
	REFUSED("unshare"),
	REFUSED("setns"),
	{"clone", EPERM, GUARD_ANY_BIT, 0, NEW_NAMESPACES},
	ABSENT("clone3"),
	REFUSED("mount"),
	REFUSED("umount2"),
	REFUSED("pivot_root"),
	REFUSED("move_mount"),
	REFUSED("open_tree"),
	REFUSED("fsopen"),
	REFUSED("fsconfig"),
	REFUSED("fsmount"),
	REFUSED("fspick"),
	REFUSED("mount_setattr"),
	REFUSED("open_by_handle_at"),
	/* Processes by descriptor: programs fall back to numbers. */
	ABSENT("pidfd_open"),
	ABSENT("pidfd_send_signal"),
	ABSENT("pidfd_getfd"),
	REFUSED("process_madvise"),
	REFUSED("process_mrelease"),
	/* Input for whoever reads the terminal next. */
	{"ioctl", EPERM, GUARD_EQUAL, 1, TIOCSTI},
	/* The numbers that belong to init and the agent, whatever stands there. */
	PID("kill", 0),
	PID("tgkill", 0),
	PID("ptrace", 1),
};

/* Where the agent has a number: every other call that takes one. */
static const struct guard_rule shared[] = {
	PID("tgkill", 1),
	PID("tkill", 0),
	PID("rt_sigqueueinfo", 0),
	PID("rt_tgsigqueueinfo", 0),
	PID("rt_tgsigqueueinfo", 1),
	PID("prlimit64", 0),
	PID("setpriority", 1),
	{"setpriority", EPERM, GUARD_EQUAL, 0, 2 /* PRIO_USER */},
	PID("ioprio_set", 1),
	{"ioprio_set", EPERM, GUARD_EQUAL, 0, 3 /* IOPRIO_WHO_USER */},
	PID("sched_setaffinity", 0),
	PID("sched_setscheduler", 0),
	PID("sched_setparam", 0),
	PID("sched_setattr", 0),
	PID("move_pages", 0),
	PID("migrate_pages", 0),
	PID("process_vm_readv", 0),
	PID("process_vm_writev", 0),
	PID("kcmp", 0),
	PID("kcmp", 1),
	PID("get_robust_list", 0),
	PID("setpgid", 0),
	PID("setpgid", 1),
	/* A descriptor's owner gets any signal that this names: one way in less. */
	{"fcntl", EPERM, GUARD_EQUAL, 1, F_SETSIG},
};

const struct guard_rule *guard_rule_at(const struct cellos_guard_options *options, size_t at)
{
	const size_t first = sizeof(always) / sizeof(always[0]);

	if (at < first)
		return &always[at];
	if (options->layout == CELLOS_GUARD_SHARED &&
	    at - first < sizeof(shared) / sizeof(shared[0]))
		return &shared[at - first];
	return NULL;
}

/* low..high as aligned blocks whose sizes are powers of two. */
static size_t add_range(struct guard_block *blocks, size_t count, uint64_t low, uint64_t high)
{
	while (low <= high && count < GUARD_MAX_BLOCKS) {
		uint64_t size = low & -low; /* as large as the alignment of `low` allows */

		while (low + size - 1 > high)
			size /= 2;
		blocks[count++] = (struct guard_block){.mask = (uint32_t) ~(size - 1),
						       .value = (uint32_t)low};
		low += size;
	}
	return count;
}

size_t guard_rule_blocks(const struct cellos_guard_options *options, const struct guard_rule *rule,
			 struct guard_block blocks[GUARD_MAX_BLOCKS])
{
	const uint32_t last = options->protect_up_to != 0 ? options->protect_up_to : 2;
	size_t count = 0;

	switch (rule->match) {
	case GUARD_EQUAL:
		blocks[count++] = (struct guard_block){UINT32_MAX, rule->value};
		break;
	case GUARD_ANY_BIT:
		for (unsigned bit = 0; bit < 32; bit++)
			if ((rule->value & 1u << bit) != 0)
				blocks[count++] = (struct guard_block){1u << bit, 1u << bit};
		break;
	case GUARD_PROTECTED:
		count = add_range(blocks, count, 1, last);
		/* A group of theirs by its negative number; -1 is everybody, and theirs is the only
		   everybody where the agent has a number. */
		count = add_range(blocks, count, (UINT64_C(1) << 32) - last,
				  (UINT64_C(1) << 32) -
					  (options->layout == CELLOS_GUARD_SHARED ? 1 : 2));
		break;
	case GUARD_ALWAYS:
		break;
	}
	return count;
}
