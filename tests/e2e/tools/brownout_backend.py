"""One backend with a modelled capacity, for test_brownout.py: `slots` requests are worked on at a
time, each for a service time that is drawn (log-normal), the others wait in order. Work is never
cancelled: a request whose client left holds its slot to the end, as in most servers.

brownout_backend.py PORT LOG SLOTS MEAN_MS SEED
Faults come as lines on stdin: "slow 20" (service times), "fail 0.5" (that share at once, by 503,
500 or a reset), "slots 4", "well". Each line of LOG is written at once, so that a SIGKILL loses
none; times are seconds of CLOCK_MONOTONIC:
  b TIME ATTEMPT TRACE METHOD    a request is here, whole
  e TIME ATTEMPT OUTCOME WORK    ok, 503, 500, reset (by the fault), gone (nobody reads the
                                 answer); seconds that it held a slot
  s TIME SECONDS                 this process was not scheduled for so long
/healthz is answered at once, whatever else waits.
"""
import asyncio
import math
import os
import random
import socket
import sys
import time

SIGMA = 0.4  # of the log-normal service time: its 99th percentile is 2.3 means
STALL_S = 0.05
TICK_S = 0.02
FAILURES = ("503", "500", "reset")


def head_value(head, name):
    """The value of a field; weir writes one space after the colon."""
    at = head.lower().find(b"\r\n" + name + b":")
    if at < 0:
        return b""
    return head[at + len(name) + 3 : head.index(b"\r\n", at + 2)].strip()


class Model:
    """The capacity and the faults of this backend, and its log."""

    def __init__(self, log, slots, mean_ms, seed):
        self.fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.rng = random.Random(seed)
        self.all_slots, self.mean_s = slots, mean_ms / 1000
        self.count, self.busy, self.waiting = 0, 0, []
        self.well()

    def well(self):
        self.slots, self.factor, self.share = self.all_slots, 1, 0

    def command(self, words):
        if words[0] == "slow":
            self.factor = float(words[1])
        elif words[0] == "fail":
            self.share = float(words[1])
        elif words[0] == "slots":
            self.slots = int(words[1])
        elif words[0] == "well":
            self.well()
        else:
            raise ValueError(words)
        self.next()

    def log(self, *words):
        os.write(self.fd, (" ".join(map(str, words)) + "\n").encode())

    def now(self):
        return "%.6f" % time.monotonic()

    def draw(self):
        middle = math.log(self.mean_s) - SIGMA * SIGMA / 2
        return self.rng.lognormvariate(middle, SIGMA) * self.factor

    def begin(self, conn, trace, method):
        self.count += 1
        number = "%d.%d" % (os.getpid(), self.count)
        self.log("b", self.now(), number, trace, method)
        if self.rng.random() < self.share:
            self.fail(conn, number, self.rng.choice(FAILURES))
            return
        self.waiting.append((conn, number, trace))
        self.next()

    def fail(self, conn, number, how):
        self.log("e", self.now(), number, how, 0)
        if how == "reset":
            conn.transport.abort()
        else:
            conn.answer(how.encode() + b" Fault", b"", b"Retry-After: 1\r\n")

    def next(self):
        while self.waiting and self.busy < self.slots:
            work = self.waiting.pop(0)
            self.busy += 1
            asyncio.get_running_loop().call_later(self.draw(), self.done, *work,
                                                  time.monotonic())

    def done(self, conn, number, trace, since):
        self.busy -= 1
        open_still = not conn.transport.is_closing()
        self.log("e", self.now(), number, "ok" if open_still else "gone",
                 "%.6f" % (time.monotonic() - since))
        if open_still:
            conn.answer(b"200 OK", trace.encode())
        self.next()


class Conn(asyncio.Protocol):
    """Strict enough for what weir sends: a head, a body by its length, no pipelining."""

    def __init__(self, model):
        self.model, self.buf, self.transport = model, b"", None

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buf += data
        end = self.buf.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self.buf[: end + 2]
        length = int(head_value(head, b"content-length") or 0)
        if len(self.buf) < end + 4 + length:
            return
        self.buf = self.buf[end + 4 + length :]
        method, target, _ = head[: head.index(b"\r\n")].split(b" ")
        if target == b"/healthz":
            self.answer(b"200 OK", b"ok")
            return
        trace = head_value(head, b"traceparent").split(b"-")[1].decode()
        self.model.begin(self, trace, method.decode())

    def answer(self, status, body, fields=b""):
        self.transport.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\n%s\r\n%s"
                             % (status, len(body), fields, body))


async def watch_clock(model):
    """Tells when this process could not run: such a time is no fault of weir's."""
    last = time.monotonic()
    while True:
        await asyncio.sleep(TICK_S)
        now = time.monotonic()
        if now - last - TICK_S > STALL_S:
            model.log("s", "%.6f" % last, "%.6f" % (now - last))
        last = now


async def main(port, log, slots, mean_ms, seed):
    loop = asyncio.get_running_loop()
    model = Model(log, int(slots), float(mean_ms), int(seed))
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", int(port)))
    await loop.create_server(lambda: Conn(model), sock=sock, backlog=256)
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    clock = asyncio.ensure_future(watch_clock(model))
    print("ready", flush=True)
    while line := await commands.readline():
        model.command(line.decode().split())
        print("done", flush=True)
    clock.cancel()


asyncio.run(main(*sys.argv[1:]))
