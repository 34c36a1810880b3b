/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The page of a captured run, made of any bytes at all: there is always a page, it is whole, it is
 * bounded, and nothing in the input becomes an element, an attribute or a control character of it.
 */
#include <string.h>

#include "fuzz.h"
#include "page.h"

#define MAX_PAGE_BYTES (8u << 20)

/* Every tag is one of ours: its name is lower-case, and none that could run or load something. */
static void check_tags(const char *page, size_t length)
{
	static const char *const never[] = {"script", "img",   "iframe", "object", "embed",
					    "link",   "image", "use",    "base",   "form"};

	for (const char *at = page; (at = memchr(at, '<', length - (size_t)(at - page))) != NULL;
	     at++)
		for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
			FUZZ_CHECK(strncmp(at + 1, never[i], strlen(never[i])) != 0);
}

static void check_page(const char *page, size_t length)
{
	static const char end[] = "</main>\n</body>\n</html>\n";

	FUZZ_CHECK(length > sizeof(end) && length < MAX_PAGE_BYTES);
	FUZZ_CHECK(strcmp(page + length - (sizeof(end) - 1), end) == 0);
	FUZZ_CHECK(strlen(page) == length);
	for (size_t i = 0; i < length; i++)
		FUZZ_CHECK((unsigned char)page[i] >= 0x20 || page[i] == '\n');
	check_tags(page, length);
	FUZZ_CHECK(strstr(page, "nan") == NULL || strstr(page, "=\"nan") == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	enum host_page_failure failed;
	size_t length = 0;
	char *page = NULL;
	FILE *in = tmpfile(), *out = open_memstream(&page, &length);

	FUZZ_CHECK(in != NULL && out != NULL);
	FUZZ_CHECK(size == 0 || fwrite(data, 1, size, in) == size);
	rewind(in);
	FUZZ_CHECK(host_page(in, "<script>\"'&\x01", out, &failed) == 0);
	fclose(in);
	fclose(out);
	check_page(page, length);
	free(page);
	return 0;
}
