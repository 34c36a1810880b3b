/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Each probe's table, defined in the file of that name.
 *
 * Threads: const data. Refuses to: name anything else of a probe; what a probe is made of stays in
 * its file.
 */
#ifndef CELLOS_PROBE_TABLES_H
#define CELLOS_PROBE_TABLES_H

#include "cellos/probe.h"

extern const struct cellos_probe cellos_probe_process;
extern const struct cellos_probe cellos_probe_watch;
extern const struct cellos_probe cellos_probe_capability;
extern const struct cellos_probe cellos_probe_connect;

#endif
