/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the page of a run knows: made line by line in page_model.c, written out in page_html.c.
 *
 * One thread; all memory belongs to the model. Everything is bounded by the limits below, and what
 * goes beyond is counted.
 */
#ifndef CELLOS_HOST_PAGE_MODEL_H
#define CELLOS_HOST_PAGE_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "cellos/wire.h"

#define PAGE_MAX_LINE_BYTES 65536u /* the longest line of ours is shorter */
#define PAGE_MAX_ACCOUNTS 64u
#define PAGE_MAX_PROCESSES 200000u
#define PAGE_MAX_MARKS 50000u
#define PAGE_MAX_NOTES 200u /* reports shown for each account */
#define PAGE_MAX_FAULTS 10u /* unreadable lines shown */
#define PAGE_NOTE_BYTES 256u
#define PAGE_LEDGER_BYTES 1024u
#define PAGE_BUCKETS 160u

#define PAGE_NONE UINT32_MAX

/*
 * Events over time. A bucket is 2^shift ns wide; counts[][0] is the bucket `first` of a grid that
 * begins at 0. When an event lies too far away, buckets become twice as wide.
 */
struct page_times {
	bool any;
	unsigned shift;
	uint64_t first, last;
	uint32_t counts[CELLOS_SOURCE_EVENT_COUNT][PAGE_BUCKETS];
};

struct page_note {
	char received[32];
	char text[PAGE_NOTE_BYTES]; /* as it was said; not escaped */
};

/* One agent's life in one run of one cell. */
struct page_account {
	char cell[65];
	char run[65];
	uint64_t incarnation;
	char hash[129];
	char first_received[32], last_received[32];

	uint64_t events[CELLOS_SOURCE_EVENT_COUNT];
	uint64_t total; /* of them all */
	uint64_t first_ns, last_ns;
	uint64_t first_seq, last_seq; /* 0: lines without */
	struct page_times times;
	uint32_t processes;

	uint64_t heartbeats, epoch;
	uint64_t dropped[CELLOS_LANE_COUNT][CELLOS_DROP_COUNT];
	bool any_dropped;
	uint64_t reports; /* but heartbeats */
	struct page_note *notes;
	uint32_t note_count;

	bool settled; /* a ledger row came: */
	bool says_unsettled;
	int64_t unsettled;
	char ledger[PAGE_LEDGER_BYTES]; /* "frames=12 events=12" */
};

struct page_process {
	uint32_t account;
	uint32_t pid;
	bool began, ended; /* seen; else the bar is open at that end */
	uint64_t first_ns, last_ns;
	uint32_t denials, connects;
	char name[CELLOS_GUEST_COMM_MAX_BYTES + 1];
	uint8_t name_length;
	char last_name[CELLOS_GUEST_COMM_MAX_BYTES + 1]; /* after an exec */
	uint8_t last_name_length;
};

struct page_mark {
	uint32_t process;
	uint8_t source; /* CAPABILITY_DENIED or NET_CONNECT_ATTEMPTED */
	uint64_t ns;
};

struct page_fault {
	uint64_t line;
	const char *why; /* static */
};

struct page_model {
	struct page_account *accounts;
	uint32_t account_count;
	struct page_process *processes;
	uint32_t process_count, process_capacity;
	uint32_t *index; /* of the latest process of an account and pid; open addressing */
	uint32_t index_size;
	struct page_mark *marks;
	uint32_t mark_count;

	uint64_t lines;
	uint64_t unreadable;
	struct page_fault faults[PAGE_MAX_FAULTS];
	uint64_t left_out_lines; /* of accounts beyond the limit */
	uint64_t left_out_processes;
	uint64_t left_out_marks;
};

/* 0 or -ENOMEM. Needs destroy either way. */
CELLOS_MUST_CHECK int page_model_init(struct page_model *model);
void page_model_destroy(struct page_model *model);
/* One line without its end. 0 or -ENOMEM; a line that cannot be read is counted. */
CELLOS_MUST_CHECK int page_model_line(struct page_model *model, const char *line, size_t length);
/* A line that cannot be read, and why (static text). */
void page_model_fault(struct page_model *model, const char *why);

#endif
