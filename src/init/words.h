/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel command line's words, and lists of words within them: base64 of a JSON array of
 * strings, which no quoting can break.
 *
 * Pure, over the caller's memory. Refuses to: guess. A list that is not exactly one array of
 * strings is no list.
 */
#ifndef CELLOS_INIT_WORDS_H
#define CELLOS_INIT_WORDS_H

#include <stdbool.h>
#include <stddef.h>

#define INIT_MAX_WORDS 64
#define INIT_TEXT_BYTES 4096 /* no kernel command line is longer on x86_64 (2048) */

struct init_words {
	size_t count;
	char *words[INIT_MAX_WORDS + 1]; /* ends in NULL, as exec wants it; into `text` */
	char text[INIT_TEXT_BYTES];
};

/* The value of `name=value` in a command line: its length, and *value; -1: it is not there. */
int init_find(const char *line, const char *name, const char **value);
/* 0, or -EINVAL. */
int init_words_parse(struct init_words *list, const char *base64, size_t length);
/* Decoded bytes into `out` of `size`: how many, or -EINVAL. */
int init_base64(const char *text, size_t length, char *out, size_t size);

#endif
