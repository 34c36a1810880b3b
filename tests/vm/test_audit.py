#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""The capability probe by audit, on a kernel of its own, because audit stays until the next boot.

CELLOS_AGENT and CELLOS_REFUSED (tests/support/refused.c) name the programs that go into the machine.
"""

import base64
import collections
import json
import os
import pathlib
import re
import sys
import unittest

import vm

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "e2e"))
import lib  # noqa: E402

# Each part ends with the agent's own account, and what it sent between two marks.
SCRIPT = r"""
part() { echo "VM-PART $1"; }
report() { cellos-telemetry --channel unix:/nowhere --probes capability --probe-report "$@"; }
start() {
    rm -f /tmp/ready /tmp/channel /tmp/out
    mkfifo /tmp/ready /tmp/channel
    cat /tmp/channel >/tmp/out & reader=$!
    cellos-telemetry --channel fd:3 --probes capability --capability audit --ready-fd 4 --stats-fd 5 \
        --queue-depth 65536 --on-probe-failure fail --drain-timeout 60000 3>/tmp/channel 4>/tmp/ready 5>/tmp/stats & agent=$!
    read nothing </tmp/ready
}
finish() {
    kill -TERM $agent
    wait $agent
    echo "agent ended with $?"
    wait $reader
    cat /tmp/stats
    echo VM-BEGIN
    base64 /tmp/out
    echo VM-END
}

part auto
report
part trace
report --capability trace
part nested
unshare -p -f -m sh -c 'mount -t proc none /proc; cellos-telemetry --channel unix:/nowhere \
    --probes capability --capability audit --probe-report'

part each
start
refused each
finish

part again
start
refused each
refused spread 300
refused storm 2000
finish

part deep
start
folder=$(printf '%0200d' 0)
path=/tmp
for level in 1 2 3 4 5 6 7 8 9 10 11 12; do path=$path/$folder; done
mkdir -p $path && cp /bin/refused $path/
$path/refused spread 1
finish

part stalled
start
kill -STOP $agent
refused storm 10000
kill -CONT $agent
finish
part console
echo "records on the console: $(dmesg | grep -c 'type=1300')"

# What audit's own thread has not handed on yet when the agent is told to end: it gets a processor last of all, and
# only a while later when its turn comes.
part late
start
kauditd=$(pidof kauditd)
renice -n 19 -p $kauditd >/dev/null
for hog in 1 2 3; do sh -c 'while :; do :; done' & hogs="$hogs $!"; done
refused storm 700
kill -TERM $agent
sleep 0.3
kill -KILL $hogs
renice -n 0 -p $kauditd >/dev/null
finish
"""

# Of those that `refused each` starts, in their order.
NAMES = ("r-mount", "r-kill", "r-bind", "r-setuid", "r-chroot", 'r "host"', "r-nice", "r-seccomp", "r-chown")


def parts(text):
    """The printed text by part."""
    pieces = re.split(r"^VM-PART (\w+)\n", text, flags=re.M)
    return dict(zip(pieces[1::2], pieces[2::2]))


class Part:
    """What one part printed: JSON lines by their first key, and the frames."""

    def __init__(self, text):
        self.text = text
        encoded = re.search(r"VM-BEGIN\n(.*?)VM-END", text, re.S)
        self.frames = lib.decode_stream(base64.b64decode(encoded[1]))[0] if encoded else []
        self.denied = [f for f in self.frames if f["probe_source"] == "capability.denied"]
        self.said = {}
        for line in text.splitlines():
            if line.startswith("{"):
                said = json.loads(line)
                self.said[next(iter(said))] = said
        self.stats = next((s for s in self.said.values() if "lanes" in s), None)

    def happened(self):
        """By the agent's account: denials that were reported, folded or lost."""
        lane = self.stats["lanes"]["cap"]
        return lane["produced"] + lane["k"] + lane["s"]


class Audit(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        programs = {"bin/cellos-telemetry": os.environ["CELLOS_AGENT"],
                    "bin/refused": os.environ["CELLOS_REFUSED"]}
        text = vm.run(SCRIPT, programs, timeout=float(os.environ.get("CELLOS_VM_TIMEOUT", "480")), processors=1)
        cls.parts = {name: Part(piece) for name, piece in parts(text).items()}

    def report(self, part):
        return self.parts[part].said["name"]

    def test_a_kernel_without_the_tracepoint_says_so(self):
        for part, failed in (("auto", False), ("trace", True)):
            report = self.report(part)
            self.assertEqual((report["armed"], report["surface"], report["exactness"]),
                             (False, "none", "none"))
            self.assertIn("tracepoint cap_capable", report["why"])

    def test_a_nested_pid_namespace_is_refused(self):
        report = self.report("nested")
        self.assertFalse(report["armed"])
        self.assertIn("initial PID namespace", report["why"])

    def check_each(self, part):
        wanted = dict(zip(part.said["each"]["each"], NAMES))
        got = {f["guest_pid"]: f["guest_comm"] for f in part.denied if f["guest_pid"] in wanted}
        self.assertEqual(got, wanted)

    def test_every_refusal_arrives_with_its_process_and_name(self):
        part = self.parts["each"]
        self.check_each(part)
        self.assertEqual(len(part.denied), 9)
        self.assertEqual(part.happened(), 9)
        # In their order, and by the agent's own clock: between its first word and its last.
        stamps = [f["guest_monotonic_ns"] for f in (part.frames[0], *part.denied, part.frames[-1])]
        self.assertEqual(stamps, sorted(stamps))

    def test_an_agent_that_comes_after_another_finds_its_audit(self):
        part = self.parts["again"]
        self.check_each(part)
        self.assertEqual(part.happened(), 9 + 1200 + 2000)
        lane = part.stats["lanes"]["cap"]
        # Nine, four of each of the three hundred, and one a second of the storm. A reader that has not got its
        # processor for a moment may miss some, which are counted; nothing else is missing.
        names = collections.Counter(f["guest_comm"] for f in part.denied)
        storm = part.said["storm"]
        self.assertEqual(lane["produced"], len(part.denied))
        self.assertEqual(set(names), {"spread", "storm"} | set(NAMES))
        self.assertLessEqual(names["storm"], storm["took_us"] / 1e6 + 2)
        self.assertEqual((1200 - names["spread"]) + (2000 - names["storm"] - lane["s"]), lane["k"])

    def test_a_program_far_down_is_not_overlooked(self):
        part = self.parts["deep"]
        self.assertEqual(part.happened(), 4)
        self.assertEqual([f["guest_comm"] for f in part.denied], 4 * ["spread"])

    def test_a_reader_that_stalls_makes_nobody_wait(self):
        part = self.parts["stalled"]
        storm = part.said["storm"]
        print(f"stalled: {storm}, {part.stats['lanes']['cap']}")
        self.assertGreater(part.stats["lanes"]["cap"]["k"], 0)
        self.assertEqual(part.happened(), 10000)
        # By the kernel's count. Not by the clock: an emulated processor may stand still for longer than audit waits.
        self.assertEqual(part.stats["probes"]["capability"]["waited"], 0)

    def test_what_audit_has_not_handed_on_at_the_end_is_told_or_counted(self):
        part = self.parts["late"]
        print(f"late: {part.said['storm']}, {part.stats['lanes']['cap']}")
        self.assertEqual(part.happened(), 700)

    def test_no_record_goes_to_the_console(self):
        self.assertIn("records on the console: 0", self.parts["console"].text)


if __name__ == "__main__":
    unittest.main(verbosity=2)
