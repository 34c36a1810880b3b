/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The /proc parsers: captured lines, names made to mislead, every cut of each line, and nothing
 * read past the end (the text stands flush against an unmapped page).
 *
 * Threads: none. Refuses to: read this machine's /proc but for one line of its own.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "process.h"

/* Captured on a 6.1 and a 6.18 guest. */
static const char user_line[] =
	"4896 (cat) R 4888 4888 3132 0 -1 4194304 102 0 0 0 1 2 3 4 20 0 1 0 100958 3133440 402 "
	"18446744073709551615 94212201676800 94212201696681 140724257898720 0 0 0 0 0 0 0 0 0 17 1 "
	"0 0 0 0 0 94212201712688 94212201714304 94212831166464 140724257905288 140724257905308 "
	"140724257905308 140724257906667 0\n";
static const char kernel_line[] =
	"48 (kworker/u4:1-events_unbound) I 2 0 0 0 -1 69238880 0 0 0 0 0 14 0 0 20 0 1 0 25 0 0 "
	"18446744073709551615 0 0 0 0 0 0 0 2147483647 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
static const char rest[] = " S 1 77 77 -5 -1 4194368 0 0 0 0 0 0 0 0 20 -10 3 0 12345678901 1 2\n";

/* Copies the text against the end of a page that nothing follows. */
static int parse_flush(const char *text, size_t len, struct cellos_proc_stat *out)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	char *pages =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int result;

	cr_assert(pages != MAP_FAILED && len < page);
	cr_assert(mprotect(pages + page, page, PROT_NONE) == 0);
	memcpy(pages + page - len - 1, text, len); /* and a NUL */
	result = cellos_proc_parse_stat(pages + page - len - 1, out);
	munmap(pages, 2 * page);
	return result;
}

static struct cellos_proc_stat parsed(const char *text, size_t len)
{
	struct cellos_proc_stat stat;

	cr_assert(parse_flush(text, len, &stat) == 0, "refused: %s", text);
	return stat;
}

Test(proc_parse, user_process)
{
	struct cellos_proc_stat stat = parsed(user_line, sizeof(user_line) - 1);

	cr_assert(stat.pid == 4896 && stat.state == 'R');
	cr_assert(stat.comm_len == 3 && memcmp(stat.comm, "cat\0\0\0\0\0\0\0\0\0\0\0\0", 16) == 0);
	cr_assert(stat.flags == 4194304 && stat.num_threads == 1 && stat.starttime == 100958);
	cr_assert((stat.flags & CELLOS_PF_KTHREAD) == 0);
}

Test(proc_parse, kernel_thread_with_a_long_name)
{
	struct cellos_proc_stat stat = parsed(kernel_line, sizeof(kernel_line) - 1);

	cr_assert((stat.flags & CELLOS_PF_KTHREAD) != 0);
	cr_assert(stat.comm_len == 15 && memcmp(stat.comm, "kworker/u4:1-ev", 16) == 0);
	cr_assert(stat.pid == 48 && stat.starttime == 25);
}

Test(proc_parse, negative_fields_and_large_numbers)
{
	char line[256];
	int len = snprintf(line, sizeof(line), "4194303 (x)%s", rest);
	struct cellos_proc_stat stat = parsed(line, (size_t)len);

	cr_assert(stat.pid == 4194303 && stat.num_threads == 3 && stat.starttime == 12345678901u);
	cr_assert((stat.flags & CELLOS_PF_FORKNOEXEC) != 0);
}

Test(proc_parse, names_made_to_mislead)
{
	static const char *const names[] = {
		"",
		")",
		"(",
		"))((",
		" ",
		") R 1 2 3",
		"a\nb\tc",
		"(sd-pam)",
		") Z 0 0 0",
		"\x01\xff\xfe\x80",
		"x) S 9 9",
		"a b c d e f g",
		"\\012\\n",
		")\n2 (y) S",
		"fifteen bytes!!",
	};

	for (size_t at = 0; at < sizeof(names) / sizeof(names[0]); at++) {
		char line[256];
		int len = snprintf(line, sizeof(line), "77 (%s)%s", names[at], rest);
		struct cellos_proc_stat stat = parsed(line, (size_t)len);

		cr_assert(stat.comm_len == strlen(names[at]), "\"%s\"", names[at]);
		cr_assert(memcmp(stat.comm, names[at], stat.comm_len) == 0, "\"%s\"", names[at]);
		cr_assert(stat.state == 'S' && stat.num_threads == 3);
	}
}

/* Whole up to the delimiter behind field 22, and refused with one byte less: a number that may go
   on is no number. */
Test(proc_parse, every_cut)
{
	static const char *const lines[] = {user_line, kernel_line};
	static const char *const ends[] = {" 100958 ", " 25 "};

	for (size_t which = 0; which < 2; which++) {
		const char *line = lines[which];
		size_t enough = (size_t)(strstr(line, ends[which]) - line) + strlen(ends[which]);

		for (size_t len = 0; len <= strlen(line); len++) {
			struct cellos_proc_stat stat = {.pid = 1};
			int result = parse_flush(line, len, &stat);

			cr_assert(result == (len >= enough ? 0 : -EINVAL), "%zu bytes", len);
			cr_assert(result == 0 || stat.pid == 1, "written on failure");
		}
	}
}

Test(proc_parse, refused)
{
	static const char *const lines[] = {
		"0 (x) S 1 2 3 4 5 6 0 0 0 0 0 0 0 0 0 0 1 0 5 6\n",       /* no such pid */
		"4194304 (x) S 1 2 3 4 5 6 0 0 0 0 0 0 0 0 0 0 1 0 5 6\n", /* past the limit */
		"7 x S 1 2 3 4 5 6 0 0 0 0 0 0 0 0 0 0 1 0 5 6\n",         /* no name */
		"7 (x S 1 2 3 4 5 6 0 0 0 0 0 0 0 0 0 0 1 0 5 6\n",        /* it does not end */
		"7 (x) SS 1 2 3 4 5 6 0 0 0 0 0 0 0 0 0 0 1 0 5 6\n",      /* nor this */
		"7 (x) S 1 2 3 4 5 - 0 0 0 0 0 0 0 0 0 0 1 0 5 6\n",       /* a sign alone */
		"7 (x) S 1 2 3 4 5 6 0 0 0 0 0 0 0 0 0 0 1 0 5x\n",
	};

	for (size_t at = 0; at < sizeof(lines) / sizeof(lines[0]); at++) {
		struct cellos_proc_stat stat;

		cr_assert(parse_flush(lines[at], strlen(lines[at]), &stat) == -EINVAL, "%s",
			  lines[at]);
	}
}

Test(proc_parse, this_process)
{
	char text[1024];
	int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
	ssize_t got = read(fd, text, sizeof(text));
	struct cellos_proc_stat stat;

	close(fd);
	cr_assert(got > 0);
	stat = parsed(text, (size_t)got);
	cr_assert(stat.pid == (uint32_t)getpid());
	cr_assert(stat.starttime > 0);
}

Test(proc_parse, directory_names)
{
	cr_assert(cellos_proc_parse_pid("1") == 1);
	cr_assert(cellos_proc_parse_pid("4194303") == 4194303);
	cr_assert(cellos_proc_parse_pid("4194304") == 0);
	cr_assert(cellos_proc_parse_pid("99999999999999999999") == 0);
	cr_assert(cellos_proc_parse_pid("0") == 0);
	cr_assert(cellos_proc_parse_pid("01") == 0);
	cr_assert(cellos_proc_parse_pid("") == 0);
	cr_assert(cellos_proc_parse_pid("self") == 0);
	cr_assert(cellos_proc_parse_pid("12a") == 0);
	cr_assert(cellos_proc_parse_pid("-1") == 0);
}
