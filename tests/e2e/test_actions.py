"""What a route does beside naming a pool: rewrite, host, redirect by parts, respond with fields or
a file (packaging/docs/policies.md, "Actions of a route")."""
import pytest

from harness import client, proc
from harness.weir import run

ROUTES = [
    {"name": "v2", "prefix": "/api", "rewrite": {"prefix": "/v2"}, "pool": "app"},
    {"name": "root", "prefix": "/root", "rewrite": {"prefix": "/"}, "pool": "app"},
    {"name": "under", "hosts": ["under.example"], "prefix": "/", "rewrite": {"prefix": "/under"},
     "pool": "app"},
    {"name": "one", "path": "/one", "rewrite": {"path": "/fixed/page"}, "pool": "app"},
    {"name": "item", "prefix": "/item",
     "rewrite": {"regex": "^/item/([a-z]+)/([0-9]+)$", "to": "/it/v2/${2}/${1}"},
     "pool": "app"},
    {"name": "join", "prefix": "/join", "rewrite": {"regex": "^/join/([^/]*)/(.*)$",
                                                    "to": "/x/${1}${2}/y"}, "pool": "app"},
    {"name": "dot", "prefix": "/dot", "rewrite": {"regex": "^/dot/a(.*)$", "to": "/x/.${1}/y"},
     "pool": "app"},
    {"name": "percent", "prefix": "/percent",
     "rewrite": {"regex": "^/percent/(.*)$", "to": "/%2${1}"}, "pool": "app"},
    {"name": "host", "prefix": "/host", "host": "Other.Example:8443", "pool": "app"},
    {"name": "bare", "prefix": "/bare", "host": "other.example", "pool": "app"},
    {"name": "endpoint", "prefix": "/endpoint", "host": "endpoint", "pool": "app"},
    {"name": "https", "prefix": "/https", "redirect": {"scheme": "https"}},
    {"name": "https-port", "prefix": "/https-port", "redirect": {"scheme": "https",
                                                                 "port": 8443}},
    {"name": "http", "prefix": "/http", "redirect": {"scheme": "http", "host": "a.example"}},
    {"name": "newhost", "prefix": "/newhost", "redirect": {"host": "New.Example"}},
    {"name": "hostport", "prefix": "/hostport", "redirect": {"host": "new.example", "port": 81,
                                                             "status": 302}},
    {"name": "newpath", "prefix": "/newpath", "redirect": {"path": "/x", "status": 307}},
    {"name": "prefix", "prefix": "/prefix", "redirect": {"prefix": "/new", "status": 301}},
    {"name": "noprefix", "prefix": "/noprefix", "redirect": {"prefix": "/"}},
    {"name": "drop", "prefix": "/drop", "redirect": {"path": "/x", "query": "drop"}},
    {"name": "to", "prefix": "/to", "redirect": {"to": "/there"}},
    {"name": "to-keep", "prefix": "/to-keep", "redirect": {"to": "/there", "query": "keep"}},
    {"name": "port", "prefix": "/port", "redirect": {"port": 80}},
    {"name": "fields", "prefix": "/fields", "respond": {
        "status": 503, "body": "{}", "content_type": "text/plain",
        "headers": ["Retry-After: 60", "Content-Type: application/json",
                    "X-Host: ${request.host}"]}},
]
SHARED_CONF = {"routes": ROUTES}

SENT = [
    ("/api", "/v2"), ("/api/", "/v2/"), ("/api/x?q=1", "/v2/x?q=1"), ("/api/x;y", "/v2/x;y"),
    ("/api/%20x", "/v2/%20x"), ("/api?", "/v2?"), ("/root", "/"), ("/root/x", "/x"),
    ("/one?q", "/fixed/page?q"),
]


@pytest.mark.parametrize("asked,sent", SENT)
def test_rewrite(pair, asked, sent):
    assert pair.client().get(asked).status == 200
    assert pair.backend.last.target.decode() == sent
    assert pair.logged(path=asked.split("?")[0])["http.route"] in ("v2", "root", "one")


@pytest.mark.parametrize("asked,sent", [
    ("/item/shoe/42?q=1", "/it/v2/42/shoe?q=1"),  # the groups
    ("/item/shoe/x", "/item/shoe/x"),  # not found: as it came
    ("/item/%73hoe/42", "/it/v2/42/shoe"),  # the canonical path is searched
    ("/join/a/b", "/x/ab/y"),
])
def test_rewrite_by_regex(pair, asked, sent):
    assert pair.client().get(asked).status == 200
    assert pair.backend.last.target.decode() == sent


@pytest.mark.parametrize("asked,end", [
    ("/dot/a.", "client.bad_request.path_dots"),
    ("/dot/a%2e/x", "client.bad_request.path_dots"),
    ("/percent/F", "client.bad_request.path_encoded_slash"),
    ("/percent/z", "client.bad_request.path_escape"),
])
def test_groups_put_together_do_not_lead_out(pair, asked, end):
    """THREATS.md row 18: what comes of groups is checked as any path is."""
    before = len(pair.backend.requests)
    assert pair.client().get(asked).status == 400
    assert len(pair.backend.requests) == before
    pair.logged(end=end)


@pytest.mark.parametrize("asked,sent", [("/", "/under/"), ("/x", "/under/x")])
def test_rewrite_of_the_root(pair, asked, sent):
    assert pair.client().get(asked, host="under.example").status == 200
    assert pair.backend.last.target.decode() == sent


@pytest.mark.parametrize("path", ["/api/../../x", "/api/%2e%2e/../x", "/api/..;/x", "/api/..%2fx"])
def test_rewrite_brings_no_way_around_the_path_policy(pair, path):
    """THREATS.md row 18: what was refused before is refused on a route that rewrites."""
    before = len(pair.backend.requests)
    assert pair.client().get(path).status == 400
    assert len(pair.backend.requests) == before


def test_host(pair):
    for path, host in (("/host", "other.example:8443"), ("/bare", "other.example"),
                       ("/endpoint", pair.backend.address)):
        assert pair.client().get(path, host="client.example:1").status == 200
        assert pair.backend.last.all("host") == [host]
        assert pair.backend.last.all("x-forwarded-host") == ["client.example:1"]
        assert pair.logged(path=path)["server.address"] == "client.example"


def test_host_of_a_request_without_one(pair):
    conn = pair.client()
    conn.send(b"GET /host HTTP/1.0\r\n\r\n")
    assert conn.response(minor=0).status == 200
    assert pair.backend.last.all("host") == ["other.example:8443"]


PLACES = [
    ("/https/a?b=c", 308, "https://h.example/https/a?b=c"),
    ("/https-port", 308, "https://h.example:8443/https-port"),
    ("/http/x", 308, "http://a.example/http/x"),
    ("/newhost//evil.example/x", 308, "http://new.example/newhost/evil.example/x"),
    ("/hostport/?", 302, "http://new.example:81/hostport/?"),
    ("/newpath/y?q", 307, "http://h.example:8080/x?q"),
    ("/prefix", 301, "http://h.example:8080/new"),
    ("/prefix/y/z?q", 301, "http://h.example:8080/new/y/z?q"),
    ("/noprefix", 308, "http://h.example:8080/"),
    ("/noprefix//evil.example", 308, "http://h.example:8080/evil.example"),
    ("/drop?q", 308, "http://h.example:8080/x"),
    ("/to?q", 308, "/there"),
    ("/to-keep?q=1", 308, "/there?q=1"),
    ("/to-keep", 308, "/there"),
    ("/port", 308, "http://h.example/port"),
]


@pytest.mark.parametrize("asked,status,location", PLACES, ids=[p[0] for p in PLACES])
def test_redirect(pair, asked, status, location):
    response = pair.client().get(asked, host="H.example:8080")
    assert response.status == status and response.all("location") == [location]
    assert response.body == b"" and not pair.backend.seen(asked)
    pair.logged(path=asked.split("?")[0].replace("//", "/"), status=status, end="ok")


def test_redirect_without_a_host(pair):
    """HTTP/1.0 without Host: there is no URL to redirect to."""
    for path, status in (("/newpath", 400), ("/newhost", 308), ("/to", 308)):
        conn = pair.client()
        conn.send(b"GET %s HTTP/1.0\r\n\r\n" % path.encode())
        assert conn.response(minor=0).status == status
    pair.ended("client.bad_request.host_missing", path="/newpath")


def test_redirect_to_https_and_back(weir, authority):
    """Scheme and port as the listener has them."""
    port = proc.free_port()
    rows = [dict(names=["a.example"], **authority.leaf(["a.example"]))]
    proxy = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                        "tls": {"certificates": rows}}},
                  "routes": [{"prefix": "/", "redirect": {"path": "/x"}},
                             {"prefix": "/plain", "redirect": {"scheme": "http"}}]})
    with client.Client(port, tls=authority.client_context(), sni="a.example") as conn:
        assert conn.get("/", host="a.example").get("location") == "https://a.example/x"
        assert conn.get("/", host="a.example:443").get("location") == "https://a.example/x"
        assert conn.get("/", host="a.example:8443").get("location") == "https://a.example:8443/x"
        assert conn.get("/plain", host="a.example:8443").get("location") == \
            "http://a.example/plain"
    assert proxy.get("/", host="a.example").get("location") == "http://a.example/x"


def test_respond_with_fields(pair):
    response = pair.client().get("/fields", host="Some.Example:1")
    assert response.status == 503 and response.body == b"{}"
    assert response.all("retry-after") == ["60"] and response.all("x-host") == ["some.example"]
    assert response.all("content-type") == ["application/json"]


def test_respond_with_a_file(weir, work):
    """Read at start and at each reload; a file that is gone changes nothing."""
    page = work / "page.html"
    page.write_bytes(b"<p>one \xe2\x82\xac\0</p>")
    proxy = weir({"routes": [{"name": "f", "prefix": "/", "respond": {
        "file": str(page), "content_type": "text/html"}}]})
    conn = proxy.client()
    assert conn.get("/").body == b"<p>one \xe2\x82\xac\0</p>"
    page.write_bytes(b"x" * 131072)
    assert conn.get("/").body.startswith(b"<p>one")
    proxy.reload()
    response = conn.get("/")
    assert len(response.body) == 131072 and response.get("content-type") == "text/html"
    assert conn.request("HEAD", "/").get("content-length") == "131072"
    page.write_bytes(b"x" * 131073)
    assert "W0303" in run("check", str(proxy.path)).stderr + run("check", str(proxy.path)).stdout
    page.unlink()
    result = run("reload", "--text", "--admin", "unix:%s" % proxy.admin)
    assert "W0303" in result.stdout + result.stderr and result.returncode != 0
    assert len(conn.get("/").body) == 131072
