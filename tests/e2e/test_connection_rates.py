"""Policies of listeners of TCP, of TLS passed on and of UDP (packaging/docs/limits.md,
"Connections and sessions"): networks and rates of new connections and sessions, whose they are,
what a refusal looks like and costs. Rates are of the kind 1/h, so that the tests do not depend on
how fast they run."""
import contextlib
import json
import re
import signal
import socket
import ssl
import threading

import pytest

from harness import confgen, proc, tcpsite, udpsite
from harness.proxyheader import local, v1, v2
from harness.tcpsite import connect, ended, exactly
from harness.udpsite import ask
from harness.weir import eventually, run
from test_tcp import endpoint, tcp  # noqa: F401
from test_tls_passthrough import hello
from test_udp_proxy_protocol import header_in

RATE = "weir_rate_requests_total"
TRUSTED = {"proxy_protocol": True, "trusted_proxies": ["127.0.0.0/8"]}
NAMED = {"policies": ["slow"]}


def slow(burst, **rate):
    """The policies of a configuration: one of such a rate."""
    return {"slow": {"rate": {"limit": "1/h", "burst": burst, **rate}}}


def results(proxy, policy="slow"):
    now = proxy.metrics()
    return [now.get(RATE, policy=policy, result=result)
            for result in ("passed", "refused", "dry_run")]


def served(sock, data=b"ping"):
    """Is it let in, to an endpoint that echoes? Else it ends without a byte."""
    try:
        sock.sendall(data)
        got = exactly(sock, len(data))
    except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
        return False
    assert got in (b"", data), got
    return got == data


def let_in(port, count, first=b"", host="127.0.0.1", **kwargs):
    """How many of count connections are served; first: what they begin with."""
    good = 0
    for _ in range(count):
        with tcpsite.guarded(socket.create_connection((host, port), **kwargs)) as sock:
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                sock.sendall(first)
            good += served(sock)
    return good


# ---- TCP ----

def test_tcp(tcp, endpoint):
    site = endpoint()
    proxy = tcp(site, listener=NAMED, policies=slow(3))
    with connect(proxy.port) as kept:
        assert served(kept) and let_in(proxy.port, 5) == 2
        assert served(kept)  # a connection that is there costs nothing
    assert len(site.sockets) == 3  # nobody else came so far
    record = proxy.ended("proxy.limit.rate", weir__listener="db")
    assert record["weir.rate.policy"] == "slow" and record["weir.rate.dry_run"] is False
    assert record["network.protocol.name"] == "tcp"
    assert record["network.peer.address"] == "127.0.0.1"
    assert "http.response.status_code" not in record and "url.scheme" not in record
    assert "weir.rate.policy" not in proxy.ended("ok")
    assert results(proxy) == [3, 3, 0]
    metrics = proxy.metrics()
    assert metrics.get("weir_request_end_total", end="proxy.limit.rate") == 3
    assert metrics.get("weir_listener_connections_refused_total", listener="db") == 3
    assert metrics.get("weir_listener_connections_total", listener="db") == 3
    assert metrics.get("weir_tcp_sessions_total") == 3


def test_clients_are_counted_apart(tcp, endpoint):
    proxy = tcp(endpoint(), listener=NAMED, policies=slow(2))
    for source in ("127.0.0.1", "127.0.0.2", "127.0.1.1"):
        assert let_in(proxy.port, 3, source_address=(source, 0)) == 2
    proxy.change(policies=slow(2, prefix4=24))
    proxy.reload()
    assert let_in(proxy.port, 1, source_address=("127.0.0.1", 0)) == 1
    assert let_in(proxy.port, 2, source_address=("127.0.0.2", 0)) == 1
    assert let_in(proxy.port, 1, source_address=("127.0.1.1", 0)) == 1


def test_ipv6_and_mapped(weir, endpoint):
    """An IPv4 client is one, however a proxy writes it; and it is counted over all listeners."""
    ports = {bind: proc.free_port() for bind in ("127.0.0.1", "[::1]", "127.0.0.2")}
    raw = {"protocol": "tcp", "pool": "db", **NAMED}
    conf = {"l%d" % port: {"bind": "%s:%d" % (bind, port), **raw} for bind, port in ports.items()}
    conf["l%d" % ports["127.0.0.2"]].update(TRUSTED)
    proxy = weir({"listeners": {"web": None, **conf}, "policies": slow(2),
                  "pools": {"db": {"endpoints": [endpoint().address]}}})
    assert let_in(ports["127.0.0.1"], 1) == 1 and let_in(ports["[::1]"], 3, host="::1") == 2
    proxied = {"host": "127.0.0.2", "first": v1("::ffff:127.0.0.1", "2001:db8::7")}
    assert let_in(ports["127.0.0.2"], 2, **proxied) == 1
    assert let_in(ports["127.0.0.1"], 1) == 0
    assert let_in(ports["127.0.0.2"], 1, host="127.0.0.2", first=v2("::1", dst="2001:db8::7")) == 0
    assert results(proxy) == [4, 4, 0]


@pytest.mark.parametrize("bits", [48, 64, 128])
def test_ipv6_prefixes(tcp, endpoint, bits):
    proxy = tcp(endpoint(), listener={**NAMED, **TRUSTED},
                policies=slow(1, **({} if bits == 64 else {"prefix6": bits})))
    for client, least in (("2001:db8:0:1::1", 0), ("2001:db8:0:1::2", 128),
                          ("2001:db8:0:2::1", 64), ("2001:db8:1::1", 48)):
        assert let_in(proxy.port, 1, v2(client)) == (bits >= least or least == 48), client
    assert let_in(proxy.port, 1, v1("2001:db8:0:1::1", "2001:db8::7")) == 0


def test_proxy_header(tcp, endpoint):
    """It is its client who is counted, once, however the header comes; LOCAL is the proxy."""
    proxy = tcp(endpoint(), listener={**NAMED, **TRUSTED}, policies=slow(2))
    for client in ("203.0.113.9", "203.0.113.10"):
        assert let_in(proxy.port, 3, v1(client)) == 2
        assert let_in(proxy.port, 1, v2(client)) == 0
        record = proxy.ended("proxy.limit.rate", client__address=client)
        assert record["network.peer.address"] == "127.0.0.1"
        assert record["weir.rate.policy"] == "slow" and record["weir.rate.dry_run"] is False
    with connect(proxy.port) as sock:
        for byte in v2("203.0.113.11"):
            sock.sendall(bytes([byte]))
        assert served(sock) and results(proxy)[0] == 5
    assert let_in(proxy.port, 1, v2("203.0.113.11")) == 1
    assert let_in(proxy.port, 3, local()) == 2


def test_proxy_header_that_need_not_come(tcp, endpoint):
    """Who may send none is judged at accept; who sends none though he may, when that is clear."""
    listener = {**NAMED, "proxy_protocol": "optional", "trusted_proxies": ["127.0.0.9"]}
    proxy = tcp(endpoint(), listener=listener, policies=slow(1))
    assert let_in(proxy.port, 2) == 1
    proxy_s = {"source_address": ("127.0.0.9", 0)}
    assert let_in(proxy.port, 1, v1("127.0.0.1"), **proxy_s) == 0
    assert let_in(proxy.port, 2, **proxy_s) == 1
    assert let_in(proxy.port, 2, v1("203.0.113.9"), **proxy_s) == 1
    assert let_in(proxy.port, 1, v1("203.0.113.77")) == 0  # not of this one
    assert results(proxy) == [3, 5, 0]


def test_unix_sockets(weir, endpoint, work):
    """Their peers have no address: no network holds them, and they are counted together."""
    port, path = proc.free_port(), work / "db.sock"
    proxy = weir({"listeners": {"web": None, "db": {
        "bind": ["127.0.0.1:%d" % port, "unix:%s" % path], "protocol": "tcp", "pool": "db",
        **NAMED}}, "pools": {"db": {"endpoints": [endpoint().address]}}, "policies": slow(2)})

    def by_unix():
        with tcpsite.guarded(socket.socket(socket.AF_UNIX)) as sock:
            sock.connect(str(path))
            return served(sock)
    assert [by_unix() for _ in range(3)] == [True, True, False] and let_in(port, 3) == 2
    proxy.change(policies={"slow": {"allow": ["127.0.0.0/8"], "rate": None}})
    proxy.reload()
    assert not by_unix() and let_in(port, 1) == 1
    proxy.ended("proxy.denied.client")


def test_before_tls(tcp, endpoint, authority):
    """A refused client costs no handshake: it is closed without a byte."""
    leaf = authority.leaf(["db.example"])
    proxy = tcp(endpoint(), policies=slow(1),
                listener={**NAMED, "tls": {"certificates": [
                    {"cert": leaf["cert"], "key": leaf["key"]}]}})
    context = authority.client_context()
    with context.wrap_socket(connect(proxy.port), server_hostname="db.example") as sock:
        assert served(sock)
    for _ in range(2):
        with connect(proxy.port) as sock:
            sock.sendall(hello("db.example"))
            assert ended(sock)[1] == b""
    proxy.ended("proxy.limit.rate", count=2)
    metrics = proxy.metrics()
    assert metrics.get("weir_tls_handshakes_total") == 1
    assert metrics.get("weir_tls_handshake_failures_total") == 0


@pytest.mark.parametrize("header", [b"", v1("203.0.113.9")], ids=["", "proxied"])
def test_tls_passed_on(weir, endpoint, header):
    """Refused before a ClientHello is looked at: no alert."""
    site, port = endpoint(tcpsite.to_end), proc.free_port()
    listener = {"bind": "127.0.0.1:%d" % port, "protocol": "tls_passthrough", "pool": "a", **NAMED}
    proxy = weir({"listeners": {"web": None, "pass": {**listener, **(TRUSTED if header else {})}},
                  "pools": {"a": {"endpoints": [site.address]}}, "policies": slow(1)})
    with contextlib.ExitStack() as stack:
        first, second, third = [stack.enter_context(connect(port)) for _ in range(3)]
        first.sendall(header + hello("a.example"))
        site.served(1)
        second.sendall(header + hello("a.example"))
        third.sendall(header + b"no hello at all")
        assert ended(second)[1] == ended(third)[1] == b""
    assert proxy.ended("proxy.limit.rate", count=2, weir__listener="pass")["weir.rate.policy"]
    assert results(proxy) == [1, 2, 0] and len(site.sockets) == 1


# ---- dry run ----

def test_dry_run(tcp, endpoint):
    proxy = tcp(endpoint(), listener=NAMED, policies=slow(1, dry_run=True))
    assert let_in(proxy.port, 3) == 3
    record = proxy.logged(2, end="ok", weir__rate__policy="slow")
    assert record["weir.rate.dry_run"] is True and record["weir.endpoint"]
    assert sum("weir.rate.policy" in line for line in proxy.all_lines()) == 2
    assert results(proxy) == [1, 0, 2]


def test_dry_run_is_told_of_who_gets_no_session(tcp, authority):
    """Of a handshake that fails, and of a session for which there is no endpoint."""
    leaf = authority.leaf(["db.example"])
    tls = {"tls": {"certificates": [{"cert": leaf["cert"], "key": leaf["key"]}]}}
    proxy = tcp("127.0.0.1:%d" % proc.free_port(), policies=slow(1, key="none", dry_run=True),
                listener={**NAMED, **TRUSTED, **tls})
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for _ in range(2):
        with connect(proxy.port) as raw:
            raw.sendall(v1("203.0.113.9"))
            with context.wrap_socket(raw) as sock:
                assert not served(sock)
    with connect(proxy.port) as raw:
        raw.sendall(v1("203.0.113.9") + b"no hello at all, and so on and so forth")
        ended(raw)
    words = [(line["weir.end"], line["weir.rate.dry_run"])
             for line in [proxy.logged(2, weir__rate__policy="slow")] and proxy.all_lines()
             if "weir.rate.policy" in line]
    assert sorted(words) == [("client.tls.handshake", True), ("upstream.connect.refused", True)]


def forgotten(proxy, name):
    """The policy goes, and so does its rate: nobody has it but who came under it."""
    proxy.change(listeners={name: {"policies": None}}, policies=None)
    for drain in ("11s", "12s", "13s"):
        proxy.change(process={"drain": drain})
        proxy.reload()


def test_dry_run_outlives_its_policy(tcp, endpoint, authority):
    """A connection says what was so when it came, whatever became of the policy."""
    leaf = authority.leaf(["db.example"])
    tls = {"tls": {"certificates": [{"cert": leaf["cert"], "key": leaf["key"]}]}}
    proxy = tcp(endpoint(), listener={**NAMED, **TRUSTED, **tls},
                policies=slow(1, key="none", dry_run=True))
    context = authority.client_context()
    with connect(proxy.port) as first, connect(proxy.port) as second, \
            connect(proxy.port) as third:
        for dry, sock in enumerate((first, second, third)):
            sock.sendall(v1("203.0.113.9"))
            eventually(lambda want=dry: results(proxy) == [1, 0, want])
        assert served(context.wrap_socket(first, server_hostname="db.example"))
        with context.wrap_socket(second, server_hostname="db.example") as safe:
            assert served(safe)
            forgotten(proxy, "db")
            assert served(safe)
        third.sendall(b"no hello at all, and so on and so forth")
        ended(third)
    for end in ("client.closed", "client.tls.handshake"):
        assert proxy.logged(end=end, weir__rate__policy="slow")["weir.rate.dry_run"] is True


# ---- keys, networks, several policies ----

def several(weir, endpoint, policies, **more):
    """Two listeners of TCP and one of HTTP, which answers by itself."""
    ports = [proc.free_port() for _ in range(2)]
    listeners = {name: {"bind": "127.0.0.1:%d" % port, "protocol": "tcp", "pool": "db", **NAMED}
                 for name, port in zip(("one", "two"), ports)}
    conf = {"listeners": listeners, "pools": {"db": {"endpoints": [endpoint().address]}},
            "policies": policies,
            "routes": [{"name": "one", "prefix": "/", "respond": {"body": "yours"}, **NAMED}]}
    return weir(confgen.merge(conf, more)), ports


@pytest.mark.parametrize("key,want", [
    ("route", [2, 2, 2]), (["client_ip", "route"], [2, 2, 2]), ("none", [2, 0, 0]),
    ("client_ip", [2, 0, 0])])
def test_keys(weir, endpoint, key, want):
    """"route" is the listener, even beside a route of its name; a policy counts all together."""
    proxy, ports = several(weir, endpoint, slow(2, key=key))
    got = [let_in(port, 3) for port in ports]
    got.append([proxy.get("/").status for _ in range(3)].count(200))
    assert got == want
    assert results(proxy) == [sum(want), 9 - sum(want), 0]


def test_several_rates(tcp, endpoint):
    """What one refuses is not taken from another."""
    proxy = tcp(endpoint(), listener={"policies": ["client", "whole"], **TRUSTED}, policies={
        "client": {"rate": {"limit": "1/h", "burst": 1}},
        "whole": {"rate": {"key": "none", "limit": "1/h", "burst": 3}}})
    assert let_in(proxy.port, 4, v1("192.0.2.1")) == 1
    assert [let_in(proxy.port, 1, v1("192.0.2.%d" % i)) for i in (2, 3, 4)] == [1, 1, 0]
    assert results(proxy, "client") == [3, 3, 0] and results(proxy, "whole") == [3, 1, 0]
    proxy.logged(3, weir__rate__policy="client")
    proxy.logged(1, weir__rate__policy="whole")


def test_networks(tcp, endpoint):
    """Each policy is asked by itself, behind the networks of the listener; all must allow."""
    proxy = tcp(endpoint(), listener={
        "policies": ["inside", "sane"], "deny": ["192.0.2.7"], **TRUSTED}, policies={
        "inside": {"allow": ["192.0.2.0/24", "2001:db8::/32"]},
        "sane": {"deny": ["192.0.2.66"], "rate": {"limit": "1/h", "burst": 1}}})
    for client, end in (("192.0.2.1", "ok"), ("2001:db8::1", "ok"),
                        ("192.0.2.7", "proxy.denied.peer"), ("192.0.2.66", "proxy.denied.client"),
                        ("198.51.100.1", "proxy.denied.client"), (None, "proxy.denied.client")):
        assert let_in(proxy.port, 1, v2(client) if client else local()) == (end == "ok"), client
        record = proxy.ended(end, **({"client__address": client} if client else {}))
        assert "weir.rate.policy" not in record
    assert results(proxy, "sane") == [2, 0, 0]  # who is denied is not counted


def test_beside_connections_per_client(tcp, endpoint):
    """What either refuses is not counted by the other."""
    proxy = tcp(endpoint(), listener={**NAMED, "connections_per_client": 2}, policies=slow(3))
    with connect(proxy.port) as first, connect(proxy.port) as second:
        assert served(first) and served(second)
        assert let_in(proxy.port, 4) == 0
        proxy.ended("proxy.limit.client_connections", count=4)
        assert results(proxy) == [2, 0, 0]
    eventually(lambda: proxy.metric("weir_listener_connections", listener="db") == 0)
    assert let_in(proxy.port, 1) == 1
    assert let_in(proxy.port, 5) == 0 and results(proxy) == [3, 5, 0]
    proxy.change(policies={"slow": None}, listeners={"db": {"policies": None}})
    proxy.reload()
    with connect(proxy.port) as first, connect(proxy.port) as second:  # none of the five is left
        assert served(first) and served(second) and let_in(proxy.port, 1) == 0


# ---- workers, reload ----

def test_exact_over_workers(tcp, endpoint):
    proxy = tcp(endpoint(), listener=NAMED, policies=slow(40), process={"workers": 2})
    passed, lock = [], threading.Lock()

    def hammer():
        count = let_in(proxy.port, 15)
        with lock:
            passed.append(count)
    threads = [threading.Thread(target=hammer) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(passed) == 40 and results(proxy) == [40, 80, 0]


def test_reload(tcp, endpoint):
    """The same rate goes on, whatever else is another; another one begins afresh."""
    site, more = endpoint(), endpoint()
    proxy = tcp(site, listener=NAMED, policies=slow(3))
    assert let_in(proxy.port, 1) == 1
    proxy.change(pools={"db": {"endpoints": [more.address]}})
    proxy.reload()
    assert let_in(proxy.port, 1) == 1
    proxy.change(listeners={"db": {"policies": ["other", "slow"], "timeouts": {"tunnel": "5s"}}},
                 policies={"other": {"deny": ["192.0.2.0/24"]}})
    proxy.reload()
    assert let_in(proxy.port, 3) == 1
    proxy.change(policies={"slow": {"rate": {"dry_run": True}}})
    proxy.reload()
    assert let_in(proxy.port, 2) == 2 and results(proxy) == [3, 2, 2]
    proxy.change(policies={"slow": {"rate": {"dry_run": None, "burst": 2}}})
    proxy.reload()
    assert let_in(proxy.port, 3) == 2
    proxy.change(listeners={"db": {"policies": None}}, policies=None)
    proxy.reload()
    assert let_in(proxy.port, 3) == 3


def test_reload_while_a_header_comes(tcp, endpoint):
    """Who is judged after its PROXY header is judged by what is asked then."""
    proxy = tcp(endpoint(), listener=TRUSTED)
    with connect(proxy.port) as first, connect(proxy.port) as second:
        for sock in (first, second):
            sock.sendall(v1("203.0.113.9")[:9])
        eventually(lambda: proxy.metric("weir_listener_connections", listener="db") == 2)
        proxy.change(listeners={"db": NAMED}, policies=slow(1))
        proxy.reload()
        first.sendall(v1("203.0.113.9")[9:])
        assert served(first)
        second.sendall(v1("203.0.113.9")[9:])
        assert not served(second)
    proxy.ended("proxy.limit.rate", client__address="203.0.113.9")


def test_reload_from_http_while_a_header_comes(weir, endpoint):
    """A connection of HTTP that the listener's policies of TCP refuse."""
    proxy = weir({"listeners": {"web": TRUSTED},
                  "routes": [{"prefix": "/", "respond": {"body": "yours"}}]})
    with connect(proxy.port) as first, connect(proxy.port) as second:
        for sock in (first, second):
            sock.sendall(v1("203.0.113.9")[:9])
        eventually(lambda: proxy.metric("weir_listener_connections", listener="web") == 2)
        proxy.change(listeners={"web": {"protocol": "tcp", "pool": "db", **NAMED}}, routes=None,
                     pools={"db": {"endpoints": [endpoint().address]}},
                     policies=slow(1, dry_run=True))
        proxy.reload()
        for sock in (first, second):
            sock.sendall(v1("203.0.113.9")[9:] + b"GET / HTTP/1.0\r\n\r\n")
            ended(sock)
    assert results(proxy) == [1, 0, 1]


# ---- UDP ----

def silent(proxy, sock, count, end="proxy.limit.rate"):
    """Nothing comes back: count refused datagrams so far."""
    eventually(lambda: proxy.metric("weir_request_end_total", end=end) == count)
    sock.settimeout(0.1)
    with pytest.raises(socket.timeout):
        sock.recv(1)


@pytest.fixture
def site():
    made = []

    def make(*args, **kwargs):
        made.append(udpsite.Endpoint(*args, **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.stop()


def test_udp(udp, site):
    """Sessions are counted, datagrams are not; who gets none is dropped."""
    echo = site()
    proxy = udp(echo, listener=NAMED, policies=slow(2))
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(udpsite.connect(proxy.port)) for _ in range(3)]
        for _ in range(5):
            assert [ask(sock, b"x") for sock in socks[:2]] == [b"x", b"x"]
        for count in (1, 2, 3):
            socks[2].send(b"late")
            silent(proxy, socks[2], count)
        other = stack.enter_context(udpsite.connect(proxy.port, source="127.0.0.9"))
        assert ask(other, b"o") == b"o"
        record = proxy.ended("proxy.limit.rate", weir__listener="dns")
        assert record["network.protocol.name"] == "udp"
        assert record["weir.rate.policy"] == "slow" and record["weir.rate.dry_run"] is False
        assert results(proxy) == [3, 3, 0] and b"late" not in echo.got
        metrics = proxy.metrics()
        assert metrics.get("weir_udp_dropped_datagrams_total", cause="refused") == 3
        assert metrics.get("weir_listener_connections_refused_total", listener="dns") == 3
        assert metrics.get("weir_udp_sessions_total") == 3


def test_udp_answers_end_sessions(udp, site):
    """With responses = 1 each question asks, also as a session of its own."""
    proxy = udp(site(), listener={**NAMED, "udp": {"responses": 1}}, policies=slow(3))
    with udpsite.connect(proxy.port) as sock:
        assert [ask(sock, b"%d" % i) for i in range(3)] == [b"0", b"1", b"2"]
        sock.send(b"3")
        silent(proxy, sock, 1)


def silent_to(word):
    """The handler of an endpoint that echoes, but has no answer to word."""
    return lambda data, _peer: None if data == word else data


def logged_lines(proxy, end):
    return [line for line in proxy.all_lines() if line.get("weir.end") == end]


def test_udp_burst_of_questions(udp, site):
    """With responses each datagram is a question, also those that come before an answer does."""
    echo = site()
    proxy = udp(echo, listener={**NAMED, "udp": {"responses": 1}}, policies=slow(3),
                process={"workers": 1})
    with udpsite.connect(proxy.port) as sock:
        for i in range(100):
            sock.send(b"%d" % i)
        eventually(lambda: sum(results(proxy)) == 100)
        assert results(proxy) == [3, 97, 0]
        assert [sock.recv(9) for _ in range(3)] == [b"0", b"1", b"2"] == echo.got
        silent(proxy, sock, 97)
    metrics = proxy.metrics()
    assert metrics.get("weir_udp_dropped_datagrams_total", cause="refused") == 97
    assert metrics.get("weir_listener_connections_refused_total", listener="dns") == 97
    assert metrics.get("weir_udp_received_datagrams_total") == 3
    record = proxy.logged(end="proxy.limit.rate", weir__listener="dns")
    assert record["weir.rate.policy"] == "slow" and record["weir.rate.dry_run"] is False
    assert record["network.peer.address"] == "127.0.0.1"
    assert 0 < len(logged_lines(proxy, "proxy.limit.rate")) <= 40  # ten in a second


@pytest.mark.parametrize("header", [b"", header_in("203.0.113.9")], ids=["", "proxied"])
def test_udp_questions_beside_an_unanswered_one(udp, site, header):
    """They ask the rate although their session is there; it goes on, whatever becomes of them."""
    quiet = site(silent_to(b"hold"))
    proxy = udp(quiet, policies=slow(2),
                listener={**NAMED, **(TRUSTED if header else {}), "udp": {"responses": 1}})
    with udpsite.connect(proxy.port) as sock:
        sock.send(header + b"hold")
        eventually(lambda: quiet.got == [b"hold"])
        assert ask(sock, header + b"2") == b"2"
        for count in range(1, 6):
            sock.send(header + b"3")
            silent(proxy, sock, count)
        sock.settimeout(10)
        quiet.sock.sendto(b"at last", quiet.peers[0])
        assert sock.recv(9) == b"at last"
        record = proxy.ended("ok")
        assert record["weir.datagrams.received"] == record["weir.datagrams.sent"] == 2
    assert quiet.got == [b"hold", b"2"] and results(proxy) == [2, 5, 0]
    assert proxy.metric("weir_udp_sessions_total") == 1


def test_udp_without_responses_one_for_a_session(udp, site):
    echo = site()
    proxy = udp(echo, listener=NAMED, policies=slow(1))
    with udpsite.connect(proxy.port) as sock:
        for _ in range(100):
            sock.send(b"x")
        eventually(lambda: len(echo.got) == 100)
        assert results(proxy) == [1, 0, 0]


def test_udp_questions_dry_run(udp, site):
    """The line of the session tells, also if its first question was within the rate."""
    quiet = site(silent_to(b"hold"))
    proxy = udp(quiet, listener={**NAMED, "udp": {"responses": 1}, "timeouts": {"idle": "1s"}},
                policies=slow(1, dry_run=True))
    with udpsite.connect(proxy.port) as sock:
        for _ in range(4):
            sock.send(b"hold")
        eventually(lambda: results(proxy) == [1, 0, 3])
        forgotten(proxy, "dns")
        record = proxy.ended("upstream.no_answer", weir__rate__policy="slow")
    assert record["weir.rate.dry_run"] is True and record["weir.datagrams.received"] == 4
    assert quiet.got == [b"hold"] * 4
    assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 0


@pytest.mark.parametrize("responses,want", [(1, [4, 16, 0]), (0, [1, 0, 0])])
def test_udp_trains_of_questions(udp, site, responses, want):
    """Of datagrams that the kernel carries together each is one."""
    quiet = site(lambda _data, _peer: None)
    proxy = udp(quiet, listener={**NAMED, "udp": {"responses": responses}}, policies=slow(4))
    parts = [b"part %3d" % i for i in range(10)]
    with udpsite.connect(proxy.port) as sock, udpsite.connect(proxy.port) as other:
        for each in (sock, other) if responses else (sock, sock):
            each.setsockopt(socket.IPPROTO_UDP, 103, 8)  # UDP_SEGMENT
            each.send(b"".join(parts))
        eventually(lambda: results(proxy) == want)
        good = parts[:4] if responses else parts * 2
        eventually(lambda: quiet.got == good)
    assert proxy.metric("weir_udp_received_datagrams_total") == len(good)
    assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 20 - len(good)


def test_udp_questions_that_move_on(udp, site):
    """A session that begins anew elsewhere does so with a question, which asks the rate."""
    old, new = site(silent_to(b"1")), site(silent_to(b"2"))
    proxy = udp(old, listener={**NAMED, "udp": {"responses": 1}}, policies=slow(2))
    with udpsite.connect(proxy.port) as sock:
        sock.send(b"1")
        eventually(lambda: old.got == [b"1"])
        proxy.change(pools={"dns": {"endpoints": [new.address]}})
        proxy.reload()
        sock.send(b"2")
        eventually(lambda: new.got == [b"2"])
        sock.send(b"3")
        silent(proxy, sock, 1)
    assert results(proxy) == [2, 1, 0] and len(new.got) == 1


def test_udp_questions_while_weir_drains(udp, site):
    """The session that is left asks as before."""
    quiet = site(silent_to(b"hold"))
    proxy = udp(quiet, listener={**NAMED, "udp": {"responses": 1}}, policies=slow(2),
                process={"drain": "20s"})
    with udpsite.connect(proxy.port) as sock:
        sock.send(b"hold")
        eventually(lambda: quiet.got == [b"hold"])
        proxy.signal(signal.SIGTERM)
        eventually(lambda: "draining 0 connections and 1 UDP session" in proxy.errors)
        assert ask(sock, b"2") == b"2"
        for _ in range(5):
            sock.send(b"3")
        eventually(lambda: sum(results(proxy)) == 7)
        assert results(proxy) == [2, 5, 0]
        quiet.sock.sendto(b"at last", quiet.peers[0])
        assert sock.recv(9) == b"at last" and quiet.got == [b"hold", b"2"]


def test_udp_proxy_header(udp, site):
    proxy = udp(site(), listener={**NAMED, **TRUSTED}, policies=slow(1))
    with udpsite.connect(proxy.port) as one, udpsite.connect(proxy.port) as two:
        for client in ("203.0.113.9", "203.0.113.10", "2001:db8:0:1::1", "2001:db8:0:2::1"):
            assert ask(one, header_in(client) + b"1") == b"1"
            assert ask(one, header_in(client) + b"2") == b"2"
        for count, client in enumerate(("203.0.113.9", "2001:db8:0:1::2"), 1):
            two.send(header_in(client, sport=1) + b"3")
            silent(proxy, two, count)
            record = proxy.ended("proxy.limit.rate", client__address=client)
            assert record["network.peer.address"] == "127.0.0.1"
    assert results(proxy) == [4, 2, 0]


def test_udp_networks_and_dry_run(udp, site):
    proxy = udp(site(), listener={"policies": ["near", "slow"], "timeouts": {"idle": "1s"}},
                policies={"near": {"allow": ["127.0.0.0/24"]}, **slow(1, dry_run=True)})
    with contextlib.ExitStack() as stack:
        for _ in range(3):
            assert ask(stack.enter_context(udpsite.connect(proxy.port)), b"x") == b"x"
        far = stack.enter_context(udpsite.connect(proxy.port, source="127.0.1.1"))
        far.send(b"x")
        silent(proxy, far, 1, "proxy.denied.client")
        assert proxy.ended("proxy.denied.client", network__peer__address="127.0.1.1")
        record = proxy.logged(2, end="ok", weir__rate__policy="slow")
    assert record["weir.rate.dry_run"] is True and record["network.protocol.name"] == "udp"
    proxy.logged(3, end="ok")
    assert results(proxy) == [1, 0, 2]


def test_udp_dry_run_outlives_its_policy(udp, site):
    proxy = udp(site(), listener={**NAMED, "timeouts": {"idle": "2s"}},
                policies=slow(1, key="none", dry_run=True))
    with udpsite.connect(proxy.port) as first, udpsite.connect(proxy.port) as second:
        assert ask(first, b"1") == b"1" and ask(second, b"2") == b"2"
        forgotten(proxy, "dns")
        assert ask(second, b"3") == b"3"
        record = proxy.logged(end="ok", weir__rate__policy="slow")
    assert record["weir.rate.dry_run"] is True and record["weir.datagrams.sent"] >= 1


def test_udp_who_moves_on_costs_nothing(udp, site):
    """A session that ends with its endpoint goes on elsewhere, and one that has another listener
    by its name."""
    old, new = site(), site()
    proxy = udp(old, listener={**NAMED, "connections_per_client": 1}, policies=slow(1))
    with udpsite.connect(proxy.port) as sock:
        assert ask(sock, b"1") == b"1"
        proxy.change(pools={"dns": {"endpoints": [new.address]}})
        proxy.reload()
        assert ask(sock, b"2") == b"2"
        proxy.ended("upstream.out_of_service")
        proxy.change(listeners={"dns": None, "names": {
            "bind": "127.0.0.1:%d" % proxy.port, "protocol": "udp", "pool": "dns", **NAMED}})
        proxy.reload()
        assert ask(sock, b"3") == b"3" and results(proxy) == [1, 0, 0]
        with udpsite.connect(proxy.port) as late:
            late.send(b"4")
            silent(proxy, late, 1)
    assert old.got == [b"1"] and new.got == [b"2", b"3"]


def test_udp_refused_makes_no_room(udp, site):
    """A client beyond its rate ends nobody's session, nor does it keep its own count up."""
    proxy = udp(site(), process={"workers": 1}, policies=slow(1),
                listener={**NAMED, "limits": {"sessions": 1}, "connections_per_client": 2})
    with udpsite.connect(proxy.port) as first, udpsite.connect(proxy.port) as second:
        assert ask(first, b"1") == b"1"
        for count in range(1, 6):
            second.send(b"2")
            silent(proxy, second, count)
        assert ask(first, b"3") == b"3"
        assert proxy.metric("weir_udp_evicted_sessions_total") == 0
        other = udpsite.connect(proxy.port, source="127.0.0.9")
        with other:
            other.send(b"4")  # within its rate: the first one has gone on, and stays
            eventually(lambda: proxy.metric("weir_request_end_total",
                                            end="proxy.limit.sessions") == 1)


def test_udp_exact_over_workers(udp, site):
    proxy = udp(site(), listener=NAMED, policies=slow(20), process={"workers": 2})
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(udpsite.connect(proxy.port)).send(b"x")
        eventually(lambda: sum(results(proxy)) == 60)
        assert results(proxy) == [20, 40, 0]


# ---- commands ----

def test_commands(tcp, endpoint):
    proxy = tcp(endpoint(), listener={"policies": ["near", "slow"]},
                policies={"near": {"allow": ["127.0.0.0/8"]}, **slow(2)})
    running = ["--admin", proxy.admin]
    asked = ["explain", "GET", "/", "--listener", "db"]
    text = run(*asked, "--text", *running).stdout
    assert "policies near, slow\n" in text and "goes to pool db" in text
    told = json.loads(run(*asked, "--json", "-c", proxy.path).stdout)
    assert told["policies"] == ["near", "slow"] and told["end"] == "ok"
    text = run(*asked, "--from", "192.0.2.1", "--text", *running).stdout
    assert "closed: proxy.denied.client" in text, text
    told = json.loads(run(*asked, "--from", "192.0.2.1", "--json", *running).stdout)
    assert told["end"] == "proxy.denied.client" and "status" not in told
    assert results(proxy) == [0, 0, 0]  # explain takes nothing
    dumped = proxy.directory / "dumped.conf"
    dumped.write_text(run("dump", "-c", proxy.path).stdout)
    assert 'policies = [ "near", "slow" ]' in dumped.read_text()
    assert run("check", dumped).returncode == 0, run("check", dumped).stderr
    plan = json.loads(run("plan", dumped, "--json", *running).stdout)
    assert plan["changes"] == [], plan
    assert let_in(proxy.port, 3) == 2
    rates = json.loads(run("status", "--json", *running).stdout)["rates"]
    assert [(r["policy"], r["passed"], r["refused"]) for r in rates] == [("slow", 2, 1)]
    proxy.change(listeners={"db": {"policies": ["slow"]}}, policies={"near": None})
    plan = run("plan", proxy.path, "--text", *running)
    assert "~ listener db: policies\n" in plan.stdout, plan
    assert "- policy near\n" in plan.stdout, plan
    proxy.change(policies={"slow": {"request_headers": {"set": ["X-A: b"]}}})
    refused = run("check", "--text", proxy.path)
    assert refused.returncode == 78 and re.search(
        r'W0168\]: policy "slow" of listener "db" \(TCP\): request_headers.set means nothing',
        refused.stdout), refused
