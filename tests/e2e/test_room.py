"""A client that comes when there are max_connections: one that asks for nothing, or is idle, makes
room for it. Who has a request is never ended for others. The exact order is a test in C
(tests/unit/proxy/test_room.c)."""
import contextlib
import os
import re
import select
import socket
import ssl
import threading
import time

import pytest

from harness import client, proc, tcpsite, wire
from harness.h2fixtures import dial  # noqa: F401
from harness.weir import eventually

FULL = re.compile(r"process\.max_connections = (\d+) is reached, (\d+) for each of (\d+) "
                  r"workers?, and none of a full worker's clients was idle: "
                  r"(\d+) times one was refused")
H2C = {"web": {"protocols": ["h2c", "http/1.1"]}}


def settled():
    time.sleep(0.15)  # from then on a connection is idle, and not between two requests


def idle(proxy, count):
    made = [proxy.client() for _ in range(count)]
    for conn in made:
        assert conn.get("/idle").status == 200
    settled()
    return made


def busy(proxy, count):
    """Connections with a request that has not ended."""
    made = [proxy.client() for _ in range(count)]
    for conn in made:
        conn.send(b"POST /busy HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
    eventually(lambda: proxy.metric("weir_requests_inflight") >= count)
    return made


def displaced(proxy):
    return proxy.metric("weir_downstream_connections_displaced_total")


def refused(proxy):
    return proxy.metric("weir_downstream_connections_refused_total")


def is_open(conn):
    try:
        return conn.get("/still").status == 200
    except (AssertionError, OSError, wire.Truncated):
        return False


def full(weir, backend, most=50, **more):
    return weir({"process": {"workers": 1, "max_connections": most}, **more}, backend)


def test_idle_ones_make_room(weir, backend):
    """As many new ones as there were are served, and stay; then all are busy or new."""
    proxy = full(weir, backend)
    old = idle(proxy, 50)
    new = [proxy.client() for _ in range(50)]
    for conn in new:
        assert conn.get("/new").status == 200
    assert displaced(proxy) == 50 and refused(proxy) == 0
    assert not any(is_open(conn) for conn in old) and displaced(proxy) == 50
    assert all(is_open(conn) for conn in new)


def test_the_longest_idle_goes(weir, backend):
    proxy = full(weir, backend, 8)
    held = idle(proxy, 8)
    assert all(is_open(conn) for conn in held[:5])
    settled()
    assert [proxy.get("/new").status for _ in range(1)] == [200]
    held.append(proxy.client())
    assert held[-1].get("/kept").status == 200
    assert displaced(proxy) == 1
    held.append(proxy.client())
    assert held[-1].get("/kept").status == 200
    assert displaced(proxy) == 2
    assert [is_open(conn) for conn in held] == [True] * 5 + [False, False, True, True, True]


def test_busy_ones_stay(weir, backend):
    proxy = full(weir, backend, 20)
    works = busy(proxy, 10)
    begun = [proxy.client() for _ in range(5)]
    for conn in begun:
        assert conn.get("/idle").status == 200
        conn.send(b"GET /begun HT")
    first = proxy.client()
    first.send(b"GET /first ")
    quiet = idle(proxy, 4)
    for number in range(30):
        with proxy.client() as conn:
            assert conn.get("/new/%d" % number).status == 200
    for conn in works:
        conn.send(b"whole")
        assert conn.response("POST").status == 200
    for conn in begun:
        conn.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        assert conn.response().status == 200
    first.send(b"HTTP/1.1\r\nHost: a\r\n\r\n")
    assert first.response().status == 200
    assert refused(proxy) == 0 and displaced(proxy) >= 1
    assert sum(is_open(conn) for conn in quiet) == 4 - displaced(proxy)


def test_all_are_busy(weir, backend):
    """Then a new one is refused, and the error log says so, now and then."""
    proxy = full(weir, backend, 10)
    works = busy(proxy, 10)
    for _ in range(5):
        _, response = proxy.exchange(wire.request_bytes(target="/late"))
        assert response.status == 503
    eventually(lambda: FULL.search(proxy.errors))
    time.sleep(2.5)
    told = FULL.findall(proxy.errors)
    assert len(told) == 1 and told[0][:3] == ("10", "10", "1") and 1 <= int(told[0][3]) <= 5
    assert "(proxy.limit.connections)" in proxy.errors and displaced(proxy) == 0
    for conn in works:
        conn.send(b"whole")
        assert conn.response("POST").status == 200


def test_share_of_a_worker_is_told(weir, backend):
    proxy = weir({"process": {"workers": 2, "max_connections": 9}}, backend)
    works = [proxy.client() for _ in range(30)]
    for conn in works:
        conn.try_send(b"POST /busy HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
    eventually(lambda: FULL.search(proxy.errors))
    assert FULL.search(proxy.errors).groups()[:3] == ("9", "5", "2")


def test_idle_ones_of_another_listener(weir, backend):
    port = proc.free_port()
    proxy = full(weir, backend, 6, listeners={"web": {},
                                              "other": {"bind": "127.0.0.1:%d" % port}})
    held = idle(proxy, 6)
    for _ in range(3):
        conn = client.Client(port)
        held.append(conn)
        assert conn.get("/new").status == 200
    assert displaced(proxy) == 3 and sum(is_open(conn) for conn in held) == 6


def test_http2(weir, backend, dial):  # noqa: F811
    """One without streams is told (GOAWAY), one with streams stays."""
    proxy = full(weir, backend, 4, listeners=H2C)
    quiet, works = dial(proxy), dial(proxy)
    assert works.get().status == 200 and quiet.get().status == 200
    upload = works.open("POST", "/upload", end=False)
    held = busy(proxy, 2)
    settled()
    for number in range(5):
        with proxy.client() as conn:
            assert conn.get("/new/%d" % number).status == 200
    quiet.pump(lambda: quiet.check.goaways, what="GOAWAY")
    quiet.expect_closed()
    works.data(upload, b"whole")
    assert works.wait(upload).status == 200
    for conn in held:
        conn.send(b"whole")
        assert conn.response("POST").status == 200
    assert displaced(proxy) == 1 and refused(proxy) == 0


LIMIT = "proxy.limit.connections"
OWED = 3.1  # seconds after which who owes a request goes before who is idle


def begin_hello(port, authority):
    """A handshake that its client does not go on with."""
    conn = client.Client(port)
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = authority.client_context().wrap_bio(incoming, outgoing, server_hostname="a.example")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    conn.send(outgoing.read())
    return conn


def secure(authority):
    return {"tls": {"certificates": [
        dict(names=["a.example"], **authority.leaf(["a.example"]))]}}


def test_those_that_owe_a_request_go_first(weir, backend, dial, authority):  # noqa: F811
    """Slowloris: heads that stay in parts, handshakes that stand still, HTTP/2 without a stream.
    They make room before those who are idle, with a line for each; one that has its request does
    not."""
    port = proc.free_port()
    proxy = full(weir, backend, 13, listeners={
        **H2C, "secure": {"bind": "127.0.0.1:%d" % port, **secure(authority)}})
    works = busy(proxy, 2)
    quiet = idle(proxy, 5)
    heads = [proxy.client() for _ in range(3)]
    for conn in heads:
        conn.send(b"GET /begun HTTP/1.1\r\nHost")
    hello = begin_hello(port, authority)
    spoken = dial(proxy)
    spoken.pump(lambda: spoken.check.settings_seen, what="SETTINGS")
    with_head = proxy.client()
    with_head.send(b"GET /whole HTTP/1.1\r\nHo")
    time.sleep(OWED - 1)
    with_head.send(b"st: a\r\n\r\n")
    assert with_head.response().status == 200
    time.sleep(1)
    new = [proxy.client() for _ in range(5)]
    for conn in new:
        assert conn.get("/new").status == 200
    assert displaced(proxy) == 5 and refused(proxy) == 0
    for conn in heads:
        assert conn.response().status == 503
        conn.expect_close()
    while hello.sock.recv(65536):  # up to its end
        pass
    spoken.pump(lambda: spoken.check.goaways, what="GOAWAY")
    proxy.logged(5, end=LIMIT)
    assert proxy.metric("weir_tls_handshake_failures_total") == 1
    assert all(is_open(conn) for conn in [*quiet, *new, with_head])
    for conn in works:
        conn.send(b"whole")
        assert conn.response("POST").status == 200


@pytest.mark.parametrize("more", [15, 16, 60])
def test_flood_of_the_silent(weir, backend, more):
    """However many come and say nothing, who does say something is served when they have had their
    second: also where there were so many that nobody was accepted any more."""
    proxy = full(weir, backend, 40)
    flood = []
    for _ in range(40 + more):
        sock = socket.socket()
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", proxy.port))
        flood.append(sock)
    time.sleep(0.05)
    for sock in flood:
        sock.send(b"GET / HT")
    eventually(lambda: proxy.metric("weir_downstream_connections") >= 55)
    time.sleep(1.3)
    with proxy.client() as conn:
        assert conn.get("/new").status == 200
    assert 1 <= displaced(proxy) <= 40 + more
    for sock in flood:
        sock.close()
    before = proxy.metric("weir_loop_turns_total")
    time.sleep(1)
    assert proxy.metric("weir_loop_turns_total") - before < 100


def test_rest_of_a_request(weir, backend):
    """Who was answered and holds back what is left of its request owes that, as others a head."""
    proxy = full(weir, backend, 4, routes=[
        {"name": "f", "path": "/f", "respond": {"body": "x"}},
        {"name": "all", "pool": "app"}])
    held = [proxy.client() for _ in range(4)]
    for conn in held:
        conn.send(b"POST /f HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
        assert conn.response("POST").status == 200
    time.sleep(1.1)
    for number in range(2):
        with proxy.client() as conn:
            assert conn.get("/new/%d" % number).status == 200
    assert refused(proxy) == 0 and displaced(proxy) >= 1
    held[0].expect_close()
    proxy.logged(1, end=LIMIT)
    held[3].send(b"x")
    assert held[3].get("/f").status == 200


def test_part_of_a_record(weir, backend, authority):
    """An idle connection of TLS on which a request may be coming is passed over, but once: who
    holds connections in that way gains nothing."""
    proxy = full(weir, backend, 3, listeners={"web": secure(authority)})

    def come():
        conn = proxy.client(tls=authority.client_context(), sni="a.example")
        assert conn.get("/idle", host="a.example").status == 200
        return conn
    begun, second, third = come(), come(), come()
    raw = begun.sock.fileno()
    os.write(raw, b"\x17\x03\x03\x00")
    settled()
    ends = []
    for _ in range(3):
        come()
        settled()
        ends.append([is_closed(conn) for conn in (begun, second, third)])
    assert ends == [[False, True, False], [False, True, True], [True, True, True]]
    assert displaced(proxy) == 3 and refused(proxy) == 0


def is_closed(conn):
    """Whether FIN or a reset has come; what came before it is not looked at."""
    poll = select.poll()
    poll.register(conn.sock.fileno(), select.POLLRDHUP)
    return bool(poll.poll(0))


@pytest.mark.parametrize("header", ["optional", None])
def test_sessions_of_tcp(weir, header):
    """They stay, whatever they say. Behind an optional PROXY header a client may wait for the
    server to speak before it has one: it owes nothing."""
    def greet(sock):
        sock.sendall(b"220 hello")
        tcpsite.echo(sock)
    server = tcpsite.Endpoint(greet)
    listener = {"protocol": "tcp", "pool": "app"}
    if header:
        listener.update(proxy_protocol=header, trusted_proxies=["127.0.0.1"],
                        timeouts={"header": "5s"})
    proxy = weir({"process": {"workers": 1, "max_connections": 2}, "listeners": {"web": listener},
                  "pools": {"app": {"endpoints": [server.address]}}})
    waits = [tcpsite.connect(proxy.port) for _ in range(2)]
    eventually(lambda: proxy.metric("weir_downstream_connections") == 2)
    time.sleep(OWED)
    with tcpsite.connect(proxy.port) as late:
        with contextlib.suppress(ConnectionError):  # it is reset, perhaps at once
            late.sendall(b"hello")
        eventually(lambda: refused(proxy) == 1)
    for sock in waits:
        assert tcpsite.exactly(sock, 9) == b"220 hello"
        sock.sendall(b"on")
        assert tcpsite.exactly(sock, 2) == b"on"
        sock.close()
    assert displaced(proxy) == 0
    server.stop()


def test_flood_of_newcomers(weir, backend):
    """They take idle places from each other; who works is served, and nothing spins."""
    proxy = full(weir, backend, 20)
    works = busy(proxy, 10)
    stop, bad = threading.Event(), []

    def come():
        kept = []
        while not stop.is_set():
            conn = proxy.client()
            kept = kept[-20:] + [conn]
            try:
                status = conn.get("/flood").status
                if status not in (200, 503):
                    bad.append(status)
            except (AssertionError, OSError, wire.Truncated):
                pass  # its place was taken, or it was refused at accept
    threads = [threading.Thread(target=come) for _ in range(3)]
    for thread in threads:
        thread.start()
    time.sleep(2)
    stop.set()
    for thread in threads:
        thread.join()
    assert not bad
    for conn in works:
        conn.send(b"whole")
        assert conn.response("POST").status == 200
    before = proxy.metric("weir_loop_turns_total")
    time.sleep(1)
    assert proxy.metric("weir_loop_turns_total") - before < 200
    settled()
    assert proxy.get("/after").status == 200
