/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What must still work: a wall that stops everything would pass every other row. Threads where
 * threads are what is tried.
 */
#include "attack.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* A child that waits for its end. */
static pid_t start_child(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		pause();
		_exit(0);
	}
	return pid;
}

static int end_child(pid_t pid, int result)
{
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return result;
}

static int do_trace_child(void)
{
	pid_t pid = start_child();
	int status, result = outcome(ptrace(PTRACE_ATTACH, pid, NULL, NULL));

	if (result == WORKED && (waitpid(pid, &status, 0) != pid || !WIFSTOPPED(status)))
		result = ECHILD;
	if (result == WORKED)
		result = outcome(ptrace(PTRACE_DETACH, pid, NULL, NULL));
	return end_child(pid, result);
}

static int do_kill_child(void)
{
	pid_t pid = start_child();
	int status;

	if (kill(pid, SIGUSR1) < 0)
		return end_child(pid, errno);
	if (waitpid(pid, &status, 0) != pid)
		return errno;
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGUSR1 ? WORKED : EPROTO;
}

static int do_read_child(void)
{
	static char byte = 7;
	char copy = 0;
	pid_t pid = start_child();
	struct iovec here = {&copy, 1}, there = {&byte, 1};
	int result = outcome(process_vm_readv(pid, &here, 1, &there, 1, 0));

	return end_child(pid, result == WORKED && copy != byte ? EPROTO : result);
}

static int do_nice_child(void)
{
	pid_t pid = start_child();

	return end_child(pid, outcome(setpriority(PRIO_PROCESS, (id_t)pid, 5)));
}

static int do_limit_child(void)
{
	const struct rlimit few = {64, 64};
	pid_t pid = start_child();

	return end_child(pid, outcome(prlimit(pid, RLIMIT_NOFILE, &few, NULL)));
}

static void *thread_of(void *argument)
{
	return argument;
}

static int do_thread(void)
{
	static char mark;
	pthread_t thread;
	void *result = NULL;
	int error = pthread_create(&thread, NULL, thread_of, &mark);

	if (error == 0)
		error = pthread_join(thread, &result);
	return error != 0 ? error : result == &mark ? WORKED : EPROTO;
}

static int do_tcp(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 1) < 0 ||
	    getsockname(listener, (struct sockaddr *)&address, &length) < 0)
		return errno;
	return outcome(connect(fd, (struct sockaddr *)&address, length));
}

static int do_own_file(void)
{
	int fd = open("/tmp/own", O_RDWR | O_CREAT | O_CLOEXEC, 0600), result;

	if (fd < 0)
		return errno;
	result = outcome(fchown(fd, 1000, 1000));
	close(fd);
	(void)unlink("/tmp/own");
	return result;
}

static int do_other_user(void)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(setgid(1000) < 0 || setuid(1000) < 0 ? errno : 0);
	return waitpid(pid, &status, 0) == pid && WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
}

static int do_devices(void)
{
	char byte;
	int fd = open("/dev/urandom", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || read(fd, &byte, 1) != 1)
		return errno;
	close(fd);
	return attack_open("/dev/null", O_RDWR);
}

static int do_pty(void)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
	char name[64];

	if (master < 0 || unlockpt(master) < 0 || ptsname_r(master, name, sizeof(name)) != 0)
		return errno;
	return attack_open(name, O_RDWR);
}

static int do_own_proc(void)
{
	return attack_open("/proc/self/maps", O_RDONLY);
}

const struct attack attacks_ordinary[] = {
	{"trace-child", "allowed", "allowed", do_trace_child, "trace one's own child"},
	{"kill-child", "allowed", "allowed", do_kill_child, "end one's own child"},
	{"read-child", "allowed", "allowed", do_read_child, "read one's own child's memory"},
	{"nice-child", "allowed", "allowed", do_nice_child, "one's own child's priority"},
	{"limit-child", "allowed", "allowed", do_limit_child, "one's own child's limits"},
	{"thread", "allowed", "allowed", do_thread, "threads"},
	{"tcp", "allowed", "allowed", do_tcp, "TCP"},
	{"chown", "allowed", "allowed", do_own_file, "chown"},
	{"setuid", "allowed", "allowed", do_other_user, "become another user"},
	{"devices", "allowed", "allowed", do_devices, "/dev/null and /dev/urandom"},
	{"pty", "allowed", "allowed", do_pty, "a pty"},
	{"own-proc", "allowed", "allowed", do_own_proc, "/proc/self"},
	{0},
};
