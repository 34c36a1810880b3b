/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * fanotify's records, any bytes, one after the other as the probe takes them. Beside not reading
 * outside: a record is within its buffer, what it names is within the record, a name ends, an
 * identity fits its place, and a refusal leaves the result alone.
 */
#include <errno.h>
#include <string.h>

#include "fanotify_record.h"
#include "fuzz.h"

static void check_within(const void *piece, size_t len, const uint8_t *record, size_t taken)
{
	const uint8_t *begin = piece;

	FUZZ_CHECK(begin >= record && begin + len <= record + taken);
}

static void check_id(const struct fanotify_id *id, const uint8_t *record, size_t taken)
{
	if (id->len == 0)
		return;
	FUZZ_CHECK(id->len >= FANOTIFY_ID_HEAD_BYTES && id->len <= FANOTIFY_ID_MAX_BYTES);
	check_within(id->bytes, id->len, record, taken);
}

static void check(const struct fanotify_record *record, const uint8_t *at, size_t taken)
{
	FUZZ_CHECK(record->pid <= INT32_MAX);
	check_id(&record->dir, at, taken);
	check_id(&record->self, at, taken);
	FUZZ_CHECK(strlen(record->name) == record->name_len);
	if (record->name_len > 0)
		check_within(record->name, record->name_len + 1, at, taken);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1); /* of its exact size */
	size_t at = 0;

	FUZZ_CHECK(copy != NULL);
	memcpy(copy, data, size);
	while (at < size) {
		struct fanotify_record record, before;
		int taken;

		memset(&record, 0x5a, sizeof(record));
		memcpy(&before, &record, sizeof(record));
		taken = fanotify_record_parse(copy + at, size - at, &record);
		if (taken < 0) {
			FUZZ_CHECK(taken == -EINVAL);
			FUZZ_CHECK(memcmp(&before, &record, sizeof(record)) == 0);
			break;
		}
		FUZZ_CHECK(taken > 0 && (size_t)taken <= size - at);
		check(&record, copy + at, (size_t)taken);
		at += (size_t)taken;
	}
	free(copy);
	return 0;
}
