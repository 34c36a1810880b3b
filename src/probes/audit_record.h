/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What goes to and comes from the kernel's audit, as data: rules that make it report refused
 * privileged system calls, and the text of such a report.
 *
 * Threads: pure functions over the caller's memory. Invariant: whatever the bytes, nothing outside
 * them is read, and a denial handed out has every member set.
 * Refuses to: take a record that our rules did not cause; talk to the kernel.
 */
#ifndef CELLOS_PROBE_AUDIT_RECORD_H
#define CELLOS_PROBE_AUDIT_RECORD_H

#include <linux/audit.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

/* ---- rules ---------------------------------------------------------------------------------- */

#define AUDIT_RULE_KEY "cellos"
#define AUDIT_RULE_BYTES (sizeof(struct audit_rule_data) + sizeof(AUDIT_RULE_KEY) - 1)

/* Rule `at` (0 and up) of those that we want into `rule`, which is as large as AUDIT_RULE_BYTES and
   aligned. False when there are no more. */
CELLOS_MUST_CHECK bool cellos_audit_rule(unsigned at, struct audit_rule_data *rule);

/* ---- records -------------------------------------------------------------------------------- */

struct audit_denial {
	uint64_t wall_ms; /* CLOCK_REALTIME */
	uint32_t pid;     /* thread group */
	uint32_t syscall;
	uint8_t comm_len;
	char comm[16];
};

/* The text of an AUDIT_SYSCALL record, which need not end in a NUL. 1: a denial by our rules; 0:
   somebody else's, or no denial; -EBADMSG: not as the kernel writes it. */
CELLOS_MUST_CHECK int cellos_audit_parse(const char *text, size_t length,
					 struct audit_denial *denial);

/* ---- folding -------------------------------------------------------------------------------- */

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

#endif
