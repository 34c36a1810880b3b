/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The agent's two JSON texts, written into fixed memory: the stats line and the probe report.
 * Main thread; pure but for reading the counters.
 */
#ifndef CELLOS_AGENT_REPORT_H
#define CELLOS_AGENT_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "cellos/probe.h"
#include "cellos/queue.h"
#include "sender.h"

#define REPORT_BYTES 4096

/* One probe of the running agent, as main keeps it. */
struct report_probe {
	const struct cellos_probe *probe;
	const struct cellos_probe_env *env;
	const struct cellos_probe_status *status;
	size_t state_bytes;
};

struct report_memory {
	size_t queue_bytes;
	size_t sender_bytes;
	size_t stack_bytes;    /* all threads but main */
	uint64_t kernel_bytes; /* what the kernel may hold for us, at most */
};

/*
 * {"incarnation":…,"epoch":…,"sent":…,"lanes":{"proc":{"produced":…,"sent":…,"q":…,"k":…,"o":…,"s":…,
 * "x":…,"queued":…,"high_water":…},…},"queue_depth":…,"probes":{"process":{"table_full":…}},"memory":{…}}
 * and a newline. Per lane, produced = sent + q + x + queued once the sender has been joined;
 * before, the words are a moment apart. Returns the length.
 */
size_t report_stats(char out[REPORT_BYTES], uint32_t incarnation, const struct sender *sender,
		    struct cellos_queue *queue, const struct report_probe *probes, size_t count,
		    const struct report_memory *memory);
/* {"name":…,"lane":…,"surface":…,"armed":…,"why":…,"state_bytes":…,"kernel_bytes":…} and a newline.
 */
size_t report_probe_line(char out[REPORT_BYTES], const struct report_probe *probe);

#endif
