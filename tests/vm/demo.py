#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""demo.py BUILD [AGENT]: what ./demo --vm shows. Boots a guest under software emulation with init, agent, guard
and a small workload, prints the workload's console and the events as they arrive, and in the end the ledger.

The workload sits behind the guard in the hidden layout. Who plays the host: the receiver runs in the same
guest, outside of every wall, started before the agent, and the agent reaches it over AF_VSOCK's loopback
(CID 1). It writes its lines to a second serial port, which is a file here. So machine, kernel, vsock, agent
and guard are real ones; only the way across the machine's border is the serial port's.
"""

import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import sys
import tempfile
import time

build = pathlib.Path(sys.argv[1]).resolve()
os.environ.update(CELLOS_INIT=str(build / "src/init/cellos-mini-init"),
                  CELLOS_GUARD=str(build / "src/guard/cellos-guard"),
                  CELLOS_STATIC_AGENT=str((sys.argv[2:] or [build / "src/agent/cellos-telemetry"])[0]))
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.dont_write_bytecode = True
import guest  # noqa: E402
import vm  # noqa: E402

RECEIVER = build / "src/host/cellos-telemetry-host"
TIMEOUT = 300
TRIES = 3  # now and then the emulator loses an interrupt, and a guest hangs at its start

# Init runs the first one to its end; what it leaves behind is the host. Init's last word is the exit code, to
# port 9000; the machine goes off when that connection is closed: not before the receiver has written all, however
# long that takes. (-t: how long socat waits for /last when init has said all that it has to say.)
HOST = b"""#!/bin/busybox sh
b=/bin/busybox
{ /receiver --listen vsock:9001 --exit-on-close --cell-id guest --run-id demo | $b cat >/dev/ttyS1
  : >/written; } &
/bin/socat -t 250 VSOCK-LISTEN:9000 EXEC:/last &
"""
LAST = b"""#!/bin/busybox sh
b=/bin/busybox
$b cat >/code
until [ -e /written ]; do $b sleep 0.1; done
"""
# The pauses are for whoever reads along; nothing waits for them. By their paths, so that programs run: by
# name alone busybox takes itself for them.
WORKLOAD = b"""
show() { echo "\\$ $*"; "$@" 2>&1; /bin/sleep 0.7; }
echo "workload: I am uid $(/bin/id -u), and this is every process that I can name:"
cd /proc && echo [0-9]*
cd /
/bin/sleep 0.7
show /bin/sleep 0.3
echo '$ for i in 1 2 3; do /bin/sleep 0.2 & done; wait'
for i in 1 2 3; do /bin/sleep 0.2 & done
wait
/bin/sleep 0.7
echo '$ echo evil:x:0:0::/:/bin/sh >>/etc/passwd'
echo evil:x:0:0::/:/bin/sh >>/etc/passwd
/bin/sleep 0.7
show /bin/chmod 666 /etc/passwd
show /bin/nc -w 1 127.0.0.1 25
echo "workload: and now against the agent"
show kill -KILL 1
show /bin/mount -t proc proc /tmp
show /bin/sh -c 'echo "|/bin/evil" >/proc/sys/kernel/core_pattern'
show /bin/sh -c 'echo 1 >/sys/bus/pci/rescan'
exit 7
"""
EXIT_CODE = 7


def machine(folder):
    one = guest.Guest(["/bin/sh", "/workload.sh"])
    one.first = ["/bin/busybox", "sh", "/host"]
    one.agent = ["--channel", "vsock:1:9001", "--watch", "/mnt/etc/passwd", "--drain-timeout", "60000"]
    one.processors = 1  # with two the emulator loses a timer now and then
    one.guard = ["--pids", "100", "--memory", str(64 << 20)]
    busybox = shutil.which("busybox")
    one.files = {"bin/busybox": busybox, "host": HOST, "last": LAST}
    for name, path in (("receiver", str(RECEIVER)), ("bin/socat", shutil.which("socat"))):
        one.files[name] = path
        one.files.update((library.lstrip("/"), library) for library in vm.libraries(path))
    # Each applet under its own name, so that its process bears it.
    one.workload = {f"bin/{name}": busybox for name in ("sh", "sleep", "chmod", "nc", "id", "mount")}
    one.workload |= {"workload.sh": WORKLOAD, "etc/passwd": b"root:x:0:0:root:/root:/bin/sh\n"}
    one.machine = ["-monitor", "none", "-serial", f"file:{folder}/console", "-serial",
                   f"file:{folder}/events"]
    return one


class Tail:
    """The whole lines that a growing file has got since the last look."""

    def __init__(self, path):
        self.path = path
        self.offset = 0

    def lines(self):
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self.offset)
            piece = file.read()
        whole = piece[:piece.rfind(b"\n") + 1]
        self.offset += len(whole)
        return whole.decode(errors="replace").replace("\r", "").splitlines()


class Show:
    """Prints what comes, in two columns' worth of prefixes, and keeps it."""

    def __init__(self):
        self.events, self.reports, self.console, self.broken = [], [], [], []
        self.ours = False

    def said(self, line):
        line = re.sub(r"\x1b[c\[][0-9;?]*[a-zA-Z]?", "", line)
        self.console.append(line)
        # Before the first word of ours the firmware and the kernel speak.
        self.ours = self.ours or re.search(r"cellos-|workload:", line) is not None
        if self.ours and line.strip():
            print(f"  guest | {line}", flush=True)

    def arrived(self, line):
        try:
            row = json.loads(line)
        except ValueError:
            self.broken.append(line)
            return
        if "report" in row:
            self.reports.append(row)
            return
        self.events.append(row)
        print(f"   host |   {row['guest_monotonic_ns'] / 1e9:9.3f}  {row['probe_source']:24} "
              f"{row['guest_pid']:6}  {row['guest_comm']}", flush=True)


def play(folder):
    """One boot, shown while it runs."""
    show = Show()
    console, events = Tail(folder / "console"), Tail(folder / "events")
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        running = pool.submit(lambda: machine(folder).boot(TIMEOUT))
        while True:
            last = running.done()
            for line in console.lines():
                show.said(line)
            for line in events.lines():
                show.arrived(line)
            if last:
                return show, running.result()  # or its end of us: a kernel that cannot be had is a skip
            time.sleep(0.05)


def judge(show):
    """What is not as it should be, a line each."""
    code = re.search(r"cellos-mini-init: exit code (\d+)$", "\n".join(show.console), re.M)
    ledger = next((row for row in show.reports if row["report"] == "ledger"), None)
    print(f"\ninit told exit code {code[1] if code else 'nothing'}, the workload's own is {EXIT_CODE}")
    if ledger is None:
        return ["the receiver wrote no ledger"]
    print(f"the receiver's last line:\n    {json.dumps(ledger)}\n\ndoes it add up?")
    spawned = {row["guest_pid"] for row in show.events if row["probe_source"] == "process.spawned"}
    exited = {row["guest_pid"]: row["guest_comm"] for row in show.events
              if row["probe_source"] == "process.exited"}
    # By their ends: a chmod that is gone before the probe has looked for its name is told by pid alone.
    changed = [row for row in show.events if row["probe_source"].startswith("fs.")]
    names = {exited.get(row["guest_pid"], "") for row in changed}
    other = [row for row in changed if row["guest_comm"] not in ("", exited.get(row["guest_pid"]))]
    checks = (("events in the ledger = event lines that came out of the machine", ledger["events"],
               len(show.events)),
              ("lost in flight", ledger["lost_in_flight"], 0),
              ("lines that are no JSON", len(show.broken), 0),
              ("sleeps of the workload that were spawned, and exited",
               sum(row["guest_comm"] == "sleep" and row["probe_source"] == "process.exited"
                   and row["guest_pid"] in spawned for row in show.events) >= 4, True),
              ("who changed /etc/passwd, by pid", sorted(names), ["chmod", "sh"]),
              ("changes with a name that is not that process's", len(other), 0),
              ("exit code", int(code[1]) if code else None, EXIT_CODE))
    for what, left, right in checks:
        print(f"    {'yes' if left == right else 'NO '}  {what}: {left}"
              f"{'' if left == right else f', not {right}'}")
    print(f"    ({len(spawned)} processes were spawned, {len(spawned & exited.keys())} of them exited while the agent "
          "looked)")
    return [what for what, left, right in checks if left != right]


def main():
    for tool in ("busybox", "socat", vm.QEMU):
        if not shutil.which(tool):
            vm.skip(f"no {tool} here (packages of the group vm)")
    print("booting Debian's cloud kernel, emulated; guest: what its console says, host: what the receiver "
          "writes\n(seconds since boot, what fired, process id, name)\n", flush=True)
    for _ in range(TRIES):
        with tempfile.TemporaryDirectory(prefix="cellos-demo-") as folder:
            show, ended = play(pathlib.Path(folder))
        if any("workload:" in line for line in show.console):
            break
        print("the guest hung at its start; once more", flush=True)
    wrong = judge(show)
    if ended.late:
        wrong.append(f"the machine did not go off within {TIMEOUT} s")
    for what in wrong:
        print(f"demo: wrong: {what}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
