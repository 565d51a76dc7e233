"""Every wait is finite and has its own word (DESIGN.md section 7, Timeouts). The limits here are
short so that the tests are; no test measures how long anything takes, only which end came."""
import socket
import threading
import time

import pytest

from harness import client, proc, tcpsite, wire
from harness.backend import FullBacklog, raw
from harness.weir import eventually


def with_timeouts(**listener):
    return {"listeners": {"web": {"timeouts": listener}}}


def with_pool_timeouts(**pool):
    return {"pools": {"app": {"timeouts": pool}}}


@pytest.mark.parametrize("listener, seconds", [
    ({"timeouts": {"header": "14s"}}, 7), ({}, 3), ({"timeouts": {"header": "2s"}}, 1),
    ({"timeouts": {"header": "1999ms"}}, 0),
    ({"timeouts": {"header": "2s", "handshake": "1m"}, "proxy_protocol": True,
      "trusted_proxies": "127.0.0.0/8"}, 1)])
def test_silent_clients_are_seen_in_time(weir, backend, listener, seconds):
    """The kernel holds back who sends nothing: never for more than half of the time that he has
    from accept on. What it is asked for is what stands on the socket, after reloads too."""
    proxy = weir({"listeners": {"web": listener}}, backend)
    assert set(tcpsite.deferred(proxy.pid, proxy.port)) == {seconds}
    for header, after in (("1s", 0), ("20s", 7)):
        proxy.change(listeners={"web": {"timeouts": {"header": header}}})
        proxy.reload()
        eventually(lambda: set(tcpsite.deferred(proxy.pid, proxy.port)) == {after})


def test_header(weir, backend):
    """A head that trickles in: each byte does not start the clock anew."""
    proxy = weir(with_timeouts(header="300ms"), backend)
    conn = proxy.client()
    stop = threading.Event()

    def trickle():
        try:
            conn.send(b"GET /slow HTTP/1.1\r\n")
            while not stop.wait(0.05):
                conn.send(b"X: y\r\n")
        except OSError:
            pass
    sender = threading.Thread(target=trickle)
    sender.start()
    assert conn.response().status == 408
    stop.set()
    sender.join()
    proxy.ended("client.timeout.header", status=408)
    assert not backend.requests


def test_a_method_that_may_be_head(weir, backend):
    """So little came that it may be a HEAD, whose response has no body: then there is none."""
    proxy = weir(with_timeouts(header="300ms"), backend)
    for begin, bare in ((b"HEA", True), (b"GE", False)):
        conn = proxy.client()
        conn.send(begin)
        response = conn.response()
        assert response.status == 408 and (response.body == b"") is bare
        conn.expect_close()


def test_header_of_the_second_request(weir, backend):
    proxy = weir(with_timeouts(header="300ms", idle="30s"), backend)
    conn = proxy.client()
    assert conn.get("/1").status == 200
    conn.send(b"GET /2 HTTP/1.1\r\n")
    assert conn.response().status == 408
    conn.expect_close()
    proxy.ended("client.timeout.header")


def test_nothing_sent(weir, backend):
    """A connection that never says anything ends, without a response and without a 4xx storm."""
    proxy = weir(with_timeouts(header="300ms", idle="300ms"), backend)
    conn = proxy.client()
    data = conn.read_all()
    assert data == b"" or data.startswith(b"HTTP/1.1 408 ")


def test_body(weir, backend):
    proxy = weir(with_timeouts(body="300ms"), backend)
    conn = proxy.client()
    conn.send(b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
    assert conn.response().status == 408
    conn.expect_close()
    proxy.ended("client.timeout.body", path="/b", status=408)
    assert all(not r.complete for r in backend.requests)


def test_body_over_a_reused_connection(weir, backend):
    """The head and a part of the body come at once, and the connection is there already."""
    proxy = weir({**with_timeouts(body="300ms"), "process": {"workers": 1}}, backend)
    for framing in (b"Content-Length: 10\r\n\r\nhalf",
                    b"Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n"):
        assert proxy.get("/warm").status == 200
        _, response = proxy.exchange(b"POST /b HTTP/1.1\r\nHost: h\r\n" + framing, method="POST")
        assert response.status == 408
    proxy.ended("client.timeout.body", path="/b", status=408, count=2)


def test_body_progress_restarts_the_clock(weir, backend):
    proxy = weir(with_timeouts(body="1s"), backend)
    conn = proxy.client()
    conn.send(b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
    for _ in range(12):
        time.sleep(0.1)
        conn.send(b"x")
    assert conn.response().status == 200


def test_idle_keepalive(weir, backend):
    proxy = weir(with_timeouts(idle="300ms"), backend)
    conn = proxy.client()
    assert conn.get("/1").status == 200
    conn.expect_close()
    assert len(proxy.lines()) == 1
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)


def test_send(weir, new_backend):
    """A client that stops reading is let go."""
    def handler(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        for _ in range(100):
            conn.send(b"d" * 1000000)
    backend = new_backend(handler)
    proxy = weir(with_timeouts(send="400ms"), backend)
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/s"))
    proxy.ended("client.timeout.send", path="/s")
    assert not conn.response(truncated_ok=True).complete


def test_first_byte(weir, new_backend):
    hold = threading.Event()

    def handler(conn, _request):
        hold.wait(30)
        conn.close()
    backend = new_backend(handler)
    proxy = weir(with_pool_timeouts(first_byte="300ms"), backend)
    response = proxy.get("/f")
    hold.set()
    assert response.status == 504 and "weir" in response.get("proxy-status")
    proxy.ended("upstream.first_byte.timeout", path="/f", status=504)
    assert len(backend.requests) == 1


def test_first_byte_is_not_for_the_upload(weir, backend):
    """It starts when the request has been sent."""
    proxy = weir(with_pool_timeouts(first_byte="1s"), backend)
    conn = proxy.client()
    conn.send(b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 12\r\n\r\n")
    for _ in range(12):
        time.sleep(0.1)
        conn.send(b"x")
    assert conn.response().status == 200


def test_head_that_trickles_from_the_upstream(weir, new_backend):
    """First bytes of a head that never ends do not wait for ever."""
    def handler(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\n")
        try:
            for _ in range(400):
                conn.send(b"X: y\r\n", 0.05)
        except OSError:
            pass
    proxy = weir(with_pool_timeouts(first_byte="300ms", idle="400ms"), new_backend(handler))
    assert proxy.get("/t").status in (502, 504)
    assert proxy.logged(path="/t")["weir.end"].startswith("upstream.")


def test_upstream_idle(weir, new_backend):
    """A body that stops: the client gets a cut message, the log its cause."""
    hold = threading.Event()

    def handler(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        hold.wait(30)
    proxy = weir(with_pool_timeouts(idle="300ms"), new_backend(handler))
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/i"))
    response = conn.response(truncated_ok=True)
    hold.set()
    assert response.status == 200 and not response.complete
    proxy.ended("upstream.idle.timeout", path="/i")


def test_upstream_idle_progress_restarts_the_clock(weir, new_backend):
    backend = new_backend(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
                              *[part for _ in range(12) for part in (0.1, b"x")]))
    proxy = weir(with_pool_timeouts(idle="1s"), backend)
    assert proxy.get("/i").body == b"x" * 12


def test_upstream_does_not_take_the_request(weir, new_backend):
    hold = threading.Event()
    backend = new_backend(lambda _conn, _request: hold.wait(30) and None)
    proxy = weir({"listeners": {"web": {"limits": {"body_bytes": "0"}}},
                  "pools": {"app": {"timeouts": {"idle": "400ms"}}}}, backend)
    conn = proxy.client()
    conn.send(b"POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n")
    conn.try_send(b"u" * 100000000)
    response = conn.response()
    hold.set()
    assert response.status == 504
    proxy.ended("upstream.send.timeout", path="/s")


def test_connect(weir):
    full = FullBacklog()
    proxy = weir({"pools": {"app": {"endpoints": [full.address],
                                    "timeouts": {"connect": "300ms"}}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    assert proxy.get("/c").status == 504
    proxy.ended("upstream.connect.timeout", path="/c", status=504)
    full.stop()


def test_connect_timeout_is_retried_elsewhere(weir, backend):
    full = FullBacklog()
    proxy = weir({"process": {"workers": 1}, "pools": {"app": {
        "endpoints": [full.address, backend.address], "balance": "round_robin",
        "timeouts": {"connect": "200ms"},
        "outlier": {"consecutive_failures": 0, "consecutive_5xx": 0}}},
        "routes": [{"prefix": "/", "pool": "app"}]})
    assert [proxy.get("/c").status for _ in range(4)] == [200] * 4
    full.stop()


def test_route_timeout(weir, new_backend):
    hold = threading.Event()

    def handler(conn, _request):
        hold.wait(30)
        conn.close()
    backend = new_backend(handler)
    proxy = weir({"routes": [{"prefix": "/", "pool": "app", "timeout": "300ms"}]}, backend)
    assert proxy.get("/r").status == 504
    hold.set()
    proxy.ended("upstream.timeout", path="/r", status=504)


def test_route_timeout_spans_the_queue(weir, new_backend):
    hold = threading.Event()

    def handler(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    proxy = weir({"process": {"workers": 1}, "pools": {"app": {"connections": {
        "max_per_endpoint": 1, "queue": 5, "queue_timeout": "20s"}}},
        "routes": [{"prefix": "/slow", "pool": "app"},
                   {"prefix": "/", "pool": "app", "timeout": "300ms"}]}, new_backend(handler))
    first = proxy.client()
    first.send(wire.request_bytes(target="/slow"))
    eventually(lambda: proxy.metric("weir_requests_inflight") == 1)
    assert proxy.get("/r").status == 504
    proxy.ended("upstream.timeout", path="/r", status=504)
    hold.set()
    assert first.response().status == 200


def test_route_timeout_is_not_for_the_body(weir, new_backend):
    backend = new_backend(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\n",
                              *[part for _ in range(12) for part in (0.1, b"x")]))
    proxy = weir({"routes": [{"prefix": "/", "pool": "app", "timeout": "1s"}]}, backend)
    assert proxy.get("/b").body == b"x" * 12


def test_half_close(weir, new_backend):
    """A client that sent FIN is waited for only so long."""
    hold = threading.Event()

    def handler(conn, _request):
        hold.wait(30)
        conn.close()
    proxy = weir(with_timeouts(half_close="300ms"), new_backend(handler))
    conn = proxy.client()
    conn.send(wire.request_bytes(target="/h"))
    conn.half_close()
    record = proxy.logged(path="/h")
    hold.set()
    assert record["weir.end"] in ("client.closed",) and record["http.response.status_code"] == 499


@pytest.mark.parametrize("kind", ["silent", "partial"])
def test_tls_handshake(weir, backend, authority, kind):
    port = proc.free_port()
    proxy = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                        "timeouts": {"handshake": "300ms"},
                                        "tls": {"certificates": [dict(names=["a.example"],
                                                                      **authority.leaf(
                                                                          ["a.example"]))]}}}},
                 backend)
    sock = socket.create_connection(("127.0.0.1", port), client.GUARD)
    if kind == "partial":
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00")
    data = b"".join(iter(lambda: sock.recv(4096), b""))
    assert not data.startswith(b"HTTP")
    sock.close()
    if kind == "partial":
        eventually(lambda: proxy.metric("weir_tls_handshake_failures_total") == 1)
        eventually(lambda: proxy.metric("weir_request_end_total", end="client.tls.timeout") == 1)


def test_defaults_are_finite(weir):
    """weir dump shows a finite default for every timeout."""
    from harness import weir as tool
    proxy = weir({"routes": [{"prefix": "/", "respond": {"status": 200}}]}, start=False)
    result = tool.run("dump", "--all", "-c", proxy.path)
    assert result.returncode == 0, result.stderr
    for key in ("header", "body", "idle", "send", "handshake"):
        line = [text for text in result.stdout.splitlines() if text.strip().startswith(key + " ")]
        assert line and '"0' not in line[0], "%s: %r" % (key, line)
