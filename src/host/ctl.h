/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The control socket: who may connect to it (mode 0600) lists, adds and removes cells.
 *
 * One line is a request, JSON lines are the answer, then the connection is closed:
 *
 *	list           a line for each cell, with its ledger and its latest event
 *	add JSON       one cell, as in the file of --cells; {"ok":true}, or a line for each mistake
 *	remove ID      {"ok":true} or {"error":"..."}
 *
 * The server lives in the receiver's loop and never waits; what a client may hold is bounded. The
 * client's side is host_ctl_command, for another process.
 */
#ifndef CELLOS_HOST_CTL_H
#define CELLOS_HOST_CTL_H

#include "fleet.h"
#include "options.h"

struct uv_loop_s;
struct host_ctl;

/* `changed` is called when a request may have made lines. 0 or -errno. */
CELLOS_MUST_CHECK int host_ctl_start(struct host_ctl **ctl, struct uv_loop_s *loop,
				     const struct cellos_address *address, struct host_fleet *fleet,
				     void (*changed)(void *context), void *context);
/* NULL is fine; the loop must run once more for the memory to be freed. Returns NULL. */
struct host_ctl *host_ctl_stop(struct host_ctl *ctl);

/*
 * Sends the command and writes the answer to standard output. 0 when it was done; 1 when the
 * receiver refused; -errno, and then *what failed ("connect to", "write").
 */
CELLOS_MUST_CHECK int host_ctl_command(const struct host_options *options, const char **what);

#endif
