/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The process connector's messages, with records of the exit listener between them and walks after
 * losses, through the parsers to the events. Whatever comes, per number spawned and exited
 * alternate and nothing is held for ever.
 *
 * The input is a row of steps: a byte that says what, two with a length, and so many bytes.
 *   0   a message of the connector
 *   1   one of the exit listener; the record is the next exit's
 *   2   time: the length is its milliseconds, no bytes follow. What need not be held goes out
 *   3   a loss, and a walk: each two bytes are a pid, flags in its upper bits
 */
#include <errno.h>
#include <string.h>

#include "connector.h"
#include "fuzz.h"
#include "process_track.h"
#include "taskstats.h"

#define MAX_PROCESSES 16u
#define FAMILY 31u
#define MS UINT64_C(1000000)

static struct process_track track;
static uint8_t told[CELLOS_PID_LIMIT]; /* 1: spawned, 2: exited */
static uint32_t touched[4096];
static unsigned touched_count;
static uint64_t now;

static void emit(void *context, enum cellos_probe_source source, const struct proc_entry *entry,
		 uint64_t ns)
{
	uint8_t word = source == CELLOS_SOURCE_PROCESS_SPAWNED ? 1 : 2;

	(void)context;
	(void)ns;
	FUZZ_CHECK(entry->pid < CELLOS_PID_LIMIT && entry->comm_len <= 15);
	FUZZ_CHECK(told[entry->pid] == (word == 2 ? 1 : told[entry->pid] == 0 ? 0 : 2));
	if (told[entry->pid] == 0 && touched_count < 4096)
		touched[touched_count++] = entry->pid;
	told[entry->pid] = word;
}

/* Some are there, some are over, some have another's number. */
static int look(void *context, uint32_t pid, struct cellos_proc_stat *out)
{
	uint32_t dice = pid * 2654435769u >> 28;

	(void)context;
	if (pid >= CELLOS_PID_LIMIT || dice < 6)
		return dice == 0 ? -EACCES : -ENOENT;
	*out = (struct cellos_proc_stat){.pid = pid,
					 .ppid = 1,
					 .flags = dice == 7 ? CELLOS_PF_FORKNOEXEC : 0,
					 .starttime = 1 + (dice == 8 ? now / MS : 0),
					 .num_threads = 1,
					 .state = dice == 9 ? 'Z' : 'S',
					 .comm_len = 4,
					 .comm = "look"};
	return 0;
}

static void walk(const uint8_t *bytes, size_t len)
{
	process_track_lost(&track);
	process_track_walk_begin(&track);
	for (; len >= 2; bytes += 2, len -= 2) {
		uint32_t pid = (bytes[0] | (uint32_t)bytes[1] << 8) & 0x7fff;
		struct cellos_proc_stat stat;

		if (pid != 0 && look(NULL, pid, &stat) == 0) {
			stat.flags |= (bytes[1] & 0x80) != 0 ? CELLOS_PF_KTHREAD : 0;
			process_track_seen(&track, &stat, now);
		} else {
			process_track_unreadable(&track, pid);
		}
	}
	process_track_walk_end(&track, true, true, now);
}

static void take(const uint8_t *bytes, size_t len, struct process_exit *record, bool *recorded)
{
	struct connector_event event;

	if (connector_parse(bytes, len, &event) < 0)
		return;
	FUZZ_CHECK(event.what <= CONNECTOR_EXIT);
	if (event.what == CONNECTOR_FORK)
		process_track_fork(&track, event.parent, event.pid, event.tgid, now);
	else if (event.what == CONNECTOR_EXEC)
		process_track_exec(&track, event.tgid, now);
	else if (event.what == CONNECTOR_EXIT)
		process_track_exit(&track, event.pid, event.tgid, now, *recorded ? record : NULL);
	if (event.what == CONNECTOR_EXIT)
		*recorded = false;
}

static void run(const uint8_t *data, size_t size)
{
	const struct exit_layout layout = {.family = FAMILY};
	struct process_exit record;
	bool recorded = false;

	while (size >= 3) {
		size_t len = data[1] | (size_t)data[2] << 8;
		uint8_t what = data[0] % 4;

		data += 3;
		size -= 3;
		if (what == 2) {
			now += len * MS;
			FUZZ_CHECK(process_track_settle(&track, now) > now);
			continue;
		}
		len = len < size ? len : size;
		now += MS / 8;
		if (what == 0)
			take(data, len, &record, &recorded);
		else if (what == 1)
			recorded = exit_record_parse(data, len, layout, &record) == 0;
		else
			walk(data, len);
		data += len;
		size -= len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct process_track_config config = {.max = MAX_PROCESSES,
							   .kthreadd = 2,
							   .hold_ns = 20 * MS,
							   .told_exits = true,
							   .emit = emit,
							   .look = look};
	void *memory = calloc(1, process_track_bytes(MAX_PROCESSES));

	FUZZ_CHECK(memory != NULL);
	now = 1000 * MS;
	process_track_init(&track, &config, memory);
	process_track_walk_begin(&track); /* nobody there at first */
	process_track_walk_end(&track, true, true, now);
	run(data, size);
	now += 100 * MS;
	FUZZ_CHECK(process_track_settle(&track, now) == UINT64_MAX && track.held_count == 0);
	process_track_flush(&track, now);
	while (touched_count > 0)
		told[touched[--touched_count]] = 0;
	free(memory);
	return 0;
}
