#!/usr/bin/python3
# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""Hosts that are late, slow, stopped, killed, or hang up mid-frame: nothing is lost without a number.

The generator is a folder in which files with names of their own are made: the kernel merges none of these,
so each is exactly one event, and the generator's count is known without asking the agent.
"""

import random
import signal
import socket
import time

import lib

WATCH = ("--probes", "watch", "--coalesce-ms", "0", "--heartbeat-interval", "100")


class Trouble(lib.Case):
    def agent_on(self, *extra, **named):
        # By inotify, whose events carry the agent's own pid: it tells one agent from another.
        return self.agent("--watch", self.watched, "--watch-surface", "inotify", *WATCH, *extra, **named)

    def produced(self, agent, count):
        lib.wait_until(lambda: agent.stats_now()["lanes"]["fs"]["produced"] == count,
                       f"{count} events produced")

    def test_a_late_receiver_gets_everything_that_fits(self):
        agent = self.agent_on()
        self.touch_many(0, 300)
        self.produced(agent, 300)
        receiver = self.receiver()
        lib.wait_until(lambda: len(receiver.events()) == 300, "all that was queued")
        stats = agent.stop()
        summary = receiver.stop()
        self.assertEqual((stats["sent"], summary["events"], summary["dropped"]), (300, 300, {}))

    def test_no_receiver_at_all_is_said_once_and_every_event_is_counted(self):
        agent = self.agent_on("--queue-depth", "128", "--drain-timeout", "100")
        self.touch_many(0, 1000)
        self.produced(agent, 1000)
        stats = agent.stop()
        lane = stats["lanes"]["fs"]
        self.assertEqual((lane["q"], lane["x"], stats["sent"]), (1000 - 128, 128, 0))
        said = agent.process.stderr.read().decode()
        self.assertEqual(said.count("no host at"), 1, said)

    def test_a_stopped_receiver_costs_events_that_are_all_counted(self):
        receiver = self.receiver()
        agent = self.agent_on("--queue-depth", "64")
        receiver.wait_report("heartbeat")
        receiver.pause()
        offered = 0
        # More than socket buffers, batch and lane hold: until something was dropped for sure.
        while agent.stats_now()["lanes"]["fs"]["q"] < 500:
            self.touch_many(offered, 2000)
            offered += 2000
            self.produced(agent, offered)
            self.assertLess(offered, 100000)
        self.assertLessEqual(lib.share_of_a_core(agent.pid), 0.1, "it spins while it waits for the host")
        receiver.resume()
        stats = agent.stop()
        receiver.wait_report("goodbye")
        summary = receiver.stop()
        lane = stats["lanes"]["fs"]
        self.assertEqual(lane["produced"], offered)
        self.assertEqual(summary["events"] + lane["q"], offered)
        self.assertEqual(summary["dropped"], {"fq": lane["q"]})
        self.assertEqual(summary["lost_in_flight"], 0)

    def test_a_slow_receiver_loses_nothing_below_its_rate(self):
        receiver = self.receiver()
        agent = self.agent_on()
        for burst in range(10):
            receiver.pause()
            self.touch_many(burst * 200, 200)
            self.produced(agent, (burst + 1) * 200)
            receiver.resume()
            lib.wait_until(lambda: len(receiver.events()) == (burst + 1) * 200, "the burst")
        stats = agent.stop()
        summary = receiver.stop()
        self.assertEqual((stats["sent"], summary["events"], summary["dropped"]), (2000, 2000, {}))

    def test_a_killed_receiver_is_followed_by_one_that_says_where_it_joined(self):
        first = self.receiver()
        agent = self.agent_on()
        self.touch_many(0, 200)
        lib.wait_until(lambda: len(first.events()) == 200, "the first 200")
        first.kill()
        self.touch_many(200, 100)
        second = self.receiver()
        joined = second.wait_report("joined")
        self.touch_many(300, 100)
        stats = agent.stop()
        second.wait_report("goodbye")
        summary = second.stop()
        # What the killed one's socket had swallowed is between the two; everything else arrived.
        self.assertGreaterEqual(joined["sent"], 200)
        self.assertEqual(joined["sent"] + summary["events"], 400)
        self.assertEqual(stats["sent"], 400)
        self.assertEqual(summary["epochs"], 1)

    def test_an_agent_that_is_killed_never_counts_as_complete(self):
        receiver = self.receiver()
        agent = self.agent_on()
        self.touch_many(0, 50)
        lib.wait_until(lambda: len(receiver.events()) == 50, "50 events")
        receiver.wait_report("heartbeat", lambda l: l["sent"] == 50)
        agent.process.kill()
        ended = receiver.wait_report("ended_without_goodbye")
        self.assertEqual(ended["complete_up_to"], 50)
        again = self.agent_on()
        receiver.wait_report("agent_restarted")
        self.touch_many(50, 10)
        lib.wait_until(lambda: len(receiver.events()) == 60, "the next agent's events")
        again.stop()
        summary = receiver.stop()
        self.assertEqual(summary["lost_in_flight"], 0)

    @staticmethod
    def is_stuck(agent):
        """The sender sleeps although the lane was full and not all of it has gone: the channel takes no more."""
        asleep = ("cellos-sender", "S") in agent.threads()
        lane = agent.stats_now()["lanes"]["fs"]
        return asleep and lane["queued"] > 0 and lane["q"] > 0

    def stop_beside_a_stalled_host(self, host, first):
        """With files from this number on; (how long it took, the next number)."""
        agent = self.agent_on("--queue-depth", "256", "--drain-timeout", "300")
        connection = host.accept()
        offered = 0
        while not self.is_stuck(agent):
            self.touch_many(first + offered, 1000)
            offered += 1000
            self.produced(agent, offered)
        began = time.monotonic()
        stats = agent.stop()
        took = time.monotonic() - began
        lane = stats["lanes"]["fs"]
        self.assertGreater(lane["x"], 0)
        self.assertEqual(lane["sent"] + lane["q"] + lane["x"], offered)
        data = self.read_all(connection)
        frames, _ = lib.decode_stream(data)
        events = [f for f in frames if not lib.is_report(f)]
        self.assertEqual(len(events), lane["sent"], "what counts as sent was readable")
        return took, first + offered

    def test_a_stop_beside_a_stalled_host_ends_in_time_and_counts_what_is_left(self):
        host = self.breaking_host()
        times, first = [], 0
        # The machine may be late by itself, but not each time.
        while not times or (times[-1] >= 0.3 + 1.0 and len(times) < 10):
            took, first = self.stop_beside_a_stalled_host(host, first)
            times.append(took)
        self.assertLess(times[-1], 0.3 + 1.0, times)

    def test_a_second_agent_is_contested_and_never_mixed_in(self):
        receiver = self.receiver()
        agent = self.agent_on()
        receiver.wait_report("heartbeat")
        other = self.agent("--probes", "connect", "--drain-timeout", "0")
        receiver.wait_report("contested")
        self.touch_many(0, 20)
        lib.wait_until(lambda: len(receiver.events()) == 20, "the first one's events")
        other.stop()
        agent.stop()
        self.assertEqual({e["guest_pid"] for e in receiver.events()}, {agent.pid})

    # ---- a host that hangs up anywhere, and decodes with a library that is not ours ------------

    @staticmethod
    def read_all(connection):
        data = b""
        while True:
            piece = connection.recv(65536)
            if not piece:
                return data
            data += piece

    @staticmethod
    def read_exactly(connection, count):
        data = b""
        while len(data) < count:
            piece = connection.recv(count - len(data))
            if not piece:
                break
            data += piece
        return data

    def check_connection(self, frames, epoch, before):
        """Heartbeat first; every heartbeat names what stands before it. Returns events read."""
        count = 0
        first_epoch, base = lib.split_heartbeat(frames[0])
        self.assertEqual(first_epoch, epoch)
        for frame in frames:
            if frame["probe_source"] == lib.HEARTBEAT:
                said_epoch, sent = lib.split_heartbeat(frame)
                self.assertIn(said_epoch, (epoch, 0))
                self.assertEqual(sent, base + count)
            elif frame["probe_source"] != lib.DROPPED:
                count += 1
        self.assertGreaterEqual(base, before, "sent never falls")
        return base, count

    def test_hanging_up_after_any_number_of_bytes_keeps_the_account(self):
        host = self.breaking_host()
        agent = self.agent_on("--queue-depth", "4096")
        cuts = random.Random(7)  # the same cuts every time
        offered, read, lost, epoch = 0, 0, 0, 0
        for _ in range(15):
            connection = host.accept()
            epoch += 1
            self.touch_many(offered, 40)
            offered += 40
            data = self.read_exactly(connection, cuts.randrange(100, 4000))
            connection.close()  # unread bytes are thrown away: lost in flight
            frames, _ = lib.decode_stream(data)
            base, count = self.check_connection(frames, epoch, read + lost)
            lost = base - read
            read += count
        connection = host.accept()
        epoch += 1
        agent.process.send_signal(signal.SIGTERM)
        data = self.read_all(connection)
        frames, rest = lib.decode_stream(data)
        self.assertEqual(rest, b"")
        base, count = self.check_connection(frames, epoch, read + lost)
        connection.close()
        stats = agent.finish()
        lost = base - read
        read += count
        self.assertEqual(lib.split_heartbeat(frames[-1]), (0, stats["sent"]), "goodbye is last")
        self.assertEqual(stats["lanes"]["fs"]["produced"], offered)
        self.assertEqual(read + lost, stats["sent"])
        self.assertEqual(stats["sent"] + stats["lanes"]["fs"]["q"], offered)

    def test_a_goodbye_that_nobody_read_is_said_again(self):
        host = self.breaking_host()
        agent = self.agent_on()
        connection = host.accept()
        self.assertEqual(lib.split_heartbeat(lib.decode_stream(connection.recv(65536))[0][0]), (1, 0))
        self.touch_many(0, 25)
        self.produced(agent, 25)
        agent.process.send_signal(signal.SIGTERM)
        goodbye = b"0:25"
        lib.wait_until(lambda: goodbye in connection.recv(1 << 20, socket.MSG_PEEK), "the goodbye")
        connection.close()  # with everything unread
        again = host.accept()
        frames, rest = lib.decode_stream(self.read_all(again))
        again.close()
        agent.finish()
        self.assertEqual(rest, b"")
        self.assertEqual([lib.split_heartbeat(f) for f in frames], [(2, 25), (0, 25)])

    def test_one_byte_at_a_time_is_only_slow(self):
        host = self.breaking_host()
        agent = self.agent_on()
        connection = host.accept()
        self.touch_many(0, 30)
        agent.process.send_signal(signal.SIGTERM)
        data = b""
        while True:
            byte = connection.recv(1)
            if not byte:
                break
            data += byte
        connection.close()
        stats = agent.finish()
        frames, rest = lib.decode_stream(data)
        self.assertEqual(rest, b"")
        self.assertEqual(len([f for f in frames if not lib.is_report(f)]), stats["sent"])
        self.assertEqual(lib.split_heartbeat(frames[-1]), (0, stats["sent"]))

    def test_rows_that_fell_due_in_a_stall_are_the_freshest_when_it_ends(self):
        host = self.breaking_host()
        agent = self.agent_on("--queue-depth", "16")
        connection = host.accept()
        offered = 0
        while agent.stats_now()["lanes"]["fs"]["q"] < 100:
            self.touch_many(offered, 1000)
            offered += 1000
            self.produced(agent, offered)
        dropped = agent.stats_now()["lanes"]["fs"]["q"]
        agent.process.send_signal(signal.SIGTERM)
        frames, _ = lib.decode_stream(self.read_all(connection))
        connection.close()
        agent.finish()
        rows = [f["guest_comm"] for f in frames if f["probe_source"] == lib.DROPPED]
        self.assertEqual(rows[-1], f"fq:{dropped}")

    def test_a_host_that_accepts_and_closes_at_once_is_not_hammered(self):
        host = self.breaking_host()
        agent = self.agent_on("--drain-timeout", "0")
        began = time.monotonic()
        for _ in range(5):
            host.accept().close()
        # Breaks are noticed at a heartbeat (100 ms) or write; then 25..50, 50..100, 100..200 ms...
        self.assertGreater(time.monotonic() - began, 0.025 + 0.05 + 0.1 + 0.2)
        agent.stop()

    def test_a_full_backlog_is_a_refusal_and_no_spin(self):
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(listener.close)
        listener.bind(self.socket)
        listener.listen(0)
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.addCleanup(filler.close)
        filler.connect(self.socket)
        agent = self.agent_on("--drain-timeout", "0")
        self.assertLessEqual(lib.share_of_a_core(agent.pid), 0.1)
        listener.accept()[0].close()
        listener.settimeout(lib.PATIENCE)
        connection, _ = listener.accept()
        connection.settimeout(lib.PATIENCE)
        self.assertTrue(connection.recv(4))
        connection.close()
        agent.stop()


if __name__ == "__main__":
    lib.main()
