/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * /proc text to numbers.
 *
 * Threads: any; pure functions. Refuses to: guess. A line that is cut, or lacks a field, is
 * -EINVAL.
 */
#include "process.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int cellos_proc_parse_stat(const char *line, struct cellos_proc_stat *out)
{
	/* The name ends at the *last* parenthesis: what follows it is a letter and numbers, while
	   the name itself may hold parentheses, blanks and newlines. */
	const char *first = strchr(line, '('), *last = strrchr(line, ')');
	struct cellos_proc_stat found = {0};
	size_t len;
	int end;

	/* Digits at the very end may be the beginning of a longer number. The kernel's numbers fit.
	   NOLINTBEGIN(cert-err34-c) */
	if (first == NULL || last < first || sscanf(line, "%" SCNu32 " (", &found.pid) != 1 ||
	    found.pid == 0 || found.pid >= CELLOS_PID_LIMIT ||
	    sscanf(last,
		   ") %c %*d %*d %*d %*d %*d %" SCNu32 " %*d %*d %*d %*d %*d %*d %*d %*d %*d %*d "
		   "%" SCNu32 " %*d %" SCNu64 "%n",
		   &found.state, &found.flags, &found.num_threads, &found.starttime, &end) != 4 ||
	    last[end] != ' ')
		return -EINVAL;
	/* NOLINTEND(cert-err34-c) */
	len = (size_t)(last - first - 1); /* workqueue threads show more than fits */
	found.comm_len =
		(uint8_t)(len < CELLOS_RAW_COMM_MAX_BYTES ? len : CELLOS_RAW_COMM_MAX_BYTES);
	memcpy(found.comm, first + 1, found.comm_len);
	*out = found;
	return 0;
}

uint32_t cellos_proc_parse_pid(const char *name)
{
	char *end;
	unsigned long pid = strtoul(name, &end, 10);
	/* No leading zero: "01" is not a name that the kernel gives. */
	bool sound = name[0] > '0' && name[0] <= '9' && *end == '\0' && pid < CELLOS_PID_LIMIT;

	return sound ? (uint32_t)pid : 0;
}
