/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See audit_record.h. */
#include "audit_record.h"

#include <errno.h>
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

/* Programs of the 32-bit kind number them otherwise. Of those any EPERM is taken, and EACCES from
   bind (or socketcall), seccomp and setpriority. */
#ifdef __x86_64__
#define OUR_ARCH AUDIT_ARCH_X86_64
#define COMPAT_ARCH AUDIT_ARCH_I386
static const uint16_t compat_access[] = {361, 102, 354, 97};
#else
#define OUR_ARCH AUDIT_ARCH_AARCH64
#define COMPAT_ARCH AUDIT_ARCH_ARM
static const uint16_t compat_access[] = {282, 102, 383, 97};
#endif

static void match_syscall(struct audit_rule_data *rule, unsigned number)
{
	rule->mask[AUDIT_WORD(number)] |= AUDIT_BIT(number);
}

static void add_field(struct audit_rule_data *rule, uint32_t field, uint32_t op, uint32_t value)
{
	rule->fields[rule->field_count] = field;
	rule->fieldflags[rule->field_count] = op;
	rule->values[rule->field_count++] = value;
}

static void match(struct audit_rule_data *rule, const uint16_t *numbers, size_t count)
{
	for (size_t at = 0; at < count; at++)
		match_syscall(rule, numbers[at]);
}

static void refused_calls(struct audit_rule_data *rule, uint32_t arch, int error)
{
	rule->flags = AUDIT_FILTER_EXIT;
	rule->action = AUDIT_ALWAYS;
	add_field(rule, AUDIT_ARCH, AUDIT_EQUAL, arch);
	add_field(rule, AUDIT_EXIT, AUDIT_EQUAL, (uint32_t)-error);
	add_field(rule, AUDIT_FILTERKEY, AUDIT_EQUAL, sizeof(AUDIT_RULE_KEY) - 1);
	rule->buflen = sizeof(AUDIT_RULE_KEY) - 1;
	memcpy(rule->buf, AUDIT_RULE_KEY, sizeof(AUDIT_RULE_KEY) - 1);
}

/* The companions of such a record (path, directory, title, end) would cost a message each, and one
   lost would count as a denial. What remains: the record, and what the agent sends to itself. */
static void exclude_the_rest(struct audit_rule_data *rule)
{
	rule->flags = AUDIT_FILTER_EXCLUDE;
	rule->action = AUDIT_ALWAYS;
	add_field(rule, AUDIT_MSGTYPE, AUDIT_NOT_EQUAL, AUDIT_SYSCALL);
	add_field(rule, AUDIT_MSGTYPE, AUDIT_NOT_EQUAL, AUDIT_USER);
}

bool cellos_audit_rule(unsigned at, struct audit_rule_data *rule)
{
	memset(rule, 0, AUDIT_RULE_BYTES);
	switch (at) {
	case 0:
		exclude_the_rest(rule);
		return true;
	case 1:
	case 2:
		refused_calls(rule, OUR_ARCH, at == 1 ? EPERM : EACCES);
		match(rule, privileged, sizeof(privileged) / sizeof(privileged[0]));
		return true;
	case 3:
		refused_calls(rule, COMPAT_ARCH, EPERM);
		memset(rule->mask, 0xFF, sizeof(rule->mask));
		return true;
	case 4:
		refused_calls(rule, COMPAT_ARCH, EACCES);
		match(rule, compat_access, sizeof(compat_access) / sizeof(compat_access[0]));
		return true;
	default:
		return false;
	}
}

/* ---- records -------------------------------------------------------------------------------- */

struct text {
	const char *at, *end;
};

static bool take_literal(struct text *text, const char *literal)
{
	size_t length = strlen(literal);

	if ((size_t)(text->end - text->at) < length || memcmp(text->at, literal, length) != 0)
		return false;
	text->at += length;
	return true;
}

/* At most `limit`; at least one digit. */
static bool take_number(struct text *text, uint64_t limit, uint64_t *number)
{
	const char *const begin = text->at;

	*number = 0;
	for (; text->at < text->end && *text->at >= '0' && *text->at <= '9'; text->at++) {
		uint64_t digit = (uint64_t)(*text->at - '0');

		if (*number > (limit - digit) / 10)
			return false;
		*number = *number * 10 + digit;
	}
	return text->at > begin;
}

/* "audit(<seconds>.<milliseconds>:<serial>): " */
static bool take_stamp(struct text *text, uint64_t *wall_ms)
{
	uint64_t seconds, milliseconds, serial;

	if (!take_literal(text, "audit(") || !take_number(text, UINT64_MAX / 2000, &seconds) ||
	    !take_literal(text, ".") || !take_number(text, 999, &milliseconds) ||
	    !take_literal(text, ":") || !take_number(text, UINT64_MAX, &serial) ||
	    !take_literal(text, "): "))
		return false;
	*wall_ms = seconds * 1000 + milliseconds;
	return true;
}

/* Moves behind the next "<name>=" that begins a word. The kernel writes what a process may have
   chosen without spaces, so no such value can pass for a word of its own. */
static bool find_value(struct text *text, const char *name)
{
	while (text->at < text->end) {
		struct text word = *text;
		const char *space;

		if (take_literal(&word, name) && take_literal(&word, "=")) {
			*text = word;
			return true;
		}
		space = memchr(text->at, ' ', (size_t)(text->end - text->at));
		text->at = space != NULL ? space + 1 : text->end;
	}
	return false;
}

static bool find_number(struct text *text, const char *name, uint64_t limit, uint64_t *number)
{
	return find_value(text, name) && take_number(text, limit, number);
}

static int hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return digit >= 'A' && digit <= 'F' ? digit - 'A' + 10 : -1;
}

/* "name", or in hexadecimal when it holds a quote, a space or worse. */
static bool take_comm(struct text *text, struct audit_denial *denial)
{
	const bool quoted = take_literal(text, "\"");
	size_t length = 0;

	while (text->at < text->end && *text->at != ' ' && *text->at != '"') {
		int high, low;

		if (length == sizeof(denial->comm) - 1)
			return false;
		if (quoted) {
			denial->comm[length++] = *text->at++;
			continue;
		}
		high = hex_digit(text->at[0]);
		low = text->end - text->at > 1 ? hex_digit(text->at[1]) : -1;
		if (high < 0 || low < 0)
			return false;
		denial->comm[length++] = (char)(high << 4 | low);
		text->at += 2;
	}
	denial->comm_len = (uint8_t)length;
	return !quoted || take_literal(text, "\"");
}

/* The last word: what a security module puts before it is not the kernel's own. */
static bool ends_in_our_key(const struct text *text)
{
	static const char key[] = " key=\"" AUDIT_RULE_KEY "\"";
	const char *end = text->end;

	while (end > text->at && (end[-1] == '\0' || end[-1] == '\n'))
		end--;
	return (size_t)(end - text->at) >= sizeof(key) - 1 &&
	       memcmp(end - (sizeof(key) - 1), key, sizeof(key) - 1) == 0;
}

int cellos_audit_parse(const char *text, size_t length, struct audit_denial *denial)
{
	struct text rest = {text, text + length};
	uint64_t syscall, pid, error;

	*denial = (struct audit_denial){0};
	if (!take_stamp(&rest, &denial->wall_ms) ||
	    !find_number(&rest, "syscall", UINT32_MAX, &syscall) || !find_value(&rest, "success"))
		return -EBADMSG;
	if (!take_literal(&rest, "no ") || !ends_in_our_key(&rest))
		return 0;
	if (!find_value(&rest, "exit") || !take_literal(&rest, "-") ||
	    !take_number(&rest, UINT32_MAX, &error) ||
	    !find_number(&rest, "pid", UINT32_MAX, &pid) || !find_value(&rest, "comm") ||
	    !take_comm(&rest, denial))
		return -EBADMSG;
	denial->syscall = (uint32_t)syscall;
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
