/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the benches share: clock, pinning, the events they use, medians, percentiles, and the JSON
 * line that each row is.
 *
 * One thread at a time for each object; nothing here is timed but the clock and histogram_add.
 * It measures and counts. It does not judge a time: only a broken identity makes a bench fail.
 */
#ifndef CELLOS_BENCH_COMMON_H
#define CELLOS_BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"

#define BENCH_EVENTS 4096u /* distinct, all sources; a power of two */
#define BENCH_MAX_PRODUCERS CELLOS_LANE_COUNT
#define BENCH_MAX_REPEATS 1001u

uint64_t bench_now_ns(void);
void bench_sleep_until(uint64_t when_ns);
/* Pins the calling thread to the CPU, counted round the CPUs there are. */
void bench_pin(unsigned cpu);
/* Lets the calling thread, and what it starts from now on, run anywhere again. */
void bench_unpin(void);
unsigned bench_cpus(void);
/* Says why and ends the program with status 1: for what makes a result worthless. */
_Noreturn void bench_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for a call that failed: "<bench>: cannot <what>: <errno>". */
_Noreturn void bench_cannot(const char *what);
/* Zeroed; the caller's to free. */
void *bench_memory(size_t count, size_t size);

/* ---- events ---------------------------------------------------------------------------------- */

/*
 * BENCH_EVENTS events that differ in every field: all five sources, numbers of 1 to 4 and 4 to 8
 * bytes, names of 1 to 15 characters. The same ones at each call.
 */
void bench_events(struct cellos_raw_event events[BENCH_EVENTS]);
/* The sum of an event's four words: the consumer's proof that it read every byte. */
static inline uint64_t bench_sum(const struct cellos_raw_event *event)
{
	uint64_t words[sizeof(*event) / sizeof(uint64_t)];

	__builtin_memcpy(words, event, sizeof(words));
	return words[0] + words[1] + words[2] + words[3];
}
/* The same sum over the first `count` events of an endless round through `events`. */
uint64_t bench_sum_of_round(const struct cellos_raw_event events[BENCH_EVENTS], uint64_t count);

/* ---- numbers --------------------------------------------------------------------------------- */

/* Sorts `values`. */
double bench_median(double *values, size_t count);
/* Sorts them too; share from 0 to 1, the nearest of at least one value. */
double bench_quantile(double *values, size_t count, double share);

/* What pairs of blocks came to, with something and without it; null: without against without. */
struct bench_ratios {
	size_t count;
	double *with, *without, *ratio, *null; /* owned */
};

struct bench_ratios bench_ratios_new(size_t count);
void bench_ratios_note(struct bench_ratios *ratios, size_t at, double with, double without,
		       double null);
/* Ends a row that was begun, its last comma included, with their medians and quartiles: of the
   blocks' what (`of`), and nanoseconds of what (`what`). Frees them. */
void bench_ratios_end(struct bench_ratios *ratios, const char *of, size_t block, const char *what);

/* Nanoseconds by powers of two, each in 16 steps: a percentile is right to 1/16 of itself. */
#define HISTOGRAM_STEPS 16u
struct histogram {
	uint64_t bins[64 * HISTOGRAM_STEPS];
	uint64_t count, max;
};

void histogram_add(struct histogram *h, uint64_t ns);
void histogram_merge(struct histogram *into, const struct histogram *from);
/* Upper edge of the bin in which the share lies; 0 when empty. */
uint64_t histogram_percentile(const struct histogram *h, double share);

/* ---- rows ------------------------------------------------------------------------------------ */

/* One JSON object on one line of stdout. Keys and texts are ours: nothing needs escaping. */
void row_begin(const char *bench, const char *impl); /* impl NULL: a summary row */
void row_text(const char *key, const char *value);
void row_count(const char *key, uint64_t value);
void row_number(const char *key, double value);
void row_flag(const char *key, bool value);
void row_end(void);

/* ---- options --------------------------------------------------------------------------------- */

enum bench_pin { BENCH_PIN_USUAL, BENCH_PIN_SPREAD, BENCH_PIN_APART, BENCH_PIN_NONE };

struct bench_options {
	const char *which; /* --bench, --reader: borrowed from argv */
	bool quick;
	unsigned repeats;      /* 0: the bench's own default */
	double seconds;        /* of one run; 0: the bench's own default */
	uint64_t producers[8]; /* --producers LIST */
	unsigned producers_count;
	uint64_t rates[16]; /* --rates LIST, events per second, 0 = as fast as it goes */
	unsigned rates_count;
	uint64_t depth;
	uint64_t away_us;
	enum bench_pin pin;
};

/* Fills what the command line names; prints usage and exits 0 or 2 by itself. */
void bench_options_parse(struct bench_options *options, int argc, char **argv, const char *usage);
/* spread: thread i on CPU i, round and round; apart: the consumer (last) has a CPU of its own. */
void bench_place(enum bench_pin pin, unsigned thread, bool consumer);
const char *bench_pin_name(enum bench_pin pin);
/* What was asked for, or else the bench's own choice. */
static inline enum bench_pin bench_pin_or(enum bench_pin pin, enum bench_pin usual)
{
	return pin == BENCH_PIN_USUAL ? usual : pin;
}

#endif
