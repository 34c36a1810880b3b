/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Attempted connections, by BPF programs at the root of the cgroup2 hierarchy: connect over IPv4
 * and IPv6, and the first datagram of an unconnected UDP socket, before the protocol acts and
 * whatever comes of it. The programs (bpf/connect.bpf.c) write a record per attempt; this file
 * reads them.
 *
 *   attempts = records read + lost (ring full, `k`) + folded (repeated datagrams, `s`)
 *
 * holds exactly once the probe has caught up. What never gets as far as the hook is no attempt:
 * AF_UNSPEC (a disconnect), an address too short for its family, a stream that is connected
 * already.
 *
 * The reader: while attempts come in, it takes them in bulk, once per --coalesce-ms, and nobody
 * wakes it. When they cease it says so in the shared page and sleeps; the next attempt wakes it,
 * and that one alone pays for a wake-up. Folds that go on and on wake it once a second. An idle
 * machine wakes it never.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it. The programs
 * run in the workload's context and share the ring and one page with it.
 * Invariants: the links are open from arm to the end of run; after them nothing new is written, and
 * a last round takes what is there. Nothing is allocated after arm.
 * Refuses to: alter or hold up a connect; know where it goes.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "bpf_load.h"
#include "connect_bpf.h"
#include "connect_record.h"
#include "connect_shared.h"
#include "pid_view.h"
#include "probe_tables.h"
#include "probe_util.h"

/* 40 bytes an attempt, so about 6500 of them: at a hundred thousand a second, which is more than
   two processors do, 65 ms before the reader must be there. */
#define RING_BYTES (256u * 1024u)
/* Sockets that send without being connected, at one time. */
#define SEEN_ENTRIES 4096u
/* An element of a hash table that forgets: its links, key and value, and its share of the buckets;
   the kernel's own structures and, on each processor, lists of free elements come on top. */
#define SEEN_ENTRY_BYTES 96u
#define KERNEL_EXTRA_BYTES (64u * 1024u)

/* In the ring: a header of 8 bytes, and the record. */
#define RECORD_BYTES (BPF_RINGBUF_HDR_SZ + sizeof(struct connect_record))

#define HOOKS 4

/* One number for both sides. */
_Static_assert((int)CONNECT_PID_INITIAL == (int)CELLOS_PID_VIEW_INITIAL &&
		       (int)CONNECT_PID_TRANSLATED == (int)CELLOS_PID_VIEW_NESTED &&
		       (int)CONNECT_PID_UNKNOWN == (int)CELLOS_PID_VIEW_UNKNOWN,
	       "the constant pid_mode");

enum connect_stat { STAT_ATTEMPTS, STAT_ROUNDS, STAT_RING_PEAK, STAT_MALFORMED };

struct connect_state {
	struct cellos_bpf_ring ring;   /* owned */
	int links[HOOKS];              /* owned; -1 */
	int shared_fd, seen_fd;        /* owned; -1 */
	struct connect_shared *shared; /* owned mapping of shared_fd */
	uint64_t lost, folded;         /* as told to the lane */
	uint64_t ring_peak;
};

/* What a round of reading works for. */
struct taking {
	struct cellos_probe_env *env;
	uint64_t malformed;
};

static size_t connect_state_bytes(const struct cellos_probe_options *options)
{
	(void)options;
	return sizeof(struct connect_state);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void take_record(void *context, const void *bytes, size_t length)
{
	struct taking *taking = context;
	struct cellos_raw_event event;

	if (cellos_connect_record(bytes, length, &event) == 0)
		(void)cellos_lane_submit(taking->env->lane, &event);
	else
		taking->malformed++;
}

/* Bytes of the ring that were taken. A record nobody can read is an attempt that was lost in the
   kernel: the sum still holds. */
static uint64_t take_records(struct connect_state *state, struct cellos_probe_env *env)
{
	struct taking taking = {.env = env};
	uint64_t used = cellos_bpf_ring_used(&state->ring);
	int64_t done = cellos_bpf_ring_read(&state->ring, take_record, &taking);

	if (used > state->ring_peak)
		cellos_probe_stat_set(env, STAT_RING_PEAK, state->ring_peak = used);
	taking.malformed += done < 0;
	if (taking.malformed > 0) {
		cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, taking.malformed);
		cellos_probe_stat_add(env, STAT_MALFORMED, taking.malformed);
	}
	cellos_probe_stat_add(env, STAT_ROUNDS, 1);
	return done < 0 ? used : (uint64_t)done;
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

/* True when a counter has moved. */
static bool take_counters(struct connect_state *state, struct cellos_probe_env *env)
{
	uint64_t attempts = 0, lost = 0, folded = 0;
	bool moved;

	/* Each slot only grows, and one that moves just now is seen the next time. The order is for
	   lie_down, who must not look before it has said so. */
	for (unsigned at = 0; at < CONNECT_SLOTS; at++) {
		const struct connect_slot *slot = &state->shared->slots[at];

		attempts += __atomic_load_n(&slot->attempts, __ATOMIC_SEQ_CST);
		lost += __atomic_load_n(&slot->lost, __ATOMIC_SEQ_CST);
		folded += __atomic_load_n(&slot->folded, __ATOMIC_SEQ_CST);
	}
	cellos_probe_stat_set(env, STAT_ATTEMPTS, attempts);
	moved = tell(env, CELLOS_DROP_KERNEL, &state->lost, lost);
	moved |= tell(env, CELLOS_DROP_SUPPRESSED, &state->folded, folded);
	return moved;
}

static void set_asleep(struct connect_state *state, uint32_t woken_by)
{
	/* Sequentially consistent, as the look at ring and counters that follows; a program writes
	   there before it looks at the word. So an attempt is either seen now or sees that we
	   sleep. (An exchange, for TSan knows no fences.) */
	(void)__atomic_exchange_n(&state->shared->asleep, woken_by, __ATOMIC_SEQ_CST);
}

/* Until when to sleep; 0: not at all, something came meanwhile. Counters that move (`moved`) may
   move on: then a look a second has to do for them. */
static uint64_t lie_down(struct connect_state *state, struct cellos_probe_env *env, bool moved)
{
	set_asleep(state, CONNECT_WAKE_BY_RECORD | (moved ? 0 : CONNECT_WAKE_BY_FOLD));
	if (cellos_bpf_ring_used(&state->ring) > 0 || (!moved && take_counters(state, env))) {
		set_asleep(state, 0);
		return 0;
	}
	return moved ? cellos_probe_now() + CELLOS_NS_PER_S : UINT64_MAX;
}

/* Lets records gather, or only looks. False: stop. */
static bool gather(const struct cellos_probe_env *env, uint64_t linger_ns)
{
	uint64_t deadline = linger_ns == 0 ? 0 : cellos_probe_now() + linger_ns;

	return cellos_probe_wait(env->stop_fd, -1, deadline) != CELLOS_WAIT_STOP;
}

static void read_until_stop(struct connect_state *state, struct cellos_probe_env *env)
{
	const uint64_t coalesce = env->options->coalesce_ms * CELLOS_NS_PER_MS;
	enum cellos_wait_result result = CELLOS_WAIT_DEADLINE;
	uint64_t linger = 0;

	while (result != CELLOS_WAIT_STOP && gather(env, linger)) {
		uint64_t taken = take_records(state, env);
		bool moved = take_counters(state, env);
		/* Where two came within a round more are likely: no sleep, and no wake-up. */
		uint64_t deadline = taken > RECORD_BYTES ? 0 : lie_down(state, env, moved);

		linger = coalesce;
		if (deadline == 0) {
			/* There, and not to be taken: a program was preempted while it wrote. */
			if (taken == 0 && linger == 0)
				linger = CELLOS_NS_PER_MS;
			continue;
		}
		result = cellos_probe_wait(env->stop_fd, state->ring.fd, deadline);
		set_asleep(state, 0);
		if (result == CELLOS_WAIT_DEADLINE)
			linger = 0;
	}
}

static void detach(struct connect_state *state)
{
	for (unsigned at = 0; at < HOOKS; at++)
		if (state->links[at] >= 0)
			cellos_bpf_link_detach(state->links[at]);
	cellos_bpf_settle();
}

static void connect_run(void *opaque, struct cellos_probe_env *env)
{
	struct connect_state *state = opaque;

	if (state->ring.fd < 0) {
		while (cellos_probe_wait(env->stop_fd, -1, UINT64_MAX) != CELLOS_WAIT_STOP)
			;
		return;
	}
	read_until_stop(state, env);
	/* No attempt is seen after this; what was is still ours to tell. */
	detach(state);
	while (take_records(state, env) > 0)
		;
	(void)take_counters(state, env);
}

/* ---- arming --------------------------------------------------------------------------------- */

static int load(const struct connect_state *state, const struct cellos_pid_view *pids,
		const struct cellos_bpf_program *program, const char *name,
		enum bpf_attach_type attach)
{
	const struct cellos_bpf_symbol symbols[] = {
		{"events", CELLOS_BPF_MAP, (uint64_t)state->ring.fd},
		{"seen", CELLOS_BPF_MAP, (uint64_t)state->seen_fd},
		{"shared", CELLOS_BPF_MAP_MEMORY, (uint64_t)state->shared_fd},
		{"pid_mode", CELLOS_BPF_CONSTANT, pids->mode},
		{"pid_ns_device", CELLOS_BPF_CONSTANT, pids->device},
		{"pid_ns_inode", CELLOS_BPF_CONSTANT, pids->inode},
	};
	const struct cellos_bpf_load request = {
		.program = program,
		.name = name,
		.type = BPF_PROG_TYPE_CGROUP_SOCK_ADDR,
		.attach = attach,
		.symbols = symbols,
		.symbol_count = sizeof(symbols) / sizeof(symbols[0]),
	};

	return cellos_bpf_load(&request);
}

static const struct hook {
	const struct cellos_bpf_program *program;
	const char *name;
	enum bpf_attach_type attach;
} hooks[HOOKS] = {
	{&connect_bpf_connect, "cellos_connect4", BPF_CGROUP_INET4_CONNECT},
	{&connect_bpf_connect, "cellos_connect6", BPF_CGROUP_INET6_CONNECT},
	{&connect_bpf_datagram, "cellos_sendmsg4", BPF_CGROUP_UDP4_SENDMSG},
	{&connect_bpf_datagram, "cellos_sendmsg6", BPF_CGROUP_UDP6_SENDMSG},
};

/* One hook: its program lives as long as its link. *what is set when it fails. */
static int attach_hook(struct connect_state *state, struct cellos_pid_view *pids, unsigned at,
		       int root, const char **what)
{
	const struct hook *hook = &hooks[at];
	int program;

	*what = "load the program";
	program = load(state, pids, hook->program, hook->name, hook->attach);
	if (program == -EINVAL && pids->mode == CELLOS_PID_VIEW_NESTED) {
		/* Before 6.10 such a program may not translate; a wrong number is worse than none.
		 */
		pids->mode = CELLOS_PID_VIEW_UNKNOWN;
		program = load(state, pids, hook->program, hook->name, hook->attach);
	}
	if (program < 0)
		return program;
	*what = "attach to the cgroup root";
	state->links[at] = cellos_bpf_link_cgroup(program, root, hook->attach);
	close(program);
	return state->links[at] < 0 ? state->links[at] : 0;
}

static int attach_all(struct connect_state *state, struct cellos_pid_view *pids, bool *whole,
		      const char **what)
{
	int result = 0, root;

	*what = "reach the cgroup2 hierarchy";
	root = cellos_bpf_cgroup_root(whole);
	if (root < 0)
		return root;
	for (unsigned at = 0; at < HOOKS && result == 0; at++)
		result = attach_hook(state, pids, at, root, what);
	close(root);
	return result;
}

static int open_maps(struct connect_state *state, const char **what)
{
	void *shared = NULL;
	int result;

	*what = "use bpf(2)";
	state->shared_fd =
		cellos_bpf_memory("cellos_connect", sizeof(struct connect_shared), &shared);
	if (state->shared_fd < 0)
		return state->shared_fd;
	state->shared = shared;
	*what = "make a ring";
	result = cellos_bpf_ring_open(&state->ring, "cellos_connect", RING_BYTES);
	if (result < 0)
		return result;
	*what = "make a table";
	state->seen_fd =
		cellos_bpf_map("cellos_seen", BPF_MAP_TYPE_LRU_HASH,
			       sizeof(struct connect_seen_key), sizeof(uint64_t), SEEN_ENTRIES, 0);
	return state->seen_fd < 0 ? state->seen_fd : 0;
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static void connect_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct connect_state *state = opaque;

	(void)env;
	for (unsigned at = 0; at < HOOKS; at++)
		close_fd(&state->links[at]);
	cellos_bpf_ring_close(&state->ring);
	close_fd(&state->seen_fd);
	cellos_bpf_memory_unmap(state->shared, sizeof(struct connect_shared));
	state->shared = NULL;
	close_fd(&state->shared_fd);
}

/* The kernel has no such thing, or this build: nothing that the user could have had. */
static bool is_absent(int error)
{
	return error == -ENOSYS || error == -ENODEV || error == -EINVAL || error == -ENOEXEC ||
	       error == -EOPNOTSUPP;
}

static void explain(struct cellos_probe_status *status, const char *what, int error)
{
	if (error == -ENOEXEC)
		cellos_probe_why(status, "built without clang: no BPF programs inside");
	else if (error == -ENOSYS)
		cellos_probe_why(status, "no bpf(2) in this kernel (CONFIG_BPF_SYSCALL)");
	else if (error == -EINVAL && strstr(what, "program") != NULL)
		cellos_probe_why(status,
				 "cannot %s: this kernel lacks CONFIG_CGROUP_BPF or is "
				 "older than 5.12",
				 what);
	else
		cellos_probe_why(status, "cannot %s: %s", what, strerror(-error));
}

static void explain_view(struct cellos_probe_status *status, const struct cellos_pid_view *pids,
			 bool whole)
{
	const char *scope = whole ? "" : "only cgroups below this cgroup namespace's root; ";

	if (pids->mode == CELLOS_PID_VIEW_NESTED)
		cellos_probe_why(status, "%spid 0 for processes of other PID namespaces", scope);
	else if (pids->mode == CELLOS_PID_VIEW_UNKNOWN)
		cellos_probe_why(status, "%spid always 0: this kernel does not translate it here",
				 scope);
	else if (!whole)
		cellos_probe_why(status, "only cgroups below this cgroup namespace's root");
}

static void connect_arm(void *opaque, struct cellos_probe_env *env,
			struct cellos_probe_status *status)
{
	struct connect_state *state = opaque;
	struct cellos_pid_view pids;
	const char *what = "";
	bool whole = true;
	int result;

	*status = (struct cellos_probe_status){.surface = "none", .exactness = "none"};
	*state = (struct connect_state){.ring = {.fd = -1}, .shared_fd = -1, .seen_fd = -1};
	for (unsigned at = 0; at < HOOKS; at++)
		state->links[at] = -1;
	if (env->options->connect == CELLOS_CONNECT_NONE) {
		cellos_probe_why(status, "--connect none");
		return;
	}
	result = connect_bpf_connect.insn_count == 0 ? -ENOEXEC : open_maps(state, &what);
	if (result == 0) {
		cellos_pid_view_look(&pids);
		result = attach_all(state, &pids, &whole, &what);
	}
	if (result < 0) {
		connect_disarm(state, env);
		status->failed = env->options->connect == CELLOS_CONNECT_BPF || !is_absent(result);
		explain(status, what, result);
		return;
	}
	status->armed = true;
	status->surface = "bpf";
	status->exactness = "exact";
	status->kernel_bytes = RING_BYTES + SEEN_ENTRIES * SEEN_ENTRY_BYTES + KERNEL_EXTRA_BYTES;
	explain_view(status, &pids, whole);
}

const struct cellos_probe cellos_probe_connect = {
	.name = "connect",
	.help = "attempted network connections, by BPF",
	.lane = CELLOS_LANE_NET,
	.stat_names = {"attempts", "rounds", "ring_peak", "malformed"},
	.state_bytes = connect_state_bytes,
	.arm = connect_arm,
	.run = connect_run,
	.disarm = connect_disarm,
};
