/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Runs one real probe over a real queue, as the agent would, and keeps every event it sent.
 *
 * Threads: the test's own drains and looks; the probe has its thread between start and stop.
 * Invariant: events[] holds all events ever drained, in the lane's order.
 * Refuses to: go on when something around the probe fails; it aborts, which no test survives.
 */
#ifndef CELLOS_TESTS_PROBES_RIG_H
#define CELLOS_TESTS_PROBES_RIG_H

#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>

#include "cellos/probe.h"

/* Long enough for a machine that is busy with something else; only a failing test waits for it. */
#define RIG_PATIENCE_MS 20000

#define RIG_CHECK(condition)                                                                       \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);            \
			abort();                                                                   \
		}                                                                                  \
	} while (0)

struct rig {
	const struct cellos_probe *probe;
	struct cellos_probe_options options;
	struct cellos_probe_env env;
	struct cellos_probe_status status;
	struct cellos_queue *queue;
	void *state; /* owned, state_bytes of it */
	size_t state_bytes;
	pthread_t thread;
	_Atomic pid_t tid; /* of the probe's thread */
	bool running;
	struct cellos_raw_event *events; /* owned */
	size_t count;
	size_t room;
};

/* What the tests of a probe start from: process_interval_ms 5, 4096 processes, coalesce_ms 1. */
struct cellos_probe_options rig_options(void);

void rig_init(struct rig *rig, const struct cellos_probe *probe,
	      const struct cellos_probe_options *options, size_t queue_depth);
void rig_arm(struct rig *rig);
void rig_start(struct rig *rig);
/* Ends the thread and takes what it left; returns how long it took. */
uint64_t rig_stop(struct rig *rig);
/* Longer than a busy machine makes it, shorter than what a probe might wait for instead. */
#define RIG_STOP_NS (RIG_PATIENCE_MS * UINT64_C(1000000))
/* Within 50 ms, once in twenty times: the machine may be late by itself, a probe that waits for
   something is late each time. */
bool rig_stops_promptly(struct rig *rig);
void rig_free(struct rig *rig); /* stops, disarms */

uint64_t rig_now(void);
/* Takes what is there; waits until `deadline_ns` at most when nothing is. */
void rig_pump(struct rig *rig, uint64_t deadline_ns);
size_t rig_count(const struct rig *rig, enum cellos_probe_source source, uint32_t pid);
const struct cellos_raw_event *rig_last(const struct rig *rig, enum cellos_probe_source source,
					uint32_t pid);
/* Until so many events of this kind and pid have come. */
bool rig_until(struct rig *rig, enum cellos_probe_source source, uint32_t pid, size_t count);
uint64_t rig_dropped(const struct rig *rig, enum cellos_drop_reason reason);
bool rig_until_dropped(struct rig *rig, enum cellos_drop_reason reason, uint64_t count);
uint64_t rig_stat(const struct rig *rig, const char *name);
bool rig_until_stat(struct rig *rig, const char *name, uint64_t least);
/* Times that the probe's thread went to sleep. */
uint64_t rig_voluntary_switches(const struct rig *rig);

/* A directory of its own, removed with all in it by rig_remove_tree. */
void rig_temp_dir(char path[static 64]);
void rig_remove_tree(const char *path);

/* Lines that begin so in all of /proc/self/fdinfo; `fd`, if any: the last descriptor with one. */
unsigned rig_fdinfo_lines(const char *begin, int *fd);

/* In a child: a test that fails leaves nothing behind. */
void rig_die_with_parent(void);
/*
 * A thread that allocates nothing: for a child of this process, which has threads, so that a lock
 * of theirs may be held for ever in it (fork(2)), a sanitizer's among them. `body` makes system
 * calls and no others; its return is the thread's end. Slots 0 to RIG_THREADS - 1.
 */
#define RIG_THREADS 64u
void rig_thread(unsigned slot, int (*body)(void *));
void rig_thread_join(unsigned slot);
/* Ends the calling thread alone. */
_Noreturn void rig_thread_leave(void);
/* fork and exec of a real program; the parent returns when the exec is done. */
pid_t rig_spawn(const char *program, const char *argument);
/* SIGKILL, and wait for its end without reaping it. */
void rig_kill(pid_t pid);
void rig_reap(pid_t pid);

#endif
