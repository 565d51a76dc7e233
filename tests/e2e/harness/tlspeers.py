"""TLS endpoints for weir: certificates of every kind, and a recording backend behind Python's ssl.

Mint makes roots, intermediates and leaves; TlsBackend is Backend (backend.py) over TLS: it notes
each handshake, and each that failed. TlsOrigin speaks what ALPN chose, and reads PROXY headers
before TLS.
"""
import datetime
import hashlib
import ipaddress
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from . import certs, proxyheader
from .backend import Backend
from .h2endpoints import Answer, Origin, Request, Script

DAY = datetime.timedelta(days=1)
PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


class Cert:
    """A certificate, its key and its files; chain are the PEMs that stand behind it."""

    def __init__(self, directory, stem, cert, key, issuer=None):
        self.cert, self.key, self.issuer = cert, key, issuer
        self.path, self.key_path = directory / (stem + ".crt"), directory / (stem + ".key")
        self.write()

    @property
    def pem(self):
        return self.cert.public_bytes(certs.PEM)

    def write(self, *behind):
        """behind are the other certificates of the file."""
        self.key_path.touch(mode=0o600)
        self.key_path.write_bytes(certs.key_pem(self.key))
        self.path.write_bytes(self.pem + b"".join(each.pem for each in behind))
        return self

    @property
    def pin(self):
        der = self.cert.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        return "sha256:" + hashlib.sha256(der).hexdigest()


def general(name):
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def subtree(name):
    if "/" in name:
        return x509.IPAddress(ipaddress.ip_network(name))
    return x509.DNSName(name)


class Mint:
    def __init__(self, directory):
        self.directory, self.count = directory, 0
        self.root = self.make("root", ca=True)

    def make(self, label, names=(), ca=False, issuer=None, days=(-10, 20), purpose="server",
             kind="ec", constraints=None, digest=hashes.SHA256, subject=None):
        """issuer None: signed by itself; days: validity from now on; constraints: of a CA, the
        names that it may give (permitted) and may not (excluded); digest: of the signature."""
        key = certs.new_key(kind)
        self.count += 1
        subject = subject or x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, label)])
        now = datetime.datetime.utcnow()
        builder = (x509.CertificateBuilder().subject_name(subject)
                   .issuer_name(issuer.cert.subject if issuer else subject)
                   .public_key(key.public_key()).serial_number(x509.random_serial_number())
                   .not_valid_before(now + days[0] * DAY).not_valid_after(now + days[1] * DAY)
                   .add_extension(x509.BasicConstraints(ca, None), True))
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([general(name) for name in names]), False)
        if constraints:
            parts = {key: [subtree(name) for name in names] for key, names in constraints.items()}
            builder = builder.add_extension(x509.NameConstraints(
                parts.get("permitted"), parts.get("excluded")), True)
        if not ca:
            builder = builder.add_extension(x509.ExtendedKeyUsage([PURPOSES[purpose]]), False)
        signer = issuer.key if issuer else key
        how = None if isinstance(signer, ed25519.Ed25519PrivateKey) else digest()
        cert = builder.sign(signer, how)
        stem = "%s-%d" % (label.replace(".", "-").replace("*", "any"), self.count)
        return Cert(self.directory, stem, cert, key, issuer)

    def leaf(self, *names, **kwargs):
        kwargs.setdefault("issuer", self.root)
        return self.make(kwargs.pop("label", "leaf"), names, **kwargs)


class Handshake:
    def __init__(self, sock, sni):
        self.version, self.cipher = sock.version(), sock.cipher()[0]
        self.alpn, self.resumed, self.sni = (sock.selected_alpn_protocol(), sock.session_reused,
                                             sni)
        der = sock.getpeercert(True)
        self.client = None
        if der:
            names = x509.load_der_x509_certificate(der).subject
            self.client = names.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value


class TlsBackend(Backend):
    """cert: what it shows; client_ca: what it asks clients for; change() exchanges them."""

    def __init__(self, cert, handler=None, *, client_ca=None, alpn=None, minimum=None,
                 maximum=None, tickets=True, before=None, ciphers=None, **kwargs):
        self.handshakes, self.refused = [], []
        self.settings = dict(alpn=alpn, minimum=minimum, maximum=maximum, tickets=tickets,
                             ciphers=ciphers)
        self.before = before  # called with the raw socket before the handshake
        self.names = {}
        self.change(cert, client_ca)
        super().__init__(handler, **kwargs)

    def change(self, cert, client_ca=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        settings = self.settings
        if settings["ciphers"]:
            context.set_ciphers(settings["ciphers"])
        context.load_cert_chain(cert.path, cert.key_path)
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca.path)
        if settings["alpn"]:
            context.set_alpn_protocols(settings["alpn"])
        if settings["minimum"]:
            context.minimum_version = settings["minimum"]
        if settings["maximum"]:
            context.maximum_version = settings["maximum"]
        if not settings["tickets"]:
            context.options |= ssl.OP_NO_TICKET
            context.num_tickets = 0
        context.sni_callback = self.on_sni
        self.context = context

    def on_sni(self, sock, name, _context):
        self.names[id(sock)] = name

    def serve(self, conn):
        try:
            if self.before and self.before(conn.sock):
                return
            conn.sock = self.context.wrap_socket(conn.sock, server_side=True,
                                                 suppress_ragged_eofs=True)
            conn.reader.sock = conn.sock
            shake = Handshake(conn.sock, self.names.get(id(conn.sock)))
        except (OSError, ssl.SSLError) as error:
            with self.lock:
                self.refused.append(str(error))
                self.lock.notify_all()
            conn.close()
            conn.ended.set()
            return
        with self.lock:
            self.handshakes.append(shake)
            self.lock.notify_all()
        super().serve(conn)

    def check_nothing_more(self, conn):
        if conn.reader.buf:
            self.violation(conn, "bytes after the request: %r" % bytes(conn.reader.buf[:120]))

    def full(self):
        """How many handshakes were no resumptions."""
        return sum(not each.resumed for each in self.handshakes)


class TlsOrigin(Origin):
    """Origin over TLS, for h2 and HTTP/1.1 as `alpn` allows; another choice is no choice, and it
    hangs up. headers: a PROXY header comes first on each connection, and is kept there.
    """

    def __init__(self, cert, answer=None, alpn=("h2", "http/1.1"), proxied=False, maximum=None,
                 client_ca=None):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(cert.path, cert.key_path)
        if maximum:
            self.context.maximum_version = maximum
        if client_ca:
            self.context.verify_mode = ssl.CERT_REQUIRED
            self.context.load_verify_locations(client_ca.path)
        if alpn:
            self.context.set_alpn_protocols(list(alpn))
        self.alpn, self.proxied = alpn, proxied
        self.headers, self.handshakes, self.refused = [], [], []
        super().__init__(answer)

    def serve(self, sock):
        if self.proxied:
            try:
                self.headers.append(proxyheader.read(lambda n: Script.exactly(sock, n)))
            except ConnectionError:
                return
            except (AssertionError, ValueError) as error:
                self.violations.append("not a PROXY header: %s" % error)
                return
        try:
            tls = self.context.wrap_socket(sock, server_side=True)
        except OSError as error:
            self.refused.append(str(error))
            return
        with tls:
            self.handshakes.append(Handshake(tls, None))
            if self.handshakes[-1].alpn == "h2":
                super().serve(tls)
            elif "http/1.1" in (self.alpn or ["http/1.1"]):
                self.serve_h1(tls)
            else:
                self.refused.append("ALPN")

    @staticmethod
    def head_of(tls):
        data = b""
        while not data.endswith(b"\r\n\r\n"):
            byte = tls.recv(1)
            if not byte:
                return None
            data += byte
        return data.decode("latin-1").split("\r\n")

    def serve_h1(self, tls):
        while True:
            lines = self.head_of(tls)
            if lines is None:
                return
            method, path, version = lines[0].split(" ")
            fields = [line.split(": ", 1) for line in lines[1:] if line]
            request = Request([(name.lower().encode(), text.encode("latin-1")) for name, text in
                               [(":method", method), (":path", path), *fields]])
            assert version == "HTTP/1.1", lines
            size = int(request.headers.get("content-length", "0"))
            request.body = Script.exactly(tls, size) if size else b""
            self.requests.append(request)
            answer = self.answer(request) or Answer()
            tls.sendall(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n"
                        % (answer.status, len(answer.body))
                        + (b"" if method == "HEAD" else answer.body))

    @property
    def spoken(self):
        return [shake.alpn for shake in self.handshakes]
