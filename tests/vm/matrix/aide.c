/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The aide in the guest, outside of every wall: the init starts it before the agent.
 *
 *     aide FOLDER CID
 *
 * It leaves a daemon, makes the FIFOs FOLDER/ask and FOLDER/answer and hands each line on to the
 * steward at vsock CID, and the answer back. What needs privileges in the guest it does itself:
 *
 *     forge N     N forged ends of a process that lives on, to the connector's group
 *     deafen N    PROC_CN_MCAST_IGNORE N times before each of twenty processes, of which the agent
 *                 must so miss one at least; and then processes until it hears of one again
 *     restore     the machine is made anew around the guest, and the agent's host hears it again
 *
 * With the first line it also tells which number the agent has in its own PID namespace.
 *
 * One thread. Refuses to: invent an answer; without a steward it says "lost".
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/cn_proc.h>
#include <linux/connector.h>
#include <linux/netlink.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "line.h"

#define AGENT "/cellos-telemetry"
#define UNHEARD 20

#define PATIENCE_NS INT64_C(180000000000)

static unsigned steward_cid;
static int steward = -1;

/* ---- the steward ---------------------------------------------------------------------------- */

static int connect_to_steward(void)
{
	const struct sockaddr_vm address = {
		.svm_family = AF_VSOCK, .svm_cid = steward_cid, .svm_port = STEWARD_PORT};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof(address)) == 0)
		return fd;
	perror("aide: cannot reach the steward");
	if (fd >= 0)
		close(fd);
	return -1;
}

/*
 * The kernel gives a connection two seconds, which a processor that stands still takes from it; and
 * after a restore the machine may not be whole yet.
 */
static int reach_steward(void)
{
	const int64_t end = now_ns() + PATIENCE_NS;
	int fd = connect_to_steward();

	while (fd < 0 && now_ns() < end) {
		rest_ms(100);
		fd = connect_to_steward();
	}
	return fd;
}

static void hand_on(char line[LINE_BYTES])
{
	if (steward < 0)
		steward = reach_steward();
	if (steward < 0 || write_line(steward, line) < 0 || read_line(steward, line) <= 0)
		strcpy(line, "lost");
}

/* To the steward's book, in the aide's own name. */
static void note(const char *what, int64_t number)
{
	char line[LINE_BYTES];

	snprintf(line, sizeof(line), "note %s %lld %lld", what, (long long)number,
		 (long long)now_ns());
	hand_on(line);
}

/* Our own connection ends with the machine, too, as does every one of the guest. */
static void restore(char line[LINE_BYTES])
{
	if (steward < 0 || write_line(steward, line) < 0) {
		strcpy(line, "lost");
	} else if (read_line(steward, line) <= 0) {
		close(steward);
		steward = -1; /* reached anew */
		strcpy(line, "beats 2");
		hand_on(line);
	}
}

/* ---- netlink -------------------------------------------------------------------------------- */

static int open_connector(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 0};
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC, NETLINK_CONNECTOR);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof(address)) < 0) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* To the kernel (groups 0) or to whoever listens to the group. */
static int send_connector(int fd, unsigned groups, const void *payload, size_t length)
{
	const struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_groups = groups};
	_Alignas(struct nlmsghdr) char bytes[512] = {0};
	struct nlmsghdr *header = (struct nlmsghdr *)(void *)bytes;
	struct cn_msg *message = NLMSG_DATA(header);

	header->nlmsg_len = (uint32_t)NLMSG_LENGTH(sizeof(*message) + length);
	header->nlmsg_type = NLMSG_DONE;
	message->id = (struct cb_id){CN_IDX_PROC, CN_VAL_PROC};
	message->len = (uint16_t)length;
	memcpy(message->data, payload, length);
	return sendto(fd, bytes, header->nlmsg_len, 0, (const struct sockaddr *)&to, sizeof(to)) < 0
		       ? -errno
		       : 0;
}

static pid_t start_living(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, "living");
		for (;;)
			pause();
	}
	return pid;
}

static const char *forge(unsigned count)
{
	pid_t living = start_living();
	struct proc_event event = {.what = PROC_EVENT_EXIT, .timestamp_ns = (uint64_t)now_ns()};
	int fd = open_connector(), status = fd < 0 ? -errno : 0;
	char beats[LINE_BYTES] = "beats 2";

	event.event_data.exit.process_pid = living;
	event.event_data.exit.process_tgid = living;
	for (unsigned at = 0; at < count && status == 0; at++)
		status = send_connector(fd, CN_IDX_PROC, &event, sizeof(event));
	if (fd >= 0)
		close(fd);
	hand_on(beats);
	note("living", living);
	kill(living, SIGKILL);
	waitpid(living, NULL, 0);
	note("forged", status < 0 ? status : (int)count);
	return status == 0 ? "ok" : "cannot forge";
}

static void live_and_die(const char *name)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_NAME, name);
		_exit(0);
	}
	waitpid(pid, NULL, 0);
}

/* Asked anew each time, for what it has missed it has missed. */
static bool is_heard_again(void)
{
	const int64_t end = now_ns() + PATIENCE_NS;
	char line[LINE_BYTES];

	do {
		live_and_die("heard");
		rest_ms(100);
		strcpy(line, "seen \"guest_comm\":\"heard\"");
		hand_on(line);
	} while (strcmp(line, "ok") != 0 && now_ns() < end);
	return strcmp(line, "ok") == 0;
}

/*
 * The agent looks once a second whether it was silenced, and nobody knows when: it could do so
 * between the last IGNORE and the first process, but not before each.
 */
static const char *deafen(unsigned count)
{
	const enum proc_cn_mcast_op ignore = PROC_CN_MCAST_IGNORE;
	int fd = open_connector(), status = fd < 0 ? -errno : 0;
	char mark[LINE_BYTES] = "mark";

	for (unsigned at = 0; at < UNHEARD; at++) {
		for (unsigned times = 0; times < count && status == 0; times++)
			status = send_connector(fd, 0, &ignore, sizeof(ignore));
		live_and_die("unheard");
	}
	if (fd >= 0)
		close(fd);
	note("deafened", status < 0 ? status : UNHEARD);
	hand_on(mark);
	if (status == 0 && !is_heard_again())
		return "not heard again";
	return status == 0 ? "ok" : "cannot deafen";
}

/* ---- the agent ------------------------------------------------------------------------------ */

/* The number that a process has in its own PID namespace; 0: it is not the agent. */
static int64_t number_of_agent(const char *name)
{
	char path[300], target[64] = "", line[256];
	int64_t number = 0;
	FILE *status;

	snprintf(path, sizeof(path), "/proc/%s/exe", name);
	if (readlink(path, target, sizeof(target) - 1) < 0 || strcmp(target, AGENT) != 0)
		return 0;
	snprintf(path, sizeof(path), "/proc/%s/status", name);
	status = fopen(path, "re");
	while (status != NULL && fgets(line, sizeof(line), status) != NULL)
		if (strncmp(line, "NSpid:", 6) == 0)
			number = strtoll(strrchr(line, '\t'), NULL, 10);
	if (status != NULL)
		fclose(status);
	return number;
}

static void note_agent(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;

	while (proc != NULL && (entry = readdir(proc)) != NULL) {
		const int64_t number = number_of_agent(entry->d_name);

		if (number > 0)
			note("agent", number);
	}
	if (proc != NULL)
		closedir(proc);
}

/* ---- the workload's side -------------------------------------------------------------------- */

static int open_fifo(const char *folder, const char *name)
{
	char path[128];
	int fd = -1;

	snprintf(path, sizeof(path), "%s/%s", folder, name);
	/* Both ways: neither end must wait for the other. */
	if (mkfifo(path, 0600) == 0)
		fd = open(path, O_RDWR | O_CLOEXEC);
	if (fd < 0) {
		perror(path);
		exit(1);
	}
	return fd;
}

static void serve(int questions, int answers)
{
	static char line[LINE_BYTES];
	bool noted = false;
	unsigned count;

	while (read_line(questions, line) > 0) {
		if (!noted)
			note_agent();
		noted = true;
		if (sscanf(line, "forge %u", &count) == 1)
			strcpy(line, forge(count));
		else if (sscanf(line, "deafen %u", &count) == 1)
			strcpy(line, deafen(count));
		else if (strcmp(line, "restore") == 0)
			restore(line);
		else
			hand_on(line);
		if (write_line(answers, line) < 0)
			return;
	}
}

int main(int argc, char **argv)
{
	int questions, answers;

	if (argc != 3) {
		fprintf(stderr, "usage: aide FOLDER CID\n");
		return 2;
	}
	questions = open_fifo(argv[1], "ask");
	answers = open_fifo(argv[1], "answer");
	steward_cid = (unsigned)strtoul(argv[2], NULL, 10);
	if (fork() != 0)
		return 0;
	setsid();
	signal(SIGPIPE, SIG_IGN);
	serve(questions, answers);
	return 1;
}
