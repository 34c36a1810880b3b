/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * One connection's bytes: cut into frames, decoded, put to the cell's account and, when they are
 * events, to the output.
 *
 * One thread. Memory is the struct alone, whatever the guest sends. The account and the line are
 * borrowed for the life of the input; the caller sees to it that the line has room for what one
 * feed can make (HOST_OUTPUT_ROOM_BYTES).
 */
#ifndef CELLOS_HOST_INPUT_H
#define CELLOS_HOST_INPUT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "account.h"
#include "cellos_json_line.h"

struct host_input {
	struct cellos_stream stream;
	struct host_account *account;
	struct cellos_json_line *line;
};

void host_input_init(struct host_input *input, struct host_account *account,
		     struct cellos_json_line *line);
/*
 * All bytes are taken. 0; -EPROTO when the framing is lost (counted; close the connection);
 * -ENOSPC when the line had no room after all.
 */
CELLOS_MUST_CHECK int host_input_feed(struct host_input *input, const uint8_t *bytes,
				      size_t length);
/* One read of at most `size` bytes into `buffer`, fed. Bytes read, 0 at the end, or -errno. */
CELLOS_MUST_CHECK ssize_t host_input_read(struct host_input *input, int fd, uint8_t *buffer,
					  size_t size);

#endif
