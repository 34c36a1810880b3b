#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""test_rsyslog.py HOST LINES: the recipe of docs/recipes.md, run.

rsyslog gets the very text of the recipe, with the paths and the port of this test. It is this test's own
child, with its own configuration, work folder and pid file; no service of the system is touched.
"""

import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

import cbor2

HOST, LINES = "", ""
RSYSLOGD = shutil.which("rsyslogd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
RECIPES = pathlib.Path(__file__).resolve().parents[2] / "docs" / "recipes.md"
PATIENCE = 30


def frame(number):
    packed = cbor2.dumps({"content_version": 256, "probe_source": "process.spawned",
                          "guest_pid": number, "guest_comm": "\u2028\"\\\x00%m",
                          "guest_monotonic_ns": 2 ** 64 - 1})
    return len(packed).to_bytes(4, "little") + packed


class Collector:
    """What listens where the recipe forwards to."""

    def __init__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.bytes = b""
        self.changed = threading.Condition()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.read, args=(connection,), daemon=True).start()

    def read(self, connection):
        with connection:
            while more := connection.recv(65536):
                with self.changed:
                    self.bytes += more
                    self.changed.notify_all()

    def wait_for(self, size):
        deadline = time.monotonic() + PATIENCE
        with self.changed:
            while len(self.bytes) < size:
                left = deadline - time.monotonic()
                if left <= 0 or not self.changed.wait(left):
                    raise AssertionError(f"{len(self.bytes)} of {size} bytes came")


class Rsyslog(unittest.TestCase):
    def setUp(self):
        temporary = tempfile.TemporaryDirectory(prefix="cellos-rsyslog-")
        self.addCleanup(temporary.cleanup)
        self.folder = pathlib.Path(temporary.name)
        for name in ("log", "work"):
            (self.folder / name).mkdir()
        self.file = self.folder / "log" / "events.ndjson"
        self.collector = Collector()
        self.addCleanup(self.collector.listener.close)
        self.configuration = self.folder / "rsyslog.conf"
        self.configuration.write_text(self.recipe(), encoding="utf-8")

    def recipe(self):
        (found,) = re.findall(r"```rsyslog\n(.*?)```", RECIPES.read_text(encoding="utf-8"), re.S)
        for old, new in (("/var/log/cellos/", f"{self.folder}/log/"),
                         ("/var/spool/rsyslog", f"{self.folder}/work"),
                         ("siem.example.com", "127.0.0.1"), ("6514", str(self.collector.port))):
            self.assertIn(old, found)
            found = found.replace(old, new)
        return found

    def start(self):
        daemon = subprocess.Popen(
            [RSYSLOGD, "-n", "-C", "-f", self.configuration, "-i", self.folder / "pid"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(self.stop, daemon)
        return daemon

    def stop(self, daemon):
        if daemon.poll() is None:
            daemon.terminate()
        _, said = daemon.communicate(timeout=PATIENCE)
        return said.decode(errors="replace")

    def receive(self, first, count):
        """The real receiver takes some events and appends their lines to the file."""
        path = self.folder / "cell.sock"
        receiver = subprocess.Popen(
            [HOST, "--listen", f"unix:{path}", "--output", self.file, "--exit-on-close",
             "--cell-id", "cell-7", "--run-id", "r1"],
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self.addCleanup(receiver.stderr.close)
        self.addCleanup(receiver.kill)  # after its end this does nothing
        with self.connect(path, receiver) as guest:
            guest.sendall(b"".join(frame(i) for i in range(first, first + count)))
        _, said = receiver.communicate(timeout=PATIENCE)
        self.assertEqual(0, receiver.returncode, said)

    def connect(self, path, receiver):
        """There is a moment between the file and the first that may knock."""
        deadline = time.monotonic() + PATIENCE
        while True:
            guest = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                guest.connect(str(path))
                return guest
            except (FileNotFoundError, ConnectionRefusedError):
                guest.close()
            self.assertIsNone(receiver.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.005)

    def check_recipe(self):
        checked = subprocess.run([RSYSLOGD, "-N1", "-f", self.configuration],
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                 stderr=subprocess.STDOUT, timeout=PATIENCE, check=False)
        self.assertEqual(0, checked.returncode, checked.stdout)
        self.assertNotIn(b"error", checked.stdout.lower())

    def test_every_line_arrives_unchanged_and_once(self):
        self.check_recipe()
        self.receive(0, 500)
        daemon = self.start()
        self.collector.wait_for(self.file.stat().st_size)
        self.receive(500, 500)
        self.collector.wait_for(self.file.stat().st_size)
        self.stop(daemon)
        # While it is away, more comes: lines of every kind, and one as long as they get.
        made = subprocess.run([LINES, "raw"], stdout=subprocess.PIPE, timeout=60, check=True).stdout
        long = b'{"report":"long","output":{"a":"' + b"x" * 16384 + b'"}}\n'
        with open(self.file, "ab") as file:
            file.write(made + long)
        daemon = self.start()
        self.receive(1000, 500)
        self.collector.wait_for(self.file.stat().st_size)
        said = self.stop(daemon)
        written = self.file.read_bytes().split(b"\n")
        self.assertEqual(written, self.collector.bytes.split(b"\n"), said)
        self.assertGreater(len(written), 1700)
        self.check_reports(written)

    def check_reports(self, lines):
        expected = [line for line in lines if line.startswith(b'{"report"')
                    and not line.startswith(b'{"report":"heartbeat"')]
        found = (self.folder / "log" / "reports.ndjson").read_bytes().split(b"\n")[:-1]
        self.assertEqual(expected, found)
        self.assertGreater(len(found), 20)


if __name__ == "__main__":
    if RSYSLOGD is None:
        print("skipped: there is no rsyslogd")
        sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    HOST, LINES = sys.argv[1:3]
    unittest.main(argv=sys.argv[:1], verbosity=2)
