/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The same program as consumer.c, as C++: the public headers are for both.
 *
 * Threads: one.
 */
#include "consumer.c"
