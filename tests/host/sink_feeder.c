/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * sink_feeder URL STREAM STATE SPOOL CELLS LINES BATCH SPOOL-BYTES DUPLICATE-WINDOW-S: the
 * receiver's side of state, spool and sink, and nothing of its own: cell c's lines have the ids
 * c<c>/r/1/1 .. c<c>/r/1/<LINES>, in turn over the cells, BATCH of them to each commit. Killed and
 * started again it goes on where the state says.
 *
 * Prints "made N" after each commit that ends a thousand, "done" when all lines are spooled, then
 * waits for the sink and prints its numbers as one JSON line. Waits while the spool is full.
 * SIGTERM: 3 s for the sink, then the numbers.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sink.h"

struct feeder {
	struct host_state *state;
	struct host_spool spool;
	struct host_sink *sink;
	unsigned slots[64], cells;
	struct host_kept kept[64];
	uint64_t lines, end;
};

static volatile sig_atomic_t stopped;

static void on_term(int signum)
{
	(void)signum;
	stopped = 1;
}

static void fail(const char *what, int status)
{
	fprintf(stderr, "sink_feeder: cannot %s: %s\n", what, strerror(-status));
	exit(1);
}

static void short_while(void)
{
	nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

/* One line of cell c into the spool; not yet committed. */
static void feed_line(struct feeder *f, unsigned c)
{
	char line[512];
	const uint64_t seq = f->kept[c].sequence + 1;
	int length = snprintf(line, sizeof(line),
			      "c%u/r/1/%lu cellos.c%u.process.spawned {\"cell\":%u,\"seq\":%lu,"
			      "\"filler\":\"%.*s\"}\n",
			      c, (unsigned long)seq, c, c, (unsigned long)seq, (int)(seq % 200),
			      "................................................................"
			      "................................................................"
			      "................................................................"
			      "................");

	while (host_spool_append(&f->spool, host_state_spool_acked(f->state), f->end, line,
				 (size_t)length) < 0 &&
	       !stopped)
		short_while();
	if (stopped)
		return;
	f->end += (uint64_t)length;
	f->kept[c].sequence = seq;
}

static void commit(struct feeder *f)
{
	for (unsigned c = 0; c < f->cells; c++)
		host_state_put(f->state, f->slots[c], &f->kept[c]);
	host_state_commit(f->state, f->end);
	host_sink_wake(f->sink);
}

static void feed(struct feeder *f, unsigned batch)
{
	uint64_t made = 0, told = 0;
	unsigned in_batch = 0;

	for (unsigned c = 0; c < f->cells; c++)
		made += f->kept[c].sequence;
	while (made < f->lines * f->cells && !stopped) {
		feed_line(f, (unsigned)(made % f->cells));
		made++;
		if (stopped || (++in_batch < batch && made < f->lines * f->cells))
			continue;
		commit(f);
		in_batch = 0;
		if (made / 1000 != told) {
			told = made / 1000;
			printf("made %lu\n", (unsigned long)made);
			fflush(stdout);
		}
	}
	puts(stopped ? "stopped" : "done");
	fflush(stdout);
}

static void open_all(struct feeder *f, char **argv)
{
	const struct host_sink_options options = {
		.url = argv[1],
		.stream = argv[2],
		.duplicate_window_s = strtoull(argv[9], NULL, 10),
		.window = 512,
	};
	char name[16];
	bool known;
	int status = host_state_open(&f->state, argv[3]);

	if (status < 0)
		fail("open the state", status);
	status = host_spool_open(&f->spool, argv[4], strtoull(argv[8], NULL, 10));
	if (status < 0)
		fail("open the spool", status);
	for (unsigned c = 0; c < f->cells; c++) {
		snprintf(name, sizeof(name), "c%u", c);
		status = host_state_find(f->state, name, "r", &f->kept[c], &known);
		if (status < 0)
			fail("find a slot", status);
		f->slots[c] = (unsigned)status;
	}
	f->end = host_state_spool_end(f->state);
	status = host_sink_start(&f->sink, &options, &f->spool, f->state);
	if (status < 0)
		fail("start the sink", status);
}

int main(int argc, char **argv)
{
	struct feeder f = {.cells = 0};
	struct host_sink_numbers n;

	if (argc != 10 || (f.cells = (unsigned)strtoul(argv[5], NULL, 10)) == 0 || f.cells > 64) {
		fputs("usage: see sink_feeder.c\n", stderr);
		return 2;
	}
	f.lines = strtoull(argv[6], NULL, 10);
	signal(SIGTERM, on_term);
	signal(SIGPIPE, SIG_IGN);
	open_all(&f, argv);
	feed(&f, (unsigned)strtoul(argv[7], NULL, 10));
	do {
		short_while();
		host_sink_numbers(f.sink, &n);
	} while (n.lag_bytes > 0 && !stopped);
	printf("{\"connected\":%d,\"published\":%lu,\"acknowledged\":%lu,\"duplicates\":%lu,"
	       "\"errors\":%lu,\"lag_bytes\":%lu}\n",
	       n.connected, (unsigned long)n.published, (unsigned long)n.acknowledged,
	       (unsigned long)n.duplicates, (unsigned long)n.errors, (unsigned long)n.lag_bytes);
	host_sink_stop(f.sink, 3000);
	host_spool_close(&f.spool);
	host_state_close(f.state);
	return 0;
}
