#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""lint_tree.py [ROOT]: what no compiler checks of the source tree.

One line per finding, `file:line: what`; exit 1 when there is any. lint_tree_test.py shows each rule
a tree that breaks it.
"""

import os
import re
import sys
from pathlib import Path

SKIPPED_FOLDERS = {".git", "build", "out", "corpus", "__pycache__", "vectors"}
# Texts that have no comments, or are the licence itself.
NO_SPDX = {".md", ".json", ".jsonl", ".svg", ".gitignore", ".editorconfig", ".clang-format"}
SPDX = (
    "SPDX-FileCopyrightText: cellos-telemetry contributors",
    "SPDX-License-Identifier: LGPL-2.1-or-later",
)
# Folders of src/ -> what their quoted includes may name beside their own files (direction.py shows
# that the build agrees).
FLOW = {
    "wire": {"cellos/event.h", "cellos/wire.h", "cellos/declaration.h"},
    "queue": {"cellos/event.h", "cellos/queue.h"},
    "transport": {"cellos/transport.h"},
    "probes": {"cellos/event.h", "cellos/queue.h", "cellos/probe.h"},
    "agent": {
        "cellos/event.h",
        "cellos/wire.h",
        "cellos/queue.h",
        "cellos/transport.h",
        "cellos/probe.h",
    },
    "admission": {"cellos/admission.h", "cellos/declaration.h"},
    "json": {"cellos/event.h", "cellos/wire.h"},
    "host": {
        "cellos/event.h",
        "cellos/wire.h",
        "cellos/transport.h",
        "cellos/admission.h",
        "cellos/declaration.h",
        "cellos_json_line.h",
        "cellos_json_strict.h",
    },
    "cli": {"cellos/event.h", "cellos/wire.h", "cellos_json_line.h", "cellos_json_strict.h"},
    "guard": {"cellos/guard.h"},
    "init": set(),
}
EVERYWHERE = {"cellos/export.h"}
# Libraries -> the one folder that knows them; the guest's folders know libc alone.
LIBRARIES = {
    r"urcu[./]|urcu-": {"queue"},
    r"json-c/": {"cli", "host"},
    r"uv\.h|uv/": {"host"},
    r"sanitizer/": {"queue"},
    r"seccomp\.h": {"guard"},
}
# Places of one machine. Pieces, so that this file does not find itself.
MACHINE = re.compile(r"(?<![\w.$}*])/(?:home|work|root|Users)/\w")
LEFT_OVER = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X)\b")


def files(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            path = Path(folder, name)
            # .git is a file in a work tree beside the first one.
            if not path.is_symlink() and name not in SKIPPED_FOLDERS:
                yield path


def story_of(lines):
    """The comment that follows the two SPDX lines; empty when there is none."""
    text = "\n".join(lines[2:]).lstrip("\n")
    return text.split("*/")[0] if text.startswith("/*") else ""


class Lint:
    def __init__(self, root):
        self.root = root
        self.found = []
        self.seen = 0

    def say(self, path, line, what):
        self.found.append(f"{path.relative_to(self.root)}:{line}: {what}")

    def spdx(self, path, lines):
        if path.name == "LICENSE" or path.suffix in NO_SPDX or path.name in NO_SPDX:
            return
        # A "#!" line may stand above.
        head = lines[1:3] if lines and lines[0].startswith("#!") else lines[:2]
        for wanted, line in zip(SPDX, head + ["", ""]):
            if wanted not in line:
                self.say(path, 1, f"does not open with '{wanted}'")

    def purpose(self, path, lines):
        """The story at the top of a C file: after the SPDX lines, before any code.

        A .c file may leave it to a header that stands beside it and that it names.
        """
        story = story_of(lines)
        named = [path.with_name(name) for name in re.findall(r"\b\w+\.h\b", story)]
        stories = [story] + [
            story_of(header.read_text().split("\n")) for header in named if header.exists()
        ]
        if max(len(text.split()) for text in stories) < 8:
            self.say(path, 3, "does not say what it is for")
        elif path.suffix == ".c" and not re.search("[Tt]hread|[Pp]ure", " ".join(stories)):
            self.say(path, 3, "does not say which threads are involved")

    def includes(self, path, folder, lines):
        mine = self.root / "src" / folder
        own = {name.name for name in mine.rglob("*.h")}
        # Made by the build, cmake/CellosBpf.cmake and cmake/CellosCage.cmake.
        own |= {name.name.replace(".bpf.c", "_bpf.h") for name in mine.rglob("*.bpf.c")}
        own |= {name.with_suffix(".h").name for name in mine.rglob("*_filter.py")}
        for number, line in enumerate(lines, 1):
            quoted = re.match(r'\s*#\s*include\s*"([^"]*)"', line)
            angled = re.match(r"\s*#\s*include\s*<([^>]*)>", line)
            if quoted and quoted.group(1) not in FLOW[folder] | EVERYWHERE | own:
                self.say(path, number, f"src/{folder} may not include {quoted.group(1)}")
            for library, folders in LIBRARIES.items():
                if angled and re.match(library, angled.group(1)) and folder not in folders:
                    self.say(path, number, f"src/{folder} may not include {angled.group(1)}")
            if angled and angled.group(1).startswith("cellos"):
                self.say(path, number, "our own headers are included with quotes")

    def layout(self, path, raw, lines):
        if path.name == "LICENSE":
            return
        if raw and not raw.endswith(b"\n"):
            self.say(path, len(lines), "does not end with a newline")
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                self.say(path, number, "ends with a blank or a carriage return")
            if MACHINE.search(line):
                self.say(path, number, "names a place of one machine")
            if LEFT_OVER.search(line):
                self.say(path, number, "a note of unfinished work")

    def executable(self, path, lines):
        shebang = bool(lines) and lines[0].startswith("#!")
        if os.access(path, os.X_OK) and not shebang:
            self.say(path, 1, "is executable and has no #! line")
        if shebang and "env " in lines[0]:
            self.say(path, 1, "runs whatever comes first in PATH")

    def file(self, path):
        raw = path.read_bytes()
        self.seen += 1
        if path.suffix == ".png":
            if not raw.startswith(b"\x89PNG\r\n\x1a\n"):
                self.say(path, 1, "is not the picture that its name says")
            return
        try:
            lines = raw.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            self.say(path, 1, "is not UTF-8 text")
            return
        parts = path.relative_to(self.root).parts
        self.spdx(path, lines)
        self.layout(path, raw, lines)
        self.executable(path, lines)
        if path.suffix in (".c", ".h") and parts[0] in ("src", "include"):
            self.purpose(path, lines)
        if path.suffix in (".c", ".h") and parts[0] == "src" and len(parts) > 2:
            if parts[1] in FLOW:
                self.includes(path, parts[1], lines)
            else:
                self.say(path, 1, f"src/{parts[1]} has no row in the table of lint_tree.py")


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2]).resolve()
    lint = Lint(root)
    for path in files(root):
        lint.file(path)
    for line in lint.found:
        print(line)
    if lint.seen == 0:
        sys.exit(f"lint_tree.py: cannot find a file under {root}")
    print(f"{lint.seen} files looked at, {len(lint.found)} findings")
    return 1 if lint.found else 0


if __name__ == "__main__":
    sys.exit(main())
