#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Every attack, in guests: behind the guard in both layouts, without the guard, without just the walls that
are said to stop it, and behind each of these walls alone. Each row must hold in all of them, so that none
passes by accident; and after every attack the agent, the same one, must still send and be as it was.

The result is docs/attacks.md, and its sums in the README; the test fails when the verdicts that stand there are
others. --write writes them.
What an attack does is in the C files beside this one; `attack --list` names its walls.
"""

import argparse
import collections
import concurrent.futures
import itertools
import os
import pathlib
import re
import subprocess
import sys
import time

FOLDER = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parent))
import guest  # noqa: E402
import vm  # noqa: E402

TABLE = FOLDER.parents[2] / "docs" / "attacks.md"
README = FOLDER.parents[2] / "README.md"
WALLS = {"N": "namespaces", "C": "capabilities", "M": "mounts", "S": "seccomp", "G": "cgroup", "H": "helpers",
         "D": "descriptors"}
LAYOUTS = ("hidden", "shared")
LIMITS = ["--pids", "200", "--memory", str(128 << 20), "--cpu-percent", "100"]
AGENT_DIED = 124  # what init tells then
GUEST_SECONDS = 240  # beside those for the attacks: one that is never woken takes a minute by itself
AGENT = ["--heartbeat-interval", "100"]

Row = collections.namedtuple("Row", "name hidden shared what group")


def all_rows(program):
    listed = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout
    return [Row(*line.split("\t")) for line in listed.splitlines()]


class Outcome:
    """Of one attack in one guest: what it met, and what it did to the agent."""

    def __init__(self, met, word="", hurt=""):
        self.met, self.word, self.hurt = met, word, hurt

    @property
    def worked(self):
        return bool(self.hurt) or self.met == "worked"

    def __str__(self):
        if self.hurt:
            return f"works: {self.hurt}"
        if self.met == "worked":
            return "works"
        return self.word or {"sent": "no effect", "absent": "absent"}.get(self.met, self.met)


def fields(line):
    return dict(part.split("=", 1) for part in line.split(" ") if "=" in part)


def hurt(before, after):
    """How the agent is worse off than before; "" when it is not."""
    if after["agent"] == "dead" or (before["pid"], before["start"]) != (after["pid"], after["start"]):
        return "the agent ends"
    if after["agent"] == "silent":
        return "the agent is silent"
    if before["state"] != after["state"]:
        return "the agent is changed"
    return "a forged connection" if before["second"] != after["second"] else ""


def read_console(text, names):
    """The outcomes by name, and the attack after which nothing came any more (None: there is none).

    What the attacks say comes through the guard, what the watcher says does not: one may overtake the other, and
    what the guard still had when it was ended never comes. So the names are what joins the lines, and the attack
    that was on is the first one behind the last that the watcher was asked about, or that one itself. The third
    is whether it was seen to begin.
    """
    met, hurts, begun, before, last = {}, {}, set(), None, -1
    for line in text.splitlines():
        if found := re.search(r"TRY (\S+)$", line):
            begun.add(found[1])
        elif found := re.search(r"RESULT (\S+) (\w+) ?(\S*)$", line):
            met[found[1]] = (found[2], found[3])
        elif found := re.search(r"WATCH (after=.*)$", line):
            after = fields(found[1])
            if not {"agent", "pid", "start", "second", "state"} <= after.keys():
                continue
            if after["after"] in names:
                last = names.index(after["after"])
                if before is not None:
                    hurts[after["after"]] = hurt(before, after)
            before = after
    outcomes = {name: Outcome(*met[name], hurts[name]) for name in names if name in met and name in hurts}
    if before is None or "ATTACKS done" in text:
        return outcomes, None, False
    on = names[last + 1] if last + 1 < len(names) else None
    if on not in begun and last >= 0 and names[last] not in met:
        on = names[last]
    return outcomes, on, on in begun


def emulator_failed(ended):
    """The guest stood still until it was ended, or its own watchdog did that. An attack may do it as well, and
    then does it again."""
    return ended.late or re.search(r"soft lockup|softlockup", ended.text) is not None


class Lab:
    """Boots guests and remembers what each attack met in them."""

    def __init__(self, rows, only_kernel=None):
        self.rows = {row.name: row for row in rows}
        self.order = [row.name for row in rows]
        self.kernels = [name for name in guest.kernels() if only_kernel in (None, name)]
        self.numbers = itertools.count(1)
        self.begin = time.monotonic()

    def _guest(self, kernel, layout, without, names):
        machine = guest.Guest(["/attack", "--all", "/watch", "/list"], layout, kernel)
        channel = "vsock:1:5000" if kernel == "cloud" else "unix:/agent.sock"
        machine.first = ["/watcher", channel.replace("vsock:1:", "vsock:"), "/mnt/watch"]
        machine.agent = ["--channel", channel, *AGENT]
        machine.bare = without is None
        machine.guard = LIMITS + [word for letter in without or "" for word in ("--without", WALLS[letter])]
        names_file = "".join(f"{name}\n" for name in names).encode()
        attack, watcher = os.environ["CELLOS_ATTACK"], os.environ["CELLOS_WATCHER"]
        machine.files = {"attack": attack, "watcher": watcher, "list": names_file}
        machine.workload = {"attack": attack, "list": names_file, "watch/place": b""}
        machine.options = "syscall.x32=y"
        machine.machine = ["-drive", "driver=null-co,if=none,id=disk,size=1048576", "-device",
                           "virtio-blk-pci,drive=disk", "-device", "virtio-rng-pci"]
        return machine

    def run(self, kernel, layout, without, names):
        """Outcomes by name. An attack that ends the machine has worked; the rest gets another one."""
        names = [name for name in self.order if name in set(names)]
        outcomes, again, idle = {}, set(), 0
        while names:
            boot = next(self.numbers)
            ended = self._guest(kernel, layout, without, names).boot(GUEST_SECONDS + 4 * len(names), "TRY ")
            found, trying, sure = read_console(ended.text, names)
            # A process that nothing woke for a minute met a lost interrupt: once more, in another guest. So does
            # whoever may not even have begun.
            stalled = {name for name in found if found[name].word == "SIGALRM"} - again
            if trying is not None and (emulator_failed(ended) or not sure):
                stalled |= {trying} - again
            again |= stalled
            outcomes.update((name, found[name]) for name in found if name not in stalled)
            if trying is not None and trying not in stalled:
                outcomes[trying] = self._last_one(ended)
            left = [name for name in names if name not in outcomes]
            # A line that the kernel wrote into is no line: what it told is tried again.
            idle = 0 if len(left) < len(names) or stalled else idle + 1
            print(f"  {kernel:5} {layout:6} {self._label(without):40} {len(found):3} attacks "
                  f"{ended.seconds:4.0f} s{' ended by ' + trying if trying else ''}"
                  f"{'; once more: ' + ' '.join(left) if left and trying is None or stalled else ''}", flush=True)
            if os.environ.get("CELLOS_CONSOLE"):
                place = pathlib.Path(os.environ["CELLOS_CONSOLE"]) / f"{boot:02}-{kernel}-{layout}"
                place.write_text(f"{self._label(without)}\n{ended.text}")
            if idle == 2:
                raise AssertionError(f"{kernel} {layout} {without}: {left} were not tried; {ended.tail()}")
            names = left
        return outcomes

    @staticmethod
    def _last_one(ended):
        """The outcome of the attack after which the guest ended."""
        if ended.late:
            return Outcome("sent", "", "the machine hangs")
        if ended.code is None or ended.code == AGENT_DIED:
            return Outcome("sent", "", "the agent ends")
        return Outcome("ended", "its own end")  # init tells the workload's exit code, the agent alive

    @staticmethod
    def _label(without):
        if without is None:
            return "without the guard"
        return "without " + " ".join(WALLS[letter] for letter in without) if without else "guarded"


def alternatives(spec):
    """"NM C" as its parts, each of which is said to stop the attack alone; () when it is a word."""
    return tuple(spec.split()) if all(letter in WALLS for letter in spec.replace(" ", "")) else ()


def breaches(spec):
    """Every least set of walls without which nothing of that is whole."""
    return {"".join(sorted(set(taken))) for taken in itertools.product(*alternatives(spec))}


class Verdicts:
    """All that the lab found for one layout, and what of it is not as the rows say."""

    def __init__(self, lab, layout):
        self.lab, self.layout = lab, layout
        self.spec = {name: getattr(row, layout) for name, row in lab.rows.items()}
        self.guarded, self.bare, self.own, self.only, self.where = {}, {}, {}, {}, {}
        self.wrong = []

    def blame(self, name, what):
        self.wrong.append(f"{self.layout}: {name} ({self.spec[name]}): {what}")

    def look(self):
        lab, layout = self.lab, self.layout
        for kernel in lab.kernels:
            for name, outcome in lab.run(kernel, layout, "", lab.order).items():
                if name not in self.guarded or outcome.worked or self.guarded[name].met == "absent":
                    self.guarded[name] = outcome
        left = list(lab.order)
        for kernel in lab.kernels:
            for name, outcome in lab.run(kernel, layout, None, left).items():
                self.bare[name], self.where[name] = outcome, kernel
            left = [name for name in left if not self.bare[name].worked and alternatives(self.spec[name])]
        self._once_more(self.bare, {name: (self.where[name], None, name) for name in left})
        for kernel in lab.kernels:
            self._look_at_walls(kernel)

    def _once_more(self, outcomes, missed):
        """Without the walls that stop it an attack must be able to work, which nobody can hurry: the kernel's
        helper may have come later than the attack waited. Once more, and once only; whatever a wall must stop has
        no second chance. `missed`: the key in `outcomes`, and kernel, walls that are missing, and name.
        """
        for (kernel, without), group in itertools.groupby(
                sorted(missed.items(), key=lambda one: (one[1][0], one[1][1] or "")), key=lambda one: one[1][:2]):
            keys = {name: key for key, (_, _, name) in group}
            print(f"  once more, for they ought to work: {' '.join(keys)}", flush=True)
            for name, outcome in self.lab.run(kernel, self.layout, without, list(keys)).items():
                outcomes[keys[name]] = outcome

    def _look_at_walls(self, kernel):
        names = [name for name, spec in self.spec.items()
                 if alternatives(spec) and self.where[name] == kernel and self.bare[name].worked]
        for without in sorted(set().union(*(breaches(self.spec[name]) for name in names))):
            chosen = [name for name in names if without in breaches(self.spec[name])]
            for name, outcome in self.lab.run(kernel, self.layout, without, chosen).items():
                self.own[name, without] = outcome
        self._once_more(self.own, {(name, without): (kernel, without, name)
                                   for (name, without), outcome in self.own.items()
                                   if self.where[name] == kernel and not outcome.worked})
        for part in sorted(set().union(*(alternatives(self.spec[name]) for name in names))):
            # Where there is no other part, the guarded run and the one without it say it all.
            chosen = [name for name in names
                      if part in alternatives(self.spec[name]) and self.spec[name] != part]
            others = "".join(letter for letter in WALLS if letter not in part)
            for name, outcome in self.lab.run(kernel, self.layout, others, chosen).items():
                self.only[name, part] = outcome

    def judge(self):
        for name, spec in self.spec.items():
            guarded, bare = self.guarded[name], self.bare[name]
            if spec == "allowed":
                if not guarded.worked or guarded.hurt:
                    self.blame(name, f"must work behind the guard: {guarded}")
                if not bare.worked:
                    self.blame(name, f"must work without the guard: {bare}")
            elif spec == "open":
                if not guarded.worked:
                    self.blame(name, f"is no longer open: {guarded}")
            elif guarded.worked:
                self.blame(name, f"works behind the guard: {guarded}")
            elif spec in ("agent", "never"):
                if bare.worked:
                    self.blame(name, f"works without the guard: {bare}")
            else:
                self._judge_walls(name)
        return self.wrong

    def _judge_walls(self, name):
        if not self.bare[name].worked:
            self.blame(name, f"does not work even without the guard: {self.bare[name]}")
            return
        for without in breaches(self.spec[name]):
            if not self.own[name, without].worked:
                self.blame(name, f"does not work without {without}: {self.own[name, without]}")
        for part in alternatives(self.spec[name]):
            if (name, part) in self.only and self.only[name, part].worked:
                self.blame(name, f"works behind {part} alone: {self.only[name, part]}")


# ---- the table ----------------------------------------------------------------------------------------------

HEAD = """# What a hostile root tried

Written by `tests/vm/attacks/test_attacks.py --write`; the test runs all of it again and fails when a verdict
has changed. Every line is a small program, run as root inside of guests that the test boots: behind the guard
in both layouts, without the guard, and without just those walls that stop it; and where any of several walls
stops it, behind each of them alone. After every attack the agent, still the same process, had to send and be as it
was. Kernels: {kernels}.

A cell says what the attack met, and through which walls.

| attack | without the guard | without its walls | hidden | shared |
|---|---|---|---|---|
"""
FOOT = {"allowed": "allowed", "agent": "the agent bears it", "never": "not possible here anyway",
        "open": "**open**"}


def walls_in_words(spec):
    return " or ".join(" with ".join(WALLS[letter] for letter in part) for part in alternatives(spec))


def cell(verdicts, name):
    spec = verdicts.spec[name]
    outcome = verdicts.guarded[name]
    if alternatives(spec):
        return f"{outcome}: {walls_in_words(spec)}"
    if spec == "allowed":
        return str(outcome)
    return FOOT[spec]


def without_guard(verdicts, name):
    """hidden, or both where they are not the same."""
    texts = [str(one.bare[name]) if one.spec[name] == "allowed" or not one.bare[name].worked else "works"
             for one in verdicts]
    return " / ".join(dict.fromkeys(texts))


def without_walls(verdicts, name):
    texts = ["works" if outcome.worked else str(outcome)
             for one in verdicts for (row, _), outcome in sorted(one.own.items()) if row == name]
    return " / ".join(dict.fromkeys(texts)) or "-"


def table(lab, verdicts):
    text = HEAD.format(kernels=", ".join(lab.kernels))
    for name, row in lab.rows.items():
        cells = [row.what, without_guard(verdicts, name), without_walls(verdicts, name),
                 *(cell(one, name) for one in verdicts)]
        text += "| " + " | ".join(part.replace("|", "\\|") for part in cells) + " |\n"
    return text


def essence(text):
    """The table without the errnos: a verdict is whether it worked."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [re.sub(r"\b(E[A-Z]+|SIG[A-Z]+|absent|no effect|its own end)\b", "refused", line) for line in lines]


def sums(lab, verdicts):
    """The README's table: of each group, how many there are and how many work."""
    lines = ["| what a hostile root tried | attacks | work without the guard | work behind it, hidden | "
             "work behind it, shared |", "|---|---|---|---|---|"]
    for group in dict.fromkeys(row.group for row in lab.rows.values()):
        names = [name for name, row in lab.rows.items() if row.group == group]
        numbers = [sum(verdicts[0].bare[name].worked for name in names)]
        for one in verdicts:
            worked = [lab.rows[name].what for name in names if one.guarded[name].worked]
            attacks = [name for name in names if one.spec[name] != "allowed"]
            numbers.append(str(len(worked)) + (f" ({'; '.join(worked)})" if worked and attacks else ""))
        lines.append(f"| {group} | {len(names)} | {' | '.join(map(str, numbers))} |")
    return "\n".join(lines) + "\n"


def sums_in_readme(new=None):
    """What stands there; with `new`, that instead."""
    text = README.read_text()
    begin, end = (text.index(f"<!-- attacks: {word} -->\n") for word in ("begin", "end"))
    begin = text.index("\n", begin) + 1
    if new is not None:
        README.write_text(text[:begin] + new + text[end:])
    return text[begin:end]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/attacks.md")
    parser.add_argument("--kernel", choices=("cloud", "stock"))
    parser.add_argument("--layout", choices=LAYOUTS)
    parser.add_argument("--row", action="append", help="only these; nothing is compared or written")
    chosen = parser.parse_args()
    rows = [row for row in all_rows(os.environ["CELLOS_ATTACK"])
            if chosen.row is None or row.name in chosen.row]
    lab = Lab(rows, chosen.kernel)
    whole = chosen.row is None and chosen.layout is None and chosen.kernel is None
    if whole and "stock" not in lab.kernels:
        vm.skip(f"no stock-*/bzImage in {vm.CACHE}: some attacks cannot be shown to work without it")
    verdicts = [Verdicts(lab, layout) for layout in LAYOUTS if chosen.layout in (None, layout)]
    with concurrent.futures.ThreadPoolExecutor(min(len(verdicts), os.cpu_count())) as pool:
        for done in [pool.submit(one.look) for one in verdicts]:
            done.result()
    wrong = list(itertools.chain.from_iterable(one.judge() for one in verdicts))
    print(f"{len(rows)} attacks, {next(lab.numbers) - 1} guests, {time.monotonic() - lab.begin:.0f} s")
    for line in wrong:
        print(f"wrong: {line}")
    if not whole:
        print(table(lab, verdicts), sums(lab, verdicts), sep="\n")
        return 1 if wrong else 0
    text, short = table(lab, verdicts), sums(lab, verdicts)
    if chosen.write and not wrong:
        TABLE.write_text(text)
        sums_in_readme(short)
    elif sums_in_readme() != short:
        print(f"wrong: the README says something else; now it would be:\n{short}")
        return 1
    elif not TABLE.exists() or essence(TABLE.read_text()) != essence(text):
        print(f"wrong: docs/attacks.md says something else; now it would be:\n{text}")
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
