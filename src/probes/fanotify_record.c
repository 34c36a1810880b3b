/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See fanotify_record.h. Everything is copied out before it is looked at: no alignment is
   assumed. */
#include "fanotify_record.h"

#include <errno.h>
#include <linux/fanotify.h>
#include <string.h>

#define HEADER_BYTES sizeof(struct fanotify_event_info_header)

/* A file handle with its file system, and what follows it in the same piece. */
static int take_id(const uint8_t *piece, size_t len, struct fanotify_id *id)
{
	uint32_t handle_bytes;

	if (len < HEADER_BYTES + FANOTIFY_ID_HEAD_BYTES)
		return -EINVAL;
	memcpy(&handle_bytes, piece + HEADER_BYTES + sizeof(__kernel_fsid_t), sizeof(handle_bytes));
	if (handle_bytes > FANOTIFY_ID_MAX_BYTES - FANOTIFY_ID_HEAD_BYTES ||
	    handle_bytes > len - HEADER_BYTES - FANOTIFY_ID_HEAD_BYTES)
		return -EINVAL;
	id->bytes = piece + HEADER_BYTES;
	id->len = FANOTIFY_ID_HEAD_BYTES + handle_bytes;
	return 0;
}

static int take_name(const uint8_t *piece, size_t len, struct fanotify_record *record)
{
	size_t begin;

	if (take_id(piece, len, &record->dir) < 0)
		return -EINVAL;
	begin = HEADER_BYTES + record->dir.len;
	record->name = (const char *)piece + begin;
	record->name_len = strnlen(record->name, len - begin);
	return record->name_len < len - begin ? 0 : -EINVAL;
}

/* Kinds of pieces that are new to us are stepped over. */
static int take_pieces(const uint8_t *at, size_t left, struct fanotify_record *record)
{
	while (left > 0) {
		struct fanotify_event_info_header header;
		int result = 0;

		if (left < sizeof(header))
			return -EINVAL;
		memcpy(&header, at, sizeof(header));
		if (header.len < sizeof(header) || header.len > left)
			return -EINVAL;
		if (header.info_type == FAN_EVENT_INFO_TYPE_DFID_NAME)
			result = take_name(at, header.len, record);
		else if (header.info_type == FAN_EVENT_INFO_TYPE_DFID)
			result = take_id(at, header.len, &record->dir);
		else if (header.info_type == FAN_EVENT_INFO_TYPE_FID)
			result = take_id(at, header.len, &record->self);
		if (result < 0)
			return result;
		at += header.len;
		left -= header.len;
	}
	return 0;
}

int fanotify_record_parse(const uint8_t *buffer, size_t len, struct fanotify_record *out)
{
	struct fanotify_event_metadata head;
	struct fanotify_record record = {.name = ""};

	if (len < sizeof(head))
		return -EINVAL;
	memcpy(&head, buffer, sizeof(head));
	if (head.vers != FANOTIFY_METADATA_VERSION || head.metadata_len < sizeof(head) ||
	    head.event_len < head.metadata_len || head.event_len > len ||
	    head.event_len > INT32_MAX)
		return -EINVAL;
	record.mask = head.mask;
	record.pid = head.pid > 0 ? (uint32_t)head.pid : 0;
	if (take_pieces(buffer + head.metadata_len, head.event_len - head.metadata_len, &record) <
	    0)
		return -EINVAL;
	*out = record;
	return (int)head.event_len;
}
