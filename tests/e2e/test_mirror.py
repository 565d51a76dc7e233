"""routes.*.mirror: copies go to the other pool, whole and as the endpoint got them; the client
sees nothing of it."""
import json
import threading
import time

import pytest

from harness import wire
from harness.backend import raw
from harness.h2raw import Conn
from harness.weir import eventually


def conf(shadow, **mirror):
    return {"pools": {"shadow": {"endpoints": [shadow.address]}},
            "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow", **mirror}}]}


def test_copies(weir, new_backend):
    backend, shadow = new_backend(), new_backend(raw(wire.response_bytes(500, reason="Shadow")))
    proxy = weir(conf(shadow), backend)
    conn = proxy.client()
    forged = [("X-Forwarded-User", "evil"), ("X_Forwarded_Uri", "evil")]
    assert conn.get("/a?x=1", fields=[("X-A", "1")] + forged).status == 200
    assert conn.request("POST", "/b", body=b"x" * 50000).status == 200
    assert conn.request("HEAD", "/c").status == 200
    eventually(lambda: proxy.metric("weir_mirror_responses_total", status="5xx") == 3)
    copies = sorted(shadow.requests, key=lambda r: r.target)  # nothing orders them
    assert [r.target for r in copies] == [r.target for r in backend.requests]
    for copy, real in zip(copies, backend.requests):
        assert copy.method == real.method and copy.body.crc == real.body.crc
        drop = {"content-length", "transfer-encoding"}
        assert [f for f in copy.fields if f[0].lower() not in drop] == \
            [f for f in real.fields if f[0].lower() not in drop]
        assert b"evil" not in copy.raw_head
    assert proxy.metric("weir_mirror_requests_total") == 3
    assert proxy.metric("weir_mirror_skipped_total") == 0
    assert len(shadow.conns) <= 3


def test_copies_announce_no_trailers(weir, new_backend):
    """They get none."""
    backend, shadow = new_backend(), new_backend()
    proxy = weir(conf(shadow), backend)
    conn = proxy.client()
    conn.send(wire.request_bytes("POST", "/t", ["Transfer-Encoding: chunked", "Trailer: X-Sum"])
              + wire.chunked(b"body", end=b"0\r\nX-Sum: 7\r\n\r\n"))
    assert conn.response("POST").status == 200
    copy = shadow.wait()
    eventually(lambda: proxy.metric("weir_mirror_responses_total", status="2xx") == 1)
    assert copy.body.data == b"body" and not copy.all("trailer")
    assert backend.last.get("trailer") == "X-Sum"


def test_a_length_of_0_of_http_2_is_copied(weir, new_backend):
    """Once, whenever its client says that nothing follows."""
    backend, shadow = new_backend(), new_backend()
    proxy = weir({"listeners": {"web": {"protocols": ["h2c"]}}, **conf(shadow)}, backend)
    with Conn(proxy.port).handshake() as conn:
        fields = [("content-length", "0")]
        for number, body in enumerate([b"", None, b""], 1):
            stream = conn.open("POST", "/%d" % number, fields, end=False)
            if body is None:
                backend.wait(number)
            else:
                conn.data(stream, body)
            assert conn.wait(stream).status == 200
            assert shadow.wait(number).get("content-length") == "0"
    assert sorted(r.path for r in shadow.requests) == ["/1", "/2", "/3"]


def test_percent(weir, new_backend):
    backend, shadow = new_backend(), new_backend()
    proxy = weir(conf(shadow, percent="20%"), backend)
    conn = proxy.client()
    for number in range(300):
        assert conn.get("/%d" % number).status == 200
    eventually(lambda: proxy.metric("weir_mirror_requests_total") == len(shadow.requests))
    assert 25 < len(shadow.requests) < 110


def test_a_dead_shadow_is_not_felt(weir, new_backend):
    """Refusing, then silent: the original is as fast as ever; copies beyond the bound are left."""
    hold = threading.Event()

    def silent(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    backend, shadow = new_backend(), new_backend(silent)
    proxy = weir(conf(shadow), backend)
    conn = proxy.client()
    start = time.monotonic()
    for number in range(300):
        assert conn.get("/%d" % number).status == 200
    assert time.monotonic() - start < 10
    assert proxy.metric("weir_mirror_skipped_total") == 300 - 128
    hold.set()
    eventually(lambda: proxy.metric("weir_mirror_responses_total", status="2xx") == 128)
    shadow.stop()
    for number in range(20):
        assert conn.get("/%d" % number).status == 200
    eventually(lambda: proxy.metric("weir_mirror_failed_total") > 0)


def test_long_bodies_are_left_away(weir, new_backend):
    backend, shadow = new_backend(), new_backend()
    proxy = weir(conf(shadow), backend)
    assert proxy.request("PUT", "/long", body=b"x" * 100000).status == 200
    eventually(lambda: proxy.metric("weir_mirror_skipped_total") == 1)
    assert backend.last.body.length == 100000 and shadow.requests == []


def test_copies_are_spread_by_the_key_of_their_pool(weir, new_backend):
    """A shadow with consistent hashing gets what its real twin would."""
    shadows = [new_backend() for _ in range(4)]
    proxy = weir({"pools": {"shadow": {"endpoints": [each.address for each in shadows],
                                       "balance": "maglev", "hash": "path"}},
                  "routes": [{"prefix": "/", "pool": "app", "mirror": {"pool": "shadow"}}]},
                 new_backend())
    conn = proxy.client()
    paths = ["/%d" % (i % 20) for i in range(100)]
    for count, path in enumerate(paths):
        assert conn.get(path).status == 200
        eventually(lambda: proxy.metric("weir_mirror_responses_total", status="2xx") > count)
    homes = [{request.target for request in each.requests} for each in shadows]
    assert sum(len(home) for home in homes) == 20 and sum(bool(home) for home in homes) > 1


def state(proxy, backend):
    rows = json.loads(proxy.status_get("/-/status").body)["endpoints"]
    return {row["address"]: row["state"] for row in rows}[backend.address]


def touchy(shadow, **settings):
    """One failure ejects the shadow."""
    text = conf(shadow)
    text["process"] = {"workers": 1}
    text["pools"]["shadow"].update(settings, outlier={
        "consecutive_failures": 1, "eject": "1h", "max_ejected": "100%"})
    return text


def test_an_answer_without_end_is_left(weir, new_backend):
    """A byte now and then keeps neither the copy nor its connection beyond first_byte."""
    def drip(conn, _request):
        conn.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
        while True:  # until weir closes
            conn.send(b"x", 0.05)
    shadow = new_backend(drip)
    proxy = weir(touchy(shadow, timeouts={"first_byte": "1s", "idle": "10s"}), new_backend())
    assert proxy.get("/").status == 200
    eventually(lambda: proxy.metric("weir_mirror_responses_total", status="2xx") == 1)
    assert shadow.conns[0].ended.wait(30)
    assert proxy.metric("weir_mirror_failed_total") == 0
    assert state(proxy, shadow) == "in service"


@pytest.mark.parametrize("end", ["close", "reset"])
def test_the_end_of_a_kept_connection_is_nobodys_fault(weir, new_backend, end):
    def answer(conn, _request):
        if conn.requests == 1:
            return wire.response_bytes()
        getattr(conn, end)()
        return None
    shadow = new_backend(answer)
    proxy = weir(touchy(shadow), new_backend())
    assert proxy.get("/1").status == 200
    eventually(lambda: proxy.metric("weir_mirror_responses_total", status="2xx") == 1)
    assert proxy.get("/2").status == 200
    eventually(lambda: proxy.metric("weir_mirror_failed_total") == 1)
    assert len(shadow.conns) == 1  # it was a kept one
    assert state(proxy, shadow) == "in service"


def test_an_ejection_by_a_copy_is_told(weir, new_backend):
    shadow = new_backend(raw(reset=True))
    proxy = weir(touchy(shadow), new_backend())
    assert proxy.get("/").status == 200
    eventually(lambda: state(proxy, shadow) == "ejected")
    proxy.stderr_has("pool shadow: endpoint %s: taken out of service" % shadow.address)


def test_long_heads_of_answers_are_not_kept(weir, new_backend):
    """What a copy's answer may cost is bounded; that it says more is not the endpoint's fault."""
    def answer(_conn, request):
        return wire.response_bytes(fields=[("X-Long", "x" * int(request.path[1:]))])
    shadow = new_backend(answer)
    proxy = weir(touchy(shadow), new_backend())
    assert proxy.get("/20000").status == 200
    eventually(lambda: proxy.metric("weir_mirror_failed_total") == 1)
    assert state(proxy, shadow) == "in service"
    assert proxy.get("/10000").status == 200
    eventually(lambda: proxy.metric("weir_mirror_responses_total", status="2xx") == 1)


def test_heads_above_the_pools_limit_are_its_fault(weir, new_backend):
    shadow = new_backend(raw(wire.response_bytes(fields=[("X-Long", "x" * 3000)])))
    proxy = weir(touchy(shadow, limits={"header_bytes": "2KiB"}), new_backend())
    assert proxy.get("/").status == 200
    eventually(lambda: state(proxy, shadow) == "ejected")


def test_copies_do_not_wait_with_their_original(weir, new_backend):
    """A copy without a body goes when the request has come; the original may have to queue."""
    hold = threading.Event()

    def gate(_conn, _request):
        hold.wait(30)
        return wire.response_bytes()
    shadow = new_backend()
    text = conf(shadow)
    caps = {"max_requests": 1, "queue": 1, "queue_timeout": "20s"}
    text["pools"]["app"] = {"connections": caps}
    proxy = weir(text, new_backend(gate))
    conns = []
    for number in range(2):
        conns.append(proxy.client())
        conns[-1].send(wire.request_bytes(target="/%d" % number))
        eventually(lambda: len(shadow.requests) == number + 1)
    eventually(lambda: proxy.metric("weir_pool_queue", pool="app") == 1)
    assert proxy.get("/2").status == 503
    eventually(lambda: len(shadow.requests) == 3)
    hold.set()
    assert [conn.response().status for conn in conns] == [200, 200]
