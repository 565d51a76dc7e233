"""Fields that a proxy adds, drops or must not let a client forge: hop-by-hop, X-Forwarded-*,
Forwarded, Via, Host (RFC 9110 7.6, RFC 7239; THREATS.md rows 12, 15, 19)."""
import re

import pytest

from harness.h2raw import Conn

HOP = ["Keep-Alive: timeout=5", "TE: trailers", "Trailer: X-T", "Proxy-Connection: keep-alive",
       "Proxy-Authorization: Basic eDp5", "HTTP2-Settings: AAMAAABkAAQAAP__",
       "Connection: HTTP2-Settings, Upgrade", "Upgrade: h2c"]


def test_hop_by_hop_is_dropped(pair):
    """The strict backend would refuse most of them; none may arrive, the rest is kept."""
    assert pair.client().get("/h", HOP + ["X-Kept: 1"]).status == 200
    request = pair.backend.last
    for line in HOP:
        name = line.split(":")[0].lower()
        assert name in ("connection", "te") or not request.all(name), line
    assert request.get("te") == "trailers"  # weir's own word: the client takes them, so it does
    assert request.get("connection").lower() == "te"
    assert request.get("x-kept") == "1"


@pytest.mark.parametrize("connection",
                         ["X-Foo", "x-foo, close", "close,X-FOO", "X-Foo\r\nConnection: X-Bar",
                                        ", ,X-Foo,", "keep-alive, X-Foo"])
def test_nominated_fields_are_dropped(pair, connection):
    fields = ["Connection: %s" % connection, "X-Foo: 1", "X-Foo: 2", "X-Bar: 3"]
    assert pair.client().get("/n", fields).status == 200
    request = pair.backend.last
    assert not request.all("x-foo") and "X-Foo" not in (request.get("connection") or "")
    assert bool(request.all("x-bar")) == ("X-Bar" not in connection)


def test_forwarding_fields_are_set(pair):
    assert pair.client().get("/f", host="Name.Example:8080").status == 200
    request = pair.backend.last
    assert request.get("x-forwarded-for") == "127.0.0.1"
    assert request.get("x-forwarded-proto") == "http"
    assert request.get("x-forwarded-host") in ("name.example:8080", "name.example")
    assert re.match(r"1\.1 \S+", request.get("via"))


FORGED = ["X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example",
          "X-Forwarded-Port: 666", "X-Forwarded-Prefix: /evil", "X-Forwarded-Server: evil",
          "X-Forwarded-Ssl: on", "X-Forwarded-Client-Cert: evil", "X-Real-IP: 6.6.6.6",
          "Forwarded: for=6.6.6.6;host=evil.example;proto=https", "x-forwarded-for: 6.6.6.7"]


def test_untrusted_forwarding_fields_are_dropped(pair):
    assert pair.client().get("/f", FORGED).status == 200
    head = pair.backend.last.raw_head.lower()
    for word in (b"6.6.6", b"evil", b"666"):
        assert word not in head
    assert pair.backend.last.get("x-forwarded-for") == "127.0.0.1"
    assert pair.logged(path="/f")["client.address"] == "127.0.0.1"


# Names that weir knows nothing of, and that backends and programs in front of them go by.
SPEAK_FOR = ["X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Scheme",
             "X-Forwarded-Protocol", "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-By",
             "X-Forwarded-Tls-Client-Cert", "X-FORWARDED-Preferred-Username-Of-The-Client",
             "X_Forwarded_Scheme", "x-forwarded_user", "X-Forwarded", "X-Forwardedfor"]
SPEAK_LINES = ["%s: evil%d" % row for row in zip(SPEAK_FOR, range(100))]
LOOK_ALIKE = ["X-Forward: ok", "X-Forwarder: ok", "XX-Forwarded-User: ok", "X-Original-User: ok"]


def speaking(backend):
    """What arrived of SPEAK_FOR, in the newest request."""
    names = {name.lower().encode() for name in SPEAK_FOR}
    return sorted(name for name, _ in backend.last.fields if name.lower() in names)


def test_whatever_begins_with_x_forwarded_is_dropped(pair):
    assert pair.client().get("/s", SPEAK_LINES + LOOK_ALIKE).status == 200
    assert not speaking(pair.backend) and b"evil" not in pair.backend.last.raw_head
    for line in LOOK_ALIKE:
        assert pair.backend.last.get(line.split(":")[0].lower()) == "ok"


def http2_get(proxy, names):
    with Conn(proxy.port).handshake() as conn:
        rows = [(name.lower(), "evil") for name in names]
        assert conn.wait(conn.open("GET", "/s", rows)).status == 200


def test_whatever_begins_with_x_forwarded_is_dropped_of_http_2(weir, backend):
    proxy = weir({"listeners": {"web": {"protocols": ["h2c"]}}}, backend)
    http2_get(proxy, SPEAK_FOR)
    assert not speaking(backend) and b"evil" not in backend.last.raw_head


@pytest.mark.parametrize("version", ["http/1.1", "h2c"])
def test_whatever_begins_with_x_forwarded_is_a_trusted_proxys(weir, backend, version):
    """It arrives, and routes may go by it."""
    routes = [{"prefix": "/", "pool": "app"},
              {"prefix": "/s", "pool": "app", "name": "evil",
               "headers": [{"name": "X-Forwarded-User", "prefix": "evil"}]}]
    proxy = weir({"listeners": {"web": {"trusted_proxies": ["127.0.0.0/8"],
                                        "protocols": ["http/1.1", "h2c"]}},
                  "routes": routes}, backend)
    if version == "h2c":
        http2_get(proxy, SPEAK_FOR)
    else:
        assert proxy.get("/s", SPEAK_LINES).status == 200
    assert len(speaking(backend)) == len(SPEAK_FOR)
    assert proxy.logged(path="/s")["http.route"] == "evil"


ALIASES = ["X_Forwarded_For: 6.6.6.6", "X-Forwarded_For: 6.6.6.6", "X_Forwarded-Proto: https",
           "X_Real_IP: 6.6.6.6", "x_forwarded_host: evil.example", "Content_Length: 5",
           "Transfer_Encoding: chunked", "X_Forwarded_Client_Cert: evil", "H_ost: fine"]


@pytest.mark.parametrize("line", ALIASES)
def test_underscore_aliases_are_dropped(pair, line):
    """CGI-like upstreams read `_` as `-`: an alias of a field that weir writes must not arrive."""
    assert pair.client().get("/f", [line]).status == 200
    arrived = line.split(":")[0].lower().encode() in pair.backend.last.raw_head.lower()
    assert arrived == line.startswith("H_ost")


SHARED_CONF = {"listeners": {"web": {}}}


@pytest.fixture
def trusting(weir, backend):
    proxy = weir({"listeners": {"web": {"trusted_proxies": ["127.0.0.0/8", "10.0.0.0/8"]}}},
                 backend)
    proxy.backend = backend
    return proxy


# X-Forwarded-For lines, client.address, what the upstream gets
CHAINS = [
    (["1.2.3.4"], "1.2.3.4", "1.2.3.4, 127.0.0.1"),
    (["1.2.3.4, 10.0.0.1"], "1.2.3.4", "1.2.3.4, 10.0.0.1, 127.0.0.1"),
    (["6.6.6.6, 1.2.3.4, 10.0.0.1"], "1.2.3.4", "6.6.6.6, 1.2.3.4, 10.0.0.1, 127.0.0.1"),
    (["6.6.6.6", "1.2.3.4"], "1.2.3.4", "6.6.6.6, 1.2.3.4, 127.0.0.1"),
    (["2001:db8::1"], "2001:db8::1", "2001:db8::1, 127.0.0.1"),
]


@pytest.mark.parametrize("lines,address,upstream", CHAINS)
def test_trusted_chain(trusting, lines, address, upstream):
    """client.address is the rightmost entry that is not a trusted proxy."""
    assert trusting.get("/t", ["X-Forwarded-For: %s" % line for line in lines]).status == 200
    record = trusting.logged(path="/t")
    assert record["client.address"] == address
    assert record["network.peer.address"] == "127.0.0.1"
    sent = ", ".join(trusting.backend.last.all("x-forwarded-for"))
    assert sent == upstream


@pytest.mark.parametrize("entry",
                         ["unknown", "6.6.6", "1.2.3.4 5", "<script>", "999.1.1.1", "_hidden"])
def test_unreadable_entry_is_not_an_address(trusting, entry):
    assert trusting.get("/t", ["X-Forwarded-For: 9.9.9.9, %s" % entry]).status == 200
    assert trusting.logged(path="/t")["client.address"] == "127.0.0.1"


def test_trusted_proto_and_host_are_kept(trusting):
    fields = ["X-Forwarded-For: 1.2.3.4", "X-Forwarded-Proto: https",
              "X-Forwarded-Host: pub.example"]
    assert trusting.get("/t", fields).status == 200
    request = trusting.backend.last
    assert request.get("x-forwarded-proto") == "https"
    assert request.get("x-forwarded-host") == "pub.example"


def test_trusted_proto_must_be_sane(trusting):
    assert trusting.get("/t", ["X-Forwarded-Proto: javascript"]).status == 200
    assert trusting.backend.last.get("x-forwarded-proto") in ("http", "javascript")


def test_trusted_forwarded_is_believed(trusting):
    """Forwarded counts under the same rule (RFC 7239)."""
    assert trusting.get("/t", ['Forwarded: for=1.2.3.4;proto=https, for="10.0.0.1"']).status == 200
    assert trusting.logged(path="/t")["client.address"] == "1.2.3.4"


def test_peer_outside_of_trusted_is_not_believed(weir, backend):
    proxy = weir({"listeners": {"web": {"trusted_proxies": ["10.0.0.0/8"]}}}, backend)
    assert proxy.get("/t", ["X-Forwarded-For: 1.2.3.4"]).status == 200
    assert proxy.logged(path="/t")["client.address"] == "127.0.0.1"
    assert backend.last.get("x-forwarded-for") == "127.0.0.1"


def test_via_is_appended(pair):
    assert pair.client().get("/v", ["Via: 1.0 first, 1.1 second"]).status == 200
    via = ", ".join(pair.backend.last.all("via"))
    assert via.startswith("1.0 first, 1.1 second, 1.1 ")


HOSTS = [("plain.example", "plain.example"), ("UPPER.Example", "upper.example"),
         ("dot.example.", "dot.example"), ("port.example:8080", "port.example:8080"),
         ("empty-port.example:", "empty-port.example"), ("127.0.0.1:80", "127.0.0.1:80"),
         ("[::1]", "[::1]"), ("[0:0::1]:81", "[::1]:81"),
         ("under_score.example", "under_score.example"),
         ("a" * 63 + ".example", "a" * 63 + ".example")]


@pytest.mark.parametrize("sent,canonical", HOSTS)
def test_host_is_canonical_everywhere(pair, sent, canonical):
    """The same value routes, logs and is forwarded."""
    assert pair.client().get("/host", host=sent).status == 200
    assert pair.backend.last.get("host") == canonical
    logged = pair.logged(path="/host")["server.address"]
    assert logged in (canonical, re.sub(r":\d+$", "", canonical))


def test_fields_arrive_as_they_were(pair):
    """Order, repetition, case and bytes of what is not weir's own."""
    lines = ["X-B: 1", "x-a: 2", "X-B: 3", "Cookie: a=b", "Cookie: c=d", "X-Obs: caf\xe9",
             "X-Tab: a\tb",
             "X-Empty:", "Authorization: Basic eDp5", "Range: bytes=0-1",
             "X-Long: %s" % ("v" * 8000)]
    assert pair.client().get("/f", lines).status == 200
    kept = [(n, v) for n, v in pair.backend.last.fields
            if n.lower().startswith((b"x-", b"cookie", b"auth", b"range"))
            and not n.lower().startswith((b"x-forwarded", b"x-real", b"x-request"))]
    want = [tuple(p.strip() for p in line.encode("latin-1").split(b":", 1)) for line in lines]
    assert kept == want


def test_websocket_h2c_upgrade_is_stripped(pair):
    """h2c is never negotiated through (THREATS.md row 12)."""
    fields = ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c",
              "HTTP2-Settings: AAMAAABkAAQAAP__"]
    assert pair.client().get("/up", fields).status == 200
    assert not pair.backend.last.all("upgrade")


def test_early_data_cannot_be_forged(pair):
    """Early-Data: 1 from a client tells the upstream something only TLS may know."""
    response = pair.client().get("/e", ["Early-Data: 1"])
    assert response.status in (200, 425)


def test_proxy_header_cannot_reach_cgi(pair):
    """The Proxy request field becomes HTTP_PROXY in CGI programs: weir passes what is a plain
    field, but never invents one."""
    assert pair.client().get("/e").status == 200
    assert not pair.backend.last.all("proxy")


def test_http_1_0_without_host(pair):
    conn = pair.client()
    conn.send(b"GET /nohost HTTP/1.0\r\n\r\n")
    assert conn.response(minor=0).status == 200
    assert len(pair.backend.last.all("host")) == 1
