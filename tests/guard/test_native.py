#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""The guard on this machine, in namespaces: ordinary programs run behind it, what it hands on, and what it
says when it cannot start.

With --best-effort, for the switches of a kernel that others use must stay as they are. The workload's root is
an overlay of this one, in a mount namespace that ends with the test: nothing that it writes stays. CELLOS_GUARD
names the program.
"""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import unittest

GUARD = os.environ.get("CELLOS_GUARD", "")
GROUP = f"cellos-test-{os.getpid()}"
PATIENCE = float(os.environ.get("CELLOS_PATIENCE", "20")) * 3
libc = ctypes.CDLL(None, use_errno=True)


def skip(why):
    print(f"skipped: {why}", flush=True)
    sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)


def mount(what, where, kind, flags=0, data=None):
    if libc.mount(what.encode(), str(where).encode(), kind.encode(), flags, data and data.encode()) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), str(where))


def make_root():
    """An overlay of "/" whose upper half is memory, seen by this process and its children alone."""
    CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000
    if os.geteuid() != 0:
        skip("the guard's walls need root")
    if libc.unshare(CLONE_NEWNS) != 0:
        skip("no mount namespace of its own here")
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    place = pathlib.Path(tempfile.mkdtemp(prefix="cellos-guard-"))
    try:
        mount("upper", place, "tmpfs", 0, "size=512m,mode=755")
        for name in ("upper", "work", "root"):
            (place / name).mkdir()
        mount("root", place / "root", "overlay", 0,
              f"lowerdir=/,upperdir={place}/upper,workdir={place}/work")
    except OSError as error:
        os.rmdir(place) if not os.path.ismount(place) else None
        skip(f"no overlay of this root: {error}")
    return place


def remove_group():
    """Waits for the last process to leave it."""
    for line in pathlib.Path("/proc/mounts").read_text().splitlines():
        words = line.split()
        if words[2] != "cgroup2":
            continue
        folder = pathlib.Path(words[1]) / GROUP
        deadline = time.monotonic() + PATIENCE
        while folder.exists():
            try:
                folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        return


def guarded(*command, options=(), rooted=True, **more):
    """Runs a command behind the guard; what it printed and how it ended."""
    where = ["--root", str(PLACE / "root")] if rooted else []
    more.setdefault("stdin", subprocess.DEVNULL if "input" not in more else None)
    if more["stdin"] is None:
        del more["stdin"]
    return subprocess.run([GUARD, "--best-effort", "--cgroup", GROUP, *where, *options, "--", *command],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=PATIENCE,
                          check=False, **more)


def refused(*command, options=(), **more):
    """Without --best-effort; what prepare would close stays open on this machine."""
    return subprocess.run([GUARD, "--without", "helpers", "--cgroup", GROUP, *options, "--", *command],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=PATIENCE, check=False, **more)


class Case(unittest.TestCase):
    def works(self, *command, **more):
        done = guarded(*command, **more)
        self.assertEqual(done.returncode, 0, f"{command}: {done.stdout}{done.stderr}")
        return done.stdout


class Ordinary(Case):
    """What people run in a guest."""

    def test_shell(self):
        self.assertEqual(self.works("sh", "-c", "seq 1000 | sort -rn | head -n 1; : >/srv/mine; ls /srv/mine"),
                         "1000\n/srv/mine\n")

    def test_python(self):
        script = ("import subprocess, threading, multiprocessing, socket, tempfile\n"
                  "done = []\n"
                  "thread = threading.Thread(target=lambda: done.append(1)); thread.start(); thread.join()\n"
                  "with multiprocessing.Pool(2) as pool: done += pool.map(abs, [-2, -3])\n"
                  "a, b = socket.socketpair(); a.send(b'x'); b.recv(1)\n"
                  "listener = socket.create_server(('127.0.0.1', 0))\n"
                  "socket.create_connection(listener.getsockname())\n"
                  "print(done, subprocess.check_output(['echo', 'hello']), tempfile.mkdtemp()[:5])\n")
        self.assertEqual(self.works("/usr/bin/python3", "-c", script), "[1, 2, 3] b'hello\\n' /tmp/\n")

    @unittest.skipUnless(shutil.which("node"), "no node here")
    def test_node(self):
        script = ("const w = require('worker_threads'), c = require('child_process');"
                  "new w.Worker('require(\"worker_threads\").parentPort.postMessage(2)', {eval: true})"
                  ".on('message', m => console.log(m, c.execSync('echo hello').toString().trim()))")
        self.assertEqual(self.works("node", "-e", script), "2 hello\n")

    @unittest.skipUnless(shutil.which("git"), "no git here")
    def test_git(self):
        script = ("set -e; cd /tmp; git init -q one; cd one; git config user.email a@b; git config user.name a;"
                  "echo x >x; git add x; git commit -qm first; git gc -q; cd ..; git clone -q one two; cat two/x")
        self.assertEqual(self.works("sh", "-c", script), "x\n")

    @unittest.skipUnless(shutil.which("make") and shutil.which("cc"), "no compiler here")
    def test_make(self):
        script = ("set -e; mkdir /tmp/made; cd /tmp/made; for i in 1 2 3 4 5 6; do "
                  "echo 'int main(void) { return 0; }' >p$i.c; done;"
                  "make -s -j4 p1 p2 p3 p4 p5 p6; ./p6; echo made p?")
        self.assertEqual(self.works("sh", "-c", script), "made p1 p2 p3 p4 p5 p6\n")

    @unittest.skipUnless(shutil.which("gdb"), "no gdb here")
    def test_debugger(self):
        said = self.works("gdb", "-nx", "-batch", "-ex", "starti", "-ex", "info registers rip",
                          "-ex", "continue", "--args", "/bin/echo", "traced")
        self.assertRegex(said, r"rip +0x")
        self.assertIn("traced", said)
        self.assertIn("exited normally", said)

    def test_tracing_in_the_shared_layout(self):
        if not shutil.which("gdb"):
            self.skipTest("no gdb here")
        said = self.works("gdb", "-nx", "-batch", "-ex", "run", "--args", "/bin/echo", "traced",
                          options=("--layout", "shared"))
        self.assertIn("traced", said)

    def test_packages(self):
        """apt installs a local package, whose script runs, and dpkg removes it."""
        control = ("Package: cellos-try\nVersion: 1\nArchitecture: all\nMaintainer: nobody <a@b>\n"
                   "Description: a package to try\n")
        script = ("set -e; export DEBIAN_FRONTEND=noninteractive; cd /tmp; mkdir -p try/DEBIAN try/opt/try;"
                  f"printf '{control}' >try/DEBIAN/control; echo content >try/opt/try/file;"
                  "printf '#!/bin/sh\\nchown 1000:1000 /opt/try/file\\n' >try/DEBIAN/postinst;"
                  "chmod 755 try/DEBIAN/postinst; dpkg-deb -b try try.deb >/dev/null;"
                  "apt-get install -y ./try.deb >log 2>&1 || { cat log; exit 1; };"
                  "stat -c '%u %s' /opt/try/file; dpkg --purge cellos-try >/dev/null; ls /opt/try 2>&1 | wc -l")
        self.assertEqual(self.works("sh", "-c", script), "1000 8\n1\n")

    def test_another_user(self):
        self.assertEqual(self.works("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "id", "-u"),
                         "65534\n")


class Handed(Case):
    """What goes through the guard to the command, and back."""

    def test_exit_codes(self):
        for layout in ("hidden", "shared"):
            for script, code in (("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -SEGV $$", 139)):
                done = guarded("sh", "-c", script, options=("--layout", layout))
                self.assertEqual(done.returncode, code, f"{layout}: {script}: {done.stderr}")

    def test_exit_code_when_dead_children_are_ignored(self):
        for layout in ("hidden", "shared"):
            done = guarded("sh", "-c", "exit 7", options=("--layout", layout),
                           preexec_fn=lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN))
            self.assertEqual(done.returncode, 7, f"{layout}: {done.stderr}")

    def test_input_and_output(self):
        text = "".join(f"line {i}\n" for i in range(100000))
        done = guarded("sh", "-c", "cat; echo to the other >&2", input=text)
        self.assertEqual((done.returncode, done.stdout), (0, text))
        self.assertTrue(done.stderr.endswith("to the other\n"), done.stderr[-200:])

    def test_more_output_than_input(self):
        """Input that has no room must not hold up the output that its reader waits to be rid of."""
        script = "while read line; do head -c 300000 /dev/zero; done"
        done = guarded("sh", "-c", script, input=("x" * 4095 + "\n") * 64)
        self.assertEqual((done.returncode, len(done.stdout)), (0, 64 * 300000))

    @staticmethod
    def appears(path):
        deadline = time.monotonic() + PATIENCE
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        return path.exists()

    def test_signal_while_nobody_reads(self):
        tmp = PLACE / "upper" / "tmp"
        # Stuck: for a while there was no room at all.
        script = ("import os, signal, time\n"
                  "signal.signal(15, lambda *_: (open('/tmp/signalled', 'w'), os._exit(3)))\n"
                  "os.set_blocking(1, False)\nfull = 0\n"
                  "while full < 20:\n"
                  "    try: full = 0 * os.write(1, bytes(4096))\n"
                  "    except BlockingIOError: full += 1; time.sleep(0.01)\n"
                  "open('/tmp/stuck', 'w')\nwhile True: time.sleep(0.1)\n")
        with subprocess.Popen([GUARD, "--best-effort", "--cgroup", GROUP, "--root", PLACE / "root", "--",
                               "/usr/bin/python3", "-c", script], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
            self.appears(tmp / "stuck")
            process.terminate()
            told = self.appears(tmp / "signalled")
            process.stdout.read()
        self.assertEqual((told, process.returncode), (True, 3))

    def test_signals(self):
        script = ("import signal\nsignal.pthread_sigmask(signal.SIG_BLOCK, [10, 15])\nprint('ready', flush=True)\n"
                  "got = signal.sigwait([10, 15])\nprint(int(got), flush=True)\nraise SystemExit(got)\n")
        for layout in ("hidden", "shared"):
            for number in (10, 15):
                with subprocess.Popen([GUARD, "--best-effort", "--cgroup", GROUP, "--root", PLACE / "root",
                                       "--layout", layout, "--", "/usr/bin/python3", "-c", script],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                      stderr=subprocess.DEVNULL, text=True) as process:
                    self.assertEqual(process.stdout.readline(), "ready\n")
                    process.send_signal(number)
                    self.assertEqual(process.stdout.read(), f"{number}\n")
                self.assertEqual(process.returncode, number)

    def test_descriptors(self):
        """Whatever the caller left open is not there, and the standard ones are pipes."""
        with open("/dev/null") as one, open("/etc/hostname") as two:
            said = self.works("/usr/bin/python3", "-c",
                              "import os, stat; print([fd for fd in range(99) if os.path.exists(f'/proc/self/fd/{fd}')],"
                              "[stat.S_ISFIFO(os.fstat(fd).st_mode) for fd in range(3)])",
                              pass_fds=(one.fileno(), two.fileno()))
        self.assertEqual(said, "[0, 1, 2] [True, True, True]\n")

    def test_without_standard_descriptors(self):
        """Pipes to the command must not take their numbers: it would read what it wrote itself."""
        inner = f"{GUARD} --best-effort --cgroup {GROUP} --root {PLACE}/root -- "
        script = "echo mine; read got; echo got:$got >/tmp/got"
        subprocess.run(["sh", "-c", f"exec {inner} sh -c '{script}' <&- >&- 2>&-"], timeout=PATIENCE, check=True)
        self.assertEqual((PLACE / "upper" / "tmp" / "got").read_text(), "got:\n")

    def test_terminal(self):
        """A pty of its own, that signals its session."""
        inner = f"{GUARD} --best-effort --cgroup {GROUP} --root {PLACE}/root -- "
        script = "test -t 0 && test -t 1 && test -t 2 && stty size >/dev/null && echo own:$(tty); exit 5"
        done = subprocess.run(["script", "-qec", f"tty; {inner} sh -c '{script}'", "/dev/null"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE,
                              check=False)
        self.assertEqual(done.returncode, 5, done.stdout)
        self.assertRegex(done.stdout, r"^/dev/pts/\d+\n")
        # Not the caller's: that one, and any other, has no name in a /dev/pts of its own.
        self.assertIn("own:not a tty\n", done.stdout)

    def test_numbers(self):
        """Nobody but the reaper and the command, which is beyond the numbers that are protected."""
        said = self.works("sh", "-c", "echo $$; ls -d /proc/[0-9]* | tr '\\n' ' '")
        self.assertRegex(said, r"^3\n/proc/1 /proc/3 (/proc/\d+ )+$")

    def test_favours(self):
        """What keeps its caller alive and running is not the command's: it would starve the agent by it."""
        def be_favoured():
            os.nice(-7)
            with contextlib.suppress(PermissionError):  # not everywhere may root: a guest of tests/vm can
                pathlib.Path("/proc/self/oom_score_adj").write_text("-900")
        script = "nice; cd /proc/self; cat oom_score_adj; echo -1 2>/dev/null >oom_score_adj || echo refused"
        for layout in ("hidden", "shared"):
            said = self.works("sh", "-c", script, options=("--layout", layout), preexec_fn=be_favoured)
            self.assertEqual(said, "0\n0\nrefused\n", layout)

    def test_sessions(self):
        """The reaper hands signals on: in the command's group, it would do so with the terminal's, too."""
        self.assertEqual(self.works("sh", "-c", "cut -d' ' -f5-6 /proc/1/stat /proc/$$/stat"), "1 1\n3 3\n")

    def test_reaper(self):
        """PID 1 there runs the guard's file, which is not the workload's to reach by way of it."""
        said = self.works("sh", "-c", "for i in exe environ maps; do head -c 1 /proc/1/$i && echo $i; done 2>&1 |"
                          "grep -v 'Permission denied'; head -c 1 /proc/$$/environ >/dev/null && echo own")
        self.assertEqual(said, "own\n")


class Refused(Case):
    """125 and one line why; nothing has run."""

    def check(self, done, why):
        self.assertEqual((done.returncode, done.stdout), (125, ""), done.stderr)
        self.assertRegex(done.stderr, rf"\Acellos-guard: {why}[^\n]*\n\Z")

    def test_open_helpers(self):
        done = subprocess.run([GUARD, "--cgroup", GROUP, "--root", PLACE / "root", "--", "true"],
                              capture_output=True, text=True, check=False)
        if done.returncode == 0:
            self.skipTest("all of it is closed on this machine")
        self.check(done, "/(proc/sys|sys)/")

    def test_no_root_of_its_own(self):
        self.check(refused("true"), "cannot keep the workload off init's root")

    def test_no_such_root(self):
        self.check(refused("true", options=("--root", "/no/such")), "cannot change to root /no/such")

    def test_no_right_to_it(self):
        done = refused("true", options=("--root", str(PLACE / "root")),
                       preexec_fn=lambda: (os.setgid(65534), os.setuid(65534)))
        self.check(done, "cannot make ")

    def test_hierarchy_stays_delegated(self):
        """Mounting it says anew how it is, for the whole machine."""
        def flags():
            return {word for line in pathlib.Path("/proc/mounts").read_text().splitlines()
                    if line.split()[2] == "cgroup2" for word in line.split()[3].split(",")}
        before = flags()
        if not before or os.readlink("/proc/self/ns/cgroup") != "cgroup:[4026531835]":
            self.skipTest("no cgroup2 of the machine's in sight")
        self.assertEqual(guarded("true").returncode, 0)
        self.assertEqual(flags(), before | {"nsdelegate"})

    def test_no_cgroup(self):
        done = refused("true", options=("--root", str(PLACE / "root"), "--cgroup", "cgroup.procs"))
        self.check(done, "cannot make cgroup cgroup.procs: ")

    def test_no_such_profile(self):
        self.check(refused("true", options=("--root", str(PLACE / "root"), "--profile", "lax")),
                   "cannot use profile 'lax'")

    def test_best_effort_with_no_such_profile(self):
        """Then it is the stricter one, which has a filter more."""
        filters = [guarded("sh", "-c", "grep Seccomp_filters /proc/self/status", options=("--profile", name))
                   for name in ("strict", "lax", "compat")]
        self.assertEqual(filters[1].stdout, filters[0].stdout)
        self.assertNotEqual(filters[1].stdout, filters[2].stdout)
        self.assertIn("cannot use profile 'lax'", filters[1].stderr)

    def test_no_such_command(self):
        self.check(refused("/no/such", options=("--root", str(PLACE / "root"))), "cannot run /no/such")

    def test_no_namespaces(self):
        done = refused("true", options=("--without", "mounts", "--without", "cgroup"), preexec_fn=forbid_namespaces)
        self.check(done, "cannot start in namespaces")

    def test_best_effort_without_namespaces(self):
        """The caller's then, and the filter over the numbers in it."""
        script = "echo ran; kill -CONT $PPID 2>&1 | grep -o 'not permitted'"
        done = guarded("bash", "-c", script, options=("--without", "mounts"), rooted=False,
                       preexec_fn=forbid_namespaces)
        self.assertEqual((done.returncode, done.stdout), (0, "ran\nnot permitted\n"), done.stderr)
        self.assertIn("cannot start in namespaces of its own", done.stderr)

    def test_no_filter(self):
        self.check(refused("true", options=("--root", str(PLACE / "root")), preexec_fn=forbid_filters),
                   "cannot load the filter")

    def test_best_effort_says_what_is_missing(self):
        done = guarded("echo", "ran", preexec_fn=forbid_filters, rooted=False)
        self.assertEqual((done.returncode, done.stdout), (0, "ran\n"), done.stderr)
        self.assertIn("cannot load the filter", done.stderr)
        self.assertIn("no root of its own", done.stderr)

    def test_best_effort_without_its_root(self):
        """That is missing, and said; the rest of the wall stands."""
        done = guarded("sh", "-c", "ls /dev | wc -l; touch /proc/sys/kernel/panic /sys/kernel/x 2>&1 | wc -l",
                       options=("--root", "/no/such"), rooted=False)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("cannot change to root /no/such", done.stderr)
        devices, refused = map(int, done.stdout.split())
        self.assertEqual((devices, refused), (13, 2), done.stdout)

    def test_usage(self):
        for options in (["--layout", "open"], ["--without", "doors"], ["--pids", "0"],
                        ["--root", "relative"], ["--cgroup", "../x"], ["--no-such"], ["--memory", "1x"],
                        ["--print-profile=xml"]):
            done = subprocess.run([GUARD, *options, "--", "true"], capture_output=True, text=True, check=False)
            self.assertEqual((done.returncode, done.stdout), (2, ""), options)
            self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        done = subprocess.run([GUARD], capture_output=True, text=True, check=False)
        self.assertEqual(done.returncode, 2)


def forbid_namespaces():
    """As a kernel without them: a user namespace whose limit is none. (Its root is root of nothing else.)"""
    CLONE_NEWUSER = 0x10000000
    if libc.unshare(CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "no user namespace of its own here")
    for path, text in (("/proc/self/uid_map", "0 0 1"), ("/proc/self/setgroups", "deny"),
                       ("/proc/self/gid_map", "0 0 1"), ("/proc/sys/user/max_pid_namespaces", "0"),
                       ("/proc/sys/user/max_ipc_namespaces", "0")):
        pathlib.Path(path).write_text(text)


def forbid_filters():
    """Whoever runs now loads no filter any more, as under a runtime that has one of its own."""
    SECCOMP, PRCTL, PR_SET_SECCOMP, ERRNO, ALLOW = 317, 157, 22, 0x00050001, 0x7FFF0000
    load, equal, answer = 0x20, 0x15, 0x06
    program = b"".join(struct.pack("HBBI", *line) for line in (
        (load, 0, 0, 0), (equal, 4, 0, SECCOMP), (equal, 0, 2, PRCTL), (load, 0, 0, 16),
        (equal, 1, 0, PR_SET_SECCOMP), (answer, 0, 0, ALLOW), (answer, 0, 0, ERRNO)))
    kept = ctypes.create_string_buffer(program)
    head = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(kept))
    if libc.prctl(PR_SET_SECCOMP, 2, head) != 0:
        raise OSError(ctypes.get_errno(), "cannot forbid filters")


class Profile(Case):
    """Three ways to print one profile."""

    def printed(self, how, *options):
        done = subprocess.run([GUARD, *options, f"--print-profile={how}"], capture_output=True, text=True,
                              check=True)
        return done.stdout

    def test_all_say_the_same(self):
        for options in ((), ("--profile", "compat"), ("--layout", "shared", "--protect-pid", "77")):
            text = self.printed("text", *options)
            said = json.loads(self.printed("json", *options))
            oci = json.loads(self.printed("oci", *options))
            refused_text = [line.split()[0] for line in text.split("system calls refused:\n")[1].splitlines()]
            if "any" in refused_text:
                refused_text.remove("any")
            self.assertEqual(said["unknown_calls"] == "ENOSYS", "any unknown one" in text)
            self.assertEqual(said["syscalls"], oci["syscalls"])
            self.assertEqual(oci["defaultAction"], "SCMP_ACT_ALLOW")
            self.assertEqual(list(dict.fromkeys(call["names"][0] for call in oci["syscalls"])),
                             list(dict.fromkeys(refused_text)))
            kept = re.search("capabilities kept: (.*)", text)[1].split()
            self.assertEqual(said["capabilities"], kept)
            self.assertNotIn("CAP_SYS_ADMIN", kept)
            self.check_comparisons(text, oci)

    def check_comparisons(self, text, oci):
        in_text = re.findall(r"\(argument (\d) & (0x[0-9a-f]+)\) == (0x[0-9a-f]+)", text)
        in_oci = [call["args"][0] for call in oci["syscalls"] if "args" in call]
        self.assertGreater(len(in_text), 5)
        self.assertEqual([(int(at), int(mask, 16), int(value, 16)) for at, mask, value in in_text],
                         [(one["index"], one["value"], one["valueTwo"]) for one in in_oci])
        self.assertEqual({one["op"] for one in in_oci}, {"SCMP_CMP_MASKED_EQ"})


if __name__ == "__main__":
    PLACE = make_root()
    try:
        ended = unittest.main(verbosity=2, exit=False).result
    finally:
        remove_group()
        libc.umount2(str(PLACE / "root").encode(), 2)
        libc.umount2(str(PLACE).encode(), 2)
        os.rmdir(PLACE)
    sys.exit(0 if ended.wasSuccessful() and ended.testsRun > 0 else 1)
