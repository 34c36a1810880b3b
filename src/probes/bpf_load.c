/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See bpf_load.h. */
#include "bpf_load.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* PROC_PID_INIT_INO: the same on every kernel. */
#define INITIAL_PID_NS UINT64_C(0xEFFFFFFC)
#define UNKNOWN_PID_NS 1 /* nothing has this number */

/* Before 5.11 the kernel counts maps and programs as memory that the user has locked, whatever
   rights he has, and gives an init 64 KiB. Who may not have any amount has as much as he may. */
static void lift_memory_limit(void)
{
	struct rlimit limit = {RLIM_INFINITY, RLIM_INFINITY};

	if (setrlimit(RLIMIT_MEMLOCK, &limit) == 0 || getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_MEMLOCK, &limit);
}

static int bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	long result = syscall(SYS_bpf, command, attr, sizeof(*attr));

	if (result < 0 && errno == EPERM) {
		lift_memory_limit();
		result = syscall(SYS_bpf, command, attr, sizeof(*attr));
	}
	return result < 0 ? -errno : (int)result;
}

/* Static, so that each of its bytes is zero: the kernel refuses what it does not know. */
static const union bpf_attr nothing;

/* ---- programs ------------------------------------------------------------------------------- */

int cellos_bpf_load(const struct cellos_bpf_program *program, enum bpf_prog_type type,
		    enum bpf_attach_type attach, const struct cellos_bpf_symbol *symbols,
		    size_t count)
{
	/* LGPL-2.1, section 3: these may be used under the GPL, which some helpers ask for. */
	static const char license[] = "GPL";
	struct bpf_insn insns[CELLOS_BPF_MAX_INSNS];
	union bpf_attr attr = nothing;

	if (program->insn_count == 0 || program->insn_count > CELLOS_BPF_MAX_INSNS)
		return -ENOEXEC;
	memcpy(insns, program->insns, program->insn_count * sizeof(insns[0]));
	for (const struct cellos_bpf_reloc *reloc = program->relocs; reloc->symbol; reloc++) {
		/* A 64-bit immediate stands in two instructions. What the compiler left in the
		   first is the offset into a map's memory, else zero. */
		struct bpf_insn *insn = &insns[reloc->insn];
		size_t at = 0;

		while (at < count && strcmp(symbols[at].name, reloc->symbol) != 0)
			at++;
		if (at == count)
			return -ENOENT;
		insn[1].imm = insn[0].imm + (int32_t)(symbols[at].value >> 32);
		insn[0].imm = (int32_t)symbols[at].value;
		insn[0].src_reg = symbols[at].kind & 0xf;
	}
	attr.prog_type = type;
	attr.expected_attach_type = attach;
	attr.insns = (uintptr_t)insns;
	attr.insn_cnt = program->insn_count;
	attr.license = (uintptr_t)license;
	strncpy(attr.prog_name, program->name, sizeof(attr.prog_name) - 1);
	return bpf(BPF_PROG_LOAD, &attr);
}

int cellos_bpf_link_cgroup(int program, int cgroup, enum bpf_attach_type attach)
{
	union bpf_attr attr = nothing;

	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_fd = (uint32_t)cgroup;
	attr.link_create.attach_type = attach;
	return bpf(BPF_LINK_CREATE, &attr);
}

int cellos_bpf_link_raw_tracepoint(int program, const char *tracepoint)
{
	union bpf_attr attr = nothing;

	attr.raw_tracepoint.name = (uintptr_t)tracepoint;
	attr.raw_tracepoint.prog_fd = (uint32_t)program;
	return bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
}

void cellos_bpf_settle(void)
{
	/* Programs run inside an RCU read section; this command waits for all of those. A kernel
	   that refuses it leaves a window of microseconds at the agent's very end. */
	(void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

/* ---- where the agent is --------------------------------------------------------------------- */

int cellos_bpf_mount(const char *type)
{
	int root = -1, fs = (int)syscall(SYS_fsopen, type, FSOPEN_CLOEXEC);

	if (fs >= 0 && syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) == 0)
		root = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0);
	if (fs >= 0)
		close(fs); /* leaves errno as it is */
	return root >= 0 ? root : -errno;
}

void cellos_pid_view_look(struct cellos_pid_view *view)
{
	int root = cellos_bpf_mount("proc");
	struct stat ns = {.st_ino = UNKNOWN_PID_NS};

	/* Who may not mount one has to do with the one that is there, or none. */
	(void)fstatat(root, root >= 0 ? "self/ns/pid" : "/proc/self/ns/pid", &ns, 0);
	if (root >= 0)
		close(root);
	view->inode = ns.st_ino == INITIAL_PID_NS ? 0 : ns.st_ino;
	/* stat(2) and the kernel's inside spell a device number differently. */
	view->device = (uint64_t)major(ns.st_dev) << 20 | minor(ns.st_dev);
}

/* ---- maps ----------------------------------------------------------------------------------- */

int cellos_bpf_map(const char *name, enum bpf_map_type type, uint32_t key_bytes,
		   uint32_t value_bytes, uint32_t entries, uint32_t flags)
{
	union bpf_attr attr = nothing;

	attr.map_type = type;
	attr.key_size = key_bytes;
	attr.value_size = value_bytes;
	attr.max_entries = entries;
	attr.map_flags = flags;
	strncpy(attr.map_name, name, sizeof(attr.map_name) - 1);
	return bpf(BPF_MAP_CREATE, &attr);
}

int cellos_bpf_memory(const char *name, uint32_t bytes, void **memory)
{
	int fd = cellos_bpf_map(name, BPF_MAP_TYPE_ARRAY, sizeof(uint32_t), bytes, 1,
				BPF_F_MMAPABLE);

	if (fd < 0)
		return fd;
	*memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*memory != MAP_FAILED)
		return fd;
	*memory = NULL;
	close(fd); /* leaves errno as it is */
	return -errno;
}

void cellos_bpf_memory_unmap(void *memory, uint32_t bytes)
{
	munmap(memory, bytes); /* of NULL: nothing is there */
}

/* ---- ring ----------------------------------------------------------------------------------- */

int cellos_bpf_ring_open(struct cellos_bpf_ring *ring, const char *name, uint32_t bytes)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int result;

	ring->bytes = bytes;
	ring->fd = cellos_bpf_map(name, BPF_MAP_TYPE_RINGBUF, 0, 0, bytes, 0);
	if (ring->fd < 0)
		return ring->fd;
	ring->consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	ring->producer = mmap(NULL, page + 2 * bytes, PROT_READ, MAP_SHARED, ring->fd, (off_t)page);
	ring->records = (const char *)ring->producer + page;
	if (ring->consumer != MAP_FAILED && ring->producer != MAP_FAILED)
		return 0;
	result = -errno;
	cellos_bpf_ring_close(ring);
	return result;
}

void cellos_bpf_ring_close(struct cellos_bpf_ring *ring)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);

	if (ring->fd < 0)
		return;
	/* MAP_FAILED is no address that can be unmapped, so this does for a half opened one. */
	munmap(ring->consumer, page);
	munmap((void *)(uintptr_t)ring->producer, page + 2 * ring->bytes);
	close(ring->fd);
	ring->fd = -1;
}

int64_t cellos_bpf_ring_read(struct cellos_bpf_ring *ring, cellos_bpf_take take, void *context)
{
	/* Acquire pairs with the kernel's release after it has written the header as busy: no stale
	   header is ever read below this position. */
	const uint64_t end = __atomic_load_n(ring->producer, __ATOMIC_ACQUIRE);
	const uint64_t begin = *ring->consumer;
	uint64_t position = begin;

	while (position < end) {
		/* Acquire pairs with the kernel's exchange at commit: once "busy" is gone, the
		   record is whole. */
		const char *at = ring->records + (position & (ring->bytes - 1));
		uint32_t header =
			__atomic_load_n((const uint32_t *)(const void *)at, __ATOMIC_ACQUIRE);
		uint32_t length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		uint64_t whole = (BPF_RINGBUF_HDR_SZ + (uint64_t)length + 7) & ~UINT64_C(7);

		if ((header & BPF_RINGBUF_BUSY_BIT) != 0)
			break;
		if ((header & BPF_RINGBUF_DISCARD_BIT) == 0)
			take(context, at + BPF_RINGBUF_HDR_SZ, length);
		position += whole;
		/* In a storm room shall come back before the round is over, but not every time: the
		   line is the kernel's, too. Release: our reads of the records come before the
		   kernel may write there again. */
		if ((position - begin) % 4096 < whole)
			__atomic_store_n(ring->consumer, position, __ATOMIC_RELEASE);
	}
	/* Sequentially consistent, with the look at the producer's position that follows in
	   poll(2); the kernel writes that one and then looks at this, so one of the two sees the
	   other and no wake-up is lost. (An exchange, for TSan knows no fences.) */
	(void)__atomic_exchange_n(ring->consumer, position, __ATOMIC_SEQ_CST);
	return (int64_t)(position - begin);
}
