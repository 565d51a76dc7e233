"""buffer of a policy: a request body is held before an endpoint is chosen
(packaging/docs/policies.md, "Buffering")."""
import socket
import threading
import time

import pytest

from harness import client, wire
from harness.backend import raw
from harness.weir import eventually

SHARED_CONF = {
    "process": {"workers": 1},
    "policies": {"hold": {"buffer": "64KiB"}, "much": {"buffer": "1MiB"}, "off": {"buffer": "off"},
                 "slow": {"buffer": "64KiB", "timeouts": {"body": "300ms"}},
                 "small": {"buffer": "64KiB", "limits": {"body_bytes": "1000B"}}},
    "pools": {"none": {"endpoints": ["127.0.0.1:1"]}},
    "routes": [
        {"name": "plain", "prefix": "/", "pool": "app"},
        {"name": "hold", "prefix": "/hold", "pool": "app", "policies": ["hold"]},
        {"name": "much", "prefix": "/much", "pool": "app", "policies": ["hold", "much"]},
        {"name": "off", "prefix": "/off", "pool": "app", "policies": ["hold", "off"]},
        {"name": "slow", "prefix": "/slow", "pool": "app", "policies": ["slow"]},
        {"name": "small", "prefix": "/small", "pool": "app", "policies": ["small"]},
        {"name": "none", "prefix": "/none", "pool": "none", "policies": ["hold"]},
        {"name": "fixed", "prefix": "/fixed", "policies": ["hold"], "respond": {"body": "x"}},
    ],
}


def head(path, framing, method="POST", more=()):
    lines = ["%s %s HTTP/1.1" % (method, path), "Host: h", framing, *more]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def settled(pair, path):
    """Waits until weir has read all that the client sent."""
    eventually(lambda: pair.metric("weir_requests_inflight") == 1)
    time.sleep(0.1)
    return [r for r in pair.backend.requests if r.path == path]


@pytest.mark.parametrize("path,early", [("/hold", False), ("/off", True), ("/plain", True)])
def test_no_endpoint_before_the_body(pair, path, early):
    """The pool hears of the request when its body is here, not before."""
    before = pair.metric("weir_requests_buffered_total")
    conn = pair.client()
    conn.send(head(path, "Content-Length: 10") + b"half ")
    assert bool(settled(pair, path)) == early
    assert pair.metric("weir_buffered_bytes") == (0 if early else 5)
    conn.send(b"whole")
    assert conn.response("POST").status == 200
    request = pair.backend.last
    assert request.body.data == b"half whole" and request.get("content-length") == "10"
    assert pair.metric("weir_requests_buffered_total") == before + (0 if early else 1)
    assert pair.metric("weir_buffered_bytes") == 0
    record = pair.logged(path=path, status=200)
    assert record["http.request.body.size"] == 10


def test_chunked_body_gets_its_length(pair):
    conn = pair.client()
    conn.send(head("/hold", "Transfer-Encoding: chunked") + b"5;ext=1\r\nhalf \r\n")
    assert not settled(pair, "/hold")
    conn.send(b"5\r\nwhole\r\n0\r\nTrailer: x\r\n\r\n")
    assert conn.response("POST").status == 200
    request = pair.backend.last
    assert request.body.data == b"half whole" and request.all("content-length") == ["10"]
    assert not request.all("transfer-encoding")
    assert conn.get("/next").status == 200


SIZES = [1, 4095, 4096, 4097, 8192, 65535, 65536, 65537, 100_000, 1_000_000]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("path", ["/hold", "/much"])
def test_bodies_arrive_whole(pair, path, size):
    """Held, or partly held and streamed behind that, in both framings."""
    body = bytes(i * 7 % 251 for i in range(size))
    conn = pair.client()
    assert conn.request("POST", path + "/l", body=body).status == 200
    assert pair.backend.last.body.data == body
    for step in (997, 30_000):
        parts = [body[at:at + step] for at in range(0, size, step)]
        conn.send(head(path + "/c", "Transfer-Encoding: chunked") + wire.chunked(*parts))
        assert conn.response("POST").status == 200
        assert pair.backend.last.body.data == body
        held = size <= (65536 if path == "/hold" else 1 << 20)
        if held:
            assert pair.backend.last.get("content-length") == str(size)
        else:
            assert pair.backend.last.get("transfer-encoding") == "chunked"
    assert pair.metric("weir_buffered_bytes") == 0


def test_dribbled_chunks(pair):
    """The chunk head, the data and the end in single bytes, across the buffer's limit."""
    body = bytes(range(256)) * 300
    data = head("/hold", "Transfer-Encoding: chunked") + wire.chunked(body[:65000], body[65000:])
    conn = pair.client()
    conn.send(data[:65000])
    for at in range(65000, 66000):
        conn.send(data[at:at + 1])
    conn.send(data[66000:])
    assert conn.response("POST").status == 200
    assert pair.backend.last.body.data == body


def test_pipelined_request_waits(pair):
    conn = pair.client()
    conn.send(head("/hold", "Content-Length: 3") + b"abc" + head("/n", "X: 1", "GET"))
    assert conn.response("POST").body == b"POST /hold"
    assert conn.response().body == b"GET /n"


def test_continue_is_said_by_weir(pair):
    """Nobody else would: the endpoint is not chosen before the body is here."""
    conn = pair.client()
    conn.send(head("/hold", "Content-Length: 5", more=["Expect: 100-continue"]))
    conn.sock.settimeout(client.GUARD)
    assert conn.reader.line() == b"HTTP/1.1 100 Continue"
    assert conn.reader.line() == b""
    assert not settled(pair, "/hold")
    conn.send(b"abcde")
    response = wire.read_response(conn.reader, "POST", 1)
    assert response.status == 200 and not pair.backend.last.all("expect")
    conn.send(head("/plain", "Content-Length: 5", more=["Expect: 100-continue"]))
    pair.backend.wait(2)
    assert pair.backend.last.get("expect") == "100-continue"


def test_what_is_no_body_is_not_waited_for(pair):
    for method, framing in (("GET", "X: 1"), ("POST", "Content-Length: 0")):
        conn = pair.client()
        conn.send(head("/hold", framing, method))
        assert conn.response(method).status == 200
    assert pair.request("POST", "/fixed", body=b"abc").body == b"x"


# ---- what goes wrong ----


def test_client_stops(pair):
    conn = pair.client()
    conn.send(head("/slow", "Content-Length: 10") + b"half")
    assert conn.response("POST").status == 408
    pair.ended("client.timeout.body", path="/slow", status=408)
    assert not pair.backend.requests


@pytest.mark.parametrize("how", ["close", "reset", "half_close"])
def test_client_leaves(pair, how):
    conn = pair.client()
    conn.send(head("/hold", "Content-Length: 10") + b"half")
    assert not settled(pair, "/hold")
    getattr(conn, how)()
    end = "client.reset" if how == "reset" else "client.closed"
    pair.ended(end, path="/hold")
    assert not pair.backend.requests
    eventually(lambda: pair.metric("weir_buffered_bytes") == 0)


def test_bad_chunk(pair):
    conn = pair.client()
    conn.send(head("/hold", "Transfer-Encoding: chunked") + b"5\r\nabcdeX\r\n")
    assert conn.response("POST").status == 400
    pair.ended("client.bad_request.chunk", path="/hold", status=400)
    assert not pair.backend.requests


def test_limit_counts_while_held(pair):
    conn = pair.client()
    conn.send(head("/small", "Transfer-Encoding: chunked") + wire.chunked(b"x" * 1001))
    assert conn.response("POST").status == 413
    pair.ended("proxy.limit.body_bytes", path="/small", status=413)
    assert not pair.backend.requests


def test_dead_pool_keeps_the_client(pair):
    """The body was read, so the connection can go on."""
    conn = pair.client()
    assert conn.request("POST", "/none", body=b"x" * 1000).status == 502
    assert conn.get("/next").status == 200


def test_early_response_while_the_body_goes_out(pair):
    """The endpoint answers at the head and reads no more: its connection is not used again."""
    def early(conn, _request):
        conn.send(wire.response_bytes(413, b"no"))
        time.sleep(0.3)
        conn.close()
    pair.backend.on("/much", early)
    conn = pair.client()
    response = conn.request("POST", "/much", body=b"x" * 1_000_000)
    assert response.status in (413, 502)
    assert conn.get("/next").status == 200 if response.status == 413 else True
    pair.backend.violations.clear()


def test_route_timeout_does_not_count_the_client(weir, backend):
    proxy = weir({"policies": {"hold": {"buffer": "64KiB"}},
                  "routes": [{"prefix": "/", "pool": "app", "timeout": "1s",
                              "policies": "hold"}]}, backend)
    conn = proxy.client()
    conn.send(head("/", "Content-Length: 12"))
    for _ in range(12):
        time.sleep(0.1)
        conn.send(b"x")
    assert conn.response("POST").status == 200


# ---- again ----


def dying(kind):
    """An endpoint that reads a request and dies without a word."""
    def handler(conn, request):
        conn.read_body(request)
        if kind == "reset":
            conn.reset()
        else:
            conn.close()
    return handler


@pytest.mark.parametrize("kind", ["reset", "close"])
@pytest.mark.parametrize("chunked", [False, True])
def test_held_request_is_sent_again(weir, new_backend, kind, chunked):
    """PUT is idempotent and its body is here: another endpoint gets it whole."""
    bad, good = new_backend(dying(kind)), new_backend()
    proxy = weir({"policies": {"hold": {"buffer": "256KiB"}},
                  "pools": {"app": {"balance": "round_robin",
                                    "outlier": {"consecutive_failures": 0}}},
                  "routes": [{"prefix": "/", "pool": "app", "policies": "hold"},
                             {"prefix": "/stream", "pool": "app"}]}, bad, good)
    body = bytes(i % 253 for i in range(200_000))
    for _ in range(4):
        conn = proxy.client()
        if chunked:
            conn.send(head("/", "Transfer-Encoding: chunked", "PUT") + wire.chunked(body))
            assert conn.response("PUT").status == 200
        else:
            assert conn.request("PUT", "/", body=body).status == 200
        assert good.last.body.data == body
    assert bad.requests and proxy.metric("weir_upstream_retries_total") >= 1
    posts = [proxy.request("POST", "/", body=body).status for _ in range(4)]
    assert sorted(set(posts)) == [200, 502], posts  # it may have been acted on: never again
    puts = [proxy.request("PUT", "/stream", body=body).status for _ in range(4)]
    assert sorted(set(puts)) == [200, 502], puts    # not held: it is gone


def test_stalled_endpoint(weir):
    """It accepts and reads nothing: timeouts.idle of the pool, as for a streamed body."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        held = []
        thread = threading.Thread(target=lambda: held.append(server.accept()), daemon=True)
        thread.start()
        proxy = weir({"policies": {"hold": {"buffer": "16MiB"}},
                      "pools": {"app": {"endpoints": ["127.0.0.1:%d" % server.getsockname()[1]],
                                        "timeouts": {"idle": "500ms"}}},
                      "routes": [{"prefix": "/", "pool": "app", "policies": "hold"}]})
        response = proxy.request("POST", "/", body=b"x" * 15_000_000)
        assert response.status == 504
        proxy.ended("upstream.send.timeout", status=504)
        thread.join()
        held[0][0].close()


@pytest.mark.parametrize("chunked", [False, True])
def test_answered_before_all_of_it_was_sent(weir, chunked):
    """weir has all of the body, the endpoint has not: the client owes nothing, and goes on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        held = []

        def answer():
            for _ in range(2):
                held.append(server.accept()[0])
                held[-1].recv(100)
                held[-1].sendall(wire.response_bytes(200, b"early"))
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        proxy = weir({"policies": {"hold": {"buffer": "16MiB"}},
                      "pools": {"app": {"endpoints": ["127.0.0.1:%d" % server.getsockname()[1]]}},
                      "routes": [{"prefix": "/", "pool": "app", "policies": "hold"}]})
        body = b"x" * 12_000_000
        conn = proxy.client()
        for path in ("/one", "/two"):
            fields = "Transfer-Encoding: chunked" if chunked else "Content-Length: %d" % len(body)
            conn.send(head(path, fields) + (wire.chunked(body) if chunked else body))
            response = conn.response("POST")
            assert response.status == 200 and response.get("connection") is None
        thread.join()
        for one in held:
            one.close()


def test_memory_is_bounded(weir, backend):
    """Many held bodies: the rest is streamed, none is refused, and the memory goes back."""
    proxy = weir({"process": {"workers": 1, "max_connections": 100},
                  "policies": {"hold": {"buffer": "16MiB"}},
                  "routes": [{"prefix": "/", "pool": "app", "policies": "hold"}]}, backend)
    conns = [proxy.client() for _ in range(6)]
    body = b"x" * 12_000_000
    threads = [threading.Thread(target=conn.send, args=(
        head("/m", "Content-Length: %d" % (len(body) + 1)) + body,)) for conn in conns]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(client.GUARD)
        assert not thread.is_alive()
    assert 20 << 20 < proxy.metric("weir_buffered_bytes") <= 34 << 20  # half of 64 MiB
    assert proxy.metric("weir_upstream_connections") >= 1
    for conn in conns:
        conn.send(b"!")
        assert conn.response("POST").status == 200
    assert all(r.body.length == len(body) + 1 for r in backend.seen("/m"))
    assert len(backend.seen("/m")) == 6 and proxy.metric("weir_buffered_bytes") == 0
