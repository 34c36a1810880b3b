/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Kernel names made fit for the wire. A process may call itself any 15 bytes; the wire takes valid
 * UTF-8 of at most 16 characters. Pure, any thread; called by the sender for every event, so a
 * plain ASCII name must cost nothing beside its copy.
 */
#include "cellos/wire.h"

#include <string.h>

#include "utf8.h"

#define REPLACEMENT "\xef\xbf\xbd" /* U+FFFD */
#define REPLACEMENT_BYTES (sizeof(REPLACEMENT) - 1)

/* 16 characters of input take at most 64 bytes, so looking at more could change nothing. */
static void replace_invalid(struct cellos_probe_event *event, const uint8_t *raw, size_t length)
{
	size_t in = 0, out = 0;

	if (length > CELLOS_GUEST_COMM_MAX_BYTES)
		length = CELLOS_GUEST_COMM_MAX_BYTES;
	for (int chars = 0; in < length && chars < CELLOS_GUEST_COMM_MAX_CHARS; chars++) {
		int step = cellos_utf8_step(raw + in, length - in);

		const void *from = step > 0 ? (const void *)(raw + in) : REPLACEMENT;
		size_t bytes = step > 0 ? (size_t)step : REPLACEMENT_BYTES;

		memcpy(event->guest_comm + out, from, bytes);
		in += (size_t)(step > 0 ? step : -step);
		out += bytes;
	}
	event->guest_comm[out] = 0;
	event->guest_comm_len = (uint8_t)out;
}

/*
 * A kernel name that is plain ASCII. All 16 bytes are there, so no length decides what is loaded or
 * stored. The zeros behind the name come along; a NUL stored on its own would split what the
 * encoder loads next.
 */
static inline bool set_plain(struct cellos_probe_event *event, const char comm[16], size_t length)
{
	if (length > CELLOS_RAW_COMM_MAX_BYTES || !cellos_ascii16(comm))
		return false;
	memcpy(event->guest_comm, comm, 16);
	event->guest_comm_len = (uint8_t)length;
	return true;
}

void cellos_guest_comm_set(struct cellos_probe_event *event, const char *raw, size_t length)
{
	char padded[16] = {0};

	if (length <= CELLOS_RAW_COMM_MAX_BYTES)
		memcpy(padded, raw, length);
	if (!set_plain(event, padded, length))
		replace_invalid(event, (const uint8_t *)raw, length);
}

void cellos_probe_event_from_raw(struct cellos_probe_event *event,
				 const struct cellos_raw_event *raw)
{
	size_t length = raw->comm_len;

	event->guest_monotonic_ns = raw->monotonic_ns;
	event->guest_pid = raw->pid;
	event->content_version = CELLOS_WIRE_CONTENT_VERSION;
	event->probe_source = raw->source;
	if (set_plain(event, raw->comm, length))
		return;
	if (length > CELLOS_RAW_COMM_MAX_BYTES)
		length = CELLOS_RAW_COMM_MAX_BYTES;
	replace_invalid(event, (const uint8_t *)raw->comm, length);
}
