/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The host's account, as tables of stories: what a connection brought, and what the host says.
 *
 *	+  connected      e  an event       h100=1:5   heartbeat of pid 100, epoch 1, sent 5
 *	-  disconnected   x  a bad frame    d100=pq:5  row of pid 100
 *	c  contested      L  framing lost   t          tell what is counted
 *	o5 5 handed on    l5 5 lost here    T9000      the clock, in ms; X9000: and we did not read
 *	R  admission says no   A  and yes   S500       the window of silence
 *	K  killed and started again, from what was kept; Z  concluded
 *
 * "e*1000" is a thousand times e. Whatever the story, the identities of account.h hold after each
 * step of it.
 */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"
#include "state.h"

struct told {
	char text[4096];
	size_t length;
	bool ranges; /* each report with [first,last] */
	uint64_t reports;
};

static void tell(void *context, const struct host_report *r)
{
	struct told *told = context;
	char line[160];

	switch (r->kind) {
	case HOST_REPORT_HEARTBEAT:
		snprintf(line, sizeof(line), "beat(%u,%" PRIu64 ")", r->epoch, r->count);
		break;
	case HOST_REPORT_DROPPED:
		snprintf(line, sizeof(line), "drop%s(%c%c,%" PRIu64 ")", r->baseline ? "0" : "",
			 cellos_lane_letter(r->lane), cellos_drop_reason_letter(r->reason),
			 r->count);
		break;
	case HOST_REPORT_LOST_IN_FLIGHT:
		snprintf(line, sizeof(line), "lost(%u,%" PRIu64 ")", r->epoch, r->since);
		break;
	case HOST_REPORT_BAD_FRAME:
		snprintf(line, sizeof(line), "bad(%s,%" PRIu64 ")",
			 cellos_wire_status_name(r->error), r->count);
		break;
	case HOST_REPORT_BAD_REPORT:
		snprintf(line, sizeof(line), "badreport(%s,%" PRIu64 ")", r->event->guest_comm,
			 r->count);
		break;
	case HOST_REPORT_GOODBYE:
		snprintf(line, sizeof(line), "bye(%" PRIu64 ")", r->count);
		break;
	case HOST_REPORT_ENDED_WITHOUT_GOODBYE:
		snprintf(line, sizeof(line), "ended(%" PRIu64 ")", r->count);
		break;
	case HOST_REPORT_AGENT_RESTARTED:
		snprintf(line, sizeof(line), "restart");
		break;
	case HOST_REPORT_CONTESTED:
		snprintf(line, sizeof(line), "contested(%" PRIu64 ")", r->count);
		break;
	case HOST_REPORT_JOINED:
		snprintf(line, sizeof(line), "joined(%" PRIu64 ")", r->count);
		break;
	case HOST_REPORT_LOST_IN_HOST:
		snprintf(line, sizeof(line), "gone(%" PRIu64 ",%" PRIu64 ")", r->since, r->count);
		break;
	case HOST_REPORT_SILENCED:
		snprintf(line, sizeof(line), "silent(%" PRIu64 ")", r->count);
		break;
	case HOST_REPORT_RECOVERED:
		snprintf(line, sizeof(line), "back(%" PRIu64 ")", r->count);
		break;
	case HOST_REPORT_REFUSED:
		snprintf(line, sizeof(line), "refused(%s)", r->text);
		break;
	case HOST_REPORT_LEDGER:
		snprintf(line, sizeof(line), "ledger(%" PRIu64 ",%" PRId64 ")", r->totals->frames,
			 r->unsettled);
		break;
	case HOST_REPORT_KIND_COUNT:
		cr_assert_fail("no such report");
	}
	told->reports++;
	if (told->ranges)
		snprintf(line + strlen(line), sizeof(line) - strlen(line),
			 "[%" PRIu64 ",%" PRIu64 "]", r->first, r->last);
	told->length +=
		(size_t)snprintf(told->text + told->length, sizeof(told->text) - told->length,
				 "%s%s", told->length == 0 ? "" : " ", line);
	cr_assert_lt(told->length, sizeof(told->text));
}

static void check_identity(const struct host_account *a, const char *step)
{
	const struct told *told = a->context;
	uint64_t bad = 0;

	for (unsigned i = 0; i < CELLOS_WIRE_STATUS_COUNT; i++)
		bad += a->totals.bad[i];
	bad -= a->totals.bad[CELLOS_WIRE_FRAME_TOO_LARGE];
	cr_assert_eq(a->totals.frames, a->totals.events + bad, "after %s", step);
	/* Every report has a number of its own, and none is left out. */
	cr_assert_eq(a->reports, told->reports, "after %s", step);
	cr_assert_leq(a->totals.refused, a->totals.events, "after %s", step);
}

/* A kill -9, and the next process: only what was kept goes over. */
static void start_again(struct host_account *a)
{
	const uint64_t window = a->silence.window_ms;
	struct host_kept kept;

	host_account_keep(a, &kept);
	host_account_init(a, a->report, a->context);
	host_account_set_silence(a, window);
	host_account_restore(a, &kept);
}

static void self_report(struct host_account *a, const char *step)
{
	struct cellos_probe_event event = {.content_version = CELLOS_WIRE_CONTENT_VERSION};
	char *text;

	event.probe_source = step[0] == 'h' ? CELLOS_SOURCE_TELEMETRY_HEARTBEAT
					    : CELLOS_SOURCE_TELEMETRY_DROPPED;
	event.guest_pid = (uint32_t)strtoul(step + 1, &text, 10);
	cr_assert_eq(*text, '=', "%s", step);
	event.guest_comm_len = (uint8_t)strlen(text + 1);
	strcpy(event.guest_comm, text + 1);
	cr_assert_not(host_account_take(a, &event), "a self-report is no event");
}

static void play(struct host_account *a, const char *step)
{
	struct cellos_probe_event event = {.probe_source = CELLOS_SOURCE_PROCESS_SPAWNED};
	const char *star = strchr(step, '*');
	unsigned long times = star != NULL ? strtoul(star + 1, NULL, 10) : 1;

	const uint64_t number = strtoull(step + 1, NULL, 10);

	while (times-- > 0) {
		switch (step[0]) {
		case '+':
			host_account_connected(a);
			break;
		case '-':
			host_account_disconnected(a);
			break;
		case 'e':
			cr_assert_eq(host_account_take(a, &event), !a->refusing);
			break;
		case 'o':
			host_account_handed_on(a, number);
			break;
		case 'l':
			host_account_lost(a, number);
			break;
		case 'T':
			host_account_clock(a, number);
			break;
		case 'X':
			host_account_excuse(a, number);
			break;
		case 'S':
			host_account_set_silence(a, number);
			break;
		case 'R':
			host_account_refuse_cell(a, "rule");
			break;
		case 'A':
			host_account_admit_cell(a);
			break;
		case 'K':
			start_again(a);
			break;
		case 'Z':
			host_account_conclude(a);
			break;
		case 'x':
			host_account_refuse(a, CELLOS_WIRE_NOT_MAP5);
			break;
		case 'L':
			host_account_framing_lost(a);
			break;
		case 'c':
			host_account_contested(a);
			break;
		case 't':
			host_account_tell(a);
			break;
		default:
			self_report(a, step);
		}
		check_identity(a, step);
	}
}

struct story {
	const char *steps, *told; /* with ranges where one has a '[' */
};

static struct host_account play_story(const struct story *story)
{
	struct told told = {.ranges = strchr(story->told, '[') != NULL};
	struct host_account account;
	char steps[1024], *rest = steps, *step;

	cr_assert_lt(strlen(story->steps), sizeof(steps));
	strcpy(steps, story->steps);
	host_account_init(&account, tell, &told);
	while ((step = strsep(&rest, " ")) != NULL)
		play(&account, step);
	cr_assert_str_eq(told.text, story->told, "\nstory %s\ntold  %s\nnot   %s", story->steps,
			 told.text, story->told);
	return account;
}

static void play_all(const struct story *stories, size_t count)
{
	for (size_t i = 0; i < count; i++)
		(void)play_story(&stories[i]);
}

#define PLAY(stories) play_all(stories, sizeof(stories) / sizeof((stories)[0]))

Test(account, orderly_lives)
{
	static const struct story stories[] = {
		{"+ h9=1:0 h9=0:0 -", "beat(1,0) bye(0)"},
		{"+ h9=1:0 e e h9=1:2 e h9=0:3 -", "beat(1,0) beat(1,2) bye(3)"},
		/* a refused frame was received too */
		{"+ h9=1:0 e x e t h9=0:3 -", "beat(1,0) bad(NotMap5,1) bye(3)"},
		/* a broken connection in between, nothing lost */
		{"+ h9=1:0 e e - + h9=2:2 e h9=0:3 -", "beat(1,0) ended(2) beat(2,2) bye(3)"},
		/* who connects and says nothing lost nothing */
		{"+ - + -", ""},
		{"+ - + h9=1:0 h9=0:0 - + -", "beat(1,0) bye(0)"},
	};

	PLAY(stories);
}

Test(account, endings)
{
	static const struct story stories[] = {
		{"+ h9=1:0 -", "beat(1,0) ended(0)"},
		/* more is complete than the last heartbeat said */
		{"+ h9=1:0 e e h9=1:2 e e e -", "beat(1,0) beat(1,2) ended(5)"},
		/* a goodbye that was not the last word */
		{"+ h9=1:0 h9=0:0 e -", "beat(1,0) bye(0) ended(1)"},
		{"+ h9=1:0 h9=0:0 h9=1:0 -", "beat(1,0) bye(0) beat(1,0) ended(0)"},
		{"+ h9=1:0 h9=0:0 d9=pq:1 -", "beat(1,0) bye(0) drop(pq,1) ended(0)"},
		{"+ h9=1:0 h9=0:0 L -", "beat(1,0) bye(0) bad(FrameTooLarge,1) ended(0)"},
		/* what is counted is told before the end */
		{"+ h9=1:0 x x -", "beat(1,0) bad(NotMap5,2) ended(2)"},
	};

	PLAY(stories);
}

Test(account, lost_in_flight)
{
	static const struct story stories[] = {
		{"+ h9=1:0 e e - + h9=2:5 e h9=0:6 -",
		 "beat(1,0) ended(2) lost(2,3) beat(2,5) bye(6)"},
		/* settled once, not again */
		{"+ h9=1:0 - + h9=2:5 h9=2:5 - + h9=3:5 h9=0:5 -",
		 "beat(1,0) ended(0) lost(2,5) beat(2,5) beat(2,5) ended(5) beat(3,5) bye(5)"},
		/* the goodbye settles as well, under the epoch of its connection */
		{"+ h9=4:0 e h9=0:3 -", "joined(0) beat(4,0) lost(4,2) bye(3)"},
		/* the most that can have been in flight, and one more */
		{"+ h9=1:0 e - + h9=2:1000001 h9=0:1000001 -",
		 "beat(1,0) ended(1) lost(2,1000000) beat(2,1000001) bye(1000001)"},
		{"+ h9=1:0 e - + h9=2:1000002 h9=0:1000002 -",
		 "beat(1,0) ended(1) restart lost(2,1000002) beat(2,1000002) bye(1000002)"},
		/* two connections that nobody ever accepted in between */
		{"+ h9=1:0 e - + h9=4:9 h9=0:9 -", "beat(1,0) ended(1) lost(4,8) beat(4,9) bye(9)"},
	};

	PLAY(stories);
}

Test(account, sent_wraps_at_10_to_the_10)
{
	static const struct story stories[] = {
		/* joined just below, over the edge without loss, then with */
		{"+ h9=3:9999999998 e e e h9=3:1 - + h9=4:3 h9=0:3 -",
		 "joined(9999999998) beat(3,9999999998) beat(3,10000000001) ended(10000000001) "
		 "lost(4,2) beat(4,10000000003) bye(10000000003)"},
		{"+ h9=3:9999999999 - + h9=4:999999 h9=0:999999 -",
		 "joined(9999999999) beat(3,9999999999) ended(9999999999) lost(4,1000000) "
		 "beat(4,10000999999) bye(10000999999)"},
		{"+ h9=3:9999999999 e - + h9=4:0 h9=0:0 -",
		 "joined(9999999999) beat(3,9999999999) ended(10000000000) beat(4,10000000000) "
		 "bye(10000000000)"},
		/* backwards by one is nearly the whole circle: another agent */
		{"+ h9=1:0 e e - + h9=2:1 -",
		 "beat(1,0) ended(2) restart lost(2,1) beat(2,1) ended(1)"},
	};

	PLAY(stories);
}

Test(account, epochs_are_serial_numbers)
{
	static const struct story stories[] = {
		{"+ h9=99999:7 - + h9=1:7 - + h9=2:7 -",
		 "joined(7) beat(99999,7) ended(7) beat(1,7) ended(7) beat(2,7) ended(7)"},
		{"+ h9=99998:7 - + h9=5:7 -",
		 "joined(7) beat(99998,7) ended(7) beat(5,7) ended(7)"},
		/* nearly half the circle ahead is newer; half of it is older */
		{"+ h9=1:0 - + h9=50000:0 -", "beat(1,0) ended(0) beat(50000,0) ended(0)"},
		{"+ h9=1:0 - + h9=50001:0 -", "beat(1,0) ended(0) restart beat(50001,0) ended(0)"},
		{"+ h9=50001:0 - + h9=1:0 -",
		 "joined(0) beat(50001,0) ended(0) beat(1,0) ended(0)"},
		/* the same epoch on another connection: an agent that began again, with the same
		   pid */
		{"+ h9=1:0 - + h9=1:0 h9=0:0 -", "beat(1,0) ended(0) restart beat(1,0) bye(0)"},
		{"+ h9=7:0 - + h9=6:0 -",
		 "joined(0) beat(7,0) ended(0) restart beat(6,0) ended(0)"},
	};

	PLAY(stories);
}

Test(account, rows)
{
	static const struct story stories[] = {
		{"+ h9=1:0 d9=pq:5 d9=pq:5 d9=pq:12 d9=fo:1 -",
		 "beat(1,0) drop(pq,5) drop(pq,12) drop(fo,1) ended(0)"},
		/* all rows come again after a reconnect: only what is new is told */
		{"+ h9=1:0 d9=pq:5 d9=nx:2 - + h9=2:0 d9=pq:5 d9=nx:3 -",
		 "beat(1,0) drop(pq,5) drop(nx,2) ended(0) beat(2,0) drop(nx,3) ended(0)"},
		/* what was dropped before the host came first is counted, not a baseline */
		{"+ h9=1:0 d9=pq:70 e -", "beat(1,0) drop(pq,70) ended(1)"},
		{"+ h9=1:0 d9=pq:0 -", "beat(1,0) ended(0)"},
		/* modulo 10^13 */
		{"+ h9=1:0 d9=pq:9999999999999 d9=pq:4 -",
		 "beat(1,0) drop(pq,9999999999999) drop(pq,10000000000004) ended(0)"},
		{"+ h9=1:0 d9=pq:9999999999999 d9=pq:0 d9=pq:1 -",
		 "beat(1,0) drop(pq,9999999999999) drop(pq,10000000000000) "
		 "drop(pq,10000000000001) ended(0)"},
		/* three times round */
		{"+ h9=1:0 d9=pq:9999999999999 d9=pq:4 d9=pq:3 d9=pq:4 -",
		 "beat(1,0) drop(pq,9999999999999) drop(pq,10000000000004) "
		 "drop(pq,20000000000003) drop(pq,20000000000004) ended(0)"},
		/* every lane and reason is a row of its own */
		{"+ h9=1:0 d9=pq:1 d9=fk:2 d9=co:3 d9=ns:4 d9=px:5 -",
		 "beat(1,0) drop(pq,1) drop(fk,2) drop(co,3) drop(ns,4) drop(px,5) ended(0)"},
	};

	PLAY(stories);
}

Test(account, joining)
{
	static const struct story stories[] = {
		/* first heartbeat and first rows are the baseline; later ones are losses */
		{"+ h9=3:500 d9=pq:7 d9=fq:8 e d9=cq:9 h9=3:501 d9=nq:1 d9=pq:8 -",
		 "joined(500) beat(3,500) drop0(pq,7) drop0(fq,8) drop(cq,9) beat(3,501) "
		 "drop(nq,1) drop(pq,8) ended(501)"},
		{"+ h9=3:0 d9=pq:7 x t d9=cq:9 -",
		 "joined(0) beat(3,0) drop0(pq,7) bad(NotMap5,1) drop(cq,9) ended(1)"},
		/* the baseline ends with the next heartbeat, and with another agent */
		{"+ h9=3:5 h9=3:5 d9=pq:7 -", "joined(5) beat(3,5) beat(3,5) drop(pq,7) ended(5)"},
		{"+ h9=3:5 d8=pq:7 -", "joined(5) beat(3,5) ended(5) restart drop(pq,7) ended(0)"},
		/* and with the connection */
		{"+ h9=3:5 - + h9=4:5 d9=pq:7 -",
		 "joined(5) beat(3,5) ended(5) beat(4,5) drop(pq,7) ended(5)"},
		/* joined without limit: nothing is known to compare with */
		{"+ h9=1:9000000000 e h9=1:9000000001 -",
		 "joined(9000000000) beat(1,9000000000) beat(1,9000000001) ended(9000000001)"},
		/* nobody is joined twice: a later agent's first frames were lost, and are counted
		 */
		{"+ h9=3:5 - + h8=2:5 -",
		 "joined(5) beat(3,5) ended(5) restart lost(2,5) beat(2,5) ended(5)"},
	};

	PLAY(stories);
}

Test(account, another_agent)
{
	static const struct story stories[] = {
		/* its rows count from 0 again */
		{"+ h9=1:0 e d9=pq:5 - + h8=1:0 d8=pq:5 e h8=0:1 -",
		 "beat(1,0) drop(pq,5) ended(1) restart beat(1,0) drop(pq,5) bye(1)"},
		{"+ h9=1:0 e h9=0:1 - + h8=1:0 h8=0:0 -",
		 "beat(1,0) bye(1) restart beat(1,0) bye(0)"},
		/* the same pid, after a reboot: sent is behind what arrived */
		{"+ h9=1:0 e*500 - + h9=1:0 h9=0:0 -",
		 "beat(1,0) ended(500) restart beat(1,0) bye(0)"},
		/* in the middle of a connection: the old account is closed first */
		{"+ h9=1:0 e h8=1:0 e h8=0:1 -", "beat(1,0) ended(1) restart beat(1,0) bye(1)"},
		{"+ h9=1:0 e d8=pq:3 h8=1:0 -",
		 "beat(1,0) ended(1) restart drop(pq,3) beat(1,0) ended(0)"},
		{"+ h9=1:0 h9=1:5000000 h9=1:5000000 -",
		 "beat(1,0) ended(0) restart lost(1,5000000) beat(1,5000000) beat(1,5000000) "
		 "ended(5000000)"},
		{"+ h9=1:0 h8=3:0 h8=0:0 -", "beat(1,0) ended(0) restart beat(3,0) bye(0)"},
		/* a goodbye can be another agent's, too */
		{"+ h9=1:0 e - + h8=0:7 -", "beat(1,0) ended(1) restart lost(0,7) bye(7)"},
	};

	PLAY(stories);
}

Test(account, bad_reports)
{
	static const struct story stories[] = {
		{"+ h9=1:0 d9=pq: t", "beat(1,0) badreport(pq:,1)"},
		{"+ h9=1:0 d9=zz:1 d9=pq:01 h9=00001:1 h9=1 t t", "beat(1,0) badreport(1,4)"},
		/* 14 digits, 11 digits, six digits, not a number */
		{"+ h9=1:0 d9=pq:10000000000000 t", "beat(1,0) badreport(pq:10000000000000,1)"},
		{"+ h9=1:0 h9=1:10000000000 t", "beat(1,0) badreport(1:10000000000,1)"},
		{"+ h9=1:0 h9=100000:1 t", "beat(1,0) badreport(100000:1,1)"},
		{"+ h9=1:0 h9=1:-5 t", "beat(1,0) badreport(1:-5,1)"},
		{"+ h9=1:0 h9=:5 h9=5: h9= d9= t", "beat(1,0) badreport(,4)"},
		/* it names nobody: the pid of a bad report is no other agent */
		{"+ h9=1:0 d8=zz:1 e h9=0:1 -", "beat(1,0) bye(1) badreport(zz:1,1)"},
		/* one connection has one epoch; the odd one out changes nothing */
		{"+ h9=5:10 e h9=6:900 h9=5:11 -",
		 "joined(10) beat(5,10) beat(5,11) badreport(6:900,1) ended(11)"},
	};

	PLAY(stories);
}

Test(account, frames_before_any_heartbeat)
{
	static const struct story stories[] = {
		{"+ e e -", "ended(2)"},
		{"+ e e h9=1:2 h9=0:2 -", "joined(2) beat(1,2) bye(2)"},
		{"+ e e h9=1:0 e h9=0:1 -", "beat(1,0) bye(1)"},
		{"+ x L -", "bad(FrameTooLarge,1) bad(NotMap5,1) ended(1)"},
		{"+ L -", "bad(FrameTooLarge,1) ended(0)"},
		{"+ d9=pq:3 h9=1:0 -", "drop(pq,3) beat(1,0) ended(0)"},
		{"+ d9=pq:3 h8=1:0 -", "drop(pq,3) restart beat(1,0) ended(0)"},
		{"+ h9=0:0 -", "joined(0) bye(0)"},
		{"+ h9=0:7 -", "joined(7) bye(7)"},
		/* of a known agent they count as its own */
		{"+ h9=1:0 e - + e e h9=2:3 -", "beat(1,0) ended(1) beat(2,3) ended(3)"},
		/* of a new one too, unless it denies them */
		{"+ h9=1:0 h8=1:0 - + e d7=pq:1 e e h7=1:1 -",
		 "beat(1,0) ended(0) restart beat(1,0) ended(0) restart drop(pq,1) beat(1,1) "
		 "ended(1)"},
	};

	PLAY(stories);
}

Test(account, bad_frames_are_told_as_totals)
{
	static const struct story stories[] = {
		{"+ h9=1:0 x*1000000 t t x t",
		 "beat(1,0) bad(NotMap5,1000000) bad(NotMap5,1000001)"},
		{"t", ""},
		{"c c t t c t", "contested(2) contested(3)"},
		{"+ h9=1:0 c -", "beat(1,0) contested(1) ended(0)"},
	};

	PLAY(stories);
}

Test(account, totals)
{
	static const struct story story = {
		"+ h9=1:0 d9=pq:5 e e x - + h9=2:7 h9=2:7 d9=pq:6 h9=0:7 - + h8=1:0 d8=pq:2 "
		"d8=fk:1 e c - "
		"+ -",
		"beat(1,0) drop(pq,5) bad(NotMap5,1) ended(3) lost(2,4) beat(2,7) beat(2,7) "
		"drop(pq,6) "
		"bye(7) "
		"restart beat(1,0) drop(pq,2) drop(fk,1) contested(1) ended(1)"};
	struct host_account a = play_story(&story);

	cr_assert_eq(a.totals.frames, 4);
	cr_assert_eq(a.totals.events, 3);
	cr_assert_eq(a.totals.epochs, 3);
	cr_assert_eq(a.totals.lost_in_flight, 4);
	cr_assert_eq(a.totals.bad[CELLOS_WIRE_NOT_MAP5], 1);
	cr_assert_eq(a.totals.dropped[CELLOS_LANE_PROC][CELLOS_DROP_QUEUE_FULL], 8);
	cr_assert_eq(a.totals.dropped[CELLOS_LANE_FS][CELLOS_DROP_KERNEL], 1);
	cr_assert_eq(a.totals.contested, 1);
}

Test(account, silence)
{
	static const struct story stories[] = {
		/* once per silence, and again after a recovery */
		{"T0 + h9=1:0 T9999 T10000 T10001 T60000 e T60001 T69999 T70000 T90000 e",
		 "beat(1,0) silent(10000) back(60000) silent(10000) back(30000)"},
		/* counted from the cell's start, whenever that was, and over connections */
		{"T5000 T14999 T15000 + - T99000 + x", "silent(10000) back(94000)"},
		/* the latest frame counts, whatever it was; half a frame or lost framing is none */
		{"T0 + e T9000 x T18000 d9=pq: T27000 h9=1:2 T36999 T37000",
		 "joined(2) beat(1,2) silent(10000)"},
		{"T0 + T9000 L T10000", "silent(10000)"},
		{"S500 T0 + T499 T500 e", "silent(500) back(500)"},
		{"S0 T0 + T100000000 e", ""},
		{"S18446744073709551615 T1000 + T100000000 e", ""},
		/* when the host did not read, the agent could not be heard */
		{"T0 + e T9000 X15000 T24999 T25000", "silent(10000)"},
		{"T0 + T10000 X15000 e", "silent(10000) back(15000)"},
		/* one silence is one, over the host's own end too */
		{"T0 + T10000 K T500 T20000 + e T29999 T30000",
		 "silent(10000) back(19500) silent(10000)"},
		{"T0 + h9=1:0 K T500 T10499 T10500", "beat(1,0) silent(10000)"},
	};

	PLAY(stories);
}

Test(account, when_it_will_be_silent)
{
	struct told told = {.length = 0};
	struct host_account a;

	host_account_init(&a, tell, &told);
	host_account_clock(&a, 300);
	cr_assert_eq(host_account_silent_at(&a), 300 + HOST_SILENCE_MS);
	host_account_clock(&a, host_account_silent_at(&a) - 1);
	cr_assert_eq(a.totals.silences, 0);
	host_account_clock(&a, host_account_silent_at(&a));
	cr_assert_eq(a.totals.silences, 1);
	cr_assert_eq(host_account_silent_at(&a), UINT64_MAX);
}

/* Each report says between which events it belongs. */
Test(account, ranges)
{
	static const struct story stories[] = {
		/* a row: from where it was told last */
		{"+ h9=1:0 e e d9=pq:5 e d9=fq:1 e d9=pq:6 h9=0:4",
		 "beat(1,0)[0,0] drop(pq,5)[0,2] drop(fq,1)[0,3] drop(pq,6)[2,4] bye(4)[0,0]"},
		/* in flight: between the last event of one connection and the first of the next */
		{"+ h9=1:0 e e e - + h9=2:5 e h9=0:6 -",
		 "beat(1,0)[0,0] ended(3)[0,0] lost(2,2)[3,3] beat(2,5)[0,0] bye(6)[0,0]"},
		/* a guest that skips in the midst: behind its heartbeat before */
		{"+ h9=1:0 e h9=1:1 e e h9=1:9",
		 "beat(1,0)[0,0] beat(1,1)[0,0] lost(1,6)[1,3] beat(1,9)[0,0]"},
		/* what is told by the clock: between two tellings */
		{"+ h9=1:0 e x t e e c x t",
		 "beat(1,0)[0,0] bad(NotMap5,1)[0,1] bad(NotMap5,2)[1,3] contested(1)[1,3]"},
		{"+ h9=1:0 e e o2 e e e l2 e l1 t e l1 t",
		 "beat(1,0)[0,0] gone(3,3)[3,6] gone(1,4)[6,7]"},
		/* another agent's events begin at 1 */
		{"+ h9=1:0 e e d9=pq:1 - + h8=1:0 e d8=pq:1 -",
		 "beat(1,0)[0,0] drop(pq,1)[0,2] ended(2)[0,0] restart[0,0] beat(1,0)[0,0] "
		 "drop(pq,1)[0,1] ended(1)[0,0]"},
		/* the host's own end changes nothing of it */
		{"+ h9=1:0 e o1 d9=pq:1 e o1 K + h9=2:4 e o1 d9=pq:2",
		 "beat(1,0)[0,0] drop(pq,1)[0,1] lost(2,2)[2,2] beat(2,4)[0,0] drop(pq,2)[1,3]"},
	};

	PLAY(stories);
}

Test(account, killed_and_started_again)
{
	static const struct story stories[] = {
		/* what came after the account was kept was in flight */
		{"+ h9=1:0 e e o2 K + h9=2:7 e o1 h9=0:8 - Z",
		 "beat(1,0) lost(2,5) beat(2,7) bye(8) ledger(3,0)"},
		/* nothing was: nothing is said */
		{"+ h9=1:0 e o1 - K + h9=2:1 h9=0:1 - Z",
		 "beat(1,0) ended(1) beat(2,1) bye(1) ledger(1,0)"},
		/* read, and not handed on */
		{"+ h9=1:0 e e e o1 K t + h9=2:3 -", "beat(1,0) gone(2,2) beat(2,3) ended(3)"},
		/* once: the next restart finds it settled */
		{"+ h9=1:0 e K t K t Z", "beat(1,0) gone(1,1) ledger(1,0)"},
		/* rows go on as well, and bad frames that were not told */
		{"+ h9=1:0 d9=pq:5 x K t + h9=2:1 d9=pq:5 d9=pq:7",
		 "beat(1,0) drop(pq,5) bad(NotMap5,1) beat(2,1) drop(pq,7)"},
		{"+ h9=1:0 x t K t x t", "beat(1,0) bad(NotMap5,1) bad(NotMap5,2)"},
		{"+ h9=1:0 h9=1 K t", "beat(1,0) badreport(1,1)"},
		/* another agent while nobody looked */
		{"+ h9=4:9 e*500 o500 K + h9=1:0", "joined(9) beat(4,9) restart beat(1,0)"},
		{"+ h9=1:0 K + h8=1:0", "beat(1,0) restart beat(1,0)"},
		/* joined is only for who never listened */
		{"K + h9=3:20 d9=pq:4", "lost(3,20) beat(3,20) drop(pq,4)"},
		/* in the midst of joining */
		{"+ h9=3:20 K + h9=4:20 d9=pq:4", "joined(20) beat(3,20) beat(4,20) drop(pq,4)"},
	};

	PLAY(stories);
}

Test(account, numbers_are_given_once)
{
	static const struct story story = {
		"+ h9=1:0 e e o1 l1 K + h9=2:3 e o1 - + h8=1:0 e e o2 K",
		"beat(1,0) lost(2,1) beat(2,3) gone(1,1) ended(4) restart beat(1,0)"};
	struct host_account a = play_story(&story);
	struct cellos_probe_event event = {.probe_source = CELLOS_SOURCE_PROCESS_SPAWNED};

	cr_assert_eq(a.incarnation, 2);
	cr_assert_eq(a.sequence, 2);
	cr_assert(host_account_take(&a, &event));
	cr_assert_eq(a.sequence, 3);
}

/* A guest that is another agent each time must not bring an id back. */
Test(account, the_last_incarnation_is_shared)
{
	struct told told = {.length = 0};
	struct host_account a;

	host_account_init(&a, tell, &told);
	a.incarnation = UINT32_MAX - 1;
	play(&a, "+");
	play(&a, "h1=1:0");
	play(&a, "e");
	play(&a, "h2=1:0");
	cr_assert_eq(a.incarnation, UINT32_MAX);
	cr_assert_eq(a.sequence, 0);
	play(&a, "e*7");
	play(&a, "h3=1:0");
	cr_assert_eq(a.incarnation, UINT32_MAX);
	cr_assert_eq(a.sequence, 7);
}

Test(account, refused_cells)
{
	static const struct story stories[] = {
		{"R + h9=1:0 e e x h9=0:3 - Z",
		 "refused(rule) beat(1,0) bye(3) bad(NotMap5,1) ledger(3,0)"},
		/* one report for each violation; once admitted, events pass */
		{"R R + h9=1:0 e A e o1 Z", "refused(rule) refused(rule) beat(1,0) ledger(2,0)"},
	};
	struct host_account a;

	PLAY(stories);
	a = play_story(&stories[0]);
	cr_assert_eq(a.totals.refused, 2);
	cr_assert_eq(a.totals.events, 2);
	cr_assert_eq(a.sequence, 0, "a refused event has no number");
}

Test(account, the_last_row)
{
	static const struct story stories[] = {
		{"Z", "ledger(0,0)"},
		{"+ h9=1:0 e*10 o7 l3 x L - Z",
		 "beat(1,0) bad(FrameTooLarge,1) bad(NotMap5,1) gone(3,3) ended(11) ledger(11,0)"},
		/* by how much it does not add up: two are nowhere, or one too many was handed on */
		{"+ h9=1:0 e*10 o8 Z", "beat(1,0) ledger(10,2)"},
		{"+ h9=1:0 e*10 o11 Z", "beat(1,0) ledger(10,-1)"},
	};

	PLAY(stories);
}

/* Any order of anything: identities hold, nothing overflows that a sanitizer would see. */
Test(account, a_million_random_steps)
{
	static const char *const steps[] = {"+",  "-",  "e",         "x", "L", "c", "t",
					    "o3", "l1", "T99999999", "K", "R", "A", "Z"};
	const unsigned count_steps = sizeof(steps) / sizeof(steps[0]);
	struct told told = {.length = 0};
	struct host_account account;
	uint32_t random = 1;

	host_account_init(&account, tell, &told);
	for (int i = 0; i < 1000000; i++) {
		char step[64];

		random = random * 1664525 + 1013904223;
		uint32_t pick = random >> 8, kind = pick % 32, pid = pick >> 4 & 1;
		uint64_t count = pick >> 5 & 1 ? pick : UINT64_C(9999999999) - (pick & 0xff);

		if (kind < count_steps)
			strcpy(step, steps[kind]);
		else if (kind < 24)
			snprintf(step, sizeof(step), "h%u=%u:%" PRIu64, pid, pick >> 6 & 3, count);
		else
			snprintf(step, sizeof(step), "d%u=%c%c:%" PRIu64, pid,
				 "pfcn"[pick >> 6 & 3], "qkox"[pick >> 8 & 3], count);
		play(&account, step);
		told.length = 0;
	}
	cr_assert_gt(account.totals.frames, 50000);
	cr_assert_gt(account.totals.bad_reports, 100);
}
