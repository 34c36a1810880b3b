/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The contract as data: every vector, every valid one into every buffer that is too short, every
 * one cut at every length, all of it flush against memory that nobody may touch.
 */
#include <criterion/criterion.h>
#include <string.h>

#include "support.h"

static const struct cellos_probe_event zero_event;

Test(vectors, there_are_as_many_as_handed_out)
{
	size_t kinds[3] = {0};

	for (size_t i = 0; i < vector_count; i++)
		kinds[vectors[i].kind]++;
	cr_assert_geq(kinds[VECTOR_VALID], 200);
	cr_assert_geq(kinds[VECTOR_TOLERATED], 8);
	cr_assert_geq(kinds[VECTOR_INVALID], 54);
}

Test(vectors, decode)
{
	struct fenced fenced = fenced_new();

	for (size_t i = 0; i < vector_count; i++) {
		const struct vector *vector = &vectors[i];
		struct cellos_wire_error error = {0};
		struct cellos_probe_event event, wanted;
		enum cellos_wire_status status;
		uint8_t *frame = fenced_at_end(&fenced, vector->frame, vector->frame_length);

		memset(&event, 0x5a, sizeof(event));
		status = cellos_decode_frame(frame, vector->frame_length, &event, &error);
		cr_assert_str_eq(cellos_wire_status_name(status), vector->error, "%s: got %s",
				 vector->name, cellos_wire_status_name(status));
		if (vector->kind == VECTOR_INVALID) {
			cr_assert_eq(error.status, status);
			cr_assert_eq(memcmp(&event, &zero_event, sizeof(event)), 0, "%s",
				     vector->name);
			continue;
		}
		wanted = vector_event(vector);
		cr_assert(same_event(&event, &wanted), "%s", vector->name);
		cr_assert_eq(event.guest_comm[event.guest_comm_len], 0);
	}
}

/* The same with the frame at the start of its memory: nothing before it is read. */
Test(vectors, decode_at_the_start)
{
	struct fenced fenced = fenced_new();

	for (size_t i = 0; i < vector_count; i++) {
		const struct vector *vector = &vectors[i];
		struct cellos_probe_event event;
		uint8_t *frame = fenced_at_start(&fenced, vector->frame, vector->frame_length);
		enum cellos_wire_status status =
			cellos_decode_frame(frame, vector->frame_length, &event, NULL);

		cr_assert_str_eq(cellos_wire_status_name(status), vector->error);
	}
}

Test(vectors, encode)
{
	uint8_t out[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length;

	for (size_t i = 0; i < vector_count && vectors[i].kind == VECTOR_VALID; i++) {
		const struct vector *vector = &vectors[i];
		struct cellos_probe_event event = vector_event(vector);

		cr_assert_eq(cellos_encode_frame(&event, out, sizeof(out), &length, NULL), 0);
		cr_assert_eq(length, vector->frame_length);
		cr_assert_eq(memcmp(out, vector->frame, length), 0, "%s", vector->name);
		cr_assert_eq(cellos_encode_event_body(&event, out, sizeof(out), &length, NULL), 0);
		cr_assert_eq(length, vector->frame_length - 4);
		cr_assert_eq(memcmp(out, vector->frame + 4, length), 0, "%s", vector->name);
	}
}

typedef enum cellos_wire_status (*encode_function)(const struct cellos_probe_event *, uint8_t *,
						   size_t, size_t *, struct cellos_wire_error *);

/* Buffers of 0 bytes up to well beyond what the fast path asks for, each ending at a fence. */
static void encode_into_every_size(encode_function encode, const struct cellos_probe_event *event,
				   const char *wanted, size_t wanted_length,
				   const struct fenced *fenced)
{
	for (size_t size = 0; size <= CELLOS_ENCODED_FRAME_MAX_BYTES + 8; size++) {
		uint8_t *out = fenced->end - size;
		struct cellos_wire_error error = {.needed = 4711};
		enum cellos_wire_status status;
		size_t length = 4711;

		memset(out - 16, 0xa5, size + 16);
		status = encode(event, size == 0 ? NULL : out, size, &length, &error);
		for (size_t i = 1; i <= 16; i++)
			cr_assert_eq(out[-(ptrdiff_t)i], 0xa5, "wrote before the buffer");
		if (size < wanted_length) {
			cr_assert_eq(status, CELLOS_WIRE_BUFFER_TOO_SMALL);
			cr_assert_eq(error.status, status);
			cr_assert_eq(error.needed, wanted_length);
			cr_assert_eq(length, 0);
			for (size_t i = 0; i < size; i++)
				cr_assert_eq(out[i], 0xa5, "wrote although it does not fit");
		} else {
			cr_assert_eq(status, CELLOS_WIRE_OK);
			cr_assert_eq(length, wanted_length);
			cr_assert_eq(memcmp(out, wanted, length), 0);
			cr_assert_eq(error.needed, 4711, "error touched on success");
		}
	}
}

Test(vectors, every_valid_one_into_every_buffer)
{
	struct fenced fenced = fenced_new();

	for (size_t i = 0; i < vector_count && vectors[i].kind == VECTOR_VALID; i++) {
		const struct vector *vector = &vectors[i];
		struct cellos_probe_event event = vector_event(vector);

		encode_into_every_size(cellos_encode_frame, &event, vector->frame,
				       vector->frame_length, &fenced);
		encode_into_every_size(cellos_encode_event_body, &event, vector->frame + 4,
				       vector->frame_length - 4, &fenced);
	}
}

static void check_cut_frame(const struct vector *vector, size_t cut,
			    const struct cellos_wire_error *error, uint32_t declared)
{
	if (cut < 4) {
		cr_assert_eq(error->status, CELLOS_WIRE_SHORT_HEADER);
		cr_assert_eq(error->got, cut);
	} else if (declared > CELLOS_MAX_FRAME_BODY_BYTES) {
		cr_assert_eq(error->status, CELLOS_WIRE_FRAME_TOO_LARGE);
		cr_assert_eq(error->len, declared);
	} else if (cut - 4 < declared) {
		cr_assert_eq(error->status, CELLOS_WIRE_FRAME_TRUNCATED, "%s", vector->name);
		cr_assert_eq(error->declared, declared);
		cr_assert_eq(error->actual, cut - 4);
	}
}

Test(vectors, every_frame_cut_at_every_length)
{
	struct fenced fenced = fenced_new();

	for (size_t i = 0; i < vector_count; i++) {
		const struct vector *vector = &vectors[i];
		const uint8_t *bytes = (const uint8_t *)vector->frame;
		uint32_t declared = 0;

		if (vector->frame_length >= 4)
			declared = bytes[0] | bytes[1] << 8 | bytes[2] << 16 |
				   (uint32_t)bytes[3] << 24;
		for (size_t cut = 0; cut < vector->frame_length; cut++) {
			struct cellos_probe_event event;
			struct cellos_wire_error error = {0};
			uint8_t *frame = fenced_at_end(&fenced, bytes, cut);

			(void)!cellos_decode_frame(frame, cut, &event, &error);
			check_cut_frame(vector, cut, &error, declared);
		}
	}
}

/* A body that ends early is told so, wherever it is cut. */
Test(vectors, every_body_cut_at_every_length)
{
	struct fenced fenced = fenced_new();

	for (size_t i = 0; i < vector_count; i++) {
		const struct vector *vector = &vectors[i];
		size_t body = vector->frame_length < 4 ? 0 : vector->frame_length - 4;

		for (size_t cut = 0; cut < body; cut++) {
			struct cellos_probe_event event;
			struct cellos_wire_error error = {0};
			uint8_t *bytes = fenced_at_end(&fenced, vector->frame + 4, cut);
			enum cellos_wire_status status =
				cellos_decode_event_body(bytes, cut, &event, &error);

			if (vector->kind != VECTOR_INVALID)
				cr_assert_eq(status, CELLOS_WIRE_UNEXPECTED_EOF, "%s cut at %zu",
					     vector->name, cut);
			cr_assert_eq(error.status, status);
			if (status != CELLOS_WIRE_OK)
				cr_assert_eq(memcmp(&event, &zero_event, sizeof(event)), 0);
		}
	}
}
