/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The two commands of cellos-wire; one thread, standard input to standard output. */
#ifndef CELLOS_CLI_COMMANDS_H
#define CELLOS_CLI_COMMANDS_H

#include <stdbool.h>
#include <stddef.h>

#include "io.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Both return an exit code; what went wrong is on standard error by then. */
int decode_command(bool hex, struct output *output);
int encode_command(bool hex, struct output *output);

/* "cellos-wire: cannot <what>: <why>" on standard error. */
__attribute__((format(printf, 2, 3))) void complain(const char *why, const char *what, ...);
/* Flushes; says why on standard error if that fails. */
CELLOS_MUST_CHECK bool flushed(struct output *output);
/* The next line, flushing first if that may wait: true with a line, false at the end or a failure.
 * *code becomes EXIT_FAILED after a line that was too long, and after a failure. */
CELLOS_MUST_CHECK bool next_line(struct line_reader *reader, struct output *output, char **line,
				 size_t *length, int *code);

#endif
