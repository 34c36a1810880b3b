/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel's symbols: the input is the text, its first byte the size of the pieces it comes in.
 * Whatever the pieces, the ranges are the same, and each that has an end has it behind its start.
 */
#include <string.h>

#include "capability_symbols.h"
#include "fuzz.h"

struct ranges {
	struct capability_range questions[CAPABILITY_QUESTIONS], refusals[CAPABILITY_REFUSALS];
	bool enough;
};

static void read_all(struct ranges *ranges, const uint8_t *data, size_t size, size_t piece)
{
	struct capability_symbols symbols;
	bool done = false;

	memset(ranges, 0, sizeof(*ranges));
	cellos_capability_symbols_begin(&symbols, ranges->questions, ranges->refusals);
	for (size_t at = 0; at < size && !done; at += piece) {
		size_t length = size - at < piece ? size - at : piece;
		char *text = malloc(length);

		FUZZ_CHECK(text != NULL);
		memcpy(text, data + at, length);
		done = cellos_capability_symbols_feed(&symbols, text, length);
		free(text);
	}
	ranges->enough = cellos_capability_symbols_end(&symbols);
}

static void check(const struct capability_range *range, unsigned count)
{
	for (unsigned at = 0; at < count; at++) {
		FUZZ_CHECK(range[at].end == 0 || range[at].end > range[at].start);
		FUZZ_CHECK(range[at].start != 0 || range[at].end == 0);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct ranges whole, pieces;

	if (size < 2)
		return 0;
	/* A line longer than any name is cut only when a piece's end falls into it. */
	for (size_t at = 1, length = 0; at < size; at++) {
		length = data[at] == '\n' ? 0 : length + 1;
		if (length > 120)
			return 0;
	}
	read_all(&whole, data + 1, size - 1, size);
	read_all(&pieces, data + 1, size - 1, (size_t)data[0] % 64 + 1);
	FUZZ_CHECK(memcmp(&whole, &pieces, sizeof(whole)) == 0);
	check(whole.questions, CAPABILITY_QUESTIONS);
	check(whole.refusals, CAPABILITY_REFUSALS);
	return 0;
}
