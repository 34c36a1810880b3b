/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's command line. Reads argv and nothing else, prints nothing: a bad value comes back
 * as a message. One thread.
 */
#ifndef CELLOS_HOST_OPTIONS_H
#define CELLOS_HOST_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "cellos/transport.h"
#include "cells.h"
#include "format.h"
#include "metrics_address.h"
#include "top_table.h"

#define HOST_PROGRAM "cellos-telemetry-host"
#define HOST_OPTIONS_MESSAGE_BYTES 320

/* RUN: receive. CTL: one command to a running receiver. TOP: its cells, seen. */
enum host_action { HOST_RUN = 0, HOST_SHOW_HELP, HOST_SHOW_VERSION, HOST_CTL, HOST_TOP };

struct host_options {
	enum host_action action;

	/* The one cell of --listen; its documents are read later. Borrowed from argv. */
	struct cellos_address listen;
	struct host_cell_words cell;

	const char *cells;  /* borrowed, as all texts here; NULL: one cell */
	const char *output; /* NULL: standard output */
	const char *state;
	struct cellos_address ctl;           /* kind 0: none */
	struct host_metrics_address metrics; /* kind 0: none */
	struct {
		const char *url; /* NULL: no sink */
		const char *stream;
		const char *spool;
		uint64_t spool_bytes;
		uint64_t duplicate_window_s;
	} sink;
	enum host_format format;
	bool exit_on_close;
	bool verbose;

	struct {
		bool once;
		enum host_top_column sort;
	} top;

	/* HOST_CTL: the words of the command, "list", "add" JSON or "remove" ID. */
	char **command;
	int command_count;

	char message[HOST_OPTIONS_MESSAGE_BYTES]; /* "cannot ...: why" after -EINVAL */
};

/* 0 or -EINVAL. Not reentrant: getopt_long is not. */
CELLOS_MUST_CHECK int host_options_parse(struct host_options *options, int argc, char **argv);

/* As --format has it. */
const char *host_format_name(enum host_format format);

extern const char host_options_help[];

#endif
