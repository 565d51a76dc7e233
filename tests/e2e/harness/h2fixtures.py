"""Fixtures of the HTTP/2 tests: a weir that speaks h2c and TLS on two listeners, and its backend.

Test modules import what they need from here. speaks_h2 skips everything as long as the binary does
not speak HTTP/2; it goes when weir does.
"""
import shutil
import tempfile
import pathlib

import pytest

from . import certs, confgen, proc, wire
from .backend import Backend
from .fixtures import Pair, Weirs
from .h2raw import Conn
from .weir import eventually, run

H2C, H2 = ["h2c", "http/1.1"], ["h2", "http/1.1"]
NAMES = ["test.example", "*.example", "localhost"]


def answers_h2c(directory):
    """weir check takes protocols with h2c, and a request by prior knowledge is answered."""
    weirs = Weirs(directory)
    made = weirs({"listeners": {"web": {"protocols": H2C}},
                  "routes": [{"name": "r", "prefix": "/", "respond": {"status": 200}}]},
                 start=False)
    if run("check", "-c", made.path).returncode:
        return False
    made.start()
    try:
        with Conn(made.port, guard=5) as conn:
            return conn.get().status == 200
    except (AssertionError, OSError, wire.Violation):
        return False
    finally:
        weirs.finish()


@pytest.fixture(scope="session")
def speaks_h2(session_dir):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="h2", dir=session_dir))
    if not answers_h2c(directory):
        pytest.fail("this weir does not speak HTTP/2")


# ---- backends ----

def read_body(conn, request):
    """The body and, where the coding is chunked, trailers (wire.py knows none)."""
    request.trailers = []
    if request.complete:
        return
    if request.framing != "chunked":
        conn.read_body(request)
        return
    reader = conn.reader
    while size := int(reader.line(), 16):
        reader.exactly(size, request.body)
        assert not reader.line()
    request.trailers = wire.parse_fields(reader)
    request.complete = True


def trailing(answer):
    """A handler that takes trailers; answer(conn, request) follows when the request is whole."""
    def handler(conn, request):
        read_body(conn, request)
        return answer(conn, request)
    return handler


@trailing
def default_handler(_conn, request):
    return wire.response_bytes(body=("%s %s" % (request.method, request.target.decode())).encode())


@trailing
def echo(_conn, request):
    return wire.response_bytes(body=request.body.data)


# ---- weir ----

def two_listeners(authority, port, extra=None):
    """The configuration: web speaks h2c, tls h2; both HTTP/1.1. extra is merged into both."""
    rows = [dict(authority.leaf(NAMES), names=NAMES)]
    web = {"protocols": H2C, **(extra or {})}
    tls = {"bind": "127.0.0.1:%d" % port, "protocols": H2, "tls": {"certificates": rows},
           **(extra or {})}
    return {"listeners": {"web": web, "tls": tls}}


class H2Pair(Pair):
    """A weir with both listeners and its backend; conn() opens a checked connection."""

    def __init__(self, weir, backend, authority, tls_port):
        super().__init__(weir, backend)
        self.authority, self.tls_port = authority, tls_port
        self.context = authority.client_context(alpn=["h2"])
        self.conns = []

    def conn(self, how="h2c", **kwargs):
        tls = self.context if how == "tls" else None
        made = Conn(self.tls_port if tls else self.weir.port, tls, **kwargs)
        self.conns.append(made)
        return made

    def url(self, how, path=""):
        if how == "tls":
            return "https://localhost:%d%s" % (self.tls_port, path)
        return "http://127.0.0.1:%d%s" % (self.weir.port, path)


def make_pair(directory, backend, conf=None, extra=None, **options):
    """(weirs, H2Pair); conf is merged over both listeners and a pool without outlier ejection."""
    authority, port, weirs = certs.Authority(directory), proc.free_port(), Weirs(directory)
    calm = {"pools": {"app": {"outlier": {"consecutive_failures": 0, "consecutive_5xx": 0}}}}
    whole = confgen.merge(confgen.merge(calm, two_listeners(authority, port, extra)), conf or {})
    return weirs, H2Pair(weirs(whole, backend, **options), backend, authority, port)


@pytest.fixture(scope="module")
def h2shared(request, session_dir, speaks_h2):
    """One process for a module; H2_CONF and H2_EXTRA of the module are merged in."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="h", dir=session_dir))
    directory.chmod(0o755)
    backend = Backend(default_handler)
    weirs, pair = make_pair(directory, backend, getattr(request.module, "H2_CONF", {}),
                            getattr(request.module, "H2_EXTRA", {}))
    yield pair
    weirs.finish()
    backend.stop()
    shutil.rmtree(directory, ignore_errors=True)


def backend_settled(weir, backend):
    """The backend has seen each connection to it, and the end of each that weir ended."""
    def settled():
        still = sum(not conn.ended.is_set() for conn in list(backend.conns))
        return (len(backend.conns), still) == (weir.metric("weir_upstream_connects_total"),
                                               weir.metric("weir_upstream_connections"))
    settled.__doc__ = backend_settled.__doc__
    eventually(settled)


@pytest.fixture
def h2pair(h2shared):
    """h2shared, fresh for one test; what the backend got must be valid HTTP/1.1."""
    weir, backend = h2shared.weir, h2shared.backend
    assert weir.process.poll() is None, weir.errors
    weir.settle()
    backend_settled(weir, backend)
    weir.mark = len(weir.all_lines())
    backend.handlers.clear()
    backend.default = default_handler
    backend.requests.clear()
    yield h2shared
    for each in h2shared.conns + weir.clients:
        each.close()
    h2shared.conns.clear()
    weir.clients.clear()
    bad = list(backend.violations)
    backend.violations.clear()
    assert not bad, "weir sent upstream: %s" % "\n".join(bad)
    weir.check_stderr()


@pytest.fixture
def h2make(work, new_backend, speaks_h2):
    """A factory of pairs for one test: h2make(conf, extra of both listeners, handler)."""
    made = []

    def make(conf=None, extra=None, handler=None, **options):
        directory = work / ("h%d" % len(made))
        directory.mkdir()
        weirs, pair = make_pair(directory, new_backend(handler or default_handler), conf, extra,
                                **options)
        made.append((weirs, pair))
        return pair

    yield make
    for weirs, pair in made:
        for each in pair.conns:
            each.close()
        weirs.finish()


@pytest.fixture
def dial():
    """dial(proxy) gives a connection of a client that writes its frames by hand."""
    made = []

    def make(proxy):
        made.append(Conn(proxy.port))
        return made[-1]
    yield make
    for each in made:
        each.close()
