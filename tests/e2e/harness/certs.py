"""Certificates for the tests: one throw-away CA, leaves of either signature algorithm."""
import datetime
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509 import ocsp
from cryptography.x509.oid import NameOID

PEM = serialization.Encoding.PEM
NOW = datetime.datetime.utcnow()


def new_key(kind):
    """kind: "ec", "p521", "ed25519", "rsa" of 2048 bits or "rsa1024" of as many."""
    if kind.startswith("rsa"):
        return rsa.generate_private_key(public_exponent=65537, key_size=int(kind[3:] or 2048))
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return ec.generate_private_key(ec.SECP521R1() if kind == "p521" else ec.SECP256R1())


def key_pem(key):
    return key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def san(name):
    """"ip:10.0.0.1" is an address, all else a DNS name."""
    if name.startswith("ip:"):
        return x509.IPAddress(ipaddress.ip_address(name[3:]))
    return x509.DNSName(name)


class Authority:
    """A CA in a directory; leaf() writes certificate and key files and returns their paths."""

    def __init__(self, directory):
        self.directory = directory
        self.key = new_key("ec")
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "weir test CA")])
        self.cert = self.sign(self.name, self.key.public_key(), None, 30)
        self.path = directory / "ca.pem"
        self.path.write_bytes(self.cert.public_bytes(PEM))
        self.serial = 0

    def sign(self, subject, public_key, names, days):
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name)
                   .public_key(public_key).serial_number(x509.random_serial_number())
                   .not_valid_before(NOW - datetime.timedelta(days=40))
                   .not_valid_after(NOW + datetime.timedelta(days=days))
                   .add_extension(x509.BasicConstraints(names is None, None), True))
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([san(name) for name in names]), False)
        return builder.sign(self.key, hashes.SHA256())

    def pem(self, names, kind="ec", days=20, label=None):
        """(certificate PEM, key PEM); label becomes the common name, the only one if there are no
        names."""
        key = new_key(kind)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label or names[0])])
        cert = self.sign(subject, key.public_key(), names, days)
        return cert.public_bytes(PEM), key_pem(key)

    def leaf(self, names, kind="ec", days=20, label=None, stem=None):
        self.serial += 1
        stem = stem or "leaf%d" % self.serial
        cert_path, key_path = self.directory / (stem + ".crt"), self.directory / (stem + ".key")
        cert, key = self.pem(names, kind, days, label)
        key_path.touch(mode=0o600)
        key_path.write_bytes(key)
        cert_path.write_bytes(cert)
        return {"cert": "file:%s" % cert_path, "key": "file:%s" % key_path}

    def staple(self, cert_pem, ends=86400, begins=-3600, status=ocsp.OCSPCertStatus.GOOD,
               algorithm=None, issuer=None):
        """An OCSP response in DER; ends and begins count in seconds from now, ends None: none."""
        now = datetime.datetime.utcnow()
        revoked = status == ocsp.OCSPCertStatus.REVOKED
        return ocsp.OCSPResponseBuilder().add_response(
            cert=x509.load_pem_x509_certificate(cert_pem), issuer=issuer or self.cert,
            algorithm=algorithm or hashes.SHA1(), cert_status=status,
            this_update=now + datetime.timedelta(seconds=begins),
            next_update=now + datetime.timedelta(seconds=ends) if ends is not None else None,
            revocation_time=now if revoked else None, revocation_reason=None,
        ).responder_id(ocsp.OCSPResponderEncoding.HASH, self.cert).sign(
            self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def client_context(self, minimum=None, maximum=None, alpn=None, ciphers=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.path)
        if minimum:
            context.minimum_version = minimum
        if maximum:
            context.maximum_version = maximum
        if alpn:
            context.set_alpn_protocols(alpn)
        if ciphers:
            context.set_ciphers(ciphers)
        return context


def common_name(sock):
    """The common name of the certificate that the server showed."""
    cert = x509.load_der_x509_certificate(sock.getpeercert(True))
    return cert.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


def key_type(sock):
    cert = x509.load_der_x509_certificate(sock.getpeercert(True))
    return "rsa" if isinstance(cert.public_key(), rsa.RSAPublicKey) else "ec"
