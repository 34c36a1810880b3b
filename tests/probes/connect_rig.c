/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See connect_rig.h. */
#include "connect_rig.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "corner.h"
#include "skip.h"

uint16_t port_open, port_closed, port_sink;
static int held[3] = {-1, -1, -1};

void connect_need(void)
{
	struct cellos_probe_options options = rig_options();
	struct rig rig;

	if (geteuid() != 0)
		cellos_test_skip("attaching to a cgroup needs root");
	rig_init(&rig, &cellos_probe_connect, &options, 16);
	rig_arm(&rig);
	/* Not armed for another reason is what the tests themselves shall fail about. */
	if (strstr(rig.status.why, "built without clang") != NULL)
		cellos_test_skip(rig.status.why);
	rig_free(&rig);
}

union address address4(const char *text, uint16_t port)
{
	union address address = {.v4 = {.sin_family = AF_INET, .sin_port = htons(port)}};

	RIG_CHECK(inet_pton(AF_INET, text, &address.v4.sin_addr) == 1);
	return address;
}

union address address6(const char *text, uint16_t port)
{
	union address address = {.v6 = {.sin6_family = AF_INET6, .sin6_port = htons(port)}};

	RIG_CHECK(inet_pton(AF_INET6, text, &address.v6.sin6_addr) == 1);
	return address;
}

socklen_t address_bytes(const union address *address)
{
	return address->any.sa_family == AF_INET6 ? sizeof(address->v6) : sizeof(address->v4);
}

int socket_of(int family, int type, int protocol)
{
	int fd = socket(family, type | SOCK_CLOEXEC, protocol);

	RIG_CHECK(fd >= 0);
	return fd;
}

int try_connect(int fd, union address to)
{
	return connect(fd, &to.any, address_bytes(&to)) < 0 ? -errno : 0;
}

int try_send(int fd, union address to)
{
	return sendto(fd, "x", 1, 0, &to.any, address_bytes(&to)) < 0 ? -errno : 0;
}

/* A socket of IPv6 that takes IPv4 as well. */
static int bound(int type, uint16_t *port)
{
	union address address = address6("::", 0);
	socklen_t bytes = sizeof(address.v6);
	int fd = socket_of(AF_INET6, type, 0);

	RIG_CHECK(bind(fd, &address.any, bytes) == 0);
	RIG_CHECK(getsockname(fd, &address.any, &bytes) == 0);
	*port = ntohs(address.v6.sin6_port);
	return fd;
}

void connect_init(void)
{
	corner_enter();
	held[0] = bound(SOCK_STREAM, &port_open);
	RIG_CHECK(listen(held[0], 4096) == 0);
	held[1] = bound(SOCK_STREAM, &port_closed);
	held[2] = bound(SOCK_DGRAM, &port_sink);
}

void connect_fini(void)
{
	for (unsigned at = 0; at < 3; at++)
		close(held[at]);
	corner_leave();
}

void connect_begin(struct rig *rig, uint32_t coalesce_ms, size_t depth)
{
	struct cellos_probe_options options = rig_options();

	options.coalesce_ms = coalesce_ms;
	rig_init(rig, &cellos_probe_connect, &options, depth);
	rig_arm(rig);
	RIG_CHECK(rig->status.armed);
	rig_start(rig);
}

size_t events_named(const struct rig *rig, const char *comm)
{
	size_t count = 0;

	for (size_t at = 0; at < rig->count; at++)
		count += rig->events[at].comm_len == strlen(comm) &&
			 memcmp(rig->events[at].comm, comm, strlen(comm)) == 0;
	return count;
}

bool until_named(struct rig *rig, const char *comm, size_t count)
{
	uint64_t deadline = rig_now() + RIG_PATIENCE_MS * 1000000ull;

	while (events_named(rig, comm) < count && rig_now() < deadline)
		rig_pump(rig, deadline);
	return events_named(rig, comm) >= count;
}

static uint64_t told(const struct rig *rig)
{
	return rig->count + rig_dropped(rig, CELLOS_DROP_KERNEL) +
	       rig_dropped(rig, CELLOS_DROP_SUPPRESSED) + rig_dropped(rig, CELLOS_DROP_QUEUE_FULL);
}

uint64_t accounted(const struct rig *rig)
{
	RIG_CHECK(!rig->running);
	return told(rig);
}

bool until_accounted(struct rig *rig, uint64_t attempts)
{
	uint64_t deadline = rig_now() + RIG_STOP_NS;

	while (told(rig) < attempts && rig_now() < deadline)
		rig_pump(rig, deadline);
	return told(rig) == attempts;
}
