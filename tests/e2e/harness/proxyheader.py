"""PROXY headers as bytes: version 1 lines, version 2 blocks and their elements, written from the
specification without a look at weir's own writer."""
import ipaddress
import struct

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
INET, INET6, UNIX = 0x11, 0x21, 0x31


def v1(src, dst="198.51.100.7", sport=56324, dport=443):
    family = "TCP%d" % ipaddress.ip_address(src).version
    return ("PROXY %s %s %s %d %d\r\n" % (family, src, dst, sport, dport)).encode()


def tlv(kind, value, length=None):
    return struct.pack(">BH", kind, len(value) if length is None else length) + value


def ssl_tlv(client, verify, *elements):
    return tlv(0x20, struct.pack(">BI", client, verify) + b"".join(elements))


def block(body, command=0x21, family=INET, length=None):
    """A version 2 header as it stands."""
    size = len(body) if length is None else length
    return SIGNATURE + struct.pack(">BBH", command, family, size) + body


def ends(src, dst=None, sport=56324, dport=443):
    """(family, address bytes) of two addresses of one version."""
    one = ipaddress.ip_address(src)
    two = ipaddress.ip_address(dst or ("198.51.100.7" if one.version == 4 else "2001:db8::7"))
    return (INET if one.version == 4 else INET6,
            one.packed + two.packed + struct.pack(">HH", sport, dport))


def v2(src, *elements, command=0x21, **kwargs):
    family, body = ends(src, **kwargs)
    return block(body + b"".join(elements), command, family)


def local(body=b""):
    return block(body, 0x20, 0)


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def with_checksum(header):
    """A version 2 header with a CRC32C element put behind it."""
    size = struct.unpack(">H", header[14:16])[0] + 7
    whole = header[:14] + struct.pack(">H", size) + header[16:] + tlv(3, bytes(4))
    return whole[:-4] + struct.pack(">I", crc32c(whole))


EVERYTHING = (tlv(1, b"h2"), tlv(2, b"www.example.com"), tlv(4, b"pad"), tlv(5, b"id" * 64),
              ssl_tlv(1, 0, tlv(0x21, b"TLSv1.3"), tlv(0x23, b"TLS_AES_128_GCM_SHA256")),
              tlv(0x30, b"blue"), tlv(0xEA, b"\x01vpce-1"))


class Header:
    """A header that was read: its version, addresses ((address, port) or None) and elements."""

    def __init__(self, version, src=None, dst=None, elements=(), local=False):
        self.version, self.src, self.dst, self.local = version, src, dst, local
        self.elements = list(elements)

    def get(self, kind):
        found = [value for each, value in self.elements if each == kind]
        assert len(found) < 2, self.elements
        return found[0] if found else None

    def ssl(self):
        """(client, verify, {kind: value}) of the TLS element, or None."""
        value = self.get(0x20)
        if value is None:
            return None
        return value[0], struct.unpack(">I", value[1:5])[0], dict(elements_of(value[5:]))


def elements_of(data):
    while data:
        kind, size = struct.unpack(">BH", data[:3])
        assert len(data) >= 3 + size, data
        yield kind, data[3:3 + size]
        data = data[3 + size:]


def read_line(line):
    words = line.decode("ascii").split(" ")
    assert words[0] == "PROXY", line
    if words[1] == "UNKNOWN":
        return Header(1, local=True)
    _, family, src, dst, sport, dport = words
    for each in (src, dst):
        assert ipaddress.ip_address(each).version == int(family[3:]), line
    return Header(1, (src, int(sport)), (dst, int(dport)))


def read_block(command, family, body):
    assert command in (0x20, 0x21), command
    size = {0: 0, INET: 4, INET6: 16}[family]
    if not size:
        return Header(2, elements=elements_of(body), local=True)
    src, dst = (str(ipaddress.ip_address(body[at:at + size])) for at in (0, size))
    sport, dport = struct.unpack(">HH", body[2 * size:2 * size + 4])
    return Header(2, (src, sport), (dst, dport), elements_of(body[2 * size + 4:]))


def checked(header, whole):
    """All that is not weir's own (LOCAL, which has no elements) has a checksum, the right one."""
    if whole[12] == 0x20:
        assert not header.elements
        return
    told = header.get(3)
    at = whole.rindex(tlv(3, told)) + 3
    assert told == struct.pack(">I", crc32c(whole[:at] + bytes(4) + whole[at + 4:]))


def read(exactly, bare=False):
    """The header that a connection begins with; exactly(n) gives its next n bytes. bare: it may
    do without a checksum."""
    start = exactly(1)
    if start == b"P":
        line = start
        while not line.endswith(b"\r\n"):
            line += exactly(1)
            assert len(line) <= 107, line
        return read_line(line[:-2])
    head = start + exactly(15)
    assert head[:12] == SIGNATURE, head
    command, family, size = struct.unpack(">BBH", head[12:])
    body = exactly(size)
    header = read_block(command, family, body)
    if not bare or header.get(3):
        checked(header, head + body)
    return header
