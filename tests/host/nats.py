# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later
"""A nats-server of a test's own, and a client of NATS's text protocol that shares no code with the
one under test. Every wait has a limit."""
import json
import os
import random
import re
import signal
import socket
import subprocess
import time

LIMIT = 60
SERVER = "/usr/sbin/nats-server"
# For all that is started from here on; without a sanitizer it means nothing.
os.environ["LSAN_OPTIONS"] = ":".join(filter(None, (
    os.environ.get("LSAN_OPTIONS"), "print_suppressions=1", "suppressions=" + os.path.join(
        os.path.dirname(os.path.abspath(__file__)), "leaks.supp"))))
LEAKS = re.compile(r"^-+\nSuppressions used:\n +count +bytes +template\n"
                   r" +\d+ +(\d+) libnats\n-+\n+", re.M)


def words_of(path):
    """What a program with the client library in it said, without what leaks.supp lets pass: a few
    messages at its end, and not some for each that was sent."""
    with open(path, encoding="utf-8") as f:
        text = f.read()
    leaks = [int(size) for size in LEAKS.findall(text)]
    assert all(size <= 8192 for size in leaks), leaks
    return LEAKS.sub("", text)


def free_port():
    """One that nobody has, and that no outgoing connection is given while its server is away: below
    the range of those. Else a client that tries again and again may even reach itself."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        first = int(f.read().split()[0])
    dice = random.SystemRandom()
    for _ in range(1000):
        # With a machine that gives out all ports there is no such choice.
        port = dice.randrange(10000, first) if first > 12000 else 0
        with socket.socket() as s:
            try:
                s.bind(("127.0.0.1", port))
            except OSError:
                continue
            return s.getsockname()[1]
    raise AssertionError("every port is taken")


def stop(process):
    """All of its threads are stopped, and not only told to be; or it has ended."""
    process.send_signal(signal.SIGSTOP)
    if process.returncode is None:
        os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)


class Client:
    def __init__(self, port, **login):
        self.socket = socket.create_connection(("127.0.0.1", port), LIMIT)
        self.socket.settimeout(LIMIT)
        self.rest = b""
        self.at = 0  # what of it is taken already: cut off only when more comes
        self.early = []  # messages that came while an answer was awaited
        self.inbox = "_INBOX.%d.%d" % (os.getpid(), id(self))
        self.line()  # INFO
        self.send("CONNECT " + json.dumps(dict(verbose=False, headers=True, **login)))
        # One for answers, one for a stream's messages: the server takes no wildcard for interest in
        # the latter.
        self.send("SUB %s.r 1" % self.inbox)
        self.send("SUB %s.m 2" % self.inbox)
        self.send("PING")
        while self.line() != b"PONG":
            pass

    def close(self):
        self.socket.close()

    def send(self, line, payload=None):
        data = line.encode() + b"\r\n"
        if payload is not None:
            data += payload + b"\r\n"
        self.socket.sendall(data)

    def more(self):
        data = self.socket.recv(1 << 18)
        if not data:
            raise ConnectionError("the server closed the connection")
        self.rest = self.rest[self.at:] + data
        self.at = 0

    def line(self):
        while (end := self.rest.find(b"\r\n", self.at)) < 0:
            self.more()
        line = self.rest[self.at:end]
        self.at = end + 2
        if line.startswith(b"-ERR"):
            raise ConnectionError(line.decode())
        return line

    def take(self, count):
        while len(self.rest) < self.at + count + 2:
            self.more()
        data = self.rest[self.at:self.at + count]
        self.at += count + 2
        return data

    def message(self):
        """(subject, reply, headers, data); answers PING on the way."""
        while True:
            words = self.line().decode().split()
            if words[0] == "PING":
                self.send("PONG")
            elif words[0] == "MSG":
                reply = words[3] if len(words) == 5 else None
                return words[1], reply, b"", self.take(int(words[-1]))
            elif words[0] == "HMSG":
                reply = words[3] if len(words) == 6 else None
                data = self.take(int(words[-1]))
                return words[1], reply, data[:int(words[-2])], data[int(words[-2]):]

    def publish(self, subject, payload=b""):
        self.send("PUB %s %d" % (subject, len(payload)), payload)

    def request(self, subject, body=None):
        payload = b"" if body is None else json.dumps(body).encode()
        self.send("PUB %s %s.r %d" % (subject, self.inbox, len(payload)), payload)
        while True:
            message = self.message()
            came, _, headers, data = message
            if came != self.inbox + ".r":
                self.early.append(message)
            else:
                if headers.startswith(b"NATS/1.0 503"):
                    raise ConnectionError("nobody answers " + subject)
                return json.loads(data)

    def stream(self, name):
        answer = self.request("$JS.API.STREAM.INFO." + name)
        assert "error" not in answer, answer
        return answer

    def ids(self, name, bodies=False):
        """Nats-Msg-Id (and subject, body) of each message of the stream, in its order."""
        total = self.stream(name)["state"]["messages"]
        if total == 0:
            return []
        made = self.request("$JS.API.CONSUMER.CREATE." + name, {
            "stream_name": name,
            "config": {"deliver_subject": self.inbox + ".m", "ack_policy": "none",
                       "deliver_policy": "all", "replay_policy": "instant",
                       "headers_only": not bodies, "inactive_threshold": 10 ** 10}})
        assert "error" not in made, made
        ids = []
        early, self.early = self.early, []
        while len(ids) < total:
            subject, _, headers, data = early.pop(0) if early else self.message()
            fields = dict(line.split(b":", 1) for line in headers.split(b"\r\n")[1:] if line)
            msg_id = fields.get(b"Nats-Msg-Id", b"").strip().decode()
            ids.append((msg_id, subject, data) if bodies else msg_id)
        self.request("$JS.API.CONSUMER.DELETE.%s.%s" % (name, made["name"]))
        return ids


class Server:
    """Killed with -9 and started again at will; port and store stay."""

    def __init__(self, store, extra=""):
        self.store = store
        self.config = os.path.join(store, "server.conf")
        self.process = None
        for _ in range(5):
            self.port = free_port()
            with open(self.config, "w") as f:
                # The reader below is slower than a server on the same machine: it may be far behind.
                f.write('listen: "127.0.0.1:%d"\njetstream { store_dir: "%s" }\n'
                        'max_pending: 1073741824\nwrite_deadline: "120s"\n%s\n'
                        % (self.port, store, extra))
            if self.starts():
                return
        raise AssertionError("nats-server ended: see its log")

    @property
    def url(self):
        return "nats://127.0.0.1:%d" % self.port

    def start(self):
        assert self.starts(), "nats-server ended: see its log"

    def starts(self):
        """False when it ends at once: somebody else was given the port meanwhile."""
        self.log = open(os.path.join(self.store, "server.log"), "ab")
        self.process = subprocess.Popen([SERVER, "-c", self.config], stdout=self.log,
                                        stderr=self.log)
        deadline = time.monotonic() + LIMIT
        while not self.listens():
            if self.process.poll() is not None:
                self.process = None
                self.log.close()
                return False
            assert time.monotonic() < deadline, "nats-server does not listen"
            time.sleep(0.02)
        return True

    def listens(self):
        """Looked up: a connection that is tried could reach somebody else, or be refused."""
        here = "0100007F:%04X" % self.port
        with open("/proc/net/tcp", encoding="ascii") as f:
            return any(line.split()[1] == here and line.split()[3] == "0A" for line in f)

    def stop(self):
        """A kill ends this as well."""
        stop(self.process)

    def go_on(self):
        self.process.send_signal(signal.SIGCONT)

    def kill(self, how=signal.SIGKILL):
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(LIMIT)
            self.process = None
            self.log.close()

    def client(self, **login):
        """JetStream may still be recovering its streams when the port is open."""
        deadline = time.monotonic() + LIMIT
        while True:
            client = Client(self.port, **login)
            try:
                client.request("$JS.API.INFO")
                return client
            except ConnectionError:
                client.close()
                assert time.monotonic() < deadline, "JetStream does not answer"
                time.sleep(0.05)
