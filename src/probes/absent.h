/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The life of a probe whose surface this version does not have: it says so, its thread waits for
 * stop, and it emits nothing. The lane and its ledger rows are there all the same.
 *
 * Threads: as cellos/probe.h says. No state, no descriptors. Refuses to: pretend to be armed.
 */
#ifndef CELLOS_PROBE_ABSENT_H
#define CELLOS_PROBE_ABSENT_H

#include "cellos/probe.h"

size_t cellos_absent_state_bytes(const struct cellos_probe_options *options);
void cellos_absent_arm(void *state, struct cellos_probe_env *env,
		       struct cellos_probe_status *status);
void cellos_absent_run(void *state, struct cellos_probe_env *env);
void cellos_absent_disarm(void *state, struct cellos_probe_env *env);

#endif
