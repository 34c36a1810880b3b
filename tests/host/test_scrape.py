#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The metrics of a real receiver, read by a parser that is not ours, and asked for by clients of
every kind.

usage: test_scrape.py RECEIVER [NAME...]

guest.py beside it has the encoder and the receiver's handling.
"""
import fcntl
import http.client
import json
import os
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time

from guest import (LIMIT, PATIENT, RECEIVER, Receiver, Skip, await_that, beat, events, expect_closed,
                   listed, row, run_tests, stop)
from nats import SERVER, Server, free_port

try:
    from prometheus_client.parser import text_string_to_metric_families
except ImportError:
    text_string_to_metric_families = None

DOCUMENT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../docs/metrics.md")
# Behind the head of an answer of several MB that nobody reads, the kernel holds less than this.
STUCK = 1 << 20


def cells_file(*cells):
    with open("cells.json", "w", encoding="utf-8") as f:
        json.dump({"cells": [{"listen": "unix:" + c["id"], "silence_window": PATIENT, **c}
                             for c in cells]}, f)


def start(*cells, options=()):
    cells_file(*cells)
    return Receiver("--cells", "cells.json", "--metrics", "unix:m", "--ctl", "unix:c", *options,
                    listen=None)


def end(r):
    r.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in r.out.until_end()]
    assert r.process.wait(LIMIT) == 0, r.words.until_end()
    os.unlink("cells.json")
    return {line["cell_id"]: line for line in lines if line.get("report") == "ledger"}


# ---- clients ------------------------------------------------------------------------------------


class Connection(http.client.HTTPConnection):
    """Python's own client: it takes the chunks apart, and complains of bad ones."""

    def __init__(self, path):
        super().__init__("localhost", timeout=LIMIT)
        self.path = path

    def connect(self):
        self.sock = dial(self.path)


def dial(path="m"):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(LIMIT)
    s.connect(path)
    return s


def get(connection=None):
    connection = connection or Connection("m")
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert answer.status == 200, answer.status
    assert answer.getheader("Content-Type") == "text/plain; version=0.0.4; charset=utf-8"
    text = answer.read().decode()
    connection.close()
    return text


def until_end(s):
    pieces = []
    while True:
        pieces.append(s.recv(1 << 16))
        if not pieces[-1]:
            s.close()
            return b"".join(pieces)


def ask(request):
    s = dial()
    s.sendall(request)
    return until_end(s)


class Samples(dict):
    """(name, label values in the order of their names) -> value."""

    def __init__(self, text):
        super().__init__()
        self.types = {}
        for family in text_string_to_metric_families(text):
            assert family.name not in self.types, "two families named " + family.name
            self.types[family.name] = family.type
            assert family.documentation and family.samples, family
            for sample in family.samples:
                key = (sample.name, *(sample.labels[k] for k in sorted(sample.labels)))
                assert key not in self, key
                assert sample.name.endswith("_total") == (family.type == "counter"), key
                self[key] = sample.value

    def of(self, cell, name, *labels):
        """Of a cell's number: None when it is not there. Labels: error, or lane and reason."""
        found = [value for key, value in self.items() if key[0] == "cellos_host_" + name
                 and key[1] == cell and sorted({*key[2:]} & {*labels}) == sorted(labels)]
        assert len(found) <= 1, (name, found)
        return found[0] if found else None


def scrape():
    return Samples(get())


# ---- numbers ------------------------------------------------------------------------------------

# A metric, and the same number's name in the ledger.
AS_LEDGER = {"frames_total": "frames", "emitted_total": "emitted", "refused_total": "refused",
             "lost_in_host_total": "lost_in_host", "lost_in_flight_total": "lost_in_flight",
             "epochs_total": "epochs", "received_bytes_total": "bytes",
             "silences_total": "silences", "bad_reports_total": "bad_reports",
             "contested_total": "contested"}
LANES = {"p": "proc", "f": "fs", "c": "cap", "n": "net"}


def compare(samples, cell, row):
    """With what the ledger or the list of cells says."""
    for metric, key in AS_LEDGER.items():
        key = "received" if key == "frames" and key not in row else key
        if metric == "refused_total" and "report" in row:
            continue  # the ledger's counts bad frames, too
        assert samples.of(cell, metric) == row[key], (metric, samples.of(cell, metric), row)
    errors = {k[2]: v for k, v in samples.items()
              if k[:2] == ("cellos_host_bad_frames_total", cell) and v}
    assert errors == row["bad"], (errors, row)
    dropped = {(k[2], k[3]): v for k, v in samples.items()
               if k[:2] == ("cellos_host_guest_dropped_total", cell)}
    assert len(dropped) == 20
    assert {k: v for k, v in dropped.items() if v} == \
        {(LANES[k[0]], k[1]): v for k, v in row["dropped"].items()}, (dropped, row)


def test_numbers_are_those_of_the_generator_and_of_the_ledger():
    r = start({"id": "a", "run": "7"}, {"id": "b"}, {"id": "idle"})
    a, b = r.connect("a"), r.connect("b")
    a.sendall(beat(1, 0, pid=1) + events(0, 5) + b"\3\0\0\0abc" * 3 + row("pq:12", 1) +
              row("ns:3", 1) + row("zz:1", 1))
    b.sendall(beat(1, 0, pid=2) + events(0, 2))
    expect_closed(r.connect("a"))
    a.close()
    await_that(lambda: not listed()["a"]["connected"], "a's connection has ended")
    a = r.connect("a")
    a.sendall(beat(2, 15, pid=1) + events(8, 1) + b"\0\0\1\0")  # 8 arrived; and a frame too large
    await_that(lambda: listed()["a"]["events"] == 6 and listed()["b"]["events"] == 2, "all is read")
    await_that(lambda: not listed()["a"]["connected"], "the broken framing closed it")
    samples, rows = scrape(), listed()
    for cell in ("a", "b", "idle"):
        compare(samples, cell, rows[cell])
        assert samples.of(cell, "cell_connected") == (cell == "b"), cell
        assert samples.of(cell, "incarnations_total") == rows[cell]["incarnation"], cell
        assert samples.of(cell, "events_total") == sum(
            samples.of(cell, name) for name in ("emitted_total", "refused_total",
                                                "lost_in_host_total", "pending_events")), cell
    # What was sent, by hand above.
    expected = {"frames_total": 9, "events_total": 6, "emitted_total": 6, "epochs_total": 2,
                "lost_in_flight_total": 7, "contested_total": 1, "bad_reports_total": 1,
                "incarnations_total": 1, "cell_admitted": 1, "cell_silent": 0}
    for name, value in expected.items():
        assert samples.of("a", name) == value, (name, samples.of("a", name))
    assert samples.of("a", "bad_frames_total", "NotMap5") == 3
    assert samples.of("a", "bad_frames_total", "FrameTooLarge") == 1
    assert samples.of("a", "guest_dropped_total", "proc", "q") == 12
    assert samples.of("a", "guest_dropped_total", "net", "s") == 3
    assert samples[("cellos_host_cells",)] == 3 and samples[("cellos_host_gone_cells_total",)] == 0
    assert ("cellos_host_build_info", "raw", VERSION) in samples
    assert samples[("cellos_host_state_kept",)] == 0
    assert 0 < samples[("process_resident_memory_bytes",)] < 64 << 20
    assert abs(samples[("process_start_time_seconds",)] - time.time()) < 2 * LIMIT
    ledgers = end(r)
    for cell in ("a", "b", "idle"):
        compare(samples, cell, ledgers[cell])


def test_cells_that_go_leave_their_sums():
    r = start({"id": "a"}, {"id": "b"})
    a = r.connect("a")
    a.sendall(beat(1, 0) + events(0, 4) + b"\3\0\0\0abc")
    await_that(lambda: listed()["a"]["received"] == 5, "all is read")
    cells_file({"id": "b"})
    r.process.send_signal(signal.SIGHUP)
    await_that(lambda: set(listed()) == {"b"}, "a is gone")
    samples = scrape()
    assert samples.of("a", "frames_total") is None
    gone = {name: samples[("cellos_host_gone_%s_total" % name,)]
            for name in ("cells", "frames", "emitted", "refused", "lost_in_host")}
    assert gone == {"cells": 1, "frames": 5, "emitted": 4, "refused": 1, "lost_in_host": 0}, gone
    end(r)


def test_silence_is_seen_and_its_end():
    r = start({"id": "a", "silence_window": 1})
    s = r.connect("a")
    s.sendall(beat(1, 0))
    seen = {}

    def see(silent):
        samples = scrape()
        seen[silent] = samples.of("a", "silences_total")
        return samples.of("a", "cell_silent") == silent

    def beat_and_see():
        s.sendall(beat(1, 0))  # each time anew: a slow look could find the next silence
        return see(0)
    await_that(lambda: see(1), "silence")
    assert seen[1] >= 1, seen
    await_that(beat_and_see, "its end")
    assert seen[0] >= seen[1], seen
    await_that(lambda: see(1), "another")
    # From here on nothing speaks: it has been said once, and the number stays.
    assert seen[1] > seen[0], seen
    assert end(r)["a"]["silences"] == seen[1], seen


def test_a_cell_that_is_refused():
    for name, value in (("declared", {"declared_surface": {"secret_refs": ["s"]}}),
                        ("authorized", {})):
        with open(name, "w", encoding="utf-8") as f:
            json.dump(value, f)
    r = start({"id": "a", "declared": "declared", "authorized": "authorized"})
    r.connect("a").sendall(beat(1, 0) + events(0, 3))
    await_that(lambda: scrape().of("a", "refused_total") == 3, "they are refused")
    samples = scrape()
    assert samples.of("a", "cell_admitted") == 0 and samples.of("a", "emitted_total") == 0
    end(r)
    os.unlink("declared")
    os.unlink("authorized")


def test_an_output_that_nobody_reads():
    r = start({"id": "a"})
    s = r.connect("a")
    s.setblocking(False)
    pending = b""
    while not scrape()[("cellos_host_output_blocked",)]:
        pending = pending or events(0, 2000)
        if select.select([], [s], [], 0.05)[1]:
            pending = pending[s.send(pending):]
    samples = scrape()
    assert samples[("cellos_host_output_buffered_bytes",)] > 0
    assert samples.of("a", "pending_events") > 0
    assert samples.of("a", "events_total") == \
        samples.of("a", "emitted_total") + samples.of("a", "pending_events")
    end(r)


def test_the_sink_and_its_spool():
    options = ("--state", "state", "--spool", "spool", "--spool-bytes", "4194304", "--stream", "S",
               "--sink")
    if not os.path.exists(SERVER):
        raise Skip("there is no nats-server")
    os.mkdir("store")
    server = Server(os.path.abspath("store"))
    try:
        try:
            r = start({"id": "a"}, options=(*options, server.url))
        except AssertionError as said:
            if "built without the NATS client library" not in str(said):
                raise
            os.unlink("cells.json")
            raise Skip("built without the NATS client library") from said
        r.connect("a").sendall(beat(1, 0) + events(0, 50))
        await_that(lambda: scrape()[("cellos_host_sink_acknowledged_total",)] >= 50, "published")
        await_that(lambda: scrape()[("cellos_host_sink_lag_bytes",)] == 0, "nothing is behind")
        samples = scrape()  # and nothing comes that could be
        assert samples[("cellos_host_sink_connected",)] == 1
        assert samples[("cellos_host_state_kept",)] == 1
        assert samples[("cellos_host_spool_size_bytes",)] == 4194304
        written = samples[("cellos_host_spool_written_bytes_total",)]
        assert samples[("cellos_host_spool_acknowledged_bytes_total",)] == written > 50
        assert samples[("cellos_host_sink_published_total",)] >= 50
        # Every number there can be is here, and in the document; and the other way round.
        with open(DOCUMENT, encoding="utf-8") as f:
            documented = set(re.findall(r"^\| `(\w+)` \| (gauge|counter) \|", f.read(), re.M))
        there = {(name + "_total" if kind == "counter" else name, kind)
                 for name, kind in samples.types.items()}
        assert documented == there, documented ^ there
        server.kill()
        await_that(lambda: scrape()[("cellos_host_sink_connected",)] == 0, "it is away")
        r.connect("a").sendall(beat(2, 50) + events(50, 10))
        await_that(lambda: scrape().of("a", "emitted_total") == 60, "spooled")
        samples = scrape()
        assert samples[("cellos_host_sink_lag_bytes",)] == \
            samples[("cellos_host_spool_written_bytes_total",)] - \
            samples[("cellos_host_spool_acknowledged_bytes_total",)] > 0
        end(r)
    finally:
        server.kill()
        subprocess.run(["rm", "-rf", "store", "state", "spool"], check=True)


# ---- many cells ---------------------------------------------------------------------------------


def test_many_cells_one_moment():
    count = 1000
    names = ["c%d" % i for i in range(count)]
    r = start(*({"id": name} for name in names))
    slow = dial()
    slow.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    first = slow.recv(1000)
    # While it does not read, the guests are served, cells go, and the next client is answered.
    guests = [r.connect(name) for name in names[:50]]
    for guest in guests:
        guest.sendall(beat(1, 0) + events(0, 2))
    await_that(lambda: sum(row["events"] for row in listed().values()) == 100, "all is read")
    fast = get()  # taken apart below: the slow one has 30 s, and a thousand cells are a long text
    cells_file(*({"id": name} for name in names[500:]))
    r.process.send_signal(signal.SIGHUP)
    await_that(lambda: len(listed()) == 500, "half of them are gone")
    # The slow one's picture is whole, and of the moment at which it asked.
    stream = [first]
    while stream[-1]:
        stream.append(slow.recv(1 << 16))
    answer = b"".join(stream)
    body = answer.split(b"\r\n\r\n", 1)[1]
    text, size = b"", None
    while size != 0:
        line, body = body.split(b"\r\n", 1)
        size = int(line, 16)
        text += body[:size]
        assert body[size:size + 2] == b"\r\n"
        body = body[size + 2:]
    assert body == b"" and len(text) > 2 * STUCK
    samples = Samples(fast)
    assert samples.of("c0", "events_total") == 2 and samples[("cellos_host_cells",)] == count
    old = Samples(text.decode())
    assert old[("cellos_host_cells",)] == count
    assert {old.of(name, "events_total") for name in (names[0], names[-1])} == {0}
    assert sum(1 for key in old if key[0] == "cellos_host_events_total") == count
    assert scrape()[("cellos_host_cells",)] == 500
    for guest in guests:
        guest.close()
    end(r)


# ---- HTTP ---------------------------------------------------------------------------------------

HOST = b"Host: x\r\n\r\n"


def test_what_may_be_asked():
    r = start({"id": "a"})
    for request, status in ((b"GET /metrics HTTP/1.1\r\n" + HOST, 200),
                            (b"\r\n\r\nGET /metrics HTTP/1.1\r\n" + HOST, 200),
                            (b"GET /metrics HTTP/1.1\nHOST: x\n\n", 200),
                            (b"GET /metrics?collect[]=x HTTP/1.1\r\n" + HOST, 200),
                            (b"GET http://x/metrics HTTP/1.1\r\n" + HOST, 200),
                            (b"GET /metrics HTTP/1.0\r\n\r\n", 200),
                            (b"GET / HTTP/1.1\r\n" + HOST, 404),
                            (b"GET /metricsx HTTP/1.1\r\n" + HOST, 404),
                            (b"GET http://x HTTP/1.1\r\n" + HOST, 404),
                            (b"GET //metrics HTTP/1.1\r\n" + HOST, 404),
                            (b"POST /metrics HTTP/1.1\r\nContent-Length: 3\r\n" + HOST + b"abc", 405),
                            (b"get /metrics HTTP/1.1\r\n" + HOST, 405),
                            (b"GET /metrics HTTP/1.1\r\n\r\n", 400),
                            (b"GET /metrics HTTP/1.1\r\nX-Host: x\r\n\r\n", 400),
                            (b"GET /metrics HTTP/2.0\r\n" + HOST, 505),
                            (b"GET /metrics HTTP/1.\r\n" + HOST, 505),
                            (b"GET /metrics\r\n\r\n", 400),
                            (b" /metrics HTTP/1.1\r\n" + HOST, 400),
                            (b"GET  HTTP/1.1\r\n" + HOST, 400),
                            (b"GET /metrics FTP/1.1\r\n" + HOST, 400),
                            (b"rubbish\r\n\r\n", 400),
                            (b"GET /met\0rics HTTP/1.1\r\n" + HOST, 400),
                            (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 8192, 431),
                            (b"GET /metrics HTTP/1.1\r\nX: " + b"y" * 100000, 431)):
        answer = ask(request)
        assert answer.startswith(b"HTTP/1.1 %d " % status), (request[:60], answer[:60])
        head, body = answer.split(b"\r\n\r\n", 1)
        fields = dict(line.lower().split(b": ") for line in head.split(b"\r\n")[1:])
        assert fields[b"connection"] == b"close"
        assert (b"allow" in fields) == (status == 405), fields
        assert (b"transfer-encoding" in fields) == (status == 200 and b"1.0" not in request), fields
        if status != 200:
            assert int(fields[b"content-length"]) == len(body) > 0
        assert (b"cellos_host_cells 1\n" in body) == (status == 200), body[:60]
    end(r)


def test_a_head_is_the_same_without_its_body():
    r = start({"id": "a"})
    whole = ask(b"GET /metrics HTTP/1.1\r\n" + HOST)
    assert ask(b"HEAD /metrics HTTP/1.1\r\n" + HOST) == whole.split(b"\r\n\r\n")[0] + b"\r\n\r\n"
    answer = ask(b"HEAD /x HTTP/1.1\r\n" + HOST)
    assert answer.startswith(b"HTTP/1.1 404 ") and answer.endswith(b"\r\n\r\n")
    end(r)


def test_a_request_byte_by_byte():
    r = start({"id": "a"})
    s = dial()
    for byte in b"GET /metrics HTTP/1.1\r\n" + HOST:
        s.sendall(bytes([byte]))
    assert until_end(s).startswith(b"HTTP/1.1 200 OK\r\n")
    end(r)


def test_what_comes_behind_the_request_does_not_cut_the_answer():
    r = start(*({"id": "c%d" % i} for i in range(300)))
    s = dial()
    s.sendall((b"GET /metrics HTTP/1.1\r\n" + HOST) * 2 + b"x" * 50000)
    answer = until_end(s)
    assert answer.endswith(b"\r\n000000\r\n\r\n") and answer.count(b"HTTP/1.1 200") == 1
    assert len(answer) > 300 * 1000
    end(r)


def test_half_requests_hold_nobody_up():
    r = start({"id": "a"})
    half = [dial() for _ in range(30)]
    for s in half:
        s.sendall(b"GET /metr")
    for _ in range(10):
        assert scrape()[("cellos_host_cells",)] == 1
    # Those that made way, and those that are over time.
    for s in half:
        expect_closed(s)
    end(r)


def test_who_does_not_read_holds_no_guest_up():
    r = start(*({"id": "c%d" % i} for i in range(1000)))
    before = resident(r)
    # All places, and some in the queue: nobody of them ever reads.
    stuck = []
    for _ in range(12):
        stuck.append(dial())
        stuck[-1].sendall(b"GET /metrics HTTP/1.1\r\n" + HOST)
    guest = r.connect("c0")
    guest.sendall(beat(1, 0) + events(0, 1000))
    for _ in range(1001):
        assert json.loads(r.out.next())["cell_id"] == "c0"
    # Eight pictures and eight buffers.
    assert resident(r) - before < 24 << 20, (resident(r), before)
    for s in stuck[:6]:
        s.close()
    assert scrape().of("c0", "events_total") == 1000
    for s in stuck[6:]:
        s.close()
    end(r)


def resident(r):
    with open("/proc/%d/statm" % r.process.pid, encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def test_many_at_once_are_all_answered():
    """More than there are places for, while the receiver is away for longer than anybody gets who
    does not ask: who has asked is answered all the same."""
    r = start(*({"id": "c%d" % i} for i in range(100)))
    first = [dial() for _ in range(8)]  # all places
    await_that(lambda: sockets_of(r, "m") == 1 + len(first), "they are accepted")
    stop(r)
    others = [dial() for _ in range(20)]  # first, so that they are seen first
    for s in others + first:
        s.sendall(b"GET /metrics HTTP/1.1\r\n" + HOST)
    time.sleep(0.6)  # more than twice as long: nothing tells
    r.process.send_signal(signal.SIGCONT)
    for s in first + others:
        assert until_end(s).endswith(b"\r\n000000\r\n\r\n")
    end(r)


def test_a_tail_that_the_receiver_comes_late_to():
    """What stands behind a request is read, also when the receiver was away meanwhile."""
    r = start(*({"id": "c%d" % i} for i in range(300)))
    for _ in range(10):
        s, began, answer = dial(), time.monotonic(), b""
        s.sendall(b"GET /metrics HTTP/1.1\r\n" + HOST)
        while not answer.endswith(b"\r\n000000\r\n\r\n"):
            answer += s.recv(1 << 16)
        assert s.recv(1) == b""  # its side is shut: what follows is the tail
        stop(r)
        if time.monotonic() - began < 0.9:  # else it may have been over already: we were slow
            break
        r.process.send_signal(signal.SIGCONT)
        s.close()
    s.sendall(b"x" * 50000)
    time.sleep(1.2)  # longer than a tail gets
    r.process.send_signal(signal.SIGCONT)
    await_that(lambda: unread(s) == 0, "the tail is read")
    assert s.recv(1) == b""  # an end still, and no reset
    s.close()
    end(r)


def unread(s):
    """Bytes of ours, and what the kernel needs for them, that the other end has not taken."""
    return struct.unpack("i", fcntl.ioctl(s, termios.TIOCOUTQ, b"\0" * 4))[0]


def sockets_of(r, path):
    """The receiver's ends of a Unix socket of that name: the one that listens, and one a client."""
    with open("/proc/net/unix", encoding="utf-8", errors="replace") as f:
        inodes = {"socket:[%s]" % line.split()[6] for line in f if line.rstrip().endswith(" " + path)}
    links = []
    for fd in os.listdir("/proc/%d/fd" % r.process.pid):
        try:
            links.append(os.readlink("/proc/%d/fd/%s" % (r.process.pid, fd)))
        except FileNotFoundError:
            pass  # closed since it was listed
    return sum(link in inodes for link in links)


def test_a_client_that_leaves_in_the_midst():
    r = start(*({"id": "c%d" % i} for i in range(500)))
    for _ in range(30):
        s = dial()
        s.sendall(b"GET /metrics HTTP/1.1\r\n" + HOST)
        s.recv(100)
        s.close()
    assert scrape()[("cellos_host_cells",)] == 500
    end(r)


# ---- where --------------------------------------------------------------------------------------


def test_on_a_port_of_this_machine():
    port = free_port()
    r = Receiver("--listen", "unix:s", "--metrics", "127.0.0.1:%d" % port, listen=None)
    samples = Samples(get(http.client.HTTPConnection("127.0.0.1", port, timeout=LIMIT)))
    assert samples.of("cell", "cell_connected") == 0
    with open("/proc/net/tcp", encoding="ascii") as f:
        listening = [line.split()[1] for line in f if line.split()[3] == "0A"]
    assert "0100007F:%04X" % port in listening, "not on the loopback alone"
    # A second receiver cannot have it, and says so.
    second = subprocess.run(
        [RECEIVER, "--listen", "unix:t", "--metrics", "127.0.0.1:%d" % port],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=LIMIT)
    assert second.returncode == 1
    assert second.stderr.decode().startswith(
        "cellos-telemetry-host: cannot serve metrics on 127.0.0.1:%d: Address already in use" % port)
    r.end()


def test_a_socket_of_its_owner_alone_that_goes_with_the_receiver():
    r = Receiver("--metrics", "unix:m")
    assert os.stat("m").st_mode & 0o777 == 0o600
    r.end()
    assert not os.path.exists("m")


if __name__ == "__main__":
    if text_string_to_metric_families is None:
        print("skipped: python3-prometheus-client is missing")
        sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)
    VERSION = subprocess.run([RECEIVER, "--version"], stdout=subprocess.PIPE, timeout=LIMIT,
                             check=True).stdout.decode().split()[1]
    run_tests(globals(), sys.argv[2:])
