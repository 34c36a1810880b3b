# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""manpages.py MAN PREFIX: what a program says with --help and what its man page says are the same.

Options are compared both ways, and each page has to be sound mdoc or man for mandoc.
"""

import re
import subprocess
import sys
from pathlib import Path

from common import check, finish, run, wrong

man, prefix = Path(sys.argv[1]), Path(sys.argv[2])
OPTION = r"--[a-z][a-z0-9-]*"


def rendered(page):
    """The page as a reader sees it, so that it does not matter in which macros it is written."""
    text = run("mandoc", "-T", "ascii", "-O", "width=1000", page)
    return re.sub(r".\x08", "", text)


def lint(page):
    done = subprocess.run(
        ["mandoc", "-T", "lint", "-W", "style", page], text=True, capture_output=True, timeout=60
    )
    for line in (done.stdout + done.stderr).splitlines():
        # Whether this machine has the pages it points to is no business of this one.
        if "referenced manual not found" not in line and "mandoc.db" not in line:
            wrong(line)


def section(text, title):
    found = re.search(rf"^{title}\n(.*?)(?=^\S|\Z)", text, flags=re.M | re.S)
    return found.group(1) if found else ""


def offered(program):
    """Every option that --help names. A page may also speak of other programs' options, help not."""
    return set(re.findall(OPTION, run(program, "--help")))


def described(text):
    """Options at the head of a paragraph (a list's tag), and those of the synopsis."""
    heads = re.findall(rf"^\s+(?:-\w, )?({OPTION})", text, flags=re.M)
    return set(heads), set(re.findall(OPTION, section(text, "SYNOPSIS")))


def compare(program):
    page = man / f"{program.name}.1"
    if not page.exists():
        wrong(f"there is no page for {program.name}")
        return
    text = rendered(page)
    there = offered(program)
    heads, synopsis = described(text)
    check(there, f"{program.name} --help names no option")
    for option in sorted(there - heads):
        wrong(f"{program.name}: {option} is in --help and not in the man page")
    for option in sorted((heads | synopsis) - there):
        wrong(f"{program.name}: {option} is in the man page and not in --help")
    for code in "012":
        status = section(text, "EXIT STATUS")
        check(re.search(rf"\b{code}\b", status), f"{program.name}(1): exit status {code} is missing")


pages = sorted(man.glob("*.[1-8]"))
check(pages, "there are no man pages")
for page in pages:
    lint(page)
programs = sorted((prefix / "bin").iterdir())
for program in programs:
    compare(program)

finish(f"{len(pages)} pages, {len(programs)} programs")
