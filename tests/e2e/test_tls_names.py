"""What `weir check` says of names that certificates lack (W0404 of a route's host, W0484 of a name
that a certificate is given) is what a client meets that asks for that name and verifies it."""
import json
import ssl

import pytest

from harness import confgen, proc
from harness.weir import run


def group(authority, rows):
    """rows: (names in the certificate, more keys of its group)."""
    return {"certificates": [dict(authority.leaf(names), **more) for names, more in rows]}


def words(work, tls, host):
    """The codes of what there is to say; the host has two routes, but is told of once."""
    path = work / "names.conf"
    path.write_text(confgen.body({
        "listeners": {"tls": {"bind": "127.0.0.1:1", "tls": tls}},
        "routes": [{"hosts": [host], "prefix": prefix, "respond": {"body": "x"}}
                   for prefix in ("/", "/b")]}))
    result = run("check", path)
    assert result.returncode == 0, result.stdout + result.stderr
    return [each["code"] for each in json.loads(result.stdout)["faults"]], result.stdout


ONE = (["one.test"], {})
CASES = [
    ([ONE], "one.test", None),
    ([ONE], "two.test", "are refused"),
    ([ONE, (["three.test", "two.test"], {})], "two.test", None),
    ([(["*.one.test"], {})], "a.one.test", None),
    ([(["*.one.test"], {})], "a.b.one.test", "are refused"),
    ([(["*.one.test"], {})], "one.test", "are refused"),
    ([(["one.test"], {"names": ["one.test"]})], "two.test", "are refused"),
    ([(["one.test", "two.test"], {"names": ["one.test"]})], "two.test", "are refused"),
    ([(["one.test"], {"default": True})], "two.test", "leaf1.crt"),
    ([(["one.test", "*.two.test"], {"names": ["one.test"], "default": True})], "a.two.test", None),
    ([ONE, (["two.test"], {"default": True})], "two.test", None),
    ([ONE, (["three.test"], {"default": True})], "two.test", "leaf2.crt"),
    ([ONE], "127.0.0.1", "leaf1.crt"),
    ([(["one.test", "ip:127.0.0.1"], {})], "127.0.0.1", None),
    ([ONE, (["ip:127.0.0.1"], {})], "127.0.0.1", "leaf1.crt"),
    ([ONE, (["ip:127.0.0.1"], {"default": True})], "127.0.0.1", None),
]


@pytest.mark.parametrize("rows,host,says", CASES)
def test_host_without_certificate(weir, backend, authority, work, rows, host, says):
    tls = group(authority, rows)
    found, out = words(work, tls, host)
    unused = ["W0486"] if rows == [ONE, (["ip:127.0.0.1"], {})] else []  # no name leads to it
    assert found == unused + (["W0404"] if says else []), out
    assert not says or says in out and host in out
    port = proc.free_port()
    proxy = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port, "tls": tls}}}, backend)
    if says:
        with pytest.raises((ssl.SSLError, OSError)):
            proxy.client(port, tls=authority.client_context(), sni=host)
    else:
        conn = proxy.client(port, tls=authority.client_context(), sni=host)
        assert conn.get("/", host=host).status == 200


@pytest.mark.parametrize("host,rows,warned", [
    ("*.one.test", [(["*.one.test"], {})], False),
    ("*.one.test", [(["a.one.test"], {})], False),  # some of its clients are served
    ("*.one.test", [ONE], True),
    ("*.one.test", [(["*.a.one.test"], {})], False),
    ("*.one.test", [(["one.test"], {"default": True})], True),
    ("*.one.test", [(["one.test", "b.one.test"], {"names": ["one.test"], "default": True})],
     False),
    ("[::1]", [ONE], True),
    ("[::1]", [(["ip:::1"], {})], False),
    ("[2001:DB8:0:0::1]", [(["ip:2001:db8::1"], {})], False),
])
def test_hosts_of_many(authority, work, host, rows, warned):
    found, out = words(work, group(authority, rows), host)
    assert found == (["W0404"] if warned else []), out


@pytest.mark.parametrize("names,given,says", [
    (["one.test"], ["two.test"], "two.test"),
    (["one.test"], ["one.test", "two.test", "three.test"], "two.test"),
    (["one.test"], ["one.test"], None),
    (["one.test"], ["ONE.test"], None),
    (["*.one.test"], ["a.one.test"], None),
    (["*.one.test"], ["a.b.one.test"], "a.b.one.test"),
    (["*.one.test"], ["*.one.test"], None),
    (["a.one.test"], ["*.one.test"], None),
    (["one.test"], ["*.one.test"], "*.one.test"),
    (["ip:127.0.0.1"], ["one.test"], "one.test"),
])
def test_name_that_a_certificate_lacks(authority, work, names, given, says):
    """W0484 tells of it at names, once for a certificate; W0404 need not tell again."""
    found, out = words(work, group(authority, [(names, {"names": given})]), given[0])
    assert found == (["W0484"] if says else []), out
    assert not says or ('\\"%s\\"' % says in out and "leaf1.crt" in out), out


def test_other_routes_after_a_reload(weir, backend, authority):
    """A listener that a reload leaves as it is has new routes all the same."""
    port = proc.free_port()
    conf = {"listeners": {"tls": {"bind": "127.0.0.1:%d" % port,
                                  "tls": group(authority, [ONE])}}}
    proxy = weir(conf, backend)
    assert "W0404" not in proxy.errors
    proxy.change(routes=[{"hosts": ["two.test"], "prefix": "/", "pool": "app"}])
    proxy.reload()
    proxy.stderr_has("W0404")
