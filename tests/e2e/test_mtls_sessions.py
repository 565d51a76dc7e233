"""Client certificates over sessions and reloads: a session is worth nothing where something else
is asked than where it was made, nor longer than what it was made with; connections under another
CA end after the drain time, and nobody else's. RFC 8446 section 4.2.11, DESIGN.md "Reload";
THREATS.md row 16."""
import signal
import ssl
import threading
import time

import pytest

from harness import client, h2talk, proc, wire
from harness.mtls import V12, V13, Site, client_mint, mtls_site, put, row, tls_group  # noqa: F401
from harness.tcpsite import Endpoint
from harness.weir import eventually

BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


def ask(made, *clients):
    """Changes what clients are asked for; the reload is the caller's."""
    made.front.change(listeners={"tls": {"tls": tls_group(made.authority, client=list(clients))}})


# ---- sessions ----

@BOTH
def test_a_resumed_client_is_who_it_was(site, mint, backend, version):
    routes = [{"path": "/x", "pool": "app", "client_cert": {"san": "uri:spiffe://prod/web"}}]
    made = site(row(mint.root, verify="optional", forward="cert"), routes=routes)
    context = made.context(mint.client("uri:spiffe://prod/web"), version=version)
    first, session, reused = made.session(context)
    assert first.status == 200 and not reused
    again, _, reused = made.session(context, session=session)
    assert again.status == 200 and reused
    fields = [dict(each.fields)[b"Client-Cert"] for each in backend.requests]
    assert len(fields) == 2 and fields[0] == fields[1]
    record = made.front.logged(2, path="/x")
    assert record["tls.resumed"] and record["tls.client.subject"] == "CN=client"
    assert made.front.metric("weir_tls_client_certificates_total") == 2


@BOTH
@pytest.mark.parametrize("other", ["b.example", "c.example"])
def test_not_at_a_name_with_another_policy(site, mint, version, other):
    """Neither without a certificate, nor with one that another row let in."""
    two = mint.make("two", ca=True)
    made = site(row(mint.root, names=["a.example"]), row(two, names=["b.example"]))
    theirs = mint.client(issuer=two) if other == "b.example" else None
    context = made.context(theirs, version=version)
    response, session, _ = made.session(context, sni=other)
    assert response.status == 200 and session.has_ticket
    with pytest.raises(ssl.SSLError):
        made.session(context, sni="a.example", session=session)
    word = "unknown_ca" if theirs else "certificate_required"
    assert made.front.logged(end="client.tls.%s" % word)["tls.resumed"] is False
    _, _, reused = made.session(context, sni=other, session=session)
    assert reused  # where it was made it is good


@BOTH
def test_optional_then_required(site, mint, version):
    """A session of a client that showed none does not spare it when one is required."""
    made = site(row(mint.root, verify="optional"))
    context = made.context(version=version)
    _, session, _ = made.session(context)
    assert made.session(context, session=session)[2]
    ask(made, row(mint.root))
    made.front.reload()
    with pytest.raises(ssl.SSLError):
        made.session(context, session=session)
    made.front.ended("client.tls.certificate_required")


@BOTH
def test_not_across_another_ca(site, mint, version):
    other = mint.make("other", ca=True)
    made = site(row(mint.root))
    context = made.context(mint.client(), version=version)
    _, session, _ = made.session(context)
    made.front.change(routes=[{"prefix": "/", "pool": "app"},
                              {"path": "/more", "respond": {"status": 200}}])
    made.front.reload()  # nothing of it: resumed
    _, session, reused = made.session(context, session=session)
    assert reused
    ask(made, row(other))
    made.front.reload()
    with pytest.raises(ssl.SSLError):
        made.session(context, session=session)
    assert made.front.ended("client.tls.unknown_ca")["tls.resumed"] is False


@BOTH
def test_not_when_a_crl_changed(site, mint, version):
    """A new CRL is taken from its file, without a reload; a session made before it is void."""
    cert = mint.client()
    crl = mint.crl()
    made = site(row(mint.root, crl=[crl]))
    context = made.context(cert, version=version)
    _, session, _ = made.session(context)
    _, session, reused = made.session(context, session=session)
    assert reused
    put(crl, mint.crl(cert).read_bytes())
    made.front.stderr_has("changed certificates or keys are in service")
    with pytest.raises(ssl.SSLError):
        made.session(context, session=session)
    made.front.ended("client.tls.certificate_revoked")


@BOTH
@pytest.mark.parametrize("which", ["certificate", "crl"])
def test_no_longer_than_what_it_was_made_with(site, mint, version, which):
    hour = 1 / 24
    cert = mint.client(days=(-1, hour) if which == "certificate" else (-1, 9))
    crl = mint.crl(days=(-1, hour) if which == "crl" else (-1, 9))
    made = site(row(mint.root, crl=[crl], names=["a.example"]))
    context = made.context(cert, version=version)
    response, session, _ = made.session(context)
    assert response.status == 200 and 3000 < session.ticket_lifetime_hint <= 3600
    _, session, _ = made.session(made.context(version=version), sni="b.example")
    assert session.ticket_lifetime_hint > 3600


# ---- reloads ----

def test_a_bad_ca_file_changes_nothing(site, mint):
    ca = mint.directory / "watched.crt"
    ca.write_bytes(mint.root.pem)
    made = site({"ca": "file:%s" % ca})
    good = mint.client()
    put(ca, b"nothing\n")
    made.front.stderr_has("not taken")
    assert made.visit(good).status == 200
    made.refused("client.tls.certificate_required", "CERTIFICATE_REQUIRED")


def test_a_changed_ca_file_is_taken(site, mint):
    other = mint.make("other", ca=True)
    ca = mint.directory / "watched.crt"
    ca.write_bytes(mint.root.pem)
    made = site({"ca": "file:%s" % ca})
    assert made.visit(mint.client()).status == 200
    put(ca, other.pem)
    made.front.stderr_has("changed certificates or keys are in service")
    assert made.visit(mint.client(issuer=other)).status == 200
    made.refused("client.tls.unknown_ca", "UNKNOWN_CA", mint.client())


class Slow:
    """A response that begins, and goes on when it is let."""

    def __init__(self, backend, path="/slow"):
        self.go = threading.Event()
        backend.on(path, self.serve)

    def serve(self, conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab")
        self.go.wait(client.GUARD)
        conn.send(b"cd")


def test_connections_end_with_their_ca(site, mint, backend):
    """Idle ones at once, one with a response after it; of a name whose row is the same, none."""
    other = mint.make("other", ca=True)
    slow = Slow(backend)
    rows = row(mint.root, names=["b.example"])
    made = site(row(mint.root, names=["a.example"]), rows, conf={"process": {"drain": "30s"}})
    good = mint.client()
    idle, busy, kept, plain = (made.open(good), made.open(good),
                               made.open(good, sni="b.example"), made.open(sni="c.example"))
    for conn, host in [(idle, "a.example"), (kept, "b.example"), (plain, "c.example")]:
        assert conn.get("/x", host=host).status == 200
    busy.send(wire.request_bytes("GET", "/slow", host="a.example"))
    backend.wait(4)
    ask(made, row(other, names=["a.example"]), rows)
    made.front.reload()
    idle.expect_close()
    slow.go.set()
    assert busy.response().body == b"abcd"
    busy.expect_close()
    for conn, host in [(kept, "b.example"), (plain, "c.example")]:
        assert conn.get("/x", host=host).status == 200
    for conn in (idle, busy, kept, plain):
        conn.close()


def half(conn, host="a.example"):
    """Sends a request but for its end: it is there before the reload, and routed after it."""
    conn.send(b"GET /late HTTP/1.1\r\nHost: %s\r\n" % host.encode())


def test_a_request_that_comes_after_the_change(site, mint, backend):
    """421 for whom the new rules would not let in; whoever they would is answered once more."""
    other = mint.make("other", ca=True)
    made = site(row(mint.root, verify="optional"))
    theirs, none, sound = made.open(mint.client()), made.open(), made.open(mint.client())
    for conn in (theirs, none, sound):
        assert conn.get("/x", host="a.example").status == 200
        half(conn)
    ask(made, row(mint.root, other))
    made.front.reload()
    for conn, status in [(none, 421), (sound, 200)]:
        conn.send(b"\r\n")
        response = conn.response()
        assert response.status == status and response.get("connection").lower() == "close"
        conn.expect_close()
    record = made.front.ended("client.misdirected", path="/late")
    assert record["http.response.status_code"] == 421
    ask(made, row(other))
    made.front.reload()
    theirs.send(b"\r\n")
    assert theirs.response().status == 421
    theirs.expect_close()
    assert [each.path for each in backend.requests].count("/late") == 1
    for conn in (theirs, none, sound):
        conn.close()


def test_nobody_is_who_he_was_when_nothing_is_asked(site, mint, backend):
    """A name's row is removed, for its CA is not to be trusted: who had shown a certificate of it
    is not told of to routes and endpoints any more; who had shown none goes on."""
    routes = [{"path": "/late", "pool": "app", "client_cert": {"present": True}},
              {"path": "/late", "respond": {"status": 204}}]
    made = site(row(mint.root, verify="optional", forward="cert"), routes=routes)
    theirs, none = made.open(mint.client()), made.open()
    for conn in (theirs, none):
        half(conn)
    ask(made, row(mint.root, names=["b.example"]))
    made.front.reload()
    for conn, status in [(theirs, 421), (none, 204)]:
        conn.send(b"\r\n")
        assert conn.response().status == status
        conn.expect_close()
        conn.close()
    assert not backend.requests


def test_a_revoked_client_gets_no_more(site, mint, backend):
    """A CRL that comes is for connections that are there, too; others' clients go on."""
    bad, good, crl = mint.client(), mint.client(), mint.crl()
    made = site(row(mint.root, crl=[crl]))
    pairs = [(made.open(bad), 421), (made.open(good), 200)]
    for conn, _ in pairs:
        half(conn)
    put(crl, mint.crl(bad).read_bytes())
    made.front.stderr_has("changed certificates or keys are in service")
    for conn, status in pairs:
        conn.send(b"\r\n")
        assert conn.response().status == status
        conn.close()
    assert [each.path for each in backend.requests] == ["/late"]


def h2_talk(made, mint, monkeypatch):
    context, plain = made.context(mint.client(), alpn=["h2"]), client.connect

    def wrapped(address, **kwargs):
        return context.wrap_socket(plain(address, **kwargs), server_hostname="a.example")
    monkeypatch.setattr(h2talk.client, "connect", wrapped)
    talk = h2talk.Talk(made.port)
    monkeypatch.setattr(h2talk.client, "connect", plain)
    return talk


def let_in_before(site, mint, backend, monkeypatch):
    """A connection with a slow stream, whose client's CA is no more asked for: (slow, talk,
    stream)."""
    other = mint.make("other", ca=True)
    slow = Slow(backend)
    made = site(row(mint.root), conf={"process": {"drain": "30s"}})
    talk = h2_talk(made, mint, monkeypatch)
    stream = talk.open(path="/slow", authority="a.example", scheme="https")
    backend.wait(1)
    ask(made, row(other))
    made.front.reload()
    return slow, talk, stream


def test_http2_serves_no_stream_that_comes_after(site, mint, backend, monkeypatch):
    """Between the two GOAWAYs streams are still taken: they are answered with 421."""
    slow, talk, stream = let_in_before(site, mint, backend, monkeypatch)
    late = talk.open(path="/late", authority="a.example", scheme="https")
    slow.go.set()
    talk.whole(stream)
    while not late.ended and late.reset is None and talk.step():
        pass
    assert stream.status == 200 and (late.headers is None or late.status == 421)
    assert [each.path for each in backend.requests] == ["/slow"]
    talk.close()


def test_what_runs_on_ends_after_the_drain_time(site, mint, backend):
    """A response that does not end, and a tunnel."""
    other = mint.make("other", ca=True)
    slow = Slow(backend)

    def upgrade(conn, _request):
        conn.send(b"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
        conn.sock.recv(1)
    backend.on("/up", upgrade)
    made = site(row(mint.root, verify="optional"), conf={"process": {"drain": "1s"}},
                listener={"protocols": ["http/1.1"]})
    good = mint.client()
    busy, tunnel = made.open(good), made.open()
    busy.send(wire.request_bytes("GET", "/slow", host="a.example"))
    tunnel.send(b"GET /up HTTP/1.1\r\nHost: a.example\r\n"
                b"Connection: Upgrade\r\nUpgrade: x\r\n\r\n")
    backend.wait(2)
    ask(made, row(other))
    made.front.reload()
    assert made.front.logged(end="proxy.drain", path="/slow")
    assert made.front.logged(end="proxy.drain.tunnel", path="/up")
    slow.go.set()
    busy.close()
    tunnel.close()


def test_http2_ends_with_its_ca(site, mint, backend, monkeypatch):
    """GOAWAY; the stream that runs is finished."""
    slow, talk, stream = let_in_before(site, mint, backend, monkeypatch)
    talk.until(lambda: talk.goaway is not None)
    slow.go.set()
    talk.whole(stream)
    assert stream.status == 200 and bytes(stream.body) == b"abcd"
    while talk.step():
        pass
    talk.close()


def test_plaintext_ends_when_tls_comes(site, mint, backend):
    """Whoever was let in without a handshake; a connection whose PROXY header is waited for has
    not begun, and begins with TLS."""
    slow = Slow(backend)
    header = {"proxy_protocol": "optional", "trusted_proxies": ["127.0.0.1"]}
    made = site(conf={"process": {"drain": "1s"}},
                listener={"tls": None, "protocols": ["http/1.1"], **header})
    idle, ends, runs = (client.Client(made.port) for _ in range(3))
    waits = client.connect(made.port)
    waits.sendall(b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2")
    for conn in (idle, ends, runs):
        assert conn.get("/x", host="a.example").status == 200
    for conn in (ends, runs):
        conn.send(wire.request_bytes("GET", "/slow", host="a.example"))
    backend.wait(5)
    made.front.change(listeners={"tls": {"tls": tls_group(made.authority, [row(mint.root)])}})
    made.front.reload()
    idle.expect_close()
    assert made.front.logged(2, end="proxy.drain", path="/slow")
    slow.go.set()
    waits.sendall(b"\r\n")
    with made.context(mint.client()).wrap_socket(waits, server_hostname="a.example") as late:
        late.sendall(wire.request_bytes("GET", "/x", host="a.example"))
        assert late.recv(12) == b"HTTP/1.1 200"
    for conn in (idle, ends, runs):
        conn.close()


def test_plaintext_sessions_of_tcp_end_when_tls_comes(weir, authority):
    endpoint, port = Endpoint(), proc.free_port()
    listener = {"bind": "127.0.0.1:%d" % port, "protocol": "tcp", "pool": "db"}
    front = weir({"process": {"drain": "1s"}, "listeners": {"tls": listener},
                  "pools": {"db": {"endpoints": ["127.0.0.1:%d" % endpoint.port]}},
                  "routes": [{"prefix": "/", "respond": {"status": 200}}]})
    with client.Client(port) as conn:
        conn.send(b"ping")
        assert conn.sock.recv(4) == b"ping"
        front.change(listeners={"tls": {"tls": tls_group(authority, None)}})
        front.reload()
        front.ended("proxy.drain.tunnel", weir__pool="db")
    endpoint.stop()


class HeldHandshake:
    """A TLS client that has heard all that the server says before the client's certificate, and
    says the rest when it is let."""

    def __init__(self, made, cert):
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = made.context(cert).wrap_bio(self.incoming, self.outgoing,
                                               server_hostname="a.example")
        self.sock = client.connect(made.port)
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.sock.sendall(self.outgoing.read())
                self.incoming.write(self.sock.recv(65536))

    def go_on(self, data=None):
        """Without data it says no more than that its handshake is done."""
        if data:
            self.tls.write(data)
        self.sock.sendall(self.outgoing.read())

    def to_end(self, most=1 << 30):
        """What the server says, up to its end or to so many bytes."""
        answer = b""
        while len(answer) < most:
            try:
                part = self.sock.recv(65536)
            except ConnectionResetError:
                break
            if not part:
                break
            self.incoming.write(part)
            try:
                while more := self.tls.read(65536):
                    answer += more
            except ssl.SSLError:
                pass
        return answer


def test_a_handshake_that_began_before(site, mint):
    """It ends under the old rules, and its connection with the first request, to which the new
    ones are put."""
    other = mint.make("other", ca=True)
    made = site(row(mint.root), listener={"protocols": ["http/1.1"]})
    held = HeldHandshake(made, mint.client())
    ask(made, row(other))
    made.front.reload()
    held.go_on(wire.request_bytes("GET", "/x", host="a.example"))
    answer = held.to_end()
    assert answer.startswith(b"HTTP/1.1 421") and b"connection: close" in answer.lower()
    held.sock.close()


FIRST = {"protocols": ["http/1.1"], "timeouts": {"header": "1h"}}  # whoever says nothing may wait


def test_a_silent_client_whose_handshake_began_before(site, mint):
    """It is not waited for longer than others whose connection ends by a reload."""
    other = mint.make("other", ca=True)
    made = site(row(mint.root), listener=FIRST, conf={"process": {"drain": "1h"}})
    held = HeldHandshake(made, mint.client())
    ask(made, row(other))
    made.front.reload()
    held.go_on()
    assert held.to_end() == b""
    made.front.logged(1, end="client.timeout.header")
    held.sock.close()


def test_handshakes_that_end_in_a_drain(site):
    """Their clients have as long for a request as those between requests have, not all of
    timeouts.header. They end one after the other, as nobody sees when a worker begins to drain;
    where the machine is too slow for all of them, once more."""
    ends = set()
    for _ in range(20):
        made = site(listener=FIRST, conf={"process": {"drain": "1h"}})
        shakes = [HeldHandshake(made, None) for _ in range(15)]
        made.front.signal(signal.SIGTERM)
        made.front.stderr_has("SIGTERM: draining 15 connections")
        for held in shakes:
            held.go_on()
            time.sleep(0.02)
        for held in shakes:
            assert held.to_end() == b""
            held.sock.close()
        assert made.front.process.wait(60) == 0
        ends.update(record["weir.end"] for record in made.front.all_lines())
        assert ends <= {"client.timeout.header", "client.tls.timeout"}
        if "client.timeout.header" in ends:
            return
    raise AssertionError("no handshake came to its end: %s" % ends)


def test_a_handshake_for_tcp_that_began_before(weir, authority, mint):
    """No session for a client that the new rules would not let in; others have theirs."""
    endpoint, port = Endpoint(), proc.free_port()
    bad, good, crl = mint.client(), mint.client(), mint.crl()
    clients = [row(mint.root, crl=[crl])]
    listener = {"bind": "127.0.0.1:%d" % port, "protocol": "tcp", "pool": "db",
                "tls": tls_group(authority, clients)}
    made = Site(weir({"process": {"drain": "30s"}, "listeners": {"tls": listener},
                      "pools": {"db": {"endpoints": ["127.0.0.1:%d" % endpoint.port]}},
                      "routes": [{"prefix": "/", "respond": {"status": 200}}]}), authority, port)
    revoked, sound = HeldHandshake(made, bad), HeldHandshake(made, good)
    put(crl, mint.crl(bad).read_bytes())
    made.front.stderr_has("changed certificates or keys are in service")
    sound.go_on(b"sound")
    assert sound.to_end(5) == b"sound"
    revoked.go_on(b"revoked")
    assert revoked.to_end() == b""
    record = made.front.ended("client.misdirected")
    assert record["tls.client.subject"] == "CN=client" and "weir.pool" not in record
    for each in (revoked, sound):
        each.sock.close()
    made.front.ended("client.closed", weir__pool="db")
    assert made.front.metric("weir_tcp_sessions_total") == 1
    endpoint.stop()


def test_reloads_under_load(site, mint):
    """While CAs and CRLs come and go, no request of a client that is good all the time fails, but
    for connections that ended before it was sent."""
    other, crl = mint.make("other", ca=True), mint.crl()
    made = site(row(mint.root), conf={"process": {"drain": "1s"}})
    context = made.context(mint.client())
    stop, done, bad = threading.Event(), [], []

    def run():
        conn, fresh = None, True
        while not stop.is_set():
            fresh = conn is None
            try:
                conn = conn or made.open(context=context)
                response = conn.get("/x", host="a.example")
                if response.status != 200:
                    bad.append(response)
                done.append(1)
                if (response.get("connection") or "").lower() == "close":
                    conn.close()
                    conn = None
            except Exception as error:  # pylint: disable=broad-except
                if fresh:
                    bad.append(error)
                conn = None
    threads = [threading.Thread(target=run) for _ in range(4)]
    for each in threads:
        each.start()
    for number in range(6):
        ask(made, row(mint.root, *([other] if number % 2 else []),
                      crl=[crl] if number % 3 else None))
        before = len(done)
        made.front.reload()
        eventually(lambda: len(done) > before + 20)
    stop.set()
    for each in threads:
        each.join()
    assert not bad, bad[:3]
    made.front.settle()
