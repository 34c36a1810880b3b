/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The state file: what is kept, what is not, and a process killed in the midst of keeping it.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "spool.h"
#include "state.h"

static char path[64], spool_path[80];

static void make_place(void)
{
	int fd;

	strcpy(path, "/tmp/cellos-state-XXXXXX");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
	snprintf(spool_path, sizeof(spool_path), "%s.spool", path);
}

static void remove_place(void)
{
	unlink(path);
	unlink(spool_path);
}

TestSuite(state, .init = make_place, .fini = remove_place);

static struct host_state *open_state(void)
{
	struct host_state *state;

	cr_assert_eq(host_state_open(&state, path), 0);
	return state;
}

static unsigned find(struct host_state *state, const char *cell, const char *run, uint64_t sequence)
{
	struct host_kept kept;
	bool known;
	int slot = host_state_find(state, cell, run, &kept, &known);

	cr_assert_geq(slot, 0);
	cr_assert_eq(known, sequence != 0, "%s/%s", cell, run);
	cr_assert_eq(kept.sequence, sequence, "%s/%s", cell, run);
	return (unsigned)slot;
}

static void put(struct host_state *state, unsigned slot, uint64_t sequence)
{
	struct host_kept kept = {.sequence = sequence};

	host_state_put(state, slot, &kept);
}

Test(state, all_that_was_committed_is_there)
{
	struct host_state *state = open_state();
	struct host_kept kept, back;
	bool known;
	int slot;

	memset(&kept, 0x5a, sizeof(kept));
	put(state, find(state, "a", "r", 0), 7);
	slot = host_state_find(state, "b", "r", &back, &known);
	cr_assert_geq(slot, 0);
	host_state_put(state, (unsigned)slot, &kept);
	host_state_commit(state, 1234);
	host_state_set_spool_published(state, 1000);
	host_state_set_spool_acked(state, 999);
	host_state_set_unsure_since(state, 55);
	host_state_close(state);

	state = open_state();
	(void)find(state, "a", "r", 7);
	cr_assert_eq(host_state_find(state, "b", "r", &back, &known), slot);
	cr_assert(known);
	cr_assert_arr_eq(&back, &kept, sizeof(kept));
	cr_assert_eq(host_state_spool_end(state), 1234);
	cr_assert_eq(host_state_spool_acked(state), 999);
	cr_assert_eq(host_state_spool_published(state), 1000);
	cr_assert_eq(host_state_unsure_since(state), 55);
	/* cell and run are two names */
	(void)find(state, "a", "s", 0);
	(void)find(state, "ar", "r", 0);
	host_state_close(state);
}

Test(state, what_was_not_committed_is_not)
{
	struct host_state *state = open_state();
	unsigned slot = find(state, "a", "r", 0), other;

	put(state, slot, 1);
	host_state_commit(state, 10);
	put(state, slot, 2);
	put(state, slot, 3); /* twice before a commit */
	(void)find(state, "b", "r", 0);
	host_state_close(state);

	state = open_state();
	cr_assert_eq(find(state, "a", "r", 1), slot);
	cr_assert_eq(host_state_spool_end(state), 10);
	/* and the next commit does not bring it to life */
	other = find(state, "c", "r", 0);
	put(state, other, 9);
	host_state_commit(state, 20);
	host_state_close(state);

	state = open_state();
	(void)find(state, "a", "r", 1);
	(void)find(state, "c", "r", 9);
	(void)find(state, "b", "r", 0);
	host_state_close(state);
}

Test(state, puts_and_commits_in_turn)
{
	struct host_state *state = open_state();
	unsigned a = find(state, "a", "r", 0), b = find(state, "b", "r", 0);

	for (uint64_t i = 1; i <= 50; i++) {
		put(state, a, i);
		if (i % 3 == 0)
			put(state, b, i);
		host_state_commit(state, i * 2);
		cr_assert_eq(host_state_spool_end(state), i * 2);
		host_state_close(state);
		state = open_state();
		a = find(state, "a", "r", i);
		if (i >= 3)
			b = find(state, "b", "r", i / 3 * 3);
	}
	host_state_close(state);
}

Test(state, cells_are_forgotten)
{
	struct host_state *state = open_state();
	unsigned slot = find(state, "a", "r", 0);

	put(state, slot, 1);
	host_state_commit(state, 0);
	host_state_forget(state, slot);
	host_state_close(state);

	state = open_state(); /* not committed: it is still known */
	slot = find(state, "a", "r", 1);
	host_state_forget(state, slot);
	host_state_commit(state, 0);
	cr_assert_eq(find(state, "b", "r", 0), slot, "its place is free");
	host_state_close(state);

	state = open_state();
	cr_assert_eq(find(state, "a", "r", 0), slot);
	/* forgotten and given to another within one commit */
	put(state, slot, 5);
	host_state_commit(state, 0);
	host_state_forget(state, slot);
	cr_assert_eq(find(state, "z", "r", 0), slot);
	put(state, slot, 6);
	host_state_close(state);
	state = open_state();
	slot = find(state, "a", "r", 5);
	host_state_forget(state, slot);
	cr_assert_eq(find(state, "z", "r", 0), slot);
	put(state, slot, 6);
	host_state_commit(state, 0);
	host_state_close(state);
	state = open_state();
	(void)find(state, "z", "r", 6);
	(void)find(state, "a", "r", 0);
	host_state_close(state);
}

Test(state, is_full_at_its_limit)
{
	struct host_state *state = open_state();
	struct host_kept kept;
	char name[16];
	bool known;

	for (unsigned i = 0; i < HOST_STATE_MAX_CELLS; i++) {
		snprintf(name, sizeof(name), "cell-%u", i);
		put(state, find(state, name, "r", 0), i + 1);
	}
	cr_assert_eq(host_state_find(state, "more", "r", &kept, &known), -ENOSPC);
	host_state_commit(state, 0);
	host_state_close(state);
	state = open_state();
	for (unsigned i = 0; i < HOST_STATE_MAX_CELLS; i++) {
		snprintf(name, sizeof(name), "cell-%u", i);
		(void)find(state, name, "r", i + 1);
	}
	host_state_forget(state, find(state, "cell-77", "r", 78));
	(void)find(state, "more", "r", 0);
	host_state_close(state);
}

/* Each run has a name of its own: a full file takes new cells in the place of the oldest. */
Test(state, the_oldest_that_nobody_holds_makes_room)
{
	struct host_state *state = open_state();
	unsigned slots[HOST_STATE_MAX_CELLS];
	struct host_kept kept;
	char name[16];
	bool known;

	for (unsigned i = 0; i < HOST_STATE_MAX_CELLS; i++) {
		snprintf(name, sizeof(name), "cell-%u", i);
		slots[i] = find(state, name, "r", 0);
		put(state, slots[i], i + 1);
		host_state_commit(state, 0);
	}
	put(state, slots[10], 1000); /* now the youngest */
	host_state_commit(state, 0);
	for (unsigned i = 10; i < 13; i++)
		host_state_release(state, slots[i]);
	cr_assert_eq(find(state, "new-1", "r", 0), slots[11]);
	cr_assert_eq(find(state, "cell-12", "r", 13), slots[12], "who comes again is known");
	cr_assert_eq(find(state, "new-2", "r", 0), slots[10]);
	cr_assert_eq(host_state_find(state, "new-3", "r", &kept, &known), -ENOSPC);
	host_state_close(state);
	state = open_state(); /* none of it was committed; nobody holds anything */
	(void)find(state, "cell-11", "r", 12);
	cr_assert_eq(find(state, "new-1", "r", 0), slots[0]);
	host_state_commit(state, 0);
	host_state_close(state);
	state = open_state();
	(void)find(state, "cell-10", "r", 1000);
	(void)find(state, "cell-0", "r", 0);
	host_state_close(state);
}

Test(state, ids_that_do_not_fit)
{
	struct host_state *state = open_state();
	struct host_kept kept;
	char longest[66];
	bool known;

	memset(longest, 'x', 65);
	longest[65] = '\0';
	cr_assert_eq(host_state_find(state, longest, "r", &kept, &known), -EINVAL);
	cr_assert_eq(host_state_find(state, "c", longest, &kept, &known), -EINVAL);
	cr_assert_eq(host_state_find(state, "", "r", &kept, &known), -EINVAL);
	longest[64] = '\0';
	(void)find(state, longest, longest, 0);
	host_state_close(state);
}

Test(state, memory_only)
{
	struct host_state *state;

	cr_assert_eq(host_state_open(&state, NULL), 0);
	put(state, find(state, "a", "r", 0), 3);
	host_state_commit(state, 77);
	(void)find(state, "a", "r", 3);
	cr_assert_eq(host_state_spool_end(state), 77);
	host_state_close(state);
	host_state_close(NULL);
}

Test(state, belongs_to_one_process)
{
	struct host_state *state = open_state(), *second;

	/* flock is the open file's: a second one of the same process is refused, too */
	cr_assert_eq(host_state_open(&second, path), -EWOULDBLOCK);
	cr_assert_null(second);
	host_state_close(state);
	state = open_state();
	host_state_close(state);
}

static void overwrite(off_t at, const void *bytes, size_t length)
{
	int fd = open(path, O_WRONLY);

	cr_assert_geq(fd, 0);
	cr_assert_eq(pwrite(fd, bytes, length, at), (ssize_t)length);
	close(fd);
}

Test(state, refuses_what_is_none)
{
	struct host_state *state;
	const uint32_t other = 1;
	struct stat st;

	cr_assert_eq(host_state_open(&state, "/nowhere/at/all"), -ENOENT);
	overwrite(0, "{}\n", 3); /* somebody's own file, of another size */
	cr_assert_eq(host_state_open(&state, path), -EPROTO);
	cr_assert_null(state);
	cr_assert_eq(truncate(path, 0), 0);
	state = open_state();
	host_state_close(state);
	cr_assert_eq(stat(path, &st), 0);
	cr_assert_eq(st.st_mode & 077, 0, "others may read it");
	cr_assert_geq(st.st_blocks * 512, st.st_size, "no blocks behind it");
	overwrite(8, &other, sizeof(other)); /* records of another size: another version */
	cr_assert_eq(host_state_open(&state, path), -EPROTO);
	overwrite(0, "CTstate9", 8);
	cr_assert_eq(host_state_open(&state, path), -EPROTO);
	/* cut short before its magic was stored: it is made again */
	cr_assert_eq(truncate(path, 0), 0);
	cr_assert_eq(truncate(path, st.st_size), 0);
	state = open_state();
	(void)find(state, "a", "r", 0);
	host_state_close(state);
	/* what an engine cannot have acknowledged */
	state = open_state();
	host_state_commit(state, 10);
	host_state_set_spool_acked(state, 11);
	host_state_close(state);
	cr_assert_eq(host_state_open(&state, path), -EPROTO);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(symlink("/etc/passwd", path), 0);
	cr_assert_eq(host_state_open(&state, path), -ELOOP);
}

/* ---- kill -9 -------------------------------------------------------------------------------- */

#define CELLS 48
#define KILLS 150
#define SPOOL_BYTES (1u << 20)

static void cell_name(unsigned i, char name[16])
{
	snprintf(name, 16, "cell-%u", i);
}

/* Round n: every cell says n, twice over, and the spool gets eight bytes that say n. */
static void keep_for_ever(uint64_t *rounds)
{
	struct host_state *state;
	struct host_spool spool;
	unsigned slots[CELLS];
	struct host_kept kept;
	uint64_t n, end;
	char name[16];
	bool known;

	if (host_state_open(&state, path) < 0 ||
	    host_spool_open(&spool, spool_path, SPOOL_BYTES) < 0)
		_exit(1);
	for (unsigned i = 0; i < CELLS; i++) {
		cell_name(i, name);
		slots[i] = (unsigned)host_state_find(state, name, "r", &kept, &known);
	}
	n = kept.sequence;
	for (;;) {
		n++;
		memset(&kept, (int)(n & 0xff), sizeof(kept));
		kept.sequence = n;
		for (unsigned i = 0; i < CELLS; i++)
			host_state_put(state, slots[i], &kept);
		end = host_state_spool_end(state);
		if (host_spool_append(&spool, end, end, (const char *)&n, sizeof(n)) < 0)
			_exit(1);
		host_state_commit(state, end + sizeof(n));
		__atomic_store_n(rounds, n, __ATOMIC_RELAXED);
	}
}

/* All cells, the spool's end and its last word, of one and the same round. */
static uint64_t check_round(void)
{
	struct host_state *state = open_state();
	struct host_kept first, kept;
	struct host_spool spool;
	uint64_t end = host_state_spool_end(state), last = 0;
	char name[16];
	bool known;

	cr_assert_geq(host_spool_open(&spool, spool_path, SPOOL_BYTES), 0);
	cr_assert_geq(host_state_find(state, "cell-0", "r", &first, &known), 0);
	for (unsigned i = 0; i < CELLS; i++) {
		cell_name(i, name);
		cr_assert_geq(host_state_find(state, name, "r", &kept, &known), 0);
		cr_assert_arr_eq(&kept, &first, sizeof(kept), "cell %u: %lu, not %lu", i,
				 (unsigned long)kept.sequence, (unsigned long)first.sequence);
	}
	cr_assert_eq(end, first.sequence * sizeof(last));
	if (end > 0)
		cr_assert_eq(host_spool_read(&spool, end - sizeof(last), end, (char *)&last,
					     sizeof(last)),
			     sizeof(last));
	cr_assert_eq(last, first.sequence);
	host_spool_close(&spool);
	host_state_close(state);
	return first.sequence;
}

static bool is_alive(pid_t pid)
{
	return waitpid(pid, NULL, WNOHANG) == 0;
}

Test(state, kill_9_at_any_time)
{
	uint64_t *rounds = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
				0),
		 before = 0, killed_in_round = 0;
	uint32_t random = 1;

	cr_assert_neq(rounds, MAP_FAILED);
	for (unsigned i = 0; i < KILLS; i++) {
		pid_t pid = fork();

		cr_assert_geq(pid, 0);
		if (pid == 0)
			keep_for_ever(rounds);
		/* At least one round, so that every child gets somewhere; then anywhere in one. */
		while (__atomic_load_n(rounds, __ATOMIC_RELAXED) <= before && is_alive(pid))
			;
		random = random * 1664525 + 1013904223;
		nanosleep(&(struct timespec){.tv_nsec = random >> 16}, NULL);
		cr_assert_eq(kill(pid, SIGKILL), 0);
		(void)waitpid(pid, NULL, 0);
		uint64_t said = __atomic_load_n(rounds, __ATOMIC_RELAXED), kept = check_round();

		cr_assert_gt(kept, before, "child %u kept nothing", i);
		/* What it said it had committed is there; one more may be. */
		cr_assert(kept == said || kept == said + 1, "kept %lu, said %lu",
			  (unsigned long)kept, (unsigned long)said);
		killed_in_round += kept == said;
		before = kept;
		__atomic_store_n(rounds, kept, __ATOMIC_RELAXED);
	}
	cr_assert_gt(killed_in_round, 0);
	munmap(rounds, 4096);
}
