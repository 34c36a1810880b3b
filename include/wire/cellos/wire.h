/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The wire: events to CBOR frames and back (docs/wire.md is the contract, RFC 8949 the encoding).
 *
 *   frame = 4-byte little-endian length of the body, then the body
 *   body  = CBOR map of exactly 5 pairs, at most CELLOS_MAX_FRAME_BODY_BYTES bytes
 *
 * Every function is pure: it reads and writes the caller's memory alone, allocates nothing, keeps
 * no state between calls, makes no system call, and may be called from any thread. The only
 * exception is struct cellos_stream, which belongs to one thread at a time.
 */
#ifndef CELLOS_WIRE_H
#define CELLOS_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/event.h"
#include "cellos/export.h"

#ifdef __cplusplus
extern "C" {
#endif

#define CELLOS_MAX_FRAME_BODY_BYTES 4096
#define CELLOS_FRAME_PREFIX_BYTES 4
/* VMADDR_CID_HOST of vsock(7), and the port the host listens on. */
#define CELLOS_VMADDR_CID_HOST 2
#define CELLOS_VSOCK_TELEMETRY_PORT 9001
/* content_version: the major is the high byte, so major 1 minor 0 is 256. */
#define CELLOS_WIRE_CONTENT_VERSION_MAJOR 1
#define CELLOS_WIRE_CONTENT_VERSION (CELLOS_WIRE_CONTENT_VERSION_MAJOR << 8)
/*
 * No frame that our encoder makes is longer: 4 prefix, 1 map head, the five keys with their heads
 * (16 + 13 + 10 + 11 + 19), version 3, the longest source name with its head 2 + 44, pid 5, name
 * 2 + 64, time 9. A caller that always offers this much never meets BufferTooSmall.
 */
#define CELLOS_ENCODED_FRAME_MAX_BYTES 203

/* ---- names ---------------------------------------------------------------------------------- */

#define CELLOS_PROBE_SOURCE_PROCESS_SPAWNED "process.spawned"
#define CELLOS_PROBE_SOURCE_PROCESS_EXITED "process.exited"
#define CELLOS_PROBE_SOURCE_CAPABILITY_DENIED "capability.denied"
#define CELLOS_PROBE_SOURCE_FS_INOTIFY_FIRED "fs.inotify_fired"
#define CELLOS_PROBE_SOURCE_NET_CONNECT_ATTEMPTED "net.connect_attempted"
#define CELLOS_PROBE_SOURCE_TELEMETRY_DROPPED "cell.observability.guest.telemetry.dropped"
#define CELLOS_PROBE_SOURCE_TELEMETRY_HEARTBEAT "cell.observability.guest.telemetry.heartbeat"

/* ALL: the five names that are events, in the order of enum cellos_probe_source. */
CELLOS_EXPORT extern const char *const cellos_probe_source_all[CELLOS_SOURCE_EVENT_COUNT];

/* True for all seven names. The text need not end in NUL. */
CELLOS_EXPORT bool cellos_probe_source_is_known(const char *name, size_t length);
/* True for the two names by which the agent reports on itself. */
CELLOS_EXPORT bool cellos_probe_source_is_self_report(const char *name, size_t length);
/* The enum value of a name, or -1. */
CELLOS_EXPORT int cellos_probe_source_from_name(const char *name, size_t length);
/* The name of an enum value, static storage; NULL when out of range. */
CELLOS_EXPORT const char *cellos_probe_source_name(unsigned source);

/* ---- errors --------------------------------------------------------------------------------- */

enum cellos_wire_status {
	CELLOS_WIRE_OK = 0,
	CELLOS_WIRE_SHORT_HEADER,
	CELLOS_WIRE_FRAME_TOO_LARGE,
	CELLOS_WIRE_FRAME_TRUNCATED,
	CELLOS_WIRE_UNEXPECTED_EOF,
	CELLOS_WIRE_UNSUPPORTED_MAJOR,
	CELLOS_WIRE_UNSUPPORTED_ADDITIONAL,
	CELLOS_WIRE_NOT_MAP5,
	CELLOS_WIRE_CONTENT_VERSION_MUST_BE_FIRST,
	CELLOS_WIRE_UNSUPPORTED_CONTENT_VERSION,
	CELLOS_WIRE_MISSING_FIELD, /* kept for the reference's API; five distinct keys leave it no
				      room */
	CELLOS_WIRE_BUFFER_TOO_SMALL,
	CELLOS_WIRE_FIELD_TYPE,
	CELLOS_WIRE_INTEGER_OVERFLOW,
	CELLOS_WIRE_UNKNOWN_PROBE_SOURCE,
	CELLOS_WIRE_INVALID_UTF8,
	CELLOS_WIRE_DUPLICATE_FIELD,
	CELLOS_WIRE_UNKNOWN_FIELD,
	CELLOS_WIRE_TRAILING_BYTES,
	CELLOS_WIRE_FIELD_TOO_LONG,
	CELLOS_WIRE_STATUS_COUNT
};

/* The five fields in wire order; CELLOS_FIELD_KEY stands for "a key", where no field is known. */
enum cellos_wire_field {
	CELLOS_FIELD_CONTENT_VERSION = 0,
	CELLOS_FIELD_PROBE_SOURCE,
	CELLOS_FIELD_GUEST_PID,
	CELLOS_FIELD_GUEST_COMM,
	CELLOS_FIELD_GUEST_MONOTONIC_NS,
	CELLOS_FIELD_KEY,
	CELLOS_FIELD_COUNT
};

/*
 * The details of a failure. Only the members named for its status are set; the rest is zero. A call
 * that succeeds leaves it as it was.
 */
struct cellos_wire_error {
	enum cellos_wire_status status;
	enum cellos_wire_field field; /* FieldType, IntegerOverflow, InvalidUtf8, MissingField */
	uint8_t major;                /* FieldType, UnsupportedMajor: 0..7 */
	uint8_t additional;           /* UnsupportedAdditional: 28..31 */
	uint16_t version;             /* UnsupportedContentVersion */
	uint32_t got;                 /* ShortHeader: bytes there, 0..3 */
	uint32_t len;                 /* FrameTooLarge: declared body bytes */
	uint32_t declared;            /* FrameTruncated: body bytes declared */
	uint32_t actual;              /* FrameTruncated: body bytes there */
	size_t needed;                /* BufferTooSmall: bytes the whole output takes */
	const char *text;             /* UnknownProbeSource: borrowed from the input, no NUL; NULL
					 when encoding, which has no text */
	size_t text_length;           /* UnknownProbeSource */
};

/* "NotMap5" and so on, as docs/wire.md spells them; "Ok" for 0; "?" when out of range. */
CELLOS_EXPORT const char *cellos_wire_status_name(enum cellos_wire_status status);
/* "guest_pid" and so on; "key" for CELLOS_FIELD_KEY; "?" when out of range. */
CELLOS_EXPORT const char *cellos_wire_field_name(enum cellos_wire_field field);

/* ---- one event, one frame ------------------------------------------------------------------- */

/*
 * Encode. Writes at most `capacity` bytes at `out`, the shortest form of everything, keys in wire
 * order; `*length` gets the bytes written. On failure nothing that a reader could take for a frame
 * is left, *length is 0 and `error` (may be NULL) tells why. `out` may be NULL when capacity is 0:
 * BufferTooSmall then measures. `event` and `out` must not overlap.
 *
 * Fails with, in this order: UnsupportedContentVersion, UnknownProbeSource, InvalidUtf8,
 * FieldTooLong, BufferTooSmall. The content is looked at first, the space last.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK enum cellos_wire_status
cellos_encode_event_body(const struct cellos_probe_event *event, uint8_t *out, size_t capacity,
			 size_t *length, struct cellos_wire_error *error);
CELLOS_EXPORT CELLOS_MUST_CHECK enum cellos_wire_status
cellos_encode_frame(const struct cellos_probe_event *event, uint8_t *out, size_t capacity,
		    size_t *length, struct cellos_wire_error *error);

/*
 * Decode exactly one body, or one frame, of `length` bytes. The input is hostile: nothing outside
 * it is read, the first error in byte order wins, and `*event` is all zero after a failure. `error`
 * may be NULL.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK enum cellos_wire_status
cellos_decode_event_body(const uint8_t *body, size_t length, struct cellos_probe_event *event,
			 struct cellos_wire_error *error);
CELLOS_EXPORT CELLOS_MUST_CHECK enum cellos_wire_status
cellos_decode_frame(const uint8_t *frame, size_t length, struct cellos_probe_event *event,
		    struct cellos_wire_error *error);

/*
 * A kernel name made fit for the wire: each maximal subpart of an invalid sequence becomes U+FFFD
 * (Unicode 15, section 3.9; Python's errors="replace"), cut after 16 characters. Fills guest_comm
 * and guest_comm_len, and nothing else. ASCII of at most 15 bytes costs one comparison of two
 * words. `raw` holds `length` bytes, of which at most 64 are looked at.
 */
CELLOS_EXPORT void cellos_guest_comm_set(struct cellos_probe_event *event, const char *raw,
					 size_t length);
/* The same for a whole raw event: all five fields of `event` are set. */
CELLOS_EXPORT void cellos_probe_event_from_raw(struct cellos_probe_event *event,
					       const struct cellos_raw_event *raw);

/* ---- self-reports --------------------------------------------------------------------------- */

/* Counts on the wire wrap at these; the ledger says why that is enough. */
#define CELLOS_EPOCH_MODULUS UINT64_C(100000)
#define CELLOS_SENT_MODULUS UINT64_C(10000000000)
#define CELLOS_DROPPED_MODULUS UINT64_C(10000000000000)

struct cellos_self_report {
	uint8_t source; /* CELLOS_SOURCE_TELEMETRY_HEARTBEAT or _DROPPED */
	uint8_t lane;   /* dropped: enum cellos_lane_id */
	uint8_t reason; /* dropped: enum cellos_drop_reason */
	uint32_t epoch; /* heartbeat: 1..99999; 0 is the goodbye */
	uint64_t count; /* heartbeat: sent, modulo 10^10; dropped: modulo 10^13 */
};

/* The letters of a row: p f c n, and q k o s x. 0 when out of range. */
CELLOS_EXPORT char cellos_lane_letter(unsigned lane);
CELLOS_EXPORT char cellos_drop_reason_letter(unsigned reason);
/* "proc", "fs", "cap", "net"; NULL when out of range. */
CELLOS_EXPORT const char *cellos_lane_name(unsigned lane);

/*
 * Write a self-report into `event`: source and name. The counts are reduced by their moduli here.
 * guest_pid and guest_monotonic_ns are the caller's to set.
 */
CELLOS_EXPORT void cellos_self_report_set(struct cellos_probe_event *event,
					  const struct cellos_self_report *report);
/*
 * Read a self-report out of a decoded event. 0, or -EINVAL when the name does not parse (a sound
 * frame, but a bad report: leading zeros, no digits, too many, an unknown row) or is no
 * self-report.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK int cellos_self_report_parse(const struct cellos_probe_event *event,
							     struct cellos_self_report *report);

/* ---- a stream of frames --------------------------------------------------------------------- */

enum cellos_stream_status {
	CELLOS_STREAM_FRAME = 0, /* *frame and *length are set */
	CELLOS_STREAM_MORE,      /* all bytes fed are taken: feed again */
	CELLOS_STREAM_LOST       /* a prefix over the limit: framing is gone for good */
};

/*
 * Cuts a byte stream into frames, whatever the pieces it comes in. Zero-initialise it, or
 * cellos_stream_init. Feed a piece, then call next until it says MORE; the piece must stay in place
 * until then. Frames that lie whole in a piece are handed out in place; only a frame cut by the end
 * of a piece is copied. A cut frame at the end of the stream is neither event nor error:
 * cellos_stream_pending tells how much of one there is.
 */
struct cellos_stream {
	const uint8_t *piece; /* borrowed between feed and MORE */
	size_t piece_left;
	size_t carried;       /* bytes in carry */
	uint32_t lost_length; /* the prefix that ended the framing */
	bool lost;
	uint8_t carry[CELLOS_FRAME_PREFIX_BYTES + CELLOS_MAX_FRAME_BODY_BYTES];
};

CELLOS_EXPORT void cellos_stream_init(struct cellos_stream *stream);
/* Only after next said MORE (or at first): what was left of the piece before would be lost. */
CELLOS_EXPORT void cellos_stream_feed(struct cellos_stream *stream, const uint8_t *bytes,
				      size_t length);
/*
 * The next whole frame, prefix included, for cellos_decode_frame. *frame is borrowed until the next
 * call on this stream. After LOST every call says LOST; lost_length then tells the prefix.
 */
CELLOS_EXPORT CELLOS_MUST_CHECK enum cellos_stream_status
cellos_stream_next(struct cellos_stream *stream, const uint8_t **frame, size_t *length);
/* Bytes of a frame that has not ended yet. */
CELLOS_EXPORT size_t cellos_stream_pending(const struct cellos_stream *stream);

#ifdef __cplusplus
}
#endif

#endif
