/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Every rule of the profile, asked of the kernel with the filter loaded: each value that a rule
 * compares, plain and with bit 32 set, which the kernel does not read. No privilege needed.
 *
 * Each call is made in a child, with other arguments that would make it fail in another way.
 */
#include <criterion/criterion.h>

#include <errno.h>
#include <seccomp.h>
#include <stdint.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "inside.h"
#include "rules.h"

#define NONSENSE 0x7fffffffL
#define HIGH_BIT (1L << 32)

/* What a child ends with that met a wrong answer: 1 + the place of the rule. */
static void ask(const struct guard_rule *rule, int call, size_t at, long value)
{
	long arguments[4] = {NONSENSE, NONSENSE, NONSENSE, NONSENSE};

	if (rule->match != GUARD_ALWAYS)
		arguments[rule->argument] = value;
	errno = 0;
	if (syscall(call, arguments[0], arguments[1], arguments[2], arguments[3]) != -1 ||
	    errno != rule->error)
		_exit((int)at + 1);
}

static void ask_all(const struct cellos_guard_options *options)
{
	const struct guard_rule *rule;

	for (size_t at = 0; (rule = guard_rule_at(options, at)) != NULL; at++) {
		const int call = seccomp_syscall_resolve_name(rule->call);
		struct guard_block blocks[GUARD_MAX_BLOCKS];
		size_t count = guard_rule_blocks(options, rule, blocks);

		if (call < 0) /* not on this architecture */
			continue;
		if (rule->match == GUARD_ALWAYS)
			ask(rule, call, at, 0);
		for (size_t i = 0; i < count; i++) {
			ask(rule, call, at, (long)blocks[i].value);
			ask(rule, call, at, HIGH_BIT | (long)blocks[i].value);
			ask(rule, call, at, (long)(blocks[i].value | ~blocks[i].mask));
		}
	}
}

static void expect_refused(struct cellos_guard_options options)
{
	const struct guard_rule *rule;
	pid_t child = fork();
	int status;

	if (child == 0) {
		(void)setsid(); /* a terminal to hang up is none of ours */
		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || guard_filter_calls(&options) < 0)
			_exit(255);
		ask_all(&options);
		_exit(0);
	}
	cr_assert(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status));
	cr_assert_neq(WEXITSTATUS(status), 255, "the filter cannot be loaded");
	rule = WEXITSTATUS(status) > 0 ? guard_rule_at(&options, (size_t)WEXITSTATUS(status) - 1)
				       : NULL;
	cr_assert_null(rule, "%s, argument %u", rule->call, rule->argument);
}

Test(filter, every_rule_refuses_as_wide_as_the_kernel_reads)
{
	for (int layout = 0; layout < 2; layout++)
		for (int profile = 0; profile < 2; profile++)
			expect_refused((struct cellos_guard_options){
				.layout = (enum cellos_guard_layout)layout,
				.profile = (enum cellos_guard_profile)profile,
				.protect_up_to = 21,
			});
}
