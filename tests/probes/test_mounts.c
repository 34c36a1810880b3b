/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The probes and what mounts do to them: a watched path mounted over and unmounted, /proc missing,
 * taken away, hidden or of another PID namespace. All of it in namespaces of the test's own.
 *
 * Threads: the test's and the probe's; each case is a forked process.
 * Refuses to: run without root (skipped, and why), or to change a mount outside its namespace.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_tables.h"
#include "process.h"
#include "rig.h"
#include "skip.h"

#define FIRED CELLOS_SOURCE_FS_INOTIFY_FIRED
#define SLEEP "/bin/sleep"

static char base[64], dir[80], file[96];

static void own_mounts(void)
{
	RIG_CHECK(unshare(CLONE_NEWNS) == 0);
	RIG_CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
}

/* ---- watch ---------------------------------------------------------------------------------- */

static void expect_sight(struct rig *rig)
{
	size_t before = rig->count;
	int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

	RIG_CHECK(fd >= 0);
	close(fd);
	RIG_CHECK(unlink(file) == 0);
	RIG_CHECK(rig_until(rig, FIRED, (uint32_t)getpid(), before + 2));
	RIG_CHECK(rig->count == before + 2);
}

static void expect_rearmed(struct rig *rig, uint64_t occasions)
{
	RIG_CHECK(rig_until_stat(rig, "rearmed", occasions));
	rig_pump(rig, 0);
	RIG_CHECK(rig_stat(rig, "rearmed") == occasions);
	RIG_CHECK(rig_dropped(rig, CELLOS_DROP_OVERFLOW) == occasions);
}

/* Nothing of ours holds a mount, but for the moment of a look at what is in it. */
static void unmount(const char *where)
{
	uint64_t deadline = rig_now() + RIG_STOP_NS;
	int result;

	while ((result = umount(where)) < 0 && errno == EBUSY && rig_now() < deadline)
		sched_yield();
	RIG_CHECK(result == 0);
}

static void watch_over_mounts(void)
{
	struct cellos_probe_options options = rig_options();
	const char *path = dir;
	struct rig rig;

	own_mounts();
	RIG_CHECK(mkdir(dir, 0755) == 0);
	options.watch_paths = &path;
	options.watch_path_count = 1;
	rig_init(&rig, &cellos_probe_watch, &options, 4096);
	rig_arm(&rig);
	rig_start(&rig);
	expect_sight(&rig);
	RIG_CHECK(mount("none", dir, "tmpfs", 0, NULL) == 0); /* no record tells of this */
	expect_rearmed(&rig, 1);
	RIG_CHECK(rig.count == 3);
	expect_sight(&rig);
	unmount(dir);
	expect_rearmed(&rig, 2);
	RIG_CHECK(rig.count == 6);
	expect_sight(&rig);
	/* The same directory mounted on itself is the same inode: nothing was missed. */
	RIG_CHECK(mount(dir, dir, NULL, MS_BIND, NULL) == 0);
	expect_sight(&rig);
	expect_rearmed(&rig, 2);
	unmount(dir);
	rig_free(&rig);
	RIG_CHECK(rmdir(dir) == 0);
}

/* A leak checker that runs at exit wants to see its own threads there. */
static void own_proc(void)
{
	RIG_CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
}

/* ---- process -------------------------------------------------------------------------------- */

static void expect_child_seen(struct rig *rig)
{
	pid_t child = rig_spawn(SLEEP, "1000");

	RIG_CHECK(rig_until(rig, CELLOS_SOURCE_PROCESS_SPAWNED, (uint32_t)child, 1));
	rig_kill(child);
	rig_reap(child);
	RIG_CHECK(rig_until(rig, CELLOS_SOURCE_PROCESS_EXITED, (uint32_t)child, 1));
}

static void arm_process(struct rig *rig, const char *root)
{
	struct cellos_probe_options options = rig_options();

	rig_init(rig, &cellos_probe_process, &options, 4096);
	((struct process_state *)rig->state)->root = root;
	rig_arm(rig);
}

static void expect_failed(const struct rig *rig, const char *why)
{
	RIG_CHECK(!rig->status.armed && rig->status.failed);
	RIG_CHECK(strcmp(rig->status.surface, "none") == 0);
	if (strstr(rig->status.why, why) == NULL)
		fprintf(stderr, "why: %s\n", rig->status.why);
	RIG_CHECK(strstr(rig->status.why, why) != NULL);
	RIG_CHECK(rig_dropped(rig, CELLOS_DROP_OVERFLOW) == 1);
}

static void process_before_proc(void)
{
	struct rig rig;

	own_mounts();
	RIG_CHECK(umount2("/proc", MNT_DETACH) == 0);
	arm_process(&rig, NULL);
	expect_failed(&rig, "/proc is not mounted");
	rig_start(&rig);
	RIG_CHECK(mount("proc", "/proc", "proc", 0, NULL) == 0);
	RIG_CHECK(rig_until_stat(&rig, "walks", 1));
	expect_child_seen(&rig);
	/* Taken away under it: the walker holds on to what it has. */
	RIG_CHECK(umount2("/proc", MNT_DETACH) == 0);
	expect_child_seen(&rig);
	RIG_CHECK(rig_dropped(&rig, CELLOS_DROP_OVERFLOW) == 1);
	rig_free(&rig);
	own_proc();
}

/* The first process of a new PID namespace, with the /proc of the old one. */
static void process_of_another_namespace(void)
{
	struct rig rig;

	arm_process(&rig, NULL);
	expect_failed(&rig, "/proc shows another PID namespace");
	rig_free(&rig);
}

/* Number 2 or later there, and nobody in particular. */
static void process_hidden(void)
{
	struct rig rig;

	RIG_CHECK(setegid(65534) == 0 && seteuid(65534) == 0);
	arm_process(&rig, dir);
	RIG_CHECK(seteuid(0) == 0 && setegid(0) == 0);
	expect_failed(&rig, "hidepid");
	rig_free(&rig);
}

static void in_child(void (*body)(void))
{
	int status;
	pid_t pid = fork();

	RIG_CHECK(pid >= 0);
	if (pid == 0) {
		body();
		exit(0);
	}
	RIG_CHECK(waitpid(pid, &status, 0) == pid);
	RIG_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void first_of_a_namespace(void)
{
	process_of_another_namespace();
	own_proc();
	RIG_CHECK(mkdir(dir, 0755) == 0);
	RIG_CHECK(mount("proc", dir, "proc", 0, "hidepid=2") == 0);
	in_child(process_hidden);
	RIG_CHECK(umount(dir) == 0 && rmdir(dir) == 0);
}

static void in_new_pid_namespace(void)
{
	own_mounts();
	RIG_CHECK(unshare(CLONE_NEWPID) == 0);
	in_child(first_of_a_namespace);
	/* With its first process the namespace is closed: a leak checker could start no helper. */
	_exit(0);
}

static void may_unshare(void)
{
	_exit(unshare(CLONE_NEWNS | CLONE_NEWPID) == 0 ? 0 : 1);
}

int main(void)
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		may_unshare();
	RIG_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
	if (status != 0)
		cellos_test_skip("mount and PID namespaces need CAP_SYS_ADMIN");
	rig_temp_dir(base);
	RIG_CHECK(chmod(base, 0755) == 0); /* nobody in particular passes through, too */
	snprintf(dir, sizeof(dir), "%s/d", base);
	snprintf(file, sizeof(file), "%s/f", dir);
	in_child(watch_over_mounts);
	in_child(process_before_proc);
	in_child(in_new_pid_namespace);
	RIG_CHECK(rmdir(base) == 0);
	return 0;
}
