/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See track_rig.h. */
#include "track_rig.h"

#include <stdlib.h>
#include <string.h>

#include "probe_util.h"

struct track_rig track_rig;
static struct cellos_probe_options options;
static struct cellos_probe_env env;

void track_rig_init(uint32_t max, bool by_messages, bool listens)
{
	struct process_state *state;

	options.max_processes = max;
	state = calloc(1, process_state_bytes(&options));
	if (state == NULL)
		abort();
	env.options = &options;
	env.stats[STAT_TABLE_FULL] = 0;
	state->env = &env;
	state->by_messages = by_messages;
	state->exits.fd = listens ? 0 : -1;
	process_track_init(state);
	track_rig.state = state;
	track_rig.record.pid = 0;
}

void track_rig_free(void)
{
	free(track_rig.state);
	track_rig.state = NULL;
}

uint64_t track_rig_full(void)
{
	return env.stats[STAT_TABLE_FULL];
}

void track_rig_exit(uint32_t pid, uint32_t tgid, uint64_t ns, const struct exit_record *record)
{
	if (record != NULL)
		track_rig.record = *record;
	else
		track_rig.record.pid = 0;
	process_exited(track_rig.state, pid, tgid, ns);
}

void track_rig_take(const struct proc_event *event, uint64_t ns, const struct exit_record *record)
{
	const __typeof__(event->event_data) *of = &event->event_data;

	if (event->what == PROC_EVENT_FORK)
		process_forked(track_rig.state, (uint32_t)of->fork.parent_tgid,
			       (uint32_t)of->fork.child_pid, (uint32_t)of->fork.child_tgid, ns);
	else if (event->what == PROC_EVENT_EXEC)
		process_execed(track_rig.state, (uint32_t)of->exec.process_tgid, ns);
	else if (event->what == PROC_EVENT_EXIT)
		track_rig_exit((uint32_t)of->exit.process_pid, (uint32_t)of->exit.process_tgid, ns,
			       record);
}

/* ---- what process_track.c calls ------------------------------------------------------------- */

bool process_exit_record(struct process_state *state, uint32_t pid, struct exit_record *out)
{
	(void)state;
	if (track_rig.record.pid != pid)
		return false;
	*out = track_rig.record;
	track_rig.record.pid = 0;
	return true;
}

int process_look(const struct process_state *state, uint32_t pid, struct cellos_proc_stat *out)
{
	(void)state;
	return track_rig.look(pid, out);
}

void cellos_probe_emit(struct cellos_probe_env *unused, enum cellos_probe_source source,
		       uint32_t pid, const char *comm, size_t comm_len, uint64_t now_ns)
{
	char name[17] = "";

	(void)unused;
	if (comm_len > CELLOS_RAW_COMM_MAX_BYTES)
		abort();
	memcpy(name, comm, comm_len);
	track_rig.emit(source, pid, name, now_ns);
}

void cellos_probe_stat_add(struct cellos_probe_env *to, unsigned stat, uint64_t more)
{
	to->stats[stat] += more;
}
