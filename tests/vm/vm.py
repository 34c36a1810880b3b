# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""A throw-away virtual machine under software emulation: Debian's cloud kernel, an initramfs of busybox and
the programs under test, a script as its init, and what that printed on the serial line.

What a kernel keeps until it is booted again may be tried only in here. The kernel comes from the package
that linux-image-cloud-amd64 depends on, kept in $CELLOS_CACHE (default ~/.cache/cellos-telemetry). What is
missing makes the test say so and exit 77.
"""

import gzip
import os
import pathlib
import re
import selectors
import shutil
import subprocess
import sys
import tempfile
import time

CACHE = pathlib.Path(os.environ.get("CELLOS_CACHE")
                     or pathlib.Path.home() / ".cache" / "cellos-telemetry")
QEMU = "qemu-system-x86_64"
SIGN = "VM-BEGINS"
SIGN_SECONDS = 120  # to the first word of ours


def skip(why):
    print(f"skipped: {why}", flush=True)
    sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)


def kernel():
    """The path of a vmlinuz; fetched once, with its modules."""
    found = sorted(CACHE.glob("kernel/boot/vmlinuz-*-cloud-amd64"))
    if found and any(CACHE.glob("kernel/lib/modules/*/kernel")):
        return found[-1]
    depends = subprocess.run(["apt-cache", "depends", "linux-image-cloud-amd64"],
                             capture_output=True, text=True, check=False).stdout
    package = re.search(r"Depends: (linux-image-\S+-cloud-amd64)", depends)
    if not package:
        skip("no package linux-image-cloud-amd64 here to take a kernel from")
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=CACHE) as folder:
        got = subprocess.run(["apt-get", "download", "-q", package[1]], cwd=folder, check=False,
                             capture_output=True)
        packed = list(pathlib.Path(folder).glob("*.deb"))
        if got.returncode != 0 or not packed:
            skip(f"cannot download {package[1]}")
        unpacked = pathlib.Path(folder) / "kernel"
        subprocess.run(["dpkg", "-x", packed[0], unpacked], check=True)
        shutil.rmtree(CACHE / "kernel", ignore_errors=True)
        unpacked.rename(CACHE / "kernel")
    return kernel()


def module(name):
    """The content of one of the cloud kernel's modules."""
    kernel()
    found = sorted(CACHE.glob(f"kernel/lib/modules/*/kernel/**/{name}.ko"))
    if not found:
        skip(f"the kernel has no module {name}")
    return found[-1].read_bytes()


def libraries(program):
    """What a dynamic program needs beside itself; nothing for a static one."""
    listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/\S+)(?= \(0x)", listed)


class Archive:
    """An initramfs in the form that cpio calls newc."""

    def __init__(self):
        self.bytes = bytearray()
        self.folders = set()
        self.inode = 1

    def _add(self, name, mode, data=b""):
        fields = (self.inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        self.inode += 1
        self.bytes += b"070701" + b"".join(b"%08x" % field for field in fields)
        self.bytes += name.encode() + b"\0"
        self.bytes += bytes(-len(self.bytes) % 4) + data
        self.bytes += bytes(-len(self.bytes) % 4)

    def folder(self, name):
        if name and name not in self.folders:
            self.folder(os.path.dirname(name))
            self.folders.add(name)
            self._add(name, 0o040755)

    def file(self, name, data, mode=0o755):
        name = name.lstrip("/")
        self.folder(os.path.dirname(name))
        self._add(name, 0o100000 | mode, data)

    def program(self, name, path):
        self.file(name, pathlib.Path(path).read_bytes())
        for library in libraries(path):
            if library.lstrip("/") not in self.folders:
                self.folders.add(library.lstrip("/"))
                self.file(library, pathlib.Path(library).read_bytes())

    def plain(self):
        self._add("TRAILER!!!", 0)
        return bytes(self.bytes)

    def packed(self):
        return gzip.compress(self.plain(), 1)


INIT_BEGIN = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
ip link set lo up
dmesg -n 1
echo VM-BEGINS
"""
INIT_END = """
echo VM-DONE
poweroff -f
"""


def run(script, programs, timeout, files=None, processors=2):
    """Boots, runs `script` (of sh) as init with `programs` (name: path) in it and `files` (name: content and
    mode), returns what it printed. Now and then the emulator loses an interrupt, and a guest hangs: where the
    script has not begun in time it is started again, twice. (With two processors that happens later, too.)
    """
    for tool in (QEMU, "busybox"):
        if not shutil.which(tool):
            skip(f"no {tool} here (packages qemu-system-x86 and busybox-static)")
    if os.uname().machine != "x86_64":
        skip("the emulated machine is an x86_64")
    image = kernel()
    archive = Archive()
    for folder in ("bin", "proc", "sys", "dev", "tmp", "root"):
        archive.folder(folder)
    archive.program("bin/busybox", shutil.which("busybox"))
    for name, path in programs.items():
        archive.program(name, path)
    for name, (content, mode) in (files or {}).items():
        if name.lstrip("/") not in archive.folders:
            archive.file(name, content, mode)
    archive.file("init", (INIT_BEGIN + script + INIT_END).encode())
    with tempfile.TemporaryDirectory(prefix="cellos-vm-") as folder:
        initrd = pathlib.Path(folder) / "initrd"
        initrd.write_bytes(archive.packed())
        command = [QEMU, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max", "-m", "512", "-smp",
                   str(processors), "-kernel", image, "-initrd", initrd, "-append",
                   "console=ttyS0 panic=-1 quiet tsc=reliable no_timer_check", "-nographic", "-no-reboot",
                   "-net", "none"]
        for _ in range(3):
            ended = watch(command, timeout, SIGN)
            if SIGN in ended.text:
                break
            print(f"  a guest {'hung' if ended.late else 'ended'} before it ran anything: {ended.text[-300:]!r}",
                  flush=True)
    if "VM-DONE" not in ended.text:
        raise AssertionError(f"the machine did not get through; {ended.tail()}")
    return ended.text[ended.text.index(SIGN) + len(SIGN):]


def watch(command, timeout, sign=None):
    """Runs a machine to its end, or ends it: after `timeout` seconds, or when `sign` does not come."""
    begin = time.monotonic()
    output = bytearray()
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT) as machine, selectors.DefaultSelector() as ready:
        ready.register(machine.stdout, selectors.EVENT_READ)
        while True:
            started = sign is None or sign.encode() in output
            left = begin + (timeout if started else min(timeout, SIGN_SECONDS)) - time.monotonic()
            late = left <= 0 or not ready.select(left)
            piece = b"" if late else machine.stdout.read1(65536)
            if not piece:
                break
            output += piece
        if late:
            machine.kill()
    return Ended(output.decode(errors="replace").replace("\r", ""), time.monotonic() - begin, late)


class Ended:
    """The console's text; the exit code that init told, None when it told none; seconds; was it ended?"""

    def __init__(self, text, seconds, late):
        self.text = text
        self.seconds = seconds
        self.late = late
        code = re.search(r"cellos-mini-init: exit code (\d+)$", text, re.M)
        self.code = int(code[1]) if code else None

    def tail(self):
        return f"{'ended after' if self.late else 'took'} {self.seconds:.0f} s:\n{self.text[-4000:]}"
