"""Who may connect and who may ask: allow and deny of listeners (by the connection) and of policies
(by the client), and connections per client (packaging/docs/limits.md)."""
import json
import socket
import threading

import pytest

from harness import client, wire
from harness.weir import eventually, run

MINE = "127.0.0.1"


def listening(**keys):
    return {"listeners": {"web": keys}}


class From(client.Client):
    """A client with a source address of its own: all of 127.0.0.0/8 is this machine."""

    def __init__(self, source, port):
        self.sock = socket.socket()
        self.sock.settimeout(client.GUARD)
        self.sock.bind((source, 0))
        self.sock.connect((MINE, port))
        self.reader = wire.Reader(self.sock)


def served(proxy, source, port=None):
    """A new connection from there gets an answer, or is closed without a byte."""
    with From(source, port or proxy.port) as conn:
        conn.try_send(wire.request_bytes())
        conn.reader.fill()
        data = bytes(conn.reader.raw)
    assert not data or data.startswith(b"HTTP/1.1 200 "), data
    return bool(data)


# ---- networks of a listener ----


def test_allow(weir, backend):
    proxy = weir(listening(allow=["127.0.0.1", "127.1.0.0/16"]), backend)
    assert served(proxy, "127.0.0.1") and served(proxy, "127.1.2.3")
    assert not served(proxy, "127.0.0.2") and not served(proxy, "127.2.0.1")
    record = proxy.ended("proxy.denied.peer", weir__listener="web",
                         network__peer__address="127.2.0.1")
    assert "http.response.status_code" not in record
    assert proxy.metric("weir_listener_connections_refused_total", listener="web") == 2
    assert proxy.metric("weir_downstream_connections_refused_total") == 0


def test_deny_and_the_longest_wins(weir, backend):
    proxy = weir(listening(deny=["127.0.0.0/8", "127.7.7.7"], allow=["127.7.0.0/16"]), backend)
    answers = {address: served(proxy, address)
               for address in ("127.0.0.1", "127.7.7.6", "127.7.7.7", "127.7.8.1", "127.8.0.1")}
    assert answers == {"127.0.0.1": False, "127.7.7.6": True, "127.7.7.7": False,
                       "127.7.8.1": True, "127.8.0.1": False}
    proxy.change(**listening(deny=["127.7.7.7"], allow=None))
    proxy.reload()
    assert served(proxy, "127.0.0.1") and not served(proxy, "127.7.7.7")


def test_deny_of_a_mapped_network(weir, backend):
    """Written as IPv6, meant as IPv4: it denies what it says."""
    proxy = weir(listening(deny=["::ffff:127.7.0.0/112"]), backend)
    assert not served(proxy, "127.7.7.7") and served(proxy, "127.0.0.1")


def test_refused_before_tls(weir, backend, authority):
    conf = listening(deny=[MINE], tls={"certificates": [authority.leaf(["a.example"])]})
    proxy = weir(conf, backend)
    with client.Client(proxy.port) as conn:
        conn.try_send(b"\x16")
        conn.expect_close()
    proxy.ended("proxy.denied.peer", url__scheme="https")
    assert proxy.metric("weir_tls_handshake_failures_total") == 0


def test_unix_sockets_have_no_address(weir, backend):
    proxy = weir(start=False)
    proxy.change(**listening(bind=["127.0.0.1:%d" % proxy.port, "unix:%s/w" % proxy.directory],
                             allow=["192.0.2.0/24"], connections_per_client=1),
                 pools={"app": {"endpoints": [backend.address]}},
                 routes=[{"prefix": "/", "pool": "app"}])
    proxy.start()
    assert not served(proxy, MINE)
    held = [proxy.client("unix:%s/w" % proxy.directory) for _ in range(3)]
    assert all(conn.get().status == 200 for conn in held)


def test_a_flood_is_counted_but_logged_in_part(weir, backend):
    proxy = weir({**listening(deny=[MINE]), "process": {"workers": 1}}, backend)
    for _ in range(300):
        with client.Client(proxy.port) as conn:
            conn.try_send(b"GET")  # the kernel hands over connections that have said something
            conn.expect_close()

    def counted():
        """all are counted"""
        return proxy.metric("weir_request_end_total", end="proxy.denied.peer") == 300
    eventually(counted)
    assert 1 <= len(proxy.all_lines()) < 300


def test_who_has_reset_is_no_unix_socket(weir, backend):
    """A client that is gone before it is accepted has no address any more: it is nobody, not one
    of the trusted_proxies, and what it has sent is not read."""
    proxy = weir(listening(deny=[MINE], trusted_proxies=["10.0.0.0/8"]), backend)
    for _ in range(200):
        conn = client.Client(proxy.port)
        conn.try_send(wire.request_bytes("POST", "/", [("X-Forwarded-For", "10.9.9.9")],
                                         body=b"x"))
        conn.reset()

    def counted():
        """all are counted"""
        metrics = proxy.metrics()
        return sum(metrics.get("weir_request_end_total", end=end) or 0
                   for end in ("proxy.denied.peer", "client.reset")) == 200
    eventually(counted)
    peers = {record["network.peer.address"] for record in proxy.all_lines()}
    assert peers <= {MINE} and not backend.requests


# ---- networks of a policy ----


POLICY = {"listeners": {"web": {"trusted_proxies": ["127.0.0.0/8"]}},
          "policies": {"some": {"allow": ["192.0.2.0/24", "2001:db8::/32"],
                                "deny": ["192.0.2.66"]},
                       "page": {"errors": [{"status": ["403"], "body": "no"}],
                                "deny": ["192.0.2.77"]}},
          "routes": [{"name": "all", "prefix": "/", "pool": "app", "policies": ["some", "page"]},
                     {"name": "open", "prefix": "/open", "pool": "app"}]}


@pytest.mark.parametrize("address,status", [
    ("192.0.2.1", 200), ("192.0.2.66", 403), ("192.0.2.77", 403), ("192.0.3.1", 403),
    ("2001:db8::1", 200), ("2001:db9::1", 403), ("::ffff:192.0.2.1", 200)])
def test_policy(weir, backend, address, status):
    proxy = weir(POLICY, backend)
    response = proxy.get("/", ["X-Forwarded-For: " + address])
    assert response.status == status
    assert proxy.get("/open", ["X-Forwarded-For: " + address]).status == 200
    if status == 403:
        assert response.body == b"no"
        record = proxy.ended("proxy.denied.client", path="/", status=403)
        assert record["http.route"] == "all" and len(backend.requests) == 1


def test_policy_judges_the_client_not_the_proxy(weir, backend):
    proxy = weir(POLICY, backend)
    assert proxy.get("/").status == 403  # 127.0.0.1 itself
    proxy.change(listeners={"web": {"trusted_proxies": None}})
    proxy.reload()
    assert proxy.get("/", ["X-Forwarded-For: 192.0.2.1"]).status == 403


def test_a_denied_connection_goes_on(weir, backend):
    proxy = weir(POLICY, backend)
    conn = proxy.client()
    assert conn.get("/").status == 403
    assert conn.get("/", ["X-Forwarded-For: 192.0.2.1"]).status == 200


def test_a_client_without_address(weir, backend):
    """With an allow list it is in none of the networks; a deny list says nothing of it."""
    proxy = weir(start=False)
    bind = "unix:%s/w" % proxy.directory
    proxy.change(listeners={"web": {"bind": bind}},
                 policies={"some": {"allow": ["0.0.0.0/0", "::/0"]}, "not": {"deny": ["::/0"]}},
                 pools={"app": {"endpoints": [backend.address]}},
                 routes=[{"prefix": "/a", "pool": "app", "policies": ["some"]},
                         {"prefix": "/d", "pool": "app", "policies": ["not"]}])
    proxy.start()
    with client.Client(bind) as conn:
        assert conn.get("/a").status == 403 and conn.get("/d").status == 200


def test_explain_tells(weir, backend):
    proxy = weir({**POLICY, "listeners": {"web": {"trusted_proxies": ["127.0.0.0/8"],
                                                  "deny": ["127.6.6.6"]}}}, backend)

    def told(*more):
        answer = run("explain", "--json", "-c", proxy.path, "GET", "/", *more)
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)
    denied = told("-H", "X-Forwarded-For: 192.0.2.66")
    assert denied["end"] == "proxy.denied.client" and denied["status"] == 403
    assert denied["policies"] == ["some", "page"]
    assert told("-H", "X-Forwarded-For: 192.0.2.1")["end"] == "ok"
    closed = told("--from", "127.6.6.6")
    assert closed["end"] == "proxy.denied.peer" and "status" not in closed
    text = run("explain", "--text", "-c", proxy.path, "--from", "127.6.6.6", "GET", "/")
    assert "closed: proxy.denied.peer" in text.stdout


# ---- connections per client ----


def opened(proxy, source, count):
    """Connections that are served, and kept open."""
    held = []
    for _ in range(count):
        conn = From(source, proxy.port)
        conn.try_send(wire.request_bytes())
        if conn.reader.fill():
            assert conn.response().status == 200
            held.append(conn)
        else:
            conn.close()
    return held


def test_connections_per_client(weir, backend):
    proxy = weir(listening(connections_per_client=3), backend)
    mine, other = opened(proxy, MINE, 5), opened(proxy, "127.0.0.2", 5)
    assert len(mine) == 3 and len(other) == 3
    assert all(conn.get("/still").status == 200 for conn in mine + other)
    proxy.ended("proxy.limit.client_connections", count=2, weir__listener="web",
                network__peer__address="127.0.0.2")
    assert proxy.metric("weir_request_end_total", end="proxy.limit.client_connections") == 4
    assert proxy.metric("weir_listener_connections_refused_total") == 4
    mine.pop().close()
    eventually(lambda: mine.extend(opened(proxy, MINE, 1)) or len(mine) == 3)
    assert not opened(proxy, MINE, 2)
    for conn in mine + other:
        conn.close()


def test_networks_as_clients(weir, backend):
    proxy = weir(listening(connections_per_client=2, client_prefix4=24), backend)
    held = opened(proxy, "127.0.0.1", 1) + opened(proxy, "127.0.0.2", 1)
    assert len(held) == 2 and not opened(proxy, "127.0.0.3", 2)
    held += opened(proxy, "127.0.1.1", 3)
    assert len(held) == 4
    for conn in held:
        conn.close()


def test_trusted_proxies_are_not_counted(weir, backend):
    proxy = weir(listening(connections_per_client=1, trusted_proxies=["127.9.0.0/16"]), backend)
    held = opened(proxy, "127.9.0.1", 5)
    assert len(held) == 5
    for conn in held:
        conn.close()


def test_exact_over_workers(weir, backend):
    proxy = weir({**listening(connections_per_client=10), "process": {"workers": 4}}, backend)
    held, lock = [], threading.Lock()

    def crowd():
        got = opened(proxy, MINE, 8)
        with lock:
            held.extend(got)
    for _ in range(2):
        threads = [threading.Thread(target=crowd) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(held) == 10
        for conn in held:
            conn.close()
        held.clear()
        eventually(lambda: proxy.metric("weir_listener_connections") == 0)


def test_a_reload_keeps_the_count(weir, backend):
    proxy = weir(listening(connections_per_client=2), backend)
    held = opened(proxy, MINE, 2)
    proxy.change(**listening(connections_per_client=3))
    proxy.reload()
    held += opened(proxy, MINE, 3)
    assert len(held) == 3
    proxy.change(**listening(connections_per_client=1))
    proxy.reload()
    assert all(conn.get().status == 200 for conn in held)  # nobody is sent away
    for conn in held[1:]:
        conn.close()
    eventually(lambda: proxy.metric("weir_listener_connections") == 1)
    assert not opened(proxy, MINE, 1)
    held[0].close()
