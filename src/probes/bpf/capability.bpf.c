/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel runs after each check of a capability, by its tracepoint `cap_capable`.
 *
 * Threads: it runs in the thread of whoever was checked, on any processor, several at once.
 * Invariant: every denial of a process's own credentials, once the probe is armed, ends as exactly
 * one of: a record in the ring; one more in `lost`; one more in `folded`; one more in `asides` (the
 * kernel asked for itself, nobody was refused anything). The agent's own count nowhere.
 * Refuses to: alter anything; sleep; know the kernel's structures beyond what a trial has shown.
 */
#include "program.h"

#include "capability_shared.h"

#define FOLD_NS 1000000000LL
#define EXISTS (-17L) /* -EEXIST */
/* The credentials stand within this much of the kernel's task. */
#define TASK_BYTES 8192u

extern char events[]; /* ring of struct capability_record */
extern char recent[]; /* (tgid, capability): when that was last reported */
extern struct capability_shared shared;

CELLOS_BPF_HELPER(__u64, get_current_task, void);
CELLOS_BPF_HELPER(long, probe_read_kernel, void *out, __u32 bytes, const void *address);

/* 0: of another PID namespace, not below the agent's. */
CELLOS_BPF_INLINE __u32 guest_pid(__u32 tgid)
{
	const __u64 inode = CELLOS_BPF_READ_CONSTANT(pid_ns_inode);
	struct bpf_pidns_info info = {.tgid = tgid};

	if (inode != 0 && bpf_get_ns_current_pid_tgid(CELLOS_BPF_READ_CONSTANT(pid_ns_device),
						      inode, &info, sizeof(info)) != 0)
		return 0;
	return info.tgid;
}

/* A kernel without BTF does not say where it is. But the agent has just changed its credentials, so
   their address is in its task exactly twice, side by side: as they are for others (real_cred), and
   as they are for itself (cred). */
CELLOS_BPF_INLINE void find_cred(__u64 cred)
{
	const char *task = (const char *)bpf_get_current_task();
	__u64 pair[2] = {0};

	for (__u32 at = 0; at < TASK_BYTES; at += sizeof(cred)) {
		bpf_probe_read_kernel(pair, sizeof(pair), task + at);
		if (pair[0] == cred && pair[1] == cred) {
			shared.cred_offset = at + sizeof(cred);
			return;
		}
	}
}

CELLOS_BPF_INLINE int is_callers(__u64 cred)
{
	const char *task = (const char *)bpf_get_current_task();
	__u64 own = 0;

	bpf_probe_read_kernel(&own, sizeof(own), task + shared.cred_offset);
	return own == cred;
}

/* Without a branch in the loops, for the kernel follows each of them before it takes the program. A
   stack that cannot be had leaves zeros: then it counts as a denial. */
CELLOS_BPF_INLINE int is_aside(struct bpf_raw_tracepoint_args *context)
{
	__u64 frames[CAPABILITY_FRAMES] = {0}, seen = 0;

	bpf_get_stack(context, frames, sizeof(frames), 0);
	for (__u32 at = 0; at < CAPABILITY_RANGES; at++) {
		const struct capability_range *range = &shared.ranges[at];
		__u64 inside = 0;

#pragma unroll
		for (__u32 frame = 0; frame < CAPABILITY_FRAMES; frame++)
			inside |= (range->start - 1 - frames[frame]) & (frames[frame] - range->end);
		/* All ones when the sign says that both differences were negative. */
		seen |= (__u64)((__s64)inside >> 63) & range->kind;
	}
	return seen == CAPABILITY_QUESTION;
}

CELLOS_BPF_INLINE void report(__u32 tgid, __u32 pid, __u32 capability)
{
	__u64 key = (__u64)tgid << 32 | capability, now = bpf_ktime_get_ns();
	__u64 *last = bpf_map_lookup_elem(recent, &key), before = last ? *last : 0;
	struct capability_record *record;

	/* Signed: another processor, which looked at the clock later, may have been quicker. */
	if (last && (__s64)(now - before) < FOLD_NS) {
		__sync_fetch_and_add(&shared.folded, 1);
		return;
	}
	/* Room before the claim: a denial that found none must not silence the next one. */
	record = bpf_ringbuf_reserve(events, sizeof(*record), 0);
	if (!record) {
		__sync_fetch_and_add(&shared.lost, 1);
		return;
	}
	/* Of two threads that are refused at once, one reports. Where nothing can be noted, for
	   want of room, the repeat is reported once more. */
	if (last ? __sync_val_compare_and_swap(last, before, now) != before
		 : bpf_map_update_elem(recent, &key, &now, BPF_NOEXIST) == EXISTS) {
		bpf_ringbuf_discard(record, 0);
		__sync_fetch_and_add(&shared.folded, 1);
		return;
	}
	record->monotonic_ns = now;
	record->pid = pid;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	bpf_ringbuf_submit(record, 0);
}

CELLOS_BPF_PROGRAM(denied)(struct bpf_raw_tracepoint_args *context)
{
	/* Credentials, target namespace, capable namespace, number, result. */
	const __u64 cred = context->args[0], capability = context->args[3];
	__u32 tgid = bpf_get_current_pid_tgid() >> 32, pid = guest_pid(tgid), armed = shared.armed;

	/* Before it is armed, the agent's alone; then everybody else's. */
	if ((__s32)context->args[4] == 0 || (pid == CELLOS_BPF_READ_CONSTANT(agent_pid)) == armed)
		return 0;
	if (shared.cred_offset == 0)
		find_cred(cred);
	else if (!is_callers(cred))
		__sync_fetch_and_add(&shared.foreign, 1);
	else if (is_aside(context))
		__sync_fetch_and_add(&shared.asides, 1);
	else if (!armed)
		__sync_fetch_and_add(&shared.trials, 1);
	else
		report(tgid, pid, capability);
	return 0;
}
