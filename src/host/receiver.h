/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver: a libuv loop that tells the fleet when there is something to do, and the signals,
 * the clock, the output, the control socket and the metrics around it.
 *
 * One thread, the one that calls; the sink has its own.
 */
#ifndef CELLOS_HOST_RECEIVER_H
#define CELLOS_HOST_RECEIVER_H

#include "fleet.h"
#include "options.h"

enum host_failure {
	HOST_FAILED_LOOP = 0,
	HOST_FAILED_LISTEN,
	HOST_FAILED_CELLS, /* the mistakes were said already */
	HOST_FAILED_CTL,
	HOST_FAILED_METRICS,
	HOST_FAILED_WRITE
};

/*
 * Listens and runs until SIGTERM, SIGINT, the end of the first connection with exit_on_close, or an
 * error. The ledger of each cell is its last line. Returns 0 or -errno, and then what it was that
 * failed; *sums in either case.
 */
CELLOS_MUST_CHECK int host_receive(const struct host_options *options,
				   struct host_handover *handover, struct host_sums *sums,
				   enum host_failure *failed);

#endif
