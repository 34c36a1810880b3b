/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * From the model to HTML (page_html.h). One thread.
 *
 * Every text that came from the file goes out through text(), and nowhere else: it escapes what
 * HTML minds and shows what a reader would not see (controls, and the marks that turn text around).
 * The policy in the page's head is the second wall: nothing runs, nothing is loaded.
 *
 * The page is bounded: so many agents, bars, ticks on bars and rows; the rest is counted and said.
 */
#include "page_html.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#define MAX_SHOWN_ACCOUNTS 24u
#define MAX_SHOWN_BARS 120u
#define MAX_SHOWN_MARKS 40u /* on one bar */
#define MAX_SHOWN_ROWS 25u

#define WIDTH 1080u /* of the pictures, in their own units */
#define LEFT 190u   /* for names */
#define RIGHT 16u
#define PLOT (WIDTH - LEFT - RIGHT)
#define BAR_STEP 20u
#define AXIS_HEIGHT 26u

struct page {
	const struct page_model *model;
	FILE *out;
	uint32_t *order;      /* processes of an account, owned */
	uint32_t *first_mark; /* of each process, and the next of each mark; owned */
	uint32_t *next_mark;
};

#define SAY(page, ...) fprintf((page)->out, __VA_ARGS__)

static const struct {
	const char *name;   /* of the row */
	const char *colour; /* of the class in the style */
} kinds[CELLOS_SOURCE_EVENT_COUNT] = {
	[CELLOS_SOURCE_PROCESS_SPAWNED] = {"Processes started", "spawned"},
	[CELLOS_SOURCE_PROCESS_EXITED] = {"Processes ended", "exited"},
	[CELLOS_SOURCE_CAPABILITY_DENIED] = {"Capabilities denied", "denied"},
	[CELLOS_SOURCE_FS_INOTIFY_FIRED] = {"File changes", "files"},
	[CELLOS_SOURCE_NET_CONNECT_ATTEMPTED] = {"Connects attempted", "connect"},
};

/* ---- text ----------------------------------------------------------------------------------- */

/* The character at `at` of `length` bytes, and its size; one that is none is U+FFFD of size 1. */
static uint32_t character(const char *text, size_t length, size_t *size)
{
	unsigned char first = (unsigned char)text[0];
	size_t wants = first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	uint32_t found = wants == 1 ? first : first & (0xffu >> (wants + 1));

	*size = 1;
	if (first >= 0x80 && (first < 0xc2 || first > 0xf4))
		return 0xfffd;
	if (wants > length)
		return 0xfffd;
	for (size_t i = 1; i < wants; i++) {
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 0xfffd;
		found = found << 6 | ((unsigned char)text[i] & 0x3f);
	}
	*size = wants;
	return found;
}

/* Not seen, or seen elsewhere than where it stands: controls, joiners, the marks of direction. */
static bool is_unseen(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0xad || c == 0x61c || c == 0x180e ||
	       (c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2060 && c <= 0x206f) || c == 0xfeff || (c >= 0xfff9 && c <= 0xfffb) ||
	       (c >= 0xe0000 && c <= 0xe0fff);
}

static void text(struct page *page, const char *bytes, size_t length)
{
	for (size_t at = 0, size; at < length; at += size) {
		uint32_t c = character(bytes + at, length - at, &size);

		if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'')
			SAY(page, "&#%" PRIu32 ";", c);
		else if (c == 0xfffd)
			SAY(page, "\xef\xbf\xbd");
		else if (is_unseen(c))
			SAY(page, "\\u{%" PRIx32 "}", c);
		else
			fwrite(bytes + at, 1, size, page->out);
	}
}

static void string(struct page *page, const char *bytes)
{
	text(page, bytes, strlen(bytes));
}

/* 1 234 567, with narrow spaces. */
static void number(struct page *page, uint64_t value)
{
	char digits[24];
	int length = snprintf(digits, sizeof(digits), "%" PRIu64, value);

	for (int i = 0; i < length; i++) {
		if (i > 0 && (length - i) % 3 == 0)
			SAY(page, "\xe2\x80\xaf");
		SAY(page, "%c", digits[i]);
	}
}

/* A span of time in few words: 1.25 s, 12 ms, 3 min 20 s. */
static void duration(struct page *page, uint64_t ns)
{
	uint64_t ms = ns / 1000000, s = ms / 1000;
	uint64_t tenths = ns / 100000, hundredths = ms / 10; /* of a ms, of a second */

	if (ns < 1000000)
		SAY(page, "%" PRIu64 " \xc2\xb5s", ns / 1000);
	else if (s < 1)
		SAY(page, "%g ms", (double)tenths / 10);
	else if (s < 60)
		SAY(page, "%g s", (double)hundredths / 100);
	else if (s < 3600)
		SAY(page, "%" PRIu64 " min %" PRIu64 " s", s / 60, s % 60);
	else
		SAY(page, "%" PRIu64 " h %" PRIu64 " min", s / 3600, s / 60 % 60);
}

/* ---- head ----------------------------------------------------------------------------------- */

static const char style[] =
	"body{margin:0;background:#f6f7f9;color:#1c2430;font:15px/1.5 system-ui,'Segoe UI',Roboto,"
	"'DejaVu Sans',sans-serif}"
	"main{max-width:1128px;margin:0 auto;padding:28px 24px 60px}"
	"h1{font-size:26px;margin:0 0 4px}h2{font-size:20px;margin:44px 0 4px}"
	"h3{font-size:15px;margin:26px 0 8px}p{margin:4px 0}.soft{color:#5c6675}"
	".mono,td.n,code{font-family:ui-monospace,'DejaVu Sans "
	"Mono',Menlo,monospace;font-size:13px}"
	".cards{display:flex;flex-wrap:wrap;gap:12px;margin:18px 0}"
	".card{background:#fff;border:1px solid #e1e5eb;border-radius:10px;padding:10px 16px;"
	"min-width:118px}.card b{display:block;font-size:22px;line-height:1.3}"
	".card span{color:#5c6675;font-size:13px}.card.bad b{color:#b42318}.card.good "
	"b{color:#116b3a}"
	".box{background:#fff;border:1px solid #e1e5eb;border-radius:10px;padding:14px 16px;"
	"overflow-x:auto}"
	"td.when{white-space:nowrap}table{border-collapse:collapse;width:100%;font-size:14px}th{"
	"text-align:left;font-weight:"
	"600;"
	"color:#5c6675;font-size:13px}th,td{padding:4px 22px 4px 0;vertical-align:top;"
	"border-bottom:1px solid #eef0f4}tr:last-child "
	"td{border-bottom:0}td.r,th.r{text-align:right}"
	".pair{display:grid;grid-template-columns:1fr 1fr;gap:0 24px}"
	".tag{display:inline-block;border-radius:6px;padding:1px "
	"9px;font-size:13px;font-weight:600}"
	".tag.good{background:#dff3e6;color:#116b3a}.tag.bad{background:#fde7e4;color:#b42318}"
	".tag.open{background:#eef0f4;color:#5c6675}"
	"svg{display:block;width:100%;height:auto;font:12px system-ui,'DejaVu Sans',sans-serif}"
	"svg text{fill:#1c2430}svg .soft{fill:#6b7585}svg .grid{stroke:#e9ecf1}"
	"svg .pid{fill:#8a93a1;font-size:11px}"
	".bar{fill:#a9c6f2;stroke:#4c7fca}.bar.open{fill:#e6eefb;stroke-dasharray:3 3}"
	".spawned{fill:#4c7fca;stroke:#4c7fca}.exited{fill:#98a2b3;stroke:#98a2b3}"
	".denied{fill:#c92a2a;stroke:#c92a2a}.connect{fill:#0b7a75;stroke:#0b7a75}"
	".files{fill:#b7791f;stroke:#b7791f}"
	".key{display:inline-flex;gap:6px;align-items:center;margin-right:18px;font-size:13px;"
	"color:#5c6675}.key svg{width:22px;height:12px}"
	"@media(max-width:760px){.pair{grid-template-columns:1fr}}"
	"@media print{body{background:#fff}}";

static void head(struct page *page, const char *name)
{
	SAY(page, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
		  "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; "
		  "style-src 'unsafe-inline'\">\n"
		  "<meta name=\"viewport\" content=\"width=device-width\">\n<title>Captured run: ");
	string(page, name);
	SAY(page, "</title>\n<style>%s</style>\n</head>\n<body>\n<main>\n", style);
}

static void card(struct page *page, const char *what, uint64_t value, const char *tone)
{
	SAY(page, "<div class=\"card%s\"><b>", tone);
	number(page, value);
	SAY(page, "</b><span>%s</span></div>\n", what);
}

struct sums {
	uint64_t events[CELLOS_SOURCE_EVENT_COUNT];
	uint64_t total, lost, processes;
};

static struct sums sum_up(const struct page_model *model)
{
	struct sums sums = {.processes = model->process_count + model->left_out_processes};

	for (uint32_t i = 0; i < model->account_count; i++) {
		const struct page_account *account = &model->accounts[i];

		for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++)
			sums.events[source] += account->events[source];
		sums.total += account->total;
		for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++)
			for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++)
				if (reason != CELLOS_DROP_SUPPRESSED) /* folded is not lost */
					sums.lost += account->dropped[lane][reason];
	}
	return sums;
}

static void faults(struct page *page)
{
	const struct page_model *model = page->model;

	if (model->unreadable > 0) {
		SAY(page, "<div class=\"box\" id=\"unreadable\"><p><b>");
		number(page, model->unreadable);
		SAY(page, "</b> of ");
		number(page, model->lines);
		SAY(page,
		    " lines could not be read and are not in this page. The first of them:</p>\n"
		    "<table>");
		for (uint64_t i = 0; i < model->unreadable && i < PAGE_MAX_FAULTS; i++)
			SAY(page, "<tr><td class=\"n r\">line %" PRIu64 "</td><td>%s</td></tr>\n",
			    model->faults[i].line, model->faults[i].why);
		SAY(page, "</table></div>\n");
	}
	if (model->left_out_lines > 0) {
		SAY(page, "<p id=\"left-out-lines\"><b>");
		number(page, model->left_out_lines);
		SAY(page,
		    "</b> lines of further agents are left out: the page has room for %u.</p>\n",
		    PAGE_MAX_ACCOUNTS);
	}
	if (model->left_out_processes > 0) {
		SAY(page, "<p id=\"left-out-processes\"><b>");
		number(page, model->left_out_processes);
		SAY(page, "</b> processes beyond the first %u are counted and not kept.</p>\n",
		    PAGE_MAX_PROCESSES);
	}
	if (model->left_out_marks > 0) {
		SAY(page, "<p id=\"left-out-marks\"><b>");
		number(page, model->left_out_marks);
		SAY(page,
		    "</b> denials and connects beyond the first %u are counted, and have no tick "
		    "on a bar.</p>\n",
		    PAGE_MAX_MARKS);
	}
}

static void overview(struct page *page, const char *name)
{
	struct sums sums = sum_up(page->model);

	SAY(page, "<h1>Captured run</h1>\n<p class=\"soft\"><span class=\"mono\">");
	string(page, name);
	SAY(page, "</span></p>\n<div class=\"cards\" id=\"totals\">\n");
	card(page, "events", sums.total, "");
	card(page, "processes", sums.processes, "");
	card(page, "denials", sums.events[CELLOS_SOURCE_CAPABILITY_DENIED],
	     sums.events[CELLOS_SOURCE_CAPABILITY_DENIED] ? " bad" : "");
	card(page, "connects", sums.events[CELLOS_SOURCE_NET_CONNECT_ATTEMPTED], "");
	card(page, "file changes", sums.events[CELLOS_SOURCE_FS_INOTIFY_FIRED], "");
	card(page, "dropped in the guest", sums.lost, sums.lost ? " bad" : " good");
	if (page->model->unreadable > 0)
		card(page, "unreadable lines", page->model->unreadable, " bad");
	SAY(page, "</div>\n");
	faults(page);
}

/* ---- pictures ------------------------------------------------------------------------------- */

struct scale {
	uint64_t begin, end; /* guest ns at the edges of the plot; begin < end */
};

static struct scale scale_of(const struct page_account *account)
{
	struct scale scale = {account->first_ns, account->last_ns};

	if (scale.end == scale.begin) /* one moment: give it a width */
		scale.begin -= scale.begin > 0;
	scale.end += scale.end < UINT64_MAX && scale.end == account->first_ns;
	return scale;
}

static double x_of(const struct scale *scale, double ns)
{
	double x = (ns - (double)scale->begin) / ((double)scale->end - (double)scale->begin);

	if (!(x > 0)) /* also no number, where two large ones were the same double */
		x = 0;
	return LEFT + (x < 1 ? x : 1) * PLOT;
}

/* 1, 2 or 5 times a power of ten, so that at most nine ticks stand on the axis. */
static uint64_t tick_step(uint64_t range)
{
	uint64_t step = 1000;

	for (unsigned i = 0; range / step > 8 && step < UINT64_MAX / 10; i++)
		step = i % 3 == 1 ? step / 2 * 5 : step * 2;
	return step;
}

static void axis(struct page *page, const struct scale *scale, unsigned height)
{
	uint64_t range = scale->end - scale->begin, step = tick_step(range);

	for (uint64_t at = 0;; at += step) {
		double x = x_of(scale, (double)scale->begin + (double)at);

		SAY(page, "<line class=\"grid\" x1=\"%.1f\" x2=\"%.1f\" y1=\"0\" y2=\"%u\"/>", x, x,
		    height);
		SAY(page, "<text class=\"soft\" x=\"%.1f\" y=\"%u\" text-anchor=\"middle\">", x,
		    height + 17);
		if (at == 0)
			SAY(page, "0");
		else
			duration(page, at);
		SAY(page, "</text>\n");
		if (range - at < step)
			break;
	}
}

static void open_picture(struct page *page, const char *what, unsigned height)
{
	SAY(page, "<div class=\"box\"><svg viewBox=\"0 0 %u %u\" role=\"img\" aria-label=\"%s\">\n",
	    WIDTH, height, what);
}

static void close_picture(struct page *page)
{
	SAY(page, "</svg></div>\n");
}

#define ROW_HEIGHT 40u

/* One kind of event: its buckets, the tallest as high as the row. */
static void histogram(struct page *page, const struct page_account *account,
		      const struct scale *scale, unsigned source, unsigned y)
{
	const struct page_times *times = &account->times;
	const uint32_t *counts = times->counts[source];
	double width = (double)(UINT64_C(1) << times->shift);
	uint32_t most = 1;

	for (unsigned i = 0; i < PAGE_BUCKETS; i++)
		most = counts[i] > most ? counts[i] : most;
	SAY(page, "<text x=\"0\" y=\"%u\">%s</text><text class=\"soft\" x=\"0\" y=\"%u\">", y + 18,
	    kinds[source].name, y + 33);
	number(page, account->events[source]);
	SAY(page, "</text><line class=\"grid\" x1=\"%u\" x2=\"%u\" y1=\"%u\" y2=\"%u\"/>\n", LEFT,
	    WIDTH - RIGHT, y + ROW_HEIGHT - 2, y + ROW_HEIGHT - 2);
	for (unsigned i = 0; i < PAGE_BUCKETS; i++) {
		double from = (double)(times->first + i) * width;
		double x = x_of(scale, from), to = x_of(scale, from + width);
		double height = (ROW_HEIGHT - 8.0) * counts[i] / most;

		if (counts[i] == 0)
			continue;
		height = height < 1.5 ? 1.5 : height;
		to = to - x < 1.6 ? x + 1.6 : to - 0.4;
		SAY(page,
		    "<rect class=\"%s\" stroke=\"none\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" "
		    "height=\"%.1f\"><title>%" PRIu32 "</title></rect>\n",
		    kinds[source].colour, x, y + ROW_HEIGHT - 2 - height, to - x, height,
		    counts[i]);
	}
}

static void over_time(struct page *page, const struct page_account *account)
{
	const unsigned height = CELLOS_SOURCE_EVENT_COUNT * ROW_HEIGHT;
	struct scale scale = scale_of(account);

	SAY(page, "<h3>Over time</h3>\n");
	open_picture(page, "events over time", height + AXIS_HEIGHT);
	axis(page, &scale, height);
	for (unsigned source = 0; source < CELLOS_SOURCE_EVENT_COUNT; source++)
		histogram(page, account, &scale, source, source * ROW_HEIGHT);
	close_picture(page);
	SAY(page,
	    "<p class=\"soft\">Time of the guest's monotonic clock since its first event. Each "
	    "row has its own scale.</p>\n");
}

/* ---- processes ------------------------------------------------------------------------------ */

static uint64_t length_of(const struct page_process *process)
{
	/* An open end may reach anywhere. */
	return process->began && process->ended ? process->last_ns - process->first_ns : UINT64_MAX;
}

static int compare(uint64_t a, uint64_t b)
{
	return (a > b) - (a < b);
}

/* Who was denied something comes first, then who connected, then who lived longest. */
static int by_interest(const void *a, const void *b, void *context)
{
	const struct page_process *processes = context;
	const struct page_process *p = &processes[*(const uint32_t *)a];
	const struct page_process *q = &processes[*(const uint32_t *)b];
	int order = compare(q->denials != 0, p->denials != 0);

	if (order == 0)
		order = compare(q->connects != 0, p->connects != 0);
	if (order == 0)
		order = compare(length_of(q), length_of(p));
	return order != 0 ? order : compare(*(const uint32_t *)a, *(const uint32_t *)b);
}

static int by_begin(const void *a, const void *b, void *context)
{
	const struct page_process *processes = context;
	int order = compare(processes[*(const uint32_t *)a].first_ns,
			    processes[*(const uint32_t *)b].first_ns);

	return order != 0 ? order : compare(*(const uint32_t *)a, *(const uint32_t *)b);
}

static int by_denials(const void *a, const void *b, void *context)
{
	const struct page_process *processes = context;
	int order = compare(processes[*(const uint32_t *)b].denials,
			    processes[*(const uint32_t *)a].denials);

	return order != 0 ? order : compare(*(const uint32_t *)a, *(const uint32_t *)b);
}

static int by_connects(const void *a, const void *b, void *context)
{
	const struct page_process *processes = context;
	int order = compare(processes[*(const uint32_t *)b].connects,
			    processes[*(const uint32_t *)a].connects);

	return order != 0 ? order : compare(*(const uint32_t *)a, *(const uint32_t *)b);
}

/* The processes of an account into page->order. */
static uint32_t gather(struct page *page, uint32_t account)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < page->model->process_count; i++)
		if (page->model->processes[i].account == account)
			page->order[count++] = i;
	return count;
}

/* Its name, and the one it had at last when that is another. */
static void full_name(struct page *page, const struct page_process *process)
{
	text(page, process->name, process->name_length);
	if (process->name_length != process->last_name_length ||
	    memcmp(process->name, process->last_name, process->name_length) != 0) {
		SAY(page, " \xe2\x86\x92 ");
		text(page, process->last_name, process->last_name_length);
	}
}

static void rect(struct page *page, const char *class, double from, double to, unsigned y)
{
	SAY(page, "<rect class=\"%s\" x=\"%.1f\" y=\"%u\" width=\"%.1f\" height=\"11\" rx=\"2\"/>",
	    class, from, y + 4, to - from < 2 ? 2 : to - from);
}

static void ticks(struct page *page, const struct scale *scale, uint32_t process, unsigned y)
{
	unsigned shown = 0;

	for (uint32_t i = page->first_mark[process]; i != PAGE_NONE && shown < MAX_SHOWN_MARKS;
	     i = page->next_mark[i], shown++) {
		const struct page_mark *mark = &page->model->marks[i];
		double x = x_of(scale, (double)mark->ns);

		SAY(page,
		    "<line class=\"%s\" stroke-width=\"2\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%u\" "
		    "y2=\"%u\"/>",
		    kinds[mark->source].colour, x, x, y + 2, y + 17);
	}
}

static void bar(struct page *page, const struct scale *scale, uint32_t index, unsigned y)
{
	const struct page_process *process = &page->model->processes[index];
	double from = x_of(scale, (double)process->first_ns);
	double to = x_of(scale, (double)process->last_ns);

	SAY(page, "<g class=\"process\"><title>");
	full_name(page, process);
	SAY(page, ", pid %" PRIu32 ": %s, %s, %" PRIu32 " denied, %" PRIu32 " connects</title>",
	    process->pid, process->began ? "began" : "beginning not seen",
	    process->ended ? "ended" : "end not seen", process->denials, process->connects);
	SAY(page, "<text clip-path=\"url(#names)\" x=\"0\" y=\"%u\">", y + 14);
	text(page, process->last_name, process->last_name_length);
	SAY(page, " <tspan class=\"pid\">%" PRIu32 "</tspan></text>", process->pid);
	if (!process->began)
		rect(page, "bar open", LEFT, from, y);
	if (!process->ended)
		rect(page, "bar open", to, WIDTH - RIGHT, y);
	rect(page, "bar", from, to, y);
	ticks(page, scale, index, y);
	SAY(page, "</g>\n");
}

static void key(struct page *page)
{
	SAY(page,
	    "<p><span class=\"key\"><svg viewBox=\"0 0 22 12\"><rect class=\"bar\" x=\"1\" y=\"1\" "
	    "width=\"20\" height=\"10\" rx=\"2\"/></svg>from spawned to exited</span>"
	    "<span class=\"key\"><svg viewBox=\"0 0 22 12\"><rect class=\"bar open\" x=\"1\" "
	    "y=\"1\" "
	    "width=\"20\" height=\"10\" rx=\"2\"/></svg>open: not seen to begin, or to end</span>"
	    "<span class=\"key\"><svg viewBox=\"0 0 22 12\"><rect class=\"denied\" x=\"10\" "
	    "y=\"0\" "
	    "width=\"2\" height=\"12\"/></svg>a capability denied</span>"
	    "<span class=\"key\"><svg viewBox=\"0 0 22 12\"><rect class=\"connect\" x=\"10\" "
	    "y=\"0\" "
	    "width=\"2\" height=\"12\"/></svg>a connect attempted</span></p>\n");
}

static void processes(struct page *page, const struct page_account *account, uint32_t count)
{
	uint32_t shown = count < MAX_SHOWN_BARS ? count : MAX_SHOWN_BARS;
	struct scale scale = scale_of(account);

	SAY(page, "<h3>Processes</h3>\n");
	if (count == 0) {
		SAY(page, "<p class=\"soft\">None was seen.</p>\n");
		return;
	}
	qsort_r(page->order, count, sizeof(*page->order), by_interest, page->model->processes);
	qsort_r(page->order, shown, sizeof(*page->order), by_begin, page->model->processes);
	key(page);
	open_picture(page, "processes over time", shown * BAR_STEP + AXIS_HEIGHT);
	SAY(page,
	    "<clipPath id=\"names\"><rect x=\"0\" y=\"0\" width=\"%u\" height=\"%u\"/>"
	    "</clipPath>\n",
	    LEFT - 10, MAX_SHOWN_BARS * BAR_STEP);
	axis(page, &scale, shown * BAR_STEP);
	for (uint32_t i = 0; i < shown; i++)
		bar(page, &scale, page->order[i], i * BAR_STEP);
	close_picture(page);
	if (shown < count) {
		SAY(page, "<p class=\"left-out\">%" PRIu32 " of ", shown);
		number(page, count);
		SAY(page, " processes are shown: those with denials or connects first, then those "
			  "that lived longest.</p>\n");
	}
}

/* ---- tables --------------------------------------------------------------------------------- */

static uint32_t count_of(const struct page_process *process, unsigned source)
{
	return source == CELLOS_SOURCE_CAPABILITY_DENIED ? process->denials : process->connects;
}

/* Who did it most: denials or connects by process. */
static void who(struct page *page, const struct page_account *account, uint32_t count,
		unsigned source)
{
	const struct page_process *all = page->model->processes;
	uint32_t with = 0;

	qsort_r(page->order, count, sizeof(*page->order),
		source == CELLOS_SOURCE_CAPABILITY_DENIED ? by_denials : by_connects,
		page->model->processes);
	while (with < count && count_of(&all[page->order[with]], source) > 0)
		with++;
	SAY(page, "<div><h3>%s</h3>\n<div class=\"box\">", kinds[source].name);
	if (with == 0)
		SAY(page, "<p class=\"soft\">None%s.</p>", account->events[source] ? " kept" : "");
	else
		SAY(page,
		    "<table class=\"who-%s\"><tr><th>process</th><th class=\"r\">pid</th>"
		    "<th class=\"r\">count</th></tr>\n",
		    kinds[source].colour);
	for (uint32_t i = 0; i < with && i < MAX_SHOWN_ROWS; i++) {
		const struct page_process *process = &all[page->order[i]];

		SAY(page, "<tr><td>");
		full_name(page, process);
		SAY(page, "</td><td class=\"n r\">%" PRIu32 "</td><td class=\"n r\">",
		    process->pid);
		number(page, count_of(process, source));
		SAY(page, "</td></tr>\n");
	}
	if (with > 0)
		SAY(page, "</table>");
	if (with > MAX_SHOWN_ROWS) {
		SAY(page, "<p class=\"soft left-out\">and ");
		number(page, with - MAX_SHOWN_ROWS);
		SAY(page, " processes more</p>");
	}
	SAY(page, "</div></div>\n");
}

static void file_changes(struct page *page, const struct page_account *account)
{
	SAY(page, "<h3>File changes</h3>\n<div class=\"box files-box\"><p><b>");
	number(page, account->events[CELLOS_SOURCE_FS_INOTIFY_FIRED]);
	SAY(page, "</b> changes of declared paths. Which file, and by whom, does not "
		  "travel.</p></div>\n");
}

/* ---- the ledger ----------------------------------------------------------------------------- */

static void drops(struct page *page, const struct page_account *account)
{
	static const char *const reasons[CELLOS_DROP_COUNT] = {
		[CELLOS_DROP_QUEUE_FULL] = "lane full",
		[CELLOS_DROP_KERNEL] = "kernel dropped",
		[CELLOS_DROP_OVERFLOW] = "unknown, occasions",
		[CELLOS_DROP_SUPPRESSED] = "folded, no loss",
		[CELLOS_DROP_STOPPED] = "left at the stop",
	};

	if (!account->any_dropped) {
		SAY(page, "<p>The guest dropped nothing that this capture tells of.</p>\n");
		return;
	}
	SAY(page, "<table class=\"drops\"><tr><th>dropped in the guest</th>");
	for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++)
		SAY(page, "<th class=\"r\">%s</th>", reasons[reason]);
	SAY(page, "</tr>\n");
	for (unsigned lane = 0; lane < CELLOS_LANE_COUNT; lane++) {
		SAY(page, "<tr><td>%s</td>", cellos_lane_name(lane));
		for (unsigned reason = 0; reason < CELLOS_DROP_COUNT; reason++) {
			SAY(page, "<td class=\"n r\">");
			number(page, account->dropped[lane][reason]);
			SAY(page, "</td>");
		}
		SAY(page, "</tr>\n");
	}
	SAY(page, "</table>\n");
}

static void sequence(struct page *page, const struct page_account *account)
{
	uint64_t span = account->last_seq - account->first_seq + 1;

	if (account->last_seq == 0)
		return;
	SAY(page, "<p>Events ");
	number(page, account->first_seq);
	SAY(page, " to ");
	number(page, account->last_seq);
	if (span == account->total) {
		SAY(page, ": <span class=\"tag good\">all in this file</span></p>\n");
	} else if (span > account->total) {
		SAY(page, ": <span class=\"tag bad\">");
		number(page, span - account->total);
		SAY(page, " are not in this file</span></p>\n");
	} else {
		SAY(page, ": <span class=\"tag bad\">");
		number(page, account->total - span);
		SAY(page, " stand here twice</span></p>\n");
	}
}

/* "frames=12 events=12" as a row of pairs. */
static void pairs(struct page *page, const char *words)
{
	SAY(page, "<p class=\"mono ledger-row\">");
	for (const char *at = words; *at != '\0';) {
		size_t length = strcspn(at, " ");

		text(page, at, length);
		at += length;
		at += strspn(at, " ");
		SAY(page, "%s", *at != '\0' ? " &#183; " : "");
	}
	SAY(page, "</p>\n");
}

static void ledger(struct page *page, const struct page_account *account)
{
	SAY(page, "<h3>Ledger</h3>\n<div class=\"box ledger\">");
	sequence(page, account);
	if (!account->settled) {
		SAY(page, "<p>Final row: <span class=\"tag open\">none: the run had not "
			  "ended</span></p>\n");
	} else if (!account->says_unsettled) {
		pairs(page, account->ledger);
	} else {
		SAY(page, "<p>Final row: <span class=\"tag %s\">",
		    account->unsettled == 0 ? "good" : "bad");
		if (account->unsettled == 0)
			SAY(page, "adds up");
		else
			SAY(page, "off by %" PRId64, account->unsettled);
		SAY(page, "</span></p>\n");
		pairs(page, account->ledger);
	}
	drops(page, account);
	SAY(page, "</div>\n");
}

static void reports(struct page *page, const struct page_account *account)
{
	SAY(page, "<h3>Reports</h3>\n<div class=\"box\"><p>");
	number(page, account->heartbeats);
	SAY(page, " heartbeats, last of connection ");
	number(page, account->epoch);
	SAY(page, "; ");
	number(page, account->reports);
	SAY(page, " other reports.</p>\n");
	if (account->note_count > 0) {
		SAY(page, "<details%s><summary>They say</summary>\n<table class=\"reports\">",
		    account->note_count <= 20 ? " open" : "");
		for (uint32_t i = 0; i < account->note_count; i++) {
			SAY(page, "<tr><td class=\"n when\">");
			string(page, account->notes[i].received);
			SAY(page, "</td><td class=\"n\">");
			string(page, account->notes[i].text);
			SAY(page, "</td></tr>\n");
		}
		SAY(page, "</table></details>\n");
	}
	if (account->reports > account->note_count) {
		SAY(page, "<p class=\"soft left-out\">and ");
		number(page, account->reports - account->note_count);
		SAY(page, " more</p>\n");
	}
	SAY(page, "</div>\n");
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void account_head(struct page *page, const struct page_account *account)
{
	SAY(page, "<h2>");
	string(page, account->cell[0] != '\0' ? account->cell : "a cell without a name");
	if (account->run[0] != '\0') {
		SAY(page, " <span class=\"soft\">run</span> ");
		string(page, account->run);
	}
	if (account->incarnation != 0)
		SAY(page, " <span class=\"soft\">agent</span> %" PRIu64, account->incarnation);
	SAY(page, "</h2>\n<p class=\"soft\">");
	if (account->first_received[0] != '\0') {
		SAY(page, "received ");
		string(page, account->first_received);
		SAY(page, " to ");
		string(page, account->last_received);
		SAY(page, "; ");
	}
	number(page, account->total);
	SAY(page, " events over ");
	duration(page, account->last_ns - account->first_ns);
	if (account->hash[0] != '\0') {
		SAY(page, "; <span class=\"mono\">");
		string(page, account->hash);
		SAY(page, "</span>");
	}
	SAY(page, "</p>\n");
}

static void account_section(struct page *page, uint32_t index)
{
	const struct page_account *account = &page->model->accounts[index];
	uint32_t count = gather(page, index);

	SAY(page, "<section>\n");
	account_head(page, account);
	if (account->total > 0) {
		over_time(page, account);
		processes(page, account, count);
		SAY(page, "<div class=\"pair\">\n");
		who(page, account, count, CELLOS_SOURCE_CAPABILITY_DENIED);
		who(page, account, count, CELLOS_SOURCE_NET_CONNECT_ATTEMPTED);
		SAY(page, "</div>\n");
		file_changes(page, account);
	}
	ledger(page, account);
	reports(page, account);
	SAY(page, "</section>\n");
}

static int link_marks(struct page *page)
{
	const struct page_model *model = page->model;
	/* One more each: of nothing, malloc may return NULL. */
	size_t processes_size = (model->process_count + 1) * sizeof(uint32_t);

	page->order = malloc(processes_size);
	page->first_mark = malloc(processes_size);
	page->next_mark = malloc((model->mark_count + 1) * sizeof(uint32_t));
	if (page->order == NULL || page->first_mark == NULL || page->next_mark == NULL)
		return -ENOMEM;
	memset(page->first_mark, 0xff, processes_size); /* PAGE_NONE */
	for (uint32_t i = model->mark_count; i-- > 0;) {
		uint32_t *first = &page->first_mark[model->marks[i].process];

		page->next_mark[i] = *first;
		*first = i;
	}
	return 0;
}

int page_html(const struct page_model *model, const char *name, FILE *out)
{
	struct page page = {.model = model, .out = out};
	uint32_t shown = model->account_count;
	int status = link_marks(&page);

	if (status == 0) {
		head(&page, name);
		overview(&page, name);
		if (model->account_count == 0)
			SAY(&page, "<p>There is no event and no report in this file.</p>\n");
		if (shown > MAX_SHOWN_ACCOUNTS)
			shown = MAX_SHOWN_ACCOUNTS;
		for (uint32_t i = 0; i < shown; i++)
			account_section(&page, i);
		if (shown < model->account_count)
			SAY(&page,
			    "<p class=\"left-out\" id=\"left-out-agents\">%" PRIu32
			    " further agents are counted above and not shown.</p>\n",
			    model->account_count - shown);
		SAY(&page, "</main>\n</body>\n</html>\n");
	}
	free(page.order);
	free(page.first_mark);
	free(page.next_mark);
	return status;
}
