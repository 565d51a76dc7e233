"""Runs an attack over HTTP/2 beside an honest client, and says what came of it.

An attack is a function burst(conn, n) that sends its nth piece; storm() calls it until weir ends
the connection, with a request of the honest client on its own connection after each, and then
again on a new connection, for a number of connections or seconds. Nothing is timed: what is
compared are counts, and memory against what it was.
"""
import time

from . import client, h2wire as h2, proc

BURSTS = 500  # an attack that weir still bears after so many is not ended by it
CALM = (h2.ENHANCE_YOUR_CALM,)


class Storm:
    """What happened."""

    def __init__(self, made):
        self.made, self.weir = made, made.weir
        self.honest = made.conn().handshake()
        self.answered = self.bursts = self.ended = 0
        self.errors = []  # codes of GOAWAY that were seen
        for _ in range(20):
            self.be_honest()
        self.before = self.peak = proc.memory_kib(self.weir.pid, "Rss")

    def be_honest(self):
        """One request on the honest connection, answered in full."""
        response = self.honest.get("/honest")
        assert response.status == 200 and response.body == b"GET /honest", response
        self.answered += 1

    def sample(self):
        self.peak = max(self.peak, proc.memory_kib(self.weir.pid, "Rss"))

    def wait_over(self, conn, streams, each=lambda: None):
        """Until weir has ended these streams, or the connection; honest all the while."""
        end = time.monotonic() + client.scaled(60)
        while not (conn.closed or conn.error or all(conn.stream(n).over for n in streams)):
            assert time.monotonic() < end, "hang: not ended by a timeout; %s" % conn.state()
            each()
            conn.drain()
            self.be_honest()
            self.sample()
            time.sleep(0.05)

    @property
    def grown_kib(self):
        return self.peak - self.before

    def one(self, burst, deadline, **kwargs):
        """One attacking connection until it is ended."""
        conn = self.made.conn(**kwargs).handshake()
        for n in range(BURSTS):
            if conn.closed or conn.broken or time.monotonic() > deadline:
                break
            burst(conn, n)
            self.bursts += 1
            conn.drain()
            self.be_honest()
            if n % 16 == 0:
                self.sample()
        self.sample()
        return self.finish(conn)

    def finish(self, conn):
        """How it ended. True when weir did it."""
        over = conn.closed or conn.broken
        if over:
            conn.expect_closed()
            self.ended += 1
        if conn.error:
            self.errors.append(conn.error[1])
        conn.close()
        return bool(over)


def storm(made, burst, seconds, connections=3, **kwargs):
    """seconds 0: connections times; else for as long. Each must be ended by weir."""
    found = Storm(made)
    begun = time.monotonic()
    deadline = begun + (seconds or 120)
    while (found.ended < connections) if not seconds else (time.monotonic() < deadline):
        over = found.one(burst, deadline, **kwargs)
        assert over or seconds and time.monotonic() >= deadline, \
            "weir bears it: %d bursts" % found.bursts
    found.be_honest()
    assert found.answered == 20 + found.bursts + 1 and found.honest.error is None
    return found


def judge(found, *words, codes=CALM, grown_kib=24 * 1024):
    """Connections ended with one of codes, logged with one of words; memory stayed bounded."""
    assert found.ended, "no connection was ended"
    assert found.errors, "no GOAWAY was seen in %d connections" % found.ended
    assert set(found.errors) <= set(codes), [h2.code_name(code) for code in found.errors]
    assert found.grown_kib < grown_kib, "grew by %d KiB" % found.grown_kib
    logged(found.weir, words)
    found.weir.check_stderr()
    assert found.weir.process.poll() is None


def logged(weir, words):
    """A line of the access log ends with one of words (a trailing dot: begins with it)."""
    def matches(end):
        return any(end == word or word.endswith(".") and end.startswith(word) for word in words)

    def there():
        return [r for r in weir.lines() if matches(r["weir.end"])]
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end, "no end of %s in %s" % (
            words, sorted({r["weir.end"] for r in weir.lines()}))
        time.sleep(0.02)
    return there()
