"""Key-exchange groups and suites of TLS 1.2, in front and to endpoints: what is negotiated is what
was set, and names that nobody has are refused with a suggestion. RFC 8446 section 4.2.7."""
import json
import re
import socket
import ssl
import subprocess

import pytest

from harness import certs, confgen, proc
from harness.weir import run

V12 = ssl.TLSVersion.TLSv1_2
TEMP_KEY = {"X25519": "X25519, 253 bits", "P-256": "ECDH, prime256v1, 256 bits",
            "P-384": "ECDH, secp384r1, 384 bits", "P-521": "ECDH, secp521r1, 521 bits"}


def rows(authority):
    return [dict(names=["a.example"],
                 **authority.leaf(["a.example"], kind, label=kind, stem=kind))
            for kind in ("ec", "rsa")]


class Front:
    def __init__(self, weir, backend, authority, **tls):
        self.authority, self.port = authority, proc.free_port()
        self.weir = weir({"listeners": {"tls": {
            "bind": "127.0.0.1:%d" % self.port,
            "tls": {"certificates": rows(authority), **tls}}}}, backend)

    def s_client(self, *args, sends=b""):
        result = subprocess.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.port, "-servername",
             "a.example", "-CAfile", str(self.authority.path), *args],
            input=sends, capture_output=True, timeout=60, check=False)
        return (result.stdout + result.stderr).decode("utf-8", "replace")


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("set_groups,offered,chosen", [
    (["P-384", "X25519"], "X25519:P-256:P-384", "P-384"),
    (["X25519", "P-384"], "P-384:X25519", "X25519"),
    (["P-521"], "X25519:P-256:P-521", "P-521"),
    (["P-256", "X25519"], "X25519", "X25519"),
    (None, "P-384:P-256:X25519", "X25519"),
    (None, "P-384:P-256", "P-256"),
])
def test_negotiated_group(weir, backend, authority, version, set_groups, offered, chosen):
    """weir's order decides; unset, X25519 comes before the curves of NIST."""
    front = Front(weir, backend, authority, groups=set_groups)
    request = b"GET /g HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n"
    text = front.s_client(version, "-groups", offered, "-ign_eof", sends=request)
    assert "Server Temp Key: %s" % TEMP_KEY[chosen] in text, text
    assert front.weir.ended("ok", path="/g")["tls.curve"] == chosen


def test_no_group_in_common(weir, backend, authority):
    front = Front(weir, backend, authority, groups="P-384")
    assert "handshake failure" in front.s_client("-groups", "X25519:P-256")
    front.weir.ended("client.tls.handshake")


def test_changed_by_reload(weir, backend, authority):
    front = Front(weir, backend, authority, groups=["P-384", "X25519"])
    front.weir.change(listeners={"tls": {"tls": {"groups": ["X25519"]}}})
    front.weir.reload()
    assert TEMP_KEY["X25519"] in front.s_client("-groups", "P-384:X25519")


def test_suites(weir, backend, authority):
    """The listener's order decides; a certificate is shown only where a suite allows its key."""
    only_rsa = Front(weir, backend, authority,
                     ciphers=["ECDHE-RSA-AES256-GCM-SHA384", "ECDHE-RSA-AES128-GCM-SHA256"])
    context = authority.client_context(
        maximum=V12, ciphers="ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"
                             "ECDHE-RSA-AES256-GCM-SHA384")
    conn = only_rsa.weir.client(only_rsa.port, tls=context, sni="a.example")
    assert conn.sock.cipher()[0] == "ECDHE-RSA-AES256-GCM-SHA384"
    assert certs.common_name(conn.sock) == "rsa"
    assert conn.get("/x", host="a.example").status == 200
    assert "handshake failure" in only_rsa.s_client(
        "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256")
    assert "Cipher is TLS_" in only_rsa.s_client("-tls1_3"), "TLS 1.3 has suites of its own"


GCM_128, GCM_256, CHACHA = ("ECDHE-ECDSA-" + end for end in (
    "AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305"))


@pytest.mark.parametrize("offered,chosen", [
    ((GCM_128, GCM_256, CHACHA), GCM_128),
    ((GCM_256, CHACHA, GCM_128), GCM_128),
    ((GCM_256, CHACHA), GCM_256),
    ((CHACHA, GCM_256, GCM_128), CHACHA),
])
def test_order_of_suites(weir, backend, authority, offered, chosen):
    """weir's, but a client that begins with ChaCha20 has no instructions for AES, and gets it."""
    text = Front(weir, backend, authority).s_client("-tls1_2", "-cipher", ":".join(offered))
    assert "Cipher is %s" % chosen in text, text


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
@pytest.mark.parametrize("set_groups,chosen", [(None, "X25519"), (["P-256", "X25519"], "P-256")])
def test_groups_of_who_begins_with_chacha(weir, backend, authority, version, set_groups, chosen):
    """That its order of suites decides does not make its order of groups decide."""
    text = Front(weir, backend, authority, groups=set_groups).s_client(
        version, "-cipher", "%s:%s" % (CHACHA, GCM_128), "-ciphersuites",
        "TLS_CHACHA20_POLY1305_SHA256:TLS_AES_128_GCM_SHA256", "-groups", "P-384:P-256:X25519")
    assert "Server Temp Key: %s" % TEMP_KEY[chosen] in text, text
    assert "CHACHA20" in text or version == "-tls1_3"


def test_order_that_was_set(weir, backend, authority):
    """A list of the listener holds for all clients."""
    front = Front(weir, backend, authority, ciphers=[GCM_256, CHACHA])
    text = front.s_client("-tls1_2", "-cipher", ":".join((CHACHA, GCM_128, GCM_256)))
    assert "Cipher is %s" % GCM_256 in text, text


def test_groups_to_endpoints(weir, work):
    """What the ClientHello of weir offers, and begins with, is what the pool has."""
    seen = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        weir({"pools": {"app": {"endpoints": ["127.0.0.1:%d" % server.getsockname()[1]],
                                "tls": {"verify": "none", "groups": ["P-384", "X25519"]}}},
              "routes": [{"prefix": "/", "pool": "app"}]}).client().try_send(
                  b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
        conn, _ = server.accept()
        with conn:
            conn.settimeout(60)
            hello = b""
            while len(hello) < 5 or len(hello) < 5 + int.from_bytes(hello[3:5], "big"):
                hello += conn.recv(65536)
        seen = groups_of(hello[5:])
    assert seen == [24, 29], "P-384, then X25519"


def groups_of(hello):
    """supported_groups of a ClientHello."""
    at = 4 + 2 + 32
    at += 1 + hello[at]
    at += 2 + int.from_bytes(hello[at:at + 2], "big")
    at += 1 + hello[at]
    at += 2
    while at < len(hello):
        kind, size = (int.from_bytes(hello[at + k:at + k + 2], "big") for k in (0, 2))
        if kind == 10:
            body = hello[at + 6:at + 4 + size]
            return [int.from_bytes(body[i:i + 2], "big") for i in range(0, len(body), 2)]
        at += 4 + size
    raise AssertionError("no supported_groups")


def checked(authority, work, listener=None, pool=None):
    path = work / "check.conf"
    path.write_text(confgen.body({
        "listeners": {"tls": {"bind": "127.0.0.1:1", "tls": {
            "certificates": rows(authority), **(listener or {})}}},
        "pools": {"app": {"endpoints": ["127.0.0.1:9"],
                          "tls": {"verify": "none", **(pool or {})}}},
        "routes": [{"prefix": "/", "pool": "app"}]}))
    result = run("check", "--json", path)
    faults = [f for f in json.loads(result.stdout)["faults"] if f["level"] == "error"]
    text = "\n".join("%s: %s (%s) %s" % (f["code"], f["message"], f.get("note"), f.get("source"))
                     for f in faults)
    return result.returncode, text


@pytest.mark.parametrize("tls,says", [
    ({"groups": ["X25518"]}, ['does not know "X25518"', 'did you mean "X25519"?']),
    ({"groups": ["sect163k1"]}, ["known: X25519MLKEM768 X25519 P-256 P-384 P-521"]),
    ({"groups": ["prime256v1"]}, ['it is "P-256" here']),
    ({"groups": ["X25519", "X25519"]}, ["stands twice"]),
    ({"ciphers": ["ECDHE-RSA-AES128-GCM-SHA255"]},
     ['did you mean "ECDHE-RSA-AES128-GCM-SHA256"?']),
    ({"ciphers": ["AES128-SHA"]},
     ['does not know "AES128-SHA"', "known: ECDHE-ECDSA-AES128-GCM-SHA256 "]),
    ({"ciphers": ["TLS_AES_128_GCM_SHA256"]}, ["suites of TLS 1.3 are the library's"]),
])
def test_unknown_names(authority, work, tls, says):
    status, text = checked(authority, work, tls)
    assert status == 78, text
    for word in says:
        assert word in text, text


def test_what_the_library_lacks(authority, work):
    """X25519MLKEM768 is checked against the library that is linked, in front and in pools."""
    api = re.search(r"BoringSSL \(API (\d+)\)", run("version").stdout)
    lacking = api and int(api[1]) < 30
    for over in ({"listener": {"groups": ["X25519", "X25519MLKEM768"]}},
                 {"pool": {"groups": ["X25519MLKEM768", "X25519"]}}):
        status, text = checked(authority, work, **over)
        if lacking:
            assert status == 78 and "has no group X25519MLKEM768" in text, text
            assert "groups = [ " in text, "the line is shown: " + text
        else:
            assert status == 0, text
