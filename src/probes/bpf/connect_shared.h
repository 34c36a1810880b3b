/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the connect programs and their probe say to each other: the record in the ring, the counters
 * in the shared page, the constants. Included by both sides.
 */
#ifndef CELLOS_CONNECT_SHARED_H
#define CELLOS_CONNECT_SHARED_H

#include <linux/types.h>

/* A power of two, so that a processor's number finds its slot by a mask. */
#define CONNECT_SLOTS 32u

enum connect_kind { CONNECT_KIND_CONNECT = 1, CONNECT_KIND_DATAGRAM = 2 };

/* Constant "pid_mode"; the two others, "pid_ns_device" and "pid_ns_inode", name the agent's
   namespace for CONNECT_PID_TRANSLATED. */
enum connect_pid_mode {
	CONNECT_PID_INITIAL = 0, /* the agent is in the initial PID namespace */
	CONNECT_PID_TRANSLATED,  /* the number in the agent's namespace, or 0 */
	CONNECT_PID_UNKNOWN      /* always 0 */
};

struct connect_record {
	__u64 monotonic_ns;
	__u32 pid;
	__u32 kind;
	char comm[16];
};

/* A cache line for a processor. The additions are atomic all the same: a program may be preempted
   by another task's on the same processor. */
struct connect_slot {
	__u64 attempts; /* all; the sum of what follows and the records */
	__u64 lost;     /* those that found the ring full */
	__u64 folded;   /* datagrams of a socket that was reported before */
	__u64 reserved[5];
};

/* What shall wake the probe, in connect_shared.asleep; 0 while it looks by itself. */
#define CONNECT_WAKE_BY_RECORD 1u
#define CONNECT_WAKE_BY_FOLD 2u

struct connect_shared {
	struct connect_slot slots[CONNECT_SLOTS];
	/* Set by the probe before it lies down. Cleared by the program that wakes it, so that the
	   others need not, or by the probe. */
	__u32 asleep;
	__u32 reserved[15];
};

/* Which sockets have been reported, per process. */
struct connect_seen_key {
	__u64 cookie; /* of the socket: 64 bits, never given out twice */
	__u32 tgid;   /* in the initial PID namespace */
	__u32 reserved;
};

#endif
