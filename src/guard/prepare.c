/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * What the kernel would start for the workload, outside of every wall: closed once by the init, and
 * looked at again before each start.
 *
 * Threads: the caller's. A switch that the kernel does not have is closed; /proc that is not there
 * is not. Refuses to: open anything again.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "inside.h"

struct knob {
	const char *path;
	const char *wanted;
	const char *also; /* as good, and also from a boot before us; NULL: nothing is */
};

static const struct knob knobs[] = {
	/* A program of the workload's choice, as root, for every new device. */
	{"/proc/sys/kernel/hotplug", "", NULL},
	{"/sys/kernel/uevent_helper", "", NULL},
	{"/proc/sys/kernel/modprobe", "", NULL},
	/* "|program" is a usermode helper. */
	{"/proc/sys/kernel/core_pattern", "core", NULL},
	{"/proc/sys/kernel/poweroff_cmd", "/sbin/poweroff", NULL}, /* in init's root */
	{"/proc/sys/kernel/sysrq", "0", NULL},
	{"/proc/sys/kernel/unprivileged_bpf_disabled", "1", "2"},
	/* Every capability again, and with them half of the kernel's code. */
	{"/proc/sys/user/max_user_namespaces", "0", NULL},
};

int guard_missing(const struct cellos_guard_options *options, int error, const char *format, ...)
{
	char line[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	if (options->say != NULL)
		options->say(options->context, line);
	return options->best_effort ? 0 : error;
}

int guard_write_file_at(int folder, const char *name, const char *text)
{
	int fd = openat(folder, name, O_WRONLY | O_CLOEXEC), status = 0;
	size_t length = strlen(text);
	ssize_t written;

	if (fd < 0)
		return -errno;
	written = write(fd, text, length);
	if (written < 0)
		status = -errno;
	else if ((size_t)written != length)
		status = -EIO;
	close(fd);
	return status;
}

int guard_write_file(const char *path, const char *text)
{
	return guard_write_file_at(AT_FDCWD, path, text);
}

/* Without the newline. 0, or -errno; -E2BIG: longer than any value that is wanted. */
static int read_line(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), status = 0;
	ssize_t got;

	if (fd < 0)
		return -errno;
	got = read(fd, text, size);
	if (got < 0)
		status = -errno;
	else if ((size_t)got == size)
		status = -E2BIG;
	else
		text[got] = '\0';
	close(fd);
	if (status == 0)
		text[strcspn(text, "\n")] = '\0';
	return status;
}

/* 0: closed. 1: open, and *text says how. -errno: cannot know. */
static int is_open(const struct knob *knob, char *text, size_t size)
{
	int status = read_line(knob->path, text, size);

	if (status == -ENOENT)
		return 0; /* this kernel has no such thing */
	if (status == -E2BIG)
		(void)snprintf(text, size, "...");
	else if (status < 0)
		return status;
	return strcmp(text, knob->wanted) != 0 &&
	       (knob->also == NULL || strcmp(text, knob->also) != 0);
}

static int check_proc(const struct cellos_guard_options *options)
{
	if (access("/proc/sys/kernel", F_OK) == 0)
		return 0;
	return guard_missing(options, -ENOENT, "cannot look at /proc/sys: /proc is not mounted");
}

int cellos_guard_check(const struct cellos_guard_options *options)
{
	int result = check_proc(options);

	for (size_t i = 0; result == 0 && i < sizeof(knobs) / sizeof(knobs[0]); i++) {
		char text[64];
		int status = is_open(&knobs[i], text, sizeof(text)), said = 0;

		if (status > 0)
			said = guard_missing(options, -EPERM, "%s is '%s', not '%s'", knobs[i].path,
					     text, knobs[i].wanted);
		else if (status < 0)
			said = guard_missing(options, -EPERM, "cannot read %s: %s", knobs[i].path,
					     strerror(-status));
		if (said < 0)
			return said; /* one line why is enough */
	}
	return result;
}

int cellos_guard_prepare(const struct cellos_guard_options *options)
{
	int result;

	if ((options->without & CELLOS_GUARD_HELPERS) != 0)
		return 0;
	result = check_proc(options);
	for (size_t i = 0; result == 0 && i < sizeof(knobs) / sizeof(knobs[0]); i++) {
		char text[64];
		int status = is_open(&knobs[i], text, sizeof(text)), said = 0;

		if (status > 0) {
			/* An empty value is a line without text: a write of nothing changes
			 * nothing. */
			snprintf(text, sizeof(text), "%s\n", knobs[i].wanted);
			status = guard_write_file(knobs[i].path, text);
		}
		if (status < 0)
			said = guard_missing(options, status, "cannot set %s to '%s': %s",
					     knobs[i].path, knobs[i].wanted, strerror(-status));
		if (said < 0)
			return said; /* one line why is enough */
	}
	return result != 0 ? result : cellos_guard_check(options);
}
