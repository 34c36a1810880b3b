#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""independent_decoder.py CELLOS_WIRE: our frames read, and made, by a CBOR library of somebody else.

What cellos-wire encodes must be what cbor2 reads and, byte for byte, what cbor2 writes; what cbor2
writes, in any order of the fields behind the first, cellos-wire must decode.
"""
import json
import os
import random
import struct
import subprocess
import sys

try:
    import cbor2
except ImportError:
    print("skipped: no module cbor2 for", sys.executable, "(Debian: python3-cbor2)")
    sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)

KEYS = ["content_version", "probe_source", "guest_pid", "guest_comm", "guest_monotonic_ns"]
SOURCES = [
    "process.spawned", "process.exited", "capability.denied", "fs.inotify_fired",
    "net.connect_attempted", "cell.observability.guest.telemetry.dropped",
    "cell.observability.guest.telemetry.heartbeat"
]
EDGES = [0, 1, 23, 24, 255, 256, 65535, 65536, 2**32 - 1, 2**32, 2**63, 2**64 - 1]


def make_events(count):
    dice = random.Random(7)
    alphabet = "abcxyz0189-_/:. \"\\\n\x00\x7f\u00e9\u20ac\U0001f600"
    for number in range(count):
        yield {
            "content_version": 256 + dice.choice((0, 0, 0, 1, 255)),
            "probe_source": SOURCES[number % len(SOURCES)],
            "guest_pid": dice.choice([e for e in EDGES if e < 2**32] + [dice.getrandbits(32)]),
            "guest_comm": "".join(dice.choices(alphabet, k=dice.randrange(17))),
            "guest_monotonic_ns": dice.choice(EDGES + [dice.getrandbits(64)]),
        }


def run(tool, command, data):
    done = subprocess.run([tool, command], input=data, stdout=subprocess.PIPE, check=True)
    return done.stdout


def split(stream):
    at = 0
    while at < len(stream):
        (length,) = struct.unpack_from("<I", stream, at)
        yield stream[at + 4:at + 4 + length]
        at += 4 + length
    assert at == len(stream), "the last frame is cut"


def main():
    tool = sys.argv[1]
    events = list(make_events(3000))
    lines = "".join(json.dumps(event) + "\n" for event in events).encode()
    bodies = list(split(run(tool, "encode", lines)))
    assert len(bodies) == len(events)
    for event, body in zip(events, bodies):
        read = cbor2.loads(body)
        assert read == event, (read, event)
        assert list(read) == KEYS, "order of the keys"
        assert cbor2.dumps(event) == body, ("not the shortest form", event, body.hex())

    dice = random.Random(8)
    stream = b""
    for event in events:
        rest = KEYS[1:]
        dice.shuffle(rest)
        body = cbor2.dumps({key: event[key] for key in KEYS[:1] + rest})
        stream += struct.pack("<I", len(body)) + body
    decoded = run(tool, "decode", stream).decode().splitlines()
    assert [json.loads(line) for line in decoded] == events
    print(len(events), "events both ways")


main()
