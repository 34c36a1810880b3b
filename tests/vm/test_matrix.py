#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""The agent in a guest beside a guarded root workload, and a receiver that has a hard time.

    test_matrix.py loopback|nested cloud|stock [--layout hidden|shared]

loopback: one guest, receiver and agent speak AF_VSOCK over its own loopback. nested: the guest runs by KVM
inside of a guest, whose vhost-vsock makes the outer one its host: CID 2. Each boot runs the whole course of
matrix/load.c: a host that is absent at boot and late, thousands of short processes with their connects,
denials and watched files, a receiver that is killed, stopped for ten seconds, and cut off, forged netlink,
a connector that somebody else turned off; and, nested, a snapshot of the guest that is restored in another QEMU.
Then everything that the receiver wrote is compared with what the workload knows that it did.

Environment: as in guest.py, and CELLOS_LOAD, CELLOS_AIDE, CELLOS_STEWARD, CELLOS_HOST. With CELLOS_CONSOLE, a
folder, what came out of each guest is kept there.
"""

import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import shutil
import statistics
import sys
import tempfile

import guest
import vm

DISK_BYTES = 128 << 20
DENIALS, CONNECTS, FILES = 1, 0, 2  # the last digit of those that do it, in load.c
STALL_SECONDS = 10
WHOLE_COURSE = 7
SIGN = "steward: "


# ---- machines -----------------------------------------------------------------------------------------------

def inner_guest(kernel, layout, percent, cid):
    """The guest with the workload; where the receiver is, is the caller's business."""
    machine = guest.Guest(["/load", "/steps", "/watched", str(percent), str(STALL_SECONDS), layout], layout,
                          kernel)
    machine.cid = cid
    machine.guard = ["--pids", "200"]
    machine.first = ["/aide", "/mnt/steps", str(cid)]
    machine.files = {"aide": os.environ["CELLOS_AIDE"]}
    machine.workload = {"load": os.environ["CELLOS_LOAD"], "steps/place": b"", "watched/place": b""}
    # The connector, audit and the exit listener serve only the initial PID namespace.
    surfaces = ["--capability", "audit"] if layout == "hidden" else ["--probes", "process,watch,connect"]
    machine.agent = ["--channel", f"vsock:{cid}:5000", "--watch", "/mnt/watched", "--watch-surface", "fanotify",
                     "--queue-depth", "8192", "--heartbeat-interval", "500", "--stats-fd", "2",
                     "--on-probe-failure", "fail", "--drain-timeout", "60000", *surfaces]
    return machine


def receiver_files():
    host = os.environ["CELLOS_HOST"]
    return {"cellos-telemetry-host": host, "steward": os.environ["CELLOS_STEWARD"],
            **{library.lstrip("/"): library for library in vm.libraries(host)}}


def disk_options(disk):
    return ["-drive", f"file={disk},format=raw,if=none,id=disk", "-device", "virtio-blk-pci,drive=disk"]


def boot_loopback(kernel, layout, percent, disk):
    machine = inner_guest(kernel, layout, percent, cid=1)
    machine.first = ["/steward", "/dev/vda", *machine.first]
    machine.files.update(receiver_files())
    machine.machine = disk_options(disk)
    machine.memory = 1024
    machine.processors = 1  # with two the emulator loses a timer now and then
    return machine.boot(1200, SIGN)


# The emulated processor has AMD's virtualization, and KVM in the outer guest uses it: the inner guest is then not
# emulated by an emulated emulator, which makes a hundredth of the processes.
OUTER_MODULES = ("virtio_ring", "virtio", "virtio_pci_legacy_dev", "virtio_pci_modern_dev", "virtio_pci",
                 "virtio_blk", "vsock", "vmw_vsock_virtio_transport_common", "vhost_iotlb", "vhost",
                 "vhost_vsock", "irqbypass", "kvm", "kvm-amd")
OUTER_INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc none /proc
mount -t sysfs none /sys
mount -t devtmpfs none /dev
mount -t tmpfs none /tmp
dmesg -n 1
for module in $(cat /modules/order); do insmod /modules/$module.ko || echo "no $module"; done
/steward /dev/vda /bin/true
machine() {
    qemu-system-x86_64 -M q35 -accel kvm -cpu host -m 384 -smp 1 -L /usr/share/qemu -L /usr/share/seabios \
        -kernel /inner/kernel -initrd /inner/initrd -append "$(cat /inner/line)" -nodefaults -display none -vga none \
        -serial stdio -monitor unix:/tmp/monitor,server=on,wait=off -no-reboot \
        -device vhost-vsock-pci,guest-cid=3 "$@" </dev/null
}
machine
[ ! -e /tmp/state ] || machine -incoming "exec:cat /tmp/state"
sync
poweroff -f
"""


def machine_monitor(archive):
    """QEMU itself, with the firmware that it loads."""
    archive.program("usr/bin/qemu-system-x86_64", shutil.which(vm.QEMU))
    for name in ("seabios/bios-256k.bin", "qemu/kvmvapic.bin", "qemu/linuxboot_dma.bin", "qemu/linuxboot.bin"):
        archive.file(f"usr/share/{name}", pathlib.Path("/usr/share", name).read_bytes(), 0o644)


def outer_archive(inner):
    archive = vm.Archive()
    for folder in ("bin", "proc", "sys", "dev", "tmp", "modules"):
        archive.folder(folder)
    archive.program("bin/busybox", shutil.which("busybox"))
    machine_monitor(archive)
    for name, path in receiver_files().items():
        if name not in archive.folders:
            archive.folders.add(name)
            archive.file(name, pathlib.Path(path).read_bytes())
    for name in OUTER_MODULES:
        archive.file(f"modules/{name}.ko", vm.module(name))
    archive.file("modules/order", "".join(f"{name}\n" for name in OUTER_MODULES).encode())
    archive.file("inner/kernel", guest.kernels()[inner.kernel].read_bytes())
    archive.file("inner/initrd", inner.initrd())
    archive.file("inner/line", inner.command_line().encode())
    archive.file("init", OUTER_INIT.encode())
    return archive.plain()


def boot_nested(kernel, layout, percent, disk):
    inner = inner_guest(kernel, layout, percent, cid=2)
    inner.command.append("restore")
    if inner.modules:
        inner.modules += ("vmw_vsock_virtio_transport",)
    with tempfile.TemporaryDirectory(prefix="cellos-vm-") as folder:
        initrd = pathlib.Path(folder) / "initrd"
        initrd.write_bytes(outer_archive(inner))
        command = [vm.QEMU, "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max,+svm,+npt", "-m", "2048",
                   "-smp", "2", "-kernel", str(vm.kernel()), "-initrd", str(initrd), "-append",
                   "console=ttyS0 panic=-1 quiet tsc=reliable no_timer_check", "-nographic", "-no-reboot",
                   "-net", "none", *disk_options(disk)]
        for _ in range(3):
            ended = vm.watch(command, 1800, SIGN)
            if SIGN in ended.text:
                return ended
            print(f"  a guest hung before it ran anything: {ended.text[-300:]!r}", flush=True)
    return ended


# ---- what came out ------------------------------------------------------------------------------------------

class Account:
    """The steward's book, the receiver's lines and the agent's own account of one boot."""

    def __init__(self, disk, ended):
        self.console = ended
        with open(disk, "rb") as file:
            head = file.readline(200).split()
            assert head and head[0] == b"MATRIX", f"the steward kept nothing; {ended.tail()}"
            book = file.read(int(head[1])).decode()
            written = file.read(int(head[2])).decode()
        self.written = written
        self.book = [line.split(" ") for line in book.splitlines()]
        lines, self.cut = [], []
        for line in written.splitlines():
            try:
                lines.append(json.loads(line))
            except ValueError:
                self.cut.append(line)
        self.events = [line for line in lines if "report" not in line]
        self.reports = collections.defaultdict(list)
        for line in lines:
            if "report" in line:
                self.reports[line["report"]].append(line)
        self.by_source = collections.defaultdict(list)
        for event in self.events:
            self.by_source[event["probe_source"]].append(event)
        stats = [line[line.index('{"incarnation"'):] for line in ended.text.splitlines()
                 if '{"incarnation"' in line]
        try:
            self.stats = json.loads(stats[-1]) if stats else None
        except ValueError:
            self.stats = None
        self.dropped = {(one["lane"], one["reason"]): one["count"] for one in self.reports["dropped"]}

    def notes(self, what):
        """The words behind each note of that kind."""
        return [line[3:] for line in self.book if line[1:3] == ["note", what]]

    def moment(self, *words):
        """Seconds by the steward's clock."""
        found = [line for line in self.book if line[1:1 + len(words)] == list(words)]
        assert found, f"the book says nothing of {words}"
        return int(found[0][0]) / 1e9

    def total(self, report):
        return self.reports[report][-1]["count"] if self.reports[report] else 0

    def storms(self):
        return [range(int(first), int(first) + int(count)) for first, count in self.notes("storm")]

    def named(self, source, letter="p"):
        """Events of short processes by the number in their name."""
        found = collections.defaultdict(list)
        for event in self.by_source[source]:
            name = event["guest_comm"]
            if len(name) == 6 and name[0] == letter and name[1:].isdigit():
                found[int(name[1:])].append(event)
        return found


def quartiles(values):
    return statistics.quantiles(values, n=4)


class Checks:
    """Each check_ is one of the matrix's promises; it raises AssertionError."""

    def __init__(self, account, layout, path):
        self.account, self.layout, self.path = account, layout, path
        self.hidden = layout == "hidden"

    def lost(self):
        """The most events that may be missing: those that counters speak of."""
        return (self.account.total("lost_in_flight") + self.account.total("lost_in_host") +
                sum(count for (_, reason), count in self.account.dropped.items() if reason in "qkx"))

    def quiet_storms(self):
        """Those during which nothing was done to the receiver: nothing of them may be missing."""
        return [numbers for numbers in self.account.storms() if numbers[0] // 10000 not in (2, 3)]

    # ---- before the first instruction

    def check_agent_is_armed_before_the_workload(self):
        begin, pid, _, _ = self.account.notes("begin")[0]
        agents = [number for number, _ in self.account.notes("agent")]
        if self.hidden:
            # Its own number there it cannot know; but of its name nobody ends later. (The name that it begins
            # with may be the guard's: it has none of its own until it has got its processor for an exec.)
            ends = [event for event in self.account.by_source["process.exited"] if event["guest_comm"] == "load"]
            assert ends, "the workload's end was not told"
            number = max(ends, key=lambda event: event["guest_monotonic_ns"])["guest_pid"]
            first = [event for event in self.account.by_source["process.spawned"]
                     if event["guest_pid"] == number and event["guest_monotonic_ns"] <= int(begin)]
        else:
            first = [event for event in self.account.by_source["process.spawned"]
                     if event["guest_pid"] == int(pid)]
            assert agents == ["2"], f"the agent's PID is {agents}"
            assert int(pid) >= 3, f"the workload is PID {pid}"
        assert len(first) == 1, f"the workload's own beginning: {first}"

    def check_agent_cannot_be_named(self):
        """Not in /proc, and in the hidden layout by no number either. (In the other one it has one, which calls
        refuse.)"""
        _, _, named, answering = self.account.notes("begin")[0]
        assert named == "0", f"{named} agents in /proc"
        if self.hidden:
            assert answering == "0", f"{answering} numbers answer"

    def check_exit_code_arrives(self):
        assert any(line[1:] == ["exit", str(WHOLE_COURSE)] for line in self.account.book), self.account.book[-5:]
        assert any(line[1:] == ["goodbye"] for line in self.account.book), "no goodbye"

    def check_host_was_late(self):
        waited = self.account.moment("started") - self.account.moment("note", "storm", "0")
        assert waited >= 10, f"the host came {waited:.1f} s after the first storm"

    # ---- everything arrives

    def check_short_processes(self):
        if not self.hidden:
            return self._check_long_processes()
        exited, spawned = self.account.named("process.exited"), collections.Counter(
            event["guest_pid"] for event in self.account.by_source["process.spawned"])
        for numbers in self.quiet_storms():
            wrong = [number for number in numbers
                     if len(exited[number]) != 1 or spawned[exited[number][0]["guest_pid"]] < 1]
            assert not wrong, f"of {len(numbers)} from {numbers[0]} on {len(wrong)} are wrong: {wrong[:10]}"
        return self._check_long_processes()

    def _check_long_processes(self):
        count = int(self.account.notes("long")[0][0])
        exited = self.account.named("process.exited", "l")
        spawned = {event["guest_pid"] for event in self.account.by_source["process.spawned"]}
        wrong = [number for number in range(count)
                 if len(exited[number]) != 1 or exited[number][0]["guest_pid"] not in spawned]
        assert not wrong, f"of {count} that lived long these are wrong: {wrong}"

    def check_connects(self):
        seen = self.account.named("net.connect_attempted")
        for numbers in self.quiet_storms():
            wrong = [number for number in numbers if len(seen[number]) != (number % 10 == CONNECTS)]
            assert not wrong, f"from {numbers[0]} on {len(wrong)} are wrong: {wrong[:10]}"

    def check_denials(self):
        if not self.hidden:
            return
        seen = self.account.named("capability.denied")
        for numbers in self.quiet_storms():
            wrong = [number for number in numbers if len(seen[number]) != (number % 10 == DENIALS)]
            assert not wrong, f"from {numbers[0]} on {len(wrong)} are wrong: {wrong[:10]}"

    def touched(self):
        """Who wrote into the watched folder, number in the name: pid as the agent has it."""
        if self.hidden:
            return {number: found[0]["guest_pid"] for number, found in
                    self.account.named("process.exited").items() if number % 10 == FILES}
        return {int(number): int(pid) for note in self.account.notes("touched")
                for number, pid in (word.split("=") for word in note)}

    def check_watched_files(self):
        actors = {event["guest_pid"] for event in self.account.by_source["fs.inotify_fired"]}
        touched = self.touched()
        for numbers in self.quiet_storms():
            mine = [number for number in numbers if number % 10 == FILES]
            wrong = [number for number in mine if touched.get(number) not in actors]
            assert not wrong, f"from {numbers[0]} on {len(wrong)} are missing: {wrong[:10]}"

    # ---- the ledger

    def check_what_is_missing_is_counted(self):
        seen, missing = self.account.named("process.exited"), 0
        connects, denials = self.account.named("net.connect_attempted"), self.account.named("capability.denied")
        for numbers in self.account.storms():
            if self.hidden:
                missing += sum(not seen[number] for number in numbers)
                missing += sum(not denials[number] for number in numbers if number % 10 == DENIALS)
            missing += sum(not connects[number] for number in numbers if number % 10 == CONNECTS)
        assert missing <= self.lost(), f"{missing} missing, {self.lost()} counted"

    def check_ledger(self):
        """sent = written + lost in flight + lost in the host; of the last, some may be written all the same."""
        assert self.account.reports["goodbye"], "no goodbye"
        sent = self.account.reports["goodbye"][-1]["sent"]
        written, flight = len(self.account.events), self.account.total("lost_in_flight")
        host = self.account.total("lost_in_host")
        print(f"    sent {sent} = written {written} + in flight {flight} + in host {host}; "
              f"dropped {self.account.dropped}")
        assert written + flight <= sent <= written + flight + host, "the ledger does not add up"
        # The receiver that was killed may have been in the midst of a write: that line counts as lost in it.
        assert len(self.account.cut) <= 1, f"lines that are none: {self.account.cut[:5]}"
        for bad in ("bad_frame", "bad_report"):
            assert not self.account.reports[bad], self.account.reports[bad]
        numbers = collections.Counter((event["incarnation"], event["seq"]) for event in self.account.events)
        twice = [number for number, count in numbers.items() if count > 1]
        assert not twice, f"numbers given twice: {twice[:5]}"

    def check_agents_account(self):
        """The agent's own sums, against the wire's and against what the workload did."""
        stats = self.account.stats
        assert stats, "no stats line on the console"
        lanes = stats["lanes"]
        assert sum(lane["sent"] for lane in lanes.values()) == self.account.reports["goodbye"][-1]["sent"]
        for name, lane in lanes.items():
            assert lane["produced"] == lane["sent"] + lane["q"] + lane["x"] + lane["queued"], (name, lane)
            said = {reason: self.account.dropped.get((name, reason), 0) for reason in "qkosx"}
            assert said == {reason: lane[reason] for reason in "qkosx"}, (name, lane, said)
        numbers = [number for storm in self.account.storms() for number in storm]
        wanted = {"net": sum(number % 10 == CONNECTS for number in numbers) +
                  sum(int(note[0]) for note in self.account.notes("burst"))}
        if self.hidden:  # others may be refused something, too: as they say
            denied = self.account.by_source["capability.denied"]
            wanted["cap"] = (sum(number % 10 == DENIALS for number in numbers) + len(denied) -
                             sum(map(len, self.account.named("capability.denied").values())))
        happened = {name: lanes[name]["produced"] + lanes[name]["k"] + lanes[name]["s"] for name in wanted}
        assert happened == wanted, f"happened by the agent {happened}, by the workload {wanted}"
        if self.hidden:
            assert lanes["proc"]["produced"] + lanes["proc"]["k"] >= 2 * len(numbers), lanes["proc"]

    # ---- trouble

    def check_receiver_was_killed_and_cut_off(self):
        ends = [line for line in self.account.book if line[1] == "ended"]
        assert [line[2] for line in ends] == ["9", "0"], ends
        epochs = {beat["epoch"] for beat in self.account.reports["heartbeat"]}
        wanted = 3 if self.path == "loopback" else 4  # there a snapshot was restored, too
        assert len(epochs - {0}) == wanted, f"connections {sorted(epochs)}; want {wanted}"

    def check_a_stopped_receiver_slows_nobody(self):
        """What is claimed, not above the null's quartiles, is a time, and printed; what fails is a workload that
        waits for the host. (It may well be faster: a host that stands still takes no processor from it. A busy
        machine may make just these ten seconds slower by far; who waits for the host takes all of them for one.)
        """
        slices = collections.defaultdict(list)
        for name, median, _ in self.account.notes("slice"):
            slices[name].append(int(median))
        before, stalled, after = slices["before"], slices["stalled"], slices["after"]
        null = [one / other for pair in zip(before, after) for one, other in (pair, pair[::-1])]
        ratio = statistics.median(stalled) / statistics.median(before + after)
        low, _, high = quartiles(null)
        print(f"    fork+exec stalled/reading {ratio:.3f}, null quartiles {low:.3f}..{high:.3f}: "
              f"{'above' if ratio > high else 'not above'}; "
              f"{statistics.median(before + after) / 1e6:.2f} ms reading")
        stopped = self.account.moment("cont") - self.account.moment("stop")
        assert stopped >= STALL_SECONDS, f"stopped for {stopped:.1f} s only"
        # By the lane that was full, or before it, when the probe had not the time to read.
        assert sum(self.account.dropped.get(("net", reason), 0) for reason in "qk") > 0, \
            f"nothing was dropped: {self.account.dropped}"
        assert ratio <= max(high, 8), f"{ratio:.3f}, null {low:.3f}..{high:.3f}"

    def check_forged_netlink_is_not_believed(self):
        if not self.hidden:
            return
        (pid, ended), (count, _) = self.account.notes("living")[0], self.account.notes("forged")[0]
        exits = [event for event in self.account.by_source["process.exited"]
                 if event["guest_pid"] == int(pid) and event["guest_comm"] == "living"]
        assert len(exits) == 1 and exits[0]["guest_monotonic_ns"] >= int(ended), (exits, ended)
        assert self.account.stats, "no stats line on the console"
        assert self.account.stats["probes"]["process"]["forged"] == int(count), self.account.stats["probes"]

    def check_a_foreign_ignore_is_undone(self):
        """What comes later arrives (the aide waits for it, and the last storm); that it had an effect shows in what
        came at once, and the agent says so."""
        if not self.hidden:
            return
        count, _ = self.account.notes("deafened")[0]
        heard = [event for event in self.account.by_source["process.exited"] if event["guest_comm"] == "unheard"]
        assert len(heard) < int(count), "nobody was deaf"
        assert self.account.dropped.get(("proc", "o"), 0) > 0, f"nobody said so: {self.account.dropped}"


def boot(path, kernel, layout, percent, disk):
    with open(disk, "wb") as file:
        file.truncate(DISK_BYTES)
    ended = (boot_loopback if path == "loopback" else boot_nested)(kernel, layout, percent, disk)
    if os.environ.get("CELLOS_CONSOLE"):
        place = pathlib.Path(os.environ["CELLOS_CONSOLE"]) / f"matrix-{path}-{kernel}-{layout}"
        place.write_text(ended.text)
        with open(disk, "rb") as file:
            place.with_suffix(".disk").write_bytes(file.read(DISK_BYTES).rstrip(b"\0"))
    return ended


def run(path, kernel, layouts, percent):
    """Boots the layouts side by side, and looks; the number of promises that were not kept."""
    failed = 0
    with tempfile.TemporaryDirectory(prefix="cellos-vm-") as folder, \
            concurrent.futures.ThreadPoolExecutor(min(len(layouts), os.cpu_count())) as pool:
        disks = [pathlib.Path(folder) / layout for layout in layouts]
        boots = [pool.submit(boot, path, kernel, layout, percent, disk)
                 for layout, disk in zip(layouts, disks)]
        for layout, disk, done in zip(layouts, disks, boots):
            ended = done.result()
            print(f"  {path} {kernel} {layout}: {ended.seconds:.0f} s", flush=True)
            failed += judge(Checks(Account(disk, ended), layout, path))
    return failed


def judge(checks):
    failed = 0
    for name in [name for name in dir(checks) if name.startswith("check_")]:
        try:
            getattr(checks, name)()
            print(f"    {name[6:]}: yes", flush=True)
        except (AssertionError, LookupError) as wrong:
            failed += 1
            print(f"    {name[6:]}: NO: {wrong!r}", flush=True)
    if failed:
        print(checks.account.console.tail())
    print(f"  {failed} failed", flush=True)
    return failed


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", choices=("loopback", "nested"))
    parser.add_argument("kernel", choices=("cloud", "stock"))
    parser.add_argument("--layout", choices=("hidden", "shared"))
    parser.add_argument("--percent", type=int, default=100, help="of the short processes")
    chosen = parser.parse_args()
    for tool in (vm.QEMU, "busybox"):
        if not shutil.which(tool):
            vm.skip(f"no {tool} here (packages qemu-system-x86 and busybox-static)")
    if os.uname().machine != "x86_64":
        vm.skip("the emulated machine is an x86_64")
    if chosen.kernel not in guest.kernels():
        vm.skip(f"no stock-*/bzImage in {vm.CACHE} (tests/vm/stock_kernel builds it)")
    if (chosen.path, chosen.kernel) == ("loopback", "stock"):
        vm.skip("the stock kernel has no loopback")
    layouts = [chosen.layout] if chosen.layout else ["hidden", "shared"]
    return 1 if run(chosen.path, chosen.kernel, layouts, chosen.percent) else 0


if __name__ == "__main__":
    sys.exit(main())
