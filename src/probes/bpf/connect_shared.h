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
	char comm[16];
};

enum connect_count {
	CONNECT_LOST,   /* attempts that found the ring full */
	CONNECT_FOLDED, /* datagrams of a socket that was reported before */
	CONNECT_LINE = 8
};

struct connect_shared {
	/* A cache line for a processor. The additions are atomic all the same: a program may be
	   preempted by another task's on the same processor. */
	__u64 slots[CONNECT_SLOTS][CONNECT_LINE];
};

#endif
