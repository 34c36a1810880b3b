/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What every BPF program of ours is written with: the kernel's helpers by their numbers, and names
 * that the loader fills in. Included by *.bpf.c alone.
 *
 * A map is `extern char name[]`, a map's memory `extern struct x name`, a number
 * CELLOS_BPF_READ_CONSTANT(name); bpf_load.h says how each gets its value. No BTF, no data sections
 * and no functions but inlined ones: kernels that guests run know no more, and the loader none of
 * it.
 */
#ifndef CELLOS_BPF_PROGRAM_H
#define CELLOS_BPF_PROGRAM_H

#include <linux/bpf.h>

#define CELLOS_BPF_PROGRAM(name) __attribute__((section(#name), used)) int name##_program
#define CELLOS_BPF_INLINE static inline __attribute__((always_inline))

/* Opaque to the compiler, so that no branch on it is decided before the loader has set it. */
#define CELLOS_BPF_READ_CONSTANT(name)                                                             \
	({                                                                                         \
		__u64 cellos_value;                                                                \
		__asm__ volatile("%0 = " #name " ll" : "=r"(cellos_value));                        \
		cellos_value;                                                                      \
	})

#define CELLOS_BPF_HELPER(result, name, ...)                                                       \
	static result (*const bpf_##name)(__VA_ARGS__) = (void *)BPF_FUNC_##name

CELLOS_BPF_HELPER(void *, map_lookup_elem, void *map, const void *key);
CELLOS_BPF_HELPER(long, map_update_elem, void *map, const void *key, const void *value,
		  __u64 flags);
CELLOS_BPF_HELPER(__u64, ktime_get_ns, void);
CELLOS_BPF_HELPER(__u32, get_smp_processor_id, void);
CELLOS_BPF_HELPER(__u64, get_current_pid_tgid, void);
CELLOS_BPF_HELPER(long, get_current_comm, void *out, __u32 bytes);
CELLOS_BPF_HELPER(__u64, get_socket_cookie, void *context);
CELLOS_BPF_HELPER(long, get_stack, void *context, void *out, __u32 bytes, __u64 flags);
CELLOS_BPF_HELPER(long, get_ns_current_pid_tgid, __u64 device, __u64 inode,
		  struct bpf_pidns_info *out, __u32 bytes);
CELLOS_BPF_HELPER(void *, ringbuf_reserve, void *ring, __u64 bytes, __u64 flags);
CELLOS_BPF_HELPER(void, ringbuf_submit, void *record, __u64 flags);
CELLOS_BPF_HELPER(void, ringbuf_discard, void *record, __u64 flags);

/* The current process's number as the agent knows it: the initial namespace's, which `tgid` is, or
   the agent's own, or 0 where it has none there or the kernel cannot tell. */
CELLOS_BPF_INLINE __u32 cellos_bpf_guest_pid(__u32 tgid)
{
	const __u64 device = CELLOS_BPF_READ_CONSTANT(pid_ns_device);
	const __u64 inode = CELLOS_BPF_READ_CONSTANT(pid_ns_inode);
	struct bpf_pidns_info info;

	if (inode == 0)
		return tgid;
	if (device != 0 && bpf_get_ns_current_pid_tgid(device, inode, &info, sizeof(info)) == 0)
		return info.tgid;
	return 0;
}

#endif
