#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""What init and guard do where something is missing, and in the end.

Refused: a guest whose agent does not start, whose guard cannot have what it was told, whose kernel lacks a
controller, is off with exit code 125 before one instruction of the workload; with --best-effort it runs, and what
is missing was said.

The end: what the workload's command leaves behind must not run on where the agent no longer looks. The command
leaves a process, in a session of its own, and ends. Init then lets the agent end, which without a host takes as long
as init waits; whoever was started before the agent waits for its probe's end, and looks who is still there.

Environment: as in guest.py.
"""

import re
import shutil
import sys

import guest
import vm

CODE = 7
TIMEOUT = 240  # a guest takes a fraction of it, but an emulated processor may stand still for a minute
TRIES = 3
LEFT = "busybox_left"  # a busybox by that name takes its first word for the applet
# How many run the program of that name.
COUNT = """count() { %s/ls -l /proc/[0-9]*/exe 2>/dev/null | %s/grep -c "/$1\\$"; }
"""
# Before the agent, and outside of every wall, in init's own PID namespace: who waits until the agent looks, tells
# the workload so, and then waits until it no longer does.
LOOK = (COUNT % ("/tools", "/tools") + f"""
looks() {{ /tools/cat /proc/[0-9]*/task/*/comm 2>/dev/null | /tools/grep -q '^probe-process$'; }}
{{
    until looks; do /tools/sleep 0.1; done
    : >/mnt/looks
    while looks; do /tools/sleep 0.1; done
    echo "nobody looks: left $(count {LEFT}) agents $(count cellos-telemetry)" >/dev/console
}} &
""").encode()
LEAVE = (COUNT % ("/bin", "/bin") + f"""
/bin/setsid /bin/{LEFT} sleep 1000 </dev/null >/dev/null 2>&1 &
until [ -e /looks ] && [ "$(count {LEFT})" = 1 ]; do /bin/sleep 0.1; done
echo "left here: 1"
exit {CODE}
""").encode()
# Of an init that has made itself the last to be ended for want of memory: what its workload has of that.
FAVOUR = b"""
echo -900 >/proc/self/oom_score_adj
exec /cellos-guard --without helpers --root /mnt -- \\
    /bin/sh -c 'read score </proc/self/oom_score_adj; echo "favours: $score"'
"""
RUN = f"echo 'the workload ran'; exit {CODE}\n".encode()

# What is said; what of the guest is as it should not be; is it enough for --best-effort?
MISSING = (
    ("cellos-mini-init: cannot start /cellos-telemetry", {"agent": ["--no-such"]}, False),
    ("cellos-mini-init: cannot use cellos.cid", {"cid": "1x"}, False),
    ("cellos-guard: cannot use profile 'lax'", {"guard": ["--profile", "lax"]}, True),
    ("cellos-guard: cannot limit pids", {"guard": ["--pids", "100"], "options": "cgroup_disable=pids"}, True),
)


def tools(*names):
    """Of init's side."""
    return {f"tools/{name}": shutil.which("busybox") for name in names}


def machine(workload, layout="hidden"):
    one = guest.Guest(["/bin/sh", "/workload.sh"], layout)
    one.agent = ["--channel", "unix:/agent.sock", "--probes", "process"]
    names = ("sh", "sleep", "setsid", "ls", "grep", LEFT)
    one.processors = 1  # with two the emulator loses a timer now and then
    one.workload = {"workload.sh": workload, **{f"bin/{name}": shutil.which("busybox") for name in names}}
    return one


def look(layout):
    """Who was there when the agent no longer looked, and the exit code; None: nobody looked before its end."""
    one = machine(LEAVE, layout)
    one.agent += ["--drain-timeout", "60000"]  # init ends it before
    one.first = ["/tools/sh", "/look"]
    one.files = {"look": LOOK, **tools("sh", "ls", "grep", "cat", "sleep")}
    ended = one.boot(TIMEOUT, "left here")
    before = re.search(r"left here: (\d+)$", ended.text, re.M)
    after = re.search(r"nobody looks: left (\d+) agents (\d+)$", ended.text, re.M)
    told = (int(before[1]), *map(int, after.groups()), ended.code) if before and after else None
    if told is None or told[1:3] == (0, 0):  # by then the machine was about to go: that tells nothing
        print(f"  {layout}: nobody looked in time; {ended.tail()}", flush=True)
        return None
    return told


def end(layout):
    """What the command left is not there any more when the agent ends; which, without a host, takes it a while.
    Init's patience is some seconds, and an emulated processor may stand still for longer: then once more, twice.
    """
    told = next((told for told in (look(layout) for _ in range(TRIES)) if told is not None), None)
    if told is None:
        print(f"NO : {layout}: it was not told who was there", flush=True)
        return False
    fine = told == (1, 0, 1, CODE)
    print(f"{'yes' if fine else 'NO '}: {layout}: left behind {told[0]}; when the agent no longer looked {told[1]} "
          f"of them and {told[2]} agents were there; exit code {told[3]}", flush=True)
    return fine


def favours():
    """An init's own are not its workload's."""
    one = machine(b"")
    one.command = ["/tools/sh", "/favour"]
    one.bare = True  # it starts the guard itself
    one.files = {"favour": FAVOUR, **tools("sh")}
    ended = one.boot(TIMEOUT, "cellos-")
    found = re.search(r"favours: (.*)$", ended.text, re.M)
    fine = found is not None and found[1] == "0"
    print(f"{'yes' if fine else 'NO '}: oom_score_adj -900 becomes {found and found[1]}", flush=True)
    if not fine:
        print(ended.tail())
    return fine


def start(said, wrong, best_effort):
    """One line why, in any case; the workload runs only with --best-effort."""
    one = machine(RUN)
    for name, value in wrong.items():
        setattr(one, name, value)
    one.guard = one.guard + ["--best-effort"] * best_effort
    ended = one.boot(TIMEOUT, "cellos-")
    ran = "the workload ran" in ended.text
    lines = re.findall(re.escape(said), ended.text)
    if best_effort:  # it may be asked for twice: before all, and at the start
        fine = (ran, ended.code) == (True, CODE) and lines
    else:
        fine = (ran, ended.code, len(lines)) == (False, 125, 1)
    print(f"{'yes' if fine else 'NO '}: {said}{' (best effort)' * best_effort}: exit code {ended.code}, "
          f"{'ran' if ran else 'did not run'}", flush=True)
    if not fine:
        print(ended.tail())
    return fine


def main():
    for tool in ("busybox", vm.QEMU):
        if not shutil.which(tool):
            vm.skip(f"no {tool} here (packages of the group vm)")
    results = [end(layout) for layout in ("hidden", "shared")] + [favours()]
    for said, wrong, enough in MISSING:
        results.append(start(said, wrong, False))
        if enough:
            results.append(start(said, wrong, True))
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
