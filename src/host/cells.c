/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Configurations of cells; cells.h has the contract. One thread.
 */
#include "cells.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"

/* ---- single values -------------------------------------------------------------------------- */

const char *host_id_check(const char *text)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
				      "0123456789_-";
	size_t length = strlen(text);

	if (length == 0)
		return "it is empty";
	if (length > HOST_ID_MAX_BYTES)
		return "it is longer than 64 characters";
	if (strspn(text, allowed) != length)
		return "only A-Z, a-z, 0-9, '_' and '-' may stand in it";
	return NULL;
}

const char *host_hash_check(const char *text)
{
	if (text[0] == '\0')
		return "it is empty";
	if (strlen(text) > HOST_HASH_MAX_BYTES)
		return "it is longer than 128 characters";
	for (; *text != '\0'; text++)
		if (*text < 0x20 || *text > 0x7e || *text == '"' || *text == '\\')
			return "only printable ASCII but '\"' and '\\' may stand in it";
	return NULL;
}

/* 2^32 - 1 is "leave as it is" to chown(2), hence no owner. */
bool host_owner_parse(const char *text, struct cellos_socket_owner *owner)
{
	const char *digits = "0123456789";
	size_t left = strspn(text, digits), right;
	unsigned long long uid, gid;

	if (left == 0 || left > 10 || text[left] != ':')
		return false;
	right = strspn(text + left + 1, digits);
	if (right == 0 || right > 10 || text[left + 1 + right] != '\0')
		return false;
	uid = strtoull(text, NULL, 10);
	gid = strtoull(text + left + 1, NULL, 10);
	if (uid >= UINT32_MAX || gid >= UINT32_MAX)
		return false;
	owner->set = true;
	owner->uid = (uid_t)uid;
	owner->gid = (gid_t)gid;
	return true;
}

bool host_policy_parse(const char *text, bool *enforce)
{
	*enforce = strcmp(text, "enforce") == 0;
	return *enforce || strcmp(text, "report") == 0;
}

/* ---- the object of --adg -------------------------------------------------------------------- */

/* Takes out the white space between tokens, and nothing else: numbers keep their spelling. */
static void squeeze(char *text)
{
	bool in_string = false, escaped = false;
	char *to = text;

	for (const char *from = text; *from != '\0'; from++) {
		if (!in_string && strchr(" \t\r\n", *from) != NULL)
			continue;
		if (*from == '"' && !escaped)
			in_string = !in_string;
		escaped = in_string && *from == '\\' && !escaped;
		*to++ = *from;
	}
	*to = '\0';
}

static char *read_output_object(const char *path, struct host_mistakes *mistakes)
{
	unsigned before = mistakes->count;
	struct json_object *object;
	size_t length;
	/* What it takes squeezed is what counts; white space gets as much again. */
	char *text = host_file_read(path, 2 * HOST_ADG_MAX_BYTES, &length, mistakes);

	if (text == NULL)
		return NULL;
	object = host_document_parse(text, length, path, mistakes);
	if (object != NULL && !json_object_is_type(object, json_type_object))
		host_mistake(mistakes, path, "it is no object");
	json_object_put(object);
	squeeze(text);
	if (strlen(text) > HOST_ADG_MAX_BYTES)
		host_mistake(mistakes, path, "it is longer than %u bytes", HOST_ADG_MAX_BYTES);
	if (mistakes->count == before)
		return text;
	free(text);
	return NULL;
}

static void wrong(struct host_mistakes *mistakes, const char *place, const char *member,
		  const char *why)
{
	char here[HOST_MISTAKE_MAX_BYTES];

	host_place(here, place, member);
	host_mistake(mistakes, here, "%s", why);
}

/* ---- one cell ------------------------------------------------------------------------------- */

static void take_names(struct host_cell_config *config, const struct host_cell_words *words,
		       const char *place, struct host_mistakes *mistakes)
{
	const char *id = words->id != NULL ? words->id : "cell";
	const char *run = words->run != NULL ? words->run : "run", *why;

	if ((why = host_id_check(id)) != NULL)
		wrong(mistakes, place, "id", why);
	else
		memcpy(config->id, id, strlen(id) + 1);
	if ((why = host_id_check(run)) != NULL)
		wrong(mistakes, place, "run", why);
	else
		memcpy(config->run, run, strlen(run) + 1);
	if (words->hash == NULL)
		return;
	if ((why = host_hash_check(words->hash)) != NULL)
		wrong(mistakes, place, "hash", why);
	else if ((config->hash = strdup(words->hash)) == NULL)
		host_mistake(mistakes, place, "%s", strerror(ENOMEM));
}

static void take_address(struct host_cell_config *config, const struct host_cell_words *words,
			 const char *place, struct host_mistakes *mistakes)
{
	const char *why;

	if (words->listen == NULL)
		wrong(mistakes, place, "listen", "it is missing");
	else if (cellos_listen_address_parse(words->listen, &config->listen, &why) < 0)
		wrong(mistakes, place, "listen", why);
	if (words->owner == NULL)
		return;
	if (!host_owner_parse(words->owner, &config->owner))
		wrong(mistakes, place, "socket_owner",
		      "not UID:GID, two numbers from 0 to 4294967294");
	else if (config->listen.kind == CELLOS_ADDRESS_VSOCK)
		wrong(mistakes, place, "socket_owner", "a vsock has no file to own");
}

static void take_rules(struct host_cell_config *config, const struct host_cell_words *words,
		       const char *place, struct host_mistakes *mistakes)
{
	config->silence_s = words->silence_s != 0 ? words->silence_s : HOST_SILENCE_MS / 1000;
	config->enforce = true;
	if (words->policy != NULL && !host_policy_parse(words->policy, &config->enforce))
		wrong(mistakes, place, "policy", "it is neither enforce nor report");
	if ((words->declared == NULL) != (words->authorized == NULL))
		wrong(mistakes, place, words->declared == NULL ? "declared" : "authorized",
		      "it is missing, and the other one says nothing alone");
	if (words->adg != NULL)
		config->output = read_output_object(words->adg, mistakes);
	if (words->declared != NULL)
		config->declared = host_declaration_read(words->declared, mistakes);
	if (words->authorized != NULL)
		config->authorized = host_declaration_read(words->authorized, mistakes);
}

static const char *document_text(const struct host_declaration *declaration)
{
	return declaration == NULL ? ""
				   : json_object_to_json_string_ext(declaration->document,
								    JSON_C_TO_STRING_PLAIN);
}

/* Newlines stand in none of its parts: documents are printed plain, paths are the last. */
static char *make_fingerprint(const struct host_cell_config *config)
{
	char address[CELLOS_ADDRESS_TEXT_BYTES], *text;

	if (asprintf(&text, "%s\n%s\n%d %u %u\n%s\n%s\n%ju %d\n%s\n%s\n%s", config->id, config->run,
		     config->owner.set, config->owner.uid, config->owner.gid,
		     config->hash != NULL ? config->hash : "",
		     config->output != NULL ? config->output : "", (uintmax_t)config->silence_s,
		     config->enforce, document_text(config->declared),
		     document_text(config->authorized),
		     cellos_address_format(&config->listen, address)) < 0)
		return NULL;
	return text;
}

struct host_cell_config *host_cell_config_make(const struct host_cell_words *words,
					       const char *place, struct host_mistakes *mistakes)
{
	struct host_cell_config *config = calloc(1, sizeof(*config));
	unsigned before = mistakes->count;

	if (config == NULL) {
		host_mistake(mistakes, place, "%s", strerror(ENOMEM));
		return NULL;
	}
	take_names(config, words, place, mistakes);
	take_address(config, words, place, mistakes);
	take_rules(config, words, place, mistakes);
	if (mistakes->count == before && (config->fingerprint = make_fingerprint(config)) == NULL)
		host_mistake(mistakes, place, "%s", strerror(ENOMEM));
	return mistakes->count == before ? config : host_cell_config_free(config);
}

struct host_cell_config *host_cell_config_free(struct host_cell_config *config)
{
	if (config == NULL)
		return NULL;
	free(config->hash);
	free(config->output);
	free(config->fingerprint);
	host_declaration_free(config->declared);
	host_declaration_free(config->authorized);
	free(config);
	return NULL;
}

/* ---- JSON ----------------------------------------------------------------------------------- */

static const char *path_member(struct json_object *object, const char *name, const char *place,
			       struct host_mistakes *mistakes)
{
	return host_member_text(object, name, HOST_MAX_PATH_BYTES, false, place, mistakes);
}

static struct host_cell_config *from_object(struct json_object *object, const char *place,
					    struct host_mistakes *mistakes)
{
	static const char *const members[] = {
		"id",         "run",    "hash",           "listen",       "adg", "declared",
		"authorized", "policy", "silence_window", "socket_owner", NULL};
	unsigned before = mistakes->count;
	struct host_cell_words words;

	if (!host_object_check(object, members, place, mistakes))
		return NULL;
	words = (struct host_cell_words){
		.id = host_member_text(object, "id", 1024, true, place, mistakes),
		.run = host_member_text(object, "run", 1024, false, place, mistakes),
		.hash = host_member_text(object, "hash", 1024, false, place, mistakes),
		.listen = host_member_text(object, "listen", 1024, true, place, mistakes),
		.owner = host_member_text(object, "socket_owner", 64, false, place, mistakes),
		.policy = host_member_text(object, "policy", 64, false, place, mistakes),
		.adg = path_member(object, "adg", place, mistakes),
		.declared = path_member(object, "declared", place, mistakes),
		.authorized = path_member(object, "authorized", place, mistakes),
		.silence_s = host_member_number(object, "silence_window", 1, HOST_MAX_SILENCE_S, 0,
						place, mistakes),
	};
	return mistakes->count == before ? host_cell_config_make(&words, place, mistakes) : NULL;
}

struct host_cell_config *host_cell_config_parse(const char *text, size_t length,
						struct host_mistakes *mistakes)
{
	struct json_object *object = host_document_parse(text, length, "cell", mistakes);
	struct host_cell_config *config = NULL;

	if (object != NULL)
		config = from_object(object, "cell", mistakes);
	json_object_put(object);
	return config;
}

static bool same_address(const struct cellos_address *a, const struct cellos_address *b)
{
	return a->kind == b->kind && a->port == b->port && strcmp(a->path, b->path) == 0;
}

static void wrong_twin(struct host_mistakes *mistakes, const char *place, const char *member,
		       size_t twin)
{
	char why[64];

	snprintf(why, sizeof(why), "cells[%zu] has the same", twin);
	wrong(mistakes, place, member, why);
}

/* Compared with all before it: 4096 cells are 8 million comparisons of a few bytes. */
static void check_twins(const struct host_cell_list *list, const char *path,
			struct host_mistakes *mistakes)
{
	char place[HOST_MISTAKE_MAX_BYTES];

	for (size_t i = 1; i < list->count; i++) {
		const struct host_cell_config *cell = list->cells[i], *other;

		snprintf(place, sizeof(place), "%.250s: cells[%zu]", path, i);
		for (size_t k = 0; cell != NULL && k < i; k++) {
			if ((other = list->cells[k]) == NULL)
				continue;
			if (strcmp(cell->id, other->id) == 0)
				wrong_twin(mistakes, place, "id", k);
			if (same_address(&cell->listen, &other->listen))
				wrong_twin(mistakes, place, "listen", k);
		}
	}
}

static void take_cells(struct host_cell_list *list, struct json_object *array, const char *path,
		       struct host_mistakes *mistakes)
{
	size_t count = json_object_array_length(array);
	struct host_cell_config **cells = calloc(count + 1, sizeof(struct host_cell_config *));
	char place[HOST_MISTAKE_MAX_BYTES];

	if (cells == NULL) {
		host_mistake(mistakes, path, "%s", strerror(ENOMEM));
		return;
	}
	for (size_t i = 0; i < count; i++) {
		snprintf(place, sizeof(place), "%.250s: cells[%zu]", path, i);
		cells[i] = from_object(json_object_array_get_idx(array, i), place, mistakes);
	}
	list->cells = cells;
	list->count = count;
}

bool host_cell_list_read(struct host_cell_list *list, const char *path,
			 struct host_mistakes *mistakes)
{
	static const char *const members[] = {"cells", NULL};
	struct json_object *document = host_document_read(path, mistakes), *array = NULL;
	unsigned before = mistakes->count;

	*list = (struct host_cell_list){0};
	if (document == NULL)
		return false;
	if (host_object_check(document, members, path, mistakes))
		array = host_member_array(document, "cells", HOST_MAX_CELLS, path, mistakes);
	if (array == NULL && mistakes->count == before)
		host_mistake(mistakes, path, "cells is missing");
	if (array != NULL)
		take_cells(list, array, path, mistakes);
	check_twins(list, path, mistakes);
	json_object_put(document);
	if (mistakes->count != before)
		host_cell_list_free(list);
	return mistakes->count == before;
}

void host_cell_list_free(struct host_cell_list *list)
{
	for (size_t i = 0; i < list->count; i++)
		host_cell_config_free(list->cells[i]);
	free(list->cells);
	*list = (struct host_cell_list){0};
}
