#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Denied capabilities from the kernel to the receiver, counted against the workload's own list.

The quiet bar: one real denial a second from an unprivileged user, in the midst of what such a user does
all day. All of those arrive, nothing else of his does. By hand: test_capability.py --seconds 60, and
--alone where nobody else works on the machine: then nothing at all may come beside.
"""

import argparse
import json
import os
import subprocess
import sys

import lib

REFUSED = os.environ.get("CELLOS_REFUSED", "")
DENIED = "capability.denied"
SECONDS = 10
ALONE = False

# Everything here runs under names of its own, so that it can be told from the rest of the machine.
DAY = """
while :; do
    q-ls / >/dev/null; q-ls -l /proc/1 >/dev/null 2>&1; q-cat /proc/self/maps /proc/1/stat >/dev/null
    q-python -c 'import json, os; bytearray(1 << 22); os.listxattr("/tmp")'; q-id >/dev/null
    q-sleep 0.05
done
"""


def armed(options=()):
    """What the probe says of this kernel."""
    done = subprocess.run([lib.AGENT, "--channel", "unix:/nowhere", "--probes", "capability",
                           "--probe-report", *options], capture_output=True, text=True, check=False)
    return json.loads(done.stdout.splitlines()[0])


class Capability(lib.Case):
    def setUp(self):
        super().setUp()
        self.assertTrue(REFUSED, "CELLOS_REFUSED must name the workload")
        report = armed()
        if not report["armed"]:
            lib.skip(report["why"])
        self.assertEqual((report["surface"], report["exactness"]), ("trace", "exact"), report)

    def refused(self, *words):
        """The workload's own account."""
        done = subprocess.run([REFUSED, *words], capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def day(self):
        """An unprivileged user at work, until the test's end."""
        programs = os.path.join(self.folder.name, "programs")
        os.mkdir(programs)
        os.chmod(self.folder.name, 0o755)
        for name, path in (("sh", "/bin/sh"), ("ls", "/bin/ls"), ("cat", "/bin/cat"), ("id", "/usr/bin/id"),
                           ("python", os.path.realpath("/usr/bin/python3")), ("sleep", "/bin/sleep")):
            os.symlink(path, os.path.join(programs, f"q-{name}"))
        user = subprocess.Popen(
            [os.path.join(programs, "q-sh"), "-c", DAY], cwd="/", user=65534, group=65534, extra_groups=[],
            env={"PATH": programs, "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"}, start_new_session=True)
        self.addCleanup(user.wait)
        self.addCleanup(os.killpg, user.pid, 9)
        return user

    def test_every_kind_of_refusal(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "capability")
        pids = self.refused("each")["each"]
        for pid in pids:
            receiver.wait_event(DENIED, guest_pid=pid)
        agent.stop()
        receiver.wait_report("goodbye")
        got = [event["guest_pid"] for event in receiver.events(DENIED) if event["guest_pid"] in pids]
        self.assertEqual(got, pids)

    def test_an_account_of_a_storm(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "capability")
        storm = self.refused("storm", "5000")
        stats = agent.stop()["lanes"]["cap"]
        receiver.wait_report("goodbye")
        self.assertEqual(stats["k"], 0)
        # What others were denied meanwhile is in the sum as well.
        self.assertGreaterEqual(stats["produced"] + stats["s"], 5000)
        mine = [event for event in receiver.events(DENIED) if event["guest_pid"] == storm["pid"]]
        self.assertGreaterEqual(len(mine), 1)
        self.assertLessEqual(len(mine), storm["took_us"] // 1000000 + 2)

    def test_quiet(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "capability")
        user = self.day()
        steady = self.refused("steady", str(SECONDS))
        self.assertIsNone(user.poll(), "the user's day ended early")
        stats = agent.stop()
        receiver.wait_report("goodbye")
        events = receiver.events(DENIED)
        mine = [e for e in events if e["guest_pid"] == steady["pid"]]
        his = [e for e in events if e["guest_comm"].startswith("q-")]
        others = len(events) - len(mine) - len(his)
        asides = stats["probes"]["capability"]["asides"]
        print(f"quiet: {SECONDS} s: {len(mine)} of {SECONDS} denials arrived, {len(his)} events of the user's "
              f"day, {others} of others on this machine; {asides} questions of the kernel's own told apart; "
              f"k {stats['lanes']['cap']['k']}, s {stats['lanes']['cap']['s']}", flush=True)
        self.assertEqual(len(mine), SECONDS)
        self.assertEqual(his, [])
        self.assertGreater(asides, 100 * SECONDS)
        self.assertEqual(stats["lanes"]["cap"]["k"], 0)
        if ALONE:
            self.assertEqual(others, 0)

    def test_none(self):
        report = armed(["--capability", "none"])
        self.assertEqual((report["armed"], report["surface"], report["why"]),
                         (False, "none", "--capability none"))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, default=SECONDS)
    parser.add_argument("--alone", action="store_true")
    known, rest = parser.parse_known_args()
    SECONDS, ALONE = known.seconds, known.alone
    sys.argv[1:] = rest
    lib.main()
