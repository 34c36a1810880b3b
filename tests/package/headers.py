# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""headers.py PREFIX: every installed header compiles alone, twice over, as C and as C++."""

import sys
import tempfile
from pathlib import Path

from common import check, finish, run

include = Path(sys.argv[1]) / "include"
ways = [
    ("gcc", "-xc", "-std=c11"),
    ("g++", "-xc++", "-std=c++17"),
    ("clang", "-xc", "-std=c11"),
    ("clang++", "-xc++", "-std=c++17"),
]
warnings = ["-Wall", "-Wextra", "-Wshadow", "-Wundef", "-pedantic", "-Werror"]

headers = sorted(path.relative_to(include) for path in include.rglob("*.h"))
check(len(headers) >= 5, f"only {len(headers)} headers are installed")
with tempfile.TemporaryDirectory() as scratch:
    # C wants at least one declaration, and a header may hold macros alone.
    file = Path(scratch, "one_declaration.c")
    file.write_text("extern int cellos_nothing;\n")
    for header in headers:
        twice = ["-include", header, "-include", header, "-I", include]
        for compiler, language, standard in ways:
            run(compiler, language, standard, *warnings, "-fsyntax-only", *twice, file)

finish(f"{len(headers)} headers, {len(ways)} compilers and languages")
