/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The page of a captured run, from stream to stream (page.h). One thread.
 *
 * A line that is longer than any of ours is skipped and counted, so a file without line ends costs
 * no memory either.
 */
#include "page.h"

#include <errno.h>
#include <stdlib.h>

#include "page_html.h"
#include "page_model.h"

/* One line without its end into `line`; *length beyond the limit when it was too long. */
static bool read_line(FILE *in, char *line, size_t *length)
{
	int byte;

	*length = 0;
	while ((byte = getc_unlocked(in)) != EOF) {
		if (byte == '\n')
			return true;
		if (*length < PAGE_MAX_LINE_BYTES)
			line[*length] = (char)byte;
		if (*length <= PAGE_MAX_LINE_BYTES)
			++*length;
	}
	return *length > 0; /* the last line may lack its end */
}

static int read_lines(struct page_model *model, FILE *in)
{
	char *line = malloc(PAGE_MAX_LINE_BYTES);
	size_t length;
	int status = 0;

	if (line == NULL)
		return -ENOMEM;
	errno = 0;
	while (status == 0 && read_line(in, line, &length)) {
		if (length > PAGE_MAX_LINE_BYTES) {
			model->lines++;
			page_model_fault(model, "longer than any line of ours");
		} else if (length > 0) {
			status = page_model_line(model, line, length);
		} else {
			model->lines++; /* empty: nobody's line */
		}
	}
	if (status == 0 && ferror(in))
		status = errno != 0 ? -errno : -EIO;
	free(line);
	return status;
}

int host_page(FILE *in, const char *name, FILE *out, enum host_page_failure *failed)
{
	struct page_model model;
	int status = page_model_init(&model);

	*failed = HOST_PAGE_READ;
	if (status == 0)
		status = read_lines(&model, in);
	if (status == 0) {
		*failed = HOST_PAGE_WRITE;
		errno = 0;
		status = page_html(&model, name, out);
		if (status == 0 && (fflush(out) == EOF || ferror(out)))
			status = errno != 0 ? -errno : -EIO;
	}
	page_model_destroy(&model);
	return status;
}
