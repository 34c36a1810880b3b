/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel's symbols to ranges; see capability.h.
 *
 * Threads: a pure function over the caller's memory. Refuses to: open anything.
 */
#include "capability.h"

#include <stdlib.h>
#include <string.h>

/* Ends of names, for a system call has several entries; questions first. May a mapping use the
   reserve kept for the administrator, may addresses be shown: a "no" changes a limit or hides a
   number. Without audit: how anything else in the kernel asks to decide how much and not whether;
   but the rest asks in that way too, and fails the call. */
static const char *const wanted[] = {
	"vm_enough_memory",    "vm_enough_memory_mm",
	"kallsyms_show_value", "capable_noaudit",
	"capability_noaudit",  "do_seccomp",
	"sys_seccomp",         "seccomp_set_mode_filter",
	"prctl_set_seccomp",   "sys_landlock_restrict_self",
	"statmount",           "listmount",
};
#define QUESTIONS 5

static enum capability_kind kind_of(const char *name)
{
	/* Without what the compiler appends to a part of a function (".cold", ".isra.0"). */
	const size_t length = strcspn(name, ".");

	/* Padding before a function is none of its code. */
	if (strncmp(name, "__pfx_", 6) == 0)
		return CAPABILITY_NEITHER;
	for (unsigned at = 0; at < sizeof(wanted) / sizeof(wanted[0]); at++) {
		const size_t end = strlen(wanted[at]);

		if (length >= end && memcmp(name + length - end, wanted[at], end) == 0)
			return at < QUESTIONS ? CAPABILITY_QUESTION : CAPABILITY_REFUSAL;
	}
	return CAPABILITY_NEITHER;
}

/* "<16 digits> <type> <name>" */
static void take_line(struct capability_range *ranges, const char *line)
{
	const bool is_code = strlen(line) > 19 && (line[17] == 't' || line[17] == 'T');
	const enum capability_kind kind = is_code ? kind_of(line + 19) : CAPABILITY_NEITHER;
	struct capability_range *range = ranges, *end = ranges + CAPABILITY_RANGES;
	uint64_t address;

	while (range < end && range->end > range->start) /* to the first that is not whole */
		range++;
	/* Of a hundred thousand lines almost all end here. */
	if (range == end || (kind == CAPABILITY_NEITHER && range->kind == CAPABILITY_NEITHER))
		return;
	address = strtoull(line, NULL, 16);
	if (range->kind != CAPABILITY_NEITHER) {
		/* An address may have several names: the end is where the next function is. */
		if (address <= range->start || range->start == 0)
			return;
		range->end = address;
		range++;
	}
	if (kind != CAPABILITY_NEITHER && range < end)
		*range = (struct capability_range){address, address, kind};
}

void cellos_capability_symbols(struct capability_range *ranges, char *text)
{
	for (char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
		*end = '\0';
		take_line(ranges, text);
	}
}
