/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A probe is one const table in one file. The agent's registration, --probe-report, --help and the
 * sizes it prints all come from that table. A probe knows how to submit an event to its lane, and
 * nothing of the queue's inside, CBOR or sockets.
 *
 * Life, all driven by the agent:
 *   state_bytes: main thread, once: how much zeroed memory the probe wants for these options, page
 *     aligned and not touched before arm (most of it never is); 0: the state is NULL.
 *   arm: main thread, once, before any workload: open every descriptor, take the first snapshot.
 *   run: the probe's own pthread, once, after arm, also when arm said "not armed": until stop_fd is
 *     readable. Signals are blocked there, the stack is CELLOS_PROBE_STACK_BYTES.
 *   disarm: main thread, after the thread has ended: close what arm opened.
 *
 * After arm a probe allocates nothing. Only its thread submits to its lane and counts there; arm
 * may count too, for the thread does not exist yet.
 */
#ifndef CELLOS_PROBE_H
#define CELLOS_PROBE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"
#include "cellos/queue.h"

#define CELLOS_PROBE_STACK_BYTES (64u * 1024u)
#define CELLOS_PROBE_WHY_BYTES 160
#define CELLOS_PROBE_MAX_STATS 8
#define CELLOS_PROBE_MAX_PATHS 64

/* Which way a probe shall see; AUTO takes the best that arms and says why when it falls back. */
enum cellos_process_choice {
	CELLOS_PROCESS_AUTO = 0,
	CELLOS_PROCESS_CONNECTOR,
	CELLOS_PROCESS_WALKER
};
enum cellos_capability_choice {
	CELLOS_CAPABILITY_AUTO = 0, /* trace, else none: audit changes the kernel and is opt-in */
	CELLOS_CAPABILITY_TRACE,
	CELLOS_CAPABILITY_AUDIT,
	CELLOS_CAPABILITY_NONE
};
enum cellos_connect_choice { CELLOS_CONNECT_AUTO = 0, CELLOS_CONNECT_BPF, CELLOS_CONNECT_NONE };
enum cellos_watch_choice { CELLOS_WATCH_AUTO = 0, CELLOS_WATCH_FANOTIFY, CELLOS_WATCH_INOTIFY };

/* What the user asked for; every member is already checked against its range. */
struct cellos_probe_options {
	uint32_t process_interval_ms;   /* 1..60000 */
	uint32_t max_processes;         /* 16..4194304 */
	uint32_t coalesce_ms;           /* 0..1000; 0 = off */
	const char *const *watch_paths; /* borrowed for the life of the agent */
	size_t watch_path_count;        /* 0..CELLOS_PROBE_MAX_PATHS */
	enum cellos_process_choice process;
	enum cellos_capability_choice capability;
	enum cellos_connect_choice connect;
	enum cellos_watch_choice watch;
};

/* How it went. The strings are static, but for `why`. Both flags: part of it was had. */
struct cellos_probe_status {
	bool armed;
	bool failed;    /* could have been had, and was not: --on-probe-failure looks at this */
	bool fell_back; /* the choice was left to it, and the best was not to be had: `why` */
	const char *exactness; /* "exact", "inferred", "sampled", "merged" (several changes may be
				  one event), or "none" */
	const char *surface;   /* "procfs", "inotify", "none" */
	uint64_t kernel_bytes; /* buffers that the kernel holds for it, at most */
	uint64_t needs;        /* capabilities, 1 << CAP_..., that run goes on using */
	char why[CELLOS_PROBE_WHY_BYTES]; /* empty when there is nothing to say */
};

/* What a probe gets from the agent; outlives the probe's thread. */
struct cellos_probe_env {
	const struct cellos_probe_options *options;
	struct cellos_lane *lane;
	int stop_fd; /* becomes readable, and stays so, when the probe shall end */
	uint32_t agent_pid;
	/* Named by cellos_probe.stat_names; written by the probe's thread alone, read by anyone. */
	_Atomic uint64_t stats[CELLOS_PROBE_MAX_STATS];
};

struct cellos_probe {
	const char *name; /* "process" */
	const char *help; /* one line for --help and the man page */
	enum cellos_lane_id lane;
	const char *stat_names[CELLOS_PROBE_MAX_STATS]; /* NULL-terminated unless full */
	size_t (*state_bytes)(const struct cellos_probe_options *options);
	void (*arm)(void *state, struct cellos_probe_env *env, struct cellos_probe_status *status);
	void (*run)(void *state, struct cellos_probe_env *env);
	void (*disarm)(void *state, struct cellos_probe_env *env);
};

/* All probes, in lane order. */
extern const struct cellos_probe *const cellos_probes[];
extern const size_t cellos_probe_count;

#endif
