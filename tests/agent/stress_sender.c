/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The whole guest side at once, for ThreadSanitizer and for the ledger: four producers on shallow
 * lanes, the real sender on a real Unix socket, a host thread that reads, dawdles and hangs up, and
 * a thread that reads every counter all the time. No Criterion: it crashes under TSan.
 *
 * At the end, exactly: offered = sent + q + x per lane; what the host read, plus what each new
 * epoch says was lost in flight, is what was sent; each lane's events rise without a double.
 *
 *   stress_sender [seconds]
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "cellos/queue.h"
#include "cellos/wire.h"
#include "sender.h"

#define CHECK(condition, ...)                                                                      \
	do {                                                                                       \
		if (!(condition)) {                                                                \
			fprintf(stderr, "%s:%d: ", __FILE__, __LINE__);                            \
			fprintf(stderr, __VA_ARGS__);                                              \
			fputc('\n', stderr);                                                       \
			exit(1);                                                                   \
		}                                                                                  \
	} while (0)

/* For a machine that is busy with something else. */
#define PATIENCE_NS UINT64_C(60000000000)

static struct cellos_queue *queue;
static _Atomic bool producers_stop, readers_stop;
static uint64_t offered[CELLOS_LANE_COUNT];

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* ---- producers: the event's time is its number in its lane ----------------------------------- */

static const uint8_t source_of_lane[CELLOS_LANE_COUNT] = {
	CELLOS_SOURCE_PROCESS_SPAWNED, CELLOS_SOURCE_FS_INOTIFY_FIRED,
	CELLOS_SOURCE_CAPABILITY_DENIED, CELLOS_SOURCE_NET_CONNECT_ATTEMPTED};

static void *produce(void *argument)
{
	unsigned number = (unsigned)(uintptr_t)argument;
	struct cellos_lane *lane = cellos_queue_lane(queue, number);
	struct cellos_raw_event event = {.pid = number, .source = source_of_lane[number]};
	uint32_t random = number + 1;

	while (!atomic_load_explicit(&producers_stop, memory_order_relaxed)) {
		unsigned burst = (random = random * 1664525u + 1013904223u) >> 24;

		for (unsigned i = 0; i < burst; i++) {
			event.monotonic_ns = ++offered[number];
			(void)cellos_lane_submit(lane, &event);
		}
		if (burst < 8) /* now and then a pause, so that the sender really falls asleep */
			nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
	return NULL;
}

static void *watch_counters(void *argument)
{
	const struct sender *sender = argument;
	struct sender_counters counters;
	struct cellos_lane_counters lane;
	uint64_t before = 0;

	while (!atomic_load_explicit(&readers_stop, memory_order_relaxed)) {
		sender_read(sender, &counters);
		cellos_lane_read(cellos_queue_lane(queue, 0), &lane);
		CHECK(counters.sent[0] >= before, "a counter fell");
		before = counters.sent[0];
		nanosleep(&(struct timespec){.tv_nsec = 200000}, NULL);
	}
	return NULL;
}

/* ---- the host ------------------------------------------------------------------------------- */

struct host {
	int listener;
	struct cellos_stream stream;
	uint64_t received, lost, row_q[CELLOS_LANE_COUNT];
	uint64_t last[CELLOS_LANE_COUNT];
	_Atomic uint32_t epochs;
	bool fresh; /* the next frame must be a heartbeat */
	bool goodbye;
};

static void take_heartbeat(struct host *host, const struct cellos_self_report *report)
{
	if (host->fresh) {
		CHECK(report->epoch == host->epochs, "epoch %u, not %u", report->epoch,
		      host->epochs);
		CHECK(report->count >= host->received + host->lost, "sent fell");
		host->lost = report->count - host->received;
		host->fresh = false;
	}
	CHECK(report->count == host->received + host->lost,
	      "sent %llu, but %llu + %llu came before", (unsigned long long)report->count,
	      (unsigned long long)host->received, (unsigned long long)host->lost);
	host->goodbye = report->epoch == 0;
}

static void take_frame(struct host *host, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	struct cellos_self_report report;
	enum cellos_wire_status status = cellos_decode_frame(frame, length, &event, NULL);

	CHECK(status == CELLOS_WIRE_OK, "bad frame: %s", cellos_wire_status_name(status));
	CHECK(!host->goodbye, "a frame behind the goodbye");
	if (cellos_self_report_parse(&event, &report) < 0) {
		CHECK(!host->fresh, "an event before the connection's heartbeat");
		CHECK(event.guest_monotonic_ns > host->last[event.guest_pid],
		      "double or out of order");
		host->last[event.guest_pid] = event.guest_monotonic_ns;
		host->received++;
	} else if (report.source == CELLOS_SOURCE_TELEMETRY_HEARTBEAT) {
		take_heartbeat(host, &report);
	} else {
		host->row_q[report.lane] = report.count;
	}
}

/* One connection: reads `budget` bytes at most, then hangs up; 0 = to its end. */
static void serve(struct host *host, int fd, size_t budget)
{
	static uint8_t piece[32768];
	const uint8_t *frame;
	size_t length, total = 0;
	ssize_t n;

	cellos_stream_init(&host->stream);
	host->epochs++;
	host->fresh = true;
	/* Once the producers have stopped nobody hangs up any more: what the sender says last, and
	 * waits to see read, would go with the connection. */
	while ((budget == 0 || total < budget ||
		atomic_load_explicit(&producers_stop, memory_order_relaxed)) &&
	       (n = read(fd, piece, sizeof(piece))) > 0) {
		total += (size_t)n;
		cellos_stream_feed(&host->stream, piece, (size_t)n);
		while (cellos_stream_next(&host->stream, &frame, &length) == CELLOS_STREAM_FRAME)
			take_frame(host, frame, length);
		/* Dawdle: often a little, now and then until a heartbeat falls due behind a cut
		 * frame.
		 */
		if (total % 7 == 0)
			nanosleep(&(struct timespec){.tv_nsec =
							     total % 49 == 0 ? 150000000 : 3000000},
				  NULL);
	}
	close(fd);
}

static void *host_body(void *argument)
{
	struct host *host = argument;
	uint32_t random = 99;

	while (!host->goodbye) {
		struct pollfd waiting = {.fd = host->listener, .events = POLLIN};
		int fd;

		if (poll(&waiting, 1, 20000) != 1)
			break;
		fd = accept(host->listener, NULL, NULL);
		CHECK(fd >= 0, "accept: %s", strerror(errno));
		random = random * 1664525u + 1013904223u;
		serve(host, fd,
		      atomic_load_explicit(&producers_stop, memory_order_relaxed)
			      ? 0
			      : 20000 + random % 3000000);
	}
	return NULL;
}

static int listen_on(const char *path, struct sender_config *config)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(strlen(path) < sizeof(address.sun_path), "path too long");
	memcpy(address.sun_path, path, strlen(path));
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) == 0 &&
		      listen(fd, 16) == 0,
	      "listen: %s", strerror(errno));
	config->channel.kind = CELLOS_ADDRESS_UNIX;
	memcpy(config->channel.path, path, strlen(path) + 1);
	return fd;
}

static void check_ledgers(const struct host *host, const struct sender *sender)
{
	struct sender_counters counters;
	uint64_t sent = 0, dropped = 0;

	sender_read(sender, &counters);
	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++) {
		struct cellos_lane_counters lane;
		uint64_t q;

		cellos_lane_read(cellos_queue_lane(queue, i), &lane);
		q = lane.dropped[CELLOS_DROP_QUEUE_FULL];
		printf("lane %u: offered %llu sent %llu q %llu x %llu\n", i,
		       (unsigned long long)offered[i], (unsigned long long)counters.sent[i],
		       (unsigned long long)q, (unsigned long long)counters.left[i]);
		CHECK(lane.produced == offered[i], "produced %llu",
		      (unsigned long long)lane.produced);
		CHECK(offered[i] == counters.sent[i] + q + counters.left[i], "lane %u leaks", i);
		CHECK(counters.in_batch[i] == 0 && lane.in_queue == 0, "something is left");
		CHECK(host->row_q[i] == q, "the host was told %llu",
		      (unsigned long long)host->row_q[i]);
		sent += counters.sent[i];
		dropped += q;
	}
	printf("host: received %llu lost in flight %llu epochs %u\n",
	       (unsigned long long)host->received, (unsigned long long)host->lost, host->epochs);
	CHECK(host->goodbye, "no goodbye");
	CHECK(host->received + host->lost == sent, "the host's account does not close");
	CHECK(dropped > 0, "a run meant to overload dropped nothing");
	CHECK(host->epochs > 1, "no connection ever broke");
}

/* Something was dropped, and a connection broke. */
static bool has_been_tried(const struct host *host)
{
	uint64_t dropped = 0;

	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++) {
		struct cellos_lane_counters lane;

		cellos_lane_read(cellos_queue_lane(queue, i), &lane);
		dropped += lane.dropped[CELLOS_DROP_QUEUE_FULL];
	}
	return dropped > 0 && atomic_load_explicit(&host->epochs, memory_order_relaxed) > 1;
}

int main(int argc, char *argv[])
{
	double seconds = argc > 1 ? strtod(argv[1], NULL) : 4;
	struct sender_config config = {
		.heartbeat_ms = 100, .drain_ms = 20000, .agent_pid = 7, .notify_fd = -1};
	static struct host host;
	pthread_t producers[CELLOS_LANE_COUNT], reader, host_thread;
	struct sender *sender;
	char path[64];
	uint64_t end;

	snprintf(path, sizeof(path), "/tmp/cellos-stress-%d.sock", (int)getpid());
	/* Shallow enough to overflow, deep enough that a write is larger than the kernel takes
	   whole: a smaller one goes out entire or not at all, and no frame would ever be cut. */
	CHECK(cellos_queue_create(&queue, CELLOS_LANE_COUNT, 1024) == 0, "no queue");
	config.queue = queue;
	host.listener = listen_on(path, &config);
	CHECK(sender_create(&sender, &config) == 0, "no sender");
	pthread_create(&host_thread, NULL, host_body, &host);
	pthread_create(&reader, NULL, watch_counters, sender);
	for (uintptr_t i = 0; i < CELLOS_LANE_COUNT; i++)
		pthread_create(&producers[i], NULL, produce, (void *)i);
	/* Longer where the machine is too busy for what it is all about. */
	end = now_ns() + (uint64_t)(seconds * 1e9);
	while (now_ns() < end || (now_ns() < end + PATIENCE_NS && !has_been_tried(&host)))
		nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
	atomic_store(&producers_stop, true);
	for (unsigned i = 0; i < CELLOS_LANE_COUNT; i++)
		pthread_join(producers[i], NULL);
	CHECK(sender_stop(sender) == 0, "the channel is gone");
	pthread_join(host_thread, NULL);
	atomic_store(&readers_stop, true);
	pthread_join(reader, NULL);
	check_ledgers(&host, sender);
	sender = sender_destroy(sender);
	queue = cellos_queue_destroy(queue);
	close(host.listener);
	unlink(path);
	return 0;
}
