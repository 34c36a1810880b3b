#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""The agent as a program: readiness, --fork, descriptors, signals, exit codes, odd surroundings."""

import fcntl
import json
import os
import signal
import socket
import subprocess

import lib


def run(*words, **named):
    return subprocess.run([lib.AGENT, *words], capture_output=True, timeout=lib.PATIENCE,
                          check=False, **named)


class Agent(lib.Case):
    def full_pipe(self):
        """The writing end, which blocks; nobody ever reads the other one."""
        ends = os.pipe()
        for end in ends:
            self.addCleanup(os.close, end)
        fcntl.fcntl(ends[1], fcntl.F_SETPIPE_SZ, 4096)
        os.set_blocking(ends[1], False)
        os.write(ends[1], b"x" * 4096)
        os.set_blocking(ends[1], True)
        return ends[1]

    def start(self, *words, **named):
        """An agent without any of lib's descriptors."""
        process = subprocess.Popen(words, **named)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_usage_errors_exit_2_with_one_line(self):
        for words in (["--nonsense"], ["--queue-depth", "1"], ["--queue-depth"], ["stray"],
                      ["--channel", "carrier-pigeon"], ["--channel", "unix:"],
                      ["--channel", "vsock:2"], ["--channel", "fd:77"],
                      ["--channel", "unix:" + "x" * 200], ["--watch", ""],
                      ["--heartbeat-interval", "99"], ["--probes", "none"]):
            done = run("--channel", self.channel, *words)
            self.assertEqual(done.returncode, 2, words)
            lines = done.stderr.decode().splitlines()
            self.assertEqual(len(lines), 1, lines)
            self.assertRegex(lines[0], r"^cellos-telemetry: cannot \w+ .*: .+")
            self.assertEqual(done.stdout, b"")

    def test_help_and_version_go_to_standard_output(self):
        self.assertIn(b"--drain-timeout", run("--help").stdout)
        self.assertRegex(run("--version").stdout.decode(), r"^cellos-telemetry \d+\.\d+\.\d+\n$")
        with open("/dev/full", "wb") as full:
            done = subprocess.run([lib.AGENT, "--help"], stdout=full, stderr=subprocess.PIPE,
                                  check=False)
        self.assertEqual(done.returncode, 1)

    def test_the_environment_changes_nothing(self):
        done = run("--version", env={"CELLOS_CHANNEL": "x", "TZ": "\xff", "LD_BIND_NOW": "1"})
        self.assertEqual(done.returncode, 0)

    def test_probe_report_is_one_object_a_probe_and_opens_no_channel(self):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(self.socket)
            listener.listen(1)
            listener.setblocking(False)
            done = run("--channel", self.channel, "--probe-report", "--watch", self.watched,
                       "--watch", self.folder.name + "/absent")
            self.assertRaises(BlockingIOError, listener.accept)
        self.assertEqual(done.returncode, 0, done.stderr)
        report = {p["name"]: p for p in map(json.loads, done.stdout.splitlines())}
        self.assertEqual(list(report), ["process", "watch", "capability", "connect"])
        for probe in report.values():
            self.assertTrue({"name", "lane", "surface", "armed", "why"} <= set(probe))
        self.assertTrue(report["process"]["armed"])
        self.assertTrue(report["watch"]["armed"])
        for name, surface in (("capability", "trace"), ("connect", "bpf")):
            # What this kernel has not is told, and is no failure.
            self.assertEqual(report[name]["surface"], surface if report[name]["armed"] else "none")
            self.assertTrue(report[name]["armed"] or report[name]["why"])

    def test_watch_without_a_path_is_no_failure(self):
        done = run("--channel", self.channel, "--probe-report", "--on-probe-failure", "fail")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_a_probe_that_cannot_arm_degrades_or_fails_as_told(self):
        # No descriptor left for /proc or inotify: a fault that the real thing gives on demand.
        words = ["--probes", "watch", "--watch", self.watched, "--drain-timeout", "0"]
        done = subprocess.run(["prlimit", "--nofile=6:6", lib.AGENT, "--channel", self.channel, *words,
                               "--on-probe-failure", "fail"], capture_output=True,
                              timeout=lib.PATIENCE, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(b"cannot arm probe watch", done.stderr)

    def test_queue_depth_is_rounded_up_and_the_result_reported(self):
        agent = self.agent("--queue-depth", "5000", "--drain-timeout", "0", "--probes", "connect")
        stats = agent.stop()
        self.assertEqual(stats["queue_depth"], 8192)
        self.assertIn("rounded up to 8192", agent.process.stderr.read().decode())

    def test_fork_returns_when_armed_and_the_child_goes_on(self):
        receiver = self.receiver()
        # By inotify, which names the agent.
        done = run("--channel", self.channel, "--fork", "--probes", "watch", "--watch", self.watched,
                   "--watch-surface", "inotify")
        self.assertEqual(done.returncode, 0)
        self.touch_many(0, 1)  # armed already: this must be seen
        event = receiver.wait_event("fs.inotify_fired")
        child = event["guest_pid"]
        self.assertEqual(os.getsid(child), child, "the terminal's Ctrl-C is not for it")
        os.kill(child, signal.SIGTERM)
        receiver.wait_report("goodbye")
        lib.wait_until(lambda: self.is_over(child), "the child's end")

    @staticmethod
    def is_over(pid):
        """Reaped, perhaps while we looked, or waiting for it."""
        try:
            with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as stat:
                return stat.read().rpartition(")")[2].split()[0] == "Z"
        except (FileNotFoundError, ProcessLookupError):
            return True

    def test_fork_hands_a_failure_to_the_caller(self):
        done = subprocess.run(["prlimit", "--nofile=9:9", lib.AGENT, "--channel", self.channel,
                               "--fork", "--probes", "watch", "--watch", self.watched,
                               "--on-probe-failure", "fail"], capture_output=True,
                              timeout=lib.PATIENCE, check=False)
        self.assertEqual(done.returncode, 1, done.stderr)

    @staticmethod
    def flags_of_descriptors(pid):
        """By number; None when one was closed while we looked."""
        flags = {}
        try:
            for fd in os.listdir(f"/proc/{pid}/fdinfo"):
                with open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii") as info:
                    line = next(line for line in info if line.startswith("flags"))
                flags[int(fd)] = int(line.split()[1], 8)
        except FileNotFoundError:
            return None
        return flags

    def test_standard_descriptors_are_let_go_of(self):
        agent = self.agent("--probes", "connect", "--drain-timeout", "0")
        for fd in range(3):
            self.assertEqual(os.readlink(f"/proc/{agent.pid}/fd/{fd}"), "/dev/null")
        # And nothing else is shared with whoever started us: only our own and the stats pipe.
        # The ready pipe is closed right behind its newline: perhaps while the list is read.
        seen = []

        def list_is_steady():
            seen.append(self.flags_of_descriptors(agent.pid))
            return seen[-1] is not None

        lib.wait_until(list_is_steady, "a steady list")
        for fd, flags in seen[-1].items():
            if fd > 2:
                self.assertTrue(flags & os.O_CLOEXEC, f"fd {fd}")
        agent.stop()

    def test_verbose_keeps_talking_and_never_blocks_on_its_reader(self):
        agent = self.agent("--verbose", "--probes", "connect", "--drain-timeout", "0")
        receiver = self.receiver()
        receiver.wait_report("heartbeat")
        agent.stop()
        self.assertIn("connected to unix:", agent.process.stderr.read().decode())

    def test_diagnostics_into_a_full_pipe_do_not_hold_it_up(self):
        write_end = self.full_pipe()
        receiver = self.receiver()
        process = self.start(lib.AGENT, "--channel", self.channel, "--verbose", "--probes", "connect",
                             stderr=write_end)
        receiver.wait_report("heartbeat", lambda l: len(receiver.reports("heartbeat")) >= 1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(lib.PATIENCE), 0)
        self.assertTrue(os.get_blocking(write_end), "the shared description is as it was")

    def test_closed_standard_descriptors_are_survived(self):
        receiver = self.receiver()
        process = self.start("sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', lib.AGENT, "--channel",
                             self.channel, "--probes", "connect")
        receiver.wait_report("heartbeat")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(lib.PATIENCE), 0)

    def test_a_channel_that_is_a_file_holds_whole_frames(self):
        path = os.path.join(self.folder.name, "capture")
        with open(path, "wb") as capture:
            agent = self.agent("--watch", self.watched, "--probes", "watch",
                               channel=f"fd:{capture.fileno()}", pass_fds=(capture.fileno(),))
        self.touch_many(0, 100)
        lib.wait_until(lambda: agent.stats_now()["sent"] >= 100, "100 sent")
        stats = agent.stop()
        with open(path, "rb") as capture:
            frames, rest = lib.decode_stream(capture.read())
        self.assertEqual(rest, b"")
        self.assertEqual(len([f for f in frames if not lib.is_report(f)]), stats["sent"])
        self.assertEqual(lib.split_heartbeat(frames[0]), (1, 0))
        self.assertEqual(lib.split_heartbeat(frames[-1]), (0, 100))

    def test_a_channel_that_is_standard_output_works_into_a_pipe(self):
        process = subprocess.Popen([lib.AGENT, "--channel", "fd:1", "--probes", "connect"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.stderr.close)
        first = process.stdout.read(4)
        self.assertEqual(len(first), 4)
        process.send_signal(signal.SIGTERM)
        frames, rest = lib.decode_stream(first + process.stdout.read())
        self.assertEqual(process.wait(lib.PATIENCE), 0)
        self.assertEqual((lib.split_heartbeat(frames[-1])[0], rest), (0, b""))

    def test_a_pipe_whose_reader_leaves_ends_the_agent_with_1(self):
        process = subprocess.Popen([lib.AGENT, "--channel", "fd:1", "--probes", "connect",
                                    "--heartbeat-interval", "100"], stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        process.stdout.read(4)
        process.stdout.close()
        self.assertEqual(process.wait(lib.PATIENCE), 1)

    def test_a_full_disk_is_waited_for_not_spun_on(self):
        with open("/dev/full", "wb", buffering=0) as full:
            agent = self.agent("--watch", self.watched, "--probes", "watch", "--drain-timeout", "100",
                               channel=f"fd:{full.fileno()}", pass_fds=(full.fileno(),))
        self.touch_many(0, 10)
        lib.wait_until(lambda: agent.stats_now()["lanes"]["fs"]["produced"] == 10, "10 produced")
        self.assertLess(lib.share_of_a_core(agent.pid), 0.1)
        stats = agent.stop()
        self.assertEqual(stats["lanes"]["fs"]["x"], 10)

    def test_signals_that_are_not_ours_are_ignored(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "connect")
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGPIPE, signal.SIGALRM,
                       signal.SIGQUIT, signal.SIGTSTP):
            agent.process.send_signal(number)
        agent.stats_now()
        agent.process.send_signal(signal.SIGSTOP)
        agent.process.send_signal(signal.SIGCONT)
        agent.stats_now()
        agent.process.send_signal(signal.SIGINT)
        agent.finish()
        receiver.wait_report("goodbye")

    def test_stats_into_a_full_pipe_do_not_hold_the_stop_up(self):
        write_end = self.full_pipe()
        receiver = self.receiver()
        process = self.start(lib.AGENT, "--channel", self.channel, "--stats-fd", str(write_end),
                             "--probes", "connect", pass_fds=(write_end,))
        receiver.wait_report("heartbeat")
        process.send_signal(signal.SIGUSR1)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(lib.PATIENCE), 0)
        receiver.wait_report("goodbye")

    def test_without_proc_it_lives_and_says_so(self):
        # A mount namespace of its own takes root, or a user namespace in which one is root.
        namespaces = "-m" if os.geteuid() == 0 else "-rm"
        # The leak checker of a sanitizer build fails without /proc, and looks there for its options.
        script = ('mount -t tmpfs none /proc && mkdir /proc/self && '
                  'printf "ASAN_OPTIONS=detect_leaks=0\\0" >/proc/self/environ && exec "$0" "$@"')
        receiver = self.receiver()
        process = subprocess.Popen(["unshare", namespaces, "sh", "-c", script, lib.AGENT, "--channel",
                                    self.channel, "--verbose", "--probes", "process", "--no-sandbox"],
                                   stderr=subprocess.PIPE)
        self.addCleanup(process.stderr.close)
        receiver.wait_report("heartbeat")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(lib.PATIENCE), 0)
        self.assertIn(b"cannot arm probe process", process.stderr.read())

    def caged(self, *extra):
        """An agent that was built with a cage, and has closed it; its threads' status files."""
        done = run("--probe-report", "--probes", "process")
        if json.loads(done.stdout)["sandbox"] != "on":
            self.skipTest("this agent was built without a sandbox: sanitizers, or no libseccomp")
        if os.geteuid() != 0:
            self.skipTest("what root gives up, only root has")
        self.receiver()
        agent = self.agent("--watch", self.watched, *extra)
        return agent, self.status(agent)

    def test_every_thread_is_in_the_cage_when_it_says_ready(self):
        def laid_down():
            return all(int(fields["CapPrm"], 16) & ~allowed.get(fields["Name"], net_admin) == 0
                       for fields in self.status(agent))

        net_admin = 1 << 12
        allowed = {"probe-watch": net_admin | 1 << 2 | 1 << 21, "probe-capability": net_admin | 1 << 30,
                   "cellos-sender": net_admin | 1 << 1}
        agent, threads = self.caged()
        self.assertGreaterEqual(len(threads), 5, [fields["Name"] for fields in threads])
        for fields in threads:
            self.assertEqual(fields["Seccomp"], "2", fields["Name"])
            self.assertEqual(fields["NoNewPrivs"], "1", fields["Name"])
        lib.wait_until(laid_down, "a thread has more capabilities than it needs")
        pid = agent.process.pid
        self.assertNotEqual(os.readlink(f"/proc/{pid}/ns/mnt"), os.readlink("/proc/self/ns/mnt"))
        self.assertEqual(os.getsid(pid), pid)
        with open(f"/proc/{pid}/limits", encoding="utf-8") as file:
            core = [line.split() for line in file if line.startswith("Max core")][0]
        self.assertEqual(core[4:6], ["0", "0"])
        with open("/proc/self/status", encoding="utf-8") as file:
            own = [int(line.split()[1], 16) for line in file if line.startswith("CapEff:")][0]
        if own >> 24 & 1:  # CAP_SYS_RESOURCE, without which nobody lives longer
            with open(f"/proc/{pid}/oom_score_adj", encoding="utf-8") as file:
                self.assertEqual(file.read(), "-1000\n")
        self.assertGreater(int(threads[0]["VmLck"].split()[0]), 0)
        agent.stop()

    def test_the_report_says_that_there_is_no_sandbox(self):
        self.caged()[0].stop()
        for option, word in (("--no-sandbox", "off"), ("--log-sandbox", "log")):
            done = run("--probe-report", "--probes", "process", option)
            self.assertEqual(json.loads(done.stdout)["sandbox"], word)

    def test_the_whole_queue_is_resident_before_there_are_events(self):
        # By the page tables; the kernel's own count lags behind.
        agent, _ = self.caged("--queue-depth", "65536")
        with open(f"/proc/{agent.process.pid}/smaps_rollup", encoding="utf-8") as file:
            resident = [int(line.split()[1]) for line in file if line.startswith("Rss:")][0]
        self.assertGreaterEqual(resident * 1024, agent.stats_now()["memory"]["queue"])
        agent.stop()

    def test_a_caged_agent_finds_back_to_another_users_socket(self):
        if os.geteuid() != 0:
            self.skipTest("what root gives up, only root has")
        host = self.breaking_host()
        for path in (self.folder.name, self.socket):
            os.chown(path, 65534, 65534)
            os.chmod(path, 0o700)
        agent = self.agent("--probes", "process", "--drain-timeout", "0")
        host.accept().close()
        host.accept()
        agent.stop()

    @staticmethod
    def status(agent):
        """What the kernel says of each thread; just after the start not all have their names yet."""
        found = []
        for thread in os.listdir(f"/proc/{agent.process.pid}/task"):
            with open(f"/proc/{agent.process.pid}/task/{thread}/status", encoding="utf-8") as file:
                found.append(dict(line.rstrip("\n").split(":\t", 1) for line in file if ":\t" in line))
        return found


if __name__ == "__main__":
    lib.main()
