/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-telemetry: the agent's life, a list of verbs.
 *
 * Threads: main collects signals and starts and stops the others; one sender; one per probe. Every
 * signal is blocked before the first thread starts, so none is ever handled asynchronously.
 * Invariants: the sender starts before the probes, so that the host hears of us first; it stops
 * after them, so that nothing is submitted behind its back. All memory is taken before --ready-fd
 * speaks. Refuses: to end because of the host. Only a signal, or an fd: channel without a reader,
 * ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cage.h"
#include "fds.h"
#include "options.h"
#include "report.h"
#include "sender.h"
#include "threads.h"

enum { EXIT_DONE = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

#define MAX_PROBES 8

struct agent {
	/* Its descriptors are ours, and above 2, once keep_descriptors has been there. */
	struct agent_options options;
	struct cellos_queue *queue; /* owned */
	struct sender *sender;      /* owned */
	struct running_probe probes[MAX_PROBES];
	size_t probe_count; /* the first so many are chosen, */
	size_t armed;       /* arm was called for, and disarm is due to, */
	size_t started;     /* have a thread */
	int stop_fd;        /* owned: readable once the probes shall end, by us or the sender */
	int signal_fd;      /* owned */
	int parent_fd;      /* owned until ready: --fork's pipe; -1 */
};

/* ---- diagnostics ---------------------------------------------------------------------------- */

/* Where lines for a person go: standard error until ready, then a description of our own or none.
 */
static _Atomic int diagnostics_fd = 2;
static _Atomic unsigned diagnostics_lost;

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
	int fd = atomic_load_explicit(&diagnostics_fd, memory_order_relaxed);
	char text[AGENT_MESSAGE_BYTES], more[40] = "", line[sizeof(text) + sizeof(more) + 20];
	va_list arguments;
	unsigned lost;
	int length;

	if (fd < 0)
		return;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	lost = atomic_exchange_explicit(&diagnostics_lost, 0, memory_order_relaxed);
	if (lost > 0)
		snprintf(more, sizeof(more), " (%u lines before it lost)", lost);
	length = snprintf(line, sizeof(line), "cellos-telemetry: %s%s\n", text, more);
	/* Never waits: a reader of diagnostics must not be able to hold us up. */
	if (fd_offer(fd, line, (size_t)length, 0) < 0)
		atomic_fetch_add_explicit(&diagnostics_lost, lost + 1, memory_order_relaxed);
}

static void say_for_cage(const char *step, int error)
{
	tell("cannot %s: %s", step, strerror(error));
}

static void say_for_sender(void *context, bool only_verbose, const char *line)
{
	const struct agent *agent = context;

	if (!only_verbose || agent->options.verbose)
		tell("%s", line);
}

/* What to exit with when `what` ended in `error` (-errno; not negative: it went well). */
static int outcome(const char *what, int error)
{
	if (error >= 0)
		return EXIT_DONE;
	tell("cannot %s: %s", what, strerror(-error));
	return EXIT_RUNTIME;
}

/* ---- cage ----------------------------------------------------------------------------------- */

/* Of every thread; set before the first one starts. */
static bool caged;

/* A thread that keeps more than it needs still sees: said, and left so. */
static void lay_down(uint64_t kept)
{
	int result = caged ? cage_lay_down(kept) : 0;

	if (result < 0)
		say_for_cage("lay capabilities down", -result);
}

static void lay_all_down(void)
{
	lay_down(0);
}

/* A socket in the file system may be another user's, and is connected to again and again. */
static void lay_down_but_paths(void)
{
	lay_down(UINT64_C(1) << CAP_DAC_OVERRIDE);
}

static int seclude(struct agent *agent)
{
	caged = !agent->options.no_sandbox;
	if (caged)
		cage_seclude(say_for_cage);
	return EXIT_DONE;
}

static void close_cage(const struct agent *agent)
{
	int result = caged ? cage_close(agent->options.log_sandbox) : 0;

	if (result < 0)
		say_for_cage("filter system calls", -result);
}

/* ---- probes --------------------------------------------------------------------------------- */

static void *probe_body(void *argument)
{
	struct running_probe *p = argument;
	char name[16];

	lay_down(p->status.needs);

	snprintf(name, sizeof(name), "probe-%s", p->probe->name);
	prctl(PR_SET_NAME, name);
	p->probe->run(p->state, &p->env);
	return NULL;
}

static void choose_probes(struct agent *agent)
{
	for (size_t i = 0; i < cellos_probe_count && agent->probe_count < MAX_PROBES; i++)
		if (agent->options.probe_mask & UINT32_C(1) << i)
			agent->probes[agent->probe_count++].probe = cellos_probes[i];
}

static int arm_probe(struct agent *agent, struct running_probe *p)
{
	p->env.options = &agent->options.probe;
	p->env.lane = cellos_queue_lane(agent->queue, p->probe->lane);
	p->env.stop_fd = agent->stop_fd;
	p->env.agent_pid = (uint32_t)getpid();
	p->status.surface = "none";
	p->state_bytes = p->probe->state_bytes(&agent->options.probe);
	if (p->state_bytes > 0)
		p->state = mmap(NULL, p->state_bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p->state == MAP_FAILED)
		return -errno;
	p->probe->arm(p->state, &p->env, &p->status);
	agent->armed++;
	return 0;
}

/* All probes armed, or known not to be. EXIT_DONE, or what to exit with. */
static int arm_probes(struct agent *agent)
{
	while (agent->armed < agent->probe_count) {
		struct running_probe *p = &agent->probes[agent->armed];
		int result = arm_probe(agent, p);

		if (result < 0)
			return outcome("take memory for a probe", result);
		if (p->status.failed)
			tell("cannot arm probe %s: %s", p->probe->name, p->status.why);
		else if (agent->options.verbose)
			tell("probe %s: %s, surface %s%s%s", p->probe->name,
			     p->status.armed ? "armed" : "not armed", p->status.surface,
			     p->status.why[0] != '\0' ? ": " : "", p->status.why);
		else if (p->status.fell_back)
			tell("cannot take the best surface for probe %s, but %s: %s",
			     p->probe->name, p->status.surface, p->status.why);
		if (p->status.failed && agent->options.fail_on_probe)
			return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

static int start_probes(struct agent *agent)
{
	int result = 0;

	while (result == 0 && agent->started < agent->armed) {
		struct running_probe *p = &agent->probes[agent->started];

		result = thread_start(&p->thread, probe_body, p);
		if (result == 0)
			agent->started++;
	}
	return outcome("start a probe's thread", result);
}

static void stop_probes(struct agent *agent)
{
	(void)eventfd_write(agent->stop_fd, 1);
	for (size_t i = 0; i < agent->armed; i++) {
		struct running_probe *p = &agent->probes[i];

		if (i < agent->started)
			pthread_join(p->thread, NULL);
		p->probe->disarm(p->state, &p->env);
		if (p->state != NULL)
			munmap(p->state, p->state_bytes);
	}
}

/* ---- stats and --probe-report --------------------------------------------------------------- */

/* Arms what there is, and prints a line for each probe that was. */
static int report_probes(struct agent *agent)
{
	static char line[REPORT_BYTES];
	int result = arm_probes(agent), written = 0;

	for (size_t i = 0; i < agent->armed && written == 0; i++)
		written = fd_offer(STDOUT_FILENO, line,
				   report_probe_line(line, &agent->probes[i], &agent->options),
				   UINT64_MAX);
	return written < 0 ? outcome("write the probe report", written) : result;
}

static void write_stats(struct agent *agent, uint64_t patience_ns)
{
	static char line[REPORT_BYTES];
	size_t length;

	if (agent->options.stats_fd < 0)
		return;
	length = report_stats(line, (uint32_t)getpid(), agent->sender, agent->queue, agent->probes,
			      agent->probe_count);
	(void)outcome("write the stats line",
		      fd_offer(agent->options.stats_fd, line, length, clock_ns() + patience_ns));
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Puts a copy in the place of *fd. */
static int keep(int *fd, int (*copy)(int fd))
{
	int given = *fd;

	*fd = copy(given);
	if (*fd >= 0 && given > 2)
		close(given);
	return *fd;
}

/* Descriptors named on the command line move above 2, and are nobody else's from then on. */
static int keep_descriptors(struct agent *agent)
{
	struct agent_options *o = &agent->options;
	int result = 0;

	if (o->stats_fd >= 0)
		result = keep(&o->stats_fd, fd_own);
	if (result >= 0 && o->ready_fd >= 0)
		result = keep(&o->ready_fd, fd_keep);
	if (result >= 0 && o->channel.kind == CELLOS_ADDRESS_FD && o->channel.fd <= 2)
		result = keep(&o->channel.fd, fd_keep);
	return outcome("keep a descriptor", result);
}

/*
 * --fork: the child goes on (parent_fd set); the parent waits for its word and never returns. A
 * child that ends without it hands its exit code on.
 */
static int fork_off(struct agent *agent)
{
	int ends[2];
	char byte = 0;
	pid_t child;
	int status = 0;

	if (!agent->options.fork)
		return EXIT_DONE;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return outcome("make a pipe", -errno);
	child = fork();
	if (child < 0)
		return outcome("fork", -errno);
	if (child == 0) {
		close(ends[0]);
		agent->parent_fd = ends[1];
		setsid(); /* the terminal's Ctrl-C is for the caller */
		return EXIT_DONE;
	}
	close(ends[1]);
	while (read(ends[0], &byte, 1) < 0 && errno == EINTR)
		;
	if (byte == 'r')
		_exit(EXIT_DONE);
	if (waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) != 0)
		_exit(WEXITSTATUS(status));
	_exit(EXIT_RUNTIME);
}

/* Every signal but those that a fault of ours raises: those must still end us where they stand. */
static int block_signals(struct agent *agent)
{
	static const int faults[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGTRAP};
	sigset_t blocked, taken;

	sigfillset(&blocked);
	for (size_t i = 0; i < sizeof(faults) / sizeof(faults[0]); i++)
		sigdelset(&blocked, faults[i]);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	sigemptyset(&taken);
	sigaddset(&taken, SIGTERM);
	sigaddset(&taken, SIGINT);
	sigaddset(&taken, SIGUSR1);
	agent->signal_fd = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
	agent->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (agent->signal_fd < 0 || agent->stop_fd < 0)
		return outcome("make descriptors", -errno);
	return EXIT_DONE;
}

static int make_queue(struct agent *agent)
{
	uint32_t asked = agent->options.queue_depth;
	int result = cellos_queue_create(&agent->queue, CELLOS_LANE_COUNT, asked);

	if (result < 0)
		return outcome("make the queue", result);
	if (cellos_queue_depth(agent->queue) != asked)
		tell("queue depth %u rounded up to %zu", asked, cellos_queue_depth(agent->queue));
	return EXIT_DONE;
}

static int start_sender(struct agent *agent)
{
	struct sender_config config = {
		.queue = agent->queue,
		.channel = agent->options.channel,
		.heartbeat_ms = agent->options.heartbeat_ms,
		.drain_ms = agent->options.drain_ms,
		.agent_pid = (uint32_t)getpid(),
		.notify_fd = agent->stop_fd,
		.begin = agent->options.channel.kind == CELLOS_ADDRESS_UNIX ? lay_down_but_paths
									    : lay_all_down,
		.say = say_for_sender,
		.context = agent,
	};
	int result = sender_create(&agent->sender, &config);

	/* The first connect took a copy: closing that one shall be a pipe's end for its reader. */
	if (agent->options.channel.kind == CELLOS_ADDRESS_FD)
		close(agent->options.channel.fd);
	return outcome("start the sender", result);
}

static void say_and_close(int fd, const char *word)
{
	if (fd >= 0) {
		(void)fd_offer(fd, word, 1, 0);
		close(fd);
	}
}

/* Armed: say so to whoever waits, and let go of everything that is shared with them. */
static int become_ready(struct agent *agent)
{
	int diagnostics = agent->options.verbose ? fd_own(STDERR_FILENO) : -1;
	int result;

	atomic_store_explicit(&diagnostics_fd, diagnostics, memory_order_relaxed);
	result = fd_silence_standard();
	if (result < 0) {
		atomic_store_explicit(&diagnostics_fd, STDERR_FILENO, memory_order_relaxed);
		return outcome("open /dev/null", result);
	}
	lay_all_down();
	close_cage(agent);
	say_and_close(agent->options.ready_fd, "\n");
	say_and_close(agent->parent_fd, "r");
	return EXIT_DONE;
}

/* Until SIGTERM, SIGINT, or the sender says that its channel is gone. */
static int wait_for_end(struct agent *agent)
{
	struct pollfd fds[2] = {
		{.fd = agent->signal_fd, .events = POLLIN},
		{.fd = agent->stop_fd, .events = POLLIN},
	};
	struct signalfd_siginfo signal;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue; /* EINTR: stopped and continued */
		if (fds[1].revents != 0)
			return EXIT_DONE;
		if (read(agent->signal_fd, &signal, sizeof(signal)) != (ssize_t)sizeof(signal))
			continue;
		if (signal.ssi_signo != SIGUSR1)
			return EXIT_DONE;
		write_stats(agent, 0);
	}
}

/* Probes, queue, last rows and goodbye, transport: in this order, whatever came before. */
static int stop_all(struct agent *agent, int code)
{
	int result = 0;

	stop_probes(agent);
	if (agent->sender != NULL) {
		result = sender_stop(agent->sender);
		write_stats(agent, UINT64_C(1000000000));
		sender_destroy(agent->sender);
	}
	cellos_queue_destroy(agent->queue);
	return code == EXIT_DONE && result < 0 ? EXIT_RUNTIME : code;
}

typedef int step(struct agent *agent);

static int run(struct agent *agent, step *const steps[])
{
	int code = EXIT_DONE;

	choose_probes(agent);
	for (; code == EXIT_DONE && *steps != NULL; steps++)
		code = (*steps)(agent);
	return stop_all(agent, code);
}

static int print(const char *text, size_t length)
{
	return outcome("write to standard output",
		       fd_offer(STDOUT_FILENO, text, length, UINT64_MAX));
}

int main(int argc, char *argv[])
{
	/* The queue first: it populates its memory, which does nothing once seclude has locked
	 * memory "on fault"; then every slot would cost its producer a fault. */
	static step *const life[] = {keep_descriptors, fork_off,     block_signals, make_queue,
				     seclude,          start_sender, arm_probes,    start_probes,
				     become_ready,     wait_for_end, NULL};
	static step *const report[] = {block_signals, make_queue, report_probes, NULL};
	static struct agent agent = {.stop_fd = -1, .parent_fd = -1};
	static char text[8192];

	if (fd_fill_standard() < 0)
		return EXIT_RUNTIME;
	if (agent_options_parse(argc, argv, &agent.options, text) < 0) {
		tell("%s", text);
		return EXIT_USAGE;
	}
/* Sanitizers call what they like, and look into the process from outside. */
#ifdef CELLOS_SANITIZED
	agent.options.no_sandbox = true;
#endif
	if (agent.options.help)
		return print(text, agent_options_help(text, sizeof(text)));
	if (agent.options.version)
		return print("cellos-telemetry " CELLOS_VERSION "\n",
			     sizeof("cellos-telemetry " CELLOS_VERSION));
	return run(&agent, agent.options.probe_report ? report : life);
}
