/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See bpf_load.h. */
#include "bpf_load.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/mount.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

static int bpf(enum bpf_cmd command, union bpf_attr *attr)
{
	long result = syscall(SYS_bpf, command, attr, sizeof(*attr));

	return result < 0 ? -errno : (int)result;
}

/* ---- programs ------------------------------------------------------------------------------- */

static const struct cellos_bpf_symbol *find_symbol(const struct cellos_bpf_load *load,
						   const char *name)
{
	for (size_t at = 0; at < load->symbol_count; at++)
		if (strcmp(load->symbols[at].name, name) == 0)
			return &load->symbols[at];
	return NULL;
}

/* A 64-bit immediate stands in two instructions; what the compiler left there is an offset. */
static void fill(struct bpf_insn insns[2], const struct cellos_bpf_symbol *symbol)
{
	uint64_t value = symbol->value;
	int32_t offset = insns[0].imm;

	if (symbol->kind == CELLOS_BPF_CONSTANT) {
		insns[0].imm = (int32_t)(uint32_t)value;
		insns[1].imm = (int32_t)(uint32_t)(value >> 32);
		return;
	}
	insns[0].src_reg =
		symbol->kind == CELLOS_BPF_MAP ? BPF_PSEUDO_MAP_FD : BPF_PSEUDO_MAP_VALUE;
	insns[0].imm = (int32_t)value;
	insns[1].imm = symbol->kind == CELLOS_BPF_MAP ? 0 : offset;
}

static int relocate(const struct cellos_bpf_load *load, struct bpf_insn *insns)
{
	const struct cellos_bpf_program *program = load->program;

	for (uint32_t at = 0; at < program->reloc_count; at++) {
		const struct cellos_bpf_reloc *reloc = &program->relocs[at];
		const struct cellos_bpf_symbol *symbol = find_symbol(load, reloc->symbol);

		if (symbol == NULL)
			return -ENOENT;
		if (reloc->insn + 1 >= program->insn_count)
			return -ENOEXEC;
		fill(insns + reloc->insn, symbol);
	}
	return 0;
}

int cellos_bpf_load(const struct cellos_bpf_load *load)
{
	/* LGPL-2.1, section 3: these may be used under the GPL, which some helpers ask for. */
	static const char license[] = "GPL";
	struct bpf_insn insns[CELLOS_BPF_MAX_INSNS];
	const struct cellos_bpf_program *program = load->program;
	union bpf_attr attr;
	int result;

	if (program->insn_count == 0 || program->insn_count > CELLOS_BPF_MAX_INSNS)
		return -ENOEXEC;
	memcpy(insns, program->insns, program->insn_count * sizeof(insns[0]));
	result = relocate(load, insns);
	if (result < 0)
		return result;
	memset(&attr, 0, sizeof(attr));
	attr.prog_type = load->type;
	attr.expected_attach_type = load->attach;
	attr.insns = (uintptr_t)insns;
	attr.insn_cnt = program->insn_count;
	attr.license = (uintptr_t)license;
	strncpy(attr.prog_name, load->name, sizeof(attr.prog_name) - 1);
	return bpf(BPF_PROG_LOAD, &attr);
}

int cellos_bpf_link_cgroup(int program, int cgroup, enum bpf_attach_type attach)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_create.prog_fd = (uint32_t)program;
	attr.link_create.target_fd = (uint32_t)cgroup;
	attr.link_create.attach_type = attach;
	return bpf(BPF_LINK_CREATE, &attr);
}

int cellos_bpf_link_raw_tracepoint(int program, const char *tracepoint)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.raw_tracepoint.name = (uintptr_t)tracepoint;
	attr.raw_tracepoint.prog_fd = (uint32_t)program;
	return bpf(BPF_RAW_TRACEPOINT_OPEN, &attr);
}

void cellos_bpf_link_detach(int link)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.link_detach.link_fd = (uint32_t)link;
	(void)bpf(BPF_LINK_DETACH, &attr);
}

void cellos_bpf_settle(void)
{
	/* Programs run inside an RCU read section; this command waits for all of those. A kernel
	   that refuses it leaves a window of microseconds at the agent's very end. */
	(void)syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0);
}

int cellos_bpf_cgroup_root(bool *whole)
{
	int result, root;
	int fs = (int)syscall(SYS_fsopen, "cgroup2", FSOPEN_CLOEXEC);

	if (fs < 0)
		return -errno;
	if (syscall(SYS_fsconfig, fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0 ||
	    (root = (int)syscall(SYS_fsmount, fs, FSMOUNT_CLOEXEC, 0)) < 0) {
		result = -errno;
		close(fs);
		return result;
	}
	close(fs);
	/* Every cgroup but the root has this file. */
	*whole = faccessat(root, "cgroup.type", F_OK, 0) < 0;
	return root;
}

/* ---- maps ----------------------------------------------------------------------------------- */

int cellos_bpf_map(const char *name, enum bpf_map_type type, uint32_t key_bytes,
		   uint32_t value_bytes, uint32_t entries, uint32_t flags)
{
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
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
	void *mapped;
	int result;

	if (fd < 0)
		return fd;
	mapped = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (mapped == MAP_FAILED) {
		result = -errno;
		close(fd);
		return result;
	}
	*memory = mapped;
	return fd;
}

void cellos_bpf_memory_unmap(void *memory, uint32_t bytes)
{
	if (memory != NULL)
		munmap(memory, bytes);
}

/* ---- ring ----------------------------------------------------------------------------------- */

static size_t page_bytes(void)
{
	return (size_t)sysconf(_SC_PAGESIZE);
}

int cellos_bpf_ring_open(struct cellos_bpf_ring *ring, const char *name, uint32_t bytes)
{
	size_t page = page_bytes();
	void *consumer, *records = MAP_FAILED;
	int result;

	ring->fd = cellos_bpf_map(name, BPF_MAP_TYPE_RINGBUF, 0, 0, bytes, 0);
	if (ring->fd < 0)
		return ring->fd;
	consumer = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, 0);
	if (consumer != MAP_FAILED)
		records = mmap(NULL, page + bytes, PROT_READ, MAP_SHARED, ring->fd, (off_t)page);
	if (records == MAP_FAILED) {
		result = -errno;
		if (consumer != MAP_FAILED)
			munmap(consumer, page);
		close(ring->fd);
		ring->fd = -1;
		return result;
	}
	ring->bytes = bytes;
	ring->consumer = consumer;
	ring->records = records;
	return 0;
}

void cellos_bpf_ring_close(struct cellos_bpf_ring *ring)
{
	if (ring->fd < 0)
		return;
	munmap(ring->consumer, page_bytes());
	munmap((void *)(uintptr_t)ring->records, page_bytes() + ring->bytes);
	close(ring->fd);
	ring->fd = -1;
}

static uint64_t producer_position(const struct cellos_bpf_ring *ring)
{
	/* Acquire pairs with the kernel's release after it has written the header as busy: no stale
	   header is ever read below this position. Sequentially consistent, so that it also comes
	   after whatever exchange its caller has just made to say that it will sleep. */
	return __atomic_load_n((const uint64_t *)(const void *)ring->records, __ATOMIC_SEQ_CST);
}

uint64_t cellos_bpf_ring_used(const struct cellos_bpf_ring *ring)
{
	return producer_position(ring) - *ring->consumer;
}

static void hand_out(const struct cellos_bpf_ring *ring, const char *data, uint64_t position,
		     uint32_t length, cellos_bpf_take take, void *context)
{
	uint64_t at = position & (ring->bytes - 1);
	uint64_t straight = ring->bytes - at;
	char whole[CELLOS_BPF_RECORD_BYTES];
	size_t wanted = length < sizeof(whole) ? length : sizeof(whole);

	if (length <= straight) {
		take(context, data + at, length);
		return;
	}
	if (straight > wanted)
		straight = wanted;
	memcpy(whole, data + at, straight);
	memcpy(whole + straight, data, wanted - straight);
	take(context, whole, wanted);
}

static void give_back(struct cellos_bpf_ring *ring, uint64_t position)
{
	/* Release: our reads of the records come before the kernel may write there again. */
	__atomic_store_n(ring->consumer, position, __ATOMIC_RELEASE);
}

int64_t cellos_bpf_ring_read(struct cellos_bpf_ring *ring, cellos_bpf_take take, void *context)
{
	const char *data = ring->records + page_bytes();
	const uint64_t begin = *ring->consumer, end = producer_position(ring);
	uint64_t position = begin;
	int64_t result = 0;

	while (position < end) {
		/* Acquire pairs with the kernel's exchange at commit: once "busy" is gone, the
		   record is whole. */
		uint32_t header = __atomic_load_n(
			(const uint32_t *)(const void *)(data + (position & (ring->bytes - 1))),
			__ATOMIC_ACQUIRE);
		uint32_t length = header & ~(BPF_RINGBUF_BUSY_BIT | BPF_RINGBUF_DISCARD_BIT);
		uint64_t whole = (BPF_RINGBUF_HDR_SZ + (uint64_t)length + 7) & ~UINT64_C(7);

		if ((header & BPF_RINGBUF_BUSY_BIT) != 0)
			break;
		if (whole > end - position) {
			position = end;
			result = -EBADMSG;
			break;
		}
		if ((header & BPF_RINGBUF_DISCARD_BIT) == 0)
			hand_out(ring, data, position + BPF_RINGBUF_HDR_SZ, length, take, context);
		position += whole;
		/* In a storm room shall come back before the round is over, but not every time: the
		   line is the kernel's, too. */
		if ((position - begin) % 4096 < whole)
			give_back(ring, position);
	}
	/* Sequentially consistent, with the look at the producer's position that follows, here or
	   in poll(2); the kernel writes that one and then looks at this, so one of the two sees the
	   other and no wake-up is lost. (An exchange, for TSan knows no fences.) */
	(void)__atomic_exchange_n(ring->consumer, position, __ATOMIC_SEQ_CST);
	return result < 0 ? result : (int64_t)(position - begin);
}
