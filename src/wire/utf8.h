/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * UTF-8 as the wire needs it (Unicode 15, section 3.9, table 3-7). Pure; shared by the name
 * cleaner, the encoder and the decoder. No tables of characters, no normalisation.
 */
#ifndef CELLOS_WIRE_UTF8_H
#define CELLOS_WIRE_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/*
 * Looks at the sequence that starts at `text`, `left` >= 1 bytes from the end. A valid character
 * gives its length, 1..4; anything else gives minus the length of its maximal subpart, -1..-3: the
 * bytes that one U+FFFD stands for.
 */
int cellos_utf8_step(const uint8_t *text, size_t left);

/* Characters in `text`, or -1 when it is not valid UTF-8. */
long cellos_utf8_count(const uint8_t *text, size_t length);

/* True when none of the 16 bytes at `text` is above 0x7f: two words, no loop. */
static inline bool cellos_ascii16(const void *text)
{
	uint64_t words[2];

	memcpy(words, text, sizeof(words));
	return ((words[0] | words[1]) & UINT64_C(0x8080808080808080)) == 0;
}

#endif
