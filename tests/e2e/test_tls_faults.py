"""Faults of TLS after the handshake, of clients and of endpoints: who made one is told by an alert
(RFC 8446 section 6.2, RFC 5246 section 7.2.2), and the log has a cause of its own."""
import contextlib
import os
import ssl
import subprocess
import threading

import pytest

from harness import h2talk, proc, tcpsite, wire
from harness.tlsraw import FAULTS, Raw, SClient
from harness.tlspeers import Mint, TlsBackend
from harness.weir import eventually
from test_tcp import endpoint, tcp, tls_listener  # noqa: F401  pylint: disable=unused-import

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
HEAD = b"GET /cut HTTP/1.1\r\nHost: db.example\r\n"
CALM = {"consecutive_failures": 0, "consecutive_5xx": 0}


def alert_of(fault):
    """What the peer is told: records are decrypted before anybody looks at their type."""
    return {"oversize": "RECORD_OVERFLOW", "plain http": "PROTOCOL_VERSION"}.get(
        fault, "BAD_RECORD_MAC")


class Front:
    """A weir whose port is TLS: HTTP with a backend, or TCP."""

    def __init__(self, made, port, authority):
        self.weir, self.port, self.authority = made, port, authority

    def raw(self, version=V13, alpn=None):
        context = self.authority.client_context(minimum=version, maximum=version, alpn=alpn)
        return Raw(tcpsite.connect(self.port), context, "db.example")

    def line(self, end, **want):
        """The only line so far that tells of a failure, with its reason."""
        record = self.weir.ended(end, **want)
        self.weir.settle()
        assert len([r for r in self.weir.lines() if r.get("weir.end", "ok") != "ok"]) == 1
        assert record["weir.reason"], record
        return record


@pytest.fixture
def http(weir, backend, authority):
    port = proc.free_port()
    made = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                       **tls_listener(authority)}}}, backend)
    yield Front(made, port, authority)
    backend.violations.clear()  # a request may be cut short


@pytest.fixture
def session(tcp, endpoint, authority):  # noqa: F811
    made = tcp(endpoint(), listener=tls_listener(authority))
    return Front(made, made.port, authority)


# ---- of clients ----

@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("when", ["first", "next", "head"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_breaks_records(http, version, when, fault):
    raw = http.raw(version)
    if when == "next":
        raw.send(wire.request_bytes(target="/before", host="db.example"))
        raw.read(b"GET /before")
    if when == "head":
        raw.send(HEAD)
        eventually(lambda: http.weir.metric("weir_requests_inflight") == 1)
    raw.spoil(FAULTS[fault])
    assert alert_of(fault) in raw.told()
    record = http.line("client.tls.record")
    assert record.get("http.response.status_code") == (499 if when == "head" else None)
    assert record.get("url.path") == ("/cut" if when == "head" else None)


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_client_of_tcp_breaks_records(session, version, fault):
    raw = session.raw(version)
    raw.send(b"echo")
    raw.read(b"echo")
    raw.spoil(FAULTS[fault])
    assert alert_of(fault) in raw.told()
    session.line("client.tls.record")


@pytest.mark.parametrize("busy", [False, True])
@pytest.mark.parametrize("version", [V12, V13])
def test_a_client_of_http_2_breaks_records(http, version, busy):
    """Requests under way have lines of their own, and then the connection has none."""
    raw = http.raw(version, alpn=["h2"])
    talk = h2talk.Talk(None, sock=raw)
    if busy:
        talk.open("POST", "/cut", end=False, scheme="https", authority="db.example")
        eventually(lambda: http.weir.metric("weir_requests_inflight") == 1)
    raw.spoil(FAULTS["bad mac"])
    assert "BAD_RECORD_MAC" in raw.told()
    record = http.line("client.tls.record")
    assert record.get("url.path") == ("/cut" if busy else None)
    assert record["network.protocol.version"] == "2"


def test_a_client_breaks_records_inside_bodies(http, backend):
    """Of a request and of a response that does not end."""
    begun, over = threading.Event(), threading.Event()

    def endless(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegun")
        begun.set()
        over.wait(60)
        conn.close()
    backend.on("/body", endless)
    raw = http.raw()
    raw.send(wire.request_bytes(target="/body", host="db.example"))
    raw.read(b"begun")
    raw.spoil(FAULTS["bad mac"])
    assert "BAD_RECORD_MAC" in raw.told()
    over.set()
    http.line("client.tls.record", path="/body")


def test_a_client_ends_by_an_alert(http, session):
    for front in (http, session):
        raw = front.raw()
        raw.alert()
        assert raw.told() != "reset"
        assert "BAD_RECORD_MAC" in front.line("client.tls.alert")["weir.reason"]


@pytest.mark.parametrize("when", ["first", "next", "head", "tcp"])
def test_a_client_renegotiates(request, when):
    """It is refused (THREATS.md row 30), told so, and told of."""
    front = request.getfixturevalue("session" if when == "tcp" else "http")
    client = SClient(front.port, "db.example", front.authority)
    if when == "next":
        client.type(b"GET /before HTTP/1.1\r\nHost: db.example\r\n\r\n")
        client.until(b"GET /before")
        client.until(b"\r\n\r\n")
    if when == "head":
        client.type(HEAD)
        eventually(lambda: front.weir.metric("weir_requests_inflight") == 1)
    client.type(b"R\n")
    out = client.rest()
    assert "RENEGOTIATING" in out and "alert no renegotiation" in out, out[-1500:]
    record = front.line("client.tls.renegotiation")
    assert record["weir.reason"] == "NO_RENEGOTIATION"
    assert front.weir.metric("weir_tls_handshakes_total") == 1


# ---- of endpoints ----

class Site:
    """An endpoint behind TLS that spoils what it sends; how weir ended it is in `told`."""

    def __init__(self, mint, version, say):
        leaf = mint.leaf("127.0.0.1")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(leaf.path, leaf.key_path)
        self.context.minimum_version = self.context.maximum_version = version
        self.say, self.told = say, []

    def __call__(self, sock):
        raw = Raw(sock, self.context)
        raw.read(b"\r\n\r\n")
        self.say(raw)
        self.told.append(raw.told())


def pool_of(mint, **tls):
    return {"tls": {"ca": "file:%s" % mint.root.path, **tls}, "outlier": CALM,
            "retry": {"attempts": 1}}


@pytest.fixture
def both(weir, tcp, endpoint, mint):  # noqa: F811
    """both(protocol, site) is a weir with that one endpoint, and a plain client's connection."""
    def make(protocol, site):
        made = endpoint(site)
        if protocol == "tcp":
            front = tcp(made, pool=pool_of(mint))
            return front, tcpsite.connect(front.port)
        front = weir({"pools": {"app": {"endpoints": [made.address], **pool_of(mint)}},
                      "routes": [{"prefix": "/", "pool": "app"}]})
        return front, tcpsite.connect(front.port)
    return make


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("fault", ["bad mac", "plain alert", "oversize"])
@pytest.mark.parametrize("when", ["tcp", "head", "body"])
def test_an_endpoint_breaks_records(both, mint, when, fault, version):
    def say(raw):
        if when == "body":
            raw.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n12345")
        raw.spoil(FAULTS[fault])
    site = Site(mint, version, say)
    front, sock = both("tcp" if when == "tcp" else "http", site)
    sock.sendall(b"GET /x HTTP/1.1\r\nHost: db.example\r\n\r\n")
    if when == "head":
        reply = wire.read_response(wire.Reader(sock), "GET", 1)
        assert reply.status == 502
        assert "tls_protocol_error" in reply.get("proxy-status")
    elif when == "body":
        assert not wire.read_response(wire.Reader(sock), "GET", 1).complete
    else:
        tcpsite.ended(sock)
    assert front.ended("upstream.tls.record")["weir.upstream.tls"]
    eventually(lambda: site.told)
    assert alert_of(fault) in site.told[0]


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_an_endpoint_ends_by_an_alert(both, mint, protocol):
    site = Site(mint, V13, Raw.alert)
    front, sock = both(protocol, site)
    sock.sendall(b"GET /x HTTP/1.1\r\nHost: db.example\r\n\r\n")
    tcpsite.ended(sock) if protocol == "tcp" else exactly_502(sock)
    assert "BAD_RECORD_MAC" in front.ended("upstream.tls.alert")["weir.upstream.tls"]


def exactly_502(sock):
    assert wire.read_response(wire.Reader(sock), "GET", 1).status == 502


@pytest.mark.parametrize("protocol", ["tcp", "http"])
def test_an_endpoint_renegotiates(weir, tcp, mint, protocol):  # noqa: F811
    """As servers of TLS 1.2 do that want a certificate for some paths only."""
    leaf, port = mint.leaf("127.0.0.1"), proc.free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:%d" % port, "-cert", str(leaf.path), "-key",
         str(leaf.key_path), "-tls1_2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, preexec_fn=proc.die_with_parent)
    try:
        out = b""
        while b"ACCEPT" not in out:
            out += os.read(server.stdout.fileno(), 65536)
        address = "127.0.0.1:%d" % port
        if protocol == "tcp":
            front = tcp(address, pool=pool_of(mint))
        else:
            front = weir({"pools": {"app": {"endpoints": [address], **pool_of(mint)}},
                          "routes": [{"prefix": "/", "pool": "app"}]})
        sock = tcpsite.connect(front.port)
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: db.example\r\n\r\n")
        while b"GET /x" not in out:
            out += os.read(server.stdout.fileno(), 65536)
        server.stdin.write(b"r\n")
        server.stdin.flush()
        tcpsite.ended(sock) if protocol == "tcp" else exactly_502(sock)
        record = front.ended("upstream.tls.renegotiation")
        assert record["weir.upstream.tls"] == "NO_RENEGOTIATION"
        while b"no renegotiation" not in out:
            data = os.read(server.stdout.fileno(), 65536)
            assert data, out[-1500:]
            out += data
    finally:
        server.kill()
        server.wait()


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("protocol", ["tcp", "http"])
@pytest.mark.parametrize("known", ["stranger", "namesake"])
def test_a_refused_client_certificate(weir, tcp, mint, work, protocol,  # noqa: F811
                                      version, known):
    """A namesake's CA has the name of the one that the endpoint trusts: OpenSSL says decrypt_error
    then, in TLS 1.3 after the handshake."""
    (work / "other").mkdir()
    other = Mint(work / "other")
    issuer = other.root if known == "namesake" else other.make("stranger", ca=True)
    own = other.leaf("weir", issuer=issuer, purpose="client")
    backend = TlsBackend(mint.leaf("127.0.0.1"), client_ca=mint.root, minimum=version,
                         maximum=version)
    pool = pool_of(mint, cert="file:%s" % own.path, key="file:%s" % own.key_path)
    if protocol == "tcp":
        front = tcp(backend, pool=pool)
    else:
        front = weir({"pools": {"app": {"endpoints": [backend.address], **pool}},
                      "routes": [{"prefix": "/", "pool": "app"}]})
    with contextlib.closing(tcpsite.connect(front.port)) as sock:
        sock.sendall(b"GET /x HTTP/1.1\r\nHost: db.example\r\n\r\n")
        tcpsite.ended(sock) if protocol == "tcp" else exactly_502(sock)
    end = "upstream.tls.alert" if known == "namesake" else "upstream.tls.client_cert_refused"
    why = "DECRYPT_ERROR" if known == "namesake" else "UNKNOWN_CA"
    assert why in front.ended(end)["weir.upstream.tls"]
    backend.stop()


def test_an_endpoint_that_breaks_records_is_taken_out(weir, endpoint, mint):  # noqa: F811
    """As one that resets is."""
    bad = endpoint(Site(mint, V13, lambda raw: raw.spoil(FAULTS["bad mac"])))
    good = TlsBackend(mint.leaf("127.0.0.1"))
    pool = {**pool_of(mint), "outlier": {"consecutive_failures": 2, "eject": "1h"},
            "balance": "round_robin"}
    front = weir({"process": {"workers": 1},
                  "pools": {"app": {"endpoints": [bad.address, good.address], **pool}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    assert sorted(front.get("/x").status for _ in range(8)) == [200] * 6 + [502] * 2
    front.stderr_has("consecutive failures, the last one upstream.tls.record")
    good.stop()
