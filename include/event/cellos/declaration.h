/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What a guest declares it will do, and with which agent. It has no wire form: the host gets the
 * document as a file and accepts a guest's events only when declared is a subset of authorized.
 *
 * Every pointer is borrowed: the caller keeps the strings and arrays alive as long as the struct.
 * An all-zero declaration is the empty one, and valid.
 */
#ifndef CELLOS_DECLARATION_H
#define CELLOS_DECLARATION_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct cellos_egress_rule {
	const char *host;     /* compared without case */
	uint16_t port;        /* compared exactly */
	const char *protocol; /* compared exactly, as in "tcp" */
};

struct cellos_declared_surface {
	const struct cellos_egress_rule *egress_rules;
	size_t egress_rule_count;
	const char *const *secret_refs; /* a set: order and repetition mean nothing */
	size_t secret_ref_count;
	const char *const *dns_queries; /* without case; "*.example.com" covers names under it */
	size_t dns_query_count;
};

struct cellos_guest_telemetry_declaration {
	struct cellos_declared_surface declared_surface;
	const char *agent_version;
};

#ifdef __cplusplus
}
#endif

#endif
