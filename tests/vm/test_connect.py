#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""The connect probe's own tests on a guest kernel older than the ones machines run (6.1), its BPF programs interpreted
and then compiled by the kernel, and with no cgroup file system mounted anywhere.

CELLOS_TESTS names the folder with the tests' programs.
"""

import os
import re
import unittest

import vm

# Of the account only what overloads: emulation makes ten times as much of each attempt.
RUNS = {
    "test_bpf_load": "",
    "test_connect": "",
    "test_connect_arm": "",
    "test_connect_count": "--filter 'connect/a_reader*'",
}
SCRIPT = r"""
mkdir -p /dev/shm
mount -t tmpfs none /dev/shm
echo "VM-CGROUPS $(grep -c cgroup /proc/mounts)"
for jit in 0 1; do
    echo $jit >/proc/sys/net/core/bpf_jit_enable
    echo "VM-JIT $(cat /proc/sys/net/core/bpf_jit_enable)"
""" + "".join(f'    {name} --jobs 1 --timeout 600 {filters} 2>&1\n    echo "VM-ENDED {name} $?"\n'
              for name, filters in RUNS.items()) + "done\n"


class Connect(unittest.TestCase):
    def test_interpreted_and_compiled(self):
        folder = os.environ["CELLOS_TESTS"]
        text = vm.run(SCRIPT, {f"bin/{name}": os.path.join(folder, name) for name in RUNS}, 1400,
                      processors=1)
        self.assertIn("VM-CGROUPS 0", text)
        parts = re.split(r"VM-JIT (\d)\n", text)[1:]
        self.assertEqual(parts[::2], ["0", "1"], text[-4000:])
        for part in parts[1::2]:
            ended = dict(re.findall(r"VM-ENDED (\w+) (\d+)", part))
            self.assertEqual(ended, dict.fromkeys(RUNS, "0"), part[-4000:])
            tested = re.findall(r"Tested: (?:\x1b\[[0-9;]*m)?(\d+)", part)
            self.assertEqual(len(tested), len(RUNS), part[-4000:])
            self.assertNotIn("0", tested)


if __name__ == "__main__":
    unittest.main(verbosity=2)
