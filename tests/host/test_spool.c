/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The spool: a real file, filled over its end and read back in pieces of every size.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "spool.h"

static char path[64];

static void make_place(void)
{
	int fd;

	strcpy(path, "/tmp/cellos-spool-XXXXXX");
	fd = mkstemp(path);
	cr_assert_geq(fd, 0);
	close(fd);
}

static void remove_place(void)
{
	unlink(path);
}

TestSuite(spool, .init = make_place, .fini = remove_place);

static char pattern(uint64_t position)
{
	return (char)(position % 251);
}

static void append_pattern(const struct host_spool *spool, uint64_t acked, uint64_t end,
			   size_t length)
{
	char bytes[4096];
	struct host_spool copy = *spool;

	cr_assert_leq(length, sizeof(bytes));
	for (size_t i = 0; i < length; i++)
		bytes[i] = pattern(end + i);
	cr_assert_eq(host_spool_append(&copy, acked, end, bytes, length), 0);
}

static void expect_pattern(const struct host_spool *spool, uint64_t position, uint64_t end,
			   size_t size)
{
	char bytes[4096];
	const size_t expected = end - position < size ? (size_t)(end - position) : size;

	cr_assert_leq(size, sizeof(bytes));
	cr_assert_eq(host_spool_read(spool, position, end, bytes, size), expected);
	for (size_t i = 0; i < expected; i++)
		cr_assert_eq(bytes[i], pattern(position + i), "at %zu of %zu", i, expected);
}

Test(spool, is_allocated_when_it_is_opened)
{
	struct host_spool spool;
	struct stat st;

	cr_assert_eq(host_spool_open(&spool, path, 10000), 1);
	cr_assert_eq(spool.bytes, 12288);
	cr_assert_eq(fstat(spool.fd, &st), 0);
	cr_assert_eq(st.st_size, 12288);
	cr_assert_geq(st.st_blocks * 512, 12288, "no blocks behind it");
	host_spool_close(&spool);
	/* it keeps its size */
	cr_assert_eq(host_spool_open(&spool, path, 1 << 20), 0);
	cr_assert_eq(spool.bytes, 12288);
	host_spool_close(&spool);
}

Test(spool, a_hole_is_filled_when_it_is_opened)
{
	struct host_spool spool;
	struct stat st;

	cr_assert_eq(truncate(path, 65536), 0);
	cr_assert_eq(host_spool_open(&spool, path, 1), 0);
	cr_assert_eq(fstat(spool.fd, &st), 0);
	cr_assert_geq(st.st_blocks * 512, 65536);
	host_spool_close(&spool);
}

Test(spool, refuses_what_is_none)
{
	struct host_spool spool;

	cr_assert_eq(host_spool_open(&spool, "/nowhere/at/all", 4096), -ENOENT);
	cr_assert_eq(spool.fd, -1);
	cr_assert_eq(host_spool_open(&spool, path, 0), -EINVAL);
	cr_assert_eq(host_spool_open(&spool, path, UINT64_MAX), -EINVAL);
	cr_assert_eq(host_spool_open(&spool, path, UINT64_C(1) << 62), -EFBIG);
	cr_assert_eq(truncate(path, 5000), 0);
	cr_assert_eq(host_spool_open(&spool, path, 4096), -EPROTO);
	cr_assert_eq(unlink(path), 0);
	cr_assert_eq(mkfifo(path, 0600), 0);
	cr_assert_eq(host_spool_open(&spool, path, 4096), -EPROTO);
	cr_assert_eq(spool.fd, -1);
}

/* Two that append to one ring write over each other's lines. */
Test(spool, belongs_to_one_at_a_time)
{
	struct host_spool spool, second;

	cr_assert_eq(host_spool_open(&spool, path, 4096), 1);
	cr_assert_eq(host_spool_open(&second, path, 4096), -EWOULDBLOCK);
	cr_assert_eq(second.fd, -1);
	host_spool_close(&spool);
	cr_assert_eq(host_spool_open(&second, path, 4096), 0);
	host_spool_close(&second);
}

/* Every length at every place of the ring, and what was there comes back in every piece. */
Test(spool, goes_round)
{
	struct host_spool spool;
	uint64_t end = 0;

	cr_assert_eq(host_spool_open(&spool, path, 4096), 1);
	for (size_t length = 0; length <= 4096; length += 7) {
		append_pattern(&spool, end, end, length);
		for (size_t piece = 1; piece <= length; piece = piece * 3 + 1)
			for (uint64_t at = end; at < end + length; at += piece)
				expect_pattern(&spool, at, end + length, piece);
		expect_pattern(&spool, end + length, end + length, 100);
		end += length;
	}
	cr_assert_gt(end, UINT64_C(100) * 4096);
	host_spool_close(&spool);
}

Test(spool, never_overwrites_what_is_not_acknowledged)
{
	struct host_spool spool;

	cr_assert_eq(host_spool_open(&spool, path, 4096), 1);
	append_pattern(&spool, 0, 0, 4096);
	cr_assert_eq(host_spool_append(&spool, 0, 4096, "x", 1), -ENOSPC);
	cr_assert_eq(host_spool_append(&spool, 0, 4096, "x", 0), 0);
	expect_pattern(&spool, 0, 4096, 4096);
	append_pattern(&spool, 1, 4096, 1);
	cr_assert_eq(host_spool_append(&spool, 1, 4097, "x", 1), -ENOSPC);
	cr_assert_eq(host_spool_append(&spool, 10, 4097, "0123456789", 10), -ENOSPC);
	append_pattern(&spool, 10, 4097, 9);
	expect_pattern(&spool, 10, 4106, 4096);
	cr_assert_eq(host_spool_append(&spool, 4106, 4106, path, 4097), -ENOSPC);
	host_spool_close(&spool);
}

Test(spool, is_there_for_the_next_process)
{
	struct host_spool spool;

	cr_assert_eq(host_spool_open(&spool, path, 4096), 1);
	append_pattern(&spool, 0, 0, 3000);
	host_spool_close(&spool);
	cr_assert_eq(host_spool_open(&spool, path, 4096), 0);
	append_pattern(&spool, 2000, 3000, 3000);
	expect_pattern(&spool, 2000, 6000, 4000);
	host_spool_close(&spool);
}
