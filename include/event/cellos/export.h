/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What leaves the shared library, and how results that matter are marked.
 * Everything else is compiled with hidden visibility.
 */
#ifndef CELLOS_EXPORT_H
#define CELLOS_EXPORT_H

#if defined(__GNUC__)
#define CELLOS_EXPORT __attribute__((visibility("default")))
#define CELLOS_MUST_CHECK __attribute__((warn_unused_result))
#else
#define CELLOS_EXPORT
#define CELLOS_MUST_CHECK
#endif

#endif
