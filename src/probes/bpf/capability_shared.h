/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the capability program and its probe say to each other: the record in the ring, counters and
 * settings in shared memory. Included by both sides.
 *
 * Constants: "agent_pid", in the agent's own PID namespace; "pid_ns_device" and "pid_ns_inode" as
 * program.h has them.
 */
#ifndef CELLOS_CAPABILITY_SHARED_H
#define CELLOS_CAPABILITY_SHARED_H

#include <linux/types.h>

/* Stack frames looked at. Every check that is told apart is known by its first seven. */
#define CAPABILITY_FRAMES 8u
#define CAPABILITY_RANGES 32u

/* A kernel function that stands on the stack, and what it says about the check below it. Question:
   the kernel asks for itself, nobody is refused anything; unless that is in a refusal: then the
   system call fails. */
enum capability_kind { CAPABILITY_NEITHER, CAPABILITY_QUESTION, CAPABILITY_REFUSAL };

/* Addresses are in the kernel's half; kind 0: an empty place; end == start: not known where. */
struct capability_range {
	__u64 start, end; /* [start, end) */
	__u64 kind;
};

struct capability_record {
	__u64 monotonic_ns;
	char comm[16];
	__u32 pid;
};

struct capability_shared {
	/* Counters, in a cache line of their own: the rest stays the same once armed. */
	__u64 lost;    /* denials that found the ring full */
	__u64 folded;  /* denials of a process and capability reported less than a second before */
	__u64 asides;  /* the kernel's own questions */
	__u64 foreign; /* asked of credentials that are not the current task's */
	__u64 trials;  /* before it is armed: denials of the agent's own */
	__u64 reserved[3];
	/* The probe sets it when the trials are over: from then on others' denials are reported,
	   and the agent's own are not. */
	__u32 armed;
	__u32 cred_offset; /* found out by the first trial: where a task has its credentials */
	/* Found out by the trial of accounting: two return addresses, in which words behind the
	   program's context they stand, and how often they were seen there. */
	__u64 way[2];
	__u8 way_at[2], way_hits;
	struct capability_range ranges[CAPABILITY_RANGES];
};

#endif
