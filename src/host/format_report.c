/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A report as a JSON object: its names, and which members go with each kind. Pure; the line is the
 * caller's.
 */
#include "format_private.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* The short name, and what follows HOST_TYPE_PREFIX in the full one. */
static const struct {
	const char *name;
	const char *type;
} kinds[HOST_REPORT_KIND_COUNT] = {
	[HOST_REPORT_HEARTBEAT] = {"heartbeat", "telemetry.heartbeat"},
	[HOST_REPORT_DROPPED] = {"dropped", "telemetry.dropped"},
	[HOST_REPORT_LOST_IN_FLIGHT] = {"lost_in_flight", "telemetry.lost_in_flight"},
	[HOST_REPORT_LOST_IN_HOST] = {"lost_in_host", "telemetry.lost_in_host"},
	[HOST_REPORT_BAD_FRAME] = {"bad_frame", "telemetry.bad_frame"},
	[HOST_REPORT_BAD_REPORT] = {"bad_report", "telemetry.bad_report"},
	[HOST_REPORT_GOODBYE] = {"goodbye", "telemetry.goodbye"},
	[HOST_REPORT_ENDED_WITHOUT_GOODBYE] = {"ended_without_goodbye",
					       "telemetry.ended_without_goodbye"},
	[HOST_REPORT_AGENT_RESTARTED] = {"agent_restarted", "agent_restarted"},
	[HOST_REPORT_CONTESTED] = {"contested", "channel_contested"},
	[HOST_REPORT_JOINED] = {"joined", "agent_joined"},
	[HOST_REPORT_SILENCED] = {"agent_silenced", "agent_silenced"},
	[HOST_REPORT_RECOVERED] = {"agent_recovered", "agent_recovered"},
	[HOST_REPORT_REFUSED] = {"declaration_refused", "declaration_refused"},
	[HOST_REPORT_LEDGER] = {"ledger", "telemetry.ledger"},
};

const char *host_report_name(enum host_report_kind kind)
{
	return kinds[kind].name;
}

const char *host_report_type(enum host_report_kind kind)
{
	return kinds[kind].type;
}

/* Of the grown kind: how much, and in all. */
static void add_counts(struct cellos_json_line *line, const struct host_report *report)
{
	cellos_json_add_u64(line, "since_last", report->since);
	cellos_json_add_u64(line, "count", report->count);
}

static void add_dropped(struct cellos_json_line *line, const struct host_report *report)
{
	const char reason = cellos_drop_reason_letter(report->reason);

	cellos_json_add_string(line, "lane", cellos_lane_name(report->lane));
	cellos_json_add_text(line, "reason", &reason, 1);
	add_counts(line, report);
	if (report->baseline)
		cellos_json_add_bool(line, "baseline", true);
}

static void add_bad_report(struct cellos_json_line *line, const struct host_report *report)
{
	cellos_json_add_string(line, "probe_source",
			       cellos_probe_source_name(report->event->probe_source));
	cellos_json_add_text(line, "guest_comm", report->event->guest_comm,
			     report->event->guest_comm_len);
	add_counts(line, report);
}

/* No longer than HOST_TEXT_MAX_BYTES, and no character in halves. */
static void add_violation(struct cellos_json_line *line, const char *text)
{
	size_t length = strnlen(text, HOST_TEXT_MAX_BYTES + 1);

	if (length > HOST_TEXT_MAX_BYTES) {
		length = HOST_TEXT_MAX_BYTES;
		while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
			length--;
	}
	cellos_json_add_text(line, "violation", text, length);
}

static void add_bad(struct cellos_json_line *line, const struct host_totals *totals)
{
	cellos_json_open(line, "bad");
	for (unsigned i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++)
		if (totals->bad[i] != 0)
			cellos_json_add_u64(line,
					    cellos_wire_status_name((enum cellos_wire_status)i),
					    totals->bad[i]);
	cellos_json_close(line);
}

static void add_drops(struct cellos_json_line *line, const struct host_totals *totals)
{
	cellos_json_open(line, "dropped");
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++) {
			const char key[3] = {cellos_lane_letter(lane),
					     cellos_drop_reason_letter(reason), '\0'};

			if (totals->dropped[lane][reason] != 0)
				cellos_json_add_u64(line, key, totals->dropped[lane][reason]);
		}
	cellos_json_close(line);
}

void host_add_totals(struct cellos_json_line *line, const struct host_totals *totals,
		     const char *frames_key)
{
	const struct {
		const char *key;
		uint64_t value;
	} rows[] = {
		{frames_key, totals->frames},
		{"events", totals->events},
		{"emitted", totals->emitted},
		{"refused", totals->refused},
		{"lost_in_host", totals->lost_in_host},
		{"lost_in_flight", totals->lost_in_flight},
		{"epochs", totals->epochs},
		{"bytes", totals->bytes},
		{"silences", totals->silences},
		{"bad_reports", totals->bad_reports},
		{"contested", totals->contested},
	};

	for (size_t i = 0; i < COUNT(rows); i++)
		cellos_json_add_u64(line, rows[i].key, rows[i].value);
	add_bad(line, totals);
	add_drops(line, totals);
}

/* Everything but the names and the stamps. */
static void add_members(struct cellos_json_line *line, const struct host_report *report)
{
	switch (report->kind) {
	case HOST_REPORT_HEARTBEAT:
	case HOST_REPORT_GOODBYE:
	case HOST_REPORT_JOINED:
		cellos_json_add_u64(line, "sent", report->count);
		break;
	case HOST_REPORT_DROPPED:
		add_dropped(line, report);
		break;
	case HOST_REPORT_BAD_FRAME:
		cellos_json_add_string(line, "error", cellos_wire_status_name(report->error));
		add_counts(line, report);
		break;
	case HOST_REPORT_BAD_REPORT:
		add_bad_report(line, report);
		break;
	case HOST_REPORT_ENDED_WITHOUT_GOODBYE:
		cellos_json_add_u64(line, "complete_up_to", report->count);
		break;
	case HOST_REPORT_LOST_IN_FLIGHT:
	case HOST_REPORT_LOST_IN_HOST:
	case HOST_REPORT_CONTESTED:
		add_counts(line, report);
		break;
	case HOST_REPORT_SILENCED:
	case HOST_REPORT_RECOVERED:
		cellos_json_add_u64(line, "silent_ms", report->count);
		break;
	case HOST_REPORT_REFUSED:
		add_violation(line, report->text);
		break;
	case HOST_REPORT_LEDGER:
		host_add_totals(line, report->totals, "frames");
		cellos_json_add_i64(line, "unsettled", report->unsettled);
		break;
	case HOST_REPORT_AGENT_RESTARTED:
	case HOST_REPORT_KIND_COUNT:
		break;
	}
	if (report->last != 0) {
		cellos_json_add_u64(line, "first_seq", report->first);
		cellos_json_add_u64(line, "last_seq", report->last);
	}
}

void host_add_raw_report(const struct host_formatter *formatter, struct cellos_json_line *line,
			 const struct host_report *report, const struct host_place *place)
{
	/* These two are about a connection, and say which. */
	bool own_epoch =
		report->kind == HOST_REPORT_HEARTBEAT || report->kind == HOST_REPORT_LOST_IN_FLIGHT;
	char time[HOST_TIME_BYTES];

	add_literal(line, "{");
	cellos_json_add_string(line, "report", kinds[report->kind].name);
	add_literal(line, ",\"type\":\"" HOST_TYPE_PREFIX);
	add_literal(line, kinds[report->kind].type);
	add_literal(line, "\"");
	add_members(line, report);
	add_piece(line, &formatter->stamps);
	add_number(line, place->incarnation);
	cellos_json_add_u64(line, "epoch", own_epoch ? report->epoch : place->epoch);
	cellos_json_add_u64(line, "report_seq", place->sequence);
	host_put_time(formatter->clock, time, place->received_ns);
	cellos_json_add_text(line, "host_received_at", time, sizeof(time));
	cellos_json_close(line);
}
