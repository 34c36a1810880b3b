/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the guard's files share: one function per wall, and how a missing piece is told.
 *
 * Each wall is raised in the process that becomes the workload's first, in the order of this file.
 * All of them return 0 or -errno and have said why through guard_missing.
 */
#ifndef CELLOS_GUARD_INSIDE_H
#define CELLOS_GUARD_INSIDE_H

#include <limits.h>
#include <stddef.h>

#include "cellos/guard.h"

/*
 * A piece cannot be had: says it. With best_effort the answer is 0 and the caller goes on;
 * otherwise -errno as given.
 */
int guard_missing(const struct cellos_guard_options *options, int error, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* ---- files ---------------------------------------------------------------------------------- */

/* Writes a short text with one write. 0 or -errno. */
CELLOS_MUST_CHECK int guard_write_file(const char *path, const char *text);
CELLOS_MUST_CHECK int guard_write_file_at(int folder, const char *name, const char *text);

/* ---- cgroup: in the parent, before the child exists ------------------------------------------ */

/*
 * Makes the workload's cgroup, with limits and device rules, and opens it for clone3's
 * CLONE_INTO_CGROUP. The descriptor, or -errno; -1 is never returned. With best_effort it may be
 * GUARD_NO_CGROUP.
 */
#define GUARD_NO_CGROUP INT_MAX /* no descriptor has this number; 0 may well be one */
CELLOS_MUST_CHECK int guard_make_cgroup(const struct cellos_guard_options *options);
/* Only null, zero, full, random, urandom, tty, ptmx and ptys from now on. 0 or -errno. */
CELLOS_MUST_CHECK int guard_limit_devices(int cgroup_fd);

/* ---- walls 3, 2 and 4, in this order: each needs what the next one takes away ------------------
 */

CELLOS_MUST_CHECK int guard_own_mounts(const struct cellos_guard_options *options);
CELLOS_MUST_CHECK int guard_drop_capabilities(const struct cellos_guard_options *options);
CELLOS_MUST_CHECK int guard_filter_calls(const struct cellos_guard_options *options);

/* ---- the profile, as text ---------------------------------------------------------------------
 */

enum guard_print { GUARD_PRINT_TEXT, GUARD_PRINT_JSON, GUARD_PRINT_OCI };
/* To standard output's stream `out` (a FILE *). 0 or -errno. */
CELLOS_MUST_CHECK int guard_print_profile(const struct cellos_guard_options *options,
					  enum guard_print how, void *out);

/* "CAP_KILL"; NULL: this number has no name here. What a workload keeps is the mask. */
const char *guard_capability_name(unsigned number);
uint64_t guard_kept_capabilities(void);

#endif
