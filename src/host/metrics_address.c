/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Where metrics may be served: metrics_address.h says what holds. Pure, any thread.
 */
#include "metrics_address.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int parse_loopback(const char *port, struct host_metrics_address *address, const char **why)
{
	unsigned long number = strtoul(port, NULL, 10);
	size_t length = strspn(port, "0123456789");

	*why = "the port is not a number from 1 to 65535";
	if (length == 0 || length > 5 || port[length] != '\0' || number == 0 || number > 65535)
		return -EINVAL;
	address->kind = HOST_METRICS_LOOPBACK;
	address->port = (uint16_t)number;
	return 0;
}

int host_metrics_address_parse(const char *text, struct host_metrics_address *address,
			       const char **why)
{
	static const char loopback[] = "127.0.0.1:";

	*address = (struct host_metrics_address){.text = text};
	if (strncmp(text, loopback, sizeof(loopback) - 1) == 0)
		return parse_loopback(text + sizeof(loopback) - 1, address, why);
	*why = "it is unix:PATH or 127.0.0.1:PORT; other machines are not let in";
	if (strncmp(text, "unix:", 5) != 0)
		return -EINVAL;
	address->kind = HOST_METRICS_UNIX;
	return cellos_listen_address_parse(text, &address->path, why);
}
