/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The three parts of bench/throughput, one file each. Each prints its rows and a summary row, and
 * ends the program by bench_die when an identity is broken. One at a time, from the main thread.
 */
#ifndef CELLOS_BENCH_THROUGHPUT_H
#define CELLOS_BENCH_THROUGHPUT_H

#include "common.h"

void bench_encode(const struct bench_options *options);
void bench_queue(const struct bench_options *options);
void bench_pipeline(const struct bench_options *options);

#endif
