/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Processes by the kernel's own messages: the connector says who forks, execs and exits, the exit
 * listener under which name and which exit is the last, and /proc the name of who lives on.
 *
 * Its reader is woken seldom: by the first message after a silence, and from then on by a timer,
 * until a look finds nothing. A reader that is woken by every message slows down everybody who
 * forks. What it wakes for has gathered in the sockets meanwhile.
 *
 * A lost message is counted (`k`), the queue is read empty, for until then the kernel drops
 * everything, and a walk of /proc puts right what is known.
 *
 * Before 6.6 one count decides whether the kernel sends at all, and any process with the right to
 * may lower it. So on those it is asked every second: by a LISTEN that it must answer, and by an
 * IGNORE, which takes the LISTEN back and is answered only while somebody else's still counts: ours
 * of before. No answer means that we have been silenced for a while: one occasion under `o`.
 *
 * Threads: one at a time. Invariants: an exit's record is looked for when its message is read, so
 * it is there or was lost; idle, with 6.6 or later, the thread never wakes. Refuses to: work
 * outside the initial PID namespace, where the kernel is silent.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>

#include "connector.h"
#include "probe_util.h"
#include "process_state.h"

#define INITIAL_PID_NAMESPACE 4026531836u
#define DRAIN_MESSAGES 4096u /* then held reports have their turn */
#define MAX_DRAINS 64u
#define MAX_LISTENS 1024u
#define ASK_NS CELLOS_NS_PER_S
/* Losses can come faster than /proc can be walked. */
#define RESYNC_GAP_NS (200 * CELLOS_NS_PER_MS)

/* ---- open ----------------------------------------------------------------------------------- */

/* Whether others can silence us, see above. When in doubt, yes. */
static bool is_old_kernel(void)
{
	unsigned major = 0, minor = 0;
	struct utsname name;

	if (uname(&name) != 0 || sscanf(name.release, "%u.%u", &major, &minor) != 2)
		return true;
	return major < 6 || (major == 6 && minor < 6);
}

static int await_answer(struct process_connector *c)
{
	struct connector_event event;

	for (;;) {
		int got = netlink_await(&c->socket, c->buffer, sizeof(c->buffer));

		if (got < 0 && got != -EPERM && got != -ENOBUFS)
			return got;
		if (got > 0 && connector_parse(c->buffer, (size_t)got, &event) == 0 &&
		    event.what == CONNECTOR_ACK && event.ack == c->asked)
			return -(int)event.error;
	}
}

/* An exit listener is worth having, not needed: without it the shortest processes have no name. */
static void open_exits(struct process_state *state, uint32_t buffer,
		       struct cellos_probe_status *status)
{
	const char *what = "not wanted";
	int result = -ENOENT;

	if (!state->seam.no_exits)
		result = exit_listener_open(&state->exits, buffer, &what);
	if (result < 0)
		cellos_probe_why(status,
				 "no exit listener (%s: %s): short processes may lack a name", what,
				 strerror(-result));
}

int process_connector_open(struct process_state *state, struct cellos_probe_status *status)
{
	uint32_t buffer = state->seam.buffer != 0 ? state->seam.buffer : PROCESS_SOCKET_BYTES;
	struct process_connector *c = &state->connector;
	struct stat space;
	int result;

	if (fstatat(state->scan.fd, "self/ns/pid", &space, 0) == 0 &&
	    space.st_ino != INITIAL_PID_NAMESPACE) {
		cellos_probe_why(status,
				 "not in the initial PID namespace, where alone the kernel's "
				 "process connector speaks");
		return -EXDEV;
	}
	c->ask = state->seam.old_kernel || is_old_kernel();
	c->resync_ns = UINT64_MAX;
	c->asked = state->env->agent_pid << 8; /* unlike another listener's */
	result = connector_open(&c->socket, buffer);
	if (result == 0)
		result = connector_listen(&c->socket, ++c->asked);
	if (result == 0)
		result = await_answer(c);
	if (result < 0) {
		cellos_probe_why(status, "the process connector does not answer: %s",
				 strerror(-result));
		netlink_close(&c->socket);
		return result;
	}
	open_exits(state, buffer, status);
	return 0;
}

void process_connector_close(struct process_state *state)
{
	struct process_connector *c = &state->connector;

	/* Newer kernels see by the closing that nobody listens. */
	if (c->socket.fd >= 0 && c->ask)
		(void)!connector_ignore(&c->socket, ++c->asked);
	netlink_close(&c->socket);
	exit_listener_close(&state->exits);
}

/* ---- messages ------------------------------------------------------------------------------- */

static void take(struct process_state *state, const struct connector_event *event)
{
	struct process_track *track = &state->track;
	struct process_exit exit;
	bool known;

	switch (event->what) {
	case CONNECTOR_FORK:
		process_track_fork(track, event->parent, event->pid, event->tgid, event->ns);
		break;
	case CONNECTOR_EXEC:
		process_track_exec(track, event->tgid, event->ns);
		break;
	case CONNECTOR_EXIT:
		known = exit_listener_take(&state->exits, event->pid, &exit);
		process_track_exit(track, event->pid, event->tgid, event->ns, known ? &exit : NULL);
		break;
	case CONNECTOR_ACK:
		state->connector.answered = event->ack;
		break;
	}
}

/* What is there, up to a bound; how many messages. */
static unsigned drain(struct process_state *state)
{
	struct process_connector *c = &state->connector;
	struct connector_event event;
	unsigned count;

	for (count = 0; count < DRAIN_MESSAGES; count++) {
		int got = netlink_receive(&c->socket, c->buffer, sizeof(c->buffer));

		if (got == -EPERM)
			c->forged++;
		else if (got >= 0 && connector_parse(c->buffer, (size_t)got, &event) == 0)
			take(state, &event);
		else if (got >= 0)
			c->malformed++;
		else if (got != -ENOBUFS) /* which netlink_lost will tell of */
			break;
	}
	return count;
}

void process_connector_drain(struct process_state *state)
{
	for (unsigned rounds = 0; rounds < MAX_DRAINS; rounds++)
		if (drain(state) < DRAIN_MESSAGES)
			break;
}

/* ---- losses --------------------------------------------------------------------------------- */

static void want_resync(struct process_state *state)
{
	struct process_connector *c = &state->connector;
	uint64_t soonest = c->resynced_ns + RESYNC_GAP_NS;

	process_track_lost(&state->track);
	if (c->resync_ns == UINT64_MAX)
		c->resync_ns = soonest;
}

static void count_lost(struct process_state *state)
{
	uint64_t lost = netlink_lost(&state->connector.socket) + netlink_lost(&state->exits.socket);

	if (lost == 0)
		return;
	cellos_lane_count(state->env->lane, CELLOS_DROP_KERNEL, lost);
	want_resync(state);
}

static void resync(struct process_state *state)
{
	struct process_connector *c = &state->connector;
	struct cellos_probe_status unused;
	bool done = false;

	process_connector_drain(state);
	if (state->scan.fd >= 0 ||
	    process_scan_open(&state->scan, state->env->agent_pid, &unused) == 0)
		done = process_walk_once(state);
	else
		process_open_gap(state);
	exit_listener_forget(&state->exits);
	c->resynced_ns = cellos_probe_now();
	c->resync_ns = done ? UINT64_MAX : c->resynced_ns + CELLOS_PROBE_RETRY_NS;
}

/* True when the kernel has answered. What else is there is taken as well. */
static bool ask(struct process_state *state,
		int (*question)(const struct netlink_socket *socket, uint32_t ack))
{
	struct process_connector *c = &state->connector;

	if (question(&c->socket, ++c->asked) < 0)
		return false;
	process_connector_drain(state);
	return c->answered == c->asked;
}

static void ask_whether_heard(struct process_state *state)
{
	unsigned listens = 1;

	if (ask(state, connector_listen) && ask(state, connector_ignore)) {
		state->in_gap = false;
		return;
	}
	while (!ask(state, connector_listen) && listens < MAX_LISTENS)
		listens++;
	process_open_gap(state);
	state->in_gap = listens == MAX_LISTENS; /* each time that we were silenced is an occasion */
	want_resync(state);
}

/* ---- life ----------------------------------------------------------------------------------- */

/* Until there is reason to look; false: stop. */
static bool gather(struct process_state *state, bool flowing, uint64_t deadline)
{
	int stop_fd = state->env->stop_fd;
	uint64_t coalesce = state->env->options->coalesce_ms * CELLOS_NS_PER_MS;
	enum cellos_wait_result result = CELLOS_WAIT_READABLE;

	if (!flowing)
		result = cellos_probe_wait(stop_fd, state->connector.socket.fd, deadline);
	if (result == CELLOS_WAIT_READABLE)
		result = cellos_probe_wait(stop_fd, -1,
					   coalesce == 0 ? 0 : cellos_probe_now() + coalesce);
	return result != CELLOS_WAIT_STOP;
}

static void publish(struct process_state *state)
{
	struct cellos_probe_env *env = state->env;

	cellos_probe_stat_set(env, STAT_TABLE_FULL, state->track.table_full);
	cellos_probe_stat_set(env, STAT_FORGED, state->connector.forged + state->exits.forged);
	cellos_probe_stat_set(env, STAT_MALFORMED,
			      state->connector.malformed + state->exits.malformed);
}

static uint64_t soonest_of(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

void process_connector_run(struct process_state *state)
{
	struct process_connector *c = &state->connector;
	uint64_t ask_ns = c->ask ? cellos_probe_now() + ASK_NS : UINT64_MAX, held = UINT64_MAX;
	bool flowing = true; /* since arm */

	while (gather(state, flowing, soonest_of(held, soonest_of(ask_ns, c->resync_ns)))) {
		flowing = drain(state) > 0;
		if (cellos_probe_now() >= ask_ns) {
			ask_whether_heard(state);
			ask_ns = cellos_probe_now() + ASK_NS;
		}
		count_lost(state);
		if (cellos_probe_now() >= c->resync_ns)
			resync(state);
		held = process_track_settle(&state->track, cellos_probe_now());
		publish(state);
	}
	process_connector_drain(state);
	count_lost(state);
	publish(state);
}
