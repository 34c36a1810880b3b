/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Stats line and probe report.
 *
 * Threads: main.
 * Invariant: what is printed is one line of valid JSON, whatever stands in a path or a reason.
 * Refuses: to write past its buffer; a text that would is cut at the last whole piece.
 */
#include "report.h"

#include <inttypes.h>

#include "cage.h"
#include "cellos/wire.h"
#include "text.h"

/* Bytes that are not printable ASCII become '?': the text is for people, names travel elsewhere. */
static void put_string(struct text *text, const char *string)
{
	text_put(text, "\"");
	for (; *string != '\0'; string++)
		text_put(text, "%s%c", *string == '"' || *string == '\\' ? "\\" : "",
			 *string >= 0x20 && *string < 0x7f ? *string : '?');
	text_put(text, "\"");
}

static void put_lane(struct text *text, unsigned lane, struct cellos_queue *queue,
		     const struct sender_counters *sent)
{
	struct cellos_lane_counters read;

	cellos_lane_read(cellos_queue_lane(queue, lane), &read);
	text_put(text, "%s\"%s\":{\"produced\":%" PRIu64 ",\"sent\":%" PRIu64, lane == 0 ? "" : ",",
		 cellos_lane_name(lane), read.produced, sent->sent[lane]);
	for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++)
		text_put(text, ",\"%c\":%" PRIu64, cellos_drop_reason_letter(reason),
			 reason == CELLOS_DROP_STOPPED ? sent->left[lane] : read.dropped[reason]);
	text_put(text, ",\"queued\":%" PRIu64 ",\"high_water\":%" PRIu64 "}",
		 read.in_queue + sent->in_batch[lane], read.high_water);
}

static void put_probe_stats(struct text *text, const struct running_probe *probe, const char *comma)
{
	text_put(text, "%s\"%s\":{", comma, probe->probe->name);
	for (unsigned i = 0; i < CELLOS_PROBE_MAX_STATS && probe->probe->stat_names[i] != NULL; i++)
		text_put(
			text, "%s\"%s\":%" PRIu64, i == 0 ? "" : ",", probe->probe->stat_names[i],
			(uint64_t)atomic_load_explicit(&probe->env.stats[i], memory_order_relaxed));
	text_put(text, "}");
}

size_t report_stats(char out[REPORT_BYTES], uint32_t incarnation, const struct sender *sender,
		    struct cellos_queue *queue, const struct running_probe *probes, size_t count)
{
	struct text text = {.out = out, .size = REPORT_BYTES};
	struct sender_counters sent;
	/* The kernel doubles what SO_SNDBUF asks for, socket(7). */
	uint64_t total = 0, kernel_bytes = 2 * CELLOS_CHANNEL_SEND_BUFFER_BYTES;

	sender_read(sender, &sent);
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		total += sent.sent[lane];
	text_put(&text,
		 "{\"incarnation\":%" PRIu32 ",\"epoch\":%" PRIu64 ",\"sent\":%" PRIu64
		 ",\"lanes\":{",
		 incarnation, sent.epoch, total);
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		put_lane(&text, lane, queue, &sent);
	text_put(&text, "},\"queue_depth\":%zu,\"probes\":{", cellos_queue_depth(queue));
	for (size_t i = 0; i < count; i++) {
		put_probe_stats(&text, &probes[i], i == 0 ? "" : ",");
		kernel_bytes += probes[i].status.kernel_bytes;
	}
	/* Stacks: of all threads but main. Kernel: what it may hold for us, at most. */
	text_put(&text,
		 "},\"memory\":{\"queue\":%zu,\"sender\":%zu,\"stacks\":%zu,\"kernel\":%" PRIu64
		 "}}\n",
		 cellos_queue_bytes(queue), sender_bytes(), (count + 1) * AGENT_STACK_BYTES,
		 kernel_bytes);
	return text.used;
}

static const char *sandbox(const struct agent_options *options)
{
	if (options->no_sandbox)
		return "off";
	if (!cage_has_filter())
		return "on, without a filter";
	return options->log_sandbox ? "log" : "on";
}

size_t report_probe_line(char out[REPORT_BYTES], const struct running_probe *probe,
			 const struct agent_options *options)
{
	struct text text = {.out = out, .size = REPORT_BYTES};

	text_put(&text,
		 "{\"name\":\"%s\",\"lane\":\"%s\",\"surface\":\"%s\",\"exactness\":\"%s\","
		 "\"armed\":%s,"
		 "\"why\":",
		 probe->probe->name, cellos_lane_name(probe->probe->lane), probe->status.surface,
		 probe->status.exactness != NULL ? probe->status.exactness : "none",
		 probe->status.armed ? "true" : "false");
	put_string(&text, probe->status.why);
	text_put(&text, ",\"state_bytes\":%zu,\"kernel_bytes\":%" PRIu64 ",\"sandbox\":\"%s\"}\n",
		 probe->state_bytes, probe->status.kernel_bytes, sandbox(options));
	return text.used;
}
