"""RFC 9113 sections 6 and 7 and RFC 9218: each frame type, settings, flow control, error codes."""
import struct

from harness import h2wire as h2
from h2_rows import (ANY, CUT, answered, await_response, closing, connection_error, either, get,
                     ignored, post, row, settled, stream_error)

SIZE, PROTO, FLOW = h2.FRAME_SIZE_ERROR, h2.PROTOCOL_ERROR, h2.FLOW_CONTROL_ERROR

# ---- 6.1 DATA ----

row("data", "9113 6.1", post(), h2.data(1, b"test", True), want=answered(), backend=1,
    body=b"test")
row("data-in-frames", "9113 6.1", post(), h2.data(1, b"te"), h2.data(1, b"st", True),
    want=answered(), backend=1, body=b"test")
row("data-padded", "9113 6.1", post(), h2.data(1, b"test", True, pad=6), want=answered(),
    backend=1, body=b"test")
row("data-padded-by-255", "9113 6.1", post(), h2.data(1, b"", pad=255),
    h2.data(1, b"t", True, pad=255), want=answered(), backend=1, body=b"t")
row("data-of-padding-of-0", "9113 6.1", post(), h2.data(1, b"test", True, pad=0),
    want=answered(), backend=1, body=b"test")
row("data-empty-with-end", "9113 6.1", post(), h2.data(1, b"", True), want=answered(), backend=1,
    body=b"")
row("data-empty-then-more", "9113 6.1", post(), h2.data(1), h2.data(1), h2.data(1, b"x", True),
    want=answered(), backend=1, body=b"x")
row("data-on-stream-0", "9113 6.1", h2.data(0, b"x"), want=connection_error(PROTO))
row("data-padding-as-long-as-payload", "9113 6.1", post(),
    h2.frame(h2.DATA, h2.PADDED | 1, 1, b"\x05test"), want=connection_error(PROTO), backend=CUT)
row("data-padding-longer-than-payload", "9113 6.1", post(),
    h2.frame(h2.DATA, h2.PADDED | 1, 1, b"\xfftest"), want=connection_error(PROTO), backend=CUT)

# ---- 6.2 HEADERS ----

row("headers", "9113 6.2", get(), want=answered(), backend=1)
row("headers-padded", "9113 6.2", h2.headers(1, h2.request(), pad=8), want=answered(), backend=1)
row("headers-with-priority", "9113 6.2",
    h2.headers(1, h2.request(), priority=h2.dependency(0, 256, True)), want=answered(), backend=1)
row("headers-with-priority-and-padding", "9113 6.2",
    h2.headers(1, h2.request(), priority=h2.dependency(), pad=200), want=answered(), backend=1)
row("headers-on-stream-0", "9113 6.2", get(0), want=connection_error(PROTO))
row("headers-padding-too-long", "9113 6.2",
    h2.frame(h2.HEADERS, 5 | h2.PADDED, 1, b"\xff" + h2.request()), want=connection_error(PROTO))
row("headers-padding-into-priority", "9113 6.2",
    h2.frame(h2.HEADERS, 5 | h2.PADDED | h2.PRIORITY_FLAG, 1, b"\x03" + h2.dependency() + b"ab"),
    want=connection_error(PROTO))

# ---- 6.3 PRIORITY ----

row("priority-on-stream-0", "9113 6.3", h2.priority(0, 1), want=connection_error(PROTO))
row("priority-of-4", "9113 6.3", post(), h2.frame(h2.PRIORITY, 0, 1, bytes(4)),
    want=stream_error(1, SIZE), backend=CUT)
row("priority-of-6", "9113 6.3", post(), h2.frame(h2.PRIORITY, 0, 1, bytes(6)),
    want=stream_error(1, SIZE), backend=CUT)

# ---- 6.4 RST_STREAM ----

row("rst-on-stream-0", "9113 6.4", h2.rst_stream(0), want=connection_error(PROTO))
row("rst-of-3", "9113 6.4", post(), h2.frame(h2.RST_STREAM, 0, 1, bytes(3)),
    want=connection_error(SIZE), backend=CUT)
row("rst-of-5", "9113 6.4", post(), h2.frame(h2.RST_STREAM, 0, 1, bytes(5)),
    want=connection_error(SIZE), backend=CUT)
row("rst", "9113 6.4", post(), h2.rst_stream(1), want=ignored, backend=CUT)
row("rst-with-unknown-code", "9113 7", post(), h2.rst_stream(1, 0xFEEDBEEF), want=ignored,
    backend=CUT)

# ---- 6.5 SETTINGS ----


def acknowledged(conn, strict):
    settled(conn)
    ignored(conn, strict)


row("settings", "9113 6.5", h2.settings((h2.MAX_CONCURRENT_STREAMS, 9)), want=acknowledged)
row("settings-empty", "9113 6.5", h2.settings(), want=acknowledged)
row("settings-three-at-once", "9113 6.5.3", h2.settings(), h2.settings(), h2.settings(),
    want=acknowledged)
row("settings-ack-with-payload", "9113 6.5", h2.frame(h2.SETTINGS, h2.ACK, 0, bytes(6)),
    want=connection_error(SIZE))
row("settings-ack-with-a-byte", "9113 6.5", h2.frame(h2.SETTINGS, h2.ACK, 0, b"x"),
    want=connection_error(SIZE))
row("settings-on-a-stream", "9113 6.5", h2.frame(h2.SETTINGS, 0, 1),
    want=connection_error(PROTO))
row("settings-ack-on-a-stream", "9113 6.5", h2.frame(h2.SETTINGS, h2.ACK, 1),
    want=connection_error(PROTO))
for _size in (1, 5, 7, 11):
    row("settings-of-%d" % _size, "9113 6.5", h2.frame(h2.SETTINGS, 0, 0, bytes(_size)),
        want=connection_error(SIZE))
row("settings-push-2", "9113 6.5.2", h2.settings((h2.ENABLE_PUSH, 2)),
    want=connection_error(PROTO))
row("settings-push-0", "9113 6.5.2", h2.settings((h2.ENABLE_PUSH, 0)), want=acknowledged)
row("settings-push-1", "9113 6.5.2", h2.settings((h2.ENABLE_PUSH, 1)), want=acknowledged)
row("settings-window-too-large", "9113 6.5.2", h2.settings((h2.INITIAL_WINDOW_SIZE, 1 << 31)),
    want=connection_error(FLOW))
row("settings-window-largest", "9113 6.5.2",
    h2.settings((h2.INITIAL_WINDOW_SIZE, h2.WINDOW_MAX)), want=acknowledged)
row("settings-frame-too-small", "9113 6.5.2", h2.settings((h2.MAX_FRAME_SIZE, 16383)),
    want=connection_error(PROTO))
row("settings-frame-too-large", "9113 6.5.2", h2.settings((h2.MAX_FRAME_SIZE, 1 << 24)),
    want=connection_error(PROTO))
row("settings-frame-largest", "9113 6.5.2", h2.settings((h2.MAX_FRAME_SIZE, h2.FRAME_MAX)),
    want=acknowledged)
row("settings-connect-protocol-2", "8441 3", h2.settings((h2.ENABLE_CONNECT_PROTOCOL, 2)),
    want=either(connection_error(PROTO), acknowledged))
row("settings-no-priorities-2", "9218 2.1", h2.settings((h2.NO_RFC7540_PRIORITIES, 2)),
    want=connection_error(PROTO), weir_only="RFC 9218")
row("settings-no-priorities-1", "9218 2.1", want=acknowledged,
    settings=((h2.NO_RFC7540_PRIORITIES, 1),))
row("settings-no-priorities-changed", "9218 2.1", h2.settings((h2.NO_RFC7540_PRIORITIES, 1)),
    want=either(connection_error(PROTO), acknowledged))
row("settings-unknown", "9113 6.5.2", h2.settings((0xFF, 1), (0, 7), (0xFFFF, 0xFFFFFFFF)),
    want=acknowledged)
row("settings-repeated-the-last-wins", "9113 6.5.3",
    h2.settings((h2.INITIAL_WINDOW_SIZE, 100), (h2.INITIAL_WINDOW_SIZE, 1)), get(), backend=1,
    want=lambda conn, strict: data_sum(conn, 1, 1), credit=False)
row("settings-good-then-bad-value", "9113 6.5.3",
    h2.settings((h2.INITIAL_WINDOW_SIZE, 100), (h2.ENABLE_PUSH, 7)), want=connection_error(PROTO))
row("settings-streams-0-of-the-client", "9113 6.5.2",
    h2.settings((h2.MAX_CONCURRENT_STREAMS, 0)), get(), want=answered(), backend=1)
row("settings-list-size-of-the-client", "9113 6.5.2",
    h2.settings((h2.MAX_HEADER_LIST_SIZE, 65536)), get(), want=answered(), backend=1)
row("settings-table-0", "7541 4.2", h2.settings((h2.HEADER_TABLE_SIZE, 0)), settled, get(),
    await_response(), get(3), want=answered(3), backend=2)
row("settings-table-large", "7541 4.2", h2.settings((h2.HEADER_TABLE_SIZE, 0xFFFFFFFF)), settled,
    get(), await_response(), get(3), want=answered(3), backend=2)
row("settings-table-0-then-4096", "7541 4.2",
    h2.settings((h2.HEADER_TABLE_SIZE, 0)) + h2.settings((h2.HEADER_TABLE_SIZE, 4096)), settled,
    get(), await_response(), get(3), want=answered(3), backend=2)

# ---- 6.6 PUSH_PROMISE ----

row("push-promise-from-a-client", "9113 8.4", get(), h2.push_promise(1, 2, h2.request()),
    want=connection_error(PROTO), backend=ANY)
row("push-promise-on-stream-0", "9113 6.6", h2.push_promise(0, 2, h2.request()),
    want=connection_error(PROTO))
row("push-promise-on-an-open-stream", "9113 6.6", post(), h2.push_promise(1, 3, h2.request()),
    want=connection_error(PROTO), backend=CUT)

# ---- 6.7 PING ----


def pong(payload):
    def act(conn):
        conn.send(h2.ping(payload))
        conn.pump(lambda: conn.check.pongs, what="the PING's payload")
    return act


row("ping", "9113 6.7", pong(b"\0\1\2\3\xff\xfe\xfd\xfc"), want=ignored)
row("ping-ack-unasked", "9113 6.7", h2.ping(b"stranger", ack=True), want=ignored)
row("ping-on-a-stream", "9113 6.7", h2.frame(h2.PING, 0, 1, bytes(8)),
    want=connection_error(PROTO))
for _size in (0, 6, 7, 9, 16):
    row("ping-of-%d" % _size, "9113 6.7", h2.frame(h2.PING, 0, 0, bytes(_size)),
        want=connection_error(SIZE))
row("ping-ack-of-6", "9113 6.7", h2.frame(h2.PING, h2.ACK, 0, bytes(6)),
    want=connection_error(SIZE))

# ---- 6.8 GOAWAY ----

row("goaway-on-a-stream", "9113 6.8", h2.goaway(stream=1), want=connection_error(PROTO))
row("goaway-of-7", "9113 6.8", h2.frame(h2.GOAWAY, 0, 0, bytes(7)), want=connection_error(SIZE))
row("goaway-with-text", "9113 6.8", h2.goaway(0, 0, b"good bye"), want=closing)
row("goaway-with-unknown-code", "9113 7", h2.goaway(0, 0xFF00FF00), want=closing)
row("goaway-leaves-open-streams", "9113 6.8", post(), h2.goaway(), h2.data(1, b"late", True),
    want=lambda conn, _strict: conn.wait(1), backend=1, body=b"late")
row("goaway-twice", "9113 6.8", post(), h2.goaway(h2.WINDOW_MAX - 1), h2.goaway(0),
    h2.data(1, b"late", True), want=lambda conn, _strict: conn.wait(1), backend=1, body=b"late")

# ---- 6.9 WINDOW_UPDATE and flow control ----


def data_sum(conn, stream, count):
    """Exactly count bytes of DATA come; a PING shows that no more is under way."""
    state = conn.stream(stream)
    conn.pump(lambda: state.response.payload.length >= count or state.over, what="DATA")
    conn.expect_alive()
    assert state.response.payload.length == count and not state.over, conn.state()


def grow_bytewise(conn, strict):
    """A window of 1 that is given back byte by byte, then all of it."""
    for count in (1, 2, 3):
        data_sum(conn, 1, count)
        conn.send(h2.window_update(1, 1))
    conn.send(h2.window_update(1, 100000))
    answered()(conn, strict)


row("window-update", "9113 6.9", h2.window_update(0, 1000), want=ignored)
row("window-update-of-a-stream", "9113 6.9", post(), h2.window_update(1, 1000),
    h2.data(1, b"x", True), want=answered(), backend=1)
row("window-update-of-0", "9113 6.9", h2.window_update(0, 0), want=connection_error(PROTO))
row("window-update-of-0-on-a-stream", "9113 6.9", post(), h2.window_update(1, 0),
    want=stream_error(1, PROTO), backend=CUT)
for _size in (0, 3, 5, 8):
    row("window-update-of-%d-bytes" % _size, "9113 6.9",
        h2.frame(h2.WINDOW_UPDATE, 0, 0, b"\1" * _size), want=connection_error(SIZE))
row("window-update-of-3-bytes-on-a-stream", "9113 6.9", post(),
    h2.frame(h2.WINDOW_UPDATE, 0, 1, b"\1\1\1"), want=connection_error(SIZE), backend=CUT)
row("window-of-1", "9113 6.9.1", get(), settings=((h2.INITIAL_WINDOW_SIZE, 1),), credit=False,
    want=grow_bytewise, backend=1)
row("window-of-0-holds-data-not-headers", "9113 6.9.1", get(), credit=False, backend=1,
    settings=((h2.INITIAL_WINDOW_SIZE, 0),),
    want=lambda conn, _strict: (conn.wait_head(1), data_sum(conn, 1, 0)))
row("window-too-large", "9113 6.9.1", h2.window_update(0, h2.WINDOW_MAX),
    want=connection_error(FLOW))
row("window-too-large-in-steps", "9113 6.9.1",
    h2.window_update(0, h2.WINDOW_MAX - 65535), h2.window_update(0, 1),
    want=connection_error(FLOW))
row("window-largest", "9113 6.9.1", h2.window_update(0, h2.WINDOW_MAX - 65535), want=ignored)
row("stream-window-too-large", "9113 6.9.1", post(), h2.window_update(1, h2.WINDOW_MAX),
    h2.window_update(1, h2.WINDOW_MAX), want=stream_error(1, FLOW), backend=CUT)
row("stream-window-too-large-by-settings", "9113 6.9.2", post(),
    h2.window_update(1, h2.WINDOW_MAX - 65535),
    h2.settings((h2.INITIAL_WINDOW_SIZE, 65536)), want=connection_error(FLOW), backend=CUT)


def initial_window(*steps):
    """Each step is (new INITIAL_WINDOW_SIZE, bytes that have come afterwards)."""
    def want(conn, strict):
        for value, count in steps:
            conn.send(h2.settings((h2.INITIAL_WINDOW_SIZE, value)))
            settled(conn)
            data_sum(conn, 1, count)
        conn.send(h2.settings((h2.INITIAL_WINDOW_SIZE, 65535)))
        answered()(conn, strict)
    return want


row("initial-window-changes-open-streams", "9113 6.9.2", get(), credit=False, backend=1,
    settings=((h2.INITIAL_WINDOW_SIZE, 0),), want=initial_window((1, 1), (3, 3)))
row("initial-window-makes-it-negative", "9113 6.9.2", get(), credit=False, backend=1,
    settings=((h2.INITIAL_WINDOW_SIZE, 3),), want=initial_window((3, 3), (1, 3), (3, 3), (4, 4)))


def negative_then_update(conn, strict):
    """3 sent, window 3 - 3 + (0 - 3) = -3; 2 more is not enough, 2 beyond it are 1 byte."""
    data_sum(conn, 1, 3)
    conn.send(h2.settings((h2.INITIAL_WINDOW_SIZE, 0)))
    settled(conn)
    conn.send(h2.window_update(1, 2))
    data_sum(conn, 1, 3)
    conn.send(h2.window_update(1, 2))
    data_sum(conn, 1, 4)
    conn.send(h2.window_update(1, 65535))
    answered()(conn, strict)


row("initial-window-negative-and-updates", "9113 6.9.2", get(), credit=False, backend=1,
    settings=((h2.INITIAL_WINDOW_SIZE, 3),), want=negative_then_update)
row("initial-window-leaves-the-connection", "9113 6.9.2",
    h2.window_update(0, h2.WINDOW_MAX - 65535), h2.settings((h2.INITIAL_WINDOW_SIZE, 70000)),
    want=acknowledged)

# ---- 6.10 CONTINUATION ----

BLOCK = h2.request()
row("continuation", "9113 6.10", h2.split_headers(1, BLOCK, [10]), want=answered(), backend=1)
row("continuation-twice", "9113 6.10", h2.split_headers(1, BLOCK, [10, 10]), want=answered(),
    backend=1)
row("continuation-by-bytes", "9113 6.10", h2.split_headers(1, BLOCK, [8] * 7), want=answered(),
    backend=1)
row("continuation-of-an-empty-headers", "9113 6.10", h2.split_headers(1, BLOCK, [0]),
    want=answered(), backend=1)
row("continuation-of-trailers", "9113 6.10", post(), h2.data(1, b"x"),
    h2.split_headers(1, h2.block([("x-sum", "7"), ("x-more", "8")]), [5]), want=answered(),
    backend=1, body=b"x")
row("continuation-and-body", "9113 6.10",
    h2.split_headers(1, h2.request(method="POST"), [20], end=False), h2.data(1, b"x", True),
    want=answered(), backend=1, body=b"x")
row("continuation-after-end-headers", "9113 6.10", get(), h2.continuation(1, h2.block(())),
    want=connection_error(PROTO, h2.STREAM_CLOSED), backend=ANY)
row("continuation-after-end-headers-open", "9113 6.10", post(),
    h2.continuation(1, h2.literal("a", "b")), want=connection_error(PROTO), backend=CUT)
row("continuation-after-the-last", "9113 6.10",
    h2.split_headers(1, h2.request(method="POST"), [10], end=False),
    h2.continuation(1, h2.literal("a", "b")), want=connection_error(PROTO), backend=CUT)
row("continuation-on-stream-0", "9113 6.10",
    h2.headers(1, BLOCK[:10], end_headers=False), h2.continuation(0, BLOCK[10:]),
    want=connection_error(PROTO))
row("continuation-after-data", "9113 6.10", post(), h2.data(1, b"x"),
    h2.continuation(1, h2.literal("a", "b")), want=connection_error(PROTO), backend=CUT)
row("continuation-first", "9113 6.10", h2.continuation(1, BLOCK), want=connection_error(PROTO))

# ---- PRIORITY_UPDATE (RFC 9218 section 7.1) ----

KNOWS = "RFC 9218"
row("priority-update", "9218 7.1", post(), h2.priority_update(1, b"u=0, i"),
    h2.data(1, b"x", True), want=answered(), backend=1)
row("priority-update-before-the-stream", "9218 7.1", h2.priority_update(1, b"u=7"), get(),
    want=answered(), backend=1)
row("priority-update-of-a-closed-stream", "9218 7.1", get(), await_response(),
    h2.priority_update(1), want=ignored, backend=ANY)
row("priority-update-of-garbage", "9218 7.1", h2.priority_update(1, b"\xff{{;;"), get(),
    want=either(answered(), connection_error(PROTO)), backend=ANY)
row("priority-update-on-a-stream", "9218 7.1", post(), h2.priority_update(1, on=1),
    want=connection_error(PROTO), backend=CUT, weir_only=KNOWS)
row("priority-update-of-stream-0", "9218 7.1", h2.priority_update(0),
    want=connection_error(PROTO), weir_only=KNOWS)
row("priority-update-of-3", "9218 7.1", h2.frame(h2.PRIORITY_UPDATE, 0, 0, bytes(3)),
    want=connection_error(SIZE), weir_only=KNOWS)
row("priority-update-of-a-server-stream", "9218 7.1",
    h2.frame(h2.PRIORITY_UPDATE, 0, 0, struct.pack(">I", 2) + b"u=1"),
    want=either(connection_error(PROTO), ignored), weir_only=KNOWS)
