/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The decoder on any bytes, once as a body and once as a frame. Beside not crashing: a failure
 * leaves nothing in the event and names itself; a body means the same with its prefix before it;
 * what was decoded can be encoded, and comes back the same.
 */
#include <string.h>

#include "cellos/wire.h"
#include "fuzz.h"

static void check_failure(enum cellos_wire_status status, const struct cellos_probe_event *event,
			  const struct cellos_wire_error *error)
{
	static const struct cellos_probe_event zero_event;

	FUZZ_CHECK(status > CELLOS_WIRE_OK && status < CELLOS_WIRE_STATUS_COUNT);
	FUZZ_CHECK(status != CELLOS_WIRE_MISSING_FIELD && status != CELLOS_WIRE_BUFFER_TOO_SMALL);
	FUZZ_CHECK(error->status == status);
	FUZZ_CHECK(error->field < CELLOS_FIELD_COUNT);
	FUZZ_CHECK(memcmp(event, &zero_event, sizeof(zero_event)) == 0);
}

static void check_event(const struct cellos_probe_event *event)
{
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	struct cellos_probe_event back;
	size_t length;

	FUZZ_CHECK(event->guest_comm_len <= CELLOS_GUEST_COMM_MAX_BYTES);
	FUZZ_CHECK(event->guest_comm[event->guest_comm_len] == 0);
	FUZZ_CHECK(cellos_encode_frame(event, frame, sizeof(frame), &length, NULL) ==
		   CELLOS_WIRE_OK);
	FUZZ_CHECK(cellos_decode_frame(frame, length, &back, NULL) == CELLOS_WIRE_OK);
	FUZZ_CHECK(memcmp(event, &back, sizeof(back)) == 0);
}

static void check_result(enum cellos_wire_status status, const struct cellos_probe_event *event,
			 const struct cellos_wire_error *error, const uint8_t *data, size_t size)
{
	if (status != CELLOS_WIRE_OK) {
		check_failure(status, event, error);
		/* A borrowed text lies inside of the input. */
		if (status == CELLOS_WIRE_UNKNOWN_PROBE_SOURCE)
			FUZZ_CHECK((const uint8_t *)error->text >= data &&
				   (const uint8_t *)error->text + error->text_length <=
					   data + size);
	} else {
		check_event(event);
	}
}

static void as_frame(const uint8_t *data, size_t size)
{
	struct cellos_probe_event event;
	struct cellos_wire_error error = {.status = CELLOS_WIRE_OK};
	enum cellos_wire_status status;

	memset(&event, 0x5a, sizeof(event));
	status = cellos_decode_frame(data, size, &event, &error);
	check_result(status, &event, &error, data, size);
	FUZZ_CHECK(cellos_decode_frame(data, size, &event, NULL) == status);
}

static enum cellos_wire_status as_body(const uint8_t *data, size_t size)
{
	struct cellos_probe_event event;
	struct cellos_wire_error error = {.status = CELLOS_WIRE_OK};
	enum cellos_wire_status status;

	memset(&event, 0x5a, sizeof(event));
	status = cellos_decode_event_body(data, size, &event, &error);
	check_result(status, &event, &error, data, size);
	return status;
}

static void with_prefix(const uint8_t *data, size_t size, enum cellos_wire_status body_status)
{
	struct cellos_probe_event event;
	uint8_t *frame = malloc(size + CELLOS_FRAME_PREFIX_BYTES);

	FUZZ_CHECK(frame != NULL);
	for (int i = 0; i < CELLOS_FRAME_PREFIX_BYTES; i++)
		frame[i] = (uint8_t)(size >> (8 * i));
	if (size > 0)
		memcpy(frame + CELLOS_FRAME_PREFIX_BYTES, data, size);
	FUZZ_CHECK(cellos_decode_frame(frame, size + CELLOS_FRAME_PREFIX_BYTES, &event, NULL) ==
		   body_status);
	free(frame);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	as_frame(data, size);
	with_prefix(data, size, as_body(data, size));
	return 0;
}
