/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * System calls that see or change more than their caller: namespaces, mounts, BPF, keys, modules,
 * the machine. One thread.
 */
#include "attack.h"

#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/fanotify.h>
#include <linux/mount.h>
#include <linux/sched.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/io.h>
#include <sys/ioctl.h>
#include <sys/klog.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timex.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- namespaces -------------------------------------------------------------------------------
 */

static int do_unshare(void)
{
	return outcome(unshare(CLONE_NEWNS));
}

static int do_unshare_user(void)
{
	return outcome(unshare(CLONE_NEWUSER));
}

static int do_setns(void)
{
	int fd = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);

	return fd < 0 ? errno : outcome(setns(fd, CLONE_NEWNET));
}

static int clone_with(unsigned long flags)
{
	long pid = syscall(SYS_clone, flags | SIGCHLD, 0L, 0L, 0L, 0L);

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		(void)waitpid((pid_t)pid, NULL, 0);
	return outcome(pid);
}

static int do_clone(void)
{
	return clone_with(CLONE_NEWPID);
}

static int do_clone_high_bit(void)
{
	return clone_with((unsigned long)HIGH_BIT | CLONE_NEWNET);
}

static int do_clone_user(void)
{
	return clone_with(CLONE_NEWUSER);
}

static int do_clone3(void)
{
	struct clone_args arguments = {.flags = CLONE_NEWUSER, .exit_signal = SIGCHLD};
	long pid = syscall(SYS_clone3, &arguments, sizeof(arguments));

	if (pid == 0)
		_exit(0);
	if (pid > 0)
		(void)waitpid((pid_t)pid, NULL, 0);
	return outcome(pid);
}

/* ---- mounts -----------------------------------------------------------------------------------
 */

static int do_mount(void)
{
	int result = outcome(mount("none", "/tmp", "tmpfs", 0, NULL));

	(void)umount2("/tmp", MNT_DETACH);
	return result;
}

static int do_remount(void)
{
	int result = outcome(mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND, NULL));

	(void)mount(NULL, "/proc", NULL, MS_REMOUNT | MS_BIND | MS_NOSUID, NULL);
	return result;
}

static int do_umount(void)
{
	int result = outcome(umount2("/tmp", MNT_DETACH));

	return result == EINVAL ? WORKED : result; /* only no mount point */
}

static int do_fsopen(void)
{
	return outcome(syscall(SYS_fsopen, "proc", 0L));
}

static int do_open_tree(void)
{
	return outcome(syscall(SYS_open_tree, AT_FDCWD, "/", OPEN_TREE_CLONE));
}

static int do_mount_setattr(void)
{
	struct mount_attr none = {0};

	return outcome(
		syscall(SYS_mount_setattr, AT_FDCWD, "/proc", 0L, &none, (long)sizeof(none)));
}

static int do_pivot_root(void)
{
	int result = outcome(syscall(SYS_pivot_root, "/tmp", "/tmp"));

	return result == EBUSY || result == EINVAL ? WORKED : result; /* only no mount point */
}

static int do_handle(void)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} name = {.handle.handle_bytes = MAX_HANDLE_SZ};
	int mount_id, top = open("/tmp", O_RDONLY | O_CLOEXEC);

	if (name_to_handle_at(AT_FDCWD, "/tmp", &name.handle, &mount_id, 0) < 0)
		return errno == EOPNOTSUPP ? ABSENT : errno;
	return outcome(open_by_handle_at(top, &name.handle, O_RDONLY));
}

/* ---- the kernel's insides ---------------------------------------------------------------------
 */

static int do_bpf_map(void)
{
	union bpf_attr map = {
		.map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 4, .max_entries = 1};

	return outcome(syscall(SYS_bpf, BPF_MAP_CREATE, &map, sizeof(map)));
}

/* The probes' programs are found by counting, and let go. */
static int do_bpf_detach(void)
{
	union bpf_attr next = {.start_id = 0};
	union bpf_attr by = {0};
	int fd;

	if (syscall(SYS_bpf, BPF_LINK_GET_NEXT_ID, &next, sizeof(next)) < 0)
		return errno == ENOENT ? ABSENT : errno;
	by.link_id = next.next_id;
	fd = (int)syscall(SYS_bpf, BPF_LINK_GET_FD_BY_ID, &by, sizeof(by));
	return outcome(fd); /* BPF_LINK_DETACH takes it from here */
}

static int do_keyctl(void)
{
	return outcome(syscall(SYS_keyctl, 0L /* get the id of */, -3L /* the session's */, 0L));
}

static int do_add_key(void)
{
	return outcome(syscall(SYS_add_key, "user", "cellos", "x", 1L, -2L));
}

static int do_userfault(void)
{
	return outcome(syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY));
}

/* Reports are what needs no capability. */
static int do_fanotify(void)
{
	return outcome(syscall(SYS_fanotify_init, FAN_CLASS_NOTIF | FAN_REPORT_FID, O_RDONLY));
}

static int do_init_module(void)
{
	int result = outcome(syscall(SYS_init_module, "", 0L, ""));

	return result == ENOEXEC ? WORKED : result; /* only its content was wrong */
}

static int do_finit_module(void)
{
	int result = outcome(syscall(SYS_finit_module, -1, "", 0));

	return result == EBADF ? WORKED : result;
}

static int do_delete_module(void)
{
	int result = outcome(syscall(SYS_delete_module, "no_such", O_NONBLOCK));

	return result == ENOENT ? WORKED : result;
}

static int do_kexec(void)
{
	int result = outcome(syscall(SYS_kexec_load, 0L, 0L, NULL, 0L)); /* none: unload */

	return result == ENOSYS ? ABSENT : result;
}

static int do_kexec_file(void)
{
	int result = outcome(syscall(SYS_kexec_file_load, -1, -1, 0L, NULL, 4L /* no initrd */));

	return result == EBADF ? WORKED : result;
}

static int do_iopl(void)
{
	return outcome(iopl(3));
}

static int do_ioperm(void)
{
	return outcome(ioperm(0x3f8, 8, 1));
}

static int do_syslog(void)
{
	return outcome(klogctl(5 /* clear */, NULL, 0));
}

static int do_acct(void)
{
	return outcome(acct(NULL));
}

static int do_swap(void)
{
	int result = outcome(swapoff("/tmp"));

	return result == EINVAL || result == EISDIR ? WORKED : result; /* only not a swap */
}

static int do_settimeofday(void)
{
	struct timeval now;

	gettimeofday(&now, NULL);
	return outcome(settimeofday(&now, NULL));
}

static int do_clock_settime(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return outcome(clock_settime(CLOCK_REALTIME, &now));
}

static int do_adjtime(void)
{
	struct timex none = {.modes = ADJ_STATUS, .status = STA_UNSYNC};

	return adjtimex(&none) < 0 ? errno : WORKED;
}

static int do_hostname(void)
{
	return outcome(sethostname("cellos", 6));
}

/* In a session whose terminal is one of our own: what happens to it harms nobody. */
static int on_own_terminal(long (*call)(int terminal))
{
	int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC), slave = -1, status;
	char name[64];

	if (fork() != 0) /* no leader of a group: it may begin a session */
		return wait(&status) < 0 ? errno : WIFEXITED(status) ? WEXITSTATUS(status) : EPROTO;
	signal(SIGHUP, SIG_IGN);
	if (setsid() >= 0 && master >= 0 && unlockpt(master) == 0 &&
	    ptsname_r(master, name, sizeof(name)) == 0)
		slave = open(name, O_RDWR | O_CLOEXEC);
	_exit(slave < 0 ? errno : outcome(call(slave)));
}

/* What is typed into a terminal is read by whoever reads it next. */
static long type_into(int terminal)
{
	return syscall(SYS_ioctl, terminal, (long)TIOCSTI, "x");
}

static long type_into_high_bit(int terminal)
{
	return syscall(SYS_ioctl, terminal, HIGH_BIT | TIOCSTI, "x");
}

static long hang_up(int terminal)
{
	(void)terminal;
	return vhangup();
}

static int do_tiocsti(void)
{
	return on_own_terminal(type_into);
}

static int do_tiocsti_high_bit(void)
{
	return on_own_terminal(type_into_high_bit);
}

static int do_vhangup(void)
{
	return on_own_terminal(hang_up);
}

/* A tracer changes what its child calls, behind the filter's back. */
static int do_changed_call(void)
{
	pid_t child = fork();
	struct user_regs_struct registers;
	int status, result = EPROTO;

	if (child == 0) {
		(void)ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(syscall(SYS_getppid, UFFD_USER_MODE_ONLY) >= 0 ? 0 : errno);
	}
	if (waitpid(child, &status, 0) != child || !WIFSTOPPED(status))
		return EPROTO;
	while (ptrace(PTRACE_SYSCALL, child, NULL, NULL) == 0 &&
	       waitpid(child, &status, 0) == child && WIFSTOPPED(status)) {
		(void)ptrace(PTRACE_GETREGS, child, NULL, &registers);
		if (registers.orig_rax != SYS_getppid)
			continue;
		registers.orig_rax = SYS_userfaultfd;
		(void)ptrace(PTRACE_SETREGS, child, NULL, &registers);
	}
	if (WIFEXITED(status))
		result = WEXITSTATUS(status);
	return result;
}

/* ---- capabilities -----------------------------------------------------------------------------
 */

static int do_regain(void)
{
	/* Root's programs start with what the bounding set holds. */
	return prctl(PR_CAPBSET_READ, 21 /* CAP_SYS_ADMIN */) == 1 ? WORKED : EPERM;
}

static int do_raise_ambient(void)
{
	return outcome(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 12 /* NET_ADMIN */, 0, 0)) ==
			       WORKED
		       ? WORKED
	       : prctl(PR_CAPBSET_READ, 12) == 1 ? WORKED
						 : EPERM;
}

static int do_file_capability(void)
{
	/* VFS_CAP_REVISION_2, effective, all of the first 32 permitted. */
	static const unsigned value[5] = {0x02000001, 0xffffffff, 0, 0, 0};
	int fd = open("/tmp/capable", O_WRONLY | O_CREAT | O_CLOEXEC, 0755), result;

	close(fd);
	result = outcome(syscall(SYS_setxattr, "/tmp/capable", "security.capability", value,
				 (long)sizeof(value), 0L));
	(void)unlink("/tmp/capable");
	return result == EOPNOTSUPP ? ABSENT : result;
}

static int do_shared_memory(void)
{
	return outcome(shmget(ATTACK_SHM_KEY, 0, 0));
}

const struct attack attacks_calls[] = {
	{"unshare", "C S", "C S", do_unshare, "unshare(CLONE_NEWNS)"},
	{"unshare-user", "H S", "H S", do_unshare_user, "unshare(CLONE_NEWUSER)"},
	{"setns", "C S", "C S", do_setns, "setns"},
	{"clone", "C S", "C S", do_clone, "clone(CLONE_NEWPID)"},
	{"clone-high", "C S", "C S", do_clone_high_bit, "clone with bit 32 set"},
	{"clone-user", "H S", "H S", do_clone_user, "clone(CLONE_NEWUSER)"},
	{"clone3", "H S", "H S", do_clone3, "clone3(CLONE_NEWUSER)"},
	{"mount", "C S", "C S", do_mount, "mount"},
	{"remount", "C S", "C S", do_remount, "mount: read-write again"},
	{"umount", "C S", "C S", do_umount, "umount2"},
	{"fsopen", "C S", "C S", do_fsopen, "fsopen"},
	{"open-tree", "C S", "C S", do_open_tree, "open_tree"},
	{"mount-setattr", "C S", "C S", do_mount_setattr, "mount_setattr"},
	{"pivot-root", "C S", "C S", do_pivot_root, "pivot_root"},
	{"handle", "C S", "C S", do_handle, "open_by_handle_at"},
	{"bpf", "C S", "C S", do_bpf_map, "bpf"},
	{"bpf-detach", "C S", "C S", do_bpf_detach, "take hold of the probes' BPF links"},
	{"keyctl", "S", "S", do_keyctl, "keyctl"},
	{"add-key", "S", "S", do_add_key, "add_key"},
	{"userfaultfd", "S", "S", do_userfault, "userfaultfd"},
	{"changed-call", "S", "S", do_changed_call, "a tracer changes the call's number"},
	{"fanotify", "S", "S", do_fanotify, "fanotify_init"},
	{"init-module", "C S", "C S", do_init_module, "init_module"},
	{"finit-module", "C S", "C S", do_finit_module, "finit_module"},
	{"delete-module", "C S", "C S", do_delete_module, "delete_module"},
	{"kexec", "C S", "C S", do_kexec, "kexec_load"},
	{"kexec-file", "C S", "C S", do_kexec_file, "kexec_file_load"},
	{"iopl", "C S", "C S", do_iopl, "iopl"},
	{"ioperm", "C S", "C S", do_ioperm, "ioperm"},
	{"syslog", "C S", "C S", do_syslog, "clear the kernel's log"},
	{"acct", "C S", "C S", do_acct, "acct"},
	{"swap", "C S", "C S", do_swap, "swapoff"},
	{"settimeofday", "C S", "C S", do_settimeofday, "settimeofday"},
	{"clock-settime", "C S", "C S", do_clock_settime, "clock_settime"},
	{"adjtime", "C", "C", do_adjtime, "adjtimex"},
	{"vhangup", "C S", "C S", do_vhangup, "vhangup"},
	{"hostname", "C", "C", do_hostname, "sethostname"},
	{"tiocsti", "S", "S", do_tiocsti, "TIOCSTI"},
	{"tiocsti-high", "S", "S", do_tiocsti_high_bit, "TIOCSTI with bit 32 set"},
	{"regain", "C", "C", do_regain, "capabilities by exec"},
	{"ambient", "C", "C", do_raise_ambient, "ambient capabilities"},
	{"file-capability", "C", "C", do_file_capability, "capabilities on a file"},
	{"shared-memory", "N", "N", do_shared_memory, "System V memory of init's"},
	{0},
};
