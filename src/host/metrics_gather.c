/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From the fleet and the hand-over to plain numbers; metrics_gather.h says what holds.
 *
 * It reads one small file of /proc, which the kernel makes up on the spot: that is no wait.
 */
#include "metrics_gather.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clock.h"

void host_metrics_prepare(struct host_metrics *metrics, const char *format)
{
	memset(metrics, 0, sizeof(*metrics));
	metrics->version = CELLOS_VERSION;
	metrics->format = format;
	metrics->start_ms = host_clock_ns(CLOCK_REALTIME) / 1000000;
}

struct gathering {
	struct host_metrics *metrics;
	size_t room;
};

static void gather_cell(void *context, const struct host_cell *cell)
{
	struct gathering *gathering = context;
	struct host_metrics *metrics = gathering->metrics;
	const struct host_account *account = &cell->origin.account;
	struct host_metrics_cell *out;

	if (metrics->count == gathering->room)
		return; /* the fleet's count is the length of its walk */
	out = &metrics->cells[metrics->count++];
	memcpy(out->id, cell->config->id, sizeof(out->id));
	memcpy(out->run, cell->config->run, sizeof(out->run));
	out->connected = cell->connection != NULL;
	out->silent = account->silence.silent;
	out->admitted = !account->refusing;
	out->pending = cell->origin.pending;
	out->incarnation = account->incarnation;
	out->totals = account->totals;
}

static void gather_handover(const struct host_handover *handover, struct host_metrics *metrics)
{
	const struct host_state *state = handover->state;

	metrics->output_buffered = handover->output.line.length;
	metrics->keeps_state = state != NULL;
	metrics->spooled = handover->spooled && state != NULL && handover->sink != NULL;
	if (!metrics->spooled)
		return;
	metrics->spool_bytes = handover->spool.bytes;
	metrics->spool_written = host_state_spool_end(state);
	metrics->spool_acknowledged = host_state_spool_acked(state);
	host_sink_numbers(handover->sink, &metrics->sink);
	metrics->sink_connected = metrics->sink.connected;
}

/* The second number of statm: pages. 0 where there is no /proc. */
static uint64_t resident_bytes(void)
{
	char text[128], *rest = NULL;
	int fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		(void)close(fd);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	(void)strtoull(text, &rest, 10);
	return strtoull(rest, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void gather_process(struct host_metrics *metrics)
{
	struct rlimit limit;

	metrics->cpu_ms = host_clock_ns(CLOCK_PROCESS_CPUTIME_ID) / 1000000;
	metrics->resident_bytes = resident_bytes();
	metrics->max_descriptors = getrlimit(RLIMIT_NOFILE, &limit) == 0 ? limit.rlim_cur : 0;
}

int host_metrics_gather(const struct host_fleet *fleet, struct host_metrics *metrics)
{
	struct gathering gathering = {.metrics = metrics, .room = fleet->count};

	metrics->count = 0;
	metrics->cells = calloc(fleet->count + 1, sizeof(*metrics->cells));
	if (metrics->cells == NULL)
		return -ENOMEM;
	host_fleet_walk(fleet, gather_cell, &gathering);
	metrics->gone_cells = fleet->gone.cells;
	metrics->gone_frames = fleet->gone.received;
	metrics->gone_emitted = fleet->gone.emitted;
	metrics->gone_refused = fleet->gone.refused;
	metrics->gone_lost_in_host = fleet->gone.lost_in_host;
	metrics->output_blocked = host_fleet_is_blocked(fleet);
	gather_handover(fleet->handover, metrics);
	gather_process(metrics);
	return 0;
}
