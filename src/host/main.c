/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-telemetry-host: receives one guest's telemetry and writes it as JSON lines.
 *
 * One thread. main is a list of verbs; here alone errors become words. Exit 0 done, 1 runtime
 * failure, 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "options.h"
#include "output.h"
#include "receiver.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/*
 * A closed standard descriptor would be given to the first socket, and a message would then go to
 * the guest. Its place is taken by /dev/null; standard output's by a copy that cannot be written,
 * so that writing there still fails as it should.
 */
static void fill_standard_descriptors(void)
{
	for (int fd = 0; fd <= 2; fd++)
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
			(void)open("/dev/null", fd == STDOUT_FILENO ? O_RDONLY : O_RDWR);
}

static int fail(const char *what, const char *object, int error)
{
	fprintf(stderr, HOST_PROGRAM ": cannot %s %s: %s\n", what, object, strerror(-error));
	return EXIT_FAILED;
}

static int show(const char *text)
{
	if (fputs(text, stdout) == EOF || fflush(stdout) == EOF)
		return fail("write", "standard output", -errno);
	return EXIT_DONE;
}

static int run(const struct host_options *options)
{
	char address[CELLOS_ADDRESS_TEXT_BYTES];
	struct host_output output;
	enum host_failure failed;
	int status = host_output_init(&output, options->output), result = EXIT_DONE;

	if (status < 0) {
		result = fail("write", output.name, status);
	} else if ((status = host_receive(options, &output, &failed)) < 0) {
		if (failed == HOST_FAILED_LISTEN)
			result = fail("listen on", cellos_address_format(&options->listen, address),
				      status);
		else if (failed == HOST_FAILED_WRITE)
			result = fail("write", output.name, status);
		else
			result = fail("run", "the event loop", status);
	}
	host_output_destroy(&output);
	return result;
}

int main(int argc, char **argv)
{
	struct host_options options;

	fill_standard_descriptors();
	/* A reader of the output that leaves is an error of write, not a death. */
	signal(SIGPIPE, SIG_IGN);
	if (host_options_parse(&options, argc, argv) < 0) {
		fprintf(stderr, HOST_PROGRAM ": %s\n", options.message);
		return EXIT_USAGE;
	}
	if (options.action == HOST_SHOW_HELP)
		return show(host_options_help);
	if (options.action == HOST_SHOW_VERSION)
		return show(HOST_PROGRAM " " CELLOS_VERSION "\n");
	return run(&options);
}
