"""pools.*.proxy_tlvs: which elements a PROXY header of version 2 has
(packaging/docs/proxy_protocol.md), for each kind of client; and the receiver that some are too
long for: nginx's stream."""
import os
import subprocess

import pytest

from harness import proc, proxyheader, tcpsite, udpsite
from harness.servers import Server
from harness.tcpsite import connect, exactly
from harness.weir import eventually, run
from test_proxy_protocol_out import Behind
from test_proxy_protocol_h2 import Plain
from test_tls_passthrough import hello
from test_udp_proxy_protocol import cut

NUMBERS = {"alpn": 1, "authority": 2, "unique_id": 5, "ssl": 0x20, "crc32c": 3}
SETS = pytest.mark.parametrize("words", [
    [], ["alpn"], ["authority", "crc32c"], ["ssl", "unique_id"], sorted(NUMBERS)])


def kinds(header, words, of=tuple(NUMBERS)):
    """Those of words that there is something to tell of, and nothing else."""
    assert {kind for kind, _ in header.elements} == {NUMBERS[w] for w in words if w in of}


def pool(words, *endpoints, **more):
    return {"pools": {"app": {"endpoints": list(endpoints), "proxy_protocol": "v2",
                              "proxy_tlvs": words, **more}}}


class Reader(tcpsite.Endpoint):
    """Reads a header from each connection, and answers in one line."""

    def __init__(self):
        self.headers = []

        def behind(sock):
            self.headers.append(proxyheader.read(lambda n: exactly(sock, n), bare=True))
            sock.sendall(b"heard\n")
        super().__init__(behind)


@pytest.fixture
def reader():
    made = Reader()
    yield made
    made.stop()


def listener(port, authority=None, **more):
    conf = {"bind": "127.0.0.1:%d" % port, **more}
    if authority:
        conf["tls"] = {"certificates": [authority.leaf(["a.example"])]}
    return conf


@SETS
@pytest.mark.parametrize("alpn", ["http/1.1", "h2"])
def test_http(weir, authority, words, alpn):
    backend, port = Behind(bare=True), proc.free_port()
    proxy = weir({"listeners": {"web": None, "tls": listener(port, authority)},
                  "routes": [{"prefix": "/", "pool": "app"}], **pool(words, backend.address)})
    done = subprocess.run(
        ["curl", "-m", "60", "-s", "--http2" if alpn == "h2" else "--http1.1",
         "--cacert", authority.path, "https://a.example:%d/x" % port, "-w", "%{http_version}",
         "--resolve", "a.example:%d:127.0.0.1" % port],
        capture_output=True, text=True, timeout=90)
    assert done.stdout == "GET /x" + ("2" if alpn == "h2" else "1.1"), done
    backend.stop()
    kinds(backend.headers[0], words)
    assert ("weir.unique_id" in proxy.ended("ok")) == ("unique_id" in words)
    assert not backend.violations


def test_to_http2(weir, serve):
    origin = serve(Plain)
    proxy = weir({"routes": [{"prefix": "/", "pool": "app"}], **pool(
        ["crc32c"], origin.address, connections={"protocol": "h2c"})})
    assert proxy.get("/x").body == b"/x"
    kinds(origin.said[0], ["crc32c"])


@SETS
def test_tcp_with_tls(weir, authority, reader, words):
    port = proc.free_port()
    weir({"listeners": {"web": None, "db": listener(port, authority, protocol="tcp", pool="app",
                                                    protocols=["postgresql"])},
          **pool(words, reader.address)})
    context = authority.client_context(alpn=["postgresql"])
    with connect(port) as sock:
        with context.wrap_socket(sock, server_hostname="a.example") as tls:
            assert exactly(tls, 6) == b"heard\n"
    kinds(reader.headers[0], words)


@SETS
def test_passthrough(weir, reader, words):
    port = proc.free_port()
    weir({"listeners": {"web": None, "db": listener(port, protocol="tls_passthrough",
                                                    pool="app")}, **pool(words, reader.address)})
    with connect(port) as sock:
        sock.sendall(hello("a.example", ["h2"]))
        assert exactly(sock, 6) == b"heard\n"
    kinds(reader.headers[0], words, ("alpn", "authority", "unique_id", "crc32c"))


@SETS
def test_udp(weir, words):
    site = udpsite.Endpoint(lambda data, _: data)
    port = udpsite.free_port()
    try:
        proxy = weir({"listeners": {"web": None, "dns": listener(
            port, protocol="udp", pool="app", timeouts={"idle": "1s"})},
            **pool(words, site.address)})
        with udpsite.connect(port) as sock:
            for size in (0, 9, 1200):
                header, rest = cut(udpsite.ask(sock, b"d" * size), bare=True)
                kinds(header, words, ("unique_id", "crc32c"))
                assert rest == b"d" * size and header.src == sock.getsockname()
        assert ("weir.unique_id" in proxy.ended("ok")) == ("unique_id" in words)
    finally:
        site.stop()


def test_the_id_of_a_chain(weir, reader):
    """One that came in stands in the log, and goes on only where ids do."""
    port = proc.free_port()
    proxy = weir({"listeners": {"web": None, "db": listener(
        port, protocol="tcp", pool="app", proxy_protocol=True,
        trusted_proxies=["127.0.0.0/8"])}, **pool(["crc32c"], reader.address)})
    with connect(port) as sock:
        sock.sendall(proxyheader.v2("203.0.113.9", proxyheader.tlv(5, b"req-1")))
        assert exactly(sock, 6) == b"heard\n"
    kinds(reader.headers[0], ["crc32c"])
    assert proxy.ended("ok")["weir.unique_id"] == "req-1"


def test_reload(weir, reader):
    port = proc.free_port()
    proxy = weir({"listeners": {"web": None, "db": listener(port, protocol="tcp", pool="app")},
                  **pool([], reader.address)})

    def told():
        with connect(port) as sock:
            assert exactly(sock, 6) == b"heard\n"
        return {kind for kind, _ in reader.headers[-1].elements}
    assert told() == set()
    dumped = run("dump", "-c", proxy.path).stdout
    assert "proxy_tlvs = [  ];" in dumped, dumped
    proxy.change(pools={"app": {"proxy_tlvs": ["unique_id"]}})
    proxy.reload()
    assert told() == {5}
    proxy.change(pools={"app": {"proxy_tlvs": None}})
    proxy.reload()
    assert told() == {5, 3}


# ---- a receiver that takes 107 bytes ----

STREAM = """
daemon off; worker_processes 1; pid {dir}/nginx.pid; error_log {dir}/error.log info; {user}
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
events {{ }}
stream {{ server {{ listen {listen} proxy_protocol; return "from $proxy_protocol_addr\\n"; }} }}
"""


class Stream(Server):
    """nginx as a receiver of PROXY headers in front of a stream."""

    def command(self):
        self.directory.chmod(0o755)
        conf = self.directory / "nginx.conf"
        conf.write_text(STREAM.format(dir=self.directory, listen=self.address, user="user root;"
                                      if os.getuid() == 0 else ""))
        return ["nginx", "-p", str(self.directory), "-c", str(conf)]


@pytest.fixture
def stream(work):
    made = Stream(work, "stream").start()
    yield made
    made.stop()


@pytest.mark.parametrize("words", [["unique_id", "crc32c"], []])
def test_nginx_stream_behind_tls(weir, stream, authority, words):
    """nginx 1.22 closes on a header of more than 107 bytes: with AUTHORITY and SSL it has them."""
    port = proc.free_port()
    weir({"listeners": {"web": None, "db": listener(port, authority, protocol="tcp",
                                                    pool="app")}, **pool(words, stream.address)})
    context = authority.client_context()
    with connect(port) as sock:
        with context.wrap_socket(sock, server_hostname="a.example") as tls:
            assert tcpsite.to_end(tls) == b"from 127.0.0.1\n"
