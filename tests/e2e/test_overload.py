"""A worker with too much to do sheds load: by memory, connections and lag, low priorities first
(packaging/docs/overload.md)."""
import json
import os
import signal
import time

import pytest

from harness import wire
from harness.weir import eventually

PRIORITIES = {"high": 0, "normal": None, "low": 7}


def conf(backend, overload, **process):
    routes = [{"name": name, "prefix": "/" + name, "pool": "app",
               **({} if priority is None else {"priority": priority})}
              for name, priority in PRIORITIES.items()]
    routes.append({"name": "health", "path": "/healthz", "priority": 7, "respond": {"body": "ok"}})
    routes.append({"name": "held", "prefix": "/held", "pool": "app", "priority": 0,
                   "policies": ["hold"]})
    return {"process": {"workers": 1, "overload": overload, **process},
            "policies": {"hold": {"buffer": "1MiB"}},
            "pools": {"app": {"endpoints": [backend.address]}}, "routes": routes}


def shed(response, cause):
    word = "proxy.overload.%s" % cause
    return response.status == 503 and word in (response.get("proxy-status") or "")


def workers(proxy, cause):
    return proxy.metric("weir_overload_workers", cause=cause)


def process(proxy):
    rows = json.loads(proxy.status_get("/-/status").body)["process"]
    return rows["overload"] if isinstance(rows, dict) else {
        each["name"]: each["value"] for each in rows}["overload"]


# ---- connections ----


def test_connections(weir, backend):
    """At the threshold the lowest priority is refused, half-way to the limit the default one, the
    highest and weir's own answers never."""
    proxy = weir(conf(backend, {"connections": "50%", "retry_after": "7s"}, max_connections=40),
                 backend)
    held = streams(proxy, 15)
    assert proxy.get("/low").status == 200
    held.extend(streams(proxy, 22 - len(held)))
    response = proxy.get("/low")
    assert shed(response, "connections") and response.get("retry-after") == "7"
    assert proxy.get("/normal").status == 200
    assert proxy.get("/high").status == 200 and proxy.get("/healthz").status == 200
    assert workers(proxy, "connections") == 1
    assert process(proxy) == "connections (1 of 1 workers)"
    proxy.stderr_has("(overload.connections): requests are refused, those of the lowest priority")
    held.extend(streams(proxy, 33 - len(held)))
    assert shed(proxy.get("/normal"), "connections") and shed(proxy.get("/low"), "connections")
    assert proxy.get("/high").status == 200 and proxy.get("/healthz").status == 200
    proxy.ended("proxy.overload.connections", path="/low", status=503)
    for conn in held:
        conn.close()
    eventually(lambda: workers(proxy, "connections") == 0)
    assert proxy.get("/low").status == 200 and process(proxy) == "no"
    proxy.stderr_has("nothing is refused for it any more")


def streams(proxy, count):
    """Connections with a request that never ends: they are not between requests."""
    made, before = [], proxy.metric("weir_requests_inflight")
    for _ in range(count):
        conn = proxy.client()
        conn.send(b"POST /high HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
        made.append(conn)
    eventually(lambda: proxy.metric("weir_requests_inflight") >= before + count)
    return made


def test_connections_end_with_their_responses(weir, backend):
    """Kept connections are given up, and idle ones are closed after a second."""
    proxy = weir(conf(backend, {"connections": "50%"}, max_connections=40), backend)
    idle = [proxy.client() for _ in range(3)]
    for conn in idle:
        assert conn.get("/high").get("connection") is None
    held = streams(proxy, 20)
    conn = proxy.client()
    response = conn.get("/high")
    assert response.status == 200 and response.get("connection") == "close"
    for conn in [conn, *idle]:
        conn.expect_close()
    assert proxy.metric("weir_overload_closed_connections_total") >= 1
    for conn in held:
        conn.send(b"whole")
        assert conn.response("POST").status == 200


def test_a_rest_has_its_time(weir, backend):
    """A client that still sends a request which was answered is not idle: 2 s, as ever."""
    proxy = weir(conf(backend, {"connections": "50%"}, max_connections=40), backend)
    backend.on("/high", lambda conn, _request: conn.send(wire.response_bytes()))
    conn, idle = proxy.client(), proxy.client()
    assert idle.get("/healthz").get("connection") is None
    conn.send(b"POST /high HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhalf ")
    assert conn.response("POST").get("connection") is None
    since = time.monotonic()
    del backend.handlers["/high"]
    streams(proxy, 20)
    idle.expect_close()
    assert time.monotonic() - since < 1.7
    conn.expect_close()
    assert 1.8 < time.monotonic() - since < 3
    proxy.ended("client.timeout.rest")


def test_accepting_slows_down(weir, backend):
    """What is left of the connections is given out bit by bit."""
    proxy = weir(conf(backend, {"connections": "50%"}, max_connections=40), backend)
    held = streams(proxy, 21)
    more = [proxy.client() for _ in range(12)]
    for conn in more:
        conn.send(wire.request_bytes(target="/high"))
    answers = [conn.response().status for conn in more]
    assert answers == [200] * 12
    assert proxy.metric("weir_overload_accept_pauses_total") >= 1
    for conn in held:
        conn.close()


# ---- memory ----


def test_memory(weir, backend):
    """Bodies that are held fill the buffers."""
    proxy = weir(conf(backend, {"memory": "1%"}, max_connections=100), backend)
    assert proxy.get("/low").status == 200
    body = b"x" * 300_000
    held = []
    for _ in range(20):
        conn = proxy.client()
        conn.send(b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 400000\r\n\r\n" + body)
        held.append(conn)
    eventually(lambda: proxy.metric("weir_buffered_bytes") == 20 * len(body))
    response = proxy.get("/low")
    assert shed(response, "memory") and response.get("retry-after") == "1"
    assert proxy.get("/normal").status == 200 and proxy.get("/high").status == 200
    assert proxy.get("/healthz").status == 200
    assert workers(proxy, "memory") == 1
    proxy.ended("proxy.overload.memory", path="/low", status=503)
    for conn in held:
        conn.send(b"x" * 100_000)
        assert conn.response("POST").status == 200
    eventually(lambda: proxy.get("/low").status == 200)
    eventually(lambda: workers(proxy, "memory") == 0)


# ---- lag ----


@pytest.mark.parametrize("lag,sheds", [("200ms", True), ("1h", False)])
def test_lag(weir, backend, lag, sheds):
    """A process that was stopped for a while is late: it refuses until it is up to date."""
    proxy = weir(conf(backend, {"lag": lag}), backend)
    conn = proxy.client()
    waiting = streams(proxy, 1)  # there is work, so the loop is watched
    eventually(lambda: conn.get("/low").status == 200)  # the machine may be late, too
    os.kill(proxy.pid, signal.SIGSTOP)
    time.sleep(2)
    conn.send(wire.request_bytes(target="/low"))
    os.kill(proxy.pid, signal.SIGCONT)
    response = conn.response()
    assert shed(response, "lag") == sheds
    if sheds:
        assert response.get("retry-after") == "1"
        assert proxy.get("/high").status == 200 and proxy.get("/healthz").status == 200
        proxy.ended("proxy.overload.lag", path="/low", status=503)
        proxy.stderr_has("overload: worker 0: lag is at ")
        assert proxy.get("/low").status in (200, 503)
    eventually(lambda: conn.get("/low").status == 200)
    eventually(lambda: workers(proxy, "lag") == 0)
    for each in waiting:
        each.close()


# ---- all ----


def test_off_by_default(weir, backend):
    proxy = weir(conf(backend, {}, max_connections=8), backend)
    held = streams(proxy, 7)
    assert proxy.get("/low").status == 200
    assert process(proxy) == "no"
    for conn in held:
        conn.close()


def test_reload_turns_it_off(weir, backend):
    proxy = weir(conf(backend, {"connections": "10%"}, max_connections=10), backend)
    held = streams(proxy, 2)
    eventually(lambda: shed(proxy.get("/low"), "connections"))
    proxy.change(process={"overload": {"connections": "0%"}})
    proxy.reload()
    assert proxy.get("/low").status == 200
    assert workers(proxy, "connections") == 0
    for conn in held:
        conn.close()


def test_idle_costs_nothing(weir, backend):
    """The watch runs only while there is work."""
    proxy = weir(conf(backend, {"memory": "60%", "connections": "90%", "lag": "200ms"}), backend)
    eventually(lambda: proxy.get("/low").status == 200)
    time.sleep(6)  # the trim timer runs some seconds after traffic
    before = proxy.metric("weir_loop_turns_total")
    time.sleep(2)
    assert proxy.metric("weir_loop_turns_total") - before < 8
