/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel's symbols: the input is the text, its first byte says where that is cut in two.
 * Wherever that is, behind a line, the ranges are the same, and each that has an end has it behind
 * its start.
 */
#include <string.h>

#include "capability.h"
#include "fuzz.h"

static void read_piece(struct capability_range *ranges, const uint8_t *data, size_t size)
{
	/* Its own memory, exactly: a read past the end is seen. */
	char *text = malloc(size + 1);

	FUZZ_CHECK(text != NULL);
	memcpy(text, data, size);
	text[size] = '\0';
	cellos_capability_symbols(ranges, text);
	free(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct capability_range whole[CAPABILITY_RANGES] = {0}, pieces[CAPABILITY_RANGES] = {0};
	const uint8_t *cut;

	if (size < 2 || memchr(data, '\0', size) != NULL)
		return 0;
	read_piece(whole, data + 1, size - 1);
	cut = memchr(data + 1 + data[0] % (size - 1), '\n', size - 1 - data[0] % (size - 1));
	cut = cut != NULL ? cut + 1 : data + 1;
	read_piece(pieces, data + 1, (size_t)(cut - data - 1));
	read_piece(pieces, cut, (size_t)(data + size - cut));
	FUZZ_CHECK(memcmp(whole, pieces, sizeof(whole)) == 0);
	for (unsigned at = 0; at < CAPABILITY_RANGES; at++) {
		FUZZ_CHECK(whole[at].end >= whole[at].start);
		FUZZ_CHECK(whole[at].kind <= CAPABILITY_REFUSAL);
		FUZZ_CHECK(whole[at].kind != CAPABILITY_NEITHER || whole[at].end == 0);
	}
	return 0;
}
