"""RFC 9113 section 8 and RFC 8441: what a request is, and what is malformed."""
from harness import h2wire as h2
from h2_rows import (ANY, CUT, answered, connection_error, either, get, head_of, ignored, post,
                     refused, row, stream_error)

BAD = stream_error(1, h2.PROTOCOL_ERROR)
METHOD, SCHEME = (":method", "GET"), (":scheme", "http")
AUTHORITY, PATH = (":authority", "test.example"), (":path", "/case")
TE, X = ("te", "trailers"), ("x-field", "value")


# ---- 8.1 framing ----

row("get", "9113 8.1", get(), want=answered(), backend=1, sees=(("host", "test.example"),))
row("head", "9113 8.1", get(method="HEAD"), want=answered(), backend=1, methods=((1, "HEAD"),))
row("options", "9113 8.1", get(method="OPTIONS"), want=answered(), backend=1)
row("options-asterisk", "9113 8.3.1", get(method="OPTIONS", path="*"), backend=ANY,
    want=either(answered(), refused()))
row("post-without-a-body", "9113 8.1", get(method="POST"), want=answered(), backend=1, body=b"")
row("get-with-a-body", "9113 8.1", get(end=False), h2.data(1, b"x", True), want=answered(),
    backend=1, body=b"x")
row("head-ended-by-empty-data", "9113 8.1", get(end=False), h2.data(1, b"", True),
    want=answered(), backend=1, body=b"")
row("trailers", "9113 8.1", post(), h2.data(1, b"body"),
    h2.headers(1, h2.block([("x-sum", "1")])), want=answered(), backend=1, body=b"body")
row("trailers-without-data", "9113 8.1", post(), h2.headers(1, h2.block([("x-sum", "1")])),
    want=answered(), backend=1, body=b"")
row("trailers-of-nothing", "9113 8.1", post(), h2.data(1, b"x"), h2.headers(1, b""),
    want=answered(), backend=1, body=b"x")
row("trailers-with-length", "9113 8.1", post(fields=[("content-length", "4")]),
    h2.data(1, b"body"), h2.headers(1, h2.block([("x-sum", "1")])), want=answered(), backend=1,
    body=b"body")
row("second-headers-without-end", "9113 8.1", post(), h2.data(1, b"x"),
    h2.headers(1, h2.block([X]), end=False), want=BAD, backend=CUT)
row("second-headers-at-once", "9113 8.1", post(), post(), want=BAD, backend=CUT)
row("data-after-trailers", "9113 8.1", post(), h2.data(1, b"x"), h2.headers(1, h2.block([X])),
    h2.data(1, b"y", True), want=stream_error(1, h2.STREAM_CLOSED), backend=ANY)

# ---- 8.2 fields ----

row("field", "9113 8.2", get(fields=[X]), want=answered(), backend=1, sees=(X,))
row("field-value-empty", "9113 8.2.1", get(fields=[("x-field", "")]), want=answered(), backend=1,
    sees=(("x-field", ""),))
row("field-value-of-high-bytes", "9113 8.2.1", get(fields=[("x-field", b"\xc3\xa4\xff")]),
    want=answered(), backend=1, sees=(("x-field", b"\xc3\xa4\xff"),))
row("field-value-with-inner-space", "9113 8.2.1", get(fields=[("x-field", "a \t b")]),
    want=answered(), backend=1, sees=(("x-field", "a \t b"),))
row("field-name-of-all-token-characters", "9113 8.2.1",
    get(fields=[("!#$%&'*+-.^`|~0x", "v")]), want=answered(), backend=1,
    sees=(("!#$%&'*+-.^`|~0x", "v"),))
row("fields-repeated", "9113 8.2", get(fields=[("x-field", "a"), ("x-field", "b")]),
    want=answered(), backend=1, sees=(("x-field", "a"), ("x-field", "b")))

for _name, _bytes in (
        ("upper-case", b"X-Field"), ("one-upper-case", b"x-fielD"), ("empty", b""),
        ("space", b"x field"), ("space-at-the-end", b"x-field "), ("colon", b"x:field"),
        ("colon-at-the-end", b"x-field:"), ("nul", b"x\0field"), ("cr-lf", b"x: a\r\nevil"),
        ("line-feed", b"x\nfield"), ("del", b"x\x7ffield"), ("high-byte", b"x\xe4field"),
        ("tab", b"x\tfield")):
    row("field-name-" + _name, "9113 8.2.1", get(fields=[(_bytes, "v")]), want=BAD)
for _name, _bytes in (("slash", b"x/field"), ("quote", b'x"field'), ("bracket", b"x(field")):
    row("field-name-" + _name, "9110 5.1", get(fields=[(_bytes, "v")]), want=refused())
for _name, _bytes in (
        ("nul", b"a\0b"), ("line-feed", b"a\nb"), ("carriage-return", b"a\rb"),
        ("cr-lf", b"a\r\nevil: 1"), ("cr-lf-request", b"a\r\n\r\nGET /evil HTTP/1.1\r\nhost: e"),
        ("space-before", b" a"), ("space-behind", b"a "), ("tab-before", b"\ta"),
        ("tab-behind", b"a\t"), ("only-space", b" ")):
    row("field-value-" + _name, "9113 8.2.1", get(fields=[("x-field", _bytes)]), want=BAD)
row("field-value-control", "9110 5.5", get(fields=[("x-field", b"a\x01b")]), want=refused(),
    weir_only="a recipient MAY keep it")
row("field-value-del", "9110 5.5", get(fields=[("x-field", b"a\x7fb")]), want=refused(),
    weir_only="a recipient MAY keep it")
row("trailer-name-upper-case", "9113 8.2.1", post(), h2.data(1, b"x"),
    h2.headers(1, h2.block([("X-Sum", "1")])), want=BAD, backend=CUT)
row("trailer-value-cr-lf", "9113 8.2.1", post(), h2.data(1, b"x"),
    h2.headers(1, h2.block([("x-sum", "1\r\nevil: 1")])), want=BAD, backend=CUT)

# ---- 8.2.2 connection-specific fields ----

for _name, _value in (("connection", "keep-alive"), ("connection", "close"),
                      ("keep-alive", "timeout=5"), ("proxy-connection", "keep-alive"),
                      ("transfer-encoding", "chunked"), ("transfer-encoding", "identity"),
                      ("upgrade", "h2c"), ("upgrade", "websocket")):
    row("connection-specific-%s-%s" % (_name, _value.split("=")[0]), "9113 8.2.2",
        get(fields=[(_name, _value)]), want=BAD)
row("connection-specific-in-trailers", "9113 8.2.2", post(), h2.data(1, b"x"),
    h2.headers(1, h2.block([("connection", "close")])), want=BAD, backend=CUT)
row("transfer-encoding-with-a-body", "9113 8.2.2", post(fields=[("transfer-encoding", "chunked")]),
    h2.data(1, b"0\r\n\r\nGET /evil HTTP/1.1\r\nhost: e\r\n\r\n", True), want=BAD)
row("te-trailers", "9113 8.2.2", get(fields=[TE]), want=answered(), backend=1)
for _value in ("gzip", "trailers, gzip", "trailers;q=0.5", "chunked", ""):
    row("te-%s" % (_value.replace(" ", "") or "empty"), "9113 8.2.2", get(fields=[("te", _value)]),
        want=BAD)
row("te-and-another", "9113 8.2.2", get(fields=[TE, ("te", "deflate")]), want=BAD)

# ---- 8.2.3 cookies ----

row("cookie-crumbs", "9113 8.2.3",
    get(fields=[("cookie", "a=b"), ("cookie", "c=d"), X, ("cookie", "e=f")]), want=answered(),
    backend=1, sees=(("cookie", "a=b; c=d; e=f"),))
row("cookie-whole", "9113 8.2.3", get(fields=[("cookie", "a=b; c=d")]), want=answered(),
    backend=1, sees=(("cookie", "a=b; c=d"),))

# ---- 8.3 pseudo-fields ----

row("pseudo-in-another-order", "9113 8.3", head_of(PATH, AUTHORITY, SCHEME, METHOD, X),
    want=answered(), backend=1, sees=(X,))
row("pseudo-unknown", "9113 8.3", head_of(METHOD, SCHEME, AUTHORITY, PATH, (":test", "x")),
    want=BAD)
row("pseudo-of-a-response", "9113 8.3", head_of(METHOD, SCHEME, AUTHORITY, PATH,
                                                (":status", "200")), want=BAD)
row("pseudo-only-status", "9113 8.3", head_of((":status", "200")), want=BAD)
row("pseudo-behind-a-field", "9113 8.3", head_of(METHOD, SCHEME, AUTHORITY, X, PATH), want=BAD)
row("pseudo-behind-all-fields", "9113 8.3", head_of(SCHEME, AUTHORITY, PATH, X, METHOD), want=BAD)
row("pseudo-in-trailers", "9113 8.3", post(), h2.data(1, b"x"),
    h2.headers(1, h2.block([METHOD])), want=BAD, backend=CUT)
row("pseudo-path-in-trailers", "9113 8.3", post(), h2.data(1, b"x"),
    h2.headers(1, h2.block([("x-sum", "1"), (":path", "/evil")])), want=BAD, backend=CUT)
row("pseudo-status-in-trailers", "9113 8.3", post(), h2.data(1, b"x"),
    h2.headers(1, h2.block([(":status", "200")])), want=BAD, backend=CUT)
row("pseudo-empty-name", "9113 8.3", head_of(METHOD, SCHEME, AUTHORITY, PATH, (":", "x")),
    want=BAD)
row("pseudo-upper-case", "9113 8.3", head_of((":METHOD", "GET"), SCHEME, AUTHORITY, PATH),
    want=BAD)

# ---- 8.3.1 request pseudo-fields ----

row("no-fields-at-all", "9113 8.3.1", h2.headers(1, b""), want=BAD)
row("no-method", "9113 8.3.1", head_of(SCHEME, AUTHORITY, PATH), want=BAD)
row("no-scheme", "9113 8.3.1", head_of(METHOD, AUTHORITY, PATH), want=BAD)
row("no-path", "9113 8.3.1", head_of(METHOD, SCHEME, AUTHORITY), want=BAD)
row("no-authority-but-host", "9113 8.3.1", head_of(METHOD, SCHEME, PATH, ("host", "h.example")),
    want=answered(), backend=1, sees=(("host", "h.example"),))
row("no-authority-no-host", "9113 8.3.1", head_of(METHOD, SCHEME, PATH), want=refused(),
    weir_only="not in the public suite; nghttpd and others serve it")
row("path-empty", "9113 8.3.1", head_of(METHOD, SCHEME, AUTHORITY, (":path", "")), want=BAD)
row("method-twice", "9113 8.3.1", head_of(METHOD, METHOD, SCHEME, AUTHORITY, PATH), want=BAD)
row("scheme-twice", "9113 8.3.1", head_of(METHOD, SCHEME, SCHEME, AUTHORITY, PATH), want=BAD)
row("path-twice", "9113 8.3.1", head_of(METHOD, SCHEME, AUTHORITY, PATH, PATH), want=BAD)
row("authority-twice", "9113 8.3.1", head_of(METHOD, SCHEME, AUTHORITY, AUTHORITY, PATH),
    want=BAD)
row("authority-twice-different", "9113 8.3.1",
    head_of(METHOD, SCHEME, AUTHORITY, (":authority", "evil.example"), PATH), want=BAD)
row("host-as-authority", "9113 8.3.1",
    head_of(METHOD, SCHEME, AUTHORITY, PATH, ("host", "test.example")), want=answered(),
    backend=1, sees=(("host", "test.example"),))
row("host-against-authority", "9113 8.3.1",
    head_of(METHOD, SCHEME, AUTHORITY, PATH, ("host", "evil.example")), want=refused(),
    weir_only="SHOULD")
row("host-twice", "9110 7.2",
    head_of(METHOD, SCHEME, PATH, ("host", "a.example"), ("host", "b.example")), want=refused())
row("authority-with-port", "9113 8.3.1", get(authority="test.example:8080"), want=answered(),
    backend=1)
for _name, _value in (("userinfo", "user@test.example"), ("space", "test example"),
                      ("slash", "test.example/x"), ("cr-lf", "a\r\nevil: 1"), ("empty", ""),
                      ("port-of-letters", "test.example:http"), ("comma", "a.example,b.example")):
    row("authority-" + _name, "9113 8.3.1", get(authority=_value), want=refused(),
        weir_only="" if _name in ("cr-lf", "space") else "no server's duty in the public suite")
for _name, _value in (("space", "GE T"), ("cr-lf", "GET / HTTP/1.1\r\nevil: 1\r\n\r\nGET"),
                      ("empty", ""), ("colon", "GET:"), ("nul", "GE\0T")):
    row("method-" + _name, "9110 9.1", get(method=_value), want=refused())
row("method-unknown", "9110 9.1", get(method="BREW"), backend=ANY,
    want=either(answered(), refused()))
row("method-trace", "9110 9.3.8", get(method="TRACE"), want=refused(),
    weir_only="weir does not serve TRACE")
for _name, _value in (("without-slash", "case"), ("absolute", "http://test.example/case"),
                      ("space", "/ca se"), ("cr-lf", "/case HTTP/1.1\r\nevil: 1\r\n\r\n"),
                      ("nul", "/ca\0se"), ("fragment", "/case#here"), ("line-feed", "/ca\nse"),
                      ("tab", "/ca\tse"), ("del", "/ca\x7fse"), ("high-byte", b"/ca\xffse"),
                      ("asterisk", "*"), ("dots-above-the-root", "/../case")):
    row("path-" + _name, "9113 8.3.1", get(path=_value), want=refused(),
        weir_only="" if _name in ("cr-lf", "nul", "line-feed") else "stricter than the suite")
row("path-with-query", "9113 8.3.1", get(path="/case?a=b&c"), want=answered(), backend=1)
row("scheme-cr-lf", "9113 8.3.1", get(scheme="http\r\nevil: 1"), want=refused())
row("scheme-empty", "9113 8.3.1", get(scheme=""), want=refused(), weir_only="stricter")
row("scheme-of-a-slash", "9113 8.3.1", get(scheme="http://evil.example/?"), want=refused(),
    weir_only="CVE-2021-39240")

# ---- 8.1.1 content-length against DATA ----


def sized(length, *frames, end=False):
    return (get(method="POST", fields=[("content-length", length)], end=end), *frames)


row("length-right", "9113 8.1.1", *sized("4", h2.data(1, b"te"), h2.data(1, b"st", True)),
    want=answered(), backend=1, body=b"test")
row("length-right-with-padding", "9113 8.1.1", *sized("4", h2.data(1, b"test", True, pad=9)),
    want=answered(), backend=1, body=b"test")
row("length-0", "9113 8.1.1", *sized("0", end=True), want=answered(), backend=1, body=b"")
row("length-0-and-empty-data", "9113 8.1.1", *sized("0", h2.data(1, b"", True)),
    want=answered(), backend=1, body=b"")
row("length-without-data", "9113 8.1.1", *sized("1", end=True), want=BAD, backend=CUT)
row("length-larger", "9113 8.1.1", *sized("5", h2.data(1, b"test", True)), want=BAD, backend=CUT)
row("length-smaller", "9113 8.1.1", *sized("1", h2.data(1, b"test", True)), want=BAD,
    backend=CUT)
row("length-larger-over-frames", "9113 8.1.1",
    *sized("9", h2.data(1, b"te"), h2.data(1, b"st", True)), want=BAD, backend=CUT)
row("length-smaller-over-frames", "9113 8.1.1",
    *sized("3", h2.data(1, b"te"), h2.data(1, b"st", True)), want=BAD, backend=CUT)
row("length-smaller-before-the-end", "9113 8.1.1", *sized("1", h2.data(1, b"test")), want=BAD,
    backend=CUT)
row("length-0-with-data", "9113 8.1.1", *sized("0", h2.data(1, b"GET /evil HTTP/1.1\r\n", True)),
    want=BAD, backend=ANY)
row("length-larger-with-trailers", "9113 8.1.1",
    *sized("5", h2.data(1, b"test"), h2.headers(1, h2.block([X]))), want=BAD, backend=CUT)
row("length-larger-ended-by-empty-data", "9113 8.1.1",
    *sized("5", h2.data(1, b"test"), h2.data(1, b"", True)), want=BAD, backend=CUT)
for _name, _value in (("plus", "+4"), ("minus", "-4"), ("letters", "four"), ("hex", "0x4"),
                      ("list", "4, 4"), ("list-different", "4, 5"), ("empty", ""),
                      ("huge", "99999999999999999999999999"), ("inner-space", "4 4"),
                      ("wraps-to-4", str((1 << 64) + 4))):
    row("length-" + _name, "9110 8.6", *sized(_value, h2.data(1, b"test", True)), want=refused(),
        backend=CUT, weir_only="a list of equal values MAY be served" if _name == "list" else "")
row("length-twice", "9110 8.6",
    get(method="POST", fields=[("content-length", "4"), ("content-length", "5")], end=False),
    h2.data(1, b"test", True), want=refused(), backend=CUT)
row("length-twice-the-same", "9110 8.6", post(fields=[("content-length", "4")] * 2),
    h2.data(1, b"test", True), want=either(refused(), answered()), backend=ANY)

# ---- 8.5 CONNECT and RFC 8441 ----

WEBSOCKET = ((":method", "CONNECT"), (":protocol", "websocket"), SCHEME, PATH, AUTHORITY,
             ("sec-websocket-version", "13"))
row("connect", "9113 8.5", head_of((":method", "CONNECT"), (":authority", "other.example:443"),
                                   end=False), want=either(refused(), stream_error(
                                       1, h2.CONNECT_ERROR, h2.REFUSED_STREAM)))
row("connect-with-scheme", "9113 8.5",
    head_of((":method", "CONNECT"), SCHEME, (":authority", "other.example:443"), end=False),
    want=BAD)
row("connect-with-path", "9113 8.5",
    head_of((":method", "CONNECT"), PATH, (":authority", "other.example:443"), end=False),
    want=BAD)
row("connect-with-scheme-and-path", "9113 8.5",
    head_of((":method", "CONNECT"), SCHEME, PATH, AUTHORITY, end=False), want=BAD)
row("connect-without-authority", "9113 8.5", head_of((":method", "CONNECT"), end=False),
    want=BAD)
row("protocol-with-get", "8441 4",
    head_of(METHOD, (":protocol", "websocket"), SCHEME, PATH, AUTHORITY), want=BAD)
row("protocol-without-path", "8441 4", head_of(*(p for p in WEBSOCKET if p != PATH), end=False),
    want=BAD)
row("protocol-without-scheme", "8441 4",
    head_of(*(p for p in WEBSOCKET if p != SCHEME), end=False), want=BAD)
row("protocol-twice", "8441 4", head_of((":protocol", "websocket"), *WEBSOCKET, end=False),
    want=BAD)
row("protocol-unknown", "8441 4",
    head_of(*((n, "evil" if n == ":protocol" else v) for n, v in WEBSOCKET), end=False),
    want=refused(), backend=ANY)  # only the endpoint knows, and does not switch
row("push-promise-though-enabled", "9113 8.4", h2.settings((h2.ENABLE_PUSH, 1)), get(),
    h2.push_promise(1, 2, h2.request()), want=connection_error(h2.PROTOCOL_ERROR), backend=ANY)
row("malformed-leaves-others", "9113 8.1.1", post(3, path="/other"), get(1 + 4, scheme=None),
    h2.data(3, b"x", True), backend=ANY, want=lambda conn, strict: (
        stream_error(5, h2.PROTOCOL_ERROR)(conn, strict), conn.closed or conn.wait(3)))
row("many-fields-are-fine", "9113 8.2", get(fields=[("x-%d" % n, "v") for n in range(90)]),
    want=answered(), backend=1)
row("expect-100-continue", "9113 8.1", get(fields=[("expect", "100-continue")]),
    want=either(answered(), refused()), backend=ANY)
row("unknown-expectation", "9110 10.1.1", get(fields=[("expect", "a-miracle")]), backend=ANY,
    want=either(refused(), ignored))
