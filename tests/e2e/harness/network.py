"""A network of the test's own: a loopback with IPv6 addresses of any prefix, seen by nobody else.

A child makes the namespace and lends out sockets that live in it; the test itself stays where it
is, so what it tells weir beside them goes over unix sockets. Needs root or user namespaces;
without either the test is skipped. tests: weir(..., preexec=network.enter).
"""
import ctypes
import errno
import fcntl
import os
import pathlib
import socket
import struct
import subprocess
import sys

import pytest

from . import proc

E2E = pathlib.Path(__file__).resolve().parents[1]
CLONE_NEWUSER, CLONE_NEWNET = 0x10000000, 0x40000000
SIOCSIFFLAGS, SIOCSIFADDR, IFF_UP, LOOPBACK = 0x8914, 0x8916, 1, 1
CANNOT = 77  # exit status of the child when there is no namespace to be had; stdout tells why


class Network:
    """One namespace that has these IPv6 addresses."""

    def __init__(self, addresses):
        self.end, theirs = socket.socketpair()
        self.spaces = []
        with theirs:
            self.child = subprocess.Popen(
                [sys.executable, "-B", "-m", "harness.network", str(theirs.fileno()), *addresses],
                cwd=E2E, pass_fds=[theirs.fileno()], stdout=subprocess.PIPE, text=True,
                preexec_fn=proc.die_with_parent)
        if not self.end.recv(1):
            said = self.child.communicate()[0].strip()
            self.end.close()
            assert self.child.returncode == CANNOT, "harness.network: %s" % self.child.returncode
            pytest.skip("no network namespace can be made here: " + said)
        for kind in ("user", "net"):  # in the order of setns(2)
            if os.readlink(self.path(kind)) != os.readlink("/proc/self/ns/" + kind):
                self.spaces.append(os.open(self.path(kind), os.O_RDONLY | os.O_CLOEXEC))

    def path(self, kind):
        return "/proc/%d/ns/%s" % (self.child.pid, kind)

    def socket(self):
        """A new TCP socket over IPv6 in the namespace, bound to nothing."""
        self.end.sendall(b".")
        _, (handle,), _, _ = socket.recv_fds(self.end, 1, 1)
        return socket.socket(fileno=handle)

    def enter(self):
        """For preexec_fn: the process and what it starts live in the namespace."""
        for space in self.spaces:
            if proc.LIBC.setns(space, 0):
                raise OSError(ctypes.get_errno(), "setns")
        proc.die_with_parent()  # a change of credentials has undone it

    def close(self):
        self.end.close()
        self.child.communicate()
        for space in self.spaces:
            os.close(space)


def separate():
    """Leaves the machine's network: as root, else as root of a user namespace."""
    if proc.LIBC.unshare(CLONE_NEWNET) and proc.LIBC.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")


def furnish(addresses):
    """Brings the loopback up and gives it the addresses."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as handle:
        fcntl.ioctl(handle, SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", IFF_UP))
        for address in addresses:
            row = struct.pack("16sIi", socket.inet_pton(socket.AF_INET6, address), 128, LOOPBACK)
            fcntl.ioctl(handle, SIOCSIFADDR, row)


def serve(end, *addresses):
    """The child: says that it is ready, then answers each byte with a socket."""
    try:
        separate()
        furnish(addresses)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EACCES, errno.ENOSYS, errno.ENOSPC,
                               errno.EUSERS, errno.EAFNOSUPPORT):
            raise
        print(error)
        sys.exit(CANNOT)
    with socket.socket(fileno=int(end)) as test:
        test.sendall(b"!")
        while test.recv(1):
            with socket.socket(socket.AF_INET6, socket.SOCK_STREAM) as made:
                socket.send_fds(test, [b"."], [made.fileno()])


if __name__ == "__main__":
    serve(*sys.argv[1:])
