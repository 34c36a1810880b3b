/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Declared against authorized: each rule, each way to just miss it, and the words a violation gets.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "cellos/admission.h"

struct seen {
	size_t count;
	char text[8][CELLOS_VIOLATION_TEXT_BYTES];
};

static void see(void *context, const struct cellos_violation *violation)
{
	struct seen *seen = context;

	cr_assert_lt(seen->count, 8);
	(void)cellos_violation_describe(violation, seen->text[seen->count++],
					CELLOS_VIOLATION_TEXT_BYTES);
}

static size_t dns(const char *authorized, const char *declared)
{
	struct cellos_guest_telemetry_declaration d = {0}, a = {0};

	d.declared_surface.dns_queries = &declared;
	d.declared_surface.dns_query_count = 1;
	a.declared_surface.dns_queries = &authorized;
	a.declared_surface.dns_query_count = 1;
	return cellos_declaration_validate(&d, &a, NULL, NULL);
}

Test(admission, names)
{
	static const struct {
		const char *authorized, *declared;
		size_t violations;
	} table[] = {
		{"example.com", "example.com", 0},
		{"example.com", "EXAMPLE.Com", 0},
		{"example.com", "example.co", 1},
		{"example.com", "example.com.", 1},
		{"example.com", "www.example.com", 1},
		{"*.example.com", "www.example.com", 0},
		{"*.example.com", "A.B.eXample.com", 0},
		{"*.EXAMPLE.com", "a.example.com", 0},
		{"*.example.com", "*.example.com", 0},
		{"*.example.com", "*.a.example.com", 0},
		{"*.example.com", "example.com", 1},
		{"*.example.com", ".example.com", 1},
		{"*.example.com", "a..example.com", 1},
		{"*.example.com", "badexample.com", 1},
		{"*.example.com", "a.example.com.evil.org", 1},
		{"*.a.example.com", "*.example.com", 1},
		{"www.example.com", "*.example.com", 1},
		{"*", "example.com", 1},
		{"*.", "a.", 1},
		{"*.com", "example.com", 0},
		{"a*.example.com", "ab.example.com", 1},
		{"", "a", 1},
		{NULL, "a", 1},
		{"a", NULL, 1},
		{NULL, NULL, 1},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_assert_eq(dns(table[i].authorized, table[i].declared), table[i].violations,
			     "%zu: %s against %s", i, table[i].declared, table[i].authorized);
}

static size_t egress(struct cellos_egress_rule authorized, struct cellos_egress_rule declared)
{
	struct cellos_guest_telemetry_declaration d = {0}, a = {0};

	d.declared_surface.egress_rules = &declared;
	d.declared_surface.egress_rule_count = 1;
	a.declared_surface.egress_rules = &authorized;
	a.declared_surface.egress_rule_count = 1;
	return cellos_declaration_validate(&d, &a, NULL, NULL);
}

Test(admission, egress)
{
	const struct cellos_egress_rule rule = {"api.example.com", 443, "tcp"};

	cr_assert_eq(egress(rule, rule), 0);
	cr_assert_eq(egress(rule, (struct cellos_egress_rule){"API.example.COM", 443, "tcp"}), 0);
	cr_assert_eq(egress(rule, (struct cellos_egress_rule){"api.example.com", 444, "tcp"}), 1);
	cr_assert_eq(egress(rule, (struct cellos_egress_rule){"api.example.com", 443, "TCP"}), 1);
	cr_assert_eq(egress(rule, (struct cellos_egress_rule){"api.example.org", 443, "tcp"}), 1);
	cr_assert_eq(egress(rule, (struct cellos_egress_rule){"api.example.com", 443, NULL}), 1);
	/* A wildcard is for names that are asked for, not for hosts that are reached. */
	cr_assert_eq(egress((struct cellos_egress_rule){"*.example.com", 443, "tcp"}, rule), 1);
}

Test(admission, empty_is_valid_and_sets_have_no_order)
{
	static const char *const some[] = {"a", "b", "c"}, *const again[] = {"c", "a", "a", "b"};
	static const char *const other[] = {"A"};
	struct cellos_guest_telemetry_declaration none = {0}, d = {0}, a = {0};

	cr_assert_eq(cellos_declaration_validate(&none, &none, NULL, NULL), 0);
	a.declared_surface.secret_refs = some;
	a.declared_surface.secret_ref_count = 3;
	cr_assert_eq(cellos_declaration_validate(&none, &a, NULL, NULL), 0);
	cr_assert_eq(cellos_declaration_validate(&a, &none, NULL, NULL), 3);
	d.declared_surface.secret_refs = again;
	d.declared_surface.secret_ref_count = 4;
	cr_assert_eq(cellos_declaration_validate(&d, &a, NULL, NULL), 0);
	d.declared_surface.secret_refs = other;
	d.declared_surface.secret_ref_count = 1;
	cr_assert_eq(cellos_declaration_validate(&d, &a, NULL, NULL), 1, "secrets have case");
}

Test(admission, every_violation_is_named)
{
	static const struct cellos_egress_rule rules[] = {{"ok", 1, "tcp"}, {"no", 2, "udp"}};
	static const char *const secrets[] = {"s"}, *const names[] = {"ok", "x", "y"};
	struct cellos_guest_telemetry_declaration d = {0}, a = {0};
	struct seen seen = {0};

	d.declared_surface = (struct cellos_declared_surface){rules, 2, secrets, 1, names, 3};
	a.declared_surface = (struct cellos_declared_surface){rules, 1, NULL, 0, names, 1};
	d.agent_version = "1";
	a.agent_version = "2"; /* says nothing about what may be done */
	cr_assert_eq(cellos_declaration_validate(&d, &a, see, &seen), 4);
	cr_assert_eq(seen.count, 4);
	cr_assert_str_eq(seen.text[0],
			 "egress_rules[1]: 'no' port 2 protocol 'udp' is not authorized");
	cr_assert_str_eq(seen.text[1], "secret_refs[0]: 's' is not authorized");
	cr_assert_str_eq(seen.text[2], "dns_queries[1]: 'x' is not authorized");
	cr_assert_str_eq(seen.text[3], "dns_queries[2]: 'y' is not authorized");
}

Test(admission, words_never_leave_their_memory)
{
	char name[1024], out[CELLOS_VIOLATION_TEXT_BYTES], guarded[4] = "abc";
	struct cellos_egress_rule rule = {name, 65535, name};
	struct cellos_violation violation = {.rule = CELLOS_ADMISSION_EGRESS, .egress = &rule};

	memset(name, 'x', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	cr_assert_str_eq(cellos_violation_describe(&violation, out, sizeof(out)) + strlen(out) -
				 strlen("' is not authorized"),
			 "' is not authorized");
	(void)cellos_violation_describe(&violation, guarded, 2);
	cr_assert_eq(memcmp(guarded, "e\0c", 3), 0);
	(void)cellos_violation_describe(&violation, guarded, 0);
	cr_assert_eq(guarded[0], 'e');
	cr_assert_str_eq(cellos_admission_rule_name(CELLOS_ADMISSION_RULE_COUNT), "?");
}
