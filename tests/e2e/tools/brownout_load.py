"""Open-loop load for test_brownout.py: requests come by a Poisson process whatever becomes of
those before, on kept connections, each with a trace id of its own that all logs have.

brownout_load.py PORT LOG RATE SEED PATIENCE_S RESENDS
RESENDS is how often a client sends again what failed, 0.1 to 0.5 s later (0: never). Ends at EOF
on stdin: waits for what is under way. Each line of LOG, times in seconds of CLOCK_MONOTONIC:
  r TRACE TASK METHOD BEGIN END STATUS ERROR   one request; TASK is the trace of its first sending;
                                               STATUS 0 with ERROR connect, closed, timeout, bad
  s TIME SECONDS                               this process was not scheduled for so long
"""
import asyncio
import random
import sys
import time

TICK_S = 0.02
STALL_S = 0.05
IDLE_S = 15  # connections unused for so long are not used again
# GET may be sent again and hedged, PUT may be sent again, POST may not.
METHODS = (("GET", 80), ("PUT", 8), ("POST", 12))
BODY = b"x" * 200


class Failed(Exception):
    """error is the word of the log."""


class Conn(asyncio.Protocol):
    """One kept connection; one request at a time."""

    def __init__(self):
        self.transport, self.buf, self.waiter, self.used = None, b"", None, 0
        self.ended = False

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.buf += data
        end = self.buf.find(b"\r\n\r\n")
        if end < 0 or not self.waiter or self.waiter.done():
            return
        lines = self.buf[:end].lower().split(b"\r\n")
        fields = dict(line.split(b": ", 1) for line in lines[1:])
        length = int(fields.get(b"content-length", 0))
        if len(self.buf) < end + 4 + length:
            return
        body, self.buf = self.buf[end + 4 : end + 4 + length], self.buf[end + 4 + length :]
        if fields.get(b"connection") == b"close":
            self.close()
        self.waiter.set_result((int(lines[0].split(b" ")[1]), body))

    def connection_lost(self, _error):
        self.ended = True
        if self.waiter and not self.waiter.done():
            self.waiter.set_exception(Failed("closed"))

    def close(self):
        self.ended = True
        self.transport.close()


class Load:
    def __init__(self, port, log, rate, seed, patience, resends):
        self.port, self.out = int(port), open(log, "w", encoding="ascii")
        self.rate, self.seed = float(rate), int(seed)
        self.rng = random.Random(self.seed)
        self.patience, self.resends = float(patience), int(resends)
        self.idle, self.under_way, self.count, self.stop = [], set(), 0, False

    def write(self, *words):
        self.out.write(" ".join(map(str, words)) + "\n")

    async def take(self):
        """The connection that was used last, so that few are needed; else a new one."""
        while self.idle:
            conn = self.idle.pop()
            if not conn.ended and time.monotonic() - conn.used < IDLE_S:
                return conn
            conn.transport.close()
        try:
            loop = asyncio.get_running_loop()
            return (await loop.create_connection(Conn, "127.0.0.1", self.port))[1]
        except OSError:
            raise Failed("connect") from None

    async def exchange(self, trace, method):
        conn = await self.take()
        conn.waiter = asyncio.get_running_loop().create_future()
        length = "" if method == "GET" else "Content-Length: %d\r\n" % len(BODY)
        head = ("%s /work HTTP/1.1\r\nHost: app.example\r\n%straceparent: 00-%s-%016x-01\r\n\r\n"
                % (method, length, trace, 1)).encode()
        conn.transport.write(head if method == "GET" else head + BODY)
        try:
            status, body = await asyncio.wait_for(conn.waiter, self.patience)
        except asyncio.TimeoutError:
            conn.close()
            raise Failed("timeout") from None
        if status == 200 and body != trace.encode():
            conn.close()
            raise Failed("bad")
        conn.used = time.monotonic()
        if not conn.ended:
            self.idle.append(conn)
        return status

    async def request(self, method, task):
        """One request and its record; True when it was answered well."""
        self.count += 1
        trace = "%016x%016x" % (self.seed + 1, self.count)
        begin, status, error = time.monotonic(), 0, "-"
        try:
            status = await self.exchange(trace, method)
        except Failed as failed:
            error = str(failed)
        self.write("r", trace, task or trace, method, "%.6f" % begin,
                   "%.6f" % time.monotonic(), status, error)
        return status == 200, task or trace

    async def task(self, method):
        well, name = await self.request(method, None)
        for _ in range(self.resends):
            if well:
                break
            await asyncio.sleep(self.rng.uniform(0.1, 0.5))
            well, _ = await self.request(method, name)

    def start(self, method):
        job = asyncio.ensure_future(self.task(method))
        self.under_way.add(job)
        job.add_done_callback(self.under_way.discard)

    async def arrivals(self):
        names, weights = zip(*METHODS)
        due = last = time.monotonic()
        while not self.stop:
            due += self.rng.expovariate(self.rate)
            method = self.rng.choices(names, weights)[0]
            while (left := due - time.monotonic()) > 0:
                await asyncio.sleep(min(left, TICK_S))
                now = time.monotonic()
                if now - last > TICK_S + STALL_S:
                    self.write("s", "%.6f" % last, "%.6f" % (now - last))
                last = now
                if self.stop:
                    return
            if time.monotonic() - due > 1:
                due = time.monotonic()  # after a stall: no flood of what did not come
            self.start(method)

    async def main(self):
        loop, commands = asyncio.get_running_loop(), asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
        job = asyncio.ensure_future(self.arrivals())
        await commands.read()
        self.stop = True
        await job
        while self.under_way:
            await asyncio.wait(self.under_way)
        self.out.close()


asyncio.run(Load(*sys.argv[1:]).main())
