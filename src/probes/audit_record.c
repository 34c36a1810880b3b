/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What goes to and comes from the kernel's audit, as data: rules that make it report refused
 * privileged system calls, and the text of such a report; see capability.h.
 *
 * Threads: pure functions over the caller's memory. Invariant: whatever the text, a denial handed
 * out has every member set. Refuses to: take a record that our rules did not cause; talk to the
 * kernel.
 */
#include "capability.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>

/* ---- rules ---------------------------------------------------------------------------------- */

/* Those that fail for want of a privilege, hardly ever for anything else. Not open and its kin: a
   file that one may not read is daily business. */
/* clang-format off */
static const uint16_t privileged[] = {
	SYS_acct, SYS_adjtimex, SYS_bind, SYS_bpf, SYS_capset, SYS_chroot, SYS_clock_adjtime,
	SYS_clock_settime, SYS_clone, SYS_clone3, SYS_delete_module, SYS_fanotify_init, SYS_fchmod,
	SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_finit_module, SYS_fsconfig, SYS_fsmount,
	SYS_fsopen, SYS_fspick, SYS_init_module, SYS_ioctl, SYS_ioprio_set, SYS_kexec_load,
	SYS_kill, SYS_mknodat, SYS_mlock, SYS_mlockall, SYS_mount, SYS_mount_setattr,
	SYS_move_mount, SYS_open_by_handle_at, SYS_open_tree, SYS_perf_event_open,
	SYS_pidfd_send_signal, SYS_pivot_root, SYS_prctl, SYS_prlimit64, SYS_process_vm_readv,
	SYS_process_vm_writev, SYS_ptrace, SYS_quotactl, SYS_reboot, SYS_rt_sigqueueinfo,
	SYS_rt_tgsigqueueinfo, SYS_sched_setaffinity, SYS_sched_setattr, SYS_sched_setparam,
	SYS_sched_setscheduler, SYS_seccomp, SYS_setdomainname, SYS_setgid, SYS_setgroups,
	SYS_sethostname, SYS_setns, SYS_setpriority, SYS_setregid, SYS_setresgid, SYS_setresuid,
	SYS_setreuid, SYS_setsockopt, SYS_settimeofday, SYS_setuid, SYS_setxattr, SYS_socket,
	SYS_swapoff, SYS_swapon, SYS_syslog, SYS_tgkill, SYS_tkill, SYS_umount2, SYS_unshare,
	SYS_userfaultfd, SYS_vhangup,
#ifdef __x86_64__
	SYS_chmod, SYS_chown, SYS_ioperm, SYS_iopl, SYS_lchown, SYS_mknod,
#endif
};
/* clang-format on */
#define PRIVILEGED (sizeof(privileged) / sizeof(privileged[0]))

#ifdef __x86_64__
#define OUR_ARCH AUDIT_ARCH_X86_64
#else
#define OUR_ARCH AUDIT_ARCH_AARCH64
#endif

static void add_field(struct audit_rule_data *rule, uint32_t field, uint32_t op, uint32_t value)
{
	rule->fields[rule->field_count] = field;
	rule->fieldflags[rule->field_count] = op;
	rule->values[rule->field_count++] = value;
}

void cellos_audit_rule(unsigned at, union audit_rule *rule)
{
	struct audit_rule_data *data = &rule->data;
	/* Programs of the 32-bit kind number the calls otherwise: of those, any. */
	const bool other = at == 3;
	const int error = at == 2 ? EACCES : EPERM;

	memset(rule, 0, sizeof(*rule));
	data->action = AUDIT_ALWAYS;
	/* The companions of a record (path, directory, title, end) would cost a message each, and
	   one lost would count as a denial. */
	if (at == 0) {
		data->flags = AUDIT_FILTER_EXCLUDE;
		add_field(data, AUDIT_MSGTYPE, AUDIT_NOT_EQUAL, AUDIT_SYSCALL);
		return;
	}
	data->flags = AUDIT_FILTER_EXIT;
	add_field(data, AUDIT_ARCH, other ? AUDIT_NOT_EQUAL : AUDIT_EQUAL, OUR_ARCH);
	add_field(data, AUDIT_EXIT, AUDIT_EQUAL, (uint32_t)-error);
	add_field(data, AUDIT_FILTERKEY, AUDIT_EQUAL, sizeof(AUDIT_RULE_KEY) - 1);
	data->buflen = sizeof(AUDIT_RULE_KEY) - 1;
	memcpy(data->buf, AUDIT_RULE_KEY, sizeof(AUDIT_RULE_KEY) - 1);
	memset(data->mask, other ? 0xFF : 0, sizeof(data->mask));
	for (size_t call = 0; !other && call < PRIVILEGED; call++)
		data->mask[AUDIT_WORD(privileged[call])] |= AUDIT_BIT(privileged[call]);
}

/* ---- records -------------------------------------------------------------------------------- */

/* The number between the first `before` and `after`. What a process may have chosen the kernel
   writes without spaces, so no such value can pass for a field: those begin with one. */
static bool number(const char *text, const char *before, char after, uint64_t *value)
{
	const char *begin = strstr(text, before);
	char *end;

	if (begin == NULL)
		return false;
	begin += strlen(before);
	*value = strtoull(begin, &end, 10);
	return *begin >= '0' && *begin <= '9' && *end == after && *value <= UINT32_MAX;
}

/* "name", or in hexadecimal when it holds a quote, a space or worse. */
static bool take_comm(const char *text, struct audit_denial *denial)
{
	const bool quoted = *text == '"';

	for (text += quoted; *text != (quoted ? '"' : ' '); text += quoted ? 1 : 2) {
		const char digits[] = {text[0], text[0] != '\0' ? text[1] : '\0', '\0'};
		char *end;
		const unsigned long byte = strtoul(digits, &end, 16);

		if (*text == '\0' || *text == ' ' || denial->comm_len == sizeof(denial->comm) - 1 ||
		    (!quoted && end != digits + 2))
			return false;
		denial->comm[denial->comm_len++] = quoted ? *text : (char)byte;
	}
	return true;
}

int cellos_audit_parse(const char *text, struct audit_denial *denial)
{
	/* The last word: what a security module puts before it is not the kernel's own. */
	static const char our_key[] = " key=\"" AUDIT_RULE_KEY "\"";
	const size_t length = strcspn(text, "\n"), end = sizeof(our_key) - 1;
	const char *comm = strstr(text, " comm=");
	uint64_t seconds, ms, serial, call, pid, error;

	*denial = (struct audit_denial){0};
	/* "audit(<seconds>.<milliseconds>:<serial>): " */
	if (!number(text, "audit(", '.', &seconds) || !number(text, ".", ':', &ms) || ms > 999 ||
	    !number(text, ":", ')', &serial) || !number(text, " syscall=", ' ', &call))
		return -EBADMSG;
	if (strstr(text, " success=no ") == NULL || length < end ||
	    memcmp(text + length - end, our_key, end) != 0)
		return 0;
	if (!number(text, " exit=-", ' ', &error) || !number(text, " pid=", ' ', &pid) ||
	    comm == NULL || !take_comm(comm + strlen(" comm="), denial))
		return -EBADMSG;
	denial->wall_ms = seconds * 1000 + ms;
	denial->syscall = (uint32_t)call;
	denial->pid = (uint32_t)pid;
	return error == EPERM || error == EACCES;
}

/* ---- folding -------------------------------------------------------------------------------- */

bool cellos_audit_fold(struct audit_fold *fold, const struct audit_denial *denial)
{
	uint64_t key = (uint64_t)denial->pid << 32 | denial->syscall;
	/* Fibonacci hashing: the top bits of the product depend on all bits of the key. */
	size_t at = key * UINT64_C(0x9E3779B97F4A7C15) >> 55;

	_Static_assert(sizeof(fold->places) / sizeof(fold->places[0]) == 1 << 9, "64 - 55 bits");
	/* A clock set back makes the difference huge: reported again. */
	if (fold->places[at].key == key && denial->wall_ms - fold->places[at].since_ms < 1000)
		return true;
	fold->places[at].key = key;
	fold->places[at].since_ms = denial->wall_ms;
	return false;
}
