"""Early data (0-RTT): which requests go on before the handshake is done, what they say to the
endpoint, what waits, what a replay gets. RFC 8470, RFC 8446 section 8; THREATS.md row 29. The
client is openssl s_client; the wire is the test's."""
import pytest

from harness import h2wire, proc, wire, zerortt
from harness.weir import eventually, run

GET = b"GET /early HTTP/1.1\r\nHost: a.example\r\n\r\n"
ANSWER = b"GET /"


class Site:
    def __init__(self, make, work, authority, *backends, tls=None, alpn=None, **conf):
        self.port = proc.free_port()
        rows = [dict(names=["a.example"], **authority.leaf(["a.example"]))]
        settings = {"certificates": rows, "early_data": True, **(tls or {})}
        listeners = {"tls": {"bind": "127.0.0.1:%d" % self.port, "tls": settings}}
        self.weir = make({"listeners": listeners, **conf}, *backends)
        self.zero = zerortt.Zero(work, self.port, authority, alpn=alpn)

    def count(self, result):
        return self.weir.metric("weir_tls_early_data_total", result=result) or 0

    def requests(self, result):
        return self.weir.metric("weir_early_requests_total", result=result) or 0


@pytest.fixture
def site(weir, work, authority):
    made = []

    def make(*backends, **options):
        made.append(Site(weir, work, authority, *backends, **options))
        return made[-1]
    yield make
    for each in made:
        each.zero.stop()


def session_of(made):
    return made.zero.session(b"GET /first HTTP/1.1\r\nHost: a.example\r\n\r\n", ANSWER + b"first")


def test_safe_request_is_forwarded_and_marked(site, backend):
    """The endpoint has it while the client has not heard a byte of weir's handshake."""
    made = site(backend)
    session = session_of(made)
    tap = zerortt.Tap(made.port, hold=True)
    visit = made.zero.early(session, GET, tap)
    eventually(lambda: any(r.target == b"/early" for r in backend.requests))
    request = [r for r in backend.requests if r.target == b"/early"][0]
    assert request.get("early-data") == "1"
    assert backend.requests[0].get("early-data") is None
    tap.release()
    visit.until(ANSWER + b"early")
    assert b"Early data was accepted" in visit.until(b"Early data was")
    record = made.weir.logged(1, path="/early")
    assert record["tls.early_data"] is True and record["tls.resumed"] is True
    assert "tls.early_data" not in made.weir.logged(1, path="/first")
    assert made.count("accepted") == 1 and made.requests("forwarded") == 1
    visit.process.stdin.write(b"GET /later HTTP/1.1\r\nHost: a.example\r\n\r\n")
    visit.process.stdin.flush()
    visit.until(ANSWER + b"later")
    assert backend.requests[-1].get("early-data") is None
    assert "tls.early_data" not in made.weir.logged(1, path="/later")


UNSAFE = [
    ("POST", b"POST /w HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbody"),
    ("DELETE", b"DELETE /w HTTP/1.1\r\nHost: a.example\r\n\r\n"),
    ("GET", b"GET /w HTTP/1.1\r\nHost: a.example\r\nContent-Length: 4\r\n\r\nbody"),
    ("GET", b"GET /w HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")]


@pytest.mark.parametrize("method,request_bytes", UNSAFE,
                         ids=["POST", "DELETE", "GET with a body", "GET that closes"])
def test_others_wait_for_the_handshake(site, backend, method, request_bytes):
    made = site(backend)
    session = session_of(made)
    tap = zerortt.Tap(made.port, hold=True)
    visit = made.zero.early(session, request_bytes, tap)
    eventually(lambda: made.count("accepted") == 1)
    eventually(lambda: made.weir.metric("weir_requests_inflight") == 1)
    assert [r.target for r in backend.requests] == [b"/first"]
    tap.release()
    visit.until(("%s /w" % method).encode())
    got = backend.requests[-1]
    assert got.method == method and got.get("early-data") is None
    assert made.requests("waited") == 1 and made.requests("forwarded") == 0
    assert made.weir.logged(1, path="/w")["tls.early_data"] is True


def test_who_never_ends_the_handshake_is_cut(site, backend):
    made = site(backend)
    session = session_of(made)
    made.weir.change(listeners={"tls": {"timeouts": {"handshake": "300ms"}}})
    made.weir.reload()
    tap = zerortt.Tap(made.port, hold=True)
    made.zero.early(session, UNSAFE[0][1], tap)
    assert made.weir.ended("client.tls.timeout", path="/w")["tls.early_data"] is True
    assert [r.target for r in backend.requests] == [b"/first"]


def test_a_handshake_that_breaks_ends_what_waits(site, backend):
    made = site(backend)
    session = session_of(made)
    tap = zerortt.Tap(made.port, hold=True)
    made.zero.early(session, UNSAFE[0][1], tap)
    eventually(lambda: made.weir.metric("weir_requests_inflight") == 1)
    tap.far.sendall(b"\x17\x03\x03\x00\x20" + b"z" * 32)
    record = made.weir.ended("client.tls.handshake", path="/w")
    assert record["tls.early_data"] is True and record["weir.reason"]
    assert [r.target for r in backend.requests] == [b"/first"]


def test_replay_is_refused(site, backend):
    """A captured first flight reaches the endpoint once, however often it is sent: its ticket is
    spent. The connection itself is an ordinary one that never ends its handshake."""
    made = site(backend, process={"workers": 2})
    session = session_of(made)
    tap = zerortt.Tap(made.port, hold=True)
    made.zero.early(session, GET, tap)
    eventually(lambda: made.count("accepted") == 1)
    copies = [zerortt.replay(made.port, tap.flight) for _ in range(20)]
    for copy in copies:
        assert copy.recv(1) == b"\x16"  # a ServerHello: it is answered, but not believed
    assert [r.target for r in backend.requests].count(b"/early") == 1
    assert made.count("accepted") == 1
    for copy in copies:
        copy.close()
    eventually(lambda: made.count("replayed") == 20)


def test_ticket_is_good_for_early_data_once(site, backend):
    """An honest client that uses a ticket again is served after the handshake."""
    made = site(backend)
    session = session_of(made)
    first = made.zero.early(session, GET)
    first.until(ANSWER + b"early")
    again = made.zero.early(session, GET)
    assert b"Early data was rejected" in again.until(b"Early data was")
    eventually(lambda: made.count("replayed") == 1)  # it says so before our side has its Finished
    assert made.count("accepted") == 1
    again.process.stdin.write(GET)
    again.process.stdin.flush()
    again.until(ANSWER + b"early")
    assert [r.get("early-data") for r in backend.requests] == [None, "1", None]


def test_shared_keys_wait_after_a_start(site, backend, work):
    """A ticket may be older than the process, which does not know what the one before has seen."""
    path = work / "ticket.key"
    path.touch(mode=0o600)
    path.write_bytes(bytes(range(80)))
    made = site(backend, tls={"ticket_keys": ["file:%s" % path]})
    visit = made.zero.early(session_of(made), GET)
    assert b"Early data was rejected" in visit.until(b"Early data was")
    eventually(lambda: made.count("refused") == 1)
    assert made.count("accepted") == 0


def test_off_by_default(site, backend):
    made = site(backend, tls={"early_data": None})
    session = session_of(made)
    assert b"Early data was not sent" in made.zero.early(session, GET).until(b"Early data was")
    assert made.count("accepted") == 0


def test_none_where_clients_are_asked_for_certificates(site, backend, authority):
    """A replay would speak in the name of the certificate."""
    row = {"names": "a.example", "ca": "file:%s" % authority.path, "verify": "optional"}
    made = site(backend, tls={"client": [row]})
    session = session_of(made)
    assert b"Early data was not sent" in made.zero.early(session, GET).until(b"Early data was")
    assert made.count("accepted") == 0


def test_more_than_the_bound_is_no_early_data(site, backend):
    """s_client keeps to the bound of the ticket (14336 bytes); a client that does not is cut."""
    made = site(backend)
    session = session_of(made)
    head = b"GET /big HTTP/1.1\r\nHost: a.example\r\nX: "
    visit = made.zero.early(session, head + b"x" * 14400)
    visit.process.wait(60)
    assert [r.target for r in backend.requests] == [b"/first"]
    assert made.weir.get("/still").status == 200


def test_policy_waits(site, backend):
    made = site(backend, policies={"slow": {"early_data": "wait"}}, routes=[
        {"name": "all", "prefix": "/", "pool": "app", "policies": ["slow"]}])
    session = session_of(made)
    tap = zerortt.Tap(made.port, hold=True)
    visit = made.zero.early(session, GET, tap)
    eventually(lambda: made.count("accepted") == 1)
    eventually(lambda: made.weir.metric("weir_requests_inflight") == 1)
    assert [r.target for r in backend.requests] == [b"/first"]
    tap.release()
    visit.until(ANSWER + b"early")
    assert backend.requests[-1].get("early-data") is None


def test_policy_refuses(site, backend):
    """425 before the handshake is done; the same connection is served afterwards."""
    made = site(backend, policies={"late": {"early_data": "refuse"}}, routes=[
        {"name": "all", "prefix": "/", "pool": "app", "policies": ["late"]}])
    session = session_of(made)
    tap = zerortt.Tap(made.port, hold=True)
    visit = made.zero.early(session, GET, tap)
    record = made.weir.ended("client.too_early", path="/early")
    assert record["http.response.status_code"] == 425 and record["tls.early_data"] is True
    tap.release()
    visit.until(b"HTTP/1.1 425 Too Early")
    visit.process.stdin.write(GET)
    visit.process.stdin.flush()
    visit.until(ANSWER + b"early")
    assert [r.target for r in backend.requests] == [b"/first", b"/early"]
    assert made.requests("refused") == 1


def test_early_by_word_of_the_one_in_front(site, backend):
    """What another proxy saw come early it says itself (RFC 8470 section 5.1)."""
    made = site(backend, policies={"late": {"early_data": "refuse"}}, routes=[
        {"name": "all", "prefix": "/", "pool": "app"},
        {"name": "late", "prefix": "/late", "pool": "app", "policies": ["late"]}])
    assert made.weir.request("GET", "/late", fields=["Early-Data: 1"]).status == 425
    assert made.weir.request("GET", "/open", fields=["Early-Data: 1"]).status == 200
    assert backend.requests[-1].all("early-data") == ["1"]
    session = session_of(made)
    own = b"GET /both HTTP/1.1\r\nHost: a.example\r\nEarly-Data: 1\r\n\r\n"
    made.zero.early(session, own).until(ANSWER + b"both")
    assert backend.requests[-1].all("early-data") == ["1"]


@pytest.mark.parametrize("fields", [b"Early-Data: 0", b"Early-Data: 0\r\nEarly-Data: 1",
                                    b"early-data:", b"Early_DATA: 0", b"early_data: 1"])
def test_early_whatever_the_client_says(site, backend, fields):
    """It cannot talk an endpoint out of its 425 (RFC 8470 section 5.1)."""
    made = site(backend)
    own = b"GET /own HTTP/1.1\r\nHost: a.example\r\n%s\r\n\r\n" % fields
    made.zero.early(session_of(made), own).until(ANSWER + b"own")
    assert backend.requests[-1].all("early-data") == ["1"]
    assert not backend.requests[-1].all("early_data")


def test_425_of_the_endpoint_is_the_clients(site, new_backend):
    """It is passed on, never tried again, whatever the pool retries."""
    seen = []

    def early(_conn, request):
        seen.append(request.get("early-data"))
        status = 425 if request.get("early-data") else 200
        return wire.response_bytes(status, body=b"GET /first" if status == 200 else b"early!")
    backends = [new_backend(early), new_backend(early)]
    made = site(*backends, pools={"app": {"retry": {"attempts": 3, "on": ["425", "5xx"]}}})
    session = session_of(made)
    visit = made.zero.early(session, GET)
    visit.until(b"HTTP/1.1 425")
    visit.until(b"early!")
    assert seen == [None, "1"]
    assert made.weir.logged(1, path="/early")["http.response.status_code"] == 425


def h2_request(method, path, stream, body=b""):
    block = h2wire.block([(":method", method), (":scheme", "https"),
                          (":authority", "a.example"), (":path", path)])
    return h2wire.headers(stream, block, end=not body) + (
        h2wire.data(stream, body, end=True) if body else b"")


def test_http2(site, backend):
    """On one connection the safe go on, the others wait, and all are answered."""
    made = site(backend, alpn="h2")
    opening = h2wire.PREFACE + h2wire.settings()
    session = made.zero.session(opening + h2_request("GET", "/first", 1), ANSWER + b"first")
    tap = zerortt.Tap(made.port, hold=True)
    visit = made.zero.early(session, opening + h2_request("GET", "/a", 1) + h2_request(
        "POST", "/b", 3, b"body") + h2_request("HEAD", "/c", 5), tap)
    eventually(lambda: len(backend.requests) == 3)
    early = {r.target: r for r in backend.requests[1:]}
    assert set(early) == {b"/a", b"/c"}
    assert all(r.get("early-data") == "1" for r in early.values())
    eventually(lambda: made.weir.metric("weir_downstream_http2_streams") == 1)
    tap.release()
    visit.until(b"POST /b")
    assert backend.requests[-1].get("early-data") is None
    assert made.requests("forwarded") == 2 and made.requests("waited") == 1
    assert made.weir.logged(1, path="/b")["tls.early_data"] is True


def test_where_it_means_nothing(weir, work, authority):
    leaf = authority.leaf(["a.example"])
    over = {"certificates": [leaf], "early_data": True}
    cases = [("W0195", {"tls": dict(over, max_version="1.2")}),
             ("W0181", {"tls": over, "protocol": "tcp", "pool": "app"})]
    for code, listener in cases:
        made = weir({"listeners": {"tls": dict(bind="127.0.0.1:1", **listener)},
                     "pools": {"app": {"endpoints": ["127.0.0.1:9"]}}}, start=False)
        result = run("check", made.path)
        assert result.returncode and code in result.stdout + result.stderr, result
