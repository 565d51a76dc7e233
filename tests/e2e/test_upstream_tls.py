"""TLS to endpoints (pools.*.tls): verification and its causes, names, pins, client certificates,
versions, sessions, ALPN, reload. Endpoints are Python's ssl, nginx, openssl and another weir.
RFC 8446, RFC 5280, RFC 9525, RFC 7301; THREATS.md rows 14, 16, 17, 29."""
import concurrent.futures
import signal
import ssl
import threading

import pytest

from harness import tcpsite, wire
from harness.backend import raw
from harness.tlspeers import Mint, TlsBackend
from harness.weir import eventually, run

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
CALM = {"consecutive_failures": 0, "consecutive_5xx": 0}
LOCAL = "127.0.0.1"


@pytest.fixture
def site(weir, mint):
    """A factory of (weir, TLS backend); tls are the keys of the pool's tls, ca is the mint's root
    unless it says otherwise."""
    made = []

    def make(cert=None, tls=None, pool=None, conf=None, address=None, **kwargs):
        backend = TlsBackend(cert or mint.leaf(LOCAL, "localhost"), **kwargs)
        made.append(backend)
        keys = {"ca": "file:%s" % mint.root.path, **(tls or {})}
        keys = {key: item for key, item in keys.items() if item is not None}
        app = {"endpoints": [address % backend.port if address else backend.address],
               "tls": keys, "outlier": CALM, "retry": {"attempts": 1}, **(pool or {})}
        whole = {"process": {"workers": 1}, "pools": {"app": app},
                 "routes": [{"prefix": "/", "pool": "app"}], **(conf or {})}
        return weir(whole), backend
    yield make
    for each in made:
        each.stop()
    bad = [text for each in made for text in each.violations]
    assert not bad, "weir sent upstream: %s" % "\n".join(bad)


def fails(front, end, status=502, why=None):
    """A request ends by `end`; what the log says of it."""
    response = front.get("/x")
    assert response.status == status, response
    assert end in response.get("proxy-status"), response
    record = front.ended(end, status=status)
    if why:
        assert why in record["weir.upstream.tls"], record
    return record


# ---- good ones ----

@pytest.mark.parametrize("version", [V12, V13])
def test_requests_and_bodies(site, version):
    front, backend = site(minimum=version, maximum=version)
    conn = front.client()
    assert conn.get("/t?q=1").body == b"GET /t?q=1"
    body = bytes(range(256)) * 4096
    backend.on("/p", lambda c, r: (c.read_body(r), wire.response_bytes(body=r.body.data))[1])
    assert conn.request("POST", "/p", body=body).body == body
    assert len(backend.handshakes) == 1
    shake = backend.handshakes[0]
    assert shake.sni is None and shake.version == version.name.replace("v1_", "v1.")
    assert front.metric("weir_upstream_tls_handshakes_total", resumed="false") == 1
    front.ended("ok", path="/t")


def test_an_empty_group_is_tls_verified(weir, mint):
    """tls = { }; is TLS, against the system's store; here $SSL_CERT_FILE names one."""
    backend = TlsBackend(mint.leaf("localhost"))
    conf = {"pools": {"app": {"endpoints": ["localhost:%d" % backend.port], "tls": {},
                              "outlier": CALM}}, "routes": [{"prefix": "/", "pool": "app"}]}
    good = weir(conf, env={"SSL_CERT_FILE": str(mint.root.path)})
    assert good.get("/x").body == b"GET /x"
    assert backend.handshakes[0].sni == "localhost"
    dump = run("dump", "-c", good.path).stdout
    assert 'tls' in dump and 'verify = "system"' in dump
    other = weir(conf, env={"SSL_CERT_FILE": str(Mint(mint.directory).root.path)})
    fails(other, "upstream.tls.untrusted")
    backend.stop()


# ---- what a certificate has to be ----

def test_untrusted_issuer(site, mint):
    other = mint.make("other", ca=True)
    front, backend = site(mint.leaf(LOCAL, issuer=other))
    fails(front, "upstream.tls.untrusted", why="issuer")
    eventually(lambda: backend.refused)
    assert "unknown ca" in backend.refused[0] and not backend.requests
    assert front.metric("weir_upstream_tls_handshake_failures_total") == 1


def test_self_signed(site, mint):
    """It is refused, unless it is trusted itself."""
    own = mint.make("own", [LOCAL])
    front, _ = site(own)
    fails(front, "upstream.tls.self_signed", why="self signed")
    front, _ = site(own, tls={"ca": "file:%s" % own.path})
    assert front.get("/x").status == 200


@pytest.mark.parametrize("days,end", [((-10, -1), "expired"), ((1, 10), "not_yet_valid")])
@pytest.mark.parametrize("which", ["leaf", "intermediate"])
def test_times(site, mint, days, end, which):
    between = mint.make("between", ca=True, issuer=mint.root,
                        days=days if which == "intermediate" else (-10, 10))
    leaf = mint.leaf(LOCAL, issuer=between, days=days if which == "leaf" else (-10, 10))
    front, backend = site(leaf.write(between))
    fails(front, "upstream.tls.%s" % end)
    assert not backend.requests


def test_chains(site, mint):
    """The endpoint sends what is between it and the root; without that it is not trusted, unless
    the bundle has it."""
    between = mint.make("between", ca=True, issuer=mint.root)
    leaf = mint.leaf(LOCAL, issuer=between)
    front, _ = site(leaf)
    fails(front, "upstream.tls.untrusted")
    partial, _ = site(leaf, tls={"ca": "file:%s" % between.path})
    assert partial.get("/x").status == 200
    whole, _ = site(leaf.write(between))
    assert whole.get("/x").status == 200


def test_a_certificate_for_clients_is_refused(site, mint):
    front, _ = site(mint.leaf(LOCAL, purpose="client"))
    fails(front, "upstream.tls.certificate_purpose", why="purpose")


def test_an_issuer_that_may_not_issue(site, mint):
    """A leaf that signs another one is no CA."""
    middle = mint.leaf("a.example", label="middle")
    front, _ = site(mint.leaf(LOCAL, issuer=middle).write(middle))
    fails(front, "upstream.tls.untrusted")


@pytest.mark.parametrize("names,address,tls,good", [
    (["127.0.0.1"], "127.0.0.1:%d", {}, True),
    (["127.0.0.2"], "127.0.0.1:%d", {}, False),
    (["localhost"], "127.0.0.1:%d", {}, False),
    (["localhost"], "localhost:%d", {}, True),
    (["127.0.0.1"], "localhost:%d", {}, False),
    (["*.corp.internal"], "127.0.0.1:%d", {"sni": "app.corp.internal"}, True),
    (["*.corp.internal"], "127.0.0.1:%d", {"sni": "a.app.corp.internal"}, False),
    (["*.corp.internal"], "127.0.0.1:%d", {"sni": "corp.internal"}, False),
    (["*.internal"], "127.0.0.1:%d", {"sni": "app.internal"}, False),  # as for a public suffix
    (["app.internal"], "127.0.0.1:%d", {"sni": "APP.Internal"}, True),
    (["b.internal"], "127.0.0.1:%d", {"sni": "app.internal", "names": ["a.x", "b.internal"]},
     True),
    (["app.internal"], "127.0.0.1:%d", {"sni": "app.internal", "names": ["a.internal"]}, False),
    (["10.1.2.3"], "127.0.0.1:%d", {"names": "10.1.2.3"}, True),
    (["::1"], "127.0.0.1:%d", {"names": "::1"}, True),
    ([], "127.0.0.1:%d", {"sni": "leaf"}, False),  # a common name is none
])
def test_names(site, mint, names, address, tls, good):
    front, backend = site(mint.leaf(*names), tls=tls, address=address)
    if good:
        assert front.get("/x").status == 200
        sni = tls.get("sni", None if address[0] == "1" else "localhost")
        assert backend.handshakes[0].sni == (sni.lower() if sni else None)
    else:
        fails(front, "upstream.tls.name_mismatch", why="names")
        assert not backend.requests


@pytest.mark.parametrize("names,constraints,good", [
    (["app.internal"], {"permitted": ["internal"]}, True),
    (["app.internal"], {"permitted": ["corp.internal"]}, False),
    (["app.internal"], {"excluded": ["internal"]}, False),
    (["app.internal", "b.test"], {"permitted": ["internal"]}, False),  # one bad name is enough
    (["app.internal", "127.0.0.1"], {"excluded": ["127.0.0.0/8"]}, False),
    (["app.internal", "127.0.0.1"], {"permitted": ["internal", "10.0.0.0/8"]}, False),
    (["app.internal", "127.0.0.1"], {"permitted": ["internal", "127.0.0.0/8"]}, None),
])
def test_name_constraints(site, mint, names, constraints, good):
    """An issuer gives the names that its own certificate lets it give (RFC 5280 4.2.1.10).
    BoringSSL does not know constraints of addresses: what cannot be decided is refused."""
    if good is None:
        good = "AWS-LC" in run("version").stdout
    between = mint.make("between", ca=True, issuer=mint.root, constraints=constraints)
    front, _ = site(mint.leaf(*names, issuer=between).write(between),
                    tls={"sni": "app.internal"})
    if good:
        assert front.get("/x").status == 200
    else:
        fails(front, "upstream.tls.untrusted")


@pytest.mark.parametrize("version,good", [(V12, False), (V13, None)])
def test_p521(site, mint, version, good):
    """A key on P-521 signs for who offers to verify that: AWS-LC does, over TLS 1.3."""
    if good is None:
        good = "AWS-LC" in run("version").stdout
    front, _ = site(mint.leaf(LOCAL, "localhost", kind="p521"), minimum=version, maximum=version)
    if good:
        assert front.get("/x").status == 200
    else:
        fails(front, "upstream.tls.nothing_in_common")


def test_verify_none(site, mint):
    """Anything is taken; `weir check` says so."""
    front, backend = site(mint.make("any", ["x.example"], days=(-10, -1)),
                          tls={"verify": "none", "ca": None})
    assert front.get("/x").status == 200 and backend.handshakes
    checked = run("check", front.path)
    assert checked.returncode == 0 and "W0490" in checked.stdout + checked.stderr


@pytest.mark.parametrize("verify", ["system", "none"])
def test_pins(site, mint, verify):
    leaf, other = mint.leaf(LOCAL), mint.leaf(LOCAL)
    base = {"verify": verify} if verify == "system" else {"verify": verify, "ca": None}
    good, _ = site(leaf, tls={**base, "pins": [other.pin, leaf.pin]})
    assert good.get("/x").status == 200
    checked = run("check", good.path)
    assert "W0490" not in checked.stdout + checked.stderr
    bad, backend = site(leaf, tls={**base, "pins": other.pin})
    fails(bad, "upstream.tls.pin_mismatch", why="pins")
    assert not backend.requests


# ---- weir's own certificate ----

@pytest.mark.parametrize("version", [V12, V13])
def test_client_certificate(site, mint, version):
    own = mint.leaf("weir", label="weir", purpose="client")
    front, backend = site(client_ca=mint.root, minimum=version, maximum=version,
                          tls={"cert": "file:%s" % own.path, "key": "file:%s" % own.key_path})
    assert front.get("/x").status == 200
    assert backend.handshakes[0].client == "weir"


@pytest.mark.parametrize("version", [V12, V13])
@pytest.mark.parametrize("shown", ["none", "stranger"])
def test_client_certificate_refused(site, mint, version, shown):
    """In TLS 1.3 the refusal comes when weir's request is on its way (RFC 8446 4.4.2.4)."""
    tls = {}
    if shown == "stranger":
        own = mint.make("stranger", ["weir"], purpose="client")
        tls = {"cert": "file:%s" % own.path, "key": "file:%s" % own.key_path}
    front, backend = site(client_ca=mint.root, minimum=version, maximum=version, tls=tls)
    fails(front, "upstream.tls.client_cert_refused", why="ALERT")
    assert not backend.requests


# ---- versions, alerts, silence ----

def test_versions(site):
    front, _ = site(maximum=V12, tls={"min_version": "1.3"})
    fails(front, "upstream.tls.version")
    front, backend = site(tls={"min_version": "1.3"})
    assert front.get("/x").status == 200 and backend.handshakes[0].version == "TLSv1.3"


def test_an_endpoint_without_tls(weir, mint, new_backend):
    """It does not understand the handshake."""
    plain = new_backend()
    front = weir({"pools": {"app": {"endpoints": [plain.address], "outlier": CALM,
                                    "tls": {"ca": "file:%s" % mint.root.path}}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    fails(front, "upstream.tls.closed")
    plain.violations.clear()


INJECTED = wire.response_bytes(body=b"injected")


@pytest.mark.parametrize("then", ["shake", "end"])
def test_plaintext_before_the_handshake(site, then):
    """What an endpoint says without TLS is never a response (THREATS.md row 14)."""
    def before(sock):
        sock.sendall(INJECTED)
        return then == "end"
    front, backend = site(before=before)
    record = fails(front, "upstream.tls.plaintext")
    assert record["weir.upstream.tls"] and not backend.requests


def says(data):
    """What an endpoint is that answers the ClientHello by these bytes."""
    def before(sock):
        sock.recv(65536)
        sock.sendall(data)
        return True
    return before


@pytest.mark.parametrize("alert,end,why", [
    (40, "nothing_in_common", "HANDSHAKE_FAILURE"),
    (71, "nothing_in_common", "INSUFFICIENT_SECURITY"),
    (112, "unrecognized_name", "UNRECOGNIZED_NAME"),
    (80, "alert", "INTERNAL_ERROR"),
    (50, "alert", "DECODE_ERROR"),
    (51, "alert", "DECRYPT_ERROR"),
    (10, "alert", "UNEXPECTED_MESSAGE"),
    (47, "alert", "ILLEGAL_PARAMETER"),
    (90, "alert", "USER_CANCELLED"),
    (70, "version", "PROTOCOL_VERSION"),
    (120, "alpn", "NO_APPLICATION_PROTOCOL"),
    (48, "client_cert_refused", "UNKNOWN_CA"),
    (49, "client_cert_refused", "ACCESS_DENIED"),
])
def test_alerts(site, alert, end, why):
    front, _ = site(before=says(b"\x15\x03\x03\x00\x02\x02" + bytes([alert])))
    fails(front, "upstream.tls." + end, why=why)


@pytest.mark.parametrize("version,suite,group", [
    (V12, "ECDHE-ECDSA-AES128-SHA", None), (V12, None, "secp521r1"), (V13, None, "secp521r1")])
def test_nothing_in_common(site, version, suite, group):
    front, backend = site(minimum=version, maximum=version)
    if suite:
        backend.context.set_ciphers(suite)
    if group:
        backend.context.set_ecdh_curve(group)
    fails(front, "upstream.tls.nothing_in_common", why="HANDSHAKE_FAILURE")
    eventually(lambda: backend.refused)


@pytest.mark.parametrize("data", [
    b"\x16\x03\x03\x00\x04\x0b\x00\x00\x00",  # a Certificate comes first
    b"\x16\x03\x03\x00\x07\x02\x00\x00\x03abc",  # a ServerHello of 3 bytes
    b"\x17\x03\x03\x00\x01x",  # data
])
def test_against_the_protocol(site, data):
    front, _ = site(before=says(data))
    assert fails(front, "upstream.tls.handshake")["weir.upstream.tls"]


def test_closed_inside_the_handshake(site):
    front, _ = site(before=lambda sock: sock.recv(65536) and (sock.close() or True))
    fails(front, "upstream.tls.closed")


@pytest.mark.parametrize("data", [b"", b"\x16\x03\x03\x00\x7a\x02\x00"])
def test_reset_inside_the_handshake(site, data):
    """Reset and closed are two things, whatever came before."""
    def before(sock):
        assert sock.recv(65536)
        sock.sendall(data)
        return tcpsite.reset(sock) or True
    front, _ = site(before=before)
    fails(front, "upstream.tls.reset")


def test_close_notify_inside_the_handshake(site):
    front, _ = site(before=says(b"\x15\x03\x03\x00\x02\x01\x00"))
    fails(front, "upstream.tls.closed")


def test_silence(site):
    """timeouts.connect is for the handshake too."""
    held = []
    front, _ = site(before=lambda sock: held.append(sock) or True,
                    pool={"timeouts": {"connect": "300ms"}})
    fails(front, "upstream.tls.timeout", status=504)
    for protocol in ("http/1.1", "h2"):
        front.change(pools={"app": {"connections": {"protocol": protocol}}})
        front.reload()
        assert front.get("/y").status == 504
        front.ended("upstream.tls.timeout", status=504)


def test_refused_connection_is_no_fault_of_tls(site):
    front, backend = site()
    backend.stop()
    fails(front, "upstream.connect.refused")


def test_retry_goes_elsewhere(weir, mint):
    """A failed handshake is a failed connect: another endpoint may have the request, a POST too;
    and it counts for passive health."""
    good, bad = TlsBackend(mint.leaf(LOCAL)), TlsBackend(mint.leaf("x.example"))
    front = weir({"process": {"workers": 1},
                  "pools": {"app": {"endpoints": [bad.address, good.address],
                                    "balance": "round_robin",
                                    "tls": {"ca": "file:%s" % mint.root.path},
                                    "outlier": {"consecutive_failures": 3},
                                    "retry": {"attempts": 2, "on": ["connect"]}}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    for _ in range(12):
        assert front.request("POST", "/x", body=b"abc").status == 200
    assert len(good.requests) == 12
    tries = [r["weir.tries"] for r in front.lines() if r.get("weir.tries")]
    assert tries and all("upstream.tls.name_mismatch" in each for each in tries)
    front.stderr_has("taken out of service")
    front.stderr_has("upstream.tls.name_mismatch")
    for each in (good, bad):
        each.stop()


# ---- connections and sessions ----

CLOSING = wire.response_bytes(fields=["Connection: close"], body=b"bye")


@pytest.mark.parametrize("version", [V12, V13])
def test_sessions_are_used_again(site, version):
    front, backend = site(handler=raw(CLOSING, close=True), minimum=version, maximum=version)
    for i in range(10):
        assert front.get("/%d" % i).body == b"bye"
    assert len(backend.handshakes) == 10 and backend.full() == 1
    assert front.metric("weir_upstream_tls_handshakes_total", resumed="true") == 9


def test_a_session_is_no_way_around_verification(site, mint):
    """The certificate of a session is looked at again: the pool's bundle may be another now."""
    front, backend = site(handler=raw(CLOSING, close=True))
    for _ in range(3):
        assert front.get("/x").status == 200
    assert backend.full() == 1
    front.change(pools={"app": {"tls": {"names": ["other.internal"]}}})
    front.reload()
    fails(front, "upstream.tls.name_mismatch")
    assert not backend.handshakes[3:] and len(backend.requests) == 3


@pytest.mark.parametrize("differ", ["nothing", "sni", "pins", "cert"])
def test_sessions_stay_with_their_pool(weir, mint, differ):
    """Two pools at one endpoint: none resumes a session of the other, whatever they have alike."""
    leaf = mint.leaf(LOCAL, "localhost", "two.internal")
    backend = TlsBackend(leaf, raw(CLOSING, close=True))
    shown = mint.make("shown", issuer=mint.root, purpose="client")
    tls = {"ca": "file:%s" % mint.root.path, "sni": "localhost"}
    other = {"nothing": {}, "sni": {"sni": "two.internal"}, "pins": {"pins": [leaf.pin]},
             "cert": {"cert": "file:%s" % shown.path, "key": "file:%s" % shown.key_path}}[differ]
    front = weir({"process": {"workers": 1},
                  "pools": {"one": {"endpoints": [backend.address], "tls": tls},
                            "two": {"endpoints": [backend.address], "tls": {**tls, **other}}},
                  "routes": [{"prefix": "/one", "pool": "one"}, {"prefix": "/", "pool": "two"}]})
    for _ in range(3):
        assert front.get("/one").body == b"bye"
    assert backend.full() == 1
    assert front.get("/two").body == b"bye"
    assert backend.full() == 2
    assert front.get("/two").body == front.get("/one").body == b"bye"
    assert backend.full() == 2
    backend.stop()


def test_no_tickets_no_sessions(site):
    """An endpoint that keeps none: each handshake is a full one."""
    front, backend = site(handler=raw(CLOSING, close=True), tickets=False, minimum=V13)
    assert all(front.get("/x").status == 200 for _ in range(3))
    assert backend.full() == 3


def test_data_on_an_idle_connection_ends_it(site):
    """Session tickets are expected there; application data is not (THREATS.md row 14)."""
    front, backend = site()
    assert front.get("/a").status == 200
    conn = backend.conns[0]
    eventually(lambda: front.metric("weir_upstream_connections_idle") == 1)
    conn.sock.sendall(INJECTED)
    eventually(lambda: front.metric("weir_upstream_connections_idle") == 0)
    assert front.get("/b").body == b"GET /b"
    assert len(backend.conns) == 2


def test_keepalive(site):
    front, backend = site()
    for i in range(20):
        assert front.get("/%d" % i).status == 200
    assert len(backend.conns) == 1 and front.metric("weir_upstream_reused_total") == 19


def test_truncation(site):
    """A body until the end of the connection needs close_notify (RFC 8446 6.1)."""
    def handler(conn, request):
        conn.read_body(request)
        conn.send(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf")
        if request.path == "/whole":
            conn.sock.unwrap()
        conn.close()
    front, _ = site(handler=handler)
    assert front.get("/whole").body == b"half"
    conn = front.client()
    conn.send(wire.request_bytes(target="/cut"))
    assert not conn.response(truncated_ok=True).complete
    front.ended("upstream.truncated", path="/cut")


# ---- ALPN ----

def middle_of(weir, mint, backend, protocols, **extra):
    """Another weir with TLS, as an endpoint that speaks these protocols."""
    leaf = mint.leaf(LOCAL)
    rows = [{"cert": "file:%s" % leaf.path, "key": "file:%s" % leaf.key_path, "default": True}]
    return weir({"listeners": {"web": {"protocols": protocols, "tls": {"certificates": rows},
                                       **extra}}}, backend)


def front_of(weir, mint, port, protocol=None, **pool):
    app = {"endpoints": ["127.0.0.1:%d" % port], "outlier": CALM,
           "tls": {"ca": "file:%s" % mint.root.path}, **pool}
    if protocol:
        app["connections"] = {**app.get("connections", {}), "protocol": protocol}
    return weir({"process": {"workers": 1}, "pools": {"app": app},
                 "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                 "routes": [{"prefix": "/", "pool": "app"}]})


def many(front, count, path="/%d"):
    """So many requests at once, each on a connection of its own; the bodies."""
    with concurrent.futures.ThreadPoolExecutor(count) as threads:
        return list(threads.map(lambda n: front.get(path % n).body, range(count)))


BOTH = ["h2", "http/1.1"]


@pytest.mark.parametrize("protocol", [None, "auto", "h2"])
def test_h2_by_alpn(weir, mint, backend, protocol):
    """Many requests at once share few connections; the first of them waited for the handshake."""
    middle = middle_of(weir, mint, backend, BOTH)
    front = front_of(weir, mint, middle.status and middle.port, protocol)
    assert many(front, 60) == [b"GET /%d" % n for n in range(60)]
    assert many(front, 20) == [b"GET /%d" % n for n in range(20)]
    versions = {r["network.protocol.version"] for r in middle.all_lines()
                if r.get("url.path", "").startswith("/")}
    assert versions == {"2"}
    assert middle.metric("weir_downstream_connections_total") <= 2
    assert front.metric("weir_upstream_tls_handshakes_total", resumed="false") <= 2


@pytest.mark.parametrize("offered", [["http/1.1"], None])
def test_auto_falls_to_http_1_1(site, offered):
    """An endpoint that chooses it, or knows no ALPN: all who waited for the handshake go on, each
    on a connection of its own."""
    gate = []
    front, backend = site(alpn=offered, before=lambda sock: gate.append(1) and False)
    assert many(front, 30) == [b"GET /%d" % n for n in range(30)]
    assert {each.alpn for each in backend.handshakes} == {offered and offered[0]}
    front.logged(30, end="ok")
    assert not [r for r in front.lines() if r["weir.end"] != "ok" or r.get("weir.tries")]
    assert front.metric("weir_upstream_connections") == len(backend.handshakes)
    assert front.metric("weir_upstream_connections") == front.metric(
        "weir_upstream_connections_idle")
    assert many(front, 10) == [b"GET /%d" % n for n in range(10)]


def test_http_1_1_alone_is_offered(weir, mint, backend):
    middle = middle_of(weir, mint, backend, BOTH)
    front = front_of(weir, mint, middle.port, "http/1.1")
    assert many(front, 5) == [b"GET /%d" % n for n in range(5)]
    middle.logged(5, end="ok")
    assert {r["network.protocol.version"] for r in middle.all_lines()} == {"1.1"}


@pytest.mark.parametrize("offered", [["http/1.1"], None])
def test_h2_is_demanded(site, offered):
    """No fall-back to another protocol (ALPACA, THREATS.md row 29)."""
    front, backend = site(alpn=offered, pool={"connections": {"protocol": "h2"}})
    fails(front, "upstream.tls.alpn")
    assert not backend.requests


def test_no_protocol_in_common(weir, mint, backend):
    middle = middle_of(weir, mint, backend, ["h2"])
    front = front_of(weir, mint, middle.port, "http/1.1")
    fails(front, "upstream.tls.alpn", why="NO_APPLICATION_PROTOCOL")


def test_waiting_with_a_cap_on_connections(site):
    """One connection is allowed and the endpoint speaks HTTP/1.1: who waited for it queues."""
    front, backend = site(pool={"connections": {"max_per_endpoint": 1, "queue_timeout": "20s"}})
    assert many(front, 20) == [b"GET /%d" % n for n in range(20)]
    assert len(backend.conns) == 1


def test_an_endpoint_changes_its_mind(weir, mint, backend):
    """From HTTP/2 to HTTP/1.1, under requests; a connection of either kind may be the first."""
    leaf = mint.leaf(LOCAL)
    rows = [{"cert": "file:%s" % leaf.path, "key": "file:%s" % leaf.key_path, "default": True}]
    middle = weir({"listeners": {"web": {"protocols": BOTH, "tls": {"certificates": rows}}}},
                  backend)
    front = front_of(weir, mint, middle.port)
    assert many(front, 10) == [b"GET /%d" % n for n in range(10)]
    assert front.metric("weir_upstream_connections") == 1
    for protocols, many_conns in ((["http/1.1"], True), (BOTH, False)):
        middle.change(listeners={"web": {"protocols": protocols}})
        middle.reload()
        front.change(pools={"app": {"connections": {"keepalive": "%ds" % (9 + many_conns)}}})
        front.reload()  # what is remembered stays
        middle.stop()
        middle.start()
        assert many(front, 20) == [b"GET /%d" % n for n in range(20)]
    front.settle()
    assert {r["weir.end"] for r in front.all_lines()} == {"ok"}


def test_hedge_to_an_endpoint_of_http_1_1(weir, mint):
    """The second attempt learns in the handshake that its endpoint speaks HTTP/1.1."""
    release = threading.Event()
    slow = TlsBackend(mint.leaf(LOCAL), lambda c, r: release.wait(30) and None)
    quick = TlsBackend(mint.leaf(LOCAL), alpn=["http/1.1"])
    front = weir({"process": {"workers": 1},
                  "pools": {"app": {"endpoints": [{"address": slow.address},
                                                  {"address": quick.address, "priority": 1}],
                                    "outlier": CALM, "tls": {"ca": "file:%s" % mint.root.path},
                                    "retry": {"attempts": 2, "hedge_after": "20ms",
                                              "budget": "100%"}}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    for _ in range(3):
        assert front.get("/h").status == 200
    assert front.metric("weir_upstream_hedges_won_total") == 3
    assert len(quick.handshakes) == 1
    release.set()
    for each in (slow, quick):
        each.stop()


def test_h2_errors_of_the_handshake(site, mint):
    """All who wait for one connection hear the cause."""
    front, _ = site(mint.leaf("x.example"), alpn=["h2"], pool={"connections": {"protocol": "h2"}})
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        got = list(threads.map(lambda _: front.get("/x").status, range(8)))
    assert got == [502] * 8
    front.logged(8, end="upstream.tls.name_mismatch")


def test_bodies_by_h2(weir, mint, new_backend):
    backend = new_backend(lambda c, r: (c.read_body(r), wire.response_bytes(
        body=r.body.data[::-1]))[1])
    middle = middle_of(weir, mint, backend, BOTH)
    front = front_of(weir, mint, middle.port)
    for size in (0, 1, 16384, 100000, 3 << 20):
        body = (b"0123456789abcdef" * (size // 16 + 1))[:size]
        assert front.request("PUT", "/b", body=body).body == body[::-1][:len(body)] or size > 65536
    front.logged(5, end="ok")


# ---- tunnels, mirrors ----

def test_websocket_tunnel(site):
    """Upgraded connections go both ways over TLS, half-close included."""
    def handler(conn, request):
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                  b"Upgrade: echo\r\n\r\n")
        data = bytearray(conn.reader.buf)
        conn.reader.buf.clear()
        while len(data) < 1 << 20:
            got = conn.sock.recv(65536)
            if not got:
                break
            data += got
        conn.sock.sendall(bytes(data[::-1]))
        conn.sock.unwrap()
        conn.close()
    front, _ = site(handler=handler)
    conn = front.client()
    conn.send(wire.request_bytes(fields=["Connection: Upgrade", "Upgrade: echo"]))
    assert conn.response().status == 101
    sent = bytes(range(256)) * 4096
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        threads.submit(conn.send, sent)
        got = bytearray(conn.reader.buf)
        while len(got) < len(sent):
            part = conn.sock.recv(65536)
            assert part
            got += part
    assert bytes(got) == sent[::-1]
    assert conn.sock.recv(10) == b""


def test_an_upgrade_goes_by_http_1_1(weir, mint, new_backend):
    """Where the endpoint has chosen HTTP/2 before; h2 alone is as without TLS (routing.md)."""
    backend = new_backend(lambda conn, request: (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello"
        if request.get("upgrade") else wire.response_bytes(body=b"plain")))
    middle = middle_of(weir, mint, backend, BOTH)
    front = front_of(weir, mint, middle.port)
    assert front.get("/x").body == b"plain"
    conn = front.client()
    conn.send(wire.request_bytes(fields=["Connection: Upgrade", "Upgrade: echo"]))
    assert conn.response().status == 101
    said = wire.Body()
    conn.reader.exactly(5, said)
    conn.close()
    middle.logged(status=101, network__protocol__version="1.1")


def test_mirror_over_tls(weir, mint, backend):
    copy = TlsBackend(mint.leaf(LOCAL), alpn=BOTH)
    front = weir({"pools": {"app": {"endpoints": [backend.address]},
                            "copy": {"endpoints": [copy.address],
                                     "connections": {"protocol": "http/1.1"},
                                     "tls": {"ca": "file:%s" % mint.root.path}}},
                  "routes": [{"prefix": "/", "pool": "app",
                              "mirror": {"pool": "copy", "percent": "100%"}}]})
    for i in range(3):
        assert front.request("POST", "/%d" % i, body=b"abc").status == 200
    eventually(lambda: front.metric("weir_mirror_responses_total", status="2xx") == 3)
    assert sorted(r.path for r in copy.requests) == ["/0", "/1", "/2"]
    copy.stop()


@pytest.mark.parametrize("alpn", [None, ["http/1.1"]])
def test_mirror_asks_what_is_spoken(weir, mint, backend, alpn):
    """The first copy learns by its handshake that the endpoint speaks HTTP/1.1."""
    copy = TlsBackend(mint.leaf(LOCAL), alpn=alpn)
    front = weir({"process": {"workers": 1},
                  "pools": {"app": {"endpoints": [backend.address]},
                            "copy": {"endpoints": [copy.address],
                                     "tls": {"ca": "file:%s" % mint.root.path}}},
                  "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "copy"}}]})
    many(front, 5)
    eventually(lambda: front.metric("weir_mirror_responses_total", status="2xx") == 5)
    copy.stop()


def test_mirror_by_h2(weir, mint, backend):
    middle = middle_of(weir, mint, backend, BOTH)
    front = weir({"process": {"workers": 1},
                  "pools": {"app": {"endpoints": [backend.address]},
                            "copy": {"endpoints": ["127.0.0.1:%d" % middle.port],
                                     "tls": {"ca": "file:%s" % mint.root.path}}},
                  "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "copy"}}]})
    many(front, 5)
    eventually(lambda: front.metric("weir_mirror_responses_total", status="2xx") == 5)
    middle.logged(5, end="ok")
    assert {r["network.protocol.version"] for r in middle.all_lines()} == {"2"}


# ---- health checks ----

CHECK = {"path": "/healthz", "interval": "50ms", "fast_interval": "50ms", "timeout": "20s"}


@pytest.mark.parametrize("protocol", ["http", "http/1.1", "tcp"])
@pytest.mark.parametrize("version", [V12, V13])
def test_checks_shake_hands(site, protocol, version):
    """By the pool's policy; a TCP check is a connection with its handshake."""
    health = {key: item for key, item in CHECK.items() if protocol != "tcp" or key != "path"}
    front, backend = site(pool={"health": {**health, "protocol": protocol}},
                          tls={"sni": "localhost"}, minimum=version, maximum=version)
    eventually(lambda: front.metric("weir_health_checks_total", result="pass") >= 3)
    assert front.metric("weir_endpoint_up") == 1
    assert {each.sni for each in backend.handshakes} == {"localhost"}
    assert bool(backend.seen("/healthz")) == (protocol != "tcp")
    assert front.get("/x").status == 200


@pytest.mark.parametrize("protocol", [None, "h2"])
def test_checks_by_alpn(weir, mint, backend, protocol):
    middle = middle_of(weir, mint, backend, BOTH)
    front = front_of(weir, mint, middle.port, protocol, health=CHECK)
    eventually(lambda: front.metric("weir_health_checks_total", result="pass") >= 3)
    assert middle.logged(3, path="/healthz")["network.protocol.version"] == "2"
    front.change(pools={"app": {"health": {"protocol": "http/1.1"}}})
    front.reload()
    middle.logged(3, path="/healthz", network__protocol__version="1.1")


@pytest.mark.parametrize("make,word", [
    (lambda mint: dict(cert=mint.leaf("x.example")), "name_mismatch"),
    (lambda mint: dict(cert=mint.leaf(LOCAL, days=(-9, -1))), "expired"),
    (lambda mint: dict(cert=mint.make("own", [LOCAL])), "self_signed"),
    (lambda mint: dict(cert=mint.leaf(LOCAL, purpose="client")), "certificate_purpose"),
    (lambda mint: dict(maximum=V12, tls={"min_version": "1.3"}), "version"),
    (lambda mint: dict(client_ca=mint.root, maximum=V12), "client_cert_refused"),
    (lambda mint: dict(before=lambda sock: sock.sendall(INJECTED)), "plaintext"),
])
def test_a_check_fails_as_requests_would(site, mint, make, word):
    front, backend = site(pool={"health": {**CHECK, "unhealthy": 2}}, **make(mint))
    front.stderr_has("upstream.tls.%s" % word)
    eventually(lambda: front.metric("weir_health_checks_total", result="tls") >= 2)
    eventually(lambda: front.metric("weir_endpoint_up") == 0)
    assert not backend.requests
    fails(front, "upstream.none_healthy", status=503)


def test_a_check_that_gets_no_handshake(site):
    held = []
    front, _ = site(before=lambda sock: held.append(sock) or True,
                    pool={"health": {**CHECK, "timeout": "200ms", "unhealthy": 2}})
    front.stderr_has("TLS handshake timed out after 200 ms")


# ---- PROXY headers ----

@pytest.mark.parametrize("version", ["v1", "v2"])
def test_a_proxy_header_goes_before_the_handshake(weir, mint, backend, version):
    """In the clear, of requests and checks; such connections are nobody else's."""
    middle = middle_of(weir, mint, backend, BOTH, proxy_protocol=True,
                       trusted_proxies=["127.0.0.0/8"])
    front = front_of(weir, mint, middle.port, proxy_protocol=version, health=CHECK)
    assert many(front, 5) == [b"GET /%d" % n for n in range(5)]
    eventually(lambda: front.metric("weir_health_checks_total", result="pass") >= 2)
    middle.logged(5, end="ok")
    lines = [r for r in middle.all_lines() if r.get("url.path") in ["/%d" % n for n in range(5)]]
    assert {r["network.protocol.version"] for r in lines} == {"2"}
    assert front.metric("weir_upstream_connects_total") == 5


# ---- reload and rotation ----

def test_a_reload_that_leaves_tls_alone(site):
    """Idle connections and sessions stay, also when other settings of the pool change."""
    front, backend = site()
    assert front.get("/a").status == 200
    front.change(pools={"app": {"timeouts": {"first_byte": "17s"}}})
    front.reload()
    assert front.get("/b").status == 200
    assert len(backend.conns) == 1
    backend.default = raw(CLOSING, close=True)
    assert front.get("/c").status == 200
    front.change(pools={"app": {"timeouts": {"first_byte": "18s"}}})
    front.reload()
    assert front.get("/d").status == 200
    assert backend.full() == 1 and len(backend.handshakes) == 2


@pytest.mark.parametrize("change", [{"tls": {"min_version": "1.3"}}, {"tls": {"sni": "localhost"}},
                                    {"connections": {"protocol": "http/1.1"}}])
def test_a_reload_that_changes_tls(site, change):
    """No connection and no session of the old policy is used again."""
    front, backend = site()
    assert front.get("/a").status == 200
    front.change(pools={"app": change})
    front.reload()
    eventually(lambda: front.metric("weir_upstream_connections") == 0)
    assert front.get("/b").status == 200
    assert len(backend.handshakes) == 2 and backend.full() == 2


def test_tls_comes_and_goes_by_reload(weir, mint, new_backend):
    plain, secure = new_backend(), TlsBackend(mint.leaf(LOCAL))
    front = weir({"process": {"workers": 1},
                  "pools": {"app": {"endpoints": [plain.address], "outlier": CALM}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    tls = {"ca": "file:%s" % mint.root.path}
    assert front.get("/a").status == 200
    front.change(pools={"app": {"tls": tls}})
    front.reload()
    fails(front, "upstream.tls.closed")
    plain.violations.clear()
    front.change(pools={"app": {"endpoints": [secure.address]}})
    front.reload()
    assert front.get("/b").status == 200
    front.change(pools={"app": {"endpoints": [plain.address], "tls": None}})
    front.reload()
    assert front.get("/c").status == 200
    secure.stop()


def test_h2_connections_of_an_old_policy_end(weir, mint, backend):
    middle = middle_of(weir, mint, backend, BOTH)
    front = front_of(weir, mint, middle.port)
    assert front.get("/a").status == 200
    front.change(pools={"app": {"tls": {"min_version": "1.3"}}})
    front.reload()
    eventually(lambda: front.metric("weir_upstream_connections") == 0)
    assert front.get("/b").status == 200
    assert middle.metric("weir_downstream_connections_total") == 2


def under_load(front, until, path="/load"):
    """Requests one after another, each of which must be good, until until() is true."""
    count = 0
    while not until():
        assert front.get(path).status == 200
        count += 1
    return count


def test_rotation_of_the_client_certificate(site, mint):
    """A changed file is used without a reload; no request is lost."""
    own = mint.leaf("weir", label="first", purpose="client")
    front, backend = site(handler=raw(CLOSING, close=True), client_ca=mint.root,
                          tls={"cert": "file:%s" % own.path, "key": "file:%s" % own.key_path})
    generation = front.generation()
    assert front.get("/a").status == 200 and backend.handshakes[0].client == "first"
    fresh = mint.leaf("weir", label="second", purpose="client")
    own.cert, own.key = fresh.cert, fresh.key
    own.write()
    under_load(front, lambda: backend.handshakes[-1].client == "second")
    assert front.generation() == generation
    assert {each.client for each in backend.handshakes} == {"first", "second"}


def test_rotation_of_the_bundle(site, mint):
    """Both CAs for a while, then the new one alone, by reloads under load."""
    other = mint.make("other", ca=True)
    bundle = mint.make("bundle", ca=True)
    bundle.path.write_bytes(mint.root.pem)
    front, backend = site(handler=raw(CLOSING, close=True),
                          tls={"ca": "file:%s" % bundle.path})
    served, over = [], []

    def load():
        while not over:
            served.append(front.get("/load").status)

    def some_more():
        """what was under way has ended"""
        count = len(served)
        eventually(lambda: len(served) >= count + 2 or 502 in served)

    def trust(*roots):
        """`weir reload` comes back when all workers have it."""
        bundle.path.write_bytes(b"".join(each.pem for each in roots))
        assert run("reload", "-c", front.path).returncode == 0
        some_more()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        threads.submit(load)
        some_more()
        trust(mint.root, other)
        backend.change(mint.leaf(LOCAL, issuer=other))
        some_more()
        trust(other)
        over.append(1)
    assert set(served) == {200}
    assert front.get("/y").status == 200
    backend.change(mint.leaf(LOCAL))
    fails(front, "upstream.tls.untrusted")


def refused(front):
    """A reload that must not change anything."""
    before = front.metric("weir_config_reloads_total", result="refused")
    front.signal(signal.SIGHUP)
    eventually(lambda: front.metric("weir_config_reloads_total", result="refused") == before + 1)


def test_a_bad_bundle_changes_nothing(site, mint):
    """A reload is refused (THREATS.md row 17); a changed file is told of and not taken."""
    bundle = mint.make("bundle", ca=True)
    bundle.path.write_bytes(mint.root.pem)
    front, _ = site(tls={"ca": "file:%s" % bundle.path})
    for bad in (b"", b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n",
                b"no certificate at all\n", mint.root.pem + mint.root.pem[:200]):
        bundle.path.write_bytes(bad)
        refused(front)
        assert run("check", front.path).returncode == 78
        assert front.get("/x").status == 200
    front.stderr_has("in service", guard=90)
    bundle.path.unlink()
    refused(front)
    assert front.get("/x").status == 200 and front.generation() == 1


# ---- configuration ----

BAD = [
    ({"connections": {"protocol": "h2"}}, "W0190", "h2c"),
    ({"connections": {"protocol": "h2c"}, "tls": {}}, "W0191", "h2"),
    ({"tls": {"verify": "none", "names": ["a"]}}, "W0192", "none"),
    ({"tls": {"cert": "file:x.crt"}}, "W0193", "tls.key"),
    ({"endpoints": ["unix:/run/x.sock"], "tls": {}}, "W0194", "sni"),
    ({"tls": {"sni": "*.example"}}, "W0290", "wildcard"),
    ({"tls": {"sni": "10.0.0.1"}}, "W0290", "tls.names"),
    ({"tls": {"names": ["a.example:443"]}}, "W0290", "port"),
    ({"tls": {"pins": ["sha256:12"]}}, "W0291", "sha256sum"),
    ({"tls": {"verify": "no"}}, "W0205", "system"),
    ({"tls": {"ca": "file:/nowhere/ca.crt"}}, "W0304", "nowhere"),
]


@pytest.mark.parametrize("pool,code,word", BAD, ids=[row[1] + str(i) for i, row in enumerate(BAD)])
def test_refused_configurations(weir, mint, pool, code, word):
    made = weir({"pools": {"app": {"endpoints": ["127.0.0.1:1"], **pool}},
                 "routes": [{"prefix": "/", "pool": "app"}]}, start=False)
    checked = run("check", made.path, env={"SSL_CERT_FILE": str(mint.root.path)})
    assert checked.returncode == 78 and code in checked.stderr + checked.stdout, checked
    assert word in checked.stderr + checked.stdout


def test_no_store(weir, work):
    """The next step is named."""
    made = weir({"pools": {"app": {"endpoints": ["127.0.0.1:1"], "tls": {}}},
                 "routes": [{"prefix": "/", "pool": "app"}]}, start=False)
    checked = run("check", made.path, env={"SSL_CERT_FILE": str(work / "none.pem")})
    assert checked.returncode == 78 and "none.pem" in checked.stdout + checked.stderr


def test_a_key_of_another_certificate(weir, mint):
    one, two = mint.leaf("a"), mint.leaf("b")
    made = weir({"pools": {"app": {"endpoints": ["127.0.0.1:1"], "tls": {
        "ca": "file:%s" % mint.root.path, "cert": "file:%s" % one.path,
        "key": "file:%s" % two.key_path}}}, "routes": [{"prefix": "/", "pool": "app"}]},
        start=False)
    checked = run("check", made.path)
    assert checked.returncode == 78 and "W0306" in checked.stdout + checked.stderr


def test_unix_socket_endpoint(weir, mint, work):
    backend = TlsBackend(mint.leaf("app.internal"), unix=work / "b.sock")
    front = weir({"pools": {"app": {"endpoints": [backend.address], "tls": {
        "ca": "file:%s" % mint.root.path, "sni": "app.internal"}}},
        "routes": [{"prefix": "/", "pool": "app"}]})
    assert front.get("/x").status == 200 and backend.handshakes[0].sni == "app.internal"
    backend.stop()


# ---- other servers ----

NGINX_TLS = """
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {cert}; ssl_certificate_key {key};
    http2_max_concurrent_streams 32;
    location /v {{ return 200 "$server_protocol $ssl_session_reused"; }}
"""


def test_nginx(nginx, weir, mint, work):
    """HTTP/2 by ALPN from another implementation; bodies and reuse."""
    from harness import proc
    leaf, port = mint.leaf(LOCAL), proc.free_port()
    nginx(extra=NGINX_TLS.format(port=port, cert=leaf.path, key=leaf.key_path))
    front = front_of(weir, mint, port)
    assert {body.split()[0] for body in many(front, 64, "/v?%d")} == {b"HTTP/2.0"}
    assert front.metric("weir_upstream_connections") <= 4
    old = front_of(weir, mint, port, "http/1.1")
    assert old.get("/v").body == b"HTTP/1.1 ."
