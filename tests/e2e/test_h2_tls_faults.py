"""Faults of TLS of an endpoint that speaks HTTP/2 over it, after the handshake: one ends all that
its connection carries and nothing else. Each request says so, a response that had begun is never
made whole, and the endpoint is told by an alert (RFC 8446 section 6.2, RFC 5246 section 7.2.2).
test_tls_faults.py has those of HTTP/1.1."""
import os
import ssl
import subprocess
import threading

import pytest

from harness import client, h2talk, h2wire, proc, wire
from harness.h2endpoints import Plays
from harness.tlspeers import TlsOrigin
from harness.tlsraw import FAULTS, Raw
from harness.weir import eventually

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CALM = {"consecutive_failures": 0, "consecutive_5xx": 0}
OK = [(":status", "200")]
GUARD = client.GUARD


def alert_of(fault):
    """What the endpoint is told: records are decrypted before anybody looks at their type."""
    return {"oversize": "RECORD_OVERFLOW", "plain http": "PROTOCOL_VERSION"}.get(
        fault, "BAD_RECORD_MAC")


class Breaks(Plays):
    """An endpoint of HTTP/2 over TLS. play(self, talker, stream, request) answers; broken() is the
    fault, after which nothing comes from that connection; how weir ended it is in told. first: the
    fault comes in place of the SETTINGS."""

    def __init__(self, mint, play=None, version=V13, first=None):
        leaf = mint.leaf("127.0.0.1")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(leaf.path, leaf.key_path)
        self.context.minimum_version = self.context.maximum_version = version
        self.context.set_alpn_protocols(["h2"])
        self.first, self.told, self.talkers = first, [], []
        super().__init__(lambda *args: play(self, *args))

    def serve(self, sock):
        raw = Raw(sock, self.context)
        if self.first:
            raw.recv(1)
            self.broken(raw, self.first)
        super().serve(raw)

    def begun(self, talker, stream, request):
        if talker not in self.talkers:
            self.talkers.append(talker)
        super().begun(talker, stream, request)

    def broken(self, raw, fault):
        """The bytes of FAULTS, or a method of Raw."""
        fault(raw) if callable(fault) else raw.spoil(fault)
        self.told.append(raw.told())
        raise ConnectionError("weir was told")


def answer(talker, stream, body, end=True, length=None):
    rows = OK + ([("content-length", str(length))] if length is not None else [])
    talker.head(stream, rows)
    talker.data(stream, body, end)


@pytest.fixture
def front_of(weir, mint):
    def make(*endpoints, listener=None, **pool):
        settings = {"endpoints": [e.address for e in endpoints], "outlier": CALM,
                    "tls": {"ca": "file:%s" % mint.root.path}, "retry": {"attempts": 1},
                    "connections": {"protocol": "h2"}, **pool}
        made = weir({"process": {"workers": 1}, "pools": {"app": settings},
                     "listeners": {"web": listener or {}},
                     "routes": [{"prefix": "/", "pool": "app"}]})
        return made
    return make


@pytest.fixture
def breaks(mint):
    made = []

    def make(*args, **kwargs):
        made.append(Breaks(mint, *args, **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.stop()
        assert not each.violations


def told(endpoint, fault):
    eventually(lambda: endpoint.told)
    assert alert_of(fault) in endpoint.told[0]


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("when", ["settings", "head", "body", "unsaid"])
def test_an_endpoint_breaks_records(front_of, breaks, when, fault, version):
    """Before its SETTINGS, before the head of a response, inside a body of a length that it said,
    and of one that it did not."""
    def play(self, talker, stream, _request):
        if when != "head":
            answer(talker, stream, b"12345", False, 100 if when == "body" else None)
        self.broken(talker.sock, FAULTS[fault])
    bad = breaks(play, version, FAULTS[fault] if when == "settings" else None)
    front = front_of(bad)
    conn = front.client()
    conn.send(wire.request_bytes(target="/x"))
    reply = conn.response(truncated_ok=when in ("body", "unsaid"))
    if when in ("settings", "head"):
        assert reply.status == 502 and "tls_protocol_error" in reply.get("proxy-status")
    else:
        assert reply.status == 200 and not reply.complete and reply.body in (b"", b"12345")
    record = front.ended("upstream.tls.record", path="/x")
    assert record["weir.upstream.tls"]
    told(bad, fault)


@pytest.mark.parametrize("when", ["head", "body"])
def test_an_endpoint_ends_by_an_alert(front_of, breaks, when):
    def play(self, talker, stream, _request):
        if when == "body":
            answer(talker, stream, b"12345", False)
        self.broken(talker.sock, Raw.alert)
    front = front_of(breaks(play))
    conn = front.client()
    conn.send(wire.request_bytes(target="/x"))
    reply = conn.response(truncated_ok=when == "body")
    assert reply.status == (502 if when == "head" else 200)
    assert reply.complete == (when == "head")
    assert "BAD_RECORD_MAC" in front.ended("upstream.tls.alert", path="/x")["weir.upstream.tls"]


@pytest.mark.parametrize("how", ["close_notify", "fin", "reset"])
@pytest.mark.parametrize("when", ["head", "body"])
def test_an_endpoint_ends_the_connection(front_of, breaks, when, how):
    """END_STREAM is what ends a body, not the end of what carries it, proper or not."""
    def play(self, talker, stream, _request):
        if when == "body":
            answer(talker, stream, b"12345", False)
            eventually(begun.is_set)
        if how == "close_notify":
            try:
                talker.sock.tls.unwrap()
            except ssl.SSLError:
                talker.sock.flush()
        if how == "reset":
            client.Client.reset(talker.sock)
        raise ConnectionError("it ends")
    begun = threading.Event()
    front = front_of(breaks(play))
    conn = front.client()
    conn.send(wire.request_bytes(target="/x"))
    if when == "body":
        while b"12345" not in conn.reader.buf:
            assert conn.reader.fill()
        begun.set()
    reply = conn.response(truncated_ok=when == "body")
    assert reply.status == (502 if when == "head" else 200)
    assert reply.complete == (when == "head")
    words = {"head": {"upstream.closed", "upstream.reset"},
             "body": {"upstream.truncated", "upstream.reset"}}[when]
    front.settle()
    assert {r["weir.end"] for r in front.lines()} <= words, front.lines()


# ---- what else is there ----

def test_streams_of_the_same_connection(front_of, breaks):
    """Whose response was there in full has it, though the fault stands right behind it; whose had
    begun is cut; who had none is told. What the client has of HTTP/2 goes on."""
    streams = {}

    def play(self, talker, stream, request):
        streams[request.path] = stream
        if len(streams) < 4:
            return
        answer(talker, streams["/cut"], b"12345", False)
        for path in ("/all", "/more"):
            talker.h2.send_headers(streams[path], OK)
            talker.h2.send_data(streams[path], path.encode() * 1000, end_stream=True)
        talker.sock.tls.write(talker.h2.data_to_send())
        self.broken(talker.sock, lambda raw: raw.sock.sendall(
            raw.outgoing.read() + FAULTS["bad mac"]))
    bad = breaks(play)
    front = front_of(bad, listener={"protocols": ["h2c", "http/1.1"]})
    talk = h2talk.Talk(front.port)
    asked = {path: talk.open(path=path) for path in ("/cut", "/all", "/more", "/none")}
    talk.until(lambda: all(s.ended or s.reset is not None for s in asked.values()))
    for path in ("/all", "/more"):
        assert asked[path].ended and asked[path].body == path.encode() * 1000
        front.logged(path=path, end="ok")
    assert asked["/cut"].reset == h2wire.INTERNAL_ERROR and asked["/cut"].status == 200
    assert asked["/none"].ended and asked["/none"].status == 502
    for path in ("/cut", "/none"):
        assert front.ended("upstream.tls.record", path=path)["weir.upstream.tls"]
    assert not talk.goaway
    told(bad, "bad mac")
    assert len(bad.socks) == 1
    talk.close()


def test_who_had_no_response_is_tried_again(front_of, breaks, mint):
    """Elsewhere, as behind a reset: what may be sent twice."""
    def play(self, talker, _stream, _request):
        if len(self.requests) == 3:
            self.broken(talker.sock, FAULTS["bad mac"])
    bad, good = breaks(play), TlsOrigin(mint.leaf("127.0.0.1"), alpn=["h2"])
    front = front_of(bad, retry={"attempts": 2, "budget_min": 10}, endpoints=[
        bad.address, {"address": good.address, "backup": True}],
                     listener={"protocols": ["h2c", "http/1.1"]})
    talk = h2talk.Talk(front.port)
    asked = [talk.open(path="/0"), talk.open("POST", "/1"), talk.open(path="/2")]
    talk.until(lambda: all(s.ended for s in asked))
    assert [s.status for s in asked] == [200, 502, 200]
    assert sorted(r.path for r in good.requests) == ["/0", "/2"]
    front.ended("upstream.tls.record", path="/1")
    talk.close()
    good.stop()


def test_other_connections_go_on(front_of, breaks):
    """Each of them takes one stream, and one of them breaks."""
    met = threading.Barrier(3)

    def play(self, talker, stream, request):
        answer(talker, stream, b"begun", False)
        met.wait(GUARD)
        if request.path == "/1":
            self.broken(talker.sock, FAULTS["bad mac"])
        talker.data(stream, b" and done", True)
    bad = breaks(play)
    front = front_of(bad, connections={"protocol": "h2", "requests": 1})
    conns = [front.client() for _ in range(3)]
    for number, conn in enumerate(conns):
        conn.send(wire.request_bytes(target="/%d" % number))
    replies = [conn.response(truncated_ok=True) for conn in conns]
    assert [r.complete for r in replies] == [True, False, True]
    assert replies[0].body == replies[2].body == b"begun and done"
    front.ended("upstream.tls.record", path="/1")
    front.logged(2, end="ok")
    assert len(bad.socks) == 3


def test_on_a_connection_that_nobody_uses(front_of, breaks):
    """No request hears of it, and the next one has a new connection."""
    def play(self, talker, stream, request):
        answer(talker, stream, request.path.encode())
        if request.path == "/0":
            front.logged(path="/0", end="ok")
            self.broken(talker.sock, FAULTS["bad mac"])
    bad = breaks(play)
    front = front_of(bad)
    assert front.get("/0").body == b"/0"
    told(bad, "bad mac")
    assert front.get("/1").body == b"/1" and front.get("/2").body == b"/2"
    assert len(bad.socks) == 2
    front.logged(3, end="ok")


def test_while_bodies_go_both_ways(front_of, breaks):
    """The client's upload has not ended, the response has begun."""
    def play(self, talker, stream, _request):
        answer(talker, stream, b"12345", False)
        self.broken(talker.sock, FAULTS["bad mac"])
    bad = breaks(play)
    front = front_of(bad)
    conn = front.client()
    conn.send(b"POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n")
    for _ in range(10):
        conn.try_send(b"x" * 10000)
    reply = conn.response("POST", truncated_ok=True)
    assert not reply.complete
    front.ended("upstream.tls.record", path="/up")
    told(bad, "bad mac")
    eventually(lambda: front.metric("weir_upstream_connections") == 0)
    eventually(lambda: front.metric("weir_requests_inflight") == 0)


def test_an_endpoint_that_breaks_records_is_taken_out(front_of, breaks, mint):
    bad = breaks(lambda self, talker, *_: self.broken(talker.sock, FAULTS["bad mac"]))
    good = TlsOrigin(mint.leaf("127.0.0.1"), alpn=["h2"])
    front = front_of(bad, good, outlier={"consecutive_failures": 2, "eject": "1h"},
                     balance="round_robin")
    assert sorted(front.get("/x").status for _ in range(8)) == [200] * 6 + [502] * 2
    front.stderr_has("consecutive failures, the last one upstream.tls.record")
    good.stop()


# ---- renegotiation ----

@pytest.mark.parametrize("when", ["head", "body"])
def test_an_endpoint_renegotiates(front_of, mint, when):
    """RFC 9113 section 9.2.1: not in a connection of HTTP/2, ever. It has none in TLS 1.3."""
    leaf, port = mint.leaf("127.0.0.1"), proc.free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:%d" % port, "-cert", str(leaf.path), "-key",
         str(leaf.key_path), "-tls1_2", "-alpn", "h2"], stdin=subprocess.PIPE,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=proc.die_with_parent)
    out = b""

    def types(data):
        server.stdin.write(data)
        server.stdin.flush()

    def until(text):
        nonlocal out
        while text not in out:
            data = os.read(server.stdout.fileno(), 65536)
            assert data, out[-1500:]
            out += data
    try:
        until(b"ACCEPT")
        front = front_of(endpoints=["127.0.0.1:%d" % port])
        conn = front.client()
        conn.send(wire.request_bytes(target="/x"))
        until(b"PRI * HTTP/2.0")
        if when == "body":
            types(h2wire.settings() + h2wire.headers(1, h2wire.block(OK), False)
                  + h2wire.data(1, b"12345"))
            while b"12345" not in conn.reader.buf:
                assert conn.reader.fill()
        types(b"r\n")  # a command of it, as the first of what it reads at once
        reply = conn.response(truncated_ok=when == "body")
        assert (reply.status, reply.complete) == ((502, True) if when == "head" else (200, False))
        record = front.ended("upstream.tls.renegotiation", path="/x")
        assert record["weir.upstream.tls"] == "NO_RENEGOTIATION"
        until(b"no renegotiation")
    finally:
        server.kill()
        server.wait()
