/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Descriptors that outlive arming. O_NONBLOCK and a terminal's flow control belong to the open file
 * description, which every dup shares: whoever holds another one could block us. So what the agent
 * keeps is opened anew where the kernel allows it. Main thread, but for clock_ns (any)
 * and fd_offer (any one thread).
 */
#ifndef CELLOS_AGENT_FDS_H
#define CELLOS_AGENT_FDS_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

/* CLOCK_MONOTONIC, in which every deadline of the agent is told. */
uint64_t clock_ns(void);
/* A close-on-exec duplicate above 2; the caller owns it. Or -errno. */
CELLOS_MUST_CHECK int fd_keep(int fd);
/*
 * A description of our own on what `fd` refers to, for writing, non-blocking, above 2; a socket
 * cannot be opened anew and is duplicated. The caller owns it. Or -errno.
 */
CELLOS_MUST_CHECK int fd_own(int fd);
/*
 * Writes the whole text or, when the reader does not keep up until `deadline_ns` (0 = do
 * not wait at all), stops. 0, or -errno (-EAGAIN: it would have blocked).
 */
int fd_offer(int fd, const char *text, size_t length, uint64_t deadline_ns);
/* 0..2 become /dev/null. 0 or -errno. */
CELLOS_MUST_CHECK int fd_silence_standard(void);
/* 0..2 are open afterwards (on /dev/null if they were not), so that nothing else gets their
 * numbers. */
CELLOS_MUST_CHECK int fd_fill_standard(void);

#endif
