# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""files.py BUILD PREFIX VERSION: what has to be in an installed tree is there, and may be moved."""

import re
import sys
from pathlib import Path

from common import check, finish, run

build, prefix, version = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
source = Path(__file__).resolve().parents[2]

for name in ("cellos-telemetry", "cellos-telemetry-host", "cellos-wire", "cellos-guard"):
    program = prefix / "bin" / name
    said = run(program, "--version") if program.exists() else "(not installed)"
    check(said == f"{name} {version}\n", f"{name} --version says {said!r}")
    check((prefix / f"share/man/man1/{name}.1").exists(), f"{name}(1) is not installed")

for name in ("LICENSE", "README.md", "docs/wire.md", "docs/ledger.md"):
    where = "share/doc/*/" + Path(name).name
    check(list(prefix.glob(where)), f"{name} is not installed")
for path in [*(source / "docs" / "schemas").iterdir(), *(source / "docs" / "images").iterdir()]:
    where = f"share/doc/*/{path.parent.name}/{path.name}"
    check(list(prefix.glob(where)), f"{path.name} is not installed")
for page in (source / "man").glob("*.[1-8]"):
    where = prefix / "share/man" / f"man{page.suffix[1:]}" / page.name
    check(where.exists(), f"{page.name} is not installed")

# install.py moved the tree after installing it: nothing in it may know where it was made.
texts = [path for path in prefix.rglob("*") if path.suffix in (".cmake", ".pc", ".h")]
check(len(texts) >= 8, f"only {len(texts)} texts for compilers and build tools")
for path in texts:
    text = path.read_text()
    for place in (prefix.with_name("stage"), build, source):
        # As a whole path: a tree that stands in /cellos is not named by include/cellos.
        found = re.search(rf"(?<![\w.}}-]){re.escape(str(place))}(?![\w.-])", text)
        check(found is None, f"{path.relative_to(prefix)} still names {place}")

finish(f"{len(texts)} texts, three programs")
