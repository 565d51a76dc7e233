"""TCP endpoints and clients for tests of protocol = "tcp": an endpoint runs a function on each
connection; a client is a socket with a guard. Speaks no protocol itself."""
import ctypes
import hashlib
import os
import signal
import socket
import struct
import subprocess
import threading

from . import client, proc
from .weir import eventually

TCP_DEFER_ACCEPT = 9
PIDFD_GETFD = 438  # of x86-64 and arm64


def guarded(sock):
    sock.settimeout(client.scaled(client.GUARD))
    return sock


def exactly(sock, count):
    """count bytes, or fewer at the end."""
    data = bytearray()
    while len(data) < count:
        more = sock.recv(min(count - len(data), 1 << 18))
        if not more:
            break
        data += more
    return bytes(data)


def to_end(sock):
    data = bytearray()
    while True:
        more = sock.recv(1 << 18)
        if not more:
            return bytes(data)
        data += more


def reset(sock):
    """Closes it by RST."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def ended(sock):
    """How the other side ended it: "fin" or "reset", and what came before."""
    data = bytearray()
    try:
        while True:
            more = sock.recv(1 << 16)
            if not more:
                return "fin", bytes(data)
            data += more
    except (ConnectionResetError, BrokenPipeError):
        return "reset", bytes(data)


def stream(count, seed=1):
    """Blocks of count bytes in all that repeat nowhere near, and their SHA-256."""
    made, left, number = hashlib.sha256(), count, seed
    base = os.urandom(1 << 20)
    while left:
        block = (struct.pack("!Q", number) + base)[:min(left, 1 << 20)]
        made.update(block)
        left -= len(block)
        number += 1
        yield block, made


def echo(sock):
    while True:
        data = sock.recv(1 << 16)
        if not data:
            sock.shutdown(socket.SHUT_WR)
            return
        sock.sendall(data)


class Endpoint:
    """A listener; each connection is served by handler(socket) in a thread and then closed.
    Sockets stay in `sockets`; errors of a handler but for broken connections fail the test."""

    def __init__(self, handler=echo, port=None, context=None):
        self.handler, self.context = handler, context
        self.sock = socket.socket()
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.port = port or proc.free_port()
        self.sock.bind(("127.0.0.1", self.port))
        self.sock.listen(64)
        self.address = "127.0.0.1:%d" % self.port
        self.sockets, self.faults, self.over = [], [], threading.Event()
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self):
        while not self.over.is_set():
            try:
                sock, _ = self.sock.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(sock,), daemon=True).start()

    def serve(self, sock):
        guarded(sock)
        try:
            if self.context:
                sock = self.context.wrap_socket(sock, server_side=True)
            self.sockets.append(sock)
            self.handler(sock)
        except OSError:
            pass
        except Exception as error:  # pylint: disable=broad-except
            self.faults.append(repr(error))
        finally:
            sock.close()

    def served(self, count):
        eventually(lambda: len(self.sockets) >= count)
        return self.sockets[count - 1]

    def stop(self):
        self.over.set()
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for each in self.sockets:
            each.close()
        assert not self.faults, self.faults


def connect(port, **kwargs):
    return guarded(socket.create_connection(("127.0.0.1", port), **kwargs))


def held(pid):
    """The sockets of a process, as if they were ours: (inode, socket) one after the other."""
    pidfd = os.pidfd_open(pid)
    for entry in os.listdir("/proc/%d/fd" % pid):
        try:
            link = os.readlink("/proc/%d/fd/%s" % (pid, entry))
        except FileNotFoundError:
            continue
        if not link.startswith("socket:["):
            continue
        fd = ctypes.CDLL(None).syscall(PIDFD_GETFD, pidfd, int(entry), 0)
        if fd < 0:  # closed meanwhile
            continue
        with socket.socket(fileno=fd) as sock:
            yield int(link[8:-1]), sock
    os.close(pidfd)


def deferred(pid, port):
    """TCP_DEFER_ACCEPT of the sockets of a process that listen on port."""
    wanted = set(proc.listening(pid)[port])
    return [sock.getsockopt(socket.IPPROTO_TCP, TCP_DEFER_ACCEPT) for inode, sock in held(pid)
            if inode in wanted]


def keepalive(pid, port):
    """What a process does to find out that a peer is gone, of its connections that have port at
    one of their ends: (idle time, interval, count), or None."""
    found = []
    for _, sock in held(pid):
        try:
            if sock.family != socket.AF_INET or port not in (sock.getpeername()[1],
                                                             sock.getsockname()[1]):
                continue
        except OSError:  # it listens
            continue
        times = tuple(sock.getsockopt(socket.IPPROTO_TCP, option) for option in
                      (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT))
        on = sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        found.append(times if on else None)
    return found


NOBODY = 65534


def as_nobody():
    """For preexec_fn: servers that refuse to run as root."""
    proc.die_with_parent()
    if os.getuid() == 0:
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)
        proc.die_with_parent()  # a change of user clears it


class Server:
    """A real server process in a directory of its own."""

    def __init__(self, directory, *command, **kwargs):
        self.log = (directory / "server.log").open("wb")
        self.process = subprocess.Popen([*map(str, command)], preexec_fn=as_nobody, cwd=directory,
                                        stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=self.log, **kwargs)

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()
