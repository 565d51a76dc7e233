"""Fixtures of tests/e2e and tests/conformance; each conftest imports them.

weir: a factory, one process per call, stopped and checked at the end of the test.
backend, new_backend: recording backends, whose violations fail the test.
"""
import pathlib
import shutil
import tempfile

import pytest

from . import certs, confgen, h2talk, load, servers, udpsite
from .backend import Backend, default_handler
from .h2raw import Conn
from .tlspeers import Mint
from .weir import Weir


@pytest.fixture(scope="session")
def session_dir():
    """Short paths: unix sockets have room for 107 bytes."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="weir-e2e-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def work(session_dir):
    path = pathlib.Path(tempfile.mkdtemp(prefix="t", dir=session_dir))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path, ignore_errors=True)


class Backends(list):
    """Makes backends and checks them at the end."""

    def __call__(self, *args, **kwargs):
        self.append(Backend(*args, **kwargs))
        return self[-1]

    def finish(self):
        for each in self:
            each.stop()
        bad = [text for each in self for text in each.violations]
        assert not bad, "weir sent upstream: %s" % "\n".join(bad)


@pytest.fixture
def new_backend():
    made = Backends()
    yield made
    made.finish()


@pytest.fixture
def backend(new_backend):
    return new_backend()


class Weirs(list):
    """Makes weir processes; finish() stops and checks them all."""

    def __init__(self, directory):
        super().__init__()
        self.directory = directory

    def __call__(self, conf=None, *backends, start=True, text=None, **options):
        conf = dict(conf or {})
        if backends:
            pools = {"app": {"endpoints": [each.address for each in backends]}}
            conf["pools"] = {**pools, **conf.get("pools", {})}
            if "app" in conf["pools"]:
                conf["pools"]["app"] = {**pools["app"], **conf["pools"]["app"]}
            conf.setdefault("routes", [{"name": "all", "prefix": "/", "pool": "app"}])
        made = Weir(self.directory / ("w%d" % len(self)), conf, text, **options)
        self.append(made)
        return made.start() if start else made

    def finish(self):
        faults = []
        for each in self:
            try:
                each.stop()
            except AssertionError as error:
                faults.append(str(error))
        assert not faults, "\n".join(faults)


@pytest.fixture
def weir(work):
    made = Weirs(work)
    yield made
    made.finish()


class Pair:
    """A weir and its recording backend, shared by the tests of a module."""

    def __init__(self, weir, backend):
        self.weir, self.backend = weir, backend
        for name in ("client", "request", "get", "exchange", "logged", "ended", "metric"):
            setattr(self, name, getattr(weir, name))


@pytest.fixture(scope="module")
def shared(request, session_dir):
    """One process for a module; SHARED_CONF of the module is merged into its configuration."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="m", dir=session_dir))
    directory.chmod(0o755)
    backend, made = Backend(), Weirs(directory)
    calm = {"pools": {"app": {"outlier": {"consecutive_failures": 0, "consecutive_5xx": 0}}}}
    conf = confgen.merge(calm, getattr(request.module, "SHARED_CONF", {}))
    yield Pair(made(conf, backend), backend)
    made.finish()
    backend.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def pair(shared):
    """shared, fresh for one test: nothing recorded, default answers; violations fail the test."""
    weir, backend = shared.weir, shared.backend
    assert weir.process.poll() is None, "weir ended with %s: %s" % (weir.process.poll(),
                                                                    weir.errors)
    weir.settle()
    weir.mark = len(weir.all_lines())
    backend.handlers.clear()
    backend.default = default_handler
    backend.requests.clear()
    yield shared
    for each in weir.clients:
        each.close()
    weir.clients.clear()
    bad = list(backend.violations)
    backend.violations.clear()
    assert not bad, "weir sent upstream: %s" % "\n".join(bad)
    weir.check_stderr()


@pytest.fixture
def nginx(work):
    """A factory of running nginx backends."""
    made = []

    def make(name="nginx", **kwargs):
        made.append(servers.Nginx(work, name, **kwargs).start())
        return made[-1]

    yield make
    for each in made:
        each.stop()


@pytest.fixture
def node(work):
    server = servers.Node(work, "node").start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def load_client(session_dir):
    binary = servers.compiled(session_dir, "load")
    return lambda port, *args, **kwargs: load.Load(binary, port, *args, **kwargs)


@pytest.fixture
def mint(work):
    """Makes certificates of a CA of its own."""
    return Mint(work)


@pytest.fixture
def serve():
    """serve(kind, ...) makes an endpoint; all are stopped and asked what weir did wrong."""
    made = []

    def make(kind, *args, **kwargs):
        made.append(kind(*args, **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.stop()
    assert not [text for each in made for text in getattr(each, "violations", ())]


# Clients of HTTP/2: by its library, and by hand, the handshake done.
CLIENTS = {"h2": h2talk.Talk, "h2-frames": lambda port, **more: Conn(port, **more).handshake()}


@pytest.fixture
def talk():
    """talk(protocol, to, ...) makes a client of CLIENTS; to: a weir, or a port. All are closed."""
    made = []

    def make(protocol, to, **kwargs):
        made.append(CLIENTS[protocol](getattr(to, "port", to), **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.close()


@pytest.fixture
def authority(work):
    return certs.Authority(work)


@pytest.fixture
def udp(weir):
    """A weir with one UDP listener, `dns`, and its pool; .port is the listener's."""
    def make(*endpoints, listener=None, pool=None, **more):
        port = udpsite.free_port()
        made = weir(udpsite.conf(port, endpoints, listener, pool, **more))
        made.port = port
        return made
    return make
