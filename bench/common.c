/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See common.h. Owns nothing; the row being written is the only state. */
#include "common.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

uint64_t bench_now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bench_sleep_until(uint64_t when_ns)
{
	struct timespec at = {.tv_sec = (time_t)(when_ns / 1000000000u),
			      .tv_nsec = (long)(when_ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &at, NULL) == EINTR)
		;
}

unsigned bench_cpus(void)
{
	const long count = sysconf(_SC_NPROCESSORS_ONLN);

	return count > 0 ? (unsigned)count : 1;
}

void bench_pin(unsigned cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % bench_cpus(), &set);
	/* A cpuset may forbid it; then the thread runs where it may. */
	(void)sched_setaffinity(0, sizeof(set), &set);
}

void bench_unpin(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	for (unsigned i = 0; i < bench_cpus(); i++)
		CPU_SET(i, &set);
	(void)sched_setaffinity(0, sizeof(set), &set);
}

void bench_place(enum bench_pin pin, unsigned thread, bool consumer)
{
	const unsigned cpus = bench_cpus();

	if (pin == BENCH_PIN_NONE)
		return;
	if (consumer)
		bench_pin(cpus - 1);
	else if (pin == BENCH_PIN_APART && cpus > 1)
		bench_pin(thread % (cpus - 1));
	else
		bench_pin(thread);
}

const char *bench_pin_name(enum bench_pin pin)
{
	static const char *const names[] = {"usual", "spread", "apart", "none"};

	return names[pin];
}

void bench_die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fflush(stdout);
	fputs("bench: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	exit(1);
}

void bench_cannot(const char *what)
{
	fprintf(stderr, "%s: cannot %s: %s\n", program_invocation_short_name, what,
		strerror(errno));
	exit(1);
}

void *bench_memory(size_t count, size_t size)
{
	void *memory = calloc(count, size);

	if (memory == NULL)
		bench_cannot("take memory");
	return memory;
}

/* ---- events ---------------------------------------------------------------------------------- */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

void bench_events(struct cellos_raw_event events[BENCH_EVENTS])
{
	uint64_t random = UINT64_C(0x9e3779b97f4a7c15);

	for (unsigned i = 0; i < BENCH_EVENTS; i++) {
		struct cellos_raw_event *e = &events[i];
		/* Mostly numbers of the size that a guest has, and some of every size below. */
		const unsigned pid_bits = 4 + (unsigned)(next_random(&random) % 19);
		const unsigned time_bits = 28 + (unsigned)(next_random(&random) % 20);

		memset(e, 0, sizeof(*e));
		/* The number of the event in the low bits makes all of them distinct. */
		e->monotonic_ns = (UINT64_C(1) << time_bits) |
				  (next_random(&random) & ((UINT64_C(1) << time_bits) - 4096)) | i;
		e->pid = 1 + (uint32_t)(next_random(&random) & ((1u << pid_bits) - 1));
		e->source = (uint8_t)(next_random(&random) % CELLOS_SOURCE_EVENT_COUNT);
		e->comm_len = (uint8_t)(1 + next_random(&random) % CELLOS_RAW_COMM_MAX_BYTES);
		for (unsigned k = 0; k < e->comm_len; k++)
			e->comm[k] = (char)('a' + next_random(&random) % 26);
	}
}

uint64_t bench_sum_of_round(const struct cellos_raw_event events[BENCH_EVENTS], uint64_t count)
{
	uint64_t round = 0, rest = 0;

	for (unsigned i = 0; i < BENCH_EVENTS; i++) {
		round += bench_sum(&events[i]);
		if (i < count % BENCH_EVENTS)
			rest += bench_sum(&events[i]);
	}
	return count / BENCH_EVENTS * round + rest;
}

/* ---- numbers --------------------------------------------------------------------------------- */

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_median(double *values, size_t count)
{
	if (count == 0)
		return 0;
	qsort(values, count, sizeof(*values), compare);
	return count % 2 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

double bench_quantile(double *values, size_t count, double share)
{
	qsort(values, count, sizeof(*values), compare);
	return values[(size_t)(share * (double)(count - 1) + 0.5)];
}

struct bench_ratios bench_ratios_new(size_t count)
{
	return (struct bench_ratios){
		count, bench_memory(count, sizeof(double)), bench_memory(count, sizeof(double)),
		bench_memory(count, sizeof(double)), bench_memory(count, sizeof(double))};
}

void bench_ratios_note(struct bench_ratios *ratios, size_t at, double with, double without,
		       double null)
{
	ratios->with[at] = with;
	ratios->without[at] = without;
	ratios->ratio[at] = with / without;
	ratios->null[at] = null;
}

void bench_ratios_end(struct bench_ratios *ratios, const char *of, size_t block, const char *what)
{
	const size_t n = ratios->count;

	printf("\"of\":\"%s\",\"pairs\":%zu,\"block\":%zu,\"%s_ns_without\":%.0f,"
	       "\"%s_ns_with\":%.0f,\"ratio\":%.4f,\"ratio_q1\":%.4f,\"ratio_q3\":%.4f,"
	       "\"null_ratio\":%.4f,\"null_q1\":%.4f,\"null_q3\":%.4f}\n",
	       of, n, block, what, bench_quantile(ratios->without, n, 0.5), what,
	       bench_quantile(ratios->with, n, 0.5), bench_quantile(ratios->ratio, n, 0.5),
	       bench_quantile(ratios->ratio, n, 0.25), bench_quantile(ratios->ratio, n, 0.75),
	       bench_quantile(ratios->null, n, 0.5), bench_quantile(ratios->null, n, 0.25),
	       bench_quantile(ratios->null, n, 0.75));
	fflush(stdout);
	free(ratios->with);
	free(ratios->without);
	free(ratios->ratio);
	free(ratios->null);
}

static unsigned bin_of(uint64_t ns)
{
	unsigned power;

	if (ns < HISTOGRAM_STEPS)
		return (unsigned)ns;
	power = 63 - (unsigned)__builtin_clzll(ns);
	return (power - 3) * HISTOGRAM_STEPS +
	       (unsigned)(ns >> (power - 4) & (HISTOGRAM_STEPS - 1));
}

static uint64_t bin_edge(unsigned bin)
{
	const unsigned power = bin / HISTOGRAM_STEPS + 3;

	if (bin < HISTOGRAM_STEPS)
		return bin;
	return ((HISTOGRAM_STEPS + bin % HISTOGRAM_STEPS + 1) << (power - 4)) - 1;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
	h->bins[bin_of(ns)]++;
	h->count++;
	if (ns > h->max)
		h->max = ns;
}

void histogram_merge(struct histogram *into, const struct histogram *from)
{
	for (size_t i = 0; i < sizeof(into->bins) / sizeof(into->bins[0]); i++)
		into->bins[i] += from->bins[i];
	into->count += from->count;
	if (from->max > into->max)
		into->max = from->max;
}

uint64_t histogram_percentile(const struct histogram *h, double share)
{
	const double wanted = share * (double)h->count;
	uint64_t below = 0;

	for (unsigned i = 0; i < sizeof(h->bins) / sizeof(h->bins[0]); i++) {
		below += h->bins[i];
		if (below > 0 && (double)below >= wanted)
			return bin_edge(i) < h->max ? bin_edge(i) : h->max;
	}
	return h->max;
}

/* ---- rows ------------------------------------------------------------------------------------ */

void row_begin(const char *bench, const char *impl)
{
	printf("{\"bench\":\"%s\"", bench);
	if (impl != NULL)
		row_text("impl", impl);
	else
		row_flag("summary", true);
}

void row_text(const char *key, const char *value)
{
	printf(",\"%s\":\"%s\"", key, value);
}

void row_count(const char *key, uint64_t value)
{
	printf(",\"%s\":%" PRIu64, key, value);
}

void row_number(const char *key, double value)
{
	printf(",\"%s\":%.4g", key, value);
}

void row_flag(const char *key, bool value)
{
	printf(",\"%s\":%s", key, value ? "true" : "false");
}

void row_end(void)
{
	row_count("cpus", bench_cpus());
	puts("}");
	fflush(stdout);
}

/* ---- options --------------------------------------------------------------------------------- */

static _Noreturn void refuse(const char *option, const char *value, const char *why)
{
	fprintf(stderr, "bench: cannot take %s %s: %s\n", option, value, why);
	exit(2);
}

static uint64_t number(const char *option, const char *text, uint64_t low, uint64_t high)
{
	char *end;
	uint64_t value;

	errno = 0;
	value = strtoull(text, &end, 10);
	if (errno != 0 || end == text || *end != 0 || *text == '-')
		refuse(option, text, "not a number");
	if (value < low || value > high)
		refuse(option, text, "out of range");
	return value;
}

static unsigned numbers(const char *option, char *text, uint64_t low, uint64_t high,
			uint64_t *values, unsigned room)
{
	unsigned count = 0;
	char *rest = text;

	for (char *one = strsep(&rest, ","); one != NULL; one = strsep(&rest, ",")) {
		if (count == room)
			refuse(option, one, "too many");
		values[count++] = number(option, one, low, high);
	}
	return count;
}

static double seconds(const char *text)
{
	char *end;
	const double value = strtod(text, &end);

	/* Ten at most: with more producers than CPUs a ring can stall for as long as it runs. */
	if (end == text || *end != 0 || !(value >= 0.001 && value <= 10))
		refuse("--seconds", text, "not a number from 0.001 to 10");
	return value;
}

static enum bench_pin pin(const char *text)
{
	for (unsigned i = BENCH_PIN_SPREAD; i <= BENCH_PIN_NONE; i++)
		if (strcmp(text, bench_pin_name((enum bench_pin)i)) == 0)
			return (enum bench_pin)i;
	refuse("--pin", text, "not spread, apart or none");
}

void bench_options_parse(struct bench_options *o, int argc, char **argv, const char *usage)
{
	static const struct option known[] = {
		{"bench", required_argument, NULL, 'b'},
		{"quick", no_argument, NULL, 'q'},
		{"repeats", required_argument, NULL, 'r'},
		{"seconds", required_argument, NULL, 's'},
		{"producers", required_argument, NULL, 'p'},
		{"depth", required_argument, NULL, 'd'},
		{"away-us", required_argument, NULL, 'a'},
		{"pin", required_argument, NULL, 'c'},
		{"rates", required_argument, NULL, 'R'},
		{"reader", required_argument, NULL, 'b'},
		{"help", no_argument, NULL, 'h'},
		{0},
	};
	int option;

	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		switch (option) {
		case 'b':
			o->which = optarg;
			break;
		case 'q':
			o->quick = true;
			break;
		case 'r':
			o->repeats = (unsigned)number("--repeats", optarg, 1, BENCH_MAX_REPEATS);
			break;
		case 's':
			o->seconds = seconds(optarg);
			break;
		case 'p':
			o->producers_count = numbers("--producers", optarg, 1, BENCH_MAX_PRODUCERS,
						     o->producers, 8);
			break;
		case 'd':
			o->depth = number("--depth", optarg, 2, 1048576);
			break;
		case 'a':
			o->away_us = number("--away-us", optarg, 0, 1000000);
			break;
		case 'c':
			o->pin = pin(optarg);
			break;
		case 'R':
			o->rates_count = numbers("--rates", optarg, 0, 1000000000, o->rates, 16);
			break;
		case 'h':
			fputs(usage, stdout);
			exit(0);
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (optind != argc)
		refuse("argument", argv[optind], "not an option");
}
