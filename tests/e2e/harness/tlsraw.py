"""One side of a TLS connection whose records a test can spoil: Python's ssl over memory, and the
socket beside it. SClient is an OpenSSL that renegotiates, which Python's cannot.
"""
import os
import ssl
import subprocess

from . import proc

# What no peer may send once the handshake is done, and the alert that tells it so.
FAULTS = {
    "bad mac": b"\x17\x03\x03\x00\x20" + b"z" * 32,
    "type 99": b"\x63\x03\x03\x00\x01x",
    "oversize": b"\x17\x03\x03\xff\xff" + b"y" * 70000,
    "plain alert": b"\x15\x03\x03\x00\x02\x02\x28",
    "plain handshake": b"\x16\x03\x03\x00\x04\x00\x00\x00\x00",
    "plain http": b"GET / HTTP/1.1\r\n\r\n",
}


class Raw:
    """Shakes hands at once. send() and read() are of data; spoil() puts bytes on the wire."""

    def __init__(self, sock, context, sni=None):
        self.sock, server = sock, sni is None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=server,
                                    server_hostname=sni)
        self.turn(self.tls.do_handshake)
        self.flush()

    def flush(self):
        data = self.outgoing.read()
        if data:
            self.sock.sendall(data)

    def turn(self, call):
        while True:
            try:
                return call()
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise ConnectionError("the peer ended the connection") from None
                self.incoming.write(data)

    def send(self, data):
        self.tls.write(data)
        self.flush()

    sendall = send

    def recv(self, count):
        return self.turn(lambda: self.tls.read(count))

    def read(self, until):
        """Data up to and with `until`."""
        got = b""
        while until not in got:
            got += self.turn(lambda: self.tls.read(65536))
        return got

    def spoil(self, data):
        self.sock.sendall(data)

    def alert(self):
        """Sends a fatal alert in a proper record: bad_record_mac, as if weir had sent nonsense."""
        self.incoming.write(FAULTS["bad mac"])
        try:
            while True:
                self.tls.read(65536)
        except ssl.SSLError as error:
            assert "DECRYPTION_FAILED" in error.reason or "BAD_RECORD" in error.reason, error
        self.flush()

    def told(self):
        """How the peer ended it: its alert, "close_notify", "fin" or "reset"."""
        try:
            while self.turn(lambda: self.tls.read(65536)):
                pass
            return "close_notify"
        except ssl.SSLZeroReturnError:
            return "close_notify"
        except ssl.SSLError as error:
            return error.reason
        except ConnectionResetError:
            return "reset"
        except ConnectionError:
            return "fin"


class SClient:
    """openssl s_client of TLS 1.2 whose input stays open: R renegotiates."""

    def __init__(self, port, name, authority):
        self.process = subprocess.Popen(
            ["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-servername", name,
             "-tls1_2", "-CAfile", str(authority.path)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            preexec_fn=proc.die_with_parent)
        self.out = b""
        self.until(b"Extended master secret")

    def until(self, text):
        while text not in self.out:
            data = os.read(self.process.stdout.fileno(), 65536)
            assert data, self.out[-2000:]
            self.out += data

    def type(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def rest(self):
        out, _ = self.process.communicate(timeout=60)
        return (self.out + out).decode("utf-8", "replace")
