"""A raw client: sends the bytes it is given, parses strictly what comes back (wire.py).

One object is one connection, plain, TLS or unix. Every response must be valid; a truncated one is
an error unless the caller says that it expects one.
"""
import os
import socket
import ssl
import struct

from . import wire

GUARD = float(os.environ.get("WEIR_TEST_GUARD", 30))  # seconds until a hang is called a hang


def scaled(guard):
    """A longer or shorter guard of a test, in proportion to GUARD."""
    return guard * GUARD / 30


def connect(address, timeout=GUARD):
    """address: (host, port), "unix:/path" or a port of 127.0.0.1."""
    if isinstance(address, int):
        address = ("127.0.0.1", address)
    if isinstance(address, str):
        assert address.startswith("unix:"), address
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(timeout)
        sock.connect(address[5:])
        return sock
    sock = socket.create_connection(address, timeout)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock


class Client:
    def __init__(self, address, tls=None, sni=None, timeout=GUARD, session=None):
        self.sock = connect(address, timeout)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=sni, session=session)
        self.reader = wire.Reader(self.sock)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, data):
        self.sock.sendall(data)

    def try_send(self, data):
        """Sends as much as the other side takes; weir may have closed (a refusal mid-body)."""
        try:
            self.sock.sendall(data)
            return True
        except (ConnectionResetError, BrokenPipeError, ssl.SSLError):
            return False

    def response(self, method="GET", minor=1, truncated_ok=False):
        response = wire.read_response(self.reader, method, minor)
        assert response.complete or truncated_ok, "truncated: %r" % response
        return response

    def request(self, method="GET", target="/", fields=(), body=None, **kwargs):
        self.send(wire.request_bytes(method, target, fields, body, **kwargs))
        return self.response(method, kwargs.get("minor", 1))

    def get(self, target="/", fields=(), **kwargs):
        return self.request("GET", target, fields, **kwargs)

    def expect_close(self):
        """The server ends the connection and nothing more comes."""
        assert not self.reader.buf, "unread bytes: %r" % bytes(self.reader.buf[:200])
        try:
            more = self.reader.fill()
        except ssl.SSLError:
            return
        assert not more, "more bytes: %r" % bytes(self.reader.buf[:200])

    def read_all(self):
        """Everything until the end of the stream, unparsed."""
        while self.reader.fill():
            pass
        return bytes(self.reader.raw)

    def half_close(self):
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass
