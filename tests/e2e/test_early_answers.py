"""A client that goes on with its body after the answer came: RFC 9112 section 9.6. It is not reset
while it has yet to read the answer, whoever gave it and with TLS or without; nor is it waited for
longer than the linger time."""
import contextlib
import os
import select
import socket
import ssl
import time

import pytest

from harness import proc, wire
from harness.weir import GUARD, eventually

UPLOAD = 8 << 20
HEAD = b"POST /up HTTP/1.1\r\nHost: a.example\r\nContent-Length: %d\r\n\r\n" % UPLOAD
LINGER_S = 2
CONNECTIONS = 20


@pytest.fixture(params=["plain", "tls", "unix"])
def kind(request):
    return request.param


@pytest.fixture
def connect(weir, new_backend, authority, work, kind):
    """Begins the upload on a connection that is answered 413 at once: by weir's limit, or by the
    endpoint."""
    def make(by_endpoint=False):
        backend = new_backend(lambda conn, _request: conn.send(
            wire.response_bytes(413, b"too much", reason="Too Large")))
        at = "unix:%s" % (work / "in.sock") if kind == "unix" else proc.free_port()
        listener = {"limits": {"body_bytes": "1GiB" if by_endpoint else "100KiB"},
                    "bind": at if kind == "unix" else "127.0.0.1:%d" % at}
        if kind == "tls":
            listener["tls"] = {"certificates": [authority.leaf(["a.example"])]}
        made = weir({"listeners": {"web": {}, "up": listener},
                     "process": {"workers": 1, "max_connections": CONNECTIONS}}, backend)
        made.up = at
        return made, begin(made, authority, kind)
    return make


def begin(made, authority, kind):
    context = authority.client_context() if kind == "tls" else None
    conn = made.client(made.up, tls=context, sni="a.example" if context else None)
    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 100000)
    conn.send(HEAD)
    return conn


class Writer:
    """Sends the body as a client does whose writer is one thread and whose reader another."""

    def __init__(self, conn):
        self.conn, self.left = conn, UPLOAD
        conn.sock.setblocking(False)

    def write(self):
        """Some of it; False: nobody takes any. What is wrong is raised."""
        piece = b"x" * min(self.left, 16384)
        try:
            self.left -= self.conn.sock.send(piece)
            return True
        except (BlockingIOError, ssl.SSLWantWriteError):
            return False

    def stop(self, quiet=0.3):
        """Sends until nobody has taken any for a while."""
        until = time.monotonic() + quiet
        while time.monotonic() < until:
            if self.write():
                until = time.monotonic() + quiet
            else:
                select.select([], [self.conn.sock], [], 0.05)
        assert 0 < self.left < UPLOAD - 300000, "it was to be stopped behind 256 KiB"


@pytest.mark.parametrize("by_endpoint", [False, True])
def test_the_writer_does_not_fail_before_the_answer_was_read(connect, by_endpoint):
    proxy, conn = connect(by_endpoint)
    writer = Writer(conn)
    writer.stop()
    conn.sock.settimeout(GUARD)
    response = conn.response("POST")
    assert response.status == 413 and response.get("connection") == "close"
    conn.expect_close()
    assert not conn.reader.reset
    conn.sock.setblocking(False)
    assert not writer.write()
    conn.close()
    proxy.ended("ok" if by_endpoint else "proxy.limit.body_bytes", path="/up", status=413)


def test_who_neither_reads_nor_ends_is_closed_in_time(connect):
    proxy, conn = connect()
    begin = time.monotonic()
    Writer(conn).stop()
    poll = select.poll()
    poll.register(conn.sock, 0)
    assert poll.poll(GUARD * 1000), "the connection was never closed"
    assert LINGER_S - 0.1 < time.monotonic() - begin < LINGER_S + 10
    assert proxy.get("/other").status == 413


def test_who_leaves_is_not_waited_for(connect):
    """A reset that comes behind unread bytes ends it at once."""
    proxy, conn = connect()

    def descriptors():
        return len(os.listdir("/proc/%d/fd" % proxy.pid))
    Writer(conn).stop()
    before, begin = descriptors(), time.monotonic()
    conn.reset()

    def gone():
        """its descriptor was closed"""
        return descriptors() < before
    eventually(gone)
    assert time.monotonic() - begin < 1


def test_many_of_them_keep_nobody_out(connect, authority, kind):
    """There are more of them than places; who comes behind them does not wait for their time."""
    proxy, conn = connect()
    writers = [Writer(conn)]
    for _ in range(3 * CONNECTIONS):
        writers.append(Writer(begin(proxy, authority, kind)))
        assert select.select([writers[-1].conn.sock], [], [], GUARD)[0]  # it was answered
        with contextlib.suppress(OSError):  # not all are waited for
            for _ in range(40):
                writers[-1].write()
    since = time.monotonic()
    assert proxy.get("/other").status == 413
    assert time.monotonic() - since < LINGER_S / 2


@pytest.mark.parametrize("uploads", [False, True])
def test_a_drain_waits_no_longer_than_for_others(connect, uploads):
    proxy, conn = connect()
    proxy.clients.remove(conn)  # which stop() would close
    if uploads:
        Writer(conn).stop(0.1)
    begin = time.monotonic()
    proxy.stop()
    assert time.monotonic() - begin < LINGER_S + 0.5
    conn.close()
