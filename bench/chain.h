/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The whole chain for one run: producer threads -> real queue -> real sender thread -> Unix socket
 * -> a reader process. Used by the pipeline bench and by drops.
 *
 * Main thread only. chain_run starts everything, ends everything, and checks every identity:
 *
 *   offered = accepted + refused                        what the producers themselves counted
 *   per lane  produced = taken + q,  taken = sent + x   what queue and sender counted
 *   sent = events the reader cut = `sent` of the goodbye; each row told = the counter it reports
 */
#ifndef CELLOS_BENCH_CHAIN_H
#define CELLOS_BENCH_CHAIN_H

#include "common.h"
#include "reader.h"

struct chain_options {
	enum reader_kind reader;
	unsigned producers;
	enum bench_pin pin;
	uint64_t depth;
	uint64_t length_ns;
	uint64_t rate;       /* events per second over all producers; 0: as fast as it goes */
	unsigned time_every; /* one submit of so many is timed; 0: none */
	bool retry;          /* a refused event is offered again, so that none is lost */
};

struct chain_result {
	uint64_t offered, accepted, refused;
	uint64_t left; /* x: given up at the stop */
	uint64_t high_water;
	uint64_t took_ns;       /* from the first submit to the last byte read */
	uint64_t submitting_ns; /* as long as the producers submitted */
	struct histogram submit_ns;
	struct reader_report reader;
};

void chain_run(const struct chain_options *options, struct chain_result *result);

#endif
