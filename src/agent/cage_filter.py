#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""cage_filter.py HEADER: the agent's seccomp filter, by libseccomp, as a C header.

What an armed agent may still call, and why; anything else ends it. Made when the agent is built, so
that the agent itself needs no library.
"""

import struct
import sys
import tempfile

import seccomp

CALLS = {
    # Each C library has its own of several calls that do the same.
    "probes and sender read, write and wait": """read readv pread64 write writev lseek poll ppoll
        select pselect6 futex futex_waitv sched_yield clock_gettime clock_nanosleep nanosleep
        gettimeofday restart_syscall rt_sigtimedwait""",
    "netlink and the channel, which connects again": """connect bind getsockname getpeername
        getsockopt setsockopt sendto sendmsg recvfrom recvmsg recvmmsg shutdown fcntl ioctl""",
    "/proc, and paths that are looked at again": """open openat close fstat newfstatat stat lstat
        statx statfs fstatfs getdents64 access faccessat faccessat2 readlink readlinkat
        name_to_handle_at""",
    "watches that are armed again": """inotify_init1 inotify_add_watch inotify_rm_watch
        fanotify_init fanotify_mark""",
    "links of BPF programs end by close; their rings are memory": "mmap munmap madvise mprotect brk",
    "the end of a thread and of the agent": """exit exit_group rt_sigprocmask rt_sigaction
        rt_sigreturn sigaltstack getpid gettid tgkill set_robust_list rseq membarrier prctl""",
    "random numbers for the backoff": "getrandom",
    "a thread that begins late lays its capabilities down": "capget capset",
}
FAMILIES = (1, 16, 40)  # unix, netlink, vsock


def known(name):
    try:
        return seccomp.resolve_syscall(seccomp.Arch(), name) >= 0
    except Exception:  # of a kernel that this library does not know yet
        return False


def main():
    made = seccomp.SyscallFilter(seccomp.KILL_PROCESS)
    made.set_attr(seccomp.Attr.ACT_BADARCH, seccomp.KILL_PROCESS)
    for names in CALLS.values():
        for name in names.split():
            if known(name):
                made.add_rule(seccomp.ALLOW, name)
    for family in FAMILIES:
        # The kernel reads an int: only these bits are compared.
        made.add_rule(seccomp.ALLOW, "socket",
                      seccomp.Arg(0, seccomp.MASKED_EQ, 0xffffffff, family))
    with tempfile.TemporaryFile() as file:
        made.export_bpf(file)
        file.seek(0)
        code = file.read()
    with open(sys.argv[1], "w", encoding="ascii") as header:
        header.write("/* Made by cage_filter.py. */\n#define CAGE_FILTER \\\n")
        for one in struct.iter_unpack("=HBBI", code):
            header.write("\t{0x%02x, %u, %u, 0x%08x}, \\\n" % one)
        header.write("\n")


main()
