"""How sessions of TCP end (packaging/docs/tcp.md) when an end comes late, in the middle of bulk,
or while the other side does not read: a reset stays a reset, and waits for nobody for ever."""
import contextlib
import socket
import ssl
import threading

import pytest

from harness import tcpsite
from harness.tcpsite import connect, exactly, reset, to_end
from harness.weir import eventually
from test_tcp import endpoint, tcp, tls_listener  # noqa: F401  pylint: disable=unused-import

MIB = 1 << 20


class Ends:
    """What an endpoint saw of its connections."""

    def __init__(self):
        self.seen, self.go, self.at = [], threading.Event(), threading.Event()

    def see(self, sock):
        self.seen.append(tcpsite.ended(sock))

    def first(self):
        eventually(lambda: self.seen)
        return self.seen[0][0]


@pytest.fixture
def ends():
    made = Ends()
    yield made
    made.go.set()


TCP_CLOSE = 7  # of tcp_info.state: what a reset leaves; a FIN alone leaves another one


def broken(sock):
    """Waits for the socket's connection to be reset, without reading."""
    eventually(lambda: after(sock) == "reset")
    return "reset"


def after(sock):
    """How the connection ended that gave an error or an end: Python's TLS does not say."""
    state = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
    return "reset" if state == TCP_CLOSE else "fin"


def flood(sock):
    """Sends until it cannot, and how it was told."""
    block = bytes(MIB)
    try:
        while True:
            sock.sendall(block)
    except OSError:
        return after(sock)


# ---- after one half has ended ----

def test_client_resets_after_its_fin(tcp, endpoint, ends):
    """The endpoint still works on its answer: it is told that nobody wants it."""
    def serve(sock):
        assert to_end(sock) == b"question"
        ends.at.set()
        sock.sendall(b"!")
        ends.seen.append(broken(sock))
    proxy = tcp(endpoint(serve))
    sock = connect(proxy.port)
    sock.sendall(b"question")
    sock.shutdown(socket.SHUT_WR)
    assert exactly(sock, 1) == b"!"
    reset(sock)
    eventually(lambda: ends.seen)
    assert ends.seen == ["reset"]
    proxy.ended("client.reset")


def test_endpoint_resets_after_its_fin(tcp, endpoint, ends):
    def serve(sock):
        sock.sendall(b"bye")
        sock.shutdown(socket.SHUT_WR)
        assert exactly(sock, 2) == b"ok"
        reset(sock)
    proxy = tcp(endpoint(serve))
    with connect(proxy.port) as sock:
        assert to_end(sock) == b"bye"
        sock.sendall(b"ok")
        assert broken(sock) == "reset"
    proxy.ended("upstream.reset")


# ---- in the middle of bulk ----

@pytest.mark.parametrize("tls", ["plain", "front", "behind", "both"])
@pytest.mark.parametrize("who", ["client", "endpoint"])
@pytest.mark.parametrize("way", ["up", "down"])
def test_reset_in_bulk(tcp, endpoint, ends, authority, tls, who, way):
    """The side that reads, or the side that writes, resets; the other one sees a reset."""
    leaf = authority.leaf(["db.internal"])
    context = None
    if tls in ("behind", "both"):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf["cert"][5:], leaf["key"][5:])

    def part(sock, mine, writes):
        if mine:
            if writes:
                for _ in range(20):
                    sock.sendall(bytes(MIB))
            else:
                exactly(sock, 20 * MIB)
            raw = sock.detach() if hasattr(sock, "unwrap") else None
            reset(socket.socket(fileno=raw) if raw is not None else sock)
            return "gone"
        return flood(sock) if writes else seen(sock)

    def seen(sock):
        try:
            to_end(sock)
        except OSError:
            pass
        return after(sock)

    result = {}

    def serve(sock):
        result["endpoint"] = part(sock, who == "endpoint", way == "down")
    pool = {"tls": {"ca": "file:%s" % authority.path, "sni": "db.internal"}} if context else None
    proxy = tcp(endpoint(serve, context=context), pool=pool,
                listener=tls_listener(authority) if tls in ("front", "both") else None)
    sock = connect(proxy.port)
    if tls in ("front", "both"):
        sock = authority.client_context().wrap_socket(sock, server_hostname="db.example")
    with sock:
        result["client"] = part(sock, who == "client", way == "up")
    other = "endpoint" if who == "client" else "client"
    eventually(lambda: other in result)
    assert result[other] == "reset", result
    proxy.ended("client.reset" if who == "client" else "upstream.reset")


# ---- while nobody reads ----

def stands(counts):
    """The count has not moved for a while."""
    seen = []

    def still():
        seen.append(counts[0])
        return len(seen) > 50 and seen[-50] == seen[-1] > 0
    eventually(still)


def pour(sock, counts):
    """Sends without waiting, until it stands."""
    sock.setblocking(False)
    block = bytes(65536)

    def full():
        try:
            while True:
                counts[0] += sock.send(block)
        except BlockingIOError:
            pass
        stood.append(counts[0])
        return len(stood) > 50 and stood[-50] == stood[-1]
    stood = []
    eventually(full)


@pytest.mark.parametrize("amount", ["bulk", "little"])
def test_client_resets_what_the_endpoint_does_not_read(tcp, endpoint, ends, amount):
    def serve(sock):
        ends.go.wait(60)
        ends.see(sock)
    proxy = tcp(endpoint(serve), listener={"timeouts": {"send": "1s"}})
    sock, counts = connect(proxy.port), [0]
    if amount == "bulk":
        pour(sock, counts)
    else:
        sock.sendall(bytes(100))
        eventually(lambda: proxy.metric("weir_tcp_sessions") == 1)
    reset(sock)
    proxy.ended("client.reset")
    ends.go.set()
    assert ends.first() == "reset"


def test_endpoint_resets_what_the_client_does_not_read(tcp, endpoint, ends):
    counts = [0]

    def serve(sock):
        pour(sock, counts)
        ends.at.set()
        reset(sock)
    proxy = tcp(endpoint(serve), listener={"timeouts": {"send": "1s"}})
    with connect(proxy.port) as sock:
        assert ends.at.wait(60)
        proxy.ended("upstream.reset")
        assert tcpsite.ended(sock)[0] == "reset"


# ---- what was said before the end ----

def test_last_words_before_a_reset(tcp, endpoint):
    """A server that turns a client away says why, and has not read what the client sent: the
    system makes a reset of its close. The words come through as they would without weir."""
    def refuse(sock):
        sock.recv(1, socket.MSG_PEEK)
        sock.sendall(b"-ERR max number of clients reached\r\n")  # and closes
    proxy = tcp(endpoint(refuse))
    for _ in range(30):
        with connect(proxy.port) as sock:
            sock.sendall(b"PING\r\n")
            assert tcpsite.ended(sock) == ("reset", b"-ERR max number of clients reached\r\n")
    proxy.ended("upstream.reset", )


@pytest.mark.parametrize("first", ["client", "endpoint"])
def test_close_notify_reaches_the_endpoint(tcp, endpoint, ends, authority, first):
    """Both sides ended theirs: none of them was cut."""
    leaf = authority.leaf(["db.internal"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"][5:], leaf["key"][5:])

    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF

    def serve(sock):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_side=True)

        def step(what):
            while True:
                try:
                    return what()
                except ssl.SSLWantReadError:
                    sock.sendall(outgoing.read())
                    data = sock.recv(65536)
                    incoming.write(data) if data else incoming.write_eof()
        step(tls.do_handshake)
        tls.write(b"!")
        sock.sendall(outgoing.read())
        try:
            if first == "endpoint":
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.unwrap()
                sock.sendall(outgoing.read())
            with contextlib.suppress(ssl.SSLZeroReturnError):  # another error: no close_notify
                assert step(lambda: tls.read(1)) == b""
            ends.seen.append(["whole"])
            if first == "client":
                with contextlib.suppress(ssl.SSLWantReadError):
                    tls.unwrap()
                sock.sendall(outgoing.read())
        except OSError as error:
            ends.seen.append([repr(error)])
    proxy = tcp(endpoint(serve),
                pool={"tls": {"ca": "file:%s" % authority.path, "sni": "db.internal"}})
    for count in range(1, 11):
        with connect(proxy.port) as sock:
            assert exactly(sock, 1) == b"!"
            if first == "client":
                sock.shutdown(socket.SHUT_WR)
            assert to_end(sock) == b""
        eventually(lambda: len(ends.seen) == count)
    assert [each[0] for each in ends.seen] == ["whole"] * 10
    proxy.ended("ok")
