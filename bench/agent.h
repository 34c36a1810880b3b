/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The real agent beside a bench that is its host: started, read, stopped, its processor time told.
 *
 * Threads: the bench's own calls everything here; between start and stop another one reads, and
 * `take` runs on that. One agent at a time. What does not work ends the bench (bench_cannot).
 */
#ifndef CELLOS_BENCH_AGENT_H
#define CELLOS_BENCH_AGENT_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "cellos/wire.h"

/* Between two reads of a host that is not to be in the way. */
#define BENCH_SELDOM_NS UINT64_C(20000000)

struct bench_agent {
	/* The bench's to fill before the start. */
	uint8_t lane; /* the one whose drops are kept */
	/* A guest's host has processors of its own. This one has not, and so may work seldom: what
	   gathers meanwhile fits into the socket. */
	bool seldom;
	void (*take)(void *context, const struct cellos_probe_event *event); /* all but drops */
	void *context;

	/* The reader's, until it has ended. */
	uint64_t bad; /* frames that are none */
	uint64_t dropped[CELLOS_DROP_COUNT];

	pid_t pid;
	int listener, connection;
	pthread_t reader;
	char folder[32], socket[64];
};

/* Returns with the agent armed and connected. `options`: all but where its host is, and then NULL;
   at most 16 words. */
void bench_agent_start(struct bench_agent *agent, const char *program, const char *const options[]);
/* All that it had to say is taken when this returns. */
void bench_agent_stop(struct bench_agent *agent);

/* The environment is ours; argv ends with NULL. */
pid_t bench_spawn(const char *const argv[]);
/* What the program writes on its standard output, cut to fit and ended with NUL; its wait status.
 */
int bench_output_of(const char *const argv[], char *text, size_t size);
/* Nanoseconds of processor time, all its threads. */
uint64_t bench_busy_ns(pid_t pid);

#endif
