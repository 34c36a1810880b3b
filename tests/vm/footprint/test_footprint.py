#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""What the agent costs a guest: its resident memory at the peak, and the time from exec to its first frame.

    test_footprint.py [cloud|stock ...]    without a name: both

The agent is the static one as guests have it: caged, every probe armed, in the hidden layout, with the default
depth. The time is that of several starts before the workload, all of them by the guest's own clock: from the last
moment before exec until the receiver has read the first frame. The memory is that of the agent that init starts,
after some hundred short processes. The test fails on memory, on a frame that does not come, and on an agent that
does less than it should; never on a time, which is for whoever reads it.

Environment: as in guest.py, and CELLOS_METER, CELLOS_WORK.
"""

import json
import os
import pathlib
import re
import statistics
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import guest  # noqa: E402
import vm  # noqa: E402

STARTS = 9
PROCESSES = 300     # each gives every probe something to tell
MOST_KIB = 2048
FRAME_MS = 40       # on hardware 5
WHOLE_COURSE = 7
# The stock kernel has no loopback.
CHANNELS = {"cloud": ("vsock:9001", "vsock:1:9001"), "stock": ("unix:/meter.sock", "unix:/meter.sock")}


def boot(kernel):
    listening, channel = CHANNELS[kernel]
    options = ["--channel", channel, "--watch", "/mnt/watched", "--watch-surface", "fanotify", "--process",
               "connector", "--connect", "bpf", "--capability", "audit", "--heartbeat-interval", "500",
               "--on-probe-failure", "fail"]
    machine = guest.Guest(["/work", "/steps", "/watched", str(PROCESSES)], "hidden", kernel)
    machine.first = ["/meter", listening, "/mnt/steps", str(STARTS), *options]
    machine.agent = [*options, "--stats-fd", "2"]
    machine.files = {"meter": os.environ["CELLOS_METER"]}
    machine.workload = {"work": os.environ["CELLOS_WORK"], "steps/place": b"", "watched/place": b""}
    machine.processors = 1  # with two the emulator loses a timer now and then
    return machine.boot(480, "meter: ")


def check_times(text):
    times = [int(micro) / 1000 for micro in re.findall(r"meter: first frame (\d+) us$", text, re.M)]
    if len(times) != STARTS:
        return f"{len(times)} of {STARTS} starts came to a first frame"
    print(f"  exec to first frame: median {statistics.median(times):.1f} ms, least {min(times):.1f}, most "
          f"{max(times):.1f}, the first after boot {times[0]:.1f}; bar {FRAME_MS} ms", flush=True)
    return None


def check_resident(text):
    found = re.search(r"meter: resident (\d+) KiB, seccomp (\d)$", text, re.M)
    if not found:
        return "nobody told how much is resident"
    print(f"  resident at the peak: {found[1]} KiB; bar {MOST_KIB} KiB", flush=True)
    if found[2] != "2":
        return f"the agent is not caged: seccomp {found[2]}"
    return None if int(found[1]) <= MOST_KIB else f"{found[1]} KiB are resident, more than {MOST_KIB}"


def check_work(text):
    """What has nothing to do may be small. What the kernel dropped before we read it, or a probe folded, was work
    as well, and is counted."""
    stats = [json.loads(line) for line in re.findall(r'^(\{"incarnation".*\})$', text, re.M)]
    if not stats:
        return "no stats line on the console"
    told = {name: lane["produced"] + lane["k"] + lane["s"] for name, lane in stats[-1]["lanes"].items()}
    print(f"  events: {told}", flush=True)
    idle = [name for name, count in told.items() if count < PROCESSES]
    return f"less than {PROCESSES} events on the lanes {idle}" if idle else None


def check_end(ended):
    return None if ended.code == WHOLE_COURSE else f"init told exit code {ended.code}, not {WHOLE_COURSE}"


def run(kernel):
    ended = boot(kernel)
    print(f"{kernel}: {ended.seconds:.0f} s", flush=True)
    wrong = [why for why in (check_times(ended.text), check_resident(ended.text), check_work(ended.text),
                             check_end(ended)) if why]
    for why in wrong:
        print(f"  NO: {why}", flush=True)
    if wrong:
        print(ended.tail())
    return len(wrong)


def main():
    here = guest.kernels()
    chosen = sys.argv[1:] or list(CHANNELS)
    wrong = sum([run(kernel) for kernel in chosen if kernel in here])
    missing = [kernel for kernel in chosen if kernel not in here]
    if missing and not wrong:
        vm.skip(f"no kernel {missing[0]} in {vm.CACHE} (tests/vm/stock_kernel builds it)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
