/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the capability program and its probe say to each other: the record in the ring, the counters
 * and the settings in shared memory, the constants. Included by both sides.
 */
#ifndef CELLOS_CAPABILITY_SHARED_H
#define CELLOS_CAPABILITY_SHARED_H

#include <linux/types.h>

/* A power of two, so that a processor's number finds its slot by a mask. */
#define CAPABILITY_SLOTS 32u
/* Stack frames looked at. Every check that is told apart is known by its first seven. */
#define CAPABILITY_FRAMES 8u
#define CAPABILITY_QUESTIONS 16u
#define CAPABILITY_REFUSALS 24u
/* Of the kernel's stack, from the program's context up. */
#define CAPABILITY_STACK_BYTES 512u
/* The credentials stand within this much of the kernel's task, copied in pieces. */
#define CAPABILITY_TASK_BYTES 8192u
#define CAPABILITY_TASK_PIECE 2048u

/* Constants: "pid_ns_device" and "pid_ns_inode" name the agent's PID namespace, and "agent_pid" is
   its number there. What `learn` finds out become constants of `denied`: "agent_tgid", and
   "cred_offset" in bytes. */

/* A function on the stack, and what it says about the check below it. Both masks are zero for a
   refusal: a caller that asks without audit and fails the call. Addresses are in the kernel's half;
   end 0: an empty place. */
struct capability_range {
	__u64 start, end; /* [start, end) */
	__u64 aside;      /* all ones: the kernel asks for itself, nobody is refused anything */
	__u64 noaudit;    /* all ones: the same, unless the caller is a refusal */
};

struct capability_record {
	__u64 monotonic_ns;
	__u32 pid;
	__u32 capability;
	char comm[16];
};

/* A cache line for a processor. The additions are atomic all the same: a program may be preempted
   by another task's on the same processor. */
struct capability_slot {
	__u64 lost;    /* denials that found the ring full */
	__u64 folded;  /* denials of a process and capability reported less than a second before */
	__u64 asides;  /* the kernel's own questions */
	__u64 foreign; /* asked of credentials that are not the current task's */
	__u64 reserved[4];
};

/* How the program and the probe find out about this kernel: the agent has itself refused something
   and looks at what that was like. */
struct capability_self {
	__u32 armed;                     /* set by the probe: from now on others' denials count */
	__u32 tgid;                      /* learnt: the agent, in the initial PID namespace */
	__u64 cred;                      /* learnt: what it was refused with */
	__u64 denials, asides;           /* the agent's own, which are never reported */
	__u64 frames[CAPABILITY_FRAMES]; /* the last one's stack, */
	__u64 stack[CAPABILITY_STACK_BYTES / 8]; /* and the memory that it was found in */
};

/* Two return addresses and where they stand, in bytes behind the program's context, while the
   kernel accounts for a mapping: that of the tracepoint in its caller, and the caller's own. Seen
   there, they settle the most frequent question of all without a walk up the stack, which takes ten
   times as long. The first makes sure that the second is what it seems: it is elsewhere when the
   kernel comes another way. `outer_at` 0: not known. */
struct capability_shortcut {
	__u64 inner, outer;
	__u32 inner_at, outer_at;
};

struct capability_shared {
	struct capability_slot slots[CAPABILITY_SLOTS];
	struct capability_self self;
	struct capability_shortcut shortcut;
	struct capability_range questions[CAPABILITY_QUESTIONS];
	struct capability_range refusals[CAPABILITY_REFUSALS];
	__u64 task[CAPABILITY_TASK_BYTES / 8]; /* learnt; zero again when searched */
};

/* Who was reported when: sets of four words, each (tgid and capability) << 36 | milliseconds. A
   word is claimed by one exchange, so of two threads that are refused at once one reports. */
#define CAPABILITY_FOLD_SETS 1024u
#define CAPABILITY_FOLD_WAYS 4u
#define CAPABILITY_FOLD_TIME_BITS 36u
#define CAPABILITY_FOLD_WINDOW_MS 1000u

struct capability_fold {
	__u64 words[CAPABILITY_FOLD_SETS * CAPABILITY_FOLD_WAYS];
};

#endif
