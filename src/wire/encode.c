/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Events to frames. Pure functions over the caller's memory, any thread.
 *
 * A frame differs from the next one in its source, two integers and a name; the rest, five keys
 * and the heads around them, never changes. So each source has its frame up to and including the
 * key "guest_pid" ready, and a frame is made of stores of fixed size at computed places:
 *
 *	lead[source]              80 or 96 bytes, of which lead.length count
 *	pid                       8 bytes that end where the pid ends
 *	key "guest_comm"          16 bytes, of which 11 count
 *	name's head, name         1 + 16 bytes, of which 1 + length count
 *	key "guest_monotonic_ns"  16 + 4 bytes, with the head that a real time has
 *	time                      8 bytes that end where the frame ends
 *	prefix                    4 bytes over the lead
 *
 * What a store writes beyond its counted bytes, the later ones cover; so their order matters.
 * Nothing branches on a value, since pids and times that change size now and then would be
 * mispredicted. No store ends beyond CELLOS_ENCODED_FRAME_MAX_BYTES (asserted below), so this path
 * is taken only when the caller offers that much; with less, and for names that are not plain
 * ASCII, the frame is made on the stack and copied if it fits.
 *
 * Words are swapped, never cast; a big-endian machine takes the same code. Refused: anything that
 * our own decoder would refuse.
 */
#include "cellos/wire.h"

#include <endian.h>
#include <stddef.h>
#include <string.h>

#include "sources.h"
#include "utf8.h"

#define RARE(condition) __builtin_expect(condition, 0)

/* ---- the constant parts --------------------------------------------------------------------- */

#define HEAD_MAP5 "\xa5"
/* Heads of the keys in octal: a hexadecimal escape would swallow the c of "content". */
#define KEY_CONTENT_VERSION "\157content_version"
#define KEY_PROBE_SOURCE "\154probe_source"
#define KEY_GUEST_PID "\151guest_pid"
#define KEY_GUEST_COMM "\152guest_comm"
#define KEY_GUEST_MONOTONIC_NS "\162guest_monotonic_ns"
#define BYTES(literal) (sizeof(literal) - 1)

#define BEFORE_MINOR "\0\0\0\0" HEAD_MAP5 KEY_CONTENT_VERSION "\x19\x01"
#define LEAD(head, name) BEFORE_MINOR "\0" KEY_PROBE_SOURCE head name KEY_GUEST_PID

#define MAJOR_TEXT 0x60
#define ONE_BYTE_FOLLOWS 0x18
/* Lengths and values below this stand in the head itself. */
#define IN_HEAD 24

enum {
	MINOR_AT = BYTES(BEFORE_MINOR),
	EVENT_LEAD_COPY = 80, /* what is copied, whatever counts */
	LEAD_COPY = 96,       /* the same for self-reports, which are rare */
	PLAIN_NAME = 16,      /* one vector; no kernel name is longer */
	UINT32_MAX_BYTES = 5,
	UINT64_MAX_BYTES = 9,
};

struct lead {
	/* A body begins 4 bytes later and copies as much. */
	uint8_t bytes[LEAD_COPY + CELLOS_FRAME_PREFIX_BYTES];
	uint8_t length;
	uint8_t pad[27]; /* to 128: a shift finds the entry, and none crosses a third line */
} __attribute__((aligned(64)));

#define LEAD_ENTRY(source, head, name_bytes)                                                       \
	[CELLOS_SOURCE_##source] = {.length = BYTES(LEAD(head, CELLOS_PROBE_SOURCE_##source)),     \
				    .bytes = LEAD(head, CELLOS_PROBE_SOURCE_##source)},
#define CHECK_HEAD(source, head, name_bytes)                                                       \
	_Static_assert(BYTES(CELLOS_PROBE_SOURCE_##source) == (name_bytes), "length of the name");

static const struct lead leads[CELLOS_SOURCE_COUNT] = {CELLOS_EACH_SOURCE(LEAD_ENTRY)};

CELLOS_EACH_SOURCE(CHECK_HEAD)
_Static_assert(CELLOS_WIRE_CONTENT_VERSION_MAJOR == 1, "the lead holds the major as a byte");

#define LONGEST_LEAD LEAD("\x78\x2c", CELLOS_PROBE_SOURCE_TELEMETRY_HEARTBEAT)

_Static_assert(BYTES(LONGEST_LEAD) <= LEAD_COPY, "the copied part holds every lead");
_Static_assert(BYTES(LEAD("\x75", CELLOS_PROBE_SOURCE_NET_CONNECT_ATTEMPTED)) <= EVENT_LEAD_COPY,
	       "the copied part holds every event's lead");
_Static_assert(BYTES(LONGEST_LEAD) + UINT32_MAX_BYTES + BYTES(KEY_GUEST_COMM) + 2 +
			       CELLOS_GUEST_COMM_MAX_BYTES + BYTES(KEY_GUEST_MONOTONIC_NS) +
			       UINT64_MAX_BYTES ==
		       CELLOS_ENCODED_FRAME_MAX_BYTES,
	       "the header's bound is the real one");
/* Of a plain frame's stores the last one reaches furthest, and it ends where the frame ends. */
_Static_assert(BYTES(LONGEST_LEAD) + UINT32_MAX_BYTES + BYTES(KEY_GUEST_COMM) + 1 + PLAIN_NAME +
			       BYTES(KEY_GUEST_MONOTONIC_NS) + UINT64_MAX_BYTES <=
		       CELLOS_ENCODED_FRAME_MAX_BYTES,
	       "no fixed store ends beyond the bound");
_Static_assert(PLAIN_NAME <= CELLOS_GUEST_COMM_MAX_CHARS, "a plain name is never too long");
_Static_assert(PLAIN_NAME <= sizeof(((struct cellos_probe_event *)NULL)->guest_comm),
	       "a plain name can be read whole");

/* ---- stores --------------------------------------------------------------------------------- */

/*
 * 16 bytes are one vector register. The copies are written out one by one: of a loop, and of one
 * longer constant memcpy under -Os, the compiler would make a call.
 */
static inline void copy16(uint8_t *restrict out, const void *restrict in)
{
	memcpy(out, in, 16);
}

static inline void copy_lead(uint8_t *restrict out, const uint8_t *restrict in, bool self_report)
{
	copy16(out, in);
	copy16(out + 16, in + 16);
	copy16(out + 32, in + 32);
	copy16(out + 48, in + 48);
	copy16(out + 64, in + 64);
	if (RARE(self_report))
		copy16(out + EVENT_LEAD_COPY, in + EVENT_LEAD_COPY);
}

static inline void store_be64(uint8_t *out, uint64_t value)
{
	value = htobe64(value);
	memcpy(out, &value, sizeof(value));
}

static inline void store_le32(uint8_t *out, uint32_t value)
{
	value = htole32(value);
	memcpy(out, &value, sizeof(value));
}

/* The borrow of a subtraction, which the next subtraction can take along. */
static inline unsigned below(uint64_t value, uint64_t limit)
{
	uint64_t difference;

	return __builtin_sub_overflow(value, limit, &difference);
}

/*
 * Hides where a value comes from, so that the compiler takes the steps as written: gcc would turn
 * each borrow into a number of its own first, and would compute the lead's place twice.
 */
#define AS_WRITTEN(value) __asm__("" : "+r"(value))

/* The shortest form by size class: 0 in the head, 1..4 with 1, 2, 4 or 8 bytes behind it. */
static inline unsigned class_of(uint64_t value)
{
	unsigned class = 4;

	class -= below(value, IN_HEAD);
	AS_WRITTEN(class);
	class -= below(value, UINT64_C(1) << 8);
	AS_WRITTEN(class);
	class -= below(value, UINT64_C(1) << 16);
	AS_WRITTEN(class);
	class -= below(value, UINT64_C(1) << 32);
	return class;
}

#define WORD(a, b, c, d, e, f, g, h)                                                               \
	((uint64_t)(a) << 56 | (uint64_t)(b) << 48 | (uint64_t)(c) << 40 | (uint64_t)(d) << 32 |   \
	 (uint64_t)(e) << 24 | (uint64_t)(f) << 16 | (uint64_t)(g) << 8 | (uint64_t)(h))

/*
 * By class: the word that a value is laid over, and the bytes that head and value take. The word
 * ends where the value ends, so nothing is shifted into place; before the value stand its head and
 * the end of its key. In class 0 the value is its own head, in class 4 it fills the word.
 */
/* clang-format off */
static const struct {
	uint64_t pid[4];
	uint64_t time[5];
	uint8_t bytes[5];
} shapes = {
	.pid = {WORD('e', 's', 't', '_', 'p', 'i', 'd', 0),
		WORD('s', 't', '_', 'p', 'i', 'd', 0x18, 0),
		WORD('t', '_', 'p', 'i', 'd', 0x19, 0, 0),
		WORD('p', 'i', 'd', 0x1a, 0, 0, 0, 0)},
	.time = {WORD('o', 'n', 'i', 'c', '_', 'n', 's', 0),
		 WORD('n', 'i', 'c', '_', 'n', 's', 0x18, 0),
		 WORD('i', 'c', '_', 'n', 's', 0x19, 0, 0),
		 WORD('_', 'n', 's', 0x1a, 0, 0, 0, 0),
		 0},
	.bytes = {1, 2, 3, 5, 9},
};
/* clang-format on */

/* Behind the key "guest_pid"; returns how many bytes count: 1, 2, 3 or 5. */
static inline size_t put_pid(uint8_t *out, uint32_t value)
{
	unsigned class = class_of(value);
	size_t bytes = shapes.bytes[class];

	store_be64(out + bytes - 8, shapes.pid[class] | value);
	return bytes;
}

/* 16 bytes are readable whatever the length. */
static inline size_t put_plain_name(uint8_t *out, const struct cellos_probe_event *event)
{
	out[0] = (uint8_t)(MAJOR_TEXT | event->guest_comm_len);
	copy16(out + 1, event->guest_comm);
	return 1 + (size_t)event->guest_comm_len;
}

static inline size_t put_any_name(uint8_t *out, const struct cellos_probe_event *event)
{
	size_t length = event->guest_comm_len, at = 0;

	if (length < IN_HEAD) {
		out[at++] = (uint8_t)(MAJOR_TEXT | length);
	} else {
		out[at++] = MAJOR_TEXT | ONE_BYTE_FOLLOWS;
		out[at++] = (uint8_t)length;
	}
	memcpy(out + at, event->guest_comm, length);
	return at + length;
}

/* The key "guest_monotonic_ns" and its value; returns how many bytes count. */
static inline size_t put_time(uint8_t *out, uint64_t value)
{
	static const uint8_t key_and_head[] = KEY_GUEST_MONOTONIC_NS "\x1b"; /* class 4 */
	unsigned class = class_of(value);
	size_t end = BYTES(KEY_GUEST_MONOTONIC_NS) + shapes.bytes[class];

	copy16(out, key_and_head);
	memcpy(out + 16, key_and_head + 16, BYTES(KEY_GUEST_MONOTONIC_NS) + 1 - 16);
	store_be64(out + end - 8, shapes.time[class] | value);
	return end;
}

/*
 * The frame of a checked event, or from `skip` = 4 on its body. `out` takes
 * CELLOS_ENCODED_FRAME_MAX_BYTES. Places are counted from 0, not from `out`: so a frame's length
 * does not wait for the frame before it.
 */
static inline __attribute__((always_inline)) size_t
put(const struct cellos_probe_event *event, uint8_t *restrict out, size_t skip, bool plain)
{
	static const uint8_t comm_key[16] = KEY_GUEST_COMM;
	const struct lead *lead = &leads[event->probe_source];
	size_t at;

	AS_WRITTEN(lead);
	at = lead->length - skip;
	copy_lead(out, lead->bytes + skip, event->probe_source >= CELLOS_SOURCE_EVENT_COUNT);
	if (!plain) /* a plain event has the version that the lead has */
		out[MINOR_AT - skip] = (uint8_t)event->content_version;
	at += put_pid(out + at, event->guest_pid);
	copy16(out + at, comm_key);
	at += BYTES(KEY_GUEST_COMM);
	at += plain ? put_plain_name(out + at, event) : put_any_name(out + at, event);
	at += put_time(out + at, event->guest_monotonic_ns);
	if (skip == 0)
		store_le32(out, (uint32_t)(at - CELLOS_FRAME_PREFIX_BYTES));
	return at;
}

/* ---- checks --------------------------------------------------------------------------------- */

/* 0 stands for the current version, whose minor byte is 0 too: the low byte is right as it is. */
static bool version_fits(uint16_t version)
{
	return version == 0 || version >> 8 == CELLOS_WIRE_CONTENT_VERSION_MAJOR;
}

static inline bool version_is_current(uint16_t version)
{
	return (version & ~CELLOS_WIRE_CONTENT_VERSION) == 0;
}

static inline bool name_is_plain(const struct cellos_probe_event *event)
{
	return event->guest_comm_len <= PLAIN_NAME && cellos_ascii16(event->guest_comm);
}

/* What is wrong with an event, in wire order, like the decoder. */
static enum cellos_wire_status check(const struct cellos_probe_event *event)
{
	long characters;

	if (!version_fits(event->content_version))
		return CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION;
	if (event->probe_source >= CELLOS_SOURCE_COUNT)
		return CELLOS_WIRE_UNKNOWN_PROBE_SOURCE;
	if (event->guest_comm_len > CELLOS_GUEST_COMM_MAX_BYTES)
		return CELLOS_WIRE_FIELD_TOO_LONG; /* the rest is not ours to read */
	characters = cellos_utf8_count((const uint8_t *)event->guest_comm, event->guest_comm_len);
	if (characters < 0)
		return CELLOS_WIRE_INVALID_UTF8;
	return characters > CELLOS_GUEST_COMM_MAX_CHARS ? CELLOS_WIRE_FIELD_TOO_LONG
							: CELLOS_WIRE_OK;
}

/* Everything but the plain case: errors, names beyond ASCII, other minors, little room. */
static __attribute__((noinline)) enum cellos_wire_status
encode_carefully(const struct cellos_probe_event *event, uint8_t *out, size_t capacity,
		 size_t *length, struct cellos_wire_error *error, size_t skip)
{
	uint8_t made[CELLOS_ENCODED_FRAME_MAX_BYTES];
	enum cellos_wire_status status = check(event);
	size_t total = status == CELLOS_WIRE_OK ? put(event, made, skip, false) : 0;

	if (total > capacity)
		status = CELLOS_WIRE_BUFFER_TOO_SMALL;
	*length = status == CELLOS_WIRE_OK ? total : 0;
	if (*length > 0)
		memcpy(out, made, total);
	else if (error != NULL)
		*error = (struct cellos_wire_error){
			.status = status,
			.field = status == CELLOS_WIRE_INVALID_UTF8 ? CELLOS_FIELD_GUEST_COMM : 0,
			.version = status == CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION
					   ? event->content_version
					   : 0,
			.needed = total, /* not 0 only when the room was too small */
		};
	return status;
}

static inline __attribute__((always_inline)) enum cellos_wire_status
encode(const struct cellos_probe_event *event, uint8_t *out, size_t capacity, size_t *length,
       struct cellos_wire_error *error, size_t skip)
{
	if (RARE(event->probe_source >= CELLOS_SOURCE_COUNT) ||
	    RARE(!version_is_current(event->content_version)) || RARE(!name_is_plain(event)) ||
	    RARE(capacity < CELLOS_ENCODED_FRAME_MAX_BYTES))
		return encode_carefully(event, out, capacity, length, error, skip);
	*length = put(event, out, skip, true);
	return CELLOS_WIRE_OK;
}

enum cellos_wire_status cellos_encode_event_body(const struct cellos_probe_event *event,
						 uint8_t *out, size_t capacity, size_t *length,
						 struct cellos_wire_error *error)
{
	return encode(event, out, capacity, length, error, CELLOS_FRAME_PREFIX_BYTES);
}

enum cellos_wire_status cellos_encode_frame(const struct cellos_probe_event *event, uint8_t *out,
					    size_t capacity, size_t *length,
					    struct cellos_wire_error *error)
{
	return encode(event, out, capacity, length, error, 0);
}
