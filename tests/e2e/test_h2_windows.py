"""Windows that clients of HTTP/2 may send uploads by: one that stands still holds up no other of
its connection, whether its endpoint does not read or it waits for its turn in a queue."""
import contextlib
import threading

import pytest

from harness import h2wire as h2, proc
from harness.h2raw import Conn
from harness.weir import eventually

FIRST = 4 << 20  # is read of an upload that stalls: its window has grown
HUGE = 1 << 30
BUFFERS = 64 << 20  # what a worker has at least (src/control/workers.c)
PATIENT = {"body": "1h", "send": "1h"}  # what stands still is not ended


class Stalls:
    """An endpoint that takes FIRST bytes of each body, and no more until it is told to end."""

    def __init__(self, first=FIRST):
        self.first, self.stalled, self.go = first, [], threading.Event()

    def __call__(self, conn, request):
        got = len(conn.reader.buf)
        while got < self.first:
            part = conn.sock.recv(1 << 16)
            if not part:
                return
            got += len(part)
        self.stalled.append(request)
        self.go.wait(600)
        conn.close()


@pytest.fixture
def stalls():
    made = []

    def make(*args):
        made.append(Stalls(*args))
        return made[-1]
    yield make
    for each in made:
        each.go.set()


def one_by_one(address):
    """A pool that serves one request at a time and lets the others wait."""
    return {"endpoints": [address], "connections": {
        "max_per_endpoint": 1, "queue": 10000, "queue_timeout": "1h"}}


def conf(pools, **limits):
    """Paths /NAME go to the pool of that name; all else to app."""
    routes = [{"name": name, "prefix": "/" + name, "pool": name} for name in pools]
    return {"process": {"workers": 1, "max_connections": 1000}, "pools": pools,
            "listeners": {"web": {"protocols": ["h2c", "http/1.1"], "timeouts": PATIENT,
                                  **limits}},
            "routes": routes + [{"name": "all", "prefix": "/", "pool": "app"}]}


def begin(conn, path, length):
    return conn.open("POST", path, [("content-length", "%d" % length)], end=False)


def push(conn, left):
    """Sends what the windows take now of uploads {stream: bytes that are left}."""
    for number in left:
        stream = conn.stream(number)
        while left[number] and not stream.over:
            size = min(left[number], stream.send_window, conn.check.send_window, h2.FRAME_MIN)
            if size <= 0:
                break
            left[number] -= size
            conn.send(h2.data(number, bytes(size), not left[number]))


def shut(conn, numbers):
    """None of these may send a byte."""
    return conn.check.send_window <= 0 or all(conn.stream(n).send_window <= 0 for n in numbers)


def hold(conn, path, count, stalled):
    """Uploads that have sent all they may, and stand still."""
    left = {begin(conn, path, HUGE): HUGE for _ in range(count)}

    def still():
        push(conn, left)
        return stalled() and shut(conn, left)
    while not shut(conn, left):
        conn.pump(still, what="uploads to stand still")
        conn.ping()
    return left


@pytest.mark.parametrize("count,window", [(2, "128KiB"), (10, "1MiB")])
def test_endpoints_that_stop_reading(weir, new_backend, backend, stalls, count, window):
    """What the uploads hold is more than the connection's window."""
    slow = stalls()
    proxy = weir(conf({"slow": {"endpoints": [new_backend(slow).address]}},
                      h2={"window": window}), backend)
    with Conn(proxy.port).handshake() as conn:
        held = hold(conn, "/slow", count, lambda: len(slow.stalled) == count)
        for size in (1, 100000, 3000000):
            assert conn.request("POST", "/quick", body=bytes(size)).status == 200
        assert not any(conn.stream(number).over for number in held)
    assert len(backend.seen("/quick")) == 3


def test_as_many_as_may_be_in_a_queue(weir, new_backend, backend, stalls):
    """One is served, and stalls; all others wait, and hold what they may."""
    slow = stalls(1)
    proxy = weir(conf({"slow": one_by_one(new_backend(slow).address)}), backend)
    with Conn(proxy.port).handshake() as conn:
        most = conn.check.settings[h2.MAX_CONCURRENT_STREAMS]
        held = hold(conn, "/slow", most - 1, lambda: len(slow.stalled) == 1)
        eventually(lambda: proxy.metric("weir_upstream_queued") == most - 2)
        assert conn.request("POST", "/quick", body=bytes(3000000)).status == 200
        assert not any(conn.stream(number).over for number in held)


def test_many_connections(weir, new_backend, backend, stalls):
    """All together hold half of the buffers and a window of each connection at most. Others go on
    meanwhile, and what waited for buffers does when they are back."""
    slow = stalls(1)
    proxy = weir(conf({"slow": one_by_one(new_backend(slow).address)}), backend)
    with contextlib.ExitStack() as stack:
        conns = [stack.enter_context(Conn(proxy.port)).handshake() for _ in range(12)]
        before, held = proc.memory_kib(proxy.pid, "Rss"), 0
        for conn in conns:
            left = hold(conn, "/slow", 120, lambda: len(slow.stalled) == 1)
            held += sum(HUGE - rest for rest in left.values())
        assert BUFFERS // 4 < held < BUFFERS // 2 + 12 * (1 << 20)
        assert proc.memory_kib(proxy.pid, "Rss") - before < 96 * 1024
        with Conn(proxy.port).handshake() as other:
            assert other.request("POST", "/quick", body=bytes(3000000)).status == 200
        waits = conns.pop()
        number = begin(waits, "/quick", 100000)
        assert waits.check.send_window <= 0
        for conn in conns:
            conn.close()
        assert waits.data(number, bytes(100000)) and waits.wait(number).status == 200


def test_a_queue_is_served(weir, new_backend):
    """What waits does not hold the window of what is being served."""
    pools = {"app": {"connections": {
        "max_per_endpoint": 2, "queue": 1000, "queue_timeout": "1h"}}}
    proxy = weir(conf(pools), new_backend())
    with Conn(proxy.port).handshake() as conn:
        for _ in range(2):
            left = {begin(conn, "/up", 1 << 20): 1 << 20 for _ in range(20)}

            def sent():
                push(conn, left)
                return not any(left.values())
            conn.pump(sent, what="windows of all")
            assert [conn.wait(number).status for number in left] == [200] * 20
    assert len([r for r in proxy.lines() if (r.get("weir.duration_ms.queue") or 0) > 0]) > 20
