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

bool cellos_text_number(const char *text, size_t length, uint32_t max, uint32_t *value)
{
	uint64_t sum = 0;

	/* Ten digits hold every 32-bit number, and cannot overflow the sum. */
	if (length == 0 || length > 10 || (length > 1 && text[0] == '0'))
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		sum = sum * 10 + (uint64_t)(text[i] - '0');
	}
	if (sum > max)
		return false;
	*value = (uint32_t)sum;
	return true;
}

int cellos_unix_path_set(struct cellos_address *address, const char *path, const char *suffix,
			 const char **why)
{
	size_t length = strlen(path), tail = strlen(suffix);

	if (length == 0) {
		*why = "path is empty";
		return -EINVAL;
	}
	/* The kernel takes 108 bytes without a NUL too; other programs then read past the end. */
	if (length >= sizeof(address->path) || tail >= sizeof(address->path) - length) {
		*why = "path is longer than 107 bytes";
		return -EINVAL;
	}
	memcpy(address->path, path, length);
	memcpy(address->path + length, suffix, tail + 1);
	address->kind = CELLOS_ADDRESS_UNIX;
	return 0;
}

static int parse_vsock(const char *text, struct cellos_address *address, const char **why)
{
	const char *colon = strchr(text, ':');

	if (colon == NULL) {
		*why = "a vsock address is vsock:CID:PORT";
		return -EINVAL;
	}
	if (!cellos_text_number(text, (size_t)(colon - text), CELLOS_VSOCK_MAX_NUMBER,
				&address->cid)) {
		*why = "CID is not a number from 0 to 4294967294";
		return -EINVAL;
	}
	if (!cellos_text_number(colon + 1, strlen(colon + 1), CELLOS_VSOCK_MAX_NUMBER,
				&address->port)) {
		*why = CELLOS_WHY_PORT;
		return -EINVAL;
	}
	address->kind = CELLOS_ADDRESS_VSOCK;
	return 0;
}

static int parse_fd(const char *text, struct cellos_address *address, const char **why)
{
	uint32_t number;

	if (!cellos_text_number(text, strlen(text), INT_MAX, &number)) {
		*why = "descriptor is not a number from 0 to 2147483647";
		return -EINVAL;
	}
	address->kind = CELLOS_ADDRESS_FD;
	address->fd = (int)number;
	return 0;
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
	if ((rest = cellos_text_after(text, "fd:")) != NULL)
		return parse_fd(rest, address, why);
	*why = "an address is vsock:CID:PORT, unix:PATH or fd:N";
	return -EINVAL;
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
		snprintf(out, CELLOS_ADDRESS_TEXT_BYTES, "none");
		break;
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
