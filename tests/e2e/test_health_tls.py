"""Health checks of pools with tls: over TLS, held to what requests are held to, with the same
words for what is wrong (packaging/docs/upstreamtls.md). Never in the clear. Endpoints are Python's
ssl, the h2 package and grpcio."""
import json
import ssl

import pytest

from harness import wire
from harness.backend import raw
from harness.h2endpoints import NOT_SERVING, Answer, Endpoint, Grpc, ask
from harness.tcpsite import reset
from harness.tlspeers import TlsBackend, TlsOrigin
from harness.weir import eventually

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
LOCAL = "127.0.0.1"
QUICK = {"path": "/healthz", "interval": "100ms", "fast_interval": "50ms", "timeout": "10s",
         "healthy": 2, "unhealthy": 2}
TCP = {key: QUICK[key] for key in QUICK if key != "path"} | {"protocol": "tcp"}
GRPC = {**TCP, "protocol": "grpc"}
CALM = {"consecutive_failures": 0, "consecutive_5xx": 0}


@pytest.fixture
def site(weir, mint):
    """A factory of a weir whose pool trusts the mint."""
    def make(*endpoints, protocol="auto", health=None, tls=None, **pool):
        keys = {"ca": "file:%s" % mint.root.path, **(tls or {})}
        app = {"balance": "round_robin", "endpoints": [each.address for each in endpoints],
               "connections": {"protocol": protocol}, "health": health or QUICK, "outlier": CALM,
               "tls": {key: item for key, item in keys.items() if item is not None}, **pool}
        return weir({"listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                     "pools": {"app": app},
                     "routes": [{"name": "all", "prefix": "/", "pool": "app"}]})
    return make


def row_of(proxy, endpoint):
    listed = json.loads(proxy.status_get("/-/status").body)["endpoints"]
    return {row["address"]: row for row in listed}[endpoint.address]


def becomes(proxy, endpoint, word):
    def is_so():
        return row_of(proxy, endpoint)["state"] == word
    is_so.__doc__ = "%s becomes %s; %s" % (endpoint.address, word, proxy.errors)
    eventually(is_so)
    return row_of(proxy, endpoint)


def is_down(proxy, endpoint, end, why=""):
    """Down, for what requests would get."""
    reason = becomes(proxy, endpoint, "down")["reason"]
    assert reason.startswith(end) and why in reason, reason
    proxy.stderr_has("endpoint %s: %s" % (endpoint.address, end))
    assert proxy.metric("weir_health_checks_total", pool="app", result="tls") >= 1


# ---- what is spoken ----

BOTH = ("h2", "http/1.1")


@pytest.mark.parametrize("protocol,alpn,health,spoken", [
    ("auto", BOTH, QUICK, "h2"),
    ("auto", ("http/1.1",), QUICK, "http/1.1"),
    ("auto", ("h2",), QUICK, "h2"),
    ("auto", None, QUICK, None),
    ("h2", BOTH, QUICK, "h2"),
    ("http/1.1", BOTH, QUICK, "http/1.1"),
    ("auto", BOTH, {**QUICK, "protocol": "http/1.1"}, "http/1.1"),
    ("h2", BOTH, {**QUICK, "protocol": "http/1.1"}, "http/1.1"),
    ("auto", BOTH, TCP, "h2"),
    ("http/1.1", BOTH, TCP, "http/1.1"),
])
def test_protocol(site, serve, mint, protocol, alpn, health, spoken):
    origin = serve(TlsOrigin, mint.leaf(LOCAL), alpn=alpn)
    proxy = site(origin, protocol=protocol, health=health)
    becomes(proxy, origin, "in service")
    eventually(lambda: set(origin.spoken) == {spoken})  # weir is through before it is
    assert not origin.refused
    for request in origin.requests:
        assert request.path == "/healthz" and request.method == "GET"
        assert request.headers["user-agent"] == "weir (health check)"
        assert request.headers.get(":scheme") == ("https" if spoken == "h2" else None)
    assert bool(origin.requests) == ("path" in health)


@pytest.mark.parametrize("protocol,alpn", [("auto", BOTH), ("auto", ("http/1.1",)),
                                           ("h2", ("h2",))])
def test_down_and_up(site, serve, mint, protocol, alpn):
    status = [200]

    def answer(request):
        return Answer(status[0] if request.path == "/healthz" else 200, b"x")
    one = serve(TlsOrigin, mint.leaf(LOCAL), answer, alpn=alpn)
    two = serve(TlsOrigin, mint.leaf(LOCAL), alpn=alpn)
    proxy = site(one, two, protocol=protocol)
    becomes(proxy, one, "in service")
    becomes(proxy, two, "in service")
    status[0] = 503
    row = becomes(proxy, one, "down")
    assert row["reason"] == "status 503 is not in 200-299 (health.expect), 2 checks in a row"
    for number in range(6):
        assert proxy.get("/%d" % number).status == 200
    assert not [r for r in one.requests if r.path != "/healthz"]
    status[0] = 200
    assert becomes(proxy, one, "in service")["reason"] == "passed, 2 checks in a row"


@pytest.mark.parametrize("maximum", [V12, V13])
@pytest.mark.parametrize("alpn", [("h2",), ("http/1.1",)])
def test_body(site, serve, mint, maximum, alpn):
    """A body of several records."""
    origin = serve(TlsOrigin, mint.leaf(LOCAL), lambda r: Answer(200, b"x" * 60000 + b"ready"),
                   alpn=alpn, maximum=maximum)
    proxy = site(origin, health={**QUICK, "body": "ready"})
    becomes(proxy, origin, "in service")


def test_the_request_is_whole_and_the_end_is_told(site, serve, mint):
    """TlsBackend is strict about requests, and about what follows them."""
    backend = serve(TlsBackend, mint.leaf(LOCAL), raw(wire.response_bytes(200), close=True))
    proxy = site(backend, protocol="http/1.1")
    becomes(proxy, backend, "in service")
    assert backend.requests[0].get("connection") == "close"
    eventually(lambda: len(backend.handshakes) >= 3)
    assert backend.full() == len(backend.handshakes)  # each check shakes hands in full


def test_names(weir, serve, mint):
    """An endpoint that is written as a name is asked for it, and must have it."""
    good = serve(TlsBackend, mint.leaf("localhost"))
    proxy = weir({"pools": {"app": {"endpoints": ["localhost:%d" % good.port], "health": QUICK,
                                    "tls": {"ca": "file:%s" % mint.root.path}}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    eventually(lambda: proxy.metric("weir_health_checks_total", pool="app", result="pass") >= 1)
    assert {shake.sni for shake in good.handshakes} == {"localhost"}


# ---- what is wrong ----

@pytest.mark.parametrize("health", [QUICK, TCP, GRPC], ids=["http", "tcp", "grpc"])
@pytest.mark.parametrize("names,days,tls,end,why", [
    ([LOCAL], (-10, -1), {}, "expired", "expired"),
    ([LOCAL], (1, 10), {}, "not_yet_valid", "not yet valid"),
    (["127.0.0.2"], (-1, 10), {}, "name_mismatch", "names"),
    (["app.internal"], (-1, 10), {"sni": "b.internal"}, "name_mismatch", "names"),
    ([LOCAL], (-1, 10), {"pins": "sha256:" + "5b" * 32}, "pin_mismatch", "pins"),
])
def test_certificates(site, serve, mint, health, names, days, tls, end, why):
    origin = serve(TlsOrigin, mint.leaf(*names, days=days))
    proxy = site(origin, health=health, tls=tls)
    is_down(proxy, origin, "upstream.tls." + end, why)
    assert not origin.requests
    eventually(lambda: origin.refused)  # by an alert that says why


def test_untrusted(site, serve, mint):
    other = mint.make("other", ca=True)
    origin = serve(TlsOrigin, mint.leaf(LOCAL, issuer=other))
    proxy = site(origin)
    is_down(proxy, origin, "upstream.tls.untrusted", "issuer")
    assert not origin.requests


def test_verify_none(site, serve, mint):
    origin = serve(TlsOrigin, mint.make("any", ["x.example"], days=(-10, -1)))
    proxy = site(origin, tls={"verify": "none", "ca": None})
    becomes(proxy, origin, "in service")


def test_version(site, serve, mint):
    origin = serve(TlsOrigin, mint.leaf(LOCAL), maximum=V12)
    proxy = site(origin, tls={"min_version": "1.3"})
    is_down(proxy, origin, "upstream.tls.version")


@pytest.mark.parametrize("health,protocol", [(QUICK, "h2"), (TCP, "h2"), (GRPC, "auto")])
def test_h2_is_demanded(site, serve, mint, health, protocol):
    origin = serve(TlsOrigin, mint.leaf(LOCAL), alpn=("http/1.1",))
    proxy = site(origin, health=health, protocol=protocol)
    is_down(proxy, origin, "upstream.tls.alpn")
    assert not origin.requests


@pytest.mark.parametrize("maximum", [V12, V13])
def test_own_certificate(site, serve, mint, maximum):
    own = mint.leaf("weir", label="weir", purpose="client")
    origin = serve(TlsOrigin, mint.leaf(LOCAL), client_ca=mint.root, maximum=maximum)
    proxy = site(origin, tls={"cert": "file:%s" % own.path, "key": "file:%s" % own.key_path})
    becomes(proxy, origin, "in service")
    bare = site(origin)
    is_down(bare, origin, "upstream.tls.client_cert_refused", "ALERT")


@pytest.mark.parametrize("health", [QUICK, TCP, GRPC], ids=["http", "tcp", "grpc"])
def test_an_endpoint_without_tls(site, serve, health):
    """It is sent a ClientHello and nothing else, however often; checks do not fall back."""
    class Plain(Endpoint):
        def __init__(self):
            self.first = []
            super().__init__()

        def serve(self, sock):
            self.first.append(sock.recv(65536))
            sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            while sock.recv(65536):
                pass
    plain = serve(Plain)
    proxy = site(plain, health=health)
    is_down(proxy, plain, "upstream.tls.plaintext", "WRONG_VERSION_NUMBER")
    eventually(lambda: len(plain.first) > 3)
    assert all(each[:2] == b"\x16\x03" for each in plain.first if each)


class Rude(Endpoint):
    """manner(sock) is what it does once a ClientHello has come."""

    def __init__(self, manner):
        self.manner = manner
        super().__init__()

    def serve(self, sock):
        if sock.recv(65536):
            self.manner(sock)


def test_closed_inside_the_handshake(site, serve):
    rude = serve(Rude, lambda sock: None)
    is_down(site(rude), rude, "upstream.tls.closed")


def test_reset_inside_the_handshake(site, serve):
    rude = serve(Rude, reset)
    is_down(site(rude), rude, "upstream.tls.reset")


def test_silence(site, serve):
    rude = serve(Rude, lambda sock: sock.recv(65536))
    proxy = site(rude, health={**QUICK, "timeout": "300ms"})
    is_down(proxy, rude, "upstream.tls.timeout", ": TLS handshake timed out after 300 ms")


def test_alert(site, serve):
    rude = serve(Rude, lambda sock: sock.sendall(b"\x15\x03\x03\x00\x02\x02\x28"))
    is_down(site(rude), rude, "upstream.tls.nothing_in_common", "HANDSHAKE_FAILURE")


def test_silence_after_the_handshake(site, serve, mint):
    class Mute(TlsOrigin):
        def serve_h1(self, tls):
            while tls.recv(65536):
                pass
    mute = serve(Mute, mint.leaf(LOCAL), alpn=("http/1.1",))
    proxy = site(mute, health={**QUICK, "timeout": "300ms"})
    row = becomes(proxy, mute, "down")
    assert row["reason"].startswith("no answer after 300 ms (health.timeout)")


def test_refused_connection_is_no_fault_of_tls(site, serve, mint):
    origin = serve(TlsOrigin, mint.leaf(LOCAL))
    origin.stop()
    proxy = site(origin)
    assert becomes(proxy, origin, "down")["reason"].startswith("connect refused")


# ---- another policy ----

def test_a_reload_with_another_policy(site, serve, mint):
    """The next check is under it; what checks the old one had under way do not count."""
    origin = serve(TlsOrigin, mint.leaf(LOCAL))
    proxy = site(origin)
    becomes(proxy, origin, "in service")
    proxy.change(pools={"app": {"tls": {"names": ["other.internal"]}}})
    proxy.reload()
    is_down(proxy, origin, "upstream.tls.name_mismatch")
    proxy.change(pools={"app": {"tls": {"names": [LOCAL]}}})
    proxy.reload()
    becomes(proxy, origin, "in service")


# ---- gRPC ----

def test_grpc(site, serve, mint):
    one = serve(Grpc, "one", cert=mint.leaf(LOCAL))
    two = serve(Grpc, "two", cert=mint.leaf(LOCAL))
    proxy = site(one, two, protocol="h2", health=GRPC)
    becomes(proxy, one, "in service")
    becomes(proxy, two, "in service")
    one.status[b""] = NOT_SERVING
    row = becomes(proxy, one, "down")
    assert row["reason"].startswith("the server is NOT_SERVING"), row
    assert {ask("127.0.0.1:%d" % proxy.port) for _ in range(6)} == {"two"}


# ---- PROXY headers ----

@pytest.mark.parametrize("health", [QUICK, TCP], ids=["http", "tcp"])
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_proxy_header_before_tls(site, serve, mint, health, version):
    """In the clear, before the ClientHello; it says that the check is weir's own."""
    origin = serve(TlsOrigin, mint.leaf(LOCAL), proxied=True)
    proxy = site(origin, health=health, proxy_protocol=version)
    becomes(proxy, origin, "in service")
    assert origin.headers[0].version == int(version[1])
    assert origin.headers[0].local
    eventually(lambda: origin.handshakes)  # whose end weir sees first with TLS 1.3
