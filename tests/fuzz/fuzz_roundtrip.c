/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Events made of the input, encoded into memory of any size, decoded, compared. Then the same name
 * as a kernel would hand it out, which must always be fit for the wire, and as a self-report, of
 * which there is one spelling only.
 *
 * Input: capacity 1, version 2, source 1, pid 4, time 8, length of the name 1, then the name.
 */
#include <string.h>

#include "cellos/wire.h"
#include "fuzz.h"

#define FIXED_BYTES 17

static uint64_t take(const uint8_t **data, int bytes)
{
	uint64_t value = 0;

	for (int i = 0; i < bytes; i++)
		value = value << 8 | *(*data)++;
	return value;
}

/* A name's bytes need not be as many as its length says: the rest is zero. */
static void make_event(const uint8_t *data, size_t size, size_t *capacity,
		       struct cellos_probe_event *event)
{
	size_t name;

	memset(event, 0, sizeof(*event));
	*capacity = take(&data, 1);
	event->content_version = (uint16_t)take(&data, 2);
	event->probe_source = (uint8_t)take(&data, 1);
	event->guest_pid = (uint32_t)take(&data, 4);
	event->guest_monotonic_ns = take(&data, 8);
	event->guest_comm_len = (uint8_t)take(&data, 1);
	name = size - FIXED_BYTES;
	if (name > CELLOS_GUEST_COMM_MAX_BYTES)
		name = CELLOS_GUEST_COMM_MAX_BYTES;
	memcpy(event->guest_comm, data, name);
}

static bool same(const struct cellos_probe_event *a, const struct cellos_probe_event *b)
{
	uint16_t version =
		a->content_version == 0 ? CELLOS_WIRE_CONTENT_VERSION : a->content_version;

	return a->guest_monotonic_ns == b->guest_monotonic_ns && a->guest_pid == b->guest_pid &&
	       version == b->content_version && a->probe_source == b->probe_source &&
	       a->guest_comm_len == b->guest_comm_len &&
	       memcmp(a->guest_comm, b->guest_comm, a->guest_comm_len) == 0;
}

/* Into `capacity` bytes; a frame that does not fit says how much it needs, and then fits. */
static enum cellos_wire_status encode(const struct cellos_probe_event *event, size_t capacity)
{
	struct cellos_wire_error error = {.status = CELLOS_WIRE_OK};
	struct cellos_probe_event back;
	uint8_t *out = malloc(capacity > 0 ? capacity : 1);
	enum cellos_wire_status status;
	size_t length = 1;

	FUZZ_CHECK(out != NULL);
	status = cellos_encode_frame(event, capacity > 0 ? out : NULL, capacity, &length, &error);
	if (status == CELLOS_WIRE_OK) {
		FUZZ_CHECK(length <= capacity && length <= CELLOS_ENCODED_FRAME_MAX_BYTES);
		FUZZ_CHECK(cellos_decode_frame(out, length, &back, NULL) == CELLOS_WIRE_OK);
		FUZZ_CHECK(same(event, &back));
	} else {
		FUZZ_CHECK(length == 0 && error.status == status);
	}
	free(out);
	if (status == CELLOS_WIRE_BUFFER_TOO_SMALL) {
		FUZZ_CHECK(error.needed > capacity);
		FUZZ_CHECK(encode(event, error.needed) == CELLOS_WIRE_OK);
	}
	return status;
}

static void encode_body(const struct cellos_probe_event *event, enum cellos_wire_status frame)
{
	uint8_t body[CELLOS_ENCODED_FRAME_MAX_BYTES];
	struct cellos_probe_event back;
	enum cellos_wire_status status;
	size_t length;

	status = cellos_encode_event_body(event, body, sizeof(body), &length, NULL);
	FUZZ_CHECK(status == frame || frame == CELLOS_WIRE_BUFFER_TOO_SMALL);
	if (status != CELLOS_WIRE_OK)
		return;
	FUZZ_CHECK(cellos_decode_event_body(body, length, &back, NULL) == CELLOS_WIRE_OK);
	FUZZ_CHECK(same(event, &back));
}

static void as_raw(const struct cellos_probe_event *event)
{
	struct cellos_raw_event raw = {.monotonic_ns = event->guest_monotonic_ns,
				       .pid = event->guest_pid,
				       .source = event->probe_source % CELLOS_SOURCE_COUNT,
				       .comm_len = event->guest_comm_len};
	struct cellos_probe_event clean = {0}, set = {0};

	memcpy(raw.comm, event->guest_comm, sizeof(raw.comm));
	cellos_probe_event_from_raw(&clean, &raw);
	FUZZ_CHECK(encode(&clean, CELLOS_ENCODED_FRAME_MAX_BYTES) == CELLOS_WIRE_OK);
	cellos_guest_comm_set(&set, raw.comm,
			      raw.comm_len < CELLOS_RAW_COMM_MAX_BYTES ? raw.comm_len
								       : CELLOS_RAW_COMM_MAX_BYTES);
	FUZZ_CHECK(set.guest_comm_len == clean.guest_comm_len);
	FUZZ_CHECK(memcmp(set.guest_comm, clean.guest_comm, clean.guest_comm_len) == 0);
	/* All of a long name; cleaned twice it stays the same. */
	cellos_guest_comm_set(&set, event->guest_comm, sizeof(event->guest_comm));
	cellos_guest_comm_set(&clean, set.guest_comm, set.guest_comm_len);
	FUZZ_CHECK(set.guest_comm_len == clean.guest_comm_len);
	FUZZ_CHECK(memcmp(set.guest_comm, clean.guest_comm, clean.guest_comm_len) == 0);
}

static void as_report(const struct cellos_probe_event *event)
{
	struct cellos_self_report report;
	struct cellos_probe_event again = {0};

	if (cellos_self_report_parse(event, &report) != 0)
		return;
	FUZZ_CHECK(event->probe_source >= CELLOS_SOURCE_EVENT_COUNT);
	cellos_self_report_set(&again, &report);
	FUZZ_CHECK(again.probe_source == event->probe_source);
	FUZZ_CHECK(again.guest_comm_len == event->guest_comm_len);
	FUZZ_CHECK(memcmp(again.guest_comm, event->guest_comm, again.guest_comm_len) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct cellos_probe_event event;
	size_t capacity;

	if (size < FIXED_BYTES)
		return 0;
	make_event(data, size, &capacity, &event);
	encode_body(&event, encode(&event, capacity));
	as_raw(&event);
	as_report(&event);
	return 0;
}
