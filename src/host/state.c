/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The state file; state.h says what holds.
 *
 * The one number that decides is `commit`. Every record stands in the file twice, each version with
 * the number of the commit that makes it valid: a version is valid when that number is not above
 * `commit`, and of two valid ones the later counts. put writes over the version that does not count
 * and numbers it commit + 1; commit stores commit + 1. Whatever instruction a kill -9 hits, the
 * file holds the versions that counted before, untouched, until that one store.
 *
 * A mapped file's pages are the kernel's: what the process stored stays when it is gone. So the
 * compiler and the order of stores are all there is to watch. One thread writes the records; the
 * reader is a later process.
 *
 * What a killed process had put and not committed carries commit + 1 and would come to life at the
 * next commit; opening takes those numbers away first.
 */
#include "state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "format.h"

#define STATE_MAGIC UINT64_C(0x3165746174735443) /* "CTstate1" */

_Static_assert(ATOMIC_LLONG_LOCK_FREE == 2, "a lock in a mapped file would outlive its owner");

/* A cell's record in one of its two versions. All zero: never used. */
struct version {
	uint64_t commit; /* that makes it valid; 0: none will */
	uint64_t used;   /* 0: the cell was forgotten, or there never was one */
	char cell_id[HOST_ID_MAX_BYTES + 8];
	char run_id[HOST_ID_MAX_BYTES + 8];
	struct host_kept kept;
};

struct end_version {
	uint64_t commit;
	uint64_t position;
};

struct file_layout {
	/* Stored last when the file is made: what carries it is whole. */
	_Atomic uint64_t magic;
	uint32_t version_bytes;
	uint32_t cells;
	_Atomic uint64_t commit;
	struct end_version end[2];
	/* The sink's thread writes these for each acknowledgement: apart from the receiver's. */
	_Alignas(64) _Atomic uint64_t acked;
	_Atomic uint64_t published;
	_Atomic uint64_t unsure_since;
	_Alignas(64) struct version slots[HOST_STATE_MAX_CELLS][2];
};

struct host_state {
	int fd; /* owned; -1: memory only */
	struct file_layout *file;
	uint64_t commit; /* file->commit: this thread alone writes it */
	/* The committed end for the sink's thread. */
	_Atomic uint64_t end;
	/* Of each slot's version that counts, the name's hash; 0: free. Finds in one pass. */
	uint64_t names[HOST_STATE_MAX_CELLS];
	uint8_t current[HOST_STATE_MAX_CELLS]; /* which version counts for the next put and find */
	bool held[HOST_STATE_MAX_CELLS];
};

/* ---- opening -------------------------------------------------------------------------------- */

static uint64_t hash_text(uint64_t hash, const char *text)
{
	do
		hash = (hash ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
	while (*text++ != '\0'); /* the NUL too: it keeps cell and run apart */
	return hash;
}

static uint64_t name_hash(const char *cell_id, const char *run_id)
{
	return hash_text(hash_text(UINT64_C(0xcbf29ce484222325), cell_id), run_id) | 1;
}

static bool is_name(const char *text)
{
	return text[0] != '\0' && memchr(text, '\0', HOST_ID_MAX_BYTES + 1) != NULL;
}

/* Takes the uncommitted numbers away and learns which version of each slot counts. */
static int load_slot(struct host_state *state, unsigned slot)
{
	struct version *pair = state->file->slots[slot];
	const struct version *now;

	for (unsigned i = 0; i < 2; i++)
		if (pair[i].commit > state->commit)
			pair[i].commit = 0;
	state->current[slot] = pair[1].commit > pair[0].commit;
	now = &pair[state->current[slot]];
	if (now->commit == 0 || now->used == 0)
		return 0;
	if (!is_name(now->cell_id) || !is_name(now->run_id))
		return -EPROTO;
	state->names[slot] = name_hash(now->cell_id, now->run_id);
	return 0;
}

static int load(struct host_state *state)
{
	struct file_layout *file = state->file;
	uint64_t end, acked = atomic_load_explicit(&file->acked, memory_order_relaxed),
		      published = atomic_load_explicit(&file->published, memory_order_relaxed);
	int status = 0;

	state->commit = atomic_load_explicit(&file->commit, memory_order_relaxed);
	for (unsigned i = 0; i < 2; i++)
		if (file->end[i].commit > state->commit)
			file->end[i].commit = 0;
	end = file->end[file->end[1].commit > file->end[0].commit].position;
	atomic_store_explicit(&state->end, end, memory_order_relaxed);
	if (acked > end || published > end)
		return -EPROTO;
	for (unsigned i = 0; i < HOST_STATE_MAX_CELLS && status == 0; i++)
		status = load_slot(state, i);
	return status;
}

/*
 * The whole size at once, then the blocks, so that a full disk is found now and not by a signal.
 * Cut short, it is done again: a file of this size whose magic is 0 is still to be made.
 */
static int allocate(int fd)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EPROTO;
	if (st.st_size == 0 && ftruncate(fd, sizeof(struct file_layout)) < 0)
		return -errno;
	if (st.st_size != 0 && (size_t)st.st_size != sizeof(struct file_layout))
		return -EPROTO;
	return -posix_fallocate(fd, 0, sizeof(struct file_layout));
}

static int open_file(struct host_state *state, const char *path)
{
	state->fd =
		open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NOCTTY | O_NONBLOCK, 0600);
	if (state->fd < 0)
		return -errno;
	if (flock(state->fd, LOCK_EX | LOCK_NB) < 0)
		return -errno;
	return allocate(state->fd);
}

static int map(struct host_state *state)
{
	const int flags = state->fd >= 0 ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS;
	void *memory =
		mmap(NULL, sizeof(*state->file), PROT_READ | PROT_WRITE, flags, state->fd, 0);
	struct file_layout *file;

	if (memory == MAP_FAILED)
		return -errno;
	state->file = file = memory;
	if (file->magic == 0 && file->commit == 0) {
		file->version_bytes = sizeof(struct version);
		file->cells = HOST_STATE_MAX_CELLS;
		/* Orders the two above before it: a file with the number has them. */
		atomic_store_explicit(&file->magic, STATE_MAGIC, memory_order_release);
	}
	if (file->magic != STATE_MAGIC || file->version_bytes != sizeof(struct version) ||
	    file->cells != HOST_STATE_MAX_CELLS)
		return -EPROTO;
	return load(state);
}

int host_state_open(struct host_state **out, const char *path)
{
	struct host_state *state = calloc(1, sizeof(*state));
	int status = 0;

	*out = NULL;
	if (state == NULL)
		return -ENOMEM;
	state->fd = -1;
	if (path != NULL)
		status = open_file(state, path);
	if (status == 0)
		status = map(state);
	if (status < 0)
		host_state_close(state);
	else
		*out = state;
	return status;
}

void host_state_close(struct host_state *state)
{
	if (state == NULL)
		return;
	if (state->file != NULL)
		(void)munmap(state->file, sizeof(*state->file));
	if (state->fd >= 0)
		(void)close(state->fd); /* and with it the lock */
	free(state);
}

/* ---- cells ---------------------------------------------------------------------------------- */

/* The version that the next commit makes valid; the caller fills it. */
static struct version *next_version(struct host_state *state, unsigned slot)
{
	struct version *pair = state->file->slots[slot];

	/* Put before since the last commit: that version is not valid yet, and is written again. */
	if (pair[state->current[slot]].commit <= state->commit)
		state->current[slot] ^= 1;
	return &pair[state->current[slot]];
}

static const struct version *current_version(const struct host_state *state, unsigned slot)
{
	return &state->file->slots[slot][state->current[slot]];
}

static void set_name(char name[HOST_ID_MAX_BYTES + 8], const char *text)
{
	memset(name, 0, HOST_ID_MAX_BYTES + 8);
	memcpy(name, text, strlen(text)); /* is_name: it fits */
}

static void make_record(struct host_state *state, unsigned slot, const char *cell_id,
			const char *run_id)
{
	struct version *version = next_version(state, slot);

	memset(version, 0, sizeof(*version));
	version->used = 1;
	set_name(version->cell_id, cell_id);
	set_name(version->run_id, run_id);
	version->commit = state->commit + 1;
	state->names[slot] = name_hash(cell_id, run_id);
}

static bool is_cell(const struct version *version, const char *cell_id, const char *run_id)
{
	return strcmp(version->cell_id, cell_id) == 0 && strcmp(version->run_id, run_id) == 0;
}

/* The cell's slot, or -1. */
static int find_slot(const struct host_state *state, const char *cell_id, const char *run_id)
{
	const uint64_t hash = name_hash(cell_id, run_id);

	for (unsigned i = 0; i < HOST_STATE_MAX_CELLS; i++)
		if (state->names[i] == hash && is_cell(current_version(state, i), cell_id, run_id))
			return (int)i;
	return -1;
}

/* A free slot, or the one to be given away: a supervisor runs for years, and each run has a name of
 * its own. -1: all are held. */
static int free_slot(const struct host_state *state)
{
	uint64_t oldest = UINT64_MAX;
	int slot = -1;

	for (unsigned i = 0; i < HOST_STATE_MAX_CELLS; i++) {
		if (state->names[i] == 0)
			return (int)i;
		if (!state->held[i] && current_version(state, i)->commit < oldest) {
			oldest = current_version(state, i)->commit;
			slot = (int)i;
		}
	}
	return slot;
}

int host_state_find(struct host_state *state, const char *cell_id, const char *run_id,
		    struct host_kept *kept, bool *known)
{
	int slot;

	memset(kept, 0, sizeof(*kept));
	*known = false;
	if (!is_name(cell_id) || !is_name(run_id))
		return -EINVAL;
	slot = find_slot(state, cell_id, run_id);
	if (slot >= 0) {
		*kept = current_version(state, (unsigned)slot)->kept;
		*known = true;
	} else {
		slot = free_slot(state);
		if (slot < 0)
			return -ENOSPC;
		make_record(state, (unsigned)slot, cell_id, run_id);
	}
	state->held[slot] = true;
	return slot;
}

void host_state_release(struct host_state *state, unsigned slot)
{
	state->held[slot] = false;
}

void host_state_put(struct host_state *state, unsigned slot, const struct host_kept *kept)
{
	const struct version *now = current_version(state, slot);
	struct version *next = next_version(state, slot);

	if (next != now) {
		next->used = 1;
		memcpy(next->cell_id, now->cell_id, sizeof(next->cell_id));
		memcpy(next->run_id, now->run_id, sizeof(next->run_id));
	}
	next->kept = *kept;
	/* In any order with the above: it counts for nothing until the commit's own store. */
	next->commit = state->commit + 1;
}

void host_state_forget(struct host_state *state, unsigned slot)
{
	struct version *version = next_version(state, slot);

	memset(version, 0, sizeof(*version));
	version->commit = state->commit + 1;
	state->names[slot] = 0;
	state->held[slot] = false;
}

/* ---- commits and the spool ------------------------------------------------------------------ */

void host_state_commit(struct host_state *state, uint64_t spool_end)
{
	struct file_layout *file = state->file;
	struct end_version *end = &file->end[file->end[1].commit <= file->end[0].commit];

	end->position = spool_end;
	end->commit = state->commit + 1;
	state->commit++;
	/*
	 * Release orders every store of put, forget and the end, and the spool's bytes, before it.
	 * Its partner is the load in load() of a later process: the kernel keeps the page for it,
	 * so what that process sees of this store it sees of the others.
	 */
	atomic_store_explicit(&file->commit, state->commit, memory_order_release);
	/* Orders the spool's bytes, and the commit, before what the sink reads: it publishes
	 * nothing that a crash could take back. Partner: host_state_spool_end. */
	atomic_store_explicit(&state->end, spool_end, memory_order_release);
}

uint64_t host_state_spool_end(const struct host_state *state)
{
	return atomic_load_explicit(&state->end, memory_order_acquire);
}

uint64_t host_state_spool_acked(const struct host_state *state)
{
	/* Orders the sink's reads of the spool before what the receiver writes over them. */
	return atomic_load_explicit(&state->file->acked, memory_order_acquire);
}

void host_state_set_spool_acked(struct host_state *state, uint64_t acked)
{
	/* Partner of the load above. */
	atomic_store_explicit(&state->file->acked, acked, memory_order_release);
}

uint64_t host_state_spool_published(const struct host_state *state)
{
	/* The sink reads its own note: no other thread is concerned. */
	return atomic_load_explicit(&state->file->published, memory_order_relaxed);
}

void host_state_set_spool_published(struct host_state *state, uint64_t published)
{
	/* Orders unsure_since before it: a process that finds lines published finds since when. */
	atomic_store_explicit(&state->file->published, published, memory_order_release);
}

uint64_t host_state_unsure_since(const struct host_state *state)
{
	return atomic_load_explicit(&state->file->unsure_since, memory_order_relaxed);
}

void host_state_set_unsure_since(struct host_state *state, uint64_t realtime_ns)
{
	atomic_store_explicit(&state->file->unsure_since, realtime_ns, memory_order_relaxed);
}
