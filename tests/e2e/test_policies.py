"""Policies: fields that are set, added and removed on the way (packaging/docs/policies.md). What a
client sends must never win over them, nor may they touch framing (THREATS.md rows 8, 18, 19)."""
import re

import pytest

from harness.backend import reply
from harness.weir import ROOT

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SHARED_CONF = {
    "policies": {
        "front": {
            "request_headers": {
                "set": ["X-Auth-User: nobody", "X-Forwarded-Prefix: /front",
                        "X-Real-IP: ${client.address}", "X-Trace: ${trace_id}",
                        "X-Who: ${tls.client.subject}${tls.client.issuer}"
                        "${tls.client.hash.sha256}",
                        "X-Literal: $${route.name}"],
                "add": ["X-Hop: front"],
                "remove": ["X-Internal"],
            },
            "response_headers": {
                "set": ["X-Frame-Options: DENY", "Content-Type: text/x"],
                "add": ["X-Hop: ${route.name}", "Set-Cookie: hop=1"],
                "remove": ["Server", "X-Powered-By"],
            },
        },
        "last": {
            "request_headers": {"set": ["X-Auth-User: last"], "add": ["X-Hop: last"],
                                "remove": ["X-Trace"]},
            "response_headers": {"set": ["X-Frame-Options: SAMEORIGIN"]},
        },
        "all": {"request_headers": {"set": [
            "X-All: ${client.address} ${peer.address} ${request.method} ${request.scheme} "
            "${request.host} ${request.path} ${request.query} ${route.name} ${listener.name} "
            "${pool.name} ${trace_id}"]}},
    },
    "pools": {"none": {"endpoints": ["127.0.0.1:1"]}},
    "routes": [
        {"name": "plain", "prefix": "/", "pool": "app"},
        {"name": "one", "prefix": "/one", "pool": "app", "policies": ["front"]},
        {"name": "two", "prefix": "/two", "pool": "app", "policies": ["front", "last"]},
        {"name": "swapped", "prefix": "/swapped", "pool": "app", "policies": ["last", "front"]},
        {"name": "all", "prefix": "/all", "pool": "app", "policies": "all"},
        {"name": "down", "prefix": "/down", "pool": "none", "policies": ["front"]},
        {"name": "tea", "prefix": "/tea", "policies": ["front"],
         "respond": {"status": 418, "body": "tea"}},
        {"name": "old", "prefix": "/old", "policies": ["front"], "redirect": {"to": "/new"}},
    ],
}


def test_set_add_remove(pair):
    sent = ["X-Auth-User: root", "X-Hop: client", "X-Internal: 1", "x-internal: 2", "X-Kept: 1",
            "traceparent: " + TRACE]
    assert pair.client().get("/one", sent).status == 200
    got = pair.backend.last
    assert got.all("x-auth-user") == ["nobody"] and got.all("x-hop") == ["client", "front"]
    assert not got.all("x-internal") and got.all("x-kept") == ["1"]
    assert got.all("x-trace") == ["0af7651916cd43dd8448eb211c80319c"]
    assert got.all("x-literal") == ["${route.name}"]
    assert got.all("x-real-ip") == ["127.0.0.1"]
    assert got.all("x-forwarded-prefix") == ["/front"]


FORGED = [
    ["X_Auth_User: root"], ["x-AUTH_user: root"], ["X-Auth-User: root", "X-Auth-User: admin"],
    ["Connection: X-Auth-User", "X-Auth-User: root"], ["Connection: x-auth-user"],
    ["X-Forwarded-Prefix: /evil"], ["X_Forwarded_Prefix: /evil"], ["X-Real-IP: 6.6.6.6"],
    ["X_Real_IP: 6.6.6.6"], ["X-Trace: evil"], ["X_Trace: evil"],
]


@pytest.mark.parametrize("fields", FORGED, ids=["; ".join(f) for f in FORGED])
def test_a_client_cannot_forge_what_is_set(pair, fields):
    """THREATS.md row 19: also by another spelling, by repetition, by Connection."""
    assert pair.client().get("/one", fields).status == 200
    got = pair.backend.last
    assert got.all("x-auth-user") == ["nobody"]
    for word in (b"root", b"admin", b"evil", b"6.6.6"):
        assert word not in got.raw_head
    assert got.all("x-trace") == []  # no good traceparent: it comes out empty


def test_forwarding_fields_stay_weirs(pair):
    fields = ["X-Forwarded-For: 6.6.6.6", "Forwarded: for=6.6.6.6", "X-Forwarded-Proto: https"]
    assert pair.client().get("/one", fields).status == 200
    got = pair.backend.last
    assert got.all("x-forwarded-for") == ["127.0.0.1"] and got.all("x-forwarded-proto") == ["http"]
    assert not got.all("forwarded") and len(got.all("via")) == 1


@pytest.mark.parametrize("path,user,frame", [("/two", "last", "SAMEORIGIN"),
                                             ("/swapped", "nobody", "DENY")])
def test_the_later_policy_wins(pair, path, user, frame):
    response = pair.client().get(path, ["traceparent: " + TRACE])
    assert pair.backend.last.all("x-auth-user") == [user]
    assert response.all("x-frame-options") == [frame]
    hops = ["front", "last"] if path == "/two" else ["last", "front"]
    assert pair.backend.last.all("x-hop") == hops
    assert bool(pair.backend.last.all("x-trace")) == (path == "/swapped")


def test_other_routes_are_untouched(pair):
    response = pair.client().get("/", ["X-Internal: 1", "X-Auth-User: me"])
    got = pair.backend.last
    assert got.all("x-internal") == ["1"] and got.all("x-auth-user") == ["me"]
    assert not response.all("x-frame-options")


def test_response_fields(pair):
    fields = ["Server: origin", "X-Powered-By: x", "X-Hop: origin", "X-Frame-Options: ALLOWALL",
              "Set-Cookie: a=b", "Content-Type: text/plain"]
    pair.backend.on("/one/r", reply(200, b"hi", fields))
    response = pair.client().get("/one/r")
    assert response.status == 200 and response.body == b"hi"
    assert response.all("x-frame-options") == ["DENY"] and not response.all("x-powered-by")
    assert not response.all("server") and response.all("x-hop") == ["origin", "one"]
    assert response.all("set-cookie") == ["a=b", "hop=1"]
    assert response.all("content-type") == ["text/x"]


@pytest.mark.parametrize("path,status", [("/tea", 418), ("/old", 308), ("/down", 502)])
def test_responses_of_weir_have_them_too(pair, path, status):
    response = pair.client().get(path)
    assert response.status == status and response.all("x-frame-options") == ["DENY"]
    assert response.all("x-hop") == [path[1:]] and response.all("set-cookie") == ["hop=1"]
    if path == "/old":
        assert response.get("location") == "/new"
    else:
        assert response.all("content-type") == ["text/x"]


def test_every_variable(pair):
    path = "/all/a%20b;c"
    response = pair.client().get(path + "?q=%0d%0aX-Evil:1", ["traceparent: " + TRACE],
                                 host="Some.Example:8080")
    assert response.status == 200
    assert pair.backend.last.all("x-all") == [
        "127.0.0.1 127.0.0.1 GET http some.example %s q=%%0d%%0aX-Evil:1 all web app "
        "0af7651916cd43dd8448eb211c80319c" % path]
    assert not pair.backend.last.all("x-evil")


@pytest.mark.parametrize("target", ["/all\r\nX-Evil: 1", "/all?\nX-Evil: 1", "/all/\x00"])
def test_no_variable_brings_a_line_break(pair, target):
    """Row 8: what could end a line is refused before it is a variable's value."""
    conn = pair.client()
    conn.send(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % target.encode())
    assert conn.response().status == 400
    assert not any(r.all("x-evil") for r in pair.backend.requests)


def test_reload_changes_the_fields_and_keeps_the_rest(weir, backend):
    proxy = weir({"policies": {"p": {"request_headers": {"set": ["X-Gen: 1"]}}},
                  "routes": [{"name": "p", "prefix": "/", "pool": "app", "policies": ["p"]}]},
                 backend)
    conn = proxy.client()
    assert conn.get("/").status == 200 and backend.last.all("x-gen") == ["1"]
    proxy.change(policies={"p": {"request_headers": {"set": ["X-Gen: 2"]}}})
    proxy.reload()
    assert conn.get("/").status == 200 and backend.last.all("x-gen") == ["2"]


def test_every_variable_is_documented():
    rows = re.findall(r'^VARIABLE\(\w+, "([^"]+)", "([^"]+)"\)',
                      (ROOT / "include/weir/model/variable.def").read_text(), re.MULTILINE)
    page = (ROOT / "packaging/docs/policies.md").read_text()
    assert len(rows) >= 11
    for name, doc in rows:
        assert "| `%s` | %s |\n" % (name, doc) in page, name
        assert "${%s}" % name in str(SHARED_CONF), name
