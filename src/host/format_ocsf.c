/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Events and reports as OCSF objects, version HOST_OCSF_VERSION; docs/formats.md argues the
 * mapping.
 *
 * What OCSF requires and the wire does not carry (who launched, which file, which endpoint) is
 * "Unknown", spelled out in this table and nowhere else. The whole stamped declaration stands under
 * `unmapped`, so nothing is lost on the way. Pure, over the caller's memory.
 */
#include <stdlib.h>

#include "format_private.h"

#define UNKNOWN_ACTOR ",\"actor\":{\"process\":{\"name\":\"Unknown\"}}"
#define UNKNOWN_FILE ",\"file\":{\"name\":\"Unknown\",\"type_id\":0,\"type\":\"Unknown\"}"

#define NS_PER_MS UINT64_C(1000000)

/* Of an event, by its source. */
static const struct mapping {
	const char *schema;
	const char *category_name;
	const char *class_name;
	const char *activity_name; /* with 99, Other, a name of our own */
	const char *type_activity; /* the activity as type_name spells it */
	const char *profile;       /* beside "host" */
	const char *outcome;       /* of the security control profile */
	unsigned category;
	unsigned class;
	unsigned activity;
} mapped[CELLOS_SOURCE_EVENT_COUNT] = {
	[CELLOS_SOURCE_PROCESS_SPAWNED] = {"ocsf-process-spawned", "System Activity",
					   "Process Activity", "Launch", "Launch", "", "", 1, 1007,
					   1},
	[CELLOS_SOURCE_PROCESS_EXITED] = {"ocsf-process-exited", "System Activity",
					  "Process Activity", "Terminate", "Terminate", "", "", 1,
					  1007, 2},
	[CELLOS_SOURCE_CAPABILITY_DENIED] =
		{"ocsf-capability-denied", "System Activity", "Process Activity",
		 "Capability Denied", "Other", ",\"security_control\"",
		 ",\"action_id\":2,\"action\":\"Denied\",\"disposition_id\":26,\"disposition\":"
		 "\"Unauthorized\"",
		 1, 1007, 99},
	[CELLOS_SOURCE_FS_INOTIFY_FIRED] = {"ocsf-fs-inotify-fired", "System Activity",
					    "File System Activity", "Unknown", "Unknown", "", "", 1,
					    1001, 0},
	[CELLOS_SOURCE_NET_CONNECT_ATTEMPTED] = {"ocsf-net-connect-attempted", "Network Activity",
						 "Network Activity", "Connect Attempted", "Other",
						 "", "", 4, 4001, 99},
};

const char *host_ocsf_schema(unsigned source)
{
	return mapped[source].schema;
}

/* How much a report matters, as OCSF counts it. */
enum severity { INFORMATIONAL = 1, LOW, MEDIUM, HIGH };

static const char *const severity_names[] = {
	[INFORMATIONAL] = "Informational", [LOW] = "Low", [MEDIUM] = "Medium", [HIGH] = "High"};

static const enum severity severities[HOST_REPORT_KIND_COUNT] = {
	[HOST_REPORT_HEARTBEAT] = INFORMATIONAL, [HOST_REPORT_DROPPED] = LOW,
	[HOST_REPORT_LOST_IN_FLIGHT] = LOW,      [HOST_REPORT_LOST_IN_HOST] = MEDIUM,
	[HOST_REPORT_BAD_FRAME] = LOW,           [HOST_REPORT_BAD_REPORT] = LOW,
	[HOST_REPORT_GOODBYE] = INFORMATIONAL,   [HOST_REPORT_ENDED_WITHOUT_GOODBYE] = MEDIUM,
	[HOST_REPORT_AGENT_RESTARTED] = LOW,     [HOST_REPORT_CONTESTED] = HIGH,
	[HOST_REPORT_JOINED] = INFORMATIONAL,    [HOST_REPORT_SILENCED] = MEDIUM,
	[HOST_REPORT_RECOVERED] = INFORMATIONAL, [HOST_REPORT_REFUSED] = HIGH,
	[HOST_REPORT_LEDGER] = INFORMATIONAL,
};

/* ---- pieces --------------------------------------------------------------------------------- */

/* The endpoints of a connect: it came from the cell, and that is all that is known. */
static bool make_endpoints(struct piece *piece, const struct host_stamp *stamp, unsigned source)
{
	if (source != CELLOS_SOURCE_NET_CONNECT_ATTEMPTED)
		return host_make_piece(piece, "%s", "");
	return host_make_piece(
		piece,
		",\"src_endpoint\":{\"uid\":\"%s\",\"type_id\":6,\"type\":\"Virtual\"},"
		"\"dst_endpoint\":{\"name\":\"Unknown\",\"type_id\":0,\"type\":\"Unknown\"}",
		stamp->cell_id);
}

static bool make_event(struct host_formatter *formatter, const struct host_stamp *stamp,
		       unsigned source)
{
	const struct mapping *as = &mapped[source];
	struct piece endpoints = {NULL, 0};
	bool made = make_endpoints(&endpoints, stamp, source) &&
		    host_make_piece(
			    &formatter->event_ocsf[source],
			    "{\"category_uid\":%u,\"category_name\":\"%s\",\"class_uid\":%u,"
			    "\"class_name\":\"%s\",\"activity_id\":%u,\"activity_name\":\"%s\","
			    "\"type_uid\":%u,\"type_name\":\"%s: %s\",\"severity_id\":%d,"
			    "\"severity\":\"%s\"%s%s%s\"host\"%s],\"event_code\":\"%s\",\"uid\":\"",
			    as->category, as->category_name, as->class, as->class_name,
			    as->activity, as->activity_name, as->class * 100 + as->activity,
			    as->class_name, as->type_activity, INFORMATIONAL,
			    severity_names[INFORMATIONAL], as->outcome, endpoints.text,
			    formatter->ocsf.text, as->profile, cellos_probe_source_name(source));

	free(endpoints.text);
	return made;
}

bool host_make_ocsf(struct host_formatter *formatter, const struct host_stamp *stamp)
{
	bool made =
		host_make_piece(&formatter->ocsf,
				",\"device\":{\"uid\":\"%s\",\"type_id\":6,\"type\":\"Virtual\"},"
				"\"metadata\":{\"version\":\"" HOST_OCSF_VERSION
				"\",\"product\":{\"name\":\"cellos-telemetry\",\"vendor_name\":"
				"\"cellos-telemetry contributors\",\"version\":\"" CELLOS_VERSION
				"\"},\"correlation_uid\":\"%s\",\"profiles\":[",
				stamp->cell_id, stamp->run_id);

	for (unsigned source = 0; made && source < CELLOS_SOURCE_EVENT_COUNT; source++)
		made = make_event(formatter, stamp, source);
	return made;
}

/* ---- events --------------------------------------------------------------------------------- */

static char *put_process(char *at, const struct cellos_probe_event *event)
{
	at = PUT(at, "{\"pid\":");
	at = put_number(at, event->guest_pid);
	at = PUT(at, ",\"name\":\"");
	at = cellos_json_escape(at, event->guest_comm, event->guest_comm_len);
	return PUT(at, "\"}");
}

static char *put_who(char *at, const struct cellos_probe_event *event)
{
	switch (event->probe_source) {
	case CELLOS_SOURCE_PROCESS_SPAWNED:
	case CELLOS_SOURCE_PROCESS_EXITED:
		at = PUT(at, UNKNOWN_ACTOR ",\"process\":");
		return put_process(at, event);
	case CELLOS_SOURCE_FS_INOTIFY_FIRED:
		/* The pid may be the agent's own, and the wire does not say when. */
		return PUT(at, UNKNOWN_ACTOR UNKNOWN_FILE);
	case CELLOS_SOURCE_NET_CONNECT_ATTEMPTED:
		at = PUT(at, ",\"actor\":{\"process\":");
		at = put_process(at, event);
		return PUT(at, "}");
	default: /* a process that was denied a capability: actor and target in one */
		at = PUT(at, ",\"actor\":{\"process\":");
		at = put_process(at, event);
		at = PUT(at, "},\"process\":");
		return put_process(at, event);
	}
}

char *host_put_ocsf_event(const struct host_formatter *formatter, char *at,
			  const struct cellos_probe_event *event, const struct host_place *place)
{
	at = put_piece(at, &formatter->event_ocsf[event->probe_source]);
	at = host_put_event_id(formatter, at, place);
	at = PUT(at, "\",\"sequence\":");
	at = put_number(at, place->sequence);
	at = PUT(at, "},\"time\":");
	at = put_number(at, place->received_ns / NS_PER_MS);
	at = put_who(at, event);
	at = PUT(at, ",\"unmapped\":");
	at = host_put_raw_event(formatter, at, event, place);
	*at++ = '}';
	return at;
}

/* ---- reports -------------------------------------------------------------------------------- */

/*
 * All of them are Event Log Activity, Other: they tell of the log, and were nobody's command to it,
 * which is what Start, Stop and the others stand for.
 */
void host_add_ocsf_report(const struct host_formatter *formatter, struct cellos_json_line *line,
			  const struct host_report *report, const struct host_place *place)
{
	enum severity severity = severities[report->kind];

	add_literal(
		line,
		"{\"category_uid\":1,\"category_name\":\"System Activity\",\"class_uid\":1008,"
		"\"class_name\":\"Event Log Activity\",\"activity_id\":99,\"activity_name\":\"");
	add_literal(line, host_report_name(report->kind));
	add_literal(line, "\",\"type_uid\":100899,\"type_name\":\"Event Log Activity: Other\"");
	cellos_json_add_u64(line, "severity_id", severity);
	cellos_json_add_string(line, "severity", severity_names[severity]);
	add_literal(line,
		    ",\"log_name\":\"guest telemetry\",\"log_provider\":\"cellos-telemetry\"");
	add_piece(line, &formatter->ocsf);
	add_literal(line, "\"host\"],\"event_code\":\"");
	add_literal(line, host_report_type(report->kind));
	add_literal(line, "\",\"uid\":\"");
	host_add_report_id(formatter, line, place);
	add_literal(line, "\"}");
	cellos_json_add_u64(line, "time", place->received_ns / NS_PER_MS);
	add_literal(line, ",\"unmapped\":");
	host_add_raw_report(formatter, line, report, place);
	cellos_json_close(line);
}
