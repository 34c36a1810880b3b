/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See proc_parse.h. */
#include "proc_parse.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

#include "cellos/event.h"

/* What is left to read. */
struct text {
	const char *at;
	const char *end;
};

static bool take(struct text *text, char wanted)
{
	if (text->at == text->end || *text->at != wanted)
		return false;
	text->at++;
	return true;
}

/* One decimal number, 0..limit, with its end inside the text: digits at the very end may be the
   beginning of a longer number. */
static bool take_number(struct text *text, uint64_t limit, uint64_t *out)
{
	const char *first = text->at;
	uint64_t value = 0;

	for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++) {
		uint64_t digit = (uint64_t)(*text->at - '0');

		if (value > (limit - digit) / 10)
			return false;
		value = value * 10 + digit;
	}
	*out = value;
	return text->at > first && text->at < text->end;
}

/* Fields that nobody asks for; some are negative. */
static bool skip_fields(struct text *text, unsigned count)
{
	for (; count > 0; count--) {
		uint64_t ignored;

		(void)take(text, '-');
		if (!take_number(text, UINT64_MAX, &ignored) || !take(text, ' '))
			return false;
	}
	return true;
}

/* The name ends at the *last* parenthesis: what follows it is a letter and numbers, while the name
   itself may hold parentheses, blanks and newlines. */
static bool take_name(struct text *text, struct cellos_proc_stat *out)
{
	const char *last;
	size_t len;

	if (!take(text, '('))
		return false;
	last = memrchr(text->at, ')', (size_t)(text->end - text->at));
	if (last == NULL)
		return false;
	len = (size_t)(last - text->at);
	if (len > CELLOS_RAW_COMM_MAX_BYTES)
		len = CELLOS_RAW_COMM_MAX_BYTES; /* workqueue threads show more */
	memcpy(out->comm, text->at, len);
	out->comm_len = (uint8_t)len;
	text->at = last + 1;
	return true;
}

static bool take_state(struct text *text, struct cellos_proc_stat *out)
{
	if (!take(text, ' ') || text->at == text->end)
		return false;
	out->state = *text->at++;
	return ((out->state | 0x20) >= 'a' && (out->state | 0x20) <= 'z') && take(text, ' ');
}

/* Fields 4 to 22: ppid pgrp session tty tpgid flags, ten we skip and two more, threads, one more,
   starttime. */
static bool take_numbers(struct text *text, struct cellos_proc_stat *out)
{
	uint64_t ppid, flags, threads;

	if (!take_number(text, UINT32_MAX, &ppid) || !take(text, ' ') || !skip_fields(text, 4) ||
	    !take_number(text, UINT32_MAX, &flags) || !take(text, ' ') || !skip_fields(text, 10) ||
	    !take_number(text, UINT32_MAX, &threads) || !take(text, ' ') || !skip_fields(text, 1))
		return false;
	out->ppid = (uint32_t)ppid;
	out->flags = (uint32_t)flags;
	out->num_threads = (uint32_t)threads;
	return take_number(text, UINT64_MAX, &out->starttime) &&
	       (*text->at == ' ' || *text->at == '\n');
}

int cellos_proc_parse_stat(const char *text, size_t len, struct cellos_proc_stat *out)
{
	struct text left = {.at = text, .end = text + len};
	struct cellos_proc_stat found = {0};
	uint64_t pid;

	if (!take_number(&left, CELLOS_PID_LIMIT - 1, &pid) || pid == 0 || !take(&left, ' ') ||
	    !take_name(&left, &found) || !take_state(&left, &found) || !take_numbers(&left, &found))
		return -EINVAL;
	found.pid = (uint32_t)pid;
	*out = found;
	return 0;
}

uint32_t cellos_proc_parse_pid(const char *name)
{
	uint32_t pid = 0;
	const char *at;

	/* No leading zero: "01" is not a name that the kernel gives. */
	if (name[0] < '1' || name[0] > '9')
		return 0;
	for (at = name; *at >= '0' && *at <= '9'; at++) {
		pid = pid * 10 + (uint32_t)(*at - '0');
		if (pid >= CELLOS_PID_LIMIT)
			return 0;
	}
	return *at == '\0' ? pid : 0;
}

int cellos_proc_parse_number(const char *text, size_t len, uint64_t *out)
{
	struct text left = {.at = text, .end = text + len};
	uint64_t value;

	if (!take_number(&left, UINT64_MAX, &value) || !take(&left, '\n') || left.at != left.end)
		return -EINVAL;
	*out = value;
	return 0;
}
