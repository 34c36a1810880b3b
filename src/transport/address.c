/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Addresses of channels: text to struct and back, and struct to socket address.
 *
 * Pure: no descriptor is opened, nothing is looked up, any thread may call. Filling the sockaddr is
 * all that knows AF_VSOCK; the rest of the folder treats every socket alike. Numbers are read
 * strictly (no sign, no blank, no leading zero), because a mistyped port that "almost" parses would
 * be a silent agent.
 */
#include "address.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

/* After sys/socket.h: it wants sa_family_t. */
#include <linux/vm_sockets.h>

const char *cellos_text_after(const char *text, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(text, prefix, length) == 0 ? text + length : NULL;
}

int cellos_address_refuse(const char **why, const char *reason)
{
	*why = reason;
	return -EINVAL;
}

int cellos_text_number(const char *text, size_t length, uint32_t max, uint32_t *value,
		       const char **why, const char *reason)
{
	uint64_t sum = 0;

	/* Ten digits hold every 32-bit number, and cannot overflow the sum. */
	if (length == 0 || length > 10 || (length > 1 && text[0] == '0') ||
	    strspn(text, "0123456789") < length)
		return cellos_address_refuse(why, reason);
	for (size_t i = 0; i < length; i++)
		sum = sum * 10 + (uint64_t)(text[i] - '0');
	if (sum > max)
		return cellos_address_refuse(why, reason);
	*value = (uint32_t)sum;
	return 0;
}

int cellos_unix_path_set(struct cellos_address *address, const char *path, const char *suffix,
			 const char **why)
{
	size_t length = strlen(path), tail = strlen(suffix);

	address->kind = CELLOS_ADDRESS_UNIX;
	if (length == 0)
		return cellos_address_refuse(why, "path is empty");
	/* The kernel takes 108 bytes without a NUL too; other programs then read past the end. */
	if (length + tail >= sizeof(address->path))
		return cellos_address_refuse(why, "path is longer than 107 bytes");
	memcpy(address->path, path, length);
	memcpy(address->path + length, suffix, tail + 1);
	return 0;
}

static int parse_vsock(const char *text, struct cellos_address *address, const char **why)
{
	const char *colon = strchr(text, ':');

	address->kind = CELLOS_ADDRESS_VSOCK;
	if (colon == NULL)
		return cellos_address_refuse(why, "a vsock address is vsock:CID:PORT");
	if (cellos_text_number(text, (size_t)(colon - text), CELLOS_VSOCK_MAX_NUMBER, &address->cid,
			       why, "CID is not a number from 0 to 4294967294") < 0)
		return -EINVAL;
	return cellos_text_number(colon + 1, strlen(colon + 1), CELLOS_VSOCK_MAX_NUMBER,
				  &address->port, why, CELLOS_WHY_PORT);
}

int cellos_address_parse(const char *text, struct cellos_address *address, const char **why)
{
	const char *rest;

	memset(address, 0, sizeof(*address));
	address->fd = -1;
	if ((rest = cellos_text_after(text, "vsock:")) != NULL)
		return parse_vsock(rest, address, why);
	if ((rest = cellos_text_after(text, "unix:")) != NULL)
		return cellos_unix_path_set(address, rest, "", why);
	if ((rest = cellos_text_after(text, "fd:")) != NULL) {
		address->kind = CELLOS_ADDRESS_FD;
		return cellos_text_number(rest, strlen(rest), INT_MAX, (uint32_t *)&address->fd,
					  why, "descriptor is not a number from 0 to 2147483647");
	}
	return cellos_address_refuse(why, "an address is vsock:CID:PORT, unix:PATH or fd:N");
}

const char *cellos_address_format(const struct cellos_address *address,
				  char out[CELLOS_ADDRESS_TEXT_BYTES])
{
	switch (address->kind) {
	case CELLOS_ADDRESS_VSOCK:
		snprintf(out, CELLOS_ADDRESS_TEXT_BYTES, "vsock:%u:%u", address->cid,
			 address->port);
		break;
	case CELLOS_ADDRESS_UNIX:
		snprintf(out, CELLOS_ADDRESS_TEXT_BYTES, "unix:%.*s",
			 (int)sizeof(address->path) - 1, address->path);
		break;
	case CELLOS_ADDRESS_FD:
		snprintf(out, CELLOS_ADDRESS_TEXT_BYTES, "fd:%d", address->fd);
		break;
	default:
		memcpy(out, "none", sizeof("none"));
	}
	return out;
}

socklen_t cellos_address_to_sockaddr(const struct cellos_address *address,
				     union cellos_any_sockaddr *out)
{
	memset(out, 0, sizeof(*out));
	if (address->kind == CELLOS_ADDRESS_VSOCK) {
		struct sockaddr_vm *vm = (struct sockaddr_vm *)&out->storage;

		vm->svm_family = AF_VSOCK;
		vm->svm_cid = address->cid;
		vm->svm_port = address->port;
		return sizeof(*vm);
	}
	struct sockaddr_un *un = (struct sockaddr_un *)&out->storage;

	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, address->path, sizeof(un->sun_path));
	return sizeof(*un);
}
