/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The two shapes an event has on its way out of the guest, and the lanes it takes.
 *
 *   struct cellos_raw_event     what a probe saw: 32 bytes, the kernel's own bytes for the name.
 *                               Probes fill it, the queue carries it by value.
 *   struct cellos_probe_event   what travels: the name is valid UTF-8 of at most 16 characters.
 *                               The encoder reads it, the decoder fills it.
 *
 * Plain data: no function here, no ownership, no thread rule. Zero-initialise both.
 */
#ifndef CELLOS_EVENT_H
#define CELLOS_EVENT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A kernel name is at most TASK_COMM_LEN - 1 bytes (proc_pid_comm(5), PR_SET_NAME in prctl(2)). */
#define CELLOS_RAW_COMM_MAX_BYTES 15
/* On the wire: at most 16 characters, so at most 64 bytes of UTF-8. */
#define CELLOS_GUEST_COMM_MAX_CHARS 16
#define CELLOS_GUEST_COMM_MAX_BYTES 64

/* What fired. The order is ours alone: on the wire a source is its text name (cellos/wire.h). */
enum cellos_probe_source {
	CELLOS_SOURCE_PROCESS_SPAWNED = 0,
	CELLOS_SOURCE_PROCESS_EXITED,
	CELLOS_SOURCE_CAPABILITY_DENIED,
	CELLOS_SOURCE_FS_INOTIFY_FIRED,
	CELLOS_SOURCE_NET_CONNECT_ATTEMPTED,
	CELLOS_SOURCE_EVENT_COUNT, /* the five above are events; the two below are self-reports */
	CELLOS_SOURCE_TELEMETRY_DROPPED = CELLOS_SOURCE_EVENT_COUNT,
	CELLOS_SOURCE_TELEMETRY_HEARTBEAT,
	CELLOS_SOURCE_COUNT
};

/* One lane per probe; the letters p f c n of the ledger's rows stand in this order. */
enum cellos_lane_id {
	CELLOS_LANE_PROC = 0,
	CELLOS_LANE_FS,
	CELLOS_LANE_CAP,
	CELLOS_LANE_NET,
	CELLOS_LANE_COUNT
};

/* Why events of a lane are missing at the host; docs/ledger.md says what each one means. */
enum cellos_drop_reason {
	CELLOS_DROP_QUEUE_FULL = 0, /* q: our lane was full                      events, exact */
	CELLOS_DROP_KERNEL,         /* k: the kernel dropped records             records, exact */
	CELLOS_DROP_OVERFLOW,       /* o: the kernel dropped an unknown number   occasions */
	CELLOS_DROP_SUPPRESSED,     /* s: a probe folded repeats on purpose      events, exact */
	CELLOS_DROP_STOPPED,        /* x: left over when the agent had to stop   events, exact */
	CELLOS_DROP_COUNT
};

struct cellos_raw_event {
	uint64_t monotonic_ns; /* CLOCK_MONOTONIC when the probe fired */
	uint32_t pid;          /* thread group; the agent's own where the surface knows no actor */
	uint8_t source;        /* enum cellos_probe_source, one of the five events */
	uint8_t comm_len;      /* 0..15 */
	uint8_t reserved[2];   /* zero */
	char comm[16];         /* comm_len bytes as the kernel has them, then zeros */
};

struct cellos_probe_event {
	uint64_t guest_monotonic_ns;
	uint32_t guest_pid;
	uint16_t content_version; /* decoded: as received. To encode: 0 means the current one */
	uint8_t probe_source;     /* enum cellos_probe_source */
	uint8_t guest_comm_len;   /* bytes, 0..64; the name may itself hold NUL */
	/* A NUL follows the last byte after decoding. 16 bytes are readable whatever the length. */
	char guest_comm[CELLOS_GUEST_COMM_MAX_BYTES + 8];
};

#ifdef __cplusplus
}
#endif

#endif
