"""Shows of issue 5: public TLS scanners find nothing of MEDIUM or above. pytest -m slow, where
Debian's testssl.sh and sslscan are there (WEIR_SCANNERS=1 packaging/test.sh installs them)."""
import datetime
import json
import shutil
import subprocess

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, NameOID

from harness import certs, proc

pytestmark = pytest.mark.slow
NOBODY = "http://127.0.0.1:1/"  # where nobody asks; that a certificate can be revoked is judged
# What a web application says, which scanners look for too.
HEADERS = ["Strict-Transport-Security: max-age=31536000", "X-Frame-Options: DENY",
           "X-Content-Type-Options: nosniff", "Content-Security-Policy: default-src 'self'",
           "Referrer-Policy: no-referrer"]
BAD = ("MEDIUM", "HIGH", "CRITICAL", "FATAL")


def public_leaf(authority, directory, kind):
    """A certificate as public authorities make them: for 90 days, and revocable."""
    key = certs.new_key(kind)
    usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
    access = x509.AccessDescription(AuthorityInformationAccessOID.OCSP,
                                    x509.UniformResourceIdentifier(NOBODY + "ocsp"))
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(NOBODY + "crl")],
                                   None, None, None)
    builder = (x509.CertificateBuilder()
               .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]))
               .issuer_name(authority.name).public_key(key.public_key())
               .serial_number(x509.random_serial_number()).not_valid_before(certs.NOW)
               .not_valid_after(certs.NOW + datetime.timedelta(days=90)))
    for extension, critical in (
            (x509.BasicConstraints(False, None), True), (usage, True),
            (x509.SubjectAlternativeName([x509.DNSName("localhost")]), False),
            (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
            (x509.AuthorityInformationAccess([access]), False),
            (x509.CRLDistributionPoints([point]), False)):
        builder = builder.add_extension(extension, critical)
    cert, path = directory / (kind + ".crt"), directory / (kind + ".key")
    path.touch(mode=0o600)
    path.write_bytes(certs.key_pem(key))
    cert.write_bytes(builder.sign(authority.key, hashes.SHA256()).public_bytes(certs.PEM))
    return {"names": ["localhost"], "cert": "file:%s" % cert, "key": "file:%s" % path}


@pytest.fixture
def site(weir, work, authority):
    port = proc.free_port()
    rows = [dict(public_leaf(authority, work, "ec"), default=True),
            public_leaf(authority, work, "rsa")]
    weir({"listeners": {"web": {"bind": "127.0.0.1:%d" % port, "tls": {"certificates": rows}}},
          "routes": [{"prefix": "/", "respond": {"status": 200, "body": "ok",
                                                 "headers": HEADERS}}]})
    return "localhost:%d" % port


def scan(*command):
    if not shutil.which(command[0]):
        pytest.skip("%s is not here" % command[0])
    return subprocess.run(command, capture_output=True, timeout=900, check=False)


def test_testssl(site, work, authority):
    report = work / "testssl.json"
    scan("testssl", "--quiet", "--color", "0", "--warnings", "off", "--add-ca",
         str(authority.path), "--jsonfile", str(report), "--openssl", "/usr/bin/openssl", site)
    found = json.loads(report.read_text())
    severities = [row["severity"] for row in found]
    assert severities.count("OK") > 30, "it did not run to its end: %s" % severities
    assert not [row for row in found if row["severity"] in BAD]


def test_sslscan(site):
    text = scan("sslscan", "--no-colour", "--sni-name=localhost", site).stdout.decode()
    words = [line.split() for line in text.splitlines() if line.startswith(("SSLv", "TLSv"))]
    versions = {row[0]: row[1] for row in words if row[1:] in (["enabled"], ["disabled"])}
    assert versions == {"SSLv2": "disabled", "SSLv3": "disabled", "TLSv1.0": "disabled",
                        "TLSv1.1": "disabled", "TLSv1.2": "enabled", "TLSv1.3": "enabled"}
    suites = [line.split()[4] for line in text.splitlines()
              if line.startswith(("Accepted", "Preferred"))]
    assert len(suites) == 9, suites
    assert all("GCM" in name or "CHACHA20" in name for name in suites), suites
    assert "Session renegotiation not supported" in text
    assert "vulnerable" not in text.replace("not vulnerable", "")
