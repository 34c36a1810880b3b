/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The watch probe, whole, in its own thread, over real directories and files. Every way to replace
 * what a path leads to must end with the new thing being watched, one event and one occasion.
 *
 * Built once for each surface; here the actor is always this process, which is the agent, too.
 *
 * Threads: the test's and the probe's; each Criterion test is a process of its own.
 * Refuses to: wait for time to pass where something can be waited for.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "probe_tables.h"
#include "rig.h"
#include "skip.h"

#define FIRED CELLOS_SOURCE_FS_INOTIFY_FIRED
#define MAX_PATHS 4

#ifdef WATCH_BY_FANOTIFY
#define BY_FANOTIFY 1
#define SURFACE "fanotify"
#define MARK "fanotify ino:"
#define KERNEL_RECORD_BYTES 512
#else
#define BY_FANOTIFY 0
#define SURFACE "inotify"
#define MARK "inotify wd:"
#define KERNEL_RECORD_BYTES 288
#endif
#define QUEUE_LIMIT "/proc/sys/fs/" SURFACE "/max_queued_events"
/* What no record tells of is found once a second. */
#define LONG_BEFORE_THE_CLOCK_NS 500000000

/* Criterion cannot skip a whole program; ctest can, and this runs before Criterion does. */
__attribute__((constructor)) static void needs_the_right(void)
{
	if (BY_FANOTIFY && geteuid() != 0)
		cellos_test_skip("to be told pids by fanotify needs root");
}

static char base[64];

static void make_base(void)
{
	rig_temp_dir(base);
}

static void remove_base(void)
{
	rig_remove_tree(base);
}

TestSuite(watch, .init = make_base, .fini = remove_base);

/* A path under the base; four of them live at a time. */
static const char *at(const char *name)
{
	static char paths[8][160];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", base, name);
	return path;
}

static void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	close(fd);
}

static void append(const char *path)
{
	int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);

	cr_assert(fd >= 0 && write(fd, "x", 1) == 1);
	close(fd);
}

/* One change more, and a record of its own for it. inotify merges it with the last record if they
   are equal, fanotify with any of the last. */
static void change(unsigned long number)
{
	char name[32];

	if (!BY_FANOTIFY) {
		cr_assert(chmod(number % 2 ? at("d/a") : at("d/b"), 0644) == 0);
		return;
	}
	snprintf(name, sizeof(name), "d/%lu", number);
	touch(at(name));
}

struct watching {
	struct rig rig;
	struct cellos_probe_options options;
	char names[MAX_PATHS][160];
	const char *paths[MAX_PATHS];
};

static void prepare(struct watching *w, size_t count, const char *const *paths, size_t depth)
{
	w->options = rig_options();
	w->options.watch = BY_FANOTIFY ? CELLOS_WATCH_FANOTIFY : CELLOS_WATCH_INOTIFY;
	for (size_t which = 0; which < count; which++) {
		snprintf(w->names[which], sizeof(w->names[0]), "%s", paths[which]);
		w->paths[which] = w->names[which];
	}
	w->options.watch_paths = w->paths;
	w->options.watch_path_count = count;
	rig_init(&w->rig, &cellos_probe_watch, &w->options, depth);
}

static void begin(struct watching *w, const char *path)
{
	prepare(w, 1, &path, 65536);
	rig_arm(&w->rig);
	cr_assert(w->rig.status.armed && !w->rig.status.failed, "%s", w->rig.status.why);
	cr_assert_str_eq(w->rig.status.surface, SURFACE);
	cr_assert_str_eq(w->rig.status.exactness, "merged");
	rig_start(&w->rig);
}

static size_t fired(const struct watching *w)
{
	cr_assert(w->rig.count == rig_count(&w->rig, FIRED, (uint32_t)getpid()));
	return w->rig.count;
}

/* So many events since `before`, and not more; a late surplus is found by the next call. */
static void expect(struct watching *w, size_t before, size_t more)
{
	cr_assert(rig_until(&w->rig, FIRED, (uint32_t)getpid(), before + more), "%zu of %zu events",
		  w->rig.count - before, more);
	cr_assert(fired(w) == before + more, "%zu events, not %zu", fired(w) - before, more);
}

/* One occasion and one event, and from then on the path is watched again. */
static void expect_rearmed(struct watching *w, uint64_t occasions)
{
	cr_assert(rig_until_stat(&w->rig, "rearmed", occasions));
	rig_pump(&w->rig, 0);
	cr_assert(rig_stat(&w->rig, "rearmed") == occasions);
	cr_assert(rig_dropped(&w->rig, CELLOS_DROP_OVERFLOW) == occasions);
	cr_assert(rig_until_stat(&w->rig, "watched", 1));
}

/* A change under the watched directory is seen. */
static void expect_sight(struct watching *w, const char *file)
{
	size_t before = fired(w);

	touch(file);
	expect(w, before, 1);
	cr_assert(unlink(file) == 0);
	expect(w, before, 2);
}

Test(watch, each_kind_of_change)
{
	struct watching w;
	const struct cellos_raw_event *event;
	uint64_t before = rig_now();

	prctl(PR_SET_NAME, "cellos-telemetry"); /* cut to 15 by the kernel */
	mkdir(at("d"), 0755);
	mkdir(at("out"), 0755);
	begin(&w, at("d"));
	touch(at("d/f"));
	expect(&w, 0, 1);
	append(at("d/f"));
	expect(&w, 1, 1);
	cr_assert(chmod(at("d/f"), 0600) == 0);
	expect(&w, 2, 1);
	cr_assert(rename(at("d/f"), at("d/g")) == 0); /* from and to */
	expect(&w, 3, 2);
	cr_assert(rename(at("d/g"), at("out/g")) == 0);
	expect(&w, 5, 1);
	cr_assert(rename(at("out/g"), at("d/g")) == 0);
	expect(&w, 6, 1);
	cr_assert(mkdir(at("d/sub"), 0755) == 0);
	expect(&w, 7, 1);
	touch(at("d/sub/deep")); /* not recursive */
	cr_assert(unlink(at("d/g")) == 0);
	expect(&w, 8, 1);
	cr_assert(chmod(at("d"), 0700) == 0); /* the directory itself */
	expect(&w, 9, 1);
	event = &w.rig.events[0];
	cr_assert(event->comm_len == 15 && memcmp(event->comm, "cellos-telemetr", 16) == 0);
	cr_assert(event->monotonic_ns >= before && event->monotonic_ns <= rig_now());
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 0);
	rig_free(&w.rig);
}

Test(watch, a_file_itself)
{
	struct watching w;

	touch(at("f"));
	begin(&w, at("f"));
	append(at("f"));
	expect(&w, 0, 1);
	cr_assert(chmod(at("f"), 0600) == 0);
	expect(&w, 1, 1);
	touch(at("beside"));
	append(at("f"));
	expect(&w, 2, 1);
	rig_free(&w.rig);
}

Test(watch, a_file_renamed_over)
{
	struct watching w;
	size_t before;
	unsigned prompt = 0;

	touch(at("f"));
	begin(&w, at("f"));
	for (uint64_t round = 1; round <= 6; round++) {
		uint64_t begun;

		touch(at("new"));
		cr_assert(rename(at("new"), at("f")) == 0);
		begun = rig_now();
		expect_rearmed(&w, round);
		prompt += rig_now() - begun < LONG_BEFORE_THE_CLOCK_NS;
		before = fired(&w);
		append(at("f"));
		expect(&w, before, 1);
	}
	cr_assert(prompt >= 3, "a record tells of each: %u of 6 without waiting", prompt);
	/* For each round the directory's account and the append; and the old inode's last attribute
	   change, unless the kernel was late with it and the path was another inode already. */
	cr_assert(fired(&w) >= 12 && fired(&w) <= 18, "%zu events", fired(&w));
	rig_free(&w.rig);
}

/* Held open, the old inode lives on. */
Test(watch, an_open_file_renamed_over)
{
	struct watching w;
	size_t before;
	int held;

	touch(at("f"));
	held = open(at("f"), O_WRONLY | O_APPEND | O_CLOEXEC);
	begin(&w, at("f"));
	touch(at("new"));
	cr_assert(rename(at("new"), at("f")) == 0);
	expect_rearmed(&w, 1);
	before = fired(&w);
	cr_assert(write(held, "x", 1) == 1); /* the old one is not the path any more */
	append(at("f"));
	expect(&w, before, 1);
	close(held);
	rig_free(&w.rig);
}

Test(watch, deleted_and_made_again)
{
	struct watching w;
	size_t before;

	touch(at("f"));
	begin(&w, at("f"));
	cr_assert(unlink(at("f")) == 0);
	cr_assert(rig_until(&w.rig, FIRED, (uint32_t)getpid(), 1)); /* the attribute change */
	while (rig_stat(&w.rig, "watched") != 0)
		rig_pump(&w.rig, rig_now() + 1000000);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 0, "nothing is there to miss");
	touch(at("f"));
	expect_rearmed(&w, 1);
	before = fired(&w);
	append(at("f"));
	expect(&w, before, 1);
	rig_free(&w.rig);
}

Test(watch, a_directory_deleted_and_made_again)
{
	struct watching w;

	mkdir(at("d"), 0755);
	begin(&w, at("d"));
	for (uint64_t round = 1; round <= 3; round++) {
		cr_assert(rmdir(at("d")) == 0 && mkdir(at("d"), 0755) == 0);
		expect_rearmed(&w, round);
		expect_sight(&w, at("d/f"));
	}
	rig_free(&w.rig);
}

Test(watch, a_parent_renamed)
{
	struct watching w;
	size_t before;

	mkdir(at("p"), 0755);
	mkdir(at("p/d"), 0755);
	begin(&w, at("p/d"));
	cr_assert(rename(at("p"), at("q")) == 0); /* no record tells of this */
	mkdir(at("p"), 0755);
	mkdir(at("p/d"), 0755);
	expect_rearmed(&w, 1);
	before = fired(&w);
	touch(at("q/d/f")); /* where the old one went is nobody's business now */
	touch(at("p/d/f"));
	expect(&w, before, 1);
	rig_free(&w.rig);
}

Test(watch, moved_away_and_back)
{
	struct watching w;

	mkdir(at("d"), 0755);
	begin(&w, at("d"));
	cr_assert(rename(at("d"), at("e")) == 0);
	while (rig_stat(&w.rig, "watched") != 0)
		rig_pump(&w.rig, rig_now() + 1000000);
	cr_assert(rename(at("e"), at("d")) == 0);
	expect_rearmed(&w, 1);
	expect_sight(&w, at("d/f"));
	rig_free(&w.rig);
}

Test(watch, a_symlink_that_changes)
{
	struct watching w;

	mkdir(at("one"), 0755);
	mkdir(at("two"), 0755);
	cr_assert(symlink("one", at("link")) == 0);
	begin(&w, at("link"));
	expect_sight(&w, at("one/f"));
	cr_assert(symlink("two", at("next")) == 0 && rename(at("next"), at("link")) == 0);
	expect_rearmed(&w, 1);
	expect_sight(&w, at("two/f"));
	rig_free(&w.rig);
}

/* The link's own directory is watched, not that of the file behind it; held open, that one does not
   say that it has gone. */
Test(watch, an_open_file_renamed_over_behind_a_symlink)
{
	unsigned prompt = 0;
	struct watching w;
	int held[6];

	mkdir(at("far"), 0755);
	touch(at("far/f"));
	cr_assert(symlink("far/f", at("link")) == 0);
	begin(&w, at("link"));
	for (uint64_t round = 1; round <= 6; round++) {
		uint64_t begun;

		held[round - 1] = open(at("far/f"), O_RDONLY | O_CLOEXEC);
		touch(at("far/new"));
		cr_assert(rename(at("far/new"), at("far/f")) == 0);
		begun = rig_now();
		expect_rearmed(&w, round);
		prompt += rig_now() - begun < LONG_BEFORE_THE_CLOCK_NS;
	}
	cr_assert(prompt >= 3, "a record tells of each: %u of 6 without waiting", prompt);
	for (unsigned round = 0; round < 6; round++)
		close(held[round]);
	rig_free(&w.rig);
}

Test(watch, a_path_that_appears_late)
{
	struct watching w;
	const char *path = at("late/d");

	prepare(&w, 1, &path, 1024);
	rig_arm(&w.rig);
	cr_assert(w.rig.status.armed && !w.rig.status.failed);
	cr_assert(strncmp(w.rig.status.why, "waiting for /", 13) == 0, "%s", w.rig.status.why);
	rig_start(&w.rig);
	mkdir(at("late"), 0755);
	mkdir(at("late/d"), 0755);
	expect_rearmed(&w, 1);
	cr_assert(fired(&w) == 1);
	expect_sight(&w, at("late/d/f"));
	rig_free(&w.rig);
}

/* The same text, and two names of one inode: the kernel knows one watch, and tells once. */
Test(watch, paths_that_are_one)
{
	struct watching w;
	char names[3][160];
	const char *paths[3] = {names[0], names[1], names[2]};

	touch(at("f"));
	cr_assert(link(at("f"), at("g")) == 0);
	snprintf(names[0], sizeof(names[0]), "%s", at("f"));
	snprintf(names[1], sizeof(names[1]), "%s", at("f"));
	snprintf(names[2], sizeof(names[2]), "%s", at("g"));
	prepare(&w, 3, paths, 1024);
	rig_arm(&w.rig);
	cr_assert(rig_stat(&w.rig, "watched") == 2, "the same text is one declaration");
	rig_start(&w.rig);
	append(at("f"));
	expect(&w, 0, 1);
	/* One name goes; the watch stays, for the other's sake. */
	cr_assert(unlink(at("f")) == 0);
	expect(&w, 1, 2); /* by the inode, and by the directory */
	while (rig_stat(&w.rig, "watched") != 1)
		rig_pump(&w.rig, rig_now() + 1000000);
	append(at("g"));
	expect(&w, 3, 1);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 0);
	rig_free(&w.rig);
}

Test(watch, no_path)
{
	struct watching w;
	uint64_t before, until;
	bool for_good = false;

	prepare(&w, 0, NULL, 16);
	rig_arm(&w.rig);
	cr_assert(!w.rig.status.armed && !w.rig.status.failed);
	cr_assert_str_eq(w.rig.status.surface, "none");
	cr_assert_str_eq(w.rig.status.why, "no --watch path");
	rig_start(&w.rig);
	while (atomic_load(&w.rig.tid) == 0)
		rig_pump(&w.rig, rig_now() + 1000000);
	/* A thread's start may have it wait for this and that. */
	for (unsigned tries = 0; tries < 5 && !for_good; tries++) {
		before = rig_voluntary_switches(&w.rig);
		for (until = rig_now() + 2000000000; rig_now() < until;)
			rig_pump(&w.rig, until);
		for_good = before > 0 && rig_voluntary_switches(&w.rig) == before;
	}
	cr_assert(for_good);
	cr_assert(rig_stops_promptly(&w.rig));
	rig_free(&w.rig);
}

Test(watch, idle)
{
	struct watching w;
	uint64_t begun, before, switches;

	mkdir(at("d"), 0755);
	begin(&w, at("d"));
	expect_sight(&w, at("d/f"));
	begun = rig_now();
	before = rig_voluntary_switches(&w.rig);
	do {
		rig_pump(&w.rig, begun + 3000000000);
		switches = rig_voluntary_switches(&w.rig) - before;
	} while (rig_now() < begun + 3000000000 ||
		 (switches == 0 && rig_now() < begun + RIG_STOP_NS));
	/* A look a second, and what was under way at first; not one each time that records are let
	   gather. A look may have to wait for a disk. */
	cr_assert(switches <= 4 * ((rig_now() - begun) / 1000000000 + 1), "%llu",
		  (unsigned long long)switches);
	cr_assert(switches >= 1, "nobody looks at the path");
	cr_assert(rig_stops_promptly(&w.rig));
	rig_free(&w.rig);
}

/* A burst is one wake-up and one read, not one for each record. */
Test(watch, records_gather)
{
	const char *path = at("d");
	struct watching w;
	uint64_t before, begun, switches;

	mkdir(path, 0755);
	touch(at("d/a"));
	touch(at("d/b"));
	prepare(&w, 1, &path, 65536);
	w.options.coalesce_ms = w.rig.options.coalesce_ms = 500;
	rig_arm(&w.rig);
	rig_start(&w.rig);
	while (atomic_load(&w.rig.tid) == 0 || rig_voluntary_switches(&w.rig) == 0)
		rig_pump(&w.rig, rig_now() + 1000000);
	begun = rig_now();
	before = rig_voluntary_switches(&w.rig);
	for (unsigned record = 0; record < 1000; record++)
		change(record);
	expect(&w, 0, 1000);
	switches = rig_voluntary_switches(&w.rig) - before;
	/* Woken, gathered, asleep again; and the looks, and what was under way at first. */
	cr_assert(switches <= 4 * (1 + (rig_now() - begun) / 500000000), "%llu switches",
		  (unsigned long long)switches);
	rig_free(&w.rig);
}

/* Stop while records gather: what the kernel has is told. */
Test(watch, stop_takes_what_is_there)
{
	const char *path = at("d");
	struct watching w;

	mkdir(path, 0755);
	prepare(&w, 1, &path, 65536);
	w.rig.options.coalesce_ms = 1000;
	rig_arm(&w.rig);
	rig_start(&w.rig);
	touch(at("d/f"));
	touch(at("d/g"));
	cr_assert(rig_stops_promptly(&w.rig));
	cr_assert(fired(&w) == 2);
	rig_free(&w.rig);
}

/* Stop right behind a change that no look has met: what went unseen is one occasion, as ever. */
Test(watch, stop_looks_once_more)
{
	const char *path = at("f");
	struct watching w;

	touch(path);
	prepare(&w, 1, &path, 1024);
	w.rig.options.coalesce_ms = 1000;
	rig_arm(&w.rig);
	rig_start(&w.rig);
	append(path);
	expect(&w, 0, 1); /* read; and now records gather */
	touch(at("new"));
	cr_assert(rename(at("new"), at("f")) == 0);
	append(at("f")); /* the new one: nobody listens to it yet */
	rig_stop(&w.rig);
	cr_assert(rig_stat(&w.rig, "rearmed") == 1);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 1);
	rig_free(&w.rig);
}

static unsigned long max_queued_events(void)
{
	FILE *file = fopen(QUEUE_LIMIT, "re");
	unsigned long number = 0;

	cr_assert(file != NULL && fscanf(file, "%lu", &number) == 1);
	fclose(file);
	return number;
}

/* The probe's thread is not there yet, and the kernel's queue fills: exactly one record says so,
   and one occasion is counted for it. */
Test(watch, the_kernels_queue_overflows, .timeout = 250)
{
	const char *path = at("d");
	unsigned long queue = max_queued_events();
	struct watching w;

	mkdir(path, 0755);
	touch(at("d/a"));
	touch(at("d/b"));
	prepare(&w, 1, &path, 131072);
	rig_arm(&w.rig);
	cr_assert(w.rig.status.kernel_bytes == queue * KERNEL_RECORD_BYTES);
	for (uint64_t round = 1; round <= 2; round++) {
		size_t before = fired(&w);

		for (unsigned long record = 0; record < queue + 1000; record++)
			change(round * 1000000 + record);
		rig_start(&w.rig);
		cr_assert(rig_until_dropped(&w.rig, CELLOS_DROP_OVERFLOW, round));
		expect(&w, before, queue);
		rig_stop(&w.rig);
		cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == round);
		cr_assert(rig_stat(&w.rig, "overflows") == round);
		/* For the second round: a stop that is not asked for any more. */
		cr_assert(eventfd_read(w.rig.env.stop_fd, &(eventfd_t){0}) == 0);
	}
	cr_assert(rig_stat(&w.rig, "rearmed") == 0);
	rig_free(&w.rig);
}

/* A full lane is the lane's account, not the probe's. */
Test(watch, a_full_lane)
{
	const char *path = at("d");
	struct watching w;
	struct cellos_lane_counters counters;

	mkdir(path, 0755);
	touch(at("d/a"));
	touch(at("d/b"));
	prepare(&w, 1, &path, 16);
	rig_arm(&w.rig);
	for (unsigned record = 0; record < 100; record++)
		change(record);
	rig_start(&w.rig);
	do
		cellos_lane_read(w.rig.env.lane, &counters);
	while (counters.produced < 100);
	cr_assert(counters.dropped[CELLOS_DROP_QUEUE_FULL] == 84);
	rig_free(&w.rig);
}

Test(watch, no_instance_to_be_had)
{
	const char *path = at("d");
	struct watching w;
	struct rlimit limit, none;

	mkdir(path, 0755);
	prepare(&w, 1, &path, 1024);
	cr_assert(getrlimit(RLIMIT_NOFILE, &limit) == 0);
	none = limit;
	none.rlim_cur = 2; /* 0 and 1 are taken */
	cr_assert(setrlimit(RLIMIT_NOFILE, &none) == 0);
	rig_arm(&w.rig);
	cr_assert(!w.rig.status.armed && w.rig.status.failed);
	cr_assert_str_eq(w.rig.status.surface, "none");
	cr_assert(strstr(w.rig.status.why, strerror(EMFILE)) != NULL, "%s", w.rig.status.why);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 1, "blind from now on");
	cr_assert(setrlimit(RLIMIT_NOFILE, &limit) == 0);
	rig_start(&w.rig);
	expect_rearmed(&w, 1);
	expect_sight(&w, at("d/f"));
	rig_free(&w.rig);
}

Test(watch, a_path_that_cannot_be_watched)
{
	struct watching w;
	char loop[160];
	const char *path = loop;

	snprintf(loop, sizeof(loop), "%s", at("loop"));
	cr_assert(symlink("loop", loop) == 0);
	prepare(&w, 1, &path, 1024);
	rig_arm(&w.rig);
	cr_assert(w.rig.status.armed && w.rig.status.failed);
	cr_assert(strncmp(w.rig.status.why, "cannot watch /", 14) == 0, "%s", w.rig.status.why);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 1);
	rig_start(&w.rig);
	touch(at("new"));
	cr_assert(rename(at("new"), loop) == 0);
	expect_rearmed(&w, 1);
	rig_free(&w.rig);
}

/* It was fine and is not any more: counted at once, for it may never be again, and only once. */
Test(watch, a_path_that_turns_bad)
{
	struct watching w;

	touch(at("f"));
	cr_assert(symlink("f", at("link")) == 0);
	begin(&w, at("link"));
	cr_assert(symlink("link", at("loop")) == 0 && rename(at("loop"), at("link")) == 0);
	cr_assert(rig_until_dropped(&w.rig, CELLOS_DROP_OVERFLOW, 1));
	expect(&w, 0, 1); /* the directory's own account of it */
	cr_assert(symlink("f", at("good")) == 0 && rename(at("good"), at("link")) == 0);
	expect_rearmed(&w, 1);
	append(at("f"));
	expect(&w, 2, 1);
	rig_free(&w.rig);
}

/* Nothing is opened: one that would wait for a writer is watched like any other. */
Test(watch, a_fifo)
{
	struct watching w;

	cr_assert(mkfifo(at("fifo"), 0600) == 0);
	begin(&w, at("fifo"));
	cr_assert(chmod(at("fifo"), 0644) == 0);
	expect(&w, 0, 1);
	cr_assert(rig_stops_promptly(&w.rig));
	rig_free(&w.rig);
}

/* The thread's first act is a look, and it meets the changes at any point of theirs: what the inode
   that is gone has told by then still counts. */
Test(watch, a_look_in_the_midst_of_changes, .timeout = 250)
{
	for (unsigned round = 0; round < 500; round++) {
		struct watching w;
		const char *path = at("f");
		uint64_t later;

		touch(path);
		prepare(&w, 1, &path, 1024);
		rig_arm(&w.rig);
		rig_start(&w.rig);
		for (later = rig_now() + round % 200 * 1000; rig_now() < later;)
			; /* at another point of the thread's start each time */
		append(path);
		cr_assert(unlink(path) == 0);
		expect(&w, 0, 3); /* content and attributes of the inode, and the directory's */
		rig_free(&w.rig);
	}
}

/* The directory of a name without one is where the agent was started. */
Test(watch, a_name_alone)
{
	struct watching w;

	cr_assert(chdir(base) == 0);
	touch("f");
	begin(&w, "f");
	cr_assert(unlink("f") == 0);
	expect(&w, 0, 2); /* by the inode, and by the directory */
	touch("f");
	expect_rearmed(&w, 1);
	rig_free(&w.rig);
	cr_assert(chdir("/") == 0);
}

/* Both declared: the directory is watched for itself and for the file's name, and as the one it
   loses nothing by the other. */
Test(watch, a_directory_and_a_file_in_it)
{
	struct watching w;
	char names[2][160];
	const char *paths[2] = {names[0], names[1]};

	mkdir(at("d"), 0755);
	touch(at("d/f"));
	touch(at("d/beside"));
	snprintf(names[0], sizeof(names[0]), "%s", at("d"));
	snprintf(names[1], sizeof(names[1]), "%s", at("d/f"));
	prepare(&w, 2, paths, 1024);
	rig_arm(&w.rig);
	cr_assert(rig_stat(&w.rig, "watched") == 2);
	rig_start(&w.rig);
	append(at("d/beside"));
	expect(&w, 0, 1);
	cr_assert(rename(at("d/beside"), at("d/f")) == 0);
	/* Out of one name, into the other; the old inode's last attribute change may come too late.
	 */
	cr_assert(rig_until_stat(&w.rig, "rearmed", 1));
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 1);
	cr_assert(rig_until(&w.rig, FIRED, (uint32_t)getpid(), 3) && fired(&w) <= 4);
	rig_free(&w.rig);
}

/* Each name in its own directory, though the other is listened to as well. */
Test(watch, the_same_name_elsewhere)
{
	struct watching w;
	char names[2][160];
	const char *paths[2] = {names[0], names[1]};

	mkdir(at("p"), 0755);
	mkdir(at("q"), 0755);
	touch(at("p/f"));
	snprintf(names[0], sizeof(names[0]), "%s", at("p/f"));
	snprintf(names[1], sizeof(names[1]), "%s", at("q/g"));
	prepare(&w, 2, paths, 1024);
	rig_arm(&w.rig);
	rig_start(&w.rig);
	touch(at("q/f"));
	append(at("p/f"));
	expect(&w, 0, 1);
	touch(at("q/g"));
	expect(&w, 1, 1);
	rig_free(&w.rig);
}

/* What no path leads to any more is watched no more. */
Test(watch, a_file_moved_away)
{
	uint64_t deadline = rig_now() + RIG_PATIENCE_MS * 1000000ull;
	struct watching w;

	touch(at("f"));
	begin(&w, at("f"));
	cr_assert(rig_fdinfo_lines(MARK, NULL) == 2, "the file and its directory");
	cr_assert(rename(at("f"), at("gone")) == 0);
	touch(at("f"));
	expect_rearmed(&w, 1);
	while (rig_fdinfo_lines(MARK, NULL) != 2 && rig_now() < deadline)
		rig_pump(&w.rig, rig_now() + 1000000);
	cr_assert(rig_fdinfo_lines(MARK, NULL) == 2);
	rig_free(&w.rig);
}
