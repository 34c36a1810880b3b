#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Every process arrives at a real receiver, compared by pid and time with the list of who started them; by
the kernel's messages, and by walks where those are not to be had."""

import json
import os
import socket
import struct
import subprocess
import time

import lib

SPAWNED, EXITED = "process.spawned", "process.exited"
NETLINK_CONNECTOR = 11
# The kernel lets go of a process before it says so, and may be kept from it for a while.
LATE_NS = 5_000_000_000
# Its sockets hold what so many processes make of messages, and as much of others'.
PORTION = 400
# Well within the time that the agent holds a spawn back for its name.
QUICK_NS = 10_000_000


def report(*words, prefix=()):
    done = subprocess.run([*prefix, lib.AGENT, "--probe-report", "--probes", "process", *words],
                          capture_output=True, timeout=lib.PATIENCE, check=True)
    return json.loads(done.stdout)


def run_true(count):
    """(pid, before, after) of so many short processes, one after the other."""
    lives = []
    for _ in range(count):
        before = time.monotonic_ns()
        pid = os.posix_spawn("/bin/true", ["true"], {})
        os.waitpid(pid, 0)
        lives.append((pid, before, time.monotonic_ns()))
    return lives


class ProcessSurface(lib.Case):
    def start(self, *options):
        receiver = self.receiver()
        return receiver, self.agent("--probes", "process", *options)

    def events_of(self, receiver, lives):
        """Per life, the sources and names of its events in the order of arrival."""
        by_pid = {}
        for at, (pid, before, after) in enumerate(lives):
            by_pid.setdefault(pid, []).append((before, after, at))
        seen = [[] for _ in lives]
        for event in receiver.events():
            for before, after, at in by_pid.get(event["guest_pid"], ()):
                if before <= event["guest_monotonic_ns"] <= after + LATE_NS:
                    seen[at].append(event)
        return seen

    def settle(self, receiver):
        """What happened before this has arrived."""
        pid, before, _ = run_true(1)[0]
        receiver.out.wait_for(  # of this life: others may have had the number before
            lambda line: line.get("probe_source") == EXITED and line["guest_pid"] == pid
            and line["guest_monotonic_ns"] >= before, f"the exit of {pid}")

    def stop(self, receiver, agent):
        stats = agent.stop()
        receiver.wait_report("goodbye")
        summary = receiver.stop()
        self.assertEqual(summary["bad"], {})
        return stats, summary

    def run_told(self, receiver, count):
        """As run_true, in portions: no reader that is late can lose any."""
        lives = []
        while len(lives) < count:
            lives += run_true(min(PORTION, count - len(lives)))
            self.settle(receiver)
        return lives

    def check_all(self, receiver, lives):
        """Each told whole, in order, and under its name; how many were born under it."""
        with open("/proc/self/comm", encoding="utf-8") as comm:
            own = comm.read().rstrip("\n")
        named, quick, quick_named, told = 0, 0, 0, []

        def ends_are_told():
            told[:] = self.events_of(receiver, lives)
            return all(EXITED in (e["probe_source"] for e in events) for events in told)

        # The kernel may have been kept from saying one, and not from saying that of a later one.
        lib.wait_until(ends_are_told, "the exit of each")
        for life, events in zip(lives, told):
            self.assertEqual([e["probe_source"] for e in events], [SPAWNED, EXITED], life)
            self.assertLessEqual(events[0]["guest_monotonic_ns"], events[1]["guest_monotonic_ns"])
            self.assertEqual(events[1]["guest_comm"], "true")
            # A child that a busy machine keeps from its exec for longer than its name is waited for
            # goes out with its parent's, or with none behind the exec.
            self.assertIn(events[0]["guest_comm"], ("true", own, ""))
            named += events[0]["guest_comm"] == "true"
            if life[2] - life[1] < QUICK_NS:
                quick += 1
                quick_named += events[0]["guest_comm"] == "true"
        # So may one whose messages the agent was kept from reading, but not most of them.
        self.assertGreaterEqual(quick_named, quick / 2)
        return named

    def test_every_short_process(self):
        for how in ("auto", "connector"):
            with self.subTest(how=how):
                receiver, agent = self.start("--process", how)
                self.check_all(receiver, self.run_told(receiver, 2000))
                stats, summary = self.stop(receiver, agent)
                self.assertEqual(stats["lanes"]["proc"]["k"], 0)
                self.assertEqual(stats["probes"]["process"]["malformed"], 0)
                self.assertEqual(summary["dropped"], {})

    def test_ten_thousand(self):
        """At top speed, against the list of who started them; and not an event more than was sent."""
        receiver, agent = self.start()
        lives = self.run_told(receiver, 10000)
        named = self.check_all(receiver, lives)
        print(f"{named} of {len(lives)} born under the right name")
        stats, summary = self.stop(receiver, agent)
        self.assertEqual(stats["sent"], len(receiver.events()))
        self.assertEqual(stats["lanes"]["proc"]["k"], 0)
        self.assertEqual(summary["dropped"], {})

    def test_parents_before_children(self):
        receiver, agent = self.start()
        families = []
        for _ in range(50):
            with subprocess.Popen(["sh", "-c", "sh -c 'echo $$; true & wait' & wait"],
                                  stdout=subprocess.PIPE) as shell:
                families.append((shell.pid, int(shell.stdout.read())))
        self.settle(receiver)
        order = [e["guest_pid"] for e in receiver.events(SPAWNED)]
        for parent, child in families:
            self.assertLess(order.index(parent), order.index(child))
        self.stop(receiver, agent)

    def sleeper(self):
        child = subprocess.Popen(["sleep", "600"])
        self.addCleanup(child.wait)
        self.addCleanup(child.kill)
        return child

    def test_walks(self):
        old = self.sleeper()
        receiver, agent = self.start("--process", "walker", "--process-interval", "10")
        fresh = [self.sleeper() for _ in range(50)]
        for child in fresh:
            receiver.wait_event(SPAWNED, guest_pid=child.pid)
        for child in [old, *fresh]:
            child.kill()
            child.wait()
            receiver.wait_event(EXITED, guest_pid=child.pid, guest_comm="sleep")
        spawned = [e["guest_pid"] for e in receiver.events(SPAWNED)]
        exited = [e["guest_pid"] for e in receiver.events(EXITED)]
        self.assertNotIn(old.pid, spawned)
        for child in fresh:
            self.assertEqual((spawned.count(child.pid), exited.count(child.pid)), (1, 1))
        stats, summary = self.stop(receiver, agent)
        self.assertEqual(stats["sent"], len(receiver.events()))
        self.assertEqual(summary["dropped"], {})

    def kernel_drops(self, agent):
        """What the kernel says it dropped for the agent's netlink sockets."""
        folder = f"/proc/{agent.pid}/fd"
        inodes = {os.readlink(f"{folder}/{fd}") for fd in os.listdir(folder)}
        drops = 0
        with open("/proc/net/netlink", encoding="ascii") as table:
            next(table)
            for line in table:
                fields = line.split()
                if f"socket:[{fields[9]}]" in inodes:
                    drops += int(fields[8])
        return drops

    def test_a_stalled_agent(self):
        """Counted to the last record, and put right: who is there and who is not."""
        staying = [self.sleeper() for _ in range(5)]
        receiver, agent = self.start("--process", "connector")
        agent.pause()
        lives = run_true(3500)  # the sockets hold some 2500 messages
        for child in staying:
            child.kill()
            child.wait()
        fresh = [self.sleeper() for _ in range(5)]
        self.assertGreater(self.kernel_drops(agent), 1000)
        agent.resume()
        for child in staying:
            receiver.wait_event(EXITED, guest_pid=child.pid)
        for child in fresh:
            receiver.wait_event(SPAWNED, guest_pid=child.pid, guest_comm="sleep")
            child.kill()
            child.wait()
            receiver.wait_event(EXITED, guest_pid=child.pid, guest_comm="sleep")
        self.settle(receiver)
        lib.wait_until(lambda: agent.stats_now()["lanes"]["proc"]["k"] == self.kernel_drops(agent),
                       "all that the kernel dropped is counted")
        dropped = self.kernel_drops(agent)
        for source, children in ((SPAWNED, fresh), (EXITED, fresh + staying)):
            pids = [e["guest_pid"] for e in receiver.events(source)]
            for child in children:
                self.assertEqual(pids.count(child.pid), 1)
        told = 0
        for events in self.events_of(receiver, lives):
            self.assertIn([e["probe_source"] for e in events],
                          ([], [SPAWNED], [SPAWNED, EXITED]))
            told += len(events)
        self.assertGreaterEqual(told + dropped, 2 * len(lives))
        stats, summary = self.stop(receiver, agent)
        self.assertEqual(stats["lanes"]["proc"]["k"], dropped)
        self.assertEqual(summary["dropped"], {"pk": dropped})

    def test_forgeries(self):
        victim = self.sleeper()
        receiver, agent = self.start("--process", "connector")
        exit_of = struct.pack("=IIQ6I", 0x80000000, 0, 1, *[victim.pid] * 6)
        message = struct.pack("=IHHIIIIIIHH", 36 + len(exit_of), 3, 0, 0, 0, 1, 1, 0, 0,
                              len(exit_of), 0) + exit_of
        with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, NETLINK_CONNECTOR) as forger:
            for _ in range(10):
                forger.sendto(message, (0, 1))
        lib.wait_until(lambda: agent.stats_now()["probes"]["process"]["forged"] == 10,
                       "the forgeries counted")
        self.settle(receiver)
        self.assertNotIn(victim.pid, [e["guest_pid"] for e in receiver.events(EXITED)])
        self.stop(receiver, agent)

    def test_what_the_report_says(self):
        best = report()
        self.assertEqual((best["surface"], best["exactness"], best["armed"], best["why"]),
                         ("connector", "exact", True, ""))
        self.assertEqual(best["kernel_bytes"], 4 * 1024 * 1024)
        floor = report("--process", "walker")
        self.assertEqual((floor["surface"], floor["exactness"], floor["armed"], floor["why"]),
                         ("procfs", "sampled", True, ""))
        self.assertEqual(floor["kernel_bytes"], 0)

    def test_another_pid_namespace(self):
        inside = ("unshare", "--pid", "--fork", "--mount-proc")
        floor = report(prefix=inside)
        self.assertEqual((floor["surface"], floor["armed"]), ("procfs", True))
        self.assertIn("not in the initial PID namespace", floor["why"])
        self.assertIn("/proc is walked instead", floor["why"])
        # One line says so, unasked.
        agent = subprocess.Popen([*inside, lib.AGENT, "--channel", "fd:1", "--probes", "process",
                                  "--heartbeat-interval", "100"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(agent.wait)
        self.addCleanup(agent.stderr.close)
        agent.stdout.read(4)
        agent.stdout.close()
        said = [line for line in agent.stderr.read().decode().splitlines() if "probe process" in line]
        self.assertEqual(said, ["cellos-telemetry: cannot take the best surface for probe process, but procfs: "
                                + floor["why"]])
        none = report("--process", "connector", prefix=inside)
        self.assertEqual((none["surface"], none["armed"]), ("none", False))


if __name__ == "__main__":
    if os.geteuid() != 0:
        lib.skip("the process connector needs root")
    if report()["surface"] != "connector":
        lib.skip("the process connector is not to be had here")
    lib.main()
