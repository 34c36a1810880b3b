/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * `top`: asks a running receiver for its cells once a second and shows them, or once and prints
 * them. Another process than the receiver; one thread.
 */
#ifndef CELLOS_HOST_TOP_H
#define CELLOS_HOST_TOP_H

#include "options.h"

/*
 * 0, or -errno and then *what failed ("connect to", "show", "write"). A receiver that is not there
 * ends --once alone: the live view says so and tries again. The terminal is as it was.
 */
CELLOS_MUST_CHECK int host_top(const struct host_options *options, const char **what);

#endif
