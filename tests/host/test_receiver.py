#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""The real receiver, over real Unix sockets, against streams made here by hand.

usage: test_receiver.py RECEIVER

guest.py beside it has the encoder and the receiver's handling. Ends with exit code 1 at the first
check that fails.
"""
import os
import resource
import signal
import socket
import stat
import struct
import subprocess
import time

from guest import (DROPPED, LIMIT, RECEIVER, Receiver, await_that, beat, event, events, expect_closed,
                   expect_quiet, fill, frame, in_a_child, report, row, run_tests, stop, times,
                   unstamped, whole_events)


# ---- streams ------------------------------------------------------------------------------------


def test_a_life():
    r = Receiver()
    s = r.connect()
    s.sendall(beat(1, 0) + events(0, 2) + row("pq:12") + row("zz:1") + b"\3\0\0\0abc" +
              b"\3\0\0\0abc" + frame("no.such.source") + beat(1, 5))
    # Without more traffic, and without an end, everything comes out.
    r.expect(report("heartbeat", epoch=1, sent=0), event(0), event(1),
             report("dropped", lane="proc", reason="q", count=12),
             report("heartbeat", epoch=1, sent=5))
    assert sorted([r.next()["error"], r.next()["error"]]) == ["NotMap5", "UnknownProbeSource"]
    r.expect(report("bad_report", probe_source=DROPPED, guest_comm="zz:1", count=1))
    s.sendall(b"\3\0\0\0abc" + frame("fs.inotify_fired", ns=2**64 - 1) + beat(0, 7))
    s.close()
    r.expect(event(2**64 - 1, "fs.inotify_fired"), report("goodbye", sent=7))
    r.expect(report("bad_frame", error="NotMap5", count=3))
    assert r.end() == [report("ledger", frames=7, events=3, epochs=1, lost_in_flight=0,
                              bad={"NotMap5": 3, "UnknownProbeSource": 1}, bad_reports=1,
                              contested=0, dropped={"pq": 12})]


def test_one_byte_at_a_time():
    r = Receiver("--exit-on-close")
    s = r.connect()
    for byte in beat(1, 0) + events(0, 3) + beat(0, 3):
        s.sendall(bytes([byte]))
    s.close()
    lines = r.end(None)
    assert times(lines) == [0, 1, 2], lines
    assert lines[-1]["frames"] == 3 and lines[-1]["bad"] == {}, lines[-1]


def test_an_event_is_not_kept_waiting():
    """The clock ticks each 100 ms. Who waits for it waits so long each time; a busy machine may
    delay most of one round of events, but not of every round."""
    r = Receiver()
    s = r.connect()
    sent, waits = 0, []

    def a_round():
        nonlocal sent
        waits.clear()
        for _ in range(31):
            began = time.monotonic()
            s.sendall(events(sent, 1))
            r.expect(event(sent))
            sent += 1
            waits.append(time.monotonic() - began)
        return sorted(waits)[15] < 0.05
    await_that(a_round, lambda: "events wait for the clock: %r" % waits)
    r.end()


def test_broken_connections():
    r = Receiver()
    s = r.connect()
    s.sendall(beat(1, 0) + events(0, 2) + events(2, 1)[:-1])
    s.close()
    s = r.connect()
    s.sendall(beat(2, 5) + events(2, 1) + beat(2, 6))
    r.expect(report("heartbeat", epoch=1, sent=0), event(0), event(1),
             report("ended_without_goodbye", complete_up_to=2),
             report("lost_in_flight", epoch=2, count=3), report("heartbeat", epoch=2, sent=5),
             event(2), report("heartbeat", epoch=2, sent=6))
    s.close()
    r.expect(report("ended_without_goodbye", complete_up_to=6))
    s = r.connect()
    s.sendall(beat(1, 0, pid=101))
    r.expect(report("agent_restarted"), report("heartbeat", epoch=1, sent=0))
    summary = r.end()[-1]
    assert summary["epochs"] == 3 and summary["lost_in_flight"] == 3, summary


def test_joined():
    r = Receiver()
    s = r.connect()
    s.sendall(beat(3, 500) + row("fk:2") + events(0, 1) + row("fk:3"))
    r.expect(report("joined", sent=500), report("heartbeat", epoch=3, sent=500),
             report("dropped", lane="fs", reason="k", count=2, baseline=True), event(0),
             report("dropped", lane="fs", reason="k", count=3))
    r.end()


def test_huge_prefix_closes_the_connection_only():
    r = Receiver()
    for prefix in (b"\xff\xff\xff\xff", struct.pack("<I", 4097)):
        s = r.connect()
        s.sendall(prefix)
        expect_closed(s)
    s = r.connect()
    s.sendall(struct.pack("<I", 4096) + bytes(4096) + beat(1, 0))
    while r.next() != report("heartbeat", epoch=1, sent=0):
        pass
    summary = r.end()[-1]
    assert summary["bad"] == {"FrameTooLarge": 2, "NotMap5": 1}, summary
    assert summary["frames"] == 1, summary


def test_noise():
    r = Receiver()
    noise = bytes((i * 2654435761 >> 11) & 255 for i in range(300000))
    for start in range(0, len(noise), 10000):
        s = r.connect()
        try:
            s.sendall(noise[start:start + 10000])
            s.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it has been closed: lost framing
        expect_closed(s)
        s.close()
    s = r.connect()
    s.sendall(beat(1, 0) + events(0, 1) + beat(0, 1))
    s.close()
    while True:
        line = r.next()
        if line == report("goodbye", sent=1):
            break
    r.end()


def test_contested():
    r = Receiver()
    first = r.connect()
    first.sendall(beat(1, 0))
    r.expect(report("heartbeat", epoch=1, sent=0))
    for n in range(3):
        other = r.connect()
        expect_closed(other)
        r.expect(report("contested", count=n + 1))
    first.sendall(events(0, 1) + beat(0, 1))
    r.expect(event(0), report("goodbye", sent=1))
    summary = r.end()[-1]
    assert summary["contested"] == 3, summary


def test_the_first_is_read_to_its_end_before_it_counts_as_dead():
    r = Receiver()
    first = r.connect()
    first.sendall(beat(1, 0))
    r.expect(report("heartbeat", epoch=1, sent=0))
    # All of it happens while the receiver is away: then it finds both at once.
    stop(r)
    sent = whole_events(*fill(r, first))
    first.close()
    second = r.connect()
    second.sendall(beat(2, 10**6))
    r.process.send_signal(signal.SIGCONT)
    got = []
    while True:
        line = r.next()
        assert line.get("report") != "contested", line
        if line.get("report") == "ended_without_goodbye":
            break
        got.append(line["guest_monotonic_ns"])
    assert sent > 500, sent  # more than a few reads
    assert got == list(range(sent)), (sent, len(got))
    assert line["complete_up_to"] == sent
    r.expect(report("lost_in_flight", epoch=2, count=10**6 - sent))
    r.end()


def test_sigterm_still_reads_what_has_arrived():
    for how in (signal.SIGTERM, signal.SIGINT):
        r = Receiver()
        s = r.connect()
        s.sendall(beat(1, 0))
        r.expect(report("heartbeat", epoch=1, sent=0))
        stop(r)
        s.sendall(b"\3\0\0\0abc")
        made, pending = fill(r, s)
        r.process.send_signal(how)
        r.process.send_signal(signal.SIGCONT)
        lines = r.end(None)
        count = whole_events(made, pending)
        assert times(lines) == list(range(count)), (len(lines), count)
        # Told while the rest is read or behind it, whichever the clock says; told once in any case.
        bad = [line for line in lines if line.get("report") == "bad_frame"]
        assert bad == [report("bad_frame", error="NotMap5", count=1)], bad
        assert lines[-1]["frames"] == count + 1, lines[-1]


def test_exit_on_close():
    r = Receiver("--exit-on-close")
    s = r.connect()
    s.sendall(beat(1, 0) + beat(0, 0))
    s.close()
    assert [line["report"] for line in r.end(None)] == ["heartbeat", "goodbye", "ledger"]


# ---- sockets ------------------------------------------------------------------------------------


def refused(code, message, *options, **popen):
    p = subprocess.run([RECEIVER, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                       timeout=LIMIT, **popen)
    assert p.returncode == code, (options, p.returncode, p.stderr)
    assert p.stderr.decode() == "cellos-telemetry-host: " + message + "\n", p.stderr
    assert p.stdout == b""


def test_socket_files():
    s = socket.socket(socket.AF_UNIX)
    s.bind("s")
    s.close()  # stale: as a killed receiver leaves it
    r = Receiver()
    mode = os.lstat("s").st_mode
    assert stat.S_ISSOCK(mode) and mode & 0o7777 == 0o600, oct(mode)
    refused(1, "cannot listen on unix:s: Address already in use", "--listen", "unix:s")
    r.connect()  # the live one is unharmed
    r.process.kill()
    r.process.wait(LIMIT)
    assert os.path.exists("s")
    Receiver().end()

    with open("file", "w") as f:
        f.write("precious")
    refused(1, "cannot listen on unix:file: File exists", "--listen", "unix:file")
    assert open("file").read() == "precious"
    os.unlink("file")
    refused(1, "cannot listen on unix:no/s: No such file or directory", "--listen", "unix:no/s")


def test_firecracker_and_owner():
    owner = (12345, 54321) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
    r = Receiver("--socket-owner", "%d:%d" % owner, listen="firecracker:vm", path="vm_9001")
    st = os.lstat("vm_9001")
    assert (st.st_uid, st.st_gid) == owner and st.st_mode & 0o7777 == 0o600, st
    r.end()


def test_out_of_descriptors():
    r = Receiver()
    s = r.connect()
    r.expect_word("connection accepted")
    soft, hard = resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, (0, hard))
    other = r.connect()
    r.expect_word("cannot accept a connection: Too many open files")
    expect_quiet(r)
    s.sendall(beat(1, 0))  # the live one goes on
    r.expect(report("heartbeat", epoch=1, sent=0))
    s.close()
    r.expect_word("connection ended")
    r.expect(report("ended_without_goodbye", complete_up_to=0))
    resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
    r.expect_word("connection accepted")
    other.sendall(beat(2, 0))
    r.expect(report("heartbeat", epoch=2, sent=0))
    r.end()


# ---- output -------------------------------------------------------------------------------------


def status_of(pid, name):
    with open("/proc/%d/status" % pid) as f:
        for line in f:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise KeyError(name)


def test_stalled_output():
    """Nobody reads the output: the guest is made to wait, memory stays, and nothing is lost."""
    r = Receiver("--exit-on-close")
    s = r.connect()
    s.sendall(beat(1, 0))
    made, pending = fill(r, s)
    assert status_of(r.process.pid, "VmRSS") < 32 * 1024
    other = r.connect()  # knocking is answered all the same
    expect_closed(other)
    expect_quiet(r)
    writer = in_a_child(lambda: s.sendall(pending + beat(0, made)))
    s.close()
    lines = r.end(None)
    os.waitpid(writer, 0)
    assert times(lines) == list(range(made)), (len(lines), made)
    assert lines[-1]["contested"] == 1, lines[-1]
    assert report("goodbye", sent=made) in lines


def test_a_knock_while_the_output_is_stalled_and_the_first_is_dead():
    r = Receiver()
    s = r.connect()
    s.sendall(beat(1, 0))
    made, pending = fill(r, s)
    s.close()
    second = r.connect()
    second.sendall(beat(2, made) + beat(0, made))
    expect_quiet(r)
    got = []
    while True:
        line = r.next()
        assert line.get("report") != "contested", line
        if line.get("report") == "goodbye":
            break
        got.append(line)
    got = times(got)
    assert got == list(range(whole_events(made, pending))), (len(got), made)
    assert line == report("goodbye", sent=made)
    expect_quiet(r)
    second.close()
    r.end()


def test_output_file():
    r = Receiver("--output", "out", "--exit-on-close")
    s = r.connect()
    s.sendall(beat(1, 0) + beat(0, 0))
    s.close()
    assert r.out.until_end() == []
    assert r.process.wait(LIMIT) == 0
    with open("out") as f:
        lines = [unstamped(line)["report"] for line in f]
    assert lines == ["heartbeat", "goodbye", "ledger"], lines
    os.unlink("out")


def test_full_disk():
    """It is waited for, the guest is made to wait; at the end what is not out is counted."""
    r = Receiver("--output", "/dev/full")
    s = r.connect()
    s.sendall(beat(1, 0) + events(0, 3))
    r.expect_word("connection accepted")
    r.expect_word("cannot write /dev/full: No space left on device; waiting for room, nothing is "
                  "lost")
    expect_quiet(r)
    assert r.process.poll() is None
    r.process.send_signal(signal.SIGTERM)
    assert r.process.wait(LIMIT) == 1
    words = r.words.until_end()
    assert "cellos-telemetry-host: cannot write /dev/full: No space left on device" in words, words
    assert words[-1] == \
        "cellos-telemetry-host: received 3, emitted 0, refused 0, lost in host 3", words
    assert not os.path.exists("s")


def test_a_limit_on_the_size_of_files():
    """What is over it cannot be written: an error that is said, and not a death."""
    r = Receiver("--output", "out")
    _, hard = resource.prlimit(r.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(r.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    s = r.connect()
    s.sendall(events(0, 3))
    assert r.process.wait(LIMIT) == 1, r.process.returncode
    words = r.words.until_end()
    assert "cellos-telemetry-host: cannot write out: File too large" in words, words
    assert words[-1] == \
        "cellos-telemetry-host: received 3, emitted 0, refused 0, lost in host 3", words
    os.unlink("out")


def test_reader_of_the_output_leaves():
    r = Receiver()
    r.process.stdout.close()
    s = r.connect()
    s.sendall(beat(1, 0) + events(0, 3) + b"\3\0\0\0abc")
    assert r.process.wait(LIMIT) == 1
    words = r.words.until_end()
    assert "cellos-telemetry-host: cannot write standard output: Broken pipe" in words, words
    assert words[-1] == \
        "cellos-telemetry-host: received 4, emitted 0, refused 1, lost in host 3", words
    assert not os.path.exists("s")


def test_closed_standard_descriptors():
    refused(1, "cannot write standard output: Bad file descriptor", "--listen", "unix:s",
            preexec_fn=lambda: os.close(1))
    # With all three closed and a file to write to, no socket lands on 0, 1 or 2.
    p = subprocess.Popen([RECEIVER, "--listen", "unix:s", "--output", "out"],
                         preexec_fn=lambda: os.closerange(0, 3))
    deadline = time.monotonic() + LIMIT
    s = socket.socket(socket.AF_UNIX)
    while s.connect_ex("s") != 0:
        assert time.monotonic() < deadline and p.poll() is None
        time.sleep(0.001)  # nothing to wait on: its descriptors are closed
    links = [os.readlink("/proc/%d/fd/%d" % (p.pid, fd)) for fd in range(3)]
    assert links == ["/dev/null"] * 3, links
    p.terminate()
    assert p.wait(LIMIT) == 0
    os.unlink("out")


def test_idle_costs_nothing():
    r = Receiver()
    s = r.connect()
    s.sendall(beat(1, 0))
    r.expect(report("heartbeat", epoch=1, sent=0))
    # The last tick after traffic, then nothing: two looks a second apart, until it is quiet.
    deadline = time.monotonic() + LIMIT
    while True:
        before = status_of(r.process.pid, "voluntary_ctxt_switches")
        time.sleep(1)
        if status_of(r.process.pid, "voluntary_ctxt_switches") == before:
            break
        assert time.monotonic() < deadline, "it keeps waking up"
    r.end()


# ---- usage --------------------------------------------------------------------------------------


def test_usage():
    refused(2, "cannot start: --listen is missing (see --help)")
    refused(2, "cannot read --listen 'fd:0': an address is unix:PATH, firecracker:BASE or "
            "vsock:PORT", "--listen", "fd:0")
    refused(2, "cannot read option '--what': no such option, or more than one", "--what")
    refused(1, "cannot write out/: Is a directory", "--listen", "unix:s", "--output", "out/")
    for option, start in (("--help", "usage: "), ("--version", "cellos-telemetry-host ")):
        p = subprocess.run([RECEIVER, option], stdout=subprocess.PIPE, timeout=LIMIT)
        assert p.returncode == 0 and p.stdout.decode().startswith(start), p
        with open("/dev/full", "w") as full:
            p = subprocess.run([RECEIVER, option], stdout=full, stderr=subprocess.PIPE,
                               timeout=LIMIT)
        assert p.returncode == 1 and b"No space left" in p.stderr, p


run_tests(globals())
