"""OCSP stapling: what a client that asks is shown, when it no longer is, what becomes of a file
that changes, and what `weir check` says of a bad one. Responses are made by `openssl ocsp` and by
cryptography. RFC 6960, RFC 6066 section 8."""
import datetime
import pathlib
import re
import subprocess
import time

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509 import ocsp

from harness import certs, confgen, proc
from harness.weir import eventually, run

DER = certs.serialization.Encoding.DER


def path_of(secret):
    return pathlib.Path(secret[5:])


class Responder:
    """Responses about leaves of a CA, as bytes."""

    def __init__(self, authority):
        self.authority = authority

    def cert(self, leaf):
        return x509.load_pem_x509_certificate(path_of(leaf["cert"]).read_bytes())

    def openssl(self, leaf, work):
        """By `openssl ocsp` from an index, as a CA of one's own would do it."""
        key, index = work / "ca.key", work / "index.txt"
        key.write_bytes(certs.key_pem(self.authority.key))
        cert = self.cert(leaf)
        index.write_text("V\t%s\t\t%X\tunknown\t/CN=a\n" % (
            cert.not_valid_after.strftime("%y%m%d%H%M%SZ"), cert.serial_number))
        ca = str(self.authority.path)
        subprocess.run(
            ["openssl", "ocsp", "-index", str(index), "-CA", ca, "-rsigner", ca, "-rkey", str(key),
             "-issuer", ca, "-cert", leaf["cert"][5:], "-ndays", "2", "-no_nonce", "-respout",
             str(work / "made.der")], check=True, capture_output=True, timeout=60)
        return (work / "made.der").read_bytes()

    def make(self, leaf, ends=86400, **kwargs):
        return self.authority.staple(path_of(leaf["cert"]).read_bytes(), ends, **kwargs)


@pytest.fixture
def responder(authority):
    return Responder(authority)


def put(path, data):
    """Replaced at once, as a job that renews responses does it."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(data)
    fresh.replace(path)
    return "file:%s" % path


class Front:
    def __init__(self, weir, backend, authority, leaf, ocsp_file):
        self.authority, self.port = authority, proc.free_port()
        self.weir = weir({"listeners": {"tls": {
            "bind": "127.0.0.1:%d" % self.port,
            "tls": {"certificates": [dict(names=["a.example"], ocsp=ocsp_file, **leaf)]}}}},
                         backend)

    def status(self, *args):
        """What openssl s_client -status prints of the staple."""
        result = subprocess.run(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % self.port, "-servername",
             "a.example", "-CAfile", str(self.authority.path), "-status", *args],
            input=b"", capture_output=True, timeout=60, check=False)
        text = (result.stdout + result.stderr).decode("utf-8", "replace")
        assert "Verify return code: 0" in text, text
        return text

    def counted(self, result):
        return self.weir.metric("weir_tls_ocsp_total", result=result)


GOOD, NONE = "OCSP Response Status: successful (0x0)", "OCSP response: no response sent"


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_stapled(weir, backend, authority, responder, work, version):
    """The response that `openssl ocsp` made comes with the certificate, for those that ask."""
    leaf = authority.leaf(["a.example"])
    made = put(work / "a.ocsp", responder.openssl(leaf, work))
    front = Front(weir, backend, authority, leaf, made)
    text = front.status(version)
    assert GOOD in text and "Cert Status: good" in text, text
    serial = "%X" % responder.cert(leaf).serial_number
    assert re.search("Serial Number: 0?%s" % serial, text), text
    eventually(lambda: front.counted("stapled") == 1)
    ends = front.weir.metric("weir_tls_ocsp_expiry_seconds", listener="tls")
    assert 86400 < ends - time.time() < 3 * 86400
    context = authority.client_context()
    with front.weir.client(front.port, tls=context, sni="a.example") as conn:
        assert conn.get("/x", host="a.example").status == 200
    assert front.counted("stapled") == 1, "who does not ask is shown none"


def test_refreshed(weir, backend, authority, responder, work):
    """A changed file is stapled without a reload; one that is no good leaves the old one."""
    leaf = authority.leaf(["a.example"])
    path = work / "a.ocsp"
    front = Front(weir, backend, authority, leaf, put(path, responder.make(leaf, begins=-7200)))
    before = re.search("This Update: .*", front.status())[0]
    put(path, responder.make(leaf, begins=-60))
    eventually(lambda: front.weir.metric("weir_certificate_updates_total", result="ok") == 1)
    after = re.search("This Update: .*", front.status())[0]
    assert before != after
    other = authority.leaf(["a.example"])
    put(path, responder.make(other))
    eventually(lambda: front.weir.metric("weir_certificate_updates_total", result="refused") == 1)
    front.weir.stderr_has("a.ocsp: it is about another certificate")
    assert after in front.status()
    assert front.weir.generation() == 1


def test_one_that_holds_stays(weir, backend, authority, responder, work):
    """A file that brings one that has ended does not take it away; the next good one does. With a
    certificate of its own it is taken, for the old one is not about that."""
    ends, begins = -60, -7200
    leaf = authority.leaf(["a.example"])
    path = work / "a.ocsp"
    front = Front(weir, backend, authority, leaf, put(path, responder.make(leaf, begins=-7100)))
    before = re.search("This Update: .*", front.status())[0]
    put(path, responder.make(leaf, ends, begins=begins))
    eventually(lambda: front.weir.metric("weir_certificate_updates_total", result="refused") == 1)
    front.weir.stderr_has("a.ocsp has ended: the one before, which has not, stays")
    assert before in front.status()
    assert front.weir.metric("weir_certificate_files_refused") == 1
    put(path, responder.make(leaf, begins=-60))
    eventually(lambda: front.weir.metric("weir_certificate_updates_total", result="ok") == 1)
    assert before not in front.status() and GOOD in front.status()
    front.weir.stderr_has("a.ocsp is good again")
    other = authority.leaf(["a.example"])
    put(path, responder.make(other, ends, begins=begins))
    put(path_of(leaf["cert"]), path_of(other["cert"]).read_bytes())
    put(path_of(leaf["key"]), path_of(other["key"]).read_bytes())
    eventually(lambda: front.weir.metric("weir_certificate_updates_total", result="ok") == 2)
    assert NONE in front.status()


def test_one_that_is_to_come(weir, backend, authority, responder, work):
    """A clock that is a little behind: it is taken, and stapled from its beginning on."""
    leaf = authority.leaf(["a.example"])
    path = work / "a.ocsp"
    front = Front(weir, backend, authority, leaf, put(path, responder.make(leaf, begins=-7100)))
    before = re.search("This Update: .*", front.status())[0]
    put(path, responder.make(leaf, begins=5))
    eventually(lambda: front.weir.metric("weir_certificate_updates_total", result="ok") == 1)
    eventually(lambda: GOOD in front.status() and before not in front.status())


def test_ends_while_weir_runs(weir, backend, authority, responder, work):
    """From the moment it ends it is stapled no more, which is logged once and counted."""
    leaf = authority.leaf(["a.example"])
    ends = time.time() + 6
    front = Front(weir, backend, authority, leaf, put(work / "a.ocsp", responder.make(leaf, 6)))
    text = front.status()
    assert GOOD in text or time.time() > ends - 1, text
    eventually(lambda: NONE in front.status())
    assert time.time() > ends - 1
    eventually(lambda: front.counted("expired") >= 1)
    front.weir.stderr_has("has ended and is not stapled; put a new one there")
    front.weir.change(routes=[{"name": "all", "prefix": "/", "pool": "app"},
                              {"path": "/more", "respond": {"status": 200}}])
    front.weir.reload()
    put(work / "a.ocsp", responder.make(leaf))
    eventually(lambda: GOOD in front.status())
    assert front.weir.errors.count("has ended and is not stapled; put") == 1


def test_expired_at_the_start(weir, backend, authority, responder, work):
    """It does not stop a start: it is not stapled, and that is said."""
    leaf = authority.leaf(["a.example"])
    front = Front(weir, backend, authority, leaf, put(work / "a.ocsp", responder.make(leaf, -60)))
    assert NONE in front.status()
    eventually(lambda: front.counted("expired") == 1)
    front.weir.stderr_has("has ended")


def test_not_with_a_resumed_session(weir, backend, authority, responder, work):
    """Who resumes is shown no certificate, so nothing is counted."""
    leaf = authority.leaf(["a.example"])
    front = Front(weir, backend, authority, leaf, put(work / "a.ocsp", responder.make(leaf)))
    session = str(work / "session")
    front.status("-tls1_2", "-sess_out", session)
    assert "Reused" in front.status("-tls1_2", "-sess_in", session)
    eventually(lambda: front.weir.metric("weir_tls_handshakes_total", resumed="true") == 1)
    assert front.counted("stapled") == 1


def checked(work, leaf, ocsp_file):
    path = work / "check.conf"
    path.write_text(confgen.body({
        "listeners": {"tls": {"bind": "127.0.0.1:1",
                              "tls": {"certificates": [dict(ocsp=ocsp_file, **leaf)]}}},
        "pools": {"app": {"endpoints": ["127.0.0.1:9"]}},
        "routes": [{"prefix": "/", "pool": "app"}]}))
    result = run("check", path)
    return result.returncode, result.stdout + result.stderr


def test_check(authority, responder, work):
    """What is wrong with a response, with its file named and its line shown."""
    leaf, other = authority.leaf(["a.example"]), authority.leaf(["a.example"])
    directory = work / "other"
    directory.mkdir()
    stranger = certs.Authority(directory)
    good = responder.make(leaf)
    tries = [
        (good, 0, None), (responder.make(leaf, algorithm=hashes.SHA256()), 0, None),
        (responder.make(other), 78, "it is about another certificate"),
        (responder.make(leaf, status=ocsp.OCSPCertStatus.REVOKED), 78, "was revoked"),
        (responder.make(leaf, status=ocsp.OCSPCertStatus.UNKNOWN), 78, "does not know it"),
        (responder.make(leaf, ends=None), 78, "nextUpdate"),
        (responder.make(leaf, ends=-60), 0, "W0480"),
        (responder.make(leaf, begins=3600), 0, "is not valid yet"),
        (good[:-1], 78, "no OCSP response in DER"), (good + b"x", 78, "no OCSP response in DER"),
        (b"-----BEGIN", 78, "no OCSP response in DER"),
        (ocsp.OCSPResponseBuilder.build_unsuccessful(
            ocsp.OCSPResponseStatus.TRY_LATER).public_bytes(DER), 78, "try later"),
    ]
    for number, (data, status, says) in enumerate(tries):
        made = put(work / ("r%d.ocsp" % number), data)
        code, text = checked(work, leaf, made)
        assert code == status, (number, text)
        assert not says or (says in text and "r%d.ocsp" % number in text), (number, text)
    chain = path_of(leaf["cert"])
    chain.write_bytes(chain.read_bytes() + authority.cert.public_bytes(certs.PEM))
    assert checked(work, leaf, put(work / "chain.ocsp", good))[0] == 0
    forged = responder.make(leaf, issuer=x509.CertificateBuilder().subject_name(
        authority.name).issuer_name(authority.name).public_key(stranger.key.public_key())
        .serial_number(1).not_valid_before(certs.NOW).not_valid_after(
            certs.NOW + datetime.timedelta(days=1)).sign(stranger.key, hashes.SHA256()))
    code, text = checked(work, leaf, put(work / "forged.ocsp", forged))
    assert code == 78 and "another certificate" in text, "the issuer has another key: " + text


def test_every_broken_byte(authority, responder, work):
    """A response cut anywhere is refused with a sentence, never more."""
    leaf = authority.leaf(["a.example"])
    good = responder.make(leaf)
    for size in range(1, len(good), 97):
        code, text = checked(work, leaf, put(work / "cut.ocsp", good[:size]))
        assert code == 78 and "no OCSP response in DER" in text, (size, text)
