/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The terminal of `top`: draws what is in view, takes keys. One thread; there is one screen in a
 * process.
 */
#ifndef CELLOS_HOST_TOP_SCREEN_H
#define CELLOS_HOST_TOP_SCREEN_H

#include "top_table.h"

struct host_top_view {
	const char *where;            /* the control socket, as it was given */
	const char *trouble;          /* NULL: the table is what the receiver said last */
	struct host_top_table *table; /* borrowed; sorted when a key asks for it */
	enum host_top_column column;
	bool turned;
	size_t first; /* row at the top */
};

/* 0; -ENOTSUP: built without ncurses; -ENOTTY: no terminal, or one that ncurses does not know. */
CELLOS_MUST_CHECK int host_top_screen_start(void);
/* The terminal is as it was. Harmless when it was not started. */
void host_top_screen_stop(void);
void host_top_screen_draw(struct host_top_view *view);
/* All keys that were pressed, and a change of size. False: the user wants to leave. */
bool host_top_screen_keys(struct host_top_view *view);

#endif
