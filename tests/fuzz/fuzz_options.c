/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The agent's option parser: the input's lines are the words of a command line. Whatever they are,
 * every accepted value is in its range, and every refusal has one line of text that fits.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "options.h"

#define MAX_WORDS 200

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void demand(int condition)
{
	if (!condition)
		abort();
}

static void check_accepted(const struct agent_options *o)
{
	demand(o->probe.process_interval_ms >= 1 && o->probe.process_interval_ms <= 60000);
	demand(o->probe.max_processes >= 16 && o->probe.max_processes <= 4194304);
	demand(o->probe.coalesce_ms <= 1000);
	demand(o->queue_depth >= 2 && o->queue_depth <= 1048576);
	demand(o->heartbeat_ms >= 100 && o->heartbeat_ms <= 3000);
	demand(o->drain_ms <= 600000);
	demand(o->probe.watch_path_count <= CELLOS_PROBE_MAX_PATHS);
	demand(o->probe_mask != 0 && o->probe_mask >> cellos_probe_count == 0);
	demand(o->channel.kind >= CELLOS_ADDRESS_VSOCK && o->channel.kind <= CELLOS_ADDRESS_FD);
	for (size_t i = 0; i < o->probe.watch_path_count; i++)
		demand(o->probe.watch_paths[i][0] != '\0');
}

/* The help text stays inside whatever room it is given, and says how much it wants. */
static void check_help(size_t room)
{
	size_t wanted = agent_options_help(NULL, 0);
	char *out = malloc(room);

	if (out == NULL)
		return;
	demand(agent_options_help(out, room) == wanted);
	demand(memchr(out, '\0', room) != NULL);
	if (room > wanted)
		demand(strlen(out) == wanted);
	free(out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct agent_options options;
	char message[AGENT_MESSAGE_BYTES];
	char *words[MAX_WORDS + 2] = {(char *)(uintptr_t) "cellos-telemetry"};
	char *text = malloc(size + 1);
	int count = 1;

	if (text == NULL)
		return 0;
	if (size > 0) /* the fuzzer's empty input may have no address */
		memcpy(text, data, size);
	text[size] = '\0';
	for (char *at = text; at != NULL && count <= MAX_WORDS;) {
		char *end = strchr(at, '\n');

		words[count++] = at;
		if (end != NULL)
			*end++ = '\0';
		at = end;
	}
	words[count] = NULL;
	if (agent_options_parse(count, words, &options, message) == 0) {
		demand(message[0] == '\0');
		if (options.help)
			check_help(1 + size * 97 % 8192);
		if (!options.help && !options.version)
			check_accepted(&options);
	} else {
		demand(message[0] != '\0' && strlen(message) < AGENT_MESSAGE_BYTES);
	}
	free(text);
	return 0;
}
