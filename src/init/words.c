/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See words.h. JSON by RFC 8259, base64 by RFC 4648 section 4, both with nothing around it. */
#include "words.h"

#include <errno.h>
#include <string.h>

int init_find(const char *line, const char *name, const char **value)
{
	const size_t length = strlen(name);

	for (const char *at = line; *at != '\0';) {
		size_t word;

		at += strspn(at, " \n");
		word = strcspn(at, " \n");
		if (word > length && strncmp(at, name, length) == 0 && at[length] == '=') {
			*value = at + length + 1;
			return (int)(word - length - 1);
		}
		at += word;
	}
	return -1;
}

static int sextet(char letter)
{
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	const char *at = letter == '\0' ? NULL : strchr(letters, letter);

	return at == NULL ? -1 : (int)(at - letters);
}

int init_base64(const char *text, size_t length, char *out, size_t size)
{
	unsigned bits = 0, held = 0;
	size_t count = 0;

	while (length > 0 && text[length - 1] == '=')
		length--;
	for (size_t i = 0; i < length; i++) {
		int value = sextet(text[i]);

		if (value < 0)
			return -EINVAL;
		bits = (bits << 6 | (unsigned)value) & 0xffff;
		held += 6;
		if (held < 8)
			continue;
		held -= 8;
		if (count == size)
			return -EINVAL;
		out[count++] = (char)(bits >> held);
	}
	return held >= 6 ? -EINVAL : (int)count; /* one letter alone is no byte */
}

static int hex4(const char *text)
{
	static const char digits[] = "0123456789abcdef0123456789ABCDEF";
	int value = 0;

	for (int i = 0; i < 4; i++) {
		const char *at = text[i] == '\0' ? NULL : strchr(digits, text[i]);

		if (at == NULL)
			return -1;
		value = value << 4 | ((int)(at - digits) & 15);
	}
	return value;
}

/* \uXXXX below U+0080; what is above stands as UTF-8 itself in what our tools write. */
static bool unescape(const char **from, char **to)
{
	static const char from_letter[] = "\"\\/bfnrt", to_letter[] = "\"\\/\b\f\n\r\t";
	const char *at = **from == '\0' ? NULL : strchr(from_letter, **from);
	int value;

	if (at != NULL) {
		*(*to)++ = to_letter[at - from_letter];
		(*from)++;
		return true;
	}
	if (**from != 'u')
		return false;
	value = hex4(*from + 1);
	if (value <= 0 || value > 0x7f)
		return false;
	*(*to)++ = (char)value;
	*from += 5;
	return true;
}

/* In place: what is unescaped is never longer. *at stands behind the opening quote. */
static char *take_string(char **at)
{
	char *begin = *at, *to = *at;
	const char *from = *at;

	while (*from != '"') {
		if ((unsigned char)*from < 0x20)
			return NULL; /* also at the end */
		if (*from == '\\') {
			from++;
			if (!unescape(&from, &to))
				return NULL;
		} else {
			*to++ = *from++;
		}
	}
	*at += from - begin + 1;
	*to = '\0';
	return begin;
}

static char *skip_space(char *at)
{
	return at + strspn(at, " \t\r\n");
}

int init_words_parse(struct init_words *list, const char *base64, size_t length)
{
	int bytes = init_base64(base64, length, list->text, sizeof(list->text) - 1);
	char *at = list->text, separator = '[';

	list->count = 0;
	if (bytes < 0)
		return bytes;
	list->text[bytes] = '\0';
	if (strlen(list->text) != (size_t)bytes)
		return -EINVAL; /* a NUL among it */
	do {
		at = skip_space(at);
		if (*at != separator)
			return -EINVAL;
		at = skip_space(at + 1);
		if (*at != '"' || list->count == INIT_MAX_WORDS)
			return -EINVAL;
		at++;
		list->words[list->count] = take_string(&at);
		if (list->words[list->count++] == NULL)
			return -EINVAL;
		separator = ',';
	} while (*(at = skip_space(at)) != ']');
	list->words[list->count] = NULL;
	return *skip_space(at + 1) == '\0' ? 0 : -EINVAL;
}
