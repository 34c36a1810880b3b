/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The loader against the running kernel, with programs of a few instructions that show what was
 * filled in, and a real ring.
 *
 * Threads: the test's own. Refuses to: load anything that is attached anywhere.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "bpf_load.h"
#include "skip.h"

static const uint64_t exit_insn = 0x95;

static uint64_t word(struct bpf_insn insn)
{
	uint64_t result;

	memcpy(&result, &insn, sizeof(result));
	return result;
}

static struct bpf_insn load_wide(uint8_t to, int32_t offset)
{
	return (struct bpf_insn){.code = BPF_LD | BPF_DW | BPF_IMM, .dst_reg = to, .imm = offset};
}

/* `reloc` is the only one, or NULL. */
static int load(const uint64_t *insns, uint32_t count, const struct cellos_bpf_reloc *reloc,
		const struct cellos_bpf_symbol *symbol)
{
	const struct cellos_bpf_reloc relocs[] = {reloc ? *reloc : (struct cellos_bpf_reloc){0},
						  {0, NULL}};
	const struct cellos_bpf_program program = {"cellos_test", insns, relocs, count};

	return cellos_bpf_load(&program, BPF_PROG_TYPE_SOCKET_FILTER, 0, symbol, symbol != NULL);
}

/* Runs a program once over an empty packet: what it returned. */
static uint32_t run(int program)
{
	char packet[64] = {0};
	union bpf_attr attr;

	memset(&attr, 0, sizeof(attr));
	attr.test.prog_fd = (uint32_t)program;
	attr.test.data_in = (uintptr_t)packet;
	attr.test.data_size_in = sizeof(packet);
	attr.test.repeat = 1;
	cr_assert(syscall(SYS_bpf, BPF_PROG_TEST_RUN, &attr, sizeof(attr)) == 0, "%s",
		  strerror(errno));
	return attr.test.retval;
}

Test(load, constants)
{
	static const struct cellos_bpf_reloc reloc = {0, "answer"};
	/* r0 = answer; r0 >>= 32 or >>= 0; exit */
	static const int32_t shifts[] = {0, 32};

	for (unsigned at = 0; at < 2; at++) {
		struct cellos_bpf_symbol answer = {"answer", CELLOS_BPF_CONSTANT,
						   0xfedcba9887654321};
		struct bpf_insn shift = {.code = BPF_ALU64 | BPF_RSH | BPF_K, .imm = shifts[at]};
		uint64_t insns[] = {word(load_wide(0, 0)), 0, word(shift), exit_insn};
		int program = load(insns, 4, &reloc, &answer);

		cr_assert(program >= 0, "%s", strerror(-program));
		cr_assert(run(program) == (at == 0 ? 0x87654321 : 0xfedcba98));
		close(program);
	}
}

Test(load, memory_at_an_offset)
{
	static const struct cellos_bpf_reloc reloc = {0, "memory"};
	struct bpf_insn store = {
		.code = BPF_ST | BPF_MEM | BPF_DW, .dst_reg = 1, .off = 8, .imm = 7};
	struct bpf_insn zero = {.code = BPF_ALU64 | BPF_MOV | BPF_K};
	uint64_t insns[] = {word(load_wide(1, 16)), 0, word(store), word(zero), exit_insn};
	struct cellos_bpf_symbol symbol = {"memory", CELLOS_BPF_MAP_MEMORY, 0};
	void *memory = NULL;
	uint64_t *words;
	int fd, program;

	fd = cellos_bpf_memory("cellos_test", 64, &memory);
	cr_assert(fd >= 0 && memory != NULL);
	cr_assert((fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0);
	words = memory;
	symbol.value = (uint64_t)fd;
	program = load(insns, 5, &reloc, &symbol);
	cr_assert(program >= 0, "%s", strerror(-program));
	cr_assert(run(program) == 0);
	for (unsigned at = 0; at < 8; at++)
		cr_assert(words[at] == (at == 3 ? 7 : 0), "word %u", at);
	close(program);
	cellos_bpf_memory_unmap(memory, 64);
	close(fd);
}

struct seen {
	unsigned count;
	size_t length;
	uint8_t first;
};

static void see(void *context, const void *record, size_t length)
{
	struct seen *seen = context;

	seen->count++;
	seen->length = length;
	memcpy(&seen->first, record, 1);
}

/* A real ring, written by a program that finds it by its map. */
Test(load, a_map_and_a_real_ring)
{
	static const struct cellos_bpf_reloc reloc = {0, "ring"};
	struct bpf_insn store = {
		.code = BPF_ST | BPF_MEM | BPF_DW, .dst_reg = 10, .off = -8, .imm = 0x01020304};
	struct bpf_insn copy = {.code = BPF_ALU64 | BPF_MOV | BPF_X, .dst_reg = 2, .src_reg = 10};
	struct bpf_insn minus = {.code = BPF_ALU64 | BPF_ADD | BPF_K, .dst_reg = 2, .imm = -8};
	struct bpf_insn size = {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 3, .imm = 8};
	struct bpf_insn flags = {.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 4};
	struct bpf_insn output = {.code = BPF_JMP | BPF_CALL, .imm = BPF_FUNC_ringbuf_output};
	uint64_t insns[] = {word(load_wide(1, 0)),
			    0,
			    word(store),
			    word(copy),
			    word(minus),
			    word(size),
			    word(flags),
			    word(output),
			    exit_insn};
	struct cellos_bpf_symbol symbol = {"ring", CELLOS_BPF_MAP, 0};
	struct cellos_bpf_ring real;
	struct seen seen = {0};
	const size_t page = (size_t)sysconf(_SC_PAGESIZE);
	int program, result;

	result = cellos_bpf_ring_open(&real, "cellos_test", (uint32_t)page);
	cr_assert(result == 0, "%s", strerror(-result));
	symbol.value = (uint64_t)real.fd;
	program = load(insns, 9, &reloc, &symbol);
	cr_assert(program >= 0, "%s", strerror(-program));
	/* Many laps; 16 bytes each. */
	for (unsigned at = 0; at < 3 * page / 16; at++) {
		cr_assert(run(program) == 0);
		seen.count = 0;
		cr_assert(cellos_bpf_ring_read(&real, see, &seen) == 16);
		cr_assert(seen.count == 1 && seen.length == 8 && seen.first == 4);
	}
	cr_assert(cellos_bpf_ring_read(&real, see, &seen) == 0);
	close(program);
	cellos_bpf_ring_close(&real);
	cr_assert(real.fd == -1);
	cellos_bpf_ring_close(&real);
}

Test(load, what_it_refuses)
{
	static const struct cellos_bpf_reloc unknown = {0, "nobody"};
	static const struct cellos_bpf_symbol x = {"x", CELLOS_BPF_CONSTANT, 1};
	uint64_t insns[CELLOS_BPF_MAX_INSNS + 1] = {word(load_wide(0, 0)), exit_insn};

	cr_assert(load(insns, 0, NULL, NULL) == -ENOEXEC);
	cr_assert(load(insns, CELLOS_BPF_MAX_INSNS + 1, NULL, NULL) == -ENOEXEC);
	cr_assert(load(insns, 2, &unknown, &x) == -ENOENT);
}

/* ---- a kernel before 5.11 ------------------------------------------------------------------- */

static _Atomic int listener = -1;
static atomic_uint refused;

/* Answers bpf(2) as such a kernel does: "not permitted" while little memory may be locked. */
static void *count_locked_memory(void *unused)
{
	(void)unused;
	while (atomic_load(&listener) < 0)
		sched_yield();
	for (;;) {
		struct seccomp_notif asked = {0};
		struct seccomp_notif_resp answer = {0};
		struct rlimit limit;

		if (ioctl(atomic_load(&listener), SECCOMP_IOCTL_NOTIF_RECV, &asked) < 0)
			continue;
		answer.id = asked.id;
		(void)getrlimit(RLIMIT_MEMLOCK, &limit);
		if (limit.rlim_cur == limit.rlim_max) {
			answer.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		} else {
			answer.error = -EPERM;
			atomic_fetch_add(&refused, 1);
		}
		(void)ioctl(atomic_load(&listener), SECCOMP_IOCTL_NOTIF_SEND, &answer);
	}
	return NULL;
}

Test(load, a_kernel_that_counts_locked_memory)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};
	struct rlimit little;
	pthread_t kernel;
	int fd;

	cr_assert(getrlimit(RLIMIT_MEMLOCK, &little) == 0);
	little.rlim_cur = 4096;
	cr_assert(little.rlim_max > 4096 && setrlimit(RLIMIT_MEMLOCK, &little) == 0);
	cr_assert(pthread_create(&kernel, NULL, count_locked_memory, NULL) == 0);
	fd = (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
			  &program);
	cr_assert(fd >= 0, "%s", strerror(errno));
	atomic_store(&listener, fd);
	fd = cellos_bpf_map("cellos_test", BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0);
	cr_assert(fd >= 0, "%s", strerror(-fd));
	cr_assert(atomic_load(&refused) == 1);
	close(fd);
}

Test(load, a_ring_that_cannot_be)
{
	struct cellos_bpf_ring ring;

	cr_assert(cellos_bpf_ring_open(&ring, "cellos_test", 12345) < 0);
	cr_assert(ring.fd < 0);
	cellos_bpf_ring_close(&ring);
}

/* Criterion cannot skip a whole program; ctest can, and this runs before Criterion does. */
__attribute__((constructor)) static void need_bpf(void)
{
	int fd = cellos_bpf_map("cellos_test", BPF_MAP_TYPE_ARRAY, 4, 8, 1, 0);

	if (fd == -EPERM || fd == -ENOSYS)
		cellos_test_skip("bpf(2) is not to be had here");
	if (fd >= 0)
		close(fd);
}
