#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Each rule of lint_tree.py against a tree that breaks it, and a tree that breaks none."""

import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

LINT = Path(__file__).with_name("lint_tree.py")
SPDX_C = (
    "/* SPDX-FileCopyrightText: cellos-telemetry contributors */\n"
    "/* SPDX-License-Identifier: LGPL-2.1-or-later */\n"
)
STORY = "\n/*\n * Something that a reader can learn the purpose from.\n *\n * Threads: one.\n */\n"
SPDX_SH = SPDX_C.replace("/*", "#").replace(" */", "")


class LintTree(unittest.TestCase):
    def lint(self, name, text, mode=0o644, beside=None):
        """The findings of a tree that holds this one file, and those `beside` it."""
        with tempfile.TemporaryDirectory() as root:
            path = Path(root, name)
            path.parent.mkdir(parents=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
            path.chmod(mode)
            for other, other_text in (beside or {}).items():
                path.with_name(other).write_text(other_text)
            done = subprocess.run(
                [sys.executable, LINT, root], text=True, capture_output=True, timeout=60
            )
        *found, last = done.stdout.splitlines()
        self.assertEqual(done.stderr, "")
        self.assertEqual(last, f"{1 + len(beside or {})} files looked at, {len(found)} findings")
        self.assertEqual(done.returncode, 1 if found else 0)
        return found

    def assert_finds(self, what, *arguments, **options):
        found = self.lint(*arguments, **options)
        self.assertEqual(len(found), 1, found)
        self.assertIn(what, found[0])

    def test_a_sound_file_has_no_finding(self):
        self.assertEqual(self.lint("src/wire/a.c", SPDX_C + STORY + '#include "cellos/wire.h"\n'), [])
        self.assertEqual(self.lint("tools/run", "#!/bin/bash\n" + SPDX_SH, mode=0o755), [])

    def test_licence_lines(self):
        self.assert_finds("LGPL-2.1-or-later'", "src/wire/a.c", SPDX_C.split("\n")[0] + "\n" + STORY)
        found = self.lint("tests/x/a.c", "int a;\n")
        self.assertEqual(len(found), 2)
        self.assertIn("does not open with 'SPDX-FileCopyrightText", found[0])

    def test_story_at_the_top(self):
        self.assert_finds("what it is for", "src/wire/a.c", SPDX_C + "\nint a;\n")
        self.assert_finds("what it is for", "include/wire/cellos/a.h", SPDX_C + "\n/* short */\n")
        text = SPDX_C + STORY.replace("Threads: one.", "It has no side effect at all.")
        self.assert_finds("which threads", "src/wire/a.c", text)

        # A pointer to the header is as good as the story, but only to one that is there.
        self.assert_finds("what it is for", "src/wire/a.c", SPDX_C + "\n/* See a.h. */\nint a;\n")
        self.assertEqual(
            self.lint("src/wire/a.h", SPDX_C + STORY, beside={"a.c": SPDX_C + "\n/* See a.h. */\n"}),
            [],
        )

    def test_direction(self):
        for folder, header in (
            ("wire", "cellos/queue.h"),
            ("wire", "tsan.h"),
            ("queue", "cellos/wire.h"),
            ("transport", "cellos/wire.h"),
            ("probes", "cellos/transport.h"),
            ("host", "cellos/queue.h"),
            ("wire", "../queue/tsan.h"),
            ("guard", "cellos/probe.h"),
            ("init", "cellos/guard.h"),
        ):
            text = SPDX_C + STORY + f'#include "{header}"\n'
            self.assert_finds(f"may not include {header}", f"src/{folder}/a.c", text)
        self.assert_finds("no row in the table", "src/newcomer/a.c", SPDX_C + STORY)

    def test_libraries(self):
        for folder, header in (
            ("probes", "urcu/wfcqueue.h"),
            ("agent", "urcu-bp.h"),
            ("wire", "json-c/json.h"),
            ("agent", "uv.h"),
            ("agent", "seccomp.h"),
        ):
            text = SPDX_C + STORY + f"#include <{header}>\n"
            self.assert_finds(f"may not include {header}", f"src/{folder}/a.c", text)
        text = SPDX_C + STORY + "#include <cellos/queue.h>\n"
        self.assert_finds("with quotes", "src/wire/a.c", text)

    def test_layout(self):
        self.assert_finds("end with a newline", "a/b.cmake", SPDX_SH + "x")
        self.assert_finds("ends with a blank", "a/b.cmake", SPDX_SH + "x \n")
        self.assert_finds("carriage return", "a/b.cmake", SPDX_SH + "x\r\n")
        self.assert_finds("UTF-8", "a/b.cmake", b"\xff\n")

    def test_places_of_one_machine(self):
        for place in ("home/somebody", "work/tree", "root/x", "Users/somebody"):
            self.assert_finds("one machine", "a/b.cmake", SPDX_SH + f"set(x /{place})\n")
        self.assertEqual(self.lint("a/b.cmake", SPDX_SH + "a/home/x $d/work/x\n"), [])

    def test_left_overs(self):
        for word in ("TO" + "DO", "FIX" + "ME", "XX" + "X"):
            self.assert_finds("unfinished", "a/b.cmake", SPDX_SH + f"# {word}: more\n")

    def test_pictures(self):
        self.assertEqual(self.lint("docs/a.png", b"\x89PNG\r\n\x1a\n\xff"), [])
        self.assert_finds("not the picture", "docs/a.png", b"GIF89a")

    def test_executables(self):
        self.assert_finds("no #! line", "a/run", SPDX_SH, mode=0o755)
        env = "#!/usr/bin/env python3\n"
        self.assert_finds("first in PATH", "a/run", env + SPDX_SH, mode=0o755)


if __name__ == "__main__":
    unittest.main()
