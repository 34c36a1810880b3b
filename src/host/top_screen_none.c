/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Built without ncurses: no live view, and it says so. The table of --once needs none. One thread.
 */
#include <errno.h>

#include "top_screen.h"

int host_top_screen_start(void)
{
	return -ENOTSUP;
}

void host_top_screen_stop(void)
{
}

void host_top_screen_draw(struct host_top_view *view)
{
	(void)view;
}

bool host_top_screen_keys(struct host_top_view *view)
{
	(void)view;
	return false;
}
