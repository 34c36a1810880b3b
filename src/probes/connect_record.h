/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A record of the connect programs as an event. A pure function over the caller's memory.
 * Refuses: a record of another length or kind, with -EINVAL; *event is untouched then.
 */
#ifndef CELLOS_CONNECT_RECORD_H
#define CELLOS_CONNECT_RECORD_H

#include <stddef.h>

#include "cellos/event.h"
#include "cellos/export.h"

CELLOS_MUST_CHECK int cellos_connect_record(const void *bytes, size_t length,
					    struct cellos_raw_event *event);

#endif
