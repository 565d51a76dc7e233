"""Session tickets: resumption across workers and reloads, never across policies (THREATS.md row
16)."""
import contextlib
import select
import ssl

import pytest

from harness import client, proc
from harness.weir import eventually

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


@pytest.fixture
def tls_weir(weir, backend, authority):
    ports = [proc.free_port(), proc.free_port()]
    listeners = {"tls%d" % i: {"bind": "127.0.0.1:%d" % port, "tls": {"certificates": [
        dict(names=["a.example"], **authority.leaf(["a.example"], stem="a%d" % i))]}}
                 for i, port in enumerate(ports)}
    listeners["tls1"]["tls"]["groups"] = ["X25519", "P-256", "P-384"]
    proxy = weir({"process": {"workers": 2}, "listeners": listeners}, backend)
    proxy.ports, proxy.authority = ports, authority
    return proxy


def visit(proxy, context, session=None, port=None):
    """One connection with one request; (session for the next, was resumed)."""
    with client.Client(port or proxy.ports[0], tls=context, sni="a.example",
                       session=session) as conn:
        assert conn.get("/s", host="a.example").status == 200
        reused = conn.sock.session_reused
        next_session = conn.sock.session
        try:
            conn.sock.unwrap()
        except (ssl.SSLError, OSError):
            pass
        return next_session, reused


def only(authority, version):
    return authority.client_context(minimum=version, maximum=version)


@BOTH
def test_resumed_on_any_worker(tls_weir, version):
    context = only(tls_weir.authority, version)
    session, reused = visit(tls_weir, context)
    assert not reused
    for _ in range(30):
        session, reused = visit(tls_weir, context, session)
        assert reused
    label = "1.2" if version == V12 else "1.3"
    assert tls_weir.metric("weir_tls_handshakes_total", version=label, resumed="true") == 30
    assert tls_weir.metric("weir_tls_handshakes_total", version=label, resumed="false") == 1
    assert tls_weir.logged(31, path="/s")["tls.resumed"] is True


@BOTH
def test_resumed_after_reloads(tls_weir, version):
    context = only(tls_weir.authority, version)
    session, _ = visit(tls_weir, context)
    for number in range(5):
        tls_weir.change(routes=[{"name": "all", "prefix": "/", "pool": "app"},
                                {"path": "/r%d" % number, "respond": {"status": 200}}])
        tls_weir.reload()
        session, reused = visit(tls_weir, context, session)
        assert reused


@BOTH
def test_resumed_after_a_certificate_was_added(tls_weir, version):
    """The listener's policy object is new, its sessions are not."""
    context = only(tls_weir.authority, version)
    session, _ = visit(tls_weir, context)
    rows = tls_weir.conf["listeners"]["tls0"]["tls"]["certificates"]
    more = rows + [dict(names=["b.example"], **tls_weir.authority.leaf(["b.example"], stem="b"))]
    tls_weir.change(listeners={"tls0": {"tls": {"certificates": more}}})
    tls_weir.reload()
    assert visit(tls_weir, context, session)[1]


@BOTH
def test_not_resumed_at_another_policy(tls_weir, version):
    """A session of one listener is a full handshake at the other."""
    context = only(tls_weir.authority, version)
    session, _ = visit(tls_weir, context, port=tls_weir.ports[0])
    assert not visit(tls_weir, context, session, port=tls_weir.ports[1])[1]


@BOTH
def test_broken_ticket_is_a_full_handshake(tls_weir, version, tmp_path):
    """A ticket that was tampered with is ignored."""
    import subprocess
    path = tmp_path / "session.pem"
    flag = "-tls1_2" if version == V12 else "-tls1_3"
    base = ["openssl", "s_client", "-connect", "127.0.0.1:%d" % tls_weir.ports[0], flag,
            "-servername",
            "a.example", "-CAfile", str(tls_weir.authority.path)]
    request = "GET /s HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    subprocess.run(base + ["-sess_out", str(path), "-ign_eof"], input=request, text=True,
                   capture_output=True,
                   timeout=60, check=True)
    good = subprocess.run(base + ["-sess_in", str(path), "-ign_eof"], input=request, text=True,
                          capture_output=True, timeout=60, check=True)
    assert "Reused" in good.stdout
    body = path.read_text().split("\n")
    middle = len(body) // 2
    import base64
    der = bytearray(base64.b64decode("".join(body[1:-2])))
    marker = der.rfind(b"\x04\x81") if der.rfind(b"\x04\x81") > 0 else der.rfind(b"\x04\x82")
    for at in range(marker + 40, marker + 60):
        der[at] ^= 0x55
    text = base64.b64encode(bytes(der)).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    path.write_text("\n".join([body[0], *lines, "-----END SSL SESSION PARAMETERS-----", ""]))
    assert middle > 1
    bad = subprocess.run(base + ["-sess_in", str(path), "-ign_eof"], input=request, text=True,
                         capture_output=True, timeout=60, check=False)
    assert "Reused" not in bad.stdout
    assert tls_weir.get("/still").status == 200


def test_each_connection_gets_new_tickets(tls_weir):
    """A 1.3 ticket is single-use for privacy: every handshake hands out another."""
    context = only(tls_weir.authority, V13)
    one, _ = visit(tls_weir, context)
    two, reused = visit(tls_weir, context, one)
    assert reused and one.id != two.id or one.ticket_lifetime_hint == two.ticket_lifetime_hint
    assert one.has_ticket and two.has_ticket


def test_tickets_come_before_the_first_response(tls_weir):
    """They are sent when the handshake is done, not with the first response: else a client whose
    Finished is not acknowledged yet keeps its request back for a delayed ACK (40 ms)."""
    context = only(tls_weir.authority, V13)
    with client.Client(tls_weir.ports[0], tls=context, sni="a.example") as conn:
        assert select.select([conn.sock], [], [], 20)[0], "no ticket came"
        assert conn.get("/s", host="a.example").status == 200


# ---- 10,000 in a chain, each with the ticket of the one before ----

RELOADS, LOOKS = 500, 25  # every so many connections


class Served:
    """Which worker serves a connection: the one whose loop got what the kernel had for it."""

    def __init__(self, proxy):
        self.proxy, self.before, self.worker = proxy, None, None

    def completions(self):
        metrics = self.proxy.metrics()
        return [metrics.get("weir_loop_completions_total", worker=str(n)) for n in range(2)]

    def __enter__(self):
        self.before = self.completions()
        return self

    def __exit__(self, *_):
        grown = [now - before for now, before in zip(self.completions(), self.before)]
        assert max(grown) >= 5, grown
        self.worker = grown.index(max(grown))


def reload_routes(proxy, number):
    proxy.change(routes=[{"name": "all", "prefix": "/", "pool": "app"},
                         {"path": "/r%d" % number, "respond": {"status": 200}}])
    proxy.reload()


def chain(proxy, context, count):
    """count connections that must all resume. {(worker of the ticket, worker that took it, was
    there a reload in between)} of a sample, and the memory after the first tenth."""
    pairs, kib = set(), 0
    with Served(proxy) as before:
        session, _ = visit(proxy, context)
    for number in range(count):
        reloads, looks = number % RELOADS == LOOKS, (number + 1) % LOOKS < 2
        if reloads:
            reload_routes(proxy, number)
        with Served(proxy) if looks else contextlib.nullcontext() as served:
            session, reused = visit(proxy, context, session)
        assert reused, "connection %d was not resumed" % number
        if looks and before:
            pairs.add((before.worker, served.worker, reloads))
        before = served
        if number == count // 10:
            kib = proc.memory_kib(proxy.pid, proc.OWN)
    return pairs, kib


@pytest.mark.slow
@BOTH
def test_10_000_resumptions(tls_weir, version):
    """Across both workers and 20 reloads all are resumed, whoever made the ticket, and memory
    stays."""
    pairs, kib = chain(tls_weir, only(tls_weir.authority, version), 10000)
    assert {(a, b) for a, b, _ in pairs} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {a == b for a, b, reloaded in pairs if reloaded} == {True, False}
    label = "1.2" if version == V12 else "1.3"
    eventually(lambda: tls_weir.metric("weir_downstream_connections") == 0)
    for resumed, count in (("true", 10000), ("false", 1)):
        assert tls_weir.metric("weir_tls_handshakes_total", version=label,
                               resumed=resumed) == count
    tls_weir.settle()
    records = [r.get("tls.resumed") for r in tls_weir.lines() if r["url.path"] == "/s"]
    assert len(records) == 10001 and records.count(True) == 10000
    assert proc.memory_kib(tls_weir.pid, proc.OWN) <= kib + 1024
