/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declarations out of JSON; declared.h has the form. One thread.
 */
#include "declared.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SURFACE "declared_surface"

static void entry_place(char out[HOST_MISTAKE_MAX_BYTES], const char *path, const char *list,
			size_t index)
{
	snprintf(out, HOST_MISTAKE_MAX_BYTES, "%.250s: %s.%s[%zu]", path, SURFACE, list, index);
}

static void *room_for(struct json_object *array, size_t size, const char *path,
		      struct host_mistakes *mistakes)
{
	/* One more: an empty array is not a failure. */
	void *room = calloc(json_object_array_length(array) + 1, size);

	if (room == NULL)
		host_mistake(mistakes, path, "%s", strerror(ENOMEM));
	return room;
}

static size_t take_names(struct json_object *surface, const char *list, const char ***names,
			 const char *path, struct host_mistakes *mistakes)
{
	char place[HOST_MISTAKE_MAX_BYTES];
	struct json_object *array;
	size_t count;

	snprintf(place, sizeof(place), "%.250s: %s", path, SURFACE);
	array = host_member_array(surface, list, HOST_DECLARED_MAX_ENTRIES, place, mistakes);
	if (array == NULL || (*names = room_for(array, sizeof(**names), path, mistakes)) == NULL)
		return 0;
	count = json_object_array_length(array);
	for (size_t i = 0; i < count; i++) {
		entry_place(place, path, list, i);
		(*names)[i] = host_value_text(json_object_array_get_idx(array, i),
					      HOST_DECLARED_MAX_TEXT, place, mistakes);
	}
	return count;
}

static size_t take_egress(struct json_object *surface, struct cellos_egress_rule **rules,
			  const char *path, struct host_mistakes *mistakes)
{
	static const char *const members[] = {"host", "port", "protocol", NULL};
	char place[HOST_MISTAKE_MAX_BYTES];
	struct json_object *array, *entry;
	size_t count;

	snprintf(place, sizeof(place), "%.250s: %s", path, SURFACE);
	array = host_member_array(surface, "egress_rules", HOST_DECLARED_MAX_ENTRIES, place,
				  mistakes);
	if (array == NULL || (*rules = room_for(array, sizeof(**rules), path, mistakes)) == NULL)
		return 0;
	count = json_object_array_length(array);
	for (size_t i = 0; i < count; i++) {
		entry = json_object_array_get_idx(array, i);
		entry_place(place, path, "egress_rules", i);
		if (!host_object_check(entry, members, place, mistakes))
			continue;
		(*rules)[i].host = host_member_text(entry, "host", HOST_DECLARED_MAX_TEXT, true,
						    place, mistakes);
		(*rules)[i].protocol = host_member_text(entry, "protocol", HOST_DECLARED_MAX_TEXT,
							true, place, mistakes);
		if (json_object_object_get(entry, "port") == NULL)
			host_mistake(mistakes, place, "port is missing");
		(*rules)[i].port = (uint16_t)host_member_number(entry, "port", 0, UINT16_MAX, 0,
								place, mistakes);
	}
	return count;
}

static void take_surface(struct host_declaration *declaration, struct json_object *surface,
			 const char *path, struct host_mistakes *mistakes)
{
	static const char *const members[] = {"egress_rules", "secret_refs", "dns_queries", NULL};
	struct cellos_declared_surface *into = &declaration->value.declared_surface;
	char place[HOST_MISTAKE_MAX_BYTES];

	snprintf(place, sizeof(place), "%.250s: %s", path, SURFACE);
	if (!host_object_check(surface, members, place, mistakes))
		return;
	into->egress_rule_count = take_egress(surface, &declaration->egress, path, mistakes);
	into->secret_ref_count =
		take_names(surface, "secret_refs", &declaration->secrets, path, mistakes);
	into->dns_query_count =
		take_names(surface, "dns_queries", &declaration->names, path, mistakes);
	into->egress_rules = declaration->egress;
	into->secret_refs = declaration->secrets;
	into->dns_queries = declaration->names;
}

struct host_declaration *host_declaration_read(const char *path, struct host_mistakes *mistakes)
{
	static const char *const members[] = {SURFACE, "agent_version", NULL};
	struct host_declaration *declaration = calloc(1, sizeof(*declaration));
	struct json_object *surface;
	unsigned before = mistakes->count;

	if (declaration == NULL) {
		host_mistake(mistakes, path, "%s", strerror(ENOMEM));
		return NULL;
	}
	declaration->document = host_document_read(path, mistakes);
	if (declaration->document != NULL &&
	    host_object_check(declaration->document, members, path, mistakes)) {
		declaration->value.agent_version =
			host_member_text(declaration->document, "agent_version",
					 HOST_DECLARED_MAX_TEXT, false, path, mistakes);
		if (json_object_object_get_ex(declaration->document, SURFACE, &surface))
			take_surface(declaration, surface, path, mistakes);
	}
	return mistakes->count == before ? declaration : host_declaration_free(declaration);
}

struct host_declaration *host_declaration_free(struct host_declaration *declaration)
{
	if (declaration == NULL)
		return NULL;
	json_object_put(declaration->document);
	free(declaration->egress);
	free(declaration->secrets);
	free(declaration->names);
	free(declaration);
	return NULL;
}
