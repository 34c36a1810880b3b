/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What one process can change of, or see in, another one by its number, signals apart; and what
 * /proc offers of it. One thread.
 */
#include "attack.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/kcmp.h>
#include <linux/perf_event.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#define IDLE_PRIORITY (3 << 13) /* IOPRIO_CLASS_IDLE */

/* ---- tracing -------------------------------------------------------------------------------- */

static int do_ptrace(void)
{
	if (ptrace(PTRACE_SEIZE, agent, NULL, NULL) < 0)
		return errno;
	return WORKED; /* its end lets the agent go */
}

static int do_ptrace_thread(void)
{
	return outcome(ptrace(PTRACE_SEIZE, agent_thread, NULL, NULL));
}

static int do_ptrace_high_bit(void)
{
	return outcome(syscall(SYS_ptrace, (long)PTRACE_SEIZE, HIGH_BIT | agent, 0L, 0L));
}

static int do_ptrace_init(void)
{
	return outcome(ptrace(PTRACE_SEIZE, 1, NULL, NULL));
}

static int do_process_vm(int call, long pid)
{
	char byte = 0;
	struct iovec here = {&byte, 1}, there = {(void *)(uintptr_t)0x400000, 1};
	long result = syscall(call, pid, &here, 1L, &there, 1L, 0L);

	/* That address may not be mapped there: who gets so far may try others. */
	return result < 0 && errno == EFAULT ? WORKED : outcome(result);
}

static int do_vm_readv(void)
{
	return do_process_vm(SYS_process_vm_readv, agent);
}

static int do_vm_readv_high_bit(void)
{
	return do_process_vm(SYS_process_vm_readv, HIGH_BIT | agent);
}

static int do_vm_writev(void)
{
	return do_process_vm(SYS_process_vm_writev, agent);
}

static int do_vm_writev_high_bit(void)
{
	return do_process_vm(SYS_process_vm_writev, HIGH_BIT | agent);
}

static int do_kcmp(void)
{
	return outcome(syscall(SYS_kcmp, agent, getpid(), KCMP_VM, 0, 0));
}

static int do_kcmp_second(void)
{
	return outcome(syscall(SYS_kcmp, (long)getpid(), HIGH_BIT | agent, (long)KCMP_VM, 0L, 0L));
}

static int do_robust_list(void)
{
	void *head;
	size_t size;

	return outcome(syscall(SYS_get_robust_list, agent, &head, &size));
}

static int do_move_pages(void)
{
	void *page = (void *)(uintptr_t)0x400000;
	int where;

	return outcome(syscall(SYS_move_pages, agent, 1L, &page, NULL, &where, 0));
}

static int do_migrate_pages(void)
{
	unsigned long nodes = 1;

	return outcome(syscall(SYS_migrate_pages, agent, 8L * sizeof(nodes), &nodes, &nodes));
}

static int do_pidfd_getfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, agent, 0);

	return fd < 0 ? errno : outcome(syscall(SYS_pidfd_getfd, fd, 1, 0));
}

static int do_process_madvise(void)
{
	int fd = (int)syscall(SYS_pidfd_open, agent, 0);
	struct iovec there = {(void *)(uintptr_t)0x400000, 4096};

	if (fd < 0)
		return errno;
	/* Pages that are locked, as the agent's are, cannot be sent away, whoever asks. */
	if (syscall(SYS_process_madvise, fd, &there, 1L, (long)MADV_WILLNEED, 0L) < 0 &&
	    errno != ENOMEM) /* nothing is mapped there */
		return errno;
	return WORKED;
}

static int do_perf(void)
{
	struct perf_event_attr event = {
		.type = PERF_TYPE_SOFTWARE, .size = sizeof(event), .config = PERF_COUNT_SW_DUMMY};

	return outcome(syscall(SYS_perf_event_open, &event, agent, -1, -1, 0L));
}

static int do_core_scheduling(void)
{
	int result = outcome(prctl(PR_SCHED_CORE, PR_SCHED_CORE_SHARE_TO, agent, 0, 0));

	return result == EINVAL || result == ENODEV ? ABSENT : result;
}

/* ---- limits and priorities --------------------------------------------------------------------
 */

static int change_limit(long pid)
{
	struct rlimit limit = {.rlim_cur = 0, .rlim_max = 0};

	return outcome(syscall(SYS_prlimit64, pid, (long)RLIMIT_CORE, &limit, NULL));
}

static int do_prlimit(void)
{
	return change_limit(agent);
}

static int do_prlimit_high_bit(void)
{
	return change_limit(HIGH_BIT | agent);
}

static int do_setpriority(void)
{
	return outcome(setpriority(PRIO_PROCESS, (id_t)agent, 1));
}

static int do_setpriority_high_bit(void)
{
	return outcome(syscall(SYS_setpriority, (long)PRIO_PROCESS, HIGH_BIT | agent, 2L));
}

static int do_setpriority_group(void)
{
	return outcome(setpriority(PRIO_PGRP, (id_t)agent, 3));
}

/* It takes whoever it reaches: the agent's state tells. */
static int do_setpriority_user(void)
{
	return setpriority(PRIO_USER, 0, 4) < 0 ? errno : SENT;
}

static int do_setpriority_user_high_bit(void)
{
	return syscall(SYS_setpriority, HIGH_BIT | PRIO_USER, 0L, 5L) < 0 ? errno : SENT;
}

static int do_ioprio(void)
{
	return outcome(syscall(SYS_ioprio_set, 1L, agent, IDLE_PRIORITY));
}

static int do_ioprio_high_bit(void)
{
	return outcome(syscall(SYS_ioprio_set, 1L, HIGH_BIT | agent, (long)IDLE_PRIORITY));
}

static int do_ioprio_user(void)
{
	return syscall(SYS_ioprio_set, 3L, 0L, (long)(2 << 13 | 7)) < 0 ? errno : SENT;
}

static int do_setscheduler(void)
{
	const struct sched_param none = {0};

	return outcome(sched_setscheduler(agent, SCHED_BATCH, &none));
}

static int do_setparam(void)
{
	const struct sched_param none = {0};

	return outcome(sched_setparam(agent, &none));
}

static int do_setaffinity(long pid)
{
	unsigned long first = 1;

	return outcome(syscall(SYS_sched_setaffinity, pid, (long)sizeof(first), &first));
}

static int do_setaffinity_plain(void)
{
	return do_setaffinity(agent);
}

static int do_setaffinity_high_bit(void)
{
	return do_setaffinity(HIGH_BIT | agent);
}

static int do_setattr(void)
{
	/* struct sched_attr, version 0, which libc does not have. */
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t times[3];
	} wanted = {.size = sizeof(wanted), .policy = SCHED_BATCH};

	return outcome(syscall(SYS_sched_setattr, agent, &wanted, 0));
}

static int do_setpgid(void)
{
	/* A session's leader cannot be moved at all: EPERM in any case but for a child's number. */
	return outcome(setpgid(agent, getpgrp()));
}

/* ---- /proc/PID --------------------------------------------------------------------------------
 */

static int in_proc(const char *name, int flags)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/%s", agent, name);
	return attack_open(path, flags);
}

static int do_proc_mem(void)
{
	return in_proc("mem", O_RDWR);
}

static int do_proc_root(void)
{
	return in_proc("root/init", O_RDONLY);
}

static int do_proc_root_of_one(void)
{
	return attack_open("/proc/1/root/cellos-guard", O_RDONLY);
}

static int do_proc_environ(void)
{
	return in_proc("environ", O_RDONLY);
}

static int do_proc_clear_refs(void)
{
	return in_proc("clear_refs", O_WRONLY);
}

static int do_proc_timerslack(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/timerslack_ns", agent);
	return attack_write(path, "1000000000");
}

static int do_proc_coredump(void)
{
	return in_proc("coredump_filter", O_WRONLY);
}

static int do_proc_autogroup(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/autogroup", agent);
	return attack_write(path, "19");
}

/* The first that the kernel ends when memory is short. */
static int do_proc_oom(void)
{
	char path[64];

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", agent);
	return attack_write(path, "1000");
}

static int do_proc_fd(void)
{
	char path[64], target[64];

	snprintf(path, sizeof(path), "/proc/%d/fd/1", agent);
	return outcome(readlink(path, target, sizeof(target)));
}

static int do_proc_namespace(void)
{
	return in_proc("ns/mnt", O_RDONLY);
}

/* Any number in /proc under the agent's name, of any process. */
static int do_proc_search(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int result = ENOENT;

	while (proc != NULL && result != WORKED && (entry = readdir(proc)) != NULL) {
		char path[300], name[32];
		ssize_t got;
		int fd;

		snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		got = fd < 0 ? 0 : read(fd, name, sizeof(name));
		if (fd >= 0)
			close(fd);
		if (got == 16 && memcmp(name, "cellos-telemetr\n", 16) == 0)
			result = WORKED;
	}
	if (proc != NULL)
		closedir(proc);
	return result;
}

const struct attack attacks_processes[] = {
	{"ptrace", "N C", "S C", do_ptrace, "PTRACE_SEIZE"},
	{"ptrace-thread", "N C", "S C", do_ptrace_thread, "PTRACE_SEIZE of a thread"},
	{"ptrace-high", "N C", "S C", do_ptrace_high_bit, "PTRACE_SEIZE with bit 32 set"},
	{"ptrace-init", "S C", "S C", do_ptrace_init, "PTRACE_SEIZE of PID 1"},
	{"vm-readv", "N C", "S C", do_vm_readv, "process_vm_readv"},
	{"vm-readv-high", "N C", "S C", do_vm_readv_high_bit, "process_vm_readv with bit 32 set"},
	{"vm-writev", "N C", "S C", do_vm_writev, "process_vm_writev"},
	{"vm-writev-high", "N C", "S C", do_vm_writev_high_bit,
	 "process_vm_writev with bit 32 set"},
	{"kcmp", "N C", "S C", do_kcmp, "kcmp"},
	{"kcmp-high", "N C", "S C", do_kcmp_second, "kcmp, second number, with bit 32 set"},
	{"robust-list", "N C", "S C", do_robust_list, "get_robust_list"},
	{"move-pages", "N C", "S C", do_move_pages, "move_pages"},
	{"migrate-pages", "N C", "S C", do_migrate_pages, "migrate_pages"},
	{"pidfd-getfd", "N C S", "S C", do_pidfd_getfd, "pidfd_getfd: its descriptors"},
	{"madvise", "N C S", "S C", do_process_madvise, "process_madvise"},
	{"perf", "N C S", "S C", do_perf, "perf_event_open"},
	{"core-scheduling", "never", "never", do_core_scheduling, "PR_SCHED_CORE"},
	{"prlimit", "N", "S", do_prlimit, "prlimit"},
	{"prlimit-high", "N", "S", do_prlimit_high_bit, "prlimit with bit 32 set"},
	{"setpriority", "N C", "S C", do_setpriority, "setpriority"},
	{"setpriority-high", "N C", "S C", do_setpriority_high_bit, "setpriority with bit 32 set"},
	{"setpriority-group", "N C", "S C", do_setpriority_group, "setpriority of its group"},
	{"setpriority-user", "N C", "S C", do_setpriority_user, "setpriority of the user's"},
	{"setpriority-user-high", "N C", "S C", do_setpriority_user_high_bit,
	 "the same with bit 32 set"},
	{"ioprio", "N C", "S C", do_ioprio, "ioprio_set"},
	{"ioprio-high", "N C", "S C", do_ioprio_high_bit, "ioprio_set with bit 32 set"},
	{"ioprio-user", "N C", "S C", do_ioprio_user, "ioprio_set of the user's"},
	{"setscheduler", "N C", "S C", do_setscheduler, "sched_setscheduler"},
	{"setparam", "N C", "S C", do_setparam, "sched_setparam"},
	{"setaffinity", "N C", "S C", do_setaffinity_plain, "sched_setaffinity"},
	{"setaffinity-high", "N C", "S C", do_setaffinity_high_bit,
	 "sched_setaffinity with bit 32 set"},
	{"setattr", "N C", "S C", do_setattr, "sched_setattr"},
	{"setpgid", "never", "never", do_setpgid, "setpgid"},
	{"proc-search", "NM", "MC", do_proc_search, "find it in /proc"},
	{"proc-mem", "NM C", "C", do_proc_mem, "/proc/PID/mem"},
	{"proc-root", "NM C", "C", do_proc_root, "/proc/PID/root: init's files"},
	{"proc-root-1", "NM C", "C", do_proc_root_of_one, "/proc/1/root: init's files"},
	{"proc-environ", "NM C", "C", do_proc_environ, "/proc/PID/environ"},
	{"proc-fd", "NM C", "C", do_proc_fd, "/proc/PID/fd"},
	{"proc-ns", "NM C", "C", do_proc_namespace, "/proc/PID/ns"},
	{"proc-clear-refs", "NM", "MC", do_proc_clear_refs, "/proc/PID/clear_refs"},
	{"proc-timerslack", "NM C", "C", do_proc_timerslack, "/proc/PID/timerslack_ns"},
	{"proc-coredump", "NM", "MC", do_proc_coredump, "/proc/PID/coredump_filter"},
	{"proc-autogroup", "NM", "MC", do_proc_autogroup, "/proc/PID/autogroup"},
	{"proc-oom", "NM", "MC", do_proc_oom, "/proc/PID/oom_score_adj"},
	{0},
};
