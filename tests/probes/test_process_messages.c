/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The kernel's messages of processes, as a 6.18 sent them: a short program, a name with a newline,
 * quotes and a byte that is no UTF-8, threads, a leader that leaves early, an exec by another
 * thread, a vfork. The recording is an input of fuzz_connector; its steps are told there.
 *
 * Threads: none. Refuses to: touch a kernel.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "track_rig.h"

#define SPAWNED CELLOS_SOURCE_PROCESS_SPAWNED
#define EXITED CELLOS_SOURCE_PROCESS_EXITED
#define MS UINT64_C(1000000)
#define FAMILY 31

static uint8_t recording[32768];
static uint32_t ack;
static size_t recorded;

static size_t read_input(const char *name, uint8_t *out, size_t room)
{
	char path[512];
	FILE *file;
	size_t len;

	snprintf(path, sizeof(path), "%s/%s", RECORDED, name);
	file = fopen(path, "rbe");
	cr_assert(file != NULL, "%s", path);
	len = fread(out, 1, room, file);
	fclose(file);
	cr_assert(len > 0 && len < room);
	return len;
}

/* The next step of the recording; false at its end. */
static bool next_step(size_t *at, uint8_t *what, const uint8_t **bytes, size_t *len)
{
	if (*at >= recorded)
		return false;
	*what = recording[*at];
	*len = recording[*at + 1] | (size_t)recording[*at + 2] << 8;
	*bytes = recording + *at + 3;
	*at += 3 + (*what == 2 ? 0 : *len);
	return true;
}

/* The first message of the recording that says `what`. */
static const uint8_t *first_of(unsigned wanted, size_t *len)
{
	const uint8_t *bytes;
	size_t at = 0;
	uint8_t what;

	while (next_step(&at, &what, &bytes, len)) {
		struct proc_event event;

		if (what == 0 && connector_parse(bytes, *len, &event, &ack) == 0 &&
		    event.what == wanted)
			return bytes;
	}
	cr_assert_fail("no such message");
	return NULL;
}

static void load(void)
{
	recorded = read_input("fuzz_connector/recorded_6_18", recording, sizeof(recording));
}

TestSuite(messages, .init = load);

/* ---- connector ------------------------------------------------------------------------------ */

static struct proc_event parse_first(unsigned wanted)
{
	struct proc_event event;
	size_t len;
	const uint8_t *message = first_of(wanted, &len);

	cr_assert(len == 76 && connector_parse(message, len, &event, &ack) == 0);
	return event;
}

Test(messages, what_they_say)
{
	struct proc_event event = parse_first(PROC_EVENT_NONE);

	cr_assert(ack == 7 && event.event_data.ack.err == 0, "the number that the recorder gave");
	event = parse_first(PROC_EVENT_FORK);
	cr_assert(event.event_data.fork.parent_tgid == 23895 &&
		  event.event_data.fork.child_pid == 23897 &&
		  event.event_data.fork.child_tgid == 23897);
	cr_assert(event.timestamp_ns == UINT64_C(8163890532417));
	event = parse_first(PROC_EVENT_EXEC);
	cr_assert(event.event_data.exec.process_pid == 23897 &&
		  event.event_data.exec.process_tgid == 23897);
	event = parse_first(PROC_EVENT_EXIT);
	cr_assert(event.event_data.exit.process_pid == 23897 &&
		  event.event_data.exit.process_tgid == 23897);
}

/* Of its exact size in memory of its own, so that a sanitizer sees a read past it. */
static int parse_cut(const uint8_t *bytes, size_t len, struct proc_event *event)
{
	uint8_t *exact = malloc(len > 0 ? len : 1);
	int result;

	cr_assert(exact != NULL);
	memcpy(exact, bytes, len);
	result = connector_parse(exact, len, event, &ack);
	free(exact);
	return result;
}

Test(messages, cut_anywhere)
{
	struct proc_event event = {.cpu = 4711};
	size_t len;
	const uint8_t *fork = first_of(PROC_EVENT_FORK, &len);

	for (size_t cut = 0; cut < len; cut++)
		cr_assert(parse_cut(fork, cut, &event) == -EINVAL, "%zu", cut);
	cr_assert(event.cpu == 4711, "nothing is said of half a message");
	cr_assert(parse_cut(fork, len, &event) == 0);
}

/* One byte of a sound message, and what it must not be. */
static void refuse(size_t at, uint8_t value)
{
	struct proc_event event;
	uint8_t message[76];
	size_t len;

	memcpy(message, first_of(PROC_EVENT_FORK, &len), sizeof(message));
	message[at] = value;
	cr_assert(connector_parse(message, sizeof(message), &event, &ack) == -EINVAL, "byte %zu",
		  at);
}

Test(messages, lies)
{
	refuse(16, 9); /* another connector's */
	refuse(20, 9);
	refuse(32, 41); /* more data than there is */
	refuse(32, 8);  /* less than any message has */
}

/* ---- exit listener -------------------------------------------------------------------------- */

static int parse_input(const char *name, struct exit_record *out)
{
	uint8_t input[4096];
	char path[128];
	size_t len;

	snprintf(path, sizeof(path), "fuzz_taskstats/%s", name);
	len = read_input(path, input, sizeof(input));
	return exit_record_parse(input + 1, len - 1, FAMILY, out);
}

static void expect_record(const char *input, uint32_t pid, bool last, bool never_execed,
			  const char *name)
{
	struct exit_record record;

	cr_assert(parse_input(input, &record) == 0, "%s", input);
	cr_assert(record.pid == pid && record.parent == 23895, "%s", input);
	cr_assert(record.last == last && record.never_execed == never_execed, "%s", input);
	cr_assert(record.comm_len == strlen(name) && strcmp(record.comm, name) == 0, "%s", input);
}

Test(messages, records)
{
	expect_record("recorded_6_18_process", 23897, true, false, "true");
	expect_record("recorded_6_18_hostile_name", 23898, true, true, "na\nme\"\xff");
	expect_record("recorded_6_18_thread", 23902, false, false, "recorder");
	expect_record("recorded_6_18_group", 23899, true, true, "recorder");
	expect_record("version_12", 23897, true, false, "true");
	expect_record("version_11", 23897, false, false, "true");
	expect_record("version_8_short", 23897, false, false, "true");
	expect_record("version_14_moved", 23897, true, false, "true");
	expect_record("version_15_moved", 23897, true, false, "true");
	expect_record("name_without_end", 23897, true, false, "nnnnnnnnnnnnnnn");
}

Test(messages, no_records)
{
	static const char *const names[] = {
		"wrong_family",     "cut_stats", "cut_header",    "attribute_too_long",
		"attribute_of_two", "pid_0",     "odd_attribute", "family"};
	struct exit_record record = {.pid = 4711};

	for (size_t at = 0; at < sizeof(names) / sizeof(names[0]); at++)
		cr_assert(parse_input(names[at], &record) == -EINVAL, "%s", names[at]);
	cr_assert(record.pid == 4711);
}

Test(messages, the_familys_number)
{
	uint8_t input[256];
	uint16_t family = 0;
	size_t len = read_input("fuzz_taskstats/family", input, sizeof(input)) - 1;

	for (size_t cut = 0; cut < len; cut++)
		cr_assert(exit_family_parse(input + 1, cut, &family) == -EINVAL || cut + 2 >= len);
	family = 0;
	cr_assert(exit_family_parse(input + 1, len, &family) == 0 && family == FAMILY);
}

Test(messages, records_cut_anywhere)
{
	uint8_t input[4096];
	size_t len = read_input("fuzz_taskstats/recorded_6_18_process", input, sizeof(input)) - 1;
	struct exit_record record = {.pid = 0};

	for (size_t cut = 0; cut < len; cut++) {
		uint8_t *exact = malloc(cut > 0 ? cut : 1);

		cr_assert(exact != NULL);
		memcpy(exact, input + 1, cut);
		/* Its attribute says that it is longer. */
		cr_assert(exit_record_parse(exact, cut, FAMILY, &record) == -EINVAL, "%zu", cut);
		free(exact);
	}
	cr_assert(record.pid == 0);
}

/* ---- the whole recording -------------------------------------------------------------------- */

static struct {
	enum cellos_probe_source source;
	uint32_t pid;
	char comm[17];
} events[64];
static unsigned count;

static void emit(enum cellos_probe_source source, uint32_t pid, const char *comm, uint64_t ns)
{
	(void)ns;
	cr_assert(count < 64);
	events[count].source = source;
	events[count].pid = pid;
	strcpy(events[count++].comm, comm);
}

static int look(uint32_t pid, struct cellos_proc_stat *out)
{
	(void)pid;
	(void)out;
	return -ENOENT;
}

/* The recorder is known already; nobody else is. */
static void replay(bool with_records)
{
	struct cellos_proc_stat parent = {
		.pid = 23895, .state = 'S', .num_threads = 1, .starttime = 1};
	struct exit_record record = {.pid = 0};
	const uint8_t *bytes;
	size_t at = 0, len;
	uint64_t now = 0;
	uint8_t what;

	track_rig.state->walk++;
	process_seen(track_rig.state, &parent, 0);
	process_walk_end(track_rig.state, 0);
	while (next_step(&at, &what, &bytes, &len)) {
		struct proc_event event;

		if (what == 2) {
			(void)process_settle(track_rig.state, now);
		} else if (what == 1) {
			cr_assert(exit_record_parse(bytes, len, FAMILY, &record) == 0);
		} else {
			cr_assert(connector_parse(bytes, len, &event, &ack) == 0);
			now = event.timestamp_ns;
			cr_assert(event.what != PROC_EVENT_EXIT ||
				  record.pid == (uint32_t)event.event_data.exit.process_pid);
			track_rig_take(&event, now, with_records ? &record : NULL);
		}
	}
	(void)process_settle(track_rig.state, now + 100 * MS);
}

static void check_process(uint32_t pid, const char *born, const char *died)
{
	unsigned spawned = 0, exited = 0;

	for (unsigned at = 0; at < count; at++) {
		if (events[at].pid != pid)
			continue;
		if (events[at].source == SPAWNED) {
			spawned++;
			cr_assert_str_eq(events[at].comm, born, "%u", pid);
		} else {
			exited += spawned;
			cr_assert_str_eq(events[at].comm, died, "%u", pid);
		}
	}
	cr_assert(spawned == 1 && exited == 1, "%u", pid);
}

static void replay_all(bool with_records)
{
	track_rig.emit = emit;
	track_rig.look = look;
	track_rig_init(64, true, with_records);
	replay(with_records);
	cr_assert(count == 14, "%u events for seven processes", count);
	track_rig_free();
}

Test(messages, replayed)
{
	replay_all(true);
	check_process(23897, "true", "true");
	check_process(23898, "na\nme\"\xff", "na\nme\"\xff");
	check_process(23899, "", "recorder");
	check_process(23903, "recorder", "recorder");
	check_process(23905, "true", "true");
	check_process(23907, "recorder", "recorder");
	check_process(23908, "true", "true");
}

/* The same lives without a listener: the same processes, by counting, and fewer names. */
Test(messages, replayed_without_records)
{
	replay_all(false);
	check_process(23897, "", "");
	check_process(23905, "", "");
}
