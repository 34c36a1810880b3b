/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which PID namespace the agent is in: BPF programs see the numbers of the initial one, and the
 * agent reports its own.
 *
 * Threads: main, in arm. Refuses to: need a /proc that somebody has mounted.
 */
#ifndef CELLOS_PROBE_PID_VIEW_H
#define CELLOS_PROBE_PID_VIEW_H

#include <stdint.h>

enum cellos_pid_view_mode {
	CELLOS_PID_VIEW_INITIAL = 0, /* the same numbers */
	CELLOS_PID_VIEW_NESTED,      /* to be translated */
	CELLOS_PID_VIEW_UNKNOWN
};

struct cellos_pid_view {
	enum cellos_pid_view_mode mode;
	/* As bpf_get_ns_current_pid_tgid wants them; 0 when unknown. */
	uint64_t device, inode;
};

void cellos_pid_view_look(struct cellos_pid_view *view);

#endif
