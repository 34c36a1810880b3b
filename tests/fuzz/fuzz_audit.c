/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Audit's records: the input's lines are records. Whatever they are, a denial handed out is whole,
 * and the same one a moment later is a repeat. The first byte of the input names a rule besides.
 */
#include <errno.h>
#include <string.h>

#include "capability.h"
#include "fuzz.h"

static void check_denial(struct audit_fold *fold, struct audit_denial *denial)
{
	FUZZ_CHECK(denial->comm_len < sizeof(denial->comm));
	for (size_t at = denial->comm_len; at < sizeof(denial->comm); at++)
		FUZZ_CHECK(denial->comm[at] == '\0');
	(void)cellos_audit_fold(fold, denial);
	FUZZ_CHECK(cellos_audit_fold(fold, denial));
	denial->wall_ms += 1000;
	FUZZ_CHECK(!cellos_audit_fold(fold, denial));
}

static void check_rule(unsigned at)
{
	union audit_rule rule;

	cellos_audit_rule(at, &rule);
	FUZZ_CHECK(rule.data.field_count >= 1 && rule.data.field_count <= AUDIT_MAX_FIELDS);
	FUZZ_CHECK(sizeof(rule.data) + rule.data.buflen <= sizeof(rule));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct audit_fold fold = {0};

	if (size > 0)
		check_rule(data[0] % AUDIT_RULES);
	while (size > 0) {
		const uint8_t *newline = memchr(data, '\n', size);
		size_t length = newline != NULL ? (size_t)(newline - data) : size;
		struct audit_denial denial;
		/* Its own memory, exactly: a read past the end is seen. */
		char *text = malloc(length + 1);
		int result;

		FUZZ_CHECK(text != NULL);
		memcpy(text, data, length);
		text[length] = '\0';
		result = cellos_audit_parse(text, &denial);
		free(text);
		FUZZ_CHECK(result == 1 || result == 0 || result == -EBADMSG);
		if (result == 1)
			check_denial(&fold, &denial);
		data += length + (newline != NULL);
		size -= length + (newline != NULL);
	}
	return 0;
}
