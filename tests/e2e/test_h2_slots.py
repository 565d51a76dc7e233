"""Places for streams: what clients with many of them leave to others, by memory and descriptors,
and what an operator sees of it."""
from concurrent.futures import ThreadPoolExecutor
import resource
import socket
import threading
import time

import pytest

from harness import client, h2wire as h2, wire
from harness.h2raw import Conn
from harness.weir import eventually

FURTHER = 16384  # src/control/workers_priv.h
STALLED = h2.block([(":method", "POST"), (":scheme", "http"), (":authority", "x"),
                    (":path", "/held"), ("content-length", "5")])
METRIC = "weir_downstream_http2_streams"


def few_descriptors():
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, 1024))


def small_weir(weir, backend, pools=None, **route):
    return weir({"pools": pools or {}, "process": {"workers": 1},
                 "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                 "policies": {"hold": {"buffer": "64KiB"}},
                 "routes": [{"prefix": "/held", "pool": "app", **route},
                            {"prefix": "/", "pool": "app"}]}, backend, preexec=few_descriptors)


@pytest.fixture
def stall():
    """stall(proxy, conns, each): connections with POSTs whose bodies never come."""
    socks = []

    def begin(proxy, conns, each):
        for _ in range(conns):
            sock = client.connect(proxy.port)
            sock.sendall(h2.PREFACE + h2.settings() + b"".join(
                h2.headers(1 + 2 * n, STALLED, end=False) for n in range(each)))
            socks.append(sock)
    yield begin
    for sock in socks:
        sock.close()


def test_stalled_requests_leave_places(weir, backend, stall):
    """Further streams are bounded by memory alone, and what is left is for who has few."""
    proxy = small_weir(weir, backend, policies=["hold"])
    stall(proxy, 125, 125)
    eventually(lambda: proxy.metric("weir_downstream_http2_streams_refused_total") > 0)
    held = proxy.metric(METRIC)
    assert FURTHER * 7 // 8 <= held <= FURTHER * 7 // 8 + 8 * 125
    assert proxy.metric("weir_saturation", resource="streams") > 0.8
    assert proxy.get("/h1").status == 200
    conn = Conn(proxy.port).handshake()
    numbers = [conn.open("GET", "/h2") for _ in range(5)]
    assert {conn.wait(number).status for number in numbers} == {200}
    conn.close()
    eventually(lambda: "streams of HTTP/2 clients are refused" in proxy.errors)
    assert proxy.errors.count("streams of HTTP/2 clients are refused") == 1


def test_stalled_requests_leave_descriptors(weir, backend, stall):
    """Each has a connection to its endpoint: none of them takes the last descriptors."""
    deaf = socket.create_server(("127.0.0.1", 0), backlog=1024)
    proxy = small_weir(weir, backend, pool="deaf", pools={"deaf": {
        "endpoints": ["127.0.0.1:%d" % deaf.getsockname()[1]]}})
    stall(proxy, 10, 120)
    proxy.logged(end="proxy.limit.descriptors")
    for _ in range(10):
        assert proxy.get("/h1").status == 200
        conn = Conn(proxy.port).handshake()
        assert conn.get("/h2").status == 200
        conn.close()
    assert proxy.metric("weir_requests_inflight") > 500
    deaf.close()


def test_protocols_are_counted(weir, backend):
    proxy = small_weir(weir, backend)
    conn = Conn(proxy.port).handshake()
    assert conn.get("/").status == 200
    assert proxy.metric("weir_downstream_http2_connections") == 1
    conn.close()
    eventually(lambda: proxy.metric("weir_downstream_http2_connections") == 0)
    assert proxy.metric(METRIC) == 0


CONNECTS = "weir_upstream_connects_total"


def test_idle_connections_are_left(weir, backend, stall):
    """Who asks for many things at once takes new connections to an endpoint, and leaves the idle
    ones to clients with one request at a time."""
    proxy = small_weir(weir, backend)
    with client.Client(proxy.port) as one:
        assert one.get("/one").status == 200
        assert proxy.metric(CONNECTS) == 1
        over = threading.Event()

        def ask():
            asked = 0
            while not over.is_set() or asked < 2:
                assert one.get("/again").status == 200
                asked += 1
        with ThreadPoolExecutor(1) as pool:
            asking = pool.submit(ask)
            stall(proxy, 1, 3)
            eventually(lambda: proxy.metric(CONNECTS) >= 1 + 3)
            over.set()
            asking.result()
        assert proxy.metric(CONNECTS) == 1 + 3


def test_idle_connections_are_taken(weir, new_backend, stall):
    """Where nobody asks for one thing at a time, bursts take what is idle: their own first
    requests do not count as such."""
    together = threading.Barrier(3)

    def wait_for_all(_conn, request):
        if request.target == b"/":
            together.wait(20)
        return wire.response_bytes()
    proxy = small_weir(weir, new_backend(wait_for_all))
    conn = Conn(proxy.port).handshake()
    numbers = [conn.open("GET", "/") for _ in range(3)]
    assert {conn.wait(number).status for number in numbers} == {200}
    conn.close()
    assert proxy.metric(CONNECTS) == 3
    time.sleep(0.1)  # begin.c: nobody was alone for ALONE_MS
    stall(proxy, 1, 2)
    stall(proxy, 1, 2)
    eventually(lambda: proxy.metric(METRIC) == 4)
    eventually(lambda: proxy.metric(CONNECTS) == 4)
    time.sleep(0.1)
    assert proxy.metric(CONNECTS) == 4
