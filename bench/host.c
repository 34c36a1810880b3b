/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the host's receiver can do and what it costs, with the real program:
 *
 *   speed     frames decoded, stamped and written, per second of one core and of the clock, for
 *             each format, to /dev/null and to a pipe
 *   idle      memory for each connected cell that does nothing
 *   scale     many cells at a steady rate in batches: every event is counted by cell and number
 *   fairness  how long events of quiet cells are under way while another one floods
 *
 *   host --receiver PATH [--bench NAME] [--quick] [--cells N] [--rate N] [--seconds S]
 *
 * One JSON line per row. Exits 1 on a broken identity (something sent is neither written nor
 * counted), never for a time. One thread; receiver, counter and flooding guest are its children.
 */
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cellos/wire.h"
#include "host_rig.h"

#define SECOND_NS UINT64_C(1000000000)
#define BATCHES_PER_SECOND 10u

struct options {
	const char *receiver;
	const char *which; /* NULL: all */
	bool quick;
	unsigned cells, rate, seconds; /* 0: the bench's own choice */
};

static void check(bool holds, const char *what, uint64_t left, uint64_t right)
{
	if (!holds)
		bench_die("%s: %llu and %llu", what, (unsigned long long)left,
			  (unsigned long long)right);
}

static void check_end(const struct rig_end *end, uint64_t sent, bool counted)
{
	check(end->received == sent, "sent = received", sent, end->received);
	check(end->emitted == sent, "received = emitted", sent, end->emitted);
	check(end->refused + end->lost == 0, "refused, lost", end->refused, end->lost);
	if (counted) {
		check(end->counted.events == sent, "emitted = read", sent, end->counted.events);
		check(end->counted.wrong == 0, "numbers out of turn", end->counted.wrong, 0);
	}
}

/* ---- speed ----------------------------------------------------------------------------------- */

struct round {
	uint8_t bytes[BENCH_EVENTS * CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length;
};

static void make_round(struct round *round)
{
	static struct cellos_raw_event events[BENCH_EVENTS];

	bench_events(events);
	round->length = 0;
	for (unsigned i = 0; i < BENCH_EVENTS; i++) {
		struct cellos_probe_event event;

		cellos_probe_event_from_raw(&event, &events[i]);
		round->length += rig_event(round->bytes + round->length, &event);
	}
}

static void speed(const struct options *options, const char *format, enum rig_reader reader)
{
	static struct round round;
	const uint64_t length_ns =
		options->quick ? SECOND_NS / 5
			       : (options->seconds != 0 ? options->seconds : 3) * SECOND_NS;
	uint8_t beat[CELLOS_ENCODED_FRAME_MAX_BYTES];
	uint64_t sent = 0, began, took;
	struct rig_end end;
	struct rig rig;
	int fd;

	make_round(&round);
	bench_pin(0);
	rig_start(&rig, options->receiver, 1, format, reader, 1);
	fd = rig_connect(&rig, 0);
	rig_send(fd, beat, rig_beat(beat, 1, 0));
	rig_await_accepted(&rig, 1);
	began = bench_now_ns();
	do {
		rig_send(fd, round.bytes, round.length);
		sent += BENCH_EVENTS;
	} while (bench_now_ns() - began < length_ns);
	rig_send(fd, beat, rig_beat(beat, 0, sent));
	close(fd);
	rig_finish(&rig, &end);
	took = bench_now_ns() - began;
	bench_unpin();
	check_end(&end, sent, reader != RIG_NULL);
	row_begin("host-speed", "receiver");
	row_text("format", format);
	row_text("output", reader == RIG_NULL ? "/dev/null" : "pipe");
	row_count("frames", sent);
	row_number("frames_per_cpu_second", (double)sent / end.cpu_seconds);
	row_number("frames_per_second", (double)sent * 1e9 / (double)took);
	row_number("seconds", (double)took / 1e9);
	row_end();
}

static void speed_all(const struct options *options)
{
	static const char *const formats[] = {"raw", "cloudevents", "ocsf"};

	for (size_t i = 0; i < sizeof(formats) / sizeof(formats[0]); i++) {
		speed(options, formats[i], RIG_NULL);
		speed(options, formats[i], RIG_LINES);
	}
}

/* ---- idle ------------------------------------------------------------------------------------ */

/* All cells connected, each with a heartbeat that has come out at the other end. */
static void connect_all(const struct rig *rig, int *fds)
{
	uint8_t beat[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length = rig_beat(beat, 1, 0);

	for (unsigned i = 0; i < rig->cells; i++) {
		fds[i] = rig_connect(rig, i);
		rig_send(fds[i], beat, length);
	}
}

static void close_all(int *fds, unsigned count, uint64_t sent)
{
	uint8_t beat[CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length = rig_beat(beat, 0, sent);

	for (unsigned i = 0; i < count; i++) {
		rig_send(fds[i], beat, length);
		close(fds[i]);
	}
}

static uint64_t resident_with(const struct options *options, unsigned cells)
{
	static int fds[RIG_MAX_CELLS];
	struct rig_end end;
	struct rig rig;
	uint64_t kib, before = 0;

	rig_start(&rig, options->receiver, cells, "cloudevents", RIG_LINES, -1);
	connect_all(&rig, fds);
	rig_await_accepted(&rig, cells);
	/* It is still reading: until nothing is added for a tenth of a second. */
	while ((kib = rig_resident_kib(&rig)) != before) {
		before = kib;
		bench_sleep_until(bench_now_ns() + SECOND_NS / 10);
	}
	close_all(fds, cells, 0);
	rig_finish(&rig, &end);
	check_end(&end, 0, true);
	return kib;
}

static void idle(const struct options *options)
{
	unsigned cells = options->cells != 0 ? options->cells : options->quick ? 200 : 2000;
	uint64_t one = resident_with(options, 1), all = resident_with(options, cells);

	row_begin("host-idle", "receiver");
	row_count("cells", cells);
	row_count("resident_kib_of_one", one);
	row_count("resident_kib_of_all", all);
	row_number("kib_per_cell", ((double)all - (double)one) / (double)(cells - 1));
	row_end();
}

/* ---- scale ----------------------------------------------------------------------------------- */

static size_t make_batch(uint8_t *out, unsigned count, uint64_t ns)
{
	struct cellos_probe_event event = {.probe_source = CELLOS_SOURCE_PROCESS_SPAWNED,
					   .guest_comm_len = 2,
					   .guest_comm = "sh",
					   .guest_monotonic_ns = ns};
	size_t length = 0;

	for (unsigned i = 0; i < count; i++) {
		event.guest_pid = 4000 + i;
		length += rig_event(out + length, &event);
	}
	return length;
}

static void scale(const struct options *options)
{
	static int fds[RIG_MAX_CELLS];
	static uint8_t batch[1000 * CELLOS_ENCODED_FRAME_MAX_BYTES];
	unsigned cells = options->cells != 0 ? options->cells : options->quick ? 300 : 2000;
	unsigned rate = options->rate != 0 ? options->rate : 200;
	unsigned seconds = options->seconds != 0 ? options->seconds : options->quick ? 1 : 30;
	unsigned each = rate / BATCHES_PER_SECOND, turns = seconds * BATCHES_PER_SECOND;
	uint64_t sent = (uint64_t)cells * each * turns, began, took;
	struct rig_end end;
	struct rig rig;

	rig_start(&rig, options->receiver, cells, "raw", RIG_CHECK, -1);
	connect_all(&rig, fds);
	rig_await_accepted(&rig, cells);
	began = bench_now_ns();
	for (unsigned turn = 0; turn < turns; turn++) {
		bench_sleep_until(began + turn * SECOND_NS / BATCHES_PER_SECOND);
		for (unsigned i = 0; i < cells; i++)
			rig_send(fds[i], batch, make_batch(batch, each, bench_now_ns()));
	}
	took = bench_now_ns() - began;
	close_all(fds, cells, (uint64_t)each * turns);
	rig_finish(&rig, &end);
	check_end(&end, sent, true);
	row_begin("host-scale", "receiver");
	row_count("cells", cells);
	row_count("rate_per_cell", each * BATCHES_PER_SECOND);
	row_count("seconds_wanted", seconds);
	row_number("seconds", (double)took / 1e9);
	row_count("events", sent);
	row_count("read_by_the_counter", end.counted.events);
	row_number("cpu_share", end.cpu_seconds * 1e9 / (double)took);
	row_number("delay_ms_p50", (double)histogram_percentile(&end.counted.delay, 0.5) / 1e6);
	row_number("delay_ms_p99", (double)histogram_percentile(&end.counted.delay, 0.99) / 1e6);
	row_end();
}

/* ---- fairness -------------------------------------------------------------------------------- */

/* Writes as fast as it is read until it is told to stop, and more than the others do in any case:
 * who was not run meanwhile is no flood. Then says how much that was. */
static volatile sig_atomic_t enough;

static void on_enough(int signum)
{
	(void)signum;
	enough = 1;
}

static _Noreturn void be_flood(const struct rig *rig, int result, uint64_t others)
{
	static uint8_t batch[1000 * CELLOS_ENCODED_FRAME_MAX_BYTES];
	size_t length = make_batch(batch, 1000, 0);
	uint8_t beat[CELLOS_ENCODED_FRAME_MAX_BYTES];
	uint64_t sent = 0;
	int fd;

	fd = rig_connect(rig, 0);
	rig_send(fd, beat, rig_beat(beat, 1, 0));
	for (; !enough || sent <= others; sent += 1000)
		rig_send(fd, batch, length);
	rig_send(fd, beat, rig_beat(beat, 0, sent));
	close(fd);
	_exit(write(result, &sent, sizeof(sent)) == sizeof(sent) ? 0 : 1);
}

static void fairness(const struct options *options)
{
	static int fds[RIG_MAX_CELLS];
	uint8_t frame[2 * CELLOS_ENCODED_FRAME_MAX_BYTES];
	unsigned cells = options->cells != 0 ? options->cells : 101;
	unsigned turns = 50 * (options->seconds != 0 ? options->seconds : options->quick ? 1 : 10);
	uint64_t began, flooded = 0, sent = 0;
	struct rig_end end;
	struct rig rig;
	int result[2], status;
	pid_t flood;

	rig_start(&rig, options->receiver, cells, "raw", RIG_CHECK, -1);
	/* Before the child is there: it may be told to stop before it runs. */
	signal(SIGTERM, on_enough);
	/* The receiver's child it is not: who floods is a process of its own. */
	if (pipe(result) != 0 || (flood = fork()) < 0)
		bench_die("start the flood");
	if (flood == 0)
		be_flood(&rig, result[1], (uint64_t)(cells - 1) * turns);
	signal(SIGTERM, SIG_DFL);
	for (unsigned i = 1; i < cells; i++) {
		fds[i] = rig_connect(&rig, i);
		rig_send(fds[i], frame, rig_beat(frame, 1, 0));
	}
	rig_await_accepted(&rig, cells);
	began = bench_now_ns();
	for (unsigned turn = 0; turn < turns; turn++) {
		bench_sleep_until(began + turn * SECOND_NS / 50);
		for (unsigned i = 1; i < cells; i++, sent++)
			rig_send(fds[i], frame, make_batch(frame, 1, bench_now_ns()));
	}
	kill(flood, SIGTERM);
	if (read(result[0], &flooded, sizeof(flooded)) != sizeof(flooded) ||
	    waitpid(flood, &status, 0) < 0 || status != 0)
		bench_die("the flood ended badly");
	close(result[0]);
	close(result[1]);
	close_all(fds + 1, cells - 1, turns);
	rig_finish(&rig, &end);
	check_end(&end, sent + flooded, true);
	check(flooded > sent, "the flood was one", flooded, sent);
	row_begin("host-fairness", "receiver");
	row_count("quiet_cells", cells - 1);
	row_count("flooded", flooded);
	row_count("others", sent);
	row_number("delay_ms_p50", (double)histogram_percentile(&end.counted.delay, 0.5) / 1e6);
	row_number("delay_ms_p99", (double)histogram_percentile(&end.counted.delay, 0.99) / 1e6);
	row_number("delay_ms_max", (double)end.counted.delay.max / 1e6);
	row_end();
}

/* ---- options --------------------------------------------------------------------------------- */

static const char usage[] =
	"usage: host --receiver PATH [--bench speed|idle|scale|fairness] [--quick]\n"
	"            [--cells N] [--rate N] [--seconds S]\n";

static unsigned number(const char *text, unsigned long most)
{
	char *end;
	unsigned long value = strtoul(text, &end, 10);

	if (*text < '0' || *text > '9' || *end != '\0' || value == 0 || value > most) {
		fprintf(stderr, "host: cannot take '%s': not a number from 1 to %lu\n%s", text,
			most, usage);
		exit(2);
	}
	return (unsigned)value;
}

static void parse(struct options *options, int argc, char **argv)
{
	static const struct option table[] = {{"receiver", required_argument, NULL, 'p'},
					      {"bench", required_argument, NULL, 'b'},
					      {"quick", no_argument, NULL, 'q'},
					      {"cells", required_argument, NULL, 'c'},
					      {"rate", required_argument, NULL, 'r'},
					      {"seconds", required_argument, NULL, 's'},
					      {"help", no_argument, NULL, 'h'},
					      {NULL, 0, NULL, 0}};
	int option;

	while ((option = getopt_long(argc, argv, "", table, NULL)) != -1) {
		if (option == 'p')
			options->receiver = optarg;
		else if (option == 'b')
			options->which = optarg;
		else if (option == 'q')
			options->quick = true;
		else if (option == 'c')
			options->cells = number(optarg, RIG_MAX_CELLS);
		else if (option == 'r')
			options->rate = number(optarg, 10000);
		else if (option == 's')
			options->seconds = number(optarg, 86400);
		else
			exit((fputs(usage, option == 'h' ? stdout : stderr),
			      option == 'h' ? 0 : 2));
	}
	if (options->receiver == NULL || optind < argc) {
		fputs(usage, stderr);
		exit(2);
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(const struct options *options);
	} benches[] = {
		{"speed", speed_all}, {"idle", idle}, {"scale", scale}, {"fairness", fairness}};
	struct options options = {.receiver = NULL};
	bool ran = false;

	parse(&options, argc, argv);
	for (size_t i = 0; i < sizeof(benches) / sizeof(benches[0]); i++)
		if (options.which == NULL || strcmp(options.which, benches[i].name) == 0) {
			benches[i].run(&options);
			ran = true;
		}
	if (!ran)
		fputs(usage, stderr);
	return ran ? 0 : 2;
}
