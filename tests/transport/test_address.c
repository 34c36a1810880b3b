/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Address texts, good and malformed, for both parsers. Parsing opens nothing: "vsock:..." is safe.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cellos/transport.h"

#define B50 "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define PATH_102 B50 B50 "bb"
#define PATH_107 B50 B50 "bbbbbbb"
#define PATH_108 B50 B50 "bbbbbbbb"

static const struct good {
	const char *text;
	enum cellos_address_kind kind;
	uint32_t cid, port;
	int fd;
	const char *path;
} good[] = {
	{"vsock:2:9001", CELLOS_ADDRESS_VSOCK, 2, 9001, -1, ""},
	{"vsock:0:0", CELLOS_ADDRESS_VSOCK, 0, 0, -1, ""},
	{"vsock:4294967294:4294967294", CELLOS_ADDRESS_VSOCK, 4294967294u, 4294967294u, -1, ""},
	{"unix:/run/x", CELLOS_ADDRESS_UNIX, 0, 0, -1, "/run/x"},
	{"unix:x", CELLOS_ADDRESS_UNIX, 0, 0, -1, "x"},
	{"unix:a:b", CELLOS_ADDRESS_UNIX, 0, 0, -1, "a:b"},
	{"unix:unix:", CELLOS_ADDRESS_UNIX, 0, 0, -1, "unix:"},
	{"unix:" PATH_107, CELLOS_ADDRESS_UNIX, 0, 0, -1, PATH_107},
	{"fd:0", CELLOS_ADDRESS_FD, 0, 0, 0, ""},
	{"fd:2147483647", CELLOS_ADDRESS_FD, 0, 0, 2147483647, ""},
};

static const struct bad {
	const char *text;
	const char *why; /* a part of it */
} bad[] = {
	{"", "an address is"},
	{"x", "an address is"},
	{"unix", "an address is"},
	{"UNIX:/x", "an address is"},
	{" unix:/x", "an address is"},
	{"firecracker:/x", "an address is"},
	{"tcp:1.2.3.4:5", "an address is"},
	{"unix:", "empty"},
	{"unix:" PATH_108, "107 bytes"},
	{"unix:" PATH_107 PATH_107, "107 bytes"},
	{"vsock:", "vsock:CID:PORT"},
	{"vsock:2", "vsock:CID:PORT"},
	{"vsock::9001", "CID"},
	{"vsock:2:", "port"},
	{"vsock:2:9001x", "port"},
	{"vsock:2:9001:1", "port"},
	{"vsock:2: 9001", "port"},
	{"vsock:2:+9001", "port"},
	{"vsock:2:-1", "port"},
	{"vsock:2:0x10", "port"},
	{"vsock:2:09001", "port"},
	{"vsock:2:4294967295", "port"},
	{"vsock:2:4294967296", "port"},
	{"vsock:2:18446744073709560617", "port"}, /* 9001 modulo 2^64 */
	{"vsock:2:99999999999999999999999999999999999999", "port"},
	{"vsock:-2:9001", "CID"},
	{"vsock:4294967295:9001", "CID"},
	{"vsock:2x:9001", "CID"},
	{"vsock:host:9001", "CID"},
	{"fd:", "descriptor"},
	{"fd:-1", "descriptor"},
	{"fd:+1", "descriptor"},
	{"fd:1 ", "descriptor"},
	{"fd:1\n", "descriptor"},
	{"fd:01", "descriptor"},
	{"fd:stdout", "descriptor"},
	{"fd:2147483648", "descriptor"},
	{"fd:4294967297", "descriptor"},
	{"fd:18446744073709551617", "descriptor"},
};

Test(address, good_texts)
{
	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++) {
		const struct good *g = &good[i];
		struct cellos_address a;
		char text[CELLOS_ADDRESS_TEXT_BYTES];
		const char *why = NULL;

		cr_assert_eq(cellos_address_parse(g->text, &a, &why), 0, "%s: %s", g->text, why);
		cr_assert_eq(a.kind, g->kind, "%s", g->text);
		cr_assert_eq(a.cid, g->cid, "%s", g->text);
		cr_assert_eq(a.port, g->port, "%s", g->text);
		cr_assert_eq(a.fd, g->fd, "%s", g->text);
		cr_assert_str_eq(a.path, g->path, "%s", g->text);
		cr_assert_str_eq(cellos_address_format(&a, text), g->text);
	}
}

Test(address, malformed_texts)
{
	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct cellos_address a;
		const char *why = NULL;

		cr_assert_eq(cellos_address_parse(bad[i].text, &a, &why), -EINVAL, "'%s'",
			     bad[i].text);
		cr_assert_not_null(why, "'%s'", bad[i].text);
		cr_assert_not_null(strstr(why, bad[i].why), "'%s': %s", bad[i].text, why);
	}
}

Test(address, each_byte_but_a_digit_is_refused_in_a_number)
{
	char text[] = "vsock:2:90_1";

	for (int byte = 1; byte < 256; byte++) {
		struct cellos_address a;
		const char *why;
		bool digit = byte >= '0' && byte <= '9';

		text[10] = (char)byte;
		cr_assert_eq(cellos_address_parse(text, &a, &why), digit ? 0 : -EINVAL, "byte %d",
			     byte);
	}
}

Test(address, format_of_nothing_is_a_text_too)
{
	struct cellos_address none = {0};
	char text[CELLOS_ADDRESS_TEXT_BYTES];

	cr_assert_str_eq(cellos_address_format(&none, text), "none");
}

Test(address, listening)
{
	static const struct {
		const char *text, *path;
	} ok[] = {{"unix:/run/x", "/run/x"},
		  {"firecracker:/run/vm", "/run/vm_9001"},
		  {"firecracker:" PATH_102, PATH_102 "_9001"}};
	struct cellos_address a;
	const char *why;

	for (size_t i = 0; i < sizeof(ok) / sizeof(ok[0]); i++) {
		cr_assert_eq(cellos_listen_address_parse(ok[i].text, &a, &why), 0, "%s",
			     ok[i].text);
		cr_assert_eq(a.kind, CELLOS_ADDRESS_UNIX);
		cr_assert_str_eq(a.path, ok[i].path);
	}
	cr_assert_eq(cellos_listen_address_parse("vsock:9001", &a, &why), 0);
	cr_assert_eq(a.kind, CELLOS_ADDRESS_VSOCK);
	cr_assert_eq(a.cid, UINT32_MAX);
	cr_assert_eq(a.port, 9001);
}

Test(address, listening_malformed)
{
	static const struct bad texts[] = {
		{"", "an address is"},
		{"fd:1", "an address is"},
		{"unix:", "empty"},
		{"unix:" PATH_108, "107 bytes"},
		{"firecracker:", "empty"},
		{"firecracker:" PATH_102 "b", "107 bytes"},
		{"firecracker:" PATH_108, "107 bytes"},
		{"vsock:", "port"},
		{"vsock:2:9001", "port"},
		{"vsock:9001 ", "port"},
		{"vsock:4294967295", "port"},
		{"vsock:-1", "port"},
	};

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		struct cellos_address a;
		const char *why = NULL;

		cr_assert_eq(cellos_listen_address_parse(texts[i].text, &a, &why), -EINVAL, "'%s'",
			     texts[i].text);
		cr_assert_not_null(strstr(why, texts[i].why), "'%s': %s", texts[i].text, why);
	}
}
