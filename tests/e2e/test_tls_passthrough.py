"""protocol = "tls_passthrough" (packaging/docs/tcp.md): TLS goes on unopened, by SNI and ALPN of
the ClientHello, however that comes; refusals are alerts."""
import contextlib
import json
import re
import socket
import ssl
import subprocess

import pytest

from harness import client, proc, proxyheader, tcpsite
from harness.tcpsite import connect, exactly
from harness.weir import eventually, run

ALERTS = {"unrecognized_name": 112, "no_application_protocol": 120, "decode_error": 50,
          "protocol_version": 70}


def alert(word):
    return bytes([21, 3, 1, 0, 2, 2, ALERTS[word]])


class Site:
    """TLS endpoints, each with a certificate of its own name, that say who they are."""

    def __init__(self, authority):
        self.authority, self.made = authority, {}

    def __call__(self, name, alpn=None):
        leaf = self.authority.leaf([name, "*." + name])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(leaf["cert"][5:], leaf["key"][5:])
        if alpn:
            context.set_alpn_protocols(alpn)

        def serve(sock):
            sock.sendall(name.encode().ljust(32))
            tcpsite.echo(sock)
        self.made[name] = tcpsite.Endpoint(serve, context=context)
        return self.made[name].address

    def stop(self):
        for each in self.made.values():
            each.stop()


@pytest.fixture
def site(authority):
    made = Site(authority)
    yield made
    made.stop()


@pytest.fixture
def passing(weir, site):
    """A weir that passes TLS on to pools named after their endpoint's certificate."""
    def make(sni, default=None, listener=None, **more):
        port = proc.free_port()
        names = {row["pool"] for row in sni} | ({default} if default else set())
        over = {"bind": "127.0.0.1:%d" % port, "protocol": "tls_passthrough", "sni": sni or None,
                "pool": default, **(listener or {})}
        pools = {name: {"endpoints": [site("%s.example" % name)]} for name in names}
        made = weir({"listeners": {"web": None, "pass": over}, "pools": pools, **more})
        made.port = port
        return made
    return make


def who(authority, port, host, alpn=None, chop=None):
    """Which endpoint answers a client that asks for host; the handshake verifies nothing but the
    chain, as names may be chosen by wildcards."""
    context = authority.client_context(alpn=alpn)
    context.check_hostname = False
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=host)
    with connect(port) as sock:
        while True:
            try:
                data = tls.read(32)
                break
            except ssl.SSLWantReadError:
                out = outgoing.read()
                for at in range(0, len(out), chop or max(len(out), 1)):
                    sock.sendall(out[at:at + (chop or len(out))])
                incoming.write(sock.recv(1 << 16))
        tls.write(b"ping")
        sock.sendall(outgoing.read())
        echoed = b""
        while len(echoed) < 4:
            incoming.write(sock.recv(1 << 16))
            with contextlib.suppress(ssl.SSLWantReadError):
                echoed += tls.read(4)
        assert echoed == b"ping"
        with contextlib.suppress(ssl.SSLError):
            tls.unwrap()
        sock.sendall(outgoing.read())
    return data.decode().strip().split(".")[0]


def hello(host=None, alpn=None):
    """The bytes of a ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols(alpn)
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=host)
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def answer(port, data):
    with connect(port) as sock:
        sock.sendall(data)
        return tcpsite.ended(sock)[1]


ROWS = [{"names": ["a.example"], "pool": "a"}, {"names": ["*.example"], "pool": "w"},
        {"names": ["*.deep.example"], "pool": "d"}]


def test_names(passing, authority):
    proxy = passing(ROWS, "z")
    for host, pool in (("a.example", "a"), ("A.Example", "a"), ("b.example", "w"),
                       ("x.y.example", "w"), ("x.deep.example", "d"), ("x.y.deep.example", "d"),
                       ("deep.example", "w"), ("other.test", "z"), (None, "z")):
        assert who(authority, proxy.port, host) == pool, host
    eventually(lambda: len(proxy.all_lines()) == 9)
    record = proxy.logged(weir__pool="d")
    assert record["server.address"] == "x.y.deep.example"
    assert record["network.protocol.name"] == "tcp" and "tls.cipher" not in record
    assert {r["weir.end"] for r in proxy.all_lines()} == {"ok"}


def test_protocols(passing, authority):
    """Rows of one name go by ALPN, in their order; no other name helps out."""
    proxy = passing([{"names": ["a.example"], "alpn": ["acme-tls/1"], "pool": "acme"},
                     {"names": ["a.example"], "alpn": ["h2", "http/1.1"], "pool": "web"},
                     {"names": ["*.example"], "pool": "w"},
                     {"alpn": ["imap"], "pool": "mail"}])
    for host, alpn, pool in (("a.example", ["h2", "acme-tls/1"], "acme"),
                             ("a.example", ["http/1.1"], "web"), ("b.example", ["x"], "w"),
                             ("c.test", ["imap"], "mail"), (None, ["imap"], "mail")):
        assert who(authority, proxy.port, host, alpn) == pool, (host, alpn)
    for data in (hello("a.example", ["imap"]), hello("a.example"), hello("c.test", ["h2"])):
        assert answer(proxy.port, data) == alert("no_application_protocol")
    eventually(lambda: len(proxy.all_lines()) == 8)
    proxy.ended("client.tls.no_application_protocol")
    refused = [r for r in proxy.all_lines() if r["weir.end"] != "ok"]
    assert {r.get("server.address") for r in refused} == {"a.example", "c.test"}


def test_hash_by_client(passing, site):
    """A row's pool keeps a client at one endpoint, whatever it has open there."""
    proxy = passing(ROWS[:1])
    proxy.change(pools={"a": {"balance": "maglev", "hash": "client_ip",
                              "endpoints": [site("a%d.example" % i) for i in range(3)]}})
    proxy.reload()
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            sock = stack.enter_context(connect(proxy.port))
            sock.sendall(hello("a.example"))
            assert sock.recv(1) == b"\x16"
    records = eventually(lambda: len(proxy.all_lines()) == 12 and proxy.all_lines())
    assert len({r["weir.endpoint"] for r in records}) == 1


def test_unknown_name(passing):
    """As a TLS server says it, and as clients understand it."""
    proxy = passing(ROWS[:1])
    for data in (hello("b.example"), hello()):
        assert answer(proxy.port, data) == alert("unrecognized_name")
    context = ssl.create_default_context()
    with connect(proxy.port) as sock, pytest.raises(ssl.SSLError) as caught:
        context.wrap_socket(sock, server_hostname="b.example")
    assert "UNRECOGNIZED_NAME" in str(caught.value).upper().replace(" ", "_")
    eventually(lambda: len(proxy.all_lines()) == 3)
    proxy.ended("client.tls.unrecognized_name")
    assert sorted(r.get("server.address", "") for r in proxy.all_lines()) == [
        "", "b.example", "b.example"]


def named(raw):
    """A ClientHello with these bytes as its name, of the length of another."""
    whole = hello("x" * len(raw))
    assert whole.count(b"x" * len(raw)) == 1
    return whole.replace(b"x" * len(raw), raw)


@pytest.mark.parametrize("raw", [b"127.0.0.1", b"::1", b"[::1]", b"a.example:443", b"a..b",
                                 b"a b", b"a.example\0", b"*.example"])
def test_a_name_that_is_none(passing, raw):
    """As if none had been sent: the default has it, else the alert says what is wrong."""
    proxy = passing(ROWS, "z")
    with connect(proxy.port) as sock:
        sock.sendall(named(raw))
        assert sock.recv(1)
    record = proxy.logged(weir__pool="z")
    assert "server.address" not in record
    proxy = passing(ROWS)
    assert answer(proxy.port, named(raw)) == alert("unrecognized_name")
    record = proxy.ended("client.tls.unrecognized_name")
    assert "host name" in record["weir.reason"] and "server.address" not in record


def test_a_malformed_name(passing):
    """An extension whose lengths do not fit is no hello, whatever the default is."""
    whole = hello("a.example")
    at = whole.index(b"\x00\x09a.example")
    proxy = passing(ROWS, "z")
    assert answer(proxy.port, whole[:at] + b"\x00\x08" + whole[at + 2:]) == alert("decode_error")
    assert "server_name" in proxy.ended("client.tls.hello")["weir.reason"]


@pytest.mark.parametrize("chop", [1, 7, 100])
def test_hello_in_pieces(passing, authority, chop):
    assert who(authority, passing(ROWS).port, "a.example", chop=chop) == "a"


def records(data, size):
    """The same message in records of size bytes."""
    body = data[5:]
    return b"".join(data[:3] + len(body[at:at + size]).to_bytes(2, "big") + body[at:at + size]
                    for at in range(0, len(body), size))


def test_hello_in_records(passing, site):
    """Fragmented over records it is routed all the same, and passed on as it came."""
    proxy = passing(ROWS[:1])
    site.made["a.example"].context = None
    got = []
    site.made["a.example"].handler = lambda sock: got.append(tcpsite.to_end(sock))
    data = records(hello("a.example"), 20)
    with connect(proxy.port) as sock:
        sock.sendall(data + b"and what is behind it")
        sock.shutdown(socket.SHUT_WR)
        eventually(lambda: got)
    assert got == [data + b"and what is behind it"]


@pytest.mark.parametrize("data,word,reason", [
    (b"GET / HTTP/1.1\r\n\r\n", None, "the first byte is not one of a TLS handshake"),
    (b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00", "decode_error",
     "the first message is not a ClientHello"),
    (b"\x16\x05\x01\x00\x05\x01\x00\x00\x01\x00", "protocol_version",
     "a record's version is not 3.x"),
    (b"\x80\x2e\x01\x00\x02", "protocol_version", "an SSL 2 hello"),
    (b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + b"x" * 20000, "decode_error",
     "the hello, records included, is longer than 16384 bytes")])
def test_no_hello(passing, data, word, reason):
    proxy = passing(ROWS[:1], "z")
    assert answer(proxy.port, data) == (alert(word) if word else b"")
    assert proxy.ended("client.tls.hello")["weir.reason"] == reason


def test_silence_and_checks_of_ports(passing):
    proxy = passing(ROWS[:1], listener={"timeouts": {"handshake": "200ms"}})
    with connect(proxy.port):
        pass  # told to nobody
    with connect(proxy.port) as sock:
        sock.sendall(b"\x16\x03")
        sock.shutdown(socket.SHUT_WR)
        tcpsite.ended(sock)
    cut = "the connection ended inside the hello"
    assert proxy.ended("client.tls.hello")["weir.reason"] == cut
    with connect(proxy.port) as sock:
        sock.sendall(b"\x16\x03\x01")
        tcpsite.ended(sock)
    proxy.ended("client.tls.timeout")
    sock = connect(proxy.port)
    sock.sendall(b"\x16\x03\x01\x02")
    eventually(lambda: proxy.metric("weir_downstream_connections") == 1)
    tcpsite.reset(sock)
    eventually(lambda: len(proxy.all_lines()) == 3)
    record = proxy.all_lines()[2]
    assert record["weir.end"] == "client.tls.hello" and record["weir.reason"] == cut
    tcpsite.reset(connect(proxy.port))
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    assert len(proxy.all_lines()) == 3


def test_proxy_header(passing, authority, site):
    proxy = passing(ROWS[:1], listener={"proxy_protocol": True,
                                        "trusted_proxies": ["127.0.0.0/8"]})
    context = authority.client_context()
    with connect(proxy.port) as sock:
        sock.sendall(proxyheader.v2("203.0.113.9"))
        with context.wrap_socket(sock, server_hostname="a.example") as tls:
            assert exactly(tls, 32).strip() == b"a.example"
    eventually(lambda: proxy.all_lines())
    assert proxy.all_lines()[0]["client.address"] == "203.0.113.9"


@pytest.mark.parametrize("alpn, told", [
    (["h2"], b"h2"), (["h2", "http/1.1"], None), (None, None)])
def test_proxy_header_out(weir, alpn, told):
    """What the hello asked for goes on: the name, and the protocol where there is one (which of
    several is the endpoint's choice). Nothing of TLS, which weir does not end."""
    headers, rest = [], []

    def behind(sock):
        headers.append(proxyheader.read(lambda count: exactly(sock, count)))
        rest.append(exactly(sock, 5))
    site, port = tcpsite.Endpoint(behind), proc.free_port()
    try:
        proxy = weir({"listeners": {"web": None, "pass": {
            "bind": "127.0.0.1:%d" % port, "protocol": "tls_passthrough", "pool": "a"}},
            "pools": {"a": {"endpoints": [site.address], "proxy_protocol": "v2"}}})
        sent = hello("A.Example", alpn)
        with connect(port) as sock:
            sock.sendall(sent)
            eventually(lambda: rest)
        assert rest[0] == sent[:5]
        assert headers[0].get(2) == b"a.example" and headers[0].get(1) == told
        assert headers[0].ssl() is None and len(headers[0].get(5)) == 32
        eventually(lambda: proxy.all_lines())
        assert proxy.all_lines()[0]["weir.unique_id"] == headers[0].get(5).decode()
    finally:
        site.stop()


def test_mutual_and_resumed(passing, authority, site):
    """TLS is between the two ends: sessions resume, and bulk goes through."""
    proxy = passing(ROWS[:1])
    context, session = authority.client_context(maximum=ssl.TLSVersion.TLSv1_2), None
    for again in (False, True):
        with context.wrap_socket(connect(proxy.port), server_hostname="a.example",
                                 session=session) as tls:
            assert tls.session_reused == again
            session = tls.session
            assert exactly(tls, 32).strip() == b"a.example"
            for _ in range(16):  # in turn: Python's TLS sockets are for one thread
                tls.sendall(b"b" * 65536)
                assert exactly(tls, 65536) == b"b" * 65536
            tls.unwrap()


def test_openssl_and_curl(passing, authority):
    """Programs see the endpoint's certificate, and its ALPN."""
    proxy = passing(ROWS[:1])
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % proxy.port,
                           "-servername", "a.example", "-CAfile", str(authority.path),
                           "-verify_return_error"], input=b"", capture_output=True,
                          timeout=client.scaled(client.GUARD), check=False)
    assert b"Verify return code: 0 (ok)" in done.stdout, done.stdout + done.stderr


def test_reload(passing, authority):
    """Rows change; a session stays."""
    proxy = passing(ROWS[:2])
    context = authority.client_context()
    with context.wrap_socket(connect(proxy.port), server_hostname="a.example") as tls:
        assert exactly(tls, 32).strip() == b"a.example"
        proxy.change(listeners={"pass": {"sni": [{"names": ["a.example"], "pool": "w"},
                                                 {"names": ["n.example"], "pool": "a"}]}})
        plan = run("plan", proxy.path, "--text", "--admin", proxy.admin)
        assert "~ listener pass: sni" in plan.stdout, plan
        proxy.reload()
        assert who(authority, proxy.port, "a.example") == "w"
        assert who(authority, proxy.port, "n.example") == "a"
        tls.sendall(b"still")
        assert exactly(tls, 5) == b"still"


def test_explain(passing):
    proxy = passing(ROWS[:2])
    for host, pool in (("a.example", "a"), ("b.example:8443", "w")):
        told = json.loads(run("explain", "GET", "https://%s/" % host, "--listener", "pass",
                              "--json", "--admin", proxy.admin).stdout)
        assert told["pool"]["name"] == pool and told["end"] == "ok"
    told = json.loads(run("explain", "GET", "https://c.test/", "--listener", "pass", "--json",
                          "--admin", proxy.admin).stdout)
    assert told["end"] == "client.tls.unrecognized_name" and "pool" not in told
    dumped = proxy.directory / "dumped.conf"
    dumped.write_text(run("dump", "-c", proxy.path).stdout)
    assert run("check", dumped).returncode == 0, run("check", dumped).stderr


def test_status_names_the_pools(passing):
    """Each pool once, in the order of the file, that of all other names last."""
    def told(proxy):
        answer = run("status", "--json", "--admin", proxy.admin)
        return {row["name"]: row["pool"] for row in json.loads(answer.stdout)["listeners"]}["pass"]
    proxy = passing(ROWS[:2])
    assert told(proxy) == "a, w"
    proxy = passing([{"names": ["%d.test" % at], "pool": pool} for at, pool in enumerate("aba")],
                    default="d")
    assert told(proxy) == "a, b, d"
    assert re.search(r"\bpass +127\.0\.0\.1:%d +tls_passthrough +a, b, d " % proxy.port,
                     run("status", "--text", "--admin", proxy.admin).stdout)
    names = ["p%d" % number for number in range(9)]
    proxy.change(pools={pool: {"endpoints": ["127.0.0.1:9"]} for pool in names},
                 listeners={"pass": {"sni": [{"names": ["%s.test" % pool], "pool": pool}
                                             for pool in names]}})
    proxy.reload()
    assert told(proxy) == ", ".join(names[:8]) + ", ..."
