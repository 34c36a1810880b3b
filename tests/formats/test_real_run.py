#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Real agents, the real receiver in each format, and trouble: every line that comes out is valid.

The trouble makes reports: rubbish, a report that is none, a second connection, a killed agent, another agent,
silence. The page of such a run is made as well, from each format.
"""

import ctypes
import os
import pathlib
import socket
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "e2e"))

import cbor2

import formats
import lib

HASH = "sha256:5f1c0e+/="
OUTPUT = '{ "bundle" : "b-1", "checks": [1, 2.50, null], "text": "\\u00e4 \\" <b>" }\n'
NAMES = [b'a"b\\c', b"new\nline", b"\xff\xfe\xe2\x82", b"\xf0\x9f\x98\x80" * 3, b"</script>"]


def frame(**fields):
    """A frame by cbor2, not by our encoder."""
    body = {"content_version": 256, "probe_source": "process.spawned", "guest_pid": 7,
            "guest_comm": "x", "guest_monotonic_ns": 1, **fields}
    packed = cbor2.dumps(body)
    return len(packed).to_bytes(4, "little") + packed


class RealRun(lib.Case):
    def start(self, form):
        """The receiver, and a function that tells the lines that it wrote so far."""
        adg = os.path.join(self.folder.name, "adg.json")
        with open(adg, "w", encoding="utf-8") as file:
            file.write(OUTPUT)
        path = os.path.join(self.folder.name, "out.ndjson")
        receiver = self.receiver(
            "--format", form, "--output", path, "--cell-id", "cell-7", "--run-id", "R_2",
            "--spec-signature-hash", HASH, "--adg", adg, "--silence-window", "1")

        def lines():
            with open(path, encoding="utf-8", newline="\n") as file:
                text = file.read()
            return [formats.parse(line) for line in text[:text.rfind("\n") + 1].split("\n")[:-1]]

        def wait_for(report):
            def there():
                return any(formats.declaration(form, line).get("report") == report
                           for line in lines())
            lib.wait_until(there, f"{form}: a report {report}")
        return receiver, path, lines, wait_for

    def live(self, names, lines, form):
        """A process of each name, seen to come before it goes, and to go."""
        libc = ctypes.CDLL(None, use_errno=True)
        held_read, held_write = os.pipe()
        pids = set()
        for name in names:
            pid = os.fork()
            if pid == 0:
                os.close(held_write)
                libc.prctl(15, ctypes.c_char_p(name), 0, 0, 0)  # PR_SET_NAME
                os.read(held_read, 1)
                os._exit(0)
            pids.add(pid)

        def all_said(source):
            return pids <= {inside.get("guest_pid")
                            for inside in (formats.declaration(form, line) for line in lines())
                            if inside.get("probe_source") == source}
        lib.wait_until(lambda: all_said("process.spawned"), f"{form}: the processes {pids}")
        os.close(held_read)
        os.close(held_write)
        for pid in pids:
            os.waitpid(pid, 0)
        # An agent that is told to stop looks at nothing any more.
        lib.wait_until(lambda: all_said("process.exited"), f"{form}: the ends of {pids}")

    def trouble(self, wait_for):
        """By hand, over a connection of our own."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as first:
            first.connect(self.socket)
            first.sendall(frame(probe_source=lib.HEARTBEAT, guest_comm="1:0"))
            first.sendall(frame(probe_source="net.connect_attempted", guest_comm="curl"))
            first.sendall(frame(probe_source="capability.denied", guest_pid=2 ** 32 - 1))
            first.sendall(frame(probe_source=lib.DROPPED, guest_comm="pq:12"))
            first.sendall(frame(probe_source=lib.DROPPED, guest_comm="zz:1\""))
            first.sendall(frame(guest_pid=2 ** 32) + frame(cell_id="x") + b"\x01\0\0\0\xff")
            wait_for("agent_silenced")
            first.sendall(frame(probe_source="fs.inotify_fired"))
            wait_for("agent_recovered")
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as second:
                second.connect(self.socket)
                second.settimeout(lib.PATIENCE)
                self.assertEqual(b"", second.recv(1))
            first.sendall(frame(probe_source=lib.HEARTBEAT, guest_comm="1:12"))
            wait_for("lost_in_flight")
        wait_for("ended_without_goodbye")

    def run_of(self, form):
        receiver, path, lines, wait_for = self.start(form)
        agent = self.agent("--process-interval", "10", "--watch", self.watched)
        self.live(NAMES, lines, form)
        self.touch_many(0, 50)
        wait_for("heartbeat")
        agent.stop()
        wait_for("goodbye")
        self.trouble(wait_for)
        receiver.process.terminate()
        self.assertEqual(0, receiver.process.wait(lib.PATIENCE), receiver.process.stderr.read())
        return path, lines()

    def check(self, form):
        path, lines = self.run_of(form)
        validator, kinds, ids = formats.Validator(), set(), set()
        for line in lines:
            self.assertIsNone(validator.fault(form, line), f"{form}: {line}")
            formats.check_agreement(form, line)
            inside = formats.declaration(form, line)
            kinds.add(inside.get("report", inside.get("probe_source")))
            identity = (inside["incarnation"], inside.get("seq"), inside.get("report_seq"))
            self.assertNotIn(identity, ids)
            ids.add(identity)
            self.assertEqual(("cell-7", "R_2", HASH), (
                inside["cell_id"], inside["run_id"], inside["spec_signature_hash"]))
            self.assertEqual(formats.parse(OUTPUT), inside["output"])
        wanted = {"process.spawned", "process.exited", "fs.inotify_fired", "capability.denied",
                  "net.connect_attempted", "heartbeat", "goodbye", "dropped", "lost_in_flight",
                  "bad_frame", "bad_report", "contested", "agent_restarted", "agent_silenced",
                  "agent_recovered", "ended_without_goodbye", "ledger"}
        self.assertEqual(set(), wanted - kinds)
        self.check_sequence(form, lines)
        page = subprocess.run([lib.HOST, "report", path], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, timeout=60, check=True).stdout.decode()
        self.assertNotIn("could not be read", page)
        self.assertIn("cell-7", page)
        self.assertEqual(2, page.count("all in this file"))

    def check_sequence(self, form, lines):
        """Events of each agent are numbered from 1, without a gap, in the order of the file."""
        numbers = {}
        for line in lines:
            inside = formats.declaration(form, line)
            if "seq" in inside:
                numbers.setdefault(inside["incarnation"], []).append(inside["seq"])
        self.assertEqual([1, 2], sorted(numbers))
        for found in numbers.values():
            self.assertEqual(list(range(1, len(found) + 1)), found)

    def test_raw(self):
        self.check("raw")

    def test_cloudevents(self):
        self.check("cloudevents")

    def test_ocsf(self):
        self.check("ocsf")


if __name__ == "__main__":
    unittest.main(verbosity=2)
