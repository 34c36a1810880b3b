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
#include <time.h>
#include <unistd.h>

#include "fds.h"
#include "options.h"
#include "report.h"
#include "sender.h"
#include "threads.h"

enum { EXIT_DONE = 0, EXIT_RUNTIME = 1, EXIT_USAGE = 2 };

#define MAX_PROBES 8

struct running_probe {
	const struct cellos_probe *probe;
	struct cellos_probe_env env;
	struct cellos_probe_status status;
	void *state; /* owned: state_bytes of anonymous memory */
	size_t state_bytes;
	pthread_t thread;
	bool started;
};

struct agent {
	struct agent_options options;
	struct cellos_queue *queue; /* owned */
	struct sender *sender;      /* owned */
	struct running_probe probes[MAX_PROBES];
	size_t probe_count;
	int stop_fd;   /* owned: readable once the probes shall end */
	int notify_fd; /* owned: the sender has lost its channel for good */
	int signal_fd; /* owned */
	int ready_fd;  /* owned until ready; -1 */
	int stats_fd;  /* owned; -1 */
	int parent_fd; /* owned until ready: --fork's pipe; -1 */
	bool verbose;
};

/* ---- diagnostics ---------------------------------------------------------------------------- */

/* Where lines for a person go: standard error until ready, then a description of our own or none.
 */
static _Atomic int diagnostics_fd = 2;
static _Atomic unsigned diagnostics_lost;

__attribute__((format(printf, 1, 2))) static void tell(const char *format, ...)
{
	int fd = atomic_load_explicit(&diagnostics_fd, memory_order_relaxed);
	char line[AGENT_MESSAGE_BYTES + 64];
	va_list arguments;
	int length = snprintf(line, sizeof(line), "cellos-telemetry: ");
	unsigned lost;

	if (fd < 0)
		return;
	va_start(arguments, format);
	length += vsnprintf(line + length, sizeof(line) - 40 - (size_t)length, format, arguments);
	va_end(arguments);
	if (length > (int)sizeof(line) - 41)
		length = (int)sizeof(line) - 41;
	lost = atomic_exchange_explicit(&diagnostics_lost, 0, memory_order_relaxed);
	if (lost > 0)
		length += snprintf(line + length, 39, " (%u lines before it lost)", lost);
	line[length++] = '\n';
	/* Never waits: a reader of diagnostics must not be able to hold us up. */
	if (fd_offer(fd, line, (size_t)length, 0) < 0)
		atomic_fetch_add_explicit(&diagnostics_lost, lost + 1, memory_order_relaxed);
}

static void say_for_sender(void *context, bool only_verbose, const char *line)
{
	const struct agent *agent = context;

	if (!only_verbose || agent->verbose)
		tell("%s", line);
}

static int fail(const char *what, int error)
{
	tell("cannot %s: %s", what, strerror(-error));
	return EXIT_RUNTIME;
}

/* ---- probes --------------------------------------------------------------------------------- */

static void *probe_body(void *argument)
{
	struct running_probe *p = argument;
	char name[16];

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
	if (p->state_bytes > 0) {
		p->state = mmap(NULL, p->state_bytes, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (p->state == MAP_FAILED) {
			p->state = NULL;
			return -errno;
		}
	}
	p->probe->arm(p->state, &p->env, &p->status);
	return 0;
}

/* All probes armed, or known not to be. EXIT_DONE, or what to exit with. */
static int arm_probes(struct agent *agent)
{
	for (size_t i = 0; i < agent->probe_count; i++) {
		struct running_probe *p = &agent->probes[i];
		int result = arm_probe(agent, p);

		if (result < 0)
			return fail("take memory for a probe", result);
		if (p->status.failed)
			tell("cannot arm probe %s: %s", p->probe->name, p->status.why);
		else if (agent->verbose)
			tell("probe %s: %s, surface %s%s%s", p->probe->name,
			     p->status.armed ? "armed" : "not armed", p->status.surface,
			     p->status.why[0] != '\0' ? ": " : "", p->status.why);
		if (p->status.failed && agent->options.fail_on_probe)
			return EXIT_RUNTIME;
	}
	return EXIT_DONE;
}

static int start_probes(struct agent *agent)
{
	for (size_t i = 0; i < agent->probe_count; i++) {
		struct running_probe *p = &agent->probes[i];
		int result = thread_start(&p->thread, probe_body, p);

		if (result < 0)
			return fail("start a probe's thread", result);
		p->started = true;
	}
	return EXIT_DONE;
}

static void stop_probes(struct agent *agent)
{
	(void)eventfd_write(agent->stop_fd, 1);
	for (size_t i = 0; i < agent->probe_count; i++) {
		struct running_probe *p = &agent->probes[i];

		if (p->started)
			pthread_join(p->thread, NULL);
		p->started = false;
		if (p->state_bytes > 0 && p->state == NULL)
			continue; /* never armed */
		if (p->env.options != NULL)
			p->probe->disarm(p->state, &p->env);
		if (p->state != NULL)
			munmap(p->state, p->state_bytes);
		p->state = NULL;
	}
}

static size_t describe_probes(const struct agent *agent, struct report_probe out[MAX_PROBES])
{
	for (size_t i = 0; i < agent->probe_count; i++) {
		const struct running_probe *p = &agent->probes[i];

		out[i] = (struct report_probe){p->probe, &p->env, &p->status, p->state_bytes};
	}
	return agent->probe_count;
}

/* ---- --probe-report ------------------------------------------------------------------------- */

static int report_probes(struct agent *agent)
{
	struct report_probe described[MAX_PROBES];
	static char line[REPORT_BYTES];
	int result = arm_probes(agent);
	size_t count = describe_probes(agent, described);

	for (size_t i = 0; i < count; i++) {
		int written;

		if (agent->probes[i].env.options == NULL)
			break; /* the one before it made us stop */
		written = fd_offer(STDOUT_FILENO, line, report_probe_line(line, &described[i]),
				   UINT64_MAX);
		if (written < 0) {
			result = fail("write the probe report", written);
			break;
		}
	}
	stop_probes(agent);
	return result;
}

/* ---- stats ---------------------------------------------------------------------------------- */

static void write_stats(struct agent *agent, uint64_t patience_ns)
{
	static char line[REPORT_BYTES];
	struct report_probe described[MAX_PROBES];
	struct report_memory memory = {0};
	struct timespec now;
	size_t count, length;
	int result;

	if (agent->stats_fd < 0)
		return;
	count = describe_probes(agent, described);
	memory.queue_bytes = cellos_queue_bytes(agent->queue);
	memory.sender_bytes = sender_bytes();
	memory.stack_bytes = (count + 1) * AGENT_STACK_BYTES;
	/* The kernel doubles what SO_SNDBUF asks for, socket(7). */
	memory.kernel_bytes = 2 * CELLOS_CHANNEL_SEND_BUFFER_BYTES;
	for (size_t i = 0; i < count; i++)
		memory.kernel_bytes += described[i].status->kernel_bytes;
	length = report_stats(line, (uint32_t)getpid(), agent->sender, agent->queue, described,
			      count, &memory);
	clock_gettime(CLOCK_MONOTONIC, &now);
	result = fd_offer(agent->stats_fd, line, length,
			  (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec + patience_ns);
	if (result < 0)
		tell("cannot write the stats line: %s", strerror(-result));
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Descriptors named on the command line move above 2, and are nobody else's from then on. */
static int keep_descriptors(struct agent *agent)
{
	struct agent_options *o = &agent->options;
	int result = 0;

	if (o->stats_fd >= 0)
		result = agent->stats_fd = fd_own(o->stats_fd);
	if (result >= 0 && o->ready_fd >= 0)
		result = agent->ready_fd = fd_keep(o->ready_fd);
	if (result >= 0 && o->channel.kind == CELLOS_ADDRESS_FD && o->channel.fd <= 2)
		result = o->channel.fd = fd_keep(o->channel.fd);
	if (result >= 0 && o->ready_fd > 2)
		close(o->ready_fd);
	if (result >= 0 && o->stats_fd > 2)
		close(o->stats_fd);
	return result < 0 ? fail("keep a descriptor", result) : EXIT_DONE;
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

	if (pipe2(ends, O_CLOEXEC) < 0)
		return fail("make a pipe", -errno);
	child = fork();
	if (child < 0)
		return fail("fork", -errno);
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
	sigset_t blocked, taken;

	sigfillset(&blocked);
	sigdelset(&blocked, SIGSEGV);
	sigdelset(&blocked, SIGBUS);
	sigdelset(&blocked, SIGFPE);
	sigdelset(&blocked, SIGILL);
	sigdelset(&blocked, SIGABRT);
	sigdelset(&blocked, SIGTRAP);
	sigprocmask(SIG_SETMASK, &blocked, NULL);
	sigemptyset(&taken);
	sigaddset(&taken, SIGTERM);
	sigaddset(&taken, SIGINT);
	sigaddset(&taken, SIGUSR1);
	agent->signal_fd = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
	agent->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	agent->notify_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (agent->signal_fd < 0 || agent->stop_fd < 0 || agent->notify_fd < 0)
		return fail("make descriptors", -errno);
	return EXIT_DONE;
}

static int make_queue(struct agent *agent)
{
	uint32_t asked = agent->options.queue_depth;
	int result = cellos_queue_create(&agent->queue, CELLOS_LANE_COUNT, asked);

	if (result < 0)
		return fail("make the queue", result);
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
		.notify_fd = agent->notify_fd,
		.say = say_for_sender,
		.context = agent,
	};
	int result = sender_create(&agent->sender, &config);

	if (result == 0)
		result = sender_start(agent->sender);
	/* The first connect took a copy: closing that one shall be a pipe's end for its reader. */
	if (agent->options.channel.kind == CELLOS_ADDRESS_FD)
		close(agent->options.channel.fd);
	if (result < 0) {
		agent->sender = sender_destroy(agent->sender);
		return fail("start the sender", result);
	}
	return EXIT_DONE;
}

/* Armed: say so to whoever waits, and let go of everything that is shared with them. */
static int become_ready(struct agent *agent)
{
	int diagnostics = agent->verbose ? fd_own(STDERR_FILENO) : -1;
	int result;

	atomic_store_explicit(&diagnostics_fd, diagnostics, memory_order_relaxed);
	result = fd_silence_standard();
	if (result < 0)
		return fail("open /dev/null", result);
	if (agent->ready_fd >= 0) {
		(void)fd_offer(agent->ready_fd, "\n", 1, 0);
		close(agent->ready_fd);
		agent->ready_fd = -1;
	}
	if (agent->parent_fd >= 0) {
		(void)fd_offer(agent->parent_fd, "r", 1, 0);
		close(agent->parent_fd);
		agent->parent_fd = -1;
	}
	return EXIT_DONE;
}

/* Until SIGTERM, SIGINT, or the sender says that its channel is gone. */
static void wait_for_end(struct agent *agent)
{
	struct pollfd fds[2] = {
		{.fd = agent->signal_fd, .events = POLLIN},
		{.fd = agent->notify_fd, .events = POLLIN},
	};
	struct signalfd_siginfo signal;

	for (;;) {
		if (poll(fds, 2, -1) < 0)
			continue; /* EINTR: stopped and continued */
		if (fds[1].revents != 0)
			return;
		if (read(agent->signal_fd, &signal, sizeof(signal)) != (ssize_t)sizeof(signal))
			continue;
		if (signal.ssi_signo != SIGUSR1)
			return;
		write_stats(agent, 0);
	}
}

/* Probes, queue, last rows and goodbye, transport: in this order, whatever came before. */
static int stop_all(struct agent *agent, int code)
{
	int result = 0;

	stop_probes(agent);
	if (agent->sender != NULL) {
		sender_stop(agent->sender);
		result = sender_join(agent->sender);
		write_stats(agent, UINT64_C(1000000000));
		agent->sender = sender_destroy(agent->sender);
	}
	agent->queue = cellos_queue_destroy(agent->queue);
	return code == EXIT_DONE && result < 0 ? EXIT_RUNTIME : code;
}

static int run_agent(struct agent *agent)
{
	int code = keep_descriptors(agent);

	if (code == EXIT_DONE && agent->options.fork)
		code = fork_off(agent);
	if (code == EXIT_DONE)
		code = block_signals(agent);
	if (code == EXIT_DONE)
		code = make_queue(agent);
	if (code == EXIT_DONE)
		code = start_sender(agent);
	if (code == EXIT_DONE)
		code = arm_probes(agent);
	if (code == EXIT_DONE)
		code = start_probes(agent);
	if (code == EXIT_DONE)
		code = become_ready(agent);
	if (code == EXIT_DONE)
		wait_for_end(agent);
	return stop_all(agent, code);
}

static int run_report(struct agent *agent)
{
	int code = block_signals(agent);

	if (code == EXIT_DONE)
		code = make_queue(agent);
	if (code == EXIT_DONE)
		code = report_probes(agent);
	agent->queue = cellos_queue_destroy(agent->queue);
	return code;
}

static int print(const char *text, size_t length)
{
	int result = fd_offer(STDOUT_FILENO, text, length, UINT64_MAX);

	return result < 0 ? fail("write to standard output", result) : EXIT_DONE;
}

int main(int argc, char *argv[])
{
	static struct agent agent = {
		.stop_fd = -1,
		.notify_fd = -1,
		.signal_fd = -1,
		.ready_fd = -1,
		.stats_fd = -1,
		.parent_fd = -1,
	};
	static char text[8192];

	if (fd_fill_standard() < 0)
		return EXIT_RUNTIME;
	if (agent_options_parse(argc, argv, &agent.options, text) < 0) {
		tell("%s", text);
		return EXIT_USAGE;
	}
	if (agent.options.help)
		return print(text, agent_options_help(text, sizeof(text)));
	if (agent.options.version)
		return print("cellos-telemetry " CELLOS_VERSION "\n",
			     sizeof("cellos-telemetry " CELLOS_VERSION));
	agent.verbose = agent.options.verbose;
	choose_probes(&agent);
	return agent.options.probe_report ? run_report(&agent) : run_agent(&agent);
}
