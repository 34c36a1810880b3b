#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""test_page.py HOST [PICTURE.png]: the page of a captured run, made by HOST and opened in Chromium.

What counts is what the browser makes of it: its own tree of the page is read back, with every name in the
file trying to be more than a name. With PICTURE the documentation's picture is made as well.
"""

import collections
import html.parser
import json
import os
import pathlib
import resource
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest
import zlib

import capture

HOST = ""
SCRIPTED = "<svg onload=document.title=1>"
CHROMIUM = shutil.which("chromium")


def make(folder, text, name="run.ndjson"):
    """The page of a file with this text: its path and its source."""
    source = folder / name
    source.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8"))
    page = folder / f"{name}.html"
    with open(page, "wb") as out:
        done = subprocess.run([HOST, "report", name], cwd=folder, stdin=subprocess.DEVNULL,
                              stdout=out, stderr=subprocess.PIPE, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return page, page.read_text(encoding="utf-8")


def chromium(folder, *words):
    """Headless, without a network: no name is found, and nothing answers."""
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
               "--disable-dev-shm-usage", f"--user-data-dir={folder}/profile",
               "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9",
               "--proxy-bypass-list=<-loopback>", *words]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, timeout=90, check=False)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    return done.stdout.decode("utf-8")


def pixels(png):
    """The colours of a PNG of eight bits without alpha or with it, by how many pixels have them."""
    width, height, _, kind = struct.unpack(">IIBB", png[16:26])
    size = {2: 3, 6: 4}[kind]
    at, packed = 8, b""
    while at < len(png):
        length = int.from_bytes(png[at:at + 4], "big")
        if png[at + 4:at + 8] == b"IDAT":
            packed += png[at + 8:at + 8 + length]
        at += 12 + length
    raw, before, found = zlib.decompress(packed), bytearray(width * size), collections.Counter()
    for y in range(height):
        start = y * (width * size + 1)
        row = bytearray(raw[start + 1:start + 1 + width * size])
        for x in range(width * size) if raw[start] else ():
            left = row[x - size] if x >= size else 0
            corner = before[x - size] if x >= size else 0
            guess = left + before[x] - corner
            row[x] = (row[x] + (
                0, left, before[x], (left + before[x]) // 2,
                min((left, before[x], corner), key=lambda value: abs(guess - value)),
            )[raw[start]]) & 255
        found.update(bytes(row[i:i + 3]) for i in range(0, len(row), size))
        before = row
    return found


class Tree(html.parser.HTMLParser):
    """What stands in a page: elements with their attributes, and the text under each id or class."""

    VOID = {"meta", "rect", "line", "br"}

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.elements = []
        self.open = []
        self.texts = {}
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.elements.append((tag, attributes))
        names = [attributes.get("id"), *(attributes.get("class") or "").split(), tag]
        if tag not in self.VOID:
            self.open.append((tag, [name for name in names if name]))
            for name in self.open[-1][1]:
                self.texts.setdefault(name, []).append("")

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            while self.open and self.open.pop()[0] != tag:
                pass

    def handle_data(self, data):
        for _, names in self.open:
            for name in names:
                self.texts[name][-1] += data

    def count(self, name):
        return len(self.texts.get(name, []))


class Page(unittest.TestCase):
    def setUp(self):
        self.temporary = tempfile.TemporaryDirectory(prefix="cellos-page-")
        self.addCleanup(self.temporary.cleanup)
        self.folder = pathlib.Path(self.temporary.name)

    def opened(self, text):
        """The page as it was written, and as the browser has it."""
        page, source = make(self.folder, text)
        return source, Tree(chromium(self.folder, "--dump-dom", f"file://{page}"))

    def check_harmless(self, tree):
        for tag, attributes in tree.elements:
            self.assertNotIn(tag, ("script", "img", "iframe", "object", "embed", "link", "base",
                                   "form", "a", "use", "image", "foreignobject"))
            for name, value in attributes.items():
                self.assertFalse(name.startswith("on"), f"<{tag} {name}={value}>")
                self.assertNotIn(name, ("src", "href", "xlink:href", "srcset", "action"))
                self.assertNotIn("http:", value or "")
                self.assertNotIn("https:", value or "")

    def test_a_build(self):
        run = capture.a_build()
        source, tree = self.opened(run.text())
        self.check_harmless(tree)
        self.assertNotIn("://", source)
        events = [line for line in run.lines if "seq" in line]
        text = "".join(tree.texts["main"])
        self.assertIn(f"{len(events)}events", tree.texts["totals"][0].replace("\n", ""))
        self.assertEqual(20, tree.count("process"))
        bars = [title for title in tree.texts["title"] if ", pid " in title]
        self.assertIn("sh \u2192 make, pid 310: began, ended, 0 denied, 0 connects", bars)
        self.assertIn("miner, pid 402: began, end not seen, 3 denied, 14 connects", bars)
        self.assertIn("init, pid 1: beginning not seen, end not seen, 0 denied, 1 connects", bars)
        self.assertEqual("processpidcount\npython33717\nminer4023\nmount3882\n",
                         tree.texts["who-denied"][0])
        self.assertTrue(tree.texts["who-connect"][0].startswith("processpidcount\nminer40214\n"))
        self.assertIn("690 changes of declared paths", text)
        ledger = tree.texts["ledger"][0]
        self.assertIn("Events 1 to 770: all in this file", ledger)
        self.assertIn("adds up", ledger)
        self.assertIn("fs11800960", ledger.replace("\n", ""))
        self.assertIn("28 heartbeats", text)
        self.assertEqual(0, tree.count("left-out"))

    def test_every_format_makes_the_same_page(self):
        run = capture.a_build()
        wrapped, mapped = [], []
        for line in run.lines:
            wrapped.append(json.dumps({"specversion": "1.0", "data": line}))
            mapped.append(json.dumps({"specversion": "1.0",
                                      "data": {"class_uid": 1007, "unmapped": line}}))
        pages = {make(self.folder, text)[1] for text in (
            run.text(), "\n".join(wrapped), "\n".join(mapped) + "\n")}
        self.assertEqual(1, len(pages))

    def test_names_stay_names(self):
        run = capture.Capture(cell=SCRIPTED, run="</title></style><script>document.title=1</script>")
        run.stamps["spec_signature_hash"] = "\"><img src=x onerror=document.title=1>"
        names = [SCRIPTED, "</text></svg><script>", "\" onmouseover=\"x", "' x='", "&lt;b&gt;",
                 "\u202egnp.exe", "a\u0000b\u001b[2J", "\ufeff\u200b"]
        for i, name in enumerate(names):
            run.process(10 + i, name, 1 + i, 20)
            run.event(2 + i, "capability.denied", 10 + i, name)
        run.write()
        run.report("</td><script>", "telemetry.x", run.begin, text=SCRIPTED, odd={"<b>": "<i>"})
        source, tree = self.opened(run.finish().text())
        self.check_harmless(tree)
        self.assertEqual("Captured run: run.ndjson", tree.texts["title"][0])
        self.assertEqual(len(names), tree.count("process"))
        shown = "".join(tree.texts["who-denied"])
        for name in names[:5]:
            self.assertIn(name, shown)
        for name in ("\\u{202e}gnp.exe", "a\\u{0}b\\u{1b}[2J", "\\u{feff}\\u{200b}"):
            self.assertIn(name, shown)
        self.assertFalse(set("\u202e\u0000\u001b\ufeff\u200b") & set(source))
        self.assertIn("</td><script> text=" + SCRIPTED, "".join(tree.texts["reports"]))

    def test_lines_that_cannot_be_read(self):
        good = capture.a_build().lines[1]
        lines = ["", "{", "[]", "7", "null", "{}", '{"probe_source":"x"}', '{"report":7}',
                 '{"probe_source":"process.spawned"}', "x" * 200000,
                 json.dumps({**good, "guest_pid": -1}), json.dumps({**good, "guest_pid": 2 ** 32}),
                 json.dumps({**good, "guest_monotonic_ns": 1.5}),
                 json.dumps({**good, "guest_comm": "x" * 65}), json.dumps(good), "[" * 5000]
        text = "\n".join(lines).encode() + b"\n\xff\xfe\n" + json.dumps(good).encode() + b"{}\n{\"a"
        _, tree = self.opened(text)
        told = tree.texts["unreadable"][0]
        # All but the empty line and the one good one: the second has another object behind it.
        self.assertIn("17 of 19 lines could not be read", told)
        for row in ("line 2no JSON", "line 3no JSON object", "line 6neither an event nor a report",
                    "line 7a probe_source that is none of the five", "line 9no sound guest_pid",
                    "line 10longer than any line of ours", "line 8a report without a name"):
            self.assertIn(row, told)
        self.assertEqual(10, told.count("line ") - 1)
        self.assertIn("1events", tree.texts["totals"][0].replace("\n", ""))

    def test_as_deep_as_the_receiver_takes_it(self):
        """The object of --adg at its deepest, in the format that puts the most around it."""
        (self.folder / "adg").write_text('{"a":' * 31 + "1" + "}" * 31, encoding="utf-8")
        with subprocess.Popen([HOST, "--listen", "unix:s", "--adg", "adg", "--format", "ocsf",
                               "--verbose"], cwd=self.folder, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE) as receiver:
            self.assertIn(b"listening", receiver.stderr.readline())
            receiver.terminate()
            lines, _ = receiver.communicate(timeout=30)
        self.assertIn(b'"output":{"a":{"a"', lines)
        _, source = make(self.folder, lines)
        self.assertNotIn("unreadable", source)
        self.assertIn("adds up", source)

    def test_nothing_at_all(self):
        _, tree = self.opened("")
        self.assertIn("There is no event and no report in this file.", tree.texts["main"][0])

    def test_times_at_the_ends(self):
        lines = [{"probe_source": source, "guest_pid": pid, "guest_comm": "x",
                  "guest_monotonic_ns": ns, "content_version": 256}
                 for pid, source, ns in ((1, "process.spawned", 2 ** 64 - 1),
                                         (1, "process.exited", 0), (2, "process.spawned", 5),
                                         (2, "capability.denied", 3), (2, "process.exited", 9),
                                         (2, "net.connect_attempted", 10 ** 15))]
        page, source = make(self.folder, "".join(json.dumps(line) + "\n" for line in lines))
        self.assertNotIn("nan", source)
        self.assertNotIn("inf", source)
        tree = Tree(chromium(self.folder, "--dump-dom", f"file://{page}"))
        self.assertEqual(5, tree.count("process"))

    def test_a_large_run(self):
        events = 100000
        run = capture.a_large_one(events)
        for line in range(100):  # more cells than there is room for
            run.lines.append({**run.lines[-1], "cell_id": f"c{line}"})
        page, source = make(self.folder, run.text())
        self.assertLess(len(source), 1000000)
        tree = Tree(chromium(self.folder, "--dump-dom", f"file://{page}"))
        told = "".join(tree.texts["left-out"])
        self.assertIn("120 of 25\u202f000 processes are shown", told)
        self.assertIn("and 8\u202f309 processes more", told)
        self.assertIn("40 further agents are counted above and not shown", told)
        self.assertIn("37 lines of further agents are left out", tree.texts["left-out-lines"][0])
        self.assertIn("off by -3", "".join(tree.texts["ledger"]))
        self.assertIn("100\u202f000events", tree.texts["totals"][0].replace("\n", ""))

    def test_more_than_is_kept(self):
        """Memory has its limit, too: a file of any length, in the address space of 400 MB."""
        lines = []
        for i in range(250000):
            source = "capability.denied" if i < 60000 else "process.spawned"
            lines.append(f'{{"probe_source":"{source}","guest_pid":{i},"guest_comm":"p",'
                         f'"guest_monotonic_ns":{i}}}\n')
        # A sanitizer wants terabytes of address space, and is not what ships.
        limit = resource.RLIM_INFINITY
        if b"__asan_init" not in pathlib.Path(HOST).read_bytes():
            limit = 400 * 1024 * 1024
        before = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (limit, before[1]))
        try:
            _, source = make(self.folder, "".join(lines))
        finally:
            resource.setrlimit(resource.RLIMIT_AS, before)
        self.assertIn("<b>50\u202f000</b> processes beyond the first 200000", source)
        self.assertIn("<b>10\u202f000</b> denials and connects beyond the first 50000", source)

    def test_what_is_said_when_it_cannot(self):
        for words, code, said in (
                (["report"], 2, "cannot start: report needs one FILE"),
                (["report", "a", "b"], 2, "cannot start: report needs one FILE"),
                (["report", "/nowhere"], 1, "cannot read /nowhere: No such file"),
                (["report", "/"], 1, "cannot read /: Is a directory")):
            done = subprocess.run([HOST, *words], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=30,
                                  check=False)
            self.assertEqual(code, done.returncode)
            self.assertIn(said, done.stderr.decode())
        with open("/dev/full", "wb") as full:
            done = subprocess.run([HOST, "report", "/dev/null"], stdout=full,
                                  stderr=subprocess.PIPE, timeout=30, check=False)
        self.assertEqual(1, done.returncode)
        self.assertIn("cannot write standard output: No space left", done.stderr.decode())

    def test_a_picture(self):
        """It is drawn: the colours of bars, denials and connects are in the picture."""
        page, _ = make(self.folder, capture.a_build().text(), "build-7.ndjson")
        picture = pathlib.Path(PICTURE or self.folder / "report.png")
        chromium(self.folder, "--window-size=1180,1230", f"--screenshot={picture}",
                 f"file://{page}")
        found = pixels(picture.read_bytes())
        for what, colour, least in (("bars", "a9c6f2", 10000), ("denials", "c92a2a", 500),
                                    ("connects", "0b7a75", 1000), ("files", "b7791f", 3000)):
            self.assertGreater(found[bytes.fromhex(colour)], least, what)


PICTURE = ""

if __name__ == "__main__":
    if CHROMIUM is None:
        print("skipped: there is no chromium")
        sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)
    HOST, PICTURE = os.path.abspath(sys.argv[1]), (sys.argv[2] if len(sys.argv) > 2 else "")
    unittest.main(argv=sys.argv[:1], verbosity=2)
