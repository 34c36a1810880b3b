/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A directory that looks like /proc as far as the walker looks, for what a real one will not do on
 * demand: a pid given out again at once, a kernel thread that starts, a tree that goes away.
 *
 * Threads: the test's. Invariant: an entry appears and changes whole, by rename.
 * Refuses to: stand for /proc where a real process can make the same thing happen.
 */
#ifndef CELLOS_TESTS_FAKE_PROC_H
#define CELLOS_TESTS_FAKE_PROC_H

#include <stdint.h>

#include "rig.h"

struct fake_process {
	uint32_t pid;
	const char *name;
	char state;         /* 0: 'S' */
	uint32_t flags;     /* as in stat's ninth field */
	uint32_t threads;   /* 0: 1 */
	uint64_t starttime; /* 0: 1000 */
};

/* With entries for pid 1 and for this process, and the link "self". */
void fake_proc_make(const char *root);
void fake_proc_put(const char *root, struct fake_process process);
void fake_proc_drop(const char *root, uint32_t pid);
/* An entry whose stat is a fifo: the walker stands still in it until fake_proc_answer. */
void fake_proc_put_fifo(const char *root, uint32_t pid);
/* Waits until the walker stands there; it reads `now`, and `after` the next time (pid 0: gone). */
void fake_proc_answer(const char *root, struct fake_process now, struct fake_process after);

#endif
