/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver: a libuv loop over the listening socket, one connection at a time, the output and
 * the signals.
 *
 * One thread, the one that calls. A cell is a listening address with its account and at most one
 * live connection; whatever is common to all cells stands in struct host_receiver.
 */
#ifndef CELLOS_HOST_RECEIVER_H
#define CELLOS_HOST_RECEIVER_H

#include "options.h"
#include "output.h"

enum host_failure { HOST_FAILED_LOOP = 0, HOST_FAILED_LISTEN, HOST_FAILED_WRITE };

/*
 * Listens and runs until SIGTERM, SIGINT, the end of the first connection with exit_on_close, or an
 * error. The summary is the last line. Returns 0 or -errno, and then what it was that failed.
 */
CELLOS_MUST_CHECK int host_receive(const struct host_options *options, struct host_output *output,
				   enum host_failure *failed);

#endif
