#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Real processes and files of this machine arrive, decoded, at a real receiver, and all of it adds up."""

import ctypes
import os
import shutil
import signal
import subprocess
import threading

import lib


class Pipeline(lib.Case):
    def join_ledgers(self, stats, summary, receiver, lost=0):
        """The agent's own sums, the receiver's, and the lines it printed: one story."""
        events = receiver.events()
        self.assertEqual(summary["events"], len(events))
        self.assertEqual(stats["sent"], len(events) + lost)
        self.assertEqual(summary["lost_in_flight"], lost)
        self.assertEqual(summary["bad"], {})
        letters = {"proc": "p", "fs": "f", "cap": "c", "net": "n"}
        expected = {}
        for name, lane in stats["lanes"].items():
            for reason in "qkosx":
                if lane[reason]:
                    expected[letters[name] + reason] = lane[reason]
        self.assertEqual(summary["dropped"], expected)

    def test_every_process_that_lives_long_enough_arrives(self):
        receiver = self.receiver()
        agent = self.agent("--process-interval", "10", "--probes", "process")
        children = [subprocess.Popen(["sleep", "600"]) for _ in range(50)]
        for child in children:
            self.addCleanup(child.wait)
            self.addCleanup(child.kill)
        for child in children:
            receiver.wait_event("process.spawned", guest_pid=child.pid)
        for child in children:
            child.kill()
            child.wait()
        for child in children:
            receiver.wait_event("process.exited", guest_pid=child.pid)
        stats = agent.stop()
        receiver.wait_report("goodbye")
        summary = receiver.stop()
        self.join_ledgers(stats, summary, receiver)
        # The generator's own list, both ways: each child once, spawned before exited.
        for child in children:
            mine = [e for e in receiver.events() if e["guest_pid"] == child.pid]
            self.assertEqual([e["probe_source"] for e in mine],
                             ["process.spawned", "process.exited"])
            self.assertLess(mine[0]["guest_monotonic_ns"], mine[1]["guest_monotonic_ns"])
            # Ours is the name it has until exec, which a busy machine may put off for longer than the
            # agent waits for a name.
            with open("/proc/self/comm", encoding="utf-8") as comm:
                self.assertIn(mine[0]["guest_comm"], ("sleep", comm.read().rstrip("\n")))

    def test_what_lived_before_is_not_spawned_but_its_exit_is_told(self):
        before = subprocess.Popen(["sleep", "600"])
        self.addCleanup(before.wait)
        self.addCleanup(before.kill)
        receiver = self.receiver()
        agent = self.agent("--process-interval", "10", "--probes", "process")
        before.kill()
        before.wait()
        receiver.wait_event("process.exited", guest_pid=before.pid)
        agent.stop()
        self.assertEqual([e for e in receiver.events("process.spawned")
                          if e["guest_pid"] == before.pid], [])

    def test_threads_and_kernel_threads_are_not_processes(self):
        receiver = self.receiver()
        agent = self.agent("--process-interval", "5", "--probes", "process")
        stop = threading.Event()
        threads = [threading.Thread(target=stop.wait) for _ in range(40)]
        tids = []
        for thread in threads:
            thread.start()
            tids.append(thread.native_id)
        marker = subprocess.Popen(["sleep", "600"])
        self.addCleanup(marker.wait)
        self.addCleanup(marker.kill)
        self.addCleanup(stop.set)
        receiver.wait_event("process.spawned", guest_pid=marker.pid)
        stop.set()
        for thread in threads:
            thread.join()
        marker.kill()
        marker.wait()
        receiver.wait_event("process.exited", guest_pid=marker.pid)
        agent.stop()
        pids = {e["guest_pid"] for e in receiver.events()}
        self.assertFalse(pids & set(tids))
        self.assertNotIn(2, pids)

    def test_hostile_names_arrive_as_valid_text(self):
        receiver = self.receiver()
        agent = self.agent("--process-interval", "10", "--probes", "process")
        names = [b'a"b\\c', b"new\nline", b"\xff\xfe\xe2\x82", b") S 1 (x", b"\xf0\x9f\x98\x80" * 3,
                 b"\x1b[31m", b" "]
        libc = ctypes.CDLL(None, use_errno=True)
        for name in names:
            ready_read, ready_write = os.pipe()
            pid = os.fork()
            if pid == 0:
                libc.prctl(15, ctypes.c_char_p(name), 0, 0, 0)  # PR_SET_NAME
                os.write(ready_write, b"x")
                signal.pause()
                os._exit(0)
            os.read(ready_read, 1)
            os.close(ready_read)
            os.close(ready_write)
            expected = name[:15].decode("utf-8", errors="replace")
            receiver.wait_event("process.spawned", guest_pid=pid)
            # The walk may have met the name from before prctl; exited carries the last one.
            self.let_it_walk(receiver)
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            receiver.wait_event("process.exited", guest_pid=pid, guest_comm=expected)
        agent.stop()

    def let_it_walk(self, receiver):
        """A marker process that comes and goes: the walk that misses it is a whole one, and a later one."""
        marker = subprocess.Popen(["sleep", "600"])
        self.addCleanup(marker.wait)
        self.addCleanup(marker.kill)
        receiver.wait_event("process.spawned", guest_pid=marker.pid)
        marker.kill()
        marker.wait()
        receiver.wait_event("process.exited", guest_pid=marker.pid)

    def test_file_changes_arrive_one_for_each_create(self):
        receiver = self.receiver()
        agent = self.agent("--watch", self.watched, "--watch-surface", "inotify", "--probes", "watch")
        self.touch_many(0, 500)
        lib.wait_until(lambda: len(receiver.events("fs.inotify_fired")) >= 500, "500 creates")
        stats = agent.stop()
        receiver.wait_report("goodbye")
        summary = receiver.stop()
        self.assertEqual(len(receiver.events("fs.inotify_fired")), 500)
        self.join_ledgers(stats, summary, receiver)
        for event in receiver.events():
            self.assertEqual(event["guest_pid"], agent.pid)
            self.assertEqual(event["guest_comm"], "cellos-telemetry"[:15])

    def test_a_watched_folder_that_comes_goes_and_comes_back_is_never_silently_blind(self):
        shutil.rmtree(self.watched)
        receiver = self.receiver()
        agent = self.agent("--watch", self.watched, "--probes", "watch")
        for turn in range(1, 3):
            os.mkdir(self.watched)
            receiver.wait_report("dropped", lambda l: l["lane"] == "fs" and l["reason"] == "o"
                                 and l["count"] >= turn)
            # What came before the row has arrived as well.
            seen = agent.stats_now()["lanes"]["fs"]["produced"]
            lib.wait_until(lambda: len(receiver.events("fs.inotify_fired")) >= seen, "earlier ones")
            self.touch_many(turn * 10, 1)
            lib.wait_until(lambda: len(receiver.events("fs.inotify_fired")) > seen, "a create")
            shutil.rmtree(self.watched)
        agent.stop()

    def test_heartbeats_come_in_the_interval_that_was_asked_for(self):
        receiver = self.receiver()
        agent = self.agent("--heartbeat-interval", "100", "--probes", "watch")
        lib.wait_until(lambda: len(receiver.reports("heartbeat")) >= 6, "six heartbeats")
        self.assertEqual({h["epoch"] for h in receiver.reports("heartbeat")}, {1})
        agent.stop()
        receiver.wait_report("goodbye")

    def test_probes_that_are_told_not_to_look_emit_nothing(self):
        receiver = self.receiver()
        agent = self.agent("--probes", "capability,connect", "--capability", "none",
                           "--connect", "none")
        receiver.wait_report("heartbeat")
        stats = agent.stop()
        receiver.wait_report("goodbye")
        self.assertEqual(stats["sent"], 0)
        self.assertEqual(receiver.events(), [])


if __name__ == "__main__":
    lib.main()
