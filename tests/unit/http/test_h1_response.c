/* test_h1_response.c: what a parsed response says: body kind, length, keepalive, protocol switch.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/http/h1.h"

static const struct h1_limits usual = {.header_bytes = 65536, .headers = 100, .uri_bytes = 16384};

struct expectation {
  const char *text;
  enum http_method method;
  enum http_body body;
  bool has_length;
  uint64_t content_length;
  bool keepalive;
};

static const struct expectation table[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_LENGTH, true, 5,
     true},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", HTTP_METHOD_GET,
     HTTP_BODY_LENGTH, true, 5, false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_LENGTH, true, 5,
     false},
    {"HTTP/1.0 200 OK\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\n", HTTP_METHOD_GET,
     HTTP_BODY_LENGTH, true, 5, true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_CHUNKED,
     false, 0, true},
    {"HTTP/1.1 200 OK\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_CLOSE, false, 0, false},
    {"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_CLOSE, false,
     0, false},
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_HEAD, HTTP_BODY_NONE, true, 5,
     true},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_METHOD_HEAD, HTTP_BODY_NONE,
     false, 0, true},
    {"HTTP/1.1 200 OK\r\n\r\n", HTTP_METHOD_HEAD, HTTP_BODY_NONE, false, 0, true},
    {"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_NONE, true, 5,
     true},
    {"HTTP/1.1 204 X\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_NONE, false, 0, true},
    {"HTTP/1.1 204 X\r\nContent-Length: 0\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_NONE, false, 0,
     true},
    {"HTTP/1.1 204 X\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_NONE, false, 0,
     false},
    {"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_NONE,
     false, 0, false},
    {"HTTP/1.1 100 X\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_NONE, false, 0, true},
    {"HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_GET, HTTP_BODY_NONE, false, 0,
     false},
    {"HTTP/1.1 200 X\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_CONNECT, HTTP_BODY_TUNNEL, false,
     0, false},
    {"HTTP/1.1 404 X\r\nContent-Length: 5\r\n\r\n", HTTP_METHOD_CONNECT, HTTP_BODY_LENGTH, true, 5,
     true},
    {"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", HTTP_METHOD_GET,
     HTTP_BODY_TUNNEL, false, 0, false},
};

static void check_row(const struct expectation *want) {
  struct arena arena;
  struct h1_scan scan = {0};
  struct http_response res;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  struct span text = span_str(want->text);
  if (h1_parse_response(&scan, text, &usual, &arena, want->method, &res, &why) != HTTP_DONE)
    fail_msg("%s: " SPAN_FMT, want->text, SPAN_ARG(end_get(why)->word));
  bool same = res.body == want->body && res.has_length == want->has_length &&
              res.keepalive == want->keepalive && res.head_len == text.len &&
              (!want->has_length || res.content_length == want->content_length);
  if (!same)
    fail_msg("%s: body %d has_length %d keepalive %d", want->text, res.body, res.has_length,
             res.keepalive);
  arena_reset(&arena);
}

static void framing(void **state) {
  (void)state;
  for (size_t i = 0; i < array_count(table); i++) check_row(&table[i]);
}

static void takes_apart(void **state) {
  (void)state;
  struct arena arena;
  struct h1_scan scan = {0};
  struct http_response res;
  enum end why = END_OK;
  arena_init(&arena, NULL, 0);
  struct span text = SPAN_LIT(
      "HTTP/1.1 101 Go on\r\nUpgrade: a/1, b\r\nconnection: upgrade\r\n"
      "X-Forwarded-For: kept\r\n\r\n\x81\x05");
  assert_int_equal(h1_parse_response(&scan, text, &usual, &arena, HTTP_METHOD_GET, &res, &why),
                   HTTP_DONE);
  assert_int_equal(res.status, 101);
  assert_int_equal(res.minor, 1);
  assert_true(span_eq(res.reason, SPAN_LIT("Go on")));
  assert_true(span_eq(res.upgrade, SPAN_LIT("a/1")));
  assert_int_equal(res.head_len, text.len - 2);
  assert_int_equal(res.fields.count, 3);
  assert_int_equal(res.fields.rows[0].flags, HTTP_FIELD_HOP);
  assert_int_equal(res.fields.rows[2].flags, 0); /* only a client's would be dropped */
  arena_reset(&arena);
}

static void limits(void **state) {
  (void)state;
  struct arena arena;
  struct h1_limits exact = {.header_bytes = 25, .headers = 1, .uri_bytes = 0};
  struct http_response res;
  enum end why = END_OK;
  struct span text = SPAN_LIT("HTTP/1.1 200 OK\r\nA: b\r\n\r\nbody");
  arena_init(&arena, NULL, 0);
  struct h1_scan scan = {0};
  assert_int_equal(h1_parse_response(&scan, text, &exact, &arena, HTTP_METHOD_GET, &res, &why),
                   HTTP_DONE);
  exact.header_bytes--;
  scan = (struct h1_scan){0};
  assert_int_equal(h1_parse_response(&scan, text, &exact, &arena, HTTP_METHOD_GET, &res, &why),
                   HTTP_BAD);
  assert_int_equal(why, END_BAD_RESPONSE_HEADER_BYTES);
  exact = (struct h1_limits){.header_bytes = 25, .headers = 0};
  scan = (struct h1_scan){0};
  assert_int_equal(h1_parse_response(&scan, text, &exact, &arena, HTTP_METHOD_GET, &res, &why),
                   HTTP_BAD);
  assert_int_equal(why, END_BAD_RESPONSE_HEADERS);
  arena_reset(&arena);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(framing),
      cmocka_unit_test(takes_apart),
      cmocka_unit_test(limits),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
