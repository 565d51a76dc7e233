"""A TLS 1.3 client that goes as far as the server's certificate and says how it came: plain or
compressed (RFC 8879), with or without a staple. For what no client library of the tests can. One
suite (TLS_AES_128_GCM_SHA256), one group (X25519); verifies nothing. RFC 8446."""
import os
import socket
import zlib

from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from . import client

RAW = (serialization.Encoding.Raw, serialization.PublicFormat.Raw)
SERVER_HELLO, CERTIFICATE, COMPRESSED_CERTIFICATE = 2, 11, 25
ZLIB, BROTLI = 1, 2


def digest(data):
    value = hashes.Hash(hashes.SHA256())
    value.update(data)
    return value.finalize()


def extract(salt, secret):
    value = hmac.HMAC(salt, hashes.SHA256())
    value.update(secret)
    return value.finalize()


def expand(secret, label, context, length):
    label = b"tls13 " + label
    info = length.to_bytes(2, "big") + block(label, 1) + block(context, 1)
    return HKDFExpand(hashes.SHA256(), length, info).derive(secret)


def block(data, size=2):
    return len(data).to_bytes(size, "big") + data


def extension(kind, data):
    return kind.to_bytes(2, "big") + block(data)


def client_hello(name, share, ways, staple):
    extensions = [
        extension(0, block(b"\0" + block(name.encode()))), extension(10, block(b"\0\x1d")),
        extension(13, block(bytes.fromhex("040308040401"))), extension(43, b"\2\3\4"),
        extension(51, block(b"\0\x1d" + block(share)))]
    if ways:
        extensions.append(extension(27, block(b"".join(w.to_bytes(2, "big") for w in ways), 1)))
    if staple:
        extensions.append(extension(5, b"\1\0\0\0\0"))
    body = (b"\3\3" + os.urandom(32) + b"\0" + block(b"\x13\x01") + b"\1\0"
            + block(b"".join(extensions)))
    return b"\1" + block(body, 3)


class Records:
    """The server's handshake messages, decrypted once there is a key."""

    def __init__(self, sock):
        self.sock, self.key, self.sequence, self.rest = sock, None, 0, b""

    def exactly(self, count):
        data = b""
        while len(data) < count:
            part = self.sock.recv(count - len(data))
            assert part, "the server closed"
            data += part
        return data

    def record(self):
        head = self.exactly(5)
        body = self.exactly(int.from_bytes(head[3:], "big"))
        if head[0] != 23:
            assert head[0] in (20, 22), "alert %r" % body
            return body if head[0] == 22 else b""
        nonce = (int.from_bytes(self.iv, "big") ^ self.sequence).to_bytes(12, "big")
        self.sequence += 1
        plain = AESGCM(self.key).decrypt(nonce, body, head).rstrip(b"\0")
        assert plain[-1] == 22, "no handshake message"
        return plain[:-1]

    def protect(self, secret):
        self.key, self.iv = expand(secret, b"key", b"", 16), expand(secret, b"iv", b"", 12)

    def message(self):
        """(kind, body, whole)"""
        while len(self.rest) < 4 or len(self.rest) < 4 + int.from_bytes(self.rest[1:4], "big"):
            self.rest += self.record()
        size = 4 + int.from_bytes(self.rest[1:4], "big")
        whole, self.rest = self.rest[:size], self.rest[size:]
        return whole[0], whole[4:], whole


def share_of(hello):
    at = 2 + 32 + 1 + hello[34] + 3 + 2
    while at < len(hello):
        kind, size = (int.from_bytes(hello[at + k:at + k + 2], "big") for k in (0, 2))
        if kind == 51:
            return hello[at + 8:at + 4 + size]
        at += 4 + size
    raise AssertionError("no key share")


class Shown:
    """What the server showed: way (None: plain), sizes, certificates in DER, the leaf's staple."""

    def __init__(self, way, size, message):
        self.way, self.size, self.plain = way, size, len(message)
        self.certificates, self.staple = [], None
        at, end = 4, 4 + int.from_bytes(message[1:4], "big")
        assert message[0] == 0 and end == len(message)
        while at < end:
            size = int.from_bytes(message[at:at + 3], "big")
            self.certificates.append(message[at + 3:at + 3 + size])
            at += 3 + size
            size = int.from_bytes(message[at:at + 2], "big")
            if size and len(self.certificates) == 1:
                assert message[at + 2:at + 4] == b"\0\5"
                self.staple = message[at + 10:at + 2 + size]
            at += 2 + size


def unpacked(body):
    """Shown of a CompressedCertificate by zlib; of one by brotli only way and sizes."""
    way, plain = int.from_bytes(body[:2], "big"), int.from_bytes(body[2:5], "big")
    packed = body[8:]
    assert len(packed) == int.from_bytes(body[5:8], "big")
    if way == ZLIB:
        message = zlib.decompress(packed)
        assert len(message) == plain
        return Shown(way, len(packed), message)
    shown = Shown.__new__(Shown)
    shown.way, shown.size, shown.plain = way, len(packed), plain
    return shown


def certificate(port, name, ways=(), staple=False):
    """Shown, of a handshake with 127.0.0.1:port."""
    key = X25519PrivateKey.generate()
    hello = client_hello(name, key.public_key().public_bytes(*RAW), ways, staple)
    with socket.create_connection(("127.0.0.1", port), client.scaled(client.GUARD)) as sock:
        sock.sendall(b"\x16\3\1" + block(hello))
        records = Records(sock)
        kind, body, whole = records.message()
        assert kind == SERVER_HELLO
        shared = key.exchange(X25519PublicKey.from_public_bytes(share_of(body)))
        derived = expand(extract(bytes(32), bytes(32)), b"derived", digest(b""), 32)
        secret = extract(derived, shared)
        records.protect(expand(secret, b"s hs traffic", digest(hello + whole), 32))
        while kind not in (CERTIFICATE, COMPRESSED_CERTIFICATE):
            kind, body, _ = records.message()
        return unpacked(body) if kind == COMPRESSED_CERTIFICATE else Shown(None, len(body), body)
