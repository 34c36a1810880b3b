/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel runs when a socket of IPv4 or IPv6 is about to connect (`connect`), or an
 * unconnected UDP socket to send (`datagram`).
 *
 * Threads: the caller's own, in the kernel, on any processor, preemptible, several at once.
 * Invariant: every run is exactly one of: a record in the ring, one more in `lost`, one more in
 * `folded`. A connect is never folded. A datagram is, when its socket is connected, or its process
 * has been reported with this socket before; where that is not known any more (the table forgets
 * the longest unused) it is reported again rather than kept silent.
 *
 * Refuses to: alter anything of the workload's; every run answers "go on". Use what a kernel older
 * than 5.12 lacks: an atomic's result.
 */
#include "program.h"

#include "connect_shared.h"

#define ALLOW 1

extern char events[]; /* ring of struct connect_record */
extern char seen[];   /* {socket cookie, tgid} -> nothing; least recently used goes first */
extern struct connect_shared shared;

CELLOS_BPF_INLINE void count(enum connect_count what)
{
	__u32 slot = bpf_get_smp_processor_id() & (CONNECT_SLOTS - 1);

	__sync_fetch_and_add(&shared.slots[slot][what], 1);
}

/* False: lost. Without flags the kernel wakes the probe only when it had read all before. */
CELLOS_BPF_INLINE int report(__u32 tgid)
{
	struct connect_record *record = bpf_ringbuf_reserve(events, sizeof(*record), 0);

	if (record == 0) {
		count(CONNECT_LOST);
		return 0;
	}
	record->monotonic_ns = bpf_ktime_get_ns();
	record->pid = cellos_bpf_guest_pid(tgid);
	bpf_get_current_comm(record->comm, sizeof(record->comm));
	bpf_ringbuf_submit(record, 0);
	return 1;
}

CELLOS_BPF_PROGRAM(connect)(struct bpf_sock_addr *context)
{
	(void)context; /* whither is nobody's business here */
	report(bpf_get_current_pid_tgid() >> 32);
	return ALLOW;
}

/* Some datagrams of a connected socket come by this hook all the same (an address given again,
   control messages); its connect has been an attempt, they are repeats.
   The record comes before the table's entry, so that a socket is known only once it is reported.
   The kernel holds the socket's lock here: no other thread comes between the look and the entry. */
CELLOS_BPF_PROGRAM(datagram)(struct bpf_sock_addr *context)
{
	const __u64 tgid = bpf_get_current_pid_tgid() >> 32, nothing = 0;
	const __u64 key[2] = {bpf_get_socket_cookie(context), tgid};
	const struct bpf_sock *socket = context->sk;

	if ((socket != 0 && socket->state == BPF_TCP_ESTABLISHED) ||
	    bpf_map_lookup_elem(seen, key) != 0)
		count(CONNECT_FOLDED);
	else if (report(tgid))
		bpf_map_update_elem(seen, key, &nothing, BPF_ANY);
	return ALLOW;
}
