/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The agent's filter, closed around a child of its own each time: what a running agent needs comes
 * through, anything else ends it, and in log-only mode nothing does.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cage.h"

#define HIGH_BIT (1L << 32)
#define NOT_CLOSED 99

struct call {
	const char *what;
	long number, first, second, third;
};

static const struct call needed[] = {
	{"socket(AF_UNIX)", SYS_socket, AF_UNIX, SOCK_STREAM, 0},
	{"socket(AF_NETLINK)", SYS_socket, AF_NETLINK, SOCK_RAW, 0},
	{"socket(AF_UNIX), read as an int", SYS_socket, HIGH_BIT | AF_UNIX, SOCK_STREAM, 0},
	{"openat", SYS_openat, AT_FDCWD, (long)"/dev/null", O_RDONLY},
	{"write", SYS_write, -1, 0, 0},
	{"getpid", SYS_getpid, 0, 0, 0},
};

/* None of them does anything with these arguments, were it let through. */
static const struct call deadly[] = {
	{"socket(AF_INET)", SYS_socket, AF_INET, SOCK_STREAM, 0},
	{"socket(AF_PACKET)", SYS_socket, AF_PACKET, SOCK_RAW, 0},
	{"socket(AF_INET) with bit 32 set", SYS_socket, HIGH_BIT | AF_INET, SOCK_STREAM, 0},
	{"execve", SYS_execve, 0, 0, 0},
	{"execveat", SYS_execveat, -1, 0, 0},
	{"kill", SYS_kill, 0, 0, 0},
	{"ptrace", SYS_ptrace, -1, -1, 0},
	{"process_vm_writev", SYS_process_vm_writev, -1, 0, 0},
	{"mount", SYS_mount, 0, 0, 0},
	{"unshare", SYS_unshare, 0, 0, 0},
	{"setns", SYS_setns, -1, 0, 0},
	{"bpf", SYS_bpf, -1, 0, 0},
	{"io_uring_setup", SYS_io_uring_setup, 0, 0, 0},
	{"keyctl", SYS_keyctl, -1, 0, 0},
	{"memfd_create", SYS_memfd_create, 0, 0, 0},
	{"finit_module", SYS_finit_module, -1, 0, 0},
	{"unlinkat", SYS_unlinkat, -1, 0, 0},
	{"fchmod", SYS_fchmod, -1, 0, 0},
	{"setuid", SYS_setuid, -1, 0, 0},
	{"getppid", SYS_getppid, 0, 0, 0},
};

/* How a child ends that makes the call in the cage: 0, or the signal. */
static int end_of(const struct call *call, bool log_only)
{
	const struct rlimit none = {0, 0};
	pid_t child = fork();
	int status;

	if (child == 0) {
		(void)setrlimit(RLIMIT_CORE, &none);
		if (cage_close(log_only) < 0)
			syscall(SYS_exit_group, NOT_CLOSED);
		(void)syscall(call->number, call->first, call->second, call->third);
		syscall(SYS_exit_group, 0);
	}
	cr_assert(child > 0 && waitpid(child, &status, 0) == child);
	cr_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "%s: exit code %d", call->what,
		  WEXITSTATUS(status));
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void need_filter(void)
{
	if (!cage_has_filter())
		cr_skip_test("this build has no filter");
}

Test(cage, what_a_running_agent_calls_comes_through, .init = need_filter)
{
	for (size_t i = 0; i < sizeof(needed) / sizeof(needed[0]); i++)
		cr_assert_eq(end_of(&needed[i], false), 0, "%s", needed[i].what);
}

Test(cage, anything_else_ends_it, .init = need_filter)
{
	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		cr_assert_eq(end_of(&deadly[i], false), SIGSYS, "%s", deadly[i].what);
}

Test(cage, log_only_ends_nothing, .init = need_filter)
{
	for (size_t i = 0; i < sizeof(deadly) / sizeof(deadly[0]); i++)
		cr_assert_eq(end_of(&deadly[i], true), 0, "%s", deadly[i].what);
}
