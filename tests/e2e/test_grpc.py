"""gRPC through weir with grpcio on both sides: every kind of call over h2c and TLS, deadlines,
statuses for log, metrics, health and retries, cancelled calls, endpoints that die, streams that
are longer than any buffer. What weir answers itself is in test_grpc_answers.py."""
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

grpc = pytest.importorskip("grpc", reason="python3-grpcio (packaging/packages.sh)")

from harness import grpcsite, npm, proc, servers  # noqa: E402
from harness.tlspeers import Mint  # noqa: E402
from harness.weir import GUARD, eventually  # noqa: E402

CODE = grpc.StatusCode
LONG = 3600
SIZES = (0, 1, 1000, 16384, 65536, 1 << 20, 3 << 20)


@pytest.fixture
def server():
    made = grpcsite.Server()
    yield made
    made.stop()


@pytest.fixture
def client():
    made = []

    def make(proxy, **kwargs):
        made.append(grpcsite.Client(proxy.port, **kwargs))
        return made[-1]
    yield make
    for each in made:
        each.close()


def conf(*servers, pool=(), route=(), policies=None, **rest):
    return {"listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
            "pools": {"app": {"endpoints": [each.address for each in servers],
                              "connections": {"protocol": "h2c"}, **dict(pool)}},
            "routes": [{"name": "all", "prefix": "/", "pool": "app", **dict(route)}],
            **({"policies": policies} if policies else {}), **rest}


@pytest.fixture(params=["h2c", "tls"])
def site(request, weir, server, client, authority):
    """(weir, server, client) over plain HTTP/2 and over TLS."""
    if request.param == "h2c":
        proxy = weir(conf(server))
        return proxy, server, client(proxy)
    leaf = authority.leaf(["localhost"])
    made = conf(server)
    made["listeners"]["web"] = {"tls": {"certificates": [leaf]}}
    proxy = weir(made)
    return proxy, server, client(proxy, ca=authority.path)


@pytest.fixture
def plain(weir, server, client):
    proxy = weir(conf(server))
    return proxy, server, client(proxy)


def refused(call, *args, **kwargs):
    """The error of a call that has to fail."""
    with pytest.raises(grpc.RpcError) as caught:
        result = call(*args, timeout=kwargs.pop("timeout", LONG), **kwargs)
        for _ in result if hasattr(result, "__next__") else ():
            pass
    return caught.value


# ---- calls ----

def test_unary(site):
    proxy, _, client = site
    for size in SIZES:
        data = b"".join(grpcsite.messages(1, size))
        answer, call = client.echo.with_call(data, timeout=LONG)
        assert answer == data and call.code() == CODE.OK
        trailers = dict(call.trailing_metadata())
        assert trailers["x-sum"] == "%d" % len(data) and trailers["x-bin"] == b"\x00\xff"
    record = proxy.logged(len(SIZES), end="ok", rpc__grpc__status_code=0)
    assert record["rpc.system"] == "grpc" and record["weir.pool"] == "app"
    assert proxy.metric("weir_grpc_responses_total", pool="app", grpc_status="0") == len(SIZES)
    assert proxy.metric("weir_upstream_connections") <= 2


def test_metadata(site):
    _, _, client = site
    answer, call = client.fields.with_call(
        b"", timeout=LONG, metadata=(("x-mine", "a b"), ("x-raw-bin", b"\x00\x01")))
    told = json.loads(answer)
    rows = dict(map(tuple, told["rows"]))
    assert rows["x-mine"] == "a b" and rows["x-raw-bin"] == "0001"
    assert rows["x-forwarded-for"] == "127.0.0.1" and "user-agent" in rows
    assert dict(call.initial_metadata())["x-first"] == "1"


def test_client_streaming(site):
    _, _, client = site
    want = grpcsite.digest(grpcsite.messages(500, 1000))
    assert client.collect(grpcsite.messages(500, 1000), timeout=LONG) == want
    assert client.collect(iter(()), timeout=LONG) == grpcsite.digest(())


def test_server_streaming(site):
    _, _, client = site
    got = grpcsite.digest(client.spread(b"500 1000", timeout=LONG))
    assert got == grpcsite.digest(grpcsite.messages(500, 1000))
    assert list(client.spread(b"0 0", timeout=LONG)) == []


def test_both_at_once(site):
    """Each message is answered before the next one is sent: nothing waits for more."""
    _, _, client = site
    turn, last = threading.Semaphore(0), []

    def questions():
        for message in grpcsite.messages(50, 100):
            last.append(message)
            yield message
            assert turn.acquire(timeout=GUARD)
    for answer in client.chat(questions(), timeout=LONG):
        assert answer == last[-1]
        turn.release()
    assert len(last) == 50


def test_many_calls_at_once(plain):
    proxy, _, client = plain
    calls = [client.echo.future(b"%d" % number, timeout=LONG) for number in range(300)]
    assert [call.result() for call in calls] == [b"%d" % number for number in range(300)]
    proxy.logged(300, end="ok", rpc__grpc__status_code=0)


# ---- statuses ----

@pytest.mark.parametrize("method", ["status", "late"])
def test_statuses_of_the_endpoint_pass(plain, method):
    """Alone in a head (Trailers-Only) and behind a message; as they came, to log and metrics."""
    proxy, _, client = plain
    for code in (CODE.NOT_FOUND, CODE.INVALID_ARGUMENT, CODE.UNAUTHENTICATED, CODE.CANCELLED):
        error = refused(getattr(client, method), b"%d caf\xc3\xa9 100%%" % code.value[0])
        assert error.code() == code and error.details() == "caf\u00e9 100%"
        proxy.logged(end="ok", rpc__grpc__status_code=code.value[0])
        assert proxy.metric("weir_grpc_responses_total", pool="app",
                            grpc_status=str(code.value[0])) == 1


@pytest.mark.parametrize("method", ["status", "late"])
@pytest.mark.parametrize("code,counts", [(14, True), (13, True), (2, True), (15, True), (5, False),
                                         (4, False), (12, False), (8, False)])
def test_statuses_count_for_health(weir, server, client, method, code, counts):
    """As a 5xx does (outlier.consecutive_5xx), wherever in the response they stand."""
    proxy = weir(conf(server, pool={"outlier": {"consecutive_5xx": 3, "eject": "1h",
                                                "max_ejected": "100%"}}))
    channel = client(proxy)
    for _ in range(2):
        refused(getattr(channel, method), b"%d" % code)
    assert list(channel.late(b"0", timeout=LONG)) == [b"one"]  # a good one between
    for number in range(3):
        assert proxy.metric("weir_endpoint_up") == 1, number
        refused(getattr(channel, method), b"%d" % code)
        proxy.logged(3 + number, rpc__grpc__status_code=code)
    assert proxy.metric("weir_endpoint_up") == (0 if counts else 1)


@pytest.mark.parametrize("code", [14, 13])
def test_a_breaker_opens_by_statuses(weir, server, client, code):
    proxy = weir(conf(server, pool={"breaker": {"failure_rate": "50%", "min_requests": 4,
                                                "open": "60s"},
                                    "outlier": {"consecutive_5xx": 0}}))
    channel = client(proxy)
    for _ in range(4):
        refused(channel.late, b"%d" % code)
    error = refused(channel.late, b"0")
    assert error.code() == CODE.UNAVAILABLE
    assert error.details().startswith("upstream.breaker.open")


def retrying(*servers, on="unavailable"):
    return conf(*servers, pool={"balance": "round_robin", "outlier": {"consecutive_5xx": 0},
                                "retry": {"attempts": 2, "on": [on], "unsafe": True,
                                          "budget_min": 1000}},
                route={"policies": ["hold"]}, policies={"hold": {"buffer": "64KiB"}})


class Broken(grpcsite.Service):
    code = CODE.UNAVAILABLE

    def status(self, request, context):
        self.calls.append(request)
        context.abort(self.code, "go elsewhere")


@pytest.mark.parametrize("word", ["unavailable", "internal", "cancelled", "resource_exhausted",
                                  "deadline_exceeded"])
def test_retry_on_a_status(weir, server, client, word):
    """Another endpoint has the call where the pool says so; not for other statuses."""
    broken = Broken()
    broken.code = CODE[word.upper()]
    other = grpcsite.Server(broken)
    proxy = weir(retrying(server, other, on=word))
    channel = client(proxy)
    for _ in range(8):
        assert channel.status(b"0", timeout=LONG) == b"fine"
    assert broken.calls
    assert proxy.metric("weir_pool_retries_total", pool="app") == len(broken.calls)
    proxy.logged(len(broken.calls), weir__attempts=2,
                 weir__tries="%s %s" % (other.address, word))
    broken.code, before = CODE.NOT_FOUND, len(broken.calls)
    eventually(lambda: [try_code(channel), len(broken.calls) > before][1])
    assert proxy.metric("weir_pool_retries_total", pool="app") == before
    other.stop()


def try_code(channel):
    try:
        channel.status(b"0", timeout=LONG)
        return 0
    except grpc.RpcError as error:
        return error.code()


# ---- deadlines ----

def test_a_deadline_goes_on(site):
    """The endpoint knows how long the caller waits; without one it knows of none."""
    _, _, client = site
    left = json.loads(client.fields(b"", timeout=LONG))["left"]
    assert 0 < left <= LONG * 1.01  # callers say it with three digits, rounded up: 3610 s, maybe
    assert json.loads(client.fields(b""))["left"] > 1e9


def test_a_deadline_passes(plain):
    """On both sides: the caller hears of it, the endpoint's call is cancelled (where one was made
    so soon: else with a longer deadline)."""
    proxy, server, client = plain
    for first in (b"", b"one"):
        server.service.gone.clear()
        server.service.hanging.clear()
        for deadline in (0.3, 1, 5, 20):
            error = refused(client.hang, first, timeout=deadline)
            assert error.code() == CODE.DEADLINE_EXCEEDED
            if server.service.hanging.wait(1):
                break
        assert server.service.gone.wait(GUARD)
    assert proxy.metric("weir_endpoint_failures_total") == 0


# ---- ends ----

def test_a_cancelled_call_is_cancelled_upstream(site):
    proxy, server, client = site
    call = client.hang(b"one", timeout=LONG)
    assert next(call) == b"one"
    call.cancel()
    assert server.service.gone.wait(GUARD)
    proxy.logged(end="client.reset", rpc__grpc__status_code=1)


@pytest.fixture
def child():
    """A server in a process of its own, to be killed."""
    made = []

    def make(*args):
        made.append(subprocess.Popen([sys.executable, grpcsite.__file__, *args],
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     cwd=pathlib.Path(__file__).parent))
        made[-1].address = "127.0.0.1:%d" % int(made[-1].stdout.readline())
        return made[-1]
    yield make
    for each in made:
        each.kill()
        each.wait()
        each.stdin.close()
        each.stdout.close()


def test_an_endpoint_that_dies_in_the_middle(weir, child, client):
    """UNAVAILABLE, said by trailers: the connection of the caller goes on."""
    origin = child()
    proxy = weir(conf(origin))
    channel = client(proxy)
    call, hanging = channel.hang(b"one", timeout=LONG), channel.hang(b"two", timeout=LONG)
    assert next(call) == b"one" and next(hanging) == b"two"
    origin.kill()
    origin.wait()
    for each in (call, hanging):
        error = refused(lambda timeout, each=each: each)
        assert error.code() == CODE.UNAVAILABLE, error
        assert error.details().startswith("upstream."), error
    proxy.logged(2, rpc__grpc__status_code=14)
    assert refused(channel.echo, b"").code() == CODE.UNAVAILABLE  # nobody listens now
    assert proxy.metric("weir_downstream_connections_total") == 1


# ---- TLS to endpoints ----

@pytest.mark.parametrize("protocol", ["auto", "h2"])
def test_over_tls_to_endpoints(weir, child, client, work, protocol):
    """grpcio's server behind TLS, chosen by ALPN: unary calls and streams, then it dies in the
    middle of some; the connection of the caller goes on."""
    mint = Mint(work)
    leaf = mint.leaf("127.0.0.1")
    origin = child(leaf.path, leaf.key_path)
    proxy = weir(conf(origin, pool={"connections": {"protocol": protocol},
                                    "tls": {"ca": "file:%s" % mint.root.path}}))
    channel = client(proxy)
    for size in SIZES[:-1]:
        assert channel.echo(b"x" * size, timeout=LONG) == b"x" * size
    sent = list(grpcsite.messages(200, 20000))
    assert channel.collect(iter(sent), timeout=LONG) == grpcsite.digest(sent)
    assert grpcsite.digest(channel.spread(b"200 20000", timeout=LONG)) == grpcsite.digest(sent)
    assert list(channel.chat(iter(sent), timeout=LONG)) == sent
    assert proxy.metric("weir_upstream_tls_handshakes_total", resumed="false") == 1
    calls = [channel.hang(b"one", timeout=LONG) for _ in range(2)]
    assert [next(call) for call in calls] == [b"one"] * 2
    origin.kill()
    origin.wait()
    for call in calls:
        error = refused(lambda timeout, call=call: call)
        assert error.code() == CODE.UNAVAILABLE, error
        assert error.details().startswith("upstream."), error
    proxy.logged(2, rpc__grpc__status_code=14)
    assert proxy.metric("weir_downstream_connections_total") == 1


# ---- grpc-js ----

@pytest.mark.parametrize("how", ["h2c", "tls"])
def test_node(weir, server, authority, how):
    """The client of Node, at the version of harness/npm.py."""
    modules = npm.modules()
    made = conf(server, route={"prefix": "/weir.Test"})
    if how == "tls":
        made["listeners"]["web"] = {"tls": {"certificates": [authority.leaf(["localhost"])]}}
    proxy = weir(made)
    out = json.loads(subprocess.run(
        ["node", servers.TOOLS / "grpc_client.js", str(proxy.port),
         *([authority.path] if how == "tls" else [])],
        env={**os.environ, "NODE_PATH": modules}, stdout=subprocess.PIPE, timeout=120,
        check=True).stdout)
    want = grpcsite.digest([b"y" * 1000] * 300).decode()
    assert out["echo"] == [0, "", True, str(1 << 20)]
    assert [out["status"][key] for key in ("code", "details")] == [5, "none such"]
    assert out["late"] == {"code": 9, "details": "not now", "parts": 1}
    assert out["spread"] == [0, "", 300]
    assert (out["collect"], out["chat"]) == (want, [0, 100])
    assert (out["hang"], out["cancel"], out["nowhere"][0]) == (4, 1, 12)
    assert out["nowhere"][1].startswith("proxy.no_route")
    assert server.service.gone.wait(GUARD)


# ---- long streams ----

AHEAD = 9000  # messages of 1000 bytes on their way: windows of three programs hold about 6000


class Counted:
    """Questions for a call; sent says how many it has taken: backpressure is where it rests."""

    def __init__(self, count, size):
        self.messages, self.sent = grpcsite.messages(count, size), 0

    def __iter__(self):
        return self

    def __next__(self):
        message = next(self.messages)
        self.sent += 1
        return message

    def rests(self):
        """How many were taken when no more are, while nobody reads answers."""
        seen = []

        def still():
            """the caller is held up: it takes no further question"""
            seen.append(self.sent)
            return len(seen) > 20 and len(set(seen[-20:])) == 1
        eventually(still)
        return self.sent


def long_stream(proxy, client, count, size, slow):
    """count messages each way through a stream whose reader stops now and then, until what stands
    behind it is full: (memory that weir had, questions on their way) of each stop."""
    stops, questions = [], Counted(count, size)
    answers = client.chat(questions, timeout=LONG)
    for number, (answer, wanted) in enumerate(zip(answers, grpcsite.messages(count, size))):
        assert answer == wanted, number
        if number % slow == slow - 1:
            ahead = questions.rests() - number
            stops.append((proc.memory_kib(proxy.pid, "Rss"), ahead))
    assert number == count - 1 and next(answers, None) is None
    assert answers.code() == CODE.OK and questions.sent == count
    return stops


@pytest.fixture(params=["h2c", "tls"])
def far(request, weir, child, client, work, authority):
    """(weir, a server in a process of its own, client): HTTP/2 without and with TLS on both
    sides. The client's window stays small, so that it is soon full."""
    mint, rest = Mint(work), {"process": {"workers": 1}}
    if request.param == "h2c":
        origin = child()
        proxy = weir(conf(origin, **rest))
    else:
        leaf = mint.leaf("127.0.0.1")
        origin = child(leaf.path, leaf.key_path)
        made = conf(origin, pool={"connections": {"protocol": "h2"},
                                  "tls": {"ca": "file:%s" % mint.root.path}}, **rest)
        made["listeners"]["web"] = {"tls": {"certificates": [authority.leaf(["localhost"])]}}
        proxy = weir(made)
    ca = None if request.param == "h2c" else authority.path
    return proxy, origin, client(proxy, ca=ca, options=(("grpc.http2.bdp_probe", 0),))


@pytest.mark.parametrize("count,size,slow", [
    (12_000, 1000, 1000),
    pytest.param(100_000, 1000, 5000, marks=pytest.mark.slow)])
def test_a_long_stream_needs_no_memory(far, count, size, slow):
    """Messages each way past a slow reader: weir holds what windows let it, and no more; the
    caller is held up, and what is on its way does not grow with what has passed."""
    proxy, _, channel = far
    channel.echo(b"x" * 100_000, timeout=LONG)
    before = proc.memory_kib(proxy.pid, "Rss")
    stops = long_stream(proxy, channel, count, size, slow)
    memory, ahead = zip(*stops)
    assert max(ahead) < AHEAD, stops
    assert proc.peak_rss_kib(proxy.pid) - before < 8 * 1024, (before, stops)
    half = len(memory) // 2
    assert max(memory[half:]) <= max(memory[:half]) + 1024, stops
    record = proxy.logged(end="ok", path="/weir.Test/chat")
    assert record["http.request.body.size"] == record["http.response.body.size"]
    assert record["http.request.body.size"] > count * size


def test_an_endpoint_that_dies_behind_a_full_stream(far):
    """The caller is held up by its own pause when the endpoint dies: it gets what came before, in
    order, and then UNAVAILABLE."""
    proxy, origin, channel = far
    questions = Counted(100_000, 1000)
    answers = channel.chat(questions, timeout=LONG)
    wanted = grpcsite.messages(100_000, 1000)
    assert next(answers) == next(wanted)
    assert questions.rests() < AHEAD
    origin.kill()
    origin.wait()
    with pytest.raises(grpc.RpcError) as caught:
        for answer in answers:
            assert answer == next(wanted)
    error = caught.value
    assert error.code() == CODE.UNAVAILABLE and error.details().startswith("upstream."), error
    record = proxy.logged(path="/weir.Test/chat")
    assert record["weir.end"].startswith("upstream.") and record["rpc.grpc.status_code"] == 14

