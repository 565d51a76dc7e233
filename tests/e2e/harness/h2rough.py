"""An HTTP/2 endpoint by prior knowledge that does what a test tells it, right or wrong: a handler
per request, in a thread of its own, sends frames by hand (h2wire)."""
import socket
import struct
import threading

import hpack

from harness import h2wire as h2, proc
from harness.h2raw import take_frame
from harness.weir import eventually

OK = h2.block([(":status", "200")])
WINDOW = 65535


class Connection:
    """One connection of weir's: what came on it, and sending."""

    def __init__(self, origin, sock):
        self.origin, self.sock, self.decoder = origin, sock, hpack.Decoder()
        self.lock, self.opened = threading.Lock(), threading.Condition()
        self.streams, self.heads, self.resets, self.trailers = [], {}, [], {}
        self.goaway, self.closed, self.body, self.pings = None, False, bytearray(), []
        self.first, self.window, self.windows = WINDOW, WINDOW, {}

    def send(self, *parts):
        with self.lock:
            try:
                self.sock.sendall(b"".join(parts))
            except OSError:
                self.closed = True

    def cut(self):
        self.sock.shutdown(socket.SHUT_RDWR)

    def head(self, stream, *fields, status=200, end=False):
        self.send(h2.headers(stream, h2.block([(":status", str(status)), *fields]), end=end))

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

    def run(self):
        came = bytearray()
        try:
            while len(came) < len(h2.PREFACE):
                came += self.some()
            del came[:len(h2.PREFACE)]
            if self.origin.settings is not None:
                self.send(h2.settings(*self.origin.settings))
            while True:
                while (frame := take_frame(came)) is not None:
                    self.take(frame)
                came += self.some()
        except OSError:
            pass
        self.closed = True

    def some(self):
        came = self.sock.recv(65536)
        if not came:
            raise OSError("closed")
        return came

    def take(self, frame):
        took = {h2.SETTINGS: self.on_settings, h2.PING: self.on_ping, h2.HEADERS: self.on_headers,
                h2.RST_STREAM: self.on_reset, h2.GOAWAY: self.on_goaway, h2.DATA: self.on_data,
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
        self.send(h2.SETTINGS_ACK)

    def on_ping(self, frame):
        self.pings.append(bytes(frame.payload))
        if not frame.flags & h2.ACK and self.origin.pongs:
            self.send(h2.ping(frame.payload, ack=True))

    def on_headers(self, frame):
        fields = dict(self.decoder.decode(bytes(frame.payload), raw=False))
        if frame.stream in self.heads:
            self.trailers[frame.stream] = fields
            return
        self.heads[frame.stream] = fields
        self.windows[frame.stream] = self.first
        self.streams.append(frame.stream)
        threading.Thread(target=self.origin.handler, args=(self, frame.stream, fields),
                         daemon=True).start()

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


class Origin:
    """settings: pairs to begin with; None: it never sends SETTINGS."""

    def __init__(self, handler, *settings, pongs=True, reads=True, silent=False):
        self.handler, self.settings, self.conns = handler, None if silent else settings, []
        self.pongs, self.reads = pongs, reads
        self.sock = proc.listener(512)
        self.port = self.sock.getsockname()[1]
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            sock, _ = self.sock.accept()
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.conns.append(Connection(self, sock))
            threading.Thread(target=self.conns[-1].run, daemon=True).start()

    def asked(self):
        return [head for conn in self.conns for head in conn.heads.values()]

    def wait_asked(self, count):
        eventually(lambda: len(self.asked()) >= count)


def proxy_for(weir, *origins, connections=None, **conf):
    """A weir of one worker, unless conf says else, with the origins as its pool."""
    pool = {"endpoints": ["127.0.0.1:%d" % origin.port for origin in origins],
            "connections": {"protocol": "h2c", **(connections or {})}, **conf.pop("pool", {})}
    return weir({"process": {"workers": 1}, "pools": {"app": pool},
                 "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                 "routes": [{"prefix": "/", "pool": "app"}], **conf})
