/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The processes that the probe knows: a fixed number of full entries, found by pid, and one byte
 * for every number a pid can have, for those that found the entries all taken. So a full table
 * costs names and the telling of a reused number, never a process.
 *
 * Memory is the caller's, zeroed, and mostly untouched: the entries stand dense and the bytes are
 * read and written only between the lowest and the highest pid that ever needed one.
 *
 * Threads: one. Invariants: entries[0..count) are the known ones; a pid has an entry or a byte,
 * never both; any add or remove may move entries, so no pointer to one outlives it.
 * Refuses to: know what a process is, or tell anybody.
 */
#ifndef CELLOS_PROC_TABLE_H
#define CELLOS_PROC_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "proc_parse.h"

/* The first seven also fit the byte of a pid without an entry. */
enum proc_flags {
	PROC_KNOWN = 1,    /* a byte that is in use; entries are known by being there */
	PROC_SEEN = 2,     /* by the walk under way */
	PROC_OVER = 4,     /* nothing but its exit status is left */
	PROC_TOLD = 8,     /* the exit is reported, or was before our time */
	PROC_PENDING = 16, /* the spawn is not reported yet */
	PROC_UNNAMED = 32, /* the name is its parent's, or none: its own is not known */
	PROC_KERNEL = 64,  /* forked by the kernel, and a thread of it unless an exec follows */
	PROC_GONE = 128,   /* over, and its number is free: forget it once it is reported */
	PROC_EXECED = 256,
	PROC_COUNTED = 512, /* `live` is right: no message was lost since its fork */
	PROC_LEADER_GONE = 1024,
	PROC_GROUP_DEAD = 2048, /* the last of its threads has said so */
	PROC_WALKED = 4096      /* found by a walk; the message of its fork may be to come */
};

struct proc_entry {
	uint64_t starttime; /* ticks since boot; 0: not known yet */
	uint64_t born_ns;   /* its fork, or shortly before the look that found it */
	uint64_t over_ns;
	uint32_t pid;
	uint32_t parent;
	uint32_t live; /* threads, from its fork on */
	uint16_t flags;
	uint8_t comm_len;
	char comm[16];
};

struct proc_table {
	struct proc_entry *entries;
	uint32_t *index;    /* hashed by pid, linear probing; entry number + 1, 0 is free */
	uint8_t *untracked; /* by pid */
	uint32_t count;
	uint32_t max;
	uint32_t mask; /* of the index, which is at least twice as large as `max` */
	uint32_t shift;
	uint32_t low; /* untracked pids are in low..high; low > high: none */
	uint32_t high;
};

size_t proc_table_bytes(uint32_t max);
/* `memory` is zeroed, aligned for any type and of proc_table_bytes(max). */
void proc_table_init(struct proc_table *table, void *memory, uint32_t max);

struct proc_entry *proc_table_find(const struct proc_table *table, uint32_t pid);
/* `pid` is not in the table yet. NULL when all entries are taken. */
struct proc_entry *proc_table_add(struct proc_table *table, uint32_t pid);
/* The last entry takes the place of this one: remove while walking downwards. */
void proc_table_remove(struct proc_table *table, struct proc_entry *entry);

/* 0 when the pid has no byte. Setting it to 0 forgets the pid. */
uint8_t proc_table_untracked(const struct proc_table *table, uint32_t pid);
void proc_table_set_untracked(struct proc_table *table, uint32_t pid, uint8_t flags);

#endif
