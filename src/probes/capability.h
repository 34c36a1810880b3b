/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The two ways of seeing denied capabilities, and what the probe needs of each.
 *
 * Trace: each of them, exactly, by a BPF program on the kernel's tracepoint `cap_capable` (kernels
 * from 6.14 on that are built with tracing). It reports neither the agent's own denials nor
 * questions that the kernel asks for itself.
 *
 * Audit: privileged system calls that were refused, for want of a privilege most likely. It changes
 * the kernel until the next boot, so it must be asked for. The workload never waits for a reader:
 * no waiting time, a queue that drops when it is full, and then locked, before the workload exists.
 * It refuses an audit that somebody else has locked.
 *
 * Threads: open and close on the main thread, the rest on the probe's.
 * Invariant: happened = events submitted + dropped by the kernel (`k`) + folded (`s`), once `see`
 * has nothing more to say.
 */
#ifndef CELLOS_PROBE_CAPABILITY_H
#define CELLOS_PROBE_CAPABILITY_H

#include <linux/audit.h>

#include "bpf_load.h"
#include "capability_shared.h"
#include "cellos/probe.h"
#include "netlink.h"

/* ---- what goes to and comes from audit, as data (audit_record.c) ---------------------------- */

#define AUDIT_RULE_KEY "cellos"

union audit_rule {
	struct audit_rule_data data;
	char bytes[sizeof(struct audit_rule_data) + sizeof(AUDIT_RULE_KEY) - 1];
};

/* Rule `at` of AUDIT_RULES: everything but system calls is excluded; then refusals by EPERM, by
   EACCES, and of programs that are not of 64 bits. */
#define AUDIT_RULES 4u
void cellos_audit_rule(unsigned at, union audit_rule *rule);

struct audit_denial {
	uint64_t wall_ms; /* CLOCK_REALTIME */
	uint32_t pid, syscall;
	uint8_t comm_len;
	char comm[16];
};

/* The text of an AUDIT_SYSCALL record. 1: a denial by our rules; 0: somebody else's, or no denial;
   -EBADMSG: not as the kernel writes it. */
CELLOS_MUST_CHECK int cellos_audit_parse(const char *text, struct audit_denial *denial);

/* Zeroed to begin with. One of many processes that share a place is reported again too often, never
   too seldom. */
struct audit_fold {
	struct {
		uint64_t key, since_ms;
	} places[512];
};

/* True when this process was refused this system call less than a second before, and that was
   reported. False notes that it is reported now. */
bool cellos_audit_fold(struct audit_fold *fold, const struct audit_denial *denial);

/* ---- what comes from /proc/kallsyms (capability_symbols.c) ---------------------------------- */

/*
 * Where in the kernel stand the functions that ask for a capability "just to know": from lines of
 * /proc/kallsyms to `ranges`, CAPABILITY_RANGES of them, zeroed before the first line. A range ends
 * where the next function begins; an address of 0, of a kernel that hides the truth, makes none.
 * `text`: whole lines, whose ends are overwritten.
 */
void cellos_capability_symbols(struct capability_range *ranges, char *text);

/* ---- surfaces ------------------------------------------------------------------------------- */

/* Trace: questions that the kernel asked for itself, and of credentials that are not the caller's.
   Audit: what nobody can read; milliseconds that somebody has waited for a reader. */
enum capability_stat { STAT_ASIDES, STAT_FOREIGN, STAT_MALFORMED, STAT_WAITED };

struct capability_trace {
	struct cellos_bpf_ring ring;      /* owned */
	int link, shared_fd, recent_fd;   /* owned; negative */
	struct capability_shared *shared; /* owned mapping of shared_fd; NULL */
	uint64_t lost, folded;            /* as told to the lane */
};

struct capability_audit {
	/* Two sockets, owned. `records` gets what is sent to everybody who may read, and the kernel
	   counts what it could not hold. `control` asks and is answered, and is whom audit knows as
	   its daemon; what that one is sent it drops unread. */
	struct netlink_socket records, control;
	uint32_t sequence, lost; /* of the last question; as the kernel counted then: it wraps */
	uint32_t backlog;        /* what the kernel had to send then */
	struct audit_fold fold;
};

/* `state` is one of the above, zeroed before open. */
struct capability_surface {
	/* The descriptor to wait on, which stays the surface's, and *status but for `armed`;
	   -errno: *what could not be done, and close is still to be called. */
	int (*open)(void *state, struct cellos_probe_env *env, struct cellos_probe_status *status,
		    const char **what);
	/* Takes the records and the losses that there are; true: look again before long. */
	bool (*see)(void *state, struct cellos_probe_env *env);
	void (*close)(void *state);
};

extern const struct capability_surface cellos_capability_trace, cellos_capability_audit;

#endif
