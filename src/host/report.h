/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reports as JSON lines. Pure; the line is the caller's.
 */
#ifndef CELLOS_HOST_REPORT_H
#define CELLOS_HOST_REPORT_H

#include "account.h"
#include "cellos_json_line.h"

/* The longest: a bad_report, with 64 bytes of name that may each take 6. */
#define HOST_REPORT_MAX_BYTES 640
/* All errors and all rows, each with 20 digits. */
#define HOST_SUMMARY_MAX_BYTES 4096

/* 0, or -ENOSPC and nothing added. */
CELLOS_MUST_CHECK int host_report_write(struct cellos_json_line *line,
					const struct host_report *report);
CELLOS_MUST_CHECK int host_summary_write(struct cellos_json_line *line,
					 const struct host_totals *totals);

#endif
