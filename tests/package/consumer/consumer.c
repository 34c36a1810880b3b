/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A user's first program: an event goes through a lane, is encoded and decoded, and is still the
 * same. Also compiled as C++ (consumer.cc), so it is written in what both languages have.
 *
 * Threads: one. Exit code 0 when all of it worked.
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cellos/admission.h>
#include <cellos/declaration.h>
#include <cellos/event.h>
#include <cellos/queue.h>
#include <cellos/transport.h>
#include <cellos/wire.h>

static int fail(const char *what)
{
	fprintf(stderr, "consumer: cannot %s\n", what);
	return 1;
}

static int through_a_lane(struct cellos_raw_event *event)
{
	struct cellos_queue *queue = NULL;
	struct cellos_drained drained;
	size_t count = 0;
	int result = cellos_queue_create(&queue, CELLOS_LANE_COUNT, 8);

	if (result < 0)
		return fail("make a queue");
	if (cellos_lane_submit(cellos_queue_lane(queue, CELLOS_LANE_FS), event) !=
	    CELLOS_SUBMIT_ACCEPTED)
		result = fail("submit");
	else if (cellos_queue_drain(queue, &drained, 1, &count) == CELLOS_DRAIN_RETRY ||
		 count != 1 || drained.lane != CELLOS_LANE_FS)
		result = fail("drain");
	else
		*event = drained.event;
	queue = cellos_queue_destroy(queue);
	return result;
}

static int over_the_wire(const struct cellos_probe_event *event)
{
	struct cellos_probe_event back;
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length = 0;

	if (cellos_encode_frame(event, frame, sizeof(frame), &length, NULL) != CELLOS_WIRE_OK)
		return fail("encode");
	if (cellos_decode_frame(frame, length, &back, NULL) != CELLOS_WIRE_OK)
		return fail("decode");
	if (back.guest_pid != event->guest_pid || back.probe_source != event->probe_source ||
	    back.guest_monotonic_ns != event->guest_monotonic_ns ||
	    back.guest_comm_len != event->guest_comm_len ||
	    memcmp(back.guest_comm, event->guest_comm, event->guest_comm_len) != 0)
		return fail("get the same event back");
	return 0;
}

/* One call into each half of the transport, which opens nothing. */
static int read_addresses(void)
{
	struct cellos_address address;
	const char *why = NULL;

	if (cellos_address_parse("unix:/run/cell.sock", &address, &why) < 0 ||
	    address.kind != CELLOS_ADDRESS_UNIX)
		return fail("read an address");
	if (cellos_listen_address_parse("nonsense", &address, &why) >= 0 || why == NULL)
		return fail("have a bad address refused");
	return 0;
}

/* A guest that declares a name which nobody authorized. */
static int refuse_a_guest(void)
{
	struct cellos_guest_telemetry_declaration declared, authorized;
	const char *const names[1] = {"example.com"};

	memset(&declared, 0, sizeof(declared));
	memset(&authorized, 0, sizeof(authorized));
	if (cellos_declaration_validate(&declared, &authorized, NULL, NULL) != 0)
		return fail("have an empty declaration accepted");
	declared.declared_surface.dns_queries = names;
	declared.declared_surface.dns_query_count = 1;
	if (cellos_declaration_validate(&declared, &authorized, NULL, NULL) != 1)
		return fail("have a bad declaration refused");
	return 0;
}

int main(void)
{
	struct cellos_raw_event raw;
	struct cellos_probe_event event;
	int result;

	memset(&raw, 0, sizeof(raw));
	memset(&event, 0, sizeof(event));
	raw.monotonic_ns = UINT64_MAX;
	raw.pid = 4711;
	raw.source = CELLOS_SOURCE_FS_INOTIFY_FIRED;
	raw.comm_len = 3;
	memcpy(raw.comm, "cat", 3);
	result = through_a_lane(&raw);
	if (result == 0) {
		cellos_probe_event_from_raw(&event, &raw);
		result = over_the_wire(&event);
	}
	if (result == 0)
		result = read_addresses();
	if (result == 0)
		result = refuse_a_guest();
	if (result == 0)
		printf("one event there and back\n");
	return result;
}
