/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declared against authorized; admission.h has the rules. Pure, any thread.
 *
 * Each declared entry is looked for among the authorized ones. Nothing is normalised beyond ASCII
 * case: what is not plainly covered is a violation, so that a spelling which we do not understand
 * (a trailing dot, an empty label) fails on the safe side.
 */
#include "cellos/admission.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

static char lower(char c)
{
	return c >= 'A' && c <= 'Z' ? (char)(c - 'A' + 'a') : c;
}

static bool same_without_case(const char *a, const char *b)
{
	if (a == NULL || b == NULL)
		return false;
	while (*a != '\0' && lower(*a) == lower(*b)) {
		a++;
		b++;
	}
	return *a == '\0' && *b == '\0';
}

static bool same(const char *a, const char *b)
{
	return a != NULL && b != NULL && strcmp(a, b) == 0;
}

static bool has_empty_label(const char *name)
{
	return name[0] == '.' || name[0] == '\0' || strstr(name, "..") != NULL;
}

/* Is `name` something below `pattern`, which begins with "*."? */
static bool is_under(const char *pattern, const char *name)
{
	const char *suffix = pattern + 1; /* ".example.com" */
	size_t length = strlen(name), tail = strlen(suffix);

	if (tail < 2 || length <= tail || has_empty_label(name))
		return false;
	return same_without_case(name + length - tail, suffix);
}

static bool dns_covers(const char *authorized, const char *declared)
{
	if (authorized == NULL || declared == NULL)
		return false;
	if (same_without_case(authorized, declared))
		return true;
	return strncmp(authorized, "*.", 2) == 0 && is_under(authorized, declared);
}

static bool egress_covered(const struct cellos_declared_surface *authorized,
			   const struct cellos_egress_rule *rule)
{
	for (size_t i = 0; i < authorized->egress_rule_count; i++) {
		const struct cellos_egress_rule *allowed = &authorized->egress_rules[i];

		if (same_without_case(allowed->host, rule->host) && allowed->port == rule->port &&
		    same(allowed->protocol, rule->protocol))
			return true;
	}
	return false;
}

static bool name_covered(const char *const *authorized, size_t count, const char *name,
			 bool (*covers)(const char *authorized, const char *declared))
{
	for (size_t i = 0; i < count; i++)
		if (covers(authorized[i], name))
			return true;
	return false;
}

struct tally {
	cellos_violation_fn report;
	void *context;
	size_t count;
};

static void violated(struct tally *tally, const struct cellos_violation *violation)
{
	tally->count++;
	if (tally->report != NULL)
		tally->report(tally->context, violation);
}

size_t cellos_declaration_validate(const struct cellos_guest_telemetry_declaration *declared,
				   const struct cellos_guest_telemetry_declaration *authorized,
				   cellos_violation_fn report, void *context)
{
	const struct cellos_declared_surface *want = &declared->declared_surface;
	const struct cellos_declared_surface *may = &authorized->declared_surface;
	struct tally tally = {.report = report, .context = context};

	for (size_t i = 0; i < want->egress_rule_count; i++)
		if (!egress_covered(may, &want->egress_rules[i]))
			violated(&tally,
				 &(struct cellos_violation){.rule = CELLOS_ADMISSION_EGRESS,
							    .index = i,
							    .egress = &want->egress_rules[i]});
	for (size_t i = 0; i < want->secret_ref_count; i++)
		if (!name_covered(may->secret_refs, may->secret_ref_count, want->secret_refs[i],
				  same))
			violated(&tally, &(struct cellos_violation){.rule = CELLOS_ADMISSION_SECRET,
								    .index = i,
								    .name = want->secret_refs[i]});
	for (size_t i = 0; i < want->dns_query_count; i++)
		if (!name_covered(may->dns_queries, may->dns_query_count, want->dns_queries[i],
				  dns_covers))
			violated(&tally, &(struct cellos_violation){.rule = CELLOS_ADMISSION_DNS,
								    .index = i,
								    .name = want->dns_queries[i]});
	return tally.count;
}

const char *cellos_admission_rule_name(enum cellos_admission_rule rule)
{
	static const char *const names[CELLOS_ADMISSION_RULE_COUNT] = {
		[CELLOS_ADMISSION_EGRESS] = "egress_rules",
		[CELLOS_ADMISSION_SECRET] = "secret_refs",
		[CELLOS_ADMISSION_DNS] = "dns_queries",
	};

	return (unsigned)rule < CELLOS_ADMISSION_RULE_COUNT ? names[rule] : "?";
}

static const char *or_nothing(const char *text)
{
	return text != NULL ? text : "";
}

const char *cellos_violation_describe(const struct cellos_violation *violation, char *out,
				      size_t size)
{
	const char *rule = cellos_admission_rule_name(violation->rule);

	if (size == 0)
		return out;
	if (violation->egress != NULL)
		snprintf(out, size, "%s[%zu]: '%.256s' port %u protocol '%.256s' is not authorized",
			 rule, violation->index, or_nothing(violation->egress->host),
			 violation->egress->port, or_nothing(violation->egress->protocol));
	else
		snprintf(out, size, "%s[%zu]: '%.256s' is not authorized", rule, violation->index,
			 or_nothing(violation->name));
	return out;
}
