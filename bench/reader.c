/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * See reader.h. The child uses the stream reader and decoder that the real receiver uses. Every
 * frame is cut by its prefix; self-reports are decoded and held against what was read before them.
 * Of the events every 256th is decoded as well: a receiver's decoding is not what is measured.
 */
#include "reader.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "cellos/wire.h"
#include "common.h"

#define PIECE_BYTES (256u * 1024u)
#define SLOW_PIECE_BYTES (64u * 1024u)
#define SLOW_PAUSE_NS 1000000
#define DECODE_EVERY 256u
/* prefix 4, map head 1, "content_version" and its value 16 + 3, "probe_source" 13: there stands the
 * head of the source's name. Self-reports have names of 24 bytes or more, so a head of two bytes.
 */
#define SOURCE_HEAD_AT 37u
#define LONG_TEXT_HEAD 0x78

struct child {
	enum reader_kind kind;
	int socket, control;
	bool released;
	struct cellos_stream stream;
	struct reader_report report;
	uint8_t piece[PIECE_BYTES];
};

static void read_self_report(struct child *c, const struct cellos_probe_event *event)
{
	struct cellos_self_report told;

	if (cellos_self_report_parse(event, &told) != 0) {
		c->report.wrong++;
		return;
	}
	if (told.source == CELLOS_SOURCE_TELEMETRY_DROPPED) {
		/* Cumulative: a row never falls. */
		if (told.count < c->report.rows[told.lane][told.reason])
			c->report.wrong++;
		c->report.rows[told.lane][told.reason] = told.count;
		return;
	}
	/* One connection, so nothing is in flight: `sent` is what stands before it. */
	if (told.count != c->report.events % CELLOS_SENT_MODULUS)
		c->report.wrong++;
	c->report.sent_told = told.count;
	c->report.heartbeats++;
	c->report.goodbye = told.epoch == 0;
}

static void read_frame(struct child *c, const uint8_t *frame, size_t length)
{
	const bool own = length > SOURCE_HEAD_AT && frame[SOURCE_HEAD_AT] == LONG_TEXT_HEAD;
	struct cellos_probe_event event;

	c->report.frames++;
	if (!own)
		c->report.events++;
	if (!own && c->report.events % DECODE_EVERY != 0)
		return;
	if (cellos_decode_frame(frame, length, &event, NULL) != CELLOS_WIRE_OK)
		c->report.wrong++;
	else if (own)
		read_self_report(c, &event);
}

/* True until the end of the stream. */
static bool read_piece(struct child *c)
{
	const size_t room = c->released ? PIECE_BYTES : SLOW_PIECE_BYTES;
	enum cellos_stream_status status;
	const uint8_t *frame;
	size_t length;
	ssize_t got;

	do
		got = read(c->socket, c->piece, room);
	while (got < 0 && errno == EINTR);
	if (got <= 0) {
		c->report.wrong += got < 0;
		return false;
	}
	c->report.reads++;
	c->report.bytes += (uint64_t)got;
	cellos_stream_feed(&c->stream, c->piece, (size_t)got);
	while ((status = cellos_stream_next(&c->stream, &frame, &length)) == CELLOS_STREAM_FRAME)
		read_frame(c, frame, length);
	c->report.wrong += status == CELLOS_STREAM_LOST;
	return status == CELLOS_STREAM_MORE;
}

/* Waits for the word to go on, at most so long; negative: for ever. */
static void await_release(struct child *c, int64_t ns)
{
	struct pollfd control = {.fd = c->control, .events = POLLIN};
	const struct timespec limit = {.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};

	if (ppoll(&control, 1, ns < 0 ? NULL : &limit, NULL) > 0)
		c->released = true;
}

static _Noreturn void be_reader(enum reader_kind kind, int listener, int control, int report)
{
	static struct child child;
	struct child *c = &child;

	prctl(PR_SET_PDEATHSIG, SIGKILL); /* a bench that died leaves nobody behind */
	c->kind = kind;
	c->control = control;
	c->released = kind == READER_FAST;
	c->socket = accept(listener, NULL, NULL);
	if (c->socket < 0)
		_exit(1);
	cellos_stream_init(&c->stream);
	if (kind == READER_STALLED)
		await_release(c, -1);
	while (read_piece(c))
		if (!c->released)
			await_release(c, SLOW_PAUSE_NS);
	c->report.last_ns = bench_now_ns();
	c->report.wrong += cellos_stream_pending(&c->stream) != 0;
	_exit(write(report, &c->report, sizeof(c->report)) == sizeof(c->report) ? 0 : 1);
}

static int listen_at(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	memcpy(address.sun_path, path, strlen(path) + 1);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0 ||
	    listen(fd, 8) != 0)
		bench_die("cannot listen at %s: %s", path, strerror(errno));
	return fd;
}

void reader_start(struct reader *reader, enum reader_kind kind)
{
	const char *base = getenv("TMPDIR");
	int control[2], report[2], listener;

	memset(reader, 0, sizeof(*reader));
	snprintf(reader->folder, sizeof(reader->folder), "%s/cellos-bench-XXXXXX",
		 base != NULL && strlen(base) < 32 ? base : "/tmp");
	if (mkdtemp(reader->folder) == NULL)
		bench_die("cannot make a folder %s: %s", reader->folder, strerror(errno));
	reader->address.kind = CELLOS_ADDRESS_UNIX;
	snprintf(reader->address.path, sizeof(reader->address.path), "%s/s", reader->folder);
	listener = listen_at(reader->address.path);
	if (pipe2(control, O_CLOEXEC) != 0 || pipe2(report, O_CLOEXEC) != 0)
		bench_die("no pipe: %s", strerror(errno));
	fflush(stdout);
	reader->pid = fork();
	if (reader->pid < 0)
		bench_die("no process: %s", strerror(errno));
	if (reader->pid == 0) {
		close(control[1]);
		close(report[0]);
		be_reader(kind, listener, control[0], report[1]);
	}
	close(listener);
	close(control[0]);
	close(report[1]);
	reader->control = control[1];
	reader->report = report[0];
}

void reader_release(struct reader *reader)
{
	if (write(reader->control, "g", 1) != 1)
		bench_die("the reader is gone");
}

void reader_finish(struct reader *reader, struct reader_report *report)
{
	int status = 0;

	if (read(reader->report, report, sizeof(*report)) != sizeof(*report))
		bench_die("the reader ended without a report");
	if (waitpid(reader->pid, &status, 0) != reader->pid || status != 0)
		bench_die("the reader ended badly");
	close(reader->control);
	close(reader->report);
	unlink(reader->address.path);
	rmdir(reader->folder);
}

const char *reader_kind_name(enum reader_kind kind)
{
	static const char *const names[] = {"fast", "slow", "stalled"};

	return names[kind];
}
