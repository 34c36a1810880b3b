/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the connect programs and their probe say to each other: the record in the ring, the counters
 * in the shared page. Included by both sides.
 */
#ifndef CELLOS_CONNECT_SHARED_H
#define CELLOS_CONNECT_SHARED_H

#include <linux/types.h>

/* A power of two, so that a processor's number finds its slot by a mask. */
#define CONNECT_SLOTS 32u

struct connect_record {
	__u64 monotonic_ns;
	__u32 pid;
	__u32 reserved;
	char comm[16];
};

/* A cache line for a processor. The additions are atomic all the same: a program may be preempted
   by another task's on the same processor. */
struct connect_slot {
	__u64 lost;   /* attempts that found the ring full */
	__u64 folded; /* datagrams of a socket that was reported before */
	__u64 reserved[6];
};

/* How often folds that go on and on wake the probe. */
#define CONNECT_TELL_NS 1000000000ull

struct connect_shared {
	struct connect_slot slots[CONNECT_SLOTS];
	__u64 told; /* when a fold has woken the probe for the last time */
};

#endif
