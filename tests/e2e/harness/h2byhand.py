"""Endpoints that speak HTTP/2 frame by frame (h2wire), right or wrong, as a test tells them:
ByHand has a thread for each request; Acts does what it may not, by path, in the thread that reads,
and answers others with 200 and the path.

What came of a connection stands in it afterwards: how much of a flood went out, the code of weir's
GOAWAY, that weir closed it.
"""
import socket
import struct
import threading

import hpack

from . import h2wire as h2
from .h2endpoints import Endpoint
from .h2raw import take_frame
from .weir import eventually

OK = h2.block([(":status", "200")])
WINDOW = 65535
FLOOD_MOST = 64 << 20  # bytes; who takes so much bears it


def response(stream, fields=(), status="200", end=False):
    """HEADERS of an answer."""
    return h2.headers(stream, h2.block([(":status", status), *fields]), end)


class Connection:
    """One connection of weir's: what came on it, and sending."""

    def __init__(self, origin, sock):
        self.origin, self.sock = origin, sock
        self.decoder = hpack.Decoder(max_header_list_size=1 << 20)
        self.lock, self.opened = threading.Lock(), threading.Condition()
        self.input, self.block = bytearray(), b""
        self.streams, self.heads, self.resets, self.trailers = [], {}, [], {}
        self.goaway, self.body, self.pings = None, bytearray(), []
        self.first, self.window, self.windows = WINDOW, WINDOW, {}
        self.closed, self.over, self.sent = False, threading.Event(), 0
        self.secret = set()  # names of fields that came as never indexed
        self.rows = []  # of all heads: name, value, never indexed

    @property
    def code(self):
        """Of weir's GOAWAY; None: it did not come."""
        return self.goaway[0] if self.goaway else None

    # ---- sending ----

    def send(self, *parts):
        """False: weir does not take it any more."""
        data = b"".join(parts)
        with self.lock:
            try:
                self.sock.sendall(data)
                self.sent += len(data)
                return True
            except OSError:
                self.closed = True
                return False

    def cut(self):
        """Ends it where it has not ended yet."""
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass

    def head(self, stream, *fields, status=200, end=False):
        self.send(response(stream, fields, str(status), end))

    def give(self, stream, size, end=True):
        """Sends size bytes of DATA as far as windows allow; False: the stream is over."""
        while size:
            with self.opened:
                while min(self.window, self.windows[stream]) <= 0:
                    if self.closed or any(number == stream for number, _ in self.resets):
                        return False
                    self.opened.wait(0.1)
                part = min(size, 16384, self.window, self.windows[stream])
                self.window -= part
                self.windows[stream] -= part
            size -= part
            self.send(h2.data(stream, b"x" * part, end and size == 0))
        return True

    def flood(self, piece, times=200):
        """Sends piece again and again until the connection is gone. Reads as well, so that GOAWAY
        is seen: of Acts only."""
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

    # ---- what comes ----

    def run(self):
        """Until weir closes the connection."""
        try:
            self.preface()
            while data := self.sock.recv(1 << 18):
                self.take(data)
        finally:
            self.closed = True
            self.over.set()

    def preface(self):
        got = b""
        while len(got) < len(h2.PREFACE):
            part = self.sock.recv(len(h2.PREFACE) - len(got))
            if not part:
                raise OSError("no preface")
            got += part
        assert got == h2.PREFACE, got
        self.send(self.origin.start)

    def take(self, data):
        self.input += data
        while (frame := take_frame(self.input)) is not None:
            took = {h2.SETTINGS: self.on_settings, h2.PING: self.on_ping, h2.DATA: self.on_data,
                    h2.HEADERS: self.on_headers, h2.CONTINUATION: self.on_headers,
                    h2.RST_STREAM: self.on_reset, h2.GOAWAY: self.on_goaway,
                    h2.WINDOW_UPDATE: self.on_window}.get(frame.type)
            if took:
                took(frame)

    def on_settings(self, frame):
        if frame.flags & h2.ACK:
            return
        for at in range(0, len(frame.payload), 6):
            key, value = struct.unpack(">HI", frame.payload[at:at + 6])
            if key == h2.INITIAL_WINDOW_SIZE:
                self.first = value
        if self.origin.acks:
            self.send(h2.SETTINGS_ACK)

    def on_ping(self, frame):
        self.pings.append(bytes(frame.payload))
        if not frame.flags & h2.ACK and self.origin.pongs:
            self.send(h2.ping(frame.payload, ack=True))

    def on_headers(self, frame):
        self.block += frame.payload
        if not frame.flags & h2.END_HEADERS:
            return
        rows = self.decoder.decode(self.block, raw=False)
        self.secret |= {row[0] for row in rows if not row.indexable}
        self.rows += [(row[0], row[1], not row.indexable) for row in rows]
        fields = dict(rows)
        self.block = b""
        if frame.stream in self.heads:
            self.trailers[frame.stream] = fields
            return
        self.heads[frame.stream] = fields
        self.windows[frame.stream] = self.first
        self.streams.append(frame.stream)
        self.origin.begun(self, frame.stream, fields)

    def on_reset(self, frame):
        self.resets.append((frame.stream, struct.unpack(">I", frame.payload)[0]))

    def on_goaway(self, frame):
        self.goaway = (struct.unpack(">I", frame.payload[4:8])[0], bytes(frame.payload[8:]))

    def on_data(self, frame):
        self.body += frame.payload
        if self.origin.reads and frame.payload:
            self.send(h2.window_update(0, len(frame.payload)),
                      h2.window_update(frame.stream, len(frame.payload)))

    def on_window(self, frame):
        by = struct.unpack(">I", frame.payload)[0]
        with self.opened:
            if frame.stream:
                self.windows[frame.stream] = self.windows.get(frame.stream, self.first) + by
            else:
                self.window += by
            self.opened.notify_all()


class ByHand(Endpoint):
    """handler(conn, stream, head) is called for each request, in a thread of its own. settings:
    pairs to begin with, or start: the bytes. It acknowledges SETTINGS (acks), answers PINGs
    (pongs) and gives windows back (reads), unless told not to."""

    def __init__(self, handler, *settings, start=None, acks=True, pongs=True, reads=True):
        self.handler, self.acks, self.pongs, self.reads = handler, acks, pongs, reads
        self.start = h2.settings(*settings) if start is None else start
        super().__init__()

    def connection(self, sock):
        return Connection(self, sock)

    def serve(self, conn):
        conn.run()

    def begun(self, conn, stream, head):
        threading.Thread(target=self.handler, args=(conn, stream, head), daemon=True).start()

    def asked(self, path=None):
        """The heads that came, on whatever connection."""
        heads = [head for conn in list(self.conns) for head in list(conn.heads.values())]
        return [h for h in heads if path is None or h[":path"].partition("?")[0] == path]

    def wait_asked(self, count):
        eventually(lambda: len(self.asked()) >= count)


class Acts(ByHand):
    """acts: path to act(conn, stream), which floods and does not read otherwise."""

    def __init__(self, acts=None, start=None, silent=False):
        self.acts = acts or {}
        super().__init__(None, start=start, acks=not silent, pongs=False, reads=False)

    def begun(self, conn, stream, head):
        path = head[":path"].partition("?")[0]
        act = self.acts.get(path)
        if act:
            act(conn, stream)
        else:
            conn.send(response(stream), h2.data(stream, path.encode(), True))

    def stop(self):
        super().stop()
        for thread in self.threads:
            thread.join(20)


def proxy_for(weir, *origins, connections=None, **conf):
    """A weir of one worker, unless conf says else, with the origins as its pool."""
    pool = {"endpoints": ["127.0.0.1:%d" % origin.port for origin in origins],
            "connections": {"protocol": "h2c", **(connections or {})}, **conf.pop("pool", {})}
    return weir({"process": {"workers": 1}, "pools": {"app": pool},
                 "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                 "routes": [{"prefix": "/", "pool": "app"}], **conf})
