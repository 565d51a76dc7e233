"""The sticky cookie: a client stays at its endpoint, over reloads and restarts, never at one that
is out of service, and nobody can make a cookie up."""
import re
import threading
from collections import Counter

import pytest

from harness import client, proc, wire
from harness.backend import raw
from harness.weir import eventually

ROUTES = [{"name": "all", "prefix": "/", "pool": "app"}]


def named(new_backend, count):
    return [new_backend(raw(wire.response_bytes(body=b"%d" % i))) for i in range(count)]


def conf_of(backends, key="env:STICKY", outlier=None, **sticky):
    settings = dict({"cookie": "srv", "key": key}, **sticky)
    app = {"balance": "round_robin", "endpoints": [each.address for each in backends],
           "sticky": {name: item for name, item in settings.items() if item is not None}}
    if outlier:
        app["outlier"] = outlier
    return {"process": {"workers": 2}, "pools": {"app": app}, "routes": ROUTES}


ENV = {"STICKY": "0123456789abcdef0123456789abcdef"}


def visit(proxy, cookie=None, others=""):
    """(body, the Set-Cookie value or None) of one request."""
    fields = [("Cookie", others + "srv=%s" % cookie)] if cookie is not None else []
    response = proxy.get("/", fields)
    assert response.status == 200, response
    return int(response.body), response.get("set-cookie")


def value_of(set_cookie):
    return re.match(r"srv=([0-9a-f]{32});", set_cookie)[1]


def test_a_client_stays(weir, new_backend):
    backends = named(new_backend, 3)
    proxy = weir(conf_of(backends), env=ENV)
    cookies = {}
    for _ in range(30):
        home, field = visit(proxy)
        assert field.endswith("; Path=/; HttpOnly; SameSite=Lax"), field
        assert cookies.setdefault(home, value_of(field)) == value_of(field)
    assert sorted(cookies) == [0, 1, 2] and len(set(cookies.values())) == 3
    for home, cookie in cookies.items():
        for _ in range(10):
            assert visit(proxy, cookie, others="a=1; ") == (home, None)
    assert proxy.metric("weir_pool_sticky_set_total", pool="app") == 30
    assert proxy.metric("weir_pool_sticky_kept_total", pool="app") == 30
    for port in (re.search(r"\d+$", each.address)[0] for each in backends):
        assert not any(port in cookie for cookie in cookies.values())


def test_forged_cookies_are_replaced(weir, new_backend):
    backends = named(new_backend, 3)
    proxy = weir(conf_of(backends), env=ENV)
    home, field = visit(proxy)
    good = value_of(field)
    other = chr(ord(good[0]) ^ 1) if good[0] not in "9a" else "0"
    forged = [other + good[1:], good[:-1], good + "0", good.upper() + "", "", "x" * 32,
              "%s" % backends[0].address, "0", '"%s"' % good]
    seen = set()
    for cookie in forged:
        if cookie == good:
            continue
        went, field = visit(proxy, cookie)
        assert field is not None and len(value_of(field)) == 32, cookie
        seen.add(went)
    assert len(seen) == 3  # balanced as anybody
    assert visit(proxy, "forged; srv=%s" % good) == (home, None)


def test_survives_reloads(weir, new_backend):
    """Weights, order and other endpoints may change; what the cookie names stays."""
    backends = named(new_backend, 3)
    proxy = weir(conf_of(backends), env=ENV)
    sessions = {home: value_of(field) for home, field in (visit(proxy) for _ in range(12))}
    assert len(sessions) == 3
    proxy.change(pools={"app": {"endpoints": [
        {"address": backends[2].address, "weight": 0}, {"address": backends[1].address},
        {"address": backends[0].address, "backup": True}], "balance": "random"}})
    proxy.reload()
    for home, cookie in sessions.items():
        for _ in range(5):
            assert visit(proxy, cookie) == (home, None)  # also to a backup, also at weight 0
    assert visit(proxy)[0] == 1


def test_survives_a_restart_with_a_key(weir, new_backend, work):
    backends = named(new_backend, 4)
    key = work / "sticky.key"
    key.touch(mode=0o600)
    key.write_text("a key of more than sixteen bytes\n")
    proxies = [weir(conf_of(backends, key="file:%s" % key)) for _ in range(2)]
    home, field = visit(proxies[0])
    for _ in range(8):
        assert visit(proxies[1], value_of(field)) == (home, None)
    with_env = weir(conf_of(backends), env={"STICKY": "a key of more than sixteen bytes"})
    assert visit(with_env, value_of(field)) == (home, None)  # the line end is no part of it


def test_random_key(weir, new_backend):
    """Without a key: a warning, one key for the process over reloads, another after a restart."""
    backends = named(new_backend, 4)
    proxy, other = (weir(conf_of(backends, key=None)) for _ in range(2))
    home, field = visit(proxy)
    cookie = value_of(field)
    proxy.change(pools={"app": {"timeouts": {"connect": "4s"}}})
    proxy.reload()
    proxy.stderr_has("W0440")
    for _ in range(6):
        assert visit(proxy, cookie) == (home, None)
    field = visit(other, cookie)[1]
    assert field is not None and value_of(field) != cookie


def test_a_changed_key_file_is_taken(weir, new_backend, work):
    """Like a certificate: watched, and read again without a reload."""
    backends = named(new_backend, 3)
    key = work / "sticky.key"
    key.touch(mode=0o600)
    key.write_text("first key, long enough\n")
    proxy = weir(conf_of(backends, key="file:%s" % key))
    cookie = value_of(visit(proxy)[1])
    assert visit(proxy, cookie)[1] is None
    generation = proxy.generation()
    key.write_text("second key, long enough\n")
    eventually(lambda: visit(proxy, cookie)[1] is not None)
    assert proxy.generation() == generation
    key.write_text("short\n")
    proxy.stderr_has("W0340")
    cookie = value_of(visit(proxy)[1])
    assert visit(proxy, cookie)[1] is None


def test_an_endpoint_that_is_gone(weir, new_backend):
    """Down or taken out of the pool: another one, and its cookie."""
    backends = named(new_backend, 3)
    proxy = weir(conf_of(backends, outlier={"consecutive_failures": 1, "eject": "1h"}), env=ENV)
    sessions = {home: value_of(field) for home, field in (visit(proxy) for _ in range(12))}
    backends[1].stop()
    went, field = visit(proxy, sessions[1])
    assert went != 1 and value_of(field) == sessions[went]
    proxy.change(pools={"app": {"endpoints": [backends[2].address]}})
    proxy.reload()
    assert visit(proxy, sessions[0])[0] == 2
    assert value_of(visit(proxy, sessions[0])[1]) == sessions[2]
    assert visit(proxy, sessions[2]) == (2, None)


def test_back_again(weir, new_backend):
    """An ejection that ends: who still has the cookie is at home again."""
    backends = named(new_backend, 2)
    proxy = weir(conf_of(backends, outlier={"consecutive_5xx": 1, "eject": "300ms"}), env=ENV)
    sessions = {home: value_of(field) for home, field in (visit(proxy) for _ in range(8))}
    backends[0].handlers["/fail"] = raw(wire.response_bytes(500, reason="Bad"))
    assert proxy.get("/fail", [("Cookie", "srv=%s" % sessions[0])]).status == 500
    assert visit(proxy, sessions[0])[0] == 1
    eventually(lambda: visit(proxy, sessions[0]) == (0, None))


@pytest.mark.parametrize("settings, plain, secured", [
    ({}, "Path=/; HttpOnly; SameSite=Lax", "Path=/; HttpOnly; SameSite=Lax; Secure"),
    ({"path": "/shop", "max_age": "1h", "httponly": False, "samesite": "strict",
      "secure": "off"}, "Path=/shop; Max-Age=3600; SameSite=Strict", None),
    ({"samesite": "none", "secure": "on"}, "Path=/; HttpOnly; SameSite=None; Secure", None),
    ({"samesite": "off"}, "Path=/; HttpOnly", "Path=/; HttpOnly; Secure"),
])
def test_attributes(weir, new_backend, authority, settings, plain, secured):
    """Secure = "auto" is set on connections with TLS."""
    backend = named(new_backend, 1)[0]
    port = proc.free_port()
    conf = conf_of([backend], **settings)
    conf["listeners"] = {"tls": {"bind": "127.0.0.1:%d" % port, "tls": {"certificates": [
        dict(names=["a.example"], **authority.leaf(["a.example"]))]}}}
    proxy = weir(conf, env=ENV)
    assert visit(proxy)[1].split("; ", 1)[1] == plain
    with client.Client(port, tls=authority.client_context(), sni="a.example") as conn:
        field = conn.get("/", host="a.example").get("set-cookie")
        assert field.split("; ", 1)[1] == (secured or plain)


def test_the_endpoints_own_cookies_stay(weir, new_backend):
    backend = new_backend(raw(wire.response_bytes(body=b"0", fields=[
        ("Set-Cookie", "srv=mine"), ("Set-Cookie", "b=2")])))
    proxy = weir(conf_of([backend]), env=ENV)
    response = proxy.get("/", [("Cookie", "c=3")])
    assert response.all("set-cookie")[:2] == ["srv=mine", "b=2"]
    assert re.match(r"srv=[0-9a-f]{32}; ", response.all("set-cookie")[2])
    assert backend.last.get("cookie") == "c=3"


def test_taken_connections_do_not_end_a_session(weir, new_backend):
    """While its endpoint's connections are all in use the request goes elsewhere, and the cookie
    stays what it was. (One worker: an idle connection of another one holds the permit too.)"""
    go = threading.Event()

    def hold(_conn, _request):
        go.wait(60)
        return wire.response_bytes(body=b"0")
    backends = named(new_backend, 2)
    backends[0].handlers["/hold"] = hold
    backends[1].handlers["/hold"] = hold
    conf = conf_of(backends)
    conf["process"] = {"workers": 1}
    conf["pools"]["app"]["connections"] = {"max_per_endpoint": 1}
    proxy = weir(conf, env=ENV)
    home, field = visit(proxy)
    cookie = value_of(field)
    busy = proxy.client()
    busy.send(wire.request_bytes(target="/hold", fields=[("Cookie", "srv=%s" % cookie)]))
    eventually(lambda: backends[home].seen("/hold"))
    assert visit(proxy, cookie) == (1 - home, None)
    go.set()
    assert busy.response().status == 200
    assert visit(proxy, cookie) == (home, None)


def test_sticky_wins_over_the_hash(weir, new_backend):
    backends = named(new_backend, 4)
    conf = conf_of(backends)
    conf["pools"]["app"].update(balance="ring", hash="path")
    proxy = weir(conf, env=ENV)
    home, field = visit(proxy)
    spread = Counter()
    for i in range(30):
        response = proxy.get("/%d" % i, [("Cookie", "srv=%s" % value_of(field))])
        assert int(response.body) == home
        spread[int(proxy.get("/%d" % i).body)] += 1
    assert len(spread) == 4
