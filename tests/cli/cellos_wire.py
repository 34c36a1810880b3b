#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""cellos_wire.py CELLOS_WIRE VECTORS: the program itself, by its standard input and output.

All vectors both ways, as hex and as a stream; what a bad frame, line, option, input or output gets.
Each check is a function named check_*; all run, and one that fails names itself.
"""
import fcntl
import json
import os
import pathlib
import subprocess
import sys
import threading
import traceback

TOOL, VECTORS = sys.argv[1], pathlib.Path(sys.argv[2])
# The detail keys of each error, as docs/wire.md has them.
DETAILS = {
    "ShortHeader": ["got"], "FrameTooLarge": ["len"], "FrameTruncated": ["declared", "actual"],
    "UnsupportedMajor": ["major"], "UnsupportedAdditional": ["additional"],
    "UnsupportedContentVersion": ["version"], "FieldType": ["field", "major"],
    "IntegerOverflow": ["field"], "UnknownProbeSource": ["text"], "InvalidUtf8": ["field"],
}
GOOD = {"content_version": 256, "probe_source": "process.spawned", "guest_pid": 1,
        "guest_comm": "sh", "guest_monotonic_ns": 5}


def load(kind):
    return [json.loads(line) for line in (VECTORS / f"{kind}.jsonl").read_text().splitlines()]


VALID, TOLERATED, INVALID = load("valid"), load("tolerated"), load("invalid")


def run(*arguments, data=b"", **more):
    done = subprocess.run([TOOL, *arguments], input=data, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=60, check=False, **more)
    return done.returncode, done.stdout, done.stderr.decode()


def expect(got, wanted):
    if got != wanted:
        raise AssertionError(f"got {got!r}, wanted {wanted!r}")


def hex_lines(rows):
    return "".join(row["frame_hex"] + "\n" for row in rows).encode()


def frames(rows):
    return b"".join(bytes.fromhex(row["frame_hex"]) for row in rows)


def decoded(output):
    return [json.loads(line) for line in output.decode().split("\n")[:-1]]


def json_line(**changes):
    event = {**GOOD, **changes}
    return json.dumps({k: v for k, v in event.items() if v is not None}) + "\n"


def check_there_is_something_to_check():
    assert len(VALID) >= 200 and len(TOLERATED) >= 8 and len(INVALID) >= 54


def check_valid_both_ways():
    wanted = [{"content_version": 256, **row["event"]} for row in VALID]
    for arguments, data in ((["--hex"], hex_lines(VALID)), ([], frames(VALID))):
        code, out, err = run("decode", *arguments, data=data)
        expect((code, err), (0, ""))
        expect(decoded(out), wanted)
        expect([list(event) for event in decoded(out)], [list(GOOD)] * len(VALID))
        expect(run("encode", *arguments, data=out), (0, data, ""))


def check_content_version_may_be_left_out():
    lines = "".join(json.dumps(row["event"]) + "\n" for row in VALID).encode()
    expect(run("encode", "--hex", data=lines), (0, hex_lines(VALID), ""))


def check_tolerated():
    code, out, err = run("decode", "--hex", data=hex_lines(TOLERATED))
    expect((code, err), (0, ""))
    for row, event in zip(TOLERATED, decoded(out)):
        assert event.pop("content_version") >> 8 == 1
        expect(event, row["event"])


def check_invalid_with_their_details():
    code, out, err = run("decode", "--hex", data=hex_lines(INVALID))
    expect((code, err), (1, ""))
    errors = decoded(out)
    expect([error["error"] for error in errors], [row["error"] for row in INVALID])
    for error in errors:
        expect(list(error), ["error"] + DETAILS.get(error["error"], []))
    by_name = {row["name"]: error for row, error in zip(INVALID, errors)}
    expect(by_name["three_header_bytes"]["got"], 3)
    expect(by_name["declared_4097"]["len"], 4097)
    expect(by_name["declared_u32_max"]["len"], 2**32 - 1)
    expect(by_name["version_literal_1"]["version"], 1)
    expect(by_name["key_not_text"], {"error": "FieldType", "field": "key", "major": 0})
    expect(by_name["float_pid"]["major"], 7)
    expect(by_name["comm_utf8_ff"]["field"], "guest_comm")


def check_each_invalid_alone():
    """Exit 1 comes of each, and a good frame behind it is decoded all the same."""
    for row in INVALID:
        code, out, _ = run("decode", "--hex", data=hex_lines([row, VALID[0]]))
        expect((code, [e.get("error") for e in decoded(out)]), (1, [row["error"], None]))


def check_stream_goes_on_after_a_bad_frame():
    for row in INVALID:
        data = bytes.fromhex(row["frame_hex"])
        if len(data) < 4 or len(data) != 4 + int.from_bytes(data[:4], "little"):
            continue  # these change where the next frame begins
        if row["error"] == "FrameTooLarge":
            continue
        code, out, err = run("decode", data=frames([VALID[0], row, VALID[1]]))
        expect((code, err), (1, ""))
        expect([e.get("error") for e in decoded(out)], [None, row["error"], None])


def check_stream_ends_where_framing_is_lost():
    data = frames([VALID[0]]) + b"\x01\x10\0\0" + frames([VALID[1]] * 100)
    code, out, err = run("decode", data=data)
    expect((code, err), (1, "cellos-wire: cannot decode the rest of the input: framing is lost\n"))
    expect(decoded(out)[1:], [{"error": "FrameTooLarge", "len": 4097}])


def check_stream_cut_at_every_length():
    first, second = frames(VALID[:1]), frames(VALID[1:2])
    for cut in range(1, len(second)):
        code, out, err = run("decode", data=first + second[:cut])
        wanted = ({"error": "ShortHeader", "got": cut} if cut < 4 else
                  {"error": "FrameTruncated", "declared": len(second) - 4, "actual": cut - 4})
        expect((code, err, decoded(out)[1:]), (1, "", [wanted]))


def check_a_long_stream():
    """Longer than every buffer, so that frames are cut by reads; each frame on its own line."""
    code, out, err = run("decode", data=frames(VALID) * 50)
    expect((code, err, len(decoded(out))), (0, "", 50 * len(VALID)))
    expect(run("encode", data=out), (0, frames(VALID) * 50, ""))


def check_no_input():
    for command in (["decode"], ["encode"], ["decode", "--hex"], ["encode", "--hex"]):
        expect(run(*command), (0, b"", ""))


def check_hex_lines():
    good = VALID[0]["frame_hex"]
    lines = [good.upper(), good + "\r", "", "0", "zz", good[:-1], good + " ", " " + good,
             "0x" + good, good[:10] + "\0" + good[11:], "\xe9\xe9", good]
    code, out, err = run("decode", "--hex", data="\n".join(lines).encode("latin-1"))
    expect((code, err), (1, ""))
    got = decoded(out)
    short = {"error": "ShortHeader", "got": 0}
    bad = [{"error": "BadHex", "line": number} for number in range(4, 12)]
    expect([e if "error" in e else "event" for e in got],
           ["event", "event", short, *bad, "event"])


def check_a_line_too_long():
    """It is named, skipped whole, and counted once, with and without an end."""
    good = VALID[0]["frame_hex"]
    for length in (2**20 - 2, 2**20, 2**20 + 1, 2**20 + 2, 2**20 + 70000, 3 * 2**20):
        data = f"{good}\n{'0' * length}\n{good}\nzz\n".encode()
        code, out, err = run("decode", "--hex", data=data)
        names = [event.get("error") for event in decoded(out)]
        if length <= 2**20:  # a frame of zeros: an empty body
            expect((code, err, names), (1, "", [None, "UnexpectedEof", None, "BadHex"]))
        else:
            expect((code, err, names),
                   (1, "cellos-wire: cannot read line 2: longer than 1 MiB\n",
                    [None, None, "BadHex"]))
        expect(decoded(out)[-1]["line"], 4)
    for length in (2**20 + 1, 2**20 + 5, 2**21):
        code, out, err = run("decode", "--hex", data=b"0" * length)
        expect((code, out, err),
               (1, b"", "cellos-wire: cannot read line 1: longer than 1 MiB\n"))


BAD_JSON = [
    ("", "the JSON does not end"),
    ("{", "the JSON does not end"),
    (json_line()[:-3], "the JSON does not end"),
    ("nonsense", "not JSON at byte"),
    ("[]", "not a JSON object"),
    ("null", "not a JSON object"),
    ("12", "not a JSON object"),
    ("nul", "the JSON does not end"),
    ("\0", "the JSON does not end"),
    (json_line()[:-1] + " x", "not JSON at byte"),
    (json_line()[:-1] + json_line()[:-1], "not JSON at byte"),
    (json_line()[:-1] + "\0", "something follows the object"),
    (json_line()[:-2] + ",}", "not JSON at byte"),
    ("/*c*/" + json_line()[:-1], "not JSON at byte"),
    (json_line().replace('"', "'")[:-1], "a string in single quotes"),
    (json_line(probe_source=None), "probe_source is missing"),
    (json_line(guest_pid=None), "guest_pid is missing"),
    (json_line(guest_comm=None), "guest_comm is missing"),
    (json_line(guest_monotonic_ns=None), "guest_monotonic_ns is missing"),
    (json_line(more=1), "a key is no field of an event"),
    (json_line()[:-2] + ',"guest_pid":2}', "a key is given twice"),
    (json_line(guest_pid="1"), "guest_pid is not an integer"),
    (json_line(guest_pid=1.0), "guest_pid is not an integer"),
    (json_line(guest_pid=True), "guest_pid is not an integer"),
    (json_line(guest_pid=[1]), "guest_pid is not an integer"),
    (json_line(guest_pid=-1), "guest_pid is not in 0..4294967295"),
    (json_line(guest_pid=-10**30), "a number over 2^64 - 1"),
    (json_line(guest_pid=-2**63), "guest_pid is not in 0..4294967295"),
    (json_line(guest_pid=2**32), "guest_pid is not in 0..4294967295"),
    (json_line(guest_monotonic_ns=2**64), "a number over 2^64 - 1"),
    (json_line(guest_monotonic_ns=10**40), "a number over 2^64 - 1"),
    (json_line(guest_monotonic_ns=-1), "guest_monotonic_ns is not in 0..18446744073709551615"),
    (json_line(guest_monotonic_ns="x"), "guest_monotonic_ns is not an integer"),
    (json_line(guest_pid=7).replace("7", "07"), "a number that is none"),
    (json_line(guest_pid=7).replace("7", "+7"), "not JSON at byte"),
    (json_line(guest_pid=7).replace("7", "NaN"), "NaN or Infinity"),
    (json_line(guest_pid=7).replace("7", "-07"), "a number that is none"),
    (json_line(guest_pid=7).replace("7", "7."), "a number that is none"),
    (json_line(content_version=65536), "content_version is not in 0..65535"),
    (json_line(content_version=0), "UnsupportedContentVersion"),
    (json_line(content_version=1), "UnsupportedContentVersion"),
    (json_line(content_version=512), "UnsupportedContentVersion"),
    (json_line(probe_source="x"), "UnknownProbeSource"),
    (json_line(probe_source="process.spawned\0"), "UnknownProbeSource"),
    (json_line(probe_source=1), "probe_source is not a string"),
    (json_line(guest_comm=1), "guest_comm is not a string"),
    (json_line(guest_comm="a" * 17), "FieldTooLong"),
    (json_line(guest_comm="a" * 65), "FieldTooLong"),
    (json_line(guest_comm="a" * 5000), "FieldTooLong"),
    (json_line(guest_comm="?").replace("?", "\\ud800"), "half a surrogate pair"),
    (json_line(guest_comm="?").replace("?", "\\ud800\\u0041"), "half a surrogate pair"),
    (json_line(guest_comm="?").replace("?", "\\udc00\\ud800"), "half a surrogate pair"),
    (json_line(guest_comm="?").replace("?", "\\ud800\\ue000"), "half a surrogate pair"),
    (json_line(guest_comm="?").replace("?", "\\udbff\\udbff"), "half a surrogate pair"),
    (json_line(guest_comm="?").replace("?", "\\uzzzz"), "not JSON at byte"),
    (json_line(guest_comm="?").replace("?", "a\tb"), "a control character inside of a string"),
    (json_line(guest_comm="?").replace("?", "\udcff"), "not JSON at byte"),
]


def check_bad_json_lines():
    """Each one alone between two good ones: named by its number, and the others come out."""
    good = json_line()
    for line, why in BAD_JSON:
        line = line.removesuffix("\n")
        data = (good + line + "\n" + good).encode("utf-8", "surrogateescape")
        code, out, err = run("encode", "--hex", data=data)
        try:
            expect((code, len(out.splitlines())), (1, 2))
            assert err.startswith(f"cellos-wire: cannot encode line 2: {why}"), err
            assert err.count("\n") == 1
        except AssertionError as error:
            raise AssertionError(f"{line!r}: {error}") from error


def check_json_that_is_good():
    reverse = json.dumps(dict(reversed(GOOD.items())))
    for line in (json_line(), "  " + json_line(), json_line()[:-1] + " \t\r\n", reverse,
                 json_line().replace("{", "{ ").replace(":", " : ")):
        code, out, err = run("encode", data=line.encode())
        expect((code, err), (0, ""))
        expect(decoded(run("decode", data=out)[1]), [GOOD])


def check_names_there_and_back():
    names = [chr(code) for code in range(0x80)] + [
        "\x00a\x00", "naïve", "日本語", "\U0001f600" * 16, '"\\/', "\u2028\u2029", "\uffff", ""]
    lines = "".join(json_line(guest_comm=name) for name in names).encode()
    raw = "".join(json.dumps({**GOOD, "guest_comm": name}, ensure_ascii=False) + "\n"
                  for name in names).encode()
    code, out, err = run("encode", data=lines)
    expect((code, err), (0, ""))
    expect(run("encode", data=raw), (0, out, ""))
    expect([event["guest_comm"] for event in decoded(run("decode", data=out)[1])], names)


def check_integers_are_exact():
    values = [0, 2**53, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1]
    out = run("encode", data="".join(json_line(guest_monotonic_ns=v) for v in values).encode())[1]
    text = run("decode", data=out)[1].decode()
    for value in values:
        assert f'"guest_monotonic_ns":{value}}}' in text


def check_usage():
    for arguments in ([], ["nonsense"], ["decode", "encode"], ["decode", "file"], ["--nonsense"],
                      ["-x", "decode"], ["-h"], ["decode", "--hex=1"], ["--help=1"], [""]):
        code, out, err = run(*arguments)
        expect((code, out), (2, b""))
        assert err.startswith("cellos-wire: cannot "), err
    for arguments in (["--help"], ["decode", "--help"]):
        code, out, err = run(*arguments)
        expect((code, err), (0, ""))
        for word in ("decode", "encode", "--hex", "--help", "--version", "Exit status"):
            assert word in out.decode()
    code, out, err = run("--version")
    expect((code, err), (0, ""))
    assert out.startswith(b"cellos-wire ") and out.count(b"\n") == 1


def check_full_disk():
    for arguments, data in ((["decode"], frames(VALID)), (["decode", "--hex"], hex_lines(VALID)),
                            (["encode"], json_line().encode()), (["--help"], b""),
                            (["decode"], frames(VALID) * 100),
                            (["encode"], json_line().encode() * 2000)):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([TOOL, *arguments], input=data, stdout=full,
                                  stderr=subprocess.PIPE, timeout=60, check=False)
        expect((done.returncode, done.stderr.decode()),
               (1, "cellos-wire: cannot write the output: No space left on device\n"))


def check_reader_gone():
    for arguments, data in ((["decode"], frames(VALID)), (["encode"], json_line().encode())):
        read_end, write_end = os.pipe()
        os.close(read_end)
        done = subprocess.run([TOOL, *arguments], input=data, stdout=write_end,
                              stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(write_end)
        expect((done.returncode, done.stderr.decode()),
               (1, "cellos-wire: cannot write the output: Broken pipe\n"))


def check_unreadable_input():
    for arguments in (["decode"], ["decode", "--hex"], ["encode"]):
        folder = os.open("/", os.O_RDONLY)
        done = subprocess.run([TOOL, *arguments], stdin=folder, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, timeout=60, check=False)
        os.close(folder)
        expect((done.returncode, done.stderr.decode()),
               (1, "cellos-wire: cannot read the input: Is a directory\n"))


def check_lines_come_at_once():
    """Through a pipe that stays open, in halves: a line is there when its frame is."""
    frame, line = frames(VALID[:1]), hex_lines(VALID[:1])
    event = json_line().encode()
    for arguments, piece, size in ((["decode"], frame, None), (["decode", "--hex"], line, None),
                                   (["encode", "--hex"], event, None)):
        with subprocess.Popen([TOOL, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              bufsize=0) as process:
            guard = threading.Timer(30, process.kill)
            guard.start()
            for _ in range(3):
                process.stdin.write(piece[:7])
                process.stdin.write(piece[7:])
                assert process.stdout.readline().endswith(b"\n")
            process.stdin.close()
            expect(process.wait(), 0)
            guard.cancel()


def check_non_blocking_descriptors():
    """Somebody may have set them so: a full or empty one is waited for."""
    data = frames(VALID) * 20
    in_read, in_write = os.pipe()
    out_read, out_write = os.pipe()
    for descriptor in (in_read, out_write):
        fcntl.fcntl(descriptor, fcntl.F_SETFL,
                    fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_NONBLOCK)
    with subprocess.Popen([TOOL, "decode"], stdin=in_read, stdout=out_write) as process:
        guard = threading.Timer(30, process.kill)
        guard.start()
        os.close(in_read)
        os.close(out_write)

        def feed():
            with os.fdopen(in_write, "wb") as pipe:
                pipe.write(data)

        feeder = threading.Thread(target=feed)
        feeder.start()
        with os.fdopen(out_read, "rb") as pipe:
            lines = pipe.read().splitlines()
        feeder.join()
        expect((process.wait(), len(lines)), (0, 20 * len(VALID)))
        guard.cancel()


def main():
    failed = 0
    checks = [(name, check) for name, check in globals().items() if name.startswith("check_")]
    for name, check in checks:
        try:
            check()
        except Exception:  # each one is reported, and the rest still runs
            failed += 1
            print(f"FAILED {name}")
            traceback.print_exc(file=sys.stdout)
    print(f"{len(checks) - failed} of {len(checks)} checks passed")
    sys.exit(1 if failed or not checks else 0)


main()
