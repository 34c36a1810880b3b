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

#include "capability_symbols.h"
#include "skip.h"

static const char small_kernel[] = "ffffffff81000000 T _stext\n"
				   "ffffffff81000010 t ns_capable_noaudit.cold\n"
				   "ffffffff81000030 t something\n"
				   "ffffffff810000f0 T __pfx_ns_capable_noaudit\n"
				   "ffffffff81000100 T ns_capable_noaudit\n"
				   "ffffffff81000100 T its_other_name\n"
				   "ffffffff81000180 T has_capability\n"
				   "ffffffff81000190 T has_capability_noaudit_not\n"
				   "ffffffff81000200 t do_seccomp.isra.0\n"
				   "ffffffff810002f0 T __pfx___x64_sys_seccomp\n"
				   "ffffffff81000300 T __x64_sys_seccomp\n"
				   "ffffffff81000320 d _eil_addr___x64_sys_seccomp\n"
				   "ffffffff81000330 T cap_vm_enough_memory\n"
				   "ffffffff81000330 T security_vm_enough_memory_mm\n"
				   "ffffffff81000390 T _etext\n"
				   "ffffffffa0000000 t cap_vm_enough_memory\t[module]\n"
				   "ffffffffa0000100 t the_end\t[module]\n";

static struct capability_range questions[CAPABILITY_QUESTIONS], refusals[CAPABILITY_REFUSALS];

static bool feed(const char *text, size_t length, size_t piece)
{
	struct capability_symbols symbols;

	memset(questions, 0, sizeof(questions));
	memset(refusals, 0, sizeof(refusals));
	cellos_capability_symbols_begin(&symbols, questions, refusals);
	for (size_t at = 0; at < length; at += piece)
		if (cellos_capability_symbols_feed(&symbols, text + at,
						   length - at < piece ? length - at : piece))
			break;
	return cellos_capability_symbols_end(&symbols);
}

static void check(const struct capability_range *range, uint64_t start, uint64_t end, bool aside,
		  bool noaudit)
{
	cr_assert(range->start == start && range->end == end, "%llx..%llx", range->start,
		  range->end);
	cr_assert(range->aside == (aside ? UINT64_MAX : 0));
	cr_assert(range->noaudit == (noaudit ? UINT64_MAX : 0));
}

Test(capability_symbols, in_pieces_of_every_size)
{
	for (size_t piece = 1; piece <= sizeof(small_kernel); piece++) {
		cr_assert(feed(small_kernel, sizeof(small_kernel) - 1, piece));
		check(&questions[0], 0xffffffff81000010, 0xffffffff81000030, false, true);
		check(&questions[1], 0xffffffff81000100, 0xffffffff81000180, false, true);
		check(&questions[2], 0xffffffff81000330, 0xffffffff81000390, true, false);
		check(&questions[3], 0, 0, false, false);
		check(&refusals[0], 0xffffffff81000200, 0xffffffff810002f0, false, false);
		check(&refusals[1], 0xffffffff81000300, 0xffffffff81000320, false, false);
		check(&refusals[2], 0, 0, false, false);
	}
}

static bool feed_text(const char *text)
{
	return feed(text, strlen(text), strlen(text) + 1);
}

Test(capability_symbols, what_is_not_enough)
{
	char line[64];
	char text[8192] = "";

	cr_assert(!feed_text(""));
	cr_assert(!feed_text("0000000000000000 T cap_vm_enough_memory\n"
			     "0000000000000000 T ns_capable_noaudit\n0000000000000000 T x\n"));
	cr_assert(questions[0].end == 0);
	cr_assert(!feed_text("ffffffff81000100 T ns_capable_noaudit\nffffffff81000200 T x\n"));
	cr_assert(!feed_text("ffffffff81000100 T cap_vm_enough_memory\nffffffff81000200 T x\n"));
	cr_assert(!feed_text("ffffffff81000100 D cap_vm_enough_memory\n"
			     "ffffffff81000100 D ns_capable_noaudit\nffffffff81000200 D x\n"));
	/* More copies than there is room for: not all are known. */
	for (unsigned at = 0; at <= CAPABILITY_QUESTIONS; at++) {
		snprintf(line, sizeof(line), "ffffffff8100%04x t ns_capable_noaudit.%u\n", at * 16,
			 at);
		strcat(text, line);
	}
	strcat(text, "ffffffff81010000 T cap_vm_enough_memory\nffffffff81010010 T x\n");
	cr_assert(!feed_text(text));
}

Test(capability_symbols, modules_are_not_read)
{
	static const char module[] = "ffffffffa0000000 t f\t[module]\n";
	struct capability_symbols symbols;

	cellos_capability_symbols_begin(&symbols, questions, refusals);
	cr_assert(!cellos_capability_symbols_feed(&symbols, module, sizeof(module) - 2));
	cr_assert(cellos_capability_symbols_feed(&symbols, "\n", 1));
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
		"no newline",
	};
	char text[1024];

	for (size_t at = 0; at < sizeof(lines) / sizeof(lines[0]); at++) {
		cr_assert(!feed_text(lines[at]));
		cr_assert(questions[0].start == 0 && refusals[0].start == 0);
	}
	/* A line longer than any name, cut by a piece's end, and the next one sound. */
	memset(text, 'x', 500);
	strcpy(text + 500, "\nffffffff81000000 T cap_vm_enough_memory\nffffffff81000010 T x\n");
	for (size_t piece = 1; piece < 600; piece += 7) {
		(void)feed(text, strlen(text), piece);
		check(&questions[0], 0xffffffff81000000, 0xffffffff81000010, true, false);
	}
}

Test(capability_symbols, the_kernel_here)
{
	static char text[1 << 16];
	struct capability_symbols symbols;
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	ssize_t got = 0;
	unsigned zeros = 0;

	cr_assert(fd >= 0);
	memset(questions, 0, sizeof(questions));
	memset(refusals, 0, sizeof(refusals));
	cellos_capability_symbols_begin(&symbols, questions, refusals);
	while ((got = read(fd, text, sizeof(text))) > 0) {
		zeros += memmem(text, (size_t)got, "\n0000000000000000 T ", 20) != NULL;
		if (cellos_capability_symbols_feed(&symbols, text, (size_t)got))
			break;
	}
	close(fd);
	if (zeros > 0)
		cellos_test_skip("/proc/kallsyms hides the addresses here");
	cr_assert(cellos_capability_symbols_end(&symbols));
	for (unsigned at = 0; at < symbols.question_count; at++)
		cr_assert(questions[at].end > questions[at].start &&
			  questions[at].end - questions[at].start < 1 << 16);
}
