/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Reports as JSON lines: the names, and which members go with each. Pure, over the
 * caller's memory.
 */
#include "report.h"

static const char *const names[HOST_REPORT_KIND_COUNT] = {
	[HOST_REPORT_HEARTBEAT] = "heartbeat",
	[HOST_REPORT_DROPPED] = "dropped",
	[HOST_REPORT_LOST_IN_FLIGHT] = "lost_in_flight",
	[HOST_REPORT_BAD_FRAME] = "bad_frame",
	[HOST_REPORT_BAD_REPORT] = "bad_report",
	[HOST_REPORT_GOODBYE] = "goodbye",
	[HOST_REPORT_ENDED_WITHOUT_GOODBYE] = "ended_without_goodbye",
	[HOST_REPORT_AGENT_RESTARTED] = "agent_restarted",
	[HOST_REPORT_CONTESTED] = "contested",
	[HOST_REPORT_JOINED] = "joined",
	[HOST_REPORT_LOST_IN_HOST] = "lost_in_host",
	[HOST_REPORT_SILENCED] = "silenced",
	[HOST_REPORT_RECOVERED] = "recovered",
	[HOST_REPORT_REFUSED] = "refused",
	[HOST_REPORT_LEDGER] = "ledger",
};

static void add_dropped(struct cellos_json_line *line, const struct host_report *report)
{
	const char reason = cellos_drop_reason_letter(report->reason);

	cellos_json_add_string(line, "lane", cellos_lane_name(report->lane));
	cellos_json_add_text(line, "reason", &reason, 1);
	cellos_json_add_u64(line, "count", report->count);
	if (report->baseline)
		cellos_json_add_bool(line, "baseline", true);
}

int host_report_write(struct cellos_json_line *line, const struct host_report *report)
{
	cellos_json_begin(line);
	cellos_json_add_string(line, "report", names[report->kind]);
	switch (report->kind) {
	case HOST_REPORT_HEARTBEAT:
		cellos_json_add_u64(line, "epoch", report->epoch);
		cellos_json_add_u64(line, "sent", report->count);
		break;
	case HOST_REPORT_DROPPED:
		add_dropped(line, report);
		break;
	case HOST_REPORT_LOST_IN_FLIGHT:
		cellos_json_add_u64(line, "epoch", report->epoch);
		cellos_json_add_u64(line, "count", report->since);
		break;
	case HOST_REPORT_BAD_FRAME:
		cellos_json_add_string(line, "error", cellos_wire_status_name(report->error));
		cellos_json_add_u64(line, "count", report->count);
		break;
	case HOST_REPORT_BAD_REPORT:
		cellos_json_add_string(line, "probe_source",
				       cellos_probe_source_name(report->event->probe_source));
		cellos_json_add_text(line, "guest_comm", report->event->guest_comm,
				     report->event->guest_comm_len);
		cellos_json_add_u64(line, "count", report->count);
		break;
	case HOST_REPORT_ENDED_WITHOUT_GOODBYE:
		cellos_json_add_u64(line, "complete_up_to", report->count);
		break;
	case HOST_REPORT_GOODBYE:
	case HOST_REPORT_JOINED:
		cellos_json_add_u64(line, "sent", report->count);
		break;
	case HOST_REPORT_CONTESTED:
	case HOST_REPORT_LOST_IN_HOST:
	case HOST_REPORT_SILENCED:
	case HOST_REPORT_RECOVERED:
		cellos_json_add_u64(line, "count", report->count);
		break;
	default:
		break;
	}
	return cellos_json_end(line);
}

int host_summary_write(struct cellos_json_line *line, const struct host_totals *totals)
{
	cellos_json_begin(line);
	cellos_json_add_string(line, "report", "summary");
	cellos_json_add_u64(line, "frames", totals->frames);
	cellos_json_add_u64(line, "events", totals->events);
	cellos_json_add_u64(line, "epochs", totals->epochs);
	cellos_json_add_u64(line, "lost_in_flight", totals->lost_in_flight);
	cellos_json_open(line, "bad");
	for (unsigned i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++)
		if (totals->bad[i] != 0)
			cellos_json_add_u64(line,
					    cellos_wire_status_name((enum cellos_wire_status)i),
					    totals->bad[i]);
	cellos_json_close(line);
	cellos_json_add_u64(line, "bad_reports", totals->bad_reports);
	cellos_json_add_u64(line, "contested", totals->contested);
	cellos_json_open(line, "dropped");
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++) {
			const char key[3] = {cellos_lane_letter(lane),
					     cellos_drop_reason_letter(reason), '\0'};

			if (totals->dropped[lane][reason] != 0)
				cellos_json_add_u64(line, key, totals->dropped[lane][reason]);
		}
	cellos_json_close(line);
	return cellos_json_end(line);
}
