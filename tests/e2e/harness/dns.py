"""A DNS server on loopback, UDP and TCP on one port, that says what a test wants (RFC 1035, 2782).

set() gives the records of a name; behave() how it is answered: late, not at all, with an error,
with what makes no sense. Names that it does not know get NXDOMAIN. `asked` has every question.
"""
import ipaddress
import socket
import struct
import threading
import time

from . import proc

A, CNAME, AAAA, SRV = 1, 5, 28, 33
TYPES = {A: "A", AAAA: "AAAA", SRV: "SRV", CNAME: "CNAME"}
RCODES = {"formerr": 1, "servfail": 2, "nxdomain": 3, "notimp": 4, "refused": 5}
UDP_MAX = 512


def encode_name(name):
    labels = [part.encode() for part in name.rstrip(".").split(".") if part]
    return b"".join(bytes([len(part)]) + part for part in labels) + b"\0"


def record(owner, kind, ttl, data):
    return owner + struct.pack("!HHIH", kind, 1, ttl & 0xffffffff, len(data)) + data


def srv_data(priority, weight, port, target):
    return struct.pack("!HHH", priority, weight, port) + encode_name(target)


class Behaviour:
    """How a name is answered: error is a row of RCODES, "drop", "garbage" or "cut" (the answer
    ends in the middle); types are those that it is for."""

    def __init__(self, error=None, delay=0.0, types=(A, AAAA, SRV)):
        self.error, self.delay, self.types = error, delay, types


class Dns:
    def __init__(self, port=0):
        self.zone, self.behaviours, self.asked = {}, {}, []
        self.turn = 0  # rotates answers, as many servers do
        self.rotate = True
        self.lock = threading.Lock()
        self.running = True
        for _ in range(50):
            self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            self.udp.bind(("127.0.0.1", port or proc.free_port()))
            self.port = self.udp.getsockname()[1]
            self.tcp = socket.socket()
            self.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                self.tcp.bind(("127.0.0.1", self.port))
                break
            except OSError:
                self.udp.close()
                self.tcp.close()
        self.address = "127.0.0.1:%d" % self.port
        self.tcp.listen(64)
        for run in (self.run_udp, self.run_tcp):
            threading.Thread(target=run, daemon=True).start()

    # ---- what it says ----

    def set(self, name, a=(), aaaa=(), srv=(), cname=None, ttl=0):
        """The records of name from now on, in place of all before; a name without any exists."""
        rows = [(A, ipaddress.IPv4Address(ip).packed) for ip in a]
        rows += [(AAAA, ipaddress.IPv6Address(ip).packed) for ip in aaaa]
        rows += [(SRV, srv_data(*row)) for row in srv]
        with self.lock:
            self.zone[name.lower()] = (rows, cname, ttl)

    def forget(self, name):
        with self.lock:
            self.zone.pop(name.lower(), None)

    def behave(self, name, error=None, **kwargs):
        """None: as it should again."""
        with self.lock:
            self.behaviours[name.lower()] = Behaviour(error, **kwargs)

    def count(self, name, kind=None):
        """Questions for a name so far."""
        with self.lock:
            return sum(1 for n, k, _ in self.asked if n == name.lower() and kind in (None, k))

    def stop(self):
        self.running = False
        self.udp.close()
        self.tcp.close()

    # ---- answers ----

    def answers(self, name, kind):
        """(rcode, records) by the zone; aliases are followed."""
        out, owner, seen = [], b"\xc0\x0c", name
        for _ in range(20):
            if seen not in self.zone:
                return (0 if out else 3), out
            rows, cname, ttl = self.zone[seen]
            if cname is None:
                break
            out.append(record(owner, CNAME, ttl, encode_name(cname)))
            owner, seen = encode_name(cname), cname.lower()
        mine = [record(owner, k, ttl, data) for k, data in rows if k == kind]
        if mine and self.rotate:
            self.turn += 1
            at = self.turn % len(mine)
            mine = mine[at:] + mine[:at]
        return 0, out + mine

    def reply(self, packet, proto):
        """(delay, bytes or None)"""
        labels, at = [], 12
        while packet[at]:
            labels.append(packet[at + 1 : at + 1 + packet[at]].decode())
            at += 1 + packet[at]
        kind = struct.unpack("!H", packet[at + 1 : at + 3])[0]
        name, question = ".".join(labels).lower(), packet[12 : at + 5]
        with self.lock:
            self.asked.append((name, kind, proto))
            how = self.behaviours.get(name) or self.behaviours.get("*") or Behaviour()
            error = how.error if kind in how.types else None
            rcode, rows = self.answers(name, kind)
        if error == "drop":
            return how.delay, None
        if error == "garbage":
            head = packet[:2] + b"\x81\x80" + b"\0\1\0\xff\0\0\0\0"
            return how.delay, head + question + b"\xc0\x0c"
        if error in RCODES:
            rcode, rows = RCODES[error], []
        head = packet[:2] + struct.pack("!BBHHHH", 0x81, 0x80 | rcode, 1, len(rows), 0, 0)
        whole = head + question + b"".join(rows)
        if error == "cut":
            whole = whole[:-3]
        if proto == "udp" and len(whole) > UDP_MAX:
            return how.delay, packet[:2] + b"\x83\x80\0\1\0\0\0\0\0\0" + question
        return how.delay if kind in how.types else 0, whole

    # ---- sockets ----

    def run_udp(self):
        while self.running:
            try:
                packet, peer = self.udp.recvfrom(4096)
            except OSError:
                return
            threading.Thread(target=self.answer_udp, args=(packet, peer), daemon=True).start()

    def answer_udp(self, packet, peer):
        delay, whole = self.reply(packet, "udp")
        time.sleep(delay)
        try:
            if whole:
                self.udp.sendto(whole, peer)
        except OSError:
            pass

    def run_tcp(self):
        while self.running:
            try:
                sock, _ = self.tcp.accept()
            except OSError:
                return
            threading.Thread(target=self.serve_tcp, args=(sock,), daemon=True).start()

    def serve_tcp(self, sock):
        with sock:
            try:
                while True:
                    head = sock.recv(2, socket.MSG_WAITALL)
                    if len(head) < 2:
                        return
                    packet = sock.recv(struct.unpack("!H", head)[0], socket.MSG_WAITALL)
                    delay, whole = self.reply(packet, "tcp")
                    time.sleep(delay)
                    if whole:
                        sock.sendall(struct.pack("!H", len(whole)) + whole)
            except OSError:
                pass
