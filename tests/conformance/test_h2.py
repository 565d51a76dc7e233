"""Every row of h2_*.py against the real proxy before a strict recording backend: what must come
comes, all that weir sends is checked frame by frame, and nothing malformed reaches the backend.
RFC 9113, RFC 7541, RFC 9218, RFC 8441.

WEIR_H2_PEER=nghttpd (nghttpx, nginx, haproxy, node) runs the rows against another server, to try
the rows; it may close without GOAWAY, and a row that only weir owes is left out.
"""
import base64
import hashlib
import os
import threading

import pytest

import h2_frames  # noqa: F401  (fill ROWS)
import h2_hpack  # noqa: F401
import h2_messages  # noqa: F401
import h2_types  # noqa: F401
from h2_rows import ANY, CUT, NONE, ROWS
from h2_suite import CASES
from harness import h2peers, h2wire as h2
from harness.backend import Backend
from harness.h2fixtures import (default_handler, h2pair, h2shared,  # noqa: F401
                                read_body, speaks_h2)
from harness.h2raw import Conn

PEER = os.environ.get("WEIR_H2_PEER")
every_row = pytest.mark.parametrize("each", ROWS, ids=[each.name for each in ROWS])


def play(conn, each, strict):
    """Sends the row and judges what comes."""
    conn.check.methods.update(each.methods)
    if not each.raw:
        conn.handshake()
    for part in each.send:
        if callable(part):
            part(conn)
        else:
            conn.send(part)
    each.want(conn, strict)


def check_backend(each, requests):
    """No request that the row forbids, no byte of what was hidden in fields."""
    found = [r for r in requests if r.path == "/case"]
    whole = [r for r in found if r.complete]
    for request in requests:
        lines = [b"%s: %s" % field for field in request.fields]
        assert request.path != "/evil" and not any(b.startswith(b"evil") for b in lines), lines
    if each.backend == NONE:
        assert not found, "reached the backend: %r" % found[0].raw_head
    elif each.backend == CUT:
        assert not whole, "reached the backend whole: %r" % whole[0].raw_head
    elif each.backend != ANY:
        assert len(whole) == len(found) == each.backend, "%d requests, %d whole" % (
            len(found), len(whole))
    if each.sees:
        check_fields(each, whole[-1])
    if each.body is not None:
        assert [r.body.data for r in whole] == [each.body] * len(whole)


def check_fields(each, request):
    """sees stands there, value by value in order."""
    names = {to_bytes(name) for name, _ in each.sees}
    got = [(name.lower(), value) for name, value in request.fields if name.lower() in names]
    assert got == [(to_bytes(name), to_bytes(value)) for name, value in each.sees]


def to_bytes(text):
    return text if isinstance(text, bytes) else text.encode("latin-1")


@pytest.mark.skipif(bool(PEER), reason="another server")
@pytest.mark.parametrize("how", ["h2c", "tls"])
@every_row
def test_row(h2pair, each, how):  # noqa: F811
    conn = h2pair.conn(how, settings=each.settings, credit=each.credit, start=not each.raw)
    play(conn, each, True)
    with Conn(h2pair.weir.port) as honest:
        assert honest.get("/well").status == 200
    check_backend(each, h2pair.backend.requests)


# ---- other servers ----

@pytest.fixture(scope="module")
def peer(session_dir):
    backend = Backend(default_handler)
    made = h2peers.KINDS[PEER](session_dir, backend.address).start()
    yield made, backend
    made.stop()
    backend.stop()


@every_row
def try_peer(peer, each):
    made, backend = peer
    if each.weir_only:
        pytest.skip(each.weir_only)
    backend.requests.clear()
    with Conn(made.port, settings=each.settings, credit=each.credit, start=not each.raw) as conn:
        play(conn, each, False)
    if PEER in h2peers.RECORDS:
        check_backend(each, backend.requests)


if PEER:
    test_peer = try_peer

# ---- what the rows cannot say ----

def test_enough_rows():
    """Shows of issue 4: what the common public suite has, about 146, and more."""
    assert len(ROWS) >= 400
    sections = {each.rfc.split()[1].split(".")[0] for each in ROWS if each.rfc.startswith("9113")}
    assert sections >= set("345678") and sum(each.rfc.startswith("7541") for each in ROWS) >= 50


def test_each_case_of_the_public_suite_has_a_row():
    """h2_suite.py names rows that exist; its groups are the suite's, of about 146 cases."""
    names = {each.name for each in ROWS}
    missing = [(group, case, row) for group, case, rows in CASES for row in rows
               if row not in names]
    assert not missing and all(rows for _, _, rows in CASES)
    assert {group.split()[0] for group, _, _ in CASES} == {"generic", "http2", "hpack"}
    assert len(CASES) >= 146


@pytest.mark.skipif(bool(PEER), reason="another server")
@pytest.mark.parametrize("how", ["h2c", "tls"])
def test_settings_of_weir(h2pair, how):  # noqa: F811
    """What weir announces is what its options say."""
    conn = h2pair.conn(how).handshake()
    settings = conn.check.settings
    assert settings[h2.MAX_CONCURRENT_STREAMS] == 128
    assert settings[h2.INITIAL_WINDOW_SIZE] == 65536
    assert settings[h2.MAX_HEADER_LIST_SIZE] == 65536
    assert settings.get(h2.ENABLE_PUSH, 0) == 0 and settings[h2.NO_RFC7540_PRIORITIES] == 1
    assert settings[h2.ENABLE_CONNECT_PROTOCOL] == 1
    assert conn.get("/case").status == 200
    conn.expect_alive()


@pytest.mark.skipif(bool(PEER), reason="another server")
@pytest.mark.parametrize("how", ["h2c", "tls"])
def test_connection_window_of_weir(h2pair, how):  # noqa: F811
    """h2.window is announced by WINDOW_UPDATE, at once or as DATA comes."""
    conn = h2pair.conn(how).handshake()
    assert conn.request("POST", "/case", body=bytes(300000)).status == 200
    assert conn.check.send_window > 0


WEBSOCKET_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3


def echo_tunnel(conn, request):
    """Answers 101 and sends every byte back."""
    assert request.get("upgrade") == "websocket"
    key = request.get("sec-websocket-key").encode()
    accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_MAGIC).digest())
    conn.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n"
              b"Upgrade: websocket\r\nSec-WebSocket-Accept: %s\r\n\r\n" % accept)
    reader = conn.reader
    while reader.buf or reader.fill():
        conn.send(bytes(reader.buf))
        reader.buf.clear()
    conn.close()


@pytest.mark.skipif(bool(PEER), reason="another server")
def test_extended_connect_that_the_endpoint_does_not_switch(h2pair):  # noqa: F811
    """A 200 of HTTP/1.1 instead of 101 is no tunnel; passed on, it would say that it is one
    (RFC 9113 8.5: any 2xx to CONNECT)."""
    conn = h2pair.conn().handshake()
    number = conn.new_stream("CONNECT")
    conn.send(h2.headers(number, h2.block(WEBSOCKET), end=False))
    stream = conn.stream(number)
    conn.pump(lambda: stream.over or stream.response.status, what="refusal")
    assert stream.reset is not None or stream.response.status >= 300, stream.response


WEBSOCKET = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
             (":path", "/ws"), (":authority", "test.example"), ("sec-websocket-version", "13")]


def never_reads(conn, _request):
    """Takes the head and no byte of the body."""
    conn.backend.stalled.wait(30)
    conn.close()


@pytest.mark.skipif(bool(PEER), reason="another server")
def test_data_beyond_the_window(h2pair):  # noqa: F811
    """An endpoint that reads nothing: no window comes back, and DATA beyond it is refused
    (RFC 9113 6.9.1). Sockets between hold some megabytes at most."""
    h2pair.backend.stalled = threading.Event()
    h2pair.backend.on("/stalled", never_reads)
    conn = h2pair.conn().handshake()
    number = conn.open("POST", "/stalled", end=False)
    try:
        for _ in range(4096):
            conn.send(h2.data(number, bytes(16384)))
            conn.drain()
            if conn.stream(number).over or conn.closed:
                break
        conn.expect_stream_error(number, h2.FLOW_CONTROL_ERROR)
    finally:
        h2pair.backend.stalled.set()
    assert not [r for r in h2pair.backend.seen("/stalled") if r.complete]


@pytest.mark.skipif(bool(PEER), reason="another server")
def test_extended_connect(h2pair):  # noqa: F811
    """RFC 8441: the tunnel's bytes go both ways and its end is END_STREAM."""
    h2pair.backend.early_bytes_ok = True
    h2pair.backend.on("/ws", echo_tunnel)
    conn = h2pair.conn().handshake()
    number = conn.new_stream("CONNECT")
    conn.send(h2.headers(number, h2.block(WEBSOCKET), end=False))
    response = conn.wait_head(number)
    assert response.status == 200
    assert not response.all("content-length")
    for text in (b"hello", b"again" * 5000):
        before = response.payload.length
        conn.data(number, text, end=False)
        conn.pump(lambda: response.payload.length == before + len(text), what="the echo")
    conn.data(number, b"", end=True)
    conn.wait(number)
    assert response.body == b"hello" + b"again" * 5000
    request = h2pair.backend.seen("/ws")[-1]
    assert request.method == "GET" and request.get("sec-websocket-key")
