/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From the init's process to the workload's: the walls in their order, the reaper, the exec.
 *
 * The parent makes the cgroup and the child; the child raises the walls around itself, so that what
 * it forks is behind them from its first instruction. The parent hears through a pipe that closes
 * at exec: empty means the command runs.
 *
 * Threads: one, of the caller as of the child.
 *
 * In the hidden layout the child is PID 1 of its namespace and stays: it hands signals on, reaps
 * what is left to it, and ends as the command ended; the kernel then ends the rest.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inside.h"

/* Number 2 is taken and given back before the command gets one: see the rule on kill. */
#define FIRST_FREE_PID 3

/* What the child says through the pipe when the command will not run. */
struct failure {
	int status;
	bool said; /* why, already */
};

struct start {
	struct cellos_guard_options *options;
	char *const *argv;
	const int *stdio;
	int told; /* write end of the pipe */
};

/* ---- in the child --------------------------------------------------------------------------- */

static bool is_wanted(const struct cellos_guard_options *options, unsigned wall)
{
	return (options->without & wall) == 0;
}

static int raise_walls(const struct cellos_guard_options *options)
{
	int status = 0;

	if (is_wanted(options, CELLOS_GUARD_MOUNTS))
		status = guard_own_mounts(options);
	if (status == 0 && is_wanted(options, CELLOS_GUARD_CAPABILITIES))
		status = guard_drop_capabilities(options);
	if (status == 0 && is_wanted(options, CELLOS_GUARD_SECCOMP))
		status = guard_filter_calls(options);
	return status;
}

/* The three, and nothing else but the pipe that closes by itself. */
static int take_descriptors(struct start *start)
{
	int high[3], told = fcntl(start->told, F_DUPFD_CLOEXEC, 10);

	/* All out of the way first: a caller without standard descriptors may have got 0 to 2. */
	if (told < 0)
		return -errno;
	start->told = told;
	for (int i = 0; i < 3; i++) {
		high[i] = fcntl(start->stdio[i], F_DUPFD_CLOEXEC, 10);
		if (high[i] < 0)
			return -errno;
	}
	for (int i = 0; i < 3; i++)
		if (dup2(high[i], i) < 0)
			return -errno;
	if (dup3(told, 3, O_CLOEXEC) < 0)
		return -errno;
	start->told = 3;
	return syscall(SYS_close_range, 4u, ~0u, 0u) < 0 ? -errno : 0;
}

static void own_session(void)
{
	(void)setsid();
	if (isatty(0))
		(void)ioctl(0, TIOCSCTTY, 0);
}

static int run_command(const struct start *start)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	for (int signal_number = 1; signal_number < NSIG; signal_number++)
		(void)signal(signal_number, SIG_DFL);
	execvp(start->argv[0], start->argv);
	return -errno;
}

/* Shorter than PIPE_BUF: whole or not at all. */
static void tell(const struct start *start, int status, bool said)
{
	const struct failure failure = {.status = status, .said = said};

	(void)!write(start->told, &failure, sizeof(failure));
}

static int exit_code(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Until the command ends. All signals are blocked, so none is lost and none ends us. */
static int reap(pid_t command)
{
	sigset_t all;
	int signal_number, status;
	pid_t pid;

	sigfillset(&all);
	for (;;) {
		while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
			if (pid == command)
				return exit_code(status);
		if (sigwait(&all, &signal_number) == 0 && signal_number != SIGCHLD)
			(void)kill(command, signal_number);
	}
}

static pid_t fork_beyond(pid_t first)
{
	pid_t pid;

	while ((pid = fork()) >= 0 && pid < first) {
		if (pid == 0 && getpid() >= first)
			return 0;
		if (pid == 0)
			_exit(0);
		(void)waitpid(pid, NULL, 0);
	}
	return pid;
}

static int be_reaper(struct start *start)
{
	pid_t command;

	/* By /proc/1/exe, mem or environ the workload would hold the guard's own file, in init's
	   root, and what init told it. Without its dump nobody but who may trace all reaches them.
	   The exec gives the command its own back. */
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		return -errno;
	(void)setsid();
	command = fork_beyond(FIRST_FREE_PID);
	if (command < 0)
		return -errno;
	if (command == 0) {
		/* Not in ours: what the terminal sends to its group would come from us again. */
		own_session();
		return run_command(start);
	}
	/* The command's pipe must close when it runs, and its ends are not ours to hold. */
	(void)syscall(SYS_close_range, 0u, ~0u, 0u);
	_exit(reap(command));
}

static void be_child(struct start *start)
{
	sigset_t all;
	bool said;
	int status;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	/* Ignored by whoever started us, it would never come, and the dead would leave nothing. */
	(void)signal(SIGCHLD, SIG_DFL);
	/* Without whoever started it nobody watches it. */
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
	status = raise_walls(start->options);
	said = status < 0;
	if (status == 0 && is_wanted(start->options, CELLOS_GUARD_DESCRIPTORS))
		status = take_descriptors(start);
	if (status == 0 && is_wanted(start->options, CELLOS_GUARD_NAMESPACES) &&
	    start->options->layout == CELLOS_GUARD_HIDDEN) {
		status = be_reaper(start);
	} else if (status == 0) {
		own_session();
		status = run_command(start);
	}
	tell(start, status, said);
	_exit(125);
}

/* ---- in the parent -------------------------------------------------------------------------- */

static pid_t clone_child(const struct cellos_guard_options *options, int cgroup)
{
	const bool apart = is_wanted(options, CELLOS_GUARD_NAMESPACES);
	const bool hidden = apart && options->layout == CELLOS_GUARD_HIDDEN;
	struct clone_args arguments = {
		/* A mount namespace in any case: the third wall must not change the caller's. */
		.flags = CLONE_NEWNS | (apart ? CLONE_NEWIPC : 0) | (hidden ? CLONE_NEWPID : 0) |
			 (cgroup != GUARD_NO_CGROUP ? CLONE_INTO_CGROUP : 0),
		.exit_signal = SIGCHLD,
		.cgroup = (uint64_t)cgroup,
	};

	return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

/* Whoever stands between init and workload is not the workload's to name either. */
static void protect_caller(struct cellos_guard_options *options)
{
	if (options->protect_up_to < (uint32_t)getpid())
		options->protect_up_to = (uint32_t)getpid();
}

/* The kernel has no such namespaces, or gives none: what of them the filter can stand for, it does.
   False: they are needed, or were not asked for the last time. */
static bool go_on_without_namespaces(struct cellos_guard_options *options, int error)
{
	const bool have_none = error == -EINVAL || error == -ENOSPC || error == -EPERM;

	if (!options->best_effort || !have_none || !is_wanted(options, CELLOS_GUARD_NAMESPACES))
		return false;
	(void)guard_missing(options, error, "cannot start in namespaces of its own: %s",
			    strerror(-error));
	options->without |= CELLOS_GUARD_NAMESPACES;
	options->layout = CELLOS_GUARD_SHARED;
	protect_caller(options);
	return true;
}

/* 0 when the child runs the command. */
static int listen_to_child(const struct start *start, int told)
{
	struct failure failure;
	ssize_t got;

	do
		got = read(told, &failure, sizeof(failure));
	while (got < 0 && errno == EINTR);
	if (got == 0)
		return 0;
	if (got != sizeof(failure) || failure.status >= 0)
		failure = (struct failure){.status = -EIO};
	if (!failure.said)
		(void)guard_missing(start->options, failure.status, "cannot run %s: %s",
				    start->argv[0], strerror(-failure.status));
	return failure.status;
}

static int check_root(const struct cellos_guard_options *options)
{
	if (options->root != NULL || !is_wanted(options, CELLOS_GUARD_MOUNTS))
		return 0;
	return guard_missing(options, -EINVAL,
			     "cannot keep the workload off init's root: no root of its own");
}

/* A value of a later header, or none at all: half of the walls would not know what it means. */
static int check_choices(const struct cellos_guard_options *options)
{
	const bool layout = (unsigned)options->layout <= CELLOS_GUARD_SHARED;

	if (layout && (unsigned)options->profile <= CELLOS_GUARD_COMPAT)
		return 0;
	(void)guard_missing(options, -EINVAL, "cannot use an unknown %s",
			    layout ? "profile" : "layout");
	return -EINVAL;
}

static int start_child(struct start *start, int cgroup, pid_t *pid)
{
	int told[2], status;

	if (pipe2(told, O_CLOEXEC) < 0)
		return -errno;
	start->told = told[1];
	do
		*pid = clone_child(start->options, cgroup);
	while (*pid < 0 && go_on_without_namespaces(start->options, -errno));
	if (*pid == 0) {
		close(told[0]);
		be_child(start);
	}
	status = *pid < 0 ? -errno : 0;
	close(told[1]);
	if (status == 0)
		status = listen_to_child(start, told[0]);
	else
		(void)guard_missing(start->options, status,
				    "cannot start in namespaces and a cgroup of its own: %s",
				    strerror(-status));
	close(told[0]);
	while (status < 0 && *pid > 0 && waitpid(*pid, NULL, 0) < 0 && errno == EINTR)
		;
	return status;
}

int cellos_guard_spawn(const struct cellos_guard_options *wanted, char *const argv[],
		       const int stdio[3], pid_t *pid)
{
	struct cellos_guard_options own = *wanted;
	const struct cellos_guard_options *options = &own;
	struct start start = {.options = &own, .argv = argv, .stdio = stdio};
	int cgroup, status = check_choices(options);

	if (status == 0 && is_wanted(options, CELLOS_GUARD_HELPERS))
		status = cellos_guard_check(options);
	if (own.layout == CELLOS_GUARD_SHARED)
		protect_caller(&own);
	if (status == 0)
		status = check_root(options);
	if (status < 0)
		return status;
	cgroup = is_wanted(options, CELLOS_GUARD_CGROUP) ? guard_make_cgroup(options)
							 : GUARD_NO_CGROUP;
	if (cgroup < 0)
		return cgroup;
	status = start_child(&start, cgroup, pid);
	if (cgroup != GUARD_NO_CGROUP)
		close(cgroup);
	return status;
}
