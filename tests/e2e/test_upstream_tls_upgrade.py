"""Upgrades, copies and PROXY headers to pools with tls, whose endpoints speak what ALPN chose
(packaging/docs/upstreamtls.md): an upgrade takes HTTP/1.1 where HTTP/2 brings none; a copy speaks
what its endpoint speaks; a PROXY header goes before TLS. RFC 8441, RFC 9110 section 7.8."""
import time

import pytest

from harness import proc, wire
from harness.client import Client
from harness.h2endpoints import Answer
from harness.tlspeers import TlsOrigin
from harness.weir import eventually
from test_h2_websocket import accept_of, back, echo, opened
from test_upstream_tls import BOTH, front_of, middle_of

LOCAL = "127.0.0.1"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
NGINX = """
    listen 127.0.0.1:{port} ssl http2;
    ssl_certificate {cert}; ssl_certificate_key {key};
    location /ws {{
      proxy_pass http://{to}; proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;
      proxy_set_header Host $host;
    }}
    location /v {{ return 200 "$server_protocol"; }}
"""


@pytest.fixture
def behind_nginx(nginx, weir, mint, backend):
    """A factory of weirs in front of nginx (HTTP/2, no RFC 8441), in front of an echo."""
    backend.on("/ws", echo)
    leaf, port = mint.leaf(LOCAL), proc.free_port()
    nginx(extra=NGINX.format(port=port, cert=leaf.path, key=leaf.key_path, to=backend.address))
    return lambda protocol=None, **pool: front_of(weir, mint, port, protocol, **pool)


def upgrade(front, protocol="websocket", **kwargs):
    conn = Client(front.port)
    conn.send(wire.request_bytes(target="/ws", fields=[
        "Connection: Upgrade", "Upgrade: " + protocol, "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Key: " + KEY]))
    return conn, conn.response(**kwargs)


def echoed(conn, data):
    conn.send(data)
    while len(conn.reader.buf) < len(data):
        assert conn.reader.fill()
    assert bytes(conn.reader.buf) == data
    conn.reader.buf.clear()


# ---- upgrades ----

def test_websocket_of_an_http_1_client_through_nginx(behind_nginx):
    """The first finds out; the others go by HTTP/1.1 at once, beside requests by HTTP/2."""
    front = behind_nginx()
    for first in (True, False):
        conn, head = upgrade(front)
        assert head.status == 101 and head.get("sec-websocket-accept") == accept_of(KEY)
        echoed(conn, b"hello" * 1000)
        assert front.get("/v").body == b"HTTP/2.0"
        conn.close()
        made = front.metric("weir_upstream_connects_total")
        assert made == 2 if first else made == 3
    front.logged(2, path="/ws", status=101)
    assert front.get("/v").body == b"HTTP/2.0"
    assert not [r for r in front.all_lines() if r.get("weir.tries")]


def test_websocket_of_an_http_2_client_through_nginx(behind_nginx, talk):
    front = behind_nginx()
    conn = talk("h2", front)
    for _ in range(3):
        stream = opened(conn)
        assert stream.get("sec-websocket-protocol") == "chat"
        back(conn, stream, b"hello" * 1000)
        conn.reset(stream)
    assert front.get("/v").body == b"HTTP/2.0"


def test_another_upgrade_through_nginx(behind_nginx, backend):
    """What is no WebSocket needs HTTP/1.1 in any case."""
    def handler(conn, request):
        assert request.get("upgrade") == "echo/1"
        conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                  b"Upgrade: echo/1\r\n\r\n")
        while conn.reader.fill():
            conn.send(bytes(conn.reader.buf))
            conn.reader.buf.clear()
        conn.close()
    backend.on("/ws", handler)
    front = behind_nginx()
    assert front.get("/v").body == b"HTTP/2.0"
    for _ in range(2):
        conn, head = upgrade(front, "echo/1")
        assert head.status == 101
        echoed(conn, b"hello")
        conn.close()


def test_both_handshakes_have_one_time_to_connect(weir, mint):
    """That of the HTTP/2 connection, which cannot bring the upgrade on, and the one after it."""
    class Slow(TlsOrigin):
        def serve(self, sock):
            time.sleep(1.2)
            super().serve(sock)
    origin = Slow(mint.leaf(LOCAL))
    front = front_of(weir, mint, origin.port, timeouts={"connect": "2s"}, retry={"attempts": 1})
    conn, head = upgrade(front)
    assert head.status == 504
    front.logged(path="/ws", end="upstream.tls.timeout")
    conn.close()
    origin.stop()


def test_a_refused_upgrade(behind_nginx, backend):
    """The answer is passed on; the connection of HTTP/1.1 serves the next upgrade."""
    backend.on("/ws", lambda c, r: wire.response_bytes(403, b"no"))
    front = behind_nginx()
    for _ in range(3):
        conn, head = upgrade(front)
        assert head.status == 403 and head.body == b"no"
        conn.close()
    assert front.metric("weir_upstream_connects_total") == 2


def test_h2_pools_stay_with_extended_connect(behind_nginx):
    front = behind_nginx("h2")
    conn, head = upgrade(front)
    assert head.status == 502
    conn.close()
    front.ended("upstream.h2.no_upgrade", path="/ws", status=502)


def test_one_connection_is_allowed(behind_nginx):
    """The HTTP/2 connection makes room for that of the upgrade."""
    front = behind_nginx(connections={"max_per_endpoint": 1, "queue_timeout": "20s"})
    assert front.get("/v").body == b"HTTP/2.0"
    conn, head = upgrade(front)
    assert head.status == 101
    echoed(conn, b"hello")
    conn.close()
    assert front.get("/v").status == 200


def test_extended_connect_is_used_where_it_is_there(weir, mint, backend):
    """Another weir takes it."""
    backend.on("/ws", echo)
    middle = middle_of(weir, mint, backend, BOTH)
    front = front_of(weir, mint, middle.port)
    for _ in range(2):
        conn, head = upgrade(front)
        assert head.status == 101
        echoed(conn, b"hello")
        conn.close()
    assert front.metric("weir_upstream_connects_total") == 1
    middle.logged(2, path="/ws")
    assert {r["network.protocol.version"] for r in middle.all_lines()
            if r.get("url.path") == "/ws"} == {"2"}


def test_an_endpoint_of_h2_alone(weir, serve, mint):
    """It takes no tunnel, and refuses HTTP/1.1: that is no failure of its own, however often
    clients ask. Other upgrades are ignored."""
    origin = serve(TlsOrigin, mint.leaf(LOCAL), alpn=("h2",))
    front = front_of(weir, mint, origin.port, outlier={"consecutive_failures": 2})
    for _ in range(6):
        conn, head = upgrade(front)
        assert head.status == 502
        conn.close()
    front.logged(6, end="upstream.h2.no_upgrade")
    for _ in range(6):
        conn, head = upgrade(front, "echo/1")
        assert head.status == 200 and head.body == b"/ws"
        conn.close()
    assert front.metric("weir_upstream_ejections_total") == 0
    assert front.get("/x").body == b"/x"


# ---- copies ----

@pytest.mark.parametrize("alpn", [("h2",), ("http/1.1",), BOTH, None])
def test_copies(weir, serve, mint, backend, alpn):
    """The endpoint chooses, also where it is spoken to by copies alone; https is their scheme."""
    shadow = serve(TlsOrigin, mint.leaf(LOCAL), lambda r: Answer(200, b"x"), alpn=alpn)
    front = weir({"process": {"workers": 1},
                  "pools": {"shadow": {"endpoints": [shadow.address],
                                       "tls": {"ca": "file:%s" % mint.root.path}}},
                  "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}]},
                 backend)
    conn = front.client()
    for number in range(5):
        assert conn.request("POST", "/%d" % number, body=b"y" * 3000).status == 200
    eventually(lambda: front.metric("weir_mirror_responses_total", status="2xx") == 5)
    assert front.metric("weir_mirror_failed_total") == 0
    assert sorted(r.path for r in shadow.requests) == ["/%d" % n for n in range(5)]
    assert {r.body for r in shadow.requests} == {b"y" * 3000}
    h2 = alpn and "h2" in alpn
    assert set(shadow.spoken) == {"h2" if h2 else alpn and "http/1.1"}
    assert {r.headers.get(":scheme") for r in shadow.requests} == {"https" if h2 else None}


# ---- PROXY headers ----

VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])


@VERSIONS
@pytest.mark.parametrize("protocol", ["auto", "http/1.1"])
def test_proxy_header(weir, serve, mint, version, protocol):
    """In the clear, before the ClientHello; behind it ALPN chooses as ever."""
    origin = serve(TlsOrigin, mint.leaf(LOCAL), alpn=BOTH, proxied=True)
    front = front_of(weir, mint, origin.port, protocol, proxy_protocol=version)
    with Client(front.port) as conn:
        assert conn.get("/a").body == b"/a"
        assert conn.request("POST", "/b", body=b"x" * 200000).status == 200
        mine = conn.sock.getsockname()
    assert len(origin.headers) == 2 == len(origin.handshakes)
    for header in origin.headers:
        assert header.version == int(version[1]) and header.src == mine
        assert header.dst == (LOCAL, front.port)
    assert set(origin.spoken) == {"h2" if protocol == "auto" else "http/1.1"}
    assert len(origin.requests[1].body) == 200000


def test_proxy_header_of_an_upgrade_and_of_h2_clients(weir, serve, mint, talk):
    origin = serve(TlsOrigin, mint.leaf(LOCAL), alpn=BOTH, proxied=True)
    front = front_of(weir, mint, origin.port, proxy_protocol="v2")
    conn, head = upgrade(front)
    assert head.status == 200
    conn.close()
    conn = talk("h2", front)
    streams = [conn.open("GET", "/%d" % n, []) for n in range(3)]
    for stream in streams:
        assert conn.head(stream).status == 200
    assert len(origin.headers) == 5
    assert sorted(origin.spoken) == ["h2"] * 4 + ["http/1.1"]  # the upgrade asked both


@VERSIONS
def test_proxy_header_of_copies(weir, serve, mint, backend, version):
    shadow = serve(TlsOrigin, mint.leaf(LOCAL), alpn=BOTH, proxied=True)
    front = weir({"process": {"workers": 1},
                  "pools": {"shadow": {"endpoints": [shadow.address], "proxy_protocol": version,
                                       "tls": {"ca": "file:%s" % mint.root.path}}},
                  "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}]},
                 backend)
    with Client(front.port) as conn:
        for number in range(3):
            assert conn.get("/%d" % number).status == 200
        mine = conn.sock.getsockname()
        eventually(lambda: front.metric("weir_mirror_responses_total", status="2xx") == 3)
    assert [header.src for header in shadow.headers] == [mine] * 3
    assert sorted(r.path for r in shadow.requests) == ["/0", "/1", "/2"]
    assert front.metric("weir_mirror_failed_total") == 0


def test_proxy_header_and_a_failed_handshake(weir, serve, mint):
    """The header was sent, then TLS has its say."""
    origin = serve(TlsOrigin, mint.leaf("x.example"), proxied=True)
    front = front_of(weir, mint, origin.port, proxy_protocol="v1")
    assert front.get("/x").status == 502
    front.ended("upstream.tls.name_mismatch", status=502)
    eventually(lambda: origin.refused)
    assert origin.headers and not origin.requests
