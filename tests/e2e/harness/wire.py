"""HTTP/1.1 on the wire, read strictly (RFC 9112, RFC 9110 section 5 and 6).

What it does: parses messages off a socket and raises Violation at the first byte that the grammar
does not allow, for what weir sends to either side. What it does not: repair, guess, or accept what
is merely common. The backend (backend.py) and the client (client.py) are built on it.
"""
import re
import zlib

TOKEN = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")
TARGET = re.compile(rb"(/[!-~]*|\*)\Z")
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) ([\t -~\x80-\xff]*)\Z")
VALUE = re.compile(rb"([!-~\x80-\xff]([\t -~\x80-\xff]*[!-~\x80-\xff])?)?\Z")
LINE_MAX = 1 << 20
BODY_KEEP = 4 << 20


class Violation(Exception):
    """The peer sent bytes that are not valid HTTP/1.1."""


class Truncated(Exception):
    """The peer closed inside a message."""


class Body:
    """Bytes of a body: counted and summed always, kept up to BODY_KEEP."""

    def __init__(self):
        self.length = 0
        self.crc = 0
        self.kept = bytearray()

    def add(self, data):
        self.length += len(data)
        self.crc = zlib.crc32(data, self.crc)
        if len(self.kept) < BODY_KEEP:
            self.kept += data[: BODY_KEEP - len(self.kept)]

    @property
    def data(self):
        assert self.length <= BODY_KEEP, "body too large to be kept: compare length and crc"
        return bytes(self.kept)


class Reader:
    """Buffered bytes of one connection. raw keeps the first BODY_KEEP bytes as they came."""

    def __init__(self, sock):
        self.sock = sock
        self.buf = bytearray()
        self.raw = bytearray()
        self.total = 0
        self.eof = False
        self.reset = False

    def fill(self):
        """Reads once; False at the end of the stream (reset tells how)."""
        if self.eof:
            return False
        try:
            data = self.sock.recv(262144)
        except (ConnectionResetError, BrokenPipeError):
            data, self.reset = b"", True
        if not data:
            self.eof = True
            return False
        self.total += len(data)
        if len(self.raw) < BODY_KEEP:
            self.raw += data[: BODY_KEEP - len(self.raw)]
        self.buf += data
        return True

    def line(self):
        """One line without its CRLF; a bare CR or LF is a violation."""
        start = 0
        while True:
            at = self.buf.find(b"\n", start)
            if at >= 0:
                break
            start = len(self.buf)
            if start > LINE_MAX:
                raise Violation("line longer than %d bytes" % LINE_MAX)
            if not self.fill():
                raise Truncated("end of stream in a line: %r" % bytes(self.buf[-80:]))
        text = bytes(self.buf[:at])
        del self.buf[: at + 1]
        if not text.endswith(b"\r") or b"\r" in text[:-1]:
            raise Violation("line does not end in CR LF alone: %r" % text[-80:])
        return text[:-1]

    def exactly(self, count, body):
        """Moves count bytes into body."""
        while count:
            if not self.buf and not self.fill():
                raise Truncated("%d bytes short" % count)
            part = bytes(self.buf[:count])
            del self.buf[: len(part)]
            body.add(part)
            count -= len(part)

    def until_eof(self, body):
        while self.buf or self.fill():
            body.add(bytes(self.buf))
            self.buf.clear()
        if self.reset:
            raise Truncated("reset")


def parse_fields(reader):
    """A field section up to its empty line: [(name, value)]."""
    fields = []
    while True:
        line = reader.line()
        if not line:
            return fields
        name, colon, value = line.partition(b":")
        if not colon or not TOKEN.match(name):
            raise Violation("field name: %r" % line[:120])
        value = value.strip(b" \t")
        if not VALUE.match(value):
            raise Violation("field value: %r" % line[:120])
        fields.append((name, value))


def values(fields, name):
    """All values of a field, in order; name is lower-case str."""
    want = name.encode()
    return [value for key, value in fields if key.lower() == want]


def framing(fields):
    """("chunked", None), ("length", n) or ("none", None); both or anything odd is a violation."""
    coding, length = values(fields, "transfer-encoding"), values(fields, "content-length")
    if coding and length:
        raise Violation("both Transfer-Encoding and Content-Length")
    if coding:
        if len(coding) != 1 or coding[0].lower() != b"chunked":
            raise Violation("Transfer-Encoding: %r" % coding)
        return "chunked", None
    if length:
        if len(length) != 1 or not re.match(rb"[0-9]{1,19}\Z", length[0]):
            raise Violation("Content-Length: %r" % length)
        return "length", int(length[0])
    return "none", None


NOT_IN_TRAILERS = [
    "host", "content-length", "transfer-encoding", "connection", "upgrade", "te", "trailer", "via",
    "keep-alive", "authorization", "cookie", "set-cookie", "content-type", "content-encoding",
    "content-range", "cache-control", "expect", "range", "date", "forwarded", "x-forwarded-for",
    "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "proxy-authorization", "location"]


def check_trailers(fields):
    """What frames, routes, authenticates or speaks for the proxy has no place there (RFC 9110
    6.5.1)."""
    for name in NOT_IN_TRAILERS:
        if values([(key.replace(b"_", b"-"), value) for key, value in fields], name):
            raise Violation("trailer field: %s" % name)


def read_chunked(reader, body, on_chunk=None):
    """A chunked body (RFC 9112 7.1); gives its trailers. weir drops extensions, and trailers that
    may not stand there, so these are violations."""
    while True:
        line = reader.line()
        if not re.match(rb"[0-9a-fA-F]{1,16}\Z", line):
            raise Violation("chunk line: %r" % line[:80])
        size = int(line, 16)
        if not size:
            break
        if on_chunk:
            on_chunk(size)
        reader.exactly(size, body)
        if reader.line():
            raise Violation("no CR LF after the chunk data")
    trailers = parse_fields(reader)
    check_trailers(trailers)
    return trailers


class Request:
    """A request as the backend got it."""

    def __init__(self, method, target, fields):
        self.method, self.target, self.fields = method, target, fields
        self.framing, self.length = framing(fields)
        self.body = Body()
        self.trailers = []
        self.complete = self.framing == "none" or self.length == 0
        self.raw_head = b""
        self.connection = 0

    def get(self, name):
        """The one value of a field as str, or None; more than one is an error of the test."""
        found = values(self.fields, name)
        assert len(found) <= 1, "%s stands %d times: %r" % (name, len(found), found)
        return found[0].decode("latin-1") if found else None

    def all(self, name):
        return [value.decode("latin-1") for value in values(self.fields, name)]

    @property
    def path(self):
        return self.target.split(b"?")[0].decode("latin-1")


def parse_request(reader):
    """A request head as weir may send it upstream. None when the stream ended before it."""
    if not reader.buf and not reader.fill():
        return None
    before = reader.total - len(reader.buf)
    parts = reader.line().split(b" ")
    if len(parts) != 3 or not TOKEN.match(parts[0]) or not TARGET.match(parts[1]):
        raise Violation("request line: %r" % parts)
    if parts[2] != b"HTTP/1.1":
        raise Violation("version: %r" % parts[2])
    fields = parse_fields(reader)
    request = Request(parts[0].decode(), parts[1], fields)
    if len(values(fields, "host")) != 1:
        raise Violation("Host stands %d times" % len(values(fields, "host")))
    check_hop_by_hop(fields)
    request.raw_head = bytes(reader.raw[before : reader.total - len(reader.buf)])
    return request


def check_hop_by_hop(fields):
    """What must never pass a proxy (RFC 9110 7.6.1); Connection may say what weir itself means."""
    for name in ("keep-alive", "proxy-connection", "http2-settings",
                 "proxy-authenticate", "proxy-authentication-info"):
        if values(fields, name):
            raise Violation("hop-by-hop field was forwarded: %s" % name)
    if values(fields, "trailer") and framing(fields)[0] != "chunked":
        raise Violation("Trailer where no trailer section can be")
    options = {item.strip().lower() for value in values(fields, "connection")
               for item in value.split(b",")}
    if options - {b"close", b"upgrade", b"keep-alive", b"te"}:
        raise Violation("Connection: %r" % options)
    if values(fields, "te") != ([b"trailers"] if b"te" in options else []):
        raise Violation("TE and Connection do not agree")
    if bool(values(fields, "upgrade")) != (b"upgrade" in options):
        raise Violation("Upgrade and Connection do not agree")


def read_request_body(reader, request):
    if request.framing == "chunked":
        request.trailers = read_chunked(reader, request.body)
    elif request.length:
        reader.exactly(request.length - request.body.length, request.body)
    request.complete = True


class Response:
    """A response as a client got it. complete is False when the stream ended inside it."""

    def __init__(self, status, reason, fields):
        self.status, self.reason, self.fields = status, reason, fields
        self.interim = []
        self.payload = Body()
        self.framing = "none"
        self.complete = False
        self.chunks = []
        self.trailers = []

    get = Request.get
    all = Request.all

    @property
    def body(self):
        return self.payload.data

    def __repr__(self):
        return "<Response %d %r %r>" % (self.status, self.fields, bytes(self.payload.kept[:200]))


def parse_response_head(reader):
    line = reader.line()
    match = STATUS_LINE.match(line)
    if not match:
        raise Violation("status line: %r" % line[:120])
    return Response(int(match[1]), match[2].decode("latin-1"), parse_fields(reader))


def response_framing(response, method, minor):
    """RFC 9112 6.3 and what a server may not send (RFC 9110 8.6, RFC 9112 6.1)."""
    kind, length = framing(response.fields)
    status = response.status
    if status < 200 or status == 204:
        if kind != "none":
            raise Violation("%d with %s" % (status, kind))
        return "none", None
    if kind == "chunked" and minor == 0:
        raise Violation("Transfer-Encoding to an HTTP/1.0 client")
    if method == "HEAD" or status == 304:
        return "none", None
    return ("close", None) if kind == "none" else (kind, length)


def read_response(reader, method="GET", minor=1):
    """One final response with the 1xx before it. Truncation sets complete = False, no error."""
    interim = []
    while True:
        response = parse_response_head(reader)
        kind, length = response_framing(response, method, minor)
        if response.status >= 200 or response.status == 101:
            break
        interim.append(response)
    response.interim, response.framing = interim, kind
    try:
        if kind == "chunked":
            response.trailers = read_chunked(reader, response.payload, response.chunks.append)
        elif kind == "length":
            reader.exactly(length, response.payload)
        elif kind == "close":
            reader.until_eof(response.payload)
        response.complete = True
    except Truncated:
        response.complete = False
    return response


def request_bytes(method="GET", target="/", fields=(), body=None, host="test.example", minor=1):
    """A well-formed request. fields: pairs or "Name: value" strings; host None: no Host."""
    lines = ["%s %s HTTP/1.%d" % (method, target, minor)]
    if host is not None:
        lines.append("Host: %s" % host)
    for field in fields:
        lines.append(field if isinstance(field, str) else "%s: %s" % field)
    if body is not None and not any(x.lower().startswith("transfer-encoding") for x in lines):
        lines.append("Content-Length: %d" % len(body))
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + (body or b"")


def response_bytes(status=200, body=b"ok", fields=(), reason="OK", length=True):
    """A well-formed response with Content-Length (unless length is False)."""
    lines = ["HTTP/1.1 %d %s" % (status, reason)]
    lines += [field if isinstance(field, str) else "%s: %s" % field for field in fields]
    if length:
        lines.append("Content-Length: %d" % len(body))
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1") + body


def chunked(*parts, end=b"0\r\n\r\n"):
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + end
