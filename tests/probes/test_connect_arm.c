/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Arming the connect probe where something is missing, each thing in turn; in other namespaces;
 * what it leaves behind; and who may take it away.
 *
 * Threads: the test's and the probe's. What cannot be undone (a seccomp filter, another user, a
 * namespace) is done in a child.
 * Refuses to: wait for a kernel that lacks these things; a filter answers as such a kernel does.
 */
#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bpf_load.h"
#include "connect_rig.h"

__attribute__((constructor)) static void need(void)
{
	connect_need();
}

TestSuite(connect, .init = connect_init, .fini = connect_fini);

/* In a child, which a failed check ends. */
static void in_a_child(void (*body)(const void *), const void *argument)
{
	pid_t child = fork();
	int status;

	cr_assert(child >= 0);
	if (child == 0) {
		rig_die_with_parent();
		body(argument);
		_exit(0);
	}
	cr_assert(waitpid(child, &status, 0) == child);
	cr_assert(status == 0, "the child ended with %x", (unsigned)status);
}

static unsigned open_descriptors(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;

	RIG_CHECK(folder != NULL);
	while (readdir(folder) != NULL)
		count++;
	closedir(folder);
	return count;
}

static void arm_with(struct rig *rig, enum cellos_connect_choice choice)
{
	struct cellos_probe_options options = rig_options();

	options.connect = choice;
	rig_init(rig, &cellos_probe_connect, &options, 64);
	rig_arm(rig);
}

/* ---- what is missing ------------------------------------------------------------------------ */

#define ANY UINT32_MAX

struct lack {
	long number;    /* a system call */
	uint32_t first; /* its first argument, or ANY */
	int error;      /* what it shall fail with */
	bool failed;    /* whether that is a failure when nobody asked for the surface by name */
	const char *why;
};

static void forbid(const struct lack *lack)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)lack->number, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[0])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, lack->first, 0, lack->first != ANY),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)lack->error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(code[0]), code};

	RIG_CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	RIG_CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Not armed, and why; nothing is left open; its thread waits for stop and says nothing. */
static void check_absent(enum cellos_connect_choice choice, bool failed, const char *why)
{
	unsigned before = open_descriptors();
	struct rig rig;

	arm_with(&rig, choice);
	if (strstr(rig.status.why, why) == NULL)
		fprintf(stderr, "why: %s\n", rig.status.why);
	RIG_CHECK(strstr(rig.status.why, why) != NULL);
	RIG_CHECK(!rig.status.armed && rig.status.kernel_bytes == 0);
	RIG_CHECK(rig.status.failed == failed);
	RIG_CHECK(strcmp(rig.status.surface, "none") == 0);
	RIG_CHECK(strcmp(rig.status.exactness, "none") == 0);
	RIG_CHECK(open_descriptors() == before + 1); /* the rig's own stop_fd */
	rig_start(&rig);
	while (atomic_load(&rig.tid) == 0 || rig_voluntary_switches(&rig) == 0)
		rig_pump(&rig, rig_now() + 1000000);
	RIG_CHECK(rig_stop(&rig) < RIG_STOP_NS && rig.count == 0);
	rig_free(&rig);
}

static void lack_it(const void *opaque)
{
	const struct lack *lack = opaque;

	forbid(lack);
	check_absent(CELLOS_CONNECT_AUTO, lack->failed, lack->why);
	check_absent(CELLOS_CONNECT_BPF, true, lack->why);
}

Test(connect, each_thing_missing)
{
	static const struct lack lacks[] = {
		{SYS_bpf, BPF_MAP_CREATE, ENOSYS, false,
		 "use bpf(2) (CONFIG_BPF_SYSCALL): Function not"},
		{SYS_bpf, BPF_MAP_CREATE, EPERM, true,
		 "CONFIG_BPF_SYSCALL): Operation not permitted"},
		{SYS_bpf, BPF_MAP_CREATE, ENOMEM, true, "Cannot allocate memory"},
		{SYS_bpf, BPF_PROG_LOAD, EINVAL, false, "CONFIG_CGROUP_BPF"},
		{SYS_bpf, BPF_PROG_LOAD, EPERM, true, "Linux 5.8): Operation not permitted"},
		{SYS_bpf, BPF_LINK_CREATE, EINVAL, false, "attach to the cgroup root"},
		{SYS_bpf, BPF_LINK_CREATE, EPERM, true, "attach to the cgroup root"},
		{SYS_fsopen, ANY, ENODEV, false, "reach the cgroup2 hierarchy"},
		{SYS_fsopen, ANY, EPERM, true, "reach the cgroup2 hierarchy"},
		{SYS_fsconfig, ANY, EPERM, true, "reach the cgroup2 hierarchy"},
		{SYS_fsmount, ANY, EPERM, true, "reach the cgroup2 hierarchy"},
	};

	for (size_t at = 0; at < sizeof(lacks) / sizeof(lacks[0]); at++)
		in_a_child(lack_it, &lacks[at]);
}

static void be_nobody(const void *unused)
{
	(void)unused;
	RIG_CHECK(setresuid(65534, 65534, 65534) == 0);
	check_absent(CELLOS_CONNECT_AUTO, true, "Operation not permitted");
}

Test(connect, without_privilege)
{
	in_a_child(be_nobody, NULL);
}

Test(connect, not_wanted)
{
	check_absent(CELLOS_CONNECT_NONE, false, "--connect none");
}

/* ---- what is there, and what is left -------------------------------------------------------- */

static const enum bpf_attach_type hooks[] = {BPF_CGROUP_INET4_CONNECT, BPF_CGROUP_INET6_CONNECT,
					     BPF_CGROUP_UDP4_SENDMSG, BPF_CGROUP_UDP6_SENDMSG};

static int cgroup_root(void)
{
	int root = cellos_bpf_mount("cgroup2");

	RIG_CHECK(root >= 0 && faccessat(root, "cgroup.type", F_OK, 0) == 0);
	return root;
}

/* The same for each of the four, or -1. */
static int attached(void)
{
	int root = cgroup_root(), count = 0;

	for (unsigned at = 0; at < 4; at++) {
		union bpf_attr attr;

		memset(&attr, 0, sizeof(attr));
		attr.query.target_fd = (uint32_t)root;
		attr.query.attach_type = hooks[at];
		RIG_CHECK(syscall(SYS_bpf, BPF_PROG_QUERY, &attr, sizeof(attr)) == 0);
		if (at > 0 && count != (int)attr.query.prog_cnt)
			count = -1;
		else
			count = (int)attr.query.prog_cnt;
	}
	close(root);
	return count;
}

/* What the kernel accounts for the maps among our descriptors. */
static uint64_t map_bytes(void)
{
	uint64_t sum = 0;

	for (int fd = 0; fd < 256; fd++) {
		char path[64], line[256];
		FILE *file;

		snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
		file = fopen(path, "re");
		while (file != NULL && fgets(line, sizeof(line), file) != NULL)
			if (strncmp(line, "memlock:", 8) == 0)
				sum += strtoull(line + 8, NULL, 10);
		if (file != NULL)
			fclose(file);
	}
	return sum;
}

Test(connect, what_it_holds)
{
	unsigned before = open_descriptors();
	bool was_open[256];
	struct rig rig;

	for (int fd = 0; fd < 256; fd++)
		was_open[fd] = fcntl(fd, F_GETFD) >= 0;
	cr_assert(attached() == 0);
	arm_with(&rig, CELLOS_CONNECT_BPF);
	cr_assert(rig.status.armed && !rig.status.failed, "%s", rig.status.why);
	cr_assert_str_eq(rig.status.surface, "bpf");
	cr_assert_str_eq(rig.status.exactness, "exact");
	cr_assert_str_eq(rig.status.why, "only cgroups below this cgroup namespace's root");
	cr_assert(attached() == 1);
	cr_assert(map_bytes() > 0 && map_bytes() <= rig.status.kernel_bytes, "%llu of %llu",
		  (unsigned long long)map_bytes(), (unsigned long long)rig.status.kernel_bytes);
	/* Ring, page, table, four links, and the rig's stop_fd. */
	cr_assert(open_descriptors() == before + 8);
	for (int fd = 0; fd < 256; fd++)
		cr_assert(was_open[fd] || fcntl(fd, F_GETFD) != 0, "%d would survive exec", fd);
	rig_start(&rig);
	/* A stopped probe sees nothing more, so it must not stay attached until disarm. */
	rig_stop(&rig);
	cr_assert(attached() == 0);
	rig_free(&rig);
	cr_assert(open_descriptors() == before);
}

/* What made BPF_LINK_CREATE the way: whoever may open the cgroup cannot take the program away. */
Test(connect, nobody_else_can_detach_it)
{
	struct rig rig;
	int root = cgroup_root();

	connect_begin(&rig, 1, 64);
	for (unsigned at = 0; at < 4; at++) {
		union bpf_attr attr;

		memset(&attr, 0, sizeof(attr));
		attr.target_fd = (uint32_t)root;
		attr.attach_type = hooks[at];
		cr_assert(syscall(SYS_bpf, BPF_PROG_DETACH, &attr, sizeof(attr)) < 0);
	}
	cr_assert(attached() == 1);
	close(root);
	rig_free(&rig);
}

/* Two agents, one after the other or at the same time, see the same attempts. */
Test(connect, two_at_once)
{
	struct rig one, two;
	int fd;

	connect_begin(&one, 1, 64);
	connect_begin(&two, 1, 64);
	cr_assert(attached() == 2);
	fd = socket_of(AF_INET, SOCK_STREAM, 0);
	cr_assert(try_connect(fd, address4("127.0.0.1", port_closed)) == -ECONNREFUSED);
	cr_assert(rig_until(&one, ATTEMPTED, (uint32_t)getpid(), 1));
	cr_assert(rig_until(&two, ATTEMPTED, (uint32_t)getpid(), 1));
	rig_free(&one);
	cr_assert(try_connect(fd, address4("127.0.0.1", port_closed)) == -ECONNREFUSED);
	cr_assert(rig_until(&two, ATTEMPTED, (uint32_t)getpid(), 2));
	rig_free(&two);
	cr_assert(attached() == 0);
}

/* Killed, it takes its programs with it: the links are its descriptors. */
Test(connect, killed)
{
	uint64_t deadline = rig_now() + RIG_PATIENCE_MS * 1000000ull;
	int armed[2];
	char byte;
	pid_t child;

	cr_assert(pipe2(armed, O_CLOEXEC) == 0);
	child = fork();
	cr_assert(child >= 0);
	if (child == 0) {
		struct rig rig;

		rig_die_with_parent();
		arm_with(&rig, CELLOS_CONNECT_BPF);
		RIG_CHECK(rig.status.armed && write(armed[1], "x", 1) == 1);
		for (;;)
			pause();
	}
	cr_assert(read(armed[0], &byte, 1) == 1);
	cr_assert(attached() == 1);
	rig_kill(child);
	rig_reap(child);
	while (attached() != 0 && rig_now() < deadline)
		sched_yield();
	cr_assert(attached() == 0);
}

/* ---- namespaces ----------------------------------------------------------------------------- */

static void refused_once(void)
{
	int fd = socket_of(AF_INET, SOCK_STREAM, 0);

	RIG_CHECK(try_connect(fd, address4("127.0.0.1", port_closed)) == -ECONNREFUSED);
	close(fd);
}

/* Its number as this process sees it. */
static uint32_t refused_in_a_child(bool in_another_namespace)
{
	pid_t child;
	int status;

	if (in_another_namespace)
		RIG_CHECK(unshare(CLONE_NEWPID) == 0);
	child = fork();
	RIG_CHECK(child >= 0);
	if (child == 0) {
		refused_once();
		_exit(0);
	}
	RIG_CHECK(waitpid(child, &status, 0) == child && status == 0);
	return (uint32_t)child;
}

/* As number 1 of a new PID namespace: its own number, a child's, and none for the namespace below.
   Where the kernel does not translate, none at all, and it says so. */
static void be_first_of_a_namespace(const void *unused)
{
	struct rig rig;
	uint32_t one, child;

	(void)unused;
	RIG_CHECK(getpid() == 1);
	connect_begin(&rig, 1, 64);
	RIG_CHECK(strcmp(rig.status.exactness, "exact") == 0);
	one = strstr(rig.status.why, "0 for processes of other PID namespaces") != NULL;
	RIG_CHECK(one == 1 || strstr(rig.status.why, "pid always 0") != NULL);
	refused_once();
	RIG_CHECK(rig_until(&rig, ATTEMPTED, one, 1));
	child = refused_in_a_child(false);
	rig_stop(&rig);
	RIG_CHECK(rig.count == 2 && rig.events[1].pid == one * child);
	rig_free(&rig);

	connect_begin(&rig, 1, 64);
	(void)refused_in_a_child(true);
	rig_stop(&rig);
	RIG_CHECK(rig.count == 1 && rig.events[0].pid == 0);
	rig_free(&rig);
}

Test(connect, in_a_pid_namespace)
{
	cr_assert(unshare(CLONE_NEWPID) == 0);
	in_a_child(be_first_of_a_namespace, NULL);
}

/* Where nothing is mounted on /proc, it still knows whose numbers it has. */
static void do_without_proc(const void *unused)
{
	struct rig rig;

	(void)unused;
	RIG_CHECK(unshare(CLONE_NEWNS) == 0);
	RIG_CHECK(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	RIG_CHECK(umount2("/proc", MNT_DETACH) == 0 && access("/proc/self", F_OK) < 0);
	connect_begin(&rig, 1, 64);
	RIG_CHECK(strstr(rig.status.why, "pid") == NULL);
	refused_once();
	RIG_CHECK(rig_until(&rig, ATTEMPTED, (uint32_t)getpid(), 1));
	rig_free(&rig);
}

Test(connect, without_proc)
{
	in_a_child(do_without_proc, NULL);
}

/* Outside of any corner: all of the machine is seen, and nothing is to be explained. */
Test(whole, the_machine)
{
	union address nowhere = address4("127.0.0.1", 9);
	struct rig rig;
	int fd;

	connect_begin(&rig, 1, 4096);
	cr_assert_str_eq(rig.status.why, "");
	fd = socket_of(AF_INET, SOCK_DGRAM, 0);
	cr_assert(try_connect(fd, nowhere) == 0);
	cr_assert(rig_until(&rig, ATTEMPTED, (uint32_t)getpid(), 1));
	rig_free(&rig);
	close(fd);
}
