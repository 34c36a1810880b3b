/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See proc_parse.h. */
#include "proc_parse.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "cellos/event.h"

enum { PPID = 4, FLAGS = 9, THREADS = 20, STARTTIME = 22 }; /* fields of stat, proc(5) */

/* A decimal number with `behind` after it, and past both: digits at the very end may be the
   beginning of a longer number. Some fields are negative. */
static bool take_number(const char **text, char behind, uint64_t *out)
{
	const char *first = **text == '-' ? *text + 1 : *text;
	char *end;

	if (*first < '0' || *first > '9')
		return false; /* where strtoull would look further */
	errno = 0;
	*out = strtoull(*text, &end, 10);
	*text = end + 1;
	return *end == behind && errno == 0;
}

int cellos_proc_parse_stat(const char *line, struct cellos_proc_stat *out)
{
	/* The name ends at the *last* parenthesis: what follows it is a letter and numbers, while
	   the name itself may hold parentheses, blanks and newlines. */
	const char *at = line, *last = strrchr(line, ')');
	struct cellos_proc_stat found = {0};
	uint64_t field[STARTTIME + 1];
	size_t len;

	if (!take_number(&at, ' ', &field[1]) || field[1] == 0 || field[1] >= CELLOS_PID_LIMIT ||
	    *at != '(' || last == NULL || last < at || last[1] != ' ' || (last[2] | 0x20) < 'a' ||
	    (last[2] | 0x20) > 'z' || last[3] != ' ')
		return -EINVAL;
	len = (size_t)(last - at - 1);
	found.comm_len =
		(uint8_t)(len < CELLOS_RAW_COMM_MAX_BYTES ? len : CELLOS_RAW_COMM_MAX_BYTES);
	memcpy(found.comm, at + 1, found.comm_len); /* workqueue threads show more */
	found.state = last[2];
	at = last + 4;
	for (unsigned number = PPID; number <= STARTTIME; number++)
		if (!take_number(&at, ' ', &field[number]))
			return -EINVAL;
	if ((field[FLAGS] | field[THREADS]) > UINT32_MAX)
		return -EINVAL;
	found.pid = (uint32_t)field[1];
	found.flags = (uint32_t)field[FLAGS];
	found.num_threads = (uint32_t)field[THREADS];
	found.starttime = field[STARTTIME];
	*out = found;
	return 0;
}

uint32_t cellos_proc_parse_pid(const char *name)
{
	uint64_t pid;

	/* No leading zero: "01" is not a name that the kernel gives. */
	return name[0] != '0' && take_number(&name, '\0', &pid) && pid < CELLOS_PID_LIMIT
		       ? (uint32_t)pid
		       : 0;
}
