# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Real agents, real receivers, and a host of our own that breaks where the real one would not.

Everything waits on conditions with a deadline; nothing sleeps for luck. The programs under test are named
by the environment: CELLOS_AGENT, CELLOS_HOST (set by ctest). No agent is ever started without --channel.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

AGENT = os.environ.get("CELLOS_AGENT", "")
HOST = os.environ.get("CELLOS_HOST", "")
# Under a sanitizer everything takes several times as long.
PATIENCE = float(os.environ.get("CELLOS_PATIENCE", "20"))

EVENT_KEYS = ["content_version", "probe_source", "guest_pid", "guest_comm", "guest_monotonic_ns"]
DROPPED = "cell.observability.guest.telemetry.dropped"
HEARTBEAT = "cell.observability.guest.telemetry.heartbeat"


def skip(why):
    """Ends the program at once: inside of a test unittest would take an exception for a failure."""
    print(f"skipped: {why}", flush=True)
    os._exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)


def wait_until(condition, what, patience=None):
    """Polls a condition that nothing signals; every 5 ms, until the deadline fails the test."""
    deadline = time.monotonic() + (patience or PATIENCE)
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.005)


def busy_seconds(pid):
    """Processor time of all its threads so far."""
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def share_of_a_core(pid, seconds=0.5):
    """Over some span, as long as it really was: whoever is kept from looking is not misled by it."""
    before, began = busy_seconds(pid), time.monotonic()
    while time.monotonic() - began < seconds:
        time.sleep(0.05)
    return (busy_seconds(pid) - before) / (time.monotonic() - began)


class Lines:
    """Collects the JSON lines of a pipe in a thread."""

    def __init__(self, stream):
        self.lines = []
        self.changed = threading.Condition()
        self.ended = False
        self.thread = threading.Thread(target=self._read, args=(stream,), daemon=True)
        self.thread.start()

    def _read(self, stream):
        with stream:
            for raw in stream:
                parsed = json.loads(raw)
                with self.changed:
                    self.lines.append(parsed)
                    self.changed.notify_all()
        with self.changed:
            self.ended = True
            self.changed.notify_all()

    def wait_for(self, predicate, what, patience=None):
        """The first line that satisfies the predicate."""
        at = 0
        deadline = time.monotonic() + (patience or PATIENCE)
        with self.changed:
            while True:
                while at < len(self.lines):
                    if predicate(self.lines[at]):
                        return self.lines[at]
                    at += 1
                if self.ended or not self.changed.wait(max(0, deadline - time.monotonic())):
                    if at >= len(self.lines):
                        raise AssertionError(f"no such line: {what}; last: {self.lines[-5:]}")

    def snapshot(self):
        with self.changed:
            return list(self.lines)


class Receiver:
    """The real receiver on a Unix socket, its output collected."""

    def __init__(self, path, *extra, exit_on_close=False):
        command = [HOST, "--listen", f"unix:{path}", *extra]
        if exit_on_close:
            command.append("--exit-on-close")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.out = Lines(self.process.stdout)
        wait_until(lambda: os.path.exists(path), "the receiver's socket")

    def events(self, source=None):
        return [l for l in self.out.snapshot()
                if "probe_source" in l and source in (None, l["probe_source"])]

    def reports(self, kind):
        return [l for l in self.out.snapshot() if l.get("report") == kind]

    def wait_event(self, source, patience=None, **fields):
        def matches(line):
            return line.get("probe_source") == source and all(
                line[k] == v for k, v in fields.items())
        return self.out.wait_for(matches, f"{source} {fields}", patience)

    def wait_report(self, kind, predicate=lambda line: True, patience=None):
        return self.out.wait_for(
            lambda l: l.get("report") == kind and predicate(l), f"report {kind}", patience)

    def pause(self):
        self.process.send_signal(signal.SIGSTOP)

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def stop(self):
        """Orderly end; the cell's ledger, which must be the last line and add up."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self.out.thread.join(PATIENCE)
        lines = self.out.snapshot()
        error = self.process.stderr.read().decode()
        assert code == 0, f"receiver exited {code}: {error}"
        assert lines and lines[-1].get("report") == "ledger", f"no ledger: {lines[-3:]}"
        assert lines[-1]["unsettled"] == 0, f"the ledger does not add up: {lines[-1]}"
        return lines[-1]

    def kill(self):
        self.process.kill()
        self.process.wait(PATIENCE)
        self.out.thread.join(PATIENCE)

    def close(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(PATIENCE)
        self.out.thread.join(PATIENCE)
        self.process.stderr.close()


class Agent:
    """The real agent, ready when the constructor returns."""

    def __init__(self, channel, *extra, pass_fds=(), wait_ready=True):
        ready_read, ready_write = os.pipe()
        stats_read, stats_write = os.pipe()
        # A stop waits for as long as a busy machine may keep the host from reading; `extra` has the last word.
        command = [AGENT, "--channel", channel, "--ready-fd", str(ready_write), "--stats-fd",
                   str(stats_write), "--drain-timeout", str(int(PATIENCE * 500)), *extra]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            pass_fds=(ready_write, stats_write, *pass_fds))
        os.close(ready_write)
        os.close(stats_write)
        self.ready = ready_read
        self.stats = Lines(os.fdopen(stats_read, "rb"))
        self.pid = self.process.pid
        if wait_ready:
            word = os.read(ready_read, 2)
            assert word == b"\n", f"not ready: {word!r} {self.process.stderr.read()}"

    def stats_now(self):
        seen = len(self.stats.snapshot())
        self.process.send_signal(signal.SIGUSR1)
        wait_until(lambda: len(self.stats.snapshot()) > seen, "a stats line")
        return self.stats.snapshot()[-1]

    def pause(self):
        """Stopped, and none of its threads on its way still."""
        self.process.send_signal(signal.SIGSTOP)
        wait_until(lambda: {state for _, state in self.threads()} == {"T"}, "all threads stopped")

    def resume(self):
        self.process.send_signal(signal.SIGCONT)

    def threads(self):
        """(name, state) of each."""
        found = []
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with open(f"/proc/{self.pid}/task/{thread}/stat", encoding="ascii", errors="replace") as stat:
                name, _, rest = stat.read().partition("(")[2].rpartition(")")
            found.append((name, rest.split()[0]))
        return found

    def stop(self, expect=0):
        """Orderly end; the last stats line, whose identities are checked here, always."""
        self.process.send_signal(signal.SIGTERM)
        return self.finish(expect)

    def finish(self, expect=0):
        code = self.process.wait(PATIENCE)
        self.stats.thread.join(PATIENCE)
        assert code == expect, f"agent exited {code}: {self.process.stderr.read()}"
        stats = self.stats.snapshot()[-1]
        check_lanes(stats)
        for lane in stats["lanes"].values():
            assert lane["queued"] == 0, f"something is left at the end: {stats}"
        return stats

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(PATIENCE)
        self.stats.thread.join(PATIENCE)
        os.close(self.ready)
        self.process.stdout.close()
        self.process.stderr.close()


def check_lanes(stats):
    total = 0
    for name, lane in stats["lanes"].items():
        assert lane["produced"] == lane["sent"] + lane["q"] + lane["x"] + lane["queued"], (
            f"lane {name} does not add up: {lane}")
        total += lane["sent"]
    assert stats["sent"] == total, f"sent is not the lanes' sum: {stats}"


class BreakingHost:
    """A host that reads as told and hangs up anywhere; decodes with cbor2, not with our code."""

    def __init__(self, path):
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.listener.bind(path)
        self.listener.listen(128)
        self.listener.settimeout(PATIENCE)
        self.connections = []

    def accept(self, receive_buffer=None):
        connection, _ = self.listener.accept()
        if receive_buffer is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        connection.settimeout(PATIENCE)
        self.connections.append(connection)
        return connection

    def close(self):
        for connection in self.connections:
            connection.close()
        self.listener.close()


def decode_stream(data):
    """Whole frames of one connection as dicts, and the bytes of a cut one at the end."""
    import cbor2
    frames, at = [], 0
    while at + 4 <= len(data):
        length = int.from_bytes(data[at:at + 4], "little")
        assert length <= 4096, f"prefix {length} at {at}"
        if at + 4 + length > len(data):
            break
        body = cbor2.loads(data[at + 4:at + 4 + length])
        assert list(body) == EVENT_KEYS, f"keys {list(body)}"
        frames.append(body)
        at += 4 + length
    return frames, data[at:]


def is_report(frame):
    return frame["probe_source"] in (DROPPED, HEARTBEAT)


def split_heartbeat(frame):
    assert frame["probe_source"] == HEARTBEAT, frame
    epoch, sent = frame["guest_comm"].split(":")
    return int(epoch), int(sent)


class Case(unittest.TestCase):
    """A folder of its own, and everything started in it ended."""

    def setUp(self):
        self.assertTrue(AGENT and HOST, "CELLOS_AGENT and CELLOS_HOST must name the programs")
        self.folder = tempfile.TemporaryDirectory(prefix="cellos-e2e-")
        self.addCleanup(self.folder.cleanup)
        self.socket = os.path.join(self.folder.name, "cell.sock")
        self.channel = f"unix:{self.socket}"
        self.watched = os.path.join(self.folder.name, "watched")
        os.mkdir(self.watched)

    def receiver(self, *extra, **named):
        receiver = Receiver(self.socket, *extra, **named)
        self.addCleanup(receiver.close)
        return receiver

    def agent(self, *extra, channel=None, **named):
        agent = Agent(channel or self.channel, *extra, **named)
        self.addCleanup(agent.close)
        return agent

    def breaking_host(self):
        host = BreakingHost(self.socket)
        self.addCleanup(host.close)
        return host

    def touch_many(self, first, count):
        """One IN_CREATE each: names differ, so the kernel merges none of them."""
        for i in range(first, first + count):
            os.mknod(os.path.join(self.watched, f"f{i}"))


def main():
    unittest.main(verbosity=2, argv=[sys.argv[0], *sys.argv[1:]])
