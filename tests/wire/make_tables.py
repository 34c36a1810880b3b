#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""make_tables.py VECTORS OUT: vectors_table.c and lossy.txt for the tests of the wire.

lossy.txt has lines "raw cleaned" in hex ("-" for nothing): what Python's errors="replace" makes of
the raw bytes, cut after 16 characters. All sequences of up to three bytes that stand for a class or
an edge of UTF-8, and longer ones by chance with a fixed seed.
"""
import itertools
import json
import pathlib
import random
import sys

EDGES = bytes.fromhex("00417f808f909fa0bfc0c1c2dfe0e1ecedeeeff0f1f3f4f5ff")


def c_bytes(data):
    return '"' + "".join(f"\\{byte:03o}" for byte in data) + '"'


def vector_row(kind, row):
    event = row.get("event", {})
    comm = event.get("guest_comm", "").encode()
    frame = bytes.fromhex(row["frame_hex"])
    return "\t{%s, %s, %s, %d, %s, %d, %s, %d, UINT64_C(%d), %s}," % (
        kind,
        json.dumps(row.get("name", comm.hex())),
        c_bytes(frame), len(frame),
        json.dumps(event.get("probe_source", "")),
        event.get("guest_pid", 0),
        c_bytes(comm), len(comm),
        event.get("guest_monotonic_ns", 0),
        json.dumps(row.get("error", "Ok")))


def write_vectors(folder, out):
    lines = ['#include "support.h"', "const struct vector vectors[] = {"]
    count = 0
    for kind in ("valid", "tolerated", "invalid"):
        for line in (folder / f"{kind}.jsonl").read_text().splitlines():
            row = json.loads(line)
            if kind == "valid" and row["frame_hex"][8:] != row["body_hex"]:
                sys.exit(f"{kind}: body_hex is not the frame without its prefix: {line}")
            lines.append(vector_row("VECTOR_" + kind.upper(), row))
            count += 1
    lines += ["};", f"const size_t vector_count = {count};", ""]
    out.write_text("\n".join(lines))


def lossy_inputs():
    for length in range(4):
        yield from map(bytes, itertools.product(EDGES, repeat=length))
    dice = random.Random(1)
    for _ in range(4000):
        yield bytes(dice.choices(EDGES, k=dice.randrange(4, 80)))
    for _ in range(4000):
        text = "".join(chr(dice.choice((0x41, 0xe9, 0x20ac, 0x1f600))) for _ in range(40))
        raw = bytearray(text.encode()[:dice.randrange(1, 100)])
        raw[dice.randrange(len(raw))] = dice.choice(EDGES)
        yield bytes(raw)


def write_lossy(out):
    with out.open("w") as file:
        for raw in lossy_inputs():
            clean = raw.decode("utf-8", "replace")[:16].encode()
            file.write(f"{raw.hex() or '-'} {clean.hex() or '-'}\n")


def main():
    folder, out = map(pathlib.Path, sys.argv[1:])
    write_vectors(folder, out / "vectors_table.c")
    write_lossy(out / "lossy.txt")


main()
