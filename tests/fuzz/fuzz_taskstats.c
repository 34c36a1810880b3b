/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One message of the kernel's by itself: of the exit listener, or of the connector when the first
 * byte of the input is not 0; the rest is the message.
 * What is accepted is whole: a name within its bounds, a task, and a group only if told; and
 * nothing after the message's own end has a say in it.
 */
#include <string.h>

#include "cellos/event.h"
#include "fuzz.h"
#include "process.h"

#define FAMILY 31u

static void check_record(uint8_t *message, size_t len)
{
	struct exit_record record = {.pid = 0}, again;
	uint16_t family;

	(void)!exit_family_parse(message, len, &family);
	if (exit_record_parse(message, len, FAMILY, &record) < 0) {
		FUZZ_CHECK(record.pid == 0);
		return;
	}
	FUZZ_CHECK(record.pid != 0 && record.comm_len <= CELLOS_RAW_COMM_MAX_BYTES);
	FUZZ_CHECK(memchr(record.comm, 0, record.comm_len) == NULL);
	message[len] = 0xff;
	FUZZ_CHECK(exit_record_parse(message, len + 1, FAMILY, &again) == 0 &&
		   memcmp(&again, &record, sizeof(record)) == 0);
}

static void check_event(uint8_t *message, size_t len)
{
	struct proc_event event = {.cpu = 4711}, again;
	uint32_t ack = 0, other;

	if (connector_parse(message, len, &event, &ack) < 0) {
		FUZZ_CHECK(event.cpu == 4711 && ack == 0);
		return;
	}
	message[len] = 0xff;
	FUZZ_CHECK(connector_parse(message, len + 1, &again, &other) == 0 && other == ack &&
		   memcmp(&again, &event, sizeof(event)) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t *exact;

	if (size == 0)
		return 0;
	/* Of its own size and a byte, so that a sanitizer sees a read past the end. */
	exact = malloc(size);
	FUZZ_CHECK(exact != NULL);
	memcpy(exact, data + 1, size - 1);
	if (data[0] == 0)
		check_record(exact, size - 1);
	else
		check_event(exact, size - 1);
	free(exact);
	return 0;
}
