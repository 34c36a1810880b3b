/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the host is told about cells: each one's names, address, documents and policy, from options,
 * from the file of --cells, or from a line of the control socket.
 *
 *	{"cells":[{"id":"web-1","run":"7","listen":"unix:/run/web-1.sock", ...}]}
 *
 * One thread. A configuration is complete or absent: every document that it names was read and
 * found sound. All mistakes are named, each with its place.
 */
#ifndef CELLOS_HOST_CELLS_H
#define CELLOS_HOST_CELLS_H

#include <stdbool.h>
#include <stdint.h>

#include "cellos/transport.h"
#include "declared.h"
#include "document.h"
#include "format.h"

#define HOST_MAX_SILENCE_S UINT64_C(86400)
#define HOST_MAX_CELLS 4096u /* as many as the state file has room for */
#define HOST_MAX_PATH_BYTES 4095u

/* The same things as words, borrowed; NULL or 0: not said. */
struct host_cell_words {
	const char *id, *run, *hash, *listen, *adg, *declared, *authorized, *policy, *owner;
	uint64_t silence_s;
};

struct host_cell_config {
	char id[HOST_ID_MAX_BYTES + 1];
	char run[HOST_ID_MAX_BYTES + 1];
	struct cellos_address listen;
	struct cellos_socket_owner owner;
	char *hash;   /* owned; NULL: none */
	char *output; /* owned: the object of adg on one line; NULL: none */
	uint64_t silence_s;
	bool enforce;                        /* else violations are reported, and events pass */
	struct host_declaration *declared;   /* owned; NULL: admission is not asked */
	struct host_declaration *authorized; /* owned */
	char *fingerprint; /* owned: equal for equal configurations, and for no others */
};

struct host_cell_list {
	struct host_cell_config **cells; /* owned, each too */
	size_t count;
};

/* NULL when it is one, else what is wrong with it. */
const char *host_id_check(const char *text);
const char *host_hash_check(const char *text);
/* "UID:GID" in decimal. */
bool host_owner_parse(const char *text, struct cellos_socket_owner *owner);
/* "enforce", "report". */
bool host_policy_parse(const char *text, bool *enforce);

/* Owned by the caller; NULL after a mistake, which begins with `place` or names a file. */
CELLOS_MUST_CHECK struct host_cell_config *
host_cell_config_make(const struct host_cell_words *words, const char *place,
		      struct host_mistakes *mistakes);
struct host_cell_config *host_cell_config_free(struct host_cell_config *config);

/* One cell's JSON object, as `add` of the control socket has it. */
CELLOS_MUST_CHECK struct host_cell_config *host_cell_config_parse(const char *text, size_t length,
								  struct host_mistakes *mistakes);
/* The file of --cells. False after a mistake, and the list is empty. */
CELLOS_MUST_CHECK bool host_cell_list_read(struct host_cell_list *list, const char *path,
					   struct host_mistakes *mistakes);
/* Frees what is still in the list; an entry that was taken out is NULL. */
void host_cell_list_free(struct host_cell_list *list);

#endif
