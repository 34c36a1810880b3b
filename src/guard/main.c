/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-guard: start a command that cannot reach the agent.
 *
 * One thread. Exit: the command's own code; 128 + n when signal n ended it; 125 when it was not
 * started, with one line why; 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inside.h"
#include "relay.h"

#define PROGRAM "cellos-guard"
enum { EXIT_REFUSED = 125, EXIT_USAGE = 2 };

enum option_id {
	OPT_LAYOUT = 256,
	OPT_PROFILE,
	OPT_PROTECT,
	OPT_ROOT,
	OPT_CGROUP,
	OPT_CPU,
	OPT_MEMORY,
	OPT_PIDS,
	OPT_PREPARE,
	OPT_BEST_EFFORT,
	OPT_WITHOUT,
	OPT_PRINT,
	OPT_HELP,
	OPT_VERSION
};

static const struct option table[] = {
	{"layout", required_argument, NULL, OPT_LAYOUT},
	{"profile", required_argument, NULL, OPT_PROFILE},
	{"protect-pid", required_argument, NULL, OPT_PROTECT},
	{"root", required_argument, NULL, OPT_ROOT},
	{"cgroup", required_argument, NULL, OPT_CGROUP},
	{"cpu-percent", required_argument, NULL, OPT_CPU},
	{"memory", required_argument, NULL, OPT_MEMORY},
	{"pids", required_argument, NULL, OPT_PIDS},
	{"prepare", no_argument, NULL, OPT_PREPARE},
	{"best-effort", no_argument, NULL, OPT_BEST_EFFORT},
	{"without", required_argument, NULL, OPT_WITHOUT},
	{"print-profile", optional_argument, NULL, OPT_PRINT},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

static const char help[] =
	"usage: " PROGRAM " [options] -- COMMAND [ARGUMENT...]\n"
	"\n"
	"Starts COMMAND so that it cannot reach the telemetry agent, not even as root.\n"
	"\n"
	"  --layout hidden|shared    a PID namespace of its own (default), or the caller's\n"
	"  --profile strict|compat   refuse system calls that are not known (default), or let them "
	"pass\n"
	"  --protect-pid N           shared layout: numbers from 1 to N cannot be named (default "
	"2)\n"
	"  --root DIR                the workload's root; without it the caller's, with "
	"--best-effort only\n"
	"  --cgroup NAME             its cgroup, below the hierarchy's root (default workload)\n"
	"  --cpu-percent N           at most N % of one CPU\n"
	"  --memory BYTES            at most this much memory\n"
	"  --pids N                  at most N processes and threads\n"
	"  --prepare                 first close what the kernel starts as root, until the next "
	"boot\n"
	"  --best-effort             start also when something cannot be had, and say what\n"
	"  --without WALL            for tests: namespaces, capabilities, mounts, seccomp, "
	"cgroup,\n"
	"                            helpers or descriptors\n"
	"  --print-profile[=HOW]     print what is refused: text (default), json or oci\n"
	"  --help, --version\n";

struct command_line {
	struct cellos_guard_options guard;
	const char *no_profile; /* the name that was asked for and that no profile has; or NULL */
	bool prepare;
	bool print;
	enum guard_print how;
};

static void say(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, PROGRAM ": %s\n", line);
}

static int bad(const char *option, const char *value, const char *why)
{
	fprintf(stderr, PROGRAM ": cannot use --%s '%s': %s\n", option, value, why);
	return -EINVAL;
}

/* The place of `word` among `words`, which end in NULL; -1: not there. */
static int place(const char *word, const char *const words[])
{
	for (int i = 0; words[i] != NULL; i++)
		if (strcmp(word, words[i]) == 0)
			return i;
	return -1;
}

static int take_number(const char *option, uint64_t low, uint64_t high, uint64_t *number)
{
	const size_t digits = strspn(optarg, "0123456789");
	char why[80];

	*number = digits > 0 && digits < 19 && optarg[digits] == '\0' ? strtoull(optarg, NULL, 10)
								      : UINT64_MAX;
	if (*number >= low && *number <= high)
		return 0;
	snprintf(why, sizeof(why), "not a whole number from %" PRIu64 " to %" PRIu64, low, high);
	return bad(option, optarg, why);
}

static int take_word(struct command_line *line, int option)
{
	static const char *const layouts[] = {"hidden", "shared", NULL};
	static const char *const profiles[] = {"strict", "compat", NULL};
	static const char *const walls[] = {"namespaces", "capabilities", "mounts",      "seccomp",
					    "cgroup",     "helpers",      "descriptors", NULL};
	static const char *const prints[] = {"text", "json", "oci", NULL};
	int at;

	switch (option) {
	case OPT_LAYOUT:
		at = place(optarg, layouts);
		line->guard.layout = at > 0 ? CELLOS_GUARD_SHARED : CELLOS_GUARD_HIDDEN;
		return at >= 0 ? 0 : bad("layout", optarg, "hidden or shared");
	case OPT_PROFILE:
		at = place(optarg, profiles);
		line->guard.profile = at > 0 ? CELLOS_GUARD_COMPAT : CELLOS_GUARD_STRICT;
		line->no_profile = at < 0 ? optarg : NULL; /* --best-effort may come later */
		return 0;
	case OPT_WITHOUT:
		at = place(optarg, walls);
		line->guard.without |= at >= 0 ? 1u << at : 0;
		return at >= 0 ? 0
			       : bad("without", optarg,
				     "namespaces, capabilities, mounts, seccomp, cgroup, helpers "
				     "or "
				     "descriptors");
	default:
		at = optarg == NULL ? 0 : place(optarg, prints);
		line->print = true;
		line->how = (enum guard_print)at;
		return at >= 0 ? 0 : bad("print-profile", optarg, "text, json or oci");
	}
}

static int take(struct command_line *line, int option)
{
	uint64_t number;
	int status;

	switch (option) {
	case OPT_PROTECT:
		status = take_number("protect-pid", 2, 4194304, &number);
		line->guard.protect_up_to = (uint32_t)number;
		return status;
	case OPT_CPU:
		status = take_number("cpu-percent", 1, 100000, &number);
		line->guard.cpu_percent = (uint32_t)number;
		return status;
	case OPT_MEMORY:
		return take_number("memory", 1048576, INT64_MAX, &line->guard.memory_bytes);
	case OPT_PIDS:
		status = take_number("pids", 3, 4194304, &number);
		line->guard.pids = (uint32_t)number;
		return status;
	case OPT_ROOT:
		line->guard.root = optarg;
		return optarg[0] == '/' ? 0 : bad("root", optarg, "not an absolute path");
	case OPT_CGROUP:
		line->guard.cgroup = optarg;
		return optarg[0] != '\0' && strchr(optarg, '/') == NULL && optarg[0] != '.'
			       ? 0
			       : bad("cgroup", optarg, "not a name");
	case OPT_PREPARE:
		line->prepare = true;
		return 0;
	case OPT_BEST_EFFORT:
		line->guard.best_effort = true;
		return 0;
	default:
		return take_word(line, option);
	}
}

static int parse(struct command_line *line, int argc, char **argv)
{
	int option, status = 0;

	while (status == 0 && (option = getopt_long(argc, argv, "+", table, NULL)) != -1) {
		if (option == '?')
			return -EINVAL;
		if (option == OPT_HELP || option == OPT_VERSION) {
			fputs(option == OPT_HELP ? help : PROGRAM " " CELLOS_VERSION "\n", stdout);
			exit(fflush(stdout) == EOF ? EXIT_FAILURE : EXIT_SUCCESS);
		}
		status = take(line, option);
	}
	return status;
}

/* What we open must not become a standard descriptor of ours because the caller has closed it. */
static bool fill_standard(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

static int run(const struct command_line *line, char **argv)
{
	const bool apart = (line->guard.without & CELLOS_GUARD_DESCRIPTORS) == 0;
	struct guard_stdio stdio = GUARD_STDIO_SHARED;
	sigset_t ours, before;
	int status = 0;
	pid_t pid;

	sigemptyset(&ours);
	for (size_t i = 0; i < 8; i++)
		sigaddset(&ours, (const int[]){SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2,
					       SIGCHLD, SIGWINCH}[i]);
	sigprocmask(SIG_BLOCK, &ours, &before);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* who started us may ignore it, and then there is no exit code */
	if (apart)
		status = guard_stdio_open(&stdio);
	if (status < 0)
		say(NULL, "cannot make standard descriptors");
	else
		status = cellos_guard_spawn(&line->guard, argv, stdio.child, &pid);
	if (status < 0)
		return EXIT_REFUSED;
	if (apart)
		guard_stdio_started(&stdio);
	status = guard_stdio_relay(&stdio, pid);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int main(int argc, char **argv)
{
	struct command_line line = {.guard = {.say = say}};

	if (!fill_standard())
		return EXIT_REFUSED;
	if (parse(&line, argc, argv) < 0)
		return EXIT_USAGE;
	if (line.no_profile != NULL &&
	    guard_missing(&line.guard, -EINVAL, "cannot use profile '%s': not strict or compat",
			  line.no_profile) < 0)
		return EXIT_REFUSED;
	if (line.print)
		return guard_print_profile(&line.guard, line.how, stdout) < 0 ? EXIT_FAILURE
									      : EXIT_SUCCESS;
	if (line.prepare && cellos_guard_prepare(&line.guard) < 0)
		return EXIT_REFUSED;
	if (optind == argc) {
		if (line.prepare)
			return EXIT_SUCCESS;
		fprintf(stderr, PROGRAM ": cannot start: no command (see --help)\n");
		return EXIT_USAGE;
	}
	return run(&line, argv + optind);
}
