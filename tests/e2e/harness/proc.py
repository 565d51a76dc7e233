"""What /proc tells about a process: memory, listening sockets by inode, descriptors. Linux
only."""
import collections
import ctypes
import fcntl
import os
import pathlib
import random
import signal
import socket
import struct
import tempfile

LISTEN = "0A"


class Lent:
    """Ports that this process gave out lately: free, but somebody's. Each is a locked byte of one
    file, which every process that runs tests has: of two side by side, none takes the port that
    the other's test has not bound yet, or has closed on purpose. The locks end with the
    process."""

    MOST = 2000  # of 22,000; four processes leave enough

    def __init__(self):
        self.file, self.ports = None, collections.deque()

    def take(self, port):
        """False where it is lent already, by whomever."""
        if self.file is None:
            path = os.path.join(tempfile.gettempdir(), "weir-e2e-ports.%d" % os.getuid())
            self.file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            if port in self.ports:
                return False
            fcntl.lockf(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
        except OSError:
            return False
        self.ports.append(port)
        if len(self.ports) > self.MOST:
            self.give_back(self.ports.popleft())
        return True

    def give_back(self, port):
        fcntl.lockf(self.file, fcntl.LOCK_UN, 1, port)


LENT = Lent()


def free_port(family=socket.AF_INET, host="127.0.0.1"):
    """A port outside of the ephemeral range, so that no client socket takes it meanwhile."""
    while True:
        port = random.randrange(10000, 32000)
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
        if LENT.take(port):
            return port


def listener(backlog=128):
    """A TCP socket on loopback that listens, at a port that stays its own when it is closed."""
    return socket.create_server(("127.0.0.1", free_port()), backlog=backlog)


def tree(pid):
    """pid and its descendants."""
    found = [pid]
    for task in pathlib.Path("/proc/%d/task" % pid).glob("*/children"):
        try:
            for child in task.read_text().split():
                found += tree(int(child))
        except OSError:
            pass
    return found


def runs(pid):
    """True unless the process is gone or a zombie that nobody has asked about."""
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


# What to compare with what it was: of the binary's pages each process has its share, which grows
# when others end that have them too, as those of tests that run beside.
OWN = "Pss_Anon"


def memory_kib(pid, key="Pss"):
    """Pss, OWN or Rss of one process in KiB, from smaps_rollup."""
    for line in pathlib.Path("/proc/%d/smaps_rollup" % pid).read_text().splitlines():
        if line.startswith(key + ":"):
            return int(line.split()[1])
    raise AssertionError("no %s for %d" % (key, pid))


def tree_kib(pid, key="Pss"):
    return sum(memory_kib(each, key) for each in tree(pid))


def peak_rss_kib(pid):
    for line in pathlib.Path("/proc/%d/status" % pid).read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise AssertionError("no VmHWM")


def sockets(pid):
    """Inodes of all sockets that the process has open."""
    inodes = set()
    for entry in os.listdir("/proc/%d/fd" % pid):
        try:
            link = os.readlink("/proc/%d/fd/%s" % (pid, entry))
        except OSError:
            continue
        if link.startswith("socket:["):
            inodes.add(int(link[8:-1]))
    return inodes


def listening(pid):
    """{port: sorted inodes} of the TCP sockets in LISTEN that the process has."""
    own, found = sockets(pid), {}
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path("/proc/net/%s" % table).read_text().splitlines()[1:]:
            columns = line.split()
            if columns[3] == LISTEN and int(columns[9]) in own:
                port = int(columns[1].rsplit(":", 1)[1], 16)
                found.setdefault(port, []).append(int(columns[9]))
    return {port: sorted(inodes) for port, inodes in found.items()}


def fd_count(pid):
    return len(os.listdir("/proc/%d/fd" % pid))


def cpu_seconds(pid):
    fields = pathlib.Path("/proc/%d/stat" % pid).read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


LIBC = ctypes.CDLL(None, use_errno=True)
PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38


def die_with_parent():
    """For preexec_fn: nothing that a test started outlives it."""
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def refuse_syscall(number, errno):
    """For preexec_fn: a seccomp filter that answers one system call with errno (x86-64)."""
    def rule(code, jt, jf, k):
        return struct.pack("HBBI", code, jt, jf, k)
    program = (rule(0x20, 0, 0, 0) + rule(0x15, 0, 1, number) +
               rule(0x06, 0, 0, 0x00050000 | errno) + rule(0x06, 0, 0, 0x7FFF0000))
    buffer = ctypes.create_string_buffer(program, len(program))

    class Prog(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    prog = Prog(4, ctypes.cast(buffer, ctypes.c_void_p))
    if LIBC.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_NO_NEW_PRIVS")
    if LIBC.prctl(PR_SET_SECCOMP, 2, ctypes.byref(prog), 0, 0):
        raise OSError(ctypes.get_errno(), "PR_SET_SECCOMP")


def keep_capabilities(numbers):
    """For preexec_fn: these capabilities and no others, to be passed on to what root starts."""
    bits = sum(1 << number for number in numbers)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    header = struct.pack("Ii", 0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3
    data = struct.pack("6I", low, low, 0, high, high, 0)
    if LIBC.capset(header, data):
        raise OSError(ctypes.get_errno(), "capset")


class Cgroup:
    """A memory cgroup of its own for one process, v2 or v1, where we may make one; else usable is
    False."""

    ROOT = pathlib.Path("/sys/fs/cgroup")

    def __init__(self, name):
        self.usable, self.v1 = False, (self.ROOT / "memory").is_dir()
        self.path = (self.ROOT / "memory" if self.v1 else self.ROOT) / name
        try:
            if not self.v1:
                (self.ROOT / "cgroup.subtree_control").write_text("+memory")
            self.path.mkdir()
            self.usable = (self.path / "memory.stat").exists()
        except OSError:
            return

    def enter(self):
        """For preexec_fn."""
        if self.usable:
            (self.path / "cgroup.procs").write_text(str(os.getpid()))

    def number(self, name):
        return int((self.path / name).read_text())

    def used_kib(self):
        """What the process costs beside page cache: anonymous, kernel and socket memory."""
        pairs = (line.split() for line in (self.path / "memory.stat").read_text().splitlines())
        stat = {key: int(value) for key, value in pairs}
        if self.v1:
            used = self.number("memory.usage_in_bytes") - stat["total_cache"]
            return (used + self.number("memory.kmem.tcp.usage_in_bytes")) // 1024
        return (stat["anon"] + stat.get("kernel", 0) + stat["sock"] + stat["shmem"]) // 1024

    def remove(self):
        try:
            self.path.rmdir()
        except OSError:
            pass
