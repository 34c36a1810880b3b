/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The fourth wall: the rules as a seccomp filter, made by libseccomp and loaded for good.
 *
 * Two filters with strict: the kernel takes the harder answer. The second one knows every call that
 * this libseccomp knows, and says ENOSYS to any other.
 *
 * Threads: the child's one; the filter holds for it and whatever it starts.
 */
#include <errno.h>
#include <seccomp.h>
#include <stdlib.h>
#include <string.h>

#include "inside.h"
#include "rules.h"

/* Numbers that no kernel of today has are beyond this. */
#define LAST_NUMBER 1024

static int add_rule(scmp_filter_ctx filter, const struct cellos_guard_options *options,
		    const struct guard_rule *rule)
{
	const int call = seccomp_syscall_resolve_name(rule->call);
	const uint32_t action = SCMP_ACT_ERRNO((uint32_t)rule->error);
	struct guard_block blocks[GUARD_MAX_BLOCKS];
	size_t count;
	int status = 0;

	if (call == __NR_SCMP_ERROR)
		return -ENOENT; /* newer than this library: the number has no name here */
	if (call < 0)
		return 0; /* not on this architecture */
	if (rule->match == GUARD_ALWAYS)
		return seccomp_rule_add_array(filter, action, call, 0, NULL);
	count = guard_rule_blocks(options, rule, blocks);
	for (size_t i = 0; status == 0 && i < count; i++) {
		const struct scmp_arg_cmp compare = SCMP_CMP(rule->argument, SCMP_CMP_MASKED_EQ,
							     blocks[i].mask, blocks[i].value);

		status = seccomp_rule_add_array(filter, action, call, 1, &compare);
		if (status == -EEXIST)
			status = 0;
	}
	return status;
}

static int load(scmp_filter_ctx filter)
{
	/* 32-bit and x32 calls have other numbers: whoever makes them is ended. */
	int status = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);

	if (status == 0) /* a search tree: what a call costs does not grow with the rules */
		status = seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	return status == 0 ? seccomp_load(filter) : status;
}

static int load_refusals(const struct cellos_guard_options *options)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
	const struct guard_rule *rule;
	int status = filter == NULL ? -ENOMEM : 0;

	for (size_t at = 0; status == 0 && (rule = guard_rule_at(options, at)) != NULL; at++) {
		status = add_rule(filter, options, rule);
		if (status < 0)
			status = guard_missing(options, status, "cannot filter %s: %s", rule->call,
					       strerror(-status));
	}
	if (status == 0)
		status = load(filter);
	seccomp_release(filter);
	return status;
}

static int load_known(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int status = filter == NULL ? -ENOMEM : 0;

	for (int number = 0; status == 0 && number < LAST_NUMBER; number++) {
		char *name = seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, number);

		if (name != NULL)
			status = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, number, 0, NULL);
		free(name);
	}
	if (status == 0)
		status = load(filter);
	seccomp_release(filter);
	return status;
}

int guard_filter_calls(const struct cellos_guard_options *options)
{
	/* The second one first: it leaves the call that loads the other. */
	int status = options->profile == CELLOS_GUARD_STRICT ? load_known() : 0;

	if (status < 0)
		status = guard_missing(options, status,
				       "cannot load the filter of calls that are known: %s",
				       strerror(-status));
	if (status < 0)
		return status;
	status = load_refusals(options);
	if (status < 0)
		return guard_missing(options, status, "cannot load the filter: %s",
				     strerror(-status));
	return 0;
}
