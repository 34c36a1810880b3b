# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""What the package tests share: run a command, collect what is wrong, end with an exit code."""

import subprocess
import sys

_wrong = []


def run(*command, expect=0, **options):
    """Runs it and returns its standard output; ends the test when the exit code is another."""
    done = subprocess.run(
        [str(word) for word in command],
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=240,
        **options,
    )
    if done.returncode != expect:
        print(done.stdout, end="")
        sys.exit(f"exit code {done.returncode}, not {expect}: {' '.join(map(str, command))}")
    return done.stdout


def wrong(text):
    """One finding; the test goes on, so that one run shows them all."""
    _wrong.append(text)
    print(f"wrong: {text}")


def check(condition, text):
    if not condition:
        wrong(text)


def finish(what):
    if _wrong:
        sys.exit(f"{len(_wrong)} wrong")
    print(f"ok: {what}")
