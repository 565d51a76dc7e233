"""Client certificates (listeners.*.tls.client, routes.*.client_cert): what is let in, what is
refused by which alert and word, routes by name and fingerprint, the fields of RFC 9440, which no
client can forge. RFC 8446, RFC 5280, RFC 9440; THREATS.md rows 16, 17, 19. Sessions and reloads:
test_mtls_sessions.py."""
import base64
import datetime
import ssl
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from harness import certs, confgen, proc
from harness.mtls import (  # noqa: F401
    V12, V13, Site, client_mint, fingerprint, mtls_site, row, tls_group)
from harness.tcpsite import Endpoint
from harness.tlspeers import DAY, TlsOrigin
from harness.weir import eventually, run

BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])
CA = "UNKNOWN_CA"


# ---- who is let in ----

@BOTH
def test_required(site, mint, version):
    made = site(row(mint.root))
    good = mint.client("uri:spiffe://prod/web")
    assert made.visit(good, version=version).status == 200
    record = made.front.ended("ok", path="/x")
    assert record["tls.client.subject"] == "CN=client"
    assert record["tls.client.issuer"] == "CN=root"
    assert record["tls.client.hash.sha256"] == fingerprint(good)[7:].upper()
    alert = "CERTIFICATE_REQUIRED" if version == V13 else "HANDSHAKE_FAILURE"
    record = made.refused("client.tls.certificate_required", alert, version=version)
    assert "tls.client.subject" not in record
    made.front.ended("client.tls.certificate_required")


@BOTH
def test_optional(site, mint, version):
    """Without a certificate is fine, with a bad one is not."""
    made = site(row(mint.root, verify="optional"))
    other = mint.make("other", ca=True)
    assert made.visit(version=version).status == 200
    assert "tls.client.subject" not in made.front.ended("ok", path="/x")
    assert made.visit(mint.client(), version=version).status == 200
    made.refused("client.tls.unknown_ca", CA, mint.client(issuer=other), version=version)


def test_by_curl_and_openssl(site, mint):
    made = site(row(mint.root))
    good = mint.client()
    for flag in ("--http1.1", "--http2"):
        done = made.curl(flag, "-w", "%{http_code}", cert=good)
        assert done.returncode == 0 and done.stdout.endswith("200"), done
    assert made.curl("-w", "%{http_code}").returncode != 0
    base = ["openssl", "s_client", "-connect", "127.0.0.1:%d" % made.port, "-servername",
            "a.example", "-CAfile", str(made.authority.path), "-ign_eof"]
    asked = subprocess.run(base, input="", text=True, capture_output=True, timeout=60, check=False)
    assert "CN = root" in asked.stdout or "CN=root" in asked.stdout  # the CA names
    request = "GET /x HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    done = subprocess.run([*base, "-cert", str(good.path), "-key", str(good.key_path)],
                          input=request, text=True, capture_output=True, timeout=60, check=False)
    assert "HTTP/1.1 200" in done.stdout, done


@BOTH
def test_wrong_ca(site, mint, version):
    made = site(row(mint.root))
    other = mint.make("root", ca=True)  # even of the same name
    record = made.refused("client.tls.unknown_ca", CA, mint.make("self", purpose="client"),
                          version=version)
    assert record["tls.client.subject"] == "CN=self"
    bad = mint.client(issuer=other)
    with pytest.raises(ssl.SSLError):
        made.visit(bad, version=version)
    record = made.front.logged(tls__client__subject="CN=client")
    assert record["weir.end"] in ("client.tls.bad_certificate", "client.tls.unknown_ca")


def test_several_cas(site, mint):
    one, two = mint.make("one", ca=True), mint.make("two", ca=True)
    made = site(row(one, two))
    assert made.visit(mint.client(issuer=one)).status == 200
    assert made.visit(mint.client(issuer=two)).status == 200
    made.refused("client.tls.unknown_ca", CA, mint.client())


@BOTH
@pytest.mark.parametrize("days,word", [((-10, -1), "expired"), ((1, 10), "not_yet_valid")])
def test_times(site, mint, version, days, word):
    made = site(row(mint.root))
    made.refused("client.tls.certificate_%s" % word, "CERTIFICATE_EXPIRED",
                 mint.client(days=days), version=version)


def test_purpose(site, mint):
    made = site(row(mint.root))
    made.refused("client.tls.certificate_purpose", "UNSUPPORTED_CERTIFICATE",
                 mint.client(purpose="server"))


@BOTH
def test_p521(site, mint, version):
    """BoringSSL does not ask for signatures by P-521; TLS 1.2 does not name the curve."""
    made = site(row(mint.root))
    cert = mint.client(kind="p521")
    if version == V12 or "AWS-LC" in run("version").stdout:
        assert made.visit(cert, version=version).status == 200
    else:  # the client has nothing to show
        made.refused("client.tls.certificate_required", "CERTIFICATE_REQUIRED", cert,
                     version=version)


def test_depth(site, mint):
    """depth counts what stands between the client's certificate and the trusted one."""
    one = mint.make("one", ca=True, issuer=mint.root)
    two = mint.make("two", ca=True, issuer=one)
    near = mint.client(issuer=one).write(one)
    far = mint.client(issuer=two).write(two, one)
    made = site(row(mint.root, names=["a.example"], depth=0),
                row(mint.root, names=["b.example"]),
                row(mint.root, names=["c.example"], depth=2))
    assert made.visit(mint.client()).status == 200
    made.refused("client.tls.certificate_depth", CA, near)
    assert made.visit(near, sni="b.example").status == 200
    made.refused("client.tls.certificate_depth", CA, far, sni="b.example")
    assert made.visit(far, sni="c.example").status == 200
    made.refused("client.tls.unknown_ca", CA, mint.client(issuer=two), sni="c.example")


@BOTH
def test_revoked(site, mint, version):
    bad, good = mint.client(label="bad"), mint.client(label="good")
    made = site(row(mint.root, crl=[mint.crl(bad)]))
    record = made.refused("client.tls.certificate_revoked", "CERTIFICATE_REVOKED", bad,
                          version=version)
    assert record["tls.client.subject"] == "CN=bad"
    assert made.visit(good, version=version).status == 200
    assert made.front.metric("weir_tls_client_crl_expiry_seconds") > 0


def test_revoked_in_between(site, mint):
    """A CRL for each certificate but the one in ca; one that is missing refuses."""
    between = mint.make("between", ca=True, issuer=mint.root)
    leaf = mint.client(issuer=between).write(between)
    ours, theirs = mint.crl(issuer=between), mint.crl(issuer=mint.root)
    made = site(row(mint.root, names=["a.example"], crl=[ours, theirs]),
                row(mint.root, names=["b.example"], crl=[theirs]),
                row(between, names=["c.example"], crl=[ours]))
    assert made.visit(leaf).status == 200
    made.refused("client.tls.crl_missing", "CERTIFICATE_UNKNOWN", leaf, sni="b.example")
    assert made.visit(leaf, sni="c.example").status == 200
    gone = site(row(mint.root, crl=[ours, mint.crl(between, issuer=mint.root)]))
    gone.refused("client.tls.certificate_revoked", "CERTIFICATE_REVOKED", leaf)


@pytest.mark.parametrize("days", [(-9, -1), (1, 9)], ids=["expired", "early"])
def test_a_crl_that_is_out_of_date_refuses(site, mint, days):
    made = site(row(mint.root, crl=[mint.crl(days=days)]))
    made.refused("client.tls.crl_bad", "CERTIFICATE_UNKNOWN", mint.client())


def test_a_forged_crl_refuses(site, mint):
    """One in the CA's name, by another key."""
    made = site(row(mint.root, crl=[mint.crl(issuer=mint.make("root", ca=True))]))
    made.refused("client.tls.crl_bad", "CERTIFICATE_UNKNOWN", mint.client())


def test_forged_by_the_revoked(site, mint):
    """CRLs are looked into only for chains that are good without them."""
    forger = mint.make("root", ca=True)
    bad = mint.client(issuer=forger)
    made = site(row(mint.root, crl=[mint.crl(bad)]))
    made.refused("client.tls.bad_certificate", "", bad)


def test_no_sha1_is_asked_for(site, mint):
    made, cert = site(row(mint.root)), mint.client()
    for version in ("-tls1_2", "-tls1_3"):
        text = subprocess.run(
            ["openssl", "s_client", version, "-connect", "127.0.0.1:%d" % made.port, "-servername",
             "a.example", "-cert", cert.path, "-key", cert.key_path], input=b"",
            capture_output=True, timeout=60, check=False).stdout.decode("utf-8", "replace")
        asked, = [each for each in text.splitlines() if each.startswith("Requested Signature")]
        assert "ECDSA+SHA256" in asked and "SHA1" not in asked, text


def test_more_cas_than_a_list_has_room_for(site, mint):
    """Then clients are told of none."""
    key, now = mint.root.key, datetime.datetime.utcnow()
    pems = []
    for i in range(900):
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "%064d" % i)])
        pems.append(x509.CertificateBuilder().subject_name(name).issuer_name(name)
                    .public_key(key.public_key()).serial_number(i + 1)
                    .not_valid_before(now - DAY).not_valid_after(now + DAY)
                    .sign(key, hashes.SHA256()).public_bytes(certs.PEM))
    path = mint.directory / "many.crt"
    path.write_bytes(mint.root.pem + b"".join(pems))
    made = site({"ca": ["file:%s" % path]})
    for version in (V12, V13):
        assert made.visit(mint.client(), version=version).status == 200


# ---- by name ----

def test_by_server_name(site, mint):
    """Each name has its row; the exact one, then the longest wildcard, then the rest."""
    one, two = mint.make("one", ca=True), mint.make("two", ca=True)
    made = site(row(one, names=["a.example"]), row(two, names=["*.example"]))
    assert made.visit(mint.client(issuer=one), sni="a.example").status == 200
    record = made.refused("client.tls.unknown_ca", CA, mint.client(issuer=two), sni="a.example")
    assert record["server.address"] == "a.example" and record["network.peer.port"] > 0
    assert made.visit(mint.client(issuer=two), sni="b.example").status == 200
    made.refused("client.tls.unknown_ca", CA, mint.client(issuer=one), sni="b.example")
    none = made.context()
    none.check_hostname = False
    with made.open(sni=None, context=none) as conn:  # no name: no row
        assert conn.get("/x", host="127.0.0.1").status == 200
        assert conn.get("/x", host="a.example").status == 421
    assert made.front.ended("client.misdirected")["server.address"] == "a.example"


def test_address_in_place_of_a_name(site, mint):
    """It is no name: no row fits it, and what rows guard is out of reach."""
    made = site(row(mint.root, names=["a.example", "b.example"]))
    for host, status in (("127.0.0.1", b"200"), ("a.example", b"421")):
        done = subprocess.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % made.port, "-servername",
             "127.0.0.1", "-ign_eof", "-quiet"], capture_output=True, timeout=60, check=False,
            input=b"GET /x HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % host.encode())
        assert b"HTTP/1.1 " + status in done.stdout, done


@pytest.mark.parametrize("h2", [False, True], ids=["h1", "h2"])
def test_host_of_another_policy(site, mint, backend, h2):
    """A request cannot reach by one name what another is guarded by, with or without a certificate
    (THREATS.md 16)."""
    one, two = mint.make("one", ca=True), mint.make("two", ca=True)
    made = site(row(one, names=["a.example"]), row(two, names=["b.example"]))
    flag = "--http2" if h2 else "--http1.1"

    def status(sni, host, cert=None):
        done = made.curl(flag, "-H", "Host: %s" % host, "-o", "/dev/null", "-w", "%{http_code}",
                         cert=cert, sni=sni)
        return done.stdout
    mine, theirs = mint.client(issuer=one), mint.client(issuer=two)
    assert status("a.example", "a.example", mine) == "200"
    assert status("a.example", "A.EXAMPLE.", mine) == "200"
    for sni, host, cert in [("c.example", "a.example", None), ("b.example", "a.example", theirs),
                            ("a.example", "b.example", mine), ("a.example", "c.example", mine),
                            ("c.example", "A.Example.:443", mine)]:
        assert status(sni, host, cert) == "421", (sni, host)
    assert len(backend.requests) == 2


# ---- routes ----

def routed(site, mint, verify="optional"):
    cert = mint.client("dns:App.internal", "uri:spiffe://prod/web", "email:a@b.example",
                       "ip:10.0.0.1", "dns:x.y.internal")
    pinned = mint.client()
    routes = [
        {"path": "/dns", "pool": "app", "client_cert": {"san": "dns:app.internal"}},
        {"path": "/below", "pool": "app", "client_cert": {"san": ["dns:no", "dns:*.internal"]}},
        {"path": "/uri", "pool": "app", "client_cert": {"san": "uri:spiffe://prod/web"}},
        {"path": "/uris", "pool": "app", "client_cert": {"san": "uri:spiffe://prod/*"}},
        {"path": "/email", "pool": "app", "client_cert": {"san": "email:a@b.example"}},
        {"path": "/ip", "pool": "app", "client_cert": {"san": "ip:10.0.0.1"}},
        {"path": "/other", "pool": "app", "client_cert": {"san": "uri:spiffe://dev/web"}},
        {"path": "/print", "pool": "app", "client_cert": {"fingerprint": fingerprint(pinned)}},
        {"path": "/key", "pool": "app", "client_cert": {"spki": pinned.pin}},
        {"path": "/any", "pool": "app", "client_cert": {"present": True}},
        {"path": "/some", "respond": {"status": 203}, "client_cert": {"present": True}},
        {"path": "/some", "respond": {"status": 204}, "client_cert": {"present": False}},
        {"path": "/fall", "respond": {"status": 203}, "client_cert": {"san": "dns:app.internal"}},
        {"prefix": "/fall", "respond": {"status": 202}},
        {"path": "/open", "pool": "app"}]
    return site(row(mint.root, verify=verify), routes=routes), cert, pinned


def test_routes(site, mint, backend):
    made, cert, pinned = routed(site, mint)

    def seen(path, who):
        return made.visit(who, path=path).status
    for path in ("/dns", "/below", "/uri", "/uris", "/email", "/ip"):
        assert (seen(path, cert), seen(path, pinned), seen(path, None)) == (200, 403, 403), path
    for path in ("/print", "/key"):
        assert (seen(path, cert), seen(path, pinned), seen(path, None)) == (403, 200, 403), path
    assert [seen("/any", who) for who in (cert, pinned, None)] == [200, 200, 403]
    assert [seen("/some", who) for who in (cert, pinned, None)] == [203, 203, 204]
    assert [seen("/fall", who) for who in (cert, pinned, None)] == [203, 202, 202]
    assert [seen("/other", who) for who in (cert, pinned, None)] == [403, 403, 403]
    assert seen("/open", None) == 200 and seen("/none", cert) == 404
    record = made.front.ended("proxy.denied.certificate", path="/other", status=403)
    assert "http.route" not in record
    told = run("explain", "-c", made.front.path, "GET", "https://a.example:%d/dns" % made.port)
    assert "client certificate" in told.stdout, told


def test_routes_of_http2(site, mint):
    made, cert, pinned = routed(site, mint)
    for path, who, want in [("/uri", cert, "200"), ("/uri", pinned, "403"), ("/uri", None, "403")]:
        target = "https://a.example:%d%s" % (made.port, path)
        done = made.curl("--http2", "-o", "/dev/null", "-w", "%{http_code}\n", target, "-o",
                         "/dev/null", cert=who)
        assert done.stdout.split()[0] == want, done


# ---- the fields of RFC 9440 ----

def der(cert):
    return ":%s:" % base64.b64encode(cert.cert.public_bytes(Encoding.DER)).decode()


def fields_seen(backend):
    """Client-Cert and Client-Cert-Chain of the last request, by any spelling."""
    plain = [(name.decode().lower().replace("_", "-"), text.decode())
             for name, text in backend.last.fields]
    found = [pair for pair in plain if pair[0].startswith("client-cert")]
    assert len(found) == len(dict(found)), found
    return dict(found)


FORGED = ["Client-Cert: :Zm9yZ2Vk:", "client_cert: :Zm9yZ2Vk:", "Client-Cert-Chain: :Zm9yZ2Vk:",
          "CLIENT_CERT_CHAIN: :Zm9yZ2Vk:", "client-cert_chain: :Zm9yZ2Vk:"]


def forge():
    return [part for text in FORGED for part in ("-H", text)]


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_client_cert_field(site, mint, backend, flag):
    between = mint.make("between", ca=True, issuer=mint.root)
    leaf = mint.client(issuer=between).write(between)
    made = site(row(mint.root, names=["a.example"], forward="cert", verify="optional"),
                row(mint.root, names=["b.example"], forward="chain"),
                row(mint.root, names=["c.example"], verify="optional"))
    made.curl(flag, *forge(), cert=leaf)
    assert fields_seen(backend) == {"client-cert": der(leaf)}
    made.curl(flag, *forge(), cert=leaf, sni="b.example")
    assert fields_seen(backend) == {"client-cert": der(leaf),
                                    "client-cert-chain": der(between)}
    made.curl(flag, *forge(), cert=leaf, sni="c.example")  # not forwarded: nothing at all
    assert fields_seen(backend) == {}
    made.curl(flag, *forge())  # no certificate
    assert fields_seen(backend) == {}
    made.curl("-H", "Connection: client-cert", "--http1.1", cert=leaf)  # nominated: refused
    made.front.ended("client.bad_request.connection", status=400)
    assert len(backend.requests) == 4


def test_forged_on_a_plain_listener(site, mint, backend):
    made = site(row(mint.root, forward="chain"))
    made.front.get("/p", [tuple(text.split(": ")) for text in FORGED])
    assert fields_seen(backend) == {}
    body = b"GET /t HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" \
           b"Client-Cert: :Zm9yZ2Vk:\r\n\r\n"
    made.front.exchange(body)
    assert fields_seen(backend) == {}


def test_trusted_proxies(site, mint, backend):
    """Who is trusted may say it, but not where weir says it."""
    trust = {"trusted_proxies": ["127.0.0.0/8"]}
    made = site(row(mint.root, names=["a.example"], forward="cert", verify="optional"),
                row(mint.root, names=["b.example"], verify="optional"), listener=trust)
    made.curl("-H", FORGED[0], "-H", FORGED[1])
    assert fields_seen(backend) == {}
    made.curl("-H", FORGED[0], "-H", FORGED[1], sni="b.example")
    assert fields_seen(backend) == {"client-cert": ":Zm9yZ2Vk:"}
    leaf = mint.client()
    made.curl("-H", FORGED[0], cert=leaf)
    assert fields_seen(backend) == {"client-cert": der(leaf)}


def test_variables(site, mint, backend):
    """What a policy sets takes the place of what the client wrote, with a certificate or not."""
    policy = {"who": {"request_headers": {"set": [
        "X-Who: ${tls.client.subject} of ${tls.client.issuer}",
        "X-Hash: ${tls.client.hash.sha256}",
        "X-Subject: ${tls.client.subject}"]}}}
    made = site(row(mint.root, verify="optional"), conf={"policies": policy},
                routes=[{"prefix": "/", "pool": "app", "policies": ["who"]}])
    leaf = mint.client(label="a,b=\"c\"")
    forged = [("X-Who", "admin"), ("X-Hash", "00"), ("X-Subject", "CN=admin")]
    made.visit(leaf, fields=forged)
    assert backend.last.all("x-who") == ['CN=a\\,b=\\"c\\" of CN=root']
    assert backend.last.all("x-hash") == [fingerprint(leaf)[7:].upper()]
    made.visit(fields=forged)
    assert backend.last.all("x-who") == ["of"] and not backend.last.all("x-hash")
    assert not backend.last.all("x-subject")


def test_no_policy_writes_the_field(weir):
    text = 'policies = { p = { request_headers = { set = [ "Client-Cert: x" ]; }; }; };\n'
    made = weir(start=False)
    made.write(made.path.read_text() + text)
    done = run("check", made.path)
    assert done.returncode == 78 and "Client-Cert" in done.stdout + done.stderr


# ---- TCP, PROXY headers ----

def test_tcp(weir, authority, mint):
    endpoint = Endpoint()
    port = proc.free_port()
    conf = {"listeners": {"tls": {"bind": "127.0.0.1:%d" % port, "protocol": "tcp", "pool": "db",
                                  "tls": tls_group(authority, client=[row(mint.root)])}},
            "pools": {"db": {"endpoints": ["127.0.0.1:%d" % endpoint.port]}},
            "routes": [{"prefix": "/", "respond": {"status": 200}}]}
    made = Site(weir(conf), authority, port)
    good = mint.client()
    with made.open(good) as conn:
        conn.send(b"ping")
        assert conn.sock.recv(4) == b"ping"
    record = made.front.ended("client.closed", weir__pool="db")  # without close_notify
    assert record["tls.client.subject"] == "CN=client"
    with pytest.raises(ssl.SSLError):
        with made.open() as conn:
            conn.sock.recv(1)
    made.front.ended("client.tls.certificate_required")
    endpoint.stop()


def test_proxy_header(weir, authority, mint):
    """Version 2 tells the endpoint that a certificate was shown, and its common name."""
    origin = TlsOrigin(mint.leaf("127.0.0.1"), proxied=True, alpn=("http/1.1",))
    port = proc.free_port()
    app = {"endpoints": ["127.0.0.1:%d" % origin.port], "proxy_protocol": "v2",
           "tls": {"ca": "file:%s" % mint.root.path}}
    conf = {"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                  "tls": tls_group(authority, client=[
                                      row(mint.root, verify="optional")])}},
            "pools": {"app": app}, "routes": [{"prefix": "/", "pool": "app"}]}
    made = Site(weir(conf), authority, port)
    assert made.visit(mint.client(label="who")).status == 200
    assert made.visit().status == 200
    eventually(lambda: len(origin.headers) == 2)
    (client, verify, parts), none = [each.ssl() for each in origin.headers]
    assert (client, verify, parts[0x22]) == (7, 0, b"who")
    assert none[0] == 1 and none[1] != 0 and 0x22 not in none[2]
    origin.stop()


def test_proxy_header_without_a_long_name(weir, authority, mint):
    """A common name of more than 255 bytes does not fit, and cut off it would be another one."""
    origin = TlsOrigin(mint.leaf("127.0.0.1"), proxied=True, alpn=("http/1.1",))
    port = proc.free_port()
    app = {"endpoints": ["127.0.0.1:%d" % origin.port], "proxy_protocol": "v2",
           "tls": {"ca": "file:%s" % mint.root.path}}
    conf = {"listeners": {"tls": {"bind": "127.0.0.1:%d" % port, "tls": tls_group(
                authority, client=[row(mint.root)])}},
            "pools": {"app": app}, "routes": [{"prefix": "/", "pool": "app"}]}
    made = Site(weir(conf), authority, port)
    lengths = (64, 255, 256, 500, 513)
    for count, length in enumerate(lengths, 1):
        assert made.visit(named(mint, "c" * length)).status == 200, length
        eventually(lambda: len(origin.headers) == count)  # pylint: disable=cell-var-from-loop
    told = [each.ssl() for each in origin.headers]
    assert [(client, verify) for client, verify, _ in told] == [(7, 0)] * len(lengths)
    assert [len(parts.get(0x22, b"")) for _, _, parts in told] == [64, 255, 0, 0, 0]
    origin.stop()


def named(mint, name):
    """A client's certificate with this common name, of any length."""
    cert = mint.client()
    key = certs.new_key("ec")
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name, _validate=False)])
    made = (x509.CertificateBuilder().subject_name(subject).issuer_name(mint.root.cert.subject)
            .public_key(key.public_key()).serial_number(x509.random_serial_number())
            .not_valid_before(cert.cert.not_valid_before)
            .not_valid_after(cert.cert.not_valid_after).sign(mint.root.key, hashes.SHA256()))
    cert.path.write_bytes(made.public_bytes(certs.PEM))
    cert.key_path.write_bytes(certs.key_pem(key))
    return cert


# ---- faults ----

@pytest.mark.parametrize("which", ["ca", "crl"])
@pytest.mark.parametrize("text", [b"nothing", b"-----BEGIN CERTIFICATE-----\nMIIB\n"])
def test_a_bad_file_starts_nothing(weir, authority, backend, mint, which, text):
    """No listener serves without what it was to ask (THREATS.md 17)."""
    bad = mint.directory / "bad.pem"
    bad.write_bytes(text)
    rows = row(mint.root)
    rows[which] = ["file:%s" % bad]
    made = weir({"listeners": {"tls": {"bind": "127.0.0.1:1",
                                       "tls": tls_group(authority, client=[rows])}}}, backend,
                start=False)
    done = run("check", made.path)
    assert done.returncode == 78 and "W0306" in done.stdout + done.stderr, done
    assert "bad.pem" in done.stdout + done.stderr


def test_dump_and_check(site, mint):
    made = site(row(mint.root, names=["a.example"], crl=[mint.crl()], depth=2, forward="chain",
                    verify="optional"),
                routes=[{"prefix": "/", "pool": "app", "client_cert": {
                    "san": ["uri:spiffe://prod/*"], "spki": [mint.root.pin],
                    "fingerprint": [fingerprint(mint.root)], "present": True}}])
    dump = run("dump", "-c", made.front.path)
    for text in ("spiffe://prod/*", "depth = 2", 'forward = "chain"', 'verify = "optional"',
                 ".crl", mint.root.pin):
        assert text in dump.stdout, text
    again = mint.directory / "again.conf"
    again.write_text(dump.stdout)
    assert run("check", again).returncode == 0


def test_a_client_with_a_large_certificate(site, mint):
    """A ticket holds what the client has shown and comes back in a hello, of 16 KiB at most. What
    would not fit there makes a full handshake each time, and is known in full each time."""
    made = site(row(mint.root))
    for count in (20, 200, 300, 340, 380, 420, 450, 480, 500, 600, 700, 900):
        cert = mint.client(*("dns:a-name-that-is-long-%d.example" % i for i in range(count)))
        size = len(cert.cert.public_bytes(Encoding.DER))
        for version in (V12, V13):
            context, session = made.context(cert, version=version), None
            for turn in range(3):
                response, session, reused = made.session(context, session=session)
                assert response.status == 200, (size, version, turn)
                assert reused == (turn > 0 and size < 12000), (size, version, turn)
        made.front.logged(6, tls__client__hash__sha256=fingerprint(cert)[7:].upper())
    assert all(record["weir.end"] == "ok" for record in made.front.lines())


@BOTH
def test_more_than_a_client_may_show(site, mint, version):
    """32 KiB in all: it is read before anybody knows whether it is to be believed."""
    made = site(row(mint.root))
    cert = mint.client(*("dns:a-name-that-is-long-%d.example" % i for i in range(1100)))
    assert len(cert.cert.public_bytes(Encoding.DER)) > 32768
    record = made.refused("client.tls.handshake", "ILLEGAL_PARAMETER", cert, version=version)
    assert record["weir.reason"] == "EXCESSIVE_MESSAGE_SIZE"


@BOTH
def test_a_long_subject(site, mint, version):
    """512 bytes of it are told of; 8 KiB of names is what is read at all."""
    made = site(row(mint.root))
    names = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "%060d" % i) for i in range(120)]
    for count in (20, 100):
        cert = mint.client(subject=x509.Name(names[:count]))
        assert made.visit(cert, version=version).status == 200
        record = made.front.logged(tls__client__hash__sha256=fingerprint(cert)[7:].upper())
        assert len(record["tls.client.subject"]) == 512
        assert record["tls.client.issuer"] == "CN=root"
    cert = mint.client(subject=x509.Name(names))
    record = made.refused("client.tls.bad_certificate", "BAD_CERTIFICATE", cert, version=version)
    assert "8 KiB of names" in record["weir.reason"] and "tls.client.subject" not in record


def test_the_longest_ticket_passes_by_name(site, mint):
    """The hello with it is one that a weir in front, which passes TLS on, reads too."""
    cert = mint.client(*("dns:a-name-that-is-long-%d.example" % i for i in range(360)))
    assert 11500 < len(cert.cert.public_bytes(Encoding.DER)) < 12288
    front = proc.free_port()
    made = site(row(mint.root))
    made.front.change(listeners={"pass": {"bind": "127.0.0.1:%d" % front, "pool": "tls",
                                          "protocol": "tls_passthrough"}},
                      pools={"tls": {"endpoints": ["127.0.0.1:%d" % made.port]}})
    made.front.reload()
    made.port = front
    for version in (V12, V13):
        context = made.context(cert, version=version)
        _, session, _ = made.session(context)
        response, _, reused = made.session(context, session=session)
        assert response.status == 200 and reused, version


# ---- what is past ----

def check_of(work, leaf, *clients):
    path = work / "check.conf"
    path.write_text(confgen.body({
        "listeners": {"tls": {"bind": "127.0.0.1:1", "tls": {
            "certificates": [{"cert": "file:%s" % leaf.path, "key": "file:%s" % leaf.key_path}],
            "client": list(clients)}}},
        "pools": {"app": {"endpoints": ["127.0.0.1:9"]}},
        "routes": [{"prefix": "/", "pool": "app"}]}))
    return run("check", path)


def checked(work, leaf, *clients):
    result = check_of(work, leaf, *clients)
    assert result.returncode == 0, result.stderr
    return [line for line in (result.stdout + result.stderr).splitlines() if "W048" in line]


def test_check_warns_of_what_is_past(work, mint):
    """A certificate or CRL that is not valid now, and CRLs that none of the row's CAs has made."""
    leaf = mint.make("web", ["a.example"], issuer=mint.root)
    other = mint.make("other", ca=True)
    good, foreign = mint.crl(), mint.crl(issuer=other)
    assert checked(work, leaf, row(mint.root, crl=[good])) == []
    assert checked(work, leaf, row(mint.root, crl=[good, foreign])) == []  # of an intermediate
    for days, says in [((-9, -1), "has expired"), ((1, 9), "is not valid yet")]:
        past = mint.make("past", ["a.example"], issuer=mint.root, days=days)
        lines = checked(work, past, row(mint.root, crl=[good]))
        assert len(lines) == 1 and "W0482" in lines[0] and says in lines[0], lines
        lines = checked(work, leaf, row(mint.root, crl=[mint.crl(days=days)]))
        assert len(lines) == 1 and "W0483" in lines[0] and says in lines[0], lines
        lines = checked(work, leaf, row(mint.root, crl=[good, mint.crl(days=days, issuer=other)]))
        assert len(lines) == 1 and "W0483" in lines[0] and says in lines[0], lines
        # One that is good is enough, of each issuer.
        assert checked(work, leaf, row(mint.root, crl=[good, mint.crl(days=days)])) == []
        assert checked(work, leaf, row(mint.root, crl=[mint.crl(days=days), good])) == []
    for crls, depth, says in [([foreign], 1, "all clients are refused"),
                              ([good, foreign], 0, "nothing needs it")]:
        lines = checked(work, leaf, row(mint.root, crl=crls, depth=depth))
        assert len(lines) == 1 and "W0483" in lines[0] and says in lines[0], lines
    shared = [row(mint.root, names=["a.example"], crl=[good, foreign], depth=0),
              row(other, names=["b.example"], crl=[good, foreign], depth=0)]
    assert checked(work, leaf, *shared) == []
    chain = mint.make("middle", ca=True, issuer=mint.root, days=(-9, -1))
    below = mint.make("below", ["a.example"], issuer=chain)
    below.path.write_bytes(below.path.read_bytes() + chain.path.read_bytes())
    lines = checked(work, below, row(mint.root))
    assert len(lines) == 1 and "an intermediate certificate in" in lines[0], lines
    assert "some clients may refuse it" in lines[0], lines


def test_check_names_the_file_of_a_list_that_is_nothing(work, mint):
    """In DER, say: what reads PEM would pass over it in silence."""
    leaf, good = mint.make("web", ["a.example"], issuer=mint.root), mint.crl()
    other = mint.make("other", ca=True)
    bad = work / "der.crl"
    bad.write_bytes(x509.load_pem_x509_crl(mint.crl(issuer=other).read_bytes())
                    .public_bytes(Encoding.DER))
    result = check_of(work, leaf, row(mint.root, crl=[good, bad]))
    assert result.returncode != 0 and "der.crl: no CRL in it" in result.stdout + result.stderr
    bad = work / "der.ca"
    bad.write_bytes(other.cert.public_bytes(Encoding.DER))
    client = row(mint.root)
    client["ca"].append("file:%s" % bad)
    result = check_of(work, leaf, client)
    assert result.returncode != 0
    assert "der.ca: no certificate in it" in result.stdout + result.stderr


def test_a_start_says_what_is_past(weir, backend, work, mint):
    past = mint.make("web", ["a.example"], issuer=mint.root, days=(-9, -1))
    front = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % proc.free_port(), "tls": {
        "certificates": [{"cert": "file:%s" % past.path, "key": "file:%s" % past.key_path}]}}}},
        backend)
    front.stderr_has("has expired: clients refuse it")
