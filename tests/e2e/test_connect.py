#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Attempted connections of this machine arrive at a real receiver, and the generator's own count is
what events, rows and folds add up to.

Everything happens in a cgroup namespace and a network of the test's own, so that nobody else's
attempts are counted and nothing leaves the loopback.
"""

import atexit
import contextlib
import ctypes
import errno
import fcntl
import json
import os
import socket
import struct
import subprocess
import tempfile

import lib

ATTEMPTED = "net.connect_attempted"
ATTEMPTS = 20500
CHILDREN = 2
# Fewer than the kernel's ring and the agent's lane hold.
PORTION = ATTEMPTS // 5
LOOPBACK = "127.0.0.1"


class Corner:
    """The process moves into a cgroup that it then takes for the root, and onto an empty network."""

    NEWNS, NEWCGROUP, NEWNET = 0x00020000, 0x02000000, 0x40000000
    REC, PRIVATE, DETACH = 0x4000, 1 << 18, 2
    PREFIX = "cellos-e2e-"

    def __init__(self):
        self.libc = ctypes.CDLL(None, use_errno=True)
        self.top = tempfile.mkdtemp(prefix="cellos-e2e-cgroup-")
        self.call("unshare", self.NEWNS)
        self.call("mount", None, b"/", None, self.REC | self.PRIVATE, None)
        self.call("mount", b"none", self.top.encode(), b"cgroup2", 0, None)
        self.sweep()
        self.cgroup = os.path.join(self.top, f"{self.PREFIX}{os.getpid()}")
        os.mkdir(self.cgroup)
        self.join(self.cgroup)
        atexit.register(self.leave, os.getpid())
        self.call("unshare", self.NEWCGROUP | self.NEWNET)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as up:
            # SIOCSIFFLAGS, IFF_UP
            fcntl.ioctl(up, 0x8914, struct.pack("16sH14x", b"lo", 1))

    def call(self, name, *arguments):
        if getattr(self.libc, name)(*arguments) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{name}: {os.strerror(number)}")

    @staticmethod
    def join(cgroup):
        with open(os.path.join(cgroup, "cgroup.procs"), "w") as procs:
            procs.write("0")

    def sweep(self):
        """What a run that was killed has left."""
        for name in os.listdir(self.top):
            pid = name.removeprefix(self.PREFIX)
            if pid != name and pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
                with contextlib.suppress(OSError):  # somebody in it, or swept by another
                    os.rmdir(os.path.join(self.top, name))

    def leave(self, owner):
        if os.getpid() != owner:
            return
        self.join(self.top)

        def gone():
            try:
                os.rmdir(self.cgroup)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                return False
            return True

        lib.wait_until(gone, "the cgroup is empty")
        self.call("umount2", self.top.encode(), self.DETACH)
        os.rmdir(self.top)


class Generator:
    """Children that attempt, each so many times, a fifth of them in each of five ways."""

    def __init__(self, closed, sink):
        self.closed, self.sink = closed, sink
        self.children = []

    def attempt(self, number, connected, unconnected):
        way = number % 5
        if way == 2:
            connected.connect((LOOPBACK, self.sink))
        elif way == 4:
            unconnected.sendto(b"x", (LOOPBACK, self.sink))
        elif way == 3:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as fresh:
                fresh.sendto(b"x", (LOOPBACK, self.sink))
        else:
            family, host = ((socket.AF_INET, LOOPBACK), (socket.AF_INET6, "::1"))[way]
            with socket.socket(family, socket.SOCK_STREAM) as fresh:
                assert fresh.connect_ex((host, self.closed)) == errno.ECONNREFUSED

    def be_a_child(self, attempts):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as connected, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unconnected:
            for number in range(attempts):
                self.attempt(number, connected, unconnected)

    def start(self, attempts):
        self.children.clear()
        for _ in range(CHILDREN):
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    self.be_a_child(attempts // CHILDREN)
                    code = 0
                finally:
                    os._exit(code)
            self.children.append(pid)

    def finish(self):
        for pid in self.children:
            _, status = os.waitpid(pid, 0)
            assert status == 0, f"a child ended with {status}"


class Connect(lib.Case):
    def setUp(self):
        super().setUp()
        self.closed_socket = self.bound(socket.SOCK_STREAM)
        self.sink_socket = self.bound(socket.SOCK_DGRAM)
        self.closed = self.closed_socket.getsockname()[1]
        self.sink = self.sink_socket.getsockname()[1]

    def bound(self, kind):
        """Nobody listens; on both families."""
        held = socket.socket(socket.AF_INET6, kind)
        held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        held.bind(("::", 0))
        self.addCleanup(held.close)
        return held

    def end(self, agent, receiver):
        """Orderly end of both; (stats, dropped rows as the host has them)."""
        stats = agent.stop()
        receiver.wait_report("goodbye")
        summary = receiver.stop()
        self.assertEqual(summary["bad"], {})
        self.assertEqual(summary["lost_in_flight"], 0)
        return stats, summary["dropped"]

    def flood(self, attempts=ATTEMPTS):
        """Made, all of them; by whom."""
        generator = Generator(self.closed, self.sink)
        generator.start(attempts)
        generator.finish()
        return set(generator.children)

    def account(self, agent, receiver, attempts, children):
        """What the host has of all attempts: (events, rows)."""
        _, dropped = self.end(agent, receiver)
        events = receiver.events(ATTEMPTED)
        self.assertLessEqual({e["guest_pid"] for e in events}, children)
        self.assertEqual({e["guest_comm"] for e in events}, {"python3"})
        self.assertLessEqual(set(dropped), {"nk", "ns", "nq"})
        self.assertEqual(len(events) + sum(dropped.values()), attempts, dropped)
        return events, dropped

    def test_all_attempts_are_accounted_for_three_times(self):
        for run in range(3):
            with self.subTest(run=run):
                receiver = self.receiver()
                agent = self.agent("--probes", "connect", "--queue-depth", "32768")
                children = self.flood()
                _, dropped = self.account(agent, receiver, ATTEMPTS, children)
                self.assertGreater(dropped["ns"], 0)

    def test_nothing_is_missed_that_has_room(self):
        """In portions that wait for each other, whoever is late."""
        receiver = self.receiver()
        agent = self.agent("--probes", "connect")
        children, made = set(), 0
        while made < ATTEMPTS:
            children |= self.flood(PORTION)
            made += PORTION

            def told():
                lane = agent.stats_now()["lanes"]["net"]
                return lane["sent"] + lane["k"] + lane["s"] + lane["q"] == made

            lib.wait_until(told, f"{made} attempts told of")
        events, dropped = self.account(agent, receiver, made, children)
        self.assertEqual({e["guest_pid"] for e in events}, children)
        # A fifth are datagrams by a socket of each child's, of which all but the first are folded.
        self.assertEqual(dropped, {"ns": made // 5 - len(children)})

    def test_a_reader_too_slow_counts_what_it_missed(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "connect", "--queue-depth", "32768")
        agent.pause()
        children = self.flood()
        agent.resume()
        _, dropped = self.account(agent, receiver, ATTEMPTS, children)
        self.assertGreater(dropped["nk"], 0)

    def test_a_host_that_does_not_read(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "connect", "--queue-depth", "64")
        receiver.wait_report("heartbeat")
        receiver.pause()
        children, made = set(), 0
        while agent.stats_now()["lanes"]["net"]["q"] == 0:
            children |= self.flood()
            made += ATTEMPTS
        receiver.resume()
        _, dropped = self.account(agent, receiver, made, children)
        self.assertGreater(dropped["nq"], 0)

    def test_each_outcome_once(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "connect")
        listener = self.bound(socket.SOCK_STREAM)
        listener.listen()
        port = listener.getsockname()[1]
        expected = {}
        for name, target, result in (
                ("accepted", (LOOPBACK, port), 0),
                ("refused", (LOOPBACK, self.closed), errno.ECONNREFUSED),
                ("unreachable", ("192.0.2.1", 80), errno.ENETUNREACH),
                ("accepted6", ("::1", port), 0),
                ("unreachable6", ("2001:db8::1", 80), errno.ENETUNREACH)):
            pid = os.fork()
            if pid == 0:
                family = socket.AF_INET6 if ":" in target[0] else socket.AF_INET
                with open("/proc/self/comm", "w") as comm:
                    comm.write(name)
                with socket.socket(family, socket.SOCK_STREAM) as one:
                    os._exit(0 if one.connect_ex(target) == result else 1)
            self.assertEqual(os.waitpid(pid, 0)[1], 0, name)
            expected[pid] = name
        for pid, name in expected.items():
            receiver.wait_event(ATTEMPTED, guest_pid=pid, guest_comm=name)
        _, dropped = self.end(agent, receiver)
        self.assertEqual(len(receiver.events()), len(expected))
        self.assertEqual(dropped, {})

    def report(self, *options):
        done = subprocess.run(
            [lib.AGENT, "--probe-report", "--probes", "connect", "--channel", self.channel,
             *options], capture_output=True, check=True, timeout=lib.PATIENCE)
        return json.loads(done.stdout)

    def test_the_report_tells_what_there_is(self):
        report = self.report("--connect", "bpf")
        self.assertEqual((report["surface"], report["exactness"], report["armed"]),
                         ("bpf", "exact", True))
        self.assertGreater(report["kernel_bytes"], 256 * 1024)
        report = self.report("--connect", "none")
        self.assertEqual((report["surface"], report["exactness"], report["armed"]),
                         ("none", "none", False))
        self.assertEqual(report["why"], "--connect none")

    def test_none_sees_nothing(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "connect", "--connect", "none")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as unseen:
            unseen.connect((LOOPBACK, self.sink))
        _, dropped = self.end(agent, receiver)
        self.assertEqual(receiver.events(), [])
        self.assertEqual(dropped, {})


if __name__ == "__main__":
    if os.geteuid() != 0:
        lib.skip("attaching to a cgroup needs root")
    built = subprocess.run([lib.AGENT, "--probe-report", "--probes", "connect", "--channel",
                            "unix:nowhere"], capture_output=True, check=True, timeout=60)
    if "built without clang" in json.loads(built.stdout)["why"]:
        lib.skip(json.loads(built.stdout)["why"])
    Corner()
    lib.main()
