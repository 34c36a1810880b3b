/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What json-c lets pass although it is no JSON, or would change in silence. Pure; any thread.
 */
#ifndef CELLOS_JSON_STRICT_H
#define CELLOS_JSON_STRICT_H

#include <stddef.h>

/*
 * NULL, or what is wrong. `*members` counts the colons outside of strings: the members of all
 * objects together. An object that holds fewer once it is parsed was given a key twice.
 */
const char *cellos_json_strict(const char *text, size_t length, size_t *members);

/* 0..15, or -1. */
static inline int cellos_hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	if (digit >= 'a' && digit <= 'f')
		return digit - 'a' + 10;
	if (digit >= 'A' && digit <= 'F')
		return digit - 'A' + 10;
	return -1;
}

#endif
