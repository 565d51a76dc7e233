"""Client certificates over TCP: nothing behind the handshake says another name than the SNI, so
who names none, or one that no row of tls.client is for, is refused. THREATS.md row 16."""
import ssl

import pytest

from harness import proc
from harness.mtls import V12, V13, Site, client_mint, row, tls_group  # noqa: F401
from harness.tcpsite import Endpoint

BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
NAMES = ["m.example", "other.example", "optional.example", "*.below.example"]
UNNAMED, REQUIRED = "client.tls.unrecognized_name", "client.tls.certificate_required"


class Tcp(Site):
    """A weir with a TCP listener of these rows, before an echo, and one certificate of NAMES."""

    def __init__(self, weir, authority, endpoint, rows, default=False, **more):
        port = proc.free_port()
        leaf = dict(authority.leaf(NAMES, stem="tcp"), default=default)
        self.tls = {"certificates": [leaf]}
        self.conf = {"listeners": {"tcp": {"bind": "127.0.0.1:%d" % port, "protocol": "tcp",
                                           "pool": "db", "tls": dict(self.tls, client=rows)}},
                     "pools": {"db": {"endpoints": ["127.0.0.1:%d" % endpoint.port]}},
                     "routes": [{"prefix": "/", "respond": {"status": 200}}], **more}
        super().__init__(weir(self.conf), authority, port)

    def context(self, cert=None, version=None, alpn=None):
        context = super().context(cert, version, alpn)
        context.check_hostname = False
        return context

    def echo(self, context, sni, session=None):
        """True when the endpoint answers: (that, the session, was it resumed)."""
        with self.open(context=context, sni=sni, session=session) as conn:
            conn.send(b"ping")
            answer = conn.sock.recv(4)
            return answer == b"ping", conn.sock.session, conn.sock.session_reused

    def shut(self, end, context, sni, session=None):
        """Nothing gets through, and the log says why."""
        seen = len([r for r in self.front.lines() if r.get("weir.end") == end])
        with pytest.raises((ssl.SSLError, ConnectionError)):
            assert not self.echo(context, sni, session)[0]
        return self.front.logged(seen + 1, end=end)


@pytest.fixture(name="endpoint")
def echo_endpoint():
    endpoint = Endpoint()
    yield endpoint
    endpoint.stop()


@pytest.fixture(name="site")
def tcp_site(weir, authority, endpoint):
    return lambda *rows, **more: Tcp(weir, authority, endpoint, list(rows), **more)


# What a client says, and by which word it ends without a certificate and with a good one.
ATTEMPTS = [
    ("m.example", REQUIRED, None),
    ("M.eXample", REQUIRED, None),
    ("m.example.", REQUIRED, None),
    ("M.EXAMPLE.", REQUIRED, None),
    ("a.below.example", REQUIRED, None),
    ("a.b.below.example", UNNAMED, UNNAMED),   # no certificate has it
    ("below.example", UNNAMED, UNNAMED),
    (None, UNNAMED, UNNAMED),
    ("other.example", UNNAMED, UNNAMED),       # of the same certificate, without a row
    ("OTHER.example.", UNNAMED, UNNAMED),
    ("unknown.example", UNNAMED, UNNAMED),
    ("xm.example", UNNAMED, UNNAMED),
    ("x.m.example", UNNAMED, UNNAMED),
    ("example", UNNAMED, UNNAMED),
    ("127.0.0.1", UNNAMED, UNNAMED),
    ("optional.example", None, None),
]


@BOTH
@pytest.mark.parametrize("default", [False, True])
def test_no_way_around_the_names(weir, authority, endpoint, mint, version, default):
    """A certificate that is the default answers any name: that lets nobody in."""
    rows = [row(mint.root, names=["m.example", "*.below.example"]),
            row(mint.root, names=["optional.example"], verify="optional")]
    made = Tcp(weir, authority, endpoint, rows, default)
    bare, good = made.context(version=version), made.context(mint.client(), version=version)
    let_in = 0
    for sni, without, having in ATTEMPTS:
        for context, end in [(bare, without), (good, having)]:
            if default and sni == "a.b.below.example":  # a row is for any number of labels
                end = REQUIRED if context is bare else None
            if end:
                made.shut(end, context, sni)
                continue
            assert made.echo(context, sni)[0], (sni, context is good)
            let_in += 1
    assert made.front.metric("weir_tcp_sessions_total") == let_in
    assert len(endpoint.sockets) == let_in


@BOTH
def test_no_session_of_another_name(site, mint, version):
    """One that was made where nobody needs a certificate opens no other name, and none no name."""
    made = site(row(mint.root, names=["m.example"]),
                row(mint.root, names=["optional.example"], verify="optional"))
    context = made.context(version=version)
    _, session, _ = made.echo(context, "optional.example")
    assert made.echo(context, "optional.example", session)[2]
    made.shut(REQUIRED, context, "m.example", session)
    made.shut(UNNAMED, context, None, session)
    made.shut(UNNAMED, context, "other.example", session)
    good = made.context(mint.client(), version=version)
    _, session, _ = made.echo(good, "m.example")
    for sni in (None, "other.example"):
        assert made.shut(UNNAMED, good, sni, session)["tls.resumed"] is False


@BOTH
def test_a_row_for_all_names(site, mint, version):
    made = site(row(mint.root, names=["other.example"], verify="optional"), row(mint.root))
    bare, good = made.context(version=version), made.context(mint.client(), version=version)
    for sni in (None, "m.example", "optional.example"):
        assert made.shut(REQUIRED, bare, sni).get("server.address") == sni
        assert made.echo(good, sni)[0], sni
    assert made.echo(bare, "other.example")[0]


def test_without_rows_nothing_is_asked(site):
    made = site()
    for sni in (None, "m.example", "other.example"):
        assert made.echo(made.context(), sni)[0]


def test_http_beside_it(weir, authority, endpoint, mint):
    """The same tls group on an HTTP listener: there the host of each request is looked at."""
    rows = [row(mint.root, names=["m.example"])]
    tcp = Tcp(weir, authority, endpoint, rows)
    port = proc.free_port()
    tcp.front.change(listeners={"web": {"bind": "127.0.0.1:%d" % port,
                                        "tls": dict(tcp.tls, client=rows)}})
    tcp.front.reload()
    web = Site(tcp.front, authority, port)
    context = tcp.context()
    for sni in ("other.example", None):
        assert web.visit(sni=sni, host="other.example", context=context).status == 200
        assert web.visit(sni=sni, host="m.example", context=context).status == 421
        tcp.shut(UNNAMED, context, sni)


def test_a_reload_that_brings_rows(site, mint):
    """Connections of names that are refused from then on end like those of a changed CA."""
    made = site(process={"workers": 1, "drain": "1s"})
    kept = [made.open(context=made.context(), sni=sni) for sni in (None, "other.example")]
    for conn in kept:
        conn.send(b"ping")
        assert conn.sock.recv(4) == b"ping"
    made.front.change(listeners={"tcp": {"tls": dict(
        made.tls, client=[row(mint.root, names=["m.example"])])}})
    made.front.reload()
    made.front.logged(2, end="proxy.drain.tunnel")
    for conn in kept:
        conn.close()
    made.shut(UNNAMED, made.context(), None)
