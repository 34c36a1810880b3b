#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""test_schemas.py LINES: every kind of line is valid by its schema, and a changed one is not."""

import copy
import subprocess
import sys

import formats

FORMS = ("raw", "cloudevents", "ocsf")
MANY = 2 ** 64


def lines_of(program, form, *extra):
    done = subprocess.run([program, form, *extra], stdout=subprocess.PIPE, timeout=60, check=True)
    text = done.stdout.decode("utf-8")
    assert text.endswith("\n")
    # Not splitlines: a name may hold what Python takes for the end of a line.
    return [formats.parse(line) for line in text[:-1].split("\n")]


def objects(value, path=()):
    """Every closed object in a line, by its path: all but --adg's, which is the user's own."""
    if isinstance(value, dict):
        yield path
        for key, inner in value.items():
            if key != "output":
                yield from objects(inner, (*path, key))


def at(line, path):
    for key in path:
        line = line[key]
    return line


def changed(line, path, change):
    other = copy.deepcopy(line)
    change(at(other, path))
    return other


def without(line, path, key):
    return changed(line, path, lambda found: found.pop(key))


def with_value(line, path, key, value):
    return changed(line, path, lambda found: found.__setitem__(key, value))


# May be left out, or stand in an open table.
OPTIONAL = {"spec_signature_hash", "output", "baseline", "first_seq", "last_seq"}
TABLES = {"bad", "dropped"}


def general(line):
    """In every closed object: a member too many, each member missing, each of another type."""
    for path in objects(line):
        where = "/".join(path) or "top"
        yield f"{where}: one more", with_value(line, path, "extra", 1)
        for key in at(line, path):
            if key not in OPTIONAL and not TABLES & set(path):
                yield f"{where}: no {key}", without(line, path, key)
            for odd in (None, [1], -1.5, {"odd": 1}):
                if key != "output" or not isinstance(odd, dict):
                    yield f"{where}: {key} is {odd}", with_value(line, path, key, odd)


def special(form, line):
    """Values of the right type that are wrong all the same."""
    inside = {"raw": (), "cloudevents": ("data",), "ocsf": ("data", "unmapped")}[form]
    rows = [(inside, "cell_id", ""), (inside, "cell_id", "a b"), (inside, "cell_id", "c" * 65),
            (inside, "cell_id", "c\nd"), (inside, "run_id", "\u00e4"), (inside, "incarnation", 0),
            (inside, "incarnation", 2 ** 32), (inside, "epoch", 100000),
            (inside, "host_received_at", "2026-01-02T03:04:05Z"),
            (inside, "host_received_at", "2026-01-02 03:04:05.000000001Z"),
            (inside, "host_received_at", "2026-13-02T03:04:05.000000001Z"),
            (inside, "host_received_at", "2026-01-02T24:04:05.000000001Z"),
            (inside, "host_received_at", "2026-01-02T03:04:05.000000001+00:00"),
            (inside, "output", []), (inside, "spec_signature_hash", "a\"b")]
    if "report" in at(line, inside):
        rows += [(inside, "report", "summit"), (inside, "report_seq", 0),
                 (inside, "type", "cell.observability.guest.process.spawned")]
    else:
        rows += [(inside, "probe_source", "process.forked"),
                 (inside, "probe_source", "cell.observability.guest.telemetry.dropped"),
                 (inside, "guest_pid", 2 ** 32), (inside, "guest_pid", "7"),
                 (inside, "guest_comm", "x" * 17), (inside, "guest_monotonic_ns", MANY),
                 (inside, "content_version", 255), (inside, "content_version", 512),
                 (inside, "seq", 0)]
    if form != "raw":
        rows += [((), "specversion", "0.3"), ((), "id", "c/r/1"), ((), "id", "c/r/0/1"),
                 ((), "source", "/cellos"), ((), "type", "com.example.other"),
                 ((), "datacontenttype", "text/plain"), ((), "subject", "x"),
                 ((), "dataschema", "urn:cellos:schema:other"), ((), "time", "today")]
    if form == "ocsf":
        data = ("data",)
        rows += [(data, "class_uid", 1002), (data, "class_name", "Other"),
                 (data, "activity_id", 3), (data, "category_uid", 9), (data, "type_uid", 1),
                 (data, "severity_id", 7), (data, "time", "2026"),
                 (("data", "metadata"), "version", "1.4.0"),
                 (("data", "metadata"), "profiles", []), (("data", "device"), "type_id", 0)]
    for path, key, value in rows:
        yield f"{key} is {value!r}", with_value(line, path, key, value)


def check_valid(validator, form, lines):
    seen = set()
    for line in lines:
        fault = validator.fault(form, line)
        assert fault is None, f"{form}: {fault}\n{line}"
        formats.check_agreement(form, line)
        inside = formats.declaration(form, line)
        seen.add(inside.get("report", inside.get("probe_source")))
    return seen


def check_mutants(validator, form, lines):
    """One line of each kind, changed in every way; each of the changed ones must fail."""
    kinds, tried = {}, 0
    for line in lines:
        inside = formats.declaration(form, line)
        kinds.setdefault(inside.get("report", inside.get("probe_source")), line)
    for kind, line in kinds.items():
        number = 0
        for what, mutant in [*general(line), *special(form, line)]:
            assert mutant != line, f"{form} {kind}: {what} changes nothing"
            assert validator.fault(form, mutant) is not None, f"{form} {kind}: {what} is let pass"
            number += 1
        assert number >= 20, f"{form} {kind}: only {number} changed lines"
        tried += number
    return tried


def main(program):
    validator = formats.Validator()
    kinds = set()
    for form in FORMS:
        full, bare = lines_of(program, form), lines_of(program, form, "bare")
        seen = check_valid(validator, form, [*full, *bare])
        assert not kinds or kinds == seen, f"{form} has other lines than the format before"
        kinds = seen
        # The smallest numbers first, so that a kind's line has no table entries; the last of a
        # kind has them all.
        tried = check_mutants(validator, form, [*reversed(full)]) + check_mutants(
            validator, form, bare)
        print(f"{form}: {len(full) + len(bare)} lines valid, {tried} changed lines refused")
    assert len(kinds) == 20, f"{len(kinds)} kinds of line: {sorted(kinds)}"


if __name__ == "__main__":
    main(sys.argv[1])
