/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The connect probe in a corner of its own, and sockets to try it with.
 *
 * Threads: the test's own and the probe's.
 * Refuses to: go on when a socket cannot be had; what connect and sendto answer is the test's.
 */
#ifndef CELLOS_TESTS_CONNECT_RIG_H
#define CELLOS_TESTS_CONNECT_RIG_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "probe_tables.h"
#include "rig.h"

#define ATTEMPTED CELLOS_SOURCE_NET_CONNECT_ATTEMPTED

/* Ends the program as skipped where the surface cannot be had: no root, a build without it. Call it
   from a constructor. */
void connect_need(void);
/* The same for one Criterion test, for what this kernel lacks. */
#define SKIP_TEST(...)                                                                             \
	do {                                                                                       \
		const char *strict = getenv("CELLOS_NO_SKIP");                                     \
                                                                                                   \
		cr_assert(strict == NULL || strict[0] != '1', __VA_ARGS__);                        \
		cr_skip_test(__VA_ARGS__);                                                         \
	} while (0)

/* Enters the corner and makes the addresses below; for TestSuite's .init and .fini. */
void connect_init(void);
void connect_fini(void);

/* Armed, and its thread running. */
void connect_begin(struct rig *rig, uint32_t coalesce_ms, size_t depth);

/* On both loopbacks; a listener that never accepts, a port where nobody listens, and a UDP sink. */
extern uint16_t port_open, port_closed, port_sink;

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

union address address4(const char *text, uint16_t port);
union address address6(const char *text, uint16_t port);
socklen_t address_bytes(const union address *address);

int socket_of(int family, int type, int protocol);
/* 0 or -errno. */
int try_connect(int fd, union address to);
int try_send(int fd, union address to);

size_t events_named(const struct rig *rig, const char *comm);
bool until_named(struct rig *rig, const char *comm, size_t count);
/* Events so far, plus what was lost and folded; only right after rig_stop. */
uint64_t accounted(const struct rig *rig);
/* Waits until so many are accounted for, while it runs; false: there are more, or it never comes.
 */
bool until_accounted(struct rig *rig, uint64_t attempts);

#endif
