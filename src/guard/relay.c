/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * See relay.h. One thread; everything waits in one poll, and nothing is read before there is room
 * for it. So what a slow reader of ours, or the workload, does not take holds up the writes of the
 * other, as a pipe does, and nothing else: no other stream, and no signal.
 */
#include "relay.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* POLLOUT on a tty promises room for this much (WAKEUP_CHARS in the kernel's n_tty.c), on a pipe
   for PIPE_BUF: then a write does not wait. */
#define TTY_PIECE 256

static struct termios terminal_before;

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void set_terminal_back(void)
{
	(void)tcsetattr(0, TCSADRAIN, &terminal_before);
}

static void copy_size(int master)
{
	struct winsize size;

	if (ioctl(0, TIOCGWINSZ, &size) == 0)
		(void)ioctl(master, TIOCSWINSZ, &size);
}

/* Ours becomes raw: the workload's terminal does what a terminal does. */
static int open_tty(struct guard_stdio *stdio)
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave = -1;
	struct termios raw;
	char name[64];

	if (master < 0)
		return -errno;
	if (grantpt(master) == 0 && unlockpt(master) == 0 &&
	    ptsname_r(master, name, sizeof(name)) == 0)
		slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
	if (slave < 0 || tcgetattr(0, &terminal_before) < 0) {
		int error = -errno;

		close_fd(&slave);
		close(master);
		return error;
	}
	(void)tcsetattr(slave, TCSANOW, &terminal_before);
	copy_size(master);
	raw = terminal_before;
	cfmakeraw(&raw);
	(void)tcsetattr(0, TCSADRAIN, &raw);
	(void)atexit(set_terminal_back);
	stdio->is_tty = 1;
	stdio->child[0] = slave;
	stdio->child[1] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
	stdio->child[2] = fcntl(slave, F_DUPFD_CLOEXEC, 3);
	stdio->to_child = master;
	stdio->output[0] = fcntl(master, F_DUPFD_CLOEXEC, 3);
	return 0;
}

static int open_pipes(struct guard_stdio *stdio)
{
	for (int i = 0; i < 3; i++) {
		int ends[2];

		if (pipe2(ends, O_CLOEXEC) < 0)
			return -errno;
		if (i == 0) {
			stdio->child[0] = ends[0];
			stdio->to_child = ends[1];
		} else {
			stdio->child[i] = ends[1];
			stdio->output[i - 1] = ends[0];
		}
	}
	return 0;
}

int guard_stdio_open(struct guard_stdio *stdio)
{
	*stdio = (struct guard_stdio){.child = {-1, -1, -1}, .to_child = -1, .output = {-1, -1}};
	return isatty(0) && isatty(1) ? open_tty(stdio) : open_pipes(stdio);
}

void guard_stdio_started(struct guard_stdio *stdio)
{
	for (int i = 0; i < 3; i++)
		close_fd(&stdio->child[i]);
}

/* ---- copying -------------------------------------------------------------------------------- */

/* One read and all of it written. False at the end, or when nobody takes it. */
static bool copy_once(int from, int to)
{
	char buffer[PIPE_BUF];
	ssize_t got = read(from, buffer, isatty(to) ? TTY_PIECE : sizeof(buffer)), done = 0;

	if (got < 0)
		return errno == EINTR || errno == EAGAIN;
	while (done < got) {
		ssize_t written = write(to, buffer + done, (size_t)(got - done));

		if (written < 0 && errno == EAGAIN) {
			(void)poll(&(struct pollfd){.fd = to, .events = POLLOUT}, 1, -1);
			continue;
		}
		if (written < 0 && errno != EINTR)
			return false;
		done += written > 0 ? written : 0;
	}
	return got > 0;
}

/* Until there is room, and then until there is something. */
static struct pollfd wait_for(int from, int to)
{
	struct pollfd room = {.fd = from < 0 ? -1 : to, .events = POLLOUT};

	if (poll(&room, 1, 0) == 0)
		return room;
	return (struct pollfd){.fd = from, .events = POLLIN};
}

static bool is_due(const struct pollfd *flow)
{
	return flow->events == POLLIN && flow->revents != 0;
}

static void take_signal(const struct guard_stdio *stdio, int signals, pid_t pid)
{
	struct signalfd_siginfo info;

	if (read(signals, &info, sizeof(info)) != sizeof(info))
		return;
	if (info.ssi_signo == SIGWINCH && stdio->is_tty)
		copy_size(stdio->to_child);
	else if (info.ssi_signo != SIGCHLD && info.ssi_signo != SIGWINCH)
		(void)kill(pid, (int)info.ssi_signo);
}

/* What it wrote before it ended. */
static void empty(struct guard_stdio *stdio)
{
	for (int i = 0; i < 2; i++) {
		struct pollfd look = {.fd = stdio->output[i], .events = POLLIN};

		while (stdio->output[i] >= 0 && poll(&look, 1, 0) > 0 &&
		       (look.revents & POLLIN) != 0 && copy_once(stdio->output[i], 1 + i))
			;
		close_fd(&stdio->output[i]);
	}
	close_fd(&stdio->to_child);
}

/* The two outputs and the input, as poll found them. */
static void copy_ready(struct guard_stdio *stdio, const struct pollfd polls[3], int *input)
{
	for (int i = 0; i < 2; i++)
		if (is_due(&polls[i]) && !copy_once(stdio->output[i], 1 + i))
			close_fd(&stdio->output[i]);
	if (is_due(&polls[2]) && !copy_once(*input, stdio->to_child)) {
		*input = -1;
		if (!stdio->is_tty)
			close_fd(&stdio->to_child);
	}
}

int guard_stdio_relay(struct guard_stdio *stdio, pid_t pid)
{
	int signals, input = 0;
	int status = 0x7d00; /* 125, should nobody tell how it ended */
	sigset_t ours;

	sigprocmask(SIG_SETMASK, NULL, &ours);
	signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	while (waitpid(pid, &status, WNOHANG) == 0) {
		struct pollfd polls[] = {
			wait_for(stdio->output[0], 1),
			wait_for(stdio->output[1], 2),
			wait_for(stdio->to_child >= 0 ? input : -1, stdio->to_child),
			{.fd = signals, .events = POLLIN},
		};

		if (poll(polls, 4, -1) < 0)
			continue;
		if (polls[3].revents != 0)
			take_signal(stdio, signals, pid);
		copy_ready(stdio, polls, &input);
	}
	empty(stdio);
	close(signals);
	return status;
}
