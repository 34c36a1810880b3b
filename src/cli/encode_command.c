/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-wire encode: one JSON object per line in, frames out. The keys are those that decode
 * prints; content_version may be left out. A line that cannot become a frame is named on standard
 * error and the run goes on: each frame stands for itself. One thread.
 */
#include <errno.h>
#include <json-c/json.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cellos/wire.h"
#include "cellos_json_strict.h"
#include "commands.h"

#define WHY_BYTES 128

/* Why a line cannot become a frame; the last one written counts. */
struct why {
	char text[WHY_BYTES];
};

__attribute__((format(printf, 2, 3))) static bool refuse(struct why *why, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(why->text, sizeof(why->text), format, arguments);
	va_end(arguments);
	return false;
}

static bool get_uint(struct json_object *value, const char *key, uint64_t max, uint64_t *number,
		     struct why *why)
{
	if (!json_object_is_type(value, json_type_int))
		return refuse(why, "%s is not an integer", key);
	/* A negative one reads as 0 when asked for as unsigned. */
	if (json_object_get_int64(value) < 0 || json_object_get_uint64(value) > max)
		return refuse(why, "%s is not in 0..%ju", key, (uintmax_t)max);
	*number = json_object_get_uint64(value);
	return true;
}

static bool get_text(struct json_object *value, const char *key, const char **text, size_t *length,
		     struct why *why)
{
	if (!json_object_is_type(value, json_type_string))
		return refuse(why, "%s is not a string", key);
	*text = json_object_get_string(value);
	*length = (size_t)json_object_get_string_len(value);
	return true;
}

static bool get_version(struct json_object *value, const char *key,
			struct cellos_probe_event *event, struct why *why)
{
	uint64_t version = 0;

	if (!get_uint(value, key, UINT16_MAX, &version, why))
		return false;
	if (version == 0) /* for the encoder it means the current one; written out it is wrong */
		return refuse(why, "UnsupportedContentVersion, version 0");
	event->content_version = (uint16_t)version;
	return true;
}

static bool get_source(struct json_object *value, const char *key, struct cellos_probe_event *event,
		       struct why *why)
{
	const char *name = "";
	size_t length = 0;
	int source;

	if (!get_text(value, key, &name, &length, why))
		return false;
	source = cellos_probe_source_from_name(name, length);
	if (source < 0)
		return refuse(why, "UnknownProbeSource");
	event->probe_source = (uint8_t)source;
	return true;
}

static bool get_comm(struct json_object *value, const char *key, struct cellos_probe_event *event,
		     struct why *why)
{
	const char *name = "";
	size_t length = 0;

	if (!get_text(value, key, &name, &length, why))
		return false;
	if (length > CELLOS_GUEST_COMM_MAX_BYTES)
		return refuse(why, "FieldTooLong");
	memcpy(event->guest_comm, name, length);
	event->guest_comm_len = (uint8_t)length;
	return true;
}

static bool get_field(enum cellos_wire_field field, struct json_object *value,
		      struct cellos_probe_event *event, struct why *why)
{
	const char *key = cellos_wire_field_name(field);
	uint64_t pid = 0;

	switch (field) {
	case CELLOS_FIELD_CONTENT_VERSION:
		return get_version(value, key, event, why);
	case CELLOS_FIELD_PROBE_SOURCE:
		return get_source(value, key, event, why);
	case CELLOS_FIELD_GUEST_PID:
		if (!get_uint(value, key, UINT32_MAX, &pid, why))
			return false;
		event->guest_pid = (uint32_t)pid;
		return true;
	case CELLOS_FIELD_GUEST_COMM:
		return get_comm(value, key, event, why);
	default:
		return get_uint(value, key, UINT64_MAX, &event->guest_monotonic_ns, why);
	}
}

/* The event of a JSON object with `members` members, keys given twice counted twice. */
static bool get_event(struct json_object *object, size_t members, struct cellos_probe_event *event,
		      struct why *why)
{
	size_t known = 0;

	memset(event, 0, sizeof(*event));
	for (int field = 0; field < CELLOS_FIELD_KEY; field++) {
		struct json_object *value;

		if (json_object_object_get_ex(object, cellos_wire_field_name(field), &value)) {
			known++;
			if (!get_field(field, value, event, why))
				return false;
		} else if (field != CELLOS_FIELD_CONTENT_VERSION) {
			return refuse(why, "%s is missing", cellos_wire_field_name(field));
		}
	}
	if ((size_t)json_object_object_length(object) != known)
		return refuse(why, "a key is no field of an event");
	if (members != known)
		return refuse(why, "a key is given twice");
	return true;
}

/* `line` has `length` bytes and a NUL behind them, by which json-c knows the end. */
static struct json_object *parse(struct json_tokener *tokener, const char *line, size_t length,
				 struct why *why)
{
	struct json_object *object;
	enum json_tokener_error error;

	json_tokener_reset(tokener);
	object = json_tokener_parse_ex(tokener, line, -1);
	error = json_tokener_get_error(tokener);
	if (error == json_tokener_continue || error == json_tokener_error_parse_eof) {
		refuse(why, "the JSON does not end");
	} else if (error != json_tokener_success) {
		refuse(why, "not JSON at byte %zu: %s", json_tokener_get_parse_end(tokener) + 1,
		       json_tokener_error_desc(error));
	} else if (json_tokener_get_parse_end(tokener) != length) {
		refuse(why, "something follows the object");
	} else if (!json_object_is_type(object, json_type_object)) {
		refuse(why, "not a JSON object");
	} else {
		return object;
	}
	json_object_put(object);
	return NULL;
}

static bool read_event(struct json_tokener *tokener, char *line, size_t length,
		       struct cellos_probe_event *event, struct why *why)
{
	struct json_object *object;
	const char *unfit;
	size_t members;
	bool good;

	while (length > 0 && strchr(" \t\r", line[length - 1]) != NULL && line[length - 1] != 0)
		length--;
	line[length] = 0;
	unfit = cellos_json_strict(line, length, &members);
	if (unfit != NULL)
		return refuse(why, "%s", unfit);
	object = parse(tokener, line, length, why);
	if (object == NULL)
		return false;
	good = get_event(object, members, event, why);
	json_object_put(object);
	return good;
}

static void put_hex(struct output *output, const uint8_t *bytes, size_t length)
{
	static const char digits[] = "0123456789abcdef";
	char *at = output->data + output->length;

	for (size_t i = 0; i < length; i++) {
		*at++ = digits[bytes[i] >> 4];
		*at++ = digits[bytes[i] & 15];
	}
	*at++ = '\n';
	output->length = (size_t)(at - output->data);
}

/* Room for one frame is there. */
static bool put_event(struct output *output, bool hex, const struct cellos_probe_event *event,
		      struct why *why)
{
	uint8_t frame[CELLOS_ENCODED_FRAME_MAX_BYTES];
	enum cellos_wire_status status;
	size_t length;

	status = cellos_encode_frame(event, frame, sizeof(frame), &length, NULL);
	if (status != CELLOS_WIRE_OK)
		return refuse(why, "%s", cellos_wire_status_name(status));
	if (hex) {
		put_hex(output, frame, length);
	} else {
		memcpy(output->data + output->length, frame, length);
		output->length += length;
	}
	return true;
}

/* An exit code. */
static int encode_lines(struct json_tokener *tokener, bool hex, struct output *output)
{
	static struct line_reader reader = {.fd = STDIN_FILENO};
	struct cellos_probe_event event;
	struct why why;
	char *line;
	size_t length;
	int code = EXIT_DONE;

	while (next_line(&reader, output, &line, &length, &code)) {
		if (OUTPUT_BYTES - output->length < 2 * CELLOS_ENCODED_FRAME_MAX_BYTES + 1 &&
		    !flushed(output))
			return EXIT_FAILED;
		if (!read_event(tokener, line, length, &event, &why) ||
		    !put_event(output, hex, &event, &why)) {
			complain(why.text, "encode line %lu", reader.number);
			code = EXIT_FAILED;
		}
	}
	return code;
}

int encode_command(bool hex, struct output *output)
{
	struct json_tokener *tokener = json_tokener_new();
	int code;

	if (tokener == NULL) {
		complain(strerror(ENOMEM), "read JSON");
		return EXIT_FAILED;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	code = encode_lines(tokener, hex, output);
	json_tokener_free(tokener);
	return flushed(output) ? code : EXIT_FAILED;
}
