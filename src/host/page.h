/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A captured run as one HTML page that needs nothing else: `cellos-telemetry-host report FILE`.
 *
 * Reads NDJSON of any format of ours, line by line, and keeps what the page shows and no more:
 * memory and the page stay within limits however long the file is, and the page says what it left
 * out. The file is hostile (names come from guests): everything is escaped, and the page carries a
 * policy that lets a browser load and run nothing.
 *
 * One thread; the streams are the caller's.
 */
#ifndef CELLOS_HOST_PAGE_H
#define CELLOS_HOST_PAGE_H

#include <stdio.h>

#include "cellos/export.h"

enum host_page_failure { HOST_PAGE_READ = 0, HOST_PAGE_WRITE };

/* `name` is shown. 0, or -errno and what it was that failed. Lines that cannot be read are shown.
 */
CELLOS_MUST_CHECK int host_page(FILE *in, const char *name, FILE *out,
				enum host_page_failure *failed);

#endif
