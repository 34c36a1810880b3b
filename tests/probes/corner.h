/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A corner of the machine for one test process and its children: a cgroup that is the root of its
 * own cgroup namespace, and a network with nothing but a loopback. What else runs on the machine is
 * not seen from there, so counts can be compared exactly, and nothing leaves it.
 *
 * Threads: the test's own, before it starts any other. Needs root.
 * Invariant: leave (or, after a crash, the next enter of anybody) removes the cgroup.
 * Refuses to: go on when a step fails; it aborts, which no test survives.
 */
#ifndef CELLOS_TESTS_CORNER_H
#define CELLOS_TESTS_CORNER_H

void corner_enter(void);
void corner_leave(void);

#endif
