"""The watch of certificate files: each file that is no good keeps its last good content and is
named once; all others are taken, of the same listener too: above all a fresh CRL."""
import base64
import os
import signal
import ssl

import pytest

from harness import certs, ech, proc
from harness.mtls import ClientMint, Site, put, row
from harness.tlspeers import TlsBackend
from harness.weir import eventually


class Files(Site):
    """A listener with one of each file. `bad` and `good` write one of them; `revoke` makes a fresh
    CRL, which must always get through."""

    def __init__(self, weir, backend, authority, work):
        self.mint, self.work = ClientMint(work), work
        self.leaf, self.other = authority.pem(["a.example"]), authority.pem(["b.example"])
        self.third, self.beside = (self.mint.make(name, ca=True) for name in ("third", "beside"))
        self.content = {
            "a.crt": self.leaf[0], "a.key": self.leaf[1],
            "b.crt": self.other[0], "b.key": self.other[1],
            "b.ocsp": authority.staple(self.other[0]), "third.ca": self.third.pem,
            "root.crl": self.mint.crl().read_bytes(), "third.crl": self.crl(self.third),
            "beside.ca": self.beside.pem, "beside.crl": self.crl(self.beside),
            "one.ticket": os.urandom(80), "ech.pem": ech.Keys("a.example").pem.encode()}
        self.broken = {
            "b.crt": b"nothing\n", "b.key": certs.key_pem(certs.new_key("ec")),
            "b.ocsp": authority.staple(self.leaf[0]), "third.ca": b"nothing\n",
            "third.crl": b"nothing\n", "one.ticket": b"too short", "ech.pem": b"nothing\n"}
        for name in self.content:
            self.good(name)
        port = proc.free_port()
        super().__init__(weir({"listeners": {"tls": {
            "bind": "127.0.0.1:%d" % port, "tls": self.group()}}}, backend), authority, port)

    def crl(self, issuer, *revoked):
        return self.mint.crl(*revoked, issuer=issuer).read_bytes()

    def named(self, name):
        return "file:%s" % (self.work / name)

    def group(self):
        return {"certificates": [
            {"names": ["a.example"], "cert": self.named("a.crt"), "key": self.named("a.key")},
            {"names": ["b.example"], "cert": self.named("b.crt"), "key": self.named("b.key"),
             "ocsp": self.named("b.ocsp")}],
            "client": [row(self.mint.root, names=["a.example"], crl=[self.work / "root.crl"]),
                       {"names": ["b.example"],
                        "ca": [self.named("third.ca"), self.named("beside.ca")],
                        "crl": [self.named("beside.crl"), self.named("third.crl")]}],
            "ticket_keys": [self.named("one.ticket")], "ech": self.named("ech.pem")}

    def put(self, name, data):
        path = self.work / name
        fresh = path.with_name(name + ".new")
        fresh.touch(mode=0o600)
        fresh.write_bytes(data)
        fresh.replace(path)

    def good(self, name):
        self.put(name, self.content[name])

    def bad(self, name):
        self.put(name, self.broken[name])

    def refused_now(self):
        return self.front.metric("weir_certificate_files_refused")

    def updates(self, result):
        return self.front.metric("weir_certificate_updates_total", result=result)

    def revoke(self, cert):
        """A fresh CRL in which cert stands is taken."""
        before = self.updates("ok")
        self.put("root.crl", self.crl(self.mint.root, cert))
        eventually(lambda: self.updates("ok") == before + 1)
        with pytest.raises(ssl.SSLError):
            self.visit(cert)
        self.front.ended("client.tls.certificate_revoked")

    def stands(self):
        """What was good before is in service: both certificates, who is let in, and by what."""
        context = self.context(self.mint.client(issuer=self.third))
        with self.open(sni="b.example", context=context) as conn:
            assert conn.get("/x", host="b.example").status == 200
            assert ssl.PEM_cert_to_DER_cert(self.other[0].decode()) == conn.sock.getpeercert(True)
        assert self.visit(self.mint.client()).status == 200

    def told(self, text):
        return self.front.errors.count(text)


@pytest.fixture
def files(weir, backend, authority, work):
    return Files(weir, backend, authority, work)


@pytest.mark.parametrize("name,says", [
    ("b.crt", "b.crt"), ("b.key", "b.crt"), ("b.ocsp", "b.ocsp"), ("third.ca", "third.ca"),
    ("third.crl", "third.crl"), ("one.ticket", "one.ticket"), ("ech.pem", "ech.pem")])
def test_a_bad_file_holds_back_no_other(files, name, says):
    files.stands()
    files.bad(name)
    eventually(lambda: files.refused_now() == 1)
    files.front.stderr_has(says)
    files.stands()
    files.revoke(files.mint.client())
    files.stands()
    assert files.refused_now() == 1
    assert files.updates("refused") == 1, "the same is told once"
    files.good(name)
    eventually(lambda: files.refused_now() == 0)
    files.stands()
    files.front.stderr_has("/%s is good again" % name)
    assert files.told("is good again") == 1
    assert files.front.generation() == 1


def test_a_file_that_is_gone(files):
    """It keeps its content, and holds back its own key alone."""
    (files.work / "b.crt").unlink()
    fresh = files.authority.pem(["b.example"])
    files.put("b.key", fresh[1])
    eventually(lambda: files.refused_now() == 2)
    files.front.stderr_has("b.crt: No such file")
    files.revoke(files.mint.client())
    files.stands()
    files.other, files.content["b.ocsp"] = fresh, files.authority.staple(fresh[0])
    files.put("b.crt", fresh[0])
    files.good("b.ocsp")
    eventually(lambda: files.refused_now() == 0)
    files.stands()


def test_a_file_that_is_gone_alone(files):
    """Nothing else changes: it is named and counted all the same."""
    files.revoke(files.mint.client())  # all was read again after the start
    (files.work / "third.crl").unlink()
    eventually(lambda: files.refused_now() == 1)
    files.front.stderr_has("third.crl: No such file")
    assert files.updates("refused") == 1
    files.stands()
    files.good("third.crl")
    eventually(lambda: files.refused_now() == 0)
    files.front.stderr_has("/third.crl is good again")
    files.stands()


def der(pem):
    return base64.b64decode(b"".join(pem.splitlines()[1:-1]))


@pytest.mark.parametrize("name,made", [
    ("beside.crl", lambda pem: b"<html>502 Bad Gateway</html>\n"), ("beside.crl", der),
    ("beside.crl", lambda pem: pem.replace(b"M", b"*", 3)), ("beside.ca", der)])
def test_a_bad_file_of_a_list(files, name, made):
    """It holds back no other of its own list: the CRL beside it, above all."""
    gone = files.mint.client(issuer=files.third)
    files.put(name, made(files.content[name]))
    files.put("third.crl", files.crl(files.third, gone))
    eventually(lambda: files.refused_now() == 1 and files.updates("ok") >= 1)
    files.front.stderr_has("/%s: " % name)
    with pytest.raises(ssl.SSLError):
        files.visit(gone, sni="b.example")
    files.front.ended("client.tls.certificate_revoked")
    assert files.visit(files.mint.client(issuer=files.beside), sni="b.example").status == 200
    files.stands()
    files.good(name)
    eventually(lambda: files.refused_now() == 0)


def test_what_is_past_is_taken_with_a_warning(files):
    """As at a start: the clock may be wrong. But not without a word."""
    files.put("root.crl", files.mint.crl(days=(-9, -1)).read_bytes())
    files.front.stderr_has("root.crl has expired")
    past = files.mint.make("past", ["a.example"], days=(1, 9))
    files.put("a.key", certs.key_pem(past.key))
    files.put("a.crt", past.pem)
    files.front.stderr_has("a.crt is not valid yet")
    files.put("third.crl", files.crl(files.mint.root))
    files.put("beside.crl", files.crl(files.mint.root))
    files.front.stderr_has("all clients are refused")
    assert files.refused_now() == 0
    told = [line for line in files.front.errors.splitlines() if "W048" in line]
    assert any("W0482" in line for line in told) and any("W0483" in line for line in told), told


def test_a_certificate_waits_for_its_ocsp_response(files):
    fresh = files.authority.pem(["b.example"])
    files.put("b.key", fresh[1])
    files.put("b.crt", fresh[0])
    files.front.stderr_has("b.ocsp: it is about another certificate")
    files.stands()
    files.put("b.ocsp", files.authority.staple(fresh[0]))
    eventually(lambda: files.refused_now() == 0)
    files.other = fresh
    files.stands()


def test_several_bad_ones(files):
    for name in ("b.crt", "third.ca", "one.ticket", "ech.pem"):
        files.bad(name)
    eventually(lambda: files.refused_now() == 4)
    for name in ("b.crt", "third.ca", "one.ticket", "ech.pem"):
        files.front.stderr_has(name)
    files.revoke(files.mint.client())
    files.stands()
    for name in ("one.ticket", "third.ca"):
        files.good(name)
    eventually(lambda: files.refused_now() == 2)
    files.stands()


def test_a_new_ca_with_a_bad_crl(files):
    """The CA is taken, the last good CRL stays, and the other way round."""
    fourth = files.mint.make("fourth", ca=True)
    files.put("third.crl", b"nothing\n")
    files.put("third.ca", files.third.pem + fourth.pem)
    eventually(lambda: files.refused_now() == 1 and files.updates("ok") >= 1)
    files.stands()
    gone = files.mint.client(issuer=files.third)
    files.put("third.crl", files.crl(files.third, gone) + files.crl(fourth))
    eventually(lambda: files.refused_now() == 0)
    with pytest.raises(ssl.SSLError):
        files.visit(gone, sni="b.example")
    assert files.visit(files.mint.client(issuer=fourth), sni="b.example").status == 200


def test_a_reload_wants_all_to_be_good(files):
    files.bad("b.crt")
    eventually(lambda: files.refused_now() == 1)
    files.front.signal(signal.SIGHUP)
    eventually(lambda: files.front.metric("weir_config_reloads_total", result="refused") == 1)
    assert files.refused_now() == 1
    files.good("b.crt")
    files.front.reload()
    eventually(lambda: files.refused_now() == 0)


def test_of_a_pool(weir, authority, work):
    """A bad CA of one pool holds back neither its own certificate nor another pool's CA."""
    mint = ClientMint(work)
    backend = TlsBackend(mint.leaf("127.0.0.1"))
    try:
        first, second = work / "first.ca", work / "second.ca"
        put(first, mint.root.pem)
        put(second, mint.root.pem)
        made = weir({"pools": {name: {
            "endpoints": ["127.0.0.1:%d" % backend.port],
            "tls": {"ca": "file:%s" % path}} for name, path in (("app", first), ("two", second))},
            "routes": [{"prefix": "/two", "pool": "two"}, {"prefix": "/", "pool": "app"}]})
        assert made.get("/x").status == 200 and made.get("/two").status == 200
        put(first, b"nothing\n")
        eventually(lambda: made.metric("weir_certificate_files_refused") == 1)
        put(second, mint.make("other", ca=True).pem)
        made.stderr_has("changed certificates or keys are in service")
        assert made.get("/x").status == 200
        assert made.get("/two").status == 502
        made.ended("upstream.tls.untrusted")
    finally:
        backend.stop()
