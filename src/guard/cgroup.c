/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * The workload's cgroup: its limits, and a program that allows a handful of devices.
 *
 * The hierarchy is reached without a mount point, which also keeps it out of the workload's sight.
 * Threads: the caller's. Refuses to: touch any other cgroup, but for making the controllers
 * available below the root.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/mount.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "inside.h"

static void set_flag(int context, const char *name)
{
	(void)syscall(SYS_fsconfig, context, FSCONFIG_SET_FLAG, name, NULL, 0);
}

/* Whoever mounts the hierarchy says anew how it is, for everybody: as it was, it shall stay, but
   that a namespace's root is a border. */
static void set_flags(int context)
{
	static const char *const names[] = {"favordynmods", "memory_localevents",
					    "memory_recursiveprot", "memory_hugetlb_accounting",
					    "pids_localevents"};
	FILE *mounts = fopen("/proc/self/mounts", "re");
	char line[1024];

	set_flag(context, "nsdelegate");
	while (mounts != NULL && fgets(line, sizeof(line), mounts) != NULL)
		for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
			if (strstr(line, " cgroup2 ") != NULL && strstr(line, names[i]) != NULL)
				set_flag(context, names[i]);
	if (mounts != NULL)
		fclose(mounts);
}

/* The hierarchy's root as this cgroup namespace sees it: a descriptor or -errno. */
static int open_hierarchy(void)
{
	int context = (int)syscall(SYS_fsopen, "cgroup2", FSOPEN_CLOEXEC), fd;

	if (context < 0)
		return -errno;
	set_flags(context);
	fd = syscall(SYS_fsconfig, context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0
		     ? -1
		     : (int)syscall(SYS_fsmount, context, FSMOUNT_CLOEXEC, 0);
	if (fd < 0)
		fd = -errno;
	close(context);
	return fd;
}

/* ---- devices -------------------------------------------------------------------------------- */

#define LOAD(to, offset)                                                                           \
	((struct bpf_insn){.code = BPF_LDX | BPF_MEM | BPF_W,                                      \
			   .dst_reg = (to),                                                        \
			   .src_reg = BPF_REG_1,                                                   \
			   .off = (offset)})
#define MASK(reg, bits)                                                                            \
	((struct bpf_insn){.code = BPF_ALU64 | BPF_AND | BPF_K, .dst_reg = (reg), .imm = (bits)})
#define SHIFT(reg, bits)                                                                           \
	((struct bpf_insn){.code = BPF_ALU64 | BPF_RSH | BPF_K, .dst_reg = (reg), .imm = (bits)})
#define ANSWER(value)                                                                              \
	((struct bpf_insn){                                                                        \
		.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = (value)})
#define UNLESS(reg, value, skip)                                                                   \
	((struct bpf_insn){.code = BPF_JMP | BPF_JNE | BPF_K,                                      \
			   .dst_reg = (reg),                                                       \
			   .imm = (value),                                                         \
			   .off = (skip)})
#define RETURN ((struct bpf_insn){.code = BPF_JMP | BPF_EXIT})
/* Three instructions: this major and minor are allowed. */
#define ALLOW(major, minor) UNLESS(BPF_REG_3, major, 2), UNLESS(BPF_REG_4, minor, 1), RETURN

int guard_limit_devices(int cgroup_fd)
{
	/* 2: type, 3: major, 4: minor; 0 says yes until the end is reached. */
	const struct bpf_insn program[] = {
		LOAD(BPF_REG_2, offsetof(struct bpf_cgroup_dev_ctx, access_type)),
		MASK(BPF_REG_2, 0xffff),
		LOAD(BPF_REG_3, offsetof(struct bpf_cgroup_dev_ctx, major)),
		LOAD(BPF_REG_4, offsetof(struct bpf_cgroup_dev_ctx, minor)),
		ANSWER(1),
		UNLESS(BPF_REG_2, BPF_DEVCG_DEV_CHAR, 7 * 3 + 3),
		ALLOW(1, 3), /* null */
		ALLOW(1, 5), /* zero */
		ALLOW(1, 7), /* full */
		ALLOW(1, 8), /* random */
		ALLOW(1, 9), /* urandom */
		ALLOW(5, 0), /* tty */
		ALLOW(5, 2), /* ptmx */
		SHIFT(BPF_REG_3, 3),
		UNLESS(BPF_REG_3, 136 >> 3, 1), /* ptys: 136 to 143 */
		RETURN,
		ANSWER(0),
		RETURN,
	};
	union bpf_attr load = {
		.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE,
		.insns = (uint64_t)(uintptr_t)program,
		.insn_cnt = sizeof(program) / sizeof(program[0]),
		.license = (uint64_t)(uintptr_t) "LGPL",
		.prog_name = "cellos_devices",
	};
	union bpf_attr link = {.link_create = {.target_fd = (uint32_t)cgroup_fd,
					       .attach_type = BPF_CGROUP_DEVICE}};
	int fd = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof(load)), status = 0;

	if (fd < 0)
		return -errno;
	link.link_create.prog_fd = (uint32_t)fd;
	/* The link lives as long as this process, and so does the rule: nobody else can end it. */
	if (syscall(SYS_bpf, BPF_LINK_CREATE, &link, sizeof(link)) < 0)
		status = -errno;
	close(fd);
	return status;
}

/* ---- limits --------------------------------------------------------------------------------- */

struct limit {
	const char *controller;
	const char *file;
	char value[48];
};

static int set_limit(const struct cellos_guard_options *options, int root, int group,
		     const struct limit *limit)
{
	char enable[16];
	int status;

	snprintf(enable, sizeof(enable), "+%s", limit->controller);
	/* It may be on already, and a root that has processes may refuse: the limit itself tells.
	 */
	if (guard_write_file_at(root, "cgroup.subtree_control", enable) == -ENOENT)
		return guard_missing(options, -ENOENT, "cannot limit %s: no such controller",
				     limit->controller);
	status = guard_write_file_at(group, limit->file, limit->value);
	if (status < 0)
		return guard_missing(options, status, "cannot limit %s: %s", limit->file,
				     strerror(-status));
	return 0;
}

static int set_limits(const struct cellos_guard_options *options, int root, int group)
{
	struct limit limits[3];
	size_t count = 0;

	if (options->pids > 0) {
		limits[count] = (struct limit){"pids", "pids.max", ""};
		snprintf(limits[count++].value, sizeof(limits[0].value), "%u", options->pids);
	}
	if (options->memory_bytes > 0) {
		limits[count] = (struct limit){"memory", "memory.max", ""};
		snprintf(limits[count++].value, sizeof(limits[0].value), "%llu",
			 (unsigned long long)options->memory_bytes);
	}
	if (options->cpu_percent > 0) {
		limits[count] = (struct limit){"cpu", "cpu.max", ""};
		snprintf(limits[count++].value, sizeof(limits[0].value), "%llu 100000",
			 options->cpu_percent * 1000ull);
	}
	for (size_t i = 0; i < count; i++) {
		int status = set_limit(options, root, group, &limits[i]);

		if (status < 0)
			return status;
	}
	return 0;
}

static int open_group(int root, const char *name)
{
	int fd;

	if (mkdirat(root, name, 0755) < 0 && errno != EEXIST)
		return -errno;
	fd = openat(root, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

int guard_make_cgroup(const struct cellos_guard_options *options)
{
	const char *name = options->cgroup != NULL ? options->cgroup : "workload";
	int root = open_hierarchy(), group = root < 0 ? root : open_group(root, name), status;

	if (group < 0) {
		status = guard_missing(options, group, "cannot make cgroup %s: %s", name,
				       strerror(-group));
		goto out;
	}
	status = set_limits(options, root, group);
	if (status == 0) {
		status = guard_limit_devices(group);
		if (status < 0)
			status = guard_missing(options, status, "cannot limit devices: %s",
					       strerror(-status));
	}
out:
	if (root >= 0)
		close(root);
	if (status < 0 && group >= 0)
		close(group);
	if (status < 0)
		return status;
	return group >= 0 ? group : GUARD_NO_CGROUP;
}
