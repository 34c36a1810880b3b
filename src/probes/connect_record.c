/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See connect_record.h. */
#include "connect_record.h"

#include <errno.h>
#include <string.h>

#include "connect_shared.h"

int cellos_connect_record(const void *bytes, size_t length, struct cellos_raw_event *event)
{
	struct connect_record record;
	size_t comm_len;

	if (length != sizeof(record))
		return -EINVAL;
	memcpy(&record, bytes, sizeof(record));
	if (record.kind != CONNECT_KIND_CONNECT && record.kind != CONNECT_KIND_DATAGRAM)
		return -EINVAL;
	comm_len = strnlen(record.comm, CELLOS_RAW_COMM_MAX_BYTES);
	*event = (struct cellos_raw_event){
		.monotonic_ns = record.monotonic_ns,
		.pid = record.pid,
		.source = CELLOS_SOURCE_NET_CONNECT_ATTEMPTED,
		.comm_len = (uint8_t)comm_len,
	};
	memcpy(event->comm, record.comm, comm_len);
	return 0;
}
