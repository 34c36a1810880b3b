# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""symbols.py PREFIX: the shared library exports what the public headers mark, and nothing else.

The archive cannot hide a name, so there every name that a program could run into is ours by prefix.
"""

import re
import sys
from pathlib import Path

from common import check, finish, run, wrong

prefix = Path(sys.argv[1])
shared = next(prefix.glob("lib/**/libcellos-telemetry.so"))
archive = next(prefix.glob("lib/**/libcellos-telemetry.a"))


def without_comments(text):
    return re.sub(r"/\*.*?\*/|//[^\n]*", " ", text, flags=re.S)


def promised():
    names = set()
    for header in (prefix / "include").rglob("*.h"):
        text = without_comments(header.read_text())
        text = re.sub(r"^\s*#.*$", "", text, flags=re.M)
        for declaration in re.findall(r"\bCELLOS_EXPORT\b([^;]*);", text):
            found = re.search(r"\b(cellos_\w+)\s*[(\[]", declaration)
            if found is None:
                wrong(f"{header.name}: cannot read the declaration{declaration}")
                continue
            names.add(found.group(1))
        # A function that a header declares without the mark would be missing from the library.
        unmarked = re.sub(r"\bCELLOS_EXPORT\b[^;]*;|\btypedef\b[^;]*;", "", text)
        unmarked = re.sub(r"\bstatic inline\b", "static", unmarked)
        for name in re.findall(r"^\w[^;{}()#]*?\b(cellos_\w+)\s*\([^;{]*\)\s*;", unmarked, flags=re.M):
            wrong(f"{header.name}: {name} is declared without CELLOS_EXPORT")
    return names


def exported():
    lines = run("nm", "-D", "--defined-only", shared).splitlines()
    names = {line.split()[2] for line in lines}
    for name in names:
        check(name == "CELLOS_0" or name.endswith("@@CELLOS_0"), f"{name} has no version")
    return {name.split("@")[0] for name in names} - {"CELLOS_0"}


declared, there = promised(), exported()
check(len(declared) >= 20, f"only {len(declared)} marked names found: is this test still reading?")
for name in sorted(declared - there):
    wrong(f"{name} stands in a public header and is not exported")
for name in sorted(there - declared):
    wrong(f"{name} is exported and stands in no public header")

for line in run("nm", "-g", "--defined-only", archive).splitlines():
    words = line.split()
    if len(words) == 3:
        check(words[2].startswith("cellos_"), f"the archive defines {words[2]} for everybody")

soname = re.search(r"SONAME.*\[(.*)\]", run("readelf", "-d", shared)).group(1)
check(soname == "libcellos-telemetry.so.0", f"the soname is {soname}")
needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", shared))
check(needed == ["libc.so.6"], f"the shared library needs {needed}, and not libc alone")

finish(f"{len(there)} exported names, all of them declared")
