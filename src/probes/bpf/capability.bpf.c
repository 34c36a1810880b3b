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
/* Of the stack, the callers' frames within this much. */
#define STACK_WORDS 64u

extern char events[]; /* ring of struct capability_record */
extern char recent[]; /* (tgid, capability): when that was last reported */
extern struct capability_shared shared;

CELLOS_BPF_HELPER(__u64, get_current_task, void);
CELLOS_BPF_HELPER(long, probe_read_kernel, void *out, __u32 bytes, const void *address);

CELLOS_BPF_INLINE __u64 word_at(const char *address)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word), address);
	return word;
}

/* A kernel without BTF does not say where it is. But the agent has just changed its credentials, so
   their address is in its task exactly twice, side by side: as they are for others (real_cred), and
   as they are for itself (cred). */
CELLOS_BPF_INLINE void find_cred(const char *task, __u64 cred)
{
	for (__u32 at = 8; at < TASK_BYTES; at += 8)
		if (word_at(task + at - 8) == cred && word_at(task + at) == cred) {
			shared.cred_offset = at;
			return;
		}
}

/* The walk up the stack takes ten times as long as all the rest, and most of what is asked is asked
   by accounting. So the trial of that leaves behind where two return addresses are: the one into
   accounting, and the one below it, which makes sure that the first is what it seems: it is
   elsewhere when the kernel comes another way. Of use only where each is there once. (The context
   is on the kernel's stack, so what stands behind it are the callers' frames.) */
CELLOS_BPF_INLINE void learn_way(const char *context, __u64 below, __u64 into)
{
	shared.way[0] = below;
	shared.way[1] = into;
	for (__u32 at = 0; at < STACK_WORDS; at++)
		for (__u32 which = 0; which < 2; which++)
			if (word_at(context + at * 8) == shared.way[which]) {
				shared.way_at[which] = at;
				shared.way_hits++;
			}
}

/* Without a branch in the inner loop, for the kernel follows each before it takes the program. A
   stack that cannot be had leaves zeros: then it counts as a denial. */
CELLOS_BPF_INLINE int is_aside(void *context)
{
	__u64 frames[CAPABILITY_FRAMES] = {0}, seen = 0, below = 0, into = 0;

	if (shared.way_hits == 2 && word_at(context + shared.way_at[1] * 8) == shared.way[1] &&
	    word_at(context + shared.way_at[0] * 8) == shared.way[0])
		return 1;
	bpf_get_stack(context, frames, sizeof(frames), 0);
#pragma unroll
	for (__u32 frame = 1; frame < CAPABILITY_FRAMES; frame++) {
		__u64 found = 0;

		for (__u32 at = 0; at < CAPABILITY_RANGES; at++) {
			const struct capability_range *range = &shared.ranges[at];
			/* Negative when both differences are. */
			__s64 inside =
				(range->start - 1 - frames[frame]) & (frames[frame] - range->end);

			found |= (__u64)(inside >> 63) & range->kind;
		}
		if (found && !seen) {
			below = frames[frame - 1];
			into = frames[frame];
		}
		seen |= found;
	}
	if (into != 0 && !shared.armed && shared.trials == 1 && shared.asides == 0)
		learn_way(context, below, into);
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
	const char *task;
	__u32 tgid, pid, armed;

	/* Most are granted: those must cost next to nothing. */
	if ((__s32)context->args[4] == 0)
		return 0;
	task = (const char *)bpf_get_current_task();
	tgid = bpf_get_current_pid_tgid() >> 32;
	pid = cellos_bpf_guest_pid(tgid);
	armed = shared.armed;
	/* Before it is armed, the agent's alone; then everybody else's. */
	if ((pid == CELLOS_BPF_READ_CONSTANT(agent_pid)) == armed)
		return 0;
	if (shared.cred_offset == 0)
		find_cred(task, cred);
	else if (word_at(task + shared.cred_offset) != cred)
		__sync_fetch_and_add(&shared.foreign, 1);
	else if (is_aside(context))
		__sync_fetch_and_add(&shared.asides, 1);
	else if (!armed)
		__sync_fetch_and_add(&shared.trials, 1);
	else
		report(tgid, pid, capability);
	return 0;
}
