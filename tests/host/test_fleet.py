#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""Many cells in one real receiver: configuration, control, admission, silence, and its own death.

usage: test_fleet.py RECEIVER [NAME...]

guest.py beside it has the encoder and the receiver's handling.
"""
import collections
import ctypes
import json
import os
import random
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
import threading
import time

from guest import (LIMIT, PATIENT, RECEIVER, Receiver, Skip, await_that, beat, ctl, event, events,
                   expect_closed, expect_quiet, fill, frame, listed, report, run_tests, unstamped)


def write(name, value):
    with open(name, "w", encoding="utf-8") as f:
        f.write(value if isinstance(value, str) else json.dumps(value))


def cell(name, **members):
    return {"id": name, "listen": "unix:" + name, "silence_window": PATIENT, **members}


def fleet(*cells, options=()):
    write("cells.json", {"cells": list(cells)})
    return Receiver("--cells", "cells.json", *options, listen=None)


def copies_of_descriptors(pid):
    """Of every socket that the process has: pidfd_getfd(2), which Python has no name for."""
    call, process = ctypes.CDLL(None, use_errno=True).syscall, os.pidfd_open(pid)
    sockets = [int(fd) for fd in os.listdir("/proc/%d/fd" % pid)
               if os.readlink("/proc/%d/fd/%s" % (pid, fd)).startswith("socket:")]
    copies = [call(438, process, fd, 0) for fd in sockets]
    os.close(process)
    if -1 in copies:
        raise Skip("cannot copy descriptors: " + os.strerror(ctypes.get_errno()))
    assert copies
    return copies


def end(r):
    """The ledgers, by cell; every other line that was left."""
    r.process.send_signal(signal.SIGTERM)
    lines = [json.loads(line) for line in r.out.until_end()]
    assert r.process.wait(LIMIT) == 0, r.words.until_end()
    ledgers = {line["cell_id"]: line for line in lines if line.get("report") == "ledger"}
    for ledger in ledgers.values():
        assert ledger["unsettled"] == 0, ledger
    for name in ("cells.json", "c"):
        if os.path.exists(name):
            os.unlink(name)
    return ledgers, [line for line in lines if line.get("report") != "ledger"]


def expect_of(r, name, *expected):
    for one in expected:
        line = r.out.next()
        got = unstamped(line, name, json.loads(line)["run_id"])
        assert got == one, (got, one)


# ---- stamps -------------------------------------------------------------------------------------


def test_stamps_are_the_hosts_alone():
    write("adg.json", '{ "b": [1.50, {}],\n "a": "x y" }')
    r = Receiver("--cell-id", "web-1", "--run-id", "r_7", "--spec-signature-hash", "sha256:ab",
                 "--adg", "adg.json")
    s = r.connect()
    s.sendall(beat(1, 0) + events(5, 1))
    for _ in range(2):
        line = r.out.next()
        got = json.loads(line)
        assert (got["cell_id"], got["run_id"]) == ("web-1", "r_7"), got
        assert got["spec_signature_hash"] == "sha256:ab" and got["epoch"] == 1, got
        assert '"output":{"b":[1.50,{}],"a":"x y"}' in line, line
    assert got["seq"] == 1 and got["guest_monotonic_ns"] == 5
    r.process.terminate()
    r.out.until_end()
    assert r.process.wait(LIMIT) == 0
    os.unlink("adg.json")


# ---- cells --------------------------------------------------------------------------------------


def test_each_cell_has_its_own_account():
    r = fleet(cell("a"), cell("b", run="2"), cell("idle"))
    a, b = r.connect("a"), r.connect("b")
    a.sendall(beat(1, 0, pid=1) + events(0, 2))
    expect_of(r, "a", report("heartbeat", epoch=1, sent=0), event(0), event(1))
    b.sendall(beat(1, 0, pid=2) + events(0, 1) + b"\3\0\0\0abc" + beat(0, 2, pid=2))
    expect_of(r, "b", report("heartbeat", epoch=1, sent=0), event(0), report("goodbye", sent=2),
              report("bad_frame", error="NotMap5", count=1))
    again = r.connect("a")
    expect_closed(again)
    ledgers, _ = end(r)
    assert set(ledgers) == {"a", "b", "idle"}
    assert (ledgers["a"]["frames"], ledgers["a"]["emitted"], ledgers["a"]["contested"]) == (2, 2, 1)
    assert (ledgers["b"]["frames"], ledgers["b"]["emitted"]) == (2, 1)
    assert ledgers["b"]["run_id"] == "2" and ledgers["idle"]["frames"] == 0


def test_a_connection_of_which_another_process_has_a_copy():
    """Closing it does not take it out of the kernel's set of what is watched."""
    r = fleet(cell("a"))
    a = r.connect("a")
    a.sendall(beat(1, 0) + events(0, 1))
    expect_of(r, "a", report("heartbeat", epoch=1, sent=0), event(0))
    copies = copies_of_descriptors(r.process.pid)
    a.close()
    a = r.connect("a")
    a.sendall(beat(2, 1) + events(1, 1) + beat(0, 2))
    expect_of(r, "a", report("ended_without_goodbye", complete_up_to=1),
              report("heartbeat", epoch=2, sent=1), event(1), report("goodbye", sent=2))
    ledgers, _ = end(r)
    for copy in copies:
        os.close(copy)
    assert ledgers["a"]["emitted"] == 2 and ledgers["a"]["epochs"] == 2, ledgers


def test_cells_come_and_go_without_touching_the_others():
    r = fleet(cell("stays"), cell("goes"), cell("changes"))
    sockets = {name: r.connect(name) for name in ("stays", "goes", "changes")}
    for name, s in sockets.items():
        s.sendall(beat(1, 0) + events(0, 1))
        expect_of(r, name, report("heartbeat", epoch=1, sent=0), event(0))
    inode = os.stat("stays").st_ino
    sockets["goes"].sendall(events(1, 1))
    write("cells.json", {"cells": [cell("comes"), cell("changes", hash="new"), cell("stays")]})
    r.process.send_signal(signal.SIGHUP)
    r.await_word("cells read again")
    expect_closed(sockets["goes"])
    expect_closed(sockets["changes"])
    assert not os.path.exists("goes") and os.stat("stays").st_ino == inode
    lines = [json.loads(r.out.next()) for _ in range(5)]
    # What had arrived is the cell's still; its last line is its ledger.
    of = {name: [l.get("report", "event") for l in lines if l["cell_id"] == name]
          for name in ("goes", "changes")}
    assert of == {"goes": ["event", "ended_without_goodbye", "ledger"],
                  "changes": ["ended_without_goodbye", "ledger"]}, lines
    for name in ("comes", "changes"):
        sockets[name] = r.connect(name)
        sockets[name].sendall(beat(1, 0))
        line = r.out.next()
        assert json.loads(line).get("spec_signature_hash") == \
            ("new" if name == "changes" else None), line
    sockets["stays"].sendall(events(1, 1))
    expect_of(r, "stays", event(1))
    ledgers, _ = end(r)
    assert ledgers["stays"]["frames"] == 2 and set(ledgers) == {"stays", "comes", "changes"}


def test_a_bad_file_changes_nothing():
    r = fleet(cell("a"), options=["--ctl", "unix:c"])
    s = r.connect("a")
    for bad, words in (
            ("{", ["cells.json: not JSON at byte 1"]),
            ({"cells": [cell("b"), cell("b", listen="tcp:1")]},
             ["cells.json: cells[1].listen: an address is unix:PATH, firecracker:BASE or "
              "vsock:PORT"]),
            ({"cells": [cell("b"), cell("b", silence=1), cell("c", run="")]},
             ["cells.json: cells[1]: 'silence' is no member of it",
              "cells.json: cells[2].run: it is empty"]),
            ({"cells": [cell("x"), cell("y", listen="unix:x")]},
             ["cells.json: cells[1].listen: cells[0] has the same"])):
        write("cells.json", bad)
        r.process.send_signal(signal.SIGHUP)
        for word in words:
            r.await_word("cannot use " + word)
        r.expect_word("cells read again")
    os.unlink("cells.json")
    r.process.send_signal(signal.SIGHUP)
    r.await_word("cannot use cells.json: No such file or directory")
    assert set(listed()) == {"a"}
    s.sendall(beat(1, 0))
    expect_of(r, "a", report("heartbeat", epoch=1, sent=0))
    # One that was added by hand is not the file's to take away, nor to give twice.
    assert ctl("add", json.dumps(cell("hand")))[0] == 0
    write("cells.json", {"cells": [cell("a"), cell("hand")]})
    r.process.send_signal(signal.SIGHUP)
    r.await_word("cannot use cells[1]: cell 'hand', which was added by hand, has its id or address")
    write("cells.json", {"cells": []})
    r.process.send_signal(signal.SIGHUP)
    await_that(lambda: set(listed()) == {"hand"}, "a is gone")
    end(r)


def read_again(r, *cells):
    """Nothing is said against them."""
    write("cells.json", {"cells": list(cells)})
    r.process.send_signal(signal.SIGHUP)
    while (word := r.words.next()) != "cellos-telemetry-host: cells read again":
        assert ": cannot " not in word, word


def test_cells_that_take_over_each_others_addresses():
    r = fleet(cell("a"), cell("b"), cell("old"), options=["--ctl", "unix:c"])
    for first, second in (("b", "a"), ("a", "b")):  # whichever of them is looked at first
        read_again(r, cell("a", listen="unix:" + first), cell("b", listen="unix:" + second),
                   cell("old"))
        assert {n: l["listen"] for n, l in listed().items()} == \
            {"a": "unix:" + first, "b": "unix:" + second, "old": "unix:old"}, listed()
    # One moves to where one was that goes, and a new one to where that one was.
    read_again(r, cell("a", listen="unix:old"), cell("b"), cell("new", listen="unix:a"))
    assert {n: l["listen"] for n, l in listed().items()} == \
        {"a": "unix:old", "b": "unix:b", "new": "unix:a"}, listed()
    for name, address in (("a", "old"), ("b", "b"), ("new", "a")):
        s = r.connect(address)
        s.sendall(beat(1, 0) + beat(0, 0))
        s.close()
        while json.loads(line := r.out.next())["report"] != "goodbye":
            pass
        assert json.loads(line)["cell_id"] == name, line
    end(r)


def test_a_changed_cell_is_summed_once():
    """With a state its account goes on, and nothing of it is gone; without, it begins anew."""
    for options in ((), ("--state", "state")):
        r = fleet(cell("a"), options=options)
        for n, members in enumerate(({}, {"hash": "1"}, {"hash": "2"})):
            read_again(r, cell("a", **members))
            with r.connect("a") as s:
                s.sendall(beat(n + 1, 2 * n) + events(2 * n, 2) + beat(n + 1, 2 * n + 2))
            while json.loads(r.out.next()).get("report") != "ended_without_goodbye":
                pass
        end(r)
        words = r.words.until_end()
        assert words[-1] == "cellos-telemetry-host: received 6, emitted 6, refused 0, " \
            "lost in host 0", (options, words)
    os.unlink("state")


def test_a_file_read_again_while_cells_are_going():
    """The output is not read, so they cannot go yet: what the file said last is what counts."""
    r = fleet(cell("a"), cell("b"), cell("d"), cell("fills"), options=["--ctl", "unix:c"])
    s = r.connect("fills")
    s.sendall(beat(1, 0))
    made, pending = fill(r, s)
    read_again(r, cell("a", hash="1"), cell("b", hash="1"), cell("fills"))
    assert [n for n, l in sorted(listed().items()) if l["closing"]] == ["a", "b", "d"]
    read_again(r, cell("a", hash="2"), cell("d"), cell("fills"))
    lines = []
    reader = threading.Thread(target=lambda: lines.extend(map(json.loads, r.out.until_end())))
    reader.start()
    s.sendall(pending + beat(0, made))
    await_that(lambda: not any(l["closing"] for l in listed().values()), "they are gone")
    assert set(listed()) == {"a", "d", "fills"}, listed()
    with r.connect("a") as guest:
        guest.sendall(beat(1, 0))
        await_that(lambda: listed()["a"]["epoch"] == 1, "the changed cell listens")
    r.process.terminate()
    reader.join(LIMIT)
    assert r.process.wait(LIMIT) == 0
    ledgers = [l for l in lines if l.get("report") == "ledger"]
    assert [l.get("spec_signature_hash") for l in ledgers if l["cell_id"] == "a"] == [None, "2"]
    assert [l.get("spec_signature_hash") for l in ledgers if l["cell_id"] == "b"] == [None]
    assert sum("probe_source" in l for l in lines) == made
    os.unlink("cells.json")


def test_a_bad_file_at_the_start():
    write("cells.json", {"cells": [cell("a"), cell("a")]})
    p = subprocess.run([RECEIVER, "--cells", "cells.json"], stderr=subprocess.PIPE, timeout=LIMIT)
    assert p.returncode == 1
    assert p.stderr.decode().splitlines() == [
        "cellos-telemetry-host: cannot use cells.json: cells[1].id: cells[0] has the same",
        "cellos-telemetry-host: cannot use cells.json: cells[1].listen: cells[0] has the same"]
    write("cells.json", {"cells": [cell("a", listen="unix:no/a")]})
    p = subprocess.run([RECEIVER, "--cells", "cells.json"], stderr=subprocess.PIPE, timeout=LIMIT)
    assert p.returncode == 1 and b"cannot use unix:no/a: No such file" in p.stderr, p.stderr
    os.unlink("cells.json")


# ---- control ------------------------------------------------------------------------------------


def test_control():
    r = fleet(cell("a"), options=["--ctl", "unix:c"])
    assert stat.S_IMODE(os.stat("c").st_mode) == 0o600
    assert ctl("add", json.dumps(cell("b", run="9"), indent=1)) == (0, [{"ok": True}], "")
    s = r.connect("b")
    s.sendall(beat(3, 0) + events(0, 2) + b"\3\0\0\0abc")
    await_that(lambda: listed()["b"]["received"] == 3, "three frames")
    await_that(lambda: listed()["b"]["pending"] == 0, "they are out")
    b = listed()["b"]
    assert b["connected"] and b["admitted"] and not b["silent"] and not b["closing"], b
    assert (b["run_id"], b["listen"], b["epoch"], b["seq"]) == ("9", "unix:b", 3, 2), b
    assert (b["emitted"], b["bad"], b["dropped"]) == (2, {"NotMap5": 1}, {}), b
    assert not listed()["a"]["connected"]
    assert ctl("add", json.dumps(cell("b"))) == \
        (1, [{"error": "cell: there is one of this id or address"}], "")
    code, lines, _ = ctl("add", json.dumps({"id": "/", "listen": "x", "policy": "y"}))
    assert code == 1 and [sorted(line) for line in lines] == [["error"]] * 3, lines
    assert lines[1]["error"].startswith("cell: listen: an address is"), lines
    assert ctl("add", "{")[:2] == (1, [{"error": "cell: not JSON at byte 1"}])
    assert ctl("remove", "x") == (1, [{"error": "there is no such cell"}], "")
    assert ctl("remove", "b") == (0, [{"ok": True}], "")
    expect_closed(s)
    assert set(listed()) == {"a"} and not os.path.exists("b")
    ledgers, _ = end(r)
    assert ledgers["b"]["emitted"] == 2  # removed, and its ledger written all the same
    code, _, words = ctl("list")
    assert code == 1 and "cannot connect to c: No such file" in words, words


def test_control_withstands_bad_clients():
    r = fleet(cell("a"), options=["--ctl", "unix:c"])
    waiting = []
    for request in (b"", b"l", b"\0" * 40000, b"nonsense\n", b"add \n", b"x" * 40000 + b"\n"):
        for _ in range(10):
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(LIMIT)
            s.connect("c")
            try:
                s.sendall(request)
            except OSError:
                pass  # the request was too long
            waiting.append(s)
        assert set(listed()) == {"a"}
    for s in waiting:
        s.close()
    assert set(listed()) == {"a"}
    end(r)


def test_control_without_a_descriptor():
    """The client waits, the receiver does not spin, and once there is one it is answered."""
    r = fleet(cell("a"), options=["--ctl", "unix:c"])
    soft, hard = resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, (0, hard))
    with socket.socket(socket.AF_UNIX) as s:
        s.settimeout(LIMIT)
        s.connect("c")
        s.sendall(b"list\n")
        expect_quiet(r)
        resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        assert json.loads(s.makefile().read())["cell_id"] == "a"
    end(r)


def test_an_answer_that_does_not_come():
    """No answer is none: whoever adds a cell must not believe that it is there."""
    with socket.socket(socket.AF_UNIX) as server:
        server.settimeout(LIMIT)
        server.bind("c")
        server.listen()
        for answer, words, code in ((b"", ("add", "{}"), 1), (b"", ("remove", "x"), 1),
                                    (b"", ("list",), 0), (b'{"a":1}\n{"b"', ("list",), 1)):
            p = subprocess.Popen([RECEIVER, "ctl", "--ctl", "unix:c", *words],
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            s, _ = server.accept()
            with s:
                assert s.makefile().readline() == " ".join(words) + "\n"
                s.sendall(answer)
            out, said = p.communicate(timeout=LIMIT)
            assert (p.returncode, out) == (code, answer), (words, p.returncode, out, said)
            assert (b"cannot talk to c" in said) == (code == 1), said
    os.unlink("c")


# ---- admission ----------------------------------------------------------------------------------


def declare(**surface):
    return {"declared_surface": surface, "agent_version": "1"}


def test_admission():
    write("may.json", declare(dns_queries=["*.example.com"], secret_refs=["s"],
                              egress_rules=[{"host": "API", "port": 443, "protocol": "tcp"}]))
    write("good.json", declare(dns_queries=["a.EXAMPLE.com"],
                               egress_rules=[{"host": "api", "port": 443, "protocol": "tcp"}]))
    write("bad.json", declare(dns_queries=["example.com", "b.example.com"], secret_refs=["t"]))
    r = fleet(cell("good", declared="good.json", authorized="may.json"),
              cell("bad", declared="bad.json", authorized="may.json"),
              cell("told", declared="bad.json", authorized="may.json", policy="report"))
    words = ["secret_refs[0]: 't' is not authorized",
             "dns_queries[0]: 'example.com' is not authorized"]
    seen = collections.defaultdict(list)
    for _ in range(4):
        line = json.loads(r.out.next())
        assert line["report"] == "declaration_refused", line
        seen[line["cell_id"]].append(line["violation"])
    assert seen == {"bad": words, "told": words}, seen
    for name, comes in (("good", True), ("bad", False), ("told", True)):
        s = r.connect(name)
        s.sendall(beat(1, 0) + events(0, 3) + b"\3\0\0\0abc" + beat(0, 4))
        s.close()
        expect_of(r, name, report("heartbeat", epoch=1, sent=0),
                  *([event(0), event(1), event(2)] if comes else []), report("goodbye", sent=4),
                  report("bad_frame", error="NotMap5", count=1))
    ledgers, _ = end(r)
    for name, emitted, refused in (("good", 3, 0), ("bad", 0, 3), ("told", 3, 0)):
        got = ledgers[name]
        assert (got["frames"], got["emitted"], got["refused"]) == (4, emitted, refused), got
    for name in ("may.json", "good.json", "bad.json"):
        os.unlink(name)


# ---- silence ------------------------------------------------------------------------------------


def silences_in(story):
    """How often a cell's lines say silence; each must end before the next, and by a frame."""
    count, silent = 0, False
    for kind, behind in zip(story, [*story[1:], None]):
        if kind == "agent_silenced":
            assert not silent, story
            count += 1
        elif kind == "agent_recovered":
            assert silent and behind == "heartbeat", story
        elif kind == "heartbeat":
            assert not silent, story
        silent = kind == "agent_silenced" or (silent and kind != "agent_recovered")
    return count


def test_silence_is_said_once_and_so_is_its_end():
    """However slow this is: a silence more is none too much when its end was said, and a frame came."""
    r = fleet(cell("short", silence_window=1), cell("long"), cell("never", silence_window=1))
    s, other = r.connect("short"), r.connect("long")
    stories, waits = collections.defaultdict(list), []

    def take(line):
        stories[line["cell_id"]].append(line["report"])
        if line["report"] == "agent_recovered":
            waits.append(line["silent_ms"])

    def until(condition):
        while not condition():
            take(json.loads(r.out.next()))
    s.sendall(beat(1, 0))
    other.sendall(beat(1, 0))
    until(lambda: stories["short"][-1:] == ["agent_silenced"] and "heartbeat" in stories["short"]
          and stories["never"] and stories["long"])
    time.sleep(1.5)  # more than another window: nothing may be said
    s.sendall(beat(1, 0))
    until(lambda: stories["short"].count("heartbeat") == 2)
    assert waits[-1] >= 2000, waits
    ledgers, rest = end(r)
    for line in rest:
        take(line)
    assert stories["never"] == ["agent_silenced"], stories
    assert stories["long"] == ["heartbeat", "ended_without_goodbye"], stories
    assert stories["short"].count("ended_without_goodbye") == 1, stories
    assert {name: l["silences"] for name, l in ledgers.items()} == \
        {"short": silences_in(stories["short"]), "long": 0, "never": 1}, (ledgers, stories)
    assert len(waits) <= ledgers["short"]["silences"] <= len(waits) + 1, (ledgers, stories)


def test_a_receiver_that_was_stopped_calls_nobody_silent():
    """It did not listen, so nobody was silent: neither who spoke, nor who may have tried to."""
    r = fleet(cell("speaks", silence_window=4), cell("knocks", silence_window=4),
              options=["--ctl", "unix:c"])
    s = r.connect("speaks")
    s.sendall(beat(1, 0))
    expect_of(r, "speaks", report("heartbeat", epoch=1, sent=0))
    r.process.send_signal(signal.SIGSTOP)
    s.sendall(beat(1, 0))
    other = r.connect("knocks")
    other.sendall(beat(1, 0))
    time.sleep(6)  # more than a window: what it is about
    r.process.send_signal(signal.SIGCONT)
    lines = [json.loads(r.out.next()) for _ in range(2)]
    assert [l["report"] for l in lines] == ["heartbeat"] * 2, lines
    # And the clock goes on as ever.
    silenced = {json.loads(r.out.next())["report"] for _ in range(2)}
    assert silenced == {"agent_silenced"}, silenced
    ledgers, _ = end(r)
    assert [ledger["silences"] for ledger in ledgers.values()] == [1, 1], ledgers


# ---- full disks ---------------------------------------------------------------------------------


def on_a_small_disk(filler, *options):
    """A receiver whose output is on a file system of 1 MiB with so much in it, and the way there."""
    script = ("mount -t tmpfs -o size=1m none mnt && head -c %s /dev/zero >mnt/filler && "
              "exec \"$0\" \"$@\"" % filler)
    if subprocess.run(["unshare", "-rm", "true"], stderr=subprocess.DEVNULL).returncode != 0:
        raise Skip("no mount namespace of one's own is allowed here")
    os.makedirs("mnt", exist_ok=True)
    # A namespace of its own: the mount ends with the receiver.
    r = Receiver("--output", "mnt/out", *options, before=["unshare", "-rm", "sh", "-c", script])
    return r, "/proc/%d/root%s/mnt/" % (r.process.pid, os.getcwd())


def test_a_disk_that_has_room_again():
    """Nearly full: what came meanwhile is written once there is room."""
    r, inside = on_a_small_disk("1000k")
    s = r.connect()
    r.expect_word("connection accepted")
    s.sendall(beat(1, 0) + events(0, 2000) + beat(0, 2000))
    s.close()
    r.await_word("cannot write mnt/out: No space left on device; waiting for room, nothing is lost")
    os.unlink(inside + "filler")

    def is_whole():
        with open(inside + "out", "rb") as out:
            text = out.read()
        return b"goodbye" in text and text.endswith(b"\n")
    await_that(is_whole, "the last line")
    lines = [unstamped(line) for line in open(inside + "out", encoding="utf-8")]
    assert [l["guest_monotonic_ns"] for l in lines if "report" not in l] == list(range(2000))
    r.process.terminate()
    assert r.process.wait(LIMIT) == 0
    os.rmdir("mnt")


def test_a_disk_that_stays_full():
    """The last line that fitted is emitted; what is lost are the others, and no more of them."""
    for form in ("raw", "cloudevents"):
        r, inside = on_a_small_disk("700k", "--format", form)
        s = r.connect()
        s.sendall(beat(1, 0) + events(0, 3000) + beat(1, 3000))
        r.await_word("cannot write mnt/out: No space left on device; waiting for room, nothing is "
                     "lost")
        with open(inside + "out", "rb") as f:
            r.process.terminate()
            assert r.process.wait(LIMIT) == 1
            whole = f.read().split(b"\n")[:-1]
        out = sum(b"guest_comm" in line for line in whole)
        assert 0 < out < 3000, out
        words = r.words.until_end()
        received, emitted, refused, lost = map(int, re.findall("[0-9]+", words[-1]))
        # What is whole in the file, and not a line less; the guest may not have been read to its end.
        assert (emitted, refused) == (out, 0) and received == emitted + lost > out, (out, words)
    os.rmdir("mnt")


# ---- hostile guests -----------------------------------------------------------------------------


def hostile(path, done):
    """Threads that misbehave, each in its own way, until told to stop."""
    def slowly(s):
        for byte in beat(1, 0) + events(0, 100000):
            if done.is_set():
                return
            s.sendall(bytes([byte]))
            time.sleep(0.001)

    def half(s):
        while not done.is_set():
            s.sendall(events(0, 1)[:-1])
            s.close()
            s = connect_again()

    def fat(s):
        body = b"\0\x10\0\0" + bytes(4096)
        while not done.is_set():
            s.sendall(body * 16)

    def bad(s):
        frames = b"\3\0\0\0abc" * 8000
        sent = 0
        while sent < 1000000:
            s.sendall(frames)
            sent += 8000
        done.wait()

    def corpus(s):
        folder = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../fuzz/corpus/fuzz_stream")
        inputs = [open(os.path.join(folder, n), "rb").read() for n in sorted(os.listdir(folder))]
        while not done.is_set():
            for data in inputs:
                try:
                    s.sendall(data)
                except OSError:
                    s = connect_again()
                if done.is_set():
                    return

    def connect_again():
        s = socket.socket(socket.AF_UNIX)
        s.connect(path)
        return s

    def live(how):
        try:
            how(connect_again())
        except OSError:
            pass  # the receiver has ended

    how = {"slow": slowly, "half": half, "fat": fat, "bad": bad, "corpus": corpus}[path]
    thread = threading.Thread(target=live, args=(how,), daemon=True)
    thread.start()
    return thread


def test_hostile_guests_beside_good_ones():
    kinds = ("slow", "half", "fat", "bad", "corpus")
    good = ["good-%d" % i for i in range(5)]
    began = time.monotonic()
    r = fleet(*(cell(n) for n in (*kinds, *good)), options=["--ctl", "unix:c"])
    lines, failed = [], []

    def collect():
        try:
            lines.extend(json.loads(line) for line in r.out.until_end())
        except AssertionError as error:
            failed.append(error)
    reader = threading.Thread(target=collect)
    reader.start()
    done = threading.Event()
    threads = [hostile(kind, done) for kind in kinds]
    sockets = {name: r.connect(name) for name in good}
    for s in sockets.values():
        s.sendall(beat(1, 0))
    for i in range(100):
        for s in sockets.values():
            s.sendall(events(20 * i, 20))
        time.sleep(0.01)
    for s in sockets.values():
        s.sendall(beat(0, 2000))
        s.close()
    for least in range(100000, 1000001, 100000):  # each step has all the time of a wait
        await_that(lambda: listed()["bad"]["received"] >= least, "a million bad frames")
    await_that(lambda: listed()["corpus"]["received"] > 0, "the corpus")
    done.set()
    for thread in threads:
        thread.join(LIMIT)
    r.process.terminate()
    reader.join(LIMIT)
    assert not failed and not reader.is_alive() and r.process.wait(LIMIT) == 0, failed
    ticks = (time.monotonic() - began) * 10
    of = collections.defaultdict(list)
    ledgers = {}
    for line in lines:
        if line.get("report") == "ledger":
            ledgers[line["cell_id"]] = line
        elif "report" not in line:
            of[line["cell_id"]].append((line["seq"], line["guest_monotonic_ns"]))
    for name in good:
        assert of[name] == [(i + 1, i) for i in range(2000)], (name, len(of[name]))
        assert ledgers[name]["lost_in_flight"] == 0 and ledgers[name]["bad"] == {}, ledgers[name]
    for ledger in ledgers.values():
        assert ledger["unsettled"] == 0, ledger
    assert ledgers["bad"]["bad"] == {"NotMap5": 1000000}, ledgers["bad"]
    assert ledgers["fat"]["bad"].keys() == {"NotMap5"} and ledgers["half"]["frames"] == 0, ledgers
    assert ledgers["corpus"]["frames"] > 0, ledgers["corpus"]
    # A million bad frames make a few lines, not a million: one at each tick, and one at the end.
    told = sum(1 for l in lines if l["cell_id"] == "bad" and l.get("report") == "bad_frame")
    assert 1 <= told <= ticks + 1, (told, ticks)
    for name in ("cells.json",):
        os.unlink(name)


# ---- its own death ------------------------------------------------------------------------------


class Agent:
    """What the guest's agent does, as far as the ledger goes: epochs, sent, whole frames again."""

    def __init__(self, path, pid):
        self.path, self.pid = path, pid
        self.epoch = self.sent = 0
        self.socket = None

    def connect(self):
        while self.socket is None:
            s = socket.socket(socket.AF_UNIX)
            try:
                s.connect(self.path)
            except OSError:
                s.close()
                time.sleep(0.002)
                continue
            self.socket = s
        self.epoch += 1
        self.rest = beat(self.epoch, self.sent, self.pid)
        self.rest_frames = 0

    def send(self, first, count):
        """`count` events; those not wholly given to the socket when it breaks are sent again."""
        frames = [frame("process.spawned", ns=n) for n in range(first, first + count)]
        while frames:
            if self.socket is None:
                self.connect()
                if not self._write([self.rest], False):
                    continue
            done = self._write(frames, True)
            frames = frames[self.taken:]
            if done:
                return

    def _write(self, frames, are_events):
        data, at = b"".join(frames), 0
        self.taken = 0
        ok = True
        while at < len(data):
            try:
                at += self.socket.send(data[at:])
            except OSError:
                self.socket.close()
                self.socket = None
                ok = False
                break
        if are_events:
            while self.taken < len(frames) and at >= len(frames[self.taken]):
                at -= len(frames[self.taken])
                self.taken += 1
            self.sent += self.taken
        return ok

    def goodbye(self):
        while True:
            if self.socket is None:
                self.connect()
                if not self._write([self.rest], False):
                    continue
            if self._write([beat(self.epoch, self.sent, self.pid), beat(0, self.sent, self.pid)],
                           False):
                break
        self.socket.close()


def whole_lines(name):
    """The lines that parse. One for each kill may have been cut: it is ended, and no more."""
    cut, lines = 0, []
    with open(name, encoding="utf-8") as f:
        for text in f:
            try:
                lines.append(json.loads(text))
            except ValueError:
                cut += 1
    return lines, cut


def test_killed_and_started_again():
    kills, cells = 6, ("a", "b")
    write("cells.json", {"cells": [cell(name) for name in cells]})
    options = ["--cells", "cells.json", "--state", "state", "--output", "out", "--ctl", "unix:c"]
    made, going = collections.Counter(), threading.Event()

    def produce(name, agent):
        while not going.is_set():
            agent.send(made[name], 50)
            made[name] += 50
    r = Receiver(*options, listen=None)
    agents = {name: Agent(name, 100 + i) for i, name in enumerate(cells)}
    threads = [threading.Thread(target=produce, args=pair, daemon=True) for pair in agents.items()]
    for thread in threads:
        thread.start()
    randomly = random.Random(4)
    for _ in range(kills):
        before = dict(made)
        await_that(lambda: all(made[n] > before.get(n, 0) + 2000 for n in cells), "events")
        time.sleep(randomly.random() / 50)
        r.process.kill()
        r.process.wait(LIMIT)
        r.process.stderr.close()
        r = Receiver(*options, listen=None)
    going.set()
    for thread in threads:
        thread.join(LIMIT)
    for agent in agents.values():
        agent.goodbye()
    await_that(lambda: not any(l["connected"] for l in listed().values()), "the goodbyes")
    r.process.terminate()
    assert r.process.wait(LIMIT) == 0
    lines, cut = whole_lines("out")
    assert cut <= kills, cut
    for name in cells:
        mine = [l for l in lines if l["cell_id"] == name]
        ledger = [l for l in mine if l.get("report") == "ledger"][-1]
        ids = [(l["incarnation"], l["seq"]) for l in mine if "report" not in l]
        moments = [l["guest_monotonic_ns"] for l in mine if "report" not in l]
        assert len(set(ids)) == len(ids), "an id was given twice"
        assert len(set(moments)) == len(moments), "an event came out twice"
        assert ids == sorted(ids) and moments == sorted(moments)
        assert [l for l in mine if l.get("report") in ("joined", "agent_restarted")] == []
        assert ledger["unsettled"] == 0 and ledger["incarnation"] == 1, ledger
        # Sent = received and counted; received = out, but for what a kill may have left unsaid.
        assert agents[name].sent == made[name] == ledger["frames"] + ledger["lost_in_flight"], ledger
        assert ledger["emitted"] <= len(ids) <= ledger["emitted"] + ledger["lost_in_host"], ledger
        assert ledger["epochs"] >= kills, ledger
        lost = [l["count"] for l in mine if l.get("report") == "lost_in_host"]
        assert (lost[-1] if lost else 0) == ledger["lost_in_host"], lost
    for name in ("cells.json", "state", "out"):
        os.unlink(name)


def test_a_state_of_another_process():
    r = Receiver("--state", "state")
    p = subprocess.run([RECEIVER, "--listen", "unix:t", "--state", "state"], stderr=subprocess.PIPE,
                       timeout=LIMIT)
    assert p.returncode == 1
    assert p.stderr.decode() == "cellos-telemetry-host: cannot use state state: another process " \
        "has it\n", p.stderr
    r.process.terminate()
    assert r.process.wait(LIMIT) == 0
    write("state", "no state at all")
    p = subprocess.run([RECEIVER, "--listen", "unix:t", "--state", "state"], stderr=subprocess.PIPE,
                       timeout=LIMIT)
    assert p.returncode == 1 and \
        b"cannot use state state: it is none, or of another version" in p.stderr, p.stderr
    assert open("state").read() == "no state at all"
    os.unlink("state")


run_tests(globals(), sys.argv[2:])
