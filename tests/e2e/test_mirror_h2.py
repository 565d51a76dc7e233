"""routes.*.mirror to a pool of HTTP/2 (connections.protocol = "h2c"): copies are streams like
other requests, with the bounds that they have over HTTP/1.1 (test_mirror.py)."""
import socket
import threading

import pytest

from harness import h2wire
from harness.h2endpoints import Answer, Grpc, Origin, Script, ask
from harness.weir import eventually


def conf(shadow, pool=None, **mirror):
    return {"process": {"workers": 1},
            "listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
            "pools": {"shadow": {"endpoints": [shadow.address],
                                 "connections": {"protocol": "h2c"}, **(pool or {})}},
            "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow", **mirror}}]}


def decoded(fields):
    return [(name.decode().lower(), value.decode()) for name, value in fields]


def copied(proxy, count, status="2xx"):
    def is_so():
        return proxy.metric("weir_mirror_responses_total", status=status) == count
    is_so.__doc__ = "%d copies answered %s; %s" % (count, status, proxy.errors)
    eventually(is_so)


def test_copies(weir, new_backend, serve):
    backend, shadow = new_backend(), serve(Origin, lambda r: Answer(500, b"x" * 40000))
    proxy = weir(conf(shadow), backend)
    conn = proxy.client()
    assert conn.get("/a?x=1", fields=[("X-A", "1"), ("Cookie", "a=b; c=d"),
                                      ("TE", "trailers"), ("Connection", "TE")]).status == 200
    assert conn.request("POST", "/b", body=b"x" * 60000).status == 200
    assert conn.request("HEAD", "/c").status == 200
    assert conn.request("PUT", "/d", body=b"").status == 200
    copied(proxy, 4, "5xx")
    own = {"content-length", "transfer-encoding", "connection", "host"}
    for copy, real in zip(shadow.requests, backend.requests):
        assert (copy.method, copy.path.encode()) == (real.method, real.target)
        assert copy.headers[":authority"] == real.get("host")
        assert copy.headers[":scheme"] == "http"
        assert len(copy.body) == real.body.length
        assert {f for f in copy.fields if f[0][0] != ":" and f[0] not in own} == \
            {f for f in decoded(real.fields) if f[0] not in own}
    assert shadow.requests[0].headers["te"] == "trailers"
    assert shadow.requests[1].headers["content-length"] == "60000"
    assert proxy.metric("weir_mirror_requests_total") == 4
    assert proxy.metric("weir_mirror_skipped_total") == 0
    assert proxy.metric("weir_mirror_failed_total") == 0
    assert len(shadow.conns) == 1


def test_chunked_bodies_have_a_length(weir, new_backend, serve):
    backend, shadow = new_backend(), serve(Origin)
    proxy = weir(conf(shadow), backend)
    _, got = proxy.exchange(
        b"POST /b HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
    assert got.status == 200
    copied(proxy, 1)
    assert shadow.requests[0].body == b"abcdefg"
    assert shadow.requests[0].headers["content-length"] == "7"


def test_answers(weir, new_backend, serve):
    """Interim heads, trailers, bodies without a length; what comes is counted and dropped."""
    def answer(request):
        return Answer(200, b"y" * 50000, interim=[(103, [("link", "</a>")])] * 3,
                      trailers=[("x-sum", "1")])
    backend, shadow = new_backend(), serve(Origin, answer)
    proxy = weir(conf(shadow), backend)
    conn = proxy.client()
    for number in range(20):
        assert conn.get("/%d" % number).status == 200
    copied(proxy, 20)
    assert proxy.metric("weir_mirror_failed_total") == 0
    assert len(shadow.conns) == 1


def test_a_silent_shadow_is_not_felt(weir, new_backend, serve):
    """128 copies wait at most, as streams of two connections; the others are left."""
    hold = threading.Event()

    def answer(request):
        hold.wait(60)
        return Answer()
    backend, shadow = new_backend(), serve(Origin, answer)
    proxy = weir(conf(shadow), backend)
    conn = proxy.client()
    for number in range(300):
        assert conn.get("/%d" % number).status == 200
    assert proxy.metric("weir_mirror_skipped_total") == 300 - 128
    hold.set()
    copied(proxy, 128)
    assert proxy.metric("weir_mirror_failed_total") == 0
    assert len(shadow.conns) == 2


def test_no_answer_in_time(weir, new_backend, serve):
    backend, shadow = new_backend(), serve(Origin, lambda request: None)
    proxy = weir(conf(shadow, {"timeouts": {"first_byte": "200ms"}}), backend)
    assert proxy.get("/a").status == 200
    eventually(lambda: proxy.metric("weir_mirror_failed_total") == 1)


def test_a_dead_shadow_is_not_felt(weir, new_backend, serve):
    backend, shadow = new_backend(), serve(Origin)
    proxy = weir(conf(shadow, {"outlier": {"consecutive_failures": 0}}), backend)
    conn = proxy.client()
    assert conn.get("/a").status == 200
    copied(proxy, 1)
    shadow.stop()
    for number in range(20):
        assert conn.get("/%d" % number).status == 200
    eventually(lambda: proxy.metric("weir_mirror_failed_total") > 0)


BAD = {
    "reset": [h2wire.rst_stream(1, h2wire.REFUSED_STREAM)],
    "goaway": [h2wire.goaway(0, h2wire.ENHANCE_YOUR_CALM)],
    "malformed": [h2wire.headers(1, h2wire.literal(":status", "abc"), end=True)],
    "short body": [h2wire.headers(1, h2wire.indexed(8) + h2wire.literal("content-length", "9"),
                                  end=False), h2wire.data(1, b"four", end=True)],
    "huge head": [h2wire.headers(1, h2wire.indexed(8) + h2wire.literal("a", "b" * 9000),
                                 end_headers=False),
                  *[h2wire.continuation(1, h2wire.literal("c", "d" * 9000), end_headers=n == 9)
                    for n in range(10)]],
    "interim for ever": [h2wire.headers(1, b"\x08\x03103", end=False)] * 200,
    "garbage": [b"HTTP/1.1 200 OK\r\n\r\n" * 10],
}


@pytest.mark.parametrize("name", BAD)
def test_bad_answers(weir, new_backend, serve, name):
    """A failed copy, once; the original does not know."""
    def script(sock):
        sock.sendall(h2wire.settings() + b"".join(BAD[name]))
    backend, shadow = new_backend(), serve(Script, script)
    proxy = weir(conf(shadow), backend)
    assert proxy.get("/a").status == 200
    eventually(lambda: proxy.metric("weir_mirror_failed_total") == 1)
    assert proxy.metric("weir_mirror_requests_total") == 1


def test_an_endless_answer_ends(weir, new_backend, serve):
    """first_byte is how long its body may go on; then the copy counts as answered."""
    stop = threading.Event()

    def script(sock):
        sock.sendall(h2wire.settings() + h2wire.headers(1, h2wire.indexed(8), end=False))
        sock.settimeout(0.02)
        while not stop.is_set():
            sock.sendall(h2wire.data(1, b"x" * 100))
            try:
                if not sock.recv(65536):
                    return
            except socket.timeout:
                pass
    backend, shadow = new_backend(), serve(Script, script)
    proxy = weir(conf(shadow, {"timeouts": {"first_byte": "3s", "idle": "2s"}}), backend)
    assert proxy.get("/a").status == 200
    copied(proxy, 1)
    stop.set()


def test_caps_of_the_pool_hold(weir, new_backend, serve):
    """One request at a time, no queue for copies."""
    hold = threading.Event()

    def answer(request):
        hold.wait(30)
        return Answer()
    backend, shadow = new_backend(), serve(Origin, answer)
    proxy = weir(conf(shadow, {"connections": {"protocol": "h2c", "max_requests": 1}}), backend)
    conn = proxy.client()
    for number in range(10):
        assert conn.get("/%d" % number).status == 200
    assert proxy.metric("weir_mirror_requests_total") == 1
    assert proxy.metric("weir_mirror_skipped_total") == 9
    hold.set()
    copied(proxy, 1)
    assert conn.get("/more").status == 200
    copied(proxy, 2)


def test_a_reload_and_an_end(weir, new_backend, serve):
    """Copies under way survive a reload, and hold up no end."""
    hold = threading.Event()

    def answer(request):
        hold.wait(30)
        return Answer()
    backend, shadow = new_backend(), serve(Origin, answer)
    proxy = weir(conf(shadow), backend)
    assert proxy.get("/a").status == 200
    eventually(lambda: shadow.requests)
    proxy.change(process={"drain": "3s"})
    proxy.reload()
    hold.set()
    copied(proxy, 1)
    hold.clear()
    assert proxy.get("/b").status == 200
    eventually(lambda: len(shadow.requests) == 2)
    proxy.stop()
    hold.set()


def test_grpc(weir, serve):
    """A call is copied whole, and the shadow's server takes it as one."""
    pytest.importorskip("grpc")
    app, shadow = serve(Grpc, "app"), serve(Grpc, "shadow")
    base = conf(shadow)
    base["pools"]["app"] = {"endpoints": [app.address], "connections": {"protocol": "h2c"}}
    proxy = weir(base)
    assert ask("127.0.0.1:%d" % proxy.port) == "app"
    copied(proxy, 1)
    assert app.calls == ["get"] and shadow.calls == ["get"]
