"""gRPC-Web (policies.*.grpc_web) by a client written here, over HTTP/1.1 and HTTP/2, in its binary
and its text form, in front of a gRPC server: messages, trailers in the body, weir's own answers,
CORS, deadlines, what is cut, slow readers. PROTOCOL-WEB."""
import base64
import http.client
import json
import re
import struct
import subprocess

import h2.errors
import pytest

pytest.importorskip("grpc", reason="python3-grpcio (packaging/packages.sh)")

from harness import grpcsite, proc, servers, wire  # noqa: E402
from harness.backend import raw  # noqa: E402
from harness.client import Client  # noqa: E402
from harness.h2endpoints import GRPC, Plays  # noqa: E402
from harness.h2talk import Reset, Talk  # noqa: E402
from harness.weir import GUARD, eventually  # noqa: E402

BINARY, TEXT = "application/grpc-web+proto", "application/grpc-web-text+proto"
PAGE = "https://page.example"
EMPTY = b"\x00\x00\x00\x00\x00"


def frame(data):
    return b"\x00" + struct.pack(">I", len(data)) + data


def groups(data):
    """What a text body says: groups of four, each padded or not."""
    assert len(data) % 4 == 0, data[-8:]
    return b"".join(base64.b64decode(part, validate=True)
                    for part in re.findall(rb"[^=]+={0,2}", data))


def parts(data):
    """(messages, trailers) of a body; the trailers stand last and once."""
    messages, at = [], 0
    while at < len(data):
        flag, size = data[at], struct.unpack(">I", data[at + 1:at + 5])[0]
        one, at = data[at + 5:at + 5 + size], at + 5 + size
        assert len(one) == size
        if flag == 0x80:
            assert at == len(data)
            lines = one.decode().split("\r\n")
            assert lines.pop() == ""
            return messages, dict(line.split(": ", 1) for line in lines)
        assert flag == 0
        messages.append(one)
    return messages, None


class Answer:
    def __init__(self, status, fields, body, form):
        self.status, self.fields = status, {k.decode().lower(): v.decode() for k, v in fields}
        self.type, self.raw = self.fields.get("content-type"), bytes(body)
        text = self.type and "-text" in self.type
        self.messages, self.trailers = parts(groups(self.raw) if text else self.raw)
        assert "grpc-status" not in self.fields
        if self.status == 200:
            assert ("-text" in form) == bool(text), (form, self.type)


class Caller:
    """Calls by one version of HTTP and in one form."""

    def __init__(self, port, version, form):
        self.port, self.version, self.form = port, version, form

    def fields(self, more):
        return [("content-type", self.form), ("accept", self.form), ("x-grpc-web", "1"), *more]

    def body(self, data):
        if "-text" not in self.form:
            return data
        # as browsers that write messages one by one: padded groups in the middle
        return b"".join(base64.b64encode(data[at:at + 1000]) for at in range(0, len(data), 1000))

    def __call__(self, path, message=b"", more=(), body=None, chunks=0):
        data = self.body(frame(message)) if body is None else body
        ask = self.h2 if self.version == "h2" else self.h1
        status, fields, body = ask(path, self.fields(more), data, chunks)
        return Answer(status, fields, body, self.form)

    def h2(self, path, fields, data, chunks):
        conn = Talk(self.port)
        if not chunks:
            fields = [*fields, ("content-length", str(len(data)))]
        stream = conn.open("POST", path, fields, end=False)
        conn.send(stream, data, end=True)
        conn.whole(stream)
        assert stream.trailers is None
        conn.close()
        return stream.status, stream.headers, stream.body

    def h1(self, path, fields, data, chunks):
        lines = ["%s: %s" % row for row in fields]
        with Client(self.port) as conn:
            if chunks:
                pieces = [data[at:at + chunks] for at in range(0, len(data), chunks)]
                conn.send(wire.request_bytes("POST", path, [*lines, "Transfer-Encoding: chunked"])
                          + wire.chunked(*pieces))
            else:
                conn.send(wire.request_bytes("POST", path, lines, data))
            response = conn.response("POST")
        assert not response.trailers
        return response.status, response.fields, response.body


def conf(address, **rest):
    cors = {"origins": [PAGE], "methods": ["POST"], "expose": ["grpc-status", "grpc-message"],
            "headers": ["content-type", "x-grpc-web", "x-user-agent", "grpc-timeout"]}
    return {"listeners": {"web": {"protocols": ["http/1.1", "h2c"]}},
            "pools": {"app": {"endpoints": [address], "connections": {"protocol": "h2c"},
                              "outlier": {"consecutive_failures": 0, "consecutive_5xx": 0}}},
            "policies": {"web": {"grpc_web": True, "cors": cors},
                         "no": {"deny": ["127.0.0.0/8"]}},
            "routes": [{"name": "no", "prefix": "/no", "pool": "app", "policies": ["web", "no"]},
                       {"name": "plain", "prefix": "/plain", "pool": "app"},
                       {"name": "web", "prefix": "/", "pool": "app", "policies": ["web"]}],
            **rest}


@pytest.fixture(params=["h1", "h2"])
def version(request):
    return request.param


@pytest.fixture(params=[BINARY, TEXT], ids=["binary", "text"])
def form(request):
    return request.param


@pytest.fixture
def server():
    made = grpcsite.Server()
    yield made
    made.stop()


@pytest.fixture
def site(weir, server, version, form):
    proxy = weir(conf(server.address))
    return proxy, server, Caller(proxy.port, version, form)


@pytest.fixture
def origins():
    made = []

    def make(play):
        made.append(Plays(play))
        return made[-1]
    yield make
    for each in made:
        each.stop()


def method(name):
    return "/%s/%s" % (grpcsite.SERVICE, name)


# ---- calls ----

@pytest.mark.parametrize("chunks", [0, 777])
def test_unary(site, form, chunks):
    proxy, _, call = site
    sizes = (0, 1, 2, 3, 999, 65536, 2 << 20)
    for size in sizes:
        message = b"".join(grpcsite.messages(1, size))
        answer = call(method("echo"), message, chunks=chunks)
        assert answer.status == 200 and answer.type == form.replace("+proto", "")
        assert answer.messages == [message]
        assert answer.trailers["grpc-status"] == "0"
        assert answer.trailers["x-sum"] == "%d" % len(message)
    record = proxy.logged(len(sizes), end="ok", rpc__grpc__status_code=0)
    assert record["rpc.system"] == "grpc"
    assert proxy.metric("weir_grpc_responses_total", pool="app", grpc_status="0") == len(sizes)


def test_streams_of_responses(site):
    _, _, call = site
    answer = call(method("spread"), b"2000 333")
    assert answer.messages == list(grpcsite.messages(2000, 333))
    assert answer.trailers == {"grpc-status": "0", **without_status(answer)}


def without_status(answer):
    return {k: v for k, v in answer.trailers.items() if k != "grpc-status"}


def test_statuses(site):
    """Behind a message, and where the endpoint's head is all: always a last frame."""
    proxy, _, call = site
    for name, messages in (("status", []), ("late", [b"one"])):
        answer = call(method(name), b"5 caf\xc3\xa9 100%")
        assert answer.status == 200 and answer.messages == messages
        assert answer.trailers["grpc-status"] == "5"
        assert answer.trailers["grpc-message"].replace(" ", "%20").lower() == \
            "caf%c3%a9%20100%25"
    proxy.logged(2, end="ok", rpc__grpc__status_code=5)


def test_what_the_endpoint_sees(weir, origins, version, form):
    def play(talker, stream, _request):
        talker.head(stream, [*GRPC[:1], ("content-type", "application/grpc+proto"),
                             ("grpc-status", "0"), ("x-more", "a")], end=True)
    origin = origins(play)
    proxy = weir(conf(origin.address))
    answer = Caller(proxy.port, version, form)("/s/m", b"x", [("grpc-timeout", "1H"),
                                                              ("x-mine", "v")])
    assert answer.type == form and answer.trailers == {"grpc-status": "0"}
    assert answer.fields["x-more"] == "a" and answer.fields["content-length"]
    seen = origin.requests[-1].headers
    assert seen["content-type"] == "application/grpc+proto" and seen["te"] == "trailers"
    assert seen["x-mine"] == "v" and seen[":path"] == "/s/m"
    assert "x-grpc-web" not in seen and "accept" not in seen
    assert seen["grpc-timeout"].endswith("m") and int(seen["grpc-timeout"][:-1]) <= 3600000
    assert ("content-length" in seen) == (form == BINARY)


def test_accept_chooses_the_form(weir, server, version):
    proxy = weir(conf(server.address))
    for asked, accept, form in ((BINARY, TEXT, TEXT), (TEXT, BINARY, BINARY), (TEXT, "*/*", TEXT),
                                (BINARY, "text/html, */*", BINARY)):
        call = Caller(proxy.port, version, asked)
        call.fields = lambda more, a=asked, b=accept: [("content-type", a), ("accept", b), *more]
        data, call.form = call.body(frame(b"hello")), form
        answer = call(method("echo"), body=data)
        assert answer.messages == [b"hello"] and answer.trailers["grpc-status"] == "0"


def test_a_message_comes_before_the_end(site):
    """A stream that goes on: what came can be read at once, also as text."""
    _, server, call = site
    conn = Talk(call.port)
    stream = conn.open("POST", method("hang"), call.fields(()), end=False)
    conn.send(stream, call.body(frame(b"one")), end=True)
    want = frame(b"one")
    size = len(base64.b64encode(want)) if "-text" in call.form else len(want)
    conn.until(lambda: len(stream.body) >= size)
    got = groups(bytes(stream.body)) if "-text" in call.form else bytes(stream.body)
    assert got == want and not stream.ended
    conn.reset(stream)
    assert server.service.gone.wait(GUARD)
    conn.close()


def test_http1_endpoints(weir, new_backend, version, form):
    """Trailers of a chunked body become the last frame too."""
    backend = new_backend()
    made = conf(backend.address)
    made["pools"]["app"]["connections"] = {"protocol": "http/1.1"}
    proxy = weir(made)
    head = ["Content-Type: application/grpc", "Transfer-Encoding: chunked", "Trailer: Grpc-Status"]
    backend.on("/chunked", raw(wire.response_bytes(
        fields=head, length=False,
        body=wire.chunked(frame(b"ab"), frame(b""), end=b"0\r\nGrpc-Status: 9\r\n\r\n"))))
    backend.on("/length", raw(wire.response_bytes(
        fields=["Content-Type: application/grpc"], body=frame(b"abc"))))
    call = Caller(proxy.port, version, form)
    answer = call("/chunked", b"question")
    assert answer.messages == [b"ab", b""] and answer.trailers == {"grpc-status": "9"}
    assert backend.last.body.data == frame(b"question") and "trailer" not in answer.fields
    assert backend.last.get("te") == "trailers"
    answer = call("/length", b"question")  # and no status at all
    assert answer.messages == [b"abc"] and answer.trailers is None


# ---- what is not gRPC-Web ----

def test_only_where_a_policy_says_so(weir, origins, version, form):
    def play(talker, stream, _request):
        talker.head(stream, [(":status", "200"), ("content-type", "text/plain")])
        talker.data(stream, b"plain", end=True)
    origin = origins(play)
    proxy = weir(conf(origin.address))
    call = Caller(proxy.port, version, form)
    for path, kind in (("/plain", form), ("/s/m", "application/json")):
        call.fields = lambda more, kind=kind: [("content-type", kind), ("x-grpc-web", "1"), *more]
        status, fields, body = (call.h2 if version == "h2" else call.h1)(
            path, call.fields(()), b"as it is", 0)
        assert status == 200 and body == b"plain"
        seen = origin.requests[-1].headers
        assert seen["content-type"] == kind
        assert seen["x-grpc-web"] == "1" and "te" not in seen


def test_an_endpoint_that_speaks_no_grpc(weir, origins, version, form):
    """Its answer passes as it is: clients know what to make of an HTTP status."""
    def play(talker, stream, _request):
        talker.head(stream, [(":status", "503"), ("content-type", "text/plain")])
        talker.data(stream, b"overloaded", end=True)
    proxy = weir(conf(origins(play).address))
    call = Caller(proxy.port, version, form)
    status, _, body = (call.h2 if version == "h2" else call.h1)(
        "/s/m", call.fields(()), call.body(EMPTY), 0)
    assert (status, body) == (503, b"overloaded")
    proxy.logged(status=503, rpc__grpc__status_code=14)


# ---- weir's own ----

def test_own_answers(weir, version, form):
    proxy = weir(conf("127.0.0.1:%d" % proc.free_port()))
    call = Caller(proxy.port, version, form)
    for path, status, word in (("/s/m", "14", "upstream.connect.refused"),
                               ("/no/m", "7", "proxy.denied.client")):
        answer = call(path, b"x", [("origin", PAGE)])
        assert answer.status == 200 and answer.type == form and answer.messages == []
        assert answer.trailers["grpc-status"] == status
        assert answer.trailers["grpc-message"].startswith(word)
        assert answer.fields["access-control-allow-origin"] == PAGE
        assert word in answer.fields["proxy-status"]
        proxy.ended(word, rpc__grpc__status_code=int(status))


@pytest.mark.parametrize("chunks", [0, 3])
@pytest.mark.parametrize("bad", [b"AAAA!AAA", b"AAAAAAA", b"AAAAAA=A", b"A"])
def test_what_is_no_base64(weir, origins, version, bad, chunks):
    origin = origins(lambda talker, stream, request: None)
    proxy = weir(conf(origin.address))
    answer = Caller(proxy.port, version, TEXT)("/s/m", body=bad, chunks=chunks)
    assert answer.trailers["grpc-status"] == "13"
    assert answer.trailers["grpc-message"].startswith("client.bad_request.grpc_web")
    proxy.ended("client.bad_request.grpc_web")


def test_deadlines(site):
    """The endpoint hears of it, and ends its call or has it cancelled."""
    _, server, call = site
    for message in (b"", b"one"):
        server.service.gone.clear()
        answer = call(method("hang"), message, [("grpc-timeout", "400m")])
        assert answer.trailers["grpc-status"] == "4"
        assert answer.messages == ([message] if message else [])
        assert server.service.gone.wait(GUARD)
    assert call("/s/m", b"", [("grpc-timeout", "soon")]).trailers["grpc-status"] == "13"


def test_deadlines_of_an_endpoint_that_hangs(weir, origins, version, form):
    def play(talker, stream, request):
        if request.path == "/begun":
            talker.head(stream)
            talker.data(stream, frame(b"one"))
    origin = origins(play)
    proxy = weir(conf(origin.address))
    for path, messages in (("/silent", []), ("/begun", [b"one"])):
        origin.came.clear()
        answer = Caller(proxy.port, version, form)(path, b"x", [("grpc-timeout", "200m")])
        assert answer.trailers["grpc-message"].startswith("client.deadline")
        assert answer.trailers["grpc-status"] == "4" and answer.messages == messages
        assert origin.came.wait(GUARD)
    proxy.logged(2, end="client.deadline", rpc__grpc__status_code=4)


def test_cut_between_messages(weir, origins, version, form):
    def play(talker, stream, _request):
        talker.head(stream)
        talker.data(stream, frame(b"whole"))
        talker.reset(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
    proxy = weir(conf(origins(play).address))
    answer = Caller(proxy.port, version, form)("/s/m", b"x")
    assert answer.messages == [b"whole"] and answer.trailers["grpc-status"] == "13"
    assert answer.trailers["grpc-message"].startswith("upstream.h2.rst_stream")
    proxy.logged(end="upstream.h2.rst_stream", rpc__grpc__status_code=13)


def test_cut_inside_a_message(weir, origins, form):
    """A frame of weir's would be read as the rest of it: the response is cut."""
    def play(talker, stream, _request):
        talker.head(stream)
        talker.data(stream, frame(b"not whole")[:9])
        talker.reset(stream, h2.errors.ErrorCodes.INTERNAL_ERROR)
    proxy = weir(conf(origins(play).address))
    call = Caller(proxy.port, "h2", form)
    with pytest.raises(Reset):
        call("/s/m", b"x")
    with proxy.client() as conn:
        conn.send(wire.request_bytes("POST", "/s/m", ["%s: %s" % row for row in call.fields(())],
                                     call.body(EMPTY)))
        assert not conn.response("POST", truncated_ok=True).complete


# ---- browsers ----

def test_preflight(site):
    proxy, _, call = site
    answer = proxy.request("OPTIONS", method("echo"), [
        "Origin: " + PAGE, "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: content-type,x-grpc-web"])
    assert answer.status == 204 and answer.get("access-control-allow-origin") == PAGE
    assert "x-grpc-web" in answer.get("access-control-allow-headers")
    answer = call(method("echo"), b"hello", [("origin", PAGE)])
    assert answer.messages == [b"hello"] and answer.fields["access-control-allow-origin"] == PAGE
    assert answer.fields["access-control-expose-headers"] == "grpc-status, grpc-message"


def test_node(weir, server, form):
    """fetch, as a browser has it."""
    proxy = weir(conf(server.address))

    def call(name, message):
        out = subprocess.run(["node", servers.TOOLS / "grpc_web_client.js",
                              "http://127.0.0.1:%d%s" % (proxy.port, method(name)), form, message],
                             stdout=subprocess.PIPE, timeout=60, check=True).stdout
        return json.loads(out)
    out = call("spread", "300 50")
    assert (out["status"], out["rest"], len(out["messages"])) == (200, 0, 300)
    assert out["messages"][7] == list(grpcsite.messages(8, 50))[7].decode()
    assert out["trailers"]["grpc-status"] == "0"
    out = call("status", "8 later")
    assert out["messages"] == [] and out["trailers"]["grpc-message"] == "later"


# ---- memory ----

class SlowH1:
    """Reads nothing until rest() reads all."""

    def __init__(self, call, path, data):
        self.conn = http.client.HTTPConnection("127.0.0.1", call.port, timeout=GUARD)
        self.conn.request("POST", path, data, dict(call.fields(())))

    def rest(self):
        body = self.conn.getresponse().read()
        self.conn.close()
        return body


class SlowH2:
    """Gives no window back until rest() reads all."""

    def __init__(self, call, path, data):
        self.conn = Talk(call.port)
        self.conn.hold = True
        self.stream = self.conn.open("POST", path, call.fields(()), end=False)
        self.conn.send(self.stream, data, end=True)

    def rest(self):
        self.conn.hold = False
        if self.stream.body:
            self.conn.h2.acknowledge_received_data(len(self.stream.body), self.stream.number)
            self.conn.flush()
        self.conn.whole(self.stream)
        self.conn.close()
        return bytes(self.stream.body)


@pytest.mark.parametrize("count", [4000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_a_slow_reader_needs_no_memory(weir, server, version, form, count):
    """The endpoint waits until the caller reads; what came is whole then."""
    proxy = weir(conf(server.address, process={"workers": 1}))
    call = Caller(proxy.port, version, form)
    call(method("spread"), b"100 1000")
    before = proc.memory_kib(proxy.pid, "Rss")
    slow = {"h1": SlowH1, "h2": SlowH2}[version](call, method("spread"),
                                                 call.body(frame(b"%d 1000" % count)))
    peak = []

    def looked():
        """memory was looked at often enough while nobody reads"""
        peak.append(proc.memory_kib(proxy.pid, "Rss"))
        return len(peak) > 20
    eventually(looked, every=0.05)
    assert max(peak) - before < 12 * 1024, (before, peak)
    body = slow.rest()
    messages, trailers = parts(groups(body) if form == TEXT else body)
    assert grpcsite.digest(messages) == grpcsite.digest(grpcsite.messages(count, 1000))
    assert trailers["grpc-status"] == "0"
    assert proc.memory_kib(proxy.pid, "Rss") - before < 12 * 1024
