"""What the backend of the HTTP/2 tests answers, by path, and the bodies that both sides know."""
import json
import threading
import urllib.parse
import zlib

from . import wire
from .h2fixtures import read_body

SIZES = (0, 1, 16383, 16384, 65535, 65536, 1 << 20, 5 << 20)
BLOCK = bytes(range(251)) * 4096  # of a prime length: no two frames are alike


def pattern(size):
    """A body that shows when a piece is missing, doubled or misplaced."""
    return (BLOCK * (size // len(BLOCK) + 1))[:size]


def digest(data):
    return "%d %08x" % (len(data), zlib.crc32(data))


def body_digest(body):
    """The same of a wire.Body."""
    return "%d %08x" % (body.length, body.crc)


class Held:
    """Requests that wait: arrived counts them, gone those whose connection ended meanwhile."""

    def __init__(self):
        self.go, self.lock = threading.Event(), threading.Condition()
        self.arrived, self.gone = 0, 0

    def __call__(self, conn, request):
        """Answers when go is set; notices when weir leaves."""
        read_body(conn, request)
        with self.lock:
            self.arrived += 1
            self.lock.notify_all()
        conn.sock.settimeout(0.02)
        while not self.go.is_set():
            try:
                if not conn.reader.fill():
                    self.leave(conn)
                    return None
            except TimeoutError:
                pass
        conn.sock.settimeout(None)
        return wire.response_bytes(body=b"held")

    def leave(self, conn):
        conn.close()
        with self.lock:
            self.gone += 1
            self.lock.notify_all()

    def wait(self, what, count, guard=30):
        with self.lock:
            ok = self.lock.wait_for(lambda: getattr(self, what) >= count, guard)
        assert ok, "%s is %d, wanted %d" % (what, getattr(self, what), count)


def pages():
    """path to answer(request): whole responses."""
    return {
        "/echo": lambda r, q: wire.response_bytes(body=r.body.data),
        "/sum": lambda r, q: wire.response_bytes(body=body_digest(r.body).encode()),
        "/bytes": lambda r, q: wire.response_bytes(body=pattern(int(q["n"]))),
        "/chunked": lambda r, q: wire.response_bytes(
            fields=["Transfer-Encoding: chunked"], length=False,
            body=wire.chunked(*pieces(pattern(int(q["n"]))))),
        "/trailers": lambda r, q: wire.response_bytes(
            fields=["Transfer-Encoding: chunked"], length=False,
            body=wire.chunked(b"with ", b"trailers", end=b"0\r\nX-Sum: 7\r\nX-More: a\r\n\r\n")),
        "/hints": lambda r, q: b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
        + wire.response_bytes(body=b"hinted"),
        "/204": lambda r, q: wire.response_bytes(204, b"", length=False),
        "/304": lambda r, q: wire.response_bytes(304, b"", ["ETag: \"x\""], length=False),
        "/fields": lambda r, q: wire.response_bytes(body=json.dumps(
            [[n.decode("latin-1").lower(), v.decode("latin-1")] for n, v in r.fields]).encode()),
        "/large-head": lambda r, q: wire.response_bytes(
            body=b"large", fields=["X-%d: %s" % (n, "v" * 1000) for n in range(40)]),
        "/hop-by-hop": lambda r, q: wire.response_bytes(
            body=b"hop", fields=["Connection: X-Hop, keep-alive", "X-Hop: 1", "Keep-Alive: t=5",
                                 "X-Stays: 1"]),
    }


def pieces(body, size=10000):
    return [body[at : at + size] for at in range(0, len(body), size)]


class Site:
    """A backend's default handler. held is the handler of /held."""

    def __init__(self):
        self.pages, self.held = pages(), Held()

    def __call__(self, conn, request):
        if request.path == "/held":
            return self.held(conn, request)
        if request.get("expect"):
            conn.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        read_body(conn, request)
        query = dict(urllib.parse.parse_qsl(request.target.partition(b"?")[2].decode()))
        page = self.pages.get(request.path)
        if page is None:
            return wire.response_bytes(body=b"%s %s" % (request.method.encode(), request.target))
        return page(request, query)
