/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's command line. Reads argv and nothing else, prints nothing: a bad value comes back
 * as a message.
 */
#ifndef CELLOS_HOST_OPTIONS_H
#define CELLOS_HOST_OPTIONS_H

#include <stdbool.h>

#include "cellos/transport.h"

#define HOST_PROGRAM "cellos-telemetry-host"
#define HOST_OPTIONS_MESSAGE_BYTES 320

enum host_action { HOST_RUN = 0, HOST_SHOW_HELP, HOST_SHOW_VERSION };

struct host_options {
	enum host_action action;
	struct cellos_address listen;
	const char *output; /* borrowed from argv; NULL: standard output */
	struct cellos_socket_owner owner;
	bool exit_on_close;
	bool verbose;
	char message[HOST_OPTIONS_MESSAGE_BYTES]; /* "cannot ...: why" after -EINVAL */
};

/* 0 or -EINVAL. Not reentrant: getopt_long is not. */
CELLOS_MUST_CHECK int host_options_parse(struct host_options *options, int argc, char **argv);

extern const char host_options_help[];

#endif
