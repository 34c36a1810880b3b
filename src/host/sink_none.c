/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The sink in a build without the NATS client library: there is none, and it says so. No thread.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "sink.h"

int host_sink_start(struct host_sink **sink, const struct host_sink_options *options,
		    const struct host_spool *spool, struct host_state *state)
{
	(void)options;
	(void)spool;
	(void)state;
	*sink = NULL;
	return -ENOTSUP;
}

void host_sink_wake(struct host_sink *sink)
{
	(void)sink;
}

void host_sink_numbers(struct host_sink *sink, struct host_sink_numbers *numbers)
{
	(void)sink;
	memset(numbers, 0, sizeof(*numbers));
}

void host_sink_stop(struct host_sink *sink, unsigned limit_ms)
{
	(void)sink;
	(void)limit_ms;
}
