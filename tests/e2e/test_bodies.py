"""Bodies of all sizes both ways, with both framings, and what they cost in memory."""
import os
import pathlib
import threading
import time
import zlib

import pytest

from harness import client, proc, wire
from harness.weir import eventually

MIB = 1 << 20
SIZES = [0, 1, 4095, 4096, 4097, 16383, 16384, 16385, 32768, 65535, 65536, 65537, 262144, 1000003]
BLOCK = bytes(range(256)) * 4096  # 1 MiB

SHARED_CONF = {"listeners": {"web": {"limits": {"body_bytes": "0"}}}}


def content(size):
    return (BLOCK * (size // MIB + 1))[:size]


def fixed(body, how):
    if how == "chunked":
        parts = [body[i : i + 60001] for i in range(0, len(body), 60001)]
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + wire.chunked(*parts)
    if how == "close":
        return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body
    return wire.response_bytes(body=body)


@pytest.mark.parametrize("how", ["length", "chunked", "close"])
@pytest.mark.parametrize("size", SIZES)
def test_download(pair, size, how):
    body = content(size)

    def handler(conn, _request):
        conn.send(fixed(body, how))
        if how == "close":
            conn.close()
    pair.backend.default = handler
    conn = pair.client()
    assert conn.get("/d").body == body
    assert pair.ended("ok", path="/d")["http.response.body.size"] == size
    if how != "close":
        assert conn.get("/d").body == body


@pytest.mark.parametrize("how", ["length", "chunked"])
@pytest.mark.parametrize("size", SIZES)
def test_upload(pair, size, how):
    body = content(size)
    conn = pair.client()
    for _ in range(2):
        if how == "chunked":
            parts = [body[i : i + 50021] for i in range(0, size, 50021)]
            conn.request("POST", "/u", ["Transfer-Encoding: chunked"], wire.chunked(*parts))
        else:
            conn.request("POST", "/u", body=body)
        request = pair.backend.last
        assert request.complete and request.body.data == body
        assert request.framing == how
    assert pair.ended("ok", path="/u")["http.request.body.size"] == size


def test_both_ways_at_once(pair):
    """An echo that answers while it reads: neither direction waits for the other's end."""
    def handler(conn, request):
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        done = 0
        while done < request.length:
            part = wire.Body()
            size = min(65536, request.length - done)
            conn.reader.exactly(size, part)
            done += size
            conn.send(b"%x\r\n" % size + part.data + b"\r\n")
        request.body.length = request.length
        request.complete = True
        conn.send(b"0\r\n\r\n")
    pair.backend.on("/echo", handler)
    pair.backend.early_bytes_ok = True
    body = content(8 * MIB)
    conn = pair.client()
    conn.send(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body))
    sender = threading.Thread(target=conn.sock.sendall, args=(body,))
    sender.start()
    response = conn.response()
    sender.join()
    assert response.payload.length == len(body) and response.payload.crc == zlib.crc32(body)


def held_at_most():
    """What the system takes of a stream that nobody reads in the end, with the sockets of both
    sides of weir, and 8 MiB for who sends and for weir itself."""
    largest = [int(pathlib.Path("/proc/sys/net/ipv4", name).read_text().split()[2])
               for name in ("tcp_rmem", "tcp_wmem")]
    assert 2 * sum(largest) < 112 * MIB, "make the bodies of these tests longer"
    return 2 * sum(largest) + 8 * MIB


def test_backpressure_to_the_upstream(pair):
    """A client that does not read holds the upstream back, instead of filling memory."""
    sent = [0]

    def handler(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * MIB))
        for _ in range(256):
            conn.send(BLOCK)
            sent[0] += MIB
    pair.backend.on("/d", handler)
    before = proc.memory_kib(pair.weir.pid, "Rss")
    conn = pair.client()
    conn.send(wire.request_bytes(target="/d"))
    conn.reader.fill()
    still = [-1]

    def stopped():
        """the backend makes no progress"""
        same, still[0] = still[0] == sent[0], sent[0]
        return same
    eventually(stopped, every=0.3)
    assert sent[0] < held_at_most()
    assert proc.memory_kib(pair.weir.pid, "Rss") - before < 8 * 1024
    response = conn.response()
    assert response.payload.length == 256 * MIB


def test_backpressure_to_the_client(pair):
    """An upstream that does not read holds the client back."""
    go = threading.Event()

    def handler(_conn, _request):
        go.wait(30)
    pair.backend.on("/u", handler)
    before = proc.memory_kib(pair.weir.pid, "Rss")
    conn = pair.client()
    conn.send(b"POST /u HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (128 * MIB))
    sent = [0]

    def send():
        for _ in range(128):
            conn.send(BLOCK)
            sent[0] += MIB
    sender = threading.Thread(target=send)
    sender.start()
    still = [-1]

    def stopped():
        """the client makes no progress"""
        same, still[0] = still[0] == sent[0], sent[0]
        return same
    eventually(stopped, every=0.3)
    assert sent[0] < held_at_most()
    assert proc.memory_kib(pair.weir.pid, "Rss") - before < 8 * 1024
    pair.backend.default = lambda _conn, _request: wire.response_bytes()
    go.set()
    sender.join(60)
    wire_ok = eventually(lambda: pair.backend.last.complete)
    assert wire_ok and pair.backend.last.body.length == 128 * MIB


def produce(conn, size, how):
    """Sends size bytes as a response, in blocks."""
    if how == "chunked":
        conn.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        framed = b"%x\r\n" % MIB + BLOCK + b"\r\n"
        for _ in range(size // MIB):
            conn.send(framed)
        conn.send(b"0\r\n\r\n")
    else:
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // MIB):
            conn.send(BLOCK)


class Watch:
    """Samples what a weir costs while a test runs: resident memory and its cgroup."""

    def __init__(self, proxy, group=None):
        self.proxy, self.group = proxy, group
        self.cgroup_kib = 0
        self.running = True
        self.thread = threading.Thread(target=self.loop)
        self.thread.start()

    def loop(self):
        while self.running:
            if self.group and self.group.usable:
                self.cgroup_kib = max(self.cgroup_kib, self.group.used_kib())
            time.sleep(0.05)

    def finish(self):
        self.running = False
        self.thread.join()
        peak = sum(proc.peak_rss_kib(pid) for pid in proc.tree(self.proxy.pid)[:1])
        return peak, self.cgroup_kib


@pytest.fixture
def guarded(weir, new_backend, authority):
    """weir with a plain and a TLS listener in a memory cgroup of its own, where that is
    possible."""
    group = proc.Cgroup("weir-e2e-%d" % os.getpid())
    backend = new_backend()
    tls_port = proc.free_port()
    limits = {"body_bytes": "0"}
    proxy = weir({"listeners": {
        "web": {"limits": limits},
        "tls": {"bind": "127.0.0.1:%d" % tls_port, "limits": limits, "tls": {"certificates": [
            dict(names=["big.example"], **authority.leaf(["big.example"]))]}}}},
        backend, preexec=group.enter)
    proxy.backend, proxy.tls_port, proxy.group = backend, tls_port, group
    proxy.context = authority.client_context()
    yield proxy
    proxy.stop()
    group.remove()


def connect(proxy, tls):
    if not tls:
        return proxy.client(timeout=120)
    return proxy.client(proxy.tls_port, tls=proxy.context, sni="big.example", timeout=120)


def download(proxy, size, how, tls):
    proxy.backend.on("/big", lambda conn, _request: produce(conn, size, how))
    conn = connect(proxy, tls)
    conn.send(wire.request_bytes(target="/big", host="big.example"))
    response = conn.response()
    assert response.payload.length == size and response.framing == how
    want = 0
    for _ in range(size // MIB):
        want = zlib.crc32(BLOCK, want)
    assert response.payload.crc == want


def upload(proxy, size, how, tls):
    conn = connect(proxy, tls)
    framing = "Transfer-Encoding: chunked" if how == "chunked" else "Content-Length: %d" % size
    conn.send(wire.request_bytes("POST", "/up", [framing], host="big.example"))
    block = b"%x\r\n" % MIB + BLOCK + b"\r\n" if how == "chunked" else BLOCK
    for _ in range(size // MIB):
        conn.send(block)
    if how == "chunked":
        conn.send(b"0\r\n\r\n")
    assert conn.response().status == 200
    want = 0
    for _ in range(size // MIB):
        want = zlib.crc32(BLOCK, want)
    body = proxy.backend.last.body
    assert body.length == size and body.crc == want


WAYS = [(way, how, tls) for way in (download, upload) for how in ("length", "chunked")
        for tls in (False, True)]
WAY_IDS = ["%s-%s-%s" % (w.__name__, h, "tls" if t else "plain") for w, h, t in WAYS]


@pytest.mark.parametrize("way,how,tls", WAYS, ids=WAY_IDS)
def test_64_mib(guarded, way, how, tls):
    check_memory(guarded, way, how, tls, 64 * MIB)


@pytest.mark.slow
@pytest.mark.parametrize("way,how,tls", WAYS, ids=WAY_IDS)
def test_1_gib(guarded, way, how, tls):
    check_memory(guarded, way, how, tls, 1024 * MIB)


def check_memory(proxy, way, how, tls, size):
    """A body of any size keeps the process, and its cgroup where there is one, under 24 MiB."""
    watch = Watch(proxy, proxy.group)
    try:
        way(proxy, size, how, tls)
    finally:
        peak, cgroup = watch.finish()
    assert peak < 24 * 1024, "peak resident memory %d KiB" % peak
    assert cgroup < 24 * 1024, "peak of the cgroup %d KiB" % cgroup


def slow_reader(proxy, tls, size, stop, results):
    conn = connect(proxy, tls)
    conn.send(wire.request_bytes(target="/files/slow.bin", host="big.example"))
    body, got = 0, 0
    while True:
        data = conn.sock.recv(65536 if not stop.is_set() else MIB)
        if not data:
            break
        got += len(data)
        body = zlib.crc32(data, body)
        if got >= size:
            break
        if not stop.is_set():
            time.sleep(0.1)
    results.append(got)
    conn.close()


def run_slow_readers(proxy, nginx, readers, size, seconds, tls):
    server = nginx("files")
    (server.files / "slow.bin").write_bytes(BLOCK * (size // MIB))
    proxy.change(pools={"app": {"endpoints": [server.address]}})
    proxy.reload()
    stop, results = threading.Event(), []
    threads = [threading.Thread(target=slow_reader, args=(proxy, tls, size, stop, results))
               for _ in range(readers)]
    watch = Watch(proxy, proxy.group)
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    assert proxy.metric("weir_requests_inflight") == readers
    peak, cgroup = watch.finish()
    stop.set()
    for thread in threads:
        thread.join(240)
    assert len(results) == readers and all(got >= size for got in results)
    return peak, cgroup


@pytest.mark.slow
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_100_slow_readers(guarded, nginx, tls):
    """100 slow readers of 100 MiB at once stay under 64 MiB."""
    size = 100 * MIB if not tls else 30 * MIB
    peak, cgroup = run_slow_readers(guarded, nginx, 100, size, 15, tls)
    assert peak < 64 * 1024, "peak resident memory %d KiB" % peak
    assert cgroup < 64 * 1024, "peak of the cgroup %d KiB" % cgroup


def test_20_slow_readers(guarded, nginx):
    peak, _ = run_slow_readers(guarded, nginx, 20, 20 * MIB, 2, False)
    assert peak < 32 * 1024, "peak resident memory %d KiB" % peak


def test_memory_comes_back(weir, new_backend):
    """Memory follows traffic down: 200 connections with bodies in flight, then idle."""
    def handler(conn, request):
        conn.read_body(request)
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (256 * 1024),
                  BLOCK[: 256 * 1024])
    backend = new_backend(handler)
    proxy = weir({}, backend)
    proxy.get("/warm")
    warm = proc.memory_kib(proxy.pid)
    for _ in range(3):
        conns = [client.Client(proxy.port) for _ in range(200)]
        for conn in conns:
            conn.send(wire.request_bytes(target="/b"))
        for conn in conns:
            assert conn.response().payload.length == 256 * 1024
        for conn in conns:
            conn.close()

        def back():
            return proc.memory_kib(proxy.pid) <= warm + 4096
        back.__doc__ = "PSS within 4 MiB of the %d KiB before" % warm
        eventually(back, guard=60)
