/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Configurations of cells: good ones, and every kind of mistake with its place.
 */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cells.h"

struct said {
	char text[4096];
};

static void hear(void *context, const char *text)
{
	struct said *said = context;
	size_t length = strlen(said->text);

	snprintf(said->text + length, sizeof(said->text) - length, "%s\n", text);
}

static void go_somewhere(void)
{
	char folder[] = "/tmp/cellos-cells-XXXXXX";

	cr_assert_not_null(mkdtemp(folder));
	cr_assert_eq(chdir(folder), 0);
}

static void leave(void)
{
	static const char *const names[] = {"cells.json", "adg.json", "d.json", "a.json"};
	char folder[256];

	cr_assert_not_null(getcwd(folder, sizeof(folder)));
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		(void)unlink(names[i]);
	cr_assert_eq(chdir("/"), 0);
	cr_assert_eq(rmdir(folder), 0, "something is left");
}

TestSuite(cells, .init = go_somewhere, .fini = leave);

static void put_file(const char *name, const char *text)
{
	FILE *file = fopen(name, "w");

	cr_assert_not_null(file);
	cr_assert_geq(fputs(text, file), 0);
	cr_assert_eq(fclose(file), 0);
}

/* All mistakes, one a line; and the list when there is none. */
static const char *read_list(const char *text, struct host_cell_list *list)
{
	static struct said said;
	struct host_mistakes mistakes = {.say = hear, .context = &said};

	said.text[0] = '\0';
	put_file("cells.json", text);
	cr_assert_eq(host_cell_list_read(list, "cells.json", &mistakes), mistakes.count == 0);
	cr_assert(mistakes.count == 0 || (list->cells == NULL && list->count == 0));
	return said.text;
}

Test(cells, a_whole_one)
{
	struct host_cell_list list;
	const struct host_cell_config *cell;

	put_file("adg.json",
		 " { \"a b\" : [ 1 , 2.50 , \"x \\\" y\" ] ,\n\t\"n\":18446744073709551615}\n");
	put_file("d.json", "{\"declared_surface\":{\"dns_queries\":[\"a.example.com\"]},"
			   "\"agent_version\":\"1\"}");
	put_file("a.json", "{\"declared_surface\":{\"dns_queries\":[\"*.example.com\"],"
			   "\"secret_refs\":[],\"egress_rules\":[{\"host\":\"h\",\"port\":443,"
			   "\"protocol\":\"tcp\"}]}}");
	cr_assert_str_eq(
		read_list("{\"cells\":[{\"id\":\"web-1\",\"run\":\"7\",\"hash\":\"sha256:x\","
			  "\"listen\":\"firecracker:/run/v\",\"adg\":\"adg.json\","
			  "\"declared\":\"d.json\",\"authorized\":\"a.json\",\"policy\":\"report\","
			  "\"silence_window\":30,\"socket_owner\":\"1:2\"},"
			  "{\"id\":\"b\",\"listen\":\"unix:/b\"}]}",
			  &list),
		"");
	cr_assert_eq(list.count, 2);
	cell = list.cells[0];
	cr_assert_str_eq(cell->id, "web-1");
	cr_assert_str_eq(cell->run, "7");
	cr_assert_str_eq(cell->hash, "sha256:x");
	cr_assert_str_eq(cell->listen.path, "/run/v_9001");
	cr_assert_str_eq(cell->output,
			 "{\"a b\":[1,2.50,\"x \\\" y\"],\"n\":18446744073709551615}");
	cr_assert_eq(cell->declared->value.declared_surface.dns_query_count, 1);
	cr_assert_eq(cell->authorized->value.declared_surface.egress_rules[0].port, 443);
	cr_assert_str_eq(cell->declared->value.agent_version, "1");
	cr_assert_not(cell->enforce);
	cr_assert_eq(cell->silence_s, 30);
	cr_assert_eq(cell->owner.gid, 2);
	cell = list.cells[1];
	cr_assert_str_eq(cell->run, "run");
	cr_assert(cell->enforce && cell->declared == NULL && cell->hash == NULL);
	cr_assert_eq(cell->silence_s, 10);
	host_cell_list_free(&list);
}

Test(cells, mistakes_have_a_place)
{
	static const struct {
		const char *text, *said;
	} table[] = {
		{"", "cells.json: not JSON at byte 0\n"},
		{"[]", "cells.json: it is no object\n"},
		{"{}", "cells.json: cells is missing\n"},
		{"{\"cells\":{}}", "cells.json: cells: it is no array\n"},
		{"{\"cells\":[],\"cell\":1}", "cells.json: 'cell' is no member of it\n"},
		{"{\"cells\":[],\"cells\":[]}", "cells.json: a key is given twice\n"},
		{"{\"cells\":[1]}", "cells.json: cells[0]: it is no object\n"},
		{"{\"cells\":[{}]}", "cells.json: cells[0].id: it is missing\n"
				     "cells.json: cells[0].listen: it is missing\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\"},{\"id\":\"b\",\"listen\":\"x\"}]"
		 "}",
		 "cells.json: cells[1].listen: an address is unix:PATH, firecracker:BASE or "
		 "vsock:PORT\n"},
		{"{\"cells\":[{\"id\":\"a b\",\"run\":\"\",\"listen\":\"unix:a\"}]}",
		 "cells.json: cells[0].run: it is empty\n"},
		{"{\"cells\":[{\"id\":\"a b\",\"listen\":\"unix:a\",\"policy\":\"x\"}]}",
		 "cells.json: cells[0].id: only A-Z, a-z, 0-9, '_' and '-' may stand in it\n"
		 "cells.json: cells[0].policy: it is neither enforce nor report\n"},
		{"{\"cells\":[{\"id\":\"a\\u0000b\",\"listen\":\"unix:a\"}]}",
		 "cells.json: cells[0].id: it holds a NUL\n"},
		{"{\"cells\":[{\"id\":1,\"listen\":\"unix:a\"}]}",
		 "cells.json: cells[0].id: it is no string\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\",\"silence_window\":0}]}",
		 "cells.json: cells[0].silence_window: it is no whole number from 1 to 86400\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\",\"silence_window\":1.5}]}",
		 "cells.json: cells[0].silence_window: it is no whole number from 1 to 86400\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\",\"silence\":1}]}",
		 "cells.json: cells[0]: 'silence' is no member of it\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"vsock:1\",\"socket_owner\":\"1:1\"}]}",
		 "cells.json: cells[0].socket_owner: a vsock has no file to own\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\",\"declared\":\"no.json\"}]}",
		 "cells.json: cells[0].authorized: it is missing, and the other one says nothing "
		 "alone\nno.json: No such file or directory\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\",\"adg\":\".\"}]}",
		 ".: it is no regular file\n"},
		{"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\"},{\"id\":\"b\",\"listen\":"
		 "\"unix:b\"},{\"id\":\"a\",\"listen\":\"unix:b\"}]}",
		 "cells.json: cells[2].id: cells[0] has the same\n"
		 "cells.json: cells[2].listen: cells[1] has the same\n"},
	};
	struct host_cell_list list;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		cr_assert_str_eq(read_list(table[i].text, &list), table[i].said, "%s",
				 table[i].text);
}

Test(cells, declarations_are_read_to_the_letter)
{
	static const struct {
		const char *text, *said;
	} table[] = {
		{"{}", ""},
		{"{\"declared_surface\":{}}", ""},
		{"{\"surface\":{}}", "d.json: 'surface' is no member of it\n"},
		{"{\"agent_version\":1}", "d.json: agent_version: it is no string\n"},
		{"{\"declared_surface\":[]}", "d.json: declared_surface: it is no object\n"},
		{"{\"declared_surface\":{\"dns_queries\":[\"a\",\"\",1]}}",
		 "d.json: declared_surface.dns_queries[1]: it is empty\n"
		 "d.json: declared_surface.dns_queries[2]: it is no string\n"},
		{"{\"declared_surface\":{\"secret_refs\":{}}}",
		 "d.json: declared_surface.secret_refs: it is no array\n"},
		{"{\"declared_surface\":{\"egress_rules\":[{\"host\":\"h\",\"port\":65536}]}}",
		 "d.json: declared_surface.egress_rules[0].protocol: it is missing\n"
		 "d.json: declared_surface.egress_rules[0].port: it is no whole number from 0 to "
		 "65535\n"},
		{"{\"declared_surface\":{\"egress_rules\":[{\"host\":\"h\",\"port\":-1,"
		 "\"protocol\":\"tcp\"},{\"host\":\"h\",\"port\":1,\"protocol\":\"tcp\",\"x\":1}]}"
		 "}",
		 "d.json: declared_surface.egress_rules[0].port: it is no whole number from 0 to "
		 "65535\nd.json: declared_surface.egress_rules[1]: 'x' is no member of it\n"},
		{"{\"agent_version\":\"\xff\"}", "d.json: not UTF-8\n"},
	};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		struct said said = {.text = ""};
		struct host_mistakes mistakes = {.say = hear, .context = &said};
		struct host_declaration *declaration;

		put_file("d.json", table[i].text);
		declaration = host_declaration_read("d.json", &mistakes);
		cr_assert_str_eq(said.text, table[i].said, "%s", table[i].text);
		cr_assert_eq(declaration != NULL, mistakes.count == 0);
		host_declaration_free(declaration);
	}
}

Test(cells, the_object_of_adg)
{
	static const struct {
		const char *text, *said;
	} table[] = {
		{"{}", ""},
		{"[]", "adg.json: it is no object\n"},
		{"{\"a\":NaN}", "adg.json: NaN or Infinity\n"},
		{"{\"a\":01}", "adg.json: a number that is none\n"},
		{"{\"a\":1e400}", ""},
		{"{\"a\":1,\"b\":{\"c\":1,\"c\":2}}", "adg.json: a key is given twice\n"},
		{"{\"a\":1} {}", "adg.json: not JSON at byte 8\n"},
		/* The first and the last of each length; then overlong, half a pair, and beyond. */
		{"{\"\x7f\xc2\x80\xdf\xbf\":\"\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xef\xbf\xbf"
		 "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"}",
		 ""},
		{"{\"a\":\"\xc0\xaf\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":\"\xe0\x9f\xbf\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":\"\xed\xa0\x80\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":\"\xf0\x8f\xbf\xbf\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":\"\xf4\x90\x80\x80\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":\"\xf5\x80\x80\x80\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":\"\x80\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":\"\xe2\x82\"}", "adg.json: not UTF-8\n"},
		{"{\"a\":1}\xe2\x82", "adg.json: not UTF-8\n"},
		{"{\"a\":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}",
		 "adg.json: nested too deep at byte 36\n"},
	};
	const char *cells =
		"{\"cells\":[{\"id\":\"a\",\"listen\":\"unix:a\",\"adg\":\"adg.json\"}]}";
	char large[20000];
	struct host_cell_list list;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		put_file("adg.json", table[i].text);
		cr_assert_str_eq(read_list(cells, &list), table[i].said, "%s", table[i].text);
		host_cell_list_free(&list);
	}
	memset(large, 'x', sizeof(large));
	memcpy(large, "{\"a\":\"", 6);
	memcpy(large + HOST_ADG_MAX_BYTES - 1, "\"}", 3);
	put_file("adg.json", large);
	cr_assert_str_eq(read_list(cells, &list), "adg.json: it is longer than 16384 bytes\n");
	memcpy(large + HOST_ADG_MAX_BYTES - 2, "\"}", 3);
	put_file("adg.json", large);
	cr_assert_str_eq(read_list(cells, &list), "");
	host_cell_list_free(&list);
}

Test(cells, fingerprints)
{
	static const char *const different[] = {
		"{\"id\":\"a\",\"listen\":\"unix:a\"}",
		"{\"id\":\"b\",\"listen\":\"unix:a\"}",
		"{\"id\":\"a\",\"run\":\"2\",\"listen\":\"unix:a\"}",
		"{\"id\":\"a\",\"listen\":\"unix:b\"}",
		"{\"id\":\"a\",\"listen\":\"unix:a\",\"hash\":\"x\"}",
		"{\"id\":\"a\",\"listen\":\"unix:a\",\"silence_window\":11}",
		"{\"id\":\"a\",\"listen\":\"unix:a\",\"policy\":\"report\"}",
		"{\"id\":\"a\",\"listen\":\"unix:a\",\"adg\":\"adg.json\"}",
		("{\"id\":\"a\",\"listen\":\"unix:a\",\"declared\":\"d.json\",\"authorized\":\"d."
		 "json\"}"),
		"{\"id\":\"a\",\"listen\":\"unix:a\",\"socket_owner\":\"0:0\"}",
	};
	enum { COUNT = sizeof(different) / sizeof(different[0]) };
	struct host_cell_config *made[COUNT], *again;
	struct said said = {.text = ""};
	struct host_mistakes mistakes = {.say = hear, .context = &said};

	put_file("adg.json", "{}");
	put_file("d.json", "{}");
	for (size_t i = 0; i < COUNT; i++) {
		made[i] = host_cell_config_parse(different[i], strlen(different[i]), &mistakes);
		cr_assert_not_null(made[i], "%s", said.text);
		again = host_cell_config_parse(different[i], strlen(different[i]), &mistakes);
		cr_assert_str_eq(made[i]->fingerprint, again->fingerprint);
		host_cell_config_free(again);
		for (size_t k = 0; k < i; k++)
			cr_assert_str_neq(made[i]->fingerprint, made[k]->fingerprint, "%zu %zu", i,
					  k);
	}
	for (size_t i = 0; i < COUNT; i++)
		host_cell_config_free(made[i]);
	/* What stands in a document counts, and not its name or its white space. */
	put_file("d.json", " {\"agent_version\": \"2\"}");
	again = host_cell_config_parse(different[8], strlen(different[8]), &mistakes);
	cr_assert_not_null(strstr(again->fingerprint, "{\"agent_version\":\"2\"}"));
	host_cell_config_free(again);
}
