/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From lines to what the page shows (page_model.h has the shape and the limits). One thread.
 *
 * The file may be anything: cut, mixed from many cells, made by a liar. Events come lane by lane,
 * so one of a process may stand before the line that says it began, or after the one that says it
 * ended; both are put where their time says.
 */
#include "page_model.h"

#include <errno.h>
#include <json-c/json.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The object of --adg may be as deep as json-c takes by itself, and stands within three others. */
#define MAX_DEPTH (JSON_TOKENER_DEFAULT_DEPTH + 3)
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- JSON ----------------------------------------------------------------------------------- */

/* A member that is text without NUL, copied with its NUL; false and "" when it is not there. */
static bool copy_text(struct json_object *object, const char *key, char *out, size_t size)
{
	struct json_object *value;
	size_t length;

	out[0] = '\0';
	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_string))
		return false;
	length = (size_t)json_object_get_string_len(value);
	if (length >= size || memchr(json_object_get_string(value), '\0', length) != NULL)
		return false;
	memcpy(out, json_object_get_string(value), length + 1);
	return true;
}

static bool get_number(struct json_object *object, const char *key, uint64_t *out)
{
	struct json_object *value;

	*out = 0;
	if (!json_object_object_get_ex(object, key, &value) ||
	    !json_object_is_type(value, json_type_int))
		return false;
	/* A negative one reads as 0 here, and as itself below. */
	*out = json_object_get_uint64(value);
	return json_object_get_int64(value) >= 0;
}

/* ---- accounts ------------------------------------------------------------------------------- */

/* The line's, begun if need be; NULL: there are too many, and the line is left out. */
static struct page_account *find_account(struct page_model *model, struct json_object *line)
{
	char cell[65] = "", run[65] = "";
	struct page_account *account;
	uint64_t incarnation;

	(void)copy_text(line, "cell_id", cell, sizeof(cell));
	(void)copy_text(line, "run_id", run, sizeof(run));
	(void)get_number(line, "incarnation", &incarnation);
	for (uint32_t i = 0; i < model->account_count; i++) {
		account = &model->accounts[i];
		if (account->incarnation == incarnation && strcmp(account->cell, cell) == 0 &&
		    strcmp(account->run, run) == 0)
			return account;
	}
	if (model->account_count == PAGE_MAX_ACCOUNTS) {
		model->left_out_lines++;
		return NULL;
	}
	account = &model->accounts[model->account_count++];
	memcpy(account->cell, cell, sizeof(cell));
	memcpy(account->run, run, sizeof(run));
	account->incarnation = incarnation;
	(void)copy_text(line, "spec_signature_hash", account->hash, sizeof(account->hash));
	return account;
}

static void note_received(struct page_account *account, struct json_object *line)
{
	char received[32] = "";

	if (!copy_text(line, "host_received_at", received, sizeof(received)))
		return;
	if (account->first_received[0] == '\0')
		memcpy(account->first_received, received, sizeof(received));
	memcpy(account->last_received, received, sizeof(received));
}

/* ---- time ----------------------------------------------------------------------------------- */

#define FIRST_SHIFT 20 /* about a millisecond */

/* Two buckets into one. */
static void widen(struct page_times *times)
{
	uint64_t first = times->first >> 1;

	for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++) {
		uint32_t wide[PAGE_BUCKETS] = {0};

		for (uint64_t i = 0; i <= times->last - times->first; i++)
			wide[((times->first + i) >> 1) - first] += times->counts[source][i];
		memcpy(times->counts[source], wide, sizeof(wide));
	}
	times->first = first;
	times->last >>= 1;
	times->shift++;
}

/* Room at the left: the bucket `first` comes before those that are there. */
static void begin_earlier(struct page_times *times, uint64_t first)
{
	uint64_t by = times->first - first, kept = times->last - times->first + 1;

	for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++) {
		uint32_t *counts = times->counts[source];

		memmove(counts + by, counts, kept * sizeof(*counts));
		memset(counts, 0, by * sizeof(*counts));
	}
	times->first = first;
}

static void count_time(struct page_times *times, unsigned source, uint64_t ns)
{
	if (!times->any) {
		times->any = true;
		times->shift = FIRST_SHIFT;
		times->first = times->last = ns >> FIRST_SHIFT;
	}
	for (;;) {
		uint64_t at = ns >> times->shift;
		uint64_t first = at < times->first ? at : times->first;
		uint64_t last = at > times->last ? at : times->last;

		if (last - first >= PAGE_BUCKETS) {
			widen(times);
			continue;
		}
		if (first < times->first)
			begin_earlier(times, first);
		times->last = last;
		times->counts[source][at - first]++;
		return;
	}
}

/* ---- processes ------------------------------------------------------------------------------ */

static uint32_t *find_slot(struct page_model *model, uint32_t account, uint32_t pid)
{
	uint64_t hash = ((uint64_t)account << 32 | pid) * UINT64_C(0x9e3779b97f4a7c15);
	uint32_t at = (uint32_t)(hash >> 32) & (model->index_size - 1);

	for (;; at = (at + 1) & (model->index_size - 1)) {
		uint32_t found = model->index[at];

		if (found == PAGE_NONE || (model->processes[found].account == account &&
					   model->processes[found].pid == pid))
			return &model->index[at];
	}
}

/* Four times the records, so that the search above always meets an empty slot. */
static int grow(struct page_model *model)
{
	uint32_t capacity = model->process_capacity == 0 ? 1024 : model->process_capacity * 2;
	struct page_process *processes =
		realloc(model->processes, capacity * sizeof(*model->processes));
	uint32_t *index, *old = model->index;

	if (processes == NULL)
		return -ENOMEM;
	model->processes = processes;
	index = malloc((size_t)capacity * 4 * sizeof(*index));
	if (index == NULL)
		return -ENOMEM;
	memset(index, 0xff, (size_t)capacity * 4 * sizeof(*index)); /* PAGE_NONE */
	model->index = index;
	model->index_size = capacity * 4;
	model->process_capacity = capacity;
	/* In the order of their making, so that the latest of a pid is the one found. */
	for (uint32_t i = 0; i < model->process_count; i++)
		*find_slot(model, processes[i].account, processes[i].pid) = i;
	free(old);
	return 0;
}

static int add_process(struct page_model *model, uint32_t account, uint32_t pid,
		       struct page_process **made)
{
	struct page_process *process;
	int status;

	*made = NULL;
	if (model->process_count == PAGE_MAX_PROCESSES) {
		model->left_out_processes++;
		return 0;
	}
	if ((model->processes == NULL || model->process_count == model->process_capacity) &&
	    (status = grow(model)) < 0)
		return status;
	process = &model->processes[model->process_count];
	memset(process, 0, sizeof(*process));
	process->account = account;
	process->pid = pid;
	*find_slot(model, account, pid) = model->process_count++;
	model->accounts[account].processes++;
	*made = process;
	return 0;
}

static struct page_process *latest_process(struct page_model *model, uint32_t account, uint32_t pid)
{
	uint32_t found = model->index_size == 0 ? PAGE_NONE : *find_slot(model, account, pid);

	return found == PAGE_NONE ? NULL : &model->processes[found];
}

struct seen {
	unsigned source;
	uint32_t pid;
	uint64_t ns;
	char name[CELLOS_GUEST_COMM_MAX_BYTES + 1];
	uint8_t name_length;
};

static void give_name(struct page_process *process, const struct seen *seen)
{
	if (process->name_length == 0) {
		memcpy(process->name, seen->name, seen->name_length);
		process->name_length = seen->name_length;
	}
	memcpy(process->last_name, seen->name, seen->name_length);
	process->last_name_length = seen->name_length;
}

/* Can this event be of the process that we know by its pid? */
static bool belongs(const struct page_process *process, const struct seen *seen)
{
	switch (seen->source) {
	case CELLOS_SOURCE_PROCESS_SPAWNED:
		return !process->began && seen->ns <= process->first_ns;
	case CELLOS_SOURCE_PROCESS_EXITED:
		return !process->ended && seen->ns >= process->first_ns;
	default: /* a moment of its life */
		return (!process->began || seen->ns >= process->first_ns) &&
		       (!process->ended || seen->ns <= process->last_ns);
	}
}

static void mark(struct page_model *model, struct page_process *process, const struct seen *seen)
{
	if (seen->source == CELLOS_SOURCE_CAPABILITY_DENIED)
		process->denials++;
	else
		process->connects++;
	if (model->mark_count == PAGE_MAX_MARKS) {
		model->left_out_marks++;
		return;
	}
	model->marks[model->mark_count++] =
		(struct page_mark){.process = (uint32_t)(process - model->processes),
				   .source = (uint8_t)seen->source,
				   .ns = seen->ns};
}

static int take_process(struct page_model *model, uint32_t account, const struct seen *seen)
{
	struct page_process *process = latest_process(model, account, seen->pid);
	int status;

	if (process == NULL || !belongs(process, seen)) {
		status = add_process(model, account, seen->pid, &process);
		if (status < 0 || process == NULL)
			return status;
		process->first_ns = process->last_ns = seen->ns;
	}
	if (seen->ns < process->first_ns)
		process->first_ns = seen->ns;
	if (seen->ns > process->last_ns)
		process->last_ns = seen->ns;
	if (seen->source == CELLOS_SOURCE_PROCESS_SPAWNED)
		process->began = true;
	else if (seen->source == CELLOS_SOURCE_PROCESS_EXITED)
		process->ended = true;
	else
		mark(model, process, seen);
	give_name(process, seen);
	return 0;
}

/* ---- events --------------------------------------------------------------------------------- */

/* What is wrong with it, or NULL. */
static const char *read_event(struct json_object *line, const char *source, struct seen *seen)
{
	int known = cellos_probe_source_from_name(source, strlen(source));
	struct json_object *name;
	uint64_t pid;

	if (known < 0 || known >= CELLOS_SOURCE_EVENT_COUNT)
		return "a probe_source that is none of the five";
	if (!get_number(line, "guest_pid", &pid) || pid > UINT32_MAX)
		return "no sound guest_pid";
	if (!get_number(line, "guest_monotonic_ns", &seen->ns))
		return "no sound guest_monotonic_ns";
	if (!json_object_object_get_ex(line, "guest_comm", &name) ||
	    !json_object_is_type(name, json_type_string) ||
	    json_object_get_string_len(name) > CELLOS_GUEST_COMM_MAX_BYTES)
		return "no sound guest_comm";
	seen->source = (unsigned)known;
	seen->pid = (uint32_t)pid;
	seen->name_length = (uint8_t)json_object_get_string_len(name);
	memcpy(seen->name, json_object_get_string(name), seen->name_length);
	return NULL;
}

static void count_event(struct page_account *account, const struct seen *seen, uint64_t seq)
{
	if (account->total == 0 || seen->ns < account->first_ns)
		account->first_ns = seen->ns;
	if (account->total == 0 || seen->ns > account->last_ns)
		account->last_ns = seen->ns;
	if (seq != 0 && (account->first_seq == 0 || seq < account->first_seq))
		account->first_seq = seq;
	if (seq > account->last_seq)
		account->last_seq = seq;
	account->events[seen->source]++;
	account->total++;
	count_time(&account->times, seen->source, seen->ns);
}

static int take_event(struct page_model *model, struct json_object *line, const char *source)
{
	struct seen seen = {.source = 0};
	const char *why = read_event(line, source, &seen);
	struct page_account *account;
	uint64_t seq;

	if (why != NULL) {
		page_model_fault(model, why);
		return 0;
	}
	account = find_account(model, line);
	if (account == NULL)
		return 0;
	note_received(account, line);
	(void)get_number(line, "seq", &seq);
	count_event(account, &seen, seq);
	if (seen.source == CELLOS_SOURCE_FS_INOTIFY_FIRED)
		return 0; /* its pid may be the agent's own */
	return take_process(model, (uint32_t)(account - model->accounts), &seen);
}

/* ---- reports -------------------------------------------------------------------------------- */

/* Stamps and names, which the page says elsewhere. */
static bool is_stamp(const char *key)
{
	static const char *const stamps[] = {
		"report",    "type",    "cell_id",     "run_id",     "spec_signature_hash",
		"output",    "epoch",   "incarnation", "report_seq", "host_received_at",
		"first_seq", "last_seq"};

	for (size_t i = 0; i < COUNT(stamps); i++)
		if (strcmp(key, stamps[i]) == 0)
			return true;
	return false;
}

/* "lane=proc reason=q count=3", cut where it does not fit, between members. */
static void describe(struct json_object *line, char *out, size_t size)
{
	size_t length = 0;

	out[0] = '\0';
	json_object_object_foreach(line, key, value)
	{
		const char *text = json_object_is_type(value, json_type_string)
					   ? json_object_get_string(value)
					   : json_object_to_json_string_ext(value, 0);
		int more;

		if (is_stamp(key))
			continue;
		more = snprintf(out + length, size - length, "%s%s=%s", length == 0 ? "" : " ", key,
				text);
		if (more < 0 || (size_t)more >= size - length) {
			out[length] = '\0';
			return;
		}
		length += (size_t)more;
	}
}

static void take_dropped(struct page_account *account, struct json_object *line)
{
	char lane[8], reason[4];
	uint64_t count;

	if (!copy_text(line, "lane", lane, sizeof(lane)) ||
	    !copy_text(line, "reason", reason, sizeof(reason)) ||
	    !get_number(line, "count", &count))
		return;
	for (unsigned l = 0; l < CELLOS_LANE_COUNT; l++)
		for (unsigned r = 0; r < CELLOS_DROP_COUNT; r++)
			if (strcmp(lane, cellos_lane_name(l)) == 0 && reason[1] == '\0' &&
			    reason[0] == cellos_drop_reason_letter(r)) {
				account->dropped[l][r] = count; /* a total: the latest counts */
				account->any_dropped = true;
			}
}

static void take_ledger(struct page_account *account, struct json_object *line)
{
	struct json_object *unsettled;

	account->settled = true;
	account->says_unsettled = json_object_object_get_ex(line, "unsettled", &unsettled);
	account->unsettled = account->says_unsettled ? json_object_get_int64(unsettled) : 0;
	describe(line, account->ledger, sizeof(account->ledger));
}

static int add_note(struct page_account *account, const char *report, struct json_object *line)
{
	struct page_note *note;
	int length;

	if (account->note_count == PAGE_MAX_NOTES)
		return 0;
	if (account->notes == NULL) {
		account->notes = calloc(PAGE_MAX_NOTES, sizeof(*account->notes));
		if (account->notes == NULL)
			return -ENOMEM;
	}
	note = &account->notes[account->note_count++];
	(void)copy_text(line, "host_received_at", note->received, sizeof(note->received));
	length = snprintf(note->text, sizeof(note->text), "%s ", report);
	if (length > 0 && (size_t)length < sizeof(note->text))
		describe(line, note->text + length, sizeof(note->text) - (size_t)length);
	return 0;
}

static int take_report(struct page_model *model, struct json_object *line)
{
	struct page_account *account;
	char report[64];

	if (!copy_text(line, "report", report, sizeof(report))) {
		page_model_fault(model, "a report without a name");
		return 0;
	}
	account = find_account(model, line);
	if (account == NULL)
		return 0;
	note_received(account, line);
	if (strcmp(report, "heartbeat") == 0) {
		account->heartbeats++;
		(void)get_number(line, "epoch", &account->epoch);
		return 0;
	}
	account->reports++;
	if (strcmp(report, "dropped") == 0)
		take_dropped(account, line);
	else if (strcmp(report, "ledger") == 0 || strcmp(report, "summary") == 0)
		take_ledger(account, line);
	return add_note(account, report, line);
}

/* ---- lines ---------------------------------------------------------------------------------- */

void page_model_fault(struct page_model *model, const char *why)
{
	if (model->unreadable < PAGE_MAX_FAULTS)
		model->faults[model->unreadable] =
			(struct page_fault){.line = model->lines, .why = why};
	model->unreadable++;
}

/* The stamped declaration, in whatever envelope it came. */
static struct json_object *unwrap(struct json_object *line)
{
	struct json_object *inner;

	if (json_object_object_get_ex(line, "specversion", &inner) &&
	    json_object_object_get_ex(line, "data", &inner) &&
	    json_object_is_type(inner, json_type_object))
		line = inner;
	if (json_object_object_get_ex(line, "class_uid", &inner) &&
	    json_object_object_get_ex(line, "unmapped", &inner) &&
	    json_object_is_type(inner, json_type_object))
		line = inner;
	return line;
}

static int take_object(struct page_model *model, struct json_object *line)
{
	struct json_object *member;
	char source[64];

	if (!json_object_is_type(line, json_type_object)) {
		page_model_fault(model, "no JSON object");
		return 0;
	}
	line = unwrap(line);
	if (json_object_object_get_ex(line, "report", &member))
		return take_report(model, line);
	if (copy_text(line, "probe_source", source, sizeof(source)))
		return take_event(model, line, source);
	page_model_fault(model, "neither an event nor a report");
	return 0;
}

int page_model_line(struct page_model *model, const char *text, size_t length)
{
	struct json_tokener *tokener = json_tokener_new_ex(MAX_DEPTH);
	struct json_object *line;
	int status = 0;

	if (tokener == NULL)
		return -ENOMEM;
	model->lines++;
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	line = json_tokener_parse_ex(tokener, text, (int)length);
	if (json_tokener_get_error(tokener) != json_tokener_success ||
	    json_tokener_get_parse_end(tokener) != length)
		page_model_fault(model, "no JSON");
	else
		status = take_object(model, line);
	json_object_put(line);
	json_tokener_free(tokener);
	return status;
}

int page_model_init(struct page_model *model)
{
	memset(model, 0, sizeof(*model));
	model->accounts = calloc(PAGE_MAX_ACCOUNTS, sizeof(*model->accounts));
	model->marks = calloc(PAGE_MAX_MARKS, sizeof(*model->marks));
	return model->accounts == NULL || model->marks == NULL ? -ENOMEM : 0;
}

void page_model_destroy(struct page_model *model)
{
	for (uint32_t i = 0; i < model->account_count; i++)
		free(model->accounts[i].notes);
	free(model->accounts);
	free(model->processes);
	free(model->index);
	free(model->marks);
	memset(model, 0, sizeof(*model));
}
