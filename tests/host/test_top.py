#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""`top` in a real terminal (tmux), over a real receiver with real guests.

usage: test_top.py RECEIVER [NAME...]

guest.py beside it has the encoder and the receiver's handling.
"""
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

from guest import (LIMIT, PATIENT, RECEIVER, Receiver, Skip, await_that, beat, events, frame, row,
                   run_tests, state_of)

TOP = [RECEIVER, "top", "--ctl", "unix:c"]
HEAD, FOOT = 5, 1  # lines of the screen that are no rows


def start(*cells, silence_window=PATIENT):
    with open("cells.json", "w", encoding="utf-8") as f:
        json.dump({"cells": [{"listen": "unix:s-" + c, "id": c, "silence_window": silence_window}
                             for c in cells]}, f)
    return Receiver("--cells", "cells.json", "--output", "out", "--ctl", "unix:c", listen=None,
                    stdout=None)


def end(r, how=signal.SIGTERM):
    r.process.send_signal(how)
    r.process.wait(LIMIT)
    for name in os.listdir("."):
        if name in ("out", "cells.json", "c") or name.startswith("s-"):
            os.unlink(name)


def once(*options, command=tuple(TOP)):
    return subprocess.run([*command, "--once", *options], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=LIMIT)


def table(*options):
    """Rows of --once, each a dictionary by heading."""
    done = once(*options)
    assert (done.returncode, done.stderr) == (0, b""), done
    lines = done.stdout.decode("ascii").splitlines()
    heads = lines[0].split()
    return [dict(zip(heads, line.split(None, len(heads) - 1))) for line in lines[1:]]


class Terminal:
    """A tmux of its own with `top` in it; what came of it is written behind it."""

    servers = []  # process ids

    def __init__(self, columns=110, lines=24, command=shlex.join(TOP)):
        self.tmux("-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines),
                  "%s; echo \"exit $?\"; exec sleep 1000" % command)
        self.server = int(self.tmux("display-message", "-p", "#{pid}"))
        Terminal.servers.append(self.server)

    @staticmethod
    def tmux(*words):
        return subprocess.run(["tmux", "-S", "tmux", *words], stdout=subprocess.PIPE, timeout=LIMIT,
                              check=True).stdout.decode()

    def lines(self):
        return self.tmux("capture-pane", "-p").splitlines()

    def look(self):
        return "\n".join(self.lines())

    def colours(self):
        return self.tmux("capture-pane", "-p", "-e")

    def press(self, *keys):
        self.tmux("send-keys", *keys)

    def resize(self, columns, lines):
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def expect(self, pattern):
        await_that(lambda: re.search(pattern, self.look(), re.M), lambda: "%s in\n%s" % (
            pattern, self.look()))

    def expect_gone(self, pattern):
        await_that(lambda: not re.search(pattern, self.look(), re.M), lambda: "%s still in\n%s" % (
            pattern, self.look()))

    def rows(self):
        """The cells that are shown, in their order."""
        return [line.split()[0] for line in self.lines()[HEAD:-FOOT] if line.strip()]

    def expect_rows(self, *rows):
        await_that(lambda: self.rows() == list(rows), lambda: "%s, not\n%s" % (rows, self.look()))

    def pid(self):
        """Of `top` itself, a child of the shell."""
        shell = self.tmux("display-message", "-p", "#{pane_pid}").strip()
        with open("/proc/%s/task/%s/children" % (shell, shell), encoding="ascii") as f:
            return int(f.read())

    def end(self, orderly=True):
        """Orderly: leaves by the key, unless it has ended already, so that a leak is seen."""
        if orderly and not re.search("^exit", self.look(), re.M):
            self.press("q")
            self.expect("^exit 0$")
        self.tmux("kill-server")
        await_that(lambda: has_ended(self.server), "tmux has ended")
        Terminal.servers.remove(self.server)
        if os.path.exists("tmux"):  # it may take its socket with it, or leave it
            os.unlink("tmux")


def has_ended(pid):
    """Or is nothing but an entry that nobody has collected."""
    try:
        return state_of(pid) in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


# ---- once ---------------------------------------------------------------------------------------


def traffic(r):
    """What three cells' guests say; two of them stay."""
    busy, plain = r.connect("s-busy"), r.connect("s-plain")
    busy.sendall(beat(1, 0, pid=1) + row("pq:12", 1) + row("pk:3", 1) + row("ps:50", 1) +
                 row("no:2", 1) + events(0, 1234567 // 1000) + b"\3\0\0\0abc" * 3 +
                 frame("net.connect_attempted", 4321, "curl"))
    plain.sendall(beat(1, 0, pid=2) + frame("process.spawned", 7, "a\x1b[2J\u00e9b"))
    await_that(lambda: {line["CELL"]: line["EVENTS"] for line in table()} ==
               {"busy": "1235", "plain": "1", "idle": "0"}, "all is read")
    return busy, plain


def test_once():
    r = start("busy", "plain", "idle")
    guests = traffic(r)
    rows = {line["CELL"]: line for line in table()}
    busy = rows["busy"]
    assert {k: busy[k] for k in ("RUN", "STATE", "RATE/S", "EVENTS", "D.PROC", "D.FS", "D.CAP",
                                 "D.NET", "LOST", "BAD", "LATEST")} == {
        "RUN": "run", "STATE": "connected", "RATE/S": "-", "EVENTS": "1235", "D.PROC": "15",
        "D.FS": "0", "D.CAP": "0", "D.NET": "0+", "LOST": "0", "BAD": "3",
        "LATEST": "connect_attempted curl 4321"}, busy
    assert rows["plain"]["LATEST"] == "spawned a?[2J?b 7", rows["plain"]
    assert (rows["idle"]["STATE"], rows["idle"]["LATEST"]) == ("away", "-"), rows["idle"]
    assert [line["CELL"] for line in table()] == ["busy", "idle", "plain"]
    assert [line["CELL"] for line in table("--sort", "events")] == ["busy", "plain", "idle"]
    assert [line["CELL"] for line in table("--sort", "state")] == ["idle", "busy", "plain"]
    # The latest event outlives its connection.
    guests[0].close()
    await_that(lambda: table("--sort", "events")[0]["STATE"] == "away", "busy is away")
    assert table("--sort", "events")[0]["LATEST"] == "connect_attempted curl 4321"
    with open("/dev/full", "wb") as full:
        done = subprocess.run([*TOP, "--once"], stdout=full, stderr=subprocess.PIPE, timeout=LIMIT)
    assert (done.returncode, done.stderr) == (1, b"cellos-telemetry-host: cannot write standard "
                                              b"output: No space left on device\n"), done
    end(r)


def test_once_without_a_receiver_and_without_cells():
    done = once()
    assert (done.returncode, done.stdout, done.stderr) == \
        (1, b"", b"cellos-telemetry-host: cannot connect to c: No such file or directory\n"), done
    r = start()
    assert table() == []
    end(r)


# ---- live ---------------------------------------------------------------------------------------


def need_a_screen():
    """Skips unless `top` can be looked at; what it says without a terminal is tried in passing."""
    done = subprocess.run(TOP, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=LIMIT)
    why = done.stderr.decode()
    assert (done.returncode, done.stdout) == (1, b""), done
    if "built without ncurses" in why:
        raise Skip("built without ncurses")
    assert why == ("cellos-telemetry-host: cannot show cells: this is no terminal that ncurses "
                   "knows; --once prints them\n"), why
    if shutil.which("tmux") is None:
        raise Skip("there is no tmux")


def test_what_is_seen():
    need_a_screen()
    r = start("busy", "plain", "idle")
    guests = traffic(r)
    t = Terminal()
    t.expect_rows("busy", "idle", "plain")
    t.expect(r"^3 cells: 2 connected, 0 silent, 0 refused, 1 away or closing$")
    t.expect(r"^0 events/s, 1236 events, 15 dropped, 0 lost, 3 bad, 0 refused$")
    t.expect(r"^busy +run connected +0 +1235 +15 +0 +0 +0\+ +0 +3 +[0-9.]+\w connect_attempted curl")
    t.expect(r"^plain .* spawned a\?\[2J\?b 7$")
    # 3x: red, green, yellow. Bold red is what grows just now: one more for each look at it.
    assert "\x1b[32mconnected" in t.colours(), t.colours()

    def grows():
        guests[0].sendall(b"\3\0\0\0abc")
        found = re.search(r"(?:\x1b\[1m\x1b\[31m|\x1b\[0?;?1;?31m) +(\d+)\b", t.colours())
        return found and int(found[1]) > 3
    await_that(grows, lambda: repr(t.colours()))
    t.end()
    end(r)


def test_silence_comes_and_goes():
    need_a_screen()
    r = start("plain", "idle", silence_window=2)
    guest = r.connect("s-plain")
    guest.sendall(beat(1, 0))
    t = Terminal()
    t.expect(r"^plain +run silent ")
    t.expect(r"^2 cells: 0 connected, 2 silent, ")
    # It goes with the next frame; a rate is seen while events come.
    sent = 0

    def beats():
        nonlocal sent
        guest.sendall(events(sent, 10))
        sent += 10
        return re.search(r"^plain +run connected +[1-9]", t.look(), re.M)
    await_that(beats, t.look)
    t.end()
    end(r)


def test_keys():
    need_a_screen()
    names = ["c%d" % i for i in range(1, 41)]
    r = start(*names)
    guests = [r.connect("s-" + name) for name in names[:20]]
    for i, guest in enumerate(guests):
        guest.sendall(beat(1, 0, pid=i + 1) + events(0, i + 1))
    await_that(lambda: table("--sort", "events")[0]["EVENTS"] == "20", "all is read")
    t = Terminal(100, 16)
    t.expect_rows(*names[:10])
    t.press("Down", "Down")
    t.expect_rows(*names[2:12])
    t.press("NPage")
    t.expect_rows(*names[12:22])
    t.expect("^13-22 of 40 ")
    t.press("End")
    t.expect_rows(*names[30:])
    t.press("Down")
    t.press("Up")
    t.expect_rows(*names[29:39])
    t.press("Home")
    t.press("r")
    t.expect_rows(*names[:-11:-1])
    t.expect("sort by CELL, turned")
    t.press("r", "Right", "Right", "Right", "Right")
    t.expect("sort by EVENTS ")
    t.expect_rows(*names[19:9:-1])
    t.press("Left", "Left", "Left", "Left", "Left")
    t.expect("sort by LATEST ")
    t.end()
    end(r)


def test_any_size():
    need_a_screen()
    r = start(*("c%d" % i for i in range(30)))
    t = Terminal(130, 30)
    t.expect("LATEST")
    t.expect_rows(*("c%d" % i for i in range(24)))
    t.press("End")
    t.expect_rows(*("c%d" % i for i in range(6, 30)))
    # Grown while the end is in view: no empty rows.
    t.resize(130, 50)
    t.expect_rows(*("c%d" % i for i in range(30)))
    t.resize(40, 12)
    t.expect_rows(*("c%d" % i for i in range(6)))
    assert all(len(line) <= 40 for line in t.lines())
    t.expect("^ *CELL .*EVENTS")
    t.expect_gone("LATEST")
    for size in ((20, 5), (1, 1), (3, 2), (200, 6)):
        t.resize(*size)
        await_that(lambda: len(t.lines()) <= size[1], "it has become small")
    t.resize(130, 30)
    t.expect_rows(*("c%d" % i for i in range(24)))
    t.end()
    end(r)


def test_a_receiver_that_dies_and_one_that_comes():
    need_a_screen()
    t = Terminal()
    t.expect("^no answer from the receiver: No such file or directory; .* trying again$")
    t.expect("^0 cells: ")
    r = start("one", "two")
    t.expect_rows("one", "two")
    t.expect_gone("no answer")
    t.expect("^one +run +away +0 ")
    r.process.kill()
    r.process.wait(LIMIT)
    t.expect("^no answer from the receiver: Connection refused; ")
    t.expect_rows("one", "two")
    t.expect("^one +run +away +- ")
    r = start("two", "three")
    t.expect_rows("three", "two")
    t.expect_gone("no answer")
    t.end()
    end(r)


def test_a_receiver_that_hangs_and_one_that_talks_rubbish():
    need_a_screen()
    listener = socket.socket(socket.AF_UNIX)
    listener.bind("c")
    listener.listen()
    listener.settimeout(LIMIT)
    t = Terminal()
    hung = listener.accept()[0]
    assert hung.recv(5) == b"list\n"
    t.expect("^0 cells: ")
    t.press("Right")
    t.expect("sort by RUN")  # keys are heard while it hangs
    t.expect("^no answer from the receiver: Connection timed out; ")
    other = listener.accept()[0]
    assert other.recv(5) == b"list\n"
    other.sendall(b'{"cell_id":"half","run_id":"r"')
    other.close()
    t.expect("^no answer from the receiver: Protocol error; ")
    t.end()
    listener.close()
    os.unlink("c")


def test_many_cells():
    need_a_screen()
    count = 2000
    r = start(*("cell-%d" % i for i in range(count)))
    t = Terminal(110, 40)
    page = 40 - HEAD - FOOT
    t.expect_rows(*("cell-%d" % i for i in range(page)))
    pid = t.pid()
    began, used = time.monotonic(), cpu(pid)
    longest = 0
    for key, first in [("End", count - page), ("Home", 0)] * 5:
        pressed = time.monotonic()
        t.press(key)
        t.expect_rows(*("cell-%d" % i for i in range(first, first + page)))
        longest = max(longest, time.monotonic() - pressed)
    await_that(lambda: time.monotonic() - began > 3, "three looks")
    share = (cpu(pid) - used) / (time.monotonic() - began)
    print("   2000 cells: a key is seen within %.0f ms, tmux included; %.0f %% of a core" %
          (longest * 1000, share * 100))
    # What it costs depends on the machine; that it rests between two looks does not.
    rests = [0]

    def rests_again():
        rests[0] += state_of(pid) == "S"
        return rests[0] >= 50
    await_that(rests_again, "it never rests")
    t.end()
    end(r)


def cpu(pid):
    with open("/proc/%d/stat" % pid, encoding="ascii") as f:
        fields = f.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_signal_leaves_the_terminal_as_it_was():
    need_a_screen()
    r = start("one")
    t = Terminal(command="stty -a > before; %s; code=$?; stty -a > after; (exit $code)" %
                 shlex.join(TOP))
    t.expect_rows("one")
    t.press("C-c")
    t.expect("^exit 0$")
    with open("before", encoding="ascii") as before, open("after", encoding="ascii") as after:
        assert before.read() == after.read()
    assert "CELL" not in t.look(), "the screen is left"
    t.end()
    os.unlink("before")
    os.unlink("after")
    end(r)


def test_a_terminal_that_goes_away():
    need_a_screen()
    r = start("one")
    # Without the leak check: the shell's end may stop and go on with a process that looks for leaks,
    # and then that looks for ever.
    t = Terminal(command="ASAN_OPTIONS=detect_leaks=0 " + shlex.join(TOP))
    t.expect_rows("one")
    pid = t.pid()
    t.end(orderly=False)
    await_that(lambda: has_ended(pid), "it has ended")
    end(r)


def test_a_terminal_that_nobody_knows():
    need_a_screen()
    t = Terminal(command="TERM=no-such-terminal " + shlex.join(TOP))
    t.expect("cannot show cells: this is no terminal that ncurses knows; --once prints them")
    t.expect("^exit 1$")
    t.end()


if __name__ == "__main__":
    try:
        run_tests(globals(), sys.argv[2:])
    finally:
        # What a check that failed has left; its folder, and the socket in it, are gone already.
        for server in Terminal.servers:
            if not has_ended(server):
                os.kill(server, signal.SIGTERM)
