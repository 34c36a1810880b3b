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

static void report(struct host_account *account, const struct host_report *what)
{
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

/* Any whole frame: what stood before it is not the last word of the stream. */
static void heard(struct host_account *account)
{
	account->connection.spoke = true;
	account->connection.goodbye = false;
}

static void another_agent(struct host_account *account)
{
	/* At a connection's first heartbeat the old account was closed by that connection's end. */
	if (account->connection.epoch != 0)
		report_count(account, HOST_REPORT_ENDED_WITHOUT_GOODBYE, account->agent.position);
	report_count(account, HOST_REPORT_AGENT_RESTARTED, 0);
	memset(&account->agent, 0, sizeof(account->agent));
	account->connection.epoch = 0;
	account->connection.joining = false;
}

/* ---- self-reports --------------------------------------------------------------------------- */

static void count_bad_report(struct host_account *account, const struct cellos_probe_event *event)
{
	account->totals.bad_reports++;
	account->bad_report = *event;
	account->untold = true;
}

static void take_row(struct host_account *account, const struct cellos_self_report *row)
{
	uint64_t *total = &account->agent.rows[row->lane][row->reason];
	uint64_t more = ahead(*total, row->count, CELLOS_DROPPED_MODULUS);

	if (more == 0)
		return; /* said again after a reconnect */
	*total += more;
	account->totals.dropped[row->lane][row->reason] += more;
	report(account, &(struct host_report){.kind = HOST_REPORT_DROPPED,
					      .lane = row->lane,
					      .reason = row->reason,
					      .count = *total,
					      .baseline = account->connection.joining});
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
					      .count = lost});
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
	heard(account);
	account->totals.bad[CELLOS_WIRE_FRAME_TOO_LARGE]++;
	account->untold = true;
}

void host_account_contested(struct host_account *account)
{
	account->totals.contested++;
	account->untold = true;
}

/* ---- telling -------------------------------------------------------------------------------- */

void host_account_tell(struct host_account *account)
{
	const struct host_totals *totals = &account->totals;

	if (!account->untold)
		return;
	account->untold = false;
	for (unsigned i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++) {
		if (totals->bad[i] == account->told_bad[i])
			continue;
		account->told_bad[i] = totals->bad[i];
		report(account, &(struct host_report){.kind = HOST_REPORT_BAD_FRAME,
						      .error = (enum cellos_wire_status)i,
						      .count = totals->bad[i]});
	}
	if (totals->bad_reports != account->told_bad_reports) {
		account->told_bad_reports = totals->bad_reports;
		report(account, &(struct host_report){.kind = HOST_REPORT_BAD_REPORT,
						      .count = totals->bad_reports,
						      .event = &account->bad_report});
	}
	if (totals->contested != account->told_contested) {
		account->told_contested = totals->contested;
		report_count(account, HOST_REPORT_CONTESTED, totals->contested);
	}
}
