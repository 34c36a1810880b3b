/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The /proc parsers on any bytes. Beside not crashing: a refusal leaves the result alone; what was
 * taken is in its range; the line written anew from the result means the same; and nothing that
 * follows the part that was read changes it, but for a parenthesis.
 */
#include <string.h>

#include "fuzz.h"
#include "process.h"

static void check_range(const struct cellos_proc_stat *stat, const uint8_t *data, size_t size)
{
	static const char zeros[16];

	FUZZ_CHECK(stat->pid > 0 && stat->pid < CELLOS_PID_LIMIT);
	FUZZ_CHECK(stat->comm_len <= 15);
	FUZZ_CHECK(memcmp(stat->comm + stat->comm_len, zeros, 16u - stat->comm_len) == 0);
	/* The name is the text behind the first parenthesis. */
	FUZZ_CHECK(memchr(data, '(', size) != NULL);
	FUZZ_CHECK(memcmp((const uint8_t *)memchr(data, '(', size) + 1, stat->comm,
			  stat->comm_len) == 0);
}

static void check_again(const struct cellos_proc_stat *stat)
{
	char line[512];
	struct cellos_proc_stat back;
	int head = snprintf(line, sizeof(line), "%u (", stat->pid), rest;

	memcpy(line + head, stat->comm, stat->comm_len);
	head += stat->comm_len;
	rest = snprintf(line + head, sizeof(line) - (size_t)head,
			") %c 1 -1 0 0 -1 %u 1 2 3 4 5 6 7 8 9 -10 %u 0 %llu \n", stat->state,
			stat->flags, stat->num_threads, (unsigned long long)stat->starttime);
	FUZZ_CHECK(rest > 0 && cellos_proc_parse_stat(line, &back) == 0);
	FUZZ_CHECK(memcmp(stat, &back, sizeof(back)) == 0);
}

static void check_longer(const struct cellos_proc_stat *stat, const char *text)
{
	size_t size = strlen(text);
	char *longer = malloc(size + 9);
	struct cellos_proc_stat back;

	if (longer == NULL)
		return;
	memcpy(longer, text, size);
	memcpy(longer + size, " 1 (x\n-9", 9);
	FUZZ_CHECK(cellos_proc_parse_stat(longer, &back) == 0);
	FUZZ_CHECK(memcmp(stat, &back, sizeof(back)) == 0);
	free(longer);
}

static void check_pid(const char *text)
{
	uint32_t pid = cellos_proc_parse_pid(text);
	char again[32];

	FUZZ_CHECK(pid < CELLOS_PID_LIMIT);
	snprintf(again, sizeof(again), "%u", pid);
	FUZZ_CHECK(pid == 0 || strcmp(again, text) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cellos_proc_stat stat, untouched;
	char *text =
		malloc(size + 1); /* of its own size, so that a sanitizer sees a read past it */

	FUZZ_CHECK(text != NULL);
	if (size > 0) /* the fuzzer's empty input may have no address */
		memcpy(text, data, size);
	text[size] = '\0';
	memset(&stat, 0x5a, sizeof(stat));
	untouched = stat;
	if (cellos_proc_parse_stat(text, &stat) == 0) {
		check_range(&stat, data, size);
		check_again(&stat);
		check_longer(&stat, text);
	} else {
		FUZZ_CHECK(memcmp(&stat, &untouched, sizeof(stat)) == 0);
	}
	check_pid(text);
	free(text);
	return 0;
}
