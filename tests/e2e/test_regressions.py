"""One named test for each fix whose loss broader tests would not notice: who is blamed for a 100
that never comes, own pressure, the compile thread between reloads, Host to a unix socket, bounded
unsent bytes, connects that fail at once, early responses. tests/sim/sim_proxy_regress.c has those
that need a world with dice. Each was seen to fail without its fix."""
import os
import pathlib
import resource
import socket
import threading
import time

import pytest

from harness import client, proc, wire
from harness.backend import raw
from harness.weir import GUARD, eventually

ROUTE = {"name": "all", "prefix": "/", "pool": "app"}
MIB = 1 << 20


@pytest.mark.parametrize("framing", ["Content-Length: 5", "Transfer-Encoding: chunked"])
def test_a_100_that_never_comes_is_the_endpoints_fault(weir, new_backend, framing):
    """The client rightly waits for it: 504 and the endpoint's word, not 408 and the client's."""
    hold = threading.Event()
    backend = new_backend(lambda _conn, _request: hold.wait(GUARD) and None)
    proxy = weir({"listeners": {"web": {"timeouts": {"body": "300ms"}}},
                  "pools": {"app": {"timeouts": {"first_byte": "1s"}}}}, backend)
    conn = proxy.client()
    conn.send(("POST /e HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n%s\r\n\r\n" % framing)
              .encode())
    response = conn.response()
    hold.set()
    assert response.status == 504 and not response.interim
    proxy.ended("upstream.first_byte.timeout", path="/e", status=504)


# ---- own pressure ----

def lowest_free_descriptor(pid):
    """When all connections that were on their way out (of the status port) have been closed."""
    def lowest():
        taken = {int(name) for name in os.listdir("/proc/%d/fd" % pid)}
        return next(number for number in range(len(taken) + 1) if number not in taken)
    seen = [lowest()]

    def settled():
        """the descriptors rest"""
        time.sleep(0.02)
        seen.append(lowest())
        return len(seen) > 15 and len(set(seen[-15:])) == 1
    eventually(settled)
    return seen[-1]


def test_no_descriptor_left_blames_nobody(weir, backend):
    """socket() fails before there is a connect: 503 at once with weir's own word, and the
    endpoint, which one failure would take out of service, stays in it."""
    outlier = {"consecutive_failures": 1, "consecutive_5xx": 1, "max_ejected": "100%"}
    proxy = weir({"process": {"workers": 1}, "pools": {"app": {"outlier": outlier}}}, backend)
    conn = proxy.client()
    assert conn.get("/none").status == 200
    backend.conns[0].close()
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    eventually(lambda: proxy.metric("weir_requests_inflight") == 0)
    soft, hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (lowest_free_descriptor(proxy.pid), hard))
    response = conn.get("/full")
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (soft, hard))
    assert response.status == 503
    assert proxy.get("/again").status == 200
    assert proxy.metric("weir_upstream_ejections_total") == 0
    proxy.ended("proxy.limit.descriptors", path="/full", status=503)
    assert not backend.seen("/full")


# ---- the compile thread ----

def thread_seconds(pid, name):
    """CPU time of the thread of that name."""
    for task in pathlib.Path("/proc/%d/task" % pid).iterdir():
        if (task / "comm").read_text().strip() == name:
            fields = (task / "stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    raise AssertionError("no thread %s" % name)


def test_the_compile_thread_rests_after_two_quick_reloads(weir, new_backend):
    """The first leaves something to be freed later (a request still uses it), the second frees it
    at once: what was due then must not be waited for in a loop."""
    hold = threading.Event()

    def slow(_conn, _request):
        hold.wait(GUARD)
        return wire.response_bytes()
    backend = new_backend(slow)
    proxy = weir({}, backend)
    for number in range(3):
        hold.clear()
        conn = proxy.client()
        conn.send(wire.request_bytes(target="/held"))
        backend.wait(number + 1)
        proxy.change(pools={"app": {"timeouts": {"connect": "%ds" % (number + 3)}}},
                     routes=[dict(ROUTE, timeout="%ds" % (number + 30))])
        proxy.reload()
        hold.set()
        assert conn.response().status == 200
        proxy.logged(number + 1, path="/held")
        proxy.change(routes=[dict(ROUTE, timeout="%ds" % (number + 60))])
        proxy.reload()
    time.sleep(1.2)  # over what was due
    before, since = thread_seconds(proxy.pid, "weir-compile"), time.monotonic()
    time.sleep(2)
    share = (thread_seconds(proxy.pid, "weir-compile") - before) / (time.monotonic() - since)
    assert share < 0.25, "weir-compile takes %.0f %% of a core" % (100 * share)


# ---- Host ----

def test_host_of_an_http_1_0_request_to_a_unix_socket(weir, new_backend, work):
    """A path is no host: RFC 9110 section 7.2 wants one that could be."""
    backend = new_backend(unix=work / "up.sock")
    conn, response = weir({}, backend).exchange(b"GET /h HTTP/1.0\r\n\r\n", minor=0)
    assert response.status == 200 and backend.last.all("host") == ["localhost"]
    conn.close()


def test_host_of_an_http_1_0_request_to_a_tcp_endpoint(weir, backend):
    conn, response = weir({}, backend).exchange(b"GET /h HTTP/1.0\r\n\r\n", minor=0)
    assert response.status == 200 and backend.last.all("host") == [backend.address]
    conn.close()


# ---- what the kernel holds for a slow reader ----

def unsent(port, peer):
    """Bytes in the send queue of the socket on local port `port` towards local port `peer`."""
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        columns = line.split()
        ports = [int(column.rsplit(":", 1)[1], 16) for column in columns[1:3]]
        if ports == [port, peer]:
            return int(columns[4].split(":")[0], 16)
    return 0


def test_unsent_bytes_of_a_slow_reader_are_bounded(weir, new_backend):
    """TCP_NOTSENT_LOWAT: the kernel takes 128 KiB ahead of what was sent, not megabytes."""
    backend = new_backend(raw(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (32 * MIB),
                              b"d" * (32 * MIB)))
    proxy = weir({}, backend)
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    sock.settimeout(GUARD)
    sock.connect(("127.0.0.1", proxy.port))
    sock.sendall(wire.request_bytes(target="/slow"))
    queued = [0, -1]

    def settled():
        """the send queue holds something and grows no more"""
        time.sleep(0.1)
        queued.append(unsent(proxy.port, sock.getsockname()[1]))
        return queued[-1] > 0 and queued[-1] == queued[-2] == queued[-3]
    eventually(settled)
    assert queued[-1] < MIB, "%d bytes wait in the kernel" % queued[-1]
    response = wire.read_response(wire.Reader(sock))
    sock.close()
    assert response.complete and response.payload.length == 32 * MIB


# ---- connects that fail at once ----

NEVER_OUT = {"consecutive_failures": 0, "consecutive_5xx": 0}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_unix_socket_that_is_not_there(weir, work, method):
    """Answered, with its word."""
    proxy = weir({"pools": {"app": {"endpoints": ["unix:%s" % (work / "none.sock")],
                                    "outlier": NEVER_OUT}}, "routes": [ROUTE]})
    for number in range(3):
        body = b"body" * 1000 if method == "POST" else None
        assert proxy.request(method, "/u%d" % number, body=body).status == 502
        record = proxy.ended("upstream.connect.refused", path="/u%d" % number, status=502)
        assert record["weir.attempts"] == 1


def test_unix_socket_that_is_not_there_beside_one_that_is(weir, new_backend, work):
    backend = new_backend(unix=work / "up.sock")
    both = ["unix:%s" % (work / "none.sock"), backend.address]
    proxy = weir({"pools": {"app": {"endpoints": both, "balance": "round_robin",
                                    "outlier": NEVER_OUT}}, "routes": [ROUTE]})
    assert [proxy.request("POST", "/u", body=b"x").status for _ in range(6)] == [200] * 6


# ---- early responses ----

@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest.mark.parametrize("framing", ["Content-Length: 4000000", "Transfer-Encoding: chunked"])
def test_an_early_response_says_close(weir, new_backend, framing, size):
    """Whether the client sends the rest of its body is not ours to know: the connection ends after
    the response, says so in it, and cuts nothing of it though the client goes on sending."""
    body = bytes(range(256)) * (size // 256 + 1)
    backend = new_backend(lambda conn, _request: conn.send(
        wire.response_bytes(413, body[:size], reason="Too Large")))
    proxy = weir({}, backend)
    conn = proxy.client()
    conn.send(("POST /early HTTP/1.1\r\nHost: a\r\n%s\r\n\r\n" % framing).encode())
    backend.wait()
    time.sleep(0.05)
    chunked = framing.startswith("T")
    for _ in range(20):
        conn.try_send(b"64\r\n" + b"x" * 100 + b"\r\n" if chunked else b"x" * 100)
    response = conn.response()
    assert response.status == 413 and response.body == body[:size]
    assert response.get("connection") == "close"
    conn.expect_close()
    assert not conn.reader.reset
    proxy.ended("ok", path="/early", status=413)
    with client.Client(proxy.port) as other:
        assert other.request("POST", "/early", body=b"").status == 413
