"""Upstreams that fail: refused, reset, silent, dead names, the keepalive race, restarts under
load. DESIGN.md promise 5: no request is lost to the idle-keepalive race."""
import socket
import time

import pytest

from harness import load, proc, wire
from harness.backend import raw
from harness.weir import eventually

POOL_ROUTES = [{"name": "all", "prefix": "/", "pool": "app"}]


def pool(*addresses, **settings):
    return {"pools": {"app": dict(endpoints=list(addresses), **settings)}, "routes": POOL_ROUTES}


def test_refused(weir):
    proxy = weir(pool("127.0.0.1:%d" % proc.free_port()))
    response = proxy.get("/r")
    assert response.status == 502 and "weir" in response.get("proxy-status")
    record = proxy.ended("upstream.connect.refused", path="/r", status=502)
    assert record["weir.pool"] == "app" and record["weir.endpoint"]


def test_refused_by_one_of_two(weir, backend):
    """A connect error is retried at the other endpoint: no client sees it."""
    proxy = weir(pool("127.0.0.1:%d" % proc.free_port(), backend.address, balance="round_robin",
                      outlier={"consecutive_failures": 0, "consecutive_5xx": 0}))
    for number in range(20):
        assert proxy.get("/%d" % number).status == 200
    assert proxy.metric("weir_upstream_connect_failures_total") > 0
    assert proxy.metric("weir_upstream_retries_total") > 0


def test_post_is_retried_after_a_refused_connect(weir, backend):
    """Nothing was sent, so any method may go elsewhere, body and all."""
    proxy = weir(pool("127.0.0.1:%d" % proc.free_port(), backend.address, balance="round_robin",
                      outlier={"consecutive_failures": 0, "consecutive_5xx": 0}))
    for _ in range(6):
        assert proxy.request("POST", "/p", body=b"data" * 1000).status == 200
    assert all(r.body.data == b"data" * 1000 for r in backend.requests)
    assert len(backend.requests) == 6


@pytest.mark.parametrize("how,word", [("close", "upstream.closed"), ("reset", "upstream.reset")])
def test_ends_without_a_response(weir, new_backend, how, word):
    backend = new_backend(raw(close=how == "close", reset=how == "reset"))
    proxy = weir(None, backend)
    assert proxy.request("POST", "/p", body=b"x").status == 502
    proxy.ended(word, path="/p", status=502)
    assert len(backend.requests) == 1


@pytest.mark.parametrize("how", ["close", "reset"])
def test_ends_inside_the_head(weir, new_backend, how):
    backend = new_backend(raw(b"HTTP/1.1 200 OK\r\nConte", 0.05, close=how == "close",
                              reset=how == "reset"))
    proxy = weir(None, backend)
    assert proxy.get("/h").status == 502
    assert proxy.logged(path="/h")["weir.end"] in ("upstream.closed", "upstream.reset",
                                                   "upstream.truncated")
    assert len(backend.requests) == 1


class Racer:
    """A backend that closes its connection exactly when the next request has come."""

    def __init__(self, how):
        self.how, self.races = how, 0

    def __call__(self, conn, request):
        if conn.requests > 1 and request.path != "/calm":
            self.races += 1
            if self.how == "reset":
                conn.reset()
            else:
                conn.close()
            return None
        conn.read_body(request)
        return wire.response_bytes(body=b"served " + request.body.data)


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "PUT", "OPTIONS"])
def test_keepalive_race_is_replayed(weir, new_backend, how, method):
    """The request went out on an idle connection that ended without a byte: sent once more."""
    racer = Racer(how)
    backend = new_backend(racer)
    proxy = weir(None, backend)
    conn = proxy.client()
    for _ in range(10):
        assert conn.request(method, "/race").status == 200
    assert racer.races >= 4
    assert proxy.metric("weir_upstream_replays_total") == racer.races
    assert proxy.logged(10, end="ok", path="/race")


def test_keepalive_race_of_a_post_is_not_replayed(weir, new_backend):
    """A POST may have been carried out: 502, never a second time."""
    racer = Racer("close")
    backend = new_backend(racer)
    proxy = weir(None, backend)
    conn = proxy.client()
    assert conn.get("/warm").status == 200
    response = conn.request("POST", "/p", body=b"once")
    if racer.races:
        assert response.status == 502
        proxy.ended("upstream.closed", path="/p")
    assert len(backend.seen("/p")) == 1


def test_attempts_are_bounded(weir, new_backend):
    """An endpoint that always ends without a byte is asked a few times, then the client hears of
    it."""
    def handler(conn, request):
        if request.path == "/warm":
            return wire.response_bytes()
        conn.close()
        return None
    backend = new_backend(handler)
    proxy = weir(None, backend)
    conn = proxy.client()
    assert conn.get("/warm").status == 200
    assert conn.get("/x").status == 502
    assert 1 <= len(backend.seen("/x")) <= 4
    proxy.ended("upstream.closed", path="/x")


def test_no_replay_after_a_response_byte(weir, new_backend):
    def handler(conn, request):
        if request.path == "/warm":
            return wire.response_bytes()
        conn.send(b"H")
        conn.close()
        return None
    backend = new_backend(handler)
    proxy = weir(None, backend)
    conn = proxy.client()
    assert conn.get("/warm").status == 200
    assert conn.get("/x").status == 502
    assert len(backend.seen("/x")) == 1


def test_idle_close_is_noticed(weir, new_backend):
    """An endpoint that closes idle connections costs nobody a replay: the FIN removes them."""
    backend = new_backend(raw(wire.response_bytes(), 0.02, close=True))
    proxy = weir(None, backend)
    conn = proxy.client()
    for _ in range(5):
        assert conn.get("/x").status == 200
        eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    assert proxy.metric("weir_upstream_replays_total") == 0
    assert proxy.metric("weir_upstream_reused_total") == 0


def test_dead_name_is_not_fatal(weir, backend):
    """weir starts and serves the rest; the pool answers 503 with the cause."""
    proxy = weir({"pools": {"dead": {"endpoints": ["no-such-name.invalid:80"]},
                            "app": {"endpoints": [backend.address]}},
                  "routes": [{"prefix": "/dead", "pool": "dead"}, {"prefix": "/", "pool": "app"}]})
    assert proxy.get("/fine").status == 200
    assert proxy.get("/dead/x").status == 503
    proxy.ended("upstream.resolve.failed", path="/dead/x", status=503)


def test_name_from_the_hosts_file(weir, backend):
    proxy = weir(pool("localhost:%d" % backend.port))
    eventually(lambda: proxy.get("/n").status == 200)
    assert backend.last.get("host") == "test.example"


def test_dead_name_beside_a_live_address(weir, backend):
    proxy = weir(pool("no-such-name.invalid:80", backend.address))
    for _ in range(6):
        assert proxy.get("/n").status == 200


def test_ipv6_endpoint(weir, new_backend):
    backend = new_backend(host="::1")
    proxy = weir(None, backend)
    assert proxy.get("/6").status == 200 and len(backend.requests) == 1
    assert proxy.logged(path="/6")["weir.endpoint"] == backend.address


def test_unix_endpoint(weir, new_backend, work):
    backend = new_backend(unix=work / "up.sock")
    proxy = weir(None, backend)
    conn = proxy.client()
    for _ in range(3):
        assert conn.request("POST", "/u", body=b"unix").status == 200
    assert len(backend.conns) == 1
    assert "up.sock" in proxy.logged(path="/u")["weir.endpoint"]


def test_unix_endpoint_that_is_not_there(weir, work):
    proxy = weir(pool("unix:%s" % (work / "none.sock")))
    assert proxy.get("/u").status == 502
    assert proxy.logged(path="/u")["weir.end"].startswith("upstream.connect.")


def test_unix_endpoint_of_another_kind(weir, work):
    """A socket of datagrams: connect(2) says EPROTOTYPE, which is a failure like any other."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(work / "log.sock"))
        proxy = weir(pool("unix:%s" % (work / "log.sock")))
        assert proxy.get("/u").status == 502
        proxy.ended("upstream.connect.failed", path="/u")


def test_endpoint_comes_back(weir, new_backend):
    """A dead endpoint that starts again is used again, without a reload."""
    port = proc.free_port()
    proxy = weir(pool("127.0.0.1:%d" % port, outlier={"eject": "200ms"}))
    assert proxy.get("/1").status in (502, 503)
    new_backend(port=port)
    eventually(lambda: proxy.get("/2").status == 200)


SOON_BACK = {"outlier": {"eject": "100ms"}}


def restart_under_load(proxy, servers, load_client, connections, rounds):
    """Kills the servers in turn, starting each again; the load client verifies every response."""
    running = load_client(proxy.port, connections)
    time.sleep(0.5)
    for number in range(rounds):
        victim = servers[number % len(servers)]
        victim.kill()
        time.sleep(0.4)
        victim.start()
        time.sleep(0.6)
    report = running.stop()
    load.clean(report, 500)
    assert set(report["names"]) == {"one", "two"}


def test_restart_one_of_two_under_load(weir, nginx, load_client):
    """Kill -9 and start again, over and over: no client sees an error for a bodyless GET."""
    servers = [nginx("one"), nginx("two")]
    proxy = weir(pool(*[s.address for s in servers]))
    restart_under_load(proxy, servers[:1], load_client, 64, 3)


def test_restart_both_in_turn_under_load(weir, nginx, load_client):
    """A rolling restart; ejections are over before the next server goes."""
    servers = [nginx("one"), nginx("two")]
    proxy = weir(pool(*[s.address for s in servers], **SOON_BACK))
    restart_under_load(proxy, servers, load_client, 64, 4)


@pytest.mark.slow
@pytest.mark.parametrize("turns", [1, 2], ids=["one", "both"])
def test_restarts_under_heavy_load(weir, nginx, load_client, turns):
    servers = [nginx("one"), nginx("two")]
    proxy = weir(pool(*[s.address for s in servers], **(SOON_BACK if turns == 2 else {})))
    restart_under_load(proxy, servers[:turns], load_client, 500, 12)


def test_graceful_restart_under_load(weir, nginx, load_client):
    """nginx that ends by SIGTERM closes its connections: the race of promise 5, at speed."""
    servers = [nginx("one"), nginx("two")]
    proxy = weir(pool(*[s.address for s in servers], **SOON_BACK))
    running = load_client(proxy.port, 64)
    for number in range(4):
        time.sleep(0.3)
        servers[number % 2].stop()
        servers[number % 2].start()
        time.sleep(0.5)
    load.clean(running.stop(), 500)
    assert proxy.metric("weir_request_end_total", end="ok") > 0


def test_short_keepalive_at_the_upstream_under_load(weir, nginx, load_client):
    """Upstream connections end after few requests: every end is a race for some request."""
    server = nginx("short", extra="keepalive_requests 3;")
    proxy = weir(pool(server.address))
    report = load_client(proxy.port, 32, 2).result()
    load.clean(report, 500)
