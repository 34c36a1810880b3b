/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Loads the BPF programs that the build has embedded, with bpf(2) alone, and reads their ring.
 *
 * An embedded program is instructions plus the places that wait for a value, by name.
 * cellos_bpf_load fills each from a list of symbols: a map, a map's memory, or a 64-bit constant.
 * The kernel needs neither BTF nor a JIT for any of it.
 *
 * Threads: none of its own. Load and open on the main thread in arm; a ring is read by one thread.
 * Invariants: every descriptor is close-on-exec and the caller's; a failed call leaves none behind;
 * nothing is allocated after arm.
 * Refuses to: attach by BPF_PROG_ATTACH (anybody who can open the cgroup may undo that); know any
 * program.
 */
#ifndef CELLOS_BPF_LOAD_H
#define CELLOS_BPF_LOAD_H

#include <linux/bpf.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

/* ---- programs ------------------------------------------------------------------------------- */

#define CELLOS_BPF_MAX_INSNS 1024u

struct cellos_bpf_reloc {
	uint32_t insn;
	const char *symbol;
};

/* insn_count 0: this build has no BPF programs inside. */
struct cellos_bpf_program {
	const char *name; /* at most 15 of [A-Za-z0-9_.], for people who list programs */
	const uint64_t *insns;
	const struct cellos_bpf_reloc *relocs; /* the last one's symbol is NULL */
	uint32_t insn_count;
};

enum cellos_bpf_symbol_kind {
	CELLOS_BPF_CONSTANT = 0,
	CELLOS_BPF_MAP = BPF_PSEUDO_MAP_FD,          /* value: the map's descriptor */
	CELLOS_BPF_MAP_MEMORY = BPF_PSEUDO_MAP_VALUE /* value: that of an array with one element */
};

struct cellos_bpf_symbol {
	const char *name;
	enum cellos_bpf_symbol_kind kind;
	uint64_t value;
};

/* The program's descriptor; -ENOEXEC: none inside; -ENOENT: a symbol is not in the list; -ENOSYS: a
   kernel without bpf(2); or what the kernel says. `attach` is 0 where the type has none. */
CELLOS_MUST_CHECK int cellos_bpf_load(const struct cellos_bpf_program *program,
				      enum bpf_prog_type type, enum bpf_attach_type attach,
				      const struct cellos_bpf_symbol *symbols, size_t count);
/* A link lasts as long as its descriptor. */
CELLOS_MUST_CHECK int cellos_bpf_link_cgroup(int program, int cgroup, enum bpf_attach_type attach);
CELLOS_MUST_CHECK int cellos_bpf_link_raw_tracepoint(int program, const char *tracepoint);
/* Returns when no program that was detached before the call still runs anywhere. */
void cellos_bpf_settle(void);

/* ---- where the agent is --------------------------------------------------------------------- */

/* The root of a file system of this type ("cgroup2", "proc") as an O_PATH descriptor: mounted where
   nobody else sees it, for nobody need have mounted one. */
CELLOS_MUST_CHECK int cellos_bpf_mount(const char *type);

/* Which PID namespace the agent is in: BPF programs see the numbers of the initial one, and the
   agent reports its own. For the constants pid_ns_device and pid_ns_inode (bpf/program.h). */
struct cellos_pid_view {
	uint64_t device; /* 0: numbers cannot be translated */
	uint64_t inode;  /* 0: the initial one */
};

void cellos_pid_view_look(struct cellos_pid_view *view);

/* ---- maps ----------------------------------------------------------------------------------- */

CELLOS_MUST_CHECK int cellos_bpf_map(const char *name, enum bpf_map_type type, uint32_t key_bytes,
				     uint32_t value_bytes, uint32_t entries, uint32_t flags);
/* One zeroed element of `bytes`, in *memory too (shared with the programs); the descriptor. */
CELLOS_MUST_CHECK int cellos_bpf_memory(const char *name, uint32_t bytes, void **memory);
void cellos_bpf_memory_unmap(void *memory, uint32_t bytes);

/* ---- ring ----------------------------------------------------------------------------------- */

struct cellos_bpf_ring {
	int fd;         /* owned; -1 when closed. poll(2) says readable when anything is there */
	uint32_t bytes; /* a power of two */
	uint64_t *consumer;       /* a page, ours to write */
	const uint64_t *producer; /* a page with the kernel's own position, then */
	const char *records;      /* what it has written; twice, so that none crosses the end */
};

/* `bytes`: a power of two, and whole pages. */
CELLOS_MUST_CHECK int cellos_bpf_ring_open(struct cellos_bpf_ring *ring, const char *name,
					   uint32_t bytes);
void cellos_bpf_ring_close(struct cellos_bpf_ring *ring);

/* `record` is aligned to 8 bytes, in the ring itself, and the callee's until it returns. */
typedef void (*cellos_bpf_take)(void *context, const void *record, size_t length);

/*
 * Hands out what was there when the call began, up to the first record that is still being written;
 * discarded ones are passed over. Returns the bytes done with, 0 when there was nothing to do.
 */
CELLOS_MUST_CHECK int64_t cellos_bpf_ring_read(struct cellos_bpf_ring *ring, cellos_bpf_take take,
					       void *context);

#endif
