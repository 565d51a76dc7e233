"""Rows of HTTP/2 conformance: what is sent after the handshake, and what must come of it.

The tables are in h2_frames.py (RFC 9113 sections 3 to 5), h2_types.py (6 and 7), h2_messages.py
(8) and h2_hpack.py (RFC 7541); test_h2.py runs them. A row sends bytes, or calls functions of the
connection where the bytes depend on what came. A want is a function of (conn, strict): strict is
for weir, which says GOAWAY before it closes; other servers may just close.

How the groups of the common public suite for HTTP/2 servers map: h2_suite.py has each of its cases
with the rows that ask the same. "generic" 1 to 4 and "http2" 3 to 7 are rows of h2_frames.py and
h2_types.py, "http2" 8 and "generic" 4 of h2_messages.py, "generic" 5 and "hpack" of h2_hpack.py.
Where the suite lets a server choose between RST_STREAM, GOAWAY and closing, a row wants what RFC
9113 says: an error of a stream may be treated as one of the connection, never the other way round.
"""
import dataclasses
import typing

from harness import h2wire as h2

NONE, CUT, ANY = "none", "cut", "any"  # requests for /case at the backend: not one, no whole one
ROWS = []


@dataclasses.dataclass
class Row:
    name: str
    rfc: str
    send: tuple
    want: typing.Callable
    backend: typing.Any = NONE  # NONE, CUT, ANY or how many whole requests
    sees: tuple = ()  # fields (name, value) that the backend's request has
    body: bytes | None = None  # of the backend's request
    raw: bool = False  # no preface, no SETTINGS: the row sends them
    settings: tuple = ()
    credit: bool = True
    methods: tuple = ()  # (stream, method) where it is not GET
    weir_only: str = ""  # why other servers need not know


def row(name, rfc, *send, want, **more):
    assert all(each.name != name for each in ROWS), name
    ROWS.append(Row(name, rfc, send, want, **more))


# ---- what must come ----

def answered(stream=1, status=200):
    """A whole response; the connection is in order."""
    def want(conn, strict):
        got = conn.wait(stream)
        assert not strict or got.status == status, got
        assert strict or got.status < 500, got
        conn.expect_alive()
    return want


def refused(stream=1):
    """A response of 4xx or 501, or an error of the stream."""
    def want(conn, strict):
        state = conn.stream(stream)
        conn.pump(lambda: state.over or conn.error or conn.closed, what="refusal")
        if state.ended and not state.reset:
            status = state.response.status
            assert 400 <= status < 500 or status == 501, state.response
            conn.expect_alive()
        else:
            conn.expect_stream_error(stream, h2.PROTOCOL_ERROR, goaway=strict)
    return want


def ignored(conn, _strict):
    """Nothing comes of it: the connection is in order and serves."""
    conn.expect_alive()
    number = max([n for n in conn.check.streams] + [conn.next_stream - 2]) + 2
    conn.next_stream = number | 1
    assert conn.get("/well").status < 500
    assert conn.error is None


def stream_error(stream, *codes):
    """An error of the stream, or the same of the connection. Only the stream's: it goes on."""
    def want(conn, strict):
        conn.expect_stream_error(stream, *codes, goaway=strict)
        if conn.error is None and not conn.closed:
            ignored(conn, strict)
    return want


def connection_error(*codes):
    def want(conn, strict):
        conn.expect_connection_error(*codes, goaway=strict)
    return want


def either(*wants):
    """The first that holds; they must not read beyond what comes in every case."""
    def want(conn, strict):
        faults = []
        for each in wants:
            try:
                return each(conn, strict)
            except AssertionError as error:
                faults.append(str(error))
        raise AssertionError(" / ".join(faults))
    return want


def closing(conn, _strict):
    """The connection goes on or ends without an error."""
    conn.ping()
    assert conn.error is None, conn.state()


# ---- what is often sent ----

def get(stream=1, fields=(), end=True, **over):
    """HEADERS of a good request in one frame."""
    return h2.headers(stream, h2.request(fields, **over), end)


def post(stream=1, fields=(), **over):
    return get(stream, fields, end=False, method="POST", **over)


def head_of(*fields, end=True):
    """HEADERS with exactly these field lines."""
    return h2.headers(1, h2.block(fields), end)


def await_response(stream=1):
    def act(conn):
        conn.wait(stream)
    return act


def settled(conn):
    """Our SETTINGS are acknowledged."""
    conn.pump(lambda: not conn.check.pending, what="SETTINGS ACK")
