"""PROXY headers to endpoints (pools.*.proxy_protocol): what they say of the client, and that no
connection is shared by two (packaging/docs/proxy_protocol.md). By HTTP/1.1; by HTTP/2 they are in
test_proxy_protocol_h2.py. Read by harness/proxyheader.py, by
nginx, by haproxy and by another weir."""
import re
import ssl
import subprocess

import pytest

from harness import client, proc, proxyheader, tcpsite, wire
from harness.backend import Backend
from harness.weir import eventually

CLIENT = "203.0.113.9"
VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])
TRACE = "0af7651916cd43dd8448eb211c80319c"


def to_pool(version, **keys):
    return {"pools": {"app": {"proxy_protocol": version, **keys}}}


class Behind(Backend):
    """A backend that wants a header on each connection and keeps them, in order of arrival."""

    def __init__(self, *args, tls=None, bare=False, **kwargs):
        self.headers, self.protocols, self.tls, self.bare = [], [], tls, bare
        super().__init__(*args, **kwargs)

    def check_nothing_more(self, conn):
        if not self.tls:  # which cannot be peeked
            super().check_nothing_more(conn)

    def serve(self, conn):
        def exactly(count):
            data = b""
            while len(data) < count:
                more = conn.sock.recv(count - len(data))
                if not more:
                    raise wire.Truncated("in a PROXY header")
                data += more
            return data
        try:
            header = proxyheader.read(exactly, self.bare)
        except (AssertionError, ValueError) as error:
            self.violation(conn, "not a PROXY header: %s" % error)
            conn.close()
            return
        except (wire.Truncated, OSError):
            conn.close()
            return
        with self.lock:
            self.headers.append(header)
            self.lock.notify_all()
        if self.tls:
            try:
                conn.sock = self.tls.wrap_socket(conn.sock, server_side=True)
            except (OSError, ValueError):
                conn.close()
                return
            self.protocols.append(conn.sock.selected_alpn_protocol())
            conn.reader = wire.Reader(conn.sock)
        super().serve(conn)


@pytest.fixture
def behind():
    made = []

    def make(**kwargs):
        made.append(Behind(**kwargs))
        return made[-1]

    yield make
    for each in made:
        each.stop()
        assert not each.violations, "\n".join(each.violations)


@VERSIONS
def test_header(weir, behind, version):
    backend = behind()
    proxy = weir(to_pool(version), backend)
    with client.Client(proxy.port) as conn:
        assert conn.get("/x").body == b"GET /x"
        mine = conn.sock.getsockname()
    header = backend.headers[0]
    assert header.version == int(version[1]) and not header.local
    assert header.src == mine and header.dst == ("127.0.0.1", proxy.port)
    record = proxy.ended("ok")
    assert record["network.peer.address"] == "127.0.0.1"
    if version == "v1":
        assert not header.elements and "weir.unique_id" not in record
        return
    assert [kind for kind, _ in header.elements] == [5, 3]  # an id and the checksum
    assert re.fullmatch(b"[0-9a-f]{32}", header.get(5))
    assert record["weir.unique_id"] == header.get(5).decode() and "trace_id" not in record


@VERSIONS
def test_nothing_is_shared(weir, behind, version):
    """Each request has a connection of its own, also those of one client."""
    backend = behind()
    proxy = weir(to_pool(version), backend)
    with client.Client(proxy.port) as conn:
        for i in range(5):
            assert conn.get("/%d" % i).status == 200
        assert conn.request("POST", "/p", body=b"x" * 300000).status == 200
    assert len(backend.headers) == 6 and len({r.connection for r in backend.requests}) == 6
    assert len({h.src for h in backend.headers}) == 1
    assert len({h.get(5) for h in backend.headers}) == (6 if version == "v2" else 1)
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)


def test_nothing_of_before_a_reload(weir):
    """A connection without a header that was kept is not used: this backend sees one."""
    port = proc.free_port()
    plain = Backend(port=port)
    proxy = weir({}, plain)
    assert proxy.get("/plain").status == 200
    eventually(lambda: proxy.metric("weir_upstream_connections_idle") == 1)
    proxy.change(**to_pool("v2"))
    proxy.reload()
    proxy.get("/header")
    assert plain.violations and not plain.seen("/header")
    plain.stop()


@VERSIONS
def test_retry_has_a_header_too(weir, behind, version):
    backend = behind(handler=lambda conn, request: (
        conn.reset() if conn.backend.requests[0] is request
        else wire.response_bytes(body=b"second")))
    proxy = weir(to_pool(version, retry={"attempts": 2, "on": ["reset"]}), backend)
    assert proxy.get("/").body == b"second"
    assert len(backend.headers) == 2 and backend.headers[0].src == backend.headers[1].src
    assert backend.headers[0].get(5) == backend.headers[1].get(5)


def test_client_behind_trusted_proxies(weir, behind):
    backend = behind()
    conf = to_pool("v2")
    conf["listeners"] = {"web": {"trusted_proxies": ["127.0.0.0/8"]}}
    proxy = weir(conf, backend)
    for told in (CLIENT, "2001:db8::9"):
        assert proxy.get("/", [("X-Forwarded-For", told)]).status == 200
        assert backend.headers[-1].src == (told, 0)
    assert backend.headers[-1].dst == ("::ffff:7f00:1", proxy.port)  # as Python writes it


@VERSIONS
@pytest.mark.parametrize("who", [CLIENT, "2001:db8::9"])
def test_header_in_and_out(weir, behind, version, who):
    """Both addresses of the header that came, with their ports."""
    backend = behind()
    conf = to_pool(version)
    conf["listeners"] = {"web": {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}}
    proxy = weir(conf, backend)
    with client.Client(proxy.port) as conn:
        conn.send(proxyheader.v2(who) + wire.request_bytes())
        assert conn.response().status == 200
    other = "198.51.100.7" if who == CLIENT else "2001:db8::7"
    assert backend.headers[0].src == (who, 56324) and backend.headers[0].dst == (other, 443)


@pytest.mark.parametrize("told", [b"req-1", b"i" * 128, b"\0\xff\"id"])
def test_id_is_kept(weir, behind, told):
    """Of a header that came the id goes on, on each request, before that of a trace; what else it
    says of the client's TLS does not: it is not weir's."""
    backend = behind()
    conf = to_pool("v2")
    conf["listeners"] = {"web": {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}}
    proxy = weir(conf, backend)
    elements = [proxyheader.tlv(1, b"h2"), proxyheader.tlv(2, b"x.example"),
                proxyheader.tlv(5, told), proxyheader.tlv(0xE0, b"private")]
    trace = [("traceparent", "00-%s-b7ad6b7169203331-01" % TRACE)]
    with client.Client(proxy.port) as conn:
        conn.send(proxyheader.v2(CLIENT, *elements) + wire.request_bytes())
        assert conn.response().status == 200
        assert conn.get("/again", trace).status == 200
    assert [[kind for kind, _ in h.elements] for h in backend.headers] == [[5, 3]] * 2
    assert [h.get(5) for h in backend.headers] == [told] * 2
    eventually(lambda: len(proxy.all_lines()) == 2)
    shown = told.decode("utf-8", "replace")  # as JSON has it
    assert [line["weir.unique_id"] for line in proxy.all_lines()] == [shown] * 2
    assert proxy.all_lines()[1]["trace_id"] == TRACE


def test_id_without_a_pool_that_tells(weir, backend):
    """The log has it wherever the request goes."""
    proxy = weir({"listeners": {"web": {"proxy_protocol": True,
                                        "trusted_proxies": ["127.0.0.0/8"]}}}, backend)
    with client.Client(proxy.port) as conn:
        conn.send(proxyheader.v2(CLIENT, proxyheader.tlv(5, b"abc")) + wire.request_bytes())
        assert conn.response().status == 200
    assert proxy.ended("ok")["weir.unique_id"] == "abc"


def test_tunnel_keeps_its_id(weir, behind):
    def upgrade(conn, request):
        conn.sock.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
                          b"Upgrade: websocket\r\n\r\n")
        conn.close()
    backend = behind(handler=upgrade)
    proxy = weir(to_pool("v2"), backend)
    with client.Client(proxy.port) as conn:
        conn.send(wire.request_bytes(fields=[
            ("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")]))
        assert tcpsite.to_end(conn.sock).startswith(b"HTTP/1.1 101")
    eventually(lambda: proxy.all_lines())
    record = proxy.all_lines()[0]
    assert record["weir.upgrade"] == "websocket"
    assert record["weir.unique_id"] == backend.headers[0].get(5).decode()


def test_alpn_is_the_clients(weir, behind, authority):
    """h2 of a client of HTTP/2, though this endpoint is spoken to by HTTP/1.1."""
    backend = behind()
    port = proc.free_port()
    conf = to_pool("v2")
    conf["listeners"] = {"tls": {"bind": "127.0.0.1:%d" % port, "tls": {
        "certificates": [authority.leaf(["localhost"])]}}}
    weir(conf, backend)
    done = subprocess.run(
        ["curl", "-m", "60", "-s", "--http2", "--cacert", authority.path, "-w", "%{http_version}",
         "https://localhost:%d/x" % port, "--resolve", "localhost:%d:127.0.0.1" % port],
        capture_output=True, text=True, timeout=90)
    assert done.stdout == "GET /x2", done
    assert backend.headers[0].get(1) == b"h2" and backend.headers[0].get(2) == b"localhost"


@pytest.mark.parametrize("alpn", [["http/1.1"], None])
def test_elements(weir, behind, authority, alpn):
    backend = behind()
    conf = to_pool("v2")
    port = proc.free_port()
    conf["listeners"] = {"tls": {"bind": "127.0.0.1:%d" % port, "tls": {
        "certificates": [authority.leaf(["a.example"])]}}}
    proxy = weir(conf, backend)
    context = authority.client_context(**({"alpn": alpn} if alpn else {}))
    with proxy.client(port, tls=context, sni="a.example") as conn:
        trace = [("traceparent", "00-%s-b7ad6b7169203331-01" % TRACE)]
        assert conn.get("/", trace, host="a.example").status == 200
        cipher = conn.sock.cipher()[0]
    header = backend.headers[0]
    assert header.get(1) == (b"http/1.1" if alpn else None) and header.get(2) == b"a.example"
    assert header.get(5) == TRACE.encode()
    bits, verify, inner = header.ssl()
    assert bits == 1 and verify == 1
    assert inner == {0x21: b"TLSv1.3", 0x23: cipher.encode()}


def test_mirror(weir, behind, backend):
    shadow = behind()
    conf = {"pools": {"app": {"endpoints": [backend.address]},
                      "shadow": {"endpoints": [shadow.address], "proxy_protocol": "v2"}},
            "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}]}
    proxy = weir(conf)
    with client.Client(proxy.port) as conn:
        for _ in range(3):
            assert conn.get("/m").status == 200
        mine = conn.sock.getsockname()
    shadow.wait(3)
    assert [h.src for h in shadow.headers] == [mine] * 3


@VERSIONS
def test_health_checks_are_weirs_own(weir, behind, version):
    backend = behind()
    health = {"path": "/healthz", "interval": "100ms", "timeout": "10s"}
    proxy = weir(to_pool(version, health=health), backend)
    backend.wait(3)
    checks = list(backend.headers)
    assert checks and all(h.local and h.version == int(version[1]) for h in checks)
    assert proxy.get("/x").status == 200


def test_health_checks_of_another_port(weir, behind, new_backend):
    backend, side = behind(), new_backend()
    health = {"path": "/healthz", "interval": "100ms", "timeout": "10s", "port": side.port}
    proxy = weir(to_pool("v2", health=health), backend)
    side.wait(2)
    assert proxy.get("/x").status == 200 and len(backend.headers) == 1


# ---- programs that read them ----


NGINX_EXTRA = """location /pp { return 200 "%s"; }""" % " ".join(
    "$proxy_protocol_" + each for each in ("addr", "port", "server_addr", "server_port"))


@VERSIONS
def test_nginx(weir, nginx, version):
    server = nginx("origin", extra=NGINX_EXTRA)
    port = proc.free_port()
    conf = server.conf.read_text().replace(
        "listen %s;" % server.address,
        "listen %s; listen 127.0.0.1:%d proxy_protocol;" % (server.address, port))
    server.conf.write_text(conf)
    server.stop()
    server.start()
    address = "127.0.0.1:%d" % port
    proxy = weir({"pools": {"app": {"endpoints": [address], "proxy_protocol": version}},
                  "routes": [{"prefix": "/", "pool": "app"}]})
    with client.Client(proxy.port) as conn:
        mine = conn.sock.getsockname()
        body = conn.get("/pp").body.decode()
    assert body == "%s %d 127.0.0.1 %d" % (*mine, proxy.port)


HAPROXY = """
defaults
  mode http
  timeout client 60s
frontend in
  bind 127.0.0.1:%d accept-proxy
  http-request return status 200 content-type text/plain lf-string \
"%%[src] %%[src_port] %%[dst_port] %%[fc_pp_authority] %%[fc_pp_unique_id]"
"""


def test_haproxy(weir, work, authority):
    port, tls = proc.free_port(), proc.free_port()
    path = work / "haproxy.cfg"
    path.write_text(HAPROXY % port)
    with subprocess.Popen(["haproxy", "-db", "-q", "-f", str(path)],
                          preexec_fn=proc.die_with_parent) as child:
        try:
            proxy = weir({
                "listeners": {"tls": {"bind": "127.0.0.1:%d" % tls, "tls": {
                    "certificates": [authority.leaf(["a.example"])]}}},
                "pools": {"app": {"endpoints": ["127.0.0.1:%d" % port], "proxy_protocol": "v2"}},
                "routes": [{"prefix": "/", "pool": "app"}]})

            def listens():
                """haproxy accepts"""
                try:
                    client.connect(port).close()
                    return True
                except OSError:
                    return False
            eventually(listens)
            context = authority.client_context()
            with proxy.client(tls, tls=context, sni="a.example") as conn:
                mine = conn.sock.getsockname()
                trace = [("traceparent", "00-%s-b7ad6b7169203331-01" % TRACE)]
                body = conn.get("/", trace, host="a.example").body.decode()
            assert body == "127.0.0.1 %d %d a.example %s" % (mine[1], tls, TRACE)
        finally:
            child.kill()


def test_weir_behind_weir(weir, backend):
    """The one in front tells, the one behind believes, for every version and over a socket."""
    for i, version in enumerate(["v1", "v2"]):
        inner = weir({"listeners": {"web": {"proxy_protocol": True,
                                            "trusted_proxies": ["127.0.0.0/8"]}}}, backend)
        outer = weir({"pools": {"app": {"endpoints": ["127.0.0.1:%d" % inner.port],
                                        "proxy_protocol": version}},
                      "routes": [{"prefix": "/", "pool": "app"}],
                      "listeners": {"web": {"trusted_proxies": ["127.0.0.0/8"]}}})
        who = "192.0.2.%d" % (i + 1)
        assert outer.get("/", [("X-Forwarded-For", who)]).status == 200
        assert inner.ended("ok")["client.address"] == who


def server_context(leaf):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(leaf["cert"].removeprefix("file:"), leaf["key"].removeprefix("file:"))
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


@VERSIONS
def test_under_tls(weir, behind, authority, version):
    """The header stands before the handshake."""
    leaf = authority.leaf(["localhost"], label="behind", stem="behind")
    backend = behind(tls=server_context(leaf))
    tls = {"ca": "file:%s" % authority.path, "sni": "localhost"}
    proxy = weir(to_pool(version, tls=tls, connections={"protocol": "http/1.1"}), backend)
    with client.Client(proxy.port) as conn:
        for i in range(3):
            assert conn.get("/%d" % i).body == b"GET /%d" % i
        mine = conn.sock.getsockname()
    assert [h.src for h in backend.headers] == [mine] * 3
    assert backend.protocols == ["http/1.1"] * 3


def test_mirror_under_tls(weir, behind, backend, authority):
    leaf = authority.leaf(["localhost"], label="behind", stem="behind")
    shadow = behind(tls=server_context(leaf))
    tls = {"ca": "file:%s" % authority.path, "sni": "localhost"}
    conf = {"pools": {"app": {"endpoints": [backend.address]},
                      "shadow": {"endpoints": [shadow.address], "proxy_protocol": "v2",
                                 "connections": {"protocol": "http/1.1"}, "tls": tls}},
            "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}]}
    proxy = weir(conf)
    with client.Client(proxy.port) as conn:
        assert conn.get("/m").status == 200
        mine = conn.sock.getsockname()
    shadow.wait(1)
    assert shadow.headers[0].src == mine
