/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Where in the kernel stand the functions that ask for a capability "just to know": from the text
 * of /proc/kallsyms to ranges of addresses that the capability program compares stack frames with.
 *
 * Threads: pure functions over the caller's memory, which may be fed in pieces of any size.
 * Invariant: a range ends where the next function begins. Refuses to: open anything; take addresses
 * of modules, or the zeros of a kernel that hides the truth.
 */
#ifndef CELLOS_PROBE_CAPABILITY_SYMBOLS_H
#define CELLOS_PROBE_CAPABILITY_SYMBOLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "capability_shared.h"

struct capability_symbols {
	struct capability_range *questions; /* borrowed: CAPABILITY_QUESTIONS of them, zeroed */
	struct capability_range *refusals;  /* borrowed: CAPABILITY_REFUSALS of them, zeroed */
	unsigned question_count, refusal_count;
	struct capability_range *open[2]; /* begun, and waiting for their end; NULL */
	unsigned found;                   /* a bit for each name that is looked for */
	bool overflow;                    /* more than there is room for */
	size_t line_length;
	char line[128]; /* a line that is not whole yet; of a longer one, no name is wanted */
};

void cellos_capability_symbols_begin(struct capability_symbols *symbols,
				     struct capability_range *questions,
				     struct capability_range *refusals);
/* True when no more text is needed. */
bool cellos_capability_symbols_feed(struct capability_symbols *symbols, const char *text,
				    size_t length);
/* True when the kernel's accounting and its questions without audit can both be told. */
bool cellos_capability_symbols_end(struct capability_symbols *symbols);

#endif
