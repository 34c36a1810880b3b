#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""test_cloudevents.py LINES FOLDER: the npm package `cloudevents` reads what we call CloudEvents.

The package and what it needs are installed in FOLDER, exactly as package-lock.json names them. Without
npm or a registry the test is skipped, and says so.
"""

import os
import pathlib
import shutil
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
FILES = ("package.json", "package-lock.json")


def skip(why):
    print(f"skipped: {why}")
    sys.exit(1 if os.environ.get("CELLOS_NO_SKIP") == "1" else 77)


def install(folder):
    """node_modules as the lock file says; kept while the lock file stays the same."""
    folder.mkdir(parents=True, exist_ok=True)
    done = folder / "installed"
    lock = (HERE / "package-lock.json").read_bytes()
    if done.exists() and done.read_bytes() == lock:
        return
    npm = shutil.which("npm")
    if npm is None:
        skip("there is no npm")
    for name in FILES:
        shutil.copyfile(HERE / name, folder / name)
    # What another build has fetched is in npm's cache. A network that stumbles is asked again.
    command = [npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefer-offline",
               "--fetch-retries=4", "--fetch-retry-mintimeout=1000",
               "--fetch-retry-maxtimeout=10000", "--fetch-timeout=30000"]
    for _ in range(2):
        try:
            ran = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=200,
                                 check=False)
        except subprocess.TimeoutExpired:
            why = "npm ci did not end: the registry does not answer"
            continue
        if ran.returncode == 0:
            break
        why = f"npm ci failed: {ran.stdout.decode(errors='replace')[-300:]}"
    else:
        skip(why)
    done.write_bytes(lock)


def main(lines, folder):
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        skip("there is no node")
    install(folder)
    for form in ("cloudevents", "ocsf"):
        for extra in ([], ["bare"]):
            made = subprocess.run([lines, form, *extra], stdout=subprocess.PIPE, timeout=60,
                                  check=True)
            read = subprocess.run([node, HERE / "read_cloudevents.mjs"], input=made.stdout,
                                  stdout=subprocess.PIPE, cwd=folder, timeout=120, check=False)
            print(form, *extra, read.stdout.decode().strip())
            if read.returncode != 0:
                sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], pathlib.Path(sys.argv[2]))
