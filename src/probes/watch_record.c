/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/* See watch_record.h. Everything is copied out before it is looked at: no alignment is assumed. */
#include "watch_record.h"

#include <errno.h>
#include <linux/fanotify.h>
#include <string.h>
#include <sys/inotify.h>

/* How a piece of a record begins that names an inode; the rest of the handle follows, then a name
   if it is of that kind. */
struct piece {
	struct fanotify_event_info_header head;
	__kernel_fsid_t fs;
	uint32_t handle_bytes;
	int32_t handle_type;
};

/* FNV-1a, but for the bit. */
uint64_t watch_record_inode(const void *id, size_t len)
{
	uint64_t digest = 0xcbf29ce484222325u;

	for (const uint8_t *at = id; len > 0; at++, len--)
		digest = (digest ^ *at) * 0x100000001b3u;
	return digest | WATCH_DIGEST;
}

/* The bytes that it takes. Kinds of pieces that are new to us are stepped over. */
static ssize_t take_piece(const uint8_t *at, size_t left, struct watch_record *record)
{
	struct piece piece = {.handle_bytes = 0};
	uint8_t kind;
	uint64_t *inode;
	size_t room;

	memcpy(&piece, at, left < sizeof(piece) ? left : sizeof(piece));
	kind = piece.head.info_type;
	if (piece.head.len < sizeof(piece.head) || piece.head.len > left)
		return -EINVAL;
	if (kind < FAN_EVENT_INFO_TYPE_FID || kind > FAN_EVENT_INFO_TYPE_DFID)
		return piece.head.len;
	if (piece.head.len < sizeof(piece) || piece.handle_bytes > piece.head.len - sizeof(piece))
		return -EINVAL;
	inode = kind == FAN_EVENT_INFO_TYPE_FID ? &record->self : &record->dir;
	*inode = watch_record_inode(at + sizeof(piece.head),
				    WATCH_ID_HEAD_BYTES + piece.handle_bytes);
	if (kind == FAN_EVENT_INFO_TYPE_DFID_NAME) {
		room = piece.head.len - sizeof(piece) - piece.handle_bytes;
		record->name = (const char *)at + piece.head.len - room;
		if (memchr(record->name, 0, room) == NULL)
			return -EINVAL;
	}
	return piece.head.len;
}

ssize_t watch_record_fanotify(const uint8_t *buffer, size_t len, struct watch_record *out)
{
	struct watch_record record = {.name = ""};
	struct fanotify_event_metadata head;

	if (len < sizeof(head))
		return -EINVAL;
	memcpy(&head, buffer, sizeof(head));
	if (head.vers != FANOTIFY_METADATA_VERSION || head.metadata_len < sizeof(head) ||
	    head.event_len < head.metadata_len || head.event_len > len)
		return -EINVAL;
	record.mask = (uint32_t)head.mask;
	record.pid = head.pid > 0 ? (uint32_t)head.pid : 0;
	for (size_t at = head.metadata_len; at < head.event_len;) {
		ssize_t taken = take_piece(buffer + at, head.event_len - at, &record);

		if (taken < 0)
			return taken;
		at += (size_t)taken;
	}
	*out = record;
	return head.event_len;
}

ssize_t watch_record_inotify(const uint8_t *buffer, size_t len, struct watch_record *out)
{
	struct inotify_event head;

	if (len < sizeof(head))
		return -EINVAL;
	memcpy(&head, buffer, sizeof(head));
	if (head.len > len - sizeof(head) ||
	    (head.len > 0 && memchr(buffer + sizeof(head), 0, head.len) == NULL))
		return -EINVAL;
	*out = (struct watch_record){.dir = (uint32_t)head.wd, .mask = head.mask};
	out->name = head.len > 0 ? (const char *)buffer + sizeof(head) : "";
	return (ssize_t)(sizeof(head) + head.len);
}
