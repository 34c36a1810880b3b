# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""consumers.py CMAKE SOURCE PREFIX BUILD: a project of its own uses the installed tree.

C and C++, shared and static, found by CMake and by pkg-config: eight programs. Each one has to run,
and to be linked as it says it is.
"""

import os
import re
import shutil
import sys
from pathlib import Path

from common import check, finish, run

cmake, source, prefix, build = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-pedantic"]
LANGUAGES = {"c": ["cc", "-std=c11", "consumer.c"], "cxx": ["c++", "-std=c++17", "consumer.cc"]}


def by_cmake():
    run(cmake, "-S", source, "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", build)
    for language in LANGUAGES:
        for linkage in ("shared", "static"):
            yield linkage, build / f"consumer_{language}_{linkage}"


def by_pkg_config():
    folder = next(prefix.glob("lib/**/pkgconfig"))
    environment = dict(os.environ, PKG_CONFIG_PATH=str(folder), PKG_CONFIG_LIBDIR=str(folder))
    for linkage, more in (("shared", []), ("static", ["--static"])):
        flags = run("pkg-config", *more, "--cflags", "--libs", "cellos-telemetry", env=environment)
        for language, (compiler, standard, file) in LANGUAGES.items():
            program = build / f"pkg_config_{language}_{linkage}"
            library = folder.parent
            how = ["-static"] if linkage == "static" else [f"-Wl,-rpath,{library}"]
            run(compiler, standard, *WARNINGS, source / file, "-o", program, *flags.split(), *how)
            yield linkage, program


shutil.rmtree(build, ignore_errors=True)
build.mkdir(parents=True)
programs = [*by_cmake(), *by_pkg_config()]
for linkage, program in programs:
    check(run(program) == "one event there and back\n", f"{program.name} says something else")
    needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", program))
    ours = [name for name in needed if "cellos" in name]
    wanted = ["libcellos-telemetry.so.0"] if linkage == "shared" else []
    check(ours == wanted, f"{program.name} needs {ours}, not {wanted}")
check(len(programs) == 8, f"{len(programs)} programs")

finish("C and C++, shared and static, by CMake and by pkg-config")
