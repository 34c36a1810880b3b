# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""A guest as it is meant to be: cellos-mini-init, the agent before anything else, the workload behind
cellos-guard. Boots it under software emulation and returns what came over the serial line.

The programs are named by the environment (set by ctest): CELLOS_INIT, CELLOS_GUARD, CELLOS_STATIC_AGENT.
Kernels: "cloud" is Debian's (vm.kernel()), "stock" one with the options of stock microVM guests, kept as
stock-*/bzImage in $CELLOS_CACHE.
"""

import base64
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile

import vm

# What the cloud kernel has as modules and stock guests have built in, each after what it needs.
MODULES = ("vsock", "vmw_vsock_virtio_transport_common", "vsock_loopback", "virtio_ring", "virtio",
           "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci", "virtio_blk", "loop", "fuse",
           "binfmt_misc")
FOLDERS = ("proc", "sys", "dev", "mnt", "tmp", "workload/proc", "workload/sys", "workload/dev", "workload/tmp",
           "workload/root", "workload/bin", "workload/sbin")
FRAGMENT = pathlib.Path(__file__).resolve().parent / "stock.fragment"
OURS = re.compile(r"cellos-(mini-init|guard|telemetry)")


def stock_options():
    """The lines of the fragment that are no comments."""
    return re.findall(r"^CONFIG_.*$", FRAGMENT.read_text(), re.M)


def stock_digest():
    """Of the options alone: a comment makes no other kernel."""
    return hashlib.sha256("\n".join(sorted(stock_options())).encode()).hexdigest()[:12]


def stock_kernel():
    """The path of a bzImage, of this fragment if there is one; or None."""
    found = sorted(vm.CACHE.glob("stock-*/bzImage"))
    mine = [path for path in found if path.parent.name.endswith(f"-{stock_digest()}")]
    return (mine or found or [None])[-1]


def kernels():
    """Those that are here, by name; the second one may be missing, and the caller says so."""
    found = {"cloud": vm.kernel()}
    if stock_kernel():
        found["stock"] = stock_kernel()
    return found


def words(items):
    """A list as the kernel's command line has it."""
    return base64.b64encode(json.dumps(list(items)).encode()).decode()


class Guest:
    """What is in the machine, and how it is started. Every part may be changed before boot()."""

    def __init__(self, command, layout="hidden", kernel="cloud"):
        self.command = command      # the workload's words
        self.layout = layout
        self.kernel = kernel
        self.guard = []             # options of the guard
        self.agent = []             # options of the agent
        self.first = []             # a command before the agent
        self.bare = False           # without the guard
        self.modules = MODULES if kernel == "cloud" else ()
        self.files = {}             # name in init's root: path here, or bytes
        self.workload = {}          # name in the workload's root: path here, or bytes
        self.machine = []           # more options of QEMU
        self.options = ""           # more of the kernel's command line
        self.memory = 512
        self.cid = 1                # where the exit code goes
        self.accelerator = "tcg,thread=single"
        self.processors = 2

    def initrd(self):
        archive = vm.Archive()
        for folder in FOLDERS:
            archive.folder(folder)
        for name, variable in (("init", "CELLOS_INIT"), ("cellos-guard", "CELLOS_GUARD"),
                               ("cellos-telemetry", "CELLOS_STATIC_AGENT")):
            archive.program(name, os.environ[variable])
        for prefix, tree in (("", self.files), ("workload/", self.workload)):
            for name, content in tree.items():
                if isinstance(content, bytes):
                    archive.file(prefix + name, content)
                else:
                    archive.file(prefix + name, pathlib.Path(content).read_bytes())
        for name in self.modules:
            archive.file(f"modules/{name}.ko", vm.module(name))
        if self.modules:
            archive.file("modules/order", "".join(f"{name}\n" for name in self.modules).encode())
        return archive.packed()

    def command_line(self):
        """The kernel's."""
        said = ["console=ttyS0", "panic=-1", "quiet", "tsc=reliable", "no_timer_check",
                "softlockup_panic=1", "panic_print=64", f"cellos.cid={self.cid}",
                f"cellos.layout={self.layout}", f"cellos.argv={words(self.command)}"]
        for name in ("agent", "guard", "first"):
            if getattr(self, name):
                said.append(f"cellos.{name}={words(getattr(self, name))}")
        if self.bare:
            said.append("cellos.bare=1")
        line = " ".join(said + [self.options]).strip()
        assert len(line) < 2048, "the kernel's command line is too long"
        return line

    def boot(self, timeout=120, sign=None):
        """Boots and waits for the machine's end. Now and then the emulator loses an interrupt, and a guest hangs
        before it ran anything of ours, or its kernel gives up: where the text `sign` has not come in time it is
        started again, twice. Not so when the guest ended and one of ours had said why.
        """
        if not shutil.which(vm.QEMU):
            vm.skip(f"no {vm.QEMU} here (package qemu-system-x86)")
        if os.uname().machine != "x86_64":
            vm.skip("the emulated machine is an x86_64")
        image = kernels()[self.kernel]
        with tempfile.TemporaryDirectory(prefix="cellos-vm-") as folder:
            initrd = pathlib.Path(folder) / "initrd"
            initrd.write_bytes(self.initrd())
            command = [vm.QEMU, "-M", "q35", "-accel", self.accelerator, "-cpu", "max", "-m",
                       str(self.memory), "-smp", str(self.processors), "-kernel", str(image), "-initrd",
                       str(initrd), "-append", self.command_line(), "-nographic", "-no-reboot", "-net",
                       "none", *self.machine]
            for _ in range(3):
                ended = vm.watch(command, timeout, sign)
                if sign is None or sign in ended.text or not ended.late and OURS.search(ended.text):
                    return ended
                print(f"  a guest {'hung' if ended.late else 'ended'} before it ran anything: "
                      f"{ended.text[-300:]!r}", flush=True)
        return ended
