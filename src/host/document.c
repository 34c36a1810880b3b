/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * JSON documents; document.h has the contract. One thread.
 *
 * json-c lets the last of two equal keys win. The strict look counts the members that stand in the
 * text; when fewer are found in what was parsed, a key was given twice.
 */
#include "document.h"

#include <errno.h>
#include <fcntl.h>
#include <json-c/json.h>
#include <json-c/json_visit.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cellos_json_strict.h"

void host_mistake(struct host_mistakes *mistakes, const char *place, const char *format, ...)
{
	char text[HOST_MISTAKE_MAX_BYTES];
	va_list arguments;
	int length = snprintf(text, sizeof(text), "%.300s: ", place);

	va_start(arguments, format);
	vsnprintf(text + length, sizeof(text) - (size_t)length, format, arguments);
	va_end(arguments);
	mistakes->count++;
	mistakes->say(mistakes->context, text);
}

void host_place(char out[HOST_MISTAKE_MAX_BYTES], const char *place, const char *member)
{
	/* The file's name ends at the first colon. */
	snprintf(out, HOST_MISTAKE_MAX_BYTES, "%.300s%s%s", place,
		 strstr(place, ": ") != NULL ? "." : ": ", member);
}

/* ---- files ---------------------------------------------------------------------------------- */

static int read_all(int fd, char *text, size_t limit, size_t *length)
{
	ssize_t n;

	*length = 0;
	while (*length <= limit) {
		n = read(fd, text + *length, limit + 1 - *length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -errno;
		if (n == 0)
			return 0;
		*length += (size_t)n;
	}
	return -EFBIG;
}

char *host_file_read(const char *path, size_t limit, size_t *length, struct host_mistakes *mistakes)
{
	/* Non-blocking: a pipe in a file's place must not hold the receiver up. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY), status = -errno;
	char *text = NULL;
	struct stat st;

	*length = 0;
	if (fd >= 0) {
		status = fstat(fd, &st) < 0 ? -errno : S_ISREG(st.st_mode) ? 0 : -EINVAL;
		/* A file of the limit and a byte shows that it is larger. */
		if (status == 0 && (uint64_t)st.st_size > limit)
			status = -EFBIG;
		if (status == 0 && (text = malloc(limit + 2)) == NULL)
			status = -ENOMEM;
		if (status == 0)
			status = read_all(fd, text, limit, length);
		(void)close(fd);
	}
	if (status == 0 && text != NULL) {
		text[*length] = '\0';
		return text;
	}
	free(text);
	host_mistake(mistakes, path, "%s",
		     status == -EINVAL ? "it is no regular file" : strerror(-status));
	return NULL;
}

/* ---- parsing -------------------------------------------------------------------------------- */

static int count_member(struct json_object *value, int flags, struct json_object *parent,
			const char *key, size_t *index, void *count)
{
	(void)value;
	(void)parent;
	(void)index;
	/* Objects and arrays are shown twice: before what they hold, and behind it. */
	if (key != NULL && (flags & JSON_C_VISIT_SECOND) == 0)
		++*(size_t *)count;
	return JSON_C_VISIT_RETURN_CONTINUE;
}

static size_t count_members(struct json_object *document)
{
	size_t count = 0;

	(void)json_c_visit(document, 0, count_member, &count);
	return count;
}

/* The character that begins at *at, which is moved past it; UINT32_MAX: none does. */
static uint32_t next_character(const unsigned char **at, const unsigned char *end)
{
	static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
	const unsigned char first = *(*at)++;
	const unsigned more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
	uint32_t character = more == 0 ? first : first & (0x3fu >> more);

	if ((first >= 0x80 && first < 0xc0) || first > 0xf7)
		return UINT32_MAX;
	for (unsigned i = 0; i < more; i++) {
		if (*at == end || (**at & 0xc0) != 0x80)
			return UINT32_MAX;
		character = character << 6 | (*(*at)++ & 0x3fu);
	}
	return character >= least[more] ? character : UINT32_MAX;
}

/*
 * json-c looks at the shape of UTF-8 only: it takes overlong forms, surrogates and what lies beyond
 * U+10FFFF, and what comes from here stands in our lines.
 */
static bool is_utf8(const unsigned char *at, const unsigned char *end)
{
	while (at < end) {
		uint32_t character = next_character(&at, end);

		if (character > 0x10ffff || (character >= 0xd800 && character <= 0xdfff))
			return false;
	}
	return true;
}

static void not_json(struct json_tokener *tokener, const char *place,
		     struct host_mistakes *mistakes)
{
	size_t stop = json_tokener_get_parse_end(tokener);

	if (json_tokener_get_error(tokener) == json_tokener_error_depth)
		host_mistake(mistakes, place, "nested too deep at byte %zu", stop);
	else
		host_mistake(mistakes, place, "not JSON at byte %zu", stop);
}

struct json_object *host_document_parse(const char *text, size_t length, const char *place,
					struct host_mistakes *mistakes)
{
	struct json_tokener *tokener = json_tokener_new();
	struct json_object *document = NULL;
	size_t members;
	const char *unfit = cellos_json_strict(text, length, &members);

	if (tokener == NULL) {
		host_mistake(mistakes, place, "%s", strerror(ENOMEM));
	} else if (unfit != NULL) {
		host_mistake(mistakes, place, "%s", unfit);
	} else if (memchr(text, '\0', length) != NULL) {
		host_mistake(mistakes, place, "a NUL byte");
	} else if (!is_utf8((const unsigned char *)text, (const unsigned char *)text + length)) {
		host_mistake(mistakes, place, "not UTF-8");
	} else {
		json_tokener_set_flags(tokener, JSON_TOKENER_STRICT);
		/* With its NUL: a number alone ends there, and a document cut short shows. */
		document = json_tokener_parse_ex(tokener, text, (int)length + 1);
		if (document == NULL)
			not_json(tokener, place, mistakes);
	}
	if (tokener != NULL)
		json_tokener_free(tokener);
	if (document != NULL && count_members(document) != members) {
		host_mistake(mistakes, place, "a key is given twice");
		json_object_put(document);
		document = NULL;
	}
	return document;
}

struct json_object *host_document_read(const char *path, struct host_mistakes *mistakes)
{
	struct json_object *document = NULL;
	size_t length;
	char *text = host_file_read(path, HOST_DOCUMENT_MAX_BYTES, &length, mistakes);

	if (text != NULL)
		document = host_document_parse(text, length, path, mistakes);
	free(text);
	return document;
}

/* ---- members -------------------------------------------------------------------------------- */

bool host_object_check(struct json_object *object, const char *const *names, const char *place,
		       struct host_mistakes *mistakes)
{
	unsigned before = mistakes->count;

	if (!json_object_is_type(object, json_type_object)) {
		host_mistake(mistakes, place, "it is no object");
		return false;
	}
	json_object_object_foreach(object, key, member)
	{
		size_t i = 0;

		(void)member;
		while (names[i] != NULL && strcmp(names[i], key) != 0)
			i++;
		if (names[i] == NULL)
			host_mistake(mistakes, place, "'%.64s' is no member of it", key);
	}
	return mistakes->count == before;
}

const char *host_value_text(struct json_object *value, size_t limit, const char *place,
			    struct host_mistakes *mistakes)
{
	const char *text = json_object_get_string(value);
	size_t length;

	if (!json_object_is_type(value, json_type_string)) {
		host_mistake(mistakes, place, "it is no string");
		return NULL;
	}
	length = (size_t)json_object_get_string_len(value);
	if (length == 0)
		host_mistake(mistakes, place, "it is empty");
	else if (length > limit)
		host_mistake(mistakes, place, "it is longer than %zu bytes", limit);
	else if (strlen(text) != length)
		host_mistake(mistakes, place, "it holds a NUL");
	else
		return text;
	return NULL;
}

const char *host_member_text(struct json_object *object, const char *name, size_t limit,
			     bool required, const char *place, struct host_mistakes *mistakes)
{
	char here[HOST_MISTAKE_MAX_BYTES];
	struct json_object *value;

	host_place(here, place, name);
	if (json_object_object_get_ex(object, name, &value))
		return host_value_text(value, limit, here, mistakes);
	if (required)
		host_mistake(mistakes, here, "it is missing");
	return NULL;
}

uint64_t host_member_number(struct json_object *object, const char *name, uint64_t least,
			    uint64_t most, uint64_t otherwise, const char *place,
			    struct host_mistakes *mistakes)
{
	char here[HOST_MISTAKE_MAX_BYTES];
	struct json_object *value;
	uint64_t number;

	if (!json_object_object_get_ex(object, name, &value))
		return otherwise;
	host_place(here, place, name);
	/* A negative one reads as 0 in the one call and as itself in the other. */
	number = json_object_get_uint64(value);
	if (json_object_is_type(value, json_type_int) && json_object_get_int64(value) >= 0 &&
	    number >= least && number <= most)
		return number;
	host_mistake(mistakes, here, "it is no whole number from %ju to %ju", (uintmax_t)least,
		     (uintmax_t)most);
	return otherwise;
}

struct json_object *host_member_array(struct json_object *object, const char *name, size_t limit,
				      const char *place, struct host_mistakes *mistakes)
{
	char here[HOST_MISTAKE_MAX_BYTES];
	struct json_object *value;

	if (!json_object_object_get_ex(object, name, &value))
		return NULL;
	host_place(here, place, name);
	if (!json_object_is_type(value, json_type_array))
		host_mistake(mistakes, here, "it is no array");
	else if (json_object_array_length(value) > limit)
		host_mistake(mistakes, here, "it has more than %zu entries", limit);
	else
		return value;
	return NULL;
}
