#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The receiver with state, spool and sink, killed with -9, and its nats-server killed with -9.

usage: test_sink_receiver.py RECEIVER [--times N]

Agents made here send a known list of events each, and keep the wire's rules: after a break the
frame that was cut goes again, behind a heartbeat that says what the channel had taken. At the end
every event of the list is in the stream once, or in a number that the host told. A kill counts only
when 100 000 events were in the stream before it and some were published without an answer; when none
was, the run is made again.
"""
import collections
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import nats

LIMIT = 120
CELLS = 4
LEAST = 110000  # messages before the kill: reports among them, and over 100 000 events
EVENTS = 55000  # of each cell
AHEAD = 30000   # events that the agents may be ahead of the stream

# ---- the wire -----------------------------------------------------------------------------------


def text(string):
    data = string.encode()
    return (bytes([0x60 | len(data)]) if len(data) < 24 else bytes([0x78, len(data)])) + data


def frame(source, pid, comm, ns):
    body = (b"\xa5" + text("content_version") + b"\x19\x01\x00" + text("probe_source") +
            text(source) + text("guest_pid") + b"\x1a" + struct.pack(">I", pid) +
            text("guest_comm") + text(comm) + text("guest_monotonic_ns") + b"\x1b" +
            struct.pack(">Q", ns))
    return struct.pack("<I", len(body)) + body


def beat(epoch, sent):
    return frame("cell.observability.guest.telemetry.heartbeat", 9, "%d:%d" % (epoch, sent), 0)


EVENT_BYTES = len(frame("process.spawned", 1, "sh", 1))


class Agent(threading.Thread):
    """Sends events 1..EVENTS: guest_monotonic_ns is the number."""

    def __init__(self, path, world):
        super().__init__(daemon=True)
        self.path = path
        self.world = world
        self.sent = 0
        self.epochs = 0
        self.failed = None
        self.socket = None

    def run(self):
        try:
            while not self.life():
                time.sleep(0.02)  # the receiver is away: as the agent's backoff
        except Exception as error:  # pylint: disable=broad-except
            self.failed = error

    def life(self):
        """One connection. True when the goodbye was read."""
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(LIMIT)
            try:
                s.connect(self.path)
            except (FileNotFoundError, ConnectionRefusedError):
                return False
            self.epochs += 1
            self.socket = s
            try:
                while self.sent < EVENTS:
                    self.send_some(s)
                s.sendall(beat(self.epochs, self.sent) + beat(0, self.sent))
                s.shutdown(socket.SHUT_WR)
                return s.recv(1) == b""
            except (BrokenPipeError, ConnectionResetError):
                return False

    def is_full(self):
        """Its channel has no room, and what is in there nobody has read; or it wants to send no more."""
        return self.sent == EVENTS or not select.select([], [self.socket], [], 0)[1]

    def send_some(self, s):
        """A heartbeat and some events; what of them the channel took counts as sent."""
        while self.world.is_ahead():
            time.sleep(0.001)
        first = beat(self.epochs, self.sent)
        count = min(self.world.piece, EVENTS - self.sent)
        data = first + b"".join(frame("process.spawned", 1, "sh", self.sent + i + 1)
                                for i in range(count))
        taken = 0
        try:
            while taken < len(data):
                taken += s.send(data[taken:])
        finally:
            self.sent += max(0, taken - len(first)) // EVENT_BYTES


# ---- server, receiver, agents -------------------------------------------------------------------


class World:
    def __init__(self, receiver, *options):
        self.program = receiver
        self.options = options
        self.folder = tempfile.mkdtemp(prefix="cellos-kill-")
        self.server = nats.Server(self.folder)
        self.receiver = None
        self.in_stream = 0
        self.piece = 64  # events to a heartbeat
        self.agents = [Agent(os.path.join(self.folder, "s%d" % i), self) for i in range(CELLS)]
        with open(os.path.join(self.folder, "cells.json"), "w") as f:
            json.dump({"cells": [{"id": "cell-%d" % i, "run": "run-1", "listen": "unix:" + a.path}
                                 for i, a in enumerate(self.agents)]}, f)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill_receiver()
        self.server.kill()
        shutil.rmtree(self.folder)

    def start_receiver(self):
        with open(os.path.join(self.folder, "errors"), "ab") as errors:
            self.receiver = subprocess.Popen(
                [self.program, "--cells", "cells.json", "--sink", self.server.url, "--stream",
                 "EVENTS", "--state", "state", "--spool", "spool", *self.options],
                cwd=self.folder, stdout=subprocess.DEVNULL, stderr=errors)

    def kill_receiver(self):
        if self.receiver is not None:
            self.receiver.kill()
            self.receiver.wait(LIMIT)
            self.receiver = None

    def said(self):
        return nats.words_of(os.path.join(self.folder, "errors"))

    def is_ahead(self):
        return sum(a.sent for a in self.agents) - self.in_stream > AHEAD

    def state(self):
        """The spool's (acked, published, end), as state.c lays them out."""
        with open(os.path.join(self.folder, "state"), "rb") as f:
            data = f.read(128)
        _, _, commit, *ends = struct.unpack("<QQQQQQQ", data[:56])
        end = max((ends[0:2], ends[2:4]), key=lambda e: e[0] if e[0] <= commit else -1)[1]
        return struct.unpack("<QQ", data[64:80]) + (end,)

    def follow(self, until):
        """Keeps the agents going until the stream holds so many messages."""
        client = self.server.client()
        deadline = time.monotonic() + LIMIT
        while self.in_stream < until:
            before = self.in_stream
            answer = client.request("$JS.API.STREAM.INFO.EVENTS")
            if "error" not in answer:
                self.in_stream = answer["state"]["messages"]
            if self.in_stream > before:
                deadline = time.monotonic() + LIMIT
            assert self.receiver.poll() is None, "the receiver ended: " + self.said()
            assert time.monotonic() < deadline, "%d in the stream; %s" % (self.in_stream,
                                                                           self.said())
            time.sleep(0.005)
        client.close()

    def finish(self):
        self.in_stream = CELLS * EVENTS  # nothing holds them any more
        for agent in self.agents:
            agent.join(LIMIT)
            assert not agent.is_alive(), "an agent hangs: " + self.said()
            assert agent.failed is None, agent.failed
        self.end_receiver()
        # Its last lines have some seconds to reach the server; the rest goes with the next one.
        for _ in range(10):
            state = self.state()
            if state[0] == state[2]:
                return
            self.start_receiver()
            self.end_receiver()
        raise AssertionError("%r; %s" % (state, self.said()))

    def end_receiver(self):
        """When the server has all that there is."""
        deadline, before = time.monotonic() + LIMIT, None
        while (state := self.state())[0] != state[2] or not self.listens():
            if state != before:
                deadline, before = time.monotonic() + LIMIT, state
            assert time.monotonic() < deadline, "%r; %s" % (state, self.said())
            assert self.receiver.poll() is None, "the receiver ended: " + self.said()
            time.sleep(0.05)
        self.receiver.send_signal(signal.SIGTERM)
        code, said = self.receiver.wait(LIMIT), self.said()
        assert code == 0, said
        self.receiver = None

    def listens(self):
        """It has begun: its handlers of signals stand before its sockets."""
        return all(os.path.exists(agent.path) for agent in self.agents)

    def check(self):
        """What was sent, event by event, against the stream and the host's last row."""
        client = self.server.client()
        messages = client.ids("EVENTS", bodies=True)
        client.close()
        assert len({m[0] for m in messages}) == len(messages), "an id came twice"
        seen = collections.defaultdict(collections.Counter)
        ledgers, told = {}, collections.Counter()
        for msg_id, _, data in messages:
            line = json.loads(data)
            cell = line["cell_id"]
            if "report" not in line:
                assert msg_id == "%s/run-1/%d/%d" % (cell, line["incarnation"], line["seq"]), line
                seen[cell][line["guest_monotonic_ns"]] += 1
            elif line["report"] == "ledger":
                ledgers[cell] = line
            elif line["report"].startswith("lost_in"):
                told[cell, line["report"]] += line["since_last"]
        lost = 0
        for i, agent in enumerate(self.agents):
            lost += self.check_cell("cell-%d" % i, agent, seen["cell-%d" % i],
                                    ledgers["cell-%d" % i], told)
        return len(messages), lost

    def check_cell(self, cell, agent, seen, ledger, told):
        assert agent.sent == EVENTS
        twice = [ns for ns, n in seen.items() if n > 1]
        assert not twice, "%s: %d twice: %r" % (cell, len(twice), twice[:5])
        assert set(seen) <= set(range(1, EVENTS + 1)), cell
        missing = EVENTS - len(seen)
        counted = ledger["lost_in_flight"] + ledger["lost_in_host"]
        assert missing == counted, "%s: %d missing, %d counted: %r" % (cell, missing, counted,
                                                                       ledger)
        assert ledger["unsettled"] == 0 and ledger["emitted"] == len(seen), ledger
        assert ledger["frames"] == EVENTS - ledger["lost_in_flight"], ledger
        # and each loss had a report of its own when it was found
        assert told[cell, "lost_in_flight"] == ledger["lost_in_flight"], (cell, told, ledger)
        assert told[cell, "lost_in_host"] == ledger["lost_in_host"], (cell, told, ledger)
        return counted


def stop_in_flight(world, process):
    """Stops it with something published and not acknowledged. The agents are let go on until then; when
    they have nothing more to send, that is seen at the end."""
    deadline = time.monotonic() + LIMIT
    while True:
        nats.stop(process)
        acked, published, _ = world.state()
        if published > acked or not any(agent.is_alive() for agent in world.agents):
            return
        process.send_signal(signal.SIGCONT)
        assert time.monotonic() < deadline, "nothing is published: " + world.said()
        world.in_stream += 100


def kill_server(world, _):
    stop_in_flight(world, world.server.process)
    world.server.kill()
    state = world.state()
    time.sleep(0.3)  # events come while it is away; how many does not matter
    world.server.start()
    return state


def kill_receiver(world, turn):
    """Every other time it stalls first, so that the channels hold what nobody has read."""
    stop_in_flight(world, world.receiver)
    if turn % 2 == 0:
        enough = sum(a.sent for a in world.agents) + 1000
        world.in_stream += 2000
        deadline = time.monotonic() + LIMIT
        while sum(a.sent for a in world.agents) < enough and not all(
                a.is_full() for a in world.agents):
            assert time.monotonic() < deadline, "the channels take nothing"
            time.sleep(0.005)
    world.kill_receiver()
    state = world.state()
    world.start_receiver()
    return state


def overflow(receiver):
    """A server that is away for longer than the spool has room: all that is missing is counted."""
    with World(receiver, "--spool-bytes", str(4 << 20)) as world:
        world.piece = 2000  # reports have little room of their own: it is to be enough for what is lost
        world.start_receiver()
        for agent in world.agents:
            agent.start()
        world.follow(1000)
        world.server.kill()
        world.in_stream = CELLS * EVENTS
        for agent in world.agents:
            agent.join(LIMIT)
        world.server.start()
        world.finish()
        messages, lost = world.check()
        assert lost > 100000, lost
        assert "it is full" in world.said(), world.said()
        return "%d sent, %d messages, %d counted as lost, 0 twice, 0 uncounted" % (
            CELLS * EVENTS, messages, lost)


def lost_state(receiver):
    """What stands in the spool cannot be sent without the state: that is said, not passed over."""
    with World(receiver) as world:
        world.server.kill()
        world.start_receiver()
        path, state = world.agents[0].path, os.path.join(world.folder, "state")
        with socket.socket(socket.AF_UNIX) as s:
            # There is a moment between the file and the first that may knock.
            await_that(lambda: s.connect_ex(path) == 0, "the receiver listens")
            s.sendall(beat(1, 0) + frame("process.spawned", 1, "sh", 1))
            await_that(lambda: world.state()[2] > 0, "a line in the spool")
        world.kill_receiver()
        os.unlink(path)
        os.unlink(state)
        word = "the state does not know what stands in the spool: it is not sent"
        assert word not in world.said(), world.said()
        world.start_receiver()
        await_that(lambda: word in world.said(), word)
        return "said"


def await_that(condition, what):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "waited in vain: " + what
        time.sleep(0.01)


def run_once(receiver, kill, turn):
    """None when nothing was in flight; else what there was to see."""
    with World(receiver) as world:
        world.start_receiver()
        for agent in world.agents:
            agent.start()
        world.follow(LEAST)
        before = world.in_stream
        acked, published, end = kill(world, turn)
        world.follow(LEAST + 10000)
        world.finish()
        messages, lost = world.check()
        assert lost > 0 or kill is kill_server or turn % 2 == 1, "the channels held something"
        if published == acked:
            return None
        return ("%d in the stream before the kill, %d bytes unanswered, %d not yet published; at the"
                " end %d sent, %d messages, %d counted as lost, 0 twice, 0 uncounted"
                % (before, published - acked, end - published, CELLS * EVENTS, messages, lost))


def main():
    if not os.path.exists(nats.SERVER):
        print("skipped: there is no", nats.SERVER)
        sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)
    print("a lost state:", lost_state(sys.argv[1]), flush=True)
    print("a full spool:", overflow(sys.argv[1]), flush=True)
    times = int(sys.argv[3]) if sys.argv[2:3] == ["--times"] else 1
    for what, kill in (("server", kill_server), ("receiver", kill_receiver)):
        counted, tries = 0, 0
        while counted < times:
            tries += 1
            assert tries <= times + 5, "too often nothing was in flight at the kill"
            result = run_once(sys.argv[1], kill, counted)
            print("kill -9 of the %s: %s" % (what, result or "nothing was in flight: again"),
                  flush=True)
            counted += result is not None


main()
