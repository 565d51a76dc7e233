"""Places that refuse something: no io_uring, few rights, no descriptors, little memory."""
import errno
import os
import re
import resource
import subprocess
import time

import pytest

from harness import proc, wire
from harness.weir import binary, eventually, run

IO_URING_SETUP = 425


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOSYS])
def test_io_uring_refused(weir, backend, code):
    """A sandbox that refuses io_uring gets one clear line with the remedy, and exit 75."""
    proxy = weir({}, backend, start=False)
    result = subprocess.run([binary(), "run", "-c", str(proxy.path)], capture_output=True,
                            text=True, timeout=60,
                            preexec_fn=lambda: proc.refuse_syscall(IO_URING_SETUP, code),
                            check=False)
    assert result.returncode == 75, result
    lines = [line for line in result.stderr.splitlines() if "io_uring" in line]
    assert len(lines) == 1, result.stderr
    assert any(word in lines[0] for word in ("seccomp", "sysctl", "kernel", "allow"))


def test_check_needs_no_io_uring(weir, backend):
    proxy = weir({}, backend, start=False)
    result = subprocess.run([binary(), "check", str(proxy.path)], capture_output=True, text=True,
                            timeout=60,
                            preexec_fn=lambda: proc.refuse_syscall(IO_URING_SETUP, errno.EPERM),
                            check=False)
    assert result.returncode == 0, result


def test_few_descriptors_at_start(weir, backend):
    """Too few to work at all: a sentence and 75, or it works."""
    proxy = weir({}, backend, start=False)
    result = subprocess.Popen([binary(), "run", "-c", str(proxy.path)], stderr=subprocess.PIPE,
                              stdout=subprocess.DEVNULL,
                              text=True, preexec_fn=lambda: (proc.die_with_parent(),
                                                             resource.setrlimit(
                                                                 resource.RLIMIT_NOFILE,
                                                                 (12, 12))))
    try:
        status = result.wait(5)
    except subprocess.TimeoutExpired:
        result.terminate()
        status = result.wait(30)
        assert status == 0
    else:
        assert status == 75 and result.stderr.read().strip()


@pytest.mark.parametrize("limit", [8, 12, 20, 40])
def test_too_few_descriptors_to_start(weir, backend, limit):
    """The number that there is, the number that it takes, and where to raise it; 75."""
    proxy = weir({}, backend, start=False)
    result = run("run", "-c", proxy.path,
                 preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)))
    assert result.returncode == 75, result
    assert "%d descriptors are allowed" % limit in result.stderr and "LimitNOFILE" in result.stderr
    assert len(result.stderr.splitlines()) == 1


# ---- no descriptor is left while weir runs ----

ALARM = re.compile(r"no descriptor is left, (\d+) are allowed \(RLIMIT_NOFILE\): (\d+) times none "
                   r"was there to accept a client, (\d+) requests got no connection")


def alarms(proxy):
    """(limit, accepts, connects) of each line about it."""
    return [tuple(map(int, found)) for found in ALARM.findall(proxy.errors)]


def leave(proxy, count):
    """Lowers the limit of the running process: so many descriptors more than it has open, once
    those that are about to close have."""
    counts = []

    def quiet():
        """the number of descriptors does not change"""
        counts.append(proc.fd_count(proxy.pid))
        return len(counts) > 20 and len(set(counts[-20:])) == 1
    eventually(quiet)
    limit = counts[-1] + count
    _, hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def raise_limit(proxy):
    _, hard = resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(proxy.pid, resource.RLIMIT_NOFILE, (hard, hard))


@pytest.fixture
def lowered(weir, backend):
    """A weir of the test's own, that keeps no idle connections to its endpoint; the limit is high
    again before it is told to end."""
    proxy = weir({"process": {"workers": 1},
                  "pools": {"app": {"connections": {"keepalive": "0s"}}}}, backend)
    assert proxy.get("/before").status == 200
    yield proxy
    if proxy.process:
        raise_limit(proxy)


def test_no_descriptor_to_accept_with(weir, backend):
    """The kernel's queue holds the rest; one line says why, with limit and remedy; nothing spins;
    when the others have left, service goes on. (The ring takes the limit that was there when it
    began to accept: so it is low from the start.)"""
    proxy = weir({"process": {"workers": 1}}, backend,
                 preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    held = [proxy.client() for _ in range(60)]
    for conn in held:
        conn.send(b"GET /held HTTP/1.1\r\n")
    eventually(lambda: alarms(proxy))
    assert alarms(proxy)[0][0] == 40 and alarms(proxy)[0][1] > 0
    proxy.stderr_has("LimitNOFILE")
    proxy.stderr_has("process.max_connections")
    cpu, start = proc.cpu_seconds(proxy.pid), time.monotonic()
    time.sleep(1)
    assert proc.cpu_seconds(proxy.pid) - cpu < 0.5 * (time.monotonic() - start)
    assert len(alarms(proxy)) == 1  # one in ten seconds
    assert proxy.metric("weir_accept_no_descriptor_total") > 0
    for conn in held:
        conn.close()

    def served():
        """a request is answered with 200: those that waited have all been accepted and left"""
        try:
            return proxy.get("/after").status == 200
        except (OSError, wire.Truncated):
            return False
    eventually(served)
    eventually(lambda: proxy.metric("weir_downstream_connections") == 0)
    for number in range(4):
        assert proxy.get("/%d" % number).status == 200


def test_no_descriptor_to_connect_with(lowered, backend):
    """503 with the end word; the endpoint is not blamed; service goes on when there are some."""
    proxy = lowered
    idle = [proxy.client() for _ in range(6)]
    for number, conn in enumerate(idle):
        assert conn.get("/%d" % number).status == 200
    eventually(lambda: proxy.metric("weir_upstream_connections") == 0)
    limit = leave(proxy, 0)
    response = idle[0].get("/none-left")
    assert response.status == 503
    assert response.get("proxy-status") == (
        'weir;error=proxy_internal_error;details="proxy.limit.descriptors"')
    proxy.logged(path="/none-left", end="proxy.limit.descriptors", status=503)
    eventually(lambda: alarms(proxy))
    assert alarms(proxy) == [(limit, 0, 1)]
    idle[0].close()  # and so there is one
    eventually(lambda: proc.fd_count(proxy.pid) < limit)
    assert idle[1].get("/again").status == 200
    assert proxy.metric("weir_upstream_ejections_total") == 0
    raise_limit(proxy)
    assert proxy.get("/after").status == 200
    proxy.ended("proxy.limit.descriptors", count=1)


def test_status_without_a_descriptor(lowered, backend):
    """Whoever looks for the cause is answered: status port, admin socket, health; one at a
    time."""
    proxy = lowered
    leave(proxy, 0)
    held = [proxy.client() for _ in range(8)]
    for _ in range(3):
        assert proxy.status_get("/-/ready").status == 200
        assert "weir_accept_no_descriptor_total" in proxy.status_get("/metrics").body.decode()
        for command in (("status", "--admin", proxy.admin), ("metrics", "--admin", proxy.admin),
                        ("health", "127.0.0.1:%d" % proxy.status)):
            assert run(*command).returncode == 0, command
    slow = [proxy.client(proxy.status) for _ in range(3)]  # they hold what there is
    cpu, start = proc.cpu_seconds(proxy.pid), time.monotonic()
    time.sleep(1)
    assert proc.cpu_seconds(proxy.pid) - cpu < 0.5 * (time.monotonic() - start)
    for conn in slow + held:
        conn.close()
    assert proxy.status_get("/-/ready").status == 200


def test_reload_without_a_descriptor(lowered, backend):
    """It fails with a sentence that says so, and changes nothing; later it works."""
    proxy = lowered
    leave(proxy, 0)
    port, other = proc.free_port(), proc.free_port()
    proxy.change(listeners={"more": {"bind": ["127.0.0.1:%d" % port, "127.0.0.1:%d" % other]}})
    result = run("reload", "--text", "--admin", proxy.admin)
    assert result.returncode == 78 and "Too many open files" in result.stderr, result
    assert "generation 1 keeps running" in result.stderr
    leave(proxy, 2)  # for whoever asks, and for the file or a port: not for two
    result = run("reload", "--text", "--admin", proxy.admin)
    assert result.returncode == 1 and "no descriptor is left" in result.stderr, result
    assert "cannot bind 127.0.0.1:%d" % other in result.stderr
    assert set(proc.listening(proxy.pid)) == {proxy.port, proxy.status}
    raise_limit(proxy)
    assert run("reload", "--text", "--admin", proxy.admin).returncode == 0
    assert proxy.get("/more", port=port).status == 200


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to drop privileges")
def test_user_is_dropped_for_good(weir, backend):
    """No thread keeps a capability or another id."""
    proxy = weir({"process": {"user": "nobody"}}, backend)
    for task in os.listdir("/proc/%d/task" % proxy.pid):
        text = open("/proc/%d/task/%s/status" % (proxy.pid, task)).read()
        fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
        assert set(fields["Uid"].split()) == {"65534"} and "0" not in fields["Gid"].split()
        assert int(fields["CapEff"], 16) == 0 and int(fields["CapPrm"], 16) == 0
    assert proxy.get("/x").status == 200


def test_unknown_user(weir, backend):
    proxy = weir({"process": {"user": "no-such-user-here"}}, backend, start=False)
    result = subprocess.run([binary(), "run", "-c", str(proxy.path)], capture_output=True,
                            text=True, timeout=60,
                            check=False)
    assert result.returncode in (75, 78) and "no-such-user-here" in result.stderr


def test_release_binary():
    """At most 5 MB, hardened, needing no shared TLS or ring library. AWS-LC has 1 MB more of
    assembly (AES-GCM by AVX-512, every curve twice): 6 MB."""
    path = binary()
    if "/release/" not in path:
        pytest.skip("not the release build")
    most = 6 if "AWS-LC" in run("version").stdout else 5
    assert os.path.getsize(path) <= most << 20
    needed = subprocess.run(["readelf", "-dlW", path], capture_output=True, text=True,
                            check=True).stdout
    assert "libssl" not in needed and "liburing" not in needed and "libcrypto" not in needed
    assert "GNU_RELRO" in needed and ("BIND_NOW" in needed or "NOW" in needed)
    header = subprocess.run(["readelf", "-h", path], capture_output=True, text=True,
                            check=True).stdout
    assert "DYN" in header
    sections = subprocess.run(["readelf", "-SW", path], capture_output=True, text=True,
                              check=True).stdout
    assert ".symtab" not in sections and ".debug_info" not in sections


def test_memory_at_start(weir, backend):
    """Few megabytes with two workers (the bench has the figure of issue 2)."""
    proxy = weir({"process": {"workers": 2}}, backend)
    if "/release/" not in binary():
        pytest.skip("not the release build")
    assert proc.memory_kib(proxy.pid) <= 6 * 1024
