/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the walker knows of pids, in two forms: a table with a fixed number of full entries, found
 * by pid, and one byte for every number a pid can have, for processes that found all entries taken.
 * So a full table costs names and the telling of a reused number, never a process.
 *
 * Memory is the caller's, zeroed, and mostly untouched: the entries stand dense and the bytes are
 * read and written only between the lowest and the highest pid that ever needed one.
 *
 * Threads: one. Invariants: entries[0..count) are the known ones; any add or remove may move
 * entries, so no pointer to one outlives it.
 * Refuses to: know what a process is, or tell anybody.
 */
#ifndef CELLOS_PROC_TABLE_H
#define CELLOS_PROC_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "proc_parse.h"

enum proc_flags {
	PROC_KNOWN = 1,    /* a byte that is in use; entries are known by being there */
	PROC_SEEN = 2,     /* by the walk under way */
	PROC_OVER = 4,     /* nothing but its exit status is left */
	PROC_TOLD = 8,     /* the exit is reported, or was before our time */
	PROC_PENDING = 16, /* the spawn is not reported yet */
	PROC_UNNAMED = 32, /* between fork and exec: the name is the parent's */
	PROC_SETTLED = 64  /* a kernel thread that needs no look for a while */
};

struct proc_entry {
	uint64_t starttime;
	uint32_t pid;
	uint8_t flags;
	uint8_t comm_len;
	char comm[16];
};

struct proc_table {
	struct proc_entry *entries;
	uint32_t *index; /* hashed by pid, linear probing; entry number + 1, 0 is free */
	uint32_t count;
	uint32_t max;
	uint32_t mask; /* of the index, which is at least twice as large as `max` */
	uint32_t shift;
};

size_t proc_table_bytes(uint32_t max);
/* `memory` is zeroed, aligned for any type and of proc_table_bytes(max). */
void proc_table_init(struct proc_table *table, void *memory, uint32_t max);

struct proc_entry *proc_table_find(const struct proc_table *table, uint32_t pid);
/* `pid` is not in the table yet. NULL when all entries are taken. */
struct proc_entry *proc_table_add(struct proc_table *table, uint32_t pid);
/* The last entry takes the place of this one: remove while walking downwards. */
void proc_table_remove(struct proc_table *table, struct proc_entry *entry);

struct proc_untracked {
	uint8_t *flags; /* CELLOS_PID_LIMIT bytes */
	uint32_t low;   /* those not 0 are in low..high; low > high: none */
	uint32_t high;
};

void proc_untracked_init(struct proc_untracked *untracked, void *memory);
/* 0: nothing is known of the pid. Setting it to 0 forgets the pid. */
uint8_t proc_untracked_get(const struct proc_untracked *untracked, uint32_t pid);
void proc_untracked_set(struct proc_untracked *untracked, uint32_t pid, uint8_t flags);

#endif
