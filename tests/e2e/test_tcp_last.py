"""What is passed on before the end of a session of TCP that nobody announced (packaging/docs/
tcp.md): TLS that ends by a FIN without close_notify, a reset behind bytes. Whoever gets the bytes
begins to read late, when weir has long heard of the end."""
import array
import fcntl
import os
import socket
import ssl
import termios
import threading

import pytest

from harness import tcpsite
from harness.tcpsite import connect, exactly, reset, to_end
from harness.weir import eventually
from test_tcp import endpoint, tcp, tls_listener  # noqa: F401  pylint: disable=unused-import
from test_tcp_ends import Ends, after, ends  # noqa: F401  pylint: disable=unused-import

SIZE = 400000
RECORD = 1 << 15  # of TLS, with room for what encryption adds to megabytes
DATA = os.urandom(SIZE)
MUCH = DATA * 80  # more than all buffers on the way


def server_context(authority):
    leaf = authority.leaf(["db.internal"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"][5:], leaf["key"][5:])
    return context


def upstream_tls(authority):
    return {"tls": {"ca": "file:%s" % authority.path, "sni": "db.internal"}}


def shut(sock):
    """A FIN and nothing else, of a TLS socket too."""
    with socket.socket(fileno=os.dup(sock.fileno())) as raw:
        raw.shutdown(socket.SHUT_WR)


def late(sock, seen, sent=DATA):
    """All that comes, and how it ends."""
    data = bytearray()
    try:
        while True:
            more = sock.recv(1 << 16)
            if not more:
                break
            data += more
    except OSError:
        pass
    seen.append((sent.startswith(data), len(data), after(sock)))


def heard(proxy, metric):
    """All was read that is while the other side does not read, and some turns passed since."""
    seen = []

    def stands():
        seen.append(proxy.metric(metric))
        return len(seen) > 20 and seen[-20] == seen[-1] > 0
    eventually(stands)


def unsent(sock):
    """How much of what was sent the other side's system does not have."""
    count = array.array("i", [0])
    fcntl.ioctl(sock, termios.TIOCOUTQ, count)
    return count[0]


def opened(proxy, authority, tls):
    sock = connect(proxy.port)
    if not tls:
        return sock
    return authority.client_context().wrap_socket(sock, server_hostname="db.example")


@pytest.mark.parametrize("behind", ["plain", "tls"])
def test_client_ends_without_close_notify(tcp, endpoint, ends, authority, behind):
    def serve(sock):
        ends.go.wait(60)
        late(sock, ends.seen)
    tls = behind == "tls"
    proxy = tcp(endpoint(serve, context=server_context(authority) if tls else None),
                pool=upstream_tls(authority) if tls else None, listener=tls_listener(authority))
    with opened(proxy, authority, True) as sock:
        sock.sendall(DATA)
        shut(sock)
        heard(proxy, "weir_tcp_received_bytes_total")
        ends.go.set()
        eventually(lambda: ends.seen)
    assert ends.seen == [(True, SIZE, "reset")]
    record = proxy.ended("client.closed")
    assert record["weir.bytes.received"] == SIZE


@pytest.mark.parametrize("front", ["plain", "tls"])
def test_endpoint_ends_without_close_notify(tcp, endpoint, ends, authority, front):
    def serve(sock):
        sock.sendall(DATA)
        shut(sock)
        ends.at.set()
        ends.go.wait(60)
    proxy = tcp(endpoint(serve, context=server_context(authority)), pool=upstream_tls(authority),
                listener=tls_listener(authority) if front == "tls" else None)
    with opened(proxy, authority, front == "tls") as sock:
        assert ends.at.wait(60)
        heard(proxy, "weir_tcp_sent_bytes_total")
        late(sock, ends.seen)
    assert ends.seen == [(True, SIZE, "reset")]
    proxy.ended("upstream.closed")


@pytest.mark.parametrize("who", ["client", "endpoint"])
def test_reset_behind_bytes(tcp, endpoint, ends, who):
    """What weir's system has the sender's reset does not take back."""
    metric = "weir_tcp_received_bytes_total" if who == "client" else "weir_tcp_sent_bytes_total"
    proxy, lost = None, []

    def cut(sock):
        sock.sendall(DATA)
        heard(proxy, metric)
        lost.append(unsent(sock))
        reset(sock)
        ends.at.set()

    def serve(sock):
        if who == "client":
            ends.go.wait(60)
            late(sock, ends.seen)
        else:
            exactly(sock, 1)
            cut(sock)
    proxy = tcp(endpoint(serve))
    sock = connect(proxy.port)
    if who == "client":
        cut(sock)
    else:
        sock.sendall(b"?")
    assert ends.at.wait(60)
    for _ in range(20):
        proxy.metrics()
    ends.go.set()
    if who == "endpoint":
        late(sock, ends.seen)
        sock.close()
    eventually(lambda: ends.seen)
    assert ends.seen == [(True, SIZE - lost[0], "reset")] and lost[0] < SIZE / 2
    proxy.ended("client.reset" if who == "client" else "upstream.reset")


def fill(proxy, sock):
    """Sends until nothing moves any more, weir holds some and its system more; how much went."""
    sent, seen = 0, []
    sock.settimeout(0)

    def stands():
        nonlocal sent
        try:
            while True:
                sent += sock.send(MUCH[sent:sent + 65536])
        except (BlockingIOError, ssl.SSLWantWriteError):
            pass
        seen.append((sent, proxy.metric("weir_tcp_received_bytes_total")))
        return len(seen) > 20 and seen[-20] == seen[-1]
    eventually(stands)
    assert sent < len(MUCH)
    return sent


@pytest.mark.parametrize("told", ["read", "send"])
@pytest.mark.parametrize("front", ["plain", "tls"])
def test_reset_behind_what_was_held_up(tcp, endpoint, ends, authority, front, told):
    """The endpoint begins to read when the client is gone: it gets what weir holds, and what its
    system has; also where a send to the client was what told of the reset."""
    def serve(sock):
        ends.at.wait(60)
        if told == "send":
            sock.sendall(b"too late")
        ends.go.wait(60)
        late(sock, ends.seen, MUCH)
    slack = RECORD if front == "tls" else 0
    proxy = tcp(endpoint(serve), listener=tls_listener(authority) if slack else None)
    sock = opened(proxy, authority, slack)
    went = fill(proxy, sock)
    went -= unsent(sock)
    reset(sock)
    ends.at.set()
    for _ in range(20):
        proxy.metrics()
    ends.go.set()
    eventually(lambda: ends.seen)
    same, size, end = ends.seen[0]
    assert same and end == "reset"
    assert size >= went - slack if slack else size == went
    proxy.ended("client.reset")


def test_reset_behind_ciphertext(tcp, endpoint, ends, authority):
    """The same of TLS: all records that weir's system has whole."""
    def serve(sock):
        ends.go.wait(60)
        late(sock, ends.seen)
    proxy = tcp(endpoint(serve), listener=tls_listener(authority))
    with opened(proxy, authority, True) as sock:
        sock.sendall(DATA)
        heard(proxy, "weir_tcp_received_bytes_total")
        lost = unsent(sock)
        reset(sock)
    for _ in range(20):
        proxy.metrics()
    ends.go.set()
    eventually(lambda: ends.seen)
    same, size, end = ends.seen[0]
    assert same and end == "reset" and SIZE - lost - (1 << 14) <= size <= SIZE
    proxy.ended("client.reset")


@pytest.mark.parametrize("told", ["read", "send"])
def test_what_nobody_takes_is_given_up(tcp, endpoint, ends, told):
    """An endpoint that never reads does not keep a session whose client reset it."""
    gone = threading.Event()

    def serve(sock):
        ends.at.set()
        if told == "send":
            gone.wait(60)
            sock.sendall(b"too late")
        ends.go.wait(60)
    proxy = tcp(endpoint(serve), listener={"timeouts": {"send": "1s"}})
    sock = connect(proxy.port)
    assert ends.at.wait(60)
    sock.setblocking(False)
    with pytest.raises(BlockingIOError):
        while True:
            sock.send(bytes(1 << 16))
    reset(sock)
    gone.set()
    proxy.ended("client.reset")
    eventually(lambda: proxy.metric("weir_tcp_sessions") == 0)


def test_client_just_closes_after_the_endpoint(tcp, endpoint, authority):
    """The endpoint has said all that it had to; so has the client."""
    def serve(sock):
        exactly(sock, 4)
        sock.sendall(b"bye")
    proxy = tcp(endpoint(serve), listener=tls_listener(authority))
    with opened(proxy, authority, True) as sock:
        sock.sendall(b"quit")
        assert to_end(sock) == b"bye"
        shut(sock)
        record = proxy.ended("ok")
    assert "error.type" not in record


def test_upload_after_the_endpoint_ended_its_half(tcp, endpoint, ends, authority):
    """That half is complete; what the client sends since may be cut."""
    def serve(sock):
        sock.sendall(b"go on")
        sock.shutdown(socket.SHUT_WR)
        ends.see(sock)
    proxy = tcp(endpoint(serve), listener=tls_listener(authority))
    with opened(proxy, authority, True) as sock:
        assert to_end(sock) == b"go on"
        sock.sendall(b"part of it")
        shut(sock)
        eventually(lambda: ends.seen)
    assert ends.seen == [("reset", b"part of it")]
    proxy.ended("client.closed")


def test_session_that_waits_ends_with_the_drain(tcp, endpoint, ends, authority):
    """What waits to be taken by the other side has no longer than any session."""
    def serve(sock):
        ends.go.wait(60)
        ends.see(sock)
    proxy = tcp(endpoint(serve), listener=tls_listener(authority), process={"drain": "300ms"})
    with opened(proxy, authority, True) as sock:
        sent, block = 0, bytes(1 << 16)
        sock.settimeout(1)
        try:
            while True:
                sent += sock.send(block)
        except OSError:
            pass
        shut(sock)
        proxy.stop()
    ends.go.set()
    eventually(lambda: ends.seen)
    assert ends.seen[0][0] == "reset"


# ---- a peer that is gone without a word ----

ASKS = (60, 10, 6)


def test_keepalive_of_a_session(tcp, endpoint):
    """Both sides of it: a database's sessions have no timeout of weir's."""
    site = endpoint()
    proxy = tcp(site, listener={"timeouts": {"tunnel": "0s"}})
    with connect(proxy.port) as sock:
        sock.sendall(b"!")
        assert exactly(sock, 1) == b"!"
        assert tcpsite.keepalive(proxy.pid, proxy.port) == [ASKS]
        assert tcpsite.keepalive(proxy.pid, site.port) == [ASKS]


def test_keepalive_of_a_websocket(weir, endpoint):
    """Both sides; but no endpoint connection that serves requests: the pool's times are for it."""
    def serve(sock):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(sock, 1)
        if b"/chat" in head:
            sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                         b"Upgrade: websocket\r\n"
                         b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")
            tcpsite.echo(sock)
        else:
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            sock.recv(1)
    site = endpoint(serve)
    proxy = weir({"pools": {"app": {"endpoints": [site.address]}}, "routes": [{"pool": "app"}]})
    assert proxy.get("/").status == 200
    assert tcpsite.keepalive(proxy.pid, site.port) == [None]
    with connect(proxy.port) as sock:
        sock.sendall(b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                     b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                     b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += exactly(sock, 1)
        assert head.startswith(b"HTTP/1.1 101 ")
        eventually(lambda: ASKS in tcpsite.keepalive(proxy.pid, site.port))
        assert ASKS in tcpsite.keepalive(proxy.pid, proxy.port)
