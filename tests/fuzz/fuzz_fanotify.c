/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * fanotify's records, and inotify's, any bytes, one after the other as the probe takes them. Beside
 * not reading outside: a record is within its buffer, its name ends within the record, and a
 * refusal leaves the result alone.
 */
#include <errno.h>
#include <string.h>

#include "fuzz.h"
#include "watch_record.h"

typedef ssize_t parser(const uint8_t *buffer, size_t len, struct watch_record *out);

static void check(const struct watch_record *record, const uint8_t *at, size_t taken)
{
	const uint8_t *name = (const uint8_t *)record->name;

	FUZZ_CHECK(record->pid <= INT32_MAX);
	if (record->name[0] != '\0')
		FUZZ_CHECK(name >= at && name + strlen(record->name) < at + taken);
}

static void take_all(parser *parse, const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		struct watch_record record, before;
		ssize_t taken;

		memset(&record, 0x5a, sizeof(record));
		memcpy(&before, &record, sizeof(record));
		taken = parse(data + at, size - at, &record);
		if (taken < 0) {
			FUZZ_CHECK(taken == -EINVAL);
			FUZZ_CHECK(memcmp(&before, &record, sizeof(record)) == 0);
			break;
		}
		FUZZ_CHECK(taken > 0 && (size_t)taken <= size - at);
		check(&record, data + at, (size_t)taken);
		at += (size_t)taken;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *copy = malloc(size > 0 ? size : 1); /* of its exact size */

	FUZZ_CHECK(copy != NULL);
	memcpy(copy, data, size);
	take_all(watch_record_fanotify, copy, size);
	take_all(watch_record_inotify, copy, size);
	free(copy);
	return 0;
}
