"""An endpoint that speaks HTTP/2 and does what it may not: a server over raw sockets, a thread for
each connection of weir. A path names what it does: act(conn, stream) sends what it likes when the
request's head is there. Requests for other paths are answered with 200 and the path.

What came of a connection stands in it afterwards: how much of a flood went out, the code of weir's
GOAWAY, that weir closed it.
"""
import socket
import threading

import hpack

from . import h2wire as h2
from . import proc
from .h2raw import take_frame

FLOOD_MOST = 64 << 20  # bytes; who takes so much bears it


def response(stream, fields=(), status="200", end=False):
    """HEADERS of an answer."""
    return h2.headers(stream, h2.block([(":status", status), *fields]), end)


class Conn:
    """One connection of weir's."""

    def __init__(self, endpoint, sock):
        self.endpoint, self.sock = endpoint, sock
        self.input, self.decoder = bytearray(), hpack.Decoder(max_header_list_size=1 << 20)
        self.block, self.block_of = b"", 0
        self.paths, self.resets, self.windows = {}, [], {}
        self.code, self.sent = None, 0
        self.over = threading.Event()

    def send(self, *parts):
        """False: weir does not take it any more."""
        try:
            data = b"".join(parts)
            self.sock.sendall(data)
            self.sent += len(data)
            return True
        except OSError:
            return False

    def flood(self, piece, times=200):
        """Sends piece again and again until the connection is gone. Reads as well, so that GOAWAY
        is seen."""
        data, went = piece * times, 0
        self.sock.settimeout(0.05)
        while went < FLOOD_MOST:
            try:
                went += self.sock.send(data[went % len(piece) :])
            except TimeoutError:
                pass
            except OSError:
                break
            if not self.read_some():
                break
        self.sent += went
        self.sock.settimeout(None)

    def read_some(self):
        """Takes what is there; False at the end."""
        self.sock.setblocking(False)
        try:
            data = self.sock.recv(1 << 18)
        except BlockingIOError:
            return True
        except OSError:
            return False
        finally:
            self.sock.settimeout(0.05)
        self.take(data)
        return bool(data)

    def run(self):
        """Until weir closes the connection."""
        try:
            self.preface()
            while data := self.sock.recv(1 << 18):
                self.take(data)
        except OSError:
            pass
        finally:
            self.over.set()
            self.sock.close()

    def preface(self):
        got = b""
        while len(got) < len(h2.PREFACE):
            part = self.sock.recv(len(h2.PREFACE) - len(got))
            if not part:
                raise OSError("no preface")
            got += part
        assert got == h2.PREFACE, got
        if self.endpoint.start is not None:
            self.send(self.endpoint.start)

    # ---- frames of weir's ----

    def take(self, data):
        self.input += data
        while (frame := take_frame(self.input)) is not None:
            self.frame(frame)

    def frame(self, f):
        if f.type == h2.SETTINGS and not f.flags & h2.ACK and not self.endpoint.silent:
            self.send(h2.SETTINGS_ACK)
        elif f.type == h2.GOAWAY:
            self.code = int.from_bytes(f.payload[4:8], "big")
        elif f.type == h2.RST_STREAM:
            self.resets.append((f.stream, int.from_bytes(f.payload, "big")))
        elif f.type == h2.WINDOW_UPDATE:
            more = int.from_bytes(f.payload, "big")
            self.windows[f.stream] = self.windows.get(f.stream, 0) + more
        elif f.type in (h2.HEADERS, h2.CONTINUATION):
            self.section(f)

    def section(self, f):
        self.block += f.payload
        if not f.flags & h2.END_HEADERS:
            return
        fields = dict(self.decoder.decode(self.block, raw=True))
        self.block = b""
        path = fields[b":path"].decode().partition("?")[0]
        self.paths[f.stream] = path
        self.endpoint.count(path)
        act = self.endpoint.acts.get(path)
        if act:
            act(self, f.stream)
        else:
            self.send(response(f.stream), h2.data(f.stream, path.encode(), True))


class Endpoint:
    """Listens at once. acts: path to act(conn, stream). start: what it begins with. silent: it
    acknowledges nothing."""

    def __init__(self, acts=None, start=h2.settings(), silent=False):
        self.acts, self.start, self.silent = acts or {}, start, silent
        self.conns, self.threads, self.asked = [], [], []
        self.sock = proc.listener(512)
        self.address = "127.0.0.1:%d" % self.sock.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conn = Conn(self, sock)
            self.conns.append(conn)
            self.threads.append(threading.Thread(target=conn.run, daemon=True))
            self.threads[-1].start()

    def count(self, path):
        self.asked.append(path)

    def stop(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for conn in self.conns:
            try:
                conn.sock.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        for thread in self.threads:
            thread.join(20)
