"""Ticket keys from files: a session made at one weir resumes at another one with the same keys,
and after a rotation; never under another TLS policy (THREATS.md row 16). Faults of key files;
tickets off. RFC 5077."""
import os
import pathlib
import ssl
import subprocess

import pytest

from harness import client, confgen, proc
from harness.weir import eventually, run

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
BOTH = pytest.mark.parametrize("version", [V12, V13], ids=["1.2", "1.3"])


def key_file(path, size=80, data=None):
    """A ticket key as `openssl rand` makes it, replaced at once; its name in the configuration."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_bytes(os.urandom(size) if data is None else data)
    fresh.replace(path)
    return "file:%s" % path


def listener(leaf, port, **tls):
    return {"bind": "127.0.0.1:%d" % port,
            "tls": {"certificates": [dict(names=["a.example"], **leaf)], **tls}}


class Machine:
    """A weir with one TLS listener that has `tls` beside its certificate."""

    def __init__(self, make, backend, authority, stem, **tls):
        self.port = proc.free_port()
        leaf = authority.leaf(["a.example"], stem=stem)
        self.weir = make({"listeners": {"tls": listener(leaf, self.port, **tls)}}, backend)

    def rotate(self, **tls):
        self.weir.change(listeners={"tls": {"tls": tls}})
        self.weir.reload()


def visit(port, context, session=None):
    """One connection with one request; (session for the next, was resumed)."""
    with client.Client(port, tls=context, sni="a.example", session=session) as conn:
        assert conn.get("/s", host="a.example").status == 200
        return conn.sock.session, conn.sock.session_reused


def only(authority, version):
    return authority.client_context(minimum=version, maximum=version)


@BOTH
@pytest.mark.parametrize("size", [48, 80])
def test_two_machines_share_keys(weir, backend, authority, work, version, size):
    """Machines with certificates of their own; then the key is rotated in both, old one kept."""
    old = key_file(work / "old.key", size)
    one, two = (Machine(weir, backend, authority, "m%d" % i, ticket_keys=[old]) for i in (1, 2))
    context = only(authority, version)
    session, reused = visit(one.port, context)
    assert not reused
    again, reused = visit(two.port, context, session)
    assert reused
    new = key_file(work / "new.key")
    one.rotate(ticket_keys=[new, old])
    two.rotate(ticket_keys=[new, old])
    renewed, reused = visit(one.port, context, again)
    assert reused, "a ticket of the key before is still good"
    one.rotate(ticket_keys=[new])
    two.rotate(ticket_keys=[new])
    assert visit(two.port, context, renewed)[1], "it was renewed under the new key"
    assert not visit(two.port, context, again)[1], "the old key is gone"
    assert one.weir.metric("weir_tls_handshakes_total", resumed="true") == 1


@BOTH
def test_resumed_after_a_restart(weir, backend, authority, work, version):
    keys = [key_file(work / "a.key")]
    one = Machine(weir, backend, authority, "m", ticket_keys=keys)
    context = only(authority, version)
    session, _ = visit(one.port, context)
    one.weir.stop()
    one.weir.start()
    assert visit(one.port, context, session)[1]


@BOTH
def test_not_without_the_key(weir, backend, authority, work, version):
    keys = [key_file(work / "a.key")]
    one = Machine(weir, backend, authority, "m1", ticket_keys=keys)
    two = Machine(weir, backend, authority, "m2")
    three = Machine(weir, backend, authority, "m3", ticket_keys=[key_file(work / "b.key")])
    context = only(authority, version)
    session, _ = visit(one.port, context)
    assert not visit(two.port, context, session)[1]
    assert not visit(three.port, context, session)[1]


@BOTH
def test_file_changed_in_place(weir, backend, authority, work, version):
    """A key file that changes is used without a reload; the old content resumes no more."""
    path = work / "a.key"
    one = Machine(weir, backend, authority, "m", ticket_keys=[key_file(path)])
    context = only(authority, version)
    session, _ = visit(one.port, context)
    assert visit(one.port, context, session)[1]
    key_file(path)
    eventually(lambda: one.weir.metric("weir_certificate_updates_total", result="ok") == 1)
    assert not visit(one.port, context, session)[1]
    session, _ = visit(one.port, context)
    assert visit(one.port, context, session)[1]
    assert one.weir.generation() == 1


def test_bad_change_keeps_the_old_key(weir, backend, authority, work):
    path = work / "a.key"
    one = Machine(weir, backend, authority, "m", ticket_keys=[key_file(path)])
    context = only(authority, V13)
    session, _ = visit(one.port, context)
    key_file(path, data=b"short")
    eventually(lambda: one.weir.metric("weir_certificate_updates_total", result="refused") == 1)
    one.weir.stderr_has("it has 5 bytes, not 48 or 80")
    assert visit(one.port, context, session)[1]


POLICIES = {
    "equal": ({}, True),
    "other certificate": ({"stem": "other"}, True),
    "client certificates": ({"client": [{"verify": "optional"}]}, False),
    "min_version": ({"min_version": "1.3"}, False),
    "groups": ({"groups": ["X25519"]}, False),
    "ciphers": ({"ciphers": ["ECDHE-ECDSA-AES128-GCM-SHA256"]}, False),
}


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("shared", [True, False], ids=["files", "process"])
def test_sessions_of_another_policy(weir, backend, authority, work, name, shared):
    """Two listeners with the same keys and one certificate: a session of one is resumed at the
    other only where all that clients are asked for is equal, whichever of them was there first."""
    over, resumes = POLICIES[name]
    over = dict(over)
    if "client" in over:
        over["client"] = [dict(row, ca="file:%s" % authority.path) for row in over["client"]]
    leaf = authority.leaf(["a.example"], stem="leaf")
    other = authority.leaf(["a.example"], stem=over.pop("stem")) if "stem" in over else leaf
    keys = {"ticket_keys": [key_file(work / "a.key")]} if shared else {}
    ports = [proc.free_port(), proc.free_port()]
    weir({"listeners": {"one": listener(leaf, ports[0], **keys),
                        "two": listener(other, ports[1], **keys, **over)}}, backend)
    context = only(authority, V13)
    for first, second in (ports, reversed(ports)):
        session, _ = visit(first, context)
        assert visit(first, context, session)[1]
        assert visit(second, context, session)[1] == resumes


@BOTH
def test_tickets_off(weir, backend, authority, version):
    one = Machine(weir, backend, authority, "m", tickets=False)
    context = only(authority, version)
    with client.Client(one.port, tls=context, sni="a.example") as conn:
        assert conn.get("/s", host="a.example").status == 200
        assert not (conn.sock.session and conn.sock.session.has_ticket)
        session = conn.sock.session
    if session:
        assert not visit(one.port, context, session)[1]
    one.rotate(tickets=True)
    session, _ = visit(one.port, context)
    assert visit(one.port, context, session)[1]
    one.rotate(tickets=False)
    assert not visit(one.port, context, session)[1], "a ticket from before is not taken"


def checked(authority, work, **tls):
    path = work / "check.conf"
    conf = {"listeners": {"tls": listener(authority.leaf(["a.example"], stem="c"), 1, **tls)},
            "pools": {"app": {"endpoints": ["127.0.0.1:9"]}},
            "routes": [{"prefix": "/", "pool": "app"}]}
    path.write_text(confgen.body(conf))
    result = run("check", path)
    return result.returncode, result.stdout + result.stderr


def test_faults_of_key_files(authority, work):
    """check says which file, what is wrong with it, and how to make one."""
    good = key_file(work / "good.key")
    data = pathlib.Path(good[5:]).read_bytes()
    short = key_file(work / "short.key", 79)
    status, text = checked(authority, work, ticket_keys=[good, short])
    assert status == 78 and "W0330" in text and "short.key: it has 79 bytes" in text
    assert "openssl rand -out new-ticket.key 80" in text and "-out %s" % short[5:] not in text
    cert = authority.leaf(["a.example"], stem="c")["cert"]
    status, text = checked(authority, work, ticket_keys=[cert])
    assert status == 78 and "it is no ticket key but PEM" in text
    assert "openssl rand -out %s" % cert[5:] not in text, "whoever does it loses the certificate"
    zeros = key_file(work / "zeros.key", data=bytes(80))
    status, text = checked(authority, work, ticket_keys=[zeros])
    assert status == 78 and "all of its bytes are one" in text
    twin = key_file(work / "twin.key", data=data)
    status, text = checked(authority, work, ticket_keys=[good, twin])
    assert status == 78 and "W0331" in text and "are the same" in text and "twin.key" in text
    named = key_file(work / "named.key", data=data[:16] + os.urandom(64))
    status, text = checked(authority, work, ticket_keys=[good, named])
    assert status == 78 and "W0331" in text and "first 16 bytes" in text
    status, text = checked(authority, work, ticket_keys=[good, good])
    assert status == 78 and "stands twice" in text
    status, text = checked(authority, work, ticket_keys=["file:%s" % (work / "none.key")])
    assert status == 78 and "none.key: No such file" in text
    status, text = checked(authority, work, ticket_keys=[good], tickets=False)
    assert status == 78 and "W0199" in text
    many = [key_file(work / ("k%d.key" % i)) for i in range(9)]
    status, text = checked(authority, work, ticket_keys=many)
    assert status == 78 and "has 9 ticket keys" in text
    os.chmod(good[5:], 0o644)
    status, text = checked(authority, work, ticket_keys=[good])
    assert status == 0 and "every user can read the ticket key" in text
    os.chmod(good[5:], 0o600)
    assert checked(authority, work, ticket_keys=many[:8]) == (0, checked(
        authority, work, ticket_keys=many[:8])[1])


def test_key_made_by_openssl(authority, work):
    made = work / "made.key"
    subprocess.run(["openssl", "rand", "-out", str(made), "80"], check=True, timeout=60)
    made.chmod(0o600)
    status, text = checked(authority, work, ticket_keys="file:%s" % made)
    assert status == 0 and "warning" not in text, text
