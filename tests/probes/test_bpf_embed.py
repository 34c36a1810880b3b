#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""test_bpf_embed.py CMAKE SCRIPT CLANG: what CellosBpfEmbed.cmake makes of objects, and which
it refuses, so that nobody ships a program that the loader would load wrongly."""

import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

CMAKE, SCRIPT, CLANG = sys.argv[1:4]
SECTION = '__attribute__((section("{0}"), used)) int {0}_program(void *context)'


class Embed(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="cellos-bpf-")
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def compile(self, text):
        source, out = self.folder / "x.bpf.c", self.folder / "x.bpf.o"
        source.write_text(text)
        subprocess.run([CLANG, "-target", "bpfel", "-mcpu=v3", "-O2", "-g0", "-c", source, "-o",
                        out], check=True, timeout=60)
        return out

    def embed(self, source, *programs):
        """The header, or None and what the script said."""
        out = self.folder / "x_bpf.h"
        done = subprocess.run(
            [CMAKE, "-D", f"OBJECT={source}", "-D", f"HEADER={out}", "-D", "NAME=x", "-D",
             "PROGRAMS=" + ";".join(programs), "-P", SCRIPT],
            capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode == 0, out.exists(), done.stderr)
        return (out.read_text() if out.exists() else None), done.stderr

    def refused(self, what, text, *programs):
        header, said = self.embed(self.compile(text), *programs)
        self.assertIsNone(header)
        # CMake wraps what it says.
        self.assertIn(what, re.sub(r"\s+", " ", said))

    def test_words_and_places(self):
        header, said = self.embed(self.compile(
            "extern char map[], other[];\n"
            "static long (*const helper)(void *, void *) = (void *)1;\n"
            + SECTION.format("first") + "{ return helper(map, other) + helper(other, context); }\n"
            + SECTION.format("second") + "{ return 0x1234; }\n"), "first", "second")
        self.assertIsNotNone(header, said)
        places = re.findall(r'\{(\d+), "(\w+)"\}', header)
        self.assertEqual(sorted(name for _, name in places), ["map", "other", "other"])
        words = {name: [int(word, 16) for word in re.findall("0x[0-9a-f]+", text)]
                 for name, text in re.findall(r"x_bpf_(\w+)_words\[\] = \{(.*?)\}", header, re.S)}
        for at, _ in places:
            # A load of 64 bits, and nothing in its second half yet.
            self.assertEqual(words["first"][int(at)] & 0xff, 0x18)
            self.assertEqual(words["first"][int(at) + 1], 0)
        self.assertEqual(words["second"], [0x00001234000000b4, 0x95])
        self.assertIn('"cellos_first", x_bpf_first_words, x_bpf_first_relocs, '
                      f'{len(words["first"])}}}', header)
        self.assertIn('"cellos_second", x_bpf_second_words, x_bpf_second_relocs, 2}', header)
        self.assertRegex(header, r"x_bpf_second_relocs\[\] = \{\s*\{0, 0\},\s*\}")

    def test_nothing_to_embed_gives_the_same_names(self):
        header, _ = self.embed("", "first", "second")
        self.assertEqual(re.findall(r"cellos_bpf_program (\w+);", header),
                         ["x_bpf_first", "x_bpf_second"])

    def test_a_program_that_is_not_there(self):
        self.refused("no program 'third'", SECTION.format("first") + "{ return 0; }\n", "third")

    def test_data_of_its_own(self):
        for data in "int counter = 7;", "int counter;", "static volatile int counter;":
            self.refused("'counter' is not a map or a constant from outside"
                         if "static" not in data else "not a map or a constant from outside",
                         data + SECTION.format("first") + "{ return counter++; }\n", "first")

    def test_a_call_between_functions(self):
        self.refused("not a map or a constant from outside",
                     "__attribute__((noinline)) int far(int x) { return x * 3 ^ x; }\n"
                     + SECTION.format("first") + "{ return far((long)context); }\n", "first")

    def test_what_is_no_object_of_ours(self):
        text = self.folder / "text"
        text.write_text("not an object, but long enough to be mistaken for one by a reader that "
                        "does not look")
        header, said = self.embed(text, "first")
        self.assertIsNone(header)
        self.assertIn("no little-endian 64-bit ELF file", said)
        native = self.folder / "native.o"
        source = self.folder / "native.c"
        source.write_text("int x;\n")
        subprocess.run([CLANG, "-c", source, "-o", native], check=True, timeout=60)
        header, said = self.embed(native, "first")
        self.assertIsNone(header)
        self.assertIn("is not for BPF", said)


if __name__ == "__main__":
    unittest.main(verbosity=2, argv=[sys.argv[0]])
