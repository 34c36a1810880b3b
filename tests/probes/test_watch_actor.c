/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Who did it: the watch probe over changes made by other processes, on a disk and on tmpfs, with
 * fanotify where it may be had and inotify where not.
 *
 * Threads: the test's and the probe's; the actors are processes that do one thing when told to and
 * say when it is done. Everything mounted is in a mount namespace of the test's own.
 * Refuses to: run without root (skipped, and why); wait for time to pass.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fanotify.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "probe_tables.h"
#include "rig.h"
#include "skip.h"

#define FIRED CELLOS_SOURCE_FS_INOTIFY_FIRED
#define MS 1000000ull
/* What no record tells of is found once a second. */
#define LONG_BEFORE_THE_CLOCK_NS (500 * MS)

static char base[64];
static const char *home; /* "disk" or "tmpfs", in base */

/* Criterion cannot skip a whole program; ctest can, and this runs before Criterion does. */
__attribute__((constructor)) static void needs_the_right(void)
{
	if (geteuid() != 0)
		cellos_test_skip("to be told pids by fanotify needs root");
}

static const char *at(const char *name)
{
	static char paths[8][160];
	static unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s/%s", base, home, name);
	return path;
}

static void mount_at(const char *type, const char *where, const char *options)
{
	cr_assert(mount("none", where, type, 0, options) == 0, "%s: %s", type, strerror(errno));
}

/* Nothing of ours holds a mount, but for the moment of a look at what is in it. */
static void unmount(const char *where)
{
	uint64_t deadline = rig_now() + RIG_PATIENCE_MS * MS;
	int result;

	while ((result = umount(where)) < 0 && errno == EBUSY && rig_now() < deadline)
		sched_yield();
	cr_assert(result == 0, "%s: %s", where, strerror(errno));
}

static void make_homes(void)
{
	char tmpfs[80];

	rig_temp_dir(base);
	cr_assert(chmod(base, 0755) == 0 && unshare(CLONE_NEWNS) == 0);
	cr_assert(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0);
	snprintf(tmpfs, sizeof(tmpfs), "%s/tmpfs", base);
	cr_assert(mkdir(tmpfs, 0755) == 0);
	mount_at("tmpfs", tmpfs, NULL);
	home = "disk";
	cr_assert(mkdir(at(""), 0755) == 0);
}

static void remove_homes(void)
{
	char tmpfs[80];

	snprintf(tmpfs, sizeof(tmpfs), "%s/tmpfs", base);
	cr_assert(umount2(tmpfs, MNT_DETACH) == 0);
	rig_remove_tree(base);
}

TestSuite(actor, .init = make_homes, .fini = remove_homes);

/* ---- actors --------------------------------------------------------------------------------- */

typedef void deed(const char *one, const char *other);

struct order {
	deed *what;
	char one[160], other[160];
};

struct actor {
	pid_t pid;
	int orders, answers;
};

static void obey(int orders, int answers)
{
	struct order order;

	while (read(orders, &order, sizeof(order)) == sizeof(order)) {
		order.what(order.one, order.other);
		RIG_CHECK(write(answers, "x", 1) == 1);
	}
	_exit(0);
}

static struct actor hire(const char *name)
{
	int orders[2], answers[2];
	struct actor actor;

	cr_assert(pipe2(orders, O_CLOEXEC) == 0 && pipe2(answers, O_CLOEXEC) == 0);
	actor = (struct actor){.pid = fork(), .orders = orders[1], .answers = answers[0]};
	cr_assert(actor.pid >= 0);
	if (actor.pid == 0) {
		rig_die_with_parent();
		close(orders[1]);
		(void)prctl(PR_SET_NAME, name);
		obey(orders[0], answers[1]);
	}
	close(orders[0]);
	close(answers[1]);
	return actor;
}

static void tell(const struct actor *actor, deed *what, const char *one, const char *other)
{
	struct order order = {.what = what};
	char done;

	snprintf(order.one, sizeof(order.one), "%s", at(one));
	snprintf(order.other, sizeof(order.other), "%s", other != NULL ? at(other) : "");
	cr_assert(write(actor->orders, &order, sizeof(order)) == sizeof(order));
	cr_assert(read(actor->answers, &done, 1) == 1, "the actor has failed");
}

static void dismiss(struct actor *actor)
{
	/* Not by closing its orders: who was hired later has them open, too. */
	rig_kill(actor->pid);
	rig_reap(actor->pid);
	close(actor->orders);
	close(actor->answers);
}

static void touch(const char *one, const char *other)
{
	int fd = open(one, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);

	(void)other;
	RIG_CHECK(fd >= 0);
	close(fd);
}

static void append(const char *one, const char *other)
{
	int fd = open(one, O_WRONLY | O_APPEND | O_CLOEXEC);

	(void)other;
	RIG_CHECK(fd >= 0 && write(fd, "x", 1) == 1);
	close(fd);
}

static void forbid(const char *one, const char *other)
{
	(void)other;
	RIG_CHECK(chmod(one, 0700) == 0);
}

static void move(const char *one, const char *other)
{
	RIG_CHECK(rename(one, other) == 0);
}

static void erase(const char *one, const char *other)
{
	(void)other;
	RIG_CHECK(unlink(one) == 0);
}

static void make(const char *one, const char *other)
{
	(void)other;
	RIG_CHECK(mkdir(one, 0755) == 0);
}

static void rename_over(const char *one, const char *other)
{
	touch(other, NULL);
	move(other, one);
}

static void live_fast(const char *one, const char *other)
{
	touch(one, other);
	for (unsigned times = 0; times < 1000; times++)
		append(one, other);
	forbid(one, other);
	erase(one, other);
}

static void make_many(const char *one, const char *other)
{
	char path[200];

	(void)other;
	for (unsigned number = 0; number < 2000; number++) {
		snprintf(path, sizeof(path), "%s%u", one, number);
		RIG_CHECK(mknod(path, S_IFREG | 0600, 0) == 0);
	}
}

/* ---- the probe ------------------------------------------------------------------------------ */

struct watching {
	struct rig rig;
	char names[2][160];
	const char *paths[2];
};

static void prepare(struct watching *w, enum cellos_watch_choice how, const char *one,
		    const char *other)
{
	struct cellos_probe_options options = rig_options();

	snprintf(w->names[0], sizeof(w->names[0]), "%s", one);
	snprintf(w->names[1], sizeof(w->names[1]), "%s", other != NULL ? other : "");
	w->paths[0] = w->names[0];
	w->paths[1] = w->names[1];
	options.watch = how;
	options.watch_paths = w->paths;
	options.watch_path_count = other != NULL ? 2 : 1;
	rig_init(&w->rig, &cellos_probe_watch, &options, 32768);
	rig_arm(&w->rig);
}

static void begin(struct watching *w, enum cellos_watch_choice how, const char *path)
{
	prepare(w, how, path, NULL);
	cr_assert(w->rig.status.armed && !w->rig.status.failed, "%s", w->rig.status.why);
	cr_assert_str_eq(w->rig.status.why, "");
	cr_assert_str_eq(w->rig.status.surface,
			 how == CELLOS_WATCH_INOTIFY ? "inotify" : "fanotify");
	rig_start(&w->rig);
}

/* So many events of this process in all, and none that names another. */
static void expect(struct watching *w, pid_t pid, size_t count)
{
	cr_assert(rig_until(&w->rig, FIRED, (uint32_t)pid, count), "%zu of %zu events",
		  rig_count(&w->rig, FIRED, (uint32_t)pid), count);
	cr_assert(rig_count(&w->rig, FIRED, (uint32_t)pid) == count, "%zu events",
		  rig_count(&w->rig, FIRED, (uint32_t)pid));
}

static void expect_names(const struct watching *w, pid_t pid, const char *name)
{
	for (size_t which = 0; which < w->rig.count; which++) {
		const struct cellos_raw_event *event = &w->rig.events[which];

		if (event->pid == (uint32_t)pid)
			cr_assert(event->comm_len == strlen(name) &&
					  memcmp(event->comm, name, event->comm_len) == 0,
				  "%.*s", event->comm_len, event->comm);
	}
}

/* ---- who ------------------------------------------------------------------------------------ */

static void each_kind(void)
{
	static const char name[] = "a \"\xff\nb)\n"; /* whatever a process calls itself */
	struct actor actor = hire(name);
	struct watching w;

	make(at("d"), NULL);
	make(at("out"), NULL);
	begin(&w, CELLOS_WATCH_AUTO, at("d"));
	tell(&actor, touch, "d/f", NULL);
	expect(&w, actor.pid, 1);
	tell(&actor, append, "d/f", NULL);
	expect(&w, actor.pid, 2);
	tell(&actor, forbid, "d/f", NULL);
	expect(&w, actor.pid, 3);
	tell(&actor, move, "d/f", "d/g");
	expect(&w, actor.pid, 5);
	tell(&actor, move, "d/g", "out/g");
	expect(&w, actor.pid, 6);
	tell(&actor, move, "out/g", "d/g");
	expect(&w, actor.pid, 7);
	tell(&actor, make, "d/sub", NULL);
	expect(&w, actor.pid, 8);
	tell(&actor, touch, "d/sub/deep", NULL); /* not recursive */
	tell(&actor, forbid, "d/sub", NULL);
	expect(&w, actor.pid, 9);
	tell(&actor, erase, "d/g", NULL);
	expect(&w, actor.pid, 10);
	tell(&actor, forbid, "d", NULL);
	expect(&w, actor.pid, 11);
	cr_assert(w.rig.count == 11, "nobody else");
	expect_names(&w, actor.pid, name);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 0);
	rig_free(&w.rig);
	dismiss(&actor);
}

Test(actor, each_kind_of_change_on_disk)
{
	each_kind();
}

Test(actor, each_kind_of_change_on_tmpfs)
{
	home = "tmpfs";
	each_kind();
}

Test(actor, each_its_own)
{
	struct actor actors[12]; /* more than the probe keeps names of */
	char name[32];
	struct watching w;

	make(at("d"), NULL);
	prepare(&w, CELLOS_WATCH_FANOTIFY, at("d"), NULL);
	for (unsigned which = 0; which < 12; which++) {
		snprintf(name, sizeof(name), "actor %u", which);
		actors[which] = hire(name);
	}
	for (unsigned round = 0; round < 3; round++)
		for (unsigned which = 0; which < 12; which++) {
			snprintf(name, sizeof(name), "d/%u.%u", which, round);
			tell(&actors[which], touch, name, NULL);
		}
	rig_start(&w.rig); /* all in one read */
	for (unsigned which = 0; which < 12; which++) {
		snprintf(name, sizeof(name), "actor %u", which);
		expect(&w, actors[which].pid, 3);
		expect_names(&w, actors[which].pid, name);
	}
	rig_free(&w.rig);
	for (unsigned which = 0; which < 12; which++)
		dismiss(&actors[which]);
}

static void *touch_in_thread(void *path)
{
	(void)prctl(PR_SET_NAME, "a thread");
	touch(path, NULL);
	return NULL;
}

/* A thread's deeds are its process's. */
Test(actor, a_thread)
{
	struct watching w;
	char path[160];
	pthread_t thread;

	(void)prctl(PR_SET_NAME, "the process");
	make(at("d"), NULL);
	begin(&w, CELLOS_WATCH_FANOTIFY, at("d"));
	snprintf(path, sizeof(path), "%s", at("d/f"));
	cr_assert(pthread_create(&thread, NULL, touch_in_thread, path) == 0);
	pthread_join(thread, NULL);
	expect(&w, getpid(), 1);
	expect_names(&w, getpid(), "the process");
	rig_free(&w.rig);
}

/* The number is the kernel's and stays; the name is gone, and nothing is made up. */
Test(actor, one_that_has_ended)
{
	struct actor actor = hire("short");
	struct watching w;

	make(at("d"), NULL);
	prepare(&w, CELLOS_WATCH_FANOTIFY, at("d"), NULL);
	tell(&actor, touch, "d/f", NULL);
	dismiss(&actor);
	rig_start(&w.rig);
	expect(&w, actor.pid, 1);
	expect_names(&w, actor.pid, "");
	rig_free(&w.rig);
}

static void take_a_name(const char *one, const char *other)
{
	(void)other;
	(void)prctl(PR_SET_NAME, strrchr(one, '/') + 1);
}

/* Known for one wake-up; the next asks again. */
Test(actor, one_that_changes_its_name)
{
	struct actor actor = hire("before");
	const struct cellos_raw_event *last;
	struct watching w;
	size_t count = 1;

	make(at("d"), NULL);
	begin(&w, CELLOS_WATCH_FANOTIFY, at("d"));
	tell(&actor, touch, "d/f", NULL);
	expect(&w, actor.pid, 1);
	expect_names(&w, actor.pid, "before");
	tell(&actor, take_a_name, "after", NULL);
	do {
		tell(&actor, append, "d/f", NULL);
		expect(&w, actor.pid, ++count);
		last = &w.rig.events[w.rig.count - 1];
	} while (count < 1000 && memcmp(last->comm, "before", 6) == 0);
	cr_assert(last->comm_len == 5 && memcmp(last->comm, "after", 5) == 0);
	rig_free(&w.rig);
	dismiss(&actor);
}

/* True: what it changed last was told under its name, though it had ended by then. */
static bool end_while_records_gather(struct watching *w)
{
	struct actor actor = hire("known");
	const struct cellos_raw_event *last;

	tell(&actor, append, "d/f", NULL);
	expect(w, actor.pid, 1); /* before it has gathered anything */
	expect_names(w, actor.pid, "known");
	tell(&actor, forbid, "d/f", NULL);
	dismiss(&actor);
	expect(w, actor.pid, 2);
	last = rig_last(&w->rig, FIRED, (uint32_t)actor.pid);
	cr_assert(last->comm_len == 0 ||
			  (last->comm_len == 5 && memcmp(last->comm, "known", 5) == 0),
		  "%.16s", last->comm);
	return last->comm_len != 0;
}

/* Seen alive at the first of two reads that belong together: the second knows the name still. */
Test(actor, one_that_ends_while_records_gather)
{
	struct watching w;
	bool known = false;

	make(at("d"), NULL);
	touch(at("d/f"), NULL);
	prepare(&w, CELLOS_WATCH_FANOTIFY, at("d"), NULL);
	w.rig.options.coalesce_ms = 1000;
	rig_start(&w.rig);
	/* The machine may be late by itself, and a look by the clock may read the first, but not
	   each time. */
	for (unsigned round = 0; round < 10 && !known; round++)
		known = end_while_records_gather(&w);
	cr_assert(known);
	rig_free(&w.rig);
}

/* A whole life between two reads: once for each kind. */
Test(actor, merged)
{
	struct actor actor = hire("fast");
	struct watching w;

	make(at("d"), NULL);
	prepare(&w, CELLOS_WATCH_FANOTIFY, at("d"), NULL);
	tell(&actor, live_fast, "d/f", NULL);
	rig_start(&w.rig);
	expect(&w, actor.pid, 4);
	expect_names(&w, actor.pid, "fast");
	cr_assert(rig_stop(&w.rig) > 0 && w.rig.count == 4);
	rig_free(&w.rig);
	dismiss(&actor);
}

/* The probe in a PID namespace, the actor outside: then the agent must do. */
static void in_a_namespace(const struct actor *actor)
{
	struct watching w;

	RIG_CHECK(getpid() == 1);
	(void)prctl(PR_SET_NAME, "agent");
	begin(&w, CELLOS_WATCH_FANOTIFY, at("d"));
	tell(actor, touch, "d/f", NULL);
	RIG_CHECK(rig_until(&w.rig, FIRED, 1, 1));
	RIG_CHECK(w.rig.count == 1 && w.rig.events[0].comm_len == 5);
	RIG_CHECK(memcmp(w.rig.events[0].comm, "agent", 5) == 0);
	rig_free(&w.rig);
	_exit(0);
}

Test(actor, one_that_has_no_number_here)
{
	struct actor actor = hire("outsider");
	int status;
	pid_t pid;

	make(at("d"), NULL);
	cr_assert(unshare(CLONE_NEWPID) == 0);
	pid = fork();
	if (pid == 0)
		in_a_namespace(&actor);
	cr_assert(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	dismiss(&actor);
}

/* ---- a file and its directory --------------------------------------------------------------- */

static void until_unwatched(struct watching *w)
{
	while (rig_stat(&w->rig, "watched") != 0)
		rig_pump(&w->rig, rig_now() + MS);
}

/* Replaced, and watched again: how long that took. Deleted, it is seen to be missing first. */
static uint64_t replace(struct watching *w, const struct actor *actor, deed *how, uint64_t times)
{
	uint64_t begun;

	if (how == touch) {
		tell(actor, erase, "f", NULL);
		until_unwatched(w);
	}
	tell(actor, how, "f", "new");
	begun = rig_now();
	cr_assert(rig_until_stat(&w->rig, "rearmed", times));
	cr_assert(rig_dropped(&w->rig, CELLOS_DROP_OVERFLOW) == times);
	return rig_now() - begun;
}

/* The machine may be late by itself, but not each time. */
static void replaced(enum cellos_watch_choice choice, deed *how)
{
	bool by_fanotify = choice != CELLOS_WATCH_INOTIFY;
	struct actor actor = hire("replacer");
	pid_t who = by_fanotify ? actor.pid : getpid();
	unsigned prompt = 0;
	struct watching w;

	touch(at("f"), NULL);
	begin(&w, choice, at("f"));
	for (uint64_t times = 1; times <= 6; times++) {
		size_t before;

		prompt += replace(&w, &actor, how, times) < LONG_BEFORE_THE_CLOCK_NS;
		rig_pump(&w.rig, 0);
		before = rig_count(&w.rig, FIRED, (uint32_t)who);
		tell(&actor, append, "f", NULL);
		expect(&w, who, before + 1);
	}
	cr_assert(prompt >= 3, "in time %u times of 6", prompt);
	/* The watcher itself may be the last to let go of an inode that it has just looked at. */
	cr_assert(w.rig.count ==
			  rig_count(&w.rig, FIRED, (uint32_t)who) +
				  (by_fanotify ? rig_count(&w.rig, FIRED, (uint32_t)getpid()) : 0),
		  "and nobody else");
	rig_free(&w.rig);
	dismiss(&actor);
}

Test(actor, a_file_renamed_over)
{
	replaced(CELLOS_WATCH_AUTO, rename_over);
}

Test(actor, a_file_renamed_over_on_tmpfs)
{
	home = "tmpfs";
	replaced(CELLOS_WATCH_AUTO, rename_over);
}

Test(actor, a_file_renamed_over_seen_by_inotify)
{
	replaced(CELLOS_WATCH_INOTIFY, rename_over);
}

Test(actor, a_file_made_again)
{
	replaced(CELLOS_WATCH_AUTO, touch);
}

Test(actor, a_file_made_again_seen_by_inotify)
{
	replaced(CELLOS_WATCH_INOTIFY, touch);
}

/* What else is in its directory is nobody's business; another name of the file is. */
Test(actor, a_file_and_its_neighbours)
{
	struct actor actor = hire("neighbour");
	struct watching w;

	touch(at("f"), NULL);
	make(at("far"), NULL);
	cr_assert(link(at("f"), at("far/g")) == 0);
	begin(&w, CELLOS_WATCH_FANOTIFY, at("f"));
	tell(&actor, live_fast, "beside", NULL);
	tell(&actor, touch, "ff", NULL);
	tell(&actor, append, "far/g", NULL);
	expect(&w, actor.pid, 1);
	tell(&actor, erase, "far/g", NULL); /* one link less */
	expect(&w, actor.pid, 2);
	tell(&actor, move, "f", "gone");
	expect(&w, actor.pid, 3);
	until_unwatched(&w);
	tell(&actor, touch, "f", NULL);
	expect(&w, actor.pid, 4);
	cr_assert(rig_until_stat(&w.rig, "rearmed", 1));
	cr_assert(w.rig.count == 4);
	rig_free(&w.rig);
	dismiss(&actor);
}

/* ---- marks ---------------------------------------------------------------------------------- */

/* Of all fanotify groups of this process; `group`: one of them. */
static unsigned count_marks(int *group)
{
	return rig_fdinfo_lines("fanotify ino:", group);
}

static bool until_marks(struct watching *w, unsigned wanted)
{
	uint64_t deadline = rig_now() + RIG_PATIENCE_MS * MS;
	int group;

	while (count_marks(&group) != wanted && rig_now() < deadline)
		rig_pump(&w->rig, rig_now() + MS);
	return count_marks(&group) == wanted;
}

/* Files that go elsewhere take their marks along; these are given up, and nothing is missed. */
Test(actor, what_is_left_behind, .timeout = 250)
{
	struct actor actor = hire("rotate"), other = hire("busy");
	struct watching w;
	char name[32];
	int group;

	make(at("d"), NULL);
	touch(at("f"), NULL);
	prepare(&w, CELLOS_WATCH_FANOTIFY, at("f"), at("d"));
	cr_assert(count_marks(&group) == 3, "the file, its directory, the other one");
	rig_start(&w.rig);
	for (unsigned round = 1; round <= 3; round++) {
		for (unsigned turn = 0; turn < 10; turn++) {
			snprintf(name, sizeof(name), "f.%u.%u", round, turn);
			tell(&actor, move, "f", name);
			tell(&actor, touch, "f", NULL);
			cr_assert(rig_until_stat(&w.rig, "rearmed", 10 * (round - 1) + turn + 1));
		}
		snprintf(name, sizeof(name), "d/%u.", round);
		tell(&other, make_many, name, NULL);
		cr_assert(until_marks(&w, 3), "%u marks", count_marks(&group));
	}
	/* A change while there are two groups may be told by both, and how many those are is the
	   machine's affair; none is told thrice. */
	cr_assert(rig_until(&w.rig, FIRED, (uint32_t)other.pid, 6000));
	cr_assert(rig_count(&w.rig, FIRED, (uint32_t)other.pid) <= 12000);
	cr_assert(rig_stat(&w.rig, "rearmed") == 30, "a new group is no gap");
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 30);
	rig_free(&w.rig);
	dismiss(&actor);
	dismiss(&other);
}

/* As by a file system that went away and came back: the same inode without its mark. */
Test(actor, a_mark_that_is_lost)
{
	struct actor actor = hire("late");
	struct watching w;
	int group;

	make(at("d"), NULL);
	begin(&w, CELLOS_WATCH_FANOTIFY, at("d"));
	cr_assert(count_marks(&group) == 1);
	cr_assert(syscall(SYS_fanotify_mark, group, FAN_MARK_FLUSH, 0ull, AT_FDCWD, "/") == 0);
	cr_assert(rig_until_stat(&w.rig, "rearmed", 1));
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 1);
	expect(&w, getpid(), 1);
	tell(&actor, touch, "d/f", NULL);
	expect(&w, actor.pid, 1);
	rig_free(&w.rig);
	dismiss(&actor);
}

/* ---- where fanotify is not to be had -------------------------------------------------------- */

static void expect_floor(const char *path, const char *file)
{
	struct actor actor = hire("unknown");
	struct watching w;

	prepare(&w, CELLOS_WATCH_AUTO, path, NULL);
	cr_assert(w.rig.status.armed && !w.rig.status.failed, "%s", w.rig.status.why);
	cr_assert_str_eq(w.rig.status.surface, "inotify");
	cr_assert(strstr(w.rig.status.why, "by inotify: /") != NULL, "%s", w.rig.status.why);
	rig_start(&w.rig);
	if (file != NULL) {
		tell(&actor, touch, file, NULL);
		expect(&w, getpid(), 1);
		tell(&actor, erase, file, NULL);
		expect(&w, getpid(), 2);
	}
	rig_free(&w.rig);
	prepare(&w, CELLOS_WATCH_FANOTIFY, path, NULL);
	cr_assert(w.rig.status.failed, "%s", path);
	cr_assert(strncmp(w.rig.status.why, "cannot watch /", 14) == 0, "%s", w.rig.status.why);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 1);
	rig_free(&w.rig);
	dismiss(&actor);
}

static void make_overlay(void)
{
	char options[400];

	home = "tmpfs";
	make(at("lower"), NULL);
	make(at("upper"), NULL);
	make(at("work"), NULL);
	make(at("o"), NULL);
	snprintf(options, sizeof(options),
		 "lowerdir=%s/tmpfs/lower,upperdir=%s/tmpfs/upper,"
		 "workdir=%s/tmpfs/work",
		 base, base, base);
	mount_at("overlay", at("o"), options);
}

Test(actor, overlay)
{
	make_overlay();
	expect_floor(at("o"), "o/f");
}

Test(actor, ramfs)
{
	make(at("r"), NULL);
	mount_at("ramfs", at("r"), NULL);
	expect_floor(at("r"), "r/f");
	unmount(at("r"));
}

Test(actor, proc_and_sys)
{
	expect_floor("/proc", NULL);
	expect_floor("/sys/kernel", NULL);
}

/* Each path by the best that takes it; a mount changes which that is. */
Test(actor, both_surfaces)
{
	struct actor actor = hire("both");
	struct watching w;

	make_overlay();
	make(at("d"), NULL);
	prepare(&w, CELLOS_WATCH_AUTO, at("d"), at("o"));
	cr_assert(w.rig.status.armed && !w.rig.status.failed, "%s", w.rig.status.why);
	cr_assert_str_eq(w.rig.status.surface, "fanotify+inotify");
	rig_start(&w.rig);
	tell(&actor, touch, "d/f", NULL);
	tell(&actor, touch, "o/f", NULL);
	expect(&w, actor.pid, 1);
	expect(&w, getpid(), 1);
	mount_at("tmpfs", at("o"), NULL);
	cr_assert(rig_until_stat(&w.rig, "rearmed", 1));
	expect(&w, getpid(), 2);
	tell(&actor, touch, "o/f", NULL);
	expect(&w, actor.pid, 2);
	unmount(at("o"));
	cr_assert(rig_until_stat(&w.rig, "rearmed", 2));
	expect(&w, getpid(), 3);
	tell(&actor, erase, "o/f", NULL);
	expect(&w, getpid(), 4);
	expect(&w, actor.pid, 2);
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 2);
	rig_free(&w.rig);
	dismiss(&actor);
}

/* A file mounted over a file: its name there is not the one its inode has. */
static void bound(enum cellos_watch_choice how)
{
	struct actor actor = hire("binder");
	pid_t who = how == CELLOS_WATCH_INOTIFY ? getpid() : actor.pid;
	struct watching w;
	size_t before;

	touch(at("f"), NULL);
	make(at("e"), NULL);
	touch(at("e/source"), NULL);
	begin(&w, how, at("f"));
	cr_assert(mount(at("e/source"), at("f"), NULL, MS_BIND, NULL) == 0);
	cr_assert(rig_until_stat(&w.rig, "rearmed", 1));
	before = rig_count(&w.rig, FIRED, (uint32_t)who);
	tell(&actor, append, "f", NULL);
	expect(&w, who, before + 1);
	tell(&actor, append, "e/source", NULL);
	expect(&w, who, before + 2);
	unmount(at("f"));
	cr_assert(rig_until_stat(&w.rig, "rearmed", 2));
	cr_assert(rig_dropped(&w.rig, CELLOS_DROP_OVERFLOW) == 2);
	before = rig_count(&w.rig, FIRED, (uint32_t)who);
	tell(&actor, append, "f", NULL);
	expect(&w, who, before + 1);
	rig_free(&w.rig);
	dismiss(&actor);
}

Test(actor, a_bind_mount)
{
	bound(CELLOS_WATCH_AUTO);
}

Test(actor, a_bind_mount_seen_by_inotify)
{
	bound(CELLOS_WATCH_INOTIFY);
}

/* Without CAP_SYS_ADMIN the kernel would keep the pids to itself. */
Test(actor, without_the_right)
{
	struct watching w;

	make(at("d"), NULL);
	cr_assert(setegid(65534) == 0 && seteuid(65534) == 0);
	prepare(&w, CELLOS_WATCH_AUTO, at("d"), NULL);
	cr_assert(w.rig.status.armed && !w.rig.status.failed);
	cr_assert_str_eq(w.rig.status.surface, "inotify");
	cr_assert(strstr(w.rig.status.why, "by inotify: /") != NULL, "%s", w.rig.status.why);
	cr_assert(strstr(w.rig.status.why, strerror(EPERM)) != NULL, "%s", w.rig.status.why);
	rig_free(&w.rig);
	prepare(&w, CELLOS_WATCH_FANOTIFY, at("d"), NULL);
	cr_assert(!w.rig.status.armed && w.rig.status.failed);
	cr_assert_str_eq(w.rig.status.surface, "none");
	cr_assert(strstr(w.rig.status.why, strerror(EPERM)) != NULL, "%s", w.rig.status.why);
	rig_free(&w.rig);
	cr_assert(seteuid(0) == 0 && setegid(0) == 0);
}
