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
#include "options.h"
#include "sender.h"
#include "threads.h"

#define REPORT_BYTES 4096

struct running_probe {
	const struct cellos_probe *probe;
	struct cellos_probe_env env;
	struct cellos_probe_status status;
	void *state; /* owned: state_bytes of anonymous memory */
	size_t state_bytes;
	pthread_t thread;
};

/*
 * {"incarnation":…,"epoch":…,"sent":…,"lanes":{"proc":{"produced":…,"sent":…,"q":…,"k":…,"o":…,"s":…,
 * "x":…,"queued":…,"high_water":…},…},"queue_depth":…,"probes":{"process":{"table_full":…}},"memory":{…}}
 * and a newline. Per lane, produced = sent + q + x + queued once the sender has been joined;
 * before, the words are a moment apart. Returns the length.
 */
size_t report_stats(char out[REPORT_BYTES], uint32_t incarnation, const struct sender *sender,
		    struct cellos_queue *queue, const struct running_probe *probes, size_t count);
/* {"name":…,"lane":…,"surface":…,"armed":…,"why":…,"state_bytes":…,"kernel_bytes":…,"sandbox":…}
 * and a newline.
 */
size_t report_probe_line(char out[REPORT_BYTES], const struct running_probe *probe,
			 const struct agent_options *options);

#endif
