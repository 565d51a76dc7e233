"""What an operator reads of HTTP/2: access lines of tunnels, of refused heads and of connections
that were ended, and the protocol towards endpoints."""
import re
import signal

import pytest

from harness import h2wire as h2
from harness.h2byhand import ByHand, proxy_for
from harness.h2raw import Conn
from harness.weir import eventually

CONNECT = (h2.ENABLE_CONNECT_PROTOCOL, 1)
BOTH = {"protocols": ["h2c", "http/1.1"]}


def answer(conn, stream, head):
    conn.head(stream, end=head[":method"] != "CONNECT")


def tunnel(conn):
    number = conn.new_stream("CONNECT")
    conn.send(h2.headers(number, h2.block([
        (":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"),
        (":authority", "test.example"), (":path", "/ws"), ("sec-websocket-version", "13")]),
        end=False))
    assert conn.wait_head(number).status == 200
    return number


def test_tunnels_can_be_told(weir):
    proxy = proxy_for(weir, ByHand(answer, CONNECT))
    conn = Conn(proxy.port).handshake()
    number = tunnel(conn)
    conn.send(h2.rst_stream(number, h2.CANCEL))
    record = proxy.logged(path="/ws", method="CONNECT", weir__upgrade="websocket")
    assert record["weir.reason"] == "RST_STREAM CANCEL"
    assert record["network.protocol.version"] == record["weir.upstream.protocol"] == "2"
    conn.get("/plain")
    record = proxy.logged(path="/plain", status=200)
    assert "weir.upgrade" not in record and record["weir.upstream.protocol"] == "2"
    conn.close()


def test_extended_connect_is_told_as_such(weir):
    """Whether it opens a tunnel or not, in the log and in metrics; routes match it as the GET that
    HTTP/1.1 brings."""
    proxy = proxy_for(weir, ByHand(answer, CONNECT), routes=[
        {"name": "ws", "path": "/ws", "methods": ["GET"], "pool": "app"},
        {"name": "no", "prefix": "/", "respond": {"status": 403}}])
    conn = Conn(proxy.port).handshake()
    number = tunnel(conn)
    conn.send(h2.rst_stream(number))
    proxy.logged(path="/ws", method="CONNECT", route="ws", weir__upgrade="websocket")
    refused = conn.new_stream("CONNECT")
    conn.send(h2.headers(refused, h2.block([
        (":method", "CONNECT"), (":protocol", "connect-udp"), (":scheme", "http"),
        (":authority", "test.example"), (":path", "/other")]), end=False))
    assert conn.wait_head(refused).status == 403
    proxy.logged(path="/other", method="CONNECT", weir__upgrade="connect-udp", status=403)
    assert conn.get("/ws").status == 200
    assert "weir.upgrade" not in proxy.logged(path="/ws", method="GET")
    count = "http_server_request_duration_seconds_count"
    assert proxy.metric(count, method="CONNECT", route="ws", status="2xx") == 1
    assert proxy.metric(count, method="CONNECT", route="no") == 1
    conn.close()


def test_tunnels_that_a_drain_ends(weir):
    proxy = proxy_for(weir, ByHand(answer, CONNECT), process={"drain": "200ms"})
    conn = Conn(proxy.port).handshake()
    tunnel(conn)
    proxy.signal(signal.SIGTERM)
    proxy.logged(path="/ws", end="proxy.drain.tunnel")
    conn.close()


def test_endpoints_of_http_1(weir, backend):
    proxy = weir({"listeners": {"web": BOTH}}, backend)
    assert proxy.get("/one").status == 200
    assert proxy.logged(path="/one")["weir.upstream.protocol"] == "1.1"
    conn = Conn(proxy.port).handshake()
    assert conn.get("/two").status == 200
    record = proxy.logged(path="/two")
    assert (record["network.protocol.version"], record["weir.upstream.protocol"]) == ("2", "1.1")
    conn.close()


@pytest.mark.parametrize("format", ["json", "text"])
def test_refused_heads_and_connections(weir, backend, format):
    """The version is the client's, where it has said one; faults have their reason, and a place
    that they came from."""
    proxy = weir({"listeners": {"web": {**BOTH, "limits": {"uri_bytes": "1KiB"}}},
                  "log": {"access": {"format": format}}}, backend)
    conn = Conn(proxy.port).handshake()
    assert conn.get("/" + "x" * 2000).status == 414
    conn.send(h2.frame(h2.PING, 0, 0, b"short"))
    conn.expect_connection_error(h2.FRAME_SIZE_ERROR)
    conn.close()
    old = proxy.client()
    old.send(b"\x16\x03\x01 / HTTP/1.1\r\n\r\n")
    assert old.response().status == 400
    if format == "text":
        eventually(lambda: proxy.access.read_text().count("\n") == 3)
        refused, ended, unread = proxy.access.read_text().splitlines()
        assert refused.startswith("127.0.0.1 - - [") and 'HTTP/2" 414' in refused
        assert ended.startswith("127.0.0.1 - - [") and '"- - HTTP/2" 0' in ended
        assert 'end=client.h2.frame_size reason="' in ended
        assert unread.startswith("127.0.0.1 - - [") and '"- - -" 400' in unread
        return
    assert proxy.logged(status=414)["network.protocol.version"] == "2"
    ended = proxy.logged(end="client.h2.frame_size")
    assert ended["network.protocol.version"] == "2" and ended["weir.reason"]
    assert "network.protocol.version" not in proxy.logged(status=400)


def test_a_flood_of_resets_is_summed(weir, backend):
    """Each is counted; some have a line, and one line tells of the others."""
    proxy = weir({"process": {"workers": 1},
                  "listeners": {"web": {**BOTH, "h2": {"resets": 100000}}}}, backend)
    conn = Conn(proxy.port).handshake()
    block = h2.block(h2.pseudo("GET", "/reset", "http", "x"))
    conn.write(b"".join(h2.headers(2 * n + 1, block) + h2.rst_stream(2 * n + 1)
                        for n in range(3000)))
    eventually(lambda: proxy.metric("weir_request_end_total", end="client.reset") == 3000)
    conn.close()
    told = eventually(lambda: re.search(r"127.0.0.1: (\d+) requests of an HTTP/2", proxy.errors))
    eventually(lambda: len(proxy.all_lines()) == 3000 - int(told[1]))
    assert len(proxy.all_lines()) >= 100


# ---- the other side's error ----

TOLD = [(h2.INTERNAL_ERROR, "INTERNAL_ERROR"), (h2.ENHANCE_YOUR_CALM, "ENHANCE_YOUR_CALM"),
        (h2.NO_ERROR, "NO_ERROR"), (0x1234, "0x1234")]


@pytest.mark.parametrize("begun", [False, True], ids=["before the head", "in the body"])
@pytest.mark.parametrize("code,name", TOLD, ids=[row[1] for row in TOLD])
def test_endpoints_that_reset(weir, begun, code, name):
    def play(conn, stream, _head):
        if begun:
            conn.head(stream)
        conn.send(h2.rst_stream(stream, code))
    proxy = proxy_for(weir, ByHand(play), pool={"retry": {"attempts": 1}})
    with Conn(proxy.port).handshake() as conn:
        stream = conn.open("GET", "/r")
        conn.pump(lambda: conn.stream(stream).over, what="end")
    record = proxy.logged(end="upstream.h2.rst_stream")
    assert record["weir.reason"] == "RST_STREAM " + name


def test_endpoints_that_end_the_connection(weir):
    def play(conn, _stream, _head):
        conn.send(h2.goaway(0, h2.ENHANCE_YOUR_CALM, b"too_many_pings"))
        conn.cut()
    proxy = proxy_for(weir, ByHand(play), pool={"retry": {"attempts": 1}})
    with Conn(proxy.port).handshake() as conn:
        assert conn.request("POST", "/r").status == 502
    record = proxy.logged(end="upstream.h2.goaway")
    assert record["weir.reason"] == "GOAWAY ENHANCE_YOUR_CALM"


@pytest.mark.parametrize("fields", [[], [("content-type", "application/grpc"),
                                         ("te", "trailers")]], ids=["http", "grpc"])
def test_endpoints_that_look_at_no_request(weir, fields):
    """GOAWAY without an error, before the request: no connection was reset."""
    proxy = proxy_for(weir, ByHand(lambda conn, stream, head: conn.send(h2.goaway(0, 0))),
                      pool={"retry": {"attempts": 1}})
    with Conn(proxy.port).handshake() as conn:
        answer = conn.request("POST", "/r", fields)
        if fields:
            assert answer.status == 200 and answer.get("grpc-status") == "14"
        else:
            assert answer.status == 502 and "connection_terminated" in answer.get("proxy-status")
    record = proxy.logged(end="upstream.h2.goaway")
    assert record["weir.reason"] == "GOAWAY NO_ERROR"
    assert record["weir.tries"].endswith(" upstream.h2.goaway NO_ERROR")


def test_earlier_tries_have_the_code(weir):
    def play(conn, stream, _head):
        if len(origin.asked()) == 1:
            conn.send(h2.rst_stream(stream, h2.REFUSED_STREAM))
        else:
            conn.head(stream, end=True)
    origin = ByHand(play)
    proxy = proxy_for(weir, origin)
    with Conn(proxy.port).handshake() as conn:
        assert conn.get("/r").status == 200
    record = proxy.logged(path="/r")
    assert record["weir.tries"].endswith(" upstream.h2.rst_stream REFUSED_STREAM")
    assert "weir.reason" not in record


@pytest.mark.parametrize("format", ["json", "text"])
def test_clients_that_leave(weir, format):
    """By RST_STREAM, and by GOAWAY and the end: a client that finds fault says so in its code."""
    origin = ByHand(lambda conn, stream, head: None)
    proxy = proxy_for(weir, origin, log={"access": {"format": format}})
    conn = Conn(proxy.port).handshake()
    conn.open("GET", "/reset")
    origin.wait_asked(1)
    conn.send(h2.rst_stream(1, h2.CANCEL))
    eventually(lambda: proxy.metric("weir_requests_inflight") == 0)
    conn.open("GET", "/goaway")
    origin.wait_asked(2)
    conn.send(h2.goaway(0, h2.PROTOCOL_ERROR))
    conn.close()
    if format == "text":
        eventually(lambda: proxy.access.read_text().count("\n") == 2)
        first, second = proxy.access.read_text().splitlines()
        assert 'end=client.reset reason="RST_STREAM CANCEL" ms=' in first
        assert ' reason="GOAWAY PROTOCOL_ERROR" ms=' in second
        return
    assert proxy.logged(path="/reset", status=499)["weir.reason"] == "RST_STREAM CANCEL"
    assert proxy.logged(path="/goaway", status=499)["weir.reason"] == "GOAWAY PROTOCOL_ERROR"


def test_a_fault_that_cost_nothing_is_no_reason(weir):
    """It is weir that gives up a client that reads nothing, whatever that one said before."""
    def handler(conn, stream, head):
        conn.head(stream)
        conn.give(stream, 100000)
    web = {**BOTH, "timeouts": {"send": "1s"}}
    proxy = proxy_for(weir, ByHand(handler), listeners={"web": web})
    with Conn(proxy.port, credit=False).handshake() as conn:
        number = conn.open("GET", "/slow")
        conn.wait_head(number)
        conn.send(h2.goaway(0, h2.PROTOCOL_ERROR))
        conn.pump(lambda: conn.stream(number).over, what="its end")
    record = proxy.logged(path="/slow", end="client.timeout.send")
    assert record["http.response.status_code"] == 200 and "weir.reason" not in record


# ---- heads that were refused ----

def test_refused_heads_of_http_2(weir, backend):
    proxy = weir({"listeners": {"web": {**BOTH, "limits": {"uri_bytes": "1KiB"}}}}, backend)
    with Conn(proxy.port).handshake() as conn:
        assert conn.get("/long?" + "x" * 2000).status == 414
        number = conn.new_stream("GET")
        conn.send(h2.headers(number, h2.block(h2.pseudo("GET", "/bad?q") + [
            ("user-agent", "me"), ("connection", "close")])))
        conn.expect_stream_error(number, h2.PROTOCOL_ERROR)
    record = proxy.logged(status=414, method="GET", path="/long")
    assert record["url.query"] == "x" * 2000 and record["server.address"] == "test.example"
    record = proxy.logged(end="client.bad_request.connection_field", method="GET", path="/bad")
    assert (record["url.query"], record["user_agent.original"]) == ("q", "me")
