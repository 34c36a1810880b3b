/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The third wall: a mount tree of the workload's own, with what uid 0 could use without any
 * capability read-only, covered or absent.
 *
 * Threads: the child's one, in the new mount namespace, before the capabilities go. Refuses to:
 * touch the caller's tree; everything is made private first.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "inside.h"

#define HARMLESS (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static int do_mount(const char *what, const char *where, const char *type, unsigned long flags,
		    const char *data)
{
	return mount(what, where, type, flags, data) < 0 ? -errno : 0;
}

/* Whatever the caller had there, and what is mounted below it. */
static int fresh_folder(const char *path)
{
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return -errno;
	while (umount2(path, MNT_DETACH) == 0)
		;
	return 0;
}

/* ---- root ----------------------------------------------------------------------------------- */

/*
 * The new root becomes "/" and the old one is gone from the namespace. An initramfs cannot be
 * unmounted: there the new root covers it, and ".." ends at the cover.
 */
static int change_root(const char *root)
{
	int status = do_mount(root, root, NULL, MS_BIND | MS_REC, NULL);

	if (status == 0 && chdir(root) < 0)
		status = -errno;
	if (status < 0)
		return status;
	if (syscall(SYS_pivot_root, ".", ".") == 0)
		return umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ? -errno : 0;
	status = do_mount(".", "/", NULL, MS_MOVE, NULL);
	if (status == 0 && (chroot(".") < 0 || chdir("/") < 0))
		status = -errno;
	return status;
}

/* ---- /proc and /sys ------------------------------------------------------------------------- */

/* -ENOENT is fine: what is not there cannot be used. */
static int make_read_only(const char *path)
{
	int status = do_mount(path, path, NULL, MS_BIND, NULL);

	if (status == 0)
		status = do_mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | HARMLESS,
				  NULL);
	return status == -ENOENT ? 0 : status;
}

static int cover(const char *path)
{
	struct stat about;
	int status;

	if (stat(path, &about) < 0)
		return errno == ENOENT ? 0 : -errno;
	if (S_ISDIR(about.st_mode))
		return do_mount("none", path, "tmpfs", MS_RDONLY | HARMLESS, "size=0,mode=000");
	status = do_mount("/dev/null", path, NULL, MS_BIND, NULL);
	if (status == 0)
		status = do_mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | HARMLESS,
				  NULL);
	return status;
}

/* As OCI runtimes do. */
static const char *const read_only[] = {
	"/proc/sys", "/proc/sysrq-trigger", "/proc/irq",          "/proc/bus",
	"/proc/fs",  "/proc/pressure",      "/proc/dynamic_debug"};
static const char *const covered[] = {
	"/proc/kcore",         "/proc/kmsg",          "/proc/keys",           "/proc/key-users",
	"/proc/latency_stats", "/proc/timer_list",    "/proc/sched_debug",    "/proc/acpi",
	"/proc/scsi",          "/proc/asound",        "/proc/kpagecount",     "/proc/kpageflags",
	"/proc/kpagecgroup",   "/proc/vmallocinfo",   "/proc/mtrr",           "/sys/firmware",
	"/sys/kernel/debug",   "/sys/kernel/tracing", "/sys/kernel/security", "/sys/fs/bpf",
};

static int own_proc(const struct cellos_guard_options *options)
{
	/* In the agent's PID namespace nobody shows whom the workload could not trace. What the
	   same user may write there, oom_score_adj first of all, asks for no more than the user. */
	const char *data = options->layout == CELLOS_GUARD_SHARED ? "hidepid=ptraceable" : NULL;
	int status = fresh_folder("/proc"), said;

	if (status == 0)
		status = do_mount("proc", "/proc", "proc", HARMLESS, data);
	if (status < 0)
		return guard_missing(options, status, "cannot mount /proc: %s", strerror(-status));
	for (size_t i = 0; i < sizeof(read_only) / sizeof(read_only[0]); i++) {
		status = make_read_only(read_only[i]);
		if (status < 0 &&
		    (said = guard_missing(options, status, "cannot make %s read-only: %s",
					  read_only[i], strerror(-status))) < 0)
			return said;
	}
	return 0;
}

static int own_sys(const struct cellos_guard_options *options)
{
	int status = fresh_folder("/sys");

	if (status == 0)
		status = do_mount("sysfs", "/sys", "sysfs", MS_RDONLY | HARMLESS, NULL);
	if (status < 0)
		return guard_missing(options, status, "cannot mount /sys: %s", strerror(-status));
	/* Programs look there for their limits; a kernel without it shows an empty folder. */
	(void)do_mount("cgroup2", "/sys/fs/cgroup", "cgroup2", MS_RDONLY | HARMLESS, NULL);
	return 0;
}

static int cover_all(const struct cellos_guard_options *options)
{
	for (size_t i = 0; i < sizeof(covered) / sizeof(covered[0]); i++) {
		int status = cover(covered[i]), said;

		if (status < 0 && (said = guard_missing(options, status, "cannot cover %s: %s",
							covered[i], strerror(-status))) < 0)
			return said;
	}
	return 0;
}

/* ---- /dev ----------------------------------------------------------------------------------- */

static const struct device {
	const char *path;
	unsigned major, minor;
} devices[] = {
	{"/dev/null", 1, 3},   {"/dev/zero", 1, 5},    {"/dev/full", 1, 7},
	{"/dev/random", 1, 8}, {"/dev/urandom", 1, 9}, {"/dev/tty", 5, 0},
};

static const struct link {
	const char *path, *to;
} links[] = {
	{"/dev/ptmx", "pts/ptmx"},          {"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},  {"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
};

static int make_nodes(void)
{
	const mode_t before = umask(0);
	int status = 0;

	for (size_t i = 0; status == 0 && i < sizeof(devices) / sizeof(devices[0]); i++)
		if (mknod(devices[i].path, S_IFCHR | 0666,
			  makedev(devices[i].major, devices[i].minor)) < 0)
			status = -errno;
	for (size_t i = 0; status == 0 && i < sizeof(links) / sizeof(links[0]); i++)
		if (symlink(links[i].to, links[i].path) < 0)
			status = -errno;
	if (status == 0 && (mkdir("/dev/pts", 0755) < 0 || mkdir("/dev/shm", 01777) < 0))
		status = -errno;
	umask(before);
	return status;
}

static int own_devices(const struct cellos_guard_options *options)
{
	int status = fresh_folder("/dev");

	if (status == 0)
		status = do_mount("dev", "/dev", "tmpfs", MS_NOSUID | MS_NOEXEC,
				  "size=64k,mode=755");
	if (status == 0)
		status = make_nodes();
	if (status == 0)
		status = do_mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC,
				  "newinstance,ptmxmode=0666,mode=0620,gid=5");
	if (status == 0)
		status = do_mount("shm", "/dev/shm", "tmpfs", HARMLESS, "mode=1777,size=50%");
	if (status < 0)
		return guard_missing(options, status, "cannot make a /dev: %s", strerror(-status));
	return 0;
}

int guard_own_mounts(const struct cellos_guard_options *options)
{
	int status = do_mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL);

	/* The rest would change the caller's. */
	if (status < 0)
		return guard_missing(options, status, "cannot make a mount tree: %s",
				     strerror(-status));
	/* In this cgroup already: the namespace's root is here, and nothing above it has a name. */
	if (unshare(CLONE_NEWCGROUP) < 0)
		status = guard_missing(options, -errno, "cannot make a cgroup namespace: %s",
				       strerror(errno));
	if (status == 0 && options->root != NULL && (status = change_root(options->root)) < 0)
		status = guard_missing(options, status, "cannot change to root %s: %s",
				       options->root, strerror(-status));
	/* Also in the caller's root, when it has to be that one. */
	if (status < 0 || (status = own_proc(options)) < 0 || (status = own_sys(options)) < 0 ||
	    (status = own_devices(options)) < 0)
		return status;
	return cover_all(options);
}
