/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the two address parsers share. Pure functions over the caller's memory; private to this
 * folder.
 */
#ifndef CELLOS_TRANSPORT_ADDRESS_H
#define CELLOS_TRANSPORT_ADDRESS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "cellos/transport.h"

/* VMADDR_PORT_ANY and VMADDR_CID_ANY are 2^32 - 1 and name nobody in particular. */
#define CELLOS_VSOCK_MAX_NUMBER UINT32_C(4294967294)
#define CELLOS_WHY_PORT "port is not a number from 0 to 4294967294"

/* The text behind `prefix`, or NULL when `text` begins otherwise. */
const char *cellos_text_after(const char *text, const char *prefix);
/* -EINVAL, with `reason` in *why. */
int cellos_address_refuse(const char **why, const char *reason);
/*
 * `length` bytes of decimal digits, no sign, no leading zero, at most `max`. 0, or -EINVAL with
 * `reason` in *why.
 */
int cellos_text_number(const char *text, size_t length, uint32_t max, uint32_t *value,
		       const char **why, const char *reason);
/* PATH followed by `suffix` into address->path. 0, or -EINVAL and *why. */
int cellos_unix_path_set(struct cellos_address *address, const char *path, const char *suffix,
			 const char **why);

union cellos_any_sockaddr {
	struct sockaddr any;
	struct sockaddr_storage storage;
};

/* Fills a socket address for a vsock or unix address; returns its length. */
socklen_t cellos_address_to_sockaddr(const struct cellos_address *address,
				     union cellos_any_sockaddr *out);

#endif
