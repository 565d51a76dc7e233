#!/usr/bin/python3
"""Attacks a server over HTTP/2 (harness/h2attacks.py) and reconnects as fast as it is let.

h2_attacker.py KIND NAME PORT [CA-FILE]   CA-FILE: over TLS
Reads commands from stdin: "go SECONDS" attacks for so long and answers with one line of JSON, what
became of it; the end of stdin ends it. Nothing is judged here. Bursts are made before they are
sent, and the process is nice (10), so that the machine's time is the server's and its clients'.
"""
import collections
import json
import os
import pathlib
import select
import socket
import ssl
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from harness import h2attacks, h2wire as h2  # noqa: E402

AGAIN = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
PONG = h2.ping()
BURSTS_MADE = 40


class One:
    """A connection: what it still has to send, and what came of it."""

    def __init__(self, engine):
        self.engine, self.attack = engine, engine.attack
        self.sock = self.connect()
        first = h2.PREFACE + h2.settings(*self.attack.settings) + self.attack.first
        self.pending = memoryview(first)
        self.input = bytearray()
        self.n, self.waiting, self.due, self.frames, self.mask = 0, False, 0.0, 0, 0
        self.code, self.eof, self.over = None, False, 0

    def connect(self):
        sock = socket.socket()
        if self.attack.receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.attack.receive_buffer)
        sock.settimeout(10)
        sock.connect(("127.0.0.1", self.engine.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.engine.tls:
            sock = self.engine.tls.wrap_socket(sock, server_hostname="test.example")
        sock.setblocking(False)
        return sock

    def may(self, now):
        """The next burst is due."""
        if self.waiting or now < self.due or (self.attack.rest and self.n):
            return False
        return self.over >= self.attack.answers * self.n

    def refill(self, now):
        """The next burst, if it is due."""
        attack = self.attack
        if not self.may(now):
            return
        data, frames = h2attacks.burst(self.engine.kind, self.engine.name, self.n)
        if attack.sync:
            data, self.waiting = data + PONG, attack.sync
        self.n += 1
        self.frames += frames
        self.pending = memoryview(data)
        if attack.per_second:
            self.due = now + 1 / attack.per_second

    def write(self, now):
        """False: it is over."""
        for _ in range(4):
            if not self.pending:
                self.refill(now)
            if not self.pending:
                return True
            try:
                sent = self.sock.send(self.pending)
            except AGAIN:
                return True
            except (OSError, ssl.SSLError):
                self.read()
                return False
            self.engine.sent += sent
            self.pending = self.pending[sent:]
        return True

    def read(self):
        """False: it is over."""
        try:
            data = self.sock.recv(1 << 17)
        except AGAIN:
            return True
        except (OSError, ssl.SSLError):
            return False
        if not data:
            self.eof = True
            return self.attack.stubborn
        self.input += data
        self.take()
        return True

    def take(self):
        given = []
        at = 0
        while len(self.input) - at >= 9:
            size = 9 + int.from_bytes(self.input[at : at + 3], "big")
            if len(self.input) - at < size:
                break
            kind, flags = self.input[at + 3], self.input[at + 4]
            if kind == h2.GOAWAY:
                self.code = int.from_bytes(self.input[at + 13 : at + 17], "big")
            elif kind == h2.PING and flags & h2.ACK:
                self.waiting = False
            elif kind == h2.DATA and self.attack.credit and size > 9:
                number = int.from_bytes(self.input[at + 5 : at + 9], "big")
                given.append(h2.window_update(number, self.attack.credit))
            ends = kind == h2.RST_STREAM or (kind <= h2.HEADERS and flags & h2.END_STREAM)
            self.over += bool(ends)
            at += size
        del self.input[:at]
        if given:
            self.pending = memoryview(bytes(self.pending) + b"".join(given))

    def step(self, events, now):
        if events & select.EPOLLIN and self.attack.reads and not self.eof and not self.read():
            return False
        if events & (select.EPOLLERR | select.EPOLLHUP) and not self.attack.reads:
            return False
        return self.write(now)

    def wants(self, now):
        """The events that it waits for."""
        attack = self.attack
        writes = self.pending or self.may(now)
        reads = attack.reads and not self.eof
        return (select.EPOLLOUT if writes else 0) | (select.EPOLLIN if reads else 0)


class Engine:
    def __init__(self, kind, name, port, ca):
        self.kind, self.name, self.port = kind, name, int(port)
        self.attack = getattr(h2attacks, {"attack": "ATTACKS"}.get(kind, "BELOW"))[name]
        self.tls = None
        if ca:
            self.tls = ssl.create_default_context(cafile=ca)
            self.tls.set_alpn_protocols(["h2"])
        for n in range(1 if self.attack.rest else BURSTS_MADE):
            h2attacks.burst(kind, name, n)

    def go(self, seconds):
        """One attack; the counts of it."""
        self.sent, self.ended = 0, collections.Counter()
        self.opened = self.failed = self.frames = 0
        self.epoll, self.conns = select.epoll(), {}
        deadline = time.monotonic() + seconds
        cpu = time.process_time()
        while (now := time.monotonic()) < deadline:
            while len(self.conns) < self.attack.connections and self.open():
                pass
            for one, events in self.ready(now):
                if not one.step(events, now):
                    self.close(one, self.how(one))
        for one in list(self.conns.values()):
            self.close(one, "left" if one.code is None else self.how(one))
        self.epoll.close()
        return {"opened": self.opened, "failed": self.failed, "frames": self.frames,
                "sent": self.sent, "ended": dict(self.ended),
                "cpu_s": time.process_time() - cpu}

    def ready(self, now):
        """Those that can go on."""
        for number, one in self.conns.items():
            mask = one.wants(now)
            if mask != one.mask:
                self.epoll.modify(number, mask)
                one.mask = mask
        return [(self.conns[number], events) for number, events in self.epoll.poll(0.02)]

    def open(self):
        try:
            one = One(self)
        except (OSError, ssl.SSLError):
            self.failed += 1
            return None
        self.opened += 1
        one.mask = select.EPOLLIN | select.EPOLLOUT
        self.conns[one.sock.fileno()] = one
        self.epoll.register(one.sock.fileno(), one.mask)
        return one

    def close(self, one, how):
        self.ended[how] += 1
        self.frames += one.frames
        del self.conns[one.sock.fileno()]
        self.epoll.unregister(one.sock.fileno())
        one.sock.close()

    @staticmethod
    def how(one):
        if one.code is not None:
            return h2.code_name(one.code)
        return "eof" if one.eof else "reset"


def main():
    os.nice(10)
    engine = Engine(*sys.argv[1:4], sys.argv[4] if len(sys.argv) > 4 else None)
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(engine.go(float(line.split()[1]))), flush=True)


main()
