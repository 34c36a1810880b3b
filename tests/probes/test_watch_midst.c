/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * A change that falls between the two halves of a look: where a path leads has been asked, and what
 * the kernel has queued meanwhile has not been read yet. No schedule that a test could ask for
 * stands still there, so the halves are called one by one, on real directories; this is the one
 * test that looks inside the watch probe. Or between two calls by which one path is asked for: then
 * it comes with one of them.
 *
 * Threads: the test's own, which plays the probe's. Refuses to: run without root (skipped, and
 * why).
 */
#include <fcntl.h>
#include <string.h>

/* The kernel's answer, and behind the so-manieth about "f" the path leads elsewhere. */
static unsigned answers_until_replaced;
static void replace(const char *path);

static int answer_then_replace(int at, const char *path, struct file_handle *handle, int *mount,
			       int flags)
{
	int result = name_to_handle_at(at, path, handle, mount, flags);

	if (strcmp(path, "f") == 0 && answers_until_replaced > 0 && --answers_until_replaced == 0)
		replace(path);
	return result;
}

#define name_to_handle_at answer_then_replace
#include "watch.c"

#include <criterion/criterion.h>

#include "rig.h"
#include "skip.h"

/* Criterion cannot skip a whole program; ctest can, and this runs before Criterion does. */
__attribute__((constructor)) static void needs_the_right(void)
{
	if (geteuid() != 0)
		cellos_test_skip("to be told pids by fanotify needs root");
}

static char base[64];

static void make_base(void)
{
	rig_temp_dir(base);
	cr_assert(chdir(base) == 0);
}

static void remove_base(void)
{
	cr_assert(chdir("/") == 0);
	rig_remove_tree(base);
}

TestSuite(midst, .init = make_base, .fini = remove_base);

static void touch(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	cr_assert(fd >= 0, "%s: %s", path, strerror(errno));
	close(fd);
}

static void replace(const char *path)
{
	touch("new");
	cr_assert(rename("new", path) == 0);
}

static void begin(struct rig *rig, enum cellos_watch_choice how, const char *const *path)
{
	struct cellos_probe_options options = rig_options();

	options.watch = how;
	options.watch_paths = path;
	options.watch_path_count = 1;
	rig_init(rig, &cellos_probe_watch, &options, 64);
	rig_arm(rig);
	cr_assert(rig->status.armed && !rig->status.failed, "%s", rig->status.why);
}

/* A look with this in its midst, and those that follow at once. */
static void look_around(struct rig *rig, void (*change)(const char *), const char *path)
{
	ask_all(rig->state, NULL);
	change(path);
	judge_all(rig->state, &rig->env, false);
	while (((struct watch_state *)rig->state)->look_now)
		look_at_all(rig->state, &rig->env, NULL);
	rig_pump(rig, 0);
}

static void expect(const struct rig *rig, size_t events, uint64_t occasions)
{
	cr_assert(rig->count == events, "%zu events, not %zu", rig->count, events);
	cr_assert(rig_stat(rig, "rearmed") == occasions);
	cr_assert(rig_dropped(rig, CELLOS_DROP_OVERFLOW) == occasions);
	cr_assert(rig_stat(rig, "watched") == 1);
}

static const enum cellos_watch_choice ways[] = {CELLOS_WATCH_FANOTIFY, CELLOS_WATCH_INOTIFY};

/* The directory has told of it: the look that finds it has nothing to add. */
Test(midst, a_path_that_appears)
{
	static const char *const path = "f";
	struct rig rig;

	for (unsigned way = 0; way < 2; way++) {
		begin(&rig, ways[way], &path);
		look_around(&rig, touch, path);
		expect(&rig, 1, 1);
		rig_free(&rig);
		cr_assert(unlink(path) == 0);
	}
}

/* The same of one that is replaced: the directory's account, and the old inode's attributes. */
Test(midst, a_file_renamed_over)
{
	static const char *const path = "f";
	struct rig rig;

	for (unsigned way = 0; way < 2; way++) {
		touch(path);
		begin(&rig, ways[way], &path);
		for (unsigned round = 1; round <= 3; round++) {
			look_around(&rig, replace, path);
			expect(&rig, (size_t)2 * round, round);
		}
		rig_free(&rig);
		cr_assert(unlink(path) == 0);
	}
}

/* The same between what a look asks of the kernel about it: once more than that is no news. */
Test(midst, a_file_renamed_over_while_it_is_asked_for)
{
	static const char *const path = "f";
	struct rig rig;

	touch(path);
	begin(&rig, CELLOS_WATCH_FANOTIFY, &path);
	for (unsigned round = 1; round <= 2; round++) {
		answers_until_replaced = round;
		look_at_all(rig.state, &rig.env, NULL);
		cr_assert(answers_until_replaced == 0);
		for (unsigned looks = 0; looks < 3; looks++) {
			if (((struct watch_state *)rig.state)->strays)
				renew(rig.state, &rig.env);
			look_at_all(rig.state, &rig.env, NULL);
		}
		rig_pump(&rig, 0);
		expect(&rig, (size_t)2 * round, round);
	}
	rig_free(&rig);
}

static void move_and_back(const char *path)
{
	cr_assert(rename(path, "p/aside") == 0 && rename("p/aside", path) == 0);
}

/* What was told of a change that came to nothing does not stand for a later one that nobody tells
   of. */
Test(midst, what_was_told_is_soon_forgotten)
{
	static const char *const path = "p/f";
	struct rig rig;

	for (unsigned way = 0; way < 2; way++) {
		cr_assert(mkdir("p", 0755) == 0);
		touch(path);
		begin(&rig, ways[way], &path);
		look_around(&rig, move_and_back, path);
		expect(&rig, 2, 0);
		cr_assert(rename("p", "q") == 0 && mkdir("p", 0755) == 0);
		touch(path);
		look_at_all(rig.state, &rig.env, NULL);
		rig_pump(&rig, 0);
		expect(&rig, 3, 1);
		rig_free(&rig);
		rig_remove_tree("p");
		rig_remove_tree("q");
	}
}
