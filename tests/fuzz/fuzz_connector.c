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

#include "fuzz.h"
#include "track_rig.h"

#define MAX_PROCESSES 16u
#define FAMILY 31u
#define MS UINT64_C(1000000)

static uint8_t told[CELLOS_PID_LIMIT]; /* 1: spawned, 2: exited */
static uint32_t touched[4096];
static unsigned touched_count;
static uint64_t now;

static void emit(enum cellos_probe_source source, uint32_t pid, const char *comm, uint64_t ns)
{
	uint8_t word = source == CELLOS_SOURCE_PROCESS_SPAWNED ? 1 : 2;

	(void)comm;
	(void)ns;
	FUZZ_CHECK(pid < CELLOS_PID_LIMIT);
	FUZZ_CHECK(told[pid] == (word == 2 ? 1 : told[pid] == 0 ? 0 : 2));
	if (told[pid] == 0 && touched_count < 4096)
		touched[touched_count++] = pid;
	told[pid] = word;
}

/* Some are there, some are over, some have another's number. */
static int look(uint32_t pid, struct cellos_proc_stat *out)
{
	uint32_t dice = pid * 2654435769u >> 28;

	if (pid >= CELLOS_PID_LIMIT || dice < 6)
		return dice == 0 ? -EACCES : -ENOENT;
	*out = (struct cellos_proc_stat){.pid = pid,
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
	track_rig.state->recovering = true;
	track_rig.state->walk++;
	for (; len >= 2; bytes += 2, len -= 2) {
		uint32_t pid = (bytes[0] | (uint32_t)bytes[1] << 8) & 0x7fff;
		struct cellos_proc_stat stat;

		if (pid == 0 || look(pid, &stat) != 0)
			continue;
		stat.flags |= (bytes[1] & 0x80) != 0 ? CELLOS_PF_KTHREAD : 0;
		process_seen(track_rig.state, &stat, now);
	}
	process_walk_end(track_rig.state, now);
}

static void take(const uint8_t *bytes, size_t len, struct exit_record *record)
{
	struct proc_event event;
	uint32_t ack;

	if (connector_parse(bytes, len, &event, &ack) < 0)
		return;
	track_rig_take(&event, now, record);
	if (event.what == PROC_EVENT_EXIT)
		record->pid = 0;
}

static void run(const uint8_t *data, size_t size)
{
	struct exit_record record = {.pid = 0};

	while (size >= 3) {
		size_t len = data[1] | (size_t)data[2] << 8;
		uint8_t what = data[0] % 4;

		data += 3;
		size -= 3;
		if (what == 2) {
			now += len * MS;
			FUZZ_CHECK(process_settle(track_rig.state, now) > now);
			continue;
		}
		len = len < size ? len : size;
		now += MS / 8;
		if (what == 0)
			take(data, len, &record);
		else if (what == 1)
			(void)!exit_record_parse(data, len, FAMILY, &record);
		else
			walk(data, len);
		data += len;
		size -= len;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	now = 1000 * MS;
	track_rig.emit = emit;
	track_rig.look = look;
	track_rig_init(MAX_PROCESSES, true, true);
	track_rig.state->walk++; /* nobody there at first */
	process_walk_end(track_rig.state, now);
	run(data, size);
	now += 100 * MS;
	FUZZ_CHECK(process_settle(track_rig.state, now) == UINT64_MAX);
	FUZZ_CHECK(track_rig.state->held == NULL);
	while (touched_count > 0)
		told[touched[--touched_count]] = 0;
	track_rig_free();
	return 0;
}
