/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Handing on; handover.h has the contract. One thread.
 */
#include "handover.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* At the end the server gets this long for what is spooled; the rest is sent next time. */
#define SINK_LIMIT_MS 5000u

/* ---- life ----------------------------------------------------------------------------------- */

static int open_sink(struct host_handover *handover, const struct host_options *options,
		     enum host_handover_part *failed)
{
	const struct host_sink_options sink = {
		.url = options->sink.url,
		.stream = options->sink.stream,
		.duplicate_window_s = options->sink.duplicate_window_s,
		.window = HOST_SINK_WINDOW,
	};
	int status;

	*failed = HOST_PART_SPOOL;
	status = host_spool_open(&handover->spool, options->sink.spool, options->sink.spool_bytes);
	if (status < 0)
		return status;
	handover->spooled = true;
	handover->spool_end = host_state_spool_end(handover->state);
	if (status == 1) {
		/* A new spool: of what the state knows in an older one nothing is left to send. */
		const uint64_t gone = handover->spool_end - host_state_spool_acked(handover->state);

		if (gone > 0)
			fprintf(stderr,
				HOST_PROGRAM ": the spool is new: %llu bytes of the one before it "
					     "that were not acknowledged are gone\n",
				(unsigned long long)gone);
		host_state_set_spool_acked(handover->state, handover->spool_end);
		host_state_set_spool_published(handover->state, handover->spool_end);
	} else if (handover->spool_end == 0 && handover->spool.memory[0] != '\0') {
		fprintf(stderr, HOST_PROGRAM
			": the state does not know what stands in the spool: it is not sent\n");
	}
	*failed = HOST_PART_SINK;
	return host_sink_start(&handover->sink, &sink, &handover->spool, handover->state);
}

int host_handover_init(struct host_handover *handover, const struct host_options *options,
		       enum host_handover_part *failed)
{
	int status;

	memset(handover, 0, sizeof(*handover));
	handover->spool.fd = -1;
	*failed = HOST_PART_OUTPUT;
	if (options->sink.url != NULL)
		status = host_output_init_buffer(&handover->output);
	else
		status = host_output_init(&handover->output, options->output);
	handover->segments = calloc(HOST_SEGMENTS, sizeof(*handover->segments));
	if (status == 0 && handover->segments == NULL)
		status = -ENOMEM;
	if (status == 0 && options->state != NULL) {
		*failed = HOST_PART_STATE;
		status = host_state_open(&handover->state, options->state);
	}
	if (status == 0 && options->sink.url != NULL)
		status = open_sink(handover, options, failed);
	return status;
}

void host_handover_destroy(struct host_handover *handover)
{
	if (handover->sink != NULL)
		host_sink_stop(handover->sink, SINK_LIMIT_MS);
	if (handover->spooled)
		host_spool_close(&handover->spool);
	host_state_close(handover->state);
	host_output_destroy(&handover->output);
	free(handover->segments);
	memset(handover, 0, sizeof(*handover));
	handover->output.fd = handover->output.watch_fd = -1;
}

/* ---- the state ------------------------------------------------------------------------------ */

int host_handover_adopt(struct host_handover *handover, struct host_origin *origin,
			const char *cell_id, const char *run_id)
{
	struct host_kept kept;
	bool known = false;
	int slot = 0;

	if (handover->state != NULL)
		slot = host_state_find(handover->state, cell_id, run_id, &kept, &known);
	if (slot < 0)
		return slot;
	origin->slot = (unsigned)slot;
	if (known)
		host_account_restore(&origin->account, &kept);
	host_handover_touch(handover, origin);
	return 0;
}

void host_handover_touch(struct host_handover *handover, struct host_origin *origin)
{
	if (handover->state == NULL || origin->dirty)
		return;
	origin->dirty = true;
	origin->next_dirty = handover->dirty;
	handover->dirty = origin;
}

static void put(struct host_handover *handover, const struct host_origin *origin)
{
	struct host_kept kept;

	host_account_keep(&origin->account, &kept);
	host_state_put(handover->state, origin->slot, &kept);
}

/* Are there spooled lines that no commit has made valid? */
static bool is_ahead(const struct host_handover *handover)
{
	return handover->spooled && host_state_spool_end(handover->state) != handover->spool_end;
}

static void keep(struct host_handover *handover)
{
	struct host_origin *origin = handover->dirty;

	/* A cell that was released left the list: its last lines are kept all the same. */
	if (origin == NULL && !is_ahead(handover))
		return;
	handover->dirty = NULL;
	for (; origin != NULL; origin = origin->next_dirty) {
		put(handover, origin);
		origin->dirty = false;
	}
	host_state_commit(handover->state, handover->spool_end);
}

void host_handover_release(struct host_handover *handover, struct host_origin *origin)
{
	struct host_origin **link = &handover->dirty;

	if (handover->state == NULL)
		return;
	put(handover, origin);
	while (origin->dirty && *link != origin)
		link = &(*link)->next_dirty;
	if (origin->dirty)
		*link = origin->next_dirty;
	origin->dirty = false;
	host_state_release(handover->state, origin->slot);
	host_state_commit(handover->state, handover->spool_end);
}

/* ---- segments ------------------------------------------------------------------------------- */

bool host_handover_has_room(const struct host_handover *handover)
{
	return host_output_has_room(&handover->output) && handover->count < HOST_SEGMENTS;
}

static struct host_segment *segment(struct host_handover *handover, size_t index)
{
	return &handover->segments[(handover->first + index) % HOST_SEGMENTS];
}

void host_handover_add(struct host_handover *handover, struct host_origin *origin, uint64_t events)
{
	struct host_segment *last;

	host_handover_touch(handover, origin);
	if (events == 0)
		return;
	origin->pending += events;
	last = handover->count > 0 ? segment(handover, handover->count - 1) : NULL;
	if (last == NULL || last->origin != origin) {
		last = segment(handover, handover->count++);
		*last = (struct host_segment){.origin = origin};
	}
	last->events += events;
	last->end = handover->out + host_output_pending(&handover->output);
}

/* The segments that lie whole before `out` are settled one way or the other. */
static void settle(struct host_handover *handover, uint64_t out,
		   void (*how)(struct host_account *account, uint64_t count))
{
	const struct host_segment *oldest;

	handover->out = out;
	while (handover->count > 0 && (oldest = segment(handover, 0))->end <= out) {
		how(&oldest->origin->account, oldest->events);
		oldest->origin->pending -= oldest->events;
		handover->settled = oldest->end;
		host_handover_touch(handover, oldest->origin);
		handover->first = (handover->first + 1) % HOST_SEGMENTS;
		handover->count--;
	}
}

/* A full disk took a segment in part: its lines that are out whole were handed on all the same. */
static void settle_lines(struct host_handover *handover)
{
	const struct host_output *output = &handover->output;
	const uint64_t base = handover->out - output->written; /* of the buffer's first byte */
	const char *line, *newline, *end = output->line.data + output->written;
	struct host_segment *oldest;
	uint64_t events = 0;

	if (handover->count == 0 || handover->settled < base)
		return;
	line = output->line.data + (handover->settled - base);
	for (; (newline = memchr(line, '\n', (size_t)(end - line))) != NULL; line = newline + 1)
		events += host_line_is_event(line);
	handover->settled = base + (uint64_t)(line - output->line.data);
	oldest = segment(handover, 0);
	host_account_handed_on(&oldest->origin->account, events);
	oldest->events -= events;
	oldest->origin->pending -= events;
	host_handover_touch(handover, oldest->origin);
}

/* ---- flushing ------------------------------------------------------------------------------- */

static int flush_to_output(struct host_handover *handover, unsigned limit_ms)
{
	struct host_output *output = &handover->output;
	size_t before = host_output_pending(output);
	int status;

	keep(handover); /* before the write: whoever finds it knows what may be out */
	if (before == 0)
		return 0;
	status = limit_ms > 0 ? host_output_finish(output, limit_ms) : host_output_flush(output);
	settle(handover, handover->out + (before - host_output_pending(output)),
	       host_account_handed_on);
	if (status < 0 && status != -EAGAIN)
		settle_lines(handover);
	keep(handover);
	return status;
}

/* Room for these alone, for they tell what is lost. */
static uint64_t reports_room(const struct host_spool *spool)
{
	return spool->bytes / 16;
}

/* Unless less than `left` bytes would be free behind it. */
static int append(struct host_handover *handover, const struct cellos_json_line *line,
		  uint64_t left)
{
	struct host_spool *spool = &handover->spool;
	const uint64_t acked = host_state_spool_acked(handover->state);
	int status;

	if (line->length == 0)
		return 0;
	if (handover->spool_end - acked + line->length > spool->bytes - left)
		return -ENOSPC;
	status = host_spool_append(spool, acked, handover->spool_end, line->data, line->length);
	if (status == 0)
		handover->spool_end += line->length;
	return status;
}

static void leave_reports(struct cellos_json_line *line)
{
	const char *at = line->data, *end = at + line->length, *next;
	char *to = line->data;

	for (; at < end; at = next) {
		next = (const char *)memchr(at, '\n', (size_t)(end - at)) + 1; /* all are whole */
		if (host_line_is_event(at))
			continue;
		memmove(to, at, (size_t)(next - at));
		to += next - at;
	}
	line->length = (size_t)(to - line->data);
}

static int flush_to_spool(struct host_handover *handover)
{
	struct cellos_json_line *line = &handover->output.line;
	uint64_t out = handover->out + line->length;
	int status = append(handover, line, reports_room(&handover->spool));

	if (status < 0 && status != -ENOSPC)
		return status;
	if (status == -ENOSPC) {
		if (!handover->full_said)
			fprintf(stderr,
				HOST_PROGRAM ": cannot spool events: it is full; what comes "
					     "now is lost and counted\n");
		leave_reports(line);
		/* Without room for these either, the next ones have the totals. */
		(void)!append(handover, line, 0);
	}
	handover->full_said = status == -ENOSPC;
	settle(handover, out, status == 0 ? host_account_handed_on : host_account_lost);
	host_output_drop(&handover->output);
	keep(handover);
	host_sink_wake(handover->sink);
	return 0;
}

int host_handover_flush(struct host_handover *handover)
{
	return handover->spooled ? flush_to_spool(handover) : flush_to_output(handover, 0);
}

int host_handover_finish(struct host_handover *handover, unsigned limit_ms)
{
	return handover->spooled ? flush_to_spool(handover) : flush_to_output(handover, limit_ms);
}

void host_handover_give_up(struct host_handover *handover)
{
	settle(handover, handover->out + host_output_pending(&handover->output), host_account_lost);
	host_output_drop(&handover->output);
	keep(handover);
}
