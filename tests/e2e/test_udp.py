"""protocol = "udp" (packaging/docs/udp.md): datagrams both ways, sessions and their ends,
balancing by session and by datagram, passive and active health, the cap and who makes room,
hostile input, reload and drain, what commands say. DNS and flows like QUIC's stand in
test_udp_servers.py."""
import contextlib
import json
import os
import re
import signal
import socket
import threading
import time

import pytest

from harness import proc, tcpsite, udpsite
from harness.udpsite import ask, connect
from harness.weir import eventually, run

LONGEST = 65507


@pytest.fixture
def endpoint():
    made = []

    def make(*args, **kwargs):
        made.append(udpsite.Endpoint(*args, **kwargs))
        return made[-1]

    yield make
    for each in made:
        each.stop()


def silent(sock, seconds=0.3):
    """Nothing comes: asked after something else has shown that weir saw what was sent."""
    sock.settimeout(seconds)
    with pytest.raises(socket.timeout):
        sock.recv(1)


def ended_by_idling(proxy, sock, last=b"last"):
    """Makes the idle time short, for the datagram that is sent now; the session's record."""
    proxy.change(listeners={"dns": {"timeouts": {"idle": "1s"}}})
    proxy.reload()
    sock.send(last)
    return proxy.ended("ok")


# ---- datagrams ----

def test_echo(udp, endpoint):
    site = endpoint()
    proxy = udp(site)
    sizes = (0, 1, 12, 512, 1200, 1472, 4096, 9000, LONGEST, 0, 3)
    with connect(proxy.port) as sock:
        for size in sizes:
            block = bytes([size % 251]) * size
            assert ask(sock, block) == block
        assert proxy.metric("weir_udp_sessions") == 1
        assert proxy.metric("weir_listener_connections", listener="dns") == 1
        mine = sock.getsockname()
        record = ended_by_idling(proxy, sock, b"")
        sizes += (0,)
    assert len(set(site.peers)) == 1 and len(site.got) == len(sizes)
    assert record["network.protocol.name"] == "udp" and record["weir.listener"] == "dns"
    assert record["weir.pool"] == "dns" and record["weir.endpoint"] == site.address
    assert record["client.address"] == record["network.peer.address"] == mine[0]
    assert record["network.peer.port"] == mine[1]
    assert record["weir.bytes.received"] == record["weir.bytes.sent"] == sum(sizes)
    assert record["weir.datagrams.received"] == record["weir.datagrams.sent"] == len(sizes)
    assert record["weir.duration_ms.total"] >= 1000
    for key in record:
        assert not key.startswith(("http.", "url.")), key
    metrics = proxy.metrics()
    assert metrics.get("weir_udp_sessions") == 0 and metrics.get("weir_udp_sessions_total") == 1
    assert metrics.get("weir_udp_received_datagrams_total") == len(sizes)
    assert metrics.get("weir_udp_sent_datagrams_total") == len(sizes)
    assert metrics.get("weir_udp_received_bytes_total") == sum(sizes)
    assert metrics.get("weir_udp_sent_bytes_total") == sum(sizes)
    assert metrics.get("weir_listener_connections_total", listener="dns") == 1
    assert metrics.get("weir_listener_connections", listener="dns") == 0
    assert metrics.get("weir_endpoint_requests_inflight", pool="dns", endpoint=site.address) == 0


def test_text_log(udp, endpoint):
    proxy = udp(endpoint(), listener={"timeouts": {"idle": "2s"}},
                log={"access": {"format": "text"}})
    with connect(proxy.port) as sock:
        assert ask(sock, b"ping") == b"ping"
        eventually(lambda: proxy.access.exists() and b"\n" in proxy.access.read_bytes())
    line = proxy.access.read_text()
    assert line.startswith("127.0.0.1 - - [") and '] "UDP" 0 4 "-"' in line and "end=ok" in line


def test_answers_of_any_number(udp, endpoint):
    """An endpoint may answer one datagram with many, and speak without being asked again."""
    proxy = udp(endpoint(lambda data, _: [b"%s %d" % (data, i) for i in range(20)]))
    with connect(proxy.port) as sock:
        sock.send(b"tell")
        assert [sock.recv(100) for _ in range(20)] == [b"tell %d" % i for i in range(20)]


def test_one_way(udp, endpoint):
    """A log's datagrams get no answer; their session ends well."""
    site = endpoint(lambda data, _: None)
    proxy = udp(site)
    with connect(proxy.port) as sock:
        for i in range(50):
            sock.send(b"line %d" % i)
        eventually(lambda: len(site.got) == 50)
        record = ended_by_idling(proxy, sock)
    assert site.got == [b"line %d" % i for i in range(50)] + [b"last"]
    assert record["weir.datagrams.received"] == 51 and record["weir.datagrams.sent"] == 0


def test_answers_come_from_the_address_that_was_asked(weir, endpoint):
    """On a socket that is bound to all addresses; two of them are two sessions."""
    port = udpsite.free_port()
    proxy = weir(udpsite.conf(port, [endpoint()], {"bind": "0.0.0.0:%d" % port}))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(30)
        for host in ("127.0.0.5", "127.0.0.1", "127.0.0.5"):
            sock.sendto(host.encode(), (host, port))
            assert sock.recvfrom(100) == (host.encode(), (host, port))
        assert proxy.metric("weir_udp_sessions") == 2


def test_ipv6_and_what_the_other_side_cannot_carry(weir, endpoint):
    """Over IPv6 a datagram may be 20 bytes longer than IPv4 has room for: it is dropped."""
    port, site = udpsite.free_port(), endpoint()
    proxy = weir(udpsite.conf(port, [site], {"bind": "[::1]:%d" % port}))
    with connect(port, "::1") as sock:
        assert ask(sock, b"six") == b"six"
        sock.send(b"x" * (LONGEST + 20))
        eventually(lambda: proxy.metric("weir_udp_dropped_datagrams_total", cause="unsent") == 1)
        assert ask(sock, b"y" * LONGEST) == b"y" * LONGEST
    assert len(site.got) == 2 and proxy.metric("weir_udp_sessions") == 1


# ---- sessions ----

def test_idle_and_again(udp, endpoint):
    """After its idle time a session is over; the client's next datagram begins another one."""
    site = endpoint()
    proxy = udp(site, listener={"timeouts": {"idle": "2s"}})
    with connect(proxy.port) as sock:
        for count in (1, 2):
            assert ask(sock, b"x") == b"x"
            eventually(lambda count=count: len(proxy.all_lines()) == count)
    assert len(set(site.peers)) == 2
    assert [r["weir.end"] for r in proxy.all_lines()] == ["ok", "ok"]


def test_responses(udp, endpoint):
    """The session ends with its last answer; two questions at once want two."""
    proxy = udp(endpoint(lambda data, _: [data, data]), listener={"udp": {"responses": 2}})
    with connect(proxy.port) as sock:
        sock.send(b"a")
        sock.send(b"b")
        assert sorted(sock.recv(9) for _ in range(4)) == [b"a", b"a", b"b", b"b"]
        eventually(lambda: proxy.metric("weir_udp_sessions") == 0)
    eventually(lambda: sum(r["weir.datagrams.sent"] for r in proxy.all_lines()) == 4)
    proxy.ended("ok")


def test_round_robin_by_session(udp, endpoint):
    sites = [endpoint() for _ in range(3)]
    proxy = udp(*sites, pool={"balance": "round_robin"}, process={"workers": 1})
    with contextlib.ExitStack() as stack:
        for _ in range(6):
            sock = stack.enter_context(connect(proxy.port))
            for i in range(3):
                assert ask(sock, b"%d" % i) == b"%d" % i
    assert [len(site.got) for site in sites] == [6, 6, 6]
    assert [len(set(site.peers)) for site in sites] == [2, 2, 2]


def test_round_robin_by_datagram(udp, endpoint):
    """One client; its datagrams go in turn, and all answers come back to it."""
    sites = [endpoint(lambda data, _, n=n: b"%d %s" % (n, data)) for n in range(3)]
    proxy = udp(*sites, pool={"balance": "round_robin"},
                listener={"udp": {"balance": "datagram"}})
    with connect(proxy.port) as sock:
        said = sorted(ask(sock, b"x") for _ in range(9))
        record = ended_by_idling(proxy, sock)
    assert said == sorted([b"0 x", b"1 x", b"2 x"] * 3)
    assert [len(set(site.peers)) for site in sites] == [1, 1, 1]
    assert record["weir.datagrams.received"] == 10


def test_datagrams_pass_by_an_endpoint_that_is_gone(udp, endpoint):
    """Each of them is chosen for anew, so one dead endpoint costs only what was sent to it."""
    sites = [endpoint(), endpoint()]
    proxy = udp(*sites, pool={"balance": "round_robin",
                              "outlier": {"consecutive_failures": 1, "eject": "1h",
                                          "max_eject": "1h"}},
                listener={"udp": {"balance": "datagram"}})
    sites[1].stop()
    with connect(proxy.port) as sock:
        sock.settimeout(0.05)

        def answered():
            """the dead endpoint is out"""
            sock.send(b"x")
            with contextlib.suppress(socket.timeout):
                sock.recv(9)
            return proxy.metric("weir_upstream_ejections_total") == 1
        eventually(answered)
        sock.settimeout(30)
        after = [b"after %d" % i for i in range(5)]
        for each in after:
            sock.send(each)
        eventually(lambda: [got for got in sites[0].got if got != b"x"] == after)


def test_hash_by_client(udp, endpoint):
    sites = [endpoint() for _ in range(4)]
    proxy = udp(*sites, pool={"balance": "maglev", "hash": "client_ip"})
    with contextlib.ExitStack() as stack:
        for last in range(1, 21):
            for _ in range(4):
                sock = stack.enter_context(connect(proxy.port, source="127.0.0.%d" % last))
                assert ask(sock, b"%d" % last) == b"%d" % last
    seen = [set(site.got) for site in sites]
    assert sum(map(len, seen)) == 20 and len(set.union(*seen)) == 20  # each client at one
    assert sum(1 for each in seen if each) > 1


@pytest.mark.parametrize("bound, places", [({}, 1), ({"bounded_load": "125%"}, 3)])
def test_hash_of_one_client(udp, endpoint, bound, places):
    """All sessions that a client has at once are at one endpoint, unless a bound is set."""
    sites = [endpoint() for _ in range(3)]
    proxy = udp(*sites, pool={"balance": "maglev", "hash": "client_ip", **bound})
    with contextlib.ExitStack() as stack:
        for i in range(12):
            assert ask(stack.enter_context(connect(proxy.port)), b"%d" % i) == b"%d" % i
    assert sum(1 for site in sites if site.got) == places


# ---- health ----

def test_refused(udp, endpoint):
    """ICMP says that nobody is there: the session ends, and counts against the endpoint."""
    gone, site = endpoint(), endpoint()
    proxy = udp(gone, site, pool={"balance": "round_robin",
                                  "outlier": {"consecutive_failures": 2, "eject": "1h",
                                              "max_eject": "1h"}})
    gone.stop()

    def out():
        """the endpoint is ejected"""
        with connect(proxy.port) as sock:
            sock.send(b"x")
            eventually(lambda: proxy.metric("weir_udp_received_datagrams_total") > 0)
        return proxy.metric("weir_upstream_ejections_total") == 1
    eventually(out)
    record = proxy.ended("upstream.connect.refused")
    assert record["weir.endpoint"] == gone.address
    proxy.stderr_has("pool dns: endpoint %s" % gone.address)
    for _ in range(5):
        with connect(proxy.port) as sock:
            assert ask(sock, b"y") == b"y"


def test_no_answer(udp, endpoint):
    """Where answers are owed, silence is a failure."""
    site = endpoint(lambda data, _: None)
    proxy = udp(site, endpoint(),
                listener={"udp": {"responses": 1}, "timeouts": {"idle": "2s"}},
                pool={"balance": "round_robin", "outlier": {"consecutive_failures": 1}})

    def out():
        with connect(proxy.port) as sock:
            sock.send(b"x")
        return proxy.metric("weir_upstream_ejections_total") == 1
    eventually(out)
    assert proxy.ended("upstream.no_answer")["weir.endpoint"] == site.address


def test_none_healthy(udp):
    proxy = udp(pool={"endpoints": [], "discover": {"dns": "nowhere.invalid:53",
                                                    "servers": "127.0.0.1:1",
                                                    "timeout": "10ms", "attempts": 1}})
    with connect(proxy.port) as sock:
        sock.send(b"x")
        record = proxy.ended("upstream.resolve.failed")
    assert record["network.protocol.name"] == "udp"
    assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 1


def test_nobody_is_healthy(udp):
    proxy = udp("127.0.0.1:1", pool={"health": {"protocol": "tcp", "interval": "50ms",
                                                "unhealthy": 1}})
    proxy.stderr_has("0 of 1 in service: datagrams are dropped (upstream.none_healthy)")
    with connect(proxy.port) as sock:
        sock.send(b"x")
        proxy.ended("upstream.none_healthy")


def listening(host, port=0):
    sock = socket.create_server((host, port))
    return sock, sock.getsockname()[1]


def test_sessions_leave_an_endpoint_that_fails_its_checks(udp, endpoint):
    """Active checks are as with TCP, here of another port. A session whose endpoint is out goes to
    another one, unless none is better."""
    hosts = ["127.0.0.2", "127.0.0.3"]
    sites = [endpoint(host=host) for host in hosts]
    first, port = listening(hosts[0])
    second, _ = listening(hosts[1], port)
    proxy = udp({"address": sites[0].address}, {"address": sites[1].address, "backup": True},
                pool={"health": {"protocol": "tcp", "port": port, "interval": "20ms",
                                 "fast_interval": "20ms", "healthy": 1, "unhealthy": 1}})
    with connect(proxy.port) as sock:
        eventually(lambda: proxy.metric("weir_endpoint_up", pool="dns") == 2)
        assert ask(sock, b"x") == b"x" and sites[0].got == [b"x"]
        first.close()
        eventually(lambda: proxy.metric("weir_endpoint_up", pool="dns") == 1)
        assert ask(sock, b"y") == b"y" and sites[1].got == [b"y"]
        assert proxy.ended("upstream.out_of_service")["weir.endpoint"] == sites[0].address
        second.close()
        eventually(lambda: proxy.metric("weir_endpoint_up", pool="dns") == 0)
        assert ask(sock, b"z") == b"z" and sites[1].got == [b"y", b"z"]
    assert proxy.metric("weir_udp_sessions_total") == 2


def test_sessions_leave_an_ejected_endpoint(udp, endpoint):
    """Others found out that it is gone; the next datagram of a session goes elsewhere."""
    mute, site = endpoint(), endpoint()
    proxy = udp(mute, site, process={"workers": 1}, pool={
        "balance": "round_robin", "outlier": {"consecutive_failures": 1, "eject": "1h",
                                              "max_eject": "1h"}})
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(proxy.port)) for _ in range(4)]
        for sock in socks:
            assert ask(sock, b"x") == b"x"
        assert len(set(mute.peers)) == 2
        mute.stop()
        for sock in socks:
            sock.send(b"lost or not")
        eventually(lambda: proxy.metric("weir_upstream_ejections_total") == 1)
        for sock in socks:
            sock.send(b"y")
            while sock.recv(99) != b"y":
                pass  # what was on its way
    assert site.got.count(b"y") == 4


# ---- limits, hostile input ----

def test_cap_and_who_makes_room(udp, endpoint):
    """A flood of sources only pushes itself out; a client that went on after an answer stays."""
    site = endpoint()
    proxy = udp(site, listener={"limits": {"sessions": 4}}, process={"workers": 1})
    with contextlib.ExitStack() as stack:
        steady = stack.enter_context(connect(proxy.port))
        for _ in range(2):
            assert ask(steady, b"s") == b"s"
        for i in range(50):
            sock = stack.enter_context(connect(proxy.port))
            assert ask(sock, b"f") == b"f"
            assert proxy.metric("weir_udp_sessions") <= 4
        assert proxy.metric("weir_udp_evicted_sessions_total") == 47
        assert ask(steady, b"t") == b"t"
        assert len({peer for peer, got in zip(site.peers, site.got) if got in b"st"}) == 1
        record = proxy.logged(end="proxy.limit.session_evicted")
        assert record["weir.endpoint"] == site.address

        def told():
            """each of them has a line, or is counted as left out"""
            lines = sum(r["weir.end"] == "proxy.limit.session_evicted" for r in proxy.all_lines())
            return lines + proxy.metric("weir_log_left_out_total") == 47
        eventually(told)
        assert proxy.metric("weir_request_end_total", end="proxy.limit.session_evicted") == 47


def test_cap_of_steady_sessions(udp, endpoint):
    """Nobody makes room who is at work; the new one is told of in the log only."""
    proxy = udp(endpoint(), listener={"limits": {"sessions": 2}}, process={"workers": 1})
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            sock = stack.enter_context(connect(proxy.port))
            for _ in range(2):
                assert ask(sock, b"s") == b"s"
        late = stack.enter_context(connect(proxy.port))
        late.send(b"x")
        proxy.ended("proxy.limit.sessions")
        silent(late)
        assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 1
        assert proxy.metric("weir_udp_sessions") == 2
        assert ask(sock, b"s") == b"s"


def test_silent_session_makes_room(udp, endpoint):
    """Where all have gone on after an answer, who was silent for 5 s goes first: a second datagram
    can be forged blindly."""
    proxy = udp(endpoint(), listener={"limits": {"sessions": 2}}, process={"workers": 1})
    with connect(proxy.port) as mute, connect(proxy.port) as busy, connect(proxy.port) as late:
        for _ in range(3):
            assert ask(mute, b"m") == b"m"
            assert ask(busy, b"b") == b"b"
        late.settimeout(0.1)

        def served():
            """the late one has a session"""
            assert ask(busy, b"b") == b"b"
            late.send(b"l")
            with contextlib.suppress(socket.timeout):
                return late.recv(9) == b"l"
        eventually(served)
        assert proxy.metric("weir_udp_evicted_sessions_total") == 1
        record = proxy.logged(end="proxy.limit.session_evicted")
        assert record["weir.datagrams.received"] == 3
        assert record["weir.duration_ms.total"] >= 5000


def test_flood_of_sources_is_bounded(udp, endpoint):
    """3,000 sources that never come back: sessions, descriptors and memory stay within the cap."""
    site = endpoint(lambda data, _: None)
    proxy = udp(site, listener={"limits": {"sessions": 64}}, process={"workers": 1})

    def flood(count):
        def begun():
            """so many sessions were begun"""
            with contextlib.ExitStack() as stack:
                for _ in range(100):
                    stack.enter_context(connect(proxy.port)).send(b"x" * 1200)
            return proxy.metric("weir_udp_sessions_total") > count
        eventually(begun)
    flood(500)
    before = proc.memory_kib(proxy.pid)
    flood(3500)
    assert proxy.metric("weir_udp_sessions") <= 64
    assert proc.memory_kib(proxy.pid) - before < 16 * 1024
    assert proxy.metric("process_open_fds") < 64 + 100


def test_descriptors_run_out(weir, endpoint):
    """Balanced by datagram a session has many sockets. Where there are far fewer descriptors than
    that, the oldest fresh session gives up its own."""
    import resource
    port, sites = udpsite.free_port(), [endpoint(lambda data, _: None) for _ in range(4)]
    proxy = weir(udpsite.conf(port, sites, {"udp": {"balance": "datagram"}},
                          {"balance": "round_robin"},
                          process={"workers": 1, "max_connections": 40}),
                 preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128)))
    idle = proxy.metric("weir_saturation", resource="descriptors")
    with contextlib.ExitStack() as stack:
        for count in range(1, 61):
            sock = stack.enter_context(connect(port))
            for n in range(4):
                sock.send(b"%d" % n)
            eventually(lambda count=count: [len(site.got) for site in sites] == [count] * 4)
        assert proxy.metric("weir_udp_evicted_sessions_total") > 60 - 40
        assert proxy.get("/", port=proxy.status).status == 200  # the rest of weir works
        assert proxy.metric("weir_udp_sessions") * 4 < 128 - 40 + 4  # theirs are left to clients
        assert proxy.metric("weir_saturation", resource="descriptors") > idle + 0.2
        assert proxy.metric("process_open_fds") <= proxy.metric("process_max_fds") == 128


def test_networks(udp, endpoint):
    site = endpoint()
    proxy = udp(site, listener={"deny": ["127.0.0.2/32"]})
    with connect(proxy.port, source="127.0.0.2") as no, connect(proxy.port) as yes:
        no.send(b"x")
        record = proxy.ended("proxy.denied.peer")
        assert ask(yes, b"y") == b"y"
    assert record["network.protocol.name"] == "udp" and site.got == [b"y"]
    assert record["network.peer.address"] == "127.0.0.2"


def test_who_answers_is_no_client(weir, endpoint):
    """A forged source that is an endpoint, or another listener, would answer each answer."""
    port, second, site = udpsite.free_port(), udpsite.free_port(), endpoint()
    sink = endpoint(lambda data, _: None)
    conf = udpsite.conf(port, [site], pools={"sink": {"endpoints": [sink.address]}})
    conf["listeners"]["more"] = {"bind": "127.0.0.1:%d" % second, "protocol": "udp",
                                 "pool": "sink"}
    proxy = weir(conf)
    site.sock.sendto(b"from an endpoint", ("127.0.0.1", port))
    proxy.ended("proxy.denied.peer")
    site.sock.sendto(b"one of another pool", ("127.0.0.1", second))
    eventually(lambda: sink.got)
    with connect(port) as sock:
        assert ask(sock, b"x") == b"x"
    assert site.got == [b"x"] and sink.got == [b"one of another pool"]
    assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 1


def forged_by(host, port):
    """A socket with an address that a listener of weir has, too."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind((host, port))
    return sock


def test_a_listener_of_all_addresses_is_no_client(weir, endpoint):
    """A forged source that is any own address of this machine, at the port of a listener that is
    bound to all: it would be answered, and answer, without an end."""
    port, second, site = udpsite.free_port(), udpsite.free_port(), endpoint()
    conf = udpsite.conf(port, [site])
    conf["listeners"]["more"] = {"bind": "0.0.0.0:%d" % second, "protocol": "udp", "pool": "dns"}
    proxy = weir(conf)
    refused = 0
    for to in (port, second):
        for source in ("127.0.0.6", "127.0.0.7"):
            with forged_by(source, second) as sock:
                sock.sendto(b"forged", ("127.0.0.1", to))
                refused += 1
                eventually(lambda: proxy.metric("weir_udp_dropped_datagrams_total",
                                                cause="refused") == refused)
    proxy.ended("proxy.denied.peer")
    assert proxy.metric("weir_request_end_total", end="proxy.denied.peer") == refused
    with forged_by("127.0.0.7", port) as sock:  # where no listener is: it may be anybody
        sock.settimeout(30)
        sock.sendto(b"honest", ("127.0.0.1", second))
        assert sock.recv(99) == b"honest"
    assert site.got == [b"honest"]


# ---- what connections and load leave ----

def steady(stack, port, count):
    """Clients that have gone on after an answer: nobody takes their place."""
    socks = [stack.enter_context(connect(port)) for _ in range(count)]
    for sock in socks * 2:
        assert ask(sock, b"s") == b"s"
    return socks


def test_max_connections(weir, endpoint):
    """Sessions have what connections leave of it; those there are go on, and connections find
    room whatever sessions there are."""
    port, stream = udpsite.free_port(), tcpsite.Endpoint()
    conf = udpsite.conf(port, [endpoint()], process={"workers": 1, "max_connections": 4},
                    pools={"tcp": {"endpoints": [stream.address]}})
    conf["listeners"]["tcp"] = {"bind": "127.0.0.1:%d" % port, "protocol": "tcp", "pool": "tcp"}
    proxy = weir(conf)
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(tcpsite.connect(port))
        tcp.sendall(b"one")
        assert tcpsite.exactly(tcp, 3) == b"one"
        socks = steady(stack, port, 2)
        fresh = [stack.enter_context(connect(port)) for _ in range(3)]
        for sock in fresh:  # each in the place of the one before
            assert ask(sock, b"f") == b"f"
        assert proxy.metric("weir_udp_sessions") == 3
        assert proxy.metric("weir_udp_evicted_sessions_total") == 2
        assert ask(fresh[2], b"f") == b"f"  # nobody makes room now
        late = stack.enter_context(connect(port))
        late.send(b"late")
        record = proxy.ended("proxy.limit.connections")
        assert record["network.protocol.name"] == "udp" and record["weir.listener"] == "dns"
        assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 1
        for _ in range(3):
            more = stack.enter_context(tcpsite.connect(port))
            more.sendall(b"more")
            assert tcpsite.exactly(more, 4) == b"more"
        for sock in socks:
            assert ask(sock, b"s") == b"s"
        assert proxy.metric("weir_udp_sessions") == 3
        assert proxy.metric("weir_downstream_connections_refused_total") == 0
    stream.stop()


def test_a_flood_elsewhere_makes_room(weir, endpoint):
    """What one listener's sources have filled is another's, too: of the same share."""
    port, second, site = udpsite.free_port(), udpsite.free_port(), endpoint()
    conf = udpsite.conf(port, [site], process={"workers": 1, "max_connections": 6})
    conf["listeners"]["more"] = {"bind": "127.0.0.1:%d" % second, "protocol": "udp", "pool": "dns"}
    proxy = weir(conf)
    with contextlib.ExitStack() as stack:
        socks = steady(stack, port, 2)
        for _ in range(10):
            assert ask(stack.enter_context(connect(port)), b"f") == b"f"
        assert proxy.metric("weir_udp_evicted_sessions_total") == 6
        for _ in range(2):
            assert ask(stack.enter_context(connect(second)), b"o") == b"o"
        assert proxy.metric("weir_udp_evicted_sessions_total") == 8
        socks += steady(stack, second, 3)
        for sock in socks:
            assert ask(sock, b"s") == b"s"
        assert proxy.metric("weir_udp_sessions") == 6
        assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 0


def test_nobody_elsewhere_makes_room_in_vain(weir, endpoint):
    """Where the newcomer would find no place of its own listener, or no endpoint."""
    ports = [udpsite.free_port() for _ in range(3)]
    unknown = {"discover": {"dns": "nowhere.invalid:53", "servers": "127.0.0.1:1",
                            "timeout": "10ms", "attempts": 1}}
    conf = udpsite.conf(ports[0], [endpoint()], process={"workers": 1, "max_connections": 4},
                    pools={"none": unknown})
    for name, at, pool, most in [("capped", ports[1], "dns", 1), ("none", ports[2], "none", 9)]:
        conf["listeners"][name] = {"bind": "127.0.0.1:%d" % at, "protocol": "udp", "pool": pool,
                                   "limits": {"sessions": most}}
    proxy = weir(conf)
    with contextlib.ExitStack() as stack:
        fresh = [stack.enter_context(connect(ports[0])) for _ in range(3)]
        for sock in fresh:
            assert ask(sock, b"f") == b"f"
        own, = steady(stack, ports[1], 1)
        stack.enter_context(connect(ports[1])).send(b"late")
        proxy.ended("proxy.limit.sessions")
        stack.enter_context(connect(ports[2])).send(b"late")
        proxy.ended("proxy.limit.connections")
        assert proxy.metric("weir_udp_evicted_sessions_total") == 0
        assert proxy.metric("weir_udp_sessions") == 4
        assert ask(own, b"s") == b"s"


def test_overload_by_connections(udp, endpoint):
    """New sessions are refused as requests of the default priority are: half-way between the
    threshold and the limit; those there are go on. They are no load for requests."""
    proxy = udp(endpoint(), process={"workers": 1, "max_connections": 40,
                                     "overload": {"connections": "50%"}})
    with contextlib.ExitStack() as stack:
        socks = steady(stack, proxy.port, 30)
        stack.enter_context(connect(proxy.port)).send(b"late")
        record = proxy.ended("proxy.overload.connections")
        assert record["network.protocol.name"] == "udp"
        assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 1
        for sock in socks:
            assert ask(sock, b"s") == b"s"
        assert proxy.metric("weir_udp_sessions") == 30
        assert proxy.metric("weir_overload_workers", cause="connections") == 0
        proxy.change(process={"overload": {"connections": "0%"}})
        proxy.reload()
        assert ask(stack.enter_context(connect(proxy.port)), b"x") == b"x"


def test_overload_keeps_no_client_out_for_forged_sources(udp, endpoint):
    """Where sessions alone are what there is too much of, they make room as in a full table."""
    proxy = udp(endpoint(), process={"workers": 1, "max_connections": 40,
                                     "overload": {"connections": "50%"}})
    with contextlib.ExitStack() as stack:
        old, = steady(stack, proxy.port, 1)
        for _ in range(50):
            assert ask(stack.enter_context(connect(proxy.port)), b"f") == b"f"
        new, = steady(stack, proxy.port, 1)
        for _ in range(50):
            assert ask(stack.enter_context(connect(proxy.port)), b"f") == b"f"
        evicted = proxy.metric("weir_udp_evicted_sessions_total")
        assert evicted == 102 - proxy.metric("weir_udp_sessions") and evicted >= 102 - 30
        assert ask(old, b"s") == b"s" and ask(new, b"s") == b"s"
        assert proxy.metric("weir_udp_sessions_total") == 102
        assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 0


def test_overload_by_lag(udp, endpoint):
    """A worker that is late refuses new sessions until it is up to date."""
    proxy = udp(endpoint(), process={"workers": 1, "overload": {"lag": "200ms"}})
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(connect(proxy.port))

        def late():
            """a datagram of a new client came while weir was behind"""
            assert ask(sock, b"s") == b"s"  # there is work, so the loop is watched
            os.kill(proxy.pid, signal.SIGSTOP)
            stack.enter_context(connect(proxy.port)).send(b"late")
            time.sleep(1)
            os.kill(proxy.pid, signal.SIGCONT)
            assert ask(sock, b"s") == b"s"
            return proxy.metric("weir_request_end_total", end="proxy.overload.lag") > 0
        eventually(late)
        assert proxy.ended("proxy.overload.lag")["network.protocol.name"] == "udp"
        eventually(lambda: proxy.metric("weir_overload_workers", cause="lag") == 0)
        assert ask(stack.enter_context(connect(proxy.port)), b"x") == b"x"


def test_sessions_per_client(udp, endpoint):
    proxy = udp(endpoint(), listener={"connections_per_client": 2})
    with contextlib.ExitStack() as stack:
        for _ in range(2):
            assert ask(stack.enter_context(connect(proxy.port)), b"x") == b"x"
        third = stack.enter_context(connect(proxy.port))
        third.send(b"x")
        proxy.ended("proxy.limit.client_connections")
        other = stack.enter_context(connect(proxy.port, source="127.0.0.9"))
        assert ask(other, b"o") == b"o"


def test_who_answers_is_not_counted_as_a_client(udp, endpoint):
    """A forged source takes no place of the clients that have its address."""
    site = endpoint()
    proxy = udp(site, listener={"connections_per_client": 1})
    for refused in range(1, 4):
        site.sock.sendto(b"from an endpoint", ("127.0.0.1", proxy.port))
        eventually(lambda: proxy.metric("weir_request_end_total",
                                        end="proxy.denied.peer") == refused)
    with connect(proxy.port) as sock:
        assert ask(sock, b"x") == b"x"


# ---- reload, drain ----

def test_reload_keeps_sessions(udp, endpoint):
    """Sockets and sessions stay; a changed idle time counts from the next datagram on."""
    site = endpoint()
    proxy = udp(site)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(proxy.port)) for _ in range(8)]
        for sock in socks:
            assert ask(sock, b"x") == b"x"
        for idle in ("50s", "3s"):
            proxy.change(listeners={"dns": {"timeouts": {"idle": idle}}})
            proxy.reload()
            for sock in socks:
                assert ask(sock, b"y") == b"y"
        assert len(set(site.peers)) == 8
        eventually(lambda: proxy.metric("weir_udp_sessions") == 0)
    assert proxy.metric("weir_udp_sessions_total") == 8


def test_reload_of_the_pool(udp, endpoint):
    """An endpoint that leaves the pool loses its sessions with their next datagram."""
    old, new = endpoint(), endpoint()
    proxy = udp(old)
    with connect(proxy.port) as sock:
        assert ask(sock, b"x") == b"x"
        proxy.change(pools={"dns": {"endpoints": [new.address]}})
        proxy.reload()
        assert ask(sock, b"y") == b"y"
        assert proxy.ended("upstream.out_of_service")["weir.endpoint"] == old.address
    assert old.got == [b"x"] and new.got == [b"y"]


def test_listener_removed(udp, endpoint):
    """Its sessions go on for the drain time and end then; nobody new is served."""
    site, other = endpoint(), udpsite.free_port()
    proxy = udp(site, process={"drain": "5s"})
    with connect(proxy.port) as sock, connect(proxy.port) as late:
        assert ask(sock, b"x") == b"x"
        listeners = {"dns": None, "more": {"bind": "127.0.0.1:%d" % other, "protocol": "udp",
                                           "pool": "dns"}}
        proxy.change(listeners=listeners)
        proxy.reload()
        assert ask(sock, b"y") == b"y"
        late.send(b"z")
        proxy.ended("proxy.drain")
        proxy.ended("proxy.drain.tunnel")
        assert len(set(site.peers)) == 1

        def closed():
            """the port is free"""
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as again:
                return again.connect_ex(("127.0.0.1", proxy.port)) == 0 and \
                    bindable(proxy.port)
        eventually(closed)


def bindable(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.bind(("127.0.0.1", port))
            return True
        except OSError:
            return False


def rename(proxy, **names):
    """The file has the listeners `names` now, each at the address that another one had."""
    pool = {"protocol": "udp", "pool": "dns"}
    proxy.change(listeners={name: bind and {"bind": "127.0.0.1:%d" % bind, **pool}
                            for name, bind in names.items()})


def renamed(proxy, **names):
    rename(proxy, **names)
    proxy.reload()


def test_listener_renamed(udp, endpoint):
    """Its address goes to another listener, with sockets and sessions: all go on as they were."""
    site = endpoint()
    proxy = udp(site)
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(proxy.port)) for _ in range(12)]
        for name, gone in ("names", "dns"), ("dns", "names"):
            for sock in socks:
                assert ask(sock, b"x") == b"x"
            assert proxy.metric("weir_listener_connections", listener=gone) == 12
            renamed(proxy, **{name: proxy.port, gone: None})
            for sock in socks:
                assert ask(sock, b"y") == b"y"
            assert proxy.metric("weir_listener_connections", listener=name) == 12
        assert proxy.metric("weir_udp_sessions_total") == 12 and len(set(site.peers)) == 12
        renamed(proxy, names=proxy.port, dns=None)
        proxy.change(listeners={"names": {"timeouts": {"idle": "1s"}}})
        proxy.reload()
        assert ask(socks[0], b"last") == b"last"
    record = proxy.ended("ok")
    assert record["weir.listener"] == "names" and record["weir.datagrams.received"] == 5


def test_listeners_change_names(udp, endpoint):
    """Each has the other's address now: sessions stay where their clients send to."""
    site, other = endpoint(), udpsite.free_port()
    proxy = udp(site)
    renamed(proxy, dns=proxy.port, more=other)
    with connect(proxy.port) as first, connect(other) as second:
        assert ask(first, b"1") == b"1" and ask(second, b"2") == b"2"
        renamed(proxy, dns=other, more=proxy.port)
        assert ask(first, b"1") == b"1" and ask(second, b"2") == b"2"
        assert len(set(site.peers)) == 2
        renamed(proxy, dns=other, more=None)
        assert ask(second, b"2") == b"2" and len(set(site.peers)) == 2


def refused_for(proxy, address, **names):
    rename(proxy, **names)
    result = run("reload", "-c", proxy.path)
    assert result.returncode and address in result.stdout + result.stderr, result


def test_renamed_beside_a_port_that_is_taken(udp, endpoint):
    """A reload that cannot have one address gives no other to another listener, nor does the next
    one that is good; tried again when the port is free it does all that was asked of it."""
    site, taken = endpoint(), endpoint()
    other = int(taken.address.rpartition(":")[2])
    proxy = udp(site)
    with connect(proxy.port) as sock:
        assert ask(sock, b"1") == b"1"
        refused_for(proxy, taken.address, names=proxy.port, dns=None, more=other)
        assert ask(sock, b"2") == b"2"
        proxy.change(process={"drain": "200ms"})
        renamed(proxy, names=None, dns=proxy.port, more=None)
        assert ask(sock, b"3") == b"3"
        assert proxy.metric("weir_listener_connections", listener="dns") == 1
        refused_for(proxy, taken.address, names=proxy.port, dns=None, more=other)
        taken.stop()
        proxy.reload()
        assert ask(sock, b"4") == b"4"
        assert proxy.metric("weir_listener_connections", listener="names") == 1
        with connect(other) as second:
            assert ask(second, b"5") == b"5"
    assert site.got == [b"1", b"2", b"3", b"4", b"5"] and len(set(site.peers)) == 2
    assert proxy.metric("weir_udp_sessions_total") == 2


def test_renamed_with_counted_clients(udp, endpoint):
    """Sessions count for connections_per_client of the listener that has them now."""
    proxy = udp(endpoint(), listener={"connections_per_client": 3}, process={"workers": 1})
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connect(proxy.port)) for _ in range(3)]
        for sock in socks:
            assert ask(sock, b"x") == b"x"
        proxy.change(listeners={"dns": None, "names": {
            "bind": "127.0.0.1:%d" % proxy.port, "protocol": "udp", "pool": "dns",
            "connections_per_client": 2, "timeouts": {"idle": "2s"}}})
        proxy.reload()
        for sock in socks:
            assert ask(sock, b"y") == b"y"
        stack.enter_context(connect(proxy.port)).send(b"late")
        proxy.ended("proxy.limit.client_connections")
        eventually(lambda: proxy.metric("weir_udp_sessions") == 0)
        for _ in range(2):
            assert ask(stack.enter_context(connect(proxy.port)), b"z") == b"z"


def test_nothing_is_lost_when_a_listener_moves(udp, endpoint):
    """From one address to all and back: whatever socket a question came to, it is answered."""
    proxy = udp(endpoint(), listener={"udp": {"responses": 1}},
                process={"workers": 2, "drain": "1h"})
    over, faults, counts = threading.Event(), [], []

    def askers():
        count = 0
        while not over.is_set():
            with connect(proxy.port) as sock:
                try:
                    assert ask(sock, b"q%d" % count) == b"q%d" % count
                except OSError as error:
                    faults.append("question %d: %r" % (count, error))
                    break
            count += 1
        counts.append(count)
    threads = [threading.Thread(target=askers, daemon=True) for _ in range(6)]
    for thread in threads:
        thread.start()
    for turn in range(8):
        host = "127.0.0.1" if turn % 2 else "0.0.0.0"
        proxy.change(listeners={"dns": {"bind": "%s:%d" % (host, proxy.port)}})
        proxy.reload()
    over.set()
    for thread in threads:
        thread.join()
    assert not faults and min(counts) > 0
    assert proxy.metric("weir_udp_dropped_datagrams_total", cause="refused") == 0


def test_listener_moves_to_all_addresses(udp, endpoint):
    """The kernel still prefers the old socket, of the one address, while its sessions drain."""
    site = endpoint()
    proxy = udp(site, process={"drain": "1h", "workers": 1})
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(connect(proxy.port))
        assert ask(old, b"x") == b"x"
        proxy.change(listeners={"dns": {"bind": "0.0.0.0:%d" % proxy.port}})
        proxy.reload()
        for i in range(20):
            sock = stack.enter_context(connect(proxy.port))
            for _ in range(2):
                assert ask(sock, b"%d" % i) == b"%d" % i
        assert proxy.metric("weir_udp_sessions_total") == 21
        proxy.change(process={"drain": "100ms"})
        proxy.reload()


def test_listener_removed_and_added_again(udp, endpoint):
    """Sessions that drain hold its port, which is weir's own: it can be bound beside them."""
    site = endpoint()
    proxy = udp(site, process={"drain": "1h", "workers": 1})
    listener = {"bind": "127.0.0.1:%d" % proxy.port, "protocol": "udp", "pool": "dns"}
    other = {"bind": "127.0.0.1:%d" % udpsite.free_port(), "protocol": "udp", "pool": "dns"}
    with contextlib.ExitStack() as stack:
        old = stack.enter_context(connect(proxy.port))
        assert ask(old, b"x") == b"x"
        for turn in range(2):
            proxy.change(listeners={"dns": None, "more": other})
            proxy.reload()
            assert turn or ask(old, b"y") == b"y"
            proxy.change(listeners={"dns": listener})
            proxy.reload()
            for i in range(10):
                sock = stack.enter_context(connect(proxy.port))
                assert ask(sock, b"%d" % i) == b"%d" % i
        proxy.change(process={"drain": "100ms"})
        proxy.reload()


def test_tcp_becomes_udp(weir, endpoint):
    """A listener that changes its protocol under its name gets another socket."""
    port = udpsite.free_port()
    conf = udpsite.conf(port, [endpoint()])
    conf["listeners"]["dns"]["protocol"] = "tcp"
    proxy = weir(conf)
    proxy.change(listeners={"dns": {"protocol": "udp"}})
    proxy.reload()
    with connect(port) as sock:
        assert ask(sock, b"x") == b"x"
    proxy.change(listeners={"dns": {"protocol": "tcp"}})
    proxy.reload()
    eventually(lambda: bindable(port))


def test_drain(udp, endpoint):
    """After SIGTERM sessions still get their answers, until drain is over."""
    site = endpoint()
    proxy = udp(site, process={"drain": "5s"})
    with connect(proxy.port) as sock:
        assert ask(sock, b"x") == b"x"
        proxy.signal(signal.SIGTERM)
        proxy.stderr_has("SIGTERM: draining 0 connections and 1 UDP session for at most 5 s")
        assert ask(sock, b"y") == b"y"
        assert proxy.process.wait(30) == 0
        assert proxy.logged(end="proxy.drain.tunnel")["weir.datagrams.received"] == 2
    assert len(set(site.peers)) == 1


@pytest.mark.parametrize("form,told", [
    ("--json", '{"ok":true,"connections":0,"udp_sessions":2}\n'),
    ("--text", "draining 0 connections and 2 UDP sessions; weir ends when they have\n")])
def test_drain_by_command_counts_sessions(udp, endpoint, form, told):
    proxy = udp(endpoint())
    with connect(proxy.port) as one, connect(proxy.port) as other:
        assert ask(one, b"x") == ask(other, b"x") == b"x"
        status = run("status", "--json", "--admin", proxy.admin)
        assert json.loads(status.stdout)["process"]["udp_sessions"] == 2
        drained = run("drain", form, "--admin", proxy.admin)
        assert (drained.returncode, drained.stdout) == (0, told)
        assert proxy.process.wait(30) == 0
        proxy.stderr_has("weir drain: draining 0 connections and 2 UDP sessions for at most")


def test_drain_without_sessions_is_quick(udp, endpoint):
    proxy = udp(endpoint(), process={"drain": "1h"}, listener={"udp": {"responses": 1}})
    with connect(proxy.port) as sock:
        assert ask(sock, b"x") == b"x"
        proxy.ended("ok")
    proxy.stop()


def test_port_is_taken(weir, endpoint):
    """A second weir of the same user does not share the port silently."""
    first = endpoint()
    taken = weir(udpsite.conf(udpsite.free_port(), [first], {"bind": first.address}), start=False)
    taken.start(wait=False)
    assert taken.process.wait(30) == 75
    taken.stderr_has("cannot bind %s" % first.address)
    taken.stderr_has("ss -lunp")
    taken.stop(code=75)


# ---- what is said ----

def told_by_check(weir, conf):
    proxy = weir(conf, start=False)
    return run("check", "--text", proxy.path)


REFUSED = [
    ("W0180", {"pool": None}, {}, "serves UDP: it needs a pool"),
    ("W0186", {"limits": {"body_bytes": "1KiB"}}, {}, "limits.body_bytes means nothing"),
    ("W0186", {"timeouts": {"tunnel": "5m"}}, {}, "timeouts.tunnel means nothing"),
    ("W0186", {"trusted_proxies": ["10.0.0.0/8"]}, {}, "trusted_proxies means nothing"),
    ("W0186", {}, {"connections": {"max_per_endpoint": 5}}, "connections.max_per_endpoint means"),
    ("W0186", {}, {"retry": {"attempts": 2}}, "retry.attempts means nothing"),
    ("W0181", {}, {"balance": "ring", "hash": "path"}, 'only "client_ip" can be hashed'),
    ("W0187", {"bind": "unix:/tmp/x.sock"}, {}, "it binds ip:port"),
    ("W0187", {}, {"endpoints": "unix:/tmp/x.sock"}, "takes no datagrams"),
    ("W0188", {}, {"tls": {"verify": "none"}}, "leave tls out, or give TCP a pool of its own"),
    ("W0189", {}, {"proxy_protocol": "v1"}, 'proxy_protocol = "v2", or give TCP'),
    ("W0166", {"proxy_protocol": True}, {}, "no trusted_proxies"),
]


@pytest.mark.parametrize("code, listener, pool, words", REFUSED)
def test_refused_by_check(weir, code, listener, pool, words):
    result = told_by_check(weir, udpsite.conf(5300, ["127.0.0.1:5301"], listener, pool))
    assert result.returncode == 78 and code in result.stdout + result.stderr
    assert words in result.stdout + result.stderr, result.stdout + result.stderr


def test_tls_is_refused(weir, authority):
    tls = {"certificates": [authority.leaf(["dns.example"])]}
    result = told_by_check(weir, udpsite.conf(5300, ["127.0.0.1:5301"], {"tls": tls}))
    assert result.returncode == 78 and "W0188" in result.stdout + result.stderr
    assert "the datagrams go on as they are" in result.stdout + result.stderr


@pytest.mark.parametrize("protocol", ["http", "tcp"])
def test_keys_of_udp_elsewhere(weir, protocol):
    conf = udpsite.conf(5300, ["127.0.0.1:5301"], {"protocol": protocol, "udp": {"responses": 1}})
    result = told_by_check(weir, conf)
    assert result.returncode == 78 and "W0186" in result.stdout + result.stderr
    assert 'it is for protocol = "udp"' in result.stdout + result.stderr


def test_check_passes_what_dump_writes(udp, endpoint, work):
    proxy = udp(endpoint())
    dumped = run("dump", "--admin", "unix:%s" % proxy.admin)
    assert dumped.returncode == 0 and 'protocol = "udp"' in dumped.stdout
    (work / "again.conf").write_text(dumped.stdout)
    result = run("check", work / "again.conf")
    assert result.returncode == 0, result.stdout + result.stderr


def test_tcp_and_udp_share_port_and_pool(weir, endpoint):
    port, site = udpsite.free_port(), endpoint(port=udpsite.free_port())
    stream = tcpsite.Endpoint(port=site.port)
    conf = udpsite.conf(port, [site])
    conf["listeners"]["dnstcp"] = {"bind": "127.0.0.1:%d" % port, "protocol": "tcp",
                                   "pool": "dns"}
    conf["pools"]["dns"]["connections"] = {"max_per_endpoint": 9}
    proxy = weir(conf)
    with connect(port) as sock:
        assert ask(sock, b"x") == b"x"
    with tcpsite.connect(port) as sock:
        sock.sendall(b"as a stream")
        assert tcpsite.exactly(sock, 11) == b"as a stream"
    assert proxy.ended("ok")["weir.listener"] == "dnstcp"
    stream.stop()


def test_explain_status_and_plan(udp, endpoint):
    site = endpoint()
    proxy = udp(site)
    told = run("explain", "--text", "GET", "http://any/", "--listener", "dns", "--admin",
               "unix:%s" % proxy.admin)
    if told.returncode:  # explain reads a file
        told = run("explain", "--text", "-c", proxy.path, "GET", "http://any/", "--listener",
                   "dns")
    assert "UDP: datagrams of a client go to pool dns" in told.stdout, told.stdout + told.stderr
    assert site.address in told.stdout
    status = run("status", "--text", "--admin", "unix:%s" % proxy.admin)
    assert re.search(r"dns +127\.0\.0\.1:%d +udp +dns" % proxy.port, status.stdout), status.stdout
    proxy.change(listeners={"dns": {"udp": {"responses": 1}}})
    plan = run("plan", "--text", proxy.path, "--admin", "unix:%s" % proxy.admin)
    assert "listener dns" in plan.stdout and "udp" in plan.stdout, plan.stdout + plan.stderr
