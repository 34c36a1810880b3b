/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * JSON documents that the host is given as files, and how mistakes in them are named.
 *
 * One thread. A document is JSON to the letter (cellos_json_strict.h), of bounded size and depth.
 * A mistake is said with its place, as in "cells.json: cells[3].listen: path is empty"; reading
 * goes on after one, so that all of them are named at once.
 */
#ifndef CELLOS_HOST_DOCUMENT_H
#define CELLOS_HOST_DOCUMENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/export.h"

struct json_object;

#define HOST_DOCUMENT_MAX_BYTES (8u * 1024u * 1024u)
#define HOST_MISTAKE_MAX_BYTES 512

/* Where mistakes go. `count` is what decides whether a document is used. */
struct host_mistakes {
	void (*say)(void *context, const char *text); /* without newline, borrowed for the call */
	void *context;
	unsigned count;
};

__attribute__((format(printf, 3, 4))) void host_mistake(struct host_mistakes *mistakes,
							const char *place, const char *format, ...);

/* "cells.json: cells[3]" and "listen" make "cells.json: cells[3].listen". */
void host_place(char out[HOST_MISTAKE_MAX_BYTES], const char *place, const char *member);

/* The bytes of a file, NUL-terminated, owned by the caller (free); NULL after a mistake. */
CELLOS_MUST_CHECK char *host_file_read(const char *path, size_t limit, size_t *length,
				       struct host_mistakes *mistakes);
/* Owned by the caller (json_object_put); NULL after a mistake. `place` names it in mistakes. */
CELLOS_MUST_CHECK struct json_object *host_document_parse(const char *text, size_t length,
							  const char *place,
							  struct host_mistakes *mistakes);
CELLOS_MUST_CHECK struct json_object *host_document_read(const char *path,
							 struct host_mistakes *mistakes);

/* ---- members ------------------------------------------------------------------------------- */

/* Is it an object, with no member but these? `names` ends with NULL. */
bool host_object_check(struct json_object *object, const char *const *names, const char *place,
		       struct host_mistakes *mistakes);
/*
 * A member that is a string: not empty, without NUL, at most `limit` bytes; borrowed from the
 * object. NULL when it is not there (a mistake only if `required`) or after a mistake.
 */
const char *host_member_text(struct json_object *object, const char *name, size_t limit,
			     bool required, const char *place, struct host_mistakes *mistakes);
/* The same rules for an element of an array, or any other value. */
const char *host_value_text(struct json_object *value, size_t limit, const char *place,
			    struct host_mistakes *mistakes);
/* A member that is a whole number in least..most; `otherwise` when it is not there. */
uint64_t host_member_number(struct json_object *object, const char *name, uint64_t least,
			    uint64_t most, uint64_t otherwise, const char *place,
			    struct host_mistakes *mistakes);
/* A member that is an array of at most `limit` elements; NULL when not there or a mistake. */
struct json_object *host_member_array(struct json_object *object, const char *name, size_t limit,
				      const char *place, struct host_mistakes *mistakes);

#endif
