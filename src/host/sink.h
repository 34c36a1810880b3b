/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The engine that events are handed on to: NATS JetStream, fed from the spool.
 *
 * A thread of its own reads the spool from the acknowledged position on, publishes with the line's
 * id as Nats-Msg-Id, at most `window` messages ahead of their acknowledgements, and moves the
 * acknowledged position in the state. It waits for a server that is away, for ever; the receiver's
 * thread never waits for it.
 */
#ifndef CELLOS_HOST_SINK_H
#define CELLOS_HOST_SINK_H

#include <stdbool.h>
#include <stdint.h>

#include "spool.h"
#include "state.h"

#define HOST_SINK_WINDOW 4096u
#define HOST_SINK_DUPLICATE_WINDOW_S 3600u

struct host_sink_options {
	const char *url;    /* nats://HOST:PORT */
	const char *stream; /* made when it is not there */
	uint64_t duplicate_window_s;
	unsigned window; /* messages without acknowledgement; HOST_SINK_WINDOW is plenty */
};

/* For metrics and the last words; a copy, taken without stopping anything. */
struct host_sink_numbers {
	bool connected;
	uint64_t published; /* handed to the client library, repeats too */
	uint64_t acknowledged;
	uint64_t duplicates; /* of these, the server had them already */
	uint64_t errors;
	uint64_t lag_bytes; /* spooled and not acknowledged */
};

struct host_sink;

/*
 * Spool and state are borrowed until stop. -ENOTSUP when this was built without the client library.
 * Troubles with the server are said on standard error, once each, and waited for.
 */
CELLOS_MUST_CHECK int host_sink_start(struct host_sink **sink,
				      const struct host_sink_options *options,
				      const struct host_spool *spool, struct host_state *state);
/* There is more: call after each commit. Never waits. */
void host_sink_wake(struct host_sink *sink);
void host_sink_numbers(struct host_sink *sink, struct host_sink_numbers *numbers);
/* Gives the server up to `limit_ms` for what is spooled, then ends the thread. */
void host_sink_stop(struct host_sink *sink, unsigned limit_ms);

#endif
