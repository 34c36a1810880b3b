/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Denied capabilities, each of them, by a BPF program on the kernel's tracepoint `cap_capable`
 * (kernels from 6.14 on that are built with tracing).
 *
 * Threads: open and close on the main thread, run on the probe's.
 * Invariant: happened = events submitted + lost (`k`) + folded (`s`), once run has caught up or
 * ended. Refuses to: report the agent's own denials, or questions that the kernel asks for itself.
 */
#ifndef CELLOS_PROBE_CAPABILITY_TRACE_H
#define CELLOS_PROBE_CAPABILITY_TRACE_H

#include "bpf_load.h"
#include "capability_shared.h"
#include "cellos/probe.h"

struct capability_trace {
	struct cellos_bpf_ring ring;      /* owned */
	int link;                         /* owned; -1 */
	int shared_fd, fold_fd;           /* owned; -1 */
	struct capability_shared *shared; /* owned mapping of shared_fd */
	uint64_t lost, folded;            /* as told to the lane */
	char text[16384];                 /* of /proc/kallsyms, in arm alone */
};

/* `trace` is zeroed. 0: open, and *status is filled in; -errno: closed again, and `why` says what
 * could not be done. */
CELLOS_MUST_CHECK int cellos_capability_trace_open(struct capability_trace *trace,
						   struct cellos_probe_env *env,
						   struct cellos_probe_status *status);
void cellos_capability_trace_run(struct capability_trace *trace, struct cellos_probe_env *env);
void cellos_capability_trace_close(struct capability_trace *trace);

#endif
