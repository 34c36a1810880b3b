/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Denied capabilities by the tracepoint; see capability.h and bpf/capability.bpf.c.
 *
 * The tracepoint tells neither whose check it is nor why it was made. The first, where a task has
 * its credentials, a trial shows; the second, the names of the functions on the stack. In arming
 * the main thread lays CAP_SYS_ADMIN down for a moment (in its effective set only; nothing else of
 * the agent runs yet) and looks at what the program makes of its own checks. "exact" is claimed
 * only of a kernel where that came out right.
 *
 * Threads, invariant, refusals: capability.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "capability.h"
#include "capability_bpf.h"
#include "probe_util.h"

/* 40 bytes a denial, so about 1600 of them, each of another process or capability than any in the
   same second. */
#define RING_BYTES (64u * 1024u)
/* Of those that were reported within a second; for each the kernel takes about 80 bytes. */
#define RECENT 1024u
#define RECENT_BYTES (RECENT * 80u)

/* ---- arming --------------------------------------------------------------------------------- */

static void read_symbols(struct capability_shared *shared)
{
	/* The kernel hands out whole lines, a page of them at a time. */
	char text[65536 + 1];
	int fd = open("/proc/kallsyms", O_RDONLY | O_CLOEXEC);
	ssize_t got;

	while (fd >= 0 && (got = read(fd, text, sizeof(text) - 1)) > 0) {
		text[got] = '\0';
		cellos_capability_symbols(shared->ranges, text);
	}
	close(fd);
}

/* Two plain refusals, of which the first shows the credentials; the accounting for a mapping; the
   extended attributes of a file in memory, a question that nobody is refused anything by. */
static int try_out(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct before[2], less[2];
	int fd;

	if (syscall(SYS_capget, &header, before) < 0)
		return -errno;
	memcpy(less, before, sizeof(less));
	less[0].effective &= ~(1u << CAP_SYS_ADMIN);
	/* Also when it was not there: new credentials are what the program relies on. */
	if (syscall(SYS_capset, &header, less) < 0)
		return -errno;
	/* No kernel takes the length, whatever it looks at first. */
	(void)syscall(SYS_sethostname, "", -1);
	(void)syscall(SYS_sethostname, "", -1);
	munmap(mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), 1);
	fd = (int)syscall(SYS_memfd_create, "", 1 /* MFD_CLOEXEC */);
	(void)flistxattr(fd, NULL, 0);
	close(fd);
	return syscall(SYS_capset, &header, before) < 0 ? -errno : 0;
}

/* The program lives as long as its link. */
static int attach(struct capability_trace *trace, uint32_t agent_pid,
		  const struct cellos_pid_view *view, const char **what)
{
	const struct cellos_bpf_symbol symbols[] = {
		{"events", CELLOS_BPF_MAP, (uint64_t)trace->ring.fd},
		{"recent", CELLOS_BPF_MAP, (uint64_t)trace->recent_fd},
		{"shared", CELLOS_BPF_MAP_MEMORY, (uint64_t)trace->shared_fd},
		{"agent_pid", CELLOS_BPF_CONSTANT, agent_pid},
		{"pid_ns_device", CELLOS_BPF_CONSTANT, view->device},
		{"pid_ns_inode", CELLOS_BPF_CONSTANT, view->inode},
	};
	int program;

	*what = "load the program (wants CONFIG_BPF_EVENTS, no lockdown, a build with clang)";
	program = cellos_bpf_load(&capability_bpf_denied, BPF_PROG_TYPE_RAW_TRACEPOINT, 0, symbols,
				  sizeof(symbols) / sizeof(symbols[0]));
	if (program < 0)
		return program;
	*what = "attach to the tracepoint cap_capable (from 6.14 on, built with tracing)";
	trace->link = cellos_bpf_link_raw_tracepoint(program, "cap_capable");
	close(program);
	return trace->link;
}

static int trace_open(void *state, struct cellos_probe_env *env, struct cellos_probe_status *status,
		      const char **what)
{
	struct capability_trace *trace = state;
	const char *doubt = "", *numbers = "";
	struct cellos_pid_view view;
	void *shared = NULL;
	int result;

	*what = "use bpf(2)";
	trace->link = -1;
	trace->shared_fd = cellos_bpf_memory("cellos_cap", sizeof(*trace->shared), &shared);
	trace->shared = shared;
	trace->recent_fd = cellos_bpf_map("cellos_cap_last", BPF_MAP_TYPE_LRU_HASH,
					  sizeof(uint64_t), sizeof(uint64_t), RECENT, 0);
	result = cellos_bpf_ring_open(&trace->ring, "cellos_cap", RING_BYTES);
	if (result < 0 || trace->shared_fd < 0 || trace->recent_fd < 0)
		return result < 0 ? result : -ENOMEM;
	read_symbols(trace->shared);
	cellos_pid_view_look(&view);
	if (view.inode != 0)
		numbers = "pid 0 for processes of other PID namespaces; ";
	result = attach(trace, env->agent_pid, &view, what);
	if (result < 0)
		return result;
	*what = "learn from a denial of its own where this kernel's tasks have their credentials";
	result = try_out();
	if (result < 0 || trace->shared->cred_offset == 0)
		return result < 0 ? result : -ENOTSUP;
	if (trace->shared->ranges[0].end == 0)
		doubt = "inferred: no /proc/kallsyms to tell the kernel's own questions by";
	else if (trace->shared->trials != 1 || trace->shared->asides == 0)
		doubt = "inferred: the kernel's own questions cannot be told from denials";
	status->surface = "trace";
	status->exactness = doubt[0] == '\0' ? "exact" : "inferred";
	status->fell_back = doubt[0] != '\0';
	status->kernel_bytes = RING_BYTES + RECENT_BYTES + sizeof(*trace->shared);
	cellos_probe_why(status, "%s%s", numbers, doubt);
	/* Release: whoever sees it sees what the trial has found out. */
	__atomic_store_n(&trace->shared->armed, 1, __ATOMIC_RELEASE);
	return trace->ring.fd;
}

/* ---- reading -------------------------------------------------------------------------------- */

static void take_record(void *context, const void *bytes, size_t length)
{
	const struct capability_record *record = bytes;

	(void)length; /* nothing else is in there */
	cellos_probe_emit(context, CELLOS_SOURCE_CAPABILITY_DENIED, record->pid, record->comm,
			  strnlen(record->comm, sizeof(record->comm)), record->monotonic_ns);
}

static bool trace_see(void *state, struct cellos_probe_env *env)
{
	struct capability_trace *trace = state;
	/* Each only grows, and one that moves just now is seen the next time. */
	const volatile struct capability_shared *shared = trace->shared;
	const uint64_t lost = shared->lost - trace->lost, folded = shared->folded - trace->folded;

	trace->lost += lost;
	trace->folded += folded;
	cellos_lane_count(env->lane, CELLOS_DROP_KERNEL, lost);
	cellos_lane_count(env->lane, CELLOS_DROP_SUPPRESSED, folded);
	cellos_probe_stat_set(env, STAT_ASIDES, shared->asides);
	cellos_probe_stat_set(env, STAT_FOREIGN, shared->foreign);
	return cellos_bpf_ring_read(&trace->ring, take_record, env) > 0 || lost + folded > 0;
}

static void trace_close(void *state)
{
	struct capability_trace *trace = state;

	/* -1 closes nothing. */
	close(trace->link);
	close(trace->recent_fd);
	close(trace->shared_fd);
	cellos_bpf_ring_close(&trace->ring);
	cellos_bpf_memory_unmap(trace->shared, sizeof(*trace->shared));
}

const struct capability_surface cellos_capability_trace = {trace_open, trace_see, trace_close};
