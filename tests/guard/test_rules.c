/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* The profile's rules and their comparisons, against what they are said to mean. No privilege
 * needed. */
#include <criterion/criterion.h>

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "inside.h"
#include "rules.h"

static bool refuses(const struct cellos_guard_options *options, const struct guard_rule *rule,
		    uint64_t argument)
{
	struct guard_block blocks[GUARD_MAX_BLOCKS];
	size_t count = guard_rule_blocks(options, rule, blocks);

	/* As seccomp compares: 64 bits, with a mask that leaves the lower 32. */
	for (size_t i = 0; i < count; i++)
		if ((argument & blocks[i].mask) == blocks[i].value)
			return true;
	return false;
}

static const struct guard_rule *rule_of(const struct cellos_guard_options *options,
					const char *call, unsigned argument)
{
	const struct guard_rule *rule;

	for (size_t at = 0; (rule = guard_rule_at(options, at)) != NULL; at++)
		if (strcmp(rule->call, call) == 0 && rule->argument == argument)
			return rule;
	return NULL;
}

static void expect_protected(enum cellos_guard_layout layout, uint32_t last)
{
	const struct cellos_guard_options options = {.layout = layout, .protect_up_to = last};
	const struct guard_rule *rule = rule_of(&options, "kill", 0);
	const uint64_t high = UINT64_C(1) << 32;

	cr_assert_not_null(rule);
	cr_assert(!refuses(&options, rule, 0), "oneself's group");
	for (uint64_t pid = 1; pid <= last; pid++) {
		cr_assert(refuses(&options, rule, pid), "%u of %u", (unsigned)pid, last);
		cr_assert(refuses(&options, rule, high | pid), "with bit 32, %u", (unsigned)pid);
		cr_assert(pid == 1 || refuses(&options, rule, (uint32_t)-pid), "group %u",
			  (unsigned)pid);
	}
	for (uint64_t pid = last + 1; pid < last + 5000; pid++) {
		cr_assert(!refuses(&options, rule, pid), "%u of %u", (unsigned)pid, last);
		cr_assert(!refuses(&options, rule, (uint32_t)-pid), "group %u", (unsigned)pid);
	}
	cr_assert(!refuses(&options, rule, INT32_MAX) && !refuses(&options, rule, 1u << 31));
	/* kill(-1): everybody, with the agent among them where it has a number. */
	cr_assert(refuses(&options, rule, UINT32_MAX) == (layout == CELLOS_GUARD_SHARED));
}

Test(rules, protected_numbers)
{
	static const uint32_t lasts[] = {2, 3, 4, 7, 8, 9, 63, 64, 65, 1000, 4095, 4097, 65537};

	for (size_t i = 0; i < sizeof(lasts) / sizeof(lasts[0]); i++) {
		expect_protected(CELLOS_GUARD_HIDDEN, lasts[i]);
		expect_protected(CELLOS_GUARD_SHARED, lasts[i]);
	}
}

Test(rules, two_unless_told_otherwise)
{
	const struct cellos_guard_options options = {.layout = CELLOS_GUARD_SHARED};
	const struct guard_rule *rule = rule_of(&options, "ptrace", 1);

	cr_assert_not_null(rule);
	cr_assert(refuses(&options, rule, 1) && refuses(&options, rule, 2));
	cr_assert(!refuses(&options, rule, 3));
}

Test(rules, no_channel_of_its_own)
{
	const struct cellos_guard_options options = {0};
	const struct guard_rule *rule = rule_of(&options, "socket", 0);

	cr_assert_not_null(rule);
	for (uint64_t family = 0; family < 64; family++)
		cr_assert(refuses(&options, rule, family) == (family == AF_VSOCK));
	cr_assert(refuses(&options, rule, (UINT64_C(1) << 32) | AF_VSOCK),
		  "the kernel reads an int");
}

Test(rules, no_namespaces_by_clone)
{
	const struct cellos_guard_options options = {0};
	const struct guard_rule *rule = rule_of(&options, "clone", 0);
	static const uint32_t namespaces[] = {0x00020000, 0x02000000, 0x04000000, 0x08000000,
					      0x10000000, 0x20000000, 0x40000000};

	cr_assert_not_null(rule);
	/* A fork, and a thread as glibc makes one. */
	cr_assert(!refuses(&options, rule, 0x01200011) && !refuses(&options, rule, 0x003d0f00));
	for (size_t i = 0; i < sizeof(namespaces) / sizeof(namespaces[0]); i++) {
		cr_assert(refuses(&options, rule, namespaces[i] | 17));
		cr_assert(refuses(&options, rule, UINT64_C(0xffffffff00000000) | namespaces[i]));
	}
}

Test(rules, shared_has_more)
{
	const struct cellos_guard_options hidden = {0}, shared = {.layout = CELLOS_GUARD_SHARED};
	static const char *const calls[] = {"tkill",         "rt_sigqueueinfo",
					    "prlimit64",     "process_vm_writev",
					    "sched_setattr", "move_pages"};

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		cr_assert_null(rule_of(&hidden, calls[i], 0), "%s", calls[i]);
		cr_assert_not_null(rule_of(&shared, calls[i], 0), "%s", calls[i]);
	}
}

Test(rules, capabilities_that_stay)
{
	const uint64_t kept = guard_kept_capabilities();
	static const unsigned gone[] = {2,  8,  9,  12, 13, 14, 16, 17, 19, 20, 21, 22, 23, 24, 25,
					26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40};

	for (size_t i = 0; i < sizeof(gone) / sizeof(gone[0]); i++)
		cr_assert((kept >> gone[i] & 1) == 0, "%s", guard_capability_name(gone[i]));
	cr_assert_str_eq(guard_capability_name(21), "CAP_SYS_ADMIN");
	cr_assert_str_eq(guard_capability_name(40), "CAP_CHECKPOINT_RESTORE");
	cr_assert_null(guard_capability_name(41));
}

static void count_line(void *context, const char *line)
{
	(void)line;
	++*(unsigned *)context;
}

/* One line, whatever else may be missing, and no child. */
static void expect_unknown(struct cellos_guard_options options)
{
	char *const argv[] = {(char[]){"/bin/true"}, NULL};
	const int stdio[3] = {0, 1, 2};
	unsigned lines = 0;
	pid_t pid = 0;

	options.say = count_line;
	options.context = &lines;
	options.best_effort = true;
	cr_assert_eq(cellos_guard_spawn(&options, argv, stdio, &pid), -EINVAL);
	cr_assert(lines == 1 && pid == 0, "%u lines", lines);
}

Test(guard, a_value_that_is_no_choice_starts_nothing)
{
	expect_unknown((struct cellos_guard_options){.layout = (enum cellos_guard_layout)2});
	expect_unknown((struct cellos_guard_options){.profile = (enum cellos_guard_profile)2});
}
