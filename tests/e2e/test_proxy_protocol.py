"""PROXY headers on listeners: whose connection it is, who may say so, and what is refused
(packaging/docs/proxy_protocol.md). Headers come from harness/proxyheader.py, curl, haproxy."""
import shutil
import signal
import socket
import ssl
import subprocess
import time

import pytest

from harness import client, proc, tcpsite, wire
from harness.h2fixtures import speaks_h2  # noqa: F401
from harness.proxyheader import (EVERYTHING, INET6, SIGNATURE, UNIX, block, ends, local, tlv, v1,
                                 v2, with_checksum)
from harness.weir import eventually, run

CLIENT = "203.0.113.9"
CLIENT6 = "2001:db8::9"
US = ["127.0.0.0/8", "::1"]
REQUEST = wire.request_bytes()


def proxied(how=True, **keys):
    return {"listeners": {"web": {"proxy_protocol": how, "trusted_proxies": US, **keys}}}


def ask(proxy, header, request=REQUEST, port=None):
    """One request behind a header; the response."""
    with client.Client(port or proxy.port) as conn:
        conn.send(header + request)
        return conn.response()


def refused(proxy, data, end, port=None, **want):
    """The connection ends without a byte, and log and counter have the word."""
    with client.Client(port or proxy.port) as conn:
        conn.try_send(data)
        conn.expect_close()
    return proxy.ended("client.proxy_protocol." + end, **want)


class Forwarded:
    """weir that takes headers, and what its backend was told."""

    def __init__(self, weir, backend, conf=None):
        self.backend = backend
        self.weir = weir(conf or proxied(), backend)

    def told(self):
        return self.backend.requests[-1].get("x-forwarded-for")


@pytest.fixture
def front(weir, backend):
    return Forwarded(weir, backend)


# ---- what is accepted ----


ACCEPTED = {
    "v1": (v1(CLIENT), CLIENT), "v1_6": (v1(CLIENT6, "2001:db8::1"), CLIENT6),
    "v1_unknown": (b"PROXY UNKNOWN\r\n", "127.0.0.1"),
    "v1_unknown_long": (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n", "127.0.0.1"),
    "v1_mapped": (v1("::ffff:" + CLIENT, "2001:db8::1"), CLIENT),
    "v2": (v2(CLIENT), CLIENT), "v2_6": (v2(CLIENT6), CLIENT6),
    "v2_everything": (v2(CLIENT, *EVERYTHING), CLIENT),
    "v2_checksum": (with_checksum(v2(CLIENT6, *EVERYTHING)), CLIENT6),
    "v2_longest": (v2(CLIENT, tlv(0xEE, bytes(4096 - 28 - 3))), CLIENT),
    "v2_local": (local(), "127.0.0.1"), "v2_local_body": (local(b"junk" * 9), "127.0.0.1"),
    "v2_unspecified": (block(b"\1\2\3", family=0), "127.0.0.1"),
    "v2_unix": (block(b"/a".ljust(108, b"\0") * 2, family=UNIX), "unix:"),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(front, name):
    header, who = ACCEPTED[name]
    assert ask(front.weir, header).status == 200
    assert front.told() == (None if who == "unix:" else who)
    record = front.weir.ended("ok", client__address=who)
    assert record["network.peer.address"] == "127.0.0.1"


@pytest.mark.parametrize("header", [v1(CLIENT), with_checksum(v2(CLIENT, *EVERYTHING))])
def test_byte_by_byte(front, header):
    with client.Client(front.weir.port) as conn:
        for byte in header + REQUEST:
            conn.send(bytes([byte]))
        assert conn.response().status == 200
        assert conn.get("/again").status == 200
    assert front.weir.logged(path="/again")["client.address"] == CLIENT


def test_every_cut(front):
    """Two packets, cut anywhere in the header and behind it."""
    header = v2(CLIENT, tlv(2, b"a.example"))
    for at in range(1, len(header) + 3):
        with client.Client(front.weir.port) as conn:
            conn.send((header + REQUEST)[:at])
            conn.send((header + REQUEST)[at:])
            assert conn.response().status == 200 and front.told() == CLIENT


def test_one_header_for_all_requests(front):
    """What looks like a second header is no request; the connection stays its client's."""
    with client.Client(front.weir.port) as conn:
        conn.send(v1(CLIENT) + REQUEST + REQUEST)
        assert [conn.response().status for _ in range(2)] == [200, 200]
        conn.send(v1("192.0.2.1"))
        assert conn.response().status == 400
    record = front.weir.logged(status=400)
    assert record["client.address"] == CLIENT
    assert record["network.peer.address"] == "127.0.0.1"


# ---- what is refused ----


A4 = ends(CLIENT)[1]
REFUSED = {
    "http": (REQUEST, "missing"), "tls": (b"\x16\x03\x01\x02\x00\x01", "missing"),
    "h2c": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "missing"), "garbage": (bytes(64), "missing"),
    "signature": (SIGNATURE[:-1] + b"\r" + bytes(9), "missing"),
    "lower_case": (v1(CLIENT).lower(), "missing"),
    "v1_long": (b"PROXY UNKNOWN " + b"x" * 93 + b"\r\n", "line"),
    "v1_endless": (b"PROXY TCP4 " + b"1" * 500, "line"),
    "v1_bare_lf": (v1(CLIENT).replace(b"\r", b""), "line"),
    "v1_control": (b"PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n", "line"),
    "v1_spaces": (b"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "line"),
    "v1_family": (b"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "family"),
    "v1_address": (b"PROXY TCP4 1.2.3.04 1.2.3.4 1 2\r\n", "address"),
    "v1_mixed": (b"PROXY TCP4 ::1 ::1 1 2\r\n", "address"),
    "v1_port": (b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "address"),
    "v2_version": (block(A4, 0x11), "version"), "v2_command": (block(A4, 0x22), "version"),
    "v2_family": (block(A4, family=0x14), "family"),
    "v2_short": (block(A4[:-1]), "length"), "v2_short_6": (block(A4, family=INET6), "length"),
    "v2_long": (block(A4 + tlv(0xEE, bytes(4096 - 27 - 3))), "length"),
    "v2_huge": (block(A4, length=65535), "length"),
    "v2_element_cut": (block(A4 + tlv(1, b"h2", 3)), "tlv"),
    "v2_element_huge": (block(A4 + tlv(0xEE, b"", 65535)), "tlv"),
    "v2_element_twice": (block(A4 + tlv(2, b"a") + tlv(2, b"b")), "tlv"),
    "v2_unique_id": (block(A4 + tlv(5, bytes(129))), "tlv"),
    "v2_ssl_short": (block(A4 + tlv(0x20, b"\1")), "tlv"),
    "v2_checksum": (with_checksum(v2(CLIENT))[:-1] + b"\0", "checksum"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(front, name):
    data, end = REFUSED[name]
    record = refused(front.weir, data, end, weir__listener="web",
                     network__peer__address="127.0.0.1")
    assert "http.response.status_code" not in record and not front.backend.requests
    assert front.weir.metric("weir_listener_connections_refused_total", listener="web") == 1


def test_truncated_and_silent(front):
    """A header that ends early is refused; who only looks whether the port is open is not."""
    for start in (b"P", SIGNATURE, v2(CLIENT)[:-1]):
        with client.Client(front.weir.port) as conn:
            conn.send(start)
            conn.half_close()
            conn.expect_close()
    reset = client.connect(front.weir.port)
    reset.sendall(v2(CLIENT)[:-1])
    eventually(lambda: front.weir.metric("weir_downstream_connections") == 1)
    tcpsite.reset(reset)
    front.weir.logged(count=4, end="client.proxy_protocol.truncated")
    assert {line.get("weir.reason") for line in front.weir.all_lines()} == {
        "the connection ends inside the header"}
    for _ in range(3):
        with client.Client(front.weir.port) as conn:
            conn.half_close()
            conn.expect_close()
    assert ask(front.weir, v1(CLIENT)).status == 200
    eventually(lambda: front.weir.metric("weir_downstream_connections") == 0)
    front.weir.settle()
    assert len(front.weir.all_lines()) == 5


@pytest.mark.parametrize("start", [b"", b"PROXY TCP4", SIGNATURE + b"\x21"])
def test_header_timeout(weir, backend, start):
    """From accept, whatever trickles in; the request has its own time."""
    proxy = weir(proxied(timeouts={"header": "400ms"}), backend)
    begin = time.monotonic()
    with client.Client(proxy.port) as conn:
        conn.send(start)
        conn.expect_close()
    assert time.monotonic() - begin >= 0.39
    proxy.ended("client.proxy_protocol.timeout")
    with client.Client(proxy.port) as conn:
        conn.send(v1(CLIENT))
        conn.expect_close()
    assert proxy.ended("client.timeout.header")["client.address"] == CLIENT


# ---- who may send one ----


def test_untrusted(weir, backend):
    """At accept where a header is required: before a byte, and whatever it would be."""
    proxy = weir(proxied(trusted_proxies=["192.0.2.0/24"]), backend)
    refused(proxy, v1(CLIENT), "untrusted", network__peer__address="127.0.0.1")
    refused(proxy, REQUEST, "untrusted")
    assert not backend.requests


@pytest.mark.parametrize("header", [v1(CLIENT), v2(CLIENT), local(), block(A4, 0x22),
                                    b"PROXY UNKNOWN\r\n", b"PROXY nonsense\r\n"])
def test_untrusted_where_it_is_optional(weir, backend, header):
    proxy = weir(proxied("optional", trusted_proxies=["192.0.2.0/24"]), backend)
    refused(proxy, header + REQUEST, "untrusted")
    assert not backend.requests
    assert proxy.get("/plain").status == 200
    assert proxy.logged(path="/plain")["client.address"] == "127.0.0.1"


@pytest.mark.parametrize("first", [b"P", b"PR", b"PROX", b"\r\n", b"PO", b""])
def test_optional(weir, backend, first):
    """A method that begins as a header does, and an empty line before the request, are none."""
    proxy = weir(proxied("optional"), backend)
    method = {b"PR": "PROPFIND", b"PROX": "PROXIED", b"PO": "POST"}.get(first, "PUT")
    request = (b"\r\n" if first == b"\r\n" else b"") + wire.request_bytes(method, "/direct")
    with client.Client(proxy.port) as conn:
        conn.send(request[:len(first)])
        conn.send(request[len(first):])
        assert conn.response(method).status == 200
    assert proxy.logged(path="/direct")["client.address"] == "127.0.0.1"
    assert ask(proxy, v2(CLIENT)).status == 200
    assert proxy.logged(client__address=CLIENT)
    refused(proxy, b"PROXY TCP4 nobody\r\n", "line")
    refused(proxy, SIGNATURE + b"\x31", "version")


@pytest.mark.parametrize("first", [b"", b"\r\n", b"PRO", SIGNATURE[:11]])
def test_optional_and_silent(weir, backend, first):
    """Nobody said that a header would come, nor do these bytes."""
    proxy = weir(proxied("optional", timeouts={"header": "300ms"}), backend)
    with client.Client(proxy.port) as conn:
        if first:
            conn.send(first)
        conn.expect_close()
    proxy.ended("client.timeout.header")


# ---- what follows from it ----


def test_forwarded_for_of_the_client(weir, backend):
    """The client of the header is who has to be trusted with its fields."""
    proxy = weir(proxied(trusted_proxies=US + ["198.51.100.0/24"]), backend)
    fields = [("X-Forwarded-For", "192.0.2.77")]
    for who, told, address in ((CLIENT, CLIENT, CLIENT),
                               ("198.51.100.1", "192.0.2.77, 198.51.100.1", "192.0.2.77")):
        assert ask(proxy, v1(who), wire.request_bytes(fields=fields)).status == 200
        assert backend.requests[-1].get("x-forwarded-for") == told
        assert proxy.ended("ok", client__address=address)


def test_networks_are_of_the_client(weir, backend):
    proxy = weir(proxied(deny=["203.0.113.0/24"]), backend)
    with client.Client(proxy.port) as conn:
        conn.try_send(v1(CLIENT) + REQUEST)
        conn.expect_close()
    record = proxy.ended("proxy.denied.peer", client__address=CLIENT)
    assert record["network.peer.address"] == "127.0.0.1"
    assert ask(proxy, v1("192.0.2.1")).status == 200
    proxy.change(**proxied(deny=None, allow=["203.0.113.0/24"]))
    proxy.reload()
    assert ask(proxy, v1(CLIENT)).status == 200


def test_connections_are_of_the_client(weir, backend):
    proxy = weir(proxied(connections_per_client=2), backend)
    conns = []
    for who in (CLIENT, CLIENT, "192.0.2.1"):
        conns.append(proxy.client())
        conns[-1].send(v2(who) + REQUEST)
        assert conns[-1].response().status == 200
    with client.Client(proxy.port) as conn:
        conn.try_send(v2(CLIENT) + REQUEST)
        conn.expect_close()
    proxy.ended("proxy.limit.client_connections", client__address=CLIENT)
    conns[0].close()

    def one_left():
        """the place of a connection that ended is free"""
        with client.Client(proxy.port) as conn:
            conn.try_send(v2(CLIENT) + REQUEST)
            try:
                return conn.response().status == 200
            except (OSError, wire.Truncated, wire.Violation):
                return False
    eventually(one_left)


def test_variables_and_routes(weir, backend):
    """client.address is the header's, peer.address who connected; sources are of clients."""
    conf = proxied()
    conf["policies"] = {"tell": {"request_headers": {
        "set": ["X-Client: ${client.address}", "X-Peer: ${peer.address}"]}}}
    conf["routes"] = [{"prefix": "/", "pool": "app", "policies": ["tell"],
                       "sources": ["203.0.113.0/24"]}]
    proxy = weir(conf, backend)
    assert ask(proxy, v1(CLIENT)).status == 200
    assert backend.requests[-1].get("x-client") == CLIENT
    assert backend.requests[-1].get("x-peer") == "127.0.0.1"
    assert ask(proxy, v1("192.0.2.1")).status == 404


# ---- under other protocols ----


def secured(authority, **keys):
    return proxied(tls={"certificates": [authority.leaf(["a.example"])]}, **keys)


class Behind(client.Client):
    """A client that sends a header before its TLS handshake, in one packet with the hello."""

    def __init__(self, port, header, context, step=0):
        self.sock = client.connect(port)
        if step:
            for at in range(0, len(header), step):
                self.sock.sendall(header[at:at + step])
        else:
            self.sock.sendall(header)
        self.sock = context.wrap_socket(self.sock, server_hostname="a.example")
        self.reader = wire.Reader(self.sock)


@pytest.mark.parametrize("step", [0, 1, 5])
def test_under_tls(weir, backend, authority, step):
    proxy = weir(secured(authority), backend)
    context = authority.client_context()
    with Behind(proxy.port, v2(CLIENT, *EVERYTHING), context, step) as conn:
        assert conn.get("/t", host="a.example").status == 200
        assert conn.request("POST", "/p", body=b"x" * 200000, host="a.example").status == 200
    record = proxy.ended("ok", path="/t")
    assert record["client.address"] == CLIENT and record["url.scheme"] == "https"
    assert backend.requests[0].get("x-forwarded-proto") == "https"


def test_hello_in_the_same_packet(weir, backend, authority):
    """The first flight of a client stands behind the header already when that is read."""
    proxy = weir(secured(authority), backend)
    context = authority.client_context()
    for cut in (0, 1, 16, 40, 100):
        down, up = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(down, up, server_hostname="a.example")
        with client.Client(proxy.port) as conn:
            head = v1(CLIENT)
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    data, head = head + up.read(), b""
                    if data[:cut]:
                        conn.send(data[:cut])
                    conn.send(data[cut:])
                    down.write(conn.sock.recv(65536))
            tls.write(wire.request_bytes(host="a.example"))
            conn.send(up.read())
            got = b""
            while b"\r\n\r\n" not in got:
                down.write(conn.sock.recv(65536))
                try:
                    got += tls.read(65536)
                except ssl.SSLWantReadError:
                    continue
            assert got.startswith(b"HTTP/1.1 200 ")
    assert proxy.logged(count=5, end="ok")["client.address"] == CLIENT


def test_tls_faults_know_the_client(weir, backend, authority):
    proxy = weir(secured(authority), backend)
    with client.Client(proxy.port) as conn:
        conn.send(v1(CLIENT) + b"\x16\x03\x01\x00\x05hello")
        conn.read_all()
    assert proxy.ended("client.tls.handshake")["client.address"] == CLIENT
    with client.Client(proxy.port) as conn:
        conn.send(v1(CLIENT) + REQUEST)
        assert conn.response().status == 400
    assert proxy.ended("client.tls.plain_http")["client.address"] == CLIENT
    refused(proxy, b"\x16\x03\x01\x00\x05hello", "missing")


def test_optional_under_tls(weir, backend, authority):
    proxy = weir(secured(authority, proxy_protocol="optional"), backend)
    context = authority.client_context()
    with proxy.client(tls=context, sni="a.example") as conn:
        assert conn.get("/direct", host="a.example").status == 200
    with Behind(proxy.port, v1(CLIENT), context) as conn:
        assert conn.get("/behind", host="a.example").status == 200
    assert proxy.logged(path="/direct")["client.address"] == "127.0.0.1"
    assert proxy.logged(path="/behind")["client.address"] == CLIENT


def test_h2c(weir, backend, speaks_h2):  # noqa: F811
    proxy = weir(proxied(protocols=["h2c", "http/1.1"]), backend)
    out = curl(proxy, "--http2-prior-knowledge", "--haproxy-protocol")
    assert out == b"200 2"
    assert proxy.logged(client__address="127.0.0.1")["network.protocol.version"] == "2"


# ---- programs ----


def curl(proxy, *args, url=None):
    result = subprocess.run(
        ["curl", "-sS", "-m", "60", "--noproxy", "*", "-o", "/dev/null", "-w",
         "%{http_code} %{http_version}", *args, url or "http://127.0.0.1:%d/" % proxy.port],
        capture_output=True, timeout=90, check=False)
    assert result.returncode == 0, result
    return result.stdout


def test_curl(front):
    assert curl(front.weir, "--haproxy-protocol") == b"200 1.1"


@pytest.mark.parametrize("alpn,version", [("--http1.1", b"200 1.1"), ("--http2", b"200 2")])
def test_curl_over_tls(weir, backend, authority, alpn, version):
    proxy = weir(secured(authority), backend)
    url = "https://a.example:%d/" % proxy.port
    assert curl(proxy, alpn, "--haproxy-protocol", "--cacert", str(authority.path), "--resolve",
                "a.example:%d:127.0.0.1" % proxy.port, url=url) == version


HAPROXY = """
defaults
  mode tcp
  timeout connect 10s
  timeout client 60s
  timeout server 60s
listen front
  bind 127.0.0.1:%(port)d
  unique-id-format %%{+X}o%%ci_%%cp
  server weir 127.0.0.1:%(to)d %(send)s %(check)s
"""


@pytest.fixture
def haproxy(work):
    if not shutil.which("haproxy"):
        pytest.skip("haproxy is not installed")
    started = []

    def start(to, send, check=""):
        port = proc.free_port()
        path = work / "haproxy.cfg"
        path.write_text(HAPROXY % dict(port=port, to=to, send=send, check=check))
        started.append(subprocess.Popen(["haproxy", "-db", "-q", "-f", str(path)],
                                        preexec_fn=proc.die_with_parent))

        def listens():
            """haproxy accepts"""
            assert started[-1].poll() is None
            try:
                client.connect(port).close()
                return True
            except OSError:
                return False
        eventually(listens)
        return port

    yield start
    for each in started:
        each.kill()
        each.wait()


@pytest.mark.parametrize("send", [
    "send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"])
def test_haproxy(front, haproxy, send):
    """The client of haproxy, by its own address."""
    port = haproxy(front.weir.port, send)
    sock = socket.socket()
    sock.bind(("127.7.7.7", 0))
    sock.connect(("127.0.0.1", port))
    with sock:
        sock.settimeout(client.GUARD)
        sock.sendall(REQUEST)
        assert sock.recv(100).startswith(b"HTTP/1.1 200 ")
    assert front.weir.logged(client__address="127.7.7.7")
    assert front.told() == "127.7.7.7"


def test_haproxy_checks(front, haproxy):
    """Its health checks say LOCAL, and are no error."""
    haproxy(front.weir.port, "send-proxy-v2", "check check-send-proxy inter 100ms")
    eventually(lambda: front.weir.metric("weir_downstream_connections_total") > 3)
    assert not [r for r in front.weir.all_lines() if "proxy_protocol" in r.get("weir.end", "")]


# ---- listeners of every kind, and reloads ----


def test_unix_listener(weir, backend, work):
    path = "unix:%s" % (work / "in.sock")
    conf = proxied()
    conf["listeners"]["local"] = {"bind": path, "proxy_protocol": True, "trusted_proxies": US}
    proxy = weir(conf, backend)
    assert ask(proxy, v2(CLIENT), port=path).status == 200
    record = proxy.ended("ok", client__address=CLIENT)
    assert record["network.peer.address"] == "unix:"
    refused(proxy, REQUEST, "missing", port=path, network__peer__address="unix:")


def test_reload_while_a_header_is_awaited(weir, backend):
    """The connection is served as it began; new ones by the new configuration."""
    proxy = weir(proxied(), backend)
    waiting = proxy.client()
    waiting.send(v1(CLIENT)[:9])
    eventually(lambda: proxy.metric("weir_downstream_connections") == 1)
    proxy.change(listeners={"web": {"proxy_protocol": False}})
    proxy.reload()
    assert proxy.get("/new").status == 200
    waiting.send(v1(CLIENT)[9:] + REQUEST)
    assert waiting.response().status == 200
    assert proxy.logged(client__address=CLIENT)
    proxy.change(**proxied())
    proxy.reload()
    refused(proxy, REQUEST, "missing")


def test_plan_dump_and_check(weir, backend):
    proxy = weir(proxied(), backend)
    proxy.change(**proxied("optional"))
    plan = run("plan", proxy.path, "--text", "--admin", proxy.admin)
    assert "proxy_protocol" in plan.stdout, plan
    assert 'proxy_protocol = "optional"' in run("dump", "-c", proxy.path).stdout
    proxy.change(listeners={"web": {"trusted_proxies": None}})
    checked = run("check", proxy.path)
    assert checked.returncode == 78 and "W0166" in checked.stdout + checked.stderr, checked


def heads_end(proxy):
    """Clients whose PROXY headers end one after the other while proxy drains, and who are silent
    then; the words of the log."""
    conns = [client.Client(proxy.port) for _ in range(15)]
    for conn in conns:
        conn.send(v1(CLIENT)[:-1])
    eventually(lambda: proxy.metric("weir_downstream_connections") == len(conns))
    proxy.signal(signal.SIGTERM)
    proxy.stderr_has("SIGTERM: draining 15 connections")
    for conn in conns:
        conn.try_send(v1(CLIENT)[-1:])
        time.sleep(0.02)
    for conn in conns:
        conn.expect_close()
        conn.close()
    assert proxy.process.wait(60) == 0
    return {record["weir.end"] for record in proxy.all_lines()}


HOUR = {"header": "1h", "handshake": "1h"}
UNDER = {
    "http": ({"timeouts": {"header": "1h"}}, "client.timeout.header"),
    "https": ({"timeouts": HOUR, "tls": True}, "client.tls.timeout"),
    "tcp": ({"timeouts": HOUR, "tls": True, "protocol": "tcp", "pool": "app"},
            "client.tls.timeout"),
    "passthrough": ({"timeouts": HOUR, "protocol": "tls_passthrough", "pool": "app"},
                    "client.tls.timeout"),
}


@pytest.mark.parametrize("under", UNDER)
def test_headers_that_end_in_a_drain(weir, backend, authority, under):
    """Their clients have as long for what is to come next as those between requests have, not all
    of timeouts.header or timeouts.handshake. They end one after the other, as nobody sees when a
    worker begins to drain; where the machine is too slow for all of them, once more."""
    keys, late = UNDER[under]
    if keys.get("tls"):
        keys = {**keys, "tls": {"certificates": [authority.leaf(["a.example"])]}}
    found = set()
    for _ in range(20):
        conf = {"process": {"drain": "1h"}, **proxied(**keys)}
        if keys.get("pool"):
            conf["routes"] = None
        found |= heads_end(weir(conf, backend))
        if late in found:
            return
    raise AssertionError("no header was read: %s" % found)
