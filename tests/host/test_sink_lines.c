/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Lines read out of a spool: over its end, over the buffer's, and past what is no line.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sink_lines.h"

#define SPOOL_BYTES (1u << 20)

static struct host_spool spool;
static struct host_sink_lines lines;

static void open_spool(void)
{
	char path[] = "/tmp/cellos-lines-XXXXXX";
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	cr_assert_eq(host_spool_open(&spool, path, SPOOL_BYTES), 1);
	unlink(path);
	cr_assert_eq(host_sink_lines_init(&lines, &spool), 0);
}

static void close_spool(void)
{
	host_sink_lines_destroy(&lines);
	host_spool_close(&spool);
}

TestSuite(sink_lines, .init = open_spool, .fini = close_spool);

static uint64_t append(uint64_t end, const char *text, size_t length)
{
	cr_assert_eq(host_spool_append(&spool, end, end, text, length), 0);
	return end + length;
}

static void expect_line(uint64_t position, uint64_t end, const char *id, const char *subject,
			const char *cell, size_t json_length)
{
	struct host_sink_line line;

	cr_assert_eq(host_sink_lines_next(&lines, position, end, &line), 0);
	cr_assert_eq(line.begin, position);
	cr_assert_str_eq(line.id, id);
	cr_assert_str_eq(line.subject, subject);
	cr_assert_eq(line.cell_length, strlen(cell));
	cr_assert_eq(memcmp(line.cell, cell, line.cell_length), 0);
	cr_assert_eq(line.json_length, json_length);
	cr_assert_eq(line.end, position + strlen(id) + 1 + strlen(subject) + 1 + json_length + 1);
}

/* Lines of every length, three times round the ring. */
Test(sink_lines, come_as_they_were_put)
{
	static char text[70000];
	char id[32];
	uint64_t at = 0;
	size_t json = 1;

	for (unsigned i = 0; at < UINT64_C(3) * SPOOL_BYTES; i++, json = (json * 7 + 13) % 66000) {
		snprintf(id, sizeof(id), "web/1/1/%u", i);
		int head = snprintf(text, sizeof(text), "%s cellos.web.fs.inotify_fired ", id);

		memset(text + head, ' ' + (int)(i % 90), json + 1);
		text[head] = '{';
		text[(size_t)head + json] = '\0';
		strcat(text, "\n");
		json = strlen(text) - (size_t)head - 1;
		uint64_t end = append(at, text, strlen(text));

		expect_line(at, end, id, "cellos.web.fs.inotify_fired", "web", json);
		at = end;
	}
}

Test(sink_lines, many_in_one_buffer_and_again_after_a_rewind)
{
	uint64_t at = 0, end = 0;
	char text[64];

	for (unsigned i = 100; i < 1000; i++) {
		snprintf(text, sizeof(text), "a/1/1/%u cellos.a.x {}\n", i);
		end = append(end, text, strlen(text));
	}
	for (unsigned round = 0; round < 2; round++) {
		at = 0;
		for (unsigned i = 100; i < 1000; i++) {
			snprintf(text, sizeof(text), "a/1/1/%u", i);
			expect_line(at, end, text, "cellos.a.x", "a", 2);
			at += strlen(text) + 1 + strlen("cellos.a.x {}\n");
		}
		cr_assert_eq(at, end);
		host_sink_lines_rewind(&lines);
	}
}

Test(sink_lines, what_is_none_is_passed_over)
{
	static const struct {
		const char *text;
		size_t length;
	} bad[] = {
#define BAD(s) {s, sizeof(s) - 1}
		BAD("\n"),
		BAD(" \n"),
		BAD("id\n"),
		BAD("id cellos.a.x\n"),
		BAD("id cellos.a.x \n"),
		BAD(" cellos.a.x {}\n"),
		BAD("id  {}\n"),
		BAD("id other.a.x {}\n"),
		BAD("id cellos.a {}\n"),
		BAD("id cellos..x {}\n"),
		BAD("i\0d cellos.a.x {}\n"),
		BAD("id cellos.\0a.x {}\n"),
		BAD("\0\0\0\0\n"),
	};
	static const char good[] = "id cellos.a.x {}\n";
	struct host_sink_line line;
	uint64_t at = 0, end;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		end = append(append(at, bad[i].text, bad[i].length), good, sizeof(good) - 1);
		cr_assert_eq(host_sink_lines_next(&lines, at, end, &line), -EPROTO, "%zu", i);
		cr_assert_eq(line.end, at + bad[i].length, "%zu", i);
		expect_line(line.end, end, "id", "cellos.a.x", "a", 2);
		at = end;
	}
	/* No end of line at all: nothing of it is a line, and it ends. */
	static char zeros[HOST_SINK_BUFFER_BYTES + 100];

	end = append(at, zeros, sizeof(zeros));
	cr_assert_eq(host_sink_lines_next(&lines, at, end, &line), -EPROTO);
	cr_assert_eq(line.end, at + HOST_SINK_BUFFER_BYTES);
	cr_assert_eq(host_sink_lines_next(&lines, line.end, end, &line), -EPROTO);
	cr_assert_eq(line.end, end);
}
