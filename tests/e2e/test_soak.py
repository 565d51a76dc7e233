"""The reload soak of issue 2's Shows: load with verified nonces while the file is reloaded over
and over, its versions rotating through a route, a listener, a pool, an endpoint and a certificate
added and removed; a WebSocket in each generation. The short form runs always, the full one with -m
slow."""
import asyncio
import threading
import time

import pytest
import websockets

from harness import certs, client, load, proc
from harness.weir import eventually

KINDS = ("route", "listener", "pool", "endpoint", "certificate")


class Sockets:
    """WebSocket tunnels through the proxy, each echoing on demand, in a loop of their own."""

    def __init__(self, backend_port):
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.tunnels = []
        self.server = self.call(lambda: websockets.serve(self.echo, "127.0.0.1", backend_port,
                                                         ping_interval=None))

    def call(self, make):
        """Awaits what make() gives, in the loop's own thread."""
        async def wait():
            return await make()
        return asyncio.run_coroutine_threadsafe(wait(), self.loop).result(60)

    @staticmethod
    async def echo(socket):
        async for message in socket:
            await socket.send(message)

    def open(self, port):
        url = "ws://127.0.0.1:%d/ws" % port
        self.tunnels.append(self.call(lambda: websockets.connect(url, ping_interval=None)))

    async def talk_all(self, word):
        async def talk(number, tunnel):
            await tunnel.send("%s %d" % (word, number))
            assert await asyncio.wait_for(tunnel.recv(), 30) == "%s %d" % (word, number)
        await asyncio.gather(*[talk(n, t) for n, t in enumerate(self.tunnels)])

    def check(self, word):
        """Every tunnel opened so far still carries a message both ways."""
        self.call(lambda: self.talk_all(word))

    def close(self):
        async def end():
            await asyncio.gather(*[tunnel.close() for tunnel in self.tunnels],
                                 return_exceptions=True)
            self.server.close()
            await self.server.wait_closed()
        self.call(end)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)


class Soak:
    """One weir with two nginx, TLS, and a rotation of configurations."""

    def __init__(self, weir, nginx, authority):
        self.servers = [nginx("one"), nginx("two"), nginx("three")]
        self.authority = authority
        self.ws_port, self.tls_port = proc.free_port(), proc.free_port()
        self.extra_port = proc.free_port()
        self.sockets = Sockets(self.ws_port)
        self.base_rows = [dict(names=["a.example"], **authority.leaf(["a.example"], stem="a"))]
        self.more_rows = [dict(names=["b.example"], **authority.leaf(["b.example"], stem="b"))]
        self.proxy = weir({
            "listeners": {"tls": {"bind": "127.0.0.1:%d" % self.tls_port,
                                  "tls": {"certificates": self.base_rows}}},
            "pools": {"app": {"endpoints": [s.address for s in self.servers[:2]]},
                      "ws": {"endpoints": ["127.0.0.1:%d" % self.ws_port]}},
            "routes": self.routes()})
        self.inodes = proc.listening(self.proxy.pid)
        self.base = self.proxy.conf

    @staticmethod
    def routes(*more):
        return [{"name": "ws", "prefix": "/ws", "pool": "ws"},
                {"name": "all", "prefix": "/", "pool": "app"}, *more]

    def version(self, number):
        """The configuration of a generation: the base with one thing added, in turn."""
        kind = KINDS[number % len(KINDS)]
        if kind == "route":
            return {"routes": self.routes({"name": "extra", "path": "/extra",
                                           "respond": {"status": 200, "body": "gen %d" % number}})}
        if kind == "listener":
            return {"listeners": {"extra": {"bind": "127.0.0.1:%d" % self.extra_port}}}
        if kind == "pool":
            return {"pools": {"extra": {"endpoints": [self.servers[2].address]}},
                    "routes": self.routes({"name": "extra", "prefix": "/extra", "pool": "extra"})}
        if kind == "endpoint":
            return {"pools": {"app": {"endpoints": [s.address for s in self.servers]}}}
        return {"listeners": {"tls": {"tls": {"certificates": self.base_rows + self.more_rows}}}}

    def check(self, number):
        """What this generation added is there."""
        kind, proxy = KINDS[number % len(KINDS)], self.proxy
        if kind == "route":
            assert proxy.get("/extra").body == b"gen %d" % number
        elif kind == "listener":
            assert proxy.get("/x", port=self.extra_port).status == 200
        elif kind == "pool":
            assert proxy.get("/extra/x").body == b"three GET /extra/x"
        elif kind == "certificate":
            with client.Client(self.tls_port, tls=self.authority.client_context(),
                               sni="b.example") as conn:
                assert certs.common_name(conn.sock) == "b.example"
                assert conn.get("/tls", host="b.example").status == 200

    def step(self, number):
        self.proxy.conf = self.base
        self.proxy.change(**self.version(number))
        self.proxy.reload()
        self.check(number)
        self.sockets.open(self.proxy.port)

    def size(self):
        """At a quiet moment: allocators have settled."""
        return min(proc.tree_kib(self.proxy.pid, proc.OWN) for _ in range(3))


def run_soak(soak, load_client, connections, reloads, seconds):
    """Reloads spread over the time. Memory is compared with every tunnel still open."""
    proxy, pid = soak.proxy, soak.proxy.pid
    running = [load_client(proxy.port, count) for count in connections]
    time.sleep(0.5)
    size, started = 0, time.monotonic()
    for number in range(1, reloads + 1):
        soak.step(number)
        if number % 10 == 0:
            soak.sockets.check("reload %d" % number)
        if number == 10:
            size = soak.size()
        time.sleep(max(0.0, started + seconds * number / reloads - time.monotonic()))
    soak.sockets.check("last")
    assert proxy.metric("weir_tunnels") == reloads
    within(soak, size + 256)
    for count, each in zip(connections, running):
        report = each.stop()
        load.clean(report, 200)
        assert report["opened"] == count and report["closed_idle"] == 0, report
    assert proxy.pid == pid and proxy.process.poll() is None
    now = proc.listening(pid)
    assert {p: i for p, i in now.items() if p in soak.inodes} == soak.inodes
    assert proxy.generation() == reloads + 1
    eventually(lambda: proxy.metric("weir_snapshots_live") <= 2)
    bad = [r for r in proxy.lines() if r["weir.end"] not in ("ok",)]
    assert not bad, bad[:5]


def within(soak, limit):
    """What it has of its own is at most limit KiB (buffers of traffic just now may be held)."""
    seen = []

    def small():
        seen.append(soak.size())
        return seen[-1] <= limit
    try:
        eventually(small, guard=20, every=0.5)
    except AssertionError:
        raise AssertionError("%d KiB, wanted at most %d" % (seen[-1], limit)) from None


@pytest.fixture
def soak(weir, nginx, authority):
    made = Soak(weir, nginx, authority)
    yield made
    made.sockets.close()


def test_reload_soak_short(soak, load_client):
    run_soak(soak, load_client, [64], 10, 5)


@pytest.mark.slow
@pytest.mark.parametrize("connections", [64, 1000])
def test_reload_soak(soak, load_client, connections):
    """100 reloads; memory after 100 at most that after 10 plus 256 KiB."""
    run_soak(soak, load_client, [connections], 100, 30)


@pytest.mark.slow
def test_reload_memory_alone(soak, load_client):
    """500 reloads without new tunnels and load, after traffic has warmed the buffers up."""
    proxy = soak.proxy
    load.clean(load_client(proxy.port, 64, 2).result(), 200)
    for number in range(1, 501):
        proxy.conf = soak.base
        proxy.change(**soak.version(number))
        proxy.reload()
        soak.check(number)
        if number == 10:
            size = soak.size()
    within(soak, size + 256)
