"""What `weir check` says of TLS that serves others than was meant, and what such clients meet:
suites that fit no key (W0179, W0485), certificates that no name leads to (W0486), names whose
clients need a certificate for what others get without (W0449)."""
import json
import ssl

import pytest

from harness import confgen, proc
from harness.weir import run

ECDSA, RSA = ("ECDHE-%s-AES128-GCM-SHA256" % kind for kind in ("ECDSA", "RSA"))


def check(work, tls, routes=None, code=0):
    path = work / "check.conf"
    path.write_text(confgen.body({
        "listeners": {"tls": {"bind": "127.0.0.1:1", "tls": tls}},
        "pools": {"app": {"endpoints": "127.0.0.1:1"}},
        "routes": routes or [{"prefix": "/", "pool": "app"}]}))
    result = run("check", path)
    assert result.returncode == code, result.stdout + result.stderr
    return [each["code"] for each in json.loads(result.stdout)["faults"]], result.stdout


class Front:
    def __init__(self, weir, backend, authority, tls, **more):
        self.authority, self.port = authority, proc.free_port()
        self.weir = weir({"listeners": {"tls": {
            "bind": "127.0.0.1:%d" % self.port, "tls": tls}}, **more}, backend)

    def status(self, sni, host, **context):
        context = self.authority.client_context(**context)
        context.check_hostname = False
        conn = self.weir.client(self.port, tls=context, sni=sni)
        return conn.get("/", host=host).status


# ---- suites ----

def pair(authority, rows):
    return {"certificates": [authority.leaf(names, kind) for names, kind in rows]}


@pytest.mark.parametrize("rows,suites,says", [
    ([(["one.test"], "ec")], [RSA], "leaf1.crt"),
    ([(["one.test"], "rsa")], [ECDSA], "leaf1.crt"),
    ([(["one.test"], "ec")], [RSA, ECDSA], None),
    ([(["one.test"], "rsa")], [RSA], None),
    ([(["one.test"], "ec")], None, None),
    ([(["one.test"], "ec"), (["one.test"], "rsa")], [RSA], None),  # for 1.3, and for 1.2
    ([(["two.test"], "rsa"), (["one.test"], "ec")], [RSA], "leaf2.crt"),
    ([(["one.test", "two.test"], "ec"), (["two.test"], "rsa")], [RSA], "leaf1.crt"),
])
@pytest.mark.parametrize("last", ["1.2", "1.3"])
def test_suites_that_fit_no_key(weir, backend, authority, work, rows, suites, says, last):
    tls = dict(pair(authority, rows), max_version=last)
    if suites:
        tls["ciphers"] = suites
    found, out = check(work, tls)
    assert found == (["W0485"] if says else []), out
    front = Front(weir, backend, authority, tls)
    v12 = {"maximum": ssl.TLSVersion.TLSv1_2}
    if not says:
        assert front.status("one.test", "one.test", **v12) == 200
        return
    assert says in out and suites[0] in out, out
    assert ("its clients of TLS 1.2 are refused" if last == "1.3" else
            "all its clients are refused") in out, out
    with pytest.raises((ssl.SSLError, OSError)):
        front.status("one.test", "one.test", **v12)
    if last == "1.3":
        assert front.status("one.test", "one.test") == 200


def test_suites_that_mean_nothing(authority, work):
    tls = dict(pair(authority, [(["one.test"], "ec")]), ciphers=[ECDSA], min_version="1.3")
    found, out = check(work, tls, code=78)
    assert found == ["W0179"] and "leave ciphers out" in out, out


# ---- names ----

@pytest.mark.parametrize("rows,says", [
    ([([], {})], "leaf1.crt"),
    ([([], {"default": True})], None),
    ([(["one.test"], {}), ([], {})], "leaf2.crt"),
    ([(["one.test"], {"default": True}), ([], {})], "leaf2.crt"),
    ([(["ip:127.0.0.1"], {})], None),  # who asks for an address sends no name
    ([(["one.test"], {}), (["ip:127.0.0.1"], {})], "leaf2.crt"),
])
def test_certificate_without_a_name(weir, backend, authority, work, rows, says):
    tls = {"certificates": [dict(authority.leaf(names, label="one.test"), **more)
                            for names, more in rows]}
    found, out = check(work, tls)
    assert found == (["W0486"] if says else []), out
    assert not says or says in out and "names = " in out and "default = true" in out, out
    if len(rows) == 1:
        front = Front(weir, backend, authority, tls)
        assert front.status(None, "one.test") == 200
        if says:
            with pytest.raises((ssl.SSLError, OSError)):
                front.status("one.test", "one.test")


# ---- clients of other names ----

@pytest.mark.parametrize("host,served", [(None, True), ("one.test", False), ("*.test", True)])
def test_row_for_a_name_only(weir, backend, authority, work, host, served):
    """A route for *.test is told apart by whoever wrote it: that is not judged."""
    tls = {"certificates": [dict(authority.leaf(["one.test"]), default=True)],
           "client": [{"names": "one.test", "ca": "file:%s" % authority.path}]}
    route = {"prefix": "/", "pool": "app", **({"hosts": [host]} if host else {})}
    found, out = check(work, tls, [route])
    assert ("W0449" in found) == (host is None), out
    assert host or "\\\"one.test\\\"" in out and "client_cert" in out, out
    front = Front(weir, backend, authority, tls, routes=[route])
    with pytest.raises((ssl.SSLError, OSError)):
        front.status("one.test", "one.test")
    assert front.status("two.test", "two.test") == (200 if served else 404)
    assert front.status("two.test", "one.test") == 421


def test_row_for_all_others(authority, work):
    """It says that nobody is asked by another name; so does a route that asks."""
    ca = "file:%s" % authority.path
    named = {"names": "one.test", "ca": ca}
    tls = {"certificates": [authority.leaf(["one.test"])], "client": [named]}
    assert check(work, tls)[0] == ["W0449"]
    asks = [{"prefix": "/", "pool": "app", "client_cert": {"present": True}}]
    assert check(work, tls, asks)[0] == []
    both = dict(tls, client=[named, {"verify": "optional", "ca": ca}])
    assert check(work, both)[0] == []
