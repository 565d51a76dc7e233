/* test_proxy_header.c: what is made of PROXY headers, good and hostile, by a table; each cut in
 * every way; and what is written. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <string.h>

#include "proxy_trace.h"
#include "weir/base/crc32c.h"

/* header_case: bytes and what is made of them. */
struct header_case {
  struct span in;
  const char *trace;
};

static const struct header_case cases[] = {
#define CASE(bytes, text) {{bytes, sizeof(bytes) - 1}, text},
#include "proxy_header_cases.def"
#undef CASE
};

static void tables_hold(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    for (size_t had = 0; had <= cases[i].in.len; had++) {
      struct text t = {0};
      struct proxy_header h;
      (void)proxy_trace_read(cases[i].in, had, &h, &t);
      if (!span_eq(text_span(&t), span_str(cases[i].trace)))
        fail_msg("case %zu, %zu bytes at first:\n  " SPAN_FMT "\n  %s", i, had,
                 SPAN_ARG(text_span(&t)), cases[i].trace);
      text_fini(&t);
    }
  }
}

/* What agrees with a signature is begun when that is whole, and no byte earlier. */
static void begun(void **state) {
  (void)state;
  const struct span whole[] = {SPAN_LIT("PROXY TCP4 "), SPAN_LIT("\r\n\r\n\0\r\nQUIT\n\x21\x11")};
  const size_t from[] = {6, 12};
  for (size_t i = 0; i < array_count(whole); i++)
    for (size_t len = 0; len <= whole[i].len; len++)
      assert_int_equal(proxy_header_begun(span_sub(whole[i], 0, len)), len >= from[i]);
  assert_false(proxy_header_begun(SPAN_LIT("PROXYTCP4 ")));
}

/* Every fault of the table was seen above. */
static void each_fault_has_a_case(void **state) {
  (void)state;
  for (unsigned f = PROXY_FAULT_NONE + 1; f < PROXY_FAULT_COUNT; f++) {
    struct span text = proxy_fault_text((enum proxy_fault)f);
    bool seen = f == PROXY_FAULT_CUT; /* of datagrams */
    for (size_t c = 0; c < array_count(cases); c++)
      seen |= span_eq(span_from(span_str(cases[c].trace), 1), text);
    if (!seen) fail_msg("no case: " SPAN_FMT, SPAN_ARG(text));
  }
}

/* The longest header that is accepted, and what is left untouched by one that is not. */
static void bounds(void **state) {
  (void)state;
  static char room[PROXY_V2_MAX + 1];
  struct proxy_header h = {.version = 7};
  enum proxy_fault why = PROXY_FAULT_NONE;
  size_t len = 77;
  struct buf b = buf_of(room, sizeof(room));
  buf_put(&b, SPAN_LIT("\r\n\r\n\0\r\nQUIT\n\x20\0\x0f\xf0"));
  b.len = sizeof(room);
  assert_int_equal(proxy_header_parse(span_sub(buf_span(&b), 0, PROXY_V2_MAX - 1), &h, &len, &why),
                   HTTP_MORE);
  assert_true(h.version == 7 && len == 77 && why == PROXY_FAULT_NONE);
  assert_int_equal(proxy_header_parse(buf_span(&b), &h, &len, &why), HTTP_DONE);
  assert_true(h.version == 2 && len == PROXY_V2_MAX && why == PROXY_FAULT_NONE);
  h.version = 7;
  len = 77;
  room[15]++;
  assert_int_equal(proxy_header_parse(buf_span(&b), &h, &len, &why), HTTP_BAD);
  assert_true(h.version == 7 && len == 77 && why == PROXY_FAULT_LONG);
}

/* Of a datagram the header stands whole in it, and is of version 2; else it is as above. */
static void datagrams(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(cases); i++) {
    struct span in = cases[i].in;
    bool v2 = span_starts(in, SPAN_LIT("\r\n\r\n\0\r\nQUIT\n"));
    for (size_t had = 0; had <= in.len; had++) {
      struct proxy_header h, want;
      enum proxy_fault why = PROXY_FAULT_NONE, want_why = PROXY_FAULT_NONE;
      size_t len = 0, want_len = 0;
      struct span view = span_sub(in, 0, had);
      enum http_result got = proxy_datagram_parse(view, &h, &len, &why);
      enum http_result whole = proxy_header_parse(view, &want, &want_len, &want_why);
      if (whole == HTTP_MORE) want_why = PROXY_FAULT_CUT;
      if (!v2 || had < 12) want_why = PROXY_FAULT_SIGNATURE;
      assert_int_equal(got, v2 && whole == HTTP_DONE ? HTTP_DONE : HTTP_BAD);
      if (got == HTTP_BAD) assert_int_equal(why, want_why);
      else assert_int_equal(len, want_len);
    }
  }
}

static struct addr addr_of(const char *text) {
  struct addr a;
  assert_true(addr_parse(span_str(text), &a));
  return a;
}

/* written checks that h is written as `want`, into any room that is large enough and no other. */
static void written(const struct proxy_header *h, struct span want) {
  char room[512];
  for (size_t cap = 0; cap < want.len + 3; cap++) {
    struct buf b = buf_of(room, cap + 2);
    buf_lit(&b, "<>");
    bool fits = proxy_header_write(&b, h);
    assert_int_equal(fits, cap >= want.len);
    assert_int_equal(b.len, fits ? want.len + 2 : 2);
    if (fits) assert_memory_equal(b.ptr + 2, want.ptr, want.len);
  }
}

static void lines(void **state) {
  (void)state;
  struct proxy_header h = {.version = 1, .src = addr_of("192.0.2.1:56324")};
  written(&h, SPAN_LIT("PROXY UNKNOWN\r\n"));
  h.dst = addr_of("198.51.100.7:443");
  written(&h, SPAN_LIT("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"));
  h.dst = addr_of("[::ffff:198.51.100.7]:443"); /* a listener on [::] */
  written(&h, SPAN_LIT("PROXY TCP4 192.0.2.1 198.51.100.7 56324 443\r\n"));
  h.dst = addr_of("[2001:db8::1]:443");
  written(&h, SPAN_LIT("PROXY TCP6 ::ffff:192.0.2.1 2001:db8::1 56324 443\r\n"));
  h.dst = addr_of("unix:/run/s");
  written(&h, SPAN_LIT("PROXY UNKNOWN\r\n"));
  h.src = addr_of("unix:/run/c");
  written(&h, SPAN_LIT("PROXY UNKNOWN\r\n"));
  h.src = h.dst = addr_of("192.0.2.1:1");
  h.local = true;
  written(&h, SPAN_LIT("PROXY UNKNOWN\r\n"));
}

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

static void blocks(void **state) {
  (void)state;
  struct proxy_header h = {.version = 2, .local = true, .alpn = SPAN_LIT("h2")};
  written(&h, SPAN_LIT(SIGNATURE "\x20\x00\x00\x00"));
  h.local = false;
  written(&h, SPAN_LIT(SIGNATURE "\x21\x00\x00\x05\x01\x00\x02h2"));
  h.src = addr_of("192.0.2.1:256");
  h.dst = addr_of("198.51.100.7:443");
  written(&h, SPAN_LIT(SIGNATURE "\x21\x11\x00\x11\xc0\x00\x02\x01\xc6\x33\x64\x07\x01\x00\x01\xbb"
                                 "\x01\x00\x02h2"));
  h.datagram = true;
  h.alpn = SPAN_EMPTY;
  h.has_ssl = true;
  h.ssl = (struct proxy_ssl){.client = 1, .verify = 2, .version = SPAN_LIT("TLSv1.2")};
  written(&h, SPAN_LIT(SIGNATURE "\x21\x12\x00\x1e\xc0\x00\x02\x01\xc6\x33\x64\x07\x01\x00\x01\xbb"
                                 "\x20\x00\x0f\x01\x00\x00\x00\x02\x21\x00\x07TLSv1.2"));
}

/* What is written reads back the same, with all that can stand in it. */
static void round_trip(void **state) {
  (void)state;
  char room[1024];
  struct proxy_header out, h = {.version = 2, .checksum = true, .has_ssl = true};
  struct buf b = buf_of(room, sizeof(room));
  struct text t = {0};
  h.src = addr_of("[2001:db8::1]:56324");
  h.dst = addr_of("198.51.100.7:443");
  h.alpn = SPAN_LIT("http/1.1");
  h.authority = SPAN_LIT("www.example.com");
  h.unique_id = SPAN_LIT("0123456789abcdef");
  h.netns = SPAN_LIT("blue");
  h.ssl = (struct proxy_ssl){.client = PROXY_SSL_TLS | PROXY_SSL_CERT_CONN,
                             .version = SPAN_LIT("TLSv1.3"),
                             .cn = SPAN_LIT("client"),
                             .cipher = SPAN_LIT("TLS_AES_128_GCM_SHA256"),
                             .sig_alg = SPAN_LIT("SHA256"),
                             .key_alg = SPAN_LIT("EC256")};
  assert_true(proxy_header_write(&b, &h));
  assert_int_equal(proxy_trace_read(buf_span(&b), 0, &out, &t), HTTP_DONE);
  text_put(&t, SPAN_LIT(""));
  struct span want = SPAN_LIT(
      "v2 [2001:db8::1]:56324 198.51.100.7:443 alpn=http/1.1 authority=www.example.com "
      "id=0123456789abcdef netns=blue ssl=3,0 version=TLSv1.3 cn=client "
      "cipher=TLS_AES_128_GCM_SHA256 sig=SHA256 key=EC256 checksum (");
  if (!span_starts(text_span(&t), want)) fail_msg(SPAN_FMT, SPAN_ARG(text_span(&t)));
  for (size_t i = 0; i < b.len; i++) { /* the checksum is one of every byte behind the lengths */
    bool length = i == 14 || i == 15;
    enum proxy_fault why = PROXY_FAULT_NONE;
    size_t len;
    room[i] ^= 1;
    enum http_result r = proxy_header_parse(buf_span(&b), &out, &len, &why);
    assert_true(r == HTTP_BAD || (length && r == HTTP_MORE)); /* also as LOCAL */
    room[i] ^= 1;
  }
  text_fini(&t);
}

/* Of what there is to tell only what is kept is written; the bytes that are left are those of a
 * header that never had more. */
static void elements_left_out(void **state) {
  (void)state;
  const struct proxy_header whole = {.version = 2,
                                     .checksum = true,
                                     .has_ssl = true,
                                     .src = addr_of("192.0.2.1:256"),
                                     .dst = addr_of("198.51.100.7:443"),
                                     .alpn = SPAN_LIT("h2"),
                                     .authority = SPAN_LIT("a.example"),
                                     .unique_id = SPAN_LIT("id"),
                                     .ssl = {.client = 1, .version = SPAN_LIT("TLSv1.3")}};
  static const unsigned sizes[] = {3 + 2, 3 + 9, 3 + 2, 3 + 5 + 3 + 7, 3 + 4};
  for (unsigned set = 0; set <= PROXY_TLV_ALL; set++) {
    char room[128];
    struct buf b = buf_of(room, sizeof(room));
    struct proxy_header read, h = whole;
    enum proxy_fault why;
    size_t len, want = 28;
    for (unsigned i = 0; i < array_count(sizes); i++)
      if (set & 1u << i) want += sizes[i];
    proxy_header_keep(&h, set);
    assert_true(proxy_header_write(&b, &h));
    assert_int_equal(b.len, want);
    assert_int_equal(proxy_header_parse(buf_span(&b), &read, &len, &why), HTTP_DONE);
    assert_int_equal(read.alpn.len > 0, !!(set & PROXY_TLV_ALPN));
    assert_int_equal(read.authority.len > 0, !!(set & PROXY_TLV_AUTHORITY));
    assert_int_equal(read.unique_id.len > 0, !!(set & PROXY_TLV_UNIQUE_ID));
    assert_int_equal(read.has_ssl, !!(set & PROXY_TLV_SSL));
    assert_int_equal(read.checksum, !!(set & PROXY_TLV_CRC32C));
  }
  struct proxy_header bare = whole;
  proxy_header_keep(&bare, 0);
  written(&bare, SPAN_LIT(SIGNATURE "\x21\x11\x00\x0c\xc0\x00\x02\x01\xc6\x33\x64\x07\x01\x00"
                                    "\x01\xbb"));
}

static void elements_too_long(void **state) {
  (void)state;
  static char value[300];
  char room[1024];
  struct proxy_header h = {.version = 2, .unique_id = span_of(value, 128)};
  h.src = h.dst = addr_of("192.0.2.1:1");
  struct buf b = buf_of(room, sizeof(room));
  assert_true(proxy_header_write(&b, &h) && b.len == 28 + 3 + 128);
  h.unique_id.len++;
  b = buf_of(room, sizeof(room));
  assert_true(!proxy_header_write(&b, &h) && b.len == 0 && !b.full);
  h.unique_id.len = 0;
  h.authority = span_of(value, 256);
  assert_false(proxy_header_write(&b, &h));
}

static void checksums(void **state) {
  (void)state; /* RFC 3720 appendix B.4 */
  char room[32];
  assert_int_equal(crc32c(0, SPAN_EMPTY), 0);
  assert_int_equal(crc32c(0, SPAN_LIT("123456789")), 0xe3069283u);
  assert_int_equal(crc32c(crc32c(0, SPAN_LIT("1234")), SPAN_LIT("56789")), 0xe3069283u);
  memset(room, 0, sizeof(room));
  assert_int_equal(crc32c(0, span_of(room, sizeof(room))), 0x8a9136aau);
  memset(room, 0xff, sizeof(room));
  assert_int_equal(crc32c(0, span_of(room, sizeof(room))), 0x62a8ab43u);
  for (unsigned i = 0; i < sizeof(room); i++) room[i] = (char)i;
  assert_int_equal(crc32c(0, span_of(room, sizeof(room))), 0x46dd794eu);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tables_hold), cmocka_unit_test(datagrams),
      cmocka_unit_test(each_fault_has_a_case),
      cmocka_unit_test(bounds),      cmocka_unit_test(lines),
      cmocka_unit_test(blocks),      cmocka_unit_test(round_trip),
      cmocka_unit_test(checksums),   cmocka_unit_test(elements_left_out),
      cmocka_unit_test(begun),
      cmocka_unit_test(elements_too_long),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
