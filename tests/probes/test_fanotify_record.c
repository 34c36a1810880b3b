/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * fanotify's records as bytes: whole ones, recorded from a kernel, and every way to cut or bend
 * them. Each lies flush against the end of its memory.
 *
 * Threads: none. Refuses to: ask the kernel.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <linux/fanotify.h>
#include <stdlib.h>
#include <string.h>

#include "fanotify_record.h"

/* A write to "a" in a watched directory of an ext4: directory and name, then the file. */
static const uint8_t written[84] = {0x54,
				    0,
				    0,
				    0,
				    3,
				    0,
				    24,
				    0,
				    2,
				    0,
				    0,
				    0,
				    0,
				    0,
				    0,
				    0,
				    0xff,
				    0xff,
				    0xff,
				    0xff,
				    0x33,
				    0x4e,
				    0,
				    0,
				    /* 24: name */ 2,
				    0,
				    32,
				    0,
				    0x72,
				    0x88,
				    0xc5,
				    0x2c,
				    0x76,
				    0xdb,
				    0xdf,
				    0xd9,
				    8,
				    0,
				    0,
				    0,
				    1,
				    0,
				    0,
				    0,
				    0x31,
				    0x0e,
				    0xad,
				    0,
				    0x32,
				    0xc6,
				    0x6d,
				    0xb5,
				    'a',
				    0,
				    0,
				    0,
				    /* 56: file */ 1,
				    0,
				    28,
				    0,
				    0x72,
				    0x88,
				    0xc5,
				    0x2c,
				    0x76,
				    0xdb,
				    0xdf,
				    0xd9,
				    8,
				    0,
				    0,
				    0,
				    1,
				    0,
				    0,
				    0,
				    0x61,
				    0x0e,
				    0xad,
				    0,
				    0x88,
				    0x11,
				    0x6b,
				    0x20};
static const uint8_t overflow[24] = {24, 0, 0, 0, 3,    0,    24,   0,    0, 0x40, 0, 0,
				     0,  0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0, 0,    0, 0};

/* In memory of its exact size, which a sanitizer guards. */
static int parse(const uint8_t *bytes, size_t len, struct fanotify_record *out)
{
	uint8_t *copy = malloc(len > 0 ? len : 1);
	int result;

	cr_assert(copy != NULL);
	memcpy(copy, bytes, len);
	result = fanotify_record_parse(copy, len, out);
	free(copy);
	return result;
}

/* With one byte changed. */
static int parse_bent(size_t at, uint8_t byte)
{
	struct fanotify_record record = {.mask = 42};
	uint8_t bent[sizeof(written)];
	int result;

	memcpy(bent, written, sizeof(bent));
	bent[at] = byte;
	result = parse(bent, sizeof(bent), &record);
	cr_assert(result > 0 || record.mask == 42, "a refusal leaves the result alone");
	return result;
}

Test(fanotify_record, whole)
{
	struct fanotify_record record;

	cr_assert(fanotify_record_parse(written, sizeof(written), &record) == sizeof(written));
	cr_assert(record.mask == FAN_MODIFY && record.pid == 20019);
	cr_assert(record.name_len == 1 && strcmp(record.name, "a") == 0);
	cr_assert(record.dir.bytes == written + 28 && record.dir.len == 24);
	cr_assert(record.self.bytes == written + 60 && record.self.len == 24);
}

Test(fanotify_record, overflow)
{
	struct fanotify_record record;

	cr_assert(fanotify_record_parse(overflow, sizeof(overflow), &record) == sizeof(overflow));
	cr_assert(record.mask == FAN_Q_OVERFLOW && record.pid == 0);
	cr_assert(record.dir.len == 0 && record.self.len == 0 && record.name_len == 0);
}

Test(fanotify_record, cut_anywhere)
{
	struct fanotify_record record;

	for (size_t len = 0; len < sizeof(written); len++)
		cr_assert(parse(written, len, &record) == -EINVAL, "%zu bytes", len);
}

/* The record says less than there is: what is cut is a piece, or it ends between two. */
Test(fanotify_record, shorter_than_its_pieces)
{
	for (uint8_t len = 0; len < sizeof(written); len++)
		cr_assert(parse_bent(0, len) == (len == 24 || len == 56 ? len : -EINVAL), "%u",
			  len);
}

Test(fanotify_record, bent)
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
	cr_assert(parse_bent(36, 129) == -EINVAL, "a handle longer than any");
	cr_assert(parse_bent(39, 0x80) == -EINVAL, "a handle of 2 GiB");
	cr_assert(parse_bent(36, 12) == -EINVAL, "no room for a name");
	cr_assert(parse_bent(68, 9) == -EINVAL, "the second piece's");
	cr_assert(parse_bent(24, 77) == sizeof(written), "a kind of piece that is new to us");
}

Test(fanotify_record, a_name_without_an_end)
{
	uint8_t bent[sizeof(written)];
	struct fanotify_record record;

	memcpy(bent, written, sizeof(bent));
	memset(bent + 52, 'a', 4);
	cr_assert(parse(bent, sizeof(bent), &record) == -EINVAL);
}

/* A pid below 1 is nobody. */
Test(fanotify_record, no_pid)
{
	uint8_t bent[sizeof(written)];
	struct fanotify_record record;

	memcpy(bent, written, sizeof(bent));
	memset(bent + 20, 0xff, 4);
	cr_assert(fanotify_record_parse(bent, sizeof(bent), &record) == sizeof(bent));
	cr_assert(record.pid == 0);
}
