"""TLS termination: certificates by name and algorithm, versions, ALPN, faults, certificate swap,
clean ends. Clients are Python's ssl, openssl s_client and curl. RFC 8446, RFC 5246, RFC 6066, RFC
7301."""
import json
import re
import socket
import ssl
import struct
import subprocess
import time

import pytest

from harness import certs, client, proc, tlsraw, wire
from harness.backend import raw
from harness.proxyheader import v1, v2
from harness.weir import eventually, run

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3


def hello():
    """What a client of TLS begins with."""
    came, sent = ssl.MemoryBIO(), ssl.MemoryBIO()
    shake = ssl.create_default_context().wrap_bio(came, sent, server_hostname="a.example")
    with pytest.raises(ssl.SSLWantReadError):
        shake.do_handshake()
    return sent.read()


class Secure:
    """A weir with a TLS listener of many certificates, and its CA."""

    def __init__(self, make, authority, *backends, tls=None, listener=None, plain=None):
        self.authority = authority
        self.port = proc.free_port()
        rows = [
            dict(names=["a.example"],
                 **authority.leaf(["a.example"], "ec", label="a-ec", stem="a-ec")),
            dict(names=["a.example"],
                 **authority.leaf(["a.example"], "rsa", label="a-rsa", stem="a-rsa")),
            dict(names=["*.wild.example"], **authority.leaf(["*.wild.example"], label="wild")),
            dict(names=["exact.wild.example"],
                 **authority.leaf(["exact.wild.example"], label="exact")),
        ]
        settings = {"certificates": rows, **(tls or {})}
        conf = {"listeners": {"tls": dict(bind="127.0.0.1:%d" % self.port, tls=settings,
                                          **(listener or {})),
                              "web": plain or {}}}
        self.weir = make(conf, *backends)

    def connect(self, sni="a.example", context=None, **kwargs):
        context = context or self.authority.client_context(**{
            k: kwargs.pop(k) for k in list(kwargs)
            if k in ("minimum", "maximum", "alpn", "ciphers")})
        return self.weir.client(self.port, tls=context, sni=sni, **kwargs)

    def s_client(self, *args, name="a.example", stdin="", timeout=30):
        """(exit status, output) of openssl s_client."""
        result = subprocess.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.port, "-servername", name,
             "-CAfile", str(self.authority.path), *args],
            input=stdin.encode(), capture_output=True, timeout=timeout, check=False)
        return result.returncode, (result.stdout + result.stderr).decode("utf-8", "replace")


@pytest.fixture
def secure(weir, backend, authority):
    made = Secure(weir, authority, backend)
    made.backend = backend
    return made


def test_request_over_tls(secure):
    conn = secure.connect()
    assert conn.get("/t?q=1", host="a.example").body == b"GET /t?q=1"
    assert conn.request("POST", "/p", body=b"x" * 100000, host="a.example").status == 200
    assert secure.backend.requests[0].get("x-forwarded-proto") == "https"
    record = secure.weir.ended("ok", path="/t")
    assert record["url.scheme"] == "https" and record["tls.protocol.version"] == "1.3"
    assert record["tls.cipher"].startswith("TLS_") and not record.get("tls.resumed")
    assert secure.weir.metric("weir_tls_handshakes_total", version="1.3", resumed="false") == 1


@pytest.mark.parametrize("sni,shown", [
    ("a.example", "a-ec"), ("A.EXAMPLE", "a-ec"), ("x.wild.example", "wild"),
    ("exact.wild.example", "exact")])
def test_certificate_by_name(secure, sni, shown):
    conn = secure.connect(sni)
    assert certs.common_name(conn.sock) == shown
    assert conn.get("/n", host=sni.lower()).status == 200


@pytest.mark.parametrize("sni", ["b.example", "x.y.wild.example", "wild.example", "xa.example",
                                 "a.example.org"])
def test_unknown_name_is_refused(secure, sni):
    context = secure.authority.client_context()
    context.check_hostname = False
    with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
        secure.connect(sni, context)
    eventually(lambda: secure.weir.metric("weir_request_end_total",
                                          end="client.tls.unrecognized_name") == 1)
    assert secure.weir.metric("weir_tls_handshake_failures_total") == 1
    record = secure.weir.logged(1, end="client.tls.unrecognized_name")
    assert record["server.address"] == sni and record["network.peer.port"] > 0
    assert "url.path" not in record


def test_refused_name_is_logged_in_lower_case(secure):
    context = secure.authority.client_context()
    context.check_hostname = False
    with pytest.raises(ssl.SSLError, match="(?i)unrecognized.name"):
        secure.connect("No.Such.EXAMPLE", context)
    record = secure.weir.logged(1, end="client.tls.unrecognized_name")
    assert record["server.address"] == "no.such.example"


@pytest.mark.parametrize("name", ["under_score.example", "x!y.example", "a..example"])
def test_what_is_no_name_is_refused_and_not_logged(secure, name):
    """Whatever stands there, a line of the log has a host name or none."""
    code, out = secure.s_client(name=name)
    assert code != 0 and "unrecognized name" in out
    record = secure.weir.logged(1, end="client.tls.unrecognized_name")
    assert record.get("server.address", "").lower() in ("", "under_score.example")


def test_name_of_a_handshake_that_fails_later_is_logged(secure):
    """The client does not like the certificate."""
    with pytest.raises(ssl.SSLError):
        secure.connect("A.example", ssl.create_default_context())
    eventually(lambda: any(r.get("weir.end", "").startswith("client.tls.")
                           for r in secure.weir.lines()))
    record = [r for r in secure.weir.lines() if "weir.end" in r][-1]
    assert record["server.address"] == "a.example" and record["network.peer.port"] > 0


@pytest.mark.parametrize("name", ["127.0.0.1", "2001:db8::1"])
def test_address_is_no_name(secure, name):
    """Served as who names nobody (RFC 6066 section 3)."""
    host = "[%s]" % name if ":" in name else name
    _, out = secure.s_client("-ign_eof", name=name, stdin="GET /ip HTTP/1.1\r\nHost: %s\r\n"
                             "Connection: close\r\n\r\n" % host)
    assert "a-ec" in out and "GET /ip" in out, out
    assert secure.weir.logged(1, path="/ip")["weir.end"] == "ok"


def test_default_certificate(weir, backend, authority):
    rows = [dict(names=["a.example"], **authority.leaf(["a.example"], label="a")),
            dict(default=True, **authority.leaf(["d.example"], label="d"))]
    port = proc.free_port()
    proxy = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                        "tls": {"certificates": rows}}}}, backend)
    context = authority.client_context()
    context.check_hostname = False
    for sni, shown in (("a.example", "a"), ("unknown.example", "d"), (None, "d"),
                       ("d.example", "d")):
        conn = proxy.client(port, tls=context, sni=sni)
        assert certs.common_name(conn.sock) == shown
        assert conn.get("/d").status == 200


def test_names_of_the_certificate_itself(weir, backend, authority):
    """No names in the configuration: those in the certificate serve."""
    port = proc.free_port()
    rows = [authority.leaf(["own.example", "*.own.example"], label="own")]
    proxy = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                        "tls": {"certificates": rows}}}}, backend)
    for sni in ("own.example", "x.own.example"):
        conn = proxy.client(port, tls=authority.client_context(), sni=sni)
        assert certs.common_name(conn.sock) == "own"


def test_algorithm_by_what_the_client_can(secure):
    """ECDSA and RSA side by side: RSA only for clients that cannot verify the other."""
    _, out = secure.s_client("-sigalgs", "RSA-PSS+SHA256")
    assert "a-rsa" in out and "Verify return code: 0" in out
    _, out = secure.s_client("-sigalgs", "ECDSA+SHA256:RSA-PSS+SHA256")
    assert "a-ec" in out
    for cipher, shown in (("ECDHE-RSA-AES128-GCM-SHA256", "a-rsa"),
                          ("ECDHE-ECDSA-AES128-GCM-SHA256", "a-ec")):
        conn = secure.connect(maximum=V12, ciphers=cipher)
        assert certs.common_name(conn.sock) == shown and conn.sock.cipher()[0] == cipher
    assert certs.key_type(conn.sock) == "ec"


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_versions(secure, version):
    wanted = V12 if version == "1.2" else V13
    conn = secure.connect(minimum=wanted, maximum=wanted)
    assert conn.sock.version() == "TLSv" + version
    assert conn.get("/v", host="a.example").status == 200
    assert secure.weir.logged(path="/v")["tls.protocol.version"] == version
    assert secure.weir.metric("weir_tls_handshakes_total", version=version) == 1


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1"])
def test_old_versions_are_refused(secure, version):
    status, out = secure.s_client(version, "-cipher", "ALL:@SECLEVEL=0")
    assert status != 0 and "alert" in out.lower()
    eventually(lambda: secure.weir.metric("weir_tls_handshake_failures_total") == 1)


@pytest.mark.parametrize("tls,refused",
                         [({"min_version": "1.3"}, V12), ({"max_version": "1.2"}, V13)])
def test_configured_versions(weir, backend, authority, tls, refused):
    made = Secure(weir, authority, backend, tls=tls)
    with pytest.raises(ssl.SSLError):
        made.connect(minimum=refused, maximum=refused)
    other = V13 if refused == V12 else V12
    assert made.connect(minimum=other, maximum=other).get("/v", host="a.example").status == 200


WEAK = ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA", "ECDHE-RSA-AES256-SHA384",
        "DHE-RSA-AES128-GCM-SHA256"]


@pytest.mark.parametrize("cipher", WEAK)
def test_no_weak_ciphers(secure, cipher):
    """Forward secrecy and AEAD only (RFC 9325)."""
    status, out = secure.s_client("-tls1_2", "-cipher", cipher + ":@SECLEVEL=0")
    assert status != 0 and "handshake failure" in out


@pytest.mark.parametrize("group", ["X25519", "P-256"])
def test_groups(secure, group):
    status, out = secure.s_client("-groups", group, stdin="Q")
    assert status == 0 and "Verify return code: 0" in out, out


REFUSED = "refused"
BOTH = ["h2", "http/1.1"]


@pytest.mark.parametrize("protocols,offer,chosen", [
    (None, BOTH, "h2"), (None, ["http/1.1", "h2"], "h2"), (None, ["http/1.1"], "http/1.1"),
    (None, ["h2"], "h2"), (None, ["ftp", "http/1.1"], "http/1.1"), (None, None, None),
    (None, ["spdy/3", "ftp"], REFUSED),
    (["http/1.1", "h2"], BOTH, "http/1.1"), (["http/1.1", "h2"], ["h2"], "h2"),
    ("http/1.1", BOTH, "http/1.1"), ("http/1.1", ["h2"], REFUSED), ("http/1.1", None, None),
    ("h2", BOTH, "h2"), ("h2", ["http/1.1"], REFUSED), ("h2", None, REFUSED),
])
def test_alpn(weir, backend, authority, protocols, offer, chosen):
    """The listener's list decides, in its order. No fall-back to another protocol (ALPACA,
    THREATS.md row 29), also for a client without ALPN where HTTP/1.1 is not served."""
    listener = {"protocols": protocols} if protocols else {}
    secure = Secure(weir, authority, backend, listener=listener)
    if chosen == REFUSED:
        with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
            secure.connect(alpn=offer)
        eventually(lambda: secure.weir.metric("weir_request_end_total",
                                              end="client.tls.no_application_protocol") == 1)
        return
    conn = secure.connect(alpn=offer)
    assert conn.sock.selected_alpn_protocol() == chosen
    if chosen != "h2":
        assert conn.get("/alpn", host="a.example").status == 200


def test_alpn_after_a_reload(weir, backend, authority):
    """The list alone, with the same certificates, is another policy; who is connected stays."""
    secure = Secure(weir, authority, backend, listener={"protocols": ["http/1.1"]})
    before = secure.connect(alpn=BOTH)
    assert before.sock.selected_alpn_protocol() == "http/1.1"
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        secure.connect(alpn=["h2"])
    secure.weir.change(listeners={"tls": {"protocols": ["h2"]}})
    reloaded = run("reload", "-c", secure.weir.path)
    assert json.loads(reloaded.stdout)["changes"] == [
        {"change": "changed", "kind": "listener", "name": "tls", "detail": "protocols"}], reloaded
    after = secure.connect(alpn=["h2"])
    assert after.sock.selected_alpn_protocol() == "h2"
    assert before.get("/still", host="a.example").status == 200


def test_tls_taken_away_by_a_reload(secure):
    """Who is connected stays, but for hosts that were not negotiated: nothing serves them now."""
    before = secure.connect()
    assert before.get("/first", host="a.example").status == 200
    secure.weir.change(listeners={"tls": {"tls": None}})
    secure.weir.reload()
    assert before.get("/same", host="a.example").status == 200
    assert before.get("/other", host="x.wild.example").status == 421
    assert secure.weir.client(secure.port).get("/plain", host="a.example").status == 200


def test_plain_http_on_the_tls_port(secure):
    conn, response = secure.weir.exchange(wire.request_bytes(target="/plain"), secure.port)
    assert response.status == 400
    conn.expect_close()
    secure.weir.ended("client.tls.plain_http", status=400)
    assert not secure.backend.requests


GARBAGE = [b"\x00" * 200, b"\xff" * 200, b"SSH-2.0-OpenSSH_9\r\n", b"\x16\x03\x01\x00\x05hello",
           b"\x16\x03\x01\xff\xff" + b"\x01" * 70000, b"\x80\x2e\x01\x00\x02" + b"\0" * 60,
           b"\x15\x03\x01\x00\x02\x02\x28"]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_on_the_tls_port(secure, data):
    conn = secure.weir.client(secure.port)
    conn.try_send(data)
    try:
        conn.half_close()
        answer = conn.read_all()
    except OSError:
        answer = b""
    assert not answer.startswith(b"HTTP/1.1 2")
    assert secure.connect().get("/fine", host="a.example").status == 200
    assert not [r for r in secure.backend.requests if r.path != "/fine"]


def handshake_by_bytes(secure, step):
    """A handshake and a request, the client's bytes sent step by step (THREATS.md row 16)."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = secure.authority.client_context().wrap_bio(incoming, outgoing,
                                                     server_hostname="a.example")
    sock = client.connect(secure.port)

    def turn(call):
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                flush()
                incoming.write(sock.recv(65536))

    def flush():
        data = outgoing.read()
        for at in range(0, len(data), step):
            sock.sendall(data[at : at + step])
    turn(tls.do_handshake)
    tls.write(wire.request_bytes(target="/bytes", host="a.example"))
    flush()
    data = turn(lambda: tls.read(65536))
    sock.close()
    return data, tls


@pytest.mark.parametrize("step", [1, 5, 100])
def test_handshake_in_small_pieces(secure, step):
    data, tls = handshake_by_bytes(secure, step)
    assert data.startswith(b"HTTP/1.1 200 ") and tls.getpeercert()


def test_pipelining_over_tls(secure):
    conn = secure.connect()
    conn.send(b"".join(wire.request_bytes(target="/%d" % i, host="a.example") for i in range(50)))
    assert [conn.response().body for _ in range(50)] == [b"GET /%d" % i for i in range(50)]


def test_tiny_records(secure):
    """One byte per record is still one request."""
    conn = secure.connect()
    for byte in wire.request_bytes("POST", "/tiny", body=b"hello", host="a.example"):
        conn.send(bytes([byte]))
    assert conn.response().status == 200 and secure.backend.last.body.data == b"hello"


def test_close_notify_ends_cleanly(secure):
    """Every end that weir means is a close_notify: a cut is told apart from it."""
    context = secure.authority.client_context()
    sock = context.wrap_socket(client.connect(secure.port), server_hostname="a.example",
                               suppress_ragged_eofs=False)
    sock.sendall(wire.request_bytes(fields=["Connection: close"], host="a.example"))
    data = b"".join(iter(lambda: sock.recv(65536), b""))  # raises SSLEOFError without close_notify
    assert data.startswith(b"HTTP/1.1 200 ")
    sock.close()


def test_truncation_has_no_close_notify(weir, new_backend, authority):
    """A 1.0 client knows the end of a close-delimited body only by close_notify: a body that the
    upstream cut must not get one."""
    backend = new_backend(raw(b"HTTP/1.1 200 OK\r\n\r\npart", 0.1, reset=True))
    made = Secure(weir, authority, backend)
    sock = authority.client_context().wrap_socket(client.connect(made.port),
                                                  server_hostname="a.example",
                                                  suppress_ragged_eofs=False)
    sock.sendall(b"GET /cut HTTP/1.0\r\nHost: a.example\r\n\r\n")
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        while sock.recv(65536):
            pass
    sock.close()


def test_client_close_notify(secure):
    """A client that ends its TLS session ends its connection."""
    conn = secure.connect()
    assert conn.get("/x", host="a.example").status == 200
    conn.sock.unwrap()
    eventually(lambda: secure.weir.metric("weir_downstream_connections") == 0)


def test_client_vanishes_inside_the_handshake(secure):
    for _ in range(20):
        sock = socket.create_connection(("127.0.0.1", secure.port))
        sock.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        sock.close()
    eventually(lambda: secure.weir.metric("weir_downstream_connections") == 0)
    assert secure.connect().get("/x", host="a.example").status == 200


def test_no_renegotiation(secure):
    """A client-initiated renegotiation is refused (THREATS.md row 30)."""
    talk = tlsraw.SClient(secure.port, "a.example", secure.authority)
    talk.type(b"R\n")
    out = talk.rest()
    assert "RENEGOTIATING" in out and "alert no renegotiation" in out, out[-1500:]
    secure.weir.ended("client.tls.renegotiation")
    assert secure.weir.metric("weir_tls_handshakes_total") == 1


def test_untrusted_by_a_strict_client(secure):
    """A client that does not trust our CA fails; weir only counts it."""
    with pytest.raises(ssl.SSLCertVerificationError):
        secure.connect(context=ssl.create_default_context())
    assert secure.connect().get("/x", host="a.example").status == 200


@pytest.mark.parametrize("http", ["1.1", "2"])
@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_curl(secure, tmp_path, version, http):
    out = tmp_path / "out"
    result = subprocess.run(
        ["curl", "-sS", "-m", "60", "--cacert", str(secure.authority.path), "--resolve",
         "a.example:%d:127.0.0.1" % secure.port, "-o", str(out), "-w",
         "%{http_code} %{ssl_verify_result} %{http_version}", "--tlsv" + version, "--tls-max",
         version, "--http" + http, "https://a.example:%d/curl" % secure.port],
        capture_output=True, text=True, timeout=90, check=False)
    assert result.stdout == "200 0 " + http, result.stderr
    assert out.read_text() == "GET /curl"
    record = secure.weir.ended("ok", path="/curl")
    assert record["tls.protocol.version"] == version
    assert record["network.protocol.version"] == http


@pytest.mark.parametrize("version", ["1.2", "1.3"])
def test_openssl(secure, version):
    status, out = secure.s_client(
        "-tls" + version.replace(".", "_"), "-ign_eof", "-verify_return_error",
        stdin="GET /openssl HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")
    assert status == 0 and "Verify return code: 0" in out and "GET /openssl" in out, out
    assert secure.weir.ended("ok", path="/openssl")["tls.protocol.version"] == version


def test_redirect_https(weir, backend, authority):
    made = Secure(weir, authority, backend, plain={"redirect_https": True})
    conn = made.weir.client()
    response = conn.get("/p/q?x=%20y", host="a.example")
    assert response.status == 308
    assert response.get("location") == "https://a.example:%d/p/q?x=%%20y" % made.port
    response = conn.request("POST", "/post", body=b"data", host="A.example.:8080")
    assert response.status == 308 and response.get(
        "location") == "https://a.example:%d/post" % made.port
    assert not backend.requests
    made.weir.ended("ok", path="/post", status=308)


def test_certificate_swap_without_reload(secure):
    """A changed file is used by new handshakes; the generation stays, old connections go on."""
    old = secure.connect()
    generation = secure.weir.generation()
    secure.authority.leaf(["a.example"], "ec", label="a-ec-new", stem="a-ec")

    def swapped():
        """new handshakes show the new certificate"""
        with client.Client(secure.port, tls=secure.authority.client_context(),
                           sni="a.example") as conn:
            return certs.common_name(conn.sock) == "a-ec-new"
    eventually(swapped, guard=90)
    assert secure.weir.generation() == generation
    assert old.get("/old", host="a.example").status == 200


def test_bad_certificate_swap_keeps_the_old(secure):
    path = secure.authority.directory / "a-ec.crt"
    good = path.read_bytes()
    path.write_bytes(b"-----BEGIN CERTIFICATE-----\nbroken\n-----END CERTIFICATE-----\n")
    secure.weir.stderr_has("in service", guard=90)
    conn = secure.connect()
    assert certs.common_name(conn.sock) == "a-ec" and conn.get("/x",
                                                               host="a.example").status == 200
    path.write_bytes(good)


def test_key_of_another_certificate_keeps_the_old(secure):
    """Half a swap (new certificate, old key) is not taken; the whole is."""
    cert, key = secure.authority.pem(["a.example"], "ec", label="a-ec-half")
    (secure.authority.directory / "a-ec.crt").write_bytes(cert)
    secure.weir.stderr_has("in service", guard=90)
    assert certs.common_name(secure.connect().sock) == "a-ec"
    (secure.authority.directory / "a-ec.key").write_bytes(key)

    def swapped():
        """the new pair is used"""
        with client.Client(secure.port, tls=secure.authority.client_context(),
                           sni="a.example") as conn:
            return certs.common_name(conn.sock) == "a-ec-half"
    eventually(swapped, guard=90)


def test_certificate_expiry_is_known_to_the_metrics(secure):
    families = [name for name in secure.weir.metrics().samples if "certificate" in name]
    assert families, "no metric about certificates"
    values = [v for name in families for v in secure.weir.metrics().samples[name].values()]
    assert len(values) >= 4 and any(v > 0 for v in values)


BAD_FILES = {
    "key_of_another": lambda a: (a.pem(["x.example"])[0], a.pem(["x.example"])[1]),
    "no_pem": lambda a: (b"nonsense", a.pem(["x.example"])[1]),
    "key_as_certificate": lambda a: (a.pem(["x.example"])[1], a.pem(["x.example"])[1]),
    "empty_key": lambda a: (a.pem(["x.example"])[0], b""),
}


@pytest.mark.parametrize("what", BAD_FILES)
def test_unusable_certificates_are_a_config_error(weir, authority, work, what):
    """Fail closed: neither check nor run takes it (THREATS.md row 17)."""
    cert, key = BAD_FILES[what](authority)
    (work / "bad.crt").write_bytes(cert)
    (work / "bad.key").write_bytes(key)
    (work / "bad.key").chmod(0o600)
    rows = [{"names": ["x.example"], "cert": "file:%s" % (work / "bad.crt"),
             "key": "file:%s" % (work / "bad.key")}]
    proxy = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % proc.free_port(),
                                        "tls": {"certificates": rows}}},
                  "routes": [{"respond": {"status": 200}}]}, start=False)
    for command in ("check", "run"):
        result = run(*(("check", proxy.path) if command == "check" else ("run", "-c", proxy.path)))
        assert result.returncode == 78 and re.search("W030[46]",
                                                     result.stdout + result.stderr), result
        assert "PRIVATE KEY" not in result.stdout + result.stderr


def test_many_handshakes_at_once(secure):
    """More than one turn's budget of handshakes: all finish."""
    contexts = [secure.authority.client_context() for _ in range(4)]
    conns = []
    for number in range(200):
        sock = client.connect(secure.port)
        tls = contexts[number % 4].wrap_socket(sock, server_hostname="a.example",
                                               do_handshake_on_connect=False)
        tls.setblocking(False)
        conns.append(tls)
    pending = set(range(200))

    def finished():
        """all 200 handshakes"""
        for number in list(pending):
            try:
                conns[number].do_handshake()
                pending.discard(number)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
        return not pending
    eventually(finished, guard=60)
    # A client has finished before weir has read its last message.
    eventually(lambda: secure.weir.metric("weir_tls_handshakes_total", version="1.3",
                                          resumed="false") == 200)
    for tls in conns:
        tls.close()


def test_proxied_fields_name_the_listener_scheme(secure):
    """Scheme comes from the listener, never from the request target."""
    conn = secure.connect()
    response = conn.get("http://a.example/abs", host="a.example")
    assert response.status in (200, 400)
    if response.status == 200:
        assert secure.backend.last.get("x-forwarded-proto") == "https"


# ---- what the log says of handshakes that fail ----

@pytest.mark.parametrize("sent,reason", [
    (b"\x16\x03\x01\x02\x00\x01\x00", "CONNECTION_CLOSED"),
    (b"SSH-2.0-x\r\n", "WRONG_VERSION_NUMBER"),
    (b"\r\n\r\nSSH-2.0-x\r\n", "WRONG_VERSION_NUMBER"),
    (b"\x15\x03\x03\x00\x02\x02\x2f", "SSLV3_ALERT_ILLEGAL_PARAMETER"),
    (b"\x15\x03\x03\x00\x02\x02\x6d", "ALERT_109"),
    (b"\x00\x01\x02\x03\x04\x05\x06\x07", "WRONG_VERSION_NUMBER")])
def test_a_failed_handshake_has_a_reason(secure, sent, reason):
    with client.Client(secure.port) as conn:
        conn.send(sent)
        conn.sock.shutdown(1)
        conn.read_all()
    assert secure.weir.ended("client.tls.handshake")["weir.reason"] == reason


@pytest.mark.parametrize("pieces", [1, 0])
@pytest.mark.parametrize("header", [v1("203.0.113.9"), v2("203.0.113.9")], ids=["v1", "v2"])
def test_a_proxy_header_that_is_not_wanted_has_a_reason(secure, header, pieces):
    """The reason names the key; at once, and byte by byte."""
    with client.Client(secure.port) as conn:
        for at in range(0, len(header), pieces or len(header)):
            conn.try_send(header[at:at + (pieces or len(header))])
        conn.expect_close()
    record = secure.weir.ended("client.tls.handshake")
    assert "PROXY header" in record["weir.reason"] and "proxy_protocol" in record["weir.reason"]


@pytest.mark.parametrize("sent", ["header", "letters", "part", "hello"])
def test_a_reset_in_the_handshake_has_a_reason(secure, sent):
    first = hello()
    with client.Client(secure.port) as conn:
        conn.send({"header": first[:3], "letters": b"PROX", "part": first[:100]}.get(sent, first))
        if sent == "hello":
            assert conn.sock.recv(1)
        else:
            time.sleep(0.2)  # that it is read
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert secure.weir.ended("client.tls.handshake")["weir.reason"] == "CONNECTION_RESET"


def test_tls_on_a_plain_port_has_a_reason(secure):
    with client.Client(secure.weir.port) as conn:
        conn.send(hello())
        assert conn.response().status == 400
    record = secure.weir.ended("client.bad_request.request_line", status=400)
    assert "TLS was sent to a port without TLS" in record["weir.reason"]


@pytest.mark.parametrize("version,reason", [(V12, "TLSV1_ALERT_UNKNOWN_CA"),
                                            (V13, "BAD_PACKET_LENGTH")])
def test_a_client_that_refuses_has_a_reason(secure, version, reason):
    """Its own alert, in the library's words; OpenSSL sends it before it encrypts in TLS 1.3."""
    context = ssl.create_default_context()  # trusts other CAs
    context.minimum_version = context.maximum_version = version
    with pytest.raises(ssl.SSLError):
        secure.connect("a.example", context)
    assert secure.weir.ended("client.tls.handshake")["weir.reason"] == reason


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_knock_has_no_line(secure, how):
    """Connect and close, as a check by TCP does: as little as without TLS."""
    for _ in range(3):
        with client.Client(secure.port) as conn:
            if how == "reset":
                conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    with client.Client(secure.port) as conn:
        conn.send(b"x")
    secure.weir.ended("client.tls.handshake")
    secure.weir.settle()
    assert len([line for line in secure.weir.lines() if "weir.end" in line]) == 1
    assert secure.weir.metric("weir_tls_handshake_failures_total") == 1
