"""Clients with certificates: a mint of them, their CRLs, and a weir that asks for them.

Site is one weir with a TLS listener "tls" for the names a.example, b.example and c.example;
visit() makes a connection with one request, refused() one that the handshake must end.
"""
import datetime
import ipaddress
import os
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from . import certs, client, proc, tlspeers
from .tlspeers import DAY, Mint

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
NAMES = ["a.example", "b.example", "c.example"]


def general(name):
    kind, _, text = name.partition(":")
    if kind == "uri":
        return x509.UniformResourceIdentifier(text)
    if kind == "email":
        return x509.RFC822Name(text)
    if kind == "ip":
        return x509.IPAddress(ipaddress.ip_address(text))
    return x509.DNSName(text if kind == "dns" else name)


class ClientMint(Mint):
    """Certificates of clients: names are "dns:", "uri:", "email:", "ip:"."""

    def client(self, *names, **kwargs):
        kwargs.setdefault("issuer", self.root)
        kwargs.setdefault("purpose", "client")
        before, tlspeers.general = tlspeers.general, general
        try:
            return self.make(kwargs.pop("label", "client"), names, **kwargs)
        finally:
            tlspeers.general = before

    def crl(self, *revoked, issuer=None, days=(-1, 20), stem=None):
        """A CRL of issuer in a file; gives its path."""
        issuer = issuer or self.root
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateRevocationListBuilder().issuer_name(issuer.cert.subject)
                   .last_update(now + days[0] * DAY).next_update(now + days[1] * DAY))
        for each in revoked:
            builder = builder.add_revoked_certificate(
                x509.RevokedCertificateBuilder().serial_number(each.cert.serial_number)
                .revocation_date(now - DAY).build())
        self.count += 1
        path = self.directory / ("%s-%d.crl" % (stem or "list", self.count))
        put(path, builder.sign(issuer.key, hashes.SHA256()).public_bytes(certs.PEM))
        return path


def put(path, data):
    """Replaces a file at once."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_bytes(data)
    os.replace(fresh, path)


def fingerprint(cert):
    return "sha256:" + cert.cert.fingerprint(hashes.SHA256()).hex()


def row(*ca, crl=None, **more):
    """A row of tls.client."""
    keys = {"ca": ["file:%s" % each.path for each in ca], **more}
    if crl:
        keys["crl"] = ["file:%s" % each for each in crl]
    return keys


def tls_group(authority, client):
    stem = authority.directory / "mtls.crt"
    leaf = {"cert": "file:%s" % stem, "key": "file:%s" % stem.with_suffix(".key")}
    if not stem.exists():
        authority.leaf(NAMES, stem="mtls")
    return {"certificates": [dict(names=NAMES, **leaf)], "client": client}


class Site:
    def __init__(self, front, authority, port):
        self.front, self.authority, self.port = front, authority, port

    def context(self, cert=None, version=None, alpn=None, ciphers=None):
        context = self.authority.client_context(minimum=version, maximum=version, alpn=alpn,
                                                ciphers=ciphers)
        if cert:
            context.load_cert_chain(cert.path, cert.key_path)
        return context

    def open(self, cert=None, sni="a.example", context=None, session=None, **kwargs):
        context = context or self.context(cert, **kwargs)
        return client.Client(self.port, tls=context, sni=sni, session=session)

    def visit(self, cert=None, sni="a.example", host=None, path="/x", fields=(), **kwargs):
        with self.open(cert, sni, **kwargs) as conn:
            return conn.get(path, fields, host=host or sni)

    def session(self, context, sni="a.example", session=None, host=None):
        """One connection with one request: (response, session for the next, was resumed)."""
        with self.open(sni=sni, context=context, session=session) as conn:
            response = conn.get("/x", host=host or sni)
            reused, after = conn.sock.session_reused, conn.sock.session
            try:
                conn.sock.unwrap()
            except (ssl.SSLError, OSError):
                pass
            return response, after, reused

    def refused(self, end, alert, cert=None, **kwargs):
        """The handshake ends by this word and this alert; gives the record."""
        seen = len([r for r in self.front.lines() if r.get("weir.end") == end])
        with pytest.raises(ssl.SSLError) as caught:
            self.visit(cert, **kwargs)
        assert alert in caught.value.reason, caught.value
        return self.front.logged(seen + 1, end=end)

    def curl(self, *args, cert=None, sni="a.example"):
        """curl to the listener by a name; its output."""
        command = ["curl", "-sS", "-m", "60", "--cacert", str(self.authority.path), "--resolve",
                   "%s:%d:127.0.0.1" % (sni, self.port)]
        if cert:
            command += ["--cert", str(cert.path), "--key", str(cert.key_path)]
        target = "https://%s:%d/x" % (sni, self.port)
        return subprocess.run([*command, *args, target], text=True, capture_output=True,
                              timeout=90, check=False)


@pytest.fixture(name="mint")
def client_mint(work):
    return ClientMint(work)


@pytest.fixture(name="site")
def mtls_site(weir, authority, backend):
    """A function of rows of tls.client that makes a Site."""
    return lambda *clients, **kwargs: make_site(weir, authority, backend, list(clients), **kwargs)


def make_site(weir, authority, backend, clients, routes=None, conf=None, listener=None):
    port = proc.free_port()
    whole = {"process": {"workers": 2},
             "listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                   "protocols": ["h2", "http/1.1"],
                                   "tls": tls_group(authority, client=clients),
                                   **(listener or {})}},
             **(conf or {})}
    if routes:
        whole["routes"] = routes
    return Site(weir(whole, backend), authority, port)
