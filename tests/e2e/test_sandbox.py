"""Places that refuse something: no io_uring, few rights, no descriptors, little memory."""
import errno
import os
import resource
import subprocess

import pytest

from harness import proc
from harness.weir import binary

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
    """At most 5 MB, hardened, needing no shared TLS or ring library."""
    path = binary()
    if "/release/" not in path:
        pytest.skip("not the release build")
    assert os.path.getsize(path) <= 5 << 20
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
