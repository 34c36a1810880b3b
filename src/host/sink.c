/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The sink to NATS JetStream; sink.h says what it is.
 *
 * Threads: the receiver's wakes and asks for numbers; the sink's own reads the spool, connects and
 * publishes; threads of the client library bring the acknowledgements and the connection's end.
 * `lock` guards all but what is marked as the sink's own; no call into the library is made with it.
 *
 * The window is a ring of lines in the spool's order, [head, tail). Each is published and becomes
 * done when it is acknowledged, in whatever order; the acknowledged position moves over what is
 * done without a gap. A connection that ends, or an error, ends the session: nothing more is
 * published, and the next session begins with the lines of the window that are not done, in order.
 * What the server had all the same it finds by the id, as long as its duplicate window remembers.
 * When that may be over (since then also the host may have been away), the stream is asked for the
 * last message of each cell that may be concerned, and what stands before it is not sent again.
 *
 * The library's own reconnecting is off: a session of ours is one connection, so that an
 * acknowledgement of an earlier one cannot be taken for one of this.
 */
#include "sink.h"

#include <errno.h>
#include <nats/nats.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "clock.h"
#include "options.h"
#include "sink_lines.h"

#define CONNECT_MS 2000
#define REQUEST_MS 5000
/* The oldest line without an answer for so long: the session is over. */
#define ANSWER_MS 10000
#define BACKOFF_FIRST_MS 50
#define BACKOFF_LAST_MS 2000
#define SUBJECTS "cellos.>"
#define TEXT_BYTES 256

struct entry {
	uint64_t begin, end;  /* in the spool */
	uint64_t first_ns;    /* CLOCK_REALTIME when it was published first; 0: not yet */
	const natsMsg *waits; /* published in this session, no answer yet; never dereferenced */
	bool done;
};

/* What the stream said that it has of one cell. */
struct present {
	char subject[TEXT_BYTES]; /* cellos.<cell>.> */
	char last_id[TEXT_BYTES]; /* "": nothing */
	uint64_t upto;            /* the spool's lines of the cell before this are there; 0: none */
};

struct host_sink {
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	const struct host_spool *spool; /* borrowed, as is the state */
	struct host_state *state;
	char *url, *stream; /* owned */
	uint64_t duplicate_window_ns;

	/* The window. */
	struct entry *ring; /* owned, `window` of them */
	unsigned window;
	unsigned waiting;       /* entries that wait for an answer */
	uint64_t head, tail;    /* entries ever ended, ever begun */
	uint64_t progress_ms;   /* of the latest answer, or the session's begin */
	natsConnection *served; /* this session's, NULL between two; compared, not used */
	struct host_sink_numbers numbers;
	uint64_t stop_ms;     /* once `stopping`: when it is over at the latest */
	char why[TEXT_BYTES]; /* the session is over; "": on purpose */
	/* Set by the sink before it sleeps for want of lines: then wake has something to do. */
	atomic_bool hungry;
	bool lost;   /* the session's connection has ended */
	bool failed; /* some line was refused */
	bool stopping;

	/* The sink's own. */
	unsigned backoff_ms;
	struct host_sink_lines lines;
	natsConnection *connection;
	jsCtx *js;
	uint64_t resend; /* the next entry to publish; tail: a new one */
	uint64_t next;   /* the next line of the spool that has no entry */
	/* Lines below old_end are of the process before, and may have been published since then. */
	uint64_t old_end, old_since_ns;
	struct present *presents; /* owned; asked in this session */
	size_t present_count;
	uint64_t asked_end;        /* they speak for the lines below this */
	uint64_t acked_before;     /* numbers.acknowledged when the session began */
	char said[TEXT_BYTES * 2]; /* the latest complaint; "": none is open */
};

/* Once for each trouble: a server may be away for days. The URL may hold a password: not said. */
static void complain(struct host_sink *sink, const char *what, const char *why)
{
	char text[sizeof(sink->said)];

	snprintf(text, sizeof(text), "cannot %s stream '%s': %s; trying again and again", what,
		 sink->stream, why);
	if (strcmp(text, sink->said) == 0)
		return;
	memcpy(sink->said, text, sizeof(text));
	fprintf(stderr, HOST_PROGRAM ": %s\n", text);
}

static const char *library_says(natsStatus status)
{
	const char *text = status == NATS_OK ? NULL : nats_GetLastError(NULL), *behind;

	if (text == NULL || text[0] == '\0')
		return natsStatus_GetText(status);
	/* It begins with a place in the library's source, which is no help to anybody. */
	behind = text[0] == '(' ? strstr(text, "): ") : NULL;
	return behind != NULL ? behind + 3 : text;
}

/* ---- the window (locked) -------------------------------------------------------------------- */

static struct entry *entry_at(struct host_sink *sink, uint64_t number)
{
	return &sink->ring[number % sink->window];
}

/* The oldest line that may be in the stream without our knowing, and since when. */
static void note_unsure(struct host_sink *sink)
{
	const struct entry *oldest = entry_at(sink, sink->head);

	if (sink->head < sink->tail && oldest->first_ns != 0)
		host_state_set_unsure_since(sink->state, oldest->first_ns);
}

static void settle(struct host_sink *sink)
{
	const uint64_t before = sink->head;

	while (sink->head < sink->tail && entry_at(sink, sink->head)->done)
		sink->head++;
	if (sink->head == before)
		return;
	/* Acknowledged first: killed in between, too much is unsure, and the stream is asked. */
	host_state_set_spool_acked(sink->state, entry_at(sink, sink->head - 1)->end);
	note_unsure(sink);
}

static void set_why(struct host_sink *sink, const char *why)
{
	snprintf(sink->why, sizeof(sink->why), "%s", why);
}

static void take_answer(struct host_sink *sink, const natsMsg *message, const jsPubAck *ack,
			const jsPubAckErr *error)
{
	uint64_t number = sink->head;

	while (number < sink->tail && entry_at(sink, number)->waits != message)
		number++;
	if (number == sink->tail)
		return; /* of an earlier session */
	entry_at(sink, number)->waits = NULL;
	sink->waiting--;
	sink->progress_ms = host_now_ms();
	if (ack != NULL) {
		entry_at(sink, number)->done = true;
		sink->numbers.acknowledged++;
		sink->numbers.duplicates += ack->Duplicate;
		settle(sink);
		return;
	}
	sink->numbers.errors++;
	if (!sink->failed)
		set_why(sink, error != NULL && error->ErrText != NULL ? error->ErrText
								      : "no reason given");
	sink->failed = true;
}

/* ---- called by the library's threads -------------------------------------------------------- */

static void on_answer(jsCtx *js, natsMsg *message, jsPubAck *ack, jsPubAckErr *error, void *closure)
{
	struct host_sink *sink = closure;

	(void)js;
	pthread_mutex_lock(&sink->lock);
	take_answer(sink, message, ack, error);
	/* The sink sleeps while the window is full: woken in time to keep it half full, and not
	 * once for each answer. */
	if (sink->failed || sink->tail - sink->head <= sink->window / 2)
		pthread_cond_signal(&sink->changed);
	pthread_mutex_unlock(&sink->lock);
	natsMsg_Destroy(message); /* ours since the answer */
}

static void on_closed(natsConnection *connection, void *closure)
{
	struct host_sink *sink = closure;

	pthread_mutex_lock(&sink->lock);
	if (connection == sink->served) {
		sink->lost = true;
		sink->numbers.connected = false;
		pthread_cond_signal(&sink->changed);
	}
	pthread_mutex_unlock(&sink->lock);
}

/* ---- a session's begin ---------------------------------------------------------------------- */

static natsStatus connect_to_server(struct host_sink *sink)
{
	natsOptions *options = NULL;
	natsStatus status = natsOptions_Create(&options);

	if (status == NATS_OK)
		status = natsOptions_SetURL(options, sink->url);
	if (status == NATS_OK)
		status = natsOptions_SetName(options, HOST_PROGRAM);
	if (status == NATS_OK)
		status = natsOptions_SetTimeout(options, CONNECT_MS);
	if (status == NATS_OK)
		status = natsOptions_SetAllowReconnect(options, false);
	if (status == NATS_OK)
		status = natsOptions_SetClosedCB(options, on_closed, sink);
	if (status == NATS_OK)
		status = natsConnection_Connect(&sink->connection, options);
	natsOptions_Destroy(options);
	return status;
}

static natsStatus make_context(struct host_sink *sink)
{
	jsOptions options;
	natsStatus status = jsOptions_Init(&options);

	if (status != NATS_OK)
		return status;
	options.Wait = REQUEST_MS;
	/* Never reached, for the window is ours; more than it, so that publishing never waits. */
	options.PublishAsync.MaxPending = 2 * (int64_t)sink->window;
	options.PublishAsync.AckHandler = on_answer;
	options.PublishAsync.AckHandlerClosure = sink;
	return natsConnection_JetStream(&sink->js, sink->connection, &options);
}

/* Does a subject of the stream, with wildcards, take all of ours? */
static bool takes_all(const jsStreamConfig *config)
{
	for (int i = 0; i < config->SubjectsLen; i++)
		if (strcmp(config->Subjects[i], SUBJECTS) == 0 ||
		    strcmp(config->Subjects[i], ">") == 0 ||
		    strcmp(config->Subjects[i], "*.>") == 0)
			return true;
	return false;
}

static const char *what_is_wrong(const jsStreamConfig *config)
{
	if (!takes_all(config))
		return "it does not take the subjects " SUBJECTS;
	if (config->NoAck)
		return "it acknowledges nothing";
	if (config->Sealed)
		return "it is sealed";
	return NULL;
}

static natsStatus make_stream(struct host_sink *sink, jsStreamInfo **info, jsErrCode *code)
{
	const char *subjects[] = {SUBJECTS};
	jsStreamConfig config;
	natsStatus status = jsStreamConfig_Init(&config);

	if (status != NATS_OK)
		return status;
	config.Name = sink->stream;
	config.Subjects = subjects;
	config.SubjectsLen = 1;
	config.Duplicates = (int64_t)sink->duplicate_window_ns;
	return js_AddStream(info, sink->js, &config, NULL, code);
}

/* The stream is there and fit; its duplicate window counts, not ours, when somebody else made it.
 */
static bool find_stream(struct host_sink *sink, uint64_t *remembers_ns)
{
	jsStreamInfo *info = NULL;
	jsErrCode code = 0;
	natsStatus status = js_GetStreamInfo(&info, sink->js, sink->stream, NULL, &code);
	const char *wrong;

	if (status == NATS_NOT_FOUND)
		status = make_stream(sink, &info, &code);
	wrong = status == NATS_OK ? what_is_wrong(info->Config) : library_says(status);
	if (status == NATS_OK)
		*remembers_ns = (uint64_t)info->Config->Duplicates;
	if (wrong != NULL)
		complain(sink, "use", wrong);
	jsStreamInfo_Destroy(info);
	return wrong == NULL;
}

/* ---- asking the stream what it has ---------------------------------------------------------- */

static struct present *find_present(struct host_sink *sink, const struct host_sink_line *line)
{
	const size_t length = (size_t)(line->cell - line->subject) + line->cell_length + 1;

	for (size_t i = 0; i < sink->present_count; i++)
		if (strncmp(sink->presents[i].subject, line->subject, length) == 0 &&
		    strcmp(sink->presents[i].subject + length, ">") == 0)
			return &sink->presents[i];
	return NULL;
}

/* The id of the last message of the cell, or "". */
static bool ask_last(struct host_sink *sink, struct present *present)
{
	natsMsg *message = NULL;
	jsErrCode code = 0;
	const char *id = NULL;
	natsStatus status =
		js_GetLastMsg(&message, sink->js, sink->stream, present->subject, NULL, &code);

	if (status == NATS_OK && natsMsgHeader_Get(message, "Nats-Msg-Id", &id) == NATS_OK &&
	    strlen(id) < sizeof(present->last_id)) /* a longer one is none of ours */
		snprintf(present->last_id, sizeof(present->last_id), "%s", id);
	natsMsg_Destroy(message);
	if (status == NATS_OK || status == NATS_NOT_FOUND)
		return true;
	complain(sink, "read the last message of", library_says(status));
	return false;
}

static struct present *ask_about(struct host_sink *sink, const struct host_sink_line *line)
{
	struct present *present = find_present(sink, line), *more;

	if (present != NULL)
		return present;
	more = reallocarray(sink->presents, sink->present_count + 1, sizeof(*more));
	if (more == NULL) {
		complain(sink, "ask", "no memory");
		return NULL;
	}
	sink->presents = more;
	present = &more[sink->present_count];
	memset(present, 0, sizeof(*present));
	snprintf(present->subject, sizeof(present->subject), "cellos.%.*s.>",
		 (int)line->cell_length, line->cell);
	if (!ask_last(sink, present))
		return NULL;
	sink->present_count++;
	return present;
}

/* For each line from `begin` on that may have been published: is it there? */
static bool ask(struct host_sink *sink, uint64_t begin, uint64_t end)
{
	struct host_sink_line line;
	struct present *present;

	host_sink_lines_rewind(&sink->lines);
	for (; begin < end; begin = line.end) {
		if (host_sink_lines_next(&sink->lines, begin, end, &line) < 0)
			continue; /* said when its turn comes */
		present = ask_about(sink, &line);
		if (present == NULL)
			return false;
		if (strcmp(line.id, present->last_id) == 0)
			present->upto = line.end;
	}
	sink->asked_end = end;
	return true;
}

static bool is_there(struct host_sink *sink, const struct host_sink_line *line)
{
	const struct present *present;

	if (line->end > sink->asked_end)
		return false;
	present = find_present(sink, line);
	return present != NULL && line->end <= present->upto;
}

/*
 * Does the server still remember what may be there? Half its window is kept as a margin: for the
 * time that sending again takes, and for clocks that are set.
 */
static bool resume(struct host_sink *sink, uint64_t remembers_ns)
{
	const uint64_t acked = host_state_spool_acked(sink->state),
		       published = host_state_spool_published(sink->state),
		       since = host_state_unsure_since(sink->state),
		       now = host_clock_ns(CLOCK_REALTIME);

	sink->present_count = 0;
	sink->asked_end = 0;
	if (published <= acked || (now >= since && now - since < remembers_ns / 2))
		return true;
	return ask(sink, acked, published);
}

static bool begin_session(struct host_sink *sink)
{
	natsStatus status = connect_to_server(sink);
	uint64_t remembers_ns = 0;

	pthread_mutex_lock(&sink->lock);
	sink->served = sink->connection;
	sink->lost = false;
	sink->failed = false;
	sink->waiting = 0;
	sink->why[0] = '\0';
	sink->acked_before = sink->numbers.acknowledged;
	sink->progress_ms = host_now_ms();
	sink->numbers.connected = status == NATS_OK;
	pthread_mutex_unlock(&sink->lock);
	/* Closed before on_closed could know that it is this session's? */
	if (status == NATS_OK && natsConnection_IsClosed(sink->connection))
		status = NATS_CONNECTION_CLOSED;
	if (status == NATS_OK)
		status = make_context(sink);
	if (status != NATS_OK) {
		complain(sink, "reach the server of", library_says(status));
		return false;
	}
	if (!find_stream(sink, &remembers_ns) || !resume(sink, remembers_ns))
		return false;
	host_sink_lines_rewind(&sink->lines);
	sink->resend = sink->head; /* nothing is published, so nobody moves it */
	return true;
}

static void end_session(struct host_sink *sink)
{
	pthread_mutex_lock(&sink->lock);
	sink->served = NULL;
	sink->numbers.connected = false;
	for (uint64_t i = sink->head; i < sink->tail; i++)
		entry_at(sink, i)->waits = NULL; /* an answer that comes now is too late */
	pthread_mutex_unlock(&sink->lock);
	jsCtx_Destroy(sink->js);
	natsConnection_Destroy(sink->connection);
	sink->js = NULL;
	sink->connection = NULL;
}

/* ---- publishing ----------------------------------------------------------------------------- */

static bool is_over(struct host_sink *sink)
{
	return sink->stopping &&
	       (host_now_ms() >= sink->stop_ms ||
		host_state_spool_acked(sink->state) >= host_state_spool_end(sink->state));
}

/* Locked. Until something changes, but not longer than any of the deadlines. */
static void wait_ms(struct host_sink *sink, uint64_t ms)
{
	const uint64_t now = host_now_ms();
	struct timespec until;

	if (sink->stopping && sink->stop_ms < now + ms)
		ms = sink->stop_ms > now ? sink->stop_ms - now : 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += (time_t)(ms / 1000);
	until.tv_nsec += (long)(ms % 1000) * 1000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	(void)pthread_cond_timedwait(&sink->changed, &sink->lock, &until);
}

/* Is there a line to publish that is in the window, or fits in? */
static bool has_work(struct host_sink *sink)
{
	while (sink->resend < sink->tail && entry_at(sink, sink->resend)->done)
		sink->resend++;
	if (sink->resend < sink->tail)
		return true;
	if (sink->tail - sink->head >= sink->window)
		return false;
	if (sink->next < host_state_spool_end(sink->state))
		return true;
	/*
	 * Nothing. Announce the sleep, then look again. Of two exchanges of one word one is the
	 * first: if it is wake's, ours takes from it (acquire) what was committed before it, and
	 * this look finds that; if it is ours, wake's finds the announcement. No fences, which
	 * ThreadSanitizer does not know.
	 */
	(void)atomic_exchange_explicit(&sink->hungry, true, memory_order_acq_rel);
	return sink->next < host_state_spool_end(sink->state);
}

/* Locked. True: publish a line. False: the session is over. */
static bool await_work(struct host_sink *sink)
{
	for (;;) {
		if (sink->lost)
			set_why(sink, "the connection to the server ended");
		else if (sink->waiting > 0 && host_now_ms() - sink->progress_ms >= ANSWER_MS)
			set_why(sink, "the server acknowledges nothing");
		else if (!is_over(sink) && (!sink->failed || sink->waiting > 0)) {
			/* Once a line is refused, those behind it wait: the order stays. */
			if (!sink->failed && has_work(sink))
				return true;
			wait_ms(sink, 1000);
			continue;
		}
		return false;
	}
}

/* The entry to publish next, a new one when all have been. Locked. */
static struct entry *next_entry(struct host_sink *sink, const struct host_sink_line *line)
{
	struct entry *entry = entry_at(sink, sink->resend);

	if (sink->resend == sink->tail) {
		sink->tail++;
		*entry = (struct entry){.begin = line->begin, .end = line->end};
		sink->next = line->end;
	}
	sink->resend++;
	return entry;
}

/* Before the line leaves: whoever comes after a kill -9 must know that it may be there. Locked. */
static void note_published(struct host_sink *sink, struct entry *entry, const natsMsg *message)
{
	if (entry->first_ns == 0)
		entry->first_ns = entry->end <= sink->old_end ? sink->old_since_ns
							      : host_clock_ns(CLOCK_REALTIME);
	note_unsure(sink);
	if (host_state_spool_published(sink->state) < entry->end)
		host_state_set_spool_published(sink->state, entry->end);
	if (sink->waiting++ == 0)
		sink->progress_ms = host_now_ms();
	entry->waits = message;
	sink->numbers.published++;
}

static bool publish(struct host_sink *sink, struct entry *entry, const struct host_sink_line *line)
{
	natsMsg *message = NULL;
	jsPubOptions options;
	natsStatus status = jsPubOptions_Init(&options);

	if (status == NATS_OK)
		status = natsMsg_Create(&message, line->subject, NULL, line->json,
					(int)line->json_length);
	if (status == NATS_OK) {
		pthread_mutex_lock(&sink->lock);
		note_published(sink, entry,
			       message); /* the answer may come before the call's end */
		pthread_mutex_unlock(&sink->lock);
		options.MsgId = line->id;
		status = js_PublishMsgAsync(sink->js, &message, &options);
	}
	if (status == NATS_OK)
		return true;
	pthread_mutex_lock(&sink->lock);
	if (entry->waits != NULL) {
		entry->waits = NULL;
		sink->waiting--;
	}
	sink->numbers.errors++;
	set_why(sink, library_says(status));
	pthread_mutex_unlock(&sink->lock);
	natsMsg_Destroy(message);
	return false;
}

/* One line. False: the session is over. */
static bool advance(struct host_sink *sink)
{
	struct host_sink_line line;
	struct entry *entry;
	bool skip;
	int status;

	/* Entries between head and tail are stable, but for `done` and `waits`. */
	status = host_sink_lines_next(
		&sink->lines,
		sink->resend < sink->tail ? entry_at(sink, sink->resend)->begin : sink->next,
		host_state_spool_end(sink->state), &line);
	skip = status < 0 || is_there(sink, &line);
	if (status < 0)
		complain(sink, "publish all of the spool to", "it holds something that is no line");
	pthread_mutex_lock(&sink->lock);
	entry = next_entry(sink, &line);
	if (skip) {
		sink->numbers.errors += status < 0;
		sink->numbers.duplicates += status == 0;
		entry->done = true;
		settle(sink);
	}
	pthread_mutex_unlock(&sink->lock);
	return skip || publish(sink, entry, &line);
}

/* The first acknowledgement of a session: whatever was wrong is over. Unlocked: it prints. */
static void note_recovery(struct host_sink *sink, uint64_t acknowledged)
{
	if (acknowledged == sink->acked_before)
		return;
	sink->backoff_ms = BACKOFF_FIRST_MS;
	if (sink->said[0] == '\0')
		return;
	sink->said[0] = '\0';
	fprintf(stderr, HOST_PROGRAM ": stream '%s' takes events again\n", sink->stream);
}

static void serve(struct host_sink *sink)
{
	uint64_t acknowledged;
	char why[TEXT_BYTES];
	bool more;

	do {
		pthread_mutex_lock(&sink->lock);
		more = await_work(sink);
		acknowledged = sink->numbers.acknowledged;
		pthread_mutex_unlock(&sink->lock);
		note_recovery(sink, acknowledged);
	} while (more && advance(sink));
	pthread_mutex_lock(&sink->lock);
	memcpy(why, sink->why, sizeof(why));
	pthread_mutex_unlock(&sink->lock);
	if (why[0] != '\0')
		complain(sink, "publish to", why);
}

static void *run(void *context)
{
	struct host_sink *sink = context;
	bool over = false;

	(void)pthread_setname_np(pthread_self(), "cellos-sink");
	while (!over) {
		if (begin_session(sink))
			serve(sink);
		end_session(sink);
		pthread_mutex_lock(&sink->lock);
		if (!is_over(sink))
			wait_ms(sink, sink->backoff_ms);
		over = is_over(sink);
		pthread_mutex_unlock(&sink->lock);
		if (sink->backoff_ms < BACKOFF_LAST_MS)
			sink->backoff_ms *= 2;
	}
	return NULL;
}

/* ---- the receiver's side -------------------------------------------------------------------- */

static void free_sink(struct host_sink *sink)
{
	host_sink_lines_destroy(&sink->lines);
	free(sink->presents);
	free(sink->ring);
	free(sink->url);
	free(sink->stream);
	free(sink);
}

static int start_thread(struct host_sink *sink)
{
	pthread_condattr_t monotonic;
	sigset_t all, before;
	int status;

	pthread_mutex_init(&sink->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&sink->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	/* Signals are the receiver's: neither this thread nor those it makes may take one. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	status = pthread_create(&sink->thread, NULL, run, sink);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return -status;
}

int host_sink_start(struct host_sink **out, const struct host_sink_options *options,
		    const struct host_spool *spool, struct host_state *state)
{
	struct host_sink *sink = calloc(1, sizeof(*sink));
	int status = -ENOMEM;

	*out = NULL;
	if (sink == NULL)
		return -ENOMEM;
	sink->spool = spool;
	sink->state = state;
	sink->window = options->window;
	sink->duplicate_window_ns = options->duplicate_window_s * UINT64_C(1000000000);
	sink->backoff_ms = BACKOFF_FIRST_MS;
	sink->next = host_state_spool_acked(state);
	sink->old_end = host_state_spool_published(state);
	sink->old_since_ns = host_state_unsure_since(state);
	sink->ring = calloc(options->window, sizeof(*sink->ring));
	sink->url = strdup(options->url);
	sink->stream = strdup(options->stream);
	if (sink->ring != NULL && sink->url != NULL && sink->stream != NULL)
		status = host_sink_lines_init(&sink->lines, spool);
	if (status == 0)
		status = start_thread(sink);
	if (status < 0)
		free_sink(sink);
	else
		*out = sink;
	return status;
}

void host_sink_wake(struct host_sink *sink)
{
	/* Release: the commit stands before it. An exchange also where nobody sleeps: see has_work.
	 */
	if (!atomic_exchange_explicit(&sink->hungry, false, memory_order_acq_rel))
		return;
	pthread_mutex_lock(&sink->lock); /* held by others for a few instructions only */
	pthread_cond_signal(&sink->changed);
	pthread_mutex_unlock(&sink->lock);
}

void host_sink_numbers(struct host_sink *sink, struct host_sink_numbers *numbers)
{
	const uint64_t acked = host_state_spool_acked(sink->state);

	pthread_mutex_lock(&sink->lock);
	*numbers = sink->numbers;
	pthread_mutex_unlock(&sink->lock);
	numbers->lag_bytes = host_state_spool_end(sink->state) - acked;
}

void host_sink_stop(struct host_sink *sink, unsigned limit_ms)
{
	pthread_mutex_lock(&sink->lock);
	sink->stopping = true;
	sink->stop_ms = host_now_ms() + limit_ms;
	pthread_cond_signal(&sink->changed);
	pthread_mutex_unlock(&sink->lock);
	pthread_join(sink->thread, NULL);
	/* Threads of the library may still be on their way out of on_answer and on_closed. */
	(void)nats_CloseAndWait(0);
	pthread_cond_destroy(&sink->changed);
	pthread_mutex_destroy(&sink->lock);
	free_sink(sink);
}
