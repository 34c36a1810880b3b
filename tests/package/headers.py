# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""headers.py PREFIX: every installed header compiles alone, twice over, as C and as C++."""

import sys
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
for header in headers:
    for compiler, language, standard in ways:
        # Included by hand, not as the main file: "#pragma once in main file" and unused static
        # functions are judged differently there.
        flags = ["-include", header, "-include", header, "-I", include]
        run(compiler, language, standard, *warnings, "-fsyntax-only", *flags, "/dev/null")

finish(f"{len(headers)} headers, {len(ways)} compilers and languages")
