/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The exit listener's messages. The first byte of the input chooses a layout, the rest is one
 * message. What is accepted is whole: a name within its bounds, a task, and a group only if told;
 * and nothing after the message's own end has a say in it.
 */
#include <string.h>

#include "fuzz.h"
#include "taskstats.h"

#define FAMILY 31u

static bool is_whole(const uint8_t *message, size_t len)
{
	uint32_t declared;

	memcpy(&declared, message, sizeof(declared));
	return declared <= len;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct exit_layout layout = {.family = FAMILY};
	struct process_exit record = {.pid = 0}, again;
	uint16_t family = 0;
	uint8_t *exact;

	if (size == 0)
		return 0;
	layout.shift = (uint16_t)(8u * (data[0] % 3));
	/* Of its own size, so that a sanitizer sees a read past the end. */
	exact = malloc(size);
	FUZZ_CHECK(exact != NULL);
	memcpy(exact, data + 1, size - 1);
	if (exit_record_parse(exact, size - 1, layout, &record) == 0) {
		FUZZ_CHECK(record.pid != 0 && record.comm_len <= CELLOS_RAW_COMM_MAX_BYTES);
		FUZZ_CHECK(memchr(record.comm, 0, record.comm_len) == NULL);
		FUZZ_CHECK(record.knows_group || (record.tgid == 0 && !record.group_dead));
		exact[size - 1] = 0xff;
		if (is_whole(exact, size - 1))
			FUZZ_CHECK(exit_record_parse(exact, size, layout, &again) == 0 &&
				   again.pid == record.pid && again.tgid == record.tgid &&
				   again.parent == record.parent &&
				   again.group_dead == record.group_dead &&
				   memcmp(again.comm, record.comm, sizeof(record.comm)) == 0);
	} else {
		FUZZ_CHECK(record.pid == 0);
	}
	(void)!exit_family_parse(exact, size - 1, &family);
	free(exact);
	return 0;
}
