/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Which PID namespace the agent is in: BPF programs see the numbers of the initial one, and the
 * agent reports its own. The members are the constants pid_mode, pid_ns_device and pid_ns_inode of
 * the programs. Included by both sides.
 */
#ifndef CELLOS_PROBE_PID_VIEW_H
#define CELLOS_PROBE_PID_VIEW_H

#include <linux/types.h>

enum cellos_pid_view_mode {
	CELLOS_PID_VIEW_INITIAL = 0, /* the same numbers */
	CELLOS_PID_VIEW_NESTED,      /* to be translated: the number in the agent's, or 0 */
	CELLOS_PID_VIEW_UNKNOWN      /* always 0 */
};

struct cellos_pid_view {
	enum cellos_pid_view_mode mode;
	/* As bpf_get_ns_current_pid_tgid wants them; 0 when unknown. */
	__u64 device, inode;
};

#endif
