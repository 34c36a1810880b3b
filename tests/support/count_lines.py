#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""count_lines.py [ROOT]: how large the guest's part is, without comments and blank lines.

Counted are the folders of src/ that the agent is made of, but for the few files in them that no agent
links: the decoder and the listening side are the host's. These and the public headers are told beside
the sum. Exit 1 above the bar: the agent is read by whoever has to trust it.
"""

import re
import sys
from pathlib import Path

BAR = 6000
FOLDERS = ("probes", "queue", "wire", "transport", "agent")
HOST_ONLY = ("src/wire/decode.c", "src/wire/stream.c", "src/transport/listener.c")
# A string or character literal is kept whole, so that no comment starts inside one.
TOKEN = re.compile(
    r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')|/\*.*?\*/|//[^\n]*""", re.S
)


def lines_of_code(text):
    bare = TOKEN.sub(lambda token: token.group(1) or " ", text)
    return sum(1 for line in bare.split("\n") if line.strip())


def lines_in(files):
    return sum(lines_of_code(path.read_text()) for path in files)


def lines_in_folder(root, folder):
    sources = [path for path in (root / folder).rglob("*") if path.suffix in (".c", ".h")]
    if not sources:
        sys.exit(f"count_lines.py: cannot find a source file in {folder}")
    count = lines_in(sources)
    print(f"{count:6} {folder}")
    return count


def main():
    root = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parents[2])
    lines_in_folder(root, "include")
    total = sum(lines_in_folder(root, f"src/{name}") for name in FOLDERS)
    host = lines_in(root / name for name in HOST_ONLY)
    print(f"{host:6} of these in {', '.join(HOST_ONLY)}: the host's")
    total -= host
    print(f"{total:6} lines in the guest, of at most {BAR}")
    return 1 if total > BAR else 0


if __name__ == "__main__":
    sys.exit(main())
