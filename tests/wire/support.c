/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* support.h has the contract. A failure here ends the test program: nothing could be checked. */
#include "support.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct fenced fenced_new(void)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE);
	size_t inside = (FENCED_BYTES + page - 1) / page * page;
	uint8_t *all = mmap(NULL, inside + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (all == MAP_FAILED || mprotect(all + page, inside, PROT_READ | PROT_WRITE) != 0)
		abort();
	return (struct fenced){.first = all + page, .end = all + page + inside};
}

uint8_t *fenced_at_end(const struct fenced *fenced, const void *bytes, size_t length)
{
	return memcpy(fenced->end - length, bytes, length);
}

uint8_t *fenced_at_start(const struct fenced *fenced, const void *bytes, size_t length)
{
	return memcpy(fenced->first, bytes, length);
}

struct cellos_probe_event vector_event(const struct vector *vector)
{
	struct cellos_probe_event event = {.guest_monotonic_ns = vector->ns,
					   .guest_pid = vector->pid,
					   .guest_comm_len = (uint8_t)vector->comm_length};
	const char *version =
		memmem(vector->frame, vector->frame_length, "content_version\x19", 16);
	int source = cellos_probe_source_from_name(vector->source, strlen(vector->source));

	if (source < 0 || version == NULL || vector->comm_length > sizeof(event.guest_comm))
		abort();
	event.probe_source = (uint8_t)source;
	event.content_version = (uint16_t)((uint8_t)version[16] << 8 | (uint8_t)version[17]);
	memcpy(event.guest_comm, vector->comm, vector->comm_length);
	return event;
}

bool same_event(const struct cellos_probe_event *a, const struct cellos_probe_event *b)
{
	return a->guest_monotonic_ns == b->guest_monotonic_ns && a->guest_pid == b->guest_pid &&
	       a->content_version == b->content_version && a->probe_source == b->probe_source &&
	       a->guest_comm_len == b->guest_comm_len &&
	       memcmp(a->guest_comm, b->guest_comm, a->guest_comm_len) == 0;
}

static uint8_t *plain_head(uint8_t *at, unsigned major, uint64_t argument)
{
	int bytes = argument < 24            ? 0
		    : argument <= UINT8_MAX  ? 1
		    : argument <= UINT16_MAX ? 2
		    : argument <= UINT32_MAX ? 4
					     : 8;
	static const uint8_t additional[] = {[1] = 24, [2] = 25, [4] = 26, [8] = 27};

	*at++ = (uint8_t)(major << 5 | (bytes == 0 ? (uint8_t)argument : additional[bytes]));
	while (bytes-- > 0)
		*at++ = (uint8_t)(argument >> (8 * bytes));
	return at;
}

static uint8_t *plain_text(uint8_t *at, const char *text, size_t length)
{
	at = plain_head(at, 3, length);
	memcpy(at, text, length);
	return at + length;
}

size_t plain_frame(const struct cellos_probe_event *event, uint8_t *out)
{
	const char *source = cellos_probe_source_name(event->probe_source);
	uint8_t *at = plain_head(out + 4, 5, 5);
	size_t body;

	at = plain_text(at, "content_version", 15);
	at = plain_head(at, 0, event->content_version == 0 ? 256 : event->content_version);
	at = plain_text(at, "probe_source", 12);
	at = plain_text(at, source, strlen(source));
	at = plain_text(at, "guest_pid", 9);
	at = plain_head(at, 0, event->guest_pid);
	at = plain_text(at, "guest_comm", 10);
	at = plain_text(at, event->guest_comm, event->guest_comm_len);
	at = plain_text(at, "guest_monotonic_ns", 18);
	at = plain_head(at, 0, event->guest_monotonic_ns);
	body = (size_t)(at - out) - 4;
	for (int i = 0; i < 4; i++)
		out[i] = (uint8_t)(body >> (8 * i));
	return body + 4;
}
