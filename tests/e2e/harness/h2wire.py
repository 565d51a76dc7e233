"""HTTP/2 frames and HPACK fields as bytes, as wrong as a test wants (RFC 9113, RFC 7541).

What it does: builds. What it does not: know a connection's state (h2raw.py) or judge (h2check.py).
Field lines are literals without indexing unless a test asks for something else, so that a row of
frames means the same at any place of a connection.
"""
import struct
import typing

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY = range(8)
WINDOW_UPDATE, CONTINUATION, PRIORITY_UPDATE = 8, 9, 16
TYPES = {0: "DATA", 1: "HEADERS", 2: "PRIORITY", 3: "RST_STREAM", 4: "SETTINGS", 5: "PUSH_PROMISE",
         6: "PING", 7: "GOAWAY", 8: "WINDOW_UPDATE", 9: "CONTINUATION", 16: "PRIORITY_UPDATE"}

END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY_FLAG = 1, 1, 4, 8, 32

(NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR, FLOW_CONTROL_ERROR, SETTINGS_TIMEOUT, STREAM_CLOSED,
 FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL, COMPRESSION_ERROR, CONNECT_ERROR, ENHANCE_YOUR_CALM,
 INADEQUATE_SECURITY, HTTP_1_1_REQUIRED) = range(14)
CODES = ("NO_ERROR PROTOCOL_ERROR INTERNAL_ERROR FLOW_CONTROL_ERROR SETTINGS_TIMEOUT "
         "STREAM_CLOSED FRAME_SIZE_ERROR REFUSED_STREAM CANCEL COMPRESSION_ERROR CONNECT_ERROR "
         "ENHANCE_YOUR_CALM INADEQUATE_SECURITY HTTP_1_1_REQUIRED").split()

(HEADER_TABLE_SIZE, ENABLE_PUSH, MAX_CONCURRENT_STREAMS, INITIAL_WINDOW_SIZE, MAX_FRAME_SIZE,
 MAX_HEADER_LIST_SIZE) = range(1, 7)
ENABLE_CONNECT_PROTOCOL, NO_RFC7540_PRIORITIES = 8, 9

WINDOW_MAX = (1 << 31) - 1
FRAME_MIN, FRAME_MAX = 1 << 14, (1 << 24) - 1
WINDOW_DEFAULT = 65535


class Frame(typing.NamedTuple):
    type: int
    flags: int
    stream: int
    payload: bytes

    def __repr__(self):
        return "<%s flags=%#x stream=%d %d bytes %r>" % (
            TYPES.get(self.type, self.type), self.flags, self.stream, len(self.payload),
            bytes(self.payload[:40]))


def code_name(code):
    return CODES[code] if code < len(CODES) else "%#x" % code


# ---- frames ----

def frame(kind, flags=0, stream=0, payload=b"", length=None, reserved=0):
    """Any frame; length, when given, is what its header says against the truth."""
    size = len(payload) if length is None else length
    return struct.pack(">I", size)[1:] + struct.pack(
        ">BBI", kind, flags, stream | reserved << 31) + payload


def padded(payload, pad):
    return payload if pad is None else bytes([pad]) + payload + bytes(pad)


def data(stream, payload=b"", end=False, pad=None, flags=0):
    flags |= (END_STREAM if end else 0) | (0 if pad is None else PADDED)
    return frame(DATA, flags, stream, padded(payload, pad))


def dependency(on=0, weight=16, exclusive=False):
    return struct.pack(">IB", on | exclusive << 31, weight - 1)


def headers(stream, block, end=True, end_headers=True, priority=None, pad=None, flags=0):
    """A HEADERS frame around a block as it stands."""
    flags |= (END_STREAM if end else 0) | (END_HEADERS if end_headers else 0)
    flags |= (0 if pad is None else PADDED) | (0 if priority is None else PRIORITY_FLAG)
    return frame(HEADERS, flags, stream, padded((priority or b"") + block, pad))


def continuation(stream, block=b"", end_headers=True):
    return frame(CONTINUATION, END_HEADERS if end_headers else 0, stream, block)


def split_headers(stream, block, sizes, end=True):
    """HEADERS and CONTINUATIONs: a frame per size, the last takes what is left."""
    parts, at = [], 0
    for size in sizes:
        parts.append(block[at : at + size])
        at += size
    parts.append(block[at:])
    frames = [headers(stream, parts[0], end, end_headers=len(parts) == 1)]
    for number, part in enumerate(parts[1:], 2):
        frames.append(continuation(stream, part, number == len(parts)))
    return b"".join(frames)


def settings(*pairs):
    """pairs: (identifier, value)."""
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *pair) for pair in pairs))


SETTINGS_ACK = frame(SETTINGS, ACK)


def ping(payload=b"weirtest", ack=False):
    return frame(PING, ACK if ack else 0, 0, payload)


def goaway(last=0, code=NO_ERROR, debug=b"", stream=0):
    return frame(GOAWAY, 0, stream, struct.pack(">II", last, code) + debug)


def window_update(stream, increment):
    return frame(WINDOW_UPDATE, 0, stream, struct.pack(">I", increment))


def rst_stream(stream, code=CANCEL):
    return frame(RST_STREAM, 0, stream, struct.pack(">I", code))


def priority(stream, on=0, weight=16, exclusive=False):
    return frame(PRIORITY, 0, stream, dependency(on, weight, exclusive))


def priority_update(stream, value=b"u=3", on=0):
    """RFC 9218 section 7.1: on stream 0, naming a stream."""
    return frame(PRIORITY_UPDATE, 0, on, struct.pack(">I", stream) + value)


def push_promise(stream, promised, block):
    return frame(PUSH_PROMISE, END_HEADERS, stream, struct.pack(">I", promised) + block)


# ---- HPACK ----

def integer(value, bits, first=0):
    """RFC 7541 section 5.1: value in a prefix of bits under the pattern first."""
    top = (1 << bits) - 1
    if value < top:
        return bytes([first | value])
    out, value = [first | top], value - top
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out + [value])


def text(value):
    """A string literal without Huffman coding."""
    value = value if isinstance(value, bytes) else value.encode("latin-1")
    return integer(len(value), 7) + value


def literal(name, value):
    """Literal without indexing, new name."""
    return b"\x00" + text(name) + text(value)


def incremental(name, value):
    """Literal that enters the dynamic table, new name."""
    return b"\x40" + text(name) + text(value)


def indexed(index):
    return integer(index, 7, 0x80)


def table_size(size):
    """Dynamic table size update."""
    return integer(size, 5, 0x20)


def block(fields):
    """pairs, in order, as literals."""
    return b"".join(literal(name, value) for name, value in fields)


def pseudo(method="GET", path="/case", scheme="http", authority="test.example"):
    """The four pseudo-fields of a request; None leaves one out."""
    named = ((":method", method), (":scheme", scheme), (":authority", authority), (":path", path))
    return [(name, value) for name, value in named if value is not None]


def request(fields=(), **over):
    """The block of a good request, further fields behind."""
    return block(pseudo(**over) + list(fields))
