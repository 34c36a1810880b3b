/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Admission: may a guest that declares this much be listened to, given what was authorized? It may
 * when declared is a subset of authorized (docs/wire.md).
 *
 *   egress_rules  host compared without case, port and protocol exactly
 *   secret_refs   as a set, exactly
 *   dns_queries   without case; an authorized "*.example.com" covers any name under it and not
 *                 example.com itself, any other authorized name only itself
 *
 * "Without case" is ASCII alone, whatever the locale. An entry whose string is missing (NULL) is
 * covered by nothing and covers nothing. agent_version is not compared.
 *
 * Pure: no memory of its own, no allocation, no state; any thread.
 */
#ifndef CELLOS_ADMISSION_H
#define CELLOS_ADMISSION_H

#include <stddef.h>

#include "cellos/declaration.h"
#include "cellos/export.h"

#ifdef __cplusplus
extern "C" {
#endif

enum cellos_admission_rule {
	CELLOS_ADMISSION_EGRESS = 0,
	CELLOS_ADMISSION_SECRET,
	CELLOS_ADMISSION_DNS,
	CELLOS_ADMISSION_RULE_COUNT
};

/* One declared entry that nothing authorized covers. */
struct cellos_violation {
	enum cellos_admission_rule rule;
	size_t index;                            /* in the declared list of that rule, from 0 */
	const struct cellos_egress_rule *egress; /* the entry, borrowed; NULL for other rules */
	const char *name;                        /* the entry, borrowed; NULL for egress */
};

/* Called for each violation, in the order of rules and entries. */
typedef void (*cellos_violation_fn)(void *context, const struct cellos_violation *violation);

/* A violation in words fits this when its strings have at most 256 bytes; longer ones are cut. */
#define CELLOS_VIOLATION_TEXT_BYTES 640

/*
 * The number of violations; 0: declared is a subset of authorized. `report` may be NULL. Takes
 * declared entries times authorized entries; a caller that reads both from strangers bounds them.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK size_t
cellos_declaration_validate(const struct cellos_guest_telemetry_declaration *declared,
			    const struct cellos_guest_telemetry_declaration *authorized,
			    cellos_violation_fn report, void *context);

/* "egress_rules", "secret_refs", "dns_queries"; "?" when out of range. */
CELLOS_EXPORT const char *cellos_admission_rule_name(enum cellos_admission_rule rule);

/*
 * "egress_rules[2]: 'example.com' port 443 protocol 'tcp' is not authorized". Always NUL-terminated
 * when size is not 0, cut when it is too small. Returns `out`.
 */
CELLOS_EXPORT const char *cellos_violation_describe(const struct cellos_violation *violation,
						    char *out, size_t size);

#ifdef __cplusplus
}
#endif

#endif
