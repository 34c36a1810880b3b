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
#include <unistd.h>

#include "cellos/wire.h"
#include "fds.h"
#include "ledger.h"
#include "outbox.h"
#include "threads.h"

/* One drain call: what stays in the first-level cache beside the frames made of it. */
#define DRAIN_AT_ONCE 256u
/* Below this a refill is more call than event: write first. */
#define WORTH_A_DRAIN 32u
/* How long a producer may stand between its two stores before we write what we have. */
#define RETRY_PATIENCE_NS UINT64_C(1000000)

enum { COUNTER_WORDS = sizeof(struct sender_counters) / sizeof(uint64_t) };
_Static_assert(sizeof(struct sender_counters) % sizeof(uint64_t) == 0, "published word by word");

enum write_result { WROTE_ALL, WROTE_PART, WROTE_NOTHING, WRITE_BROKE };

struct sender {
	struct sender_config config;
	char address[CELLOS_ADDRESS_TEXT_BYTES]; /* of the channel, for messages */
	pthread_t thread;
	int wake_fd; /* owned; ends a poll on the channel */
	_Atomic bool stop;
	_Atomic uint64_t published[COUNTER_WORDS]; /* the outbox's counters, for sender_read */
	/* From here on the sender thread's alone, but for the first connect, before it exists. */
	struct cellos_channel channel;
	uint32_t connections; /* seen so far; the channel's own count is ahead when one is new */
	bool told_absent;     /* "no host" was said and no connection came since */
	bool farewell;        /* the goodbye is written, or cut: nothing may follow its rest */
	int gone;             /* the errno for which the channel was given up; 0: it was not */
	struct ledger ledger;
	struct cellos_self_report due[LEDGER_MAX_DUE];
	struct cellos_drained drained[DRAIN_AT_ONCE];
	struct outbox box;
};

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

/* Plain memory to atomic words and, in sender_read, back: relaxed, each exact for itself. */
static void publish(struct sender *s)
{
	uint64_t words[COUNTER_WORDS];

	s->box.counters.epoch = s->ledger.epoch;
	memcpy(words, &s->box.counters, sizeof(words));
	for (unsigned i = 0; i < COUNTER_WORDS; i++)
		atomic_store_explicit(&s->published[i], words[i], memory_order_relaxed);
}

/* ---- channel -------------------------------------------------------------------------------- */

static void prepare_channel(struct sender *s)
{
	/* The jitter only has to differ between guests that were started together. */
	cellos_channel_init(&s->channel, &s->config.channel,
			    (uint32_t)clock_ns() ^ s->config.agent_pid * 2654435761u);
	s->connections = 0;
	s->farewell = false;
}

/* Moves the channel on and notices what changed. */
static enum cellos_channel_state follow_channel(struct sender *s, uint64_t now)
{
	enum cellos_channel_state state = cellos_channel_advance(&s->channel, now);

	if (s->channel.connections != s->connections) {
		s->connections = s->channel.connections;
		s->told_absent = false;
		outbox_rewind(&s->box);
		ledger_connected(&s->ledger, now);
		publish(s);
		say(s, true, "connected to %s, epoch %u", s->address, s->ledger.epoch);
	} else if (state == CELLOS_CHANNEL_WAITING && !s->told_absent && s->channel.error != 0) {
		s->told_absent = true;
		say(s, false, "no host at %s: %s; trying again until it answers", s->address,
		    strerror(s->channel.error));
	}
	if (state == CELLOS_CHANNEL_GONE && s->gone == 0) {
		s->gone = s->channel.error;
		say(s, false, "cannot write to %s: %s", s->address, strerror(s->gone));
		(void)eventfd_write(s->config.notify_fd, 1);
	}
	return state;
}

/* ---- queue -> batch ------------------------------------------------------------------------- */

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
			outbox_add(&s->box, &s->drained[i].event, s->drained[i].lane);
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
		counts[lane][CELLOS_DROP_STOPPED] = s->box.counters.left[lane];
	}
}

static size_t plan_own(struct sender *s, uint64_t now, const ledger_counts counts, bool goodbye)
{
	/* The rest of a cut event frame stands in front of our reports and counts as sent there. */
	uint64_t before = s->box.cut > 0 ? 1 : 0;
	size_t count;

	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
		before += s->box.counters.sent[lane];
	count = ledger_due(&s->ledger, now, counts, before, goodbye, s->due);
	outbox_clear_own(&s->box);
	for (size_t i = 0; i < count; i++) {
		struct cellos_probe_event event = {.guest_pid = s->config.agent_pid,
						   .guest_monotonic_ns = now};

		cellos_self_report_set(&event, &s->due[i]);
		outbox_add_own(&s->box, &event);
	}
	return count;
}

/* One write of all there is, the self-reports that are due at its first frame boundary. */
static enum write_result write_out(struct sender *s, uint64_t now, const ledger_counts counts,
				   bool goodbye)
{
	struct iovec iov[OUTBOX_IOVECS];
	size_t planned = s->farewell ? 0 : plan_own(s, now, counts, goodbye);
	int pieces = outbox_gather(&s->box, iov);
	size_t begun;
	ssize_t taken;

	if (pieces == 0)
		return WROTE_NOTHING;
	taken = cellos_channel_writev(&s->channel, iov, pieces, now);
	if (taken == -EAGAIN)
		return WROTE_PART;
	if (taken < 0) {
		say(s, true, "the connection ended: %s", strerror((int)-taken));
		outbox_rewind(&s->box);
		s->farewell = false;
		return WRITE_BROKE;
	}
	begun = outbox_consume(&s->box, (size_t)taken);
	for (size_t i = 0; i < begun; i++)
		ledger_told(&s->ledger, now, &s->due[i]);
	if (begun == planned && goodbye)
		s->farewell = true;
	return begun == planned && outbox_is_idle(&s->box) ? WROTE_ALL : WROTE_PART;
}

/* ---- waiting -------------------------------------------------------------------------------- */

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* Until the channel, a stop, or the deadline. */
static void wait_for_channel(struct sender *s, uint64_t now, uint64_t deadline)
{
	uint64_t look_again = cellos_channel_deadline(&s->channel);
	/* An open channel with a deadline is a full disk, which poll would call writable. */
	bool full = s->channel.state == CELLOS_CHANNEL_OPEN && look_again != UINT64_MAX;
	struct pollfd fds[2] = {
		{.fd = s->wake_fd, .events = POLLIN},
		{.fd = full ? -1 : s->channel.fd, .events = POLLOUT},
	};
	uint64_t until = earlier(deadline, look_again);
	uint64_t ns = until > now ? until - now : 0;
	const struct timespec left = {.tv_sec = (time_t)(ns / 1000000000u),
				      .tv_nsec = (long)(ns % 1000000000u)};
	eventfd_t ignored;

	if (ppoll(fds, 2, until == UINT64_MAX ? NULL : &left, NULL) > 0 && fds[0].revents != 0)
		(void)eventfd_read(s->wake_fd, &ignored);
}

/* ---- the loop ------------------------------------------------------------------------------- */

/* Whatever the host did not read in time becomes a number. */
static void give_up(struct sender *s)
{
	enum cellos_drain_status status;

	outbox_give_up(&s->box);
	do {
		size_t count;

		status = cellos_queue_drain(s->config.queue, s->drained, DRAIN_AT_ONCE, &count);
		for (size_t i = 0; i < count; i++)
			s->box.counters.left[s->drained[i].lane]++;
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
	enum write_result wrote;
	bool goodbye;
	ledger_counts counts;

	if (late)
		give_up(s);
	if (state != CELLOS_CHANNEL_OPEN) {
		if (!late)
			wait_for_channel(s, now, deadline);
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
		wait_for_channel(s, now, deadline);
	else if (wrote == WROTE_NOTHING && drained == CELLOS_DRAIN_EMPTY)
		cellos_queue_wait(s->config.queue,
				  earlier(deadline, ledger_deadline(&s->ledger, counts)));
	else if (wrote == WROTE_NOTHING && drained == CELLOS_DRAIN_RETRY)
		sched_yield();
	return false;
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
	return false;
}

static void *run(void *argument)
{
	struct sender *s = argument;
	uint64_t deadline = UINT64_MAX;
	bool stopping = false;

	prctl(PR_SET_NAME, "cellos-sender");
	if (s->config.begin != NULL)
		s->config.begin();
	do {
		/* Acquire: all that the joined probes submitted is visible once stop is. */
		if (!stopping && atomic_load_explicit(&s->stop, memory_order_acquire)) {
			stopping = true;
			deadline = clock_ns() + s->config.drain_ms * UINT64_C(1000000);
		}
	} while (!turn(s, stopping, deadline) || !finish(s, deadline));
	/* A frame that was cut when time ran out never became whole. */
	outbox_rewind(&s->box);
	outbox_give_up(&s->box);
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
	s->ledger.interval_ns = config->heartbeat_ms * UINT64_C(1000000);
	cellos_address_format(&config->channel, s->address);
	prepare_channel(s);
	s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	result = s->wake_fd < 0 ? -errno : 0;
	if (result == 0) {
		(void)follow_channel(s, clock_ns());
		result = thread_start(&s->thread, run, s);
	}
	if (result < 0)
		s = sender_destroy(s);
	*sender = s;
	return result;
}

int sender_stop(struct sender *sender)
{
	/* Release pairs with the acquire in run. */
	atomic_store_explicit(&sender->stop, true, memory_order_release);
	cellos_queue_wake(sender->config.queue);
	(void)eventfd_write(sender->wake_fd, 1);
	pthread_join(sender->thread, NULL);
	return -sender->gone;
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
	uint64_t words[COUNTER_WORDS];

	for (unsigned i = 0; i < COUNTER_WORDS; i++)
		words[i] = atomic_load_explicit(&sender->published[i], memory_order_relaxed);
	memcpy(out, words, sizeof(words));
}
