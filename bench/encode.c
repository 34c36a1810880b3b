/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a frame costs: cellos_encode_frame beside a memcpy of the same frames made before, and
 * beside libcbor's low-level encoders writing the same bytes.
 *
 * All three walk the same BENCH_EVENTS events in the same order and write one frame behind the
 * other into the same 64 KiB buffer, over and over, as the sender's batch does. The memcpy reads
 * each length from memory, so no call has a constant size. Before anything is timed, all frames of
 * all three are compared byte by byte; behind every run the bytes written are counted and the
 * buffer is summed up, so that nothing can be left out.
 *
 * One thread. The runs are interleaved, so that a slow moment of the machine falls on all three.
 */
#include <cbor.h>
#include <stdlib.h>
#include <string.h>

#include "cellos/wire.h"
#include "throughput.h"

#define BUFFER_BYTES 65536u
/* Passes over the events in one run: short beside the moments in which a machine is elsewhere. */
#define PASSES 25u

enum impl { OURS, OURS_FROM_RAW, MEMCPY, LIBCBOR, IMPLS };

/* What is timed, beside what it is called in a row. */
static const char *const names[IMPLS] = {"ours", "ours", "memcpy", "libcbor"};
static const char *const steps[IMPLS] = {"frame", "raw_to_frame", "frame", "frame"};

static struct cellos_raw_event raw[BENCH_EVENTS];
static struct cellos_probe_event events[BENCH_EVENTS];
/* All frames, one behind the other, and how long each is. */
static uint8_t prepared[BENCH_EVENTS * CELLOS_ENCODED_FRAME_MAX_BYTES];
static uint32_t lengths[BENCH_EVENTS];
static uint64_t prepared_bytes;
static uint8_t buffer[BUFFER_BYTES];

static inline size_t ours(const struct cellos_probe_event *event, uint8_t *out)
{
	size_t length;

	if (cellos_encode_frame(event, out, CELLOS_ENCODED_FRAME_MAX_BYTES, &length, NULL) !=
	    CELLOS_WIRE_OK)
		bench_die("the encoder refused an event");
	return length;
}

static inline size_t text(const char *value, size_t length, uint8_t *out, size_t room)
{
	const size_t head = cbor_encode_string_start(length, out, room);

	memcpy(out + head, value, length);
	return head + length;
}

#define KEY(name) text(name, sizeof(name) - 1, out + at, room - at)

static size_t libcbor(const struct cellos_probe_event *event, uint8_t *out)
{
	const size_t room = CELLOS_ENCODED_FRAME_MAX_BYTES;
	const char *source = cellos_probe_source_name(event->probe_source);
	size_t at = CELLOS_FRAME_PREFIX_BYTES;
	uint32_t body;

	at += cbor_encode_map_start(5, out + at, room - at);
	at += KEY("content_version");
	at += cbor_encode_uint(CELLOS_WIRE_CONTENT_VERSION, out + at, room - at);
	at += KEY("probe_source");
	at += text(source, strlen(source), out + at, room - at);
	at += KEY("guest_pid");
	at += cbor_encode_uint(event->guest_pid, out + at, room - at);
	at += KEY("guest_comm");
	at += text(event->guest_comm, event->guest_comm_len, out + at, room - at);
	at += KEY("guest_monotonic_ns");
	at += cbor_encode_uint(event->guest_monotonic_ns, out + at, room - at);
	body = (uint32_t)(at - CELLOS_FRAME_PREFIX_BYTES);
	for (unsigned i = 0; i < CELLOS_FRAME_PREFIX_BYTES; i++)
		out[i] = (uint8_t)(body >> 8 * i);
	return at;
}

static void prepare(void)
{
	uint8_t again[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t at = 0;

	bench_events(raw);
	for (unsigned i = 0; i < BENCH_EVENTS; i++) {
		cellos_probe_event_from_raw(&events[i], &raw[i]);
		lengths[i] = (uint32_t)ours(&events[i], prepared + at);
		if (libcbor(&events[i], again) != lengths[i] ||
		    memcmp(again, prepared + at, lengths[i]) != 0)
			bench_die("libcbor makes another frame of event %u", i);
		at += lengths[i];
	}
	prepared_bytes = at;
}

/* The same loop four times over: `make` is a constant in each, and inlined. */
static inline __attribute__((always_inline)) uint64_t write_all(enum impl impl)
{
	uint64_t bytes = 0;
	size_t at = 0;

	for (unsigned pass = 0; pass < PASSES; pass++) {
		const uint8_t *next = prepared;

		for (unsigned i = 0; i < BENCH_EVENTS; i++) {
			size_t length;

			if (at > BUFFER_BYTES - CELLOS_ENCODED_FRAME_MAX_BYTES)
				at = 0;
			if (impl == OURS) {
				length = ours(&events[i], buffer + at);
			} else if (impl == OURS_FROM_RAW) {
				struct cellos_probe_event event;

				cellos_probe_event_from_raw(&event, &raw[i]);
				length = ours(&event, buffer + at);
			} else if (impl == MEMCPY) {
				length = lengths[i];
				memcpy(buffer + at, next, length);
				next += length;
			} else {
				length = libcbor(&events[i], buffer + at);
			}
			at += length;
			bytes += length;
		}
	}
	return bytes;
}

static __attribute__((noinline)) uint64_t write_ours(void)
{
	return write_all(OURS);
}

static __attribute__((noinline)) uint64_t write_ours_from_raw(void)
{
	return write_all(OURS_FROM_RAW);
}

static __attribute__((noinline)) uint64_t write_memcpy(void)
{
	return write_all(MEMCPY);
}

static __attribute__((noinline)) uint64_t write_libcbor(void)
{
	return write_all(LIBCBOR);
}

static uint64_t buffer_sum(void)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < BUFFER_BYTES; i++)
		sum = sum * 31 + buffer[i];
	return sum;
}

/* One run: ns per frame. All runs write the same bytes, so all sums must be one. */
static double run(enum impl impl)
{
	static uint64_t (*const writers[IMPLS])(void) = {write_ours, write_ours_from_raw,
							 write_memcpy, write_libcbor};
	static uint64_t sum;
	uint64_t start, took;

	memset(buffer, 0, sizeof(buffer));
	start = bench_now_ns();
	if (writers[impl]() != PASSES * prepared_bytes)
		bench_die("%s wrote another number of bytes", names[impl]);
	took = bench_now_ns() - start;
	if (sum == 0)
		sum = buffer_sum();
	if (buffer_sum() != sum)
		bench_die("%s wrote other bytes", names[impl]);
	return (double)took / ((double)PASSES * BENCH_EVENTS);
}

static void print_row(enum impl impl, double *took, unsigned repeats)
{
	const double median = bench_median(took, repeats);

	row_begin("encode", names[impl]);
	row_text("step", steps[impl]);
	row_count("events", BENCH_EVENTS);
	row_count("repeats", repeats);
	row_count("frames", (uint64_t)repeats * PASSES * BENCH_EVENTS);
	row_number("bytes_per_frame", (double)prepared_bytes / BENCH_EVENTS);
	row_number("ns_per_event", median);
	row_number("ns_least", took[0]);
	row_number("ns_most", took[repeats - 1]);
	row_number("events_per_s", 1e9 / median);
	row_end();
}

void bench_encode(const struct bench_options *options)
{
	static double took[IMPLS][BENCH_MAX_REPEATS];
	static double to_memcpy[BENCH_MAX_REPEATS], from_libcbor[BENCH_MAX_REPEATS];
	const unsigned repeats = options->repeats ? options->repeats : options->quick ? 3 : 101;

	bench_place(bench_pin_or(options->pin, BENCH_PIN_SPREAD), 0, true);
	prepare();
	for (enum impl impl = OURS; impl < IMPLS; impl++)
		(void)run(impl); /* warm-up */
	for (unsigned i = 0; i < repeats; i++) {
		for (enum impl impl = OURS; impl < IMPLS; impl++)
			took[impl][i] = run(impl);
		to_memcpy[i] = took[OURS][i] / took[MEMCPY][i];
		from_libcbor[i] = took[LIBCBOR][i] / took[OURS][i];
	}
	for (enum impl impl = OURS; impl < IMPLS; impl++)
		print_row(impl, took[impl], repeats);
	row_begin("encode", NULL);
	row_count("repeats", repeats);
	row_number("ours_over_memcpy",
		   bench_median(took[OURS], repeats) / bench_median(took[MEMCPY], repeats));
	row_number("ours_over_memcpy_paired", bench_median(to_memcpy, repeats));
	row_number("libcbor_over_ours",
		   bench_median(took[LIBCBOR], repeats) / bench_median(took[OURS], repeats));
	row_number("libcbor_over_ours_paired", bench_median(from_libcbor, repeats));
	row_end();
	bench_unpin();
}
