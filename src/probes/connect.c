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
 * The reader: while attempts come in, it takes them in bulk, once per --coalesce-ms. When there are
 * none it sleeps; the next attempt wakes it, and that one alone pays for a wake-up. What is counted
 * wakes nobody: it is looked at once a second, as often as the host is told.
 *
 * Threads: the probe's own; arm and disarm on the main thread, before and after it. The programs
 * run in the workload's context and share the ring and one page with it.
 * Invariants: the links are open from arm to the end of run; after them nothing new is written, and
 * a last round takes what is there. Nothing is allocated after arm.
 * Refuses to: alter or hold up a connect; know where it goes.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "bpf_load.h"
#include "connect_bpf.h"
#include "connect_shared.h"
#include "probe_tables.h"
#include "probe_util.h"

/* 40 bytes an attempt, so about 6500 of them: at a hundred thousand a second, which is more than
   two processors do, 65 ms before the reader must be there. */
#define RING_BYTES (256u * 1024u)
/* Sockets that send without being connected, at one time. */
#define SEEN_ENTRIES 4096u
/* An element of a hash table that forgets: its links, key and value, and its share of the buckets;
   the kernel's own structures and, on each processor, lists of free elements come on top. */
#define KERNEL_BYTES (RING_BYTES + SEEN_ENTRIES * 96u + 64u * 1024u)

/* The first two are for connect, the others for datagrams. */
static const enum bpf_attach_type hooks[] = {BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT,
					     BPF_CGROUP_UDP4_SENDMSG, BPF_CGROUP_UDP6_SENDMSG};

enum { HOOKS = sizeof(hooks) / sizeof(hooks[0]), SEEN = HOOKS, SHARED, DESCRIPTORS };

struct connect_state {
	struct cellos_bpf_ring ring;   /* owned */
	struct connect_shared *shared; /* owned mapping */
	int fds[DESCRIPTORS];          /* owned; -1: a link for each hook, and two maps */
	uint64_t lost, folded;         /* as told to the lane */
};

static size_t connect_state_bytes(const struct cellos_probe_options *options)
{
	(void)options;
	return sizeof(struct connect_state);
}

/* ---- reading -------------------------------------------------------------------------------- */

static void take_record(void *opaque, const void *bytes, size_t length)
{
	const struct connect_record *record = bytes;

	(void)length; /* nothing else is in there */
	cellos_probe_emit(opaque, CELLOS_SOURCE_NET_CONNECT_ATTEMPTED, record->pid, record->comm,
			  strnlen(record->comm, sizeof(record->comm)), record->monotonic_ns);
}

/* True when there were records. */
static bool take_all(struct connect_state *state, struct cellos_probe_env *env)
{
	int64_t taken = cellos_bpf_ring_read(&state->ring, take_record, env);
	uint64_t lost = 0, folded = 0;

	/* Relaxed: each only grows, and one that moves just now is seen the next time. */
	for (unsigned at = 0; at < CONNECT_SLOTS; at++) {
		const __u64 *slot = state->shared->slots[at];

		lost += __atomic_load_n(&slot[CONNECT_LOST], __ATOMIC_RELAXED);
		folded += __atomic_load_n(&slot[CONNECT_FOLDED], __ATOMIC_RELAXED);
	}
	cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, lost - state->lost);
	cellos_lane_count(env->lane, CELLOS_DROP_SUPPRESSED, folded - state->folded);
	state->lost = lost;
	state->folded = folded;
	return taken > 0;
}

static void read_until_stop(struct connect_state *state, struct cellos_probe_env *env)
{
	/* Never none: what a program was preempted in the midst of writing is readable, and cannot
	   be taken. */
	const uint64_t linger =
		(env->options->coalesce_ms > 0 ? env->options->coalesce_ms : 1) * CELLOS_NS_PER_MS;
	enum cellos_wait_result result = CELLOS_WAIT_DEADLINE;

	while (result != CELLOS_WAIT_STOP) {
		bool busy = take_all(state, env) || result == CELLOS_WAIT_READABLE;

		/* While it is busy others gather, and wake nobody. */
		result = cellos_probe_wait(env->stop_fd, busy ? -1 : state->ring.fd,
					   cellos_probe_now() + (busy ? linger : CELLOS_NS_PER_S));
	}
}

static void close_all(struct connect_state *state, unsigned count)
{
	for (unsigned at = 0; at < count; at++) {
		if (state->fds[at] >= 0)
			close(state->fds[at]);
		state->fds[at] = -1;
	}
}

static void connect_run(void *opaque, struct cellos_probe_env *env)
{
	struct connect_state *state = opaque;

	if (state->ring.fd < 0) {
		(void)cellos_probe_wait(env->stop_fd, -1, UINT64_MAX);
		return;
	}
	read_until_stop(state, env);
	/* No attempt is seen after this; what was is still ours to tell. */
	close_all(state, HOOKS);
	cellos_bpf_settle();
	(void)take_all(state, env);
}

/* ---- arming --------------------------------------------------------------------------------- */

/* One hook: its program lives as long as its link. */
static int attach(struct connect_state *state, const struct cellos_pid_view *pids, unsigned hook,
		  int root, const char **what)
{
	const struct cellos_bpf_symbol symbols[] = {
		{"events", CELLOS_BPF_MAP, (uint64_t)state->ring.fd},
		{"seen", CELLOS_BPF_MAP, (uint64_t)state->fds[SEEN]},
		{"shared", CELLOS_BPF_MAP_MEMORY, (uint64_t)state->fds[SHARED]},
		{"pid_ns_device", CELLOS_BPF_CONSTANT, pids->device},
		{"pid_ns_inode", CELLOS_BPF_CONSTANT, pids->inode},
	};
	int program = cellos_bpf_load(hook < 2 ? &connect_bpf_connect : &connect_bpf_datagram,
				      BPF_PROG_TYPE_CGROUP_SOCK_ADDR, hooks[hook], symbols,
				      sizeof(symbols) / sizeof(symbols[0]));

	*what = "load the program (CONFIG_CGROUP_BPF, Linux 5.8)";
	if (program < 0)
		return program;
	*what = "attach to the cgroup root";
	state->fds[hook] = cellos_bpf_link_cgroup(program, root, hooks[hook]);
	close(program);
	return state->fds[hook];
}

/* -errno, and *what could not be done; what is open by then is for disarm. Else *scope says what of
   the machine is not seen. */
static int open_all(struct connect_state *state, struct cellos_pid_view *pids, const char **scope,
		    const char **what)
{
	int ring = cellos_bpf_ring_open(&state->ring, "cellos_connect", RING_BYTES);
	int seen = cellos_bpf_map("cellos_seen", BPF_MAP_TYPE_LRU_HASH, 2 * sizeof(uint64_t),
				  sizeof(uint64_t), SEEN_ENTRIES, 0);
	int shared = cellos_bpf_memory("cellos_connect", sizeof(*state->shared),
				       (void **)&state->shared);
	int root, result = 0;

	state->fds[SEEN] = seen;
	state->fds[SHARED] = shared;
	*what = "use bpf(2) (CONFIG_BPF_SYSCALL)";
	if (ring < 0 || seen < 0 || shared < 0)
		return ring < 0 ? ring : seen < 0 ? seen : shared;
	*what = "reach the cgroup2 hierarchy";
	root = cellos_bpf_mount("cgroup2");
	if (root < 0)
		return root;
	/* Every cgroup but the true root has this file. */
	if (faccessat(root, "cgroup.type", F_OK, 0) == 0)
		*scope = "only cgroups below this cgroup namespace's root";
	for (unsigned hook = 0; hook < HOOKS && result >= 0; hook++) {
		result = attach(state, pids, hook, root, what);
		if (result == -EINVAL && pids->device != 0) {
			/* Before 6.10 it may not translate; a wrong number is worse than none. */
			pids->device = 0;
			result = attach(state, pids, hook, root, what);
		}
	}
	close(root);
	return result;
}

static void connect_disarm(void *opaque, struct cellos_probe_env *env)
{
	struct connect_state *state = opaque;

	(void)env;
	close_all(state, DESCRIPTORS);
	cellos_bpf_ring_close(&state->ring);
	cellos_bpf_memory_unmap(state->shared, sizeof(*state->shared));
	state->shared = NULL;
}

/* The kernel has no such thing: nothing that the user could have had. */
static bool is_absent(int error)
{
	return error == -ENOSYS || error == -ENODEV || error == -EINVAL || error == -EOPNOTSUPP;
}

static void try_bpf(struct connect_state *state, struct cellos_probe_env *env,
		    struct cellos_probe_status *status)
{
	const char *what = "", *scope = "", *numbers;
	struct cellos_pid_view pids;
	int result;

	cellos_pid_view_look(&pids);
	result = open_all(state, &pids, &scope, &what);
	if (result < 0) {
		connect_disarm(state, env);
		status->failed |= !is_absent(result);
		cellos_probe_why(status, "cannot %s: %s", what, strerror(-result));
		return;
	}
	*status = (struct cellos_probe_status){.armed = true,
					       .surface = "bpf",
					       .exactness = "exact",
					       .kernel_bytes = KERNEL_BYTES};
	numbers = pids.inode == 0    ? ""
		  : pids.device != 0 ? "pid 0 for processes of other PID namespaces"
				     : "pid always 0: this kernel does not translate it here";
	cellos_probe_why(status, "%s%s%s", scope, *scope && *numbers ? "; " : "", numbers);
}

static void connect_arm(void *opaque, struct cellos_probe_env *env,
			struct cellos_probe_status *status)
{
	const enum cellos_connect_choice choice = env->options->connect;
	struct connect_state *state = opaque;

	*state = (struct connect_state){.ring = {.fd = -1}, .fds = {-1, -1, -1, -1, -1, -1}};
	*status = (struct cellos_probe_status){.surface = "none",
					       .exactness = "none",
					       .failed = choice == CELLOS_CONNECT_BPF,
					       .fell_back = choice == CELLOS_CONNECT_AUTO};
	if (choice == CELLOS_CONNECT_NONE)
		cellos_probe_why(status, "--connect none");
	else if (connect_bpf_connect.insn_count == 0)
		cellos_probe_why(status, "built without clang: no BPF programs inside");
	else
		try_bpf(state, env, status);
}

const struct cellos_probe cellos_probe_connect = {
	.name = "connect",
	.help = "attempted network connections, by BPF",
	.lane = CELLOS_LANE_NET,
	.state_bytes = connect_state_bytes,
	.arm = connect_arm,
	.run = connect_run,
	.disarm = connect_disarm,
};
