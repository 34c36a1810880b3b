/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What ThreadSanitizer must be told about liburcu's queue.
 *
 * liburcu orders its words by assembly and volatile accesses, which TSan cannot see, so it would
 * report the hand-over of every node as a race. Two annotations say what is true: all that a
 * producer did to a node before its enqueue happens before all that the sender does to it after
 * taking it out. They hide nothing else: a producer that writes a node after enqueueing it is still
 * reported (tests/queue has that program). Without TSan, which the build
 * tells by CELLOS_TSAN, both are nothing.
 */
#ifndef CELLOS_QUEUE_TSAN_H
#define CELLOS_QUEUE_TSAN_H

#ifdef CELLOS_TSAN
#include <sanitizer/tsan_interface.h>
#define cellos_tsan_release(node) __tsan_release(node)
#define cellos_tsan_acquire(node) __tsan_acquire(node)
#else
#define cellos_tsan_release(node) ((void)(node))
#define cellos_tsan_acquire(node) ((void)(node))
#endif

#endif
