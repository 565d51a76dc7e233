"""RFC 7541: field representations, integers, Huffman coding, the tables and their sizes."""
from harness import h2wire as h2
from h2_rows import answered, await_response, connection_error, get, row, stream_error

COMPRESSION = connection_error(h2.COMPRESSION_ERROR)
METHOD_GET, PATH_NAME, SCHEME_HTTP, AUTHORITY_NAME = 2, 4, 6, 1  # static table (appendix A)
CASE = h2.block(h2.pseudo())


def send(block, stream=1):
    return h2.headers(stream, block)


def fine(name, rfc, more, sees=(), before=b""):
    """A good request with more behind it is answered."""
    row(name, rfc, send(before + CASE + more), want=answered(), backend=1, sees=sees)


def broken(name, rfc, more, before=b""):
    row(name, rfc, send(before + CASE + more), want=COMPRESSION)


def huffman(bits):
    """A string literal with Huffman flag from a string of 0 and 1, a whole number of octets."""
    assert len(bits) % 8 == 0, bits
    data = bytes(int(bits[at : at + 8], 2) for at in range(0, len(bits), 8))
    return h2.integer(len(data), 7, 0x80) + data


A, EOS = "00011", "1" * 30  # appendix B: 'a' has 5 bits

# ---- 6.1 and 6.2 representations ----

row("indexed-static", "7541 6.1",
    send(h2.indexed(METHOD_GET) + h2.indexed(SCHEME_HTTP) + h2.block(h2.pseudo()[2:])),
    want=answered(), backend=1)
row("name-indexed-static", "7541 6.2.2",
    send(h2.indexed(METHOD_GET) + h2.indexed(SCHEME_HTTP)
         + h2.integer(AUTHORITY_NAME, 4) + h2.text("test.example")
         + h2.integer(PATH_NAME, 4) + h2.text("/case")), want=answered(), backend=1)
fine("name-indexed-beyond-one-octet", "7541 6.2.2",
     h2.integer(58, 4) + h2.text("agent"), (("user-agent", "agent"),))
fine("incremental-new-name", "7541 6.2.1", h2.incremental("x-a", "b"), (("x-a", "b"),))
fine("incremental-then-indexed", "7541 6.2.1", h2.incremental("x-a", "b") + h2.indexed(62),
     (("x-a", "b"), ("x-a", "b")))
fine("incremental-of-a-static-name", "7541 6.2.1",
     h2.integer(58, 6, 0x40) + h2.text("agent") + h2.integer(62, 4) + h2.text("other"),
     (("user-agent", "agent"), ("user-agent", "other")))
fine("never-indexed", "7541 6.2.3", b"\x10" + h2.text("x-a") + h2.text("b"), (("x-a", "b"),))
fine("never-indexed-of-a-static-name", "7541 6.2.3", h2.integer(58, 4, 0x10) + h2.text("agent"),
     (("user-agent", "agent"),))
row("indexed-dynamic-in-a-later-block", "7541 2.3.2",
    send(CASE + h2.incremental("x-a", "b")), await_response(), send(CASE + h2.indexed(62), 3),
    want=answered(3), backend=2, sees=(("x-a", "b"),))
row("dynamic-order-is-newest-first", "7541 2.3.2",
    send(CASE + h2.incremental("x-a", "1") + h2.incremental("x-b", "2")), await_response(),
    send(CASE + h2.indexed(63), 3), want=answered(3), backend=2, sees=(("x-a", "1"),))
row("indexed-by-a-refused-request", "7541 2.2",
    send(CASE + h2.incremental("x-a", "b") + h2.literal("X", "upper")),
    send(CASE + h2.indexed(62), 3), want=lambda conn, strict: (
        stream_error(1, h2.PROTOCOL_ERROR)(conn, strict),
        conn.closed or answered(3)(conn, strict)),
    backend=1, sees=(("x-a", "b"),))
row("indexed-by-trailers", "7541 2.2", get(end=False, method="POST"), h2.data(1, b"x"),
    send(h2.incremental("x-a", "b")), await_response(), send(CASE + h2.indexed(62), 3),
    want=answered(3), backend=2, sees=(("x-a", "b"),))
broken("index-0", "7541 6.1", h2.indexed(0))
broken("index-beyond-the-static-table", "7541 2.3.3", h2.indexed(62))
broken("index-beyond-the-dynamic-table", "7541 2.3.3",
       h2.incremental("x-a", "b") + h2.indexed(63))
broken("index-127", "7541 2.3.3", h2.indexed(127))
broken("index-huge", "7541 2.3.3", h2.indexed((1 << 31) - 1))
broken("name-index-beyond", "7541 2.3.3", h2.integer(70, 4) + h2.text("v"))
broken("name-index-beyond-incremental", "7541 2.3.3", h2.integer(70, 6, 0x40) + h2.text("v"))
broken("name-index-beyond-never", "7541 2.3.3", h2.integer(70, 4, 0x10) + h2.text("v"))

# ---- 5.1 integers ----

broken("integer-without-an-end", "7541 5.1", b"\xff" + b"\xff" * 40)
broken("integer-overflow-of-32-bits", "7541 5.1", b"\xff" + b"\x80\x80\x80\x80\x10")
broken("integer-overflow-of-64-bits", "7541 5.1", b"\xff" + b"\xff" * 9 + b"\x01")
broken("integer-wraps-to-a-good-index", "7541 5.1", h2.integer((1 << 32) + 2, 7, 0x80))
broken("integer-wraps-64-to-a-good-index", "7541 5.1", h2.integer((1 << 64) + 2, 7, 0x80))
broken("integer-of-endless-zeros", "7541 5.1", b"\xff" + b"\x80" * 60 + b"\x00")
broken("integer-cut", "7541 5.1", b"\xff")
broken("length-wraps", "7541 5.2", b"\x00" + h2.text("x-a") + h2.integer((1 << 32) + 1, 7) + b"b")
broken("length-beyond-the-block", "7541 5.2", b"\x00\x05x-a")
broken("value-missing", "7541 6.2.2", b"\x00" + h2.text("x-a"))
broken("value-cut", "7541 6.2.2", b"\x00" + h2.text("x-a") + b"\x05b")
fine("integer-of-two-octets", "7541 5.1", b"\x00" + h2.text("x-a") + h2.text("v" * 200),
     (("x-a", "v" * 200),))

# ---- 5.2 Huffman ----

fine("huffman-value", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A * 8),
     (("x-a", "aaaaaaaa"),))
fine("huffman-padding-of-3", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A + "111"),
     (("x-a", "a"),))
fine("huffman-padding-of-7", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A * 5 + "1" * 7),
     (("x-a", "aaaaa"),))
fine("huffman-name", "7541 5.2", b"\x00" + huffman(A * 8) + h2.text("v"),
     (("aaaaaaaa", "v"),))
fine("huffman-value-of-a-static-name", "7541 6.2.2",
     h2.integer(58, 4) + huffman(A * 8), (("user-agent", "aaaaaaaa"),))
fine("huffman-name-and-value", "7541 6.2.2", b"\x00" + huffman(A * 8) * 2,
     (("aaaaaaaa", "aaaaaaaa"),))
fine("huffman-incremental-of-a-static-name", "7541 6.2.1",
     h2.integer(58, 6, 0x40) + huffman(A * 8) + h2.indexed(62),
     (("user-agent", "aaaaaaaa"), ("user-agent", "aaaaaaaa")))
fine("huffman-incremental-new-name", "7541 6.2.1",
     b"\x40" + huffman(A * 8) * 2 + h2.indexed(62), (("aaaaaaaa", "aaaaaaaa"),) * 2)
fine("huffman-never-indexed-of-a-static-name", "7541 6.2.3",
     h2.integer(58, 4, 0x10) + huffman(A * 8), (("user-agent", "aaaaaaaa"),))
fine("huffman-never-indexed", "7541 6.2.3", b"\x10" + huffman(A * 8) * 2,
     (("aaaaaaaa", "aaaaaaaa"),))
fine("huffman-empty", "7541 5.2", b"\x00" + h2.text("x-a") + b"\x80", (("x-a", ""),))
broken("huffman-padding-of-11", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A + "1" * 11))
broken("huffman-padding-of-8", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A * 8 + "1" * 8))
broken("huffman-only-padding", "7541 5.2", b"\x00" + h2.text("x-a") + huffman("1" * 8))
broken("huffman-padding-of-zeros", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A + "000"))
broken("huffman-padding-with-a-zero", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A + "110"))
broken("huffman-eos", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(A + EOS + A))
broken("huffman-eos-at-the-end", "7541 5.2", b"\x00" + h2.text("x-a") + huffman(EOS + "11"))
broken("huffman-eos-in-a-name", "7541 5.2", b"\x00" + huffman(A + EOS + A) + h2.text("v"))
row("huffman-of-a-line-feed", "9113 8.2.1",
    send(CASE + b"\x00" + h2.text("x-a") + huffman("1" * 28 + "00" + "11")),
    want=stream_error(1, h2.PROTOCOL_ERROR))
row("huffman-of-an-upper-case-name", "9113 8.2.1",
    send(CASE + b"\x00" + huffman("100001" + "11") + h2.text("v")),
    want=stream_error(1, h2.PROTOCOL_ERROR))

# ---- 4.2, 6.3 table size ----

fine("size-update-at-the-start", "7541 6.3", b"", before=h2.table_size(128))
fine("size-updates-of-two", "7541 4.2", b"", before=h2.table_size(0) + h2.table_size(4096))
broken("size-update-above-the-setting", "7541 6.3", b"", before=h2.table_size(1 << 24))
broken("size-update-huge", "7541 6.3", b"", before=h2.table_size((1 << 32) - 1))
broken("size-update-at-the-end", "7541 4.2", h2.table_size(4096))
row("size-update-in-the-middle", "7541 4.2",
    send(h2.block(h2.pseudo()[:2]) + h2.table_size(1) + h2.block(h2.pseudo()[2:])),
    want=COMPRESSION)
row("size-update-to-0-evicts", "7541 4.3", send(CASE + h2.incremental("x-a", "b")),
    await_response(), send(h2.table_size(0) + CASE + h2.indexed(62), 3), want=COMPRESSION,
    backend="any")
row("size-0-and-back-evicts", "7541 4.3", send(CASE + h2.incremental("x-a", "b")),
    await_response(), send(h2.table_size(0) + h2.table_size(4096) + CASE + h2.indexed(62), 3),
    want=COMPRESSION, backend="any")
row("size-at-an-entry-keeps-it", "7541 4.1", send(CASE + h2.incremental("x-a", "b")),
    await_response(), send(h2.table_size(36) + CASE + h2.indexed(62), 3), want=answered(3),
    backend=2, sees=(("x-a", "b"),))
row("size-below-an-entry-evicts-it", "7541 4.1", send(CASE + h2.incremental("x-a", "b")),
    await_response(), send(h2.table_size(35) + CASE + h2.indexed(62), 3), want=COMPRESSION,
    backend="any")
fine("entry-larger-than-the-table-empties-it", "7541 4.4",
     h2.incremental("x-a", "b") + h2.incremental("x-b", "v" * 100), before=h2.table_size(64))
broken("entry-larger-than-the-table-is-gone", "7541 4.4",
       h2.incremental("x-a", "b") + h2.incremental("x-b", "v" * 100) + h2.indexed(62),
       before=h2.table_size(64))
fine("eviction-while-adding-by-its-own-name", "7541 4.4",
     h2.incremental("x-a", "v" * 20) + h2.integer(62, 6, 0x40) + h2.text("w" * 20)
     + h2.indexed(62), (("x-a", "v" * 20), ("x-a", "w" * 20), ("x-a", "w" * 20)),
     before=h2.table_size(60))
fine("table-churn", "7541 4.4",
     b"".join(h2.incremental("x-%02d" % n, "v" * 200) for n in range(40)) + h2.indexed(62 + 16),
     (("x-23", "v" * 200), ("x-23", "v" * 200)))
