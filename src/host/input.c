/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From bytes to the account and the output; input.h says what holds. One thread.
 *
 * A frame that is cut by the end of the connection is neither event nor error: the agent sends it
 * again, whole, on the next one.
 */
#include "input.h"

#include <errno.h>

void host_input_init(struct host_input *input, struct host_account *account,
		     const struct host_formatter *formatter, struct cellos_json_line *line,
		     size_t room)
{
	/* The carry is not cleared: the stream reads of it only what it wrote. */
	cellos_stream_init(&input->stream);
	input->account = account;
	input->formatter = formatter;
	input->line = line;
	input->room = room;
	input->received_ns = 0;
	input->events = 0;
	input->discard = false;
	input->spare = 0;
	input->latest_ns = 0;
}

static void write_event(struct host_input *input, const struct cellos_probe_event *event)
{
	struct host_account *account = input->account;
	const struct host_place place = {
		.incarnation = account->incarnation,
		.epoch = account->connection.epoch,
		.sequence = account->sequence,
		.received_ns = input->received_ns,
	};

	/* No room after all is excluded by `room`; should it happen, it has its number. */
	if (input->discard || host_format_event(input->formatter, input->line, event, &place) < 0)
		host_account_lost(account, 1);
	else
		input->events++;
}

static void take_frame(struct host_input *input, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event *event = &input->decoded[input->spare];
	enum cellos_wire_status status = cellos_decode_frame(frame, length, event, NULL);

	if (status != CELLOS_WIRE_OK) {
		host_account_refuse(input->account, status);
	} else if (host_account_take(input->account, event)) {
		write_event(input, event);
		input->spare ^= 1;
		input->latest_ns = input->received_ns;
	}
}

const struct cellos_probe_event *host_input_latest(const struct host_input *input)
{
	return input->latest_ns == 0 ? NULL : &input->decoded[input->spare ^ 1];
}

static bool has_room(const struct host_input *input)
{
	return input->discard || input->line->capacity - input->line->length >= input->room;
}

int host_input_resume(struct host_input *input)
{
	enum cellos_stream_status status;
	const uint8_t *frame;
	size_t length;

	if (input->stream.lost)
		return -EPROTO; /* counted once */
	for (;;) {
		/* With the piece used up there is no frame to come that would need room. */
		if (input->stream.piece_left > 0 && !has_room(input))
			return -ENOBUFS;
		status = cellos_stream_next(&input->stream, &frame, &length);
		if (status != CELLOS_STREAM_FRAME)
			break;
		take_frame(input, frame, length);
	}
	if (status == CELLOS_STREAM_MORE)
		return 0;
	host_account_framing_lost(input->account);
	return -EPROTO;
}

int host_input_feed(struct host_input *input, const uint8_t *bytes, size_t length)
{
	if (input->stream.lost)
		return -EPROTO;
	cellos_stream_feed(&input->stream, bytes, length);
	return host_input_resume(input);
}
