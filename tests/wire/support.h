/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the tests of the wire share: the vectors, memory that ends at an unmapped page, and a plain
 * encoder to compare ours with. One thread.
 */
#ifndef CELLOS_TESTS_WIRE_SUPPORT_H
#define CELLOS_TESTS_WIRE_SUPPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/wire.h"

enum vector_kind { VECTOR_VALID, VECTOR_TOLERATED, VECTOR_INVALID };

struct vector {
	enum vector_kind kind;
	const char *name;
	const char *frame;
	size_t frame_length;
	const char *source;
	uint32_t pid;
	const char *comm;
	size_t comm_length;
	uint64_t ns;
	const char *error;
};

extern const struct vector vectors[];
extern const size_t vector_count;

/* FENCED_BYTES of memory between two pages that nobody may touch. Never freed: a test ends soon. */
#define FENCED_BYTES 8192
struct fenced {
	uint8_t *first;
	uint8_t *end;
};
struct fenced fenced_new(void);
/* A copy of the bytes right before the page behind, and right behind the page before. */
uint8_t *fenced_at_end(const struct fenced *fenced, const void *bytes, size_t length);
uint8_t *fenced_at_start(const struct fenced *fenced, const void *bytes, size_t length);

/* The event of a valid or tolerated vector; content_version is read off the frame. */
struct cellos_probe_event vector_event(const struct vector *vector);

/* True when both are equal in every field and in the bytes of the name that count. */
bool same_event(const struct cellos_probe_event *a, const struct cellos_probe_event *b);

/* A frame made the slow and plain way, one head at a time; returns its length. */
size_t plain_frame(const struct cellos_probe_event *event, uint8_t *out);

#endif
