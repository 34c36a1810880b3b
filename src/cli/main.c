/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-wire: frames to JSON lines and back (man cellos-wire). One thread. It only translates: no
 * frame is repaired, reordered or made up.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "commands.h"

/* Beyond any character, so that a bad short option is told from ours. */
enum { OPTION_HEX = 256, OPTION_HELP, OPTION_VERSION };

static const char usage[] =
	"Usage: cellos-wire decode [--hex]\n"
	"       cellos-wire encode [--hex]\n"
	"       cellos-wire --help | --version\n"
	"\n"
	"decode  frames on standard input to one JSON object per line\n"
	"encode  JSON lines on standard input to frames\n"
	"\n"
	"  --hex      frames are lines of hexadecimal digits, one frame each\n"
	"  --help     print this\n"
	"  --version  print the version\n"
	"\n"
	"Exit status: 0 done, 1 a bad frame or line or another failure, 2 usage.\n";

void complain(const char *why, const char *what, ...)
{
	va_list arguments;

	fputs("cellos-wire: cannot ", stderr);
	va_start(arguments, what);
	vfprintf(stderr, what, arguments);
	va_end(arguments);
	fprintf(stderr, ": %s\n", why);
}

bool flushed(struct output *output)
{
	int status = output_flush(output);

	if (status < 0)
		complain(strerror(-status), "write the output");
	return status == 0;
}

bool next_line(struct line_reader *reader, struct output *output, char **line, size_t *length,
	       int *code)
{
	int status;

	for (;;) {
		if (!line_reader_ready(reader) && !flushed(output)) {
			*code = EXIT_FAILED;
			return false;
		}
		status = line_reader_next(reader, line, length);
		if (status >= 0)
			return status > 0;
		*code = EXIT_FAILED;
		if (status != -EMSGSIZE) {
			complain(strerror(-status), "read the input");
			return false;
		}
		complain("longer than 1 MiB", "read line %lu", reader->number);
	}
}

static int say(struct output *output, const char *text)
{
	output->length = strlen(text);
	memcpy(output->data, text, output->length);
	return flushed(output) ? EXIT_DONE : EXIT_FAILED;
}

static int misused(void)
{
	fputs("Try 'cellos-wire --help'.\n", stderr);
	return EXIT_USAGE;
}

/* getopt names a bad option in `optopt`: 0 unknown, a character, or ours with a value behind '='.
 */
static int bad_option(const char *argument)
{
	if (optopt >= OPTION_HEX)
		complain("it takes no value", "use option '%s'", argument);
	else if (optopt != 0)
		complain("no such option", "use option '-%c'", optopt);
	else
		complain("no such option", "use option '%s'", argument);
	return misused();
}

static int run(const char *command, bool hex, struct output *output)
{
	if (strcmp(command, "decode") == 0)
		return decode_command(hex, output);
	if (strcmp(command, "encode") == 0)
		return encode_command(hex, output);
	complain("it is neither decode nor encode", "run command '%s'", command);
	return misused();
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"hex", no_argument, NULL, OPTION_HEX},
						{"help", no_argument, NULL, OPTION_HELP},
						{"version", no_argument, NULL, OPTION_VERSION},
						{NULL, 0, NULL, 0}};
	static struct output output;
	bool hex = false;
	int option;

	output.fd = STDOUT_FILENO;
	/* A reader that goes away is an error to report, not a death. */
	signal(SIGPIPE, SIG_IGN);
	opterr = 0;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		switch (option) {
		case OPTION_HEX:
			hex = true;
			break;
		case OPTION_HELP:
			return say(&output, usage);
		case OPTION_VERSION:
			return say(&output, "cellos-wire " CELLOS_VERSION "\n");
		default:
			return bad_option(argv[optind - 1]);
		}
	}
	if (optind == argc) {
		complain("neither decode nor encode is given", "choose a command");
		return misused();
	}
	if (optind + 1 < argc) {
		complain("one command is enough", "use argument '%s'", argv[optind + 1]);
		return misused();
	}
	return run(argv[optind], hex, &output);
}
