/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* One step of UTF-8, and a count made of steps; utf8.h has the contract. */
#include "utf8.h"

int cellos_utf8_step(const uint8_t *text, size_t left)
{
	uint8_t low = 0x80, high = 0xbf; /* what the second byte may be; narrowed below */
	int length;

	if (text[0] < 0x80)
		return 1;
	if (text[0] >= 0xc2 && text[0] <= 0xdf) {
		length = 2;
	} else if (text[0] >= 0xe0 && text[0] <= 0xef) {
		length = 3;
		if (text[0] == 0xe0)
			low = 0xa0; /* below: overlong */
		else if (text[0] == 0xed)
			high = 0x9f; /* above: surrogates */
	} else if (text[0] >= 0xf0 && text[0] <= 0xf4) {
		length = 4;
		if (text[0] == 0xf0)
			low = 0x90; /* below: overlong */
		else if (text[0] == 0xf4)
			high = 0x8f; /* above: past U+10FFFF */
	} else {
		return -1; /* a stray continuation, C0, C1, F5 and up */
	}
	for (int i = 1; i < length; i++) {
		if ((size_t)i >= left || text[i] < low || text[i] > high)
			return -i;
		low = 0x80;
		high = 0xbf;
	}
	return length;
}

long cellos_utf8_count(const uint8_t *text, size_t length)
{
	long characters = 0;

	for (size_t at = 0; at < length; characters++) {
		/* Nearly every character is ASCII: not worth a call each. */
		int step = text[at] < 0x80 ? 1 : cellos_utf8_step(text + at, length - at);

		if (step < 0)
			return -1;
		at += (size_t)step;
	}
	return characters;
}
