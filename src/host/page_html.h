/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The page itself: the model as HTML with pictures in SVG, no script, nothing loaded from anywhere.
 * One thread; errors of the stream are the stream's (ferror).
 */
#ifndef CELLOS_HOST_PAGE_HTML_H
#define CELLOS_HOST_PAGE_HTML_H

#include <stdio.h>

#include "page_model.h"

/* 0 or -ENOMEM. */
CELLOS_MUST_CHECK int page_html(const struct page_model *model, const char *name, FILE *out);

#endif
