# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""direction.py BUILD: data flows one way because the build says so, not because a reviewer does.

Each folder's own compile command, as the build runs it, is given one include after the other: every
public header, and every private header of the other folders. What the table allows has to compile,
and everything else has to fail for want of the file.
"""

import json
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from common import check, finish, wrong

# folder -> (public headers by API, private headers by folder) that it may see beside its own.
SEES = {
    "wire": ({"event", "wire"}, set()),
    "queue": ({"event", "queue"}, set()),
    "transport": ({"event", "transport"}, set()),  # event: for export.h alone
    "probes": ({"event", "queue", "probes"}, set()),
    "agent": ({"event", "wire", "queue", "transport", "probes"}, set()),
    "admission": ({"event", "admission"}, set()),
    "json": ({"event", "wire"}, set()),
    "host": ({"event", "wire", "transport", "admission"}, {"json"}),
    "cli": ({"event", "wire"}, {"json"}),
    "guard": ({"event", "guard"}, set()),  # event: for export.h alone
    "init": (set(), set()),
}

source = Path(__file__).resolve().parents[2]
commands = json.loads((Path(sys.argv[1]) / "compile_commands.json").read_text())


def commands_of(folder):
    """The ways in which this folder's files are compiled, without the file and the output."""
    ways = {}
    for entry in commands:
        file = Path(entry["directory"], entry["file"])
        if file.parent == source / "src" / folder and file.name != "main.c":
            words = shlex.split(entry["command"])
            out = words.index("-o")
            del words[out : out + 2]
            words.remove("-c")
            words.remove(entry["file"])
            ways[tuple(words)] = entry["directory"]
    return ways


def compiles(words, directory, include, scratch):
    """Whether the build gives this folder our header of that name (libc has a threads.h as well)."""
    file = scratch / "probe.c"
    file.write_text(f'#include "{include}"\nextern int cellos_nothing;\n')
    done = subprocess.run(
        [*words, "-fsyntax-only", "-H", file],
        cwd=directory,
        text=True,
        capture_output=True,
        timeout=60,
    )
    missing = f"{include}: No such file" in done.stderr or f"'{include}' file not found" in done.stderr
    if done.returncode != 0 and not missing:
        wrong(f"{include} fails for another reason:\n{done.stderr}")
    # -H: the first line names the file that the include led to.
    return done.returncode == 0 and str(source) in done.stderr.splitlines()[0]


def tries(folder):
    """(include, allowed) for everything that a file of this folder might try."""
    apis, folders = SEES[folder]
    for header in sorted((source / "include").glob("*/cellos/*.h")):
        yield f"cellos/{header.name}", header.parts[-3] in apis
    own = {header.name for header in (source / "src" / folder).glob("*.h")}
    for header in sorted((source / "src").glob("*/*.h")):
        if header.parent.name != folder and header.name not in own:
            yield header.name, header.parent.name in folders


seen = allowed_count = 0
with tempfile.TemporaryDirectory() as scratch:
    for folder in sorted(path.name for path in (source / "src").iterdir() if path.is_dir()):
        if folder not in SEES:
            wrong(f"src/{folder} has no row in the table of this test")
            continue
        ways = commands_of(folder)
        if not ways:
            wrong(f"nothing of src/{folder} is compiled in this build")
            continue
        for include, allowed in tries(folder):
            seen += 1
            allowed_count += allowed
            does = [compiles(way, ways[way], include, Path(scratch)) for way in ways]
            # A folder may consist of two targets of which one sees less.
            check(any(does) or not allowed, f"src/{folder} cannot include {include}")
            check(allowed or not any(does), f"src/{folder} can include {include}, against the flow")

check(0 < allowed_count < seen, "both kinds of try were there")
finish(f"{allowed_count} includes with the flow compile, {seen - allowed_count} against it do not")
