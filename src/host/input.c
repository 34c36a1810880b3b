/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From bytes to the account and the output; input.h says what holds.
 *
 * A frame that is cut by the end of the connection is neither event nor error: the agent sends it
 * again, whole, on the next one.
 */
#include "input.h"

#include <errno.h>
#include <unistd.h>

void host_input_init(struct host_input *input, struct host_account *account,
		     struct cellos_json_line *line)
{
	cellos_stream_init(&input->stream);
	input->account = account;
	input->line = line;
}

static int take_frame(struct host_input *input, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	enum cellos_wire_status status = cellos_decode_frame(frame, length, &event, NULL);

	if (status != CELLOS_WIRE_OK)
		host_account_refuse(input->account, status);
	else if (host_account_take(input->account, &event))
		return cellos_json_event(input->line, &event);
	return 0;
}

int host_input_feed(struct host_input *input, const uint8_t *bytes, size_t length)
{
	enum cellos_stream_status status;
	const uint8_t *frame;
	size_t frame_length;
	int result = 0;

	if (input->stream.lost)
		return -EPROTO; /* counted once */
	cellos_stream_feed(&input->stream, bytes, length);
	while ((status = cellos_stream_next(&input->stream, &frame, &frame_length)) ==
	       CELLOS_STREAM_FRAME) {
		int written = take_frame(input, frame, frame_length);

		if (written < 0)
			result = written; /* go on: the account must see every frame */
	}
	if (status == CELLOS_STREAM_LOST) {
		host_account_framing_lost(input->account);
		return -EPROTO;
	}
	return result;
}

ssize_t host_input_read(struct host_input *input, int fd, uint8_t *buffer, size_t size)
{
	ssize_t n;
	int status;

	do
		n = read(fd, buffer, size);
	while (n < 0 && errno == EINTR);
	if (n <= 0)
		return n == 0 ? 0 : -errno;
	status = host_input_feed(input, buffer, (size_t)n);
	return status < 0 ? status : n;
}
