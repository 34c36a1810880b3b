/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel runs when a socket of IPv4 or IPv6 is about to connect (`connect`), or an
 * unconnected UDP socket to send (`datagram`).
 *
 * Threads: the caller's own, in the kernel, on any processor, preemptible, several at once.
 * Invariant: every run is one more in `attempts`, and exactly one of a record in the ring, one more
 * in `lost`, one more in `folded`. A connect is never folded. A datagram is, when its socket is
 * connected, or its process has been reported with this socket before; where that is not known any
 * more (the table forgets the longest unused) it is reported again rather than kept silent.
 *
 * Refuses to: alter anything of the workload's; every run answers "go on".
 */
#include "program.h"

#include "connect_shared.h"

#define ALLOW 1

extern char events[]; /* ring of struct connect_record */
extern char seen[];   /* struct connect_seen_key -> nothing; least recently used goes first */
extern struct connect_shared shared;

CELLOS_BPF_INLINE __u32 guest_pid(void)
{
	__u64 mode = CELLOS_BPF_READ_CONSTANT(pid_mode);

	if (mode == CONNECT_PID_INITIAL)
		return bpf_get_current_pid_tgid() >> 32;
	if (mode == CONNECT_PID_TRANSLATED) {
		struct bpf_pidns_info info;

		if (bpf_get_ns_current_pid_tgid(CELLOS_BPF_READ_CONSTANT(pid_ns_device),
						CELLOS_BPF_READ_CONSTANT(pid_ns_inode), &info,
						sizeof(info)) == 0)
			return info.tgid;
	}
	return 0;
}

CELLOS_BPF_INLINE struct connect_slot *slot(void)
{
	return &shared.slots[bpf_get_smp_processor_id() & (CONNECT_SLOTS - 1)];
}

CELLOS_BPF_INLINE void fill(struct connect_record *record, __u32 kind)
{
	record->monotonic_ns = bpf_ktime_get_ns();
	record->pid = guest_pid();
	record->kind = kind;
	bpf_get_current_comm(record->comm, sizeof(record->comm));
}

/*
 * Counts the attempt and says whether the probe sleeps and wants to be woken for this. The addition
 * orders what this program has done before the look at `asleep`; the probe sets that before it
 * looks at ring and counters for the last time. So one of the two sees the other, and a wake-up
 * costs nobody anything while the probe is up anyway.
 */
CELLOS_BPF_INLINE int must_wake(__u32 by)
{
	volatile __u32 *asleep = &shared.asleep;

	CELLOS_BPF_ADD_ORDERED(&slot()->attempts, 1);
	return (*asleep & by) != 0;
}

CELLOS_BPF_INLINE void wake_is_on_its_way(void)
{
	*(volatile __u32 *)&shared.asleep = 0; /* two at once wake it twice: no harm */
}

CELLOS_BPF_INLINE void submit(struct connect_record *record)
{
	if (must_wake(CONNECT_WAKE_BY_RECORD)) {
		wake_is_on_its_way();
		bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
	} else {
		bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	}
}

/* A full ring needs no wake-up: whoever wrote the first of those records saw to it. */
CELLOS_BPF_INLINE void count_loss(void)
{
	__sync_fetch_and_add(&slot()->lost, 1);
	(void)must_wake(0);
}

/* A discarded record carries the wake-up; it is reserved before `asleep` is cleared, so that no
   wake-up is promised that finds no room. */
CELLOS_BPF_INLINE void count_fold(void)
{
	void *nothing;

	__sync_fetch_and_add(&slot()->folded, 1);
	if (!must_wake(CONNECT_WAKE_BY_FOLD))
		return;
	nothing = bpf_ringbuf_reserve(events, 8, 0);
	if (nothing != 0) {
		wake_is_on_its_way();
		bpf_ringbuf_discard(nothing, BPF_RB_FORCE_WAKEUP);
	}
}

CELLOS_BPF_INLINE struct connect_seen_key seen_key(void *context)
{
	return (struct connect_seen_key){.cookie = bpf_get_socket_cookie(context),
					 .tgid = bpf_get_current_pid_tgid() >> 32};
}

CELLOS_BPF_PROGRAM(connect)(struct bpf_sock_addr *context)
{
	struct connect_record *record = bpf_ringbuf_reserve(events, sizeof(*record), 0);

	(void)context; /* whither is nobody's business here */
	if (record == 0) {
		count_loss();
		return ALLOW;
	}
	fill(record, CONNECT_KIND_CONNECT);
	submit(record);
	return ALLOW;
}

/* Some datagrams of a connected socket come by this hook all the same (an address given again,
   control messages); its connect has been an attempt, they are repeats. */
CELLOS_BPF_INLINE int is_connected(struct bpf_sock_addr *context)
{
	struct bpf_sock *socket = context->sk;

	return socket != 0 && socket->state == BPF_TCP_ESTABLISHED;
}

/* The record comes before the table's entry, so that a socket is known only once it is reported.
   The kernel holds the socket's lock here: no other thread comes between the look and the entry. */
CELLOS_BPF_PROGRAM(datagram)(struct bpf_sock_addr *context)
{
	struct connect_seen_key key;
	struct connect_record *record;
	__u64 nothing = 0;

	if (is_connected(context)) {
		count_fold();
		return ALLOW;
	}
	key = seen_key(context);
	if (bpf_map_lookup_elem(seen, &key) != 0) {
		count_fold();
		return ALLOW;
	}
	record = bpf_ringbuf_reserve(events, sizeof(*record), 0);
	if (record == 0) {
		count_loss();
		return ALLOW;
	}
	bpf_map_update_elem(seen, &key, &nothing, BPF_ANY);
	fill(record, CONNECT_KIND_DATAGRAM);
	submit(record);
	return ALLOW;
}
