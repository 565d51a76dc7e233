"""`weir explain`: every row of the committed tables of matching is answered as the matchers of the
unit tests answer it (issue 3, Shows); of a file and of the running weir; text and JSON."""
import collections
import json
import re
import subprocess

import pytest

from harness import confgen, wire
from harness.backend import raw
from harness.weir import ROOT, binary, run

KINDS = {"PREFIX": "prefix", "EXACT": "path", "REGEX": "regex"}
NO_HOST = "nobody.invalid"  # as good as none: no host of the tables is like it
PARTS = {"h": "headers", "q": "query", "c": "cookies"}


def rows(path, macro):
    """The arguments of each macro(...) row: bare words and strings."""
    text = (ROOT / path).read_text()
    for line in re.findall(r"^%s\((.*)\)$" % macro, text, re.MULTILINE):
        yield [word if word else string.encode().decode("unicode_escape")
               for string, word in re.findall(r'"((?:[^"\\]|\\.)*)"|(\w+)', line)]


def condition(word):
    absent = word.startswith("!")
    name, sign, text = re.match(r"!?([^=^~?]*)([=^~?]?)(.*)", word).groups()
    text = text.replace("_", " ")
    key = {"=": "exact", "^": "prefix", "~": "regex"}.get(sign)
    return {"name": name, **({key: text} if key else {"present": not absent})}


def rules(text):
    out = collections.defaultdict(list)
    for word in text.split():
        kind, rest = word.split(":", 1)
        if kind == "s":
            out["sources"].append(rest)
        else:
            out[PARTS[kind]].append(condition(rest))
    return dict(out)


def tables():
    """{table: routes} of both files; of two routes alike, the first (the second is W0106)."""
    found, keys = collections.defaultdict(list), set()
    every = [r + [""] for r in rows("tests/unit/model/route_cases.def", "ROUTE")]
    every += list(rows("tests/unit/model/match_cases.def", "ROUTE"))
    for table, name, hosts, kind, path, methods, conditions in every:
        key = (table, hosts, kind, path, methods, conditions)
        if key in keys:
            continue
        keys.add(key)
        route = {"name": name, KINDS[kind]: path, "respond": {"status": 200}, **rules(conditions)}
        if hosts:
            route["hosts"] = hosts.split()
        if methods:
            route["methods"] = methods.split()
        found[table].append(route)
    return found


def cases():
    """(table, method, URL, fields, client, expected)."""
    for table, host, path, method, want in rows("tests/unit/model/route_cases.def", "CASE"):
        if path.startswith("/"):  # not "*"
            yield table, method, "http://%s%s" % (host or NO_HOST, path), [], "", want
    for table, line, fields, client, want in rows("tests/unit/model/match_cases.def", "CASE"):
        method, url = line.split(" ", 1)
        fields = [f for f in fields.split("\n") if f]
        dropped = [f[1:].split(":")[0] for f in fields if f.startswith("-")]
        fields = [f.lstrip("-") for f in fields] + ["Connection: %s" % d for d in dropped]
        if any(f.startswith("Upgrade") for f in fields):
            fields.append("Connection: upgrade")
        yield table, method, "http://" + url, fields, client, want


def ask(path, method, url, fields=(), client="", *more):
    args = ["explain", "--json", "-c", str(path), method, url, *more]
    for field in fields:
        args += ["-H", field]
    if client:
        args += ["--from", client]
    result = run(*args)
    assert result.returncode == 0, result.stderr + result.stdout
    return json.loads(result.stdout)


VERDICTS = {"proxy.no_route": "NONE", "proxy.method_not_allowed": "BAD_METHOD"}


def test_every_row_of_the_tables(tmp_path):
    paths = {"slashes": "keep", "encoded_slash": "keep", "utf8": "any"}
    every = tables()
    for table in {case[0] for case in cases()}:
        conf = {"listeners": {"web": {"bind": "127.0.0.1:8080", "paths": paths}},
                "routes": every[table]}  # one table has none
        (tmp_path / table).write_text(confgen.body(conf))
    asked, wrong = 0, []
    for table, method, url, fields, client, want in cases():
        answer = ask(tmp_path / table, method, url, fields, client)
        got = answer.get("route") or VERDICTS.get(answer["end"], answer["end"])
        asked += 1
        if got != want:
            wrong.append((table, method, url, fields, client, got, want))
        fates = [story["fate"] for story in answer["routes"]]
        assert fates.count("won") == ("route" in answer)
    assert not wrong and asked >= 300, (asked, wrong)


CONF = {
    "listeners": {"web": {"trusted_proxies": ["10.0.0.1"]}},
    "routes": [
        {"name": "api", "hosts": ["example.com"], "prefix": "/api", "methods": ["GET"],
         "strip_prefix": True, "pool": "app"},
        {"name": "beta", "hosts": ["example.com"], "prefix": "/api", "methods": ["GET"],
         "headers": [{"name": "X-Env", "exact": "beta"}], "pool": "app"},
        {"name": "png", "hosts": ["example.com"], "regex": r"\.png$", "respond": {"status": 410}},
        {"name": "lan", "prefix": "/lan", "sources": ["192.168.0.0/16"],
         "redirect": {"to": "https://lan.example/"}},
        {"name": "slow", "hosts": ["slow.example"], "regex": "^/users/.*/posts/.*/edit$",
         "respond": {"status": 200}}]}


def stories(answer):
    return {s["route"]: s["fate"] for s in answer["routes"]}


def test_of_the_running_weir(weir, backend):
    """Without -c the running weir answers, in the same words as for its file."""
    proxy = weir(CONF, backend)
    for method, url, fields, client in [
            ("GET", "http://example.com/api/%61//b?x y", ["X-Env: no"], ""),
            ("GET", "http://example.com/api", ["X-Env: beta"], ""),
            ("PUT", "/api", ["Host: example.com"], ""),
            ("GET", "/lan", ["X-Forwarded-For: 192.168.1.1"], "10.0.0.1"),
            ("GET", "/lan", ["X-Forwarded-For: 192.168.1.1"], "10.0.0.2"),
            ("GET", "/..", [], "")]:
        args = [method, url.replace(" ", "%20")]
        for field in fields:
            args += ["-H", field]
        if client:
            args += ["--from", client]
        for form in ("--json", "--text"):
            live = run("explain", form, "--admin", "unix:%s" % proxy.admin, *args)
            file = run("explain", form, "-c", proxy.path, *args)
            assert live.returncode == file.returncode == 0, live.stderr + file.stderr
            assert live.stdout == file.stdout and live.stdout
    proxy.change(routes=[{"name": "new", "respond": {"status": 200}}])
    proxy.reload()
    live = run("explain", "--json", "--admin", "unix:%s" % proxy.admin, "GET", "/")
    assert json.loads(live.stdout)["route"] == "new"


def test_what_it_tells(weir, backend):
    proxy = weir(CONF, backend)
    answer = ask(proxy.path, "GET", "http://example.com/api/%61//b?q=1", ["X-Env: no"])
    assert answer["path"] == "/api/a/b" and answer["forwarded_path"] == "/a/b"
    assert answer["route"] == "api" and answer["origin"].endswith("weir.conf:%d" % line_of(
        proxy, '"api"'))
    assert answer["pool"]["endpoints"] == [
        {"address": backend.address, "weight": 1, "priority": 0, "backup": False,
         "state": "unchecked"}]
    assert stories(answer) == {"png": "regex", "beta": "rule", "api": "won", "lan": "host",
                               "slow": "host"}
    assert [s["route"] for s in answer["routes"]][:3] == ["png", "beta", "api"]
    why = {s["route"]: s["why"] for s in answer["routes"]}
    assert why["beta"] == 'header X-Env is not "beta"'
    answer = ask(proxy.path, "POST", "http://example.com/api")
    assert (answer["end"], answer["status"]) == ("proxy.method_not_allowed", 405)
    assert answer["allow"] == "GET" and stories(answer)["api"] == "method"
    answer = ask(proxy.path, "GET", "http://example.com/x.png")
    assert answer["route"] == "png" and answer["status"] == 410
    answer = ask(proxy.path, "GET", "/lan", ["X-Forwarded-For: 192.168.3.4"], "10.0.0.1")
    assert (answer["client"], answer["location"]) == ("192.168.3.4", "https://lan.example/")
    answer = ask(proxy.path, "GET", "/lan", ["X-Forwarded-For: 192.168.3.4"], "10.0.0.2")
    assert (answer["client"], answer["end"]) == ("10.0.0.2", "proxy.no_route")
    assert stories(answer)["lan"] == "source"
    answer = ask(proxy.path, "GET", "/a%2fb")
    assert answer["end"] == "client.bad_request.path_encoded_slash" and "routes" not in answer
    long = "http://slow.example/users" + "/posts" * 2000 + "/edit!"
    answer = ask(proxy.path, "GET", long)
    assert answer["end"] == "proxy.limit.regex" and stories(answer)["slow"] == "limit"


def line_of(proxy, text):
    """The line on which the group with this text begins."""
    lines = proxy.path.read_text().splitlines()
    at = next(i for i, line in enumerate(lines) if text in line)
    return next(i for i in range(at, -1, -1) if "{" in lines[i]) + 1


def test_it_tells_what_happens(weir, backend):
    """What explain says of a request is what the request gets."""
    proxy = weir({**CONF, "listeners": {"web": {}}}, backend)
    for method, target, host in [("GET", "/api/x", "example.com"), ("PUT", "/api", "example.com"),
                                 ("GET", "/x.png", "example.com"), ("GET", "/lan", "a.example"),
                                 ("GET", "/x/..%2fapi", "example.com"), ("GET", "/", "a.example")]:
        told = ask(proxy.path, method, "http://%s%s" % (host, target))
        got = proxy.request(method, target, host=host)
        record = proxy.ended(told["end"], path=told.get("path", target), server__address=host)
        assert record.get("http.route") == told.get("route")
        assert got.status == told.get("status", 200)


def test_extended_connect(weir, backend):
    """CONNECT with :protocol is told as what becomes of it: a GET that asks for an upgrade."""
    proxy = weir({"listeners": {"web": {"protocols": ["h2c", "http/1.1"]}},
                  "routes": [{"name": "ws", "path": "/ws", "methods": ["GET"], "pool": "app",
                              "headers": [{"name": "Upgrade", "exact": "websocket"}]},
                             {"name": "rest", "respond": {"status": 404}}]}, backend)
    url, field = "http://a.example:%d/ws" % proxy.port, ":protocol: websocket"
    answer = ask(proxy.path, "CONNECT", url, [field])
    assert (answer["method"], answer["route"]) == ("CONNECT", "ws")
    answer = ask(proxy.path, "CONNECT", url, [":protocol: other"])
    assert answer["route"] == "rest"
    told = ask(proxy.path, "CONNECT", url)
    assert (told["status"], told["end"]) == (501, "client.bad_request.method_not_served")
    live = run("explain", "--json", "--admin", "unix:%s" % proxy.admin, "CONNECT", url,
               "-H", field)
    assert json.loads(live.stdout)["route"] == "ws", live


@pytest.mark.parametrize("trusted", [[], ["127.0.0.0/8"]])
def test_whoever_is_not_trusted_says_nothing_of_the_proxy(weir, backend, trusted):
    """A field that begins with X-Forwarded holds for a route as it does for the request."""
    proxy = weir({"listeners": {"web": {"trusted_proxies": trusted} if trusted else {}},
                  "routes": [{"name": "staff", "pool": "app", "headers": [
                                  {"name": "X-Forwarded-User", "exact": "root"}]},
                             {"name": "rest", "respond": {"status": 403}}]}, backend)
    url, line = "http://a.example:%d/" % proxy.port, "X-Forwarded-User: root"
    told = ask(proxy.path, "GET", url, [line], "127.0.0.1")
    assert told["route"] == ("staff" if trusted else "rest")
    assert proxy.get("/", [line]).status == (200 if trusted else 403)


def test_listeners(tmp_path):
    conf = tmp_path / "weir.conf"
    conf.write_text(confgen.body({
        "listeners": {"a": {"bind": "127.0.0.1:81"}, "b": {"bind": ["127.0.0.1:82"]},
                      "r": {"bind": "127.0.0.1:80", "redirect_https": True},
                      "c": {"bind": "127.0.0.1:84"}, "d": {"bind": "127.0.0.2:84"}},
        "routes": [{"name": "ra", "listeners": ["a"], "respond": {"status": 200}},
                   {"name": "rb", "listeners": ["b"], "respond": {"status": 200}}]}))
    assert ask(conf, "GET", "http://x.example:82/")["route"] == "rb"
    assert ask(conf, "GET", "http://x.example:81/")["listener"] == "a"
    assert ask(conf, "GET", "/", (), "", "--listener", "b")["route"] == "rb"
    answer = ask(conf, "GET", "http://x.example/y")
    assert answer["redirect_https"] and answer["status"] == 308
    for args, words in [(["GET", "/"], "several listeners fit, name one with --listener: a, b, r"),
                        (["GET", "http://x.example:84/"],
                         "several listeners fit, name one with --listener: c, d"),
                        (["GET", "http://x.example:83/"],
                         "no listener is bound to port 83; name one with --listener: a, b, "),
                        (["GET", "/", "--listener", "x"], "there is no listener of that name: x"),
                        (["GET", "https://x.example/"], "no listener serves this scheme"),
                        (["G T", "http://x.example:81/"], "not a method"),
                        (["GET", "ftp://x.example/"], "not an http URL"),
                        (["GET", "http:///x"], "no host in the URL"),
                        (["GET", "http://x.example:81/", "--from", "x"], "not an IP address"),
                        (["GET", "http://x.example:81/", "-H", "x"], "not a field")]:
        result = run("explain", "--text", "-c", conf, *args)
        assert result.returncode == 2 and words in result.stderr, result
        result = run("explain", "--json", "-c", conf, *args)
        answer = json.loads(result.stdout)
        assert result.returncode == 2 and not answer["ok"] and words in answer["error"], result


def test_splits(weir, new_backend):
    """A split is told with its parts and weights; where its key decides, with the part, which is
    the one that the request goes to."""
    backends = {name: new_backend(raw(wire.response_bytes(body=name.encode())))
                for name in ("app", "users")}
    proxy = weir({
        "pools": {"app": {"endpoints": [backends["app"].address]},
                  "users": {"endpoints": [{"address": backends["users"].address, "priority": 2}]}},
        "routes": [
            {"name": "canary", "hosts": ["example.com"], "prefix": "/",
             "split": [{"pool": "app", "weight": 95}, {"pool": "users", "weight": 5}]},
            {"name": "by", "prefix": "/by", "split_by": "cookie:u", "split_failover": True,
             "split": [{"pool": "app"}, {"pool": "users"}]}]})
    answer = ask(proxy.path, "GET", "http://example.com/x")
    assert (answer["route"], answer["action"], answer["end"]) == ("canary", "split", "ok")
    assert not {"status", "drawn", "split_by"} & set(answer)
    assert [(s["pool"]["name"], s["weight"]) for s in answer["split"]] == [
        ("app", 95), ("users", 5)]
    assert answer["split"][1]["pool"]["endpoints"] == [
        {"address": backends["users"].address, "weight": 1, "priority": 2, "backup": False,
         "state": "unchecked"}]
    text = run("explain", "--text", "-c", proxy.path, "GET", "http://example.com/x").stdout
    assert "pool app, weight 95 of 100" in text and "pool users, weight 5 of 100" in text
    assert "by chance:" in text and "answered" not in text
    answer = ask(proxy.path, "GET", "/by")
    assert answer["split_by"] == "cookie:u" and "drawn" not in answer and answer["split_failover"]
    drawn = set()
    for i in range(12):
        told = ask(proxy.path, "GET", "/by", ["Cookie: u=%d" % i])["drawn"]
        assert proxy.get("/by", [("Cookie", "u=%d" % i)]).body.decode() == told
        drawn.add(told)
    assert drawn == {"app", "users"}
    text = run("explain", "--text", "-c", proxy.path, "GET", "/by", "-H", "Cookie: u=1").stdout
    assert "by cookie:u: pool " in text and "passes to the heaviest" in text


def test_bodies_and_cookies(weir, new_backend):
    """A length that is too large is told as it is answered; a sticky cookie names its endpoint."""
    backend = new_backend(raw(wire.response_bytes(body=b"x")))
    other = new_backend(raw(wire.response_bytes(body=b"x")))
    proxy = weir({
        "listeners": {"web": {"limits": {"body_bytes": "1KiB"}}},
        "policies": {"more": {"limits": {"body_bytes": "2KiB"}}},
        "pools": {"app": {"endpoints": [backend.address, other.address],
                          "sticky": {"cookie": "home", "key": "env:STICKY"}}},
        "routes": [{"name": "all", "pool": "app"},
                   {"name": "more", "prefix": "/more", "pool": "app", "policies": ["more"]}]},
        env={"STICKY": "0123456789abcdef0123456789abcdef"})
    for target, length, end in [("/", 1024, "ok"), ("/", 1025, "proxy.limit.body_bytes"),
                                ("/more", 2048, "ok"), ("/more", 2049, "proxy.limit.body_bytes")]:
        told = ask_live(proxy, "POST", target, "Content-Length: %d" % length)
        assert told["end"] == end and told.get("status") == (413 if end != "ok" else None)
        assert (proxy.request("POST", target, body=b"x" * length).status == 413) == (end != "ok")
    cookie = proxy.get("/").get("set-cookie").split(";")[0]
    told = ask_live(proxy, "GET", "/", "Cookie: " + cookie)
    assert told["pool"]["sticky"]["cookie"] == "home"
    took = {backend.address: len(backend.requests), other.address: len(other.requests)}
    proxy.get("/", [("Cookie", cookie.split("; ")[0])])
    home = [each for each in (backend, other) if len(each.requests) > took[each.address]]
    assert told["pool"]["sticky"]["endpoint"] == home[0].address
    assert "endpoint" not in ask_live(proxy, "GET", "/", "Cookie: home=x")["pool"]["sticky"]


def ask_live(proxy, method, target, field):
    result = run("explain", "--json", "--admin", "unix:%s" % proxy.admin, method, target, "-H",
                 field)
    assert result.returncode == 0, result.stderr + result.stdout
    return json.loads(result.stdout)


@pytest.mark.parametrize("args", [[], ["GET"], ["GET", "/", "x"]])
def test_usage(args):
    assert run("explain", *args).returncode == 2


def test_bad_file_and_nobody_there(tmp_path):
    (tmp_path / "bad.conf").write_text("listeners = { };\nx = 1;\n")
    bad, none = tmp_path / "bad.conf", "unix:%s" % (tmp_path / "none.sock")
    result = run("explain", "--text", "-c", bad, "GET", "/")
    assert result.returncode == 78 and "W0101" in result.stderr
    result = run("explain", "--json", "-c", bad, "GET", "/")
    assert result.returncode == 78 and "W0101" in [
        fault["code"] for fault in json.loads(result.stdout)["faults"]]
    for form in ("--text", "--json"):
        assert run("explain", form, "--admin", none, "GET", "/").returncode == 1


def test_questions_that_make_no_sense_to_the_running_weir(weir, backend):
    proxy = weir(CONF, backend)
    admin = "unix:%s" % proxy.admin
    result = run("explain", "--json", "--admin", admin, "GET", "/", "--listener", "x")
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"] == "there is no listener of that name: x"
    result = run("explain", "--text", "--admin", admin, "GET", "/" + "x" * 5000)
    assert result.returncode == 2 and "too long" in result.stderr


def test_policies_and_preflights(weir, backend):
    """The winner's policies in their order; a preflight goes where its method would."""
    proxy = weir({"policies": {
        "a": {"request_headers": {"set": ["X-A: 1"]}},
        "b": {"cors": {"origins": ["https://app.example"]}}},
        "routes": [{"name": "put", "methods": ["PUT"], "policies": ["b", "a"], "pool": "app"}]},
        backend)
    answer = ask(proxy.path, "PUT", "/")
    assert answer["policies"] == ["b", "a"]
    fields = ["Origin: https://app.example", "Access-Control-Request-Method: PUT"]
    answer = ask(proxy.path, "OPTIONS", "/", fields)
    response = proxy.request("OPTIONS", "/", fields)
    assert answer["route"] == "put" and answer["status"] == response.status == 204
    assert ask(proxy.path, "OPTIONS", "/")["end"] == "proxy.method_not_allowed"


def test_many_routes_are_left_out(tmp_path):
    conf = tmp_path / "weir.conf"
    conf.write_text(confgen.body({
        "listeners": {"web": {"bind": "127.0.0.1:8080"}},
        "routes": [{"name": "r%d" % i, "prefix": "/r%d" % i, "respond": {"status": 200}}
                   for i in range(3000)]}))
    answer = ask(conf, "GET", "/r7/x")
    assert answer["route"] == "r7" and answer["routes_left_out"] == 2999 - 20
    text = subprocess.run([binary(), "explain", "--text", "-c", str(conf), "GET", "/r7"],
                          capture_output=True, text=True, timeout=60, check=True).stdout
    assert "and 2979 more that do not fit" in text


def test_names_of_a_file_are_not_asked_for(tmp_path):
    """There is no resolver: nothing is said of what they have now."""
    conf = tmp_path / "named.conf"
    conf.write_text('listeners = { web = { bind = "127.0.0.1:8080"; }; };\n'
                    'pools = { app = { endpoints = [ "a.test:80", "b.test:80" ]; }; };\n'
                    'routes = ( { prefix = "/"; pool = "app"; } );\n')
    result = run("explain", "--text", "-c", conf, "GET", "/")
    assert result.returncode == 0 and "2 names" in result.stdout, result
    assert "without an address" not in result.stdout, result
