/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Denied capabilities by audit; see capability.h.
 *
 * Threads, invariant, refusals: capability.h.
 */
#include <errno.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capability.h"
#include "probe_util.h"

/* About a thousand records of two kilobytes each, as the kernel counts them. */
#define RECORDS_BYTES (2u * 1024u * 1024u)
#define ANSWER_BYTES (64u * 1024u)
#define BACKLOG_LIMIT 8192u
/* AUDIT_LOCKED in the kernel's own words: no change until the next boot. */
#define AUDIT_LOCK 2u
/* Messages in a row before stop is due again, or that may come before an answer. */
#define MAX_READS 4096
/* A program's path alone may be 4096 bytes, written in hexadecimal, and our key stands behind it.
 */
#define TEXT_BYTES 9216u

struct message {
	struct nlmsghdr header;
	char payload[TEXT_BYTES];
};

/* Tells the kernel something and takes its yes or no; AUDIT_GET asks for `payload` instead. */
static int tell(struct capability_audit *audit, uint16_t type, void *payload, size_t length)
{
	const bool asks = type == AUDIT_GET;
	struct message message = {
		.header = {.nlmsg_len = (uint32_t)(sizeof(message.header) + (asks ? 0 : length)),
			   .nlmsg_type = type,
			   .nlmsg_flags = asks ? NLM_F_REQUEST : NLM_F_REQUEST | NLM_F_ACK,
			   .nlmsg_seq = ++audit->sequence}};
	int result;

	memcpy(message.payload, payload, length);
	result = netlink_send(&audit->control, &message, message.header.nlmsg_len);
	for (unsigned reads = 0; (result >= 0 || result == -EPERM) && reads < MAX_READS; reads++) {
		/* Zeroed, for an older kernel says less. */
		memset(&message, 0, sizeof(message));
		result = netlink_await(&audit->control, &message, sizeof(message));
		/* -EPERM: not the kernel's. */
		if (result < 0 || message.header.nlmsg_seq != audit->sequence)
			continue;
		if (message.header.nlmsg_type == NLMSG_ERROR)
			return *(const int *)(const void *)message.payload;
		if (asks && message.header.nlmsg_type == AUDIT_GET) {
			memcpy(payload, message.payload, length);
			return 0;
		}
	}
	return result < 0 ? result : -EBADMSG;
}

static int set(struct capability_audit *audit, struct audit_status status)
{
	return tell(audit, AUDIT_SET, &status, sizeof(status));
}

static int set_enabled(struct capability_audit *audit, uint32_t enabled)
{
	return set(audit, (struct audit_status){.mask = AUDIT_STATUS_ENABLED, .enabled = enabled});
}

/* ---- arming --------------------------------------------------------------------------------- */

static int change_rules(struct capability_audit *audit, uint16_t type)
{
	union audit_rule rule;
	int result = 0;

	for (unsigned at = 0; result == 0 && at < AUDIT_RULES; at++) {
		cellos_audit_rule(at, &rule);
		result = tell(audit, type, &rule, sizeof(rule.data) + rule.data.buflen);
		if (type == AUDIT_DEL_RULE || result == -EEXIST)
			result = 0;
	}
	return result;
}

/* Audit takes the sender's socket for its daemon's. The records that it sends there are dropped as
   if read: so they never queue for us, it never gives up and never turns to the console. */
static int become_daemon(struct capability_audit *audit, uint32_t agent_pid)
{
	/* By the type's high byte: answers are below 0x400, records above. */
	const unsigned high =
		offsetof(struct nlmsghdr, nlmsg_type) + (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__);
	struct sock_filter drop[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, high),
		BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 4, 1, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
		BPF_STMT(BPF_RET | BPF_K, 0),
	};
	const struct sock_fprog program = {.len = 4, .filter = drop};

	if (setsockopt(audit->control.fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)) <
	    0)
		return -errno;
	return set(audit, (struct audit_status){.mask = AUDIT_STATUS_PID, .pid = agent_pid});
}

/* The next record: 1: *denial is one; 0: it is none; -EBADMSG: nobody can read it; -errno: there is
   none. */
static int next_record(struct capability_audit *audit, bool await, struct audit_denial *denial)
{
	struct message message;
	const size_t size = sizeof(message) - 1;
	int got = await ? netlink_await(&audit->records, &message, size)
			: netlink_receive(&audit->records, &message, size);

	if (got < 0)
		return got == -EPERM || got == -ENOBUFS ? 0 : got;
	/* The length in the header is not to be trusted: audit has a tradition of its own. */
	if (got < (int)sizeof(message.header) || message.header.nlmsg_type != AUDIT_SYSCALL)
		return 0;
	message.payload[(size_t)got - sizeof(message.header)] = '\0';
	return cellos_audit_parse(message.payload, denial);
}

/* What a child is refused must come back to us: audit knows a process from its birth on, and spares
   its own daemon. */
static int try_out(struct capability_audit *audit)
{
	struct audit_denial denial = {0};
	pid_t child = fork();
	int result = child < 0 ? -errno : 0;

	if (child == 0) {
		(void)ptrace(PTRACE_ATTACH, getpid(), NULL, NULL); /* itself: nobody may */
		_exit(0);
	}
	for (unsigned reads = 0; result >= 0 && denial.pid != (uint32_t)child; reads++)
		result = reads < MAX_READS ? next_record(audit, true, &denial) : -ETIMEDOUT;
	if (child > 0)
		(void)waitpid(child, NULL, 0);
	return result < 0 ? result : 0;
}

/* *status: as audit is, and then as it was before the workload. */
static int switch_on(struct capability_audit *audit, uint32_t agent_pid,
		     struct audit_status *status)
{
	const struct audit_status harmless = {
		.mask = AUDIT_STATUS_FAILURE | AUDIT_STATUS_RATE_LIMIT |
			AUDIT_STATUS_BACKLOG_LIMIT | AUDIT_STATUS_BACKLOG_WAIT_TIME,
		.failure = AUDIT_FAIL_SILENT,
		.backlog_limit = BACKLOG_LIMIT,
	};
	const uint32_t before = status->enabled;
	const bool locked = before == AUDIT_LOCK;
	/* Nobody shall wait for a reader: set before it is switched on, or it stays off. */
	int result = locked ? 0 : set(audit, harmless);

	if (result == 0)
		result = tell(audit, AUDIT_GET, status, sizeof(*status));
	if (result == 0 &&
	    ((status->feature_bitmap & AUDIT_FEATURE_BITMAP_BACKLOG_WAIT_TIME) == 0 ||
	     status->backlog_wait_time != 0 || status->failure != AUDIT_FAIL_SILENT))
		result = -ENOTSUP;
	if (result == 0 && !locked)
		result = change_rules(audit, AUDIT_ADD_RULE);
	if (result == 0)
		result = become_daemon(audit, agent_pid);
	if (result == 0 && !locked)
		result = set_enabled(audit, 1);
	if (result == 0)
		result = try_out(audit);
	if (result == 0 && !locked)
		result = set_enabled(audit, AUDIT_LOCK);
	if (result < 0 && !locked) {
		(void)set_enabled(audit, before);
		(void)change_rules(audit, AUDIT_DEL_RULE);
	}
	return result;
}

static int audit_open(void *state, struct cellos_probe_env *env, struct cellos_probe_status *status,
		      const char **what)
{
	struct capability_audit *audit = state;
	struct audit_status kernel = {0};
	int result;

	audit->control.fd = audit->records.fd = -1;
	*what = "use audit (not in this kernel, off, or asked from other than the initial PID "
		"namespace)";
	result = netlink_open(&audit->control, NETLINK_AUDIT, 0, ANSWER_BYTES);
	if (result == 0)
		result = netlink_open(&audit->records, NETLINK_AUDIT,
				      1u << (AUDIT_NLGRP_READLOG - 1), RECORDS_BYTES);
	if (result == 0)
		result = tell(audit, AUDIT_GET, &kernel, sizeof(kernel));
	if (result < 0)
		return result;
	*what = kernel.enabled == AUDIT_LOCK ? "use an audit that somebody else has locked"
					     : "set up audit so that nobody waits for it";
	result = switch_on(audit, env->agent_pid, &kernel);
	if (result < 0)
		return result;
	audit->lost = kernel.lost;
	(void)netlink_lost(&audit->records);
	status->surface = "audit";
	status->exactness = "inferred";
	status->needs = UINT64_C(1) << CAP_AUDIT_CONTROL;
	status->kernel_bytes = audit->records.buffer + audit->control.buffer;
	cellos_probe_why(status, "refused privileged system calls, of processes that start from "
				 "now on; audit is locked until the next boot");
	return audit->records.fd;
}

static void audit_close(void *state)
{
	struct capability_audit *audit = state;

	netlink_close(&audit->records);
	netlink_close(&audit->control);
}

/* ---- reading -------------------------------------------------------------------------------- */

static bool audit_see(void *state, struct cellos_probe_env *env)
{
	struct capability_audit *audit = state;
	struct audit_status status = {.lost = audit->lost};
	struct audit_denial denial;
	uint64_t lost;
	int result;

	/* Lost before the kernel sent it, and for want of room in our socket. A wrap does not
	   matter. */
	if (tell(audit, AUDIT_GET, &status, sizeof(status)) == 0)
		cellos_probe_stat_set(env, STAT_WAITED, status.backlog_wait_time_actual);
	lost = (uint32_t)(status.lost - audit->lost) + netlink_lost(&audit->records);
	audit->lost = status.lost;
	audit->backlog = status.backlog;
	cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, lost);
	/* Until the queue is empty; only then does the kernel fill it again after it was full. */
	for (unsigned reads = 0; reads < MAX_READS; reads++) {
		result = next_record(audit, false, &denial);
		if (result == -EBADMSG) {
			cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, 1);
			cellos_probe_stat_add(env, STAT_MALFORMED, 1);
		} else if (result < 0) {
			break;
		} else if (result == 1 && denial.pid != env->agent_pid) {
			if (cellos_audit_fold(&audit->fold, &denial))
				cellos_lane_count(env->lane, CELLOS_DROP_SUPPRESSED, 1);
			else /* when it is read: audit's own clock is the wall's, which is set */
				cellos_probe_emit(env, CELLOS_SOURCE_CAPABILITY_DENIED, denial.pid,
						  denial.comm, denial.comm_len, cellos_probe_now());
		}
	}
	return lost > 0 || status.backlog > 0; /* some are still to be sent */
}

const struct capability_surface cellos_capability_audit = {audit_open, audit_see, audit_close};
