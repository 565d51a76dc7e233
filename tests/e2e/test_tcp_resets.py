"""What a client of TCP leaves that resets its connection early (packaging/docs/tcp.md): before
weir has accepted it, or while weir connects to an endpoint. And how long what an endpoint left
behind its reset is kept for a client that does not read."""
import contextlib
import os
import signal
import socket
import ssl
import struct
import threading
import time

import pytest

from harness import proc, proxyheader, tcpsite
from harness.tcpsite import connect, reset
from harness.weir import eventually
from test_tcp import endpoint, tcp, tls_listener  # noqa: F401  pylint: disable=unused-import
from test_tcp_ends import after, ends  # noqa: F401  pylint: disable=unused-import
from test_tcp_last import (  # noqa: F401  pylint: disable=unused-import
    heard, late, opened, server_context, shut, unsent, upstream_tls)
from test_tls_passthrough import hello

SIZES = [1, 100, 16384, 60000]  # what a conn holds at most, and more


def text(size):
    return bytes(i % 251 for i in range(size))


@contextlib.contextmanager
def stopped(proxy):
    """weir does not run meanwhile: its system answers for it."""
    os.kill(proxy.pid, signal.SIGSTOP)
    try:
        eventually(lambda: open("/proc/%d/stat" % proxy.pid).read().rsplit(")", 1)[1][1] == "T")
        yield
    finally:
        os.kill(proxy.pid, signal.SIGCONT)


def taken(sock, data):
    """All was sent, and the other side's system has it."""
    sock.sendall(data)
    eventually(lambda: unsent(sock) == 0)


def one_line(proxy, end, port=None):
    """The session has one line, counts once, and nothing of it is left."""
    record = proxy.ended(end)
    assert len(proxy.all_lines()) == 1
    if port:
        assert record["network.peer.port"] == port
        assert record["client.address"] == "127.0.0.1"
    assert proxy.metric("weir_listener_connections_total", listener="db") == 1
    assert proxy.metric("weir_request_end_total", end=end) == 1
    eventually(lambda: proxy.metric("weir_tcp_sessions") == 0)
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    return record


# ---- before it is accepted ----

@pytest.mark.parametrize("end", ["reset", "fin and reset"])
@pytest.mark.parametrize("size", SIZES)
def test_reset_before_it_is_accepted(tcp, endpoint, ends, size, end):
    proxy = tcp(endpoint(ends.see))
    with stopped(proxy):
        sock = connect(proxy.port)
        port = sock.getsockname()[1]
        taken(sock, text(size))
        if end != "reset":
            sock.shutdown(socket.SHUT_WR)
        reset(sock)
    eventually(lambda: ends.seen)
    how, data = ends.seen[0]
    if how == "fin":  # the system tells of the client's FIN first, and it was all
        assert end != "reset" and data == text(size)
        return
    assert (how, data) == ("reset", text(size))
    record = one_line(proxy, "client.reset", port)
    assert record["weir.bytes.received"] == size


def test_reset_of_ipv6_before_it_is_accepted(tcp, endpoint, ends):
    """Its address is known, which an IPv4 one's is shorter than."""
    port = proc.free_port()
    proxy = tcp(endpoint(ends.see), listener={"bind": "[::1]:%d" % port},
                pool={"proxy_protocol": "v1"})
    with stopped(proxy):
        sock = tcpsite.guarded(socket.create_connection(("::1", port)))
        mine = sock.getsockname()[1]
        taken(sock, b"abc")
        reset(sock)
    eventually(lambda: ends.seen)
    assert ends.seen == [("reset", b"PROXY TCP6 ::1 ::1 %d %d\r\nabc" % (mine, port))]
    assert proxy.ended("client.reset")["network.peer.address"] == "::1"


def test_reset_behind_a_hello_before_it_is_accepted(tcp, endpoint, ends):
    proxy = tcp(endpoint(ends.see), listener={"protocol": "tls_passthrough"})
    data = hello("a.example") + text(100)
    with stopped(proxy):
        sock = connect(proxy.port)
        taken(sock, data)
        reset(sock)
    eventually(lambda: ends.seen)
    assert ends.seen == [("reset", data)]
    assert one_line(proxy, "client.reset")["server.address"] == "a.example"


def test_reset_behind_a_proxy_header_before_it_is_accepted(tcp, endpoint, ends):
    proxy = tcp(endpoint(ends.see), listener={"proxy_protocol": True,
                                              "trusted_proxies": "127.0.0.1"})
    with stopped(proxy):
        sock = connect(proxy.port)
        taken(sock, proxyheader.v1("203.0.113.9") + text(100))
        reset(sock)
    eventually(lambda: ends.seen)
    assert ends.seen == [("reset", text(100))]
    assert proxy.ended("client.reset")["client.address"] == "203.0.113.9"


def test_networks_hold_for_who_has_reset(tcp, endpoint):
    site = endpoint()
    proxy = tcp(site, listener={"deny": ["127.0.0.0/8"]})
    with stopped(proxy):
        sock = connect(proxy.port)
        taken(sock, b"abc")
        reset(sock)
    proxy.ended("proxy.denied.peer")
    assert not site.sockets


def test_reset_without_a_byte_before_it_is_accepted(tcp, endpoint):
    """Who looks whether the port is open leaves nothing: no endpoint hears of it."""
    site = endpoint()
    proxy = tcp(site)
    with stopped(proxy):
        for _ in range(3):
            reset(connect(proxy.port))
    eventually(lambda: proxy.metric("weir_request_end_total", end="client.reset") == 3)
    assert proxy.metric("weir_upstream_connects_total") == 0 and not site.sockets


def test_http_of_who_has_reset_is_not_served(weir, backend):
    """Nobody would read the response."""
    proxy = weir({"pools": {"app": {"endpoints": [backend.address]}},
                  "routes": [{"pool": "app"}]}, backend)
    with stopped(proxy):
        sock = connect(proxy.port)
        taken(sock, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        reset(sock)
    eventually(lambda: proxy.metric("weir_request_end_total", end="client.reset") == 1)
    assert not proxy.all_lines()


# ---- while an endpoint is connected to ----

class Slow:
    """A TLS endpoint that begins its handshake when it is told to."""

    def __init__(self, authority, seen):
        self.context, self.seen = server_context(authority), seen
        self.go, self.site = threading.Event(), tcpsite.Endpoint(self.serve)

    def serve(self, sock):
        self.go.wait(60)
        try:
            tls = self.context.wrap_socket(sock, server_side=True)
        except OSError:
            return
        data = bytearray()
        with contextlib.suppress(OSError):
            while more := tls.recv(1 << 16):
                data += more
        self.seen.append((after(tls), bytes(data)))
        with contextlib.suppress(AssertionError):
            eventually(lambda: after(tls) == "reset", guard=10)
        tls.close()


@pytest.fixture
def slow(authority):
    seen = []
    made = Slow(authority, seen)
    yield made
    made.go.set()
    made.site.stop()


def connecting(proxy, slow):
    slow.site.served(1)
    for _ in range(20):  # turns in which it hears of what the client did
        proxy.metrics()


@pytest.mark.parametrize("end", ["reset", "fin and reset"])
@pytest.mark.parametrize("size", SIZES)
def test_reset_while_connecting(tcp, authority, slow, size, end):
    proxy = tcp(slow.site, pool=upstream_tls(authority))
    sock = connect(proxy.port)
    port = sock.getsockname()[1]
    slow.site.served(1)
    taken(sock, text(size))
    for _ in range(20):
        proxy.metrics()
    if end != "reset":
        sock.shutdown(socket.SHUT_WR)
    reset(sock)
    connecting(proxy, slow)
    assert not proxy.all_lines()
    slow.go.set()
    eventually(lambda: slow.seen)
    # the system tells of a FIN first, and of the reset behind it a moment later
    assert slow.seen == [("fin" if end != "reset" and size > 16383 else "reset", text(size))]
    assert one_line(proxy, "client.reset", port)["weir.bytes.received"] == size


@pytest.mark.parametrize("cut", ["reset", "fin"])
@pytest.mark.parametrize("size", [100, 60000])
def test_tls_client_breaks_while_connecting(tcp, authority, slow, size, cut):
    """By a reset, or by a FIN without close_notify."""
    proxy = tcp(slow.site, pool=upstream_tls(authority), listener=tls_listener(authority))
    with opened(proxy, authority, True) as sock:
        slow.site.served(1)
        taken(sock, text(size))
        for _ in range(20):
            proxy.metrics()
        if cut == "reset":
            reset(sock)
        else:
            shut(sock)
        connecting(proxy, slow)
        slow.go.set()
        eventually(lambda: slow.seen)
    how, data = slow.seen[0]
    assert how == "reset" and data == text(size)
    proxy.ended("client.reset" if cut == "reset" else "client.closed")


def test_reset_behind_a_hello_while_connecting(tcp, endpoint, ends):
    """A plain endpoint, whose queue of connections is full for a while."""
    with socket.socket() as full, contextlib.ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.connect_ex(full.getsockname())
        proxy = tcp("127.0.0.1:%d" % full.getsockname()[1],
                    listener={"protocol": "tls_passthrough"})
        data = hello("a.example") + text(100)
        sock = connect(proxy.port)
        taken(sock, data)
        for _ in range(20):
            proxy.metrics()
        reset(sock)
        for _ in range(20):
            proxy.metrics()
        assert not proxy.all_lines()
        tcpsite.guarded(full)
        while True:
            sock, _ = full.accept()
            tcpsite.guarded(sock)
            stack.enter_context(sock)
            sock.settimeout(0.2)
            with contextlib.suppress(TimeoutError):
                how = tcpsite.ended(sock)
                if how != ("fin", b""):
                    break
        assert how == ("reset", data)
        one_line(proxy, "client.reset")


def test_reset_without_a_byte_while_connecting(tcp, authority, slow):
    """Nobody is left who wants the connection: at once."""
    proxy = tcp(slow.site, pool=upstream_tls(authority))
    sock = connect(proxy.port)
    slow.site.served(1)
    reset(sock)
    one_line(proxy, "client.reset")


def test_connect_is_waited_for_no_longer(tcp, authority, slow):
    proxy = tcp(slow.site, pool={**upstream_tls(authority), "timeouts": {"connect": "500ms"},
                                 "retry": {"attempts": 1}})
    sock = connect(proxy.port)
    slow.site.served(1)
    taken(sock, text(100))
    reset(sock)
    record = proxy.logged(weir__pool="db")
    assert record["weir.end"].startswith("upstream.") and record["weir.bytes.received"] == 0
    eventually(lambda: proxy.metric("weir_tcp_sessions") == 0)


def test_who_has_left_is_not_queued(tcp, endpoint, ends):
    """Its place is for others; who reset before it got one has none either."""
    def serve(sock):
        ends.at.set()
        ends.go.wait(60)
    site = endpoint(serve)
    proxy = tcp(site, pool={"connections": {"max_per_endpoint": 1, "queue_timeout": "10m"}})
    with connect(proxy.port):
        assert ends.at.wait(60)
        with stopped(proxy):
            sock = connect(proxy.port)
            taken(sock, b"abc")
            reset(sock)
        proxy.ended("client.reset")
        assert len(site.sockets) == 1 and proxy.metric("weir_upstream_queued") == 0


# ---- an endpoint that reads late, and one that never does ----

@pytest.mark.parametrize("size", [100, 60000])
def test_what_is_left_is_not_kept_for_ever(tcp, authority, ends, size):
    """The endpoint takes the connection and nothing of what the client left: timeouts.send."""
    go = threading.Event()
    context = server_context(authority)

    def serve(sock):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        go.wait(60)
        with context.wrap_socket(sock, server_side=True):
            ends.go.wait(60)
    site = tcpsite.Endpoint(serve)
    try:
        proxy = tcp(site, pool=upstream_tls(authority), listener={"timeouts": {"send": "1s"}})
        sock = connect(proxy.port)
        site.served(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
        sock.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while size > 100:
                sock.send(bytes(1 << 16))
        if size == 100:
            sock.send(bytes(size))
        for _ in range(20):
            proxy.metrics()
        reset(sock)
        go.set()
        proxy.ended("client.reset")
    finally:
        ends.go.set()
        site.stop()


# ---- behind the reset of an endpoint ----

def gives_and_resets(ends, size):
    """An endpoint that sends until nothing moves, and resets; how much weir's system has of it."""
    data = text(size)

    def serve(sock):
        sock.setblocking(False)
        sent, seen = 0, []

        def stands():
            nonlocal sent
            try:
                while sent < size:
                    sent += sock.send(data[sent:sent + 16384])
            except (BlockingIOError, ssl.SSLWantWriteError):
                pass
            seen.append((sent, unsent(sock)))
            return len(seen) > 20 and seen[-20] == seen[-1]
        eventually(stands)
        ends.seen.append(sent - unsent(sock))
        reset(sock)
        ends.at.set()
    return serve


def small_window(port, window=65536):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, window)
    sock.connect(("127.0.0.1", port))
    return tcpsite.guarded(sock)


@pytest.mark.parametrize("size", [400000, 3000000])
def test_client_that_pauses_gets_what_the_endpoint_left(tcp, endpoint, ends, size):
    """By far longer than its system would wait; what it takes then begins its time anew."""
    proxy = tcp(endpoint(gives_and_resets(ends, size)))
    with small_window(proxy.port) as sock:
        assert ends.at.wait(60)
        time.sleep(4)
        assert not proxy.all_lines()
        data = sock.recv(100)
        time.sleep(4)
        how, rest = tcpsite.ended(sock)
        assert how == "reset" and data + rest == text(size)[:ends.seen[0]]
    proxy.ended("upstream.reset")


@pytest.mark.parametrize("size", [400000, 3000000])
def test_client_that_takes_nothing_has_timeouts_send(tcp, endpoint, ends, size):
    proxy = tcp(endpoint(gives_and_resets(ends, size)), listener={"timeouts": {"send": "1s"}})
    with small_window(proxy.port) as sock:
        assert ends.at.wait(60)
        began = time.monotonic()
        proxy.ended("upstream.reset")
        assert 0.5 < time.monotonic() - began < 20
        how, data = tcpsite.ended(sock)
        assert how == "reset" and len(data) < ends.seen[0]


@pytest.mark.parametrize("first", ["client", "endpoint"])
def test_both_reset_while_nothing_moves(tcp, endpoint, ends, first):
    """Nobody is left to take what the other one left."""
    sides = {}

    def serve(sock):
        sides["endpoint"] = sock
        ends.at.set()
        ends.go.wait(60)
    proxy = tcp(endpoint(serve))
    sides["client"] = connect(proxy.port)
    assert ends.at.wait(60)
    for each in sides.values():
        each.setblocking(False)
    sent = []

    def full():
        count = 0
        for each in sides.values():
            with contextlib.suppress(BlockingIOError):
                while True:
                    count += each.send(bytes(1 << 16))
        sent.append(count)
        return len(sent) > 20 and not any(sent[-20:])
    eventually(full)
    linger = struct.pack("ii", 1, 0)
    order = [first, "endpoint" if first == "client" else "client"]
    for name in order:
        sides[name].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    sides[order[0]].close()
    for _ in range(20):
        proxy.metrics()
    assert not proxy.all_lines()
    sides[order[1]].close()
    began = time.monotonic()
    proxy.ended("client.reset" if first == "client" else "upstream.reset")
    assert time.monotonic() - began < 2
    ends.go.set()
    eventually(lambda: proxy.metric("weir_tcp_sessions") == 0)
