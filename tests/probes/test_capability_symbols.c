/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From the text of /proc/kallsyms to ranges: a written kernel, in pieces of every size; kernels
 * that hide, lack or abound in what is looked for; and the one that runs here.
 *
 * Threads: the test's. Refuses to: load anything.
 */
#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "capability.h"
#include "skip.h"

static const char small_kernel[] = "ffffffff81000000 T _stext\n"
				   "ffffffff81000010 t ns_capable_noaudit.cold\n"
				   "ffffffff81000030 t something\n"
				   "ffffffff810000f0 T __pfx_ns_capable_noaudit\n"
				   "ffffffff81000100 T ns_capable_noaudit\n"
				   "ffffffff81000100 T has_capability_noaudit\n"
				   "ffffffff81000100 T its_other_name\n"
				   "ffffffff81000180 T has_capability\n"
				   "ffffffff81000190 T has_capability_noaudit_not\n"
				   "ffffffff81000200 t do_seccomp.isra.0\n"
				   "ffffffff810002f0 T __pfx___x64_sys_seccomp\n"
				   "ffffffff81000300 T __x64_sys_seccomp\n"
				   "ffffffff81000310 T __ia32_sys_seccomp\n"
				   "ffffffff81000320 d _eil_addr___x64_sys_seccomp\n"
				   "ffffffff81000330 T cap_vm_enough_memory\n"
				   "ffffffff81000330 T security_vm_enough_memory_mm\n"
				   "ffffffff81000390 T _etext\n"
				   "ffffffffa0000000 t cap_vm_enough_memory\t[module]\n"
				   "ffffffffa0000100 t the_end\t[module]\n";

static const struct capability_range in_it[CAPABILITY_RANGES] = {
	{0xffffffff81000010, 0xffffffff81000030, CAPABILITY_QUESTION},
	{0xffffffff81000100, 0xffffffff81000180, CAPABILITY_QUESTION},
	{0xffffffff81000200, 0xffffffff810002f0, CAPABILITY_REFUSAL},
	{0xffffffff81000300, 0xffffffff81000310, CAPABILITY_REFUSAL},
	{0xffffffff81000310, 0xffffffff81000320, CAPABILITY_REFUSAL},
	{0xffffffff81000330, 0xffffffff81000390, CAPABILITY_QUESTION},
};

static struct capability_range ranges[CAPABILITY_RANGES];

static void read_text(const char *text, size_t length)
{
	char copy[8192];

	cr_assert(length < sizeof(copy));
	memcpy(copy, text, length);
	copy[length] = '\0';
	cellos_capability_symbols(ranges, copy);
}

static void read_anew(const char *text)
{
	memset(ranges, 0, sizeof(ranges));
	read_text(text, strlen(text));
}

/* Cut into two behind each of its lines. */
Test(capability_symbols, in_pieces)
{
	for (size_t at = 0; at < sizeof(small_kernel); at++) {
		if (at > 0 && small_kernel[at - 1] != '\n')
			continue;
		memset(ranges, 0, sizeof(ranges));
		read_text(small_kernel, at);
		read_text(small_kernel + at, sizeof(small_kernel) - 1 - at);
		cr_assert(memcmp(ranges, in_it, sizeof(ranges)) == 0, "%zu", at);
	}
}

Test(capability_symbols, what_is_none)
{
	read_anew("");
	cr_assert(ranges[0].end == 0);
	/* A kernel that hides its addresses. */
	read_anew("0000000000000000 T cap_vm_enough_memory\n"
		  "0000000000000000 T ns_capable_noaudit\n0000000000000000 T x\n");
	cr_assert(ranges[0].end == 0);
	read_anew("ffffffff81000100 D cap_vm_enough_memory\nffffffff81000200 D x\n");
	cr_assert(ranges[0].end == 0);
	/* Without an end it holds nothing. */
	read_anew("ffffffff81000100 T cap_vm_enough_memory\n");
	cr_assert(ranges[0].end == ranges[0].start && ranges[1].kind == CAPABILITY_NEITHER);
}

Test(capability_symbols, more_than_there_is_room_for)
{
	struct capability_range behind;
	char text[8192] = "";
	size_t length = 0;

	for (unsigned at = 0; at <= CAPABILITY_RANGES; at++)
		length +=
			(size_t)snprintf(text + length, sizeof(text) - length,
					 "ffffffff8100%04x t ns_capable_noaudit.%u\n", at * 16, at);
	read_anew(text);
	for (unsigned at = 0; at < CAPABILITY_RANGES; at++)
		cr_assert(ranges[at].end == ranges[at].start + 16);
	behind = ranges[CAPABILITY_RANGES - 1];
	read_text("ffffffff81010000 T cap_vm_enough_memory\nffffffff81010010 T x\n", 62);
	cr_assert(memcmp(&behind, &ranges[CAPABILITY_RANGES - 1], sizeof(behind)) == 0);
}

Test(capability_symbols, rubbish)
{
	static const char *const lines[] = {
		"\n",
		" \n",
		"ffffffff81000000\n",
		"ffffffff81000000 \n",
		"xyz T f\n",
		"ffffffff81000000 T\n",
		"ffffffff81000000 T \n",
		"fffffffff81000000 T cap_vm_enough_memory\n",
		"ffffffff81000000 T no newline cap_vm_enough_memory",
	};
	char text[1024];

	for (size_t at = 0; at < sizeof(lines) / sizeof(lines[0]); at++) {
		read_anew(lines[at]);
		cr_assert(ranges[0].start == 0 && ranges[0].kind == 0, "%zu", at);
	}
	/* A line longer than any name, and the next one sound. */
	memset(text, 'x', 500);
	strcpy(text + 500, "\nffffffff81000000 T cap_vm_enough_memory\nffffffff81000010 T x\n");
	read_anew(text);
	cr_assert(ranges[0].start == 0xffffffff81000000 && ranges[0].end == 0xffffffff81000010);
}

Test(capability_symbols, the_kernel_here)
{
	static char text[1 << 16];
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	unsigned zeros = 0, questions = 0;
	ssize_t got;

	cr_assert(fd >= 0);
	memset(ranges, 0, sizeof(ranges));
	while ((got = read(fd, text, sizeof(text) - 1)) > 0) {
		text[got] = '\0';
		zeros += strstr(text, "\n0000000000000000 T ") != NULL;
		cellos_capability_symbols(ranges, text);
	}
	close(fd);
	if (zeros > 0)
		cellos_test_skip("/proc/kallsyms hides the addresses here");
	for (unsigned at = 0; at < CAPABILITY_RANGES && ranges[at].kind != 0; at++) {
		questions += ranges[at].kind == CAPABILITY_QUESTION;
		cr_assert(ranges[at].end > ranges[at].start &&
			  ranges[at].end - ranges[at].start < 1 << 16);
	}
	cr_assert(questions >= 3);
	cr_assert(ranges[CAPABILITY_RANGES - 1].kind == CAPABILITY_NEITHER);
}
