"""RFC 9113 sections 3 to 5: preface, frame format, sizes, field blocks, states of streams."""
import struct

from harness import h2wire as h2
from h2_rows import (ANY, CUT, answered, await_response, closing, connection_error, either, get,
                     ignored, post, row, settled, stream_error)

SIZE, PROTO, CLOSED = h2.FRAME_SIZE_ERROR, h2.PROTOCOL_ERROR, h2.STREAM_CLOSED

# ---- 3.4 preface ----

row("preface", "9113 3.4", h2.PREFACE, h2.settings(), get(), raw=True, want=answered(), backend=1)
row("preface-in-pieces", "9113 3.4", h2.PREFACE[:7], h2.PREFACE[7:], h2.settings()[:5],
    h2.settings()[5:], get(), raw=True, want=answered(), backend=1)
row("preface-and-request-before-settings-of-the-server", "9113 3.4",
    h2.PREFACE + h2.settings() + get(), raw=True, want=answered(), backend=1)


def closed_somehow(conn, _strict):
    """For what is no preface: GOAWAY may be omitted; HTTP/1.1 has an answer of its own."""
    conn.expect_closed()
    assert conn.error is None or conn.error[1] == PROTO


row("preface-wrong-end", "9113 3.4", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n" + h2.settings(), raw=True,
    want=closed_somehow)
row("preface-then-no-settings", "9113 3.4", h2.PREFACE, get(), raw=True,
    want=connection_error(PROTO))
row("preface-then-ping", "9113 3.4", h2.PREFACE, h2.ping(), raw=True,
    want=connection_error(PROTO))
row("preface-then-settings-ack", "9113 3.4", h2.PREFACE, h2.SETTINGS_ACK, get(), raw=True,
    want=connection_error(PROTO))
row("preface-then-unknown-frame", "9113 3.4", h2.PREFACE, h2.frame(0xEE, payload=b"x"), raw=True,
    want=connection_error(PROTO))
row("preface-twice", "9113 3.4", h2.PREFACE, want=connection_error(SIZE, PROTO))

# ---- 4.1 frame format ----

row("unknown-type", "9113 4.1", h2.frame(0xEE, payload=b"unknown"), want=ignored)
row("unknown-type-on-a-stream", "9113 4.1", post(), h2.frame(0xEE, 0xFF, 1, b"unknown"),
    h2.data(1, b"x", True), want=answered(), backend=1, body=b"x")
row("unknown-type-empty", "9113 4.1", h2.frame(0xEE), want=ignored)
row("unknown-type-of-16384", "9113 4.1", h2.frame(0xEE, payload=bytes(16384)), want=ignored)
row("undefined-flags-of-ping", "9113 4.1", h2.frame(h2.PING, 0xFE, 0, b"abcdefgh"), want=ignored)
row("undefined-flags-of-data", "9113 4.1", post(), h2.frame(h2.DATA, 0xF6 | 1, 1, b"x"),
    want=answered(), backend=1, body=b"x")
row("undefined-flags-of-headers", "9113 4.1",
    h2.frame(h2.HEADERS, 0x05 | 0xD2, 1, h2.request()), want=answered(), backend=1)
row("undefined-flags-of-window-update", "9113 4.1",
    h2.frame(h2.WINDOW_UPDATE, 0xFF, 0, struct.pack(">I", 1)), want=ignored)
row("reserved-bit-of-ping", "9113 4.1", h2.frame(h2.PING, 0, 0, b"abcdefgh", reserved=1),
    want=ignored)
row("reserved-bit-of-headers", "9113 4.1",
    h2.frame(h2.HEADERS, 5, 1, h2.request(), reserved=1), want=answered(), backend=1)
row("reserved-bit-of-window-update", "9113 4.1",
    h2.frame(h2.WINDOW_UPDATE, 0, 0, struct.pack(">I", 1 << 31 | 1)), want=ignored)

# ---- 4.2 frame size ----

row("data-of-16384", "9113 4.2", post(), h2.data(1, b"d" * 16384, True), want=answered(),
    backend=1, body=b"d" * 16384)


def too_large(kind, flags, stream):
    def act(conn):
        size = conn.check.settings[h2.MAX_FRAME_SIZE] + 1
        start = h2.request() if kind == h2.HEADERS else b""
        spare = len(h2.literal("x-long", "v" * size)) - size + len(start)
        payload = start + h2.literal("x-long", "v" * (size - spare))
        assert len(payload) == size
        conn.send(h2.frame(kind, flags, stream, payload))
    return act


row("data-too-large", "9113 4.2", post(), too_large(h2.DATA, 1, 1), want=stream_error(1, SIZE),
    backend=CUT)
row("headers-too-large", "9113 4.2", too_large(h2.HEADERS, 5, 1), want=connection_error(SIZE))
row("continuation-too-large", "9113 4.2", h2.headers(1, h2.request(), end_headers=False),
    too_large(h2.CONTINUATION, 4, 1), want=connection_error(SIZE))
row("settings-too-large", "9113 4.2", too_large(h2.SETTINGS, 0, 0), want=connection_error(SIZE))
row("unknown-type-too-large", "9113 4.2", too_large(0xEE, 0, 0), want=connection_error(SIZE))
row("only-a-header-of-a-huge-frame", "9113 4.2", h2.frame(h2.HEADERS, 5, 1, b"", length=0xFFFFFF),
    want=connection_error(SIZE))
row("headers-with-priority-shorter-than-it", "9113 6.2",
    h2.frame(h2.HEADERS, 5 | h2.PRIORITY_FLAG, 1, b"\0\0\0"),
    want=connection_error(SIZE, PROTO))
row("data-padded-without-a-length", "9113 6.1", post(), h2.frame(h2.DATA, 1 | h2.PADDED, 1),
    want=connection_error(SIZE, PROTO), backend=CUT)
row("headers-padded-without-a-length", "9113 6.2", h2.frame(h2.HEADERS, 5 | h2.PADDED, 1),
    want=connection_error(SIZE, PROTO))

# ---- 4.3 field blocks ----

OPEN = h2.headers(1, h2.request()[:20], end_headers=False)
LATE = h2.request()[20:]
row("block-broken-by-priority", "9113 4.3", OPEN, h2.priority(1), h2.continuation(1, LATE),
    want=connection_error(PROTO))
row("block-broken-by-headers-of-another", "9113 4.3", OPEN, get(3), want=connection_error(PROTO))
row("block-broken-by-its-own-headers", "9113 4.3", OPEN, h2.headers(1, LATE),
    want=connection_error(PROTO))
row("block-broken-by-data", "9113 4.3", OPEN, h2.data(1, b"x", True),
    want=connection_error(PROTO))
row("block-broken-by-ping", "9113 4.3", OPEN, h2.ping(), want=connection_error(PROTO))
row("block-broken-by-settings", "9113 4.3", OPEN, h2.settings(), want=connection_error(PROTO))
row("block-broken-by-window-update", "9113 4.3", OPEN, h2.window_update(0, 1),
    want=connection_error(PROTO))
row("block-broken-by-rst", "9113 4.3", OPEN, h2.rst_stream(1), want=connection_error(PROTO))
row("block-broken-by-unknown", "9113 5.5", OPEN, h2.frame(0xEE, payload=b"x"),
    h2.continuation(1, LATE), want=connection_error(PROTO))
row("block-continued-on-another-stream", "9113 4.3", OPEN, h2.continuation(3, LATE),
    want=connection_error(PROTO))
row("block-of-garbage", "9113 4.3", h2.headers(1, b"\x40" + h2.integer(500, 7) + b"x"),
    want=connection_error(h2.COMPRESSION_ERROR))
row("block-cut-short", "9113 4.3", h2.headers(1, h2.request()[:-3]),
    want=connection_error(h2.COMPRESSION_ERROR))
row("block-cut-short-in-continuation", "9113 4.3",
    h2.split_headers(1, h2.request()[:-3], [10]), want=connection_error(h2.COMPRESSION_ERROR))
row("block-of-garbage-in-trailers", "9113 4.3", post(), h2.data(1, b"x"),
    h2.headers(1, h2.indexed(0)), want=connection_error(h2.COMPRESSION_ERROR), backend=CUT)
row("block-of-garbage-on-a-closed-stream", "9113 4.3", get(), await_response(),
    h2.headers(1, h2.indexed(0)), backend=ANY,
    want=connection_error(h2.COMPRESSION_ERROR, CLOSED, PROTO))

# ---- 5.1 states ----

for _name, _frame in (("data", h2.data(1, b"x", True)), ("rst", h2.rst_stream(1)),
                      ("window-update", h2.window_update(1, 1))):
    row("idle-" + _name, "9113 5.1", _frame, want=connection_error(PROTO))
row("idle-continuation", "9113 5.1", h2.continuation(1, h2.request()),
    want=connection_error(PROTO))
row("idle-priority", "9113 5.1", h2.priority(3, 1), want=ignored)
row("idle-data-of-a-server-stream", "9113 5.1.1", h2.data(2, b"x", True),
    want=connection_error(PROTO))
row("idle-window-update-above-the-last", "9113 5.1", get(), await_response(),
    h2.window_update(7, 1), want=connection_error(PROTO), backend=ANY)
row("idle-rst-above-the-last", "9113 5.1", get(), await_response(), h2.rst_stream(9),
    want=connection_error(PROTO), backend=ANY)

row("half-closed-data", "9113 5.1", get(), h2.data(1, b"x", True), want=stream_error(1, CLOSED),
    backend=ANY)
row("half-closed-headers", "9113 5.1", get(), get(), want=stream_error(1, CLOSED), backend=ANY)
row("half-closed-continuation", "9113 5.1", get(), h2.continuation(1, b""),
    want=connection_error(PROTO, CLOSED), backend=ANY)
row("half-closed-window-update", "9113 5.1", get(), h2.window_update(1, 10), want=answered(),
    backend=1)
row("half-closed-priority", "9113 5.1", get(), h2.priority(1, 3), want=answered(), backend=1)
row("half-closed-rst", "9113 5.1", get(), h2.rst_stream(1), want=ignored, backend=ANY)

CLOSE_RST = (get(end=False, method="POST"), h2.rst_stream(1))
row("closed-by-rst-data", "9113 5.1", *CLOSE_RST, h2.data(1, b"x", True),
    want=stream_error(1, CLOSED), backend=CUT)
row("closed-by-rst-headers", "9113 5.1", *CLOSE_RST, get(),
    want=stream_error(1, CLOSED, PROTO), backend=CUT)
row("closed-by-rst-continuation", "9113 5.1", *CLOSE_RST, h2.continuation(1),
    want=connection_error(CLOSED, PROTO), backend=CUT)
row("closed-by-rst-priority", "9113 5.1", *CLOSE_RST, h2.priority(1), want=ignored, backend=CUT)
row("closed-by-rst-rst", "9113 5.1", *CLOSE_RST, h2.rst_stream(1), backend=CUT,
    want=either(ignored, connection_error(CLOSED)))
row("closed-by-rst-window-update", "9113 5.1", *CLOSE_RST, h2.window_update(1, 1), backend=CUT,
    want=either(ignored, connection_error(CLOSED)))
row("closed-data", "9113 5.1", get(), await_response(), h2.data(1, b"x", True),
    want=stream_error(1, CLOSED), backend=ANY)
row("closed-headers", "9113 5.1", get(), await_response(), get(),
    want=stream_error(1, CLOSED, PROTO), backend=ANY)
row("closed-continuation", "9113 5.1", get(), await_response(), h2.continuation(1),
    want=connection_error(CLOSED, PROTO), backend=ANY)
row("closed-window-update", "9113 5.1", get(), await_response(), h2.window_update(1, 1),
    want=ignored, backend=ANY)
row("closed-rst", "9113 5.1", get(), await_response(), h2.rst_stream(1), want=ignored,
    backend=ANY)
row("closed-priority", "9113 5.1", get(), await_response(), h2.priority(1), want=ignored,
    backend=ANY)

# ---- 5.1.1 identifiers ----

row("even-stream", "9113 5.1.1", get(2), want=connection_error(PROTO))
row("smaller-stream", "9113 5.1.1", get(5, path="/other"), get(3), backend=ANY,
    want=lambda conn, strict: conn.expect_connection_error(
        PROTO, *(() if strict else (CLOSED,)), goaway=strict))
row("skipped-streams", "9113 5.1.1", get(9), want=answered(9), backend=1)
row("largest-stream", "9113 5.1.1", get(h2.WINDOW_MAX), want=lambda conn, _s: (
    conn.wait(h2.WINDOW_MAX), conn.expect_alive()), backend=1)
row("window-update-of-a-skipped-stream", "9113 5.1.1", get(5), await_response(5),
    h2.window_update(3, 1), backend=ANY, want=either(ignored, connection_error(PROTO, CLOSED)))

# ---- 5.1.2 concurrency ----


def beyond_the_limit(conn):
    settled(conn)
    limit = conn.check.settings.get(h2.MAX_CONCURRENT_STREAMS)
    assert limit is not None and limit <= 1000, "no limit of streams"
    for number in range(limit + 1):
        conn.send(post(2 * number + 1))
    conn.beyond = 2 * limit + 1


row("one-stream-too-many", "9113 5.1.2", beyond_the_limit, backend=CUT,
    want=lambda conn, strict: conn.expect_stream_error(conn.beyond, h2.REFUSED_STREAM, PROTO,
                                                       goaway=strict))

# ---- 5.3 priority, 5.4 errors, 5.5 extensions ----

row("headers-depend-on-themselves", "9113 5.3.1 (7540 5.3.1)",
    h2.headers(1, h2.request(), priority=h2.dependency(1)), want=stream_error(1, PROTO))
row("priority-depends-on-itself", "9113 5.3.1 (7540 5.3.1)", h2.priority(1, 1),
    want=stream_error(1, PROTO))
row("priority-of-an-open-stream-depends-on-itself", "9113 5.3.1 (7540 5.3.1)", post(),
    h2.priority(1, 1), want=stream_error(1, PROTO), backend=CUT)
row("weights-and-exclusive", "9113 5.3", h2.priority(1, 0, 1), h2.priority(3, 1, 256),
    h2.priority(5, 3, 16, True), get(7), want=answered(7), backend=1)
row("priority-above-then-a-lower-stream", "9113 5.1.1", h2.priority(101, 0), get(1),
    want=answered(), backend=1)
row("priority-depends-on-the-unknown", "9113 5.3", h2.priority(1, 99), get(),
    want=answered(), backend=1)
row("goaway-before-the-end", "9113 5.4.1", h2.data(1, b"x"), want=connection_error(PROTO))
row("unknown-frames-around-a-request", "9113 5.5", h2.frame(0xF0, 3, 5, b"a"), get(),
    h2.frame(0xF1, 3, 1, b"b"), want=answered(), backend=1)
row("client-goaway-then-serving-ends", "9113 6.8", h2.goaway(), want=closing)
