"""What is too weak in certificates of clients and endpoints, and in what peers sign handshakes
with: RSA below 2048 bits, SHA-1 and MD5. RFC 8446 section 4.4.2.4, RFC 9155, NIST SP 800-57."""
import subprocess

import pytest
from cryptography.hazmat.primitives import hashes

from harness import proc
from harness.mtls import V12, V13, Site, client_mint, mtls_site, row  # noqa: F401
from harness.tlspeers import TlsBackend
from harness.weir import eventually

BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
LOCAL = "127.0.0.1"
ALL = "ALL:@SECLEVEL=0"  # OpenSSL would not show them else
OLD = {"digest": hashes.SHA1}
KEY, SIGNATURE = "an RSA key of fewer than 2048 bits", "a signature with SHA-1 or MD5"


def leaf_of(mint, purpose, issuer, **how):
    return mint.make("peer", [LOCAL], issuer=issuer, purpose=purpose, **how)


def below(mint, purpose, **how):
    """A leaf below an intermediate certificate of that kind, which it is shown with."""
    between = mint.make("between", ca=True, issuer=mint.root, **how)
    return leaf_of(mint, purpose, between).write(between)


def under(mint, purpose, root=None, **how):
    """A leaf below a root of its own: (leaf, root)."""
    root = mint.make("own root", ca=True, **(root or {}))
    return leaf_of(mint, purpose, root, **how), root


def by_pss(mint, purpose, digest):
    """A leaf that a root has signed by RSASSA-PSS: (leaf, root)."""
    root = mint.make("own root", ca=True, kind="rsa")
    leaf = leaf_of(mint, purpose, None)
    subprocess.run(["openssl", "x509", "-in", leaf.path, "-CA", root.path, "-CAkey", root.key_path,
                    "-" + digest, "-sigopt", "rsa_padding_mode:pss", "-sigopt",
                    "rsa_pss_saltlen:digest", "-days", "9", "-CAcreateserial", "-out",
                    str(leaf.path) + ".new"], check=True, capture_output=True, timeout=60)
    leaf.path.write_bytes(leaf.path.with_name(leaf.path.name + ".new").read_bytes())
    return leaf, root


def itself(mint, purpose, **how):
    """One that is trusted itself."""
    leaf = leaf_of(mint, purpose, None, **how)
    return leaf, leaf


RSA, RSA_1024 = {"kind": "rsa"}, {"kind": "rsa1024"}
# How it is made: what is the matter; "": in words of the library's; None: nothing.
CERTIFICATES = {
    "key": (lambda m, p: leaf_of(m, p, m.root, **RSA_1024), KEY),
    "signature": (lambda m, p: leaf_of(m, p, m.root, **OLD), SIGNATURE),
    "key between": (lambda m, p: below(m, p, **RSA_1024), KEY),
    "signature between": (lambda m, p: below(m, p, **OLD), SIGNATURE),
    "key of the root": (lambda m, p: under(m, p, RSA_1024), KEY),
    "signature of the root": (lambda m, p: under(m, p, OLD), None),
    "signature by RSA": (lambda m, p: under(m, p, RSA, **OLD), SIGNATURE),
    "signature by PSS": (lambda m, p: by_pss(m, p, "sha1"), ""),
    "key of one that is trusted": (lambda m, p: itself(m, p, **RSA_1024), KEY),
    "signature of one that is trusted": (lambda m, p: itself(m, p, **OLD), None),
    "PSS with SHA-256": (lambda m, p: by_pss(m, p, "sha256"), None),
    "PSS with SHA-512": (lambda m, p: by_pss(m, p, "sha512"), None),
    "SHA-384": (lambda m, p: leaf_of(m, p, m.root, digest=hashes.SHA384), None),
    "RSA of 2048 bits": (lambda m, p: leaf_of(m, p, m.root, **RSA), None),
    "Ed25519 above": (lambda m, p: under(m, p, {"kind": "ed25519"}), None),
}
EACH = pytest.mark.parametrize("which", CERTIFICATES)


def made(mint, which, purpose):
    """(certificate, whom to trust, what is the matter)."""
    how, fault = CERTIFICATES[which]
    cert = how(mint, purpose)
    return (*cert, fault) if isinstance(cert, tuple) else (cert, mint.root, fault)


# ---- clients ----

@BOTH
@EACH
def test_clients(site, mint, which, version):
    cert, root, fault = made(mint, which, "client")
    front = site(row(root))
    context = front.context(version=version, ciphers=ALL)
    context.load_cert_chain(cert.path, cert.key_path)
    if fault is None:
        for turn in range(2):
            session = None if turn == 0 else session
            response, session, reused = front.session(context, session=session)
            assert response.status == 200 and reused == (turn > 0)
        return
    for _ in range(2):
        record = front.refused("client.tls.bad_certificate", "BAD_CERTIFICATE", context=context)
        assert fault in record["weir.reason"]
        assert record["tls.client.subject"] == "CN=peer"


def test_an_optional_one_is_refused_too(site, mint):
    front = site(row(mint.root, verify="optional"))
    context = front.context(ciphers=ALL)
    cert = leaf_of(mint, "client", mint.root, **RSA_1024)
    context.load_cert_chain(cert.path, cert.key_path)
    front.refused("client.tls.bad_certificate", "BAD_CERTIFICATE", context=context)


# ---- endpoints ----

def pool(backend, **tls):
    keys = {"endpoints": [backend.address], "tls": tls, "retry": {"attempts": 1},
            "outlier": {"consecutive_failures": 0, "consecutive_5xx": 0}}
    return {"pools": {"app": keys}, "routes": [{"prefix": "/", "pool": "app"}]}


@BOTH
@EACH
def test_endpoints(weir, mint, which, version):
    cert, root, fault = made(mint, which, "server")
    backend = TlsBackend(cert, ciphers=ALL, minimum=version, maximum=version)
    front = weir(pool(backend, ca="file:%s" % root.path))
    for _ in range(2):
        assert front.get("/x").status == (200 if fault is None else 502)
    if fault is not None:
        record = front.ended("upstream.tls.untrusted", status=502)
        assert fault in record["weir.upstream.tls"]
        eventually(lambda: backend.refused)
        assert not backend.requests
        assert not fault or "bad certificate" in backend.refused[0]
    backend.stop()


def test_an_old_endpoint_can_be_pinned(weir, mint):
    """What its key has to be is said then by who runs weir."""
    cert = leaf_of(mint, "server", mint.root, **RSA_1024)
    backend = TlsBackend(cert, ciphers=ALL)
    front = weir(pool(backend, verify="none", pins=[cert.pin]))
    assert front.get("/x").status == 200
    backend.stop()


# ---- signatures of the handshake ----

def schemes_of(hello):
    """The signature algorithms of a ClientHello in one record (RFC 8446 section 4.2.3)."""
    at = 5 + 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 1 + hello[at] + 2
    while at < len(hello):
        kind, size = (int.from_bytes(hello[at + i:at + i + 2], "big") for i in (0, 2))
        if kind == 13:
            return {hello[i:i + 2].hex() for i in range(at + 6, at + 4 + size, 2)}
        at += 4 + size
    return set()


def test_weir_offers_endpoints_no_sha_1(weir, mint):
    heard = []

    def hear(sock):
        heard.append(sock.recv(65536))
        sock.close()
        return True
    backend = TlsBackend(mint.leaf(LOCAL), before=hear)
    front = weir(pool(backend, ca="file:%s" % mint.root.path))
    assert front.get("/x").status == 502
    schemes = schemes_of(heard[0])
    assert {"0403", "0804", "0401"} <= schemes and not schemes & {"0201", "0203", "0101"}
    backend.stop()


def test_an_endpoint_that_signs_with_sha_1(weir, mint):
    leaf, port = mint.leaf(LOCAL, kind="rsa"), proc.free_port()
    server = subprocess.Popen(
        ["openssl", "s_server", "-accept", "%s:%d" % (LOCAL, port), "-cert", str(leaf.path),
         "-key", str(leaf.key_path), "-www", "-tls1_2", "-sigalgs", "RSA+SHA1", "-cipher", ALL],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, preexec_fn=proc.die_with_parent)
    try:
        assert b"ACCEPT" in server.stdout.readline() + server.stdout.readline()
        server.address = "%s:%d" % (LOCAL, port)
        front = weir(pool(server, ca="file:%s" % mint.root.path))
        assert front.get("/x").status == 502
        front.ended("upstream.tls.nothing_in_common")
    finally:
        server.kill()
        server.wait()
