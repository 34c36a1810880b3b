/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel runs after each check of a capability, by its tracepoint `cap_capable`.
 *
 * Threads: it runs in the thread of whoever was checked, on any processor, several at once.
 * Invariant: every denial of a process's own credentials, once the probe is armed, ends as exactly
 * one of: a record in the ring; one more in `lost`; one more in `folded`; one more in `asides` (the
 * kernel asked for itself, nobody was refused anything). What the agent itself is denied is not
 * counted there.
 * Refuses to: alter anything; sleep; know the kernel's structures beyond what the probe found out.
 */
#include "program.h"

#include "capability_shared.h"

/* The tracepoint's arguments: credentials, target namespace, capable namespace, number, result. */
#define ARG_CRED 0
#define ARG_CAPABILITY 3
#define ARG_RESULT 4

extern char events[]; /* ring of struct capability_record */
extern struct capability_shared shared;
extern struct capability_fold fold;

CELLOS_BPF_HELPER(__u64, get_current_task, void);
CELLOS_BPF_HELPER(long, probe_read_kernel, void *out, __u32 bytes, const void *address);

CELLOS_BPF_INLINE struct capability_slot *slot(void)
{
	return &shared.slots[bpf_get_smp_processor_id() & (CAPABILITY_SLOTS - 1)];
}

/* ---- finding out ---------------------------------------------------------------------------- */

/* The agent has just changed its credentials, so that their address is in its task exactly twice,
   side by side: as they are for others (real_cred), and as they are for itself (cred). The search
   is the probe's: here, the kernel would walk through every round of it before it takes the
   program. What cannot be read stays zero. */
CELLOS_BPF_PROGRAM(learn)(struct bpf_raw_tracepoint_args *context)
{
	const char *task = (const char *)bpf_get_current_task();
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if ((__s32)context->args[ARG_RESULT] == 0 ||
	    cellos_bpf_guest_pid(tgid) != CELLOS_BPF_READ_CONSTANT(agent_pid))
		return 0;
	shared.self.tgid = tgid;
	shared.self.cred = context->args[ARG_CRED];
#pragma unroll
	for (__u32 at = 0; at < CAPABILITY_TASK_BYTES; at += CAPABILITY_TASK_PIECE)
		bpf_probe_read_kernel(&shared.task[at / 8], CAPABILITY_TASK_PIECE, task + at);
	return 0;
}

/* ---- telling apart -------------------------------------------------------------------------- */

CELLOS_BPF_INLINE int is_own(__u64 cred)
{
	const char *task = (const char *)bpf_get_current_task();
	__u64 own = 0;

	bpf_probe_read_kernel(&own, sizeof(own), task + CELLOS_BPF_READ_CONSTANT(cred_offset));
	return own == cred;
}

/* The context is on the kernel's stack, so what stands behind it are the callers' frames. */
CELLOS_BPF_INLINE __u64 stack_word(struct bpf_raw_tracepoint_args *context, __u32 at)
{
	__u64 word = 0;

	bpf_probe_read_kernel(&word, sizeof(word),
			      (char *)context + (at & (CAPABILITY_STACK_BYTES - 8)));
	return word;
}

CELLOS_BPF_INLINE int is_accounting(struct bpf_raw_tracepoint_args *context)
{
	const struct capability_shortcut *way = &shared.shortcut;

	return way->outer_at != 0 && stack_word(context, way->outer_at) == way->outer &&
	       stack_word(context, way->inner_at) == way->inner;
}

/* All ones when `frame` is in the range, else zero. Without a branch, for the kernel follows each
   of them before it takes the program, and there are a hundred rounds. */
CELLOS_BPF_INLINE __u64 in_range(const struct capability_range *range, __u64 frame)
{
	return (__s64)((range->start - 1 - frame) & (frame - range->end)) >> 63;
}

CELLOS_BPF_INLINE int is_refusal(__u64 caller)
{
	__u64 found = 0;

	for (__u32 at = 0; at < CAPABILITY_REFUSALS; at++)
		found |= in_range(&shared.refusals[at], caller);
	return found != 0;
}

CELLOS_BPF_INLINE int is_aside(const __u64 *frames)
{
	__u64 caller = 0;

	for (__u32 frame = 0; frame < CAPABILITY_FRAMES; frame++) {
		__u64 aside = 0, noaudit = 0;

		for (__u32 at = 0; at < CAPABILITY_QUESTIONS; at++) {
			const struct capability_range *range = &shared.questions[at];
			__u64 found = in_range(range, frames[frame]);

			aside |= found & range->aside;
			noaudit |= found & range->noaudit;
		}
		if (aside)
			return 1;
		/* Of several, the last one's caller. */
		if (frame + 1 < CAPABILITY_FRAMES)
			caller = (caller & ~noaudit) | (frames[frame + 1] & noaudit);
	}
	return caller != 0 && !is_refusal(caller);
}

CELLOS_BPF_INLINE void remember_self(struct bpf_raw_tracepoint_args *context, int aside,
				     const __u64 *frames)
{
	for (__u32 at = 0; at < CAPABILITY_FRAMES; at++)
		shared.self.frames[at] = frames[at];
	bpf_probe_read_kernel(shared.self.stack, CAPABILITY_STACK_BYTES, context);
	if (aside)
		shared.self.asides++;
	else
		shared.self.denials++;
}

/* ---- folding -------------------------------------------------------------------------------- */

#define TIME_MASK ((1ULL << CAPABILITY_FOLD_TIME_BITS) - 1)

struct place {
	__u64 *word; /* the one to claim; 0: reported already */
	__u64 before, after;
};

/* Where this denial is noted: the word of its own, else the oldest of its set. */
CELLOS_BPF_INLINE void find_place(struct place *place, __u32 tgid, __u32 capability, __u64 now_ms)
{
	__u64 key = (__u64)tgid << 6 | (capability & 63), oldest = 0;
	/* Fibonacci hashing: the top bits of the product depend on all bits of the key. */
	__u32 set = (key * 0x9E3779B97F4A7C15ULL) >> 54;
	volatile __u64 *words =
		&fold.words[(set & (CAPABILITY_FOLD_SETS - 1)) * CAPABILITY_FOLD_WAYS];

	place->word = 0;
	place->after = key << CAPABILITY_FOLD_TIME_BITS | (now_ms & TIME_MASK);
	for (__u32 way = 0; way < CAPABILITY_FOLD_WAYS; way++) {
		__u64 word = words[way], age = (now_ms - word) & TIME_MASK;
		int mine = word >> CAPABILITY_FOLD_TIME_BITS == key;

		/* A time after ours is another processor's, which looked at the clock later. */
		if (mine && (age < CAPABILITY_FOLD_WINDOW_MS || age > TIME_MASK / 2)) {
			place->word = 0;
			return;
		}
		if (mine || word == 0)
			age = TIME_MASK;
		if (place->word == 0 || mine || age > oldest) {
			place->word = (__u64 *)&words[way];
			place->before = word;
			oldest = age;
		}
		if (mine)
			return;
	}
}

CELLOS_BPF_INLINE void report(__u32 tgid, __u32 capability)
{
	struct capability_record *record;
	__u64 now = bpf_ktime_get_ns();
	struct place place;

	find_place(&place, tgid, capability, now / 1000000);
	if (place.word == 0) {
		__sync_fetch_and_add(&slot()->folded, 1);
		return;
	}
	/* Room before the claim: a denial that found none must not silence the next one. */
	record = bpf_ringbuf_reserve(events, sizeof(*record), 0);
	if (record == 0) {
		__sync_fetch_and_add(&slot()->lost, 1);
		return;
	}
	record->monotonic_ns = now;
	record->pid = cellos_bpf_guest_pid(tgid);
	record->capability = capability;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	if (__sync_val_compare_and_swap(place.word, place.before, place.after) == place.before) {
		bpf_ringbuf_submit(record, 0);
		return;
	}
	/* Somebody was quicker in this set. The same denial on another processor: a repeat. Another
	   one: then this one goes out unnoted, and its repeat will be reported once more. */
	find_place(&place, tgid, capability, now / 1000000);
	if (place.word != 0) {
		bpf_ringbuf_submit(record, 0);
		return;
	}
	bpf_ringbuf_discard(record, 0);
	__sync_fetch_and_add(&slot()->folded, 1);
}

CELLOS_BPF_PROGRAM(denied)(struct bpf_raw_tracepoint_args *context)
{
	__u32 tgid = bpf_get_current_pid_tgid() >> 32;
	__u64 frames[CAPABILITY_FRAMES] = {0};
	int self, aside;

	if ((__s32)context->args[ARG_RESULT] == 0)
		return 0;
	self = tgid == CELLOS_BPF_READ_CONSTANT(agent_tgid);
	if (!self && !shared.self.armed)
		return 0;
	if (!is_own(context->args[ARG_CRED])) {
		__sync_fetch_and_add(&slot()->foreign, 1);
		return 0;
	}
	aside = is_accounting(context);
	if (!aside) {
		/* A stack that cannot be had leaves zeros: then it counts as a denial. */
		bpf_get_stack(context, frames, sizeof(frames), 0);
		aside = is_aside(frames);
	}
	if (self)
		remember_self(context, aside, frames);
	else if (aside)
		__sync_fetch_and_add(&slot()->asides, 1);
	else
		report(tgid, context->args[ARG_CAPABILITY]);
	return 0;
}
