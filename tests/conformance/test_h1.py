"""Every row of h1_cases.def through the real proxy, before a strict recording backend and a strict
client: what the table accepts arrives as it says, what it refuses is answered with its word and
reaches nobody, and nobody ever gets bytes that do not parse. RFC 9110, RFC 9112."""
import collections
import random

import pytest

import h1_cases
from harness import wire
from harness.weir import GUARD, eventually

CASES = h1_cases.cases()
SHARED_CONF = {"pools": {"app": {"timeouts": {"first_byte": "5s"}, "limits": {"headers": 100}}}}


def rows(kind):
    found = [case for case in CASES if case.kind == kind]
    assert found, kind
    return pytest.mark.parametrize("case", found, ids=[case.name for case in found])


def head_lines(message, start):
    """Whole lines of a head as the receiver got it."""
    return {start} | {name + b": " + value for name, value in message.fields}


def request_lines(request):
    return head_lines(request, b"%s %s HTTP/1.1" % (request.method.encode(), request.target))


def response_lines(response):
    return head_lines(response,
                      ("HTTP/1.1 %d %s" % (response.status, response.reason)).encode("latin-1"))


def trailer_lines(message):
    return {name + b": " + value for name, value in message.trailers}


def check_passed(case, lines, bodies):
    """sees stands there as whole lines; hides stands nowhere, whatever its letters' case."""
    for want in case.sees:
        assert want in lines, "%r is not in %r" % (want, lines)
    everything = b"\n".join(sorted(lines) + bodies).lower()
    for hidden in case.hides:
        assert hidden not in everything, "%r was passed on" % hidden
    if case.body is not None:
        assert bodies == [case.body]


def methods_of(case):
    """The methods of the requests in a row, to read their responses rightly (HEAD)."""
    first = case.raw.lstrip(b"\r\n").split(b" ")[0].decode("latin-1")
    return [first] + ["GET"] * (case.count - 1)


def accepted(pair, case, send):
    conn = pair.client()
    send(conn)
    minor = 0 if b"HTTP/1.0\r\n" in case.raw.split(b"\n")[0] + b"\n" else 1
    responses = [conn.response(method, minor) for method in methods_of(case)]
    assert [r.status for r in responses] == [200] * case.count
    requests = pair.backend.requests
    assert len(requests) == case.count and all(r.complete for r in requests)
    lines = set().union(*map(request_lines, requests), *map(trailer_lines, requests))
    check_passed(case, lines, [r.body.data for r in requests])
    pair.logged(case.count, end="ok", status=200)
    return conn


@rows("REQUEST_OK")
def test_request_ok(pair, case):
    conn = accepted(pair, case, lambda c: c.send(case.raw))
    if b"HTTP/1.0" not in case.raw and b"close" not in case.raw.lower():
        assert conn.get("/the-next").body == b"GET /the-next"


def refused(pair, case, send):
    conn = pair.client()
    send(conn)
    response = conn.response()
    assert response.status == case.status and response.get("connection") == "close"
    conn.expect_close()
    assert pair.logged(status=case.status)["weir.end"] == case.end
    for request in pair.backend.requests:
        assert pair.backend.conns[request.connection].ended.wait(GUARD)
        assert not request.complete


@rows("REQUEST_BAD")
def test_request_bad(pair, case):
    refused(pair, case, lambda c: c.try_send(case.raw))
    if b"\r\n\r\n" not in case.raw.rstrip(b"\r\n"):
        assert not pair.backend.requests


@rows("REQUEST_CUT")
def test_request_cut(pair, case):
    """The client ends here: a response may come, a whole message may not go on."""
    conn = pair.client()
    conn.send(case.raw)
    conn.half_close()
    data = conn.read_all()
    if data:
        assert data.startswith(b"HTTP/1.1 400 ")
    for request in pair.backend.requests:
        assert pair.backend.conns[request.connection].ended.wait(GUARD)
        assert not request.complete


def pieces(raw, seed):
    """raw cut at a few places, chosen by seed."""
    chance = random.Random(seed)
    cuts = sorted({chance.randrange(1, max(2, len(raw))) for _ in range(6)})
    return [raw[a:b] for a, b in zip([0] + cuts, cuts + [len(raw)]) if a < b]


def send_pieces(conn, raw, seed):
    for part in pieces(raw, seed):
        if not conn.try_send(part):
            return


def backend_settled(pair):
    """The backend has seen each connection to it, and the end of each that weir ended: no head is
    on its way that belongs to a case before."""
    conns = list(pair.backend.conns)
    still = sum(not conn.ended.is_set() for conn in conns)
    return (len(conns), still) == (pair.weir.metric("weir_upstream_connects_total"),
                                   pair.weir.metric("weir_upstream_connections"))


@pytest.mark.parametrize("seed", range(4))
def test_requests_in_pieces(pair, seed):
    """However a message is cut, the verdict is the same."""
    chosen = [c for c in CASES if c.kind in ("REQUEST_OK", "REQUEST_BAD") and len(c.raw) < 4000]
    for case in chosen[seed::4]:
        eventually(lambda: backend_settled(pair))
        pair.backend.requests.clear()
        pair.weir.mark = len(pair.weir.all_lines())
        judge = accepted if case.kind == "REQUEST_OK" else refused
        try:
            judge(pair, case, lambda c, case=case: send_pieces(c, case.raw, case.name + str(seed)))
        except (AssertionError, wire.Violation, wire.Truncated) as error:
            raise AssertionError("%s in pieces: %s" % (case.name, error)) from error


def answer(pair, case):
    """The backend sends the row and ends; what the client gets, cut or not."""
    def handler(conn, _request):
        conn.send(case.raw)
        conn.close()
    pair.backend.default = handler
    conn = pair.client()
    conn.send(wire.request_bytes(case.method, "/case"))
    return conn, conn.response(case.method, truncated_ok=True)


def still_serves(pair):
    pair.backend.default = lambda _conn, _request: wire.response_bytes(body=b"clean")
    for _ in range(2):
        assert pair.get("/after").body == b"clean"


@rows("RESPONSE_OK")
def test_response_ok(pair, case):
    _, response = answer(pair, case)
    assert response.complete
    check_passed(case, response_lines(response), [response.body])
    pair.logged(end="ok", path="/case", status=response.status)
    still_serves(pair)


@rows("RESPONSE_BAD")
def test_response_bad(pair, case):
    """status 0: the head may have gone out; then the body is cut."""
    _, response = answer(pair, case)
    if case.status:
        assert response.status == case.status and response.complete
    else:
        assert response.status == 502 or not response.complete
    assert "evil" not in repr(response).lower()
    assert pair.logged(path="/case")["weir.end"] == case.end
    still_serves(pair)


@rows("RESPONSE_CUT")
def test_response_cut(pair, case):
    _, response = answer(pair, case)
    assert response.status == 502 or not response.complete
    assert pair.logged(path="/case")["weir.end"].startswith("upstream.")
    still_serves(pair)


def test_enough_rows():
    """Shows of issue 2: at least 200."""
    kinds = collections.Counter(case.kind for case in CASES)
    assert sum(kinds.values()) >= 200 and len(kinds) == 6, kinds


def test_log_and_counters_agree(pair):
    """After all of the above: each end word was counted as often as it was logged."""
    assert pair.get("/last").status == 200
    pair.logged(path="/last")

    def agree():
        """weir_request_end_total equals the log, word by word"""
        logged = collections.Counter(r["weir.end"] for r in pair.weir.all_lines())
        series = pair.weir.metrics().series("weir_request_end_total")
        return {dict(key)["end"]: int(n) for key, n in series.items() if n} == dict(logged)
    eventually(agree)
