/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One picture of all numbers of a running receiver, for its metrics. One thread, the receiver's.
 */
#ifndef CELLOS_HOST_METRICS_GATHER_H
#define CELLOS_HOST_METRICS_GATHER_H

#include "fleet.h"
#include "metrics.h"

/* What does not change, and the clock of the start. Before the first gather. */
void host_metrics_prepare(struct host_metrics *metrics, const char *format);
/* *metrics as it was prepared, and all the rest; `cells` is the caller's (free). 0 or -ENOMEM. */
CELLOS_MUST_CHECK int host_metrics_gather(const struct host_fleet *fleet,
					  struct host_metrics *metrics);

#endif
