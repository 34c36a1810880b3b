#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Who changed a declared path arrives at a real receiver, or the agent's own number where the kernel does
not tell."""

import json
import os
import subprocess
import sys

import lib

FIRED = "fs.inotify_fired"


class Actor:
    """A process with a name of its own that runs what it is told to, until it is dismissed."""

    def __init__(self, case, name):
        self.process = subprocess.Popen(
            [sys.executable, "-c",
             "import os, sys\n"
             "open('/proc/self/comm', 'w').write(sys.argv[1])\n"
             "for line in sys.stdin:\n"
             "    exec(line)\n"
             "    print(flush=True)\n", name],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.pid, self.name = self.process.pid, name
        case.addCleanup(self.dismiss)

    def do(self, statement):
        self.process.stdin.write(statement + "\n")
        assert self.process.stdout.readline() == "\n", f"the actor failed at {statement}"

    def dismiss(self):
        self.process.stdin.close()
        self.process.wait(lib.PATIENCE)
        self.process.stdout.close()


class WatchSurface(lib.Case):
    def run_agent(self, *options):
        receiver = self.receiver()
        return receiver, self.agent("--probes", "watch", *options)

    def end(self, agent, receiver):
        agent.stop()
        receiver.wait_report("goodbye")
        summary = receiver.stop()
        self.assertEqual(summary["bad"], {})
        return summary["dropped"]

    def life_of_a_file(self, actor, receiver, pid, name):
        """Created, written, forbidden, renamed (out of one name, into another), deleted."""
        path = os.path.join(self.watched, "f")
        for count, statement in (
                (1, f"os.mknod({path!r})"),
                (2, f"open({path!r}, 'a').write('x')"),
                (3, f"os.chmod({path!r}, 0o600)"),
                (5, f"os.rename({path!r}, {path + 'g'!r})"),
                (6, f"os.unlink({path + 'g'!r})")):
            actor.do(statement)
            lib.wait_until(lambda count=count: len(receiver.events(FIRED)) >= count, statement)
        for event in receiver.events(FIRED):
            self.assertEqual((event["guest_pid"], event["guest_comm"]), (pid, name))

    def test_the_actor(self):
        for how in ("auto", "fanotify"):
            with self.subTest(how=how):
                receiver, agent = self.run_agent("--watch", self.watched, "--watch-surface", how)
                actor = Actor(self, f"culprit {how}"[:15])
                self.life_of_a_file(actor, receiver, actor.pid, actor.name)
                self.assertEqual(self.end(agent, receiver), {})
                self.assertEqual(len(receiver.events()), 6)

    def test_the_floor(self):
        receiver, agent = self.run_agent("--watch", self.watched, "--watch-surface", "inotify")
        self.life_of_a_file(Actor(self, "unseen"), receiver, agent.pid, "cellos-telemetr")
        self.assertEqual(self.end(agent, receiver), {})

    def test_a_file_that_is_replaced(self):
        path = os.path.join(self.watched, "f")
        os.mknod(path)
        receiver, agent = self.run_agent("--watch", path)
        actor = Actor(self, "replacer")
        for times in range(1, 4):
            actor.do(f"os.mknod({path + '.new'!r})")
            actor.do(f"os.rename({path + '.new'!r}, {path!r})")
            # Each an occasion, told in a report that follows; and the replacing itself.
            receiver.wait_report(
                "dropped", lambda line, times=times: line.get("total", line.get("count")) == times)
            # What came before the row has arrived as well.
            before = agent.stats_now()["lanes"]["fs"]["produced"]
            lib.wait_until(lambda before=before: len(receiver.events(FIRED)) >= before, "earlier ones")
            actor.do(f"open({path!r}, 'a').write('x')")
            lib.wait_until(lambda before=before: len(receiver.events(FIRED)) > before, "the write")
        self.assertEqual({e["guest_pid"] for e in receiver.events(FIRED)}, {actor.pid})
        self.assertEqual(self.end(agent, receiver), {"fo": 3})

    def report(self, *options):
        done = subprocess.run(
            [lib.AGENT, "--probe-report", "--probes", "watch", "--channel", self.channel, *options],
            capture_output=True, check=True, timeout=lib.PATIENCE)
        return json.loads(done.stdout)

    def expect_report(self, report, surface, exactness, armed, why):
        self.assertEqual((report["surface"], report["exactness"], report["armed"]),
                         (surface, exactness, armed), report)
        self.assertIn(why, report["why"])

    def test_the_report_tells_what_there_is(self):
        watched = ("--watch", self.watched)
        report = self.report(*watched)
        self.expect_report(report, "fanotify", "merged", True, "")
        self.assertGreater(report["kernel_bytes"], 0)
        self.expect_report(self.report(*watched, "--watch-surface", "inotify"),
                           "inotify", "merged", True, "")
        self.expect_report(self.report("--watch", "/proc"), "inotify", "merged", True,
                           "by inotify: /proc")
        self.expect_report(self.report(*watched, "--watch", "/proc"), "fanotify+inotify", "merged",
                           True, "by inotify: /proc")
        self.expect_report(self.report("--watch", "/proc", "--watch-surface", "fanotify"),
                           "fanotify", "merged", True, "cannot watch /proc")
        self.expect_report(self.report(), "none", "none", False, "no --watch path")


if __name__ == "__main__":
    if os.geteuid() != 0:
        lib.skip("to be told pids by fanotify needs root")
    lib.main()
