/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Text made piece by piece in the caller's fixed memory. A piece that does not fit whole is left
 * out, so `out` always ends in NUL behind a whole one. Any thread, its own text; never fails.
 */
#ifndef CELLOS_AGENT_TEXT_H
#define CELLOS_AGENT_TEXT_H

#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>

struct text {
	char *out;
	size_t size; /* 0: nothing is written, out may be NULL */
	size_t used;
	size_t wanted; /* what all pieces together would take */
};

__attribute__((format(printf, 2, 3))) static inline void text_put(struct text *text,
								  const char *format, ...)
{
	size_t left = text->size - text->used;
	char *at = left > 0 ? text->out + text->used : NULL;
	va_list arguments;
	size_t length;

	va_start(arguments, format);
	length = (size_t)vsnprintf(at, left, format, arguments);
	va_end(arguments);
	text->wanted += length;
	if (length < left)
		text->used += length;
	else if (left > 0)
		*at = '\0';
}

#endif
