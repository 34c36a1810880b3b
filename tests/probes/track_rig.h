/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the process probe concludes from messages and walks, with the test's own /proc, exit records
 * and events: it stands in for process_scan.c, process_socket.c and probe_util.c, so that it is
 * linked with process_track.c alone.
 *
 * Threads: one. Refuses to: touch a kernel.
 */
#ifndef CELLOS_TESTS_TRACK_RIG_H
#define CELLOS_TESTS_TRACK_RIG_H

#include "process.h"

struct track_rig {
	struct process_state *state; /* owned */
	void (*emit)(enum cellos_probe_source source, uint32_t pid, const char *comm, uint64_t ns);
	int (*look)(uint32_t pid, struct cellos_proc_stat *out);
	struct exit_record record; /* of the next exit of this pid; 0: none waits */
};

extern struct track_rig track_rig;

/* `emit` and `look` are set. The last ends with track_rig_free. */
void track_rig_init(uint32_t max, bool by_messages, bool listens);
void track_rig_free(void);
uint64_t track_rig_full(void);

/* One message, as process_connector.c takes it. `record` NULL: the listener said nothing. */
void track_rig_take(const struct proc_event *event, uint64_t ns, const struct exit_record *record);
void track_rig_exit(uint32_t pid, uint32_t tgid, uint64_t ns, const struct exit_record *record);

#endif
