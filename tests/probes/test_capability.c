/* SPDX-FileCopyrightText: cellos-telemetry contributors */
/* SPDX-License-Identifier: LGPL-2.1-or-later */

/*
 * Denied capabilities on the kernel that runs here, by its tracepoint: every kind of refusal, the
 * questions that must not show, the folding of repeats, a ring that nobody reads, other PID
 * namespaces, a kernel that hides its symbols.
 *
 * The workload is a program of its own (tests/support/refused.c), as user nobody. The tracepoint
 * sees the whole machine: what others are denied meanwhile is known by its pid, and an account that
 * was disturbed by it is drawn up again.
 *
 * Threads: the test's and the probe's. Each Criterion test is a process of its own, one at a time;
 * what children run asserts by RIG_CHECK, for a failed cr_assert would leave them behind.
 * Refuses to: run without root, or where the kernel has no such tracepoint.
 */
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <sched.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "capability.h"
#include "probe_tables.h"
#include "rig.h"
#include "skip.h"

#define DENIED CELLOS_SOURCE_CAPABILITY_DENIED
#define NOBODY 65534

static struct rig rig;

static struct caps {
	struct __user_cap_data_struct data[2];
} caps_at_first;

/* What this process's workloads have behind their names. */
static char tag[16];

static struct caps get_caps(void)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct caps caps;

	RIG_CHECK(syscall(SYS_capget, &header, caps.data) == 0);
	return caps;
}

/* Before any test: one that cannot run skips the whole program. */
__attribute__((constructor)) static void need(void)
{
	struct cellos_probe_options options = rig_options();

	if (geteuid() != 0)
		cellos_test_skip("needs root");
	caps_at_first = get_caps();
	snprintf(tag, sizeof(tag), "%d", (int)getpid());
	setenv("REFUSED_TAG", tag, 1);
	rig_init(&rig, &cellos_probe_capability, &options, 65536);
	rig_arm(&rig);
	if (!rig.status.armed) {
		printf("%s\n", rig.status.why);
		cellos_test_skip("this kernel does not trace capabilities");
	}
	rig_free(&rig);
}

/* Another run of this program would disturb every account: one test of it at a time on a machine.
 */
static void wait_for_others(void)
{
	int fd = open(P_tmpdir "/cellos-test-capability", O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	RIG_CHECK(fd >= 0 && flock(fd, LOCK_EX) == 0); /* until this process ends */
}

TestSuite(capability, .init = wait_for_others);

static void arm_with(enum cellos_capability_choice choice)
{
	struct cellos_probe_options options = rig_options();

	options.capability = choice;
	rig_init(&rig, &cellos_probe_capability, &options, 65536);
	rig_arm(&rig);
}

static void begin(void)
{
	arm_with(CELLOS_CAPABILITY_AUTO);
	RIG_CHECK(rig.status.armed);
	rig_start(&rig);
}

static void end(void)
{
	rig_free(&rig);
}

/* ---- the workload --------------------------------------------------------------------------- */

/* Runs the program to its end; the numbers of its line, in order, and how many. */
static size_t refused(const char *arguments, long numbers[16])
{
	char command[512], line[512];
	size_t count = 0;
	FILE *output;

	snprintf(command, sizeof(command), "exec %s %s", REFUSED, arguments);
	output = popen(command, "re");
	RIG_CHECK(output != NULL && fgets(line, sizeof(line), output) != NULL);
	for (char *at = line; *at != '\0' && count < 16;) {
		char *after;
		long number = strtol(at, &after, 10);

		if (after == at) {
			at++;
			continue;
		}
		numbers[count++] = number;
		at = after;
	}
	RIG_CHECK(pclose(output) == 0);
	return count;
}

/* A denial of our own making: when it has come, so has all that was before it. */
static void settle(void)
{
	long numbers[16];

	RIG_CHECK(refused("storm 1", numbers) >= 2);
	RIG_CHECK(rig_until(&rig, DENIED, (uint32_t)numbers[1], 1));
}

/* A long account is drawn up in so many pieces: the shorter, the rarer is it that others are denied
   something meanwhile. */
#define PIECES 6

struct account {
	uint64_t events, lost, folded;
};

/* What the probe made of everything since it was armed, once it is stopped. */
static struct account account(void)
{
	return (struct account){.events = rig.count,
				.lost = rig_dropped(&rig, CELLOS_DROP_KERNEL),
				.folded = rig_dropped(&rig, CELLOS_DROP_SUPPRESSED)};
}

static uint64_t happened(const struct account *account)
{
	return account->events + account->lost + account->folded;
}

/* Was anybody else denied something? The first time is always an event, unless the ring was full.
 */
static bool disturbed(const char *what)
{
	char comm[32];

	snprintf(comm, sizeof(comm), "%s%.8s", what, tag);
	for (size_t at = 0; at < rig.count; at++)
		if (strcmp(rig.events[at].comm, comm) != 0)
			return true;
	return false;
}

/* What the workload of the last account said. */
static long said[16];

/* Runs the workload under a probe of its own and stops that. Again, when others got in between. */
static struct account account_of(const char *arguments, const char *comm, uint64_t denials,
				 void (*stalled)(void))
{
	struct account result;

	for (unsigned tries = 0; tries < 100; tries++) {
		bool again;

		arm_with(CELLOS_CAPABILITY_TRACE);
		cr_assert(rig.status.armed);
		if (stalled == NULL)
			rig_start(&rig);
		cr_assert(refused(arguments, said) >= 1);
		if (stalled != NULL)
			stalled();
		rig_stop(&rig);
		result = account();
		/* While the ring was full, others' denials left no event to know them by. */
		again = disturbed(comm) || (result.lost > 0 && happened(&result) > denials);
		rig_free(&rig);
		if (happened(&result) == denials)
			return result;
		/* Others add to the sum, and take nothing from it. */
		cr_assert(again && happened(&result) > denials,
			  "%s: %llu events + %llu lost + %llu folded", arguments,
			  (unsigned long long)result.events, (unsigned long long)result.lost,
			  (unsigned long long)result.folded);
	}
	cr_assert_fail("no moment without others' denials");
	return result;
}

/* ---- tests ---------------------------------------------------------------------------------- */

Test(capability, says_what_it_is)
{
	begin();
	cr_assert_str_eq(rig.status.surface, "trace");
	cr_assert_str_eq(rig.status.exactness, "exact", "%s", rig.status.why);
	cr_assert_str_eq(rig.status.why, "");
	cr_assert(!rig.status.failed);
	cr_assert(rig.status.kernel_bytes > 65536 && rig.status.kernel_bytes < 262144);
	end();
}

Test(capability, every_kind_of_refusal)
{
	static const char *const names[] = {"r-mount",  "r-kill",    "r-bind",
					    "r-setuid", "r-chroot",  "r \"host\"",
					    "r-nice",   "r-seccomp", "r-chown"};
	const size_t count = sizeof(names) / sizeof(names[0]);
	uint64_t before, last = 0;
	long pids[16];

	begin();
	before = rig_now();
	cr_assert(refused("each", pids) == count);
	for (size_t at = 0; at < count; at++) {
		const struct cellos_raw_event *event;

		cr_assert(rig_until(&rig, DENIED, (uint32_t)pids[at], 1), "%s", names[at]);
		event = rig_last(&rig, DENIED, (uint32_t)pids[at]);
		cr_assert_str_eq(event->comm, names[at]);
		cr_assert(event->comm_len == strlen(names[at]));
		cr_assert(event->monotonic_ns > before && event->monotonic_ns < rig_now());
		cr_assert(event->monotonic_ns > last);
		last = event->monotonic_ns;
	}
	settle();
	for (size_t at = 0; at < count; at++)
		cr_assert(rig_count(&rig, DENIED, (uint32_t)pids[at]) == 1, "%s", names[at]);
	end();
}

Test(capability, what_is_no_refusal)
{
	long numbers[16];

	begin();
	cr_assert(refused("calm", numbers) == 2);
	settle();
	/* It was there, and was told apart: of every round a mapping and the attributes at least.
	 */
	cr_assert(rig_until_stat(&rig, "asides", 4000));
	cr_assert(rig_count(&rig, DENIED, (uint32_t)numbers[1]) == 0);
	for (size_t at = 0; at < rig.count; at++)
		cr_assert(strncmp(rig.events[at].comm, "calm", 4) != 0);
	end();
}

Test(capability, a_refusal_in_the_midst_of_it)
{
	for (unsigned piece = 0; piece < PIECES; piece++) {
		struct account got = account_of("midst 50", "midst", 50, NULL);

		cr_assert(got.events >= 1 && got.lost == 0);
	}
}

Test(capability, repeats_are_one_event_a_second)
{
	uint64_t begin_ns = rig_now(), seconds;
	struct account got = account_of("storm 20000", "storm", 20000, NULL);

	seconds = (rig_now() - begin_ns) / 1000000000 + 1;
	cr_assert(got.lost == 0);
	cr_assert(got.events >= 1 && got.events <= seconds + 1);
}

Test(capability, repeats_of_threads_at_once)
{
	uint64_t begin_ns = rig_now(), seconds;
	struct account got = account_of("storm 5000 8", "storm", 40000, NULL);

	seconds = (rig_now() - begin_ns) / 1000000000 + 1;
	cr_assert(got.lost == 0);
	cr_assert(got.events >= 1 && got.events <= seconds + 1);
}

/* Two threads at the same moment, nothing noted yet: one of the two is a repeat. Unless one was
   kept from it for a second. */
Test(capability, repeats_at_the_same_moment)
{
	for (unsigned piece = 0; piece < PIECES; piece++) {
		struct account got = account_of("race 65", "race", 130, NULL);
		uint64_t slow = (uint64_t)said[1];

		cr_assert(got.events >= 65 && got.events <= 65 + slow);
		cr_assert(got.folded == 130 - got.events);
	}
}

Test(capability, different_ones_are_no_repeats)
{
	for (unsigned piece = 0; piece < PIECES; piece++) {
		struct account got = account_of("spread 50", "spread", 200, NULL);

		cr_assert(got.events == 200 && got.lost == 0 && got.folded == 0);
	}
}

/* The ring holds 1638 records. Nobody reads it until all is over. */
static void read_late(void)
{
	rig_start(&rig);
	cr_assert(rig_until_dropped(&rig, CELLOS_DROP_KERNEL, 1));
}

Test(capability, a_ring_that_nobody_reads)
{
	struct account got = account_of("spread 450", "spread", 1800, read_late);

	cr_assert(got.events > 1500 && got.events < 1700);
	cr_assert(got.folded == 0);
}

/* Once there is room again, denials are reported again. */
static void read_then_storm(void)
{
	long numbers[16];

	read_late();
	while (rig_count(&rig, DENIED, 0) == 0 && rig.count < 1500)
		rig_pump(&rig, rig_now() + 1000000);
	cr_assert(refused("spread 1", numbers) == 1);
}

Test(capability, room_comes_back)
{
	struct account got = account_of("spread 450", "spread", 1804, read_then_storm);

	cr_assert(got.events > 1504 && got.lost > 0);
}

/* With a second tracer the kernel calls both by another way than one alone, also while the first is
   armed already: what was learnt of its stack does not hold any more, and nothing must go wrong. */
Test(capability, beside_another_tracer)
{
	struct cellos_probe_options options = rig_options();
	static struct rig other;
	long numbers[16];

	begin();
	rig_init(&other, &cellos_probe_capability, &options, 65536);
	rig_arm(&other);
	cr_assert_str_eq(other.status.exactness, "exact", "%s", other.status.why);
	rig_start(&other);
	for (unsigned round = 0; round < 2; round++) {
		cr_assert(refused("calm", numbers) == 2);
		settle();
		cr_assert(rig_count(&rig, DENIED, (uint32_t)numbers[1]) == 0);
		cr_assert(refused("midst 1", numbers) == 2);
		cr_assert(rig_until(&rig, DENIED, (uint32_t)numbers[1], 1));
		if (round == 0) {
			cr_assert(rig_until(&other, DENIED, (uint32_t)numbers[1], 1));
			cr_assert(rig_until_stat(&other, "asides", 4000));
			rig_free(&other);
		}
	}
	rig_stop(&rig);
	cr_assert(rig_stat(&rig, "asides") >= 8000);
	end();
}

/* ---- whose denial --------------------------------------------------------------------------- */

static void switch_admin(bool on)
{
	struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct caps caps = get_caps();

	caps.data[0].effective &= ~(1u << CAP_SYS_ADMIN);
	if (on)
		caps.data[0].effective |= 1u << CAP_SYS_ADMIN;
	RIG_CHECK(syscall(SYS_capset, &header, caps.data) == 0);
}

Test(capability, the_agents_own_are_not_reported)
{
	begin();
	switch_admin(false);
	for (unsigned at = 0; at < 100; at++)
		cr_assert(sethostname("refused", 7) < 0 && errno == EPERM);
	switch_admin(true);
	settle();
	cr_assert(rig_count(&rig, DENIED, (uint32_t)getpid()) == 0);
	end();
}

/* Arming has laid a capability down; it must be there again. */
Test(capability, arming_leaves_the_agent_as_it_was)
{
	char name[2][64];
	struct caps after;

	cr_assert(gethostname(name[0], 64) == 0);
	begin();
	after = get_caps();
	/* The constructor has armed once already: not before that, either. */
	cr_assert(memcmp(&caps_at_first, &after, sizeof(after)) == 0);
	cr_assert(gethostname(name[1], 64) == 0);
	cr_assert_str_eq(name[0], name[1]);
	end();
}

/* In a child: the answer to a request for which the socket's opener has no right. */
static int ask_by_a_weak_socket(void)
{
	struct {
		struct nlmsghdr header;
		struct ifinfomsg link;
	} request = {.header = {.nlmsg_len = sizeof(request),
				.nlmsg_type = RTM_SETLINK,
				.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK},
		     .link = {.ifi_index = 0x7FFFFFF0}};
	struct {
		struct nlmsghdr header;
		struct nlmsgerr error;
		char rest[512];
	} answer = {0};
	int fd;

	if (seteuid(NOBODY) < 0)
		return 0;
	fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	if (seteuid(0) < 0 || send(fd, &request, sizeof(request), 0) < 0 ||
	    recv(fd, &answer, sizeof(answer), 0) < 0)
		return 0;
	return answer.error.error;
}

static pid_t in_a_child(bool (*work)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		rig_die_with_parent();
		_exit(work() ? 0 : 1);
	}
	RIG_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0);
	return pid;
}

static bool refused_for_the_opener(void)
{
	return ask_by_a_weak_socket() == -EPERM;
}

Test(capability, anothers_credentials)
{
	uint64_t before;
	pid_t pid;

	begin();
	before = rig_stat(&rig, "foreign");
	pid = in_a_child(refused_for_the_opener);
	cr_assert(rig_until_stat(&rig, "foreign", before));
	settle();
	cr_assert(rig_count(&rig, DENIED, (uint32_t)pid) == 0);
	rig_stop(&rig);
	cr_assert(rig_stat(&rig, "foreign") > before);
	end();
}

/* access(2) asks with credentials made for the moment: they are the process's own all the same. */
static char private_file[96];

static bool refused_access(void)
{
	/* Another real user than the effective one, or there is nothing to make. */
	return setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
	       setresuid(NOBODY, NOBODY - 1, NOBODY - 1) == 0 && access(private_file, R_OK) < 0 &&
	       errno == EACCES;
}

Test(capability, credentials_of_the_moment)
{
	char folder[64];
	pid_t pid;
	int fd;

	rig_temp_dir(folder);
	cr_assert(chmod(folder, 0755) == 0);
	snprintf(private_file, sizeof(private_file), "%s/private", folder);
	fd = open(private_file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
	cr_assert(fd >= 0);
	close(fd);
	begin();
	pid = in_a_child(refused_access);
	/* To search and to read, and to override it all: two capabilities. */
	cr_assert(rig_until(&rig, DENIED, (uint32_t)pid, 2));
	end();
	rig_remove_tree(folder);
}

/* ---- other kernels and places --------------------------------------------------------------- */

static bool told_not_to_look(void)
{
	arm_with(CELLOS_CAPABILITY_NONE);
	return !rig.status.armed && !rig.status.failed && rig.state_bytes == 0 &&
	       strcmp(rig.status.surface, "none") == 0 &&
	       strcmp(rig.status.why, "--capability none") == 0;
}

Test(capability, none)
{
	cr_assert(told_not_to_look());
	rig_start(&rig);
	cr_assert(rig_stop(&rig) < 5000000000u && rig.count == 0);
	end();
}

static bool without_the_right(void)
{
	return setgid(NOBODY) == 0 && setuid(NOBODY) == 0;
}

static bool not_permitted(void)
{
	if (!without_the_right())
		return false;
	arm_with(CELLOS_CAPABILITY_AUTO);
	rig_start(&rig);
	rig_stop(&rig);
	return !rig.status.armed && rig.status.failed &&
	       strstr(rig.status.why, "cannot use bpf(2): ") != NULL;
}

Test(capability, without_the_right_it_says_so)
{
	in_a_child(not_permitted);
}

/* With a /proc that has no kallsyms it cannot tell the kernel's own questions, and says so. */
static bool inferred(void)
{
	long pids[16];

	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("/dev/null", "/proc/kallsyms", NULL, MS_BIND, NULL) < 0)
		return false;
	begin();
	if (strcmp(rig.status.exactness, "inferred") != 0 ||
	    strstr(rig.status.why, "no /proc/kallsyms") == NULL)
		return false;
	refused("each", pids);
	for (size_t at = 0; at < 9; at++)
		if (!rig_until(&rig, DENIED, (uint32_t)pids[at], 1))
			return false;
	end();
	return true;
}

Test(capability, a_kernel_that_hides_its_symbols)
{
	in_a_child(inferred);
}

static bool nested_numbers(void)
{
	long pids[16];

	begin();
	if (getpid() != 1 || strstr(rig.status.why, "other PID namespaces") == NULL)
		return false;
	refused("each", pids);
	for (size_t at = 0; at < 9; at++)
		if (pids[at] > 100 || !rig_until(&rig, DENIED, (uint32_t)pids[at], 1))
			return false;
	/* Its own are known by their number outside. */
	switch_admin(false);
	if (sethostname("refused", 7) == 0)
		return false;
	switch_admin(true);
	rig_stop(&rig);
	if (rig_count(&rig, DENIED, 1) != 0)
		return false;
	end();
	return true;
}

static bool nested(void)
{
	if (unshare(CLONE_NEWPID) < 0)
		return false;
	in_a_child(nested_numbers);
	return true;
}

Test(capability, in_a_pid_namespace_of_its_own)
{
	in_a_child(nested);
}
