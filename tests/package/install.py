# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""install.py CMAKE BUILD PREFIX VERSION: the setup of the tests that look at an installed tree.

Installs beside PREFIX and moves the result there, so that whatever still knows the first place is
found out by the tests that follow.
"""

import shutil
import sys
from pathlib import Path

from common import check, finish, run

cmake, build, prefix, version = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4]
source = Path(__file__).resolve().parents[2]
stage = prefix.with_name("stage")

for folder in (stage, prefix):
    shutil.rmtree(folder, ignore_errors=True)
run(cmake, "--install", build, "--prefix", stage)
stage.rename(prefix)

for name in ("cellos-telemetry", "cellos-telemetry-host", "cellos-wire"):
    program = prefix / "bin" / name
    said = run(program, "--version") if program.exists() else "(not installed)"
    check(said == f"{name} {version}\n", f"{name} --version says {said!r}")
    check((prefix / f"share/man/man1/{name}.1").exists(), f"{name}(1) is not installed")

check(list(prefix.glob("share/doc/*/LICENSE")), "LICENSE is not installed")
for name in ("README.md", "docs/wire.md", "docs/ledger.md"):
    where = "share/doc/*/" + Path(name).name
    check(list(prefix.glob(where)), f"{name} is not installed")
pages = [page for page in (source / "man").glob("*.[1-8]")]
for page in pages:
    where = prefix / "share/man" / f"man{page.suffix[1:]}" / page.name
    check(where.exists(), f"{page.name} is not installed")

for path in prefix.rglob("*"):
    if path.suffix in (".cmake", ".pc", ".h"):
        text = path.read_text()
        for place in (str(stage), str(build), str(source)):
            check(place not in text, f"{path.relative_to(prefix)} still names {place}")

finish(f"{sum(1 for path in prefix.rglob('*') if path.is_file())} files installed")
