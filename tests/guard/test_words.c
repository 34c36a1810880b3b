/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* What an init reads from the kernel's command line. */
#include <criterion/criterion.h>

#include <stdio.h>
#include <string.h>

#include "words.h"

static void expect_words(const char *base64, const char *const expected[])
{
	struct init_words list;
	size_t i;

	cr_assert(init_words_parse(&list, base64, strlen(base64)) == 0, "%s", base64);
	for (i = 0; expected[i] != NULL; i++)
		cr_assert_str_eq(list.words[i], expected[i]);
	cr_assert(list.count == i && list.words[i] == NULL);
}

static void expect_none(const char *base64)
{
	struct init_words list;

	cr_assert(init_words_parse(&list, base64, strlen(base64)) < 0, "%s", base64);
}

Test(words, found_by_their_whole_name)
{
	const char line[] = "quiet xcellos.argv=no cellos.argv=YQ== cellos.argvs=no cellos.cid=3\n";
	const char *value;

	cr_assert(init_find(line, "cellos.argv", &value) == 4 && strncmp(value, "YQ==", 4) == 0);
	cr_assert(init_find(line, "cellos.cid", &value) == 1 && *value == '3');
	cr_assert(init_find(line, "cellos", &value) == -1);
	cr_assert(init_find("", "a", &value) == -1);
	cr_assert(init_find("a=", "a", &value) == 0);
}

Test(words, lists)
{
	/* ["/bin/sh","-c","echo \"a b\"\n"] */
	expect_words("WyIvYmluL3NoIiwiLWMiLCJlY2hvIFwiYSBiXCJcbiJd",
		     (const char *const[]){"/bin/sh", "-c", "echo \"a b\"\n", NULL});
	/* [ "" , "\u0041\/\\" ] with blanks around */
	expect_words("IFsgIiIgLCAiXHUwMDQxXC9cXCIgXSA=", (const char *const[]){"", "A/\\", NULL});
}

Test(words, what_is_no_list)
{
	expect_none("");                 /* nothing */
	expect_none("W10=");             /* []: no program */
	expect_none("WyJhIg==");         /* ["a" */
	expect_none("WyJhIl1d");         /* ["a"]] */
	expect_none("WyJhIiwxXQ==");     /* ["a",1] */
	expect_none("WyJhIiwiYl0=");     /* ["a","b] */
	expect_none("WyJcdTAwMDAiXQ=="); /* ["\u0000"]: no argument holds it */
	expect_none("WyJcdTAwZTQiXQ=="); /* ["\u00e4"]: written as itself, or not at all */
	expect_none("WyJcIl0=");         /* ["\"] */
	expect_none("WyJhIl0\\");        /* not base64 */
	expect_none("WyJhIl0A");         /* a NUL behind it */
}

Test(words, too_many)
{
	static char json[1024], base64[2048];
	static const char letters[] =
		"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct init_words list;

	for (size_t words = INIT_MAX_WORDS; words <= INIT_MAX_WORDS + 1; words++) {
		size_t length = 0, out = 0;

		for (size_t i = 0; i < words; i++)
			length += (size_t)sprintf(json + length, "%s\"a\"", i == 0 ? "[" : ",");
		length += (size_t)sprintf(json + length, "]");
		while (length % 3 != 0)
			json[length++] = ' ';
		for (size_t i = 0; i < length; i += 3) {
			unsigned bits = (unsigned)json[i] << 16 | (unsigned)json[i + 1] << 8 |
					(unsigned)json[i + 2];

			for (int shift = 18; shift >= 0; shift -= 6)
				base64[out++] = letters[bits >> shift & 63];
		}
		cr_assert((init_words_parse(&list, base64, out) == 0) == (words == INIT_MAX_WORDS));
	}
}

Test(words, base64_to_the_byte)
{
	char out[4];

	cr_assert(init_base64("YWJj", 4, out, 4) == 3 && memcmp(out, "abc", 3) == 0);
	cr_assert(init_base64("YWI=", 4, out, 4) == 2 && init_base64("YQ", 2, out, 4) == 1);
	cr_assert(init_base64("YWJjZGU=", 8, out, 4) < 0, "no room");
	cr_assert(init_base64("Y", 1, out, 4) < 0 && init_base64("Y Q=", 4, out, 4) < 0);
}
