"""HTTP/2 connections end, and change, with what happens around them: max_connections, shedding,
reloads (packaging/docs/overload.md, reload.md). Drains: test_lifecycle.py, sim_proxy_h2.c."""
import pytest

from harness import h2wire as h2
from harness.h2byhand import ByHand, proxy_for
from harness.h2fixtures import dial  # noqa: F401
from harness.weir import eventually

H2C = {"web": {"protocols": ["h2c", "http/1.1"]}}


def goaway(conn):
    """Waits for one; a connection that is to end by agreement says so."""
    conn.pump(lambda: conn.check.goaways, what="GOAWAY")
    assert conn.check.goaways[0][1] == h2.NO_ERROR
    return conn


# ---- max_connections ----


def test_one_beyond_max_connections_ends_with_its_response(weir, backend, dial):  # noqa: F811
    proxy = weir({"process": {"workers": 1, "max_connections": 2}, "listeners": H2C}, backend)
    held = [dial(proxy) for _ in range(2)]
    assert [conn.get().status for conn in held] == [200, 200]
    # Idle, they would make room (test_room.py).
    uploads = [conn.open("POST", "/held", end=False) for conn in held]
    eventually(lambda: proxy.metric("weir_requests_inflight") == 2)
    third = dial(proxy)
    response = third.get("/third")
    assert response.status == 503 and "proxy.limit.connections" in response.get("proxy-status")
    goaway(third).expect_closed()
    proxy.ended("proxy.limit.connections", path="/third", status=503)
    for conn, upload in zip(held, uploads):
        conn.data(upload, b"whole")
        assert conn.wait(upload).status == 200
    assert [conn.get().status for conn in held] == [200, 200]
    held[0].close()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 1)
    fresh = dial(proxy)
    assert fresh.get().status == 200 and fresh.get().status == 200
    fresh.expect_alive()
    assert not fresh.check.goaways


# ---- overload.connections ----


def held_open(proxy, count):
    """Connections of HTTP/1 with a request that does not end."""
    made = [proxy.client() for _ in range(count)]
    for conn in made:
        conn.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
    eventually(lambda: proxy.metric("weir_requests_inflight") >= count)
    return made


def test_connections_end_while_they_are_short(weir, backend, dial):  # noqa: F811
    """Who has many requests open has them answered, and counts once; who has none is closed."""
    proxy = weir({"process": {"workers": 1, "max_connections": 40,
                              "overload": {"connections": "50%"}},
                  "routes": [{"prefix": "/", "pool": "app", "priority": 0}],
                  "listeners": H2C}, backend)
    idle, busy = dial(proxy), dial(proxy)
    assert idle.get().status == 200 and busy.get().status == 200
    assert not idle.check.goaways and not busy.check.goaways
    upload = busy.open("POST", "/upload", end=False)
    held = held_open(proxy, 20)
    streams = [busy.new_stream() for _ in range(5)]
    busy.send(*(h2.headers(each, h2.request(path="/many")) for each in streams))
    assert [busy.wait(each).status for each in streams] == [200] * 5
    busy.data(upload, b"whole")
    assert busy.wait(upload).status == 200
    goaway(busy).expect_closed()
    goaway(idle).expect_closed()
    assert proxy.metric("weir_overload_closed_connections_total") == 1
    for conn in held:
        conn.send(b"whole")
        assert conn.response("POST").status == 200


# ---- clients that say GOAWAY ----


@pytest.mark.parametrize("when", ["before", "with", "after"])
def test_a_client_that_leaves(weir, dial, when):  # noqa: F811
    """Its last response is whole, and then nothing keeps the connection."""
    def handler(conn, stream, head):
        conn.head(stream)
        conn.give(stream, 100000, end=True)
    proxy = proxy_for(weir, ByHand(handler), listeners={
        "web": {**H2C["web"], "timeouts": {"idle": "60s"}}})
    conn = dial(proxy).handshake()
    leave = h2.goaway(0, h2.NO_ERROR)
    if when == "before":
        conn.send(leave)
    stream = conn.new_stream()
    conn.send(h2.headers(stream, h2.request(path="/last")), *([leave] if when == "with" else []))
    answer = conn.wait(stream)
    assert answer.status == 200 and len(answer.body) == 100000
    if when == "after":
        conn.send(leave)
    goaway(conn).expect_closed()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    assert proxy.logged(path="/last")["weir.end"] == "ok"


# ---- limits after a reload ----


def told_of(conn):
    return conn.check.settings[h2.MAX_HEADER_LIST_SIZE]


def limit(proxy, header_bytes, headers):
    proxy.change(listeners={"web": {"limits": {"header_bytes": header_bytes, "headers": headers,
                                               "uri_bytes": "1KiB"}}})
    proxy.reload()


FORTY = [("x-%d" % number, "v") for number in range(40)]


def test_limits_hold_from_the_next_request(weir, backend, dial):  # noqa: F811
    """Both ways; the client is told how much it may send."""
    limits = {"header_bytes": "4KiB", "headers": 20, "uri_bytes": "1KiB"}
    proxy = weir({"process": {"workers": 1},
                  "listeners": {"web": {**H2C["web"], "limits": limits}}}, backend)
    conn = dial(proxy).handshake()
    assert told_of(conn) == 4096
    assert conn.get("/few", FORTY).status == 431
    limit(proxy, "64KiB", 100)
    assert conn.get("/many", FORTY).status == 200
    assert told_of(conn) == 65536
    assert conn.get("/large", [("x-large", "v" * 50000)]).status == 200
    limit(proxy, "4KiB", 20)
    assert conn.get("/few", FORTY).status == 431
    assert told_of(conn) == 4096
    assert conn.get("/large", [("x-large", "v" * 5000)]).status == 431
    assert conn.get("/large", [("x-large", "v" * 50000)]).status == 431
    conn.expect_alive()
    assert not conn.check.goaways
    proxy.ended("proxy.limit.headers", path="/few")
    proxy.ended("proxy.limit.header_bytes", path="/large")


def test_budgets_hold_from_the_next_request(weir, backend, dial):  # noqa: F811
    """resets: three and half of the streams."""
    proxy = weir({"process": {"workers": 1}, "listeners": H2C}, backend)
    conn = dial(proxy).handshake()
    proxy.change(listeners={"web": {"h2": {"resets": 3, "streams": 50}}})
    proxy.reload()
    assert conn.get().status == 200
    assert conn.check.settings[h2.MAX_CONCURRENT_STREAMS] != 50  # as when it began
    for _ in range(20):
        conn.send(h2.rst_stream(conn.open("POST", "/", end=False)))
    conn.expect_connection_error(h2.ENHANCE_YOUR_CALM)
    proxy.logged(end="client.h2.resets")


def many_fields(conn, stream, _head):
    fields = [(":status", "200"), *FORTY]
    conn.send(h2.headers(stream, h2.block(fields)))


def test_limits_of_a_pool_hold_from_the_next_response(weir):
    """On the connection that is there."""
    origin = ByHand(many_fields)
    try:
        proxy = proxy_for(weir, origin, pool={"limits": {"headers": 20}})
        assert proxy.get().status == 502
        proxy.change(pools={"app": {"limits": {"headers": 100, "header_bytes": "128KiB"}}})
        proxy.reload()
        assert proxy.get().status == 200
        proxy.change(pools={"app": {"limits": {"headers": 20}}})
        proxy.reload()
        assert proxy.get().status == 502
        assert len(origin.conns) == 1
    finally:
        origin.stop()
    proxy.logged(2, end="upstream.bad_response.headers")
