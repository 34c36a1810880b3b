/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See capability_symbols.h. */
#include "capability_symbols.h"

#include <string.h>

enum kind { ASIDE, NOAUDIT, REFUSAL };

/*
 * Aside: may a mapping use the reserve kept for the administrator, may addresses be shown, may a
 * tracer go on: a "no" changes a limit or hides a number. Without audit: how anything else in the
 * kernel asks to decide how much and not whether. Refusal: asks in that way too, and fails the
 * call; a name that begins with "_" stands for every entry to that system call.
 */
#define WANT(name, kind)                                                                           \
	{                                                                                          \
		name, sizeof(name) - 1, kind                                                       \
	}
static const struct wanted {
	const char *name;
	uint8_t length;
	uint8_t kind;
} wanted[] = {
	WANT("security_vm_enough_memory_mm", ASIDE),
	WANT("cap_vm_enough_memory", ASIDE),
	WANT("kallsyms_show_value", ASIDE),
	WANT("ptracer_capable", ASIDE),
	WANT("ns_capable_noaudit", NOAUDIT),
	WANT("has_capability_noaudit", NOAUDIT),
	WANT("has_ns_capability_noaudit", NOAUDIT),
	WANT("do_seccomp", REFUSAL),
	WANT("seccomp_set_mode_filter", REFUSAL),
	WANT("prctl_set_seccomp", REFUSAL),
	WANT("_sys_seccomp", REFUSAL),
	WANT("_sys_landlock_restrict_self", REFUSAL),
	WANT("do_statmount", REFUSAL),
	WANT("_sys_statmount", REFUSAL),
	WANT("do_listmount", REFUSAL),
	WANT("_sys_listmount", REFUSAL),
};

#define WANTED (sizeof(wanted) / sizeof(wanted[0]))
/* Bits of `found`, by the places above. */
#define FOUND_ACCOUNTING 0x3u /* either will do */
#define FOUND_NOAUDIT 0x10u

void cellos_capability_symbols_begin(struct capability_symbols *symbols,
				     struct capability_range *questions,
				     struct capability_range *refusals)
{
	*symbols = (struct capability_symbols){.questions = questions, .refusals = refusals};
}

/* Of a hundred thousand names almost all end here, most by their length alone. */
static bool is_wanted(const char *name, size_t length, const struct wanted *one)
{
	if (length > one->length && one->name[0] == '_') {
		/* Padding before a function is none of its code. */
		if (strncmp(name, "__pfx_", 6) == 0 || strncmp(name, "__cfi_", 6) == 0)
			return false;
		name += length - one->length;
		length = one->length;
	}
	return length == one->length && memcmp(name, one->name, length) == 0;
}

/* An address may have several names: each opens a range, and the next address ends them all. */
static void close_ranges(struct capability_symbols *symbols, uint64_t address)
{
	for (unsigned at = 0; at < 2; at++) {
		if (symbols->open[at] == NULL || symbols->open[at]->start >= address)
			continue;
		symbols->open[at]->end = address;
		symbols->open[at] = NULL;
	}
}

static void open_range(struct capability_symbols *symbols, uint64_t address, enum kind kind)
{
	bool refusal = kind == REFUSAL;
	unsigned *count = refusal ? &symbols->refusal_count : &symbols->question_count;
	struct capability_range *range =
		(refusal ? symbols->refusals : symbols->questions) + *count;

	if (symbols->open[refusal] != NULL)
		return; /* the same address by another name */
	if (*count == (refusal ? CAPABILITY_REFUSALS : CAPABILITY_QUESTIONS)) {
		symbols->overflow = true;
		return;
	}
	++*count;
	*range = (struct capability_range){
		.start = address,
		.aside = kind == ASIDE ? UINT64_MAX : 0,
		.noaudit = kind == NOAUDIT ? UINT64_MAX : 0,
	};
	symbols->open[refusal] = range;
}

static void take_function(struct capability_symbols *symbols, uint64_t address, const char *name,
			  size_t length)
{
	const char *dot = memchr(name, '.', length);

	/* Without what the compiler appends to a part of a function (".cold", ".isra.0"). */
	if (dot != NULL)
		length = (size_t)(dot - name);
	for (size_t at = 0; at < WANTED; at++) {
		if (!is_wanted(name, length, &wanted[at]))
			continue;
		symbols->found |= 1u << at;
		open_range(symbols, address, wanted[at].kind);
		return;
	}
}

/* The number before the first space; 0 when there is none, or when the kernel hides it. */
static uint64_t parse_address(const char *line, size_t length, size_t *end)
{
	uint64_t address = 0;
	size_t at;

	for (at = 0; at < length && at < 16; at++) {
		char digit = line[at];

		if (digit >= '0' && digit <= '9')
			address = address << 4 | (uint64_t)(digit - '0');
		else if (digit >= 'a' && digit <= 'f')
			address = address << 4 | (uint64_t)(digit - 'a' + 10);
		else
			break;
	}
	*end = at;
	return at < length && line[at] == ' ' ? address : 0;
}

/* "<address> <type> <name>", and "\t[module]" after the kernel's own. False: no more is needed. */
static bool take_line(struct capability_symbols *symbols, const char *line, size_t length)
{
	size_t at;
	uint64_t address = parse_address(line, length, &at);

	if (memchr(line, '\t', length) != NULL)
		return false;
	if (address == 0 || at + 3 >= length || line[at + 2] != ' ')
		return true;
	close_ranges(symbols, address);
	if (line[at + 1] == 't' || line[at + 1] == 'T')
		take_function(symbols, address, line + at + 3, length - at - 3);
	return true;
}

bool cellos_capability_symbols_feed(struct capability_symbols *symbols, const char *text,
				    size_t length)
{
	const char *const end = text + length;

	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		size_t piece = (size_t)((newline != NULL ? newline : end) - text);
		size_t room = sizeof(symbols->line) - symbols->line_length;
		bool whole = newline != NULL && symbols->line_length == 0;

		/* Copied only when a piece's end cuts it: there are a hundred thousand. */
		if (!whole) {
			memcpy(symbols->line + symbols->line_length, text,
			       piece < room ? piece : room);
			symbols->line_length += piece < room ? piece : room;
		}
		if (newline == NULL)
			return false;
		if (!take_line(symbols, whole ? text : symbols->line,
			       whole ? piece : symbols->line_length))
			return true;
		symbols->line_length = 0;
		text = newline + 1;
	}
	return false;
}

bool cellos_capability_symbols_end(struct capability_symbols *symbols)
{
	/* A range without an end holds nothing, and the last function of a kernel is none of ours.
	 */
	return !symbols->overflow && (symbols->found & FOUND_ACCOUNTING) != 0 &&
	       (symbols->found & FOUND_NOAUDIT) != 0;
}
