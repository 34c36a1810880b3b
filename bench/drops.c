/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * bench/drops: what is dropped at which rate, and what a submit costs meanwhile.
 *
 * The offered rate is swept from far below to far beyond what the chain takes, against a reader
 * that is fast, slow, or stalled until the producers have stopped. A refused event is gone. For
 * every row offered = delivered + dropped, the reader's own ledger from the wire says the same, and
 * the lanes' counters too (chain.c checks all of it). A sweep whose last rate was meant to overload
 * and dropped nothing tested nothing: it is tried again, for a machine may keep the producers from
 * running, and then fails.
 *
 * One submit in TIME_EVERY is timed; the clock itself is part of what is printed.
 */
#include <stdio.h>
#include <string.h>

#include "cellos/queue.h"
#include "chain.h"

#define DEFAULT_DEPTH 4096u
#define TIME_EVERY 8u
#define OVERLOAD_TRIES 20u

static const char usage[] =
	"usage: drops [--reader fast|slow|stalled|all] [--quick] [--seconds S] [--producers LIST]\n"
	"             [--rates LIST] [--depth N] [--pin spread|apart|none]\n"
	"\n"
	"One JSON object per row on stdout. Exit 0, 1 on a broken identity or when an overload\n"
	"dropped nothing, 2 on bad usage.\n"
	"\n"
	"  --reader KIND     the host's end: reads at once, pauses 1 ms every 64 KiB, or stands\n"
	"                    still until the producers have stopped\n"
	"  --quick           two rates, short\n"
	"  --seconds S       length of one row, at most 10\n"
	"  --producers LIST  as in 1,2,4\n"
	"  --rates LIST      events per second over all producers, the last one an overload;\n"
	"                    0 is as fast as they can\n"
	"  --depth N         events per lane\n"
	"  --pin HOW         spread over all CPUs, apart from the last CPU, or none\n";

static const uint64_t usual_rates[] = {10000,   100000,   500000,   1000000,  2000000,
				       5000000, 10000000, 20000000, 40000000, 0};
static const uint64_t quick_rates[] = {100000, 0};

static void print_row(const struct chain_options *chain, const struct chain_result *r)
{
	const double seconds = (double)r->submitting_ns / 1e9;
	const uint64_t dropped = r->refused + r->left;

	row_begin("drops", "ours");
	row_text("reader", reader_kind_name(chain->reader));
	row_count("producers", chain->producers);
	row_count("depth", chain->depth);
	row_text("pin", bench_pin_name(chain->pin));
	row_number("seconds", seconds);
	row_count("rate", chain->rate);
	row_number("offered_per_s", (double)r->offered / seconds);
	row_number("events_per_s", (double)r->reader.events / ((double)r->took_ns / 1e9));
	row_count("offered", r->offered);
	row_count("delivered", r->reader.events);
	row_count("dropped", dropped);
	row_count("dropped_q", r->refused);
	row_count("dropped_x", r->left);
	row_number("drop_share", (double)dropped / (double)(r->offered + !r->offered));
	row_count("high_water", r->high_water);
	row_count("submits_timed", r->submit_ns.count);
	row_count("submit_p50_ns", histogram_percentile(&r->submit_ns, 0.50));
	row_count("submit_p99_ns", histogram_percentile(&r->submit_ns, 0.99));
	row_count("submit_p999_ns", histogram_percentile(&r->submit_ns, 0.999));
	row_count("submit_max_ns", r->submit_ns.max);
	row_end();
}

static void sweep(const struct bench_options *o, enum reader_kind kind, unsigned producers)
{
	static struct chain_result result;
	const uint64_t *rates = o->rates_count ? o->rates : o->quick ? quick_rates : usual_rates;
	const size_t count = o->rates_count ? o->rates_count
			     : o->quick     ? sizeof(quick_rates) / sizeof(quick_rates[0])
					    : sizeof(usual_rates) / sizeof(usual_rates[0]);
	const double seconds = o->seconds > 0 ? o->seconds : o->quick ? 0.2 : 1;
	unsigned tries = 0;

	for (size_t i = 0; i < count; i++) {
		const struct chain_options chain = {
			.reader = kind,
			.producers = producers,
			.pin = bench_pin_or(o->pin, BENCH_PIN_NONE),
			.depth = o->depth ? o->depth : DEFAULT_DEPTH,
			.length_ns = (uint64_t)(seconds * 1e9),
			.rate = rates[i],
			.time_every = TIME_EVERY,
		};

		do {
			chain_run(&chain, &result);
			print_row(&chain, &result);
		} while (i == count - 1 && result.refused == 0 && ++tries < OVERLOAD_TRIES);
	}
	if (result.refused == 0)
		bench_die("meant to overload a %s reader, and dropped nothing",
			  reader_kind_name(kind));
}

int main(int argc, char **argv)
{
	static const uint64_t one[] = {1};
	struct bench_options options = {.which = "all"};
	const uint64_t *producers;
	bool any = false;
	unsigned count;

	bench_options_parse(&options, argc, argv, usage);
	producers = options.producers_count ? options.producers : one;
	count = options.producers_count ? options.producers_count : 1;
	for (enum reader_kind kind = READER_FAST; kind <= READER_STALLED; kind++) {
		if (strcmp(options.which, "all") != 0 &&
		    strcmp(options.which, reader_kind_name(kind)) != 0)
			continue;
		any = true;
		for (unsigned i = 0; i < count; i++)
			sweep(&options, kind, (unsigned)producers[i]);
	}
	if (!any) {
		fputs(usage, stderr);
		return 2;
	}
	return 0;
}
