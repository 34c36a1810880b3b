/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The address of --metrics: a Unix socket, or a port of this machine's own 127.0.0.1.
 *
 * Pure. Refuses every other address: nobody is asked for a name there, so whoever could reach it
 * would read about every cell.
 */
#ifndef CELLOS_HOST_METRICS_ADDRESS_H
#define CELLOS_HOST_METRICS_ADDRESS_H

#include <stdint.h>

#include "cellos/transport.h"

enum host_metrics_kind { HOST_METRICS_NONE = 0, HOST_METRICS_UNIX, HOST_METRICS_LOOPBACK };

struct host_metrics_address {
	enum host_metrics_kind kind;
	const char *text;           /* borrowed: as it was given */
	struct cellos_address path; /* UNIX */
	uint16_t port;              /* LOOPBACK: of 127.0.0.1 */
};

/* "unix:PATH" or "127.0.0.1:PORT". 0, or -EINVAL with *why set to a static English phrase. */
CELLOS_MUST_CHECK int host_metrics_address_parse(const char *text,
						 struct host_metrics_address *address,
						 const char **why);

#endif
