/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See audit.h. */
#include "audit.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <stdalign.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "probe_util.h"

/* About a thousand records of two kilobytes each, as the kernel counts them. */
#define RECORDS_BYTES (2u * 1024u * 1024u)
#define ANSWER_BYTES (64u * 1024u)
#define BACKLOG_LIMIT 8192u
/* AUDIT_LOCKED in the kernel's own words: no change until the next boot. */
#define AUDIT_LOCK 2u
/* Messages that may come before an answer. */
#define MAX_STRANGERS 64
/* Reads in a row before stop is due again. */
#define MAX_READS 4096

/* In the order of the trace's names, for both share one list; see capability.c. */
enum audit_stat { STAT_MALFORMED = 2, STAT_WAITED };

/* ---- questions and answers ------------------------------------------------------------------ */

struct message {
	alignas(8) struct nlmsghdr header;
	char payload[2048];
};

static int ask(struct capability_audit *audit, const struct netlink_socket *socket, uint16_t type,
	       uint16_t flags, const void *payload, size_t length)
{
	struct message message = {
		.header = {.nlmsg_len = (uint32_t)(sizeof(message.header) + length),
			   .nlmsg_type = type,
			   .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags),
			   .nlmsg_seq = ++audit->sequence}};

	if (length > sizeof(message.payload))
		return -EMSGSIZE;
	if (length > 0)
		memcpy(message.payload, payload, length);
	return netlink_send(socket, &message, message.header.nlmsg_len);
}

/* The next message that belongs to the last question: its length. */
static int answer(const struct capability_audit *audit, const struct netlink_socket *socket,
		  struct message *message)
{
	for (unsigned strangers = 0; strangers < MAX_STRANGERS; strangers++) {
		int got = netlink_await(socket, message, sizeof(*message));

		if (got < 0 && got != -EPERM)
			return got;
		if (got >= (int)sizeof(message->header) &&
		    message->header.nlmsg_seq == audit->sequence)
			return got;
	}
	return -EBADMSG;
}

static int error_in(const struct message *message, int length)
{
	int error;

	if (length < (int)(sizeof(message->header) + sizeof(error)))
		return -EBADMSG;
	memcpy(&error, message->payload, sizeof(error));
	return error;
}

/* Tells the kernel something and takes its yes or no. */
static int tell(struct capability_audit *audit, const struct netlink_socket *socket, uint16_t type,
		const void *payload, size_t length)
{
	struct message message;
	int result = ask(audit, socket, type, NLM_F_ACK, payload, length);

	while (result == 0) {
		int got = answer(audit, socket, &message);

		if (got < 0)
			return got;
		if (message.header.nlmsg_type == NLMSG_ERROR)
			return error_in(&message, got);
	}
	return result;
}

static int set(struct capability_audit *audit, const struct netlink_socket *socket,
	       const struct audit_status *status)
{
	return tell(audit, socket, AUDIT_SET, status, sizeof(*status));
}

static int set_enabled(struct capability_audit *audit, uint32_t enabled)
{
	return set(audit, &audit->control,
		   &(struct audit_status){.mask = AUDIT_STATUS_ENABLED, .enabled = enabled});
}

static int get(struct capability_audit *audit, struct audit_status *status)
{
	struct message message;
	int result = ask(audit, &audit->control, AUDIT_GET, 0, NULL, 0);

	while (result == 0) {
		int got = answer(audit, &audit->control, &message);
		size_t length = (size_t)got - sizeof(message.header);

		if (got < 0)
			return got;
		if (message.header.nlmsg_type == NLMSG_ERROR)
			return error_in(&message, got) < 0 ? error_in(&message, got) : -EBADMSG;
		if (message.header.nlmsg_type != AUDIT_GET)
			continue;
		/* An older kernel says less, a newer one more. */
		*status = (struct audit_status){0};
		memcpy(status, message.payload,
		       length < sizeof(*status) ? length : sizeof(*status));
		return 0;
	}
	return result;
}

/* ---- arming --------------------------------------------------------------------------------- */

union rule {
	struct audit_rule_data data;
	char bytes[AUDIT_RULE_BYTES];
};

static int change_rules(struct capability_audit *audit, uint16_t type)
{
	union rule rule;
	int result = 0;

	for (unsigned at = 0; result == 0 && cellos_audit_rule(at, &rule.data); at++) {
		result = tell(audit, &audit->control, type, &rule,
			      sizeof(rule.data) + rule.data.buflen);
		if (type == AUDIT_DEL_RULE || result == -EEXIST)
			result = 0;
	}
	return result;
}

/* The mask is not compared: the kernel does not give it back as it was given. */
static bool is_same_rule(const struct audit_rule_data *one, const struct audit_rule_data *other)
{
	const size_t size = one->field_count * sizeof(one->fields[0]);

	return one->flags == other->flags && one->action == other->action &&
	       one->field_count == other->field_count && one->buflen == other->buflen &&
	       memcmp(one->fields, other->fields, size) == 0 &&
	       memcmp(one->values, other->values, size) == 0 &&
	       memcmp(one->fieldflags, other->fieldflags, size) == 0 &&
	       memcmp(one->buf, other->buf, one->buflen) == 0;
}

/* Which of our rules is this? A bit; 0: none. */
static unsigned bit_of_rule(const struct message *message, int got)
{
	const size_t length = (size_t)got - sizeof(message->header);
	union rule theirs = {0}, ours;

	memcpy(&theirs, message->payload, length < sizeof(theirs) ? length : sizeof(theirs));
	if (message->header.nlmsg_type != AUDIT_LIST_RULES ||
	    theirs.data.buflen > sizeof(AUDIT_RULE_KEY) - 1 ||
	    theirs.data.field_count > AUDIT_MAX_FIELDS)
		return 0;
	for (unsigned at = 0; cellos_audit_rule(at, &ours.data); at++)
		if (is_same_rule(&ours.data, &theirs.data))
			return 1u << at;
	return 0;
}

/* A locked audit takes no rules: then they must be there, from an agent that was here before. */
static int look_for_rules(struct capability_audit *audit)
{
	struct message message;
	union rule rule;
	unsigned wanted = 0, found = 0;
	int result = ask(audit, &audit->control, AUDIT_LIST_RULES, 0, NULL, 0);

	for (unsigned at = 0; cellos_audit_rule(at, &rule.data); at++)
		wanted |= 1u << at;
	while (result == 0) {
		int got = answer(audit, &audit->control, &message);

		if (got < 0 || message.header.nlmsg_type == NLMSG_ERROR)
			return got < 0 ? got : error_in(&message, got);
		if (message.header.nlmsg_type == NLMSG_DONE)
			return found == wanted ? 0 : -EPERM;
		found |= bit_of_rule(&message, got);
	}
	return result;
}

/* Nobody waits for a reader: true, or audit must stay off. */
static bool is_harmless(const struct audit_status *status)
{
	return (status->feature_bitmap & AUDIT_FEATURE_BITMAP_BACKLOG_WAIT_TIME) != 0 &&
	       status->backlog_wait_time == 0 && status->failure == AUDIT_FAIL_SILENT;
}

/* Before it is switched on, and never after. */
static int make_harmless(struct capability_audit *audit, struct audit_status *status)
{
	const struct audit_status wanted = {
		.mask = AUDIT_STATUS_FAILURE | AUDIT_STATUS_RATE_LIMIT |
			AUDIT_STATUS_BACKLOG_LIMIT | AUDIT_STATUS_BACKLOG_WAIT_TIME,
		.failure = AUDIT_FAIL_SILENT,
		.backlog_limit = BACKLOG_LIMIT,
	};
	int result = set(audit, &audit->control, &wanted);

	if (result == 0)
		result = get(audit, status);
	if (result == 0 && !is_harmless(status))
		result = -ENOTSUP;
	return result;
}

/* Audit takes the sender's socket for its daemon's. What it sends there is dropped as if read: so
   it never queues for us, never gives up and never turns to the console. */
static int become_daemon(struct capability_audit *audit, uint32_t agent_pid)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog program = {.len = 1, .filter = &drop};
	const struct audit_status me = {.mask = AUDIT_STATUS_PID, .pid = agent_pid};
	int result = set(audit, &audit->daemon, &me);

	if (result == 0 && setsockopt(audit->daemon.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program,
				      sizeof(program)) < 0)
		result = -errno;
	return result;
}

/* A word to ourselves must come back among the records. */
static int try_records(struct capability_audit *audit)
{
	static const char word[] = AUDIT_RULE_KEY;
	struct message message;
	int result = tell(audit, &audit->control, AUDIT_USER, word, sizeof(word));

	while (result == 0) {
		int got = netlink_await(&audit->records, &message, sizeof(message));

		if (got >= (int)sizeof(message.header) && message.header.nlmsg_type == AUDIT_USER)
			return 0;
		result = got < 0 && got != -EPERM ? got : 0;
	}
	return result;
}

static int open_sockets(struct capability_audit *audit)
{
	int result = netlink_open(&audit->control, NETLINK_AUDIT, 0, ANSWER_BYTES);

	if (result == 0)
		result = netlink_open(&audit->daemon, NETLINK_AUDIT, 0, ANSWER_BYTES);
	if (result == 0)
		result = netlink_open(&audit->records, NETLINK_AUDIT,
				      1u << (AUDIT_NLGRP_READLOG - 1), RECORDS_BYTES);
	return result;
}

/* Everything but the lock. *what is set when it fails. */
static int prepare(struct capability_audit *audit, uint32_t agent_pid, struct audit_status *status,
		   const char **what)
{
	bool locked;
	int result;

	*what = "open audit";
	result = open_sockets(audit);
	if (result == 0)
		result = get(audit, status);
	if (result < 0)
		return result;
	locked = status->enabled == AUDIT_LOCK;
	*what = locked ? "use an audit that is locked already" : "set up audit";
	if (locked)
		result = is_harmless(status) ? look_for_rules(audit) : -EPERM;
	else
		result = make_harmless(audit, status);
	if (result == 0 && !locked)
		result = change_rules(audit, AUDIT_ADD_RULE);
	if (result < 0)
		return result;
	*what = "become audit's daemon";
	result = become_daemon(audit, agent_pid);
	return result;
}

static int switch_on(struct capability_audit *audit, struct audit_status *status, const char **what)
{
	const uint32_t before = status->enabled;
	int result;

	*what = "switch audit on";
	result = before == AUDIT_LOCK ? 0 : set_enabled(audit, 1);
	if (result < 0)
		return result;
	*what = "receive audit's records here";
	result = try_records(audit);
	if (result == 0 && before != AUDIT_LOCK) {
		*what = "lock audit";
		result = set_enabled(audit, AUDIT_LOCK);
	}
	if (result == 0)
		result = get(audit, status);
	if (result < 0 && before != AUDIT_LOCK)
		(void)set_enabled(audit, before);
	return result;
}

static void explain(struct cellos_probe_status *status, const char *what, int error)
{
	if (error == -EPROTONOSUPPORT)
		cellos_probe_why(status, "no audit in this kernel (CONFIG_AUDIT)");
	else if (error == -ECONNREFUSED && what[0] == 'o')
		cellos_probe_why(status, "audit is off (audit=0), or serves only the initial user "
					 "and network namespaces");
	else if (error == -EPERM && what[0] == 'o')
		cellos_probe_why(status, "audit serves only the initial PID namespace, and wants "
					 "CAP_AUDIT_CONTROL");
	else if (error == -ENOTSUP)
		cellos_probe_why(status, "this kernel's audit could make the workload wait");
	else
		cellos_probe_why(status, "cannot %s: %s", what, strerror(-error));
}

int cellos_capability_audit_open(struct capability_audit *audit, struct cellos_probe_env *env,
				 struct cellos_probe_status *status)
{
	struct audit_status kernel = {0};
	const char *what = "";
	int result;

	audit->control.fd = audit->daemon.fd = audit->records.fd = -1;
	result = prepare(audit, env->agent_pid, &kernel, &what);
	if (result == 0)
		result = switch_on(audit, &kernel, &what);
	if (result < 0) {
		explain(status, what, result);
		if (audit->control.fd >= 0 && kernel.enabled != AUDIT_LOCK)
			(void)change_rules(audit, AUDIT_DEL_RULE);
		cellos_capability_audit_close(audit);
		return result;
	}
	audit->lost = kernel.lost;
	(void)netlink_lost(&audit->records);
	status->armed = true;
	status->surface = "audit";
	status->exactness = "inferred";
	status->needs = UINT64_C(1) << CAP_AUDIT_CONTROL;
	status->kernel_bytes = audit->records.buffer + audit->control.buffer + audit->daemon.buffer;
	cellos_probe_why(status, "refused privileged system calls, of processes that start from "
				 "now on; audit is locked until the next boot");
	return 0;
}

void cellos_capability_audit_close(struct capability_audit *audit)
{
	netlink_close(&audit->records);
	netlink_close(&audit->daemon);
	netlink_close(&audit->control);
}

/* ---- reading -------------------------------------------------------------------------------- */

static uint64_t wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / CELLOS_NS_PER_MS;
}

/* Audit stamps by the clock on the wall. One that was set meanwhile must not bring an event from
   the future (its age would be huge) or from long ago: then it happened when it was read. */
static uint64_t monotonic(const struct audit_denial *denial)
{
	const uint64_t now = cellos_probe_now(), age = wall_ms() - denial->wall_ms;

	return age < 60000 && age * CELLOS_NS_PER_MS < now ? now - age * CELLOS_NS_PER_MS : now;
}

static void take_record(struct capability_audit *audit, struct cellos_probe_env *env,
			const struct message *message, int got)
{
	struct audit_denial denial;
	int result;

	/* The length in the header is not to be trusted: audit has a tradition of its own. */
	if (got < (int)sizeof(message->header) || message->header.nlmsg_type != AUDIT_SYSCALL)
		return;
	result = cellos_audit_parse(message->payload, (size_t)got - sizeof(message->header),
				    &denial);
	if (result < 0) {
		cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, 1);
		cellos_probe_stat_add(env, STAT_MALFORMED, 1);
	} else if (result == 0 || denial.pid == env->agent_pid) {
		return;
	} else if (cellos_audit_fold(&audit->fold, &denial)) {
		cellos_lane_count(env->lane, CELLOS_DROP_SUPPRESSED, 1);
	} else {
		cellos_probe_emit(env, CELLOS_SOURCE_CAPABILITY_DENIED, denial.pid, denial.comm,
				  denial.comm_len, monotonic(&denial));
	}
}

/* Until the queue is empty; only then does the kernel fill it again after it was full. */
static void take_records(struct capability_audit *audit, struct cellos_probe_env *env)
{
	struct message message;

	for (unsigned reads = 0; reads < MAX_READS; reads++) {
		int got = netlink_receive(&audit->records, &message, sizeof(message));

		if (got == -EPERM)
			cellos_probe_stat_add(env, STAT_MALFORMED, 1);
		else if (got >= 0)
			take_record(audit, env, &message, got);
		else if (got != -ENOBUFS)
			return;
	}
}

/* What was lost: before the kernel sent it, and for want of room in our socket. True when anything
   was, or when some is still to be sent. */
static bool take_losses(struct capability_audit *audit, struct cellos_probe_env *env)
{
	struct audit_status status = {0};
	uint64_t more = netlink_lost(&audit->records);
	bool pending = false;

	if (get(audit, &status) == 0) {
		more += (uint32_t)(status.lost - audit->lost); /* a wrap does not matter */
		audit->lost = status.lost;
		pending = status.backlog > 0;
		cellos_probe_stat_set(env, STAT_WAITED, status.backlog_wait_time_actual);
	}
	if (more > 0)
		cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, more);
	return more > 0 || pending;
}

void cellos_capability_audit_run(struct capability_audit *audit, struct cellos_probe_env *env)
{
	const uint64_t linger = env->options->coalesce_ms * CELLOS_NS_PER_MS;
	uint64_t look = cellos_probe_now() + CELLOS_NS_PER_S;
	enum cellos_wait_result result;

	while ((result = cellos_probe_wait(env->stop_fd, audit->records.fd, look)) !=
	       CELLOS_WAIT_STOP) {
		if (result == CELLOS_WAIT_READABLE) {
			if (linger > 0 &&
			    cellos_probe_wait(env->stop_fd, -1, cellos_probe_now() + linger) ==
				    CELLOS_WAIT_STOP)
				break;
			take_records(audit, env);
			/* Losses come with records: once a second while there are any. */
			if (look == UINT64_MAX)
				look = cellos_probe_now() + CELLOS_NS_PER_S;
		}
		if (cellos_probe_now() >= look)
			look = take_losses(audit, env) ? cellos_probe_now() + CELLOS_NS_PER_S
						       : UINT64_MAX;
	}
	/* Audit cannot be stopped. What it had to send when we were is still ours to tell. */
	for (unsigned rounds = 0; rounds < 100 && take_losses(audit, env); rounds++)
		take_records(audit, env);
	take_records(audit, env);
}
