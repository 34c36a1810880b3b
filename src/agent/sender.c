/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The sender thread's loop. Each turn: move the channel on, fill an empty batch from the queue,
 * write what is there with the self-reports that are due at its front, and only then wait: for the
 * queue when all is written, for the channel when it is not.
 *
 * Threads: see sender.h.
 * Invariants: at rest and per lane, taken = sent + in_batch + left. An event is drained only when
 * the channel is open and the batch before it is written, so a host that stalls fills the lanes,
 * not us. Refuses: to sleep on a queue whose producer stands between two stores, and to spin on a
 * channel.
 */
#include "sender.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "cellos/wire.h"
#include "ledger.h"
#include "outbox.h"
#include "threads.h"

/* One drain call: what stays in the first-level cache beside the frames made of it. */
#define DRAIN_AT_ONCE 256u
/* Below this a refill is more call than event: write first. */
#define WORTH_A_DRAIN 32u
/* How long a producer may stand between its two stores before we write what we have. */
#define RETRY_PATIENCE_NS UINT64_C(1000000)

enum write_result { WROTE_ALL, WROTE_PART, WROTE_NOTHING, WRITE_BROKE };

struct sender {
	struct sender_config config;
	pthread_t thread;
	int wake_fd; /* owned; ends a poll on the channel */
	_Atomic bool stop;
	_Atomic uint64_t sent[CELLOS_LANE_COUNT];
	_Atomic uint64_t in_batch[CELLOS_LANE_COUNT];
	_Atomic uint64_t left[CELLOS_LANE_COUNT];
	_Atomic uint32_t epoch;
	/* From here on the sender thread's alone, but for the first connect, before it exists. */
	struct cellos_channel channel;
	uint32_t connections; /* seen so far; the channel's own count is ahead when one is new */
	bool told_absent;     /* "no host" was said and no connection came since */
	bool farewell;        /* the goodbye is written, or cut: nothing may follow its rest */
	bool gone;
	int gone_error;
	uint64_t sent_total;
	uint64_t left_total[CELLOS_LANE_COUNT];
	struct ledger ledger;
	struct cellos_self_report due[OUTBOX_MAX_OWN];
	struct cellos_drained drained[DRAIN_AT_ONCE];
	struct outbox box;
};

static uint64_t clock_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

__attribute__((format(printf, 3, 4))) static void say(const struct sender *s, bool only_verbose,
						      const char *format, ...)
{
	char line[CELLOS_ADDRESS_TEXT_BYTES + 128];
	va_list arguments;

	if (s->config.say == NULL)
		return;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	s->config.say(s->config.context, only_verbose, line);
}

/* ---- channel -------------------------------------------------------------------------------- */

/* Moves the channel on and notices what changed. */
static enum cellos_channel_state follow_channel(struct sender *s, uint64_t now)
{
	char address[CELLOS_ADDRESS_TEXT_BYTES];
	enum cellos_channel_state state = cellos_channel_advance(&s->channel, now);

	if (s->channel.connections != s->connections) {
		s->connections = s->channel.connections;
		s->told_absent = false;
		outbox_rewind(&s->box);
		ledger_connected(&s->ledger, now);
		atomic_store_explicit(&s->epoch, s->ledger.epoch, memory_order_relaxed);
		say(s, true, "connected to %s, epoch %u",
		    cellos_address_format(&s->config.channel, address), s->ledger.epoch);
	} else if (state == CELLOS_CHANNEL_WAITING && !s->told_absent && s->channel.error != 0) {
		s->told_absent = true;
		say(s, false, "no host at %s: %s; trying again until it answers",
		    cellos_address_format(&s->config.channel, address), strerror(s->channel.error));
	}
	if (state == CELLOS_CHANNEL_GONE && !s->gone) {
		s->gone = true;
		s->gone_error = s->channel.error;
		say(s, false, "cannot write to %s: %s",
		    cellos_address_format(&s->config.channel, address), strerror(s->channel.error));
		if (s->config.notify_fd >= 0)
			(void)eventfd_write(s->config.notify_fd, 1);
	}
	return state;
}

/* ---- queue -> batch ------------------------------------------------------------------------- */

static void add(struct sender *s, const struct cellos_drained *drained)
{
	uint32_t lane = drained->lane < CELLOS_LANE_COUNT ? drained->lane : CELLOS_LANE_PROC;

	/* No probe makes an event that the encoder refuses; if one did, it would still be counted.
	 */
	if (!outbox_add(&s->box, &drained->event, lane))
		s->left_total[lane]++;
}

static enum cellos_drain_status fill(struct sender *s)
{
	uint64_t patience_ends = 0;
	enum cellos_drain_status status;

	for (;;) {
		size_t room = outbox_room(&s->box);
		size_t count;

		if (room > DRAIN_AT_ONCE)
			room = DRAIN_AT_ONCE;
		status = cellos_queue_drain(s->config.queue, s->drained, room, &count);
		for (size_t i = 0; i < count; i++)
			add(s, &s->drained[i]);
		if (status == CELLOS_DRAIN_EMPTY || outbox_room(&s->box) < WORTH_A_DRAIN)
			return status;
		if (status == CELLOS_DRAIN_MORE)
			continue;
		if (patience_ends == 0)
			patience_ends = clock_ns() + RETRY_PATIENCE_NS;
		else if (clock_ns() >= patience_ends)
			return status;
		sched_yield(); /* the producer may be waiting for this very CPU */
	}
}

/* ---- batch -> channel ----------------------------------------------------------------------- */

static void read_counts(const struct sender *s, ledger_counts counts)
{
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		struct cellos_lane_counters read;

		cellos_lane_read(cellos_queue_lane(s->config.queue, lane), &read);
		memcpy(counts[lane], read.dropped, sizeof(counts[lane]));
		counts[lane][CELLOS_DROP_STOPPED] = s->left_total[lane];
	}
}

static void publish(struct sender *s)
{
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		atomic_store_explicit(&s->in_batch[lane], s->box.pending[lane],
				      memory_order_relaxed);
		atomic_store_explicit(&s->left[lane], s->left_total[lane], memory_order_relaxed);
	}
}

static size_t plan_own(struct sender *s, uint64_t now, const ledger_counts counts, bool goodbye)
{
	/* The rest of a cut event frame stands in front of our reports and counts as sent there. */
	uint64_t before = s->sent_total + (outbox_event_is_cut(&s->box) ? 1 : 0);
	size_t count = ledger_due(&s->ledger, now, counts, before, goodbye, s->due, OUTBOX_MAX_OWN);

	outbox_clear_own(&s->box);
	for (size_t i = 0; i < count; i++) {
		struct cellos_probe_event event;

		memset(&event, 0, sizeof(event));
		cellos_self_report_set(&event, &s->due[i]);
		event.guest_pid = s->config.agent_pid;
		event.guest_monotonic_ns = now;
		outbox_add_own(&s->box, &event);
	}
	return count;
}

/* Returns how many self-reports went out, or are cut and will. */
static size_t account(struct sender *s, uint64_t now, size_t bytes)
{
	struct outbox_taken taken;

	outbox_consume(&s->box, bytes, &taken);
	for (size_t i = 0; i < taken.own; i++)
		ledger_told(&s->ledger, now, &s->due[i]);
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		uint64_t sent;

		if (taken.sent[lane] == 0)
			continue;
		/* Plain load and store: this thread is the only writer. */
		sent = atomic_load_explicit(&s->sent[lane], memory_order_relaxed);
		atomic_store_explicit(&s->sent[lane], sent + taken.sent[lane],
				      memory_order_relaxed);
		s->sent_total += taken.sent[lane];
	}
	return taken.own;
}

/* One write of all there is, the self-reports that are due at its first frame boundary. */
static enum write_result write_out(struct sender *s, uint64_t now, const ledger_counts counts,
				   bool goodbye)
{
	struct iovec iov[OUTBOX_IOVECS];
	size_t planned = s->farewell ? 0 : plan_own(s, now, counts, goodbye);
	int pieces = outbox_gather(&s->box, iov);
	size_t offered = 0;
	ssize_t taken;

	if (pieces == 0)
		return WROTE_NOTHING;
	for (int i = 0; i < pieces; i++)
		offered += iov[i].iov_len;
	taken = cellos_channel_writev(&s->channel, iov, pieces, now);
	if (taken < 0) {
		outbox_clear_own(&s->box);
		if (taken == -EAGAIN)
			return WROTE_PART;
		say(s, true, "the connection ended: %s", strerror((int)-taken));
		outbox_rewind(&s->box);
		s->farewell = false;
		return WRITE_BROKE;
	}
	if (account(s, now, (size_t)taken) == planned && goodbye)
		s->farewell = true;
	return (size_t)taken < offered ? WROTE_PART : WROTE_ALL;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Until the channel, a stop, or the deadline; `watch` says whether the descriptor matters. */
static void wait_for_channel(struct sender *s, bool watch, uint64_t now, uint64_t deadline)
{
	struct pollfd fds[2] = {
		{.fd = s->wake_fd, .events = POLLIN},
		{.fd = watch ? s->channel.fd : -1, .events = POLLOUT},
	};
	struct timespec left = {0};
	uint64_t ns = deadline > now ? deadline - now : 0;
	eventfd_t ignored;

	left.tv_sec = (time_t)(ns / 1000000000u);
	left.tv_nsec = (long)(ns % 1000000000u);
	if (ppoll(fds, 2, deadline == UINT64_MAX ? NULL : &left, NULL) > 0 && fds[0].revents != 0)
		(void)eventfd_read(s->wake_fd, &ignored);
}

/* All is written: until the queue has something, or something falls due. */
static void wait_for_queue(struct sender *s, uint64_t now, const ledger_counts counts,
			   uint64_t deadline)
{
	deadline = earlier(deadline, ledger_deadline(&s->ledger, counts));
	if (deadline > now)
		cellos_queue_wait(s->config.queue, deadline);
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* Whatever the host did not read in time becomes a number. */
static void give_up(struct sender *s)
{
	enum cellos_drain_status status;

	outbox_give_up(&s->box, s->left_total);
	do {
		size_t count;

		status = cellos_queue_drain(s->config.queue, s->drained, DRAIN_AT_ONCE, &count);
		for (size_t i = 0; i < count; i++)
			if (s->drained[i].lane < CELLOS_LANE_COUNT)
				s->left_total[s->drained[i].lane]++;
	} while (status != CELLOS_DRAIN_EMPTY);
	publish(s);
}

/*
 * One turn. `deadline` is UINT64_MAX until a stop is asked for. True: the goodbye went out, or the
 * deadline has passed and what could be written was.
 */
static bool turn(struct sender *s, bool stopping, uint64_t deadline)
{
	uint64_t now = clock_ns();
	enum cellos_channel_state state = follow_channel(s, now);
	bool late = stopping && (now >= deadline || state == CELLOS_CHANNEL_GONE);
	enum cellos_drain_status drained = CELLOS_DRAIN_MORE;
	enum write_result wrote = WROTE_PART;
	bool goodbye;
	ledger_counts counts;

	if (late)
		give_up(s);
	if (state != CELLOS_CHANNEL_OPEN) {
		read_counts(s, counts);
		if (!late)
			wait_for_channel(s, state == CELLOS_CHANNEL_CONNECTING, now,
					 earlier(deadline, cellos_channel_deadline(&s->channel)));
		return late;
	}
	if (outbox_is_empty(&s->box))
		drained = late ? CELLOS_DRAIN_EMPTY : fill(s);
	/* Self-reports stand in front of a batch, so the goodbye waits until nothing is behind it.
	 */
	goodbye = late || (stopping && drained == CELLOS_DRAIN_EMPTY && outbox_is_idle(&s->box));
	read_counts(s, counts);
	wrote = write_out(s, now, counts, goodbye);
	publish(s);
	if (late || (s->farewell && outbox_is_idle(&s->box)))
		return true;
	if (wrote == WROTE_PART)
		wait_for_channel(s, cellos_channel_deadline(&s->channel) == UINT64_MAX, now,
				 earlier(deadline, cellos_channel_deadline(&s->channel)));
	else if (wrote == WROTE_NOTHING && drained == CELLOS_DRAIN_EMPTY)
		wait_for_queue(s, now, counts, deadline);
	else if (wrote == WROTE_NOTHING && drained == CELLOS_DRAIN_RETRY)
		sched_yield();
	return false;
}

static void prepare_channel(struct sender *s)
{
	/* The jitter only has to differ between guests that were started together. */
	cellos_channel_init(&s->channel, &s->config.channel,
			    (uint32_t)clock_ns() ^ s->config.agent_pid * 2654435761u);
	s->connections = 0;
}

/*
 * The orderly end of the connection. False: the host hung up on bytes that it had not read, the
 * goodbye among them, and there is time left to tell the next one what was lost.
 */
static bool finish(struct sender *s, uint64_t deadline)
{
	int result;

	if (s->channel.state != CELLOS_CHANNEL_OPEN)
		return true;
	result = cellos_channel_finish(&s->channel, deadline);
	if (result == 0 || result == -ETIMEDOUT || clock_ns() >= deadline ||
	    s->config.channel.kind == CELLOS_ADDRESS_FD)
		return true;
	prepare_channel(s);
	s->farewell = false;
	return false;
}

static void *run(void *argument)
{
	struct sender *s = argument;
	uint64_t deadline = UINT64_MAX;
	bool stopping = false;

	prctl(PR_SET_NAME, "cellos-sender");
	do {
		/* Acquire: all that the joined probes submitted is visible once stop is. */
		if (!stopping && atomic_load_explicit(&s->stop, memory_order_acquire)) {
			stopping = true;
			deadline = clock_ns() + s->config.drain_ms * UINT64_C(1000000);
		}
	} while (!turn(s, stopping, deadline) || !finish(s, deadline));
	/* A frame that was cut when time ran out never became whole. */
	outbox_rewind(&s->box);
	outbox_give_up(&s->box, s->left_total);
	publish(s);
	cellos_channel_close(&s->channel);
	return NULL;
}

/* ---- life ----------------------------------------------------------------------------------- */

size_t sender_bytes(void)
{
	return sizeof(struct sender);
}

int sender_create(struct sender **sender, const struct sender_config *config)
{
	struct sender *s =
		mmap(NULL, sizeof(*s), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int result;

	*sender = NULL;
	if (s == MAP_FAILED)
		return -errno;
	s->config = *config;
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (s->wake_fd < 0) {
		result = -errno;
		munmap(s, sizeof(*s));
		return result;
	}
	outbox_init(&s->box);
	ledger_init(&s->ledger, config->heartbeat_ms * UINT64_C(1000000));
	prepare_channel(s);
	*sender = s;
	return 0;
}

int sender_start(struct sender *sender)
{
	(void)follow_channel(sender, clock_ns());
	return thread_start(&sender->thread, run, sender);
}

void sender_stop(struct sender *sender)
{
	/* Release pairs with the acquire in run. */
	atomic_store_explicit(&sender->stop, true, memory_order_release);
	cellos_queue_wake(sender->config.queue);
	(void)eventfd_write(sender->wake_fd, 1);
}

int sender_join(struct sender *sender)
{
	pthread_join(sender->thread, NULL);
	return sender->gone ? -sender->gone_error : 0;
}

struct sender *sender_destroy(struct sender *sender)
{
	if (sender != NULL) {
		cellos_channel_close(&sender->channel);
		close(sender->wake_fd);
		munmap(sender, sizeof(*sender));
	}
	return NULL;
}

void sender_read(const struct sender *sender, struct sender_counters *out)
{
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		out->sent[lane] = atomic_load_explicit(&sender->sent[lane], memory_order_relaxed);
		out->in_batch[lane] =
			atomic_load_explicit(&sender->in_batch[lane], memory_order_relaxed);
		out->left[lane] = atomic_load_explicit(&sender->left[lane], memory_order_relaxed);
	}
	out->epoch = atomic_load_explicit(&sender->epoch, memory_order_relaxed);
}
