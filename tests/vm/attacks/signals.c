/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Signals to the agent by every way that names a process. One thread. Those that end the agent
 * stand last; SIGCONT shows as well that it can be reached, and leaves it alive.
 */
#include "attack.h"

#include <fcntl.h>
#include <linux/reboot.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static int do_kill(void)
{
	return outcome(kill(agent, SIGCONT));
}

static int do_kill_thread_number(void)
{
	return outcome(kill(agent_thread, SIGCONT));
}

static int do_kill_high_bit(void)
{
	return outcome(syscall(SYS_kill, HIGH_BIT | agent, SIGCONT));
}

static int do_kill_group(void)
{
	return outcome(kill(-agent, SIGCONT));
}

static int do_kill_group_high_bit(void)
{
	return outcome(syscall(SYS_kill, (long)(unsigned)-agent, SIGCONT));
}

static int do_tkill(void)
{
	return outcome(syscall(SYS_tkill, agent_thread, SIGCONT));
}

static int do_tkill_high_bit(void)
{
	return outcome(syscall(SYS_tkill, HIGH_BIT | agent_thread, SIGCONT));
}

static int do_tgkill(void)
{
	return outcome(syscall(SYS_tgkill, agent, agent_thread, SIGCONT));
}

static int do_tgkill_high_bit(void)
{
	return outcome(syscall(SYS_tgkill, HIGH_BIT | agent, HIGH_BIT | agent_thread, SIGCONT));
}

/* -1: whatever group the thread is in. */
static int do_tgkill_any_group(void)
{
	return outcome(syscall(SYS_tgkill, agent, agent, SIGCONT));
}

static int do_kill_init(void)
{
	return outcome(kill(1, SIGCONT));
}

static siginfo_t queued(void)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = SIGCONT;
	info.si_code = SI_QUEUE;
	return info;
}

static int do_sigqueue(void)
{
	siginfo_t info = queued();

	return outcome(syscall(SYS_rt_sigqueueinfo, agent, SIGCONT, &info));
}

static int do_sigqueue_high_bit(void)
{
	siginfo_t info = queued();

	return outcome(syscall(SYS_rt_sigqueueinfo, HIGH_BIT | agent, SIGCONT, &info));
}

static int do_tgsigqueue(void)
{
	siginfo_t info = queued();

	return outcome(syscall(SYS_rt_tgsigqueueinfo, agent, agent_thread, SIGCONT, &info));
}

static int do_tgsigqueue_high_bit(void)
{
	siginfo_t info = queued();

	return outcome(syscall(SYS_rt_tgsigqueueinfo, HIGH_BIT | agent, HIGH_BIT | agent_thread,
			       SIGCONT, &info));
}

static int do_pidfd(void)
{
	int fd = (int)syscall(SYS_pidfd_open, agent, 0);

	return fd < 0 ? errno : outcome(syscall(SYS_pidfd_send_signal, fd, SIGCONT, NULL, 0));
}

/* A folder of /proc is a descriptor of a process, too. */
static int do_pidfd_by_proc(void)
{
	char path[32] = "/proc/";
	size_t at = strlen(path);
	char digits[16];
	int count = 0, fd;

	for (int left = agent; left > 0; left /= 10)
		digits[count++] = (char)('0' + left % 10);
	while (count > 0)
		path[at++] = digits[--count];
	path[at] = '\0';
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? errno : outcome(syscall(SYS_pidfd_send_signal, fd, SIGCONT, NULL, 0));
}

/* ---- the owner of a descriptor gets its signals -----------------------------------------------
 */

static int own_setown(int fd)
{
	return fcntl(fd, F_SETOWN, agent);
}

static int own_setown_ex(int fd)
{
	const struct f_owner_ex owner = {.type = F_OWNER_TID, .pid = agent_thread};

	return fcntl(fd, F_SETOWN_EX, &owner);
}

static int own_fiosetown(int fd)
{
	return ioctl(fd, FIOSETOWN, &agent);
}

static int own_siocspgrp(int fd)
{
	return ioctl(fd, SIOCSPGRP, &agent);
}

/* Sets an owner and the signal, and lets it be raised. */
static int raise_by(int (*own)(int fd), long set_signal, int signal_number)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		return errno;
	if (own(ends[0]) < 0 || syscall(SYS_fcntl, ends[0], set_signal, signal_number) < 0 ||
	    fcntl(ends[0], F_SETFL, O_ASYNC) < 0)
		return errno;
	return outcome(write(ends[1], "", 1));
}

static int do_setown(void)
{
	return raise_by(own_setown, F_SETSIG, SIGCONT);
}

static int do_setown_high_bit(void)
{
	return raise_by(own_setown, HIGH_BIT | F_SETSIG, SIGCONT);
}

static int do_setown_ex(void)
{
	return raise_by(own_setown_ex, F_SETSIG, SIGCONT);
}

static int do_fiosetown(void)
{
	return raise_by(own_fiosetown, F_SETSIG, SIGCONT);
}

static int do_siocspgrp(void)
{
	return raise_by(own_siocspgrp, F_SETSIG, SIGCONT);
}

/* SIGIO alone: F_SETSIG to zero. */
static int do_sigio(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, ends) < 0)
		return errno;
	if (own_fiosetown(ends[0]) < 0 || fcntl(ends[0], F_SETFL, O_ASYNC) < 0 ||
	    write(ends[1], "", 1) < 0)
		return errno;
	return send(ends[1], "", 1, MSG_OOB) < 0 && errno != EOPNOTSUPP ? errno : SENT;
}

/* ---- those that end it ------------------------------------------------------------------------
 */

static int restart(void)
{
	return outcome(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2,
			       LINUX_REBOOT_CMD_RESTART, NULL));
}

/* In a PID namespace the kernel ends its init, and the caller, in order, before it returns. */
static int do_reboot(void)
{
	int result = attack_child(restart);

	return result == WORKED ? FATAL : result;
}

static int do_kill_everybody(void)
{
	return kill(-1, SIGTERM) < 0 ? errno : FATAL;
}

static int do_setown_sigkill(void)
{
	int result = raise_by(own_setown, F_SETSIG, SIGKILL);

	return result == WORKED ? FATAL : result;
}

static int do_kill_9(void)
{
	return kill(agent, SIGKILL) < 0 ? errno : FATAL;
}

const struct attack attacks_signals[] = {
	{"kill", "N", "S", do_kill, "kill"},
	{"kill-thread", "N", "S", do_kill_thread_number, "kill by a thread's number"},
	{"kill-high", "N", "S", do_kill_high_bit, "kill with bit 32 set"},
	{"kill-group", "N", "S", do_kill_group, "kill of its process group"},
	{"kill-group-high", "N", "S", do_kill_group_high_bit, "the same, as an unsigned number"},
	{"tkill", "N", "S", do_tkill, "tkill"},
	{"tkill-high", "N", "S", do_tkill_high_bit, "tkill with bit 32 set"},
	{"tgkill", "N", "S", do_tgkill, "tgkill"},
	{"tgkill-main", "N", "S", do_tgkill_any_group, "tgkill of its main thread"},
	{"tgkill-high", "N", "S", do_tgkill_high_bit, "tgkill with bit 32 set"},
	{"kill-init", "S", "S", do_kill_init, "kill of PID 1"},
	{"sigqueue", "N", "S", do_sigqueue, "rt_sigqueueinfo"},
	{"sigqueue-high", "N", "S", do_sigqueue_high_bit, "rt_sigqueueinfo with bit 32 set"},
	{"tgsigqueue", "N", "S", do_tgsigqueue, "rt_tgsigqueueinfo"},
	{"tgsigqueue-high", "N", "S", do_tgsigqueue_high_bit, "rt_tgsigqueueinfo with bit 32 set"},
	{"pidfd", "N S", "S", do_pidfd, "pidfd_open, pidfd_send_signal"},
	{"pidfd-proc", "N S", "S MC", do_pidfd_by_proc, "pidfd_send_signal to its folder in /proc"},
	{"setown", "N", "S", do_setown, "F_SETOWN with F_SETSIG"},
	{"setown-high", "N", "S", do_setown_high_bit, "F_SETSIG with bit 32 set"},
	{"setown-ex", "N", "S", do_setown_ex, "F_SETOWN_EX with F_SETSIG"},
	{"fiosetown", "N", "S", do_fiosetown, "FIOSETOWN with F_SETSIG"},
	{"siocspgrp", "N", "S", do_siocspgrp, "SIOCSPGRP with F_SETSIG"},
	{"sigio", "agent", "agent", do_sigio, "FIOSETOWN and SIGIO, which it keeps blocked"},
	{"reboot", "N C S", "C S", do_reboot, "reboot"},
	{"kill-everybody", "N", "S", do_kill_everybody, "kill(-1, SIGTERM)"},
	{"setown-sigkill", "N", "S", do_setown_sigkill, "F_SETOWN with F_SETSIG(SIGKILL)"},
	{"kill-9", "N", "S", do_kill_9, "kill(SIGKILL)"},
	{0},
};
