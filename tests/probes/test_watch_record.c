/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * fanotify's and inotify's records as bytes: whole ones, recorded from a kernel, and every way to
 * cut or bend them. Each lies flush against the end of its memory.
 *
 * Threads: none. Refuses to: ask the kernel.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/fanotify.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>

#include "watch_record.h"

/* A write to "a" in a watched directory of an ext4: directory and name, then the file. */
/* clang-format off */
static const uint8_t written[84] = {
	0x54, 0, 0, 0, 3, 0, 24, 0, 2, 0, 0, 0,
	0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x33, 0x4e, 0, 0,
	/* 24: name */
	2, 0, 32, 0, 0x72, 0x88, 0xc5, 0x2c, 0x76, 0xdb, 0xdf, 0xd9,
	8, 0, 0, 0, 1, 0, 0, 0, 0x31, 0x0e, 0xad, 0, 0x32, 0xc6, 0x6d, 0xb5, 'a', 0, 0, 0,
	/* 56: file */
	1, 0, 28, 0, 0x72, 0x88, 0xc5, 0x2c, 0x76, 0xdb, 0xdf, 0xd9,
	8, 0, 0, 0, 1, 0, 0, 0, 0x61, 0x0e, 0xad, 0, 0x88, 0x11, 0x6b, 0x20};
/* clang-format on */
static const uint8_t overflow[24] = {24, 0, 0, 0, 3,    0,    24,   0,    0, 0x40, 0, 0,
				     0,  0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,    0, 0};

/* In memory of its exact size, which a sanitizer guards. */
static ssize_t parse(const uint8_t *bytes, size_t len, struct watch_record *out)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	ssize_t result;

	cr_assert(copy != NULL);
	memcpy(copy, bytes, len);
	result = watch_record_fanotify(copy, len, out);
	free(copy);
	return result;
}

/* With one byte changed. */
static ssize_t parse_bent(size_t at, uint8_t byte)
{
	struct watch_record record = {.mask = 42};
	uint8_t bent[sizeof(written)];
	ssize_t result;

	memcpy(bent, written, sizeof(bent));
	bent[at] = byte;
	result = parse(bent, sizeof(bent), &record);
	cr_assert(result > 0 || record.mask == 42, "a refusal leaves the result alone");
	return result;
}

Test(watch_record, whole)
{
	struct watch_record record;

	cr_assert(watch_record_fanotify(written, sizeof(written), &record) == sizeof(written));
	cr_assert(record.mask == FAN_MODIFY && record.pid == 20019);
	cr_assert_str_eq(record.name, "a");
	cr_assert(record.dir == watch_record_inode(written + 28, 24));
	cr_assert(record.self == watch_record_inode(written + 60, 24));
	cr_assert(watch_record_is_digest(record.dir) && watch_record_is_digest(record.self));
}

Test(watch_record, overflow)
{
	struct watch_record record;

	cr_assert(watch_record_fanotify(overflow, sizeof(overflow), &record) == sizeof(overflow));
	cr_assert(record.mask == FAN_Q_OVERFLOW && record.pid == 0);
	cr_assert(record.dir == 0 && record.self == 0);
	cr_assert_str_eq(record.name, "");
}

Test(watch_record, cut_anywhere)
{
	struct watch_record record;

	for (size_t len = 0; len < sizeof(written); len++)
		cr_assert(parse(written, len, &record) == -EINVAL, "%zu bytes", len);
}

/* The record says less than there is: what is cut is a piece, or it ends between two. */
Test(watch_record, shorter_than_its_pieces)
{
	for (uint8_t len = 0; len < sizeof(written); len++)
		cr_assert(parse_bent(0, len) == (len == 24 || len == 56 ? len : -EINVAL), "%u",
			  len);
}

Test(watch_record, bent)
{
	cr_assert(parse_bent(0, 85) == -EINVAL, "longer than what was read");
	cr_assert(parse_bent(3, 0xff) == -EINVAL, "much longer");
	cr_assert(parse_bent(4, 2) == -EINVAL, "another version");
	cr_assert(parse_bent(6, 23) == -EINVAL, "a head too short");
	cr_assert(parse_bent(6, 85) == -EINVAL, "a head longer than all");
	cr_assert(parse_bent(26, 3) == -EINVAL, "a piece without a head");
	cr_assert(parse_bent(26, 0) == -EINVAL, "a piece that never ends");
	cr_assert(parse_bent(26, 61) == -EINVAL, "a piece longer than all");
	cr_assert(parse_bent(26, 19) == -EINVAL, "a piece without room for a handle");
	cr_assert(parse_bent(36, 13) == -EINVAL, "a handle longer than its piece");
	cr_assert(parse_bent(39, 0x80) == -EINVAL, "a handle of 2 GiB");
	cr_assert(parse_bent(36, 12) == -EINVAL, "no room for a name");
	cr_assert(parse_bent(68, 9) == -EINVAL, "the second piece's");
	cr_assert(parse_bent(24, 77) == sizeof(written), "a kind of piece that is new to us");
}

Test(watch_record, a_name_without_an_end)
{
	uint8_t bent[sizeof(written)];
	struct watch_record record;

	memcpy(bent, written, sizeof(bent));
	memset(bent + 52, 'a', 4);
	cr_assert(parse(bent, sizeof(bent), &record) == -EINVAL);
}

/* A pid below 1 is nobody. */
Test(watch_record, no_pid)
{
	uint8_t bent[sizeof(written)];
	struct watch_record record;

	memcpy(bent, written, sizeof(bent));
	memset(bent + 20, 0xff, 4);
	cr_assert(watch_record_fanotify(bent, sizeof(bent), &record) == sizeof(bent));
	cr_assert(record.pid == 0);
}

/* Any byte of what names an inode makes it another. */
Test(watch_record, inodes)
{
	uint64_t inode = watch_record_inode(written + 28, 24);

	for (size_t at = 28; at < 52; at++) {
		uint8_t bent[sizeof(written)];

		memcpy(bent, written, sizeof(bent));
		bent[at] ^= 1;
		cr_assert(watch_record_inode(bent + 28, 24) != inode, "%zu", at);
	}
	cr_assert(watch_record_inode(written + 28, 23) != inode);
	cr_assert(!watch_record_is_digest(INT32_MAX), "inotify's");
}

/* A file "ab" made in the directory of watch 7, its name padded; the same without a name. */
Test(watch_record, of_inotify)
{
	uint8_t made[24] = {7, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 'a', 'b'};
	struct watch_record record;

	cr_assert(watch_record_inotify(made, sizeof(made), &record) == sizeof(made));
	cr_assert(record.dir == 7 && record.self == 0 && record.pid == 0);
	cr_assert(record.mask == IN_CREATE);
	cr_assert_str_eq(record.name, "ab");
	for (size_t len = 0; len < sizeof(made); len++) {
		uint8_t *copy = malloc(len > 0 ? len : 1);

		cr_assert(copy != NULL);
		memcpy(copy, made, len);
		cr_assert(watch_record_inotify(copy, len, &record) == -EINVAL, "%zu bytes", len);
		free(copy);
	}
	memset(made + 16, 'a', 8);
	cr_assert(watch_record_inotify(made, sizeof(made), &record) == -EINVAL, "no end");
	made[12] = 0;
	cr_assert(watch_record_inotify(made, sizeof(made), &record) == 16);
	cr_assert_str_eq(record.name, "");
}
