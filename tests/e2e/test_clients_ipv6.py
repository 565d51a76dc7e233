"""Clients with IPv6 addresses of their own, in a network that the test makes (harness/network.py):
which of them are one client, for connections and rates, and the networks that listeners name
(packaging/docs/limits.md)."""
import ipaddress

import pytest

from harness import client, confgen, wire
from harness.network import Network
from harness.weir import eventually

SERVER = "fd00::1"
# A customer's two machines, then addresses that have less and less in common with them: the last
# bits that are the same are 127 (of the second), 63, 55, 47 and 15.
ONE, TWO, NEXT64, NEXT56, NEXT48, FAR = CLIENTS = (
    "fd00:0:0:100::2", "fd00:0:0:100::3", "fd00:0:0:101::2", "fd00:0:0:200::2",
    "fd00:0:1:100::2", "fd01:0:0:100::2")
PREFIXES = [None, 1, 16, 48, 56, 63, 64, 127, 128]
DEFAULT = 64


@pytest.fixture(scope="module")
def network():
    made = Network([SERVER, *CLIENTS])
    yield made
    made.close()


class From(client.Client):
    """A client of the namespace with this source address."""

    def __init__(self, proxy, source):
        self.sock = proxy.network.socket()
        self.sock.settimeout(client.GUARD)
        self.sock.bind((source, 0))
        self.sock.connect((SERVER, proxy.port))
        self.reader = wire.Reader(self.sock)


@pytest.fixture
def ipv6(weir, network):
    """weir in the namespace with these keys of the listener and the policy; it answers itself."""
    def start(listener, policy=None):
        proxy = weir({}, start=False, preexec=network.enter)
        proxy.network, proxy.status = network, "unix:%s/status" % proxy.directory
        bind = "[%s]:%d" % (SERVER, proxy.port)
        proxy.change(admin={"status": proxy.status}, policies={"p": policy or {}},
                     listeners={"web": confgen.merge({"bind": bind}, listener)},
                     routes=[{"name": "all", "prefix": "/", "policies": ["p"], "respond": {
                         "body": "yours", "headers": ["X-Client: ${client.address}"]}}])
        return proxy.start()
    return start


def opened(proxy, source, count):
    """Connections that are served, and kept open."""
    held = []
    for _ in range(count):
        conn = From(proxy, source)
        conn.try_send(wire.request_bytes())
        if conn.reader.fill():
            assert conn.response().status == 200
            held.append(conn)
            proxy.clients.append(conn)
        else:
            conn.close()
    return held


def shares(bits, limit, asked):
    """What each of CLIENTS gets when all of a network have limit together and each asks so often,
    in this order: said by another implementation of networks."""
    left, given = {}, []
    for address in CLIENTS:
        net = ipaddress.ip_network((address, bits), strict=False)
        given.append(min(asked, left.get(net, limit)))
        left[net] = left.get(net, limit) - given[-1]
    return given


def keys(name, bits):
    return {} if bits is None else {name: bits}


def test_shares():
    """The oracle itself."""
    assert shares(64, 3, 2) == [2, 1, 2, 2, 2, 2]
    assert shares(48, 3, 2) == [2, 1, 0, 0, 2, 2]
    assert shares(128, 3, 2) == [2] * 6 and shares(1, 3, 2) == [2, 1, 0, 0, 0, 0]


@pytest.mark.parametrize("bits", PREFIXES)
def test_connections_per_client(ipv6, bits):
    proxy = ipv6({"connections_per_client": 3, **keys("client_prefix6", bits)})
    wanted = shares(bits or DEFAULT, 3, 2)
    held = [opened(proxy, address, 2) for address in CLIENTS]
    assert [len(each) for each in held] == wanted
    assert all(conn.get("/still").status == 200 for each in held for conn in each)
    refused = 2 * len(CLIENTS) - sum(wanted)
    for address, got in zip(CLIENTS, wanted):
        if got < 2:
            proxy.logged(2 - got, end="proxy.limit.client_connections",
                         network__peer__address=address)
    assert proxy.metric("weir_listener_connections_refused_total") == refused


def test_a_neighbour_gives_the_place_back(ipv6):
    """What a client of the network closes, another one may open."""
    proxy = ipv6({"connections_per_client": 1})
    first = opened(proxy, ONE, 1)
    assert len(first) == 1 and not opened(proxy, TWO, 1)
    first[0].close()
    assert eventually(lambda: opened(proxy, TWO, 1))
    assert not opened(proxy, ONE, 1)


def test_another_prefix_after_a_reload(ipv6):
    proxy = ipv6({"connections_per_client": 1})
    assert opened(proxy, ONE, 1) and not opened(proxy, TWO, 1)
    proxy.change(listeners={"web": {"client_prefix6": 128}})
    proxy.reload()
    assert len(opened(proxy, TWO, 2)) == 1


@pytest.mark.parametrize("bits", PREFIXES)
def test_rates(ipv6, bits):
    proxy = ipv6({}, {"rate": {"limit": "1/h", "burst": 3, **keys("prefix6", bits)}})
    statuses = []
    for address in CLIENTS:
        with From(proxy, address) as conn:
            statuses.append([conn.get().status for _ in range(2)])
    assert {status for pair in statuses for status in pair} <= {200, 429}
    assert [pair.count(200) for pair in statuses] == shares(bits or DEFAULT, 3, 2)


def test_networks_of_a_listener(ipv6):
    """The longest decides, and no prefix is mistaken for its neighbour."""
    proxy = ipv6({"allow": ["fd00::/48", TWO], "deny": ["fd00:0:0:100::/63"]})
    answers = {address: bool(opened(proxy, address, 1)) for address in CLIENTS}
    assert answers == {ONE: False, TWO: True, NEXT64: False, NEXT56: True, NEXT48: False,
                       FAR: False}
    proxy.ended("proxy.denied.peer", network__peer__address=NEXT64)


def test_trusted_proxies(ipv6):
    """Only those of the network are believed."""
    proxy = ipv6({"trusted_proxies": ["fd00:0:0:100::/64"]})
    seen = {}
    for address in CLIENTS:
        with From(proxy, address) as conn:
            seen[address] = conn.get("/", ["X-Forwarded-For: 192.0.2.1"]).get("x-client")
    assert seen == {address: "192.0.2.1" if address in (ONE, TWO) else address
                    for address in CLIENTS}
