/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-mini-init: PID 1 of a guest that runs one workload; for tests and the demo, and to read
 * for whoever writes an init.
 *
 * The order is the point: mounts; what the kernel would start as root is closed; the agent, until
 * it says that every probe is armed; only then the workload, behind the guard and on a file system
 * of its own. The init never starts anything that comes from the workload. An agent that dies is
 * not started again: the machine goes off, and the host sees it.
 *
 * Kernel command line: cellos.argv=LIST the workload (required), cellos.agent=LIST options of the
 * agent, cellos.guard=LIST options of the guard, cellos.layout=hidden|shared, cellos.cid=N where
 * the exit code goes (default 2, the host). For tests: cellos.first=LIST a command that is run to
 * its end before the agent (it may leave a daemon), cellos.bare=1 the workload without any guard in
 * init's own root. LIST is base64 of a JSON array of strings.
 *
 * In its root: /cellos-telemetry, /cellos-guard, /workload (copied to a file system of its own),
 * /modules with a file `order` (when the kernel has its drivers as modules).
 *
 * One thread. Refuses to: go on after a step that failed; then the exit code is 125.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/sched.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "words.h"

#define EXIT_CODE_PORT 9000
#define NOT_STARTED 125
#define AGENT_DIED 124
#define WORKLOAD_ROOT "/mnt"
#define GROUPS "/sys/fs/cgroup"
#define AGENT_MEMORY "4194304" /* twice what it has */
/* The agent gets this long to end when the workload has: a probe takes three at most to read what
   the kernel still has, the sender two for a host that does not read, the stats line one. */
#define DRAIN_SECONDS 8
/* A host that is there answers, be it that nobody listens; one that is busy may take longer than
   the kernel's two seconds, and the exit code would be lost. */
#define CONNECT_SECONDS 120

struct plan {
	struct init_words workload, agent, guard, first;
	bool shared;
	bool bare;
	unsigned cid;
};

static void say(const char *what, const char *object, int error)
{
	fprintf(stderr, "cellos-mini-init: cannot %s %s: %s\n", what, object, strerror(error));
}

/* ---- plan ----------------------------------------------------------------------------------- */

static int take_list(const char *line, const char *name, struct init_words *list)
{
	const char *value;
	int length = init_find(line, name, &value);

	if (length < 0)
		return -ENOENT;
	if (init_words_parse(list, value, (size_t)length) == 0)
		return 0;
	say("read", name, EINVAL);
	return -EINVAL;
}

/* A number that is none must not send the exit code to somebody else. */
static int take_cid(const char *line, unsigned *cid)
{
	const char *value;
	int length = init_find(line, "cellos.cid", &value);
	unsigned long number;
	char *end;

	*cid = VMADDR_CID_HOST;
	if (length < 0)
		return 0;
	errno = 0;
	number = strtoul(value, &end, 10);
	if (length == 0 || *value < '0' || *value > '9' || end != value + length || errno != 0 ||
	    number >= VMADDR_CID_ANY) {
		say("use", "cellos.cid", EINVAL);
		return -EINVAL;
	}
	*cid = (unsigned)number;
	return 0;
}

static int read_plan(struct plan *plan)
{
	static char line[INIT_TEXT_BYTES];
	int fd = open("/proc/cmdline", O_RDONLY | O_CLOEXEC), length;
	ssize_t got = fd < 0 ? -1 : read(fd, line, sizeof(line) - 1);
	const char *value;

	if (got < 0) {
		say("read", "/proc/cmdline", errno);
		return -errno;
	}
	close(fd);
	if (take_cid(line, &plan->cid) < 0 || take_list(line, "cellos.argv", &plan->workload) < 0 ||
	    take_list(line, "cellos.agent", &plan->agent) == -EINVAL ||
	    take_list(line, "cellos.guard", &plan->guard) == -EINVAL ||
	    take_list(line, "cellos.first", &plan->first) == -EINVAL)
		return -EINVAL;
	length = init_find(line, "cellos.layout", &value);
	plan->shared = length == 6 && strncmp(value, "shared", 6) == 0;
	if (length >= 0 && !plan->shared && !(length == 6 && strncmp(value, "hidden", 6) == 0)) {
		say("use", "cellos.layout", EINVAL);
		return -EINVAL;
	}
	plan->bare = init_find(line, "cellos.bare", &value) == 1 && *value == '1';
	return 0;
}

/* ---- machine -------------------------------------------------------------------------------- */

static int mount_at(const char *what, const char *where, const char *type, const char *data)
{
	if (mkdir(where, 0755) < 0 && errno != EEXIST) {
		say("make", where, errno);
		return -errno;
	}
	if (mount(what, where, type, MS_NOSUID, data) == 0)
		return 0;
	say("mount", where, errno);
	return -errno;
}

static int load_module(const char *name)
{
	char path[256];
	int fd, status = 0;

	snprintf(path, sizeof(path), "/modules/%s.ko", name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || syscall(SYS_finit_module, fd, "", 0) < 0)
		status = errno == EEXIST ? 0 : -errno;
	if (status < 0)
		say("load", path, -status);
	if (fd >= 0)
		close(fd);
	return status;
}

static int load_modules(void)
{
	FILE *order = fopen("/modules/order", "re");
	char name[128];
	int status = 0;

	if (order == NULL)
		return 0; /* a kernel with everything in it */
	while (status == 0 && fgets(name, sizeof(name), order) != NULL) {
		name[strcspn(name, "\n")] = '\0';
		if (name[0] != '\0')
			status = load_module(name);
	}
	fclose(order);
	return status;
}

static void raise_loopback(void)
{
	struct ifreq request = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
		say("raise", "lo", errno);
	if (fd >= 0)
		close(fd);
}

/* ---- the workload's file system ---------------------------------------------------------------
 */

static int copy_file(const char *from, const char *to, mode_t mode)
{
	static char buffer[65536];
	int source = open(from, O_RDONLY | O_CLOEXEC), target = -1, status = 0;
	ssize_t got = 0;

	if (source >= 0)
		target = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
	if (target < 0)
		status = -errno;
	while (status == 0 && (got = read(source, buffer, sizeof(buffer))) > 0)
		if (write(target, buffer, (size_t)got) != got)
			status = errno != 0 ? -errno : -EIO;
	if (got < 0)
		status = -errno;
	if (target >= 0)
		close(target);
	if (source >= 0)
		close(source);
	return status;
}

static int copy_one(const char *path, const struct stat *about, int kind, struct FTW *place)
{
	char to[4096], target[4096];
	ssize_t length;
	int status = 0;

	(void)place;
	snprintf(to, sizeof(to), WORKLOAD_ROOT "%s", path + strlen("/workload"));
	switch (kind) {
	case FTW_D:
		if (mkdir(to, about->st_mode & 07777) < 0 && errno != EEXIST)
			status = -errno;
		break;
	case FTW_SL:
		length = readlink(path, target, sizeof(target) - 1);
		if (length < 0)
			return -1;
		target[length] = '\0';
		status = symlink(target, to) < 0 ? -errno : 0;
		break;
	case FTW_F:
		status = copy_file(path, to, about->st_mode & 07777);
		break;
	default:
		status = -EINVAL;
	}
	if (status < 0)
		say("copy", path, -status);
	return status;
}

static int make_workload_root(void)
{
	int status = mount_at("workload", WORKLOAD_ROOT, "tmpfs", "mode=755");

	umask(0);
	if (status == 0 && nftw("/workload", copy_one, 16, FTW_PHYS) != 0)
		status = -EIO;
	umask(022);
	return status;
}

/* ---- programs ------------------------------------------------------------------------------- */

/* argv[0], the words of `fixed`, those of `list`, and in the end those of `last`. */
static char **join(const char *program, const char *const fixed[], const struct init_words *list,
		   const struct init_words *last)
{
	static char *joined[2][3 * INIT_MAX_WORDS];
	static unsigned which;
	char **words = joined[which++ % 2];
	size_t count = 0;

	words[count++] = (char *)(uintptr_t)program;
	for (size_t i = 0; fixed[i] != NULL; i++)
		words[count++] = (char *)(uintptr_t)fixed[i];
	for (size_t i = 0; i < list->count; i++)
		words[count++] = list->words[i];
	if (last != NULL) {
		words[count++] = (char *)(uintptr_t) "--";
		for (size_t i = 0; i < last->count; i++)
			words[count++] = last->words[i];
	}
	words[count] = NULL;
	return words;
}

static pid_t start(char *const argv[], int keep)
{
	pid_t pid = fork();

	if (pid != 0)
		return pid;
	if (keep >= 0)
		(void)fcntl(keep, F_SETFD, 0);
	setsid();
	execv(argv[0], argv);
	say("run", argv[0], errno);
	_exit(NOT_STARTED);
}

static int code_of(int status)
{
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run(char *const argv[])
{
	pid_t pid = start(argv, -1);
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return NOT_STARTED;
	return code_of(status);
}

static void write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		say("write", path, errno);
	if (fd >= 0)
		close(fd);
}

/* It has the newest memory and the last word when there is not enough CPU or memory for all. */
static void favour(pid_t agent)
{
	char path[64], number[24];

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", agent);
	snprintf(number, sizeof(number), "%d", agent);
	write_text(path, "-1000");
	write_text(GROUPS "/cgroup.subtree_control", "+cpu +memory");
	if (mkdir(GROUPS "/agent", 0755) < 0 && errno != EEXIST)
		say("make", GROUPS "/agent", errno);
	write_text(GROUPS "/agent/cpu.weight", "10000");
	write_text(GROUPS "/agent/memory.min", AGENT_MEMORY);
	write_text(GROUPS "/agent/cgroup.procs", number);
}

/* The agent's pid once every probe is armed; -1: it ended before. */
static pid_t start_agent(const struct plan *plan)
{
	const char *const ready_option[] = {"--ready-fd", "3", NULL};
	int ready[2];
	char newline;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return -1;
	if (ready[1] != 3) { /* the number that it is told */
		if (ready[0] == 3)
			ready[0] = fcntl(3, F_DUPFD_CLOEXEC, 10);
		(void)dup3(ready[1], 3, O_CLOEXEC);
		close(ready[1]);
	}
	pid = start(join("/cellos-telemetry", ready_option, &plan->agent, NULL), 3);
	close(3);
	if (pid > 0)
		favour(pid);
	if (read(ready[0], &newline, 1) != 1) {
		say("start", "/cellos-telemetry", ECHILD);
		pid = -1;
	}
	close(ready[0]);
	return pid;
}

/* No number up to this one may be named by the workload. */
static unsigned long highest_thread(pid_t agent)
{
	unsigned long highest = (unsigned long)agent;
	char path[64];
	struct dirent *entry;
	DIR *folder;

	snprintf(path, sizeof(path), "/proc/%d/task", agent);
	folder = opendir(path);
	while (folder != NULL && (entry = readdir(folder)) != NULL) {
		unsigned long number = strtoul(entry->d_name, NULL, 10);

		highest = number > highest ? number : highest;
	}
	if (folder != NULL)
		closedir(folder);
	return highest;
}

static pid_t start_workload(struct plan *plan, pid_t agent)
{
	char number[24];
	const char *const hidden[] = {"--root", WORKLOAD_ROOT, NULL};
	const char *const shared[] = {"--root",        WORKLOAD_ROOT, "--layout", "shared",
				      "--protect-pid", number,        NULL};

	if (plan->bare)
		return start(plan->workload.words, -1);
	snprintf(number, sizeof(number), "%lu", highest_thread(agent));
	return start(join("/cellos-guard", plan->shared ? shared : hidden, &plan->guard,
			  &plan->workload),
		     -1);
}

/* What the workload leaves behind in a namespace that it shares must not be there when nobody looks
   any more: every group's but the agent's. */
static void end_the_rest(void)
{
	DIR *groups = opendir(GROUPS);
	struct dirent *entry;
	char path[300];

	while (groups != NULL && (entry = readdir(groups)) != NULL) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' ||
		    strcmp(entry->d_name, "agent") == 0)
			continue;
		snprintf(path, sizeof(path), GROUPS "/%s/cgroup.kill", entry->d_name);
		write_text(path, "1");
	}
	if (groups != NULL)
		closedir(groups);
}

/* Ends when the workload has, or the agent before it. */
static int watch(pid_t agent, pid_t workload)
{
	int status, code = NOT_STARTED;
	pid_t pid;

	while ((pid = wait(&status)) > 0) {
		if (pid == agent) {
			fprintf(stderr, "cellos-mini-init: the agent has ended\n");
			/* Not one more instruction unseen, however long the host takes to hear of
			   it. The guard takes all that it started along. */
			(void)kill(workload, SIGKILL);
			return AGENT_DIED;
		}
		if (pid == workload) {
			code = code_of(status);
			break;
		}
	}
	end_the_rest();
	(void)kill(agent, SIGTERM);
	alarm(DRAIN_SECONDS); /* SIGALRM ends the wait below; its handler does nothing */
	while ((pid = wait(&status)) > 0 && pid != agent)
		;
	alarm(0); /* or it would end the wait for the host, which has the exit code to take */
	return code;
}

static void wake(int signal_number)
{
	(void)signal_number;
}

/* Agent, guard, workload: in the init's own namespace, or as PID 1 of the one they share. */
static int run_guest(struct plan *plan)
{
	const struct sigaction alarm_action = {.sa_handler = wake};
	pid_t agent, workload;

	sigaction(SIGALRM, &alarm_action, NULL);
	agent = start_agent(plan);
	if (agent < 0)
		return NOT_STARTED;
	workload = start_workload(plan, agent);
	return workload < 0 ? NOT_STARTED : watch(agent, workload);
}

static int run_shared(struct plan *plan)
{
	struct clone_args arguments = {.flags = CLONE_NEWPID | CLONE_NEWNS, .exit_signal = SIGCHLD};
	pid_t pid = (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
	int status;

	if (pid == 0) {
		(void)mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);
		(void)umount2("/proc", MNT_DETACH);
		_exit(mount_at("proc", "/proc", "proc", NULL) < 0 ? NOT_STARTED : run_guest(plan));
	}
	while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (pid < 0)
		return NOT_STARTED;
	/* Its PID 1 does not end by a signal but from within, and takes the agent along. */
	return WIFSIGNALED(status) ? AGENT_DIED : code_of(status);
}

/* ---- the end -------------------------------------------------------------------------------- */

static void report(unsigned cid, int code)
{
	const struct sockaddr_vm host = {
		.svm_family = AF_VSOCK, .svm_cid = cid, .svm_port = EXIT_CODE_PORT};
	const uint8_t bytes[4] = {(uint8_t)code, (uint8_t)(code >> 8), (uint8_t)(code >> 16),
				  (uint8_t)(code >> 24)};
	const struct timeval patience = {.tv_sec = CONNECT_SECONDS};
	int fd = socket(AF_VSOCK, SOCK_STREAM | SOCK_CLOEXEC, 0);

	fprintf(stderr, "cellos-mini-init: exit code %d\n", code);
	if (fd >= 0) /* without it there are two seconds, which mostly do */
		(void)setsockopt(fd, AF_VSOCK, SO_VM_SOCKETS_CONNECT_TIMEOUT, &patience,
				 sizeof(patience));
	if (fd < 0 || connect(fd, (const struct sockaddr *)&host, sizeof(host)) < 0 ||
	    write(fd, bytes, sizeof(bytes)) != sizeof(bytes))
		say("report", "the exit code", errno);
	else
		/* Its end of file says that the host has it: the machine is about to go. */
		(void)shutdown(fd, SHUT_WR), (void)!read(fd, &(char){0}, 1);
}

static int start_guest(struct plan *plan)
{
	const char *const prepare[] = {"--prepare", NULL};

	if (mount_at("proc", "/proc", "proc", NULL) < 0 ||
	    mount_at("sysfs", "/sys", "sysfs", NULL) < 0 ||
	    mount_at("devtmpfs", "/dev", "devtmpfs", NULL) < 0 || read_plan(plan) < 0)
		return NOT_STARTED;
	(void)mount_at("devpts", "/dev/pts", "devpts", "ptmxmode=0666");
	(void)mount_at("cgroup2", GROUPS, "cgroup2", "nsdelegate");
	if (load_modules() < 0)
		return NOT_STARTED;
	raise_loopback();
	if (make_workload_root() < 0)
		return NOT_STARTED;
	if (!plan->bare && run(join("/cellos-guard", prepare, &plan->guard, NULL)) != 0)
		return NOT_STARTED;
	if (plan->first.count > 0 && run(plan->first.words) != 0)
		return NOT_STARTED;
	return plan->shared ? run_shared(plan) : run_guest(plan);
}

int main(void)
{
	static struct plan plan = {.cid = VMADDR_CID_HOST};
	int code;

	if (getpid() != 1) {
		fprintf(stderr,
			"cellos-mini-init: cannot start: it is an init, PID 1 of a guest\n");
		return 2;
	}
	code = start_guest(&plan);
	report(plan.cid, code);
	sync();
	(void)reboot(RB_POWER_OFF);
	return 1; /* the kernel panics, which ends the machine too */
}
