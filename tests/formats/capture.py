# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Captured runs that never ran: lines as --format raw writes them, for the page of a run.

The story is that of a build: a shell starts tools, one of which is denied things, one calls out, files
change. The same seed tells the same story.
"""

import json
import random

SECOND = 10 ** 9
PREFIX = "cell.observability.guest."


class Capture:
    def __init__(self, cell="build-7", run="r-2041", incarnation=1, seed=7):
        self.stamps = {"cell_id": cell, "run_id": run, "spec_signature_hash": "sha256:5f1c0e",
                       "incarnation": incarnation}
        self.random = random.Random(seed)
        self.events = []  # (ns, source, pid, comm)
        self.begin = 41 * SECOND
        self.lines = []

    def event(self, at, source, pid, comm):
        self.events.append((self.begin + int(at * SECOND), source, pid, comm))

    def process(self, pid, comm, begin, end, became=None):
        if begin is not None:
            self.event(begin, "process.spawned", pid, comm)
        if end is not None:
            self.event(end, "process.exited", pid, became or comm)

    def scatter(self, source, pid, comm, begin, end, count):
        for _ in range(count):
            self.event(self.random.uniform(begin, end), source, pid, comm)

    def stamp(self, line, number, at_ns, epoch=1):
        seconds = (at_ns - self.begin) // SECOND
        received = f"2026-03-09T10:{seconds // 60:02d}:{seconds % 60:02d}.{at_ns % SECOND:09d}Z"
        return {**line, **self.stamps, "epoch": epoch, **number, "host_received_at": received}

    def write(self):
        """The events in order of time, heartbeats between, the goodbye and the ledger at the end."""
        self.events.sort(key=lambda event: event[0])
        self.seq = self.report_seq = 0
        beat = self.begin
        for ns, source, pid, comm in self.events:
            while ns >= beat:
                self.report("heartbeat", "telemetry.heartbeat", beat, sent=self.seq)
                beat += SECOND
            self.seq += 1
            self.lines.append(self.stamp(
                {"content_version": 256, "probe_source": source, "guest_pid": pid,
                 "guest_comm": comm, "guest_monotonic_ns": ns}, {"seq": self.seq}, ns))
        return self

    def report(self, name, kind, at_ns, **members):
        self.report_seq += 1
        self.lines.append(self.stamp({"report": name, "type": PREFIX + kind, **members},
                                     {"report_seq": self.report_seq}, at_ns))

    def finish(self, unsettled=0):
        end = self.events[-1][0]
        for lane, reason, count in (("fs", "q", 118), ("fs", "s", 960), ("proc", "k", 2)):
            self.report("dropped", "telemetry.dropped", end, lane=lane, reason=reason,
                        since_last=count, count=count)
        self.report("goodbye", "telemetry.goodbye", end, sent=self.seq)
        self.report("ledger", "telemetry.ledger", end, frames=self.seq, events=self.seq,
                    emitted=self.seq, refused=0, lost_in_host=0, lost_in_flight=0, epochs=1,
                    bytes=self.seq * 131, silences=0, bad_reports=0, contested=0, bad={},
                    dropped={"fq": 118, "fs": 960, "pk": 2}, unsettled=unsettled)
        return self

    def text(self):
        return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in self.lines)


def a_build():
    """What the picture in the documentation shows."""
    run = Capture()
    run.process(1, "init", None, None)
    run.event(0.02, "net.connect_attempted", 1, "init")
    run.process(212, "sshd", None, None)
    run.event(2.9, "net.connect_attempted", 212, "sshd")
    run.process(301, "sh", 0.3, 27.6)
    run.process(302, "git", 0.5, 4.1)
    run.scatter("net.connect_attempted", 302, "git", 0.7, 3.6, 5)
    run.process(310, "sh", 4.2, 26.9, "make")
    pid = 330
    for start in (4.6, 6.1, 7.9, 9.2, 11.4, 13.0, 15.1, 17.7, 19.2, 20.4):
        run.process(pid, "sh", start, start + run.random.uniform(1.1, 4.9), "cc1")
        pid += 1
    run.process(360, "curl", 8.4, 12.2)
    run.scatter("net.connect_attempted", 360, "curl", 8.6, 12.0, 9)
    run.process(371, "python3", 10.3, 24.8)
    run.scatter("capability.denied", 371, "python3", 11.0, 21.5, 7)
    run.scatter("net.connect_attempted", 371, "python3", 14.0, 20.0, 3)
    run.process(388, "mount", 16.2, 16.6)
    run.scatter("capability.denied", 388, "mount", 16.25, 16.5, 2)
    run.process(395, "ld", 24.9, 26.5)
    run.process(402, "miner", 18.3, None)
    run.scatter("net.connect_attempted", 402, "miner", 18.5, 28.6, 14)
    run.scatter("capability.denied", 402, "miner", 18.4, 19.1, 3)
    for begin, end, count in ((0.6, 4.0, 260), (5.0, 24.0, 340), (24.9, 26.6, 90)):
        run.scatter("fs.inotify_fired", 99, "cellos-telemetr", begin, end, count)
    return run.write().finish()


def a_large_one(events):
    """So many events that the page must leave most of them out."""
    run = Capture(cell="large", run="r-1", seed=1)
    for i in range(events // 4):
        at = i * 0.004
        pid = 1000 + i % 30000
        run.process(pid, f"job-{i}", at, at + run.random.uniform(0.001, 3))
        run.event(at, "net.connect_attempted" if i % 3 else "capability.denied", pid, f"job-{i}")
        run.event(at, "fs.inotify_fired", 99, "agent")
    return run.write().finish(unsettled=-3)
