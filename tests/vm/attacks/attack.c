/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The attacks' main program; see attack.h. One thread.
 *
 *     attack --list                 name, walls, words and group of each, separated by tabs
 *     attack NAME                   one of them
 *     attack --all FOLDER LIST      those that the file LIST names, one process each, after each a
 *                                   question to the watcher through FOLDER/ask and FOLDER/answer
 *
 * Lines: TRY NAME, then RESULT NAME worked|refused|absent|sent|ended [ERRNO|SIGNAL].
 */
#include "attack.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_SECONDS 60
/* What an attack's process ends with: an errno, or one of these. */
#define CODE_FATAL 252
#define CODE_ABSENT 253
#define CODE_SENT 254

pid_t agent, agent_thread;

static const struct {
	const struct attack *attacks;
	const char *title; /* the README's word for it */
} groups[] = {
	{attacks_ordinary, "ordinary programs, which must work"},
	{attacks_calls, "system calls that reach beyond their caller"},
	{attacks_channel, "frames in the agent's name, probes turned off"},
	{attacks_kernel, "helpers, /sys, sysctls, devices, cgroups, files"},
	{attacks_load, "starving and flooding"},
	{attacks_processes, "processes by their numbers, and /proc"},
	{attacks_signals, "signals"},
};

static const struct attack *find(const char *name)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		for (const struct attack *at = groups[i].attacks; at->name != NULL; at++)
			if (strcmp(at->name, name) == 0)
				return at;
	return NULL;
}

/* ---- what attacks share --------------------------------------------------------------------- */

int attack_write(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), result;

	if (fd < 0)
		return errno;
	result = outcome(write(fd, text, strlen(text)));
	close(fd);
	return result;
}

int attack_open(const char *path, int flags)
{
	int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd >= 0)
		close(fd);
	return outcome(fd);
}

int attack_child(int (*code)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(code());
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return errno;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The mark lies in the workload's tree, which init's root has at /mnt. */
static int planted(void)
{
	int fd = open("/mnt/planted", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	return fd < 0;
}

int attack_was_planted(void)
{
	const char *const marks[] = {"/planted", "/mnt/planted"};
	/* Nothing tells when the kernel does not run a program. */
	for (int i = 0; i < 300; i++) {
		for (int j = 0; j < 2; j++)
			if (unlink(marks[j]) == 0)
				return WORKED;
		nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
	}
	return SENT;
}

int attack_plant(const char *path)
{
	static char buffer[65536];
	int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC), to, result = WORKED;
	ssize_t got;

	(void)mkdir("/sbin", 0755);
	to = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
	if (from < 0 || to < 0)
		result = errno;
	while (result == WORKED && (got = read(from, buffer, sizeof(buffer))) > 0)
		if (write(to, buffer, (size_t)got) != got)
			result = EIO;
	close(from);
	close(to);
	return result;
}

/* ---- one ------------------------------------------------------------------------------------ */

static int run_one(const char *name)
{
	const struct attack *attack = find(name);
	const char *numbers = getenv("AGENT");
	int result;

	if (attack == NULL) {
		fprintf(stderr, "attack: cannot run %s: no such attack\n", name);
		return CODE_ABSENT;
	}
	if (numbers != NULL)
		(void)sscanf(numbers, "%d %d", &agent, &agent_thread);
	result = attack->run();
	return result == ABSENT  ? CODE_ABSENT
	       : result == SENT  ? CODE_SENT
	       : result == FATAL ? CODE_FATAL
				 : result;
}

static int list(void)
{
	for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++)
		for (const struct attack *at = groups[i].attacks; at->name != NULL; at++)
			printf("%s\t%s\t%s\t%s\t%s\n", at->name, at->hidden, at->shared, at->what,
			       groups[i].title);
	return fflush(stdout) == EOF;
}

/* ---- all ------------------------------------------------------------------------------------ */

static void tell(const char *word, const char *name, const char *verdict, const char *why)
{
	char line[160];
	int length = snprintf(line, sizeof(line), "%s %s%s%s%s%s\n", word, name,
			      *verdict != '\0' ? " " : "", verdict, *why != '\0' ? " " : "", why);

	(void)!write(1, line, (size_t)length); /* whole: others write here, too */
}

static void tell_result(const char *name, int status)
{
	const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
	char number[16];

	if (WIFSIGNALED(status)) {
		snprintf(number, sizeof(number), "SIG%s", sigabbrev_np(WTERMSIG(status)));
		tell("RESULT", name, "ended", number);
	} else if (code == WORKED || code >= CODE_FATAL) {
		tell("RESULT", name,
		     code == WORKED        ? "worked"
		     : code == CODE_ABSENT ? "absent"
					   : "sent",
		     "");
	} else {
		const char *why = strerrorname_np(code);

		snprintf(number, sizeof(number), "%d", code);
		tell("RESULT", name, "refused", why != NULL ? why : number);
	}
}

static int try_one(const char *name)
{
	pid_t pid;
	int status = 0;

	tell("TRY", name, "", "");
	pid = fork();
	if (pid == 0) {
		alarm(PATIENCE_SECONDS);
		execl("/proc/self/exe", "attack", name, (char *)NULL);
		_exit(CODE_ABSENT);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		tell("RESULT", name, "absent", strerrorname_np(errno));
	else
		tell_result(name, status);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
	if (!WIFEXITED(status))
		return WORKED;
	return WEXITSTATUS(status) == CODE_SENT    ? SENT
	       : WEXITSTATUS(status) == CODE_FATAL ? FATAL
						   : WORKED;
}

/* Whether the agent still sends is the watcher's to say; its numbers are for the next attack. */
static int ask(int question, int answer, const char *name, int result)
{
	char line[80];
	int length = snprintf(line, sizeof(line), "%s%s\n", name,
			      result == FATAL  ? "!!"
			      : result == SENT ? "!"
					       : "");
	ssize_t got;

	if (write(question, line, (size_t)length) != length)
		return -1;
	got = read(answer, line, sizeof(line) - 1);
	if (got <= 0)
		return -1;
	line[got] = '\0';
	line[strcspn(line, "\n")] = '\0';
	(void)sscanf(line, "%d %d", &agent, &agent_thread);
	return setenv("AGENT", line, 1);
}

/* So that no number of the agent's is one of ours by accident where it has none. */
static void use_up_numbers(void)
{
	for (pid_t pid = 0; pid >= 0 && pid <= agent_thread + 8;) {
		pid = fork();
		if (pid == 0)
			_exit(0);
		(void)waitpid(pid, NULL, 0);
	}
}

static int open_fifo(const char *folder, const char *name, int flags)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	return open(path, flags | O_CLOEXEC);
}

static int run_all(const char *folder, const char *list_path)
{
	/* Without a wall the workload sees init's root, where its own tree lies under /mnt. */
	const char *const place = access("/mnt/watch/ask", F_OK) == 0 ? "/mnt/watch" : folder;
	int question = open_fifo(place, "ask", O_WRONLY);
	int answer = open_fifo(place, "answer", O_RDONLY);
	FILE *names = fopen(list_path, "re");
	char name[64];

	signal(SIGTERM, SIG_IGN); /* one attack sends it to everybody */
	if (question < 0 || answer < 0 || names == NULL ||
	    ask(question, answer, "nothing", WORKED) < 0) {
		fprintf(stderr, "attack: cannot start: %s\n", strerror(errno));
		return 1;
	}
	use_up_numbers();
	while (fgets(name, sizeof(name), names) != NULL) {
		name[strcspn(name, "\n")] = '\0';
		if (ask(question, answer, name, try_one(name)) < 0)
			return 1;
	}
	tell("ATTACKS", "done", "", "");
	return 0;
}

/* As whom did the kernel start us? Its helpers have names and words of their own. */
static int is_planted(int argc, char **argv)
{
	const char *name = strrchr(argv[0], '/');

	name = name == NULL ? argv[0] : name + 1;
	return getenv("DEVPATH") != NULL || strcmp(name, "hotplug") == 0 ||
	       strcmp(name, "request-key") == 0 || strcmp(name, "modprobe") == 0 ||
	       (argc > 1 && (strcmp(argv[1], "-q") == 0 || strcmp(argv[1], "planted") == 0 ||
			     argv[1][0] == '/'));
}

int main(int argc, char **argv)
{
	if (argc < 1)
		return 2;
	if (is_planted(argc, argv))
		return planted();
	if (argc == 2 && strcmp(argv[1], "--list") == 0)
		return list();
	if (argc == 4 && strcmp(argv[1], "--all") == 0)
		return run_all(argv[2], argv[3]);
	if (argc == 2)
		return run_one(argv[1]);
	fprintf(stderr, "usage: attack --list | --all FOLDER LIST | NAME\n");
	return 2;
}
