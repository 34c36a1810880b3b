/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The whole chain, from a probe-side submit to a process that reads the frames; beside a loop that
 * writes the same frames, made before, in pieces of 64 KiB to the same reader. The second is all
 * that a socket can do here: what is left of it is the price of queue, sender and encoder.
 *
 * Producers offer a refused event again, so nothing is lost and the rate is the chain's own. The
 * runs are interleaved; a row is the median of them. Time runs from the first submit (or write) to
 * the last byte read.
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "cellos/wire.h"
#include "chain.h"
#include "throughput.h"

#define PIECE_BYTES 65536u
#define PIECES 16u
#define DEFAULT_DEPTH 16384u

static uint8_t pieces[PIECES][PIECE_BYTES];
static size_t piece_bytes[PIECES], piece_frames[PIECES];

/* Whole frames only, so that each piece can follow each. */
static void make_pieces(void)
{
	static struct cellos_raw_event events[BENCH_EVENTS];
	unsigned next = 0;

	bench_events(events);
	for (unsigned i = 0; i < PIECES; i++) {
		piece_bytes[i] = piece_frames[i] = 0;
		while (piece_bytes[i] + CELLOS_ENCODED_FRAME_MAX_BYTES <= PIECE_BYTES) {
			struct cellos_probe_event event;
			size_t length;

			cellos_probe_event_from_raw(&event, &events[next++ % BENCH_EVENTS]);
			if (cellos_encode_frame(&event, pieces[i] + piece_bytes[i],
						CELLOS_ENCODED_FRAME_MAX_BYTES, &length,
						NULL) != CELLOS_WIRE_OK)
				bench_die("the encoder refused an event");
			piece_bytes[i] += length;
			piece_frames[i]++;
		}
	}
}

static void write_piece(int fd, const uint8_t *bytes, size_t length)
{
	while (length > 0) {
		const ssize_t wrote = write(fd, bytes, length);

		if (wrote < 0 && errno != EINTR)
			bench_die("cannot write: %s", strerror(errno));
		if (wrote > 0) {
			bytes += wrote;
			length -= (size_t)wrote;
		}
	}
}

/* ns per frame of the plain loop. */
static double run_raw(uint64_t length_ns)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct reader reader;
	struct reader_report report;
	uint64_t start, frames = 0;
	int fd;

	reader_start(&reader, READER_FAST);
	/* Only now: the reader must not hold an end of its own connection. */
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	memcpy(address.sun_path, reader.address.path, sizeof(address.sun_path));
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		bench_die("cannot connect: %s", strerror(errno));
	start = bench_now_ns();
	for (unsigned i = 0; bench_now_ns() - start < length_ns; i = (i + 1) % PIECES) {
		write_piece(fd, pieces[i], piece_bytes[i]);
		frames += piece_frames[i];
	}
	close(fd);
	reader_finish(&reader, &report);
	if (report.events != frames || report.wrong != 0)
		bench_die("the loop of writes: %lu frames written, %lu read, %lu faults", frames,
			  report.events, report.wrong);
	return (double)(report.last_ns - start) / (double)(frames + !frames);
}

struct totals {
	uint64_t offered, delivered, refused, high_water, reads, bytes;
};

static double run_ours(const struct bench_options *options, unsigned producers, uint64_t length_ns,
		       struct totals *totals)
{
	static struct chain_result result;
	const struct chain_options chain = {
		.reader = READER_FAST,
		.producers = producers,
		.pin = bench_pin_or(options->pin, BENCH_PIN_NONE),
		.depth = options->depth ? options->depth : DEFAULT_DEPTH,
		.length_ns = length_ns,
		.retry = true,
	};

	chain_run(&chain, &result);
	totals->offered += result.offered;
	totals->delivered += result.reader.events;
	totals->refused += result.refused;
	totals->reads += result.reader.reads;
	totals->bytes += result.reader.bytes;
	if (result.high_water > totals->high_water)
		totals->high_water = result.high_water;
	return (double)result.took_ns / (double)(result.reader.events + !result.reader.events);
}

static void print_times(double *ns, unsigned repeats)
{
	const double median = bench_median(ns, repeats);

	row_number("ns_per_event", median);
	row_number("ns_least", ns[0]);
	row_number("ns_most", ns[repeats - 1]);
	row_number("events_per_s", 1e9 / median);
	row_end();
}

static void print_ours(const struct bench_options *options, unsigned producers, double seconds,
		       const struct totals *t, double *ns, unsigned repeats)
{
	row_begin("pipeline", "ours");
	row_count("producers", producers);
	row_count("depth", options->depth ? options->depth : DEFAULT_DEPTH);
	row_text("pin", bench_pin_name(bench_pin_or(options->pin, BENCH_PIN_NONE)));
	row_text("full", "sleep and retry");
	row_number("seconds", seconds);
	row_count("repeats", repeats);
	row_count("offered", t->offered);
	row_count("delivered", t->delivered);
	row_count("dropped", t->refused);
	row_count("high_water", t->high_water);
	row_number("bytes_per_read", (double)t->bytes / (double)(t->reads + !t->reads));
	print_times(ns, repeats);
}

static void compare(const struct bench_options *options, unsigned producers)
{
	const unsigned repeats = options->repeats ? options->repeats : options->quick ? 2 : 11;
	const double seconds = options->seconds > 0 ? options->seconds
			       : options->quick     ? 0.05
						    : 0.5;
	const uint64_t length_ns = (uint64_t)(seconds * 1e9);
	double ours[BENCH_MAX_REPEATS], raw[BENCH_MAX_REPEATS], shares[BENCH_MAX_REPEATS];
	struct totals totals = {0};

	for (unsigned i = 0; i < repeats; i++) {
		ours[i] = run_ours(options, producers, length_ns, &totals);
		raw[i] = run_raw(length_ns);
		shares[i] = raw[i] / ours[i];
	}
	print_ours(options, producers, seconds, &totals, ours, repeats);
	row_begin("pipeline", "memcpy");
	row_text("step", "write of 64 KiB pieces made before");
	row_number("seconds", seconds);
	row_count("repeats", repeats);
	print_times(raw, repeats);
	row_begin("pipeline", NULL);
	row_count("producers", producers);
	row_count("repeats", repeats);
	row_number("share_of_raw_loop", bench_median(raw, repeats) / bench_median(ours, repeats));
	row_number("share_of_raw_loop_paired", bench_median(shares, repeats));
	row_end();
}

void bench_pipeline(const struct bench_options *options)
{
	static const uint64_t usual[] = {1, 2, 4};
	const uint64_t *producers = options->producers_count ? options->producers : usual;
	const unsigned count = options->producers_count ? options->producers_count : 3;

	make_pieces();
	for (unsigned i = 0; i < count; i++)
		compare(options, (unsigned)producers[i]);
}
