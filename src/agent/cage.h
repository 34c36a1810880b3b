/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The agent's own cage: what it gives up, so that nobody finds in it more than it needs, and what
 * it takes against being starved.
 *
 * In the order of an agent's life: the process secludes itself before its first thread; each thread
 * lays its capabilities down when it begins; the system calls are filtered, for all threads, when
 * everything is armed. A step that cannot be taken (an agent that is not root, a kernel without it)
 * is said and left out: an agent that sees is worth more than a cage without one.
 */
#ifndef CELLOS_AGENT_CAGE_H
#define CELLOS_AGENT_CAGE_H

#include <stdbool.h>
#include <stdint.h>

typedef void cage_say(const char *step, int error);

/* A session, a mount namespace and a /proc of its own; no core, no debugger; memory locked as it is
   touched; the last one to be killed for want of memory. */
void cage_seclude(cage_say *say);
/* The calling thread keeps these of what it has (1 << CAP_...), and CAP_NET_ADMIN: a thread whose
   set is no subset of the workload's is out of its reach. 0 or -errno. */
int cage_lay_down(uint64_t kept);
/* Was the filter made when this was built? */
bool cage_has_filter(void);
/* From now on anything but what a running agent calls ends it; `log_only`: is logged by the kernel.
   0; -ENOTSUP: built without the filter; else -errno. */
int cage_close(bool log_only);

#endif
