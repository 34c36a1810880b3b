/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See proc_table.h. */
#include "proc_table.h"

#include <sys/mman.h>

/* Half empty at most full, so probes stay short. */
static uint32_t index_bits(uint32_t max)
{
	uint32_t bits = 5;

	while ((1u << bits) < 2 * max)
		bits++;
	return bits;
}

size_t proc_table_bytes(uint32_t max)
{
	return max * sizeof(struct proc_entry) + (sizeof(uint32_t) << index_bits(max));
}

/* One huge page for one byte would be more than the whole agent: ask for small ones. Advice only;
   where it is refused, the pages are merely larger. */
static void want_small_pages(void *memory, size_t len)
{
	uintptr_t page = 4096; /* where a page is larger madvise refuses, no more */
	uintptr_t begin = (uintptr_t)memory;
	uintptr_t first = (begin + page - 1) & ~(page - 1);
	uintptr_t end = (begin + len) & ~(page - 1);

	if (first < end)
		(void)madvise((char *)memory + (first - begin), end - first, MADV_NOHUGEPAGE);
}

void proc_table_init(struct proc_table *table, void *memory, uint32_t max)
{
	uint32_t bits = index_bits(max);

	table->entries = memory;
	table->index = (uint32_t *)(table->entries + max);
	table->count = 0;
	table->max = max;
	table->mask = (1u << bits) - 1;
	table->shift = 32 - bits;
	want_small_pages(memory, proc_table_bytes(max));
}

/* Fibonacci hashing: pids come in runs, which a plain mask would turn into long probes. */
static uint32_t home_of(const struct proc_table *table, uint32_t pid)
{
	return (pid * 2654435769u) >> table->shift;
}

/* Where the pid stands in the index, or the free place where it would. */
static uint32_t slot_of(const struct proc_table *table, uint32_t pid)
{
	uint32_t slot = home_of(table, pid);

	while (table->index[slot] != 0 && table->entries[table->index[slot] - 1].pid != pid)
		slot = (slot + 1) & table->mask;
	return slot;
}

struct proc_entry *proc_table_find(const struct proc_table *table, uint32_t pid)
{
	uint32_t number = table->index[slot_of(table, pid)];

	return number == 0 ? NULL : &table->entries[number - 1];
}

struct proc_entry *proc_table_add(struct proc_table *table, uint32_t pid)
{
	uint32_t slot = slot_of(table, pid);
	struct proc_entry *entry;

	if (table->count == table->max)
		return NULL;
	entry = &table->entries[table->count++];
	*entry = (struct proc_entry){.pid = pid};
	table->index[slot] = table->count;
	return entry;
}

/* Frees a place and moves back what was pushed past it, so that no search ends too early. */
static void free_slot(struct proc_table *table, uint32_t slot)
{
	uint32_t next = slot;

	for (;;) {
		uint32_t number, home;

		next = (next + 1) & table->mask;
		number = table->index[next];
		if (number == 0)
			break;
		home = home_of(table, table->entries[number - 1].pid);
		/* It may move unless its home lies behind the free place. */
		if (((next - home) & table->mask) >= ((next - slot) & table->mask)) {
			table->index[slot] = number;
			slot = next;
		}
	}
	table->index[slot] = 0;
}

void proc_table_remove(struct proc_table *table, struct proc_entry *entry)
{
	struct proc_entry *last = &table->entries[table->count - 1];

	free_slot(table, slot_of(table, entry->pid));
	if (last != entry) {
		table->index[slot_of(table, last->pid)] = (uint32_t)(entry - table->entries) + 1;
		*entry = *last;
	}
	table->count--;
}

void proc_untracked_init(struct proc_untracked *untracked, void *memory)
{
	untracked->flags = memory;
	untracked->low = CELLOS_PID_LIMIT;
	untracked->high = 0;
	want_small_pages(memory, CELLOS_PID_LIMIT);
}

uint8_t proc_untracked_get(const struct proc_untracked *untracked, uint32_t pid)
{
	return pid < untracked->low || pid > untracked->high ? 0 : untracked->flags[pid];
}

void proc_untracked_set(struct proc_untracked *untracked, uint32_t pid, uint8_t flags)
{
	if (flags != 0) {
		untracked->low = pid < untracked->low ? pid : untracked->low;
		untracked->high = pid > untracked->high ? pid : untracked->high;
	}
	untracked->flags[pid] = flags;
}
