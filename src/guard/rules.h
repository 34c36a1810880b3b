/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The profile as data: which system call is refused, by what, and with which error. The filter that
 * is loaded and every way to print it are made from the same rules.
 */
#ifndef CELLOS_GUARD_RULES_H
#define CELLOS_GUARD_RULES_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/guard.h"

enum guard_match {
	GUARD_ALWAYS = 0,
	GUARD_EQUAL,    /* argument == value */
	GUARD_ANY_BIT,  /* argument & value */
	GUARD_PROTECTED /* argument names a protected process, or a group with one, or all */
};

struct guard_rule {
	const char *call;
	int error; /* positive, as errno has it */
	enum guard_match match;
	unsigned argument;
	uint32_t value;
};

/*
 * One comparison: (argument & mask) == value, both 32 bits wide: the kernel reads these arguments
 * as int, so the upper half must not be compared.
 */
struct guard_block {
	uint32_t mask;
	uint32_t value;
};

#define GUARD_MAX_BLOCKS 128

/* The rules that hold for these options, one after the other from at = 0. NULL: no more. */
const struct guard_rule *guard_rule_at(const struct cellos_guard_options *options, size_t at);
/* The comparisons of a rule, each of which refuses; how many. Not for GUARD_ALWAYS. */
size_t guard_rule_blocks(const struct cellos_guard_options *options, const struct guard_rule *rule,
			 struct guard_block blocks[GUARD_MAX_BLOCKS]);

#endif
