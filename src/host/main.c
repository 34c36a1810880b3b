/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * cellos-telemetry-host: receives the telemetry of guests and writes it as JSON lines; with "ctl"
 * it speaks to one that does, with "top" it shows what that one knows, with "report" it makes a
 * page of what one wrote.
 *
 * One thread, and the sink's. main is a list of verbs; here alone errors become words. Exit 0 done,
 * 1 runtime failure, 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "ctl.h"
#include "options.h"
#include "page.h"
#include "receiver.h"
#include "top.h"

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

static int run_failed(const struct host_options *options, const char *output,
		      enum host_failure failed, int status)
{
	char address[CELLOS_ADDRESS_TEXT_BYTES];

	switch (failed) {
	case HOST_FAILED_LISTEN:
		if (status == -E2BIG)
			return fail("use", options->cell.adg, status);
		return fail("listen on", cellos_address_format(&options->listen, address), status);
	case HOST_FAILED_CTL:
		return fail("listen on", cellos_address_format(&options->ctl, address), status);
	case HOST_FAILED_METRICS:
		return fail("serve metrics on", options->metrics.text, status);
	case HOST_FAILED_WRITE:
		return fail("write", output, status);
	case HOST_FAILED_CELLS:
		return EXIT_FAILED;
	default:
		return fail("run", "the event loop", status);
	}
}

/* What the errno of opening one of our own files means there. */
static int own_file_failed(const char *what, const char *path, int status)
{
	const char *why = status == -EWOULDBLOCK ? "another process has it"
			  : status == -EPROTO    ? "it is none, or of another version"
						 : strerror(-status);

	fprintf(stderr, HOST_PROGRAM ": cannot use %s %s: %s\n", what, path, why);
	return EXIT_FAILED;
}

static int open_failed(const struct host_options *options, const struct host_handover *handover,
		       enum host_handover_part failed, int status)
{
	switch (failed) {
	case HOST_PART_STATE:
		return own_file_failed("state", options->state, status);
	case HOST_PART_SPOOL:
		return own_file_failed("spool", options->sink.spool, status);
	case HOST_PART_SINK:
		if (status == -ENOTSUP) {
			fprintf(stderr,
				HOST_PROGRAM ": cannot publish to %s: built without the "
					     "NATS client library\n",
				options->sink.url);
			return EXIT_FAILED;
		}
		return fail("publish to", options->sink.url, status);
	default:
		return fail("write", handover->output.name, status);
	}
}

/* What came of it all, when something is missing or somebody wants to know. */
static void sum_up(const struct host_sums *sums)
{
	fprintf(stderr,
		HOST_PROGRAM ": received %" PRIu64 ", emitted %" PRIu64 ", refused %" PRIu64
			     ", lost in host %" PRIu64 "\n",
		sums->received, sums->emitted, sums->refused, sums->lost_in_host);
}

static int run(const struct host_options *options)
{
	struct host_handover handover;
	enum host_handover_part part;
	enum host_failure failed;
	struct host_sums sums;
	int status = host_handover_init(&handover, options, &part), result = EXIT_DONE;

	if (status < 0) {
		result = open_failed(options, &handover, part, status);
	} else {
		status = host_receive(options, &handover, &sums, &failed);
		if (status < 0)
			result = run_failed(options, handover.output.name, failed, status);
		if (sums.cells > 0 && (status < 0 || sums.lost_in_host > 0 || options->verbose))
			sum_up(&sums);
	}
	host_handover_destroy(&handover);
	return result;
}

static int control(const struct host_options *options)
{
	const char *what;
	int status = host_ctl_command(options, &what);

	if (status >= 0)
		return status;
	return fail(what, strcmp(what, "write") == 0 ? "standard output" : options->ctl.path,
		    status);
}

static int look(const struct host_options *options)
{
	const char *what;
	int status = host_top(options, &what);

	if (status == 0)
		return EXIT_DONE;
	if (strcmp(what, "show") != 0)
		return fail(what,
			    strcmp(what, "write") == 0 ? "standard output" : options->ctl.path,
			    status);
	fprintf(stderr, HOST_PROGRAM ": cannot show cells: %s; --once prints them\n",
		status == -ENOTSUP  ? "built without ncurses"
		: status == -ENOTTY ? "this is no terminal that ncurses knows"
				    : strerror(-status));
	return EXIT_FAILED;
}

/* report FILE; "-" is standard input. */
static int report(const char *path)
{
	bool is_stdin = strcmp(path, "-") == 0;
	const char *name = is_stdin ? "standard input" : path;
	FILE *in = is_stdin ? stdin : fopen(path, "re");
	enum host_page_failure failed;
	int status;

	if (in == NULL)
		return fail("read", name, -errno);
	status = host_page(in, name, stdout, &failed);
	if (!is_stdin)
		fclose(in);
	if (status < 0 && failed == HOST_PAGE_WRITE)
		return fail("write", "standard output", status);
	return status < 0 ? fail("read", name, status) : EXIT_DONE;
}

int main(int argc, char **argv)
{
	struct host_options options;

	fill_standard_descriptors();
	/* A reader of the output that leaves is an error of write, not a death. */
	signal(SIGPIPE, SIG_IGN);
	/* And so is a limit on the size of files. */
	signal(SIGXFSZ, SIG_IGN);
	if (argc > 1 && strcmp(argv[1], "report") == 0) {
		if (argc == 3)
			return report(argv[2]);
		fprintf(stderr, HOST_PROGRAM ": cannot start: report needs one FILE\n");
		return EXIT_USAGE;
	}
	if (host_options_parse(&options, argc, argv) < 0) {
		fprintf(stderr, HOST_PROGRAM ": %s\n", options.message);
		return EXIT_USAGE;
	}
	if (options.action == HOST_SHOW_HELP)
		return show(host_options_help);
	if (options.action == HOST_SHOW_VERSION)
		return show(HOST_PROGRAM " " CELLOS_VERSION "\n");
	if (options.action == HOST_TOP)
		return look(&options);
	return options.action == HOST_CTL ? control(&options) : run(&options);
}
