"""The key log: secrets of connections in a file, for debugging, only when configuration and
command line both ask for it. The lines are those that the other side has."""
import os
import stat
import subprocess

import pytest

from harness import proc
from harness.tlspeers import Mint, TlsBackend
from harness.weir import eventually, run


def front(weir, authority, backend, keys=None, flags=(), **conf):
    port = proc.free_port()
    made = weir({"listeners": {"tls": {"bind": "127.0.0.1:%d" % port, "tls": {
        "certificates": [authority.leaf(["a.example"])]}}},
                 "log": {"tls_keys": str(keys)} if keys else {}, **conf}, backend, flags=flags)
    made.tls_port = port
    return made


def s_client(port, authority, keylog, *args):
    subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % port, "-servername",
                    "a.example", "-CAfile", str(authority.path), "-keylogfile", str(keylog),
                    *args], input=b"", capture_output=True, timeout=60, check=True)


def lines(path):
    """The secrets of a key log, without remarks."""
    return {line for line in path.read_text().splitlines() if line and line[0] != "#"}


LABELS = {"-tls1_2": {"CLIENT_RANDOM"},
          "-tls1_3": {"CLIENT_HANDSHAKE_TRAFFIC_SECRET", "SERVER_HANDSHAKE_TRAFFIC_SECRET",
                      "CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"}}


@pytest.mark.parametrize("version", LABELS)
def test_lines_are_those_of_the_client(weir, backend, authority, work, version):
    """What weir writes is what openssl writes of the same connection: the file decrypts it."""
    keys, theirs = work / "weir.keys", work / "openssl.keys"
    proxy = front(weir, authority, backend, keys, ["--log-tls-keys"])
    s_client(proxy.tls_port, authority, theirs, version)
    wanted = {line for line in lines(theirs) if line.split()[0] in LABELS[version]}
    assert {line.split()[0] for line in wanted} == LABELS[version]
    assert wanted <= lines(keys)
    proxy.stderr_has("secrets of all TLS connections are written to %s" % keys)


def test_endpoints_too(weir, work, authority):
    """Connections to endpoints are in it."""
    directory = work / "mint"
    directory.mkdir()
    server = TlsBackend(Mint(directory).leaf("app.internal"))
    server.context.keylog_filename = str(work / "server.keys")
    try:
        keys = work / "weir.keys"
        proxy = front(weir, authority, server, keys, ["--log-tls-keys"],
                      pools={"app": {"tls": {"verify": "none"}}})
        assert proxy.get("/x").status == 200
        eventually(lambda: lines(work / "server.keys") <= lines(keys) and lines(keys))
    finally:
        server.stop()


def test_private_and_appended(weir, backend, authority, work):
    """A file that is there is made private, and what stands in it stays."""
    keys = work / "weir.keys"
    keys.write_text("# before\n")
    keys.chmod(0o644)
    proxy = front(weir, authority, backend, keys, ["--log-tls-keys"])
    s_client(proxy.tls_port, authority, work / "openssl.keys")
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    assert keys.read_text().startswith("# before\n") and lines(keys)


def test_needs_both(weir, backend, authority, work):
    """Neither the key alone nor the switch alone writes anything; each is said."""
    keys = work / "weir.keys"
    proxy = front(weir, authority, backend, keys)
    proxy.stderr_has("log.tls_keys is set but not in force")
    s_client(proxy.tls_port, authority, work / "openssl.keys")
    assert not keys.exists()
    other = front(weir, authority, backend, None, ["--log-tls-keys"])
    other.stderr_has("--log-tls-keys means nothing")


def test_not_by_reload(weir, backend, authority, work):
    """It waits for a restart, so that nobody switches it on in a running weir."""
    keys = work / "weir.keys"
    proxy = front(weir, authority, backend, None, ["--log-tls-keys"])
    proxy.change(log={"tls_keys": str(keys)})
    proxy.reload()
    proxy.stderr_has("log.tls_keys: unset -> ")
    s_client(proxy.tls_port, authority, work / "openssl.keys")
    assert not keys.exists()


@pytest.mark.parametrize("kind", ["link", "directory", "fifo", "second name",
                                  "another's"])
def test_no_other_file(weir, backend, authority, work, kind):
    """weir does not start with a key log that is a link, or no regular file, or may be
    another's."""
    keys = work / "weir.keys"
    if kind == "link":
        keys.symlink_to(work / "elsewhere")
    elif kind == "directory":
        keys.mkdir()
    elif kind == "second name":
        (work / "own").touch(mode=0o644)
        os.link(work / "own", keys)
    elif kind == "another's":
        if os.geteuid():
            pytest.skip("only root can give a file away")
        keys.touch()
        os.chown(keys, 65534, 65534)
    else:
        subprocess.run(["mkfifo", str(keys)], check=True, timeout=60)
    path = work / "refused.conf"
    path.write_text('listeners = { web = { bind = "127.0.0.1:%d"; }; };\n'
                    'log = { tls_keys = "%s"; };\n'
                    'admin = { listen = "off"; };\n'
                    'routes = ( { prefix = "/"; respond = { status = 200; }; } );\n' % (
                        proc.free_port(), keys))
    result = run("run", "--log-tls-keys", "-c", path)
    assert result.returncode == 75 and "log.tls_keys: %s" % keys in result.stderr
    assert not (work / "elsewhere").exists()
    if kind == "second name":
        assert stat.S_IMODE((work / "own").stat().st_mode) == 0o644
    assert "W0481" in run("check", path).stdout
