/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the host must still know after its own kill -9: of each cell the account, and how far the
 * spool is filled and acknowledged.
 *
 * One file of fixed size, mapped and shared: what was stored is the file's even when the process
 * dies at the next instruction (not when the machine does). Every record is there twice; a commit
 * makes all that was put since the last one valid at once, by one 8-byte store. So a reader after a
 * crash finds all cells and the spool as they stood at one and the same commit.
 *
 * One thread finds, puts, forgets and commits; another, the sink, moves what it alone writes (the
 * spool's acknowledged and published positions). A file belongs to one process at a time (flock).
 *
 * Refuses to: sync. A power cut may lose or mix what the kernel had not written back.
 */
#ifndef CELLOS_HOST_STATE_H
#define CELLOS_HOST_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "account.h"

#define HOST_STATE_MAX_CELLS 4096u

/* Plain data: what is kept of one cell. */
struct host_kept {
	struct host_incarnation agent;
	struct host_totals totals;
	struct host_told told;
	uint32_t incarnation; /* agents of this run so far; the number in every id */
	bool knew_any;
	bool untold;
	bool silent;
	uint64_t sequence; /* last given to an event of this incarnation; never given again */
	uint64_t reports;  /* the same for reports of this run */
};

struct host_state;

/*
 * `path` NULL: memory only, nothing is kept. -EWOULDBLOCK: another process has it; -EPROTO: not a
 * state file, of another version, or not sound; else -errno. *state is owned by the caller.
 */
CELLOS_MUST_CHECK int host_state_open(struct host_state **state, const char *path);
/* What was put and not committed is not kept. NULL is fine. */
void host_state_close(struct host_state *state);

/*
 * The slot of a cell, made when there is none: then *kept is all zero and *known false, and the
 * next commit keeps it. It is held until release or forget. When all slots are in use, the one
 * whose cell was put the longest ago, and which is not held, is given away. Slot number, -EINVAL
 * for an id that does not fit, or -ENOSPC: all are held.
 */
CELLOS_MUST_CHECK int host_state_find(struct host_state *state, const char *cell_id,
				      const char *run_id, struct host_kept *kept, bool *known);
/* Valid from the next commit on. */
void host_state_put(struct host_state *state, unsigned slot, const struct host_kept *kept);
/* The cell has ended. Should it come again it is known, as long as nobody needed its place. */
void host_state_release(struct host_state *state, unsigned slot);
void host_state_forget(struct host_state *state, unsigned slot);
/* `spool_end`: bytes ever put into the spool, as of this commit. */
void host_state_commit(struct host_state *state, uint64_t spool_end);

/* As of the latest commit; what was put into the spool before it can be read. Any thread. */
uint64_t host_state_spool_end(const struct host_state *state);
/* Bytes of the spool that need never be sent again, and may be overwritten. Any thread. */
uint64_t host_state_spool_acked(const struct host_state *state);
void host_state_set_spool_acked(struct host_state *state, uint64_t acked);

/*
 * The sink's own notes. Behind `published` nothing was ever handed to the engine; what lies between
 * it and the acknowledged position may be there already, since `unsure_since` (CLOCK_REALTIME, ns)
 * at the earliest. 0: never.
 */
uint64_t host_state_spool_published(const struct host_state *state);
void host_state_set_spool_published(struct host_state *state, uint64_t published);
uint64_t host_state_unsure_since(const struct host_state *state);
void host_state_set_unsure_since(struct host_state *state, uint64_t realtime_ns);

#endif
