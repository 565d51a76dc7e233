"""PROXY headers to endpoints of HTTP/2 (pools.*.proxy_protocol with connections.protocol = "h2c",
"h2" and "auto"): each request has a connection of its own, whose first bytes are its client's
header, before TLS and the preface (packaging/docs/proxy_protocol.md). Endpoints that demand the
header, nginx, HAProxy and another weir."""
import concurrent.futures
import re
import socket
import subprocess
import threading

import h2.errors
import h2.events
import pytest

from harness import proc, proxyheader, wire
from harness.client import Client
from harness.h2endpoints import Answer, Grpc, Origin, Script, ask
from harness.tlspeers import TlsOrigin
from harness.weir import eventually
from test_h2_websocket import back, echo, opened

LOCAL = "127.0.0.1"
BOTH = ["h2", "http/1.1"]
VERSIONS = pytest.mark.parametrize("version", ["v1", "v2"])
KINDS = pytest.mark.parametrize("kind", ["h2c", "h2", "auto"])
TRUSTED = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}


class Told:
    """A connection of weir's: its header, the requests on it, weir's GOAWAY (None: none), and
    that it is over."""

    def __init__(self, header):
        self.header, self.requests, self.goaway, self.over = header, [], None, False


class Demands:
    """A mixin of origins: a PROXY header comes first on each connection; told has them all."""

    def __init__(self, *args, answer=None, before=None, **kwargs):
        self.told, self.here, self.before = [], threading.local(), before
        plain = answer or (lambda request: Answer(body=request.path.encode()))

        def note(request):
            self.here.told.requests.append(request)
            return plain(request)
        super().__init__(*args, answer=note, **kwargs)

    def serve(self, sock):
        try:
            header = proxyheader.read(lambda n: Script.exactly(sock, n))
        except ConnectionError:
            return
        except (AssertionError, ValueError) as error:
            self.violations.append("not a PROXY header: %s" % error)
            return
        told = self.here.told = Told(header)
        self.told.append(told)
        try:
            if not self.before or self.before(sock, len(self.told)):
                super().serve(sock)
        finally:
            told.over = True

    def take(self, talker, streams, event):
        if isinstance(event, h2.events.ConnectionTerminated):
            self.here.told.goaway = int(event.error_code)
        super().take(talker, streams, event)

    @property
    def said(self):
        return [told.header for told in self.told]

    def over(self):
        """all connections are over"""
        return all(told.over for told in self.told)


class Plain(Demands, Origin):
    pass


class Secure(Demands, TlsOrigin):
    pass


@pytest.fixture
def endpoint(serve, mint):
    """endpoint(kind) demands headers and speaks HTTP/2 by h2c, or over TLS."""
    def make(kind="h2c", **kwargs):
        if kind == "h2c":
            return serve(Plain, **kwargs)
        return serve(Secure, mint.leaf(LOCAL), **kwargs)
    return make


def pool_of(kind, mint, *origins, version="v2", connections=None, **pool):
    made = {"endpoints": [origin.address for origin in origins], "proxy_protocol": version,
            "connections": {"protocol": kind, **(connections or {})}, **pool}
    if kind != "h2c":
        made["tls"] = {"ca": "file:%s" % mint.root.path}
    return made


@pytest.fixture
def front(weir, mint):
    """front(kind, *origins, pool settings): a weir that tells them of clients."""
    def make(kind, *origins, listener=None, **pool):
        return weir({"process": {"workers": 1},
                     "listeners": {"web": {"protocols": ["h2c", "http/1.1"], **(listener or {})}},
                     "pools": {"app": pool_of(kind, mint, *origins, **pool)},
                     "routes": [{"prefix": "/", "pool": "app"}]})
    return make


def alone(origin):
    """Each connection had one request."""
    assert [len(told.requests) for told in origin.told] == [1] * len(origin.told)
    return origin.told


def lines_of(proxy, count, **want):
    """So many records with this end, or these values."""
    proxy.logged(count, **want)
    names = {"end": "weir.end"}
    return [line for line in proxy.lines() if all(
        line.get(names.get(key, key.replace("__", "."))) == value for key, value in want.items())]


def gone(proxy):
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)


# ---- whose connection it is ----


@VERSIONS
@KINDS
def test_header(endpoint, front, version, kind):
    """One for each request, also of one client; weir says goodbye behind it."""
    origin = endpoint(kind)
    proxy = front(kind, origin, version=version)
    with Client(proxy.port) as conn:
        for path in ("/a", "/b", "/c"):
            assert conn.get(path).body == path.encode()
        assert conn.request("POST", "/p", body=b"x" * 300000).status == 200
        mine = conn.sock.getsockname()
    assert [told.requests[0].path for told in alone(origin)] == ["/a", "/b", "/c", "/p"]
    assert len(origin.told[3].requests[0].body) == 300000
    for header in origin.said:
        assert header.version == int(version[1]) and not header.local
        assert header.src == mine and header.dst == (LOCAL, proxy.port)
    assert len({header.get(5) for header in origin.said}) == (4 if version == "v2" else 1)
    eventually(origin.over)
    assert [told.goaway for told in origin.told] == [0] * 4
    if kind != "h2c":
        assert set(origin.spoken) == {"h2"}
    gone(proxy)
    lines = lines_of(proxy, 4, end="ok")
    told = [header.get(5) for header in origin.said]
    if version == "v2":
        assert [line["weir.unique_id"].encode() for line in lines] == told


@VERSIONS
@KINDS
def test_no_two_clients_share(endpoint, front, talk, version, kind):
    """Many at once, on connections of theirs and on one that a proxy in front shares."""
    origin = endpoint(kind)
    proxy = front(kind, origin, version=version, listener={"trusted_proxies": ["127.0.0.0/8"]})
    shared = talk("h2", proxy)
    streams = [shared.open("GET", "/s%d" % n, [("x-forwarded-for", "192.0.2.%d" % n)])
               for n in range(1, 31)]

    def one(n):
        with Client(proxy.port) as conn:
            assert conn.get("/c%d" % n, [("X-Forwarded-For", "198.51.100.%d" % n)]).status == 200
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        list(threads.map(one, range(1, 31)))
    for stream in streams:
        assert shared.whole(stream).status == 200
    want = {"/s%d" % n: "192.0.2.%d" % n for n in range(1, 31)}
    want.update({"/c%d" % n: "198.51.100.%d" % n for n in range(1, 31)})
    assert {told.requests[0].path: told.header.src[0] for told in alone(origin)} == want
    gone(proxy)


def test_clients_of_two_addresses(endpoint, front):
    origin = endpoint()
    proxy = front("h2c", origin)
    for source in ("127.0.0.1", "127.0.0.2"):
        sock = socket.create_connection((LOCAL, proxy.port), 60, (source, 0))
        with sock:
            sock.sendall(wire.request_bytes(target="/"))
            assert sock.recv(65536).startswith(b"HTTP/1.1 200")
    assert [header.src[0] for header in origin.said] == ["127.0.0.1", "127.0.0.2"]
    alone(origin)


@pytest.mark.parametrize("who", ["203.0.113.9", "2001:db8::9"])
@KINDS
def test_header_in_and_out(endpoint, front, kind, who):
    """The client's own id and addresses go on."""
    origin = endpoint(kind)
    proxy = front(kind, origin, listener=TRUSTED)
    with Client(proxy.port) as conn:
        conn.send(proxyheader.v2(who, proxyheader.tlv(5, b"mine")) + wire.request_bytes())
        assert conn.response().status == 200
    assert origin.said[0].src == (who, 56324) and origin.said[0].get(5) == b"mine"


def test_alpn_is_the_clients(endpoint, front, authority):
    """http/1.1 of the client, whose request goes on by HTTP/2."""
    origin, port = endpoint("h2"), proc.free_port()
    proxy = front("h2", origin)
    proxy.change(listeners={"tls": {"bind": "127.0.0.1:%d" % port, "tls": {
        "certificates": [authority.leaf(["a.example"])]}}})
    proxy.reload()
    context = authority.client_context(alpn=["http/1.1"])
    with proxy.client(port, tls=context, sni="a.example") as conn:
        assert conn.get("/", host="a.example").status == 200
    header = origin.said[0]
    assert header.get(1) == b"http/1.1" and header.get(2) == b"a.example" and header.ssl()
    assert origin.spoken == ["h2"]


# ---- which protocol ----


@VERSIONS
@pytest.mark.parametrize("alpn", [("http/1.1",), None])
def test_auto_is_http_1_1(endpoint, front, talk, version, alpn):
    """The connection that asked, with its header, is the request's: none is made in vain."""
    origin = endpoint("auto", alpn=alpn)
    proxy = front("auto", origin, version=version)
    conn = talk("h2", proxy)
    streams = [conn.open("GET", "/%d" % n) for n in range(10)]
    for stream in streams:
        assert conn.whole(stream).status == 200
    assert proxy.get("/later").body == b"/later"
    assert len(alone(origin)) == 11 == len(origin.handshakes)
    assert set(origin.spoken) == {alpn and "http/1.1"}
    gone(proxy)


def test_auto_with_one_permit(endpoint, front):
    """The fallback needs no second one; nobody waits here."""
    origin = endpoint("auto", alpn=("http/1.1",))
    proxy = front("auto", origin, connections={"max_per_endpoint": 1, "queue": 0})
    for n in range(5):
        assert proxy.get("/%d" % n).status == 200
    assert len(alone(origin)) == 5


def test_h2_is_demanded(endpoint, front):
    origin = endpoint("h2", alpn=("http/1.1",))
    proxy = front("h2", origin)
    assert proxy.get("/").status == 502
    proxy.ended("upstream.tls.alpn", status=502)
    assert len(origin.told) == 1 and not origin.requests


def upgrade(proxy):
    conn = Client(proxy.port)
    conn.send(wire.request_bytes(target="/ws", fields=[
        "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]))
    return conn, conn.response()


def behind(weir, backend, kind="h2c", mint=None, **listener):
    """A weir that demands a header, by h2c or TLS."""
    web = {**TRUSTED, "protocols": ["h2c", "http/1.1"], **listener}
    if kind != "h2c":
        leaf = mint.leaf(LOCAL)
        web["protocols"] = BOTH
        web["tls"] = {"certificates": [{"cert": "file:%s" % leaf.path, "default": True,
                                        "key": "file:%s" % leaf.key_path}]}
    made = weir({"listeners": {"web": web}}, backend)
    made.address = "127.0.0.1:%d" % made.port
    return made


@KINDS
def test_websocket(weir, front, mint, talk, backend, kind):
    """By extended CONNECT, of clients of both versions."""
    backend.on("/ws", echo)
    inner = behind(weir, backend, kind, mint)
    proxy = front(kind, inner)
    conn, head = upgrade(proxy)
    with conn:
        assert head.status == 101
        conn.send(b"hello")
        while len(conn.reader.buf) < 5:
            assert conn.reader.fill()
        assert bytes(conn.reader.buf) == b"hello"
    other = talk("h2", proxy)
    streams = [opened(other) for _ in range(3)]
    for n, stream in enumerate(streams):
        back(other, stream, b"x%d" % n * 5000)
    eventually(lambda: inner.metric("weir_downstream_connections") == 3)
    for stream in streams:
        other.reset(stream)
    lines = [lines_of(each, 4, weir__upgrade="websocket") for each in (inner, proxy)]
    assert {line["network.protocol.version"] for line in lines[0]} == {"2"}
    ids = [{line["weir.unique_id"] for line in each} for each in lines]
    assert ids[0] == ids[1] and len(ids[0]) == 4
    gone(proxy)


def test_upgrade_falls_back(endpoint, front):
    """The endpoint's HTTP/2 knows no extended CONNECT: another connection, with a header too."""
    origin = endpoint("auto", answer=lambda request: Answer(200))
    proxy = front("auto", origin, connections={"max_per_endpoint": 1, "queue": 0})
    for _ in range(2):  # the second one knows
        conn, head = upgrade(proxy)
        assert head.status == 200
        conn.close()
    assert [len(told.requests) for told in origin.told] == [0, 1, 1]
    assert origin.spoken == ["h2", "http/1.1", "http/1.1"]
    assert len({header.get(5) for header in origin.said[:2]}) == 1


# ---- gRPC ----


@KINDS
def test_grpc(weir, front, mint, serve, kind):
    server = serve(Grpc, "one")
    middle = weir({"listeners": {"web": {**TRUSTED, "protocols": ["h2c", "http/1.1"]}},
                   "pools": {"app": {"endpoints": [server.address],
                                     "connections": {"protocol": "h2c"}}},
                   "routes": [{"prefix": "/", "pool": "app"}]}, start=False)
    if kind != "h2c":
        leaf = mint.leaf(LOCAL)
        middle.change(listeners={"web": {"protocols": BOTH, "tls": {"certificates": [
            {"cert": "file:%s" % leaf.path, "key": "file:%s" % leaf.key_path,
             "default": True}]}}})
    middle.start()
    middle.address = "127.0.0.1:%d" % middle.port
    proxy = front(kind, middle)
    for _ in range(3):
        assert ask("127.0.0.1:%d" % proxy.port) == "one"
    ids = [{line["weir.unique_id"] for line in lines_of(each, 3, end="ok")}
           for each in (middle, proxy)]
    assert ids[0] == ids[1] and len(ids[0]) == 3
    assert middle.metric("weir_downstream_connections_total") == 3


@VERSIONS
def test_grpc_health_checks(weir, front, serve, version):
    """They say that they are weir's own, as with HTTP/1.1."""
    server = serve(Grpc, "one")
    middle = weir({"listeners": {"web": {**TRUSTED, "protocols": ["h2c", "http/1.1"]}},
                   "pools": {"app": {"endpoints": [server.address],
                                     "connections": {"protocol": "h2c"}}},
                   "routes": [{"prefix": "/", "pool": "app"}]})
    middle.address = "127.0.0.1:%d" % middle.port
    proxy = front("h2c", middle, version=version,
                  health={"protocol": "grpc", "interval": "100ms", "timeout": "30s"})
    eventually(lambda: len(server.calls) >= 3)
    assert ask("127.0.0.1:%d" % proxy.port) == "one"
    assert {line["weir.end"] for line in middle.lines() if "weir.end" in line} == {"ok"}


@KINDS
def test_health_checks(endpoint, front, kind):
    origin = endpoint(kind)
    proxy = front(kind, origin,
                  health={"path": "/healthz", "interval": "100ms", "timeout": "30s"})
    eventually(lambda: len(origin.requests) >= 3)
    assert proxy.get("/x").body == b"/x"
    for told in origin.told:
        if told.requests:
            assert told.header.local == (told.requests[0].path == "/healthz")


# ---- what goes wrong ----


@KINDS
def test_retry_when_the_first_refuses(endpoint, front, kind):
    """To a port where nobody listens: the second one hears of the client."""
    origin = endpoint(kind)
    nobody = endpoint(kind)
    nobody.stop()
    proxy = front(kind, nobody, origin, balance="round_robin",
                  retry={"attempts": 2, "on": ["connect"]}, outlier={"consecutive_failures": 0})
    with Client(proxy.port) as conn:
        for n in range(4):
            assert conn.get("/%d" % n).status == 200
        mine = conn.sock.getsockname()
    assert [header.src for header in origin.said] == [mine] * 4
    assert proxy.metric("weir_upstream_retries_total") == 2
    alone(origin)


def closes(sock, _count):
    sock.shutdown(socket.SHUT_RDWR)
    return False


@KINDS
def test_retry_when_the_first_closes(endpoint, front, kind):
    """It reads the header, and no more: both have the same id."""
    first, second = endpoint(kind, before=closes), endpoint(kind)
    proxy = front(kind, first, second, balance="round_robin",
                  retry={"attempts": 2, "on": ["connect", "reset"]},
                  outlier={"consecutive_failures": 0})
    for n in range(4):
        assert proxy.get("/%d" % n).status == 200
    assert len(first.told) == 2 and len(alone(second)) == 4
    ids = {header.get(5) for header in second.said}
    assert len(ids) == 4 and {header.get(5) for header in first.said} < ids
    gone(proxy)


class Refuses(Plain):
    """Its first stream is refused."""

    def ended(self, talker, stream, request):
        if len(self.told) == 1:
            talker.reset(stream, h2.errors.ErrorCodes.REFUSED_STREAM)
        else:
            super().ended(talker, stream, request)


def test_retry_of_a_refused_stream(serve, front):
    """A small body was kept for that, as with connections that are shared."""
    origin = serve(Refuses)
    proxy = front("h2c", origin, retry={"attempts": 2, "on": ["reset"]})
    with Client(proxy.port) as conn:
        assert conn.request("POST", "/x", body=b"y" * 3000).status == 200
    assert len(origin.told) == 2 and origin.requests[0].body == b"y" * 3000
    assert len({header.get(5) for header in origin.said}) == 1


@KINDS
def test_hedge(endpoint, front, kind):
    """The second attempt has a connection and a header of its own."""
    slow, fast = endpoint(kind, answer=lambda request: None), endpoint(kind)
    proxy = front(kind, slow, fast, balance="round_robin",
                  retry={"attempts": 2, "hedge_after": "50ms"})
    for n in range(2):
        assert proxy.get("/%d" % n).status == 200
    eventually(lambda: slow.told and slow.over())
    assert slow.said[0].get(5) in {header.get(5) for header in fast.said}
    assert len(alone(fast)) == 2
    gone(proxy)


def test_hedge_falls_back(endpoint, front):
    """To an endpoint that nobody has asked yet, and that chooses HTTP/1.1."""
    slow = endpoint("auto", answer=lambda request: None)
    fast = endpoint("auto", alpn=("http/1.1",))
    proxy = front("auto", slow, fast, balance="round_robin",
                  retry={"attempts": 2, "hedge_after": "50ms"})
    for n in range(2):
        assert proxy.get("/%d" % n).status == 200
    assert len(alone(fast)) == 2 == len(fast.handshakes) and slow.told
    gone(proxy)


def test_passive_health(endpoint, front):
    """A connection with one request on it is evidence."""
    bad, good = endpoint(before=closes), endpoint()
    proxy = front("h2c", bad, good, balance="round_robin",
                  retry={"attempts": 2, "on": ["reset"]},
                  outlier={"consecutive_failures": 2, "eject": "10m"})
    for n in range(10):
        assert proxy.get("/%d" % n).status == 200
    assert len(bad.told) == 2 and len(alone(good)) == 10


@KINDS
def test_copies(endpoint, weir, mint, backend, kind):
    shadow = endpoint(kind)
    proxy = weir({"process": {"workers": 1}, "pools": {"shadow": pool_of(kind, mint, shadow)},
                  "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}]},
                 backend)
    with Client(proxy.port) as conn:
        for n in range(3):
            assert conn.request("POST", "/%d" % n, body=b"y" * 3000).status == 200
            eventually(lambda count=n + 1: proxy.metric(
                "weir_mirror_responses_total", status="2xx") == count)
        mine = conn.sock.getsockname()
    assert [told.header.src for told in alone(shadow)] == [mine] * 3
    assert [told.requests[0].path for told in shadow.told] == ["/0", "/1", "/2"]
    assert proxy.metric("weir_mirror_failed_total") == 0
    eventually(shadow.over)


@pytest.mark.parametrize("alpn", [("http/1.1",), None])
def test_copies_fall_back(endpoint, weir, mint, backend, alpn):
    shadow = endpoint("auto", alpn=alpn)
    proxy = weir({"process": {"workers": 1}, "pools": {"shadow": pool_of("auto", mint, shadow)},
                  "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}]},
                 backend)
    for n in range(3):
        assert proxy.get("/%d" % n).status == 200
    eventually(lambda: proxy.metric("weir_mirror_responses_total", status="2xx") == 3)
    assert len(alone(shadow)) == 3 == len(shadow.handshakes)
    assert proxy.metric("weir_mirror_failed_total") == 0


# ---- permits ----


@KINDS
def test_one_permit(endpoint, front, kind):
    """One after the other nobody waits; many at once wait for their turn."""
    origin = endpoint(kind)
    proxy = front(kind, origin, connections={"max_per_endpoint": 1, "queue": 0})
    for n in range(5):
        assert proxy.get("/%d" % n).status == 200
    proxy.change(pools={"app": {"connections": {"queue": 100, "queue_timeout": "10m"}}})
    proxy.reload()
    with concurrent.futures.ThreadPoolExecutor(10) as threads:
        got = list(threads.map(lambda n: proxy.get("/q%d" % n).status, range(30)))
    assert got == [200] * 30 and len(alone(origin)) == 35


def waits(_sock, count):
    """The first connection is not gone on with until weir closes it."""
    if count > 1:
        return True
    try:
        while _sock.recv(65536):
            pass
    except ConnectionError:
        pass
    return False


@pytest.mark.parametrize("kind", ["h2", "auto"])
def test_client_leaves_while_it_connects(endpoint, front, kind):
    """The connection goes with it, and gives its permit to the next one."""
    origin = endpoint(kind, before=waits)
    proxy = front(kind, origin, timeouts={"connect": "10m"},
                  connections={"max_per_endpoint": 1, "queue": 10, "queue_timeout": "10m"})
    first = Client(proxy.port)
    first.send(wire.request_bytes(target="/first"))
    eventually(lambda: len(origin.told) == 1)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        second = threads.submit(proxy.get, "/second")
        eventually(lambda: proxy.metric("weir_upstream_queued") == 1)
        first.reset()
        assert second.result().status == 200
    eventually(origin.over)
    assert [len(told.requests) for told in origin.told] == [0, 1]
    gone(proxy)


def test_client_leaves_in_the_middle(endpoint, front):
    """RST_STREAM, GOAWAY, and the connection is gone."""
    origin = endpoint(answer=lambda request: None)
    proxy = front("h2c", origin)
    conn = Client(proxy.port)
    conn.send(wire.request_bytes(target="/"))
    eventually(lambda: origin.requests)
    conn.reset()
    eventually(origin.over)
    assert [code for _, code in origin.resets] == [h2.errors.ErrorCodes.CANCEL]
    assert origin.told[0].goaway == 0
    gone(proxy)


# ---- reloads ----


def test_nothing_of_before_a_reload(serve, front, endpoint):
    """A shared connection that is idle has no header, and leaves its permit to those with one;
    afterwards one with a header is nobody else's."""
    plain = serve(Origin)
    proxy = front("h2c", plain, version="off", outlier={"consecutive_failures": 0},
                  retry={"attempts": 1}, connections={"max_per_endpoint": 1, "queue": 0})
    assert proxy.get("/plain").status == 200
    assert proxy.metric("weir_upstream_connections_idle") == 1
    origin = endpoint()
    address = plain.address
    proxy.change(pools={"app": {"proxy_protocol": "v2", "endpoints": [address, origin.address],
                                "balance": "round_robin"}})
    proxy.reload()
    assert sorted(proxy.get("/header").status for _ in range(4)) == [200, 200, 502, 502]
    assert len(alone(origin)) == 2
    eventually(lambda: len(plain.violations) == 2)  # it takes the header for a bad preface
    plain.violations.clear()
    proxy.change(pools={"app": {"proxy_protocol": "off", "endpoints": [address]}})
    proxy.reload()
    for _ in range(3):
        assert proxy.get("/again").status == 200
    assert len(plain.seen("/again")) == 3


def test_drain(endpoint, front):
    """A request that is under way when weir stops has its answer."""
    begun, go = threading.Event(), threading.Event()

    def answer(_request):
        begun.set()
        assert go.wait(60)
        return Answer(200, b"late")
    origin = endpoint(answer=answer)
    proxy = front("h2c", origin)
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        got = threads.submit(proxy.get, "/late")
        assert begun.wait(60)
        stopped = threads.submit(proxy.stop)
        go.set()
        assert got.result().body == b"late"
        stopped.result()


# ---- programs that read them ----


NGINX = """
    listen 127.0.0.1:{port} ssl http2 proxy_protocol;
    ssl_certificate {cert}; ssl_certificate_key {key};
    location /pp {{ return 200 "$proxy_protocol_addr $proxy_protocol_port $server_protocol"; }}
"""


@VERSIONS
@pytest.mark.parametrize("kind", ["h2", "auto"])
def test_nginx(nginx, front, mint, version, kind):
    leaf, port = mint.leaf(LOCAL), proc.free_port()
    server = nginx(extra=NGINX.format(port=port, cert=leaf.path, key=leaf.key_path))
    server.address = "127.0.0.1:%d" % port
    proxy = front(kind, server, version=version)
    with Client(proxy.port) as conn:
        for _ in range(3):
            body = conn.get("/pp").body.decode()
            assert body == "%s %d HTTP/2.0" % conn.sock.getsockname()


HAPROXY = """
defaults
  mode http
  timeout client 60s
frontend in
  bind 127.0.0.1:%d accept-proxy proto h2
  http-request return status 200 content-type text/plain lf-string \
"%%[src] %%[src_port] %%[dst_port] %%[fc_pp_unique_id] %%[req.ver]"
"""


def test_haproxy(front, work):
    class Server:
        port = proc.free_port()
        address = "127.0.0.1:%d" % port
    path = work / "haproxy.cfg"
    path.write_text(HAPROXY % Server.port)
    with subprocess.Popen(["haproxy", "-db", "-q", "-f", str(path)],
                          preexec_fn=proc.die_with_parent) as child:
        try:
            proxy = front("h2c", Server)

            def listens():
                """haproxy accepts"""
                try:
                    socket.create_connection((LOCAL, Server.port), 60).close()
                    return True
                except OSError:
                    return False
            eventually(listens)
            with Client(proxy.port) as conn:
                for _ in range(3):
                    body = conn.get("/").body.decode()
                    mine = conn.sock.getsockname()
                    assert re.fullmatch("127.0.0.1 %d %d [0-9a-f]{32} 2.0"
                                        % (mine[1], proxy.port), body), body
        finally:
            child.kill()


@KINDS
def test_weir_behind_weir(weir, front, mint, backend, kind):
    """With bodies both ways, larger than any window at first."""
    backend.default = lambda conn, request: (
        conn.read_body(request), wire.response_bytes(body=b"z" * 700000))[1]
    inner = behind(weir, backend, kind, mint)
    proxy = front(kind, inner, listener={"trusted_proxies": ["127.0.0.0/8"]})
    with Client(proxy.port) as conn:
        for n in (1, 2):
            told = [("X-Forwarded-For", "192.0.2.%d" % n)]
            answer = conn.request("POST", "/%d" % n, told, body=b"y" * 500000)
            assert answer.status == 200 and len(answer.body) == 700000
    lines = lines_of(inner, 2, end="ok")
    assert [line["client.address"] for line in lines] == ["192.0.2.1", "192.0.2.2"]
    assert {line["network.protocol.version"] for line in lines} == {"2"}
