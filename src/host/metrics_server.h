/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A small HTTP/1.1 server within the receiver's loop: GET and HEAD of /metrics, and nothing else.
 *
 * It never waits and never holds the receiver up: a request is bounded in bytes, each client in
 * time, clients in number, and an answer is made in pieces of bounded size, one per turn of the
 * loop, while the client takes them. An answer holds one picture of all numbers, so what it costs
 * is a few hundred bytes for each cell and client, as long as it lasts.
 *
 * One thread, the loop's. Refuses to: speak TLS, ask for passwords, keep connections alive,
 * compress, listen where another machine can reach it.
 */
#ifndef CELLOS_HOST_METRICS_SERVER_H
#define CELLOS_HOST_METRICS_SERVER_H

#include "metrics.h"
#include "metrics_address.h"

struct uv_loop_s;
struct host_metrics_server;

/* Fills all of it; `cells` is made by malloc and becomes the caller's. 0 or -ENOMEM. */
typedef int (*host_metrics_gather_fn)(void *context, struct host_metrics *metrics);

/* 0 or -errno. */
CELLOS_MUST_CHECK int host_metrics_start(struct host_metrics_server **server,
					 struct uv_loop_s *loop,
					 const struct host_metrics_address *address,
					 host_metrics_gather_fn gather, void *context);
/* NULL is fine; the loop must run once more for the memory to be freed. Returns NULL. */
struct host_metrics_server *host_metrics_stop(struct host_metrics_server *server);

#endif
