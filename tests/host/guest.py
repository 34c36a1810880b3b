# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Guests made by hand, and the real receiver that they speak to, for the tests beside this file.

The encoder shares no code with ours. Every wait is for a condition, with a limit.
"""
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

RECEIVER = sys.argv[1]
LIMIT = 30  # seconds; only ever waited for when something is broken
PATIENT = 3600  # a silence window, in seconds, that no test is long enough for
HEARTBEAT = "cell.observability.guest.telemetry.heartbeat"
DROPPED = "cell.observability.guest.telemetry.dropped"


# ---- the wire -----------------------------------------------------------------------------------


def head(major, value):
    if value < 24:
        return bytes([major << 5 | value])
    for info, form, limit in ((24, ">B", 8), (25, ">H", 16), (26, ">I", 32), (27, ">Q", 64)):
        if value < 1 << limit:
            return bytes([major << 5 | info]) + struct.pack(form, value)
    raise ValueError(value)


def text(string):
    data = string.encode()
    return head(3, len(data)) + data


def frame(source, pid=7, comm="x", ns=1, version=256):
    body = head(5, 5)
    for key, value in (("content_version", head(0, version)), ("probe_source", text(source)),
                       ("guest_pid", head(0, pid)), ("guest_comm", text(comm)),
                       ("guest_monotonic_ns", head(0, ns))):
        body += text(key) + value
    return struct.pack("<I", len(body)) + body


def beat(epoch, sent, pid=100):
    return frame(HEARTBEAT, pid, "%d:%d" % (epoch, sent))


def row(what, pid=100):
    return frame(DROPPED, pid, what)


def events(first, count):
    return b"".join(frame("process.spawned", ns=i) for i in range(first, first + count))


# ---- the receiver -------------------------------------------------------------------------------


# What the host alone says, on every line; looked at once here, and taken off, so that the checks
# below read as the guest's own story.
STAMPS = ("cell_id", "run_id", "incarnation", "host_received_at")
OF_REPORTS = ("type", "report_seq", "since_last", "first_seq", "last_seq")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z")
OF_LEDGERS = ("emitted", "refused", "lost_in_host", "bytes", "silences", "unsettled")


def unstamped(line, cell="cell", run="run"):
    line = json.loads(line) if isinstance(line, str) else dict(line)
    assert (line["cell_id"], line["run_id"]) == (cell, run), line
    assert line["incarnation"] >= 1 and TIME.fullmatch(line["host_received_at"]), line
    is_report = "report" in line
    assert ("report_seq" in line) == is_report and ("seq" in line) == (not is_report), line
    own_epoch = line.get("report") in ("heartbeat", "lost_in_flight")
    if line.get("report") == "ledger":
        bad = sum(n for error, n in line["bad"].items() if error != "FrameTooLarge")
        assert line["unsettled"] == 0, line
        assert line["frames"] == line["emitted"] + line["refused"] + line["lost_in_host"] + bad, line
        for key in OF_LEDGERS:
            line.pop(key)
    for key in STAMPS + (OF_REPORTS if is_report else ("seq",)) + (() if own_epoch else ("epoch",)):
        line.pop(key, None)
    return line


class Lines:
    """Whole lines from a pipe, each awaited."""

    def __init__(self, file):
        self.fd = file.fileno()
        self.file = file
        self.rest = b""

    def next(self):
        while b"\n" not in self.rest:
            assert select.select([self.fd], [], [], LIMIT)[0], "no line came"
            more = os.read(self.fd, 65536)
            assert more, "the stream ended; left: %r" % self.rest
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return line.decode()

    def until_end(self):
        pieces = [self.rest]
        while True:
            assert select.select([self.fd], [], [], LIMIT)[0], "no end came"
            pieces.append(os.read(self.fd, 1 << 20))
            if not pieces[-1]:
                return b"".join(pieces).decode().splitlines()


class Receiver:
    """Its guests may take their time: silence is for the tests that want it, for it adds lines."""

    started = []  # so that a check that fails leaves none behind

    def __init__(self, *options, stdout=subprocess.PIPE, listen="unix:s", path="s", before=()):
        """`listen` None: the options say it. `before`: a program that starts the receiver."""
        self.path = path
        where = ["--listen", listen, "--silence-window", str(PATIENT)] if listen else []
        self.process = subprocess.Popen(
            [*before, RECEIVER, *where, "--verbose", *options], stdout=stdout,
            stderr=subprocess.PIPE)
        Receiver.started.append(self.process)
        self.words = Lines(self.process.stderr)
        self.expect_word("listening")
        if self.process.stdout:
            self.out = Lines(self.process.stdout)

    def expect_word(self, word):
        line = self.words.next()
        assert line == "cellos-telemetry-host: " + word, line

    def await_word(self, word):
        """The same, whatever is said before it."""
        while self.words.next() != "cellos-telemetry-host: " + word:
            pass

    def connect(self, path=None):
        s = socket.socket(socket.AF_UNIX)
        # Much can stand between the two; where the system allows less, a little less is tried.
        s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 << 20)
        s.settimeout(LIMIT)
        s.connect(path or self.path)
        return s

    def next(self):
        return unstamped(self.out.next())

    def expect(self, *reports):
        for report in reports:
            got = self.next()
            assert got == report, "%r, not %r" % (got, report)

    def end(self, how=signal.SIGTERM):
        """All lines that are left, as objects; the last is the cell's ledger."""
        if how is not None:
            self.process.send_signal(how)
        lines = [unstamped(line) for line in self.out.until_end()]
        assert self.process.wait(LIMIT) == 0, self.process.returncode
        assert not os.path.exists(self.path), "the socket file is left"
        assert lines[-1]["report"] == "ledger", lines[-1]
        return lines


def report(kind, **members):
    return {"report": kind, **members}


def event(ns, source="process.spawned"):
    return {"content_version": 256, "probe_source": source, "guest_pid": 7, "guest_comm": "x",
            "guest_monotonic_ns": ns}


def times(lines):
    return [line["guest_monotonic_ns"] for line in lines if "probe_source" in line
            and "report" not in line]


def await_that(condition, what):
    """`what` may be a function: called when it was in vain."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain: " + (what() if callable(what) else what)
        time.sleep(0.005)


def ctl(*words):
    """What the program ended with, its answer's objects, and its words."""
    p = subprocess.run([RECEIVER, "ctl", "--ctl", "unix:c", *words], stdout=subprocess.PIPE,
                       stderr=subprocess.PIPE, timeout=LIMIT)
    return p.returncode, [json.loads(line) for line in p.stdout.splitlines()], p.stderr.decode()


def listed():
    code, lines, _ = ctl("list")
    assert code == 0
    return {line["cell_id"]: line for line in lines}


def in_a_child(work):
    """Its process id; whatever becomes of the work, the child does no more than that."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        finally:
            os._exit(0)
    return pid


def expect_closed(s):
    try:
        assert s.recv(1) == b""
    except ConnectionResetError:
        pass


def cpu_ticks(pid):
    with open("/proc/%d/stat" % pid) as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def expect_quiet(r):
    """Half a second in which it could spin, and does not: of 50 ticks it takes few."""
    before = cpu_ticks(r.process.pid)
    time.sleep(0.5)
    used = cpu_ticks(r.process.pid) - before
    assert used <= 10, "it spins: %d ticks" % used


def state_of(pid):
    """What the kernel calls it: R runs or wants to, S sleeps, T is stopped."""
    with open("/proc/%d/stat" % pid, encoding="ascii", errors="replace") as f:
        return f.read().rsplit(")", 1)[1].split()[0]


def stop(r):
    """Stopped, and not only told to be: from here on it reads nothing."""
    r.process.send_signal(signal.SIGSTOP)
    await_that(lambda: state_of(r.process.pid) == "T", "it is stopped")


def fill(r, s):
    """Sends events until the receiver takes no more: events begun, bytes unsent.

    That is so when it was seen asleep, or stopped, and behind that look the socket is still full:
    one that wanted what is in there would run, however slowly.
    """
    s.setblocking(False)
    pending, sent, made, is_asleep = b"", 0, 0, False
    deadline = time.monotonic() + LIMIT
    while True:
        if not pending:
            pending = events(made, 200)
            made += 200
        try:
            n = s.send(pending)
        except BlockingIOError:
            if is_asleep:
                break
            is_asleep = state_of(r.process.pid) in "ST"
            if not is_asleep:
                assert time.monotonic() < deadline, "the receiver does not come to rest"
                time.sleep(0.001)
            continue
        is_asleep = False
        pending = pending[n:]
        sent += n
        deadline = time.monotonic() + LIMIT
        assert sent < 64 << 20, "the receiver swallows everything"
    s.setblocking(True)
    return made, pending


def whole_events(made, pending):
    """How many of `made` events were sent whole when `pending` is what was not."""
    count, left = made, len(pending)
    while left > 0:
        count -= 1
        left -= len(events(count, 1))
    return count


class Skip(Exception):
    """This machine does not allow it."""


def run_tests(tests, only=()):
    """All functions named test_..., each in a folder of its own that it leaves empty.

    Exit code 77 when one was skipped, or 1 where that is not wanted (tests/support/skip.h).
    """
    skipped = 0
    try:
        for name, test in list(tests.items()):
            if not name.startswith("test_") or (only and name not in only):
                continue
            with tempfile.TemporaryDirectory(prefix="cellos-host-") as folder:
                os.chdir(folder)
                began = time.monotonic()
                try:
                    test()
                except Skip as why:
                    print("skipped %s: %s" % (name, why), flush=True)
                    skipped += 1
                left = os.listdir(".")
                assert left == [], "%s left %s" % (name, left)
                print("ok %-70s %.2f s" % (name, time.monotonic() - began), flush=True)
                os.chdir("/")
    finally:
        for started in Receiver.started:
            if started.poll() is None:
                started.kill()
    if skipped:
        sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)
