/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A declaration as a file: {"declared_surface":{"egress_rules":[{"host","port","protocol"}],
 * "secret_refs":[],"dns_queries":[]},"agent_version":""}. What is declared and what is authorized
 * have the same form. Every member may be left out, an unknown one is a mistake.
 *
 * One thread.
 */
#ifndef CELLOS_HOST_DECLARED_H
#define CELLOS_HOST_DECLARED_H

#include "cellos/declaration.h"
#include "document.h"

/* Admission compares each declared entry with each authorized one; this bounds it. */
#define HOST_DECLARED_MAX_ENTRIES 1024u
#define HOST_DECLARED_MAX_TEXT 256u

struct host_declaration {
	struct cellos_guest_telemetry_declaration value; /* its strings belong to the document */
	struct json_object *document;                    /* owned */
	struct cellos_egress_rule *egress;               /* owned */
	const char **secrets;                            /* owned */
	const char **names;                              /* owned */
};

/* Owned by the caller; NULL after a mistake. */
CELLOS_MUST_CHECK struct host_declaration *host_declaration_read(const char *path,
								 struct host_mistakes *mistakes);
/* NULL is harmless. Returns NULL. */
struct host_declaration *host_declaration_free(struct host_declaration *declaration);

#endif
