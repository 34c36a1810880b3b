/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-wire decode: frames in, one JSON object per line out, an event or an error. Every whole
 * frame gets exactly one line. A bad frame does not end the run while the framing holds; a prefix
 * over the limit does, since nothing tells where the next frame begins. A file of frames should be
 * whole, so a frame cut by its end is an error here, though a live stream may break anywhere. One
 * thread.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "cellos_json_line.h"
#include "cellos_json_strict.h"
#include "commands.h"

struct decoding {
	struct output *output;
	int code; /* EXIT_FAILED once a frame or a line was bad */
};

/* Room for a line of any kind at the end of the output: 0, or -errno of the output. */
static int open_line(struct decoding *run, struct cellos_json_line *line)
{
	int status = output_room(run->output, CELLOS_JSON_ERROR_MAX_BYTES);

	cellos_json_init(line, run->output->data, OUTPUT_BYTES);
	line->length = run->output->length;
	return status;
}

static int put_error(struct decoding *run, const struct cellos_wire_error *error)
{
	struct cellos_json_line line;
	int status = open_line(run, &line);

	run->code = EXIT_FAILED;
	if (status == 0)
		status = cellos_json_error(&line, error);
	run->output->length = line.length;
	return status;
}

static int put_frame(struct decoding *run, const uint8_t *frame, size_t length)
{
	struct cellos_probe_event event;
	struct cellos_wire_error error;
	struct cellos_json_line line;
	int status;

	if (cellos_decode_frame(frame, length, &event, &error) != CELLOS_WIRE_OK)
		return put_error(run, &error);
	status = open_line(run, &line);
	if (status == 0)
		status = cellos_json_event(&line, &event);
	run->output->length = line.length;
	return status;
}

/* A line that is not pairs of hexadecimal digits; no error of the wire has this name. */
static int put_bad_hex(struct decoding *run, unsigned long number)
{
	struct cellos_json_line line;
	int status = open_line(run, &line);

	run->code = EXIT_FAILED;
	if (status == 0) {
		cellos_json_begin(&line);
		cellos_json_add_string(&line, "error", "BadHex");
		cellos_json_add_u64(&line, "line", number);
		status = cellos_json_end(&line);
	}
	run->output->length = line.length;
	return status;
}

/* In place: byte i is made of digits 2i and 2i + 1, which are read before it is written. */
static bool unhex(char *line, size_t length)
{
	if (length % 2 != 0)
		return false;
	for (size_t i = 0; i < length / 2; i++) {
		int high = cellos_hex_digit(line[2 * i]), low = cellos_hex_digit(line[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		line[i] = (char)(high << 4 | low);
	}
	return true;
}

static int put_line(struct decoding *run, char *line, size_t length, unsigned long number)
{
	if (length > 0 && line[length - 1] == '\r')
		length--;
	if (!unhex(line, length))
		return put_bad_hex(run, number);
	return put_frame(run, (const uint8_t *)line, length / 2);
}

static int decode_lines(struct decoding *run)
{
	static struct line_reader reader = {.fd = STDIN_FILENO};
	char *line;
	size_t length;
	int status = 0;

	while (status == 0 && next_line(&reader, run->output, &line, &length, &run->code))
		status = put_line(run, line, length, reader.number);
	return status;
}

/* Every whole frame of the piece. CELLOS_STREAM_LOST, _MORE, or -errno of the output. */
static int decode_piece(struct decoding *run, struct cellos_stream *stream)
{
	enum cellos_stream_status next;
	const uint8_t *frame;
	size_t length;
	int status;

	while ((next = cellos_stream_next(stream, &frame, &length)) == CELLOS_STREAM_FRAME) {
		status = put_frame(run, frame, length);
		if (status < 0)
			return status;
	}
	return (int)next;
}

/* The end of the input: 0, or -errno of the output. */
static int decode_rest(struct decoding *run, const struct cellos_stream *stream)
{
	struct cellos_wire_error error = {.status = CELLOS_WIRE_FRAME_TOO_LARGE,
					  .len = stream->lost_length};

	if (stream->lost) {
		complain("framing is lost", "decode the rest of the input");
		return put_error(run, &error);
	}
	if (cellos_stream_pending(stream) > 0)
		return put_frame(run, stream->carry, cellos_stream_pending(stream));
	return 0;
}

static int decode_stream(struct decoding *run)
{
	static uint8_t piece[INPUT_BYTES];
	static struct cellos_stream stream;
	int status;
	long got;

	cellos_stream_init(&stream);
	do {
		status = output_flush(run->output);
		if (status < 0)
			return status;
		got = input_read(STDIN_FILENO, piece, sizeof(piece));
		if (got < 0) {
			complain(strerror((int)-got), "read the input");
			run->code = EXIT_FAILED;
			return 0;
		}
		cellos_stream_feed(&stream, piece, (size_t)got);
		status = decode_piece(run, &stream);
	} while (got > 0 && status == CELLOS_STREAM_MORE);
	return status < 0 ? status : decode_rest(run, &stream);
}

int decode_command(bool hex, struct output *output)
{
	struct decoding run = {.output = output, .code = EXIT_DONE};
	int status = hex ? decode_lines(&run) : decode_stream(&run);

	if (status < 0) {
		complain(strerror(-status), "write the output");
		return EXIT_FAILED;
	}
	return flushed(output) ? run.code : EXIT_FAILED;
}
