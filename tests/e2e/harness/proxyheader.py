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
