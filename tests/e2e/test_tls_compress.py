"""Certificates go compressed to clients that offer it in TLS 1.3 (RFC 8879): the same ones, fewer
bytes, by zlib or brotli; never to others, and not where it would not pay."""
import pathlib
import ssl

import pytest

from harness import certs, proc, tls13
from harness.tls13 import BROTLI, ZLIB
from harness.weir import eventually


def chain(authority, leaf):
    """Puts the CA behind the leaf, as a chain has it; both in DER."""
    path = pathlib.Path(leaf["cert"][5:])
    own = path.read_bytes()
    path.write_bytes(own + authority.cert.public_bytes(certs.PEM))
    return [ssl.PEM_cert_to_DER_cert(own.decode()),
            authority.cert.public_bytes(certs.serialization.Encoding.DER)]


@pytest.fixture
def front(weir, backend, authority, work):
    leaf, small = authority.leaf(["a.example"]), authority.leaf(["b.example"], "rsa")
    ders = chain(authority, leaf)
    staple = authority.staple(pathlib.Path(leaf["cert"][5:]).read_bytes())
    (work / "a.ocsp").write_bytes(staple)
    port = proc.free_port()
    made = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port, "tls": {"certificates": [
        dict(names=["a.example"], ocsp="file:%s" % (work / "a.ocsp"), **leaf),
        dict(names=["b.example"], **small)]}}}}, backend)
    made.tls_port, made.ders, made.staple = port, ders, staple
    return made


@pytest.mark.parametrize("staple", [False, True])
@pytest.mark.parametrize("ways,way", [((), None), ((ZLIB,), ZLIB), ((BROTLI,), BROTLI),
                                      ((3, ZLIB), ZLIB), ((9,), None)])
def test_ways(front, ways, way, staple):
    shown = tls13.certificate(front.tls_port, "a.example", ways, staple)
    assert shown.way == way
    if way:
        assert shown.size < shown.plain * 0.95
    if way != BROTLI:
        assert shown.certificates == front.ders
        assert shown.staple == (front.staple if staple else None)
    if staple:
        assert shown.plain > len(front.staple) + sum(map(len, front.ders))


def test_the_smaller_one(front):
    """Who can take both gets what is smaller of the two."""
    zlib, brotli, both, turned = (
        tls13.certificate(front.tls_port, "a.example", ways)
        for ways in ((ZLIB,), (BROTLI,), (ZLIB, BROTLI), (BROTLI, ZLIB)))
    assert both.size == turned.size == min(zlib.size, brotli.size)


def test_where_it_does_not_pay(front):
    """A small RSA certificate without a chain is hardly more than random numbers."""
    shown = tls13.certificate(front.tls_port, "b.example", (BROTLI, ZLIB))
    assert shown.way is None and len(shown.certificates) == 1


def test_changed_certificate(front, authority):
    """A certificate that is replaced is compressed anew."""
    conf = front.conf["listeners"]["tls"]["tls"]["certificates"][0]
    assert tls13.certificate(front.tls_port, "a.example", (ZLIB,)).certificates == front.ders
    key, cert = pathlib.Path(conf["key"][5:]), pathlib.Path(conf["cert"][5:])
    front.change(listeners={"tls": {"tls": {"certificates": [
        {k: v for k, v in conf.items() if k != "ocsp"}]}}})
    front.reload()
    fresh = authority.pem(["a.example"])
    key.write_bytes(fresh[1])
    cert.write_bytes(fresh[0] + authority.cert.public_bytes(certs.PEM))
    want = [ssl.PEM_cert_to_DER_cert(fresh[0].decode()), front.ders[1]]
    eventually(lambda: tls13.certificate(
        front.tls_port, "a.example", (ZLIB,)).certificates == want)
    assert tls13.certificate(front.tls_port, "a.example", (ZLIB,)).way == ZLIB
