/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The receiver's command line; the text of --help stands beside the table, so that they agree.
 * One thread: getopt_long keeps its place in globals.
 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "account.h"

#define DEFAULT_SPOOL_BYTES (UINT64_C(256) << 20)
#define DEFAULT_DUPLICATE_WINDOW_S UINT64_C(3600)
#define SPOOL_LEAST (UINT64_C(4) << 20) /* what one flush can hold, twice */
#define SPOOL_MOST (UINT64_C(1) << 40)

enum {
	OPT_LISTEN = 256,
	OPT_CELL,
	OPT_RUN,
	OPT_HASH,
	OPT_ADG,
	OPT_SILENCE,
	OPT_DECLARED,
	OPT_AUTHORIZED,
	OPT_POLICY,
	OPT_OWNER,
	OPT_CELLS,
	OPT_FORMAT,
	OPT_OUTPUT,
	OPT_STATE,
	OPT_CTL,
	OPT_METRICS,
	OPT_SINK,
	OPT_STREAM,
	OPT_WINDOW,
	OPT_SPOOL,
	OPT_SPOOL_BYTES,
	OPT_ONCE,
	OPT_SORT,
	OPT_EXIT,
	OPT_VERBOSE,
	OPT_HELP,
	OPT_VERSION,
	OPT_END
};

static const struct option table[] = {
	{"listen", required_argument, NULL, OPT_LISTEN},
	{"cell-id", required_argument, NULL, OPT_CELL},
	{"run-id", required_argument, NULL, OPT_RUN},
	{"spec-signature-hash", required_argument, NULL, OPT_HASH},
	{"adg", required_argument, NULL, OPT_ADG},
	{"silence-window", required_argument, NULL, OPT_SILENCE},
	{"declared", required_argument, NULL, OPT_DECLARED},
	{"authorized", required_argument, NULL, OPT_AUTHORIZED},
	{"policy", required_argument, NULL, OPT_POLICY},
	{"socket-owner", required_argument, NULL, OPT_OWNER},
	{"cells", required_argument, NULL, OPT_CELLS},
	{"format", required_argument, NULL, OPT_FORMAT},
	{"output", required_argument, NULL, OPT_OUTPUT},
	{"state", required_argument, NULL, OPT_STATE},
	{"ctl", required_argument, NULL, OPT_CTL},
	{"metrics", required_argument, NULL, OPT_METRICS},
	{"sink", required_argument, NULL, OPT_SINK},
	{"stream", required_argument, NULL, OPT_STREAM},
	{"duplicate-window", required_argument, NULL, OPT_WINDOW},
	{"spool", required_argument, NULL, OPT_SPOOL},
	{"spool-bytes", required_argument, NULL, OPT_SPOOL_BYTES},
	{"once", no_argument, NULL, OPT_ONCE},
	{"sort", required_argument, NULL, OPT_SORT},
	{"exit-on-close", no_argument, NULL, OPT_EXIT},
	{"verbose", no_argument, NULL, OPT_VERBOSE},
	{"help", no_argument, NULL, OPT_HELP},
	{"version", no_argument, NULL, OPT_VERSION},
	{NULL, 0, NULL, 0},
};

const char host_options_help[] =
	"usage: " HOST_PROGRAM " --listen ADDRESS [options]\n"
	"       " HOST_PROGRAM " --cells FILE [options]\n"
	"       " HOST_PROGRAM " ctl --ctl unix:PATH list | add JSON | remove ID\n"
	"       " HOST_PROGRAM " top --ctl unix:PATH [--once] [--sort COLUMN]\n"
	"       " HOST_PROGRAM " report FILE > PAGE.html\n"
	"\n"
	"Receives the telemetry of guests and writes one JSON object per line.\n"
	"\n"
	"One cell:\n"
	"  --listen unix:PATH         listen on a Unix socket\n"
	"  --listen firecracker:BASE  the same on BASE_9001, where Firecracker hands connections "
	"over\n"
	"  --listen vsock:PORT        listen on AF_VSOCK, for any guest\n"
	"  --cell-id ID, --run-id ID  who it is, for every line (default cell, run)\n"
	"  --spec-signature-hash TEXT of the cell's specification, for every line\n"
	"  --adg FILE                 a JSON object, for every line as output\n"
	"  --declared FILE            what the guest declares, and ...\n"
	"  --authorized FILE          ... what it may: else the cell is refused\n"
	"  --policy enforce|report    refuse it (default), or only say so\n"
	"  --silence-window SECONDS   so long without a frame is silence (default 10)\n"
	"  --socket-owner UID:GID     give the socket file away, to a jailed VMM\n"
	"Many:\n"
	"  --cells FILE               all of them in one JSON file, read again on SIGHUP\n"
	"  --ctl unix:PATH            a socket on which cells are listed, added and removed\n"
	"Output:\n"
	"  --format raw|cloudevents|ocsf\n"
	"                             what a line is (default raw)\n"
	"  --output FILE              append to FILE instead of writing to standard output\n"
	"  --state FILE               where accounts survive the end of this program\n"
	"  --sink nats://HOST:PORT    publish to NATS JetStream instead, with ...\n"
	"  --stream NAME              ... this stream\n"
	"  --spool FILE               ... and what it has not acknowledged in this file\n"
	"  --spool-bytes N            how much that may be (default 268435456)\n"
	"  --duplicate-window SECONDS for which the stream knows an event (default 3600)\n"
	"  --metrics ADDRESS          Prometheus text on unix:PATH or 127.0.0.1:PORT\n"
	"See it (top):\n"
	"  --once                     print the table once, in full, and end\n"
	"  --sort COLUMN              by cell (default), run, state, rate, events, proc, fs, cap,\n"
	"                             net, lost, bad, quiet or latest\n"
	"\n"
	"  --exit-on-close            end when the first connection has ended\n"
	"  --verbose                  say on standard error who comes and goes\n"
	"  --help, --version\n";

static int fail(struct host_options *options, const char *option, const char *value,
		const char *why)
{
	/* What the user typed may be longer than the message: cut it, keep the reason. */
	snprintf(options->message, sizeof(options->message), "cannot read %s '%.*s': %s", option,
		 200, value, why);
	return -EINVAL;
}

static int fail_start(struct host_options *options, const char *why)
{
	snprintf(options->message, sizeof(options->message), "cannot start: %s", why);
	return -EINVAL;
}

/* ---- values --------------------------------------------------------------------------------- */

static int take_number(struct host_options *options, const char *option, uint64_t least,
		       uint64_t most, uint64_t *number)
{
	size_t length = strspn(optarg, "0123456789");
	char why[96];

	errno = 0;
	*number = strtoull(optarg, NULL, 10);
	if (length > 0 && optarg[length] == '\0' && errno == 0 && *number >= least &&
	    *number <= most)
		return 0;
	snprintf(why, sizeof(why), "not a number from %" PRIu64 " to %" PRIu64, least, most);
	return fail(options, option, optarg, why);
}

static int take_file(struct host_options *options, const char *option, const char **file)
{
	if (optarg[0] == '\0')
		return fail(options, option, optarg, "the name is empty");
	*file = optarg;
	return 0;
}

static int take_checked(struct host_options *options, const char *option,
			const char *(*check)(const char *text), const char **text)
{
	const char *why = check(optarg);

	if (why != NULL)
		return fail(options, option, optarg, why);
	*text = optarg;
	return 0;
}

static int take_listen(struct host_options *options)
{
	const char *why;

	if (options->listen.kind != 0)
		return fail(options, "--listen", optarg, "one address is enough");
	if (cellos_listen_address_parse(optarg, &options->listen, &why) < 0)
		return fail(options, "--listen", optarg, why);
	options->cell.listen = optarg;
	return 0;
}

static int take_ctl(struct host_options *options)
{
	const char *why;

	if (strncmp(optarg, "unix:", 5) != 0)
		return fail(options, "--ctl", optarg, "an address is unix:PATH");
	if (cellos_listen_address_parse(optarg, &options->ctl, &why) < 0)
		return fail(options, "--ctl", optarg, why);
	return 0;
}

static int take_metrics(struct host_options *options)
{
	const char *why;

	if (host_metrics_address_parse(optarg, &options->metrics, &why) < 0)
		return fail(options, "--metrics", optarg, why);
	return 0;
}

static const char *const format_names[] = {[HOST_FORMAT_RAW] = "raw",
					   [HOST_FORMAT_CLOUDEVENTS] = "cloudevents",
					   [HOST_FORMAT_OCSF] = "ocsf"};

const char *host_format_name(enum host_format format)
{
	return format_names[format];
}

static int take_sort(struct host_options *options)
{
	int column = host_top_column_parse(optarg);

	if (column < 0)
		return fail(options, "--sort", optarg, "no such column (see --help)");
	options->top.sort = (enum host_top_column)column;
	return 0;
}

static int take_format(struct host_options *options)
{
	for (size_t i = 0; i < sizeof(format_names) / sizeof(format_names[0]); i++)
		if (strcmp(optarg, format_names[i]) == 0) {
			options->format = (enum host_format)i;
			return 0;
		}
	return fail(options, "--format", optarg, "neither raw, cloudevents nor ocsf");
}

static int take_sink(struct host_options *options)
{
	if (strncmp(optarg, "nats://", 7) != 0 || optarg[7] == '\0')
		return fail(options, "--sink", optarg, "an address is nats://HOST:PORT");
	options->sink.url = optarg;
	return 0;
}

/* What NATS allows in the name of a stream and what needs no quoting anywhere. */
static int take_stream(struct host_options *options)
{
	if (host_id_check(optarg) != NULL)
		return fail(options, "--stream", optarg, host_id_check(optarg));
	options->sink.stream = optarg;
	return 0;
}

static int take_owner(struct host_options *options)
{
	struct cellos_socket_owner owner;

	if (!host_owner_parse(optarg, &owner))
		return fail(options, "--socket-owner", optarg,
			    "not UID:GID, two numbers from 0 to 4294967294");
	options->cell.owner = optarg;
	return 0;
}

static int take_policy(struct host_options *options)
{
	bool enforce;

	if (!host_policy_parse(optarg, &enforce))
		return fail(options, "--policy", optarg, "neither enforce nor report");
	options->cell.policy = optarg;
	return 0;
}

/* ---- the table ------------------------------------------------------------------------------ */

static int take_of_cell(struct host_options *options, int option)
{
	struct host_cell_words *cell = &options->cell;

	switch (option) {
	case OPT_LISTEN:
		return take_listen(options);
	case OPT_CELL:
		return take_checked(options, "--cell-id", host_id_check, &cell->id);
	case OPT_RUN:
		return take_checked(options, "--run-id", host_id_check, &cell->run);
	case OPT_HASH:
		return take_checked(options, "--spec-signature-hash", host_hash_check, &cell->hash);
	case OPT_ADG:
		return take_file(options, "--adg", &cell->adg);
	case OPT_SILENCE:
		return take_number(options, "--silence-window", 1, HOST_MAX_SILENCE_S,
				   &cell->silence_s);
	case OPT_DECLARED:
		return take_file(options, "--declared", &cell->declared);
	case OPT_AUTHORIZED:
		return take_file(options, "--authorized", &cell->authorized);
	case OPT_POLICY:
		return take_policy(options);
	default:
		return take_owner(options);
	}
}

static int take_of_sink(struct host_options *options, int option)
{
	switch (option) {
	case OPT_SINK:
		return take_sink(options);
	case OPT_STREAM:
		return take_stream(options);
	case OPT_WINDOW:
		return take_number(options, "--duplicate-window", 1, 30 * HOST_MAX_SILENCE_S,
				   &options->sink.duplicate_window_s);
	case OPT_SPOOL:
		return take_file(options, "--spool", &options->sink.spool);
	default:
		return take_number(options, "--spool-bytes", SPOOL_LEAST, SPOOL_MOST,
				   &options->sink.spool_bytes);
	}
}

static int take(struct host_options *options, int option)
{
	if (option <= OPT_OWNER)
		return take_of_cell(options, option);
	if (option >= OPT_SINK && option <= OPT_SPOOL_BYTES)
		return take_of_sink(options, option);
	switch (option) {
	case OPT_CELLS:
		return take_file(options, "--cells", &options->cells);
	case OPT_FORMAT:
		return take_format(options);
	case OPT_OUTPUT:
		return take_file(options, "--output", &options->output);
	case OPT_STATE:
		return take_file(options, "--state", &options->state);
	case OPT_CTL:
		return take_ctl(options);
	case OPT_METRICS:
		return take_metrics(options);
	case OPT_ONCE:
		options->top.once = true;
		return 0;
	case OPT_SORT:
		return take_sort(options);
	case OPT_EXIT:
		options->exit_on_close = true;
		return 0;
	case OPT_VERBOSE:
		options->verbose = true;
		return 0;
	case OPT_HELP:
		options->action = HOST_SHOW_HELP;
		return 0;
	default:
		options->action = HOST_SHOW_VERSION;
		return 0;
	}
}

/* ---- what goes together --------------------------------------------------------------------- */

static bool names_a_cell(const struct host_options *options)
{
	static const struct host_cell_words none;

	return memcmp(&options->cell, &none, sizeof(none)) != 0;
}

static int check_cells(struct host_options *options)
{
	const struct host_cell_words *cell = &options->cell;

	if (options->cells != NULL && names_a_cell(options))
		return fail_start(options,
				  "--cells has all cells: no option of one cell goes with it");
	if (options->cells == NULL && options->listen.kind == 0)
		return fail_start(options, "--listen is missing (see --help)");
	if (cell->owner != NULL && options->listen.kind != CELLOS_ADDRESS_UNIX)
		return fail(options, "--socket-owner", "UID:GID", "a vsock has no file to own");
	if ((cell->declared == NULL) != (cell->authorized == NULL))
		return fail_start(options, "--declared and --authorized go together");
	return 0;
}

static int check_sink(struct host_options *options)
{
	if (options->sink.url == NULL) {
		if (options->sink.stream != NULL || options->sink.spool != NULL)
			return fail_start(options, "--stream and --spool are for --sink");
		return 0;
	}
	if (options->output != NULL)
		return fail_start(options, "--output and --sink: events go to one of them");
	if (options->sink.stream == NULL || options->sink.spool == NULL || options->state == NULL)
		return fail_start(options, "--sink needs --stream, --spool and --state");
	return 0;
}

static int check_ctl(struct host_options *options, int argc, char **argv)
{
	const char *verb = optind < argc ? argv[optind] : "";

	options->command = argv + optind;
	options->command_count = argc - optind;
	if (options->ctl.kind == 0)
		return fail_start(options, "ctl needs --ctl unix:PATH");
	if (strcmp(verb, "list") == 0 && options->command_count == 1)
		return 0;
	if ((strcmp(verb, "add") == 0 || strcmp(verb, "remove") == 0) &&
	    options->command_count == 2)
		return 0;
	return fail(options, "command", verb, "it is list, add JSON or remove ID");
}

static int check_top(struct host_options *options, int argc, char **argv)
{
	if (options->ctl.kind == 0)
		return fail_start(options, "top needs --ctl unix:PATH");
	if (optind < argc)
		return fail(options, "argument", argv[optind], "only options are expected");
	return 0;
}

int host_options_parse(struct host_options *options, int argc, char **argv)
{
	bool is_ctl = argc > 1 && strcmp(argv[1], "ctl") == 0;
	bool is_top = argc > 1 && strcmp(argv[1], "top") == 0;
	int option, status = 0;

	memset(options, 0, sizeof(*options));
	options->sink.spool_bytes = DEFAULT_SPOOL_BYTES;
	options->sink.duplicate_window_s = DEFAULT_DUPLICATE_WINDOW_S;
	argc -= is_ctl || is_top;
	argv += is_ctl || is_top;
	optind = 0; /* glibc and musl: begin afresh, for a second call in one process */
	while (status == 0 && options->action == HOST_RUN &&
	       (option = getopt_long(argc, argv, ":", table, NULL)) != -1) {
		const char letter[] = {'-', (char)optopt, '\0'};
		/* optopt: the letter of a short option, 0 for an unknown long one, else its value
		 */
		bool is_short = optopt > 0 && optopt < OPT_LISTEN;

		if (option == ':')
			status = fail(options, "option", argv[optind - 1], "it needs a value");
		else if (option == '?' && is_short)
			status = fail(options, "option", letter, "no such option");
		else if (option == '?')
			status = fail(options, "option", argv[optind - 1],
				      optopt != 0 ? "it takes no value"
						  : "no such option, or more than one");
		else
			status = take(options, option);
	}
	if (status < 0 || options->action != HOST_RUN)
		return status;
	if (is_ctl) {
		options->action = HOST_CTL;
		return check_ctl(options, argc, argv);
	}
	if (is_top) {
		options->action = HOST_TOP;
		return check_top(options, argc, argv);
	}
	if (optind < argc)
		return fail(options, "argument", argv[optind], "only options are expected");
	if (options->top.once)
		return fail_start(options, "--once is for top");
	status = check_cells(options);
	return status < 0 ? status : check_sink(options);
}
