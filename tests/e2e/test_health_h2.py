"""Health checks over HTTP/2 and by gRPC: what they send, read by the h2 package; what brings an
endpoint down and up, in status, metrics and routing; endpoints that flood, stall and play with
windows: each check ends, bounded, with its reason (packaging/docs/health.md)."""
import json

import pytest

from harness import h2wire, wire
from harness.backend import raw
from harness.h2endpoints import NOT_SERVING, SERVING, Answer, Grpc, Origin, Script, ask
from harness.weir import eventually

QUICK = {"path": "/healthz", "interval": "100ms", "fast_interval": "50ms", "timeout": "10s",
         "healthy": 2, "unhealthy": 3}
GRPC = {"protocol": "grpc", "interval": "100ms", "fast_interval": "50ms", "timeout": "10s",
        "healthy": 2, "unhealthy": 3}


def conf(*endpoints, health=None, protocol="h2c", **more):
    return {"listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
            "pools": {"app": {"balance": "round_robin",
                              "endpoints": [each.address for each in endpoints],
                              "connections": {"protocol": protocol},
                              "health": health or QUICK, **more}},
            "routes": [{"name": "all", "prefix": "/", "pool": "app"}]}


def rows(proxy):
    listed = json.loads(proxy.status_get("/-/status").body)["endpoints"]
    return {row["address"]: row for row in listed}


def becomes(proxy, endpoint, word):
    def is_so():
        return rows(proxy)[endpoint.address]["state"] == word
    is_so.__doc__ = "%s becomes %s; %s" % (endpoint.address, word, proxy.errors)
    eventually(is_so)
    return rows(proxy)[endpoint.address]


def on_health(status):
    """An answer of Origin: status[0] for checks, 200 with the path for all others."""
    def answer(request):
        if request.path != "/healthz":
            return Answer(body=request.path.encode())
        return Answer(status[0], b"all is well")
    return answer


# ---- HTTP/2 ----


def test_down_and_up(weir, serve):
    status = [200]
    one, two = serve(Origin, on_health(status)), serve(Origin)
    proxy = weir(conf(one, two))
    becomes(proxy, one, "in service")
    becomes(proxy, two, "in service")
    status[0] = 503
    row = becomes(proxy, one, "down")
    reason = "status 503 is not in 200-299 (health.expect), 3 checks in a row"
    assert row["reason"] == reason
    proxy.stderr_has("pool app: endpoint %s: %s; marked down, 1 of 2 in service"
                     % (one.address, reason))
    for number in range(6):
        assert proxy.get("/%d" % number).status == 200
    assert not [r for r in one.requests if r.path != "/healthz"]
    assert proxy.metric("weir_endpoint_up", endpoint=one.address) == 0
    assert proxy.metric("weir_health_checks_total", pool="app", result="status") >= 3
    status[0] = 204
    assert becomes(proxy, one, "in service")["reason"] == "passed, 2 checks in a row"
    for number in range(6):
        assert proxy.get("/%d" % number).status == 200
    assert [r for r in one.requests if r.path != "/healthz"]


def test_request(weir, serve):
    origin = serve(Origin)
    weir(conf(origin, health={**QUICK, "path": "/up?deep=1", "method": "OPTIONS",
                              "host": "app.internal:81", "headers": ["X-Check: Weir; q=1"]}))
    eventually(lambda: origin.requests)
    assert origin.requests[0].fields == [
        (":method", "OPTIONS"), (":scheme", "http"), (":authority", "app.internal:81"),
        (":path", "/up?deep=1"), ("x-check", "Weir; q=1"), ("user-agent", "weir (health check)"),
        ("accept", "*/*")]
    assert origin.requests[0].body == b""


def test_head_and_host(weir, serve):
    origin = serve(Origin)
    proxy = weir(conf(origin, health={**QUICK, "method": "HEAD"}))
    becomes(proxy, origin, "in service")
    assert origin.requests[0].method == "HEAD"
    assert origin.requests[0].headers[":authority"] == origin.address


def test_body(weir, serve):
    """Interim heads are skipped; the body is looked through, trailers or not."""
    words = [b"x" * 40000 + b"re", b"ady"]

    def answer(request):
        return Answer(200, b"".join(words), trailers=[("x-sum", "1")],
                      interim=[(103, [("link", "</a>")])])
    origin = serve(Origin, answer)
    proxy = weir(conf(origin, health={**QUICK, "body": "ready"}))
    becomes(proxy, origin, "in service")
    words[1] = b"dy"
    row = becomes(proxy, origin, "down")
    assert row["reason"].startswith('the body does not contain "ready" (health.body)')


def test_http_1_1_where_it_is_said(weir, new_backend, serve):
    """A page for checks on another port, in HTTP/1.1, of endpoints that speak HTTP/2."""
    origin, page = serve(Origin), new_backend(raw(wire.response_bytes(200)))
    proxy = weir(conf(origin, health={**QUICK, "port": page.port, "protocol": "http/1.1"}))
    becomes(proxy, origin, "in service")
    assert proxy.get("/x").status == 200
    assert [r.path for r in origin.requests] == ["/x"]


def test_an_endpoint_of_http_1_1(weir, serve):
    old = serve(Script, lambda sock: sock.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    proxy = weir(conf(old))
    row = becomes(proxy, old, "down")
    assert row["reason"].startswith("the answer is HTTP/1, the check is HTTP/2")


# ---- hostile endpoints: a check ends, within bounds, with its reason ----


def forever(frame, begin=b""):
    """Sends SETTINGS, begin, and then frame until weir closes."""
    def script(sock):
        sock.sendall(h2wire.settings() + begin)
        while True:
            sock.sendall(frame * (1 + 8000 // len(frame)))
    return script


def once(*parts):
    return lambda sock: sock.sendall(b"".join(parts))


HEAD = h2wire.headers(1, h2wire.indexed(8), end=False)
OPEN = h2wire.headers(1, b"", end=True, end_headers=False)
BOMB = h2wire.incremental("a", "v" * 3000) + h2wire.indexed(62) * 4000
WELL = {**QUICK, "body": "well"}
# What has come when the time is over is told: time enough for it to come.
SHORT = {**QUICK, "timeout": "2s"}
FLOOD = "more than 100 frames came that ask for an answer of ours"
MANY = "more than 2048 frames came"

HOSTILE = {
    "pings": (forever(h2wire.ping()), QUICK, "bad_response", FLOOD),
    "settings": (forever(h2wire.settings()), QUICK, "bad_response", FLOOD),
    "acks": (forever(h2wire.SETTINGS_ACK), QUICK, "bad_response", MANY),
    "credit": (forever(h2wire.window_update(0, 1)), QUICK, "bad_response", MANY),
    "priority": (forever(h2wire.priority(1)), QUICK, "bad_response", MANY),
    "empty data": (forever(h2wire.data(1), HEAD), WELL, "bad_response", MANY),
    "padding": (forever(h2wire.data(1, pad=255), HEAD), WELL, "bad_response",
                "the answer is not good HTTP/2 (DATA beyond the window)"),
    "endless body": (forever(h2wire.data(1, b"x" * 16000), HEAD), WELL, "body",
                     'the body does not contain "well" in its first 64 KiB'),
    "interim": (forever(h2wire.headers(1, b"\x08\x03103", end=False)), QUICK, "bad_response",
                MANY),
    "unknown frames": (forever(h2wire.frame(0xFA, payload=b"x" * 16000)), QUICK, "bad_response",
                       "more than 256 KiB came before the end of the answer"),
    "continuation": (forever(h2wire.continuation(1, b"", end_headers=False), OPEN), QUICK,
                     "bad_response", MANY),
    "huge head": (forever(h2wire.continuation(1, h2wire.literal("a", "b" * 9000),
                                              end_headers=False), OPEN), QUICK, "bad_response",
                  "the head of the answer is longer than 16 KiB, or 200 fields"),
    "bomb": (once(h2wire.settings(), h2wire.headers(1, h2wire.indexed(8) + BOMB)), QUICK,
             "bad_response", "the head of the answer is longer than 16 KiB, or 200 fields"),
    "large frame": (once(h2wire.settings(), h2wire.frame(0, 0, 1, b"", length=1 << 20)), QUICK,
                    "bad_response", "the answer is not good HTTP/2 ("),
    "window overflow": (once(h2wire.settings((4, 1 << 31))), QUICK, "bad_response",
                        "the answer is not good HTTP/2 ("),
    "push": (once(h2wire.settings(), h2wire.push_promise(1, 2, h2wire.request())), QUICK,
             "bad_response", "the answer is not good HTTP/2 (PUSH_PROMISE"),
    "refused": (once(h2wire.settings(), h2wire.rst_stream(1, h2wire.REFUSED_STREAM)), QUICK,
                "reset", "the request was reset: REFUSED_STREAM (0x7)"),
    "goaway": (once(h2wire.settings(), h2wire.goaway(1, h2wire.ENHANCE_YOUR_CALM)), QUICK,
               "reset", "GOAWAY ENHANCE_YOUR_CALM (0xb)"),
    "goaway before": (once(h2wire.settings(), h2wire.goaway(0)), QUICK, "reset",
                      "the request was not looked at, GOAWAY NO_ERROR (0x0)"),
    "silence": (once(), SHORT, "timeout", "no answer after 2000 ms (health.timeout)"),
    "settings only": (once(h2wire.settings((4, 0))), SHORT, "timeout",
                      "SETTINGS, but no answer after 2000 ms (health.timeout)"),
    "open head": (once(h2wire.settings(), OPEN), SHORT, "timeout",
                  "no end of the answer's head after 2000 ms (health.timeout)"),
    "open body": (once(h2wire.settings(), HEAD), {**SHORT, "body": "well"}, "timeout",
                  "no end of the answer after 2000 ms (health.timeout)"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile(weir, serve, name):
    script, health, result, reason = HOSTILE[name]
    origin = serve(Script, script)
    proxy = weir(conf(origin, health=health))
    row = becomes(proxy, origin, "down")
    assert row["reason"].startswith(reason), row
    assert proxy.metric("weir_health_checks_total", pool="app", result=result) >= 1
    proxy.stderr_has("pool app: endpoint %s: %s" % (origin.address, reason.replace('"', '\\"')))


def test_many_hostile_beside_an_honest_one(weir, serve):
    """Floods from several endpoints at once hold up neither the checks of others nor requests."""
    bad = [serve(Script, forever(frame)) for frame in
           (h2wire.ping(), h2wire.SETTINGS_ACK, h2wire.frame(0xFA, payload=b"x" * 16000))]
    good = serve(Origin)
    proxy = weir(conf(good, *bad))
    becomes(proxy, good, "in service")
    for each in bad:
        becomes(proxy, each, "down")
    before = len(good.seen("/healthz"))
    for number in range(20):
        assert proxy.get("/%d" % number).status == 200
    eventually(lambda: len(good.seen("/healthz")) > before + 5)


# ---- gRPC ----


def test_grpc_transitions(weir, serve):
    """SERVING, NOT_SERVING, SERVING: in status, metrics and routing."""
    pytest.importorskip("grpc")
    one, two = serve(Grpc, "one"), serve(Grpc, "two")
    proxy = weir(conf(one, two, health=GRPC))
    becomes(proxy, one, "in service")
    becomes(proxy, two, "in service")
    address = "127.0.0.1:%d" % proxy.port
    eventually(lambda: {ask(address) for _ in range(4)} == {"one", "two"})
    one.status[b""] = NOT_SERVING
    row = becomes(proxy, one, "down")
    assert row["reason"] == "the server is NOT_SERVING, 3 checks in a row"
    assert {ask(address) for _ in range(6)} == {"two"}
    assert proxy.metric("weir_endpoint_up", endpoint=one.address) == 0
    assert proxy.metric("weir_health_checks_total", pool="app", result="not_serving") >= 3
    one.status[b""] = SERVING
    assert becomes(proxy, one, "in service")["reason"] == "passed, 2 checks in a row"
    eventually(lambda: {ask(address) for _ in range(4)} == {"one", "two"})
    assert proxy.metric("weir_health_changes_total", to="down") == 1


def test_grpc_service(weir, serve):
    """The service that is named decides, and what the call says of itself."""
    pytest.importorskip("grpc")
    origin = serve(Grpc)
    origin.status[b"shop.Cart"] = SERVING
    proxy = weir(conf(origin, health={**GRPC, "service": "shop.Cart", "host": "cart.internal",
                                      "headers": ["X-Check: weir"]}))
    becomes(proxy, origin, "in service")
    assert set(origin.calls) == {b"shop.Cart"}
    assert origin.metadata[0]["x-check"] == "weir"
    origin.status[b""] = NOT_SERVING
    origin.status[b"shop.Cart"] = NOT_SERVING
    row = becomes(proxy, origin, "down")
    assert row["reason"].startswith('service "shop.Cart" is NOT_SERVING')


def test_grpc_refusals(weir, serve):
    grpc = pytest.importorskip("grpc")
    unknown, broken, without = serve(Grpc), serve(Grpc), serve(Grpc, health=False)
    broken.status[b"shop.Cart"] = grpc.StatusCode.UNAVAILABLE
    proxy = weir(conf(unknown, broken, without, health={**GRPC, "service": "shop.Cart"}))
    assert becomes(proxy, unknown, "down")["reason"].startswith(
        'grpc-status 5 (NOT_FOUND): the server does not know the service "shop.Cart"')
    assert becomes(proxy, broken, "down")["reason"].startswith(
        'grpc-status 14 (UNAVAILABLE): "told to"')
    assert becomes(proxy, without, "down")["reason"].startswith(
        "grpc-status 12 (UNIMPLEMENTED): the server does not offer grpc.health.v1.Health")
    assert proxy.metric("weir_health_checks_total", pool="app", result="status") >= 3


def test_grpc_of_a_pool_of_http_1_1(weir, new_backend, serve):
    """Its checks may go to another port, by gRPC."""
    pytest.importorskip("grpc")
    backend, checked = new_backend(), serve(Grpc)
    proxy = weir(conf(backend, protocol="http/1.1", health={**GRPC, "port": checked.port}))
    becomes(proxy, backend, "in service")
    assert proxy.get("/x").status == 200
    checked.status[b""] = NOT_SERVING
    becomes(proxy, backend, "down")


def test_grpc_of_what_is_not_grpc(weir, serve):
    origin = serve(Origin)
    proxy = weir(conf(origin, health=GRPC))
    row = becomes(proxy, origin, "down")
    assert row["reason"].startswith("the answer is not good gRPC: it has no content-type")
    request = origin.seen("/grpc.health.v1.Health/Check")[0]
    assert request.fields == [
        (":method", "POST"), (":scheme", "http"), (":authority", origin.address),
        (":path", "/grpc.health.v1.Health/Check"), ("te", "trailers"),
        ("content-type", "application/grpc"), ("grpc-timeout", "10000m"),
        ("user-agent", "weir (health check)")]
    assert request.body == b"\0\0\0\0\0"


class Behind(Origin):
    """An endpoint that wants a PROXY header first (version 2), and keeps it."""

    def serve(self, sock):
        head = Script.exactly(sock, 16)
        self.headers = getattr(self, "headers", []) + [head]
        Script.exactly(sock, head[14] << 8 | head[15])
        super().serve(sock)


def test_grpc_behind_a_proxy_header(weir, serve):
    """It says LOCAL: the check is weir's own."""
    def answer(request):
        return Answer(200, b"\0\0\0\0\2\x08\1", [("content-type", "application/grpc")],
                      [("grpc-status", "0")])
    origin = serve(Behind, answer)
    proxy = weir(conf(origin, protocol="http/1.1", health=GRPC, proxy_protocol="v2"))
    becomes(proxy, origin, "in service")
    assert {head[12] for head in origin.headers} == {0x20}


# ---- reloads ----


def test_a_reload_changes_what_is_spoken(weir, serve):
    """State stays, and the next check is of the other protocol."""
    pytest.importorskip("grpc")
    origin = serve(Grpc)
    proxy = weir(conf(origin, health={**GRPC, "service": ""}))
    becomes(proxy, origin, "in service")
    proxy.change(pools={"app": {**proxy.conf["pools"]["app"],
                                "health": {**GRPC, "service": "shop.Cart"}}})
    proxy.reload()
    row = becomes(proxy, origin, "down")
    assert row["reason"].startswith("grpc-status 5 (NOT_FOUND)")
