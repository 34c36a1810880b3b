/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Lines out of the spool; sink_lines.h says what holds.
 */
#include "sink_lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int host_sink_lines_init(struct host_sink_lines *lines, const struct host_spool *spool)
{
	memset(lines, 0, sizeof(*lines));
	lines->spool = spool;
	lines->memory = malloc(HOST_SINK_BUFFER_BYTES);
	return lines->memory != NULL ? 0 : -ENOMEM;
}

void host_sink_lines_destroy(struct host_sink_lines *lines)
{
	free(lines->memory);
	lines->memory = NULL;
}

void host_sink_lines_rewind(struct host_sink_lines *lines)
{
	lines->length = 0;
}

/* The bytes from `position` to the newline, if it is in the buffer. */
static char *find(const struct host_sink_lines *lines, uint64_t position, char **newline)
{
	char *text;

	if (position < lines->at || position >= lines->at + lines->length)
		return NULL;
	text = lines->memory + (position - lines->at);
	*newline = memchr(text, '\n', (size_t)(lines->at + lines->length - position));
	return *newline != NULL ? text : NULL;
}

/* Ends the word at the next blank within the line; what follows, or NULL. */
static char *cut(char *word, const char *newline)
{
	char *blank = memchr(word, ' ', (size_t)(newline - word));

	if (blank == NULL || blank == word)
		return NULL;
	*blank = '\0';
	return blank + 1;
}

static int parse(char *text, char *newline, struct host_sink_line *line)
{
	char *subject = cut(text, newline), *json, *dot;

	if (subject == NULL || (json = cut(subject, newline)) == NULL || json == newline)
		return -EPROTO;
	/* A NUL inside would end the words early, and never be found by their receivers. */
	if (strncmp(subject, "cellos.", 7) != 0 || (dot = strchr(subject + 7, '.')) == NULL ||
	    memchr(text, '\0', (size_t)(json - text)) != subject - 1)
		return -EPROTO;
	line->id = text;
	line->subject = subject;
	line->cell = subject + 7;
	line->cell_length = (size_t)(dot - line->cell);
	line->json = json;
	line->json_length = (size_t)(newline - json);
	return line->cell_length > 0 ? 0 : -EPROTO;
}

int host_sink_lines_next(struct host_sink_lines *lines, uint64_t position, uint64_t end,
			 struct host_sink_line *line)
{
	char *newline = NULL, *text = find(lines, position, &newline);

	if (text == NULL) {
		lines->at = position;
		lines->length = host_spool_read(lines->spool, position, end, lines->memory,
						HOST_SINK_BUFFER_BYTES);
		text = find(lines, position, &newline);
	}
	line->begin = position;
	if (text == NULL) {
		line->end = position + lines->length;
		return -EPROTO;
	}
	line->end = position + (uint64_t)(newline - text) + 1;
	return parse(text, newline, line);
}
