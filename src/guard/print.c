/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The profile in words, as JSON, and as the seccomp object of an OCI runtime configuration: all
 * from the same rules. An OCI runtime loads one filter, so the export holds the refusals; strict's
 * "and nothing that is not known" has no form there.
 *
 * Threads: the caller's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "inside.h"
#include "rules.h"

static const char *error_name(int error)
{
	return error == ENOSYS ? "ENOSYS" : "EPERM";
}

static void print_text(const struct cellos_guard_options *options, FILE *out)
{
	const struct guard_rule *rule;

	fprintf(out, "layout %s, profile %s\n",
		options->layout == CELLOS_GUARD_HIDDEN ? "hidden" : "shared",
		options->profile == CELLOS_GUARD_STRICT ? "strict" : "compat");
	fprintf(out, "namespaces: %smount cgroup ipc\n",
		options->layout == CELLOS_GUARD_HIDDEN ? "pid " : "");
	fprintf(out, "capabilities kept:");
	for (unsigned i = 0; guard_capability_name(i) != NULL; i++)
		if ((guard_kept_capabilities() >> i & 1) != 0)
			fprintf(out, " %s", guard_capability_name(i));
	fprintf(out, "\nsystem calls refused:\n");
	for (size_t at = 0; (rule = guard_rule_at(options, at)) != NULL; at++) {
		struct guard_block blocks[GUARD_MAX_BLOCKS];
		size_t count = guard_rule_blocks(options, rule, blocks);

		fprintf(out, "  %-20s %s", rule->call, error_name(rule->error));
		for (size_t i = 0; i < count; i++)
			fprintf(out, "%s (argument %u & 0x%" PRIx32 ") == 0x%" PRIx32,
				i == 0 ? " when" : " or", rule->argument, blocks[i].mask,
				blocks[i].value);
		fputc('\n', out);
	}
	if (options->profile == CELLOS_GUARD_STRICT)
		fprintf(out, "  %-20s ENOSYS\n", "any unknown one");
}

/* OCI runtime specification, config-linux: value is the mask, valueTwo what is compared. */
static void print_calls(const struct cellos_guard_options *options, FILE *out)
{
	const struct guard_rule *rule;
	const char *comma = "";

	for (size_t at = 0; (rule = guard_rule_at(options, at)) != NULL; at++) {
		struct guard_block blocks[GUARD_MAX_BLOCKS];
		size_t count = guard_rule_blocks(options, rule, blocks), i = 0;

		do {
			fprintf(out,
				"%s\n    {\"names\": [\"%s\"], \"action\": \"SCMP_ACT_ERRNO\", "
				"\"errnoRet\": %d",
				comma, rule->call, rule->error);
			if (count > 0)
				fprintf(out,
					", \"args\": [{\"index\": %u, \"value\": %" PRIu32
					", \"valueTwo\": %" PRIu32
					", \"op\": \"SCMP_CMP_MASKED_EQ\"}]",
					rule->argument, blocks[i].mask, blocks[i].value);
			fputs("}", out);
			comma = ",";
		} while (++i < count);
	}
}

static void print_oci(const struct cellos_guard_options *options, FILE *out)
{
	fputs("{\n  \"defaultAction\": \"SCMP_ACT_ALLOW\",\n  \"syscalls\": [", out);
	print_calls(options, out);
	fputs("\n  ]\n}\n", out);
}

static void print_json(const struct cellos_guard_options *options, FILE *out)
{
	const char *comma = "";

	fprintf(out, "{\n  \"layout\": \"%s\",\n  \"profile\": \"%s\",\n",
		options->layout == CELLOS_GUARD_HIDDEN ? "hidden" : "shared",
		options->profile == CELLOS_GUARD_STRICT ? "strict" : "compat");
	fprintf(out, "  \"namespaces\": [%s\"mount\", \"cgroup\", \"ipc\"],\n",
		options->layout == CELLOS_GUARD_HIDDEN ? "\"pid\", " : "");
	fputs("  \"capabilities\": [", out);
	for (unsigned i = 0; guard_capability_name(i) != NULL; i++)
		if ((guard_kept_capabilities() >> i & 1) != 0) {
			fprintf(out, "%s\"%s\"", comma, guard_capability_name(i));
			comma = ", ";
		}
	fprintf(out, "],\n  \"unknown_calls\": \"%s\",\n  \"syscalls\": [",
		options->profile == CELLOS_GUARD_STRICT ? "ENOSYS" : "allowed");
	print_calls(options, out);
	fputs("\n  ]\n}\n", out);
}

int guard_print_profile(const struct cellos_guard_options *options, enum guard_print how, void *to)
{
	FILE *out = to;

	if (how == GUARD_PRINT_TEXT)
		print_text(options, out);
	else if (how == GUARD_PRINT_JSON)
		print_json(options, out);
	else
		print_oci(options, out);
	return fflush(out) == EOF || ferror(out) ? -EIO : 0;
}
