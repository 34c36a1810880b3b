/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Audit's records and rules as data, no audit needed: recorded messages of Linux 6.1, cut, bent and
 * forged; the rules' bits; the folding of repeats.
 *
 * Threads: the test's. Refuses to: open a netlink socket.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "capability.h"

/* As the kernel sent them, but for the numbers. */
#define STAMP "audit(1763866045.123:456): "
#define BEFORE STAMP "arch=c000003e syscall=170 success=no exit=-1 "
#define ARGS "a0=4c1b60 a1=7 a2=0 a3=8 items=0 ppid=101 "
#define IDS                                                                                        \
	"auid=4294967295 uid=65534 gid=65534 euid=65534 suid=65534 fsuid=65534 egid=65534 "        \
	"sgid=65534 fsgid=65534 tty=(none) ses=4294967295 "
#define AFTER "exe=\"/bin/refused\" subj=unconfined key=\"cellos\""
#define WHOLE BEFORE ARGS "pid=4242 " IDS "comm=\"storm\" " AFTER

static int parse(const char *text, struct audit_denial *denial)
{
	return cellos_audit_parse(text, denial);
}

Test(audit_record, as_recorded)
{
	struct audit_denial denial;

	cr_assert(parse(WHOLE, &denial) == 1);
	cr_assert(denial.wall_ms == 1763866045123);
	cr_assert(denial.pid == 4242 && denial.syscall == 170);
	cr_assert(denial.comm_len == 5);
	cr_assert_str_eq(denial.comm, "storm");
	cr_assert(parse(WHOLE "\n", &denial) == 1);
}

Test(audit_record, names)
{
	static const struct {
		const char *written, *name;
		size_t length;
	} names[] = {
		{"\"a\"", "a", 1},
		{"\"\"", "", 0},
		{"\"fifteen-letters\"", "fifteen-letters", 15},
		{"722022686F737422", "r \"host\"", 8},
		{"0A", "\n", 1},
		{"C3A9FF", "\xC3\xA9\xFF", 3},
		{"303132333435363738394142434445", "0123456789ABCDE", 15},
	};
	struct audit_denial denial;
	char text[1024];

	for (size_t at = 0; at < sizeof(names) / sizeof(names[0]); at++) {
		snprintf(text, sizeof(text), BEFORE "pid=1 comm=%s " AFTER, names[at].written);
		cr_assert(parse(text, &denial) == 1, "%s", names[at].written);
		cr_assert(denial.comm_len == names[at].length);
		cr_assert(memcmp(denial.comm, names[at].name, names[at].length + 1) == 0);
	}
}

Test(audit_record, not_as_the_kernel_writes)
{
	static const char *const bad[] = {
		"",
		"audit",
		"audit(1763866045.123:456)",
		"audit(.123:456): arch=c000003e syscall=1 success=no exit=-1 pid=1 "
		"comm=\"a\" " AFTER,
		"audit(1763866045.1234:456): syscall=1 success=no exit=-1 pid=1 comm=\"a\" " AFTER,
		"audit(99999999999999999999.123:4): syscall=1 success=no exit=-1 pid=1 " AFTER,
		STAMP "arch=c000003e success=no exit=-1 pid=1 comm=\"a\" " AFTER,
		STAMP "syscall=99999999999 success=no exit=-1 pid=1 comm=\"a\" " AFTER,
		STAMP "syscall=-1 success=no exit=-1 pid=1 comm=\"a\" " AFTER,
		STAMP "syscall=1 success=no exit=1 pid=1 comm=\"a\" " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid= comm=\"a\" " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid=4294967296 comm=\"a\" " AFTER,
		STAMP "syscall=1 success=no exit=-1 ppid=1 comm=\"a\" " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid=1 " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid=1 comm=\"a " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid=1 comm=\"sixteen-letters-\" " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid=1 comm=(null) " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid=1 comm=414 " AFTER,
		STAMP "syscall=1 success=no exit=-1 pid=1 comm=41"
		      "4G " AFTER,
		STAMP
		"syscall=1 success=no exit=-1 pid=1 comm=30313233343536373839414243444546 " AFTER,
	};
	struct audit_denial denial;

	for (size_t at = 0; at < sizeof(bad) / sizeof(bad[0]); at++)
		cr_assert(parse(bad[at], &denial) == -EBADMSG, "%zu: %s", at, bad[at]);
}

Test(audit_record, not_ours)
{
	static const char *const others[] = {
		STAMP "arch=c000003e syscall=170 success=yes exit=0 pid=1 comm=\"a\" " AFTER,
		BEFORE "pid=1 comm=\"a\" exe=\"/a\" subj=unconfined key=(null)",
		BEFORE "pid=1 comm=\"a\" exe=\"/a\" subj=unconfined key=\"another\"",
		BEFORE "pid=1 comm=\"a\" exe=\"/a\"",
		/* A label that would pass for our key, before the true one. */
		BEFORE "pid=1 comm=\"a\" subj= key=\"cellos\" key=\"another\"",
		STAMP "syscall=1 success=no exit=-2 pid=1 comm=\"a\" " AFTER,
	};
	struct audit_denial denial;

	for (size_t at = 0; at < sizeof(others) / sizeof(others[0]); at++)
		cr_assert(parse(others[at], &denial) == 0, "%zu", at);
}

/* What a process may choose comes quoted or in hexadecimal: it forges no field. */
Test(audit_record, no_field_is_forged)
{
	struct audit_denial denial;

	cr_assert(parse(BEFORE "ppid=7 opid=8 pid=9 comm=\"pid=5\" exe=\"/pid=6\" " AFTER,
			&denial) == 1);
	cr_assert(denial.pid == 9);
	cr_assert_str_eq(denial.comm, "pid=5");
}

/* Flush against a page that must not be touched, cut everywhere. */
Test(audit_record, cut_at_every_byte)
{
	const size_t page = (size_t)sysconf(_SC_PAGESIZE), length = strlen(WHOLE);
	char *memory =
		mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct audit_denial denial;

	cr_assert(memory != MAP_FAILED && mprotect(memory + page, page, PROT_NONE) == 0);
	for (size_t cut = 0; cut < length; cut++) {
		char *text = memory + page - cut - 1;

		memcpy(text, WHOLE, cut);
		text[cut] = '\0';
		cr_assert(cellos_audit_parse(text, &denial) <= 0, "%zu", cut);
	}
	munmap(memory, 2 * page);
}

/* ---- rules ---------------------------------------------------------------------------------- */

static union audit_rule rule;

static bool wants(unsigned number)
{
	return (rule.data.mask[AUDIT_WORD(number)] & AUDIT_BIT(number)) != 0;
}

static uint32_t field(uint32_t name, uint32_t op)
{
	for (unsigned at = 0; at < rule.data.field_count; at++)
		if (rule.data.fields[at] == name && rule.data.fieldflags[at] == op)
			return rule.data.values[at];
	return 0;
}

Test(audit_rule, refused_calls)
{
	static const int errors[] = {EPERM, EACCES, EPERM};

	for (unsigned at = 1; at < AUDIT_RULES; at++) {
		cellos_audit_rule(at, &rule);
		cr_assert(rule.data.flags == AUDIT_FILTER_EXIT);
		cr_assert(rule.data.action == AUDIT_ALWAYS);
		cr_assert(field(AUDIT_EXIT, AUDIT_EQUAL) == (uint32_t)-errors[at - 1]);
		cr_assert(field(AUDIT_ARCH, at < 3 ? AUDIT_EQUAL : AUDIT_NOT_EQUAL) != 0);
		cr_assert(rule.data.buflen == 6 && memcmp(rule.data.buf, "cellos", 6) == 0);
		cr_assert(field(AUDIT_FILTERKEY, AUDIT_EQUAL) == rule.data.buflen);
		cr_assert(sizeof(rule.data) + rule.data.buflen <= sizeof(rule));
	}
	cellos_audit_rule(1, &rule);
	cr_assert(wants(SYS_mount) && wants(SYS_sethostname) && wants(SYS_bind) && wants(SYS_kill));
	cr_assert(!wants(SYS_openat) && !wants(SYS_read) && !wants(SYS_execve) && !wants(0));
	cellos_audit_rule(3, &rule);
	cr_assert(wants(0) && wants(2000));
}

Test(audit_rule, all_other_records_are_excluded)
{
	cellos_audit_rule(0, &rule);
	cr_assert(rule.data.flags == AUDIT_FILTER_EXCLUDE);
	cr_assert(rule.data.field_count == 1 && rule.data.buflen == 0);
	cr_assert(rule.data.fields[0] == AUDIT_MSGTYPE);
	cr_assert(rule.data.fieldflags[0] == AUDIT_NOT_EQUAL);
	cr_assert(rule.data.values[0] == AUDIT_SYSCALL);
}

/* ---- folding -------------------------------------------------------------------------------- */

Test(audit_fold, once_a_second)
{
	static struct audit_fold fold;
	struct audit_denial denial = {.pid = 7, .syscall = 170, .wall_ms = 1763866045123};
	struct audit_denial other = denial, another = denial;

	other.syscall = 161;
	another.pid = 8;
	cr_assert(!cellos_audit_fold(&fold, &denial));
	cr_assert(cellos_audit_fold(&fold, &denial));
	cr_assert(!cellos_audit_fold(&fold, &other));
	cr_assert(!cellos_audit_fold(&fold, &another));
	denial.wall_ms += 999;
	cr_assert(cellos_audit_fold(&fold, &denial));
	denial.wall_ms += 1;
	cr_assert(!cellos_audit_fold(&fold, &denial));
	denial.wall_ms += 500;
	cr_assert(cellos_audit_fold(&fold, &denial));
	denial.wall_ms -= 100000; /* the clock was set back */
	cr_assert(!cellos_audit_fold(&fold, &denial));
}

/* However many processes share its places, none is silenced that was not reported. */
Test(audit_fold, a_crowd)
{
	static struct audit_fold fold;
	struct audit_denial denial = {.wall_ms = 1763866045123, .syscall = 165};

	for (denial.pid = 1; denial.pid < 100000; denial.pid++)
		cr_assert(!cellos_audit_fold(&fold, &denial));
}
