/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The table of known processes against a model that cannot be wrong: an array by pid. Random adds
 * and removes at every filling, so that the index's moves are tried in all their cases.
 *
 * Threads: none. Refuses to: time anything.
 */
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "proc_table.h"

static struct proc_table new_table(uint32_t max)
{
	struct proc_table table;
	void *memory = mmap(NULL, proc_table_bytes(max), PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert(memory != MAP_FAILED);
	proc_table_init(&table, memory, max);
	return table;
}

static void delete_table(struct proc_table *table)
{
	munmap(table->entries, proc_table_bytes(table->max));
}

/* Each known pid is found, with what was stored, and no other is. */
static void check(const struct proc_table *table, const uint64_t *model, uint32_t pids)
{
	uint32_t known = 0;

	for (uint32_t pid = 1; pid < pids; pid++) {
		struct proc_entry *entry = proc_table_find(table, pid);

		known += model[pid] != 0;
		cr_assert((entry != NULL) == (model[pid] != 0), "pid %u", pid);
		cr_assert(entry == NULL || (entry->pid == pid && entry->starttime == model[pid]));
	}
	cr_assert(table->count == known);
}

static void random_life(uint32_t max, uint32_t pids, unsigned rounds, unsigned seed)
{
	struct proc_table table = new_table(max);
	uint64_t *model = calloc(pids, sizeof(*model));
	unsigned full = 0;

	srandom(seed);
	for (unsigned round = 1; round <= rounds; round++) {
		uint32_t pid = 1 + (uint32_t)random() % (pids - 1);
		struct proc_entry *entry = proc_table_find(&table, pid);

		if (entry != NULL) {
			proc_table_remove(&table, entry);
			model[pid] = 0;
		} else if ((entry = proc_table_add(&table, pid)) != NULL) {
			entry->starttime = model[pid] = round;
		} else {
			cr_assert(table.count == max);
			full++;
		}
		if (round % 64 == 0)
			check(&table, model, pids);
	}
	cr_assert(full > 0, "never full, so nothing was tried");
	free(model);
	delete_table(&table);
}

Test(proc_table, small_and_crowded)
{
	for (unsigned seed = 1; seed <= 20; seed++)
		random_life(16, 40, 4000, seed);
}

Test(proc_table, larger)
{
	random_life(300, 700, 40000, 7);
}

Test(proc_table, untracked)
{
	struct proc_untracked bytes;
	void *memory = mmap(NULL, CELLOS_PID_LIMIT, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	cr_assert(memory != MAP_FAILED);
	proc_untracked_init(&bytes, memory);
	cr_assert(bytes.low > bytes.high);
	cr_assert(proc_untracked_get(&bytes, 1) == 0);
	cr_assert(proc_untracked_get(&bytes, CELLOS_PID_LIMIT - 1) == 0);
	proc_untracked_set(&bytes, 5, 0);
	cr_assert(bytes.low > bytes.high, "forgetting makes no range");
	proc_untracked_set(&bytes, 300, PROC_KNOWN);
	proc_untracked_set(&bytes, CELLOS_PID_LIMIT - 1, PROC_KNOWN | PROC_SEEN);
	proc_untracked_set(&bytes, 1, PROC_KNOWN | PROC_TOLD);
	cr_assert(bytes.low == 1 && bytes.high == CELLOS_PID_LIMIT - 1);
	cr_assert(proc_untracked_get(&bytes, 1) == (PROC_KNOWN | PROC_TOLD));
	cr_assert(proc_untracked_get(&bytes, 300) == PROC_KNOWN);
	cr_assert(proc_untracked_get(&bytes, CELLOS_PID_LIMIT - 1) == (PROC_KNOWN | PROC_SEEN));
	proc_untracked_set(&bytes, 300, 0);
	cr_assert(proc_untracked_get(&bytes, 300) == 0);
	munmap(memory, CELLOS_PID_LIMIT);
}
