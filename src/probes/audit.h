/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Refused privileged system calls, by the kernel's audit: what a kernel that does not trace can say
 * of denied capabilities. Inferred: a call may be refused for another reason.
 *
 * It changes the kernel until the next boot, so it must be asked for. Set up so that the workload
 * never waits for a reader: no waiting time, a queue that drops when it is full, and then locked,
 * before the workload exists.
 *
 * Threads: open and close on the main thread, run on the probe's.
 * Invariant: happened = events submitted + dropped by the kernel (`k`) + folded (`s`), once run has
 * caught up or ended. Refuses to: start where audit is set up otherwise already, or serves another.
 */
#ifndef CELLOS_PROBE_AUDIT_H
#define CELLOS_PROBE_AUDIT_H

#include "audit_record.h"
#include "cellos/probe.h"
#include "netlink.h"

struct capability_audit {
	/* Three sockets, all owned. `records` gets what is sent to everybody who may read, and the
	   kernel counts what it could not hold. `daemon` is whom audit knows as its daemon, so that
	   records neither wait for one nor go to the console; it drops them unread. `control` asks
	   and is answered. */
	struct netlink_socket records, daemon, control;
	uint32_t sequence;
	uint32_t lost; /* the kernel's counter when we last looked; it wraps */
	struct audit_fold fold;
};

/* `audit` is zeroed. 0: open, and *status is filled in; -errno: closed again, and `why` says what
   could not be done. */
CELLOS_MUST_CHECK int cellos_capability_audit_open(struct capability_audit *audit,
						   struct cellos_probe_env *env,
						   struct cellos_probe_status *status);
void cellos_capability_audit_run(struct capability_audit *audit, struct cellos_probe_env *env);
void cellos_capability_audit_close(struct capability_audit *audit);

#endif
