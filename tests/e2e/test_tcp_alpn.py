"""ALPN on listeners with protocol = "tcp" that end TLS (packaging/docs/tcp.md, RFC 7301): any
names, in the listener's order; who offers others only is refused, who offers none is not."""
import json
import ssl
import subprocess

import pytest

from harness import proc, proxyheader, tcpsite
from harness.tcpsite import connect, exactly
from harness.weir import run

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
REFUSED = "client.tls.no_application_protocol"


class Site:
    """A weir with one TCP listener of these protocols, before an echo that keeps PROXY headers."""

    def __init__(self, weir, authority, protocols, tls=None, start=True, **pool):
        self.authority, self.port, self.headers = authority, proc.free_port(), []
        self.proxied = "proxy_protocol" in pool
        self.endpoint = tcpsite.Endpoint(self.serve)
        listener = {"bind": "127.0.0.1:%d" % self.port, "protocol": "tcp", "pool": "db",
                    "tls": {"certificates": [authority.leaf(["db.example"])], **(tls or {})}}
        if protocols is not None:
            listener["protocols"] = protocols
        self.front = weir({"listeners": {"web": None, "db": listener},
                           "pools": {"db": {"endpoints": [self.endpoint.address], **pool}}},
                          start=start)

    def serve(self, sock):
        if self.proxied:
            self.headers.append(proxyheader.read(lambda count: exactly(sock, count)))
        tcpsite.echo(sock)

    def context(self, alpn, version=None):
        return self.authority.client_context(alpn=alpn, minimum=version, maximum=version)

    def open(self, alpn, version=None, context=None, session=None):
        context = context or self.context(alpn, version)
        return context.wrap_socket(connect(self.port), server_hostname="db.example",
                                   session=session)

    def chosen(self, alpn, version=None):
        """What is chosen of an offer; bytes go through."""
        with self.open(alpn, version) as sock:
            pinged(sock)
            return sock.selected_alpn_protocol()

    def refused(self, count, alpn, version=None, **more):
        """The alert says so, the log and the metric too, and no endpoint hears of it."""
        before = len(self.endpoint.sockets)
        with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
            self.open(alpn, version, **more)
        record = self.front.logged(count, end=REFUSED)
        assert self.front.metric("weir_request_end_total", end=REFUSED) == count
        assert len(self.endpoint.sockets) == before
        return record


def pinged(sock):
    sock.sendall(b"ping")
    assert exactly(sock, 4) == b"ping"


@pytest.fixture
def site(weir, authority):
    made = []

    def make(protocols=None, **more):
        made.append(Site(weir, authority, protocols, **more))
        return made[-1]

    yield make
    for each in made:
        each.endpoint.stop()


LIST = ["postgresql", "imap", "h2", "x" * 255]


@BOTH
@pytest.mark.parametrize("offer,chosen", [
    (["postgresql"], "postgresql"), (["imap", "postgresql"], "postgresql"), (["h2"], "h2"),
    (["http/1.1", "imap"], "imap"), (["x" * 255], "x" * 255), (None, None)])
def test_chosen(site, version, offer, chosen):
    assert site(LIST).chosen(offer, version) == chosen


@BOTH
@pytest.mark.parametrize("offer", [["http/1.1"], ["postgres", "IMAP", "h", "h2c"], ["x" * 254]])
def test_refused(site, version, offer):
    made = site(LIST)
    made.refused(1, offer, version)
    made.refused(2, offer, version)
    assert made.front.metric("weir_tls_handshake_failures_total") == 2
    assert made.chosen(["imap"], version) == "imap"


@BOTH
def test_one_name_of_http(site, version):
    """What HTTP listeners make of a list without http/1.1 is no rule here."""
    made = site("h2")
    assert made.chosen(None, version) is None
    made.refused(1, ["http/1.1"], version)


def test_without_the_key(site):
    """None is chosen, whatever is offered."""
    made = site()
    for offer in (None, ["postgresql"], ["h2", "http/1.1"]):
        assert made.chosen(offer) is None


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_openssl(site, version):
    made = site(["mqtt", "imap"])

    def ask(*words):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % made.port, "-CAfile",
             made.authority.path, "-servername", "db.example", version, *words], input="",
            capture_output=True, text=True, timeout=120, check=False)
        return done.stdout + done.stderr

    assert "ALPN protocol: mqtt" in ask("-alpn", "imap,mqtt")
    assert "No ALPN negotiated" in ask()
    out = ask("-alpn", "smtp")
    assert "no application protocol" in out and "ALPN protocol:" not in out
    made.front.logged(1, end=REFUSED)


@pytest.mark.parametrize("alpn", [["imap"], None])
def test_endpoint_is_told(site, alpn):
    """The element for ALPN of a PROXY header has what was chosen; none where none was."""
    made = site(["postgresql", "imap"], proxy_protocol="v2")
    made.chosen(alpn)
    assert made.headers[0].get(1) == (b"imap" if alpn else None)
    assert made.headers[0].get(2) == b"db.example"


@BOTH
def test_resumed(site, version):
    """It is chosen anew in each handshake: a session that was made with another offer, or with
    none, is no way around the list."""
    made = site(["postgresql", "imap"])
    context = made.context(["imap"], version)
    offers = [(["postgresql", "imap"], "postgresql"), (["ftp"], REFUSED), (["imap"], "imap"),
              (["ftp"], REFUSED), (["http/1.1", "imap"], "imap")]
    with made.open(None, context=context) as sock:
        pinged(sock)
        session = sock.session
    refusals = 0
    for offer, chosen in offers:
        context.set_alpn_protocols(offer)
        if chosen == REFUSED:
            refusals += 1
            made.refused(refusals, offer, context=context, session=session)
            continue
        with made.open(offer, context=context, session=session) as sock:
            pinged(sock)
            assert sock.session_reused and sock.selected_alpn_protocol() == chosen


@BOTH
def test_resumed_without_an_offer(site, version):
    made = site(["imap"])
    context = made.context(None, version)
    with made.open(None, context=context) as sock:
        pinged(sock)
        session = sock.session
    with made.open(None, context=context, session=session) as sock:
        pinged(sock)
        assert sock.session_reused and sock.selected_alpn_protocol() is None
    context.set_alpn_protocols(["ftp"])
    made.refused(1, ["ftp"], context=context, session=session)


def test_no_early_data_with_it(site):
    """Early data is for HTTP, so that none can come under a protocol that is not chosen yet."""
    made = site(["imap"], tls={"early_data": True}, start=False)
    result = run("check", made.front.path)
    assert result.returncode == 78 and "W0181" in result.stderr + result.stdout, result


def test_reload(site):
    """A changed list holds for new connections; who is connected stays; the key can go again."""
    made = site(["imap"])
    kept = made.open(["imap"])
    pinged(kept)
    made.refused(1, ["mqtt"])
    made.front.change(listeners={"db": {"protocols": ["mqtt", "imap"]}})
    reloaded = run("reload", "-c", made.front.path)
    assert json.loads(reloaded.stdout)["changes"] == [
        {"change": "changed", "kind": "listener", "name": "db", "detail": "protocols"}], reloaded
    assert made.chosen(["imap", "mqtt"]) == "mqtt"
    made.front.change(listeners={"db": {"protocols": ["mqtt"]}})
    made.front.reload()
    made.refused(2, ["imap"])
    pinged(kept)
    made.front.change(listeners={"db": {"protocols": None}})
    made.front.reload()
    assert made.chosen(["imap"]) is None
    pinged(kept)
    kept.close()


def test_beside_http(site, authority, new_backend):
    """The same list of words and the same certificates on both kinds of listener: HTTP still
    refuses who offers nothing, where http/1.1 is not named."""
    made, backend, port = site(["h2"]), new_backend(), proc.free_port()
    tls = made.front.conf["listeners"]["db"]["tls"]
    made.front.change(listeners={"tls": {"bind": "127.0.0.1:%d" % port, "protocols": ["h2"],
                                         "tls": tls}},
                      pools={"app": {"endpoints": [backend.address]}},
                      routes=[{"prefix": "/", "pool": "app"}])
    made.front.reload()
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        authority.client_context().wrap_socket(connect(port), server_hostname="db.example")
    assert made.chosen(None) is None


@pytest.mark.parametrize("protocols,code,words", [
    ([""], "W0116", "empty"),
    (["imap", ""], "W0116", "empty"),
    ([], "W0116", "empty"),
    (["x" * 256], "W0213", "255 bytes"),
    (["imap", "smtp", "imap"], "W0117", "stands twice"),
    (["p%d" % n for n in range(17)], "W0204", "at most 16"),
])
def test_check(site, protocols, code, words):
    result = run("check", site(protocols, start=False).front.path)
    said = result.stdout + result.stderr
    assert result.returncode == 78 and code in said and words in said, said


@pytest.mark.parametrize("listener", [{"tls": None},
                                      {"protocol": "tls_passthrough", "tls": None}])
def test_it_is_of_tls(site, listener):
    made = site(["imap"], start=False)
    made.front.change(listeners={"db": listener})
    result = run("check", made.front.path)
    said = result.stdout + result.stderr
    assert result.returncode == 78 and "W0181" in said and "ALPN" in said, said


def uncommented(dump):
    """Without the places that values came from."""
    return [line.partition("  #")[0] for line in dump.splitlines()]


@pytest.mark.parametrize("protocols", [["postgresql", "a b", "x" * 255], None])
def test_dump(site, protocols):
    """What `weir dump` writes is good, and says the same."""
    made = site(protocols, start=False)
    dumped = run("dump", made.front.path)
    assert dumped.returncode == 0 and ("protocols =" in dumped.stdout) == bool(protocols), dumped
    if protocols:
        assert ", ".join('"%s"' % each for each in protocols) in dumped.stdout
    again = made.front.path.with_name("again.conf")
    again.write_text(dumped.stdout)
    checked = run("check", again)
    assert checked.returncode == 0, checked
    assert uncommented(run("dump", again).stdout) == uncommented(dumped.stdout)
