"""A strict check of everything that an HTTP/2 server sends (RFC 9113, RFC 7541, RFC 9110).

What it does: takes the frames of one connection in order, keeps the state that they must respect
and raises Violation at the first that does not; gathers what came by stream. It is told what the
client sent (sent_frame), as rights and windows depend on that. What it does not: read, write or
wait; h2raw.py does.
"""
import re
import struct

import hpack

from . import h2wire as h2
from .wire import Body, Violation

NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+\Z")
VALUE = re.compile(rb"([!-~\x80-\xff]([\t -~\x80-\xff]*[!-~\x80-\xff])?)?\Z")
CONNECTION_FIELDS = (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding",
                     b"upgrade", b"te")
FLAGS = {h2.DATA: 0x9, h2.HEADERS: 0x2D, h2.PRIORITY: 0, h2.RST_STREAM: 0, h2.SETTINGS: 1,
         h2.PING: 1, h2.GOAWAY: 0, h2.WINDOW_UPDATE: 0, h2.CONTINUATION: 4}
SIZES = {h2.PRIORITY: 5, h2.RST_STREAM: 4, h2.PING: 8, h2.WINDOW_UPDATE: 4}


def need(condition, text, *args):
    if not condition:
        raise Violation(text % args)


class Message:
    """A response. status is None until the head is there."""

    def __init__(self, method):
        self.method = method
        self.status, self.fields, self.trailers = None, [], []
        self.interim = []
        self.payload = Body()

    def all(self, name):
        want = name.encode()
        return [value.decode("latin-1") for key, value in self.fields if key == want]

    def get(self, name):
        found = self.all(name)
        assert len(found) <= 1, "%s stands %d times: %r" % (name, len(found), found)
        return found[0] if found else None

    @property
    def body(self):
        return self.payload.data

    def __repr__(self):
        return "<%s %s %r %r>" % (self.method, self.status, self.fields,
                                  bytes(self.payload.kept[:200]))


class Stream:
    """What the server sent on one of our streams, and what it may still send."""

    def __init__(self, number, window, send_window, method="GET"):
        self.number, self.window, self.send_window = number, window, send_window
        self.response = Message(method)
        self.ended = False  # END_STREAM came
        self.reset = None  # the code of the server's RST_STREAM
        self.cancelled = False  # we sent RST_STREAM
        self.data_frames = 0

    @property
    def over(self):
        return self.ended or self.reset is not None


class Check:
    """The server's side of a connection. frames has everything in order."""

    def __init__(self):
        self.frames, self.streams = [], {}
        self.settings = {h2.HEADER_TABLE_SIZE: 4096, h2.INITIAL_WINDOW_SIZE: h2.WINDOW_DEFAULT,
                         h2.MAX_FRAME_SIZE: h2.FRAME_MIN}
        self.settings_seen = 0
        self.ours = dict(self.settings)  # what the server has acknowledged
        self.pending = []  # what it has not
        self.window, self.send_window = h2.WINDOW_DEFAULT, h2.WINDOW_DEFAULT
        self.decoder = hpack.Decoder(max_header_list_size=1 << 24)
        self.block, self.block_head = None, None
        self.secret = set()  # names of fields that came as never indexed
        self.pings, self.pongs = [], 0
        self.goaways = []
        self.methods = {}
        self.named = set()  # by our PRIORITY: such a stream may be refused before it is opened

    # ---- what we sent ----

    def sent_frame(self, frame):
        if frame.type == h2.SETTINGS and not frame.flags & h2.ACK:
            pairs = [struct.unpack_from(">HI", frame.payload, at)
                     for at in range(0, len(frame.payload) - 5, 6)]
            self.pending.append(dict(pairs))
        elif frame.type == h2.HEADERS and frame.stream not in self.streams:
            self.streams[frame.stream] = Stream(
                frame.stream, self.ours[h2.INITIAL_WINDOW_SIZE],
                self.settings[h2.INITIAL_WINDOW_SIZE], self.methods.get(frame.stream, "GET"))
        elif frame.type == h2.DATA:
            self.send_window -= len(frame.payload)
            if frame.stream in self.streams:
                self.streams[frame.stream].send_window -= len(frame.payload)
        elif frame.type == h2.WINDOW_UPDATE and len(frame.payload) == 4:
            self.credit(frame.stream, struct.unpack(">I", frame.payload)[0] & h2.WINDOW_MAX)
        elif frame.type == h2.RST_STREAM and frame.stream in self.streams:
            self.streams[frame.stream].cancelled = True
        elif frame.type == h2.PRIORITY:
            self.named.add(frame.stream)
        elif frame.type == h2.PING and not frame.flags & h2.ACK:
            self.pings.append(frame.payload)

    def credit(self, stream, amount):
        if not stream:
            self.window += amount
        elif stream in self.streams:
            self.streams[stream].window += amount

    # ---- what came ----

    def take(self, frame):
        self.frames.append(frame)
        need(self.settings_seen or (frame.type == h2.SETTINGS and not frame.flags & h2.ACK),
             "the first frame is no SETTINGS: %r", frame)
        need(len(frame.payload) <= self.may(h2.MAX_FRAME_SIZE), "frame too large: %r", frame)
        need(frame.type in FLAGS, "frame type that nobody asked for: %r", frame)
        need(not frame.flags & ~FLAGS[frame.type], "undefined flags: %r", frame)
        need(frame.stream < 1 << 31, "reserved bit: %r", frame)
        need(frame.type not in SIZES or len(frame.payload) == SIZES[frame.type],
             "frame size: %r", frame)
        need((self.block is None) == (frame.type != h2.CONTINUATION),
             "header block is not contiguous: %r", frame)
        if frame.stream and frame.type != h2.PRIORITY:
            self.check_stream(frame)
        getattr(self, "on_%s" % h2.TYPES[frame.type].lower())(frame)

    def may(self, setting):
        """The largest value that the server may go by: acknowledged or on the way."""
        return max([self.ours[setting]] + [p[setting] for p in self.pending if setting in p])

    def check_stream(self, frame):
        stream = self.streams.get(frame.stream)
        if stream is None and frame.type == h2.RST_STREAM and frame.stream in self.named:
            stream = self.streams[frame.stream] = Stream(frame.stream, 0, 0)
        need(stream is not None, "stream was not opened: %r", frame)
        need(stream.reset is None or frame.type == h2.RST_STREAM, "frame after RST_STREAM: %r",
             frame)
        need(not stream.ended or frame.type in (h2.WINDOW_UPDATE, h2.RST_STREAM)
             or self.block is not None, "frame after END_STREAM: %r", frame)

    def unpad(self, frame):
        if not frame.flags & h2.PADDED:
            return frame.payload
        need(frame.payload and frame.payload[0] < len(frame.payload), "padding: %r", frame)
        end = len(frame.payload) - frame.payload[0]
        need(not any(frame.payload[end:]), "padding is not zero: %r", frame)
        return frame.payload[1:end]

    def on_data(self, frame):
        need(frame.stream, "DATA on stream 0")
        stream, size = self.streams[frame.stream], len(frame.payload)
        self.window -= size
        stream.window -= size
        stream.data_frames += 1
        need(self.window >= 0 or not size, "connection window exceeded by %d", -self.window)
        spare = self.may(h2.INITIAL_WINDOW_SIZE) - self.ours[h2.INITIAL_WINDOW_SIZE]
        need(stream.window + spare >= 0 or not size, "stream window exceeded by %d",
             -stream.window)
        need(stream.response.status is not None, "DATA before the head")
        if size and not stream.cancelled:
            need(stream.response.method != "HEAD" and stream.response.status not in (204, 304),
                 "a body where none may be: %r", stream.response)
        stream.response.payload.add(self.unpad(frame))
        if frame.flags & h2.END_STREAM:
            self.end(stream)

    def on_headers(self, frame):
        need(frame.stream, "HEADERS on stream 0")
        payload = self.unpad(frame)
        if frame.flags & h2.PRIORITY_FLAG:
            payload = payload[5:]
        self.block, self.block_head = bytearray(payload), frame
        self.block_done(frame)

    def on_continuation(self, frame):
        need(frame.stream == self.block_head.stream, "CONTINUATION of another stream")
        self.block += frame.payload
        self.block_done(frame)

    def block_done(self, frame):
        if not frame.flags & h2.END_HEADERS:
            return
        whole, head = bytes(self.block), self.block_head
        self.block = self.block_head = None
        try:
            pairs = self.decoder.decode(whole, raw=True)
            self.secret |= {row[0].decode("latin-1") for row in pairs if not row.indexable}
        except hpack.HPACKError as error:
            raise Violation("HPACK: %s in %r" % (error, whole[:200])) from error
        fields = [(bytes(name), bytes(value)) for name, value in pairs]
        stream = self.streams[head.stream]
        self.section(stream, fields, bool(head.flags & h2.END_STREAM))

    def section(self, stream, fields, end):
        response = stream.response
        for name, value in fields:
            need(NAME.match(name.removeprefix(b":")), "field name %r", name)
            need(VALUE.match(value), "value of %r: %r", name, value)
            need(name not in CONNECTION_FIELDS, "connection-specific field %r", name)
        if response.status is not None:
            need(end, "trailers without END_STREAM")
            need(not any(name.startswith(b":") for name, _ in fields), "pseudo-field in trailers")
            response.trailers = fields
            return self.end(stream)
        need(fields and fields[0][0] == b":status", "no :status first: %r", fields)
        need(not any(name.startswith(b":") for name, _ in fields[1:]), "pseudo-fields: %r", fields)
        need(re.match(rb"[1-9][0-9][0-9]\Z", fields[0][1]), ":status %r", fields[0][1])
        status = int(fields[0][1])
        need(status != 101, "101 in HTTP/2")
        if status < 200:
            need(not end, "1xx with END_STREAM")
            need(not [1 for name, _ in fields if name == b"content-length"], "1xx with a length")
            response.interim.append((status, fields[1:]))
            return None
        response.status, response.fields = status, fields[1:]
        lengths = response.all("content-length")
        need(len(lengths) <= 1 and all(re.match(r"[0-9]{1,19}\Z", n) for n in lengths),
             "content-length: %r", lengths)
        need(not lengths or status != 204, "204 with a length")
        return self.end(stream) if end else None

    def end(self, stream):
        stream.ended = True
        response = stream.response
        lengths = response.all("content-length")
        if lengths and response.method != "HEAD" and response.status != 304:
            need(int(lengths[0]) == response.payload.length, "content-length %s, %d bytes of DATA",
                 lengths[0], response.payload.length)

    def on_priority(self, frame):
        need(False, "PRIORITY from a server: %r", frame)

    def on_rst_stream(self, frame):
        need(frame.stream, "RST_STREAM on stream 0")
        self.streams[frame.stream].reset = struct.unpack(">I", frame.payload)[0]

    def on_settings(self, frame):
        need(not frame.stream and len(frame.payload) % 6 == 0, "SETTINGS: %r", frame)
        if frame.flags & h2.ACK:
            need(not frame.payload, "SETTINGS ACK with a payload")
            need(self.pending, "SETTINGS ACK that nobody waits for")
            return self.acknowledged(self.pending.pop(0))
        for at in range(0, len(frame.payload), 6):
            self.setting(*struct.unpack_from(">HI", frame.payload, at))
        self.settings_seen += 1
        return None

    def acknowledged(self, values):
        delta = values.get(h2.INITIAL_WINDOW_SIZE, self.ours[h2.INITIAL_WINDOW_SIZE])
        delta -= self.ours[h2.INITIAL_WINDOW_SIZE]
        for stream in self.streams.values():
            stream.window += delta
        self.ours.update(values)
        self.decoder.max_allowed_table_size = self.ours[h2.HEADER_TABLE_SIZE]

    def setting(self, name, value):
        need(name != h2.ENABLE_PUSH or value == 0, "ENABLE_PUSH %d from a server", value)
        need(name != h2.INITIAL_WINDOW_SIZE or value <= h2.WINDOW_MAX, "window %d", value)
        need(name != h2.MAX_FRAME_SIZE or h2.FRAME_MIN <= value <= h2.FRAME_MAX,
             "MAX_FRAME_SIZE %d", value)
        need(name not in (h2.ENABLE_CONNECT_PROTOCOL, h2.NO_RFC7540_PRIORITIES) or value <= 1,
             "setting %d = %d", name, value)
        if name == h2.INITIAL_WINDOW_SIZE:
            for stream in self.streams.values():
                stream.send_window += value - self.settings[name]
        self.settings[name] = value

    def on_ping(self, frame):
        need(not frame.stream, "PING on a stream")
        if frame.flags & h2.ACK:
            need(frame.payload in self.pings, "PING ACK that nobody waits for: %r", frame)
            self.pings.remove(frame.payload)
            self.pongs += 1

    def on_goaway(self, frame):
        need(not frame.stream and len(frame.payload) >= 8, "GOAWAY: %r", frame)
        last, code = struct.unpack_from(">II", frame.payload)
        need(last < 1 << 31, "reserved bit of GOAWAY")
        need(last % 2 or not last, "GOAWAY names a stream that is not ours: %d", last)
        need(not self.goaways or last <= self.goaways[-1][0], "the last stream of GOAWAY grows")
        self.goaways.append((last, code, bytes(frame.payload[8:])))

    def on_window_update(self, frame):
        amount = struct.unpack(">I", frame.payload)[0]
        need(0 < amount <= h2.WINDOW_MAX, "WINDOW_UPDATE of %d", amount)
        if frame.stream:
            stream = self.streams[frame.stream]
            stream.send_window += amount
            need(stream.send_window <= h2.WINDOW_MAX, "stream window above 2^31-1")
        else:
            self.send_window += amount
            need(self.send_window <= h2.WINDOW_MAX, "connection window above 2^31-1")
