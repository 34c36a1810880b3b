/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * See capability_trace.h.
 *
 * The tracepoint tells neither whose check it is nor why it was made, and a kernel without BTF does
 * not say where in a task its credentials stand. Arming finds both out by experiments: for a moment
 * the main thread lays CAP_SYS_ADMIN down (in its effective set only; nothing else of the agent
 * runs yet), and looks at what the programs make of its own checks:
 *   - sethostname with a length that no kernel takes: a plain refusal. The credentials it was made
 *     with are in the agent's task twice, side by side; that is the offset.
 *   - a private mapping: the kernel's accounting, which must be told apart;
 *   - the extended attributes of a file in memory: a question without audit, likewise.
 * "exact" is claimed only of a kernel where these came out right. Without /proc/kallsyms the
 * accounting is known by the place where its stack leaves that of a plain refusal, and the rest is
 * inferred.
 */
#include "capability_trace.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "capability_bpf.h"
#include "capability_symbols.h"
#include "probe_util.h"

/* 40 bytes a denial, so about 1600 of them, each of another process or capability than any in the
   same second. */
#define RING_BYTES (64u * 1024u)

enum trace_stat { STAT_ASIDES, STAT_FOREIGN, STAT_MALFORMED };

/* ---- reading -------------------------------------------------------------------------------- */

/* What a round of reading works for. */
struct taking {
	struct cellos_probe_env *env;
	uint64_t malformed;
};

static void take_record(void *context, const void *bytes, size_t length)
{
	struct taking *taking = context;
	struct capability_record record;

	if (length < sizeof(record)) {
		taking->malformed++;
		return;
	}
	memcpy(&record, bytes, sizeof(record));
	cellos_probe_emit(taking->env, CELLOS_SOURCE_CAPABILITY_DENIED, record.pid, record.comm,
			  strnlen(record.comm, sizeof(record.comm)), record.monotonic_ns);
}

/* True when anything was taken. A record nobody can read is a denial that was lost in the kernel:
   the sum still holds. */
static bool take_records(struct capability_trace *trace, struct cellos_probe_env *env)
{
	struct taking taking = {.env = env};
	int64_t done = cellos_bpf_ring_read(&trace->ring, take_record, &taking);

	taking.malformed += done < 0;
	if (taking.malformed > 0) {
		cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, taking.malformed);
		cellos_probe_stat_add(env, STAT_MALFORMED, taking.malformed);
	}
	return done != 0;
}

static bool tell(struct cellos_probe_env *env, enum cellos_drop_reason reason, uint64_t *told,
		 uint64_t now)
{
	uint64_t more = now - *told;

	if (more > 0)
		cellos_lane_count(env->lane, reason, more);
	*told = now;
	return more > 0;
}

/* True when something was lost or folded since the last look. */
static bool take_counters(struct capability_trace *trace, struct cellos_probe_env *env)
{
	struct capability_slot sum = {0};
	bool moved;

	/* Relaxed: each slot only grows, and one that moves just now is seen the next time. */
	for (unsigned at = 0; at < CAPABILITY_SLOTS; at++) {
		const struct capability_slot *slot = &trace->shared->slots[at];

		sum.lost += __atomic_load_n(&slot->lost, __ATOMIC_RELAXED);
		sum.folded += __atomic_load_n(&slot->folded, __ATOMIC_RELAXED);
		sum.asides += __atomic_load_n(&slot->asides, __ATOMIC_RELAXED);
		sum.foreign += __atomic_load_n(&slot->foreign, __ATOMIC_RELAXED);
	}
	cellos_probe_stat_set(env, STAT_ASIDES, sum.asides);
	cellos_probe_stat_set(env, STAT_FOREIGN, sum.foreign);
	moved = tell(env, CELLOS_DROP_KERNEL, &trace->lost, sum.lost);
	moved |= tell(env, CELLOS_DROP_SUPPRESSED, &trace->folded, sum.folded);
	return moved;
}

/*
 * The kernel wakes us for a record only when we had read everything before. Losses and folds need
 * no wake-up of their own: the first come while the ring is full, the second within a second of a
 * record, so it is enough to look again a little later than that, until nothing moves any more.
 */
static void read_until_stop(struct capability_trace *trace, struct cellos_probe_env *env)
{
	const uint64_t linger = env->options->coalesce_ms * CELLOS_NS_PER_MS;
	const uint64_t rest = CELLOS_NS_PER_S + 100 * CELLOS_NS_PER_MS;
	uint64_t deadline = cellos_probe_now() + rest; /* arm may have left something */
	enum cellos_wait_result result;

	while ((result = cellos_probe_wait(env->stop_fd, trace->ring.fd, deadline)) !=
	       CELLOS_WAIT_STOP) {
		bool readable = result == CELLOS_WAIT_READABLE, taken;

		if (readable && linger > 0 &&
		    cellos_probe_wait(env->stop_fd, -1, cellos_probe_now() + linger) ==
			    CELLOS_WAIT_STOP)
			return;
		taken = readable && take_records(trace, env);
		/* Readable, and nothing to take: a program was interrupted while it wrote. */
		if (readable && !taken && linger == 0 &&
		    cellos_probe_wait(env->stop_fd, -1, cellos_probe_now() + CELLOS_NS_PER_MS) ==
			    CELLOS_WAIT_STOP)
			return;
		deadline = take_counters(trace, env) || readable ? cellos_probe_now() + rest
								 : UINT64_MAX;
	}
}

void cellos_capability_trace_run(struct capability_trace *trace, struct cellos_probe_env *env)
{
	read_until_stop(trace, env);
	/* No denial is seen after this; what was is still ours to tell. */
	close(trace->link);
	trace->link = -1;
	cellos_bpf_settle();
	while (take_records(trace, env))
		;
	(void)take_counters(trace, env);
}

/* ---- the experiment ------------------------------------------------------------------------- */

struct caps {
	struct __user_cap_data_struct data[2];
};

static int set_caps(const struct caps *caps)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};

	return syscall(SYS_capset, &header, caps->data) < 0 ? -errno : 0;
}

static int lay_down_admin(struct caps *before)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct caps less;

	if (syscall(SYS_capget, &header, before->data) < 0)
		return -errno;
	less = *before;
	less.data[0].effective &= ~(1u << CAP_SYS_ADMIN);
	/* Also when it was not there: new credentials are what the search relies on. */
	return set_caps(&less);
}

/* What the questions below are asked without CAP_SYS_ADMIN for. */
struct findings {
	bool symbols; /* from /proc/kallsyms; in */
	bool exact;
	const char *doubt; /* why not exact */
};

static int without_admin(struct capability_trace *trace,
			 void (*do_it)(struct capability_trace *trace, struct findings *findings),
			 struct findings *findings)
{
	struct caps before;
	int result = lay_down_admin(&before);

	if (result < 0)
		return result;
	do_it(trace, findings);
	return set_caps(&before);
}

enum outcome { OUTCOME_NOTHING, OUTCOME_DENIAL, OUTCOME_ASIDE, OUTCOME_BOTH };

/* One question to the kernel, and what the program made of it. */
static enum outcome ask(const struct capability_trace *trace, void (*question)(void))
{
	const volatile struct capability_self *self = &trace->shared->self;
	uint64_t denials = self->denials, asides = self->asides;

	question();
	denials = self->denials - denials;
	asides = self->asides - asides;
	if (denials > 0 && asides > 0)
		return OUTCOME_BOTH;
	return denials > 0 ? OUTCOME_DENIAL : asides > 0 ? OUTCOME_ASIDE : OUTCOME_NOTHING;
}

/* Whether the kernel looks at the capability or at the length first, it refuses. */
static void ask_plainly(void)
{
	(void)syscall(SYS_sethostname, "", -1);
}

static void ask_accounting(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory != MAP_FAILED)
		munmap(memory, 4096);
}

static void ask_without_audit(void)
{
	int fd = (int)syscall(SYS_memfd_create, "", 1 /* MFD_CLOEXEC */);

	if (fd < 0)
		return;
	(void)flistxattr(fd, NULL, 0);
	close(fd);
}

/* Where accounting's stack leaves that of a plain refusal, as a place among its frames; 0: nowhere.
   Its own stack is the last one taken when this returns. */
static unsigned find_fork(struct capability_trace *trace)
{
	const struct capability_self *self = &trace->shared->self;
	uint64_t plain[CAPABILITY_FRAMES];

	(void)ask(trace, ask_plainly);
	memcpy(plain, self->frames, sizeof(plain));
	(void)ask(trace, ask_accounting);
	for (unsigned at = 0; at < CAPABILITY_FRAMES; at++)
		if (self->frames[at] != plain[at])
			return at;
	return 0;
}

/* The only place in the stack's memory where this return address is, in bytes; 0: none, or more. */
static uint32_t find_in_stack(const struct capability_self *self, uint64_t address)
{
	uint32_t found = 0;

	for (uint32_t word = 1; word < CAPABILITY_STACK_BYTES / 8; word++) {
		if (self->stack[word] != address)
			continue;
		if (found != 0)
			return 0;
		found = word * 8;
	}
	return found;
}

static void learn_shortcut(struct capability_trace *trace, unsigned fork)
{
	const struct capability_self *self = &trace->shared->self;
	struct capability_shortcut way = {.inner = self->frames[fork - 1],
					  .outer = self->frames[fork]};

	way.inner_at = find_in_stack(self, way.inner);
	way.outer_at = find_in_stack(self, way.outer);
	if (way.inner_at != 0 && way.outer_at > way.inner_at)
		trace->shared->shortcut = way;
}

/* Of a kernel that does not tell where its functions are: the one place that accounting returns
   to. */
static void learn_accounting(struct capability_trace *trace, unsigned fork)
{
	uint64_t place = trace->shared->self.frames[fork];

	trace->shared->questions[0] =
		(struct capability_range){.start = place, .end = place + 1, .aside = UINT64_MAX};
}

/* How sure the program can be on this kernel. */
static void try_out(struct capability_trace *trace, struct findings *findings)
{
	enum outcome plainly, accounting, without_audit;
	const unsigned fork = find_fork(trace);

	if (fork > 0 && !findings->symbols)
		learn_accounting(trace, fork);
	/* Only what is an aside by the long way as well. */
	if (fork > 0 && ask(trace, ask_accounting) == OUTCOME_ASIDE)
		learn_shortcut(trace, fork);
	plainly = ask(trace, ask_plainly);
	accounting = ask(trace, ask_accounting);
	without_audit = ask(trace, ask_without_audit);
	if (plainly != OUTCOME_DENIAL || accounting != OUTCOME_ASIDE)
		findings->doubt = "CAP_SYS_ADMIN is inferred: the kernel's own accounting "
				  "cannot be told from denials";
	else if (!findings->symbols)
		findings->doubt = "inferred: no /proc/kallsyms to tell the kernel's own "
				  "questions by";
	else if (without_audit == OUTCOME_DENIAL || without_audit == OUTCOME_BOTH)
		findings->doubt = "inferred: the kernel's questions without audit cannot be told "
				  "from denials";
	else
		findings->exact = true;
}

static void be_refused(struct capability_trace *trace, struct findings *findings)
{
	(void)trace;
	(void)findings;
	ask_plainly();
}

/* In bytes; 0: not there. Of a kernel that shuffles its structures, the last of the two places. */
static uint32_t find_credentials(const struct capability_shared *shared)
{
	uint32_t last = 0;

	for (uint32_t word = 1; word < CAPABILITY_TASK_BYTES / 8; word++) {
		if (shared->task[word] != shared->self.cred)
			continue;
		last = word * 8;
		if (shared->task[word - 1] == shared->self.cred)
			break;
	}
	return shared->self.cred == 0 ? 0 : last;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

/* ---- life ----------------------------------------------------------------------------------- */

static bool read_symbols(struct capability_trace *trace)
{
	struct capability_symbols symbols;
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	bool enough = false;
	ssize_t got;

	cellos_capability_symbols_begin(&symbols, trace->shared->questions,
					trace->shared->refusals);
	if (fd < 0)
		return false;
	while (!enough && (got = read(fd, trace->text, sizeof(trace->text))) > 0)
		enough = cellos_capability_symbols_feed(&symbols, trace->text, (size_t)got);
	close(fd);
	return cellos_capability_symbols_end(&symbols);
}

/* What arming has found out so far. */
struct known {
	struct cellos_pid_view view;
	uint32_t agent_pid;
	uint32_t cred_offset;
	const char *what; /* is being done */
};

static int open_maps(struct capability_trace *trace)
{
	void *shared = NULL;
	int result;

	trace->shared_fd =
		cellos_bpf_memory("cellos_cap", sizeof(struct capability_shared), &shared);
	if (trace->shared_fd < 0)
		return trace->shared_fd;
	trace->shared = shared;
	trace->fold_fd = cellos_bpf_map("cellos_cap_fold", BPF_MAP_TYPE_ARRAY, sizeof(uint32_t),
					sizeof(struct capability_fold), 1, 0);
	if (trace->fold_fd < 0)
		return trace->fold_fd;
	result = cellos_bpf_ring_open(&trace->ring, "cellos_cap", RING_BYTES);
	return result;
}

static int load(const struct capability_trace *trace, const struct cellos_bpf_program *program,
		const struct known *known)
{
	const struct cellos_bpf_symbol symbols[] = {
		{"events", CELLOS_BPF_MAP, (uint64_t)trace->ring.fd},
		{"shared", CELLOS_BPF_MAP_MEMORY, (uint64_t)trace->shared_fd},
		{"fold", CELLOS_BPF_MAP_MEMORY, (uint64_t)trace->fold_fd},
		{"pid_ns_device", CELLOS_BPF_CONSTANT, known->view.device},
		{"pid_ns_inode", CELLOS_BPF_CONSTANT, known->view.inode},
		{"agent_pid", CELLOS_BPF_CONSTANT, known->agent_pid},
		{"agent_tgid", CELLOS_BPF_CONSTANT, trace->shared->self.tgid},
		{"cred_offset", CELLOS_BPF_CONSTANT, known->cred_offset},
	};

	return cellos_bpf_load(program, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, symbols,
			       sizeof(symbols) / sizeof(symbols[0]));
}

/* The program lives as long as its link. */
static int attach(struct capability_trace *trace, const struct cellos_bpf_program *program,
		  struct known *known)
{
	int fd;

	known->what = "load the program";
	fd = load(trace, program, known);
	if (fd < 0)
		return fd;
	known->what = "attach to cap_capable";
	trace->link = cellos_bpf_link_raw_tracepoint(fd, "cap_capable");
	close(fd);
	return trace->link < 0 ? trace->link : 0;
}

/* The first program, for one refusal: where the credentials are, and the agent's own number. */
static int learn(struct capability_trace *trace, struct known *known)
{
	int result = attach(trace, &capability_bpf_learn, known);

	if (result < 0)
		return result;
	known->what = "lay a capability down and take it up again";
	result = without_admin(trace, be_refused, NULL);
	close_fd(&trace->link);
	known->cred_offset = find_credentials(trace->shared);
	memset(trace->shared->task, 0, sizeof(trace->shared->task));
	if (result == 0 && known->cred_offset == 0)
		result = -ENOTSUP;
	return result;
}

static int arm(struct capability_trace *trace, struct known *known, struct findings *findings)
{
	int result;

	if (capability_bpf_denied.insn_count == 0)
		return -ENOEXEC;
	known->what = "use bpf(2)";
	result = open_maps(trace);
	if (result == 0)
		result = learn(trace, known);
	if (result == 0) {
		findings->symbols = read_symbols(trace);
		result = attach(trace, &capability_bpf_denied, known);
	}
	if (result == 0) {
		known->what = "lay a capability down and take it up again";
		result = without_admin(trace, try_out, findings);
	}
	return result;
}

static void explain(struct cellos_probe_status *status, const char *what, int error)
{
	if (error == -ENOEXEC)
		cellos_probe_why(status, "built without clang: no BPF programs inside");
	else if (error == -ENOSYS)
		cellos_probe_why(status, "no bpf(2) in this kernel (CONFIG_BPF_SYSCALL)");
	else if (error == -EINVAL && what[0] == 'l')
		cellos_probe_why(
			status,
			"this kernel is built without tracing (CONFIG_BPF_EVENTS), or locked down");
	else if (error == -ENOENT && what[0] == 'a')
		cellos_probe_why(status, "this kernel has no tracepoint cap_capable "
					 "(older than 6.14, or built without tracing)");
	else if (error == -ENOTSUP)
		cellos_probe_why(status, "cannot find the credentials in this kernel's tasks");
	else
		cellos_probe_why(status, "cannot %s: %s", what, strerror(-error));
}

int cellos_capability_trace_open(struct capability_trace *trace, struct cellos_probe_env *env,
				 struct cellos_probe_status *status)
{
	struct known known = {.agent_pid = env->agent_pid, .what = ""};
	struct findings findings = {.doubt = ""};
	const char *numbers = "";
	int result;

	trace->ring.fd = trace->link = trace->shared_fd = trace->fold_fd = -1;
	cellos_pid_view_look(&known.view);
	result = arm(trace, &known, &findings);
	if (result < 0) {
		explain(status, known.what, result);
		cellos_capability_trace_close(trace);
		return result;
	}
	trace->shared->self.armed = 1;
	status->armed = true;
	status->surface = "trace";
	status->exactness = findings.exact ? "exact" : "inferred";
	status->kernel_bytes =
		RING_BYTES + sizeof(struct capability_shared) + sizeof(struct capability_fold);
	if (known.view.inode != 0)
		numbers = "pid 0 for processes of other PID namespaces";
	cellos_probe_why(status, "%s%s%s", findings.doubt,
			 findings.doubt[0] != '\0' && numbers[0] != '\0' ? "; " : "", numbers);
	return 0;
}

void cellos_capability_trace_close(struct capability_trace *trace)
{
	close_fd(&trace->link);
	cellos_bpf_ring_close(&trace->ring);
	close_fd(&trace->fold_fd);
	cellos_bpf_memory_unmap(trace->shared, sizeof(struct capability_shared));
	trace->shared = NULL;
	close_fd(&trace->shared_fd);
}
