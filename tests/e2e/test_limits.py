"""Limits are named, inclusive, and each has its status and word."""
import json
import resource
import socket

import pytest

from harness import client, wire
from harness.weir import GUARD, eventually, run


def limited(**limits):
    return {"listeners": {"web": {"limits": limits}}}


def test_header_bytes(weir, backend):
    proxy = weir(limited(header_bytes="4KiB", uri_bytes="1KiB"), backend)
    conn, response = proxy.exchange(wire.request_bytes(target="/h",
                                                       fields=["X: %s" % ("v" * 5000)]))
    assert response.status == 431
    conn.expect_close()
    proxy.ended("proxy.limit.header_bytes", status=431)
    assert not backend.requests


def test_header_bytes_is_inclusive(weir, backend):
    proxy = weir(limited(header_bytes="4KiB", uri_bytes="1KiB"), backend)
    base = len(wire.request_bytes(target="/h", fields=["X: "]))
    assert proxy.get("/h", ["X: %s" % ("v" * (4096 - base))]).status == 200
    conn, response = proxy.exchange(wire.request_bytes(target="/h",
                                                       fields=["X: %s" % ("v" * (4097 - base))]))
    assert response.status == 431
    conn.close()


def test_header_without_an_end(weir, backend):
    """Refused as soon as the limit is passed, not when the line ends."""
    proxy = weir(limited(header_bytes="8KiB", uri_bytes="1KiB"), backend)
    conn, response = proxy.exchange(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"v" * 100000)
    assert response.status == 431
    conn.close()


@pytest.mark.parametrize("count,status", [(10, 200), (11, 431)])
def test_headers(weir, backend, count, status):
    proxy = weir(limited(headers=10), backend)
    conn, response = proxy.exchange(wire.request_bytes(target="/n", fields=["X: y"] * (count - 1)))
    assert response.status == status
    if status == 431:
        proxy.ended("proxy.limit.headers", status=431)
        conn.expect_close()


@pytest.mark.parametrize("size,status", [(1024, 200), (1025, 414)])
def test_uri_bytes(weir, backend, size, status):
    proxy = weir(limited(uri_bytes="1KiB"), backend)
    conn, response = proxy.exchange(wire.request_bytes(target="/" + "u" * (size - 1)))
    assert response.status == status
    if status == 414:
        proxy.ended("proxy.limit.uri_bytes", status=414)
        conn.expect_close()


def test_uri_without_an_end(weir, backend):
    proxy = weir(limited(uri_bytes="1KiB"), backend)
    conn, response = proxy.exchange(b"GET /" + b"u" * 50000)
    assert response.status == 414
    conn.close()


@pytest.mark.parametrize("size,status", [(1000, 200), (1001, 413)])
def test_body_bytes(weir, backend, size, status):
    proxy = weir(limited(body_bytes="1000B"), backend)
    conn, response = proxy.exchange(wire.request_bytes("POST", "/b", body=b"x" * size))
    assert response.status == status
    if status == 413:
        proxy.ended("proxy.limit.body_bytes", path="/b", status=413)
        assert not backend.requests
        conn.expect_close()


def test_body_bytes_of_a_chunked_body(weir, backend):
    """The upstream never sees a complete message."""
    proxy = weir(limited(body_bytes="1000B"), backend)
    data = wire.request_bytes("POST", "/c", ["Transfer-Encoding: chunked"],
                              wire.chunked(b"x" * 600, b"x" * 600))
    conn, response = proxy.exchange(data)
    assert response.status == 413
    conn.expect_close()
    proxy.ended("proxy.limit.body_bytes", path="/c", status=413)
    for request in backend.requests:
        backend.conns[request.connection].ended.wait(GUARD)
        assert not request.complete


def test_body_limit_before_100_continue(weir, backend):
    """With Expect the client is spared the upload."""
    proxy = weir(limited(body_bytes="1000B"), backend)
    conn, response = proxy.exchange(
        b"POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n\r\n")
    assert response.status == 413 and not response.interim
    conn.close()


def test_requests_per_connection(weir, backend):
    proxy = weir(limited(requests=3), backend)
    conn = proxy.client()
    closes = [conn.get("/%d" % number).get("connection") for number in range(3)]
    assert closes == [None, None, "close"]
    conn.expect_close()


def test_max_connections(weir, backend):
    """Beyond the cap a client gets a clear end, others go on; when one leaves, one may come."""
    proxy = weir({"process": {"workers": 1, "max_connections": 8}}, backend)
    held = [proxy.client() for _ in range(8)]
    for conn in held:  # busy: idle ones would make room (test_room.py)
        conn.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
    eventually(lambda: proxy.metric("weir_requests_inflight") == 8)
    extra = proxy.client()
    extra.try_send(wire.request_bytes(target="/extra"))
    try:
        data = extra.read_all()
    except ConnectionResetError:
        data = b""
    assert data == b"" or data.startswith(b"HTTP/1.1 503 ")
    assert eventually(lambda: proxy.metric("weir_downstream_connections_refused_total") >= 1)
    for conn in held[1:]:
        conn.send(b"whole")
        assert conn.response("POST").status == 200 and conn.get("/still").status == 200
    held[0].close()

    def served():
        """a new client is served"""
        try:
            return proxy.get("/new").status == 200
        except (AssertionError, OSError, wire.Truncated):
            return False
    eventually(served)


def test_max_connections_is_clamped_to_descriptors(weir, backend):
    """With few descriptors allowed, weir starts, says so and serves; so it is with reloads."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    proxy = weir({"process": {"max_connections": 100000}}, backend, preexec=few)
    said = ("warning[W0408]: process.max_connections = %d needs %d descriptors beside weir's own, "
            "256 are allowed (RLIMIT_NOFILE): at most 16 connections")
    proxy.stderr_has(said % (100000, 200000))
    assert proxy.get("/x").status == 200
    proxy.change(process={"max_connections": 30000})
    plan = run("plan", "--text", "--admin", proxy.admin)
    assert plan.returncode == 0 and said % (30000, 60000) in plan.stdout, plan
    told = run("reload", "--json", "--admin", proxy.admin)
    fault, = json.loads(told.stdout)["faults"]
    assert told.returncode == 0 and fault["code"] == "W0408", told
    line = proxy.path.read_text().split("\n")[fault["line"] - 1]
    assert "max_connections = 30000" in line, line
    proxy.stderr_has(said % (30000, 60000))
    proxy.change(process={"max_connections": 16})
    proxy.reload()
    assert proxy.get("/x").status == 200


def test_few_descriptors_are_told_of_at_start(weir, backend):
    """However few there are, "auto" is 16: that they run out first is said before they do."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))
    proxy = weir({"process": {"workers": 1}}, backend, preexec=few)
    proxy.stderr_has("warning[W0408]: 16 connections and weir itself may need 72 descriptors, 48 "
                     "are allowed (RLIMIT_NOFILE): they run out first")
    assert proxy.get("/x").status == 200


def test_descriptors_run_out(weir, backend):
    """64 descriptors and 200 clients: no crash, no spin, and service comes back."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    proxy = weir({"process": {"workers": 1}}, backend, preexec=few)
    socks = []
    for _ in range(200):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", proxy.port))
        socks.append(sock)
    for sock in socks:
        try:
            sock.send(wire.request_bytes(target="/many"))
        except OSError:
            pass
    for sock in socks:
        sock.close()

    def served():
        """a new client is served"""
        try:
            with client.Client(proxy.port, timeout=5) as conn:
                return conn.get("/after").status == 200
        except (AssertionError, OSError, wire.Truncated):
            return False
    eventually(served, guard=40)


def test_upstream_header_limits(weir, new_backend):
    from harness.backend import raw
    backend = new_backend(raw(wire.response_bytes(fields=["X: %s" % ("v" * 3000)])))
    proxy = weir({"pools": {"app": {"limits": {"header_bytes": "2KiB"}}}}, backend)
    assert proxy.get("/h").status == 502
    proxy.ended("upstream.bad_response.header_bytes", path="/h")


def test_upstream_header_count(weir, new_backend):
    from harness.backend import raw
    backend = new_backend(raw(wire.response_bytes(fields=["X: y"] * 20)))
    proxy = weir({"pools": {"app": {"limits": {"headers": 10}}}}, backend)
    assert proxy.get("/h").status == 502
    proxy.ended("upstream.bad_response.headers", path="/h")
