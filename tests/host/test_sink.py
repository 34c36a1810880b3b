#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""State, spool and sink against a real nats-server: nothing twice, nothing missing, whoever is killed.

usage: test_sink.py FEEDER [NAME...]

FEEDER is sink_feeder.c: a receiver without its front, killed with -9 like a real one. A kill counts
only when 100 000 lines were made before it and some were in flight: who is to be killed is stopped when
there are some. On a machine that is in no hurry all may be through by then; then it is tried again.
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
import time

import nats

FEEDER = sys.argv[1]
LIMIT = 60
CELLS = 8
LEAST = 100000
# What the sink says when the server had time enough, and did not answer.
SLOW = ("Timeout", "the server acknowledges nothing")


class Place:
    """A folder with a server, a state file and a spool of its own."""

    def __init__(self, extra=""):
        self.folder = tempfile.mkdtemp(prefix="cellos-sink-")
        self.server = nats.Server(self.folder, extra)
        self.state = os.path.join(self.folder, "state")
        self.spool = os.path.join(self.folder, "spool")
        self.feeder = None
        self.url = self.server.url
        self.login = {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.feeder is not None and self.feeder.poll() is None:
            self.feeder.kill()
            self.feeder.wait()
        self.server.kill()
        shutil.rmtree(self.folder)

    def feed(self, lines, batch=100, spool=4 << 20, window=60):
        self.lines = lines
        self.made = 0
        self.errors = os.path.join(self.folder, "errors")
        with open(self.errors, "ab") as errors:
            self.feeder = subprocess.Popen(
                [FEEDER, self.url, "EVENTS", self.state, self.spool, str(CELLS), str(lines),
                 str(batch), str(spool), str(window)], stdout=subprocess.PIPE, stderr=errors,
                bufsize=0)  # what one reader has not taken is there for the next

    def said(self):
        return nats.words_of(self.errors).splitlines()

    def await_said(self, part, times=1):
        await_that(lambda: sum(part in line for line in self.said()) >= times,
                   lambda: "nobody said %r: %r" % (part, self.said()))

    def await_made(self, count):
        while self.made < count:
            line = self.feeder.stdout.readline().decode()
            assert line.startswith("made "), "%r before %d lines: %r" % (line, count, self.said())
            self.made = int(line.split()[1])

    def positions(self):
        """(acked, published) of the state file: two numbers behind its first 64 bytes."""
        with open(self.state, "rb") as f:
            f.seek(64)
            return struct.unpack("<QQ", f.read(16))

    def in_flight(self):
        acked, published = self.positions()
        return published - acked

    def stop_in_flight(self, stop, go_on):
        """Stops one of the two at a moment with lines in flight; False: there is none any more."""
        deadline = time.monotonic() + LIMIT
        while True:
            stop()
            if self.in_flight() > 0:
                return True
            go_on()
            if self.is_through():
                return False
            assert time.monotonic() < deadline, "nothing goes: %r" % self.said()

    def is_through(self):
        """It has said its numbers: every line is acknowledged."""
        while select.select([self.feeder.stdout], [], [], 0)[0]:
            if not self.feeder.stdout.readline().startswith((b"made ", b"done")):
                return True
        return False

    def stop_feeder(self):
        nats.stop(self.feeder)

    def let_feeder_go_on(self):
        self.feeder.send_signal(signal.SIGCONT)

    def kill_feeder(self):
        self.feeder.kill()
        self.feeder.wait(LIMIT)

    def finish(self):
        """Each step forward has all the time of a wait: how many there are depends on the machine."""
        before, out = None, None
        while out is None:
            try:
                out = self.feeder.communicate(timeout=LIMIT)[0].decode().splitlines()
            except subprocess.TimeoutExpired:
                now = self.positions()
                assert now != before, "%r acknowledged and published: %r" % (now, self.said())
                before = now
        said = self.said()
        assert self.feeder.returncode == 0, (self.feeder.returncode, said)
        return json.loads(out[-1])

    def check_said(self, *parts):
        """Trouble is of these kinds, or takes too long; said once, again only when it was over; and
        the last word is that it is over."""
        said = self.said()
        assert said and said[-1].endswith("takes events again"), said
        for line, before in zip(said, ["", *said]):
            if "takes events again" not in line:
                assert any(part in line for part in (*parts, *SLOW)), said
            assert line != before, said

    def check(self, in_order=True):
        """Every line of every cell exactly once; in order where nothing was refused."""
        client = self.server.client(**self.login)
        ids = client.ids("EVENTS")
        client.close()
        counts = collections.Counter(ids)
        expected = {"c%d/r/1/%d" % (c, n) for c in range(CELLS)
                    for n in range(1, self.lines + 1)}
        twice = [i for i, n in counts.items() if n > 1]
        missing = expected - counts.keys()
        foreign = counts.keys() - expected
        assert not twice and not missing and not foreign, \
            "twice %d %r, missing %d %r, foreign %d %r" % (
                len(twice), twice[:3], len(missing), sorted(missing)[:3], len(foreign),
                sorted(foreign)[:3])
        if in_order:
            last = collections.Counter()
            for i in ids:
                cell, _, _, seq = i.split("/")
                assert int(seq) == last[cell] + 1, "%s behind %d" % (i, last[cell])
                last[cell] += 1


def await_that(condition, why):
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)


def until_in_flight(story):
    """A story returns False when nothing was in flight at its kill: such a run does not count."""
    for _ in range(10):
        if story():
            return
    raise AssertionError("ten times nothing was in flight at the kill")


# ---- what goes well -----------------------------------------------------------------------------


def test_lines_arrive_as_they_are():
    with Place() as place:
        place.feed(500, batch=7)
        numbers = place.finish()
        if place.said() == []:
            assert numbers == {"connected": 1, "published": 4000, "acknowledged": 4000,
                               "duplicates": 0, "errors": 0, "lag_bytes": 0}, numbers
        else:  # the server was too slow once, and lines may have gone again
            place.check_said()
            assert numbers["published"] >= 4000 and numbers["lag_bytes"] == 0, numbers
        place.check()
        client = place.server.client()
        for msg_id, subject, data in client.ids("EVENTS", bodies=True):
            body = json.loads(data)
            assert msg_id == "c%d/r/1/%d" % (body["cell"], body["seq"])
            assert subject == "cellos.c%d.process.spawned" % body["cell"]
        config = client.stream("EVENTS")["config"]
        assert config["subjects"] == ["cellos.>"] and config["duplicate_window"] == 60 * 10 ** 9
        # A second run finds nothing to do.
        place.feed(500)
        assert place.finish()["published"] == 0
        client.close()


def test_a_server_that_comes_late():
    with Place() as place:
        place.server.kill()
        place.feed(200)
        place.await_said("cannot reach the server of stream 'EVENTS'")
        # Three more tries, counted: what is the matter with them is said once.
        with socket.create_server(("127.0.0.1", place.server.port)) as nobody:
            nobody.settimeout(LIMIT)
            for _ in range(3):
                nobody.accept()[0].close()
        place.server.start()
        place.finish()
        place.check()
        # While it starts it may be there without its streams.
        place.check_said("cannot reach the server of", "cannot use stream")


# ---- kills --------------------------------------------------------------------------------------


def test_kill_9_of_the_server():
    def story():
        with Place() as place:
            place.feed(LEAST * 2 // CELLS)
            place.await_made(LEAST)
            if not place.stop_in_flight(place.server.stop, place.server.go_on):
                return False
            place.server.kill()
            in_flight = place.in_flight()
            place.await_said("cannot")
            place.server.start()
            place.finish()
            place.check()
            return in_flight > 0
    until_in_flight(story)


def test_kill_9_of_the_receiver():
    def story():
        with Place() as place:
            place.feed(LEAST * 2 // CELLS)
            place.await_made(LEAST)
            if not place.stop_in_flight(place.stop_feeder, place.let_feeder_go_on):
                return False
            place.kill_feeder()
            in_flight = place.in_flight()
            place.feed(LEAST * 2 // CELLS)
            place.finish()
            place.check()
            return in_flight > 0
    until_in_flight(story)


def test_kill_9_of_both_again_and_again():
    with Place() as place:
        place.feed(LEAST // CELLS, batch=13)
        for made in range(10000, LEAST, 15000):
            place.await_made(made)
            place.server.kill()
            place.kill_feeder()
            place.server.start()
            place.feed(LEAST // CELLS, batch=13)
        place.finish()
        place.check()


def test_longer_away_than_the_server_remembers():
    """The server has what nobody was told of, and has forgotten the ids: the stream is asked."""
    def story():
        with Place() as place:
            place.feed(20000 // CELLS, spool=1 << 18, window=1)
            place.await_made(10000)
            if not place.stop_in_flight(place.stop_feeder, place.let_feeder_go_on):
                return False
            place.kill_feeder()
            acked, published = place.positions()
            client = place.server.client()
            # Settled: what it took from the dead connection is stored. Nothing says so.
            counts = [0]
            while len(counts) < 6 or len(set(counts[-6:])) > 1:
                counts.append(client.stream("EVENTS")["state"]["messages"])
                time.sleep(0.1)
            # Somebody else's messages come later than all of ours.
            client.publish("cellos.other.process.spawned", b"{}")
            with open(place.spool, "rb") as f:
                size = os.path.getsize(place.spool)
                data = f.read()
            unsure = bytes(data[i % size] for i in range(acked, published)).splitlines()
            stored_unsure = {i for i in client.ids("EVENTS")} & {
                line.split()[0].decode() for line in unsure}
            time.sleep(2)  # the window itself: nothing says when it is over
            place.feed(20000 // CELLS, spool=1 << 18, window=1)
            place.finish()
            client.request("$JS.API.STREAM.PURGE.EVENTS",
                           {"filter": "cellos.other.process.spawned"})
            client.close()
            place.check()
            return len(stored_unsure) > 0
    until_in_flight(story)


def test_a_server_longer_away_than_it_remembers():
    def story():
        with Place() as place:
            place.feed(20000 // CELLS, spool=1 << 18, window=1)
            place.await_made(10000)
            if not place.stop_in_flight(place.server.stop, place.server.go_on):
                return False
            place.server.kill()
            in_flight = place.in_flight()
            time.sleep(2)
            place.server.start()
            place.finish()
            place.check()
            return in_flight > 0
    until_in_flight(story)


def test_stopped_while_the_server_is_away():
    def story():
        with Place() as place:
            place.feed(LEAST // CELLS)
            place.await_made(20000)
            if not place.stop_in_flight(place.server.stop, place.server.go_on):
                return False
            place.server.kill()
            place.await_said("cannot")
            place.feeder.send_signal(signal.SIGTERM)
            assert place.finish()["lag_bytes"] > 0  # without a server that it could have waited for
            place.server.start()
            place.feed(LEAST // CELLS)
            place.finish()
            place.check()
            return True
    until_in_flight(story)


# ---- servers that say no ------------------------------------------------------------------------


def test_a_stream_that_is_full():
    with Place() as place:
        client = place.server.client()
        config = {"name": "EVENTS", "subjects": ["cellos.>"], "storage": "file", "max_msgs": 3000,
                  "discard": "new", "duplicate_window": 60 * 10 ** 9}
        client.request("$JS.API.STREAM.CREATE.EVENTS", config)
        place.feed(1000)
        place.await_said("maximum messages exceeded")
        config["max_msgs"] = -1
        assert "error" not in client.request("$JS.API.STREAM.UPDATE.EVENTS", config)
        client.close()
        assert place.finish()["errors"] > 0
        # When room comes in the midst of a session, a line is refused and one behind it taken: the order
        # is lost, and trouble is said to be over once too early. Else neither.
        place.check(in_order=len(place.said()) == 2)
        place.check_said("maximum messages exceeded")


def test_a_stream_for_something_else():
    with Place() as place:
        client = place.server.client()
        config = {"name": "EVENTS", "subjects": ["weather.>"], "storage": "file",
                  "duplicate_window": 60 * 10 ** 9}
        client.request("$JS.API.STREAM.CREATE.EVENTS", config)
        place.feed(1000)
        place.await_said("it does not take the subjects cellos.>")
        config["subjects"] = ["weather.>", "cellos.>"]
        assert "error" not in client.request("$JS.API.STREAM.UPDATE.EVENTS", config)
        client.close()
        place.finish()
        place.check()
        place.check_said("it does not take the subjects cellos.>")


def test_a_stream_that_is_taken_away():
    with Place() as place:
        place.feed(1000)
        place.await_made(2000)
        place.finish()
        client = place.server.client()
        client.request("$JS.API.STREAM.DELETE.EVENTS")
        client.close()
        place.feed(2000)  # made again
        place.finish()
        client = place.server.client()
        assert client.stream("EVENTS")["state"]["messages"] == 1000 * CELLS
        client.close()


def test_a_server_that_wants_a_password():
    with Place('authorization { user: "u", password: "secret" }') as place:
        place.feed(100)
        place.await_said("Authorization Violation")
        place.server.kill()
        with open(place.server.config) as f:
            text = f.read()
        with open(place.server.config, "w") as f:
            f.write(text.replace("authorization", "# authorization"))
        place.server.start()
        place.finish()
        place.check()
        assert all("secret" not in line for line in place.said())


def test_a_server_that_is_given_its_password():
    with Place('authorization { user: "u", password: "secret" }') as place:
        place.url = place.url.replace("//", "//u:secret@")
        place.login = {"user": "u", "pass": "secret"}
        place.feed(100)
        place.finish()
        place.check()
        # Nor is it said when something is wrong.
        place.server.kill()
        place.feed(200)
        place.await_said("cannot reach the server")
        place.server.start()
        place.finish()
        place.check()
        assert all("secret" not in line for line in place.said()), place.said()


def test_a_server_without_jetstream():
    with Place() as place:
        place.server.kill()
        with open(place.server.config) as f:
            text = f.read()
        with open(place.server.config, "w") as f:
            f.write(text.replace("jetstream", "# jetstream"))
        place.server.start()
        place.feed(100)
        place.await_said("cannot use stream 'EVENTS'")
        place.server.kill()
        with open(place.server.config, "w") as f:
            f.write(text)
        place.server.start()
        place.finish()
        place.check()


def main():
    if not os.path.exists(nats.SERVER):
        print("skipped: there is no", nats.SERVER)
        sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)
    for name in sys.argv[2:] or [n for n in globals() if n.startswith("test_")]:
        began = time.monotonic()
        globals()[name]()
        print("%-48s %5.1f s" % (name, time.monotonic() - began), flush=True)


main()
