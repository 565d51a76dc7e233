"""The path policy from outside: every row of path_cases.def through weir to a recording backend,
each option of listeners.*.paths, and no way round a protected prefix by encoding (THREATS.md row
18). What is matched, logged and forwarded are the same bytes."""
import itertools
import pathlib
import re

import pytest

from harness import proc, wire
from harness.weir import ROOT

TABLE = ROOT / "tests/unit/http/path_cases.def"
WORDS = {"k": ("slashes", "keep"), "r": ("slashes", "refuse"), "e": ("encoded_slash", "keep"),
         "d": ("dot_segments", "refuse"), "u": ("utf8", "any")}
ROW = re.compile(r'^(SAME|MADE|REFUSED)\("((?:[^"\\]|\\.)*)", "(\w*)"(?:, "((?:[^"\\]|\\.)*)")?\)',
                 re.MULTILINE)


def plain(text):
    return text.encode("ascii").decode("unicode_escape")


CASES = [(m[2], plain(m[2]), m[3], plain(m[2] if m[1] == "SAME" else m[4]), m[1] != "REFUSED")
         for m in ROW.finditer(pathlib.Path(TABLE).read_text())]
POLICIES = sorted({case[2] for case in CASES})
PORTS = {policy: proc.free_port() for policy in POLICIES if policy}
SHARED_CONF = {"listeners": {"l" + policy: {"bind": "127.0.0.1:%d" % port,
                                            "paths": dict(WORDS[c] for c in policy)}
                             for policy, port in PORTS.items()}}


def test_table_is_read():
    assert len(CASES) >= 120 and len(POLICIES) >= 6


PATHS = [case for case in CASES if "?" not in case[1]]  # from outside that begins the query


@pytest.mark.parametrize("path,policy,want,good", [case[1:] for case in PATHS],
                         ids=["%s [%s]" % (case[0], case[2]) for case in PATHS])
def test_path(pair, path, policy, want, good):
    conn = pair.client(PORTS.get(policy))
    conn.send(wire.request_bytes(target=path))
    response = conn.response()
    if good:
        assert response.status == 200 and pair.backend.last.target == want.encode()
        assert pair.ended("ok")["url.path"] == want
        return
    assert response.status == 400 and not pair.backend.requests
    raw = any(not 0x20 < ord(c) < 0x7f for c in path)  # then it is no target to begin with
    record = pair.logged(status=400)
    if not raw:
        assert record["weir.end"] == "client.bad_request.path" + want
    conn.expect_close()


# ---- no bypass ----

GUARDED = {"listeners": {}, "routes": [
    {"name": "guard", "prefix": "/admin", "respond": {"status": 403}},
    {"name": "all", "prefix": "/", "pool": "app"}]}

ADMIN = [
    "/admin", "/admin/", "/admin/x", "/admin?x", "/admin/?x=/", "//admin", "///admin", "/./admin",
    "/.//admin", "//./admin", "/x/../admin", "/x/..//admin", "/x/./../admin", "/x/y/../../admin",
    "/admin/.", "/admin/./", "/admin/x/..", "/admin/../admin", "/admin//", "/admin//x", "/%61dmin",
    "/%61%64%6d%69%6e", "/%61%64%6D%69%6E", "/a%64min", "/admi%6e", "/admin%2f", "/admin%2Fx",
    "/%2fadmin", "/%2Fadmin", "/x%2f..%2fadmin", "/x/..%2fadmin", "/x%2f../admin", "/%2e/admin",
    "/%2E/admin", "/x/%2e%2e/admin", "/x/%2E%2E/admin", "/x/.%2e/admin", "/x/%2e./admin",
    "/%2e%2f/admin", "/..;/admin", "/x/..;/admin", "/x/..;y/admin", "/x/..%3b/admin",
    "/x/%2e%2e;/admin", "/.;/admin", "/\\admin", "/x\\..\\admin", "/%5cadmin", "/%5Cadmin",
    "/x%5c..%5cadmin", "/x/..%5cadmin", "/admin%5c", "/admin\\", "/admin%00", "/admin%00.png",
    "/%00admin", "/admin%0a", "/admin%0d%0a", "/admin%09", "/x/..%00/admin", "/admin#",
    "/x#/../admin", "/x/..%c0%af../admin", "/..%c0%afadmin", "/x%c0%ae%c0%ae/admin",
    "/x/%c0%ae%c0%ae/admin", "/x/%e0%80%ae%e0%80%ae/admin", "/%e0%80%afadmin", "/%c1%a1dmin",
    "/%u0061dmin", "/x/..%u2215admin", "/%ff/../admin", "/%/../admin", "/x/%2e%2e%2fadmin",
    "/x/%2e%2e%5cadmin", "/admin/%2e%2e/admin",
    "/../admin", "/../../admin", "/x/../../admin", "/%2e%2e/admin", "//../admin",
    "http://test.example/admin", "http://test.example//admin", "http://test.example/x/../admin",
    "http://test.example/%61dmin",
]

# Other names than /admin, however much they look like it: forwarded, byte for byte as matched.
OTHERS = [("/Admin", "/Admin"), ("/administrator", "/administrator"), ("/admin%20", "/admin%20"),
          ("/%2561dmin", "/%2561dmin"), ("/x;/../%2561dmin", "/%2561dmin"),
          ("/;/admin", "/;/admin"), ("/admin;x", "/admin;x"), ("/x/admin", "/x/admin"),
          ("/%c3%a1dmin", "/%C3%A1dmin"),
          ("/x%3F/../y", "/y"), ("/adm%69n%2e", "/admin."), ("/x?/../admin", "/x?/../admin")]


def lenient(target):
    """The path as the most obliging of backends reads it: decoded twice, backslashes, empty
    segments, parameters and dots resolved."""
    path = target.split("?")[0].split("#")[0]
    if path.startswith("http://"):
        path = "/" + path[7:].partition("/")[2]
    path = re.sub("%([0-9a-fA-F]{2})", lambda m: chr(int(m[1], 16)), path).replace("\\", "/")
    parts = []
    for part in path.split("/"):
        name = part.split(";")[0]
        if name == "..":
            parts[-1:] = []
        elif name not in ("", "."):
            parts.append(name)
    return "/" + "/".join(parts)


def test_enough_encodings():
    assert len(ADMIN) >= 60 and len(set(ADMIN)) == len(ADMIN)


@pytest.mark.parametrize("options", [{}, {"slashes": "refuse", "dot_segments": "refuse"}],
                         ids=["default", "strict"])
def test_no_bypass(weir, backend, options):
    """Whatever spells /admin gets 403 or 400, never the backend."""
    conf = {**GUARDED, "listeners": {"web": {"paths": options}}}
    proxy = weir(conf, backend)
    got = {}
    for target in ADMIN:
        with proxy.client() as conn:
            conn.send(wire.request_bytes(target=target))
            got[target] = conn.response().status
    assert {t: s for t, s in got.items() if s not in (400, 403)} == {}
    assert not backend.requests
    assert sum(s == 403 for s in got.values()) >= (12 if options.get("slashes") else 20)
    for target in ("/Admin", "/x"):
        assert proxy.get(target).status == 200


def test_others_arrive_as_matched(weir, backend):
    proxy = weir(GUARDED, backend)
    for sent, arrives in OTHERS:
        assert proxy.get(sent).status == 200, sent
        assert backend.last.target == arrives.encode()
        assert proxy.logged(path=arrives.split("?")[0])["http.route"] == "all"


def test_no_bypass_by_any_mix(weir, backend):
    """Thousands of mixes of the pieces: what arrives is never /admin to an obliging backend, and
    is its own canonical form: sent again it arrives the same."""
    proxy = weir({"routes": GUARDED["routes"]}, backend)
    pieces = ["/", "//", "/.", "/..", "/%2e", "/%2e%2e", "/.%2E", "/x", "/admin", "/%61dmin",
              "%2f", "%5c", ";", "/..;"]
    conn = proxy.client()
    arrived = set()
    for mix in itertools.product(pieces, repeat=3):
        target = "".join(mix)
        if not target.startswith("/"):
            continue
        conn.send(wire.request_bytes(target=target))
        response = conn.response()
        assert response.status in (200, 400, 403), target
        if response.status == 200:
            arrived.add(backend.last.target.decode())
        if response.get("connection") == "close":
            conn = proxy.client()
    assert len(arrived) > 20
    for target in arrived:
        # Parameters stay: a backend that cuts them off wants test_parameters_can_be_refused.
        assert not re.match(r"/admin(/|$)", lenient(target)) or ";" in target, target
        assert "//" not in target and "%2F" not in target.upper(), target
        assert proxy.get(target).status == 200 and backend.last.target == target.encode()


def test_parameters_can_be_refused(weir, backend):
    """For backends that take "/admin;x" for /admin, one regex route says no (match.md)."""
    proxy = weir({"routes": [{"name": "parameters", "regex": "(?i);|%3b",
                              "respond": {"status": 400}}] + GUARDED["routes"]}, backend)
    for target in ("/admin;x", "/;/admin", "/;x/admin", "/x/;/../admin;", "/%61dmin%3bx"):
        assert proxy.get(target).status == 400, target
    assert not backend.requests and proxy.get("/x?a;b").status == 200


# ---- each option by name ----

OPTIONS = [
    # option, value, sent, forwarded path or end word
    ("slashes", "merge", "/a//b", "/a/b"),
    ("slashes", "keep", "/a//b", "/a//b"),
    ("slashes", "refuse", "/a//b", "client.bad_request.path_slashes"),
    ("encoded_slash", "refuse", "/a%2fb", "client.bad_request.path_encoded_slash"),
    ("encoded_slash", "keep", "/a%2fb", "/a%2Fb"),
    ("encoded_slash", "keep", "/a%2f../b", "client.bad_request.path_dots"),
    ("dot_segments", "resolve", "/a/../b", "/b"),
    ("dot_segments", "refuse", "/a/../b", "client.bad_request.path_dots"),
    ("utf8", "valid", "/%ff", "client.bad_request.path_utf8"),
    ("utf8", "any", "/%ff", "/%FF"),
]


@pytest.mark.parametrize("option,value,sent,result", OPTIONS)
def test_option(weir, backend, option, value, sent, result):
    proxy = weir({"listeners": {"web": {"paths": {option: value}}}}, backend)
    response = proxy.get(sent)
    if result.startswith("/"):
        assert response.status == 200 and backend.last.target == result.encode()
    else:
        assert response.status == 400 and not backend.requests
        proxy.ended(result, status=400)


def test_reload_changes_the_policy(weir, backend):
    proxy = weir({}, backend)
    assert proxy.get("/a//b").status == 200 and backend.last.target == b"/a/b"
    proxy.change(listeners={"web": {"paths": {"slashes": "refuse"}}})
    proxy.reload()
    assert proxy.get("/a//b").status == 400


def test_redirect_https_uses_the_canonical_path(weir):
    proxy = weir({"listeners": {"web": {"redirect_https": True}}, "routes": []})
    response = proxy.get("/a/%2e%2e//%61?q=/../x")
    assert response.status == 308
    assert response.get("location") == "https://test.example/a?q=/../x"
    assert proxy.get("/..").status == 400
