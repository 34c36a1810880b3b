/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The host's account of one cell; account.h says what holds.
 *
 * Counts on the wire are modulo; here they are 64 bits wide and only ever grow within one
 * incarnation. `sent` moves by at most HOST_MAX_IN_FLIGHT beyond what arrived, or it is another
 * agent's. A row has no such limit: it may have grown for weeks without a host, so any value is
 * taken as the next one that the modulus allows.
 */
#include "account.h"

#include <string.h>

#include "state.h"

static void report(struct host_account *account, const struct host_report *what)
{
	account->reports++; /* before the call: it is this report's number */
	account->report(account->context, what);
}

static void report_count(struct host_account *account, enum host_report_kind kind, uint64_t count)
{
	report(account, &(struct host_report){.kind = kind, .count = count});
}

void host_account_init(struct host_account *account, host_report_fn report_to, void *context)
{
	memset(account, 0, sizeof(*account));
	account->report = report_to;
	account->context = context;
	account->incarnation = 1;
	account->silence.window_ms = HOST_SILENCE_MS;
}

static uint64_t sum_of_bad(const struct host_totals *totals)
{
	uint64_t sum = 0;

	for (unsigned i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++)
		sum += i == CELLOS_WIRE_FRAME_TOO_LARGE ? 0 : totals->bad[i];
	return sum;
}

int64_t host_totals_unsettled(const struct host_totals *totals)
{
	return (int64_t)(totals->frames - totals->emitted - sum_of_bad(totals) - totals->refused -
			 totals->lost_in_host);
}

/* ---- what outlives the process -------------------------------------------------------------- */

void host_account_keep(const struct host_account *account, struct host_kept *kept)
{
	/* All of it, padding too: it goes to a file. */
	memset(kept, 0, sizeof(*kept));
	kept->agent = account->agent;
	kept->totals = account->totals;
	kept->told = account->told;
	kept->incarnation = account->incarnation;
	kept->knew_any = account->knew_any;
	kept->untold = account->untold;
	kept->silent = account->silence.silent;
	kept->sequence = account->sequence;
	kept->reports = account->reports;
}

void host_account_restore(struct host_account *account, const struct host_kept *kept)
{
	int64_t unsettled;

	account->agent = kept->agent;
	account->totals = kept->totals;
	account->told = kept->told;
	account->incarnation = kept->incarnation != 0 ? kept->incarnation : 1;
	/* Somebody listened for this cell before: whatever is missing now is missing. */
	account->knew_any = true;
	account->untold = kept->untold;
	account->silence.silent = kept->silent;
	account->sequence = kept->sequence;
	account->reports = kept->reports;
	unsettled = host_totals_unsettled(&account->totals);
	if (unsettled > 0)
		host_account_lost(account, (uint64_t)unsettled);
}

/* How far `wire` stands ahead of `known` on a circle of `modulus`. */
static uint64_t ahead(uint64_t known, uint64_t wire, uint64_t modulus)
{
	return (wire + modulus - known % modulus) % modulus;
}

/* Epochs run 1..99999 and begin again at 1. Serial: newer is less than half the circle ahead. */
static bool epoch_is_newer(uint32_t known, uint32_t epoch)
{
	const uint64_t circle = CELLOS_EPOCH_MODULUS - 1;
	uint64_t distance = ahead(known, epoch, circle);

	return distance > 0 && distance < (circle + 1) / 2;
}

/* ---- connections ---------------------------------------------------------------------------- */

void host_account_connected(struct host_account *account)
{
	memset(&account->connection, 0, sizeof(account->connection));
	account->connection.settled_at = account->sequence;
}

void host_account_disconnected(struct host_account *account)
{
	host_account_tell(account);
	/* Who said nothing lost nothing: a probe of the socket, or an agent that could not begin.
	 */
	if (account->connection.spoke && !account->connection.goodbye)
		report_count(account, HOST_REPORT_ENDED_WITHOUT_GOODBYE, account->agent.position);
	memset(&account->connection, 0, sizeof(account->connection));
}

/* What stood before is not the last word of the stream. */
static void spoke(struct host_account *account)
{
	account->connection.spoke = true;
	account->connection.goodbye = false;
}

/* Any whole frame. */
static void heard(struct host_account *account)
{
	struct host_silence *silence = &account->silence;

	spoke(account);
	if (silence->silent) {
		silence->silent = false;
		report_count(account, HOST_REPORT_RECOVERED, silence->now_ms - silence->heard_ms);
	}
	silence->heard_ms = silence->now_ms;
}

static void another_agent(struct host_account *account)
{
	/* At a connection's first heartbeat the old account was closed by that connection's end. */
	if (account->connection.epoch != 0)
		report_count(account, HOST_REPORT_ENDED_WITHOUT_GOODBYE, account->agent.position);
	memset(&account->agent, 0, sizeof(account->agent));
	account->connection.epoch = 0;
	account->connection.joining = false;
	account->connection.settled_at = 0;
	/* A guest may be many agents; at the last number they share one, and no id comes twice. */
	if (account->incarnation < UINT32_MAX) {
		account->incarnation++;
		account->sequence = 0;
	}
	account->told.at = 0;
	account->told.lost_at = 0;
	report_count(account, HOST_REPORT_AGENT_RESTARTED, account->incarnation);
}

/* ---- silence -------------------------------------------------------------------------------- */

void host_account_set_silence(struct host_account *account, uint64_t window_ms)
{
	account->silence.window_ms = window_ms;
}

void host_account_excuse(struct host_account *account, uint64_t now_ms)
{
	struct host_silence *silence = &account->silence;

	silence->running = true;
	silence->now_ms = now_ms;
	if (!silence->silent)
		silence->heard_ms = now_ms;
}

uint64_t host_account_silent_at(const struct host_account *account)
{
	const struct host_silence *silence = &account->silence;

	if (silence->silent || silence->window_ms == 0 ||
	    silence->window_ms > UINT64_MAX - silence->heard_ms)
		return UINT64_MAX;
	return silence->heard_ms + silence->window_ms;
}

void host_account_clock(struct host_account *account, uint64_t now_ms)
{
	struct host_silence *silence = &account->silence;

	if (!silence->running) {
		silence->running = true;
		silence->heard_ms = now_ms; /* a cell that never spoke is silent from its start */
	}
	silence->now_ms = now_ms;
	if (now_ms < host_account_silent_at(account))
		return;
	silence->silent = true;
	account->totals.silences++;
	report_count(account, HOST_REPORT_SILENCED, now_ms - silence->heard_ms);
}

/* ---- self-reports --------------------------------------------------------------------------- */

static void count_bad_report(struct host_account *account, const struct cellos_probe_event *event)
{
	account->totals.bad_reports++;
	account->told.bad_report = *event;
	account->untold = true;
}

static void take_row(struct host_account *account, const struct cellos_self_report *row)
{
	uint64_t *total = &account->agent.rows[row->lane][row->reason];
	uint64_t *at = &account->agent.rows_at[row->lane][row->reason];
	uint64_t more = ahead(*total, row->count, CELLOS_DROPPED_MODULUS);

	if (more == 0)
		return; /* said again after a reconnect */
	*total += more;
	account->totals.dropped[row->lane][row->reason] += more;
	report(account, &(struct host_report){.kind = HOST_REPORT_DROPPED,
					      .lane = row->lane,
					      .reason = row->reason,
					      .count = *total,
					      .since = more,
					      .first = *at,
					      .last = account->sequence,
					      .baseline = account->connection.joining});
	*at = account->sequence;
}

/* The first heartbeat of an incarnation. */
static void announce(struct host_account *account, const struct cellos_self_report *beat)
{
	struct host_incarnation *agent = &account->agent;

	agent->announced = true;
	if (!account->knew_any) {
		/* What went before was nobody's business here: not lost, but not seen either. */
		agent->position = beat->count;
		if (beat->epoch != 1 || beat->count != 0) {
			account->connection.joining = true;
			report_count(account, HOST_REPORT_JOINED, beat->count);
		}
	} else if (beat->count < agent->position) {
		agent->position = beat->count; /* frames before any heartbeat, and then denied */
	}
	account->knew_any = true;
}

/* Sets `sent` against what arrived: the difference was in flight when a connection broke. */
static void settle(struct host_account *account, uint64_t sent)
{
	struct host_incarnation *agent = &account->agent;
	uint64_t lost = ahead(agent->position, sent, CELLOS_SENT_MODULUS);

	if (lost == 0)
		return;
	agent->position += lost;
	account->totals.lost_in_flight += lost;
	report(account, &(struct host_report){.kind = HOST_REPORT_LOST_IN_FLIGHT,
					      .epoch = agent->epoch,
					      .count = account->totals.lost_in_flight,
					      .since = lost,
					      .first = account->connection.settled_at,
					      .last = account->sequence});
}

/* Can this heartbeat not come from the agent we know? Its pid was compared already. */
static bool contradicts(const struct host_account *account, const struct cellos_self_report *beat)
{
	const struct host_incarnation *agent = &account->agent;

	if (!agent->announced)
		return false;
	if (ahead(agent->position, beat->count, CELLOS_SENT_MODULUS) > HOST_MAX_IN_FLIGHT)
		return true;
	/* Each connection has a later epoch than the one before. */
	return account->connection.epoch == 0 && beat->epoch != 0 &&
	       !epoch_is_newer(agent->epoch, beat->epoch);
}

static void take_beat(struct host_account *account, const struct cellos_self_report *beat,
		      const struct cellos_probe_event *event)
{
	struct host_connection_state *connection = &account->connection;
	struct host_incarnation *agent = &account->agent;

	if (beat->epoch != 0 && connection->epoch != 0 && beat->epoch != connection->epoch) {
		count_bad_report(account, event); /* one connection has one epoch */
		return;
	}
	if (contradicts(account, beat)) {
		another_agent(account);
		agent->named = true;
		agent->pid = event->guest_pid;
	}
	connection->joining = false;
	if (!agent->announced)
		announce(account, beat);
	if (beat->epoch != 0) {
		if (connection->epoch == 0)
			account->totals.epochs++;
		connection->epoch = beat->epoch;
		agent->epoch = beat->epoch;
	}
	settle(account, beat->count);
	connection->settled_at = account->sequence;
	connection->goodbye = beat->epoch == 0;
	report(account, &(struct host_report){.kind = beat->epoch == 0 ? HOST_REPORT_GOODBYE
								       : HOST_REPORT_HEARTBEAT,
					      .epoch = beat->epoch,
					      .count = agent->position});
}

static void take_self_report(struct host_account *account, const struct cellos_probe_event *event)
{
	struct cellos_self_report said;

	if (cellos_self_report_parse(event, &said) < 0) {
		count_bad_report(account, event);
		return;
	}
	if (account->agent.named && account->agent.pid != event->guest_pid)
		another_agent(account);
	account->agent.named = true;
	account->agent.pid = event->guest_pid;
	if (said.source == CELLOS_SOURCE_TELEMETRY_HEARTBEAT)
		take_beat(account, &said, event);
	else
		take_row(account, &said);
}

/* ---- frames --------------------------------------------------------------------------------- */

static void count_frame(struct host_account *account)
{
	heard(account);
	account->connection.joining = false;
	account->totals.frames++;
	account->agent.position++;
}

bool host_account_take(struct host_account *account, const struct cellos_probe_event *event)
{
	if (event->probe_source >= CELLOS_SOURCE_EVENT_COUNT) {
		heard(account);
		take_self_report(account, event);
		return false;
	}
	count_frame(account);
	account->totals.events++;
	if (account->refusing) {
		account->totals.refused++;
		return false;
	}
	account->sequence++;
	return true;
}

void host_account_refuse(struct host_account *account, enum cellos_wire_status status)
{
	count_frame(account);
	account->totals.bad[status]++;
	account->untold = true;
}

void host_account_framing_lost(struct host_account *account)
{
	spoke(account);
	account->totals.bad[CELLOS_WIRE_FRAME_TOO_LARGE]++;
	account->untold = true;
}

void host_account_contested(struct host_account *account)
{
	account->totals.contested++;
	account->untold = true;
}

/* ---- handing on ----------------------------------------------------------------------------- */

void host_account_handed_on(struct host_account *account, uint64_t count)
{
	account->totals.emitted += count;
}

void host_account_lost(struct host_account *account, uint64_t count)
{
	struct host_told *told = &account->told;

	if (count == 0)
		return;
	/* Those of an agent before this one have numbers of another incarnation: from 0 then. */
	if (account->totals.lost_in_host == told->lost_in_host)
		told->lost_at = account->sequence > count ? account->sequence - count : 0;
	account->totals.lost_in_host += count;
	account->untold = true;
}

void host_account_refuse_cell(struct host_account *account, const char *violation)
{
	account->refusing = true;
	report(account, &(struct host_report){.kind = HOST_REPORT_REFUSED,
					      .count = account->totals.refused,
					      .text = violation});
}

void host_account_admit_cell(struct host_account *account)
{
	account->refusing = false;
}

/* ---- telling -------------------------------------------------------------------------------- */

/* A total that grew since it was told. */
static void tell_total(struct host_account *account, struct host_report *what, uint64_t total,
		       uint64_t *told)
{
	const uint64_t since = total - *told;

	if (since == 0)
		return;
	*told = total;
	what->count = total;
	what->since = since;
	what->last = account->sequence;
	report(account, what);
}

void host_account_tell(struct host_account *account)
{
	const struct host_totals *totals = &account->totals;
	struct host_told *told = &account->told;

	if (!account->untold)
		return;
	account->untold = false;
	for (unsigned i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++)
		tell_total(account,
			   &(struct host_report){.kind = HOST_REPORT_BAD_FRAME,
						 .error = (enum cellos_wire_status)i,
						 .first = told->at},
			   totals->bad[i], &told->bad[i]);
	tell_total(account,
		   &(struct host_report){.kind = HOST_REPORT_BAD_REPORT,
					 .event = &told->bad_report,
					 .first = told->at},
		   totals->bad_reports, &told->bad_reports);
	tell_total(account, &(struct host_report){.kind = HOST_REPORT_CONTESTED, .first = told->at},
		   totals->contested, &told->contested);
	tell_total(account,
		   &(struct host_report){.kind = HOST_REPORT_LOST_IN_HOST, .first = told->lost_at},
		   totals->lost_in_host, &told->lost_in_host);
	told->at = account->sequence;
}

void host_account_conclude(struct host_account *account)
{
	host_account_tell(account);
	report(account,
	       &(struct host_report){.kind = HOST_REPORT_LEDGER,
				     .epoch = account->agent.epoch,
				     .count = account->agent.position,
				     .totals = &account->totals,
				     .unsettled = host_totals_unsettled(&account->totals)});
}
