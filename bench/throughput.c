/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* bench/throughput: how fast each station is, beside what else one could use. See README.md. */
#include "throughput.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
	"usage: throughput [--bench encode|queue|pipeline|all] [--quick] [--repeats N]\n"
	"                  [--seconds S] [--producers LIST] [--depth N] [--away-us N]\n"
	"                  [--pin spread|apart|none]\n"
	"\n"
	"One JSON object per row on stdout. Exit 0, 1 on a broken identity, 2 on bad usage.\n"
	"\n"
	"  --bench NAME      encode: ns per frame beside memcpy and libcbor's encoders\n"
	"                    queue: submit and drain beside Concurrency Kit's ck_ring\n"
	"                    pipeline: submit to a reading process, beside a loop of writes\n"
	"  --quick           few and short runs: the identities, not the times\n"
	"  --repeats N       interleaved runs that the medians are taken of\n"
	"  --seconds S       length of one run of queue and pipeline, at most 10\n"
	"  --producers LIST  as in 1,2,4\n"
	"  --depth N         events per lane\n"
	"  --away-us N       queue: how long the consumer stays away after it found the queue\n"
	"                    empty, as a sender does that writes what it took\n"
	"  --pin HOW         spread over all CPUs (encode and queue), apart from the consumer's\n"
	"                    CPU, or none (pipeline)\n";

int main(int argc, char **argv)
{
	struct bench_options options = {.which = "all", .away_us = 10};
	bool all;

	bench_options_parse(&options, argc, argv, usage);
	all = strcmp(options.which, "all") == 0;
	if (!all && strcmp(options.which, "encode") != 0 && strcmp(options.which, "queue") != 0 &&
	    strcmp(options.which, "pipeline") != 0) {
		fputs(usage, stderr);
		return 2;
	}
	if (all || strcmp(options.which, "encode") == 0)
		bench_encode(&options);
	if (all || strcmp(options.which, "queue") == 0)
		bench_queue(&options);
	if (all || strcmp(options.which, "pipeline") == 0)
		bench_pipeline(&options);
	return 0;
}
