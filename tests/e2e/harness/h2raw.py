"""A raw HTTP/2 client: sends any bytes, reads frames through the strict check of h2check.py.

One object is one connection, h2c with prior knowledge or TLS with ALPN h2. It answers SETTINGS and
PING, and gives back window, unless told not to. What it waits for is a state, never a time: guard
only stops a hang. No threads; a test that wants two things at once uses two connections.
"""
import select
import socket
import ssl
import struct
import time

from . import client, h2check, h2wire as h2
from .client import GUARD

LINGER_RESET = struct.pack("ii", 1, 0)


class Conn:
    """settings: pairs of our SETTINGS. auto: answers SETTINGS and PING. credit: returns window."""

    def __init__(self, address, tls=None, sni="test.example", *, settings=(), start=True,
                 auto=True, credit=True, guard=GUARD, receive_buffer=None):
        self.sock = self.connect(address, guard, receive_buffer)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname=sni)
            assert self.sock.selected_alpn_protocol() == "h2", self.sock.selected_alpn_protocol()
        self.guard, self.auto, self.crediting = guard, auto, credit
        self.scheme = "http" if tls is None else "https"
        self.check = h2check.Check()
        self.input, self.output = bytearray(), bytearray()
        self.closed = None  # "eof" or "reset"
        self.broken = False  # what we send is not taken any more
        self.next_stream = 1
        self.preface_left = len(h2.PREFACE)
        if start:
            self.send(h2.PREFACE + h2.settings(*settings))

    @staticmethod
    def connect(address, guard, receive_buffer):
        if receive_buffer is None:
            return client.connect(address, guard)
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.settimeout(guard)
        sock.connect(("127.0.0.1", address) if isinstance(address, int) else address)
        return sock

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        try:
            self.sock.close()
        except OSError:
            pass

    def reset(self):
        """A TCP reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.sock.close()

    # ---- sending ----

    def send(self, *parts):
        """Sends bytes as they stand; the check learns the frames in them."""
        data = b"".join(parts)
        self.note(data)
        return self.write(data)

    def write(self, data):
        """Sends and forgets that it did. False: the server does not take it any more."""
        if self.broken:
            return False
        view, end = memoryview(data), time.monotonic() + self.guard
        while view:
            try:
                self.sock.settimeout(0)
                view = view[self.sock.send(view) :]
            except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
                assert time.monotonic() < end, "hang: the server reads nothing"
                self.wait_io(True, 0.2)
            except (OSError, ssl.SSLError):
                self.broken = True
                return False
        return True

    def offer(self, data):
        """Sends as much as fits now, reads nothing; how many bytes went. For floods."""
        if self.broken:
            return 0
        try:
            self.sock.settimeout(0)
            return self.sock.send(data)
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            return 0
        except (OSError, ssl.SSLError):
            self.broken = True
            return 0

    def wait_io(self, writing, seconds):
        """Until the socket has something, or room too when writing; not for what TLS holds."""
        if getattr(self.sock, "pending", lambda: 0)():
            return True
        ready = select.select([self.sock], [self.sock] if writing else [], [], seconds)
        if ready[0] and writing:
            self.read_some()
        return bool(ready[0])

    def note(self, data):
        """Parses what we send, as far as it is frames."""
        skip = min(self.preface_left, len(data))
        self.preface_left -= skip
        self.output += data[skip:]
        while (frame := take_frame(self.output)) is not None:
            self.check.sent_frame(frame._replace(stream=frame.stream & h2.WINDOW_MAX))

    # ---- receiving ----

    def read_some(self):
        """Reads once without waiting and takes each whole frame. False: nothing was there."""
        if self.closed:
            return False
        try:
            self.sock.settimeout(0)
            data = self.sock.recv(1 << 18)
        except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False
        except (ConnectionResetError, BrokenPipeError):
            self.closed = "reset"
            return True
        except (ssl.SSLError, OSError):
            self.closed = "eof"
            return True
        if not data:
            self.closed = "eof"
            return True
        self.input += data
        self.take_all()
        return True

    def take_all(self):
        answers = []
        while (frame := take_frame(self.input)) is not None:
            self.check.take(frame)
            answers.append(self.answer(frame))
        answers.append(self.give_back())
        data = b"".join(answers)
        if data and not self.closed:
            self.write_quietly(data)

    def write_quietly(self, data):
        """Answers: no deadlock when the server reads nothing meanwhile."""
        self.note(data)
        try:
            self.sock.settimeout(self.guard)
            self.sock.sendall(data)
        except (OSError, ssl.SSLError):
            self.broken = True

    def answer(self, frame):
        if not self.auto or frame.flags & h2.ACK:
            return b""
        if frame.type == h2.SETTINGS:
            return h2.SETTINGS_ACK
        return h2.ping(frame.payload, ack=True) if frame.type == h2.PING else b""

    def give_back(self):
        """Window for the DATA that came since."""
        if not self.crediting:
            return b""
        owed, total = {}, 0
        for frame in self.new_frames():
            if frame.type == h2.DATA and frame.payload:
                total += len(frame.payload)
                stream = self.check.streams[frame.stream]
                if not stream.over and not stream.cancelled:
                    owed[frame.stream] = owed.get(frame.stream, 0) + len(frame.payload)
        out = [h2.window_update(number, amount) for number, amount in owed.items()
               if not self.check.streams[number].over]
        return b"".join(out + ([h2.window_update(0, total)] if total else []))

    def new_frames(self):
        """Frames since the last call; what came before is kept only by stream and count."""
        fresh, self.check.frames = self.check.frames, []
        return fresh

    def pump(self, until, guard=None, what=None):
        """Reads until until() is true: then True; or until the connection is over: then its
        value."""
        end = time.monotonic() + (guard or self.guard)
        while not until():
            if self.closed:
                return bool(until())
            if not self.read_some():
                assert time.monotonic() < end, "hang: %s; %s" % (what or until.__doc__ or until,
                                                                self.state())
                self.wait_io(False, 0.2)
        return True

    def drain(self):
        """Takes what is there and does not wait."""
        while self.read_some():
            pass

    def state(self):
        check = self.check
        streams = {n: (s.response.status, s.response.payload.length, "ended" if s.ended else "",
                       s.reset) for n, s in list(check.streams.items())[-8:]}
        return "closed %s, goaways %s, streams %s, settings %d, pongs %d" % (
            self.closed, check.goaways, streams, check.settings_seen, check.pongs)

    # ---- requests ----

    def handshake(self):
        """SETTINGS came and ours are acknowledged."""
        ok = self.pump(lambda: self.check.settings_seen and not self.check.pending,
                       what="SETTINGS and its ACK")
        assert ok, "no handshake: %s" % self.state()
        return self

    def new_stream(self, method="GET"):
        number = self.next_stream
        self.next_stream += 2
        self.check.methods[number] = method
        return number

    def stream(self, number):
        return self.check.streams[number]

    def open(self, method="GET", path="/case", fields=(), end=True, authority="test.example"):
        """Sends a request head; the stream's number."""
        number = self.new_stream(method)
        pairs = h2.pseudo(method, path, self.scheme, authority) + list(fields)
        self.send(h2.split_headers(number, h2.block(pairs), self.sizes(pairs), end))
        return number

    @staticmethod
    def sizes(pairs):
        total = len(h2.block(pairs))
        return [h2.FRAME_MIN] * ((total - 1) // h2.FRAME_MIN)

    def data(self, number, body, end=True, size=h2.FRAME_MIN):
        """Sends a body within the server's windows; False when the stream was over before."""
        view = memoryview(body)
        stream, check = self.stream(number), self.check
        while view or end:
            limit = size
            if view:
                self.pump(lambda: stream.over or min(stream.send_window, check.send_window) > 0,
                          what="window for %d bytes" % len(view))
                limit = min(size, stream.send_window, check.send_window)
            if stream.over or self.closed or self.broken:
                return False
            part, view = view[:limit], view[limit:]
            last = end and not view
            self.send(h2.data(number, bytes(part), last))
            end = end and not last
        return True

    def trailers(self, number, fields):
        self.send(h2.headers(number, h2.block(fields)))

    def wait(self, number):
        """The whole response of a stream."""
        stream = self.stream(number)
        self.pump(lambda: stream.over, what="response on stream %d" % number)
        assert stream.ended, "stream %d: reset %s; %s" % (number, stream.reset, self.state())
        return stream.response

    def wait_head(self, number):
        stream = self.stream(number)
        self.pump(lambda: stream.over or stream.response.status is not None,
                  what="head on stream %d" % number)
        assert stream.response.status is not None, self.state()
        return stream.response

    def request(self, method="GET", path="/case", fields=(), body=None, trailers=None):
        """One request to its end."""
        number = self.open(method, path, fields, end=body is None and trailers is None)
        if body is not None:
            self.data(number, body, end=trailers is None)
        if trailers is not None:
            self.trailers(number, trailers)
        return self.wait(number)

    def get(self, path="/case", fields=()):
        return self.request("GET", path, fields)

    def ping(self, payload=b"weirtest"):
        """Sends a PING; True when its answer came, False when the connection ended before."""
        before = self.check.pongs
        self.send(h2.ping(payload))
        return self.pump(lambda: self.check.pongs > before, what="PING ACK")

    # ---- what must come ----

    @property
    def error(self):
        """(last stream, code, text) of a GOAWAY with an error, or None."""
        return next((g for g in self.check.goaways if g[1]), None)

    def expect_closed(self):
        self.pump(lambda: self.closed, what="end of the connection")

    def expect_connection_error(self, *codes, goaway=True):
        """GOAWAY with one of codes, then the end. goaway False: the end alone will do."""
        self.expect_closed()
        if self.error is None:
            assert not goaway, "closed without GOAWAY of an error: %s" % self.state()
            return None
        assert self.error[1] in codes, "GOAWAY %s, wanted %s" % (
            h2.code_name(self.error[1]), " or ".join(map(h2.code_name, codes)))
        return self.error

    def expect_stream_error(self, number, *codes, goaway=True):
        """RST_STREAM with one of codes; or the same as an error of the connection."""
        def reset():
            return getattr(self.check.streams.get(number), "reset", None)

        self.pump(lambda: reset() is not None or self.error or self.closed,
                  what="RST_STREAM of stream %d" % number)
        if reset() is None:
            return self.expect_connection_error(*codes, goaway=goaway)
        assert reset() in codes, "RST_STREAM %s, wanted %s" % (
            h2.code_name(reset()), " or ".join(map(h2.code_name, codes)))
        return reset()

    def expect_alive(self):
        """The connection is in order: a PING is answered and nothing was refused."""
        assert self.ping(), "the connection ended: %s" % self.state()
        assert self.error is None, self.state()


def take_frame(buffer):
    """Removes the first whole frame of buffer, or None. The reserved bit stays in the number."""
    if len(buffer) < 9:
        return None
    size = int.from_bytes(buffer[:3], "big")
    if len(buffer) < 9 + size:
        return None
    kind, flags, stream = struct.unpack_from(">BBI", buffer, 3)
    frame = h2.Frame(kind, flags, stream, bytes(buffer[9 : 9 + size]))
    del buffer[: 9 + size]
    return frame
