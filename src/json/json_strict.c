/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * json-c is lenient where a translator must not be: strings in single quotes, control characters
 * inside of strings, integers beyond 64 bits (clamped), half a surrogate pair (replaced), a key
 * given twice (the last one wins), NaN, Infinity, -01 and "1.". This looks over a text for those
 * before json-c reads it; whether the line is JSON at all remains json-c's to say. Pure.
 */
#include "cellos_json_strict.h"

#include <stdbool.h>
#include <string.h>

struct scan {
	const char *at;
	const char *end;
};

/* The UTF-16 unit of \uXXXX, whose backslash is at `at`; -1 when there is none. */
static long code_unit(const char *at, const char *end)
{
	long unit = 0;

	if (end - at < 6 || at[0] != '\\' || at[1] != 'u')
		return -1;
	for (int i = 2; i < 6; i++) {
		if (cellos_hex_digit(at[i]) < 0)
			return -1;
		unit = unit << 4 | cellos_hex_digit(at[i]);
	}
	return unit;
}

/* Past an escape; a high surrogate must be followed by a low one, which goes with it. */
static const char *scan_escape(struct scan *scan)
{
	long unit = code_unit(scan->at, scan->end), low;

	if (unit < 0xd800 || unit > 0xdfff) {
		scan->at += scan->end - scan->at < 2 ? 1 : 2;
		return NULL;
	}
	low = code_unit(scan->at + 6, scan->end);
	if (unit > 0xdbff || low < 0xdc00 || low > 0xdfff)
		return "half a surrogate pair";
	scan->at += 12;
	return NULL;
}

/* From behind the opening quote to behind the closing one. */
static const char *scan_string(struct scan *scan)
{
	const char *why = NULL;

	while (why == NULL && scan->at < scan->end && *scan->at != '"') {
		if (*scan->at == '\\')
			why = scan_escape(scan);
		else if ((unsigned char)*scan->at < 0x20)
			why = "a control character inside of a string";
		else
			scan->at++;
	}
	scan->at += scan->at < scan->end;
	return why;
}

static size_t skip_digits(struct scan *scan)
{
	const char *first = scan->at;

	while (scan->at < scan->end && *scan->at >= '0' && *scan->at <= '9')
		scan->at++;
	return (size_t)(scan->at - first);
}

static bool skip_one_of(struct scan *scan, const char *set)
{
	if (scan->at == scan->end || *scan->at == '\0' || strchr(set, *scan->at) == NULL)
		return false;
	scan->at++;
	return true;
}

/* RFC 8259, section 6; and whole numbers only as far as json-c keeps them. */
static const char *scan_number(struct scan *scan)
{
	static const char max[] = "18446744073709551615", unsound[] = "a number that is none";
	const char *first;
	size_t length;

	(void)skip_one_of(scan, "-");
	first = scan->at;
	length = skip_digits(scan);
	if (length == 0 || (length > 1 && *first == '0'))
		return unsound;
	if (length > sizeof(max) - 1 ||
	    (length == sizeof(max) - 1 && memcmp(first, max, length) > 0))
		return "a number over 2^64 - 1";
	if (skip_one_of(scan, ".") && skip_digits(scan) == 0)
		return unsound;
	if (skip_one_of(scan, "eE")) {
		(void)skip_one_of(scan, "+-");
		if (skip_digits(scan) == 0)
			return unsound;
	}
	return NULL;
}

const char *cellos_json_strict(const char *text, size_t length, size_t *members)
{
	struct scan scan = {.at = text, .end = text + length};
	const char *why = NULL;

	*members = 0;
	while (why == NULL && scan.at < scan.end) {
		if (*scan.at == '-' || (*scan.at >= '0' && *scan.at <= '9')) {
			why = scan_number(&scan);
			continue;
		}
		if (*scan.at == 'N' || *scan.at == 'I')
			why = "NaN or Infinity";
		*members += *scan.at == ':';
		if (*scan.at == '\'')
			why = "a string in single quotes";
		if (*scan.at++ == '"')
			why = scan_string(&scan);
	}
	return why;
}
