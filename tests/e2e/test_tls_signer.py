"""Signers: handshakes with costly keys wait for threads of their own, in every version, and what
ends meanwhile ends well (process.signers; STYLE.md: a fast path has a slow twin)."""
import socket
import ssl
import threading

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from harness import certs, client, proc
from harness.weir import eventually

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def leaf(authority, monkeypatch, kind):
    """A certificate with a key that certs.py does not make."""
    make = {"rsa4096": lambda: rsa.generate_private_key(public_exponent=65537, key_size=4096),
            "p384": lambda: ec.generate_private_key(ec.SECP384R1())}
    with monkeypatch.context() as patch:
        if kind in make:
            patch.setattr(certs, "new_key", lambda _kind: make[kind]())
        return authority.leaf(["a.example"], kind, stem=kind)


@pytest.fixture
def site(weir, backend, authority, monkeypatch):
    def make(kind, signers=2, workers=2, conf=None, **listener):
        port = proc.free_port()
        row = dict(names=["a.example"], **leaf(authority, monkeypatch, kind))
        made = weir({"process": {"workers": workers, "signers": signers}, "listeners": {
            "tls": dict(bind="127.0.0.1:%d" % port, tls={"certificates": [row]}, **listener)},
            **(conf or {})},
            backend)
        made.tls_port, made.authority = port, authority
        return made
    return make


def visit(made, version, session=None, context=None):
    context = context or made.authority.client_context(minimum=version, maximum=version)
    with client.Client(made.tls_port, tls=context, sni="a.example", session=session) as conn:
        assert conn.get("/v", host="a.example").status == 200
        return conn.sock.session, conn.sock.session_reused


def signed(made):
    return made.metric("weir_tls_signer_signatures_total")


@pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
@pytest.mark.parametrize("kind,by_signer", [("rsa", True), ("rsa4096", True), ("p384", True),
                                            ("ec", False)])
def test_each_key(site, version, kind, by_signer):
    made = site(kind)
    for _ in range(5):
        assert not visit(made, version)[1]
    assert signed(made) == (5 if by_signer else 0)
    context = made.authority.client_context(minimum=version, maximum=version)
    session, _ = visit(made, version, context=context)
    assert visit(made, version, session, context)[1]
    assert signed(made) == (6 if by_signer else 0)
    eventually(lambda: made.metric("weir_tls_signer_waiting") == 0)


def test_without_signers_workers_sign(site):
    made = site("rsa", signers=0)
    visit(made, V13)
    assert signed(made) == 0


def test_many_at_once(site):
    """More handshakes than signers, over both workers; each ends, each is signed for once."""
    made = site("rsa", signers=3)
    faults = []

    def many():
        try:
            for _ in range(20):
                visit(made, V13)
        except (OSError, AssertionError) as error:
            faults.append(error)
    threads = [threading.Thread(target=many) for _ in range(10)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert not faults and signed(made) == 200
    assert made.metric("weir_tls_handshakes_total", version="1.3", resumed="false") == 200


def hello(made):
    """The first flight of a client, and nothing behind it."""
    into, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = made.authority.client_context()
    shake = context.wrap_bio(into, out, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        shake.do_handshake()
    return out.read()


def storm(made, count):
    socks, first = [], hello(made)
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", made.tls_port))
        sock.sendall(first)
        socks.append(sock)
    return socks


def test_clients_that_leave_are_not_signed_for(site):
    """What nobody waits for costs no signature; the worker gets all of it back."""
    made = site("rsa4096", signers=1)
    for sock in storm(made, 200):
        sock.close()
    eventually(lambda: made.metric("weir_tls_signer_waiting") == 0)
    eventually(lambda: made.metric("weir_downstream_connections") == 0)
    assert made.metric("weir_tls_signer_dropped_total") > 0
    assert signed(made) + made.metric("weir_tls_signer_dropped_total") <= 200
    visit(made, V13)


def test_who_waits_too_long_has_a_word(site):
    made = site("rsa4096", signers=1, timeouts={"handshake": "50ms"})
    socks = storm(made, 200)
    assert made.ended("client.tls.signer")["weir.listener"] == "tls"
    for sock in socks:
        sock.close()


def test_who_waits_too_long_for_tcp_has_the_same_word(site):
    made = site("rsa4096", signers=1, conf={"pools": {"db": {"endpoints": ["127.0.0.1:1"]}}},
                timeouts={"handshake": "50ms"}, protocol="tcp", pool="db")
    socks = storm(made, 200)
    assert made.ended("client.tls.signer")["weir.listener"] == "tls"
    for sock in socks:
        sock.close()


def test_end_while_handshakes_wait(site):
    """SIGTERM with a queue of signatures: nothing is waited for that nobody wants."""
    made = site("rsa4096", signers=1)
    socks = storm(made, 100)
    eventually(lambda: made.metric("weir_tls_signer_waiting") > 0)
    made.stop()
    for sock in socks:
        sock.close()


def test_certificate_changes_under_way(site, monkeypatch):
    """A reload drops the policy whose handshakes wait: they end by the old key."""
    made = site("rsa4096", signers=1)
    socks = storm(made, 50)
    made.change(listeners={"tls": {"tls": {"certificates": [
        dict(names=["a.example"], **leaf(made.authority, monkeypatch, "p384"))]}}})
    made.reload()
    visit(made, V13)
    for sock in socks:
        assert sock.recv(1) == b"\x16"
        sock.close()

