"""What has broken others (THREATS.md), seen from outside: slow clients, garbage, floods, half-open
peers. After each weir still serves, and is the size it was."""
import random
import socket
import threading
import time

import pytest

from harness import client, proc, wire
from harness.backend import raw
from harness.weir import eventually


def still_well(proxy, backend=None):
    """A new client is served at once and nothing of the attack is left."""
    with client.Client(proxy.port) as conn:
        assert conn.get("/well").status == 200
    if backend is not None:
        assert [r.path for r in backend.requests if r.path != "/well"] == []
    proxy.check_stderr()


def test_slowloris(weir, backend):
    """500 clients that trickle heads: others are served meanwhile, and all of them are let go."""
    proxy = weir({"listeners": {"web": {"timeouts": {"header": "1s"}}}}, backend)
    socks = [client.connect(proxy.port) for _ in range(500)]
    for sock in socks:
        sock.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n")
    for _ in range(3):
        for sock in socks:
            try:
                sock.send(b"X: y\r\n")
            except OSError:
                pass
        with client.Client(proxy.port) as conn:
            assert conn.get("/well").status == 200
        time.sleep(0.2)
    proxy.ended("client.timeout.header", count=500, guard=60)
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    for sock in socks:
        sock.close()
    still_well(proxy, backend)


def test_slow_body_flood(weir, backend):
    proxy = weir({"listeners": {"web": {"timeouts": {"body": "500ms"}}}}, backend)
    conns = [proxy.client() for _ in range(100)]
    for conn in conns:
        conn.send(b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
    proxy.ended("client.timeout.body", count=100, guard=60)
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    with client.Client(proxy.port) as conn:
        assert conn.get("/well").status == 200


def test_slow_readers_flood(weir, new_backend):
    """Clients that ask for much and read nothing."""
    backend = new_backend(lambda conn, _r: raw(
        b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n", b"d" * 30000000)
                          (conn, _r))
    proxy = weir({"listeners": {"web": {"timeouts": {"send": "1s"}}}}, backend)
    conns = [proxy.client() for _ in range(40)]
    for conn in conns:
        conn.send(wire.request_bytes(target="/d"))
    proxy.ended("client.timeout.send", count=40, guard=60)
    assert proc.peak_rss_kib(proxy.pid) < 64 * 1024
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)


def test_bytes_behind_a_large_body_are_never_the_next_response(weir, new_backend):
    """Response-queue poisoning: what an upstream sends beyond Content-Length dies with its
    connection, also when the body went by splice and the surplus is still in the socket."""
    body = b"a" * 65536
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nPOISON"
    backend = new_backend(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 65536\r\n\r\n" + body + poison))
    limits = {"max_per_endpoint": 4, "queue_timeout": "30s"}
    proxy = weir({"process": {"workers": 1}, "pools": {"app": {"connections": limits}}}, backend)
    conns = [proxy.client() for _ in range(16)]
    for _ in range(20):
        for conn in conns:
            conn.send(wire.request_bytes(target="/big"))
        for conn in conns:
            assert conn.response().body == body


@pytest.mark.parametrize("seed", range(6))
def test_garbage(pair, seed):
    """Random bytes, text-like and not: an answer or an end, never a forward."""
    chance = random.Random(seed)
    alphabets = [bytes(range(256)), b"GET / HTTP/1.1\r\n:;,=", b"\r\n", b"\0\r\n\t "]
    for _ in range(60):
        data = bytes(chance.choice(alphabets[chance.randrange(4)])
                     for _ in range(chance.randrange(1, 400)))
        with client.Client(pair.weir.port) as conn:
            conn.try_send(data)
            try:
                conn.half_close()
                answer = conn.read_all()
            except OSError:
                answer = b""
        if answer:
            reader = wire.Reader(None)
            reader.buf += answer
            reader.eof = True
            while reader.buf:
                assert wire.read_response(reader).status >= 400
    assert not pair.backend.requests
    assert pair.get("/well").status == 200


def mutated(chance):
    """A valid request with a few bytes changed, dropped or doubled."""
    data = bytearray(wire.request_bytes("POST", "/m?x=1",
                                        ["X-A: b", "Transfer-Encoding: chunked", "Cookie: c=d"],
                                        wire.chunked(b"hello", b"world")))
    for _ in range(chance.randrange(1, 4)):
        at = chance.randrange(len(data))
        how = chance.randrange(3)
        if how == 0:
            data[at] = chance.randrange(256)
        elif how == 1:
            del data[at]
        else:
            data.insert(at, data[at])
    return bytes(data)


@pytest.mark.parametrize("seed", range(4))
def test_mutated_requests(pair, seed):
    """Whatever arrives upstream is valid (the strict backend judges), and so is every answer."""
    chance = random.Random(1000 + seed)
    for _ in range(150):
        with client.Client(pair.weir.port) as conn:
            conn.try_send(mutated(chance))
            try:
                conn.half_close()
                answer = conn.read_all()
            except OSError:
                continue
        reader = wire.Reader(None)
        reader.buf += answer
        reader.eof = True
        while reader.buf:
            method = "HEAD" if answer.startswith(b"HTTP/1.1 200") and b"HEAD" in answer else "GET"
            wire.read_response(reader, method)
    assert pair.get("/well").status == 200


@pytest.mark.parametrize("seed", range(4))
def test_mutated_responses(pair, seed):
    """Whatever an upstream sends, the client's parser is content or the message is cut."""
    chance = random.Random(2000 + seed)
    base = b"HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"

    def handler(conn, _request):
        data = bytearray(base)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        conn.send(bytes(data))
        conn.close()
    pair.backend.default = handler
    for _ in range(120):
        with client.Client(pair.weir.port) as conn:
            conn.send(wire.request_bytes(target="/m"))
            conn.response(truncated_ok=True)
    pair.backend.default = raw(wire.response_bytes(body=b"clean"))
    assert pair.get("/well").body == b"clean"


def test_many_headers_flood(weir, backend):
    """64 KiB of one-byte fields on many connections costs bounded memory."""
    proxy = weir({}, backend)
    proxy.get("/well")
    before = proc.memory_kib(proxy.pid, "Rss")
    head = b"GET / HTTP/1.1\r\nHost: a\r\n" + b"a:\r\n" * 90
    conns = [proxy.client() for _ in range(200)]
    for conn in conns:
        conn.send(head)
    with client.Client(proxy.port) as conn:
        assert conn.get("/well").status == 200
    assert proc.memory_kib(proxy.pid, "Rss") - before < 16 * 1024
    for conn in conns:
        conn.close()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    still_well(proxy, backend)


def test_large_heads_held_open(weir, backend):
    """200 clients that each hold 60 KiB of an unfinished head."""
    proxy = weir({}, backend)
    proxy.get("/well")
    before = proc.memory_kib(proxy.pid, "Rss")
    conns = [proxy.client() for _ in range(200)]
    for conn in conns:
        conn.try_send(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"h" * 60000)
    assert proc.memory_kib(proxy.pid, "Rss") - before < 40 * 1024
    for conn in conns:
        conn.close()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)

    def back():
        return proc.memory_kib(proxy.pid) < before + 4 * 1024
    back.__doc__ = "PSS within 4 MiB of the %d KiB before" % before
    eventually(back, guard=60)
    still_well(proxy, backend)


def test_connection_flood(weir, backend):
    """Thousands of connections opened and closed at once."""
    proxy = weir({}, backend)
    for _ in range(3):
        socks = []
        for _ in range(1000):
            sock = socket.socket()
            sock.setblocking(False)
            sock.connect_ex(("127.0.0.1", proxy.port))
            socks.append(sock)
        for number, sock in enumerate(socks):
            if number % 3 == 0:
                try:
                    sock.send(b"GET / HT")
                except OSError:
                    pass
            sock.close()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    still_well(proxy, backend)


def test_reset_flood(weir, backend):
    """Requests whose clients reset at once, over and over (rapid reset for HTTP/1.1)."""
    proxy = weir({}, backend)
    for _ in range(400):
        conn = client.Client(proxy.port)
        conn.send(wire.request_bytes(target="/well"))
        conn.reset()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    eventually(lambda: proxy.metric("weir_requests_inflight") == 0)
    still_well(proxy)


def test_pipelining_flood_without_reading(weir, backend):
    """A client that pipelines for ever and never reads is held back, not buffered."""
    proxy = weir({"listeners": {"web": {"timeouts": {"send": "2s"}}}}, backend)
    proxy.get("/well")
    before = proc.memory_kib(proxy.pid, "Rss")
    conn = proxy.client()
    conn.sock.settimeout(5)
    batch = wire.request_bytes(target="/well") * 500
    try:
        for _ in range(400):
            conn.sock.sendall(batch)
    except OSError:
        pass
    assert proc.memory_kib(proxy.pid, "Rss") - before < 8 * 1024
    conn.close()
    eventually(lambda: proxy.metric("weir_requests_inflight") == 0, guard=60)
    still_well(proxy)


def test_tiny_chunks_flood(weir, backend):
    """A body of one-byte chunks: correct, and at a bounded price."""
    proxy = weir({}, backend)
    conn = proxy.client()
    conn.send(wire.request_bytes("POST", "/well", ["Transfer-Encoding: chunked"]))
    for _ in range(100):
        conn.send(b"1\r\nx\r\n" * 1000)
    conn.send(b"0\r\n\r\n")
    assert conn.response().status == 200
    assert backend.last.body.length == 100000


def test_tiny_chunks_from_the_upstream(weir, new_backend):
    backend = new_backend(raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                              + b"1\r\nx\r\n" * 100000 + b"0\r\n\r\n"))
    proxy = weir({}, backend)
    assert proxy.get("/x").payload.length == 100000


def test_endless_upstream_head(weir, new_backend):
    """A head without end from an upstream is cut at the limit."""
    def handler(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\n")
        for _ in range(100000):
            conn.send(b"X-Y: z\r\n" * 100)
    proxy = weir({}, new_backend(handler))
    assert proxy.get("/x").status == 502
    assert proxy.logged(path="/x")["weir.end"] in ("upstream.bad_response.headers",
                                                   "upstream.bad_response.header_bytes")


def test_clients_that_vanish(weir, new_backend):
    """Peers that half-close and then neither read nor close end by timeouts."""
    hold = threading.Event()

    def handler(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    proxy = weir({"listeners": {"web": {"timeouts": {"half_close": "300ms"}}}},
                 new_backend(handler))
    conns = [proxy.client() for _ in range(50)]
    for conn in conns:
        conn.send(wire.request_bytes(target="/v"))
        conn.half_close()
    proxy.ended("client.closed", count=50)
    hold.set()
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)


def test_same_key_hash_flood(weir, backend):
    """Thousands of fields and hosts chosen to collide in weak hashes cost no more than others."""
    proxy = weir({}, backend)
    conn = proxy.client()
    for number in range(200):
        fields = ["%s: v" % "".join(chr(97 + (number * 7 + i * j) % 26) for j in range(12))
                  for i in range(80)]
        assert conn.get("/well", fields, host="h%d.example" % number).status == 200
    still_well(proxy)
